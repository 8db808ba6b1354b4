"""Machine code on the disk: what is read, what is not, and what is made anew."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")

import bpx
from bpx import random
from bpx.backends import Backend, _fast, _fast_windows, _machine_code
from bpx.layers.sliding import Sliding
from bpx.optimizers import State

if not sys.platform.startswith("linux"):
    pytest.skip("object files are kept on Linux alone", allow_module_level=True)

STEP, ROW, LIMIT = 0x9E3779B97F4A7C15, 3, random.threshold(0.5)  # the first takes all 64 bits


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Of a process that begins: a mask, and whether Numba has made or loaded the function."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))

    def begun():
        monkeypatch.setattr(_machine_code, "_loaded", {})
        _machine_code._key.cache_clear()
        found = _machine_code.load("_numba_random", "keep")
        out = np.empty((3, 50), bool)
        found.call(STEP, ROW, LIMIT, out)
        return out.tobytes(), hasattr(found.owner, "cache_hits")

    yield begun
    _machine_code._key.cache_clear()


def files(tmp_path):
    return sorted((tmp_path / "kept").glob("bpx-*.o"))


def test_a_function_that_is_kept_is_called_without_numba(keep, tmp_path):
    mask, by_numba = keep()
    assert by_numba
    assert 0 < np.frombuffer(mask, bool).sum() < len(mask)
    (path,) = files(tmp_path)
    assert path.name.startswith("bpx-_numba_random-keep.")
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing half written
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it
    assert keep() == (mask, False)


BROKEN = r"Numba is installed, but does not import \(needs NumPy 2\.1 or less\): upgrade it"


@pytest.fixture
def broken(monkeypatch):
    """A Numba that is too old for the NumPy that is here."""
    monkeypatch.setenv("BPX_FAST", "1")
    load = importlib.import_module

    def refuse(name, package=None):
        if name == "numba":
            raise ImportError("needs NumPy 2.1 or less")
        return load(name, package)

    monkeypatch.setattr(_machine_code.importlib, "import_module", refuse)
    _machine_code._is_imported.cache_clear()
    yield
    _machine_code._is_imported.cache_clear()


def test_a_numba_that_does_not_import_is_done_without(keep, broken, caplog):
    for _ in range(3):
        assert not _fast.installed()
    (told,) = caplog.messages  # once
    assert re.match(BROKEN, told)
    assert told.endswith("; until then NumPy does its work")
    with pytest.raises(ImportError, match=BROKEN + ".* BPX_FAST=0 in the environment"):
        keep()


def test_where_numba_has_compiled_it_is_not_imported(keep, monkeypatch):
    keep()
    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setattr(_machine_code, "_is_imported", lambda: pytest.fail("imported"))
    assert _fast.installed()


def test_threads_that_come_at_once_get_the_same_function(monkeypatch):
    """Of two, one would be freed while the other thread is in it."""
    made, together = [], threading.Barrier(4)

    def slow(*names):
        time.sleep(0.05)
        made.append(_machine_code.MachineCode(len(made), print, None))
        return made[-1]

    def work(_):
        together.wait(60)
        return _machine_code.load("_numba_random", "keep")

    monkeypatch.setattr(_machine_code, "_load", slow)
    monkeypatch.setattr(_machine_code, "_loaded", {})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert found == made * 4


def damage(path, name):
    digest, header, code = path.read_bytes().split(b"\n", 2)
    path.write_bytes(
        {
            "empty": b"",
            "cut off": path.read_bytes()[:-100],
            "one byte": b"\n".join([digest, header, code[:500] + b"?" + code[501:]]),
            "another header": b"\n".join([digest, b"[1, 2]", code]),
            "no digest": header + b"\n" + code,
        }[name]
    )


@pytest.mark.parametrize(
    "name", ["empty", "cut off", "one byte", "another header", "no digest", "a folder"]
)
def test_what_is_not_whole_is_made_anew(keep, tmp_path, name):
    mask, _ = keep()
    (path,) = files(tmp_path)
    if name == "a folder":
        path.unlink()
        path.mkdir()
        assert keep() == (mask, True)
        return
    damage(path, name)
    assert keep() == (mask, True)
    assert keep() == (mask, False)


def test_what_calls_something_that_is_not_there_is_left_to_numba(keep, monkeypatch):
    mask, _ = keep()
    known = _machine_code._called
    monkeypatch.setattr(_machine_code, "_called", lambda code: [*known(code), "no_such_function"])
    assert keep() == (mask, True)


def test_another_kind_of_object_file_is_not_kept(keep, monkeypatch, tmp_path):
    monkeypatch.setattr(_machine_code, "ELF", b"\xcf\xfa\xed\xfe")  # of macOS
    assert keep()[1]
    assert files(tmp_path) == []
    folder, was_missing = _machine_code.keep("_numba_random", "keep")  # by Numba
    assert not was_missing
    assert any(folder.glob("*.nbi"))


def test_settings_that_do_not_change_the_code_leave_what_is_kept(keep, monkeypatch):
    """joblib sets one of them in its processes, and each would compile anew."""
    mask, _ = keep()
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert keep() == (mask, False)


def test_another_processor_or_setting_has_files_of_its_own(keep, monkeypatch, tmp_path):
    keep()
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert keep()[1]
    assert len(files(tmp_path)) == 2
    from llvmlite import binding

    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: "another")
    assert keep()[1]
    assert len(files(tmp_path)) == 3


def test_a_processor_that_is_named_has_one_file_wherever_it_is_compiled(keep, monkeypatch):
    """As for an image that runs on several. A name alone leaves the features of this one."""
    from llvmlite import binding

    def key(host):
        monkeypatch.setattr(binding, "get_host_cpu_name", lambda: host)
        features = binding.FeatureMap({host: True})
        monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
        _machine_code._key.cache_clear()
        return _machine_code._key()

    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v3")
    assert key("one") != key("another")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    assert key("one") == key("another")


def test_nowhere_to_write(keep, monkeypatch, tmp_path):
    """Numba says so, if it cannot either."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    first, again = keep(), keep()
    assert first == again
    assert again[1]


