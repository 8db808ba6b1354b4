"""Images and sequences made larger: each element fills a window of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import Any, ClassVar, cast

from ..backends import Array
from ..context import Context
from ..elsewhere import OF_LAYERS, OF_UPSAMPLING
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Shape
from .sliding import OfImages, Sliding, per_axis


@dataclass(frozen=True)
class Upsample(OfImages):
    """Each element repeated along each axis: what `Upsample1D` and `Upsample2D` share.

    The adjoint of sums over windows that lie side by side on the output.
    """

    scale: int | tuple[int, ...]

    def validate(self) -> None:
        scale = per_axis(f"the scale of {type(self).__name__}", self.scale, self.axes)
        object.__setattr__(self, "scale", scale)

    @cached_property
    def sliding(self) -> Sliding:
        """The windows on its output, one for each element of its input."""
        size = cast("Shape", self.scale)  # since `validate`
        return Sliding(self.output_shape[1:], size, size, (1,) * self.axes, ((0, 0),) * self.axes)

    @property
    def output_shape(self) -> Shape:
        channels, *lengths = self.shape_in
        return (channels, *map(mul, lengths, cast("Shape", self.scale)))

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        return ctx.backend.spread(x, self.sliding, y), None

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        below = ctx.buffer("delta", (delta.shape[0], *self.shape_in))
        return ctx.backend.window_sum(delta, self.sliding, below)

    def __str__(self) -> str:
        return f"{type(self).__name__} {'×'.join(map(str, cast('Shape', self.scale)))}"


@LAYERS.builds
@init_hints(OF_LAYERS | OF_UPSAMPLING)
@dataclass(frozen=True)
class Upsample2D(Upsample):
    """Each element of each channel s × t times: (m, c, h, w) to (m, c, s·h, t·w).

    This is the nearest neighbour's value. With a convolution after it, it enlarges images as a
    transposed convolution does, without the checkerboard that windows leave where they overlap
    unevenly (Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill 2016).

    Parameters
    ----------
    scale : int or (int, int)
        How many times as high and as wide.

    Raises
    ------
    ValueError
        Numbers below 1, or not one for each axis; inputs that are not images.
    TypeError
        Not integers.

    Examples
    --------
    >>> from bpx.layers import Upsample2D
    >>> Upsample2D(2).bind((20, 12, 12)).output_shape
    (20, 24, 24)
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input((1, 1, 2)), Upsample2D((2, 3)), bpx.layers.Flatten()])
    >>> net([[[[1, 2]]]]).reshape(2, 6).tolist()
    [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]]
    """

    name: ClassVar[str] = "upsample2d"
    axes: ClassVar[int] = 2


@LAYERS.builds
@init_hints(OF_LAYERS | OF_UPSAMPLING)
@dataclass(frozen=True)
class Upsample1D(Upsample):
    """Each element of each channel s times: (m, c, n) to (m, c, s·n).

    Parameters
    ----------
    scale
        As for `Upsample2D`, a number or a tuple of one; with the same errors.

    Examples
    --------
    >>> import bpx
    >>> from bpx.layers import Upsample1D
    >>> net = bpx.Network([bpx.layers.Input((1, 3)), Upsample1D(2), bpx.layers.Flatten()])
    >>> net([[[1, 2, 3]]]).tolist()
    [[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]]
    """

    name: ClassVar[str] = "upsample1d"
    axes: ClassVar[int] = 1
