"""Samples and labels, in three parts."""

from typing import Any, NamedTuple

import numpy as np

from ..checks import shortened


class Split(NamedTuple):
    """Images x (n, pixels) and labels y (n,) of int64.

    >>> import numpy as np
    >>> from bpx.datasets import Split
    >>> x, y = Split(np.zeros((2, 784)), np.array([3, 7]))
    >>> x.shape, y.tolist()
    ((2, 784), [3, 7])
    >>> Split(x, y)
    Split(x=(2, 784) float64, y=(2,) int64)
    """

    x: np.ndarray
    y: np.ndarray

    def __repr__(self) -> str:
        return f"Split(x={_shown(self.x)}, y={_shown(self.y)})"


def _shown(array: Any) -> str:
    is_array = isinstance(array, np.ndarray)
    return f"{array.shape} {array.dtype}" if is_array else shortened(array)


class Dataset(NamedTuple):
    """What to train on, what to tune on, and what to report.

    >>> import bpx
    >>> data = bpx.datasets.digits()
    >>> len(data.train.y), len(data.validation.y), len(data.test.y)
    (1197, 300, 300)
    """

    train: Split
    validation: Split
    test: Split


def scaled(images: np.ndarray, dtype: str, white: int) -> np.ndarray:
    """Images in [0, 1], or as they came for ``"uint8"``."""
    if dtype == "uint8":
        return images
    if dtype not in ("float32", "float64"):
        raise ValueError(f"expected dtype 'float32', 'float64' or 'uint8', got {dtype!r}")
    return np.multiply(images, np.dtype(dtype).type(1 / white), dtype=dtype)
