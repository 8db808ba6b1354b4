"""The seed's sums, one step on every backend, and what fit promises."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import itertools
import logging
import os
import pickle
import re
import signal
import sys
import tracemalloc
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import bpx
from bpx import layers, schedules
from bpx.activations import ACTIVATIONS
from bpx.context import MOST_SIZES, Workspace
from bpx.training import updates

SIZES = (6, 5, 3)


def seeds_step(sizes, weights, biases, x, y, eta, lmbda, n, cost):
    """One mini-batch of the seed's network2.py, a sample at a time."""

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    nabla_b = [np.zeros_like(b) for b in biases]
    nabla_w = [np.zeros_like(w) for w in weights]
    for sample, target in zip(x, y, strict=True):
        activation, activations, zs = sample[:, None], [sample[:, None]], []
        for b, w in zip(biases, weights, strict=True):
            zs.append(w @ activation + b)
            activation = sigmoid(zs[-1])
            activations.append(activation)
        delta = activations[-1] - target[:, None]
        if cost == "quadratic":
            delta = delta * sigmoid(zs[-1]) * (1 - sigmoid(zs[-1]))
        for back in range(1, len(sizes)):
            if back > 1:
                slope = sigmoid(zs[-back]) * (1 - sigmoid(zs[-back]))
                delta = (weights[-back + 1].T @ delta) * slope
            nabla_b[-back] += delta
            nabla_w[-back] += delta @ activations[-back - 1].T
    m = len(x)
    weights = [
        (1 - eta * lmbda / n) * w - eta / m * nw for w, nw in zip(weights, nabla_w, strict=True)
    ]
    biases = [b - eta / m * nb for b, nb in zip(biases, nabla_b, strict=True)]
    return weights, biases


@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy"])
@pytest.mark.parametrize("fused", [True, False])
def test_one_step_is_the_seeds(backend, put, host, rng, cost, fused):
    net = bpx.Network(SIZES, cost=cost, backend=backend, dtype="float64", seed=1)
    before_w = [host(w) for w in net.weights]
    before_b = [host(b)[:, None] for b in net.biases]
    x, labels = rng.normal(size=(8, 6)), rng.integers(3, size=8)
    expected_w, expected_b = seeds_step(
        SIZES, before_w, before_b, x, np.eye(3)[labels], 0.7, 2.0, 8, cost
    )
    options = {} if fused else {"clip_norm": 1e9}
    net.fit(put(x), put(labels), epochs=1, batch_size=8, optimizer=bpx.SGD(0.7), l2=2.0, **options)
    for got, expected in zip(net.weights, expected_w, strict=True):
        assert np.abs(host(got) - expected).max() < 1e-12
    for got, expected in zip(net.biases, expected_b, strict=True):
        assert np.abs(host(got) - expected[:, 0]).max() < 1e-12


OPTIMIZERS = [
    bpx.SGD(0.1),
    bpx.SGD(0.1, momentum=0.9),
    bpx.SGD(0.1, momentum=0.9, nesterov=True),
    bpx.RMSprop(0.01),
    bpx.Adam(0.01),
    bpx.Adam(0.01, epsilon_hat=True),
    bpx.AdamW(0.01, weight_decay=0.1),
]


def three_steps(backend, optimizer, rng, hidden="tanh", output="softmax", cost="cross-entropy"):
    chain = [
        layers.Input(6),
        layers.Rescale((1.0, 2.0, 0.5, 1.0, 1.0, 1.0), 0.1),
        layers.Dense(5, hidden),
        layers.Dropout(0.3),
        layers.Dense(3 * bpx.costs.COSTS.get(cost).outputs_per_target, output),
    ]
    net = bpx.Network(
        chain, cost=cost, backend=backend, dtype="float64", seed=4, task="regression"
    )
    x, y = 0.3 * rng.normal(size=(12, 6)), rng.uniform(0.1, 1.0, (12, 3))
    y = y / y.sum(axis=1, keepdims=True)
    weight = rng.uniform(0.5, 2.0, 12)
    net.fit(x, y, epochs=1, batch_size=5, optimizer=optimizer, l2=0.3, sample_weight=weight)
    return net.backend.to_host(net.parameters)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_agree_between_backends(backend, optimizer):
    ours = three_steps(backend, optimizer, np.random.default_rng(3))
    numpys = three_steps("numpy", optimizer, np.random.default_rng(3))
    assert np.abs(ours - numpys).max() < 1e-12


@pytest.mark.parametrize("cost", sorted(bpx.costs.COSTS.builtin))
@pytest.mark.parametrize("hidden", sorted(ACTIVATIONS.builtin))
def test_steps_agree_for_every_cost_and_activation(backend, cost, hidden):
    cost = bpx.costs.COSTS.get(cost)
    defined = cost.outputs is None or "simplex" in cost.outputs
    options = {"cost": cost, "hidden": hidden, "output": "softmax" if defined else "identity"}
    ours = three_steps(backend, bpx.SGD(0.1), np.random.default_rng(3), **options)
    numpys = three_steps("numpy", bpx.SGD(0.1), np.random.default_rng(3), **options)
    assert np.abs(ours - numpys).max() < 1e-12


def test_ten_epochs_on_digits_agree(backend):
    (x, y), _, _ = bpx.datasets.digits("float64")

    def train(where):
        net = bpx.Network([64, 30, 10], backend=where, dtype="float64", seed=0)
        net.fit(x, y, epochs=10, batch_size=10, optimizer=bpx.SGD(0.5))
        return np.array(net.backend.to_host(net.parameters))

    assert np.abs(train(backend) - train("numpy")).max() < 1e-10


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=str
)
def test_the_fused_update_is_the_plain_one(backend, put, host, rng, options):
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    found = []
    for limits in ({}, {"clip_norm": 1e9}):
        net = bpx.Network(SIZES, backend=backend, dtype="float64", seed=2)
        optimizer = bpx.SGD(0.3, **options)
        net.fit(put(x), put(y), epochs=3, batch_size=6, optimizer=optimizer, l2=1.0, **limits)
        found.append(host(net.parameters))
    assert np.abs(found[0] - found[1]).max() < 1e-12


def test_a_loop_of_ones_own_ends_where_fit_does(rng):
    x, y = rng.normal(size=(23, 6)), rng.integers(3, size=23)
    chain = [layers.Input(6), layers.Dense(5), layers.Dropout(0.5), layers.Dense(3, "softmax")]
    ours = bpx.Network(chain, dtype="float64", seed=1)
    theirs = ours.copy()
    theirs.fit(x, y, epochs=3, batch_size=5, optimizer=bpx.Adam(0.01), l2=0.5)
    optimizer = bpx.Adam(0.01)
    state, step = optimizer.start(ours), itertools.count()
    loader = bpx.batches(x, y, 5, seed=ours.generator)
    for _ in range(3):
        for bx, by in loader:
            gradient = ours.backprop(bx, by, l2=0.5, n=23)
            optimizer.update(ours.parameters, gradient.flat, state, next(step))
    assert np.abs(ours.parameters - theirs.parameters).max() < 1e-12


def test_fit_again_goes_on(rng):
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    once, twice = (bpx.Network(SIZES, dtype="float64", seed=3) for _ in range(2))
    once.fit(x, y, epochs=4, optimizer=bpx.Adam(0.01))
    twice.fit(x, y, epochs=2, optimizer=bpx.Adam(0.01))
    twin = twice.copy()
    history = twice.fit(x, y, epochs=2)
    assert history["epoch"] == [3, 4]
    assert np.array_equal(once.parameters, twice.parameters)
    twin.fit(x, y, epochs=2)
    assert np.array_equal(once.parameters, twin.parameters)


