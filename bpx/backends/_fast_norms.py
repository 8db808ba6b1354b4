"""NumPy with Numba: normalization of vectors."""

from __future__ import annotations

from typing import Any

from ._base import Array
from ._fast_windows import FastWindows, are_dense, call


class FastNorms(FastWindows):
    """By compiled loops (`_numba_norms`)."""

    def batch_norm(self, x: Array, *others: Any) -> Array:
        running_mean, running_variance, scale, shift, _, _, slope, normal, out = others
        arrays = running_mean, running_variance, scale, shift, slope, normal, out
        if not are_dense(x, *arrays):
            return super().batch_norm(x, *others)
        call("_numba_norms", "batch_norm", x, *others)
        return out

    def batch_norm_backward(
        self, delta: Array, normal: Array, factor: Array, room: Array, sums: Array
    ) -> Array:
        arrays = delta, normal, factor, sums
        if not are_dense(*arrays):
            return super().batch_norm_backward(delta, normal, factor, room, sums)
        call("_numba_norms", "batch_norm_backward", *arrays)
        return delta

    def running_norm(
        self, x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: float
    ) -> Array:
        arrays = x, mean, variance, scale, shift
        if not are_dense(*arrays):
            return super().running_norm(*arrays, epsilon)
        call("_numba_norms", "running_norm", *arrays, epsilon)
        return x

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
        if not are_dense(x, scale, shift, slope, normal, out):
            return super().layer_norm(x, scale, shift, epsilon, slope, normal, out)
        call("_numba_norms", "layer_norm", x, scale, shift, epsilon, slope, normal, out)
        return out

    def layer_norm_backward(
        self, delta: Array, normal: Array, scale: Array, slope: Array, room: Array, sums: Array
    ) -> Array:
        arrays = delta, normal, scale, slope, sums
        if not are_dense(*arrays):
            return super().layer_norm_backward(delta, normal, scale, slope, room, sums)
        call("_numba_norms", "layer_norm_backward", *arrays)
        return delta
