"""Windows on images by compiled loops, of the rows that one thread works on."""

from __future__ import annotations

import numpy as np
from numba import njit

# Without the interpreter's lock: several threads call them at once.
_jit = njit(cache=True, error_model="numpy", nogil=True)


@_jit
def _inside(k, stride, dilation, padding, n, count):
    """Of the windows that have their element k on the input, the first and past the last; and
    where it is in window 0."""
    start = k * dilation - padding
    first = 0 if start >= 0 else (stride - 1 - start) // stride
    stop = 0 if start >= n else (n - 1 - start) // stride + 1
    first = min(first, count)
    return first, max(first, min(stop, count)), start


@_jit
def fold(patches, stride, dilation, before, out):
    """As `Kernels.fold`, along two axes."""
    m, c, height, width, rows, columns = patches.shape
    h, w = out.shape[2], out.shape[3]
    zero = out.dtype.type(0.0)
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


@_jit
def window_max(x, height, out):
    """As `Kernels.window_max`, of windows two columns wide and side by side."""
    m, c, rows, columns = out.shape
    for i in range(m):
        for channel in range(c):
            for r in range(rows):
                largest = out[i, channel, r]
                for u in range(height):
                    row = x[i, channel, r * height + u]
                    for j in range(columns):
                        a, b = row[2 * j], row[2 * j + 1]
                        a = b if a < b or b != b else a
                        if u > 0:
                            b = largest[j]
                            a = b if a < b or b != b else a
                        largest[j] = a


@_jit
def window_max_backward(delta, x, largest, height, out):
    """As `Kernels.window_max_backward`, of the same windows."""
    m, c, rows, columns = delta.shape
    w = x.shape[3]
    zero = delta.dtype.type(0.0)
    for i in range(m):
        for channel in range(c):
            source, into = x[i, channel].reshape(-1), out[i, channel].reshape(-1)
            into[:] = zero
            for r in range(rows):
                left, most = delta[i, channel, r], largest[i, channel, r]
                for j in range(columns):
                    # Where the first is, by sums: branches would be guessed wrong.
                    at, value, none = r * height * w + 2 * j, most[j], 1
                    place = at
                    for _ in range(height):
                        none &= np.int64(source[at] != value)
                        place += none
                        none &= np.int64(source[at + 1] != value)
                        place += none * (w - 1)
                        at += w
                    if none == 0:  # as everywhere but in a window with NaN
                        into[place] = left[j]
                        left[j] = zero
