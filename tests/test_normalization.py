"""Normalization against PyTorch, its running statistics, and what it says of too few values."""

from __future__ import annotations

import math

import messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers
from bpx.backends import _numpy, _threads

thorough = settings(max_examples=40, deadline=None, derandomize=True)
DRAWN = {"scale": "normal", "shift": "normal"}


def alone(layer, shape):
    """A network of the layer alone, in float64."""
    chain = [layers.Input(shape), layer, layers.Flatten()]
    return bpx.Network(chain, cost="quadratic", dtype="float64", seed=1)


def in_training(net, x):
    """What the first layer returns then; the running statistics of `net` stay."""
    twin = net.copy()
    ws = twin.chain.workspace(training=True)
    return next(twin.chain.layer_outputs(twin.chain.gather(x, slice(None), ws), ws)).copy()


def close(ours, theirs, tolerance=1e-10):
    size = max(1.0, np.abs(theirs).max(initial=0.0))
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= tolerance * size


def alike(ours, theirs, tolerance=1e-10):
    """To `tolerance` of the largest element, however small that is."""
    size = np.abs(theirs).max()
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= tolerance * size


def tensors(torch, *arrays):
    return [torch.tensor(array.copy(), requires_grad=True) for array in arrays]


# --- PyTorch, forward and all gradients ---------------------------------------------------------


@st.composite
def batches(draw):
    """The shape of a mini-batch with two values or more in each channel, and the layer."""
    places = draw(st.lists(st.integers(1, 5), max_size=3))
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4)), *places
    if np.prod(shape) == shape[1]:
        shape = (2, *shape[1:])
    numbers = draw(st.floats(0.01, 0.99)), draw(st.sampled_from([1e-5, 1e-3, 0.5]))
    return layers.BatchNorm(*numbers, **DRAWN), shape


def batch_norm_and_pytorchs(layer, x, training):
    """The outputs, the gradients of x, γ and β, and the running statistics: ours and theirs."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    rng, net = np.random.default_rng(1), alone(layer, x.shape[1:])
    net.state[...] = rng.uniform(0.5, 2.0, net.state.shape)
    (p,), (s,) = net.chain.p[:1], net.chain.s[:1]
    leaves = tensors(torch, x, p.scale, p.shift)
    mean, variance = map(torch.tensor, (s.mean.copy(), s.variance.copy()))
    theirs = torch.nn.functional.batch_norm(
        leaves[0], mean, variance, *leaves[1:], training, layer.momentum, layer.epsilon
    )
    y = in_training(net, x) if training else net.activations(x)[0]
    delta = rng.normal(size=x.shape)
    theirs.backward(torch.tensor(delta))
    ours = net.backprop(x, output_gradient=delta.reshape(len(x), -1), training=training)
    g = net.layout.views(np, ours.flat)[0]
    gradients = zip((ours.inputs, g.scale, g.shift), leaves, strict=True)
    return (
        (y, theirs.detach().numpy()),
        [(mine, leaf.grad.numpy()) for mine, leaf in gradients],
        [(s.mean, mean.numpy()), (s.variance, variance.numpy())],
    )


@thorough
@given(batches(), st.booleans())
def test_batch_norm_is_pytorchs(described, training):
    layer, shape = described
    x = 3.0 * np.random.default_rng(0).normal(size=shape) + 1.0
    outputs, gradients, running = batch_norm_and_pytorchs(layer, x, training)
    assert close(*outputs)
    # Of two equal values the slope is 1/√ε, and the gradient a difference of such.
    tolerance = 1e-10 / np.sqrt(layer.epsilon) if training else 1e-10
    assert all(close(*pair, tolerance) for pair in gradients)
    assert all(close(*pair) for pair in running)


@st.composite
def samples(draw, least=1):
    """The layer, and the shape of a mini-batch with `least` values or more in each group."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    axes = draw(st.none() | st.integers(1, len(shape)))
    if math.prod(shape[-(axes or len(shape)) :]) < least:
        shape[-1] = least
    epsilon = draw(st.sampled_from([1e-5, 1e-3, 0.5]))
    return layers.LayerNorm(axes, epsilon, **DRAWN), (draw(st.integers(1, 4)), *shape)


