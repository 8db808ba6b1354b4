"""What the command line prints: the network, one line per epoch, a score, and what went wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..callbacks import Callback
from ..checks import printable
from ..data.arrays import class_count
from ..ensemble import Ensemble
from ..network import Network

MOST = 2_000  # characters of an error: the names of some dozen columns


@contextlib.contextmanager
def told(logged: bool) -> Iterator[None]:
    """Print warnings as lines of errors, and so the messages of bpx's log, if `logged`."""
    log, handler = logging.getLogger("bpx"), _Lines() if logged else logging.NullHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _warn(message: Warning | str, *where: Any, **more: Any) -> None:
    say(f"warning: {message}")


def note(text: str) -> None:
    """Log what `told` prints, by the rank that prints."""
    logging.getLogger("bpx").info(f"note: {text}")


def say(message: str) -> None:
    """Print a line of errors."""
    shown = printable(" ".join(message.split()))  # a file's names may be of any length
    print(f"bpx: {shown if len(shown) <= MOST else f'{shown[: MOST - 3]}...'}", file=sys.stderr)


@contextlib.contextmanager
def outlasting() -> Iterator[None]:
    """Standard streams whose readers may go, as ``| head`` does: the rest goes nowhere."""
    out, err = (_Outlasting(stream) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


class _Outlasting:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._until_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._until_closed():
            self._stream.flush()

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is in the stream's buffers would be written, and fail, once more at the end.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class ShowNetwork(Callback):
    """The network's table, once `fit` has found everything in order."""

    def on_fit_begin(self, run: Any) -> None:
        print(run.net.summary())
        if run.ranks > 1:
            print(f"{run.ranks} processes, each with a part of every mini-batch")


class ShowEpochs(Callback):
    """One line per epoch, in columns that fit into 80 characters."""

    def __init__(self) -> None:
        self.started = False

    def on_epoch_end(self, run: Any) -> None:
        row = {k: v for k, v in run.history.row().items() if k != "learning_rate"}
        if not self.started:
            titles = [name.partition("_")[2] or name for name in row]
            over = [name.partition("_")[0] if "_" in name else "" for name in row]
            over = [name if name not in over[:index] else "" for index, name in enumerate(over)]
            for line in (over, titles):
                print("  ".join(text.rjust(10) for text in line)[5:].rstrip())
            self.started = True
        cells = []
        for name, value in row.items():
            if name == "epoch":
                text = f"{value}"
            elif name.endswith("accuracy"):
                text = f"{100 * value:.2f} %"
            else:
                text = f"{value:.5g}" if name.endswith("cost") else f"{value:.3f}"
            cells.append(text.rjust(10))
        print("  ".join(cells)[5:], flush=True)


TELLING = 10  # samples: of fewer the accuracy says little
MOST_SCORES = 20  # lines for targets, and for classes


def scores(net: Network | Ensemble, x: Any, y: np.ndarray) -> dict[str, list[float]]:
    """The mean ``cost`` and the ``accuracy``, each in a list; or of a regression the ``cost``, and
    the ``rmse`` and ``r2`` of each target.

    R² is the share of the variance that is explained; NaN if there is none. No R² if none of the
    outputs about a target predicts it.
    """
    found = net.evaluate(x, y)
    cost = {"cost": [found["cost"]]}
    if net.task != "regression":
        return cost | {"accuracy": [found["accuracy"]]}
    truth = _columns(y)
    predicted = net.cost.predictions(net.predict(x), truth.shape[1])
    if predicted is None:
        return cost
    errors = net.backend.to_host(predicted) - truth
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = np.where(spread > 0.0, 1.0 - (errors**2).sum(axis=0) / spread, np.nan)
    return cost | {"rmse": _rms(errors).tolist(), "r2": explained.tolist()}


def described(
    found: Mapping[str, list[float]],
    net: Network | Ensemble,
    y: np.ndarray,
    learned: np.ndarray | None = None,
) -> str:
    """Scores in words: several targets have a line each, and then the mean of R².

    Beside them, if the targets that were `learned` are given, is what the same answer for every
    sample would have: their most frequent label, or their mean.
    """
    if net.task != "regression":
        line = f"accuracy {_percent(found['accuracy'][0])}"
        if learned is None:
            return line
        return f"{line} (the most frequent label alone: {_percent(_of_most_frequent(learned, y))})"
    if "r2" not in found:
        return "no R²: none of the outputs about a target predicts it"
    rmse, r2 = found["rmse"], found["r2"]
    alone = [""] * len(r2) if learned is None else _of_mean(learned, _columns(y))
    lines = [
        f"root mean square error {error:.5g}, R² {share:.4f}{beside}"
        for error, share, beside in zip(rmse, r2, alone, strict=True)
    ]
    if len(lines) == 1:
        return lines[0]
    names = net.target_columns or ()
    if len(names) != len(lines):  # or y has a number for each of several outputs about a target
        names = tuple(f"output {k}" for k in range(len(lines)))
    each = [f"{name}: {line}" for name, line in zip(names, lines, strict=True)][:MOST_SCORES]
    return "\n".join([*each, f"mean of the R² of {len(lines)} targets {np.mean(r2):.4f}"])


def note_no_better(found: Mapping[str, list[float]], y: np.ndarray, learned: np.ndarray) -> None:
    """Say so where labels y are no better predicted than by the most frequent one alone.

    Of a few samples it would often be chance.
    """
    if len(y) < TELLING:
        return
    accuracy, alone = found["accuracy"][0], _of_most_frequent(learned, y)
    if accuracy <= min(alone, np.nextafter(1.0, 0.0)):
        note(
            f"the accuracy on the {len(y):,} test samples, {_percent(accuracy)}, is no better "
            f"than {_percent(alone)}, which the most frequent label alone has: try more --epochs, "
            "another --learning-rate or --hidden, or more samples; if the other classes are rare, "
            "--class-weight balanced, and bpx evaluate --by-class"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _columns(y: np.ndarray) -> np.ndarray:
    return y.reshape(len(y), -1).astype(np.float64)


def _rms(errors: np.ndarray) -> np.ndarray:
    """The root mean square of each column."""
    return np.sqrt((errors**2).mean(axis=0))


def _of_most_frequent(learned: np.ndarray, y: np.ndarray) -> float:
    """The accuracy of the label that is most frequent in those that were learned."""
    labels, counts = np.unique(learned, axis=0, return_counts=True)
    right = (y == labels[counts.argmax()]).reshape(len(y), -1).all(axis=1)
    return float(right.mean())


def _of_mean(learned: np.ndarray, truth: np.ndarray) -> list[str]:
    mean = learned.reshape(len(learned), -1).mean(axis=0, dtype=np.float64)
    return [f" (the mean alone: {error:.5g})" for error in _rms(truth - mean)]


def scores_by_class(net: Network | Ensemble, x: Any, y: np.ndarray) -> str:
    """A line for each class: its samples, and how much of it is right among those found and all.

    A share of none is "-".
    """
    k = class_count(net.output_shape[0])
    truth = y.astype(np.intp) if y.ndim == 1 else y.argmax(axis=1)
    found = net.backend.to_host(net.predict(x))
    support, predicted, right = (
        np.bincount(labels, minlength=k) for labels in (truth, found, truth[found == truth])
    )
    names = [str(name)[:30] for name in (net.classes or range(k))]
    width = max(map(len, ["class", *names]))
    lines = [f"{'class':<{width}}  {'samples':>9}  {'precision':>9}  {'recall':>9}"]
    for label in range(min(k, MOST_SCORES)):
        shares = [
            f"{100 * right[label] / of[label]:.2f} %" if of[label] else "-"
            for of in (predicted, support)
        ]
        cells = "  ".join(f"{cell:>9}" for cell in (str(support[label]), *shares))
        lines.append(f"{names[label]:<{width}}  {cells}")
    if k > MOST_SCORES:
        lines.append(f"and {k - MOST_SCORES} more classes")
    return "\n".join(lines)
