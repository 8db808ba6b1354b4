"""Optimizers in one pass over θ, as in bpx/optimizers.py: in a compiled run, or by themselves.

A pass reads θ, the gradient and the slots once, and writes θ and the slots.
"""

from __future__ import annotations

import math
from typing import Any

from numba import from_dtype, types

from ._aligned import LINE
from ._codes import ADAM, INTO_VELOCITY, MOMENTUM, NESTEROV, RMSPROP, SGD
from ._jit import ARRAY, INTEGER, array, called_by_address, inlined, prefetch

# Elements of θ that are asked for, to be written to, while those before them are updated: where
# another core has read them, a write waits for it, and one after another that took 16 ns a line.
ASKED = 1024


@inlined()  # or of c·m − η·g another product is rounded in a part that begins elsewhere
def _update(rule, theta, into, first, second, decayed, scalars, constants):
    """From the velocity or the gradient in `into` to θ, of weights that decay or of biases."""
    real = theta.dtype.type
    n0, n1, n2, n3 = real(scalars[0]), real(scalars[1]), real(scalars[2]), real(scalars[3])
    factor = real(scalars[4])
    c0, c1 = real(constants[0]), real(constants[1])
    # Subtracted in double precision: in single, 1 − 0.999 is off by 1e-5 of itself.
    d0, d1 = real(1.0 - constants[0]), real(1.0 - constants[1])
    if decayed and n3 != 0.0:  # the gradient of λ/2n Σω², or the velocity's share of it
        for i in range(into.size):
            into[i] += n3 * theta[i]
    if factor != 1.0:
        for i in range(into.size):
            into[i] *= factor
    if rule == INTO_VELOCITY:
        for i in range(into.size):
            theta[i] += into[i]
    elif rule == SGD:
        for i in range(into.size):
            theta[i] -= n0 * into[i]
    elif rule in (NESTEROV, MOMENTUM):
        c, n = (c0, n0) if rule == NESTEROV else (real(1.0), real(0.0))
        for i in range(into.size):
            first[i] = c0 * first[i] - n0 * into[i]
            theta[i] += c * first[i] - n * into[i]
    elif rule == RMSPROP:
        for i in range(into.size):
            first[i] = c0 * first[i] + d0 * into[i] * into[i]
            theta[i] -= n0 * into[i] / (math.sqrt(first[i]) + c1)
    elif rule == ADAM:
        if decayed and n2 != 0.0:  # AdamW's decay
            for i in range(into.size):
                theta[i] -= n2 * theta[i]
        for i in range(into.size):
            first[i] = c0 * first[i] + d0 * into[i]
            second[i] = c1 * second[i] + d1 * into[i] * into[i]
            theta[i] -= n0 * first[i] / (math.sqrt(second[i]) + n1)


@inlined()
def update(rule, vectors, start, end, decayed, scalars, constants):
    """`_update` of elements `start` to `end` of θ, the gradient and the two slots."""
    theta, into, first, second = vectors
    size = theta.itemsize
    for low in range(start, end, ASKED):
        high = min(low + ASKED, end)
        for later in range(high, min(high + ASKED, end), LINE // size):
            prefetch(theta.ctypes.data + later * size, 1, 3)
        _update(rule, theta[low:high], into[low:high], first[low:high], second[low:high],
                decayed, scalars, constants)  # fmt: skip


def optimize(real: Any) -> Any:
    """A step of one rule on a part of θ, of whose elements the first so many decay.

    A function of the rule's number and that of elements; of θ, the gradient and two slots, any
    vectors where the rule has fewer; and of the step's scalars and the constants, five and two.
    """
    kind, wide = from_dtype(real), types.float64

    def run(rule, decayed, theta, grad, first, second, scalars, constants):
        theta, grad = array(theta, 1, kind), array(grad, 1, kind)
        vectors = theta, grad, array(first, 1, kind), array(second, 1, kind)
        scalars, constants = array(scalars, 1, wide), array(constants, 1, wide)
        last = min(decayed, theta.size)
        for start, end in ((0, last), (last, theta.size)):
            update(rule, vectors, start, end, start < last, scalars, constants)

    return called_by_address(types.void, INTEGER, INTEGER, *[ARRAY] * 6)(run)
