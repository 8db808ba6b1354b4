"""Gradient descent and its relatives, as recursions on one flat vector θ.

g is the gradient of the mean cost of a mini-batch, η the learning rate of the step. An optimizer
is a frozen description; what it remembers between steps is a `State`, which belongs to the
network that is trained.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .backends import Array, Backend
from .checks import check_described, flag, fraction, nonnegative, not_as_expected, positive
from .elsewhere import ATTRIBUTES_OF_BPX, OF_OPTIMIZERS
from .keywords import init_hints
from .registry import Registry
from .schedules import Schedule, refuse_class

if TYPE_CHECKING:
    from .network import Network


@dataclass(eq=False)  # each is itself: its arrays are not to be compared
class State:
    """What an optimizer remembers between steps.

    Attributes
    ----------
    backend : Backend
        Where its vectors live.
    decayed : int
        θ up to this index is weights; the rest, biases and the like, is never decayed.
    slots : dict of array
        Vectors of the length of θ, by name.
    step : int
        Steps taken.
    factor : float
        Multiplies the learning rate; `ReduceOnPlateau` lowers it.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([2, 1], seed=0)
    >>> state = bpx.SGD(0.5, momentum=0.9).start(net)
    >>> state.step, state.factor, state.slots["velocity"].shape == net.parameters.shape
    (0, 1.0, True)
    """

    backend: Backend
    decayed: int
    slots: dict[str, Array] = field(default_factory=dict)
    step: int = 0
    factor: float = 1.0

    def __getstate__(self) -> dict[str, Any]:
        slots = {name: self.backend.to_host(slot) for name, slot in self.slots.items()}
        return self.__dict__ | {"slots": slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.slots = {name: self.backend.from_host(slot) for name, slot in self.slots.items()}


@dataclass(frozen=True)
class Optimizer:
    """A rule that turns gradients into steps.

    A subclass is a frozen dataclass that defines `update`, and `slots` if it has a memory.

    Parameters
    ----------
    learning_rate : float or Schedule
        η ≥ 0, or a schedule of it over the steps.

    Attributes
    ----------
    kernel : str or None
        The name by which a native kernel may replace it; never set by a user's own class.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import bpx
    >>> from bpx.optimizers import Optimizer
    >>> @dataclass(frozen=True)
    ... class SignDescent(Optimizer):
    ...     def update(self, theta, grad, state, step):
    ...         theta -= self.rate(state, step) * np.sign(grad)
    >>> net = bpx.Network([2, 1], weights="zeros", bias="zeros", dtype="float64")
    >>> history = net.fit([[3.0, -1.0]], [1], epochs=2, optimizer=SignDescent(0.25))
    >>> net.weights[0].tolist()
    [[0.5, -0.5]]
    """

    name: ClassVar[str] = ""
    kernel: ClassVar[str | None] = None

    learning_rate: float | Schedule

    def __init_subclass__(cls) -> None:
        cls.kernel = cls.__dict__.get("kernel")  # not inherited, as for activations
        # Neither is inherited past another `update`, of which it says nothing.
        for name in ("fused", "decoupled_decay"):
            if _depth(cls, "update") < _depth(cls, name):
                setattr(cls, name, getattr(Optimizer, name))

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.generic):  # a float64 one would make float32 arrays float64
                object.__setattr__(self, f.name, value.item())
        rate = self.learning_rate
        refuse_class(rate)
        if callable(rate) and not isinstance(rate, Schedule):
            raise TypeError(
                "expected the learning rate to be a number or a Schedule, got the function "
                f"{getattr(rate, '__name__', rate)}: make a subclass of bpx.schedules.Schedule, "
                "with a method __call__(self, step)"
            )
        if not isinstance(rate, Schedule):
            nonnegative("the learning rate (or a Schedule)", rate)
        self.validate()

    def validate(self) -> None:
        """Check the other fields; raise ValueError."""

    def slots(self) -> tuple[str, ...]:
        """The names of the vectors that it remembers."""
        return ()

    def start(self, net: Network) -> State:
        """A fresh state for the parameters of `net`, all slots zero."""
        theta = net.parameters
        slots = {name: net.backend.zeros(tuple(theta.shape), theta.dtype) for name in self.slots()}
        return State(net.backend, net.layout.decayed, slots)

    def started(self, net: Network) -> State:
        """The same, looked at: ValueError for what copies and checkpoints would lose."""
        state = self.start(net)
        others = [name for name in vars(state) if name not in State.__dataclass_fields__]
        if others:
            raise ValueError(
                f"the state that start of {type(self).__name__} returns has {others[0]!r} beside "
                "its slots, which copies and checkpoints would lose: make it of state.step, or "
                f"keep it in a slot, state.slots[{others[0]!r}], as a vector like net.parameters"
            )
        return state

    def check(self, net: Network, state: State) -> None:
        """ValueError unless `state` has this optimizer's slots for the parameters of `net`.

        An optimizer with a user's own `update` is not checked: its `start` may have made something
        else of its slots.
        """
        if self.kernel is None and type(self).fused is Optimizer.fused:
            return
        theta = net.parameters
        wanted = type(theta), tuple(theta.shape), theta.dtype
        for name in self.slots():
            slot: Any = state.slots.get(name)
            if slot is None or (type(slot), tuple(slot.shape), slot.dtype) != wanted:
                what = f"net.optimizer_state.slots[{name!r}]"
                if isinstance(slot, np.memmap):  # as joblib.load makes them
                    read_only = "" if slot.flags.writeable else "read-only "
                    raise ValueError(
                        f"{what} is a {read_only}memory map, and fit writes to it: load the "
                        "network with mmap_mode=None, or train a copy.deepcopy(net)"
                    )
                what = f"{what}, of {type(self).__name__} and dtype"
                error = not_as_expected(f"{what} {theta.dtype},", wanted[1], slot)
                raise ValueError(f"{error}: net.optimizer_state = None begins anew")

    def rate(self, state: State, step: int) -> float:
        """η at `step`, with the state's factor."""
        rate = self.learning_rate
        if isinstance(rate, Schedule):
            rate = rate(step)
            if not (isinstance(rate, numbers.Real) and rate >= 0.0):
                own = type(self.learning_rate)
                plain = own.__repr__ is object.__repr__  # of no dataclass
                shown = own.__name__ if plain else repr(self.learning_rate)
                what = f"{shown}({step}), a learning rate,"
                raise ValueError(f"expected {what} to be a number >= 0, got {rate!r}")
        return float(state.factor * rate)

    def scalars(self, state: State, step: int) -> tuple[float, float, float]:
        """Three scalars that change from step to step, 0 where there are fewer; η first."""
        return self.rate(state, step), 0.0, 0.0

    def decoupled_decay(self) -> float:
        """w, if each step also multiplies the weights by 1 − ηw, whatever the gradient; else 0.

        `fit` warns of a ``weight_decay`` that is too large by it.
        """
        return 0.0

    def update(self, theta: Array, grad: Array, state: State, step: int) -> None:
        """One step on `theta`, in place.

        Parameters
        ----------
        theta, grad : array
            ``net.parameters`` and ``net.backprop(...).flat``.
        state : State
            From `start`; its slots are written.
        step : int
            0, 1, 2, ...
        """
        raise TypeError(f"{type(self).__name__} must define update(theta, grad, state, step)")

    def fused(self, theta: Array, state: State) -> Array | None:
        """The vector into which backpropagation may write ``β·out + α·δᵀa``, or None.

        This is the second way to update, with the same meaning: no gradient is written. An
        optimizer that returns a vector also defines `fused_scales`.
        """
        return None

    def fused_scales(self, rate: float, decay: float) -> tuple[float, float, float, float]:
        """α for g, β for weights, β for the rest, and γ for weights; `decay` is λ/n.

        If the vector is not θ itself, γω is added to its part for the weights, and then the vector
        is added to θ.
        """
        raise TypeError(f"{type(self).__name__} has no fused update")


