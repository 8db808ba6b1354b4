"""Trains the rows of the book's chapters 1, 3 and 6 on MNIST, and puts them into docs/results.md.

    python examples/book.py                     chapters 1 and 3: three seeds, on NumPy
    python examples/book.py --chapter 6         hours on a CPU; --row 1 --row 2: only these rows
    python examples/book.py --chapter 6 --checkpoints runs      goes on where it was stopped
    python examples/book.py --chapter 6 --row 7 --seeds 1 --recorded    trains only what is missing
    python examples/book.py --backend cupy

Each row is trained from three seeds, and replaces the one in the file. Chapters 1 and 3: "peak" is
the best epoch of the best seed, since the book's figures are peaks or the best of a few runs;
"median" is the median of the seeds' peaks. Chapter 6: a run's figure is the accuracy on the test
set with the weights of the epoch that was best on the validation set, as in network3.py. What each
of these runs gets wrong is kept in docs/mistakes.json; the ensemble's votes are counted from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import bpx
from bpx import layers

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
MISTAKES = RESULTS.with_name("mistakes.json")
Layers = Sequence[Any]


@dataclass(frozen=True)
class Row:
    """A row: the network, how it is trained, and the figure that the book prints."""

    chapter: int
    network: str
    layers: Callable[[], Layers]
    rate: float
    epochs: int
    on: str  # "test", "validation", or "best": test, with the weights best on validation
    figure: str
    l2: float = 0.0
    expanded: bool = False  # the training set, to five times as many images
    members: int = 1  # of an ensemble, which vote
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the folder of its checkpoints."""
        return re.sub(r"\W+", "-", self.describe(), flags=re.ASCII)

    def describe(self) -> str:
        decay = f", λ {self.l2:g}" if self.l2 else ""
        more = ", 250,000 images" if self.expanded else ""
        more += f", {self.members} that vote" if self.members > 1 else ""
        return f"{self.network}{more}, η {self.rate:g}{decay}, {self.epochs} epochs"


def dense(*args: Any, **options: Any) -> Row:
    """A row of chapters 1 and 3."""
    chapter, sizes, cost, weights, *rest = args
    drawn = {"normal": "N(0, 1)", "scaled-normal": "N(0, 1/n_in)"}[weights]
    network = f"{'-'.join(map(str, sizes))}, {cost}, {drawn} weights"
    drawn_by = {"cost": cost, "weights": weights, "bias": "normal"}
    return Row(chapter, network, lambda: sizes, *rest, **options | {"options": drawn_by})


def images(
    maps: Sequence[int], activation: str, hidden: Sequence[int], dropout: float = 0.0
) -> Callable[[], Layers]:
    """Convolutions of 5 × 5 with `maps` maps, each pooled by 2 × 2; dense layers; softmax.

    Dropout is on the inputs of the layers after the convolutions, as in network3.py.
    """

    def made() -> Layers:
        first = [layers.Input(784), layers.Reshape((1, 28, 28))]
        seen = ((layers.Conv2D(m, 5, activation), layers.MaxPool2D(2)) for m in maps)
        last = layers.Dense(10, "softmax", weights="zeros", bias="zeros")
        known: Layers = [*(layers.Dense(n, activation) for n in hidden), last]
        if dropout:
            known = [each for layer in known for each in (layers.Dropout(dropout), layer)]
        return [*first, *chain.from_iterable(seen), layers.Flatten(), *known]

    return made


Q, C, SMALL, LARGE = "quadratic", "cross-entropy", (784, 30, 10), (784, 100, 10)
ROWS = [
    dense(1, SMALL, Q, "normal", 3.0, 30, "test", "95.42"),
    dense(1, LARGE, Q, "normal", 3.0, 30, "test", "96.59"),
    dense(1, SMALL, Q, "normal", 0.001, 30, "test", "21.42, slow"),
    dense(1, SMALL, Q, "normal", 100.0, 30, "test", "about 10"),
    dense(3, SMALL, C, "normal", 0.5, 30, "test", "95.49"),
    dense(3, LARGE, C, "normal", 0.5, 30, "test", "96.82"),
    dense(3, LARGE, C, "normal", 0.5, 30, "validation", "97.92", l2=5.0),
    dense(3, LARGE, C, "scaled-normal", 0.1, 60, "validation", "98.04", l2=5.0),
    Row(6, "100 sigmoid", images((), "sigmoid", (100,)), 0.1, 60, "best", "97.80"),
    Row(6, "20 maps, 100 sigmoid", images((20,), "sigmoid", (100,)), 0.1, 60, "best", "98.78"),
    Row(6, "20 and 40 maps, 100 sigmoid", images((20, 40), "sigmoid", (100,)), 0.1, 60, "best",
        "99.06"),
    # network3 divides its λ, 0.1, by the number of mini-batches, not of images: 1 here.
    Row(6, "20 and 40 maps, 100 ReLU", images((20, 40), "relu", (100,)), 0.03, 60, "best",
        "99.23", l2=1.0),
    Row(6, "20 and 40 maps, 100 ReLU", images((20, 40), "relu", (100,)), 0.03, 60, "best",
        "99.37", l2=1.0, expanded=True),
    Row(6, "20 and 40 maps, 1000 and 1000 ReLU with dropout",
        images((20, 40), "relu", (1000, 1000), 0.5), 0.03, 40, "best", "99.60", expanded=True),
    Row(6, "20 and 40 maps, 1000 and 1000 ReLU with dropout",
        images((20, 40), "relu", (1000, 1000), 0.5), 0.03, 40, "best", "99.67", expanded=True,
        members=5),
]  # fmt: skip

