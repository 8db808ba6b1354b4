"""`WeightAveraging`: the mean that a run ends with, and what it leaves alone."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import bpx
from bpx.layers import BatchNorm, Dense, Input


class Killed(BaseException):
    pass


class KillAt(bpx.Callback):
    """A process that dies when an epoch has ended."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        if run.history.epochs == self.epoch:
            raise Killed


class Seen(bpx.Callback):
    """Parameters and running statistics of each epoch, in float64."""

    def __init__(self):
        self.parameters, self.state_vectors = [], []

    def on_epoch_end(self, run):
        to_host = run.net.backend.to_host
        self.parameters.append(np.array(to_host(run.net.parameters), np.float64))
        self.state_vectors.append(np.array(to_host(run.net.state), np.float64))


@pytest.fixture
def data(rng):
    return rng.normal(size=(53, 6)), rng.integers(3, size=53)


def network(backend="numpy", dtype="float32", seed=1):
    chain = [Input(6), Dense(5, "tanh"), BatchNorm(), Dense(3, "softmax")]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


def test_it_ends_with_the_mean_of_parameters_and_running_statistics(backend, put, host, data):
    net, plain, seen, averaging = (
        network(backend), network(backend), Seen(), bpx.WeightAveraging(3),
    )  # fmt: skip
    given = put(data[0]), put(data[1])
    options = {"epochs": 7, "batch_size": 5, "optimizer": bpx.SGD(0.5)}
    history = net.fit(*given, callbacks=[seen, averaging], validation=given, **options)
    before = plain.fit(*given, validation=given, **options)
    assert averaging.count == 5
    for kept, vectors in ((net.parameters, seen.parameters), (net.state, seen.state_vectors)):
        mean = np.mean(vectors[2:], axis=0)
        assert np.abs(host(kept) - mean).max() <= 1e-6 * np.abs(mean).max()
        assert np.abs(vectors[-1] - mean).max() > 1e-3  # the last epoch's are others
    assert history["validation_cost"] == before["validation_cost"]  # training is not changed
    assert np.array_equal(host(plain.parameters), seen.parameters[-1].astype(np.float32))


def test_one_epoch_is_that_epoch(data):
    net, twin = network(), network()
    net.fit(*data, epochs=3, callbacks=bpx.WeightAveraging(3))
    twin.fit(*data, epochs=3)
    assert np.array_equal(net.parameters, twin.parameters)


@pytest.mark.parametrize("killed_after", [2, 5], ids=["before the mean", "in the mean"])
def test_a_killed_run_ends_with_the_same_mean(data, tmp_path, killed_after):
    whole, killed, resumed = network(), network(), network(seed=9)
    options = {"epochs": 8, "batch_size": 5, "optimizer": bpx.Adam(0.01)}
    whole.fit(*data, callbacks=bpx.WeightAveraging(4), **options)
    with pytest.raises(Killed):
        killed.fit(
            *data, callbacks=[bpx.WeightAveraging(4), KillAt(killed_after)],
            checkpoint=bpx.Checkpoint(tmp_path, steps=3), **options,
        )  # fmt: skip
    again = bpx.WeightAveraging(4)
    resumed.fit(*data, callbacks=again, checkpoint=tmp_path, resume=True, **options)
    assert again.count == 5
    assert np.array_equal(resumed.parameters, whole.parameters)
    assert np.array_equal(resumed.state, whole.state)


def test_each_call_of_fit_counts_anew(data):
    net, averaging, seen = network(), bpx.WeightAveraging(2), Seen()
    net.fit(*data, epochs=3, callbacks=averaging)
    net.fit(*data, epochs=2, callbacks=[averaging, seen])
    assert averaging.count == 1
    assert np.array_equal(net.parameters, seen.parameters[-1].astype(np.float32))


def test_ctrl_c_leaves_the_last_step(data):
    class Press(bpx.Callback):
        def on_step_end(self, run):
            if run.history.epochs == 3:
                os.kill(os.getpid(), signal.SIGINT)

    last = []
    keep = bpx.Callback()
    keep.on_fit_end = lambda run: last.append(run.net.parameters.copy())
    net = network()
    with pytest.warns(RuntimeWarning, match="interrupted by Ctrl-C"):
        net.fit(*data, epochs=9, callbacks=[keep, Press(), bpx.WeightAveraging(1)])
    assert net.history.interrupted
    assert np.array_equal(net.parameters, last[0])


def test_a_run_that_ends_before_the_first_one_says_so(data):
    def stop(run):
        run.stop("enough")

    net, twin = network(), network()
    twin.fit(*data, epochs=1)
    with pytest.warns(RuntimeWarning, match="ended with epoch 1, before 4, with which Weight"):
        net.fit(*data, epochs=9, callbacks=[bpx.WeightAveraging(4), stop])
    assert np.array_equal(net.parameters, twin.parameters)


def test_an_estimator_ends_with_the_mean(data):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from bpx.sklearn import MLPClassifier

    averaging = bpx.WeightAveraging(6)
    options = {"max_iter": 10, "random_state": 0, "tol": 0.0, "n_iter_no_change": 99}
    model = MLPClassifier(8, callbacks=averaging, **options)
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(*data)
    assert averaging.count == 5


WRONG = [
    (lambda fit: fit(bpx.WeightAveraging(0)), "the start of WeightAveraging >= 1, got 0"),
    (
        lambda fit: fit(bpx.WeightAveraging(4)),
        "expected the start of WeightAveraging to be one of the 3 epochs of this fit, got 4: "
        "begin earlier, or train for longer",
    ),
    (
        lambda fit: fit([bpx.EarlyStopping(5), bpx.WeightAveraging(1)]),
        "expected one callback that puts other weights when fit ends, got EarlyStopping and "
        r"WeightAveraging: EarlyStopping\(restore_best=False\) only stops",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_bad_input(call, message, data):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        call(lambda callbacks: net.fit(*data, epochs=3, callbacks=callbacks))
    assert np.array_equal(net.parameters, before)


def test_early_stopping_that_only_stops_goes_with_it(data):
    stop = bpx.EarlyStopping(2, min_delta=1e9, restore_best=False)
    averaging = bpx.WeightAveraging(2)
    network().fit(*data, epochs=20, callbacks=[averaging, stop])
    assert averaging.count == 2
