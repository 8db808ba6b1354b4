"""NumPy with Numba: networks of dense layers trained and run by compiled loops."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _fast_run, _fast_steps, _machine_code, _threads
from ._base import Array, Forward, InPlace, dealt
from ._cblas import TIMED
from ._codes import ACTIVATIONS, FROM_A, RULES, rule_of
from ._fast_norms import FastNorms
from ._fast_run import ROWS_OF_BLOCK
from ._fast_windows import are_dense
from ._numpy import ONE_THREAD, THIN
from ._numpy_elementwise import BLOCK, SMALL, Native

# Elements of θ from which a velocity is better added to it on all cores, by BLAS's axpy, than by a
# compiled loop on one: 784-2048-2048-10 takes 24.0 ms a step in Python, and compiled 26.0.
LARGE = 1 << 20

# Multiply-adds of a product from which on tiles are sooner than OpenBLAS on one core, whatever its
# kernels.
TILES = 1_000_000

# Many rows go through all layers in parts of so many multiply-adds (0.2 ms on one core), but of so
# many rows at least, if there are more than two, and at most.
OF_PART, FEWEST, MOST = 1 << 23, ROWS_OF_BLOCK, 4096

# Multiply-adds of a row from which on BLAS is as fast as tiles on one core, and units of a layer
# from which on a block's activations do not stay in the second cache.
LARGE_ROW, WIDE = 1 << 19, 1024

# Fewer parts with so many times the multiply-adds are left to BLAS, which uses all cores.
FEW_PARTS, TIMES = 8, 8

REALS = "float32", "float64"

# δ^L is a − y in the pairs whose σ' cancels, and a − y times σ' after a quadratic cost.
OBJECTIVES = {
    *(("quadratic", name) for name in FROM_A),
    ("cross-entropy", "sigmoid"),
    ("log-likelihood", "softmax"),
}

# Activations of large arrays step by step.
LOOPS = {*ACTIVATIONS} - {"identity", "sigmoid", "tanh", "softmax"}

# Numba does not know float16, and compiles a function of rows for each of these.
INPUTS = "float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "int64", "bool"


def installed() -> bool:
    """Whether Numba, and SciPy, whose BLAS it may call, are here, work, and are wanted."""
    return not switched_off_by() and not missing() and _machine_code.is_usable()


def switched_off_by() -> str:
    """The setting in the environment that does it: ``BPX_FAST=0``, or Numba's own; else empty.

    Code that runs uncompiled has no intrinsics, and would be slower than NumPy.
    """
    if os.environ.get("BPX_FAST") == "0":
        return "BPX_FAST=0"
    disabled = os.environ.get("NUMBA_DISABLE_JIT", "0")
    return "" if disabled in ("", "0") else f"NUMBA_DISABLE_JIT={disabled}"


def missing() -> list[str]:
    """What is not installed of what compiled functions need."""
    return [name for name in ("numba", "scipy") if importlib.util.find_spec(name) is None]


class FastBackend(FastNorms):
    """NumPy's backend, with compiled loops of `_machine_code` where they are faster."""

    def compile(self, program: Any) -> Callable[..., int] | None:
        x = program.x
        known = program.objective in OBJECTIVES and program.rule in RULES
        # Machine code takes numbers as they lie, in the processor's order of bytes.
        plain = x.dtype.isnative and x.flags.aligned and x.dtype.name in INPUTS
        large = program.rule == "velocity" and program.theta.size > LARGE
        on_one = large and _fast_steps.worth(program) == 1
        if not known or not plain or on_one:
            return super().compile(program)
        return _fast_steps.steps(program, self._data(program), self._scaling(program))

    def _watch(self) -> Callable[[int], None] | None:
        return _machine_code.load("_numba_threads", "watch").call

    def _data(self, program: Any) -> tuple[Array, ...]:
        """Labels or targets, and weights, in C order; empty where there are none."""
        dtype, y, weight = program.theta.dtype, program.y, program.weight
        is_labels = y.ndim == 1
        labels = np.ascontiguousarray(y if is_labels else (), np.int64)
        targets = np.empty((0, 0), dtype) if is_labels else np.ascontiguousarray(y, dtype)
        weights = np.ascontiguousarray(() if weight is None else weight, dtype)
        return labels, targets, weights

    def compile_forward(
        self,
        layers: Any,
        theta: Array,
        after: Sequence[Sequence[InPlace]] = (),
        *,
        many: bool = False,
    ) -> Forward | None:
        if not layers.has_codes:
            return _fast_run.forward_by_layer(self, layers, theta, after)
        return _fast_run.forward(layers, theta, many)

    def parts_of_forward(self, layers: Any, rows: int) -> int:
        of_row: int = layers.multiply_adds
        large = of_row > LARGE_ROW or max(layers.sizes[1:]) > WIDE
        if large or not layers.has_codes or not TIMED:
            return 0
        parts = min(-(-rows * of_row // OF_PART), max(2, rows // FEWEST))
        parts = max(parts, -(-rows // MOST))
        if parts > 1:
            parts += parts % 2  # or one of two cores would wait
        return 0 if parts < FEW_PARTS and rows * of_row > parts * TIMES * OF_PART else parts

    def _alone(self, size: int) -> bool:
        """Whether so many multiply-adds are one core's: always as few as it does in `fit`."""
        _ = self.blas  # SciPy's library must be loaded to be found
        return TIMED and (size <= _threads.ONE_CORE or _threads.of_blas() == 1)

    def _by_tiles(self, a: Array, b: Array, out: Array) -> bool:
        """Whether tiles are sooner than BLAS on the core that would have the product."""
        dense = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        size = a.size * b.shape[1] if dense else 0  # not of a sparse x
        known = a.dtype == b.dtype == out.dtype and out.dtype in REALS
        if size <= TILES or not known:
            return False
        step, arrays = out.itemsize, (a, b, out)
        dense = out.strides[1] == step and step in b.strides and step in a.strides
        # A field of a record may lie at any byte.
        whole = all(x.flags.aligned and not any(by % step for by in x.strides) for x in arrays)
        return dense and whole and self._alone(size)

    def gemm(self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if not self._by_tiles(a, b, out):
            return super().gemm(a, b, out, alpha, beta)
        self._deal(_fast_run.gemm, alpha, a, b, beta, out)
        return out

    def prepared(self, a: Array, b: Array, out: Array) -> Callable[[float, float], Any]:
        if not self._by_tiles(a, b, out):
            return super().prepared(a, b, out)
        gemm = _fast_run.gemm
        return lambda alpha, beta: self._deal(gemm, alpha, a, b, beta, out)

    def affine(self, x: Array, w: Array, b: Array, out: Array) -> Array:
        size = x.shape[0] * math.prod(w.shape)
        # Fewer are sooner in NumPy's, and many rows would do without other cores.
        few = size > ONE_THREAD and (size <= _threads.ONE_CORE or x.shape[0] < THIN)
        dense = few and isinstance(x, np.ndarray) and are_dense(x, w, b, out)
        if not (dense and self._alone(size)):
            return super().affine(x, w, b, out)
        _fast_run.affine(x, w, b, out)
        return out

    def axpby(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
        # Each part is so large that it is added as the whole would be.
        worth = min(_threads.beside_blas(), out.size // (2 * BLOCK)) if out.size > LARGE else 1
        threads = worth if x.shape == out.shape else 1
        if threads == 1:
            return super().axpby(x, out, alpha, beta)

        def work(k: int, parts: list[slice]) -> None:
            for part in parts:
                super(FastBackend, self).axpby(x[part], out[part], alpha, beta)

        self.side_by_side(work, [[slice(*ends)] for ends in dealt(len(out), threads)])
        return out

    def _add_at(self, x: Array, rows: Array, out: Array) -> None:
        if not _in_a_loop(x, out):
            super()._add_at(x, rows, out)
            return
        # 3,200 rows of 64 take 0.03 ms.
        add = _machine_code.load("_numba_gather", "add_at", x.dtype).call
        add(x, np.ascontiguousarray(rows, np.int64), out)

    def activate(self, activation: Any, z: Array, out: Array) -> Array:
        if activation.kernel not in LOOPS or not _in_a_loop(z, out):
            return super().activate(activation, z, out)
        if activation.kernel == "relu":
            _fast_run.relu(z, out)
        else:
            _fast_run.activate(activation, z, out)
        return out

    def activate_backward(self, activation: Any, delta: Array, z: Array, a: Array) -> Array:
        if activation.kernel not in LOOPS or not _in_a_loop(delta, z, a):
            return super().activate_backward(activation, delta, z, a)
        if activation.kernel == "relu":
            _fast_run.relu_backward(delta, a)
        else:
            _fast_run.activate_backward(activation, delta, z, a)
        return delta

    def sigma(self, name: str, size: int) -> tuple[Native, Native]:
        large = name == "relu" and size > SMALL
        return (_fast_run.relu, _fast_run.relu_backward) if large else super().sigma(name, size)

    def _draw(self, step: int, row: int, limit: int, out: Array) -> None:
        if out.size <= SMALL:  # not worth importing Numba, where it has to compile
            super()._draw(step, row, limit, out)
            return
        _machine_code.load("_numba_random", "keep").call(int(step), row, limit, out)

    def optimize(
        self, optimizer: Any, theta: Array, grad: Array, state: Any, step: int, scalars: Any
    ) -> None:
        rule, slots = rule_of(optimizer), [state.slots[name] for name in optimizer.slots()]
        # Without a slot it is one pass of BLAS's.
        if rule not in RULES or not slots or not _in_a_loop(theta, grad, *slots):
            super().optimize(optimizer, theta, grad, state, step, scalars)
            return
        code, fields = RULES[rule]
        # `grad` has what L2 adds to it already, and is clipped.
        of_update = np.array([*scalars, 0.0, 1.0], np.float64)
        # Each rule has a slot, and those with one do not read the second.
        constants = np.array([getattr(optimizer, name) for name in fields], np.float64)
        # On one core: a second one, which waits for the same memory, saved nothing.
        _machine_code.load("_numba_update", "optimize", theta.dtype).call(
            code, state.decayed, theta, grad, slots[0], slots[-1], of_update, constants
        )

    def _scaling(self, program: Any) -> tuple[Array, Array]:
        """Scale and offset for each input; empty where there are none."""
        layers, source, dtype = program.layers, program.x.dtype, program.theta.dtype
        if layers.scale is None:
            return np.empty(0, dtype), np.empty(0, dtype)
        plain = layers.scale.max() == layers.scale.min() and not layers.offset.any()
        wide = dtype if plain and self._wider(source, dtype) == dtype else np.dtype(np.float64)
        return layers.scale.astype(wide), layers.offset.astype(wide)


def _in_a_loop(*arrays: Array) -> bool:
    """Whether a compiled loop beats NumPy's, and not by too little to load or compile it.

    262,144 elements of ReLU take 20 µs against 54, a step of Adam on 94,218 22 against 86.
    """
    return arrays[0].size > SMALL and are_dense(*arrays)
