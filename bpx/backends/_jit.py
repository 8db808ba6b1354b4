"""How loops are compiled by Numba."""

from __future__ import annotations

from typing import Any

from numba import njit


def jit(*fastmath: str) -> Any:
    """A decorator for functions whose machine code is kept on the disk.

    They run without the interpreter's lock, so that several threads call them at once. Of LLVM's
    `fastmath` flags "nnan" and "ninf" must not be taken, or a cost that is not finite is not seen.
    """
    # Inlined, so that a function has one machine code, its caller's. Else a run that compiles
    # calls the function's own, and a run that loads the caller from disk the copy beside it, which
    # has been optimized once more: of c·m − η·g another product is rounded, and they end with
    # other bits.
    return njit(
        cache=True, error_model="numpy", nogil=True, forceinline=True, fastmath=set(fastmath)
    )
