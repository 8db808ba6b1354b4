"""The kernels that CUDA does faster, on the device that the backend holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ._base import Array, Backend


class CupyBackend(Backend):
    """`xp` is ``array_api_compat.cupy``, `device` a ``cupy.cuda.Device``.

    CuPy works on the calling thread's current device, so each run of a network makes its own
    device current first (`use`), and leaves it so.
    """

    def __init__(self, name: str, xp: Any, device: Any) -> None:
        with device:
            super().__init__(name, xp, device, is_host=False)

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
        out += b
        return out

    def subtract(self, a: Array, b: Array, out: Array) -> Array:
        return self.xp.subtract(a, b, out=out)
