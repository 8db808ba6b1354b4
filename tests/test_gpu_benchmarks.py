"""What the benchmarks on a GPU do around CUDA's calls, with stand-ins for these."""

from __future__ import annotations

import importlib
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest


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
