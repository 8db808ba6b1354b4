"""Where rows from a disk land on their way to a backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._base import Array, Backend, native


class Slot:
    """A buffer on the host, filled on one thread for another to work on.

    Attributes
    ----------
    host : ndarray
        To be written to.
    """

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: Any) -> None:
        self.backend, self.host = backend, np.empty(shape, dtype)

    def moved(self, rows: int) -> Array:
        """The first rows on the backend, until the buffer is written to again."""
        return self.backend.from_host(native(self.host[:rows]))

    def left(self) -> None:
        """All work on what was `moved` is done, or waits on the calling thread's queue."""


class PinnedSlot(Slot):
    """CuPy: memory that the device copies from by itself, on a stream beside the one of `fit`.

    The copy is waited for here, on the thread that reads; the steps on the window before go on
    meanwhile, and what is handed over is on the device. The device's buffer is written to again
    after the kernels that were queued until it was `left`: a prediction waits for none of them.
    """

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: Any) -> None:
        import cupy

        backend.use()
        self.backend = backend
        # Not from CuPy's pool, which takes the next power of two and never gives it back.
        count, dtype = math.prod(shape), np.dtype(dtype)
        memory = cupy.cuda.PinnedMemory(max(1, count * dtype.itemsize))
        pinned = cupy.cuda.PinnedMemoryPointer(memory, 0)
        self.host = np.frombuffer(pinned, dtype, count).reshape(shape)
        self._device = cupy.empty(shape, dtype)
        # CuPy's pool may have taken it over from kernels that are still queued on this stream,
        # and the other stream does not wait for them.
        cupy.cuda.get_current_stream().synchronize()
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def left(self) -> None:
        import cupy

        self.backend.use()
        self._stream.wait_event(cupy.cuda.get_current_stream().record())

    def moved(self, rows: int) -> Array:
        self.backend.use()  # the current device is each thread's own
        there = self._device[:rows]
        there.set(self.host[:rows], stream=self._stream)
        self._stream.synchronize()
        return there
