"""The two ways to update, with one meaning: through a gradient, or without ever writing one.

Either says where backpropagation writes (`out`), and what is done in each step: the `scalars` of
the step, `before_backward` and `after_backward`; and by which `rule` a compiled run does the same
(None: it cannot).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..backends import Array, Backend
from ..backends._codes import rule_of
from ..chain import Chain
from ..checks import warn
from ..optimizers import Optimizer, State
from ..parameters import get_path
from ..schedules import Schedule
from .sources import Arrays

Scalars = tuple[Any, ...]  # floats, or arrays of one element on the device


@dataclass(frozen=True)
class Penalty:
    """What `fit` adds to the gradient, and how it bounds it.

    Attributes
    ----------
    l1, l2 : float
        λ₁ and λ₂.
    n : float or None
        What they are divided by, the size of the training set; None: the sum of weights of each
        mini-batch, as in scikit-learn.
    clip_norm, clip_value : float or None
    """

    l1: float = 0.0
    l2: float = 0.0
    n: float | None = 1.0
    clip_norm: float | None = None
    clip_value: float | None = None

    @property
    def by_batch(self) -> bool:
        """Whether it has to know each mini-batch's sum of weights."""
        return self.n is None and bool(self.l1 or self.l2)

    def divided(self, total: float | None) -> tuple[float, float]:
        """λ₁ and λ₂ over n, or over the `total` of a mini-batch."""
        n = total if self.n is None else self.n
        if not n:  # a mini-batch without weight has no say in what the weights are
            return 0.0, 0.0
        return self.l1 / n, self.l2 / n

    def decay(self, optimizer: Optimizer, state: State) -> tuple[str, float]:
        """ηλ/n of the next step, by which SGD shrinks weights, or a decoupled ηw; after its name.

        0 where n is not known yet, and where the penalty does not act by itself:
        other optimizers rescale it, clipping bounds it.
        """
        if decoupled := optimizer.decoupled_decay():
            return "weight_decay", optimizer.rate(state, state.step) * decoupled
        clips = self.clip_norm is not None or self.clip_value is not None
        if not self.l2 or clips or optimizer.kernel != "sgd":
            return "l2", 0.0
        return "l2", optimizer.rate(state, state.step) * self.divided(None)[1]

    @property
    def folds(self) -> bool:
        """Whether it is a mere factor on the weights, which a fused update can include."""
        return not self.l1 and self.clip_norm is None and self.clip_value is None


class GradientUpdate:
    """Backpropagation writes the gradient; then the optimizer steps.

    Parameters
    ----------
    behind : int
        How many more numbers there is room for behind the gradient, to be summed over ranks with
        it.

    Attributes
    ----------
    room : array
        The gradient, and what is behind it.
    """

    def __init__(
        self,
        chain: Chain,
        optimizer: Optimizer,
        state: State,
        penalty: Penalty,
        behind: int = 0,
    ) -> None:
        self.chain, self.optimizer, self.state, self.penalty = chain, optimizer, state, penalty
        layout = chain.architecture.layout
        self.room = chain.backend.zeros((layout.size + behind,), chain.xp_dtype)
        self.out = chain.destinations(self.room[: layout.size])
        self._watched = True  # an optimizer of a user's own, until it should have moved θ

    @property
    def rule(self) -> str | None:
        return rule_of(self.optimizer)

    @property
    def bound(self) -> Callable[[Scalars], None] | None:
        """What changes the gradient before the optimizer has it, given the step's scalars."""
        penalty = self.penalty
        return None if penalty.folds and not penalty.l2 else self._bound

    def scalars(self, step: int, over_m: float = 1.0, total: float | None = None) -> Scalars:
        """The scalars of a step: the optimizer's three, λ₂/n, and λ₁/n where it is not 0.

        `total` is the mini-batch's sum of weights, where it matters.
        """
        l1, l2 = self.penalty.divided(total)
        return *self.optimizer.scalars(self.state, step), l2, *([l1] if self.penalty.l1 else [])

    def before_backward(self, scalars: Scalars, over_m: float) -> None:
        """Tell `out` α, which is 1/m here: see `mean_factor`."""
        self.out.set_scalars(over_m)

    def _bound(self, scalars: Scalars) -> None:
        penalty, grad = self.penalty, self.out.flat
        l1, l2 = scalars[4] if penalty.l1 else None, scalars[3] if penalty.l2 else None
        self.chain.add_penalty(grad, l1, l2)
        clip(self.chain.backend, grad, penalty.clip_norm, penalty.clip_value)

    def after_backward(self, scalars: Scalars) -> None:
        theta, grad, backend = self.chain.parameters, self.out.flat, self.chain.backend
        if (bound := self.bound) is not None:
            bound(scalars)
        step, of_step = self.state.step, scalars[:3]
        if self.optimizer.kernel is not None:
            backend.optimize(self.optimizer, theta, grad, self.state, step, of_step)
            return
        # On a device a look at θ would make the host wait.
        looks = self._watched and backend.is_host and _moves(backend, grad, scalars[0])
        before = theta + 0.0 if looks else None
        backend.optimize(self.optimizer, theta, grad, self.state, step, of_step)
        if before is not None:
            self._watched = False
            _warn_unless_moved(backend, self.optimizer, before, theta)
        # It may leave 0/0 there, or noise.
        self.chain.architecture.layout.clear_padding(theta)


