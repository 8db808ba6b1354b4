"""What holds of every network, whatever its layers: with those that have files of their own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import test_concatenate
import test_convolution
import test_embedding
import test_normalization
import test_residual

import bpx
from bpx import layers
from bpx.context import Context
from bpx.layers import BatchNorm, Concatenate, Dense, Dropout, Residual


class Case(NamedTuple):
    """A network for three classes, the samples it takes, and how these are cut into steps."""

    network: Callable[..., bpx.Network]
    samples: Callable[[np.random.Generator], tuple[Any, Any]]
    batch_size: int = 6
    accumulate: int = 2
    frozen: int | None = 0  # the layer that `trainable=False` is for
    tolerance: float = 1e-11  # of what other backends come to


def with_labels(x):
    return x, np.arange(len(x)) % 3


NETWORKS = {
    "residual": Case(
        test_residual.network, lambda rng: with_labels(rng.normal(size=(20, 2, 4, 4)))
    ),
    "concatenate": Case(
        test_concatenate.images, lambda rng: with_labels(rng.normal(size=(20, 2, 4, 4)))
    ),
    "table": Case(test_concatenate.network, test_concatenate.table, frozen=None),
    "normalization": Case(
        test_normalization.network,
        lambda rng: with_labels(rng.normal(size=(22, 1, 4, 4))),
        frozen=1,
    ),
    "convolution": Case(
        test_convolution.network,
        lambda rng: with_labels(rng.integers(17, size=(20, 1, 8, 8), dtype=np.uint8)),
        accumulate=3,
        frozen=4,
        tolerance=1e-12,
    ),
    "embedding": Case(
        test_embedding.network,
        lambda rng: with_labels(rng.integers(30, size=(40, 4))),
        batch_size=9,
        accumulate=3,
        tolerance=1e-12,
    ),
}
FREEZABLE = {name: case for name, case in NETWORKS.items() if case.frozen is not None}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def case(request):
    return request.param


@pytest.fixture
def samples(case, rng):
    return case.samples(rng)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("option", [None, "accumulate", "clip_norm"])
def test_fit_is_the_same_everywhere(backend, put, host, case, samples, weighted, option):
    (x, y), ours, numpys = samples, case.network(backend), case.network("numpy")
    weight = np.linspace(0.5, 2.0, len(y)) if weighted else None
    optimizer = bpx.SGD(0.05, momentum=0.5)
    given = {"epochs": 2, "batch_size": case.batch_size, "optimizer": optimizer, "l2": 0.1}
    if option is not None:
        given[option] = {"accumulate": case.accumulate, "clip_norm": 0.1}[option]
    ours.fit(put(x), put(y), sample_weight=put(weight) if weighted else None, **given)
    numpys.fit(x.astype(float), y, sample_weight=weight, **given)
    assert np.abs(host(ours.parameters) - numpys.parameters).max() < case.tolerance
    assert np.abs(host(ours.state) - numpys.state).max(initial=0.0) < case.tolerance


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fused_and_through_a_gradient(case, samples, momentum):
    one, other = case.network(), case.network()
    for net, options in ((one, {}), (other, {"clip_norm": 1e9})):
        optimizer = bpx.SGD(0.1, momentum=momentum)
        net.fit(*samples, epochs=3, batch_size=8, optimizer=optimizer, l2=1.0, **options)
    assert np.abs(one.parameters - other.parameters).max() < 1e-12


def test_the_same_bits_every_time(backend, put, host, case, samples):
    net, (x, y) = case.network(backend, dtype="float32"), samples
    first, second = (net.backprop(put(x), put(y), step=0) for _ in range(2))
    assert np.array_equal(host(first.flat), host(second.flat))
    assert np.array_equal(host(first.inputs), host(second.inputs))


def test_the_inputs_of_the_user_are_not_written(case, samples):
    (x, y), net = samples, case.network()
    before = x.copy()
    net.backprop(x, y)
    net.feedforward(x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("case", FREEZABLE.values(), ids=FREEZABLE, indirect=True)
def test_layers_that_are_not_trained(case, samples):
    (x, y), net = samples, case.network(trainable=False)
    kept = [entry for entry in net.layout.entries if entry.layer == case.frozen]
    assert kept
    assert all(entry.start >= net.layout.trained for entry in kept)
    before, running = net.parameters.copy(), net.state.copy()
    for optimizer in (bpx.SGD(0.1), bpx.SGD(0.1, momentum=0.9), bpx.AdamW(0.1)):
        net.fit(x, y, epochs=1, batch_size=case.batch_size, optimizer=optimizer, l2=1.0)
    for entry in net.layout.entries:
        same = np.array_equal(entry.view(np, before), entry.view(np, net.parameters))
        assert same == (entry in kept)
    for entry in net.chain.architecture.state_layout.entries:
        same = np.array_equal(entry.view(np, running), entry.view(np, net.state))
        assert same == (entry.layer == case.frozen)
    check = bpx.gradient_check(net, x[:2].astype(float), y[:2])
    assert check.worst < 1e-7
    assert not {entry.path for entry in kept} & set(check.errors)
    assert "of them trained" in str(net.summary())


def test_files_copies_pickles_and_other_dtypes(case, samples, tmp_path):
    net, (x, _) = case.network(), samples
    net.fit(*samples, epochs=2)
    path = tmp_path / "net.safetensors"
    net.save(path)
    again = bpx.load(path)
    assert again.layers == net.layers
    tensors, _ = bpx.persistence.read(path)
    assert {name: a.shape for name, a in tensors.items()} == {
        name: a.shape for name, a in net.tensors.items()
    }
    for twin in (again, net.copy(), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(twin.state, net.state)
        assert np.array_equal(twin.feedforward(x), net.feedforward(x))
        twin.fit(*samples, epochs=1)
    single = net.to(dtype="float32").feedforward(x)
    assert np.abs(single - net.feedforward(x)).max() < 1e-5


@pytest.mark.parametrize(
    ("dtype", "optimizer", "held_out"),
    [
        ("float64", bpx.SGD(0.05, momentum=0.9), False),
        ("float64", bpx.Adam(0.01), True),
        ("float32", bpx.Adam(0.01), False),
    ],
)
def test_a_run_that_was_cut_short_ends_alike(case, samples, tmp_path, dtype, optimizer, held_out):
    """To the last bit, running statistics included."""
    whole, first, second = (case.network(seed=seed, dtype=dtype) for seed in (3, 3, 9))
    options = {"batch_size": case.batch_size, "optimizer": optimizer}
    if held_out:
        options["validation"] = samples
    saved = bpx.Checkpoint(tmp_path, steps=3)
    whole.fit(*samples, epochs=4, **options)
    first.fit(*samples, epochs=2, checkpoint=saved, **options)
    second.fit(*samples, epochs=4, checkpoint=saved, resume=True, **options)
    assert np.array_equal(second.parameters, whole.parameters)
    assert np.array_equal(second.state, whole.state)


def test_the_summary_is_that_of_the_arrays(case, samples):
    net = case.network()
    outputs = [a.shape for a in net.activations(samples[0])]
    assert outputs == [(len(samples[0]), *layer.output_shape) for layer in net.layers]
    total = sum(int(row[3].replace(",", "") or 0) for row in net.summary().rows)
    assert total == sum(entry.stop - entry.start for entry in net.layout.entries)


# --- layers in layers ----------------------------------------------------------------------------

NESTED = {
    "residual": [
        *(Dropout(), Residual([Dropout(), Residual([Dropout()])]), Dropout()),
        Residual([Dropout()]),
    ],
    "concatenate": [
        Concatenate([[Dropout()], [], [Concatenate([[Dropout()], [Dropout()]]), Dropout()]]),
        Dropout(),
    ],
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
def test_masks_are_those_of_each_layer(backend, put, monkeypatch, nested):
    """Distinct in every one, and the same on every backend."""
    found, keep, kept = [], Context.keep, []

    def noted(ctx, shape, probability):
        mask = keep(ctx, shape, probability)
        kept.append(np.array(ctx.backend.to_host(mask))[:, :200])
        return mask

    monkeypatch.setattr(Context, "keep", noted)
    for where, to in ((backend, put), ("numpy", np.asarray)):
        chain = [layers.Input(200), *nested]
        net = bpx.Network(chain, cost="quadratic", backend=where, dtype="float64", seed=1)
        kept.clear()
        z, _ = net.chain.forward(to(np.ones((3, 200))), net.chain.workspace(training=True))
        found.append(([*kept], np.array(net.backend.to_host(z))))
    (masks, z), (numpys, expected) = found
    assert len(masks) == 5
    assert all(map(np.array_equal, masks, numpys))
    assert np.abs(z - expected).max() < 1e-12
    agree = [np.mean(a == b) for i, a in enumerate(masks) for b in masks[:i]]
    assert 0.35 < min(agree) <= max(agree) < 0.65


# --- steps as a graph ----------------------------------------------------------------------------


def flat(*between, **options):
    chain = [layers.Input(5), *between, Dense(3, "softmax")]
    return bpx.Network(chain, seed=1, **options)


RECORDED = {
    "residual": partial(flat, Residual([Dense(4, "tanh"), Dropout(0.2), BatchNorm(), Dense(5)])),
    "table": test_concatenate.network,
    "normalization": partial(
        flat, Dense(6), BatchNorm(), layers.Activation("relu"), layers.LayerNorm()
    ),
}


@pytest.mark.parametrize("backend", ["cupy-rehearsed", "cupy"], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", RECORDED.values(), ids=RECORDED)
def test_steps_can_be_recorded(backend, host, rng, make, dtype):
    x, y = test_concatenate.table(rng, 60)
    found = []
    for graph in (False, True):
        net = make(backend=backend, dtype=dtype)
        net.fit(x, y, epochs=2, batch_size=10, graph=graph)
        found.append((host(net.parameters), host(net.state)))
    for one, other in zip(*found, strict=True):
        assert np.abs(one - other).max(initial=0.0) < (1e-12 if dtype == "float64" else 1e-5)
