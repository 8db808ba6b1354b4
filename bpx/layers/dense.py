"""Every output sees every input: the layer of the book's chapters 1 to 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import of_batch, whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Parameter, Space
from ..registry import name_of
from ._base import (
    LAYERS,
    ActivationField,
    InitializerField,
    Layer,
    Shape,
    activation_field,
    check_bias,
    initializer_field,
    weights_and_bias,
)


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Dense(Layer):
    """a = σ(x ωᵀ + b), with weights ω of shape (units, n_in) and bias b of shape (units,).

    Parameters
    ----------
    units : int
        n_out, the number of its neurons.
    activation : Activation or str
        σ; the identity by default.
    weights, bias : Initializer, str or None
        Initial values. None: He weights and zero biases for ReLU and its relatives, else
        N(0, 1/n_in) weights and N(0, 1) biases, as in the book's chapter 3. The values are in
        ``net.weights`` and ``net.biases`` of its network.
    use_bias : bool
        False leaves b out.
    trainable : bool
        False keeps ω and b as they are in training.

    Raises
    ------
    ValueError
        `units` below 1, an unknown name, a `bias` without one, or inputs that are not flat.
    TypeError
        `units` that is no integer.

    Examples
    --------
    >>> from bpx.layers import Dense
    >>> Dense(30, "sigmoid").bind((784,)).parameters()["weights"].shape
    (30, 784)
    """

    name: ClassVar[str] = "dense"
    ends_in_activation: ClassVar[bool] = True

    units: int
    activation: ActivationField = activation_field()
    weights: InitializerField = initializer_field()
    bias: InitializerField = initializer_field()
    use_bias: bool = True

    def validate(self) -> None:
        object.__setattr__(self, "units", whole("the units of Dense", self.units))
        check_bias(self)

    def bind(self, input_shape: Shape) -> Self:
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense expects flat inputs of shape (m, n), got {of_batch(input_shape)}: "
                "put Flatten() before it"
            )
        return super().bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return (self.units,)

    def parameters(self) -> dict[str, Parameter]:
        return weights_and_bias(self, (self.units, *self.shape_in))

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        backend, shape = ctx.backend, (x.shape[0], self.units)
        z = ctx.buffer("z", shape)
        a = ctx.buffer("a", shape) if self.activation.needs_z else z
        # z^l = ω^l a^{l-1} + b^l, a^l = σ(z^l); the last layer's σ is beside the cost: Objective
        if self.use_bias:
            backend.affine_activate(x, p.weights, p.bias, self.activation, z, a)
        else:
            backend.activate(self.activation, backend.gemm(x, p.weights.T, z), a)
        return a, (x, z, a)

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        x, z, a = saved  # z is a itself where σ' needs no other
        # What comes is ∂C/∂a^l: ((ω^{l+1})ᵀ δ^{l+1}) of (BP2), from the layer above.
        delta = ctx.backend.activate_backward(self.activation, delta, z, a)  # δ^l = … ⊙ σ'(z^l)
        below = None
        if ctx.wanted:  # (ω^l)ᵀ δ^l of (BP2), from the old ω
            below = ctx.backend.gemm(delta, p.weights, ctx.buffer("delta", x.shape))
        if out is not None:
            out.weights.product(delta, x)  # ∂C/∂ω^l = δ^l (a^{l-1})ᵀ (BP4)
            if self.use_bias:
                out.bias.sum_rows(delta)  # ∂C/∂b^l = δ^l (BP3)
        return below

    def __str__(self) -> str:
        return f"Dense {self.units}, {name_of(self.activation) or 'custom'}"
