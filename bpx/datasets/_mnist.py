"""MNIST (LeCun, Cortes, Burges), split as in the book: 50,000 / 10,000 / 10,000."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._split import Dataset, Split, scaled

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = 30.0  # seconds without a byte


class _File(NamedTuple):
    shape: tuple[int, ...]
    sha256: str  # of the uncompressed file


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
    """A data set that is damaged, or is not here and cannot be had."""


def mnist(dtype: str = "float32", *, progress: bool = True) -> Dataset:
    """MNIST: 50,000 images to train, the last 10,000 of the 60,000 to validate, 10,000 to test.

    The four files are read from the folder that the environment variable ``BPX_DATA`` names
    (``$BPX_DATA/mnist``, or that folder itself), else from the user's cache; if they are not
    there they are downloaded once from a public mirror, and checked by their SHA-256.

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
    DatasetError
        No mirror can be reached and the files are not here (the message says which to put
        where), or a file is damaged.
    """
    scaled(np.zeros(0, np.uint8), dtype, 255)  # a wrong dtype is told before a download
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
    """Where downloads are kept: the user's cache, by the habits of the system."""
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
    own = [Path(named) / "mnist", Path(named)] if named else []
    return [*own, cache_folder()]


def _load(name: str, progress: bool) -> np.ndarray:
    for folder in _folders():
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return _parse(path, name)
    path = _folders()[0] / f"{name}.gz"
    _download(name, path, progress)
    return _parse(path, name)


def _parse(path: Path, name: str) -> np.ndarray:
    """The array in an IDX file, plain or gzipped, checked by its sum."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(
                f"{path} is truncated or damaged ({error}): delete it, and it is downloaded anew"
            ) from error
    _check(content, name, str(path))
    shape = FILES[name].shape
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _check(content: bytes, name: str, what: str) -> None:
    # The sum covers the IDX header too, so that magic and sizes need no check of their own.
    # Measured: 0.03 s for all four files where the processor has SHA instructions.
    found, expected = hashlib.sha256(content).hexdigest(), FILES[name].sha256
    if found != expected:
        raise DatasetError(
            f"{what} is damaged: expected the uncompressed SHA-256 {expected}, got {found}; "
            "delete it, and it is downloaded anew"
        )


def _download(name: str, path: Path, progress: bool) -> None:
    """Fetch one file from the first mirror that has it whole; write it or nothing."""
    failures = []
    for mirror in MIRRORS:
        address = f"{mirror}{name}.gz"
        try:
            content = _fetch(address, progress)
            _check(gzip.decompress(content), name, address)
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            failures.append(f"  {address}: {error}")
        else:
            _write(path, content)
            return
    files = "".join(f"\n  {path.parent / file}.gz" for file in FILES)
    raise DatasetError(
        "MNIST is not here, and no mirror gave it:\n"
        + "\n".join(failures)
        + f"\nPut these four files there by hand (with or without .gz):{files}\n"
        "or set BPX_DATA to a folder that has them"
    )


def _fetch(address: str, progress: bool) -> bytes:
    with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
        length = int(response.headers.get("Content-Length") or 0)
        chunks = []
        with contextlib.ExitStack() as stack:
            bar = None
            if progress:
                from tqdm.auto import tqdm

                bar = stack.enter_context(
                    tqdm(total=length or None, unit="B", unit_scale=True, desc=Path(address).name)
                )
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                if bar is not None:
                    bar.update(len(chunk))
    content = b"".join(chunks)
    if length and len(content) != length:
        raise OSError(f"truncated: {len(content)} of {length} bytes came")
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".download.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
