"""The loop of `Network.fit`: epochs, steps, and what happens when a run does not go well."""

from __future__ import annotations

import time
import warnings
from contextlib import AbstractContextManager, closing
from itertools import islice
from typing import Any

import numpy as np

from . import data
from .blocks import Blocks
from .callbacks import Progress, Run, as_callbacks, hooks
from .captured import Captured, agree, why_not_captured
from .chain import Chain
from .checks import positive, whole
from .data import Samples
from .history import History
from .interrupts import Interrupts
from .network import Network
from .optimizers import SGD, Optimizer, State, as_optimizer
from .program import compiled
from .sources import Arrays, Order, Stream, Windows, of_blocks
from .steps import DivergenceError, NonFinite, Steps
from .updates import Penalty, table, update_for


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
    shuffle: Order,
    progress: bool,
    clip_norm: float | None,
    clip_value: float | None,
    n: int | str | None,
    check_finite: bool,
    graph: bool | str,
    precision: str | None,
    objective: float | None = None,
) -> History:
    """What `Network.fit` does; its docstring has the parameters, and their defaults.

    With `objective`, a factor on the cost, the history has the mean over the epoch's samples of
    each step's objective, its L2 penalty included, before its update. It is for arrays.
    """
    epochs = whole("epochs", epochs, 0)
    l1, l2 = positive("l1", l1, zero=True), positive("l2", l2, zero=True)
    if clip_norm is not None:
        clip_norm = positive("clip_norm", clip_norm)
    if clip_value is not None:
        clip_value = positive("clip_value", clip_value)
    if graph not in ("auto", True, False):
        raise ValueError(f'expected graph "auto", True or False, got {graph!r}')
    if isinstance(n, str) and n != "batch":
        raise ValueError(f'expected n to be an integer or "batch", got {n!r}')
    size = None if n is None or isinstance(n, str) else whole("n", n)
    source: Arrays | Stream | Windows
    if isinstance(x, Blocks):
        source = of_blocks(net, x, y, sample_weight, batch_size, shuffle, check_finite)
    elif y is None:
        if n is None and (l1 or l2):
            raise ValueError("l1 and l2 on an iterable need n=, the size of the training set")
        for_arrays = {"batch_size": batch_size, "sample_weight": sample_weight}
        source = Stream(net, x, epochs, size, check_finite, for_arrays)
    else:
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
    # A stream without penalties need not know its size.
    divisor = None if n == "batch" else size or source.n or 1
    penalty = Penalty(l1, l2, divisor, clip_norm, clip_value)
    chain = net.chain if precision is None else _in_precision(net.chain, precision)
    trainer = _Trainer(net, chain, source, chosen, net.optimizer_state, penalty, graph, objective)
    return trainer.run(epochs, held_out, called)


PRECISIONS = ("float32", "tf32", "float16", "bfloat16")


def _in_precision(chain: Chain, precision: str) -> Chain:
    """The chain with its products in a precision; θ and everything else stay as they are."""
    if precision not in PRECISIONS:
        names = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"expected precision to be one of {names}, got {precision!r}")
    if chain.dtype != "float32":
        raise ValueError(
            f"precision={precision!r} is for a network of float32, and this one is of "
            f"{chain.dtype}: leave it out, or make the network with dtype='float32'"
        )
    return chain if precision == "float32" else chain.on(chain.backend.in_precision(precision))


