"""The two ways to update, with one meaning: through a gradient, or without ever writing one."""

from __future__ import annotations

from dataclasses import dataclass

from .backends import Array
from .chain import Chain
from .optimizers import Optimizer, State, add_penalty, clip
from .parameters import Destinations


@dataclass(frozen=True)
class Penalty:
    """What `fit` adds to the gradient, and how it bounds it.

    Attributes
    ----------
    l1, l2 : float
        λ₁/n and λ₂/n.
    clip_norm, clip_value : float or None
    """

    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None

    @property
    def folds(self) -> bool:
        """It is a factor on the weights, which a fused update can take in."""
        return not self.l1 and self.clip_norm is None and self.clip_value is None


class GradientUpdate:
    """Backpropagation writes the gradient; then the optimizer steps.

    Attributes
    ----------
    out : Destinations
        Where backpropagation writes, between `before` and `after`.
    """

    def __init__(self, chain: Chain, optimizer: Optimizer, state: State, penalty: Penalty) -> None:
        self.chain, self.optimizer, self.state, self.penalty = chain, optimizer, state, penalty
        layout = chain.architecture.layout
        flat = chain.backend.zeros((layout.size,), chain.xp_dtype)
        self.out = Destinations(chain.backend, layout, flat)

    def before(self, alpha: float) -> None:
        """`alpha` makes the mean of a sum over the batch."""
        self.out.scale(alpha)

    def after(self) -> None:
        theta, grad, backend = self.chain.parameters, self.out.flat, self.chain.backend
        penalty = self.penalty
        add_penalty(backend, theta, grad, self.state.decayed, penalty.l1, penalty.l2)
        clip(backend, grad, penalty.clip_norm, penalty.clip_value)
        self.optimizer.update(theta, grad, self.state, self.state.step)


class FusedUpdate:
    """Backpropagation writes into θ or the velocity itself: ``β·out + α·δᵀa``.

    Attributes
    ----------
    out : Destinations
    """

    def __init__(
        self, chain: Chain, optimizer: Optimizer, state: State, decay: float, into: Array
    ) -> None:
        self.chain, self.optimizer, self.state, self.decay = chain, optimizer, state, decay
        self.out = Destinations(chain.backend, chain.architecture.layout, into)

    def before(self, alpha: float) -> None:
        self.rate = self.optimizer.rate(self.state, self.state.step)
        scale, decayed, rest = self.optimizer.fused_scales(self.rate, self.decay)
        self.out.scale(scale * alpha, decayed, rest)

    def after(self) -> None:
        self.optimizer.fused_finish(self.chain.parameters, self.state, self.rate, self.decay)


def update_for(
    chain: Chain, optimizer: Optimizer, state: State, penalty: Penalty
) -> GradientUpdate | FusedUpdate:
    """The fused way where the optimizer and the penalty have one, else through a gradient."""
    into = optimizer.fused(chain.parameters, state) if penalty.folds else None
    if into is None:
        return GradientUpdate(chain, optimizer, state, penalty)
    return FusedUpdate(chain, optimizer, state, penalty.l2, into)
