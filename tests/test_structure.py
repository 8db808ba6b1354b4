"""The shape of the code: which way imports point, what an import costs, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bpx

ROOT = Path(bpx.__file__).parent

TABLE = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")  # each imports from above
ORDER: list[str] = []
INSIDE: dict[str, list[str]] = {}  # inside these packages, whose __init__ comes last
for row in re.findall(r"^\| (`.*?) \|", TABLE, re.M):
    for group in row.split(";"):
        package, _, modules = group.partition(":")
        names = re.findall(r"`(\w+)/?`", modules or package)
        if modules:
            (owner,) = re.findall(r"`(\w+)/`", package)
            names, within = [owner] * (owner not in INSIDE), names
            INSIDE.setdefault(owner, []).extend(within)
        ORDER.extend(names)

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
    """(module as a tuple of names, whether at the module's level) of each relative import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = path.relative_to(ROOT).parts
    typing = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in typing:
            names = [node.module] if node.module else [a.name for a in node.names]
            for name in names:
                yield (*parts[: len(parts) - node.level], *name.split(".")), node in tree.body


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        if names != ("__init__",):
            yield names, path


def further_down(module, other):
    """Whether `other` comes after `module`, in ORDER or inside the package of both."""
    if module[0] != other[0]:
        return ORDER.index(other[0]) > ORDER.index(module[0])
    if module[0] not in INSIDE:
        return False
    order = [*INSIDE[module[0]], "__init__"]
    return order.index((*other, "__init__")[1]) > order.index(module[1])


def test_every_module_has_its_place():
    assert {names[0] for names, _ in modules()} == set(ORDER)
    for package, order in INSIDE.items():
        inside = {names[1] for names, _ in modules() if names[0] == package}
        assert inside == {*order, "__init__"}


def test_imports_point_upwards():
    down = set()
    for module, path in modules():
        for other, top in imports(path):
            if further_down(module, other):
                assert not top, f"{path} imports {'.'.join(other)}, which is further down"
                down.add((module[0], other[0]))
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


def test_training_loads_none_of_scipy_linalg_and_scipys_blas_by_itself():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    program = """
import sys, numpy as np, bpx
from bpx.backends import _numpy, _scipy
x, y = np.zeros((4, 3), np.float32), [0, 1, 0, 1]
bpx.Network([3, 2], backend=_numpy.NumpyBackend()).fit(x, y, epochs=1)
alone = _scipy.blas_by_dtype()
assert "scipy" in sys.modules and "scipy.linalg" not in sys.modules
import scipy.linalg
a, found = np.random.default_rng(0).normal(size=(7, 7)), []
for blas in alone[a.dtype], _scipy.blas_by_dtype()[a.dtype]:
    out = a.copy()
    blas.gemm(2.0, a, a.T, 0.5, out)
    blas.axpy(3.0, a, out)
    found.append((out, blas.dot(a[0], a[1]), blas.dot))
assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
assert found[0][2] is not found[1][2]
"""
    run(program)


def test_the_sigmoid_of_few_loads_one_module_of_scipy_special():
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    if not hasattr(getattr(special, "_special_ufuncs", None), "expit"):
        pytest.skip("this SciPy has expit in a module that needs others")
    program = """
import sys, warnings
import numpy as np, bpx
from bpx.backends import _numpy, _scipy
warnings.simplefilter("error")
net = bpx.Network([3, 2], seed=0, backend=_numpy.NumpyBackend())
net.feedforward(np.zeros((1, 3)))
assert "scipy.special" not in sys.modules and _scipy.expit() is not None
z = np.asarray([-np.inf, -1e3, -90.0, -1.0, 0.0, 2.0, 90.0, 1e3, np.inf, np.nan])
from scipy.special import expit
for dtype in (np.float32, np.float64):
    with np.errstate(all="raise"):
        found = _scipy.expit()(z.astype(dtype), np.empty(z.shape, dtype))
    assert np.array_equal(found, expit(z.astype(dtype)), equal_nan=True)
_scipy.expit.cache_clear()
assert _scipy.expit() is sys.modules["scipy.special._special_ufuncs"].expit
"""
    run(program)


@pytest.mark.parametrize("there", ["no such module", "a library that it wants is missing"])
def test_without_expit_the_sigmoid_is_found_by_numpy(there):
    run(f"""
import importlib.machinery
import numpy as np, bpx
original = importlib.machinery.PathFinder.find_spec
def found(cls, name, *rest):
    if name != "_special_ufuncs":
        return original(name, *rest)
    if {there!r} == "no such module":
        return None
    raise ImportError("a library is not there")
importlib.machinery.PathFinder.find_spec = classmethod(found)
from bpx.backends import _numpy, _scipy
net = bpx.Network([3, 2, 1], seed=0, backend=_numpy.NumpyBackend())
assert net.feedforward(np.zeros((1, 3))).shape == (1, 1) and _scipy.expit() is None
""")


def test_blas_is_found_where_scipy_keeps_it_elsewhere():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    run("""
import importlib.machinery, sys
original = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name == "_fblas" else original(name, *rest)
)
from bpx.backends import _scipy
assert _scipy.blas_by_dtype() and "scipy.linalg" in sys.modules
""")


def test_what_is_loaded_later_is_there():
    program = """
import bpx
assert set(bpx.__all__) <= set(dir(bpx))
assert bpx.load.__module__ == "bpx.files" and bpx.datasets.mnist and bpx.DivergenceError
assert bpx.export_onnx is bpx.onnx.export_onnx
from bpx import *
assert EarlyStopping is bpx.EarlyStopping is bpx.callbacks.EarlyStopping
try:
    bpx.xyz
except AttributeError as error:
    print(error)
"""
    assert run(program).startswith("module 'bpx' has no attribute 'xyz'. Known: ")


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
        assert getattr(module, name).__doc__ or name in ("Array", "Forward", "InPlace", "LAYERS")


@pytest.mark.parametrize("registry", bpx.registry.Registry.all, ids=lambda registry: registry.kind)
def test_every_part_is_public_in_its_module(registry):
    module = import_module(f"bpx.{registry.kind}s")
    classes = {cls.__name__: cls for cls in registry.builtin.values()}
    public = {name: getattr(module, name, None) for name in classes}
    assert public == classes, f"import what is missing in {module.__name__}"
    unlisted = classes.keys() - set(getattr(module, "__all__", classes))
    assert not unlisted, f"add them to __all__ of {module.__name__}"
