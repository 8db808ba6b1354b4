"""Callbacks that watch a column of the history: to stop, or to go on more slowly."""

from __future__ import annotations

import math
from typing import Any

from ..checks import flag, fraction, nonnegative, positive, whole
from ..keywords import hints
from ..registry import nearest
from ._base import Callback, Run
from ._weights import Weights

DIRECTION = "accuracies are better when larger, costs when smaller, and a Metric says so itself"


class _Watch:
    """The best value so far of a column of the history, and how long ago it was."""

    def __init__(self, run: Run, monitor: str | None, min_delta: float) -> None:
        columns = list(run.columns)
        if monitor is None:
            monitor = next(c for c in ("validation_cost", "training_cost") if c in columns)
        if not isinstance(monitor, str):
            raise TypeError(f"expected monitor to be a column of the history, got {monitor!r}")
        if monitor not in columns:
            hint = f"{nearest(monitor, columns)} (put a Metric before what monitors it)"
            if monitor.endswith("accuracy") and run.net.task == "regression":
                hint = ": a regression has none, and validation_cost or training_cost instead"
            elif monitor.startswith("val") and "validation_cost" not in columns:
                known = "validation_accuracy" if "acc" in monitor else "validation_cost"
                known = monitor if monitor.startswith("validation_") else known
                hint = (
                    f": for {known} pass validation=(x, y), or to an estimator's fit X_val= and "
                    "y_val=, or to NetworkClassifier or -Regressor validation_fraction=0.1"
                )
            raise ValueError(f"this fit has no column {monitor!r} to monitor{hint}")
        run.history.larger(monitor)  # known, or an error
        self.monitor, self.min_delta = monitor, min_delta
        self.best = math.nan
        self.epochs_since = 0

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "epochs_since": self.epochs_since}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])
        self.epochs_since = whole("epochs_since", state["epochs_since"], 0)

    def improved(self, run: Run) -> bool:
        value = run.history[self.monitor][-1]
        sign = 1.0 if run.history.larger(self.monitor) else -1.0
        first = math.isnan(self.best) and not math.isnan(value)
        if first or sign * (value - self.best) > self.min_delta:
            self.best, self.epochs_since = value, 0
            return True
        self.epochs_since += 1
        return False


def _check_patience(patience: int, min_delta: float) -> None:
    whole("patience", patience)
    nonnegative("min_delta", min_delta)


