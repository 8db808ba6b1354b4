"""What is done after each iteration of L-BFGS."""

from __future__ import annotations

from typing import Any

from ._validation import HeldOut


class Iterations:
    """SciPy's callback: the validation loss."""

    def __init__(self, est: Any, held_out: HeldOut | None) -> None:
        self.est, self.network = est, est._network
        self.samples = None
        if held_out is not None:
            self.samples = self.network.samples(
                held_out.X, held_out.y, held_out.weight, what="validation ", finite=False
            )

    @property
    def wanted(self) -> bool:
        return self.samples is not None

    def __call__(self, intermediate_result: Any) -> None:
        network = self.network
        theta = intermediate_result.x.astype(network.dtype)
        network.parameters[...] = network.backend.from_host(theta)
        if self.samples is not None:
            cost = network.chain.evaluate(self.samples)["cost"]
            self.est.validation_loss_curve_.append(self.est._cost_factor() * cost)
