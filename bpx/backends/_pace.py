"""Whether several threads are sooner than one, by short trials of both in the midst of a run.

Threads that share a step meet some times in each. On idle cores that takes less than a
microsecond, and where other processes want the cores up to some milliseconds. A step has the same
bits for any number of threads, so that a run may change between them at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# A trial takes this share of a call's steps, and of those to the next trial. As long as trials say
# the same, these become more, up to `APART` times as many. A trial begins with a few steps, and
# ends there if they clearly take longer.
SHARE, APART, FEW, CLEARLY = 16, 32, 2, 4.0


class Pace:
    """Calls of some steps each, together with other threads or alone, whatever was sooner lately.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._together, self._took = True, 0.0  # and for a step; 0: nobody knows
        self._apart, self._left = 1, 0  # steps to the next trial

    def run(self, count: int, steps: Callable[[int, int, bool], int]) -> int:
        """Do `count` steps; returns how many were done, fewer if one of them ended the run.

        ``steps(first, count, together)`` does some, and returns how many.
        """
        done, ended = 0, False

        def timed(some: int, together: bool) -> float:
            """For a step."""
            nonlocal done, ended
            if ended or some < 1:
                return 0.0
            start = self._clock()
            more = steps(done, some, together)
            done, ended = done + more, more < some
            return (self._clock() - start) / some

        tried = max(1, count // SHARE)
        if self._took == 0.0:
            # Many steps begin on one thread, which is never much too slow. Few are large ones.
            self._together, self._left = tried < FEW, SHARE if tried < FEW else 0
            self._took = timed(tried, self._together)
        if self._left <= 0:
            few = min(FEW, tried, count - done)
            rest = min(tried, count - done) - few
            other = timed(few, not self._together)
            if other <= CLEARLY * self._took and rest:
                other = (few * other + rest * timed(rest, not self._together)) / (few + rest)
            if few and other < self._took:
                self._together, self._took, self._apart = not self._together, other, 1
            else:
                self._apart = min(2 * self._apart, APART)
            self._left = SHARE * tried * self._apart
        self._took = timed(count - done, self._together) or self._took
        self._left -= count
        return done
