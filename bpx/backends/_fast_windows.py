"""NumPy with Numba: windows that slide over images."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from . import _machine_code, _rows
from ._base import ARRAYS, Array, in_slices
from ._numpy import AT_ONCE, NumpyBackend, scale_by
from ._numpy_windows import PATCH, going_back
from ._windows import Room, Shape

# What a multiply-add by rows costs, if one in BLAS costs 1: on one core, by layers of 16 to 128
# channels.
ROW = 0.75

# Elements of a line of a window, with all channels, from which on the gradient of the weights goes
# by tiles with these as columns. 16 images of 32 × 32 with 3 channels by 3 × 3 to 16 take 0.26 ms
# by tiles and 0.24 by loops, with 4 channels 0.26 and 0.29.
NARROW = 12

# Rows with which a tile is about as fast as it can be.
FULL = 4

# Outputs of a group of one channel, at most, and places of an image, at least, from which on
# `_numba_depthwise` wins: 16 images of 32 channels with 4 outputs each on 16 × 16 take 0.62 ms
# there and 0.86 as rows, of 20 outputs 0.46 and 0.30; of 256 channels on 7 × 7 0.92 and 1.07, and
# 64 of 64 channels on 4 × 4 0.73 and 0.41.
OUTPUTS, PLACES = 4, 49


class FastWindows(NumpyBackend):
    """Compiled: `_numba_channels`, `_numba_depthwise`, `_numba_rows`, `_numba_windows`."""

    def parts_of_windows(
        self, rows: int, channels: int, weights: Shape, sliding: Any
    ) -> list[list[slice]]:
        if rows == 1:
            return [[slice(0, 1)]]
        windows = math.prod(sliding.counts)
        held = channels * math.prod(sliding.lengths) + weights[0] * windows
        if _by_channel(channels, weights, sliding):
            return self.parts(rows, held)
        cost = ROW * math.prod(weights) * windows / PATCH
        parts = self.parts(rows, held, cost, _rows.TILE // sliding.counts[-1])
        first = parts[0][0].stop if rows else 0
        if not all(_by_rows(first, channels, weights, sliding)):
            return super().parts_of_windows(rows, channels, weights, sliding)
        return parts

    def convolve(self, x: Array, weights: Array, sliding: Any, room: Room, out: Array) -> Array:
        m, channels = x.shape[:2]
        dense = are_dense(x, out) and weights.dtype == x.dtype
        matrices, _ = self._by_group(weights, channels)
        if dense and _by_channel(channels, weights.shape, sliding):
            one = _rows.one_by_one(sliding)
            arrays = np.ascontiguousarray(matrices), one.shifts, one.planes, one.numbers_of_one
            call("_numba_depthwise", "convolve", _images(x), *arrays, _images(out))
            return out
        by_rows, _ = _by_rows(m, channels, weights.shape, sliding)
        if not (by_rows and dense):
            return super().convolve(x, weights, sliding, room, out)
        layout = _rows.layout(sliding, m)
        arrays = np.ascontiguousarray(matrices), layout.shifts, layout.planes, layout.numbers
        call("_numba_rows", "convolve", _images(x), *arrays, _images(out))
        return out

    def convolve_weights(
        self,
        x: Array,
        delta: Array,
        sliding: Any,
        room: Room,
        out: Array,
        beta: float = 0.0,
        patched: bool = False,
    ) -> Array:
        m, channels = x.shape[:2]
        dense = are_dense(x, delta) and out.dtype == x.dtype
        by_channel = _by_channel(channels, out.shape, sliding)
        by_rows, _ = _by_rows(m, channels, out.shape, sliding)
        if not (dense and (by_channel or by_rows)):
            patched = patched and not (by_channel or by_rows)  # `convolve` has left none
            return super().convolve_weights(x, delta, sliding, room, out, beta, patched)
        matrices, _ = self._by_group(out, channels)
        if by_channel:
            one, sums = _rows.one_by_one(sliding), np.zeros(matrices.shape, out.dtype)
            arrays = one.shifts, one.planes, one.numbers_of_one, sums
            call("_numba_depthwise", "convolve_weights", _images(x), _images(delta), *arrays)
            return self.axpby(sums.reshape(out.shape), out, 1.0, beta)
        into, size = out.shape[1], (1, *sliding.size)[-2:]
        if into * size[1] >= NARROW:
            found = np.zeros((*matrices.shape[:2], *size, into), out.dtype)
            images, windows = (_images(x), _images(delta)), _rows.windows(sliding, into)
            pixels = np.zeros(into * math.prod(sliding.padded), x.dtype)
            call("_numba_rows", "sum_over_windows", *images, *windows, pixels, found)
            return self.axpby(np.moveaxis(found, -1, 2).reshape(out.shape), out, 1.0, beta)
        layout, sums = _rows.layout(sliding, m), _rows.filled(matrices)
        scale_by(sums, beta)
        images, arrays = _images(x), (layout.shifts, layout.planes, layout.numbers, sums)
        if layout.under is not None:  # by δ's zeros all pixels of a row are multiplied
            images = np.where(layout.under, images, x.dtype.type(0.0))
        call("_numba_rows", "convolve_weights", images, _images(delta), *arrays)
        matrices[...] = sums[:, : matrices.shape[1], : matrices.shape[2]]
        return out

    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        m, channels = out.shape[:2]
        dense = are_dense(delta, out) and weights.dtype == out.dtype
        if dense and _by_channel(channels, weights.shape, sliding):
            back = _rows.back_to_inputs(sliding)
            turned = np.ascontiguousarray(weights.reshape(channels, 1, -1))  # the group's outputs
            arrays = turned, back.shifts, back.planes, back.numbers_of_one
            call("_numba_depthwise", "convolve", _images(delta), *arrays, _images(out))
            return out
        _, by_rows = _by_rows(m, channels, weights.shape, sliding)
        layout, into = _rows.layout(sliding, max(1, m)), weights.shape[1]
        alone = layout.images == 1 and going_back(sliding) is not None
        if not (by_rows and dense) or alone:  # rather as a convolution of δ
            return super().convolve_inputs(delta, weights, sliding, room, out)
        groups = channels // into
        by_group = weights.reshape(groups, -1, into, sliding.elements)
        turned = np.ascontiguousarray(by_group.transpose(0, 3, 2, 1))
        arrays = turned, layout.shifts, layout.planes, layout.numbers
        if layout.under is not None:
            out.fill(0.0)
        call("_numba_rows", "convolve_inputs", _images(delta), *arrays, _images(out))
        return out

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        if len(sliding.size) != 2 or not are_dense(patches, out):
            return super().fold(patches, sliding, out)
        # 4 × 20 × 12 × 12 with windows of 5 × 5 take 0.14 ms, and 0.25 in NumPy.
        before = (pair[0] for pair in sliding.padding)
        numbers = *sliding.stride, *sliding.dilation, *before
        call("_numba_windows", "fold", patches, *numbers, out)
        return out

    def _window_max(self, x: Array, sliding: Any, out: Array) -> None:
        if not _two_by_two(sliding, x, out):
            super()._window_max(x, sliding, out)
            return
        # 8 × 20 × 24 × 24 by 2 × 2 take 0.02 ms, and 0.09 in NumPy.
        call("_numba_windows", "window_max", x, out)

    def _window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> None:
        if not _two_by_two(sliding, delta, x, largest, out):
            super()._window_max_backward(delta, x, largest, sliding, out)
            return
        # 8 × 20 × 24 × 24 by 2 × 2 take 0.04 ms, and 0.25 in NumPy.
        call("_numba_windows", "window_max_backward", delta, x, largest, out)

    # --- numbers for each channel ---------------------------------------------------------------

    def parts_of_places(self, shape: Shape) -> list[list[slice]]:
        if len(shape) == 2:
            return super().parts_of_places(shape)
        # On one core: 128 × 16 × 32 × 32 take 0.15 to 0.35 ms, and another one 0.08 to wake up, if
        # it is quick. In training normalization took 26 ms of 145 on two, and 17 on one.
        step = max(1, AT_ONCE // (ARRAYS * math.prod(shape[1:])))
        return [in_slices(0, shape[0], step)]

    # Each pass once over its arrays: of 16 × 16 × 32 × 32, in µs, moments 19 against NumPy's 109,
    # normalize 41 against 308, normalize_sums 27 against 50, normalize_backward 28 against 208.

    def moments(self, x: Array, mean: Array, room: Array, out: Array, beta: float = 0.0) -> Array:
        if not _in_places(x, mean, out):
            return super().moments(x, mean, room, out, beta)
        scale_by(out, beta)
        call("_numba_channels", "moments", _places(x), mean, out)
        return out

    def batch_statistics(self, mean: Array, *others: Any) -> Array:
        *arrays, _, _, _, out = others
        if not are_dense(mean, *arrays, out):
            return super().batch_statistics(mean, *others)
        call("_numba_channels", "batch_statistics", mean, *others)
        return out

    def normalize(self, x: Array, numbers: Array, normal: Array, out: Array) -> Array:
        if not _in_places(x, numbers, normal, out):
            return super().normalize(x, numbers, normal, out)
        arrays = _places(x), numbers, _places(normal), _places(out)
        call("_numba_channels", "normalize", *arrays)
        return out

    def normalize_sums(
        self, delta: Array, normal: Array, room: Array, out: Array, beta: float = 0.0
    ) -> Array:
        if not _in_places(delta, normal, out):
            return super().normalize_sums(delta, normal, room, out, beta)
        scale_by(out, beta)
        call("_numba_channels", "normalize_sums", _places(delta), _places(normal), out)
        return out

    def normalize_backward(
        self, delta: Array, normal: Array, means: Array, factor: Array
    ) -> Array:
        if not _in_places(delta, normal, means, factor):
            return super().normalize_backward(delta, normal, means, factor)
        arrays = _places(delta), _places(normal), means, factor
        call("_numba_channels", "normalize_backward", *arrays)
        return delta


def call(module: str, function: str, first: Array, *others: Any) -> None:
    """A compiled function of arrays of one dtype, the first of them among its arguments."""
    if _machine_code.load(module, function, first.dtype).call(first, *others):
        raise MemoryError("there is no memory for a step of a layer: take smaller batches")


def _in_places(x: Array, *others: Array) -> bool:
    """Whether each channel has places, one after another."""
    return x.ndim > 2 and are_dense(x, *others)


def _places(array: Array) -> Array:
    """(m, c, places), a view."""
    return array.reshape((*array.shape[:2], -1))


def are_dense(*arrays: Array) -> bool:
    """Whether the compiled loops take them, which know one dtype, and no gaps."""
    dtype = arrays[0].dtype
    for array in arrays:  # in half the time of `all` and a generator
        if array.dtype != dtype or not array.flags.c_contiguous or not array.size:
            return False
    return dtype.isnative


def _images(array: Array) -> Array:
    """(m, c, h, w), a view: a sequence is an image of one line."""
    return array if array.ndim == 4 else array[:, :, None]


@lru_cache(256)
def _by_channel(channels: int, weights: Shape, sliding: Any) -> bool:
    """Whether each channel by itself beats rows, whose products have few rows then."""
    few = weights[1] == 1 and weights[0] <= OUTPUTS * channels
    some = len(sliding.size) <= 2 and sliding.elements > 1
    large = math.prod(sliding.lengths) >= PLACES
    return few and some and large and sliding.touches


@lru_cache(256)
def _by_rows(rows: int, channels: int, weights: Shape, sliding: Any) -> tuple[bool, bool]:
    """Whether rows beat patches: to the output and for the weights; back to the input."""
    if not rows or len(sliding.size) > 2 or sliding.elements == 1:
        return False, False
    into, of = weights[1], weights[0] * weights[1] // channels  # of a group
    cost, most = ROW * _rows.layout(sliding, rows).cost, 1.0 + PATCH / of
    few = max(1.0, FULL / into)  # channels, which then are a tile's rows
    return cost < most, few * cost < most


def _two_by_two(sliding: Any, *arrays: Array) -> bool:
    """Whether windows are 2 × 2 and side by side, and the compiled loops take the arrays."""
    plain = sliding.dilation == (1, 1) and sliding.padded == sliding.lengths
    sized = sliding.size == sliding.stride == (2, 2)
    return plain and sized and are_dense(*arrays)
