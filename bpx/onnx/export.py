"""A trained network as an ONNX model, which other programs run without bpx."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from os import PathLike
from typing import Any

import numpy as np

from ..architecture import Architecture
from ..checks import warn, whole
from ..costs import PROBABILITIES
from ..ensemble import Ensemble
from ..extras import PACKAGES, not_imported
from ..labels import check_classes
from ..layers import (
    Activation,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Columns,
    Concatenate,
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
    Upsample1D,
    Upsample2D,
)
from ..layers.nested import Nested
from ..layers.sliding import Sliding
from ..network import Network
from ..writing import write_bytes
from . import operators

OLDEST_OPSET = 13  # Softmax over one axis, Squeeze with its axes as an input
LARGEST = 2**31 - 2**20  # bytes of tensors: a protobuf message ends at 2 GiB
COARSEST = 1e-3  # spacing of float32 inputs after a first Rescale; above it they are float64


def export_onnx(
    net: Network | Ensemble,
    path: str | PathLike[str] | None = None,
    *,
    classes: Iterable[str] | Iterable[int] | None = None,
    opset: int = 17,
) -> Any:
    """A network or an ensemble, as it predicts, as an ONNX model of standard operators.

    Its input is ``inputs`` (m, \\*input_shape) for any m. It has the network's dtype, but int64
    where a network begins with an `Embedding`, and float64 where a first `Rescale` needs that (see
    Notes). Its outputs are, by the task,

    - for a regression ``outputs`` (m, k);
    - for a classification ``label`` (m,), of int64 or what `classes` has, and ``probabilities``
      (m, k), where one sigmoid output p becomes the two columns 1 − p and p;
    - for multilabel ``label`` (m, k), int64 of 0 and 1, and ``probabilities`` (m, k).

    If the last activation does not give probabilities, as the identity in a classification, they
    are called ``outputs`` there too, and are left as they are.

    The model's metadata has those of ``columns``, ``target_columns`` and ``classes`` that the
    network has, as lists in JSON.

    Of an ensemble they are the means over its members, and ``label`` is what `Ensemble.predict`
    says, by the mean or by votes.

    Parameters
    ----------
    net : Network or Ensemble
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
        A layer or an activation of your own; convolutions, mean pooling and upsampling in float64,
        which ONNX Runtime does not have; `classes` that are not one for each class; an `opset`
        that the installed onnx does not know; parameters of 2 GiB or more.
    TypeError
        Not a `Network` or an `Ensemble`, or `classes` that are neither all strings nor all
        integers.
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
    return exported(net, path, classes, opset)


def exported(
    net: Network | Ensemble,
    path: str | PathLike[str] | None,
    classes: Iterable[str] | Iterable[int] | None,
    opset: int = 17,
    shares: bool = False,
) -> Any:
    """`export_onnx`; with `shares` the probabilities are divided by their sum."""
    try:
        import onnx
    except ImportError as error:
        raise not_imported("ONNX models need", PACKAGES["onnx"], error) from error
    if not isinstance(net, Network | Ensemble):
        raise TypeError(f"expected a Network or an Ensemble to export, got {type(net).__name__}")
    newest = onnx.defs.onnx_opset_version()
    if whole("opset", opset, OLDEST_OPSET) > newest:
        raise ValueError(
            f"expected opset <= {newest}, the last that onnx {onnx.__version__} knows, got "
            f"{opset}: update onnx, or leave opset out"
        )
    members = net.members if isinstance(net, Ensemble) else (net,)
    graph = Graph(members)
    described = members[0].chain.architecture
    given = net.classes if classes is None else check_classes(described, classes)
    names = None
    if given is not None:
        names = np.array(given, dtype=object if isinstance(given[0], str) else np.int64)
    outputs = [_feedforward(graph, *member) for member in graph.members.items()]
    graph.scope = "results"
    a = _mean(graph, outputs)
    by_votes = isinstance(net, Ensemble) and net.combine == "vote"
    settled = _by_votes(graph, described, outputs, a) if by_votes else a
    divided = _shares(graph, a) if shares else a
    model = graph.model(_results(graph, described, divided, settled, names), opset)
    _warn_of_float64(graph)
    if path is not None:
        write_bytes(path, model.SerializeToString())
    return model


