"""Arrays and memory maps -> checked samples.

Shapes, dtypes and ranges of what a user hands in are checked here, once (`values` looks at the
elements, `frames` at names); the code inside trusts them. The caller's arrays are never shuffled
or written to, and x on the host is never copied whole (unless its byte order is not the
machine's): each mini-batch is gathered as it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..backends import Array, Backend, asarray, get, is_sparse, namespace
from ..checks import FOR_CLASSES, last_word, of_batch, same_rows, shortened, whole
from ..frames import check_numbered, is_named_row, is_on_disk
from .values import Indices, check_finite_rows, check_indices

Seed: TypeAlias = "int | np.random.Generator | None"  # numpy.random is imported where it is used


def check_batch_size(batch_size: int | None, n: int) -> int:
    """The batch size, or for None the smaller of 10 and `n`; ValueError if it is above `n`."""
    if batch_size is None:
        return min(10, n)
    size = whole("batch_size", batch_size)
    if size > n:
        raise ValueError(
            f"expected 1 <= batch_size <= n = {n} samples to train on, got {size}: "
            f"with {n} all are one mini-batch"
        )
    return size


def as_integers(y: np.ndarray) -> np.ndarray:
    """Targets of a table: one column as a vector, and whole numbers as integers."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "f" and y.size and (y == np.round(y)).all() and np.abs(y).max() < 2**53:
        return y.astype(np.int64)
    return y


def _in_code(given: Any, what: str) -> str:
    """The expression, for a message, that makes an array of what was given."""
    name = last_word(what)
    return name if is_sparse(given) else f"{namespace(given)}.asarray({name})"


def check_row_shape(
    got: tuple[int, ...], shape: tuple[int, ...], given: Any, what: str = "x"
) -> None:
    """ValueError unless an array of shape `got` has rows of `shape`, with a remedy.

    The remedy is for what was `given`, from which the array was made, or for data on disk.
    """
    if got[1:] == shape and got:
        return
    remedy = _remedy(got, shape, given, what)
    raise ValueError(f"expected {what} of shape {of_batch(shape)}, got {got}{remedy}")


def check_not_swapped(
    x: Any, y: Any, shape: tuple[int, ...], counts: tuple[int, ...], what: str
) -> None:
    """ValueError if y has rows of `shape`, and x, which has not, is like labels or targets."""
    got, other = getattr(x, "shape", ()), getattr(y, "shape", ())
    if other[1:] != shape or got[:1] != other[:1] or got[1:] == shape or shape == (1,):
        return
    if got[1:] in ((), (1,), *((count,) for count in counts)):
        raise ValueError(
            f"expected {what}x of shape {of_batch(shape)}, got {tuple(got)}, and {what}y is of "
            f"shape {tuple(other)}: are they swapped? x comes first, then y"
        )


def _remedy(got: tuple[int, ...], shape: tuple[int, ...], given: Any, what: str) -> str:
    """What gives rows of `shape`, as the end of a message; empty if nothing is likely to."""
    array, row = _in_code(given, what), ", ".join(map(str, shape))
    if got == shape:
        if is_named_row(given):
            return f": pass one sample as {last_word(what)}.to_frame().T"
        return f": pass one sample as {array}.reshape(1, {row}), and several as one array"
    if len(shape) > 1 and got == (*shape[1:], shape[0]) and not is_on_disk(given):
        moved = f"{namespace(given)}.moveaxis({array}, -1, 0)[None]"
        return f"; channels come first, and one sample is a batch of one: {moved}"
    if len(got) == 1 and shape == (1,):
        return f": {array}.reshape(-1, 1)"
    if len(got) == 2 and got[:1] == shape and not is_on_disk(given):
        return f": a sample is a row here, so pass {array}.T"
    if len(shape) > 1 and sorted(got[1:]) == sorted(shape):
        return _remedy_of_axes(got, shape, given, array)
    if len(got) > 1 and math.prod(got[1:]) == math.prod(shape):
        if is_on_disk(given):
            return f": begin the network with Input({got[1:]}), Reshape({shape})"
        return f": {array}.reshape(-1, {row})"
    return ""


