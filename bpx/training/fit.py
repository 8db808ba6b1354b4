"""The arguments of `Network.fit`, checked and made into a run, whose loop is in `trainer`."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

from ..architecture import Architecture
from ..augmentation import Pipeline
from ..callbacks import Progress
from ..callbacks._base import as_callbacks
from ..callbacks._progress import at_each_step, with_progress
from ..chain import Chain
from ..checks import are_batches, flag, nonnegative, positive, warn, whole
from ..data.arrays import Samples
from ..data.blocks import Blocks
from ..data.incoming import Incoming, to_evaluate
from ..data.minibatches import Batches, check_shuffle
from ..elsewhere import OF_FIT
from ..frames import names_of, names_of_targets
from ..history import History
from ..labels import learned
from ..names import Names
from ..network import Network
from ..optimizers import SGD, Optimizer, State, as_optimizer, default_optimizer
from ..parallel.mpi import joined
from ..parallel.ranks import Ranks
from ..registry import article, unknown
from ..schedules import Schedule
from .agreement import check_arguments, newest_checkpoint
from .checkpoints import Checkpoints
from .interrupts import conclude
from .plausibility import warn_of_scale
from .slices import SharedStream, check_cuts
from .snapshots import Snapshot, arguments_of
from .sources import Arrays, Order, Source, Stream, of_samples
from .steps import DivergenceError
from .trainer import Trainer
from .updates import Penalty


@dataclass
class Options:
    """The arguments of `Network.fit` beside x, y and `parallel`; it explains them.

    Attributes
    ----------
    cost_factor : float, optional
        A factor on the cost, with which the history has the mean over the epoch's samples of each
        step's objective, its L2 penalty included, before its update. It is for arrays.
    """

    epochs: int = 30
    batch_size: int | None = None
    optimizer: Optimizer | str | None = None
    l1: float = 0.0
    l2: float = 0.0
    sample_weight: Any = None
    validation: Any = None
    callbacks: Any = ()
    shuffle: Order = True
    drop_last: bool = False
    progress: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    n: int | str | None = None
    check_finite: bool = True
    graph: bool | str = "auto"
    precision: str | None = None
    checkpoint: Any = None
    resume: bool = False
    accumulate: int = 1
    augment: Any = None
    cost_factor: float | None = None

    def check(self) -> None:
        """ValueError or TypeError for what `fit` does not take, whatever the data."""
        self.epochs = whole("epochs", self.epochs, 0)
        self.accumulate = whole("accumulate", self.accumulate)
        for name in ("l1", "l2"):
            setattr(self, name, nonnegative(name, getattr(self, name)))
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                setattr(self, name, positive(name, getattr(self, name)))
        for name in ("drop_last", "progress", "resume", "check_finite"):
            setattr(self, name, flag(name, getattr(self, name)))
        if not isinstance(self.graph, str):
            self.graph = flag("graph", self.graph)
        elif self.graph != "auto":
            raise ValueError(f'expected graph "auto", True or False, got {self.graph!r}')
        if self.n is not None and not isinstance(self.n, str):
            self.n = whole("n", self.n)
        elif self.n not in (None, "batch"):
            raise ValueError(f'expected n to be an integer or "batch", got {self.n!r}')
        check_shuffle(self.shuffle)


def train(net: Network, x: Any, y: Any, options: Options, parallel: Any = None) -> History:
    """What `Network.fit` does."""
    with joined(parallel) as ranks:
        history = _train(net, x, y, options, ranks)
    words = None
    if history.interrupted and ranks.rank == 0:
        best = history.restored
        of = "its last full step" if best is None else f"epoch {best}, the best"
        words = (
            f"fit was interrupted by Ctrl-C after step {net.steps}, when {history.epochs} of "
            f"{options.epochs} epochs had ended: the network has the weights of {of}"
        )
    conclude(history.terminated, words)
    return history


def train_quietly(net: Network, x: Any, y: Any, options: Options, parallel: Any = None) -> History:
    """The same for callers who `conclude` an interrupted run themselves."""
    with joined(parallel) as ranks:
        return _train(net, x, y, options, ranks)


def _train(net: Network, x: Any, y: Any, options: Options, ranks: Ranks) -> History:
    """Train as one rank of several, or alone."""
    options.check()  # here, where the other ranks hear of an error
    if not net.layout.trained:
        warn(
            "no parameter of this network is trained, so fit will not change it: make it with a "
            "layer that has some, and without trainable=False"
        )
    augment = _augmentation(net, options.augment)
    slices = options.accumulate if ranks.size > 1 or options.accumulate > 1 else None
    names = names_of_run(net.names, bool(net.steps), net.chain.architecture, x, y)
    source = _source(net, x, y, options, names, ranks, slices)
    held_out = _held_out(net, options, names)
    callbacks = _callbacks(options.callbacks, options.progress, ranks)
    optimizer = (
        (net.optimizer or default_optimizer(net.task))
        if options.optimizer is None
        else as_optimizer(options.optimizer)
    )
    penalty, chain = _penalty(options, source.n), _in_precision(net.chain, options.precision)
    arguments: dict[str, Any] = {}
    if options.checkpoint is not None or ranks.size > 1:
        of_run = source, held_out, callbacks, optimizer, penalty, augment
        arguments = _arguments(net, options, ranks, *of_run)
    check_cuts(net.chain, source, options.accumulate)
    checkpoints, resumed = _checkpoints(
        options.checkpoint, options.resume, arguments, callbacks, ranks,
        net.chain.architecture.custom,
    )  # fmt: skip
    state = _memory(net, optimizer)
    if isinstance(source, Arrays) and options.check_finite and not net.steps:
        eta = optimizer.rate(state, 0) if isinstance(optimizer, SGD) else 0.0
        warn_of_scale(net, source.samples.x, eta)
    _warn_of_steps(optimizer, state, options.epochs, source.steps)
    if net.layout.decayed and options.epochs:
        _warn_of_decay(penalty, optimizer, state)
    trainer = Trainer(
        net=net, chain=chain, source=source, held_out=held_out, optimizer=optimizer, state=state,
        penalty=penalty, graph=options.graph, checkpoints=checkpoints, arguments=arguments,
        ranks=ranks, slices=slices, cost_factor=options.cost_factor, augment=augment,
    )  # fmt: skip
    with _at_work(net, resumed):
        net.names = names if resumed is None else names.or_else(resumed.net.names)
        return trainer.run(options.epochs, callbacks, resumed)


def _penalty(options: Options, n: int | None) -> Penalty:
    # A stream without penalties need not know its size.
    divisor = None if isinstance(options.n, str) else options.n or n or 1
    return Penalty(options.l1, options.l2, divisor, options.clip_norm, options.clip_value)


def _arguments(
    net: Network,
    options: Options,
    ranks: Ranks,
    source: Source,
    held_out: Samples | Incoming | None,
    callbacks: list[Any],
    optimizer: Optimizer,
    penalty: Penalty,
    augment: Pipeline | None,
) -> dict[str, Any]:
    """What a checkpoint and all ranks have to agree on."""
    functions = () if augment is None else augment.functions
    found = arguments_of(
        source, held_out, callbacks, optimizer=optimizer, precision=options.precision,
        **vars(penalty), **{f"augment[{k}]": function for k, function in enumerate(functions)},
    )  # fmt: skip
    if net.chain.architecture.statistics:  # which each slice has
        found["accumulate"] = options.accumulate
    if ranks.size > 1:
        others = {name: getattr(options, name) for name in ("epochs", "resume", "accumulate")}
        others["a callback with on_step_end"] = at_each_step(callbacks)
        check_arguments(net, ranks, found | others)
    return found


def _memory(net: Network, optimizer: Optimizer) -> State:
    """That of the last run if its optimizer was equal, else an empty one."""
    state = net.optimizer_state
    if optimizer != net.optimizer or state is None:
        return optimizer.started(net)
    optimizer.check(net, state)
    return state


def _source(
    net: Network,
    x: Any,
    y: Any,
    options: Options,
    names: Names,
    ranks: Ranks,
    slices: int | None,
) -> Source:
    """Where mini-batches come from: arrays, data on disk, or a user's iterable."""
    shuffle, finite = options.shuffle, options.check_finite
    if _is_pair(net, x) and _is_pair(net, y):
        raise TypeError(
            "fit takes x, then y, and got a pair of arrays for each: "
            "fit(*train, validation=validation)"
        )
    if y is not None or isinstance(x, Blocks):
        return of_samples(
            net, x, y, sample_weight=options.sample_weight, batch_size=options.batch_size,
            shuffle=shuffle, finite=finite, names=names, drop_last=options.drop_last,
        )  # fmt: skip
    for_arrays = {
        "batch_size": options.batch_size,
        "sample_weight": options.sample_weight,
        "shuffle": shuffle if callable(shuffle) else None,
        "drop_last": options.drop_last or None,
    }
    size = None if isinstance(options.n, str) else options.n
    x = x.matched(names) if isinstance(x, Batches) else x
    stream = net, x, options.epochs, size, finite, for_arrays
    found = Stream(*stream) if slices is None else SharedStream(ranks, slices, *stream)
    if options.n is None and (options.l1 or options.l2):
        raise ValueError("l1 and l2 on an iterable need n=, the size of the training set")
    return found