def _depth(cls: type, name: str) -> int:
    """How many classes up the one is that defines a method."""
    return next(place for place, base in enumerate(cls.__mro__) if name in vars(base))


OPTIMIZERS = Registry("optimizer", Optimizer)

_BETAS = {"betas": "here they are beta1= and beta2="}
_DECAY = {"weight_decay": "fit has it, as l2=, which it divides by the size of the training set"}


@OPTIMIZERS.builds
@init_hints(OF_OPTIMIZERS | {"": _DECAY})
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, and with `momentum` the method of Rumelhart and others (1986).

    ::

        v ← μ v − η g        θ ← θ + v                  momentum μ > 0
                             θ ← θ + μ v − η g          and nesterov (Sutskever and others, 2013)
        θ ← θ − η g                                     μ = 0

    No clipping, averaging or decay unless `fit` is asked for it.

    Parameters
    ----------
    learning_rate : float or Schedule
        η; 0.1 by default.
    momentum : float
        0 ≤ μ < 1.
    nesterov : bool

    Notes
    -----
    PyTorch's SGD keeps v ← μ v + g and steps by η v: the same while η is constant.

    Examples
    --------
    Two steps with a gradient of 1 everywhere: 0.5 each, and with momentum 0.5 and 0.5 + 0.45:

    >>> import numpy as np
    >>> import bpx
    >>> for optimizer in bpx.SGD(0.5), bpx.SGD(0.5, momentum=0.9):
    ...     net = bpx.Network([2, 1], weights="zeros", bias="zeros", dtype="float64")
    ...     state, theta = optimizer.start(net), net.parameters
    ...     for step in range(2):
    ...         optimizer.update(theta, np.ones_like(theta), state, step)
    ...     print(net.weights[0].round(6).tolist())
    [[-1.0, -1.0]]
    [[-1.45, -1.45]]
    """

    name: ClassVar[str] = "sgd"
    kernel: ClassVar[str | None] = "sgd"

    learning_rate: float | Schedule = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def validate(self) -> None:
        fraction("momentum", self.momentum, zero=True)
        flag("nesterov", self.nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum: SGD(rate, momentum=0.9, nesterov=True)")

    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def update(self, theta: Array, grad: Array, state: State, step: int) -> None:
        rate, mu = self.rate(state, step), self.momentum
        if mu == 0.0:
            state.backend.axpby(grad, theta, -rate)
            return
        for w, g, v in state.backend.blocks(theta, grad, state.slots["velocity"]):
            v *= mu
            v -= rate * g
            if self.nesterov:
                w += mu * v - rate * g
            else:
                w += v

    def fused(self, theta: Array, state: State) -> Array | None:
        if self.nesterov:
            return None
        return state.slots["velocity"] if self.momentum else theta

    def fused_scales(self, rate: float, decay: float) -> tuple[float, float, float, float]:
        if self.momentum:
            return -rate, self.momentum, self.momentum, -rate * decay
        return -rate, 1.0 - rate * decay, 1.0, 0.0


@OPTIMIZERS.builds
@init_hints(OF_OPTIMIZERS | {"": _DECAY})
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Steps divided by a running root mean square (Tieleman and Hinton, 2012).

    ::

        v ← ρ v + (1 − ρ) g²        θ ← θ − η g / (√v + ε)

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    rho : float
        0 ≤ ρ < 1.
    epsilon : float
        ε > 0, outside the root.

    Examples
    --------
    The first step is η/√(1 − ρ) long in every element, whatever the gradient's size:

    >>> import bpx
    >>> net = bpx.Network([2, 1], weights="zeros", seed=0, dtype="float64")
    >>> optimizer, grad = bpx.RMSprop(0.01, rho=0.75), net.backprop([[3.0, -1.0]], [1])
    >>> optimizer.update(net.parameters, grad.flat, optimizer.start(net), step=0)
    >>> net.weights[0].round(6).tolist()
    [[0.02, -0.02]]
    """

    name: ClassVar[str] = "rmsprop"
    kernel: ClassVar[str | None] = "rmsprop"

    learning_rate: float | Schedule = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8

    def validate(self) -> None:
        fraction("rho", self.rho, zero=True)
        positive("epsilon", self.epsilon)

    def slots(self) -> tuple[str, ...]:
        return ("square",)

    def update(self, theta: Array, grad: Array, state: State, step: int) -> None:
        rate, xp = self.rate(state, step), state.backend.xp
        for w, g, v in state.backend.blocks(theta, grad, state.slots["square"]):
            v *= self.rho
            v += (1.0 - self.rho) * g * g
            w -= rate * g / (xp.sqrt(v) + self.epsilon)


