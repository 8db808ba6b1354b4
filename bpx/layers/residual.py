"""Layers with a shortcut around them (He, Zhang, Ren and Sun, CVPR 2016)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import of_batch
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Converted, Layer, Shape, layers_field
from .convolution import Conv1D, Conv2D
from .dense import Dense
from .nested import Nested, layers_in


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Residual(Nested):
    """y = F(x) + S(x), where F are layers one after another, and S(x) = x or a projection.

    The layers keep the shape of their inputs, or the projection brings x to the shape of their
    outputs. For an activation of the sum, put an `Activation` after it.

    Parameters
    ----------
    layers : sequence of Layer
        F; another `Residual` may be among them.
    projection : Layer, sequence of Layer, "auto" or None
        S; None (default): x itself. ``"auto"``: x itself where the shapes agree, else `Dense` for
        flat inputs, or a convolution of kernel size 1 with the least stride that makes the lengths
        agree, each without bias and activation.
    trainable : bool
        False keeps the parameters of all layers in it. Each layer can also be frozen by itself.

    Raises
    ------
    ValueError, TypeError
        F(x) and S(x) differ in shape; no layers, or something that is not a layer.

    Notes
    -----
    Tensors are called ``0.weights``, ``1.scale`` and so on after the layer's place in F, and
    ``projection.0.weights`` in S.

    Examples
    --------
    >>> from bpx.layers import Activation, BatchNorm, Conv2D, Residual
    >>> block = [Conv2D(16, 3, stride=2, padding=1), BatchNorm(), Activation("relu"),
    ...          Conv2D(16, 3, padding=1), BatchNorm()]
    >>> layer = Residual(block, projection="auto").bind((8, 32, 32))
    >>> layer.output_shape, str(layer.projection[0]), layer.projection[0].stride
    ((16, 16, 16), 'Conv2D 16, 1×1, identity', (2, 2))

    With weights of zero it is the identity:

    >>> import bpx
    >>> still = bpx.layers.Dense(2, weights="zeros", bias="zeros")
    >>> bpx.Network([bpx.layers.Input(2), Residual([still])])([[1.0, -2.0]]).tolist()
    [[1.0, -2.0]]
    """

    name: ClassVar[str] = "residual"

    layers: Converted[tuple[Layer, ...], Iterable[Layer]] = layers_field()
    projection: Converted[tuple[Layer, ...] | str | None, Layer | Iterable[Layer] | str | None] = (
        layers_field(None)
    )

    def validate(self) -> None:
        object.__setattr__(self, "layers", _layers("the layers of Residual", self.layers))
        if isinstance(self.projection, Layer):
            object.__setattr__(self, "projection", (self.projection,))
        elif self.projection is not None and self.projection != "auto":
            what = 'the projection of Residual, if not "auto" or None,'
            object.__setattr__(self, "projection", _layers(what, self.projection))

    def bind(self, input_shape: Shape) -> Self:
        layers = self.bound(self.layers, input_shape, "its layer")
        to = layers[-1].output_shape
        projection = self.projection
        if projection == "auto":
            projection = None
            if to != input_shape and (found := projecting(input_shape, to)) is not None:
                projection = (found,)
        if projection is not None:
            assert isinstance(projection, tuple)  # since `validate`
            projection = self.bound(projection, input_shape, "its projection's layer")
        shortcut = projection[-1].output_shape if projection else input_shape
        if shortcut != to:
            raise ValueError(_differ(shortcut, to, bool(projection)))
        replaced = dataclasses.replace(self, layers=layers, projection=projection)
        return super(Residual, replaced).bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return self.layers[-1].output_shape

    def chains(self) -> dict[str, tuple[Layer, ...]]:
        return {"": self.layers, "projection.": self._shortcut}

    @property
    def _shortcut(self) -> tuple[Layer, ...]:
        """S; empty where it is x itself."""
        return self.projection if isinstance(self.projection, tuple) else ()

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        (y, shortcut), saved = self.through(x, p, ctx)
        total = ctx.buffer("y", tuple(y.shape))
        return ctx.backend.add(y, shortcut, total), saved

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        aside = ctx.buffer("delta", tuple(delta.shape))
        aside[...] = delta  # the layers may overwrite it
        first, second = self.back_through((delta, aside), saved, p, out, ctx)
        if not ctx.wanted:
            return None
        return ctx.backend.axpby(first, second)

    def __str__(self) -> str:
        return "Residual" + (", projected" if self.projection else "")


def projecting(shape: Shape, to: Shape) -> Layer | None:
    """The layer that brings inputs linearly from a shape to another; None: there is none.

    >>> from bpx.layers.residual import projecting
    >>> projecting((8, 7, 7), (16, 4, 4)).stride
    (2, 2)
    """
    if len(shape) == len(to) == 1:
        return Dense(to[0], use_bias=False)
    kind = {2: Conv1D, 3: Conv2D}.get(len(to))
    if kind is None or len(shape) != len(to):
        return None
    stride = tuple(-(-n // k) for n, k in zip(shape[1:], to[1:], strict=True))
    found = kind(to[0], 1, stride=stride, use_bias=False)
    return found if found.bind(shape).output_shape == to else None


def _layers(what: str, given: Any) -> tuple[Layer, ...]:
    found = layers_in(what, given)
    if not found:
        raise ValueError(f"expected {what} to have at least one layer, got none")
    return found


def _differ(shortcut: Shape, to: Shape, projected: bool) -> str:
    around = "its projection gives" if projected else "its inputs are"
    if projected:
        hint = f"end the projection with shape {of_batch(to)}"
    elif projecting(shortcut, to) is not None:
        hint = f'projection="auto" adds {projecting(shortcut, to)} around them'
    else:
        hint = (
            'padding="same" keeps the lengths of an image, or pass projection=, layers of your own'
        )
    given, added = of_batch(to), of_batch(shortcut)
    return f"its layers give {given}, and {around} {added}, which cannot be added: {hint}"
