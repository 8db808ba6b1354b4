"""Outputs with mean 0 and variance 1, for each channel over a batch, or for each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..backends import Array, Backend
from ..backends._base import InPlace
from ..checks import fraction, positive, whole
from ..context import Context, alone
from ..elsewhere import OF_LAYERS
from ..initializers import Constant, Initializer, Zeros
from ..keywords import init_hints
from ..parameters import Out, Parameter, Space
from ._base import LAYERS, InitializerField, Layer, Shape, initializer_field

Parts = list[list[slice]]


def _scale_and_shift(
    shape: Shape, scale: Initializer | None, shift: Initializer | None
) -> dict[str, Parameter]:
    """γ and β."""
    return {
        "scale": Parameter(shape, scale or Constant(1.0)),
        "shift": Parameter(shape, shift or Zeros()),
    }


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = γ·(x − μ)/√(v + ε) + β, with mean μ and variance v of each channel (axis 1).

    Inputs are (m, c), (m, c, n), (m, c, h, w) and so on; outputs have their shape. In training μ
    and v are those of the mini-batch, over its rows and places (of the whole mini-batch among
    ranks, of each slice with ``accumulate=``), and the running ones follow them,

        μ̄ ← (1 − momentum)·μ̄ + momentum·μ,

    and likewise v̄ with the unbiased v: divided by one less than the number of values. Outside
    training μ and v are the running ones. All this is as in PyTorch.
    Sample weights apply to costs, not to these statistics.

    Put it between a layer without activation and `Activation`; a bias before it is of no use:
    ``Conv2D(16, 3, use_bias=False), BatchNorm(), Activation("relu")``.

    Parameters
    ----------
    momentum : float
        0 < momentum < 1, the share of the new values; 0.1 by default (Keras's 0.99 is the share of
        the old).
    epsilon : float
        ε > 0; 1e-5 by default.
    scale, shift : Initializer, str or None
        Initial values of γ and β, (c,); 1 and 0 by default. They are not decayed.
    trainable : bool
        False keeps γ and β, and uses the running statistics, unchanged, in training too (as in
        Keras; PyTorch's ``eval()``).

    Raises
    ------
    ValueError
        In training: a batch with one value in each channel, which has no variance.

    Notes
    -----
    μ is found in two passes, so that float32 inputs far from zero keep their variance: the second
    corrects the first by the mean of the remainders. Sergey Ioffe and Christian Szegedy, *Batch
    normalization*, ICML 2015.

    Examples
    --------
    >>> from bpx.layers import BatchNorm
    >>> layer = BatchNorm().bind((16, 8, 8))
    >>> layer.output_shape, layer.parameters()["scale"].shape, sorted(layer.state())
    ((16, 8, 8), (16,), ['mean', 'variance'])

    A pass as in training moves the running μ̄ and v̄, from 0 and 1, a tenth of the way to 2 and 2:

    >>> import bpx
    >>> layers = [bpx.layers.Input(1), BatchNorm(), bpx.layers.Dense(1)]
    >>> net = bpx.Network(layers, dtype="float64")
    >>> grad = net.backprop([[1.0], [3.0]], [[0.0], [0.0]])
    >>> [net.tensors[f"layers.0.{name}"].round(3).item() for name in ("mean", "variance")]
    [0.2, 1.1]
    """

    name: ClassVar[str] = "batch-norm"
    in_parts: ClassVar[bool] = True

    momentum: float = 0.1
    epsilon: float = 1e-5
    scale: InitializerField = initializer_field()
    shift: InitializerField = initializer_field()

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

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        backend, shape = ctx.backend, tuple(x.shape)
        y, normal = ctx.buffer("y", shape), ctx.buffer("normal", shape)
        of_batch = ctx.training and self.trainable
        if of_batch and _at_once(x, ctx):
            n, slope, state = self._values(shape[0]), ctx.buffer("slope", shape[1:]), ctx.state
            backend.batch_norm(
                *(x, state.mean, state.variance, p.scale, p.shift),
                *(self.momentum, self.epsilon, slope, normal, y),
            )
            return y, (normal, slope, n, y)
        parts = backend.parts_of_places(shape)
        if of_batch:
            numbers, n = self._of_batch(x, y, parts, p, ctx)
        else:
            xp, mean, n = backend.xp, ctx.state.mean, 0.0
            slope = 1.0 / xp.sqrt(ctx.state.variance + self.epsilon)
            numbers = xp.stack([mean, xp.zeros_like(mean), slope, p.scale, p.shift])

        def work(rows: slice) -> None:
            backend.normalize(x[rows, ...], numbers, normal[rows, ...], y[rows, ...])

        backend.over_rows(work, parts)
        return y, (normal, numbers[2, ...], n, y)

    def _of_batch(
        self, x: Array, room: Array, parts: Parts, p: Space, ctx: Context
    ) -> tuple[Array, float]:
        """What `normalize` takes, and how many values each channel has.

        Also updates the running statistics.
        """
        backend, n = ctx.backend, self._values(ctx.batch_rows(x.shape[0]))

        def first(rows: slice, sums: Array, beta: float) -> None:
            backend.sum_channels(x[rows, ...], sums[0, ...], 1.0, beta)

        mean = ctx.batch_sum(self._sums(first, parts, ctx)[0, ...]) / n

        def second(rows: slice, sums: Array, beta: float) -> None:
            backend.moments(x[rows, ...], mean, room[rows, ...], sums, beta)

        sums, state = ctx.batch_sum(self._sums(second, parts, ctx)), ctx.state
        numbers = ctx.buffer("numbers", (5, self.shape_in[0]))
        backend.batch_statistics(
            *(mean, sums, state.mean, state.variance, p.scale, p.shift),
            *(n, self.momentum, self.epsilon, numbers),
        )
        return numbers, n

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        normal, slope, n, room = saved  # room is y's, which nobody reads any more
        factor = slope * p.scale  # γ/σ
        if n and ctx.wanted and _at_once(delta, ctx):
            sums = ctx.buffer("sums", (2, delta.shape[1]))
            ctx.backend.batch_norm_backward(delta, normal, factor, room, sums)
        else:
            sums = self._backward_in_parts(delta, normal, factor, n, room, ctx)
        if out is not None:
            out.scale.write(sums[0, ...])
            out.shift.write(sums[1, ...])
        return delta

    def in_place(self, backend: Backend, p: Space, state: Space) -> InPlace:
        """A function that does on x itself, (m, c), what `forward` does in prediction."""
        arrays = state.mean, state.variance, p.scale, p.shift
        return lambda x: backend.running_norm(x, *arrays, self.epsilon)

    def _backward_in_parts(
        self,
        delta: Array,
        normal: Array,
        factor: Array,
        n: float,
        room: Array,
        ctx: Context,
    ) -> Array:
        """Σ δ·x̂ and Σ δ; then δ becomes ∂C/∂x, if it is wanted."""
        backend, parts = ctx.backend, ctx.backend.parts_of_places(tuple(delta.shape))

        def of_rows(rows: slice, sums: Array, beta: float) -> None:
            arrays = delta[rows, ...], normal[rows, ...], room[rows, ...]
            backend.normalize_sums(*arrays, sums, beta)

        sums = self._sums(of_rows, parts, ctx)
        if ctx.wanted:
            # A batch's μ and v depend on x too.
            means = ctx.batch_sum(sums) / n if n else backend.xp.zeros_like(sums)

            def work(rows: slice) -> None:
                backend.normalize_backward(delta[rows, ...], normal[rows, ...], means, factor)

            backend.over_rows(work, parts)
        return sums

    def _sums(
        self, add: Callable[[slice, Array, float], None], parts: Parts, ctx: Context
    ) -> Array:
        """Sums (2, c) over all rows; ``add(rows, sums, β)`` does ``sums ← β·sums + `` theirs."""
        sums = ctx.buffer("sums", (len(parts), 2, self.shape_in[0]))

        def work(part: int, slices: list[slice]) -> None:
            for rows in slices:
                add(rows, sums[part, ...], 0.0 if rows is slices[0] else 1.0)

        ctx.backend.side_by_side(work, parts)
        return sums[0, ...] if len(parts) == 1 else ctx.backend.xp.sum(sums, axis=0)

    def _values(self, rows: int) -> float:
        """The number of values of each channel in `rows` rows."""
        values = rows * math.prod(self.shape_in[1:])
        if values == 1:
            raise ValueError(
                "BatchNorm got a mini-batch of one row, with one value in each channel, which has "
                "no variance: in training it needs two rows or more"
            )
        return float(values)


