"""fit: epochs, mini-batches, updates, and what happens when a run does not go well."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from types import FrameType
from typing import Any

import numpy as np

from . import data
from .backends import Array
from .callbacks import Progress, Run, as_callbacks, hooks
from .context import Workspace
from .data import Samples
from .history import History
from .network import Network
from .optimizers import SGD, Optimizer, State, add_penalty, as_optimizer, clip
from .parameters import Destinations
from .schedules import positive

STEPS_A_READ = 256  # on a device: how many steps' costs are read back at once


class DivergenceError(ArithmeticError):
    """The cost is no longer finite. The network has the weights of the last good step.

    Attributes
    ----------
    epoch, step : int
        Of the first bad step: the network's epoch, and the step in it, both from 0.
    layer : str
        The first layer whose output or parameters are not finite, or ``"the cost"``.
    history : History
        Of the epochs before.
    """

    def __init__(self, epoch: int, step: int, layer: str, history: History) -> None:
        self.epoch, self.step, self.layer, self.history = epoch, step, layer, history
        super().__init__(
            f"the cost is not finite at epoch {epoch}, step {step}, first in {layer}; the network "
            "keeps the weights of the last good step. A lower learning rate, clip_norm=, or "
            "inputs scaled to about 1 may help"
        )


def fit(
    net: Network,
    x: Any,
    y: Any = None,
    *,
    epochs: int = 30,
    batch_size: int | None = None,
    optimizer: Optimizer | str | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    sample_weight: Any = None,
    validation: Any = None,
    callbacks: Any = (),
    shuffle: bool = True,
    progress: bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    n: int | None = None,
    check_finite: bool = True,
) -> History:
    """Train by mini-batch gradient descent. ``net.fit(...)`` is the same.

    The objective of a step is the mean cost of its mini-batch plus λ₂/2n Σω² + λ₁/n Σ|ω|, over
    weights and never biases. Called again, it goes on where it stopped.

    Parameters
    ----------
    net : Network
    x : array, memory map, or iterable
        (n, \\*input_shape). Or, without y, an iterable of (x, y) or (x, y, sample_weight)
        mini-batches, which is gone through once an epoch.
    y : array
        Labels (n,) of integers, or targets (n, k).
    epochs : int
        Further passes over the data; 30 by default.
    batch_size : int, optional
        m ≤ n; by default 10, or n if that is less. The last, smaller batch of an epoch is trained
        on too.
    optimizer : Optimizer or str, optional
        By default that of the last `fit`, else ``SGD(0.1)``. An optimizer equal to the last one
        goes on with its memory, a different one starts anew.
    l1, l2 : float
        λ₁ and λ₂ ≥ 0; they are divided by the size of the training set. 0 by default.
    sample_weight : array, optional
        (n,), not negative: a batch's cost is Σ wC / Σ w.
    validation : (x, y) or (x, y, sample_weight), optional
        Evaluated after each epoch.
    callbacks : callback, function, or sequence of them
        See `bpx.callbacks`.
    shuffle : bool
        A new permutation each epoch, from ``net.generator``; True by default.
    progress : bool
        A bar in a terminal or notebook, a line an epoch in a log file; False by default.
    clip_norm, clip_value : float, optional
        Clip the gradient, penalties included: each element to ±clip_value, then its Euclidean
        norm over all parameters to clip_norm. None (default): do not.
    n : int, optional
        For an iterable with l1 or l2: the size of the training set.
    check_finite : bool
        Look for NaN and infinity in the data first; True by default.

    Returns
    -------
    History
        Of this call; also ``net.history``.

    Raises
    ------
    ValueError, TypeError
        Bad data or options; nothing has been trained then.
    BackendError
        Device arrays for a network on the host.
    DivergenceError
        A cost that is not finite; the weights of the last good step stay.

    Notes
    -----
    Ctrl-C is acted on between two steps: `fit` returns the history so far, with
    ``history.interrupted`` set, and the network has the weights of the last full step. A second
    Ctrl-C raises KeyboardInterrupt at once.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([2, 4, 1], seed=2, dtype="float64")
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(x, y, epochs=500, optimizer=bpx.SGD(1.0, momentum=0.9))
    >>> net.predict(x).tolist()
    [0, 1, 1, 0]
    """
    _check_options(epochs, l1, l2, clip_norm, clip_value)
    if y is None:
        source: _Arrays | _Iterable = _Iterable(
            net,
            x,
            epochs,
            n,
            bool(l1 or l2),
            check_finite,
            {"batch_size": batch_size, "sample_weight": sample_weight},
        )
    else:
        if n is not None:
            raise ValueError("n= is for iterables; arrays have their own length")
        samples = net.samples(x, y, sample_weight, finite=check_finite)
        source = _Arrays(net, samples, data.check_batch_size(batch_size, samples.n), shuffle)
    held_out = None
    if validation is not None:
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise TypeError("expected validation=(x, y) or (x, y, sample_weight)")
        held_out = net.samples(*validation[:3], what="validation ", finite=check_finite)
    called = as_callbacks(callbacks) + ([Progress()] if progress else [])
    chosen = as_optimizer(optimizer) if optimizer is not None else net.optimizer or SGD(0.1)
    if chosen != net.optimizer or net.optimizer_state is None:
        net.optimizer, net.optimizer_state = chosen, chosen.start(net)
    decay = (l1 / source.n, l2 / source.n) if source.n else (0.0, 0.0)
    trainer = _Trainer(net, source, chosen, net.optimizer_state, decay, (clip_norm, clip_value))
    return trainer.run(epochs, held_out, called)


def _check_options(
    epochs: int, l1: float, l2: float, clip_norm: float | None, clip_value: float | None
) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
        raise ValueError(f"expected epochs to be a number >= 0, got {epochs!r}")
    positive("l1", l1, zero=True)
    positive("l2", l2, zero=True)
    for what, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if value is not None:
            positive(what, value)


# --- where mini-batches come from ---------------------------------------------------------------

Batch = tuple[Array, Array, Array | None]  # x as the first layer takes it, y or labels, weights


class _Arrays:
    """Mini-batches of arrays and memory maps, each gathered into the workspace's buffers."""

    def __init__(self, net: Network, samples: Samples, batch_size: int, shuffle: bool) -> None:
        self.net, self.samples, self.shuffle = net, samples, shuffle
        self.batch_size, self.n = batch_size, samples.n
        self.steps = -(-samples.n // batch_size)
        self._on_disk = isinstance(samples.x, np.memmap) and net.backend.name != "numpy"
        # Between two reads of the costs; a read of a host's scalar costs nothing.
        self.piece = self.steps if net.backend.is_host else min(self.steps, STEPS_A_READ)

    def epoch(self) -> Iterator[Any]:
        """Each mini-batch's rows."""
        order = data.epoch_order(self.net.generator, self.n, self.shuffle)
        backend = self.net.backend
        moved = order
        if backend.name != "numpy":
            moved = backend.xp.astype(backend.from_host(order), backend.index_dtype)
        for start in range(0, self.n, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self.n))
            yield (order[rows] if self._on_disk else None, moved[rows])

    def load(self, rows: Any, ws: Workspace) -> Batch:
        on_host, rows = rows
        net, samples, kernels, m = self.net, self.samples, self.net.backend, rows.shape[0]
        if on_host is None:
            out = ws.buffer("x", (m, *net.input_shape))
            x = kernels.gather(samples.x, rows, out, *net.affine)
        else:
            x = net.gather(samples.x, on_host, ws)
        y = samples.y
        if y.ndim == 1:
            y = kernels.gather(y, rows, ws.buffer("labels", (m,), kernels.index_dtype))
        else:
            y = kernels.gather(y, rows, ws.buffer("y", (m, *net.output_shape)))
        weight = samples.weight
        return x, y, None if weight is None else kernels.xp.take(weight, rows, axis=0)


