"""Single steps of a run, and the way back to the last good one when one goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import Array
from ..chain import Chain, mean_factor
from ..history import History
from ..network import Network
from ..parameters import leaves
from .sources import Source
from .state import vectors
from .updates import Scalars, Update


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

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], output="identity", weights="zeros", bias="zeros")
    >>> try:
    ...     history = net.fit([[1.0]], [[1.0]], epochs=5, optimizer=bpx.SGD(1e30))
    ... except bpx.DivergenceError as error:
    ...     print(error.epoch, error.step, error.layer)
    2 1 the cost
    """

    def __init__(
        self,
        epoch: int,
        step: int,
        layer: str,
        history: History,
        decay: str = "",
        before: bool = False,
    ) -> None:
        self.epoch, self.step, self.layer, self.history = epoch, step, layer, history
        self._decay, self._before = decay, before
        first = f"A smaller {decay}, a lower" if decay else "A lower"
        message = (
            f"the cost is not finite at step {step} of epoch {epoch}, first in {layer}; the "
            f"network keeps the weights of the last good step. {first} learning rate, clip_norm=, "
            "or inputs and targets scaled to about 1 may help"
        )
        if before:
            message = (
                f"{layer} had numbers that were not finite before step {step} of epoch {epoch}, "
                "so no step made them so, and none would help: set finite numbers, or make the "
                "network anew"
            )
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:  # its arguments are not its message
        of = self.epoch, self.step, self.layer, self.history, self._decay, self._before
        return DivergenceError, of


class NonFinite(Exception):
    """A step's cost is not finite; nothing of that step was written."""


