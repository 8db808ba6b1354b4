"""Randomness as a pure function of a key and a position.

A mask or an augmentation depends on the key, the layer, the step, the row in the global batch and
the element in that row, and on nothing else: it is the same on every backend, for any number of
ranks, slices or accumulation steps.

The mixer is the finalizer of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom
number generators*, OOPSLA 2014, as tuned by Stafford, variant 13). The array API has no shift of
unsigned integers on every library, so it works in int64: products wrap, and a right shift is
followed by a mask that clears the copies of the sign.
"""

from __future__ import annotations

import math
from typing import Any

Array = Any  # of any standard namespace: no static type covers them all

GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ divided by the golden ratio, odd
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
_64 = (1 << 64) - 1
BITS = 53  # a uniform draw has this many bits


def signed(value: int) -> int:
    """The int64 with the bits of `value` modulo 2⁶⁴."""
    value &= _64
    return value - (1 << 64) if value >> 63 else value


def mix(value: int) -> int:
    """SplitMix64's finalizer of one integer, 0 ≤ result < 2⁶⁴.

    >>> from bpx.random import mix
    >>> hex(mix(0x9E3779B97F4A7C15))    # the first output of SplitMix64 from seed 0
    '0xe220a8397b1dcdaf'
    """
    value &= _64
    value = (value ^ (value >> 30)) * MIX_1 & _64
    value = (value ^ (value >> 27)) * MIX_2 & _64
    return value ^ (value >> 31)


def _shift(value: Array, bits: int) -> Array:
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Array) -> Array:
    """`mix` of each element of an int64 array (never 0-d: NumPy warns when a scalar wraps)."""
    value = (value ^ _shift(value, 30)) * signed(MIX_1)
    value = (value ^ _shift(value, 27)) * signed(MIX_2)
    return value ^ _shift(value, 31)


def of_layer(key: int, layer: int) -> int:
    """What the streams of a layer's steps begin from, 64 bits."""
    return mix(mix(key + GOLDEN) + layer + GOLDEN)


def of_step(key: int, layer: int, step: int) -> int:
    """What the rows of a layer's step begin from, 64 bits."""
    return mix(of_layer(key, layer) + step + GOLDEN)


def bits(
    xp: Any, key: int, layer: int, step: int, row: int, shape: tuple[int, ...], device: Any = None
) -> Array:
    """53 random bits for each element of a batch.

    Parameters
    ----------
    xp : namespace
        Of the array API standard, with int64.
    key : int
        The network's 64-bit key.
    layer, step : int
        Where in the network and in the training.
    row : int
        The first row's index in the global batch.
    shape : tuple of int
        Of the batch, (m, ...); m ≥ 1.

    Returns
    -------
    array of int64, `shape`
        Uniform on 0 … 2⁵³ − 1; row i depends on ``row + i``, never on m.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.random import bits
    >>> bits(np, key=1, layer=2, step=3, row=4, shape=(2, 2)).tolist()
    [[6603409388887923, 2011489540727371], [2113171450290332, 1990693172551442]]
    """
    rows = xp.arange(row + 1, row + 1 + shape[0], dtype=xp.int64, device=device)
    columns = xp.arange(1, math.prod(shape[1:]) + 1, dtype=xp.int64, device=device)
    by_row = _mix(rows * signed(GOLDEN) + signed(of_step(key, layer, step)))
    every = _mix(by_row[:, None] + (columns * signed(GOLDEN))[None, :])
    return xp.reshape(_shift(every, 64 - BITS), shape)


def threshold(probability: float) -> int:
    """The integer below which 53 random bits fall with this probability."""
    return round(probability * (1 << BITS))


def uniform(xp: Any, bits: Array, dtype: Any) -> Array:
    """Random bits as numbers from 0 to 1, rounded to a floating dtype: the same everywhere."""
    return xp.astype(bits, dtype) * 2.0**-BITS


def normal(xp: Any, bits: Array, dtype: Any) -> Array:
    """Random bits as normal numbers of mean 0 and standard deviation 1, by Box and Muller.

    26 bits are the radius and 27 the angle: no number is beyond 6.01. Libraries differ in the
    rounding of their logarithms and cosines.

    >>> import numpy as np
    >>> from bpx.random import bits, normal
    >>> normal(np, bits(np, 1, 2, 3, 4, (1, 3)), np.float64).round(6).tolist()
    [[0.526238, 1.621915, 1.018329]]
    """
    radius = (xp.astype(bits >> 27, dtype) + 1.0) * 2.0**-26  # never 0
    angle = xp.astype(bits & ((1 << 27) - 1), dtype) * (2.0**-27 * 2.0 * math.pi)
    return xp.sqrt(-2.0 * xp.log(radius)) * xp.cos(angle)
