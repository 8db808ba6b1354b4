"""Ways through the steps of an epoch: one by one, by replays of a recording, or compiled."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ..checks import warn
from ..history import StepLog
from .program import CompiledSteps, Program
from .replays import Captured, agree
from .sources import Arrays, Windows
from .steps import DivergenceError, NonFinite, Steps
from .updates import scalars_of_steps

NO_LIMIT = sys.maxsize


class Pass(ABC):
    """Steps of one epoch, some at a time."""

    @abstractmethod
    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        """Start at step `first` of this order; `before` steps of the epoch precede the order."""

    @abstractmethod
    def advance(self, most: int) -> int:
        """Do some steps, at most `most`; returns how many, 0 at the end of the epoch."""

    @abstractmethod
    def read(self) -> None:
        """Append to the log what the steps since `begin` or the last `read` have left.

        Raises
        ------
        DivergenceError
            One of these steps went wrong; `advance` may have said so before.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """End the epoch here, whatever is left of it."""


class _InPieces(Pass):
    """Steps on arrays, many at a time, of which a piece is run again where one went wrong."""

    steps: Steps  # on arrays

    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        self._order, self._done, self._before, self._log = order, first, before, log
        self._backup = -1  # the step of the last `back_up`; -1: none since the last `read`

    def _back_up(self) -> None:
        """Before further steps: keep what they start from, unless that is kept already."""
        if self._backup < 0:
            self.steps.back_up()
            self._backup = self._done

    def _diverged(self, stop: int) -> DivergenceError:
        """The error of one of the steps since the copies were made, up to `stop`."""
        batches = self.steps.source.batches(self._order, self._backup)
        piece = list(islice(batches, stop - self._backup))
        return self.steps.diverged(piece, self._before + self._backup)

    def read(self) -> None:
        if self._backup < 0:
            return
        rows = self._results(self._backup, self._done)
        if rows is None:
            raise self._diverged(self._done)
        self._log.append(rows)
        self._backup = -1

    @abstractmethod
    def _results(self, first: int, stop: int) -> np.ndarray | None:
        """What these steps have left; None if one of them went wrong."""


class StepByStep(Pass):
    """Each step by itself; the log is read every `piece` of them."""

    def __init__(self, steps: Steps, piece: int) -> None:
        self.steps, self.piece = steps, piece

    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        self._batches: Iterator[Any] = self.steps.source.batches(order, first)
        self._done, self._log = before + first, log
        self._since: list[Any] = []  # the batches since the copies were made

    def advance(self, most: int) -> int:
        batch = next(self._batches, None)
        if batch is None:
            return 0
        since = self._since
        if not since:
            self.steps.back_up()
        since.append(batch)
        try:
            self.steps.one(batch, len(since) - 1)
        except NonFinite:
            raise self.steps.diverged(since, self._done) from None
        except BaseException:
            since.pop()  # it was not done, and its row of the log says nothing
            raise
        if len(since) == self.piece:
            self.read()
        return 1

    def read(self) -> None:
        if not self._since:
            return
        rows = self.steps.read(len(self._since))
        if rows is None:
            raise self.steps.diverged(self._since, self._done)
        self._log.append(rows)
        self._done += len(self._since)
        self._since = []


