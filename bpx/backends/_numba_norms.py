"""Normalization of vectors by compiled loops: of columns over a batch, and of rows.

Sums over rows stay in registers, some columns at a time; those along a row are the compiler's.
"""

from __future__ import annotations

import math
from typing import Any

from numba import from_dtype, types
from numba.extending import intrinsic

from ._jit import (
    ARRAY,
    BY_ELEMENT,
    INTEGER,
    OF_SUMS,
    allocated,
    array,
    called_by_address,
    free,
    inlined,
    vector,
)
from ._numba_channels import difference, statistics
from ._numba_tiles import WIDTH, by_columns, sum_rows, summed
from ._numba_vectors import BYTES, WORD, ZERO, Matrix, Vectors, by_itself


@intrinsic
def moments(typing_context, x, step, rows, columns, mean, first, second, like):
    """Σ (x − μ) and Σ (x − μ)² over the rows, for at most `WIDTH` vectors of columns."""

    def build(builder, x, step, rows, columns, mean, first, second, _):
        v = Vectors(builder, like)

        def some(*masks):
            means = v.line(Matrix(mean, ZERO), ZERO, masks)

            def terms(i):
                pairs = zip(v.line(Matrix(x, step), i, masks), means, strict=True)
                apart = [builder.fsub(value, mu) for value, mu in pairs]
                return [*apart, *(builder.fmul(each, each) for each in apart)]

            _put_both(builder, v, masks, summed(builder, v, rows, 2 * len(masks), terms),
                      first, second)  # fmt: skip

        by_columns(builder, v, columns, some)

    return types.void(*[types.intp] * 7, like), by_itself(f"moments_{like}", build)


@intrinsic
def products(typing_context, delta, normal, step, rows, columns, first, second, like):
    """Σ δ·x̂ and Σ δ over the rows, for at most `WIDTH` vectors of columns."""

    def build(builder, delta, normal, step, rows, columns, first, second, _):
        v = Vectors(builder, like)

        def some(*masks):
            def terms(i):
                alone, others = (
                    v.line(Matrix(matrix, step), i, masks) for matrix in (delta, normal)
                )
                return [*map(builder.fmul, alone, others), *alone]

            _put_both(builder, v, masks, summed(builder, v, rows, 2 * len(masks), terms),
                      first, second)  # fmt: skip

        by_columns(builder, v, columns, some)

    return types.void(*[types.intp] * 7, like), by_itself(f"products_of_rows_{like}", build)


def _put_both(builder, v, masks, totals, *addresses):
    """The first half of the sums to one address, the second to another."""
    places = [
        v.address(Matrix(address, ZERO), ZERO, WORD(j * v.lanes))
        for address in addresses
        for j in range(len(masks))
    ]
    for total, place, mask in zip(totals, places, masks * 2, strict=True):
        v.store(builder.load(total), place, mask)