@pytest.mark.parametrize(("dtype", "small"), [("float32", 1e-40), ("float64", 1e-310)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_weights_whose_reciprocal_is_not_finite_are_zero(rng, dtype, small, accumulate):
    """A mini-batch with no others would divide by their sum."""
    x, y, nets = rng.normal(size=(8, 6)), np.arange(8) % 3, []
    for weight in (small, 0.0):
        nets.append(bpx.Network(SIZES, dtype=dtype, seed=1))
        weights = np.repeat([weight, 1.0], 4)
        options = {"batch_size": 4, "epochs": 2, "accumulate": accumulate, "shuffle": False}
        nets[-1].fit(x, y, sample_weight=weights, **options)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_sample_weights_repeat_samples(backend, put, host, rng):
    x, y = rng.normal(size=(4, 6)), np.array([0, 1, 2, 0])
    net = bpx.Network(SIZES, backend=backend, dtype="float64", seed=3)
    weighted = net.backprop(put(x), put(y), sample_weight=put(np.array([2.0, 0.0, 1.0, 1.0])))
    rows = [0, 0, 2, 3]
    repeated = net.backprop(put(x[rows]), put(y[rows]))
    assert np.abs(host(weighted.flat) - host(repeated.flat)).max() < 1e-14
    assert abs(float(weighted.cost) - float(repeated.cost)) < 1e-14


def test_l1_adds_the_sign(rng):
    net = bpx.Network(SIZES, dtype="float64", seed=3)
    x, y = rng.normal(size=(4, 6)), np.array([0, 1, 2, 0])
    plain, penal = net.backprop(x, y), net.backprop(x, y, l1=0.5, n=4)
    for w, a, b in zip(net.weights, plain.weights, penal.weights, strict=True):
        assert np.abs(b - a - 0.125 * np.sign(w)).max() < 1e-15
    for a, b in zip(plain.biases, penal.biases, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("limits", [(0.1, None), (None, 0.01), (0.05, 0.01)])
def test_clipping(backend, put, host, rng, limits):
    grad = rng.normal(size=1000)
    array = put(grad.copy()) + 0.0
    updates.clip(backend, array, *limits)
    expected = grad if limits[1] is None else np.clip(grad, -limits[1], limits[1])
    if limits[0] is not None:
        expected = expected * min(1.0, limits[0] / np.linalg.norm(expected))
    assert np.abs(host(array) - expected).max() < 1e-15


@pytest.mark.parametrize(
    ("grad", "clipped"),
    [
        ([3e30, 4e30], [0.6, 0.8]),
        ([2.5e38] * 10, [0.1**0.5] * 10),  # their norm is no float32
        ([3e-30, 4e-30], [3e-30, 4e-30]),
        ([0.0] * 3, [0.0] * 3),
        ([], []),
    ],
    ids=str,
)
def test_clipping_where_squares_have_no_room(grad, clipped):
    array = np.array(grad, dtype=np.float32)
    with np.errstate(over="ignore"):  # as in `fit`
        updates.clip(bpx.backends.get("numpy"), array, norm=1.0)
    assert np.allclose(array, clipped, atol=0.0)


@pytest.mark.parametrize("form", ["arrays", "iterable"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalties", [{"l2": 0.7}, {"l2": 0.7, "l1": 0.3}], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_penalties_divided_by_the_batch(backend, rng, momentum, penalties, weighted, form):
    x, y = rng.normal(size=(13, 3)), rng.integers(2, size=13)
    weight = rng.random(13) if weighted else None
    one, other = (
        bpx.Network([3, 4, 2], seed=0, dtype="float64", backend=backend) for _ in range(2)
    )
    optimizer = bpx.SGD(0.3, momentum=momentum)
    slices = [slice(0, 5), slice(5, 10), slice(10, 13)]
    batches = [(x[s], y[s]) if weight is None else (x[s], y[s], weight[s]) for s in slices]
    options = {"epochs": 1, "optimizer": optimizer, "n": "batch", **penalties}
    if form == "arrays":
        options |= {"batch_size": 5, "shuffle": lambda: np.arange(13), "sample_weight": weight}
        one.fit(x, y, **options)
    else:
        one.fit(batches, **options)
    state = optimizer.start(other)
    for step, batch in enumerate(batches):
        total = len(batch[0]) if weight is None else float(batch[2].sum())
        # λ/1 with λ divided here is what λ/Σw must be.
        divided = {name: value / total for name, value in penalties.items()}
        gradient = other.backprop(*batch[:2], sample_weight=(*batch, None)[2], n=1, **divided)
        optimizer.update(other.parameters, gradient.flat, state, step)
    theirs = other.backend.to_host(other.parameters)
    assert np.abs(one.backend.to_host(one.parameters) - theirs).max() <= 1e-12


@pytest.mark.parametrize("penalties", [{"l2": 0.7}, {"l2": 0.7, "l1": 0.3}], ids=str)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_without_weight_has_no_penalty(backend, rng, penalties, accumulate):
    """Its weights sum up to 0, by which nothing can be divided."""
    x, y = rng.normal(size=(15, 3)), rng.integers(2, size=15)
    nets = [bpx.Network([3, 4, 2], seed=0, dtype="float64", backend=backend) for _ in range(2)]
    options = {"epochs": 1, "batch_size": 5, "shuffle": False, "n": "batch", **penalties}
    options |= {"optimizer": bpx.SGD(0.3), "accumulate": accumulate}
    nets[0].fit(x, y, sample_weight=np.repeat([1.0, 0.0, 1.0], 5), **options)
    rest = np.r_[:5, 10:15]
    nets[1].fit(x[rest], y[rest], **options)
    one, other = (net.backend.to_host(net.parameters) for net in nets)
    assert np.abs(one - other).max() <= 1e-12


@pytest.mark.parametrize("n", [None, "batch"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_objective_of_the_steps(backend, rng, weighted, n):
    """Its mean over the samples; a rate of 0 leaves the weights for a sum by hand."""
    x, y = rng.normal(size=(13, 3)), rng.integers(2, size=13)
    weight = rng.random(13) if weighted else None
    net = bpx.Network([3, 4, 2], seed=0, dtype="float64", backend=backend)
    options = bpx.training.Options(
        epochs=1, batch_size=5, optimizer=bpx.SGD(0.0), l2=0.7, sample_weight=weight,
        shuffle=False, n=n, cost_factor=0.5,
    )  # fmt: skip
    history = bpx.training.train(net, x, y, options)
    squares = sum(float((net.backend.to_host(w) ** 2).sum()) for w in net.weights)
    expected = 0.0
    for s in (slice(0, 5), slice(5, 10), slice(10, 13)):
        w = None if weight is None else weight[s]
        total = (s.stop - s.start if w is None else w.sum()) if n == "batch" else 13
        cost = net.evaluate(x[s], y[s], sample_weight=w)["cost"]
        expected += (s.stop - s.start) * (0.5 * cost + 0.35 * squares / total) / 13
    assert history["training_objective"][0] == pytest.approx(expected, rel=1e-12)


def test_iterables_and_memory_maps_are_the_arrays(backend, rng, tmp_path, host):
    x, y = rng.normal(size=(23, 6)), rng.integers(3, size=23)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = []
    for data in ((x, y), (mapped, y), ([(x[i : i + 5], y[i : i + 5]) for i in range(0, 23, 5)],)):
        net = bpx.Network(SIZES, backend=backend, dtype="float64", seed=3)
        options = {"batch_size": 5, "shuffle": False} if len(data) == 2 else {"n": 23}
        net.fit(*data, epochs=2, l2=0.1, **options)
        found.append(host(net.parameters))
    # Arrays may run compiled, which adds in another order than step by step; on a device a memory
    # map goes step by step too.
    assert np.abs(found[0] - found[1]).max() <= (0.0 if backend.is_host else 1e-14)
    assert np.abs(found[0] - found[2]).max() < 1e-14


def test_the_steps_of_an_epoch_are_known_where_an_iterable_has_a_length():
    data, seen = [(np.ones((2, 1)), [0, 1])] * 3, []
    for given in (data, iter(data)):
        bpx.Network([1, 1], seed=0).fit(
            given, epochs=1, callbacks=lambda run: seen.append(run.steps_per_epoch)
        )
    assert seen == [3, None]


def test_uint8_is_scaled_as_it_is_gathered(backend, put, host, rng):
    x, y = rng.integers(256, size=(20, 6), dtype=np.uint8), rng.integers(3, size=20)
    chain = [layers.Input(6), layers.Rescale(1 / 255), layers.Dense(3, "softmax")]
    folded = bpx.Network(chain, backend=backend, dtype="float64", seed=3)
    folded.fit(put(x), put(y), epochs=2, batch_size=8)
    plain = bpx.Network(
        [layers.Input(6), layers.Dense(3, "softmax")], backend=backend, dtype="float64", seed=3
    )
    plain.fit(put(x / 255), put(y), epochs=2, batch_size=8)
    assert np.abs(host(folded.parameters) - host(plain.parameters)).max() < 1e-12
    assert folded.accuracy(put(x), put(y)) == plain.accuracy(put(x / 255), put(y))


def test_the_book_trains_without_a_non_finite_cost(mnist):
    (x, y), _, _ = mnist
    net = bpx.Network([784, 100, 10], weights="normal", bias="normal", seed=0)
    history = net.fit(x[:10000], y[:10000], epochs=3, batch_size=10, optimizer=bpx.SGD(0.5))
    assert np.isfinite(history["training_cost"]).all()


# --- when it does not go well -------------------------------------------------------------------


def test_a_last_update_that_overflows_is_found(rng):
    """Its cost was finite, and no step comes after it that would tell."""
    net = bpx.Network([2, 1], output="identity", cost="quadratic", seed=0)
    before = net.parameters.copy()
    with pytest.raises(bpx.DivergenceError, match=r"step 1 of epoch 1, first in the parameters"):
        net.fit([[1.0, 2.0]], [3.0], epochs=1, optimizer=bpx.SGD(1e39))
    assert np.array_equal(net.parameters, before)
    assert net.history.epochs == 0


@pytest.mark.parametrize("hooked", [False, True])
def test_parameters_whose_sum_overflows_are_finite(hooked):
    net = bpx.Network([4, 1], output="identity", seed=0)
    net.weights[0] = np.full((1, 4), 3e38)  # their sum is no float32
    each = type("Each", (bpx.Callback,), {"on_step_end": lambda self, run: None})
    callbacks, sgd = [each()] if hooked else [], bpx.SGD(0.1)
    history = net.fit(np.zeros((6, 4)), np.ones(6), optimizer=sgd, callbacks=callbacks)
    assert history.epochs == 30
    assert net.biases[0] > 0.5


def test_ctrl_c_that_is_ignored_stays_ignored(rng):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        net = bpx.Network(SIZES, seed=1)
        data = rng.normal(size=(20, 6)), rng.integers(3, size=20)
        history = net.fit(
            *data, epochs=3, callbacks=lambda run: signal.raise_signal(signal.SIGINT)
        )
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted
    assert history.epochs == 3


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_update_that_overflows_in_an_iterable_is_found(backend, host, pieces):
    """Each of its steps is read at once: the next one's copy must not be of infinite weights."""
    net = bpx.Network([2, 1], output="identity", cost="quadratic", backend=backend, seed=0)
    before = host(net.parameters).copy()
    with pytest.raises(bpx.DivergenceError) as caught, np.errstate(all="ignore"):
        net.fit([([[1.0, 2.0]], [3.0])] * pieces, epochs=1, optimizer=bpx.SGD(1e39))
    assert caught.value.step == 1
    assert caught.value.__cause__ is None
    assert np.array_equal(host(net.parameters), before)
    assert net.steps == 0


def test_an_update_that_overflows_in_an_epoch_of_a_device():
    strict = pytest.importorskip("array_api_strict", reason="it has a device that is no host")
    assert strict
    found = []
    for where in ("numpy", "array_api_strict:device1"):
        net = bpx.Network([2, 1], output="identity", cost="quadratic", backend=where, seed=0)
        x, y = np.ones((12, 2)), np.ones(12)
        rate = bpx.schedules.StepDecay(1e-3, every=3, factor=1e42)  # the fourth step overflows
        with pytest.raises(bpx.DivergenceError) as caught, np.errstate(all="ignore"):
            net.fit(x, y, epochs=1, batch_size=1, optimizer=bpx.SGD(rate))
        assert (caught.value.step, net.steps) == (4, 3)
        found.append(net.backend.to_host(net.parameters))
    assert np.isfinite(found[0]).all()
    assert np.abs(found[0] - found[1]).max() < 1e-6


def test_recovery_keeps_what_a_callback_does_to_the_weights(rng):
    class Bound(bpx.Callback):
        def on_step_end(self, run):
            seen.append(run.net.parameters.clip(-0.5, 0.5))
            run.net.parameters[...] = seen[-1]

    seen: list = []
    net = bpx.Network([6, 8, 1], hidden="relu", output="identity", cost="quadratic", seed=1)
    x = np.concatenate([rng.normal(size=(30, 6)), np.full((1, 6), 1e30)])
    far = pytest.warns(RuntimeWarning, match="x is far from 1")
    with far, pytest.raises(bpx.DivergenceError):
        net.fit(x, np.ones(31), shuffle=False, batch_size=1, callbacks=Bound())
    assert np.array_equal(net.parameters, seen[-1])


def test_an_update_of_ones_own_is_used(rng):
    @dataclass(frozen=True)
    class Sign(bpx.SGD):
        def update(self, theta, grad, state, step):
            theta -= self.rate(state, step) * np.sign(grad)

    net = bpx.Network(SIZES, dtype="float64", seed=1)
    before = net.weights[0].copy()
    net.fit(rng.normal(size=(9, 6)), rng.integers(3, size=9), epochs=1, optimizer=Sign(0.01))
    assert np.abs(np.abs(net.weights[0] - before) - 0.01).max() < 1e-15


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint8, np.float32])
@pytest.mark.parametrize("outputs", [1, 3])
def test_targets_and_weights_of_any_kind(backend, put, host, rng, kind, outputs):
    net = bpx.Network([4, outputs], backend=backend, task="multilabel", seed=1)
    twin = net.copy()
    x, y = rng.normal(size=(8, 4)), rng.integers(2, size=(8, outputs)).astype(kind)
    weight = np.array([1, 0, 1, 1, 1, 0, 1, 1], dtype=kind)
    data = put(x), put(y), put(weight)
    net.fit(*data[:2], sample_weight=data[2], epochs=1, validation=data)
    net.fit([data], epochs=1)
    real = put(x), *(put(array.astype(np.float32)) for array in (y, weight))
    twin.fit(*real[:2], sample_weight=real[2], epochs=1, validation=real)
    twin.fit([real], epochs=1)
    assert np.array_equal(host(net.parameters), host(twin.parameters))
    assert net.accuracy(*data[:2], sample_weight=data[2]) == twin.accuracy(*real)


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_several_classes_in_a_row_are_told(backend, put, rng, kind):
    """Autoencoders have such targets too, so it is no error."""
    x, y = rng.normal(size=(5, 4)), np.eye(3)[[0, 1, 2, 0, 1]].astype(kind)
    nets = [bpx.Network([4, 3], backend=backend, seed=1) for _ in range(4)]
    nets[0].fit(put(x), put(y), epochs=1)
    y[2:4, 0] = y[3, 1] = 1
    for net, *data in ((nets[1], put(x), put(y)), (nets[2], [(put(x), put(y))])):
        message = "has rows with more than one number above ½, first row 2,"
        with pytest.warns(RuntimeWarning, match=message) as told:
            net.fit(*data, epochs=2)
        assert [each.filename for each in told] == [__file__]  # once, whatever the epochs
    ensemble = bpx.Ensemble.of(2, nets[0])
    for fit, options in ((nets[3].fit, {"accumulate": 2}), (ensemble.fit, {})):
        with pytest.warns(RuntimeWarning, match="more than one number above ½") as told:
            fit([(put(x), put(y))], epochs=1, **options)
        assert {each.filename for each in told} == {__file__}
    for task in ("multilabel", "regression"):
        bpx.Network([4, 3], backend=backend, task=task, seed=1).fit(put(x), put(y), epochs=1)


def test_soft_targets_name_one_class(rng):
    """And those of 0.1 and 0.9 too."""
    for y in ([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]], [[0.1, 0.9, 0.1], [0.9, 0.1, 0.1]]):
        bpx.Network([4, 3], seed=1).fit(rng.normal(size=(2, 4)), y, epochs=1)


@pytest.mark.parametrize("chosen", OPTIMIZERS, ids=repr)
def test_an_optimizer_that_is_set_is_the_next_fits(backend, chosen, rng):
    """Without the memory of another, which has other vectors: compiled steps write into them."""
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    one = bpx.Network(SIZES, backend=backend, seed=1)
    for last in OPTIMIZERS:
        one.fit(x, y, epochs=1, optimizer=last)
        one.optimizer = chosen
        one.fit(x, y, epochs=1)
        one.optimizer = None
    one.fit(x, y, epochs=1, optimizer=bpx.Adam())
    other = one.copy()
    one.optimizer = chosen
    histories = one.fit(x, y, epochs=1), other.fit(x, y, epochs=1, optimizer=chosen)
    assert histories[0]["training_cost"] == histories[1]["training_cost"]
    assert one.optimizer_state.step == other.optimizer_state.step


def test_an_optimizer_that_a_callback_sets_is_for_the_next_run(rng):
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    net = bpx.Network(SIZES, seed=1)

    def sets(run):
        run.net.optimizer = "adam"

    history = net.fit(x, y, epochs=3, optimizer=bpx.SGD(0.25), callbacks=sets)
    assert history["learning_rate"] == [0.25] * 3
    assert (net.optimizer, net.optimizer_state) == (bpx.Adam(), None)
    net.fit(x, y, epochs=1)
    assert sorted(net.optimizer_state.slots) == ["mean", "square"]


def test_a_memory_of_another_network_is_refused(backend, rng):
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    small, large = (bpx.Network([6, n, 3], backend=backend, seed=1) for n in (4, 40))
    small.fit(x, y, epochs=1, optimizer=bpx.Adam())
    large.optimizer, large.optimizer_state = small.optimizer, small.optimizer_state
    before = large.copy()
    with pytest.raises(ValueError, match=r"slots\['mean'\], of Adam .* = None begins anew"):
        large.fit(x, y, epochs=1)
    assert np.array_equal(*(net.backend.to_host(net.parameters) for net in (large, before)))
    large.optimizer_state = None
    large.fit(x, y, epochs=1)


def test_a_memory_of_another_network_is_refused_where_steps_are_inherited(rng):
    class Heavy(bpx.SGD):
        """Whose steps are still compiled."""

    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    small, large = (bpx.Network([6, n, 3], seed=1) for n in (4, 40))
    small.fit(x, y, epochs=1, optimizer=Heavy(0.1, momentum=0.9))
    large.optimizer, large.optimizer_state = small.optimizer, small.optimizer_state
    with pytest.raises(ValueError, match=r"slots\['velocity'\], of Heavy"):
        large.fit(x, y, epochs=1)


def test_a_metric_is_a_column_that_may_be_monitored(tmp_path):
    """In a checkpoint too, and in a run that goes on from it."""
    x, y, options = np.eye(3), [0, 1, 2], {"epochs": 6, "optimizer": bpx.SGD(0.1)}
    values = [1.0, 3.0, np.float32(4.0), np.array(2.0), 1.0, 9.0]

    def fit(folder, end=6, **more):
        net, rows = bpx.Network([3, 3], seed=1), []
        metric = bpx.Metric("f1", lambda net: values[net.epochs - 1], larger_is_better=True)
        seen = [lambda run: rows.append(net.parameters.copy()), *([KillAfter(end)] * (end < 6))]
        with contextlib.suppress(KeyError):
            net.fit(
                x,
                y,
                callbacks=[metric, bpx.EarlyStopping(2, monitor="f1"), *seen],
                checkpoint=folder,
                **options,
                **more,
            )
        return net, rows

    net, rows = fit(tmp_path / "whole")
    assert net.history["f1"] == [1.0, 3.0, 4.0, 2.0, 1.0]
    assert net.history.stopped == "no better f1 than 4 (epoch 3) in 2 epochs"
    assert np.array_equal(net.parameters, rows[2])
    assert list(net.history)[-1] == "f1"
    assert net.history.to_csv().splitlines()[3].endswith(",4.0")
    assert net.history.best_epoch("f1") == 3
    assert net.history.to_csv(tmp_path / "f1.csv") == (tmp_path / "f1.csv").read_text()
    fit(tmp_path / "cut", end=3)
    again, _ = fit(tmp_path / "cut", resume=True)
    assert again.history["f1"] == net.history["f1"]
    assert np.array_equal(again.parameters, net.parameters)


class KillAfter(bpx.Callback):
    """Like a program that dies."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, run):
        if run.epoch == self.epochs:
            raise KeyError("killed")


def test_callbacks_show_the_arguments_that_they_have():
    class Own(bpx.Callback):
        def __init__(self, rows, *others, kept=2):
            self.rows = rows

    for callback, shown in (
        (bpx.WeightAveraging(2), "WeightAveraging(start=2)"),
        (
            bpx.EarlyStopping(3, monitor="f1"),
            "EarlyStopping(patience=3, monitor='f1', min_delta=0",
        ),
        (bpx.Metric("f1", len), "Metric('f1')"),
        (bpx.callbacks.Progress(), "Progress("),
        (Own([0] * 1000), f"Own(rows=[{'0, ' * 18}0,...)"),
        (bpx.Callback(), "Callback()"),
    ):
        assert repr(callback).startswith(shown)


def test_a_metric_that_ends_early_has_nan_in_later_rows():
    net = bpx.Network([3, 3], seed=1)
    metric = bpx.Metric("n", lambda net: net.epochs, larger_is_better=True)
    history = net.fit(np.eye(3), [0, 1, 2], epochs=2, callbacks=metric)
    history.append({"epoch": 3})
    assert np.isnan(history["n"][2])
    assert history["n"][:2] == [1.0, 2.0]
    assert (history.best("n"), history.best_epoch("n")) == (2.0, 2)
    assert history.best("training_accuracy") == max(history["training_accuracy"][:2])


@pytest.mark.parametrize("weighted", [False, True])
def test_the_cost_of_each_step(backend, put, rng, weighted):
    """That of its mini-batch with the weights before it, step by step and compiled."""
    x, y = put(rng.normal(size=(13, 3))), put(rng.integers(2, size=13))
    weight = put(rng.random(13)) if weighted else None
    batches = [slice(0, 5), slice(5, 10), slice(10, 13)]
    options = {"epochs": 2, "batch_size": 5, "optimizer": bpx.SGD(0.5), "shuffle": False}
    options |= {"sample_weight": weight, "l2": 0.3}

    def make():
        return bpx.Network([3, 4, 2], seed=0, dtype="float64", backend=backend)

    class Next(bpx.Callback):
        def __init__(self):
            self.expected, self.seen, self.epochs = [self.cost(make(), 0)], [], []

        def cost(self, net, step):
            s = batches[step % 3]
            w = None if weight is None else weight[s]
            return net.evaluate(x[s, :], y[s], sample_weight=w)["cost"]

        def on_fit_begin(self, run):
            assert run.step_costs.shape == (0,)

        def on_step_end(self, run):
            assert len(run.step_costs) == (run.step - 1) % 3 + 1
            self.seen.append(run.step_costs[-1])
            self.expected.append(self.cost(run.net, run.step))

        def on_epoch_end(self, run):
            self.epochs.extend(run.step_costs)

    told, costs = Next(), []
    make().fit(x, y, callbacks=told, **options)
    assert told.seen == told.epochs == pytest.approx(told.expected[:6], rel=1e-12)
    make().fit(x, y, callbacks=lambda run: costs.extend(run.step_costs), **options)
    assert costs == pytest.approx(told.seen, rel=1e-12)


def test_the_costs_of_steps_after_an_error(rng):
    """They are what they were: a look at them is no step, and holds nothing."""
    x, y, runs = rng.normal(size=(60, 3)), np.arange(60) % 2, []

    class Last(bpx.Callback):
        def on_step_end(self, run):
            runs[:] = [run]
            if run.step == 4:
                run.net.parameters[...] = np.nan

    net = bpx.Network([3, 2], seed=1)
    with pytest.raises(bpx.DivergenceError):
        net.fit(x, y, batch_size=10, callbacks=Last())
    net.parameters = np.zeros_like(net.parameters)
    costs = runs[0].step_costs
    assert len(costs) == 4
    assert np.isfinite(costs).all()
    assert not costs.flags.writeable
    assert not net.parameters.any()


@pytest.mark.parametrize("how", ["stop", "Ctrl-C"])
def test_an_epoch_whose_last_step_is_done_has_ended(rng, how):
    x, y, seen = rng.normal(size=(30, 3)), np.arange(30) % 2, []

    class At(bpx.Callback):
        def on_step_end(self, run):
            if run.step == 3:
                run.stop("enough") if how == "stop" else signal.raise_signal(signal.SIGINT)

        def on_epoch_end(self, run):
            seen.append(run.epoch)

    net = bpx.Network([3, 2], seed=1)
    told = (
        contextlib.nullcontext() if how == "stop" else pytest.warns(RuntimeWarning, match="1 of 5")
    )
    with told:
        history = net.fit(x, y, epochs=5, batch_size=10, callbacks=At())
    assert (net.steps, net.epochs, history.epochs, seen) == (3, 1, 1, [1])
    assert history.stopped == "enough" or history.interrupted


def test_ctrl_c_in_a_fit_that_a_callback_calls_ends_both(rng):
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2

    class Press(bpx.Callback):
        def on_step_end(self, run):
            signal.raise_signal(signal.SIGINT)

    class Within(bpx.Callback):
        def on_epoch_end(self, run):
            inner = bpx.Network([3, 2])
            assert inner.fit(x, y, epochs=9, callbacks=Press()).interrupted

    with pytest.warns(RuntimeWarning) as told:  # of each
        history = bpx.Network([3, 2]).fit(x, y, epochs=5, callbacks=Within())
    assert [str(one.message).split("when ")[1][:6] for one in told] == ["0 of 9", "1 of 5"]
    assert history.interrupted
    assert history.epochs == 1


def test_a_fit_in_a_fit_of_the_same_network_leaves_it_alone(rng):
    x, y, net = rng.normal(size=(30, 3)), np.arange(30) % 2, bpx.Network([3, 2])

    def again(run):
        with pytest.raises(RuntimeError, match="is being trained"):
            net.fit(x, y)
        net.copy().fit(x, y, epochs=1)

    assert net.fit(x, y, epochs=2, callbacks=again).epochs == 2
    assert net.fit(x, y, epochs=1).epochs == 1


def test_hooks_have_the_callers_floating_point_errors(rng):
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        bpx.Network([3, 2]).fit(x, y, callbacks=lambda run: np.log(np.zeros(1)))


def test_the_rate_in_the_history_is_that_of_the_last_step(rng):
    class Halve(bpx.Callback):
        def on_step_end(self, run):
            run.optimizer_state.factor = 0.5**run.step

    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    history = bpx.Network([3, 2]).fit(
        x, y, epochs=2, batch_size=10, optimizer=bpx.SGD(8.0), callbacks=Halve()
    )
    assert history["learning_rate"] == [2.0, 0.25]


def test_a_progress_bar_of_ones_own_is_called_after_each_step(rng):
    pytest.importorskip("tqdm", reason="it draws the bar")
    seen = []

    class Bar(bpx.callbacks.Progress):
        def on_step_end(self, run):
            seen.append(run.step)

    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    bpx.Network([3, 2]).fit(x, y, epochs=2, batch_size=10, callbacks=Bar(io.StringIO()))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_padding_of_theta_stays_zero(rng):
    """What is written over all of it, and an optimizer that divides by the gradient's square."""
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    net = bpx.Network([3, 4, 2], dtype="float64", seed=0)

    def padding():
        tensors = sum(float(abs(tensor).sum()) for tensor in net.tensors.values())
        return float(abs(net.parameters).sum()) == pytest.approx(tensors, rel=1e-14)

    net.parameters = rng.normal(size=net.parameters.shape)
    assert padding()
    net.parameters += 1.0
    assert padding()
    expected = 0.5 * sum(float((w**2).sum()) for w in net.weights)
    added = net.total_cost(x, y, l2=1.0, n=1) - net.total_cost(x, y)
    assert added == pytest.approx(expected, rel=1e-12)

    class AdaGrad(bpx.optimizers.Optimizer):
        def slots(self):
            return ("sum",)

        def update(self, theta, grad, state, step):
            total = state.slots["sum"]
            total += grad * grad
            theta -= self.rate(state, step) * grad / np.sqrt(total)

    net.fit(x, y, epochs=2, optimizer=AdaGrad(0.1))
    assert padding()


def test_an_update_that_is_mixed_in_is_used(rng):
    class Still:
        def update(self, theta, grad, state, step):
            pass

    class Both(Still, bpx.SGD):
        pass

    net = bpx.Network([3, 2], seed=1)
    before = net.parameters.copy()
    with pytest.warns(RuntimeWarning, match="update of Both has left all parameters as they were"):
        net.fit(rng.normal(size=(30, 3)), np.arange(30) % 2, epochs=1, optimizer=Both(0.1))
    assert np.array_equal(net.parameters, before)


def test_where_it_diverged_from_the_start_and_in_running_statistics(rng):
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    net = bpx.Network([3, 2], seed=1)
    told = (
        "the parameters of layer 0 (Dense 2, sigmoid) had numbers that were not finite before "
        "step 1 of epoch 1, so no step made them so, and none would help: set finite numbers, or"
    )
    for wrong in (np.nan, 1e300):  # which float32 does not hold
        with np.errstate(over="ignore"):
            net.biases[0] = np.full(2, wrong)
        with pytest.raises(bpx.DivergenceError, match=f"^{re.escape(told)}") as caught:
            net.fit(x, y)
        assert caught.value.layer == "the parameters of layer 0 (Dense 2, sigmoid)"
        again = pickle.loads(pickle.dumps(caught.value))  # as a member's process sends it
        assert str(again) == str(caught.value)
    norm = [bpx.layers.Input(3), bpx.layers.BatchNorm(), bpx.layers.Dense(2, "softmax")]
    with pytest.raises(bpx.DivergenceError, match="first in the running statistics of layer 0"):
        bpx.Network(norm, seed=1).fit(np.float32(1e20) * x.astype(np.float32), y)


def test_an_error_before_the_first_step_leaves_names_as_they_were():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    net, frame = bpx.Network([2, 2]), pandas.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
    with pytest.raises(ValueError, match="no column 'nope'"):
        net.fit(frame, [0, 1], callbacks=bpx.EarlyStopping(monitor="nope"))
    assert net.columns is None
    net.fit(frame.rename(columns={"a": "c"}), [0, 1], epochs=1)
    assert net.columns == ("c", "b")


def test_a_step_without_weight_has_no_cost(rng):
    weights, costs = [1.0, 1.0, 0.0, 0.0, 1.0], []
    bpx.Network([3, 2]).fit(
        rng.normal(size=(5, 3)), [0, 1, 0, 1, 0], sample_weight=weights, shuffle=False, epochs=1,
        batch_size=2, callbacks=lambda run: costs.extend(run.step_costs),
    )  # fmt: skip
    assert np.isnan(costs).tolist() == [False, True, False]


def test_the_steps_of_an_epoch_that_a_checkpoint_cuts(tmp_path, rng):
    x, y, costs = rng.normal(size=(60, 3)), np.arange(60) % 2, []

    class Costs(bpx.Callback):
        def __init__(self, end):
            self.end = end

        def on_step_end(self, run):
            if run.step == self.end:
                raise KeyError("killed")

        def on_epoch_end(self, run):
            costs.append(run.step_costs)

    def fit(end, folder, **options):
        net, saved = bpx.Network([3, 2], seed=1), bpx.Checkpoint(tmp_path / folder, steps=2)
        net.fit(x, y, epochs=1, checkpoint=saved, callbacks=Costs(end), **options)

    fit(0, "whole")
    with pytest.raises(KeyError):
        fit(3, "cut")
    fit(0, "cut", resume=True)
    whole, cut = costs
    assert np.array_equal(whole, cut)
    assert len(cut) == 6


def test_a_callback_may_lack_a_hook(rng):
    class Silent:
        on_step_end = None

        def on_epoch_end(self, run):
            run.stop("enough")

    net = bpx.Network([6, 3], seed=1)
    history = net.fit(rng.normal(size=(9, 6)), [0, 1, 2] * 3, callbacks=Silent())
    assert history.epochs == 1


def test_an_optimizer_of_ones_own_may_remember_something_else(rng):
    class Counting(bpx.optimizers.Optimizer):
        def slots(self):
            return ("count",)

        def start(self, net):
            state = super().start(net)
            state.slots["count"] = np.zeros(1)
            return state

        def update(self, theta, grad, state, step):
            state.slots["count"] += 1.0
            theta -= self.rate(state, step) * grad

    net = bpx.Network([6, 3], seed=1)
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    for steps in (2.0, 4.0):  # the second time it goes on
        net.fit(x, y, epochs=1, optimizer=Counting(0.1))
        assert net.optimizer_state.slots["count"] == steps


def test_a_batch_of_zero_weights_changes_nothing(rng):
    x, y, weight = rng.normal(size=(4, 6)), np.array([0, 1, 2, 0]), np.array([1.0, 1.0, 0, 0])
    nets = [bpx.Network(SIZES, dtype="float64", seed=1) for _ in range(2)]
    nets[0].fit(x, y, sample_weight=weight, batch_size=2, shuffle=False, epochs=1)
    batches = bpx.batches(x, y, 2, sample_weight=weight, shuffle=False)
    nets[1].fit(batches, epochs=1)
    assert np.abs(nets[0].parameters - nets[1].parameters).max() < 1e-14
    for batch in batches:
        gradient = nets[0].backprop(batch[0], batch[1], sample_weight=batch[2])
    assert not gradient.flat.any()


def test_a_refused_batch_is_no_step(rng):
    net = bpx.Network(SIZES, seed=1)
    with pytest.raises(ValueError, match="expected x"):
        net.backprop(np.zeros((2, 5)), [0, 1])
    assert net.steps == 0


@pytest.mark.parametrize("as_iterable", [False, True])
def test_divergence_leaves_the_last_good_weights(backend, rng, host, as_iterable):
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 1))
    net = bpx.Network(
        [6, 8, 8, 1], hidden="relu", output="identity", cost="quadratic", backend=backend, seed=1
    )
    twin = net.copy()
    data = ([(x[i : i + 5], y[i : i + 5]) for i in range(0, 20, 5)],) if as_iterable else (x, y)
    options = {} if as_iterable else {"batch_size": 5, "shuffle": False}
    with (
        np.errstate(all="ignore"),
        pytest.raises(bpx.DivergenceError, match=r"not finite at step \d+ of epoch \d+, first in"),
    ):
        net.fit(*data, epochs=50, optimizer=bpx.SGD(50.0), **options)
    assert np.isfinite(host(net.parameters)).all()
    good = net.steps
    loader, steps = itertools.cycle([slice(i, i + 5) for i in range(0, 20, 5)]), 0
    with np.errstate(all="ignore"):
        for rows in itertools.islice(loader, good):
            # Both step by step or both compiled: what diverges tells the last digit apart.
            step = ([(x[rows], y[rows])],) if as_iterable else (x[rows], y[rows])
            twin.fit(*step, epochs=1, optimizer=bpx.SGD(50.0), **options)
            steps += 1
    assert steps == good > 0
    assert np.array_equal(host(net.parameters), host(twin.parameters))


def test_divergence_names_the_layer_and_keeps_the_history(rng):
    net = bpx.Network([6, 4, 3], seed=1)
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)

    def poison(run):
        if run.net.epochs == 2:
            net.weights[1][0, 0] = np.nan

    with pytest.raises(bpx.DivergenceError, match="layer 1") as caught:
        net.fit(x, y, epochs=5, callbacks=poison)
    assert (caught.value.epoch, caught.value.step) == (3, 1)
    assert caught.value.history.epochs == net.history.epochs == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_a_last_mini_batch_that_is_left_out(backend, host, rng, weighted):
    """The same as without these samples, but n is that of all."""
    x, y, steps = rng.normal(size=(23, 6)), rng.integers(3, size=23), []
    weight = rng.random(23) if weighted else None
    nets = [bpx.Network(SIZES, backend=backend, dtype="float64", seed=1) for _ in range(3)]
    options = {"epochs": 3, "batch_size": 5, "l2": 0.5, "optimizer": bpx.SGD(0.3, momentum=0.5)}
    history = nets[0].fit(
        x, y, shuffle=False, drop_last=True, sample_weight=weight,
        callbacks=lambda run: steps.append(run.steps_per_epoch), **options,
    )  # fmt: skip
    first = None if weight is None else weight[:20]
    expected = nets[1].fit(x[:20], y[:20], shuffle=False, sample_weight=first, n=23, **options)
    assert steps == [4, 4, 4]
    assert nets[0].steps == 12
    np.testing.assert_allclose(host(nets[0].parameters), host(nets[1].parameters), rtol=1e-12)
    assert history["training_cost"] == pytest.approx(expected["training_cost"], rel=1e-12)
    draws = iter(orders := [rng.permutation(23) for _ in range(3)])
    nets[1].parameters = nets[0].parameters
    nets[1].optimizer_state = copy.deepcopy(nets[0].optimizer_state)
    nets[0].fit(x, y, shuffle=lambda: next(draws), drop_last=True, **options)
    brought = (
        (x[rows], y[rows]) for order in orders for rows in np.split(order[:20], range(5, 20, 5))
    )
    options = {name: options[name] for name in ("l2", "optimizer")}
    nets[1].fit(brought, epochs=1, n=23, **options)
    np.testing.assert_allclose(host(nets[0].parameters), host(nets[1].parameters), rtol=1e-12)


def test_batches_without_the_last_one():
    loader = bpx.batches(np.arange(11), batch_size=4, seed=0, drop_last=True)
    epochs = [np.concatenate(list(loader)) for _ in range(20)]
    assert len(loader) == 2
    assert {len(set(epoch.tolist())) for epoch in epochs} == {8}
    assert set(np.concatenate(epochs).tolist()) == set(range(11))  # others each time
    assert [len(batch) for batch in bpx.batches(np.arange(8), batch_size=4, drop_last=True)] == [
        4,
        4,
    ]


def test_ctrl_c_ends_between_two_steps(rng):
    net, twin = (bpx.Network(SIZES, seed=1) for _ in range(2))
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)

    class Press(bpx.Callback):
        def on_step_end(self, run):
            if run.step == 7:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.warns(
        RuntimeWarning,
        match=r"^fit was interrupted by Ctrl-C after step 7, when 1 of 50 epochs had ended: the "
        "network has the weights of its last full step$",
    ) as told:
        history = net.fit(x, y, epochs=50, batch_size=5, callbacks=Press(), shuffle=False)
    assert [one.filename for one in told] == [__file__]
    assert history.interrupted
    assert not history.terminated
    assert history.epochs == 1
    assert net.steps == 7
    assert signal.getsignal(signal.SIGINT) is before
    for rows in itertools.islice(itertools.cycle(range(0, 20, 5)), 7):
        twin.fit([(x[rows : rows + 5], y[rows : rows + 5])], epochs=1)
    assert np.array_equal(net.parameters, twin.parameters)


