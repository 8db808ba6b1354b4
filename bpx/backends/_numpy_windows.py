"""Windows that slide over images, faster than the standard can express."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ._base import Array, Backend
from ._kernels import across
from ._numpy_elementwise import constant
from ._windows import Room, Shape

# What an element of a patch costs, if a multiply-add in BLAS costs 1: on one core with AVX2.
PATCH = 28.0

# How many times as many windows a convolution back to the input may have, at most.
MORE = 1.2


class NumpyWindows(Backend):
    """The kernels for windows of `NumpyBackend`."""

    def products(self, a: Array, b: Array, out: Array) -> Array:
        return np.matmul(a, b, out=out)  # 128 of (500 × 40)(40 × 64): 5.1 ms, with a copy 6.1

    def sum_of_products(self, a: Array, b: Array, out: Array, beta: float = 0.0) -> Array:
        if a.shape[-2] >= b.shape[-1]:
            return super().sum_of_products(a, b, out, beta)
        # As Σ bᵀaᵀ, for which OpenBLAS has other kernels: 4 of (32 × 256)(256 × 288), with b
        # transposed, take 0.22 ms against 0.23 on one core with AVX2, and with AVX-512 0.24
        # against 0.34.
        turned = b.swapaxes(-1, -2), a.swapaxes(-1, -2)
        super().sum_of_products(*turned, out.swapaxes(-1, -2), beta)
        return out

    def parts_of_windows(
        self, rows: int, channels: int, weights: Shape, sliding: Any
    ) -> list[list[slice]]:
        windows = math.prod(sliding.counts)
        patched, products = channels * sliding.elements * windows, math.prod(weights) * windows
        return self.parts(rows, patched, patched + products / PATCH)

    def patches(self, x: Array, sliding: Any, out: Array) -> Array:
        # In one copy from a view: 8 × 1 × 28 × 28 by 5 × 5 take 42 µs, element by element 60.
        if sliding.padded != sliding.lengths:
            axes = zip(sliding.padding, sliding.lengths, strict=True)
            padded = np.zeros((*x.shape[:2], *sliding.padded), x.dtype)
            inner: Any = (..., *(slice(pair[0], pair[0] + n) for pair, n in axes))
            padded[inner] = x
            x = padded
        along = x.strides[2:]
        gaps = (step * d for step, d in zip(along, sliding.dilation, strict=True))
        moves = (step * s for step, s in zip(along, sliding.stride, strict=True))
        np.copyto(out, as_strided(x, out.shape, (*x.strides[:2], *gaps, *moves)))
        return out

    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        back = going_back(sliding)
        if back is None:
            return super().convolve_inputs(delta, weights, sliding, room, out)
        # A convolution too, with the weights flipped: patches take half the time of a fold.
        into, channels = weights.shape[1], weights.shape[0] * weights.shape[1] // out.shape[1]
        turned = weights.reshape(-1, channels, into, sliding.elements)[..., ::-1].swapaxes(1, 2)
        turned = turned.reshape(out.shape[1], channels, *sliding.size)
        return self.convolve(delta, turned, back, room, out)

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        if sliding.partitions or len(sliding.size) != 2 or sliding.size[0] == 1:
            return super().fold(patches, sliding, out)
        # One axis after the other, whole rows of windows first: 128 × 20 × 12 × 12 with windows of
        # 5 × 5 take 7.8 ms, and element by element 16.
        m, c, _, width, _, columns = patches.shape
        rows = np.zeros((m, c, width, out.shape[2], columns), out.dtype)
        for k, inside, reached in sliding.along[0]:
            rows[:, :, :, inside] += patches[:, :, k, :, reached]
        out.fill(0.0)
        for k, inside, reached in sliding.along[1]:
            out[..., inside] += rows[:, :, k, :, reached]
        return out

    def window_max(self, x: Array, sliding: Any, out: Array) -> Array:
        # A part on each core; their times sum up to what one takes, 1.3 ms for 128 × 20 × 24 × 24
        # by 2 × 2.
        def work(rows: slice) -> None:
            self._window_max(x[rows], sliding, out[rows])

        self.over_rows(work, self.parts(len(x), math.prod(x.shape[1:])))
        return out

    def window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> Array:
        # In slices that stay in the caches: for the same arrays 4.4 ms, and all at once 7.0.
        def work(rows: slice) -> None:
            arrays = delta[rows], x[rows], largest[rows]
            self._window_max_backward(*arrays, sliding, out[rows])

        self.over_rows(work, self.parts(len(x), math.prod(x.shape[1:])))
        return out

    # --- numbers for each channel ---------------------------------------------------------------

    # Sums along rows as products: 16 × 16 × 32 × 32 take 24 µs, by add.reduce 55; those of
    # 128 × 64 × 4 × 4 take 10, and 108.

    def mean_places(self, x: Array, out: Array) -> Array:
        if not (x.flags.c_contiguous and out.flags.c_contiguous):
            return super().mean_places(x, out)
        places = math.prod(x.shape[2:])
        sums = out.reshape(-1)
        np.matmul(x.reshape(-1, places), constant(places, 1.0, x.dtype), out=sums)
        sums /= places
        return out

    def sum_channels(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if x.ndim == 2 or not x.flags.c_contiguous:
            return super().sum_channels(x, out, alpha, beta)
        places = math.prod(x.shape[2:])
        sums = x.reshape(-1, places) @ constant(places, 1.0, x.dtype)
        return self.sum_rows(sums.reshape(x.shape[:2]), out, alpha, beta)

    def moments(self, x: Array, mean: Array, room: Array, out: Array, beta: float = 0.0) -> Array:
        if x.ndim == 2 or not room.flags.c_contiguous:
            return super().moments(x, mean, room, out, beta)
        np.subtract(x, across(np, mean, x), out=room)
        self.sum_channels(room, out[0], 1.0, beta)
        self.sum_rows(_dots(room, room), out[1], 1.0, beta)
        return out

    def normalize(self, x: Array, numbers: Array, normal: Array, out: Array) -> Array:
        mean, left, slope, scale, shift = (across(np, each, x) for each in numbers)
        np.subtract(x, mean, out=normal)
        normal -= left
        normal *= slope
        np.multiply(normal, scale, out=out)
        out += shift
        return out

    def normalize_sums(
        self, delta: Array, normal: Array, room: Array, out: Array, beta: float = 0.0
    ) -> Array:
        if delta.ndim == 2 or not (delta.flags.c_contiguous and normal.flags.c_contiguous):
            return super().normalize_sums(delta, normal, room, out, beta)
        self.sum_rows(_dots(delta, normal), out[0], 1.0, beta)
        self.sum_channels(delta, out[1], 1.0, beta)
        return out

    # --- of a slice of the rows -----------------------------------------------------------------

    def _window_max(self, x: Array, sliding: Any, out: Array) -> None:
        super().window_max(x, sliding, out)

    def _window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> None:
        # Without temporaries: 128 × 20 × 24 × 24 by 2 × 2 take 3.7 ms, with them 11.
        here, given = np.empty(largest.shape, bool), np.empty_like(largest)
        out.fill(0.0)
        for _, inside, reached in sliding.positions:
            first, share, left = here[reached], given[reached], delta[reached]
            np.equal(x[inside], largest[reached], first)
            out[inside] += np.multiply(left, first, share)
            left -= share


def _dots(a: Array, b: Array) -> Array:
    """The dot products (m, c) of two arrays (m, c, ...)."""
    shape = (*a.shape[:2], math.prod(a.shape[2:]))  # of 0 rows -1 would not do
    return np.vecdot(a.reshape(shape), b.reshape(shape))


@lru_cache(256)
def going_back(sliding: Any) -> Any:
    """The windows of `convolve_inputs` on δ, if they exist and are hardly more; else None."""
    axes = zip(sliding.reach, sliding.padding, strict=True)
    padding = tuple((reach - 1 - before, reach - 1 - after) for reach, (before, after) in axes)
    more = math.prod(sliding.lengths) / math.prod(sliding.counts)
    apart = any(step > 1 for step in sliding.stride)
    if apart or more > MORE or any(zeros < 0 for pair in padding for zeros in pair):
        return None
    return replace(sliding, lengths=sliding.counts, padding=padding)
