"""The order of an epoch, and mini-batches for your own loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Array, asarray, get
from ..checks import flag, same_rows, takes
from ..frames import (
    by_names,
    check_order,
    names_of,
    names_of_targets,
    printed_names,
    rows_of,
    targets_by_names,
)
from ..names import Names
from .arrays import check_batch_size, check_in_memory, generator, take

if TYPE_CHECKING:
    from .arrays import Seed

# The end of a message about an iterator that is empty when it is wanted once more.
REPEATABLE = "pass something that can be gone through again, such as a list or bpx.batches(...)"


def check_shuffle(shuffle: Any) -> None:
    """TypeError for what is neither a choice nor a function: "no" would be a yes."""
    if not callable(shuffle) and not isinstance(shuffle, bool | int | np.bool_):
        raise TypeError(
            "expected shuffle to be True, False or a function that returns the rows of an epoch, "
            f"got {shuffle!r}"
        )
    if callable(shuffle):
        takes("shuffle", shuffle)


def epoch_order(generator: np.random.Generator, n: int, shuffle: Any) -> np.ndarray:
    """The order in which an epoch visits `n` rows, (n,) of int64.

    `shuffle` is that of `Network.fit`; ValueError if a function does not give such an order.
    """
    if callable(shuffle):
        order = np.asarray(shuffle())
        if order.shape != (n,) or order.dtype.kind not in "iu":
            raise ValueError(
                f"expected shuffle() to return the rows of an epoch, {n} integers, got an array "
                f"of shape {order.shape} and dtype {order.dtype}"
            )
        if order.min() < 0 or order.max() >= n:
            raise ValueError(
                f"expected shuffle() to return rows 0 to {n - 1}, got {order.min()} to "
                f"{order.max()}"
            )
        return np.require(order, np.int64, ["C", "W"])  # what compiled runs and devices take
    return generator.permutation(n) if shuffle else np.arange(n)


def steps_of_epoch(n: int, batch_size: int, drop_last: bool) -> int:
    """How many mini-batches `n` rows are, with a last, smaller one or without it.

    >>> from bpx.data.minibatches import steps_of_epoch
    >>> steps_of_epoch(5, 2, drop_last=False), steps_of_epoch(5, 2, drop_last=True)
    (3, 2)
    """
    return n // batch_size if drop_last else -(-n // batch_size)


class Batches:
    """Mini-batches of arrays; what `batches` returns. Each iteration is one epoch.

    Attributes
    ----------
    names : Names
        Of the columns of frames.
    """

    def __init__(
        self,
        arrays: tuple[Array, ...],
        batch_size: int,
        generator: np.random.Generator,
        shuffle: bool,
        drop_last: bool,
    ) -> None:
        self._arrays, self.batch_size = arrays, batch_size
        self._generator, self.shuffle = generator, flag("shuffle", shuffle)
        self.drop_last = flag("drop_last", drop_last)
        y = arrays[1] if len(arrays) > 1 else None
        self.names = Names(names_of(arrays[0]), names_of_targets(y))

    def __repr__(self) -> str:
        shapes = [str(tuple(array.shape)) for array in self._arrays]
        rows = "row" if self.batch_size == 1 else "rows"
        return f"<Batches: {len(self)} of {self.batch_size} {rows} of {', '.join(shapes)}>"

    def __len__(self) -> int:
        return steps_of_epoch(int(self._arrays[0].shape[0]), self.batch_size, self.drop_last)

    def state(self) -> dict[str, Any]:
        """The generator's state, between two epochs."""
        return dict(self._generator.bit_generator.state)

    def load_state(self, state: dict[str, Any]) -> None:
        """Make further epochs those that came after `state`."""
        self._generator.bit_generator.state = state

    def matched(self, names: Names) -> Batches:
        """The same of arrays, with columns in the order of `names`; it shares the generator."""
        x, *others = self._arrays
        x = by_names(x, names.columns)
        if others:
            others[0] = targets_by_names(others[0], names.target_columns)
        arrays = tuple(map(_as_array, (x, *others), ("x", "y", "sample_weight")))
        return Batches(arrays, self.batch_size, self._generator, self.shuffle, self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        n = self._arrays[0].shape[0]
        order = epoch_order(self._generator, n, self.shuffle)
        for step in range(len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            batch = tuple(_rows(array, rows) for array in self._arrays)
            yield batch if len(batch) > 1 else batch[0]


def batches(
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    *,
    sample_weight: Any = None,
    seed: Seed = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Batches:
    """Mini-batches of x and y for your own loop: the ones that `Network.fit` takes.

    Parameters
    ----------
    x, y : array or data frame
        (n, ...) each, of any one library, or memory maps. y may be left out.
    batch_size : int, optional
        m, at most n; by default 10, or n if that is less. The last batch may be smaller, unless
        `drop_last`.
    sample_weight : array, optional
        (n,); batches are then (x, y, sample_weight).
    seed : int, Generator or None
        For the permutations. With ``seed=net.generator`` they are those that the network's `fit`
        would draw.
    shuffle : bool
        A new permutation each epoch.
    drop_last : bool
        Leave out the rows of an epoch's order that do not fill a last batch; False by default.

    Returns
    -------
    Batches
        An iterable with a length, the steps of an epoch; each iteration is a new epoch. Batches
        are fresh arrays, with the dtype and device of x and y; of a data frame whose columns have
        names they are frames, in which a network finds its columns.

    Raises
    ------
    ValueError, TypeError
        Arrays of different lengths or without rows; `sample_weight` without y; a `shuffle` or
        `drop_last` that is neither True nor False; rows of a pandas y in another order than those
        of x.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx import batches
    >>> loader = batches(np.arange(5), np.arange(5) ** 2, 2, shuffle=False)
    >>> loader
    <Batches: 3 of 2 rows of (5,), (5,)>
    >>> len(loader)
    3
    >>> for x, y in loader:
    ...     print(x, y)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """
    if y is None and sample_weight is not None:
        raise ValueError(
            "sample_weight without y would give (x, sample_weight), which fit takes for (x, y): "
            "pass y too"
        )
    check_order(x, y=y, sample_weight=sample_weight)
    given = {"x": x, "y": y, "sample_weight": sample_weight}
    arrays = {what: _as_is(array, what) for what, array in given.items() if array is not None}
    shape = tuple(arrays["x"].shape)
    if shape[0] == 0:
        raise ValueError(f"expected at least one sample, got x of shape {shape}")
    for what, array in arrays.items():
        same_rows(what, array.shape[0], shape[0])
    size = check_batch_size(batch_size, shape[0])
    return Batches(tuple(arrays.values()), size, generator(seed), shuffle, drop_last)


def _rows(array: Any, rows: np.ndarray) -> Any:
    return rows_of(array, rows) if printed_names(array) else take(array, rows)


def _as_is(array: Any, what: str) -> Any:
    """A frame whose columns have names, or an array."""
    check_in_memory(array, what)
    is_frame = (names_of if what == "x" else names_of_targets)(array)
    return array if is_frame else _as_array(array, what)


def _as_array(array: Any, what: str) -> Array:
    if hasattr(array, "shape") and hasattr(array, "__array_namespace__"):
        return array
    backend = get("numpy") if not hasattr(array, "__dlpack__") else get(array)
    return asarray(backend, array, what)
