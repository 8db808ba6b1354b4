"""Layers one after another: a network's, and those in a layer."""

from __future__ import annotations

import dataclasses
import numbers
import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from ..backends import Array
from ..context import Context
from ..parameters import Out, Space
from . import own
from ._base import Layer, Shape


def bind(layers: Iterable[Layer], shape: Shape, what: str = "layer") -> list[Layer]:
    """The layers, each with its input's shape; the first one's is `shape`.

    Raises
    ------
    ValueError
        A layer does not work on the outputs of the one before; the message calls it `what`.
    """
    bound = []
    for index, layer in enumerate(layers):
        try:
            layer = layer.bind(shape)
        except ValueError as error:
            raise ValueError(f"{what} {index}, {layer}: {error}") from None
        bound.append(layer)
        shape = layer.output_shape
        if not isinstance(shape, tuple) or not all(map(_is_length, shape)):
            got = "a method: put @property above it" if callable(shape) else repr(shape)
            raise ValueError(
                f"{what} {index}, {layer}: expected its output_shape to be a tuple of lengths, "
                f"such as (5,), got {got}"
            )
    return bound


def _is_length(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and int(value) > 0


def every(layers: Iterable[Layer]) -> Iterator[tuple[str, Layer]]:
    """Each layer with its path, ``"3"``, and after it the layers in it, ``"3.0"``."""
    for index, layer in enumerate(layers):
        yield from _every(str(index), layer)


def _every(path: str, layer: Layer) -> Iterator[tuple[str, Layer]]:
    yield path, layer
    for name, inner in layer.inner().items():
        yield from _every(f"{path}.{name}", inner)


def thawed(layers: Iterable[Layer]) -> list[Layer]:
    """The same layers, all of them trainable, also those within others."""
    return [_thawed(layer) for layer in layers]


def _thawed(found: Any) -> Any:
    """A layer, tuples of layers, or what stands for them."""
    if isinstance(found, tuple):
        return tuple(map(_thawed, found))
    if not isinstance(found, Layer):
        return found
    fields = [field.name for field in dataclasses.fields(found) if field.metadata.get("layers")]
    inner = {name: _thawed(getattr(found, name)) for name in fields}
    return dataclasses.replace(found, trainable=True, **inner)


def wanted(layers: Iterable[Layer], below: bool = False) -> list[bool]:
    """For each layer, whether it must give ∂C/∂x: if `below`, or a layer before it learns."""
    return list(accumulate((layer.learns for layer in layers), operator.or_, initial=below))[:-1]


def forward(
    layers: Iterable[Layer],
    x: Array,
    p: Iterable[Space],
    contexts: Iterable[Context],
) -> tuple[Array, list[Any]]:
    """The last layer's output, and what each layer saved."""
    saved = []
    for layer, tensors, ctx in zip(layers, p, contexts, strict=True):
        mine = layer.own
        try:
            found = layer.forward(own.read_only(x) if mine else x, tensors, ctx)
        except (AttributeError, ValueError) as error:
            own.explain(error, layer, p=tensors)
            raise
        if mine and ctx.first("forward"):
            own.check_forward(layer, found, x, ctx)
        x, kept = found
        saved.append(kept)
    return x, saved


def backward(
    layers: Sequence[Layer],
    delta: Array,
    saved: Sequence[Any],
    p: Sequence[Space],
    out: Sequence[Out],
    contexts: Sequence[Context],
) -> Array | None:
    """BP2 to BP4, from the last layer down: gradients to `out`, and ∂C/∂x if it is wanted."""
    below: Any = delta
    for index in range(len(layers) - 1, -1, -1):
        ctx, to = contexts[index], out[index]
        if not ctx.wanted and to is None:
            return None
        layer = layers[index]
        tensors: Any = p[index]
        first = layer.own and ctx.first("backward")
        sound = first and own.is_sound(below, ctx)
        if first and to is not None:
            tensors, to = own.watched(layer, tensors, to, ctx)
        try:
            below = layer.backward(below, saved[index], tensors, to, ctx)
        except AttributeError as error:
            own.explain(error, layer, p=tensors, out=to)
            raise
        if first:
            own.check_backward(layer, below, delta.shape[0], to, ctx, sound)
    return below
