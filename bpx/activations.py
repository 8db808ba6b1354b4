"""σ and its derivative, side by side.

z has shape (m, n), one sample per row; a = σ(z). `backward` takes ∂C/∂a and returns ∂C/∂z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .backends import Array
from .checks import not_as_expected, number, positive, takes
from .elsewhere import ATTRIBUTES_OF_ACTIVATIONS
from .keywords import init_hints, missing
from .registry import Registry, by_class, called, unknown

RANGES = ["real", "nonnegative", "positive", "unit", "simplex"]


@init_hints(more='σ(z) is .forward(np, z), and a layer bpx.layers.Activation("relu")')
@dataclass(frozen=True)
class Activation:
    """σ: stateless, and its methods get the namespace of their arrays, ``forward(np, z)``.

    A subclass, a frozen dataclass if it has fields, defines `forward`, and `derivative` where σ
    works element by element, or else `backward`.

    Attributes
    ----------
    name : str
        What a user types and a file stores.
    range : str
        Where σ's values lie: ``"real"``, ``"nonnegative"``, ``"positive"``, ``"unit"`` (0 to 1) or
        ``"simplex"`` (and rows that sum to 1). Costs refuse outputs outside their domain.
    needs_z : bool
        Whether the derivative reads z. If not, a overwrites z.
    rectifies : bool
        Whether layers start with He weights and zero biases by default.
    kernel : str or None
        The name by which a native kernel may replace it; never set by a user's own class.

    Examples
    --------
    >>> import bpx
    >>> class Square(bpx.Activation):
    ...     def forward(self, xp, z):
    ...         return z * z
    ...     def derivative(self, xp, z, a):
    ...         return 2 * z
    >>> net = bpx.Network([2, 3, 1], hidden=Square())
    """

    name: ClassVar[str] = ""
    range = "real"
    needs_z: ClassVar[bool] = True
    rectifies: ClassVar[bool] = False
    kernel: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        # Not inherited: a subclass of Sigmoid with a forward of its own is not the sigmoid.
        cls.kernel = cls.__dict__.get("kernel")

    def forward(self, xp: Any, z: Array) -> Array:
        """σ(z)."""
        raise TypeError(f"{type(self).__name__} must define forward(xp, z)")

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        """σ'(z), element by element."""
        raise TypeError(f"{type(self).__name__} must define derivative(xp, z, a)")

    def backward(self, xp: Any, delta: Array, z: Array, a: Array) -> Array:
        """∂C/∂z from delta = ∂C/∂a: the vector-Jacobian product, here δ ⊙ σ'(z)."""
        slope = self.derivative(xp, z, a)
        shape = () if isinstance(slope, int | float) else getattr(slope, "shape", None)
        if shape != delta.shape and shape != ():  # a column would be broadcast
            raise not_as_expected(f"σ'(z) of the activation {called(self)}", delta.shape, slope)
        return delta * slope


ACTIVATIONS = Registry("activation", Activation)


if not TYPE_CHECKING:  # a checker knows the names by itself

    def __getattr__(name: str) -> Any:
        kinds = [kind.__name__ for kind in (Activation, *ACTIVATIONS.builtin.values())]
        raise missing(f"module {__name__!r}", name, kinds, ATTRIBUTES_OF_ACTIVATIONS)


