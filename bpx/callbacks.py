"""What `fit` calls between steps and between epochs.

A callback is an object with any of four methods, or a function, which is called after each epoch.
Each gets the `Run`: the network, the history so far, and a way to stop.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .backends import Array, get
from .checks import fraction, positive, whole
from .history import History, brief, describe
from .optimizers import State
from .registry import article, nearest

if TYPE_CHECKING:
    from .network import Network


@dataclass
class Run:
    """A training run, as callbacks see it.

    Attributes
    ----------
    net : Network
    history : History
        Of the epochs so far; in `on_epoch_end` its last row is the epoch that has just ended.
    epochs : int
        That this call of `fit` was asked for.
    steps_per_epoch : int or None
        None if an iterable has no length.
    columns : tuple of str
        Of the history that is to come.
    step : int
        Steps that the network has taken in all.
    optimizer_state : State
        Its `factor` multiplies the learning rate.
    stopped : str or None
        Why the run is to end, once `stop` was called.
    begun : int
        What `step` was when the run began.
    rank, ranks : int
        Which process this is of how many that train together; callbacks run in each of them.
    """

    net: Network
    history: History
    epochs: int
    steps_per_epoch: int | None
    optimizer_state: State
    columns: tuple[str, ...]
    step: int = 0
    stopped: str | None = None
    begun: int = 0
    rank: int = 0
    ranks: int = 1

    @property
    def epoch(self) -> int:
        """Epochs that the network has been trained for in all."""
        return self.net.epochs

    def stop(self, reason: str) -> None:
        """End the training after the step or epoch at hand; `reason` goes to the history."""
        self.stopped = reason


HOOKS = ("on_fit_begin", "on_step_end", "on_epoch_end", "on_fit_end")


class Callback:
    """The protocol: override what is of interest. What is not overridden costs nothing.

    What a callback remembers from one hook to the next goes to checkpoints, and comes back when
    the run is taken up again, if it has the methods ``state()``, a dict of JSON and arrays, and
    ``load_state(state)``, which is called after `on_fit_begin`.

    Raises
    ------
    TypeError
        When a subclass is made that has another method ``on_...``: it would never be called.

    Examples
    --------
    >>> import bpx
    >>> class Steps(bpx.Callback):
    ...     def on_fit_end(self, run):
    ...         print(run.step, "steps")
    >>> history = bpx.Network([1, 1]).fit([[0.0], [1.0]], [0, 1], epochs=3, callbacks=Steps())
    3 steps
    """

    def __init_subclass__(cls) -> None:
        for name in vars(cls):
            if name.startswith("on_") and name not in HOOKS:
                raise TypeError(f"callbacks have no hook {name!r}{nearest(name, list(HOOKS))}")

    def on_fit_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_step_end(self, run: Run) -> None:
        """After each update."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch and its validation; ``run.history.row()`` is the epoch's row."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, also when it was stopped or interrupted, not after an error."""


class FunctionCallback(Callback):
    """A function of the run, called after each epoch."""

    def __init__(self, function: Callable[[Run], Any]) -> None:
        self.function = function

    def on_epoch_end(self, run: Run) -> None:
        self.function(run)


def as_callbacks(callbacks: Any) -> list[Any]:
    """A list of callbacks from one, or several, or functions."""

    def is_one(value: Any) -> bool:
        return any(hasattr(value, name) for name in HOOKS)

    several = callbacks if isinstance(callbacks, Iterable) else [callbacks]
    found = []
    for callback in [callbacks] if is_one(callbacks) else several:
        if isinstance(callback, type):
            raise TypeError(f"expected a callback, got the class: {callback.__name__}(...)")
        if not is_one(callback) and not callable(callback):
            raise TypeError(
                f"expected a callback with one of {', '.join(HOOKS)}, or a function, got "
                f"{article(type(callback).__name__)}"
            )
        found.append(callback if is_one(callback) else FunctionCallback(callback))
    return found


def hooks(callbacks: list[Any], name: str) -> list[Callable[[Run], None]]:
    """The methods of that name which do something."""
    base = getattr(Callback, name)
    found = [getattr(callback, name, None) for callback in callbacks]
    return [hook for hook in found if hook and getattr(hook, "__func__", None) is not base]


def at_each_step(callbacks: list[Any]) -> bool:
    """One of the user's own is called after each step; a progress bar changes nothing."""
    others = [callback for callback in callbacks if not isinstance(callback, Progress)]
    return bool(hooks(others, "on_step_end"))


class _Watch:
    """The best value so far of a column of the history, and how long ago it was."""

    def __init__(self, run: Run, monitor: str | None, min_delta: float) -> None:
        columns = list(run.columns)
        if monitor is None:
            monitor = next(c for c in ("validation_cost", "training_cost") if c in columns)
        if monitor not in columns:
            hint = nearest(monitor, columns)
            if monitor.startswith("val") and "validation_cost" not in columns:
                hint = ": it needs validation=(x, y)"
            raise ValueError(f"this fit has no column {monitor!r} to monitor{hint}")
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
        sign = 1.0 if self.monitor.endswith("accuracy") else -1.0
        if math.isnan(self.best) or sign * (value - self.best) > self.min_delta:
            self.best, self.epochs_since = value, 0
            return True
        self.epochs_since += 1
        return False


def _check_patience(patience: int, min_delta: float) -> None:
    whole("patience", patience)
    positive("min_delta", min_delta, zero=True)


