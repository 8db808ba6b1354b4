"""The kernels of normalization of vectors, in pure array API, beside `_kernels`."""

from __future__ import annotations

from ._kernels import Array, kernel
from ._windows import WindowKernels


class NormKernels(WindowKernels):
    """Whole passes of batch and layer normalization, of which those of images are the parts."""

    @kernel
    def batch_norm(
        self,
        x: Array,
        running_mean: Array,
        running_variance: Array,
        scale: Array,
        shift: Array,
        momentum: float,
        epsilon: float,
        slope: Array,
        normal: Array,
        out: Array,
    ) -> Array:
        """``out ← γ·x̂ + β`` for x̂ = (x − μ)/√(v + ε), over all rows of x (m, c); returns `out`.

        `normal` becomes x̂, `slope` 1/√(v + ε), (c,), and the running statistics are updated.
        """
        xp, (m, c) = self.xp, x.shape
        sums, numbers = (xp.empty((k, c), dtype=x.dtype, device=self.device) for k in (2, 5))
        mean = self.sum_channels(x, xp.empty_like(scale)) / m
        self.moments(x, mean, normal, sums)
        of_batch = mean, sums, running_mean, running_variance
        self.batch_statistics(*of_batch, scale, shift, float(m), momentum, epsilon, numbers)
        slope[...] = numbers[2, ...]
        return self.normalize(x, numbers, normal, out)

    @kernel
    def batch_norm_backward(
        self, delta: Array, normal: Array, factor: Array, room: Array, sums: Array
    ) -> Array:
        """``δ ← factor·(δ − x̂·mean δ·x̂ − mean δ)`` over all rows of δ (m, c); returns δ.

        `sums` become Σ δ·x̂ and Σ δ, (2, c). `normal` and `room` may be overwritten.
        """
        self.normalize_sums(delta, normal, room, sums)
        return self.normalize_backward(delta, normal, sums / delta.shape[0], factor)

    @kernel
    def running_norm(
        self, x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: float
    ) -> Array:
        """``x ← γ·(x − μ)/√(v + ε) + β`` in each column of x (m, c); returns x."""
        x -= mean
        x *= scale / self.xp.sqrt(variance + epsilon)
        x += shift
        return x

    @kernel
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
        """``out ← γ·x̂ + β`` for x̂ = (x − μ)/√(v + ε) in each row of x (m, n); returns `out`.

        `normal` becomes x̂, and `slope` 1/√(v + ε), (m, 1). `out` may be x itself.
        """
        xp = self.xp
        normal[...] = x
        normal -= xp.mean(normal, axis=1, keepdims=True)
        normal -= xp.mean(normal, axis=1, keepdims=True)
        out[...] = normal
        out *= normal
        slope[...] = 1.0 / xp.sqrt(xp.mean(out, axis=1, keepdims=True) + epsilon)
        normal *= slope
        out[...] = normal
        out *= scale
        out += shift
        return out

    @kernel
    def layer_norm_backward(
        self, delta: Array, normal: Array, scale: Array, slope: Array, room: Array, sums: Array
    ) -> Array:
        """``δ ← slope·(γδ − x̂·mean γδ·x̂ − mean γδ)``, the means of each row; returns δ.

        `sums` become Σ δ·x̂ and Σ δ over the rows, (2, n). `normal` and `room` may be overwritten.
        """
        xp = self.xp
        room[...] = delta
        room *= normal
        sums[0, ...] = xp.sum(room, axis=0)
        sums[1, ...] = xp.sum(delta, axis=0)
        delta *= scale
        room[...] = delta
        room *= normal
        normal *= xp.mean(room, axis=1, keepdims=True)
        delta -= xp.mean(delta, axis=1, keepdims=True)
        delta -= normal
        delta *= slope
        return delta
