"""Windows on images by compiled loops, of the rows that one thread works on."""

from __future__ import annotations

from typing import Any

from numba import from_dtype, types

from ._jit import ARRAY, INTEGER, array, called_by_address, inlined


@inlined()
def _inside(k, stride, dilation, padding, n, count):
    """The first window that has its element k on the input, the first one beyond these, and where
    that element is in window 0; along one axis."""
    start = k * dilation - padding
    first = 0 if start >= 0 else (stride - 1 - start) // stride
    stop = 0 if start >= n else (n - 1 - start) // stride + 1
    first = min(first, count)
    return first, max(first, min(stop, count)), start


def fold(real: Any) -> Any:
    """As `Kernels.fold`, along two axes.

    A function of the patches; of stride, dilation and padding before, along each; and of `out`.
    """
    kind = from_dtype(real)

    def run(patches, down, across, gap_down, gap_across, above, left, out):
        patches, out = array(patches, 6, kind), array(out, 4, kind)
        stride, dilation, before = (down, across), (gap_down, gap_across), (above, left)
        m, c, height, width, rows, columns = patches.shape
        h, w = out.shape[2], out.shape[3]
        zero = kind(0.0)
        for i in range(m):
            for channel in range(c):
                image = out[i, channel]
                image[:] = zero
                for u in range(height):
                    top, bottom, y = _inside(u, stride[0], dilation[0], before[0], h, rows)
                    for v in range(width):
                        first, stop, x = _inside(v, stride[1], dilation[1], before[1], w, columns)
                        for r in range(top, bottom):
                            source = patches[i, channel, u, v, r, first:stop]
                            into = image[r * stride[0] + y, first * stride[1] + x :]
                            if stride[1] == 1:
                                for j in range(source.size):
                                    into[j] += source[j]
                            else:
                                for j in range(source.size):
                                    into[j * stride[1]] += source[j]

    return called_by_address(types.void, ARRAY, *[INTEGER] * 6, ARRAY)(run)


def window_max(real: Any) -> Any:
    """As `Kernels.window_max`, of windows of 2 × 2 side by side."""
    kind = from_dtype(real)

    def run(x, out):
        x, out = array(x, 4, kind), array(out, 4, kind)
        m, c, rows, columns = out.shape
        for i in range(m):
            for channel in range(c):
                for r in range(rows):
                    first, second = x[i, channel, 2 * r], x[i, channel, 2 * r + 1]
                    largest = out[i, channel, r]
                    for j in range(columns):
                        most = first[2 * j]
                        for value in (first[2 * j + 1], second[2 * j], second[2 * j + 1]):
                            most = value if most < value or value != value else most
                        largest[j] = most

    return called_by_address(types.void, *[ARRAY] * 2)(run)


def window_max_backward(real: Any) -> Any:
    """As `Kernels.window_max_backward`, of the same windows."""
    kind = from_dtype(real)

    def run(delta, x, largest, out):
        delta, x = array(delta, 4, kind), array(x, 4, kind)
        largest, out = array(largest, 4, kind), array(out, 4, kind)
        m, c, rows, columns = delta.shape
        zero = kind(0.0)
        out[:, :, 2 * rows :] = zero  # what fills no window
        out[:, :, :, 2 * columns :] = zero
        for i in range(m):
            for channel in range(c):
                for r in range(rows):
                    left, most = delta[i, channel, r], largest[i, channel, r]
                    first, second = x[i, channel, 2 * r], x[i, channel, 2 * r + 1]
                    above, below = out[i, channel, 2 * r], out[i, channel, 2 * r + 1]
                    for j in range(columns):
                        # Selections of floats, and no branches, which would be guessed wrong.
                        d, value = left[j], most[j]
                        above[2 * j] = d if first[2 * j] == value else zero
                        d = zero if first[2 * j] == value else d
                        above[2 * j + 1] = d if first[2 * j + 1] == value else zero
                        d = zero if first[2 * j + 1] == value else d
                        below[2 * j] = d if second[2 * j] == value else zero
                        d = zero if second[2 * j] == value else d
                        below[2 * j + 1] = d if second[2 * j + 1] == value else zero

    return called_by_address(types.void, *[ARRAY] * 4)(run)
