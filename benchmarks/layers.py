"""A convolution by rows and by patches with Numba, layer by layer, on one core: ratios.

    python benchmarks/layers.py             prints the table
    python benchmarks/layers.py --write     and writes it into benchmarks/README.md

Processor time of the convolution, of the gradient of its weights and of that of its inputs: the
least of some rounds in which both ways take turns. Here, rows are used whether they pay or not;
of depthwise convolutions those of each channel by itself, where that is the rule.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy is imported

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
from harness import machine, row, write

from bpx.backends import _fast, _fast_windows
from bpx.layers.sliding import Sliding

# Channels in and out of a group, groups, length, window, padding, stride, images.
LAYERS = [
    (3, 16, 1, 32, 3, 1, 1, 16),
    (16, 16, 1, 32, 3, 1, 1, 16),
    (32, 32, 1, 16, 3, 1, 1, 64),
    (64, 64, 1, 8, 3, 1, 1, 64),
    (1, 20, 1, 28, 5, 0, 1, 16),
    (20, 40, 1, 12, 5, 0, 1, 64),
    (20, 40, 1, 12, 5, 0, 1, 5),
    (1, 1, 64, 16, 3, 1, 1, 16),
    (1, 1, 128, 8, 3, 1, 1, 16),
    (1, 1, 64, 16, 3, 1, 2, 16),
    (128, 128, 1, 16, 3, 1, 1, 16),
    (16, 32, 1, 32, 3, 1, 2, 5),
    (16, 32, 1, 32, 3, 1, 2, 64),
    (32, 64, 1, 16, 3, 1, 2, 5),
    (32, 64, 1, 16, 3, 1, 2, 64),
    (64, 128, 1, 8, 3, 1, 2, 16),
    (64, 128, 1, 28, 3, 1, 2, 16),
    (3, 64, 1, 64, 7, 3, 2, 8),
    (16, 32, 1, 32, 1, 0, 2, 64),
]
Works = list[Callable[[], object]]


def windows(layer: tuple[int, ...]) -> Sliding:
    _, _, _, n, k, padding, stride, _ = layer
    return Sliding((n, n), (k, k), (stride, stride), (1, 1), ((padding, padding),) * 2)


def works(kernels: _fast.FastBackend, layer: tuple[int, ...]) -> Works:
    """The convolution and its two adjoints."""
    into, of, groups, n, k, _, _, m = layer
    sliding = windows(layer)
    draw = functools.partial(np.random.default_rng(0).random, dtype=np.float32)
    x, weights = draw((m, groups * into, n, n)), draw((groups * of, into, k, k))
    delta = draw((m, groups * of, *sliding.counts))
    z, gradient, below = np.empty_like(delta), np.empty_like(weights), np.empty_like(x)
    room = functools.cache(functools.partial(np.empty, dtype=np.float32))
    parts = kernels.parts_of_windows(m, groups * into, weights.shape, sliding)

    def forward() -> None:
        for rows in parts[0]:
            kernels.convolve(x[rows], weights, sliding, room, z[rows])

    def of_weights() -> None:
        for rows in parts[0]:
            beta = 0.0 if rows.start == 0 else 1.0
            kernels.convolve_weights(x[rows], delta[rows], sliding, room, gradient, beta)

    def of_inputs() -> None:
        for rows in parts[0]:
            kernels.convolve_inputs(delta[rows], weights, sliding, room, below[rows])

    return [forward, of_weights, of_inputs]


def least(layer: tuple[int, ...], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds by patches, and by rows."""
    kernels, rule = _fast.FastBackend(), _fast_windows._by_rows
    by_channel = _fast_windows._by_channel
    seconds: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(rounds + 1):
        for by_rows, found in seconds.items():
            _fast_windows._by_rows = lambda *shapes, by_rows=by_rows: (by_rows, by_rows)
            _fast_windows._by_channel = by_channel if by_rows else lambda *shapes: False
            found.append([])
            for work in works(kernels, layer):
                start = time.process_time()
                for _ in range(10):
                    work()
                found[-1].append((time.process_time() - start) / 10)
    _fast_windows._by_rows, _fast_windows._by_channel = rule, by_channel
    patches, rows = ([min(each) for each in zip(*of[1:], strict=True)] for of in seconds.values())
    return patches, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args()
    titles = "images", "forward", "weights", "inputs", "taken"
    lines = [row("rows, of the time by patches", titles), "|---" * 6 + "|"]
    for layer in LAYERS:
        into, of, groups, n, k, _, stride, m = layer
        patches, rows = least(layer, options.rounds)
        shapes = into * groups, (of * groups, into, k, k)
        there, back = _fast_windows._by_rows(m, *shapes, windows(layer))
        taken = {(True, True): "all", (True, False): "but inputs"}.get((there, back), "none")
        cells = (f"{b / a:.2f}" for a, b in zip(patches, rows, strict=True))
        apart = f", {groups} times" if groups > 1 else ""
        by = f", stride {stride}" if stride > 1 else ""
        title = f"{k} × {k}{by}, {into} to {of} channels{apart}, on {n} × {n}"
        lines.append(row(title, (str(m), *cells, taken)))
        print(lines[-1], flush=True)
    text = "\n".join(lines) + f"\n\n{machine(('numpy', 'numba'))}.\n"
    if options.write:
        write("layers", text)


if __name__ == "__main__":
    main()
