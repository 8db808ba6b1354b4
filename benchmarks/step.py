"""A step of fit, with everything included, against its bare matrix products.

    python benchmarks/step.py

Rounds of the two are interleaved in one process; the ratio is that of the medians. The machine's
load moves both, so quote the ratio and not the microseconds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

import bpx

SAMPLES = 50_000  # as in MNIST
CASES = {
    "book": ((784, 30, 10), 10, {"cost": "quadratic"}, bpx.SGD(3.0)),
    "medium": ((784, 256, 10), 64, {"hidden": "relu", "output": "softmax"}, None),
    "wide": ((784, 2048, 2048, 10), 256, {"hidden": "relu", "output": "softmax"}, None),
}


def products(sizes: tuple[int, ...], m: int) -> Callable[[int], None]:
    """The matrix products of a step alone, in preallocated arrays."""
    draw = np.random.default_rng(0).standard_normal
    a = [draw((m, n), dtype=np.float32) for n in sizes]
    d = [draw((m, n), dtype=np.float32) for n in sizes]
    pairs = list(pairwise(sizes))
    w = [draw((out, into), dtype=np.float32) for into, out in pairs]
    g = [np.empty_like(weights) for weights in w]

    def run(steps: int) -> None:
        for _ in range(steps):
            for i, weights in enumerate(w):
                np.matmul(a[i], weights.T, out=a[i + 1])
            for i in range(len(w) - 1, -1, -1):
                if i:
                    np.matmul(d[i + 1], w[i], out=d[i])
                np.matmul(d[i + 1].T, a[i], out=g[i])

    return run


def training(sizes: tuple[int, ...], m: int, options: dict, optimizer: object) -> Callable:
    """An epoch of fit on samples that look like MNIST's."""
    draw = np.random.default_rng(0)
    x = (draw.random((SAMPLES, sizes[0]), dtype=np.float32) < 0.2).astype(np.float32)
    y = draw.integers(sizes[-1], size=SAMPLES)
    net = bpx.Network(sizes, seed=0, **options)
    optimizer = optimizer or bpx.SGD(0.01, momentum=0.9)

    def run(steps: int) -> None:
        net.fit(x, y, epochs=1, batch_size=m, optimizer=optimizer, check_finite=False)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="one round of the first case")
    options = parser.parse_args()
    cases = {"book": CASES["book"]} if options.short else CASES
    print(f"{platform.processor() or platform.machine()}, NumPy {np.__version__}")
    print(f"{'case':8} {'µs a step':>10} {'products':>9} {'ratio':>6}")
    for name, (sizes, m, network, optimizer) in cases.items():
        steps = -(-SAMPLES // m)  # an epoch
        runs = training(sizes, m, network, optimizer), products(sizes, m)
        times: list[list[float]] = [[], []]
        for _ in range(2 if options.short else options.rounds + 1):
            for run, into in zip(runs, times, strict=True):
                time.sleep(0.2)  # idle threads of the other's BLAS spin for a while
                start = time.perf_counter()
                run(steps)
                into.append((time.perf_counter() - start) / steps * 1e6)
        ours, bare = (statistics.median(t[1:]) for t in times)  # the first is to warm up
        print(f"{name:8} {ours:10.1f} {bare:9.1f} {ours / bare:6.2f}", flush=True)


if __name__ == "__main__":
    main()
