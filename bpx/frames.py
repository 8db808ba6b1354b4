"""Data frames of pandas, polars and pyarrow: columns go by their names, rows by their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from .categories import (
    Categories,
    Source,
    by_column,
    is_missing,
    is_nothing,
    or_its_source,
    source,
)
from .checks import FILL_IN, as_days, last_word, shortened, warn
from .names import Columns
from .registry import nearest


def names_of(x: Any) -> Columns:
    """The names of the columns of a frame, or of a table on disk; None if there are none.

    A name goes by what it prints, as files keep strings: the year 2019 is "2019". The numbers
    0, 1, ..., k - 1, which pandas gives to columns without names, are none.

    Raises
    ------
    ValueError
        A name occurs twice.
    """
    labels = _labels(x)
    names = tuple(map(str, labels))
    if len(set(names)) < len(names):
        raise _twice(Counter(names).most_common(1)[0][0], "x")
    return names if names and not _are_places(labels) else None


def names_of_targets(y: Any) -> Columns:
    """As `names_of`, but targets of which two have the same name go by their order."""
    names = printed_names(y)
    return names_of(y) if len(set(names)) == len(names) else None


def printed_names(x: Any) -> tuple[str, ...]:
    """The names of a frame's columns as they print, whatever they are; empty if it is no frame."""
    return tuple(map(str, _labels(x)))


def column(k: int, names: Sequence[str] | None) -> str:
    """Column `k` in a message: by its name, if it has one."""
    return f"column {shortened(names[k]) if names else k}"


def targets_by_names(y: Any, columns: Columns, what: str = "y") -> Any:
    """As `by_names`, but a single column may have any name, and others beside are refused."""
    if columns is None or len(columns) < 2:
        return y
    found = by_names(y, columns, what)
    if found is not y and len(printed_names(y)) > len(columns):
        raise ValueError(
            f"{what} has other columns besides the {len(columns)} that the network was trained "
            f"on: {last_word(what)}[list(net.target_columns)]"
        )
    return found


def by_names(x: Any, columns: Columns, what: str = "x") -> Any:
    """`x`, or these columns of a frame in this order; its other columns are left out.

    A column of text gives a column of 1 and 0 for each of its categories that is asked for, as
    `categories.source` calls it.

    Columns that pandas has numbered 0, 1, ... stay as they are, unless all of `columns` are such
    numbers: those of a frame that was cut from such a one.

    Raises
    ------
    ValueError
        A frame lacks one of them, has one twice, or has text that is no category; a table on disk
        has others, or another order.
    """
    if columns is None:
        return x
    labels = _labels(x)
    names = tuple(map(str, labels))
    if hasattr(type(x), "iloc"):  # no array: this is on the way of each prediction
        _check_rows(x, columns, what)
    if not names or names == columns or (_are_places(labels) and not set(columns) <= {*names}):
        return x
    if is_on_disk(x):
        raise ValueError(
            f"{what} on disk has other columns than the network was trained on, or in another "
            "order: open_data(..., columns=net.columns)"
        )
    places = {name: place for place, name in enumerate(names)}  # there may be many thousands
    sources = [source(name, places) for name in columns]
    for name, _ in sources:
        if name not in places:
            raise _missing(name, x, names, columns, what)
        if len(places) < len(names) and names.count(name) > 1:
            raise _twice(name, what)
    if any(category is not None for _, category in sources):
        return _one_hot(x, columns, sources, places, what)
    wanted = [places[name] for name, _ in sources]
    if _is_arrow(x):
        return x.select(wanted)
    # To pandas, a list of names that are True and False is a mask of rows.
    return x.iloc[:, wanted] if hasattr(type(x), "iloc") else x[[labels[k] for k in wanted]]


def _missing(
    name: str, x: Any, names: Sequence[str], columns: Sequence[str], what: str
) -> ValueError:
    """To be raised for a column that x has not, whose columns have these names."""
    told = f"{what} has no column {shortened(name)}{or_its_source(name)}, which the network was "
    told += "trained on"
    kind, known = f"{name.split('_')[0]}_", {*columns}
    of_pandas = "_" in name and hasattr(type(x), "iloc")  # whose get_dummies has made it, maybe
    if of_pandas and any(other.startswith(kind) for other in columns if other != name):
        return ValueError(
            f"{told}; if it is a category that none of these rows has: "
            f"{last_word(what)}.reindex(columns=net.columns, fill_value=0)"
        )
    others = [other for other in names if other not in known]
    hint = nearest(name, others) if others else ""
    code = f"np.asarray({last_word(what)})"
    return ValueError(f"{told}{hint} (to go by their order instead: {code})")


