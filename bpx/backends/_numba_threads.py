"""Threads that work on the same step, in compiled code, which leaves them Python's lock.

They do not sleep where they wait for each other: that is over in less than a microsecond, and to
be woken up takes 50.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import INTEGER, called_by_address, inlined

# Looks at a number, of a cycle each: 0.1 to 0.2 ms. To be woken up takes 0.05 ms.
LOOKS = 500_000
# What tells a core that its thread waits, so that another one's goes ahead: 10 to 140 cycles.
X86 = platform.machine() in ("x86_64", "AMD64")
# Looks, with such a pause where there is one, after which others may have the core: on a busy one
# the thread that is waited for may not run. And as many as a thread takes to wake up, and more.
PATIENCE, WHILE = (2_000, 4_000) if X86 else (60_000, 120_000)

WORD, NOTHING = ir.IntType(64), ir.FunctionType(ir.VoidType(), [])


@intrinsic
def load(typing_context, address):
    """The number there; what its writer wrote before it is seen too."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], WORD.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def store(typing_context, address, value):
    """Whoever sees this number there sees all that was written before."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], WORD.as_pointer())
        builder.store_atomic(arguments[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def add(typing_context, address, value):
    """Add to the number there, and return what it was, as `load` and `store` would."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], WORD.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "acq_rel")

    return types.int64(types.intp, types.int64), generate


@intrinsic
def _pause(typing_context):
    def generate(context, builder, signature, arguments):
        if X86:
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), NOTHING), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _let_others(typing_context, address):
    """Call the C function there, without arguments; 0: none."""

    def generate(context, builder, signature, arguments):
        (where,) = arguments
        with builder.if_then(cgutils.is_not_null(builder, where)):
            builder.call(builder.inttoptr(where, NOTHING.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@inlined()
def wait_a_while(address, least):
    """Until the number there is at least this, or for about as long as it takes to wake up."""
    for _ in range(WHILE):
        if load(address) >= least:
            return
        _pause()


@inlined()
def wait_for(address, least, let_others):
    """Until the number there is at least this."""
    looks = 0
    while load(address) < least:
        looks += 1
        _pause()
        if looks > PATIENCE:
            _let_others(let_others)


@inlined()
def wait_for_another(address, old, let_others):
    """Until the number there is not this one any more; returns it."""
    looks = 0
    found = load(address)
    while found == old:
        looks += 1
        _pause()
        if looks > PATIENCE:
            _let_others(let_others)
        found = load(address)
    return found


def watch() -> Any:
    """A function that waits until the int64 at an address is not 0, but not for long."""

    def run(address):
        for _ in range(LOOKS):
            if load(address) != 0:
                return

    return called_by_address(types.void, INTEGER)(run)