def test_a_second_ctrl_c_raises_at_once(rng):
    class Press(bpx.Callback):
        def on_step_end(self, run):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    net = bpx.Network(SIZES, seed=1)
    with pytest.raises(KeyboardInterrupt):
        net.fit(rng.normal(size=(20, 6)), rng.integers(3, size=20), callbacks=Press())
    assert net.history.epochs == 0


# --- callbacks ----------------------------------------------------------------------------------


def test_early_stopping_restores_the_best(rng):
    x, y = rng.normal(size=(30, 6)), rng.integers(3, size=30)
    validation = rng.normal(size=(30, 6)), rng.integers(3, size=30)
    net = bpx.Network(SIZES, seed=1)
    kept = []
    history = net.fit(
        x,
        y,
        epochs=200,
        optimizer=bpx.SGD(1.0),
        validation=validation,
        callbacks=[
            bpx.EarlyStopping(5, monitor="validation_cost"),
            lambda run: kept.append(run.net.parameters.copy()),
        ],
    )
    best = int(np.argmin(history["validation_cost"]))
    assert "no better validation_cost" in history.stopped
    assert history.epochs == best + 6
    assert history.restored == best + 1
    assert np.array_equal(net.parameters, kept[best])


@pytest.mark.parametrize("values", [[2.0, 1.0, 3.0, 4.0], [np.nan] * 4], ids=["best 2", "none"])
def test_the_best_weights_after_ctrl_c(rng, values):
    net, x, y = bpx.Network(SIZES, seed=1), rng.normal(size=(9, 6)), rng.integers(3, size=9)
    kept, scores = [], iter(values)

    def press(run):
        kept.append(run.net.parameters.copy())
        if run.history.epochs == 4:
            signal.raise_signal(signal.SIGINT)

    metric = bpx.Metric("score", lambda net: next(scores), larger_is_better=False)
    stop = bpx.EarlyStopping(9, monitor="score")
    best = 2 if values[0] == 2.0 else None
    of = "epoch 2, the best" if best else "its last full step"
    with pytest.warns(RuntimeWarning, match=f"when 4 of 20 epochs.* the weights of {of}$"):
        history = net.fit(x, y, epochs=20, callbacks=[metric, stop, press])
    assert (history.interrupted, history.restored) == (True, best)
    assert np.array_equal(net.parameters, kept[(best or 4) - 1])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([np.nan] * 3, "score was NaN for 3 epochs"),
        (
            [np.nan, 2.0, np.nan, 1.0, *[np.nan] * 3],
            "no better score than 1 (epoch 4) in 3 epochs",
        ),
    ],
)
def test_nan_is_no_improvement(rng, values, why):
    net, x, y = bpx.Network(SIZES, seed=1), rng.normal(size=(9, 6)), rng.integers(3, size=9)
    kept, scores = [], iter(values)
    metric = bpx.Metric("score", lambda net: next(scores), larger_is_better=False)
    stop = bpx.EarlyStopping(3, monitor="score")
    seen = [metric, stop, lambda run: kept.append(run.net.parameters.copy())]
    history = net.fit(x, y, epochs=20, callbacks=seen)
    assert history.stopped == why
    assert history.epochs == len(values)
    best = stop.best_epoch - 1  # of NaN alone none: the weights are the last
    assert np.array_equal(net.parameters, kept[best])


