"""Ctrl-C and SIGTERM in each phase of a run: a run can go on from what is left behind."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from test_cli import bpx_command

import bpx
from bpx import persistence
from bpx.backends._numpy import NumpyBackend
from bpx.chain import Chain
from bpx.cli import runs
from bpx.training import checkpoints
from bpx.training.interrupts import INSISTING, Interrupts
from bpx.training.snapshots import Epoch

SIGNALS = [signal.SIGINT, signal.SIGTERM]
X, Y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3


def after(count, number, function):
    """`function`, but the signal `number` comes just before its call number `count`."""
    calls = []

    def called(*arguments, **options):
        calls.append(1)
        if len(calls) == count:
            signal.raise_signal(number)
        return function(*arguments, **options)

    return called


class Batches:
    """Mini-batches in a generator's own order; reading the seventh takes a while."""

    def __init__(self):
        self.draw, self.read = np.random.default_rng(3), lambda rows: (X[rows], Y[rows])

    def __iter__(self):
        order = self.draw.permutation(60)
        return (self.read(order[i : i + 10]) for i in range(0, 60, 10))

    def state(self):
        return self.draw.bit_generator.state

    def load_state(self, state):
        self.draw.bit_generator.state = state


class Quiet(bpx.Callback):
    """With a state, and with a hook of each kind."""

    def state(self):
        return {"seen": 3}

    def load_state(self, state):
        assert state == {"seen": 3}

    def on_step_end(self, run):
        pass

    def on_epoch_end(self, run):
        pass


def fit(folder, batches=None, callback=None, *, resume=False, seed=1):
    net = bpx.Network([4, 5, 3], seed=seed)
    data = (X, Y) if batches is None else (batches,)
    options = {"batch_size": 10} if batches is None else {}
    net.fit(
        *data, epochs=4, validation=(X, Y), callbacks=callback or Quiet(), resume=resume,
        checkpoint=bpx.Checkpoint(folder, steps=4), **options,
    )  # fmt: skip
    return net


def patched(owner, name):
    """The phase in which a method of bpx's own is at work."""

    def phase(monkeypatch, count, number, batches, callback):
        monkeypatch.setattr(owner, name, after(count, number, getattr(owner, name)))

    return phase


def hook(name):
    def phase(monkeypatch, count, number, batches, callback):
        setattr(Quiet, name, after(count, number, getattr(Quiet, name)))

    return phase


def reading(monkeypatch, count, number, batches, callback):
    batches.read = after(count, number, batches.read)


@contextlib.contextmanager
def ended_by(number):
    """`fit` tells of Ctrl-C, and delivers SIGTERM again, once."""
    if number == signal.SIGINT:
        with pytest.warns(RuntimeWarning, match="fit was interrupted by Ctrl-C") as told:
            yield
        assert len(told) == 1
        return
    came = []
    before = signal.signal(number, lambda *given: came.append(number))
    try:
        yield
        assert came == [number]
    finally:
        signal.signal(number, before)


PHASES = {
    "the first batch is read": (reading, 1),
    "a batch is read": (reading, 9),
    "an epoch begins": (patched(Epoch, "begin"), 2),
    "the first step": (hook("on_step_end"), 1),
    "a step": (hook("on_step_end"), 9),
    "validation": (patched(Chain, "evaluate"), 2),
    "a callback": (hook("on_epoch_end"), 2),
    "the last callback": (hook("on_epoch_end"), 4),
    "a state is asked for": (hook("state"), 3),
    "a checkpoint is put together": (patched(checkpoints, "contents"), 3),
    "the first checkpoint is written": (patched(persistence, "write_bytes"), 1),
    "a checkpoint is written": (patched(os, "replace"), 3),
    "an old checkpoint is deleted": (patched(os, "unlink"), 1),
    "the last checkpoint is written": (patched(os, "replace"), 8),
}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_goes_on_from_where_it_was(tmp_path, monkeypatch, phase, number):
    come, count = PHASES[phase]
    of_batches = come is reading
    whole = fit(tmp_path / "whole", Batches() if of_batches else None)
    with monkeypatch.context() as inner:
        for name in ("on_step_end", "on_epoch_end", "state"):
            inner.setattr(Quiet, name, getattr(Quiet, name))  # and back
        batches = Batches() if of_batches else None
        come(inner, count, number, batches, Quiet)
        with ended_by(number):
            stopped = fit(tmp_path / "run", batches)
    assert stopped.history.interrupted
    assert stopped.history.terminated == (number == signal.SIGTERM)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".bpx")]
    newest = max((tmp_path / "run").iterdir())
    assert np.array_equal(bpx.load(newest).parameters, stopped.parameters)
    assert newest.name == f"checkpoint-{stopped.steps:012d}.safetensors"
    again = fit(tmp_path / "run", Batches() if of_batches else None, resume=True, seed=9)
    assert np.array_equal(again.parameters, whole.parameters)
    assert again.history["training_cost"] == whole.history["training_cost"]


