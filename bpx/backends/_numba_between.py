"""Norms and sums between dense layers, in compiled steps.

Each function works on a block of m rows of n numbers: those of some units in all rows, or whole
rows. It is told a `LAYER`, and called by its address.
"""

from __future__ import annotations

import math
from typing import Any

from numba import from_dtype, types

from ._fast_run import LAYER, OF_UNIT
from ._jit import BY_ELEMENT, INTEGER, called_by_address, inlined, vector
from ._numba_channels import statistics
from ._numba_layers import finish
from ._numba_norms import mean_and_rest, means_of_row, moments, sum_products
from ._numba_tiles import WIDTH, sum_rows
from ._numba_vectors import BYTES

# Some units' numbers, one row after the other: what `statistics` gives, and μ; sums on both ways;
# and the running statistics after the step.
SLOPE, MEAN, SUMS, RUNNING = 2, 5, 6, 8


@inlined()
def _numbers(norm, left, units, kind, size):
    """Those of a block's units, in one piece of memory."""
    return vector(norm.numbers + OF_UNIT * left * size, (OF_UNIT, units), kind)


@inlined()
def _line(address, row, n, left, units, kind, size):
    """Units of a row of n."""
    return vector(address + (row * n + left) * size, units, kind)


@inlined()
def _copy(source, out):
    for j in range(out.size):  # of slices it is a call to Numba's own code
        out[j] = source[j]


def batch_norm(real: Any) -> Any:
    """``out ← σ(γ·x̂ + β)``, with the statistics of all rows of z; x̂ is kept for the way back.

    A function of the address of a `LAYER`, the code of σ, the first row and the rows, the first
    unit and the units, and the addresses of the first number of z and of `out`, which may be z.
    """
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, code, top, rows, left, units, z, out):
        norm = vector(told, 1, record)[0]
        n, zero = norm.units, kind(0.0)
        numbers = _numbers(norm, left, units, kind, size)
        mean, first, second = numbers[MEAN], numbers[SUMS], numbers[SUMS + 1]
        sum_rows(z, n, rows, units, mean.ctypes.data, kind(1.0 / rows), zero, size)
        for j in range(0, units, WIDTH * BYTES // size):
            at = j * size
            moments(z + at, n, rows, units - j, mean.ctypes.data + at, first.ctypes.data + at,
                    second.ctypes.data + at, zero)  # fmt: skip
        new_mean, new_variance = numbers[RUNNING], numbers[RUNNING + 1]
        _copy(vector(norm.mean + left * size, units, kind), new_mean)
        _copy(vector(norm.variance + left * size, units, kind), new_variance)
        scale = vector(norm.theta + (norm.scale + left) * size, units, kind)
        shift = vector(norm.theta + (norm.shift + left) * size, units, kind)
        statistics(mean, numbers[SUMS:RUNNING], new_mean, new_variance, scale, shift, rows,
                   norm.momentum, norm.epsilon, numbers)  # fmt: skip
        rest, slope = numbers[1], numbers[SLOPE]
        for r in range(rows):
            row = _line(z, r, n, 0, units, kind, size)
            normal = _line(norm.normal, r, n, left, units, kind, size)
            for j in range(units):
                normal[j] = ((row[j] - mean[j]) - rest[j]) * slope[j]
            y = _line(out, r, n, 0, units, kind, size)
            for j in range(units):
                y[j] = normal[j] * scale[j]
        finish(code, shift, vector(out, rows * n, kind), rows, units, n)

    return called_by_address(types.void, *[INTEGER] * 8)(run)


def batch_norm_backward(real: Any) -> Any:
    """δ after the norm becomes δ before; ∂C/∂γ and ∂C/∂β of the units are kept.

    A function of the address of a `LAYER`, the first row and the rows, the first unit and the
    units, and the address of the first δ.
    """
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, top, rows, left, units, delta):
        norm = vector(told, 1, record)[0]
        n, share = norm.units, kind(1.0 / rows)
        numbers = _numbers(norm, left, units, kind, size)
        first, second, slope = numbers[SUMS], numbers[SUMS + 1], numbers[SLOPE]
        scale = vector(norm.theta + (norm.scale + left) * size, units, kind)
        normal = norm.normal + left * size
        sum_products(delta, normal, n, rows, units, first, second)
        for r in range(rows):
            row = _line(delta, r, n, 0, units, kind, size)
            standard = _line(normal, r, n, 0, units, kind, size)
            for j in range(units):
                mean = (standard[j] * first[j] + second[j]) * share
                row[j] = (row[j] - mean) * (slope[j] * scale[j])

    return called_by_address(types.void, *[INTEGER] * 6, fastmath=BY_ELEMENT)(run)