def normalized_together(layer, shape):
    """The last axes of the shape, over which a `LayerNorm` goes."""
    return shape[1 if layer.axes is None else len(shape) - layer.axes :]


def layer_norm_and_pytorchs(layer, x):
    """The outputs, and the gradients of x, γ and β: ours and theirs."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    rng, net = np.random.default_rng(1), alone(layer, x.shape[1:])
    p = net.chain.p[0]
    leaves = tensors(torch, x, p.scale, p.shift)
    over = normalized_together(layer, x.shape)
    theirs = torch.nn.functional.layer_norm(leaves[0], over, *leaves[1:], layer.epsilon)
    y, delta = net.activations(x)[0], rng.normal(size=x.shape)
    theirs.backward(torch.tensor(delta))
    ours = net.backprop(x, output_gradient=delta.reshape(len(x), -1))
    g = net.layout.views(np, ours.flat)[0]
    gradients = zip((ours.inputs, g.scale, g.shift), leaves, strict=True)
    outputs = y, theirs.detach().numpy()
    return outputs, [(mine, leaf.grad.numpy()) for mine, leaf in gradients]


@thorough
@given(samples())
def test_layer_norm_is_pytorchs(described):
    layer, shape = described
    x = 3.0 * np.random.default_rng(0).normal(size=shape) + 1.0
    outputs, gradients = layer_norm_and_pytorchs(layer, x)
    assert close(*outputs)
    assert all(close(*pair, 1e-10 / np.sqrt(layer.epsilon)) for pair in gradients)


# --- the same to 1e-10, of values that are apart -------------------------------------------------

# Of each group that is normalized. Rounding, of x − μ and of the sums, is enlarged by 1/√(v + ε),
# which then is at most 1, whatever ε is: results are as exact as sums of so many numbers, some
# 1e-15 of their size, which leaves 1e-10 room for unlucky sums that cancel.
LEAST_VARIANCE = 1.0


def apart(rng, groups, length):
    """(groups, length), in each group numbers that are 2 apart or more, in any order.

    3 apart, each moved by up to ½. The variance of n numbers that are 2 apart is (n² − 1)/3 or
    more, of two numbers 1.
    """
    grid = 3.0 * np.arange(length) + rng.uniform(-0.5, 0.5, (groups, length))
    x = rng.permuted(grid - grid.mean(axis=1, keepdims=True), axis=1)
    assert x.var(axis=1).min() >= LEAST_VARIANCE
    return x + rng.uniform(-3.0, 3.0, (groups, 1))


def gradients_alike(gradients, length):
    """Of x, γ and β, from groups of `length` values."""
    of_x, *others = gradients
    # Two values are ±1 after normalization, wherever they were: ∂C/∂x is the share ε/(v + ε) that
    # is left of terms of about 1, whose rounding is still that of 1.
    return (alike if length > 2 else close)(*of_x) and all(alike(*pair) for pair in others)


@thorough
@given(batches(), st.integers(0, 2**32))
def test_batch_norm_of_values_apart_is_pytorchs(described, seed):
    layer, (m, c, *places) = described
    length = m * math.prod(places)
    x = apart(np.random.default_rng(seed), c, length).reshape(c, m, *places)
    x = np.ascontiguousarray(np.moveaxis(x, 0, 1))
    outputs, gradients, running = batch_norm_and_pytorchs(layer, x, training=True)
    assert alike(*outputs)
    assert gradients_alike(gradients, length)
    assert all(alike(*pair) for pair in running)


@thorough
@given(samples(least=2), st.integers(0, 2**32))
def test_layer_norm_of_values_apart_is_pytorchs(described, seed):
    layer, shape = described
    length = math.prod(normalized_together(layer, shape))
    x = apart(np.random.default_rng(seed), math.prod(shape) // length, length).reshape(shape)
    outputs, gradients = layer_norm_and_pytorchs(layer, x)
    assert alike(*outputs)
    assert gradients_alike(gradients, length)


# --- float32 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", [layers.BatchNorm, layers.LayerNorm])
def test_values_far_from_zero_keep_their_variance(backend, put, host, rng, kind, mean):
    """As the same numbers in float64 do: at 1e6 ± 1 float32's own step is 0.06."""
    shape = (400, 3) if kind is layers.BatchNorm else (3, 400)
    x = (mean + rng.normal(size=shape)).astype(np.float32)
    found = {}
    for dtype in ("float32", "float64"):
        chain = [layers.Input(shape[1]), kind(**DRAWN)]
        net = bpx.Network(chain, cost="quadratic", backend=backend, dtype=dtype, seed=0)
        ws = net.chain.workspace(training=True)
        z, _ = net.chain.forward(net.chain.gather(put(x), slice(None), ws), ws)
        grad = net.backprop(put(x), output_gradient=put(np.cos(np.arange(1200.0)).reshape(shape)))
        found[dtype] = host(z), host(grad.flat), host(grad.inputs), host(net.state)
    for single, double in zip(found["float32"], found["float64"], strict=True):
        assert np.abs(single - double).max(initial=0.0) <= 2e-5 * np.abs(double).max(initial=1.0)


