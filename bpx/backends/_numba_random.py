"""Random masks by a compiled loop, to the bit those of `bpx.random`."""

from __future__ import annotations

import numpy as np

from .. import random
from ._jit import decorators

_kernel, _inlined = decorators()

_GOLDEN, _MIX_1, _MIX_2 = map(np.uint64, (random.GOLDEN, random.MIX_1, random.MIX_2))
_30, _27, _31, _UNUSED = map(np.uint64, (30, 27, 31, 64 - random.BITS))


@_inlined
def _mix(value):
    """`bpx.random.mix`; products wrap."""
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)


@_kernel
def keep(step, row, limit, out):
    """As `Kernels.keep` into (m, n), by what the step's rows begin from and the `threshold`."""
    for i in range(out.shape[0]):
        begin = _mix(step + np.uint64(row + 1 + i) * _GOLDEN)
        for j in range(out.shape[1]):
            out[i, j] = _mix(begin + np.uint64(j + 1) * _GOLDEN) >> _UNUSED < limit
