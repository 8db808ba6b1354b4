"""Batch normalization by compiled loops, and other elementwise work on images.

Arrays are (m, c, places), and each pass reads and writes them once.
"""

from __future__ import annotations

import math

from ._jit import decorators

_kernel, _inlined = decorators("contract")
_kernel_of_sums, _ = decorators("contract", "reassoc")  # which run in several lanes


@_inlined
def _difference(a, b):
    return a - b  # alone, or "reassoc" might put Σ x − Σ μ for Σ (x − μ), and lose the variance


@_kernel_of_sums
def moments(x, mean, out):
    """As `Kernels.moments`, added to `out`."""
    zero = x.dtype.type(0.0)
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, mu = x[i, c], mean[c]
            first, second = zero, zero
            for j in range(row.size):
                d = _difference(row[j], mu)
                first += d
                second += d * d
            out[0, c] += first
            out[1, c] += second


@_kernel
def batch_statistics(
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


@_kernel
def normalize(x, numbers, normal, out):
    """As `Kernels.normalize`."""
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, standard, y = x[i, c], normal[i, c], out[i, c]
            mean, left, slope = numbers[0, c], numbers[1, c], numbers[2, c]
            scale, shift = numbers[3, c], numbers[4, c]
            for j in range(row.size):
                value = ((row[j] - mean) - left) * slope
                standard[j] = value
                y[j] = value * scale + shift


@_kernel_of_sums
def normalize_sums(delta, normal, out):
    """As `Kernels.normalize_sums`, added to `out`."""
    zero = delta.dtype.type(0.0)
    for i in range(delta.shape[0]):
        for c in range(delta.shape[1]):
            row, standard = delta[i, c], normal[i, c]
            first, second = zero, zero
            for j in range(row.size):
                first += row[j] * standard[j]
                second += row[j]
            out[0, c] += first
            out[1, c] += second


@_kernel
def normalize_backward(delta, normal, means, factor):
    """As `Kernels.normalize_backward`."""
    for i in range(delta.shape[0]):
        for c in range(delta.shape[1]):
            row, standard = delta[i, c], normal[i, c]
            first, second, f = means[0, c], means[1, c], factor[c]
            for j in range(row.size):
                row[j] = (row[j] - standard[j] * first - second) * f


@_kernel
def relu(z, out):
    """Of vectors; a NaN stays."""
    zero = z.dtype.type(0.0)
    # By itself, since for arrays that overlap LLVM's code takes the elements one by one.
    if z.ctypes.data == out.ctypes.data:
        for j in range(z.size):
            z[j] = zero if z[j] < zero else z[j]
        return
    for j in range(z.size):
        out[j] = zero if z[j] < zero else z[j]


@_kernel
def relu_backward(delta, a):
    """Of vectors: ``δ ← δ`` where a > 0, else 0."""
    zero = a.dtype.type(0.0)
    for j in range(a.size):
        delta[j] *= a[j] > zero
