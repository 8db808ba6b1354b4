"""The kernels of the ``.cu`` files: compiled when first asked for, and with how many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ._base import Array
from ._codes import number_of

FILES = [  # in a folder, or in a zip
    resources.files(__package__) / name
    for name in ("kernels.cu", "images.cu", "convolution.cu", "channels.cu", "run.cu")
]

# The dtypes they compute in, and the C++ name of each.
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
REALS = {FLOAT32: "float", FLOAT64: "double"}

# What they gather from.
SOURCES = {
    np.dtype(name): f"gather_{name}"
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    )
}
# To factors of a product in 16 bits.
NARROW = {name: f"narrow_{name}" for name in ("float16", "bfloat16")}

INDICES = np.dtype(np.int64), np.dtype(np.int32)
LABELS = {dtype: f"one_hot_{dtype}" for dtype in INDICES}
KEYS = {dtype: f"sum_at_{dtype}" for dtype in INDICES}

# Activations by `Activation.kernel`: softmax works on rows, the others element by element.
OF_OUTPUTS = ("sigmoid", "tanh", "relu")  # whose derivatives costs and whole runs know
ELEMENTWISE = (*OF_OUTPUTS, "leaky-relu", "elu", "gelu", "silu", "softplus", "exp")
ACTIVATE = {name: f"activate_{name.replace('-', '_')}" for name in (*ELEMENTWISE, "softmax")}
BACKWARD = {name: f"backward_{name.replace('-', '_')}" for name in (*ELEMENTWISE, "softmax")}
BIAS = {name: f"bias_{name.replace('-', '_')}" for name in ("identity", *ELEMENTWISE)}

# Costs by `Objective.kernel`.
COSTS = {
    ("cross-entropy", "sigmoid"): "cross_entropy_sigmoid",
    ("log-likelihood", "softmax"): "log_likelihood_softmax",
    **{("quadratic", name): f"quadratic_{name}" for name in ("identity", *OF_OUTPUTS)},
}

WARP = 32  # threads that run together
MOST_WARPS = 32  # in a block
MOST_BLOCKS = 4096  # fill every device; the kernels' loops go on from there

TILE = 32, 64, 16  # of a product in convolution.cu: rows, columns, and the depth of a step
A_THREAD = 4  # rows, and columns, of it
FILL = 512  # blocks: four on each of the 128 to 132 multiprocessors of a large device
LEAST_PART = 4096  # elements of a part of a channel
LEAST_ROWS = 2048  # of a part of a column, which a block adds in eight turns
LEAST_DEPTH = 8 * TILE[2]  # of a part of a sum: what its steps save must be worth its addition


class Threads(NamedTuple):
    """Blocks of a launch, and threads of a block."""

    blocks: int
    a_block: int


def an_element(count: int) -> Threads:
    """One thread per element."""
    return Threads(min(-(-count // 256), MOST_BLOCKS), 256)


def a_part(count: int) -> Threads:
    """A block for each part of a vector, which are few enough for one block to add up."""
    return Threads(min(-(-count // 1024), 1024), 256)


def a_row(rows: int) -> Threads:
    """One warp per row."""
    return Threads(min(-(-rows // 4), MOST_BLOCKS), 4 * WARP)


def a_column(rows: int, columns: int, parts: int) -> Threads:
    """A block for a part of as many columns as a warp has threads, a warp of it for eight rows."""
    warps = min(max(-(-rows // (8 * parts)), 1), MOST_WARPS)
    return Threads(min(-(-columns // WARP) * parts, MOST_BLOCKS), warps * WARP)


def parts_of_column(rows: int, columns: int) -> int:
    """Into how many parts the rows are cut to be summed, so that blocks fill a device."""
    return max(1, min(FILL // max(1, -(-columns // WARP)), rows // LEAST_ROWS))


def a_channel(channels: int, parts: int, elements: int) -> Threads:
    """A block for each part of each channel, of so many elements."""
    return Threads(min(channels * parts, MOST_BLOCKS), a_block(elements // parts).a_block)


def parts_of_channel(channels: int, elements: int) -> int:
    """Into how many parts each channel's elements are cut, so that blocks fill a device."""
    return max(1, min(FILL // channels, elements // LEAST_PART))


def a_tile(groups: int, rows: int, columns: int, parts: int) -> Threads:
    """A block for each tile of the matrices (rows, columns) of so many groups and parts."""
    blocks = groups * parts * _tiles(rows, columns)
    return Threads(min(blocks, MOST_BLOCKS), TILE[0] * TILE[1] // A_THREAD**2)


def _tiles(rows: int, columns: int) -> int:
    return -(-rows // TILE[0]) * -(-columns // TILE[1])


def parts_of_depth(groups: int, rows: int, columns: int, depth: int) -> tuple[int, int]:
    """Into how many parts a product's depth is cut ("split-K"), and how long each is.

    It is cut if there are fewer tiles than multiprocessors: a block alone on one waits for most of
    its loads, which two would not. But no part is shorter than LEAST_DEPTH. Only the sizes decide,
    so that the bits are the same on every device.
    """
    tiles = max(1, groups * _tiles(rows, columns))
    wanted = min(FILL // tiles, depth // LEAST_DEPTH) if tiles <= FILL // 4 else 1
    step = max(1, -(-depth // max(1, wanted)))
    step += -step % TILE[2]
    return -(-depth // step), step


def a_block(count: int) -> Threads:
    """One block, one thread per element as far as they go."""
    warps = min(max(-(-count // WARP), 1), MOST_WARPS)
    return Threads(1, warps * WARP)


def extent(activation: Any, out: Array) -> tuple[Threads, tuple[int | float, ...]]:
    """For an activation's kernel: its threads, and the numbers that it takes."""
    if activation.kernel in ELEMENTWISE:
        return an_element(out.size), (out.size, number_of(activation))
    columns = out.shape[-1]
    rows = out.size // max(columns, 1)
    return a_row(rows), (rows, columns)


@cache
def geometry(sliding: Any) -> tuple[int, ...] | None:
    """Twelve arguments, six for each of two axes; None: of more axes, or too long for ints.

    Two places on an axis, and tiles::FAR, add up to an int.
    """
    if len(sliding.size) > 2 or max(sliding.padded) >= 2**30:
        return None
    before = (pair[0] for pair in sliding.padding)
    fields = sliding.lengths, sliding.size, sliding.stride, sliding.dilation, before
    axes = [*zip(*fields, sliding.counts, strict=True)]
    alone = [(1, 1, 1, 1, 0, 1)] * (2 - len(axes))  # a sequence is an image of one row
    return tuple(chain.from_iterable(alone + axes))


def scalar(value: float | Array) -> tuple[Any, float]:
    """Two arguments of a kernel: an array of one number to read when it runs, or a number."""
    is_number = isinstance(value, int | float | np.number)
    return (0, float(value)) if is_number else (value, 0.0)


def integer(value: int | Array) -> tuple[Any, int]:
    """The same for an integer: an array of one int64, or a number."""
    return (value, 0) if hasattr(value, "dtype") else (0, int(value))


def per_column(value: float | Array) -> tuple[Any, int, float] | None:
    """Three arguments: float64 for each of the last elements and their count, or a number."""
    if isinstance(value, int | float | np.number):
        return 0, 1, float(value)
    fits = value.dtype == np.float64 and value.flags.c_contiguous
    return (value, value.size, 0.0) if fits else None


# --- what an optimizer's kernel takes after the vectors and their length ------------------------


def _momentum(optimizer: Any, decayed: int, scalars: Sequence[Any]) -> tuple[Any, ...]:
    return float(optimizer.momentum), int(optimizer.nesterov), *scalar(scalars[0])


def _rmsprop(optimizer: Any, decayed: int, scalars: Sequence[Any]) -> tuple[Any, ...]:
    return float(optimizer.rho), float(optimizer.epsilon), *scalar(scalars[0])


def _adam(optimizer: Any, decayed: int, scalars: Sequence[Any]) -> tuple[Any, ...]:
    rate, epsilon, decay = scalars
    betas = float(optimizer.beta1), float(optimizer.beta2)
    return decayed, *betas, *scalar(rate), *scalar(epsilon), *scalar(decay)


Arguments = Callable[[Any, int, Sequence[Any]], tuple[Any, ...]]
OPTIMIZE: dict[str | None, tuple[str, Arguments]] = {
    "sgd": ("momentum", _momentum),
    "rmsprop": ("rmsprop", _rmsprop),
    "adam": ("adam", _adam),
    "adamw": ("adam", _adam),
}

# --- compiling and launching --------------------------------------------------------------------


@cache
def source() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in FILES)


def options(dtype: Any) -> tuple[str, ...]:
    """The compiler's options, for a dtype to compute in."""
    return "--std=c++17", f"-DREAL={REALS[dtype]}"


class KernelLauncher:
    """Launches of the kernels through CuPy, on its current device and stream.

    CuPy keeps what it compiled on disk, so that only the first process ever waits for it.
    """

    def __init__(self) -> None:
        self._modules: dict[Any, Any] = {}
        self._functions: dict[tuple[str, Any], Any] = {}
        self._shared: dict[tuple[str, Any], int] = {}  # of dynamic memory, what was asked for
        self._asking = threading.Lock()

    def __call__(
        self, name: str, dtype: Any, threads: Threads, arguments: tuple[Any, ...], shared: int = 0
    ) -> None:
        """Arrays are passed as pointers, an int as int64, a float as double.

        `shared` is the bytes of shared memory that a block gets beside what it declares.
        """
        function = self._functions.get((name, dtype))
        if function is None:
            function = self._functions[name, dtype] = self._module(dtype).get_function(name)
        if shared:  # beyond 48 KB it has to be asked for
            self._ask_for(shared, name, dtype)
        function((threads.blocks,), (threads.a_block,), arguments, shared_mem=shared)

    def _ask_for(self, shared: int, name: str, dtype: Any) -> None:
        """Never for less: another thread may be about to launch the kernel with more."""
        with self._asking:
            if shared > self._shared.get((name, dtype), 0):
                self._functions[name, dtype].max_dynamic_shared_size_bytes = shared
                self._shared[name, dtype] = shared

    def _module(self, dtype: Any) -> Any:
        import cupy

        if dtype not in self._modules:
            self._modules[dtype] = cupy.RawModule(code=source(), options=options(dtype))
        return self._modules[dtype]
