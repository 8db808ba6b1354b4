"""Every kernel once, in pure array API.

A native backend overrides one only where a measurement says that its library does it faster; the
tests find the overrides and compare each with the standard one here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from .. import random
from ..checks import not_as_expected, shortened
from ..random import Array as Array
from ..registry import called

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(method: Kernel) -> Kernel:
    """Mark a method that native backends may override."""
    method.is_kernel = True  # type: ignore[attr-defined]  # functions take attributes
    return method


class Kernels:
    """What a `Backend` does with arrays; its attributes are described there."""

    xp: Any
    device: Any
    lacks: set[str]
    index_dtype: Any
    from_host: Callable[[np.ndarray], Array]
    blocks: Callable[..., Iterator[tuple[Array, ...]]]

    @kernel
    def argmax(self, a: Array) -> Array:
        """The column of each row's largest element, the first of equals: (m,) of `index_dtype`."""
        xp = self.xp
        if self.index_dtype == xp.int64:
            return xp.argmax(a, axis=1)
        # A device without 64-bit integers, where array-api-strict's argmax fails.
        columns = xp.arange(a.shape[1], dtype=self.index_dtype, device=self.device)[None, :]
        largest = a == xp.max(a, axis=1, keepdims=True)
        return xp.min(xp.where(largest, columns, a.shape[1] - 1), axis=1)

    @kernel
    def total(self, values: Array) -> Array:
        """The sum of a vector, 0-d; for booleans, how many are true."""
        xp = self.xp
        if xp.isdtype(values.dtype, "bool"):
            values = xp.astype(values, xp.float32)
        return xp.sum(values)

    @kernel
    def square(self, x: Array) -> Array:
        """Σ x_i² of a vector, 0-d."""
        return self.xp.vecdot(x, x)

    @kernel
    def clip_norm(self, x: Array, norm: float) -> Array:
        """``x ← x · min(1, norm / ‖x‖)``, a vector; returns `x`. Nothing is read from a device."""
        xp = self.xp
        if x.shape[0] == 0:
            return x
        # Squares of float32 overflow beyond 1e19, so divide by the largest element first.
        largest = xp.max(xp.abs(x))
        safe = xp.where(largest > 0.0, largest, xp.ones_like(largest))
        one = xp.ones_like(safe)
        root = xp.maximum(xp.sqrt(xp.sum((x / safe) ** 2)), one)  # less: only if all are zero
        over = safe > norm / root
        # In two steps, since the norm itself, safe · root, may not fit into float32.
        x /= xp.where(over, safe, one)
        x *= xp.where(over, norm / root, one)
        return x

    @kernel
    def gemm(self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        """``out ← β·out + α·a b``, matrices; returns `out`.

        With β = 0 the old `out` is not read: 0·NaN of an unset buffer is NaN.
        """
        product = a @ b
        if alpha != 1.0:
            product = alpha * product
        out[...] = product if beta == 0.0 else beta * out + product
        return out

    @kernel
    def affine(self, x: Array, w: Array, b: Array, out: Array) -> Array:
        """``out ← x wᵀ + b``, with one sample per row of `x` and one neuron per row of `w`."""
        out[...] = x @ w.T + b
        return out

    @kernel
    def affine_activate(
        self, x: Array, w: Array, b: Array, activation: Any, z: Array, out: Array
    ) -> Array:
        """``z ← x wᵀ + b`` and ``out ← σ(z)``; `out` may be `z` itself. Returns `out`."""
        return self.activate(activation, self.affine(x, w, b, z), out)

    @kernel
    def bias_activate(self, b: Array, activation: Any, z: Array, out: Array) -> Array:
        """``z ← z + b``, by channel of z (m, c, \\*lengths), and ``out ← σ(z)``, which may be `z`.

        Returns `out`.
        """
        z += across(self.xp, b, z)
        return self.activate(activation, z, out)

    @kernel
    def axpby(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
        """``out ← β·out + α·x``, `x` broadcast against `out`; returns `out`."""
        if alpha != 1.0:
            x = alpha * x
        out[...] = x if beta == 0.0 else (out if beta == 1.0 else beta * out) + x
        return out

    @kernel
    def add_signs(self, x: Array, out: Array, alpha: float) -> Array:
        """``out ← out + α·sign x``, vectors; returns `out`."""
        for some, to in self.blocks(x, out):
            to += alpha * self.xp.sign(some)
        return out

    @kernel
    def sum_rows(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        """``out ← β·out + α·Σ_i x_i``, the sum over the rows of a matrix; returns `out`."""
        total = self.xp.sum(x, axis=0, dtype=x.dtype)
        if alpha != 1.0:
            total = alpha * total
        out[...] = total if beta == 0.0 else beta * out + total
        return out

    @kernel
    def sum_channels(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        """``out ← β·out + α·`` the sum of each channel of x (m, c, \\*lengths); returns `out`."""
        return self.axpby(self._sum_over(x, but_channels(x)), out, alpha, beta)

    @kernel
    def mean_places(self, x: Array, out: Array) -> Array:
        """``out ← `` the mean of each channel of each x (m, c, \\*lengths); returns `out`."""
        out[...] = self.xp.mean(x, axis=tuple(range(2, x.ndim)))
        return out

    def _sum_over(self, x: Array, axes: tuple[int, ...]) -> Array:
        """The sum over these axes, in x's dtype.

        A matrix is summed in float64 where there is one: NumPy adds row to row, and Σ of 200,000
        numbers of 1e6 ± 1 in float32 is off by more than they vary.
        """
        flat = x.ndim == 2 and "float64" not in self.lacks
        total = self.xp.sum(x, axis=axes, dtype=self.xp.float64 if flat else x.dtype)
        return self.xp.astype(total, x.dtype, copy=False)

    @kernel
    def sum_at(
        self, x: Array, rows: Array, out: Array, alpha: float = 1.0, beta: float = 0.0
    ) -> Array:
        """``out_k ← β·out_k + α·Σ x_i``, over the rows i of x with ``rows[i] = k``; returns `out`.

        In a fixed order, so that the bits are the same every time.
        """
        xp = self.xp
        if not rows.shape[0]:
            return self.axpby(xp.zeros_like(out), out, alpha, beta)
        every = xp.arange(out.shape[0], dtype=rows.dtype, device=self.device)
        if "int64" in self.lacks:  # the dtype of argsort's result
            total = xp.astype(every[:, None] == rows[None, :], x.dtype) @ x
            return self.axpby(total, out, alpha, beta)
        order = xp.argsort(rows)  # stable
        keys, sums = xp.take(rows, order), xp.take(x, order, axis=0)
        reach, n = 1, keys.shape[0]
        while reach < n:  # each adds as many earlier rows of its key as it has already
            same, before = keys[reach:] == keys[:-reach], sums[:-reach, ...]
            more = xp.where(same[:, None], before, xp.zeros_like(before))
            sums = xp.concat([sums[:reach, ...], sums[reach:, ...] + more])
            reach *= 2
        last = xp.searchsorted(keys, every, side="right") - 1
        last = xp.where(last < 0, xp.zeros_like(last), last)
        found, sums = xp.take(keys, last) == every, xp.take(sums, last, axis=0)
        total = xp.where(found[:, None], sums, xp.zeros_like(sums))
        return self.axpby(total, out, alpha, beta)

    @kernel
    def add(self, a: Array, b: Array, out: Array) -> Array:
        """``out ← a + b``; returns `out`."""
        out[...] = a + b
        return out

    @kernel
    def subtract(self, a: Array, b: Array, out: Array) -> Array:
        """``out ← a − b``; returns `out`."""
        out[...] = a - b
        return out

    @kernel
    def rows(self, source: Array, rows: Any) -> Array:
        """``source[rows]``, of indices or a slice."""
        if isinstance(rows, slice):
            return source[rows, ...]
        return self.xp.take(source, rows, axis=0)

    @kernel
    def gather(
        self, source: Array, rows: Any, out: Array, scale: Any = 1.0, offset: Any = 0.0
    ) -> Array:
        """``out ← scale·source[rows] + offset``, converted to the dtype of `out`; returns `out`.

        `rows` are indices or a slice. Images that came as uint8 stay uint8 until here.
        """
        xp = self.xp
        batch = self.rows(source, rows)
        batch = xp.astype(batch, self._wider(batch.dtype, out.dtype), copy=False)
        if not (isinstance(scale, float) and scale == 1.0):
            batch = batch * scale
        if not (isinstance(offset, float) and offset == 0.0):
            batch = batch + offset
        out[...] = xp.astype(batch, out.dtype, copy=False)  # once, after a sum that may cancel
        return out

    def _wider(self, source: Any, out: Any) -> Any:
        """The dtype in which values are scaled: theirs or the result's, whichever is more precise.

        Integers of more than 16 bits, which float32 rounds, count as float64 where there is one.
        """
        xp = self.xp
        if source == out:
            return out
        if xp.isdtype(source, "real floating"):
            return source if xp.finfo(source).bits > xp.finfo(out).bits else out
        large = xp.isdtype(source, "integral") and xp.iinfo(source).bits > 16
        return xp.float64 if large and "float64" not in self.lacks else out

    @kernel
    def one_hot(self, labels: Array, out: Array) -> Array:
        """Row i of `out` becomes the unit vector of ``labels[i]``; returns `out`."""
        xp = self.xp
        classes = xp.arange(out.shape[1], dtype=labels.dtype, device=self.device)
        out[...] = xp.astype(labels[:, None] == classes[None, :], out.dtype)
        return out

    @kernel
    def activate(self, activation: Any, z: Array, out: Array) -> Array:
        """``out ← σ(z)``; `out` may be `z` itself. Returns `out`."""
        a = activation.forward(self.xp, z)
        if a is not out:
            out[...] = self.returned("the values of the activation", activation, a, z)
        return out

    @kernel
    def activate_backward(self, activation: Any, delta: Array, z: Array, a: Array) -> Array:
        """``delta ← `` the vector-Jacobian product of σ at z, in place; returns `delta`."""
        below = activation.backward(self.xp, delta, z, a)
        if below is not delta:
            what = "∂C/∂z of the activation"
            delta[...] = self.returned(what, activation, below, delta)
        return delta

    def returned(self, what: str, obj: Any, got: Any, like: Array) -> Array:
        """What `obj`, which may be a user's own, has returned, in the dtype of `like`.

        Raises
        ------
        ValueError
            Not real numbers in the shape of `like`, to which NumPy might broadcast others.
        """
        if getattr(got, "shape", None) == like.shape:
            if got.dtype == like.dtype:
                return got
            real = "bool", "integral", "real floating"
            if type(got) is type(like) and self.xp.isdtype(got.dtype, real):
                return self.xp.astype(got, like.dtype)
        raise not_as_expected(f"{what} {called(obj)}", like.shape, got)

    @kernel
    def cost_and_delta(self, objective: Any, z: Array, a: Array, y: Array, out: Array) -> Array:
        """``a ← a^L`` and ``out ← δ^L`` (BP1), from z^L; returns the cost of each sample, (m,).

        With the identity `a` may be `z` itself.
        """
        if a is not z:
            self.activate(objective.activation, z, a)
        values = objective.value(self, z, a, y)
        objective.delta(self, z, a, y, out)
        return values

    @kernel
    def optimize(
        self, optimizer: Any, theta: Array, grad: Array, state: Any, step: int, scalars: Any
    ) -> None:
        """One step of an optimizer on `theta`, in place; `grad` may be overwritten.

        `scalars` are ``optimizer.scalars(state, step)``, which a step knows already.
        """
        if (found := optimizer.update(theta, grad, state, step)) is not None:
            raise TypeError(
                f"expected update of {type(optimizer).__name__} to change theta in place, such as "
                f"theta -= ..., and to return nothing, got {shortened(found)}"
            )

    @kernel
    def keep(
        self, key: int, layer: int, step: Any, row: int, shape: tuple[int, ...], probability: float
    ) -> Array:
        """A mask of booleans for a batch, True with this probability; see `bpx.random`."""
        limit, where = random.threshold(probability), (key, layer, step, row, shape)
        if "int64" in self.lacks:  # the same numbers, drawn on the host
            return self.from_host(random.bits(np, *where) < limit)
        return random.bits(self.xp, *where, self.device) < limit

    @kernel
    def tally(
        self, values: Array, right: Array | None, weight: Array | None, log: Array, at: Any
    ) -> Array:
        """``log[at] ← `` Σ wC, Σ w over the right samples, and Σ w; returns `log`.

        Without `right` the second is 0, without `weight` w = 1.
        """
        xp = self.xp
        log[at, 0] = self.total(values if weight is None else weight * values)
        if right is None:
            log[at, 1] = 0.0
        else:
            if weight is not None:
                right = weight * xp.astype(right, weight.dtype)
            log[at, 1] = self.total(right)
        log[at, 2] = values.shape[0] if weight is None else self.total(weight)
        return log

    @kernel
    def tick(self, clock: Array, table: Array, scalars: Array, order: Array, rows: Array) -> Array:
        """The next step's scalars, a row of `table`, and rows, a part of `order`; returns `clock`.

        `clock` holds the epoch's next step, its current one, and the current one of all training.
        """
        at, m = int(clock[0]), rows.shape[0]
        scalars[...] = table[at, ...]
        rows[...] = order[at * m : (at + 1) * m]
        clock[0], clock[1], clock[2] = at + 1, at, int(clock[2]) + 1
        return clock


def but_channels(x: Array) -> tuple[int, ...]:
    """All axes except that of the channels."""
    return (0, *range(2, x.ndim))


def across(xp: Any, of_channels: Array, x: Array) -> Array:
    """A number for each channel of x: (c, 1, 1) for images."""
    return xp.reshape(of_channels, (-1, *(x.ndim - 2) * (1,)))
