"""How far a run has come, for those who wait for it."""

from __future__ import annotations

import copy
import logging
import sys
from typing import Any

from ..history import brief, describe
from ._base import Callback, Run, hooks


class Progress(Callback):
    """A bar of steps in a terminal or a notebook (tqdm), and a line per epoch in a log file.

    Lines of bpx's log, such as that something is compiled first, are shown there too, unless
    another handler takes them.

    Parameters
    ----------
    file : text stream, optional
        Where to draw; standard error by default, and nowhere if that is closed.
    title : str
        Comes before the bar, and before each line.

    Examples
    --------
    >>> import io
    >>> import bpx
    >>> log = io.StringIO()
    >>> net = bpx.Network([1, 1], weights="zeros", bias="zeros")
    >>> history = net.fit(
    ...     [[0.0], [1.0]], [0, 1], epochs=1, callbacks=bpx.callbacks.Progress(log)
    ... )
    >>> log.getvalue().splitlines()[-1].rpartition(";")[0]
    'epoch 1; training cost 0.6931, accuracy 50.00 %'
    """

    def __init__(self, file: Any = None, title: str = "") -> None:
        self._file = file
        self.title, self._before = title, f"{title}: " if title else ""
        self._bar: Any = None
        self._lines: Any = None
        self._log: _Words | None = None
        self._step = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Progress:
        twin = copy.copy(self)  # a stream cannot be copied, and is shared
        twin._bar = twin._lines = twin._log = None
        return twin

    def on_fit_begin(self, run: Run) -> None:
        file = self._file or sys.stderr
        if file is None:
            return
        from tqdm.auto import tqdm

        self._log = _Words(file)
        if not (file.isatty() or "ipykernel" in sys.modules):
            self._lines = file
            return
        total = run.steps_per_epoch and run.epochs * run.steps_per_epoch
        self._step = run.step
        # 80 columns hold all of it, without a title.
        shape = "{desc}{percentage:3.0f}% {bar:8} {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(
            total=total, initial=run.step - run.begun, file=file, dynamic_ncols=True,
            bar_format=shape, desc=self._before,
        )  # fmt: skip

    def on_step_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(run.step - self._step)
            self._step = run.step

    def on_epoch_end(self, run: Run) -> None:
        if self._lines is not None:
            print(self._before + describe(run.history.row()), file=self._lines, flush=True)
        elif self._bar is not None:
            self._bar.set_postfix_str(brief(run.history.row()))

    def on_fit_end(self, run: Run) -> None:
        self.close()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        self._lines = self._log = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Words(logging.Handler):
    """Shows what bpx's log says, unless another handler does; lines above the bar."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._to, self._logger = file, logging.getLogger("bpx")
        self._before = self._logger.level, self._logger.propagate
        self._level_above = self._logger.getEffectiveLevel()
        if not self._logger.isEnabledFor(logging.INFO):
            self._logger.addHandler(self)
            self._logger.setLevel(logging.INFO)
            self._logger.propagate = False  # lines asked for only here go to nobody else

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.auto import tqdm

        above = self._logger.parent
        told = above is not None and self._before[1] and above.hasHandlers()
        others = len(self._logger.handlers) > 1
        if record.levelno < self._level_above or not (told or others):
            tqdm.write(record.getMessage(), file=self._to)
        elif told and above is not None:
            above.callHandlers(record)

    def close(self) -> None:
        if self in self._logger.handlers:
            self._logger.removeHandler(self)
            level, self._logger.propagate = self._before
            self._logger.setLevel(level)
        super().close()


def with_progress(callbacks: list[Any], title: str = "") -> list[Any]:
    """These, and a bar on standard error, unless one of them is such a bar.

    >>> from bpx.callbacks import Progress
    >>> from bpx.callbacks._progress import with_progress
    >>> [type(callback).__name__ for callback in with_progress([Progress()])]
    ['Progress']
    """
    bars = [callback for callback in callbacks if isinstance(callback, Progress)]
    there = any(bar._file is None or bar._file is sys.stderr for bar in bars)
    return callbacks if there else [*callbacks, Progress(title=title)]


def at_each_step(callbacks: list[Any]) -> bool:
    """Whether one of the user's own is called after each step; a progress bar does not count.

    >>> from bpx.callbacks import Progress
    >>> from bpx.callbacks._progress import at_each_step
    >>> at_each_step([Progress()])
    False
    """
    bar = Progress.on_step_end
    return any(
        getattr(hook, "__func__", hook) is not bar for hook in hooks(callbacks, "on_step_end")
    )
