"""Activations element by element in compiled loops, of arithmetic that vectorizes.

Of each z a function below has σ(z) and σ'(z), from the same exponential; a loop that wants one of
them leaves the other out. Without "reassoc": sums with large numbers round here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic, overload

from ._codes import ELU, EXP, GELU, LEAKY_RELU, SILU, SOFTPLUS
from ._jit import ARRAY, BY_ELEMENT, INLINED, INTEGER, array, called_by_address, inlined, vector

_inlined = inlined(*BY_ELEMENT)


# --- exponentials -------------------------------------------------------------------------------


@intrinsic
def _scaled(typing_context, p, whole, zero):
    """p·2ⁿ, where `whole` is n added to `zero`, beside which the last digit is 1.

    By the bits of exponents, in two steps: 2ⁿ alone may be too large, or too small.
    """
    bits, digits, bias = {32: (32, 23, 127), 64: (64, 52, 1023)}[p.bitwidth]

    def generate(context, builder, signature, arguments):
        word, real = ir.IntType(bits), context.get_value_type(p)
        value, *ends = arguments
        n = builder.sub(*(builder.bitcast(end, word) for end in ends))
        half = builder.ashr(n, word(1))
        for part in half, builder.sub(n, half):
            exponent = builder.shl(builder.add(part, word(bias)), word(digits))
            value = builder.fmul(value, builder.bitcast(exponent, real))
        return value

    return p(p, p, p), generate


def _reduced(x):
    """e^r − 1, of x = n ln 2 + r, and what `_scaled` takes for n."""


@overload(_reduced, jit_options=INLINED | {"fastmath": {*BY_ELEMENT}})
def _reduced_by_dtype(x):
    if x == types.float32:
        # Cephes' polynomial (expf.c, S. Moshier): e^x is within 2e-7 of itself.
        f = np.float32
        low, high, zero = f(-104.0), f(89.0), f(1.5 * 2**23)
        per_ln2, ln2, rest = f(1.44269504088896341), f(0.693359375), f(-2.12194440e-4)
        p2, p3, p4 = f(5.0000001201e-1), f(1.6666665459e-1), f(4.1665795894e-2)
        p5, p6, p7 = f(8.3334519073e-3), f(1.3981999507e-3), f(1.9875691500e-4)

        def single(x):
            x = low if x < low else high if x > high else x  # NaN stays NaN
            whole = x * per_ln2 + zero
            n = whole - zero
            r = (x - n * ln2) - n * rest
            q = (((((p7 * r + p6) * r + p5) * r + p4) * r + p3) * r + p2) * r * r + r
            return q, whole, zero

        return single

    bottom, top, none = -746.0, 710.0, 1.5 * 2**52
    rate, upper, lower = 1.44269504088896341, 6.93145751953125e-1, 1.42860682030941723212e-6
    # Taylor's, whose next term is below 5e-18.
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = (
        1.0 / math.factorial(k) for k in range(2, 14)
    )

    def double(x):
        x = bottom if x < bottom else top if x > top else x
        whole = x * rate + none
        n = whole - none
        r = (x - n * upper) - n * lower
        q = ((((c13 * r + c12) * r + c11) * r + c10) * r + c9) * r + c8
        q = (((((q * r + c7) * r + c6) * r + c5) * r + c4) * r + c3) * r + c2
        return q * r * r + r, whole, none

    return double


@_inlined
def exponential(x):
    q, whole, zero = _reduced(x)
    return _scaled(q + type(x)(1.0), whole, zero)


@_inlined
def _less_one(x):
    """e^x − 1, up to x = 0: to the last digits of small ones too."""
    one, least = type(x)(1.0), type(x)(-50.0)  # where 2ⁿ is not rounded
    q, whole, zero = _reduced(least if x < least else x)
    power = _scaled(one, whole, zero)
    return q * power + (power - one)


@_inlined
def sigmoid(z):
    """Right relative to itself; e⁻ᶻ may be infinite."""
    one = type(z)(1.0)
    return one / (one + exponential(-z))


@_inlined
def _shares(z):
    """The same, and what it is less than 1, as right as itself."""
    one, zero = type(z)(1.0), type(z)(0.0)
    e = exponential(-abs(z))
    large = one / (one + e)
    small = e * large
    return (small, large) if z < zero else (large, small)


@_inlined
def tanh(z):
    """Right relative to itself, and what it is less than 1 too."""
    two, zero = type(z)(2.0), type(z)(0.0)
    e = _less_one(-two * abs(z))
    t = (zero - e) / (two + e)
    return -t if z < zero else t


@_inlined
def log1p(x):
    """ln(1 + x), of x from 0 to 1: 2 artanh u, whose next term is below 1e-17 of it."""
    real = type(x)
    is_large = x > real(0.41421356)  # then it is ln 2 + ln ½(1 + x)
    above = x - real(1.0) if is_large else x
    u = above / (above + (real(4.0) if is_large else real(2.0)))
    s = u * u
    total = real(2 / 21) * s + real(2 / 19)
    total = (total * s + real(2 / 17)) * s + real(2 / 15)
    total = (total * s + real(2 / 13)) * s + real(2 / 11)
    total = (total * s + real(2 / 9)) * s + real(2 / 7)
    total = (total * s + real(2 / 5)) * s + real(2 / 3)
    total = (total * s + real(2.0)) * u
    return total + real(math.log(2.0)) if is_large else total


# --- σ(z) and σ'(z), which may have a number of their own ---------------------------------------


@_inlined
def _leaky_relu(z, slope):
    one, zero = type(z)(1.0), type(z)(0.0)
    return (z, one) if z > zero else (slope * z, slope)


@_inlined
def _elu(z, alpha):
    one, zero = type(z)(1.0), type(z)(0.0)
    below = alpha * _less_one(zero if z > zero else z)
    return (z, one) if z > zero else (below, below + alpha)


@_inlined
def _softplus(z, number):
    zero = type(z)(0.0)
    more = log1p(exponential(-abs(z)))
    return (zero if z < zero else z) + more, sigmoid(z)


@_inlined
def _exp(z, number):
    e = exponential(z)
    return e, e


@_inlined
def _gelu(z, number):
    real = type(z)
    one, cube, scale = real(1.0), real(0.044715), real(2.0 * math.sqrt(2.0 / math.pi))
    share, rest = _shares(scale * z * (one + cube * z * z))
    # As in `activations.GELU`, of which `share` is ½ (1 + t).
    bent = share * rest * scale * z
    return z * share, share + (bent + real(3.0) * cube * bent * z * z)


@_inlined
def _silu(z, number):
    share, rest = _shares(z)
    a = z * share
    return a, share + a * rest


# --- loops --------------------------------------------------------------------------------------


@_inlined
def _in_place(sigma, number, z, out):
    for j in range(z.size):
        z[j] = sigma(z[j], number)[0]


@_inlined
def _beside(sigma, number, z, out):
    for j in range(z.size):
        out[j] = sigma(z[j], number)[0]


@_inlined
def _with_slopes(sigma, number, z, slopes):
    for j in range(z.size):
        z[j], slopes[j] = sigma(z[j], number)


@_inlined
def _backward(sigma, number, z, delta):
    for j in range(z.size):
        delta[j] *= sigma(z[j], number)[1]


@_inlined
def _loop(loop, code, number, z, other):
    """One of these, of the activation with this code."""
    if code == LEAKY_RELU:
        loop(_leaky_relu, number, z, other)
    elif code == ELU:
        loop(_elu, number, z, other)
    elif code == SOFTPLUS:
        loop(_softplus, number, z, other)
    elif code == EXP:
        loop(_exp, number, z, other)
    elif code == GELU:
        loop(_gelu, number, z, other)
    elif code == SILU:
        loop(_silu, number, z, other)


def with_slopes(real: Any) -> Any:
    """``z ← σ(z)`` and ``slopes ← σ'(z)``, of `units` elements of some rows of n.

    A function of the code and the number of σ, of the addresses of z and of slopes, 0 where none
    are wanted, and of the rows, the units and n.
    """
    kind, size = from_dtype(real), real.itemsize

    def run(code, number, z, slopes, rows, units, n):
        number, dense = kind(number), units == n
        count = rows * units if dense else units
        for r in range(1 if dense else rows):
            skipped = r * n * size
            row, into = vector(z + skipped, count, kind), vector(slopes + skipped, count, kind)
            if slopes:
                _loop(_with_slopes, code, number, row, into)
            else:
                _loop(_in_place, code, number, row, row)

    arguments = INTEGER, types.float64, *[INTEGER] * 5
    return called_by_address(types.void, *arguments, fastmath=BY_ELEMENT)(run)


def activate(real: Any) -> Any:
    """``out ← σ(z)``: a function of the code and the number of σ, and of two vectors."""
    kind = from_dtype(real)

    def run(code, number, z, out):
        number, z, out = kind(number), array(z, 1, kind), array(out, 1, kind)
        if z.ctypes.data == out.ctypes.data:  # by itself, see `_numba_channels.relu`
            _loop(_in_place, code, number, z, z)
        else:
            _loop(_beside, code, number, z, out)

    return called_by_address(
        types.void, INTEGER, types.float64, ARRAY, ARRAY, fastmath=BY_ELEMENT
    )(run)


def activate_backward(real: Any) -> Any:
    """``delta ← δ ⊙ σ'``: a function of the code and the number of σ, and of δ, z and a.

    Where σ' follows from a, that may have overwritten z.
    """
    kind = from_dtype(real)
    one, zero = kind(1.0), kind(0.0)

    def run(code, number, delta, z, a):
        number, delta = kind(number), array(delta, 1, kind)
        z, a = array(z, 1, kind), array(a, 1, kind)
        if code == ELU:
            for j in range(a.size):
                delta[j] *= one if a[j] > zero else a[j] + number
        elif code == EXP:
            for j in range(a.size):
                delta[j] *= a[j]
        else:
            _loop(_backward, code, number, z, delta)

    arguments = INTEGER, types.float64, *[ARRAY] * 3
    return called_by_address(types.void, *arguments, fastmath=BY_ELEMENT)(run)
