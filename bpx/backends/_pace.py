"""Whether several threads are sooner than one, by short trials of both in the midst of a run.

Threads that share a step meet some times in each. On idle cores that takes less than a
microsecond, and where other processes want the cores up to some milliseconds. A step has the same
bits for any number of threads, so that a run may change between them at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# A trial takes this share of a call's steps, and of those to the next trial. As long as trials say
# the same, these become more, up to `APART` times as many. A trial begins with a few steps, in
# which threads wake up, and ends there if they clearly take longer.
SHARE, APART, FEW, CLEARLY = 16, 32, 2, 4.0
ENOUGH = 0.002  # seconds of a trial, beside which it does not count that threads wake up


class Pace:
    """Calls of some steps each, together with other threads or alone, whatever was sooner lately.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._together = True
        self._took: float | None = None  # for a step, lately; None: nobody knows
        self._apart, self._left = 1, 0  # steps to the next trial

    def run(
        self,
        count: int,
        steps: Callable[[int, int, int], int],
        most: int,
        free: Callable[[], int],
    ) -> int:
        """Do `count` steps; returns how many were done, fewer if one of them ended the run.

        ``steps(first, count, threads)`` does some, and returns how many. `most` are the threads
        that are together, and ``free()`` those that nothing else of this process keeps busy now.
        """
        call, tried = _Call(count, steps, most, free, self._clock), max(1, count // SHARE)
        while free() < most and call.left:  # for a short while, it may be
            call.timed(tried, self._together)
        if self._took is None:
            self._begin(call, tried)
        if self._took is not None and self._left <= 0 < self._took:
            self._compare(call, max(tried, int(ENOUGH / self._took)), self._took)
        took = call.timed(call.left, self._together)
        self._took = self._took if took is None else took
        self._left -= count
        return call.done

    def _begin(self, call: _Call, tried: int) -> None:
        """Many steps begin on one thread, which is never much too slow. Few are large ones."""
        self._together = tried < FEW
        self._left = SHARE if self._together else 0
        self._took = call.timed(tried, self._together)

    def _compare(self, call: _Call, tried: int, took: float) -> None:
        """Try the other way, and take it if it is sooner."""
        other = call.trial(tried, not self._together, took)
        if other is not None and other < took:
            # Again, if steps are left, since what held the last call up may be over.
            again = call.trial(tried, self._together, took)
            took = took if again is None else again
        if other is not None and other < took:
            self._together, self._took, self._apart = not self._together, other, 1
        else:
            self._apart = min(2 * self._apart, APART)
        self._left = SHARE * tried * self._apart


class _Call:
    """The steps of one call, as far as they have come; see `Pace.run`."""

    def __init__(
        self,
        count: int,
        steps: Callable[[int, int, int], int],
        most: int,
        free: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._steps, self._most, self._free, self._clock = steps, most, free, clock
        self.done, self.left = 0, count

    def timed(self, some: int, together: bool) -> float | None:
        """Do some of those that are left; seconds for each, None if none is left."""
        some = min(some, self.left)
        if some < 1:
            return None
        start = self._clock()
        more = self._steps(
            self.done, some, max(1, min(self._most, self._free())) if together else 1
        )
        self.done += more
        self.left = self.left - more if more == some else 0  # one of them ended the run
        return (self._clock() - start) / some

    def trial(self, tried: int, together: bool, usual: float) -> float | None:
        """The same, but first a few, and no more if these clearly take longer than is usual."""
        first = self.timed(min(FEW, tried), together)
        if first is None or first > CLEARLY * usual:
            return first
        rest = self.timed(tried - FEW, together)
        return first if rest is None else rest
