"""Rows of a training set, gathered for compiled steps, whatever their dtype and order in memory.

A function for each dtype is compiled by itself, in a second, and called by its address: the steps,
which take ten, are compiled once for all of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

from ._jit import FLAGS, OPTIONS, called_by_address, pointer, prefetch

# Rows that are asked for before they are copied, and the bytes of a row up to which that pays: a
# shuffled row of a large table is in no cache, and the processor looks only a few rows ahead by
# itself. 1,024 rows of 20 float32 out of 1,000,000 take 18 µs, and 37 without.
AHEAD, SHORT = 16, 512


def place(x: np.ndarray) -> tuple[int, int, int]:
    """Its address, and the bytes from row to row and from column to column."""
    row, column = x.strides
    return x.ctypes.data, row, column


# Whole numbers alone: it takes Python 30 µs to tell Numba of what type a function is.
_SIGNATURE = types.void(*[types.intp] * 10)


@cache
def gatherer(source: Any, scaling: Any, real: Any) -> Any:
    """``out ← scale·x[order] + offset`` for x, scale and offset, and out of these dtypes.

    A function of a `place`, the address of int64 rows and their number, the addresses of `scale`
    (and whether there is one), of `offset` and of `out`, and the columns.
    """
    kind, size = from_dtype(source), source.itemsize
    scales, reals, index = from_dtype(scaling), from_dtype(real), types.int64

    def gather(address, row, column, order, rows, scale, scaled, offset, out, n):
        picked = carray(pointer(order, index), rows)
        by, plus = carray(pointer(scale, scales), n), carray(pointer(offset, scales), n)
        batch = carray(pointer(out, reals), rows * n)
        whole = column == size
        ahead = AHEAD if whole and n * size <= SHORT else 0
        for i in range(-ahead, rows):
            if ahead and i + ahead < rows:
                later = address + picked[i + ahead] * row
                for byte in range(0, n * size, 64):
                    prefetch(later + byte)
                prefetch(later + (n - 1) * size)
            if i < 0:
                continue
            first = address + picked[i] * row
            into = batch[i * n : (i + 1) * n]
            if whole:
                x = carray(pointer(first, kind), n)
                if scaled:
                    for j in range(n):
                        into[j] = x[j] * by[j] + plus[j]
                else:
                    for j in range(n):
                        into[j] = x[j]
            else:
                for j in range(n):
                    value = carray(pointer(first + j * column, kind), 1)[0]
                    into[j] = value * by[j] + plus[j] if scaled else value

    return called_by_address(_SIGNATURE, fastmath=set(FLAGS), **OPTIONS)(gather)
