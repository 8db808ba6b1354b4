"""Machine code of compiled functions, on the disk, for processes that need not import Numba.

To import Numba takes 0.6 s. What LLVM made of a function is an object file, which LLVM loads by
itself: then a process trains in compiled loops after a tenth of a second. Such a function is
called by its address, with whole numbers, reals and arrays.

There is a file for each function, processor and version of what made it. Where one is missing, or
LLVM would not find what it calls, Numba is imported and compiles.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..writing import replace
from . import _cblas

KINDS: dict[str, Any] = {
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "void*": ctypes.py_object,  # an array
    "none": None,
}
# What Numba would have these functions call where something is raised: nothing is.
OF_ERRORS = (
    *("numba_gil_ensure", "numba_gil_release", "numba_unpickle", "numba_do_raise"),
    *("numba_runtime_build_excinfo_struct", "NRT_Free", "NRT_MemInfo_call_dtor"),
)
# Settings of Numba's that do not change the code. joblib sets the first in its processes.
ELSEWHERE = {
    *("NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY"),
    *("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT"),
}
# What mends that nothing is kept, and what does not.
CHOOSE = "set NUMBA_CACHE_DIR in the environment to a folder that can be written to"
NO_FILES = (
    "compiled functions cannot be kept on the disk, since the modules of bpx and Numba are not "
    "all files here, as in a zip or a frozen program"
)
# The end of the word on compiling, of the function that is being made; empty: there is none.
COMPILING: ContextVar[str] = ContextVar("COMPILING", default="")
ELF = b"\x7fELF\x02\x01"  # of 64 bits, the lowest byte first
SYMBOL = np.dtype(
    [("name", "<u4"), ("kind", "V2"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)


@dataclass(frozen=True)
class MachineCode:
    """A function: where it lies, for compiled code, and as ctypes calls it, without the GIL.

    It lies there as long as its owner is held.
    """

    address: int
    call: Callable[..., Any]
    owner: Any


_loaded: dict[tuple[Any, ...], MachineCode] = {}
_lock = threading.Lock()


def _renew() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may hold it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def load(module: str, maker: str, *dtypes: np.dtype[Any]) -> MachineCode:
    """The function that ``module.maker(*dtypes)`` compiles, in a module of this folder.

    It is the same one for all threads, and held for good.
    """
    found = _loaded.get((module, maker, *dtypes))
    if found is None:
        with _lock:  # or each of two threads would load it, and one of these be freed in use
            found = _loaded.get((module, maker, *dtypes))
            if found is None:
                found = _loaded[(module, maker, *dtypes)] = _load(module, maker, *dtypes)
    return found


def _load(module: str, maker: str, *dtypes: np.dtype[Any], ahead: bool = False) -> MachineCode:
    name = name_of(module, maker, *dtypes)
    try:
        found = _linked(*_read(name))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):  # none, or nothing whole
        found = None
    if found is None:
        try:
            importlib.import_module("numba")
        except Exception as error:  # which fails in many ways
            hint = "or do without it: BPX_FAST=0 in the environment"
            raise ImportError(f"{_unusable(error)}, {hint}") from error
        COMPILING.set(_duration(dtypes, ahead))
        made = getattr(importlib.import_module(f".{module}", __package__), maker)(*dtypes)
        found = MachineCode(made.address, _callable(made.kinds, made.address), made)
        code = made.object_file
        if code.startswith(ELF):
            _write(name, made.kinds, made.native_name, code)
    return found


def _duration(dtypes: tuple[np.dtype[Any], ...], ahead: bool) -> str:
    """How long compiling takes, and what does it beforehand; empty for what takes no second."""
    if not dtypes:
        return ""
    if ahead:
        return "it takes about half a minute for each dtype of networks"
    command = "bpx compile" + " --dtype float64" * (dtypes[-1].name == "float64")
    return (
        f"it takes up to about 15 seconds ({command} does all of it beforehand, BPX_FAST=0 "
        "avoids it)"
    )


def name_of(module: str, maker: str, *dtypes: np.dtype[Any]) -> str:
    """Of a function, in the name of its file."""
    return "-".join([module, maker, *(dtype.name for dtype in dtypes)])


def keep(module: str, maker: str, *dtypes: np.dtype[Any]) -> tuple[Path, bool]:
    """Have on the disk what `load` takes: the folder, and whether it had to be compiled.

    It is not that of `load`, which may be held from before another folder was chosen.
    """
    name, began = name_of(module, maker, *dtypes), time.perf_counter()
    found = _load(module, maker, *dtypes, ahead=True)
    was_missing = _is_new(found)
    if was_missing:
        found = _load(module, maker, *dtypes, ahead=True)
    path = next(filter(Path.is_file, _paths(name)), None)
    if _is_new(found) or (path is None and found.owner.object_file.startswith(ELF)):
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        where = f"in {chosen}, which NUMBA_CACHE_DIR names" if chosen else "on the disk"
        raise OSError(f"compiled functions cannot be kept {where}: {CHOOSE}")
    if was_missing:
        seconds = time.perf_counter() - began
        logging.getLogger("bpx").info("compiled %s in %.1f s", name, seconds)
    return Path(found.owner.folder) if path is None else path.parent, was_missing


def _is_new(found: MachineCode) -> bool:
    """Whether it was compiled, and not loaded, by this file's means or from Numba's own cache."""
    return getattr(found.owner, "cache_hits", 1) == 0


def is_usable() -> bool:
    """Whether Numba has compiled here before, or else can be imported, which takes 0.6 s.

    If not, a line in bpx's log says why. What it has not compiled before may still need it later:
    then an error says how to do without. In a zip or a frozen program each process would have to
    compile, for 15 seconds and more.
    """
    return _are_files() and (_has_compiled() or _is_imported())


@cache
def _are_files() -> bool:
    try:
        versions()
    except OSError:
        logging.getLogger("bpx").info("%s: NumPy does their work", NO_FILES)
        return False
    return True


@cache
def _is_imported() -> bool:
    try:
        importlib.import_module("numba")
    except Exception as error:  # by a version of NumPy, a library of LLVM's, or a setting
        log, hint = logging.getLogger("bpx"), "until then NumPy does its work"
        log.warning("%s; %s", _unusable(error), hint)
        return False
    return True


def _unusable(error: Exception) -> str:
    return f"Numba is installed, but does not import ({error}): upgrade it (pip install -U numba)"


def _has_compiled() -> bool:
    with suppress(OSError, ImportError, AttributeError):  # no llvmlite, or the rest of one
        return any(any(path.parent.glob(path.name)) for path in _paths("*"))
    return False


def _callable(kinds: list[str], address: int) -> Callable[..., Any]:
    return ctypes.CFUNCTYPE(*(KINDS[kind] for kind in kinds))(address)


# --- on the disk --------------------------------------------------------------------------------


def _paths(name: str) -> list[Path]:
    """In the folder of Numba's setting, or beside the modules' code or in the user's cache."""
    folders = [Path(__file__).with_name("__pycache__")]
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        folders = [Path(chosen)]
    elif not sys.platform.startswith("win"):
        with suppress(RuntimeError):  # a user without a name, and so without a folder
            base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            folders.append(base / "bpx")
    return [folder / f"bpx-{name}.{_key()}.o" for folder in folders]


