"""The only scaling of inputs: saved with the network, and folded into the gather of a batch."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from ..backends import Array
from ..context import Context
from ..initializers import Initializer
from ..parameters import Parameter
from ._base import LAYERS, Layer, Shape

Numbers = float | Sequence[float]


@dataclass(frozen=True)
class _Values(Initializer):
    values: tuple[float, ...]

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.values, dtype=np.float64), shape)


@LAYERS.builds
@dataclass(frozen=True)
class Rescale(Layer):
    """y = scale·x + offset, with a number for all elements or one for each of the last axis.

    As a network's first layer it costs nothing: each mini-batch is scaled as it is gathered, and
    images that came as uint8 stay uint8 until then.

    Parameters
    ----------
    scale, offset : float or sequence of float
        Sequences have the length of the input's last axis.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([bpx.layers.Input(784), bpx.layers.Rescale(1 / 255),
    ...                    bpx.layers.Dense(10, "softmax")])
    """

    name: ClassVar[str] = "rescale"

    scale: Numbers = 1.0
    offset: Numbers = 0.0

    @classmethod
    def standardizing(cls, x: Any) -> Rescale:
        """The layer that gives each column of `x` (n, k) mean 0 and standard deviation 1.

        A constant column is only shifted.

        >>> Rescale.standardizing([[0.0, 5.0], [4.0, 5.0]])
        Rescale(trainable=True, input_shape=None, scale=(0.5, 1.0), offset=(-1.0, -5.0))
        """
        x = np.asarray(x, dtype=np.float64)
        std = x.std(axis=0)
        scale = 1.0 / np.where(std > 0.0, std, 1.0)
        return cls(tuple(scale.tolist()), tuple((-x.mean(axis=0) * scale).tolist()))

    def validate(self) -> None:
        for what in ("scale", "offset"):
            value = getattr(self, what)
            if isinstance(value, numbers.Real):
                plain: Numbers = float(value)
            else:
                plain = tuple(float(v) for v in value)
            if not np.all(np.isfinite(plain)):
                raise ValueError(f"Rescale expects a finite {what}, got {value!r}")
            object.__setattr__(self, what, plain)

    def bind(self, input_shape: Shape) -> Layer:
        for what in ("scale", "offset"):
            value = getattr(self, what)
            if isinstance(value, tuple) and len(value) != input_shape[-1]:
                raise ValueError(
                    f"Rescale's {what} has {len(value)} values for inputs whose last axis has "
                    f"{input_shape[-1]}"
                )
        return super().bind(input_shape)

    def state(self) -> dict[str, Parameter]:
        # Sequences are state, so that they live on the network's device.
        found = {}
        for what in ("scale", "offset"):
            value = getattr(self, what)
            if isinstance(value, tuple):
                found[what] = Parameter((len(value),), _Values(value))
        return found

    def affine(self, state: SimpleNamespace) -> tuple[Any, Any]:
        """What ``Backend.gather`` multiplies by and adds: numbers, or views into the state."""
        return getattr(state, "scale", self.scale), getattr(state, "offset", self.offset)

    def forward(self, x: Array, p: SimpleNamespace, ctx: Context) -> tuple[Array, Any]:
        scale, offset = self.affine(ctx.state)
        y = ctx.buffer("y", tuple(x.shape))
        return ctx.backend.gather(x, slice(None), y, scale, offset), None

    def backward(
        self,
        delta: Array,
        saved: Any,
        p: SimpleNamespace,
        out: SimpleNamespace | None,
        ctx: Context,
    ) -> Array | None:
        scale, _ = self.affine(ctx.state)
        delta *= scale
        return delta

    def __str__(self) -> str:
        return "Rescale"
