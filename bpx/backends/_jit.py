"""How loops are compiled by Numba."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core import event as events
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature
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
    compiled = njit(**options)

    def called(function: Callable[..., Any]) -> Any:
        dispatcher = compiled(function)
        try:
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError) as error:
            _tell_of_no_cache(str(error))
        return dispatcher

    return called, register_jitable(**options)


def called_by_address(signature: Any, **options: Any) -> Callable[..., Any]:
    """Decorator of a function that machine code calls; kept on the disk too."""

    def decorate(function: Callable[..., Any]) -> Any:
        made = CFunc(function, normalize_signature(signature), locals={}, options=options)
        try:
            made._cache = _Cache(function)
        except (RuntimeError, OSError) as error:
            _tell_of_no_cache(str(error))
        made.compile()
        return made

    return decorate


class _Cache(FunctionCache):
    """Numba's; what it cannot read is compiled, and what it cannot write is for this process.

    Numba's compiles anew where the function's own file has changed. Here functions of other files
    are inlined in it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), _stamp()
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            _tell_of_no_cache(str(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell_of_no_cache(str(error))


def sources() -> list[Path]:
    """The files of compiled functions, and those that they take functions and constants from."""
    folder = Path(__file__).parent
    others = ("_cblas", "_jit", "_rows", "_threads", "../random")
    return sorted(folder.glob("_numba*.py")) + [folder / f"{name}.py" for name in others]


@cache
def _stamp() -> str:
    texts = (path.read_bytes() for path in sources() if path.exists())  # or in a zip, of one stamp
    return hashlib.sha256(b"".join(texts)).hexdigest()


def _tell_of_no_cache(why: str) -> None:
    """A word in bpx's log, once in a process, and not for each of its functions."""
    global _told
    if not _told:
        _told = True
        logging.getLogger("bpx").warning(
            "compiled functions cannot be kept on the disk (%s), so each process compiles them "
            "anew: set NUMBA_CACHE_DIR in the environment to a folder that can be written to",
            why,
        )


_told = False


class _Notice(events.Listener):
    """A word in bpx's log, once in a process, on seconds in which nothing else is to be seen."""

    def __init__(self) -> None:
        self._given = False

    def on_start(self, event: Any) -> None:
        of_bpx = event.data["dispatcher"].py_func.__module__.startswith("bpx.")
        if of_bpx and not self._given:
            self._given = True
            logging.getLogger("bpx").info(
                "compiling for this machine, once: about ten seconds (BPX_FAST=0 avoids it)"
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


@intrinsic
def pointer(typing_context, address, kind):
    """To a number of that dtype."""
    pointer = types.CPointer(kind.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address, kind), generate


@intrinsic
def call(typing_context, address, arguments):
    """A function without a result that was compiled by itself: whole numbers are words to it."""

    def generate(context, builder, signature, values):
        given = signature.args[1].types
        kinds = [each if isinstance(each, types.Float) else types.intp for each in given]
        words = [
            context.cast(builder, value, each, kind)
            for value, each, kind in zip(
                cgutils.unpack_tuple(builder, values[1]), given, kinds, strict=True
            )
        ]
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(each) for each in kinds])
        where = context.cast(builder, values[0], signature.args[0], types.intp)
        builder.call(builder.inttoptr(where, kind.as_pointer()), words)
        return context.get_dummy_value()

    return types.void(address, arguments), generate
