"""Waiting for another thread without sleeping, in compiled code, which leaves it Python's lock.

Only for a little while: where others use the cores, a thread that does not sleep may keep the one
it waits for from running.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import INTEGER, called_by_address

# Looks at a number, of a cycle each: 0.1 to 0.2 ms. To be woken up takes 0.05 ms.
LOOKS = 500_000


@intrinsic
def _look(typing_context, address):
    """The number there, as another thread may have left it by now."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "monotonic", 8)

    return types.int64(types.intp), generate


def watch() -> Any:
    """A function that waits until the int64 at an address is not 0, but not for long."""

    def run(address):
        for _ in range(LOOKS):
            if _look(address) != 0:
                return

    return called_by_address(types.void, INTEGER)(run)
