"""An ensemble's members, trained in turn or each in a process of its own; its `fit`."""

from __future__ import annotations

import _thread
import contextlib
import copy
import dataclasses
import inspect
import multiprocessing
import multiprocessing.connection
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import launcher
from .backends import get
from .backends._threads import set_for_each_of
from .callbacks._base import as_callbacks
from .callbacks._progress import with_progress
from .checks import whole
from .data.minibatches import REPEATABLE
from .elsewhere import OF_FIT_OF_ENSEMBLES
from .ensemble import Ensemble
from .handover import Handover, pickled, unpickled
from .history import History
from .keywords import refuse
from .names import Names
from .network import Network
from .persistence import Stateful
from .training import Options, names_of_run, train_quietly
from .training.checkpoints import Checkpoint
from .training.interrupts import Interrupts, conclude

AGAIN = 0.1  # seconds between two checks for Ctrl-C


class EnsembleError(RuntimeError):
    """Some members were not trained to their end; the others were.

    Attributes
    ----------
    failed : dict of int to Exception
        What each of them raised.
    histories : list of History
        Of all members. One that diverged has the weights of its last good step and its history so
        far; one whose process died is as it was before.
    """

    def __init__(self, failed: Mapping[int, Exception], histories: Sequence[History]) -> None:
        self.failed, self.histories = dict(failed), list(histories)
        each = "; ".join(f"member {i}: {_in_words(error)}" for i, error in failed.items())
        others = ""
        if len(failed) < len(histories):
            others = ", and the others are trained: use a bpx.Ensemble of those, or fit again"
        super().__init__(f"{len(failed)} of {len(histories)} members failed{others}. {each}")

    def __reduce__(self) -> tuple[Any, ...]:  # its arguments are not its message
        return EnsembleError, (self.failed, self.histories)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def train(
    ensemble: Ensemble,
    x: Any,
    y: Any,
    processes: int | None,
    devices: Sequence[Any] | None,
    options: dict[str, Any],
) -> list[History]:
    """What `Ensemble.fit` does; its docstring has the parameters."""
    known = [*list(inspect.signature(Network.fit).parameters)[1:], "processes", "devices"]
    refuse("fit", options, known, OF_FIT_OF_ENSEMBLES)
    if isinstance(callbacks := options.get("callbacks"), Iterator):
        options = options | {"callbacks": list(callbacks)}
    members = ensemble.members
    trained = any(net.steps for net in members)
    described = members[0].chain.architecture
    names = names_of_run(ensemble.names, trained, described, x, y)
    with _named(members, names):
        return _train(ensemble, x, y, processes, devices, options)


@contextlib.contextmanager
def _named(members: Sequence[Network], names: Names) -> Iterator[None]:
    """Give all members these names, so that their outputs mean the same.

    A member that has done no step when an error comes gets its old names back.
    """
    before = [(net.names, net.steps) for net in members]
    for net in members:
        net.names = names
    try:
        yield
    except BaseException:
        for net, (known, steps) in zip(members, before, strict=True):
            if net.steps == steps:
                net.names = known
        raise


def _train(
    ensemble: Ensemble,
    x: Any,
    y: Any,
    processes: int | None,
    devices: Sequence[Any] | None,
    options: dict[str, Any],
) -> list[History]:
    members = ensemble.members
    own = [_checkpoint_of(index, options) for index in range(len(members))]
    also = () if options.get("checkpoint") is None else (signal.SIGTERM,)
    if processes is None and devices is None:
        brought = x, options.get("validation")
        if len(members) > 1 and any(isinstance(each, Iterator) for each in brought):
            raise ValueError(f"a one-shot iterator is empty after the first member: {REPEATABLE}")
        with Interrupts(*also) as interrupts:
            found = _in_turn(members, x, y, [options | one for one in own], interrupts)
    else:
        if multiprocessing.current_process().daemon:
            raise ValueError(
                "a process of multiprocessing.Pool cannot start others: train in turn, without "
                "processes= and devices="
            )
        slots = _slots(processes, devices, options)
        with tempfile.TemporaryDirectory(prefix="bpx-", ignore_cleanup_errors=True) as folder:
            data = Handover(Path(folder))
            common = {name: data.shared(value) for name, value in options.items()}
            given = pickled(data.shared(x), data.shared(y), common)
            tasks = [pickled(net, one) for net, one in zip(members, own, strict=True)]
            with Interrupts(*also) as interrupts:
                fixed = devices is not None
                found = _Processes(members, given, tasks, slots, fixed, interrupts).run()
    histories, failed = found
    conclude(signal.SIGTERM in interrupts.came, _interrupted(members, histories, options))
    words = {_in_words(error) for error in failed.values()}
    if len(failed) == len(members) and len(words) == 1:
        raise failed[0]
    if failed:
        raise EnsembleError(dict(sorted(failed.items())), histories)
    return histories


