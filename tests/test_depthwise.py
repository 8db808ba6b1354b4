"""Convolutions of few channels a group, channel by channel (`bpx.backends._numba_depthwise`)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from test_kernels import all_three

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")

from test_rows import agree, check_edges, convolutions

import bpx
from bpx.backends import Backend, _fast, _fast_windows
from bpx.layers.sliding import Sliding


def by_channel(channels, weights, sliding):
    return weights[1] == 1 and sliding.touches


@settings(max_examples=200, deadline=None, derandomize=True)
@given(convolutions())
def test_channel_by_channel_is_by_patches(case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fast_windows, "_by_channel", by_channel)
        found = all_three(_fast.FastBackend(), *case)
    agree(found, case)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(5, 33), (9, 16), (4, 67), (1, 50)])
def test_nothing_is_read_or_written_beside_the_images(rng, at_the_end, lengths, stride):
    sliding = Sliding(lengths, (1, 5), (1, stride), (1, 1), ((0, 0), (2, 2)))
    if lengths[0] > 1:
        sliding = Sliding(lengths, (3, 5), (stride, stride), (1, 1), ((1, 1), (4, 0)))
    assert _fast_windows._by_channel(3, (6, 1, *sliding.size), sliding)
    check_edges(rng, at_the_end, sliding, (6, 1))


def test_pixels_under_no_window_are_not_looked_at(rng):
    sliding = Sliding((33, 16), (2, 2), (3, 3), (1, 1), ((0, 0), (1, 0)))
    x, weights = rng.normal(size=(4, 2, 33, 16)), rng.normal(size=(2, 1, 2, 2))
    case = x, weights, rng.normal(size=(4, 2, *sliding.counts)), sliding
    assert _fast_windows._by_channel(2, weights.shape, sliding)
    *_, below = all_three(Backend("numpy", np), *case)
    x[below == 0.0] = np.inf
    found, expected = (all_three(k, *case) for k in (_fast.FastBackend(), Backend("numpy", np)))
    for got, right in zip(found, expected, strict=True):
        assert np.abs(got - right).max() <= 1e-13 * np.abs(right).max()


def test_where_it_pays():
    def pays(groups, of, into, n, k=3, padding=1):
        sliding = Sliding((n, n), (k, k), (1, 1), (1, 1), ((padding, padding),) * 2)
        return _fast_windows._by_channel(groups * into, (groups * of, into, k, k), sliding)

    assert pays(64, 1, 1, 16)
    assert pays(64, 4, 1, 7)
    assert not pays(1, 20, 1, 28)  # by tiles of many rows
    assert not pays(16, 4, 4, 16)
    assert not pays(64, 1, 1, 4)  # its lines fill a quarter of a vector
    assert not pays(64, 1, 1, 16, 1, 0)  # a product of numbers
    assert not pays(64, 1, 1, 16, 3, 3)  # windows of padding alone


def test_a_network_takes_it(rng, monkeypatch):
    """By channel: a call of `patches`, which is None here, would be a TypeError."""
    same = {"padding": "same", "groups": 6}
    layers = bpx.layers.Conv2D(6, 3, "relu", **same), bpx.layers.Conv2D(12, 3, stride=2, **same)
    last = bpx.layers.Flatten(), bpx.layers.Dense(5, "softmax")
    chain = [bpx.layers.Input((6, 12, 12)), *layers, *last]
    net = bpx.Network(chain, backend=_fast.FastBackend(), seed=0)
    monkeypatch.setattr(_fast.FastBackend, "patches", None)
    monkeypatch.setattr(_fast_windows, "_by_rows", lambda *shapes: (False, False))
    net.fit(rng.normal(size=(40, 6, 12, 12)), rng.integers(5, size=40), epochs=1)
