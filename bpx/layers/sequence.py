"""Layers one after another: a network's, and those in a layer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from ..backends import Array
from ..context import Context
from ._base import Layer, Shape


def bind(layers: Iterable[Layer], shape: Shape, what: str = "layer") -> list[Layer]:
    """The layers, each with its input's shape, of which the first is `shape`.

    Raises
    ------
    ValueError
        One of them does not work on what the one before gives; `what` is what it is called.
    """
    bound = []
    for index, layer in enumerate(layers):
        try:
            layer = layer.bind(shape)
        except ValueError as error:
            raise ValueError(f"{what} {index}, {layer}: {error}") from None
        bound.append(layer)
        shape = layer.output_shape
    return bound


def every(layers: Iterable[Layer]) -> Iterator[tuple[str, Layer]]:
    """Each layer with its path, ``"3"``, and after it the layers in it, ``"3.0"``."""
    for index, layer in enumerate(layers):
        yield from _every(str(index), layer)


def _every(path: str, layer: Layer) -> Iterator[tuple[str, Layer]]:
    yield path, layer
    for name, inner in layer.inner().items():
        yield from _every(f"{path}.{name}", inner)


def wanted(layers: Iterable[Layer], below: bool = False) -> list[bool]:
    """For each layer whether a layer before it learns, or `below`: it then gives ∂C/∂x."""
    return list(accumulate((layer.learns for layer in layers), operator.or_, initial=below))[:-1]


def forward(
    layers: Iterable[Layer],
    x: Array,
    p: Iterable[SimpleNamespace],
    contexts: Iterable[Context],
) -> tuple[Array, list[Any]]:
    """The last layer's output, and what each layer saved."""
    saved = []
    for layer, tensors, ctx in zip(layers, p, contexts, strict=True):
        x, kept = layer.forward(x, tensors, ctx)
        saved.append(kept)
    return x, saved


def backward(
    layers: Sequence[Layer],
    delta: Array,
    saved: Sequence[Any],
    p: Sequence[SimpleNamespace],
    out: Sequence[SimpleNamespace | None],
    contexts: Sequence[Context],
) -> Array | None:
    """BP2 to BP4, from the last layer down: gradients to `out`, and ∂C/∂x if it is wanted."""
    below: Array | None = delta
    for index in range(len(layers) - 1, -1, -1):
        ctx, to = contexts[index], out[index]
        if not ctx.wanted and to is None:
            return None
        below = layers[index].backward(below, saved[index], p[index], to, ctx)
    return below
