"""The shape of the code: which way imports point, what an import costs, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bpx

ROOT = Path(bpx.__file__).parent

ORDER = [
    "registry",
    "checks",
    "random",
    "launcher",
    "backends",
    "ranks",
    "nccl",
    "mpi",
    "parameters",
    "context",
    "initializers",
    "activations",
    "layers",
    "costs",
    "values",
    "data",
    "readers",
    "windows",
    "blocks",
    "datasets",
    "augmentation",
    "schedules",
    "optimizers",
    "persistence",
    "history",
    "architecture",
    "chain",
    "gradients",
    "network",
    "ensemble",
    "files",
    "operators",
    "onnx",
    "callbacks",
    "sources",
    "updates",
    "steps",
    "program",
    "captured",
    "interrupts",
    "passes",
    "snapshots",
    "checkpoints",
    "shared",
    "trainer",
    "training",
    "handover",
    "members",
    "lbfgs",
    "sklearn",
    "gradcheck",
    "summary",
    "plotting",
    "tables",
    "recipe",
    "runs",
    "console",
    "cli",
    "__main__",
]

# Public methods that reach down are one-line delegations with a local import. These, no more.
DOWNWARD = {
    ("history", "plotting"),  # History.plot
    ("ensemble", "files"),  # Ensemble.save
    ("ensemble", "members"),  # Ensemble.fit
    ("ensemble", "summary"),  # Ensemble.summary
    ("network", "files"),  # Network.save
    ("network", "training"),  # Network.fit
    ("network", "summary"),  # Network.summary
}


def imports(path):
    """(name in bpx, whether the import is at the module's level) of each relative import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(ROOT).parts)
    typing = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == depth and node not in typing:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            yield from ((name, node in tree.body) for name in names)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name != "__init__":
            yield name, path


def test_every_module_has_its_place():
    assert {name for name, _ in modules()} == set(ORDER)


def test_imports_point_upwards():
    down = set()
    for module, path in modules():
        for name, top in imports(path):
            if name != module and ORDER.index(name) > ORDER.index(module):
                assert not top, f"{path} imports {name}, which is further down"
                down.add((module, name))
    assert down == DOWNWARD


def run(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_loads_numpy_and_no_other_array_library():
    loaded = run("import sys, bpx; print(*sys.modules)").split()
    heavy = {
        "array_api_compat", "array_api_strict", "cupy", "matplotlib", "onnx", "safetensors",
        "scipy", "sklearn", "torch", "tqdm", "typer",
    }  # fmt: skip
    assert heavy & {name.split(".")[0] for name in loaded} == set()


def test_training_loads_blas_and_not_all_of_scipy_linalg():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    program = """
import sys, numpy as np, bpx
from bpx.backends import _blas, _numpy
x, y = np.zeros((4, 3), np.float32), [0, 1, 0, 1]
bpx.Network([3, 2], backend=_numpy.NumpyBackend()).fit(x, y, epochs=1)
assert "scipy" in sys.modules and "scipy.linalg" not in sys.modules
alone = _blas.by_dtype()
import scipy.linalg
a = np.random.default_rng(0).normal(size=(7, 7))
for one, two in zip(alone[a.dtype], _blas.by_dtype()[a.dtype], strict=True):
    arguments = (1.0, a, a) if one is alone[a.dtype][0] else (a[0], a[1].copy())
    assert one is not two and np.array_equal(one(*arguments), two(*arguments))
"""
    run(program)


def test_blas_is_found_where_scipy_keeps_it_elsewhere():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    run("""
import importlib.machinery, sys
original = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name == "_fblas" else original(name, *rest)
)
from bpx.backends import _blas
assert _blas.by_dtype() and "scipy.linalg" in sys.modules
""")


def test_what_is_loaded_later_is_there():
    program = """
import bpx
assert set(bpx.__all__) <= set(dir(bpx))
assert bpx.load.__module__ == "bpx.files" and bpx.datasets.mnist and bpx.DivergenceError
assert bpx.export_onnx.__module__ == "bpx.onnx"
from bpx import *
assert EarlyStopping is bpx.EarlyStopping is bpx.callbacks.EarlyStopping
try:
    bpx.nothing
except AttributeError as error:
    print(error)
"""
    assert run(program) == "module 'bpx' has no attribute 'nothing'\n"


def test_training_on_numpy_loads_no_other_array_library():
    program = """
import sys, bpx
net = bpx.Network([2, 3, 1], seed=0)
net.fit([[0., 1.], [1., 0.]], [0, 1], epochs=2)
print(*sys.modules)
"""
    loaded = {name.split(".")[0] for name in run(program).split()}
    assert loaded & {"array_api_compat", "cupy", "torch", "sklearn", "matplotlib"} == set()


@pytest.mark.parametrize(
    "module", [bpx, bpx.augmentation, bpx.backends, bpx.callbacks, bpx.datasets, bpx.layers]
)
def test_public_names(module):
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name == "Array" or name == "LAYERS"
