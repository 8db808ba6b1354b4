"""The functions of BLAS that NumPy has not, as SciPy wraps them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

import numpy as np

from ._base import Array

Functions = tuple[Callable[..., Array], ...]


def by_dtype() -> dict[Any, Functions]:
    """gemm, axpy and dot; empty without SciPy."""
    if importlib.util.find_spec("scipy") is None:
        return {}
    blas = _wrapper()
    single, double = (blas.sgemm, blas.saxpy, blas.sdot), (blas.dgemm, blas.daxpy, blas.ddot)
    return {np.dtype(np.float32): single, np.dtype(np.float64): double}


def _wrapper() -> Any:
    """The module in `scipy.linalg`, by itself where that is not imported already.

    The whole package takes 0.19 s of a process (AMD EPYC with AVX2), the module 0.02.
    """
    if "scipy.linalg" not in sys.modules:
        import scipy  # finds its libraries

        spec = PathFinder.find_spec("_fblas", [f"{path}/linalg" for path in scipy.__path__])
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    import scipy.linalg.blas

    return scipy.linalg.blas
