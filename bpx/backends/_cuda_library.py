"""What cuBLAS and cuDNN share: one handle per thread, and what it needs of the backend."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ._base import Array

_lock = threading.RLock()  # a handle may end at any line of Python's, also at one that holds it
_captures = 0  # at hand, of all threads
_retired: list[tuple[Callable[[Any], Any], Any, dict[int, Array]]] = []


@contextlib.contextmanager
def capturing() -> Iterator[None]:
    """Destroy no handle meanwhile: that waits for the device, and a capture in any thread fails.

    CUDA C++ Programming Guide, "Prohibited and Unhandled Operations" of stream capture.
    """
    global _captures
    with _lock:
        _captures += 1
    try:
        yield
    finally:
        with _lock:
            _captures -= 1
        _destroy_retired()


def _destroy_retired() -> None:
    with _lock:
        while _retired and not _captures:
            destroy, pointer, _rooms = _retired.pop()  # which its last work may still be in
            destroy(pointer)


@dataclass
class Handle:
    """A thread's handle, the stream that it is on, and memory for its work on each stream.

    In the memory of one stream, work on another would not wait for what is there.
    """

    pointer: Any
    destroy: Callable[[Any], Any]
    stream: int | None = None
    rooms: dict[int, Array] = field(default_factory=dict)

    def __del__(self) -> None:
        if sys.is_finalizing():  # when CUDA may be gone before
            return
        with _lock:
            _retired.append((self.destroy, self.pointer, self.rooms))
        _destroy_retired()


class CudaLibrary:
    """A library on one device: one handle per thread, on the thread's current stream.

    Parameters
    ----------
    load : callable
        Gives the library.
    stream : callable
        Gives the address of the current stream.
    allocate : callable
        Bytes on the device, from their number.
    address : callable
        Where an array begins.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        stream: Callable[[], int],
        allocate: Callable[[int], Array],
        address: Callable[[Array], int],
    ) -> None:
        self._load, self._stream = load, stream
        self._allocate, self._address = allocate, address
        self._local = threading.local()

    def _room(self, handle: Handle, stream: int, size: int) -> Array:
        """`size` bytes or more for the handle's work on a stream."""
        found = handle.rooms.get(stream)
        if found is None or found.shape[0] < size:
            found = handle.rooms[stream] = self._allocate(1 << (size - 1).bit_length())
        return found