class Steps:
    """Forward, delta, backward, update: on mini-batches of `source`, one after another.

    Parameters
    ----------
    net : Network
        The one that is trained.
    chain : Chain
        Its own, or one that works on the same numbers in another precision.
    source : Arrays, Stream or Windows
        For `Windows`, the part that is in memory then takes its place.
    update : FusedUpdate or GradientUpdate
    rows : int
        Of the log: the most steps between two reads of it.
    squares : bool
        Record Σω² of each step too.

    Attributes
    ----------
    log : array
        (rows, 3): for each step the sums of cost, of right samples and of weight.
    squares : array
        (rows,): Σω² before each step; empty if it is not wanted.
    """

    def __init__(
        self,
        net: Network,
        chain: Chain,
        source: Source,
        update: Update,
        rows: int,
        squares: bool = False,
    ) -> None:
        self.net, self.chain = net, chain
        self.source: Any = source
        self.update, self.state = update, update.state
        self.ws = chain.workspace(training=True)
        self.log = chain.backend.zeros((rows, 3), chain.xp_dtype)
        self.squares = chain.backend.zeros((rows if squares else 0,), chain.xp_dtype)
        self._questions: dict[str, Callable[[], bool]] = {}
        self._vectors = [*vectors(net, update.state).values()]
        self._copies = [chain.backend.xp.empty_like(vector) for vector in self._vectors]

    def one(self, batch: Any, at: int) -> None:
        """Do one step by itself; its results go to row `at` of the log.

        Raises
        ------
        NonFinite
            Only on a host: on a device a look at the cost would make the host wait.
        """
        self.ws.step = self.net.steps
        self._step(batch, at)
        self.count(1)

    def recorded(self, rows: Array, scalars: Scalars, at: Array, step: Array) -> None:
        """The same with all that changes from step to step on the device; not counted."""
        self.ws.step = step
        self._step((None, rows), at, scalars)

    def count(self, steps: int) -> None:
        """Count `steps` that were done, in whatever way."""
        self.state.step += steps
        self.net._count(self.net.steps + steps, self.net.epochs)

    def _step(self, batch: Any, at: Any, scalars: Scalars | None = None) -> None:
        """Gather, forward, δ^L, backward, update; the step's sums go to row `at` of the log.

        `scalars` are given where they lie on the device.
        """
        chain, ws = self.chain, self.ws
        x, y, weight = self.source.load(batch, ws)
        over_m = mean_factor(y.shape[0], weight)
        if scalars is None:
            total = self.source.total(batch) if self.update.penalty.by_batch else None
            scalars = self.update.scalars(self.state.step, over_m, total)
        values, a, delta, saved = chain.cost_and_delta(x, y, ws, chain.mean_weights(weight))
        self._record(values, chain.correct(a, y), weight, at)
        self.update.before_backward(scalars, over_m)
        chain.backward(delta, saved, self.update.out, ws)
        self.update.after_backward(scalars)

    def _record(self, values: Array, right: Array | None, weight: Array | None, at: Any) -> None:
        """Put a step's sums into row `at` of the log; NonFinite ends it before its update."""
        backend = self.chain.backend
        backend.tally(values, right, weight, self.log, at)
        if backend.is_host and not math.isfinite(float(self.log[at, 0])):
            raise NonFinite
        self.note_squares(at)

    def note_squares(self, at: Any) -> None:
        """Record Σω² before the step, if that is wanted."""
        if self.squares.shape[0]:
            omega = self.chain.parameters[: self.state.decayed]
            self.squares[at] = self.chain.backend.square(omega)

    def ask(self, **questions: Callable[[], bool]) -> None:
        """Set what is asked after each step; with several ranks, whether one of them says so."""
        self._questions = questions

    def answer(self, name: str) -> bool:
        """The answer to a question of `ask`, after the last step."""
        return self._questions[name]()

    # --- results ---

    def read(self, count: int, first: int = 0) -> np.ndarray | None:
        """`count` rows of the log in float64; on a device this is where the host waits for it.

        With a fourth column of Σω² if it is recorded.

        None if they, or the vectors, are not finite: an update can overflow after a finite cost.
        """
        to_host = self.chain.backend.to_host
        rows = slice(first, first + count)
        log = to_host(self.log[rows, ...]).astype(np.float64)
        if self.squares.shape[0]:
            log = np.column_stack([log, to_host(self.squares[rows])])
        return log if np.isfinite(log).all() and self.all_finite() else None

    def all_finite(self) -> bool:
        """Whether all that is trained, and what is remembered of the training, is finite."""
        return all(map(self._finite, self._vectors))

    def _finite(self, array: Array) -> bool:
        xp = self.chain.backend.xp
        # A sum is one pass without a temporary; each element is checked only if it is not finite.
        return math.isfinite(float(xp.sum(array))) or bool(xp.all(xp.isfinite(array)))

    # --- backup and divergence ---

    def back_up(self) -> None:
        """Copy everything as it is now, for `restore`."""
        for copy, vector in zip(self._copies, self._vectors, strict=True):
            copy[...] = vector
        self._counts = self.net.steps, self.net.epochs
        self._step_of_update = self.state.step

    def restore(self) -> None:
        """Set everything back to the last `back_up`."""
        for copy, vector in zip(self._copies, self._vectors, strict=True):
            vector[...] = copy
        self.net._count(*self._counts)
        self.state.step = self._step_of_update

    def since_backup(self, count: int) -> tuple[list[Array], list[Array]]:
        """The vectors, and `count` rows of the log, at the last `back_up` and now.

        The vectors themselves: steps write into them. The log counts from zero.
        """
        log = self.log[:count, ...]
        before = self.chain.backend.xp.zeros_like(log)
        return [*self._copies, before], [*self._vectors, log]

    def diverged(self, piece: list[Any], done: int) -> DivergenceError:
        """Run the piece again from the last `back_up`, step by step, to the last good one."""
        assert self.net.history is not None
        epoch, history = self.net.epochs + 1, self.net.history
        self.restore()
        name, share = self.update.penalty.decay(self.update.optimizer, self.state)
        decay = name if share > 1.0 else ""
        if (what := self._bad_parameters()) is not None:
            return DivergenceError(epoch, done + 1, what, history, decay, before=True)
        for index, batch in enumerate(piece):
            self.back_up()
            try:
                self.one(batch, 0)
                good = math.isfinite(float(self.log[0, 0]))
            except NonFinite:
                good = False
            layer = self._bad_parameters() if good else self._bad_output(batch)
            if layer is not None:
                self.restore()
                return DivergenceError(epoch, done + index + 1, layer, history, decay)
        return DivergenceError(epoch, done + len(piece), "the cost", history, decay)

    def _bad_parameters(self) -> str | None:
        """After a step with a finite cost, the first layer whose new parameters are not finite."""
        if self.all_finite():
            return None
        for index, (layer, p) in enumerate(zip(self.net.layers, self.chain.p, strict=True)):
            if not all(self._finite(tensor) for _, tensor in leaves(p)):
                return f"the parameters of layer {index} ({layer})"
        for index, (layer, s) in enumerate(zip(self.net.layers, self.chain.s, strict=True)):
            if not all(self._finite(tensor) for _, tensor in leaves(s)):
                return f"the running statistics of layer {index} ({layer})"
        return "the optimizer's memory"

    def _bad_output(self, batch: Any) -> str:
        """The first layer whose output is not finite on this batch, with the weights before it."""
        self.restore()
        self.ws.step = self.net.steps
        first = self._first_bad(batch)
        if first < 0:
            return "the inputs"
        layers = self.net.layers
        return f"layer {first} ({layers[first]})" if first < len(layers) else "the cost"

    def _first_bad(self, batch: Any) -> int:
        """The first bad layer's index; -1: the inputs; the number of layers: none of them."""
        x, _, _ = self.source.load(batch, self.ws)
        finite = [self._finite(x)]
        # Through all layers: ranks may sum up statistics in any.
        finite += [self._finite(a) for a in self.chain.layer_outputs(x, self.ws)]
        return [*finite, False].index(False) - 1