def test_what_is_monitored_must_be_there(rng):
    net, x, y = bpx.Network(SIZES, seed=1), rng.normal(size=(9, 6)), rng.integers(3, size=9)
    before = net.parameters.copy()
    hints = {"val_loss": "did you mean 'validation_cost'", "cost": "did you mean 'training_cost'"}
    for monitor, hint in (*hints.items(), ("speed", "Known: ")):
        stop = bpx.EarlyStopping(monitor=monitor)
        with pytest.raises(ValueError, match=f"no column '{monitor}' to monitor.*{hint}"):
            net.fit(x, y, validation=(x, y), callbacks=stop)
    with pytest.raises(ValueError, match="no column 'validation_cost' to monitor"):
        net.fit(x, y, callbacks=bpx.ReduceOnPlateau(monitor="validation_cost"))
    for monitor in ("validation_accuracy", "val_loss"):
        with pytest.raises(ValueError, match=r"to monitor: for \w+ pass validation=\(x, y\), or"):
            net.fit(x, y, callbacks=bpx.EarlyStopping(monitor=monitor))
    assert np.array_equal(net.parameters, before)


def test_a_hook_that_would_never_be_called():
    with pytest.raises(TypeError, match=r"no hook 'on_epoch_begin'; did you mean 'on_epoch_end'"):

        class Mine(bpx.Callback):
            def on_epoch_begin(self, run):
                pass


