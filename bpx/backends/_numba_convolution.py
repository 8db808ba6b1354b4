"""Convolutions by compiled loops over rows, see `bpx.backends._flat`.

Four channels and three taps at once: twelve vectors are multiplied and added for seven that are
loaded and four stored, all in the first cache.
"""

from __future__ import annotations

import numpy as np

from ._flat import LANES
from ._jit import jit

_jit = jit("contract", "reassoc")  # a sum may run in several lanes

TILE = 512  # elements of a stretch, of which four stay in the first cache


@_jit
def _in_rows(images, start, line, image, channel, row):
    """Images (rows, c, h, w) into a row for each channel."""
    m, c, h, w = images.shape
    for i in range(m):
        for k in range(c):
            for r in range(h):
                into = row[start + k * channel + i * image + r * line :]
                source = images[i, k, r]
                for j in range(w):
                    into[j] = source[j]


@_jit
def _from_rows(rows, line, image, images):
    """And out of them."""
    m, c, h, w = images.shape
    for i in range(m):
        for k in range(c):
            for r in range(h):
                source = rows[k, i * image + r * line :]
                into = images[i, k, r]
                for j in range(w):
                    into[j] = source[j]


@_jit
def _stretch(images, numbers):
    n = (images - 1) * numbers.image + numbers.target[0] * numbers.line
    return n + -n % LANES


@_jit
def _multiply(row, taps, weights, out, length):
    """``out[o, j] ← Σ_k weights[o, k] row[taps[k] + j]``."""
    for first in range(0, length, TILE):
        n = min(TILE, length - first)
        for o in range(0, weights.shape[0], 4):
            z0, z1 = out[o, first : first + n], out[o + 1, first : first + n]
            z2, z3 = out[o + 2, first : first + n], out[o + 3, first : first + n]
            z0[:], z1[:], z2[:], z3[:] = 0, 0, 0, 0
            w0, w1, w2, w3 = weights[o], weights[o + 1], weights[o + 2], weights[o + 3]
            for k in range(0, weights.shape[1], 3):
                x0, x1 = row[taps[k] + first :], row[taps[k + 1] + first :]
                x2 = row[taps[k + 2] + first :]
                a0, a1, a2 = w0[k], w0[k + 1], w0[k + 2]
                b0, b1, b2 = w1[k], w1[k + 1], w1[k + 2]
                c0, c1, c2 = w2[k], w2[k + 1], w2[k + 2]
                d0, d1, d2 = w3[k], w3[k + 1], w3[k + 2]
                for j in range(n):
                    p, q, r = x0[j], x1[j], x2[j]
                    z0[j] += a0 * p + a1 * q + a2 * r
                    z1[j] += b0 * p + b1 * q + b2 * r
                    z2[j] += c0 * p + c1 * q + c2 * r
                    z3[j] += d0 * p + d1 * q + d2 * r


@_jit
def _sum_products(row, taps, deltas, out, length):
    """``out[o, k] ← out[o, k] + Σ_j deltas[o, j] row[taps[k] + j]``."""
    zero = out.dtype.type(0.0)
    for o in range(0, out.shape[0], 4):
        d0, d1 = deltas[o, :length], deltas[o + 1, :length]
        d2, d3 = deltas[o + 2, :length], deltas[o + 3, :length]
        for k in range(0, out.shape[1], 3):
            x0, x1, x2 = row[taps[k] :], row[taps[k + 1] :], row[taps[k + 2] :]
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = e0 = e1 = e2 = zero
            for j in range(length):
                p, q, r = x0[j], x1[j], x2[j]
                a0 += d0[j] * p
                a1 += d0[j] * q
                a2 += d0[j] * r
                b0 += d1[j] * p
                b1 += d1[j] * q
                b2 += d1[j] * r
                c0 += d2[j] * p
                c1 += d2[j] * q
                c2 += d2[j] * r
                e0 += d3[j] * p
                e1 += d3[j] * q
                e2 += d3[j] * r
            sums = (a0, a1, a2), (b0, b1, b2), (c0, c1, c2), (e0, e1, e2)
            for i in range(4):
                for t in range(3):
                    out[o + i, k + t] += sums[i][t]


@_jit
def convolve(x, weights, taps, numbers, out):
    """``out ← `` what the rows of x, shifted by the taps and weighed, add up to.

    weights (groups, channels, taps), the last two filled up by zeros to multiples of 4 and 3.
    """
    m, channels = x.shape[:2]
    groups = weights.shape[0]
    of, step = out.shape[1] // groups, channels // groups * numbers.channel
    together = min(numbers.together, m)
    row = np.zeros(channels * numbers.channel, x.dtype)
    sums = np.empty((weights.shape[1], _stretch(together, numbers)), x.dtype)
    h, w = numbers.source
    for first in range(0, m, together):
        rows = slice(first, min(first + together, m))
        length = _stretch(rows.stop - first, numbers)
        images = x[rows, :, :h, :w]
        _in_rows(images, numbers.start, numbers.line, numbers.image, numbers.channel, row)
        for g in range(groups):
            _multiply(row[g * step :], taps, weights[g], sums, length)
            images = out[rows, g * of : (g + 1) * of]
            _from_rows(sums, numbers.line, numbers.image, images)


@_jit
def convolve_weights(x, deltas, taps, numbers, out):
    """The gradient of such weights, added to ``out``, which is filled up like them."""
    m, channels = x.shape[:2]
    groups = out.shape[0]
    of, step = deltas.shape[1] // groups, channels // groups * numbers.channel
    together = min(numbers.together, m)
    row = np.zeros(channels * numbers.channel, x.dtype)
    longest = _stretch(together, numbers)
    rows_of_deltas = np.zeros((out.shape[1], longest), x.dtype)
    for first in range(0, m, together):
        rows = slice(first, min(first + together, m))
        if rows.stop - first < together:  # what a fuller row has left there would count
            rows_of_deltas[:] = 0
        length = _stretch(rows.stop - first, numbers)
        _in_rows(x[rows], numbers.start, numbers.line, numbers.image, numbers.channel, row)
        for g in range(groups):
            images = deltas[rows, g * of : (g + 1) * of]
            flat = rows_of_deltas.reshape(-1)
            _in_rows(images, 0, numbers.line, numbers.image, longest, flat)
            _sum_products(row[g * step :], taps, rows_of_deltas, out[g], length)
