"""Rows that lie in a file as they do in memory, and those that a library slices."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...backends._conversion import refuse
from ._base import FileStamp, Read, Reader


class RawRows(Reader):
    """Rows one after another in a file: .npy, members of .npz, memory maps.

    They are read and not mapped: pages that were looked at through a map count as this process's
    memory until the system wants them back.

    Parameters
    ----------
    settled : bool
        Whether nobody writes to the file, as one could through a writable map.
    """

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, ...], dtype: Any, settled: bool = True
    ) -> None:
        super().__init__(str(path), shape, dtype)
        self.path, self.offset = path, offset
        self._swapped = not np.dtype(dtype).isnative
        self._row = math.prod(shape[1:]) * self.dtype.itemsize
        self._file = FileStamp(path, settled)
        wanted = offset + shape[0] * self._row
        if self._file.size < wanted:
            raise ValueError(
                f"{path} is truncated: {shape[0]} rows of {self._row} bytes end at {wanted}, and "
                f"it has {self._file.size} bytes; write it again"
            )

    @contextmanager
    def opened(self) -> Iterator[Read]:
        with open(self.path, "rb", buffering=0) as file:

            def read(start: int, stop: int, out: np.ndarray) -> None:
                self._file.check(os.fstat(file.fileno()))
                file.seek(self.offset + start * self._row)
                fill(file, out)
                if self._swapped:
                    out.byteswap(inplace=True)

            yield read

    def announce(self, pieces: Iterable[tuple[int, int]]) -> None:
        # 85 MB in pieces of 1 MB, which the system had not in memory, took 87 ms, and so 55.
        if hasattr(os, "posix_fadvise"):  # not on macOS, nor on Windows
            with open(self.path, "rb", buffering=0) as file, suppress(OSError):
                for start, stop in pieces:
                    at, size = self.offset + start * self._row, (stop - start) * self._row
                    os.posix_fadvise(file.fileno(), at, size, os.POSIX_FADV_WILLNEED)


def fill(file: Any, out: np.ndarray) -> None:
    """Read what `out` holds, from where the file is at."""
    room = out.reshape(-1).view(np.uint8).data
    while len(room):
        got = file.readinto(room)
        if not got:
            raise OSError("the file ends here: it was truncated while it was read")
        room = room[got:]


def mapped(x: Any) -> RawRows | None:
    """The file behind a memory map, or behind some rows of one; None if it is something else.

    None too if its file is gone, or another one has its name: the data are only in the map then.
    """
    if not isinstance(x, np.memmap) or not x.flags.c_contiguous or x.dtype.hasobject:
        return None
    root: Any = x
    while isinstance(root.base, np.memmap):
        root = root.base
    # A private map may have been written to, and its file has not.
    if not isinstance(root.base, mmap.mmap) or root.mode == "c" or root.filename is None:
        return None
    if not _is_held_open(Path(root.filename)):
        return None
    offset = root.offset + x.ctypes.data - root.ctypes.data
    return RawRows(Path(root.filename), offset, x.shape, x.dtype, settled=root.mode == "r")


def _is_held_open(path: Path) -> bool:
    """Whether this process holds the file of this name open, as each map holds its own."""
    try:
        named, handles = path.stat(), os.listdir("/proc/self/fd")
    except OSError:
        return path.exists()  # a system that does not show it
    for handle in handles:
        with suppress(OSError):  # that of the list itself is closed
            if os.path.samestat(os.fstat(int(handle)), named):
                return True
    return False


class Slices(Reader):
    """What has ``shape`` and slices: arrays of HDF5 and Zarr, and others."""

    def __init__(self, x: Any) -> None:
        name = getattr(getattr(x, "file", None), "filename", type(x).__name__)
        dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x[:1]).dtype
        super().__init__(str(name), tuple(x.shape), dtype)
        self.x = x
        chunks = getattr(x, "chunks", None)
        if chunks and isinstance(chunks[0], int):
            self.chunk = chunks[0]

    @contextmanager
    def opened(self) -> Iterator[Read]:
        def read(start: int, stop: int, out: np.ndarray) -> None:
            rows = self.x[start:stop]
            refuse(rows, "x", "numpy")  # netCDF's variables mask what is missing as they are read
            found = np.asarray(rows)
            if found.size != out.size:
                raise OSError(
                    f"expected {len(out)} rows of {out[0].size} numbers, got {found.shape}"
                )
            out.reshape(found.shape)[...] = found

        yield read