class Replayed(_InPieces):
    """Many steps per launch of a recording; the last, smaller mini-batch is a step by itself."""

    def __init__(self, steps: Steps, captured: Captured, required: bool) -> None:
        self.steps, self.captured, self.required = steps, captured, required
        self.refused = False

    def holds(self, order: Any) -> bool:
        """Whether the first two replays equal the same steps done one by one.

        If not, a warning says so, or with ``graph=True`` an error.
        """
        captured, steps = self.captured, self.steps
        if captured.checked or self.refused:
            return captured.checked
        steps.back_up()
        try:
            for at, batch in enumerate(islice(steps.source.batches(order), 2)):
                steps.one(batch, at)
            if steps.read(2) is None:
                return False  # the steps will say so, with their layer
            # On the device: meanwhile a third copy of the vectors is there, beside the backup.
            xp = steps.chain.backend.xp
            expected = [xp.asarray(array, copy=True) for array in steps.since_backup(2)[1]]
            steps.restore()
            why = self._replay_twice(order, expected)
        finally:
            steps.restore()
        if why:
            self.refused = True
            message = f"the steps cannot be replayed as a CUDA graph: {why}"
            if self.required:
                raise RuntimeError(message)
            warn(f"{message}; each is launched by itself")
        return not why

    def _replay_twice(self, order: Any, expected: list[Any]) -> str:
        """Why the replays do not give what the steps gave; empty: they do."""
        captured, steps = self.captured, self.steps
        try:
            captured.begin(order, steps.net.steps)
            captured.prepare()
            steps.restore()
            captured.begin(order, steps.net.steps)
            captured.run(1)
            captured.run(1)
            start, got = steps.since_backup(2)
            captured.checked = agree(steps.chain.backend.xp, start, expected, got)
        except Exception as error:  # what CUDA refuses to record, whatever it is, runs unrecorded
            return str(error) or type(error).__name__
        if captured.checked:
            return ""
        return "two of them did not give what the steps give one by one"

    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        assert first == before == 0  # the rest of an epoch goes step by step
        super().begin(order, first, log)
        self.captured.begin(order, self.steps.net.steps)

    def advance(self, most: int) -> int:
        done, replays = self._done, self.captured.steps
        if done == self.steps.source.steps:
            return 0
        self._back_up()
        if done < replays:
            count = self.captured.run(min(most, replays - done))
            self.steps.count(count)
        else:
            count = 1
            self.steps.one(next(self.steps.source.batches(self._order, done)), done)
        self._done += count
        return count

    def _results(self, first: int, stop: int) -> np.ndarray | None:
        return self.steps.read(stop - first, first)


class Compiled(_InPieces):
    """Many steps per call of a compiled function."""

    def __init__(self, steps: Steps, program: Program, function: CompiledSteps) -> None:
        self.steps, self.program, self.function = steps, program, function
        self.steps_a_call = program.steps_a_call

    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        super().begin(order, first, log, before)
        self._steps = -(-len(order) // self.program.batch_size)
        self._rows = np.zeros((self._steps, 3))
        self._squares = np.zeros(self._steps if self.program.squares else 0)

    def advance(self, most: int) -> int:
        m, done = self.program.batch_size, self._done
        count = min(self.steps_a_call, self._steps - done, most)
        if not count:
            return 0
        self._back_up()
        rows, part = self._order[done * m : (done + count) * m], slice(done, done + count)
        steps = self.steps
        scalars = scalars_of_steps(steps.update, steps.source, rows, steps.state.step)
        good = self.function(rows, scalars, self._rows[part], self._squares[part])
        self.steps.count(good)
        if good < count:
            raise self._stopped_at(done + good)
        self._done += count
        return count

    def _stopped_at(self, step: int) -> DivergenceError:
        """The error when a step's cost is not finite; nothing of that step was written."""
        if self.steps.all_finite():
            self.steps.back_up()
            self._backup = step
        # Else the step before has overflowed, and all steps since the copies are run again.
        return self._diverged(step + 1)

    def _results(self, first: int, stop: int) -> np.ndarray | None:
        if not self.steps.all_finite():
            return None
        rows, squares = self._rows[first:stop], self._squares[first:stop]
        return np.column_stack([rows, squares]) if self.program.squares else rows


class InWindows(Pass):
    """Data on disk: window after window in memory, each with a pass of its own.

    Parameters
    ----------
    source : Windows
    through : callable
        The pass through arrays.
    """

    def __init__(self, source: Windows, through: Callable[[Arrays], Pass]) -> None:
        self.source, self.through = source, through

    def begin(self, order: Any, first: int, log: StepLog, before: int = 0) -> None:
        self._parts = self.source.parts(order, first)
        self._current: Pass | None = None
        self._done, self._log = before + first, log

    def advance(self, most: int) -> int:
        while True:
            count = 0 if self._current is None else self._current.advance(most)
            if count:
                self._done += count
                return count
            self.read()  # while the window is there
            part, order = next(self._parts, (None, None))
            if part is None:
                return 0
            self._current = self.through(part)
            self._current.begin(order, 0, self._log, self._done)

    def read(self) -> None:
        if self._current is not None:
            self._current.read()

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._parts.close()
