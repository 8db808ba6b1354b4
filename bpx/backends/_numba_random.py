"""Random masks by a compiled loop, to the bit those of `bpx.random`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from .. import random
from ._jit import ARRAY, INTEGER, array, called_by_address, inlined

_GOLDEN, _MIX_1, _MIX_2 = map(np.uint64, (random.GOLDEN, random.MIX_1, random.MIX_2))
_30, _27, _31, _UNUSED = map(np.uint64, (30, 27, 31, 64 - random.BITS))


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
