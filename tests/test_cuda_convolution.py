"""Convolutions on CuPy that read their windows in place, and sums of channels, without a GPU.

`test_kernels.py` compares each kernel with its twin; here are the tiles, the parts and the edges.
"""

from __future__ import annotations

import cuda_on_host
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda import REALS, STANDARD, on_both
from test_kernels import all_three

from bpx.backends import _cuda
from bpx.layers.sliding import Sliding


@st.composite
def slidings(draw):
    """Of one axis or two, any stride, windows that lie in the padding included."""
    fields = []
    for _ in range(draw(st.integers(1, 2))):
        k, gap, step = (draw(st.integers(1, most)) for most in (4, 3, 4))
        before, after = (draw(st.integers(0, 5)) for _ in range(2))
        least = max(1, (k - 1) * gap + 1 - before - after)
        fields.append((draw(st.integers(least, least + 9)), k, step, gap, (before, after)))
    return Sliding(*zip(*fields, strict=True))


def operands(rng, sliding, m, groups, into, of, real=np.float64):
    """x, weights and δ, the numbers all around them NaN."""
    shapes = (
        (m, groups * into, *sliding.lengths),
        (groups * of, into, *sliding.size),
        (m, groups * of, *sliding.counts),
    )
    return [inside(rng.normal(size=shape), real) for shape in shapes]


def inside(values, real):
    around = np.full(values.size + 200, np.nan, real)
    found = around[100:-100].reshape(values.shape)
    found[...] = values
    return found


def agree(got, operands, sliding):
    expected = all_three(STANDARD, *operands, sliding)
    sizes = all_three(STANDARD, *map(np.abs, operands), sliding)
    for one, other, size in zip(got, expected, sizes, strict=True):
        eps = np.finfo(one.dtype).eps
        assert np.abs(one - other).max() <= 16 * eps * np.abs(size).max()


