"""Compiled runs of dense layers, by one thread or by several that do each step together."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import random
from . import _aligned, _machine_code, _threads
from ._base import Array
from ._cblas import TIMED, address
from ._codes import COSTS, KEPT, RULES, TASKS
from ._fast_run import (
    BRANCH,
    BY_ROWS,
    BY_UNITS,
    GATE,
    LAYER,
    OF_TEAM,
    OF_UNIT,
    RUN,
    sigma,
    table,
    tiles,
)
from ._pace import Pace

# Multiply-adds of a step that are worth a thread, and rows of a mini-batch or units of the widest
# layer.
WORTH, AT_LEAST = 200_000, 16

# Of data in windows each has a function of its own, and goes on at the pace of the one before.
_paces: WeakKeyDictionary[Any, Pace] = WeakKeyDictionary()


def steps(
    program: Any, data: tuple[Array, ...], scaling: tuple[Array, Array]
) -> Callable[[Array, Array, Array, Array], int]:
    """The function of a run, as `Backend.compile` gives it, that does its steps in one loop.

    `data` are labels, targets and weights, `scaling` scale and offset for each input, each empty
    where there are none. One thread at a time may call it.
    """
    given, held = _record(program, data, scaling)
    team, most, pace = held["team"], worth(program), _paces.setdefault(program.state, Pace())
    given["shared"] = most > 1
    function = _machine_code.load("_numba_steps", "steps", program.theta.dtype).call
    watch = _machine_code.load("_numba_threads", "watch").call

    # The arrays are held with the function: they have to stay at their places.
    def run(order: Array, scalars: Array, log: Array, squares: Array, _held: Any = held) -> int:
        order, scalars = np.ascontiguousarray(order, np.int64), np.asarray(scalars, np.float64)
        given["order"], given["picked"] = address(order), len(order)
        given["scalars"], given["log"] = address(scalars), address(log)
        given["width"] = scalars.shape[1]
        given["squares"], given["squared"] = address(squares), squares.size
        # A file may claim any number of steps.
        given["before"] = random.signed(program.done())
        members = min(most, _threads.count())

        def some(first: int, count: int, threads: int) -> int:
            team[:] = 0
            given["step"], given["steps"] = first, first + count
            given["joining"] = threads - 1
            if threads == 1:
                return int(function(given, 0)) - first
            stopped = [0] * threads

            def work(member: int) -> None:
                stopped[member] = function(given, min(member, 1))

            def end() -> None:  # for those who joined, if the first one never began
                team[GATE // 8] = -1

            _threads.spread(work, threads, watch, end)
            return stopped[0] - first

        if members < 2:
            return some(0, len(log), 1)
        return pace.run(len(log), some, members, _threads.free)

    return run


def worth(program: Any) -> int:
    """Threads that are worth their meetings, if there are as many cores.

    From two on products go by tiles even on one thread, so the cores must not matter: bits do. But
    where BLAS's threads cannot be told, it does the products of one thread on all cores.
    """
    m, layers = program.batch_size, program.layers
    if any(len(ways) > 1 for ways in _ways(layers)):
        return 1
    parts = max(m, *layers.sizes[1:]) // AT_LEAST
    known = TIMED and _threads.of_blas() > 0
    return min(parts, 3 * layers.multiply_adds * m // WORTH) if known else 1


def _ways(layers: Any) -> list[set[int]]:
    """How what is between each layer's z and the next one has to be done."""
    after = zip(layers.norms, (*layers.norms_of_inputs[1:], None), strict=True)
    found = [{_way(norm) for norm in pair if norm is not None} for pair in after]
    for ways, each in zip(found[:-1], layers.activations[:-1], strict=True):
        ways |= {BY_ROWS} if each.kernel == "softmax" else set()
    return found


def _way(norm: Any) -> int:
    """Who does it: its statistics are of all rows, or of all units."""
    return BY_UNITS if norm.of_batch else BY_ROWS


