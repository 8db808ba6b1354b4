"""Where arrays live: a namespace of the Python array API standard, and one of its devices."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._kernels import Array as Array
from ._norms import NormKernels

if TYPE_CHECKING:
    from ._slot import Slot


# Elements that a kernel's intermediate results may have at once: 256 MB of float32.
AT_ONCE = 1 << 26

ARRAYS = 3  # that elementwise work on a batch reads or writes

Forward = Callable[[Array, Callable[[], None]], Array]  # see `Backend.compile_forward`
InPlace = Callable[[Array], Any]  # changes a few rows


class BackendError(RuntimeError):
    """A backend that is not available, cannot be used, or was given another's arrays."""


def native(array: np.ndarray) -> np.ndarray:
    """`array` in this machine's byte order, and in a dtype that other libraries have too.

    >>> import numpy as np
    >>> from bpx.backends._base import native
    >>> native(np.array([1.0], dtype=">f8")).dtype.isnative
    True
    """
    if array.dtype.itemsize > 8:  # long double
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


class Backend(NormKernels):
    """Arrays of one namespace on one device.

    Parameters
    ----------
    name : str
        As a user writes it: ``"torch:cuda"``.
    xp : namespace
        A namespace of the array API standard, 2023.12 or later, whose slices are views.
    device : optional
        One of its devices; by default its default device.
    is_host : bool
        Whether the arrays are in the memory of the host, and reading a scalar is cheap.

    Attributes
    ----------
    captures : bool
        Whether it has `capture`.
    sparse_up_to : float
        The share of nonzero elements up to which `affine` and `gemm` take a sparse x of SciPy's as
        it is.
    lacks : set of str
        Those of float64, int64 and uint64 that the device does not have.
    index_dtype : dtype
        Of labels and indices: int64, or int32 where there is none.

    Raises
    ------
    BackendError
        The namespace's slices are copies: bpx keeps all parameters in one flat vector and
        trains through views into it. Or its device does not work.

    Examples
    --------
    >>> import bpx
    >>> backend = bpx.backends.get("numpy")
    >>> backend.zeros((2, 3), backend.xp.float32).shape, backend.is_host
    ((2, 3), True)
    """

    captures = False
    sparse_up_to = 0.0

    def __init__(self, name: str, xp: Any, device: Any = None, *, is_host: bool = True) -> None:
        self.name, self.xp, self.device, self.is_host = name, xp, device, is_host
        self._probe_views()
        self.lacks = {name for name in ("float64", "int64", "uint64") if not self._has(name)}
        self.index_dtype = xp.int32 if "int64" in self.lacks else xp.int64

    def __repr__(self) -> str:
        return f"<bpx backend {self.name!r}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from . import _unpickled

        return _unpickled, (self.name,)

    def _probe_views(self) -> None:
        # The standard leaves view semantics open, so write through a view and read the base.
        base = self.xp.zeros(32, dtype=self.xp.float32, device=self.device)
        try:
            view = self.xp.reshape(base[16:20], (2, 2))
            view[...] = 1.0
            aliased = float(base[17]) == 1.0
        except (TypeError, ValueError):
            aliased = False
        except RuntimeError as error:  # as CUDA's are: no compiler, no memory, a busy device
            raise BackendError(
                f"backend {self.name!r} is there, but a first operation on it fails: {error}"
            ) from error
        if not aliased:
            raise BackendError(
                f"backend {self.name!r} cannot train: its slices are copies, not views, and bpx "
                "keeps all parameters in one vector that layers view. Use numpy, cupy, torch or "
                "array_api_strict"
            )

    # --- arrays -----------------------------------------------------------------------------

    def dtype(self, name: str) -> Any:
        """The namespace's dtype of that name.

        Raises
        ------
        BackendError
            The device has no such dtype (Apple's MPS has no float64).
        """
        if name in self.lacks:
            raise BackendError(f"backend {self.name!r} has no {name}: use dtype='float32'")
        return getattr(self.xp, name)

    def _has(self, name: str) -> bool:
        try:
            self.xp.zeros(1, dtype=getattr(self.xp, name), device=self.device)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False
        return True

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        self.use()
        return self.xp.empty(shape, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        self.use()
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    def from_host(self, array: np.ndarray) -> Array:
        """A host array on this backend: shared where the namespace can, else copied.

        A device without 64-bit types gets the 32-bit ones.
        """
        self.use()
        return self.xp.asarray(self._fitting(array), device=self.device)

    def _fitting(self, array: np.ndarray) -> np.ndarray:
        name = array.dtype.name
        if name in self.lacks:
            return array.astype(name.replace("64", "32"))
        return array.astype(np.float32) if name == "float16" and not self._has(name) else array

    def to_host(self, array: Array) -> np.ndarray:
        """`array` as a NumPy array: shared where that is possible, else copied."""
        return np.from_dlpack(array)

    def own(self, array: Array) -> Array:
        """An array that lives here already, as layers take it; it shares the memory."""
        return array

    def slot(self, shape: tuple[int, ...], dtype: Any) -> Slot:
        """A buffer for rows that come from a disk, to be moved here while others are worked on."""
        from ._slot import Slot

        return Slot(self, shape, dtype)

    def use(self) -> None:
        """Make its device the calling thread's current one, if its library has such a thing."""

    # --- the rows of a batch in slices ------------------------------------------------------

    def parts(
        self, rows: int, elements: int, cost: float | None = None, least: int = 1
    ) -> list[list[slice]]:
        """For each thread that is worth waking, the slices that it works on, one after another.

        A row's intermediate results have `elements` elements; a slice has as many rows as fit, but
        at least `least`. A row takes as long as writing and reading `cost` elements, by default
        its own. The result is the same for the same arguments and the same setting of threads, so
        that sums over parts have the same bits every time.
        """
        return [in_slices(0, rows, max(least, AT_ONCE // elements))]

    def parts_of_windows(
        self, rows: int, channels: int, weights: tuple[int, ...], sliding: Any
    ) -> list[list[slice]]:
        """`parts` for a convolution of `channels` channels by weights of this shape.

        Its intermediate results are patches, unless the backend knows another way.
        """
        return self.parts(rows, channels * sliding.elements * math.prod(sliding.counts))

    def side_by_side(
        self, work: Callable[[int, list[slice]], None], parts: list[list[slice]]
    ) -> None:
        """``work(k, parts[k])`` for each part, on a thread of its own."""
        for k, slices in enumerate(parts):
            work(k, slices)

    def parts_of_places(self, shape: tuple[int, ...]) -> list[list[slice]]:
        """`parts` for elementwise work on arrays (m, c, \\*lengths).

        Rows of vectors stay together: they come from dense layers, whose products have threads of
        their own, which keep looking for work and would be in the way.
        """
        if len(shape) == 2:
            return [[slice(0, shape[0])]]
        return self.parts(shape[0], ARRAYS * math.prod(shape[1:]))

    def over_rows(self, work: Callable[[slice], object], parts: list[list[slice]]) -> None:
        """``work(rows)`` for each slice, the parts `side_by_side`."""

        def of_part(part: int, slices: list[slice]) -> None:
            for rows in slices:
                work(rows)

        self.side_by_side(of_part, parts)

    # --- whole runs -------------------------------------------------------------------------

    def surround(
        self,
        largest: int | None,
        processes: int = 1,
        in_parts: bool = False,
        elements: int = 0,
    ) -> contextlib.AbstractContextManager[None]:
        """What `fit` runs in: a number of threads on a host, a stream of its own on a device.

        `largest` is the number of multiply-adds of its largest product; None: unknown. `processes`
        processes do the same on these cores. `in_parts`: some of the work is done by
        `side_by_side`. `elements` are those of θ, over which its optimizer passes.
        """
        return contextlib.nullcontext()

    @property
    def cores(self) -> int:
        """Threads that may each work on a part of the samples, see `in_threads`."""
        return 1

    @contextlib.contextmanager
    def in_threads(self) -> Iterator[Backend]:
        """For several threads at once: products stay on the thread that calls for them."""
        yield self

    def in_precision(self, precision: str) -> Backend:
        """This backend with the products of float32 in ``"tf32"``, ``"float16"``, ``"bfloat16"``.

        Raises
        ------
        ValueError
            It has no such products.
        """
        raise ValueError(
            f'precision={precision!r} needs backend="cupy"; this network is on {self.name!r}'
        )

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record what `work` does on the device, for doing it again without the host.

        Nothing is done yet. None: this backend records nothing.
        """
        return None

    def compile(self, program: Any) -> Callable[..., int] | None:
        """A function that does the steps of a `training.program.Program`; None: step by step."""
        return None

    def compile_forward(
        self,
        layers: Any,
        theta: Array,
        after: Sequence[Sequence[InPlace]] = (),
        *,
        many: bool = False,
    ) -> Forward | None:
        """A function from a few rows to a^L, for a `bpx.dense_chain.DenseLayers`.

        `after` has the functions that change each layer's outputs, if there are any. With `many`,
        from the rows of one of `parts_of_forward`, on the calling thread alone. The rows, of any
        dtype, are scaled already; the result is a fresh array. The second argument is called
        whenever they contain NaN or infinity in the dtype of θ, and perhaps when they do not.
        """
        return None

    def parts_of_forward(self, layers: Any, rows: int) -> int:
        """Parts in which so many rows go through `compile_forward`; 0: it has none for many."""
        return 0

    def blocks(self, *vectors: Array) -> Iterator[tuple[Array, ...]]:
        """Matching pieces of vectors, for formulas with temporaries.

        Here the whole at once; a backend with small caches cuts it to their size.
        """
        yield vectors


def in_slices(first: int, stop: int, step: int) -> list[slice]:
    """From `first` to `stop` in steps, the last of them smaller if need be; one at least.

    >>> from bpx.backends._base import in_slices
    >>> in_slices(0, 10, 4)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    >>> in_slices(0, 0, 4)  # which sums over slices need, to be 0
    [slice(0, 0, None)]
    """
    starts = range(first, max(stop, first + 1), step)
    return [slice(start, min(start + step, stop)) for start in starts]


def dealt(rows: int, parts: int) -> list[tuple[int, int]]:
    """The first row of each part, and the first after it: lengths differ by one at most.

    >>> from bpx.backends._base import dealt
    >>> dealt(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    return [(rows * k // parts, rows * (k + 1) // parts) for k in range(parts)]
