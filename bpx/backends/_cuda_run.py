"""A whole run of training as one block of one CUDA kernel, where the network is small."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from . import _cuda
from ._base import Array, Backend
from ._codes import ACTIVATIONS, COSTS, FROM_A, RULES, TASKS

# By their numbers in run.cu.
SOURCES = "uint8", "float32", "float64"  # others are rare, and each takes time to compile

MOST_LAYERS = 16
BEYOND = 128  # elements that a tile at an edge may read
RESERVED = 2048  # bytes of shared memory: the system's 1024 of a block, and the kernel's own

# Multiply-adds of a step in float32 from which one multiprocessor is not clearly faster than a
# launch for each kernel. Reckoned from the machine code for sm_90, not measured: 784-30-10 with
# m = 10 (3·m·`multiply_adds`: 715 000) takes some 77 000 instructions of a warp, 4 a cycle, beside
# 11 500 reads of shared memory, one a cycle: 40 multiply-adds a cycle, and 2500 cycles more of
# waiting. A step of 20 launches of 2 us is 70 000 cycles of 1.75 GHz. The limit is a little over
# half of what one multiprocessor does in those.
MOST_WORK = 1_500_000


def compiled(
    backend: Backend, kernels: Callable[..., None], program: Any, strides: tuple[int, int]
) -> Callable[..., int] | None:
    """The program as `training.program.CompiledSteps`; None: it does not fit or would be slower.

    `strides` are of x, from row to row and from column to column.
    """
    layers, theta, m = program.layers, program.theta, program.batch_size
    dtype, rule = theta.dtype, RULES.get(program.rule)
    if (
        rule is None
        or program.squares
        or not program.is_plain
        or program.objective not in _cuda.COSTS
        or dtype not in _cuda.REALS
    ):
        return None
    codes = [each.kernel for each in layers.activations]
    if "softmax" in codes[:-1] or not {*codes} <= {*FROM_A} or len(codes) > MOST_LAYERS:
        return None
    shared = dtype.itemsize * elements(layers.sizes, theta.size, m)
    limit = backend.device.attributes["MaxSharedMemoryPerBlockOptin"] - RESERVED
    slow = 3 * layers.multiply_adds * m * dtype.itemsize // 4 > MOST_WORK
    truth = _truth(backend, program.y, dtype)
    if shared > limit or slow or truth is None or program.x.dtype.name not in SOURCES:
        return None

    plan, row = _plan(layers, codes), sum(layers.sizes)
    slots = (*program.slots, 0, 0)[:2]
    fields = [float(getattr(program.optimizer, name)) for name in rule[1]] or [0.0, 0.0]
    cost, task = COSTS.index(program.objective[0]), TASKS.index(program.task)
    weight = 0 if program.weight is None else backend.xp.astype(program.weight, dtype, copy=False)
    fixed = (
        backend.from_host(plan), len(codes), row, m, theta, theta.size, *slots, program.decayed,
        rule[0], *fields, cost, task, program.x,
        SOURCES.index(program.x.dtype.name), *strides, *_scaling(backend, layers), *truth, weight,
    )  # fmt: skip
    threads = _cuda.Threads(1, 4096 // dtype.itemsize)

    def run(rows: np.ndarray, table: np.ndarray, log: np.ndarray, squares: np.ndarray) -> int:
        backend.use()
        order, scalars = map(backend.from_host, (rows.astype(np.int64, copy=False), table))
        out = backend.zeros((log.size + 1,), np.dtype(np.float64))
        arguments = *fixed, order, len(rows), len(log), scalars, out
        kernels("run_steps", dtype, threads, arguments, shared)
        found = backend.to_host(out)
        log[...] = found[:-1].reshape(log.shape)
        return int(found[-1])

    return run


def elements(sizes: tuple[int, ...], parameters: int, m: int) -> int:
    """Those of the kernel's `Memory`: θ, activations, deltas, z^L, y, and three per sample."""
    activations = sum(sizes)
    return parameters + m * (2 * activations - sizes[0] + 2 * sizes[-1] + 3) + BEYOND


def _plan(layers: Any, codes: list[str]) -> np.ndarray:
    """One row per layer, with the fields of `Layer`."""
    columns = (
        layers.sizes[:-1], layers.sizes[1:], layers.weights, layers.bias,
        [ACTIVATIONS.index(name) for name in codes], layers.trained,
        list(accumulate(layers.sizes[:-2], initial=0)),
    )  # fmt: skip
    return np.array(columns, dtype=np.int64).T.copy()


def _scaling(backend: Backend, layers: Any) -> tuple[Any, float, Any, float]:
    """Scale and offset, each as a vector, or as a number where both are one for all inputs."""
    if layers.scale is None:
        return 0, 1.0, 0, 0.0
    if np.ptp(layers.scale) == np.ptp(layers.offset) == 0.0:
        return 0, float(layers.scale[0]), 0, float(layers.offset[0])
    return backend.from_host(layers.scale), 1.0, backend.from_host(layers.offset), 0.0


def _truth(backend: Backend, y: Array, dtype: Any) -> tuple[Array, Array, Array] | None:
    """Labels of int64, of int32, or targets; 0 for the others."""
    if not y.flags.c_contiguous:
        return None
    if y.ndim == 2:
        return 0, 0, backend.xp.astype(y, dtype, copy=False)
    if y.dtype not in _cuda.LABELS:
        return None
    return (y, 0, 0) if y.dtype == np.int64 else (0, y, 0)
