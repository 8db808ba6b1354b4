"""A run of training of dense layers on NumPy, with all that steps share prepared before the first.

A step of the book's network is 25 calls of NumPy. Between them the general way asks the layers
for their buffers, the backend for its kernels and BLAS's wrapper for views, 40 times a step, which
takes as long as the calls. Here a step is a list of calls with their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from ._base import Array, Forward, InPlace
from ._cblas import is_sooner_transposed
from ._numpy import FEW, ONE_THREAD, NumpyBackend, weighted_sum
from ._numpy_branches import PreparedBranches
from ._numpy_elementwise import FORWARD, SMALL, Native, log_likelihood, row_sums
from ._numpy_norms import PreparedNorm

Call = Callable[[], Any]
Scaled = Callable[[float, float], Any]  # of α and β
# The call, 0 for weights and 1 for others, the tensor, and where it goes.
Update = tuple[Scaled, int, Array, Array]


def compiled(backend: NumpyBackend, program: Any) -> Callable[..., int] | None:
    """A `training.program.CompiledSteps` for the program; None: the cost has no formula here."""
    cost, last = program.objective
    if cost not in _COSTS or _COSTS[cost][2] not in (last, None):
        return None
    m, y, weight, state = program.batch_size, program.y, program.weight, program.state
    omega, running = program.theta[: program.decayed], program.running
    kept = running.copy()
    step_of = cache(partial(_step, backend, program))  # the last mini-batch may be smaller

    def run(order: np.ndarray, scalars: np.ndarray, log: np.ndarray, squares: np.ndarray) -> int:
        done, first, starts = program.done(), state.step, np.arange(0, len(order), m)
        right = np.zeros(len(order), np.bool_)
        labels = backend.rows(y, order) if y.ndim == 1 else None
        decided = right if labels is None else np.empty(len(order), np.intp)
        targets = order if labels is None else labels
        batches = zip(*(_cut(rows, m) for rows in (order, targets, decided)), strict=True)
        for k, (batch, scales) in enumerate(zip(batches, scalars.tolist(), strict=True)):
            forward, backward = step_of(len(batch[0]))
            if len(kept):
                np.copyto(kept, running)
            cost = forward(done + k, *batch)
            if not math.isfinite(cost):
                np.copyto(running, kept)
                return k
            log[k, 0] = cost
            if len(squares):
                squares[k] = backend.square(omega)
            backward(first + k, scales)
        if labels is not None:
            right = decided == labels
        if weight is None:
            log[:, 1] = np.add.reduceat(right, starts, dtype=log.dtype)
            log[:, 2] = np.diff(starts, append=len(order))
        else:
            of_rows = weight[order].astype(log.dtype)
            log[:, 1] = np.add.reduceat(right * of_rows, starts)
            log[:, 2] = np.add.reduceat(of_rows, starts)
        return len(log)

    return run


def _cut(rows: Array, m: int) -> Iterator[Array]:
    """m at a time, and the rest: half the time of a slice for each."""
    whole = len(rows) // m * m
    yield from rows[:whole].reshape(-1, m)
    if whole < len(rows):
        yield rows[whole:]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A dense layer on m rows, with what is before it and between its sums and its activation.

    Attributes
    ----------
    weights, bias : array
        Views into θ; a bias is None where there is none, as all else that a layer may lack.
    to_weights, to_bias : array
        Where the updates go: views into θ, or into the velocity or the gradient.
    below, below_delta : array
        The activations under it, and where δ of these goes.
    inputs : array
        What its product takes: `below` itself, or what a norm and a mask leave of it.
    before, norm : PreparedNorm
        Of its inputs, and of its sums.
    mask : array
        Of the dropout before it, scaled.
    a, delta : array
        Its activations, and δ.
    forward, backward : callable
        σ and its derivative, in place.
    """

    weights: Array
    bias: Array | None
    to_weights: Array
    to_bias: Array | None
    below: Array
    below_delta: Array
    inputs: Array
    before: PreparedNorm | None
    mask: Array | None
    norm: PreparedNorm | None
    a: Array
    delta: Array
    forward: Native
    backward: Native


def _chain(backend: NumpyBackend, program: Any, m: int) -> list[_Prepared]:
    layers, theta = program.layers, program.theta
    tensors, into = _tensors(layers, theta), _tensors(layers, program.into)
    chain: list[_Prepared] = []
    below, below_delta = (np.empty((m, layers.sizes[0]), theta.dtype) for _ in range(2))
    for k, n in enumerate(layers.sizes[1:]):
        norm, of_inputs, (_, rate) = layers.norms[k], layers.norms_of_inputs[k], layers.dropout[k]
        a, delta = (np.empty((m, n), theta.dtype) for _ in range(2))
        inputs = np.empty_like(below) if rate or of_inputs is not None else below
        chain.append(
            _Prepared(
                *tensors[k],
                *into[k],
                below,
                below_delta,
                inputs,
                _norm(backend, program, of_inputs, inputs, below),
                np.empty_like(below) if rate else None,
                _norm(backend, program, norm, a),
                a,
                delta,
                *_sigma(backend, layers.activations[k], a),
            )
        )
        below, below_delta = a, delta
    return chain


