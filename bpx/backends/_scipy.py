"""What SciPy has and NumPy lacks; only the modules that hold it are loaded.

All of `scipy.linalg` takes 0.19 s of a process, and of `scipy.special` 0.1 or more; BLAS's wrapper
by itself takes 0.02, and the module of `expit` 0.002 (AMD EPYC with AVX2).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from typing import Any, ClassVar

import numpy as np

from ._base import Array

Function = Callable[..., Any]


class Fblas:
    """What `_cblas.Cblas` does, by the functions that SciPy wraps.

    BLAS is column-major, and a row-major matrix is its transpose: outᵀ = bᵀ aᵀ.
    """

    of_numpy: ClassVar[bool] = False

    def __init__(self, gemm: Function, axpy: Function, dot: Function) -> None:
        self._gemm, self._axpy, self.dot = gemm, axpy, dot

    def gemm(self, alpha: float, a: Array, b: Array, beta: float, out: Array) -> None:
        self.prepared(a, b, out)(alpha, beta)

    def prepared(self, a: Array, b: Array, out: Array) -> Callable[[float, float], Any]:
        gemm, out_t = self._gemm, out.T
        plain_b, plain_a = b.flags.c_contiguous, a.flags.c_contiguous
        first, second = b.T if plain_b else b, a.T if plain_a else a
        turned = not plain_b, not plain_a, True
        return lambda alpha, beta: gemm(alpha, first, second, beta, out_t, *turned)

    def axpy(self, alpha: float, x: Array, out: Array) -> None:
        self._axpy(x.reshape(-1), out.reshape(-1), a=alpha)


def blas_by_dtype() -> dict[np.dtype[Any], Fblas]:
    """BLAS by dtype; empty without SciPy."""
    if importlib.util.find_spec("scipy") is None:
        return {}
    blas = _alone("linalg", "_fblas") or importlib.import_module("scipy.linalg.blas")
    single, double = (blas.sgemm, blas.saxpy, blas.sdot), (blas.dgemm, blas.daxpy, blas.ddot)
    return {np.dtype(np.float32): Fblas(*single), np.dtype(np.float64): Fblas(*double)}


@cache
def expit() -> Callable[[Array, Array], Array] | None:
    """1/(1 + e^-z) of float32 or float64 in one call; None if SciPy has no such function."""
    if importlib.util.find_spec("scipy") is None:
        return None
    try:
        return getattr(_alone("special", "_special_ufuncs"), "expit", None)
    except ImportError:  # it may want a library that the package looks for first
        return None


@cache
def csc_array() -> Any:
    """SciPy's matrices that are sparse by columns; None without SciPy."""
    if importlib.util.find_spec("scipy") is None:
        return None
    return importlib.import_module("scipy.sparse").csc_array


def _alone(package: str, name: str) -> Any:
    """A module in a package of SciPy's that is not imported; None where there is none.

    In a package that is, the module is the package's own, or None.
    """
    full = f"scipy.{package}"
    if full in sys.modules:
        return sys.modules.get(f"{full}.{name}")
    import scipy  # finds its libraries

    spec = PathFinder.find_spec(name, [f"{path}/{package}" for path in scipy.__path__])
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
