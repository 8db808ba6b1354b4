"""Dense layers in compiled loops: activations, the forward pass, and predictions.

Matrix products go by tiles or by NumPy's BLAS (`_numba_products`); everything else is a loop that
the compiler vectorizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic, overload

from ._codes import IDENTITY, LEAKY_RELU, PROBABILITY, RELU, SIGMOID, SOFTMAX, TANH
from ._fast_run import LAYERS, ROWS_OF_BLOCK
from ._jit import (
    ARRAY,
    FLAGS,
    INLINED,
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
from ._numba_products import ALONE, BY_ROWS, product

_inlined = inlined(*FLAGS)

SMALL_ROWS = 1024  # elements that are worked on at once: rows of a narrow layer are taken together


# --- activations --------------------------------------------------------------------------------


def _tanh(z):
    """``z ← tanh z``."""


@overload(_tanh)
def _tanh_by_dtype(z):
    if z.dtype != types.float32:

        def scalar(z):
            for i in range(z.size):
                z[i] = math.tanh(z[i])

        return scalar

    # Eigen's rational approximation (generic_fast_tanh_float): within 3e-7, and all of it
    # arithmetic that vectorizes. Beyond ±7.9 tanh is ±1 in float32.
    f = np.float32
    p1, p3, p5 = f(4.89352455891786e-3), f(6.37261928875436e-4), f(1.48572235717979e-5)
    p7, p9, p11 = f(5.12229709037114e-8), f(-8.60467152213735e-11), f(2.00018790482477e-13)
    p13 = f(-2.76076847742355e-16)
    q0, q2 = f(4.89352518554385e-3), f(2.26843463243900e-3)
    q4, q6 = f(1.18534705686654e-4), f(1.19825839466702e-6)
    low, high = f(-7.90531110763549805), f(7.90531110763549805)

    def rational(z):
        for i in range(z.size):
            x = z[i]
            x = low if x < low else high if x > high else x  # NaN stays NaN
            s = x * x
            p = ((((((p13 * s + p11) * s + p9) * s + p7) * s + p5) * s + p3) * s + p1) * x
            q = ((q6 * s + q4) * s + q2) * s + q0
            z[i] = p / q

    return rational


@intrinsic
def _whole(typing_context, x):
    """A float32 without its fraction."""

    def generate(context, builder, signature, arguments):
        return builder.sitofp(builder.fptosi(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _two_to(typing_context, n):
    """2ⁿ as a float32, for a whole n from −126 to 127: the bits of its exponent."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        exponent = builder.add(builder.fptosi(arguments[0], word), word(127))
        return builder.bitcast(builder.shl(exponent, word(23)), ir.FloatType())

    return types.float32(types.float32), generate


def _probability(z):
    """``z ← σ(z)``, whose small values are right relative to themselves.

    Those of ½ tanh(½ z) + ½ are not: of the function above they end at 1.2e-7.
    """


@overload(_probability, jit_options=INLINED | {"fastmath": {*FLAGS}})
def _probability_by_dtype(z):
    if z.dtype != types.float32:

        def scalar(z):
            for i in range(z.size):
                e = math.exp(-abs(z[i]))
                z[i] = (e if z[i] < 0.0 else 1.0) / (1.0 + e)

        return scalar

    # e^x = 2ⁿ e^r, where n is the nearest whole number to x / ln 2, and e^r a polynomial of Cephes
    # (expf.c, S. Moshier): within 2e-7 of itself, and all of it arithmetic that vectorizes.
    f = np.float32
    zero, half, one, lowest = f(0.0), f(0.5), f(1.0), f(-87.3)
    per_ln2, ln2, rest = f(1.44269504088896341), f(0.693359375), f(-2.12194440e-4)
    p2, p3, p4 = f(5.0000001201e-1), f(1.6666665459e-1), f(4.1665795894e-2)
    p5, p6, p7 = f(8.3334519073e-3), f(1.3981999507e-3), f(1.9875691500e-4)

    def polynomial(z):
        for i in range(z.size):
            x = -abs(z[i])
            n = _whole((x if x > lowest else lowest) * per_ln2 - half)  # of a NaN too
            r = (x - n * ln2) - n * rest
            e = (((((p7 * r + p6) * r + p5) * r + p4) * r + p3) * r + p2) * r * r + r + one
            e *= _two_to(n)
            e = zero if x < lowest else e
            z[i] = (e if z[i] < zero else one) / (one + e)

    return polynomial


@_inlined
def activate(code, z, rows, n):
    """``z ← σ(z)``, rows of n, of those whose σ' follows from a."""
    half, zero = z.dtype.type(0.5), z.dtype.type(0.0)
    if code == SIGMOID:
        for i in range(z.size):
            z[i] *= half
        _tanh(z)
        for i in range(z.size):
            z[i] = half * z[i] + half
    elif code == TANH:
        _tanh(z)
    elif code == RELU:
        for i in range(z.size):
            z[i] = zero if z[i] < zero else z[i]
    elif code == SOFTMAX:
        for r in range(rows):
            row = z[r * n : (r + 1) * n]
            largest, total = row[0], zero
            for j in range(n):
                largest = row[j] if row[j] > largest else largest
            for j in range(n):
                row[j] = math.exp(row[j] - largest)
                total += row[j]
            for j in range(n):
                row[j] /= total


