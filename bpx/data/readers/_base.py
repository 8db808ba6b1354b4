"""The interface of readers, and whether a file is still the one that was opened."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

Read = Callable[[int, int, np.ndarray], None]  # from row, to row, and where they go


class FileStamp:
    """The size of a file, and when it was last written to, as they are when it is opened.

    Not its number: some network file systems give the same file another one.

    Parameters
    ----------
    path : Path
    settled : bool
        Whether nobody writes to the file, as one could through a writable map.
    """

    def __init__(self, path: Path, settled: bool = True) -> None:
        found, self._settled = path.stat(), settled
        self.size, self._written = found.st_size, found.st_mtime_ns

    def check(self, found: os.stat_result) -> None:
        """OSError if a file is not, or no longer, the one that was opened."""
        again = "open the data again once nothing writes to it"
        if found.st_size != self.size:
            raise OSError(f"the file has {found.st_size} bytes and had {self.size}: {again}")
        if self._settled and found.st_mtime_ns != self._written:
            raise OSError(f"the file has been replaced or written to: {again}")


class CellError(ValueError):
    """A cell of x gives no number: it is missing where the dtype has no NaN, or no category."""


class NoRows(ValueError):
    """What could be read has none."""


class Reader(ABC):
    """n rows of one shape and dtype, of which some are read at a time.

    Attributes
    ----------
    name : str
        In messages.
    shape : tuple of int
        (n, ...).
    dtype : dtype
        Of the buffers that it reads into, in this machine's byte order.
    borders : ndarray or None
        Where blocks begin, and n; None: anywhere.
    chunk : int
        Rows that are stored together; blocks are multiples of it if that is sensible.
    beside : int
        Bytes that reading a block takes beside the buffer.
    smaller : str
        What would give smaller blocks, if the borders are the file's.
    """

    borders: np.ndarray | None = None
    chunk = 1
    beside = 0
    smaller = ""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        dtype = np.dtype(dtype)
        if dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold real numbers, got dtype {dtype}")
        if len(shape) < 2 or 0 in shape:
            kind = NoRows if len(shape) > 1 and 0 not in shape[1:] else ValueError
            raise kind(f"expected rows of shape (n, ...) in {name}, got {tuple(shape)}")
        self.name, self.shape = name, tuple(int(length) for length in shape)
        self.dtype = dtype.newbyteorder("=")

    @abstractmethod
    def opened(self) -> AbstractContextManager[Read]:
        """Read through the function that this lends; it may be used in one thread at a time."""

    def place(self, row: int) -> tuple[str, int]:
        """The name of the part that has a row, and which of its rows it is."""
        return self.name, row

    def announce(self, pieces: Iterable[tuple[int, int]]) -> None:  # noqa: B027 may do nothing
        """What will be read next, from row to row: a disk is faster if it knows of several."""

    def flatten(self) -> None:
        """Give each row as a vector from now on."""
        self.shape = self.shape[0], math.prod(self.shape[1:])