def _remedy_of_axes(got: tuple[int, ...], shape: tuple[int, ...], given: Any, array: str) -> str:
    """The same for rows whose axes are in another order."""
    if got[1:] == (*shape[1:], shape[0]):
        moved = "" if is_on_disk(given) else f": {namespace(given)}.moveaxis({array}, -1, 1)"
        return f"; channels come first{moved}"
    if (*got[2:], got[1]) == shape:
        return f"; channels come first, in the network too: Input({got[1:]})"
    return ""  # a reshape would fit, and mix up rows, columns and channels


def check_x(
    backend: Backend,
    x: Any,
    shape: tuple[int, ...],
    what: str = "x",
    finite: bool = True,
    indices: Sequence[Indices] = (),
    most: float = math.inf,
) -> Array:
    """`x` as an array (m, \\*shape) of real numbers on `backend`, in the dtype in which it came.

    Those of `indices` have to be such whole numbers, whatever `finite` is; with `finite` all have
    to be no more than `most`.

    A memory map stays a memory map, also for a network on a device, and a sparse matrix one of
    compressed rows on the host.

    Raises
    ------
    ValueError
        Rows of another shape, none at all, values that are not finite, or not such whole numbers.
    TypeError
        Not real numbers, or on disk.
    BackendError
        A device array for a backend on the host.
    """
    given, plain = x, type(x) is np.ndarray
    sparse = not plain and is_sparse(x)
    if sparse and len(shape) == 1:
        x = _compressed(x, what)
        if indices and not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()  # their sum is the number
    elif plain or not (isinstance(x, np.memmap) and x.dtype.kind in "biuf"):
        if not plain:
            check_in_memory(x, what)
            for each in indices:
                check_numbered(x, each.columns, what)
        x = asarray(backend, x, what)
    check_row_shape(tuple(x.shape), shape, given, what)
    if x.shape[0] == 0:
        raise ValueError(f"expected at least one sample, got {what} of shape {tuple(x.shape)}")
    if indices:  # others would be read from beyond the weights
        check_indices(x, indices, what, given)
    if finite:
        check_finite_rows(x, what, given, most)
    return x


def check_in_memory(x: Any, what: str = "x") -> None:
    """TypeError for data on disk."""
    if is_on_disk(x):
        raise TypeError(f"expected {what} to be in memory, got {x}: pass data.read()")


def _compressed(x: Any, what: str) -> Any:
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be a sparse matrix of real numbers, got dtype {x.dtype}")
    if x.ndim > 2:
        name = last_word(what)
        raise ValueError(
            f"expected {what} to be a sparse matrix, got a sparse array of shape {x.shape}: "
            f"{name}.reshape(-1, {x.shape[-1]}), or {name}.toarray() for a network that takes it"
        )
    return x.tocsr()


