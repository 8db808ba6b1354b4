"""Plans by cuDNN itself for a device that is only described: made without one, and not run.

    python tests/cudnn_described.py FOLDER

Prints what the library says when a plan is run without a handle; and for each case the operation,
the precision and the bytes that its plan works in, or null where cuDNN refuses. The cases are
those of the tests, a larger one and the book's. Exits with 77 if it does not get that far.
`test_cudnn_library.py` runs it in a process of its own, since the stand-in for CUDA's driver must
not meet another library.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import cuda_on_host
import numpy as np
from test_kernels import convolutions

from bpx.backends import BackendError, _cudnn
from bpx.layers.sliding import Sliding

H100 = {
    "deviceName": "NVIDIA H100 80GB HBM3",
    "cudaDeviceId": 0,
    "deviceVer": 900,
    "driverVer": 13000,
    "multiProcessorCount": 132,
    "smCountOrigin": 0,
    "smClockRateKHz": 1980000,
    "memClockRateKHz": 2619000,
    "memoryBusWidth": 5120,
    "l2CacheSize": 50 << 20,
    "totalGlobalMem": 80 << 30,
    "maxSharedMemoryPerBlock": 48 << 10,
    "maxSharedMemoryPerBlockOptin": 227 << 10,
    "reservedSharedMemoryPerBlock": 1 << 10,
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
    "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048,
    "warpSize": 32,
    "pciDeviceId": 0,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
}
# What the library is linked with; no device is ever asked.
DRIVER = ("cuGetErrorString", "cuModuleGetFunction", "cuModuleLoadData", "cuModuleUnload")
DRIVER += ("cuTensorMapEncodeIm2col", "cuTensorMapEncodeTiled")

LARGER = (128, 64, 32, 32), (64, 64, 3, 3), (128, 64, 32, 32)
IN_LARGER = Sliding((32, 32), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
BOOK = (10, 20, 12, 12), (40, 20, 5, 5), (10, 40, 8, 8)  # its second convolution
IN_BOOK = Sliding((12, 12), (5, 5), (1, 1), (1, 1), ((0, 0), (0, 0)))


class NotHere(Exception):
    """Something that is needed to go on is missing."""


def load_driver(folder: Path) -> None:
    """CUDA's driver, or a library of its name whose functions all give an error."""
    try:
        ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
    except OSError:
        source = "".join(f'extern "C" int {name}() {{ return 100; }}\n' for name in DRIVER)
        path = folder / "libcuda.so.1"
        command = [cuda_on_host.compiler(), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
        command += ["-x", "c++", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


class Described:
    """The front end, whose graphs are for the described device and have no handle."""

    def __init__(self) -> None:
        try:
            import cudnn

            self.properties = cudnn.create_device_properties(json.dumps(H100))
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise NotHere(f"cuDNN takes no description of a device: {error}") from error
        self.cudnn = cudnn

    def __getattr__(self, name):
        return getattr(self.cudnn, name)

    def create_handle(self):
        return None

    def set_stream(self, handle, stream):
        pass

    def destroy_handle(self, handle):
        pass

    def pygraph(self, *, handle, **options):
        properties = {"device_property": self.properties, "sm_version": 90}
        return self.cudnn.pygraph(**options, **properties)


def plans(convolution: _cudnn.Cudnn) -> list[tuple[str, str, int | None]]:
    handle, found = convolution._current(), []
    cases = [
        (x.shape, weights.shape, delta.shape, sliding)
        for x, weights, delta, sliding in convolutions(np.random.default_rng(0))
    ]
    for *shapes, sliding in [*cases, (*LARGER, IN_LARGER), (*BOOK, IN_BOOK)]:
        for operation in _cudnn.OPERATIONS:
            for precision in _cudnn.NOTES:
                plan = convolution._plan(handle, operation, shapes, (sliding, precision))
                size = None if plan is None else plan.graph.get_workspace_size()
                found.append((operation, precision, size))
    return found


def refusal(convolution: _cudnn.Cudnn) -> str:
    """The library's, of arguments that are right except for the handle."""
    arrays = (np.zeros(shape, np.float32) for shape in BOOK)
    try:
        convolution("conv_fprop", *arrays, IN_BOOK, "tf32")
    except BackendError as error:
        return str(error)
    return "none"


def main() -> int:
    try:
        load_driver(Path(sys.argv[1]))
        front = Described()
    except (NotHere, cuda_on_host.NoCompiler) as error:
        print(error)
        return 77
    convolution = _cudnn.Cudnn(
        lambda: front, lambda: 0, lambda n: np.empty(n, np.uint8), lambda a: a.ctypes.data
    )
    print(json.dumps([refusal(convolution), plans(convolution)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
