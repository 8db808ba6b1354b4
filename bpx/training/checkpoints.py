"""The folder of a run's checkpoints: when one is written, which are kept, which is the newest."""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .. import persistence
from ..callbacks import Run
from ..checks import positive, warn, whole
from ..elsewhere import EVERY
from ..keywords import init_hints
from ..persistence import FileFormatError, OtherVersionError
from .passes import NO_LIMIT
from .snapshots import Epoch, Snapshot, contents

_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")
_TEMPORARY = re.compile(r"\.bpx-[0-9a-f]{16}\.tmp")
_FULL = errno.ENOSPC, errno.EDQUOT


_BEST = "the newest are kept; for the best weights there is callbacks=bpx.EarlyStopping(...)"


@init_hints({"": {"every": EVERY, "monitor": _BEST, "save_best_only": _BEST}})
@dataclass(frozen=True)
class Checkpoint:
    """Where and when `fit` saves all that its further steps depend on.

    One is also written when the run begins, which shows that the folder can be written to, and
    when it ends, is stopped or is interrupted.

    Parameters
    ----------
    folder : path
        Made if it does not exist. A file is named by the steps that its network has taken:
        ``checkpoint-000000001200.safetensors``, which `bpx.load` reads too.
    epochs, steps, seconds : number, optional
        Write when this many have passed since the last one; any of them may be given, and with
        none of them each epoch is saved. Seconds are checked between two steps (compiled ones:
        every 30 ms).
    keep : int
        How many of the newest stay; the others are deleted.

    Examples
    --------
    >>> import tempfile
    >>> import bpx
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = bpx.Checkpoint(folder, steps=10, keep=2)
    ...     history = bpx.Network([2, 3, 1]).fit(x, y, epochs=25, batch_size=4, checkpoint=saved)
    ...     again = bpx.Network([2, 3, 1])
    ...     history = again.fit(x, y, epochs=40, batch_size=4, checkpoint=saved, resume=True)
    >>> history.epochs
    40
    """

    folder: str | PathLike[str]
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | PathLike):
            raise TypeError(
                "expected the folder of checkpoints to be a path, got "
                f"{type(self.folder).__name__}"
            )
        if Path(self.folder).suffix == ".safetensors":
            raise ValueError(
                f"expected a folder for checkpoints, got {str(self.folder)!r}: name one without "
                ".safetensors; net.save(path) writes a single file after fit, and "
                "callbacks=bpx.EarlyStopping(...) keeps the best weights"
            )
        for name in ("epochs", "steps"):
            if getattr(self, name) is not None:
                whole(f"{name} between checkpoints", getattr(self, name))
        if self.seconds is not None:
            positive("seconds between checkpoints", self.seconds)
        whole("keep", self.keep)
        if self.epochs is self.steps is self.seconds is None:
            object.__setattr__(self, "epochs", 1)


