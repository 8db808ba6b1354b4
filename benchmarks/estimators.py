"""bpx.sklearn beside sklearn.neural_network: a fit's seconds, score, loss and memory.

    python benchmarks/estimators.py                   ten minutes; prints the tables
    python benchmarks/estimators.py --write           and writes them into benchmarks/README.md
    python benchmarks/estimators.py --cases digits --solvers adam sgd --rounds 9
    python benchmarks/estimators.py --short           600 samples of two cases, 2 epochs, one round

Each estimator on each case with each solver is a process of its own; they take turns, and a
figure is the median over the rounds. All are fitted to a few samples first, so that compiling is
over. `bare` is the least that an epoch can take with NumPy: see its docstring.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from cold_start import FOLDER, images_and_labels
from harness import Peer, Timed, lasts, machine, peak, present, row, write
from peers import adam, batches, multiplier

LIBRARIES = ("numpy", "scipy", "numba", "scikit-learn")
ESTIMATORS = ("scikit-learn", "bpx", "bpx fast")
SOLVERS = ("adam", "sgd", "lbfgs")
PARTS = ("x", "y", "test_x", "test_y")
BATCH, HIDDEN = 200, 100  # scikit-learn's defaults
WARM_UP = 500  # samples: two mini-batches and a smaller one
SHORT_CASES, SHORT_ROWS, SHORT_EPOCHS = ("digits", "housing"), 600, 2

Parts = tuple[Any, ...]  # arrays, or a sparse x, in the order of PARTS


class Fit(NamedTuple):
    """What is known after a fit; `bare` has no score and no loss."""

    seconds: float
    epochs: int
    megabytes: float
    score: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Task:
    """A data set, how many rows of it, and the most epochs.

    `faster` says how many times faster adam and sgd should be.
    """

    draw: Callable[[int], Parts]
    rows: int
    estimator: str
    epochs: int
    faster: str


# --- the data -----------------------------------------------------------------------------------


def split(x: Any, y: np.ndarray) -> Parts:
    """Four fifths for training, the rest for the test."""
    from sklearn.model_selection import train_test_split

    x, test_x, y, test_y = train_test_split(x, y, test_size=0.2, random_state=0)
    return x, y, test_x, test_y


def digits(rows: int) -> Parts:
    """As scikit-learn gives them: float64, 0 to 16."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return split(x[:rows], y[:rows])


def mnist(rows: int) -> Parts:
    """float32, 0 to 1."""
    try:
        x, y, test_x, test_y = images_and_labels()
    except FileNotFoundError:
        raise LookupError(f"no MNIST in {FOLDER}; BPX_DATA names the folder above it") from None
    return x[:rows], y[:rows], test_x[:rows], test_y[:rows]


def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def housing(rows: int) -> Parts:
    """Artificial, of California housing's shape: correlated columns, and noise of 0.4."""
    draw = np.random.default_rng(0)
    x = standardized(draw.standard_normal((rows, 8)) @ draw.standard_normal((8, 8)))
    y = np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.5 * np.abs(x[:, 3]) + 0.3 * x[:, 4]
    return split(x, 2.0 + y + 0.4 * draw.standard_normal(rows))


def covertype(rows: int) -> Parts:
    """Artificial, of covertype's shape: 10 quantities, 4 areas, 40 soils, 7 covers of 1 to 44 %.

    A label is drawn with the logits' probabilities: Gumbel noise, and the largest wins.
    """
    draw = np.random.default_rng(0)
    prevalence = np.array([1.0, 4.0, 0.0, -4.0, -2.0, -2.5, -3.0])
    x = np.zeros((rows, 54))
    x[:, :10] = standardized(draw.standard_normal((rows, 10)) @ draw.standard_normal((10, 10)))
    logits = np.tanh(x[:, :10] @ draw.standard_normal((10, 20))) @ draw.standard_normal((20, 7))
    for start, kinds in ((10, 4), (14, 40)):
        kind = draw.choice(kinds, size=rows, p=draw.dirichlet(np.ones(kinds)))
        x[np.arange(rows), start + kind] = 1.0
        logits += draw.standard_normal((kinds, 7))[kind]
    logits += prevalence + draw.gumbel(size=logits.shape)
    return split(x, 1 + logits.argmax(axis=1))


def words(rows: int) -> Parts:
    """Artificial, of a text's shape: 40 of 20,000 words a row, compressed by rows, float32.

    A label is drawn as for covertype.
    """
    draw = np.random.default_rng(0)
    x = scipy.sparse.random(rows, 20_000, 0.002, "csr", np.float32, draw)
    logits = x @ draw.standard_normal((20_000, 10)) + draw.gumbel(size=(rows, 10))
    return split(x, logits.argmax(axis=1))


TASKS = {
    "digits": Task(digits, 1_797, "MLPClassifier", 200, "2"),
    "mnist": Task(mnist, 50_000, "MLPClassifier", 20, "1.6, or bpx / bare 1.3"),
    "housing": Task(housing, 20_640, "MLPRegressor", 200, "3"),
    "covertype": Task(covertype, 581_012, "MLPClassifier", 10, "3"),
    "words": Task(words, 6_250, "MLPClassifier", 4, "1"),
}
FASTER_LBFGS = "1.5"


