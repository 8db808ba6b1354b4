"""Convolutions by rows (`bpx.backends._rows`) against those by patches, whichever pays."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import all_three, of_nan

import bpx
from bpx.backends import Backend, _fast, _numpy, _rows
from bpx.layers.sliding import Sliding

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")

from bpx.backends import _fast_windows

STRIDES, GAPS = st.sampled_from([1, 1, 2, 2, 3, 5]), st.sampled_from([1, 1, 2, 3, 9])


@st.composite
def convolutions(draw):
    """x, weights and δ of windows of any stride, paddings beyond their reach included."""
    fields = []
    for _ in range(draw(st.integers(1, 2))):
        k, gap, step = draw(st.integers(1, 5)), draw(GAPS), draw(STRIDES)
        before, after = (draw(st.sampled_from([0, 1, 2, 3, 5, 9])) for _ in range(2))
        least = max(1, (k - 1) * gap + 1 - before - after)
        fields.append((draw(st.integers(least, least + 40)), k, step, gap, (before, after)))
    sliding = Sliding(*zip(*fields, strict=True))
    m, groups = draw(st.sampled_from([1, 2, 7, 40])), draw(st.integers(1, 3))
    into, of = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.normal(size=(m, groups * into, *sliding.lengths))
    weights = rng.normal(size=(groups * of, into, *sliding.size))
    return x, weights, rng.normal(size=(m, groups * of, *sliding.counts)), sliding


def agree(found, case, tolerance=1e-14):
    """`all_three` kernels have given what the standard ones give, to rounding."""
    *arrays, sliding = case
    sizes = all_three(Backend("numpy", np), *map(np.abs, arrays), sliding)
    standard = all_three(Backend("numpy", np), *case)
    for got, expected, size in zip(found, standard, sizes, strict=True):
        assert np.abs(got - expected).max() <= tolerance * np.abs(size).max()


def check_edges(rng, at_the_end, sliding, weights):
    """The compiled kernels neither read nor write beside arrays; weights are (channels, into)."""
    channels, into = weights
    shapes = (7, 3, *sliding.lengths), (channels, into, *sliding.size)
    case = [rng.normal(size=s).astype("f") for s in (*shapes, (7, channels, *sliding.counts))]
    kernels, room = _fast.FastBackend(), functools.partial(np.empty, dtype=np.float32)
    x, weights, delta = map(at_the_end, case)
    out = [at_the_end(np.full_like(each, np.nan)) for each in (delta, weights, x)]
    kernels.convolve(x, weights, sliding, room, out[0])
    kernels.convolve_weights(x, delta, sliding, room, out[1])
    kernels.convolve_inputs(delta, weights, sliding, room, out[2])
    out[1] -= 2.0  # `all_three` adds its own to −2
    agree(out, [*(each.astype("d") for each in case), sliding], 1e-6)


@pytest.mark.parametrize("turned", [0.001, 1000.0], ids=["side by side", "one by one"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(convolutions())
def test_rows_are_patches(turned, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "TURNED", turned)
        patch.setattr(_fast_windows, "_by_rows", lambda *shapes: (True, True))
        patch.setattr(_fast_windows, "_by_channel", lambda *shapes: False)
        _rows.layout.cache_clear()
        found = all_three(_fast.FastBackend(), *case)
        _rows.layout.cache_clear()
    agree(found, case)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("turned", [0.001, 1000.0], ids=["side by side", "one by one"])
def test_nothing_is_read_or_written_beside_the_images(
    rng, at_the_end, monkeypatch, turned, stride
):
    monkeypatch.setattr(_rows, "TURNED", turned)
    monkeypatch.setattr(_fast_windows, "_by_rows", lambda *shapes: (True, True))
    monkeypatch.setattr(_fast_windows, "_by_channel", lambda *shapes: False)
    _rows.layout.cache_clear()
    for lengths, size, before in (
        ((5, 33), (3, 3), 1),
        ((9, 16), (5, 1), 0),
        ((4, 67), (3, 5), 4),
    ):
        sliding = Sliding(lengths, size, (stride, stride), (1, 1), ((before, 1), (before, 0)))
        check_edges(rng, at_the_end, sliding, (10, 3))
    _rows.layout.cache_clear()


@pytest.mark.parametrize("turned", [0.001, 1000.0], ids=["side by side", "one by one"])
@pytest.mark.parametrize(
    ("size", "stride", "dilation", "before"),
    [
        ((2, 3), (2, 2), (1, 1), 0),  # beyond the last windows
        ((2, 2), (3, 3), (1, 1), 1),  # between them
        ((1, 2), (1, 2), (1, 9), 9),  # one element of which is always in the padding
    ],
)
def test_pixels_under_no_window_are_not_looked_at(
    rng, monkeypatch, turned, size, stride, dilation, before
):
    monkeypatch.setattr(_rows, "TURNED", turned)
    monkeypatch.setattr(_fast_windows, "_by_rows", lambda *shapes: (True, True))
    monkeypatch.setattr(_fast_windows, "_by_channel", lambda *shapes: False)
    _rows.layout.cache_clear()
    sliding = Sliding((33, 6), size, stride, dilation, ((0, 0), (before, 0)))
    x, weights = rng.normal(size=(8, 2, 33, 6)), rng.normal(size=(16, 2, *size))
    case = x, weights, rng.normal(size=(8, 16, *sliding.counts)), sliding
    *_, below = all_three(Backend("numpy", np), *case)
    x[below == 0.0] = np.inf
    found, expected = (all_three(k, *case) for k in (_fast.FastBackend(), Backend("numpy", np)))
    assert np.isinf(x).any()
    assert np.isfinite(expected[1]).all()
    for got, right in zip(found, expected, strict=True):
        assert np.abs(got - right).max() <= 1e-13 * np.abs(right).max()
    _rows.layout.cache_clear()


def test_where_rows_pay():
    def pays(m, n, k, into, of, padding, groups=1, stride=1):
        sliding = Sliding((n, n), (k, k), (stride,) * 2, (1, 1), ((padding, padding),) * 2)
        return _fast_windows._by_rows(m, into * groups, (of * groups, into, k, k), sliding)

    assert pays(1, 32, 3, 16, 16, 1) == (True, True)
    assert pays(1, 16, 3, 1, 1, 1, groups=32) == (True, True)  # of each channel by itself
    assert pays(10, 28, 5, 1, 20, 0) == (True, False)  # back by tiles of one row: no faster
    assert pays(64, 12, 5, 20, 40, 0) == (True, True)  # lines of 8 pixels of 64 images
    assert pays(5, 12, 5, 20, 40, 0) == (True, True)  # and of 5
    assert pays(1, 6, 5, 20, 40, 0) == (False, False)  # 2 of 6 pixels of a line: too short
    assert pays(64, 16, 3, 128, 128, 1) == (True, True)  # however large the product is
    assert pays(64, 16, 1, 16, 16, 0) == (False, False)  # patches are a copy
    assert pays(64, 32, 3, 16, 32, 1, stride=2) == (True, True)  # an image after the other
    assert pays(5, 16, 3, 32, 64, 1, stride=2) == (True, True)
    assert pays(16, 8, 3, 64, 128, 1, stride=2) == (False, False)  # 4 of 5 pixels of a line
    assert pays(64, 32, 1, 16, 32, 0, stride=2) == (False, False)


@pytest.mark.parametrize(
    ("n", "k", "into", "of", "stride", "threads"),
    [
        (16, 3, 32, 64, 2, (2, 2)),  # few patches, but 12 million multiply-adds
        (32, 3, 3, 16, 1, (2, 1)),  # by rows 0.26 ms on one core, and 0.38 on two
        (32, 1, 16, 32, 2, (1, 1)),
        (32, 3, 16, 16, 1, (2, 2)),
    ],
)
def test_cores_for_what_a_convolution_costs(monkeypatch, n, k, into, of, stride, threads):
    pads = ((k // 2, k // 2),) * 2
    sliding = Sliding((n, n), (k, k), (stride,) * 2, (1, 1), pads)
    for kernels, expected in zip(
        (_numpy.NumpyBackend(), _fast.FastBackend()), threads, strict=True
    ):
        monkeypatch.setattr(type(kernels), "cores", 2)
        assert len(kernels.parts_of_windows(10, into, (of, into, k, k), sliding)) == expected


def test_two_ways_to_lay_images_out():
    same = Sliding((32, 32), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    one = _rows.layout(same, 64)
    assert (one.lines, one.images, one.line) == (32, 1, 33)  # a zero between two lines
    valid = Sliding((12, 12), (5, 5), (1, 1), (1, 1), ((0, 0), (0, 0)))
    some = _rows.layout(valid, 100)
    assert (some.lines, some.images, some.line) == (1, 50, 12)  # in halves of at most 64
    beyond = Sliding((1, 1), (3, 3), (1, 1), (1, 1), ((5, 5), (5, 5)))
    assert _rows.layout(beyond, 1).line == 9  # outputs have places of their own


def test_a_network_takes_them(rng, monkeypatch):
    """By rows: a call of `patches`, which is None here, would be a TypeError."""
    conv = bpx.layers.Conv2D(16, 3, "relu", padding="same")
    last = bpx.layers.Flatten(), bpx.layers.Dense(5, "softmax")
    chain = [bpx.layers.Input((3, 12, 12)), conv, conv, *last]
    net = bpx.Network(chain, backend=_fast.FastBackend(), seed=0)
    monkeypatch.setattr(_fast.FastBackend, "patches", None)
    net.fit(rng.normal(size=(40, 3, 12, 12)), rng.integers(5, size=40), epochs=1, batch_size=10)


@pytest.mark.parametrize(
    ("channels", "shape"),
    [(2, (16, 2, 3, 3)), (4, (4, 1, 3, 3))],
    ids=["by rows", "channel by channel"],
)
def test_deltas_in_another_order_of_memory(rng, channels, shape):
    """They go by patches, which the convolution has not written."""
    sliding = Sliding((12, 12), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    x, weights = rng.normal(size=(8, channels, 12, 12)), rng.normal(size=shape)
    delta = np.moveaxis(rng.normal(size=(8, 12, 12, shape[0])), -1, 1)
    found = []
    for kernels in (_fast.FastBackend(), Backend("numpy", np)):
        lend = functools.cache(of_nan)
        kernels.convolve(x, weights, sliding, lend, of_nan((8, shape[0], 12, 12)))
        arrays = x, delta, sliding, lend, of_nan(weights.shape)
        found.append(kernels.convolve_weights(*arrays, 0.0, True))
    got, expected = found
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()
