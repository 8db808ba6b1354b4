"""Images and sequences made smaller: the largest or the mean of each window (ch. 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, cast

from ..backends import Array
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Shape
from .sliding import OfImages, Sliding, check_windows, per_axis


@dataclass(frozen=True)
class Pooling(OfImages):
    """The windows of `MaxPool2D` and the others, which do not overlap by default."""

    pool_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0

    def validate(self) -> None:
        kind = type(self).__name__
        if isinstance(self.padding, str):
            raise ValueError(
                f"expected the padding of {kind} to be numbers of zeros at the ends of each axis, "
                f'got {self.padding!r}; "valid" is padding=0, and "same" is for convolutions'
            )
        for what, least in (("pool_size", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, what)
            if value is not None:
                value = per_axis(f"the {what} of {kind}", value, self.axes, least)
                object.__setattr__(self, what, value)

    def bind(self, input_shape: Shape) -> Self:
        bound = super().bind(input_shape)
        if not bound.sliding.touches:
            raise ValueError(
                f"expected padding less than pool_size={self.pool_size}, got {self.padding}: "
                "some windows would be nothing but padding"
            )
        check_windows(type(self).__name__, bound.sliding)
        return bound

    @cached_property
    def sliding(self) -> Sliding:
        """Where its windows lie."""
        fields = self.pool_size, self.stride or self.pool_size, self.padding
        size, stride, padding = cast("tuple[Shape, Shape, Shape]", fields)  # since `validate`
        pairs = tuple((p, p) for p in padding)
        return Sliding(self.shape_in[1:], size, stride, (1,) * self.axes, pairs)

    @property
    def output_shape(self) -> Shape:
        return (self.shape_in[0], *self.sliding.counts)

    def __str__(self) -> str:
        size = "×".join(map(str, cast("Shape", self.pool_size)))
        return f"{type(self).__name__} {size}"


@dataclass(frozen=True)
class MaxPool(Pooling):
    """The largest element of each window: what `MaxPool1D` and `MaxPool2D` share."""

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        return ctx.backend.window_max(x, self.sliding, y), (x, y)

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        x, y = saved
        below = ctx.buffer("delta", tuple(x.shape))
        return ctx.backend.window_max_backward(delta, x, y, self.sliding, below)


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class MaxPool2D(MaxPool):
    """The largest element of each window of each channel: (m, c, h, w) to (m, c, oh, ow).

    Its gradient goes to the first of equal elements, row by row. Padding is never the largest.

    Parameters
    ----------
    pool_size : int or (int, int)
        The size of a window.
    stride : int, (int, int) or None
        The step from one window to the next; None (default): `pool_size`. Rows and columns at the
        end that fill no window are left out.
    padding : int or (int, int)
        On either side, less than `pool_size`; 0 by default.

    Raises
    ------
    ValueError
        A window that is larger than its padded input or may be nothing but padding; numbers that
        are too small, or not one for each axis; inputs that are not images.
    TypeError
        Not integers.

    Examples
    --------
    >>> from bpx.layers import MaxPool2D
    >>> MaxPool2D(2).bind((20, 24, 24)).output_shape
    (20, 12, 12)
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input((1, 2, 4)), MaxPool2D(2), bpx.layers.Flatten()])
    >>> net([[[[1, 2, 3, 4], [5, 6, 7, 8]]]]).tolist()
    [[6.0, 8.0]]
    """

    name: ClassVar[str] = "max-pool2d"
    axes: ClassVar[int] = 2


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class MaxPool1D(MaxPool):
    """The largest element of each window of each channel: (m, c, n) to (m, c, on).

    Parameters
    ----------
    pool_size, stride, padding
        As for `MaxPool2D`, each a number or a tuple of one; with the same errors.

    Examples
    --------
    >>> import bpx
    >>> from bpx.layers import MaxPool1D
    >>> net = bpx.Network([bpx.layers.Input((1, 6)), MaxPool1D(3), bpx.layers.Flatten()])
    >>> net([[[1, 3, 2, 6, 5, 4]]]).tolist()
    [[3.0, 6.0]]
    """

    name: ClassVar[str] = "max-pool1d"
    axes: ClassVar[int] = 1


@dataclass(frozen=True)
class AveragePool(Pooling):
    """The mean of each window: what `AveragePool1D` and `AveragePool2D` share."""

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        ctx.backend.window_sum(x, self.sliding, y)
        y *= 1.0 / self.sliding.elements
        return y, x.shape

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        below = ctx.buffer("delta", tuple(saved))
        delta *= 1.0 / self.sliding.elements
        return ctx.backend.spread(delta, self.sliding, below)


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class AveragePool2D(AveragePool):
    """The mean of each window of each channel: (m, c, h, w) to (m, c, oh, ow).

    Padding counts as zeros, as PyTorch's does by default.

    Parameters
    ----------
    pool_size, stride, padding
        As for `MaxPool2D`, with the same errors.

    Examples
    --------
    >>> from bpx.layers import AveragePool2D
    >>> AveragePool2D(3, stride=1, padding=1).bind((20, 24, 24)).output_shape
    (20, 24, 24)
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input((1, 2, 4)), AveragePool2D(2), bpx.layers.Flatten()])
    >>> net([[[[1, 2, 3, 4], [5, 6, 7, 8]]]]).tolist()
    [[3.5, 5.5]]
    """

    name: ClassVar[str] = "average-pool2d"
    axes: ClassVar[int] = 2


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class AveragePool1D(AveragePool):
    """The mean of each window of each channel: (m, c, n) to (m, c, on).

    Parameters
    ----------
    pool_size, stride, padding
        As for `AveragePool2D`, each a number or a tuple of one; with the same errors.

    Examples
    --------
    >>> import bpx
    >>> from bpx.layers import AveragePool1D
    >>> net = bpx.Network([bpx.layers.Input((1, 6)), AveragePool1D(3), bpx.layers.Flatten()])
    >>> net([[[1, 3, 2, 6, 5, 4]]]).tolist()
    [[2.0, 5.0]]
    """

    name: ClassVar[str] = "average-pool1d"
    axes: ClassVar[int] = 1


@dataclass(frozen=True)
class GlobalAveragePool(OfImages):
    """The mean of each channel: what `GlobalAveragePool1D` and `GlobalAveragePool2D` share."""

    @property
    def output_shape(self) -> Shape:
        return self.shape_in[:1]

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        return ctx.backend.mean_places(x, y), x.shape

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        below = ctx.buffer("delta", tuple(saved))
        delta *= 1.0 / math.prod(saved[2:])
        below[...] = delta[:, :, *[None] * self.axes]
        return below


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class GlobalAveragePool2D(GlobalAveragePool):
    """The mean of each channel: (m, c, h, w) to (m, c).

    Examples
    --------
    >>> from bpx.layers import GlobalAveragePool2D
    >>> GlobalAveragePool2D().bind((40, 4, 4)).output_shape
    (40,)
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input((1, 2, 4)), GlobalAveragePool2D()])
    >>> net([[[[1, 2, 3, 4], [5, 6, 7, 8]]]]).tolist()
    [[4.5]]
    """

    name: ClassVar[str] = "global-average-pool2d"
    axes: ClassVar[int] = 2


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class GlobalAveragePool1D(GlobalAveragePool):
    """The mean of each channel: (m, c, n) to (m, c).

    Examples
    --------
    >>> import bpx
    >>> from bpx.layers import GlobalAveragePool1D
    >>> net = bpx.Network([bpx.layers.Input((1, 6)), GlobalAveragePool1D()])
    >>> net([[[1, 3, 2, 6, 5, 4]]]).tolist()
    [[3.5]]
    """

    name: ClassVar[str] = "global-average-pool1d"
    axes: ClassVar[int] = 1