class EarlyStopping(Callback):
    """Stop when the best is `patience` epochs old, and restore its weights.

    Each call of `fit` counts anew.

    Parameters
    ----------
    patience : int
        Epochs without an improvement; NaN is none.
    monitor : str, optional
        A column of the history; accuracies are better when larger, costs when smaller, and a
        `Metric` of your own says so itself. By default ``"validation_cost"``, without validation
        ``"training_cost"``. (The book watches the accuracy, which on a small set has many ties.)
    min_delta : float
        Only a change of more than this is an improvement.
    restore_best : bool
        When the run ends, by Ctrl-C too, but not with an error (a `DivergenceError` leaves those
        of the last good step), parameters and state go back to those of the best epoch, which
        ``history.restored`` names. The optimizer's memory does not.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value, and the epoch (counted from 1 over the network's life) it came from.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], seed=0)
    >>> still = bpx.SGD(0.0)  # learns nothing, so the first epoch stays the best
    >>> history = net.fit([[0.0], [1.0]], [0, 1], optimizer=still, callbacks=bpx.EarlyStopping(2))
    >>> history.epochs
    3
    """

    @hints(
        'patience comes first, EarlyStopping(10, monitor="validation_accuracy")',
        mode=DIRECTION,
        restore_best_weights="here it is restore_best=, True by default",
    )
    def __init__(
        self,
        patience: int = 10,
        *,
        monitor: str | None = None,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        _check_patience(patience, min_delta)
        self.patience, self.monitor, self.min_delta = patience, monitor, min_delta
        self.restore_best = flag("restore_best", restore_best)
        self.best, self.best_epoch = math.nan, 0
        self._kept: Weights | None = None

    @property
    def replaces_weights(self) -> bool:
        return self.restore_best

    def on_fit_begin(self, run: Run) -> None:
        self._watch = _Watch(run, self.monitor, self.min_delta)
        self.best, self.best_epoch = math.nan, 0
        self._kept = Weights(run.net) if self.restore_best else None

    def state(self) -> dict[str, Any]:
        kept = self._kept.state() if self._kept is not None and self.best_epoch else {}
        return {**self._watch.state(), "best_epoch": self.best_epoch, **kept}

    def load_state(self, state: dict[str, Any]) -> None:
        self._watch.load_state(state)
        self.best, self.best_epoch = self._watch.best, whole("best_epoch", state["best_epoch"], 0)
        if self._kept is not None and self.best_epoch:
            self._kept.load_state(state)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.improved(run):
            self.best, self.best_epoch = self._watch.best, int(run.history["epoch"][-1])
            if self._kept is not None:
                self._kept.copy(run.net)
        elif self._watch.epochs_since >= self.patience:
            run.stop(self._reason())

    def _reason(self) -> str:
        monitor = self._watch.monitor
        epochs = "1 epoch" if self.patience == 1 else f"{self.patience} epochs"
        if not self.best_epoch:
            return f"{monitor} was NaN for {epochs}"
        return f"no better {monitor} than {self.best:.6g} (epoch {self.best_epoch}) in {epochs}"

    def on_fit_end(self, run: Run) -> None:
        if self._kept is not None and self.best_epoch:
            self._kept.put(run.net)
            run.history.restored = self.best_epoch
        self._kept = None


class ReduceOnPlateau(Callback):
    """Multiply the learning rate by `factor` when the best is `patience` epochs old.

    With ``monitor="validation_accuracy"`` it is the book's exercise (ch. 3): halve η after ten
    epochs without an improvement, and end when it has come to 1/128 of its initial value. The
    reduced rate belongs to the optimizer's state: a further `fit` goes on with it. Unlike
    `EarlyStopping` it leaves the network with its last weights, not its best.

    Parameters
    ----------
    factor : float
        0 < factor < 1.
    patience, monitor, min_delta
        As for `EarlyStopping`.
    lowest : float or None
        End the training when the factors multiply to this or less; None: never.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], seed=0)
    >>> plateau = bpx.ReduceOnPlateau(patience=1, min_delta=10.0)  # no epoch is that much better
    >>> history = net.fit([[0.0], [1.0]], [0, 1], optimizer=bpx.SGD(0.8), callbacks=plateau)
    >>> history["learning_rate"]
    [0.8, 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125]
    """

    @hints(mode=DIRECTION, min_lr="here it is lowest=, of the first rate: 1/128 by default")
    def __init__(
        self,
        factor: float = 0.5,
        patience: int = 10,
        *,
        monitor: str | None = None,
        min_delta: float = 0.0,
        lowest: float | None = 1 / 128,
    ) -> None:
        fraction("the factor of ReduceOnPlateau", factor)
        _check_patience(patience, min_delta)
        self.factor, self.patience, self.lowest = factor, patience, lowest
        self.monitor, self.min_delta = monitor, min_delta
        if lowest is not None:
            positive("lowest", lowest)

    def on_fit_begin(self, run: Run) -> None:
        self._watch = _Watch(run, self.monitor, self.min_delta)

    def state(self) -> dict[str, Any]:
        return self._watch.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._watch.load_state(state)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.improved(run) or self._watch.epochs_since < self.patience:
            return
        self._watch.epochs_since = 0
        state = run.optimizer_state
        state.factor *= self.factor
        rounding = 1.0 + 1e-9  # 0.1·0.1·0.1 is more than 0.001
        if self.lowest is not None and state.factor <= self.lowest * rounding:
            run.stop(
                f"the learning rate has fallen to 1/{1 / state.factor:.4g} of its first value"
            )
