"""A run of training as plain data, which a native backend may run whole.

It describes what a step of `Steps` does, for dense layers that bpx knows by name; a run with a
user's own layer, activation, cost or optimizer is never described, and goes step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import Array, is_sparse
from ..chain import Chain
from ..dense_chain import DenseLayers
from ..optimizers import State
from .sources import Arrays
from .updates import Penalty, Scalars, Update

# Multiply-adds between two looks at the clock, at Ctrl-C and at the progress bar: about 30 ms.
WORK_A_CALL = 2_000_000_000
STEPS_A_CALL = 1_000  # for small networks, whose time goes to calls
# Multiply-adds that take as long as the optimizer on an element that is in no cache.
OF_UPDATE = 40


@dataclass(frozen=True)
class Program:
    """Everything that the steps of one call of `fit` read and write.

    Attributes
    ----------
    layers : DenseLayers
    objective : tuple of str
        The names of cost and output activation.
    task : str
    rule : str
        What becomes of δᵀa: ``"theta"`` and ``"velocity"`` for the fused updates, else the name
        of the optimizer's recursion on a gradient.
    optimizer : Optimizer
        Its constants.
    theta, into : array
        θ, and where δᵀa goes: θ itself, the velocity, or the gradient.
    slots : tuple of array
        The optimizer's memory.
    state : State
        The same, with its count of the steps before a call.
    decayed, trained : int
        θ up to `decayed` is weights, up to `trained` it is trained.
    x, y, weight : array
        The training set.
    batch_size : int
    key : int
        Of the network, for masks.
    done : callable
        The steps that the network has done, which a callback's `backprop` counts too.
    running : array
        The running statistics of all layers.
    penalty : Penalty
        λ₂/n and λ₁/n are the fourth and the fifth of a step's scalars, where they are not 0.
    bound : callable or None
        Adds penalties to the gradient and clips it, given a step's scalars; None: it stays as it
        is.
    squares : bool
        Whether Σω² before each step is wanted.
    """

    layers: DenseLayers
    objective: tuple[str, str]
    task: str
    rule: str
    optimizer: Any
    theta: Array
    into: Array
    slots: tuple[Array, ...]
    state: State
    decayed: int
    trained: int
    x: Array
    y: Array
    weight: Array | None
    batch_size: int
    key: int
    done: Callable[[], int]
    running: Array
    penalty: Penalty
    bound: Callable[[Scalars], None] | None
    squares: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether there are dense layers and at most L2: not all backends have the rest."""
        return self.layers.is_plain and self.penalty.folds

    @property
    def steps_a_call(self) -> int:
        layers, work = self.layers, 3 * self.layers.multiply_adds * self.batch_size
        # All of an embedding is updated, or shrinks, however small the mini-batch is.
        if self.rule != "theta" or self.penalty.l2:
            tables = (each for each in layers.branches if each.trained)
            work += OF_UPDATE * sum(each.count * each.width for each in tables)
        return max(1, min(STEPS_A_CALL, WORK_A_CALL // work))


# From rows of the training set, the scalars of their steps, a log and Σω²: see `compiled`.
CompiledSteps = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], int]


def compiled(
    chain: Chain, source: Any, update: Update, done: Callable[[], int], squares: bool = False
) -> tuple[Program, CompiledSteps] | None:
    """The run as a program, and the backend's function for it; None: go step by step.

    The function takes rows of the training set for some steps, the steps' scalars (`scalars` of
    the update), a log, of which it fills one row per step (the sums of cost and of right samples,
    and the weight), and a vector for Σω² before each step, or an empty one. It returns how many
    steps it did, fewer where a cost was not finite.
    """
    layers, objective = chain.architecture.dense, chain.objective.kernel
    if layers is None or objective is None or update.rule is None or type(source) is not Arrays:
        return None
    samples, layout = source.samples, chain.architecture.layout
    if is_sparse(samples.x) or not layers.tells_rows_apart(chain.dtype):
        return None
    slots = tuple(update.state.slots[name] for name in update.optimizer.slots())
    program = Program(
        layers=layers, objective=objective, task=chain.task, rule=update.rule,
        optimizer=update.optimizer, theta=chain.parameters, into=update.out.flat, slots=slots,
        state=update.state, decayed=layout.decayed, trained=layout.trained, x=samples.x,
        y=samples.y, weight=samples.weight, batch_size=source.batch_size, key=chain.key,
        done=done, running=chain.state, penalty=update.penalty, bound=update.bound,
        squares=squares,
    )  # fmt: skip
    function = chain.backend.compile(program)
    return None if function is None else (program, function)
