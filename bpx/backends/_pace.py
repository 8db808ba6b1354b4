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
        self._together, self._took = True, 0.0  # and for a step; 0: nobody knows
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
        done, ended = 0, False

        def timed(some: int, together: bool) -> float:
            """For a step; 0 if none is left."""
            nonlocal done, ended
            some = 0 if ended else min(some, count - done)
            if some < 1:
                return 0.0
            start = self._clock()
            more = steps(done, some, max(1, min(most, free())) if together else 1)
            done, ended = done + more, more < some
            return (self._clock() - start) / some

        def trial(together: bool) -> float:
            first = timed(min(FEW, tried), together)
            much = first > CLEARLY * self._took
            return first if much else timed(tried - FEW, together) or first

        tried = max(1, count // SHARE)
        while free() < most and done < count and not ended:  # for a short while, it may be
            timed(tried, self._together)
        if self._took == 0.0:
            # Many steps begin on one thread, which is never much too slow. Few are large ones.
            self._together = tried < FEW
            self._left = SHARE if self._together else 0
            self._took = timed(tried, self._together)
        if self._left <= 0 < self._took:
            tried = max(tried, int(ENOUGH / self._took))
            other = trial(not self._together)
            # Again, if steps are left, since what held the last call up may be over.
            if 0.0 < other < self._took and other < (trial(self._together) or self._took):
                self._together, self._took, self._apart = not self._together, other, 1
            else:
                self._apart = min(2 * self._apart, APART)
            self._left = SHARE * tried * self._apart
        self._took = timed(count - done, self._together) or self._took
        self._left -= count
        return done
