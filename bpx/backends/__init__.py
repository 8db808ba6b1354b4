"""Which array libraries are available, and the one a user asked for.

>>> import bpx
>>> bpx.backends.get("numpy")
<bpx backend 'numpy'>
"""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import last_word
from ..registry import nearest
from ._ahead import Compiled, compile
from ._base import Array, Backend, BackendError, native
from ._conversion import NUMBERS, host_numbers, is_sparse, refuse
from ._libraries import LIBRARIES, Available, Device
from ._torch import is_tensor

__all__ = [
    "Array",
    "Available",
    "Backend",
    "BackendError",
    "Compiled",
    "Device",
    "asarray",
    "available",
    "compile",
    "get",
    "is_sparse",
    "move",
    "of",
    "on_host",
]

_cache: dict[str, Backend] = {}
_others: dict[str, Backend] = {}  # namespaces that are not in `LIBRARIES`


def get(backend: Any = None) -> Backend:
    """The backend that a name, a namespace, an array or nothing stands for.

    Parameters
    ----------
    backend : str, namespace, array, Backend or None
        ``"numpy"``, ``"cupy"``, ``"cupy:1"``, ``"torch"``, ``"torch:cuda"``,
        ``"array_api_strict"``, ``"array_api_strict:device1"``; a namespace of the array API
        standard; an array, for the library and device where it lives. None: the environment
        variable ``BPX_BACKEND``, else NumPy. Processes that ``mpiexec`` has started on one host
        take one device each if ``"cupy"`` names none.

    Returns
    -------
    Backend
        The same object for the same name or namespace.

    Raises
    ------
    BackendError
        The library or the device is not available (the message says what to do), or its slices are
        copies.

    Examples
    --------
    >>> import numpy as np
    >>> import bpx
    >>> bpx.backends.get("numpy") is bpx.backends.get(np) is bpx.backends.get(np.zeros(3))
    True
    """
    if isinstance(backend, Backend):
        return backend
    if backend is None:
        backend = os.environ.get("BPX_BACKEND") or "numpy"
    if isinstance(backend, ModuleType) or (
        not isinstance(backend, str) and _is_namespace(backend)
    ):
        return _from_namespace(backend)
    if not isinstance(backend, str):
        return _from_array(backend)
    if backend not in _cache:
        library, _, device = backend.partition(":")
        if library not in LIBRARIES:
            hint = f"{nearest(library, list(LIBRARIES))}, or a namespace of the array API standard"
            if library in ("cpu", "cuda", "gpu"):
                meant = "'numpy'" if library == "cpu" else "'cupy' or 'torch:cuda'"
                hint = f": use {meant}"
            elif library in ("float32", "float64"):
                hint = f": that is a dtype; pass it as dtype={backend!r}"
            raise BackendError(f"unknown backend {backend!r}{hint}")
        known = LIBRARIES[library]
        device = known.short(device or known.default())
        place = f"{library}:{device}"  # "torch:cuda" is "torch:cuda:0": one object for a device
        if place not in _cache:
            _cache[place] = known.get(device)
        _cache[backend] = _cache[place]
    return _cache[backend]


