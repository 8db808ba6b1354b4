"""What holds for any network: made up by hypothesis, from everything that the package exports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers
from bpx.activations import ACTIVATIONS
from bpx.backends import BackendError
from bpx.costs import COSTS
from bpx.initializers import INITIALIZERS
from bpx.parameters import ALIGNMENT, Layout, Parameter

thorough = settings(max_examples=40, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple)
tensors = st.dictionaries(
    st.sampled_from(["weights", "bias", "gain"]),
    st.builds(Parameter, shapes, st.none(), decayed=st.booleans()),
)


@thorough
@given(st.lists(st.tuples(tensors, st.booleans()), min_size=1, max_size=5))
def test_a_layout_has_room_for_each_tensor_and_none_twice(described):
    layout = Layout([t for t, _ in described], [trained for _, trained in described])
    taken = np.zeros(layout.size, int)
    for entry in layout.entries:
        by_name, trained = described[entry.layer]
        taken[entry.start : entry.stop] += 1
        assert entry.start % ALIGNMENT == 0
        assert entry.shape == by_name[entry.name].shape
        assert (entry.start < layout.trained) == trained
        decayed = trained and by_name[entry.name].decayed
        assert (entry.start < layout.decayed) == decayed
        assert entry.view(np, taken).base is not None
    assert taken.max(initial=0) <= 1
    assert len(layout.entries) == sum(len(t) for t, _ in described)
    assert layout.decayed <= layout.trained <= layout.size


@st.composite
def networks(draw):
    """The arguments of a Network, its samples, and how it is trained."""
    activation = st.sampled_from(sorted(ACTIVATIONS.builtin))
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    names = sorted(INITIALIZERS.builtin.keys() - {"constant"})
    chain = [layers.Input(sizes[0])]
    if draw(st.booleans()):
        chain.append(layers.Rescale(draw(st.sampled_from([1.0, 0.5])), 0.25))
    for n in sizes[1:-1]:
        weights = draw(st.none() | st.sampled_from(names))
        options = {"use_bias": draw(st.booleans()), "trainable": draw(st.booleans())}
        chain.append(layers.Dense(n, draw(activation), weights, **options))
        if draw(st.booleans()):
            chain.append(layers.Dropout(draw(st.sampled_from([0.0, 0.3]))))
    cost = COSTS.get(draw(st.sampled_from(sorted(COSTS.builtin))))
    fitting = [
        name
        for name in sorted(ACTIVATIONS.builtin)
        if cost.outputs is None or ACTIVATIONS.get(name).range in cost.outputs
    ]
    if sizes[-1] == 1:
        fitting = [name for name in fitting if name != "softmax"] or ["softmax"]
        sizes[-1] += fitting == ["softmax"]
    outputs = sizes[-1] * cost.outputs_per_target
    chain.append(layers.Dense(outputs, draw(st.sampled_from(fitting))))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n = draw(st.integers(1, 12))
    x, y = 0.3 * rng.normal(size=(n, sizes[0])), rng.uniform(0.1, 1.0, (n, sizes[-1]))
    y /= y.sum(axis=1, keepdims=True)
    weight = draw(st.none() | st.just(rng.uniform(0.5, 2.0, n)))
    made = {"cost": cost, "task": "regression", "dtype": "float64", "seed": int(n)}
    momentum = draw(st.sampled_from([0.0, 0.9]))
    trained = {
        "optimizer": bpx.SGD(0.01, momentum=momentum),
        "batch_size": draw(st.integers(1, n)),
        "l2": draw(st.sampled_from([0.0, 0.5])),
        "sample_weight": weight,
    }
    return chain, made, (x, y), trained


@thorough
@given(networks())
def test_both_updates_every_library_and_files_agree(tmp_path_factory, described):
    chain, made, data, trained = described
    net = bpx.Network(chain, **made)
    plain, first = net.copy(), np.array(net.parameters)
    net.fit(*data, epochs=2, **trained)
    plain.fit(*data, epochs=2, clip_norm=1e9, **trained)  # through a gradient
    size = 1.0 + np.abs(net.parameters).max()
    assert np.abs(net.parameters - plain.parameters).max() < 1e-12 * size
    for entry in net.layout.entries:
        if not net.layers[entry.layer].trainable:
            before, after = entry.view(np, first), entry.view(np, net.parameters)
            assert np.array_equal(before, after)
    for name in ("array_api_strict", "torch"):
        try:
            other = bpx.Network(chain, backend=name, **made)
        except BackendError:
            continue
        other.fit(*data, epochs=2, **trained)
        host = other.backend.to_host(other.parameters)
        assert np.abs(net.parameters - host).max() < 1e-12 * size
    path = tmp_path_factory.mktemp("any") / "net.safetensors"
    net.save(path)
    again = bpx.load(path)
    assert np.array_equal(again.parameters, net.parameters)
    assert again.layers == net.layers
    again.optimizer, again.optimizer_state = net.optimizer, net.copy().optimizer_state
    for one in (net, again):
        one.fit(*data, epochs=1, **trained)
    assert np.array_equal(again.parameters, net.parameters)


@thorough
@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 9))
def test_batches_are_every_row_once(n, size, shuffle, seed):
    if size > n:
        with pytest.raises(ValueError, match="batch_size"):
            bpx.batches(np.arange(n), batch_size=size)
        return
    loader = bpx.batches(np.arange(n), 2 * np.arange(n), size, seed=seed, shuffle=shuffle)
    found = list(loader)
    assert len(found) == len(loader)
    x, y = (np.concatenate(column) for column in zip(*found, strict=True))
    assert np.array_equal(np.sort(x), np.arange(n))
    assert np.array_equal(y, 2 * x)
    assert shuffle or np.array_equal(x, np.arange(n))