def _norm(
    backend: NumpyBackend, program: Any, norm: Any, out: Array, x: Array | None = None
) -> PreparedNorm | None:
    if norm is None:
        return None
    return PreparedNorm(backend, norm, program.theta, program.running, out, x)


def _step(
    backend: NumpyBackend, program: Any, m: int
) -> tuple[Callable[[int, Array, Array, Array], float], Callable[[int, list[float]], None]]:
    """A step on m rows, as two functions: up to its cost, and from there."""
    theta, grad = program.theta, program.into
    chain = _chain(backend, program, m)
    branches = PreparedBranches(program.layers, theta, chain[0].below)
    forward = _forward(backend, program, chain, branches)
    below = _below(backend, program.layers, chain)
    updates = _updates(backend, program.layers, chain)
    updates += branches.updates(backend, chain[0].below_delta, grad)
    updates += _updates_of_norms(backend, program, chain)

    mean = 1.0 / m if program.weight is None else 1.0
    fused, velocity = program.rule in ("theta", "velocity"), program.rule == "velocity"

    def backward(step: int, scalars: list[float]) -> None:
        for call in below:
            call()
        alpha = scalars[0] * mean if fused else mean
        betas = scalars[1:3] if fused else (0.0, 0.0)
        for add, which, parameters, out in updates:
            add(alpha, betas[which])
            if velocity:  # to θ while the caches hold it
                if scalars[3] and which == 0:
                    backend.axpby(parameters, out, scalars[3])
                backend.axpby(out, parameters)
        if not fused:
            if program.bound is not None:
                program.bound(scalars)
            backend.optimize(program.optimizer, theta, grad, program.state, step, scalars[:3])

    return forward, backward


def _draw(
    backend: NumpyBackend, key: int, layer: int, probability: float, mask: Array, step: int
) -> None:
    """The mask of `layers.Dropout`."""
    mask[...] = backend.keep(key, layer, step, 0, mask.shape, probability)
    mask *= 1.0 / probability


def _sigma(backend: NumpyBackend, activation: Any, z: Array) -> tuple[Native, Native]:
    """σ and its derivative for such an array in place, as `_numpy_elementwise.sigma`."""
    if activation.kernel in FORWARD:
        return backend.sigma(activation.kernel, z.size)
    kept = np.empty_like(z) if activation.needs_z else None

    def forward(z: Array, out: Array) -> None:
        if kept is not None:
            kept[...] = z
        backend.activate(activation, z, out)

    def backward(delta: Array, a: Array) -> None:
        backend.activate_backward(activation, delta, a if kept is None else kept, a)

    return forward, backward


def _below(backend: NumpyBackend, layers: Any, chain: list[_Prepared]) -> list[Call]:
    """(BP2), from the old ω, down to the first layer that is trained, or to its inputs."""
    calls: list[Call] = []
    for k in range(len(chain) - 1, layers.lowest, -1):
        layer, lower = chain[k], chain[k].below_delta
        calls.append(_product(backend, layer.delta, layer.weights, lower))
        late, shortcut = layers.skips_norm[k], []
        if k in layers.skips:
            total = chain[layers.skips.index(k)].delta
            shortcut = [partial(np.add, lower, total, lower)]
        calls += [] if late else shortcut
        if layer.mask is not None:
            calls.append(partial(np.multiply, lower, layer.mask, lower))
        if layer.before is not None:
            calls += layer.before.backward(lower)
        calls += shortcut if late else []
        if k == 0:
            break
        under = chain[k - 1]
        calls.append(partial(under.backward, lower, under.a))
        if under.norm is not None:
            calls += under.norm.backward(lower)
    return calls


def _updates(backend: NumpyBackend, layers: Any, chain: list[_Prepared]) -> list[Update]:
    """(BP3) and (BP4)."""
    found: list[Update] = []
    for layer, trained in zip(reversed(chain), reversed(layers.trained), strict=True):
        if trained:
            w, to_w, b, to_b = layer.weights, layer.to_weights, layer.bias, layer.to_bias
            found.append((backend.prepared(layer.delta.T, layer.inputs, to_w), 0, w, to_w))
            if b is not None:
                found.append((_sum(backend, layer.delta, to_b), 1, b, to_b))
    return found


