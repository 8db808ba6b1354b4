"""Branches side by side, whose outputs are joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

from ..backends import Array
from ..checks import of_batch, shortened, whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Converted, Layer, Shape, layers_field
from .nested import Nested, layers_in


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Concatenate(Nested):
    """The outputs of several branches of layers, each applied to the same x, as one array.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        The layers of each branch, one after another; an empty list is x itself. Among them may be
        another `Concatenate`, or an `Embedding` of some `Columns`.
    axis : int
        Of a sample: 0 (default), the features of flat outputs or the channels of images. The
        outputs agree in their other axes.
    trainable : bool
        False keeps the parameters of all layers in it. Each layer can also be frozen by itself.

    Raises
    ------
    ValueError
        No branches, or outputs that cannot be joined.
    TypeError
        A branch is not a list of layers.

    Notes
    -----
    Tensors are called ``0.1.weights`` and so on: of layer 1 in branch 0. ∂C/∂x is summed in the
    order of the branches, the same bits every time.

    A branch's `Embedding` takes whole numbers in the network's dtype: float32 holds those up to
    2²⁴, and a network with more of them has to be float64.

    Examples
    --------
    A table with a category in column 0, one of 7, beside four measurements:

    >>> import bpx
    >>> from bpx.layers import Columns, Concatenate, Conv2D, Dense, Embedding, Flatten, Input
    >>> category = [Columns([0]), Embedding(7, 3), Flatten()]
    >>> chain = [Input(5), Concatenate([category, [Columns(range(1, 5))]]), Dense(2, "softmax")]
    >>> net = bpx.Network(chain, seed=0)
    >>> net.layers[0].output_shape, list(net.tensors)[0]
    ((7,), 'layers.0.0.1.weights')
    >>> net.predict([[9.0, 0.1, 0.2, 0.3, 0.4]])
    Traceback (most recent call last):
    ValueError: expected whole numbers 0 to 6 in x for an Embedding of 7, got 9.0 in row 0, \
column 0: number them from 0, and give rare or unknown ones a number of their own

    The input and what a convolution makes of it, as in DenseNet (Huang and others, CVPR 2017):

    >>> Concatenate([[], [Conv2D(12, 3, "relu", padding="same")]]).bind((24, 8, 8)).output_shape
    (36, 8, 8)
    """

    name: ClassVar[str] = "concatenate"

    branches: Converted[tuple[tuple[Layer, ...], ...], Iterable[Iterable[Layer]]] = layers_field(
        ()
    )
    axis: int = 0

    def validate(self) -> None:
        given: Any = self.branches
        how = "[[], [Dense(8)]], of which each is applied to the inputs"
        if isinstance(given, Layer | str) or not isinstance(given, Iterable):
            raise TypeError(
                f"expected the branches of Concatenate to be lists of layers, such as {how}, got "
                f"{shortened(given)}"
            )
        branches = tuple(
            layers_in(f"branch {index} of Concatenate", branch)
            for index, branch in enumerate(given)
        )
        if not branches:
            raise ValueError(
                "expected Concatenate to have at least one branch, got none: they go to it as "
                f"lists of layers, such as {how}"
            )
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "axis", whole("the axis of Concatenate", self.axis, 0))

    def bind(self, input_shape: Shape) -> Self:
        branches = tuple(
            self.bound(branch, input_shape, f"its branch {index}'s layer")
            for index, branch in enumerate(self.branches)
        )
        replaced = dataclasses.replace(self, branches=branches)
        bound = super(Concatenate, replaced).bind(input_shape)
        _check_shapes(bound.shapes, bound.axis)
        return bound

    def chains(self) -> dict[str, tuple[Layer, ...]]:
        return {f"{index}.": branch for index, branch in enumerate(self.branches)}

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Of each branch's outputs, for one sample."""
        return tuple(each[-1].output_shape if each else self.shape_in for each in self.branches)

    @cached_property
    def _places(self) -> tuple[tuple[Any, ...], ...]:
        """Where each branch's outputs are in those of a batch."""
        stops = accumulate((shape[self.axis] for shape in self.shapes), initial=0)
        before = (slice(None),) * (self.axis + 1)
        return tuple((*before, slice(start, stop), ...) for start, stop in pairwise(stops))

    @property
    def output_shape(self) -> Shape:
        first, at = self.shapes[0], self.axis
        return (*first[:at], sum(shape[at] for shape in self.shapes), *first[at + 1 :])

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        outputs, saved = self.through(x, p, ctx)
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        for place, part in zip(self._places, outputs, strict=True):
            y[place] = part
        return y, saved

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        deltas = []
        for index, (place, shape) in enumerate(zip(self._places, self.shapes, strict=True)):
            part = ctx.buffer(f"delta.{index}", (delta.shape[0], *shape))
            part[...] = delta[place]  # without gaps, as kernels take it
            deltas.append(part)
        below, *others = self.back_through(deltas, saved, p, out, ctx)
        if not ctx.wanted:
            return None
        for other in others:
            ctx.backend.axpby(other, below)
        return below

    def __str__(self) -> str:
        along = f" along axis {self.axis}" * (self.axis > 0)
        return f"Concatenate, {len(self.branches)} branches{along}"


def _check_shapes(shapes: Sequence[Shape], axis: int) -> None:
    """ValueError unless outputs of these shapes can be joined along an axis."""
    others = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in shapes}
    if len(others) == 1 and axis < len(shapes[0]):
        return
    if len({len(shape) for shape in shapes}) > 1:
        hint = "end branches with Flatten() that are not flat"
    elif axis >= len(shapes[0]):
        hint = f"a sample has {len(shapes[0])} axes, of which 0 is the first"
    else:
        hint = 'padding="same" keeps the lengths of an image, and a stride or a pool halves them'
    given = [of_batch(shape) for shape in shapes]
    raise ValueError(
        f"its branches give {' and '.join(given[:8])}, which cannot be joined along axis {axis} "
        f"of a sample, as their other axes have to agree: {hint}"
    )