class Graph:
    """The nodes and tensors of a model, as they are put together.

    Attributes
    ----------
    members : dict of Network
        By what the paths of their tensors begin with; of a single network it is empty.
    dtype : str
        Of the networks.
    scope : str
        Names of values begin with it: a layer's path in bpx's own files, ``"layers.0"``.
    inputs : dtype
        Of the model's inputs.
    nodes : list of onnx.NodeProto
    tensors : dict of ndarray
        The network's parameters, and constants.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        many = len(members) > 1
        self.members = {f"members.{k}." * many: net for k, net in enumerate(members)}
        self.dtype, self.scope, self.inputs = members[0].dtype, "", _dtype_of_inputs(members)
        self.nodes: list[Any] = []
        self.tensors: dict[str, np.ndarray] = {}
        for begin, net in self.members.items():
            for layout, vector in (
                (net.layout, net.parameters),
                (net.chain.architecture.state_layout, net.state),
            ):
                host = net.backend.to_host(vector)
                self.tensors |= {begin + e.path: e.view(np, host) for e in layout.entries}
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

    def cast(self, x: str, dtype: Any = None, name: str = "") -> str:
        """In another dtype, by default the network's."""
        return self.add("Cast", x, name=name, to=_kind(dtype or self.dtype))

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A number or a vector, in the network's dtype by default."""
        name = f"constant_{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype or self.dtype)
        return name

    def value(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """What the model says of an input or an output: (m, \\*shape)."""
        from onnx import helper

        return helper.make_tensor_value_info(name, _kind(dtype or self.dtype), ("m", *shape))

    def model(self, results: list[Any], opset: int) -> Any:
        from onnx import helper, numpy_helper

        from bpx import __version__

        net, version = next(iter(self.members.values())), [helper.make_opsetid("", opset)]
        layers = " → ".join(map(str, net.layers))
        many = f" (1 of {len(self.members)} networks)" if len(self.members) > 1 else ""
        graph = helper.make_graph(
            self.nodes,
            "network",
            [self.value("inputs", net.input_shape, self.inputs)],
            results,
            [numpy_helper.from_array(tensor, name) for name, tensor in self.tensors.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=version,
            ir_version=helper.find_min_ir_version_for(version),  # else the newest, read by few
            producer_name="bpx",
            producer_version=__version__,
            doc_string=f"{net.input_shape} → {layers}{many}; {net.task}",
        )
        named = {key: list(names) for key, names in net.names._asdict().items() if names}
        helper.set_model_props(model, {key: json.dumps(names) for key, names in named.items()})
        return model


def _kind(dtype: Any) -> int:
    """ONNX's number of a dtype."""
    from onnx import helper

    kind: int = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return kind


# --- what goes in ---------------------------------------------------------------------------


def _dtype_of_inputs(members: Iterable[Network]) -> np.dtype[Any]:
    if any(net.chain.architecture.integers for net in members):
        return np.dtype(np.int64)
    coarse = any(_spacing(net).max() > COARSEST for net in members)
    return np.dtype(np.float64 if coarse else next(iter(members)).dtype)


def _spacing(net: Network) -> np.ndarray:
    """How far apart neighbouring float32 inputs of each column are after a first Rescale.

    Near 0, that is, where scale·x is about −offset.
    """
    first = net.layers[0]
    offset = first.offsets() if isinstance(first, Rescale) else np.zeros(1)
    return np.abs(offset) * np.finfo(np.float32).eps


def _warn_of_float64(graph: Graph) -> None:
    if graph.inputs != np.float64 or graph.dtype == "float64":
        return
    spacing = max(map(_spacing, graph.members.values()), key=np.max)
    column = int(spacing.argmax())
    warn(
        "the model takes inputs of float64, not of float32, whose neighbouring numbers are up to "
        f"{spacing[column]:.2g} apart in column {column} after Rescale: give it x as float64, "
        "and not from an x that was float32 before"
    )


# --- layers ---------------------------------------------------------------------------------


def _feedforward(graph: Graph, begin: str, net: Network) -> str:
    x = "inputs"
    indices = net.chain.architecture.integers
    is_rescaled = isinstance(net.layers[0], Rescale) and graph.inputs.kind == "f"
    if graph.inputs != net.dtype and not (indices or is_rescaled):  # another member wants them so
        graph.scope = f"{begin}inputs"
        x = graph.cast(x)
    for index, layer in enumerate(net.layers):
        x = _through(graph, f"{begin}layers.{index}", layer, x)
    return x


def _through(graph: Graph, scope: str, layer: Layer, x: str) -> str:
    graph.scope, index = scope, scope.partition("layers.")[2]
    if type(layer) not in _LAYERS:
        raise _unknown(index, layer, "layer", layer, [known.name for known in _LAYERS])
    activation = getattr(layer, "activation", None)
    if activation is not None and type(activation) not in operators.ACTIVATIONS:
        known = [known.name for known in operators.ACTIVATIONS]
        raise _unknown(index, layer, "activation", activation, known)
    return _LAYERS[type(layer)](graph, layer, x)


def _chains(graph: Graph, layer: Nested, x: str) -> list[str]:
    """Each chain's outputs."""
    scope, outputs = graph.scope, []
    for prefix, chain in layer.chains().items():
        y = x
        for index, each in enumerate(chain):
            y = _through(graph, f"{scope}.{prefix}{index}", each, y)
        outputs.append(y)
    graph.scope = scope
    return outputs


def _residual(graph: Graph, residual: Residual, x: str) -> str:
    return graph.add("Add", *_chains(graph, residual, x))


def _concatenate(graph: Graph, layer: Concatenate, x: str) -> str:
    return graph.add("Concat", *_chains(graph, layer, x), axis=layer.axis + 1)


def _columns(graph: Graph, layer: Columns, x: str) -> str:
    return graph.add("Gather", x, graph.constant(layer.columns, np.int64), axis=1)


def _unknown(index: str, layer: Layer, kind: str, it: Any, known: list[str]) -> ValueError:
    return ValueError(
        f"layer {index}, {layer}: expected one of bpx's own {kind}s, for which ONNX has operators "
        f"({', '.join(sorted(known))}), got {type(it).__name__}: train with one of these, or ship "
        "bpx and the file of net.save"
    )


def _dense(graph: Graph, dense: Dense, x: str) -> str:
    weights, bias = f"{graph.scope}.weights", [f"{graph.scope}.bias"] * dense.use_bias
    if graph.dtype == "float32":
        z = graph.add("Gemm", x, weights, *bias, transB=1)
    else:
        graph.tensors[weights] = graph.tensors[weights].T
        z = graph.add("MatMul", x, weights)
        z = graph.add("Add", z, *bias) if bias else z
    return _activation(graph, dense, z)


def _rescale(graph: Graph, rescale: Rescale, x: str) -> str:
    dtype = graph.inputs if x == "inputs" else np.dtype(graph.dtype)
    if rescale.scale != 1.0:
        x = graph.add("Mul", x, graph.constant(rescale.scales(), dtype))
    if rescale.offset != 0.0:
        x = graph.add("Add", x, graph.constant(rescale.offsets(), dtype))
    return x if dtype == graph.dtype else graph.cast(x)


def _convolution(graph: Graph, layer: Conv1D | Conv2D, x: str) -> str:
    _only_float32(graph, layer)
    bias = [f"{graph.scope}.bias"] * layer.use_bias
    windows = _windows(layer.sliding, dilations=layer.sliding.dilation)
    z = graph.add("Conv", x, f"{graph.scope}.weights", *bias, group=layer.groups, **windows)
    return _activation(graph, layer, z)


def _average_pool(graph: Graph, pool: AveragePool1D | AveragePool2D, x: str) -> str:
    _only_float32(graph, pool)
    return graph.add("AveragePool", x, count_include_pad=1, **_windows(pool.sliding))


def _max_pool(graph: Graph, pool: MaxPool1D | MaxPool2D, x: str) -> str:
    return graph.add("MaxPool", x, **_windows(pool.sliding))


def _global_average_pool(
    graph: Graph, pool: GlobalAveragePool1D | GlobalAveragePool2D, x: str
) -> str:
    _only_float32(graph, pool)
    return graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)


def _upsample(graph: Graph, layer: Upsample1D | Upsample2D, x: str) -> str:
    _only_float32(graph, layer)
    scales = graph.constant((1, 1, *layer.sliding.size), np.float32)
    places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", x, "", scales, mode="nearest", **places)


def _windows(sliding: Sliding, **more: Any) -> dict[str, Any]:
    """The attributes of an operator with windows."""
    before, after = zip(*sliding.padding, strict=True)
    places = {"kernel_shape": sliding.size, "strides": sliding.stride, "pads": before + after}
    return places | more


def _only_float32(graph: Graph, layer: Layer) -> None:
    if graph.dtype != "float32":
        raise ValueError(
            f"{graph.scope}, {layer}: ONNX Runtime has this operator in float32 only: export "
            'net.to(dtype="float32")'
        )


def _reshape(graph: Graph, reshape: Reshape, x: str) -> str:
    shape = graph.constant((0, *reshape.output_shape), np.int64)  # 0: as many rows as there are
    return graph.add("Reshape", x, shape)


def _activation(graph: Graph, layer: Activation | Conv1D | Conv2D | Dense, x: str) -> str:
    return operators.ACTIVATIONS[type(layer.activation)](graph, layer.activation, x)


_LAYERS: dict[type[Layer], Callable[[Graph, Any, str], str]] = {
    Activation: _activation,
    AveragePool1D: _average_pool,
    AveragePool2D: _average_pool,
    BatchNorm: operators.batch_norm,
    Columns: _columns,
    Concatenate: _concatenate,
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
    Upsample1D: _upsample,
    Upsample2D: _upsample,
}

# --- what comes out -------------------------------------------------------------------------


def _by_votes(graph: Graph, described: Architecture, outputs: Sequence[str], a: str) -> str:
    """Outputs that decide as most of the members do, and as the mean `a` where votes tie."""
    k, n = described.output_shape[0], len(outputs)
    if described.task == "classification" and k > 1:
        classes = graph.constant(range(k), np.int64)
        best = [graph.add("ArgMax", each, axis=1, keepdims=1) for each in outputs]
        votes = _sum(graph, [graph.cast(graph.add("Equal", b, classes)) for b in best])
        first = graph.add("ArgMax", votes, axis=1, keepdims=1)
        most = graph.add("GatherElements", votes, first, axis=1)
        return graph.add("Where", graph.add("Equal", votes, most), a, graph.constant(-np.inf))
    half = graph.constant(0.5)
    marks = [graph.cast(graph.add("Greater", each, half)) for each in outputs]
    votes, even = _sum(graph, marks), graph.constant(0.5 * n)
    share = graph.add("Mul", votes, graph.constant(1.0 / n))
    return graph.add("Where", graph.add("Equal", votes, even), a, share)


def _mean(graph: Graph, values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return graph.add("Mul", _sum(graph, values), graph.constant(1.0 / len(values)))


def _sum(graph: Graph, values: Sequence[str]) -> str:
    """One by one, since ONNX Runtime has Sum and Mean in float32 only."""
    return reduce(lambda one, other: graph.add("Add", one, other), values)


def _results(
    graph: Graph, described: Architecture, a: str, settled: str, names: np.ndarray | None
) -> list[Any]:
    """The model's outputs, from those of the last layer, and from those that decide."""
    task, k = described.task, described.output_shape[0]
    ranges = {net.chain.objective.activation.range for net in graph.members.values()}
    name = "probabilities" if ranges <= PROBABILITIES and task != "regression" else "outputs"
    if name == "probabilities" and task == "classification" and k == 1:
        other = graph.add("Sub", graph.constant(1.0), a)
        outputs = graph.value(graph.add("Concat", other, a, name=name, axis=1), (2,))
    else:
        outputs = graph.value(graph.add("Identity", a, name=name), (k,))
    if task == "regression":
        return [outputs]
    return [_label(graph, task, k, settled, names), outputs]


def _shares(graph: Graph, a: str) -> str:
    """Outputs divided by their sum: equal ones where all of them are 0."""
    a = graph.add("Add", a, graph.constant(np.finfo(graph.dtype).smallest_normal))
    return graph.add("Div", a, graph.add("ReduceSum", a, graph.constant([1], np.int64)))


def _label(graph: Graph, task: str, k: int, a: str, names: np.ndarray | None) -> Any:
    """What `predict` decides from k outputs, by name where there are names."""
    if task == "multilabel" or k == 1:
        marks = graph.add("Greater", a, graph.constant(0.5))
        if task == "multilabel":
            graph.cast(marks, np.int64, name="label")
            return graph.value("label", (k,), np.int64)
        index = graph.add("Squeeze", graph.cast(marks, np.int64), graph.constant([1], np.int64))
    else:
        index = graph.add("ArgMax", a, axis=1, keepdims=0)
    if names is None:
        return graph.value(graph.add("Identity", index, name="label"), (), np.int64)
    graph.add("Gather", graph.constant(names, names.dtype), index, name="label")
    return graph.value("label", (), names.dtype)
