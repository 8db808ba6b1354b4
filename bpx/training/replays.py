"""Steps that a device does without the host: recorded once, replayed for whole epochs.

What changes from step to step lies on the device: a clock, the scalars of each step of the epoch
(rate, momentum, decay) and the order of its rows. Each replay begins by reading its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..backends import Array
from ..chain import Chain, mean_factor
from ..optimizers import Optimizer
from .sources import Arrays, Source
from .updates import Update, scalars_of_steps

STEPS_A_LAUNCH = 16  # a launch of a graph takes the host about as long as one of a kernel

# Takes rows, scalars, the step's row in the log and its place in all training, all on the device.
Work = Callable[[Array, tuple[Array, ...], Array, Array], None]


def why_not_captured(chain: Chain, source: Source, optimizer: Optimizer, hooked: bool) -> str:
    """What makes each step wait for the host; empty: nothing known beforehand."""
    if not chain.backend.captures:
        return f'a graph needs backend="cupy", and the network is on {chain.backend.name!r}'
    if not isinstance(source, Arrays) or source.by_host:
        return "a graph needs x and y in memory, not mini-batches that the host brings"
    if optimizer.kernel is None:
        return f"an optimizer of your own, {type(optimizer).__name__}, runs on the host"
    if hooked:
        return "a callback with on_step_end runs on the host between the steps"
    if source.n < 2 * source.batch_size:
        return "a graph needs two full mini-batches or more"
    return ""


class Captured:
    """A step on full mini-batches as a recording.

    Parameters
    ----------
    chain : Chain
        Its backend captures.
    source : Arrays
    update : FusedUpdate or GradientUpdate
        The one whose `scalars` the steps read.
    work : callable
        The step.

    Attributes
    ----------
    steps : int
        Those of an epoch, without a last, smaller mini-batch.
    checked : bool
        Whether its replays were compared with steps done one by one.
    """

    def __init__(self, chain: Chain, source: Arrays, update: Update, work: Work) -> None:
        self.backend, self.source, self.update, self.work = chain.backend, source, update, work
        self.steps = source.n // source.batch_size
        width, dtype, index = len(update.scalars(0)), chain.xp_dtype, self.backend.xp.int64
        self.clock = self.backend.zeros((3,), index)
        self.table = self.backend.zeros((self.steps, width), dtype)
        self.scalars = self.backend.zeros((width,), dtype)
        self.order = self.backend.zeros((self.steps * source.batch_size,), index)
        self.rows = self.backend.zeros((source.batch_size,), index)
        self.checked = False
        self._launches: dict[int, Callable[[], None]] = {}

    def begin(self, order: np.ndarray, trained: int) -> None:
        """Begin an epoch whose rows come in this order, after `trained` steps in all."""
        over_m = mean_factor(self.rows.shape[0], self.source.samples.weight)
        rows, first = order[: self.order.shape[0]], self.update.state.step
        self._write(self.clock, np.array([0, 0, trained - 1]))
        self._write(self.order, rows)
        self._write(self.table, scalars_of_steps(self.update, self.source, rows, first, over_m))

    def _write(self, array: Array, values: np.ndarray) -> None:
        array[...] = self.backend.xp.astype(self.backend.from_host(values), array.dtype)

    def prepare(self) -> None:
        """Record a step, and many in one; one runs first, since first uses load things."""
        self.steps_in_turn(1)
        for count in (1, STEPS_A_LAUNCH) if self.steps >= STEPS_A_LAUNCH else (1,):
            recorded = self.backend.capture(partial(self.steps_in_turn, count))
            assert recorded is not None
            self._launches[count] = recorded

    def run(self, most: int) -> int:
        """Do one launch, of at most `most` steps; returns how many."""
        count = STEPS_A_LAUNCH if most >= STEPS_A_LAUNCH else 1
        self._launches[count]()
        return count

    def steps_in_turn(self, count: int) -> None:
        """The work that is recorded."""
        scalars = tuple(self.scalars[k : k + 1] for k in range(self.scalars.shape[0]))
        for _ in range(count):
            self.backend.tick(self.clock, self.table, self.scalars, self.order, self.rows)
            self.work(self.rows, scalars, self.clock[1:2], self.clock[2:3])


def agree(
    xp: Any, start: Sequence[Array], expected: Sequence[Array], got: Sequence[Array]
) -> bool:
    """Whether two ways from `start` have the same end: to 1 % of the way, and to rounding.

    A row of another batch or a rate of another step would differ by as much as the way itself.
    """
    for old, one, other in zip(start, expected, got, strict=True):
        if 0 in one.shape:
            continue
        way, size = xp.max(xp.abs(one - old)), xp.max(xp.abs(one))
        limit = 0.01 * way + 8 * float(xp.finfo(one.dtype).eps) * size
        if not bool(xp.all(xp.abs(one - other) <= limit)):  # NaN too is no agreement
            return False
    return True