def test_rates_come_to_their_lowest_in_spite_of_rounding(rng):
    plateau = bpx.ReduceOnPlateau(0.1, patience=1, min_delta=1e9, lowest=1e-3)
    history = bpx.Network([1, 1], seed=0).fit([[1.0]], [1], epochs=99, callbacks=plateau)
    assert history.epochs == 4


def test_rates_that_may_fall_for_ever():
    plateau = bpx.ReduceOnPlateau(patience=1, min_delta=1e9, lowest=None)
    history = bpx.Network([1, 1], seed=0).fit([[1.0]], [1], epochs=20, callbacks=plateau)
    assert (history.epochs, history.stopped) == (20, None)


def test_reduce_on_plateau_is_the_books_exercise(rng):
    net = bpx.Network(SIZES, seed=1)
    stop = bpx.ReduceOnPlateau(patience=2, monitor="training_cost", min_delta=1e9)
    x, y = rng.normal(size=(30, 6)), rng.integers(3, size=30)
    history = net.fit(x, y, epochs=99, optimizer=bpx.SGD(0.5), callbacks=stop)
    assert "1" in history.stopped
    assert history.epochs == 15  # the first is the best; seven times two after it
    assert history["learning_rate"][-1] == 0.5 / 64
    assert net.optimizer_state.factor == 1 / 128


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Constant(0.5),
        schedules.Cosine(0.5, 100),
        schedules.Exponential(0.5, 100),
        schedules.InverseScaling(0.5),
        schedules.OneCycle(0.5, 100),
        schedules.OneCycle(0.0, 100),
        schedules.StepDecay(0.5, 10),
        schedules.WarmUp(10, 0.5),
    ],
)
def test_schedules_are_finite_and_not_negative(schedule):
    rates = [schedule(step) for step in range(200)]
    assert all(0.0 <= rate <= 0.5 for rate in rates)
    net = bpx.Network([2, 1], seed=0)
    history = net.fit([[0.0, 1.0]], [1], epochs=3, optimizer=bpx.SGD(schedule))
    assert history["learning_rate"] == rates[:3]


