"""Checks of an array's elements: finite, or whole numbers in a range; block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import Array, get, is_sparse
from ..checks import FILL_IN
from ..frames import column, printed_names

SQUARED_AT_ONCE = 1 << 18  # elements: 1 MB of float32
FEW = 1 << 12  # elements: calls take the time, not arithmetic
CHECKED_AT_ONCE = 1 << 22  # elements: a check needs temporaries of its size


def first_not_finite(array: Any, most: float = math.inf) -> int | None:
    """The first row with NaN, infinity or numbers beyond ±most; None if there is none; no copy.

    Of an array, or a sparse matrix of compressed rows.
    """
    if type(array) is np.ndarray:
        # One prediction takes a few microseconds, and asking the namespace as many.
        if array.dtype.kind != "f":
            return None
        plain = array.dtype.itemsize >= 4 and array.flags.c_contiguous
        if plain and _has_finite_squares(array, most):
            return None
    if is_sparse(array):
        return _row_of(array, first_not_finite(_stored(array), most))
    xp = get(array).xp
    if not xp.isdtype(array.dtype, "real floating"):
        return None
    return _first(array, lambda part: _wrong(xp, part, most))


def _wrong(xp: Any, part: Array, most: float) -> Array:
    """Which elements are NaN, infinite, or beyond ±most."""
    narrow = float(xp.finfo(part.dtype).max) <= most
    return ~xp.isfinite(part) if narrow else ~(xp.abs(part) <= most)


def _has_finite_squares(array: np.ndarray, most: float) -> bool:
    """Whether Σx² is finite, and less than most². If not, elements must be checked.

    BLAS's dot does not warn, makes no temporaries, and takes two thirds of the time of
    `isfinite(array).all()`, half of it for a few elements.
    """
    square = most * most
    if array.size <= SQUARED_AT_ONCE:
        found = float(np.vdot(array, array))  # a Python number of 10⁷⁷ is no float32
        return math.isfinite(found) and found <= square
    flat = array.reshape(-1)
    parts = (flat[k : k + SQUARED_AT_ONCE] for k in range(0, flat.size, SQUARED_AT_ONCE))
    return all(math.isfinite(s) and s <= square for s in (float(np.vdot(p, p)) for p in parts))


@dataclass(frozen=True)
class Indices:
    """Which numbers of each sample are whole numbers from 0, for an `Embedding`.

    Attributes
    ----------
    count : int
        They are below it.
    columns : tuple of int or None
        Their places in the flattened sample; None: all of them.
    """

    count: int
    columns: tuple[int, ...] | None = None

    def of(self, array: Any) -> Any:
        """The columns of an array's rows, or of a sparse matrix's."""
        if self.columns is None:
            return array
        if is_sparse(array):
            return array[:, list(self.columns)]
        backend = get(array)
        places = backend.from_host(np.asarray(self.columns))
        flat = backend.xp.reshape(array, (array.shape[0], -1))
        return backend.xp.take(flat, backend.xp.astype(places, backend.index_dtype), axis=1)


def first_not_index(array: Any, indices: Indices) -> int | None:
    """The first row in which they are anything but whole numbers from 0 to below their count."""
    count = indices.count
    few = type(array) is np.ndarray and 0 < array.size <= FEW
    if few and _are_indices(array, indices):
        return None
    if is_sparse(array):
        chosen = indices.of(array)
        return _row_of(chosen, first_not_index(_stored(chosen), Indices(count)))
    xp = get(array).xp
    if xp.isdtype(array.dtype, "bool"):
        array = xp.astype(array, xp.uint8)
    floats = xp.isdtype(array.dtype, "real floating")
    bounded = not floats and xp.iinfo(array.dtype).max < count

    def wrong(part: Array) -> Array:
        part = indices.of(part)
        found = part < 0
        if not bounded:  # or the dtype has no such number to compare with
            found = found | (part >= count)
        return found | (part != xp.round(part)) if floats else found  # NaN is not itself

    return _first(array, wrong)


def _are_indices(array: np.ndarray, indices: Indices) -> bool:
    """For one prediction, in a fifth of the time."""
    rows = array.reshape(len(array), -1)
    chosen = rows if indices.columns is None else rows[:, indices.columns]
    if not (chosen.min() >= 0 and chosen.max() < indices.count):  # or NaN, which is neither
        return False
    return chosen.dtype.kind in "biu" or bool((chosen == np.rint(chosen)).all())


def _first(array: Array, wrong: Callable[[Array], Array]) -> int | None:
    """The first row in which an element is `wrong`."""
    backend, n = get(array), array.shape[0]
    rows = max(1, CHECKED_AT_ONCE // max(1, math.prod(array.shape[1:])))
    for start in range(0, n, rows):
        bad = wrong(array[start : min(start + rows, n), ...])
        if bool(backend.xp.any(bad)):
            host = backend.to_host(bad).reshape(bad.shape[0], -1)
            return start + int(np.argmax(host.any(axis=1)))
    return None


def _stored(x: Any) -> np.ndarray:
    """The elements of a sparse matrix of compressed rows that are not zero, row by row."""
    return x.data[: x.nnz]  # there may be room for more


def _row_of(x: Any, k: int | None) -> int | None:
    """The row in which the k-th of them is."""
    return None if k is None else int(np.searchsorted(x.indptr, k, side="right")) - 1


def _row(array: Any, row: int) -> Array:
    """A row as an array of one row."""
    return array[[row]].toarray() if is_sparse(array) else array[row : row + 1, ...]


def place(
    array: Any,
    row: int,
    names: Sequence[str] | None = None,
    first: int = 0,
    most: float = math.inf,
) -> str:
    """Where `first_not_finite` is in a row, for a message; rows count from `first`."""
    found, at = f"row {first + row}", _row(array, row)
    if at.ndim != 2 or (at.shape[1] == 1 and not names):
        return found
    backend = get(at)
    wrong = backend.to_host(_wrong(backend.xp, at, most))
    return f"{found}, {column(int(np.argmax(wrong)), names)}"


def check_finite_rows(array: Any, what: str, given: Any = None, most: float = math.inf) -> None:
    """ValueError for NaN, infinity, or numbers beyond ±most, the dtype's of a network.

    `given` is the frame that names the columns.
    """
    row = first_not_finite(array, most)
    if row is not None:
        raise not_held(array, row, what, printed_names(given), most)


def not_held(
    array: Any,
    row: int,
    what: str,
    names: Sequence[str] | None,
    most: float,
    first: int = 0,
) -> ValueError:
    """The error for the row that `first_not_finite` has found; rows count from `first`."""
    where = place(array, row, names, first, most)
    if first_not_finite(_row(array, row)) is not None:
        return ValueError(f"{what} has NaN or infinity, first in {where}: {FILL_IN}")
    return ValueError(
        f"{what} has numbers that float32 does not hold, first in {where}: scale them, or make "
        'the network with dtype="float64"'
    )


def check_indices(
    array: Any, every: Iterable[Indices], what: str, given: Any, first: int = 0
) -> None:
    """ValueError unless all of these are such whole numbers; rows count from `first`.

    `given` is the frame that names the columns.
    """
    for indices in every:
        count, columns = indices.count, indices.columns
        row = first_not_index(array, indices)
        if row is None:
            continue
        at = indices.of(_row(array, row))
        host = get(at).to_host(at).reshape(-1).tolist()
        k = next(k for k, v in enumerate(host) if not (0 <= v < count and v == int(v)))
        where = f"row {first + row}"
        if columns is not None and len(array.shape) == 2:
            where += f", {column(columns[k], printed_names(given))}"
        raise ValueError(
            f"expected whole numbers 0 to {count - 1} in {what} for an Embedding of {count}, got "
            f"{host[k]!r} in {where}: number them from 0, and give rare or unknown ones a number "
            "of their own"
        )
