"""Sums of CuPy's vectors over ranks: NCCL from device to device, or MPI by way of pinned memory.

MPI itself gets only addresses on the host: the wheels' MPI does not know devices, and ends with a
segmentation fault if it gets one of theirs.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..backends import Array, Backend
from .ranks import AllReduce, of_all_ranks

if TYPE_CHECKING:
    from .mpi import MpiRanks

NOT_READY = 600  # cudaErrorNotReady


def all_reduce(ranks: MpiRanks, backend: Backend) -> AllReduce:
    """NCCL if each rank has it, and a device of its own; else through the host.

    CuPy finds it in ``nvidia-nccl-cu13`` (or ``-cu12``), which its own extras do not bring.
    """
    import cupy

    backend.use()
    nccl, here = _library(), ""
    if nccl is not None:
        bus = cupy.cuda.runtime.deviceGetPCIBusId(backend.device.id)
        here = f"{ranks.hosts[ranks.rank]} {bus}"
    places = ranks.texts(here)
    if not all(places) or len(set(places)) < ranks.size:
        return _Pinned(ranks)
    return _Nccl(ranks, backend, nccl)


def _library() -> Any:
    with warnings.catch_warnings():  # CuPy warns if it is missing; here it may be
        warnings.simplefilter("ignore")
        nccl = importlib.import_module("cupy.cuda.nccl")
    return nccl if nccl.available else None


class _Pinned(AllReduce):
    """To pinned memory, summed there by MPI, and back."""

    def __init__(self, ranks: MpiRanks) -> None:
        self.ranks = ranks
        self._host: Any = None

    def __call__(self, vector: Array) -> None:
        import cupy
        import cupyx

        like = vector.shape, vector.dtype
        if self._host is None or (self._host.shape, self._host.dtype) != like:
            self._host = cupyx.empty_pinned(*like)
        stream = cupy.cuda.get_current_stream()
        vector.get(stream=stream, out=self._host)
        stream.synchronize()
        self.ranks.sum_in_place(self._host)
        vector.set(self._host, stream=stream)
        stream.synchronize()  # the host's buffer is written to again


class _Nccl(AllReduce):
    """NCCL's all-reduce on the stream of the steps, which the host does not wait for."""

    def __init__(self, ranks: MpiRanks, backend: Backend, nccl: Any) -> None:
        self.ranks, self.backend, self.nccl = ranks, backend, nccl
        # An id or an error: otherwise the others would wait for an id that does not come.
        identity, failed = b"", ""
        if ranks.rank == 0:
            try:
                identity = nccl.get_unique_id()
            except nccl.NcclError as error:
                failed = str(error)
        failed = ranks.texts(failed)[0]
        if failed:
            raise of_all_ranks(RuntimeError(f"NCCL does not start on rank 0: {failed}"))
        meet = partial(nccl.NcclCommunicator, ranks.size, ranks.broadcast(identity), ranks.rank)
        self._communicator = self._of_all(meet)
        self._connected: set[tuple[int, str]] = set()
        self._types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}

    def _of_all(self, call: Callable[[], Any]) -> Any:
        """NCCL waits in C until all ranks are there: on another thread, while this one listens."""
        found: list[Any] = []

        def work() -> None:
            self.backend.use()
            try:
                found.append(call())
            except Exception as error:  # for the thread that waits
                found.append(error)

        threading.Thread(target=work, daemon=True).start()
        self.ranks.wait_until(lambda: bool(found))
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def __call__(self, vector: Array) -> None:
        import cupy

        name = vector.dtype.name
        reduce = partial(
            self._communicator.allReduce, vector.data.ptr, vector.data.ptr, vector.size,
            self._types[name], self.nccl.NCCL_SUM, cupy.cuda.get_current_stream().ptr,
        )  # fmt: skip
        if (vector.size, name) in self._connected:
            reduce()
        else:  # the first may connect the ranks; by the size NCCL chooses how
            self._of_all(reduce)
            self._connected.add((vector.size, name))

    def wait(self) -> None:
        import cupy

        stream, query = cupy.cuda.get_current_stream(), cupy.cuda.runtime.streamQuery
        self.ranks.wait_until(lambda: bool(query(stream.ptr) != NOT_READY))
        stream.synchronize()  # raises if the device failed: it would never be done

    def close(self, *, abort: bool) -> None:
        # Not left to the collector: all ranks have to take part in NCCL's own end.
        if abort:
            self._communicator.abort()
        else:
            self._communicator.destroy()
