"""σ by itself, where another layer stands between it and the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .. import activations
from ..backends import Array, Backend
from ..backends._base import InPlace
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ..registry import name_of
from ._base import LAYERS, ActivationField, Layer, Shape, activation_field


def check_range(kind: str, activation: activations.Activation, shape: Shape | None) -> None:
    """ValueError for softmax and the like on images, where it would act along the last axis.

    `shape` is that of a sample; None: an image's.
    """
    if activation.range == "simplex" and (shape is None or len(shape) != 1):
        raise ValueError(
            f"{kind} cannot have {activation.name or 'simplex'} outputs, which would sum to 1 "
            "along the last axis of an image: take another activation here, and end with "
            'Flatten() and Dense(k, "softmax")'
        )


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Activation(Layer):
    """a = σ(x), element by element, for inputs of any shape; softmax only for flat ones.

    `Dense` and the convolutions have an activation of their own. This one is for what comes after
    another layer: ``Conv2D(16, 3), BatchNorm(), Activation("relu")``. As the last layer it is the
    network's output activation.

    Parameters
    ----------
    activation : Activation or str
        σ, one of `bpx.activations`.

    Raises
    ------
    ValueError
        Softmax on inputs that are not flat.

    Examples
    --------
    >>> from bpx.layers import Activation
    >>> Activation("relu").bind((16, 8, 8)).output_shape
    (16, 8, 8)
    """

    name: ClassVar[str] = "activation"
    ends_in_activation: ClassVar[bool] = True
    in_parts: ClassVar[bool] = True

    activation: ActivationField = activation_field("relu")

    def bind(self, input_shape: Shape) -> Self:
        check_range("Activation", self.activation, input_shape)
        return super().bind(input_shape)

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        if type(self.activation) is activations.Identity:
            return x, None
        backend, a = ctx.backend, ctx.buffer("a", tuple(x.shape))
        parts = backend.parts_of_places(a.shape)

        def work(rows: slice) -> None:
            backend.activate(self.activation, x[rows, ...], a[rows, ...])

        backend.over_rows(work, parts)
        return a, (x, a, parts)

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        if saved is None:
            return delta
        (x, a, parts), backend = saved, ctx.backend

        def work(rows: slice) -> None:
            of_rows = delta[rows, ...], x[rows, ...], a[rows, ...]
            backend.activate_backward(self.activation, *of_rows)

        backend.over_rows(work, parts)
        return delta

    def in_place(self, backend: Backend, p: Space, state: Any) -> InPlace:
        """A function that does on x itself what `forward` does in prediction."""
        return lambda x: backend.activate(self.activation, x, x)

    def __str__(self) -> str:
        return f"Activation {name_of(self.activation) or 'custom'}"
