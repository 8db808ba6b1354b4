"""The available backends, each of them a parameter."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar
from unittest import mock

import cublas_on_host
import cuda_on_host
import numpy as np
import pytest

import bpx
from bpx.backends import Backend, BackendError, _cublas, _cudnn
from bpx.backends._cupy import CupyBackend
from bpx.backends._numpy import NumpyBackend
from bpx.training.interrupts import Interrupts

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
os.environ.setdefault("BPX_DATA", str(SHARED))
os.environ.pop("BPX_BACKEND", None)
os.environ["SCIPY_ARRAY_API"] = "1"  # or scikit-learn skips its array API checks


def pytest_addoption(parser):
    parser.addoption(
        "--standard-kernels",
        action="store_true",
        help="the whole suite with NumPy's native kernels switched off",
    )


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background processes, where tests of Ctrl-C would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        tqdm.monitor_interval = (
            0  # no thread of its own, which finds no memory where a test takes it
        )
    if config.getoption("--standard-kernels"):
        bpx.backends._cache["numpy"] = Backend("numpy", np)


def pytest_collection_modifyitems(items):
    """An example in a docstring runs in the session of one who has copied it, with no names."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.dtest.globs.clear()


def only_few(join):
    """As in CuPy's `_concatenate`: its kernel for many arrays takes a list of their addresses."""

    def joined(arrays, **options):
        if len(arrays) > 8:
            raise RuntimeError("a copy from the host's memory in a step that is captured")
        return join(arrays, **options)

    return joined


class CupyRehearsed(CupyBackend):
    """The CuPy backend's own code on NumPy's arrays: a device to whatever asks.

    Its CUDA kernels run too, compiled for the host; only their launch is replaced.
    """

    class Device(str):
        """NumPy takes "cpu"; CuPy's is a context, and is made the current one."""

        __slots__ = ()
        attributes: ClassVar = {"MaxSharedMemoryPerBlockOptin": cuda_on_host.SHARED}

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def use(self):
            pass

    def __init__(self, folder):
        super().__init__("cupy-rehearsed", np, self.Device("cpu"))
        self._kernels = cuda_on_host.Kernels(folder)
        self.cublas = cublas_on_host.Library()
        self._products = _cublas.Cublas(
            lambda: self.cublas, lambda: self.stream, self._bytes, self._address
        )
        self.install(None)

    def install(self, cudnn):
        """Take this for cuDNN's front end; None: it is not installed."""
        self._convolutions = _cudnn.Cudnn(
            lambda: cudnn, lambda: self.stream, self._bytes, self._address
        )

    def to_host(self, array):
        return np.asarray(array)

    @staticmethod
    def _address(array):
        return array.ctypes.data

    slot = Backend.slot  # there is no memory to pin
    stream = 0

    def surround(self, largest, processes=1, in_parts=False, elements=0):
        return contextlib.nullcontext()

    def capture(self, work):
        """Each replay does the same in Python, which must find its numbers on the device."""
        joining = {name: only_few(getattr(np, name)) for name in ("stack", "concat")}

        def replay():
            with mock.patch.multiple(np, **joining):
                work()

        return replay


NAMES = [
    "numpy",  # with compiled runs where Numba is installed
    "numpy-plain",  # without Numba
    "numpy-readonly",  # every input is read-only
    "numpy-standard",  # the standard kernels alone
    "array_api_strict",
    "array_api_strict:device1",
    "torch",
    "cupy-rehearsed",
    "cupy",
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A folder for what is compiled once, for all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def rehearsed(compiled):
    try:
        return CupyRehearsed(compiled)
    except cuda_on_host.NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture(params=NAMES)
def backend(request):
    """Each available backend; the others are skipped, with the reason."""
    name = request.param
    if name == "numpy-plain":
        return NumpyBackend()
    if name == "numpy-standard":
        return Backend("numpy", np)
    if name == "cupy-rehearsed":
        return request.getfixturevalue("rehearsed")
    try:
        return bpx.backends.get(name.removesuffix("-readonly"))
    except BackendError as error:
        if name == os.environ.get("BPX_REQUIRE"):  # or a run with nothing but skips would pass
            pytest.fail(f"BPX_REQUIRE={name}: {error}")
        pytest.skip(str(error))


@pytest.fixture
def put(backend, request):
    """Host values as an array of the backend, read-only for `numpy-readonly`."""
    readonly = "numpy-readonly" in request.node.name

    def move(values):
        array = backend.from_host(np.array(values))
        if readonly:
            array.flags.writeable = False
        return array

    return move


@pytest.fixture
def host(backend):
    """An array of the backend as a NumPy array."""
    return lambda array: np.array(backend.to_host(array))


@pytest.fixture(autouse=True)
def no_ctrl_c_before(monkeypatch):
    """Of another test, a moment ago: this one's would be taken for a second one."""
    monkeypatch.setattr(Interrupts, "_last", -math.inf)


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture
def at_the_end():
    """A function that copies an array to before a page, and behind one, that nobody may touch."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mprotect is called as it is on Linux")
    page, kept = mmap.PAGESIZE, []
    protect = ctypes.CDLL(None, use_errno=True).mprotect

    def copied(array):
        last = -(-array.nbytes // page) + 1
        memory = mmap.mmap(-1, (last + 1) * page)
        kept.append(memory)
        where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for place in (where, where + last * page):
            assert protect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0) == 0
        order, before = "C" if array.flags.c_contiguous else "F", last * page - array.nbytes
        found = np.ndarray(array.shape, array.dtype, memory, before, None, order)
        found[...] = array
        return found

    return copied


@pytest.fixture(scope="session")
def mnist():
    if not any((Path(os.environ["BPX_DATA"]) / "mnist").glob("train-images*")):
        pytest.skip("no MNIST: set BPX_DATA to a folder with mnist/train-images-idx3-ubyte.gz")
    return bpx.datasets.mnist()
