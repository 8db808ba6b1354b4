"""Rows that lie in a file as they do in memory, and those that a library slices."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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
                room = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while len(room):
                    got = file.readinto(room)
                    if not got:
                        raise OSError("the file ends here: it was truncated while it was read")
                    room = room[got:]
                if self._swapped:
                    out.byteswap(inplace=True)

            yield read


def load(path: Path, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, all or those of these names, whole; of a .npy file ``x``."""
    try:
        with path.open("rb") as file:  # np.load by a path leaves a damaged .npz open
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {"x": found}
            with found:
                wanted = [name for name in found.files if names is None or name in names]
                return {name: found[name] for name in wanted}
    except MemoryError as error:
        raise ValueError(f"{path} claims more elements than memory holds: {error}") from error
    # NumPy parses headers as Python literals, so a damaged one raises what the parser raises.
    except Exception as error:
        raise ValueError(f"{path} is damaged or holds objects: {error}") from error


def npy(path: Path) -> RawRows:
    """The rows of a .npy file."""
    with path.open("rb") as file:
        return _described(path, file, str(path))


def member(path: Path, name: str) -> RawRows:
    """The rows of an array in a .npz file that is not compressed."""
    import zipfile  # as csv in `_tables`, only where it is used: they take as long as bpx.training

    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if name not in found:
        raise ValueError(f"{path} has no array {name!r}; it has {', '.join(found)}")
    if found[name].compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{name!r} in {path} is compressed, and can only be read from its beginning: write it "
            "with np.savez, or each array with np.save"
        )
    with path.open("rb") as file:
        file.seek(found[name].header_offset)
        lengths = struct.unpack("<26x2H", file.read(30))  # of the name and of what follows it
        file.seek(sum(lengths), os.SEEK_CUR)
        return _described(path, file, f"{name!r} in {path}")


def _described(path: Path, file: IO[bytes], name: str) -> RawRows:
    """What the header says that the file is at; the rows begin behind it."""
    formats = np.lib.format
    try:
        version = formats.read_magic(file)
        header = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
        shape, by_columns, dtype = header[version](file)
    # NumPy parses headers as Python literals, so a damaged one raises what the parser raises.
    except Exception as error:
        raise ValueError(f"{name} has no header of NumPy's that can be read: {error}") from error
    if by_columns and len(shape) > 1:
        raise ValueError(
            f"{name} is stored by columns (Fortran's order), so that a row is all over the file: "
            "np.save(path, np.ascontiguousarray(x))"
        )
    return RawRows(path, file.tell(), shape, dtype)


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
