"""How the cost of a step grows with width, depth, batch and n; draws benchmarks/growth.png.

    python benchmarks/growth.py
    python benchmarks/growth.py --short     two points of each line, and no picture

Beside each of bpx's lines is that of the bare matrix products, measured in turn with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from peers import bpx_fit, products

BASE = Case("growth", (256, 256, 10), 64, 4096, "relu", "softmax", "nll", 0.01, 0.9)
WIDTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096, 8192)
SAMPLES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def best(run: Callable[[int], object], steps: int, repeats: int = 3) -> float:
    """Seconds a step, the least of some repeats: what the machine can do, not its load."""
    run(1)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(steps)
        times.append((time.perf_counter() - start) / steps)
        time.sleep(0.05)
    return min(times)


def sized(case: Case, steps: int) -> Case:
    return dataclasses.replace(case, n=case.m * steps)


def shapes(short: bool) -> Iterator[tuple[str, int, Case]]:
    pick = (lambda values: values[1:3]) if short else (lambda values: values)
    for width in pick(WIDTHS):
        yield "width", width, dataclasses.replace(BASE, sizes=(256, width, width, 10))
    for depth in pick(DEPTHS):
        yield "depth", depth, dataclasses.replace(BASE, sizes=(256, *[128] * depth, 10))
    for m in pick(BATCHES):
        yield "batch", m, dataclasses.replace(BASE, m=m)


def on_disk(n: int, folder: Path) -> float:
    """Seconds a step of fit on n samples of 32 floats in a memory map, one epoch.

    Ten million are 1.3 GB on disk; the rows of a mini-batch come from anywhere in the file.
    """
    import bpx

    path = folder / "x.dat"
    x = np.memmap(path, np.float32, "w+", shape=(n, 32))
    draw = np.random.default_rng(0)
    for start in range(0, n, 100_000):
        stop = min(start + 100_000, n)
        x[start:stop] = draw.standard_normal((stop - start, 32), dtype=np.float32)
    x.flush()
    y = draw.integers(10, size=n)
    net = bpx.Network([32, 64, 10], hidden="relu", output="softmax", seed=0)
    mapped = np.memmap(path, np.float32, "r", shape=(n, 32))
    options: dict[str, Any] = {"batch_size": 64, "optimizer": bpx.SGD(0.01), "check_finite": False}
    steps = -(-n // 64)
    seconds = best(lambda _: net.fit(mapped, y, epochs=1, **options), steps)
    path.unlink()
    return seconds


def draw(lines: dict[str, list[tuple[int, float, float | None]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    titles = {
        "width": "256-width-width-10, m 64",
        "depth": "256, depth times 128, 10, m 64",
        "batch": "256-256-10",
        "samples": "32-64-10, m 64, in a memory map",
    }
    for axis, (name, points) in zip(axes.flat, lines.items(), strict=True):
        at = [p[0] for p in points]
        axis.loglog(at, [p[1] * 1e6 for p in points], "o-", label="fit")
        if points[0][2] is not None:
            axis.loglog(at, [p[2] * 1e6 for p in points], "s--", label="the products alone")
        axis.set(title=titles[name], xlabel=name, ylabel="µs a step")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    lines: dict[str, list[tuple[int, float, float | None]]] = {}
    print(f"{'':8} {'':>10} {'µs a step':>12} {'products':>12} {'ratio':>6}")
    for name, value, case in shapes(short):
        work = 3 * case.m * sum(a * b for a, b in pairwise(case.sizes))
        steps = int(np.clip(2e10 // work, 3, 500))
        if short:
            steps = min(steps, 20)
        case = sized(case, steps)
        ours, bare = best(bpx_fit(case), steps), best(products(case), steps)
        lines.setdefault(name, []).append((value, ours, bare))
        print(f"{name:8} {value:10,} {ours * 1e6:12,.1f} {bare * 1e6:12,.1f} {ours / bare:6.2f}",
              flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for n in SAMPLES[:2] if short else SAMPLES:
            seconds = on_disk(n, Path(folder))
            lines.setdefault("samples", []).append((n, seconds, None))
            print(f"{'samples':8} {n:10,} {seconds * 1e6:12,.1f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MB", file=sys.stderr)
    if not short:
        draw(lines, Path(__file__).with_name("growth.png"))


if __name__ == "__main__":
    main()