def test_a_chosen_folder_that_cannot_be_written_to_is_told_once(
    keep, monkeypatch, tmp_path, caplog
):
    """Numba goes on beside the modules, or in the user's cache, and says nothing."""
    from numba.core import caching

    from bpx.backends import _jit

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "file"))  # it is read but once
    known = caching.CacheImpl._locator_classes
    others = [kind for kind in known if "InTree" not in kind.__name__]  # beside the modules
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", others)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_jit, "_told", False)
    assert keep() == keep()
    (told,) = [message for message in caplog.messages if "compiling what" not in message]
    assert told.startswith(f"NUMBA_CACHE_DIR names {tmp_path}/file, which cannot be written to")
    assert re.search(r"keeps compiled functions in \S*/cache/numba/\S*, and each", told)


def test_a_package_that_cannot_be_written_to(keep, monkeypatch, tmp_path):
    """The user's cache; what lies beside the package comes first."""
    _machine_code.stamp()  # of the real sources
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text("")
    (tmp_path / "package/__pycache__").write_text("in the way")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_machine_code, "__file__", str(tmp_path / "package/module.py"))
    mask, _ = keep()
    (path,) = (tmp_path / "cache/bpx").iterdir()
    assert keep() == (mask, False)
    (tmp_path / "package/__pycache__").unlink()
    (tmp_path / "package/__pycache__").mkdir()
    path.rename(tmp_path / "package/__pycache__" / path.name)
    assert keep() == (mask, False)


def test_a_user_without_a_folder_of_his_own(keep, monkeypatch, tmp_path):
    """As in a container that runs under a number without a name."""

    def without_one(_):
        raise RuntimeError("Could not determine home directory.")

    _machine_code.stamp()  # of the real sources
    (tmp_path / "module.py").write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(_machine_code.Path, "expanduser", without_one)
    monkeypatch.setattr(_machine_code, "__file__", str(tmp_path / "module.py"))
    mask, _ = keep()
    assert keep() == (mask, False)
    assert len([*(tmp_path / "__pycache__").iterdir()]) == 1


IN_A_ZIP = """
import logging, sys
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
import bpx
for _ in range(2):
    net = bpx.Network([3, 2], seed=0)
    net.fit([[0.0, 1.0, 2.0]], [1], epochs=1)
    net.predict([[0.0, 1.0, 2.0]])
assert "bpx.zip" in bpx.__file__
print(type(net.backend).__name__, "numba" in sys.modules)
try:
    bpx.backends.compile()
except OSError as error:
    print(error)
from bpx.backends import _cuda
assert "__global__" in _cuda.source()
"""


