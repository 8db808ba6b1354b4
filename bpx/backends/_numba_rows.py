"""Convolutions by compiled loops over rows, without patches: see `_rows.RowLayout`.

A product by tiles reads the rows shifted, and where that would leave most of a vector empty, a
gradient of weights is summed up for four channels and three taps at once.
"""

from __future__ import annotations

from typing import Any

from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._aligned import LINE
from ._jit import (
    ARRAY,
    INTEGER,
    OF_SUMS,
    allocated,
    array,
    called_by_address,
    free,
    inlined,
    vector,
)
from ._numba_tiles import add_shifted, turn
from ._numba_vectors import ONE, WORD, ZERO, Matrix, Vectors
from ._rows import CHANNELS, TAPS

WHOLE = 0, 0, 0  # a plane that is the image
INDEX = types.int64

_inlined = inlined(*OF_SUMS)


def _in_pairs(like, move):
    """Code that moves numbers between pairs of vectors in a line and vectors of half of it."""

    def generate(context, builder, signature, arguments):
        line, count, half, _ = arguments
        v = Vectors(builder, like)
        line, half, lanes = Matrix(line, ONE), Matrix(half, ONE), WORD(v.lanes)
        with cgutils.for_range_slice(builder, ZERO, count, WORD(2 * v.lanes)) as (at, _):
            left = builder.sub(count, at)
            pair = (at, left), (builder.add(at, lanes), builder.sub(left, lanes))
            of_line = [(v.address(line, place), v.first(rest)) for place, rest in pair]
            middle, rest = builder.lshr(at, ONE), builder.lshr(builder.add(left, ONE), ONE)
            move(v, of_line, (v.address(half, middle), v.first(rest)))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), generate


@intrinsic
def take_seconds(typing_context, line, count, half, like):
    """``half[j] ← line[2j]``, of a line of so many elements."""

    def move(v, line, half):
        v.store(v.halves(*(v.load(*each) for each in line)), *half)

    return _in_pairs(like, move)


@intrinsic
def put_seconds(typing_context, line, count, half, like):
    """``line[2j] ← half[j]``, in a line of so many elements."""

    def move(v, line, half):
        for lanes, (place, mask) in zip(v.apart(v.load(*half)), line, strict=True):
            v.store(lanes, place, v.seconds(mask))

    return _in_pairs(like, move)


