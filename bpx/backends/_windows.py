"""The kernels of windows that slide over images, in pure array API, beside `_kernels`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ._kernels import Array, Kernels, across, but_channels, kernel

Shape = tuple[int, ...]

# Lends an array of a shape, whose contents last until it is asked for another.
Room = Callable[[Shape], Array]


class WindowKernels(Kernels):
    """Kernels on the windows of a `bpx.layers.sliding.Sliding`, which they take as `sliding`."""

    @kernel
    def products(self, a: Array, b: Array, out: Array) -> Array:
        """``out ← a b`` for matrices in the last two axes, broadcast; returns `out`."""
        out[...] = a @ b
        return out

    @kernel
    def sum_of_products(self, a: Array, b: Array, out: Array, beta: float = 0.0) -> Array:
        """``out ← β·out + Σ_i a_i b_i``, over the first axis of stacks; returns `out`."""
        total = self.xp.sum(a @ b, axis=0, dtype=out.dtype)
        out[...] = total if beta == 0.0 else beta * out + total
        return out

    @kernel
    def patches(self, x: Array, sliding: Any, out: Array) -> Array:
        """Each window of x (m, c, \\*lengths) in a column: ``out`` (m, c, \\*size, \\*counts).

        Zero in the padding. Returns `out`.
        """
        for element in sliding.in_padding:
            out[element] = 0.0
        for element, inside, _ in sliding.positions:
            out[element] = x[inside]
        return out

    @kernel
    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        """The adjoint of `patches`: each element of ``out`` sums where it was; returns `out`.

        In the order of the window's elements, so that the bits are the same every time.
        """
        if sliding.partitions:  # 64 × 16 × 28 × 28 by 2 × 2 take 0.27 ms, and as sums 0.61
            for element, inside, _ in sliding.positions:
                out[inside] = patches[element]
            return out
        out[...] = 0.0
        for element, inside, _ in sliding.positions:
            out[inside] += patches[element]
        return out

    @kernel
    def convolve(self, x: Array, weights: Array, sliding: Any, room: Room, out: Array) -> Array:
        """``out ← ω ∗ x``: each window of x, weighed by each channel's weights.

        x (m, c, \\*lengths); weights (channels, c/groups, \\*size), by which the groups are known;
        out (m, channels, \\*counts), which it returns.
        """
        patches = self.patches(x, sliding, room(_patched(x.shape, sliding)))
        matrices, groups = self._by_group(weights, x.shape[1])
        self.products(
            matrices, self._columns(patches, groups, sliding), self._columns(out, groups, sliding)
        )
        return out

    @kernel
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
        """``out ← β·out + ∂/∂ω Σ δ ⊙ (ω ∗ x)``, as the weights of `convolve`; returns `out`.

        `patched`: since `convolve` had this x nobody else has used the room.
        """
        patches = room(_patched(x.shape, sliding))
        if not patched:
            self.patches(x, sliding, patches)
        matrices, groups = self._by_group(out, x.shape[1])
        windows = self.xp.matrix_transpose(self._columns(patches, groups, sliding))
        self.sum_of_products(self._columns(delta, groups, sliding), windows, matrices, beta)
        return out

    @kernel
    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        """``out ← ∂/∂x Σ δ ⊙ (ω ∗ x)``, as the x of `convolve`; returns `out`."""
        patches = room(_patched(out.shape, sliding))
        matrices, groups = self._by_group(weights, out.shape[1])
        self.products(
            self.xp.matrix_transpose(matrices),
            self._columns(delta, groups, sliding),
            self._columns(patches, groups, sliding),
        )
        return self.fold(patches, sliding, out)

    def _columns(self, array: Array, groups: int, sliding: Any) -> Array:
        """A window a column: (m, groups, ..., windows), a view."""
        windows = math.prod(sliding.counts)
        rows = math.prod(array.shape[1:]) // (groups * windows)
        return self.xp.reshape(array, (array.shape[0], groups, rows, windows))

    def _by_group(self, weights: Array, channels: int) -> tuple[Array, int]:
        """(groups, channels/groups, c/groups·elements), a view, and how many groups there are."""
        groups = channels // weights.shape[1]
        shape = (groups, weights.shape[0] // groups, math.prod(weights.shape[1:]))
        return self.xp.reshape(weights, shape), groups

    @kernel
    def window_sum(self, x: Array, sliding: Any, out: Array) -> Array:
        """The sum of each window of x, ``out`` (m, c, \\*counts), which it returns."""
        out[...] = 0.0
        for _, inside, reached in sliding.positions:
            out[reached] += x[inside]
        return out

    def spread(self, values: Array, sliding: Any, out: Array) -> Array:
        """The adjoint of `window_sum`: each element of ``out`` (m, c, \\*lengths) sums the values
        (m, c, \\*counts) of the windows that it is in; returns `out`.
        """
        (m, c, *counts), size = values.shape, sliding.size
        of_windows = values[:, :, *[None] * len(size), ...]
        return self.fold(self.xp.broadcast_to(of_windows, (m, c, *size, *counts)), sliding, out)

    @kernel
    def window_max(self, x: Array, sliding: Any, out: Array) -> Array:
        """The largest of each window, padding left out, or NaN; returns `out`."""
        out[...] = -self.xp.inf
        for _, inside, reached in sliding.positions:
            out[reached] = self.xp.maximum(out[reached], x[inside])
        return out

    @kernel
    def window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> Array:
        """``out ← `` each window's δ at the first of its largest elements; returns `out`.

        `delta` may be overwritten.
        """
        xp = self.xp
        out[...] = 0.0
        for _, inside, reached in sliding.positions:
            here = x[inside] == largest[reached]
            left = delta[reached]
            out[inside] += xp.where(here, left, xp.zeros_like(left))
            delta[reached] = xp.where(here, xp.zeros_like(left), left)  # it is given once
        return out

    # --- numbers for each channel, axis 1 --------------------------------------------------------

    @kernel
    def moments(self, x: Array, mean: Array, room: Array, out: Array, beta: float = 0.0) -> Array:
        """``out ← β·out + `` Σ (x − μ) and Σ (x − μ)² of each channel, (2, c); returns `out`.

        `room`, of x's shape, is overwritten.
        """
        xp, axes = self.xp, but_channels(x)
        room[...] = x
        room -= across(xp, mean, x)
        first = self._sum_over(room, axes)
        room *= room
        return self.axpby(xp.stack([first, self._sum_over(room, axes)]), out, 1.0, beta)

    @kernel
    def batch_statistics(
        self,
        mean: Array,
        sums: Array,
        running_mean: Array,
        running_variance: Array,
        scale: Array,
        shift: Array,
        n: float,
        momentum: float,
        epsilon: float,
        out: Array,
    ) -> Array:
        """``out ← `` the `numbers` of `normalize`, from the `moments` of n values about μ.

        All are of each channel, (c,). The running statistics are updated, the variance without
        bias. Returns `out`.
        """
        xp = self.xp
        left = sums[0, ...] / n
        variance = sums[1, ...] / n - left * left
        variance = xp.maximum(variance, xp.zeros_like(variance))
        found = (running_mean, mean + left), (running_variance, variance * (n / (n - 1.0)))
        for running, new in found:
            running *= 1.0 - momentum
            running += momentum * new
        slope = 1.0 / xp.sqrt(variance + epsilon)
        out[...] = xp.stack([mean, left, slope, scale, shift])
        return out

    @kernel
    def normalize(self, x: Array, numbers: Array, normal: Array, out: Array) -> Array:
        """``out ← γ·x̂ + β`` for x̂ = (x − μ − ν)/σ in each channel; returns `out`.

        `normal` becomes x̂. `numbers` are μ, ν, 1/σ, γ and β, (5, c).
        """
        mean, left, slope, scale, shift = (across(self.xp, numbers[k, ...], x) for k in range(5))
        normal[...] = x
        normal -= mean
        normal -= left
        normal *= slope
        out[...] = normal
        out *= scale
        out += shift
        return out

    @kernel
    def normalize_sums(
        self, delta: Array, normal: Array, room: Array, out: Array, beta: float = 0.0
    ) -> Array:
        """``out ← β·out + `` Σ δ·x̂ and Σ δ of each channel, (2, c); returns `out`.

        `room`, of their shape, is overwritten.
        """
        xp, axes = self.xp, but_channels(delta)
        room[...] = delta
        room *= normal
        sums = [self._sum_over(each, axes) for each in (room, delta)]
        return self.axpby(xp.stack(sums), out, 1.0, beta)

    @kernel
    def normalize_backward(
        self, delta: Array, normal: Array, means: Array, factor: Array
    ) -> Array:
        """``δ ← factor·(δ − means₀·x̂ − means₁)`` in each channel; returns δ.

        `normal` may be overwritten.
        """
        first, second, factor = (
            across(self.xp, each, delta) for each in (means[0, ...], means[1, ...], factor)
        )
        normal *= first
        delta -= normal
        delta -= second
        delta *= factor
        return delta


def _patched(shape: Shape, sliding: Any) -> Shape:
    """The shape of the patches of such an input."""
    return *shape[:2], *sliding.size, *sliding.counts
