"""The loop of a run: epochs, steps, and what happens when something goes wrong."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..augmentation import Pipeline
from ..callbacks import Progress, Run
from ..callbacks._base import hooks
from ..callbacks._progress import at_each_step
from ..chain import Chain
from ..data.arrays import Samples
from ..data.incoming import Incoming
from ..history import History
from ..network import Network
from ..optimizers import Optimizer, State
from ..parallel.ranks import RankError, Ranks, agreed, same
from .agreement import agreed_ending, check_parameters, synchronize
from .checkpoints import Checkpoints
from .interrupts import Interrupts, conclude
from .passes import NO_LIMIT, Compiled, InWindows, Pass, Replayed, StepByStep
from .program import compiled
from .replays import Captured, why_not_captured
from .slices import BEHIND, SharedSteps
from .snapshots import Epoch, Snapshot, load_states
from .sources import Arrays, Source, Stream, Windows
from .steps import DivergenceError, Steps
from .updates import Penalty, update_for


@dataclass(eq=False)
class Trainer:
    """One call of `fit`, after its arguments were checked.

    Attributes
    ----------
    chain : Chain
        The network's, or a twin in another precision.
    held_out : Samples, Incoming or None
        What is evaluated after each epoch.
    arguments : dict
        See `arguments_of`.
    slices : int or None
        How many slices each rank's part of a mini-batch is cut into; None: it is not cut at all.
    cost_factor : float or None
        A factor on the cost, with which the history has the objective too.
    augment : Pipeline or None
        What changes the samples of each mini-batch.
    update : FusedUpdate or GradientUpdate
        What a step does to θ.
    hooked : bool
        Whether a callback is called after each step; set by `run`.
    ending : callable
        Whether something asks to stop; set by `run`.
    terminated : callable
        Whether SIGTERM has come; set by `run`.
    epoch : Epoch or None
        The current one, from before its first step until it ends; set by `run`.
    steps : Steps
        What does single steps, and goes back to the last good one; set by `run`.
    usual : Pass
        The way through an epoch, or through what is left of one; set by `run`.
    replayed : Replayed or None
        The way through a whole epoch by replays of a recording, where there is one; set by `run`.
    """

    net: Network
    chain: Chain
    source: Source
    held_out: Samples | Incoming | None
    optimizer: Optimizer
    state: State
    penalty: Penalty
    graph: bool | str
    checkpoints: Checkpoints | None
    arguments: dict[str, Any]
    ranks: Ranks
    slices: int | None
    cost_factor: float | None
    augment: Pipeline | None

    def __post_init__(self) -> None:
        behind = None if self.slices is None else BEHIND
        self.update = update_for(self.chain, self.optimizer, self.state, self.penalty, behind)

    def run(self, epochs: int, callbacks: list[Any], resumed: Snapshot | None = None) -> History:
        """Train; returns the history."""
        net, ranks = self.net, self.ranks
        self.hooked = at_each_step(callbacks)
        why = self._why_not_replayed()  # it may raise: before a checkpoint is restored
        run = self._begin(epochs, resumed)
        doing, self._errstate = ranks.doing, np.geterr()
        self.terminated: Callable[[], bool] = lambda: False
        try:
            for hook in hooks(callbacks, "on_fit_begin"):
                hook(run)
            if resumed is not None:
                load_states(resumed.path, callbacks, resumed.callbacks)
            self._choose_passes(why)  # after `Progress` has begun: it may compile
            net.optimizer, net.optimizer_state = self.optimizer, self.state
            net.history = run.history
            self._loop(run, callbacks)
            run.history.stopped = run.stopped
            for hook in hooks(callbacks, "on_fit_end"):
                hook(run)
            if run.history.interrupted:
                # After the hooks of all: a rank that dies of it may take the others with it.
                ranks.doing, ranks.hurried = lambda: "the end of fit", lambda: False
                run.history.terminated = agreed(ranks, self.terminated())
        except BaseException:  # after which nobody else delivers it
            conclude(self.terminated(), None)
            raise
        finally:
            ranks.hurried = lambda: False
            ranks.doing = doing
            for callback in callbacks:
                if isinstance(callback, Progress):
                    callback.close()
        return run.history

    def _loop(self, run: Run, callbacks: list[Any]) -> None:
        """Run the epochs, with Ctrl-C between two steps, and a checkpoint where they end."""
        checkpoints, ranks = self.checkpoints, self.ranks
        # A scheduler's SIGTERM is worth a last checkpoint.
        also = () if checkpoints is None else (signal.SIGTERM,)
        # What is not finite is found and reported here, with its layer; no warnings besides.
        with self._surrounded(), Interrupts(*also) as interrupts, np.errstate(all="ignore"):
            self.terminated = lambda: signal.SIGTERM in interrupts.came
            self.ending: Callable[[], bool] = lambda: bool(run.stopped) or interrupts.noted
            late = (lambda: False) if checkpoints is None else checkpoints.late
            self.steps.ask(ending=self.ending, late=late)
            ranks.doing = lambda: f"step {run.net.steps + 1} of its training"
            # Rank 0 may be in the middle of a checkpoint, and the others need not hurry it.
            ranks.hurried = lambda: interrupts.noted and ranks.rank == 0
            try:
                self._run_epochs(run, callbacks)
                stopped = agreed_ending(ranks, run.stopped, interrupts.noted)
            except RankError:
                self._rescue(run)
                raise
            run.stopped, run.history.interrupted = stopped
            if checkpoints is not None:
                checkpoints.write(run, self.epoch or self._next_epoch())
        # A signal during the last checkpoint ends the run as one before it does.
        run.history.interrupted |= agreed(ranks, interrupts.noted)

    def _begin(self, epochs: int, resumed: Snapshot | None) -> Run:
        """A run that begins, or goes on from a checkpoint, on all ranks alike."""
        net, ranks = self.net, self.ranks
        kinds = ("cost",) if net.task == "regression" else ("cost", "accuracy")
        parts = ("training",) if self.held_out is None else ("training", "validation")
        columns = tuple(f"{part}_{kind}" for part in parts for kind in kinds)
        run = Run(
            net, History(), epochs, self.source.steps, self.state, columns, net.steps,
            begun=net.steps, rank=ranks.rank, ranks=ranks.size,
        )  # fmt: skip
        self.epoch: Epoch | None = None
        if resumed is not None:
            self.epoch = resumed.restore(run, self.source, self.held_out, self.arguments)
            run.step_log = self.epoch.log
        if ranks.size > 1:
            synchronize(net, self.state, ranks)
        self.chain.key = net.chain.key  # for masks; in another precision the chain is a twin
        return run

    def _run_epochs(self, run: Run, callbacks: list[Any]) -> None:
        """Run all that are left, or until something asks to stop."""
        net, checkpoints, ranks = self.net, self.checkpoints, self.ranks
        step_hooks, checks = hooks(callbacks, "on_step_end"), net.chain.workspace()
        while run.history.epochs < run.epochs and not agreed(ranks, self.ending()):
            if checkpoints is None:
                self.epoch = Epoch()
            else:
                self.epoch = self.epoch or self._next_epoch()
                if checkpoints.due(run, self.steps.answer("late")):
                    checkpoints.write(run, self.epoch)
            means = self._run_epoch(self.epoch, run, step_hooks)
            if means is None:
                return
            row = {"epoch": net.epochs + 1, **means}
            if self.held_out is not None:
                found = net.chain.evaluate(self.held_out, checks, ranks)
                row |= {f"validation_{name}": value for name, value in found.items()}
            row["learning_rate"] = self.epoch.rate or self._rate()
            row["seconds"] = self.epoch.took
            run.history.append(row)
            net._count(net.steps, net.epochs + 1)
            self.epoch = None
            self._call(hooks(callbacks, "on_epoch_end"), run)

    def _next_epoch(self) -> Epoch:
        return Epoch.next(self.net, self.source, self.held_out)

    def _surrounded(self) -> AbstractContextManager[None]:
        source, x, rows = self.source, None, None
        if not isinstance(source, Stream):  # whose batches may be of any size
            rows = -(-source.batch_size // (self.ranks.size * (self.slices or 1)))
        if isinstance(source, Arrays) and self.augment is None:
            x = source.samples.x
        return self.chain.surround(x, rows, self.ranks.processes)

    def _choose_passes(self, why: str) -> None:
        """Set `usual` and `replayed`: compiled if possible, or by replays, else step by step.

        `why`, if not empty, is a reason against replays.
        """
        chain, source, update = self.chain, self.source, self.update
        squares = self.cost_factor is not None
        # A hook may change the network, and is not called again when steps are repeated.
        piece = 1 if self.hooked else source.piece
        for_steps = self.net, chain, source, update, piece, squares
        if self.slices is None:
            steps = Steps(*for_steps)
        else:
            steps = SharedSteps(self.ranks, self.slices, *for_steps)
        self.steps = steps
        steps.ws.augment = self.augment
        asked = self.graph != "auto" and chain.backend.captures  # for a graph, or for none
        by_itself = self.hooked or asked or self.slices is not None or self.augment is not None

        net = self.net

        # Without `self`: in a reference cycle windows would wait for the collector.
        def through(source: Arrays | Stream) -> Pass:
            steps.source = source
            found = (
                None if by_itself else compiled(chain, source, update, lambda: net.steps, squares)
            )
            if found is None or isinstance(source, Stream):
                return StepByStep(steps, piece)
            return Compiled(steps, *found)

        self.replayed: Replayed | None = None
        if isinstance(source, Windows):
            self.usual: Pass = InWindows(source, through)
            return
        self.usual = through(source)
        wanted = self.graph is not False and not why and isinstance(self.usual, StepByStep)
        if wanted and isinstance(source, Arrays):
            captured = Captured(chain, source, update, steps.recorded)
            self.replayed = Replayed(steps, captured, self.graph is True)

    def _why_not_replayed(self) -> str:
        """What makes a recording of a step impossible; empty: nothing known beforehand.

        Raises
        ------
        ValueError
            Something does, but ``graph=True`` was asked for.
        """
        why = why_not_captured(self.chain, self.source, self.optimizer, self.hooked)
        if self.slices is not None:
            why = why or "with accumulate= or parallel= a step is more than one recording"
        if self.augment is not None:
            why = why or "augment= draws the numbers of each mini-batch on the host"
        if self.graph is True and why:
            raise ValueError(f"graph=True: {why}")
        return why

    def _run_epoch(self, epoch: Epoch, run: Run, step_hooks: list[Any]) -> dict[str, float] | None:
        """The epoch's means; None if it did not end."""
        epoch.begin(self.source)
        ranks = self.ranks
        if ranks.size > 1:
            order = epoch.digest_of_order()
            same(ranks, "the order of rows", str(epoch.order if order is None else order))
        current: Pass = self.usual
        # What is left of an epoch after a checkpoint is not replayed.
        if self.replayed is not None and not epoch.done and self.replayed.holds(epoch.order):
            current = self.replayed
        run.step_log = epoch.log
        current.begin(epoch.order, epoch.done, epoch.log)
        with closing(current):
            try:
                ended = self._run_steps(current, epoch, run, step_hooks)
            except RankError:
                with contextlib.suppress(RankError, DivergenceError):
                    current.read()
                raise
        if not ended:
            return None
        if ranks.size > 1:
            check_parameters(self.net, ranks)
        return self._means(epoch.log.rows)

    def _run_steps(self, current: Pass, epoch: Epoch, run: Run, step_hooks: list[Any]) -> bool:
        """Run to the end of the epoch (True), or until something asks to stop."""
        checkpoints, most, stop = self.checkpoints, NO_LIMIT, False
        while True:
            if checkpoints is not None:
                most = checkpoints.most(run)
            count = current.advance(most)
            if not count:
                break
            epoch.done += count
            run.step = self.net.steps
            if step_hooks:  # they may set the factor of the next step
                epoch.rate = self._rate()
            self._call(step_hooks, run)
            # Hooks may have stopped the run after the step's own question was answered.
            stop = self.steps.answer("ending")
            if self.hooked:
                stop = agreed(self.ranks, self.ending())
            if stop:
                break
            if checkpoints is not None and checkpoints.due(run, self.steps.answer("late")):
                current.read()
                checkpoints.write(run, epoch)
        current.read()
        return not stop or epoch.done == self.source.steps

    def _call(self, hooks: list[Any], run: Run) -> None:
        if hooks:
            with np.errstate(**self._errstate):  # for a user's own functions, not for the steps
                for hook in hooks:
                    hook(run)
        self.chain.backend.use()  # a hook's networks may be on another device

    def _rate(self) -> float:
        """The learning rate of the last step."""
        return self.optimizer.rate(self.state, self.state.step - 1)

    def _rescue(self, run: Run) -> None:
        """The other ranks are lost: write a checkpoint of the last step that all of them did."""
        epoch = self.epoch or self._next_epoch()
        if self.checkpoints is not None and len(epoch.log) == epoch.done:
            with contextlib.suppress(OSError):
                self.checkpoints.write(run, epoch)

    def _means(self, log: np.ndarray) -> dict[str, float]:
        cost, right, weight = log[:, :3].sum(axis=0)
        if weight == 0.0:
            raise ValueError("all sample weights of the epoch were zero: nothing was learned")
        means = {"training_cost": float(cost / weight)}
        if self.net.task != "regression":
            means["training_accuracy"] = float(right / weight)
        if self.cost_factor is not None:
            means["training_objective"] = self._mean_objective(log, self.cost_factor)
        return means

    def _mean_objective(self, log: np.ndarray, factor: float) -> float:
        assert isinstance(self.source, Arrays)
        n, m, penalty = self.source.n, self.source.batch_size, self.update.penalty
        cost, _, weight, squares = log.T
        some, weight = weight > 0.0, np.where(weight > 0.0, weight, 1.0)
        share = some / weight if penalty.n is None else 1.0 / penalty.n
        rows = np.minimum(m, n - m * np.arange(len(log)))
        objective = factor * cost / weight + 0.5 * penalty.l2 * share * squares
        return float((rows * objective).sum() / rows.sum())
