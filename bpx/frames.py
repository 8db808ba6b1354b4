"""Data frames of pandas, polars and pyarrow: columns go by their names, rows by their place."""

from __future__ import annotations

from typing import Any

from .checks import last_word, shortened
from .registry import nearest


def names_of(x: Any) -> tuple[str, ...] | None:
    """The names of the columns of a frame, or of a table on disk; None if there are none.

    None too if one is not a string, or occurs twice: such columns go by their order.
    """
    names = _all_names(x)
    different = len(set(names)) == len(names) and set(map(type, names)) == {str}
    return names if different else None


def column(k: int, names: tuple[str, ...] | None) -> str:
    """Column `k` in a message: by its name, if it has one."""
    return f"column {shortened(names[k]) if names else k}"


def by_names(x: Any, columns: tuple[str, ...] | None, what: str = "x") -> Any:
    """`x`, or these columns of a frame in this order; its other columns are left out.

    Raises
    ------
    ValueError
        A frame lacks one of them, or has one twice; a table on disk has others, or another order.
    """
    if columns is None:
        return x
    names = _all_names(x)
    if names == columns or set(map(type, names)) != {str}:
        return x
    if is_on_disk(x):
        raise ValueError(
            f"{what} on disk has other columns than the network was trained on, or in another "
            "order: open_data(..., columns=net.columns)"
        )
    known = set(names)  # there may be many thousands
    for name in columns:
        if name not in known:
            raise ValueError(
                f"{what} has no column {shortened(name)}, which the network was trained on"
                f"{nearest(name, list(names))} (to go by their order instead: "
                f"np.asarray({last_word(what)}))"
            )
        if len(known) < len(names) and names.count(name) > 1:
            raise ValueError(f"{what} has two columns named {shortened(name)}")
    return x.select(list(columns)) if _is_arrow(x) else x[list(columns)]


def check_order(x: Any, what: str = "", **others: Any) -> None:
    """ValueError if one of `others` has the index of pandas' `x` in another order.

    Rows go by their place. Labels that differ, or occur twice, say nothing about it.
    """
    labels = _index(x)
    for name, other in others.items() if labels is not None else ():
        found = _index(other)
        if found is None or len(found) != len(labels) or labels.equals(found):
            continue
        if labels.is_unique and found.is_unique and found.isin(labels).all():
            raise ValueError(
                f"expected the rows of {what}{name} in the order of {what}x's, got the same index "
                f"labels in another order: {name}.loc[x.index], or {name}.to_numpy() if the "
                "rows belong together as they are"
            )


def _index(x: Any) -> Any:
    """The index of a pandas frame or series; None for anything else."""
    of_pandas = any(cls.__module__.startswith("pandas.") for cls in type(x).__mro__)
    return getattr(x, "index", None) if of_pandas else None


def _all_names(x: Any) -> tuple[Any, ...]:
    """The names of a frame's columns, whatever they are; empty if it is not a frame."""
    if not (hasattr(type(x), "__array__") or is_on_disk(x)):
        return ()  # an iterable of mini-batches, or a frame that is not computed yet
    names = getattr(x, "column_names" if _is_arrow(x) else "columns", None)
    if names is None or callable(names):
        return ()
    return tuple(names.tolist() if hasattr(names, "tolist") else names)


def _is_arrow(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pyarrow"


def is_on_disk(x: Any) -> bool:
    """Whether `bpx.open_data` gave it; its type says so, as a column may have any name."""
    return getattr(type(x), "on_disk", False) is True