class _Trainer:
    """One call of `fit`, after its arguments were checked."""

    def __init__(
        self,
        net: Network,
        chain: Chain,
        source: Arrays | Stream | Windows,
        optimizer: Optimizer,
        state: State,
        penalty: Penalty,
        graph: bool | str,
        objective: float | None,
    ) -> None:
        self.net, self.chain, self.source = net, chain, source
        self.optimizer, self.state, self.graph = optimizer, state, graph
        self.objective = objective
        self.update = update_for(chain, optimizer, state, penalty)
        self.piece = source.piece

    def run(self, epochs: int, held_out: Samples | None, callbacks: list[Any]) -> History:
        net, history = self.net, History()
        net.history = history
        kinds = ("cost",) if net.task == "regression" else ("cost", "accuracy")
        parts = ("training",) if held_out is None else ("training", "validation")
        columns = tuple(f"{part}_{kind}" for part in parts for kind in kinds)
        run = Run(net, history, epochs, self.source.steps, self.state, columns, net.steps)
        step_hooks = hooks(callbacks, "on_step_end")
        hooked = bool(hooks([c for c in callbacks if not isinstance(c, Progress)], "on_step_end"))
        if hooked:
            self.piece = 1  # a hook may change the network, and is not called again in a replay
        asked = self.graph != "auto" and self.chain.backend.captures  # for a graph, or for none
        self.by_itself = hooked or asked
        ways, squares = (self.chain, self.source, self.update), self.objective is not None
        self.steps = Steps(net, *ways, self.state, self.piece, squares)
        self._take_up(self.source)
        self.captured = self._to_capture(hooked)
        checks = net.chain.workspace()
        try:
            for hook in hooks(callbacks, "on_fit_begin"):
                hook(run)
            # What is not finite is found and told here, with its layer; no warnings beside it.
            with self._surrounded(), Interrupts() as interrupts, np.errstate(all="ignore"):
                while history.epochs < epochs and not (run.stopped or interrupts.noted):
                    started = time.perf_counter()
                    means = self._epoch(run, interrupts, step_hooks)
                    if means is None:
                        break
                    net.epochs += 1
                    row = {"epoch": net.epochs, **means}
                    if held_out is not None:
                        found = net.chain.evaluate(held_out, checks)
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

    def _surrounded(self) -> AbstractContextManager[None]:
        largest = None
        if not isinstance(self.source, Stream):  # whose batches may be of any size
            largest = self.chain.architecture.largest * self.source.batch_size
        return self.chain.backend.surround(largest)

    def _epoch(
        self, run: Run, interrupts: Interrupts, step_hooks: list[Any]
    ) -> dict[str, float] | None:
        """The epoch's means; None if it did not end."""
        logs: list[np.ndarray] = []
        self.done = 0  # steps of the parts before
        with closing(self.source.parts(self.source.order())) as parts:
            for part, order in parts:
                if part is not self.part:
                    self._take_up(part)
                log = self._part(order, run, interrupts, step_hooks)
                if log is None:
                    return None
                logs.append(log)
                self.done += len(log)
        return self._means(np.concatenate(logs))

    def _take_up(self, part: Arrays | Stream | Windows) -> None:
        """Make steps on this part of the source from now on."""
        self.part: Any = part
        self.steps.source = part
        squares = self.objective is not None
        ways = self.chain, part, self.update, squares
        self.compiled = None if self.by_itself else compiled(*ways)

    def _part(
        self, order: Any, run: Run, interrupts: Interrupts, step_hooks: list[Any]
    ) -> np.ndarray | None:
        """The log of these rows' steps; None if it was stopped."""
        if self.compiled is not None:
            return self._compiled_part(order, run, interrupts, step_hooks)
        if self.captured is not None and self._can_replay(order):
            return self._captured_part(order, run, interrupts, step_hooks)
        logs = []
        piece: list[Any] = []  # the batches since the copies were made
        done = self.done
        for batch in self.part.batches(order):
            if len(piece) == self.piece:
                done += len(piece)
                piece = []
            if not piece:
                self.steps.keep()
            piece.append(batch)
            try:
                self.steps.one(batch, len(piece) - 1)
            except NonFinite:
                raise self.steps.diverged(piece, done) from None
            run.step = self.net.steps
            if len(piece) == self.piece:
                logs.append(self._read(piece, done))
            for hook in step_hooks:
                hook(run)
            if run.stopped or interrupts.noted:
                break
        if len(piece) < self.piece:
            logs.append(self._read(piece, done))
        return None if run.stopped or interrupts.noted else np.concatenate(logs)

    def _read(self, piece: list[Any], done: int) -> np.ndarray:
        log = self.steps.read(len(piece))
        if log is None:
            raise self.steps.diverged(piece, done)
        return log

    # --- many steps a launch of a recording ---

    def _to_capture(self, hooked: bool) -> Captured | None:
        """What will be recorded; None: nothing is."""
        why = why_not_captured(self.chain, self.source, self.optimizer, hooked)
        if self.graph is True and why:
            raise ValueError(f"graph=True: {why}")
        wanted = self.graph is not False and self.compiled is None and not why
        if not wanted or not isinstance(self.source, Arrays):
            return None
        return Captured(self.chain, self.source, self.update, self.steps.recorded)

    def _can_replay(self, order: Any) -> bool:
        """Hold the first two replays to the same steps done one by one; say so if they differ."""
        captured, steps = self.captured, self.steps
        if captured is None or captured.checked:
            return captured is not None
        steps.keep()
        start = steps.snapshot(2)
        try:
            for at, batch in enumerate(islice(self.part.batches(order), 2)):
                steps.one(batch, at)
            expected = steps.snapshot(2)
            steps.restore()
            if not all(np.isfinite(array).all() for array in expected):
                return False  # it is said by the steps, with their layer
            why = self._replay_twice(captured, order, start, expected)
        finally:
            steps.restore()
        if why:
            self.captured = None
            message = f"the steps cannot be replayed as a CUDA graph: {why}"
            if self.graph is True:
                raise RuntimeError(message)
            warnings.warn(f"{message}; each is launched by itself", RuntimeWarning, stacklevel=6)
        return not why

    def _replay_twice(
        self, captured: Captured, order: Any, start: list[Any], expected: list[Any]
    ) -> str:
        """Why it does not give what the steps gave; empty: it does."""
        try:
            captured.begin(order, self.net.steps)
            captured.prepare()
            self.steps.restore()
            captured.begin(order, self.net.steps)
            captured.run(1)
            captured.run(1)
            captured.checked = agree(start, expected, self.steps.snapshot(2))
        except Exception as error:  # what CUDA refuses to record, whatever it is, runs unrecorded
            return str(error) or type(error).__name__
        if captured.checked:
            return ""
        return "two of them did not give what the steps give one by one"

    def _captured_part(
        self, order: Any, run: Run, interrupts: Interrupts, step_hooks: list[Any]
    ) -> np.ndarray | None:
        """The same by replays; the last, smaller mini-batch is a step by itself."""
        captured = self.captured
        assert captured is not None
        self.steps.keep()
        captured.begin(order, self.net.steps)
        done = 0
        while done < self.piece and not (run.stopped or interrupts.noted):
            if done < captured.steps:
                count = captured.run(captured.steps - done)
                self.steps.count(count)
            else:
                count = 1
                (batch,) = self._batches(order, done, done + 1)
                self.steps.one(batch, done)
            done += count
            run.step = self.net.steps
            for hook in step_hooks:
                hook(run)
        log = self.steps.read(done)
        if log is None:
            raise self.steps.diverged(self._batches(order, 0, done), 0)
        return None if run.stopped or interrupts.noted else log

    # --- many steps a call of a compiled function ---

    def _compiled_part(
        self, order: Any, run: Run, interrupts: Interrupts, step_hooks: list[Any]
    ) -> np.ndarray | None:
        assert self.compiled is not None
        program, function = self.compiled
        m = program.batch_size
        steps = -(-len(order) // m)
        log, squares = np.zeros((steps, 3)), np.zeros(0 if self.objective is None else steps)
        self.steps.keep()
        for start in range(0, steps, program.steps_a_call):
            rows = order[start * m : (start + program.steps_a_call) * m]
            count = -(-len(rows) // m)
            first = self.state.step
            part = slice(start, start + count)
            numbers = table(self.update, self.part, rows, first)
            done = function(rows, numbers, log[part], squares[part])
            self.steps.count(done)
            if done < count:
                raise self._stopped_at(order, start + done)
            run.step = self.net.steps
            for hook in step_hooks:
                hook(run)
            if run.stopped or interrupts.noted:
                break
        if not self.steps.all_finite():
            raise self.steps.diverged(self._batches(order, 0, start + count), self.done)
        if run.stopped or interrupts.noted:
            return None
        return log if self.objective is None else np.column_stack([log, squares])

    def _batches(self, order: Any, start: int, stop: int) -> list[Any]:
        """The batches of some steps of a part."""
        return list(islice(self.part.batches(order), start, stop))

    def _stopped_at(self, order: Any, step: int) -> DivergenceError:
        """A compiled run found a cost that is not finite, and wrote nothing of that step."""
        if not self.steps.all_finite():  # the step before has overflowed
            return self.steps.diverged(self._batches(order, 0, step + 1), self.done)
        self.steps.keep()
        return self.steps.diverged(self._batches(order, step, step + 1), self.done + step)

    def _means(self, log: np.ndarray) -> dict[str, float]:
        cost, right, weight = log[:, :3].sum(axis=0)
        if weight == 0.0:
            raise ValueError("all sample weights of the epoch were zero: nothing was learned")
        means = {"training_cost": float(cost / weight)}
        if self.net.task != "regression":
            means["training_accuracy"] = float(right / weight)
        if self.objective is not None:
            means["training_objective"] = self._mean_objective(log, self.objective)
        return means

    def _mean_objective(self, log: np.ndarray, factor: float) -> float:
        assert isinstance(self.source, Arrays)
        n, m, penalty = self.source.n, self.source.batch_size, self.update.penalty
        cost, _, weight, squares = log.T
        weight = np.where(weight > 0.0, weight, 1.0)
        divisor = weight if penalty.n is None else penalty.n
        rows = np.minimum(m, n - m * np.arange(len(log)))
        objective = factor * cost / weight + 0.5 * penalty.l2 * squares / divisor
        return float((rows * objective).sum() / n)