@pytest.mark.parametrize("name", ["on_fit_begin", "on_fit_end"])
def test_before_the_first_step_and_after_the_last(tmp_path, name):
    """Ctrl-C is raised there at once; what was on the disk stays."""
    fit(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")}

    def press(self, run):
        signal.raise_signal(signal.SIGINT)

    callback = type("Quiet", (Quiet,), {name: press})()  # the name is in the checkpoint
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, None, callback, resume=True)
    for path, content in before.items():
        assert bpx.load(path).steps
        # The last one is written again before on_fit_end.
        assert path.read_bytes() == content or (name == "on_fit_end" and path == max(before))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_signal_to_a_process_that_a_callback_has_forked(tmp_path):
    """The signal ends it: there, nobody would look at what is noted."""
    ended = []

    class Fork(Quiet):
        def on_epoch_end(self, run):
            if not ended:
                child = os.fork()
                if not child:
                    signal.raise_signal(signal.SIGTERM)
                    os._exit(0)
                ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    net = fit(tmp_path, None, Fork())
    assert ended == [-signal.SIGTERM]
    assert not net.history.interrupted


def test_the_process_dies_of_sigterm_when_all_is_done(tmp_path):
    """After the last checkpoint and the last callback; what follows `fit` is not done."""
    program = """
import os, signal, sys, bpx
from test_signals import Quiet, X, Y
class Terminated(Quiet):
    def on_step_end(self, run):
        if run.step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
    def on_fit_end(self, run):
        print(run.step, sorted(os.listdir("run"))[-1], run.history.interrupted, flush=True)
bpx.Network([4, 5, 3]).fit(X, Y, batch_size=10, callbacks=Terminated(), checkpoint="run")
print("the model is saved")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert done.stdout == "9 checkpoint-000000000009.safetensors True\n"
    assert done.stderr == ""


def test_sigterm_in_a_fit_that_a_callback_calls(tmp_path):
    """Where both have checkpoints, both end before a handler is called; else it is at once."""
    seen = []

    class Within(Quiet):
        def on_epoch_end(self, run):
            inner = bpx.Network([4, 3])
            folder = tmp_path / f"{run.net.epochs}"
            inner.fit(X, Y, epochs=9, checkpoint=folder, callbacks=terminate)
            seen.append(f"inner {inner.epochs}")

    def terminate(run):
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *given: seen.append("handler"))
    try:
        outer = bpx.Network([4, 3])
        history = outer.fit(X, Y, epochs=3, checkpoint=tmp_path / "outer", callbacks=Within())
        assert history.terminated
        assert seen == ["inner 1", "handler"]
        seen.clear()
        history = outer.fit(X, Y, epochs=1, callbacks=Within())
        assert not history.interrupted
        assert seen == ["handler", "inner 1"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_a_callback_has_set(tmp_path):
    """That one stays; the others are as they were before."""

    def own(number, frame):
        pass

    class Handle(Quiet):
        def on_epoch_end(self, run):
            signal.signal(signal.SIGTERM, own)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        fit(tmp_path, None, Handle())
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])


# A process of its own: SIGTERM ends it where nobody has asked to be told.
PROGRAM = """
import os, signal, sys
from bpx import cli, persistence
from bpx.cli import recipe, runs, tables, training
owner, name, count, number = sys.argv[1:5]
owner = {"os": os, "persistence": persistence, "tables": tables, "runs": runs}.get(owner, training)
real, calls = getattr(owner, name), []
def called(*arguments, **options):
    calls.append(1)
    if len(calls) == int(count):
        signal.raise_signal(int(number))
    return real(*arguments, **options)
if count != "0":
    setattr(owner, name, called)
