"""The same weights at every place of an image or a sequence (ch. 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self, cast

from ..backends import Array
from ..checks import whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Parameter, Space
from ..registry import name_of
from ._base import (
    LAYERS,
    ActivationField,
    InitializerField,
    Shape,
    activation_field,
    check_bias,
    initializer_field,
    weights_and_bias,
)
from .activation import check_range
from .sliding import OfImages, Sliding, check_windows, pairs_of_padding, per_axis


@dataclass(frozen=True)
class Convolution(OfImages):
    """What `Conv1D` and `Conv2D` share: windows along any number of axes, `axes`."""

    ends_in_activation: ClassVar[bool] = True
    in_parts: ClassVar[bool] = True

    channels: int
    kernel_size: int | tuple[int, ...]
    activation: ActivationField = activation_field()
    stride: int | tuple[int, ...] = 1
    padding: int | str | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    weights: InitializerField = initializer_field()
    bias: InitializerField = initializer_field()
    use_bias: bool = True

    def validate(self) -> None:
        kind = type(self).__name__
        for what in ("channels", "groups"):
            object.__setattr__(self, what, whole(f"the {what} of {kind}", getattr(self, what)))
        for what in ("kernel_size", "stride", "dilation"):
            value = per_axis(f"the {what} of {kind}", getattr(self, what), self.axes)
            object.__setattr__(self, what, value)
        if isinstance(self.padding, str) and self.padding != "same":
            raise ValueError(
                f'expected the padding of {kind} to be "same" or numbers, got {self.padding!r}; '
                '"valid" is padding=0'
            )
        if self.padding != "same":
            value = per_axis(f"the padding of {kind}", self.padding, self.axes, 0)
            object.__setattr__(self, "padding", value)
        check_bias(self)
        check_range(kind, self.activation, None)
        if self.channels % self.groups:
            raise ValueError(
                f"expected the channels of {kind} to be a multiple of groups={self.groups}, got "
                f"{self.channels}"
            )

    def bind(self, input_shape: Shape) -> Self:
        bound = super().bind(input_shape)
        if input_shape[0] % self.groups:
            raise ValueError(
                f"expected the input's channels to be a multiple of groups={self.groups}, got "
                f"{input_shape[0]}"
            )
        check_windows(type(self).__name__, bound.sliding)
        return bound

    @cached_property
    def sliding(self) -> Sliding:
        """Where its windows lie."""
        fields = self.kernel_size, self.stride, self.dilation  # tuples since `validate`
        size, stride, dilation = cast("tuple[Shape, Shape, Shape]", fields)
        lengths = self.shape_in[1:]
        padding = pairs_of_padding(self.padding, lengths, size, stride, dilation)
        return Sliding(lengths, size, stride, dilation, padding)

    @property
    def output_shape(self) -> Shape:
        return (self.channels, *self.sliding.counts)

    @property
    def multiply_adds(self) -> int:
        return math.prod(self._weights_shape) * math.prod(self.sliding.counts)

    @property
    def _weights_shape(self) -> Shape:
        return (self.channels, self.shape_in[0] // self.groups, *self.sliding.size)

    def parameters(self) -> dict[str, Parameter]:
        return weights_and_bias(self, self._weights_shape)

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        backend, m = ctx.backend, x.shape[0]
        z = ctx.buffer("z", (m, *self.output_shape))
        a = ctx.buffer("a", z.shape) if self.activation.needs_z else z
        shapes = self.shape_in[0], self._weights_shape
        parts = backend.parts_of_windows(m, *shapes, self.sliding)

        def work(part: int, slices: list[slice]) -> None:
            room = partial(ctx.buffer, f"room {part}")
            for rows in slices:  # z^l = ω^l ∗ a^{l-1} + b^l, a^l = σ(z^l)
                of_rows = backend.convolve(
                    x[rows, ...], p.weights, self.sliding, room, z[rows, ...]
                )
                activated = of_rows if a is z else a[rows, ...]
                if self.use_bias:
                    backend.bias_activate(p.bias, self.activation, of_rows, activated)
                else:
                    backend.activate(self.activation, of_rows, activated)

        backend.side_by_side(work, parts)
        return a, (x, z, a, parts)

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        x, z, a, parts = saved
        backend, sliding = ctx.backend, self.sliding
        gradients = ctx.buffer("gradients", (len(parts), *self._weights_shape))
        sums = ctx.buffer("sums", (len(parts), self.channels))
        below = ctx.buffer("delta", tuple(x.shape)) if ctx.wanted else None

        def work(part: int, slices: list[slice]) -> None:
            room = partial(ctx.buffer, f"room {part}")
            for rows in slices:
                # δ^l = … ⊙ σ'(z^l)
                of_rows = backend.activate_backward(
                    self.activation, delta[rows, ...], z[rows, ...], a[rows, ...]
                )
                beta = 0.0 if rows is slices[0] else 1.0
                if out is not None:  # ∂C/∂ω^l = Σ δ^l (a^{l-1})ᵀ (BP4), over all windows
                    patched = len(slices) == 1
                    arrays = x[rows, ...], of_rows, sliding, room, gradients[part, ...]
                    backend.convolve_weights(*arrays, beta, patched)
                if out is not None and self.use_bias:  # ∂C/∂b^l = Σ δ^l (BP3)
                    backend.sum_channels(of_rows, sums[part, ...], 1.0, beta)
                if below is not None:  # (ω^l)ᵀ δ^l of (BP2)
                    backend.convolve_inputs(of_rows, p.weights, sliding, room, below[rows, ...])

        backend.side_by_side(work, parts)
        if out is not None:  # the sums over the parts
            out.weights.sum_rows(gradients)
            if self.use_bias:
                out.bias.sum_rows(sums)
        return below

    def __str__(self) -> str:
        size = "×".join(map(str, cast("Shape", self.kernel_size)))
        kind, activation = type(self).__name__, name_of(self.activation) or "custom"
        return f"{kind} {self.channels}, {size}, {activation}"


# By another name, since mypy reads a `Converted` field that a frozen dataclass inherits as what
# it was given as (its issue 17601).
frozen = dataclass(frozen=True)


@LAYERS.builds
@init_hints(OF_LAYERS)
@frozen
class Conv2D(Convolution):
    """a = σ(ω ∗ x + b) on images (m, c, h, w), with weights (channels, c/groups, kh, kw).

    Each of its feature maps (``channels``) has one kernel and one bias, which it moves over the
    image: z_{o,i,j} = b_o + Σ_{c,u,v} ω_{o,c,u,v} x_{c, i·s+u·d−p, j·s+v·d−p}, the
    cross-correlation that is called a convolution (ch. 6). Outputs are (m, channels, oh, ow) with
    oh = ⌊(h + 2p − (kh − 1) d − 1) / s⌋ + 1.

    Parameters
    ----------
    channels : int
        Those of the outputs, one feature map each.
    kernel_size : int or (int, int)
        kh and kw.
    activation : Activation or str
        σ, element by element; the identity by default.
    stride : int or (int, int)
        s; 1 by default.
    padding : int, (int, int) or "same"
        p zeros on either side of each axis; 0 by default. ``"same"``: as many as make
        oh = ⌈h/s⌉, an odd one at the end.
    dilation : int or (int, int)
        d, the step from one element of a kernel to the next; 1 by default.
    groups : int
        Parts of the channels that do not see each other; 1 by default.
    weights, bias : Initializer, str or None
        Initial values, as for `Dense`, with n_in = c/groups·kh·kw.
    use_bias : bool
        False leaves b out.
    trainable : bool
        False keeps ω and b as they are in training.

    Raises
    ------
    ValueError, TypeError
        Numbers out of range; channels that are not a multiple of `groups`; a `bias` without one;
        softmax.

    Examples
    --------
    >>> from bpx.layers import Conv2D
    >>> layer = Conv2D(20, 5, "relu").bind((1, 28, 28))
    >>> layer.output_shape, layer.parameters()["weights"].shape
    ((20, 24, 24), (20, 1, 5, 5))
    >>> import bpx
    >>> sums = Conv2D(1, 2, weights=bpx.initializers.Constant(1.0), bias="zeros")
    >>> net = bpx.Network([bpx.layers.Input((1, 2, 3)), sums, bpx.layers.Flatten()])
    >>> net([[[[1, 2, 3], [4, 5, 6]]]]).tolist()
    [[12.0, 16.0]]
    """

    name: ClassVar[str] = "conv2d"
    axes: ClassVar[int] = 2


@LAYERS.builds
@init_hints(OF_LAYERS)
@frozen
class Conv1D(Convolution):
    """a = σ(ω ∗ x + b) on sequences (m, c, n), with weights (channels, c/groups, k).

    `Conv2D` along one axis, with the same parameters: numbers, or tuples of one.

    Examples
    --------
    >>> from bpx.layers import Conv1D
    >>> Conv1D(8, 3, "relu", padding="same").bind((2, 100)).output_shape
    (8, 100)
    """

    name: ClassVar[str] = "conv1d"
    axes: ClassVar[int] = 1
