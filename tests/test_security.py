"""No code comes out of a file: what is called in the package, by its syntax tree."""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import bpx
from bpx.cli import tables

ROOT = Path(bpx.__file__).parent
PACKAGE = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

CALLS = {"__import__", "compile", "eval", "exec"}
MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "subprocess",
           "tarfile", "yaml"}  # fmt: skip
# `np.load` would be safe with allow_pickle=False, but takes as much memory as a header claims.
METHODS = {"Unpickler", "extract", "extractall", "popen", "system", "unpack_archive"}
LOADERS = {"np", "numpy", "torch", "pickle", "joblib"}

# Modules by name, of which the name comes from bpx's own lists and from no file.
IMPORTS_BY_NAME = {
    *("__init__.py", "backends/_machine_code.py", "data/readers/_tables.py"),
    "backends/__init__.py",  # while something is unpickled, which runs code anyway
}


def dangers(source):
    """What a file has in it that could run code, or reach into other files."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in CALLS:
            yield function.id
        if isinstance(function, ast.Attribute):
            owner = getattr(function.value, "id", "")
            if function.attr in METHODS or (function.attr == "load" and owner in LOADERS):
                yield f"{owner}.{function.attr}"
        if "import_module" in (getattr(function, "id", ""), getattr(function, "attr", "")):
            yield from () if isinstance(node.args[0], ast.Constant) else ("import_module",)
        for keyword in node.keywords:
            fine = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in ("allow_pickle", "trust_remote_code", "shell") and not fine:
                yield keyword.arg


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_code_comes_out_of_a_file(path):
    found = set(dangers(path.read_text(encoding="utf-8")))
    if path.relative_to(ROOT).as_posix() in IMPORTS_BY_NAME:
        assert "import_module" in found
        found -= {"import_module"}
    assert not found


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from cloudpickle import loads", "eval(x)", "exec(x)", "__import__(x)",
     "np.load(path)", "torch.load(path)", "f(allow_pickle=True)", "f(allow_pickle=yes)",
     "archive.extractall()", "importlib.import_module(x)", "import_module(x)", "os.system(x)",
     "compile(x, '', 'exec')", "import tarfile", "import subprocess as s"],
)  # fmt: skip
def test_it_would_be_found(line):
    assert list(dangers(f"def f():\n    {line}"))


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors", "a.csv", "a.parquet"])
def test_a_pickle_in_a_file_is_left_alone(tmp_path, name):
    sign = tmp_path / "it ran"
    content = np.array([[Bomb(sign), 1.0]] * 20, dtype=object)
    if name == "a.npz":
        np.savez(tmp_path / name, x=content, y=np.zeros(20))
    elif name == "a.npy":
        np.save(tmp_path / name, content)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(sign)))
    for read in (bpx.load, bpx.open_data, lambda path: tables.read(path, None, labelled=False)):
        with pytest.raises((ValueError, ImportError), match=r"a\.|pyarrow"):
            read(tmp_path / name)
    assert not sign.exists()
    pickle.loads(pickle.dumps(Bomb(sign)))
    assert sign.exists(), "it would have run"


@pytest.mark.parametrize(
    "wrong", ["os.system", "__import__", "builtins.eval", "../relu", "bpx.cli"]
)
def test_a_name_in_a_model_is_looked_up_and_nothing_else(tmp_path, wrong):
    path = tmp_path / "a.safetensors"
    net = bpx.Network([2, 3, 2], seed=0)
    net.save(path)
    tensors, header = bpx.persistence.read(path)
    for place in ("cost", "activation", "layer", "weights", "generator"):
        changed = json.loads(json.dumps(header))
        if place == "cost":
            changed["cost"] = wrong
        elif place == "generator":
            changed["generator"]["bit_generator"] = wrong
        else:
            changed["layers"][0]["name" if place == "layer" else place] = wrong
        bpx.persistence.write(path, tensors, changed)
        with pytest.raises(bpx.FileFormatError, match=r"a\.safetensors: its header does not"):
            bpx.load(path)
