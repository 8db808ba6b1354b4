"""The only scaling of inputs: saved with the network, and folded into the gather of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np

from ..backends import Array, asarray, get, is_sparse, on_host
from ..checks import FILL_IN, different_names, number, whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..frames import column, is_on_disk, names_of
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Layer, Shape

Scalars = float | Sequence[float]

DENSE_AT_ONCE = 1 << 22  # elements of x: 32 MB of float64


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Rescale(Layer):
    """y = scale·x + offset, with a number for all elements or one for each along an axis.

    As a network's first layer it costs nothing: each mini-batch is scaled as it is gathered, and
    images that came as uint8 stay uint8 until then.

    Sequences are applied in float64, where the device has it, and the result is rounded once: a
    column of 1.7e9 ± 1 standardized in float32 would be noise.

    Parameters
    ----------
    scale, offset : float or sequence of float
        Sequences have the length of the input's `axis`.
    axis : int
        Of a sample: -1, the last one, by default; 0 for the channels of images (c, h, w).
    columns : tuple of str, optional
        The names of the last axis's elements. Of a first layer they are `Network.columns`, so
        that the network finds the columns of a frame in this order.

    Raises
    ------
    ValueError
        A number that is not finite, no such axis, or a sequence that has not its length.
    TypeError
        Not numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input(784), bpx.layers.Rescale(1 / 255),
    ...                    bpx.layers.Dense(10, "softmax")])

    Means and standard deviations of colours:

    >>> means, deviations = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.26])
    >>> layer = bpx.layers.Rescale(1 / deviations, -means / deviations, axis=0)
    """

    name: ClassVar[str] = "rescale"

    scale: Scalars = 1.0
    offset: Scalars = 0.0
    columns: tuple[str, ...] | None = None
    axis: int = -1

    @classmethod
    def standardizing(cls, x: Any) -> Rescale:
        """The layer that gives each column of `x` (n, k) mean 0 and standard deviation 1.

        Of images and sequences, (n, c, ...), it does so for each channel. A column that is
        constant, to 12 digits, is only shifted. An `x` on a device is read back, and a sparse
        matrix is made dense a few columns at a time; as zeros are shifted too, the network's first
        layer then sees dense mini-batches. The names of a frame's columns are kept. Data of
        `bpx.open_data` are read twice, piece by piece.

        Raises
        ------
        ValueError
            `x` has no columns or no rows, has NaN or infinity, or is a frame with two columns of
            one name.
        TypeError
            Not real numbers.

        >>> from bpx.layers import Rescale
        >>> layer = Rescale.standardizing([[0.0, 5.0], [4.0, 5.0]])
        >>> layer.scale, layer.offset
        ((0.5, 1.0), (-1.0, -5.0))
        """
        host = get("numpy")
        if not is_sparse(x):
            names = names_of(x)
            x = x if is_on_disk(x) else asarray(host, on_host(x), "x")
            _check_shape(x)
            read = _parts_on_disk if is_on_disk(x) else _some_at_a_time
            found = _standardizing(partial(read, x), names, places=math.prod(x.shape[2:]))
            return cls(*found, names, axis=-1 if len(x.shape) == 2 else 0)
        _check_shape(x)
        width = max(1, DENSE_AT_ONCE // x.shape[0])
        columns, starts = x.tocsc(), range(0, x.shape[1], width)
        dense = (asarray(host, columns[:, k : k + width].toarray(), "x") for k in starts)
        parts = zip(dense, starts, strict=True)
        of_columns = [_standardizing(partial(iter, [part]), first=k) for part, k in parts]
        scales, offsets = zip(*of_columns, strict=True)
        return cls(tuple(chain(*scales)), tuple(chain(*offsets)))

    def validate(self) -> None:
        for what in ("scale", "offset"):
            value = getattr(self, what)
            if isinstance(value, str) or not isinstance(value, Iterable):
                plain: Scalars = number(f"the {what} of Rescale", value)
            else:
                plain = tuple(number(f"the {what} of Rescale", v) for v in value)
            object.__setattr__(self, what, plain)
        if self.columns is not None:
            names = different_names("the columns of Rescale", self.columns)
            object.__setattr__(self, "columns", names)
        object.__setattr__(self, "axis", whole("the axis of Rescale", self.axis, -1))

    def bind(self, input_shape: Shape) -> Self:
        if self.axis >= len(input_shape):
            raise ValueError(
                f"Rescale's axis is {self.axis}, and a sample of shape {input_shape} has "
                f"{len(input_shape)} axes: 0 is the first, and -1 the last"
            )
        length = input_shape[self.axis]
        which = "last axis" if self.axis == -1 else f"axis {self.axis}"
        for what in ("scale", "offset", "columns"):
            value = getattr(self, what)
            if isinstance(value, tuple) and len(value) != length:
                channels = len(value) == input_shape[0] and self.axis == -1
                raise ValueError(
                    f"Rescale's {what} has {len(value)} values for inputs whose {which} has "
                    f"{length}{': axis=0 is for channels' * channels}"
                )
        return super().bind(input_shape)

    def affine(self, ctx: Context) -> tuple[Any, Any]:
        """What ``Backend.gather`` multiplies by and adds: numbers, or arrays."""
        scale, offset = self.scale, self.offset
        return (
            ctx.constant("scale", self.scales) if isinstance(scale, tuple) else scale,
            ctx.constant("offset", self.offsets) if isinstance(offset, tuple) else offset,
        )

    def scales(self) -> np.ndarray:
        """In float64, of the last axis's elements; of all of a sample's, if `axis` is another."""
        return self._spread(self.scale)

    def offsets(self) -> np.ndarray:
        return self._spread(self.offset)

    def _spread(self, given: Scalars) -> np.ndarray:
        values, shape = np.asarray(given, np.float64), self.shape_in
        if self.axis in (-1, len(shape) - 1) or not values.ndim:
            return np.broadcast_to(values, shape[-1:]).copy()
        along = [1] * len(shape)
        along[self.axis] = -1
        return np.broadcast_to(values.reshape(along), shape).copy()

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        scale, offset = self.affine(ctx)
        y = ctx.buffer("y", tuple(x.shape))
        return ctx.backend.gather(x, slice(None), y, scale, offset), None

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        scale, _ = self.affine(ctx)
        delta[...] = ctx.backend.xp.astype(delta * scale, delta.dtype)
        return delta

    def __str__(self) -> str:
        return "Rescale"


class Gathered(Rescale):
    """One that was applied as the mini-batch was gathered."""

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        return x, None


def gathered(layer: Layer) -> Layer:
    """The first layer, as it works on gathered rows."""
    if type(layer) is not Rescale:
        return layer
    fields = layer.scale, layer.offset, layer.columns, layer.axis
    return Gathered(*fields, input_shape=layer.input_shape)


def _check_shape(x: Any) -> None:
    if len(x.shape) < 2 or 0 in x.shape:
        raise ValueError(f"expected x of shape (n, k) to standardize, got {x.shape}")


Parts = Callable[[], Iterable[np.ndarray]]  # of the rows of x, from the first to the last


def _standardizing(
    parts: Parts, names: tuple[str, ...] | None = None, first: int = 0, places: int = 1
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scales and offsets of columns, from `first` on; a sample has as many rows as places."""
    low, high = _bounds(parts, names, first, places)
    with np.errstate(over="ignore"):
        reach = high - low
    if not np.isfinite(reach).all():
        j = int(np.argmin(np.isfinite(reach)))
        raise ValueError(
            f"cannot standardize: {column(first + j, names)} of x goes from {low[j]:.3g} to "
            f"{high[j]:.3g}, and the difference does not fit in a float64; scale it first"
        )
    # Means of values between 0 and 1: the rounding of sums of x itself may exceed the
    # variation of a column, and squares may overflow or underflow float64.
    varies = reach > 1e-12 * np.maximum(np.abs(low), np.abs(high))
    unit = np.where(varies, reach, 1.0)
    n, mean, variance = 0, np.zeros(len(low)), np.zeros(len(low))
    for part in parts():  # those of all rows so far (Chan, Golub and LeVeque 1979)
        x = (part.astype(np.float64, copy=False) - low) / unit
        before, n = n, n + len(x)
        share, away = len(x) / n, x.mean(axis=0) - mean
        variance += share * (x.var(axis=0) - variance) + share * (before / n) * away**2
        mean += share * away
    scale = 1.0 / np.where(varies, unit * np.sqrt(variance), 1.0)
    offset = -(low + unit * mean) * scale
    return tuple(scale.tolist()), tuple(offset.tolist())


def _bounds(
    parts: Parts, names: tuple[str, ...] | None, first: int, places: int
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest of each column."""
    rows, low, high = 0, np.array(np.inf), np.array(-np.inf)
    for part in parts():
        x = part.astype(np.float64, copy=False)
        if not np.isfinite(x).all():
            row, j = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(
                f"cannot standardize: x has NaN or infinity in row {(rows + row) // places}, "
                f"{column(first + j, names)}: {FILL_IN}"
            )
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        rows += len(x)
    return low, high


def _parts_on_disk(x: Any) -> Iterator[np.ndarray]:
    for window, _ in x.in_order(get("numpy"), 0):
        yield from _some_at_a_time(window)


def _some_at_a_time(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of which each number will take 8 bytes; of channels a row for each place."""
    at_once = max(1, DENSE_AT_ONCE // math.prod(x.shape[1:]))
    for start in range(0, len(x), at_once):
        part = x[start : start + at_once]
        yield part if x.ndim == 2 else np.moveaxis(part, 1, -1).reshape(-1, x.shape[1])
