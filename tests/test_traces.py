"""z, a and δ of each layer, against gradients, and against the layers above by themselves."""

from __future__ import annotations

import numpy as np
import pytest

import bpx
from bpx import layers


def images():
    return [
        layers.Input((2, 6, 6)),
        layers.Rescale(0.5, 0.1),
        layers.Conv2D(4, 3, "relu"),
        layers.BatchNorm(),
        layers.Activation("tanh"),
        layers.MaxPool2D(2),
        layers.Residual([layers.Conv2D(4, 1, "tanh")]),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(5, "gelu"),
        layers.Dense(3, "softmax"),
    ]


@pytest.mark.parametrize("cost", ["cross-entropy", "quadratic"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_the_four_equations(backend, put, host, rng, cost, output):
    net = bpx.Network([4, 6, 5, 3], hidden="tanh", output=output, cost=cost, dtype="float64",
                      backend=backend, seed=0)  # fmt: skip
    x, y = put(rng.normal(size=(7, 4))), put(np.arange(7) % 3)
    traced, grad = net.trace(x, y), net.backprop(x, y)
    below = host(x)
    for k, layer in enumerate(traced):
        assert layer.layer is net.layers[k]
        z, a, delta = map(host, (layer.z, layer.a, layer.delta))
        w, b = host(net.weights[k]), host(net.biases[k])
        assert np.allclose(z, below @ w.T + b, rtol=0, atol=1e-12)
        assert np.array_equal(a, host(net.activations(x)[k]))
        assert np.allclose(delta.mean(axis=0), host(grad.biases[k]), rtol=0, atol=1e-12)  # BP3
        assert np.allclose(delta.T @ below / 7, host(grad.weights[k]), rtol=0, atol=1e-12)  # BP4
        if k:  # BP2
            down = np.asarray(delta) @ w
            assert np.allclose(host(traced[k - 1].delta), down * (1 - below**2), atol=1e-12)
        below = a


def test_each_delta_is_the_gradient_of_what_is_above(backend, put, host, rng):
    """∂C/∂a of the layers above as a network of their own, and the slope of σ."""
    chain = images()
    net = bpx.Network(chain, dtype="float64", backend=backend, seed=0)
    x, y = put(rng.normal(size=(4, 2, 6, 6))), put(np.arange(4) % 3)
    net.backprop(x, y)  # which moves the running statistics
    traced = net.trace(x, y)
    assert all(a is not None for a in traced)
    for k, (layer, outputs) in enumerate(zip(traced, net.activations(x), strict=True)):
        assert np.allclose(host(layer.a), host(outputs), rtol=0, atol=1e-14)
        if k == len(traced) - 1:
            break
        above = bpx.Network([layers.Input(net.layers[k].output_shape), *chain[k + 2 :]],
                            dtype="float64", backend=backend)  # fmt: skip
        for name, tensor in above.tensors.items():
            index, _, rest = name.removeprefix("layers.").partition(".")
            tensor[...] = net.tensors[f"layers.{int(index) + k + 1}.{rest}"]
        expected = host(above.backprop(layer.a, y, training=False).inputs) * 4
        activation = getattr(net.layers[k], "activation", bpx.activations.Identity())
        z, a = np.array(host(layer.z)), np.array(host(layer.a))
        expected = activation.backward(np, np.array(expected), z, a)
        assert np.allclose(host(layer.delta), expected, rtol=0, atol=1e-12)


def test_without_y_there_is_no_delta_and_nothing_moves(rng):
    net = bpx.Network(images(), seed=0)
    x, before = rng.normal(size=(4, 2, 6, 6)), net.state.copy()
    first, second = net.trace(x), net.trace(x)
    for one, other in zip(first, second, strict=True):
        assert one.delta is None
        assert np.array_equal(one.z, other.z)
        assert not np.shares_memory(one.a, other.a)
    assert np.array_equal(net.state, before)
    assert net.steps == 0


def test_whole_numbers_one_row_and_a_layer_of_ones_own(rng):
    class Twice(layers.Layer):
        def forward(self, x, p, ctx):
            return 2.0 * x, None

        def backward(self, delta, saved, p, out, ctx):
            return 2.0 * delta

    chain = [layers.Input(3), layers.Embedding(5, 2), layers.Flatten(), Twice(),
             layers.Dense(2, "softmax")]  # fmt: skip
    net = bpx.Network(chain, dtype="float64", seed=0)
    traced = net.trace([[0, 4, 1]], [1])
    assert [t.delta.shape for t in traced] == [(1, 3, 2), (1, 6), (1, 6), (1, 2)]
    assert np.allclose(traced[1].delta, 2.0 * traced[2].delta)


def test_what_is_no_mini_batch():
    net = bpx.Network([2, 3, 2], seed=0)
    with pytest.raises(TypeError, match="expected x to be in memory, got <data in blocks, "):
        net.trace(bpx.open_data(np.zeros((3, 2)), np.zeros(3, int)))
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 2\)"):
        net.trace([[1.0]])
    with pytest.raises(ValueError, match="as many rows in y as in x"):
        net.trace([[1.0, 2.0]], [0, 1])
