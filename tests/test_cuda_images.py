"""Convolutions and pooling on CuPy without a GPU: windows over images, and products in stacks.

The kernels and the calls of cuBLAS run on the host, see `test_cuda.py`, which compiles the former
for devices too.
"""

from __future__ import annotations

import cuda_on_host
import numpy as np
import pytest
from test_cuda import REALS, STANDARD, call, on_both
from test_kernels import WINDOWS

from bpx.backends import BackendError, _cuda, _cupy_products
from bpx.layers.sliding import Sliding

# Strides beyond the window, on images and on sequences, with and without padding; one plane of one
# element; windows as large as the image.
SLIDINGS = [
    *WINDOWS,
    Sliding((7, 8), (2, 2), (3, 4), (1, 1), ((0, 0), (0, 0))),
    Sliding((7, 8), (1, 2), (4, 3), (1, 2), ((3, 0), (0, 2))),
    Sliding((5, 9), (2, 3), (2, 3), (3, 2), ((1, 2), (0, 1))),
    Sliding((12,), (2,), (5,), (1,), ((0, 0),)),
    Sliding((12,), (4,), (1,), (3,), ((5, 4),)),
    Sliding((1,), (1,), (1,), (1,), ((0, 0),)),
    Sliding((6, 7), (6, 7), (1, 1), (1, 1), ((0, 0), (0, 0))),
]
windows = pytest.mark.parametrize("sliding", SLIDINGS, ids=range(len(SLIDINGS)))


def same_bits(backend, name, *arguments):
    """As the standard twin's: results, and all arrays except a δ that may be overwritten."""
    first = int(name == "window_max_backward")
    got, expected = (call(kernels, name, *arguments) for kernels in (backend, STANDARD))
    for one, other in zip([got[0], *got[1 + first :]], [expected[0], *expected[1 + first :]],
                          strict=True):  # fmt: skip
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=True)


@on_both
@windows
@pytest.mark.parametrize("real", REALS)
def test_windows_have_the_bits_of_the_standard(backend, rng, sliding, real):
    planes = 3, 2
    x = rng.normal(size=(*planes, *sliding.lengths)).astype(real)
    of_patches = *planes, *sliding.size, *sliding.counts
    patches = rng.normal(size=of_patches).astype(real)
    unset, windows = np.full_like(x, np.nan), np.full((*planes, *sliding.counts), np.nan, real)
    same_bits(backend, "patches", x, sliding, np.full_like(patches, np.nan))
    same_bits(backend, "fold", patches, sliding, unset)
    same_bits(backend, "window_sum", x, sliding, windows)
    same_bits(backend, "window_max", x, sliding, windows)
    for values in (x, np.round(x)):  # with equals, of which the first has the whole
        largest = STANDARD.window_max(values, sliding, windows.copy())
        delta = rng.normal(size=windows.shape).astype(real)
        same_bits(backend, "window_max_backward", delta, values, largest, sliding, unset)


@on_both
@windows
def test_a_fold_of_what_all_elements_of_a_window_share(backend, rng, sliding):
    shared = rng.normal(size=(3, 2, *sliding.counts))
    axes = len(sliding.size)
    spread = (slice(None), slice(None), *[None] * axes)
    shape = 3, 2, *sliding.size, *sliding.counts
    found = []
    for kernels in (backend, STANDARD):
        patches = kernels.xp.broadcast_to(kernels.from_host(shared)[spread], shape)
        out = kernels.empty((3, 2, *sliding.lengths), shared.dtype)
        found.append(np.array(kernels.to_host(kernels.fold(patches, sliding, out))))
    assert np.array_equal(*found)


@on_both
@pytest.mark.parametrize("real", REALS)
def test_nan_and_infinity_in_windows(backend, real):
    sliding = Sliding((4, 4), (2, 2), (1, 1), (1, 1), ((1, 0), (0, 1)))
    x = np.zeros((1, 2, 4, 4), real)
    x[0, 0, 1, 1], x[0, 1, 2, 2], x[0, 1, 0, 3] = np.nan, -np.inf, np.inf
    windows = np.empty((1, 2, *sliding.counts), real)
    largest = STANDARD.window_max(x, sliding, windows.copy())
    assert np.isnan(largest).sum() == 4
    same_bits(backend, "window_max", x, sliding, windows)
    same_bits(backend, "window_max_backward", np.ones_like(windows), x, largest, sliding,
              np.empty_like(x))  # fmt: skip


