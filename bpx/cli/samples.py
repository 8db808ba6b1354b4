"""From data and a few words to samples, their labels and the task, for the command line."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..architecture import TASKS
from ..checks import budget_in_bytes, shortened
from ..data.arrays import generator
from ..data.blocks import Blocks, open_data, open_table
from ..data.readers import TABLES, Dialect
from ..ensemble import Ensemble
from ..names import Names
from ..network import Network
from ..registry import nearest
from . import tables
from .columns import column_names, input_names, target_names
from .dialect import COMMAS

Part = tuple[np.ndarray, np.ndarray]

LIKE_CLASSES = 20  # different whole numbers, at most
BUILT_IN = {"digits": (8, 8), "mnist": (28, 28)}  # data, and what their images are


def parts(
    data: str,
    target: str | None,
    seed: int,
    budget: int | str | None,
    columns: Sequence[str] = (),
    ignored: Sequence[str] = (),
    dialect: Dialect = COMMAS,
) -> tuple[list[Part], Names | None]:
    """(x, y) to train, to validate and to test on; files are split 8 : 1 : 1 at random.

    And the names of a table's columns. What is larger than the budget is trained on in blocks,
    with 10,000 samples held out at most. For `columns` and `ignored` see `input_names`.
    """
    size = tables.BUDGET if budget is None else budget_in_bytes(budget)
    path = Path(data)
    if data in BUILT_IN:
        if target is not None:
            raise ValueError(f"--target is for files; {data} has its own labels")
        if budget is not None:
            raise ValueError(f"--budget is for files; {data} is in memory")
        input_names(path, target, columns, ignored, dialect)  # which are for tables
        dataset = datasets.digits() if data == "digits" else datasets.mnist()
        return [(x, y) for x, y in dataset], None
    if not path.suffix and not path.is_dir():
        raise ValueError(
            f"unknown data {data!r}{nearest(data, list(BUILT_IN))}, or a .npz, .csv or .parquet "
            "file"
        )
    tables.check_file(path)
    of_x = input_names(path, target, columns, ignored, dialect)
    if tables.size(path) > size:
        return _in_blocks(path, target, seed, size, of_x, dialect)
    x, y, names = tables.read(path, target, budget=size, columns=of_x, dialect=dialect)
    assert y is not None
    n = len(x)
    if n < 10:
        raise ValueError(f"expected at least 10 samples in {data}, for three parts, got {n}")
    x = x.reshape(n, -1)  # images as vectors
    if names is not None and not columns:
        _note_numbered_rows(x, names, dialect)
    order = generator(seed).permutation(n)
    cuts = (order[: 8 * n // 10], order[8 * n // 10 : 9 * n // 10], order[9 * n // 10 :])
    return [(x[rows], y[rows]) for rows in cuts], names


def _note_numbered_rows(x: np.ndarray, names: Names, dialect: Dialect) -> None:
    """Rows that are sorted by their class have it in their numbers."""
    columns = names.columns or ()
    for k in np.flatnonzero(np.diff(x[:2].astype(np.float64), axis=0)[0] == 1):
        values = x[:, k].astype(np.float64)
        if values[0] % 1 == 0 and (np.diff(values) == 1).all():
            logging.getLogger("bpx").info(
                f"note: column {shortened(columns[k])} rises by 1 from row to row, as numbers of "
                f"the rows do: {dialect.without(columns[k])} leaves it out"
            )


def _in_blocks(
    path: Path,
    target: str | None,
    seed: int,
    budget: int,
    columns: Sequence[str] | None,
    dialect: Dialect,
) -> tuple[list[Part], Names | None]:
    samples = _opened(path, target, budget, dialect, columns=columns)
    samples.flatten()
    draw, few = generator(seed), min(samples.n // 10, 10_000)
    rest, test = samples.hold_out(few, draw)
    rest, validation = rest.hold_out(few, draw)
    return [(_without_y(rest), rest.y), validation, test], samples.names


def _opened(
    path: Path,
    target: str | None,
    budget: int,
    dialect: Dialect,
    labelled: bool = True,
    columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Blocks:
    if path.suffix.lower() in TABLES:
        if labelled and target is None:
            raise ValueError(
                f"{path} is larger than the budget, and so is read in blocks: name the column of "
                "its targets with --target"
            )
        targets = target_names(path, target, columns, column_names(path, dialect))
        return open_table(
            [path], dialect, budget, targets=targets, columns=columns, classes=classes
        )
    samples = open_data(path, target=target, budget=budget)
    if labelled and samples.y is None:
        raise ValueError(
            f"{path} is read in blocks, and has no targets: name with --target the array of a "
            ".npz, if it is not y"
        )
    return samples


def _without_y(data: Blocks) -> Blocks:
    return Blocks(data.reader, None, None, data.budget, data.kept)


def of_file(
    net: Network | Ensemble,
    path: Path,
    target: str | None,
    budget: int | str | None,
    dialect: Dialect = COMMAS,
    *,
    labelled: bool = True,
) -> tuple[Any, Any]:
    """x as the network takes it, and y, of all samples in a file.

    What is larger than the budget is read in blocks. Of a table x are the columns that the network
    was trained on, by their names, and y those that it has learned, where `target` names no other.
    """
    tables.check_file(path)
    columns, is_table = net.columns, path.suffix.lower() in TABLES
    if labelled and is_table:
        target = _targets(net, path, target, dialect)
    size = tables.BUDGET if budget is None else budget_in_bytes(budget)
    known = _names_of_classes(net) if labelled else None
    if tables.size(path) > size:
        data = _opened(path, target, size, dialect, labelled, columns, known)
        if len(net.input_shape) == 1:
            data.flatten()
        if labelled:
            _check_names(path, data.classes, known)
        return _without_y(data), _labels(net, data.y, path) if labelled else None
    x, y, names = tables.read(
        path, target, labelled=labelled, budget=size, columns=columns, classes=known,
        dialect=dialect,
    )  # fmt: skip
    if labelled and names is not None:
        _check_names(path, names.classes, known)
    return shaped(net, x), _labels(net, y, path) if labelled else None


def _targets(
    net: Network | Ensemble, path: Path, target: str | None, dialect: Dialect
) -> str | None:
    """Several targets in the order in which the network has learned them."""
    learned = net.target_columns
    if learned is None or (target is not None and len(learned) == 1):
        return target
    if target is None:
        return ",".join(learned)
    asked = target_names(path, target, net.columns, column_names(path, dialect))
    if {*asked} != {*learned}:
        raise ValueError(
            f"the network has learned the targets {','.join(learned)}, and --target names "
            f"{target}: leave it out"
        )
    return ",".join(learned)


def _names_of_classes(net: Network | Ensemble) -> tuple[str, ...] | None:
    names = tuple(name for name in net.classes or () if isinstance(name, str))
    return names or None


def _labels(net: Network | Ensemble, y: Any, path: Path) -> Any:
    """y, or if the network's classes are integers, the labels that stand for them there."""
    numbers = np.array([name for name in net.classes or () if not isinstance(name, str)], np.int64)
    if not len(numbers) or np.ndim(y) != 1:
        return y
    order = np.argsort(numbers)
    places = np.searchsorted(numbers, y, sorter=order).clip(max=len(numbers) - 1)
    wrong = numbers[order[places]] != y
    if wrong.any():
        raise ValueError(
            f"{path}: {np.asarray(y)[wrong][0]} is not one of the network's classes: "
            f"{', '.join(map(str, numbers[:40]))}"
        )
    return order[places]


