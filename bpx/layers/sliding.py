"""Where the windows that slide over an image lie: the geometry of convolutions and of pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from operator import mul
from typing import Any, ClassVar, Self

from ..checks import of_batch, whole
from ._base import Layer, Shape

Index = tuple[Any, ...]


@dataclass(frozen=True)
class Sliding:
    """Windows on arrays (m, c, \\*lengths), a number for each of these axes.

    Window o covers the elements o·stride − before + k·dilation, k = 0 to size − 1; those beyond
    the ends are padding.

    Attributes
    ----------
    lengths : tuple of int
        Of the input.
    size, stride, dilation : tuple of int
    padding : tuple of (int, int)
        Before and after.

    Examples
    --------
    >>> from bpx.layers.sliding import Sliding
    >>> Sliding((28, 28), (5, 5), (1, 1), (1, 1), ((0, 0), (2, 2))).counts
    (24, 28)
    """

    lengths: Shape
    size: Shape
    stride: Shape
    dilation: Shape
    padding: tuple[tuple[int, int], ...]

    @cached_property
    def padded(self) -> Shape:
        """The input's lengths with padding."""
        return tuple(n + sum(pair) for n, pair in zip(self.lengths, self.padding, strict=True))

    @cached_property
    def reach(self) -> Shape:
        """The length of a window, gaps of the dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    @cached_property
    def counts(self) -> Shape:
        """How many windows there are: the output's lengths."""
        axes = zip(self.padded, self.reach, self.stride, strict=True)
        return tuple((n - reach) // stride + 1 for n, reach, stride in axes)

    @cached_property
    def elements(self) -> int:
        """The number of elements of a window."""
        return math.prod(self.size)

    @cached_property
    def touches(self) -> bool:
        """Whether no window is all padding."""
        axes = zip(self.padding, self.reach, strict=True)
        return all(max(pair) < reach for pair, reach in axes)

    @cached_property
    def partitions(self) -> bool:
        """Whether each element of the input is in exactly one window, and none is padding."""
        covered = tuple(map(mul, self.counts, self.size))
        return self.size == self.reach == self.stride and covered == self.padded == self.lengths

    @cached_property
    def positions(self) -> tuple[tuple[Index, Index, Index], ...]:
        """For each element of a window, in order, three indices that select the windows where it
        lies on the input: into patches (m, c, \\*size, \\*counts), the input, and
        (m, c, \\*counts).
        """
        found = []
        for chosen in product(*self.along):
            element, inside, reached = zip(*chosen, strict=True)
            found.append(((..., *element, *reached), (..., *inside), (..., *reached)))
        return tuple(found)

    @cached_property
    def in_padding(self) -> tuple[Index, ...]:
        """Indices into patches of the elements that are padding in some windows."""
        every = tuple(slice(0, count) for count in self.counts)
        elements = ((..., *k, *every) for k in product(*map(range, self.size)))
        whole = [patch for patch, _, _ in self.positions]
        return tuple(element for element in elements if element not in whole)

    @cached_property
    def along(self) -> tuple[tuple[tuple[int, slice, slice], ...], ...]:
        """`positions` by axis: k, and two slices for the windows where it lies on the input."""
        return tuple(tuple(self._along(axis)) for axis in range(len(self.size)))

    def _along(self, axis: int) -> Iterator[tuple[int, slice, slice]]:
        count, stride, n = self.counts[axis], self.stride[axis], self.lengths[axis]
        for k in range(self.size[axis]):
            start = k * self.dilation[axis] - self.padding[axis][0]  # in the first window
            first = max(0, -(start // stride))
            stop = min(count, (n - 1 - start) // stride + 1)
            if first < stop:
                begin, last = first * stride + start, (stop - 1) * stride + start
                yield k, slice(begin, last + 1, stride), slice(first, stop)


class OfImages(Layer):
    """A layer for samples that have channels and `axes` further axes."""

    axes: ClassVar[int]

    def bind(self, input_shape: Shape) -> Self:
        check_image(type(self).__name__, self.axes, input_shape)
        return super().bind(input_shape)


def per_axis(what: str, value: Any, axes: int, least: int = 1) -> Shape:
    """One whole number for all axes, or one for each, as a tuple.

    Raises
    ------
    TypeError, ValueError
        Anything else; the message calls it `what`.
    """
    if isinstance(value, tuple | list):
        if len(value) != axes:
            raise ValueError(f"expected {what} to be an integer or {axes} of them, got {value!r}")
        return tuple(whole(what, n, least) for n in value)
    return (whole(what, value, least),) * axes


def pairs_of_padding(
    padding: Any, lengths: Shape, size: Shape, stride: Shape, dilation: Shape
) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each axis: as many as `padding` says, or for ``"same"`` as many as
    make the output's lengths ⌈n/stride⌉, an odd one at the end.
    """
    if padding != "same":
        return tuple((p, p) for p in padding)
    found = []
    for n, k, step, gap in zip(lengths, size, stride, dilation, strict=True):
        missing = max(0, (-(-n // step) - 1) * step + (k - 1) * gap + 1 - n)
        found.append((missing // 2, missing - missing // 2))
    return tuple(found)


def check_windows(layer: str, sliding: Sliding) -> None:
    """ValueError unless a window fits into the padded input, and `stride` stays on it."""
    lengths, reach, padded = sliding.lengths, sliding.reach, sliding.padded
    if any(k > n for k, n in zip(reach, padded, strict=True)):
        spread = f" (dilation {sliding.dilation})" if reach != sliding.size else ""
        with_padding = f", {padded} with its padding" if padded != lengths else ""
        raise ValueError(
            f"expected the windows of {layer} to fit into an input of {lengths}{with_padding}, "
            f"got {reach}{spread}: take smaller ones, or pad; inputs are Input((channels, ...))"
        )
    if any(step > n for step, n in zip(sliding.stride, padded, strict=True)):
        raise ValueError(
            f"expected the stride of {layer} to be at most its padded input, {padded}, got "
            f"{sliding.stride}: there could never be a second window"
        )


def check_image(layer: str, axes: int, shape: Shape) -> None:
    """ValueError, with a remedy, unless samples have channels and `axes` further axes."""
    if len(shape) == axes + 1:
        return
    wanted = ("n", "h, w")[axes - 1]
    if len(shape) == axes:
        hint = f"channels come first: Input((1, {', '.join(map(str, shape))}))"
        if axes == 2:
            rows, columns = shape
            hint += (
                f", or put Reshape((1, {rows}, {columns})) before it if these are rows, such as "
                f"an Embedding's, or Reshape(({rows}, 1, {columns})) if they are channels"
            )
    else:
        hint = f"begin with Input((c, {wanted})), or put Reshape((c, {wanted})) before it"
    got = of_batch(shape)
    raise ValueError(f"{layer} expects inputs of shape (m, c, {wanted}), got {got}: {hint}")