HEAD = """\
# The book's results

[Guide](guide.md)

Nielsen, *Neural Networks and Deep Learning*: MNIST, mini-batches of 10, 50,000 training images.
Accuracies are in per cent; the book's figures are peaks or the best of a few runs. `python
examples/book.py` and `python examples/book.py --chapter 6` make this page, a row at a time, in
float32. The time is that of a whole run, evaluation included, the median over the seeds.

## Chapters 1 and 3

The table has the median and the peak of the runs' best epochs, and what each run ended with. A run
of chapter 1 that ends near 87 % has an output neuron that saturated in the first epochs and never
learned its digit: the slow-down of the quadratic cost (ch. 3).

| network | on | book | bpx, median | bpx, peak | last epoch | time | made |
|---|---|---|---|---|---|---|---|
"""

CHAPTER_6 = """
## Chapter 6

Convolutions have windows of 5 × 5, each followed by max-pooling of 2 × 2; the last layer is a
softmax. A run's figure is the accuracy on the test set with the weights of the epoch that was best
on the validation set. Runs made on one core shared it with other work, which their times include.
For the rows that were run since it was introduced, [mistakes.json](mistakes.json) has the test
images that each run got wrong.

| network | on | book | bpx, median | bpx, best | each run | time | made |
|---|---|---|---|---|---|---|---|
"""


def train(
    row: Row, seed: int, dataset: Any, options: argparse.Namespace, record: Path | None
) -> list[float]:
    """A run's figures (%), one for each epoch or one for the test set; and its seconds.

    An ensemble's members are runs of its network from different seeds.
    """
    if row.on != "best":
        _, history = fit(row, seed, dataset, options)
        return [*(100 * a for a in history["validation_accuracy"]), sum(history["seconds"])]
    one, first = dataclasses.replace(row, members=1), seed * row.members
    members = range(first, first + row.members)
    runs = [tested(one, member, dataset, options, record) for member in members]
    return [accuracy(runs, dataset[2][1]), sum(run["seconds"] for run in runs)]


def tested(
    row: Row, seed: int, dataset: Any, options: argparse.Namespace, record: Path | None
) -> dict[str, Any]:
    """The wrong labels that a run gives to test images, and its seconds; kept in the record."""
    known = json.loads(record.read_text(encoding="utf-8")) if record and record.exists() else {}
    runs = known.setdefault(row.describe(), {})
    if options.recorded and str(seed) in runs:
        return runs[str(seed)]
    net, history = fit(row, seed, dataset, options)
    x, y = dataset[2]
    said = net.backend.to_host(net.predict(x))
    wrong = {str(i): int(said[i]) for i in np.flatnonzero(said != y)}
    runs[str(seed)] = run = {"seconds": round(sum(history["seconds"])), "wrong": wrong}
    if record:
        text = json.dumps(known, indent=1, ensure_ascii=False)
        text = re.sub(r"\s*\n {3,}", " ", text)  # one line for each run
        record.write_text(text + "\n", encoding="utf-8")
    return run


def accuracy(runs: Sequence[dict[str, Any]], y: np.ndarray) -> float:
    """The majority vote's, in per cent; a tie is a mistake (bpx.Ensemble takes the surer side)."""
    votes = np.zeros((len(y), 10))
    votes[np.arange(len(y)), y] = len(runs)
    for run in runs:
        for image, said in run["wrong"].items():
            votes[int(image), [y[int(image)], said]] += -1, 1
    most = votes == votes.max(axis=1, keepdims=True)
    return 100 * float(np.mean(most[np.arange(len(y)), y] & (most.sum(axis=1) == 1)))


