"""What targets call for: a task, a number of outputs, names of classes; for the command line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..architecture import TASKS
from ..checks import shortened
from ..data.readers import Dialect, advice, is_category, numbers_as_text, odd_word
from ..names import Names
from ..registry import unknown
from .dialect import COMMAS
from .samples import Part

LIKE_CLASSES = 20  # different whole numbers, at most
RARE = 10  # times as many samples would an even share of the classes have


def by_classes(
    parts: list[Part], names: Names | None, task: str, own: Sequence[bool]
) -> tuple[list[Part], Names | None]:
    """The parts and names of a classification whose labels are other numbers than 0, 1, ...

    The numbers become its classes, and the labels their places. `own`: which of the parts are
    split from the data; ValueError if another one has a label that these have not.
    """
    y = np.concatenate([y for (_, y), is_own in zip(parts, own, strict=True) if is_own])
    if task != "classification" or not _are_whole(y):
        return parts, names
    classes = np.unique(y)
    for what, (_, labels) in zip(("training", "validation", "test"), parts, strict=True):
        if len(strange := np.setdiff1d(labels, classes)):
            raise ValueError(
                f"the {what} samples have the label {strange[0]}, which the data have not: "
                f"{', '.join(map(str, classes[:40]))}"
            )
    if np.array_equal(classes, np.arange(len(classes))):
        return parts, names
    names = (names or Names())._replace(classes=tuple(classes.tolist()))
    return [(x, np.searchsorted(classes, y)) for x, y in parts], names


def task(
    parts: list[Part], asked: str | None, names: Names | None, dialect: Dialect = COMMAS
) -> tuple[str, int, str | None]:
    """The task and the number of outputs that targets call for, and what is in doubt there."""
    y = np.concatenate([y for _, y in parts])
    if names is not None and names.classes is not None:
        return "classification", _of_names(names, len(y), asked, dialect), None
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
        return "classification", _outputs(y, "classification"), _may_be_counts(y, len(few))
    doubt = (
        f"the targets are {len(few)} different whole numbers from {few[0]} to {few[-1]}, which "
        "are learned as quantities; if they are classes, pass --task classification"
    )
    return "regression", _outputs(y, "regression"), doubt if len(few) <= LIKE_CLASSES else None


def _may_be_counts(y: np.ndarray, k: int) -> str | None:
    """What is in doubt about k classes, of which the rarest may be the large numbers of a few."""
    if k == 2 or np.bincount(y.astype(np.intp)).min() * RARE * k >= len(y):
        return None
    return (
        f"the targets are the whole numbers from 0 to {k - 1}, which are learned as classes, and "
        "some are rare; if they are counts, or other quantities, pass --task regression"
    )


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


def _of_names(names: Names, n: int, asked: str | None, dialect: Dialect) -> int:
    """How many classes a column of text has, in n rows."""
    classes = [str(name) for name in names.classes or ()]
    if asked != "classification":
        _check_words(classes, _column(names), dialect)
    if asked not in (None, "classification"):
        raise ValueError(
            f"--task {asked} needs numbers, and the targets are text, such as "
            f"{shortened(classes[0])}"
        )
    if not 2 <= len(classes) <= n / 2:
        raise ValueError(
            f"expected names of classes, at least two and at most {n // 2} in {n} rows, got "
            f"{len(classes)} different texts, such as {shortened(classes[0])}: name another "
            f"column with --target{numbers_as_text(classes, _column(names), dialect)}"
        )
    return len(classes)


def _column(names: Names) -> str:
    """The name of the single target."""
    return (names.target_columns or ("y",))[0]


def _check_words(classes: Sequence[str], column: str, dialect: Dialect) -> None:
    """ValueError if most of the targets are numbers, in other marks or beside some words."""
    if (odd := odd_word(classes, dialect)) is None:
        return
    word, unit = odd
    hint = advice(word, column, dialect, unit)
    if not unit and is_category(word, dialect):
        hint = ", and most of the others are numbers: mend such cells, or leave the lines out"
    raise ValueError(
        f"expected numbers, or names of classes, in the targets' column {shortened(column)}, got "
        f"{shortened(word)}{hint}; if these are names, pass --task classification"
    )


def _are_one_hot(y: np.ndarray) -> bool:
    """Whether each row has a 1 in the column of its class, and 0 elsewhere."""
    return y.ndim == 2 and bool((((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1)).all())


def _are_whole(y: np.ndarray) -> bool:
    return y.ndim == 1 and y.dtype.kind in "biu"


def _outputs(y: np.ndarray, task: str) -> int:
    """How many there are, once the targets fit the task."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
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