@inlined()
def sum_products(delta, normal, n, rows, units, first, second):
    """Σ δ·x̂ and Σ δ of some of n units, from their addresses."""
    size, zero = first.itemsize, first.dtype.type(0.0)
    for j in range(0, units, WIDTH * BYTES // size):
        at = j * size
        products(delta + at, normal + at, n, rows, units - j, first.ctypes.data + at,
                 second.ctypes.data + at, zero)  # fmt: skip


@inlined()
def _sums_of_gradients(delta, normal, sums):
    """As `Kernels.normalize_sums`."""
    m, c = delta.shape
    sum_products(delta.ctypes.data, normal.ctypes.data, c, m, c, sums[0], sums[1])


def batch_norm(real: Any) -> Any:
    """A function of the arguments of `NormKernels.batch_norm`; 1 where there is no memory."""
    kind, wide = from_dtype(real), types.float64

    def run(
        x, running_mean, running_variance, scale, shift, momentum, epsilon, slope, normal, out
    ):  # fmt: skip
        x, normal, out = array(x, 2, kind), array(normal, 2, kind), array(out, 2, kind)
        running_mean = array(running_mean, 1, kind)
        running_variance = array(running_variance, 1, kind)
        scale, shift, slope = array(scale, 1, kind), array(shift, 1, kind), array(slope, 1, kind)
        (m, c), size, zero = x.shape, x.itemsize, kind(0.0)
        where, held = allocated(8 * c * size)
        if held == 0:
            return 1
        numbers, sums = vector(where, (5, c), kind), vector(where + 5 * c * size, (2, c), kind)
        mean = vector(where + 7 * c * size, c, kind)
        sum_rows(x.ctypes.data, c, m, c, mean.ctypes.data, kind(1.0 / m), zero, size)
        first, mu = sums.ctypes.data, mean.ctypes.data
        for left in range(0, c, WIDTH * BYTES // size):
            at = left * size
            moments(
                x.ctypes.data + at, c, m, c - left, mu + at, first + at, first + at + c * size,
                zero,
            )  # fmt: skip
        running = running_mean, running_variance
        statistics(mean, sums, *running, scale, shift, float(m), momentum, epsilon, numbers)
        rest = numbers[1]
        for j in range(c):
            slope[j] = numbers[2, j]
        for i in range(m):
            row, standard, y = x[i], normal[i], out[i]
            # One array is written at a time, or there are too many that may overlap.
            for j in range(c):
                standard[j] = ((row[j] - mean[j]) - rest[j]) * slope[j]
            for j in range(c):
                y[j] = standard[j] * scale[j] + shift[j]
        free(held)
        return 0

    arguments = *[ARRAY] * 5, wide, wide, *[ARRAY] * 3
    return called_by_address(INTEGER, *arguments, fastmath=BY_ELEMENT)(run)


def batch_norm_backward(real: Any) -> Any:
    """A function of δ, `normal`, the factor and `sums` of `NormKernels.batch_norm_backward`."""
    kind = from_dtype(real)

    def run(delta, normal, factor, sums):
        delta, normal = array(delta, 2, kind), array(normal, 2, kind)
        factor, sums = array(factor, 1, kind), array(sums, 2, kind)
        _sums_of_gradients(delta, normal, sums)
        (m, c), share, first, second = delta.shape, kind(1.0 / delta.shape[0]), sums[0], sums[1]
        for i in range(m):
            row, standard = delta[i], normal[i]
            for j in range(c):
                row[j] = (row[j] - (standard[j] * first[j] + second[j]) * share) * factor[j]

    return called_by_address(types.void, *[ARRAY] * 4, fastmath=BY_ELEMENT)(run)


def running_norm(real: Any) -> Any:
    """A function of the arguments of `NormKernels.running_norm`; 1 where there is no memory."""
    kind, wide = from_dtype(real), types.float64

    def run(x, mean, variance, scale, shift, epsilon):
        x, mean, variance = array(x, 2, kind), array(mean, 1, kind), array(variance, 1, kind)
        scale, shift, more = array(scale, 1, kind), array(shift, 1, kind), kind(epsilon)
        where, held = allocated(scale.size * x.itemsize)
        if held == 0:
            return 1
        slope = vector(where, scale.size, kind)
        for j in range(slope.size):
            slope[j] = scale[j] / math.sqrt(variance[j] + more)
        for i in range(x.shape[0]):
            row = x[i]
            for j in range(slope.size):
                row[j] = (row[j] - mean[j]) * slope[j] + shift[j]
        free(held)
        return 0

    return called_by_address(INTEGER, *[ARRAY] * 5, wide, fastmath=BY_ELEMENT)(run)


@inlined(*OF_SUMS)
def mean_and_rest(row):
    """μ of a row, the mean ν of what is left of x − μ, and the variance."""
    real = row.dtype.type
    n, mean, first, second = real(row.size), real(0.0), real(0.0), real(0.0)
    for j in range(row.size):
        mean += row[j]
    mean /= n
    for j in range(row.size):
        d = difference(row[j], mean)
        first += d
        second += d * d
    first /= n
    variance = second / n - first * first
    return mean, first, real(0.0) if variance < real(0.0) else variance  # a NaN stays


def layer_norm(real: Any) -> Any:
    """A function of the arguments of `NormKernels.layer_norm`."""
    kind, wide = from_dtype(real), types.float64

    def run(x, scale, shift, epsilon, slope, normal, out):
        x, normal, out = array(x, 2, kind), array(normal, 2, kind), array(out, 2, kind)
        scale, shift, slope = array(scale, 1, kind), array(shift, 1, kind), array(slope, 2, kind)
        for i in range(x.shape[0]):
            row, standard, y = x[i], normal[i], out[i]
            mean, rest, variance = mean_and_rest(row)
            s = kind(1.0) / math.sqrt(variance + kind(epsilon))
            slope[i, 0] = s
            for j in range(row.size):  # x is read here alone, since y may be its row
                standard[j] = ((row[j] - mean) - rest) * s
            for j in range(row.size):
                y[j] = standard[j] * scale[j] + shift[j]

    arguments = *[ARRAY] * 3, wide, *[ARRAY] * 3
    return called_by_address(types.void, *arguments, fastmath=BY_ELEMENT)(run)


@inlined(*OF_SUMS)
def means_of_row(delta, normal, scale):
    """Of γδ·x̂ and γδ in a row."""
    real = delta.dtype.type
    n, first, second = real(delta.size), real(0.0), real(0.0)
    for j in range(delta.size):
        d = delta[j] * scale[j]
        first += d * normal[j]
        second += d
    return first / n, second / n


def layer_norm_backward(real: Any) -> Any:
    """A function of δ, `normal`, γ, `slope` and `sums` of `NormKernels.layer_norm_backward`."""
    kind = from_dtype(real)

    def run(delta, normal, scale, slope, sums):
        delta, normal, scale = array(delta, 2, kind), array(normal, 2, kind), array(scale, 1, kind)
        slope, sums = array(slope, 2, kind), array(sums, 2, kind)
        _sums_of_gradients(delta, normal, sums)
        for i in range(delta.shape[0]):
            row, standard, s = delta[i], normal[i], slope[i, 0]
            first, second = means_of_row(row, standard, scale)
            for j in range(row.size):
                row[j] = (row[j] * scale[j] - standard[j] * first - second) * s

    return called_by_address(types.void, *[ARRAY] * 5, fastmath=BY_ELEMENT)(run)