def _moves(backend: Backend, grad: Array, rate: float) -> bool:
    """Whether a step with this gradient and η is one that changes θ."""
    return rate > 0.0 and bool(backend.xp.any(grad != 0.0))


def _warn_unless_moved(backend: Backend, own: Optimizer, before: Array, theta: Array) -> None:
    if not bool(backend.xp.any(theta != before)):
        warn(
            f"update of {type(own).__name__} has left all parameters as they were in its first "
            "step: theta -= ... changes them in place, and theta = theta - ... does not"
        )


class FusedUpdate:
    """Backpropagation writes into θ or the velocity itself: ``β·out + α·δᵀa``.

    A velocity is added to θ afterwards: on the host one tensor at a time, as soon as it is there
    and while the caches hold it (784-2048-2048-10: 25 ms a step for products and sums, against 29
    with the whole summed at the end); on a device all at once, in as few calls as possible.
    """

    def __init__(
        self, chain: Chain, optimizer: Optimizer, state: State, penalty: Penalty, into: Array
    ) -> None:
        self.backend, self.penalty = chain.backend, penalty
        self.optimizer, self.state = optimizer, state
        layout = chain.architecture.layout
        self.theta = theta = chain.parameters
        self.out = chain.destinations(into)
        self._at_the_end: list[Callable[[], None]] = []
        if into is theta:
            return
        if chain.backend.is_host:
            for entry in layout.entries:
                to = get_path(self.out.layers[entry.layer], entry.name)
                if to is not None:
                    omega = get_path(chain.p[entry.layer], entry.name)
                    to.then = partial(self._add, omega, to.array, entry.parameter.decayed)
        else:
            weights, rest = slice(0, layout.decayed), slice(layout.decayed, layout.trained)
            # Without a penalty they are treated alike, and they lie side by side.
            for part in (weights, rest) if penalty.l2 else (slice(0, layout.trained),):
                add = partial(self._add, theta[part], into[part], part is weights)
                self._at_the_end.append(add)

    # Nothing changes a gradient that is never written.
    bound: ClassVar[None] = None

    def _add(self, theta: Array, velocity: Array, decayed: bool) -> None:
        if decayed and self.penalty.l2:
            self.backend.axpby(theta, velocity, self._gamma)
        self.backend.axpby(velocity, theta)

    @property
    def rule(self) -> str:
        """Where a compiled run writes."""
        return "theta" if self.out.flat is self.theta else "velocity"

    def scalars(self, step: int, over_m: float = 1.0, total: float | None = None) -> Scalars:
        """The scalars of a step: α, which is −η/m, β of weights, β of the rest, γ."""
        rate, (_, decay) = self.optimizer.rate(self.state, step), self.penalty.divided(total)
        alpha, *others = self.optimizer.fused_scales(rate, decay)
        return alpha * over_m, *others

    def before_backward(self, scalars: Scalars, over_m: float) -> None:
        """Tell `out` α and β, which may lie on the device."""
        alpha, beta_decayed, beta_rest, self._gamma = scalars
        self.out.set_scalars(alpha, beta_decayed, beta_rest)

    def after_backward(self, scalars: Scalars) -> None:
        for add in self._at_the_end:
            add()


Update = GradientUpdate | FusedUpdate


def clip(
    backend: Backend, grad: Array, norm: float | None = None, value: float | None = None
) -> None:
    """Clip a gradient in place: each element to ±`value`, then the whole to a norm ≤ `norm`.

    The norm is the Euclidean norm of the flat vector: of all parameters together.
    """
    if value is not None:
        for (g,) in backend.blocks(grad):
            g[...] = backend.xp.clip(g, -value, value)
    if norm is not None:
        backend.clip_norm(grad, norm)


def scalars_of_steps(
    update: Update,
    source: Arrays,
    rows: np.ndarray,
    first: int,
    over_m: float = 1.0,
) -> np.ndarray:
    """A row of `scalars` for each step on these rows of the training set, from step `first` on."""
    count, optimizer = -(-len(rows) // source.batch_size), update.optimizer
    totals: list[Any] = [None] * count
    if update.penalty.by_batch:
        totals = source.totals(rows)
    elif optimizer.kernel == "sgd" and not isinstance(optimizer.learning_rate, Schedule):
        # All alike: one by one takes 1.5 µs each, for which a device waits.
        return np.tile(update.scalars(first, over_m), (count, 1))
    return np.array([update.scalars(first + k, over_m, total) for k, total in enumerate(totals)])


def update_for(
    chain: Chain,
    optimizer: Optimizer,
    state: State,
    penalty: Penalty,
    behind: int | None,
) -> Update:
    """The fused way where the optimizer and the penalty have one, else through a gradient.

    A gradient that is summed over several parts has room for `behind` more numbers.
    """
    if behind is not None:
        return GradientUpdate(chain, optimizer, state, penalty, behind)
    into = optimizer.fused(chain.parameters, state) if penalty.folds else None
    if into is None:
        return GradientUpdate(chain, optimizer, state, penalty)
    return FusedUpdate(chain, optimizer, state, penalty, into)