def _interrupted(
    members: Sequence[Network], histories: Sequence[History], options: Mapping[str, Any]
) -> str | None:
    """Which members were interrupted, in words, on one process of several; None: none."""
    found = [i for i, history in enumerate(histories) if history.interrupted]
    if not found or (options.get("parallel") is not None and launcher.rank()):
        return None
    untrained = [i for i in found if not members[i].steps]
    end = f"; not trained at all: {_numbered(untrained)}" if untrained else ""
    return f"fit was interrupted before the end of {_numbered(found)}{end}"


def _numbered(members: Sequence[int]) -> str:
    return ", ".join(f"member {i}" for i in members)


def _checkpoint_of(index: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A member's own folder in that of the checkpoints, if there is one."""
    given = options.get("checkpoint")
    if given is None:
        return {}
    wanted = given if isinstance(given, Checkpoint) else Checkpoint(given)
    folder = Path(wanted.folder) / f"member-{index}"
    return {"checkpoint": dataclasses.replace(wanted, folder=folder)}


def _slots(
    processes: int | None, devices: Sequence[Any] | None, options: Mapping[str, Any]
) -> list[str | None]:
    """For each process at a time a backend's name, or None for the member's own."""
    if processes is not None and devices is not None:
        raise ValueError("processes= and devices= both say where members train: pass one of them")
    for name in ("parallel", "progress"):
        if options.get(name):
            raise ValueError(
                f"{name}= is for members that are trained in turn: leave it out, or leave out "
                "processes= and devices="
            )
    if devices is None:
        return [None] * whole("processes", processes)
    if isinstance(devices, str) or not isinstance(devices, Sequence) or not devices:
        raise ValueError(
            f'expected devices to be a list such as ["cupy:0", "cupy:1"], got {devices!r}'
        )
    return [get(device).name for device in devices]


def _in_turn(
    members: Sequence[Network], x: Any, y: Any, each: list[Any], interrupts: Interrupts
) -> tuple[list[History], dict[int, Exception]]:
    histories, failed = [], {}
    brought = [data for data in (x, each[0].get("validation")) if isinstance(data, Stateful)]
    # Each member begins there; a copy, since a state may share memory with its owner.
    begun = copy.deepcopy([data.state() for data in brought])
    for index, (net, options) in enumerate(zip(members, each, strict=True)):
        history = _not_begun()
        for data, state in zip(brought, copy.deepcopy(begun), strict=True):
            data.load_state(state)
        if not interrupts.noted:
            try:
                history = _fit(net, x, y, options, f"member {index}")
                if history.interrupted:  # perhaps by another rank's signal
                    interrupts.note(signal.SIGTERM if history.terminated else signal.SIGINT)
            except Exception as error:
                failed[index] = error
                history = _so_far(error)
        histories.append(history)
    return histories, failed


def _with_title(options: Mapping[str, Any], title: str) -> Mapping[str, Any]:
    """The same, but a bar that is asked for says whose it is."""
    if options.get("progress") is not True or not title:
        return options
    callbacks = with_progress(as_callbacks(options.get("callbacks", ())), title)
    return {**options, "callbacks": callbacks, "progress": False}


def _fit(net: Network, x: Any, y: Any, options: Mapping[str, Any], title: str = "") -> History:
    """What `Network.fit` does, but a signal is the ensemble's to tell of."""
    if type(net).fit is not Network.fit:  # a subclass has its own
        return net.fit(x, y, **options)
    named = _with_title(options, title)
    own = {name: value for name, value in named.items() if name != "parallel"}
    return train_quietly(net, x, y, Options(**own), options.get("parallel"))


def _not_begun() -> History:
    history = History()
    history.interrupted = True
    return history


def _so_far(error: Exception) -> History:
    """The history so far, which a `DivergenceError` has."""
    return getattr(error, "history", History())


# --- processes ----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Worker:
    """A process that trains the member of this index in a slot, and the way to it."""

    index: int
    slot: int
    process: Any
    connection: Any


class _Processes:
    """Each member in a process, as many at a time as there are slots.

    With `fixed`, member i goes to slot i, counted cyclically; else to any that is free. What is
    `given` to all, and each one's own `task`, are pickled.
    """

    def __init__(
        self,
        members: Sequence[Network],
        given: bytes,
        tasks: Sequence[bytes],
        slots: Sequence[str | None],
        fixed: bool,
        interrupts: Interrupts,
    ) -> None:
        self.members, self.given, self.tasks = members, given, tasks
        self.slots, self.fixed = slots, fixed
        self.interrupts, self.told = interrupts, False
        self.pending = list(range(len(members)))
        self.running: list[_Worker] = []
        self.histories = [_not_begun() for _ in members]
        self.failed: dict[int, Exception] = {}

    def run(self) -> tuple[list[History], dict[int, Exception]]:
        try:
            while self.pending or self.running:
                if self.interrupts.noted and not self.told:
                    self._tell()
                self._start()
                waited = {worker.connection: worker for worker in self.running}
                for ready in multiprocessing.connection.wait(list(waited), AGAIN):
                    self._end(waited[ready])
        finally:  # after a second Ctrl-C, or an error here
            for worker in self.running:
                worker.process.kill()
                worker.process.join()
        return self.histories, self.failed

    def _tell(self) -> None:
        """Send the word that ends a run as Ctrl-C does."""
        self.pending, self.told = [], True
        for worker in self.running:
            with contextlib.suppress(OSError):  # it has just ended
                worker.connection.send(None)

    def _start(self) -> None:
        """Start as many as there are free slots for."""
        busy, started = {worker.slot for worker in self.running}, []
        free = [slot for slot in range(len(self.slots)) if slot not in busy]
        for index in self.pending.copy():
            own = [index % len(self.slots)] if self.fixed else free
            slot = next((slot for slot in own if slot in free), None)
            if slot is not None:
                free.remove(slot)
                self.pending.remove(index)
                started.append(self._started(index, slot))
                self.running.append(started[-1])
        for worker in started:  # they get ready side by side
            with contextlib.suppress(OSError):  # it has ended already
                worker.connection.send_bytes(self.tasks[worker.index])
                worker.connection.send_bytes(self.given)

    def _started(self, index: int, slot: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        # Without the data: it would wait for ever until a process that has ended takes them.
        arguments = theirs, self.slots[slot]
        process = context.Process(target=_train_one, args=arguments, daemon=True)
        at_once = min(len(self.slots), len(self.members))
        with set_for_each_of(at_once), _without_interrupts():
            process.start()
        theirs.close()  # otherwise its end would not be noticed
        return _Worker(index, slot, process, connection)

    def _end(self, worker: _Worker) -> None:
        """Take what a process has sent, or note its death."""
        try:
            trained, error = worker.connection.recv()
        except (EOFError, OSError):
            trained, error = None, _death(worker.process)
        self.running.remove(worker)
        worker.process.join()
        worker.connection.close()
        if trained is not None:
            _take_over(self.members[worker.index], trained)
        if error is not None:
            self.failed[worker.index] = error
        self.histories[worker.index] = trained.history if error is None else _so_far(error)


def _death(process: Any) -> RuntimeError:
    process.join()
    code = process.exitcode
    if code < 0:
        how = f"was ended by signal {-code}, {signal.strsignal(-code)}; memory may have run out"
    else:
        how = (
            f"ended with exit status {code}: its output says why; a script has to begin its work "
            'below if __name__ == "__main__":'
        )
    return RuntimeError(f"its process {how}")


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here do not get the terminal's Ctrl-C: this process tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started below, it would lift the block again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train_one(connection: Any, device: str | None) -> None:
    """In a process of its own: send the trained network, on the host, and an error or None."""
    signal.signal(signal.SIGINT, _not_now)
    task, given = connection.recv_bytes(), connection.recv_bytes()
    threading.Thread(target=_listen, args=(connection,), daemon=True).start()
    net, error = None, None
    try:
        net, own = unpickled(task)
        x, y, options = unpickled(given)
        if device is not None:
            net = net.to(device)
        _fit(net, x, y, options | own)
    except Exception as raised:
        error = _portable(raised)
    connection.send((None if net is None else net.to("numpy"), error))


def _not_now(number: int, frame: Any) -> None:
    """Ignore a signal that comes while no `fit` is at work."""


def _listen(connection: Any) -> None:
    """Wait for the word, or for the parent's end, and let `fit` note it as Ctrl-C."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    while signal.getsignal(signal.SIGINT) is _not_now:
        time.sleep(AGAIN)
    _thread.interrupt_main()


def _portable(error: Exception) -> Exception:
    """An error in a form that can be sent, with where it was raised."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        unpickled(pickled(error))
    except Exception:
        return RuntimeError(_in_words(error))
    return error


def _take_over(net: Network, trained: Network) -> None:
    """Copy what training changes into the network that the caller holds."""
    here = trained.to(net.backend)
    net.parameters[...], net.state[...] = here.parameters, here.state
    net.chain.key = here.chain.key
    net.generator.bit_generator.state = here.generator.bit_generator.state
    net._count(here.steps, here.epochs)
    net.history = here.history
    net.optimizer, net.optimizer_state = here.optimizer, here.optimizer_state
    net.names = here.names