def no_room(shape):
    raise AssertionError("no patches are written")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(slidings(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_any_windows(compiled, sliding, m, groups, into, seed):
    from conftest import CupyRehearsed

    rehearsed = CupyRehearsed(compiled)
    given = operands(np.random.default_rng(seed), sliding, m, groups, into, 2)
    agree(all_three(rehearsed, *given, sliding, no_room), given, sliding)


# More rows than a tile, more columns, and both by one; a depth of less than a step, and of more.
@on_both
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(
    ("m", "groups", "into", "of"),
    [(1, 1, 1, 1), (2, 1, 17, 33), (9, 1, 40, 32), (3, 2, 33, 3), (65, 3, 1, 2)],
)
def test_tiles_that_are_full_and_that_are_not(backend, rng, real, m, groups, into, of):
    for sliding in (
        Sliding((4, 5), (2, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
        Sliding((9, 8), (4, 4), (2, 3), (1, 2), ((1, 2), (0, 1))),
        Sliding((16,), (1,), (1,), (1,), ((0, 0),)),
    ):
        given = operands(rng, sliding, m, groups, into, of, real)
        agree(all_three(backend, *given, sliding, no_room), given, sliding)


def test_nothing_is_read_beside_the_arrays(rehearsed, rng, at_the_end):
    for sliding in (
        Sliding((4, 5), (2, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
        # An element of a window may be further on than the array is long.
        Sliding((10, 10), (2, 2), (4, 4), (260, 260), ((130, 131), (130, 131))),
    ):
        given = [at_the_end(array) for array in operands(rng, sliding, 1, 1, 26, 33)]
        agree(all_three(rehearsed, *given, sliding, no_room), given, sliding)


@pytest.mark.parametrize(("fill", "least"), [(1, 1), (512, 16), (10**6, 1)])
def test_a_sum_of_many_is_cut_into_parts(rehearsed, rng, monkeypatch, fill, least):
    monkeypatch.setattr(_cuda, "FILL", fill)
    monkeypatch.setattr(_cuda, "LEAST_DEPTH", least)
    sliding = Sliding((11, 13), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    given = operands(rng, sliding, 5, 2, 2, 3)
    got = all_three(rehearsed, *given, sliding, no_room)
    agree(got, given, sliding)
    again = all_three(rehearsed, *given, sliding, no_room)
    assert all(map(np.array_equal, got, again))


def test_parts_fill_a_device_and_are_worth_their_sum():
    assert _cuda.parts_of_depth(1, 20, 25, 73_728) == (512, 144)  # book, m 128: one tile
    assert _cuda.parts_of_depth(1, 40, 500, 8_192) == (32, 256)  # 16 tiles
    assert _cuda.parts_of_depth(1, 40, 500, 640) == (5, 128)  # m 10: none shorter than 128
    assert _cuda.parts_of_depth(1, 512, 4608, 6_272) == (1, 6_272)  # more tiles than that
    assert _cuda.parts_of_depth(1, 40, 640, 500) == (3, 176)  # book, m 10, forward: 20 tiles
    assert _cuda.parts_of_depth(1, 20, 1_440, 1_000) == (7, 144)  # and back to the inputs
    assert _cuda.parts_of_depth(1, 40, 8_192, 500)[0] == 1  # m 128: two on a multiprocessor
    assert _cuda.parts_of_depth(1, 1, 1, 1) == (1, 16)
    assert _cuda.parts_of_depth(1, 1, 1, 0)[0] == 0
    for depth in range(1, 5000, 7):
        parts, step = _cuda.parts_of_depth(1, 1, 1, depth)
        assert step % _cuda.TILE[2] == 0
        assert (parts - 1) * step < depth <= parts * step
    assert _cuda.parts_of_channel(20, 73_728) == 18
    assert _cuda.parts_of_channel(64, 131_072) == 8
    assert _cuda.parts_of_channel(4096, 10) == 1


def test_the_order_of_threads_and_blocks_changes_no_bit(rehearsed, rng, compiled):
    sliding = Sliding((9, 8), (3, 2), (1, 2), (2, 1), ((1, 2), (0, 1)))
    given = operands(rng, sliding, 20, 1, 5, 40)
    expected = all_three(rehearsed, *given, sliding)
    for blocks, backwards in ((1, True), (3, False), (2**31, True)):
        most = _cuda.Threads(blocks, 1024)
        rehearsed._kernels = cuda_on_host.Kernels(compiled, most, backwards=backwards)
        assert all(map(np.array_equal, all_three(rehearsed, *given, sliding), expected))


def test_no_samples(rehearsed, rng):
    sliding = Sliding((4, 4), (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))
    z, gradient, below = all_three(rehearsed, *operands(rng, sliding, 0, 1, 2, 3), sliding)
    assert z.shape == (0, 3, 3, 3)
    assert below.shape == (0, 2, 4, 4)
    assert np.all(gradient == -2.0)  # β times what was there


def test_the_whole_batch_is_one_slice_where_no_patches_are_written(rehearsed):
    sliding = Sliding((128, 128), (5, 5), (1, 1), (1, 1), ((2, 2), (2, 2)))
    shapes = 1000, 64, (64, 64, 5, 5), sliding
    assert rehearsed.parts_of_windows(*shapes) == [[slice(0, 1000)]]
    assert len(rehearsed.in_precision("tf32").parts_of_windows(*shapes)[0]) == 500
    solid = Sliding((64,) * 3, (3,) * 3, (1,) * 3, (1,) * 3, ((1, 1),) * 3)
    assert len(rehearsed.parts_of_windows(10, 16, (16, 16, 3, 3, 3), solid)[0]) == 10


def test_deltas_with_gaps_find_the_patches_that_were_never_written(rehearsed, rng):
    sliding = Sliding((6, 7), (3, 2), (1, 1), (1, 1), ((0, 1), (1, 0)))
    x, weights, delta = operands(rng, sliding, 3, 1, 2, 4)
    room = {}

    def lend(shape):
        return room.setdefault(shape, np.full(shape, np.nan))

    rehearsed.convolve(x, weights, sliding, lend, np.empty_like(delta))
    gaps = np.repeat(delta, 2, axis=-1)[..., ::2]
    expected = STANDARD.convolve_weights(x, delta, sliding, lend, np.empty_like(weights))
    room.clear()
    for kernels in (rehearsed, rehearsed.in_precision("tf32")):
        got = np.full_like(weights, np.nan)
        kernels.convolve(x, weights, sliding, lend, np.empty_like(delta))
        kernels.convolve_weights(x, gaps, sliding, lend, got, 0.0, True)
        assert np.allclose(got, expected, rtol=1e-12)
    below = rehearsed.convolve_inputs(gaps, weights, sliding, lend, np.empty_like(x))
    wanted = STANDARD.convolve_inputs(delta, weights, sliding, lend, np.empty_like(x))
    assert np.allclose(below, wanted, rtol=1e-12)


# --- channels ------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("real", REALS)
def test_sums_of_channels_in_parts(backend, rng, monkeypatch, real):
    monkeypatch.setattr(_cuda, "LEAST_PART", 7)
    x, normal = (inside(rng.normal(size=(5, 3, 4, 6)), real) for _ in range(2))
    mean, kept = rng.normal(size=3).astype(real), np.full((2, 3), 0.5, real)
    there = [backend.from_host(array) for array in (x, normal, mean)]
    x, normal, mean = (array.astype(float) for array in (x, normal, mean))
    apart, axes = x - mean[:, None, None], (0, 2, 3)

    def close(got, *sums):
        expected = [term.sum(axes) + left for term, left in sums]
        sizes = [np.abs(term).sum(axes) + 1.0 for term, _ in sums]
        error = np.abs(backend.to_host(got).reshape(len(sums), 3) - expected)
        assert (error <= 16 * np.finfo(real).eps * np.stack(sizes)).all()

    def out(rows=2):
        return backend.from_host(kept[:rows].copy())

    close(backend.sum_channels(there[0], out(1)[0, ...], 2.0, -1.0), (2.0 * x, -0.5))
    close(backend.moments(there[0], there[2], None, out(), 1.0), (apart, 0.5), (apart**2, 0.5))
    close(backend.normalize_sums(*there[:2], None, out(), 0.0), (x * normal, 0.0), (x, 0.0))


def test_channels_that_are_not_dense_pass_to_the_standard(rehearsed, rng):
    x = rng.normal(size=(3, 4, 5, 2)).transpose(0, 3, 1, 2)  # channels come last in memory
    mean, room, out = rng.normal(size=2), np.empty(x.shape), np.empty((2, 2))
    assert np.allclose(
        rehearsed.moments(x, mean, room, out.copy()), STANDARD.moments(x, mean, room, out)
    )
    kept = rng.random(size=(4, 2))
    found = [
        each.batch_statistics(mean, out, *kept.copy(), 9.0, 0.1, 1e-5, numbers.T)
        for each, numbers in ((rehearsed, np.empty((2, 5))), (STANDARD, np.empty((2, 5))))
    ]
    assert np.array_equal(*found)
    numbers, normal = rng.normal(size=(5, 2)), np.empty(x.shape)
    expected = STANDARD.normalize(x, numbers, normal, np.empty(x.shape))
    assert np.array_equal(rehearsed.normalize(x, numbers, room, np.empty(x.shape)), expected)
    got = rehearsed.normalize_sums(x, normal, room, out.copy())
    assert np.allclose(got, STANDARD.normalize_sums(x, normal, room, out))
    delta, means, factor = x.copy("K"), rng.normal(size=(2, 2)), rng.normal(size=2)
    got = rehearsed.normalize_backward(delta.copy("K"), normal.copy("K"), means, factor)
    assert np.allclose(got, STANDARD.normalize_backward(delta, normal, means, factor))
    assert rehearsed._kernels.launched <= {"axpby"}
