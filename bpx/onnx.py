"""A trained network as an ONNX model, which other programs run without bpx."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import numpy as np

from . import operators, persistence
from .checks import level_of_user, whole
from .ensemble import Ensemble
from .layers import (
    Activation,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    Layer,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    Permute,
    Rescale,
    Reshape,
    Residual,
)
from .layers.sliding import Sliding
from .network import Network

OLDEST_OPSET = 13  # Softmax over one axis, Squeeze with its axes as an input
LARGEST = 2**31 - 2**20  # bytes of tensors: a protobuf message ends at 2 GiB
COARSEST = 1e-3  # spacing of float32 inputs after a first Rescale; above it they are float64


def export_onnx(
    net: Network,
    path: str | PathLike[str] | None = None,
    *,
    classes: Iterable[str] | Iterable[int] | None = None,
    opset: int = 17,
) -> Any:
    """The network, as it predicts, as an ONNX model of standard operators.

    Its input is ``inputs`` (m, \\*input_shape) for any m. It has the network's dtype, but int64
    where an `Embedding` takes it, and float64 where a first `Rescale` needs that (see Notes). Its
    outputs are, by the task,

    - for a regression ``outputs`` (m, k);
    - for a classification ``label`` (m,), of int64 or what `classes` has, and ``probabilities``
      (m, k), where one sigmoid output p becomes the two columns 1 − p and p;
    - for multilabel ``label`` (m, k), int64 of 0 and 1, and ``probabilities`` (m, k).

    If the last activation does not give probabilities, as the identity in a classification, they
    are called ``outputs`` there too, and are left as they are.

    Parameters
    ----------
    net : Network
        On any backend, of bpx's own layers and activations.
    path : path, optional
        Write the model there, whole or not at all.
    classes : sequence of str or of int, optional
        What ``label`` says for the classes 0, 1, ...; by default ``net.classes``, or the numbers
        if it has none. For a classification.
    opset : int
        Version of the operators, 13 or later. The default, 17, is read by ONNX Runtime 1.12 (of
        2022) and later.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ImportError
        onnx is not installed.
    ValueError
        A layer or an activation of your own; convolutions and mean pooling in float64, which ONNX
        Runtime does not have; `classes` that are not one for each class; an `opset` that the
        installed onnx does not know; parameters of 2 GiB or more.
    TypeError
        Not a `Network`, or `classes` that are neither all strings nor all integers.
    OSError
        The file cannot be written; an old one is untouched.

    Warns
    -----
    RuntimeWarning
        The network is float32 and the model's inputs are float64.

    Notes
    -----
    `Dropout` does nothing when a network predicts, and is left out.

    Columns that vary little beside their mean, such as seconds since 1970, lose in float32 what
    they tell. A float32 network's inputs and first layer are therefore float64, and the rest of it
    float32, if that layer is a `Rescale` with an offset beyond ±8,388, which is 0.001 divided by
    float32's ε. (That of `Rescale.standardizing` is the mean in standard deviations.) ONNX Runtime
    then refuses inputs of float32. Any other `Rescale` works in the network's dtype.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([4, 8, 2], output="softmax", seed=0)
    >>> model = bpx.export_onnx(net, classes=["cat", "dog"])  # doctest: +SKIP
    >>> [node.op_type for node in model.graph.node]  # doctest: +SKIP
    ['Gemm', 'Sigmoid', 'Gemm', 'Softmax', 'Identity', 'ArgMax', 'Gather']
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX models need onnx: pip install 'bpx[onnx]'") from error
    if not isinstance(net, Network):
        hint = ": export one of its members, a Network" if isinstance(net, Ensemble) else ""
        raise TypeError(f"expected a Network to export, got {type(net).__name__}{hint}")
    newest = onnx.defs.onnx_opset_version()
    if whole("opset", opset, OLDEST_OPSET) > newest:
        raise ValueError(
            f"expected opset <= {newest}, the last that onnx {onnx.__version__} knows, got "
            f"{opset}: update onnx, or leave opset out"
        )
    graph = _Graph(net)
    given = net.classes if classes is None else net.chain.architecture.check_classes(classes)
    names = None
    if given is not None:
        names = np.array(given, dtype=object if isinstance(given[0], str) else np.int64)
    a = _feedforward(graph, net)
    model = graph.model(_results(graph, net, a, names), opset)
    _tell_of_float64(graph)
    if path is not None:
        persistence.write_bytes(path, model.SerializeToString())
    return model


