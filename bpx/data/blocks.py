"""Data larger than memory: samples on disk, which are read in blocks within a budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Array, Backend
from ..categories import Classes
from ..checks import budget_in_bytes, same_rows, whole
from ..frames import names_of_targets, printed_names
from ..names import Columns, Names
from .arrays import Samples, as_integers, generator, take
from .file_windows import WindowPlan, WindowReader
from .readers import (
    CSV,
    TABLES,
    USUAL,
    Asked,
    CellError,
    Dialect,
    Features,
    Read,
    Reader,
    kind_of,
    load_npy,
    load_npz,
    parts_of,
    reader,
    suffix,
    table,
)
from .values import Indices, check_indices, first_not_finite, not_held

if TYPE_CHECKING:
    from .arrays import Seed
    from .incoming import Incoming

BLOCK = 1 << 20  # bytes: a disk reads blocks of this size about as fast as the whole
BLOCKS = 32  # a window has at least this many, from all over the file
A_ROW = 32  # bytes of a window's row beside x: where it comes from, and its place in the order


class Blocks:
    """Samples whose x is on disk; what `open_data` returns, for `Network.fit` and `evaluate`.

    Attributes
    ----------
    reader : Reader
    y, sample_weight : array or None
        In memory.
    budget : int
        Bytes.
    kept : ndarray or None
        Which of the reader's rows these are, a bool of each; None: all.
    checked : bool
        Whether all of x was found to be finite, or need not be.
    indices : sequence of Indices
        Which numbers of x have to be whole numbers.
    most : float
        The largest number that x may have.
    target_columns : tuple of str or None
        The names of the columns of y, if they have names.
    on_disk : bool
        True; it tells a table from a data frame.
    n : int
    shape : tuple of int
        Of x, (n, ...).
    """

    on_disk = True

    def __init__(
        self,
        reader: Reader,
        y: Any,
        sample_weight: Any,
        budget: int,
        kept: np.ndarray | None = None,
        target_columns: Columns = None,
    ) -> None:
        self.reader, self.y, self.sample_weight, self.budget = reader, y, sample_weight, budget
        self.kept, self.checked = kept, False
        self.indices: Sequence[Indices] = ()
        self.most, self.target_columns = math.inf, target_columns
        self.n = reader.shape[0] if kept is None else int(kept.sum())
        self.shape = self.n, *reader.shape[1:]

    def __repr__(self) -> str:
        size = self.n * self._row / 1e6
        kind = f"{self.shape} of {self.reader.dtype}, {size:,.1f} MB"
        where = "in blocks" if self.reader.name == "ndarray" else "on disk"
        return f"<data {where}, {self.reader.name}: {kind}>"

    def __len__(self) -> int:
        return self.n

    def flatten(self) -> None:
        """Give each sample of x as a vector."""
        self.reader.flatten()
        self.shape = self.n, *self.reader.shape[1:]

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of a table's columns that are x; arrays have none."""
        names = getattr(self.reader, "columns", None)
        return None if names is None else tuple(names)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names that the numbers in y stand for, if its column is text."""
        return next(iter(getattr(self.reader, "classes", {}).values()), None)

    @property
    def names(self) -> Names:
        """`columns`, `target_columns` and `classes` together."""
        return Names(self.columns, self.target_columns, self.classes)

    def check_classes(self, known: Sequence[Any] | None, what: str) -> None:
        """ValueError if y numbers the names of classes in another way than `known`."""
        if self.classes and known and self.classes != known:
            raise ValueError(
                f"the numbers in {what}y stand for other class names than the network's, or for "
                "the same in another order: open_data(..., classes=net.classes)"
            )

    @property
    def _row(self) -> int:
        return math.prod(self.shape[1:]) * int(self.reader.dtype.itemsize)

    def hold_out(self, n: int, seed: Seed = None) -> tuple[Blocks, tuple[Any, ...]]:
        """n samples at random, in memory, and the data without them.

        Parameters
        ----------
        n : int
        seed : int, Generator or None

        Returns
        -------
        data : Blocks
        held_out : (x, y) or (x, y, sample_weight)
            For ``fit(data, validation=held_out)``; x alone if the data have no y.

        Examples
        --------
        >>> import numpy as np
        >>> from bpx import open_data
        >>> data = open_data(np.arange(40.0).reshape(20, 2), np.arange(20))
        >>> data, (x, y) = data.hold_out(5, seed=0)
        >>> data.n, x.shape, y.shape
        (15, (5, 2), (5,))
        """
        if whole("n", n) >= self.n:
            raise ValueError(f"expected n < {self.n}, the number of samples, got {n}")
        chosen = np.zeros(self.n, bool)
        chosen[generator(seed).choice(self.n, n, replace=False)] = True
        rows = np.arange(self.n) if self.kept is None else np.flatnonzero(self.kept)
        held, kept = (np.zeros(self.reader.shape[0], bool) for _ in range(2))
        held[rows[chosen]] = kept[rows[~chosen]] = True
        beside = [None if a is None else np.asarray(a) for a in (self.y, self.sample_weight)]
        others = [None if a is None else a[~chosen] for a in beside]
        x = Blocks(self.reader, None, None, self.budget, held).read(finite=False)
        held_out = x, *(a[chosen] for a in beside if a is not None)
        y, weight = others
        rest = Blocks(self.reader, y, weight, self.budget, kept, self.target_columns)
        return rest, held_out

    def fits(self, extra: int) -> bool:
        """Whether all rows fit into the budget, with `extra` bytes each beside x."""
        return self.n * (self._row + 2 * extra + A_ROW) + self.reader.beside <= self.budget

    def read(self, finite: bool = True) -> np.ndarray:
        """All of x."""
        x = np.empty(self.shape, self.reader.dtype)
        borders = self._borders(self.reader.shape[0])
        room = np.empty((int(np.diff(borders).max()), *self.shape[1:]), self.reader.dtype)
        at = 0
        with self.reader.opened() as read:
            for k, (start, stop) in enumerate(pairwise(borders.tolist())):
                inside = self.inside(start, stop)
                if len(inside) == stop - start:
                    self.read_block(read, k, start, x[at : at + len(inside)], finite)
                elif len(inside):
                    self.read_block(read, k, start, room[: stop - start], finite)
                    x[at : at + len(inside)] = room[inside]
                at += len(inside)
        return x

    def in_order(self, backend: Backend, extra: int) -> Iterator[tuple[Array, slice]]:
        """Pieces of x on a backend, in the file's order, and which samples each of them has.

        They stay within the budget, with `extra` bytes per sample beside x; each is good until the
        next one is asked for.
        """
        if self.fits(extra):
            yield backend.from_host(self.read(not self.checked)), slice(0, self.n)
            self.checked = True
            return
        plan = self.plan(1, extra)
        shape = plan.capacity, *self.shape[1:]
        slots = [backend.slot(shape, self.reader.dtype) for _ in range(2)]
        first = 0
        with closing(WindowReader(self, plan, slots, None, not self.checked).windows()) as windows:
            for window in windows:
                rows = slice(first, first + len(window.order))
                all_rows = len(window.order) == len(window.rows)
                if len(window.order):
                    yield window.x if all_rows else take(window.x, window.order), rows
                first = rows.stop
        self.checked = True

    def checking(self, indices: Sequence[Indices], most: float, finite: bool = True) -> Blocks:
        """The same, with what a network checks: `indices`, and `most` if that is asked for."""
        dtype = self.reader.dtype
        wide = dtype.kind == "f" and most < float(np.finfo(dtype).max)
        if finite and not indices and not wide:
            return self
        twin = copy.copy(self)
        twin.checked, twin.indices, twin.most = not finite, indices, most
        return twin

    def check_targets(self, y: Any, columns: Columns, what: str) -> None:
        """ValueError if its targets are others than `columns`, or in another order.

        Those of a frame `y` are found by their names.
        """
        of_data = self.target_columns if not printed_names(y) else None
        if of_data and columns and len(of_data) > 1 and of_data != columns:
            raise ValueError(
                f"the targets of {what}x on disk are other columns than the network was trained "
                f"on, or in another order: open_data(..., target={[*columns]})"
            )

    def complete(self, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """y and the weights: those of the data, or those given with them.

        Raises
        ------
        ValueError
            There are none, or two.
        """
        for what, given, own in (
            ("y", y, self.y),
            ("sample_weight", sample_weight, self.sample_weight),
        ):
            if given is not None and own is not None:
                raise ValueError(
                    f"the data already has {what}: open it without, or leave {what} out here"
                )
        y = self.y if y is None else y
        if y is None:
            raise ValueError(
                "the data has no y: use open_data(x, y), open_data(..., target=) or fit(data, y)"
            )
        return y, self.sample_weight if sample_weight is None else sample_weight

    def inside(self, start: int, stop: int) -> np.ndarray:
        """Which of the reader's rows from `start` on these are, counted from there."""
        return np.arange(stop - start) if self.kept is None else self.kept[start:stop].nonzero()[0]

    def read_block(self, read: Read, k: int, start: int, out: np.ndarray, finite: bool) -> None:
        """Read block `k`, which begins at row `start`; an error names the block."""
        stop = start + len(out)
        where = f"{self.reader.name}, block {k} (rows {start} to {stop - 1})"
        try:
            read(start, stop, out)
        except CellError as error:
            raise ValueError(f"{self.reader.name}: {error}") from None
        except Exception as error:  # of any library's array
            raise OSError(f"{where} could not be read: {error}") from error
        check_indices(out, self.indices, where, self, start)
        row = first_not_finite(out, self.most) if finite else None
        if row is not None:
            name, own = self.reader.place(start + row)
            if name != self.reader.name:
                where, start = name, own - row
            raise not_held(out, row, where, self.columns, self.most, start)

    def plan(self, batch_size: int, extra: int) -> WindowPlan:
        """How epochs go through the rows within the budget, as in `fits`.

        Raises
        ------
        ValueError
            The budget is too small for two windows.
        """
        a_row = 2 * (self._row + extra + A_ROW)
        # y and the weights are in memory as they came, and once more as checked.
        fixed = 2 * self.n * extra + self.reader.beside
        capacity = (self.budget - fixed) // a_row
        window = capacity - batch_size + 1
        borders = self._borders(max(window, 1))
        largest = int(np.diff(borders).max())
        least = max(batch_size, largest)
        if window < least:
            hint = f"pass a budget of at least {fixed + a_row * (least + batch_size)} bytes"
            if largest > batch_size and self.reader.smaller:
                hint += f", or {self.reader.smaller}"
            beside = f" besides {fixed} bytes for y and for reading" if fixed else ""
            raise ValueError(
                f"a budget of {self.budget} bytes holds {max(window, 0)} rows in each of two "
                f"windows{beside}, expected {least}, the largest block or mini-batch: {hint}"
            )
        counts = np.diff(borders)
        if self.kept is not None:
            counts = np.add.reduceat(self.kept, borders[:-1], dtype=np.int64)
        return WindowPlan(borders, counts, capacity, batch_size)

    def _borders(self, window: int) -> np.ndarray:
        """Where blocks begin, and n."""
        if self.reader.borders is not None:
            return self.reader.borders
        most, chunk = window // BLOCKS, self.reader.chunk
        rows = max(1, min(BLOCK // self._row, most))
        if chunk <= most:
            rows = -(-rows // chunk) * chunk
        n = self.reader.shape[0]
        return np.append(np.arange(0, n, rows), n)


def bytes_of_a_row(held: Sequence[Array | None]) -> int:
    """Bytes per row held in memory beside x, at 8 per number."""
    return sum(8 * math.prod(array.shape[1:]) for array in held if array is not None)


def in_memory(samples: Samples | Incoming, backend: Backend) -> Iterator[Samples]:
    """Samples as they are, those on disk piece by piece, or mini-batches as they come."""
    if not isinstance(samples, Samples):
        for batch in samples:
            yield from in_memory(batch, backend)
        return
    if not isinstance(samples.x, Blocks):
        yield samples
        return
    extra = bytes_of_a_row((samples.y, samples.weight))
    for x, rows in samples.x.in_order(backend, extra):
        yield Samples(x, *samples.beside(rows))


def open_data(
    x: Any,
    y: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    sample_weight: Any = None,
    separator: str | None = None,
    decimal: str = ".",
    budget: int | str = "1 GB",
) -> Blocks:
    """Data on disk for `Network.fit`, which reads x in blocks and stays within a budget.

    ``net.fit(data)`` then does what ``net.fit(x, y)`` does for arrays: the same number of steps,
    of the same sizes. With ``shuffle=True`` an epoch deals the blocks (of 1 MB or less; in Parquet
    the row groups) out to windows, each from all over the file, and shuffles the rows of each
    window; a window is nearly half of the budget. Data that fit into the budget are read as a
    whole.

    Parameters
    ----------
    x : path, array, or a list of them
        A .npy file, an uncompressed .npz (array ``x``), a .parquet file, or a .csv, .tsv or .tab
        file with a line of names; a memory map; or anything with ``shape`` and slices, such as an
        array of HDF5 or Zarr. Of a list, or a folder, whose files are taken in the order of their
        names, the rows come one after another. It is read on another thread.
    y : array, path or list of paths, optional
        Labels (n,) or targets (n, k), or .npy files of them, or a folder of such files; held in
        memory.
    target : str or list of str, optional
        Instead of y: columns of the table, or the array's name in a .npz, by default ``"y"``.
    columns : list of str, optional
        Columns of the table that are x; by default all but the target and the weights. Of a column
        of text, each of its values, ``"city=Bern"``, is a one-hot input, 1 or 0. In a .csv, names
        that are all numbers (2019,2020) have to be given: else they are taken for a row.
    classes : list of str, optional
        The names in a target column of text, in the order of their numbers 0, 1, ...; by default
        those found there, in sorted order. ``data.classes`` has them, and `fit` passes them to the
        network.
    sample_weight : array, path or str, optional
        (n,); for a table, the name of a column.
    separator : str, optional
        What is between the cells of a .csv file; by default ``","``, and in a .tsv or .tab a tab,
        ``"\\t"``.
    decimal : str
        The decimal mark in a .csv file, ``"."`` (default) or ``","``.
    budget : int or str
        Bytes, or words such as ``"500 MB"`` (the default is ``"1 GB"``): for both windows, y and
        the weights; not for the network. `fit`, which knows the size of a mini-batch, raises
        ValueError if it is too small.

    Returns
    -------
    Blocks
        For ``net.fit(data)``, or ``net.fit(data, y)`` if it has no y.

    Raises
    ------
    ValueError, TypeError
        No such file, a damaged, truncated or compressed one, no such column, or not numbers.
    ImportError
        Parquet and CSV need pyarrow.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile, pathlib, bpx
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.npy"
    >>> np.save(path, np.zeros((1000, 20), np.float32))
    >>> data = bpx.open_data(path, np.arange(1000) % 2, budget="60 kB")
    >>> data.n
    1000
    >>> history = bpx.Network([20, 2], seed=0).fit(data, epochs=2, batch_size=32)
    """
    if printed_names(x):
        raise TypeError(
            f"expected a path, or an array with shape and slices, got a {type(x).__name__}, which "
            "is in memory: pass it to fit itself"
        )
    size = budget_in_bytes(budget)
    dialect = Dialect("," if separator is None else separator, decimal)
    targets = [target] if isinstance(target, str) else list(target or ())
    if y is not None and targets:
        raise ValueError("y and target= both say what the targets are: pass one of them")
    parts = parts_of(x)
    kind = kind_of(parts)
    if separator is None:
        dialect = Dialect(USUAL.get(kind, ","), decimal)
    if kind not in CSV and dialect != Dialect():
        raise ValueError(
            f"separator= and decimal= are for a .csv file, got {kind or type(x).__name__}"
        )
    if kind in TABLES:
        return open_table(
            parts, dialect, size, y=y, targets=targets, features=Features(columns),
            classes=classes, sample_weight=sample_weight,
        )  # fmt: skip
    if columns is not None or classes is not None or (targets and kind != ".npz"):
        raise ValueError(
            "target=, columns= and classes= are for a .parquet or .csv file, and target= for a "
            ".npz too; here pass y, an array or a .npy file"
        )
    if len(targets) > 1:
        raise ValueError(f"the targets of a .npz are one array, got {', '.join(targets)}")
    if "x" in targets:
        raise ValueError("the array x of a .npz are the samples, and target= names another one")
    if kind == ".npz" and y is None:
        found = [load_npz(Path(part), targets, [] if targets else ["y"], size) for part in parts]
        if missing := [part for part, arrays in zip(parts, found, strict=True) if not arrays]:
            if len(missing) < len(parts):
                raise ValueError(f"{missing[0]} has no array 'y', which other files have")
        else:
            y = _joined(parts, [next(iter(arrays.values())) for arrays in found])
    return _blocks(reader(x), y, sample_weight, size)


def open_table(
    parts: Sequence[Any],
    dialect: Dialect,
    budget: int,
    *,
    targets: Sequence[str],
    features: Features,
    classes: Sequence[str] | None,
    y: Any = None,
    sample_weight: Any = None,
) -> Blocks:
    """As `open_data`, for .parquet or .csv files."""
    weights = [sample_weight] if isinstance(sample_weight, str) else []
    if classes is not None and len(targets) != 1:
        raise ValueError("classes= are the classes of one column: name it with target=")
    text = {name: Classes(classes) for name in targets if len(targets) == 1}
    read = table(parts, Asked([*targets, *weights], features, budget, text, dialect))
    if targets:
        y = as_integers(np.column_stack([read.held[name] for name in targets]))
    if weights:
        sample_weight = read.held[weights[0]]
    return _blocks(read, y, sample_weight, budget, tuple(targets))


def _blocks(
    opened: Reader, y: Any, sample_weight: Any, budget: int, targets: tuple[str, ...] = ()
) -> Blocks:
    """ValueError if there are not as many targets or weights as rows."""
    names, n = targets or names_of_targets(y), opened.shape[0]
    held = {"y": _held(y), "sample_weight": _held(sample_weight)}
    for what, given in held.items():
        if hasattr(given, "__len__") and np.ndim(given):
            same_rows(what, len(given), n)
    return Blocks(opened, held["y"], held["sample_weight"], budget, target_columns=names)


def _held(array: Any) -> Any:
    """What is held in memory: an array, or all of a .npy file, or of several, or of a folder's."""
    path = isinstance(array, str | PathLike)
    parts = parts_of(array) if path else array
    if isinstance(parts, list | tuple) and parts and all(map(_is_npy, parts)):
        return _joined(parts, [load_npy(Path(part)) for part in parts if suffix(part)])
    if path and suffix(parts[0]):
        raise ValueError(f"expected an array, .npy files or a folder of them, got {array}")
    return array


def _joined(names: Sequence[Any], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One after another; ValueError for rows of different shapes."""
    for name, array in zip(names, arrays, strict=True):
        if array.ndim < 1 or array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"expected targets with rows of one shape, got {arrays[0].shape} from {names[0]}, "
                f"and {array.shape} from {name}"
            )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _is_npy(array: Any) -> bool:
    return isinstance(array, str | PathLike) and Path(array).suffix.lower() == ".npy"