@_inlined
def activate_backward(code, delta, a, rows, n):
    """``delta ← delta ⊙ σ'``, from a = σ(z)."""
    one, zero = a.dtype.type(1.0), a.dtype.type(0.0)
    if code == SIGMOID:
        for i in range(a.size):
            delta[i] *= a[i] * (one - a[i])
    elif code == TANH:
        for i in range(a.size):
            delta[i] *= one - a[i] * a[i]
    elif code == RELU:
        for i in range(a.size):
            # A product, as in the standard: what is not finite above stays so.
            delta[i] *= one if a[i] > zero else zero
    elif code == SOFTMAX:
        for r in range(rows):
            total = zero
            for j in range(r * n, (r + 1) * n):
                total += delta[j] * a[j]
            for j in range(r * n, (r + 1) * n):
                delta[j] = a[j] * (delta[j] - total)


# --- forward ------------------------------------------------------------------------------------


@_inlined
def layer(tiles, way, code, x, w, bias, z, rows, m, inputs, units, outputs):
    """``z ← σ(x ωᵀ + b)``: rows of m, and units of a layer of `outputs`, as `product` has them."""
    product(tiles, way, x, w, z, rows, m, inputs, units, outputs)
    _finish(code, bias, z, rows, units, outputs)


@_inlined
def _finish(code, bias, z, rows, units, outputs):
    """``z ← σ(z + b)``."""
    if code == RELU and bias.size:
        # In one loop, which the compiler vectorizes: 3.6 µs for 200 × 100, where the two take 13
        # (where ReLU alone leaves a value as it is, nothing is stored, and that is a branch).
        zero = z.dtype.type(0.0)
        for r in range(rows):
            for j in range(units):
                value = z[r * outputs + j] + bias[j]
                z[r * outputs + j] = zero if value < zero else value
        return
    step = max(1, SMALL_ROWS // outputs) if units == outputs else 1
    for first in range(0, rows, step):
        last = min(first + step, rows)
        if bias.size:
            for r in range(first, last):
                for j in range(units):
                    z[r * outputs + j] += bias[j]
        some = z[first * outputs : first * outputs + (last - first) * units]
        activate(code, some, last - first, units)


def forward(real: Any) -> Any:
    """A function of a `LAYERS`, of x (m, n_0) of this dtype, and of a^L (m, n_L).

    Its result is 1 only if all of x ωᵀ in the first layer is finite, as it never is where x is
    not; 0 may also come of numbers that are too large to be added up.
    """
    kind, word, record = from_dtype(real), types.int64, from_dtype(LAYERS)
    zero = kind(0.0)

    def run(told, x, out):
        given = array(told, 1, record)[0]
        x, out = array(x, 2, kind), array(out, 2, kind)
        (m, n), k, layers = x.shape, out.shape[1], given.layers
        blocks = max(1, -(-m // ROWS_OF_BLOCK)) if given.many else 1
        way, most = BY_ROWS if given.many else ALONE, max(1, -(-m // blocks))
        half = most * given.widest
        theta = vector(given.theta, given.size, kind)
        net = vector(given.net, (5, layers), word)
        numbers = vector(given.numbers, layers, types.float64)
        where, held = allocated(2 * half * theta.itemsize)
        room, x, out = vector(where, 2 * half, kind), flat(x, kind), flat(out, kind)
        nan_if_any = zero
        for top in range(0, m, most):
            rows = min(most, m - top)
            a, last = x[top * n :], out[top * k : (top + rows) * k]
            for i in range(layers):
                inputs, outputs, first, b = net[0, i], net[1, i], i % 2 * half, net[3, i]
                z = last if i == layers - 1 else room[first : first + rows * outputs]
                w, bias = theta[net[2, i] :], theta[b : b + outputs] if b >= 0 else theta[:0]
                product(given.tiles, way, a, w, z, rows, rows, inputs, outputs, outputs)
                if i == 0:
                    for j in range(z.size):
                        nan_if_any += z[j] * zero
                of_outputs = net[4, i] == PROBABILITY
                code = IDENTITY if of_outputs else net[4, i]
                _finish(code, bias, z, rows, outputs, outputs)
                if of_outputs:
                    _probability(z)
                elif code >= LEAKY_RELU:
                    call(given.curve, (code, numbers[i], z.ctypes.data, 0, rows, outputs, outputs))
                a = z
        free(held)
        return nan_if_any == zero

    return called_by_address(INTEGER, ARRAY, ARRAY, ARRAY, fastmath=FLAGS)(run)
