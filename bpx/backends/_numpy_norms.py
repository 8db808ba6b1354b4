"""Normalization of vectors in few calls of NumPy: for small batches these take the time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ._base import Array
from ._numpy_elementwise import constant
from ._numpy_windows import NumpyWindows

# Rows of which a mean in float32 is off by at most 6e-5 of itself, and after the second pass by
# 6e-5 of that.
FEW_ROWS = 1024


class NumpyNorms(NumpyWindows):
    """The kernels for vectors of `NumpyBackend`."""

    def batch_norm(
        self,
        x: Array,
        running_mean: Array,
        running_variance: Array,
        scale: Array,
        shift: Array,
        momentum: float,
        epsilon: float,
        slope: Array,
        normal: Array,
        out: Array,
    ) -> Array:
        n = len(x)
        if n > FEW_ROWS:
            state = running_mean, running_variance
            numbers = scale, shift, momentum, epsilon
            return super().batch_norm(x, *state, *numbers, slope, normal, out)
        mean, left, variance = np.empty((3, len(scale)), x.dtype)
        self.sum_rows(x, mean, 1.0 / n)
        np.subtract(x, mean, normal)
        self.sum_rows(normal, left, 1.0 / n)
        normal -= left
        np.multiply(normal, normal, out)
        self.sum_rows(out, variance, 1.0 / n)
        np.add(variance, epsilon, slope)
        np.sqrt(slope, slope)
        np.reciprocal(slope, slope)
        mean += left
        for running, new, by in (
            (running_mean, mean, momentum),
            (running_variance, variance, momentum * (n / (n - 1.0))),
        ):
            running *= 1.0 - momentum
            new *= by
            running += new
        normal *= slope
        np.multiply(normal, scale, out)
        out += shift
        return out

    def batch_norm_backward(
        self, delta: Array, normal: Array, factor: Array, room: Array, sums: Array
    ) -> Array:
        if len(delta) > FEW_ROWS:
            return super().batch_norm_backward(delta, normal, factor, room, sums)
        self._sums_of_gradients(delta, normal, room, sums)
        first, second = sums / len(delta)
        normal *= first
        delta -= normal
        delta -= second
        delta *= factor
        return delta

    def layer_norm(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        epsilon: float,
        slope: Array,
        normal: Array,
        out: Array,
    ) -> Array:
        np.subtract(x, _row_means(x), normal)
        normal -= _row_means(normal)
        np.vecdot(normal, normal, slope[:, 0])
        slope /= x.shape[1]
        slope += epsilon
        np.sqrt(slope, slope)
        np.reciprocal(slope, slope)
        normal *= slope
        np.multiply(normal, scale, out)
        out += shift
        return out

    def layer_norm_backward(
        self, delta: Array, normal: Array, scale: Array, slope: Array, room: Array, sums: Array
    ) -> Array:
        self._sums_of_gradients(delta, normal, room, sums)
        delta *= scale
        share = np.vecdot(delta, normal)[:, None]
        share /= delta.shape[1]
        normal *= share
        delta -= _row_means(delta)
        delta -= normal
        delta *= slope
        return delta

    def _sums_of_gradients(self, delta: Array, normal: Array, room: Array, sums: Array) -> None:
        np.multiply(delta, normal, room)
        self.sum_rows(room, sums[0])
        self.sum_rows(delta, sums[1])


class PreparedNorm:
    """A norm of vectors, on the same arrays in each step.

    Attributes
    ----------
    x : array
        What it reads: as given, which stays as it is; or an array of its own, a layer's z.
    forward : callable
        It goes to `out`.
    sums : array
        After `backward` the gradients of γ and β, (2, n).
    """

    def __init__(
        self,
        backend: Any,
        norm: Any,
        theta: Array,
        running: Array,
        out: Array,
        x: Array | None = None,
    ) -> None:
        (m, n), real = out.shape, out.dtype
        self._room, normal = np.empty_like(out), np.empty_like(out)
        self.x, self.sums = self._room if x is None else x, np.empty((2, n), real)
        scale, shift = (theta[start : start + n] for start in (norm.scale, norm.shift))
        slope = np.empty(n if norm.of_batch else (m, 1), real)
        written = norm.epsilon, slope, normal, out
        self._saved = normal, scale, slope
        if norm.of_batch:
            state = [running[start : start + n] for start in (norm.mean, norm.variance)]
            given = *state, scale, shift, norm.momentum
            self.forward = partial(backend.batch_norm, self.x, *given, *written)
            self._back = backend.batch_norm_backward
        else:
            self.forward = partial(backend.layer_norm, self.x, scale, shift, *written)
            self._back = backend.layer_norm_backward

    def backward(self, delta: Array) -> list[Callable[[], Any]]:
        """The calls that turn δ after it into δ before."""
        normal, scale, slope = self._saved
        if slope.ndim == 2:
            return [partial(self._back, delta, normal, scale, slope, self._room, self.sums)]
        factor = np.empty_like(scale)
        back = partial(self._back, delta, normal, factor, self._room, self.sums)
        return [partial(np.multiply, slope, scale, factor), back]


def _row_means(x: Array) -> Array:
    """(m, 1). Row by row, so that the bits of one do not depend on how many there are."""
    means = np.vecdot(x, constant(x.shape[1], 1.0, x.dtype))[:, None]
    means /= x.shape[1]
    return means