def _updates_of_norms(backend: NumpyBackend, program: Any, chain: list[_Prepared]) -> list[Update]:
    """The same of γ and β, whose gradients are there."""
    layers, theta, into = program.layers, program.theta, program.into
    norms = [layer.norm for layer in chain] + [layer.before for layer in chain]
    found: list[Update] = []
    for norm, of in zip(norms, layers.norms + layers.norms_of_inputs, strict=True):
        if norm is None or not of.trained:
            continue
        for total, start in zip(norm.sums, (of.scale, of.shift), strict=True):
            part = slice(start, start + len(total))
            found.append((partial(backend.axpby, total, into[part]), 1, theta[part], into[part]))
    return found


def _forward(
    backend: NumpyBackend, program: Any, chain: list[_Prepared], branches: PreparedBranches
) -> Callable[[int, Array, Array, Array], float]:
    """Forward to δ^L and the sum of costs; notes which rows are right, or the labels decided.

    Of the step for masks, rows of x, rows of y or labels, and where the notes go.
    """
    layers, (cost, _) = program.layers, program.objective
    last = chain[-1]
    z, delta = last.a, last.delta
    y, weight = np.empty_like(delta), program.weight
    calls: list[Call] = [*branches.forward]
    draws: list[Callable[[int], None]] = []
    for k, layer in enumerate(chain):
        x, out, mask = layer.inputs, layer.a, layer.mask
        if layer.before is not None:
            calls.append(layer.before.forward)
        if mask is not None:
            index, rate = layers.dropout[k]
            draws.append(partial(_draw, backend, program.key, index, 1.0 - rate, mask))
            calls.append(partial(np.multiply, layer.below if layer.before is None else x, mask, x))
        sums = out if layer.norm is None else layer.norm.x
        if layer.bias is None:
            calls.append(_product(backend, x, layer.weights.T, sums))
        else:
            calls += _affine(backend, x, layer.weights, layer.bias, sums)
        if layer.norm is not None:
            calls.append(layer.norm.forward)
        if (first := layers.skips[k]) >= 0:
            shortcut = chain[first].below if layers.skips_norm[first] else chain[first].inputs
            calls.append(partial(np.add, out, shortcut, out))
        if out is not z:
            calls.append(partial(layer.forward, out, out))
    scale, offset = _plain(layers.scale, 1.0), _plain(layers.offset, 0.0)
    gather = _gather(backend, program.x, branches.raw, scale, offset)
    labelled = program.y.ndim == 1
    aim = _one_hot(backend, y) if labelled else _gather(backend, program.y, y)
    end, factor, _ = _COSTS[cost]
    few = len(z) <= SMALL  # their sum takes 0.4 µs as a product, and 0.9 as a reduction
    total = np.ones(len(z), z.dtype).dot if few else np.add.reduce
    marks = program.task == "multilabel" or z.shape[1] == 1

    def run(step: int, rows: Array, targets: Array, decided: Array) -> float:
        for draw in draws:
            draw(step)
        gather(rows)
        for call in calls:
            call()
        aim(targets)
        values = end(z, y, delta, last.forward, last.backward)
        if labelled:
            z.argmax(1, decided)
        elif marks:
            decided[...] = np.equal(z > 0.5, y > 0.5).all(1)
        elif program.task != "regression":
            np.equal(z.argmax(1), y.argmax(1), decided)
        if weight is None:
            return factor * float(total(values))
        share = weight[rows]
        mass = np.add.reduce(share)
        np.multiply(delta, (share / mass if mass > 0.0 else share)[:, None], delta)
        return factor * float(share.dot(values))

    return run


def compiled_forward(
    backend: NumpyBackend, layers: Any, theta: Array, after: Sequence[Sequence[InPlace]]
) -> Forward:
    """A function from a few rows to a^L, see `Backend.compile_forward`."""
    real = theta.dtype
    sigmas = [
        FORWARD.get(each.kernel) or partial(backend.activate, each) for each in layers.activations
    ]
    if any(after):
        sigmas = [_and_then(*each) for each in zip(sigmas, after, strict=True)]
    tensors = zip(_tensors(layers, theta), sigmas, strict=True)
    # A bias as one row: adding it to one sample's row takes 0.3 µs, without that axis 1.2.
    stages = [(w.T, None if b is None else b[None], sigma) for (w, b), sigma in tensors]

    def run(x: Array, doubt: Callable[[], None]) -> Array:
        x = x.astype(real, copy=False)
        if not math.isfinite(np.vdot(x, x)):
            doubt()
        for w, b, sigma in stages:
            x = x.dot(w)
            if b is not None:
                x += b
            sigma(x, x)
        return x

    return run