def test_many_threads_and_the_order_of_them_change_no_bit(rehearsed, rng, compiled):
    sliding = Sliding((9, 8), (3, 2), (1, 2), (2, 1), ((1, 2), (0, 1)))
    x = rng.normal(size=(20, 5, 9, 8))
    patches = rng.normal(size=(20, 5, *sliding.size, *sliding.counts))
    for most, backwards in ((64, True), (1024, False)):
        rehearsed._kernels = cuda_on_host.Kernels(
            compiled, _cuda.Threads(2**31, most), backwards=backwards
        )
        same_bits(rehearsed, "patches", x, sliding, np.empty_like(patches))
        same_bits(rehearsed, "fold", patches, sliding, np.empty_like(x))
        got = call(rehearsed, "sum_channels", x, np.empty(5))[0]
        assert np.allclose(got, x.sum(axis=(0, 2, 3)), rtol=1e-13)


def test_what_the_windows_kernels_do_not_know_passes_to_the_standard(rehearsed, rng):
    solid = Sliding((3, 4, 5), (2, 2, 2), (1, 1, 1), (1, 1, 1), ((0, 0),) * 3)
    x = rng.normal(size=(2, 1, 3, 4, 5))
    same_bits(rehearsed, "window_sum", x, solid, np.empty((2, 1, *solid.counts)))
    flat = Sliding((4, 5), (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))
    turned = rng.normal(size=(2, 4, 5, 3)).transpose(0, 3, 1, 2)  # channels come last
    patches = rehearsed.patches(turned, flat, np.empty((2, 3, *flat.size, *flat.counts)))
    shape = 2, 3, *flat.counts
    for name in ("window_sum", "window_max"):
        got, expected = (
            getattr(kernels, name)(turned, flat, np.empty(shape))
            for kernels in (rehearsed, STANDARD)
        )
        assert np.array_equal(got, expected)
    delta, below = rng.normal(size=shape), np.empty(turned.shape)
    rehearsed.window_max_backward(delta.copy(), turned, expected, flat, below)
    assert below.sum() == pytest.approx(delta.sum())
    folded = rehearsed.fold(patches, flat, np.empty((2, 4, 5, 3)).transpose(0, 3, 1, 2))
    assert np.array_equal(folded, STANDARD.fold(patches, flat, np.empty(turned.shape)))
    assert rehearsed.sum_channels(turned, np.empty(3)) == pytest.approx(turned.sum((0, 2, 3)))
    assert rehearsed._kernels.launched <= {"axpby"}


def test_lengths_whose_sums_are_beyond_an_int_have_no_geometry():
    length = 2**30 - 1
    assert _cuda.geometry(Sliding((length,), (2,), (1,), (1,), ((0, 0),))) is not None
    assert _cuda.geometry(Sliding((length,), (2,), (1,), (1,), ((1, 0),))) is None


# --- products in stacks --------------------------------------------------------------------------


def stacks(rng, m, groups, real):
    """ω by group, windows and δ of a convolution, and how large its sums are."""
    weights = rng.normal(size=(groups, 3, 5)).astype(real)
    columns = rng.normal(size=(m, groups, 5, 7)).astype(real)
    delta = rng.normal(size=(m, groups, 3, 7)).astype(real)
    return weights, columns, delta


def close(got, expected, size, bits):
    assert np.abs(got - expected).max() <= 2.0**-bits * size.max()


SHAPES = [(1, 1), (4, 1), (4, 2), (2, 5), (1, 3)]
CALLS = {(1, 1): 1, (4, 1): 1, (4, 2): 2, (2, 5): 2, (1, 3): 1}  # the fewer of m and groups


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("m", "groups"), SHAPES)
def test_products_of_each_group_in_as_few_calls_as_can_be(rehearsed, rng, m, groups, real):
    weights, columns, delta = stacks(rng, m, groups, real)
    bits = {"float32": 21, "float64": 50}[real]
    got = rehearsed.products(weights, columns, np.full_like(delta, np.nan))
    close(got, weights @ columns, np.abs(weights) @ np.abs(columns), bits)
    batched = [name for name in rehearsed.cublas.called if name.endswith("BatchedEx")]
    assert len(batched) == CALLS[m, groups]
    turned = np.swapaxes(weights, 1, 2)
    below = rehearsed.products(turned, delta, np.full_like(columns, np.nan))
    close(below, turned @ delta, np.abs(turned) @ np.abs(delta), bits)