def test_in_a_zip_numpy_does_the_work(tmp_path):
    """Versions could not be told apart, so nothing could be kept: each process would compile."""
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    package = Path(bpx.__file__).parent
    shutil.make_archive(str(tmp_path / "bpx"), "zip", package.parent, package.name)
    settings = {"PYTHONPATH": str(tmp_path / "bpx.zip"), "BPX_FAST": "1"}
    environment = os.environ | settings | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    command = [sys.executable, "-c", IN_A_ZIP]
    found = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    why = "bpx and Numba are not all files here, as in a zip or a frozen program: "
    (told,) = found.stderr.splitlines()
    assert told.startswith("INFO compiled functions cannot be kept")
    assert told.endswith(why + "NumPy does their work")
    backend, error = found.stdout.splitlines()
    assert backend == "NumpyBackend False"
    assert error.endswith(why + "install them with pip")
    assert not (tmp_path / "kept").exists()


# --- ahead of the runs ---------------------------------------------------------------------------


def test_a_function_is_kept_ahead(keep, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", "bpx")
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "kept"))  # it is read but once
    kept = [_machine_code.keep("_numba_random", "keep") for _ in range(2)]
    assert kept == [(tmp_path / "kept", True), (tmp_path / "kept", False)]
    told = [message for message in caplog.messages if "compiling what" not in message]
    assert len(told) == 1
    assert re.fullmatch(r"compiled _numba_random-keep in \d+\.\d s", told[0])
    assert not keep()[1]


CANNOT_BE_KEPT = (
    "cannot be kept in .*file, which NUMBA_CACHE_DIR names: set NUMBA_CACHE_DIR in the"
)


def test_a_function_that_cannot_be_kept_is_an_error(keep, monkeypatch, tmp_path):
    """At once, and whatever Numba keeps elsewhere."""
    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    _machine_code._key.cache_clear()
    for _ in range(2):
        with pytest.raises(OSError, match=CANNOT_BE_KEPT):
            bpx.backends.compile()


@pytest.mark.parametrize(
    ("name", "value"), [("BPX_FAST", "0"), ("NUMBA_DISABLE_JIT", "1")], ids=str
)
def test_what_is_switched_off_is_not_compiled_ahead(monkeypatch, name, value):
    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setenv(name, value)
    told = f"{name}={value} in the environment switches compiled functions off: unset it"
    with pytest.raises(bpx.backends.BackendError, match=told):
        bpx.backends.compile()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = r"compiled functions need numba and scipy: pip install numba scipy threadpoolctl"
    with pytest.raises(bpx.backends.BackendError, match=told):
        bpx.backends.compile()


def test_networks_have_no_other_dtype():
    told = "expected dtypes 'float32' or 'float64', got 'float16'"
    with pytest.raises(ValueError, match=told):
        bpx.backends.compile("float32", "float16")


