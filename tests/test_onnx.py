"""ONNX models, run by ONNX Runtime, against the networks that they were written from."""

from __future__ import annotations

import doctest
import inspect
import json
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import bpx
from bpx import layers
from bpx.activations import ACTIVATIONS
from bpx.layers import LAYERS

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
ROWS = (1, 7)


def run(model, x):
    """The outputs by name, from the bytes that a file would have."""
    onnx.checker.check_model(model, full_check=True)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    (given,) = session.get_inputs()
    return dict(
        zip(names, session.run(None, {given.name: x.astype(dtype[given.type])}), strict=True)
    )


def agree(found, expected, dtype):
    """To the tolerance, relative to the outputs where they are large."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == dtype
    size = max(1.0, np.abs(expected).max())
    assert np.abs(found - expected).max() <= TOLERANCE[dtype] * size


def same(net, x, classes=None, **options):
    """The model's outputs, after its numbers were compared with the network's."""
    found = run(bpx.export_onnx(net, classes=classes, **options), x)
    x = x.astype(net.dtype)
    a = net.backend.to_host(net.feedforward(x))
    if net.task == "classification" and a.shape[1] == 1 and "probabilities" in found:
        a = np.concatenate([1.0 - a, a], axis=1)
    agree(found["probabilities" if "probabilities" in found else "outputs"], a, net.dtype)
    if net.task != "regression":
        label = net.backend.to_host(net.predict(x))
        expected = label if classes is None else np.asarray(classes)[label]
        assert found["label"].tolist() == expected.tolist()
    return found


# --- activations and layers -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ACTIVATIONS.builtin)
def test_each_activation(name, dtype, rng):
    """Hidden, and as the output of a regression."""
    net = bpx.Network([4, 6, 5, 3], hidden=["tanh", name], output=name, cost="quadratic",
                      task="regression", dtype=dtype, seed=3)  # fmt: skip
    for m in ROWS:
        assert list(same(net, rng.normal(size=(m, 4)))) == ["outputs"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ACTIVATIONS.builtin)
def test_each_activation_far_out_and_near_zero(name, dtype):
    """Element by element, where naive formulas overflow or cancel."""
    far = 80.0 if name == "exp" else 100.0  # e¹⁰⁰ is beyond float32
    z = np.array([-far, -40.0, -20.0, -1.0, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 1.0, 20.0, far])
    dense = layers.Dense(1, name)
    if name == "softmax":
        dense = layers.Dense(z.size, name)
        z = z[None, :]
    net = bpx.Network([layers.Input(dense.units), dense], dtype=dtype, task="regression",
                      cost="quadratic")  # fmt: skip
    net.weights[0][...] = np.eye(dense.units)
    net.biases[0][...] = 0.0
    z = z.reshape(-1, dense.units).astype(dtype)
    found, expected = run(bpx.export_onnx(net), z)["outputs"], net.feedforward(z)
    assert np.isfinite(found).all()
    for one, other in zip(found, expected, strict=True):
        agree(one, other, dtype)
    if dtype == "float64" and name in ("softplus", "elu", "exp", "softmax"):
        small = np.abs(expected) > 0.0
        assert np.abs(found / np.where(small, expected, 1.0) - small).max() < 1e-12


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "activation", [bpx.activations.LeakyReLU(0.3), bpx.activations.LeakyReLU(-1.5),
                   bpx.activations.ELU(0.7)], ids=repr,
)  # fmt: skip
def test_their_numbers(activation, dtype, rng):
    """In float64 too, where an attribute of ONNX would have rounded them to float32."""
    net = bpx.Network([3, 5, 2], hidden=activation, output="identity", cost="quadratic",
                      dtype=dtype, seed=0)  # fmt: skip
    same(net, rng.normal(size=(7, 3)))


IMAGE = (2, 7, 6)
END = [layers.Flatten(), layers.Dense(2)]
CHAINS = {
    "activation": [layers.Activation("elu"), *END, layers.Activation("softmax")],
    "average-pool1d": [
        layers.Reshape((4, 21)),
        layers.AveragePool1D(2),
        layers.AveragePool1D(3, 1, 1),
        *END,
    ],
    "average-pool2d": [layers.AveragePool2D(2), layers.AveragePool2D((3, 2), 1, 1), *END],
    "batch-norm": [
        layers.BatchNorm(epsilon=0.1, scale="normal", shift="normal"),
        *END,
        layers.BatchNorm(),
    ],
    "columns": [layers.Columns([1, 0]), layers.Flatten(), layers.Columns([9, 2, 3, 4]), *END],
    "concatenate": [
        layers.Concatenate([[], [layers.BatchNorm(), layers.Activation("tanh")]], axis=1),
        layers.Flatten(),
        layers.Concatenate(
            [
                [layers.Dense(3, "tanh"), layers.Concatenate([[], [layers.Dense(2)]])],
                [],
                [layers.Residual([layers.LayerNorm()])],
            ]
        ),
        layers.Dense(2),
    ],
    "conv1d": [
        layers.Reshape((4, 21)),
        layers.Conv1D(6, 3, "relu", 2, 1, use_bias=False),
        layers.Conv1D(4, 2, "tanh", padding="same", dilation=3, groups=2),
        *END,
    ],
    "conv2d": [
        layers.Conv2D(4, (3, 2), "sigmoid", (2, 1), (1, 0)),
        layers.Conv2D(6, 2, "leaky-relu", 2, "same", groups=2, use_bias=False),
        layers.Conv2D(3, 2, padding="same", dilation=(1, 3)),
        *END,
    ],
    "dense": [layers.Dense(3, "tanh", use_bias=False), layers.Dense(2, trainable=False)],
    "dropout": [layers.Dropout(0.5), layers.Dense(3), layers.Dropout(0.9)],
    "embedding": [layers.Flatten(), layers.Embedding(200, 3), *END],
    "flatten": [layers.Flatten(), layers.Dense(2)],
    "global-average-pool1d": [
        layers.Reshape((4, 21)),
        layers.GlobalAveragePool1D(),
        layers.Dense(2),
    ],
    "global-average-pool2d": [layers.GlobalAveragePool2D(), layers.Dense(2)],
    "layer-norm": [
        layers.LayerNorm(axes=2, epsilon=0.1, scale="normal", shift="normal"),
        layers.LayerNorm(),
        *END,
    ],
    "max-pool1d": [layers.Reshape((4, 21)), layers.MaxPool1D(2), layers.MaxPool1D(3, 2, 1), *END],
    "max-pool2d": [layers.MaxPool2D(2), layers.MaxPool2D((3, 2), (2, 1), 1), *END],
    "permute": [layers.Permute((2, 0, 1)), layers.Dropout(0.1), layers.Permute((0, 2, 1)), *END],
    "rescale": [
        layers.Rescale(1 / 255, -0.5),
        layers.Dense(3, "relu"),
        layers.Rescale((1.0, 2.0, -3.0), (0.5, 0.0, 1e3)),
        layers.Dense(2),
        layers.Rescale(3.0),
        layers.Rescale(offset=(1.0, 2.0)),
    ],
    "rescale-channels": [
        layers.Reshape((7, 12)),
        layers.Rescale(0.5, (1.0, 0.0, -2.0, 3.0, 0.5, 0.1, 9.0), axis=0),
        *END,
    ],
    "reshape": [layers.Reshape((7, 3, 4)), *END],
    "residual": [
        layers.Residual([layers.BatchNorm(), layers.Activation("tanh")]),
        layers.Flatten(),
        layers.Residual(
            [layers.Dense(5, "tanh"), layers.Residual([layers.Dense(5)]), layers.LayerNorm()],
            projection=[layers.Dense(4, "sigmoid"), layers.Dense(5)],
        ),
        layers.Dense(2),
    ],
    "upsample1d": [layers.Reshape((4, 21)), layers.Upsample1D(3), *END],
    "upsample2d": [layers.Upsample2D((3, 7)), layers.Upsample2D((5, 1)), *END],
}
FLAT = "dense", "dropout", "rescale"
FLOAT32 = (
    *("average-pool1d", "average-pool2d", "conv1d", "conv2d"),
    *("global-average-pool1d", "global-average-pool2d", "upsample1d", "upsample2d"),
)


def test_every_layer_has_a_chain():
    assert not LAYERS.builtin.keys() - CHAINS.keys(), "add them to CHAINS, and to bpx/onnx"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CHAINS)
def test_each_layer(name, dtype, rng):
    shape = (4,) if name in FLAT else IMAGE
    net = bpx.Network([layers.Input(shape), *CHAINS[name]], cost="quadratic", dtype=dtype, seed=0)
    net.state[...] = rng.uniform(0.5, 2.0, net.state.shape)  # as after some training
    if dtype == "float64" and name in FLOAT32:
        with pytest.raises(ValueError, match=r'in float32 only: export net.to\(dtype="float32"\)'):
            bpx.export_onnx(net)
        return
    for m in ROWS:
        x = 100.0 * rng.normal(size=(m, *shape))
        same(net, np.abs(x).astype(int) % 200 if name == "embedding" else x)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("opset", [13, 17])
def test_whole_numbers_beside_others(dtype, opset, rng):
    category = [layers.Columns([1]), layers.Embedding(200, 3), layers.Flatten()]
    chain = [layers.Concatenate([category, [layers.Columns([0, 2])]]), layers.Dense(2, "softmax")]
    net = bpx.Network([layers.Input(3), *chain], dtype=dtype, seed=0)
    plain = bpx.Network([3, 2], output="softmax", dtype=dtype, seed=0)
    x = np.column_stack([rng.normal(size=50), rng.integers(200, size=50), rng.normal(size=50)])
    for model in (net, bpx.Ensemble([plain, net])):
        same(model, x, opset=opset)
    ops = [node.op_type for node in bpx.export_onnx(net).graph.node]
    assert ops[:5] == ["Gather", "Cast", "Gather", "Flatten", "Gather"]


def test_layers_that_do_nothing(rng):
    for layer in (layers.Dropout(), layers.Rescale()):
        net = bpx.Network([layers.Input(3), layer], cost="quadratic")
        assert len(bpx.export_onnx(net).graph.node) == 1
        same(net, rng.normal(size=(7, 3)))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_standardized_columns(dtype, rng):
    x = rng.normal(size=(50, 3)) * [1.0, 30.0, 1e4] + [0.0, 100.0, -3e4]
    chain = [layers.Input(3), layers.Rescale.standardizing(x), layers.Dense(2, "softmax")]
    same(bpx.Network(chain, dtype=dtype, seed=0), x)


def test_a_layer_norm_of_numbers_far_from_zero(rng):
    """Whose mean, rounded once, is off by more than their deviations allow."""
    net = bpx.Network([layers.Input(300), layers.LayerNorm()], cost="quadratic", seed=0)
    same(net, 1e5 + rng.normal(size=(50, 300)))


TIMES = 1.7e9 + np.linspace(0.0, 600.0, 50)[:, None]  # ten minutes, in seconds since 1970
STANDARDIZING = layers.Rescale.standardizing(TIMES)


def of_times(*first, dtype="float32"):
    end = layers.Dense(8, "tanh"), layers.Dense(2)
    return bpx.Network([layers.Input(1), *first, *end], cost="quadratic", dtype=dtype, seed=0)


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize(
    "first",
    [
        [STANDARDIZING],
        [STANDARDIZING, layers.Rescale((2.0,), (1.0,))],
        [layers.Rescale(STANDARDIZING.scale[0], STANDARDIZING.offset[0])],
        [layers.Rescale(offset=-TIMES.mean()), layers.Rescale(0.01)],
    ],
    ids=["standardizing", "and another", "numbers", "offset alone"],
)
def test_inputs_that_float32_would_round(first, opset):
    net = of_times(*first)
    message = "the model takes inputs of float64, not of float32.* apart in column 0 after Rescale"
    with pytest.warns(RuntimeWarning, match=message) as told:
        model = bpx.export_onnx(net, opset=opset)
    assert told[0].filename == __file__
    expected = net.feedforward(TIMES)
    agree(run(model, TIMES)["outputs"], expected, "float32")
    assert np.ptp(expected, axis=0).min() > 0.1
    session = runtime.InferenceSession(model.SerializeToString())
    with pytest.raises(Exception, match=r"tensor\(float\).*expected: \(tensor\(double\)\)"):
        session.run(None, {"inputs": TIMES.astype(np.float32)})


def test_the_column_that_is_told_of():
    chain = [layers.Input(3), layers.Rescale(1.0, (5.0, -1e6, 9e3)), layers.Dense(1)]
    message = (
        "neighbouring numbers are up to 0.12 apart in column 1 after Rescale: give it x as "
        "float64, and not from an x that was float32 before"
    )
    with pytest.warns(RuntimeWarning, match=message):
        model = bpx.export_onnx(bpx.Network(chain))
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def test_a_float64_network_needs_no_warning():
    net = of_times(STANDARDIZING, dtype="float64")
    agree(run(bpx.export_onnx(net), TIMES)["outputs"], net.feedforward(TIMES), "float64")


@pytest.mark.parametrize(
    "chain",
    [
        [layers.Rescale(1.0, 8388.0), layers.Dense(1)],
        [layers.Rescale(1.0, (-8388.0, 8388.0)), layers.Dense(1)],
        [layers.Dropout(), layers.Rescale(1.0, (-1e6, 0.0)), layers.Dense(1)],
        [layers.Dense(1), layers.Rescale(2e5, 1e6)],
    ],
    ids=["as far as it may", "for each column", "not first", "of the outputs"],
)
def test_inputs_stay_float32(chain, rng):
    net = bpx.Network([layers.Input(2), *chain], cost="quadratic", seed=0)
    same(net, rng.normal(size=(7, 2)))
    model = bpx.export_onnx(net)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert "Cast" not in [node.op_type for node in model.graph.node]


def test_one_more_is_float64():
    net = bpx.Network([layers.Input(1), layers.Rescale(1.0, -8389.0), layers.Dense(1)])
    with pytest.warns(RuntimeWarning, match="inputs of float64"):
        bpx.export_onnx(net)


def test_every_backend(backend, rng):
    net = bpx.Network([4, 6, 3], hidden="gelu", output="softmax", backend=backend, seed=0)
    model = bpx.export_onnx(net)
    assert model.graph == bpx.export_onnx(net.to("numpy")).graph
    same(net.to("numpy"), rng.normal(size=(7, 4)))


# --- tasks ----------------------------------------------------------------------------------

TASKS = {
    "softmax": bpx.Network([4, 6, 3], output="softmax", seed=0),
    "sigmoids": bpx.Network([4, 6, 3], seed=0),
    "one sigmoid": bpx.Network([4, 6, 1], hidden="tanh", bias="zeros", seed=0),
    "no probabilities": bpx.Network(
        [4, 6, 3], output="identity", cost="quadratic", task="classification", seed=0
    ),
    "one, no probabilities": bpx.Network(
        [4, 1], output="identity", cost="quadratic", task="classification", seed=0
    ),
}
CLASSES = [["setosa", "versicolor", "größer"], [7, -1, 2**40], np.array(["x", "y", "z"]),
           np.arange(3) + 5, None]  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("classes", CLASSES, ids=str)
@pytest.mark.parametrize("kind", TASKS)
def test_classification(kind, classes, dtype, rng):
    net, name = TASKS[kind].to(dtype=dtype), "probabilities"
    if "no probabilities" in kind:
        name = "outputs"
    if classes is not None:
        classes = classes[: max(net.output_shape[0], 2)]
    for m in (*ROWS, 100):
        found = same(net, 3.0 * rng.normal(size=(m, 4)), classes)
        assert list(found) == ["label", name]
        assert found["label"].shape == (m,)
        named = classes is not None and isinstance(classes[0], str)
        assert found["label"].dtype == (object if named else np.int64)
    assert len(set(found["label"].tolist())) > 1
    if kind == "one sigmoid":
        assert found[name].shape == (100, 2)
        assert np.abs(found[name].sum(axis=1) - 1.0).max() < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [1, 3])
def test_multilabel(k, dtype, rng):
    net = bpx.Network([4, k], task="multilabel", dtype=dtype, seed=0)
    for m in ROWS:
        found = same(net, rng.normal(size=(m, 4)))
        assert list(found) == ["label", "probabilities"]
        assert found["label"].shape == found["probabilities"].shape == (m, k)
        assert found["label"].dtype == np.int64


def test_exactly_one_half_is_class_0(rng):
    net = bpx.Network([2, 1], weights="zeros", bias="zeros")
    assert same(net, rng.normal(size=(2, 2)), ["no", "yes"])["label"].tolist() == ["no", "no"]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_what_sigmoids_are_called(task, rng):
    net = bpx.Network([4, 3], task=task, seed=0)
    assert ("outputs" in same(net, rng.normal(size=(7, 4)))) == (task == "regression")


# --- ensembles ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("combine", ["average", "vote"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])  # even ones tie
@pytest.mark.parametrize(
    "options",
    [
        {"output": "softmax"},
        {"output": "identity", "task": "classification", "cost": "quadratic"},
        {"task": "multilabel"},
        {"sizes": [4, 5, 1]},
        {"output": "identity"},
    ],
)
def test_an_ensemble(options, n, combine, dtype, rng):
    if options == {"output": "identity"} and combine == "vote":
        combine = "average"  # a regression has no votes
    sizes = options.get("sizes", [4, 5, 3])
    options = {name: value for name, value in options.items() if name != "sizes"}
    nets = [bpx.Network(sizes, dtype=dtype, seed=k, weights="normal", **options) for k in range(n)]
    ensemble = bpx.Ensemble(nets, combine)
    for m in (*ROWS, 300):
        found = same(ensemble, 9.0 * rng.normal(size=(m, 4)))
    if ensemble.task == "classification":
        assert len(set(found["label"].tolist())) > 1


def test_members_that_differ(tmp_path, rng):
    """In their layers, in what their inputs have to be, and so in the names of their tensors."""
    x = 1.7e9 + rng.normal(size=(50, 2))
    scaled = [layers.Rescale.standardizing(x), layers.Dense(6, "tanh"), layers.BatchNorm()]
    plain = [layers.Rescale(1e-9), layers.Residual([layers.Dense(2, "relu")])]
    chains = scaled, plain, [layers.Dense(4, "relu", weights="zeros")]
    nets = [
        bpx.Network([layers.Input(2), *chain, layers.Dense(3, "softmax")], seed=k)
        for k, chain in enumerate(chains)
    ]
    ensemble = bpx.Ensemble(nets, "vote")
    ensemble.classes = ["a", "b", "c"]
    with pytest.warns(RuntimeWarning, match="the model takes inputs of float64"):
        model = bpx.export_onnx(ensemble, tmp_path / "all.onnx")
    found = run(model, x)
    agree(found["probabilities"], ensemble(x), "float32")
    assert found["label"].tolist() == np.array(ensemble.classes)[ensemble.predict(x)].tolist()
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"members.0.layers.1.weights", "members.1.layers.1.0.bias"} <= names
    assert model.doc_string.endswith(" (1 of 3 networks); classification")


def test_members_on_whole_numbers(rng):
    chain = [layers.Input(3), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(2, "softmax")]
    scaled = [layers.Input(3), layers.Rescale(0.05, -0.5), layers.Dense(2, "softmax")]
    plain = [layers.Input(3), layers.Dense(2, "softmax")]
    x = rng.integers(9, size=(20, 3))
    for chains in ([chain] * 3, [scaled, chain], [chain, scaled], [plain, chain]):
        ensemble = bpx.Ensemble([bpx.Network(chain, seed=k) for k, chain in enumerate(chains)])
        agree(run(bpx.export_onnx(ensemble), x)["probabilities"], ensemble(x), "float32")


# --- the model ------------------------------------------------------------------------------


def test_what_it_says_of_itself():
    model = bpx.export_onnx(TASKS["softmax"])
    assert (model.producer_name, model.producer_version) == ("bpx", bpx.__version__)
    assert model.doc_string == "(4,) → Dense 6, sigmoid → Dense 3, softmax; classification"
    assert model.ir_version == 8  # of 2021, and not the newest
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    names = [tensor.name for tensor in model.graph.initializer]
    assert names == ["layers.0.weights", "layers.0.bias", "layers.1.weights", "layers.1.bias"]
    (given,), outputs = model.graph.input, model.graph.output
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (given, *outputs)]  # fmt: skip
    assert dims == [["m", 4], ["m"], ["m", 3]]
    assert {node.domain for node in model.graph.node} == {""}


def test_the_names_of_a_table_are_in_its_metadata():
    net = bpx.Network([2, 2], output="softmax", seed=0)
    assert metadata(bpx.export_onnx(net)) == {}
    net.columns, net.target_columns, net.classes = ["a", "city=Bern"], ["kind"], ["ash", "elm"]
    for each in (net, bpx.Ensemble([net, net.copy()])):
        assert metadata(bpx.export_onnx(each)) == {
            "columns": ["a", "city=Bern"], "target_columns": ["kind"], "classes": ["ash", "elm"]
        }  # fmt: skip


def metadata(model):
    session = runtime.InferenceSession(model.SerializeToString())
    found = session.get_modelmeta().custom_metadata_map
    return {name: json.loads(text) for name, text in found.items()}


@pytest.mark.parametrize("opset", [13, 15, 18, 20])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_other_opsets(opset, dtype, rng):
    hidden = ["leaky-relu", "elu", "softplus", "gelu", "silu", "exp", "relu", "softmax"]
    for k in (1, 3):
        net = bpx.Network([4, *[5] * 8, k], hidden=hidden, dtype=dtype, seed=0)
        same(net, rng.normal(size=(7, 4)), ["a", "b", "c"][: max(k, 2)], opset=opset)


@pytest.mark.parametrize("opset", [13, 15, 18, 20])
@pytest.mark.parametrize("name", ["batch-norm", "embedding", "layer-norm", "residual"])
def test_layers_in_other_opsets(opset, name, rng):
    net = bpx.Network([layers.Input(IMAGE), *CHAINS[name]], cost="quadratic", seed=0)
    same(net, rng.integers(200, size=(7, *IMAGE)), opset=opset)


def test_a_file(tmp_path, rng):
    net, path = TASKS["softmax"], tmp_path / "net.onnx"
    model = bpx.export_onnx(net, path)
    assert onnx.load(path) == model
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        bpx.export_onnx(net, tmp_path / "none" / "net.onnx")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        bpx.export_onnx(net, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="different classes"):
        bpx.export_onnx(net, path, classes=["a"])
    assert path.read_bytes() == before


def test_a_model_is_a_copy(rng):
    net = bpx.Network([4, 3], output="softmax", seed=0)
    model, x = bpx.export_onnx(net), rng.normal(size=(7, 4)).astype(np.float32)
    before = net.feedforward(x)
    net.parameters[...] = 0.0
    agree(run(model, x)["probabilities"], before, "float32")


def test_the_example_of_its_docstring():
    text = inspect.getdoc(bpx.export_onnx).replace("# doctest: +SKIP", "")
    example = doctest.DocTestParser().get_doctest(text, {}, "export_onnx", None, None)
    assert doctest.DocTestRunner().run(example) == (0, 4)


# --- what is refused ------------------------------------------------------------------------


class Sine(bpx.Activation):
    def forward(self, xp, z):
        return xp.sin(z)

    def derivative(self, xp, z, a):
        return xp.cos(z)


class SteepSigmoid(bpx.activations.Sigmoid):
    def forward(self, xp, z):
        return super().forward(xp, 4.0 * z)


@dataclass(frozen=True)
class Flatten(layers.Layer):
    name: ClassVar[str] = "my-flatten"

    @property
    def output_shape(self):
        return (int(np.prod(self.shape_in)),)


@dataclass(frozen=True)
class Doubled(layers.Dense):
    name: ClassVar[str] = "doubled"


CUBE = bpx.CustomActivation(lambda xp, z: z**3, lambda xp, z, a: 3 * z**2)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            [layers.Input(2), layers.Dense(3, Sine()), layers.Dense(1)],
            r"layer 0, Dense 3, custom: expected one of bpx's own activations, for which ONNX has "
            r"operators \(elu, .*, tanh\), got Sine: train with one of these, or ship bpx",
        ),
        ([layers.Input(2), layers.Dense(3), layers.Dense(1, CUBE)], "layer 1,.*got CustomAct"),
        ([layers.Input(2), layers.Dense(1, SteepSigmoid())], "got SteepSigmoid"),
        ([layers.Input(2), Doubled(1)], r"bpx's own layers.*, dense, dropout, .*got Doubled"),
        ([layers.Input((2, 2)), layers.Rescale(2.0), Flatten()], "layer 1, Flatten: .*got Fla"),
    ],
)
def test_parts_of_ones_own(chain, message, tmp_path):
    net = bpx.Network(chain, cost="quadratic", task="regression")
    with pytest.raises(ValueError, match=message):
        bpx.export_onnx(net, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "classes", "error", "message"),
    [
        ("softmax", ["a", "b"], ValueError, r"expected 3 different classes, .*got \['a', 'b'\]"),
        ("softmax", [1, 2, 3, 4], ValueError, "expected 3 different classes"),
        ("softmax", ["a", "b", "a"], ValueError, "expected 3 different classes"),
        ("softmax", [], ValueError, "expected 3 different classes"),
        ("one sigmoid", ["a"], ValueError, "expected 2 different classes"),
        ("softmax", "abc", TypeError, r'a list of strings, such as \["cat", "dog"\].*got \'abc\''),
        ("softmax", b"abc", TypeError, "a list of strings"),
        ("softmax", {"a", "b", "c"}, TypeError, "a list of strings"),
        ("softmax", {0: "a", 1: "b", 2: "c"}, TypeError, "a list of strings"),
        ("softmax", ["a", 1, 2], TypeError, "a list of strings"),
        ("softmax", [0.0, 1.0, 2.0], TypeError, "or of integers"),
        ("one sigmoid", [False, True], TypeError, "or of integers"),
        ("softmax", 3, TypeError, "or of integers, got 3"),
    ],
)
def test_classes_that_are_none(kind, classes, error, message):
    with pytest.raises(error, match=message):
        bpx.export_onnx(TASKS[kind], classes=classes)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_classes_are_for_a_classification(task):
    with pytest.raises(ValueError, match=f"this network's task is '{task}': leave it out"):
        bpx.export_onnx(bpx.Network([4, 3], task=task), classes=["a", "b", "c"])


def test_other_wrong_arguments(monkeypatch):
    net = TASKS["softmax"]
    with pytest.raises(TypeError, match="expected a Network or an Ensemble to export, got str"):
        bpx.export_onnx("net.safetensors")
    with pytest.raises(ValueError, match="expected opset >= 13, got 12"):
        bpx.export_onnx(net, opset=12)
    with pytest.raises(TypeError, match="expected opset to be an integer"):
        bpx.export_onnx(net, opset="17")
    with pytest.raises(ValueError, match=r"expected opset <= \d+, the last that onnx .*got 999"):
        bpx.export_onnx(net, opset=999)
    monkeypatch.setattr("bpx.onnx.export.LARGEST", 100)
    with pytest.raises(ValueError, match=r'less than 2 GiB, and .* net\.to\(dtype="float32"\)'):
        bpx.export_onnx(net)


def test_without_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"ONNX models need onnx: pip install onnx"):
        bpx.export_onnx(TASKS["softmax"])