def _read(name: str) -> tuple[list[str], str, bytes]:
    """The kinds of its result and arguments, its name in the object file, and that."""
    path = next(filter(Path.is_file, _paths(name)), None)
    if path is None:
        raise FileNotFoundError(name)
    digest, header, code = path.read_bytes().split(b"\n", 2)
    if hashlib.sha256(header + code).hexdigest() != digest.decode():
        raise ValueError("only a part of it was written")
    kinds, function = json.loads(header)
    return kinds, function, code


def _write(name: str, kinds: list[str], function: str, code: bytes) -> None:
    """In the first folder that can be written to, if there is one."""
    header = json.dumps([kinds, function]).encode()
    digest = hashlib.sha256(header + code).hexdigest().encode()
    with suppress(OSError):  # no version of what made it
        for path in _paths(name):
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace(path, b"\n".join([digest, header, code]))
                return


@cache
def _key() -> str:
    """Of the sources, of what compiles them, of its settings, and of the processor."""
    import llvmlite

    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in ELSEWHERE
    }
    parts = (
        *(*versions(), llvmlite.__version__),
        np.__version__.rpartition(".")[0],  # for which Numba has limits
        *(sorted(settings.items()), sys.implementation.cache_tag, object.__basicsize__),
        *(sys.platform, *_processor()),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _processor() -> tuple[str, str]:
    """The name and features that Numba compiles for: this one's, or those of its settings."""
    from llvmlite import binding

    name, features = map(os.environ.get, ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    return (
        binding.get_host_cpu_name() if name is None else name,
        binding.get_host_cpu_features().flatten() if features is None else features,
    )


def versions() -> tuple[str, bytes]:
    """Of the sources and of Numba; an OSError where they are not files."""
    numba = importlib.util.find_spec("numba")
    if numba is None or numba.origin is None:
        raise FileNotFoundError("numba")
    return stamp(), Path(numba.origin).with_name("_version.py").read_bytes()


def sources() -> list[Path]:
    """The files of compiled functions, and those that they take functions and constants from."""
    folder = Path(__file__).parent
    others = (
        *("_aligned", "_cblas", "_codes", "_fast_run", "_jit", "_machine_code", "_rows"),
        *("_threads", "../random"),
    )
    return sorted(folder.glob("_numba*.py")) + [folder / f"{name}.py" for name in others]


@cache
def stamp() -> str:
    """Of these files; an OSError where they are none."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources())).hexdigest()


# --- without Numba ------------------------------------------------------------------------------


def _linked(kinds: list[str], name: str, code: bytes) -> MachineCode | None:
    """The function of this name in an object file; None if that calls what LLVM does not find.

    LLVM would end the process.
    """
    from llvmlite import binding

    engine = _engine()
    for dtype, blas in _cblas.by_dtype().items():
        binding.add_symbol(_cblas.SYMBOL.format(dtype), blas.address)
    for each in _called(code):
        if each in OF_ERRORS and binding.address_of_symbol(each) is None:
            binding.add_symbol(each, binding.address_of_symbol("abort"))
        if binding.address_of_symbol(each) is None:
            return None
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(name)
    return MachineCode(address, _callable(kinds, address), engine)


def _called(code: bytes) -> list[str]:
    """What an object file names and does not define."""
    from llvmlite import binding

    of_file = binding.ObjectFileRef.from_data(code)
    sections = {section.name(): section.data() for section in of_file.sections()}
    names, symbols = sections[b".strtab"], np.frombuffer(sections[b".symtab"], SYMBOL)
    elsewhere = symbols["name"][symbols["section"] == 0]
    return [names[at : names.index(b"\0", at)].decode() for at in elsewhere if at]


def _engine() -> Any:
    """One for each function: the same name may be in two files."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
