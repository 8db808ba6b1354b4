"""Vectors for whole numbers, such as words and categories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import Array
from ..checks import whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..initializers import Normal
from ..keywords import init_hints
from ..parameters import Out, Parameter, Space
from ._base import LAYERS, InitializerField, Layer, Shape, initializer_field


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Embedding(Layer):
    """Row i of its weights for each whole number i: (m, n) to (m, n, width), as in PyTorch.

    A network that begins with it (after `Flatten` or `Reshape`, if need be) takes whole numbers
    from 0 to count − 1, as integers or floats; they are checked with the rest of the data, and
    reach the layer as integers, never rounded. In a table with other numbers it is in a branch,
    after `Columns`: see `Concatenate`. `Flatten` after it makes vectors of n·width.
    `Conv1D` would take n for its channels: for a convolution along n put ``Permute((1, 0))``
    before it. The mean of the n vectors is ``Permute((1, 0)), GlobalAveragePool1D()``.

    Parameters
    ----------
    count : int
        How many numbers there are.
    width : int
        The length of each number's vector.
    weights : Initializer, str or None
        Initial values, (count, width); N(0, 1) by default. L1, L2 and weight decay act on them.
    trainable : bool
        False keeps the weights as they are in training.

    Notes
    -----
    The gradient of the weights is summed in a fixed order, the same bits every time. It is dense:
    an optimizer's step goes over all of them.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input(3), bpx.layers.Embedding(1000, 16),
    ...                    bpx.layers.Flatten(), bpx.layers.Dense(2, "softmax")], seed=0)
    >>> net.activations([[7, 7, 999]])[0].shape
    (1, 3, 16)
    """

    name: ClassVar[str] = "embedding"

    count: int
    width: int
    weights: InitializerField = initializer_field()

    def validate(self) -> None:
        for what in ("count", "width"):
            object.__setattr__(self, what, whole(f"the {what} of Embedding", getattr(self, what)))

    @property
    def index_count(self) -> int | None:
        return self.count

    @property
    def output_shape(self) -> Shape:
        return (*self.shape_in, self.width)

    def parameters(self) -> dict[str, Parameter]:
        weights = self.weights or Normal()
        return {"weights": Parameter((self.count, self.width), weights, decayed=True)}

    @property
    def multiply_adds(self) -> int:
        return 0

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        xp = ctx.backend.xp
        if x.dtype == ctx.dtype:  # whole numbers that came beside others
            x = xp.astype(x, ctx.backend.index_dtype)
        rows = xp.reshape(x, (-1,))
        y = ctx.buffer("y", (x.shape[0] * math.prod(self.shape_in), self.width))
        ctx.backend.gather(p.weights, rows, y)
        return xp.reshape(y, (x.shape[0], *self.output_shape)), rows

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        xp, m = ctx.backend.xp, delta.shape[0]
        if out is not None:
            out.weights.sum_at(xp.reshape(delta, (-1, self.width)), saved)
        if not ctx.wanted:
            return None
        below = ctx.buffer("delta", (m, *self.shape_in))
        below[...] = 0.0  # whole numbers have no gradient
        return below

    def __str__(self) -> str:
        return f"Embedding {self.count:,} × {self.width}"
