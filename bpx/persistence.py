"""Dicts of arrays and JSON <-> safetensors files. Knows no network, and no pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .checks import printable
from .writing import write_bytes

FORMAT_VERSION = 1


@runtime_checkable
class Stateful(Protocol):
    """What a resumed run has to find as it was: a callback, or an iterable."""

    def state(self) -> dict[str, Any]:
        """Numbers, texts, lists and dicts of them, and arrays; it may share memory."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from there; arrays come as NumPy's. ValueError if it does not fit."""


# How files of other kinds begin, and who writes them.
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as PyTorch, Keras and NumPy write",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x80": "a pickle, as joblib and older versions of PyTorch write",
    b"{": "JSON",
}
# Of the book's network2.py, whose first entry these are.
_OF_THE_BOOK = b'{"sizes": ', b'{"biases": '
_READ_IT = (
    "d = json.load(open(path)); "
    'net = bpx.Network(d["sizes"], cost="quadratic" if "Quad" in d["cost"] else None); '
    'net.weights, net.biases = d["weights"], [np.ravel(b) for b in d["biases"]]'
)
_ARRAYS = "to use its weights, make a network of such layers and set net.tensors[name] = array"

MOST_SAID = 2_000  # characters of a message: the names in it may be a file's


class FileFormatError(ValueError):
    """A file that is not what bpx writes: foreign, damaged, or of a later version."""

    def __init__(self, message: str) -> None:
        whole = len(message) <= MOST_SAID
        super().__init__(printable(message if whole else f"{message[:MOST_SAID]}..."))


class OtherVersionError(FileFormatError):
    """A file of a later version, which is not known to be damaged."""


def write(
    path: str | PathLike[str],
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    *,
    follow: bool = True,
) -> None:
    """Write arrays and a header as one safetensors file, whole or not at all.

    It goes to a temporary file in the same folder, which is flushed to the disk and renamed: an
    old file of that name survives whatever happens before, and its permissions are kept.

    Parameters
    ----------
    path : path
    tensors : mapping of str to ndarray
        Of any shape and strides; booleans, integers, floats or complex64.
    header : mapping
        What `json.dumps` takes. Tuples come back as lists.
    follow : bool
        Write to where a link of that name leads, as ``open(path, "wb")`` does; if not, the file
        takes the link's place.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    IsADirectoryError
        `path` is a folder.
    OSError
        The disk is full, the folder cannot be written to, or with `follow` the old file is
        read-only; that one is untouched.
    TypeError
        An array's dtype or something in the header that the file cannot hold.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from bpx import persistence
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     persistence.write(f"{folder}/a.safetensors", {"bias": np.zeros(3)}, {"epochs": 30})
    ...     persistence.read(f"{folder}/a.safetensors")
    ({'bias': array([0., 0., 0.])}, {'epochs': 30})
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(
            f"expected a path, got {type(path).__name__}: net.to_bytes() is what a file would hold"
        )
    write_bytes(path, *_parts(tensors, header), follow=follow)


def packed(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> bytes:
    """What `write` would write; of the same content the same bytes.

    Raises
    ------
    TypeError
        An array's dtype or something in the header that safetensors cannot hold.
    """
    return b"".join(_parts(tensors, header))


def _parts(
    tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> tuple[bytes, bytes, memoryview]:
    """Those of a file: joined, all numbers would be in memory once more."""
    from safetensors import SafetensorError
    from safetensors.numpy import save

    # safetensors takes an array's memory as it is: a transposed view would come back scrambled.
    # (`np.ascontiguousarray` would make a vector of a 0-d array.)
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(header)
    metadata = {
        "format": "bpx",
        "format_version": str(FORMAT_VERSION),
        "header": text,
        "checksum": _checksum(text, arrays),
    }
    try:
        content: bytes = save(arrays, metadata)
    except SafetensorError as error:
        raise TypeError(f"cannot write this as safetensors: {error}") from error
    return _ordered(content, metadata)


def _ordered(content: bytes, metadata: Mapping[str, str]) -> tuple[bytes, bytes, memoryview]:
    """The parts of a file, with its metadata in this order: safetensors draws one at random."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end]) | {"__metadata__": metadata}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little"), text, memoryview(content)[end:]


