"""A number that is not finite in batch 7 of epoch 3: reported as that, by each way of fit."""

from __future__ import annotations

import os

import numpy as np
import pytest

import bpx
from bpx.backends import _fast
from bpx.backends._numpy import NumpyBackend
from bpx.training.sources import Windows, of_samples

N, BATCH, EPOCH, STEP = 500, 50, 3, 7
ROW = BATCH * (STEP - 1) + 13
DONE = (EPOCH - 1) * N // BATCH + STEP - 1  # steps before it
WAYS = ["compiled", "step by step", "a hook", "an iterable", "blocks", "blocks, compiled"]


class Data:
    """x where each way finds it, and the way to write into it after the second epoch."""

    def __init__(self, folder):
        draw = np.random.default_rng(0)
        self.x, self.y = draw.normal(size=(N, 12)), draw.normal(size=(N, 1))
        self.path = folder / "x.npy"
        np.save(self.path, self.x)

    def spoil(self, run):
        if run.epoch == EPOCH - 1:
            self.x[ROW, 5] = np.nan
            found = self.path.stat()
            np.save(self.path, self.x)
            os.utime(self.path, ns=(found.st_atime_ns, found.st_mtime_ns))  # or that is reported

    def __iter__(self):
        return ((self.x[i : i + BATCH], self.y[i : i + BATCH]) for i in range(0, N, BATCH))


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


class Hook(bpx.Callback):
    def on_step_end(self, run):
        pass


def fit(way, data, callbacks=(), **options):
    """Train by one of the ways, in the order of the rows; the network, and its error."""
    compiled = "compiled" in way
    if compiled:
        pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    net = bpx.Network([12, 8, 1], hidden="tanh", output="identity", cost="quadratic", seed=0,
                      backend=_fast.FastBackend() if compiled else NumpyBackend())  # fmt: skip
    options |= {"epochs": 5, "callbacks": [*callbacks, *([Hook()] if way == "a hook" else [])]}
    given = [data]
    if way != "an iterable":
        given, options = [data.x, data.y], options | {"batch_size": BATCH, "shuffle": False}
    if "blocks" in way:
        given = [bpx.open_data(data.path, data.y, budget=60_000)]
        assert isinstance(of_samples(net, *given, None, batch_size=BATCH, shuffle=False), Windows)
    with pytest.raises((bpx.DivergenceError, ValueError, OSError)) as caught:
        net.fit(*given, **options)
    return net, caught.value


def is_told(net, error):
    assert isinstance(error, bpx.DivergenceError)
    assert (error.epoch, error.step) == (EPOCH, STEP)
    assert f"step {STEP} of epoch {EPOCH}" in str(error)
    assert error.history.epochs == net.epochs == EPOCH - 1
    assert net.steps == DONE
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("way", WAYS)
def test_in_x_while_it_trains(data, way):
    net, error = fit(way, data, [data.spoil], check_finite=False)
    is_told(net, error)
    assert error.layer == "the inputs"


@pytest.mark.parametrize("way", WAYS)
def test_made_by_training(data, way):
    """The rate becomes infinite at that step, and the weights with it; its cost was finite."""
    spike = bpx.schedules.StepDecay(1e-3, every=DONE, factor=1e46)
    net, error = fit(way, data, optimizer=bpx.SGD(spike))
    is_told(net, error)
    assert error.layer.startswith("the parameters of layer 0")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_made_by_training_on_each_backend(backend, host, data, momentum):
    net = bpx.Network([12, 8, 1], output="identity", cost="quadratic", backend=backend, seed=0)
    spike = bpx.schedules.StepDecay(1e-3, every=DONE, factor=1e46)
    with pytest.raises(bpx.DivergenceError) as caught, np.errstate(all="ignore"):
        net.fit(data.x, data.y, epochs=5, batch_size=BATCH, optimizer=bpx.SGD(spike, momentum))
    assert (caught.value.epoch, caught.value.step, net.steps) == (EPOCH, STEP, DONE)
    assert np.isfinite(host(net.parameters)).all()


@pytest.mark.parametrize("way", WAYS)
def test_in_x_before_it_trains(data, way):
    """Data are checked as they come: the message has the row, and no step is made with it."""
    data.x[ROW, 5] = np.nan
    np.save(data.path, data.x)
    net, error = fit(way, data)
    assert isinstance(error, ValueError)
    if way == "an iterable":
        where = f"mini-batch {STEP} of epoch 1: x has NaN or infinity, first in row 13"
        assert net.steps == STEP - 1
    elif "blocks" in way:
        where = f"has NaN or infinity, first in row {ROW}"
    else:
        where = f"x has NaN or infinity, first in row {ROW}"
        assert net.steps == 0
    assert where in str(error)


def test_an_iterable_that_brings_it_later(data):
    net, error = fit("an iterable", data, [data.spoil])
    assert f"mini-batch {STEP} of epoch {EPOCH}: x has NaN or infinity, first in" in str(error)
    assert net.steps == DONE
