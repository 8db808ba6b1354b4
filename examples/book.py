"""The rows of the book's chapters 1 and 3, trained on MNIST; writes docs/results.md.

    python examples/book.py                     all rows, three seeds, on NumPy
    python examples/book.py --backend cupy

Each row is trained from three seeds. "Peak" is the best epoch of the best seed, as the book's
figures are peaks or the best of a few runs; "median" is over the seeds, of each one's peak.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bpx


@dataclass(frozen=True)
class Row:
    """A row of the book: the network, how it is trained, and the figure that it prints."""

    chapter: int
    sizes: tuple[int, ...]
    cost: str
    weights: str
    rate: float
    epochs: int
    on: str  # "test" or "validation"
    figure: str
    l2: float = 0.0

    def describe(self) -> str:
        weights = {"normal": "N(0, 1)", "scaled-normal": "N(0, 1/n_in)"}[self.weights]
        decay = f", λ {self.l2:g}" if self.l2 else ""
        return (
            f"{'-'.join(map(str, self.sizes))}, {self.cost}, {weights} weights, η {self.rate:g}"
            f"{decay}, {self.epochs} epochs"
        )


Q, C, SMALL, LARGE = "quadratic", "cross-entropy", (784, 30, 10), (784, 100, 10)
ROWS = [
    Row(1, SMALL, Q, "normal", 3.0, 30, "test", "95.42"),
    Row(1, LARGE, Q, "normal", 3.0, 30, "test", "96.59"),
    Row(1, SMALL, Q, "normal", 0.001, 30, "test", "21.42, slow"),
    Row(1, SMALL, Q, "normal", 100.0, 30, "test", "about 10"),
    Row(3, SMALL, C, "normal", 0.5, 30, "test", "95.49"),
    Row(3, LARGE, C, "normal", 0.5, 30, "test", "96.82"),
    Row(3, LARGE, C, "normal", 0.5, 30, "validation", "97.92", l2=5.0),
    Row(3, LARGE, C, "scaled-normal", 0.1, 60, "validation", "98.04", l2=5.0),
]


def train(row: Row, seed: int, dataset: Any, n: int, epochs: int, backend: str | None) -> Any:
    """The accuracies (%) of each epoch, and the seconds of an epoch without its evaluation."""
    (x, y), validation, test = dataset
    net = bpx.Network(
        row.sizes,
        cost=row.cost,
        weights=row.weights,
        bias="normal",
        backend=backend,
        seed=seed,
    )
    held_out = test if row.on == "test" else validation
    history = net.fit(
        x[:n],
        y[:n],
        epochs=epochs,
        batch_size=10,
        optimizer=bpx.SGD(row.rate),
        l2=row.l2 * n / 50_000,
        validation=held_out,
    )
    assert np.isfinite(history["training_cost"]).all()
    return [100 * a for a in history["validation_accuracy"]], sum(history["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="numpy, cupy, torch, ...")
    parser.add_argument("--chapter", type=int, choices=(1, 3), help="only this chapter")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="1 epoch of 2,000 images, one seed")
    parser.add_argument("--out", type=Path, help="by default docs/results.md (--short: stdout)")
    options = parser.parse_args()
    dataset = bpx.datasets.mnist()
    n, seeds = (2000, 1) if options.short else (50_000, options.seeds)
    backend = bpx.backends.get(options.backend)
    lines = [
        "# The book's results",
        "",
        "Nielsen, *Neural Networks and Deep Learning*, chapters 1 and 3: MNIST, mini-batches of "
        "10, 50,000 training images. Accuracies in per cent. The book's figures are peaks or the "
        f"best of a few runs; bpx's are over {seeds} seeds: the median and the best of each run's "
        "best epoch, and what the seeds' runs ended with. Time: a whole run, evaluation included. "
        "A run of chapter 1 that ends near 87 % has an output neuron that saturated in the first "
        "epochs and never learned its digit: the slow-down of the quadratic cost (ch. 3).",
        "",
        "| ch. | network | on | book | bpx, median | bpx, peak | last epoch | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if options.chapter not in (None, row.chapter):
            continue
        runs = []
        for seed in range(seeds):
            epochs = 1 if options.short else row.epochs
            runs.append(train(row, seed, dataset, n, epochs, options.backend))
        peaks = [max(accuracies) for accuracies, _ in runs]
        ends = " ".join(f"{accuracies[-1]:.2f}" for accuracies, _ in runs)
        seconds = statistics.median(seconds for _, seconds in runs)
        lines.append(
            f"| {row.chapter} | {row.describe()} | {row.on} | {row.figure} | "
            f"{statistics.median(peaks):.2f} | {max(peaks):.2f} | {ends} | {seconds:.0f} s |"
        )
        print(lines[-1], flush=True)
    today = time.strftime("%Y-%m-%d")
    lines += [
        "",
        f"Made by `python examples/book.py` on {today}: bpx {bpx.__version__}, {backend.name}, "
        f"float32, NumPy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores.",
        "",
    ]
    if options.short and options.out is None:
        return
    out = options.out or Path(__file__).parents[1] / "docs" / "results.md"
    out.write_text("\n".join(lines), encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