def _checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """CRC-32 of the header, and of each array's name and bytes: safetensors itself has none."""
    found = zlib.crc32(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        # In the file they are little-endian.
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        found = zlib.crc32(np.atleast_1d(little).data, zlib.crc32(name.encode(), found))
    return f"crc32:{found:08x}"


class _Content:
    """Bytes in memory, as safetensors shows an open file."""

    def __init__(self, content: bytes) -> None:
        from safetensors.numpy import load

        self._arrays = load(content)  # refuses what is not whole
        size = int.from_bytes(content[:8], "little")
        self._metadata = json.loads(content[8 : 8 + size]).get("__metadata__")

    def __enter__(self) -> _Content:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def keys(self) -> list[str]:
        return list(self._arrays)

    def get_tensor(self, name: str) -> np.ndarray:
        return self._arrays[name]


def read(
    source: str | PathLike[str] | bytes | bytearray | memoryview,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the header of a file that `write` wrote, or of what it would hold.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    FileFormatError
        It is a folder, empty, truncated, damaged, not bpx's, or of a later version.
    TypeError
        Neither a path nor bytes.
    """
    from safetensors import SafetensorError, safe_open

    place = named(source)
    if isinstance(source, str | PathLike):
        path = Path(source)
        if path.is_dir():
            found = sorted(path.glob("*.safetensors"))  # of checkpoints the newest comes last
            hint = f", such as {found[-1]}" if found else ""
            raise FileFormatError(f"{place} is a folder, expected a .safetensors file{hint}")
        if path.stat().st_size == 0:
            raise FileFormatError(f"{place} is empty, expected a .safetensors file")
    try:
        opened: Any = (
            safe_open(source, framework="numpy")
            if isinstance(source, str | PathLike)
            else _Content(bytes(source))
        )
        with opened as file:
            metadata = file.metadata() or {}
            header = _header(place, metadata)
            names = file.keys()  # of a handle that is not a dictionary
            arrays = {name: file.get_tensor(name) for name in names}
        expected = metadata.get("checksum")
        if expected is not None and expected != _checksum(metadata["header"], arrays):
            raise FileFormatError(
                f"{place} is damaged: its content is not what was written (expected {expected})"
            )
        return arrays, header
    except FileFormatError:
        raise
    # For a dtype that NumPy lacks, safetensors raises a TypeError or AttributeError.
    except (SafetensorError, TypeError, AttributeError, ValueError, LookupError) as error:
        otherwise = (
            f"{place} is not a whole safetensors file; it is of another kind, damaged or "
            f"truncated: {error}"
        )
        raise FileFormatError(_of_others(place, source) or otherwise) from error


def _of_others(place: str, source: Any) -> str:
    """What to say of a file that is of another known kind; empty if it is none."""
    begin = source
    if isinstance(source, str | PathLike):
        if Path(source).suffix.lower() == ".onnx":
            return (
                f"{place} is an ONNX model, which bpx writes and does not read: {_ARRAYS}, and "
                "onnx.load(path).graph.initializer has them"
            )
        with open(source, "rb") as file:
            begin = file.read(16)
    begin = bytes(begin[:16])
    if begin.startswith(_OF_THE_BOOK):
        return f"{place} is JSON of the book's network2.py, not a file of bpx: {_READ_IT}"
    for start, kind in _OTHERS.items():
        # The length of a safetensors header may begin so, but is hardly 2²⁴ or more.
        if begin.startswith(start) and any(begin[3:8]):
            hint = "" if kind == "JSON" else f": {_ARRAYS}"
            return f"{place} is {kind}, not a file of bpx{hint}"
    return ""


def named(source: Any) -> str:
    """A file's path, or what bytes are called in a message; TypeError for anything else."""
    if isinstance(source, str | PathLike):
        return str(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "the content"
    hint = ": pass file.read()" if hasattr(source, "read") else ""
    raise TypeError(f"expected a path or bytes, got {type(source).__name__}{hint}")


def _header(path: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != "bpx":
        raise FileFormatError(f"{path} is a safetensors file, but bpx did not write it: {_ARRAYS}")
    found = metadata.get("format_version", "")
    try:
        version = int(found)
    except ValueError:
        version = 0
    if version < 1:
        raise FileFormatError(f"{path} has no readable format version ({found!r})")
    if version > FORMAT_VERSION:
        raise OtherVersionError(
            f"{path} was written by a later bpx (format {version}; this bpx reads up to "
            f"{FORMAT_VERSION}): update bpx"
        )
    if "header" not in metadata:
        raise FileFormatError(f"{path} has a damaged header: there is none")
    try:
        header = json.loads(metadata["header"])
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{path} has a damaged header: not a JSON object")
    return header
