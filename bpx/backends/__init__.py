"""Which array libraries are here, and the one a user asked for.

>>> import bpx
>>> bpx.backends.get("numpy")
<bpx backend 'numpy'>
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from ..registry import nearest
from ._base import Array, Backend, BackendError
from ._numpy import NumpyBackend

__all__ = ["Available", "Backend", "BackendError", "Device", "asarray", "available", "get"]

_cache: dict[str, Backend] = {}


@dataclass(frozen=True)
class Device:
    """A device of a library: the name that ``backend=`` takes, what it is, bytes of memory."""

    name: str
    description: str
    memory: int | None = None


@dataclass(frozen=True)
class Available:
    """One library: what is here, or `why` it is not and how to mend that."""

    name: str
    version: str | None = None
    devices: tuple[Device, ...] = field(default=())
    why: str | None = None


def get(backend: Any = None) -> Backend:
    """The backend that a name, a namespace, an array or nothing stands for.

    Parameters
    ----------
    backend : str, namespace, array, Backend or None
        ``"numpy"``, ``"cupy"``, ``"cupy:1"``, ``"torch"``, ``"torch:cuda"``,
        ``"array_api_strict"``, ``"array_api_strict:device1"``; a namespace of the array API
        standard; an array, for the library and device where it lives. None: the environment
        variable ``BPX_BACKEND``, else NumPy.

    Returns
    -------
    Backend
        The same object for the same name.

    Raises
    ------
    BackendError
        The library or the device is not here (the message says how to mend it), or its slices
        are copies.
    """
    if isinstance(backend, Backend):
        return backend
    if backend is None:
        backend = os.environ.get("BPX_BACKEND") or "numpy"
    if isinstance(backend, ModuleType) or not isinstance(backend, str) and _is_namespace(backend):
        return _from_namespace(backend)
    if not isinstance(backend, str):
        return _from_array(backend)
    if backend not in _cache:
        library, _, device = backend.partition(":")
        if library not in _LIBRARIES:
            raise BackendError(
                f"unknown backend {backend!r}{nearest(library, list(_LIBRARIES))}, "
                "or a namespace of the array API standard"
            )
        _cache[backend] = _LIBRARIES[library].load(device)
    return _cache[backend]


def available() -> list[Available]:
    """What is here: each library with its version and devices, or why it cannot be used.

    Examples
    --------
    >>> import bpx
    >>> bpx.backends.available()[0].name
    'numpy'
    """
    return [_describe(name) for name in _LIBRARIES]


def asarray(backend: Backend, values: Any, what: str = "the array") -> Array:
    """`values` as an array of `backend`, moved there if it lives on the host.

    Parameters
    ----------
    values : array or nested sequence of numbers
        An array of any library that exports DLPack, or whatever ``numpy.asarray`` takes.
    what : str
        What the values are, for messages.

    Raises
    ------
    BackendError
        A device array for a backend on the host: moving it back unasked would hide the cost.
    TypeError
        Values that are no array of numbers: ragged lists, strings, sparse matrices.
    """
    library = _library(values)
    if library == backend.xp.__name__.rpartition(".")[2] and library != "numpy":
        if backend.device is None or values.device == backend.device:
            return values.detach() if library == "torch" else values
    if library == "scipy":
        raise TypeError(f"{what} is a sparse matrix; bpx takes dense arrays: {what}.toarray()")
    if library in _LIBRARIES and library != "numpy":
        source = _from_array(values)
        if backend.is_host and not source.is_host:
            raise BackendError(
                f"{what} is on {source.name!r}, and the network is on {backend.name!r}: make it "
                f'there with backend="{source.name}" (or move it: net.to("{source.name}"))'
            )
        return backend.from_host(source.to_host(values))
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        try:
            values = np.from_dlpack(values)
        except (BufferError, RuntimeError, TypeError):
            pass  # it may still convert itself through __array__, below
    try:
        host = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} is not an array of numbers: {error}") from error
    if host.dtype.kind not in "biuf":
        raise TypeError(
            f"{what} must be real numbers (floats, integers or booleans), got dtype {host.dtype}"
        )
    if not host.dtype.isnative:
        host = host.astype(host.dtype.newbyteorder("="))
    return backend.from_host(host)


def _library(values: Any) -> str:
    return type(values).__module__.partition(".")[0]


def _is_namespace(value: Any) -> bool:
    return hasattr(value, "__array_namespace_info__")


def _from_namespace(xp: Any) -> Backend:
    name = xp.__name__.rpartition(".")[2]
    if name in _LIBRARIES:
        return get(name)
    if not _is_namespace(xp):
        raise BackendError(
            f"{xp.__name__!r} does not follow the array API standard (it has no "
            "__array_namespace_info__); array-api-compat may wrap it"
        )
    return Backend(xp.__name__, xp)


def _from_array(array: Any) -> Backend:
    library = _library(array)
    if library == "torch":
        device = array.device
        return get("torch" if device.type == "cpu" else f"torch:{device}")
    if library == "cupy":
        return get(f"cupy:{array.device.id}" if array.device.id else "cupy")
    if library == "array_api_strict":
        name = str(array.device).split("'")[1]
        return get("array_api_strict" if name == "CPU_DEVICE" else f"array_api_strict:{name}")
    if library == "numpy":
        return get("numpy")
    if hasattr(array, "__array_namespace__"):
        return _from_namespace(array.__array_namespace__())
    raise BackendError(
        f"expected the name of a backend, a namespace or an array, got {type(array).__name__}"
    )


# --- the libraries ------------------------------------------------------------------------------


def _host_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _pick(library: str, device: str, devices: tuple[Device, ...]) -> str:
    """The device part of a full name, checked against those that are here."""
    known = [d.name.partition(":")[2] for d in devices]
    if device not in known:
        raise BackendError(
            f"{library} has no device {device!r} here"
            f"{nearest(device, [d.name for d in devices])}"
        )
    return device


class _Numpy:
    package = "numpy"
    mend = "pip install numpy"

    @staticmethod
    def devices() -> tuple[Device, ...]:
        return (Device("numpy", f"CPU, {os.cpu_count()} cores", _host_memory()),)

    @staticmethod
    def load(device: str) -> Backend:
        if device:
            raise BackendError(f"numpy has one device, the CPU: backend='numpy', not ':{device}'")
        return NumpyBackend()


class _Cupy:
    package = "cupy"
    mend = (
        "CuPy is not installed: pip install 'bpx[cuda13]' (or 'bpx[cuda12]', by the version of "
        "the CUDA driver)"
    )

    @staticmethod
    def devices() -> tuple[Device, ...]:
        import cupy

        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(_Cupy.why(str(error))) from error
        found = []
        for index in range(count):
            properties = cupy.cuda.runtime.getDeviceProperties(index)
            name = f"cupy:{index}" if index else "cupy"
            description = properties["name"].decode()
            found.append(Device(name, description, properties["totalGlobalMem"]))
        if not found:
            raise BackendError("CuPy is installed, but no CUDA device was found")
        return tuple(found)

    @staticmethod
    def why(error: str) -> str:
        if "InsufficientDriver" in error or "StubLibrary" in error:
            return (
                "CuPy is installed, but no CUDA driver was found, or it is older than CuPy's CUDA "
                "(nvidia-smi shows the driver; pip install 'bpx[cuda12]' suits older ones)"
            )
        if "NoDevice" in error:
            return "CuPy is installed, but no CUDA device was found"
        return f"CuPy is installed, but CUDA does not start: {error}"

    @staticmethod
    def load(device: str) -> Backend:
        devices = _Cupy.devices()
        device = "" if device == "0" else device
        _pick("CuPy", device, devices)
        import array_api_compat.cupy as xp
        import cupy

        from ._cupy import CupyBackend

        name = f"cupy:{device}" if device else "cupy"
        return CupyBackend(name, xp, cupy.cuda.Device(int(device or 0)))


class _Torch:
    package = "torch"
    mend = "PyTorch is not installed: pip install torch"

    @staticmethod
    def devices() -> tuple[Device, ...]:
        import torch

        found = [Device("torch", f"CPU, {torch.get_num_threads()} threads", _host_memory())]
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                properties = torch.cuda.get_device_properties(index)
                name = f"torch:cuda:{index}"
                found.append(Device(name, properties.name, properties.total_memory))
        if torch.backends.mps.is_available():
            found.append(Device("torch:mps", "Apple GPU"))
        return tuple(found)

    @staticmethod
    def load(device: str) -> Backend:
        device = {"cpu": "", "cuda": "cuda:0", "mps:0": "mps"}.get(device, device)
        _pick("PyTorch", device, _Torch.devices())
        import array_api_compat.torch as xp
        import torch

        from ._torch import TorchBackend

        name = f"torch:{device}" if device else "torch"
        return TorchBackend(name, xp, torch.device(device or "cpu"))


class _Strict:
    package = "array_api_strict"
    mend = "array-api-strict is not installed: pip install array-api-strict"

    @staticmethod
    def devices() -> tuple[Device, ...]:
        import array_api_strict as xp

        names = [str(d).split("'")[1] for d in xp.__array_namespace_info__().devices()]
        return tuple(
            Device(
                "array_api_strict" if name == "CPU_DEVICE" else f"array_api_strict:{name}",
                "the standard and nothing else, for tests",
                _host_memory(),
            )
            for name in names
        )

    @staticmethod
    def load(device: str) -> Backend:
        device = "" if device == "CPU_DEVICE" else device
        _pick("array-api-strict", device, _Strict.devices())
        import array_api_strict as xp

        name = f"array_api_strict:{device}" if device else "array_api_strict"
        return Backend(name, xp, xp.Device(device or "CPU_DEVICE"), is_host=not device)


class _Library:
    """One row of the table: is the package here, and does it work?"""

    def __init__(self, of: Any) -> None:
        self.package: str = of.package
        self.mend: str = of.mend
        self._devices: Callable[[], tuple[Device, ...]] = of.devices
        self._load: Callable[[str], Backend] = of.load

    def devices(self) -> tuple[Device, ...]:
        if importlib.util.find_spec(self.package) is None:
            raise BackendError(self.mend)
        try:
            return self._devices()
        except ImportError as error:
            raise BackendError(f"{self.package} is installed, but does not import: {error}") from error

    def load(self, device: str) -> Backend:
        self.devices()
        return self._load(device)


_LIBRARIES = {
    "numpy": _Library(_Numpy),
    "cupy": _Library(_Cupy),
    "torch": _Library(_Torch),
    "array_api_strict": _Library(_Strict),
}


def _describe(name: str) -> Available:
    library = _LIBRARIES[name]
    try:
        devices = library.devices()
    except BackendError as error:
        return Available(name, why=str(error))
    module = sys.modules.get(library.package)
    version = getattr(module, "__version__", None)
    return Available(name, version or importlib.metadata.version(library.package), devices)
