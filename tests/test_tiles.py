"""Matrix products by tiles against sums in double precision, on any shapes."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import with_short_vectors

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")

from bpx.backends import _fast, _fast_run, _threads

# m, k, n: less than a tile or a vector, some of each, all left-over rows, several parts of the
# terms, rows that are asked for, and rows that are far apart and read often.
SHAPES = [
    (1, 1, 1), (7, 3, 5), (15, 9, 16), (9, 33, 31), (11, 17, 49), (23, 2, 100), (40, 600, 20),
    (3, 1030, 70), (301, 200, 30), (300, 40, 1100), (65, 1100, 1030), (1030, 300, 600),
]  # fmt: skip


def matrices(rng, shape, dtype, kinds="nn"):
    """a, b in both orders of memory, as if transposed for "t", and `out` amid NaN."""
    m, k, n = shape
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    a, b = (
        np.asfortranarray(each) if kind == "t" else each
        for each, kind in zip((a, b), kinds, strict=True)
    )
    around = np.full((m + 2, n + 40), np.nan, dtype)
    out = around[1:-1, 20:-20]
    return a, b, out, around


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_that_of_numpy(rng, shape, dtype):
    for kinds in ("nn", "nt", "tn", "tt"):
        a, b, out, around = matrices(rng, shape, dtype, kinds)
        product, sizes = a.astype("d") @ b.astype("d"), np.abs(a) @ np.abs(b)
        for alpha, beta in ((1.0, 0.0), (-0.5, 0.75), (2.0, 1.0)):
            old = rng.normal(size=out.shape)
            out[...] = old if beta else np.nan
            expected = alpha * product + (beta * out.astype("d") if beta else 0.0)
            _fast_run.gemm(alpha, a, b, beta, out)
            bound = np.finfo(dtype).eps * (2.0 * np.sqrt(shape[1]) * sizes.max() + 8.0)
            assert np.abs(out - expected).max() <= bound
            assert np.isnan(around).sum() == around.size - out.size  # nothing beside it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_and_a_column_have_the_same_bits_whatever_others_there_are(rng, dtype):
    """So that a batch may be dealt over threads, however many there are."""
    for kinds in ("nn", "nt", "tn"):
        a, b, out, _ = matrices(rng, (301, 1100, 530), dtype, kinds)
        _fast_run.gemm(0.3, a, b, 0.0, out)
        for rows, columns in ((slice(3, 10), slice(0, 530)), (slice(0, 301), slice(7, 530))):
            part = np.empty_like(out[rows, columns])
            _fast_run.gemm(0.3, a[rows], b[:, columns], 0.0, part)
            assert np.array_equal(part, out[rows, columns])


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_a_product_without_rows_terms_or_columns(rng, shape):
    a, b, out, around = matrices(rng, shape, "float32")
    out[...] = 2.0
    _fast_run.gemm(1.0, a, b, 0.5, out)
    assert (out == 1.0).all()
    assert np.isnan(around).sum() == around.size - out.size


def test_rows_backwards_and_one_row_many_times(rng):
    a, b, out, _ = matrices(rng, (40, 30, 50), "float64")
    for first, second in ((a[::-1], b[::-1]), (np.broadcast_to(a[:1], a.shape), b)):
        _fast_run.gemm(1.0, first, second, 0.0, out)
        assert np.allclose(out, first @ second, rtol=0.0, atol=1e-12)


def test_nothing_is_read_behind_the_matrices(rng, at_the_end):
    for shape in SHAPES[:-2]:
        for kinds in ("nn", "nt", "tn", "tt"):
            a, b, _, _ = matrices(rng, shape, "float32", kinds)
            out = at_the_end(np.empty((shape[0], shape[2]), np.float32))
            _fast_run.gemm(1.0, at_the_end(a), at_the_end(b), 0.0, out)
            assert np.abs(out - a @ b).max() <= 1e-6 * (1.0 + (np.abs(a) @ np.abs(b)).max())


def test_a_processor_without_wide_vectors_finds_the_same(tmp_path):
    """Without fused products either, so that sums are rounded otherwise."""
    code = f"""
import numpy as np
from bpx.backends import _fast_run, _numba_vectors
assert _numba_vectors.BYTES == 32, _numba_vectors.BYTES
rng = np.random.default_rng(0)
for m, k, n in {SHAPES[:-2]}:
    for turned in (False, True):
        a, b = rng.normal(size=(m, k)).astype("f"), rng.normal(size=(k, n)).astype("f")
        out = np.empty((m, n), "f")
        _fast_run.gemm(1.0, a, np.asfortranarray(b) if turned else b, 0.0, out)
        assert np.abs(out - a @ b).max() <= 2e-6 * (1.0 + (np.abs(a) @ np.abs(b)).max())
print("done")
"""
    with_short_vectors(code, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_products_go_by_tiles_where_blas_has_one_thread(monkeypatch, rng, dtype):
    monkeypatch.setattr(_fast, "TIMED", True)
    seen, tiles = [], _fast_run.gemm

    def counted(alpha, a, b, beta, out):
        seen.append((*a.shape, b.shape[1]))
        tiles(alpha, a, b, beta, out)

    monkeypatch.setattr(_fast_run, "gemm", counted)
    kernels = _fast.FastBackend()

    def check(out, a, b):
        wrong = np.abs(out - a.astype("d") @ b.astype("d")).max()
        assert wrong <= 32 * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)).max()

    def run(*shape, of=dtype):
        a, b, _, _ = matrices(rng, shape, dtype, "tn")
        a, out = a.astype(of), np.empty((shape[0], shape[2]), dtype)
        ways = [lambda: kernels.gemm(a, b, out)]
        if of == dtype:
            ways.append(lambda: kernels.prepared(a, b, out)(1.0, 0.0))
        for way in ways:
            out[...] = np.nan
            way()
            check(out, a, b)

    with _threads.limited(2):
        run(90, 100, 80)  # a small one
        run(400, 150, 90)  # for BLAS's threads
        run(120, 110, 100, of="float16")
        assert seen == []
        run(120, 110, 100)
    assert seen == 2 * [(120, 110, 100)]
    seen.clear()
    gaps = [rng.normal(size=(2 * n, 2 * n)).astype(dtype)[::2, ::2] for n in (120, 110)]
    whole = np.empty((120, 110), dtype)
    check(kernels.gemm(gaps[0][:, :110], gaps[1], whole), gaps[0][:, :110], gaps[1])
    record = np.zeros(120, [("name", "u1"), ("x", dtype, (110,))])["x"]
    record[...] = rng.normal(size=record.shape)
    check(kernels.gemm(record, gaps[1].copy(), whole), record, gaps[1])
    assert seen == []  # numbers that lie apart, and at odd addresses
    with _threads.limited(1, 3):
        run(400, 150, 90)  # for three threads, of which there is work for two
    assert seen == 4 * [(200, 150, 90)]