@OPTIMIZERS.builds
@init_hints(OF_OPTIMIZERS | {"beta1": _BETAS, "": _DECAY})
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015, algorithm 1). At step t = 1, 2, ...

    ::

        m ← β₁ m + (1 − β₁) g        m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²       v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    beta1, beta2 : float
        0 ≤ β < 1.
    epsilon : float
        ε > 0.
    epsilon_hat : bool
        The paper's section 2 form, which scikit-learn and TensorFlow use:
        θ ← θ − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε).

    Examples
    --------
    The first step is η long in every element, whatever the gradient's size:

    >>> import bpx
    >>> net = bpx.Network([2, 1], seed=0, dtype="float64")
    >>> optimizer, before = bpx.Adam(0.01), net.parameters.copy()
    >>> grad = net.backprop([[3.0, -1.0]], [1])
    >>> optimizer.update(net.parameters, grad.flat, optimizer.start(net), step=0)
    >>> (net.weights[0] - before[:2]).round(6).tolist()
    [[0.01, -0.01]]
    """

    name: ClassVar[str] = "adam"
    kernel: ClassVar[str | None] = "adam"
    weight_decay: ClassVar[float] = 0.0

    learning_rate: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def validate(self) -> None:
        fraction("beta1", self.beta1, zero=True)
        fraction("beta2", self.beta2, zero=True)
        positive("epsilon", self.epsilon)

    def slots(self) -> tuple[str, ...]:
        return ("mean", "square")

    def scalars(self, state: State, step: int) -> tuple[float, float, float]:
        """η and ε, corrected for moments that began at zero; AdamW's ηw."""
        t = step + 1
        root = math.sqrt(1.0 - self.beta2**t)
        # With ε·√(1 − β₂ᵗ) in place of ε, the two forms are one.
        epsilon = self.epsilon if self.epsilon_hat else self.epsilon * root
        rate = self.rate(state, step)
        return rate * root / (1.0 - self.beta1**t), epsilon, rate * self.weight_decay

    def update(self, theta: Array, grad: Array, state: State, step: int) -> None:
        xp, b1, b2 = state.backend.xp, self.beta1, self.beta2
        scaled, epsilon, _ = self.scalars(state, step)
        moments = state.slots["mean"], state.slots["square"]
        for w, g, m, v in state.backend.blocks(theta, grad, *moments):
            m *= b1
            m += (1.0 - b1) * g
            v *= b2
            v += (1.0 - b2) * g * g
            w -= scaled * m / (xp.sqrt(v) + epsilon)


