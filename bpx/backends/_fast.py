"""NumPy with Numba: networks of dense layers trained and run by compiled loops."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ._base import Array
from ._numpy import NumpyBackend

# Elements of θ from which a velocity is better added to it by BLAS's axpy, on all cores, than by a
# compiled loop on one: 784-2048-2048-10 takes 24.0 ms a step in Python, and compiled 26.0.
LARGE = 1 << 20

# Numba does not know float16, and compiles once more for each other dtype.
INPUTS = "float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "int64", "bool"


def installed() -> bool:
    """Numba and SciPy, whose BLAS it calls, are here, and ``BPX_FAST=0`` is not set."""
    wanted = os.environ.get("BPX_FAST", "1") != "0"
    return wanted and all(importlib.util.find_spec(name) for name in ("numba", "scipy"))


class FastBackend(NumpyBackend):
    """Numba is imported when a network is first trained: it takes a third of a second."""

    def compile(self, program: Any) -> Callable[..., int] | None:
        layers, x = program.layers, program.x
        rule = RULES.get(program.rule)
        plain = x.dtype.isnative and x.dtype.name in INPUTS  # Numba knows no foreign bytes
        if rule is None or not plain or (rule[0] == 1 and program.theta.size > LARGE):
            return None
        from . import _numba

        cost = _numba.COSTS.get(program.objective)
        if cost is None:
            return None
        codes = [*layers.activations[:-1], program.objective[1]]
        dtype, m = program.theta.dtype, program.batch_size
        net = (
            np.array(layers.sizes),
            np.array(layers.weights),
            np.array(layers.bias),
            np.array([_numba.ACTIVATIONS[name] for name in codes]),
            np.array(layers.trained),
        )
        at = np.concatenate([[0], np.cumsum(net[0])]) * m
        flat = np.zeros((3, at[-1]), dtype)
        buffers = flat[0], flat[1], flat[2, : m * layers.sizes[-1]], at
        none = np.empty(0, dtype)
        theta, into = program.theta, program.into[: program.trained]
        slots = [slot[: program.trained] for slot in program.slots]
        first, second = (*slots, none, none)[:2]
        weight = none if program.weight is None else program.weight
        is_labels = program.y.ndim == 1
        labels = program.y.astype(np.int64, copy=False) if is_labels else np.empty(0, np.int64)
        targets = np.empty((0, 0), dtype) if is_labels else program.y
        scaling = self._scaling(layers, x.dtype, dtype)
        data = np.asarray(x), labels, targets, weight.astype(dtype, copy=False), *scaling
        constants = np.array([getattr(program.optimizer, name) for name in rule[1]] or [0.0, 0.0])
        fixed = net, (theta, into, first, second), buffers
        what = cost, _numba.TASKS[program.task], rule[0], min(program.decayed, len(into))

        def run(
            order: np.ndarray, numbers: np.ndarray, log: np.ndarray, squares: np.ndarray
        ) -> int:
            tables = numbers, constants, log, squares
            done: int = _numba.steps(data, order, m, *fixed, *what, *tables)
            return done

        return run

    def compile_forward(self, layers: Any, theta: Array) -> Callable[[Array], Array] | None:
        from . import _numba

        codes = [_numba.ACTIVATIONS[name] for name in layers.activations]
        net = np.array([layers.sizes[:-1], layers.sizes[1:], layers.weights, layers.bias, codes])

        def forward(x: Array) -> Array:
            if not x.flags.c_contiguous:
                x = np.ascontiguousarray(x)
            return _numba.forward(x, theta, net)

        return forward

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        dense = patches.flags.c_contiguous and out.flags.c_contiguous
        if len(sliding.size) != 2 or not dense:
            return super().fold(patches, sliding, out)
        from . import _numba_windows

        # 4 × 20 × 12 × 12 with windows of 5 × 5 take 0.14 ms, and 0.25 in NumPy.
        before = tuple(pair[0] for pair in sliding.padding)
        _numba_windows.fold(patches, sliding.stride, sliding.dilation, before, out)
        return out

    def _window_max(self, x: Array, sliding: Any, out: Array) -> None:
        if not _in_pairs(sliding, x, out):
            super()._window_max(x, sliding, out)
            return
        from . import _numba_windows

        # 8 × 20 × 24 × 24 by 2 × 2 take 0.02 ms, and 0.09 in NumPy.
        _numba_windows.window_max(x, sliding.size[0], out)

    def _window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> None:
        if not _in_pairs(sliding, delta, x, largest, out):
            super()._window_max_backward(delta, x, largest, sliding, out)
            return
        from . import _numba_windows

        # 8 × 20 × 24 × 24 by 2 × 2 take 0.16 ms, and 0.26 in NumPy.
        _numba_windows.window_max_backward(delta, x, largest, sliding.size[0], out)

    def _scaling(self, layers: Any, source: Any, dtype: Any) -> tuple[Array, Array]:
        """Scale and offset for each input; empty where there are none."""
        if layers.scale is None:
            return np.empty(0, dtype), np.empty(0, dtype)
        plain = layers.scale.max() == layers.scale.min() and not layers.offset.any()
        wide = dtype if plain and self._wider(source, dtype) == dtype else np.dtype(np.float64)
        return layers.scale.astype(wide), layers.offset.astype(wide)


def _in_pairs(sliding: Any, *arrays: Array) -> bool:
    """Windows are two columns wide and side by side, and the arrays have no gaps."""
    apart = sliding.stride == sliding.size and sliding.padded == sliding.lengths
    wide = sliding.size[1:] == (2,) and sliding.dilation == (1, 1)
    return apart and wide and all(array.flags.c_contiguous for array in arrays)


# A rule's number in `_numba`, and the optimizer's fields that it reads.
RULES: dict[str, tuple[int, tuple[str, ...]]] = {
    "theta": (0, ()),
    "velocity": (1, ()),
    "nesterov": (2, ("momentum", "momentum")),
    "rmsprop": (3, ("rho", "epsilon")),
    "adam": (4, ("beta1", "beta2")),
    "adamw": (4, ("beta1", "beta2")),
}
