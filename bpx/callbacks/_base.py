"""The run that callbacks see, and the protocol by which `fit` calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from reprlib import recursive_repr
from typing import Any

import numpy as np

from ..checks import shortened, takes
from ..history import History, StepLog
from ..keywords import attr_hints
from ..network import Network
from ..optimizers import Optimizer, State
from ..persistence import Stateful
from ..registry import article, nearest
from ..schedules import Schedule


@attr_hints(optimizer="it is run.net.optimizer, and run.optimizer_state.factor a factor on its η")
@dataclass
class Run:
    """A training run, as callbacks see it.

    Attributes
    ----------
    net : Network
    history : History
        Of the epochs so far; in `on_epoch_end` its last row is the epoch that has just ended.
    epochs : int
        How many this call of `fit` was asked for; ``run.history.epochs`` of them are done.
    steps_per_epoch : int or None
        None if an iterable has no length.
    columns : tuple of str
        The columns that the history will have.
    step : int
        Steps that the network has taken in all.
    optimizer_state : State
        Its `factor` multiplies the learning rate.
    stopped : str or None
        Why the run is to end, once `stop` was called.
    begun : int
        What `step` was when the run began.
    step_log : StepLog
        Of the current epoch, for `step_costs`.
    rank, ranks : int
        Which process this is, and how many train together; callbacks run in each of them.

    Examples
    --------
    >>> import bpx
    >>> def until_half(run):
    ...     if run.history.epochs >= run.epochs // 2:
    ...         run.stop(f"after {run.step} steps")
    >>> net = bpx.Network([1, 1], seed=0)
    >>> history = net.fit([[0.0], [1.0]], [0, 1], epochs=10, batch_size=1, callbacks=until_half)
    >>> history.epochs, history.stopped
    (5, 'after 10 steps')
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
    step_log: StepLog = field(default_factory=StepLog, repr=False)

    @property
    def step_costs(self) -> np.ndarray:
        """The cost of each step of the epoch so far, before its update; shape (steps,), float64.

        The (weighted) mean over the step's mini-batch, without a penalty; NaN where all of its
        weights are zero. In `on_epoch_end` they are those of the whole epoch; in `on_step_end` the
        last one is that of the step just done. Read-only; asking costs nothing, since they are
        kept anyway.

        Examples
        --------
        >>> import bpx
        >>> costs = []
        >>> net = bpx.Network([2, 3, 1], seed=0)
        >>> history = net.fit(
        ...     [[0.0, 1.0], [1.0, 1.0]] * 50, [1, 0] * 50, epochs=3, batch_size=10,
        ...     callbacks=lambda run: costs.extend(run.step_costs),
        ... )
        >>> len(costs)
        30
        """
        return self.step_log.costs

    @property
    def epoch(self) -> int:
        """Epochs that the network has been trained for in all, by earlier calls of `fit` too."""
        return self.net.epochs

    def stop(self, reason: str) -> None:
        """End the training after the current step or epoch; `reason` goes to the history.

        Raises
        ------
        TypeError
            It is not text, or is empty.
        """
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"expected the reason to stop to be a string, got {reason!r}")
        self.stopped = reason


HOOKS = ("on_fit_begin", "on_step_end", "on_epoch_end", "on_fit_end")


class Callback:
    """The protocol: override what you need. What is not overridden costs nothing.

    What a callback remembers from one hook to the next goes to checkpoints, and comes back when
    the run is resumed, if it has the methods ``state()``, which returns a dict of JSON and arrays,
    and ``load_state(state)``, which is called after `on_fit_begin`.

    Raises
    ------
    TypeError
        When a subclass is defined with another method ``on_...``: it would never be called.

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

    @recursive_repr()
    def __repr__(self) -> str:
        """The call that makes it, with the arguments that are attributes of the same names."""
        arguments, own = inspect.signature(type(self)).parameters, vars(self)
        known = (f"{name}={shortened(own[name])}" for name in arguments if name in own)
        return f"{type(self).__name__}({', '.join(known)})"

    def on_fit_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_step_end(self, run: Run) -> None:
        """After each update."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch and its validation; ``run.history.row()`` is the epoch's row."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, also when it was stopped or interrupted, not after an error."""


class FunctionCallback(Callback):
    """A function of the run, called after each epoch; what it remembers goes to checkpoints."""

    def __init__(self, function: Callable[[Run], Any]) -> None:
        self.function = function
        if isinstance(function, Stateful):
            self.state, self.load_state = function.state, function.load_state

    def on_epoch_end(self, run: Run) -> None:
        self.function(run)


def as_callbacks(callbacks: Any) -> list[Any]:
    """A list of callbacks from one, or several, or functions; None: none.

    >>> from bpx import Callback
    >>> from bpx.callbacks._base import as_callbacks
    >>> [type(callback).__name__ for callback in as_callbacks([Callback(), lambda run: None])]
    ['Callback', 'FunctionCallback']
    >>> as_callbacks(None)
    []
    """

    def is_one(value: Any) -> bool:
        return any(hasattr(value, name) for name in HOOKS)

    if callbacks is None:
        return []
    several = callbacks if isinstance(callbacks, Iterable) else [callbacks]
    found = []
    for callback in [callbacks] if is_one(callbacks) else several:
        if isinstance(callback, type):
            raise TypeError(f"expected a callback, got the class: pass {callback.__name__}(...)")
        # Which can be called, with something else.
        other = isinstance(callback, Schedule | Network)
        if other or (not is_one(callback) and not callable(callback)):
            raise TypeError(
                f"expected a callback with one of {', '.join(HOOKS)}, or a function, got "
                f"{article(type(callback).__name__)}{_place_of(callback)}"
            )
        if not is_one(callback):
            takes("a callback", callback, "run")
            callback = FunctionCallback(callback)
        for name in HOOKS:
            if (hook := getattr(callback, name, None)) is not None:
                takes(f"{name} of {type(callback).__name__}", hook, "run")
        found.append(callback)
    replacing = [type(c).__name__ for c in found if getattr(c, "replaces_weights", False)]
    if len(replacing) > 1:
        raise ValueError(
            f"expected one callback that puts other weights when fit ends, got "
            f"{' and '.join(replacing)}: EarlyStopping(restore_best=False) only stops"
        )
    return found


def _place_of(other: Any) -> str:
    """The end of a message: where to pass what is no callback."""
    kind = type(other).__name__
    if isinstance(other, Schedule):
        return f": the optimizer has it, optimizer=bpx.SGD({kind}(...))"
    if isinstance(other, Optimizer):
        return ": pass it as optimizer="
    return ": pass it as checkpoint=" if kind == "Checkpoint" else ""


def hooks(callbacks: list[Any], name: str) -> list[Callable[[Run], None]]:
    """The methods of that name which do something.

    >>> from bpx import Callback
    >>> from bpx.callbacks._base import as_callbacks, hooks
    >>> len(hooks(as_callbacks([Callback(), lambda run: None]), "on_epoch_end"))
    1
    """
    base = getattr(Callback, name)
    found = [getattr(callback, name, None) for callback in callbacks]
    return [hook for hook in found if hook and getattr(hook, "__func__", None) is not base]
