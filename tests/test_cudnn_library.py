"""cuDNN's front end and its library: whether they are found, and the real ones where they are.

Where they are installed, they make plans for a device that is described; on a device, results are
compared with the standard ones.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_cudnn import KERNELS, PLAIN, arrays, close
from test_kernels import lending

from bpx.backends import BackendError, _cudnn
from bpx.layers.sliding import Sliding


@pytest.fixture
def packages(monkeypatch):
    """`front_end` afresh, with these in the place of what is installed."""

    def put(origin="__init__.py", **modules):
        for name in ("cudnn", "cuda", "cuda.pathfinder"):
            monkeypatch.setitem(sys.modules, name, modules.get(name.split(".")[-1]))
        spec = SimpleNamespace(origin=origin) if "cudnn" in modules else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
        return _cudnn.front_end.__wrapped__

    return put


class Module:
    """A stand-in for one: functions by name, which return or raise what is given."""

    def __init__(self, **results):
        self.called = []
        for name, result in results.items():
            setattr(self, name, self._function(name, result))

    def _function(self, name, result):
        def function(*arguments):
            self.called.append((name, *arguments))
            if isinstance(result, Exception):
                raise result
            return result

        return function


def test_the_front_end_and_its_libraries(packages):
    assert packages()() is None
    assert packages(origin=None, cudnn=Module())() is None  # a folder of that name
    cudnn, finder = Module(backend_version=92800), Module(load_nvidia_dynamic_lib=None)
    cuda = Module()
    cuda.pathfinder = finder
    assert packages(cudnn=cudnn, cuda=cuda, pathfinder=finder)() is cudnn
    assert finder.called == [("load_nvidia_dynamic_lib", "cudart")]
    assert cudnn.called == [("backend_version",)]


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
def test_a_front_end_without_its_library(packages, kind):
    missing = kind("Unable to find symbol cudnnGetVersion")
    cudnn, finder = Module(backend_version=missing), Module(load_nvidia_dynamic_lib=None)
    cuda = Module()
    cuda.pathfinder = finder
    message = (
        r"cuDNN's front end is installed, but its library was not found \(Unable to find symbol "
        r"cudnnGetVersion\): pip install 'cupy-cuda13x\[ctk\]>=14.0' cuda-pathfinder "
        r"nvidia-cudnn-cu13 nvidia-cudnn-frontend \(or 12 in place of 13, .*\); .*pip uninstall"
    )
    with pytest.raises(BackendError, match=message):
        packages(cudnn=cudnn, cuda=cuda, pathfinder=finder)()
    with pytest.raises(BackendError, match="its library was not found"):
        packages(cudnn=cudnn)()  # nor what would find one


# --- themselves ---------------------------------------------------------------------------------


def test_plans_of_the_library_for_a_described_device(tmp_path):
    if find_spec("cudnn") is None:
        pytest.skip("no front end of cuDNN: pip install nvidia-cudnn-frontend nvidia-cudnn-cu13")
    script = Path(__file__).with_name("cudnn_described.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    refusal, found = json.loads(done.stdout.splitlines()[-1])
    assert "handle" in refusal  # so far all arguments were right
    sizes = [size for *_, size in found if size is not None]
    assert len(sizes) > len(found) / 2 > 100
    assert all(0 <= size <= _cudnn.WORKSPACE for size in sizes)
    asked = len(_cudnn.OPERATIONS) * len(_cudnn.NOTES)
    assert all(size is not None for *_, size in found[-asked:])  # the book's network


@pytest.mark.parametrize("backend", ["cupy"], indirect=True)
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_device_has_the_same_bits_each_time(backend, put, host, rng, name, precision):
    if not backend._convolutions.is_here():
        pytest.skip("no cuDNN: pip install nvidia-cudnn-frontend nvidia-cudnn-cu13")
    for sliding in (PLAIN, Sliding((6, 5), (3, 2), (2, 1), (1, 2), ((1, 1), (2, 1)))):
        given = arrays(rng, 64, 2, sliding)
        there = [put(a) for a in given]
        on = backend.in_precision(precision)
        shape = {"convolve": 2, "convolve_weights": 1, "convolve_inputs": 0}[name]
        first, second = {"convolve": (0, 1), "convolve_weights": (0, 2),
                         "convolve_inputs": (2, 1)}[name]  # fmt: skip
        got = [
            host(getattr(on, name)(there[first], there[second], sliding,
                                   lending(backend, np.float32),
                                   backend.empty(given[shape].shape, np.float32)))
            for _ in range(3)
        ]  # fmt: skip
        assert np.array_equal(got[0], got[1])
        assert np.array_equal(got[0], got[2])
        close(name, got[0], *given, sliding, bits=20 if precision == "float32" else 9)
