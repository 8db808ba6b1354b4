"""Convolutions of few channels a group by compiled loops over lines, without patches.

An image's channels are put in rows (`_rows.RowLayout`), one image at a time, which stay in the
first cache. A product by tiles (`_numba_rows`) would have tiles of one row, which wait for their
sums, and gaps between the lines of its result. Here four lines of the output are summed up at
once, where they belong.
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
from ._numba_rows import INDEX, put_seconds, take_seconds
from ._numba_vectors import BYTES, ONE, WORD, ZERO, Matrix, Vectors, by_itself

# Lines that are summed up at once; and elements of a window, whose sums are in registers.
LINES, ELEMENTS = (4, 2, 1), (9, 3, 1)

_inlined = inlined(*OF_SUMS)


@intrinsic
def _weigh(typing_context, weights, shifts, terms, rows, line, out, step, lines, width, like):
    """``out[i, j] ← Σ_k weights[k] rows[shifts[k] + i · line + j]`` for lines of such a width."""
    real = like

    def build(builder, weights, shifts, terms, rows, line, out, step, lines, width, like):
        v, weights, rows = Vectors(builder, real), Matrix(weights, ONE), Matrix(rows, line)
        out = Matrix(out, step)

        def some(height, i, j, mask):
            # All from one address, or LLVM has more of them than there are registers.
            tile, sums = (
                range(height),
                [cgutils.alloca_once(builder, v.kind) for _ in range(height)],
            )
            first, there = v.address(rows, i, j), Matrix(v.address(out, i, j), step)
            for total in sums:
                builder.store(v.zero, total)
            with cgutils.for_range(builder, terms) as loop:
                weight, shift = (
                    v.number(v.address(weights, loop.index)),
                    _shift(builder, shifts, loop.index),
                )
                here = Matrix(v.address(Matrix(first, ONE), shift), line)
                for k, total in zip(tile, sums, strict=True):
                    x = v.load(v.address(here, WORD(k)))
                    builder.store(v.multiply_add(weight, x, builder.load(total)), total)
            for k, total in zip(tile, sums, strict=True):
                v.store(builder.load(total), v.address(there, WORD(k)), mask)

        def all_lines(j, mask):
            _in_pieces(builder, lines, LINES, lambda height, i: some(height, i, j, mask))

        _by_vectors(builder, v, width, all_lines)

    return types.void(*[types.intp] * 9, real), by_itself(f"weigh_{real}", build)


@intrinsic
def _add_sums(typing_context, delta, step, shifts, terms, rows, line, out, lines, width, like):
    """``out[k] += Σ_ij delta[i, j] rows[shifts[k] + i · line + j]``, in the lanes of a vector."""
    real = like

    def build(builder, delta, step, shifts, terms, rows, line, out, lines, width, like):
        v, delta, rows = Vectors(builder, real), Matrix(delta, step), Matrix(rows, line)
        out = Matrix(out, WORD(v.lanes))

        def some(elements, first, j, mask):
            places = [builder.add(first, WORD(k)) for k in range(elements)]
            starts = [builder.add(j, _shift(builder, shifts, k)) for k in places]
            sums = [cgutils.alloca_once(builder, v.kind) for _ in places]
            for total in sums:
                builder.store(v.zero, total)
            with cgutils.for_range(builder, lines) as loop:
                d = v.load(v.address(delta, loop.index, j), mask)
                for start, total in zip(starts, sums, strict=True):
                    x = v.load(v.address(rows, loop.index, start), mask)
                    builder.store(v.multiply_add(d, x, builder.load(total)), total)
            for k, total in zip(places, sums, strict=True):
                place = v.address(out, k)
                v.store(builder.fadd(v.load(place), builder.load(total)), place)

        def all_elements(j, mask):
            _in_pieces(builder, terms, ELEMENTS, lambda elements, k: some(elements, k, j, mask))

        _by_vectors(builder, v, width, all_elements)

    return types.void(*[types.intp] * 9, real), by_itself(f"add_sums_{real}", build)


def _in_pieces(builder, count, sizes, build):
    """``build(size, at)`` for pieces of the first size, as many as there are, then of the next."""
    first = ZERO
    for size in sizes:
        left = builder.srem(builder.sub(count, first), WORD(size))
        stop = builder.sub(count, left)
        with cgutils.for_range_slice(builder, first, stop, WORD(size)) as (at, _):
            build(size, at)
        first = stop


def _by_vectors(builder, v, width, build):
    """`build` for the first column of each vector of a line, and its mask if it is not full."""
    left = builder.srem(width, WORD(v.lanes))
    whole = builder.sub(width, left)
    with cgutils.for_range_slice(builder, ZERO, whole, WORD(v.lanes)) as (j, _):
        build(j, None)
    with builder.if_then(builder.icmp_signed(">", left, ZERO)):
        build(whole, v.first(left))


@intrinsic
def _copy_lines(typing_context, a, row, rows, columns, out, step, like):
    """``out[i, j] ← a[i, j]``."""

    def generate(context, builder, signature, arguments):
        a, row, rows, columns, out, step, _ = arguments
        v, a, out = Vectors(builder, like), Matrix(a, row), Matrix(out, step)

        def lines(j, mask):
            with cgutils.for_range(builder, rows) as loop:
                at = loop.index, j
                v.store(v.load(v.address(a, *at), mask), v.address(out, *at), mask)

        _by_vectors(builder, v, columns, lines)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, like), generate


def _shift(builder, shifts, k):
    return builder.load(builder.gep(builder.inttoptr(shifts, WORD.as_pointer()), [k]))


@_inlined
def _into_row(image, planes, numbers, row, size, kind):
    """An image's pixels where they belong, between the zeros of a row, which is at an address."""
    (down, right, lines_apart, apart, line, _), width, like = numbers, image.shape[1], kind(0.0)
    for p in range(len(planes)):
        top, left, start = planes[p]
        lines, pixels = (image.shape[0] - top + down - 1) // down, width - left
        count, step = (pixels + right - 1) // right, lines_apart * line
        here = image.ctypes.data + (top * width + left) * size
        there = row + start * size
        if right == 1 and apart == 1:
            _copy_lines(here, down * width, lines, count, there, step, like)
        else:
            for i in range(lines):
                source, into = here + i * down * width * size, there + i * step * size
                if right == 2:
                    take_seconds(source, pixels, into, like)
                elif apart == 2 and right == 1:
                    put_seconds(into, 2 * count - 1, source, like)
                else:
                    a, b = vector(source, pixels, kind), vector(into, count * apart, kind)
                    for j in range(count):
                        b[j * apart] = a[j * right]


