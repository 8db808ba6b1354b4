"""Compiled functions where there is no memory: an error, or the same numbers without copies."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")

from numba import cfunc, types

import bpx
from bpx.backends import _fast, _fast_run, _fast_steps, _machine_code

RAW = 0  # of Python's allocators, the one that compiled functions call


class Allocator(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")
    ]


@cfunc(types.intp(types.intp, types.intp))
def nothing(context, size):
    return 0


@contextmanager
def no_memory():
    """Compiled functions find none, nor does Python for anything larger than 512 bytes."""
    own, none = Allocator(), Allocator()
    for each in (own, none):
        ctypes.pythonapi.PyMem_GetAllocator(RAW, ctypes.byref(each))
    none.malloc = nothing.address
    replace, ways = ctypes.pythonapi.PyMem_SetAllocator, (ctypes.byref(none), ctypes.byref(own))
    replace(RAW, ways[0])
    try:
        yield
    finally:
        replace(RAW, ways[1])


@pytest.fixture
def starve(monkeypatch):
    """Run one compiled function of a module without memory; what has been called."""
    load, called = _machine_code.load, []

    class Function:
        def __init__(self, name, found):
            self.name, self.found = name, found

        def call(self, *arguments):
            called.append(self.name)
            with no_memory():
                return self.found.call(*arguments)

    def starved(module):
        def loaded(of, name, *kinds):
            found = load(of, name, *kinds)
            return Function(name, found) if of == module else found

        monkeypatch.setattr(_machine_code, "load", loaded)
        return called

    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setitem(bpx.backends._cache, "numpy", _fast.FastBackend())  # in any run of tests
    return starved


@pytest.mark.parametrize("rows", [1, 3, 2000])
def test_a_prediction_says_so(starve, rows):
    starve("_numba_layers")
    net, x = bpx.Network([4, 50, 3], backend="numpy"), np.ones((rows, 4), np.float32)
    with pytest.raises(MemoryError, match=r"^there is no memory for the activations: pass fewer"):
        net.feedforward(x)


@pytest.mark.parametrize("kernel", ["batch_norm", "running_norm"])
def test_a_norm_says_so(starve, kernel):
    called, rng = starve("_numba_norms"), np.random.default_rng(0)
    x, vectors = rng.random((6, 5)), np.ones((5, 5))
    of_batch = 0.1, 1e-5, vectors[4], np.empty_like(x), np.empty_like(x)
    others = of_batch if kernel == "batch_norm" else (1e-5,)
    with pytest.raises(
        MemoryError, match=r"^there is no memory for a step of a layer: take small"
    ):
        getattr(_fast.FastBackend(), kernel)(x, *vectors[:4], *others)
    assert called == [kernel]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [True, False])
def test_tiles_multiply_without_copies(starve, turned, dtype):
    called, rng = starve("_numba_tiles"), np.random.default_rng(1)
    # Lines of 4 KiB and more are copied otherwise.
    a, b = rng.random((70, 1200)).astype(dtype), rng.random((1200, 1100)).astype(dtype)
    b = np.ascontiguousarray(b.T).T if turned else b
    for beta in (0.0, 0.5):
        out = np.full((70, 1100), np.nan if beta == 0.0 else 2.0, dtype)
        _fast_run.gemm(0.25, a, b, beta, out)
        expected = 0.25 * (a.astype("float64") @ b) + (beta * 2.0 if beta else 0.0)
        np.testing.assert_allclose(out, expected, rtol=2e-5 if dtype == "float32" else 1e-12)
    assert called


def test_a_layer_is_done_the_other_way(starve):
    called, rng = starve("_numba_products"), np.random.default_rng(2)
    x, w, b = rng.random((40, 30)), rng.random((11, 30)), rng.random(11)
    out = np.empty((40, 11))
    _fast_run.affine(x, w, b, out)
    np.testing.assert_allclose(out, x @ w.T + b, rtol=1e-13)
    assert called


@pytest.mark.parametrize("sizes", [[30, 20, 3], [1024, 256, 3]])  # the second by BLAS
def test_a_run_goes_on(monkeypatch, starve, sizes):
    monkeypatch.setattr(_fast_steps, "worth", lambda program: 1)
    rng = np.random.default_rng(3)
    x, y = rng.random((64, sizes[0])), rng.integers(0, sizes[-1], 64)

    def trained():
        net = bpx.Network(sizes, dtype="float64", seed=4, backend="numpy")
        net.fit(x, y, epochs=2, batch_size=32)
        return net.parameters

    expected, called = trained(), starve("_numba_steps")
    np.testing.assert_allclose(trained(), expected, rtol=1e-9, atol=1e-12)
    assert called