def test_columns_that_float32_does_not_tell_apart(rng):
    x, y = rng.normal(size=(300, 3)), rng.normal(size=300)
    far = x + np.array([0.0, 1e9, 0.0])
    one = bpx.SGD(1e-30)  # nothing diverges

    def fit(x, first=(), **options):
        chain = [layers.Input(3), *first, layers.Dense(1)]
        net = bpx.Network(chain, seed=0, **options)
        net.fit(x, y, epochs=1, optimizer=one)

    told = (
        r"^column 1 of x goes from .* to .*, which float32 tells apart in 0 steps: begin the net"
    )
    for array in (far, -far, (1000 * far).astype(np.int64), far.astype(np.int32)):
        with pytest.warns(RuntimeWarning, match=told):
            fit(array)
    kinds = [layers.Columns([0]), layers.Embedding(3, 2), layers.Flatten()]
    with pytest.warns(RuntimeWarning, match="in 0 steps: subtract its mean, or make the network"):
        fit(np.c_[np.arange(300) % 3, far[:, 1:]], [layers.Concatenate([kinds, []])])
    pandas = pytest.importorskip("pandas", reason="its columns have names")
    with pytest.warns(RuntimeWarning, match="^column 'b' of x goes from"):
        fit(pandas.DataFrame(far, columns=list("abc")))
    scaled = [layers.Rescale.standardizing(far)]
    for array, options in (
        *((far, {"dtype": "float64"}), (far, {"first": scaled}), (far.astype("f"), {})),
        *((x, {}), (0.0 * x + 5.0, {}), (1e-30 * x, {}), (rng.integers(2000, 2005, x.shape), {})),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            fit(array, **options)


def test_progress_with_a_closed_stream_goes_nowhere(rng, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    net = bpx.Network(SIZES, seed=1)
    net.fit(rng.normal(size=(20, 6)), rng.integers(3, size=20), epochs=2, progress=True)
    assert net.epochs == 2
    assert capsys.readouterr().out == ""


def test_progress_in_a_log_file_is_a_line_an_epoch(rng, capsys):
    net = bpx.Network(SIZES, seed=1)
    net.fit(rng.normal(size=(20, 6)), rng.integers(3, size=20), epochs=3, progress=True)
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("compiling what this machine")]
    assert len(lines) == 3
    assert lines[2].startswith("epoch 3; training cost")


def test_a_bar_that_is_asked_for_twice_is_one(rng, capsys):
    """But one in a file stays beside it."""
    data, log = (rng.normal(size=(20, 6)), rng.integers(3, size=20)), io.StringIO()
    for bar in (bpx.callbacks.Progress(), bpx.callbacks.Progress(log)):
        bpx.Network(SIZES, seed=1).fit(*data, epochs=3, progress=True, callbacks=bar)
        lines = capsys.readouterr().err.splitlines()
        lines = [line for line in lines if not line.startswith("compiling what this machine")]
        assert len(lines) == 3
    assert len(log.getvalue().splitlines()) == 3


def test_progress_tells_what_the_log_says_unless_another_does(rng, capsys, caplog):
    data = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    log = logging.getLogger("bpx")

    def fit(file=None):
        said = [bpx.callbacks.Progress(file), lambda run: log.info("said in %d", run.net.epochs)]
        bpx.Network(SIZES, seed=1).fit(*data, epochs=2, callbacks=said)

    fit()
    fit(file := io.StringIO())
    for written in (capsys.readouterr().err, file.getvalue()):
        lines = [line for line in written.splitlines() if not line.startswith("compiling")]
        assert [line[:9] for line in lines] == ["epoch 1; ", "said in 1", "epoch 2; ", "said in 2"]
    log.info("nobody asks")
    assert (log.handlers, log.level, log.propagate) == ([], logging.NOTSET, True)
    assert caplog.messages == [], "what was only asked for there goes to nobody else"
    bpx.Network(SIZES, seed=1).fit(
        *data, epochs=1, callbacks=[bpx.callbacks.Progress(), lambda run: log.warning("heed")]
    )
    assert "heed" not in capsys.readouterr().err
    assert caplog.messages == ["heed"]
    with caplog.at_level(logging.INFO, "bpx"):
        fit()
    assert "said" not in capsys.readouterr().err
    assert caplog.messages[-2:] == ["said in 1", "said in 2"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_counts_the_steps_of_its_run_and_is_closed():
    pytest.importorskip("tqdm", reason="it draws the bar")
    counts = []

    class Bar(bpx.callbacks.Progress):
        def on_fit_end(self, run):
            bar = self._bar
            super().on_fit_end(run)
            counts.append((bar.n, bar.total, bar.disable))

    net = bpx.Network([1, 1], seed=0)
    for _ in range(2):
        net.fit([[0.0], [1.0]], [0, 1], epochs=3, batch_size=1, callbacks=Bar(Terminal()))
    assert counts == [(6, 6, True)] * 2


def test_progress_in_a_terminal_is_a_bar(rng, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    net = bpx.Network(SIZES, seed=1)
    data = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    history = net.fit(*data, epochs=3, progress=True, callbacks=lambda run: None)
    written = sys.stderr.getvalue()
    assert "100%" in written
    assert "epoch 3: " in written
    with pytest.raises(RuntimeError, match="mine"):
        net.fit(*data, progress=True, callbacks=[Broken()])
    assert sys.stderr.getvalue().endswith("\n"), "the bar is closed"
    pytest.importorskip("matplotlib", reason="it draws the curves")
    assert history.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_picture_is_not_written_beside_the_folder_that_was_named(tmp_path):
    pytest.importorskip("matplotlib", reason="it draws the curves")
    (tmp_path / "run").mkdir()
    history = bpx.Network([2, 1], seed=1).fit([[0.0, 1.0]], [1], epochs=1)
    with pytest.raises(IsADirectoryError, match="it is a folder, expected a file's name"):
        history.plot(tmp_path / "run")
    history.plot(tmp_path / "curve")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "run"]


def test_accuracies_are_weighted_where_there_are_weights():
    x, y, weight = np.eye(4), np.array([0, 1, 1, 0]), np.array([1.0, 2.0, 3.0, 10.0])
    net = bpx.Network([4, 2], seed=0)
    right = net.predict(x) == y
    options = {"epochs": 1, "batch_size": 4, "optimizer": bpx.SGD(0.0), "sample_weight": weight}
    plain = net.fit(x, y, validation=(x, y), **options)
    weighted = net.fit(x, y, validation=(x, y, weight), **options)
    expected = np.average(right, weights=weight)
    assert expected != right.mean()
    assert plain["training_accuracy"] == weighted["validation_accuracy"] == [expected]
    assert plain["validation_accuracy"] == [right.mean()]


def _lines(axes):
    return [(line.get_label(), line.get_linestyle()) for line in axes.get_lines()]


def test_runs_on_one_picture(rng, tmp_path):
    pytest.importorskip("matplotlib", reason="it draws the curves")
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    runs = {}
    for rate, validation in ((0.1, (x, y)), (1.0, None)):
        metric = bpx.Metric("a metric", lambda net: net.epochs)
        options = {"epochs": 3, "validation": validation, "callbacks": metric}
        optimizer = bpx.SGD(rate)
        runs[f"{rate}"] = bpx.Network(SIZES, seed=1).fit(x, y, optimizer=optimizer, **options)
    figure = bpx.plotting.curves(runs, tmp_path / "runs.svg")
    assert (tmp_path / "runs.svg").read_bytes().startswith(b"<?xml")
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean cost", "accuracy (%)"]
    cost, accuracy = figure.axes
    assert [style for _, style in _lines(cost)] == ["--", "-", "-"]
    assert all(tick == round(tick) for tick in cost.get_xticks())
    assert [text.get_text() for text in cost.get_legend().get_texts()] == ["0.1", "1.0"]
    assert cost.get_legend().get_title().get_text() == "dashed: training"
    drawn = [line.get_ydata().tolist() for line in cost.get_lines()]
    both = [runs["0.1"]["training_cost"], runs["0.1"]["validation_cost"]]
    assert drawn == [*both, runs["1.0"]["training_cost"]]
    colors = [line.get_color() for line in accuracy.get_lines()]
    assert colors == ["C0", "C0", "C1"]

    alone, beside = bpx.plotting.curves(runs, columns=["a metric", "validation_cost"]).axes
    assert _lines(alone) == [("0.1", "-"), ("1.0", "-")]
    assert _lines(beside) == [("0.1", "-")]
    assert beside.get_legend().get_title().get_text() == "validation"

    alone, both = runs["0.1"].plot(columns=["a metric", "validation_cost", "training_cost"]).axes
    assert (alone.get_ylabel(), alone.get_legend()) == ("a metric", None)
    assert _lines(both) == [("validation", "-"), ("training", "-")]


def _of_norms(last):
    columns = {"|δ¹|": [1.0, 0.1, 0.0], "|δ²|": [2.0, 1.0, last], "validation_cost": [3.0, 2, 1]}
    return bpx.History.of({"epoch": [1, 2, 3], **columns})


def test_columns_in_one_panel_and_a_logarithmic_axis():
    pytest.importorskip("matplotlib", reason="it draws the curves")
    group = ["|δ¹|", "|δ²|"]
    norms, cost = _of_norms(0.5).plot(columns=[group, "validation_cost"], log=True).axes
    assert _lines(norms) == [("|δ¹|", "-"), ("|δ²|", "-")]
    assert [line.get_color() for line in norms.get_lines()] == ["C0", "C1"]
    assert [text.get_text() for text in norms.get_legend().get_texts()] == group
    assert (norms.get_yscale(), cost.get_yscale()) == ("log", "log")
    assert (norms.get_ylabel(), cost.get_ylabel()) == ("", "mean cost")

    runs = {0.1: _of_norms(0.5), (3, "tanh"): _of_norms(0.25)}
    (norms,) = bpx.plotting.curves(runs, columns=[group]).axes
    styles = [line.get_linestyle() for line in norms.get_lines()]
    assert (styles, norms.get_yscale()) == (["-", "--"] * 2, "linear")
    assert [line.get_color() for line in norms.get_lines()] == ["C0", "C0", "C1", "C1"]
    assert norms.get_ylabel() == "solid: |δ¹|\ndashed: |δ²|"
    assert [text.get_text() for text in norms.get_legend().get_texts()] == ["0.1", "(3, 'tanh')"]


def test_many_runs_on_one_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="it draws the curves")
    columns = {"epoch": [1, 2], "training_cost": [0.5, 0.4], "validation_cost": [0.6, 0.5]}
    runs = {f"a rather long name of the run {k:02}": bpx.History.of(columns) for k in range(40)}
    figure = bpx.plotting.curves(runs, tmp_path / "runs.png")
    (panel,), (legend,) = figure.axes, figure.legends
    assert panel.get_legend() is None
    assert len({tuple(line.get_color()) for line in panel.get_lines()}) == 40
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [f"a rather long n…e of the run {k:02}" for k in range(40)]
    assert legend.get_title().get_text() == "dashed: training"
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert panel.get_window_extent().x1 <= box.x0


def test_what_is_no_run_or_no_path_is_not_drawn(rng):
    pytest.importorskip("matplotlib", reason="it draws the curves")
    net = bpx.Network([2, 1], seed=1)
    history = net.fit([[0.0, 1.0]], [1], epochs=1)
    axes, zeros = history.plot().axes[0], bpx.History.of({"epoch": [1], "f1": [0.0]})
    asked = "or a mapping of labels to them, got"
    for call, error, message in (
        (lambda: history.plot(axes), TypeError, "expected a path such as 'curve.png', got <Axes"),
        (lambda: bpx.plotting.curves(net), TypeError, f"{asked} <Network"),
        (lambda: bpx.plotting.curves([history]), TypeError, f"{asked} [<History"),
        (lambda: bpx.plotting.curves({"a": net}), TypeError, "<Network (2,) -> "),
        (lambda: bpx.plotting.curves({}), ValueError, "got an empty mapping"),
        (lambda: bpx.plotting.curves({"a": bpx.History()}), ValueError, "ended in the run 'a'"),
        (lambda: history.plot(columns="f1"), TypeError, "expected columns to be a list of names"),
        (lambda: history.plot(columns=["loss"]), KeyError, "did you mean 'training_cost'?"),
        (lambda: history.plot(columns=[["epoch", "loss"]]), KeyError, "no column 'loss'"),
        (lambda: history.plot(columns=["epoch", []]), TypeError, "a list of names, each a string"),
        (lambda: history.plot(columns=["epoch", ["epoch"]]), ValueError, "to be different names"),
        (lambda: history.plot(log="y"), TypeError, "expected log to be True or False, got 'y'"),
        (lambda: bpx.plotting.curves({0: bpx.History()}), ValueError, "has ended in the run 0"),
        (
            lambda: zeros.plot(columns=["f1"], log=True),
            ValueError,
            "log=True draws positive numbers, got none in ['f1']",
        ),
        (
            lambda: bpx.plotting.curves({1: history, 2: history}, columns=[[*history][:5]]),
            ValueError,
            "expected a group of 4 columns at most for several runs, got ['epoch', ",
        ),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()


class Broken(bpx.Callback):
    def on_step_end(self, run):
        raise RuntimeError("mine")


def test_the_callers_arrays_are_not_touched(rng):
    x, y = rng.normal(size=(20, 6)), rng.integers(3, size=20)
    before = x.copy(), y.copy()
    bpx.Network(SIZES, hidden="relu", dtype="float64").fit(x, y, epochs=2, batch_size=20)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


def test_defaults():
    """Every default of fit and of the initializers, as the docstrings say."""
    net = bpx.Network([3, 20000, 2], seed=0)
    assert (net.dtype, net.backend.name, net.task) == ("float32", "numpy", "classification")
    assert net.cost.name == "cross-entropy"
    assert abs(net.weights[0].std() * np.sqrt(3) - 1) < 0.02
    assert abs(net.biases[0].std() - 1) < 0.02
    rectified = bpx.Network([3, 20000, 2], hidden="relu", seed=0)
    assert abs(rectified.weights[0].std() * np.sqrt(3 / 2) - 1) < 0.02
    assert not rectified.biases[0].any()
    small = bpx.Network([3, 2], seed=0)
    history = small.fit(np.eye(3), [0, 1, 1])
    assert history.epochs == 30
    assert small.steps == 30  # a batch of all three
    assert small.optimizer == bpx.SGD(0.1)


def test_a_history_shows_its_last_epoch():
    assert repr(bpx.History()) == "<History: no epoch has ended>"
    one = bpx.History.of({"epoch": [3], "training_cost": [0.5], "seconds": [1.0]})
    assert repr(one) == "<History of 1 epoch; last: epoch 3; training cost 0.5; 1.00 s>"
    two = bpx.History.of({"epoch": [3, 4], "seconds": [1.0, 2.0]})
    assert repr(two) == "<History of 2 epochs; last: epoch 4; 2.00 s>"


def test_buffers_are_given_back_by_each_call(rng):
    """Not only when garbage is collected: activations of many calls would soon be a lot."""
    inside = [layers.Conv2D(2, 3, padding=1), layers.BatchNorm(), layers.Dropout(0.1)]
    chain = [layers.Conv2D(2, 3), layers.MaxPool2D(2), layers.Residual(inside), layers.Flatten()]
    net = bpx.Network([layers.Input((1, 8, 8)), *chain, layers.Dense(3, "softmax")], seed=0)
    x, y = rng.normal(size=(20, 1, 8, 8)), np.arange(20) % 3

    def calls():
        net.fit(x, y, epochs=1, accumulate=2, validation=(x, y))
        net.fit(x, y, epochs=1)
        net.backprop(x, y)
        net.evaluate(x, y)
        net.activations(x)
        net.feedforward(x)

    def workspaces():
        return [found for found in gc.get_objects() if type(found) is Workspace]

    calls()  # Numba's compiler, at work for the first time, holds the frames that called it
    gc.collect()
    (kept,) = net.chain._idle  # of the small prediction, for the next one
    before = {id(each) for each in workspaces()}  # those of other networks too
    gc.disable()
    try:
        calls()
        left = [each for each in workspaces() if id(each) not in before]
    finally:
        gc.enable()
    assert left == []
    assert net.chain._idle == [kept]


def test_mini_batches_of_ascending_sizes_take_the_memory_of_the_largest(rng):
    """Of each size the buffers were held until the end."""
    chain = [layers.Conv2D(2, 3, "tanh"), layers.BatchNorm(), layers.Flatten(), layers.Dense(3)]
    x, y = rng.normal(size=(60, 1, 8, 8)).astype(np.float32), rng.normal(size=(60, 3))

    def peak(sizes):
        net = bpx.Network([layers.Input((1, 8, 8)), *chain], seed=0)
        batches = [(x[:m], y[:m]) for m in sizes]
        net.fit(batches, epochs=1)  # what is made once in a process
        tracemalloc.start()
        try:
            net.fit(batches, epochs=1)
            net.evaluate(batches)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(range(1, 61)) < 2 * peak([60] * 60)


def test_a_buffer_of_more_rows_takes_the_place_of_those_of_fewer():
    ws = bpx.Network([2, 3, 1], seed=0).chain.workspace()
    for one in (ws, ws.contexts[0]):
        small, other, flags = (
            one.buffer(name, (3, 5), kind)
            for name, kind in (("a", None), ("b", None), ("a", ws.backend.xp.bool))
        )
        assert one.buffer("a", (3, 5)) is small
        gone = weakref.ref(small)
        del small
        large = one.buffer("a", (4, 5))
        assert gone() is None
        for rows in (1, 3):
            assert np.shares_memory(one.buffer("a", (rows, 5)), large)
        assert one.buffer("a", (4, 5)) is large
        assert not np.shares_memory(large, one.buffer("a", (5, 4)))  # no part of the other
        assert one.buffer("a", (4, 5)) is large
        assert one.buffer("b", (3, 5)) is other
        assert one.buffer("a", (3, 5), ws.backend.xp.bool) is flags
        views = [one.buffer("many", (rows, 5)) for rows in range(99, 0, -1)]
        assert all(np.shares_memory(view, views[0]) for view in views)
        assert one.buffer("many", (99, 5)) is views[0]
        assert sum(name == "many" for name, *_ in one._buffers) <= MOST_SIZES


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "relu", "identity"])
def test_x_that_is_far_from_one_is_told_once(rng, hidden):
    """A year, and an area in square metres: all predictions would stay the same."""
    x = np.c_[rng.uniform(1950, 2020, 300), rng.uniform(30, 200, 300)]
    y = 3 * x[:, 1:] / 200 + (x[:, :1] - 1950) / 70

    def network(*first):
        chain = [bpx.layers.Input(2), *first, bpx.layers.Dense(20, hidden, bias="zeros")]
        return bpx.Network([*chain, bpx.layers.Dense(1, "identity")], seed=0, dtype="float64")

    net = network()
    options = {"optimizer": bpx.Adam(), "epochs": 1, "batch_size": 32}
    if hidden != "identity":  # a BatchNorm may follow
        told = (
            r"x is far from 1: its root mean square is 1\.4.e\+03 in the first 64 rows, so the "
            rf"sums z of Dense 20, {hidden} begin at .* by bpx.layers.Rescale.standardizing\(x\)"
        )
        with pytest.warns(RuntimeWarning, match=told):
            net.fit(x, y, **options)
    net.fit(x, y, **options)
    network().fit(x, y, check_finite=False, **options)
    wide = network()
    wide.weights[0] *= 1e3
    wide.fit(x / 1e3, y, **options)  # it is the weights that are far from 1
    known = layers.Dense(20, hidden, trainable=False)  # which fits x, whatever that is
    chain = [layers.Input(2), known, layers.Dense(1, "identity")]
    bpx.Network(chain, seed=0).fit(x, y, **options)
    network(bpx.layers.Rescale.standardizing(x)).fit(x, y, **options)


