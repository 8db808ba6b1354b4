"""BLAS in NumPy's library and in SciPy's: the same results, found or not."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
from test_kernels import worst_difference

import bpx
from bpx.backends import _cblas, _numpy, _scipy, _threads
from bpx.backends._base import Backend
from bpx.backends._numpy_elementwise import constant
from bpx.optimizers import State

LIBRARIES = {
    "NumPy's": _cblas.by_dtype,
    "SciPy's": _scipy.blas_by_dtype,
    "none": dict,
}


def found(library):
    by_dtype = LIBRARIES[library]()
    if not by_dtype and library != "none":
        pytest.skip(f"{library} BLAS is not found here")
    return by_dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gemm", "affine", "axpby", "square", "sum_rows", "optimize"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_gives_what_the_standard_gives(rng, library, name, dtype):
    kernels = _numpy.NumpyBackend()
    kernels.blas = found(library)
    assert worst_difference(kernels, name, dtype, rng) <= 16 * np.finfo(dtype).eps


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_adam_takes_blas_only_by_one_thread(rng, threads, monkeypatch):
    """Several would wait for each other at each of many short passes."""
    kernels, called = _numpy.NumpyBackend(), []
    own = found("NumPy's")[np.dtype(np.float32)]

    class Counted:
        def axpy(self, *arguments):
            called.append(1)
            own.axpy(*arguments)

    kernels.blas = {np.dtype(np.float32): Counted()}
    monkeypatch.setattr(_threads, "of_blas", lambda: threads)
    grad = rng.normal(size=40_000).astype(np.float32)
    thetas, adam = [], bpx.Adam(0.1)
    for each in (kernels, Backend("numpy", np)):
        slots = {name: np.ones_like(grad) for name in adam.slots()}
        theta, state = np.ones_like(grad), State(each, 0, slots, step=3)
        each.optimize(adam, theta, grad.copy(), state, 3, adam.scalars(state, 3))
        thetas.append(theta)
    assert np.allclose(*thetas, rtol=1e-6)
    assert len(called) == (3 if threads == 1 else 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", [name for name in LIBRARIES if name != "none"])
def test_products_of_all_layouts(rng, library, dtype):
    blas, eps = found(library)[np.dtype(dtype)], np.finfo(dtype).eps

    def drawn(*shape, turned=False, writable=True):
        array = rng.normal(size=shape[::-1] if turned else shape).astype(dtype)
        array.flags.writeable = writable
        return array.T if turned else array

    for m, n, k in ((1, 1, 1), (3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (40, 70, 90)):
        for layout in range(8):
            a = drawn(m, k, turned=layout & 1, writable=not layout & 4)
            b = drawn(k, n, turned=layout & 2, writable=not layout & 4)
            out = drawn(m, n)
            once, twice = 0.5 * out + 2.0 * (a @ b), 0.25 * out + 3.0 * (a @ b)
            product, size = blas.prepared(a, b, out), 1.0 + (np.abs(a) @ np.abs(b)).max()
            product(2.0, 0.5)
            assert np.abs(out - once).max() <= 16 * eps * size
            product(2.0, 0.5)
            assert np.abs(out - twice).max() <= 16 * eps * size
            blas.gemm(-3.0, a, b, 4.0, out)
            assert np.abs(out - 4.0 * twice + 3.0 * (a @ b)).max() <= 64 * eps * size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n"), [(70, 40), (40, 70)])
def test_large_products_are_dealt_where_blas_has_one_thread(monkeypatch, rng, m, n, dtype):
    """By the longer side of the result, and not again within a part."""
    found("NumPy's")
    monkeypatch.setattr(_threads, "ONE_CORE", 100_000)
    monkeypatch.setattr(_numpy, "ONE_THREAD", 1_000)
    kernels, spread, parts = _numpy.NumpyBackend(), _threads.spread, []

    def counted(work, count, watch=None):
        parts.append(count)
        spread(work, count, watch)

    monkeypatch.setattr(_threads, "spread", counted)
    a, b = (rng.normal(size=shape).astype(dtype) for shape in ((m, 80), (80, n)))
    turned = np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T
    size = (np.abs(a) @ np.abs(b)).max()
    for left, right in ((a, b), (turned[0], b), (a, turned[1]), turned):
        for alpha, beta in ((1.0, 0.0), (-2.0, 0.5)):
            out = rng.normal(size=(m, n)).astype(dtype)
            expected = beta * out + alpha * (a @ b)
            with _threads.limited(1, 3):
                kernels.gemm(left, right, out, alpha, beta)
            assert np.abs(out - expected).max() <= 16 * np.finfo(dtype).eps * (size + 4.0)
    assert parts == 8 * [3]
    kernels.gemm(a, b, out)
    with _threads.limited(2):  # BLAS deals by itself
        kernels.gemm(a, b, out)
    with _threads.limited(1, 3):
        kernels.gemm(a[:10], b, out[:10])  # a small one
        for rows, columns in ((40, 35), (20, 70)):  # a middling one, and one of few rows
            ones = np.ones((rows, 80), dtype), np.ones((80, columns), dtype)
            assert np.array_equal(
                kernels.gemm(*ones, np.empty((rows, columns), dtype)), ones[0] @ ones[1]
            )
        counted(lambda k: kernels.gemm(a, b, np.empty_like(out)), 2)
    assert parts == [*(8 * [3]), 2, 2]
    x, w = rng.normal(size=(32, 300)).astype(dtype), rng.normal(size=(60, 300)).astype(dtype)
    with _threads.limited(1, 3):
        for rows in (31, 32):
            through = kernels.affine(x[:rows], w, w[:, 0], np.empty((rows, 60), dtype))
            wrong = np.abs(through - (x[:rows] @ w.T + w[:, 0])).max()
            assert wrong <= 16 * np.finfo(dtype).eps * (np.abs(x) @ np.abs(w.T)).max()
    assert parts == [*(8 * [3]), 2, 2, 3]


def test_sums_of_rows_wake_no_second_pool_of_threads(monkeypatch, rng):
    """Above the size from which BLAS may spread one, they go to the library of the products."""
    calls, of_numpy = [], _numpy.weighted_sum

    def counted(weights, x, *others):
        calls.append(x.shape)
        return of_numpy(weights, x, *others)

    monkeypatch.setattr(_numpy, "weighted_sum", counted)
    for library in ("NumPy's", "SciPy's"):
        kernels = _numpy.NumpyBackend()
        kernels.blas = found(library)
        for rows in (10, 1000):
            kernels.sum_rows(rng.normal(size=(rows, 20)), np.empty(20))
    assert calls == [(10, 20), (1000, 20), (10, 20)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_one_core_does_goes_through_a_layer_in_compiled_code(monkeypatch, rng, dtype):
    """Above one core's size only where BLAS has one thread, and would not share it out."""
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    from bpx.backends import _fast, _fast_run

    seen, loops = [], _fast_run.affine

    def counted(x, w, b, out):
        seen.append((*x.shape, len(w)))
        loops(x, w, b, out)

    monkeypatch.setattr(_fast_run, "affine", counted)
    monkeypatch.setattr(_fast, "TIMED", True)
    kernels = _fast.FastBackend()

    def run(m, inputs, outputs, turned=False, of_b=dtype):
        x, w, b = (rng.normal(size=size) for size in ((m, inputs), (outputs, inputs), outputs))
        b = b.astype(of_b)
        x = np.asfortranarray(x) if turned else x
        given = x.astype(dtype), w.astype(dtype), b
        guarded = np.full((m + 1, outputs), np.nan, dtype)
        out = guarded[:m]
        kernels.affine(*given, out)
        assert np.isnan(guarded[m]).all()
        size = np.abs(x) @ np.abs(w.T) + np.abs(b)
        assert np.abs(out - (x @ w.T + b)).max() <= 16 * np.finfo(dtype).eps * size.max()

    run(10, 784, 30)  # a small one
    run(10, 784, 101, of_b=np.float16)
    run(10, 784, 101, turned=True)
    with _threads.limited(2):
        run(10, 1000, 501)
    with _threads.limited(1, 2):
        run(32, 1000, 501)
    assert seen == []
    # By loops, by x ωᵀ, and by ω xᵀ.
    expected = [(9, 784, 101), (300, 100, 30), (32, 128, 101), (10, 1000, 501)]
    for shape in expected[:-1]:
        run(*shape)
    with _threads.limited(1, 2):
        run(*expected[-1])
    assert seen == expected