@OPTIMIZERS.builds
@init_hints(OF_OPTIMIZERS | {"beta1": _BETAS})
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): first ω ← (1 − ηw) ω.

    Parameters
    ----------
    weight_decay : float
        w ≥ 0, on weights and never on biases (PyTorch's decays both).

    The other parameters are `Adam`'s.

    Examples
    --------
    Without a gradient only the decay remains, of weights and not of biases:

    >>> import numpy as np
    >>> import bpx
    >>> net = bpx.Network([2, 1], weights=bpx.initializers.Constant(1.0), bias="zeros")
    >>> net.biases[0] += 1.0
    >>> optimizer, theta = bpx.AdamW(0.5, weight_decay=0.5), net.parameters
    >>> optimizer.update(theta, np.zeros_like(theta), optimizer.start(net), step=0)
    >>> net.weights[0].tolist(), net.biases[0].tolist()
    ([[0.75, 0.75]], [1.0])
    """

    name: ClassVar[str] = "adamw"
    kernel: ClassVar[str | None] = "adamw"

    weight_decay: float = 0.01  # type: ignore[misc]  # a field here, a constant above

    def validate(self) -> None:
        super().validate()
        nonnegative("weight_decay", self.weight_decay)

    def decoupled_decay(self) -> float:
        return self.weight_decay

    def update(self, theta: Array, grad: Array, state: State, step: int) -> None:
        weights = theta[: state.decayed]
        state.backend.axpby(weights, weights, -self.scalars(state, step)[2])
        super().update(theta, grad, state, step)


def default_optimizer(task: str) -> Optimizer:
    """What `fit` takes where nothing is asked for.

    The curvature of a squared error along the last layer's weights is the mean of ‖a‖² of the
    hidden layer, of 100 ReLU units some 100, and SGD diverges where η is above 2 over it. Outputs
    of classes are bounded, and so is their curvature.

    >>> from bpx.optimizers import default_optimizer
    >>> default_optimizer("classification"), default_optimizer("regression").learning_rate
    (SGD(learning_rate=0.1, momentum=0.0, nesterov=False), 0.003)
    """
    return Adam(0.003) if task == "regression" else SGD(0.1)


def as_optimizer(optimizer: Any) -> Optimizer:
    """An `Optimizer`, or the one of that name with its defaults; TypeError if it is no dataclass.

    >>> from bpx.optimizers import as_optimizer
    >>> as_optimizer("rmsprop")
    RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-08)
    """
    if isinstance(optimizer, str) and optimizer.lower().replace("-", "") == "lbfgs":
        raise ValueError(f"{optimizer!r} is no optimizer: {ATTRIBUTES_OF_BPX['LBFGS']}")
    try:
        found: Optimizer = OPTIMIZERS.get(optimizer)
    except TypeError as error:
        raise TypeError(f"{error}{_place_of(optimizer)}") from None
    check_described(found)
    return found


def _place_of(other: Any) -> str:
    """The end of a message: where to pass what is no optimizer."""
    if isinstance(other, Schedule):
        return f": bpx.SGD({type(other).__name__}(...)) has it as its learning rate"
    if isinstance(other, numbers.Real) and not isinstance(other, bool):
        return f": bpx.SGD({other}) has it as its learning rate"
    return ": pass it as callbacks=" if hasattr(other, "on_epoch_end") else ""