def check_y(
    backend: Backend,
    y: Any,
    m: int,
    outputs: int,
    task: str,
    *,
    counts: tuple[int, ...],
    what: str,
    targets: str = "real",
    finite: bool = True,
    most: float = math.inf,
) -> Array:
    """`y` as labels (m,) of integers, as targets (m, outputs), or fewer, (m, 1, t), on `backend`.

    Those are for a cost with several outputs for each, and `Chain.as_outputs` tiles them, one
    mini-batch at a time.

    Parameters
    ----------
    m, outputs : int
        Rows of x; outputs of the network.
    task : str
        ``"classification"``, ``"multilabel"`` or ``"regression"``.
    counts : tuple of int
        The targets that a sample may have, see `Cost.target_counts`.
    targets : str
        What the cost takes, see `Cost.targets`.
    finite : bool
        Look for NaN, infinity, and numbers beyond ±most.

    Raises
    ------
    ValueError
        Another shape, labels outside the classes, or values that the cost does not take.
    TypeError
        Not real numbers, or labels that are not integers.
    BackendError
        A device array for a backend on the host.
    """
    given = y
    if not (isinstance(y, np.memmap) and y.dtype.kind in "biuf" and backend.name == "numpy"):
        y = asarray(backend, y, what)
    xp = backend.xp
    if y.ndim >= 1:
        same_rows(what, y.shape[0], m)
    integers = xp.isdtype(y.dtype, ("bool", "integral"))
    if y.ndim == 1 and task == "classification":
        if not integers:
            if finite:  # a missing label is not an integer
                check_finite_rows(y, what)
            raise TypeError(
                f"expected integer labels in {what} of shape (m,), got {y.dtype}: "
                f"{namespace(given)}.asarray({last_word(what)}, dtype=int) if they are classes, "
                f"targets of shape (m, {outputs}), "
                'or for a regression a network with output="identity"'
            )
        return _check_labels(backend, y, outputs, what)
    if y.ndim == 1 and 1 in counts:
        y = xp.reshape(y, (m, 1))
    if y.ndim != 2 or y.shape[1] not in counts:
        labels = " or labels (m,)" if task == "classification" else ""
        shapes = [f"(m, {count})" for count in counts] + ["(m,)"] * (1 in counts)
        array, hint = _in_code(given, what), ""
        if counts[0] != outputs:
            hint = f": its cost takes {outputs // counts[0]} outputs for each target"
        if labels and integers and tuple(y.shape) == (m, 1):
            hint = f": {array}.reshape(-1)"
        if integers and not labels and y.ndim == 1:
            hint = f": {FOR_CLASSES}"
        if y.ndim > 2 and y.shape[0] == m and math.prod(y.shape[1:]) in counts:
            hint = f": {array}.reshape(-1, {math.prod(y.shape[1:])}), as the outputs are"
        raise ValueError(
            f"expected {what} of shape {' or '.join(shapes)}{labels}, got {tuple(y.shape)}{hint}"
        )
    if finite:
        check_finite_rows(y, what, given, most)
    _check_range(xp, y, targets, task, what)
    return y if y.shape[1] == outputs else xp.reshape(y, (m, 1, y.shape[1]))


def first_of_several(backend: Backend, y: Array) -> int | None:
    """The first row of checked targets with more than one above ½; None: there is none."""
    xp = backend.xp
    if y.ndim == 1:
        return None
    if not xp.isdtype(y.dtype, "bool"):
        y = y > (0.5 if xp.isdtype(y.dtype, "real floating") else 0)
    ones = xp.astype(y, xp.float32)
    several = xp.vecdot(ones, ones) > 1.0  # faster than a sum along a short axis
    return int(xp.argmax(xp.astype(several, xp.uint8))) if bool(xp.any(several)) else None


def class_count(outputs: int) -> int:
    """The classes that so many outputs tell apart: a single one, of a sigmoid, tells two."""
    return max(outputs, 2)


def _check_labels(backend: Backend, given: Array, outputs: int, what: str) -> Array:
    xp = backend.xp
    classes = class_count(outputs)
    y = xp.astype(given, backend.index_dtype)  # in which large ones of uint64 are negative
    low, high = int(xp.min(y)), int(xp.max(y))
    if low < 0 or high >= classes:
        host = backend.to_host(given)
        row = int(np.argmax((host < 0) | (host >= classes)))
        hint = "number the classes from 0, and give the network an output for each"
        if outputs == 1:
            hint = f'for values, such as prices, make it with output="identity"; else {hint}'
        if outputs == 1 and len(np.unique(host)) == 2:
            hint = "number the two classes 0 and 1"
        raise ValueError(
            f"expected labels 0 to {classes - 1} in {what} for a network with {outputs} "
            f"output{'s' * (outputs > 1)}, got {int(host[row])} in row {row}: {hint}"
        )
    return xp.reshape(y, (y.shape[0], 1)) if outputs == 1 else y


def _check_range(xp: Any, y: Array, targets: str, task: str, what: str) -> None:
    if targets == "real":
        return
    if xp.isdtype(y.dtype, "bool"):
        y = xp.astype(y, xp.uint8)
    low, high = float(xp.min(y)), float(xp.max(y))
    counts = targets == "nonnegative"
    if low < 0.0 or (high > 1.0 and not counts):
        hint = 'real targets need output="identity" and the quadratic cost'
        if task == "multilabel":
            hint = "multilabel takes a column of 0 and 1 for each label"
        raise ValueError(
            f"expected {what} {'>= 0' if counts else 'between 0 and 1'} for this cost and these "
            f"outputs, got {low if low < 0.0 else high:g}: {hint}"
        )
    if targets == "simplex":
        sums = xp.sum(xp.astype(y, xp.float32), axis=1)
        worst = float(xp.max(xp.abs(sums - 1.0)))
        if worst > 1e-3:
            several = bool(xp.all((y == 0) | (y == 1)))
            hint = ': for several labels a sample, output="sigmoid" and task="multilabel"'
            raise ValueError(
                f"this cost expects rows of {what} that sum to 1, got one off by {worst:g}"
                f"{hint if several else ''}"
            )