def _at_once(x: Array, ctx: Context) -> bool:
    """Whether all of the mini-batch is at hand, and it is one of vectors."""
    return x.ndim == 2 and ctx.batch_sum is alone


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = γ ⊙ (x − μ)/√(v + ε) + β, with mean μ and variance v over the axes of each sample.

    It is the same in training and in prediction, and for any number of rows.

    Parameters
    ----------
    axes : int or None
        How many last axes to normalize over; γ and β have their shape. None (default): all axes of
        a sample. PyTorch's ``LayerNorm(shape)`` takes as many as `shape` has.
    epsilon : float
        ε > 0; 1e-5 by default.
    scale, shift : Initializer, str or None
        Initial values of γ and β; 1 and 0 by default. They are not decayed.
    trainable : bool
        False keeps γ and β.

    Notes
    -----
    μ is found in two passes, as in `BatchNorm`. Jimmy Lei Ba, Jamie Ryan Kiros and Geoffrey
    Hinton, *Layer normalization*, 2016.

    Examples
    --------
    >>> from bpx.layers import LayerNorm
    >>> layer = LayerNorm().bind((16, 8, 8))
    >>> layer.output_shape, layer.parameters()["scale"].shape
    ((16, 8, 8), (16, 8, 8))
    >>> LayerNorm(axes=1).bind((5, 32)).parameters()["scale"].shape
    (32,)
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input(2), LayerNorm()])
    >>> net([[1.0, 3.0], [10.0, -10.0]]).round(3).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    name: ClassVar[str] = "layer-norm"

    axes: int | None = None
    epsilon: float = 1e-5
    scale: InitializerField = initializer_field()
    shift: InitializerField = initializer_field()

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
        """The shape of the axes it normalizes over."""
        return self.shape_in[-(self.axes or len(self.shape_in)) :]

    def parameters(self) -> dict[str, Parameter]:
        return _scale_and_shift(self._shape, self.scale, self.shift)

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.shape_in)

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        xp, shape, length = ctx.backend.xp, tuple(x.shape), math.prod(self._shape)
        of_rows = shape[0] * math.prod(self.shape_in) // length, length
        normal, y = ctx.buffer("normal", of_rows), ctx.buffer("y", of_rows)
        slope = ctx.buffer("slope", (of_rows[0], 1))
        scale, shift = (_shaped(xp, tensor, (length,)) for tensor in (p.scale, p.shift))
        x = _shaped(xp, x, of_rows)
        ctx.backend.layer_norm(x, scale, shift, self.epsilon, slope, normal, y)
        return _shaped(xp, y, shape), (normal, slope, y)

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        normal, slope, room = saved  # room is y's, which nobody reads any more
        xp, shape, of_rows = ctx.backend.xp, tuple(delta.shape), tuple(normal.shape)
        scale, sums = _shaped(xp, p.scale, of_rows[1:]), ctx.buffer("sums", (2, of_rows[1]))
        delta = _shaped(xp, delta, of_rows)
        ctx.backend.layer_norm_backward(delta, normal, scale, slope, room, sums)
        if out is not None:
            out.scale.write(_shaped(xp, sums[0, ...], self._shape))
            out.shift.write(_shaped(xp, sums[1, ...], self._shape))
        return _shaped(xp, delta, shape)

    def in_place(self, backend: Backend, p: Space, state: Space) -> InPlace:
        """A function that does on x itself, (m, n), what `forward` does."""
        empty = backend.xp.empty

        def run(x: Array) -> None:
            normal, slope = empty(x.shape, dtype=x.dtype), empty((x.shape[0], 1), dtype=x.dtype)
            backend.layer_norm(x, p.scale, p.shift, self.epsilon, slope, normal, x)

        return run


def _shaped(xp: Any, array: Array, shape: Shape) -> Array:
    """In that shape; of vectors it is the array itself, and no call."""
    return array if tuple(array.shape) == shape else xp.reshape(array, shape)
