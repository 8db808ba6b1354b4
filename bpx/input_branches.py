"""What is between a network's inputs and its first dense layer, as plain numbers: for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .layers import (
    Columns,
    Concatenate,
    Embedding,
    Flatten,
    GlobalAveragePool1D,
    Layer,
    Permute,
    Rescale,
)

FIRST = Columns, Concatenate, Embedding, Rescale
# What is after an `Embedding`: the vectors of its columns side by side, or their mean.
JOINED: tuple[type[Layer], ...] = (Flatten,)
AVERAGED: tuple[type[Layer], ...] = (Permute, GlobalAveragePool1D)


@dataclass(frozen=True)
class Branch:
    """Some columns of x as they are, rescaled, or as rows of an `Embedding`'s weights.

    Attributes
    ----------
    columns : ndarray of int
    weights : int
        Where they begin in θ; −1: there are none.
    count, width : int
        The weights' shape; without them 0 and 1.
    trained : bool
        Whether there are weights, and they are.
    averaged : bool
        Whether there is one vector, the mean of all columns'.
    scale, offset : ndarray or None
        Of a `Rescale`, for each column, in float64.
    """

    columns: np.ndarray
    weights: int = -1
    count: int = 0
    width: int = 1
    trained: bool = False
    averaged: bool = False
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def size(self) -> int:
        """How many inputs of the first dense layer it is."""
        return self.width * (1 if self.averaged else len(self.columns))


def largest_whole(dtype: Any) -> int:
    """Up to which this dtype holds all whole numbers."""
    return 1 << (int(np.finfo(dtype).nmant) + 1)


def of_layers(
    layers: Sequence[Layer], index: int, starts: Mapping[tuple[int, str], int], trained: int
) -> tuple[tuple[Branch, ...], int]:
    """Those that are before a first dense layer, and how many layers they take; 0 for none.

    `index` is the number of the first of these layers; `starts` are where tensors begin in θ, of
    which up to `trained` is trained.
    """
    first = layers[0]
    if type(first) not in FIRST or len(first.shape_in) != 1:
        return (), 0
    if isinstance(first, Concatenate):
        found = []
        for prefix, chain in first.chains().items():
            places = [(index, f"{prefix}{at}.weights") for at in range(len(chain))]
            branch, taken = _branch(chain, first.shape_in[0], places, starts, trained)
            if taken < len(chain):
                return (), 0
            found.append(branch)
        return tuple(found), 1
    places = [(index + at, "weights") for at in range(len(layers))]
    branch, taken = _branch(layers, first.shape_in[0], places, starts, trained)
    return (branch,) if taken else (), taken


def _branch(
    layers: Sequence[Layer],
    inputs: int,
    places: Sequence[tuple[int, str]],
    starts: Mapping[tuple[int, str], int],
    trained: int,
) -> tuple[Branch, int]:
    """What these layers begin with, after so many inputs, and how many of them that is.

    `places` are the names of their weights.
    """
    columns, at = np.arange(inputs), 0
    for layer in layers:
        if type(layer) is not Columns:
            break
        columns, at = columns[list(layer.columns)], at + 1
    rest = layers[at:]
    first = rest[0] if rest else None
    if type(first) is Rescale:
        return Branch(columns, scale=first.scales(), offset=first.offsets()), at + 1
    how = _put_together(rest[1:])
    if type(first) is Embedding and how:
        start, averaged = starts[places[at]], how == AVERAGED
        learns = start < trained
        table = Branch(columns, start, first.count, first.width, learns, averaged)
        return table, at + 1 + len(how)
    return Branch(columns), at


def _put_together(layers: Sequence[Layer]) -> tuple[type[Layer], ...]:
    """Which of `JOINED` and `AVERAGED` these begin with; none: neither."""
    kinds = tuple(map(type, layers[:2]))
    if kinds == AVERAGED and isinstance(layers[0], Permute):
        return AVERAGED if layers[0].axes == (1, 0) else ()
    return JOINED if kinds[:1] == JOINED else ()
