"""What messages tell users to install: the packages of pyproject.toml's extras, by their names."""

from __future__ import annotations

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
