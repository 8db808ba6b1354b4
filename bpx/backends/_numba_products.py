"""The three matrix products of a dense layer, in compiled loops.

``z ← x ωᵀ``, ``δ ω`` and ``δᵀx``, of vectors that hold the matrices. On one core they go by tiles
(`_numba_tiles`) or, where rows are few, by loops over two rows of x and five of ω at once: ten
sums stay in registers, for seven vectors that are loaded. What is too much for one core goes to
BLAS.
"""

from __future__ import annotations

from typing import Any

from numba import from_dtype, types

from ._cblas import TIMED, is_sooner_transposed
from ._fast_run import ALONE
from ._jit import (
    ARRAY,
    FLAGS,
    INTEGER,
    allocated,
    array,
    call,
    called_by_address,
    flat,
    free,
    inlined,
    vector,
)
from ._numba_blas import N, T, gemm
from ._numba_tiles import BLOCK, DEPTH, FAR
from ._numba_vectors import BYTES
from ._threads import ONE_CORE

_inlined = inlined(*FLAGS)
_inlined(is_sooner_transposed)

# Rows of x and of ω that loops take at once. With fewer they would write beyond the result.
ROWS, OUTPUTS = 2, 5

# Multiply-adds up to which one core does a product, which BLAS would do on all.
MOST_ON_ONE_CORE = ONE_CORE if TIMED else 0

# Multiply-adds up to which OpenBLAS has kernels with AVX-512 that tiles do not beat: δ ω and δᵀx
# of 32 rows by 128 to 128 take 9.2 and 9.6 µs in it, and 9.3 and 9.9 by tiles, of 784 to 128 they
# take 69 and 70, and 57 and 61. With AVX2 tiles are ahead from 10 rows of 30 to 10 on.
MOST_FOR_BLAS = 1_000_000 if BYTES == 64 else 0

# What it costs to turn a row of b around, in rows of a; and a number of the result (0.5 ns), in
# multiply-adds.
TURNED = 7 if BYTES == 64 else 16
TURNED_BACK = 30.0


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
def _thin_product(x, w, z, rows, n, units, outputs):
    """Of `ROWS` and `OUTPUTS` at least. Where the last are fewer, some are computed again."""
    zero = x.dtype.type(0.0)
    for first in range(0, units, OUTPUTS):
        o = min(first, units - OUTPUTS)
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
def _turned_by_blas(x, w, z, rows, n, outputs):
    """By ω xᵀ."""
    one, zero = x.dtype.type(1.0), x.dtype.type(0.0)
    found, held = _as_many(z, rows * outputs)
    if held == 0:
        gemm(T, N, outputs, rows, n, one, w, n, x, n, zero, z, outputs)
        return
    gemm(T, N, rows, outputs, n, one, x, n, w, n, zero, found, rows)
    _turn(found, z, rows, outputs, outputs)
    free(held)


@_inlined
def _turn(turned, z, rows, units, outputs):
    """Into rows of z, which are of `outputs`."""
    for r in range(rows):
        for o in range(units):
            z[r * outputs + o] = turned[o * rows + r]


@_inlined
def _as_many(like, size):
    """Room for so many numbers of a vector's dtype, and what to `free` it by, 0 if there is none.

    Then the product is done the other way, as a step under way cannot raise an error.
    """
    where, held = allocated(size * like.itemsize)
    return vector(where, size, like.dtype), held


@_inlined
def _plain_and_turned(rows, units, n, lanes):
    """The work of both ways by tiles, in multiply-adds for a term."""
    wide, high = units + -units % lanes, rows + -rows % lanes
    return (rows + TURNED) * wide, (units + TURNED) * high + TURNED_BACK * rows * units / n


