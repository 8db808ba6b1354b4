"""Ctrl-C and SIGTERM between two steps, and not inside one; what becomes of them afterwards."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, ClassVar

from .. import launcher
from ..checks import warn

# Seconds in which a launcher passes on what the terminal or the scheduler sent to each process.
TWICE = 1.0

# Seconds after a Ctrl-C in which another one is meant for more than the run that it ended: for a
# search that goes on with its next fit.
INSISTING = 3.0


class Interrupts:
    """Note a first Ctrl-C, raise at a second, also at one that comes soon, in a later run.

    Only in the main thread of the main interpreter, since Python allows no handler to be set in
    others, and not if Ctrl-C is ignored or handled outside Python.

    Parameters
    ----------
    others : int
        Signals that are noted too, however often they come.

    Attributes
    ----------
    noted : bool
        Whether one has come.
    came : set of int
        Which.
    """

    _last: ClassVar[float] = -math.inf  # when Ctrl-C came, to any of them

    def __init__(self, *others: int) -> None:
        self.signals = (signal.SIGINT, *others)
        self.noted, self._since = False, 0.0
        self.came: set[int] = set()

    def __enter__(self) -> Interrupts:
        self._before: dict[int, Any] = {}
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                before = signal.getsignal(number)
                if before not in (None, signal.SIG_IGN):
                    self._before[number] = before
                    with contextlib.suppress(ValueError):  # an interpreter beside the main one
                        signal.signal(number, self._note)
        return self

    def note(self, number: int, since: float = 0.0) -> None:
        """Record that the signal has come, at this time of the monotonic clock."""
        self.came.add(number)
        if not self.noted:
            self.noted, self._since = True, since

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # forked meanwhile: it trains nothing, and is to end
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        now = time.monotonic()
        if launcher.rank() is None:
            again = self.noted or now - Interrupts._last < INSISTING
        else:
            again = self.noted and now - self._since >= TWICE
        self.note(number, now)
        if number == signal.SIGINT:
            Interrupts._last = now
            if again:
                raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:  # and not one that a callback has set
                signal.signal(number, before)
            # One around this, in whose `fit` a callback has called another, is meant too.
            outer = getattr(before, "__self__", None)
            if number in self.came and isinstance(outer, Interrupts):
                outer.note(number, self._since)


def conclude(terminated: bool, interrupted: str | None) -> None:
    """Deliver a SIGTERM again that was only noted; else warn of Ctrl-C in these words, if any.

    The process then dies of SIGTERM as its sender expects, or a handler of the user's is called.
    """
    if terminated:
        signal.raise_signal(signal.SIGTERM)
    elif interrupted is not None:
        warn(interrupted)
