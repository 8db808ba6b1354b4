"""L-BFGS's objective: its value, its gradient, and that parts of the samples add up."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")

import bpx
from bpx import lbfgs
from bpx.backends import _threads
from bpx.backends._numpy import NumpyBackend
from bpx.chain import ROWS_AT_ONCE

N = 5 * ROWS_AT_ONCE + 10


@pytest.fixture
def net():
    return bpx.Network([4, 6, 3], hidden="tanh", output="softmax", dtype="float64", seed=0)


def samples(net, weighted=False):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, 4)), rng.integers(0, 3, N)
    return net.samples(x, y, rng.uniform(0.5, 2.0, N) if weighted else None)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_is_the_total_cost_and_the_gradient_its_slope(net, weighted):
    given = samples(net, weighted)
    objective = lbfgs.FullBatchObjective(net.chain, given, l2=0.3)
    theta = net.parameters.copy()
    value, gradient = objective(theta)
    n = N if given.weight is None else given.weight.sum()
    penalty = 0.15 / n * (theta[: net.layout.decayed] ** 2).sum()
    cost = net.evaluate(given.x, given.y, sample_weight=given.weight)["cost"]
    assert value == pytest.approx(cost + penalty, rel=1e-12)
    for at in (0, 20, len(theta) - 1):
        step = np.zeros_like(theta)
        step[at] = 1e-6
        slope = (objective(theta + step)[0] - objective(theta - step)[0]) / 2e-6
        assert gradient[at] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 9])
def test_parts_add_up_to_the_whole(net, parts, weighted):
    given, theta = samples(net, weighted), net.parameters.copy()
    value, gradient = lbfgs.FullBatchObjective(net.chain, given, l2=0.3)(theta)
    with net.backend.in_threads() as backend:
        chain = net.chain.on(backend)
        divided = lbfgs.FullBatchObjective(chain, given, l2=0.3, parts=parts)
        assert len(divided.parts) == min(parts, 6)
        for _ in range(2):  # what the first call wrote is not added to
            found = divided(theta)
            assert found[0] == pytest.approx(value, rel=1e-13)
            np.testing.assert_allclose(found[1], gradient, rtol=1e-11, atol=1e-15)


def test_each_core_takes_a_part(net, monkeypatch):
    parts, threads = set(), set()
    add = lbfgs.FullBatchObjective._add

    def noted(self, k, blocks):
        parts.add((blocks[0].start, blocks[-1].stop))
        threads.add(threading.get_ident())
        add(self, k, blocks)

    monkeypatch.setattr(lbfgs.FullBatchObjective, "_add", noted)
    monkeypatch.setattr(type(net.backend), "cores", 2)
    monkeypatch.setattr(_threads, "MOST", _threads._workers + 1)
    given = samples(net)
    before = net.evaluate(given.x, given.y)["cost"]
    options = {"l2": 0.0, "max_iter": 5, "max_fun": 20, "tol": 1e-9}
    found = lbfgs.minimize(net, given, **options)
    assert parts == {(0, 3 * ROWS_AT_ONCE), (3 * ROWS_AT_ONCE, N)}
    assert len(threads) == 1 + isinstance(net.backend, NumpyBackend)  # or all is on one
    assert found.fun < before
    assert (found.x == net.parameters).all()


def test_what_goes_wrong_in_a_part_is_raised(net, monkeypatch):
    def broken(self, k, blocks):
        raise MemoryError("no room")

    monkeypatch.setattr(lbfgs.FullBatchObjective, "_add", broken)
    monkeypatch.setattr(type(net.backend), "cores", 2)
    with pytest.raises(MemoryError, match="no room"):
        lbfgs.minimize(net, samples(net), l2=0.0, max_iter=5, max_fun=20, tol=1e-9)


def test_threads_are_as_many_as_blas_may_use():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="it came with no scikit-learn")
    backend = bpx.backends.get("numpy")
    with threadpoolctl.threadpool_limits(1):
        assert backend.cores == 1
    assert backend.cores >= 1
    with backend.in_threads():
        assert backend.cores == 1
