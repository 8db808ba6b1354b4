"""step -> learning rate.

A step is one update of the parameters: an epoch has ``ceil(n / batch_size)`` of them, or ``n //
batch_size`` with ``drop_last`` (``len(bpx.batches(...))``). Steps are counted from 0 when an
optimizer starts, and go on counting when `fit` is called again.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, cast

from .checks import fraction, nonnegative, number, positive, whole
from .elsewhere import NEEDED_BY_SCHEDULES, OF_SCHEDULES
from .keywords import init_hints


class Schedule:
    """A learning rate for each step: a frozen dataclass that is called with the step.

    >>> from bpx.schedules import Schedule
    >>> class Alternating(Schedule):
    ...     def __call__(self, step):
    ...         return 0.1 if step % 2 else 0.5
    >>> import bpx
    >>> bpx.SGD(Alternating()).learning_rate(3)
    0.1
    """

    def __call__(self, step: int) -> float:
        """η at `step` = 0, 1, 2, ..."""
        raise TypeError(f"{type(self).__name__} must define __call__(step)")

    @property
    def constant_from(self) -> int | None:
        """The step from which it stays what it is, if that was the plan; None: it has no end.

        >>> from bpx.schedules import Constant, Cosine, WarmUp
        >>> WarmUp(10, Cosine(0.1, 20)).constant_from, Constant(0.1).constant_from
        (30, None)
        """
        return None


def _grown(initial: float, factor: float, exponent: float) -> float:
    """``initial * factor**exponent``, and infinity beyond the largest float.

    A run with such an η diverges and names the step, where OverflowError names nothing.
    """
    try:
        return float(initial) * float(factor) ** exponent if initial else 0.0
    except OverflowError:
        return math.inf


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class Constant(Schedule):
    """η = `rate`.

    >>> from bpx.schedules import Constant
    >>> [Constant(0.5)(step) for step in (0, 1000)]
    [0.5, 0.5]
    """

    rate: float

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.rate)

    def __call__(self, step: int) -> float:
        return self.rate


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class StepDecay(Schedule):
    """η = `initial` · `factor`^⌊step / `every`⌋; a `factor` above 1 makes it grow.

    >>> from bpx.schedules import StepDecay
    >>> [StepDecay(1.0, every=2)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    initial: float
    every: int
    factor: float = 0.5

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.initial)
        whole("every", self.every)
        positive("factor", self.factor)

    def __call__(self, step: int) -> float:
        return _grown(self.initial, self.factor, step // self.every)


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class Exponential(Schedule):
    """η = `initial` · `factor`^(step / `steps`): multiplied by `factor` over `steps` steps.

    A `factor` above 1 makes it grow, as in a search for the largest η that does not diverge.

    >>> from bpx.schedules import Exponential
    >>> Exponential(1.0, steps=10, factor=0.25)(5)
    0.5
    """

    initial: float
    steps: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.initial)
        whole("steps", self.steps)
        positive("factor", self.factor)

    def __call__(self, step: int) -> float:
        return _grown(self.initial, self.factor, step / self.steps)


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `initial` at step 0 to `final` at step `steps`, and constant after it.

    η = final + ½ (initial − final)(1 + cos(π step/steps)) (Loshchilov and Hutter, SGDR, 2017,
    without restarts).

    >>> from bpx.schedules import Cosine
    >>> [Cosine(1.0, steps=4)(step) for step in (0, 2, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.initial)
        whole("steps", self.steps)
        nonnegative("the final learning rate", self.final)

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))

    @property
    def constant_from(self) -> int:
        return self.steps


@init_hints()
@dataclass(frozen=True)
class WarmUp(Schedule):
    """Linear from 0 over `steps` steps, then `after` (a rate, or a schedule counted from there).

    The first step already moves: η = after(0) · (step + 1)/steps while step < steps.

    >>> from bpx.schedules import WarmUp
    >>> [WarmUp(4, 0.8)(step) for step in (0, 1, 3, 4, 5)]
    [0.2, 0.4, 0.8, 0.8, 0.8]
    """

    steps: int
    after: float | Schedule

    def __post_init__(self) -> None:
        whole("the steps of WarmUp, its first argument,", self.steps)
        object.__setattr__(self, "after", as_schedule(self.after))

    def __call__(self, step: int) -> float:
        after = cast(Schedule, self.after)  # since `__post_init__`
        if step < self.steps:
            return after(0) * (step + 1) / self.steps
        return after(step - self.steps)

    @property
    def constant_from(self) -> int | None:
        end = cast(Schedule, self.after).constant_from
        return None if end is None else self.steps + end


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to `peak` and down again (Smith and Topin, 2018), each along half a cosine.

    From peak/`start` at step 0 to `peak` after a share `warm_up` of the `steps`, then to
    peak/`end` at step `steps`, the one after the last of them, and constant from there.

    >>> from bpx.schedules import OneCycle
    >>> [round(OneCycle(1.0, steps=10)(step), 3) for step in (0, 3, 10)]
    [0.04, 1.0, 0.0]
    """

    peak: float
    steps: int
    warm_up: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.peak)
        whole("steps", self.steps)
        positive("start", self.start)
        positive("end", self.end)
        fraction("warm_up", self.warm_up)

    def __call__(self, step: int) -> float:
        top = self.warm_up * self.steps
        if step < top:
            a, b, done = self.peak / self.start, self.peak, step / top
        else:
            a, b = self.peak, self.peak / self.end
            done = min((step - top) / (self.steps - top), 1.0)
        return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * done))

    @property
    def constant_from(self) -> int:
        return self.steps


@init_hints(OF_SCHEDULES, needed=NEEDED_BY_SCHEDULES)
@dataclass(frozen=True)
class InverseScaling(Schedule):
    """η = `initial` / (step + 1)^`power`.

    >>> from bpx.schedules import InverseScaling
    >>> [InverseScaling(1.0)(step) for step in (0, 3)]
    [1.0, 0.5]
    """

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        nonnegative("the learning rate", self.initial)
        nonnegative("power", self.power)

    def __call__(self, step: int) -> float:
        try:
            return float(self.initial / (step + 1) ** self.power)
        except OverflowError:  # of the divisor
            return 0.0


def as_schedule(rate: float | Schedule) -> Schedule:
    """A schedule from a constant rate or a schedule.

    >>> from bpx.schedules import Cosine, as_schedule
    >>> as_schedule(0.5), as_schedule(Cosine(0.5, steps=10))
    (Constant(rate=0.5), Cosine(initial=0.5, steps=10, final=0.0))
    """
    if isinstance(rate, Schedule):
        return rate
    refuse_class(rate)
    return Constant(number("the learning rate (or a Schedule)", rate))


def refuse_class(rate: Any) -> None:
    """TypeError for a schedule's class, which has to be called.

    >>> from bpx.schedules import Cosine, refuse_class
    >>> refuse_class(Cosine(0.1, steps=100)), refuse_class(0.1)
    (None, None)
    """
    if isinstance(rate, type) and issubclass(rate, Schedule):
        known = inspect.signature(rate).parameters.values()
        needed = ", ".join(each.name for each in known if each.default is each.empty)
        raise TypeError(
            "expected the learning rate to be a number or a Schedule, got the class: pass "
            f"{rate.__name__}({needed})"
        )