class _Iterable:
    """Mini-batches that a user's iterable brings, each checked as it comes."""

    piece = 1  # a batch that is gone can't be run again, so each step is read at once

    def __init__(
        self,
        net: Network,
        batches: Any,
        epochs: int,
        n: int | None,
        penalized: bool,
        finite: bool,
        for_arrays: dict[str, Any],
    ) -> None:
        for what, value in for_arrays.items():
            if value is not None:
                raise ValueError(f"{what}= is for arrays; an iterable brings its own batches")
        if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
            raise TypeError(
                "fit takes x and y, or an iterable of (x, y) mini-batches; got "
                f"{type(batches).__name__} and no y"
            )
        if isinstance(batches, Iterator) and epochs > 1:
            raise ValueError(
                f"a one-shot iterator is empty after one epoch, and epochs is {epochs}: pass "
                "something that can be gone through again, such as a list or bpx.batches(...)"
            )
        if penalized and n is None:
            raise ValueError("l1 and l2 on an iterable need n=, the size of the training set")
        if n is not None and n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        self.net, self.batches, self.n, self.finite = net, batches, n, finite
        self.steps = len(batches) if isinstance(batches, Sized) else None

    def epoch(self) -> Iterator[Samples]:
        empty = True
        for batch in self.batches:
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(
                    "expected the iterable to give (x, y) or (x, y, sample_weight), got "
                    f"{type(batch).__name__}"
                )
            empty = False
            yield self.net.samples(*batch, finite=self.finite)
        if empty:
            raise ValueError("the iterable gave no mini-batch")

    def load(self, samples: Samples, ws: Workspace) -> Batch:
        return self.net.gather(samples.x, slice(None), ws), samples.y, samples.weight


