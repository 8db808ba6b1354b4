"""Ctrl-C between two steps, and not inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupts:
    """Note a first Ctrl-C, raise at a second.

    Not in other threads than the main one, where Python lets no handler be set, and not where
    Ctrl-C is ignored or handled outside Python.
    """

    def __enter__(self) -> Interrupts:
        self.noted = False
        self._before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and self._before not in (None, signal.SIG_IGN)
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, self._before)
