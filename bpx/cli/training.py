"""``bpx train``: check the options, read the data, build the network, fit it, write and score."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, get_type_hints

from .. import backends, layers
from ..activations import ACTIVATIONS
from ..callbacks import Callback
from ..chain import dtype_name
from ..checks import positive, printable, whole
from ..costs import COSTS, Poisson
from ..data.arrays import check_batch_size
from ..data.minibatches import steps_of_epoch
from ..data.readers import TABLES
from ..history import History
from ..initializers import Constant
from ..names import Names
from ..network import Network
from ..optimizers import Optimizer
from ..parallel.ranks import Ranks
from ..registry import canonical
from ..training import Options, train_quietly
from ..training.interrupts import Interrupts
from ..training.snapshots import OtherRun
from ..training.steps import DivergenceError
from . import missing, recipe, runs, samples, targets
from .console import ShowEpochs, ShowNetwork, described, note, note_no_better, say, scores
from .dialect import dialect
from .spelling import as_typed


@dataclass(frozen=True)
class TrainOptions:
    """What the command line asks for; its help explains each."""

    data: str
    target: str | None
    columns: list[str] | None
    ignore: list[str] | None
    validation: str | None
    test: str | None
    task: str | None
    hidden: str
    activation: str
    output: str | None
    cost: str | None
    dropout: float
    weights: str | None
    epochs: int
    batch_size: int | None
    drop_last: bool
    accumulate: int
    optimizer: str | None
    learning_rate: float | None
    momentum: float
    nesterov: bool
    schedule: str
    l1: float
    l2: float
    clip_norm: float | None
    clip_value: float | None
    shuffle: bool
    augment: str | None
    patience: int | None
    average_from: int | None
    standardize: bool
    missing: str | None
    class_weight: str | None
    backend: str | None
    dtype: str
    precision: str | None
    seed: int
    separator: str | None
    decimal: str
    budget: str | None
    progress: bool
    out: Path | None
    overwrite: bool
    save_every: float

    @property
    def built_in(self) -> bool:
        return self.data in samples.BUILT_IN

    @property
    def others(self) -> dict[str, Path | None]:
        """The files of samples that are not to be split from the data."""
        given = {"validation": self.validation, "test": self.test}
        return {name: None if file is None else Path(file) for name, file in given.items()}

    @property
    def own_scale(self) -> bool:
        """Whether the data are learned on the scale that they have."""
        return self.built_in or not self.standardize

    @property
    def scaled_columns(self) -> bool:
        """Whether x are columns of a table, each of which is standardized."""
        return not self.own_scale and Path(self.data).suffix.lower() in TABLES

    def check(self) -> None:
        """ValueError for what does not go together, or is wrong by itself."""
        positive("seconds between checkpoints", self.save_every)
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is a file, expected a folder")
        if missing.are_filled(self.missing) and not self.standardize:
            raise ValueError(
                "--missing takes the means that standardizing keeps in the model: leave "
                "--no-standardize out"
            )
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"expected --class-weight balanced, got {self.class_weight!r}")
        if canonical(self.weights or "") == Constant.name:
            raise ValueError(
                "--weights constant needs its value, which has no place there: pass another, or "
                "in Python bpx.initializers.Constant(value=...)"
            )
        if self.precision in ("float64", "double"):
            raise ValueError("--precision is of products; for float64 pass --dtype float64")
        self._check_names()

    def _check_names(self) -> None:
        """ValueError for what is unknown or out of range: data may take long to read."""
        backends.get(self.backend)
        dtype_name(self.dtype)
        if self.output is not None:
            ACTIVATIONS.get(self.output)
        if self.cost is not None:
            COSTS.get(self.cost)
        if self.batch_size is not None:
            whole("batch_size", self.batch_size)
        rate = 1.0 if self.learning_rate is None else self.learning_rate
        rule = self.optimizer or "sgd"
        recipe.optimizer(rule, rate, self.momentum, self.nesterov, self.schedule, steps=1)

    def check_typed(self, typed: list[str]) -> None:
        """ValueError for an option of the command line, by its name, that would do nothing."""
        hidden = recipe.sizes(self.hidden)
        of_hidden = "is for hidden layers, and --hidden names none"
        of_folder = "is for a run that is written to a folder: pass --out too"
        idle = {
            "activation": (not hidden, f"{of_hidden}; --output is that of the last layer"),
            "dropout": (self.dropout and not hidden, of_hidden),
            "overwrite": (self.out is None, of_folder),
            "save_every": (self.out is None, of_folder),
            "standardize": (self.built_in, f"is for files; {self.data} is never standardized"),
        }
        for name, (does_nothing, why) in idle.items():
            if does_nothing and name in typed:
                negated = getattr(self, name) is False
                raise ValueError(f"{as_typed(f'no_{name}' if negated else name)} {why}")

    def of_run(self, run: Path, given: list[str], ranks: Ranks) -> TrainOptions:
        """Those of the recipe in a run's folder, which only rank 0 need see."""
        epochs = self.epochs if "epochs" in given else None
        found = runs.recipe(run, OPTIONS, given, epochs) if ranks.rank == 0 else {}
        found = json.loads(ranks.broadcast(json.dumps(found).encode()))
        return dataclasses.replace(self, **found, out=run)

    def to_resume(self) -> dict[str, Any]:
        """The recipe, which may be read in another folder."""
        data = {} if self.built_in else {"data": self.data}
        files = data | {name: file for name, file in self.others.items() if file is not None}
        return vars(self) | {name: str(Path(file).resolve()) for name, file in files.items()}


