"""Images in a row of pixels for each channel, so that a convolution is a sum of shifted rows.

With zeros between its lines, an image's elements under element (u, v) of all windows are a stretch
of its row, a shift away from those under element (0, 0): windows are never written out. The zeros
after a line are also those before the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

# What is taken at once: channels and taps, by loops; and elements of the lines of several images.
CHANNELS, TAPS, TILE = 4, 3, 512

# In elements, what each stretch costs besides; and what it costs to put pixels side by side.
SHORT, TURNED = 45.0, 1.1


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Rows, and what is worked on at once.

    Either an image has rows by itself, and a stretch is all of the output, with the zeros between
    its lines; or several images' pixels are side by side, and a stretch is a line of the output.

    Attributes
    ----------
    shifts : ndarray of int64
        In pixels, of each element of a window.
    start, line, pixels : int
        In pixels: where an image begins in its row, from one line to the next, of a row.
    lines, images : int
        Of the output in a stretch; side by side, at most.
    cost : float
        For an element of the output, where one of a long stretch costs 1.
    """

    shifts: np.ndarray
    start: int
    line: int
    pixels: int
    lines: int
    images: int
    cost: float

    @property
    def numbers(self) -> tuple[int, ...]:
        """For the compiled loops."""
        return self.start, self.line, self.pixels, self.lines, self.images


@lru_cache(256)
def layout(sliding: Any, rows: int) -> RowLayout:
    """The better one for `rows` images under a `bpx.layers.sliding.Sliding` of stride 1."""
    top, left = _two([before for before, _ in sliding.padding], 0)
    (height, width), (down, right) = _two(sliding.counts, 1), _two(sliding.dilation, 1)
    line = max(sliding.padded[-1] - min(sliding.padding[-1]), width)
    shifts = [u * down * line + v * right for u, v in np.ndindex(_two(sliding.size, 1))]
    stretch = (height - 1) * line + width
    images = -(-rows // -(-rows // max(1, TILE // width)))  # in parts that are about the same
    kinds = (
        (height, 1, (stretch + SHORT) / (height * width)),
        (1, images, TURNED * (1.0 + SHORT / (width * images))),
    )
    place = top * line + left, line, stretch + shifts[-1]
    found = [RowLayout(np.asarray(shifts), *place, *kind) for kind in kinds]
    return min(found, key=lambda each: each.cost)


@lru_cache(256)
def windows(sliding: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """The first pixel of each window in a padded image, and how that is laid out.

    Its first pixel's line and column, its lines and their length, and the pixels from one element
    of a window to the next, down and to the right.
    """
    corner = _two([before for before, _ in sliding.padding], 0)
    lines, line = _two(sliding.padded, 1)
    (height, width), strides = _two(sliding.counts, 1), _two(sliding.stride, 1)
    rows, columns = strides[0] * np.arange(height)[:, None], strides[1] * np.arange(width)
    numbers = *corner, lines, line, *_two(sliding.dilation, 1)
    return (rows * line + columns).reshape(-1), numbers


def filled(weights: np.ndarray) -> np.ndarray:
    """Weights (..., channels, taps) with zeros up to what is taken at once."""
    *others, channels, taps = weights.shape
    out = np.zeros((*others, channels + -channels % CHANNELS, taps + -taps % TAPS), weights.dtype)
    out[..., :channels, :taps] = weights
    return out


def _two(numbers: Sequence[int], before: int) -> tuple[int, int]:
    """Along two axes: a sequence is an image of one line."""
    first, second = (before, *numbers)[-2:]
    return first, second
