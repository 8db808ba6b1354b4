"""Initial values of parameters, drawn on the host, so that every backend starts alike.

For weights of shape (n_out, n_in, ...) with k elements beyond the first two axes, fan_in is
n_in·k and fan_out is n_out·k.

If a layer names no initializer, its activation decides: ReLU and its relatives (leaky ReLU, ELU,
GELU, SiLU, softplus) take `HeNormal` weights and zero biases; all others take what the book uses
from chapter 3 on, `ScaledNormal` weights and `Normal` biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .checks import nonnegative, number
from .registry import Registry


@dataclass(frozen=True)
class Initializer:
    """Draws the initial values of a tensor.

    A subclass is a frozen dataclass if it has fields; its class attribute ``name`` is for files.

    >>> import numpy as np
    >>> from bpx.initializers import Initializer
    >>> class Ones(Initializer):
    ...     def __call__(self, generator, shape):
    ...         return np.ones(shape)
    >>> import bpx
    >>> bpx.Network([2, 1], weights=Ones()).weights[0].tolist()
    [[1.0, 1.0]]
    """

    name: ClassVar[str] = ""

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """A float64 array of `shape` on the host."""
        raise TypeError(f"{type(self).__name__} must define __call__(generator, shape)")


INITIALIZERS = Registry("initializer", Initializer)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in and fan_out of weights of this shape; a vector of length n has both equal to n.

    >>> from bpx.initializers import fans
    >>> fans((30, 784)), fans((20, 3, 5, 5))
    ((784, 30), (75, 500))
    """
    if len(shape) < 2:
        length = math.prod(shape)
        return length, length
    beyond = math.prod(shape[2:])
    return shape[1] * beyond, shape[0] * beyond


@INITIALIZERS.builds
@dataclass(frozen=True)
class Normal(Initializer):
    """N(`mean`, `std`²); by default the book's first choice (``large_weight_initializer``).

    >>> import numpy as np
    >>> from bpx.initializers import Normal
    >>> Normal()(np.random.default_rng(0), (2,)).round(3).tolist()
    [0.126, -0.132]
    """

    std: float = 1.0
    mean: float = 0.0
    name: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        nonnegative("the std of Normal", self.std)
        number("the mean of Normal", self.mean)

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.normal(self.mean, self.std, shape)


@INITIALIZERS.builds
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform on [`low`, `high`).

    >>> import numpy as np
    >>> from bpx.initializers import Uniform
    >>> drawn = Uniform(-0.5, 0.5)(np.random.default_rng(0), (30, 784))
    >>> bool(drawn.min() >= -0.5), bool(drawn.max() < 0.5), drawn.std().round(2).item()  # √(1/12)
    (True, True, 0.29)
    """

    low: float = -0.05
    high: float = 0.05
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if number("the low of Uniform", self.low) > number("the high of Uniform", self.high):
            raise ValueError(f"expected low <= high, got Uniform({self.low}, {self.high})")

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.uniform(self.low, self.high, shape)


class _Scaled(Initializer):
    """Zero mean and a variance of ``gain / fan``."""

    gain: ClassVar[float] = 1.0
    fan: ClassVar[str] = "in"
    uniform: ClassVar[bool] = False

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = fans(shape)
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        std = math.sqrt(self.gain / max(fan, 1))
        if self.uniform:
            limit = math.sqrt(3.0) * std
            return generator.uniform(-limit, limit, shape)
        return generator.normal(0.0, std, shape)


@INITIALIZERS.builds
class ScaledNormal(_Scaled):
    """N(0, 1/fan_in): the book's second choice (its ``default_weight_initializer``, ch. 3).

    >>> import numpy as np
    >>> from bpx.initializers import ScaledNormal
    >>> ScaledNormal()(np.random.default_rng(0), (1000, 100)).std().round(2).item()
    0.1
    """

    name: ClassVar[str] = "scaled-normal"


@INITIALIZERS.builds
class LeCunNormal(_Scaled):
    """N(0, 1/fan_in): LeCun, Bottou, Orr and Müller, *Efficient BackProp*, 1998.

    >>> import numpy as np
    >>> from bpx.initializers import LeCunNormal
    >>> LeCunNormal()(np.random.default_rng(0), (1000, 100)).std().round(2).item()
    0.1
    """

    name: ClassVar[str] = "lecun-normal"


@INITIALIZERS.builds
class LeCunUniform(_Scaled):
    """Uniform with variance 1/fan_in: LeCun and others, 1998.

    >>> import numpy as np
    >>> from bpx.initializers import LeCunUniform
    >>> drawn = LeCunUniform()(np.random.default_rng(0), (1000, 100))
    >>> drawn.std().round(2).item(), abs(drawn).max().round(2).item()  # the limit is √(3/100)
    (0.1, 0.17)
    """

    name: ClassVar[str] = "lecun-uniform"
    uniform: ClassVar[bool] = True


@INITIALIZERS.builds
class GlorotNormal(_Scaled):
    """N(0, 2/(fan_in + fan_out)): Glorot and Bengio, AISTATS 2010.

    >>> import numpy as np
    >>> from bpx.initializers import GlorotNormal
    >>> GlorotNormal()(np.random.default_rng(0), (150, 50)).std().round(2).item()  # √(2/200)
    0.1
    """

    name: ClassVar[str] = "glorot-normal"
    fan: ClassVar[str] = "average"


@INITIALIZERS.builds
class GlorotUniform(_Scaled):
    """Uniform with variance 2/(fan_in + fan_out): Glorot and Bengio, AISTATS 2010.

    >>> import numpy as np
    >>> from bpx.initializers import GlorotUniform
    >>> drawn = GlorotUniform()(np.random.default_rng(0), (150, 50))
    >>> drawn.std().round(2).item(), abs(drawn).max().round(2).item()  # the limit is √(6/200)
    (0.1, 0.17)
    """

    name: ClassVar[str] = "glorot-uniform"
    fan: ClassVar[str] = "average"
    uniform: ClassVar[bool] = True


@INITIALIZERS.builds
class HeNormal(_Scaled):
    """N(0, 2/fan_in): He, Zhang, Ren and Sun, ICCV 2015.

    >>> import numpy as np
    >>> from bpx.initializers import HeNormal
    >>> HeNormal()(np.random.default_rng(0), (1000, 200)).std().round(2).item()  # √(2/200)
    0.1
    """

    name: ClassVar[str] = "he-normal"
    gain: ClassVar[float] = 2.0


@INITIALIZERS.builds
class HeUniform(_Scaled):
    """Uniform with variance 2/fan_in: He and others, 2015.

    >>> import numpy as np
    >>> from bpx.initializers import HeUniform
    >>> drawn = HeUniform()(np.random.default_rng(0), (1000, 200))
    >>> drawn.std().round(2).item(), abs(drawn).max().round(2).item()  # the limit is √(6/200)
    (0.1, 0.17)
    """

    name: ClassVar[str] = "he-uniform"
    gain: ClassVar[float] = 2.0
    uniform: ClassVar[bool] = True


@INITIALIZERS.builds
@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is `value`.

    >>> import numpy as np
    >>> from bpx.initializers import Constant
    >>> Constant(0.1)(np.random.default_rng(0), (3,)).tolist()
    [0.1, 0.1, 0.1]
    """

    value: float
    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        number("the value of Constant", self.value)

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


@INITIALIZERS.builds
class Zeros(Initializer):
    """Every element is 0.

    >>> import numpy as np
    >>> from bpx.initializers import Zeros
    >>> Zeros()(np.random.default_rng(0), (3,)).tolist()
    [0.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "zeros"

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)
