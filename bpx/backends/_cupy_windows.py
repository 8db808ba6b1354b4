"""Images on CuPy: windows that slide over them, convolutions, and numbers for each channel."""

from __future__ import annotations

import math
from typing import Any

from . import _cuda
from ._base import Array
from ._cupy_products import CupyProducts
from ._windows import Room


class CupyWindows(CupyProducts):
    """What `CupyBackend` does by the kernels of images.cu, convolution.cu and channels.cu.

    Convolutions in float32 and float64 read the windows where they lie; those in lower precision
    are cuBLAS's products of patches.
    """

    # --- convolutions ---------------------------------------------------------------------------

    def parts_of_windows(
        self, rows: int, channels: int, weights: tuple[int, ...], sliding: Any
    ) -> list[list[slice]]:
        if self._in_place(sliding) is not None:
            return [[slice(0, rows)]]
        return super().parts_of_windows(rows, channels, weights, sliding)

    def convolve(self, x: Array, weights: Array, sliding: Any, room: Room, out: Array) -> Array:
        geometry = self._in_place(sliding, x, weights, out)
        if geometry is None:
            return super().convolve(x, weights, sliding, room, out)
        samples, _, into, of = sizes = _sizes(x, weights)
        matrix = of, samples * math.prod(sliding.counts), into * sliding.elements
        return self._by_tiles("convolve", (x, weights), out, 0.0, matrix, sizes, geometry)

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
        geometry = self._in_place(sliding, x, delta, out)
        if geometry is None:
            patched = patched and self._in_place(sliding) is None  # else `convolve` wrote none
            return super().convolve_weights(x, delta, sliding, room, out, beta, patched)
        samples, _, into, of = sizes = _sizes(x, out)
        matrix = of, into * sliding.elements, samples * math.prod(sliding.counts)
        return self._by_tiles("convolve_weights", (x, delta), out, beta, matrix, sizes, geometry)

    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        geometry = self._in_place(sliding, delta, weights, out)
        if geometry is None:
            return super().convolve_inputs(delta, weights, sliding, room, out)
        samples, _, into, of = sizes = _sizes(out, weights)
        matrix = into, samples * math.prod(sliding.lengths), of * sliding.elements
        arrays = delta, weights
        return self._by_tiles("convolve_inputs", arrays, out, 0.0, matrix, sizes, geometry)

    def _by_tiles(
        self,
        name: str,
        arrays: tuple[Array, Array],
        out: Array,
        beta: float,
        matrix: tuple[int, int, int],
        sizes: tuple[int, int, int, int],
        geometry: tuple[int, ...],
    ) -> Array:
        """``out ← β·out + `` a product by a kernel, of (rows, columns, depth) in each group."""
        groups, (rows, columns, depth) = sizes[1], matrix
        parts, step = _cuda.parts_of_depth(groups, rows, columns, depth)
        alone = parts == 1 and beta == 0.0
        to = out if alone else self.empty((parts, out.size), out.dtype)
        threads = _cuda.a_tile(groups, rows, columns, parts)
        self._launch(name, threads, out, *arrays, to, parts, step, *sizes, *geometry)
        return out if alone else self.sum_rows(to, out, 1.0, beta)

    def _in_place(self, sliding: Any, *arrays: Array) -> tuple[int, ...] | None:
        """The geometry of windows that convolutions read where they lie; None: by patches."""
        if self._precision != "float32" or (arrays and not self._dense(*arrays)):
            return None
        return _cuda.geometry(sliding)

    # --- windows --------------------------------------------------------------------------------

    def patches(self, x: Array, sliding: Any, out: Array) -> Array:
        count = out.size // sliding.elements
        done = self._slide("patches", sliding, count, x, out)
        return out if done else super().patches(x, sliding, out)

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        windows, axes = math.prod(sliding.counts), len(sliding.size)
        source, steps = patches, (sliding.elements * windows, windows)
        if not any(patches.strides[2 : 2 + axes]):  # broadcast: each element of a window the same
            source, steps = patches[:, :, *[0] * axes], (windows, 0)
        done = self._slide("fold", sliding, out.size, source, out, steps=steps)
        return out if done else super().fold(patches, sliding, out)

    def window_sum(self, x: Array, sliding: Any, out: Array) -> Array:
        done = self._slide("window_sum", sliding, out.size, x, out)
        return out if done else super().window_sum(x, sliding, out)

    def window_max(self, x: Array, sliding: Any, out: Array) -> Array:
        done = self._slide("window_max", sliding, out.size, x, out)
        return out if done else super().window_max(x, sliding, out)

    def window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> Array:
        arrays = delta, x, largest, out
        done = self._slide("window_max_backward", sliding, out.size, *arrays)
        return out if done else super().window_max_backward(delta, x, largest, sliding, out)

    def _slide(
        self, name: str, sliding: Any, count: int, *arrays: Array, steps: tuple[int, ...] = ()
    ) -> bool:
        """Run a kernel of images.cu on `count` threads; False if it does not take these."""
        geometry = _cuda.geometry(sliding)
        if geometry is None or not self._dense(*arrays):
            return False
        arguments = *arrays, count, *steps, *geometry
        self._launch(name, _cuda.an_element(count), arrays[0], *arguments)
        return True

    # --- channels -------------------------------------------------------------------------------

    def sum_channels(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if x.ndim == 2:
            return self.sum_rows(x, out, alpha, beta)
        if not self._dense(x, out):
            return super().sum_channels(x, out, alpha, beta)
        return self._sum_channels("sum_channels", (x,), out, alpha, beta)

    def moments(self, x: Array, mean: Array, room: Array, out: Array, beta: float = 0.0) -> Array:
        if not self._dense(x, mean, out):
            return super().moments(x, mean, room, out, beta)
        return self._sum_channels("moments", (x, mean), out, 1.0, beta)

    def batch_statistics(self, mean: Array, *others: Any) -> Array:
        *arrays, n, momentum, epsilon, out = others
        if not self._dense(mean, *arrays, out):
            return super().batch_statistics(mean, *others)
        numbers = map(float, (n, momentum, epsilon))  # which a kernel takes for what they are
        threads = _cuda.an_element(mean.size)
        self._launch("batch_statistics", threads, out, mean, *arrays, out, mean.size, *numbers)
        return out

    def normalize(self, x: Array, numbers: Array, normal: Array, out: Array) -> Array:
        if not self._dense(x, numbers, normal, out):
            return super().normalize(x, numbers, normal, out)
        threads, sizes = _cuda.an_element(x.size), _of_channels(x)
        self._launch("normalize", threads, out, x, numbers, normal, out, *sizes)
        return out

    def normalize_sums(
        self, delta: Array, normal: Array, room: Array, out: Array, beta: float = 0.0
    ) -> Array:
        if not self._dense(delta, normal, out):
            return super().normalize_sums(delta, normal, room, out, beta)
        return self._sum_channels("normalize_sums", (delta, normal), out, 1.0, beta)

    def normalize_backward(
        self, delta: Array, normal: Array, means: Array, factor: Array
    ) -> Array:
        if not self._dense(delta, normal, means, factor):
            return super().normalize_backward(delta, normal, means, factor)
        threads, arrays = _cuda.an_element(delta.size), (delta, normal, means, factor)
        self._launch("normalize_backward", threads, delta, *arrays, *_of_channels(delta))
        return delta

    # --- rows -----------------------------------------------------------------------------------

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
        arrays = x, scale, shift, slope, normal, out
        if not self._dense(*arrays):
            return super().layer_norm(x, scale, shift, epsilon, slope, normal, out)
        threads = _cuda.a_row(x.shape[0])
        self._launch("layer_norm", threads, out, *arrays, *x.shape, float(epsilon))
        return out

    def layer_norm_backward(
        self, delta: Array, normal: Array, scale: Array, slope: Array, room: Array, sums: Array
    ) -> Array:
        arrays = delta, normal, scale, slope
        if not self._dense(*arrays, sums):
            return super().layer_norm_backward(delta, normal, scale, slope, room, sums)
        self.normalize_sums(delta, normal, room, sums)
        threads = _cuda.a_row(delta.shape[0])
        self._launch("layer_norm_backward", threads, delta, *arrays, *delta.shape)
        return delta

    def _sum_channels(
        self, name: str, arrays: tuple[Array, ...], out: Array, alpha: float, beta: float
    ) -> Array:
        """``out ← β·out + α·`` sums of parts of each channel, by the kernel, and of the parts."""
        rows, channels, each = sizes = _of_channels(arrays[0])
        if each == 1:  # a channel is a column
            parts = _cuda.parts_of_column(rows, channels)
            threads = _cuda.a_column(rows, channels, parts)
        else:
            parts = _cuda.parts_of_channel(channels, rows * each)
            threads = _cuda.a_channel(channels, parts, rows * each)
        numbers = isinstance(alpha, float) and isinstance(beta, float)  # not on the device
        alone = parts == 1 and numbers and (alpha, beta) == (1.0, 0.0)
        to = out if alone else self.empty((parts, out.size), out.dtype)
        self._launch(name, threads, out, *arrays, to, *sizes, parts)
        return out if alone else self.sum_rows(to, out, alpha, beta)


def _sizes(x: Array, weights: Array) -> tuple[int, int, int, int]:
    """Samples, groups, and a group's channels of the input and of the output."""
    into = weights.shape[1]
    groups = x.shape[1] // into
    return x.shape[0], groups, into, weights.shape[0] // groups


def _of_channels(x: Array) -> tuple[int, int, int]:
    """Rows, channels, and the elements of a row's channel."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])