OPTIONS: Mapping[str, Any] = get_type_hints(TrainOptions)


def train(asked: TrainOptions, ranks: Ranks, resume: bool) -> int:
    """Train and score; returns the exit status."""
    started = time.perf_counter()
    asked.check()
    hidden, options = _hidden(asked), _known_before_data(asked, resume)
    folder = None if ranks.rank else asked.out  # rank 0 alone writes
    if folder is not None and not resume:  # before the data, which may take long to read
        runs.check_free(folder, asked.to_resume(), asked.overwrite)
    data = _read(asked, ranks)
    batch_size = check_batch_size(asked.batch_size, data.n)
    steps = options.epochs * steps_of_epoch(data.n, batch_size, asked.drop_last)
    net = _network(asked, data, hidden)
    learned, undo = recipe.learned(net, data.parts, asked.own_scale)
    asked = _with_optimizer(asked, data.task, undo is not None)
    options = dataclasses.replace(
        options, validation=learned[1], batch_size=batch_size, resume=resume,
        optimizer=_optimizer(asked, max(1, steps)),
        sample_weight=recipe.weights(asked.class_weight, data.parts[0][1], data.task),
    )  # fmt: skip
    take_back = _begin(asked, folder, resume)
    with _resumable(folder, net):
        try:
            history = _fit(net, learned[0], options, ranks, undo, folder)
        except OtherRun as error:
            take_back()
            raise ValueError(
                f"the run in {asked.out} cannot go on: {'; '.join(error.different)}; give it what "
                "it had, or begin another run with another --out"
            ) from error
        except BaseException as error:
            # Whether fit has refused something, or Ctrl-C came before its first step.
            if net.steps == 0 and not isinstance(error, DivergenceError):
                take_back()
            raise
        # A signal is not to cut short what is written, nor the score.
        with Interrupts(*[] if asked.out is None else [signal.SIGTERM]) as interrupts:
            _conclude(recipe.followed_by(net, undo), history, data, asked, folder, started)
    # As a shell calls the ends by these signals; an exit that MPI can take part in.
    if history.terminated or signal.SIGTERM in interrupts.came:
        return 128 + signal.SIGTERM
    return 128 + signal.SIGINT if history.interrupted or interrupts.noted else 0


@contextlib.contextmanager
def _resumable(folder: Path | None, net: Network) -> Iterator[None]:
    """Where Ctrl-C ends a run at once, say what goes on with it."""
    try:
        yield
    except KeyboardInterrupt:
        if folder is not None and net.steps:
            say(f"interrupted: bpx train --resume {folder} goes on with it")
        raise


def _conclude(
    net: Network,
    history: History,
    data: _Data,
    asked: TrainOptions,
    folder: Path | None,
    started: float,
) -> None:
    """Write what came of the run, and score it; only then has it ended."""
    runs.conclude(net, history, folder)
    _score(net, data, asked, folder, started)
    if folder is not None and not history.interrupted:
        runs.end(folder, goes_on=not history.stopped)


def _begin(asked: TrainOptions, folder: Path | None, resume: bool) -> Callable[[], None]:
    """Put the recipe into the folder; returns what takes it back."""
    if folder is None:
        return lambda: None
    if resume:
        return runs.go_on(folder, asked.to_resume())
    return runs.begin(folder, asked.to_resume(), asked.overwrite)


def _score(
    net: Network, data: _Data, asked: TrainOptions, folder: Path | None, started: float
) -> None:
    """The last lines: the score on the test samples, which the folder gets too."""
    found = scores(net, *data.parts[2])
    words = printable(described(found, net, data.parts[2][1], data.parts[0][1]))
    lines = "\n".join(f"test {line}" for line in words.splitlines())
    print(f"{lines} in {time.perf_counter() - started:.1f} s", flush=True)
    # Balanced classes are right more often at the cost of the most frequent one.
    if net.task == "classification" and asked.class_weight is None:
        note_no_better(found, data.parts[2][1], data.parts[0][1])
    if folder is not None:
        runs.write_scores(folder, found)


