"""Each example runs, on NumPy and on another library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bpx

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("backend", ["numpy", "array_api_strict"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, backend, tmp_path, mnist):
    try:
        bpx.backends.get(backend)
    except bpx.BackendError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-W", "error", str(example), "--short", "--backend", backend]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
