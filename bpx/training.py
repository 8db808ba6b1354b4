"""The loop of `Network.fit`: epochs, steps, and what happens when a run does not go well."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy as np

from . import data
from .blocks import Blocks
from .callbacks import Progress, Run, as_callbacks, hooks
from .captured import Captured, why_not_captured
from .chain import Chain
from .checkpoints import Checkpoints
from .checks import positive, whole
from .data import Samples
from .history import History
from .interrupts import Interrupts
from .mpi import joined
from .network import Network
from .optimizers import SGD, Optimizer, State, as_optimizer
from .passes import NO_LIMIT, Compiled, InWindows, Pass, Replayed, StepByStep
from .program import compiled
from .ranks import RankError, Ranks, agreed, same
from .shared import (
    BEHIND,
    SharedSteps,
    SharedStream,
    at_the_end,
    begin_alike,
    check_statistics,
    compare,
    given_alike,
    newest,
)
from .snapshots import Epoch, Snapshot, arguments_of, load_states
from .sources import Arrays, Order, Source, Stream, Windows, digest_of, of_blocks
from .steps import DivergenceError, Steps
from .updates import Penalty, update_for


def train(net: Network, x: Any, y: Any, *, parallel: Any = None, **options: Any) -> History:
    """What `Network.fit` does; its docstring has the parameters, and their defaults."""
    with joined(parallel) as ranks:
        return _train(net, x, y, ranks=ranks, **options)


def _train(
    net: Network,
    x: Any,
    y: Any,
    *,
    ranks: Ranks,
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
    checkpoint: Any = None,
    resume: bool = False,
    accumulate: int = 1,
    objective: float | None = None,
) -> History:
    """As one rank of several, or alone.

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
    accumulate = whole("accumulate", accumulate)
    cut = ranks.size > 1 or accumulate > 1
    source: Source
    if isinstance(x, Blocks):
        source = of_blocks(net, x, y, sample_weight, batch_size, shuffle, check_finite)
    elif y is None:
        if n is None and (l1 or l2):
            raise ValueError("l1 and l2 on an iterable need n=, the size of the training set")
        for_arrays = {"batch_size": batch_size, "sample_weight": sample_weight}
        stream = net, x, epochs, size, check_finite, for_arrays
        source = SharedStream(ranks, accumulate, *stream) if cut else Stream(*stream)
    else:
        samples = net.samples(x, y, sample_weight, finite=check_finite)
        source = Arrays(net, samples, data.check_batch_size(batch_size, samples.n), shuffle)
    if not isinstance(source, Stream) and accumulate > source.batch_size:
        raise ValueError(
            f"expected accumulate <= {source.batch_size}, the rows of a mini-batch, got "
            f"{accumulate}"
        )
    held_out = None
    if validation is not None:
        if isinstance(validation, Blocks):
            validation = validation, None
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise TypeError("expected validation=(x, y), (x, y, sample_weight) or open_data(...)")
        held_out = net.samples(*validation, what="validation ", finite=check_finite)
    called = as_callbacks(callbacks) + ([Progress()] if progress else [])
    if ranks.rank:  # rank 0 alone prints
        called = [callback for callback in called if not isinstance(callback, Progress)]
    chosen = as_optimizer(optimizer) if optimizer is not None else net.optimizer or SGD(0.1)
    # A stream without penalties need not know its size.
    divisor = None if n == "batch" else size or source.n or 1
    penalty = Penalty(l1, l2, divisor, clip_norm, clip_value)
    chain = net.chain if precision is None else _in_precision(net.chain, precision)
    arguments = arguments_of(
        source, called, optimizer=chosen, precision=precision, **vars(penalty),
        validation=held_out and held_out.n,
    )  # fmt: skip
    if checkpoint is not None or ranks.size > 1:
        arguments["digest of some samples"] = source.digest()
        if held_out is not None:
            x = None if isinstance(held_out.x, Blocks) else held_out.x
            digest = digest_of(x, held_out.y, held_out.weight)
            arguments["digest of some validation samples"] = digest
    if ranks.size > 1:
        others = {"epochs": epochs, "resume": resume, "accumulate": accumulate}
        others["a callback with on_step_end"] = _hooked(called)
        given_alike(net, ranks, arguments | others)
    check_statistics(net.chain, source, ranks, accumulate)
    checkpoints = resumed = None
    if checkpoint is not None:
        checkpoints = Checkpoints(checkpoint, arguments, called, writes=ranks.rank == 0)
        if resume:
            resumed = newest(checkpoints, ranks)
        else:
            checkpoints.refuse_others()
    elif resume:
        raise ValueError("resume=True needs checkpoint=, the folder to go on from")
    if chosen != net.optimizer or net.optimizer_state is None:
        net.optimizer, net.optimizer_state = chosen, chosen.start(net)
    trainer = _Trainer(
        net, chain, source, chosen, net.optimizer_state, penalty, graph, objective, checkpoints,
        arguments, ranks, accumulate if cut else None,
    )  # fmt: skip
    try:
        return trainer.run(epochs, held_out, called, resumed)
    finally:
        vars(trainer).clear()  # a cycle, which would hold windows until the collector comes