def _one_hot(
    x: Any,
    columns: tuple[str, ...],
    sources: Sequence[Source],
    places: Mapping[str, int],
    what: str,
) -> Any:
    """A frame of the same library with these columns of numbers, and of 1 and 0 for categories."""
    known = by_column(sources, what)
    given = {name: _column(x, places[name]) for name, _ in sources}
    numbers = {name: _numbered(given[name], each, name, what) for name, each in known.items()}
    found: dict[str, Any] = {}
    for called, (name, category) in zip(columns, sources, strict=True):
        if category is None:
            found[called] = given[name]
        else:
            found[called] = numbers[name] == known[name].place(category)
    if _is_arrow(x):
        return type(x).from_pydict(found)
    if not hasattr(type(x), "iloc"):
        return type(x)(found)
    # A subclass may be made in another way.
    plain = next((cls for cls in type(x).__mro__ if cls.__name__ == "DataFrame"), type(x))
    return plain(found, index=x.index)


def _column(x: Any, place: int) -> Any:
    """A column of a frame, as its library has it."""
    if _is_arrow(x):
        return x.column(place)
    return x.iloc[:, place] if hasattr(type(x), "iloc") else x[:, place]


def _numbered(column: Any, known: Categories, name: str, what: str) -> np.ndarray:
    """The numbers of the categories in a column of text.

    Raises
    ------
    ValueError
        A value that is no text, none of the categories, or missing.
    """
    values = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    texts = {value for value in values if isinstance(value, str)}
    named = set(known.names)
    try:
        there = [text for text in texts if text.strip() in named or not is_missing(text)]
        numbers = {text: known.number(text) for text in there}
    except ValueError as error:
        raise ValueError(f"{what}, column {shortened(name)}: {error}") from None
    for row, value in enumerate(values):
        if isinstance(value, str) and value in numbers:
            continue
        hint = FILL_IN
        if not isinstance(value, str) and not is_nothing(value):
            given = f"{last_word(what)}[{name!r}]" if hasattr(column, "astype") else ""
            hint = _to_text(values, known.names, name, given)
        raise ValueError(
            f"{what}, column {shortened(name)}: expected text, one of the categories, got "
            f"{shortened(value)} in row {row}: {hint}"
        )
    return np.array([numbers[value] for value in values], np.float64)


def _to_text(values: Sequence[Any], known: Sequence[str], name: str, given: str) -> str:
    """What makes text, as it is `known`, of a column's values; `given` is a column of pandas.

    Numbers have lost zeros before them, and may have got a point: 01307 is 1307, or 1307.0.
    """
    width, wanted = max(map(len, known)), set(known)

    def whole(value: Any) -> str:
        if not isinstance(value, str) and int(value) != value:  # which astype(int) would cut
            raise ValueError
        return str(int(value))

    for code, text in (
        (".astype(str)", str),
        (".astype(int).astype(str)", whole),
        (f".astype(int).astype(str).str.zfill({width})", lambda value: whole(value).zfill(width)),
    ):
        with suppress(ValueError, TypeError, OverflowError):
            if given and {text(value).strip() for value in values} <= wanted:
                return f"{given}{code} makes text of it"
    return (
        f"it was text in training, such as {shortened(known[0])}, so read it as text (pandas: "
        f"read_csv(path, dtype={{{name!r}: str}}))"
    )


def rows_of(frame: Any, rows: np.ndarray) -> Any:
    """Some rows of a frame, by their places: a frame of the same library."""
    if _is_arrow(frame):
        return frame.take(rows)
    if not hasattr(type(frame), "iloc"):
        return frame[rows]
    return frame.iloc[rows].reset_index(drop=True)  # those of y may be numbered otherwise


def _twice(name: str, what: str) -> ValueError:
    return ValueError(
        f"expected a different name for each column of {what}, got two that print as "
        f"{shortened(name)}: rename one of them, or go by their order: "
        f"np.asarray({last_word(what)})"
    )


def check_no_dates(x: Any, what: str) -> None:
    """TypeError for a frame with dates or durations, which NumPy may take for plain numbers."""
    labels = _labels(x)
    if not labels:
        return
    kinds = [*(x.schema.types if _is_arrow(x) else x.dtypes)]
    # Apart by identity: many columns share a dtype, and hashing one hashes all its categories.
    for kind in {id(kind): kind for kind in kinds}.values():
        if str(kind).lower().startswith(("date", "time", "duration")):
            label = labels[kinds.index(kind)]
            raise TypeError(
                f"{what} must be real numbers (floats, integers or booleans), got {kind} in "
                f"column {shortened(str(label))}{_in_days(x, label, str(kind), last_word(what))}"
            )


