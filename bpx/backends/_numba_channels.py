"""Batch normalization by compiled loops, and other elementwise work on images.

Arrays are (m, c, places), and each pass reads and writes them once.
"""

from __future__ import annotations

import math
from typing import Any

from numba import from_dtype, types

from ._jit import ARRAY, BY_ELEMENT, OF_SUMS, array, called_by_address, inlined

# Sums may run in several lanes.


@inlined(*BY_ELEMENT)
def difference(a, b):
    return a - b  # alone, or "reassoc" might put Σ x − Σ μ for Σ (x − μ), and lose the variance


def moments(real: Any) -> Any:
    """As `Kernels.moments`, added to `out`: a function of x, the mean, and `out`."""
    kind = from_dtype(real)

    def run(x, mean, out):
        x, mean, out = array(x, 3, kind), array(mean, 1, kind), array(out, 2, kind)
        for i in range(x.shape[0]):
            for c in range(x.shape[1]):
                row, mu = x[i, c], mean[c]
                first, second = kind(0.0), kind(0.0)
                for j in range(row.size):
                    d = difference(row[j], mu)
                    first += d
                    second += d * d
                out[0, c] += first
                out[1, c] += second

    return called_by_address(types.void, *[ARRAY] * 3, fastmath=OF_SUMS)(run)


@inlined()  # without "contract", or some channels' would be rounded in another way than all'
def statistics(
    mean, sums, running_mean, running_variance, scale, shift, n, momentum, epsilon, out
):  # fmt: skip
    """As `Kernels.batch_statistics`."""
    real = mean.dtype.type
    zero, one, values, unbiased = real(0.0), real(1.0), real(n), real(n / (n - 1.0))
    new, old = real(momentum), real(1.0 - momentum)
    for c in range(mean.size):
        left = sums[0, c] / values
        variance = sums[1, c] / values - left * left
        variance = zero if variance < zero else variance  # a NaN stays
        running_mean[c] = old * running_mean[c] + new * (mean[c] + left)
        running_variance[c] = old * running_variance[c] + new * (variance * unbiased)
        out[0, c], out[1, c] = mean[c], left
        out[2, c] = one / math.sqrt(variance + real(epsilon))
        out[3, c], out[4, c] = scale[c], shift[c]


def batch_statistics(real: Any) -> Any:
    """A function of the arguments of `Kernels.batch_statistics`."""
    kind, wide = from_dtype(real), types.float64

    def run(
        mean, sums, running_mean, running_variance, scale, shift, n, momentum, epsilon, out
    ):  # fmt: skip
        mean, sums, out = array(mean, 1, kind), array(sums, 2, kind), array(out, 2, kind)
        running_mean = array(running_mean, 1, kind)
        running_variance = array(running_variance, 1, kind)
        scale, shift = array(scale, 1, kind), array(shift, 1, kind)
        running = running_mean, running_variance
        statistics(mean, sums, *running, scale, shift, n, momentum, epsilon, out)

    arguments = *[ARRAY] * 6, wide, wide, wide, ARRAY
    return called_by_address(types.void, *arguments, fastmath=BY_ELEMENT)(run)


def normalize(real: Any) -> Any:
    """A function of the arguments of `Kernels.normalize`."""
    kind = from_dtype(real)

    def run(x, numbers, normal, out):
        x, numbers = array(x, 3, kind), array(numbers, 2, kind)
        normal, out = array(normal, 3, kind), array(out, 3, kind)
        for i in range(x.shape[0]):
            for c in range(x.shape[1]):
                row, standard, y = x[i, c], normal[i, c], out[i, c]
                mean, left, slope = numbers[0, c], numbers[1, c], numbers[2, c]
                scale, shift = numbers[3, c], numbers[4, c]
                for j in range(row.size):
                    value = ((row[j] - mean) - left) * slope
                    standard[j] = value
                    y[j] = value * scale + shift

    return called_by_address(types.void, *[ARRAY] * 4, fastmath=BY_ELEMENT)(run)


def normalize_sums(real: Any) -> Any:
    """As `Kernels.normalize_sums`, added to `out`: a function of δ, `normal` and `out`."""
    kind = from_dtype(real)

    def run(delta, normal, out):
        delta, normal, out = array(delta, 3, kind), array(normal, 3, kind), array(out, 2, kind)
        for i in range(delta.shape[0]):
            for c in range(delta.shape[1]):
                row, standard = delta[i, c], normal[i, c]
                first, second = kind(0.0), kind(0.0)
                for j in range(row.size):
                    first += row[j] * standard[j]
                    second += row[j]
                out[0, c] += first
                out[1, c] += second

    return called_by_address(types.void, *[ARRAY] * 3, fastmath=OF_SUMS)(run)


def normalize_backward(real: Any) -> Any:
    """A function of the arguments of `Kernels.normalize_backward`."""
    kind = from_dtype(real)

    def run(delta, normal, means, factor):
        delta, normal = array(delta, 3, kind), array(normal, 3, kind)
        means, factor = array(means, 2, kind), array(factor, 1, kind)
        for i in range(delta.shape[0]):
            for c in range(delta.shape[1]):
                row, standard = delta[i, c], normal[i, c]
                first, second, f = means[0, c], means[1, c], factor[c]
                for j in range(row.size):
                    row[j] = (row[j] - standard[j] * first - second) * f

    return called_by_address(types.void, *[ARRAY] * 4, fastmath=BY_ELEMENT)(run)


def relu(real: Any) -> Any:
    """A function of two vectors: ReLU of the first goes to the second. A NaN stays."""
    kind = from_dtype(real)

    def run(z, out):
        zero, z, out = kind(0.0), array(z, 1, kind), array(out, 1, kind)
        # By itself, since for arrays that overlap LLVM's code takes the elements one by one.
        if z.ctypes.data == out.ctypes.data:
            for j in range(z.size):
                z[j] = zero if z[j] < zero else z[j]
        else:
            for j in range(z.size):
                out[j] = zero if z[j] < zero else z[j]

    return called_by_address(types.void, ARRAY, ARRAY, fastmath=BY_ELEMENT)(run)


def relu_backward(real: Any) -> Any:
    """A function of two vectors, δ and a: ``δ ← δ`` where a > 0, else 0."""
    kind = from_dtype(real)

    def run(delta, a):
        zero, delta, a = kind(0.0), array(delta, 1, kind), array(a, 1, kind)
        for j in range(a.size):
            delta[j] *= a[j] > zero

    return called_by_address(types.void, ARRAY, ARRAY, fastmath=BY_ELEMENT)(run)
