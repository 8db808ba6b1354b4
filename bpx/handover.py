"""Data handed to processes that this one starts, without a copy of large arrays for each."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from .backends import on_host
from .checks import in_words
from .data.readers import mapped

LARGE = 1 << 20  # bytes from which an array is worth a file


def pickled(*values: Any) -> bytes:
    """Objects on their way to another process of this program; no file is ever read this way.

    Raises
    ------
    TypeError
        One of them cannot be sent, such as a function within a function.
    """
    try:
        return bytes(ForkingPickler.dumps(values))
    except Exception as error:  # of any kind: objects themselves say why they cannot be sent
        raise TypeError(
            f"something cannot be sent to another process ({error}): define functions and classes "
            "at the top of a module, pass arrays or open_data of a file, or train in turn, "
            "without processes= and devices="
        ) from error


def unpickled(content: bytes) -> Any:
    """A tuple of what was `pickled`."""
    return ForkingPickler.loads(content)


@dataclass(frozen=True)
class _InFile:
    """An array that lies in a file; the process that unpickles it gets the array."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    order: str
    is_map: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, tuple(vars(self).values())


def _opened(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype, order: Any, is_map: bool
) -> np.ndarray:
    # Copied on a write, which nobody does: PyTorch does not share read-only memory.
    mode: Any = "r" if is_map else "c"
    array = np.memmap(path, dtype, mode, offset, shape, order)
    return array if is_map else np.asarray(array)


class Handover:
    """Arrays on their way to other processes, the large ones by files in a folder.

    What `shared` returns is for `pickled`, and comes out of it as the array. The pages of a file
    are in memory once, however many processes map it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, tuple[Any, _InFile]] = {}  # by the array's id, and kept with it

    def shared(self, value: Any) -> Any:
        """`value` with large arrays, also those in a tuple, replaced by files."""
        if isinstance(value, tuple | list) and any(hasattr(part, "shape") for part in value):
            return tuple(self.shared(part) for part in value)
        if isinstance(value, np.memmap) and value.ndim > 1 and (found := mapped(value)):
            shape, dtype = value.shape, value.dtype
            return _InFile(found.path.resolve(), found.offset, shape, dtype, "C", True)
        if not isinstance(value, np.ndarray):
            value = on_host(value)
        if not isinstance(value, np.ndarray) or value.nbytes < LARGE or value.dtype.hasobject:
            return value
        if id(value) not in self._files:
            self._files[id(value)] = value, self._written(value)
        return self._files[id(value)][1]

    def _written(self, array: np.ndarray) -> _InFile:
        path = self.folder / f"{len(self._files)}.bin"
        by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        try:
            (array.T if by_columns else array).tofile(path)
        except OSError as error:  # without a name, or an errno
            raise OSError(
                f"cannot write {in_words(array.nbytes)} for the processes to {path}: {error}; set "
                "TMPDIR in the environment to a folder with more room"
            ) from error
        order = "F" if by_columns else "C"
        return _InFile(path, 0, array.shape, array.dtype, order, False)