def make(case: str, rows: int, folder: Path) -> None:
    for part, array in zip(PARTS, TASKS[case].draw(rows), strict=True):
        if scipy.sparse.issparse(array):
            scipy.sparse.save_npz(folder / part, array)
        else:
            np.save(folder / part, array)


def load(folder: Path, part: str) -> Any:
    compressed = folder / f"{part}.npz"
    if compressed.exists():
        return scipy.sparse.load_npz(compressed)
    return np.load(folder / f"{part}.npy")


def made(case: str, rows: int, folder: Path) -> bool:
    """Make it in a process of its own: a child's peak memory begins at that of its parent."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            pool.submit(make, case, rows, folder).result()
        except (ImportError, LookupError) as error:
            print(f"  without {case}: {error}", file=sys.stderr, flush=True)
            return False
    return True


# --- the peers ----------------------------------------------------------------------------------


def prepare(peer: str, name: str, folder: Path) -> Timed:
    """A call for one epoch is the warm-up, and sees only a few samples."""
    case, solver = name.split()
    os.environ["BPX_FAST"] = "1" if peer == "bpx fast" else "0"
    x, y, *test = (load(folder, part) for part in PARTS)
    if peer == "bare":
        if scipy.sparse.issparse(x):
            raise LookupError("its products are of dense rows")
        return bare(x, y, solver)
    new = estimator(peer, TASKS[case].estimator)

    def timed(epochs: int) -> Fit:
        part = slice(WARM_UP if epochs == 1 else None)
        model = new(solver=solver, max_iter=epochs, random_state=0)
        start = time.perf_counter()
        model.fit(x[part], y[part])
        seconds = time.perf_counter() - start
        megabytes = peak()  # before the score, which looks at all test samples at once
        score = model.score(*(array[part] for array in test))
        return Fit(seconds, int(model.n_iter_), megabytes, float(score), float(model.loss_))

    return timed


def estimator(peer: str, name: str) -> type:
    from sklearn.exceptions import ConvergenceWarning

    if peer == "bpx fast":
        from bpx.backends._fast import installed

        if not installed():
            raise LookupError("the extra `fast` is not installed")
    warnings.simplefilter("ignore", ConvergenceWarning)
    module = "sklearn.neural_network" if peer == "scikit-learn" else "bpx.sklearn"
    return getattr(importlib.import_module(module), name)


def bare(x: np.ndarray, y: np.ndarray, solver: str) -> Timed:
    """Gather, products, and the optimizer on one vector, in preallocated arrays.

    No activation, cost, bias or penalty, no check and no shuffling: the order is drawn beforehand.
    The rate is 0, since without activations nothing holds the weights back.
    """
    targets = one_hot(y).astype(x.dtype) if y.dtype.kind == "i" else y.reshape(-1, 1)
    sizes = x.shape[1], HIDDEN, targets.shape[1]
    draw = np.random.default_rng(0)
    order = draw.permutation(len(x))
    shapes = [(out, into) for into, out in pairwise(sizes)]
    theta = 0.1 * draw.standard_normal(sum(out * (into + 1) for out, into in shapes))
    theta = theta.astype(x.dtype)
    gradient, first, second, scratch = (np.zeros_like(theta) for _ in range(4))
    weights, gradients = views(theta, shapes), views(gradient, shapes)
    m = min(BATCH, len(x))
    a = [np.zeros((m, n), x.dtype) for n in sizes]
    delta = [draw.standard_normal((m, n)).astype(x.dtype) for n in sizes]
    wanted = np.empty_like(a[-1])
    steps = -(-len(x) // m)

    def of(rows: int) -> Callable[[np.ndarray], None]:
        """A step on `rows` rows."""
        inputs, outputs = a[0][:rows], wanted[:rows]
        multiply = multiplier(
            [array[:rows] for array in a], [array[:rows] for array in delta], weights, gradients
        )

        def step(chosen: np.ndarray) -> None:
            x.take(chosen, 0, inputs, "clip")
            targets.take(chosen, 0, outputs, "clip")
            multiply()

        return step

    full, rest = of(m), of(len(x) - (steps - 1) * m)

    def timed(epochs: int) -> Fit:
        start = time.perf_counter()
        for _ in range(epochs):
            for chosen in batches(order, m, steps):
                (full if len(chosen) == m else rest)(chosen)
                if solver == "adam":
                    adam(theta, gradient, first, second, scratch, 0.0)
                else:
                    nesterov(theta, gradient, first, scratch, 0.0)
        return Fit(time.perf_counter() - start, epochs, peak())

    return timed


def one_hot(labels: np.ndarray) -> np.ndarray:
    kinds, codes = np.unique(labels, return_inverse=True)
    return np.eye(len(kinds))[codes]


def views(flat: np.ndarray, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    parts = np.split(flat[: ends[-1]], ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def nesterov(
    p: np.ndarray, g: np.ndarray, v: np.ndarray, t: np.ndarray, rate: float, momentum: float = 0.9
) -> None:
    """v ← μv − ηg, p ← p + μv − ηg; g is overwritten, t is scratch."""
    g *= rate
    v *= momentum
    v -= g
    np.multiply(v, momentum, t)
    t -= g
    p += t


# --- the turns, and the tables ------------------------------------------------------------------


def measured(name: str, epochs: int, rounds: int, folder: Path) -> list[Peer]:
    """The installed peers, with their times and first fits."""
    names = ESTIMATORS if name.endswith("lbfgs") else (*ESTIMATORS, "bare")
    ready = partial(prepare, folder=folder)
    done = epochs  # `bare` does as many as an estimator has needed

    def fit(peer: Peer) -> None:
        nonlocal done
        found = peer.time(done if peer.name == "bare" else epochs)
        done = found.epochs
        peer.times.append(found.seconds)
        if len(peer.times) == 1:  # in later ones, the peak may be that of the previous score
            peer.fit = found

    here = present([Peer(peer, ready, name) for peer in names])  # all start at once
    for turn in (*[fit] * rounds, Peer.close):
        here = [peer for peer in here if lasts(peer, turn)]
    return here


def cells(found: dict[str, Peer], names: tuple[str, ...], show: Callable[[Peer], str]) -> list:
    return [show(found[name]) if name in found else "" for name in names]


def head(*titles: str) -> str:
    return row(titles[0], titles[1:]) + "\n|" + "---|" * len(titles)


def epochs_of(found: dict[str, Peer]) -> str:
    """One number, or each estimator's where they differ."""
    counts = cells(found, ESTIMATORS, lambda peer: str(peer.fit.epochs))
    counts = [count for count in counts if count]
    return counts[0] if len(set(counts)) == 1 else " / ".join(counts)


