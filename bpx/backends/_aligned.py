"""NumPy's arrays that begin on a line of the caches.

NumPy's own begin 16, 32 or 48 bytes after one, as it happens, and then each vector of 64 bytes is
read from two lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._base import Array

LINE = 64  # bytes


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    return _array(np.empty, shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    return _array(np.zeros, shape, dtype)


def _array(make: Callable[..., Array], shape: tuple[int, ...], dtype: Any) -> Array:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = make(size + LINE, np.uint8)
    first = -int(room.ctypes.data) % LINE
    return room[first : first + size].view(dtype).reshape(shape)