class EarlyStopping(Callback):
    """Stop when the best is `patience` epochs old, and restore its weights.

    Each call of `fit` counts anew.

    Parameters
    ----------
    patience : int
        Epochs without an improvement.
    monitor : str, optional
        A column of the history; accuracies are better when larger, all others when smaller. By
        default ``"validation_cost"``, without validation ``"training_cost"``. (The book watches
        the accuracy, which on a small set has many ties.)
    min_delta : float
        An improvement is more than this.
    restore_best : bool
        When the run ends, for whatever reason but Ctrl-C, parameters and state go back to those
        of the best epoch. The optimizer's memory does not.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value, and the epoch (counted from 1 over the network's life) it came from.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], seed=0)
    >>> still = bpx.SGD(0.0)  # learns nothing, so the first epoch stays the best
    >>> history = net.fit([[0.0], [1.0]], [0, 1], optimizer=still, callbacks=EarlyStopping(2))
    >>> history.epochs
    3
    """

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
        self.restore_best = restore_best
        self.best, self.best_epoch = math.nan, 0
        self._kept: tuple[Array, Array] | None = None

    def on_fit_begin(self, run: Run) -> None:
        self._watch = _Watch(run, self.monitor, self.min_delta)
        self.best, self.best_epoch = math.nan, 0
        self._kept = None
        if self.restore_best:
            net, xp = run.net, run.net.backend.xp
            self._kept = xp.empty_like(net.parameters), xp.empty_like(net.state)

    def state(self) -> dict[str, Any]:
        kept = {}
        if self._kept is not None and self.best_epoch:
            kept = dict(zip(("parameters", "running"), self._kept, strict=True))
        return {**self._watch.state(), "best_epoch": self.best_epoch, **kept}

    def load_state(self, state: dict[str, Any]) -> None:
        self._watch.load_state(state)
        self.best, self.best_epoch = self._watch.best, whole("best_epoch", state["best_epoch"], 0)
        if self._kept is not None and self.best_epoch:
            for kept, name in zip(self._kept, ("parameters", "running"), strict=True):
                if kept.shape != state[name].shape:
                    raise ValueError(
                        f"expected {name} of shape {kept.shape}, got {state[name].shape}"
                    )
                kept[...] = get(kept).from_host(state[name])

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.improved(run):
            self.best, self.best_epoch = self._watch.best, int(run.history["epoch"][-1])
            if self._kept is not None:
                self._kept[0][...] = run.net.parameters
                self._kept[1][...] = run.net.state
        elif self._watch.epochs_since >= self.patience:
            run.stop(
                f"no better {self._watch.monitor} than {self.best:.6g} (epoch "
                f"{self.best_epoch}) in {self.patience} epochs"
            )

    def on_fit_end(self, run: Run) -> None:
        if self._kept is not None and self.best_epoch and not run.history.interrupted:
            run.net.parameters[...], run.net.state[...] = self._kept
        self._kept = None


class ReduceOnPlateau(Callback):
    """Multiply the learning rate by `factor` when the best is `patience` epochs old.

    With its defaults it is the book's exercise (ch. 3): halve η after ten epochs without an
    improvement, and end when it has come to 1/128 of its first value. The reduced rate belongs to
    the optimizer's state: `fit` called again goes on with it.

    Parameters
    ----------
    factor : float
        0 < factor < 1.
    patience, monitor, min_delta
        As for `EarlyStopping`.
    lowest : float or None
        End the training when the factors come to this or less; None: never.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], seed=0)
    >>> plateau = ReduceOnPlateau(patience=1, min_delta=10.0)  # no epoch is that much better
    >>> history = net.fit([[0.0], [1.0]], [0, 1], optimizer=bpx.SGD(0.8), callbacks=plateau)
    >>> history["learning_rate"]
    [0.8, 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125]
    """

    def __init__(
        self,
        factor: float = 0.5,
        patience: int = 10,
        *,
        monitor: str | None = None,
        min_delta: float = 0.0,
        lowest: float | None = 1 / 128,
    ) -> None:
        fraction("factor", factor)
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
            run.stop(f"the learning rate has come to {state.factor:g} of its first value")


class Progress(Callback):
    """A bar of steps in a terminal or a notebook (tqdm), and a line an epoch in a log file.

    Parameters
    ----------
    file : text stream, optional
        Where to; standard error by default.
    """

    def __init__(self, file: Any = None) -> None:
        self._file = file
        self._bar: Any = None
        self._lines: Any = None
        self._step = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Progress:
        twin = copy.copy(self)  # a stream cannot be copied, and is shared
        twin._bar = twin._lines = None
        return twin

    def on_fit_begin(self, run: Run) -> None:
        from tqdm.auto import tqdm

        file = self._file or sys.stderr
        if not (file.isatty() or "ipykernel" in sys.modules):
            self._lines = file
            return
        total = run.steps_per_epoch and run.epochs * run.steps_per_epoch
        self._step = run.step
        # 80 columns hold all of it.
        shape = "{percentage:3.0f}% {bar:8} {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(
            total=total, initial=run.step - run.begun, file=file, dynamic_ncols=True,
            bar_format=shape,
        )  # fmt: skip

    def on_step_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(run.step - self._step)
            self._step = run.step

    def on_epoch_end(self, run: Run) -> None:
        if self._lines is not None:
            print(describe(run.history.row()), file=self._lines, flush=True)
        else:
            self._bar.set_postfix_str(brief(run.history.row()))

    def on_fit_end(self, run: Run) -> None:
        self.close()

    def close(self) -> None:
        self._lines = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None