def test_long_columns_far_from_zero_keep_their_variance(backend, put, host, rng):
    """Row added to row, Σ of 50,000 times 1e6 is off by more than they vary."""
    x = (1e6 + rng.normal(size=(50_000, 2))).astype(np.float32)
    net = bpx.Network(
        [layers.Input(2), layers.BatchNorm()], cost="quadratic", backend=backend, seed=0
    )
    ws = net.chain.workspace(training=True)
    z, _ = net.chain.forward(net.chain.gather(put(x), slice(None), ws), ws)
    wide = x.astype(np.float64)
    assert np.abs(host(z) - (wide - wide.mean(axis=0)) / wide.std(axis=0)).max() < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e12])
@pytest.mark.parametrize("kind", [layers.BatchNorm, layers.LayerNorm])
def test_a_constant_has_variance_0(kind, value, dtype):
    net = bpx.Network([layers.Input(3), kind()], cost="quadratic", dtype=dtype)
    x = np.full((7, 3), value)
    grad = net.backprop(x, output_gradient=np.ones((7, 3)))
    assert np.isfinite(grad.flat).all()
    assert np.isfinite(net.state).all()
    assert np.abs(grad.inputs).max() < 1e-3
    assert np.abs(in_training(net, x)).max() < 1e-6


@pytest.mark.parametrize("kind", [layers.BatchNorm, layers.LayerNorm])
def test_nan_stays(kind):
    net = alone(kind(), (3,))
    ws = net.chain.workspace(training=True)
    x = np.array([[1.0, np.nan, 3.0], [2.0, 0.0, 5.0]])
    assert np.isnan(net.chain.forward(x, ws)[0]).any()


# --- in training ---------------------------------------------------------------------------------


