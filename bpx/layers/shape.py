"""The same numbers in another shape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Layer, Shape


class Reshaped(Layer):
    """What `Flatten` and `Reshape` share: a view of the samples, in their output's shape."""

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        return ctx.backend.xp.reshape(x, (x.shape[0], *self.output_shape)), None

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        return ctx.backend.xp.reshape(delta, (delta.shape[0], *self.shape_in))


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Reshape(Reshaped):
    """Each sample in another shape, its elements in the same order.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.

    Raises
    ------
    ValueError
        A length below 1, or other than as many elements as the inputs have.
    TypeError
        `shape` is not a tuple of integers.

    Examples
    --------
    >>> from bpx.layers import Reshape
    >>> Reshape((1, 28, 28)).bind((784,)).output_shape
    (1, 28, 28)
    """

    name: ClassVar[str] = "reshape"

    shape: Shape

    def validate(self) -> None:
        if isinstance(self.shape, str) or not isinstance(self.shape, Iterable):
            raise TypeError(
                "expected the shape of Reshape to be a tuple, such as (1, 28, 28), got "
                f"{self.shape!r}"
            )
        shape = tuple(whole("a length of Reshape", n) for n in self.shape)
        if not shape:
            raise ValueError("expected the shape of Reshape to have at least one length, got none")
        object.__setattr__(self, "shape", shape)

    def bind(self, input_shape: Shape) -> Self:
        if math.prod(self.shape) != math.prod(input_shape):
            raise ValueError(
                f"{math.prod(input_shape)} elements of shape {input_shape} do not fit into shape "
                f"{self.shape}, which takes {math.prod(self.shape)}"
            )
        return super().bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return self.shape

    def __str__(self) -> str:
        return f"Reshape {self.shape}"


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Flatten(Reshaped):
    """Each sample as a vector, as `Dense` takes it: (m, c, h, w) to (m, c·h·w).

    Examples
    --------
    >>> from bpx.layers import Flatten
    >>> Flatten().bind((20, 12, 12)).output_shape
    (2880,)
    """

    name: ClassVar[str] = "flatten"

    @property
    def output_shape(self) -> Shape:
        return (math.prod(self.shape_in),)


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Permute(Layer):
    """The axes of each sample in another order, as in `numpy.transpose`.

    For a `Conv1D` along words: an `Embedding` gives (m, places, width), and channels come first.

    Parameters
    ----------
    axes : tuple of int
        The axes of a sample, counted from 0, each once: the output's axis i is the input's
        ``axes[i]``.

    Raises
    ------
    ValueError
        An axis is missing or repeated; inputs have more axes, or fewer.
    TypeError
        `axes` is not a tuple of integers.

    Examples
    --------
    >>> from bpx.layers import Permute
    >>> Permute((1, 0)).bind((8, 16)).output_shape
    (16, 8)
    """

    name: ClassVar[str] = "permute"

    axes: Shape

    def validate(self) -> None:
        if isinstance(self.axes, str) or not isinstance(self.axes, Iterable):
            raise TypeError(
                f"expected the axes of Permute to be a tuple, such as (1, 0), got {self.axes!r}"
            )
        axes = tuple(whole("an axis of Permute", axis, 0) for axis in self.axes)
        if not axes or sorted(axes) != list(range(len(axes))):
            from_one = sorted(axes) == list(range(1, len(axes) + 1))
            hint = (
                f": they count from 0, so {tuple(a - 1 for a in axes)}"
                if axes and from_one
                else ""
            )
            raise ValueError(
                "expected the axes of Permute to be those of a sample, from 0, each once, such as "
                f"(1, 0), got {axes}{hint}"
            )
        object.__setattr__(self, "axes", axes)

    def bind(self, input_shape: Shape) -> Self:
        if len(input_shape) != len(self.axes):
            raise ValueError(
                f"expected inputs of {len(self.axes)} axes for Permute({self.axes}), got "
                f"{input_shape}: name each axis of a sample"
            )
        return super().bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return tuple(self.shape_in[axis] for axis in self.axes)

    @property
    def of_batch(self) -> Shape:
        """The axes of a batch in the new order."""
        return (0, *(axis + 1 for axis in self.axes))

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        y[...] = ctx.backend.xp.permute_dims(x, self.of_batch)
        return y, None

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        below = ctx.buffer("delta", (delta.shape[0], *self.shape_in))
        back = tuple(self.of_batch.index(axis) for axis in range(delta.ndim))
        below[...] = ctx.backend.xp.permute_dims(delta, back)
        return below

    def __str__(self) -> str:
        return f"Permute {self.axes}"
