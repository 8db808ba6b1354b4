"""Several processes that train one network (`among_ranks.py`), and mini-batches in slices."""

from __future__ import annotations

import copy
import functools
import importlib.util
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import bpx
from bpx import launcher
from bpx.backends import _threads
from bpx.layers import Dense, Dropout, Input
from bpx.parallel import mpi
from bpx.parallel.ranks import RankError, Ranks, agreed, own_rows, same
from bpx.training.interrupts import Interrupts

PROGRAM = Path(__file__).with_name("among_ranks.py")


@functools.cache
def mpiexec():
    """The launcher beside this Python, or the system's."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed: pip install mpi4py")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("mpiexec", path=path)
    if found is None:
        pytest.skip("no mpiexec: pip install mpich, or the system's MPI")
    return found


# The launcher sees a shell that lives on, and not that its process is gone, just as when a host is
# cut off.
UNSEEN = ["sh", "-c", 'trap "" USR1; "$0" "$@"; sleep 100']


def started(ranks, *command, unseen=False, within=120, fast=False):
    """The processes, which have to end within `within` seconds.

    Without `fast`, none of them spends its seconds on Numba.
    """
    environment = os.environ | {
        "BPX_FAST": "1" if fast else "0",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # as in a container
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    line = [mpiexec(), "-n", str(ranks), *(UNSEEN if unseen else []), sys.executable, *command]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=within, check=False, env=environment
    )


def among(ranks, case, *folder, fast=False):
    """What rank 0 found."""
    ended = started(ranks, str(PROGRAM), case, *map(str, folder), fast=fast)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def survivors(ranks, case, folder, unseen=True):
    """What each surviving rank said, by its number; soon, though one sleeps for 600 s."""
    ended = started(ranks, str(PROGRAM), case, str(folder), unseen=unseen, within=60)
    assert ended.returncode != 0
    text = ended.stdout
    found = {}
    while (start := text.find("[")) >= 0:  # two processes may share a line
        try:
            said, length = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            said, length = None, 1
        if isinstance(said, list):
            found[said[0]] = said[1:]
        text = text[start + length :]
    return found, ended


# --- several are as one ---


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_one_step_is_that_of_one_process(ranks):
    found = among(ranks, "steps", fast=True)
    assert len(found) > 25
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


@pytest.mark.parametrize("ranks", [2, 3])
def test_ten_epochs_are_those_of_one_process(ranks):
    assert among(ranks, "digits", fast=True)["digits"] < 1e-12


@pytest.mark.parametrize("ranks", [2, 3])
def test_iterables_windows_and_sparse_data(ranks, tmp_path):
    pytest.importorskip("scipy")
    found = among(ranks, "iterables", tmp_path)
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


def test_ranks_begin_alike_or_say_what_differs(tmp_path):
    found = among(3, "alike", tmp_path)
    assert found["seeds"] < 1e-12
    assert found["after"] < 1e-12
    assert found["same on all"]
    assert "rank 1 were given different things: batch_size is 5 and 6" in found["arguments"]
    few = "1 row, in which a BatchNorm of flat inputs finds no variance: expected 2 at least"
    assert found["few rows"].startswith(f"a mini-batch has {few}")
    assert found["few rows brought"].startswith(f"mini-batch 3 of epoch 1 has {few}")
    assert "rank 2 were given different things: digest of some samples is" in found["data"]
    assert "rank 1 were given different things: a callback with on_step_end is" in found["hooks"]
    assert "steps the parameters on rank 1 and on rank 0" in found["parameters"]
    assert found["order"].startswith("the order of rows on ranks 1, 2 and on rank 0 are not")
    assert found["windows"].startswith("the order of rows on rank 1 and on rank 0 are not")
    assert found["diverged"].startswith("the cost is not finite at step 2 of epoch 1, first in")


def test_ranks_count_those_that_share_their_cores():
    assert among(3, "cores") == {"all": 3, "own": 1}


def test_ranks_that_cannot_be_used():
    found = among(2, "misused")
    assert found["left out"].startswith("expected a communicator to which this process belongs")
    assert found["parted"].startswith("the ranks have parted: fit belongs inside `with")


def test_a_slow_sum_is_waited_for():
    assert among(2, "slow") == {}


def test_one_wish_to_stop_is_everyones():
    found = among(2, "stops")
    assert found == {
        "step": [5, "enough", False],
        "signal": [8, None, True],
        "epoch": [12, "three", False],
        "each": [8, None, True],
    }


def test_sigterm_for_one_rank_is_delivered_again_on_all(tmp_path):
    found = among(3, "terminated", tmp_path)
    assert found == {"came": [["8"]] * 3, "newest": "checkpoint-000000000008.safetensors"}


# --- checkpoints ---


def test_rank_0_alone_writes_and_reads_checkpoints(tmp_path):
    found = among(3, "whole", tmp_path)
    assert found["resumed"] < 1e-12
    assert found["folders"] == ["rank0", "seconds"]
    steps = [int(name[11:23]) for name in found["files"]]
    assert steps == [17, 22, 24]
    assert found["by seconds"] == 3


def test_a_slow_disk_does_not_take_the_time_of_training(tmp_path):
    found = among(2, "disk", tmp_path)
    assert found["steps"] == 16
    assert 2 <= found["writes"] < 5  # and not one every other step


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
def test_another_number_of_ranks_goes_on(before, after, tmp_path):
    assert among(before, "part", tmp_path)["difference"] < 1e-12
    assert among(after, "rest", tmp_path)["difference"] < 1e-12


# --- ranks that do not come ---


@pytest.mark.parametrize("case", ["hangs", "stands", "dies"])
def test_a_rank_that_is_gone_is_named_in_time(case, tmp_path):
    found, ended = survivors(3, case, tmp_path)
    assert sorted(found) == [0, 2], ended.stdout + ended.stderr
    for message, culprits, steps in found.values():
        assert "rank 1 (" in message
        assert "has not come to step 7 of its training" in message
        assert culprits == [1]
        assert steps == 6  # nothing of the step was done
    # The last step that all have done was written down, and any number goes on from it.
    assert (tmp_path / "checkpoint-000000000006.safetensors").is_file()
    found = among(2, "finish", tmp_path)
    assert found["difference"] < 1e-12
    assert found["steps"] == 36


def test_an_epoch_that_has_ended_is_not_lost(tmp_path):
    found, _ = survivors(2, "between", tmp_path, unseen=False)
    assert "rank 1 (" in found[0][0]
    assert (tmp_path / "checkpoint-000000000008.safetensors").is_file()
    assert among(2, "finish", tmp_path)["difference"] < 1e-12


def test_the_launcher_by_itself_ends_the_others(tmp_path):
    found, ended = survivors(2, "dies", tmp_path, unseen=False)
    assert ended.returncode != 0
    assert found == {} or list(found) == [0]  # whichever was faster


def test_an_error_on_one_rank_is_told_to_the_others(tmp_path):
    found, ended = survivors(3, "raises", tmp_path, unseen=False)
    assert sorted(found) == [0, 2]
    for message, culprits, _ in found.values():
        assert message.startswith("rank 1 (")
        assert message.endswith("has failed: OSError: the plotter is on fire")
        assert culprits == [1]
    assert "OSError: the plotter is on fire" in ended.stderr  # its own traceback


def test_an_error_in_a_fit_of_its_own_is_told_too(tmp_path):
    found, ended = survivors(2, "alone", tmp_path, unseen=False)
    assert "rank 1 (" in found[0][0]
    assert "has failed: DivergenceError: the cost is not finite" in found[0][0], ended.stderr


def test_after_fit_no_step_is_waited_for(tmp_path):
    found, _ = survivors(2, "later", tmp_path)
    assert "has not come to the beginning, for which rank 0" in found[0][0]


def test_ranks_that_wait_for_different_things(tmp_path):
    found, _ = survivors(2, "differs", tmp_path, unseen=False)
    assert found
    for message, culprits in found.values():
        assert "all ranks wait, but not for the same thing: the beginning, for which" in message
        assert culprits == []


# --- the command line ---


def test_the_command_line(tmp_path):
    line = ["-m", "bpx", "train", "digits", "--epochs", "2", "--out", str(tmp_path / "run")]
    ended = started(3, *line, fast=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("3 processes, each with a part of every mini-batch") == 1
    alone = subprocess.run(
        [sys.executable, *line[:-2]], capture_output=True, text=True, check=True
    )

    def scores(text):
        rows = [line.split() for line in text.splitlines() if line.split()[-1:] != ["s"]]
        return [row[:-1] for row in rows if row and row[0].isdigit() and "%" in row]

    assert len(scores(alone.stdout)) == 2
    assert scores(ended.stdout) == scores(alone.stdout)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    assert net.epochs == 2


def test_the_command_line_says_once_what_is_wrong(tmp_path):
    for line in (["--hiden", "3"], [str(tmp_path / "none.csv")]):
        ended = started(2, "-m", "bpx", "train", *line)
        assert ended.returncode != 0
        assert ended.stdout == ""
        said = [line for line in ended.stderr.splitlines() if line.startswith("bpx: ")]
        assert len(said) == 1
        assert "Traceback" not in ended.stderr


def test_the_command_line_says_that_rank_0_is_gone(tmp_path):
    ended = started(3, str(PROGRAM), "silent", str(tmp_path))
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("bpx: ")]
    assert len(said) == 1
    assert said[0].startswith("bpx: rank 0 (")


def test_other_commands_are_for_one(tmp_path):
    ended = started(2, "-m", "bpx", "gradcheck")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("worst") == 1


# --- devices, without one ---


def test_nccl_and_pinned_memory_are_called_as_they_want_to_be():
    found = among(2, "devices")
    assert found == {"nccl": [3.0, 3.0], "shared device": [3.0, 3.0], "without": [3.0, 3.0]}


# --- one process ---


def make(backend, dropout=0.3):
    layers = [Input(4), Dense(6, "tanh"), Dropout(dropout), Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=2, backend=backend)


@pytest.mark.parametrize("slices", [2, 3, 8])
def test_slices_of_a_mini_batch_are_the_mini_batch(backend, put, host, rng, slices):
    x, y, w = rng.normal(size=(11, 4)), rng.integers(3, size=11), rng.uniform(size=11)
    options = {"epochs": 2, "batch_size": 8, "l2": 0.1, "optimizer": bpx.Adam(0.01)}
    data = [put(x), put(y)]
    one, cut_up = make(backend), make(backend)
    first = one.fit(*data, sample_weight=put(w), **options)
    second = cut_up.fit(*data, sample_weight=put(w), accumulate=slices, **options)
    np.testing.assert_allclose(host(cut_up.parameters), host(one.parameters), atol=1e-12)
    for name in ("training_cost", "training_accuracy"):
        np.testing.assert_allclose(first[name], second[name], atol=1e-12)


def test_slices_need_less_memory(monkeypatch):
    largest = []
    added = bpx.context.added

    def noting(buffers, key, *others):
        largest.append(key[1][0])
        return added(buffers, key, *others)

    monkeypatch.setattr(bpx.context, "added", noting)
    x, y = np.zeros((96, 4)), np.zeros(96, int)
    make("numpy").fit(x, y, epochs=1, batch_size=96, accumulate=8)
    assert max(largest) == 12


def test_slices_where_a_cost_is_not_finite(backend):
    net = bpx.Network([4, 3], output="identity", cost="quadratic", backend=backend, seed=0)
    x = np.full((6, 4), 1e3)
    with pytest.raises(bpx.DivergenceError, match=r"step \d+ of epoch \d+, first in"):
        net.fit(x, np.ones((6, 3)), optimizer=bpx.SGD(1e15), epochs=9, accumulate=2)
    assert np.isfinite(net.backend.to_host(net.parameters)).all()


def test_a_late_checkpoint_is_written_once(monkeypatch, tmp_path):
    net, steps = make("numpy"), []
    write = bpx.training.checkpoints.Checkpoints.write
    monkeypatch.setattr(bpx.training.checkpoints.Checkpoints, "late", lambda self: net.steps == 1)

    def noting(self, run, epoch):
        steps.append(run.net.steps)
        write(self, run, epoch)

    monkeypatch.setattr(bpx.training.checkpoints.Checkpoints, "write", noting)
    saved = bpx.Checkpoint(tmp_path, seconds=100.0)
    x, y = np.zeros((8, 4)), [0] * 8  # two steps an epoch, and it is late in the second one
    net.fit(x, y, epochs=2, batch_size=4, accumulate=2, checkpoint=saved)
    assert steps == [0, 2, 4]


def test_iterables_in_slices(rng):
    x, y = rng.normal(size=(9, 4)), rng.integers(3, size=9)
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    one, cut_up = make("numpy"), make("numpy")
    one.fit(batches, epochs=2)
    cut_up.fit(batches, epochs=2, accumulate=3)
    np.testing.assert_allclose(cut_up.parameters, one.parameters, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "expected accumulate >= 1, got 0"),
        ({"accumulate": 3}, "expected accumulate <= 2, the rows of a mini-batch, got 3"),
        ({"accumulate": 2.0}, "expected accumulate to be an integer, got 2.0"),
        ({"parallel": "nccl"}, "expected parallel=\"mpi\" or None, got 'nccl'"),
        ({"parallel": 4}, 'expected parallel="mpi", a bpx.DataParallel or a communicator'),
        ({"graph": True, "accumulate": 2}, 'graph=True: a graph needs backend="cupy"'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises((ValueError, TypeError)) as raised:
        make("numpy").fit(np.zeros((2, 4)), [0, 1], **options)
    assert message in str(raised.value)


def test_slices_are_no_recording(rehearsed):
    with pytest.raises(ValueError, match="with accumulate= or parallel= a step is more than one"):
        make(rehearsed, 0.0).fit(np.zeros((9, 4)), [0] * 9, batch_size=2, graph=True, accumulate=2)


def test_what_data_parallel_takes():
    with pytest.raises(ValueError, match="expected timeout > 0, got 0"):
        bpx.DataParallel(timeout=0)
    with pytest.raises(TypeError, match="expected a communicator of mpi4py, got int"):
        bpx.DataParallel(3)
    assert bpx.DataParallel(timeout=np.inf).timeout == np.inf


def test_mpi4py_or_its_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"needs mpi4py \(pip install mpi4py\)"):
        make("numpy").fit(np.zeros((2, 4)), [0, 1], parallel="mpi")

    class NoLibrary:
        def __getattr__(self, name):
            raise RuntimeError("cannot load MPI library")

    monkeypatch.setitem(sys.modules, "mpi4py", NoLibrary())
    with pytest.raises(ImportError, match="finds no MPI library: load the cluster's module"):
        mpi.DataParallel().join()


def test_a_launcher_of_another_library(monkeypatch):
    world = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(size=1))
    monkeypatch.setattr(mpi, "_mpi", lambda: world)
    assert type(mpi.DataParallel().join()) is Ranks
    monkeypatch.setattr(launcher, "rank", lambda: 3)
    with pytest.raises(ImportError, match="started as rank 3 of several, but mpi4py's MPI sees"):
        mpi.launched()


@pytest.mark.parametrize(
    ("environment", "rank", "local"),
    [
        ({}, None, 0),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4",
          "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 3, 1),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "2"}, 2, 2),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None, 0),  # mpiexec -n 1
        ({"PMIX_RANK": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, 5, 1),  # srun --mpi=pmix
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None, 0),  # sbatch
    ],
)  # fmt: skip
def test_what_launchers_say(monkeypatch, environment, rank, local):
    for name in [*launcher._RANK, *launcher._SIZE, *launcher._ON_THIS_HOST]:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launcher.rank(), launcher.rank_on_host()) == (rank, local)


class Device:
    def __init__(self, number):
        self.id = number


def test_one_device_for_each_process_of_a_host(monkeypatch):
    from bpx.backends import _libraries

    devices = tuple(_libraries.Device(f"cupy:{k}" if k else "cupy", "GPU") for k in range(2))
    cupy = _libraries.LIBRARIES["cupy"]
    monkeypatch.setattr(cupy, "found", lambda: devices)
    for local, device in ((0, ""), (1, "1"), (2, ""), (3, "1")):
        monkeypatch.setattr(launcher, "rank_on_host", lambda local=local: local)
        assert cupy.default() == device
    monkeypatch.setattr(bpx.backends, "_cache", {})
    load = functools.cache(lambda device: types.SimpleNamespace(device=Device(int(device or 0))))
    monkeypatch.setattr(cupy, "load", load)
    assert bpx.backends.get("cupy") is bpx.backends.get("cupy:1") is load("1")
    assert bpx.backends.get("cupy:0") is load("")
    for number in (0, 1):  # where an array lies, and not where this process would put it
        members = {"__module__": "cupy", "__dlpack__": None, "device": Device(number)}
        Array = type("Array", (), members)
        assert bpx.backends.get(Array()).device.id == number


def test_shares_and_slices():
    for size in range(1, 6):
        for rows in range(12):
            parts = []
            for rank in range(size):
                ranks = Ranks()
                ranks.rank, ranks.size = rank, size
                parts.append(own_rows(ranks, rows))
            lengths = [stop - start for start, stop in parts]
            assert sum(lengths) == rows
            assert max(lengths) - min(lengths) <= 1
            assert [start for start, _ in parts[1:]] == [stop for _, stop in parts[:-1]]


def waiting(monkeypatch, first=0):
    """A rank whose clock goes on by a second at each look, and hears of nobody."""
    clock = map(float, itertools.count(first))
    time = types.SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr(mpi, "time", time)
    ranks = object.__new__(mpi.MpiRanks)
    ranks.timeout, ranks._listen = 60.0, set
    return ranks


def test_who_is_interrupted_does_not_wait_for_the_limit(monkeypatch):
    ranks, waited = waiting(monkeypatch), []
    ranks._call_the_roll = lambda done, began, limit: waited.append(
        (mpi.time.monotonic() - began, limit)
    )
    for hurried, limit in ((False, None), (True, None), (True, 2.0), (False, np.inf)):
        ranks.hurried = lambda hurried=hurried: hurried
        done = iter([False] * 90 + [True])
        ranks.wait_until(lambda done=done: next(done), limit)
    # It asks before: with a step of the clock for the comparison, and one for the look here.
    assert waited == [(57.0, 61.0), (7.0, 11.0), (3.0, 3.0)]


def test_who_is_told_to_end_late_still_listens(monkeypatch):
    """After longer than `HURRY`: the others have their time to answer."""
    ranks, limits = waiting(monkeypatch), []
    ranks.hurried = iter([*[False] * 30, True]).__next__
    ranks._call_the_roll = lambda done, began, limit: limits.append(limit)
    ranks.wait_until(lambda: False)
    assert limits == [31.0 + mpi.ANSWER]


@pytest.mark.parametrize(
    ("here", "waited", "culprits"), [({1}, 10.0, (2,)), ({1, 2}, 10.0 + mpi.ANSWER, ())]
)
def test_who_is_not_there_is_not_waited_for_longer_than_the_limit(
    monkeypatch, here, waited, culprits
):
    ranks = waiting(monkeypatch, first=6)
    ranks.rank, ranks.size, ranks.hosts, ranks.doing = 0, 3, ["a", "b", "c"], lambda: "step 7"
    ranks._send, ranks._listen, ranks._lost = lambda *message: None, lambda: here, lambda e: e
    with pytest.raises(RankError, match=f"step 7, for which .* has waited {waited} s") as raised:
        ranks._call_the_roll(lambda: False, 0.0, 10.0)
    assert raised.value.ranks == culprits


def test_the_end_comes_also_where_nobody_reads(monkeypatch):
    ends = []

    class Ranks:
        _mpi = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(Abort=ends.append))

    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    mpi.MpiRanks._abort(Ranks(), 0.0)
    assert ends == [1]


def test_one_process_alone_agrees_with_itself():
    assert agreed(Ranks(), True)
    assert not agreed(Ranks(), False)
    same(Ranks(), "it", "text")
    error = RankError("rank 1 is gone", (1,), told=True)
    again = copy.copy(error)
    assert (str(again), again.ranks, again.told) == ("rank 1 is gone", (1,), True)


def test_a_signal_that_comes_twice_is_one(monkeypatch):
    def both(number):
        with Interrupts(signal.SIGTERM) as interrupts:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return interrupts.noted

    assert both(signal.SIGTERM)  # of a scheduler, which means it once
    with pytest.raises(KeyboardInterrupt):
        both(signal.SIGINT)
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert both(signal.SIGINT)  # the terminal's, and the same passed on by mpiexec
    monkeypatch.setattr("bpx.training.interrupts.TWICE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        both(signal.SIGINT)


def test_cores_are_divided_among_the_processes_of_a_host(monkeypatch):
    monkeypatch.setattr(launcher, "cores", lambda: list(range(8)))
    # One that shares its cores with none takes what BLAS counts by itself.
    assert [_threads.for_each_of(n) for n in (1, 2, 3, 16)] == [None, 4, 2, 1]


def test_blas_takes_its_part_of_the_cores(monkeypatch):
    pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(_threads, "for_each_of", lambda processes: processes)
    numpy = bpx.backends._numpy.NumpyBackend()
    before = _threads.count()
    with numpy.surround(None, 3):
        assert _threads.count() == min(3, before)  # no more than the user allows
    with numpy.surround(10**9, 2):
        assert _threads.count() == min(2, before)
    with numpy.surround(10**9, 1):  # as for_each_of stands here, one thread
        assert _threads.count() == 1
    with numpy.surround(10**6, 2):
        assert _threads.of_blas() == 1  # for a small product
        assert _threads.count() == min(2, before)  # for what is spread
    with numpy.surround(10**9, 2, in_parts=True):
        assert {library.num_threads for library in _threads._libraries()} == {1}
        assert _threads.count() == min(2, before)
    assert _threads.count() == before