def check_numbered(x: Any, columns: Sequence[int] | None, what: str) -> None:
    """TypeError for text of pandas in a column that goes to an `Embedding`; None: all columns."""
    labels = _labels(x) if _index(x) is not None else ()
    for k in range(len(labels)):
        if columns is not None and k not in columns:
            continue
        found, code = x.iloc[:, k], f"{last_word(what)}[{labels[k]!r}]"
        category = str(found.dtype) == "category"
        values = found.cat.categories if category else found if found.dtype.kind == "O" else ()
        if not any(isinstance(value, str) for value in values):
            continue
        code = f"{code}.cat.codes" if category else f"pandas.factorize({code})[0]"
        raise TypeError(
            f"{what} has text in column {shortened(str(labels[k]))}, which goes to an Embedding: "
            f"number its values, {code}, and those of later data in the same way"
        )


def _in_days(x: Any, label: Any, kind: str, name: str) -> str:
    """What makes numbers of a frame's column of dates; empty for times of a day."""
    if kind.lower().startswith("time") and not kind.lower().startswith(("timestamp", "timedelta")):
        return ""
    array = f"{name}.to_pandas()[{label!r}]" if _is_arrow(x) else f"{name}[{label!r}]"
    if type(x).__module__.startswith("polars"):
        return f"; as days, for example: ({array} - {array}.min()).dt.total_seconds() / 86400"
    return as_days(array)


def _check_rows(x: Any, columns: tuple[str, ...], what: str) -> None:
    """ValueError for a row of pandas with text, of which NumPy would make an array of objects."""
    if not is_named_row(x):
        return
    there = set(map(str, x.index))
    if any(source(name, there)[1] is not None for name in columns):
        raise ValueError(
            f"expected {what} to have rows, got one row of a frame: {last_word(what)}.to_frame().T"
        )


def is_named_row(x: Any) -> bool:
    """Whether it is a row of a pandas frame whose columns have names."""
    labels = _index(x) if getattr(x, "ndim", 0) == 1 else None
    return labels is not None and not _are_places(tuple(labels.tolist()))


def check_order(x: Any, what: str = "", **others: Any) -> None:
    """ValueError if one of `others` has the index of pandas' `x` in another order.

    Rows go by their place. Other labels are a RuntimeWarning, unless they are pandas' 0, 1, ... on
    one side, which say nothing about it.
    """
    labels = _index(x)
    if labels is None:
        return
    for name, other in others.items():
        found = _index(other)
        if found is None or len(found) != len(labels) or labels.equals(found):
            continue
        if labels.is_unique and found.is_unique and found.isin(labels).all():
            raise ValueError(
                f"expected the rows of {what}{name} in the order of {what}x's, got the same index "
                f"labels in another order: {name}.loc[x.index], or {name}.to_numpy() if the "
                "rows belong together as they are"
            )
        if not (_is_default(labels) or _is_default(found)):
            apart = int((~labels.isin(found)).sum())
            hint = f"{name}.to_numpy() if they belong together as they are"
            if labels.is_unique and found.is_unique:
                hint += f", else x, {name} = x.align({name}, join='inner', axis=0)"
            told = f"{apart} of {len(labels)} index labels of {what}x are not among those of"
            if not apart:
                told = f"the index labels of {what}x, some of them twice, are in another order in"
            warn(f"{told} {what}{name}, and rows go by their place: {hint}")


def _is_default(labels: Any) -> bool:
    """Whether they are 0, 1, ..., which pandas gives to rows without names."""
    return type(labels).__name__ == "RangeIndex" and labels.start == 0 and labels.step == 1


def _index(x: Any) -> Any:
    """The index of a pandas frame or series; None for anything else."""
    of_pandas = any(cls.__module__.startswith("pandas.") for cls in type(x).__mro__)
    return getattr(x, "index", None) if of_pandas else None


def _labels(x: Any) -> tuple[Any, ...]:
    """The names of a frame's columns, as the frame has them; empty if it is not a frame."""
    if not (hasattr(type(x), "__array__") or is_on_disk(x)):
        return ()  # an iterable of mini-batches, or a frame that is not computed yet
    names = getattr(x, "column_names" if _is_arrow(x) else "columns", None)
    if names is None or callable(names):
        return ()
    return tuple(names.tolist() if hasattr(names, "tolist") else names)


def _are_places(labels: tuple[Any, ...]) -> bool:
    """Whether they are 0, 1, ..., k - 1: integers, as False and True equal 0 and 1."""
    return set(map(type, labels)) == {int} and labels == tuple(range(len(labels)))


def _is_arrow(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pyarrow"


def is_on_disk(x: Any) -> bool:
    """Whether `bpx.open_data` gave it; its type says so, as a column may have any name."""
    return getattr(type(x), "on_disk", False) is True
