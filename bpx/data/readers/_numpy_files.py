"""NumPy's own files, .npy and .npz: a header's claims are first checked against the file."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...checks import over_budget
from ...registry import nearest
from ._arrays import RawRows, fill

STORED, DEFLATED = 0, 8  # the methods of a zip file that NumPy writes
DEFLATE = 1032  # bytes that one of a deflated file can become (zlib's technical details)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype


def load_npy(path: Path) -> np.ndarray:
    """The array in a .npy file, whole."""
    with path.open("rb") as file:
        return _array(file, str(path), os.fstat(file.fileno()).st_size)


def load_npz(
    path: Path, needed: Sequence[str], optional: Sequence[str], budget: int
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file, whole; compressed ones become `budget` bytes at most."""
    arrays, left = {}, budget
    with _archive(path) as (archive, members):
        for name in needed:
            if name not in members:
                raise ValueError(f"{path} has no array {name!r}{nearest(name, list(members))}")
        for name in [*needed, *(name for name in optional if name in members)]:
            info = members[name]
            if info.compress_type != STORED:
                left -= info.file_size
            if left < 0:
                raise ValueError(
                    f"{name!r} in {path} is compressed, and takes "
                    f"{over_budget(info.file_size, budget)}: pass a larger budget, or write it "
                    "uncompressed with np.savez"
                )
            where = f"{name!r} in {path}"
            try:
                file = archive.open(info)
            except Exception as error:  # zipfile raises errors of many kinds
                raise ValueError(f"{where} is damaged: {error}") from error
            with file:
                arrays[name] = _array(file, where, info.file_size)
    return arrays


def npy(path: Path) -> RawRows:
    """The rows of a .npy file."""
    with path.open("rb") as file:
        return _rows(path, file, str(path), path.stat().st_size)


def member(path: Path, name: str) -> RawRows:
    """The rows of an array in a .npz file that is not compressed."""
    with _archive(path) as (_, members):
        if name not in members:
            raise ValueError(f"{path} has no array {name!r}{nearest(name, list(members))}")
        info = members[name]
    if info.compress_type != STORED:
        raise ValueError(
            f"{name!r} in {path} is compressed, and can only be read from its beginning: write it "
            "with np.savez, or each array with np.save"
        )
    with path.open("rb") as file:
        try:
            file.seek(info.header_offset)
            mark, *lengths = struct.unpack("<4s22x2H", file.read(30))  # of the name, of an extra
            file.seek(sum(lengths), os.SEEK_CUR)
        except (OSError, ValueError, struct.error) as error:
            raise ValueError(f"{name!r} in {path} is damaged: {error}") from error
        if mark != b"PK\x03\x04" or info.flag_bits & 1:
            raise ValueError(f"{name!r} in {path} is damaged or encrypted: write it again")
        return _rows(path, file, f"{name!r} in {path}", info.file_size)


@contextmanager
def _archive(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A .npz file, and what its directory says of each array; names are keys, and no paths."""
    import zipfile  # as csv in `_tables`, only where it is used: they take as long as bpx.training

    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # of many kinds
        raise ValueError(f"{path} is damaged, or not a .npz file: {error}") from error
    with archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        size = path.stat().st_size
        for name, info in members.items():
            method, packed = info.compress_type, info.compress_size
            if method not in (STORED, DEFLATED):
                raise ValueError(
                    f"{name!r} in {path} is compressed by zip's method {method}, expected what "
                    "NumPy writes: use np.savez or np.savez_compressed"
                )
            most = packed if method == STORED else DEFLATE * packed
            if packed > size or info.file_size > most:
                raise ValueError(
                    f"{name!r} in {path} is damaged: {info.file_size} bytes cannot be packed in "
                    f"{packed} of a file of {size}"
                )
        yield archive, members


def _array(file: IO[bytes], name: str, size: int) -> np.ndarray:
    header = _header(file, name, size)
    shape = header.shape[::-1] if header.by_columns else header.shape
    found = np.empty(shape, header.dtype)
    try:
        fill(file, found)
    except Exception as error:  # zipfile and zlib raise errors of many kinds
        raise ValueError(f"{name} is damaged: {error}") from error
    return found.T if header.by_columns else found


def _rows(path: Path, file: IO[bytes], name: str, size: int) -> RawRows:
    """The rows after the header at which the file is, as it describes them."""
    header = _header(file, name, size)
    if header.by_columns and len(header.shape) > 1:
        raise ValueError(
            f"{name} is stored by columns (Fortran's order), so that a row is all over the file: "
            "use np.save(path, np.ascontiguousarray(x))"
        )
    return RawRows(path, file.tell(), header.shape, header.dtype)


def _header(file: IO[bytes], name: str, size: int) -> _Header:
    """What is at the beginning of an array that has `size` bytes with it.

    Raises
    ------
    ValueError
        It is not a header, it claims more than there is, or the array is not of numbers.
    """
    formats, begins = np.lib.format, file.tell()
    try:
        version = formats.read_magic(file)
        read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
        header = _Header(*read[version](file))
    # NumPy parses headers as Python literals, so a damaged one raises what the parser raises.
    except Exception as error:
        raise ValueError(f"{name} has no readable NumPy header: {error}") from error
    shape, _, dtype = header
    if dtype.hasobject:
        raise ValueError(
            f"{name} holds Python objects, which are never unpickled: save an array of numbers"
        )
    if dtype.kind not in "biufc":
        raise ValueError(
            f"{name} must hold numbers, got dtype {str(dtype)[:60]}: save classes as "
            "np.unique(y, return_inverse=True)[1], columns with names as columns of one array"
        )
    wanted = file.tell() - begins + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or wanted > size:
        raise ValueError(
            f"{name} is truncated or damaged: an array of shape {shape} and dtype {dtype} ends "
            f"at byte {wanted}, and it has {size}; write it again"
        )
    return header
