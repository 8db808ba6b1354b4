"""Normalization and embeddings as operators of ONNX; `onnx` has the graph and all others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .layers import BatchNorm, Embedding, LayerNorm


def batch_norm(graph: Any, layer: BatchNorm, x: str) -> str:
    tensors = [f"{graph.scope}.{name}" for name in ("scale", "shift", "mean", "variance")]
    # ε is an attribute in float32: what it loses there goes to the variance.
    lost = layer.epsilon - float(np.float32(layer.epsilon))
    graph.tensors[tensors[-1]] = graph.tensors[tensors[-1]] + lost
    return str(graph.add("BatchNormalization", x, *tensors, epsilon=layer.epsilon))


def layer_norm(graph: Any, layer: LayerNorm, x: str) -> str:
    """Written out, because LayerNormalization came with opset 17; the mean in two passes."""
    shape = layer.parameters()["scale"].shape
    axes = graph.constant(range(-len(shape), 0), np.int64)
    share = graph.constant(1.0 / math.prod(shape))

    def mean(x: str) -> str:
        return str(graph.add("Mul", graph.add("ReduceSum", x, axes, keepdims=1), share))

    for _ in range(2):
        x = graph.add("Sub", x, mean(x))
    variance = graph.add("Add", mean(graph.add("Mul", x, x)), graph.constant(layer.epsilon))
    normal = graph.add("Div", x, graph.add("Sqrt", variance))
    scaled = graph.add("Mul", normal, f"{graph.scope}.scale")
    return str(graph.add("Add", scaled, f"{graph.scope}.shift"))


def embedding(graph: Any, layer: Embedding, x: str) -> str:
    return str(graph.add("Gather", f"{graph.scope}.weights", x, axis=0))