class _Graph:
    """The nodes and tensors of a model, as they are put together.

    Attributes
    ----------
    scope : str
        Names of values begin with it: a layer's path in bpx's own files, ``"layers.0"``.
    inputs : dtype
        Of the model's inputs.
    nodes : list of onnx.NodeProto
    tensors : dict of ndarray
        The network's parameters, and constants.
    """

    def __init__(self, net: Network) -> None:
        host, state = (net.backend.to_host(vector) for vector in (net.parameters, net.state))
        self.net, self.scope, self.inputs = net, "", _dtype_of_inputs(net)
        self.nodes: list[Any] = []
        self.tensors = {entry.path: entry.view(np, host) for entry in net.layout.entries}
        running = net.chain.architecture.state_layout.entries
        self.tensors |= {entry.path: entry.view(np, state) for entry in running}
        size = sum(tensor.nbytes for tensor in self.tensors.values())
        if size > LARGEST:
            raise ValueError(
                f"an ONNX model holds less than 2 GiB, and the parameters are "
                f'{size / 2**30:.1f} GiB: net.to(dtype="float32") halves those of float64'
            )

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node; returns the name of its value."""
        from onnx import helper

        name = name or f"{self.scope}.{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A number or a vector, in the network's dtype by default."""
        name = f"constant_{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype or self.net.dtype)
        return name

    def value(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """What the model says of an input or an output: (m, \\*shape)."""
        from onnx import helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.net.dtype))
        return helper.make_tensor_value_info(name, kind, ("m", *shape))

    def model(self, results: list[Any], opset: int) -> Any:
        from onnx import helper, numpy_helper

        from bpx import __version__

        net, version = self.net, [helper.make_opsetid("", opset)]
        layers = " → ".join(map(str, net.layers))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [self.value("inputs", net.input_shape, self.inputs)],
            results,
            [numpy_helper.from_array(tensor, name) for name, tensor in self.tensors.items()],
        )
        return helper.make_model(
            graph,
            opset_imports=version,
            ir_version=helper.find_min_ir_version_for(version),  # else the newest, read by few
            producer_name="bpx",
            producer_version=__version__,
            doc_string=f"{net.input_shape} → {layers}; {net.task}",
        )


# --- what goes in ---------------------------------------------------------------------------


def _dtype_of_inputs(net: Network) -> np.dtype[Any]:
    if net.chain.architecture.index_count is not None:
        return np.dtype(np.int64)
    return np.dtype(np.float64 if _spacing(net).max() > COARSEST else net.dtype)


def _spacing(net: Network) -> np.ndarray:
    """How far apart neighbouring float32 inputs of each column are after a first Rescale.

    Near 0, that is, where scale·x is about −offset.
    """
    first = net.layers[0]
    offset = first.vectors()[1] if isinstance(first, Rescale) else np.zeros(1)
    return np.abs(offset) * np.finfo(np.float32).eps


def _tell_of_float64(graph: _Graph) -> None:
    if graph.inputs != np.float64 or graph.net.dtype == "float64":
        return
    spacing = _spacing(graph.net)
    column = int(spacing.argmax())
    warnings.warn(
        "the model takes inputs of float64, not of float32, whose neighbouring numbers are up to "
        f"{spacing[column]:.2g} apart in column {column} after Rescale: give it x as float64, "
        "and not from an x that was float32 before",
        RuntimeWarning,
        stacklevel=level_of_user(),
    )


# --- layers ---------------------------------------------------------------------------------


def _feedforward(graph: _Graph, net: Network) -> str:
    x = "inputs"
    for index, layer in enumerate(net.layers):
        x = _through(graph, f"layers.{index}", layer, x)
    return x


def _through(graph: _Graph, scope: str, layer: Layer, x: str) -> str:
    graph.scope, index = scope, scope.removeprefix("layers.")
    if type(layer) not in _LAYERS:
        raise _unknown(index, layer, "layer", layer, [known.name for known in _LAYERS])
    activation = getattr(layer, "activation", None)
    if activation is not None and type(activation) not in operators.ACTIVATIONS:
        known = [known.name for known in operators.ACTIVATIONS]
        raise _unknown(index, layer, "activation", activation, known)
    return _LAYERS[type(layer)](graph, layer, x)


def _residual(graph: _Graph, residual: Residual, x: str) -> str:
    scope, y, beside = graph.scope, x, x
    for name, layer in residual.inner().items():
        if name.startswith("projection."):
            beside = _through(graph, f"{scope}.{name}", layer, beside)
        else:
            y = _through(graph, f"{scope}.{name}", layer, y)
    graph.scope = scope
    return graph.add("Add", y, beside)


def _unknown(index: str, layer: Layer, kind: str, it: Any, known: list[str]) -> ValueError:
    return ValueError(
        f"layer {index}, {layer}: expected one of bpx's own {kind}s, for which ONNX has operators "
        f"({', '.join(sorted(known))}), got {type(it).__name__}: train with one of these, or ship "
        "bpx and the file of net.save"
    )


def _dense(graph: _Graph, dense: Dense, x: str) -> str:
    weights, bias = f"{graph.scope}.weights", [f"{graph.scope}.bias"] * dense.use_bias
    if graph.net.dtype == "float32":
        z = graph.add("Gemm", x, weights, *bias, transB=1)
    else:
        graph.tensors[weights] = graph.tensors[weights].T
        z = graph.add("MatMul", x, weights)
        z = graph.add("Add", z, *bias) if bias else z
    return operators.ACTIVATIONS[type(dense.activation)](graph, dense.activation, z)


