"""Data frames of pandas, polars and pyarrow, whose columns go by their names."""

from __future__ import annotations

from typing import Any

from .checks import shortened
from .registry import nearest


def names_of(x: Any) -> tuple[str, ...] | None:
    """The names of a frame's columns, or of a table's on disk; None where there are none.

    Nor are there where one is no string, or one is there twice: such columns go by their order.
    """
    names = _all_names(x)
    different = len(set(names)) == len(names) and set(map(type, names)) == {str}
    return names if different else None


def by_names(x: Any, columns: tuple[str, ...] | None, what: str = "x") -> Any:
    """`x`, or of a frame these columns of it in this order; others of it are left out.

    Raises
    ------
    ValueError
        A frame has not all of them, or one twice; a table on disk has others, or another order.
    """
    if columns is None:
        return x
    names = _all_names(x)
    if names == columns or set(map(type, names)) != {str}:
        return x
    if _is_on_disk(x):
        raise ValueError(
            f"{what} is on disk with other columns than the network has learned of, or in another "
            "order: open_data(..., columns=net.columns)"
        )
    known = set(names)  # there may be many thousands
    for name in columns:
        if name not in known:
            raise ValueError(
                f"{what} has no column {shortened(name)}, of which the network has learned"
                f"{nearest(name, list(names))} (by their order instead: np.asarray({what}))"
            )
        if len(known) < len(names) and names.count(name) > 1:
            raise ValueError(f"{what} has two columns {shortened(name)}")
    return x.select(list(columns)) if _is_arrow(x) else x[list(columns)]


def _all_names(x: Any) -> tuple[Any, ...]:
    """Of a frame's columns, whatever they are; none of what is no frame."""
    if not (hasattr(type(x), "__array__") or _is_on_disk(x)):
        return ()  # an iterable of mini-batches, or a frame that is not computed yet
    names = getattr(x, "column_names" if _is_arrow(x) else "columns", None)
    if names is None or callable(names):
        return ()
    return tuple(names.tolist() if hasattr(names, "tolist") else names)


def _is_arrow(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pyarrow"


def _is_on_disk(x: Any) -> bool:
    """It is what `bpx.open_data` gives; asked of its type, as a column may have any name."""
    return getattr(type(x), "on_disk", False) is True
