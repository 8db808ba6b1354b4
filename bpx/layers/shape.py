"""The same numbers in another shape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import whole
from ..context import Context
from ._base import LAYERS, Layer, Shape


class Reshaped(Layer):
    """What `Flatten` and `Reshape` share: a view of the samples, in their output's shape."""

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        return ctx.backend.xp.reshape(x, (x.shape[0], *self.output_shape)), None

    def backward(
        self,
        delta: Array,
        saved: Any,
        p: SimpleNamespace,
        out: SimpleNamespace | None,
        ctx: Context,
    ) -> Array | None:
        return ctx.backend.xp.reshape(delta, (delta.shape[0], *self.shape_in))


@LAYERS.builds
@dataclass(frozen=True)
class Reshape(Reshaped):
    """Each sample in another shape, its elements in the same order.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.

    Examples
    --------
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
                f"{math.prod(input_shape)} elements of shape {input_shape} have no shape "
                f"{self.shape}, which takes {math.prod(self.shape)}"
            )
        return super().bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return self.shape

    def __str__(self) -> str:
        return f"Reshape {self.shape}"


@LAYERS.builds
@dataclass(frozen=True)
class Flatten(Reshaped):
    """Each sample as a vector, as `Dense` takes it: (m, c, h, w) to (m, c·h·w).

    Examples
    --------
    >>> Flatten().bind((20, 12, 12)).output_shape
    (2880,)
    """

    name: ClassVar[str] = "flatten"

    @property
    def output_shape(self) -> Shape:
        return (math.prod(self.shape_in),)