@pytest.mark.parametrize("most", [0, 30, 45, 10**6])
@pytest.mark.parametrize(("m", "groups"), [(1, 1), (7, 1), (7, 2)])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_sums_of_products_in_little_memory(rehearsed, rng, monkeypatch, most, m, groups, beta):
    monkeypatch.setattr(_cupy_products, "PARTIAL", most)
    _, columns, delta = stacks(rng, m, groups, np.float64)
    before = rng.normal(size=(groups, 3, 5)) if beta else np.full((groups, 3, 5), np.nan)
    turned = np.swapaxes(columns, 2, 3)
    rehearsed.gemm(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)))  # has taken its workspace
    taken, empty = [0], type(rehearsed).empty
    monkeypatch.setattr(
        type(rehearsed),
        "empty",
        lambda self, shape, dtype: taken.append(np.prod(shape)) or empty(self, shape, dtype),
    )
    out = before.copy()
    assert rehearsed.sum_of_products(delta, turned, out, beta) is out
    expected = (delta @ turned).sum(axis=0) + (before if beta else 0.0)
    close(out, expected, (np.abs(delta) @ np.abs(turned)).sum(axis=0), 50)
    assert max(taken) <= most
    again = rehearsed.sum_of_products(delta, turned, before.copy(), beta)
    assert np.array_equal(out, again)


@on_both
@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("float16", 10), ("bfloat16", 7)])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_stacks_are_as_precise_as_their_factors(backend, rng, precision, bits, size):
    kernels = backend.in_precision(precision)
    weights, columns, delta = stacks(rng, 4, 2, np.float32)
    delta *= np.float32(size)
    turned, moved = np.swapaxes(columns, 2, 3), backend.from_host(columns).swapaxes(2, 3)
    out = backend.empty((2, 3, 5), np.float32)
    got = kernels.sum_of_products(backend.from_host(delta), moved, out)
    exact = (delta.astype(float) @ turned).sum(axis=0)
    close(backend.to_host(got), exact, (np.abs(delta) @ np.abs(turned)).sum(axis=0), bits - 1)
    below = backend.empty(columns.shape, np.float32)
    got = kernels.products(
        backend.from_host(weights).swapaxes(1, 2), backend.from_host(delta), below
    )
    turned = np.swapaxes(weights, 1, 2)
    close(
        backend.to_host(got),
        turned.astype(float) @ delta,
        np.abs(turned) @ np.abs(delta),
        bits - 1,
    )


def test_stacks_that_cublas_does_not_take_pass_to_the_standard(rehearsed, rng):
    weights, columns, delta = stacks(rng, 4, 2, np.float64)
    gaps = np.repeat(columns, 2, axis=3)[..., ::2]
    assert np.allclose(rehearsed.products(weights, gaps, np.empty_like(delta)), weights @ columns)
    turned = np.swapaxes(gaps, 2, 3)
    got = rehearsed.sum_of_products(delta, turned, np.ones((2, 3, 5)), 1.0)
    assert np.allclose(got, 1.0 + (delta @ turned).sum(axis=0))
    two = rehearsed.products(weights[0], columns[0, 0], np.empty((3, 7)))  # matrices by themselves
    assert np.allclose(two, weights[0] @ columns[0, 0])
    assert rehearsed.cublas.called == []


def test_a_refusal_of_a_stack_is_told(rehearsed, rng, monkeypatch):
    weights, columns, delta = stacks(rng, 1, 1, np.float64)
    monkeypatch.setattr(rehearsed.cublas, "_cublasGemmStridedBatchedEx", lambda *_: 15)
    with pytest.raises(BackendError, match="cublasGemmStridedBatchedEx gave status 15"):
        rehearsed.products(weights, columns, delta)
