"""Data frames of pandas, polars and pyarrow, whose columns go by their names."""

from __future__ import annotations

from typing import Any

from .checks import shortened
from .registry import nearest


def names_of(x: Any) -> tuple[str, ...] | None:
    """The names of a frame's columns, or of a table's on disk; None where there are none.

    Nor are there where one is no string, or one is there twice: such columns go by their order.
    """
    names = x.column_names if _is_arrow(x) else getattr(x, "columns", None)
    if names is None or callable(names):
        return None
    found = tuple(names)
    different = len(set(map(type, found)) | {str}) == 1 and len(set(found)) == len(found)
    return found if found and different else None


def by_names(x: Any, columns: tuple[str, ...] | None, what: str = "x") -> Any:
    """`x`, or of a frame these columns of it in this order; others of it are left out.

    Raises
    ------
    ValueError
        A frame has not all of them, or a table on disk not in this order.
    """
    found = None if columns is None else names_of(x)
    if columns is None or found is None or found == columns:
        return x
    known = set(found)  # there may be many thousands
    for name in columns:
        if name not in known:
            raise ValueError(
                f"{what} has no column {shortened(name)}, of which the network has learned"
                f"{nearest(name, list(found))} (by their order instead: np.asarray({what}))"
            )
    if _is_arrow(x):
        return x.select(list(columns))
    if hasattr(x, "reader"):
        raise ValueError(
            f"{what} is on disk with other columns than the network has learned of, or in another "
            "order: open_data(..., columns=net.columns)"
        )
    return x[list(columns)]


def _is_arrow(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pyarrow"