def _rescale(graph: _Graph, rescale: Rescale, x: str) -> str:
    from onnx import TensorProto

    dtype = graph.inputs if x == "inputs" else np.dtype(graph.net.dtype)
    if rescale.scale != 1.0:
        x = graph.add("Mul", x, graph.constant(rescale.scale, dtype))
    if rescale.offset != 0.0:
        x = graph.add("Add", x, graph.constant(rescale.offset, dtype))
    return x if dtype == graph.net.dtype else graph.add("Cast", x, to=TensorProto.FLOAT)


def _convolution(graph: _Graph, layer: Conv1D | Conv2D, x: str) -> str:
    _only_float32(graph, layer)
    bias = [f"{graph.scope}.bias"] * layer.use_bias
    windows = _windows(layer.sliding, dilations=layer.sliding.dilation)
    z = graph.add("Conv", x, f"{graph.scope}.weights", *bias, group=layer.groups, **windows)
    return operators.ACTIVATIONS[type(layer.activation)](graph, layer.activation, z)


def _average_pool(graph: _Graph, pool: AveragePool2D, x: str) -> str:
    _only_float32(graph, pool)
    return graph.add("AveragePool", x, count_include_pad=1, **_windows(pool.sliding))


def _max_pool(graph: _Graph, pool: MaxPool2D, x: str) -> str:
    return graph.add("MaxPool", x, **_windows(pool.sliding))


def _global_average_pool(graph: _Graph, pool: GlobalAveragePool2D, x: str) -> str:
    _only_float32(graph, pool)
    return graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)


def _windows(sliding: Sliding, **more: Any) -> dict[str, Any]:
    """The attributes of an operator with windows."""
    before, after = zip(*sliding.padding, strict=True)
    places = {"kernel_shape": sliding.size, "strides": sliding.stride, "pads": before + after}
    return places | more


def _only_float32(graph: _Graph, layer: Layer) -> None:
    if graph.net.dtype != "float32":
        raise ValueError(
            f"{graph.scope}, {layer}: ONNX Runtime has this operator in float32 only: export "
            'net.to(dtype="float32")'
        )


def _reshape(graph: _Graph, reshape: Reshape, x: str) -> str:
    shape = graph.constant((0, *reshape.output_shape), np.int64)  # 0: as many rows as there are
    return graph.add("Reshape", x, shape)


def _activation(graph: _Graph, layer: Activation, x: str) -> str:
    return operators.ACTIVATIONS[type(layer.activation)](graph, layer.activation, x)


_LAYERS: dict[type[Layer], Callable[[_Graph, Any, str], str]] = {
    Activation: _activation,
    AveragePool1D: _average_pool,
    AveragePool2D: _average_pool,
    BatchNorm: operators.batch_norm,
    Conv1D: _convolution,
    Conv2D: _convolution,
    Dense: _dense,
    Dropout: lambda graph, dropout, x: x,
    Embedding: operators.embedding,
    Flatten: lambda graph, flatten, x: graph.add("Flatten", x, axis=1),
    GlobalAveragePool1D: _global_average_pool,
    GlobalAveragePool2D: _global_average_pool,
    LayerNorm: operators.layer_norm,
    MaxPool1D: _max_pool,
    MaxPool2D: _max_pool,
    Permute: lambda graph, permute, x: graph.add("Transpose", x, perm=permute.of_batch),
    Rescale: _rescale,
    Reshape: _reshape,
    Residual: _residual,
}

# --- what comes out -------------------------------------------------------------------------


def _results(graph: _Graph, net: Network, a: str, names: np.ndarray | None) -> list[Any]:
    """The model's outputs, from those of the last layer."""
    graph.scope, k = "results", net.output_shape[0]
    unit = net.chain.objective.activation.range in ("unit", "simplex")
    name = "probabilities" if unit and net.task != "regression" else "outputs"
    if name == "probabilities" and net.task == "classification" and k == 1:
        other = graph.add("Sub", graph.constant(1.0), a)
        outputs = graph.value(graph.add("Concat", other, a, name=name, axis=1), (2,))
    else:
        outputs = graph.value(graph.add("Identity", a, name=name), (k,))
    return [outputs] if net.task == "regression" else [_label(graph, net, a, names), outputs]


def _label(graph: _Graph, net: Network, a: str, names: np.ndarray | None) -> Any:
    """What ``net.predict`` decides, by name where there are names."""
    from onnx import TensorProto

    k = net.output_shape[0]
    if net.task == "multilabel" or k == 1:
        marks = graph.add("Greater", a, graph.constant(0.5))
        if net.task == "multilabel":
            graph.add("Cast", marks, name="label", to=TensorProto.INT64)
            return graph.value("label", (k,), np.int64)
        marks = graph.add("Cast", marks, to=TensorProto.INT64)
        index = graph.add("Squeeze", marks, graph.constant([1], np.int64))
    else:
        index = graph.add("ArgMax", a, axis=1, keepdims=0)
    if names is None:
        return graph.value(graph.add("Identity", index, name="label"), (), np.int64)
    graph.add("Gather", graph.constant(names, names.dtype), index, name="label")
    return graph.value("label", (), names.dtype)