def available() -> list[Available]:
    """What is available: each library with its version and devices, or why it cannot be used.

    Examples
    --------
    >>> import bpx
    >>> bpx.backends.available()[0].name
    'numpy'
    """
    return [library.describe() for library in LIBRARIES.values()]


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
        Values that are not an array of numbers: ragged lists, strings, sparse matrices.

    Examples
    --------
    >>> import bpx
    >>> bpx.backends.asarray(bpx.backends.get("numpy"), [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    backend.use()
    if type(values) is np.ndarray and values.dtype.kind in "biuf":
        return backend.from_host(native(values))
    library = _library(values)
    refuse(values, what, library)
    if library in LIBRARIES and library != "numpy":
        return _from_library(backend, values, what)
    if isinstance(values, list | tuple):
        values = _with_rows_on_host(values, what)
    return backend.from_host(native(host_numbers(values, what)))


def _with_rows_on_host(values: list[Any] | tuple[Any, ...], what: str) -> Any:
    """A list whose tensors are NumPy's arrays; TypeError for rows that are not whole."""
    arrays = {kind for kind in {*map(type, values)} if hasattr(kind, "__dlpack__")}
    if arrays <= {np.ndarray}:
        return values
    for row in values:
        if type(row) in arrays:
            library = _library(row)
            stack = "torch.stack" if library == "torch" else "np.ma.stack"
            refuse(row, what, library, f"{stack}({last_word(what)})")
    on_cpu = [is_tensor(row) and row.device.type == "cpu" for row in values]
    return [on_host(row) if here else row for row, here in zip(values, on_cpu, strict=True)]


def _from_library(backend: Backend, values: Array, what: str) -> Array:
    """An array of PyTorch, CuPy or array-api-strict, on `backend`."""
    source = _from_array(values)
    if not source.xp.isdtype(values.dtype, ("bool", "integral", "real floating")):
        raise TypeError(NUMBERS.format(what, values.dtype))
    if backend.is_host and not source.is_host:
        raise BackendError(
            f"{what} is on {source.name!r}, and the network is on {backend.name!r}: make "
            f'the network with backend="{source.name}", or move it: net.to("{source.name}")'
        )
    try:
        return move(backend, values)
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{what} has dtype {values.dtype}, which cannot be moved to {backend.name!r} "
            f"({error}): convert it to float32 first"
        ) from error


def move(backend: Backend, array: Any) -> Array:
    """As `asarray`, which refuses to bring a device's array back to the host: this does.

    TypeError for what `asarray` refuses, such as tensors whose elements are in no memory.

    >>> import numpy as np
    >>> import bpx
    >>> x = np.ones(3, np.float32)
    >>> bpx.backends.move(bpx.backends.get("numpy"), x) is x
    True
    """
    source = of(array)
    if source is None:
        return asarray(backend, array)
    refuse(array, "the array", _library(array))
    if source is backend:
        return source.own(array)
    if not source.is_host:  # of two libraries on one device: shared
        with contextlib.suppress(AttributeError, BufferError, RuntimeError, TypeError, ValueError):
            shared = backend.xp.from_dlpack(array)
            if _from_array(shared) is backend:
                return shared
    return backend.from_host(source.to_host(array))


def of(values: Any) -> Backend | None:
    """Where an array lives; None for anything else: lists, frames, sparse matrices.

    >>> import numpy as np
    >>> import bpx
    >>> bpx.backends.of(np.zeros(3)), bpx.backends.of([0.0])
    (<bpx backend 'numpy'>, None)
    """
    known = _library(values) in LIBRARIES or hasattr(values, "__array_namespace__")
    return _from_array(values) if known else None


def on_host(values: Any) -> Any:
    """An array of any library as NumPy's; anything else as it is.

    >>> import numpy as np
    >>> import bpx
    >>> bpx.backends.on_host(np.zeros(2)).tolist(), bpx.backends.on_host([0.0])
    ([0.0, 0.0], [0.0])
    """
    source = of(values)
    if source is None or source.name == "numpy":
        return values
    refuse(values, "the array", _library(values))
    return source.to_host(values)


def _library(values: Any) -> str:
    """The library of an array; empty for a library's modules, dtypes, loaders and the like."""
    name = type(values).__module__.partition(".")[0]
    if name not in LIBRARIES:
        return "torch" if is_tensor(values) else name
    return name if hasattr(values, "__dlpack__") else ""


def namespace(values: Any) -> str:
    """The library that takes `values`, in the code of a message: np, unless a device has them."""
    library = _library(values)
    return "np" if library not in LIBRARIES or _from_array(values).is_host else library


def _is_namespace(value: Any) -> bool:
    return hasattr(value, "__array_namespace_info__")


def _from_namespace(xp: Any) -> Backend:
    name = xp.__name__.removeprefix("array_api_compat.")
    if name in LIBRARIES:
        return get(name)
    if not _is_namespace(xp):
        raise BackendError(
            f"{xp.__name__!r} does not follow the array API standard (it has no "
            "__array_namespace_info__); array-api-compat may wrap it"
        )
    found = _others.get(xp.__name__)
    if found is None or found.xp is not xp:
        found = _others[xp.__name__] = Backend(xp.__name__, xp)
    return found


def _unpickled(name: str) -> Backend:
    """The backend of that name, in the process that unpickles it."""
    return get(name if name.partition(":")[0] in LIBRARIES else import_module(name))


def _from_array(array: Any) -> Backend:
    library = _library(array)
    if library == "torch":
        device = array.device
        return get("torch" if device.type == "cpu" else f"torch:{device}")
    if library == "cupy":
        usual = get("cupy")  # another one in each process of a launcher
        here = array.device.id
        return usual if usual.device.id == here else get(f"cupy:{here}")
    if library == "array_api_strict":
        name = str(array.device).split("'")[1]
        return get("array_api_strict" if name == "CPU_DEVICE" else f"array_api_strict:{name}")
    if library == "numpy":
        return get("numpy")
    if hasattr(array, "__array_namespace__") and not isinstance(array, type):
        return _from_namespace(array.__array_namespace__())
    raise BackendError(
        f"expected the name of a backend, a namespace or an array, got {type(array).__name__}"
    )
