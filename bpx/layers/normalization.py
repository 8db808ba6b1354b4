"""Outputs with mean 0 and variance 1, of each channel over a batch, or of each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import fraction, positive, whole
from ..context import Context
from ..initializers import Constant, Initializer, Zeros
from ..parameters import Parameter
from ._base import LAYERS, Layer, Shape, initializer_field


def _scale_and_shift(
    shape: Shape, scale: Initializer | None, shift: Initializer | None
) -> dict[str, Parameter]:
    """γ and β."""
    return {
        "scale": Parameter(shape, scale or Constant(1.0)),
        "shift": Parameter(shape, shift or Zeros()),
    }


@LAYERS.builds
@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = γ·(x − μ)/√(v + ε) + β, with mean μ and variance v of each channel (axis 1).

    Inputs are (m, c), (m, c, n), (m, c, h, w) and so on; outputs have their shape. In training μ
    and v are those of the mini-batch, over its rows and places (of the whole mini-batch among
    ranks, of each slice with ``accumulate=``), and the running ones follow them,

        μ̄ ← (1 − momentum)·μ̄ + momentum·μ,

    the same for v, without bias: divided by one less than the number of values. Else μ and v are
    the running ones. All this is as in PyTorch. Sample weights weigh costs, not these statistics.

    Put it between a layer without activation and `Activation`; a bias before it is of no use:
    ``Conv2D(16, 3, use_bias=False), BatchNorm(), Activation("relu")``.

    Parameters
    ----------
    momentum : float
        0 < momentum < 1, the share of the new; 0.1 by default (where Keras has 0.99 of the old).
    epsilon : float
        ε > 0; 1e-5 by default.
    scale, shift : Initializer, str or None
        First values of γ and β, (c,); 1 and 0 by default. They are not decayed.
    trainable : bool
        False keeps γ and β, and takes the running statistics as they are, in training too (as in
        Keras; PyTorch's ``eval()``).

    Raises
    ------
    ValueError
        In training: one value in each channel of a batch, which has no variance.

    Notes
    -----
    μ is found in two passes, so that float32 inputs far from zero keep their variance: the second
    corrects the first by the mean of what it left. Sergey Ioffe and Christian Szegedy, *Batch
    normalization*, ICML 2015.

    Examples
    --------
    >>> layer = BatchNorm().bind((16, 8, 8))
    >>> layer.output_shape, layer.parameters()["scale"].shape, sorted(layer.state())
    ((16, 8, 8), (16,), ['mean', 'variance'])
    """

    name: ClassVar[str] = "batch-norm"

    momentum: float = 0.1
    epsilon: float = 1e-5
    scale: Initializer | None = initializer_field()
    shift: Initializer | None = initializer_field()

    def validate(self) -> None:
        fraction("the momentum of BatchNorm", self.momentum)
        positive("the epsilon of BatchNorm", self.epsilon)

    def parameters(self) -> dict[str, Parameter]:
        return _scale_and_shift(self.shape_in[:1], self.scale, self.shift)

    def state(self) -> dict[str, Parameter]:
        channels = self.shape_in[:1]
        return {
            "mean": Parameter(channels, Zeros()),
            "variance": Parameter(channels, Constant(1.0)),
        }

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.shape_in)

    @property
    def least_rows(self) -> int:
        return 2 if self.trainable and math.prod(self.shape_in[1:]) == 1 else 1

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        xp, y = ctx.backend.xp, ctx.buffer("y", tuple(x.shape))
        normal = ctx.buffer("normal", tuple(x.shape))
        normal[...] = x
        if ctx.training and self.trainable:
            slope, n = self._of_batch(normal, y, ctx)
        else:
            normal -= self._across(ctx.state.mean, xp)
            slope, n = 1.0 / xp.sqrt(ctx.state.variance + self.epsilon), None
        normal *= self._across(slope, xp)
        y[...] = normal
        y *= self._across(p.scale, xp)
        y += self._across(p.shift, xp)
        return y, (normal, slope, n, y)

    def _of_batch(self, normal: Array, room: Array, ctx: Context) -> tuple[Array, float]:
        """Subtract the mean of each channel, and let the running statistics follow.

        Returns 1/√(v + ε), and how many values each channel has.
        """
        xp, axes, n = ctx.backend.xp, self._axes, self._values(ctx.batch_rows(normal.shape[0]))
        mean = ctx.batch_sum(xp.sum(normal, axis=axes)) / n
        normal -= self._across(mean, xp)
        room[...] = normal
        room *= normal
        sums = ctx.batch_sum(xp.stack([xp.sum(normal, axis=axes), xp.sum(room, axis=axes)])) / n
        left, square = sums[0, ...], sums[1, ...]
        normal -= self._across(left, xp)
        variance = xp.maximum(square - left * left, xp.zeros_like(left))
        new = {"mean": mean + left, "variance": variance * (n / (n - 1.0))}
        for name, value in new.items():
            running = getattr(ctx.state, name)
            running *= 1.0 - self.momentum
            running += self.momentum * value
        return 1.0 / xp.sqrt(variance + self.epsilon), n

    def backward(
        self,
        delta: Array,
        saved: Any,
        p: SimpleNamespace,
        out: SimpleNamespace | None,
        ctx: Context,
    ) -> Array | None:
        normal, slope, n, room = saved  # that of y, which nobody reads any more
        xp, axes = ctx.backend.xp, self._axes
        factor = self._across(p.scale * slope, xp)  # from the old γ
        room[...] = delta
        room *= normal
        scale, shift = xp.sum(room, axis=axes), xp.sum(delta, axis=axes)
        if ctx.wanted:
            if n is not None:  # μ and v depend on x too
                means = ctx.batch_sum(xp.stack([scale, shift])) / n
                normal *= self._across(means[0, ...], xp)
                delta -= normal
                delta -= self._across(means[1, ...], xp)
            delta *= factor
        if out is not None:
            out.scale.write(scale)
            out.shift.write(shift)
        return delta

    def _values(self, rows: int) -> float:
        """Of each channel in so many rows."""
        values = rows * math.prod(self.shape_in[1:])
        if values == 1:
            raise ValueError(
                "BatchNorm got a mini-batch of one row, with one value in each channel, which has "
                "no variance: in training it takes two rows or more"
            )
        return float(values)

    @property
    def _axes(self) -> tuple[int, ...]:
        return (0, *range(2, len(self.shape_in) + 1))

    def _across(self, of_channels: Array, xp: Any) -> Array:
        """A number for each channel, (c, 1, 1) for images."""
        return xp.reshape(of_channels, (-1, *(len(self.shape_in) - 1) * (1,)))