def _check_names(path: Path, got: tuple[str, ...] | None, known: tuple[str, ...] | None) -> None:
    """ValueError if targets are names that the network does not know."""
    if got and not known:
        raise ValueError(
            f"{path}: the targets are names of classes, such as {shortened(got[0])}, and the "
            "network has none: number them 0, 1, 2, ... as in its training"
        )


def shaped(net: Network | Ensemble, x: np.ndarray) -> np.ndarray:
    """Samples as the network takes them: images as vectors, if the number of elements fits."""
    fits = math.prod(x.shape[1:]) == math.prod(net.input_shape)
    return x.reshape(-1, *net.input_shape) if fits else x


def some_of(parts: list[Part]) -> np.ndarray:
    """Inputs in memory, for their shape, mean and deviation."""
    return parts[1 if isinstance(parts[0][0], Blocks) else 0][0]


def by_classes(
    parts: list[Part], names: Names | None, task: str
) -> tuple[list[Part], Names | None]:
    """The parts and names of a classification whose labels are other numbers than 0, 1, ...

    The numbers become its classes, and the labels their places.
    """
    y = np.concatenate([y for _, y in parts])
    classes = np.unique(y) if task == "classification" and _are_whole(y) else np.zeros(0)
    if np.array_equal(classes, np.arange(len(classes))):
        return parts, names
    names = (names or Names())._replace(classes=tuple(classes.tolist()))
    return [(x, np.searchsorted(classes, y)) for x, y in parts], names