def layer_norm(real: Any) -> Any:
    """As `batch_norm`, with the statistics of each row by itself."""
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, code, top, rows, left, units, z, out):
        norm = vector(told, 1, record)[0]
        n, epsilon = norm.units, kind(norm.epsilon)
        slope = vector(norm.slope, top + rows, kind)
        scale = vector(norm.theta + norm.scale * size, n, kind)
        shift = vector(norm.theta + norm.shift * size, n, kind)
        for r in range(rows):
            row = _line(z, r, n, 0, n, kind, size)
            normal = _line(norm.normal, top + r, n, 0, n, kind, size)
            mean, rest, variance = mean_and_rest(row)
            s = kind(1.0) / math.sqrt(variance + epsilon)
            slope[top + r] = s
            for j in range(n):
                normal[j] = ((row[j] - mean) - rest) * s
            y = _line(out, r, n, 0, n, kind, size)
            for j in range(n):
                y[j] = normal[j] * scale[j]
        finish(code, shift, vector(out, rows * n, kind), rows, n, n)

    return called_by_address(types.void, *[INTEGER] * 8, fastmath=BY_ELEMENT)(run)


def layer_norm_backward(real: Any) -> Any:
    """As `batch_norm_backward`; δ after the norm is kept, of which others need their units."""
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, top, rows, left, units, delta):
        norm = vector(told, 1, record)[0]
        n, slope = norm.units, vector(norm.slope, top + rows, kind)
        scale = vector(norm.theta + norm.scale * size, n, kind)
        for r in range(rows):
            row = _line(delta, r, n, 0, n, kind, size)
            normal = _line(norm.normal, top + r, n, 0, n, kind, size)
            kept = _line(norm.delta, top + r, n, 0, n, kind, size)
            _copy(row, kept)
            first, second = means_of_row(row, normal, scale)
            s = slope[top + r]
            for j in range(n):
                row[j] = (row[j] * scale[j] - normal[j] * first - second) * s

    return called_by_address(types.void, *[INTEGER] * 6, fastmath=BY_ELEMENT)(run)


def add_inputs(real: Any) -> Any:
    """``out ← σ(z + h)``, where h are the inputs of a layer below: the sum of a `Residual`.

    A function of the same as `batch_norm`.
    """
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, code, top, rows, left, units, z, out):
        this = vector(told, 1, record)[0]
        n = this.units
        for r in range(rows):
            row = _line(z, r, n, 0, units, kind, size)
            y = _line(out, r, n, 0, units, kind, size)
            added = _line(this.added, top + r, n, left, units, kind, size)
            for j in range(units):
                y[j] = row[j] + added[j]
        finish(code, vector(out, 0, kind), vector(out, rows * n, kind), rows, units, n)

    return called_by_address(types.void, *[INTEGER] * 8)(run)


def learn(real: Any) -> Any:
    """``β·out + α·gradient`` of some units' γ and β, and their new running statistics.

    A function of the address of a `LAYER`, the rows of the mini-batch, the first unit and the
    units, α and β, and the address of the vector in which γ and β lie as in θ. It is called after
    all have their δ, and if the cost is finite.
    """
    kind, record, size = from_dtype(real), from_dtype(LAYER), real.itemsize

    def run(told, rows, left, units, alpha, beta, into):
        norm = vector(told, 1, record)[0]
        numbers = _numbers(norm, left, units, kind, size)
        if norm.mean:
            _copy(numbers[RUNNING], vector(norm.mean + left * size, units, kind))
            _copy(numbers[RUNNING + 1], vector(norm.variance + left * size, units, kind))
        else:
            delta, normal = norm.delta + left * size, norm.normal + left * size
            sums = numbers[SUMS], numbers[SUMS + 1]
            sum_products(delta, normal, norm.units, rows, units, *sums)
        for k in range(2):
            start = norm.shift if k else norm.scale
            out, gradient = vector(into + (start + left) * size, units, kind), numbers[SUMS + k]
            for j in range(units):
                out[j] = beta * out[j] + alpha * gradient[j]

    reals = from_dtype(real), from_dtype(real)
    return called_by_address(types.void, *[INTEGER] * 4, *reals, INTEGER)(run)