@ACTIVATIONS.builds
class Identity(Activation):
    """σ(z) = z.

    >>> import numpy as np
    >>> from bpx.activations import Identity
    >>> Identity().forward(np, np.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    name: ClassVar[str] = "identity"
    needs_z: ClassVar[bool] = False
    kernel: ClassVar[str | None] = "identity"

    def forward(self, xp: Any, z: Array) -> Array:
        return z

    def backward(self, xp: Any, delta: Array, z: Array, a: Array) -> Array:
        return delta


@ACTIVATIONS.builds
class Sigmoid(Activation):
    """σ(z) = 1 / (1 + e⁻ᶻ), σ' = σ (1 − σ): the book's (ch. 1).

    >>> import numpy as np
    >>> from bpx.activations import Sigmoid
    >>> a = Sigmoid().forward(np, np.array([-1000.0, 0.0, 2.0]))
    >>> a.round(4).tolist(), Sigmoid().derivative(np, None, a).round(4).tolist()
    ([0.0, 0.5, 0.8808], [0.0, 0.25, 0.105])
    """

    name: ClassVar[str] = "sigmoid"
    range = "unit"
    needs_z: ClassVar[bool] = False
    kernel: ClassVar[str | None] = "sigmoid"

    def forward(self, xp: Any, z: Array) -> Array:
        e = xp.exp(-xp.abs(z))  # which cannot overflow
        return xp.where(z < 0.0, e, xp.ones_like(e)) / (1.0 + e)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return a * (1.0 - a)


@ACTIVATIONS.builds
class Tanh(Activation):
    """σ(z) = tanh z, σ' = 1 − σ².

    >>> import numpy as np
    >>> from bpx.activations import Tanh
    >>> a = Tanh().forward(np, np.array([-1.0, 0.0, 1.0]))
    >>> a.round(4).tolist(), Tanh().derivative(np, None, a).round(4).tolist()
    ([-0.7616, 0.0, 0.7616], [0.42, 1.0, 0.42])
    """

    name: ClassVar[str] = "tanh"
    needs_z: ClassVar[bool] = False
    kernel: ClassVar[str | None] = "tanh"

    def forward(self, xp: Any, z: Array) -> Array:
        return xp.tanh(z)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return 1.0 - a * a


@ACTIVATIONS.builds
class ReLU(Activation):
    """σ(z) = max(z, 0); its derivative at 0 is taken as 0.

    >>> import numpy as np
    >>> from bpx.activations import ReLU
    >>> a = ReLU().forward(np, np.array([-1.0, 0.0, 2.0]))
    >>> a.tolist(), ReLU().derivative(np, None, a).tolist()
    ([0.0, 0.0, 2.0], [0.0, 0.0, 1.0])
    """

    name: ClassVar[str] = "relu"
    range = "nonnegative"
    needs_z: ClassVar[bool] = False
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "relu"

    def forward(self, xp: Any, z: Array) -> Array:
        # not maximum(z, 0): scalars there are newer than the standard bpx asks for; NaN stays NaN
        return xp.where(z < 0.0, xp.zeros_like(z), z)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return xp.astype(a > 0.0, a.dtype)


@ACTIVATIONS.builds
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """σ(z) = z where z > 0, else `slope`·z (Maas, Hannun and Ng, 2013).

    >>> import numpy as np
    >>> from bpx.activations import LeakyReLU
    >>> LeakyReLU(0.25).forward(np, np.array([-2.0, 0.0, 2.0])).tolist()
    [-0.5, 0.0, 2.0]
    """

    slope: float = 0.01
    name: ClassVar[str] = "leaky-relu"
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "leaky-relu"

    def __post_init__(self) -> None:
        number("the slope of LeakyReLU", self.slope)

    def forward(self, xp: Any, z: Array) -> Array:
        return xp.where(z > 0.0, z, self.slope * z)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return xp.where(z > 0.0, xp.ones_like(z), xp.full_like(z, self.slope))


@ACTIVATIONS.builds
@dataclass(frozen=True)
class ELU(Activation):
    """σ(z) = z where z > 0, else `alpha`·(eᶻ − 1) (Clevert, Unterthiner and Hochreiter, 2016).

    >>> import numpy as np
    >>> from bpx.activations import ELU
    >>> ELU().forward(np, np.array([-1000.0, -1.0, 2.0])).round(4).tolist()
    [-1.0, -0.6321, 2.0]
    """

    alpha: float = 1.0
    name: ClassVar[str] = "elu"
    needs_z: ClassVar[bool] = False
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "elu"

    def __post_init__(self) -> None:
        positive("the alpha of ELU", self.alpha)

    def forward(self, xp: Any, z: Array) -> Array:
        below = xp.where(z > 0.0, xp.zeros_like(z), z)  # so that exp sees no large z
        return xp.where(z > 0.0, z, self.alpha * xp.expm1(below))

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return xp.where(a > 0.0, xp.ones_like(a), a + self.alpha)


@ACTIVATIONS.builds
class GELU(Activation):
    """σ(z) = ½ z (1 + tanh(√(2/π) (z + 0.044715 z³))): Hendrycks and Gimpel's tanh form, 2016.

    The exact form needs erf, which the array API standard lacks.

    >>> import numpy as np
    >>> from bpx.activations import GELU
    >>> GELU().forward(np, np.array([-2.0, -1.0, 1.0, 2.0])).round(4).tolist()
    [-0.0454, -0.1588, 0.8412, 1.9546]
    """

    name: ClassVar[str] = "gelu"
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "gelu"
    scale: ClassVar[float] = math.sqrt(2.0 / math.pi)  # of z in tanh
    cube: ClassVar[float] = 0.044715  # of z³, beside z

    def forward(self, xp: Any, z: Array) -> Array:
        return 0.5 * z * (1.0 + xp.tanh(self.scale * z * (1.0 + self.cube * z * z)))

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        t = xp.tanh(self.scale * z * (1.0 + self.cube * z * z))
        bent = 0.5 * self.scale * z * (1.0 - t * t)
        # Multiplied from the left: `bent` is 0 where z² overflows, and 0·∞ would be NaN.
        return 0.5 * (1.0 + t) + (bent + 3.0 * self.cube * bent * z * z)


@ACTIVATIONS.builds
class SiLU(Activation):
    """σ(z) = z / (1 + e⁻ᶻ), also called swish (Elfwing, Uchibe and Doya, 2018).

    >>> import numpy as np
    >>> from bpx.activations import SiLU
    >>> SiLU().forward(np, np.array([-2.0, -1.0, 1.0, 2.0])).round(4).tolist()
    [-0.2384, -0.2689, 0.7311, 1.7616]
    """

    name: ClassVar[str] = "silu"
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "silu"

    def forward(self, xp: Any, z: Array) -> Array:
        return z * (0.5 * xp.tanh(0.5 * z) + 0.5)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        s = 0.5 * xp.tanh(0.5 * z) + 0.5
        return s + a * (1.0 - s)


@ACTIVATIONS.builds
class Softplus(Activation):
    """σ(z) = log(1 + eᶻ), σ' is the sigmoid.

    >>> import numpy as np
    >>> from bpx.activations import Softplus
    >>> Softplus().forward(np, np.array([-1.0, 0.0, 1000.0])).round(4).tolist()
    [0.3133, 0.6931, 1000.0]
    """

    name: ClassVar[str] = "softplus"
    range = "positive"
    rectifies: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "softplus"

    def forward(self, xp: Any, z: Array) -> Array:
        return xp.logaddexp(z, xp.zeros_like(z))

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return xp.exp(-xp.logaddexp(-z, xp.zeros_like(z)))  # exact to the last digit if small


@ACTIVATIONS.builds
class Exponential(Activation):
    """σ(z) = eᶻ = σ': the output of a Poisson regression.

    >>> import numpy as np
    >>> from bpx.activations import Exponential
    >>> Exponential().forward(np, np.array([-1.0, 0.0, 1.0])).round(4).tolist()
    [0.3679, 1.0, 2.7183]
    """

    name: ClassVar[str] = "exp"
    range = "positive"
    needs_z: ClassVar[bool] = False
    kernel: ClassVar[str | None] = "exp"

    def forward(self, xp: Any, z: Array) -> Array:
        return xp.exp(z)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        return a


@ACTIVATIONS.builds
class Softmax(Activation):
    """σ(z)_j = e^{z_j} / Σ_k e^{z_k} over the last axis (ch. 3).

    ∂a_j/∂z_k = a_j (1{j=k} − a_k), so ∂C/∂z = a ⊙ (δ − Σ_k δ_k a_k): the Jacobian is not diagonal,
    and this is right in a hidden layer too.

    >>> import numpy as np
    >>> from bpx.activations import Softmax
    >>> Softmax().forward(np, np.array([[0.0, 0.0], [1000.0, 1001.0]])).round(4).tolist()
    [[0.5, 0.5], [0.2689, 0.7311]]
    """

    name: ClassVar[str] = "softmax"
    range = "simplex"
    needs_z: ClassVar[bool] = False
    kernel: ClassVar[str | None] = "softmax"

    def forward(self, xp: Any, z: Array) -> Array:
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    def derivative(self, xp: Any, z: Array, a: Array) -> Array:
        raise TypeError(
            "softmax has no σ' element by element, as each output depends on all of z: use "
            "backward(xp, delta, z, a), which returns ∂C/∂z from delta = ∂C/∂a"
        )

    def backward(self, xp: Any, delta: Array, z: Array, a: Array) -> Array:
        return a * (delta - xp.sum(delta * a, axis=-1, keepdims=True))


@dataclass(frozen=True, repr=False)
class CustomActivation(Activation):
    """An activation of your own from a pair of functions, element by element.

    Parameters
    ----------
    function : callable
        ``function(xp, z)`` returns σ(z); `xp` is the namespace of z.
    derivative : callable
        ``derivative(xp, z, a)`` returns σ'(z).
    range : str
        Where the values lie, see `Activation`; costs check it if this is the output activation.

    For one that mixes elements, like softmax, subclass `Activation` and define `backward`.

    Examples
    --------
    >>> import bpx
    >>> cube = bpx.CustomActivation(lambda xp, z: z**3, lambda xp, z, a: 3 * z**2)
    >>> net = bpx.Network([2, 3, 1], hidden=cube)
    """

    function: Callable[[Any, Array], Array]
    # Its own field: else the method of this name would be its default.
    derivative: Callable[[Any, Array, Array], Array] = field()  # type: ignore[assignment]
    range: str = "real"

    def __post_init__(self) -> None:
        takes("σ of CustomActivation", self.function, "xp", "z")
        takes("σ' of CustomActivation", self.derivative, "xp", "z", "a")
        if self.range not in RANGES:
            raise unknown("range", self.range, RANGES)

    def __repr__(self) -> str:
        return by_class(self)

    def __hash__(self) -> int:  # a callable object may have none
        return hash(type(self))

    def forward(self, xp: Any, z: Array) -> Array:
        return self.function(xp, z)
