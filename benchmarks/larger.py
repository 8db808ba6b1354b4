"""Data larger than memory: ``python benchmarks/larger.py [--short] [--write]``.

A .npy file of four times the budget, made in a temporary folder, is trained on in blocks and as an
array in memory, three epochs in turn, each in a process of its own. Printed are the ratio of their
speeds, and what each process takes at the peak beyond what it took after training on a few rows,
when the libraries were loaded and compiled. For *cold*, the file is dropped from the system's
cache before each epoch. A second table shows what the shuffle of blocks does to a file that is
sorted by label.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Peer, lasts, machine, peak, present, row, write

INPUTS, CLASSES = 784, 10
# Hidden layers, mini-batch.
CASES = {"784-100-10, m 64": ((100,), 64), "784-256-256-10, m 128": ((256, 256), 128)}
# In one call of `fit`, so that buffers are made once for several epochs, as for a user.
EPOCHS = 3
WAYS = ("memory", "blocks", "blocks, cold")
MB = 1e6


def make(folder: Path, megabytes: int) -> None:
    """Write rows of float32, a block at a time, with labels that can be learned."""
    n = int(megabytes * MB) // (4 * INPUTS)
    draw = np.random.default_rng(0)
    centers = draw.standard_normal((CLASSES, INPUTS), np.float32)
    labels = draw.integers(CLASSES, size=n)
    # Written, not mapped: a process starts with the peak of the one that starts it.
    with (folder / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, INPUTS)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in np.array_split(labels, -(-n // 4096)):
            noise = draw.standard_normal((len(part), INPUTS), np.float32)
            file.write((0.2 * centers[part] + noise).tobytes())
    np.save(folder / "y.npy", labels)


def resident() -> float:
    """Megabytes of this process now, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def forget(path: Path) -> None:
    """Drop the file from the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prepare(peer: str, case: str):
    """Trains for some epochs: the seconds that one took, and the megabytes before the data."""
    way, _, fast = peer.partition(" / ")
    case, folder, budget = case.split("|")
    os.environ["BPX_FAST"] = "1" if fast else "0"
    import bpx

    hidden, m = CASES[case]
    net = bpx.Network([INPUTS, *hidden, CLASSES], hidden="relu", output="softmax", seed=0)
    options: dict[str, Any] = {"batch_size": m, "optimizer": bpx.SGD(0.01, momentum=0.9)}
    draw = np.random.default_rng(1)
    few = draw.standard_normal((4 * m, INPUTS), np.float32), draw.integers(CLASSES, size=4 * m)
    net.fit(*few, epochs=1, **options)
    before, path = resident(), Path(folder) / "x.npy"
    y = np.load(Path(folder) / "y.npy")
    in_memory = way == "memory"
    data = (np.load(path), y) if in_memory else (bpx.open_data(path, y, budget=int(budget)),)

    cold = [lambda row: forget(path)] if way.endswith("cold") else []

    def timed(epochs: int) -> tuple[float, float]:
        if cold:
            forget(path)
        started = time.perf_counter()
        net.fit(*data, epochs=epochs, callbacks=cold, **options)
        return (time.perf_counter() - started) / epochs, before

    return timed


def speeds(folder: Path, budget: int, rounds: int, ways: tuple[str, ...]) -> list[str]:
    """The table of speeds and memory."""
    lines = [
        row("", ["s an epoch", "speed of memory's", "MiB at the peak", "of the budget"]),
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        for fast in ("", " / fast"):
            peers = [Peer(way + fast, prepare, f"{case}|{folder}|{budget}") for way in ways]
            here = present(peers)
            before: dict[str, float] = {}

            def turn(peer: Peer, before: dict[str, float] = before) -> None:
                peer.connection.send(EPOCHS)
                seconds, before[peer.name] = peer.answer()
                peer.times.append(seconds)
                time.sleep(0.05)

            for step in [*[turn] * rounds, Peer.close]:
                here = [peer for peer in here if lasts(peer, step)]
            whole = next(peer for peer in here if peer.name == "memory" + fast)
            for peer in here:
                taken = peer.megabytes - before[peer.name]
                pairs = [a / b for a, b in zip(whole.times, peer.times, strict=True)]
                cells = [f"{peer.median:.2f}", f"{statistics.median(pairs):.2f}", f"{taken:.0f}"]
                cells.append(f"{100 * taken * 2**20 / budget:.0f} %")
                lines.append(row(f"{case}, {peer.name}", cells))
                print(lines[-1], flush=True)
    return lines


def shuffles(folder: Path, short: bool) -> list[str]:
    """Test accuracy after training on a file sorted by label: in windows, whole, in its order."""
    import bpx

    try:
        (x, y), _, test = bpx.datasets.mnist()
        epochs, name, seeds = (1, 3), "MNIST", 5
    except bpx.DatasetError:
        (x, y), _, test = bpx.datasets.digits()
        epochs, name, seeds = (5, 20), "digits", 5
    if short:
        x, y, epochs, seeds = x[:2000], y[:2000], (1, 3), 1
    order = np.argsort(y, kind="stable")
    x, y = np.ascontiguousarray(x[order]), y[order]
    np.save(folder / "sorted.npy", x)
    lines = [
        row(f"{name} sorted by label", [f"% right after {e} epoch{'s' * (e > 1)}" for e in epochs])
    ]
    lines.append("|---|" + "---|" * len(epochs))
    parts = {"all of it": 1.5, "a third": 0.8, "a tenth": 0.22, "a thirtieth": 0.08}
    for what, share in [*parts.items(), ("the file's order", 0.5)]:
        budget = max(int(share * x.nbytes), 1_000_000)
        data = bpx.open_data(folder / "sorted.npy", y, budget=budget)
        found = []
        for seed in range(seeds):
            sizes = [x.shape[1], 100, CLASSES]
            net = bpx.Network(sizes, hidden="relu", output="softmax", seed=seed)
            curve = []
            for epoch in range(1, epochs[-1] + 1):
                shuffle = what != "the file's order"
                net.fit(data, epochs=1, batch_size=64, optimizer=bpx.SGD(0.1), shuffle=shuffle)
                if epoch in epochs:
                    curve.append(100 * net.accuracy(*test))
            found.append(curve)
        mean, spread = np.mean(found, axis=0), np.ptp(found, axis=0)
        title = what if what.startswith("the") else f"shuffled, {what} in a window"
        cells = [f"{a:.1f} ± {b / 2:.1f}" for a, b in zip(mean, spread, strict=True)]
        lines.append(row(title, cells))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few megabytes and rounds")
    parser.add_argument("--write", action="store_true", help="the tables into README.md")
    given = parser.parse_args()
    megabytes, rounds = (8, 2) if given.short else (1024, 3)
    ways = WAYS if hasattr(os, "posix_fadvise") else WAYS[:-1]
    budget = math.floor(megabytes * MB / 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, megabytes)
        print(f"{megabytes} MB, budget {budget / MB:.0f} MB")
        lines = speeds(folder, budget, rounds, ways)
        lines += ["", *shuffles(folder, given.short)]
    lines += ["", machine(["numpy", "scipy", "numba"])]
    if given.write:
        write("larger", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
