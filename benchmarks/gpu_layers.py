"""A convolution on CuPy in every way there is, layer by layer: microseconds on the device.

    python benchmarks/gpu_layers.py               on the CUDA device; prints the table
    python benchmarks/gpu_layers.py --write       and writes it into benchmarks/README.md
    python benchmarks/gpu_layers.py --rehearse    once each on the host, without timing

The ways are patches and cuBLAS, windows read in place, and cuDNN where it is installed. Each
operation is recorded and replayed, so that the host is not timed. A figure is the least of some
rounds in which all take turns, in float32.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu import machine, missing
from gpu_check import TESTS, backend, without_cudnn
from harness import row, write

from bpx.layers.sliding import Sliding

# Channels in and out, length, window, stride, padding: of the book's network, and of *residual*.
LAYERS = [
    (1, 20, 28, 5, 1, 0),
    (20, 40, 12, 5, 1, 0),
    (3, 16, 32, 3, 1, 1),
    (16, 16, 32, 3, 1, 1),
    (16, 32, 32, 3, 2, 1),
    (32, 32, 16, 3, 1, 1),
    (64, 64, 8, 3, 1, 1),
]
IMAGES = 10, 128
OPERATIONS = "forward", "weights", "inputs"
# How many times in a round, and how many of them in one recording: launching one from Python takes
# as long as a small convolution.
REPLAYS, RECORDED = 200, 20


def ways(kernels: Any) -> dict[str, Any]:
    """Copies of the backend that know one way each, by its name."""
    found = {name: without_cudnn(kernels) for name in ("patches", "in place")}
    found["patches"]._in_place = lambda *arguments: None
    return found | ({"cuDNN": kernels} if kernels._convolutions.is_here() else {})


def works(kernels: Any, layer: tuple[int, ...], m: int) -> list[Callable[[], None]]:
    """The convolution and its two adjoints, on a mini-batch as in `Conv2D`."""
    into, of, n, k, stride, padding = layer
    sliding = Sliding((n, n), (k, k), (stride,) * 2, (1, 1), ((padding, padding),) * 2)
    draw = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    shapes = (m, into, n, n), (of, into, k, k), (m, of, *sliding.counts)
    x, weights, delta = (kernels.from_host(draw(shape)) for shape in shapes)
    z, gradient, below = (kernels.empty(a.shape, a.dtype) for a in (delta, weights, x))
    room = functools.cache(lambda shape: kernels.empty(shape, x.dtype))
    [slices] = kernels.parts_of_windows(m, into, weights.shape, sliding)

    def forward() -> None:
        for rows in slices:
            kernels.convolve(x[rows], weights, sliding, room, z[rows])

    def of_weights() -> None:
        for rows in slices:
            beta, patched = float(rows.start > 0), len(slices) == 1  # by `forward`, as in training
            kernels.convolve_weights(x[rows], delta[rows], sliding, room, gradient, beta, patched)

    def of_inputs() -> None:
        for rows in slices:
            kernels.convolve_inputs(delta[rows], weights, sliding, room, below[rows])

    return [forward, of_weights, of_inputs]


def recorded(kernels: Any, work: Callable[[], None]) -> Callable[[], None]:
    work()  # compiles, plans and allocates workspaces, none of which may happen in a recording
    launch = kernels.capture(lambda: [work() for _ in range(RECORDED)])
    return lambda work=work: launch()  # a graph has addresses alone: keep the arrays of `work`


def seconds(launch: Callable[[], None]) -> float:
    """Seconds of the recorded work, by CUDA's clock."""
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(REPLAYS // RECORDED):
        launch()
    end.record()
    end.synchronize()
    return 1e-3 * float(cupy.cuda.get_elapsed_time(start, end)) / REPLAYS


def times(
    every: dict[str, Any], layer: tuple[int, ...], m: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each operation, by way; without rounds, as in the rehearsal, nothing is timed."""
    found: dict[str, list[float]] = {}
    with next(iter(every.values())).surround(None):
        launches = {
            name: [recorded(kernels, work) for work in works(kernels, layer, m)]
            for name, kernels in every.items()
        }
        for _ in range(rounds):
            for name, each in launches.items():
                now = [seconds(launch) for launch in each]
                found[name] = [min(pair) for pair in zip(found.get(name, now), now, strict=True)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rehearse", action="store_true", help="on the host, without a device")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args()
    if not options.rehearse and (why := missing()):
        print(why.replace("gpu.py", "gpu_layers.py"), file=sys.stderr)
        return 1
    sys.path.insert(0, str(TESTS))
    with tempfile.TemporaryDirectory() as folder:
        try:
            every = ways(backend(folder if options.rehearse else ""))
        except RuntimeError as error:  # no compiler for the rehearsal
            print(error)
            return 0
        rounds, images = (0, IMAGES[:1]) if options.rehearse else (options.rounds, IMAGES)
        titles = (f"{operation}, {way}" for operation in OPERATIONS for way in every)
        lines = [row("µs", ("images", *titles)), "|---" * (2 + len(OPERATIONS) * len(every)) + "|"]
        for layer in LAYERS:
            for m in images:
                found = times(every, layer, m, rounds)
                into, of, n, k, stride, _ = layer
                by = f", every {stride}nd" if stride > 1 else ""
                title = f"{k} × {k}{by}, {into} to {of} channels, on {n} × {n}"
                cells = (f"{1e6 * found[way][k]:.1f}" if found else "done"
                         for k in range(len(OPERATIONS)) for way in every)  # fmt: skip
                lines.append(row(title, (str(m), *cells)))
                print(lines[-1], flush=True)
    if options.write and not options.rehearse:
        write("gpu-layers", "\n".join(lines) + f"\n\n{machine()}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
