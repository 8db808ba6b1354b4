"""1,797 scans of handwritten digits, 8×8, from scikit-learn's wheel: nothing is downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from ..extras import PACKAGES
from ._split import Dataset, Split, scaled


def digits(dtype: str = "float32") -> Dataset:
    """scikit-learn's digits: 1,197 to train, 300 to validate, 300 to test.

    The scans are put into the order of ``numpy.random.default_rng(0).permutation(1797)`` first,
    because they come sorted by writer.

    Parameters
    ----------
    dtype : str
        ``"float32"`` or ``"float64"``: in [0, 1]; ``"uint8"``: 0 to 16, as they came.

    Returns
    -------
    Dataset
        x (n, 64), y (n,) of int64.

    Raises
    ------
    ValueError
        Another dtype.
    ImportError
        scikit-learn is not installed.

    Examples
    --------
    >>> import bpx
    >>> train, validation, test = bpx.datasets.digits()
    >>> train.x.shape, validation.x.shape, test.x.shape
    ((1197, 64), (300, 64), (300, 64))
    """
    scans = _scans()
    scans = scans[np.random.default_rng(0).permutation(len(scans))]
    x = scaled(scans[:, :-1].astype(np.uint8), dtype, 16)
    y = scans[:, -1].astype(np.int64)
    parts = (slice(0, 1197), slice(1197, 1497), slice(1497, 1797))
    return Dataset(*(Split(x[part], y[part]) for part in parts))


def _scans() -> np.ndarray:
    """64 pixels and a label in each row."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"the digits come with scikit-learn: pip install {PACKAGES['sklearn']}")
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if file.is_file():
        # In 0.02 s. To import scikit-learn takes 1 s, half of what `bpx train` would take.
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.column_stack([found.data, found.target])
