"""The kernels that CUDA does faster, on the device that the backend holds."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import random
from . import _cublas, _cuda, _cuda_library, _cuda_run, _cudnn
from ._base import Array, in_slices
from ._codes import number_of
from ._cupy_convolutions import CupyConvolutions
from ._slot import PinnedSlot, Slot

STAGED = 1 << 26  # bytes on the host that are brought to a device at once


class Recording:
    """A graph of CUDA, and what its replays need: the memory of its pool, and `held`."""

    def __init__(self, graph: Any, pool: Any, held: Any, device: Any) -> None:
        self._graph, self._pool, self._held, self._device = graph, pool, held, device

    def __call__(self) -> None:
        self._graph.launch()  # on the current stream

    def __del__(self) -> None:
        if sys.is_finalizing():
            return
        self._graph = None  # before its memory
        # CuPy 14.2 does not free what lies in a pool that ends: the process would keep it.
        with self._device:
            self._pool.free_all_blocks()


class CupyBackend(CupyConvolutions):
    """CuPy on one device, a ``cupy.cuda.Device``; `xp` is the module ``_cupy_namespace``.

    CuPy works on the calling thread's current device, so each run of a network makes its own
    device current first (`use`), and leaves it so.
    """

    captures = True

    def __init__(self, name: str, xp: Any, device: Any) -> None:
        with device:
            super().__init__(name, xp, device, is_host=False)
        self._kernels = _cuda.KernelLauncher()
        self._products = _cublas.Cublas(
            _cublas.library, self._stream_address, self._bytes, self._address
        )
        self._convolutions = _cudnn.Cudnn(
            _cudnn.front_end, self._stream_address, self._bytes, self._address
        )
        self._precision = "float32"
        self._local = threading.local()

    def use(self) -> None:
        self.device.use()

    def from_host(self, array: np.ndarray) -> Array:
        if array.nbytes <= STAGED or array.ndim == 0:
            # CuPy would keep columns together, and a kernel reads a row at a time.
            return super().from_host(np.asarray(array, order="C"))
        # CuPy copies through pinned memory of the array's size, in the next power of two, which
        # stays with the process.
        step = max(1, STAGED * array.shape[0] // array.nbytes)
        self.use()
        out = self.xp.empty(array.shape, dtype=self._fitting(array[:1]).dtype)
        for rows in in_slices(0, array.shape[0], step):
            out[rows] = super().from_host(array[rows])
        return out

    def to_host(self, array: Array) -> np.ndarray:
        return array.get()

    def slot(self, shape: tuple[int, ...], dtype: Any) -> Slot:
        pinned = np.dtype(dtype).itemsize <= 8  # CuPy has no long double
        return PinnedSlot(self, shape, dtype) if pinned else Slot(self, shape, dtype)

    # --- what CuPy is asked for -----------------------------------------------------------------

    @staticmethod
    def _address(array: Array) -> int:
        return array.data.ptr

    def _bytes(self, count: int) -> Array:
        return self.empty((count,), self.xp.uint8)

    @staticmethod
    def _stream_address() -> int:
        import cupy

        return cupy.cuda.get_current_stream().ptr

    @contextlib.contextmanager
    def surround(
        self,
        largest: int | None,
        processes: int = 1,
        in_parts: bool = False,
        elements: int = 0,
    ) -> Iterator[None]:
        """The thread's own stream, since the default one cannot be captured."""
        import cupy

        self.use()
        outer, stream = cupy.cuda.get_current_stream(), getattr(self._local, "stream", None)
        if stream is None:
            stream = self._local.stream = cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(outer.record())
        try:
            with stream:
                try:
                    yield
                finally:
                    self.use()  # a stream is set, and an event made, on the current device
        finally:
            outer.wait_event(stream.record())

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        import cupy

        stream, pool = cupy.cuda.get_current_stream(), cupy.cuda.MemoryPool()
        # What steps one by one have left there, and no other pool can have.
        cupy.get_default_memory_pool().free_all_blocks()
        # A pool of its own: what the recording uses in passing stays the recording's.
        with _cuda_library.capturing(), cupy.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(RuntimeError):
                    stream.end_capture()  # or the stream stays unusable
                pool.free_all_blocks()
                raise
            graph = stream.end_capture()
        graph.upload(stream)
        return Recording(graph, pool, self._convolutions.held(), self.device)

    # --- kernels --------------------------------------------------------------------------------

    def affine(self, x: Array, w: Array, b: Array, out: Array) -> Array:
        self.gemm(x, w.T, out)
        return self.axpby(b, out)

    def affine_activate(
        self, x: Array, w: Array, b: Array, activation: Any, z: Array, out: Array
    ) -> Array:
        name = _cuda.BIAS.get(activation.kernel)
        if name is None or not self._dense(b, z, out):
            return super().affine_activate(x, w, b, activation, z, out)
        return self._bias_activate(name, b, activation, self.gemm(x, w.T, z), out)

    def add(self, a: Array, b: Array, out: Array) -> Array:
        return self.xp.add(a, b, out=out)

    def subtract(self, a: Array, b: Array, out: Array) -> Array:
        return self.xp.subtract(a, b, out=out)

    def argmax(self, a: Array) -> Array:
        if a.ndim != 2 or not self._dense(a):
            return super().argmax(a)
        out = self.empty(a.shape[:1], self.index_dtype)
        self._launch("argmax", _cuda.a_row(a.shape[0]), a, a, out, *a.shape)
        return out

    def keep(
        self, key: int, layer: int, step: Any, row: int, shape: tuple[int, ...], probability: float
    ) -> Array:
        out = self.empty(shape, self.xp.bool)
        columns = math.prod(shape[1:])
        place = random.signed(random.of_layer(key, layer)), *_cuda.integer(step)
        threads, limit = _cuda.an_element(out.size), random.threshold(probability)
        arguments = out, out.size, columns, *place, row, limit
        if threads.blocks:
            self._kernels("keep", _cuda.FLOAT32, threads, arguments)
        return out

    def tally(
        self, values: Array, right: Array | None, weight: Array | None, log: Array, at: Any
    ) -> Array:
        vectors = [v for v in (values, weight, log) if v is not None]
        if not self._dense(*vectors) or (right is not None and not right.flags.c_contiguous):
            return super().tally(values, right, weight, log, at)
        sources = values, 0 if right is None else right, 0 if weight is None else weight
        rows = values.shape[0]
        place = _cuda.integer(at)
        self._launch("tally", _cuda.a_block(rows), log, *sources, rows, log, *place)
        return log

    def tick(self, clock: Array, table: Array, scalars: Array, order: Array, rows: Array) -> Array:
        width, m = scalars.shape[0], rows.shape[0]
        arguments = clock, table, scalars, width, order, rows, m
        self._launch("tick", _cuda.a_block(m), scalars, *arguments)
        return clock

    def compile(self, program: Any) -> Callable[..., int] | None:
        if type(program.x) is not type(program.theta):  # a memory map
            return None
        if self._precision != "float32":  # the kernel does not round
            return None
        strides = self._strides(program.x)
        if strides is None:
            return None
        return _cuda_run.compiled(self, self._kernels, program, strides)

    def axpby(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
        if not self._dense(x, out) or x.shape not in (out.shape, out.shape[-1:]):
            return super().axpby(x, out, alpha, beta)
        scalars = (*_cuda.scalar(alpha), *_cuda.scalar(beta))
        threads = _cuda.an_element(out.size)
        self._launch("axpby", threads, out, x, out, out.size, x.size, *scalars)
        return out

    def clip_norm(self, x: Array, norm: float) -> Array:
        if not self._dense(x):
            return super().clip_norm(x, norm)
        of_parts, threads = _cuda.a_part(x.size), _cuda.an_element(x.size)
        parts = self.empty((of_parts.blocks, 2), x.dtype)
        numbers = x.size, of_parts.blocks
        self._launch("norm_parts", of_parts, x, x, parts, *numbers)
        self._launch("clip_norm", threads, x, x, parts, *numbers, float(norm))
        return x

    def add_signs(self, x: Array, out: Array, alpha: float) -> Array:
        if not self._dense(x, out):
            return super().add_signs(x, out, alpha)
        threads = _cuda.an_element(out.size)
        self._launch("add_signs", threads, out, x, out, out.size, *_cuda.scalar(alpha))
        return out

    def sum_rows(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if not self._dense(x, out):
            return super().sum_rows(x, out, alpha, beta)
        rows, columns = x.shape[0], out.size
        parts = _cuda.parts_of_column(rows, columns)
        if parts > 1:
            x = self._sum_rows(x, self.empty((parts, columns), out.dtype), parts, 1.0, 0.0)
        return self._sum_rows(x, out, 1, alpha, beta)

    def _sum_rows(self, x: Array, out: Array, parts: int, alpha: Any, beta: Any) -> Array:
        """``out ← β·out + α·`` the sum of the rows of each part of x."""
        rows, columns = x.shape[0], out.size // parts
        sizes, scalars = (rows, columns, parts), (*_cuda.scalar(alpha), *_cuda.scalar(beta))
        self._launch("sum_rows", _cuda.a_column(*sizes), out, x, out, *sizes, *scalars)
        return out

    def gather(
        self, source: Array, rows: Any, out: Array, scale: Any = 1.0, offset: Any = 0.0
    ) -> Array:
        if not self._dense(out):
            return self._take(source, rows, out, scale, offset)
        by, plus = _cuda.per_column(scale), _cuda.per_column(offset)
        strides, picked = self._strides(source), self._picked(source, rows)
        if by is None or plus is None or strides is None or picked is None:
            return super().gather(source, rows, out, scale, offset)
        columns = out.size // max(out.shape[0], 1)
        arguments = (source, *strides, *picked, out, out.size, columns, *by, *plus)
        self._launch(_cuda.SOURCES[source.dtype], _cuda.an_element(out.size), out, *arguments)
        return out

    def _take(self, source: Array, rows: Any, out: Array, scale: Any, offset: Any) -> Array:
        """Labels, which are of no dtype of the kernels: in one call where none is converted."""
        numbers = isinstance(scale, float) and isinstance(offset, float)
        same = source.dtype == out.dtype and numbers and (scale, offset) == (1.0, 0.0)
        if same and isinstance(rows, type(out)) and out.flags.c_contiguous:
            return self.xp.take(source, rows, axis=0, out=out)
        return super().gather(source, rows, out, scale, offset)

    @staticmethod
    def _strides(source: Array) -> tuple[int, int] | None:
        """From row to row and from column to column, in elements; None if there are none."""
        if source.dtype not in _cuda.SOURCES:
            return None
        if source.flags.c_contiguous:
            return source.size // max(source.shape[0], 1), 1
        if source.ndim > 2:
            return None
        size = source.dtype.itemsize
        return source.strides[0] // size, source.strides[-1] // size

    @staticmethod
    def _picked(source: Array, rows: Any) -> tuple[Any, Any, int, int] | None:
        """Indices of int64, of int32, or the start and the step of a slice."""
        if isinstance(rows, slice):
            start, _, step = rows.indices(source.shape[0])
            return 0, 0, start, step
        if not isinstance(rows, type(source)) or not rows.flags.c_contiguous:
            return None
        if rows.dtype == np.int64:
            return rows, 0, 0, 0
        return (0, rows, 0, 0) if rows.dtype == np.int32 else None

    def one_hot(self, labels: Array, out: Array) -> Array:
        name = _cuda.LABELS.get(labels.dtype)
        if name is None or not labels.flags.c_contiguous or not self._dense(out):
            return super().one_hot(labels, out)
        threads = _cuda.an_element(out.size)
        self._launch(name, threads, out, labels, out, out.size, out.shape[1])
        return out

    def sum_at(
        self, x: Array, rows: Array, out: Array, alpha: float = 1.0, beta: float = 0.0
    ) -> Array:
        name = _cuda.KEYS.get(rows.dtype)
        if name is None or not rows.flags.c_contiguous or not self._dense(x, out):
            return super().sum_at(x, rows, out, alpha, beta)
        if isinstance(beta, float) and beta == 0.0:
            out[...] = 0.0
        else:
            self.axpby(out, out, beta, 0.0)
        n, width = x.shape
        threads = _cuda.a_row(n * -(-width // _cuda.WARP))
        self._launch(name, threads, out, x, rows, out, n, width, *_cuda.scalar(alpha))
        return out

    def activate(self, activation: Any, z: Array, out: Array) -> Array:
        name = _cuda.ACTIVATE.get(activation.kernel)
        if name is None or not self._dense(z, out):
            return super().activate(activation, z, out)
        threads, numbers = _cuda.extent(activation, out)
        self._launch(name, threads, out, z, out, *numbers)
        return out

    def bias_activate(self, b: Array, activation: Any, z: Array, out: Array) -> Array:
        name = _cuda.BIAS.get(activation.kernel)
        if name is None or not self._dense(b, z, out):
            return super().bias_activate(b, activation, z, out)
        return self._bias_activate(name, b, activation, z, out)

    def _bias_activate(self, name: str, b: Array, activation: Any, z: Array, out: Array) -> Array:
        sizes = out.size, out.shape[1], math.prod(out.shape[2:])
        threads = _cuda.an_element(out.size)
        self._launch(name, threads, out, b, z, out, *sizes, number_of(activation))
        return out

    def activate_backward(self, activation: Any, delta: Array, z: Array, a: Array) -> Array:
        name = _cuda.BACKWARD.get(activation.kernel)
        read = (z, a) if activation.needs_z else (a, a)
        if name is None or not self._dense(delta, *read):
            return super().activate_backward(activation, delta, z, a)
        threads, numbers = _cuda.extent(activation, delta)
        arrays = (delta, a) if activation.kernel == "softmax" else (delta, *read)
        self._launch(name, threads, delta, *arrays, *numbers)
        return delta

    def cost_and_delta(self, objective: Any, z: Array, a: Array, y: Array, out: Array) -> Array:
        name = _cuda.COSTS.get(objective.kernel)
        if name is None or out.ndim != 2 or not self._dense(z, a, y, out):
            return super().cost_and_delta(objective, z, a, y, out)
        values = self.empty(out.shape[:1], out.dtype)
        self._launch(name, _cuda.a_row(out.shape[0]), out, z, a, y, out, values, *out.shape)
        return values

    def optimize(
        self, optimizer: Any, theta: Array, grad: Array, state: Any, step: int, scalars: Any
    ) -> None:
        name, arguments = _cuda.OPTIMIZE.get(optimizer.kernel, (None, None))
        slots = [state.slots[slot] for slot in optimizer.slots()]
        if name is None or arguments is None or not self._dense(theta, grad, *slots):
            super().optimize(optimizer, theta, grad, state, step, scalars)
            return
        threads, size = _cuda.an_element(theta.size), theta.size
        if slots:
            given = arguments(optimizer, state.decayed, scalars)
            self._launch(name, threads, theta, theta, grad, *slots, size, *given)
        else:
            self._launch("descend", threads, theta, theta, grad, size, *_cuda.scalar(scalars[0]))
