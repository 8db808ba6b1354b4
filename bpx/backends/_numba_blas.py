"""BLAS's gemm for compiled code."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from numba import cfunc, types
from numba.extending import overload

from . import _cblas

COLUMN_MAJOR, N, T = 102, _cblas.PLAIN, _cblas.TRANSPOSED


def gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """Column-major, of vectors that hold the matrices: ``c ← β·c + α·op(a) op(b)``."""


@overload(gemm)
def _gemm_by_dtype(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    function = _EXTERNAL[c.dtype]

    def call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        function(COLUMN_MAJOR, trans_a, trans_b, m, n, k, alpha,
                 a.ctypes, lda, b.ctypes, ldb, beta, c.ctypes, ldc)  # fmt: skip

    return call


def _signature(real: Any) -> Any:
    kind, size, pointer = types.intc, types.int64, types.CPointer(real)
    matrix = pointer, size
    arguments = kind, kind, kind, size, size, size, real, *matrix, *matrix, real, *matrix
    return types.void(*arguments)


def _external(real: Any) -> Any:
    """By a name, under which machine code that was kept on the disk finds it again."""
    name, blas = _cblas.SYMBOL.format(real), _cblas.by_dtype().get(np.dtype(real.name))
    llvmlite.binding.add_symbol(name, scipys(real).address if blas is None else blas.address)
    return types.ExternalFunction(name, _signature(real))


def scipys(real: Any) -> Any:
    """A compiled function with the same arguments, for where NumPy's library is not found.

    It goes to the BLAS that SciPy carries, through the function that Numba's own `np.dot` calls.
    """
    size, pointer, char = types.intp, types.CPointer(real), types.char
    matrix, letter = (pointer, size), ord("s" if real == types.float32 else "d")
    sizes = size, size, size
    arguments = char, char, char, *sizes, pointer, *matrix, *matrix, pointer, *matrix
    fortran = types.ExternalFunction("numba_xxgemm", types.intc(*arguments))
    dtype = np.dtype(real.name)

    def adapted(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        scalars = np.array([alpha, beta], dtype)
        kind_a = ord("t") if trans_a == T else ord("n")
        kind_b = ord("t") if trans_b == T else ord("n")
        fortran(letter, kind_a, kind_b, m, n, k, scalars[0:1].ctypes,
                a, lda, b, ldb, scalars[1:2].ctypes, c, ldc)  # fmt: skip

    function = cfunc(_signature(real))(adapted)
    _ALIVE.append(function)
    return function


_ALIVE: list[Any] = []
_EXTERNAL = {real: _external(real) for real in (types.float32, types.float64)}
