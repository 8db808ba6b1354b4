"""A run at one moment as arrays and JSON, and back: all that its further steps depend on."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from bpx import __version__

from .. import files
from ..callbacks import Run
from ..checks import SHOWN, nonnegative, not_as_expected, number, shortened, whole
from ..data.arrays import Samples
from ..data.incoming import Incoming
from ..files import HISTORY, TRAINING
from ..history import History, StepLog
from ..layers import sequence
from ..network import Network
from ..optimizers import State
from ..persistence import FileFormatError, Stateful
from ..registry import plain
from .sources import Source, digest_of
from .state import numbers, set_numbers, vectors

NAMED = 5  # columns or classes in a message
NETWORK = ("input_shape", "layers", "cost", "task", "dtype")  # of a header, alike in a resumed run


@dataclass(slots=True)
class Epoch:
    """The current epoch, as far as it has come.

    Attributes
    ----------
    generator, source, validation : JSON
        The states, before it began, of the network's generator, of the source, and of an iterable
        that brings the validation data.
    order : array or None
        Its rows, once they are drawn.
    digest : int or None
        That of `order`; before it is drawn, what it has to be after a checkpoint in the epoch.
    done : int
        Its steps so far.
    log : StepLog
        What they left.
    seconds : float
        Those that it took before `since`.
    since : float
        A time of `time.perf_counter`.
    path : path or None
        The checkpoint that it comes from, if it was begun before.
    rate : float
        That of its last step, if a callback may have set another since; else 0.
    """

    generator: Any = None
    source: Any = None
    validation: Any = None
    order: Any = None
    digest: int | None = None
    done: int = 0
    log: StepLog = field(default_factory=StepLog)
    seconds: float = 0.0
    since: float = field(default_factory=time.perf_counter)
    path: Any = None
    rate: float = 0.0

    @classmethod
    def next(cls, net: Network, source: Source, held_out: Samples | Incoming | None) -> Epoch:
        """An epoch that is about to begin, as checkpoints need it."""
        validation = held_out.state() if isinstance(held_out, Incoming) else None
        generator = files.as_json(net.generator.bit_generator.state)
        return cls(generator, source.state(), validation)

    @property
    def took(self) -> float:
        return self.seconds + time.perf_counter() - self.since

    def begin(self, source: Source) -> None:
        """Draw its rows; they have to be those from which a checkpoint was made."""
        self.order = source.order()
        if self.digest is not None and self.digest != self.digest_of_order():
            raise ValueError(
                f"{self.path}: the rows of its epoch came in another order: shuffle= has to give "
                "the same rows again, call by call, from the beginning of the run"
            )

    def digest_of_order(self) -> int | None:
        """CRC-32 of its rows; None if an order is not an array."""
        is_array = isinstance(self.order, np.ndarray)
        return zlib.crc32(np.ascontiguousarray(self.order).data) if is_array else None

    def position(self) -> dict[str, Any]:
        """Where it is, as JSON."""
        if self.done and self.digest is None:
            self.digest = self.digest_of_order()
        return {
            "source": files.as_json(self.source),
            "validation": files.as_json(self.validation),
            "digest": self.digest,
            "done": self.done,
            "seconds": self.took,
        }


def with_state(callbacks: list[Any]) -> list[Stateful]:
    return [callback for callback in callbacks if isinstance(callback, Stateful)]


def described(value: Any) -> str:
    """Its fields, without the address of a user's own object, which says nothing."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def arguments_of(
    source: Source, held_out: Samples | Incoming | None, callbacks: list[Any], **others: Any
) -> dict[str, Any]:
    """What has to be the same when a run is resumed, and on all ranks."""
    found = source.arguments() | {"digest of some samples": source.digest(), "validation": None}
    if isinstance(held_out, Incoming):
        found["validation"] = held_out.kind
    elif held_out is not None:
        found["validation"] = held_out.n
        found["digest of some validation samples"] = digest_of(held_out)
    options = {
        name: value if isinstance(value, int | float | str | None) else described(value)
        for name, value in others.items()
    }
    remembering = [type(callback).__name__ for callback in with_state(callbacks)]
    return found | options | {"callbacks with a state": remembering}


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs in the two, by name, for a message: where long texts come apart."""
    return {
        name: _apart(first.get(name), second.get(name))
        for name in {**second, **first}
        if first.get(name) != second.get(name)
    }


def _apart(first: Any, second: Any) -> tuple[str, str]:
    texts = repr(first), repr(second)
    alike = next((k for k, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    if alike < SHOWN:
        return shortened(first), shortened(second)
    start = alike - SHOWN // 2
    one, other = (
        f"...{text[start : start + SHOWN]}{'...' * (len(text) > start + SHOWN)}" for text in texts
    )
    return one, other


def changed(
    there: Mapping[str, Any], here: Mapping[str, Any], net: Network, other: Network
) -> list[str]:
    """What has changed from the arguments of a run to those of the next, and their networks."""
    different = differing(there, here)
    found: list[str] = []
    layers = _changed_layers(net, other) if "layers" in different else []
    for what, count, digest in (
        ("training", "samples", "digest of some samples"),
        ("validation", "validation", "digest of some validation samples"),
    ):
        sizes = [each.get(count) for each in (there, here)]
        values = different.pop(digest, None)
        if count in different and all(isinstance(size, int | None) for size in sizes):
            then, now = ("none" if size is None else f"{size} samples" for size in sizes)
            found.append(f"the {what} data have changed: {then} then, {now} now")
            del different[count]
            if what == "training" and sizes == [each.get("n") for each in (there, here)]:
                different.pop("n", None)  # which is that of the samples
        elif values and not {count, "dtype of x", "sample_weight"} & different.keys():
            found.append(f"the {what} data have changed: some samples have other values")
    names = [
        *_changed_names("inputs", net.columns, other.columns),
        *_changed_names("classes", net.classes, other.classes),
    ]
    if names:
        different.pop("input_shape", None)
    if layers or names or any(told.startswith("the training data") for told in found):
        different.pop("layers", None)  # these have the shapes of data, and what standardizes them
    found += names + layers
    return found + [f"{name} was {then} and is {now}" for name, (then, now) in different.items()]


def _changed_names(what: str, then: Sequence[Any] | None, now: Sequence[Any] | None) -> list[str]:
    """What became of the names of columns or classes, if there were some, and are."""
    if then is None or now is None or tuple(then) == tuple(now):
        return []
    before, after = {*then}, {*now}
    sides = [
        ", ".join(map(shortened, names[:NAMED])) + ", ..." * (len(names) > NAMED)
        for names in ([n for n in then if n not in after], [n for n in now if n not in before])
    ]
    sides = [f"{side} {how}" for side, how in zip(sides, ("gone", "new"), strict=True) if side]
    return [f"the {what} have changed: {', '.join(sides) or 'they are in another order'}"]


def _changed_layers(net: Network, other: Network) -> list[str]:
    """The layers that do not look alike, as `Network.summary` shows them."""
    then, now = (
        {path: str(layer) for path, layer in sequence.every(each.layers)} for each in (net, other)
    )
    return [
        f"layer {path} was {then.get(path)!r} and is {now.get(path)!r}"
        for path in {**then, **now}
        if then.get(path) != now.get(path)
    ]


def contents(
    run: Run, epoch: Epoch, callbacks: list[Any], arguments: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a checkpoint. `bpx.load` finds a network in them."""
    net, state = run.net, run.optimizer_state
    tensors, header = files.contents(net)
    header["generator"] = epoch.generator
    for name, slot in state.slots.items():
        if tuple(slot.shape) != (net.layout.size,):
            what = f"the optimizer's slot {name!r}, which a checkpoint keeps,"
            raise not_as_expected(what, (net.layout.size,), slot)
        prefix = f"{TRAINING}.optimizer.{name}."
        tensors |= net.layout.tensors(np, net.backend.to_host(slot), prefix)
    if len(epoch.log):
        tensors[f"{TRAINING}.log"] = epoch.log.rows
    if run.history:
        tensors[HISTORY] = np.array([*run.history.values()], np.float64)
    remembered = []
    for index, callback in enumerate(with_state(callbacks)):
        arrays, others = _state_of(callback, net)
        tensors |= {f"{TRAINING}.callbacks.{index}.{name}": a for name, a in arrays.items()}
        remembered.append(others)
    header[TRAINING] = {
        "version": __version__,
        "arguments": dict(arguments),
        "optimizer": {"step": state.step, "factor": state.factor, "slots": sorted(state.slots)},
        "epoch": epoch.position(),
        "history": list(run.history),
        "larger_is_better": sorted(run.history.larger_is_better),
        "undecided": sorted(run.history.undecided),
        "stopped": run.stopped,
        "begun": run.begun,
        "callbacks": remembered,
    }
    return tensors, header


