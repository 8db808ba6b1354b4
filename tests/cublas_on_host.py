"""What the CuPy backend calls in cuBLAS, by its manual, on the host: pointers, sizes and all."""

from __future__ import annotations

import ctypes

import numpy as np

DOUBLE, HALF, BFLOAT, SINGLE = 1, 2, 14, 0  # cudaDataType
DTYPES = {SINGLE: np.float32, DOUBLE: np.float64, HALF: np.float16, BFLOAT: np.uint16}
COMPUTE_64F = 70


class Library:
    """The functions of libcublas that are called; each returns status 0 and is noted."""

    def __init__(self):
        self.called, self.rooms = [], []
        self.mode = 0

    def __getattr__(self, name):
        if not name.startswith("cublas"):
            raise AttributeError(name)

        def function(*arguments):
            self.called.append(name)
            return getattr(self, f"_{name}", lambda *_: 0)(*arguments)

        return function

    def _cublasCreate_v2(self, handle):
        handle._obj.value = 1
        return 0

    def _cublasSetWorkspace_v2(self, handle, room, size):
        self.rooms.append(room.value)
        return 0

    def _cublasSetPointerMode_v2(self, handle, mode):
        self.mode = mode
        return 0

    def _cublasGemmEx(
        self, handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
        c_type, ldc, compute, algorithm,
    ):  # fmt: skip
        real = np.float64 if compute == COMPUTE_64F else np.float32
        left = operand(a, a_type, lda, op_a, m, k, real)
        right = operand(b, b_type, ldb, op_b, k, n, real)
        alpha, beta = (self._scalar(value, real) for value in (alpha, beta))
        out = column_major(c, c_type, ldc, m, n)
        product = alpha * (left @ right)
        out[...] = product if beta == 0.0 else product + beta * out
        return 0

    def _cublasGemmStridedBatchedEx(
        self, handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, a_by, b, b_type, ldb, b_by,
        beta, c, c_type, ldc, c_by, count, compute, algorithm,
    ):  # fmt: skip
        assert all(type(by) is ctypes.c_longlong for by in (a_by, b_by, c_by))  # not an int's 32
        assert count == 1 or c_by.value >= ldc * n, "results overlap"
        for i in range(count):
            at = (
                moved(*of, i) for of in ((a, a_type, a_by), (b, b_type, b_by), (c, c_type, c_by))
            )
            a_at, b_at, c_at = at
            self._cublasGemmEx(
                handle, op_a, op_b, m, n, k, alpha, a_at, a_type, lda, b_at, b_type, ldb, beta,
                c_at, c_type, ldc, compute, algorithm,
            )  # fmt: skip
        return 0

    def _scalar(self, value, real):
        if self.mode == 0:
            return real(value._obj.value)
        return np.ctypeslib.as_array(pointer(value, real), (1,))[0]


def pointer(address, real):
    kind = ctypes.c_double if real == np.float64 else ctypes.c_float
    return ctypes.cast(address, ctypes.POINTER(kind))


def moved(address, kind, by, times):
    """Where a matrix of a batch begins, at a stride in elements."""
    return ctypes.c_void_p(address.value + times * by.value * np.dtype(DTYPES[kind]).itemsize)


def column_major(address, kind, leading, rows, columns):
    """A view of a matrix that is passed to cuBLAS."""
    assert leading >= rows
    dtype = DTYPES[kind]
    size = leading * columns * np.dtype(dtype).itemsize
    raw = (ctypes.c_char * size).from_address(address.value)
    return np.frombuffer(raw, dtype).reshape(columns, leading).T[:rows]


def operand(address, kind, leading, operation, rows, columns, real):
    shape = (rows, columns) if operation == 0 else (columns, rows)
    matrix = column_major(address, kind, leading, *shape)
    if kind == BFLOAT:
        matrix = (matrix.astype(np.uint32) << 16).view(np.float32)
    matrix = matrix.astype(real)
    return matrix if operation == 0 else matrix.T