@LAYERS.builds
@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = γ ⊙ (x − μ)/√(v + ε) + β, with mean μ and variance v over the axes of each sample.

    It is the same in training and in prediction, and for any number of rows.

    Parameters
    ----------
    axes : int or None
        Over so many last axes, of whose shape γ and β are; None (default): over all of a sample.
        PyTorch's ``LayerNorm(shape)`` has as many as its shape.
    epsilon : float
        ε > 0; 1e-5 by default.
    scale, shift : Initializer, str or None
        First values of γ and β; 1 and 0 by default. They are not decayed.
    trainable : bool
        False keeps γ and β.

    Notes
    -----
    μ is found in two passes, as in `BatchNorm`. Jimmy Lei Ba, Jamie Ryan Kiros and Geoffrey
    Hinton, *Layer normalization*, 2016.

    Examples
    --------
    >>> layer = LayerNorm().bind((16, 8, 8))
    >>> layer.output_shape, layer.parameters()["scale"].shape
    ((16, 8, 8), (16, 8, 8))
    >>> LayerNorm(axes=1).bind((5, 32)).parameters()["scale"].shape
    (32,)
    """

    name: ClassVar[str] = "layer-norm"

    axes: int | None = None
    epsilon: float = 1e-5
    scale: Initializer | None = initializer_field()
    shift: Initializer | None = initializer_field()

    def validate(self) -> None:
        if self.axes is not None:
            object.__setattr__(self, "axes", whole("the axes of LayerNorm", self.axes))
        positive("the epsilon of LayerNorm", self.epsilon)

    def bind(self, input_shape: Shape) -> Self:
        if self.axes is not None and self.axes > len(input_shape):
            raise ValueError(
                f"expected the axes of LayerNorm to be at most the {len(input_shape)} of a sample "
                f"of shape {tuple(input_shape)}, got {self.axes}"
            )
        return super().bind(input_shape)

    @property
    def _shape(self) -> Shape:
        """Over which it goes."""
        return self.shape_in[-(self.axes or len(self.shape_in)) :]

    def parameters(self) -> dict[str, Parameter]:
        return _scale_and_shift(self._shape, self.scale, self.shift)

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.shape_in)

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        xp, length = ctx.backend.xp, math.prod(self._shape)
        rows = x.shape[0] * math.prod(self.shape_in) // length
        normal, y = (ctx.buffer(name, (rows, length)) for name in ("normal", "y"))
        normal[...] = xp.reshape(x, (rows, length))
        normal -= xp.mean(normal, axis=1, keepdims=True)
        normal -= xp.mean(normal, axis=1, keepdims=True)
        y[...] = normal
        y *= normal
        slope = 1.0 / xp.sqrt(xp.mean(y, axis=1, keepdims=True) + self.epsilon)
        normal *= slope
        y[...] = normal
        y *= xp.reshape(p.scale, (length,))
        y += xp.reshape(p.shift, (length,))
        return xp.reshape(y, tuple(x.shape)), (normal, slope, y)

    def backward(
        self,
        delta: Array,
        saved: Any,
        p: SimpleNamespace,
        out: SimpleNamespace | None,
        ctx: Context,
    ) -> Array | None:
        normal, slope, room = saved  # that of y, which nobody reads any more
        xp, shape = ctx.backend.xp, tuple(delta.shape)
        delta = xp.reshape(delta, tuple(normal.shape))
        room[...] = delta
        room *= normal
        scale, shift = xp.sum(room, axis=0), xp.sum(delta, axis=0)
        if ctx.wanted:  # from the old γ
            delta *= xp.reshape(p.scale, (-1,))
            room[...] = delta
            room *= normal
            normal *= xp.mean(room, axis=1, keepdims=True)
            delta -= xp.mean(delta, axis=1, keepdims=True)
            delta -= normal
            delta *= slope
        if out is not None:
            out.scale.write(xp.reshape(scale, self._shape))
            out.shift.write(xp.reshape(shift, self._shape))
        return xp.reshape(delta, shape)
