"""Dicts of arrays and JSON <-> safetensors files. Knows no network, and no pickle."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

FORMAT_VERSION = 1


class FileFormatError(ValueError):
    """A file that is not what bpx writes: foreign, damaged, or of a later version."""


def write(
    path: str | PathLike[str], tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> None:
    """Write arrays and a header as one safetensors file, whole or not at all.

    It goes to a temporary file in the same folder, which is flushed to the disk and renamed: an
    old file of that name survives whatever happens before.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    OSError
        The disk is full or the folder cannot be written to; an old file is untouched.
    """
    from safetensors.numpy import save

    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    metadata = {
        "format": "bpx",
        "format_version": str(FORMAT_VERSION),
        "header": json.dumps(header),
    }
    content = save(dict(tensors), metadata)
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
    except OSError as error:
        kept = "the old file is untouched" if path.exists() else "nothing was left behind"
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror or error}; {kept}"
        ) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the header of a file that `write` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    FileFormatError
        It is a folder, empty, truncated, damaged, not bpx's, or of a later version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected a .safetensors file")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{path} is empty, expected a .safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata)
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise FileFormatError(
            f"{path} is not a whole safetensors file, or is damaged or truncated: {error}"
        ) from error


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != "bpx":
        raise FileFormatError(f"{path} is a safetensors file, but bpx did not write it")
    version = metadata.get("format_version", "")
    if not version.isdecimal():
        raise FileFormatError(f"{path} has no readable format version ({version!r})")
    if int(version) > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} was written by a later bpx (format {version}; this bpx reads up to "
            f"{FORMAT_VERSION}): update bpx"
        )
    try:
        header = json.loads(metadata["header"])
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{path} has a damaged header: not a JSON object")
    return header