@pytest.mark.parametrize("given", ["dense", "sparse"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "leaky-relu"])
def test_x_for_which_steps_of_sgd_are_too_large(rng, activation, given):
    """As digits from 0 to 16 are."""
    x, y = rng.uniform(0, 16, (200, 64)), rng.integers(10, size=200)
    if given == "sparse":
        x = pytest.importorskip("scipy.sparse", reason="no SciPy: pip install scipy").csr_matrix(x)

    def network():
        return bpx.Network([64, 20, 10], hidden=activation, output="softmax", seed=0)

    options = {"epochs": 1, "batch_size": 50}
    remedy = r"scale x, .* by make_pipeline\(StandardScaler\(\), \.\.\.\)"
    if given == "sparse":
        remedy = "divide each column by its largest number, as scikit-learn's MaxAbsScaler does"
    if activation in ("relu", "gelu"):
        told = (
            r"^x is far from 1: its root mean square is 9\... in the first 64 rows, so a step of "
            rf"SGD\(0\.1\) moves the sums z of Dense 20, {activation} by 5.. times the error δ, "
            rf"where networks learn little: {remedy}, or pass optimizer=bpx\.Adam\(\)$"
        )
        with pytest.warns(RuntimeWarning, match=told):
            network().fit(x, y, **options)
    else:
        network().fit(x, y, **options)
    network().fit(x, y, optimizer="adam", **options)
    network().fit(x, y, optimizer=bpx.SGD(0.01), **options)
    network().fit(x / 8, y, optimizer=bpx.SGD(2.0, momentum=0.0), **options)  # not x, but the rate


