"""Layers one after another: a network's, and those in a layer."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from ..backends import Array
from ..checks import not_as_expected, shortened
from ..context import Context
from ..parameters import Out, Space
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
        found = layer.forward(x, tensors, ctx)
        if layer.own and ctx.first("forward"):
            _check_forward(layer, found, x, ctx)
        x, kept = found
        saved.append(kept)
    return x, saved


def _check_forward(layer: Layer, found: Any, x: Array, ctx: Context) -> None:
    """ValueError unless a user's own layer has returned (y, saved)."""
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(
            f"expected forward of the layer {layer} to return (y, saved), got {shortened(found)}"
        )
    shape = x.shape[0], *layer.output_shape
    dtypes = [ctx.dtype, x.dtype]  # whole numbers for an Embedding stay integers
    _check_array(f"y of the layer {layer}", found[0], shape, dtypes)


def _check_array(what: str, got: Any, shape: Shape, dtypes: Sequence[Any]) -> None:
    """ValueError unless it has this shape, and one of the dtypes."""
    if getattr(got, "shape", None) != shape or getattr(got, "dtype", None) not in dtypes:
        raise not_as_expected(f"{what}, in the network's dtype,", shape, got)


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
        below = layer.backward(below, saved[index], p[index], to, ctx)
        if layer.own and ctx.wanted and ctx.first("backward"):
            shape = delta.shape[0], *layer.shape_in
            _check_array(f"∂C/∂x of the layer {layer}", below, shape, [ctx.dtype])
    return below
