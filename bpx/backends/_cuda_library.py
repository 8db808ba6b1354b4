"""What cuBLAS and cuDNN have in common: a handle a thread, and what it needs of the backend."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._base import Array


@dataclass
class Handle:
    """A thread's handle, and the stream that it is on."""

    pointer: Any
    destroy: Callable[[Any], Any]
    stream: int | None = None

    def __del__(self) -> None:
        if not sys.is_finalizing():  # when CUDA may be gone before
            self.destroy(self.pointer)


class CudaLibrary:
    """A library on one device: a handle a thread, on the stream that is the thread's current one.

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