sys.argv[1:] = sys.argv[5:]
cli.main()
"""

COMMANDS = {
    "the data are read": ("tables", "read", 1),
    "the recipe is written": ("os", "replace", 1),
    "the first checkpoint is written": ("os", "replace", 2),
}
AFTER_THE_LAST_EPOCH = {
    "the model is saved": ("runs", "write", 1),
    "the history is saved": ("runs", "write_bytes", 2),
    "the curve is drawn": ("runs", "picture", 1),
    "the test samples are scored": ("training", "scores", 1),
    "the score is saved": ("runs", "write_scores", 1),
    "the checkpoints are deleted": ("runs", "delete", 1),
}


def command(folder, phase, number, count, *arguments):
    owner, name, _ = (COMMANDS | AFTER_THE_LAST_EPOCH)[phase]
    given = [owner, name, str(count), str(int(number)), "train", *arguments]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg", "BPX_FAST": "0"},
        capture_output=True,
        text=True,
    )


OPTIONS = ["a.npz", "--epochs", "3", "--out", "run"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    np.savez(folder / "a.npz", x=X, y=Y)
    done = command(folder, "the data are read", 0, 0, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return persistence.read(folder / "run" / "model.safetensors")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", COMMANDS)
def test_the_command_line(tmp_path, monkeypatch, whole, phase, number):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    done = command(tmp_path, phase, number, COMMANDS[phase][2], *OPTIONS)
    assert done.returncode in (128 + number, -number), done.stderr
    assert "warning" not in done.stderr  # a line of output has told it
    assert "Traceback" not in done.stderr
    begun = (tmp_path / "run" / "recipe.json").exists()
    monkeypatch.setitem(bpx.backends._cache, "numpy", NumpyBackend())  # as in a process of its own
    bpx_command("train", *(["--resume", "run"] if begun else OPTIONS), cwd=tmp_path)
    (tensors, header), (theirs, other) = (
        persistence.read(tmp_path / "run/model.safetensors"),
        whole,
    )
    assert header == other
    assert all(np.array_equal(tensors[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", AFTER_THE_LAST_EPOCH)
def test_the_command_line_after_the_last_epoch(tmp_path, whole, phase, number):
    """All is written; the status alone tells of the signal."""
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    done = command(tmp_path, phase, number, AFTER_THE_LAST_EPOCH[phase][2], *OPTIONS)
    assert done.returncode == 128 + number
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("test accuracy ")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(runs.WRITTEN)
    assert persistence.read(tmp_path / "run" / "model.safetensors")[1] == whole[1]


def test_a_second_ctrl_c_of_the_command_line(tmp_path, monkeypatch):
    """It ends the run at once, and what is left to write comes with --resume."""
    np.savez(tmp_path / "a.npz", x=X, y=Y)

    def press(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as inner:
        inner.setattr(runs, "picture", press)
        _, err = bpx_command("train", *OPTIONS, cwd=tmp_path, status=130)
    assert err == "bpx: interrupted: bpx train --resume run goes on with it\n"
    assert not (tmp_path / "run" / "test.json").exists()
    monkeypatch.setattr(Interrupts, "_last", -math.inf)
    bpx_command("train", "--resume", "run", cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(runs.WRITTEN)


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_fit_end"])
def test_sigterm_is_delivered_where_fit_ends_with_an_error(tmp_path, monkeypatch, hook):
    def both(self, run):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("of a callback")

    def only_the_signal(self, run):
        signal.raise_signal(signal.SIGTERM)

    if hook == "on_fit_end":  # after the handlers of `fit` have gone
        monkeypatch.setattr(Quiet, "on_epoch_end", only_the_signal)
        both = fails
    monkeypatch.setattr(Quiet, hook, both, raising=False)
    with ended_by(signal.SIGTERM), pytest.raises(RuntimeError, match="of a callback"):
        fit(tmp_path)


def fails(self, run):
    raise RuntimeError("of a callback")


def test_ctrl_c_twice_ends_more_than_one_run(monkeypatch):
    """A search that goes on with its next fit hears the second one, if it comes soon."""

    def press(run):
        if run.history.epochs == 1:
            signal.raise_signal(signal.SIGINT)

    def trained():
        net = bpx.Network([2, 1], seed=0)
        history = net.fit([[0.0, 1.0]], [1], epochs=3, callbacks=press)
        return history.epochs, history.interrupted

    for later in (0.0, INSISTING):
        with pytest.warns(RuntimeWarning, match="interrupted by Ctrl-C"):
            assert trained() == (1, True)
        monkeypatch.setattr(Interrupts, "_last", Interrupts._last - later)
        if later:
            with pytest.warns(RuntimeWarning, match="interrupted by Ctrl-C"):
                assert trained() == (1, True)
        else:
            with pytest.raises(KeyboardInterrupt):
                trained()
            monkeypatch.setattr(Interrupts, "_last", -math.inf)


def test_an_interpreter_beside_the_main_one(monkeypatch):
    """In which Python lets nobody set a handler, as in Apache's."""

    def refused(*_):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr("bpx.training.interrupts.signal.signal", refused)
    net = bpx.Network([4, 3], seed=0)
    assert len(net.fit(X, Y, epochs=2)["epoch"]) == 2
