"""Samples through a layer's weights, by compiled loops where they are few.

``z ← x wᵀ``, of vectors that hold the matrices. Two rows of x and five of w are taken at once: ten
sums stay in registers, for seven vectors that are loaded.
"""

from __future__ import annotations

import numpy as np

from ._cblas import OUTPUTS, ROWS, is_sooner_in_loops, is_sooner_transposed
from ._jit import decorators
from ._numba_blas import N, T, gemm
from ._threads import ONE_CORE

_kernel, _inlined = decorators("contract", "reassoc", "nsz", "arcp")
_inlined(is_sooner_in_loops)
_inlined(is_sooner_transposed)


@_inlined
def _vector_product(x, w, z):
    """Of one row. Through 784-30-10 it takes 2.8 µs, by OpenBLAS's gemm (AVX2) 18.6."""
    n = x.size
    for o in range(w.size // n):
        row, total = w[o * n :], x.dtype.type(0.0)
        for j in range(n):
            total += x[j] * row[j]
        z[o] = total


@_inlined
def _thin_product(x, w, z, rows, n, outputs):
    """Of `ROWS` and `OUTPUTS` at least. Where the last are fewer, some are computed again."""
    zero = x.dtype.type(0.0)
    for first in range(0, outputs, OUTPUTS):
        o = min(first, outputs - OUTPUTS)
        w0, w1, w2 = w[o * n :], w[(o + 1) * n :], w[(o + 2) * n :]
        w3, w4 = w[(o + 3) * n :], w[(o + 4) * n :]
        for start in range(0, rows, ROWS):
            r = min(start, rows - ROWS)
            x0, x1 = x[r * n :], x[(r + 1) * n :]
            a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = zero
            for j in range(n):
                p, q = x0[j], x1[j]
                a0 += p * w0[j]
                a1 += p * w1[j]
                a2 += p * w2[j]
                a3 += p * w3[j]
                a4 += p * w4[j]
                b0 += q * w0[j]
                b1 += q * w1[j]
                b2 += q * w2[j]
                b3 += q * w3[j]
                b4 += q * w4[j]
            upper, lower = z[r * outputs + o :], z[(r + 1) * outputs + o :]
            upper[0], upper[1], upper[2], upper[3], upper[4] = a0, a1, a2, a3, a4
            lower[0], lower[1], lower[2], lower[3], lower[4] = b0, b1, b2, b3, b4


@_inlined
def _transposed_product(x, w, z, rows, n, outputs):
    """By ω xᵀ."""
    one, zero, turned = x.dtype.type(1.0), x.dtype.type(0.0), np.empty(rows * outputs, x.dtype)
    gemm(T, N, rows, outputs, n, one, x, n, w, n, zero, turned, rows)
    for r in range(rows):
        for o in range(outputs):
            z[r * outputs + o] = turned[o * rows + r]


@_inlined
def product(x, w, z, rows, inputs, outputs):
    """``z ← x wᵀ``."""
    if rows == 1:
        _vector_product(x[:inputs], w[: outputs * inputs], z)
    elif is_sooner_in_loops(rows, inputs, outputs) and rows * inputs * outputs <= ONE_CORE:
        _thin_product(x, w, z, rows, inputs, outputs)
    elif is_sooner_transposed(rows, inputs, outputs):  # or on all cores
        _transposed_product(x, w, z, rows, inputs, outputs)
    else:
        one, zero = x.dtype.type(1.0), x.dtype.type(0.0)
        gemm(T, N, outputs, rows, inputs, one, w, inputs, x, inputs, zero, z, outputs)


@_kernel
def affine(x, w, b, z):
    """``z ← x wᵀ + b``, where `is_sooner_in_loops`."""
    outputs, inputs = w.shape
    flat = z.reshape(-1)
    _thin_product(x.reshape(-1), w.reshape(-1), flat, x.shape[0], inputs, outputs)
    for r in range(x.shape[0]):
        for j in range(outputs):
            flat[r * outputs + j] += b[j]
