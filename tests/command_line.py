"""``bpx`` as a person types it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys

import pytest

from bpx.__main__ import main


def bpx_process(*arguments, cwd=None):
    """Run ``bpx`` and return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bpx", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def bpx_command(*arguments, cwd=".", status=0):
    """Its output and its errors, without a process, which would take a second for imports."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["bpx", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    printed = [stream.buffer.getvalue().decode() for stream in (out, err)]
    # Which command of a process is the first to need Numba depends on the tests before it.
    printed[1] = re.sub("bpx: compiling what this machine.*\n", "", printed[1])
    assert ended.value.code == status, printed
    return printed
