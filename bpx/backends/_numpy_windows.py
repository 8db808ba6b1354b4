"""Windows that slide over images, faster than the standard allows to say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ._base import Array, Backend


class NumpyWindows(Backend):
    """Of `NumpyBackend`."""

    def products(self, a: Array, b: Array, out: Array) -> Array:
        return np.matmul(a, b, out=out)  # 128 of (500 × 40)(40 × 64): 5.1 ms, with a copy 6.1

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

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        if len(sliding.size) != 2 or sliding.size[0] == 1:
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
        # On each core a part: its time is the same, 1.3 ms of one for 128 × 20 × 24 × 24 by 2 × 2.
        def work(part: int, slices: list[slice]) -> None:
            for rows in slices:
                self._window_max(x[rows], sliding, out[rows])

        self.side_by_side(work, self.parts(len(x), math.prod(x.shape[1:])))
        return out

    def window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> Array:
        # In slices that stay in the caches: of the same 4.4 ms, and at once 7.0.
        def work(part: int, slices: list[slice]) -> None:
            for rows in slices:
                arrays = delta[rows], x[rows], largest[rows]
                self._window_max_backward(*arrays, sliding, out[rows])

        self.side_by_side(work, self.parts(len(x), math.prod(x.shape[1:])))
        return out

    # Of a slice of the rows.

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
