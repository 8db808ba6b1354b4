"""Each example runs, on NumPy and on another library."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_parallel import mpiexec

import bpx

# Where each operation is a function in Python: a row of chapter 1, one of chapter 6.
LESS = {"book": ["--row", "1", "--row", "12"]}
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("backend", ["numpy", "array_api_strict"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, backend, tmp_path, mnist):
    try:
        bpx.backends.get(backend)
    except bpx.BackendError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-W", "error", str(example), "--short", "--backend", backend]
    if backend != "numpy":
        command += LESS.get(example.stem, [])
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_votes_of_the_book_s_recorded_runs(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES[0].parent)
    accuracy = importlib.import_module("book").accuracy
    runs = [{"wrong": {"0": 5}}, {"wrong": {"0": 5, "1": 2}}, {"wrong": {"1": 3}}]
    y = np.asarray([0, 1, 2, 3])
    assert accuracy(runs[:1], y) == 75.0
    # Two say 5 for the first; for the second each says something else, a tie.
    assert accuracy(runs, y) == 50.0


def test_mnist_fast_in_two_processes_and_beside_pytorch(mnist):
    pytest.importorskip("torch", reason="PyTorch is not installed: it is the peer")
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py")
    mpiexec()
    example = next(path for path in EXAMPLES if path.stem == "mnist_fast")
    command = [sys.executable, str(example), "--short", "--peer", "torch", "--ranks", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    titles = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert titles[1:] == ["| bpx, 2 ranks", "| PyTorch"]