def test_sums_of_rows_go_into_any_array_and_stay_in_none(rng):
    """Of other types, with gaps; and vectors as long as a batch are not kept."""
    kernels, standard = _numpy.NumpyBackend(), Backend("numpy", np)
    for m in (10, 9_000):
        x = rng.normal(size=(m, 3))
        gaps = np.full((3, 2), np.nan)
        for out in (np.full(3, np.nan, np.float32), gaps[:, 0]):
            kernels.sum_rows(x, out, 0.5)
            assert np.allclose(out, 0.5 * x.sum(0), rtol=0.0, atol=1e-6 * np.abs(x).sum())
    whole, found, expected = np.arange(12).reshape(4, 3), np.arange(3), np.arange(3)
    kernels.sum_rows(whole, found, 2, 3)
    standard.sum_rows(whole, expected, 2, 3)
    assert np.array_equal(found, expected)
    before = constant.cache_info().misses
    kernels.sum_rows(rng.normal(size=(9_000, 3)), np.empty(3), 0.123)
    assert constant.cache_info().misses == before


def test_a_prepared_product_keeps_its_arrays(rng):
    blas = found("NumPy's")[np.dtype(np.float64)]
    a, out = rng.normal(size=(60, 50)), np.zeros((60, 60))
    product, expected = blas.prepared(a.copy(), a.T.copy(), out), a @ a.T
    others = [rng.normal(size=(60, 50)) for _ in range(20)]  # in memory that might be free
    product(1.0, 0.0)
    assert np.allclose(out, expected, rtol=0.0, atol=1e-12)
    assert len(others) == 20