class Checkpoints:
    """The checkpoints of one call of `fit`.

    Parameters
    ----------
    wanted : Checkpoint or path
    arguments : mapping
        See `arguments_of`.
    callbacks : list
        Of the run.
    writes : bool
        Whether this rank writes: only rank 0 does, and the others keep step with it.
    """

    def __init__(
        self,
        wanted: Any,
        arguments: Mapping[str, Any],
        callbacks: list[Any],
        *,
        writes: bool,
    ) -> None:
        self.wanted = wanted if isinstance(wanted, Checkpoint) else Checkpoint(wanted)
        self.folder = Path(self.wanted.folder)
        self.arguments, self.callbacks, self.writes = arguments, callbacks, writes
        self._last: Path | None = None  # that this call has written
        self._at = 0, 0, 0.0  # epochs, steps and time when the last one was due

    # --- writing ---

    def late(self) -> bool:
        """Whether `seconds` have passed since the last one, by the clock of the one who writes."""
        seconds = self.wanted.seconds if self.writes else None
        return seconds is not None and time.monotonic() - self._at[2] >= seconds

    def due(self, run: Run, late: bool) -> bool:
        """Whether one is to be written now; `late` is as rank 0 has found it."""
        wanted, (epochs, steps, _) = self.wanted, self._at
        return (
            self._last is None
            or late
            or (wanted.steps is not None and run.net.steps - steps >= wanted.steps)
            or (wanted.epochs is not None and run.net.epochs - epochs >= wanted.epochs)
        )

    def most(self, run: Run) -> int:
        """Steps until one may be due."""
        if self.wanted.steps is None:
            return NO_LIMIT
        return max(1, self._at[1] + self.wanted.steps - run.net.steps)

    def write(self, run: Run, epoch: Epoch) -> None:
        """Write one, and delete those that are too old.

        Raises
        ------
        OSError
            The folder cannot be written to, at the first one. Later it is a warning: the training
            is worth more than one checkpoint, and the one before is still there.
        """
        path = self.folder / f"checkpoint-{run.net.steps:012d}.safetensors"
        if not self.writes or self._written(path, run, epoch):
            self._last = path
        # After a slow write, and after one that failed, time is for training first.
        self._at = run.net.epochs, run.net.steps, time.monotonic()

    def _written(self, path: Path, run: Run, epoch: Epoch) -> bool:
        """Whether it was written; if so, those that are too old are deleted."""
        tensors, header = contents(run, epoch, self.callbacks, self.arguments)
        try:
            if self._last is None:
                if self.folder.is_file():
                    raise NotADirectoryError(
                        f"expected a folder for checkpoints, got {self.folder}, which is a file"
                    )
                self.folder.mkdir(parents=True, exist_ok=True)
                _clean(self.folder)
            self._write_whole(path, tensors, header)
        except OSError as error:
            if self._last is None:
                raise
            gone = isinstance(error, FileNotFoundError)
            left = "The earlier ones were in it" if gone else f"The last one is {self._last}"
            warn(
                f"no checkpoint was written at step {run.net.steps}, and the training goes on: "
                f"{error}. {left}"
            )
            return False
        self._delete_older(path, run.net.steps)
        return True

    def _write_whole(self, path: Path, *content: Any) -> None:
        """Write it; on a full disk once more, in the room of the oldest."""
        try:
            persistence.write(path, *content, follow=False)
        except OSError as error:
            oldest, *newer = _found(self.folder) or [path]
            if error.errno not in _FULL or not any(map(_is_whole, reversed(newer))):
                raise
            oldest.unlink()
            warn(
                f"the disk is full, so the oldest checkpoint, {oldest.name}, was deleted to make "
                f"room for {path.name}: make room on the disk, or keep fewer, "
                "bpx.Checkpoint(..., keep=)"
            )
            persistence.write(path, *content, follow=False)

    def _delete_older(self, path: Path, step: int) -> None:
        try:
            # Those of later steps are damaged, or `newest` would have given one of them.
            older = [other for other in _found(self.folder) if other.name <= path.name]
        except OSError as error:
            warn(
                f"no old checkpoint was deleted at step {step}, and the training goes on: "
                f"{self.folder} cannot be listed ({error}); make it readable"
            )
            return
        for other in older[: -self.wanted.keep]:
            with contextlib.suppress(OSError):
                other.unlink()

    # --- reading ---

    def refuse_others(self) -> None:
        """FileExistsError if there are checkpoints, with which a new run would mix its own."""
        found = _found(self.folder) if self.writes else []
        if found:
            raise FileExistsError(
                f"{self.folder} has checkpoints of an earlier run, the newest {found[-1].name}: "
                "resume=True goes on from it; to begin anew delete them, or name another folder"
            )


def newest(folder: Path, custom: Mapping[str, Any] | None = None) -> Snapshot | None:
    """The newest one in a folder that is whole; None if there is none at all.

    For `custom` see `load`.

    Raises
    ------
    FileFormatError
        All of them are damaged; or that one is not, but of another version of bpx, or has parts
        of one's own that are not known.
    """
    found = _found(folder)
    reasons = []
    for path in reversed(found):
        try:
            content = persistence.read(path)
        except OtherVersionError:
            raise
        except (FileFormatError, OSError) as error:
            reasons.append(str(error))
            continue
        snapshot = Snapshot.of(path, *content, custom)
        for reason in reasons:
            warn(f"a damaged checkpoint is passed over, and {path.name} is used: {reason}")
        return snapshot
    if found:
        raise FileFormatError(
            f"all {len(found)} checkpoints in {folder} are damaged; delete them to begin "
            f"anew: {'; '.join(reasons)}"
        )
    return None


def _found(folder: Path) -> list[Path]:
    """From the oldest to the newest."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_checkpoint(path))


def is_checkpoint(path: Path) -> bool:
    """By its name; a link is not one, since what it leads to is not the run's."""
    return _NAME.fullmatch(path.name) is not None and not path.is_symlink()


def _is_whole(path: Path) -> bool:
    try:
        persistence.read(path)
    except (FileFormatError, OSError):
        return False
    return True


def delete(folder: Path) -> None:
    """Delete what runs have written there, the newest last, and the folder if that was all."""
    for path in _found(folder):
        path.unlink()
    _clean(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _clean(folder: Path) -> None:
    """Remove what a killed process has left half written."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
