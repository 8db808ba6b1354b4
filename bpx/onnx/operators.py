"""Activations, normalization and embeddings as operators of ONNX; `export` has the graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import activations
from ..layers import BatchNorm, Embedding, LayerNorm

if TYPE_CHECKING:
    from .export import Graph


def batch_norm(graph: Graph, layer: BatchNorm, x: str) -> str:
    tensors = [f"{graph.scope}.{name}" for name in ("scale", "shift", "mean", "variance")]
    # ε is an attribute in float32: what it loses there goes to the variance.
    lost = layer.epsilon - float(np.float32(layer.epsilon))
    graph.tensors[tensors[-1]] = graph.tensors[tensors[-1]] + lost
    return graph.add("BatchNormalization", x, *tensors, epsilon=layer.epsilon)


def layer_norm(graph: Graph, layer: LayerNorm, x: str) -> str:
    """Written out, because LayerNormalization came with opset 17; the mean in two passes."""
    shape = layer.parameters()["scale"].shape
    axes = graph.constant(range(-len(shape), 0), np.int64)
    share = graph.constant(1.0 / math.prod(shape))

    def mean(x: str) -> str:
        return graph.add("Mul", graph.add("ReduceSum", x, axes, keepdims=1), share)

    for _ in range(2):
        x = graph.add("Sub", x, mean(x))
    variance = graph.add("Add", mean(graph.add("Mul", x, x)), graph.constant(layer.epsilon))
    normal = graph.add("Div", x, graph.add("Sqrt", variance))
    scaled = graph.add("Mul", normal, f"{graph.scope}.scale")
    return graph.add("Add", scaled, f"{graph.scope}.shift")


def embedding(graph: Graph, layer: Embedding, x: str) -> str:
    if graph.inputs.kind == "f":  # whole numbers beside others
        x = graph.cast(x, np.int64)
    return graph.add("Gather", f"{graph.scope}.weights", x, axis=0)


# --- activations ---

# ONNX Runtime has no float64 kernels of LeakyRelu, Elu and Softplus (whose attributes are float32
# too), nor of what it makes of others when it fuses them: Gemm with an activation before 1.18
# (microsoft/onnxruntime 19612), a transposed MatMul (10151), z·sigmoid(z) (32421). For float64 the
# nodes are therefore others, which no version that was tried fuses, 1.15 to 1.32.


def _leaky_relu(graph: Graph, leaky: activations.LeakyReLU, z: str) -> str:
    if graph.dtype == "float32":
        return graph.add("LeakyRelu", z, alpha=leaky.slope)
    positive = graph.add("Greater", z, graph.constant(0.0))
    return graph.add("Where", positive, z, graph.add("Mul", z, graph.constant(leaky.slope)))


def _elu(graph: Graph, elu: activations.ELU, z: str) -> str:
    if graph.dtype == "float32":
        return graph.add("Elu", z, alpha=elu.alpha)
    below = graph.add("Min", z, graph.constant(0.0))
    # eᶻ − 1 = tanh(z/2) (eᶻ + 1), which does not cancel near 0
    tanh = graph.add("Tanh", graph.add("Mul", below, graph.constant(0.5)))
    expm1 = graph.add("Mul", tanh, graph.add("Add", graph.add("Exp", below), graph.constant(1.0)))
    scaled = graph.add("Mul", expm1, graph.constant(elu.alpha))
    return graph.add("Add", graph.add("Relu", z), scaled)


def _gelu(graph: Graph, gelu: activations.GELU, z: str) -> str:
    # written out, because the operator Gelu came with opset 20
    square = graph.add("Mul", graph.add("Mul", z, z), graph.constant(activations.GELU.cube))
    slope = graph.add("Add", square, graph.constant(1.0))
    scaled = graph.add("Mul", z, graph.constant(activations.GELU.scale))
    tanh = graph.add("Tanh", graph.add("Mul", scaled, slope))
    share = graph.add("Add", tanh, graph.constant(1.0))
    return graph.add("Mul", graph.add("Mul", z, graph.constant(0.5)), share)


def _silu(graph: Graph, silu: activations.SiLU, z: str) -> str:
    if graph.dtype == "float32":
        return graph.add("Mul", z, graph.add("Sigmoid", z))
    e = graph.add("Exp", graph.add("Neg", z))  # infinity for very negative z, and z/∞ is right
    return graph.add("Div", z, graph.add("Add", e, graph.constant(1.0)))


def _softplus(graph: Graph, softplus: activations.Softplus, z: str) -> str:
    if graph.dtype == "float32":
        return graph.add("Softplus", z)
    # max(z, 0) + log(1 + e), where e = e^−|z| cannot overflow. 1 + e is rounded, to u, and
    # log(u) e/(u − 1) is right all the same (Goldberg 1991, theorem 4).
    one = graph.constant(1.0)
    e = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    u = graph.add("Add", e, one)
    ratio = graph.add("Div", e, graph.add("Sub", u, one))
    rounded = graph.add("Mul", graph.add("Log", u), ratio)
    log1p = graph.add("Where", graph.add("Equal", u, one), e, rounded)
    return graph.add("Add", graph.add("Relu", z), log1p)


ACTIVATIONS: dict[type[activations.Activation], Callable[[Graph, Any, str], str]] = {
    activations.Identity: lambda graph, identity, z: z,
    activations.Sigmoid: lambda graph, sigmoid, z: graph.add("Sigmoid", z),
    activations.Tanh: lambda graph, tanh, z: graph.add("Tanh", z),
    activations.ReLU: lambda graph, relu, z: graph.add("Relu", z),
    activations.LeakyReLU: _leaky_relu,
    activations.ELU: _elu,
    activations.GELU: _gelu,
    activations.SiLU: _silu,
    activations.Softplus: _softplus,
    activations.Exponential: lambda graph, exponential, z: graph.add("Exp", z),
    activations.Softmax: lambda graph, softmax, z: graph.add("Softmax", z, axis=-1),
}
