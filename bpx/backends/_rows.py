"""Images in a row of pixels for each channel, so that a convolution is a sum of shifted rows.

With zeros between its lines, an image's elements under element (u, v) of all windows are a stretch
of its row, a shift away from those under element (0, 0): windows are never written out. The zeros
after a line are also those before the next one.

Where windows are several pixels apart, those pixels that lie so many apart are a plane of their
own, in which windows are side by side, and a channel's planes are one after the other.

Zeros are multiplied with pixels of other windows too, which adds nothing if these are finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

# What is taken at once: channels and taps, by loops; and elements of the lines of several images.
CHANNELS, TAPS, TILE = 4, 3, 512

# In elements, what a stretch costs besides; and a pixel that is put beside other images' pixels.
SHORT, TURNED = 45.0, 0.1


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Rows, and what is worked on at once.

    Either an image has rows by itself, and a stretch is all of the output, with the zeros between
    its lines; or several images' pixels are side by side, and a stretch is a line of the output.

    Attributes
    ----------
    shifts : ndarray of int64
        In pixels, of each element of a window.
    planes : ndarray of int64
        Those with a pixel under a window: of each the image's first line and column there, and
        the pixels before them in a row.
    under : ndarray of bool, or None
        An image's pixels that are under a window, if not all are.
    stride : tuple of int
        From one line, and from one column, of a plane to the next, in the image.
    line, pixels : int
        In pixels: from one line to the next, of a row.
    lines, images : int
        Of the output in a stretch; side by side, at most.
    apart : tuple of int
        From one line, and from one column, of the images to the next, in a row's lines.
    cost : float
        For an element of the output, where one of a long stretch costs 1.
    """

    shifts: np.ndarray
    planes: np.ndarray
    under: np.ndarray | None
    stride: tuple[int, int]
    line: int
    pixels: int
    lines: int
    images: int
    cost: float
    apart: tuple[int, int] = (1, 1)

    @cached_property
    def numbers(self) -> np.ndarray:
        """For the compiled loops."""
        return np.array([*self.stride, self.line, self.pixels, self.lines, self.images])

    @cached_property
    def numbers_of_one(self) -> np.ndarray:
        """For those that take one image at a time."""
        return np.array([*self.stride, *self.apart, self.line, self.pixels])


@lru_cache(256)
def layout(sliding: Any, rows: int) -> RowLayout:
    """The better one for `rows` images under a `bpx.layers.sliding.Sliding`."""
    one, width = one_by_one(sliding), sliding.counts[-1]
    images = -(-rows // -(-rows // max(1, TILE // width)))  # in parts that are about the same
    cost = (1.0 + TURNED * math.prod(one.stride)) * (1.0 + SHORT / (width * images))
    several = replace(one, lines=1, images=images, cost=cost)
    return min(one, several, key=lambda each: each.cost)


@lru_cache(256)
def back_to_inputs(sliding: Any) -> RowLayout:
    """Of one image of δ at a time, whose windows are the inputs' pixels.

    As if there were zeros between δ's pixels, where windows are several pixels apart. A window
    may not be all padding.
    """
    reach, stride, padding = sliding.reach, sliding.stride, sliding.padding
    lengths = tuple((n - 1) * step + 1 for n, step in zip(sliding.counts, stride, strict=True))
    zeros = tuple(
        (most - 1 - before, n + before - length)
        for most, (before, _), n, length in zip(
            reach, padding, sliding.lengths, lengths, strict=True
        )
    )
    made = one_by_one(replace(sliding, lengths=lengths, stride=(1,) * len(stride), padding=zeros))
    return replace(made, shifts=made.shifts[::-1].copy(), apart=_two(stride, 1))


@lru_cache(256)
def one_by_one(sliding: Any) -> RowLayout:
    """Of one image at a time."""
    stride, before = _two(sliding.stride, 1), _two([pair[0] for pair in sliding.padding], 0)
    lengths, counts = _two(sliding.lengths, 1), _two(sliding.counts, 1)
    windows = _two(sliding.size, 1), _two(sliding.dilation, 1), stride, before, counts
    (down, tops, lines), (right, lefts, columns) = map(_along, lengths, *windows)
    under = np.logical_and.outer(*map(_under, lengths, *windows))
    shared = min(sliding.padding[-1]) if stride[1] == 1 else 0  # by a line and the next
    line = max(columns - shared, counts[1])
    size = (lines - 1) * line + columns
    starts = {kind: k * size for k, kind in enumerate(product(tops, lefts))}
    planes = []
    for (top, left), start in starts.items():
        y, x = tops[top], lefts[left]
        into = (y + before[0]) // stride[0] * line + (x + before[1]) // stride[1]
        planes.append((y, x, start + into))
    shifts = [starts[top, left] + y * line + x for (top, y), (left, x) in product(down, right)]
    height, width = counts
    return RowLayout(
        shifts=np.asarray(shifts),
        planes=np.asarray(planes),
        under=None if under.all() else under,
        stride=stride,
        line=line,
        pixels=len(planes) * size,
        lines=height,
        images=1,
        cost=((height - 1) * line + width + SHORT) / (height * width),
    )


def _along(
    length: int, size: int, dilation: int, stride: int, before: int, count: int
) -> tuple[list[tuple[int, int]], dict[int, int], int]:
    """Along an axis: each element's plane, and place there in the first window; the image's first
    element in each of these planes; and their length.
    """
    places = [(u * dilation % stride, u * dilation // stride) for u in range(size)]
    firsts = {plane: (plane - before) % stride for plane, _ in places}
    ends = (before + length - 1) // stride + 1, max(place for _, place in places) + count
    return places, firsts, max(ends)


def _under(
    length: int, size: int, dilation: int, stride: int, before: int, count: int
) -> np.ndarray:
    """Along an axis: whether each element is under a window."""
    places = np.add.outer(dilation * np.arange(size), stride * np.arange(count)) - before
    return np.isin(np.arange(length), places)


@lru_cache(256)
def windows(sliding: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The first number of each window in a padded image with the channels of a pixel side by side,
    and how the image is laid out.

    Its first pixel's line and column, its lines and their length, and the pixels from one element
    of a window to the next, down and to the right.
    """
    corner = _two([before for before, _ in sliding.padding], 0)
    lines, line = _two(sliding.padded, 1)
    (height, width), strides = _two(sliding.counts, 1), _two(sliding.stride, 1)
    rows, columns = strides[0] * np.arange(height)[:, None], strides[1] * np.arange(width)
    numbers = *corner, lines, line, *_two(sliding.dilation, 1)
    return channels * (rows * line + columns).reshape(-1), np.array(numbers)


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
