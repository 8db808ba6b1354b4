"""Matrix products on CuPy by cuBLAS, in the precision that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from . import _cublas, _cuda
from ._base import Array, Backend

# Elements of the partial sums of `sum_of_products`, at most: 16 MB of float32, which the L2 cache
# holds, and four times what one wave of tiles of 128 × 64 on 132 multiprocessors writes.
PARTIAL = 1 << 22


class CupyProducts(Backend):
    """What `CupyBackend` does by cuBLAS, and how it launches the kernels of the ``.cu`` files."""

    _kernels: Callable[..., None]
    _products: _cublas.Cublas
    _precision: str

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

    def in_precision(self, precision: str) -> Self:
        other = object.__new__(type(self))  # a copy would be the backend of this name
        other.__dict__ |= self.__dict__ | {"_precision": precision}
        return other

    def gemm(self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if not self._are_factors(a, b, out):
            return super().gemm(a, b, out, alpha, beta)
        self._multiply(self._products.gemm, a, b, out, alpha, beta)
        return out

    def products(self, a: Array, b: Array, out: Array) -> Array:
        if not self._are_stacks(a, b, out):
            return super().products(a, b, out)
        self._multiply(self._products.gemm_batched, a, b, out, 1.0, 0.0)
        return out

    def sum_of_products(self, a: Array, b: Array, out: Array, beta: float = 0.0) -> Array:
        if a.ndim != b.ndim or not self._are_stacks(a, b, out[None, ...]):
            return super().sum_of_products(a, b, out, beta)
        # No atomics, and the same bits each time: some of the m side by side, each added to the
        # one before in its place, and then the sum of the places.
        m = a.shape[0]
        turns = -(-m // max(1, PARTIAL // max(1, out.size)))
        places = -(-m // turns)
        alone = places == 1
        partial = out[None, ...] if alone else self.empty((places, *out.shape), out.dtype)
        for start in range(0, m, places):
            rows = slice(start, min(start + places, m))
            to = partial[: rows.stop - start, ...]
            kept = 1.0 if start else beta if alone else 0.0
            self._multiply(self._products.gemm_batched, a[rows, ...], b[rows, ...], to, 1.0, kept)
        return out if alone else self.sum_rows(partial, out, 1.0, beta)

    def _multiply(
        self, call: Callable[..., None], a: Array, b: Array, out: Array, alpha: Any, beta: Any
    ) -> None:
        """``out ← β·out + α·a b`` by a call of cuBLAS, with factors of the precision."""
        if out.dtype == _cuda.FLOAT64:
            precision = _cublas.FLOAT64
        elif self._precision == "float16":
            a, a_most = self._to_float16(a)
            b, b_most = self._to_float16(b)
            scalars = self.empty((2,), out.dtype)
            given = (*_cuda.scalar(alpha), *_cuda.scalar(beta))
            self._launch("unscale", _cuda.a_block(1), out, scalars, a_most, b_most, *given)
            alpha, beta, precision = scalars[:1], scalars[1:], _cublas.FLOAT16
        elif self._precision == "bfloat16":
            a, b = (self._narrow("bfloat16", factor) for factor in (a, b))
            precision = _cublas.BFLOAT16
        else:
            precision = _cublas.TF32 if self._precision == "tf32" else _cublas.FLOAT32
        call(a, b, out, alpha, beta, precision)

    def _are_factors(self, a: Array, b: Array, out: Array) -> bool:
        """Matrices, or dense stacks of them, that cuBLAS takes as they are.

        Not of 0 rows, which have no address.
        """
        return self._dense(out) and all(
            factor.size
            and factor.dtype == out.dtype
            and (factor.flags.c_contiguous or factor.swapaxes(-1, -2).flags.c_contiguous)
            for factor in (a, b)
        )

    def _are_stacks(self, a: Array, b: Array, out: Array) -> bool:
        """(m, groups) of them, of which `a` may have the groups alone."""
        groups = b.shape[1:2]
        fit = out.ndim == b.ndim == 4 and a.shape[:-2] in (groups, b.shape[:2])
        return fit and self._are_factors(a, b, out)

    def _to_float16(self, matrix: Array) -> tuple[Array, Array]:
        """In 16 bits, scaled by a power of two, and the bits of the largest element before."""
        most = self.zeros((1,), self.xp.uint32)
        threads = _cuda.Threads(min(-(-matrix.size // 256), 1024), 256)
        self._launch("largest", threads, matrix, matrix, matrix.size, most)
        return self._narrow("float16", matrix, most), most

    def _narrow(self, to: str, matrix: Array, *scaled_by: Array) -> Array:
        """The bits of a matrix in 16, in its own order of memory."""
        if matrix.flags.c_contiguous:
            narrow = self.empty(matrix.shape, self.xp.uint16)
        else:
            turned = matrix.swapaxes(-1, -2).shape
            narrow = self.empty(turned, self.xp.uint16).swapaxes(-1, -2)
        threads = _cuda.an_element(matrix.size)
        arguments = matrix, narrow, matrix.size, *scaled_by
        self._launch(_cuda.NARROW[to], threads, matrix, *arguments)
        return narrow
