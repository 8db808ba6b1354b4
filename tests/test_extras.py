"""What messages tell users to install: the packages of pyproject.toml's extras, by their names."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bpx.extras import PACKAGES

ROOT = Path(__file__).parents[1]


def required(extra):
    """The packages of an extra, without those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [package for package in extras[extra] if not package.startswith("bpx")]


def names(extra):
    return [package.split(">=")[0] for package in required(extra)]


@pytest.mark.parametrize("extra", PACKAGES)
def test_packages_are_those_of_the_extra(extra):
    """All of them, in the same order, each with the same bound or none."""
    told = shlex.split(PACKAGES[extra])
    for package, bounded, name in zip(told, required(extra), names(extra), strict=True):
        assert package in (bounded, name)


@pytest.mark.parametrize("extra", ["cuda", "cudnn"])
def test_for_cuda_12_other_packages_have_12_in_place_of_13(extra):
    assert names(extra + "12") == [name.replace("13", "12") for name in names(extra + "13")]


def test_nothing_says_to_install_bpx_with_an_extra():
    folders = ("bpx", "tests", "docs", "examples", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    for path in [*files, *ROOT.glob("*.md")]:
        if path.suffix in (".py", ".md"):
            assert not re.search(r"bpx\\?\[", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("missing", "use", "told"),
    [
        (
            "sklearn",
            "import bpx.sklearn",
            "bpx.sklearn needs scikit-learn: pip install scikit-learn",
        ),
        (
            "matplotlib",
            "import bpx; bpx.plotting.curves(bpx.History())",
            "pictures need matplotlib: pip install matplotlib",
        ),
        (
            "pandas",
            "import bpx; bpx.History().to_frame()",
            "to_frame needs pandas: pip install pandas",
        ),
    ],
)
def test_what_is_missing_is_told(missing, use, told):
    program = f"import sys; sys.modules[{missing!r}] = None\n{use}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"ImportError: {told}"


@pytest.mark.parametrize(
    ("package", "use", "told"),
    [
        ("sklearn", "import bpx.sklearn", "bpx.sklearn needs scikit-learn"),
        ("onnx", "bpx.export_onnx(bpx.Network([1, 1]), 'net.onnx')", "ONNX models need onnx"),
        ("pyarrow", "bpx.open_data('a.parquet')", "Parquet and CSV in blocks need pyarrow"),
    ],
)
def test_what_does_not_import_is_told(package, use, told, tmp_path):
    """And not that it is missing."""
    (tmp_path / f"{package}.py").write_text("raise ImportError('undefined symbol: of_another')")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    command = [sys.executable, "-c", f"import sys; sys.path[0] = '.'; import bpx; {use}"]
    path = os.pathsep.join([".", *sys.path])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
    )
    cause, package = "undefined symbol: of_another", told.rsplit(" ", 1)[1]
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {told}, which does not import ({cause}): pip install -U {package}"
    )