# --- the two ways to update ---------------------------------------------------------------------


class _Update:
    """Write the gradient, then let the optimizer step."""

    def __init__(
        self,
        net: Network,
        optimizer: Optimizer,
        state: State,
        decay: tuple[float, float],
        limits: tuple[float | None, float | None],
    ) -> None:
        self.net, self.optimizer, self.state = net, optimizer, state
        self.decay, self.limits = decay, limits
        size = (net.layout.size,)
        self.out = Destinations(net.backend, net.layout, net.backend.zeros(size, net._dtype))

    def before(self, alpha: float) -> None:
        self.out.scale(alpha)

    def after(self) -> None:
        net, grad, backend = self.net, self.out.flat, self.net.backend
        add_penalty(backend, net.parameters, grad, net.layout.decayed, *self.decay)
        if self.limits != (None, None):
            clip(backend, grad, *self.limits)
        self.optimizer.update(net.parameters, grad, self.state, self.state.step)


class _FusedUpdate:
    """Let backpropagation write into θ or the velocity itself; no gradient is ever written."""

    def __init__(
        self, net: Network, optimizer: Optimizer, state: State, decay: float, into: Array
    ) -> None:
        self.net, self.optimizer, self.state, self.decay = net, optimizer, state, decay
        self.out = Destinations(net.backend, net.layout, into)

    def before(self, alpha: float) -> None:
        self.rate = self.optimizer.rate(self.state, self.state.step)
        scale, decayed, rest = self.optimizer.fused_scales(self.rate, self.decay)
        self.out.scale(scale * alpha, decayed, rest)

    def after(self) -> None:
        self.optimizer.fused_finish(self.net.parameters, self.state, self.rate, self.decay)


def _update(
    net: Network,
    optimizer: Optimizer,
    state: State,
    decay: tuple[float, float],
    limits: tuple[float | None, float | None],
) -> _Update | _FusedUpdate:
    l1, l2 = decay
    into = optimizer.fused(net.parameters, state)
    if into is None or l1 or limits != (None, None):
        return _Update(net, optimizer, state, decay, limits)
    return _FusedUpdate(net, optimizer, state, l2, into)