@_inlined
def _on_one_core(tiles, x, w, z, rows, m, n, units, outputs):
    """By x ωᵀ, for which ω is turned around, by ω xᵀ, for which x and the result are, or by loops.

    What takes the least, in multiply-adds of a tile that is full. Those of loops cost more: on one
    core 10 rows of 784 to 30 took 1.17 and 1.34 times the least time, with AVX2 and AVX-512, 32 of
    128 to 128 1.44 and 1.57, and 1,024 of 64 to 64 1.87 and 1.97. Loops, which add in another
    order, are for all rows and units or for none.
    """
    lanes = BYTES // x.itemsize
    one, zero = x.dtype.type(1.0), x.dtype.type(0.0)
    loops = m * outputs * (1.15 + 60.0 / n)
    if (
        m >= ROWS
        and outputs >= OUTPUTS
        and n >= 24
        and loops < min(*_plain_and_turned(m, outputs, n, lanes))
    ):
        _thin_product(x, w, z, rows, n, units, outputs)
        return
    # Of one thread's part; either way the terms of a sum are added in the same order.
    plain, turned = _plain_and_turned(rows, units, n, lanes)
    # Where rows of ω lie in the same places of the first cache, the second has to hold them.
    apart = n * x.itemsize % (FAR // 2) == 0 and units * min(n, DEPTH) > BLOCK
    found, held = z, 0
    if turned < plain and not apart:
        found, held = _as_many(z, rows * units)
    if held == 0:
        a, b, c = x.ctypes.data, w.ctypes.data, z.ctypes.data
        call(tiles, (rows, units, n, a, n, 1, b, 1, n, c, outputs, one, zero))
    else:
        a, b, c = w.ctypes.data, x.ctypes.data, found.ctypes.data
        call(tiles, (units, rows, n, a, n, 1, b, 1, n, c, rows, one, zero))
        _turn(found, z, rows, units, outputs)
        free(held)


@_inlined
def product(tiles, way, x, w, z, rows, m, inputs, units, outputs):
    """``z ← x wᵀ``, for some rows of m, or some units of a layer of `outputs`.

    `tiles` is the address of `_numba_tiles.compiled`. What several threads do goes by tiles, or by
    loops, whose bits are the same for any part.
    """
    few = rows * inputs * outputs <= MOST_ON_ONE_CORE and outputs >= OUTPUTS
    if m == 1 and way == ALONE:
        _vector_product(x[:inputs], w[: outputs * inputs], z)
    elif few or way != ALONE:
        _on_one_core(tiles, x, w, z, rows, m, inputs, units, outputs)
    elif is_sooner_transposed(rows, inputs, outputs):  # on all cores
        _turned_by_blas(x, w, z, rows, inputs, outputs)
    else:
        one, zero = x.dtype.type(1.0), x.dtype.type(0.0)
        gemm(T, N, outputs, rows, inputs, one, w, inputs, x, inputs, zero, z, outputs)


@_inlined
def product_back(tiles, way, delta, w, below, rows, units, inputs, outputs):
    """``below ← δ w``, for some rows, and some units of the layer below, which has `inputs`."""
    one, zero = delta.dtype.type(1.0), delta.dtype.type(0.0)
    if way != ALONE or MOST_FOR_BLAS < rows * inputs * outputs <= MOST_ON_ONE_CORE:
        a, b, c = delta.ctypes.data, w.ctypes.data, below.ctypes.data
        call(tiles, (rows, units, outputs, a, outputs, 1, b, inputs, 1, c, inputs, one, zero))
    else:
        gemm(N, N, inputs, rows, outputs, one, w, inputs, delta, outputs, zero, below, inputs)


@_inlined
def outer(tiles, way, delta, x, out, rows, inputs, units, outputs, alpha, beta):
    """``out ← β·out + α·δᵀx``, for some units of a layer of `outputs`."""
    if way != ALONE or MOST_FOR_BLAS < rows * inputs * outputs <= MOST_ON_ONE_CORE:
        a, b, c = delta.ctypes.data, x.ctypes.data, out.ctypes.data
        call(tiles, (units, inputs, rows, a, 1, outputs, b, inputs, 1, c, inputs, alpha, beta))
    else:
        gemm(N, T, inputs, units, rows, alpha, x, inputs, delta, outputs, beta, out, inputs)


def affine(real: Any) -> Any:
    """``z ← x wᵀ + b`` on one core, of matrices of this dtype.

    A function of the address of tiles, and of x (m, n), w (k, n), b and z (m, k).
    """
    kind = from_dtype(real)

    def run(tiles, x, w, b, z):
        x, w, b, z = array(x, 2, kind), array(w, 2, kind), array(b, 1, kind), array(z, 2, kind)
        rows, outputs = z.shape
        found = flat(z, kind)
        x, w, inputs = flat(x, kind), flat(w, kind), x.shape[1]
        _on_one_core(tiles, x, w, found, rows, rows, inputs, outputs, outputs)
        for r in range(rows):
            for j in range(outputs):
                found[r * outputs + j] += b[j]

    return called_by_address(types.void, INTEGER, *[ARRAY] * 4, fastmath=FLAGS)(run)