def _and_then(sigma: Any, others: Sequence[InPlace]) -> Any:
    """σ, and then functions that change its values."""

    def run(z: Array, out: Array) -> None:
        sigma(z, out)
        for change in others:
            change(out)

    return run if others else sigma


def _tensors(layers: Any, flat: Array) -> list[tuple[Array, Array | None]]:
    """Each layer's weights and bias, as views."""
    at = zip(pairwise(layers.sizes), layers.weights, layers.bias, strict=True)
    return [
        (flat[w : w + n * out].reshape(out, n), None if b < 0 else flat[b : b + out])
        for (n, out), w, b in at
    ]


def _plain(values: np.ndarray | None, default: float) -> Any:
    """A `Rescale`'s numbers; a single one if it is the same for all inputs."""
    if values is None:
        return default
    return float(values[0]) if np.ptp(values) == 0.0 else values


def _gather(
    backend: NumpyBackend, source: Array, out: Array, scale: Any = 1.0, offset: Any = 0.0
) -> Callable[[Array], Any]:
    """`Backend.gather` as a function of the rows."""
    same = source.dtype == out.dtype and source.flags.c_contiguous
    if same and isinstance(scale, float) and scale == 1.0 and offset == 0.0:
        take = source.take  # in 0.4 µs less
        return lambda rows: take(rows, 0, out, "clip")
    return lambda rows: backend.gather(source, rows, out, scale, offset)


def _one_hot(backend: NumpyBackend, out: Array) -> Callable[[Array], Any]:
    """`Backend.one_hot` as a function of the labels."""
    if out.shape[1] > FEW:
        return lambda labels: backend.one_hot(labels, out)
    return _gather(backend, backend.units(out.shape[1], out.dtype), out)


def _product(backend: NumpyBackend, a: Array, b: Array, out: Array) -> Call:
    """``out ← a b``."""
    if a.size * b.shape[1] <= ONE_THREAD:
        return partial(a.dot, b, out)  # 0.2 µs less than np.dot
    return partial(backend.prepared(a, b, out), 1.0, 0.0)


def _affine(backend: NumpyBackend, x: Array, w: Array, b: Array, out: Array) -> list[Call]:
    """``out ← x wᵀ + b``."""
    if is_sooner_transposed(x.shape[0], x.shape[1], len(w)):
        turned = np.empty((len(w), len(x)), out.dtype)
        return [partial(w.dot, x.T, turned), partial(np.add, turned.T, b, out)]
    if not backend.blas or x.size * w.shape[0] <= ONE_THREAD:
        if out.size > SMALL:
            return [partial(x.dot, w.T, out), partial(np.add, out, b, out)]
        rows = np.empty_like(out)  # 10 × 10: 0.65 µs with the sum, which alone takes 0.97 of b
        copied = partial(np.copyto, rows, b)
        return [partial(x.dot, w.T, out), copied, partial(np.add, out, rows, out)]
    # Accumulated on b: one pass over `out` less.
    return [partial(np.copyto, out, b), partial(backend.prepared(x, w.T, out), 1.0, 1.0)]


def _sum(backend: NumpyBackend, delta: Array, out: Array) -> Scaled:
    """``out ← β·out + α·Σδ`` over the rows."""
    if delta.size > SMALL:
        return partial(backend.sum_rows, delta, out)
    weights = np.empty(len(delta), out.dtype)

    def run(alpha: float, beta: float) -> None:
        weights.fill(alpha)
        weighted_sum(weights, delta, out, beta)

    return run


# --- a^L over z^L, δ^L, and the cost of each row ------------------------------------------------


def _quadratic(z: Array, y: Array, delta: Array, forward: Any, backward: Any) -> Array:
    forward(z, z)
    np.subtract(z, y, delta)
    values = np.vecdot(delta, delta)
    backward(delta, z)
    return values


def _cross_entropy(z: Array, y: Array, delta: Array, forward: Any, backward: Any) -> Array:
    over = y * z
    np.subtract(z, over, delta)
    np.negative(over, over)
    values = row_sums(np.logaddexp(delta, over, delta))
    forward(z, z)
    np.subtract(z, y, delta)
    return values


def _log_likelihood(z: Array, y: Array, delta: Array, forward: Any, backward: Any) -> Array:
    return log_likelihood(z, z, y, delta)


# Each with a factor of its costs and the output activation that its formula is for; None: any.
_COSTS: dict[str, tuple[Callable[..., Array], float, str | None]] = {
    "quadratic": (_quadratic, 0.5, None),
    "cross-entropy": (_cross_entropy, 1.0, "sigmoid"),
    "log-likelihood": (_log_likelihood, 1.0, "softmax"),
}
