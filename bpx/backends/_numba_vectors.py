"""Vectors in a processor's registers, for compiled code: what LLVM has and Numba does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

WORD, INDEX = ir.IntType(64), ir.IntType(32)
ZERO, ONE = WORD(0), WORD(1)

_FEATURES: str = cpu_target.target_context.codegen().magic_tuple()[-1]

# Bytes of a vector. Where a processor has smaller registers LLVM takes several.
BYTES = 64 if "+avx512f" in _FEATURES else 32


class Matrix(NamedTuple):
    """An address in bytes, and the elements from one row and from one column to the next."""

    address: Any
    row: Any
    column: Any = ONE


class Vectors:
    """Instructions on vectors of one dtype, of the function that is being built.

    A mask keeps a vector within an array that ends before the vector does.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    real : numba type
        float32 or float64.
    """

    def __init__(self, builder: Any, real: Any) -> None:
        self.size = real.bitwidth // 8
        self.lanes = BYTES // self.size
        self.real = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.kind = ir.VectorType(self.real, self.lanes)
        self.zero = ir.Constant(self.kind, [self.real(0.0)] * self.lanes)
        self._builder, self._name = builder, f"v{self.lanes}f{8 * self.size}"

    def address(self, matrix: Matrix, row: Any, column: Any = ZERO) -> Any:
        """Of the element there."""
        builder = self._builder
        down, across = builder.mul(matrix.row, row), builder.mul(matrix.column, column)
        elements = builder.add(down, across)
        return builder.add(matrix.address, builder.mul(elements, WORD(self.size)))

    def number(self, address: Any) -> Any:
        """The number there in all lanes."""
        return self.filled(self._builder.load(self._pointer(address, self.real)))

    def load(self, address: Any, mask: Any = None) -> Any:
        """Lanes outside the mask are zero."""
        place = self._pointer(address, self.kind)
        if mask is None:
            return self._builder.load(place, align=self.size)
        arguments = place, INDEX(self.size), mask, self.zero
        return self._call(f"masked.load.{self._name}.p0", self.kind, *arguments)

    def line(self, matrix: Matrix, row: Any, masks: Sequence[Any]) -> list[Any]:
        """A vector for each mask, one after another, from the row's first element on."""
        places = (WORD(j * self.lanes) for j in range(len(masks)))
        return [
            self.load(self.address(matrix, row, at), mask)
            for at, mask in zip(places, masks, strict=True)
        ]

    def store(self, vector: Any, address: Any, mask: Any = None) -> None:
        """Lanes outside the mask are left as they are."""
        place = self._pointer(address, self.kind)
        if mask is None:
            self._builder.store(vector, place, align=self.size)
        else:
            arguments = vector, place, INDEX(self.size), mask
            self._call(f"masked.store.{self._name}.p0", ir.VoidType(), *arguments)

    def prefetch(self, address: Any, to_write: bool) -> None:
        """Ask for the cache line at this address, and go on without it."""
        place, how = self._pointer(address, ir.IntType(8)), INDEX(int(to_write))
        in_all_caches, of_data = INDEX(3), INDEX(1)
        arguments = place, how, in_all_caches, of_data
        self._call("prefetch.p0", ir.VoidType(), *arguments)

    def filled(self, value: Any) -> Any:
        """A vector with this value in all lanes."""
        kind = ir.VectorType(value.type, self.lanes)
        alone = self._builder.insert_element(ir.Constant(kind, ir.Undefined), value, INDEX(0))
        return self._shuffled(alone, alone, [0] * self.lanes)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``ab + c``, rounded once where the processor can."""
        return self._call(f"fmuladd.{self._name}", self.kind, a, b, c)

    def first(self, count: Any) -> Any:
        """The mask of so many lanes."""
        lanes = ir.Constant(ir.VectorType(WORD, self.lanes), list(range(self.lanes)))
        return self._builder.icmp_signed("<", lanes, self.filled(count))

    def turned(self, rows: list[Any]) -> list[Any]:
        """The columns of a square of `lanes` vectors.

        By perfect shuffles: vectors i and i + half are interleaved, log₂(lanes) times.
        """
        half, lanes = self.lanes // 2, self.lanes
        low = [i // 2 + i % 2 * lanes for i in range(lanes)]
        halves = low, [half + i for i in low]
        for _ in range(lanes.bit_length() - 1):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [self._shuffled(a, b, which) for a, b in pairs for which in halves]
        return rows

    def halves(self, a: Any, b: Any) -> Any:
        """Every second lane of one vector, then of another."""
        return self._shuffled(a, b, list(range(0, 2 * self.lanes, 2)))

    def apart(self, a: Any) -> tuple[Any, Any]:
        """Two vectors with the lanes of one in every second, and copies of them between."""
        twice = [[i + j // 2 for j in range(self.lanes)] for i in (0, self.lanes // 2)]
        low, high = (self._shuffled(a, a, lanes) for lanes in twice)
        return low, high

    def seconds(self, mask: Any) -> Any:
        """Every second lane of a mask, the first among them."""
        wanted = [mask.type.element(1 - i % 2) for i in range(self.lanes)]
        return self._builder.and_(ir.Constant(mask.type, wanted), mask)

    def _pointer(self, address: Any, kind: Any) -> Any:
        return self._builder.inttoptr(address, kind.as_pointer())

    def _shuffled(self, a: Any, b: Any, lanes: list[int]) -> Any:
        which = ir.Constant(ir.VectorType(INDEX, len(lanes)), lanes)
        return self._builder.shuffle_vector(a, b, which)

    def _call(self, name: str, kind: Any, *arguments: Any) -> Any:
        signature = ir.FunctionType(kind, [each.type for each in arguments])
        function = cgutils.get_or_insert_function(self._builder.module, signature, f"llvm.{name}")
        return self._builder.call(function, arguments)


def by_itself(name: str, build: Callable[..., None]) -> Callable[..., Any]:
    """The code of an intrinsic that calls a function, built in each module that has such a call.

    In its caller, the addresses of an inner loop would have to share registers with all else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [each.type for each in arguments])
        function = cgutils.get_or_insert_function(builder.module, kind, f"bpx_{name}")
        if function.is_declaration:
            function.linkage = "internal"
            function.attributes.add("noinline")
            inner = ir.IRBuilder(function.append_basic_block())
            build(inner, *function.args)
            inner.ret_void()
        builder.call(function, arguments)
        return context.get_dummy_value()

    return generate