def _known_before_data(asked: TrainOptions, resume: bool) -> Options:
    """The arguments of `fit` that do not depend on the data, which may take long to read."""
    epochs = whole("epochs", asked.epochs, 0)
    shown: list[Callback] = [ShowNetwork()] if asked.progress else [ShowNetwork(), ShowEpochs()]
    others = recipe.callbacks(asked.patience, asked.average_from, epochs, asked.schedule)
    if asked.out is not None and not resume:
        others.append(runs.Clears(asked.out))
    return Options(
        epochs=epochs, accumulate=asked.accumulate, l1=asked.l1, l2=asked.l2,
        clip_norm=asked.clip_norm, clip_value=asked.clip_value, shuffle=asked.shuffle,
        drop_last=asked.drop_last, precision=asked.precision,
        augment=None if asked.augment is None else recipe.augment(asked.augment, asked.data),
        callbacks=shown + others, progress=asked.progress,
        checkpoint=None if asked.out is None else runs.checkpoint(asked.out, asked.save_every),
    )  # fmt: skip


@dataclass(frozen=True)
class _Data:
    """A `samples.Split`, and what it calls for."""

    parts: list[samples.Part]
    names: Names | None
    some: Any
    task: str
    outputs: int

    @property
    def n(self) -> int:
        """The size of the training set."""
        return len(self.parts[0][0])


def _read(asked: TrainOptions, ranks: Ranks) -> _Data:
    written_in = dialect(asked.data, asked.separator, asked.decimal, asked.columns)
    parts, names, some = ranks.first(
        lambda: samples.parts(
            asked.data, asked.target, asked.seed, asked.budget, asked.columns or (),
            asked.ignore or (), written_in, asked.others, missing.are_filled(asked.missing),
        )
    )  # fmt: skip
    own = [True, asked.validation is None, asked.test is None]
    of_data = list(compress(parts, own))
    wanted = asked.task or recipe.task(asked.cost)
    task, outputs, doubt = targets.task(of_data, wanted, names, written_in)
    if doubt and ranks.rank == 0:
        say(f"note: {doubt}")
    return _Data(*targets.by_classes(parts, names, task, own), some, task, outputs)


def _hidden(asked: TrainOptions) -> list[layers.Layer]:
    dropout = [layers.Dropout(asked.dropout)] if asked.dropout else []
    found: list[layers.Layer] = []
    for units in recipe.sizes(asked.hidden):
        found += [layers.Dense(units, asked.activation, asked.weights), *dropout]
    return found


def _network(asked: TrainOptions, data: _Data, hidden: list[layers.Layer]) -> Network:
    """A network whose inputs and outputs fit the data."""
    default = {"classification": "softmax", "multilabel": "sigmoid", "regression": "identity"}
    if canonical(asked.cost or "") == Poisson.name:
        default["regression"] = "exp"
    cost = asked.cost
    if data.task == "regression":
        cost = cost or "quadratic"  # whatever the outputs; a classification's goes by them
    chain: list[Any] = [layers.Input(data.some.shape[1:])]
    if not asked.own_scale:
        chain.append(layers.Rescale.standardizing(data.some))
    chain += hidden
    units = data.outputs * (COSTS.get(cost).outputs_per_target if cost else 1)
    chain.append(layers.Dense(units, asked.output or default[data.task], asked.weights))
    net = Network(
        chain, cost=cost, task=data.task, backend=asked.backend, dtype=asked.dtype, seed=asked.seed
    )
    if data.names is not None:
        net.names = data.names
    return net


def _with_optimizer(asked: TrainOptions, task: str, scaled: bool) -> TrainOptions:
    """With the defaults that the data call for: a run is resumed with them, whatever they are."""
    name, rate = asked.optimizer, asked.learning_rate
    of_table = task != "regression" and asked.scaled_columns
    if name is None:
        of_sgd = asked.momentum or asked.nesterov or (of_table and rate is not None)
        name = "adam" if (scaled or of_table) and not of_sgd else "sgd"
        if (
            of_table
            and rate is not None
            and name == "sgd"
            and not (asked.momentum or asked.nesterov)
        ):
            usual = recipe.learning_rate("adam", task, True)
            note(
                "with --learning-rate the optimizer is sgd; --optimizer adam, whose learning rate "
                f"is {usual} by default, is what trains without it"
            )
    if rate is None:
        rate = recipe.learning_rate(name, task, scaled or of_table)
    return dataclasses.replace(asked, optimizer=name, learning_rate=rate)


def _optimizer(asked: TrainOptions, steps: int) -> Optimizer:
    assert asked.optimizer is not None
    assert asked.learning_rate is not None
    chosen = asked.optimizer, asked.learning_rate, asked.momentum, asked.nesterov, asked.schedule
    return recipe.optimizer(*chosen, steps)


def _fit(
    net: Network,
    part: samples.Part,
    options: Options,
    ranks: Ranks,
    undo: layers.Layer | None,
    folder: Path | None,
) -> History:
    """Train; a run that diverges is kept, with the weights of its last good step."""
    try:
        return train_quietly(net, *part, options, ranks)
    except DivergenceError as error:
        if folder is not None:
            runs.write(recipe.followed_by(net, undo), error.history, folder)
            runs.end(folder, goes_on=False)
        raise
