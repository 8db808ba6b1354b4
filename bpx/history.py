"""What a training run did, one row per epoch, and what the steps of an epoch left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import LONGEST, different_names, shortened
from .elsewhere import ATTRIBUTES_OF_HISTORIES
from .extras import not_imported
from .keywords import attr_hints
from .registry import nearest
from .writing import write_bytes

COLUMNS = (
    "epoch",
    "training_cost",
    "training_accuracy",
    "training_objective",
    "validation_cost",
    "validation_accuracy",
    "learning_rate",
    "seconds",
)
ACCURACIES = "training_accuracy", "validation_accuracy"


@attr_hints(**ATTRIBUTES_OF_HISTORIES)
class History(Mapping[str, list[float]]):
    """Columns of numbers, one row per epoch.

    ``epoch`` counts all epochs of the network, from 1. ``training_cost`` and
    ``training_accuracy`` are means over the epoch's samples as its steps met them, before each
    update, weighted by `sample_weight`; ``validation_cost`` and ``validation_accuracy`` come
    after the epoch, weighted where the validation data have weights of their own. Costs are
    without penalties. ``learning_rate`` is that of the epoch's last step, ``seconds`` the
    epoch's time, validation included. Runs of `bpx.sklearn` also have ``training_objective``,
    scikit-learn's loss: the mean of the costs with the L2 penalty before each step. Columns
    that do not apply are missing, and those of a `bpx.Metric` come last.
    `to_frame` makes a data frame of it; ``pandas.DataFrame(history)`` would have the names alone.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C or SIGTERM ended the run.
    terminated : bool
        Whether SIGTERM did, which `fit` delivers again when all is done.
    stopped : str or None
        Why a callback ended it.
    restored : int or None
        The epoch whose weights the network has, if they were put back when the run ended, as by
        `EarlyStopping`.
    larger_is_better : set of str
        The columns for which larger is better; for all others but the `undecided` smaller is.
    undecided : set of str
        Columns of a `bpx.Metric` that does not say which is better.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([2, 2, 1], seed=0)
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=3)
    >>> len(history["training_cost"])
    3
    """

    restored: int | None = None

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {}
        self.interrupted = self.terminated = False
        self.stopped: str | None = None
        self.larger_is_better = {*ACCURACIES}
        self.undecided: set[str] = set()

    @classmethod
    def of(
        cls,
        columns: Mapping[str, list[float]],
        larger_is_better: Iterable[str] = ACCURACIES,
        stopped: str | None = None,
        undecided: Iterable[str] = (),
    ) -> History:
        """A history of these columns; ValueError or TypeError if they cannot be those of one.

        >>> from bpx import History
        >>> History.of({"epoch": [1, 2], "training_cost": [0.5, 0.25]}).row(0)
        {'epoch': 1, 'training_cost': 0.5}
        """
        history = cls()
        lengths = {len(column) for column in columns.values()}
        if any(len(name) > LONGEST for name in columns) or len(lengths) > 1:
            raise ValueError(
                f"expected columns of a history, all of one length, got {shortened([*columns])}"
            )
        for name, column in columns.items():
            history._columns[name] = [_number(name, value) for value in column]
        if not (stopped is None or isinstance(stopped, str)):
            raise ValueError(f"expected stopped to be a string or null, got {stopped!r}")
        history.larger_is_better = {*different_names("larger_is_better", larger_is_better)}
        history.undecided = {*different_names("undecided", undecided)} if undecided else set()
        history.stopped = stopped
        return history

    @classmethod
    def from_csv(cls, path: Any, larger_is_better: Iterable[str] | None = None) -> History:
        """What `to_csv` has written, such as ``history.csv`` of ``bpx train --out``.

        The file does not say whether larger is better in a column of a `bpx.Metric`:
        `larger_is_better` names those for which it is, ``[]`` if for none. Without it they are
        `undecided`.

        >>> import pathlib, tempfile
        >>> from bpx import History
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "history.csv")
        ...     text = History.of({"epoch": [1, 2], "training_cost": [0.5, 0.25]}).to_csv(path)
        ...     History.from_csv(path)["training_cost"]
        [0.5, 0.25]

        Raises
        ------
        ValueError
            The file is not such a table.
        OSError
            It cannot be read.
        """
        import csv

        try:
            with open(path, newline="", encoding="utf-8") as file:
                names, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
            if names and "epoch" not in names:
                raise ValueError("it has no column epoch")
            if len({*names}) < len(names) or any(len(row) != len(names) for row in rows):
                raise ValueError("its rows have different lengths, or two columns one name")
            columns = {
                name: [_parsed(name, row[k]) for row in rows] for k, name in enumerate(names)
            }
            own = [] if larger_is_better is not None else names
            larger = *ACCURACIES, *(larger_is_better or ())
            return cls.of(columns, larger, undecided=[n for n in own if n not in COLUMNS])
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"expected a table that History.to_csv has written, got {path}: {error}"
            ) from error

    def append(self, row: Mapping[str, float]) -> None:
        """Add the row of an epoch that has ended, by column; for `fit`.

        >>> from bpx import History
        >>> history = History()
        >>> history.append({"epoch": 1, "training_cost": 0.5, "seconds": 0.01})
        >>> list(history)
        ['epoch', 'training_cost', 'seconds']
        """
        for name in COLUMNS:
            if name in row:
                self._columns.setdefault(name, []).append(row[name])
        for name, column in self._columns.items():
            if name not in row:
                column.append(math.nan)  # until `log`

    def log(self, name: str, value: float) -> None:
        """Set a user's own number for the last epoch; for a `bpx.Metric`.

        >>> from bpx import History
        >>> history = History.of({"epoch": [1, 2]})
        >>> history.log("f1", 0.75)
        >>> history["f1"]
        [nan, 0.75]
        """
        if name in COLUMNS:
            raise ValueError(
                f"expected a name other than those of fit, {', '.join(COLUMNS)}, got {name!r}"
            )
        if not self.epochs:
            raise ValueError(f"no epoch has ended yet: log {name!r} after the first")
        self._columns.setdefault(name, [math.nan] * self.epochs)[-1] = float(value)

    def __getitem__(self, name: str) -> list[float]:
        if not isinstance(name, str):
            is_epoch = type(name) is int and -self.epochs <= name < self.epochs
            hint = f"; history.row({name}) is an epoch" if is_epoch else ""
            raise KeyError(f"expected a column of the history, a string, got {name!r}{hint}")
        if name not in self._columns:
            known = list(self._columns)
            end = nearest(name, known) if known else "; no epoch has ended yet"
            raise KeyError(f"the history has no column {name!r}{end}")
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns  # a Mapping's own would look for the nearest name each time

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def epochs(self) -> int:
        """The number of rows: the epochs that ended.

        >>> from bpx import History
        >>> History.of({"epoch": [3, 4]}).epochs
        2
        """
        return len(self._columns.get("epoch", []))

    def row(self, index: int = -1) -> dict[str, float]:
        """One epoch, the last by default.

        >>> from bpx import History
        >>> History.of({"epoch": [1, 2], "training_cost": [0.5, 0.25]}).row()
        {'epoch': 2, 'training_cost': 0.25}
        """
        return {name: column[index] for name, column in self._columns.items()}

    def best(self, name: str) -> float:
        """The largest of a column where larger is better, else the smallest; NaN is left out.

        ValueError if it is not known whether larger is better, KeyError if there is no such
        column.

        >>> from bpx import History
        >>> History.of({"epoch": [1, 2], "validation_accuracy": [0.5, 0.75]}).best(
        ...     "validation_accuracy")
        0.75
        """
        numbers = [value for value in self[name] if not math.isnan(value)] or [math.nan]
        return max(numbers) if self.larger(name) else min(numbers)

    def larger(self, name: str) -> bool:
        """Whether larger is better in a column; ValueError if that is not known.

        >>> from bpx import History
        >>> history = History()
        >>> history.larger("training_accuracy"), history.larger("training_cost")
        (True, False)
        """
        if name in self.undecided:
            raise ValueError(
                f"it is not known whether a larger {name!r} is better: say so, "
                f"bpx.Metric({name!r}, ..., larger_is_better=True), or False"
            )
        return name in self.larger_is_better

    def best_epoch(self, name: str) -> int:
        """The epoch of the `best` of a column, the first of equals, as ``epoch`` counts it.

        >>> from bpx import History
        >>> History.of({"epoch": [4, 5, 6], "validation_cost": [0.3, 0.2, 0.4]}).best_epoch(
        ...     "validation_cost")
        5

        Raises
        ------
        KeyError
            There is no such column.
        ValueError
            The column has no number, or whether larger is better is not known.
        """
        best = self.best(name)
        if math.isnan(best):
            raise ValueError(
                f"expected a number in the history's {name}, got only NaN: best_epoch takes a "
                "column that was measured"
            )
        return int(self["epoch"][self[name].index(best)])

    def to_csv(self, path: Any = None) -> str:
        """The table as CSV text; with `path` it is also written there, whole or not at all.

        >>> from bpx import History
        >>> History.of({"epoch": [1, 2], "training_cost": [0.5, 0.25]}).to_csv().splitlines()
        ['epoch,training_cost', '1,0.5', '2,0.25']
        """
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self._columns)
        writer.writerows(zip(*self._columns.values(), strict=True))
        if path is not None:
            write_bytes(path, text.getvalue().encode())
        return text.getvalue()

    def to_frame(self) -> Any:
        """The table as a pandas data frame; for polars it is ``polars.DataFrame(dict(history))``.

        ImportError without pandas.

        >>> from bpx import History
        >>> History.of({"epoch": [1, 2], "training_cost": [0.5, 0.25]}).to_frame()
           epoch  training_cost
        0      1           0.50
        1      2           0.25
        """
        try:
            import pandas
        except ImportError as error:
            raise not_imported("to_frame needs", "pandas", error) from error
        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        if not self.epochs:
            return "<History: no epoch has ended>"
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"<History of {count}; last: {describe(self.row())}>"

    def plot(
        self,
        path: Any = None,
        *,
        columns: Sequence[str | Sequence[str]] | None = None,
        log: bool = False,
    ) -> Any:
        """The learning curves as a matplotlib figure; see `bpx.plotting.curves`.

        A notebook shows it, and a script writes it: ``history.plot("curve.png")``; `columns`
        chooses others, ``[["|δ¹|", "|δ²|"]]`` two in one panel, and `log` makes the axis
        logarithmic. Training means are taken over an epoch's steps, before each update: in the
        first epochs they lie above those of validation.
        """
        from .plotting import curves

        return curves(self, path, columns=columns, log=log)


def _number(column: str, value: Any) -> float:
    kinds = (int,) if column == "epoch" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"expected numbers in the history's {column}, got {value!r}")
    return value


def _parsed(column: str, cell: str) -> float:
    try:
        return int(cell) if column == "epoch" else float(cell)
    except ValueError:
        raise ValueError(
            f"expected numbers in {shortened(column)}, got {shortened(cell)}"
        ) from None


def brief(row: Mapping[str, float]) -> str:
    """A row in few words, for a bar."""
    parts = []
    for kind, title in (("training", f"epoch {row['epoch']}:"), ("validation", "validation")):
        if f"{kind}_cost" in row:
            part = f"{title} {row[f'{kind}_cost']:.4g}"
            if f"{kind}_accuracy" in row:
                part += f" {100 * row[f'{kind}_accuracy']:.2f}%"
            parts.append(part)
    return ", ".join(parts)


def describe(row: Mapping[str, float]) -> str:
    """A row in words, for a log."""
    parts = [f"epoch {row['epoch']}"]
    for name in ("training", "validation"):
        if f"{name}_cost" in row:
            part = f"{name} cost {row[f'{name}_cost']:.4g}"
            if f"{name}_accuracy" in row:
                part += f", accuracy {100 * row[f'{name}_accuracy']:.2f} %"
            parts.append(part)
    parts += [f"{name} {value:.4g}" for name, value in row.items() if name not in COLUMNS]
    return "; ".join([*parts, f"{row['seconds']:.2f} s"])


class StepLog:
    """What the steps of one epoch left, one row per step; it only grows."""

    def __init__(self) -> None:
        self._rows, self._costs, self._count = np.empty((0, 3)), np.empty(0), 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Add further steps: the sums of cost, of right samples and of weight, and maybe Σω²."""
        begin, end = self._count, self._count + len(rows)
        if end > len(self._rows):  # views of what was there before stay as they are
            room = max(end, 2 * begin) - begin
            before = self._rows[:begin] if begin else np.empty((0, rows.shape[1]))
            self._rows = np.concatenate([before, np.empty((room, rows.shape[1]))])
            self._costs = np.concatenate([self._costs[:begin], np.full(room, np.nan)])
        cost, _, weight = rows.T[:3]
        self._rows[begin:end] = rows
        np.divide(cost, weight, out=self._costs[begin:end], where=weight > 0.0)
        self._count = end

    @property
    def rows(self) -> np.ndarray:
        """All of them, (steps, 3) or (steps, 4) of float64."""
        return self._rows[: self._count]

    @property
    def costs(self) -> np.ndarray:
        """The mean cost of each, (steps,) of float64, read-only; NaN where all weights are 0."""
        costs = self._costs[: self._count]
        costs.flags.writeable = False
        return costs