def _record(
    program: Any, data: tuple[Array, ...], scaling: tuple[Array, Array]
) -> tuple[Array, dict[str, Array]]:
    """A `RUN`, but for what is told with each call; and the arrays that have to stay in place."""
    layers, real, x = program.layers, program.theta.dtype, np.asarray(program.x)
    (rule, fields), trained, m = RULES[program.rule], program.trained, program.batch_size
    every, net, a, delta = _net(program)
    joined = _join(program, every, delta) if layers.branches else {}
    penalty = program.penalty
    lengths = np.zeros(0 if penalty.clip_norm is None else every["units"].sum())
    labels, targets, weights = data
    scale, offset = scaling
    constants = [getattr(program.optimizer, name) for name in fields] or [0.0, 0.0]
    clips = [most or 0.0 for most in (penalty.clip_norm, penalty.clip_value)]
    slots = [*program.slots, np.empty(0, real), np.empty(0, real)]
    arrays = {
        "labels": labels,
        "targets": targets,
        "weights": weights,
        "scale": scale,
        "offset": offset,
        "net": net,
        "theta": program.theta,
        "into": program.into,
        "first": slots[0],
        "second": slots[1],
        "a": a,
        "delta": delta,
        "y": np.zeros(m * layers.sizes[-1], real),
        "weight": np.zeros(m, real),
        "tallies": np.zeros((2, m)),  # each one's cost, and whether it is right
        "lengths": lengths,  # of the gradient of each unit, squared
        "constants": np.array([*constants, *clips], np.float64),
        "team": np.zeros(OF_TEAM // 8, np.int64),
    }
    gather = _machine_code.load("_numba_gather", "gatherer", x.dtype, scale.dtype, real)
    given = np.zeros(1, RUN)
    given["tiles"], given["gather"] = tiles(real).address, gather.address
    if net["limit"].any():
        given["drop"] = _machine_code.load("_numba_random", "drop", real).address
    given["sigma"] = sigma(real, layers.activations)
    given["x"], (given["row"], given["column"]) = x.ctypes.data, x.strides
    given["samples"], given["m"], given["layers"] = len(x), m, len(layers.weights)
    given["size"], given["trained"] = program.theta.size, trained
    given["decayed"] = min(program.decayed, trained)
    tables, lowest = len(every) - len(net), layers.lowest
    given["tables"], given["lowest"] = tables, lowest
    given["bottom"] = -tables if tables else max(lowest, 0)
    given["columns"], given["raw"] = layers.columns, address(a)
    if joined:
        given["join"] = _machine_code.load("_numba_branches", "join", real).address
        given["joined"] = len(layers.branches)
        given["raw"], given["branches"] = address(joined["raw"]), address(joined["branches"])
    given["cost"], given["task"] = COSTS.index(program.objective[0]), TASKS.index(program.task)
    given["rule"] = rule
    given["scaled"], given["labelled"], given["weighted"] = scale.size, labels.size, weights.size
    given["let_others"], given["units"], given["room"] = _let_others(), lengths.size, len(a)
    given["parts"] = len(net)
    for name, array in arrays.items():
        given[name] = address(array)
    return given, {"x": x, **arrays, **joined, **_norms(program, net)}


def _net(program: Any) -> tuple[Array, Array, Array, Array]:
    """A `LAYER` for each, without what is in norms; and room for activations and for deltas.

    The first array begins with those of embeddings that are trained, which `_join` fills in.
    """
    layers, m, real = program.layers, program.batch_size, program.theta.dtype
    count, line = len(layers.weights), _aligned.LINE // real.itemsize
    normed = np.array([each is not None for each in layers.norms_of_inputs])
    tables = sum(branch.trained for branch in layers.branches)
    every = np.zeros(tables + count + normed.sum(), LAYER)
    parts = every[tables:]
    net, norms = parts[:count], parts[count:]
    net[:] = table(layers)
    net["trained"] = layers.trained
    for this, (index, rate) in zip(net, layers.dropout, strict=True):
        # What its masks begin from, and the bound of bits to be kept.
        this["stream"] = random.signed(random.of_layer(program.key, index))
        this["limit"] = random.threshold(1.0 - rate) if rate else 0
    # Behind the activations come the inputs with a norm or a mask laid on them; behind δ its
    # factors: masks, and σ' of the layer below where that does not follow from its a. With a norm
    # between them, that has the masks.
    masked = net["limit"] > 0
    factors = masked & ~normed
    factors[1:] |= net["code"][:-1] >= KEPT
    changed = masked | normed
    widths = (changed | factors) * net["inputs"], (masked & normed) * net["inputs"]
    counts = [-(-m * n // line) * line for n in (*layers.sizes, *np.concatenate(widths))]
    at = np.concatenate([[0], np.cumsum(counts)])
    own, (others, masks) = at[:count], at[count + 1 : -1].reshape(2, count)
    net["below"], net["z"] = own, at[1 : count + 1]
    net["x"], net["factors"] = np.where(changed, others, own), np.where(factors, others, 0)
    net["norm"][normed] = np.arange(count, len(parts))
    norms["units"], norms["factors"] = net["inputs"][normed], np.where(masked, masks, 0)[normed]
    a, delta = (_aligned.zeros((int(at[-1]),), real) for _ in range(2))
    for k, first in enumerate(layers.skips):
        if first >= 0:
            this, as_they_come = net[first], layers.skips_norm[first]
            later = this["norm"] > 0 and not as_they_come
            (parts[this["norm"]] if later else this)["back"] = net[k]["z"]
            net[k]["added"] = address(a[this["below" if as_they_come else "x"] :])
            net[k]["forward"] = _machine_code.load("_numba_between", "add_inputs", real).address
    return every, parts, a, delta


def _join(program: Any, every: Array, delta: Array) -> dict[str, Array]:
    """Put the embeddings that are trained into `every`; returns `BRANCH`es, and their arrays."""
    layers, theta, real, place = program.layers, program.theta, program.theta.dtype, 0
    branches, tables = np.zeros(len(layers.branches), BRANCH), iter(every)
    raw = _aligned.zeros((program.batch_size, layers.columns), real)
    held = {"raw": raw, "branches": branches}
    for k, (branch, this) in enumerate(zip(layers.branches, branches, strict=True)):
        arrays = {"columns": branch.columns.astype(np.int64)}
        if branch.scale is not None:
            arrays |= {"scale": branch.scale, "offset": branch.offset}
        for field, array in arrays.items():
            held[f"{field} {k}"], this[field] = array, address(array)
        this["many"], this["place"], place = len(branch.columns), place, place + branch.size
        this["raw"], this["row"] = address(raw), layers.columns
        this["delta"], this["inputs"] = address(delta), layers.sizes[0]
        this["weights"] = address(theta[branch.weights :])
        for field in ("size", "count", "width", "averaged"):
            this[field] = getattr(branch, field)
        if branch.trained:
            own = next(tables)
            own["units"], own["inputs"], own["trained"] = branch.count, branch.width, True
            own["omega"], own["bias"], own["branch"] = branch.weights, -1, address(branches[k:])
            own["learn"] = _machine_code.load("_numba_branches", "learn", real).address
    return held


def _norms(program: Any, net: Array) -> dict[str, Array]:
    """Put the norms into `net`; returns their arrays."""
    layers, held = program.layers, {"running": program.running}
    for k, (after, before) in enumerate(zip(layers.norms, layers.norms_of_inputs, strict=True)):
        if after is not None:
            held |= _norm(program, after, net, k)
        if before is not None:
            held |= _norm(program, before, net, net[k]["norm"])
            if k:  # with what it needs, a thread goes on to it
                net[k - 1]["way"] = _way(before)
    return held


def _norm(program: Any, norm: Any, net: Array, k: int) -> dict[str, Array]:
    """Put one into `net` at k; returns its arrays."""
    theta, running, m, this = program.theta, program.running, program.batch_size, net[k]
    real, n, held = theta.dtype, this["units"], {}
    name = "batch_norm" if norm.of_batch else "layer_norm"
    functions = {"forward": name, "backward": f"{name}_backward", "learn": "learn"}
    arrays = {"numbers": (OF_UNIT * n,), "normal": (m, n)}
    # Of all rows a unit's own sums are there after the way back.
    arrays |= {} if norm.of_batch else {"delta": (m, n), "slope": (m,)}
    for field, maker in functions.items():
        this[field] = _machine_code.load("_numba_between", maker, real).address
    for field, shape in arrays.items():
        held[f"{field}_{k}"] = array = _aligned.zeros(shape, real)
        this[field] = address(array)
    if norm.of_batch:
        for field in ("mean", "variance"):
            this[field] = address(running[getattr(norm, field) :])
    this["way"] = _way(norm)
    this["theta"], this["learns"] = address(theta), norm.trained
    for field in ("scale", "shift", "epsilon", "momentum"):
        this[field] = getattr(norm, field)
    return held


@cache
def _let_others() -> int:
    """The address of a C function that gives the core to another thread; 0: there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):  # on Windows
        return 0
