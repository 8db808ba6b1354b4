"""Convolutions of stride 1 by compiled loops over rows, without patches: see `_rows.RowLayout`.

Four channels and three taps at once: twelve vectors are multiplied and added for seven that are
loaded and four stored, all in the first cache.
"""

from __future__ import annotations

import numpy as np

from ._jit import decorators
from ._rows import CHANNELS, LANES, TAPS, TILE

_kernel, _inlined = decorators("contract", "reassoc")  # a sum may run in several lanes


@_inlined
def _into_rows(images, start, line, channel, rows):
    """Images (m, c, h, w) into a row for each channel, a pixel of all of them after the other."""
    m, c, h, w = images.shape
    for k in range(c):
        for y in range(h):
            into = rows[k * channel + (y * line + start) * m :]
            if m == 1:  # in vectors
                for x in range(w):
                    into[x] = images[0, k, y, x]
                continue
            for i in range(m):
                source = images[i, k, y]
                for x in range(w):
                    into[x * m + i] = source[x]


@_inlined
def _out_of_rows(rows, start, line, channel, images):
    m, c, h, w = images.shape
    for k in range(c):
        for y in range(h):
            source = rows[k * channel + (y * line + start) * m :]
            if m == 1:
                for x in range(w):
                    images[0, k, y, x] = source[x]
                continue
            for i in range(m):
                into = images[i, k, y]
                for x in range(w):
                    into[x] = source[x * m + i]


@_inlined
def _taps(channels, channel, shifts):
    """In all channels' rows; the last again, up to a multiple of `TAPS`."""
    count = channels * shifts.size
    out = np.empty(count + -count % TAPS, np.int64)
    for k in range(channels):
        out[k * shifts.size : (k + 1) * shifts.size] = k * channel + shifts
    out[count:] = out[count - 1]
    return out


@_inlined
def _laid_out(images, into, shifts, numbers):
    """The images' rows, and the taps of a group of so many channels in them."""
    start, line, pixels, _, _ = numbers
    b, channels = images.shape[0], images.shape[1]
    channel = pixels * b
    rows = np.zeros(channels * channel + LANES, images.dtype)
    _into_rows(images, start, line, channel, rows)
    return rows, _taps(into, channel, shifts * b)


@_inlined
def _add_products(rows, taps, weights, out, channel, at, length):
    """In each channel's row ``out[at + j] += Σ_k weights[channel, k] rows[taps[k] + j]``."""
    for first in range(0, length, TILE):
        n = min(TILE, length - first)
        for o in range(0, weights.shape[0], CHANNELS):
            begin = o * channel + at + first
            z0, z1 = out[begin:], out[begin + channel :]
            z2, z3 = out[begin + 2 * channel :], out[begin + 3 * channel :]
            w0, w1, w2, w3 = weights[o], weights[o + 1], weights[o + 2], weights[o + 3]
            for k in range(0, weights.shape[1], TAPS):
                x0, x1 = rows[taps[k] + first :], rows[taps[k + 1] + first :]
                x2 = rows[taps[k + 2] + first :]
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


@_inlined
def _sum_products(rows, taps, deltas, channel, out, length):
    """``out[o, k] += Σ_j deltas[o · channel + j] rows[taps[k] + j]``."""
    zero = out.dtype.type(0.0)
    for o in range(0, out.shape[0], CHANNELS):
        d0, d1 = deltas[o * channel :], deltas[(o + 1) * channel :]
        d2, d3 = deltas[(o + 2) * channel :], deltas[(o + 3) * channel :]
        for k in range(0, out.shape[1], TAPS):
            x0, x1, x2 = rows[taps[k] :], rows[taps[k + 1] :], rows[taps[k + 2] :]
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
            for i in range(CHANNELS):
                for t in range(TAPS):
                    out[o + i, k + t] += sums[i][t]


@_inlined
def _stretch(lines, columns, line, images):
    """Elements from the first of some lines of the output to the last one, in lanes."""
    n = ((lines - 1) * line + columns) * images
    return n + -n % LANES


@_kernel
def convolve(x, weights, shifts, numbers, out):
    """`Kernels.convolve`, with weights (groups, channels, taps) filled up by zeros."""
    _, line, pixels, lines, most = numbers
    m, channels, height, columns = x.shape[0], x.shape[1], out.shape[2], out.shape[3]
    groups, filled = weights.shape[0], weights.shape[1]
    into, of = channels // groups, out.shape[1] // groups
    for first in range(0, m, most):
        stop = min(first + most, m)
        b = stop - first
        channel, length = pixels * b, _stretch(lines, columns, line, b)
        rows, taps = _laid_out(x[first:stop], into, shifts, numbers)
        sums = np.empty(filled * length, x.dtype)
        for g in range(groups):
            for y in range(0, height, lines):
                sums[:] = 0
                group = rows[g * into * channel + y * line * b :]
                _add_products(group, taps, weights[g], sums, length, 0, length)
                images = out[first:stop, g * of : (g + 1) * of, y : y + lines]
                _out_of_rows(sums, 0, line, length, images)


@_kernel
def convolve_weights(x, delta, shifts, numbers, out):
    """`Kernels.convolve_weights`, added to ``out``, as the weights of `convolve`."""
    _, line, pixels, lines, most = numbers
    m, channels, height, columns = x.shape[0], x.shape[1], delta.shape[2], delta.shape[3]
    groups, filled = out.shape[0], out.shape[1]
    into, of = channels // groups, delta.shape[1] // groups
    for first in range(0, m, most):
        stop = min(first + most, m)
        b = stop - first
        channel, length = pixels * b, _stretch(lines, columns, line, b)
        rows, taps = _laid_out(x[first:stop], into, shifts, numbers)
        deltas = np.zeros(filled * length, x.dtype)
        for g in range(groups):
            for y in range(0, height, lines):
                images = delta[first:stop, g * of : (g + 1) * of, y : y + lines]
                _into_rows(images, 0, line, length, deltas)
                group = rows[g * into * channel + y * line * b :]
                _sum_products(group, taps, deltas, length, out[g], length)


@_kernel
def convolve_inputs(delta, weights, shifts, numbers, out):
    """`Kernels.convolve_inputs`, with weights (groups, elements, c, channels), filled up.

    Each element of the windows adds to where it lies; zeros between the lines of δ add nothing.
    """
    start, line, pixels, lines, most = numbers
    m, channels, height, columns = out.shape[0], out.shape[1], delta.shape[2], delta.shape[3]
    groups, filled = weights.shape[0], weights.shape[2]
    into, of = channels // groups, delta.shape[1] // groups
    for first in range(0, m, most):
        stop = min(first + most, m)
        b = stop - first
        channel, length = pixels * b, _stretch(lines, columns, line, b)
        deltas = np.zeros(of * length, out.dtype)
        taps = _taps(of, length, np.zeros(1, np.int64))
        rows = np.empty(filled * channel + LANES, out.dtype)
        for g in range(groups):
            rows[:] = 0
            for y in range(0, height, lines):
                images = delta[first:stop, g * of : (g + 1) * of, y : y + lines]
                _into_rows(images, 0, line, length, deltas)
                for k in range(shifts.size):
                    at = (y * line + shifts[k]) * b
                    _add_products(deltas, taps, weights[g, k], rows, channel, at, length)
            _out_of_rows(rows, start, line, channel, out[first:stop, g * into : (g + 1) * into])
