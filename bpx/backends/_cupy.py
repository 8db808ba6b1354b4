"""The kernels that CUDA does faster, on the device that the backend holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from . import _cuda, _cuda_run
from ._base import Array, Backend


class CupyBackend(Backend):
    """`xp` is ``array_api_compat.cupy``, `device` a ``cupy.cuda.Device``.

    CuPy works on the calling thread's current device, so each run of a network makes its own
    device current first (`use`), and leaves it so.
    """

    def __init__(self, name: str, xp: Any, device: Any) -> None:
        with device:
            super().__init__(name, xp, device, is_host=False)
        self._kernels: Callable[..., None] = _cuda.Kernels()

    def use(self) -> None:
        self.device.use()

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = array.get()
        return host

    @cached_property
    def _gemm(self) -> Callable[..., Any]:
        import cupy.cublas

        gemm: Callable[..., Any] = cupy.cublas.gemm
        return gemm

    def gemm(self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        # cuBLAS is column-major, and a row-major matrix is its transpose: outᵀ = bᵀ aᵀ.
        b_t, a_t = b.T, a.T
        b_plain, a_plain = b_t.flags.f_contiguous, a_t.flags.f_contiguous
        self._gemm(
            "N" if b_plain else "T",
            "N" if a_plain else "T",
            b_t if b_plain else b,
            a_t if a_plain else a,
            out=out.T,
            alpha=alpha,
            beta=beta,
        )
        return out

    def affine(self, x: Array, w: Array, b: Array, out: Array) -> Array:
        self.gemm(x, w.T, out)
        return self.axpby(b, out)

    def subtract(self, a: Array, b: Array, out: Array) -> Array:
        return self.xp.subtract(a, b, out=out)

    def compile(self, program: Any) -> Callable[..., int] | None:
        x, on_device = program.x, type(program.x) is type(program.theta)  # no memory map
        strides = self._strides(x) if on_device else None
        return strides and _cuda_run.compiled(self, self._kernels, program, strides)

    # --- the kernels of kernels.cu ------------------------------------------------------------

    def _launch(self, name: str, threads: _cuda.Threads, out: Array, *arguments: Any) -> None:
        """Run a kernel that computes in the dtype of `out`, unless it has nothing to do."""
        if threads.blocks:
            self._kernels(name, out.dtype, threads, arguments)

    @staticmethod
    def _dense(*arrays: Array) -> bool:
        """All are of one dtype that the kernels compute in, row after row without gaps."""
        dtype = arrays[0].dtype
        return dtype in _cuda.REALS and all(
            array.dtype == dtype and array.flags.c_contiguous for array in arrays
        )

    def axpby(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
        if not self._dense(x, out) or x.shape not in (out.shape, out.shape[-1:]):
            return super().axpby(x, out, alpha, beta)
        scalars = (*_cuda.number(alpha), *_cuda.number(beta))
        threads = _cuda.an_element(out.size)
        self._launch("axpby", threads, out, x, out, out.size, x.size, *scalars)
        return out

    def sum_rows(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if not self._dense(x, out):
            return super().sum_rows(x, out, alpha, beta)
        rows, columns = x.shape[0], out.size
        scalars = (*_cuda.number(alpha), *_cuda.number(beta))
        threads = _cuda.a_column(rows, columns)
        self._launch("sum_rows", threads, out, x, out, rows, columns, *scalars)
        return out

    def gather(
        self, source: Array, rows: Any, out: Array, scale: Any = 1.0, offset: Any = 0.0
    ) -> Array:
        if not self._dense(out):
            return self._take(source, rows, out, scale, offset)
        by, plus = _cuda.per_column(scale), _cuda.per_column(offset)
        strides, picked = self._strides(source), self._picked(source, rows)
        if by is None or plus is None or strides is None or picked is None:
            return super().gather(source, rows, out, scale, offset)
        columns = out.size // max(out.shape[0], 1)
        arguments = (source, *strides, *picked, out, out.size, columns, *by, *plus)
        self._launch(_cuda.SOURCES[source.dtype], _cuda.an_element(out.size), out, *arguments)
        return out

    def _take(self, source: Array, rows: Any, out: Array, scale: Any, offset: Any) -> Array:
        """Labels, which are of no dtype of the kernels: in one call where none is converted."""
        numbers = isinstance(scale, float) and isinstance(offset, float)
        same = source.dtype == out.dtype and numbers and (scale, offset) == (1.0, 0.0)
        if same and isinstance(rows, type(out)) and out.flags.c_contiguous:
            return self.xp.take(source, rows, axis=0, out=out)
        return super().gather(source, rows, out, scale, offset)

    @staticmethod
    def _strides(source: Array) -> tuple[int, int] | None:
        """From row to row and from column to column, in elements; None where there is no such."""
        if source.dtype not in _cuda.SOURCES:
            return None
        if source.flags.c_contiguous:
            return source.size // max(source.shape[0], 1), 1
        if source.ndim > 2:
            return None
        size = source.dtype.itemsize
        return source.strides[0] // size, source.strides[-1] // size

    @staticmethod
    def _picked(source: Array, rows: Any) -> tuple[Any, Any, int, int] | None:
        """Indices of int64, of int32, or the start and the step of a slice."""
        if isinstance(rows, slice):
            start, _, step = rows.indices(source.shape[0])
            return 0, 0, start, step
        if not isinstance(rows, type(source)) or not rows.flags.c_contiguous:
            return None
        if rows.dtype == np.int64:
            return rows, 0, 0, 0
        return (0, rows, 0, 0) if rows.dtype == np.int32 else None

    def one_hot(self, labels: Array, out: Array) -> Array:
        name = _cuda.LABELS.get(labels.dtype)
        if name is None or not labels.flags.c_contiguous or not self._dense(out):
            return super().one_hot(labels, out)
        threads = _cuda.an_element(out.size)
        self._launch(name, threads, out, labels, out, out.size, out.shape[1])
        return out

    def activate(self, activation: Any, z: Array, out: Array) -> Array:
        name = _cuda.ACTIVATE.get(activation.kernel)
        if name is None or not self._dense(z, out):
            return super().activate(activation, z, out)
        threads, sizes = _cuda.extent(activation.kernel, out)
        self._launch(name, threads, out, z, out, *sizes)
        return out

    def activate_backward(self, activation: Any, delta: Array, z: Array, a: Array) -> Array:
        name = _cuda.BACKWARD.get(activation.kernel)
        if name is None or not self._dense(delta, a):
            return super().activate_backward(activation, delta, z, a)
        threads, sizes = _cuda.extent(activation.kernel, delta)
        self._launch(name, threads, delta, delta, a, *sizes)
        return delta

    def cost_and_delta(self, objective: Any, z: Array, a: Array, y: Array, out: Array) -> Array:
        name = _cuda.COSTS.get(objective.kernel)
        if name is None or out.ndim != 2 or not self._dense(z, a, y, out):
            return super().cost_and_delta(objective, z, a, y, out)
        values = self.empty(out.shape[:1], out.dtype)
        self._launch(name, _cuda.a_row(out.shape[0]), out, z, a, y, out, values, *out.shape)
        return values

    def optimize(self, optimizer: Any, theta: Array, grad: Array, state: Any, step: int) -> None:
        name, arguments = _cuda.OPTIMIZE.get(optimizer.kernel, (None, None))
        slots = [state.slots[slot] for slot in optimizer.slots()]
        if name is None or arguments is None or not slots or not self._dense(theta, grad, *slots):
            super().optimize(optimizer, theta, grad, state, step)
            return
        vectors = theta, grad, *slots, theta.size
        self._launch(
            name, _cuda.an_element(theta.size), theta, *vectors, *arguments(optimizer, state, step)
        )
