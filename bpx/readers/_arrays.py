"""Rows that lie in a file as they do in memory, and those that a library slices."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ._base import Read, Reader


class RawRows(Reader):
    """Rows one after another in a file: .npy, members of .npz, memory maps.

    They are read and not mapped: pages that were looked at through a map count as this process's
    memory until the system wants them back.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(str(path), shape, dtype)
        self.path, self.offset = path, offset
        self._swapped = not np.dtype(dtype).isnative
        self._row = math.prod(shape[1:]) * self.dtype.itemsize
        self._size = path.stat().st_size
        wanted = offset + shape[0] * self._row
        if self._size < wanted:
            raise ValueError(
                f"{path} is truncated: {shape[0]} rows of {self._row} bytes end at {wanted}, and "
                f"it has {self._size} bytes; write it again"
            )

    @contextmanager
    def opened(self) -> Iterator[Read]:
        with open(self.path, "rb", buffering=0) as file:

            def read(start: int, stop: int, out: np.ndarray) -> None:
                size = os.fstat(file.fileno()).st_size
                if size != self._size:
                    raise OSError(
                        f"the file has {size} bytes and had {self._size}: open the data again "
                        "once nothing writes to it"
                    )
                file.seek(self.offset + start * self._row)
                fill(file, out)
                if self._swapped:
                    out.byteswap(inplace=True)

            yield read


def fill(file: Any, out: np.ndarray) -> None:
    """Read what `out` holds, from where the file is at."""
    room = out.reshape(-1).view(np.uint8).data
    while len(room):
        got = file.readinto(room)
        if not got:
            raise OSError("the file ends here: it was truncated while it was read")
        room = room[got:]


def mapped(x: Any) -> RawRows | None:
    """The file behind a memory map, or behind some rows of one; None: it is something else."""
    if not isinstance(x, np.memmap) or not x.flags.c_contiguous or x.dtype.hasobject:
        return None
    root: Any = x
    while isinstance(root.base, np.memmap):
        root = root.base
    # A private map may have been written to, and its file has not.
    if not isinstance(root.base, mmap.mmap) or root.mode == "c" or root.filename is None:
        return None
    offset = root.offset + x.ctypes.data - root.ctypes.data
    return RawRows(Path(root.filename), offset, x.shape, x.dtype)


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
            found = np.asarray(self.x[start:stop])
            if found.size != out.size:
                raise OSError(
                    f"expected {len(out)} rows of {out[0].size} numbers, got {found.shape}"
                )
            out.reshape(found.shape)[...] = found

        yield read
