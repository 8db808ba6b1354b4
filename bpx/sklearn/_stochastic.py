"""Mini-batch solvers: scikit-learn's bookkeeping around bpx's `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..callbacks import Run
from ..checks import warn
from ..optimizers import SGD, Adam, Optimizer
from ..training import Options, train_quietly
from ..training.steps import DivergenceError
from . import _validation
from ._callbacks import Subtasks
from ._validation import HeldOut


def check(est: Any, held_out: HeldOut | None, incremental: bool) -> None:
    """Refuse what the solvers cannot do."""
    if est.early_stopping and incremental and held_out is None:
        raise ValueError(
            "partial_fit does not support early_stopping=True without validation_data: parts "
            "split off from call to call would not be comparable; pass "
            "validation_data=(X_val, y_val), the same in each call"
        )
    est._given_callbacks()


def fit(
    est: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    held_out: HeldOut | None,
    tasks: Subtasks | None,
    incremental: bool,
) -> None:
    """Train an estimator's network on checked samples, and set what `fit` leaves behind."""
    network = est._network
    if not incremental or not hasattr(est, "_optimizer"):
        _begin_optimizer(est)
    if est.early_stopping != (est.validation_scores_ is not None):  # set_params has changed it
        est._begin_counting()
    score = None
    if est.early_stopping:
        if held_out is None:
            X, y, sample_weight, held_out = _validation.split(est, X, y, sample_weight)
            est._begin_validation_curve()
        score = _validation.score(est, held_out)
    n = X.shape[0]
    size = min(200, n) if est.batch_size == "auto" else at_most(est.batch_size, n)
    callbacks = [Bookkeeper(est, n, incremental, score), *est._given_callbacks()]
    options = Options(
        epochs=1 if incremental else est.max_iter, batch_size=size,
        optimizer=est._optimizer, l2=est.alpha, sample_weight=sample_weight,
        validation=held_out and held_out.arrays,
        callbacks=callbacks if tasks is None else [*callbacks, tasks],
        shuffle=orders(n, est._random_state) if est.shuffle else False, n="batch",
        check_finite=False, cost_factor=est._cost_factor(),
    )  # fmt: skip
    est.n_iter_ = 0
    try:
        history = train_quietly(network, X, y, options)
        est.stopped_ = history.stopped
        if history.interrupted:
            warn("Training interrupted by user.", UserWarning)
    except DivergenceError as error:
        if not est.early_stopping:
            raise
        # scikit-learn goes on with scores of NaN, until it stops and takes the best weights.
        est.validation_scores_.append(float("nan"))
        est.validation_loss_curve_.append(float("nan"))
        est.stopped_ = str(error)
    if est.early_stopping and (est.stopped_ or not incremental):
        network.parameters[...] = est._best_parameters


def _begin_optimizer(est: Any) -> None:
    """A new optimizer, with the memory of the last one if that is to continue, and fits."""
    est._optimizer, network = optimizer(est), est._network
    memory = network.optimizer_state
    goes_on = est.warm_start == "optimizer" and memory is not None
    if goes_on and set(memory.slots) == set(est._optimizer.slots()):
        network.optimizer, network.optimizer_state = est._optimizer, memory
    else:
        network.optimizer = None


def at_most(batch_size: int, n: int) -> int:
    """A batch size that is not larger than the number of samples."""
    if batch_size > n:
        warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            UserWarning,
        )
    return int(min(batch_size, n))


def optimizer(est: Any) -> Optimizer:
    """The optimizer that the parameters of an estimator describe."""
    rate = float(est.learning_rate_init)
    if est.solver == "adam":
        return Adam(rate, est.beta_1, est.beta_2, est.epsilon, epsilon_hat=True)
    # scikit-learn allows 1, which bpx does not: the largest number below differs by 1e-16.
    momentum = min(float(est.momentum), math.nextafter(1.0, 0.0))
    return SGD(rate, momentum, nesterov=est.nesterovs_momentum and momentum > 0.0)


def orders(n: int, random_state: Any) -> Callable[[], np.ndarray]:
    """The rows of epoch after epoch, each a permutation of the one before, as scikit-learn's."""
    order = np.arange(n)

    def following() -> np.ndarray:
        nonlocal order
        rows = np.arange(n)
        random_state.shuffle(rows)  # what sklearn.utils.shuffle draws
        order = order[rows]
        return order

    return following


class Bookkeeper:
    """What scikit-learn does after each epoch: curves, messages, rates, and when to stop.

    Parameters
    ----------
    est : estimator
        Whose attributes are written.
    n : int
        Samples of an epoch.
    incremental : bool
        Whether it is `partial_fit`, of one epoch.
    score : callable or None
        The score of the held-out part; None: there is no early stopping.
    """

    def __init__(
        self, est: Any, n: int, incremental: bool, score: Callable[[], float] | None
    ) -> None:
        self.est, self.n, self.incremental, self.score = est, n, incremental, score

    def on_epoch_end(self, run: Run) -> None:
        est, state = self.est, run.optimizer_state
        est.n_iter_ += 1
        est.loss_ = run.history["training_objective"][-1]
        est.t_ += self.n
        est.loss_curve_.append(est.loss_)
        if "validation_cost" in run.history:
            cost = run.history["validation_cost"][-1]
            est.validation_loss_curve_.append(est._cost_factor() * cost)
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        self._count(run)
        if est.solver == "sgd" and est.learning_rate == "invscaling":
            state.factor = 1.0 / (est.t_ + 1) ** est.power_t
        if est._no_improvement_count > est.n_iter_no_change:
            counts_anew = self.incremental and self.score is not None
            if not self._stops(run) or counts_anew:
                est._no_improvement_count = 0

    def on_fit_end(self, run: Run) -> None:
        est = self.est
        if not (self.incremental or run.stopped) and est.n_iter_ == est.max_iter:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
            )

    def _count(self, run: Run) -> None:
        """Epochs in a row without an improvement of `tol`, by the score or by the loss."""
        est = self.est
        if self.score is None:
            worse = est.loss_ > est.best_loss_ - est.tol
            est.best_loss_ = min(est.best_loss_, est.loss_)
        else:
            score = self.score()
            est.validation_scores_.append(score)
            if est.verbose:
                print(f"Validation score: {score:f}")
            worse = score < est.best_validation_score_ + est.tol
            if score > est.best_validation_score_:
                est.best_validation_score_ = score
                est._best_parameters[...] = run.net.parameters
        est._no_improvement_count = est._no_improvement_count + 1 if worse else 0

    def _stops(self, run: Run) -> bool:
        """Stop, or with an adaptive rate go on at a fifth of it."""
        est, state = self.est, run.optimizer_state
        what = "Training loss" if self.score is None else "Validation score"
        message = (
            f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change:g} "
            "consecutive epochs."
        )
        adaptive = est.solver == "sgd" and est.learning_rate == "adaptive"
        small = adaptive and est.learning_rate_init * state.factor <= 1e-6
        if adaptive and not small:
            state.factor /= 5.0
            message += f" Setting learning rate to {est.learning_rate_init * state.factor:f}"
        else:
            message += " Learning rate too small. Stopping." if small else " Stopping."
            run.stop(message)
        if est.verbose:
            print(message)
        return run.stopped is not None
