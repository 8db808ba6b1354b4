"""The part of a mini-batch of a rank that has no rows of it: arrays of 0 rows in all layers."""

from __future__ import annotations

import numpy as np
import pytest
from test_gradients import BEFORE, IMAGE, LAYER_CASES, LEGAL, OF_IMAGES, SHAPES

import bpx
from bpx import layers
from bpx.activations import ACTIVATIONS
from bpx.augmentation import Pipeline, Rotate, Shift
from bpx.costs import COSTS
from bpx.parameters import get_path


def passes(chain, x, y, weight=None):
    """Gradients, alone and added to ones, and ∂C/∂x, where other ranks have five rows."""
    ws = chain.workspace(training=True, inputs=not chain.architecture.integers)
    ws.batch_sum, ws.rows = (lambda array: array + 1.0), 5  # the others' sums
    found = []
    for start, beta in ((np.nan, 0.0), (1.0, 1.0)):
        out = chain.destinations()
        out.flat[...] = start
        out.set_scalars(0.5, beta, beta)
        values, a, delta, saved = chain.cost_and_delta(chain.gather(x, slice(None), ws), y, ws)
        log = chain.backend.zeros((1, 3), chain.xp_dtype) + np.nan
        chain.backend.tally(values, chain.correct(a, y), weight, log, 0)
        below = chain.backward(delta, saved, out, ws)
        found.append((chain.architecture.layout.views(chain.backend.xp, out.flat), below, log))
    return found


def check(net, x, y, host, weight=None, chain=None):
    found = passes(chain or net.chain, x, y, weight)
    for expected, (grad, below, log) in enumerate(found):
        for entry in net.layout.entries:
            tensor = get_path(grad[entry.layer], entry.name)
            frozen = entry.start >= net.layout.trained
            assert frozen or (host(tensor) == expected).all(), entry
        assert below is None or tuple(below.shape) == tuple(x.shape)
        assert not host(log).any()
    assert np.isfinite(host(net.state)).all()


@pytest.mark.parametrize(("position", "dtype"), [("first", "float32"), ("inside", "float64")])
@pytest.mark.parametrize(
    "layer", [case for cases in LAYER_CASES.values() for case in cases], ids=repr
)
def test_layers(backend, put, host, layer, position, dtype):
    shape = IMAGE if layer in OF_IMAGES else SHAPES[layer.name]
    whole = isinstance(layer, layers.Embedding)
    before = [layers.Flatten() if whole else BEFORE[shape]] if position == "inside" else []
    chain = [layers.Input(shape), *before, layer, layers.Flatten(), layers.Dense(3)]
    net = bpx.Network(chain, cost="quadratic", backend=backend, dtype=dtype, seed=5)
    x = np.zeros((0, *shape), np.int64 if whole else dtype)
    check(net, put(x), put(np.zeros((0, 3), dtype)), host)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.builtin))
def test_hidden_activations(backend, put, host, name):
    net = bpx.Network([5, 4, 3], hidden=name, backend=backend)
    check(net, put(np.zeros((0, 5), np.float32)), put(np.zeros(0, np.int64)), host)


@pytest.mark.parametrize(("cost", "output"), LEGAL)
def test_costs_and_outputs(backend, put, host, cost, output):
    cost = COSTS.get(cost)
    sizes = [5, 4, 2 * cost.outputs_per_target]
    net = bpx.Network(sizes, output=output, cost=cost, task="regression", backend=backend)
    shape = 0, net.chain.architecture.target_counts[0]
    x, y, w = (put(np.zeros(each, np.float32)) for each in ((0, 5), shape, 0))
    check(net, x, y, host, w)


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_products_in_another_precision(rehearsed, precision):
    chain = [layers.Input((2, 4, 3)), layers.Conv2D(3, 2, "tanh"), layers.BatchNorm()]
    chain += [layers.Flatten(), layers.Dense(3)]
    net = bpx.Network(chain, cost="quadratic", backend=rehearsed, seed=5)
    x, y = np.zeros((0, 2, 4, 3), np.float32), np.zeros((0, 3), np.float32)
    check(net, x, y, np.asarray, chain=net.chain.on(rehearsed.in_precision(precision)))


def test_augmentation(backend, put, host):
    net = bpx.Network(
        [layers.Input((1, 4, 4)), layers.Flatten(), layers.Dense(3)], backend=backend
    )
    ws = net.chain.workspace(training=True)
    ws.augment = Pipeline.of([Shift(1), Rotate(40)], net.input_shape, net.layers)
    assert net.chain.gather(put(np.zeros((0, 1, 4, 4), np.float32)), slice(None), ws).shape[0] == 0