@pytest.mark.parametrize("given", ["dense", "sparse"])
def test_one_column_that_is_far_from_one(rng, given):
    x = rng.uniform(0, 1, (200, 10))
    x[:, 3] *= 5e4
    if given == "sparse":
        x = pytest.importorskip("scipy.sparse", reason="no SciPy: pip install scipy").csr_matrix(x)
    with pytest.warns(RuntimeWarning, match=r"so the sums z of Dense 5, tanh begin at about \d+"):
        bpx.Network([10, 5, 2], hidden="tanh", seed=0).fit(x, [0, 1] * 100, epochs=1)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_default_optimizer_goes_by_the_task(rng, task):
    """SGD(0.1) diverges in the regression: the curvature is about the number of units."""
    of_classes = task == "classification"
    x, outputs = rng.normal(size=(400, 10)), 2 if of_classes else 1
    y = rng.integers(2, size=400) if of_classes else rng.normal(size=400)

    def network():
        output = "softmax" if of_classes else "identity"
        return bpx.Network([10, 200, outputs], hidden="relu", output=output, seed=0)

    net = network()
    history = net.fit(x, y, epochs=2)
    assert net.optimizer == (bpx.SGD(0.1) if of_classes else bpx.Adam(0.003))
    assert np.isfinite(history["training_cost"]).all()
    diverges = contextlib.nullcontext() if of_classes else pytest.raises(bpx.DivergenceError)
    with diverges:
        network().fit(x, y, epochs=2, optimizer=bpx.SGD(0.1))


@pytest.mark.parametrize("cost", ["quadratic", "mean-absolute-error", "huber"])
@pytest.mark.parametrize(
    ("scale", "shift", "told"),
    [
        (
            1.5e5,
            4e5,
            r"its mean is 3\.97e\+05 and its standard deviation 9\.2e\+04 in the rows looke",
        ),
        (
            1.0,
            -150.0,
            r"the outputs begin at -1\.1 ± 0\.15, from where training creeps or diverges",
        ),
        (
            1e-4,
            0.0,
            r": train on \(y - y\.mean\(axis=0\)\) / y\.std\(axis=0\), see Scaling in docs/n",
        ),
        (1e-4, 1e3, r"its mean is 1e\+03"),
        (30.0, 60.0, None),
        (0.01, 0.0, None),
        (0.0, 0.1, None),
        (0.0, 0.0, None),
    ],
)
def test_targets_that_are_far_from_one_are_told_once(rng, cost, scale, shift, told):
    x = rng.normal(size=(300, 2))
    y = scale * np.tanh(x[:, 0]) + shift

    def fit(net, y=y, **options):
        with contextlib.suppress(bpx.DivergenceError):
            net.fit(x, y, epochs=1, batch_size=32, optimizer=bpx.SGD(1e-9), **options)
        return net

    def network(*last, output="identity", cost=cost):
        chain = [bpx.layers.Input(2), bpx.layers.Dense(20, "tanh"), bpx.layers.Dense(1, output)]
        return bpx.Network([*chain, *last], cost=cost, task="regression", seed=0)

    far = pytest.warns(RuntimeWarning, match=f"^y is far from 1: .*{told}")
    with far if told else contextlib.nullcontext():
        net = fit(network())
    fit(net)
    fit(network(), check_finite=False)
    if scale:
        fit(network(), (y - y.mean()) / y.std())
        fit(network(bpx.layers.Rescale(scale, shift)))
    fit(network(cost=type("Own", (bpx.costs.Quadratic,), {})()))


def test_the_target_that_is_far_from_one_is_named(rng):
    pd = pytest.importorskip("pandas")
    x = rng.normal(size=(300, 2))
    y = pd.DataFrame({"share": x[:, 0], "price": 1e5 * x[:, 1], "rest": 1e-5 * x[:, 1]})
    for columns, named in ((y, "column 'price' of y"), (y.to_numpy(), "column 1 of y")):
        net = bpx.Network([2, 3, 3], task="regression", output="identity", seed=0)
        with pytest.warns(RuntimeWarning, match=f"^{named} is far from 1: its mean is"):
            net.fit(x, columns, epochs=1, optimizer=bpx.SGD(1e-9))
    net = bpx.Network([2, 3, 2], task="regression", output="identity", seed=0)
    net.fit(x, y[["share", "rest"]], epochs=1)  # as pixels that are hardly ever lit
    net = bpx.Network([2, 3, 2], cost=bpx.costs.Quantile((0.1, 0.9)), output="identity", seed=0)
    with pytest.warns(RuntimeWarning, match="^y is far from 1: its mean is"):
        net.fit(x, y["price"], epochs=1, optimizer=bpx.SGD(1e-9))
    rare = 1e-4 * rng.random(300)
    rare[7] = 1.0  # not among the rows that are looked at first
    bpx.Network([2, 3, 1], output="identity", seed=0).fit(x, rare, epochs=1)


def test_looking_at_x_that_is_too_large_says_nothing_of_its_own():
    """The sums overflow, also where the user has NumPy raise errors for that."""
    net = bpx.Network([3, 4, 2], seed=0, output="softmax")
    x = np.full((8, 3), np.finfo(np.float32).max, np.float32)
    diverges = contextlib.suppress(bpx.DivergenceError)
    with np.errstate(all="raise"), pytest.warns(RuntimeWarning) as told, diverges:
        net.fit(x, [0, 1] * 4, epochs=1)
    assert [str(each.message)[:19] for each in told] == ["x is far from 1: it"]


@pytest.mark.parametrize("first", ["conv", "flat", "dropout"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_that_are_far_from_one_are_told(backend, put, rng, first, dtype):
    x = put(rng.integers(256, size=(20, 1, 6, 6)).astype(dtype))
    after = {
        "conv": [bpx.layers.Conv2D(4, 3, "relu"), bpx.layers.Flatten()],
        "flat": [bpx.layers.Flatten(), bpx.layers.Dense(8, "sigmoid")],
        "dropout": [bpx.layers.Dropout(0.1), bpx.layers.Flatten(), bpx.layers.Dense(8, "tanh")],
    }

    def network(*rescale):
        chain = [bpx.layers.Input((1, 6, 6)), *rescale, *after[first]]
        return bpx.Network([*chain, bpx.layers.Dense(10, "softmax")], backend=backend, seed=0)

    y = [k % 10 for k in range(20)]
    hint = r"Rescale\(1 / 255\)" if dtype == "uint8" else r"Rescale\.standardizing\(x\)"
    with pytest.warns(RuntimeWarning, match=rf"bpx\.layers\.{hint} as the first layer"):
        network().fit(x, y, epochs=1, optimizer=bpx.SGD(1e-6))
    network(bpx.layers.Rescale(1 / 255)).fit(x, y, epochs=1, optimizer=bpx.SGD(1e-6))
    flat = bpx.Network([bpx.layers.Input((1, 6, 6)), bpx.layers.Flatten(),
                        bpx.layers.Dense(10, "softmax")], backend=backend, seed=0)  # fmt: skip
    flat.fit(x, y, epochs=1, optimizer=bpx.SGD(1e-6))  # a layer alone is linear in x


def test_early_stopping_that_is_used_again(rng):
    """It begins anew: of an epoch that never was it has no weights to bring back."""
    x, y = rng.normal(size=(6, 3)), [0, 1, 0, 1, 1, 1]
    net, stopping = bpx.Network([3, 2], seed=0), bpx.EarlyStopping(3)
    net.fit(x, y, epochs=2, callbacks=stopping)
    before = net.parameters.copy()
    net.fit(x, y, epochs=0, callbacks=stopping)
    assert np.isnan(stopping.best)
    assert stopping.best_epoch == 0
    assert np.array_equal(net.parameters, before)