def _state_of(callback: Stateful, net: Network) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a callback remembers: its arrays on the host, and all else as JSON."""
    arrays, others = {}, {}
    for name, value in callback.state().items():
        if hasattr(value, "shape") and value.shape:
            on_host = isinstance(value, np.ndarray)
            arrays[name] = value if on_host else net.backend.to_host(value)
        else:
            others[name] = plain(value)
    try:
        return arrays, files.as_json(others)
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"expected state() of {type(callback).__name__} to give arrays and what JSON "
            f"takes, got {others!r} ({error})"
        ) from error


@dataclass
class Snapshot:
    """A checkpoint that was read and found whole.

    Attributes
    ----------
    net : Network
        On the host.
    arguments : dict
        Of its run, see `arguments_of`.
    memory : State
        The optimizer's.
    epoch : Epoch
    history : History
    begun : int
        As in `Run`.
    callbacks : list of dict
        The states of those that have one.
    version : str
        Of bpx, which wrote it.
    """

    path: Any
    net: Network
    arguments: dict[str, Any]
    memory: State
    epoch: Epoch
    history: History
    begun: int
    callbacks: list[dict[str, Any]]
    version: str

    @classmethod
    def of(
        cls,
        path: str | PathLike[str],
        tensors: dict[str, np.ndarray],
        header: Mapping[str, Any],
        custom: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """What a whole file holds, as `persistence.read` gives it.

        Raises
        ------
        FileFormatError
            Anything that no run wrote, or none of this version of bpx.
        """
        try:
            return cls._of(path, tensors, header, custom)
        except FileFormatError as error:
            theirs = written_by(header)
            if theirs == __version__ or TRAINING not in header:
                raise
            raise FileFormatError(
                f"{error}. The file is not damaged: it is a checkpoint of bpx {theirs}, and this "
                f"is {__version__}. Resume with that version, or begin anew in another folder"
            ) from error

    @classmethod
    def _of(cls, path: Any, tensors: dict[str, Any], header: Any, custom: Any) -> Snapshot:
        if TRAINING not in header:
            raise FileFormatError(
                f"{path} is not a checkpoint, only a network: use bpx.load(path)"
            )
        net = files.network(path, tensors, header, backend="numpy", custom=custom)
        with files.described_run(path):
            found = cls._of_run(path, net, tensors, header)
        if tensors:
            names = ", ".join(sorted(tensors))
            raise FileFormatError(f"{path} has tensors that no run writes: {names}")
        return found

    @classmethod
    def _of_run(cls, path: Any, net: Network, tensors: dict[str, Any], header: Any) -> Snapshot:
        run = header[TRAINING]
        optimizer, at = run["optimizer"], run["epoch"]
        done = whole("done", at["done"], 0)
        log = StepLog()
        if done:
            log.append(_rows_of_log(path, tensors.pop(f"{TRAINING}.log"), done))
        digest = None if at.get("digest") is None else whole("digest", at["digest"], 0)
        slots = {
            str(name): files.packed(path, net.layout, tensors, f"{TRAINING}.optimizer.{name}.")
            for name in optimizer["slots"]
        }
        step = whole("step", optimizer["step"], 0)
        factor = nonnegative("factor", optimizer["factor"])
        memory = State(net.backend, net.layout.decayed, slots, step, factor)
        callbacks = [dict(state) for state in run["callbacks"]]
        for index, state in enumerate(callbacks):
            prefix = f"{TRAINING}.callbacks.{index}."
            for name in [name for name in tensors if name.startswith(prefix)]:
                state[name.removeprefix(prefix)] = tensors.pop(name)
        epoch = Epoch(
            generator=header["generator"], source=at["source"], validation=at["validation"],
            digest=digest, done=done, log=log, path=path,
            seconds=number("seconds", at.get("seconds", 0.0)),
        )  # fmt: skip
        return cls(
            path=path, net=net, arguments=described_as_here(net) | dict(run["arguments"]),
            memory=memory, epoch=epoch, history=files.history(run, tensors), callbacks=callbacks,
            begun=whole("begun", run.get("begun", 0), 0), version=written_by(header),
        )  # fmt: skip

    def restore(
        self,
        run: Run,
        source: Source,
        held_out: Samples | Incoming | None,
        arguments: Mapping[str, Any],
    ) -> Epoch:
        """Restore everything, and return the epoch to continue; `run` has to be one that begins.

        Raises
        ------
        ValueError
            It comes from a run with other arguments; nothing was changed then.
        """
        net, memory = run.net, run.optimizer_state
        self._check(net, source, arguments, run.epochs)
        self._load_state(source, self.epoch.source)
        if isinstance(held_out, Incoming):
            self._load_state(held_out, self.epoch.validation)
        set_numbers(net, memory, numbers(self.net, self.memory))
        saved = vectors(self.net, self.memory)
        for name, vector in vectors(net, memory).items():
            vector[...] = net.chain.copy_of(saved[name])
        run.step, run.begun, run.stopped = net.steps, self.begun, self.history.stopped
        run.history = self.history
        self.epoch.since = time.perf_counter()
        return self.epoch

    def _load_state(self, data: Source | Incoming, state: Any) -> None:
        # Without a state it is a user's own function that may raise.
        with nullcontext() if state is None else _fitting_state(self.path, "the data"):
            data.load_state(state, self.history.epochs)

    def _check(
        self,
        net: Network,
        source: Source,
        arguments: Mapping[str, Any],
        epochs: int,
    ) -> None:
        here = described_as_here(net) | files.as_json(dict(arguments))
        there = self.arguments
        # What one of two versions does not know is off in the other, if it is the same run.
        off = {name: value for one in (there, here) for name, value in one.items() if not value}
        different = changed(off | there, off | here, self.net, net)
        if self.history.epochs > epochs:
            different.append(f"epochs is {epochs}, and {self.history.epochs} have ended")
        if source.steps is not None and self.epoch.done > source.steps:
            different.append(f"an epoch has {source.steps} steps, and {self.epoch.done} are done")
        if different and self.version != __version__:
            different.append(f"bpx was {self.version} and is {__version__}")
        if different:
            raise OtherRun(self.path, different)


class OtherRun(ValueError):
    """A checkpoint is of another run than the one that is to go on; `different` says why."""

    def __init__(self, path: Any, different: list[str]) -> None:
        self.path, self.different = path, different
        super().__init__(
            f"{path} is of another run: {'; '.join(different)}. Pass what was passed "
            "then, or begin anew in another folder, with these weights by "
            f"bpx.load({str(path)!r}).fit(..., checkpoint='another folder')"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # its arguments are not its message
        return OtherRun, (self.path, self.different)


def written_by(header: Mapping[str, Any]) -> str:
    """The version of bpx that wrote a checkpoint, as messages call it."""
    run = header.get(TRAINING)
    found = run.get("version") if isinstance(run, dict) else None
    return found if isinstance(found, str) else "of an unknown version"


def described_as_here(net: Network) -> dict[str, Any]:
    """A network as this version describes it in a file, also if another one wrote its own."""
    header = files.header(net)
    found: dict[str, Any] = files.as_json({name: header[name] for name in NETWORK})
    return found | {"generator": header["generator"]["bit_generator"]}


def _rows_of_log(path: Any, log: np.ndarray, done: int) -> np.ndarray:
    fits = log.dtype == np.float64 and log.shape in ((done, 3), (done, 4))
    if not fits or not np.isfinite(log).all():
        raise FileFormatError(
            f"{path}: expected a log of ({done}, 3) finite float64, got {log.shape} {log.dtype}"
        )
    return log


def load_states(path: Any, callbacks: list[Any], states: list[dict[str, Any]]) -> None:
    """Give each callback back what it has to remember."""
    remembering = with_state(callbacks)
    if len(remembering) != len(states):
        raise FileFormatError(
            f"{path}: expected states of {len(remembering)} callbacks, got {len(states)}"
        )
    for callback, state in zip(remembering, states, strict=True):
        with _fitting_state(path, type(callback).__name__):
            callback.load_state(state)


@contextmanager
def _fitting_state(path: Any, what: str) -> Iterator[None]:
    """FileFormatError for whatever is raised where a state does not fit what takes it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: the state of {what} does not fit it ({error!r})"
        ) from error
