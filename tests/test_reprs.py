"""What a debugger and a notebook show: one line, without addresses and without whole arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import bpx
from bpx import activations, layers
from bpx.layers import (
    Activation,
    BatchNorm,
    Columns,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    Rescale,
    Residual,
)
from bpx.parameters import Destination, Scale

X, Y = np.zeros((4, 3)), np.array([0, 1, 1, 0])


def net(**options):
    return bpx.Network([3, 4, 2], seed=0, **options)


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        (lambda: net().trace(X, Y)[0], "<LayerTrace of Dense 4, sigmoid: z, a, delta (4, 4)>"),
        (lambda: net().trace(X)[1], "<LayerTrace of Dense 2, sigmoid: z, a (4, 2)>"),
        (lambda: bpx.batches(X, Y, 3), "<Batches: 2 of 3 rows of (4, 3), (4,)>"),
        (lambda: bpx.batches(X, batch_size=1), "<Batches: 4 of 1 row of (4, 3)>"),
        (lambda: net().layout, "<Layout of 4 tensors of 2 layers: 64 elements>"),
        (
            lambda: net().chain,
            "<Chain (3,) -> Dense 4, sigmoid, Dense 2, sigmoid; float32 on numpy>",
        ),
        (
            lambda: net().chain.workspace(training=True).contexts[1],
            "<Context of layer 1, in training, on numpy>",
        ),
        (
            lambda: bpx.CustomActivation(lambda xp, z: z, lambda xp, z, a: 1.0),
            "CustomActivation(<lambda>)",
        ),
        (lambda: bpx.CustomCost(lambda xp, a, y: a, lambda xp, a, y: a), "CustomCost(<lambda>)"),
        (lambda: bpx.Metric("f1", lambda net: 0.0), "Metric('f1')"),
        (lambda: bpx.datasets.Split(X, Y), "Split(x=(4, 3) float64, y=(4,) int64)"),
        (lambda: bpx.datasets.Split([[1.0]], [0]), "Split(x=[[1.0]], y=[0])"),
    ],
)
def test_one_line(thing, shown):
    assert repr(thing()) == shown


def test_digits_and_messages_about_them():
    train, *_ = bpx.datasets.digits()
    assert repr(train) == "Split(x=(1197, 64) float32, y=(1197,) int64)"
    assert len(train) == 2
    with pytest.raises(TypeError, match=r"got Split\(x=\(1197, 64\) float32, y=\(1197,\) int64\)"):
        bpx.plotting.curves(train)


@pytest.mark.parametrize(
    ("alpha", "beta", "shown"),
    [
        (0.1, 0.0, "0.1·gradient"),
        (-0.05, 0.0, "−0.05·gradient"),
        (-0.05, 0.9995, "0.9995·array − 0.05·gradient"),
        (np.float32(0.25), 1, "array + 0.25·gradient"),
        (np.zeros(()), 0.0, "β·array + α·gradient, with α and β on the device"),
    ],
)
def test_where_a_gradient_goes(alpha, beta, shown):
    scale = Scale()
    scale.alpha, scale.beta = alpha, beta
    to = Destination(bpx.backends.get("numpy"), np.zeros((30, 784)), scale)
    assert repr(to) == f"<Destination (30, 784): array ← {shown}>"


def test_a_step_of_the_book_in_a_layer_of_ones_own():
    shown = []

    class Looking(Dense):
        def backward(self, delta, saved, p, out, ctx):
            shown.extend((repr(out.weights), repr(out.bias)))
            return super().backward(delta, saved, p, out, ctx)

    own = bpx.Network([layers.Input(3), Looking(2, "softmax")], seed=0)
    own.fit(X, Y, epochs=1, batch_size=2, optimizer=bpx.SGD(0.5), l2=0.8)
    weights, bias = "0.9·array − 0.25·gradient>", "array − 0.25·gradient>"
    each = [f"<Destination (2, 3): array ← {weights}", f"<Destination (2,): array ← {bias}"]
    assert shown == 2 * each


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (
            Dense(30, "relu", trainable=False),
            "Dense(units=30, activation=ReLU(), trainable=False)",
        ),
        (Dense(30).bind((784,)), "Dense(units=30, input_shape=(784,))"),
        (Dense(3, weights="zeros"), "Dense(units=3, weights=Zeros())"),
        (Residual([Dense(3), Dropout()]), "Residual(layers=(Dense(units=3), Dropout(rate=0.5)))"),
        (
            Concatenate([[Dense(3)], [Dropout(0.2)]]),
            "Concatenate(branches=((Dense(units=3),), (Dropout(rate=0.2),)))",
        ),
        (Columns([0, 2]), "Columns(columns=(0, 2))"),
        (Rescale((1.0, 2.0), axis=0), "Rescale(scale=(1.0, 2.0), axis=0)"),
        (Activation("tanh"), "Activation(activation=Tanh())"),
        (BatchNorm(), "BatchNorm(momentum=0.1)"),
        (Flatten(), "Flatten()"),
        (MaxPool2D(2), "MaxPool2D(pool_size=(2, 2))"),
        (Conv2D(8, 3, "relu"), "Conv2D(channels=8, kernel_size=(3, 3), activation=ReLU())"),
        (Conv2D(8, 3, stride=2), "Conv2D(channels=8, kernel_size=(3, 3), stride=(2, 2))"),
        (Activation("relu"), "Activation(activation=ReLU())"),
    ],
)
def test_layers_are_the_calls_that_make_them(layer, shown):
    assert repr(layer) == shown
    names = {**vars(activations), **vars(bpx.initializers), **vars(layers)}
    assert eval(repr(layer), names) == layer


def test_layers_of_ones_own():
    @dataclass(frozen=True)
    class Own(Layer):
        table: Any = None
        factor: float = 2.0

    @dataclass(frozen=True)
    class Named(Own):
        more: int = 3

        def __repr__(self):
            return "named"

    @dataclass(frozen=True)
    class Below(Named):
        pass

    name = Own.__qualname__
    assert repr(Own(np.zeros(2), factor=2)) == f"{name}(table=array([0., 0.]), factor=2)"
    assert repr(Own()) == f"{name}()"
    assert repr(Named()) == repr(Below()) == "named"
