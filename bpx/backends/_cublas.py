"""Matrix products by cuBLAS itself.

CuPy's own calls of cuBLAS refuse a stream that is being captured (cupy issue 6290); the library
does not, if its handle, stream and workspace were set before (cuBLAS manual, "CUDA Graphs
Support"). The same call takes α and β from the host or from the device, and factors of 16 bits.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..extras import OR_12, PACKAGES
from ._base import Array, BackendError
from ._cuda_library import CudaLibrary, Handle

WORKSPACE = 32 << 20  # bytes: what NVIDIA recommends for Hopper

# cublasOperation_t, cublasPointerMode_t, cublasGemmAlgo_t
PLAIN, TRANSPOSED = 0, 1
ON_HOST, ON_DEVICE = 0, 1
DEFAULT = -1


@dataclass(frozen=True)
class Precision:
    """How a product is computed: cudaDataType of the factors and the result, cublasComputeType_t.

    Attributes
    ----------
    factors, result : int
    compute : int
    scalar : type
        Of α and β.
    """

    factors: int
    result: int
    compute: int
    scalar: Any


FLOAT64 = Precision(1, 1, 70, ctypes.c_double)
FLOAT32 = Precision(0, 0, 68, ctypes.c_float)
TF32 = Precision(0, 0, 77, ctypes.c_float)
FLOAT16 = Precision(2, 0, 68, ctypes.c_float)
BFLOAT16 = Precision(14, 0, 68, ctypes.c_float)


@cache
def library() -> ctypes.CDLL:
    """The cuBLAS that belongs to this CuPy, found as CuPy finds it.

    Raises
    ------
    BackendError
        It is not found.
    """
    try:
        from cuda import pathfinder

        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"cuBLAS, which does CuPy's matrix products, was not found ({error}): "
            f"pip install {PACKAGES['cuda13']} {OR_12}"
        ) from error


def _order(matrix: Array) -> tuple[int, int]:
    """How cuBLAS, which is column-major, reads the transpose: operation and leading dimension."""
    rows, columns = matrix.shape[-2:]
    if matrix.flags.c_contiguous:
        return PLAIN, max(columns, 1)
    return TRANSPOSED, max(rows, 1)


def _calls(
    b: Array, a: Array, out: Array
) -> tuple[int, int, tuple[int, int, int], tuple[int, int, int]]:
    """How stacks (m, groups) are multiplied: calls, and products in each, at constant strides.

    For `b`, `a` and `out` also the steps from call to call, and the strides within one, in
    elements.
    """
    m, groups = out.shape[:2]
    of_b, of_a, of_out = (stack.shape[-2] * stack.shape[-1] for stack in (b, a, out))
    matrix = of_b, of_a, of_out
    if a.ndim == out.ndim:
        return 1, m * groups, (0, 0, 0), matrix
    row = groups * of_b, 0, groups * of_out
    return (groups, m, matrix, row) if groups <= m else (m, groups, row, matrix)


@dataclass
class _Handle(Handle):
    """A handle that also holds where it finds scalars."""

    mode: int = ON_HOST


class Cublas(CudaLibrary):
    """Products on one device."""

    def gemm(
        self,
        a: Array,
        b: Array,
        out: Array,
        alpha: float | Array,
        beta: float | Array,
        precision: Precision,
    ) -> None:
        """``out ← β·out + α·a b``.

        `out` lies row after row, each factor row after row or column after column. α and β are
        both numbers, or both arrays of one element on the device.
        """
        handle, kind = self._current(), precision.factors
        (m, k), n = a.shape, b.shape[1]
        at = self._scalars(handle, alpha, beta, precision)
        # cuBLAS is column-major, and a row-major matrix is its transpose: outᵀ = bᵀ aᵀ.
        (of_b, b_leading), (of_a, a_leading) = _order(b), _order(a)
        self._call(
            "cublasGemmEx", handle.pointer, of_b, of_a, n, m, k, at[0],
            self._pointer(b), kind, b_leading, self._pointer(a), kind, a_leading, at[1],
            self._pointer(out), precision.result, n, precision.compute, DEFAULT,
        )  # fmt: skip

    def gemm_batched(
        self,
        a: Array,
        b: Array,
        out: Array,
        alpha: float | Array,
        beta: float | Array,
        precision: Precision,
    ) -> None:
        """``out_ij ← β·out_ij + α·a_ij b_ij``, for stacks (m, groups) of matrices.

        An `a` with groups alone is the same for all m. Otherwise as `gemm`: each stack is dense,
        the matrices of a factor all row after row or all column after column.
        """
        handle, kind = self._current(), precision.factors
        (m, k), n = a.shape[-2:], b.shape[-1]
        at = self._scalars(handle, alpha, beta, precision)
        (of_b, b_leading), (of_a, a_leading) = _order(b), _order(a)
        calls, count, steps, strides = _calls(b, a, out)
        by = [ctypes.c_longlong(stride) for stride in strides]
        for call in range(calls):
            b_at, a_at, out_at = (
                self._pointer(stack, call * step)
                for stack, step in zip((b, a, out), steps, strict=True)
            )
            self._call(
                "cublasGemmStridedBatchedEx", handle.pointer, of_b, of_a, n, m, k, at[0],
                b_at, kind, b_leading, by[0], a_at, kind, a_leading, by[1], at[1],
                out_at, precision.result, n, by[2], count, precision.compute, DEFAULT,
            )  # fmt: skip

    def _scalars(
        self, handle: _Handle, alpha: float | Array, beta: float | Array, precision: Precision
    ) -> list[Any]:
        """The scalars as arguments; the handle is told where they are."""
        mode = ON_DEVICE if hasattr(alpha, "dtype") else ON_HOST
        if handle.mode != mode:
            self._call("cublasSetPointerMode_v2", handle.pointer, mode)
            handle.mode = mode
        if mode == ON_DEVICE:
            return [self._pointer(value) for value in (alpha, beta)]
        return [ctypes.byref(precision.scalar(value)) for value in (alpha, beta)]

    def _pointer(self, array: Any, element: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._address(array) + element * array.dtype.itemsize)

    def _current(self) -> _Handle:
        """The thread's handle, on its current stream."""
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            pointer = ctypes.c_void_p()
            self._call("cublasCreate_v2", ctypes.byref(pointer))
            handle = self._local.handle = _Handle(pointer, self._load().cublasDestroy_v2)
        stream = self._stream()
        if handle.stream != stream:
            handle.stream = None  # whatever fails here is done again
            self._call("cublasSetStream_v2", handle.pointer, ctypes.c_void_p(stream))
            room = self._pointer(self._room(handle, stream, WORKSPACE))  # the stream resets it
            size = ctypes.c_size_t(WORKSPACE)
            self._call("cublasSetWorkspace_v2", handle.pointer, room, size)
            handle.stream = stream
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._load(), name)(*arguments)
        if status:
            raise BackendError(f"cuBLAS refused a matrix product: {name} gave status {status}")
