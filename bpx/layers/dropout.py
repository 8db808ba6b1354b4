"""Neurons left out at random, in training only (ch. 3; Srivastava and others, JMLR 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import Array
from ..checks import fraction
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Layer


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Dropout(Layer):
    """In training each element is 0 with probability `rate`, else scaled by 1/(1 − rate).

    The mask is a pure function of the network's key, the layer, the step, the row in the global
    batch and the element (`bpx.random`): the same on every backend and for any number of ranks.
    Outside training the layer does nothing.

    Parameters
    ----------
    rate : float
        0 ≤ rate < 1.

    Raises
    ------
    ValueError, TypeError
        Another number, or none.

    Examples
    --------
    The gradient of the weights after it shows its outputs in training:

    >>> import bpx
    >>> from bpx.layers import Dropout
    >>> layers = [bpx.layers.Input(100), Dropout(0.75), bpx.layers.Dense(1)]
    >>> net, x = bpx.Network(layers, seed=0), [[1.0] * 100]
    >>> sorted(set(net.backprop(x, output_gradient=[[1.0]]).weights[0][0].tolist()))
    [0.0, 4.0]
    >>> sorted(set(net.activations(x)[0][0].tolist()))
    [1.0]
    """

    name: ClassVar[str] = "dropout"

    rate: float = 0.5

    def validate(self) -> None:
        fraction("the rate of Dropout", self.rate, zero=True)

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        if not ctx.training or self.rate == 0.0:
            return x, None
        kept = ctx.keep(x.shape, 1.0 - self.rate)
        mask = ctx.buffer("mask", x.shape)
        mask[...] = ctx.backend.xp.astype(kept, mask.dtype)
        mask *= 1.0 / (1.0 - self.rate)
        y = ctx.buffer("y", x.shape)
        y[...] = x * mask
        return y, mask

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        if saved is not None:
            delta *= saved
        return delta

    def __str__(self) -> str:
        return f"Dropout {self.rate:g}"
