"""NumPy with Numba: windows that slide over images."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from . import _flat
from ._base import Array
from ._numpy import AT_ONCE, NumpyBackend
from ._windows import Room, Shape

# What a multiply-add by rows costs, and a patch, where one of BLAS's costs 1. On one core with
# AVX2 1.25 and 28 fit layers of 16 to 256 channels; wider vectors speed BLAS up more than these
# loops, so that rows are taken where they win clearly.
ROW, PATCH = 1.6, 28.0


class FastWindows(NumpyBackend):
    """Numba is imported at the first of them."""

    def parts_of_windows(
        self, rows: int, channels: int, weights: Shape, sliding: Any
    ) -> list[list[slice]]:
        if not (
            _by_rows(channels, weights, sliding) and _back_by_rows(channels, weights, sliding)
        ):
            return super().parts_of_windows(rows, channels, weights, sliding)
        held = channels * math.prod(sliding.lengths) + weights[0] * math.prod(sliding.counts)
        work = channels * sliding.elements * math.prod(sliding.counts)
        return self.parts(rows, work, max(1, AT_ONCE // held))

    def convolve(self, x: Array, weights: Array, sliding: Any, room: Room, out: Array) -> Array:
        if not (_by_rows(x.shape[1], weights.shape, sliding) and _fit(x, out)):
            return super().convolve(x, weights, sliding, room, out)
        from . import _numba_convolution

        flat = _flat.of_windows(sliding, weights.shape[1])
        matrices, _ = self._by_group(weights, x.shape[1])
        arrays = _flat.filled(matrices), flat.taps, flat.numbers
        _numba_convolution.convolve(_images(x), *arrays, _images(out))
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
        if not (_by_rows(x.shape[1], out.shape, sliding) and _fit(x, delta)):
            return super().convolve_weights(x, delta, sliding, room, out, beta, patched)
        from . import _numba_convolution

        flat = _flat.of_windows(sliding, out.shape[1])
        matrices, _ = self._by_group(out, x.shape[1])
        sums = _flat.filled(matrices)
        _scale(sums, beta)
        arrays = flat.taps, flat.numbers, sums
        _numba_convolution.convolve_weights(_images(x), _images(delta), *arrays)
        matrices[...] = sums[:, : matrices.shape[1], : matrices.shape[2]]
        return out

    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        if not (_back_by_rows(out.shape[1], weights.shape, sliding) and _fit(delta, out)):
            return super().convolve_inputs(delta, weights, sliding, room, out)
        from . import _numba_convolution

        channels, into = weights.shape[:2]
        groups = out.shape[1] // into
        flat = _flat.of_inputs(sliding, channels // groups)
        turned = weights.reshape(groups, channels // groups, into, -1).swapaxes(1, 2)
        arrays = _flat.filled(turned.reshape(groups, into, -1)), flat.taps, flat.numbers
        _numba_convolution.convolve(_images(delta), *arrays, _images(out))
        return out

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        dense = patches.flags.c_contiguous and out.flags.c_contiguous
        if len(sliding.size) != 2 or not dense:
            return super().fold(patches, sliding, out)
        from . import _numba_windows

        # 4 × 20 × 12 × 12 with windows of 5 × 5 take 0.14 ms, and 0.25 in NumPy.
        before = tuple(pair[0] for pair in sliding.padding)
        _numba_windows.fold(patches, sliding.stride, sliding.dilation, before, out)
        return out

    def _window_max(self, x: Array, sliding: Any, out: Array) -> None:
        if not _two_by_two(sliding, x, out):
            super()._window_max(x, sliding, out)
            return
        from . import _numba_windows

        # 8 × 20 × 24 × 24 by 2 × 2 take 0.02 ms, and 0.09 in NumPy.
        _numba_windows.window_max(x, out)

    def _window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> None:
        if not _two_by_two(sliding, delta, x, largest, out):
            super()._window_max_backward(delta, x, largest, sliding, out)
            return
        from . import _numba_windows

        # 8 × 20 × 24 × 24 by 2 × 2 take 0.04 ms, and 0.25 in NumPy.
        _numba_windows.window_max_backward(delta, x, largest, out)

    # --- numbers for each channel ---------------------------------------------------------------

    # Each pass once over its arrays: of 16 × 16 × 32 × 32, in µs, moments 19 for NumPy's 109,
    # normalize 41 for 308, normalize_sums 27 for 50, normalize_backward 28 for 208.

    def moments(self, x: Array, mean: Array, room: Array, out: Array, beta: float = 0.0) -> Array:
        if not _in_places(x):
            return super().moments(x, mean, room, out, beta)
        from . import _numba_channels

        _scale(out, beta)
        _numba_channels.moments(_places(x), mean, out)
        return out

    def normalize(
        self,
        x: Array,
        mean: Array,
        left: Array,
        slope: Array,
        scale: Array,
        shift: Array,
        normal: Array,
        out: Array,
    ) -> Array:
        numbers = mean, left, slope, scale, shift
        if not _in_places(x, normal, out):
            return super().normalize(x, *numbers, normal, out)
        from . import _numba_channels

        _numba_channels.normalize(_places(x), *numbers, _places(normal), _places(out))
        return out

    def normalize_sums(
        self, delta: Array, normal: Array, room: Array, out: Array, beta: float = 0.0
    ) -> Array:
        if not _in_places(delta, normal):
            return super().normalize_sums(delta, normal, room, out, beta)
        from . import _numba_channels

        _scale(out, beta)
        _numba_channels.normalize_sums(_places(delta), _places(normal), out)
        return out

    def normalize_backward(
        self, delta: Array, normal: Array, means: Array, factor: Array
    ) -> Array:
        if not _in_places(delta, normal):
            return super().normalize_backward(delta, normal, means, factor)
        from . import _numba_channels

        _numba_channels.normalize_backward(_places(delta), _places(normal), means, factor)
        return delta


def _scale(out: Array, beta: float) -> None:
    """``out ← β·out``, whatever is there if β = 0."""
    if beta == 0.0:
        out.fill(0.0)
    elif beta != 1.0:
        out *= beta


def _in_places(*arrays: Array) -> bool:
    """Each channel has places, one after another."""
    return all(array.ndim > 2 and array.flags.c_contiguous for array in arrays)


def _places(array: Array) -> Array:
    """(m, c, places), a view."""
    return array.reshape((*array.shape[:2], -1))


def _fit(*arrays: Array) -> bool:
    """What the compiled loops take."""
    return all(array.flags.c_contiguous and array.size for array in arrays)


def _images(array: Array) -> Array:
    """(m, c, h, w), a view: a sequence is an image of one line."""
    return array if array.ndim == 4 else array[:, :, None]


@lru_cache(256)
def _by_rows(channels: int, weights: Shape, sliding: Any) -> bool:
    """From so many channels to the output, and for the weights, rows are better than patches."""
    of = weights[0] * weights[1] // channels  # of a group
    return _step_by_step(sliding) and _pays(_flat.of_windows(sliding, weights[1]), of, of)


@lru_cache(256)
def _back_by_rows(channels: int, weights: Shape, sliding: Any) -> bool:
    """And back, from the output to the input."""
    of = weights[0] * weights[1] // channels
    more = math.prod(sliding.lengths) / math.prod(sliding.counts)
    return _step_by_step(sliding) and _pays(_flat.of_inputs(sliding, of), of, weights[1], more)


def _step_by_step(sliding: Any) -> bool:
    flat = len(sliding.size) <= 2 and all(step == 1 for step in sliding.stride)
    return flat and sliding.elements > 1


def _pays(flat: _flat.Flat, of: int, channels: int, more: float = 1.0) -> bool:
    """`of` products for each patch; `channels` of the target; `more` elements than windows."""
    filled = _flat.up_to(channels, _flat.CHANNELS) / channels
    return ROW * flat.computed * filled * more < 1.0 + PATCH / of


def _two_by_two(sliding: Any, *arrays: Array) -> bool:
    """Windows are so large and side by side, and the arrays have no gaps."""
    plain = sliding.dilation == (1, 1) and sliding.padded == sliding.lengths
    sized = sliding.size == sliding.stride == (2, 2)
    return plain and sized and all(array.flags.c_contiguous for array in arrays)