def task(parts: list[Part], asked: str | None, names: Names | None) -> tuple[str, int, str | None]:
    """The task and the number of outputs that targets call for, and what is in doubt there."""
    y = np.concatenate([y for _, y in parts])
    if names is not None and names.classes is not None:
        return "classification", _of_names(names.classes, len(y), asked), None
    if asked is not None:
        return asked, _outputs(y, asked), None
    if y.ndim == 2 and ((y == 0) | (y == 1)).all():
        return _of_marks(y)
    # Whole numbers are labels where they are 0 … k−1, each of them seen, and few.
    few = np.unique(y) if _are_whole(y) else np.zeros(0)
    if not 2 <= len(few) <= len(y) / 2:
        doubt = "all targets are the same, so there is nothing to learn"
        return "regression", _outputs(y, "regression"), doubt if (y == y[0]).all() else None
    if np.array_equal(few, np.arange(len(few))):
        return "classification", _outputs(y, "classification"), None
    doubt = (
        f"the targets are {len(few)} whole numbers from {few[0]} to {few[-1]}, which are learned "
        "as quantities; if they are classes, pass --task classification"
    )
    return "regression", _outputs(y, "regression"), doubt if len(few) <= LIKE_CLASSES else None


def _of_marks(y: np.ndarray) -> tuple[str, int, str]:
    """As `task`, for columns of 0 and 1."""
    k = y.shape[1]
    if _are_one_hot(y):
        doubt = (
            f"each row of the targets has a single 1 in {k} columns, which are learned as classes "
            f"0 to {k - 1}; --task decides otherwise"
        )
        return "classification", k, doubt
    doubt = (
        f"the targets are 0 and 1 in {k} columns, which are learned as quantities; if each means "
        "no or yes, pass --task multilabel"
    )
    return "regression", k, doubt


def _of_names(classes: tuple[str, ...], n: int, asked: str | None) -> int:
    """How many classes a column of text has, in n rows."""
    if asked not in (None, "classification"):
        raise ValueError(
            f"--task {asked} needs numbers, and the targets are text, such as "
            f"{shortened(classes[0])}"
        )
    if not 2 <= len(classes) <= n / 2:
        raise ValueError(
            f"expected names of classes, at least two and at most {n // 2} in {n} rows, got "
            f"{len(classes)} different texts, such as {shortened(classes[0])}: name another "
            "column with --target"
        )
    return len(classes)


def _are_one_hot(y: np.ndarray) -> bool:
    """Whether each row has a 1 in the column of its class, and 0 elsewhere."""
    return y.ndim == 2 and bool((((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1)).all())


def _are_whole(y: np.ndarray) -> bool:
    return y.ndim == 1 and y.dtype.kind in "biu"


def _outputs(y: np.ndarray, task: str) -> int:
    """How many there are, once the targets fit the task."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}{nearest(task, list(TASKS))}")
    if task != "classification":
        return 1 if y.ndim == 1 else y.shape[1]
    if _are_one_hot(y):
        return int(y.shape[1])
    if not _are_whole(y):
        several = "" if y.ndim == 1 else f", got {y.shape[1]} that are not: pass --task multilabel"
        raise ValueError(
            "a classification needs a column of whole numbers or of names, or columns with a "
            f"single 1 in each row{several}"
        )
    k = len(np.unique(y))
    if not 2 <= k <= len(y) / 2:
        raise ValueError(
            f"expected at least two classes, and at most {len(y) // 2} in {len(y)} samples, got "
            f"{k} different numbers: for quantities pass --task regression"
        )
    return k