@_inlined
def _into_rows(images, plane, stride, line, channel, rows):
    """Images (m, c, h, w) into a row for each channel, a pixel of all of them after the other."""
    m, c, h = images.shape[:3]
    (top, left, start), zero = plane, rows.dtype.type(0.0)
    for k in range(c):
        for y in range(top, h, stride[0]):
            into = rows[k * channel + (y // stride[0] * line + start) * m :]
            for i in range(m):
                source = images[i, k, y, left:]
                if m == 1 and stride[1] == 1:  # in vectors
                    for x in range(source.size):
                        into[x] = source[x]
                elif stride[1] == 1:  # by itself: with a stride a layer takes 1.05 times as long
                    for x in range(source.size):
                        into[x * m + i] = source[x]
                elif m == 1 and stride[1] == 2:
                    take_seconds(source.ctypes.data, source.size, into.ctypes.data, zero)
                else:
                    for x in range((source.size + stride[1] - 1) // stride[1]):
                        into[x * m + i] = source[x * stride[1]]


@_inlined
def _out_of_rows(rows, plane, stride, line, channel, images):
    m, c, h = images.shape[:3]
    (top, left, start), zero = plane, rows.dtype.type(0.0)
    for k in range(c):
        for y in range(top, h, stride[0]):
            source = rows[k * channel + (y // stride[0] * line + start) * m :]
            for i in range(m):
                into = images[i, k, y, left:]
                if m == 1 and stride[1] == 1:
                    for x in range(into.size):
                        into[x] = source[x]
                elif stride[1] == 1:
                    for x in range(into.size):
                        into[x] = source[x * m + i]
                elif m == 1 and stride[1] == 2:
                    put_seconds(into.ctypes.data, into.size, source.ctypes.data, zero)
                else:
                    for x in range((into.size + stride[1] - 1) // stride[1]):
                        into[x * stride[1]] = source[x * m + i]


@_inlined
def _of_layout(shifts, planes, numbers):
    """Those of a `RowLayout`, as arrays."""
    return array(shifts, 1, INDEX), array(planes, 2, INDEX), array(numbers, 1, INDEX)


@_inlined
def _room(rows, stretches, taps, kind, size):
    """Room for so many numbers and taps, and what to `free` it by, 0 if there is none.

    An array for each: over parts of one LLVM's loops take 1.2 times as long.
    """
    second = -(-rows * size // LINE) * LINE
    third = second - (-stretches * size // LINE) * LINE
    first, held = allocated(third + taps * 8)
    arrays = vector(first, rows, kind), vector(first + second, stretches, kind)
    return arrays[0], arrays[1], vector(first + third, taps, INDEX), held


@_inlined
def _laid_out(images, into, shifts, planes, numbers, rows, taps):
    """The images' rows, and the taps of a group of so many channels in them.

    The last of them again, up to a multiple of `TAPS`, for `_sum_products`.
    """
    down, right, line, pixels, _, _ = numbers
    b, count = images.shape[0], into * shifts.size
    channel = pixels * b
    rows[:] = 0
    for p in range(len(planes)):
        _into_rows(images, planes[p], (down, right), line, channel, rows)
    for k in range(count):
        taps[k] = k // shifts.size * channel + shifts[k % shifts.size] * b
    taps[count:] = taps[count - 1]


@_inlined
def _add_products(rows, taps, weights, out, channel, at, length, beta):
    """``out[at + j] ← β·out[at + j] + Σ_k weights[channel, k] rows[taps[k] + j]`` by channel."""
    size, (channels, terms) = rows.itemsize, weights.shape
    add_shifted(
        weights.ctypes.data, terms, rows.ctypes.data, taps.ctypes.data, terms,
        out.ctypes.data + at * size, channel, channels, length, rows.dtype.type(1.0), beta, size,
    )  # fmt: skip


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
def _stretch(lines, columns, line):
    """Elements from the first of some lines of the output to the last one."""
    return (lines - 1) * line + columns


def convolve(real: Any) -> Any:
    """As `Kernels.convolve`, with weights (groups, channels, taps).

    A function of x, the weights, `shifts`, `planes` and `numbers` of a `RowLayout`, and `out`. It
    returns 1 where there is no memory for the rows, as the other two do, else 0.
    """
    kind, size = from_dtype(real), real.itemsize

    def run(x, weights, shifts, planes, numbers, out):
        x, weights, out = array(x, 4, kind), array(weights, 3, kind), array(out, 4, kind)
        shifts, planes, numbers = _of_layout(shifts, planes, numbers)
        _, _, line, pixels, lines, most = numbers
        m, channels, height, columns = x.shape[0], x.shape[1], out.shape[2], out.shape[3]
        groups, of = weights.shape[0], weights.shape[1]
        into = channels // groups
        stretch, b = _stretch(lines, columns, line), min(m, most)
        rows, sums, taps, held = _room(
            channels * pixels * b, of * stretch * b, into * shifts.size, kind, size
        )
        if held == 0:
            return 1
        for first in range(0, m, most):
            stop = min(first + most, m)
            b = stop - first
            channel, length = pixels * b, stretch * b
            _laid_out(x[first:stop], into, shifts, planes, numbers, rows, taps)
            for g in range(groups):
                for y in range(0, height, lines):
                    group = rows[g * into * channel + y * line * b :]
                    _add_products(group, taps, weights[g], sums, length, 0, length, kind(0.0))
                    images = out[first:stop, g * of : (g + 1) * of, y : y + lines]
                    _out_of_rows(sums, WHOLE, (1, 1), line, length, images)
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 6, fastmath=OF_SUMS)(run)


def convolve_weights(real: Any) -> Any:
    """As `Kernels.convolve_weights`, added to ``out``, as the weights of `convolve`.

    A function of x and δ, of the same of a layout, and of `out`.
    """
    kind, size = from_dtype(real), real.itemsize

    def run(x, delta, shifts, planes, numbers, out):
        x, delta, out = array(x, 4, kind), array(delta, 4, kind), array(out, 3, kind)
        shifts, planes, numbers = _of_layout(shifts, planes, numbers)
        _, _, line, pixels, lines, most = numbers
        m, channels, height, columns = x.shape[0], x.shape[1], delta.shape[2], delta.shape[3]
        groups, filled = out.shape[0], out.shape[1]
        into, of = channels // groups, delta.shape[1] // groups
        stretch, b = _stretch(lines, columns, line), min(m, most)
        rows, deltas, taps, held = _room(
            channels * pixels * b, filled * stretch * b, out.shape[2], kind, size
        )
        if held == 0:
            return 1
        for first in range(0, m, most):
            stop = min(first + most, m)
            b = stop - first
            channel, length = pixels * b, stretch * b
            _laid_out(x[first:stop], into, shifts, planes, numbers, rows, taps)
            deltas[:] = 0
            for g in range(groups):
                for y in range(0, height, lines):
                    images = delta[first:stop, g * of : (g + 1) * of, y : y + lines]
                    _into_rows(images, WHOLE, (1, 1), line, length, deltas)
                    group = rows[g * into * channel + y * line * b :]
                    _sum_products(group, taps, deltas, length, out[g], length)
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 6, fastmath=OF_SUMS)(run)


def sum_over_windows(real: Any) -> Any:
    """What `convolve_weights` sums up, by tiles, added to ``out`` (groups, channels, *size, c).

    With the channels of a pixel side by side, those under a line of a window are one row of b, and
    δ, as it is, is a. A function of x and δ; of the `windows` of an image with so many channels;
    of zeros for such an image; and of `out`.
    """
    kind, size = from_dtype(real), real.itemsize

    def run(x, delta, shifts, numbers, pixels, out):
        x, delta, out = array(x, 4, kind), array(delta, 4, kind), array(out, 5, kind)
        shifts, numbers = array(shifts, 1, INDEX), array(numbers, 1, INDEX)
        padded = array(pixels, 1, kind).ctypes.data
        top, left, _, line, down, right = numbers
        m, height, width = x.shape[0], x.shape[2], x.shape[3]
        groups, of, tall, wide, into = out.shape
        one, step = kind(1.0), tall * wide * into
        parts, columns = (1, wide * into) if right == 1 else (wide, into)
        for i in range(m):
            for g in range(groups):
                for y in range(height):
                    there = padded + ((top + y) * line + left) * into * size
                    here = x[i, g * into, y].ctypes.data
                    turn(here, height * width, into, width, there, into, size, one)
                for u in range(tall):
                    for v in range(parts):
                        b = padded + (u * down * line + v * right) * into * size
                        add_shifted(
                            delta[i, g * of].ctypes.data, shifts.size, b, shifts.ctypes.data,
                            shifts.size, out[g, 0, u, v].ctypes.data, step, of, columns,
                            one, one, size,
                        )  # fmt: skip

    return called_by_address(types.void, *[ARRAY] * 6, fastmath=OF_SUMS)(run)


def convolve_inputs(real: Any) -> Any:
    """As `Kernels.convolve_inputs`, with weights (groups, elements, c, channels).

    Each element of the windows adds to where it lies; zeros between the lines of δ add nothing.
    Pixels of `out` in no plane are left as they are. A function of δ, the weights, the same of a
    layout as `convolve`, and of `out`.
    """
    kind, size = from_dtype(real), real.itemsize

    def run(delta, weights, shifts, planes, numbers, out):
        delta, weights, out = array(delta, 4, kind), array(weights, 4, kind), array(out, 4, kind)
        shifts, planes, numbers = _of_layout(shifts, planes, numbers)
        down, right, line, pixels, lines, most = numbers
        m, height, columns = out.shape[0], delta.shape[2], delta.shape[3]
        groups, into, of = weights.shape[0], weights.shape[2], weights.shape[3]
        stretch, b = _stretch(lines, columns, line), min(m, most)
        rows, deltas, taps, held = _room(into * pixels * b, of * stretch * b, of, kind, size)
        if held == 0:
            return 1
        for first in range(0, m, most):
            stop = min(first + most, m)
            b = stop - first
            channel, length = pixels * b, stretch * b
            deltas[:] = 0
            for k in range(of):
                taps[k] = length * k
            for g in range(groups):
                rows[:] = 0
                for y in range(0, height, lines):
                    images = delta[first:stop, g * of : (g + 1) * of, y : y + lines]
                    _into_rows(images, WHOLE, (1, 1), line, length, deltas)
                    for k in range(shifts.size):
                        at = (y * line + shifts[k]) * b
                        _add_products(
                            deltas, taps, weights[g, k], rows, channel, at, length, kind(1.0)
                        )
                images = out[first:stop, g * into : (g + 1) * into]
                for p in range(len(planes)):
                    _out_of_rows(rows, planes[p], (down, right), line, channel, images)
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 6, fastmath=OF_SUMS)(run)
