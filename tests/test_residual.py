"""Layers in a layer: against PyTorch, and that each has a place of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers

thorough = settings(max_examples=40, deadline=None, derandomize=True)
Activation, BatchNorm, Conv, Dense = (
    layers.Activation, layers.BatchNorm, layers.Conv2D, layers.Dense,
)  # fmt: skip
Dropout, Residual = layers.Dropout, layers.Residual


def close(ours, theirs):
    return np.abs(ours - theirs).max(initial=0.0) <= 1e-10 * max(1.0, np.abs(theirs).max())


# --- PyTorch, forward and all gradients ---------------------------------------------------------


@st.composite
def blocks(draw):
    """Channels in and out, lengths, stride, and what is around."""
    into, out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lengths = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    stride = draw(st.integers(1, min(3, *lengths)))
    same = stride == 1 and into == out and draw(st.booleans())
    around = None if same else draw(st.sampled_from(["auto", "one", "two"]))
    shape = draw(st.integers(1, 3)), into, *lengths
    return shape, out, stride, around


@thorough
@given(blocks())
def test_residual_is_pytorchs(described):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    shape, out, stride, around = described
    one = Conv(out, 1, "tanh", stride=stride)
    projection = {"one": one, "two": [one, Conv(out, 1, use_bias=False)]}.get(around, around)
    block = [
        Conv(2, 3, "tanh", stride=stride, padding=1, use_bias=False),
        BatchNorm(scale="normal"),
        Conv(out, 1),
    ]
    chain = [layers.Input(shape[1:]), Residual(block, projection), layers.Flatten()]
    net = bpx.Network(chain, cost="quadratic", dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    delta = rng.normal(size=(shape[0], *net.layers[0].output_shape))
    ours = net.backprop(x, output_gradient=delta.reshape(shape[0], -1), training=False)
    names = [entry.name for entry in net.layout.entries]
    values = [entry.view(np, net.parameters) for entry in net.layout.entries]
    leaf = torch.tensor(x, requires_grad=True)
    by_name = {
        name: torch.tensor(value.copy(), requires_grad=True)
        for name, value in zip(names, values, strict=True)
    }
    f = torch.nn.functional

    def conv(name, x, **options):
        return f.conv2d(x, by_name[f"{name}.weights"], by_name.get(f"{name}.bias"), **options)

    y = torch.tanh(conv("0", leaf, stride=stride, padding=1))
    zeros, ones = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    y = conv("2", f.batch_norm(y, zeros, ones, by_name["1.scale"], by_name["1.shift"]))
    beside = leaf
    if "projection.0.weights" in names:
        beside = conv("projection.0", leaf, stride=net.layers[0].projection[0].stride)
        beside = beside if around == "auto" else torch.tanh(beside)
    if "projection.1.weights" in names:
        beside = conv("projection.1", beside)
    theirs = y + beside
    assert close(net.activations(x)[0], theirs.detach().numpy())
    theirs.backward(torch.tensor(delta))
    assert close(ours.inputs, leaf.grad.numpy())
    for entry in net.layout.entries:
        assert close(entry.view(np, ours.flat), by_name[entry.name].grad.numpy())


@pytest.mark.parametrize(
    ("shape", "to", "found"),
    [
        ((4,), (3,), "Dense 3, identity"),
        ((2, 9), (3, 5), "Conv1D 3, 1, identity"),
        ((2, 9), (3, 4), None),  # no stride gives 4 of 9
        ((2, 7, 8), (3, 3, 2), "Conv2D 3, 1×1, identity"),
        ((2, 7, 8), (3, 7, 9), None),
        ((2, 7, 8), (3, 7), None),
        ((2, 3, 3, 3), (3, 3, 3, 3), None),
    ],
)
def test_what_brings_one_shape_to_another(shape, to, found):
    layer = layers.residual.projecting(shape, to)
    assert (None if layer is None else str(layer)) == found
    assert layer is None or layer.bind(shape).output_shape == to


# --- a place for each ----------------------------------------------------------------------------


def network(backend=None, seed=3, dtype="float64", **options):
    chain = [
        layers.Input((2, 4, 4)),
        Residual(
            [
                Conv(4, 3, stride=2, padding=1, use_bias=False),
                BatchNorm(),
                Activation("tanh"),
                Residual([Dropout(0.2), Conv(4, 1, "tanh")]),
                BatchNorm(),
            ],
            projection="auto",
            **options,
        ),
        Activation("silu"),
        layers.Flatten(),
        Residual([Dense(5, "tanh"), Dropout(0.3), Dense(16)]),
        Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


@pytest.fixture
def images(rng):
    return rng.normal(size=(20, 2, 4, 4)), np.arange(20) % 3


def test_names_and_views():
    net = network()
    paths = [entry.path for entry in net.layout.entries]
    assert paths[:4] == ["layers.0.0.weights", "layers.0.1.scale", "layers.0.1.shift",
                         "layers.0.3.1.weights"]  # fmt: skip
    assert "layers.0.projection.0.weights" in paths
    assert [w.shape for w in net.weights] == [
        (4, 2, 3, 3), (4, 4, 1, 1), (4, 2, 1, 1), (5, 16), (16, 5), (3, 16),
    ]  # fmt: skip
    assert [b.shape for b in net.biases] == [(4,), (5,), (16,), (3,)]
    assert all(np.shares_memory(view, net.parameters) for view in (*net.weights, *net.biases))
    x, y = np.ones((2, 2, 4, 4)), [0, 1]
    gradient = net.backprop(x, y)
    assert [w.shape for w in gradient.weights] == [w.shape for w in net.weights]
    states = [entry.path for entry in net.chain.architecture.state_layout.entries]
    assert states == [f"layers.0.{i}.{name}" for i in (1, 4) for name in ("mean", "variance")]


def test_buffers_are_those_of_each_layer(images):
    net = network()
    ws = net.chain.workspace(training=True)
    x, y = net.chain.gather(images[0], slice(None), ws), images[1]
    first = [a.copy() for a in net.chain.layer_outputs(x, ws)]
    again = [*net.chain.layer_outputs(x, ws)]
    assert all(map(np.array_equal, first, again))
    third = [*net.chain.layer_outputs(x, ws)]
    assert all(np.shares_memory(*pair) for pair in zip(again, third, strict=True))
    assert bpx.gradient_check(net, x[:3], y[:3]).worst < 1e-6


def test_one_layer_of_a_block_that_is_not_trained(images):
    block = [Dense(4, "tanh", trainable=False), Dense(32)]
    chain = [layers.Input((2, 4, 4)), layers.Flatten(), Residual(block), Dense(3, "softmax")]
    net = bpx.Network(chain, dtype="float64", seed=1)
    kept = [entry for entry in net.layout.entries if entry.name.startswith("0.")]
    assert kept
    assert all(entry.start >= net.layout.trained for entry in kept)
    before = net.parameters.copy()
    for optimizer in (bpx.SGD(0.1), bpx.SGD(0.1, momentum=0.9), bpx.AdamW(0.1)):
        net.fit(*images, epochs=1, batch_size=5, optimizer=optimizer, l2=1.0)
    for entry in net.layout.entries:
        same = np.array_equal(entry.view(np, before), entry.view(np, net.parameters))
        assert same == (entry in kept)
    check = bpx.gradient_check(net, images[0][:2], images[1][:2])
    assert check.worst < 1e-7
    assert not {entry.path for entry in kept} & set(check.errors)
    assert "of them trained" in str(net.summary())


@dataclass(frozen=True)
class Doubled(layers.Layer):
    name: ClassVar[str] = "doubled"

    def forward(self, x, p, ctx):
        return 2.0 * x, None

    def backward(self, delta, saved, p, out, ctx):
        return 2.0 * delta


def test_a_layer_of_ones_own_in_it(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(layers.LAYERS, "registered", {})
    net = bpx.Network([layers.Input(3), Residual([Doubled(), Dense(3)])], cost="quadratic")
    with pytest.raises(ValueError, match="no registered name"):
        net.save(tmp_path / "net")
    bpx.register("doubled", Doubled)
    net.save(tmp_path / "net")
    layers.LAYERS.registered.clear()
    with pytest.raises(bpx.FileFormatError, match="unknown layer 'doubled'"):
        bpx.load(tmp_path / "net")
    again = bpx.load(tmp_path / "net", custom={"doubled": Doubled})
    x = rng.normal(size=(2, 3))
    assert np.array_equal(again.feedforward(x), net.feedforward(x))
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    assert onnx
    with pytest.raises(ValueError, match=r"layer 0\.0, Doubled: expected one of bpx's own layers"):
        bpx.export_onnx(net)


def test_a_file_with_layers_in_layers_without_end(tmp_path):
    net, path = bpx.Network([3, 3], seed=0), tmp_path / "net"
    net.save(path)
    tensors, header = bpx.persistence.read(path)
    config = {"name": "flatten"}
    for _ in range(300):
        config = {"name": "residual", "layers": [config]}
    bpx.persistence.write(path, tensors, header | {"layers": [config]})
    with pytest.raises(bpx.FileFormatError):
        bpx.load(path)


def test_the_summary_has_a_row_for_each():
    rows = {row[0]: row[1:] for row in network().summary().rows}
    assert rows["0"] == ("Residual, projected", "(m, 4, 2, 2)", "", "")
    assert rows["0.3.1"] == ("Conv2D 4, 1×1, tanh", "(m, 4, 2, 2)", "20", "64")
    assert rows["0.projection.0"] == ("Conv2D 4, 1×1, identity", "(m, 4, 2, 2)", "8", "32")
    assert rows["3.2"] == ("Dense 16, identity", "(m, 16)", "96", "80")
    assert network().chain.architecture.largest_product() == 4 * 2 * 9 * 4


# --- what a user gets wrong ----------------------------------------------------------------------


def made(*chain, shape=(2, 8, 8)):
    return bpx.Network([layers.Input(shape), *chain, layers.Flatten()], cost="quadratic")


CASES = [
    (lambda: Residual([]), ValueError, "layers of Residual to have at least one layer, got none"),
    (lambda: Residual(Dense(3)), TypeError, "expected the layers of Residual to be a list of"),
    (lambda: Residual("auto"), TypeError, "a list of layers, got 'auto'"),
    (lambda: Residual([layers.Input(3)]), TypeError, "a list of layers, got Input(shape=(3,)) in"),
    (lambda: Residual([Dense(3)], 3), TypeError, 'projection of Residual, if not "auto" or None,'),
    (lambda: Residual([Dense(3)], []), ValueError, "to have at least one layer, got none"),
    (lambda: made(Residual([Dense(3)]), shape=4), ValueError,
     'its layers give (m, 3), and its inputs are (m, 4), which cannot be added: projection="auto" '
     "adds Dense 3, identity around them"),
    (lambda: made(Residual([Conv(3, 1)])), ValueError, 'projection="auto" adds Conv2D 3, 1×1'),
    (lambda: made(Residual([Conv(2, 3)])), ValueError, 'give (m, 2, 6, 6), and its inputs are'),
    (lambda: made(Residual([Conv(2, 4)], "auto")), ValueError, 'padding="same" keeps the lengths'),
    (lambda: made(Residual([Conv(2, 1)], Conv(3, 1))), ValueError,
     "its projection gives (m, 3, 8, 8), which cannot be added: end the projection with "
     "shape (m, 2, 8,"),
    (lambda: made(Residual([Activation("relu"), Dense(3)])), ValueError,
     "layer 0, Residual: its layer 1, Dense 3, identity: Dense expects flat inputs"),
    (lambda: made(Residual([Conv(3, 1)], Dense(3))), ValueError,
     "its projection's layer 0, Dense 3, identity: Dense expects flat inputs of shape (m, n)"),
    (lambda: made(Residual([Dense(1), layers.Embedding(3, 1), layers.Flatten()]), shape=1),
     ValueError, "layer 0.1, Embedding 3 × 1: it takes whole numbers"),
]  # fmt: skip

test_a_message_says_what_to_change = messages.test_of(CASES)
