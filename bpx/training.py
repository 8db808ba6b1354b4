"""The arguments of `Network.fit`, checked and made into a run, whose loop is in `trainer`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from .augmentation import Pipeline
from .blocks import Blocks
from .callbacks import Progress, as_callbacks, at_each_step
from .chain import Chain
from .checkpoints import Checkpoints
from .checks import flag, level_of_user, positive, whole
from .data import Samples
from .frames import Names, names_of, names_of_targets
from .history import History
from .labels import learned
from .minibatches import check_shuffle
from .mpi import joined
from .network import Network
from .optimizers import SGD, Optimizer, as_optimizer
from .ranks import Ranks
from .registry import article
from .schedules import end_of
from .shared import SharedStream, check_cuts, given_alike, newest
from .snapshots import Snapshot, arguments_of
from .sources import Order, Source, Stream, of_samples
from .steps import DivergenceError
from .trainer import Trainer
from .updates import Penalty


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
    augment: Any = None,
    objective: float | None = None,
) -> History:
    """Train as one rank of several, or alone.

    With `objective`, a factor on the cost, the history has the mean over the epoch's samples of
    each step's objective, its L2 penalty included, before its update. It is for arrays.
    """
    epochs = whole("epochs", epochs, 0)
    l1, l2 = positive("l1", l1, zero=True), positive("l2", l2, zero=True)
    clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
    clip_value = None if clip_value is None else positive("clip_value", clip_value)
    if isinstance(graph, str) and graph != "auto":
        raise ValueError(f'expected graph "auto", True or False, got {graph!r}')
    graph = graph if isinstance(graph, str) else flag("graph", graph)
    progress, resume = flag("progress", progress), flag("resume", resume)
    check_finite = flag("check_finite", check_finite)
    if isinstance(n, str) and n != "batch":
        raise ValueError(f'expected n to be an integer or "batch", got {n!r}')
    size = None if n is None or isinstance(n, str) else whole("n", n)
    accumulate = whole("accumulate", accumulate)
    changes = _augmentation(net, augment)
    slices = accumulate if ranks.size > 1 or accumulate > 1 else None
    names = _names(net, x, y)
    source: Source
    if y is not None or isinstance(x, Blocks):
        source = of_samples(net, x, y, sample_weight, batch_size, shuffle, check_finite, names)
    else:
        if n is None and (l1 or l2):
            raise ValueError("l1 and l2 on an iterable need n=, the size of the training set")
        check_shuffle(shuffle)
        order = shuffle if callable(shuffle) else None
        for_arrays = {"batch_size": batch_size, "sample_weight": sample_weight, "shuffle": order}
        stream = net, x, epochs, size, check_finite, for_arrays
        source = Stream(*stream) if slices is None else SharedStream(ranks, slices, *stream)
    held_out = _held_out(net, validation, check_finite, names)
    called = _callbacks(callbacks, progress, ranks)
    chosen = as_optimizer(optimizer) if optimizer is not None else net.optimizer or SGD()
    _tell_of_steps(chosen.learning_rate, epochs, source.steps)
    # A stream without penalties need not know its size.
    divisor = None if n == "batch" else size or source.n or 1
    penalty = Penalty(l1, l2, divisor, clip_norm, clip_value)
    chain = net.chain if precision is None else _in_precision(net.chain, precision)
    arguments: dict[str, Any] = {}
    if checkpoint is not None or ranks.size > 1:
        functions = () if changes is None else changes.functions
        arguments = arguments_of(
            source, held_out, called, optimizer=chosen, precision=precision, **vars(penalty),
            **{f"augment[{k}]": function for k, function in enumerate(functions)},
        )  # fmt: skip
    if ranks.size > 1:
        others = {"epochs": epochs, "resume": resume, "accumulate": accumulate}
        others["a callback with on_step_end"] = at_each_step(called)
        given_alike(net, ranks, arguments | others)
    check_cuts(net.chain, source, ranks, accumulate)
    checkpoints, resumed = _checkpoints(checkpoint, resume, arguments, called, ranks)
    state = net.optimizer_state
    if chosen != net.optimizer or state is None:
        state = chosen.start(net)
    else:
        chosen.check(net, state)
    trainer = Trainer(
        net, chain, source, chosen, state, penalty, graph, checkpoints, arguments, ranks,
        slices, objective, changes,
    )  # fmt: skip
    with _at_work(net, resumed):
        net.names = names
        return trainer.run(epochs, held_out, called, resumed)


def _tell_of_steps(rate: Any, epochs: int, steps: int | None) -> None:
    """A RuntimeWarning where a schedule looks as if it had been given epochs instead of steps."""
    end = end_of(rate)
    if end is not None and steps is not None and end < steps and epochs > 1:
        warnings.warn(
            f"{rate} counts steps, and an epoch has {steps} of them: it ends in the first of "
            f"{epochs} epochs, and η stays at {rate(end):.3g} after {end} steps; the whole run "
            f"has epochs * steps_per_epoch = {epochs * steps}",
            RuntimeWarning,
            stacklevel=level_of_user(),
        )


_BEING_TRAINED: WeakSet[Network] = WeakSet()


@contextlib.contextmanager
def _at_work(net: Network, resumed: Snapshot | None) -> Iterator[None]:
    """One training at a time; one that ends before its first step leaves the network as it was.

    Except for what an earlier run's checkpoint has put there.
    """
    if net in _BEING_TRAINED:
        raise RuntimeError(
            "this network is being trained: in a callback, or in another thread, train a copy, "
            "net.copy()"
        )
    names = "names", "optimizer", "optimizer_state", "history"
    before, steps = {name: getattr(net, name) for name in names}, net.steps
    _BEING_TRAINED.add(net)
    try:
        yield
    except BaseException as error:
        if resumed is None and net.steps == steps and not isinstance(error, DivergenceError):
            for name, value in before.items():
                setattr(net, name, value)
        raise
    finally:
        _BEING_TRAINED.discard(net)


def _names(net: Network, x: Any, y: Any) -> Names:
    """The names that the network has, and where it has none those of the data."""
    columns, targets, classes = net.names
    if isinstance(x, Blocks) and y is None:
        y, of_data = x.y, x.names
    elif y is None:  # mini-batches, of which the first has not come yet
        return net.names
    else:
        of_data = Names(None, names_of_targets(y))
    if columns is None:
        columns = names_of(x)
    if targets is None:
        targets = of_data.target_columns
    if classes is None and not net.steps:  # else it has learned numbers, in an order of their own
        classes = of_data.classes or learned(y, net.chain.architecture)
    return Names(columns, targets, classes)


def _augmentation(net: Network, augment: Any) -> Pipeline | None:
    changes = Pipeline.of(augment, net.input_shape, net.layers)
    if changes is not None and net.chain.architecture.index_count is not None:
        raise ValueError(
            "augment= is for images, and this network takes whole numbers: leave it out"
        )
    return changes


def _callbacks(given: Any, progress: bool, ranks: Ranks) -> list[Any]:
    """The user's callbacks, and the progress bar, which only rank 0 draws."""
    called = as_callbacks(given) + ([Progress()] if progress else [])
    if ranks.rank == 0:
        return called
    return [callback for callback in called if not isinstance(callback, Progress)]


def _held_out(net: Network, validation: Any, finite: bool, names: Names) -> Samples | None:
    if validation is None:
        return None
    if isinstance(validation, Blocks):
        validation = validation, None
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        kind = type(validation).__name__
        several = f" of {len(validation)}" if isinstance(validation, tuple | list) else ""
        raise TypeError(
            "expected validation=(x, y), (x, y, sample_weight) or open_data(...), got "
            f"{article(kind)}{several}"
        )
    return net.samples(*validation, what="validation ", finite=finite, names=names)


def _checkpoints(
    wanted: Any, resume: bool, arguments: dict[str, Any], callbacks: list[Any], ranks: Ranks
) -> tuple[Checkpoints | None, Snapshot | None]:
    """Where checkpoints are written, and the one to continue from."""
    if wanted is None:
        if resume:
            raise ValueError("resume=True needs checkpoint=, the folder to go on from")
        return None, None
    found = Checkpoints(wanted, arguments, callbacks, writes=ranks.rank == 0)
    if resume:
        return found, newest(found, ranks)
    found.refuse_others()
    return found, None


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
