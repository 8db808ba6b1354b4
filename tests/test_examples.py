"""Each example runs, on NumPy and on another library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_mnist_fast_in_two_processes_and_beside_pytorch(mnist):
    pytest.importorskip("torch", reason="PyTorch is not installed: it is the peer")
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'bpx[mpi]'")
    mpiexec()
    example = next(path for path in EXAMPLES if path.stem == "mnist_fast")
    command = [sys.executable, str(example), "--short", "--peer", "torch", "--ranks", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    titles = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert titles[1:] == ["| bpx, 2 ranks", "| PyTorch"]
