"""As much of CuPy and NCCL as `bpx.parallel.nccl` calls, on NumPy's arrays, with MPI under it.

The names and the order of arguments are those of CuPy 14.
"""

from __future__ import annotations

import ctypes
import sys
import types

import numpy as np


class Vector:
    """An array on a device: its numbers are behind an address."""

    def __init__(self, values):
        self.array = np.array(values)
        self.data = types.SimpleNamespace(ptr=self.array.ctypes.data)
        self.size, self.dtype, self.shape = self.array.size, self.array.dtype, self.array.shape

    def get(self, stream=None, order="C", out=None, blocking=True):
        assert (out.shape, out.dtype) == (self.shape, self.dtype)
        out[...] = self.array

    def set(self, arr, stream=None):
        self.array[...] = arr


ended = []  # how communicators were given back


class Stream:
    ptr, status = 77, 0

    def synchronize(self):
        if self.status:
            raise RuntimeError(f"CUDA error {self.status}")


def library(MPI, available):
    """The module cupy.cuda.nccl."""
    nccl = types.ModuleType("cupy.cuda.nccl")
    nccl.available = available
    if not available:
        return nccl
    nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64, nccl.NCCL_SUM = 7, 8, 0
    nccl.NcclError = type("NcclError", (RuntimeError,), {})

    def get_unique_id():
        assert MPI.COMM_WORLD.rank == 0
        return bytes(range(128))

    class NcclCommunicator:
        def __init__(self, ndev, commId, rank):
            assert (ndev, rank) == (MPI.COMM_WORLD.size, MPI.COMM_WORLD.rank)
            assert commId == bytes(range(128))

        def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
            assert (sendbuf, datatype, op, stream) == (recvbuf, 8, 0, Stream.ptr)
            pointer = ctypes.cast(recvbuf, ctypes.POINTER(ctypes.c_double))
            MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, np.ctypeslib.as_array(pointer, (count,)))

        def abort(self):
            ended.append("abort")

        def destroy(self):
            ended.append("destroy")

    nccl.get_unique_id, nccl.NcclCommunicator = get_unique_id, NcclCommunicator
    return nccl


def install(MPI, available, bus):
    """Take CuPy's place."""
    cupy, cuda, cupyx = (types.ModuleType(name) for name in ("cupy", "cupy.cuda", "cupyx"))
    cuda.runtime = types.SimpleNamespace(
        deviceGetPCIBusId=lambda device: bus, streamQuery=lambda stream: Stream.status
    )
    cuda.get_current_stream = Stream
    cupy.cuda = cuda
    cupyx.empty_pinned = np.empty
    sys.modules |= {
        "cupy": cupy, "cupy.cuda": cuda, "cupyx": cupyx,
        "cupy.cuda.nccl": library(MPI, available),
    }  # fmt: skip
