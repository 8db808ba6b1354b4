"""What layers share that hold chains of layers, each applied to the layer's own input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from ..backends import Array
from ..checks import shortened
from ..context import Context
from ..parameters import Out, Parameter, Space, get_path
from . import sequence
from ._base import Layer, Shape, hint_for_class

NOTHING = Space()  # the tensors of a layer that has none


class Nested(Layer):
    """A layer of chains: their tensors, state and contexts, and the way through each of them."""

    def chains(self) -> dict[str, tuple[Layer, ...]]:
        """Each chain by what its tensors' names begin with; an empty one is the input itself."""
        raise TypeError(f"{type(self).__name__} must define chains()")

    def bound(self, layers: Iterable[Layer], shape: Shape, what: str) -> tuple[Layer, ...]:
        """A chain after inputs of this shape; a message calls its layers `what`."""
        if not self.trainable:
            layers = [dataclasses.replace(layer, trainable=False) for layer in layers]
        return tuple(sequence.bind(layers, shape, what))

    def inner(self) -> dict[str, Layer]:
        return {
            f"{prefix}{index}": layer
            for prefix, layers in self.chains().items()
            for index, layer in enumerate(layers)
        }

    def parameters(self) -> dict[str, Parameter]:
        return {
            f"{path}.{name}": dataclasses.replace(
                tensor, trained=tensor.trained and layer.trainable
            )
            for path, layer in self.inner().items()
            for name, tensor in layer.parameters().items()
        }

    def state(self) -> dict[str, Parameter]:
        return {
            f"{path}.{name}": tensor
            for path, layer in self.inner().items()
            for name, tensor in layer.state().items()
        }

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.inner().values())

    @property
    def least_rows(self) -> int:
        return max((layer.least_rows for layer in self.inner().values()), default=1)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.inner())

    @cached_property
    def _parts(self) -> tuple[tuple[tuple[Layer, ...], slice], ...]:
        """The layers of each chain, and where they are among all of them."""
        chains = self.chains().values()
        stops = accumulate(map(len, chains), initial=0)
        return tuple(zip(chains, (slice(a, b) for a, b in pairwise(stops)), strict=True))

    def _contexts(self, ctx: Context) -> list[Context]:
        return ctx.inner(
            self._names,
            lambda: [w for layers, _ in self._parts for w in sequence.wanted(layers, ctx.wanted)],
        )

    def through(self, x: Array, p: Space, ctx: Context) -> tuple[list[Array], list[list[Any]]]:
        """Each chain's outputs of x, and what its layers saved."""
        tensors = [get_path(p, name) or NOTHING for name in self._names]
        contexts, outputs, saved = self._contexts(ctx), [], []
        for layers, part in self._parts:
            y, kept = sequence.forward(layers, x, tensors[part], contexts[part])
            outputs.append(y)
            saved.append(kept)
        return outputs, saved

    def back_through(
        self,
        deltas: Sequence[Array],
        saved: Sequence[list[Any]],
        p: Space,
        out: Out,
        ctx: Context,
    ) -> list[Array | None]:
        """∂C/∂x by way of each chain, from ∂C/∂y of its outputs, which it may overwrite."""
        tensors = [get_path(p, name) or NOTHING for name in self._names]
        outs = [get_path(out, name) for name in self._names]
        contexts = self._contexts(ctx)
        return [
            sequence.backward(layers, delta, kept, tensors[part], outs[part], contexts[part])
            for (layers, part), delta, kept in zip(self._parts, deltas, saved, strict=True)
        ]


def layers_in(what: str, given: Any) -> tuple[Layer, ...]:
    """The layers of a list; TypeError, which calls it `what`, for anything else."""
    if isinstance(given, Layer) or not isinstance(given, Iterable) or isinstance(given, str):
        hint = ": put it into one" if isinstance(given, Layer) else ""
        raise TypeError(f"expected {what} to be a list of layers, got {shortened(given)}{hint}")
    found = tuple(given)
    for layer in found:
        if not isinstance(layer, Layer):
            kind = "a list" if isinstance(layer, list | tuple) else shortened(layer)
            hint = hint_for_class(layer)
            raise TypeError(f"expected {what} to be a list of layers, got {kind} in it{hint}")
    return found
