"""Images in a row each, so that a convolution of stride 1 is a sum of shifted rows.

With zeros between its lines, an image's elements under element (u, v) of all windows are one
stretch of its row, a shift away from those under element (0, 0): windows are never written out.
The zeros behind a line are those before the next one too, and so between images, one below the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

# What compiled loops take at once: elements of a stretch, channels, and taps.
LANES, CHANNELS, TAPS = 32, 4, 3

JOINED = 512  # elements of a stretch from which a longer one gains nothing


@dataclass(frozen=True)
class Axis:
    """What is read and written along one axis.

    Attributes
    ----------
    before, count : int
        Of the source: zeros, and the elements after them.
    length : int
        With the zeros after these too.
    target : int
        Elements.
    shifts : tuple of int
        Of each element of a window.
    """

    before: int
    count: int
    length: int
    target: int
    shifts: tuple[int, ...]

    @property
    def pitch(self) -> int:
        """From the beginning of a line to the next one's."""
        shared = min(self.before, self.length - self.before - self.count)
        return max(self.length - shared, self.target)


class Numbers(NamedTuple):
    """What the compiled loops read of a `Flat`.

    In a row: where the first element is; from a line to the next, an image to the next, a channel
    to the next. Elements of the source and of the target: lines, and of a line. Images in a row.
    """

    start: int
    line: int
    image: int
    channel: int
    source: tuple[int, int]
    target: tuple[int, int]
    together: int


@dataclass(frozen=True, eq=False)
class Flat:
    """A convolution of rows.

    Attributes
    ----------
    numbers : Numbers
    taps : ndarray of int64
        In each channel the shift of each element of a window; the last again, up to a multiple of
        three.
    computed : float
        Elements that are computed for one of the target.
    """

    numbers: Numbers
    taps: np.ndarray
    computed: float


@lru_cache(256)
def of_windows(sliding: Any, channels: int) -> Flat:
    """From so many channels of the input of a `bpx.layers.sliding.Sliding` to its output."""

    def along(n: int, count: int, size: int, gap: int, before: int) -> Axis:
        shifts = tuple(k * gap for k in range(size))
        return Axis(before, n, count + shifts[-1], count, shifts)

    return _flat(sliding, channels, along)


@lru_cache(256)
def of_inputs(sliding: Any, channels: int) -> Flat:
    """Its adjoint, from so many channels of the output to the input."""

    def along(n: int, count: int, size: int, gap: int, before: int) -> Axis:
        # Input j is element k of window j + before − k·gap.
        zeros = max(0, (size - 1) * gap - before)
        shifts = tuple(zeros + before - k * gap for k in range(size))
        return Axis(zeros, min(count, before + n), zeros + before + n, n, shifts)

    return _flat(sliding, channels, along)


def _flat(sliding: Any, channels: int, along: Callable[..., Axis]) -> Flat:
    befores = (before for before, _ in sliding.padding)
    fields = sliding.lengths, sliding.counts, sliding.size, sliding.dilation, befores
    one = along(1, 1, 1, 1, 0)  # above a sequence
    lines, columns = [one, *(along(*numbers) for numbers in zip(*fields, strict=True))][-2:]
    pitch = columns.pitch
    image, stretch = lines.pitch * pitch, up_to(lines.target * pitch, LANES)
    together = max(1, JOINED // image) if image <= stretch else 1
    stretch = up_to((together - 1) * image + lines.target * pitch, LANES)
    shifts = [down * pitch + right for down, right in product(lines.shifts, columns.shifts)]
    numbers = Numbers(
        start=lines.before * pitch + columns.before,
        line=pitch,
        image=image,
        channel=max(shifts) + stretch,
        source=(lines.count, columns.count),
        target=(lines.target, columns.target),
        together=together,
    )
    taps = [c * numbers.channel + shift for c in range(channels) for shift in shifts]
    taps += taps[-1:] * (up_to(len(taps), TAPS) - len(taps))
    computed = stretch / (together * lines.target * columns.target)
    return Flat(numbers, np.asarray(taps, np.int64), computed)


def filled(weights: np.ndarray) -> np.ndarray:
    """Weights (groups, channels, taps) with zeros up to what is taken at once."""
    groups, channels, taps = weights.shape
    shape = groups, up_to(channels, CHANNELS), up_to(taps, TAPS)
    out = np.zeros(shape, weights.dtype)
    out[:, :channels, :taps] = weights
    return out


def up_to(n: int, at_once: int) -> int:
    """The next multiple."""
    return n + -n % at_once