def network(backend=None, seed=3, dtype="float64", **options):
    """Both kinds, of images and of vectors, between other layers."""
    chain = [
        layers.Input((1, 4, 4)),
        layers.Conv2D(3, 3, padding=1, use_bias=False),
        layers.BatchNorm(0.2, **options),
        layers.Activation("tanh"),
        layers.MaxPool2D(2),
        layers.LayerNorm(axes=2),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Dense(6, use_bias=False),
        layers.BatchNorm(),
        layers.Activation("silu"),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


@pytest.fixture
def images(rng):
    return rng.normal(size=(22, 1, 4, 4)), np.arange(22) % 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_in_slices_and_parts_is_the_batch(images, monkeypatch, threads):
    x, y = images
    expected, got = network("numpy"), network(kernels := _numpy.NumpyBackend())
    whole = expected.backprop(x, y)
    monkeypatch.setattr(_numpy, "WORTH", 1)
    monkeypatch.setattr(_numpy, "AT_ONCE", 1000)
    monkeypatch.setattr(_threads, "count", lambda: threads)
    slices = [len(part) for part in kernels.parts_of_places((22, 3, 4, 4))]
    assert slices == [4 // threads] * threads
    found = got.backprop(x, y)
    assert np.abs(found.flat - whole.flat).max() < 1e-12
    assert np.abs(found.inputs - whole.inputs).max() < 1e-12
    assert np.abs(got.state - expected.state).max() < 1e-12


def test_scales_and_shifts_are_not_decayed():
    layout = network().layout
    scales = [e for e in layout.entries if e.name in ("scale", "shift")]
    assert len(scales) == 6
    assert all(e.start >= layout.decayed for e in scales)


def test_one_that_is_not_trained_keeps_its_statistics(images):
    net = network(trainable=False)
    net.chain.s[1].mean[...] = 0.3
    before = [array.copy() for array in (net.chain.s[1].mean, net.chain.s[1].variance)]
    x, y = images
    assert close(in_training(net, x), net.activations(x)[0])
    first, frozen = (a.copy() for a in (net.chain.p[1].scale, net.chain.s[8].mean))
    net.fit(x, y, epochs=1)
    assert np.array_equal(net.chain.p[1].scale, first)
    assert all(map(np.array_equal, before, (net.chain.s[1].mean, net.chain.s[1].variance)))
    assert not np.array_equal(net.chain.s[8].mean, frozen)  # of the one that is trained
    assert bpx.gradient_check(net, x[:4], y[:4], sample_weight=[1.0, 2.0, 0.5, 0.0]).worst < 1e-6


def test_a_bias_before_it_has_a_gradient_of_zero(images):
    """Which differences of a rounded cost are not, and that is no error."""
    chain = [layers.Input((1, 4, 4)), layers.Conv2D(2, 3), layers.BatchNorm(), layers.Flatten(),
             layers.Dense(3, "softmax")]  # fmt: skip
    net = bpx.Network(chain, dtype="float64", seed=1)
    x, y = images
    assert np.abs(net.backprop(x, y).biases[0]).max() < 1e-15
    check = bpx.gradient_check(net, x, y)
    assert check.errors["layers.0.bias"] == 0.0
    assert check.worst < 1e-7


def test_prediction_leaves_the_statistics(images):
    net = network()
    net.fit(*images, epochs=1)
    before = net.state.copy()
    net.evaluate(*images)
    net.backprop(*images, training=False)
    assert np.array_equal(net.state, before)
    net.backprop(*images)
    assert not np.array_equal(net.state, before)


def test_the_work_of_each_is_in_the_summary():
    rows = {row[0]: row for row in network().summary().rows}
    assert rows["1"][1:] == ("BatchNorm", "(m, 3, 4, 4)", "6", "48")
    assert rows["4"][1:] == ("LayerNorm", "(m, 3, 2, 2)", "8", "12")


# --- what a user gets wrong ----------------------------------------------------------------------


def flat():
    return bpx.Network([layers.Input(3), layers.BatchNorm(), layers.Dense(2, "softmax")], seed=0)


X, Y = np.arange(21.0).reshape(7, 3), np.arange(7) % 2
ONE = "a mini-batch has 1 row, in which a BatchNorm of flat inputs finds no variance: expected 2"
CASES = [
    (lambda: flat().fit(X, Y, batch_size=3), ValueError, ONE),
    (lambda: flat().fit(X, Y, batch_size=3), ValueError, "Leave that one out by drop_last=True"),
    (lambda: flat().fit(bpx.batches(X, Y, 3), epochs=1), ValueError,
     "finds no variance: bpx.batches(..., drop_last=True) leaves such a last one out"),
    (lambda: flat().fit(X, Y, batch_size=7, accumulate=5), ValueError, "a slice of a mini-batch"),
    (
        lambda: flat().fit(X, Y, batch_size=7, accumulate=5),
        ValueError,
        "batch_size; drop_last=True leaves the last one out, if it alone is so small",
    ),
    (lambda: flat().fit([(X, Y), (X[:1], Y[:1])], epochs=1), ValueError,
     "mini-batch 2 of epoch 1: expected 2 rows at least, got 1, in which a BatchNorm of flat in"),
    (lambda: flat().fit([(X, Y), (X[:2], Y[:2])], epochs=1, accumulate=2), ValueError,
     "a slice of mini-batch 2 of epoch 1 has 1 row, in which a BatchNorm of flat inputs finds no"),
    (lambda: flat().fit([(X, Y), (X[:1], Y[:1])], epochs=1, accumulate=2), ValueError,
     "mini-batch 2 of epoch 1 has 1 row, in which a BatchNorm of flat inputs finds no variance"),
    (lambda: flat().backprop(X[:1], Y[:1]), ValueError, "BatchNorm got a mini-batch of one row"),
    (lambda: layers.BatchNorm(1.0), ValueError, "expected 0 < the momentum of BatchNorm < 1"),
    (lambda: layers.BatchNorm(0.0), ValueError, "expected 0 < the momentum of BatchNorm < 1"),
    (lambda: layers.BatchNorm("0.1"), TypeError, "the momentum of BatchNorm to be a number"),
    (lambda: layers.BatchNorm(epsilon=0.0), ValueError, "expected the epsilon of BatchNorm > 0"),
    (lambda: layers.LayerNorm(epsilon=-1), ValueError, "expected the epsilon of LayerNorm > 0"),
    (lambda: layers.LayerNorm(0), ValueError, "expected the axes of LayerNorm >= 1, got 0"),
    (lambda: layers.LayerNorm(2).bind((5,)), ValueError, "LayerNorm to be at most the 1 of a"),
    (lambda: layers.Activation("softmax").bind((3, 4, 4)), ValueError,
     "Activation cannot have softmax"),
    (lambda: layers.Activation("nope"), ValueError, "unknown activation 'nope'"),
]  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_last_row_may_be_left_out(accumulate):
    class EachStep(bpx.Callback):
        def on_step_end(self, run):
            pass  # with it arrays go step by step too, as an iterable does

    nets, options = (flat(), flat()), {"accumulate": accumulate, "callbacks": EachStep()}
    nets[0].fit(X, Y, epochs=2, batch_size=6, drop_last=True, **options)
    batches = bpx.batches(X, Y, 6, seed=nets[1].generator, drop_last=True)
    nets[1].fit(batches, epochs=2, accumulate=accumulate)
    assert nets[0].steps == 2
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert np.array_equal(nets[0].state, nets[1].state)


test_a_message_says_what_to_change = messages.test_of(CASES)


def test_one_row_is_enough_where_nothing_is_measured(rng):
    net = flat()
    assert net.feedforward(X[:1]).shape == (1, 2)
    net.backprop(X[:1], Y[:1], training=False)
    frozen = bpx.Network([layers.Input(3), layers.BatchNorm(trainable=False), layers.Dense(2)],
                         cost="quadratic")  # fmt: skip
    frozen.fit(X, np.zeros((7, 2)), epochs=1, batch_size=3)
    alone(layers.BatchNorm(), (3, 2)).fit(X[:1].repeat(2).reshape(1, 3, 2), X[:1].repeat(2)[None])


def test_a_frozen_copy_draws_masks_and_keeps_running_statistics():
    """Monte Carlo dropout as in docs/uncertainty.md: each row by itself, whatever is beside it."""
    chain = [layers.Input(3), layers.BatchNorm(), layers.Dense(20, "relu"), layers.Dropout(0.5)]
    net = bpx.Network([*chain, layers.Dense(2, "softmax")], seed=0)
    net.fit(X, np.arange(7) % 2, epochs=2, batch_size=7)
    still = net.frozen(len(net.layers))
    first, more = (still.activations(x, training=True, step=3)[-1] for x in (X[:2], X))
    assert np.allclose(first, more[:2], atol=1e-6)
    assert not np.allclose(first, still(X[:2]), atol=1e-3)
    first, more = (net.activations(x, training=True, step=3)[-1] for x in (X[:2], X))
    assert not np.allclose(first, more[:2], atol=1e-3)