@pytest.mark.parametrize("gaps", ["a", "b", "out"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_matrices_with_gaps_are_not_read_as_dense(rng, library, gaps):
    kernels = _numpy.NumpyBackend()
    kernels.blas = found(library)
    given = {name: rng.normal(size=(200, 200)) for name in ("a", "b", "out")}
    given[gaps] = rng.normal(size=(400, 400))[::2, ::2]
    a, b, out = given.values()
    expected = out + a @ b
    kernels.gemm(a, b, out, 1.0, 1.0)
    assert np.allclose(out, expected, rtol=0.0, atol=1e-11)


def test_mixed_dtypes_are_not_read_as_others(rng):
    kernels = _numpy.NumpyBackend()
    a, b = rng.normal(size=(80, 90)).astype(np.float32), rng.normal(size=(90, 70))
    out = np.ones((80, 70))
    kernels.gemm(a, b, out, 2.0, 0.5)
    assert np.allclose(out, 0.5 + 2.0 * a @ b)
    x, into = np.ones(50_000, np.float32), np.ones(50_000)
    assert np.array_equal(kernels.axpby(x, into, 0.5), np.full(50_000, 1.5))


class Exports:
    """A library in which functions have these names."""

    def __init__(self, *names):
        self.names = names

    def __getitem__(self, name):
        if name not in self.names:
            raise AttributeError(name)
        return ctypes.CFUNCTYPE(None)(lambda *_: None)


@pytest.mark.parametrize(
    "pattern", ["scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}", "cblas_{}$NEWLAPACK$ILP64"]
)
def test_names_that_libraries_have(monkeypatch, pattern):
    names = [pattern.format(name) for name in ("sgemm", "saxpy", "dgemm", "daxpy")]
    monkeypatch.setattr(ctypes, "CDLL", lambda file: Exports(*names))
    assert set(_cblas.by_dtype.__wrapped__()) == {np.dtype("float32"), np.dtype("float64")}
    monkeypatch.setattr(ctypes, "CDLL", lambda file: Exports(*names[:3]))
    assert _cblas.by_dtype.__wrapped__() == {}


def test_a_library_that_is_not_to_be_opened(monkeypatch):
    def refuse(file):
        raise OSError("not a shared object")

    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "CDLL", refuse)
        assert _cblas.by_dtype.__wrapped__() == {}
    monkeypatch.delattr("numpy._core._multiarray_umath.__file__")
    assert _cblas.by_dtype.__wrapped__() == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_code_goes_to_scipys_where_numpys_is_not_found(rng, dtype):
    numba = pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    from bpx.backends import _numba_blas as compiled

    real = getattr(numba.types, dtype)
    product, m, n, k = compiled.scipys(real).ctypes, 4, 5, 3
    a, b, out = (rng.normal(size=shape).astype(dtype) for shape in ((m, k), (n, k), (m, n)))
    expected = 0.5 * out + 2.0 * a @ b.T
    arrays = [array.ctypes.data_as(product.argtypes[7]) for array in (b, a, out)]
    # Column-major: outᵀ = b aᵀ.
    kinds = compiled.COLUMN_MAJOR, compiled.T, compiled.N
    product(*kinds, n, m, k, 2.0, arrays[0], k, arrays[1], k, 0.5, arrays[2], n)
    assert np.abs(out - expected).max() <= 16 * np.finfo(dtype).eps * np.abs(expected).max()


def test_a_run_compiled_for_scipys_ends_with_the_same():
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    program = """
import numpy as np, bpx, sys
from bpx.backends import _cblas, _fast
if sys.argv[1] == "SciPy's":
    _cblas.by_dtype = dict
rng = np.random.default_rng(0)
x, y = rng.normal(size=(40, 5)), rng.integers(3, size=40)
net = bpx.Network([5, 4, 3], seed=0, dtype="float64", backend=_fast.FastBackend())
net.fit(x, y, epochs=2, batch_size=8)
print(*net.parameters.tolist(), *net.feedforward(x[:3]).ravel().tolist())
"""
    found = []
    for library in ("NumPy's", "SciPy's"):
        command = [sys.executable, "-c", program, library]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found.append(np.array(text.split(), float))
    assert np.abs(found[0] - found[1]).max() <= 1e-12
