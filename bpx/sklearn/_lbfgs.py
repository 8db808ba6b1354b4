"""The solver for all samples at once: scikit-learn's bookkeeping around bpx's L-BFGS."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.optimize import _check_optimize_result

from .. import lbfgs
from ._callbacks import ASKED, Subtasks
from ._validation import HeldOut


def check(est: Any) -> None:
    """Refuse what the solver cannot do."""
    if est.dropout:
        raise ValueError(
            "dropout draws new masks at each step, and solver='lbfgs' needs one function: use "
            "solver='adam' or 'sgd'"
        )
    if est._given_callbacks():
        raise ValueError(
            "callbacks are called after steps and epochs, and solver='lbfgs' has none: use "
            "solver='adam' or 'sgd', or scikit-learn's own callbacks (set_callbacks)"
        )


def fit(
    est: Any, X: Any, y: Any, sample_weight: Any, held_out: HeldOut | None, tasks: Subtasks | None
) -> None:
    """Train an estimator's network on checked samples, and set what `fit` leaves behind."""
    network = est._network
    iterations = _Iterations(est, held_out, tasks)
    found = lbfgs.minimize(
        network, network.samples(X, y, sample_weight, finite=False), l2=est.alpha,
        max_iter=est.max_iter, max_fun=est.max_fun, tol=est.tol, factor=est._cost_factor(),
        most=_largest_cost(est), callback=iterations if held_out or tasks else None,
    )  # fmt: skip
    est.loss_, est.stopped_ = found.fun, iterations.stopped
    if iterations.stopped:  # which SciPy calls a failure
        est.n_iter_ = found.nit
    else:
        est.n_iter_ = _check_optimize_result("lbfgs", found, est.max_iter)


def _largest_cost(est: Any) -> float | None:
    """That of a sample with one label, where scikit-learn clips its probabilities."""
    clips = est.loss == "log_loss" and est._network.task == "classification"
    return -float(np.log(np.finfo(est._network.dtype).eps)) if clips else None


class _Iterations:
    """SciPy's callback: the validation loss, and scikit-learn's callbacks.

    Attributes
    ----------
    stopped : str or None
        Why a callback has ended the run.
    """

    def __init__(self, est: Any, held_out: HeldOut | None, tasks: Subtasks | None) -> None:
        self.est, self.network, self.tasks = est, est._network, tasks
        self.samples = None
        if held_out is not None:
            self.samples = self.network.samples(*held_out.arrays, what="validation ", finite=False)
        self.stopped: str | None = None
        if tasks is not None:
            tasks.begin()

    def __call__(self, intermediate_result: Any) -> None:
        network = self.network
        theta = intermediate_result.x.astype(network.dtype)
        network.parameters[...] = network.backend.from_host(theta)
        if self.samples is not None:
            cost = network.chain.evaluate(self.samples)["cost"]
            self.est.validation_loss_curve_.append(self.est._cost_factor() * cost)
        if self.tasks is not None:
            if self.tasks.end():
                self.stopped = ASKED
                raise StopIteration
            self.tasks.begin()