def check_weight(
    backend: Backend,
    weight: Any,
    m: int,
    dtype: Any,
    finite: bool,
    allow_zero: bool,
    what: str,
) -> Array:
    """`weight` as an array (m,) of `dtype`, not negative, and not all zero unless `allow_zero`.

    Subnormal ones are 0: of a mini-batch with no others 1/Σw might be infinite.

    Raises
    ------
    ValueError
        Another shape, a weight that is negative or not finite, only zeros, or a sum that is very
        large or small.
    """
    if isinstance(weight, dict | str | float | int):
        of_classes = "np.array([1.0, 5.0])[y] are those of classes"
        # As the book's total_cost(data, lmbda) is called.
        penalty = f"a penalty is l2={weight}, of fit and total_cost"
        raise TypeError(
            f"expected {what} as an array, a weight for each sample, got {shortened(weight)}: "
            f"{penalty if isinstance(weight, float | int) else of_classes}"
        )
    xp, given, weight = backend.xp, weight, asarray(backend, weight, what)
    precision = "float32" if dtype == xp.float32 else "float64"
    if tuple(weight.shape) != (m,):
        hint = f": {_in_code(given, what)}.reshape(-1)" if tuple(weight.shape) == (m, 1) else ""
        raise ValueError(f"expected {what} of shape ({m},), got {tuple(weight.shape)}{hint}")
    if finite:
        check_finite_rows(weight, what)
    with np.errstate(over="ignore", invalid="ignore"):  # the sum tells
        weight = xp.astype(weight, dtype)
        total = float(xp.sum(weight)) if finite else 0.0
    if bool(xp.any(weight < 0)):
        raise ValueError(f"expected {what} >= 0, got a negative one")
    if not allow_zero and not bool(xp.any(weight > 0)):
        raise ValueError(f"expected a positive {what}, got only zeros (in {precision})")
    most = 1e30 if precision == "float32" else 1e300  # times a cost it has to be finite, as 1/sum
    least = 0.0 if allow_zero else 1.0 / most
    if total and not least <= total <= most:
        raise ValueError(
            f"expected {what} with a sum between {1.0 / most:g} and {most:g}, got {total:.3g} in "
            f"{precision}: divide it by its mean, since only ratios matter"
        )
    return xp.where(weight < xp.finfo(dtype).smallest_normal, xp.zeros_like(weight), weight)


@dataclass(frozen=True)
class Samples:
    """Checked x, y and weights of n samples.

    Attributes
    ----------
    x : array or Blocks
        (n, ...), on the network's backend; on the host a memory map or a sparse matrix; or on
        disk.
    y : array
        Labels (n,), targets (n, k), or (n, 1, t) where several outputs are about each of them.
    weight : array or None
        (n,).
    """

    x: Array
    y: Array
    weight: Array | None = None

    @property
    def n(self) -> int:
        return int(self.x.shape[0])

    def beside(self, rows: slice) -> tuple[Array, Array | None]:
        """y and the weights of some rows."""
        return self.y[rows, ...], None if self.weight is None else self.weight[rows]


def generator(seed: Seed) -> np.random.Generator:
    """A generator from a seed, or itself."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"expected seed to be an integer >= 0, a numpy.random.Generator or None, got {seed!r}"
        ) from None


def take(array: Array, rows: np.ndarray) -> Array:
    """Some rows, by their indices on the host: a fresh array where `array` lives."""
    if is_sparse(array):
        return array.tocsr()[rows]
    backend = get(array)
    if backend.name == "numpy":
        return array[rows]
    index = backend.xp.astype(backend.from_host(rows), backend.index_dtype)
    return backend.xp.take(array, index, axis=0)