def _hooked(callbacks: list[Any]) -> bool:
    """One of the user's callbacks is called after each step."""
    others = [callback for callback in callbacks if not isinstance(callback, Progress)]
    return bool(hooks(others, "on_step_end"))


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
        source: Source,
        optimizer: Optimizer,
        state: State,
        penalty: Penalty,
        graph: bool | str,
        objective: float | None,
        checkpoints: Checkpoints | None,
        arguments: dict[str, Any],
        ranks: Ranks,
        slices: int | None,
    ) -> None:
        self.net, self.chain, self.source = net, chain, source
        self.optimizer, self.state, self.graph = optimizer, state, graph
        self.objective, self.checkpoints = objective, checkpoints
        self.arguments, self.ranks, self.slices = arguments, ranks, slices
        behind = None if slices is None else BEHIND
        self.update = update_for(chain, optimizer, state, penalty, behind)

    def run(
        self,
        epochs: int,
        held_out: Samples | None,
        callbacks: list[Any],
        resumed: Snapshot | None = None,
    ) -> History:
        net, source, checkpoints, ranks = self.net, self.source, self.checkpoints, self.ranks
        kinds = ("cost",) if net.task == "regression" else ("cost", "accuracy")
        parts = ("training",) if held_out is None else ("training", "validation")
        columns = tuple(f"{part}_{kind}" for part in parts for kind in kinds)
        run = Run(
            net, History(), epochs, source.steps, self.state, columns, net.steps, begun=net.steps,
            rank=ranks.rank, ranks=ranks.size,
        )  # fmt: skip
        self.at_hand: Epoch | None = None  # until it ends
        if resumed is not None:
            self.at_hand = resumed.restore(run, source, self.arguments)
        self.hooked = _hooked(callbacks)
        if ranks.size > 1:
            begin_alike(net, self.state, ranks)
        self.chain.key = net.chain.key  # of the masks; in another precision it is a twin
        net.history = history = run.history
        self._choose_passes()
        doing = ranks.doing
        # A scheduler's SIGTERM is worth a last checkpoint.
        also = () if checkpoints is None else (signal.SIGTERM,)
        try:
            for hook in hooks(callbacks, "on_fit_begin"):
                hook(run)
            if resumed is not None:
                load_states(resumed.path, callbacks, resumed.callbacks)
            # What is not finite is found and told here, with its layer; no warnings beside it.
            with self._surrounded(), Interrupts(*also) as interrupts, np.errstate(all="ignore"):

                def ending() -> bool:
                    return bool(run.stopped) or interrupts.noted

                self._ask(run, ending)
                # Rank 0 may be in the middle of a checkpoint, and the others need not hurry it.
                ranks.hurried = lambda: interrupts.noted and ranks.rank == 0
                try:
                    self._epochs(run, held_out, callbacks)
                    stopped = at_the_end(ranks, run.stopped, interrupts.noted)
                except RankError:
                    self._rescue(run)
                    raise
                run.stopped, history.interrupted = stopped
                if checkpoints is not None:
                    checkpoints.write(run, self.at_hand or Epoch.next(net, source))
            history.stopped = run.stopped
            for hook in hooks(callbacks, "on_fit_end"):
                hook(run)
        finally:
            ranks.hurried, ranks.doing = bool, doing
            for callback in callbacks:
                if isinstance(callback, Progress):
                    callback.close()
        return history

    def _epochs(self, run: Run, held_out: Samples | None, callbacks: list[Any]) -> None:
        """All that are left, or until somebody wants it to stop."""
        net, checkpoints, ranks = self.net, self.checkpoints, self.ranks
        step_hooks, checks = hooks(callbacks, "on_step_end"), net.chain.workspace()
        while run.history.epochs < run.epochs and not agreed(ranks, self.ending()):
            if checkpoints is None:
                self.at_hand = Epoch()
            else:
                self.at_hand = self.at_hand or Epoch.next(net, self.source)
                if checkpoints.due(run, self.steps.answer("late")):
                    checkpoints.write(run, self.at_hand)
            means = self._epoch(self.at_hand, run, step_hooks)
            if means is None:
                return
            row = {"epoch": net.epochs + 1, **means}
            if held_out is not None:
                found = net.chain.evaluate(held_out, checks, ranks)
                row |= {f"validation_{name}": value for name, value in found.items()}
            row["learning_rate"] = self.optimizer.rate(self.state, self.state.step - 1)
            row["seconds"] = self.at_hand.took
            run.history.append(row)
            net.epochs, self.at_hand = net.epochs + 1, None
            for hook in hooks(callbacks, "on_epoch_end"):
                hook(run)

    def _surrounded(self) -> AbstractContextManager[None]:
        largest = None
        if not isinstance(self.source, Stream):  # whose batches may be of any size
            rows = -(-self.source.batch_size // (self.ranks.size * (self.slices or 1)))
            largest = self.chain.architecture.largest * rows
        return self.chain.backend.surround(largest, self.ranks.processes)

    def _ask(self, run: Run, ending: Callable[[], bool]) -> None:
        """What the loop has to know after each step."""
        checkpoints = self.checkpoints
        self.steps.ask(ending=ending, late=bool if checkpoints is None else checkpoints.late)
        self.ending = ending
        self.ranks.doing = lambda: f"step {run.net.steps + 1} of its training"

    def _choose_passes(self) -> None:
        """Compiled, by replays, and step by step, what neither of them can do."""
        source, squares, hooked = self.source, self.objective is not None, self.hooked
        # A hook may change the network, and is not called again where steps are done again.
        piece = 1 if hooked else source.piece
        asked = self.graph != "auto" and self.chain.backend.captures  # for a graph, or for none
        for_steps = self.net, self.chain, source, self.update, self.state, piece, squares
        if self.slices is None:
            steps = Steps(*for_steps)
        else:
            steps = SharedSteps(*for_steps, self.ranks, self.slices)
        self.steps = steps
        why = why_not_captured(self.chain, source, self.optimizer, hooked)
        if self.slices is not None:
            why = why or "accumulate= and parallel= make more of a step than one recording"
        if self.graph is True and why:
            raise ValueError(f"graph=True: {why}")

        def through(source: Arrays | Stream) -> Pass:
            steps.source = source
            ways = self.chain, source, self.update, squares
            cut = self.slices is not None
            found = None if hooked or asked or cut else compiled(*ways)
            if found is None or isinstance(source, Stream):
                return StepByStep(steps, source, piece)
            return Compiled(steps, source, self.update, *found)

        self.replayed = None
        if isinstance(source, Windows):
            self.usual: Pass = InWindows(source, through)
            return
        self.usual = through(source)
        wanted = self.graph is not False and not why and isinstance(self.usual, StepByStep)
        if wanted and isinstance(source, Arrays):
            captured = Captured(self.chain, source, self.update, steps.recorded)
            self.replayed = Replayed(steps, source, captured, self.graph is True)

    def _epoch(self, epoch: Epoch, run: Run, step_hooks: list[Any]) -> dict[str, float] | None:
        """The epoch's means; None if it did not end."""
        epoch.begin(self.source)
        ranks = self.ranks
        if ranks.size > 1:
            order = epoch.digest_of_order()
            same(ranks, "the order of rows", str(epoch.order if order is None else order))
        going: Pass = self.usual
        # What is left of an epoch after a checkpoint is not replayed.
        if self.replayed is not None and not epoch.done and self.replayed.holds(epoch.order):
            going = self.replayed
        going.begin(epoch.order, epoch.done)
        with closing(going):
            try:
                ended = self._steps(going, epoch, run, step_hooks)
            except RankError:
                with contextlib.suppress(RankError, DivergenceError):
                    if epoch.steps_in_log < epoch.done:
                        epoch.log.append(going.read())
                raise
        if not ended:
            return None
        if ranks.size > 1:
            compare(self.net, ranks)
        return self._means(epoch.log[0] if len(epoch.log) == 1 else np.concatenate(epoch.log))

    def _steps(self, going: Pass, epoch: Epoch, run: Run, step_hooks: list[Any]) -> bool:
        """To the end of the epoch: True; or until somebody wants it to stop."""
        checkpoints, most, unread, stop = self.checkpoints, NO_LIMIT, False, False
        while True:
            if checkpoints is not None:
                most = checkpoints.most(run)
            count = going.advance(most)
            if not count:
                break
            epoch.done += count
            unread = True
            run.step = self.net.steps
            for hook in step_hooks:
                hook(run)
            # Hooks may have stopped it after the step's own question was answered.
            stop = self.steps.answer("ending")
            if self.hooked:
                stop = agreed(self.ranks, self.ending())
            if stop:
                break
            if checkpoints is not None and checkpoints.due(run, self.steps.answer("late")):
                epoch.log.append(going.read())
                unread = False
                checkpoints.write(run, epoch)
        if unread:
            epoch.log.append(going.read())
        return not stop

    def _rescue(self, run: Run) -> None:
        """The others are lost: a checkpoint of the last step that all of them did."""
        epoch = self.at_hand or Epoch.next(self.net, self.source)
        if self.checkpoints is not None and epoch.steps_in_log == epoch.done:
            with contextlib.suppress(OSError):
                self.checkpoints.write(run, epoch)

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
