"""The loop of `Network.fit`: epochs, steps, and what happens when a run does not go well."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any

import numpy as np

from . import data
from .backends import Array
from .callbacks import Progress, Run, as_callbacks, hooks
from .checks import positive, whole
from .data import Samples
from .history import History
from .network import Network
from .optimizers import SGD, Optimizer, State, as_optimizer
from .program import compiled
from .sources import Arrays, Stream
from .updates import Penalty, update_for


class DivergenceError(ArithmeticError):
    """The cost is no longer finite. The network has the weights of the last good step.

    Attributes
    ----------
    epoch, step : int
        Of the first bad step: the network's epoch and the mini-batch in it, both from 1.
    layer : str
        The first layer whose output or parameters are not finite, or ``"the cost"``.
    history : History
        Of the epochs before.
    """

    def __init__(self, epoch: int, step: int, layer: str, history: History) -> None:
        self.epoch, self.step, self.layer, self.history = epoch, step, layer, history
        super().__init__(
            f"the cost is not finite at step {step} of epoch {epoch}, first in {layer}; the "
            "network keeps the weights of the last good step. A lower learning rate, clip_norm=, "
            "or inputs and targets scaled to about 1 may help"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # its arguments are not its message
        return DivergenceError, (self.epoch, self.step, self.layer, self.history)


def train(
    net: Network,
    x: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int | None,
    optimizer: Optimizer | str | None,
    l1: float,
    l2: float,
    sample_weight: Any,
    validation: Any,
    callbacks: Any,
    shuffle: bool,
    progress: bool,
    clip_norm: float | None,
    clip_value: float | None,
    n: int | None,
    check_finite: bool,
) -> History:
    """What `Network.fit` does; its docstring has the parameters, and their defaults."""
    epochs = whole("epochs", epochs, 0)
    l1, l2 = positive("l1", l1, zero=True), positive("l2", l2, zero=True)
    if clip_norm is not None:
        clip_norm = positive("clip_norm", clip_norm)
    if clip_value is not None:
        clip_value = positive("clip_value", clip_value)
    source: Arrays | Stream
    if y is None:
        for_arrays = {"batch_size": batch_size, "sample_weight": sample_weight}
        source = Stream(net, x, epochs, n, bool(l1 or l2), check_finite, for_arrays)
    else:
        if n is not None:
            raise ValueError("n= is for iterables; arrays have their own length")
        samples = net.samples(x, y, sample_weight, finite=check_finite)
        source = Arrays(net, samples, data.check_batch_size(batch_size, samples.n), shuffle)
    held_out = None
    if validation is not None:
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise TypeError("expected validation=(x, y) or (x, y, sample_weight)")
        held_out = net.samples(*validation, what="validation ", finite=check_finite)
    called = as_callbacks(callbacks) + ([Progress()] if progress else [])
    chosen = as_optimizer(optimizer) if optimizer is not None else net.optimizer or SGD(0.1)
    if chosen != net.optimizer or net.optimizer_state is None:
        net.optimizer, net.optimizer_state = chosen, chosen.start(net)
    size = source.n or 1  # a stream without penalties need not know its size
    penalty = Penalty(l1 / size, l2 / size, clip_norm, clip_value)
    trainer = _Trainer(net, source, chosen, net.optimizer_state, penalty)
    return trainer.run(epochs, held_out, called)


class _NonFinite(Exception):
    """A step's cost is not finite; nothing of that step was written."""


class _Interrupts:
    """Note a first Ctrl-C, raise at a second.

    Not in other threads than the main one, where Python lets no handler be set, and not where
    Ctrl-C is ignored or handled outside Python.
    """

    def __enter__(self) -> _Interrupts:
        self.noted = False
        self._before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and self._before not in (None, signal.SIG_IGN)
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, self._before)


