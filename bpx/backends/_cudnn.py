"""Convolutions by cuDNN, through its Python front end, where that is installed.

cuDNN's heuristics choose among its kernels; none is timed, so that a run that goes on elsewhere
has the same bits. What cuDNN refuses, the caller does another way.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from ..extras import OR_12, PACKAGES
from ._base import AT_ONCE, Array, BackendError
from ._cuda_library import CudaLibrary, Handle

WORKSPACE = 4 * AT_ONCE  # bytes that a plan may ask for: what patches in float32 may take
ALIGNMENT = 16  # bytes: of each address, as the front end promises cuDNN
PLANS = 512  # of a thread: each takes about 1 MB of the host (front end 1.32, cuDNN 9.28)

# The uids of x, the weights and z (or its δ), and by operation which of them are its inputs, under
# the front end's names; the other is its output.
X, WEIGHTS, Z = 1, 2, 3
OPERATIONS = {
    "conv_fprop": {"image": X, "weight": WEIGHTS},
    "conv_wgrad": {"image": X, "loss": Z},
    "conv_dgrad": {"loss": Z, "filter": WEIGHTS},
}

# cudnnBackendNumericalNote_t, of what no plan may do: other bits each time; less than float32 in
# factors or sums; errors in each element of the size of the whole transform. And for float32
# tensor cores, which read float32 as TF32.
BARRED = (
    *("NONDETERMINISTIC", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"),
    *("FFT", "WINOGRAD", "WINOGRAD_TILE_4x4", "WINOGRAD_TILE_6x6", "WINOGRAD_TILE_13x13"),
)
NOTES = {"float32": (*BARRED, "TENSOR_CORE"), "tf32": BARRED}

WITHOUT = "to do without cuDNN: pip uninstall nvidia-cudnn-frontend"


@cache
def front_end() -> Any:
    """The module ``cudnn``, its library loaded; None: it is not installed.

    Raises
    ------
    BackendError
        It is installed, and the library is not found.
    """
    spec = importlib.util.find_spec("cudnn")
    if spec is None or spec.origin is None:  # or it is a folder of that name
        return None
    try:
        from cuda import pathfinder

        # The front end finds it only where it is loaded, or on the system's path.
        pathfinder.load_nvidia_dynamic_lib("cudart")
        found = importlib.import_module("cudnn")
        found.backend_version()  # without its library some versions fail here, not before
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        raise BackendError(
            f"cuDNN's front end is installed, but its library was not found ({error}): pip "
            f"install {PACKAGES['cuda13']} {PACKAGES['cudnn13']} {OR_12}; {WITHOUT}"
        ) from error
    return found


class Plan(NamedTuple):
    """How an operation is done, and the bytes that it takes meanwhile."""

    graph: Any
    size: int


@dataclass
class _Handle(Handle):
    """What was made with it."""

    plans: dict[Any, Plan | None] = field(default_factory=dict)  # None: cuDNN refuses

    def __del__(self) -> None:
        self.plans.clear()  # before the handle
        super().__del__()


class Cudnn(CudaLibrary):
    """Convolutions on one device; `load` gives the front end, or None."""

    def is_here(self) -> bool:
        return self._load() is not None

    def __call__(
        self, operation: str, x: Array, weights: Array, z: Array, sliding: Any, precision: str
    ) -> bool:
        """Do one of `OPERATIONS`, on dense float32; False: cuDNN does not, and nothing was done.

        `sliding` says where the windows lie that `weights` slide over x to give z.
        """
        addresses = {
            uid: self._address(array) for uid, array in ((X, x), (WEIGHTS, weights), (Z, z))
        }
        if any(address % ALIGNMENT for address in addresses.values()):
            return False
        handle, stream = self._current()
        key = operation, x.shape, weights.shape, sliding, precision
        if key not in handle.plans:
            plan = self._plan(handle, operation, (x.shape, weights.shape, z.shape), key[3:])
            if len(handle.plans) >= PLANS:
                del handle.plans[next(iter(handle.plans))]
            handle.plans[key] = plan
        plan = handle.plans[key]
        if plan is None:
            return False
        room = self._address(self._room(handle, stream, plan.size)) if plan.size else 0
        self._ask(operation, plan.graph.execute, addresses, room, handle.pointer)
        return True

    def held(self) -> tuple[Any, ...]:
        """What a recording of this thread's work needs for as long as it is replayed.

        With a plan goes the code of its kernels, and a larger room may take a room's place.
        """
        handle: _Handle | None = getattr(self._local, "handle", None)
        return () if handle is None else (handle, *handle.plans.values(), *handle.rooms.values())

    def _current(self) -> tuple[_Handle, int]:
        """The thread's handle, on its current stream, and that."""
        cudnn, stream = self._load(), self._stream()
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            pointer = self._ask("create_handle", cudnn.create_handle)
            handle = self._local.handle = _Handle(pointer, cudnn.destroy_handle)
        if handle.stream != stream:
            self._ask("set_stream", cudnn.set_stream, handle.pointer, stream)
            handle.stream = stream
        return handle, stream

    def _plan(
        self, handle: _Handle, operation: str, shapes: Any, how: tuple[Any, str]
    ) -> Plan | None:
        """Of the plans that are allowed, the one cuDNN recommends most; None: there is none."""
        cudnn, (sliding, precision) = self._load(), how
        # The latter where the front end, in Python, has not got as far as the library.
        refusals = cudnn.cudnnGraphNotSupportedError, NotImplementedError
        try:
            graph = _graph(cudnn, handle.pointer, operation, shapes, sliding)
            # Not the mode FALLBACK: of those without speed this library has one of its own.
            graph.create_execution_plans([cudnn.heur_mode.A])
            # A filter marks plans that are there: before, it would say nothing.
            graph.deselect_numeric_notes(
                [getattr(cudnn.numerical_note, note) for note in NOTES[precision]]
            )
            graph.deselect_workspace_greater_than(WORKSPACE)
            graph.check_support()
            graph.build_plans()
        except refusals:
            return None
        except (RuntimeError, ValueError) as error:
            if "NOT_SUPPORTED" in str(error):  # a status of the library's, as text
                return None
            raise _failed(operation, error) from error
        return Plan(graph, graph.get_workspace_size())

    @staticmethod
    def _ask(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (RuntimeError, ValueError) as error:
            raise _failed(what, error) from error


def _failed(what: str, error: Exception) -> BackendError:
    return BackendError(
        f"cuDNN failed in {what} ({error}). For a newer one: pip install -U {PACKAGES['cudnn13']} "
        f"{OR_12}; {WITHOUT}"
    )


def _graph(cudnn: Any, handle: Any, operation: str, shapes: Any, sliding: Any) -> Any:
    """A graph of one operation, as far as it can be made without knowing how it is done."""
    real = cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        io_data_type=real, intermediate_data_type=real, compute_data_type=real, handle=handle
    )
    images = {uid: _image(shape) for uid, shape in zip((X, WEIGHTS, Z), shapes, strict=True)}
    inputs = {}
    for name, uid in OPERATIONS[operation].items():
        dims = images.pop(uid)
        inputs[name] = graph.tensor(dim=dims, stride=_dense(dims), data_type=real).set_uid(uid)
    axes = _axes(sliding)
    out = getattr(graph, operation)(**inputs, **axes)
    ((uid, dims),) = images.items()
    out.set_output(True).set_data_type(real).set_uid(uid).set_dim(dims).set_stride(_dense(dims))
    graph.validate()
    graph.build_operation_graph()
    return graph


def _image(shape: tuple[int, ...]) -> list[int]:
    """Four axes: a sequence is an image of one row."""
    return [*shape[:2], *[1] * (4 - len(shape)), *shape[2:]]


def _dense(dims: list[int]) -> list[int]:
    """Strides in elements, row after row without gaps."""
    strides = [1]
    for length in reversed(dims[1:]):
        strides.insert(0, strides[0] * length)
    return strides


def _axes(sliding: Any) -> dict[str, list[int]]:
    """What the front end asks for about each axis of an image."""
    alone = 2 - len(sliding.size)
    before, after = zip(*sliding.padding, strict=True)
    return {
        "pre_padding": [*[0] * alone, *before],
        "post_padding": [*[0] * alone, *after],
        "stride": [*[1] * alone, *sliding.stride],
        "dilation": [*[1] * alone, *sliding.dilation],
    }
