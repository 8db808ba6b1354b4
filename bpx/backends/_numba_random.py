"""Random masks by a compiled loop, to the bit those of `bpx.random`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, types

from .. import random
from ._jit import ARRAY, INTEGER, array, called_by_address, inlined, vector

_GOLDEN, _MIX_1, _MIX_2 = map(np.uint64, (random.GOLDEN, random.MIX_1, random.MIX_2))
_30, _27, _31, _UNUSED = map(np.uint64, (30, 27, 31, 64 - random.BITS))
_UNIT = 2.0**-random.BITS


@inlined()
def _mix(value):
    """`bpx.random.mix`; products wrap."""
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)


def keep() -> Any:
    """As `Kernels.keep` into (m, n).

    A function of what the step's rows begin from, of the first row, the `threshold` and `out`.
    """

    def run(step, row, limit, out):
        out, start, most = array(out, 2, types.boolean), np.uint64(step), np.uint64(limit)
        for i in range(out.shape[0]):
            begin = _mix(start + np.uint64(row + 1 + i) * _GOLDEN)
            for j in range(out.shape[1]):
                out[i, j] = _mix(begin + np.uint64(j + 1) * _GOLDEN) >> _UNUSED < most

    return called_by_address(types.void, INTEGER, INTEGER, INTEGER, ARRAY)(run)


def drop(real: Any) -> Any:
    """``out ← x ⊙ mask`` as in `layers.Dropout`, of `units` of the elements of some rows of n.

    A function of what the layer's steps begin from, of the step, of the first row and element, the
    rows, the units, n, the `threshold`, and the addresses of x, the mask and `out`; and whether
    the mask is multiplied with what is at its place.
    """
    kind, size = from_dtype(real), real.itemsize
    zero = kind(0.0)

    def run(stream, step, row, column, rows, units, n, limit, x, mask, out, onto):
        start, most = _mix(np.uint64(stream) + np.uint64(step) + _GOLDEN), np.uint64(limit)
        # 1 − rate is a whole number of these units, so nothing is rounded.
        scale = kind(1.0 / (limit * _UNIT))
        for r in range(rows):
            begin, skipped = _mix(start + np.uint64(row + 1 + r) * _GOLDEN), r * n * size
            source, into = vector(x + skipped, units, kind), vector(out + skipped, units, kind)
            kept = vector(mask + skipped, units, kind)
            for j in range(units):
                bits = _mix(begin + np.uint64(column + 1 + j) * _GOLDEN) >> _UNUSED
                factor = scale if bits < most else zero
                kept[j] = factor * kept[j] if onto else factor
                into[j] = source[j] * factor

    return called_by_address(types.void, *[INTEGER] * 12)(run)