# --- the loop -----------------------------------------------------------------------------------


class _NonFinite(Exception):
    """A step's cost is not finite; nothing of that step was written."""


class _Interrupts:
    """Note a first Ctrl-C, raise at a second. In other threads than the main one: nothing."""

    def __enter__(self) -> _Interrupts:
        self.noted = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def __exit__(self, *error: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)


class _Trainer:
    """One call of `fit`, after its arguments were checked."""

    def __init__(
        self,
        net: Network,
        source: _Arrays | _Iterable,
        optimizer: Optimizer,
        state: State,
        decay: tuple[float, float],
        limits: tuple[float | None, float | None],
    ) -> None:
        self.net, self.source, self.optimizer, self.state = net, source, optimizer, state
        self.ws = net.workspace(training=True)
        self.update = _update(net, optimizer, state, decay, limits)
        self.is_host = net.backend.is_host
        self._vectors = [net.parameters, net.state, *state.slots.values()]
        self._copies = [net.backend.xp.empty_like(vector) for vector in self._vectors]

    def run(self, epochs: int, held_out: Samples | None, callbacks: list[Any]) -> History:
        net, history = self.net, History()
        net.history = history
        run = Run(net, history, epochs, self.source.steps, self.state, net.steps)
        step_hooks = hooks(callbacks, "on_step_end")
        checks = net.workspace()
        for hook in hooks(callbacks, "on_fit_begin"):
            hook(run)
        try:
            # What is not finite is found and told here, with its layer; no warnings beside it.
            with _Interrupts() as interrupts, np.errstate(all="ignore"):
                for _ in range(epochs):
                    started = time.perf_counter()
                    means = self._epoch(run, interrupts, step_hooks)
                    if means is None:
                        break
                    row = {"epoch": net.epochs, **means}
                    row["learning_rate"] = self.optimizer.rate(self.state, self.state.step - 1)
                    if held_out is not None:
                        found = net.evaluate(held_out, checks)
                        row |= {f"validation_{name}": value for name, value in found.items()}
                    row["seconds"] = time.perf_counter() - started
                    history.append(row)
                    net.epochs += 1
                    for hook in hooks(callbacks, "on_epoch_end"):
                        hook(run)
                    if run.stopped or interrupts.noted:
                        break
                history.interrupted = interrupts.noted
        finally:
            for callback in callbacks:
                if isinstance(callback, Progress):
                    callback.close()
        history.stopped = run.stopped
        for hook in hooks(callbacks, "on_fit_end"):
            hook(run)
        return history

    def _epoch(
        self, run: Run, interrupts: _Interrupts, step_hooks: list[Any]
    ) -> dict[str, float] | None:
        """The epoch's means; None if it did not end."""
        sums = np.zeros(3)
        piece: list[Any] = []  # batches since the last read, and what came of them
        log: list[tuple[Any, Any, Any]] = []
        done = 0
        for batch in self.source.epoch():
            if not piece:
                self._keep()
            piece.append(batch)
            try:
                log.append(self._step(batch))
            except _NonFinite:
                self._diverged(piece, done)
            run.step = self.net.steps
            if len(piece) == self.source.piece:
                sums += self._read(piece, log, done)
                done += len(piece)
                piece, log = [], []
            for hook in step_hooks:
                hook(run)
            if run.stopped or interrupts.noted:
                self._read(piece, log, done)
                return None
        sums += self._read(piece, log, done)
        cost, right, weight = sums
        means = {"training_cost": float(cost / weight)}
        if self.net.task != "regression":
            means["training_accuracy"] = float(right / weight)
        return means

    def _step(self, batch: Any) -> tuple[Any, Any, Any]:
        """Forward, delta, backward, update. The sums of cost and of right samples, and weight."""
        net, ws, kernels = self.net, self.ws, self.net.backend
        ws.step = net.steps
        x, labels, weight = self.source.load(batch, ws)
        z, a, saved = net.forward(x, ws)
        y = net.targets(labels, ws)
        values = net.objective.value(kernels, z, a, y)
        delta = net.objective.delta(kernels, z, a, y, ws.buffer("delta", z.shape))
        cost, alpha = net.weigh(values, weight, delta)
        if self.is_host:
            cost = float(cost)
            if not math.isfinite(cost):
                raise _NonFinite
        right, total = self._right(a, labels, weight, values)
        self.update.before(alpha)
        net.backward(delta, saved, self.update.out, ws)
        self.update.after()
        self.state.step += 1
        net.steps += 1
        return cost * total, right, total

    def _right(self, a: Array, y: Array, weight: Array | None, values: Array) -> tuple[Any, Any]:
        """Samples that are right and samples in all, by weight."""
        net, xp = self.net, self.net.backend.xp
        if net.task == "regression":
            return 0.0, values.shape[0] if weight is None else xp.sum(weight)
        correct = net.correct(a, y)
        if weight is None:
            return net.backend.total(correct), values.shape[0]
        return xp.sum(weight * xp.astype(correct, weight.dtype)), xp.sum(weight)

    # --- when it does not go well ---

    def _keep(self) -> None:
        for copy, vector in zip(self._copies, self._vectors, strict=True):
            copy[...] = vector
        self._steps = self.net.steps, self.state.step

    def _restore(self) -> None:
        for copy, vector in zip(self._copies, self._vectors, strict=True):
            vector[...] = copy
        self.net.steps, self.state.step = self._steps

    def _read(self, piece: list[Any], log: list[Any], done: int) -> np.ndarray:
        """The sums over a piece; on a device this is where the host waits for it."""
        if not log:
            return np.zeros(3)
        if not self.is_host:
            log = [tuple(float(number) for number in row) for row in log]
        rows = np.array(log, dtype=np.float64)
        if not np.isfinite(rows).all():
            self._diverged(piece, done)
        sums: np.ndarray = rows.sum(axis=0)
        return sums

    def _diverged(self, piece: list[Any], done: int) -> None:
        """Run the piece again from its start, step by step, to the last good one; then raise."""
        assert self.net.history is not None
        epoch, history = self.net.epochs, self.net.history
        self._restore()
        for index, batch in enumerate(piece):
            self._keep()
            try:
                good = math.isfinite(float(self._step(batch)[0]))
            except _NonFinite:
                good = False
            layer = self._bad_layer(batch) if not good else self._bad_parameters()
            if layer is not None:
                self._restore()
                raise DivergenceError(epoch, done + index, layer, history)
        raise DivergenceError(epoch, done + len(piece) - 1, "the cost", history)

    def _bad_parameters(self) -> str | None:
        net = self.net
        xp = net.backend.xp
        for vector in self._vectors:
            if not bool(xp.all(xp.isfinite(vector))):
                for index, p in enumerate(net._p):
                    if not all(bool(xp.all(xp.isfinite(v))) for v in vars(p).values()):
                        return f"the parameters of layer {index} ({net.layers[index]})"
                return "the optimizer's memory"
        return None

    def _bad_layer(self, batch: Any) -> str:
        """The first layer whose output is not finite on this batch, with the weights before it."""
        net, ws = self.net, self.ws
        self._restore()
        ws.step = net.steps
        x, _, _ = self.source.load(batch, ws)
        xp = net.backend.xp
        for index, (layer, p, ctx) in enumerate(zip(net.layers, net._p, ws.contexts, strict=True)):
            if index or not net._folded:
                x, _ = layer.forward(x, p, ctx)
            if not bool(xp.all(xp.isfinite(x))):
                return f"layer {index} ({layer})"
        return "the cost"
