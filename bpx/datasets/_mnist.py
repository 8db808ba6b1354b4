"""MNIST (LeCun, Cortes, Burges), split as in the book: 50,000 / 10,000 / 10,000."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..writing import replace
from ._split import Dataset, Split, scaled

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = 30.0  # seconds without a byte
# Bytes of a compressed file, and of what comes of them, at most, at once. zlib takes 90 ms for the
# training images, and 126 if 1 << 21 may come of them.
PIECE, UNPACKED = 1 << 16, 1 << 18
WRAPPING = 1 << 16  # bytes that gzip may add, at most


class _File(NamedTuple):
    shape: tuple[int, ...]
    sha256: str  # of the uncompressed file: the mirrors' gzip wrappings differ

    @property
    def size(self) -> int:
        """Bytes of the uncompressed file."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


FILES = {
    "train-images-idx3-ubyte": _File(
        (60000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": _File(
        (60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte": _File(
        (10000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": _File(
        (10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}


class DatasetError(OSError):
    """A data set that is damaged, or is missing and cannot be obtained."""


def mnist(dtype: str = "float32", *, progress: bool = True) -> Dataset:
    """MNIST: 50,000 images to train, the last 10,000 of the 60,000 to validate, 10,000 to test.

    The four files are read from the folder that the environment variable ``BPX_DATA`` names
    (``$BPX_DATA/mnist``, or that folder itself), else from the user's cache; those that are not
    there are downloaded once from a public mirror, into ``$BPX_DATA/mnist`` or the cache. All are
    checked by their SHA-256.

    Parameters
    ----------
    dtype : str
        ``"float32"`` or ``"float64"``: in [0, 1]; ``"uint8"``: 0 to 255, as they came (see
        `bpx.layers.Rescale`).
    progress : bool
        Draw a bar while downloading.

    Returns
    -------
    Dataset
        x (n, 784), y (n,) of int64.

    Raises
    ------
    ValueError
        Another dtype.
    DatasetError
        A file is damaged, or is missing and no mirror gave it (the message says which files to put
        where), or the download cannot be kept.

    Examples
    --------
    >>> import bpx
    >>> train, validation, test = bpx.datasets.mnist()  # doctest: +SKIP
    >>> train.x.shape, validation.x.shape, test.x.shape  # doctest: +SKIP
    ((50000, 784), (10000, 784), (10000, 784))
    """
    scaled(np.zeros(0, np.uint8), dtype, 255)  # a wrong dtype is reported before a download
    images, labels, test_images, test_labels = (_load(name, progress) for name in FILES)
    x = scaled(images.reshape(len(images), -1), dtype, 255)
    y = labels.astype(np.int64)
    test = Split(
        scaled(test_images.reshape(len(test_images), -1), dtype, 255),
        test_labels.astype(np.int64),
    )
    held_out = len(x) - len(x) // 6
    return Dataset(Split(x[:held_out], y[:held_out]), Split(x[held_out:], y[held_out:]), test)


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache, by the conventions of the system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bpx" / "mnist"


def _folders() -> list[Path]:
    """Where to look, in order; the first is where a download goes."""
    named = os.environ.get("BPX_DATA")
    folders = [Path(named) / "mnist", Path(named)] if named else []
    try:
        return [*folders, cache_folder()]
    except RuntimeError as error:  # a user without a name, as in many a container
        if not folders:
            raise DatasetError(
                f"there is no folder for MNIST's files ({error.args[0].rstrip('.')}): set the "
                "environment variable BPX_DATA to one that has them, or into which they can go"
            ) from error
        return folders


def _load(name: str, progress: bool) -> np.ndarray:
    folders = _folders()
    for folder in folders:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                try:
                    return _parse(path.read_bytes(), name)
                except DatasetError as error:
                    raise DatasetError(
                        f"{path} is damaged, or is not MNIST's: {error}; "
                        "delete it, and it is downloaded anew"
                    ) from error
    return _download(name, folders[0], progress)


def _parse(content: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an IDX file, plain or gzipped, of uint8."""
    import hashlib
    import zlib

    shape, expected = FILES[name]
    whole, at, digest = np.empty(FILES[name].size, np.uint8), 0, hashlib.sha256()
    room = whole.data
    try:
        # Checked at every load, on another core while this one unpacks: gzip's own CRC passes
        # Fashion-MNIST, which has the same names and shapes. The sum covers the IDX header too,
        # whose magic and sizes need no check of their own.
        with _beside(digest.update) as add:
            for piece in _pieces(content):
                some = room[at : at + len(piece)]
                if len(some) < len(piece):  # another file, however large it is
                    add(piece)
                    break
                some[:] = piece
                add(some)
                at += len(piece)
    except (EOFError, zlib.error) as error:
        raise DatasetError(f"the gzip file is truncated or damaged ({error})") from error
    found = digest.hexdigest()
    if found != expected:
        raise DatasetError(f"expected the uncompressed SHA-256 {expected}, found {found}")
    return whole[4 + 4 * len(shape) :].reshape(shape)


@contextlib.contextmanager
def _beside(work: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """`work`, done by a thread of its own if there can be one; all of it at the end."""
    import queue

    given: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        for each in iter(given.get, None):
            work(each)

    thread = threading.Thread(target=run, name="bpx", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no more of them, or none at all
        yield work
        return
    try:
        yield given.put
    finally:
        given.put(None)
        thread.join()


def _pieces(content: bytes) -> Iterator[bytes]:
    """Pieces of the uncompressed file, each copied while it is in the processor's caches."""
    import zlib

    if not content.startswith(b"\x1f\x8b"):
        yield content
        return
    rest = memoryview(content)
    while rest.nbytes:  # one gzip file after another is a gzip file too
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while rest.nbytes and not member.eof:
            piece = rest[:PIECE]
            yield member.decompress(piece, UNPACKED)
            rest = rest[len(piece) - len(member.unconsumed_tail) :]
        if not member.eof:
            raise EOFError("it ends before its last byte")
        rest = memoryview(member.unused_data + rest)


def _download(name: str, folder: Path, progress: bool) -> np.ndarray:
    """Fetch one file from the first mirror that has it whole, and keep it in `folder`."""
    from http.client import HTTPException  # with urllib and ssl, 15 ms of `import bpx`

    failures = []
    for mirror in MIRRORS:
        address = f"{mirror}{name}.gz"
        try:
            content = _fetch(address, FILES[name].size + WRAPPING, progress)
            array = _parse(content, name)
        except (OSError, HTTPException) as error:
            failures.append(f"  {address}: {error}")
        else:
            _store(content, folder / f"{name}.gz")
            return array
    files = "".join(f"\n  {folder / file}.gz" for file in FILES)
    raise DatasetError(
        "MNIST was not found here, and no mirror gave it:\n"
        + "\n".join(failures)
        + f"\nPut these four files in place by hand (with or without .gz):{files}\n"
        "or set the environment variable BPX_DATA to a folder that has them"
    )


def _fetch(address: str, most: int, progress: bool) -> bytes:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        response = urlopen(address, timeout=TIMEOUT)
    except HTTPError as error:
        with error:  # it holds the connection
            raise OSError(f"HTTP {error.code} {error.reason}") from None
    with response:
        length = int(response.headers.get("Content-Length") or 0)
        bar = _bar(length, address.rpartition("/")[2]) if progress else None
        chunks, got = [], 0
        try:
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                got += len(chunk)
                if got > most:
                    raise OSError(f"expected a file of less than {most} bytes, got a larger one")
                if bar is not None:
                    bar.update(len(chunk))
        finally:
            if bar is not None:
                bar.close()
    content = b"".join(chunks)
    if length and len(content) != length:  # `read` ends quietly when the connection does
        raise OSError(f"truncated: {len(content)} of {length} bytes came")
    return content


def _bar(total: int, name: str) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total or None, unit="B", unit_scale=True, desc=name)


def _store(content: bytes, path: Path) -> None:
    """Keep a download."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    except OSError as error:
        raise DatasetError(
            f"cannot keep the download as {path}: {error.strerror or error}; set the environment "
            "variable BPX_DATA to a folder that can be written to"
        ) from error
