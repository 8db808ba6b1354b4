"""How loops are compiled by Numba."""

from __future__ import annotations

import logging
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import event as events
from numba.extending import intrinsic, register_jitable

FLAGS = "contract", "reassoc", "nsz", "arcp"  # of dense layers
# Without the interpreter's lock, so that several threads call them at once.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


def decorators(*fastmath: str) -> tuple[Any, Any]:
    """Two decorators: of what Python calls, and of what is called by compiled functions alone.

    The machine code of the first is kept on the disk, with the second in it. Of LLVM's `fastmath`
    flags "nnan" and "ninf" must not be taken, or a cost that is not finite is not seen.
    """
    # Inlined, so that a function has one machine code, its caller's. Else a run that compiles
    # calls the function's own, and a run that loads the caller from disk the copy beside it, which
    # has been optimized once more: of c·m − η·g another product is rounded, and they end with
    # other bits.
    options = OPTIONS | {
        "forceinline": True,
        "fastmath": set(fastmath),
        "no_cfunc_wrapper": True,  # a second copy of all the machine code, which nobody calls
    }
    return njit(cache=True, **options), register_jitable(**options)


class _Notice(events.Listener):
    """A word in bpx's log, once in a process, on seconds in which nothing else is to be seen."""

    def __init__(self) -> None:
        self._given = False

    def on_start(self, event: Any) -> None:
        of_bpx = event.data["dispatcher"].py_func.__module__.startswith("bpx.")
        if of_bpx and not self._given:
            self._given = True
            logging.getLogger("bpx").info(
                "compiling for this machine, once: some ten seconds (BPX_FAST=0 does without)"
            )

    def on_end(self, event: Any) -> None:
        pass


events.register("numba:compile", _Notice())


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at this address, and go on without it."""

    def generate(context, builder, signature, arguments):
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer],
            ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag]),
        )
        to_read, in_all_caches, of_data = flag(0), flag(3), flag(1)
        asked = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [asked, to_read, in_all_caches, of_data])
        return context.get_dummy_value()

    return types.void(address), generate