def test_a_full_disk_leaves_no_part_of_a_file(keep, monkeypatch, tmp_path):
    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert keep()[1]
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_memory_for_rows():
    code = """
import resource
import numpy as np
from bpx.backends import _fast, _rows
from bpx.layers.sliding import Sliding
sliding = Sliding((1000, 1000), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
x, w = np.zeros((1, 16, 1000, 1000), np.float32), np.zeros((16, 16, 3, 3), np.float32)
kernels, out = _fast.FastBackend(), np.empty_like(x)
small = Sliding((9, 9), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
some = np.zeros((1, 16, 9, 9), np.float32)
kernels.convolve(some, w, small, None, np.empty_like(some))  # loaded or compiled
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 60_000_000, -1))
try:
    kernels.convolve(x, w, sliding, None, out)
except MemoryError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = "there is no memory for a step of a layer: take smaller batches\n"
    errors = [line for line in found.stderr.splitlines() if not line.startswith("compiling what")]
    assert (found.stdout, errors) == (message, [])


def test_a_function_that_found_no_memory_is_an_error(monkeypatch):
    class Found:
        def call(self, *arguments):
            return 1

    monkeypatch.setattr(_machine_code, "load", lambda *names: Found())
    with pytest.raises(MemoryError, match="no memory for a step of a layer: take smaller"):
        _fast_windows.call("_numba_rows", "convolve", np.zeros(1))


def test_another_order_of_bytes_is_not_given_to_machine_code():
    native = np.dtype(np.float32)
    for kind, dense in ((native, True), (native.newbyteorder("S"), False)):
        assert _fast_windows.are_dense(np.zeros(3, kind), np.zeros(3, kind)) is dense


PAIRS = Sliding((4, 6), (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0)))
# Of each kernel, the shapes of what it reads, of numbers, and of what it writes.
OF_ARRAYS = {
    "moments": [(3, 4, 2, 5), (4,), (3, 4, 2, 5), (2, 4)],
    "batch_statistics": [(4,), (2, 4), (4,), (4,), (4,), (4,), 30.0, 0.1, 1e-5, (5, 4)],
    "normalize": [(3, 4, 2, 5), (5, 4), (3, 4, 2, 5), (3, 4, 2, 5)],
    "normalize_sums": [(3, 4, 2, 5), (3, 4, 2, 5), (3, 4, 2, 5), (2, 4)],
    "normalize_backward": [(3, 4, 2, 5), (3, 4, 2, 5), (2, 4), (4,)],
    "fold": [(3, 2, 2, 2, 2, 3), PAIRS, (3, 2, 4, 6)],
    "window_max": [(3, 2, 4, 6), PAIRS, (3, 2, 2, 3)],
    "window_max_backward": [(3, 2, 2, 3), (3, 2, 4, 6), (3, 2, 2, 3), PAIRS, (3, 2, 4, 6)],
}


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_an_array_with_gaps_is_not_given_to_machine_code(monkeypatch, name):
    """Each of them in turn; the result is that of arrays without gaps."""
    kernels, standard = _fast.FastBackend(), Backend("numpy", np)
    called = []
    monkeypatch.setattr(_machine_code, "load", lambda *names: called.append(names))

    def arrays(gapped):
        rng = np.random.default_rng(0)
        for at, each in enumerate(OF_ARRAYS[name]):
            if not isinstance(each, tuple):
                yield each
            else:
                array = rng.random((*each, 2))  # of which one number in two is taken
                yield array[..., 0] if at == gapped else np.ascontiguousarray(array[..., 0])

    places = [at for at, each in enumerate(OF_ARRAYS[name]) if isinstance(each, tuple)]
    unused = {"moments": [2], "normalize_sums": [2]}.get(name, [])  # `room`, which NumPy's fills
    for gapped in (at for at in places if at not in unused):
        expected, found = list(arrays(None)), list(arrays(gapped))
        getattr(standard, name)(*expected)
        getattr(kernels, name)(*found)
        for at in (at for at in places if at not in unused):
            assert np.abs(found[at] - expected[at]).max() <= 1e-12
    assert called == []


@pytest.mark.parametrize("gapped", ["mean", "square"])
def test_a_slot_with_gaps_is_not_given_to_machine_code(monkeypatch, gapped):
    """One that a user has set: `Optimizer.check` asks for its shape and its dtype."""
    kernels, standard, adam = _fast.FastBackend(), Backend("numpy", np), bpx.Adam(0.1)
    called = []
    monkeypatch.setattr(_machine_code, "load", lambda *names: called.append(names))
    rng, n = np.random.default_rng(0), 3 * _fast.SMALL
    grad, found, expected = rng.normal(size=n), np.zeros(n), np.zeros(n)
    for backend, theta in ((kernels, found), (standard, expected)):
        slots = {name: np.zeros((n, 1 + (name == gapped)))[:, 0] for name in adam.slots()}
        state = State(backend, n, slots)
        for step in range(2):
            backend.optimize(adam, theta, grad.copy(), state, step, adam.scalars(state, step))
    assert np.abs(found - expected).max() <= 1e-12
    assert called == []


@pytest.mark.parametrize("error", [ImportError, AttributeError])
def test_no_llvmlite_or_the_rest_of_one(monkeypatch, error):
    """A folder without its modules imports, as an empty package."""

    def without_it():
        raise error

    monkeypatch.setattr(_machine_code, "_key", without_it)
    assert not _machine_code._has_compiled()
