"""Compiled functions of dense layers: what they are told, and how Python calls the short ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import _machine_code
from ._base import Array, Backend, Forward, InPlace
from ._cblas import address
from ._codes import ACTIVATIONS, KEPT, code_of, number_of

# Rows of many that go through all layers before the next. With fewer it costs more that ω is
# turned around for them, and with more the activations do not stay in the second cache.
ROWS_OF_BLOCK = 256

# Threads that do a step together have some numbers in common, each in lines of the caches of its
# own; these are their places, in bytes. How many have joined, how many have come to the next
# meeting, and to the end of a step; and `MEMBERS` times the step that is open, plus its members.
JOINED, MEETING, END, GATE, OF_TEAM = range(0, 640, 128)
MEMBERS = 65_536

# What a prediction returns where there is none for its activations.
NO_MEMORY = -1

# Who does a product: one thread; or several, each for some rows, or for some units of a layer.
ALONE, BY_ROWS, BY_UNITS = range(3)


def _told(*names: str, reals: Sequence[str] = ()) -> np.dtype[Any]:
    """Numbers, and addresses of functions and arrays."""
    kinds = [(name, np.int64) for name in names] + [(name, np.float64) for name in reals]
    return np.dtype(kinds)


FORWARD = _told("tiles", "theta", "size", "net", "layers", "widest", "many", "sigma")
RUN = _told(
    *("tiles", "gather", "x", "row", "column", "samples", "labels", "targets", "weights", "scale"),
    *("offset", "scaled", "labelled", "weighted", "m", "layers", "net", "theta", "size", "into"),
    *("first", "second", "trained", "decayed", "a", "delta", "room", "y", "weight", "cost"),
    *("task", "rule", "constants", "tallies", "lowest", "shared", "team", "let_others", "drop"),
    *("sigma", "lengths", "units", "parts"),
    # the columns of x, where a batch's rows are gathered, and what makes inputs of them, 0 for
    # nothing; embeddings that are trained, and the first that is told before the dense layers or
    # the lowest of these that is trained: see `LAYER`
    *("columns", "raw", "join", "branches", "joined", "tables", "bottom"),
    # in a call
    *("order", "picked", "scalars", "log", "step", "steps", "squares", "squared", "joining"),
    *("before", "width"),
)

# A dense layer: where its tensors begin in θ, −1 without a bias, and σ, with a number of its own.
# Behind them, in a run, a norm of inputs, with as many `units`.
LAYER = _told(
    *("inputs", "units", "omega", "bias", "code"),
    # in a run: where its inputs lie in `a`, as they come and with a norm and a mask on them, and
    # where its z; the number of that norm, 0 for none; the bound of that mask's bits, 0 for no
    # mask, and what they begin from; and where in `delta` is what δ of its inputs, or of what a
    # norm gives, is multiplied by, 0 for nothing
    *("trained", "below", "x", "z", "norm", "limit", "stream", "factors"),
    # of sums: the other inputs that are added to z, an array; and where in `delta` is what is
    # added to that δ, 0 for nothing
    *("added", "back"),
    # what is after z, or a norm: functions, 0 for nothing; who has to do it, 0 for anyone; where γ
    # and β begin in θ; and arrays, of which `numbers` has room for `OF_UNIT` of each unit
    *("forward", "backward", "learn", "learns", "way", "theta", "scale", "shift", "normal"),
    *("delta", "slope", "numbers", "mean", "variance"),
    # Before the dense layers are the embeddings that are trained, each with its `BRANCH`: units
    # are its rows, and inputs their width.
    "branch",
    reals=("number", "epsilon", "momentum"),
)
OF_UNIT = 10

# Some of a first dense layer's inputs: arrays of the columns that they are and, if there are any,
# of scales and offsets for each; where they begin among the inputs, and how many these are; an
# embedding's weights, its rows, 0 for none, their width, and whether they are averaged; gathered
# rows of x, an array, and their length; and δ of all inputs, an array, and their number.
BRANCH = _told(
    *("columns", "many", "scale", "offset", "place", "size", "weights", "count", "width"),
    *("averaged", "raw", "row", "delta", "inputs"),
)


def table(layers: Any) -> Array:
    """A `LAYER` for each, without what a run adds."""
    net = np.zeros(len(layers.weights), LAYER)
    net["inputs"], net["units"] = layers.sizes[:-1], layers.sizes[1:]
    net["omega"], net["bias"] = layers.weights, layers.bias
    net["code"] = [*map(code_of, layers.activations)]
    net["number"] = [*map(number_of, layers.activations)]
    return net


def forward(layers: Any, theta: Array, many: bool) -> Forward:
    """See `Backend.compile_forward`."""
    real, outputs = theta.dtype, layers.sizes[-1]
    net, widest = table(layers), max(layers.sizes[1:-1], default=0)
    of_net = address(net), len(net), widest, many, sigma(real, layers.activations)
    given = np.zeros(1, FORWARD)
    given[:] = [(tiles(real).address, address(theta), theta.size, *of_net)]
    function = _machine_code.load("_numba_layers", "forward", real).call

    def run(x: Array, doubt: Callable[[], None], _held: Any = (theta, net)) -> Array:
        x = x.astype(real, copy=False)
        if not (x.flags.c_contiguous and x.flags.aligned):
            x = np.require(x, requirements=("C", "A"))
        out = np.empty((x.shape[0], outputs), real)
        if (found := function(given, x, out)) != 1:
            if found == NO_MEMORY:
                raise MemoryError("there is no memory for the activations: pass fewer rows")
            doubt()
        return out

    return run


def forward_by_layer(
    backend: Backend, layers: Any, theta: Array, after: Sequence[Sequence[InPlace]]
) -> Forward:
    """The same for a few rows, layer by layer: activations that have no kernel are `backend`'s."""
    stages = []
    for k, each in enumerate(layers.activations):
        own = None if each.kernel in ACTIVATIONS else each
        changes = [] if own is None else [_in_place(backend, own)]
        changes += after[k] if after else ()
        one = replace(
            layers,
            sizes=layers.sizes[k : k + 2],
            weights=layers.weights[k : k + 1],
            bias=layers.bias[k : k + 1],
            activations=(each,),
        )
        stages.append((forward(one, theta, many=False), changes))

    def run(x: Array, doubt: Callable[[], None]) -> Array:
        for sums, changes in stages:
            x = sums(x, doubt)
            for change in changes:
                change(x)
            doubt = _no_doubt  # what x is shows in the first layer
        return x

    return run


