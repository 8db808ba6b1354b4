"""BLAS by its C interface, in the library that NumPy's own products go to.

NumPy's functions have no α and β, and SciPy wraps a library of its own: two libraries fight for
the cores, and they are not equally fast. 32 rows through a layer of 128 by 128 take 16 µs in NumPy
2.4's (OpenBLAS 0.3.31) and 23 in SciPy 1.17's (0.3.30), on one core with AVX2.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np

from ._base import Array

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112

# What those who build these libraries put before and after a name: NumPy's and SciPy's wheels,
# distributions, and Apple.
PREFIXES = "scipy_", ""
SUFFIXES = "64_", "", "$NEWLAPACK$ILP64", "$NEWLAPACK"

REALS = ("float32", "s", ctypes.c_float), ("float64", "d", ctypes.c_double)

SYMBOL = "bpx_gemm_{}"  # by which compiled code calls gemm of a dtype


def is_sooner_transposed(rows: int, inputs: int, outputs: int) -> bool:
    """Whether ω xᵀ takes less time than x ωᵀ, for which OpenBLAS has other small kernels.

    On one core, transposing back included: with AVX2 10 rows of 784 by 30 outputs take 13.2 µs
    against 16.9, by 128 outputs 53 against 68, 32 rows by 128 take 75 against 76, and with AVX-512
    85 against 113. The gain is lost with fewer rows, inputs or outputs, and with more rows if
    there is only AVX2.
    """
    return 8 <= rows <= 32 and inputs >= 256 and outputs >= 24


# Apple's own BLAS uses a matrix unit, against which our loops and tiles have not been timed.
TIMED = sys.platform != "darwin"


class Cblas:
    """``out ← β·out + α·ab`` and ``out ← out + α·x`` in one dtype.

    Parameters
    ----------
    gemm, axpy : ctypes function
    real : ctypes type
        Of α and β.
    """

    of_numpy: ClassVar[bool] = True

    def __init__(self, gemm: Any, axpy: Any, real: Any) -> None:
        # A library for integers of 32 bits reads the lower half of one of 64: in a register, or in
        # a place of 8 bytes on the stack.
        kind, whole, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
        matrix = pointer, whole
        sizes = whole, whole, whole
        gemm.argtypes = kind, kind, kind, *sizes, real, *matrix, *matrix, real, *matrix
        axpy.argtypes = whole, real, *matrix, *matrix
        gemm.restype = axpy.restype = None
        self._gemm, self._axpy, self._real = gemm, axpy, real

    @property
    def address(self) -> int | None:
        """The address of gemm, for compiled code."""
        return ctypes.cast(self._gemm, ctypes.c_void_p).value

    def gemm(self, alpha: float, a: Array, b: Array, beta: float, out: Array) -> None:
        """Each array is contiguous, or cut from one that is, and `a` and `b` may be transposed."""
        turned_a, *matrix_a = _operand(a)
        turned_b, *matrix_b = _operand(b)
        _, *matrix_out = _operand(out)
        self._gemm(
            *(ROW_MAJOR, turned_a, turned_b, a.shape[0], b.shape[1], a.shape[1]),
            *(alpha, *matrix_a, *matrix_b, beta, *matrix_out),
        )

    def prepared(self, a: Array, b: Array, out: Array) -> Callable[[float, float], None]:
        """`gemm` as a function of α and β, on the same arrays each time."""
        whole, alpha, beta = ctypes.c_int64, self._real(), self._real()
        operands = [_operand(array) for array in (a, b, out)]
        (turned_a, *_), (turned_b, *_), _ = operands
        first, second, into = (
            (ctypes.c_void_p(address), whole(leading)) for _, address, leading in operands
        )
        arguments = (
            *map(ctypes.c_int, (ROW_MAJOR, turned_a, turned_b)),
            *map(whole, (a.shape[0], b.shape[1], a.shape[1])),
            *(alpha, *first, *second, beta, *into),
        )
        gemm = self._gemm

        def run(new_alpha: float, new_beta: float, _alive: Any = (a, b, out)) -> None:
            alpha.value, beta.value = new_alpha, new_beta
            gemm(*arguments)

        return run

    def axpy(self, alpha: float, x: Array, out: Array) -> None:
        """``out ← out + α·x``, for contiguous arrays of one shape."""
        self._axpy(x.size, alpha, address(x), 1, address(out), 1)

    def dot(self, x: Array, y: Array) -> Any:
        return np.vecdot(x, y)


def _operand(array: Array) -> tuple[int, int, int]:
    """PLAIN or TRANSPOSED, the address, and the step from one row, or column, to the next."""
    if array.flags.c_contiguous:
        return PLAIN, address(array), max(1, array.shape[1])
    if array.flags.f_contiguous:
        return TRANSPOSED, address(array.T), max(1, array.shape[0])
    to_row, to_column = (stride // array.itemsize for stride in array.strides)
    kind, leading = (PLAIN, to_row) if to_column == 1 else (TRANSPOSED, to_column)
    return kind, int(array.ctypes.data), leading


def address(array: Array) -> int:
    """Of its first element."""
    if array.flags.writeable and array.size:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # a third of the time
    return int(array.ctypes.data)


@cache
def by_dtype() -> dict[np.dtype[Any], Cblas]:
    """BLAS by dtype; empty if not found: on Windows a module gives only functions of its own."""
    module = importlib.import_module("numpy._core._multiarray_umath")
    file = getattr(module, "__file__", None)  # none where it is built into the interpreter
    if file is None or ctypes.sizeof(ctypes.c_void_p) < 8:
        return {}
    try:
        library = ctypes.CDLL(file)  # with the functions of the libraries that it is linked with
    except OSError:
        return {}
    patterns = (f"{prefix}cblas_{{}}{suffix}" for prefix in PREFIXES for suffix in SUFFIXES)
    return next(filter(None, (_named(library, pattern) for pattern in patterns)), {})


def _named(library: ctypes.CDLL, pattern: str) -> dict[np.dtype[Any], Cblas]:
    """The functions of such names; empty if there are none."""
    try:
        return {
            np.dtype(dtype): Cblas(
                library[pattern.format(f"{letter}gemm")],
                library[pattern.format(f"{letter}axpy")],
                real,
            )
            for dtype, letter, real in REALS
        }
    except AttributeError:
        return {}
