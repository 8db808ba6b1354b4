"""Times convolutional networks on a CPU beside PyTorch in one run, for the ratios.

    python benchmarks/convolution.py                  all cases; prints the table
    python benchmarks/convolution.py --write          and writes it into benchmarks/README.md
    python benchmarks/convolution.py "book, m 10"     one case

A step is a gather, a forward and a backward pass and an update by plain SGD, in float32; bpx's is
a step of `fit`. Each peer is a process of its own with as many threads as there are cores, and
they take turns, as in cpu.py. *products* are the matrix products of a step's convolutions and
dense layers alone, with NumPy, each image's on one core and the images shared among threads.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import images
import numpy as np
from harness import Peer, Timed, machine, measured, row, write

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LIBRARIES = ("numpy", "scipy", "numba", "torch")
SECONDS_A_ROUND = 3.0  # `fit` allocates anew at each call, which should be a small share
RATE = 0.01


def steps_an_epoch(m: int) -> int:
    return max(16, 1024 // m)


def passes(steps: int, epoch: int, run: Callable[[int], object]) -> None:
    """Run this number of steps, in epochs."""
    while steps > 0:
        run(min(steps, epoch))
        steps -= epoch


# --- bpx ----------------------------------------------------------------------------------------


def with_bpx(name: str, m: int) -> Callable[[int], object]:
    import bpx

    x, y = images.samples(name, m * steps_an_epoch(m))
    net = images.bpx_network(name)

    def run(steps: int) -> None:
        rows = slice(0, steps * m)
        net.fit(x[rows], y[rows], epochs=1, batch_size=m, optimizer=bpx.SGD(RATE))

    return run


# --- PyTorch ------------------------------------------------------------------------------------


def with_torch(name: str, m: int) -> Callable[[int], object]:
    import torch

    torch.set_num_threads(CORES)

    net = images.torch_model(name)
    x, y = map(torch.as_tensor, images.samples(name, m * steps_an_epoch(m)))
    optimizer, cost = torch.optim.SGD(net.parameters(), RATE), torch.nn.CrossEntropyLoss()

    def run(steps: int) -> None:
        order = torch.randperm(len(x))
        for step in range(steps):
            rows = order[step * m : (step + 1) * m]
            optimizer.zero_grad()
            cost(net(x[rows]), y[rows]).backward()
            optimizer.step()

    return run


# --- the limit ----------------------------------------------------------------------------------


def products(name: str, m: int) -> Callable[[int], object]:
    """z = ω x, ∂C/∂ω = δ xᵀ and ωᵀ δ, which the first layer leaves out."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)
    draw = np.random.default_rng(0).standard_normal
    pool, work = ThreadPoolExecutor(CORES), []
    for k, (weights, windows) in enumerate(images.matrices(name)):
        out, into = weights
        omega = draw(weights, dtype=np.float32)
        for rows in np.array_split(np.arange(m), CORES):
            if len(rows):
                x = draw((len(rows), into, windows), dtype=np.float32)
                delta = draw((len(rows), out, windows), dtype=np.float32)
                work.append((omega, x, delta, np.empty((len(rows), out, into), np.float32), k))

    def one(omega: np.ndarray, x: Any, delta: Any, gradients: Any, k: int) -> None:
        np.matmul(omega, x, out=delta)
        np.matmul(delta, x.swapaxes(1, 2), out=gradients)
        if k:
            np.matmul(omega.T, delta, out=x)
            x *= np.float32(1e-6)  # otherwise it overflows after some steps

    def run(steps: int) -> None:
        for _ in range(steps):
            for done in [pool.submit(one, *arrays) for arrays in work]:
                done.result()

    return run


PEERS = {"bpx": with_bpx, "bpx fast": with_bpx, "PyTorch": with_torch, "products": products}
CASES = {f"{name}, m {m}": (name, m) for name in images.SHAPES for m in (10, 128)}


def prepare(peer: str, case: str) -> Timed:
    """A peer's steps of a case."""
    os.environ["BPX_FAST"] = "1" if peer == "bpx fast" else "0"
    name, m = CASES[case]
    run, epoch = PEERS[peer](name, m), steps_an_epoch(m)

    def timed(steps: int) -> float:
        start = time.perf_counter()
        passes(steps, epoch, run)
        return (time.perf_counter() - start) / steps

    return timed


def table(results: dict[str, list[Peer]]) -> str:
    """Rows are peers; milliseconds a step, ratios of those, megabytes."""
    times = {case: {p.name: p.median for p in peers} for case, peers in results.items()}
    lines = [row("ms a step", results), "|---" * (len(results) + 1) + "|"]
    for peer in PEERS:
        cells = (f"{found[peer] * 1e3:,.2f}" if peer in found else "" for found in times.values())
        lines.append(row(peer, cells))
    for ours in ("bpx", "bpx fast"):
        for title, other in (("PyTorch's time", "PyTorch"), ("the products'", "products")):
            cells = (
                f"{found[ours] / found[other]:.2f}" if {ours, other} <= {*found} else ""
                for found in times.values()
            )  # fmt: skip
            lines.append(row(f"**{ours}, of {title}**", cells))
    for peer in PEERS:
        peaks = [[p.megabytes for p in peers if p.name == peer] for peers in results.values()]
        cells = (f"{peak[0]:,.0f}" if peak else "" for peak in peaks)
        lines.append(row(f"MiB at the peak: {peer}", cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {'; '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--short", action="store_true", help="one round of bpx on one case")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown case {sorted(unknown)[0]!r}: {'; '.join(CASES)}")
    cases, peers = options.cases or list(CASES), list(PEERS)
    if options.short:
        cases, peers, options.rounds = ["book, m 10"], ["bpx", "products"], 1
    limits = SECONDS_A_ROUND, 3, 500
    results = measured(cases, peers, prepare, table, options.rounds, limits)
    text = f"{table(results)}\n\nMedians of {options.rounds} rounds, {machine(LIBRARIES)}.\n"
    print(text)
    if options.write:
        write("convolution", text)


if __name__ == "__main__":
    main()
