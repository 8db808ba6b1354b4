"""NumPy's arrays that begin on a line of the caches.

Most of NumPy's own begin 16, 32 or 48 bytes after one, as it happens, and then each vector of 64
bytes is read from two lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._base import Array
from ._cblas import address

LINE = 64  # bytes


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    return _array(np.empty, shape, np.dtype(dtype))


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    return _array(np.zeros, shape, np.dtype(dtype))


def _array(make: Callable[..., Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    room = make(math.prod(shape) * dtype.itemsize + LINE, np.uint8)
    return np.ndarray(shape, dtype, room, -address(room) % LINE)