class _Trainer:
    """One call of `fit`, after its arguments were checked."""

    def __init__(
        self,
        net: Network,
        source: Arrays | Stream,
        optimizer: Optimizer,
        state: State,
        penalty: Penalty,
    ) -> None:
        self.net, self.chain, self.source = net, net.chain, source
        self.optimizer, self.state = optimizer, state
        self.ws = net.chain.workspace(training=True)
        self.update = update_for(net.chain, optimizer, state, penalty)
        self.is_host, self.piece = net.backend.is_host, source.piece
        self._vectors = [net.parameters, net.state, *state.slots.values()]
        self._copies = [net.backend.xp.empty_like(vector) for vector in self._vectors]

    def run(self, epochs: int, held_out: Samples | None, callbacks: list[Any]) -> History:
        net, history = self.net, History()
        net.history = history
        kinds = ("cost",) if net.task == "regression" else ("cost", "accuracy")
        parts = ("training",) if held_out is None else ("training", "validation")
        columns = tuple(f"{part}_{kind}" for part in parts for kind in kinds)
        run = Run(net, history, epochs, self.source.steps, self.state, columns, net.steps)
        step_hooks = hooks(callbacks, "on_step_end")
        if hooks([c for c in callbacks if not isinstance(c, Progress)], "on_step_end"):
            self.piece = 1  # a hook may change the network, and is not called again in a replay
            self.compiled = None
        else:
            self.compiled = compiled(self.chain, self.source, self.update)
        checks = self.chain.workspace()
        try:
            for hook in hooks(callbacks, "on_fit_begin"):
                hook(run)
            # What is not finite is found and told here, with its layer; no warnings beside it.
            with self._threads(), _Interrupts() as interrupts, np.errstate(all="ignore"):
                while history.epochs < epochs and not (run.stopped or interrupts.noted):
                    started = time.perf_counter()
                    epoch = self._epoch if self.compiled is None else self._compiled_epoch
                    means = epoch(run, interrupts, step_hooks)
                    if means is None:
                        break
                    net.epochs += 1
                    row = {"epoch": net.epochs, **means}
                    if held_out is not None:
                        found = self.chain.evaluate(held_out, checks)
                        row |= {f"validation_{name}": value for name, value in found.items()}
                    row["learning_rate"] = self.optimizer.rate(self.state, self.state.step - 1)
                    row["seconds"] = time.perf_counter() - started
                    history.append(row)
                    for hook in hooks(callbacks, "on_epoch_end"):
                        hook(run)
                history.interrupted = interrupts.noted
            history.stopped = run.stopped
            for hook in hooks(callbacks, "on_fit_end"):
                hook(run)
        finally:
            for callback in callbacks:
                if isinstance(callback, Progress):
                    callback.close()
        return history

    def _threads(self) -> AbstractContextManager[None]:
        if isinstance(self.source, Stream):  # whose batches may be of any size
            return nullcontext()
        largest = self.chain.architecture.largest * self.source.batch_size
        return self.chain.backend.threads(largest)

    def _epoch(
        self, run: Run, interrupts: _Interrupts, step_hooks: list[Any]
    ) -> dict[str, float] | None:
        """The epoch's means; None if it did not end."""
        sums = np.zeros(3)
        piece: list[Any] = []  # the batches since the copies were made
        log: list[tuple[Any, Any, Any]] = []  # what came of those that were not read yet
        done = 0
        for batch in self.source.epoch():
            if len(piece) == self.piece:
                done += len(piece)
                piece = []
            if not piece:
                self._keep()
            piece.append(batch)
            try:
                log.append(self._step(batch))
            except _NonFinite:
                raise self._diverged(piece, done) from None
            run.step = self.net.steps
            if len(piece) == self.piece:
                sums += self._read(piece, log, done)
                log = []
            for hook in step_hooks:
                hook(run)
            if run.stopped or interrupts.noted:
                break
        sums += self._read(piece, log, done)
        if run.stopped or interrupts.noted:
            return None
        return self._means(sums)

    def _compiled_epoch(
        self, run: Run, interrupts: _Interrupts, step_hooks: list[Any]
    ) -> dict[str, float] | None:
        """The same, many steps a call of a compiled function."""
        assert self.compiled is not None
        assert isinstance(self.source, Arrays)
        program, function = self.compiled
        m, steps = program.batch_size, self.source.steps
        order = self.source.order()
        log = np.zeros((steps, 3))
        self._keep()
        for start in range(0, steps, program.steps_a_call):
            rows = order[start * m : (start + program.steps_a_call) * m]
            count = -(-len(rows) // m)
            first = self.state.step
            table = np.array([self.update.numbers(first + step) for step in range(count)])
            done = function(rows, table, log[start : start + count])
            self.state.step += done
            self.net.steps += done
            if done < count:
                raise self._stopped_at(order, start + done)
            run.step = self.net.steps
            for hook in step_hooks:
                hook(run)
            if run.stopped or interrupts.noted:
                break
        if not all(map(self._finite, self._vectors)):
            raise self._diverged(self._batches(order, 0, start + count), 0)
        if run.stopped or interrupts.noted:
            return None
        return self._means(log.sum(axis=0))

    def _batches(self, order: np.ndarray, start: int, stop: int) -> list[Any]:
        """The batches of some steps of an epoch, as `Arrays.load` takes them."""
        assert isinstance(self.source, Arrays)
        m = self.source.batch_size
        return [(None, order[step * m : (step + 1) * m]) for step in range(start, stop)]

    def _stopped_at(self, order: np.ndarray, step: int) -> DivergenceError:
        """A compiled run found a cost that is not finite, and wrote nothing of that step."""
        if not all(map(self._finite, self._vectors)):  # the step before has overflowed
            return self._diverged(self._batches(order, 0, step + 1), 0)
        self._keep()
        return self._diverged(self._batches(order, step, step + 1), step)

    def _means(self, sums: np.ndarray) -> dict[str, float]:
        cost, right, weight = sums
        if weight == 0.0:
            raise ValueError("all sample weights of the epoch were zero: nothing was learned")
        means = {"training_cost": float(cost / weight)}
        if self.net.task != "regression":
            means["training_accuracy"] = float(right / weight)
        return means

    def _step(self, batch: Any) -> tuple[Any, Any, Any]:
        """Forward, delta, backward, update. The sums of cost and of right samples, and weight."""
        chain, ws = self.chain, self.ws
        kernels, objective = chain.backend, chain.objective
        ws.step = self.net.steps
        x, labels, weight = self.source.load(batch, ws)
        z, a, saved = chain.forward(x, ws)
        y = chain.targets(labels, ws)
        delta = ws.buffer("delta", z.shape)
        values = kernels.cost_and_delta(objective, z, a, y, delta)
        cost, alpha = chain.weigh(values, weight, delta)
        if self.is_host:
            cost = float(cost)
            if not math.isfinite(cost):
                raise _NonFinite
        right, total = chain.right(a, labels, weight)
        self.update.before(alpha)
        chain.backward(delta, saved, self.update.out, ws)
        self.update.after()
        self.state.step += 1
        self.net.steps += 1
        return cost * total, right, total

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
        """The sums over a piece; on a device this is where the host waits for it.

        The vectors are looked at too: an update can overflow after a cost that was finite.
        """
        if not log:
            return np.zeros(3)
        sums: np.ndarray = self.chain.backend.read(log).sum(axis=0)
        if not (np.isfinite(sums).all() and all(map(self._finite, self._vectors))):
            raise self._diverged(piece, done)
        return sums

    def _diverged(self, piece: list[Any], done: int) -> DivergenceError:
        """Run the piece again from its start, step by step, to the last good one."""
        assert self.net.history is not None
        epoch, history = self.net.epochs + 1, self.net.history
        self._restore()
        for index, batch in enumerate(piece):
            self._keep()
            try:
                good = math.isfinite(float(self._step(batch)[0]))
            except _NonFinite:
                good = False
            layer = self._bad_parameters() if good else self._bad_output(batch)
            if layer is not None:
                self._restore()
                return DivergenceError(epoch, done + index + 1, layer, history)
        return DivergenceError(epoch, done + len(piece), "the cost", history)

    def _finite(self, array: Array) -> bool:
        xp = self.chain.backend.xp
        # A sum is one pass without a temporary; only where it overflows is each element asked.
        return math.isfinite(float(xp.sum(array))) or bool(xp.all(xp.isfinite(array)))

    def _bad_parameters(self) -> str | None:
        """After a step with a finite cost: the first layer whose new parameters are not."""
        if all(self._finite(vector) for vector in self._vectors):
            return None
        for index, (layer, p) in enumerate(zip(self.net.layers, self.chain.p, strict=True)):
            if not all(self._finite(tensor) for tensor in vars(p).values()):
                return f"the parameters of layer {index} ({layer})"
        return "the optimizer's memory"

    def _bad_output(self, batch: Any) -> str:
        """The first layer whose output is not finite on this batch, with the weights before it."""
        self._restore()
        self.ws.step = self.net.steps
        x, _, _ = self.source.load(batch, self.ws)
        if not self._finite(x):
            return "the inputs"
        outputs = self.chain.layer_outputs(x, self.ws)
        for index, (layer, a) in enumerate(zip(self.net.layers, outputs, strict=True)):
            if not self._finite(a):
                return f"layer {index} ({layer})"
        return "the cost"
