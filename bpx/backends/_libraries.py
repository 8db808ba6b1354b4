"""The libraries that bpx knows by name: whether they are here, with which devices, or why not."""

from __future__ import annotations

import importlib.util
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from .. import launcher
from ..extras import OR_12, PACKAGES
from ..registry import nearest
from ._base import Backend, BackendError


@dataclass(frozen=True)
class Device:
    """A device of a library: the name that ``backend=`` takes, what it is, bytes of memory.

    >>> import bpx
    >>> bpx.backends.available()[0].devices[0].name
    'numpy'
    """

    name: str
    description: str
    memory: int | None = None


@dataclass(frozen=True)
class Available:
    """One library: what is here, or `why` it is not and how to mend that.

    >>> import bpx
    >>> sorted(found.name for found in bpx.backends.available())
    ['array_api_strict', 'cupy', 'numpy', 'torch']
    """

    name: str
    version: str | None = None
    devices: tuple[Device, ...] = ()
    why: str | None = None


class Library(ABC):
    """A library by name. A subclass says how to find its devices and how to load one."""

    name: ClassVar[str]
    title: ClassVar[str]
    install: ClassVar[str]

    @abstractmethod
    def devices(self) -> tuple[Device, ...]:
        """Its devices here, its default first; imports the library."""

    @abstractmethod
    def load(self, device: str) -> Backend:
        """The backend of a device that is here; ``""`` is the default one."""

    def found(self) -> tuple[Device, ...]:
        """`devices`, or a BackendError that says why there are none and how to mend it."""
        spec = importlib.util.find_spec(self.name)
        if spec is None or spec.origin is None:  # a folder of that name is no package
            raise BackendError(f"{self.title} is not installed: {self.install}")
        try:
            return self.devices()
        except BackendError:
            raise
        except Exception as error:  # a library may raise anything while it is imported
            raise BackendError(
                f"{self.title} is installed, but does not import: {error}"
            ) from error

    def get(self, device: str) -> Backend:
        """The backend of a device, checked against those that are here."""
        names = [found.name for found in self.found()]
        if self.full(device) not in names:
            raise BackendError(
                f"{self.title} has no device {device!r} here{nearest(device, names)}"
            )
        return self.load(device)

    def default(self) -> str:
        """The device that is meant where none is named."""
        return ""

    def short(self, device: str) -> str:
        """A device's name without what may be left out."""
        return device

    def full(self, device: str) -> str:
        return f"{self.name}:{device}" if device else self.name

    def describe(self) -> Available:
        try:
            devices = self.found()
        except BackendError as error:
            return Available(self.name, why=str(error))
        version = getattr(sys.modules.get(self.name), "__version__", "unknown")
        return Available(self.name, version, devices)


class Numpy(Library):
    name, title, install = "numpy", "NumPy", "pip install numpy"

    def devices(self) -> tuple[Device, ...]:
        return (Device("numpy", f"CPU, {os.cpu_count()} cores", host_memory()),)

    def load(self, device: str) -> Backend:
        from . import _fast, _numpy

        return _fast.FastBackend() if _fast.installed() else _numpy.NumpyBackend()


class Cupy(Library):
    name, title = "cupy", "CuPy"
    install = f"pip install {PACKAGES['cuda13']} {OR_12}"

    def default(self) -> str:
        """A device for each process of ``mpiexec`` on this host, as long as there are enough."""
        local = launcher.rank_on_host()
        return self.short(str(local % len(self.found()))) if local else ""

    def short(self, device: str) -> str:
        return "" if device == "0" else device

    def devices(self) -> tuple[Device, ...]:
        import cupy

        runtime = cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise BackendError(self.why(str(error))) from error
        found = []
        for index in range(count):
            properties = runtime.getDeviceProperties(index)
            name = self.full(self.short(str(index)))
            description = properties["name"].decode()
            found.append(Device(name, description, properties["totalGlobalMem"]))
        if not found:
            raise BackendError(self.why("NoDevice"))
        # Through which the backend sees CuPy; a checkout that runs without pip may lack it.
        importlib.import_module("array_api_compat.cupy")
        return tuple(found)

    @staticmethod
    def why(error: str) -> str:
        """What CUDA's error means for a user."""
        if "NoDevice" in error:
            return "CuPy is installed, but no CUDA device was found"
        if "InsufficientDriver" in error or "StubLibrary" in error:
            return (
                "CuPy is installed, but no CUDA driver was found, or it is older than CuPy's CUDA "
                "(nvidia-smi shows it; for older ones, pip uninstall cupy-cuda13x and pip install "
                f"{PACKAGES['cuda12']})"
            )
        return f"CuPy is installed, but CUDA does not start: {error}"

    def load(self, device: str) -> Backend:
        import cupy

        from . import _cupy_namespace as xp
        from ._cupy import CupyBackend

        return CupyBackend(self.full(device), xp, cupy.cuda.Device(int(device or 0)))


class Torch(Library):
    name, title, install = "torch", "PyTorch", "pip install torch"

    def short(self, device: str) -> str:
        return {"cpu": "", "cuda": "cuda:0", "mps:0": "mps"}.get(device, device)

    def devices(self) -> tuple[Device, ...]:
        import torch

        found = [Device("torch", f"CPU, {torch.get_num_threads()} threads", host_memory())]
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                properties = torch.cuda.get_device_properties(index)
                name, memory = f"torch:cuda:{index}", properties.total_memory
                found.append(Device(name, properties.name, memory))
        if torch.backends.mps.is_available():
            found.append(Device("torch:mps", "Apple GPU"))
        return tuple(found)

    def load(self, device: str) -> Backend:
        import array_api_compat.torch as xp
        import torch

        from ._torch import TorchBackend

        # Tensors say "mps:0", which PyTorch does not hold equal to "mps".
        place = "mps:0" if device == "mps" else device or "cpu"
        return TorchBackend(self.full(device), xp, torch.device(place))


class Strict(Library):
    name, title = "array_api_strict", "array-api-strict"
    install = "pip install array-api-strict"

    def short(self, device: str) -> str:
        return "" if device == "CPU_DEVICE" else device

    def devices(self) -> tuple[Device, ...]:
        import array_api_strict as xp

        names = [str(d).split("'")[1] for d in xp.__array_namespace_info__().devices()]
        description = "the standard and nothing else, for tests"
        return tuple(
            Device(self.full(self.short(name)), description, host_memory()) for name in names
        )

    def load(self, device: str) -> Backend:
        import array_api_strict as xp

        place = xp.Device(device or "CPU_DEVICE")
        return Backend(self.full(device), xp, place, is_host=not device)


def host_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


LIBRARIES: dict[str, Library] = {
    library.name: library for library in (Numpy(), Cupy(), Torch(), Strict())
}
