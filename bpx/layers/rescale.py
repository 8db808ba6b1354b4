"""The only scaling of inputs: saved with the network, and folded into the gather of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np

from ..backends import Array, asarray, get, is_sparse, on_host
from ..checks import FILL_IN, different_names, number
from ..context import Context
from ..frames import column, is_on_disk, names_of
from ..keywords import OF_LAYERS, init_hints
from ._base import LAYERS, Layer, Shape

Scalars = float | Sequence[float]

DENSE_AT_ONCE = 1 << 22  # elements of x: 32 MB of float64


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Rescale(Layer):
    """y = scale·x + offset, with a number for all elements or one for each of the last axis.

    As a network's first layer it costs nothing: each mini-batch is scaled as it is gathered, and
    images that came as uint8 stay uint8 until then.

    Sequences are applied in float64, where the device has it, and the result is rounded once: a
    column of 1.7e9 ± 1 standardized in float32 would be noise.

    Parameters
    ----------
    scale, offset : float or sequence of float
        Sequences have the length of the input's last axis.
    columns : tuple of str, optional
        The names of the last axis's elements. Of a first layer they are `Network.columns`, so
        that the network finds the columns of a frame in this order.

    Raises
    ------
    ValueError
        A number that is not finite, or a sequence that has not the length of the last axis.
    TypeError
        Not numbers.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input(784), bpx.layers.Rescale(1 / 255),
    ...                    bpx.layers.Dense(10, "softmax")])
    """

    name: ClassVar[str] = "rescale"

    scale: Scalars = 1.0
    offset: Scalars = 0.0
    columns: tuple[str, ...] | None = None

    @classmethod
    def standardizing(cls, x: Any) -> Rescale:
        """The layer that gives each column of `x` (n, k) mean 0 and standard deviation 1.

        A column that is constant, to 12 digits, is only shifted. An `x` on a device is read back,
        and a sparse matrix is made dense a few columns at a time; as zeros are shifted too, the
        network's first layer then sees dense mini-batches. The names of a frame's columns are
        kept. Data of `bpx.open_data` are read twice, piece by piece.

        Raises
        ------
        ValueError
            `x` is not a matrix, has NaN or infinity, or is a frame with two columns of one name.
        TypeError
            Not real numbers.

        >>> layer = Rescale.standardizing([[0.0, 5.0], [4.0, 5.0]])
        >>> layer.scale, layer.offset
        ((0.5, 1.0), (-1.0, -5.0))
        """
        host, names = get("numpy"), None if is_sparse(x) else names_of(x)
        if is_on_disk(x):
            _check_matrix(x)
            return cls(*_standardizing(lambda: _parts_on_disk(x), names), names)
        if not is_sparse(x):
            x = asarray(host, on_host(x), "x")
            _check_matrix(x)
            return cls(*_standardizing(lambda: _some_at_a_time(x), names), names)
        _check_matrix(x)
        width = max(1, DENSE_AT_ONCE // x.shape[0])
        columns, starts = x.tocsc(), range(0, x.shape[1], width)
        dense = (asarray(host, columns[:, k : k + width].toarray(), "x") for k in starts)
        parts = zip(dense, starts, strict=True)
        found = [_standardizing(partial(iter, [part]), first=k) for part, k in parts]
        scales, offsets = zip(*found, strict=True)
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

    def bind(self, input_shape: Shape) -> Self:
        for what in ("scale", "offset", "columns"):
            value = getattr(self, what)
            if isinstance(value, tuple) and len(value) != input_shape[-1]:
                raise ValueError(
                    f"Rescale's {what} has {len(value)} values for inputs whose last axis has "
                    f"{input_shape[-1]}"
                )
        return super().bind(input_shape)

    def config(self) -> dict[str, Any]:
        found = super().config()
        if self.columns is None:
            del found["columns"]  # so that checkpoints from before there were names fit
        return found

    def affine(self, ctx: Context) -> tuple[Any, Any]:
        """What ``Backend.gather`` multiplies by and adds: numbers, or vectors."""
        scale, offset = self.scale, self.offset
        return (
            ctx.constant("scale", scale) if isinstance(scale, tuple) else scale,
            ctx.constant("offset", offset) if isinstance(offset, tuple) else offset,
        )

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset of each element of the last axis, in float64."""
        assert self.input_shape is not None
        length = self.input_shape[-1]
        scale, offset = (np.broadcast_to(v, length) for v in (self.scale, self.offset))
        return scale.astype(np.float64), offset.astype(np.float64)

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        scale, offset = self.affine(ctx)
        y = ctx.buffer("y", tuple(x.shape))
        return ctx.backend.gather(x, slice(None), y, scale, offset), None

    def backward(
        self,
        delta: Array,
        saved: Any,
        p: SimpleNamespace,
        out: SimpleNamespace | None,
        ctx: Context,
    ) -> Array | None:
        scale, _ = self.affine(ctx)
        delta[...] = ctx.backend.xp.astype(delta * scale, delta.dtype)
        return delta

    def __str__(self) -> str:
        return "Rescale"


class Gathered(Rescale):
    """One that was applied as the mini-batch was gathered."""

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        return x, None


def gathered(layer: Layer) -> Layer:
    """The first layer, as it works on gathered rows."""
    if type(layer) is not Rescale:
        return layer
    return Gathered(layer.scale, layer.offset, layer.columns, input_shape=layer.input_shape)


def _check_matrix(x: Any) -> None:
    if len(x.shape) != 2 or 0 in x.shape:
        raise ValueError(f"expected x of shape (n, k) to standardize, got {x.shape}")


Parts = Callable[[], Iterable[np.ndarray]]  # of the rows of x, from the first to the last


def _standardizing(
    parts: Parts, names: tuple[str, ...] | None = None, first: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scales and offsets of columns, which count from `first`."""
    low, high = _bounds(parts, names, first)
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
    parts: Parts, names: tuple[str, ...] | None, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest of each column."""
    rows, low, high = 0, np.array(np.inf), np.array(-np.inf)
    for part in parts():
        x = part.astype(np.float64, copy=False)
        if not np.isfinite(x).all():
            row, j = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(
                f"cannot standardize: x has NaN or infinity in row {rows + row}, "
                f"{column(first + j, names)}: {FILL_IN}"
            )
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        rows += len(x)
    return low, high


def _parts_on_disk(x: Any) -> Iterator[np.ndarray]:
    for window, _ in x.in_order(get("numpy"), 0):
        yield from _some_at_a_time(window)


def _some_at_a_time(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of which each number will take 8 bytes."""
    at_once = max(1, DENSE_AT_ONCE // x.shape[1])
    for start in range(0, len(x), at_once):
        yield x[start : start + at_once]