def _in_place(backend: Backend, activation: Any) -> InPlace:
    return lambda z: backend.activate(activation, z, z)


def _no_doubt() -> None:
    """Activations may be infinite where x is not."""


def tiles(real: Any) -> _machine_code.MachineCode:
    """Matrix products by tiles (`_numba_tiles.compiled`)."""
    return _machine_code.load("_numba_tiles", "compiled", real)


def sigma(real: Any, activations: Sequence[Any]) -> int:
    """The address of what bends z by those of which σ' is kept; 0 where there are none."""
    if all(code_of(each) < KEPT for each in activations):
        return 0
    return _machine_code.load("_numba_activations", "with_slopes", real).address


def activate(activation: Any, z: Array, out: Array) -> None:
    """One that `_numba_activations` has, of dense arrays."""
    function = _machine_code.load("_numba_activations", "activate", z.dtype).call
    function(code_of(activation), number_of(activation), z.reshape(-1), out.reshape(-1))


def activate_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    """``delta ← δ ⊙ σ'``, of dense arrays."""
    function = _machine_code.load("_numba_activations", "activate_backward", a.dtype).call
    vectors = [array.reshape(-1) for array in (delta, z, a)]
    function(code_of(activation), number_of(activation), *vectors)


def gemm(alpha: float, a: Array, b: Array, beta: float, out: Array) -> None:
    """``out ← β·out + α·ab``; no gaps in the rows of `out`, nor in rows or columns of a and b."""
    size = out.itemsize
    steps = [step // size for x in (a, b, out) for step in x.strides]
    tiles(out.dtype).call(
        *out.shape, a.shape[1], a.ctypes.data, *steps[:2], b.ctypes.data, *steps[2:4],
        out.ctypes.data, steps[4], alpha, beta,
    )  # fmt: skip


def affine(x: Array, w: Array, b: Array, out: Array) -> None:
    """``out ← x wᵀ + b`` on one core, of dense arrays of one dtype."""
    function = _machine_code.load("_numba_products", "affine", out.dtype).call
    function(tiles(out.dtype).address, x, w, b, out)


def relu(z: Array, out: Array) -> None:
    """Of dense arrays; a NaN stays."""
    _machine_code.load("_numba_channels", "relu", z.dtype).call(z.reshape(-1), out.reshape(-1))


def relu_backward(delta: Array, a: Array) -> None:
    """``δ ← δ`` where a > 0, else 0, of dense arrays."""
    _machine_code.load("_numba_channels", "relu_backward", a.dtype).call(
        delta.reshape(-1), a.reshape(-1)
    )
