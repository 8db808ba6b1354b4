"""C, ∇_a C, and the pairs of cost and output activation with a short δ^L.

`value` gives the cost of each sample, summed over its outputs: shape (m,) from a and y of shape
(m, k). What is trained and reported is the mean over the batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .activations import Activation, Exponential, Identity, Sigmoid, Softmax
from .backends import Array, Backend
from .checks import number, positive, shortened, takes, whole
from .elsewhere import ATTRIBUTES_OF_A_COST, ATTRIBUTES_OF_COSTS
from .keywords import attr_hints, missing
from .registry import Registry, by_class, called

PROBABILITIES = frozenset({"unit", "simplex"})


@attr_hints(**ATTRIBUTES_OF_A_COST)
@dataclass(frozen=True)
class Cost:
    """C: stateless, and its methods get the namespace of their arrays, ``value(np, a, y)``.

    A subclass, a frozen dataclass if it has fields, defines `value` and `gradient`.

    Attributes
    ----------
    name : str
        What a user types and a file stores.
    outputs : frozenset of str or None
        The ranges of output activations on which it is defined (`Activation.range`); None: all.
    targets : str
        What y must be: ``"real"``, ``"nonnegative"``, ``"unit"`` (0 to 1), ``"simplex"`` (and
        rows that sum to 1).
    outputs_per_target : int
        How many outputs are about each number of y, as a mean and a variance are; 1 by default.
        With more y may be (m, t), where t is k / outputs_per_target, and the cost gets it tiled to
        (m, k): the first t outputs are the first of each target, the next t the second of each.
    point : int or None
        Which of the outputs about a target predicts it, as its mean or median does: 0, where there
        is one (but not of a quantile other than the median); None: none of them does.

    Examples
    --------
    >>> import bpx
    >>> class Quartic(bpx.Cost):
    ...     def value(self, xp, a, y):
    ...         return xp.sum((a - y) ** 4, axis=1)
    ...     def gradient(self, xp, a, y):
    ...         return 4 * (a - y) ** 3
    >>> net = bpx.Network([2, 3, 1], output="identity", cost=Quartic())
    """

    name: ClassVar[str] = ""
    outputs: ClassVar[frozenset[str] | None] = None
    targets: ClassVar[str] = "real"

    @property
    def outputs_per_target(self) -> int:
        return 1

    @property
    def point(self) -> int | None:
        return 0 if self.outputs_per_target == 1 else None

    def check_outputs(self, count: int) -> None:
        """ValueError if it is not for so many outputs."""
        each = self.outputs_per_target
        if count % each:
            raise ValueError(
                f"the cost {called(self)} takes {each} outputs for each target, and the network "
                f"has {count}: give it {each} for one target, {2 * each} for two"
            )

    def target_counts(self, count: int) -> tuple[int, ...]:
        """How many numbers y may have in each sample, for so many outputs."""
        return tuple(dict.fromkeys((count // self.outputs_per_target, count)))

    def predictions(self, a: Array, count: int) -> Array | None:
        """Those of the outputs (m, k) that predict y (m, count) itself; None: none of them does.

        All, if there is not a number of y for each `outputs_per_target` of them.

        >>> import numpy as np
        >>> from bpx.costs import Quantile
        >>> of_two_targets = np.array([[0.1, 10.0, 0.5, 20.0, 0.9, 30.0]])
        >>> Quantile((0.1, 0.5, 0.9)).predictions(of_two_targets, 2).tolist()  # the medians
        [[0.5, 20.0]]
        """
        each, point = self.outputs_per_target, self.point
        if a.shape[1] != each * count:
            return a
        return None if point is None else a[:, point * count : (point + 1) * count]

    def value(self, xp: Any, a: Array, y: Array) -> Array:
        """C of each sample, shape (m,)."""
        raise TypeError(f"{type(self).__name__} must define value(xp, a, y)")

    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        """∇_a C of each sample, shape (m, k)."""
        raise TypeError(f"{type(self).__name__} must define gradient(xp, a, y)")


def _of_each_output(method: Callable[[Any, Any, Array, Array], Array]) -> Any:
    """A cost's method for a y of the shape of a, where others, such as labels, are refused.

    NumPy would broadcast ten labels against ten outputs of ten samples.
    """

    @functools.wraps(method)
    def checked(cost: Cost, xp: Any, a: Array, y: Array) -> Array:
        shape = getattr(a, "shape", ())
        if shape and getattr(y, "shape", ()) == shape:
            return method(cost, xp, a, y)
        of_a, of_y = tuple(shape), tuple(getattr(y, "shape", ()))
        if not of_a:
            raise ValueError(
                f"expected a and y as arrays (m, k), a row for each sample, got a {shortened(a)} "
                f"and y {of_y or shortened(y)}"
            )
        *m, k = of_a
        each = cost.outputs_per_target
        if each > 1 and of_y == (*m, k // each):
            return method(cost, xp, a, xp.concat([y] * each, axis=1))
        came, hint, labels = of_y or shortened(y), "", of_y or np.shape(y)
        if len(of_a) < len(of_y):
            hint = f": a comes before y, {method.__name__}(np, a, y)"
        elif labels in ((*m,), (*m, 1)):
            hint = f": labels as rows are np.eye({k})[{'np.ravel(y)' if of_y[1:] else 'y'}]"
            hint = ": np.reshape(y, (-1, 1))" if k == each else hint
        raise ValueError(f"expected y of the shape of a, {of_a}, got {came}{hint}")

    return checked


COSTS = Registry("cost", Cost)


if not TYPE_CHECKING:  # a checker knows the names by itself

    def __getattr__(name: str) -> Any:
        kinds = [kind.__name__ for kind in (Cost, CustomCost, *COSTS.builtin.values())]
        raise missing(f"module {__name__!r}", name, kinds, ATTRIBUTES_OF_COSTS)


def _tiny(xp: Any, a: Array) -> Array:
    return xp.full_like(a, xp.finfo(a.dtype).smallest_normal)


def _floor(xp: Any, a: Array) -> Array:
    """`a`, but not too small to divide by or take the logarithm of; NaN stays NaN."""
    return xp.where(a < _tiny(xp, a), _tiny(xp, a), a)


def xlogy(xp: Any, x: Array, y: Array) -> Array:
    """x log y, and 0 where x is 0, whatever y is.

    >>> import numpy as np
    >>> from bpx.costs import xlogy
    >>> xlogy(np, np.array([0.0, 2.0]), np.array([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return xp.where(x == 0.0, xp.zeros_like(y), x * xp.log(_floor(xp, y)))


@COSTS.builds
class Quadratic(Cost):
    """½ ‖a − y‖²: the book's QuadraticCost (ch. 1).

    >>> import numpy as np
    >>> from bpx.costs import Quadratic
    >>> Quadratic().value(np, np.asarray([[1.0, 3.0]]), np.asarray([[0.0, 1.0]])).tolist()
    [2.5]
    """

    name: ClassVar[str] = "quadratic"

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        e = a - y
        return 0.5 * xp.vecdot(e, e)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return a - y


@COSTS.builds
class CrossEntropy(Cost):
    """−Σ [y ln a + (1 − y) ln(1 − a)]: the book's CrossEntropyCost (ch. 3), one label per output.

    The surer a wrong output is, the more it costs, and the larger its gradient is:

    >>> import numpy as np
    >>> from bpx.costs import CrossEntropy
    >>> a, y = np.array([[0.5], [0.01]]), np.array([[1.0], [1.0]])
    >>> CrossEntropy().value(np, a, y).round(4).tolist()
    [0.6931, 4.6052]
    >>> CrossEntropy().gradient(np, a, y).round(4).tolist()
    [[-2.0], [-100.0]]
    """

    name: ClassVar[str] = "cross-entropy"
    outputs: ClassVar[frozenset[str] | None] = PROBABILITIES
    targets: ClassVar[str] = "unit"

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        return -xp.sum(xlogy(xp, y, a) + xlogy(xp, 1.0 - y, 1.0 - a), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return (a - y) / _floor(xp, a * (1.0 - a))


@COSTS.builds
class LogLikelihood(Cost):
    """−Σ y ln a, for outputs that sum to 1: the book's log-likelihood cost (ch. 3).

    >>> import numpy as np
    >>> from bpx.costs import LogLikelihood
    >>> a, y = np.array([[0.25, 0.75]]), np.array([[1.0, 0.0]])
    >>> LogLikelihood().value(np, a, y).round(4).tolist()  # −ln 0.25
    [1.3863]
    """

    name: ClassVar[str] = "log-likelihood"
    outputs: ClassVar[frozenset[str] | None] = frozenset({"simplex"})
    targets: ClassVar[str] = "simplex"

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        return -xp.sum(xlogy(xp, y, a), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return -y / _floor(xp, a)


@COSTS.builds
class MeanAbsoluteError(Cost):
    """Σ |a − y|, whose mean over the batch is the sum of each output's mean absolute error.

    >>> import numpy as np
    >>> from bpx.costs import MeanAbsoluteError
    >>> a, y = np.array([[1.0, 3.0]]), np.array([[0.0, 5.0]])
    >>> cost = MeanAbsoluteError()
    >>> cost.value(np, a, y).tolist(), cost.gradient(np, a, y).tolist()
    ([3.0], [[1.0, -1.0]])
    """

    name: ClassVar[str] = "mean-absolute-error"

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        return xp.sum(xp.abs(a - y), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return xp.sign(a - y)


@COSTS.builds
@dataclass(frozen=True)
class Huber(Cost):
    """Σ of ½ e² where e = |a − y| ≤ `threshold` t, else t·(e − ½ t) (Huber, 1964).

    >>> import numpy as np
    >>> from bpx.costs import Huber
    >>> a, y = np.array([[0.5], [3.0]]), np.zeros((2, 1))  # errors below and above 1
    >>> Huber().value(np, a, y).tolist(), Huber().gradient(np, a, y).tolist()
    ([0.125, 2.5], [[0.5], [1.0]])
    """

    threshold: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        positive("the threshold of Huber", self.threshold)

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        e = xp.abs(a - y)
        t = self.threshold
        return xp.sum(xp.where(e <= t, 0.5 * e * e, t * (e - 0.5 * t)), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        e = a - y
        return xp.where(xp.abs(e) <= self.threshold, e, self.threshold * xp.sign(e))


@COSTS.builds
@dataclass(frozen=True)
class Quantile(Cost):
    """Σ of τ (y − a) where y > a, else (1 − τ)(a − y), the pinball loss.

    It is least where a share τ of all y lies below a (Koenker and Bassett, 1978).

    Parameters
    ----------
    levels : float or tuple of float
        τ, between 0 and 1: one for all outputs; or several for each target, of t targets y (m, t):
        then the first t outputs are of the first level, the next t of the second, and so on.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.costs import Quantile
    >>> a, y = np.array([[2.0, 2.0]]), np.array([[3.0, 1.0]])
    >>> cost = Quantile((0.9, 0.9))
    >>> cost.value(np, a, y).round(6).tolist(), cost.gradient(np, a, y).round(6).tolist()
    ([1.0], [[-0.9, 0.1]])
    """

    levels: float | tuple[float, ...] = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        given: Any = self.levels
        if isinstance(given, np.ndarray):
            given = given.tolist()
        several = isinstance(given, Sequence) and not isinstance(given, str)
        levels = given if several else [given]
        what = "levels of Quantile, or each of a tuple,"
        found = tuple(number(what, level) for level in levels)
        if not found or not all(0.0 < level < 1.0 for level in found):
            raise ValueError(
                f"expected levels of Quantile between 0 and 1, got {shortened(given)}"
            )
        object.__setattr__(self, "levels", found if several else found[0])

    @property
    def outputs_per_target(self) -> int:
        return len(self.levels) if isinstance(self.levels, tuple) else 1

    @property
    def point(self) -> int | None:
        levels = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        return levels.index(0.5) if 0.5 in levels else None

    def _slope(self, xp: Any, e: Array) -> Array:
        """τ where e = y − a is positive, else τ − 1, and 0 where e is 0; (m, k)."""
        if isinstance(self.levels, tuple):
            # Level by level: what is captured can bring neither a vector of levels to a device
            # nor, as CuPy's stack of more than eight, the addresses of the columns.
            slope, t = xp.empty_like(e), e.shape[1] // len(self.levels)
            for i, level in enumerate(self.levels):
                block = slice(i * t, (i + 1) * t)
                slope[:, block] = _of_level(xp, e[:, block], level)
        else:
            slope = _of_level(xp, e, self.levels)
        return xp.where(e == 0.0, xp.zeros_like(e), slope)

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        e = y - a
        return xp.vecdot(self._slope(xp, e), e)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return -self._slope(xp, y - a)


def _of_level(xp: Any, e: Array, level: float) -> Array:
    """τ where e > 0, τ − 1 where e < 0."""
    return (xp.sign(e) + (2.0 * level - 1.0)) * 0.5


@COSTS.builds
class GaussianNLL(Cost):
    """½ Σ [s + (y − μ)² e^(−s) + ln 2π], where s = ln σ²: −ln of a normal density at y.

    For t targets, y (m, t), the first t outputs are the means μ and the other t the logarithms s
    of the variances (Nix and Weigend, 1994). Where σ is small it is less than 0.

    >>> import numpy as np
    >>> from bpx.costs import GaussianNLL
    >>> a, y = np.array([[1.0, 0.0]]), np.array([[3.0, 3.0]])  # μ = 1, σ² = 1
    >>> GaussianNLL().value(np, a, y).round(4).tolist()  # ½ (0 + 2² + ln 2π)
    [2.9189]
    >>> GaussianNLL().gradient(np, a, y).tolist()
    [[-2.0, -1.5]]
    """

    name: ClassVar[str] = "gaussian-nll"
    outputs: ClassVar[frozenset[str] | None] = frozenset({"real"})

    @property
    def outputs_per_target(self) -> int:
        return 2

    @property
    def point(self) -> int:
        return 0

    def target_counts(self, count: int) -> tuple[int, ...]:
        return (count // 2,)  # of y for each output it would read one half

    def _standardized(self, xp: Any, a: Array, y: Array) -> tuple[Array, Array, Array]:
        """s, e^(−s/2) and (y − μ) e^(−s/2), each (m, t)."""
        t = a.shape[1] // 2
        s = a[:, t:]
        # No more than the largest number, since infinity times an error of 0 would be NaN.
        most = xp.full_like(s, 0.99 * math.log(xp.finfo(a.dtype).max))
        inverse = xp.exp(xp.minimum(-0.5 * s, most))
        return s, inverse, (y[:, :t] - a[:, :t]) * inverse

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        s, _, e = self._standardized(xp, a, y)
        return 0.5 * xp.sum(s + e * e + math.log(2.0 * math.pi), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        _, inverse, e = self._standardized(xp, a, y)
        found, t = xp.empty_like(a), e.shape[1]
        found[:, :t] = -e * inverse
        found[:, t:] = 0.5 - 0.5 * e * e
        return found


def _counts(xp: Any, y: Array) -> Array:
    """y, with 1 in place of 0."""
    return xp.where(y > 0.0, y, xp.ones_like(y))


def _poisson(xp: Any, a: Array, y: Array, d: Array) -> Array:
    """y ln(y/a) − y + a of each element, where d = ln(a/y).

    Near the minimum it is computed as y (e^d − 1 − d): for large counts the three terms cancel.
    """
    near = (y > 0.0) & (xp.abs(d) < 0.5)
    small = xp.where(near, d, xp.zeros_like(d))
    return xp.where(near, y * (xp.expm1(small) - small), a - y - y * d)


@COSTS.builds
class Poisson(Cost):
    """Σ [y ln(y/a) − y + a], half the Poisson deviance, for counts y ≥ 0 and outputs a > 0.

    With ``"exp"`` δ is exact for any z. With other activations it vanishes where σ underflows (a
    sigmoid or softplus below z = −87 in float32, a softmax's output below e⁻⁸⁷).

    >>> import numpy as np
    >>> from bpx.costs import Poisson
    >>> a, y = np.array([[2.0], [2.0]]), np.array([[0.0], [2.0]])
    >>> Poisson().value(np, a, y).tolist(), Poisson().gradient(np, a, y).tolist()
    ([2.0, 0.0], [[1.0], [0.0]])
    """

    name: ClassVar[str] = "poisson"
    outputs: ClassVar[frozenset[str] | None] = PROBABILITIES | {"positive"}
    targets: ClassVar[str] = "nonnegative"

    @_of_each_output
    def value(self, xp: Any, a: Array, y: Array) -> Array:
        a, counts = _floor(xp, a), _counts(xp, y)
        e = (a - counts) / counts
        near = xp.abs(e) < 0.5
        exact = xp.log1p(xp.where(near, e, xp.zeros_like(e)))
        d = xp.where(near, exact, xp.log(a) - xp.log(counts))
        return xp.sum(_poisson(xp, a, y, d), axis=1)

    @_of_each_output
    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        # The second bound keeps y/a finite: times a slope of 0, infinity would be NaN.
        least = xp.maximum(_floor(xp, a), y * (4.0 / xp.finfo(a.dtype).max))
        return 1.0 - y / least


@dataclass(frozen=True, repr=False)
class CustomCost(Cost):
    """A cost of your own from a pair of functions.

    Parameters
    ----------
    function : callable
        ``function(xp, a, y)`` returns C of each sample, shape (m,), from shapes (m, k).
    gradient : callable
        ``gradient(xp, a, y)`` returns ∂C/∂a of each sample, shape (m, k).
    outputs_per_target : int
        How many outputs are about each number of y, as a mean and a variance are; 1 by default.
        With more y may be (m, k / outputs_per_target), and the functions get it tiled, (m, k): see
        `Cost`.

    Examples
    --------
    >>> import bpx
    >>> quartic = bpx.CustomCost(lambda xp, a, y: xp.sum((a - y)**4, axis=1),
    ...                          lambda xp, a, y: 4 * (a - y)**3)
    >>> net = bpx.Network([2, 3, 1], output="identity", cost=quartic)
    """

    function: Callable[[Any, Array, Array], Array]
    # As in `CustomActivation`.
    gradient: Callable[[Any, Array, Array], Array] = field()  # type: ignore[assignment]
    outputs_per_target: int = 1

    def __post_init__(self) -> None:
        whole("outputs_per_target of CustomCost", self.outputs_per_target)
        takes("C of CustomCost", self.function, "xp", "a", "y")
        takes("∂C/∂a of CustomCost", self.gradient, "xp", "a", "y")

    def __hash__(self) -> int:  # a callable object may have none
        return hash(type(self))

    def __repr__(self) -> str:
        return by_class(self)

    def value(self, xp: Any, a: Array, y: Array) -> Array:
        return self.function(xp, a, y)


# --- the pairs in which σ' cancels --------------------------------------------------------------
#
# δ^L = ∇_a C ⊙ σ'(z^L), and for these pairs it is a − y:
#
#   cross-entropy, sigmoid    (a − y)/(a(1 − a)) · a(1 − a)
#   log-likelihood, softmax   a_j (−y_j/a_j + Σ_k y_k) with Σ_k y_k = 1
#   quadratic, identity       (a − y) · 1
#   Poisson, exp              (1 − y/a) · a
#
# so a saturated output learns as fast as its error is large (ch. 3), and nothing is divided by an
# a that has underflowed. Their values are computed from z for the same reason: a sigmoid that is
# exactly 1.0 in float32 gives 0·log 0, which is NaN, even when it is right.


def _cross_entropy_sigmoid(xp: Any, z: Array, y: Array) -> Array:
    """−y ln σ − (1 − y) ln(1 − σ) = ln(1 + eᶻ) − y z = ln(e^{z − y z} + e^{−y z}).

    Computed as the last one, since a difference of two large terms, or of two sums, may come out
    negative.
    """
    over = y * z
    return xp.sum(xp.logaddexp(z - over, -over), axis=1)


def _log_likelihood_softmax(xp: Any, z: Array, y: Array) -> Array:
    """−Σ y_j ln a_j = ln Σ e^{z_k} − Σ y_j z_j, where Σ y_j = 1."""
    shifted = z - xp.max(z, axis=1, keepdims=True)
    return xp.log(xp.sum(xp.exp(shifted), axis=1)) - xp.vecdot(y, shifted)


def _poisson_exponential(xp: Any, z: Array, y: Array) -> Array:
    return xp.sum(_poisson(xp, xp.exp(z), y, z - xp.log(_counts(xp, y))), axis=1)


# The cost if none is named, by the range of the outputs; for other ranges the quadratic.
DEFAULTS: dict[str, type[Cost]] = {"unit": CrossEntropy, "simplex": LogLikelihood}

ValueFromZ = Callable[[Any, Array, Array], Array]

PAIRS: dict[tuple[type[Cost], type[Activation]], ValueFromZ] = {
    (CrossEntropy, Sigmoid): _cross_entropy_sigmoid,
    (LogLikelihood, Softmax): _log_likelihood_softmax,
    (Quadratic, Identity): Quadratic().value,  # where a is z
    (Poisson, Exponential): _poisson_exponential,
}


class _Watched:
    """A cost of one's own, which must not write to outputs and targets: with NumPy it is looked at
    when it is asked for the first time.

    Arrays that cannot be written to would not do: PyTorch warns of them, Numba may refuse them.
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self._known: set[str] = set()

    def value(self, xp: Any, a: Array, y: Array) -> Array:
        return self._asked("value", xp, a, y)

    def gradient(self, xp: Any, a: Array, y: Array) -> Array:
        return self._asked("gradient", xp, a, y)

    def _asked(self, what: str, xp: Any, a: Array, y: Array) -> Array:
        function = getattr(self.cost, what)
        if what in self._known or not isinstance(a, np.ndarray):
            found: Array = function(xp, a, y)
            return found
        before = a.copy(), y.copy()
        found = function(xp, a, y)
        for array, was in zip((a, y), before, strict=True):
            if not np.array_equal(array, was, equal_nan=True):
                array[...] = was
                raise ValueError(
                    f"the cost {called(self.cost)} writes to a or y, which may be an array of the "
                    "caller: make a new one, such as e = a - y in place of a -= y"
                )
        self._known.add(what)
        return found


class Objective:
    """A cost on an output activation: the end of the forward pass, the start of the backward.

    Raises
    ------
    ValueError
        The cost is not defined on what the activation gives.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.activations import Sigmoid
    >>> from bpx.backends import get
    >>> from bpx.costs import CrossEntropy, Objective
    >>> z, a, y = np.array([[0.0]]), np.array([[0.5]]), np.array([[1.0]])
    >>> objective = Objective(CrossEntropy(), Sigmoid())
    >>> objective.delta(get("numpy"), z, a, y, np.empty((1, 1)))  # a − y
    array([[-0.5]])
    """

    def __init__(self, cost: Cost, activation: Activation) -> None:
        if cost.outputs is not None and activation.range not in cost.outputs:
            fitting = {
                "unit": "sigmoid",
                "simplex": "softmax",
                "positive": "exp or softplus",
                "real": "identity",
            }
            own = ""
            if not activation.name and activation.range == "real":
                own = '; an activation of your own says its range, such as range="unit"'
            needs = " or ".join(text for key, text in fitting.items() if key in cost.outputs)
            raise ValueError(
                f"the cost {called(cost)} is not defined on the outputs of "
                f"{called(activation)}: use {needs}, or another cost "
                f'(cost="quadratic" is defined on all){own}'
            )
        self.cost, self.activation = cost, activation
        # Where σ' cancels, δ^L = a − y, and the value is computed from z. By exact types: a user's
        # subclass never takes a shortcut that it did not define.
        self._from_z = PAIRS.get((type(cost), type(activation)))
        self._cost = cost if type(cost) in COSTS.builtin.values() else _Watched(cost)

    @property
    def kernel(self) -> tuple[str, str] | None:
        """Cost and activation, where a native kernel may replace them; None for a user's own."""
        cost, activation = type(self.cost), self.activation.kernel
        if activation is None or cost not in (CrossEntropy, LogLikelihood, Quadratic):
            return None
        return cost.name, activation

    def value(self, backend: Backend, z: Array, a: Array, y: Array) -> Array:
        """C of each sample, shape (m,)."""
        if self._from_z is not None:
            return self._from_z(backend.xp, z, y)
        return self.value_of_outputs(backend, a, y)

    def value_of_outputs(self, backend: Backend, a: Array, y: Array) -> Array:
        """The same by a alone, where z is not known."""
        values = self._cost.value(backend.xp, a, y)
        if tuple(getattr(values, "shape", ())) != (a.shape[0],):
            raise ValueError(
                f"expected a value of the cost {called(self.cost)} for each sample, shape "
                f"({a.shape[0]},), got {getattr(values, 'shape', values)}: sum over the last axis "
                "only"
            )
        return values

    def delta(self, backend: Backend, z: Array, a: Array, y: Array, out: Array) -> Array:
        """δ^L of each sample into `out`, shape (m, k) (BP1)."""
        if self._from_z is not None:
            return backend.subtract(a, y, out)
        gradient = self._cost.gradient(backend.xp, a, y)  # ∇_a C
        out[...] = backend.returned("∇_a C of the cost", self.cost, gradient, out)
        return backend.activate_backward(self.activation, out, z, a)  # ⊙ σ'(z^L)