@_inlined
def _lines(places, line, lanes):
    """How many of an output, of which width, how far apart in a row; and those of its rest.

    One line is many, which are as long as a vector.
    """
    lines, width = places
    if lines > 1:
        return (lines, width, line), 0
    return (width // lanes, lanes, lanes), width % lanes


@_inlined
def _room(into, elements, shifts, pixels, others, size, kind):
    """Room for the rows of a group, which are zero; for its taps; and for so many other bytes.

    The address of each, and what to `free` them by, 0 if there is none.
    """
    of_rows = -(-(into * pixels * size + BYTES) // LINE) * LINE  # a vector may begin in the last
    taps = -(-into * elements * 8 // LINE) * LINE
    rows, held = allocated(of_rows + taps + others)
    if held:
        vector(rows, of_rows // size, kind)[:] = kind(0.0)
        found = vector(rows + of_rows, into * elements, INDEX)
        for k in range(into * elements):
            found[k] = k // elements * pixels + shifts[k % elements]
    return rows, rows + of_rows, rows + of_rows + taps, held


def convolve(real: Any) -> Any:
    """As `Kernels.convolve`, or back to the inputs, with weights (groups, channels, taps).

    A function of x, the weights, `shifts`, `planes` and `numbers_of_one` of a `RowLayout`, and
    `out`. It returns 1 where there is no memory for the rows, as the other one does, else 0.
    """
    kind, size = from_dtype(real), real.itemsize
    lanes = BYTES // size

    def run(x, weights, shifts, planes, numbers, out):
        x, weights, out = array(x, 4, kind), array(weights, 3, kind), array(out, 4, kind)
        shifts, planes = array(shifts, 1, INDEX), array(planes, 2, INDEX)
        numbers = array(numbers, 1, INDEX)
        (groups, of, terms), pixels, like = weights.shape, numbers[5], kind(0.0)
        into = x.shape[1] // groups
        rows, taps, _, held = _room(into, shifts.size, shifts, pixels, 0, size, kind)
        if held == 0:
            return 1
        (lines, width, line), rest = _lines(out.shape[2:], numbers[4], lanes)
        for i in range(x.shape[0]):
            for g in range(groups):
                for k in range(into):
                    row = rows + k * pixels * size
                    _into_row(x[i, g * into + k], planes, numbers, row, size, kind)
                for o in range(of):
                    there, here = out[i, g * of + o].ctypes.data, weights[g, o].ctypes.data
                    _weigh(here, taps, terms, rows, line, there, width, lines, width, like)
                    if rest:
                        done = lines * width * size
                        _weigh(here, taps, terms, rows + done, 0, there + done, 0, 1, rest, like)
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 6, fastmath=OF_SUMS)(run)


def convolve_weights(real: Any) -> Any:
    """As `Kernels.convolve_weights`, added to ``out``, as the weights of `convolve`.

    A function of x and δ, of the same of a layout, and of `out`.
    """
    kind, size = from_dtype(real), real.itemsize
    lanes = BYTES // size

    def run(x, delta, shifts, planes, numbers, out):
        x, delta, out = array(x, 4, kind), array(delta, 4, kind), array(out, 3, kind)
        shifts, planes = array(shifts, 1, INDEX), array(planes, 2, INDEX)
        numbers = array(numbers, 1, INDEX)
        (groups, of, terms), pixels, like = out.shape, numbers[5], kind(0.0)
        into, of_sums = x.shape[1] // groups, of * terms * BYTES
        rows, taps, sums, held = _room(into, shifts.size, shifts, pixels, of_sums, size, kind)
        if held == 0:
            return 1
        totals = vector(sums, of * terms * lanes, kind)
        (lines, width, line), rest = _lines(delta.shape[2:], numbers[4], lanes)
        for g in range(groups):
            totals[:] = like
            for i in range(x.shape[0]):
                for k in range(into):
                    row = rows + k * pixels * size
                    _into_row(x[i, g * into + k], planes, numbers, row, size, kind)
                for o in range(of):
                    here, there = delta[i, g * of + o].ctypes.data, sums + o * terms * BYTES
                    _add_sums(here, width, taps, terms, rows, line, there, lines, width, like)
                    if rest:
                        done = lines * width * size
                        _add_sums(
                            here + done, 0, taps, terms, rows + done, 0, there, 1, rest, like
                        )
            for o in range(of):
                for k in range(terms):
                    total, first = like, (o * terms + k) * lanes
                    for j in range(lanes):
                        total += totals[first + j]
                    out[g, o, k] += total
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 6, fastmath=OF_SUMS)(run)