def _is_pair(net: Network, given: Any) -> bool:
    """Whether it is x and y together; two samples in a list have another shape."""
    several = isinstance(given, tuple | list) and len(given) in (2, 3)
    return several and getattr(given[0], "shape", ())[1:] == net.input_shape


# The part of η that is left after the first of several epochs, below which a schedule is doubted.
VANISHED = 1e-4


def _warn_of_steps(optimizer: Optimizer, state: State, epochs: int, steps: int | None) -> None:
    """A RuntimeWarning where a schedule looks as if it had been given epochs instead of steps.

    Or where it has ended in an earlier call of `fit`.
    """
    rate, done, at = optimizer.learning_rate, state.step, partial(optimizer.rate, state)
    end = rate.constant_from if isinstance(rate, Schedule) else None
    if end is not None and done >= end and epochs > 0:
        warn(
            f"{rate} has ended in an earlier fit, and η stays at {at(done):.3g}: to begin it "
            "anew set net.optimizer = None, and pass optimizer= again"
        )
    elif end is not None and steps is not None and end < steps and epochs > 1:
        warn(
            f"{rate} counts steps, and an epoch has {steps} of them: it ends in the first of "
            f"{epochs} epochs, and η stays at {at(end):.3g} after {end} steps; the whole run "
            f"has epochs * steps_per_epoch = {epochs * steps}"
        )
    elif isinstance(rate, Schedule) and end is None and steps is not None and epochs > 1:
        first, later = at(done), at(done + steps)
        if later < VANISHED * first:  # as of one that never ends, if its steps are epochs
            warn(
                f"{rate} counts steps, and an epoch has {steps} of them: after the first of "
                f"{epochs} epochs η is {later:.3g}, and was {first:.3g}"
            )


