"""Matrix products on one core, by tiles of the result that stay in registers.

OpenBLAS copies both matrices into the order that its kernels read, which pays where they are
large. Here a number of a is multiplied with a few vectors of a row of b where they lie. b is
copied only if it has to be turned around, and what is far apart in memory if it is read often.

The terms of each sum are added one after another: a row of the result has the same bits whatever
other rows there are.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._aligned import LINE
from ._jit import INTEGER, allocated, called_by_address, free, inlined, vector
from ._numba_vectors import BYTES, ONE, WORD, ZERO, Matrix, Vectors, by_itself

# Rows of a tile, and of those for what is left over; and vectors in a row. 8 × 2 sums and two
# vectors of b fit in 32 registers, 6 × 2 in 16.
HEIGHTS = (8, 4, 2, 1) if BYTES == 64 else (6, 4, 2, 1)
ROWS, WIDTH = HEIGHTS[0], 2
# Terms and elements of a at a time, which stay in the second cache while all columns go by.
DEPTH, BLOCK = 512, 131_072
# Rows so many bytes apart are on a page each, and in the same places of the first cache.
FAR = 4096
# Rows that are summed up before they are added to the sum of others.
ROWS_OF_A_SUM = 256
# Terms and rows from which on the next rows of a are asked for: from memory 784 terms of 10,000
# rows by 30 columns take 4.9 ms instead of 5.4, and 4.9 from the second cache too.
TERMS_ASKED, ROWS_ASKED = 128, 128
WORDS = 11  # arguments of `compiled` that are not reals
# Tiles side by side from which on it pays to copy rows of a that are far apart.
MANY = 8

_inlined = inlined()


@intrinsic
def _add_products(
    typing_context, a, row, term, b, line, terms, c, step, rows, columns, alpha, beta
):  # fmt: skip
    """``c ← β·c + α·ab`` for some rows and at most `WIDTH` vectors of columns."""
    real = alpha

    def build(builder, a, row, term, b, line, terms, c, step, *others):
        v, b = Vectors(builder, real), Matrix(b, line)
        matrices = Matrix(a, row, term), lambda k: v.address(b, k), Matrix(c, step)
        _tiles(builder, v, *matrices, terms, *others, asking=True)

    return types.void(*[types.intp] * 10, real, real), by_itself(f"products_{real}", build)


@intrinsic
def _add_shifted(
    typing_context, a, row, b, shifts, terms, c, step, rows, columns, alpha, beta
):  # fmt: skip
    """The same for a b whose rows are so many elements after an address, by int64 at another."""
    real = alpha

    def build(builder, a, row, b, shifts, terms, c, step, *others):
        v, b = Vectors(builder, real), Matrix(b, ONE)
        first = builder.inttoptr(shifts, WORD.as_pointer())

        def line(k):
            return v.address(b, builder.load(builder.gep(first, [k])))

        _tiles(builder, v, Matrix(a, row), line, Matrix(c, step), terms, *others)

    return types.void(*[types.intp] * 9, real, real), by_itself(f"shifted_{real}", build)


def _tiles(builder, v, a, row_of_b, c, terms, rows, columns, alpha, beta, asking=False):
    """All tiles of so many columns; `row_of_b` gives the address of a row.

    `asking`: of many long rows of a, the next are asked for.
    """
    many = builder.icmp_signed("==", a.column, ONE)
    for count, least in (terms, TERMS_ASKED), (rows, ROWS_ASKED):
        many = builder.and_(many, builder.icmp_signed(">=", count, WORD(least)))
    heights = [(height, False) for height in HEIGHTS]

    def build(*masks):
        first = ZERO
        for height, ask in [(ROWS, True), *heights] if asking else heights:
            left = builder.sub(rows, first)
            stop = builder.sub(rows, builder.srem(left, WORD(height)))
            if ask:
                stop = builder.select(many, stop, ZERO)
            with cgutils.for_range_slice(builder, first, stop, WORD(height)) as (at, _):
                places = [
                    [v.address(c, i, WORD(j * v.lanes)) for j in range(len(masks))]
                    for i in (builder.add(at, WORD(k)) for k in range(height))
                ]
                for place in chain(*places):  # so that they are there when the sums are
                    v.prefetch(place, to_write=True)
                sums = _sums(builder, v, at, height, masks, a, row_of_b, terms, ask)
                _put(builder, v, masks, sums, places, alpha, beta)
            first = stop

    by_columns(builder, v, columns, build)


def by_columns(builder, v, columns, build):
    """`build` for a mask of each vector that so many columns need; None: all of it."""
    lanes = WORD(v.lanes)
    with builder.if_else(builder.icmp_signed(">=", columns, WORD(WIDTH * v.lanes))) as cases:
        with cases[0]:
            build(None, None)
        with cases[1], builder.if_else(builder.icmp_signed("<=", columns, lanes)) as cases:
            with cases[0]:
                build(v.first(columns))
            with cases[1]:
                build(None, v.first(builder.sub(columns, lanes)))


def _sums(builder, v, first, height, masks, a, row_of_b, terms, ask):
    """Places of the sums over all terms of a tile, by row and vector.

    `ask`: the next rows of a are asked for meanwhile, one cache line after another.
    """
    sums = [[cgutils.alloca_once(builder, v.kind) for _ in masks] for _ in range(height)]
    rows = [builder.add(first, WORD(i)) for i in range(height)]
    for total in chain(*sums):
        builder.store(v.zero, total)
    with cgutils.for_range(builder, terms) as loop:
        if ask:
            within = builder.and_(loop.index, WORD(LINE // v.size - 1))
            with builder.if_then(builder.icmp_signed("==", within, ZERO), likely=False):
                for i in rows:
                    later = v.address(a, builder.add(i, WORD(height)), loop.index)
                    v.prefetch(later, to_write=False)
        b = Matrix(row_of_b(loop.index), ZERO)
        vectors = [
            v.load(v.address(b, ZERO, WORD(j * v.lanes)), mask) for j, mask in enumerate(masks)
        ]
        for i, each in zip(rows, sums, strict=True):
            x = v.number(v.address(a, i, loop.index))
            for total, y in zip(each, vectors, strict=True):
                builder.store(v.multiply_add(x, y, builder.load(total)), total)
    return sums


def _put(builder, v, masks, sums, places, alpha, beta):
    """``c ← β·c + α·sums``; whatever is there if β = 0."""
    by, keep = v.filled(alpha), v.filled(beta)
    tile = [
        each for row in zip(sums, places, strict=True) for each in zip(*row, masks, strict=True)
    ]
    with builder.if_else(builder.fcmp_ordered("==", beta, v.real(0.0))) as (fresh, otherwise):
        with fresh:
            for total, place, mask in tile:
                v.store(builder.fmul(by, builder.load(total)), place, mask)
        with otherwise:
            for total, place, mask in tile:
                old = builder.fmul(keep, v.load(place, mask))
                v.store(v.multiply_add(by, builder.load(total), old), place, mask)


@intrinsic
def _sum_rows(typing_context, a, row, rows, columns, out, alpha, beta):
    """``out ← β·out + α·Σ_i a_i`` for at most `WIDTH` vectors of columns."""
    real = alpha

    def build(builder, a, row, rows, columns, out, alpha, beta):
        v, a, out = Vectors(builder, real), Matrix(a, row), Matrix(out, ZERO)

        def some(*masks):
            places = [v.address(out, ZERO, WORD(j * v.lanes)) for j in range(len(masks))]
            totals = summed(builder, v, rows, len(masks), lambda i: v.line(a, i, masks))
            _put(builder, v, masks, [totals], [places], alpha, beta)

        by_columns(builder, v, columns, some)

    return types.void(*[types.intp] * 5, real, real), by_itself(f"sum_rows_{real}", build)


def summed(builder, v, rows, count, terms):
    """Places of sums over the rows of `count` vectors, ``terms(row)``.

    Of so many rows at a time: one by one, a sum of a million float32 is off by 1e-3.
    """
    sums, totals = (
        [cgutils.alloca_once_value(builder, v.zero) for _ in range(count)] for _ in range(2)
    )
    with cgutils.for_range_slice(builder, ZERO, rows, WORD(ROWS_OF_A_SUM)) as (top, _):
        left = builder.sub(rows, top)
        whole = builder.icmp_signed(">", left, WORD(ROWS_OF_A_SUM))
        for total in sums:
            builder.store(v.zero, total)
        with cgutils.for_range(builder, builder.select(whole, WORD(ROWS_OF_A_SUM), left)) as loop:
            for x, total in zip(terms(builder.add(top, loop.index)), sums, strict=True):
                builder.store(builder.fadd(builder.load(total), x), total)
        for part, total in zip(sums, totals, strict=True):
            builder.store(builder.fadd(builder.load(total), builder.load(part)), total)
    return totals


@intrinsic
def _copy(typing_context, a, row, rows, columns, out, step, like):
    """``out[i, j] ← a[i, j]`` for at most `WIDTH` vectors of columns."""

    def generate(context, builder, signature, arguments):
        a, row, rows, columns, out, step, _ = arguments
        v, a, out = Vectors(builder, like), Matrix(a, row), Matrix(out, step)

        def lines(*masks):
            with cgutils.for_range(builder, rows) as loop:
                for j, mask in enumerate(masks):
                    at = loop.index, WORD(j * v.lanes)
                    v.store(v.load(v.address(a, *at), mask), v.address(out, *at), mask)

        by_columns(builder, v, columns, lines)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, like), generate


@intrinsic
def _turn_square(typing_context, a, row, rows, columns, out, step, like):
    """``out[j, i] ← a[i, j]`` for as many rows and columns as a vector has lanes, or fewer."""

    def generate(context, builder, signature, arguments):
        a, row, rows, columns, out, step, _ = arguments
        v, a, out = Vectors(builder, like), Matrix(a, row), Matrix(out, step)
        places = [WORD(i) for i in range(v.lanes)]

        def fewer():
            last, mask = builder.sub(rows, WORD(1)), v.first(columns)
            for i in places:  # the last row again where there are no more
                there = builder.select(builder.icmp_signed("<", i, last), i, last)
                yield v.load(v.address(a, there), mask)

        lanes = WORD(v.lanes)
        high, wide = (builder.icmp_signed(">=", count, lanes) for count in (rows, columns))
        with builder.if_else(builder.and_(high, wide)) as (whole, part):
            with whole:
                turned = v.turned([v.load(v.address(a, i)) for i in places])
                for j, vector in zip(places, turned, strict=True):
                    v.store(vector, v.address(out, j))
            with part:
                for j, vector in zip(places, v.turned(list(fewer())), strict=True):
                    with builder.if_then(builder.icmp_signed(">", columns, j)):
                        v.store(vector, v.address(out, j), v.first(rows))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, like), generate


@_inlined
def add_shifted(a, row, b, shifts, terms, c, step, rows, columns, alpha, beta, size):
    """``c ← β·c + α·ab`` for a b whose rows are so many elements after an address, by int64."""
    for first in range(0, columns, WIDTH * BYTES // size):
        _add_shifted(
            a, row, b + first * size, shifts, terms, c + first * size, step, rows, columns - first,
            alpha, beta,
        )  # fmt: skip


@_inlined
def sum_rows(a, row, rows, columns, out, alpha, beta, size):
    """``out ← β·out + α·Σ_i a_i`` over the rows of a."""
    for first in range(0, columns, WIDTH * BYTES // size):
        _sum_rows(a + first * size, row, rows, columns - first, out + first * size, alpha, beta)


@_inlined
def turn(a, row, rows, columns, out, step, size, like):
    """``out[j, i] ← a[i, j]``."""
    lanes = BYTES // size
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            here, there = a + (i * row + j) * size, out + (j * step + i) * size
            _turn_square(here, row, rows - i, columns - j, there, step, like)


@_inlined
def _into_strips(a, row, term, rows, terms, out, strip, size, like):
    """`ROWS` of a after the other, each as a matrix of its terms by rows."""
    for i in range(0, rows, ROWS):
        high, here, there = min(ROWS, rows - i), a + i * row * size, out + i // ROWS * strip
        if row == 1:
            _copy(here, term, terms, high, there, ROWS, like)
        else:
            turn(here, row, high, terms, there, ROWS, size, like)


@_inlined
def _one_by_one(m, n, k, a, row, term, b, line, across, c, step, alpha, beta, kind):
    """As `compiled`, without memory for copies: slow, but its callers cannot raise an error."""
    zero = kind(0.0)
    for i in range(m):
        for j in range(n):
            x, y = vector(a, i * row + k * term, kind), vector(b, j * across + k * line, kind)
            total = zero
            for t in range(k):
                total += x[i * row + t * term] * y[j * across + t * line]
            out = vector(c, i * step + n, kind)
            total *= alpha
            if beta != zero:
                total += beta * out[i * step + j]
            out[i * step + j] = total


def compiled(real: Any) -> Any:
    """``c ← β·c + α·ab`` for matrices of this dtype.

    A function of m, n, k; of a's address in bytes, and its steps from row to row and from term to
    term in elements, one of which is 1; of b's, from term to term and from column to column, one
    of which is 1; of c's, from row to row; and of α and β.
    """
    kind, size = from_dtype(real), real.itemsize
    width = WIDTH * BYTES // size

    def run(m, n, k, a, row, term, b, line, across, c, step, alpha, beta):
        turned, depth = across != 1, min(k, DEPTH)
        copied = turned or line * size >= FAR
        far = n >= MANY * width and max(row, term) * size >= FAR
        # Rows of a at a time, and of those at once.
        rows_of_block = max(1, BLOCK // depth // ROWS) * ROWS if far else max(1, m)
        height = ROWS if far else max(1, m)
        # Parts of a row of b for a tile, and rows of a, one after the other.
        panel_size = depth * width if copied else 0
        strips_size = min(m + ROWS, rows_of_block) * depth if far else 0
        panel, held = allocated((panel_size + strips_size) * size)
        if held == 0:
            _one_by_one(m, n, k, a, row, term, b, line, across, c, step, alpha, beta, kind)
            return
        strips = panel + panel_size * size
        for first in range(0, max(1, k), DEPTH):
            terms, keep = min(DEPTH, k - first), beta if first == 0 else kind(1.0)
            for top in range(0, m, rows_of_block):
                rows, block = min(rows_of_block, m - top), a + (top * row + first * term) * size
                if far:
                    _into_strips(block, row, term, rows, terms, strips,
                                 ROWS * depth * size, size, alpha)  # fmt: skip
                for left in range(0, n, width):
                    columns = min(width, n - left)
                    over, apart = b + (first * line + left * across) * size, line
                    if copied:
                        if turned:
                            turn(over, across, columns, terms, panel, width, size, alpha)
                        else:
                            _copy(over, line, terms, columns, panel, width, alpha)
                        over, apart = panel, width
                    for i in range(0, rows, height):
                        here, down, along = block + i * row * size, row, term
                        if far:
                            here, down, along = strips + i * depth * size, 1, ROWS
                        _add_products(here, down, along, over, apart, terms,
                                      c + ((top + i) * step + left) * size, step,
                                      min(height, rows - i), columns, alpha, keep)  # fmt: skip

        free(held)

    return called_by_address(types.void, *[INTEGER] * WORDS, kind, kind)(run)