def fit(
    row: Row, seed: int, dataset: Any, options: argparse.Namespace
) -> tuple[bpx.Network, bpx.History]:
    """One network of a row, and its run; with --checkpoints it goes on from those that it has."""
    short, runs = options.short, options.checkpoints
    if short and row.chapter == 6:  # slow with libraries written in Python
        dataset = [(x[:50], y[:50]) for x, y in dataset]
    (x, y), validation, test = dataset
    if short and row.expanded:
        x, y = x[:10], y[:10]
    n = len(x)
    if row.expanded:
        x, y = bpx.augmentation.expand(x, y, shape=(28, 28), seed=seed)
    net = bpx.Network(row.layers(), **row.options, backend=options.backend, seed=seed)
    best = bpx.EarlyStopping(row.epochs, monitor="validation_accuracy")
    kept = {} if runs is None else {"checkpoint": runs / row.name / str(seed), "resume": True}
    history = net.fit(
        x,
        y,
        epochs=1 if short else row.epochs,
        batch_size=10,
        optimizer=bpx.SGD(row.rate),
        l2=row.l2 * n / 50_000,
        validation=test if row.on == "test" else validation,
        callbacks=[best] if row.on == "best" else [],
        **kept,
    )
    if history.interrupted:
        raise SystemExit("interrupted: with --checkpoints, a run goes on where it was stopped")
    assert np.isfinite(history["training_cost"]).all()
    return net, history


def line(row: Row, runs: Sequence[Sequence[float]], made: str) -> str:
    """The row of the table."""
    peaks = [max(accuracies) for *accuracies, _ in runs]
    ends = " ".join(f"{accuracies[-1]:.2f}" for *accuracies, _ in runs)
    seconds = statistics.median(seconds for *_, seconds in runs)
    on = "test" if row.on == "best" else row.on
    return (
        f"| {row.describe()} | {on} | {row.figure} | {statistics.median(peaks):.2f} | "
        f"{max(peaks):.2f} | {ends} | {seconds:.0f} s | {made} |"
    )


def write(lines: dict[str, str], page: Path) -> None:
    """Write the page with these rows, by network, and the others that it already has."""
    had = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    known = {each.split(" | ")[0].removeprefix("| "): each for each in had}
    known |= lines
    tables = [
        "".join(
            known[row.describe()] + "\n"
            for row in ROWS
            if (row.chapter == 6) is last and row.describe() in known
        )
        for last in (False, True)
    ]
    page.write_text(HEAD + tables[0] + CHAPTER_6 + tables[1], encoding="utf-8")


def cores() -> str:
    """How many this process may use."""
    asked = getattr(os, "sched_getaffinity", None)  # not on all systems
    count = len(asked(0)) if asked else os.cpu_count()
    return f"{count} core{'s' * (count != 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="numpy, cupy, torch, ...")
    parser.add_argument("--chapter", type=int, choices=(1, 3, 6), help="only this chapter")
    parser.add_argument(
        "--row", type=int, action="append", help="only this row of the chapter, from 1"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--short", action="store_true", help="1 epoch of 200 images (50 in chapter 6), one seed"
    )
    parser.add_argument("--out", type=Path, help="docs/results.md by default (--short: stdout)")
    parser.add_argument("--checkpoints", type=Path, help="a folder of checkpoints, to go on from")
    parser.add_argument(
        "--recorded", action="store_true", help="do not train again what docs/mistakes.json has"
    )
    options = parser.parse_args()
    dataset = [part[:2] for part in bpx.datasets.mnist()]
    if options.short:
        dataset = [(x[:200], y[:200]) for x, y in dataset]
    backend = bpx.backends.get(options.backend)
    chapters = (options.chapter,) if options.chapter else (1, 3, 6) if options.short else (1, 3)
    chosen = [row for row in ROWS if row.chapter in chapters]
    if options.row:
        chosen = [chosen[number - 1] for number in options.row]
    page = options.out or (None if options.short else RESULTS)
    record = page and page.with_name(MISTAKES.name)
    for row in chosen:
        seeds = range(1 if options.short else options.seeds)
        runs = [train(row, seed, dataset, options, record) for seed in seeds]
        fast = " with fast" if type(backend).__name__ == "FastBackend" else ""
        made = f"{time.strftime('%Y-%m-%d')}, bpx {bpx.__version__}, {backend.name}{fast}"
        found = line(row, runs, f"{made}, {cores()} {platform.machine()}")
        print(found, flush=True)
        if page:
            write({row.describe(): found}, page)


if __name__ == "__main__":
    main()
