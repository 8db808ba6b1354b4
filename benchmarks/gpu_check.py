"""Every CuPy kernel against its standard twin on the random inputs of tests/test_kernels.py.

    python benchmarks/gpu_check.py               on the CUDA device
    python benchmarks/gpu_check.py --rehearse    on the host, the kernels compiled by g++

Where cuDNN is installed, convolutions are checked with and without it.

`python benchmarks/gpu.py` runs it first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests"
LIMITS = {"float32": 1e-6, "float64": 1e-12}  # of the size of the result


def backend(folder: str):
    """The device's; given a folder for what is compiled, that of the rehearsal."""
    import bpx

    if not folder:
        return bpx.backends.get("cupy")
    from conftest import CupyRehearsed

    return CupyRehearsed(Path(folder))


def line(kernels, name: str, label: str) -> tuple[bool, str]:
    """Whether a kernel is right, and its line in the table, which begins with `label`."""
    from test_kernels import worst_difference

    found, right = [], True
    for dtype, limit in LIMITS.items():
        try:
            draw = np.random.default_rng(20260101)
            worst = worst_difference(kernels, name, dtype, draw, by_terms=True)
        except Exception as error:  # the other kernels are still to be checked
            return False, f"{label:26} {type(error).__name__}: {error}"
        found.append(f"{dtype} {worst:8.1e}")
        right = right and worst <= limit  # False for a NaN
    return right, f"{label:26} {'   '.join(found)}   {'as its twin' if right else 'DIFFERS'}"


def without_cudnn(kernels):
    """A copy of the backend."""
    copy = kernels.in_precision("float32")
    copy._convolutions = SimpleNamespace(is_here=lambda: False, held=tuple)
    return copy


def checks(kernels, names: list[str]) -> list[tuple[str, object, str]]:
    """The name of each check, its backend and its kernel."""
    found = [(name, kernels, name) for name in names]
    if not kernels._convolutions.is_here():
        return found
    without = without_cudnn(kernels)
    convolutions = [name for name in names if name.startswith("convolve")]
    return found + [(f"{name}, no cuDNN", without, name) for name in convolutions]


def main() -> int:
    sys.path.insert(0, str(TESTS))
    try:
        from test_kernels import CASES
    except ImportError as error:
        print(f"the inputs are those of the tests, which need more packages ({error}): "
              "pip install -e '.[test]'")  # fmt: skip
        return 1
    rehearse = "--rehearse" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        try:
            kernels = backend(folder if rehearse else "")
        except RuntimeError as error:  # no device, or no compiler for the rehearsal
            print(error)
            return 0 if rehearse else 1
        wrong = []
        for label, on, name in checks(kernels, list(CASES)):
            right, text = line(on, name, label)
            print(text, flush=True)
            wrong += [] if right else [label]
    if wrong:
        print(f"not as their standard twins: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