def ratio(found: dict[str, Peer], slow: str, fast: str) -> str:
    if slow not in found or fast not in found:
        return ""
    return f"{found[slow].median / found[fast].median:.2f}"


def tables(results: dict[str, list[Peer]]) -> str:
    peers, ours = (*ESTIMATORS, "bare"), ESTIMATORS[1:]
    seconds = [head("seconds a fit", "epochs", *peers, *(f"{peer}: times faster" for peer in ours),
                    "target", *(f"{peer} / bare" for peer in ours))]  # fmt: skip
    scores = [head("score and loss", *(f"score: {peer}" for peer in ESTIMATORS),
                   *(f"loss: {peer}" for peer in ESTIMATORS))]  # fmt: skip
    memory = [head("MiB at the peak", *peers)]
    for name, here in results.items():
        found = {peer.name: peer for peer in here}
        case, solver = name.split()
        faster = FASTER_LBFGS if solver == "lbfgs" else TASKS[case].faster
        times = cells(found, peers, lambda peer: f"{peer.median:.3g}")
        gains = [ratio(found, ESTIMATORS[0], peer) for peer in ours]
        above = [ratio(found, peer, "bare") for peer in ours]
        seconds.append(row(name, [epochs_of(found), *times, *gains, faster, *above]))
        score = cells(found, ESTIMATORS, lambda peer: f"{peer.fit.score:.4f}")
        loss = cells(found, ESTIMATORS, lambda peer: f"{peer.fit.loss:.6g}")
        scores.append(row(name, [*score, *loss]))
        megabytes = cells(found, peers, lambda peer: f"{peer.fit.megabytes:,.0f}")
        memory.append(row(name, megabytes))
    return "\n\n".join("\n".join(lines) for lines in (seconds, scores, memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=TASKS)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=SOLVERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--short", action="store_true", help="a few seconds; fails without bpx")
    options = parser.parse_args()
    results = {}
    for case in options.cases or (SHORT_CASES if options.short else TASKS):
        task = TASKS[case]
        rows, epochs, rounds = task.rows, task.epochs, options.rounds
        if options.short:
            rows, epochs, rounds = min(rows, SHORT_ROWS), SHORT_EPOCHS, 1
        with tempfile.TemporaryDirectory() as folder:
            if not made(case, rows, Path(folder)):
                continue
            for name in (f"{case} {solver}" for solver in options.solvers):
                print(f"{name} ...", file=sys.stderr, flush=True)
                results[name] = measured(name, epochs, rounds, Path(folder))
                for peer in results[name]:
                    print(f"  {peer.name}: {peer.median:.3g} s, {peer.fit.epochs} epochs",
                          file=sys.stderr, flush=True)  # fmt: skip
    text = f"{tables(results)}\n\nMedians of {rounds} rounds, {machine(LIBRARIES)}.\n"
    print(text)
    if options.write:
        write("estimators", text)
    lasting = [{peer.name for peer in here} for here in results.values()]
    if options.short and not all(names.issuperset(ESTIMATORS) for names in lasting):
        sys.exit("an estimator is missing")


if __name__ == "__main__":
    main()
