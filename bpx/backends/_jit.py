"""How loops are compiled by Numba."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils, config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic, register_jitable
from numba.np.arrayobj import populate_array

from ._aligned import LINE
from ._machine_code import CHOOSE, COMPILING, stamp

# LLVM's fastmath flags: of dense layers, of what is done element by element, and of sums, which
# may run in several lanes.
FLAGS = "contract", "reassoc", "nsz", "arcp"
BY_ELEMENT, OF_SUMS = ("contract",), ("contract", "reassoc")
INTEGER, ARRAY = types.intp, types.voidptr  # an array of NumPy's, as Python has it
# Without the interpreter's lock, so that several threads call them at once.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
# Without a copy for callers in C of what is inlined: compiling takes 7 % longer with them.
INLINED = OPTIONS | {"forceinline": True, "no_cfunc_wrapper": True}


def inlined(*fastmath: str) -> Any:
    """Decorator of a function that compiled functions alone call.

    It has one machine code, its caller's. Else a run that compiles calls the function's own, and a
    run that loads the caller from disk the copy beside it, which has been optimized once more: of
    c·m − η·g another product is rounded, and they end with other bits. Of LLVM's `fastmath` flags
    "nnan" and "ninf" must not be taken, or a cost that is not finite is not seen.
    """
    return register_jitable(**INLINED, fastmath=set(fastmath))


class CalledByAddress(CFunc):
    """A function with its object file, for `_machine_code`."""

    def _compile_uncached(self) -> Any:
        if COMPILING.get():
            _tell_of_compiling()
        return super()._compile_uncached()

    @property
    def kinds(self) -> list[str]:
        """Of its result and of its arguments."""
        return [str(self._sig.return_type), *map(str, self._sig.args)]

    @property
    def object_file(self) -> bytes:
        """What LLVM made, which Numba forgets of a function that it has loaded."""
        kept = getattr(self._cache, "object_file", None)
        return kept or _object_file(self._library.serialize_using_object_code())

    @property
    def folder(self) -> str:
        """Where Numba keeps it."""
        return self._cache.cache_path


def called_by_address(
    result: Any, *arguments: Any, fastmath: Collection[str] = ()
) -> Callable[..., Any]:
    """Decorator of a function of `INTEGER`, reals and `ARRAY`; kept on the disk too."""
    signature, options = result(*arguments), OPTIONS | {"fastmath": set(fastmath)}

    def decorate(function: Callable[..., Any]) -> Any:
        made = CalledByAddress(
            function, normalize_signature(signature), locals={}, options=options
        )
        try:
            made._cache = _Cache(function)
        except (RuntimeError, OSError) as error:
            _tell_of_no_cache(str(error))
        made.compile()
        return made

    return decorate


def _object_file(library: Any) -> bytes:
    _, _, (code, _) = library
    return bytes(code)


class _Compiled(CompileResultCacheImpl):
    object_file: bytes | None = None

    def reduce(self, data: Any) -> Any:
        payload = super().reduce(data)
        self.object_file = _object_file(payload[0])
        return payload

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        self.object_file = _object_file(payload[0])
        return super().rebuild(target_context, payload)


class _Cache(FunctionCache):
    """Numba's; what it cannot read is compiled, and what it cannot write is for this process.

    Numba's compiles anew where the function's own file has changed. Here functions of other files
    are inlined in it.
    """

    _impl_class = _Compiled

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamps = self._impl.locator.get_source_stamp(), stamp()
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, stamps)
        chosen = config.CACHE_DIR
        if chosen and not Path(self._cache_path).is_relative_to(chosen):
            _tell(
                f"NUMBA_CACHE_DIR names {chosen}, which cannot be written to, so Numba keeps "
                f"compiled functions in {self._cache_path}, and each process takes 0.6 s more to "
                f"load them: {CHOOSE}"
            )

    @property
    def object_file(self) -> bytes | None:
        return self._impl.object_file

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


def _tell_of_no_cache(why: str) -> None:
    _tell(
        f"compiled functions cannot be kept on the disk ({why}), so each process compiles them "
        f"anew: {CHOOSE}; a read-only image gets one, by bpx compile, while it is built"
    )


def _tell(message: str) -> None:
    """A word in bpx's log, once in a process, and not for each of its functions."""
    global _told
    if not _told:
        _told = True
        logging.getLogger("bpx").warning(message)


_told = False


@cache
def _tell_of_compiling() -> None:
    """A word on seconds in which nothing else is to be seen, once in a process.

    It goes to standard error, unless the program has handlers of its own.
    """
    logging.getLogger("bpx").warning(
        "compiling what this machine has not needed before: %s", COMPILING.get()
    )


@intrinsic(prefer_literal=True)
def prefetch(typing_context, address, to_write, level):
    """Ask for the cache line at this address, and go on without it.

    `to_write` is 1 if it is to be written to; `level` 3 for all caches, 2 for the second and on.
    """
    how, near = to_write.literal_value, level.literal_value

    def generate(context, builder, signature, arguments):
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer],
            ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag]),
        )
        of_data = flag(1)
        asked = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [asked, flag(how), flag(near), of_data])
        return context.get_dummy_value()

    return types.void(address, to_write, level), generate


@intrinsic
def pointer(typing_context, address, named):
    """To a number, or a record, of that kind."""
    kind = named.instance_type if isinstance(named, types.TypeRef) else named.dtype
    pointed = types.CPointer(kind)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointed))

    return pointed(address, named), generate


@intrinsic(prefer_literal=True)
def array(typing_context, where, dimensions, named):
    """An `ARRAY` of that kind and of so many dimensions, without gaps: its caller's to check."""
    kind = named.instance_type if isinstance(named, types.TypeRef) else named.dtype
    made = types.Array(kind, dimensions.literal_value, "C")

    def generate(context, builder, signature, arguments):
        word, number = ir.IntType(64), context.get_data_type(kind)

        def field(at, kind):  # of NumPy's `PyArrayObject`, after what any object begins with
            place = builder.gep(arguments[0], [word(object.__basicsize__ + at)])
            return builder.load(builder.bitcast(place, kind.as_pointer()))

        lengths = field(16, word.as_pointer())
        shape = [builder.load(builder.gep(lengths, [word(i)])) for i in range(made.ndim)]
        size = word(context.get_abi_sizeof(number))
        strides = [size]
        for length in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        found = context.make_array(made)(context, builder)
        populate_array(found, field(0, number.as_pointer()), shape, strides, size, meminfo=None)
        return found._getvalue()

    return made(where, dimensions, named), generate


@inlined()
def vector(address, size, kind):
    """So many numbers at an address."""
    return carray(pointer(address, kind), size)


@inlined()
def flat(dense, kind):
    """Its numbers one after another; `reshape` is Numba's own code."""
    return vector(dense.ctypes.data, dense.size, kind)


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


# By Python's allocator, since what Numba's arrays are allocated by is found by Numba alone.
_malloc = types.ExternalFunction("PyMem_RawMalloc", types.intp(types.intp))
_free = types.ExternalFunction("PyMem_RawFree", types.void(types.intp))


@inlined()
def allocated(size):
    """So many bytes: their address, and another to `free` them by, 0 where there is no memory."""
    block = _malloc(size + LINE)
    return (block + LINE - 1) // LINE * LINE, block


@inlined()
def free(block):
    _free(block)
