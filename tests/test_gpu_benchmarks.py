"""What the benchmarks on a GPU do around CUDA's calls, with stand-ins for these."""

from __future__ import annotations

import importlib
import sys
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

import bpx
from bpx.training.replays import Captured


@pytest.fixture
def benchmark(monkeypatch):
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module


@pytest.mark.parametrize("of", ["bpx", "PyTorch"])
def test_what_a_recording_works_on_lives_as_long_as_it(benchmark, monkeypatch, of):
    array = np.zeros(3)
    work, alive = lambda array=array: array.fill(1.0), weakref.ref(array)
    if of == "bpx":  # a graph, like this one, holds nothing
        kernels = SimpleNamespace(capture=lambda work: lambda: None)
        launch = benchmark("gpu_layers").recorded(kernels, work)
    else:
        monkeypatch.setitem(sys.modules, "torch", MagicMock())
        peers = benchmark("gpu_peers")
        launch = peers.captured(work, peers.Place(is_device=True))
    del array, work
    launch()
    assert alive() is not None
    del launch
    assert alive() is None


def test_the_epoch_in_which_steps_are_recorded_is_not_timed(benchmark, monkeypatch, rehearsed):
    """And what times the others leaves them to the recording: `graph=True` would say if not."""
    peers, done = benchmark("gpu_peers"), []
    run = Captured.run

    def noted(self, most):
        done.append(run(self, most))
        return done[-1]

    class Event:
        def record(self):
            self.after = sum(done)

        def synchronize(self):
            pass

    cuda = SimpleNamespace(Event=Event, get_elapsed_time=lambda one, two: two.after - one.after)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(Captured, "run", noted)
    net = bpx.Network([6, 4], backend=rehearsed)
    x, y = np.zeros((50, 6)), np.zeros(50, np.int64)
    epoch = partial(net.fit, x, y, epochs=1, batch_size=10, graph=True)
    assert peers.cupy_clock(epoch, 3) == pytest.approx(3 * 5 / 1e3)
    assert sum(done) == 2 + 4 * 5  # two are compared