def _warn_of_decay(penalty: Penalty, optimizer: Optimizer, state: State) -> None:
    """A RuntimeWarning where L2, or a decoupled decay, takes more than the weights are."""
    name, decay = penalty.decay(optimizer, state)
    if decay > 1.0:
        given, factor, divided = penalty.l2, "1 − ηλ/n", f", where λ is divided by n = {penalty.n}"
        if decoupled := optimizer.decoupled_decay():
            given, factor, divided = decoupled, "1 − ηw", ""
        warn(
            f"{name}={given:g} is far too large: by itself it multiplies the weights by {factor} "
            f"= {1.0 - decay:.3g} in the next step{divided}; with this η, take one well below "
            f"{given / decay:.3g}"
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


def names_of_run(known: Names, trained: bool, architecture: Architecture, x: Any, y: Any) -> Names:
    """The names that a network, or an ensemble, has, and where it has none those of the data.

    Raises
    ------
    ValueError
        The data have names of classes, and it has learned numbers, or other tasks, or they are
        not as many as its classes.
    """
    columns, targets, classes = known
    if isinstance(x, Blocks) and y is None:
        y, of_data = x.y, x.names
    elif y is None:  # mini-batches, of which the first has not come yet
        return known.or_else(x.names) if isinstance(x, Batches) else known
    else:
        of_data = Names(None, names_of_targets(y))
    if columns is None:
        columns = names_of(x)
    if targets is None:
        targets = of_data.target_columns
    if classes is None:
        classes = learned(y, of_data.classes, architecture, trained)
    return Names(columns, targets, classes)


def _augmentation(net: Network, augment: Any) -> Pipeline | None:
    changes = Pipeline.of(augment, net.input_shape, net.layers)
    if changes is not None and net.chain.architecture.indices:
        raise ValueError(
            "augment= is for images, and this network takes whole numbers: leave it out"
        )
    return changes


def _callbacks(given: Any, progress: bool, ranks: Ranks) -> list[Any]:
    """The user's callbacks, and the progress bar, which only rank 0 draws."""
    called = as_callbacks(given)
    called = with_progress(called) if progress else called
    if ranks.rank == 0:
        return called
    return [callback for callback in called if not isinstance(callback, Progress)]


def _held_out(net: Network, options: Options, names: Names) -> Samples | Incoming | None:
    validation = options.validation
    if validation is None:
        return None
    if isinstance(validation, Blocks) or are_batches(validation):
        validation = validation, None
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        kind = type(validation).__name__
        several = f" of {len(validation)}" if isinstance(validation, tuple | list) else ""
        if isinstance(validation, numbers.Real):
            several = f": {OF_FIT['validation_split']}"
        raise TypeError(
            "expected validation=(x, y), (x, y, sample_weight), an iterable of such mini-batches "
            f"or open_data(...), got {article(kind)}{several}"
        )
    described = {"what": "validation ", "finite": options.check_finite, "names": names}
    found = to_evaluate(net, *validation, **described)
    if isinstance(found, Incoming):
        found.check_repeatable(options.epochs)
    return found


def _checkpoints(
    wanted: Any,
    resume: bool,
    arguments: dict[str, Any],
    callbacks: list[Any],
    ranks: Ranks,
    custom: Mapping[str, Any] | None,
) -> tuple[Checkpoints | None, Snapshot | None]:
    """Where checkpoints are written, and the one to continue from."""
    if wanted is None:
        if resume:
            raise ValueError("resume=True needs checkpoint=, the folder to go on from")
        return None, None
    found = Checkpoints(wanted, arguments, callbacks, writes=ranks.rank == 0)
    if resume:
        return found, newest_checkpoint(found, ranks, custom)
    found.refuse_others()
    return found, None


PRECISIONS = ("float32", "tf32", "float16", "bfloat16")


def _in_precision(chain: Chain, precision: str | None) -> Chain:
    """The chain with its products in a precision; θ and everything else stay as they are."""
    if precision is None:
        return chain
    if precision not in PRECISIONS:
        if precision in ("float64", "double"):
            raise ValueError("precision= is of products; a network has dtype='float64'")
        raise unknown("precision", precision, PRECISIONS)
    if chain.dtype != "float32":
        raise ValueError(
            f"precision={precision!r} is for a network of float32, and this one is of "
            f"{chain.dtype}: leave it out, or make the network with dtype='float32'"
        )
    return chain if precision == "float32" else chain.on(chain.backend.in_precision(precision))
