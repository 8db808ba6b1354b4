"""Dense layers, and what is between them, as plain numbers: what backends train or run whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .activations import Activation, Identity
from .backends import _codes
from .input_branches import Branch, largest_whole, of_layers
from .layers import Activation as ActivationLayer
from .layers import BatchNorm, Dense, Dropout, Layer, LayerNorm, Rescale, Residual
from .parameters import Layout
from .random import of_layer

IN_PLACE = ActivationLayer, BatchNorm, LayerNorm  # they have an `in_place`

Place = tuple[int, str]  # a layer of the network, and what the names of tensors in it begin with
Placed = tuple[Place, BatchNorm | LayerNorm]


@dataclass(frozen=True)
class Norm:
    """A normalization between a dense layer and its activation, or of a dense layer's inputs.

    Attributes
    ----------
    of_batch : bool
        `BatchNorm`, else `LayerNorm`.
    scale, shift : int
        Where they begin in θ.
    mean, variance : int
        Where the running ones begin in the state; −1: there are none.
    epsilon, momentum : float
    trained : bool
    """

    of_batch: bool
    scale: int
    shift: int
    mean: int
    variance: int
    epsilon: float
    momentum: float
    trained: bool


@dataclass(frozen=True)
class DenseLayers:
    """A chain of dense layers: where each lies in θ, and its activation.

    Attributes
    ----------
    sizes : tuple of int
        Of the first one's inputs, and of each layer's outputs.
    weights, bias : tuple of int
        Where each layer's tensors begin in θ; −1 without a bias.
    activations : tuple of Activation
        Its own, or that of an `Activation` layer after it.
    trained : tuple of bool
    after : tuple of tuple of int
        The indices of the `IN_PLACE` layers between each dense one and the next.
    dropout : tuple of (int, float)
        In training: of each layer the rate of the `Dropout` before it, 0 where there is none,
        after that one's number in the network.
    norms : tuple of Norm or None
        In training: what is between each layer's z and its activation.
    norms_of_inputs : tuple of Norm or None
        In training: what is between the activation below each layer and its dropout.
    skips : tuple of int
        In training: the layer, by its number here, whose inputs are added to each one's z before
        its activation; −1: none are.
    skips_norm : tuple of bool
        Whether a sum takes each layer's inputs as they come, before their norm.
    scale, offset : ndarray or None
        Of a first `Rescale`, for each column of x, in float64.
    branches : tuple of Branch
        In training: what the first one's inputs are put together from; none: they are x.
    columns : int
        Of x.
    """

    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    bias: tuple[int, ...]
    activations: tuple[Activation, ...]
    trained: tuple[bool, ...]
    dropout: tuple[tuple[int, float], ...]
    after: tuple[tuple[int, ...], ...]
    norms: tuple[Norm | None, ...]
    norms_of_inputs: tuple[Norm | None, ...]
    skips: tuple[int, ...]
    skips_norm: tuple[bool, ...]
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    branches: tuple[Branch, ...] = ()
    columns: int = 0

    @property
    def has_codes(self) -> bool:
        """Whether compiled code has all activations, and there is nothing else."""
        known = all(each.kernel in _codes.ACTIVATIONS for each in self.activations)
        return known and not any(self.after)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing else, in training too."""
        drops = any(rate for _, rate in self.dropout)
        norms = any(self.norms + self.norms_of_inputs)
        return not (drops or norms or max(self.skips) >= 0 or self.branches)

    @property
    def lowest(self) -> int:
        """The first layer that is trained, or a norm after it; their number if there is none.

        −1: something before them is, and δ goes down to their inputs.
        """
        learn = [*enumerate(self.trained)]
        learn += [(k, each.trained) for k, each in enumerate(self.norms) if each]
        learn += [(k - 1, each.trained) for k, each in enumerate(self.norms_of_inputs) if each]
        learn += [(-1, branch.trained) for branch in self.branches]
        return min((k for k, trained in learn if trained), default=len(self.trained))

    def tells_rows_apart(self, dtype: Any) -> bool:
        """Whether x in this dtype names each row of an `Embedding`."""
        return all(branch.count - 1 <= largest_whole(dtype) for branch in self.branches)

    @property
    def multiply_adds(self) -> int:
        """Of one sample's forward pass; the backward pass has at most twice as many."""
        return sum(into * out for into, out in pairwise(self.sizes))


@dataclass
class _Stage:
    """A dense layer, and what is around it."""

    place: Place
    layer: Dense
    sigma: Activation
    mask: tuple[int, float] = (0, 0.0)
    of_inputs: Placed | None = None
    norm: Placed | None = None
    skip: int = -1
    skips_norm: bool = False
    after: list[int] = field(default_factory=list)


def of_training(layers: Sequence[Layer], layout: Layout, state: Layout) -> DenseLayers | None:
    """The chain in training; None where runs have no such layer, activation or order.

    Before the first dense layer that is what `input_branches` has, and a norm. Between two that
    is: z, a norm, or the sum of a `Residual` that ends there, σ, a norm, a `Dropout`. σ is the
    layer's own, or an `Activation`'s after a layer without one.
    """
    # If another layer were the last, z^L would be what the last dense layer's σ gives.
    if type(layers[-1]) is not Dense:
        return None
    first, starts = _first(layers), _starts_in(layout, state)
    branches, taken = of_layers(layers[first:], first, starts, layout.trained)
    chain, first = _Chain(), first + taken
    acting = enumerate(layers[first:], first)
    if not all(chain.add(layer, (index, ""), index) for index, layer in acting):
        return None
    found = _described(chain.stages, layers, starts, branches)
    return found if found.has_codes else None


def of_predictions(layers: Sequence[Layer], layout: Layout, state: Layout) -> DenseLayers | None:
    """The chain outside training, where each `Dropout` does nothing, with any activations.

    Also with layers between dense ones that change outputs in place.
    """
    stages: list[_Stage] = []
    for index, layer in enumerate(layers):
        if type(layer) is Dense:
            stages.append(_Stage((index, ""), layer, layer.activation))
        elif index < _first(layers) or type(layer) is Dropout:
            continue
        elif type(layer) not in IN_PLACE or not stages:
            return None
        elif type(layer) is ActivationLayer and _is_free(stages[-1]):
            stages[-1].sigma = layer.activation
        else:
            stages[-1].after.append(index)
    is_last = type(layers[-1]) is Dense
    return _described(stages, layers, _starts_in(layout, state)) if is_last else None


def _first(layers: Sequence[Layer]) -> int:
    """The first layer that is not a `Rescale` of gathered rows."""
    return int(type(layers[0]) is Rescale)  # a user's subclass has a forward of its own


def _is_free(stage: _Stage) -> bool:
    """Whether σ may come here."""
    return type(stage.sigma) is Identity and not stage.after


class _Chain:
    """Layers in training, as they are put together."""

    def __init__(self) -> None:
        self.stages: list[_Stage] = []
        # Of the inputs of the next dense layer.
        self._norm: Placed | None = None
        self._mask: tuple[int, float] | None = None

    def add(self, layer: Layer, place: Place, number: int) -> bool:
        """Whether it can be here; `number` is that of its masks."""
        if type(layer) is Dense:
            mask = self._mask or (0, 0.0)
            self.stages.append(_Stage(place, layer, layer.activation, mask, self._norm))
            self._mask = self._norm = None
            return True
        if self._mask is not None:  # there is one between two layers, on what σ or a norm gives
            return False
        if type(layer) is Dropout:
            self._mask = number, layer.rate
            return True
        if type(layer) is Residual:
            return not layer.chains()["projection."] and self._add_sum(layer, place, number)
        if type(layer) not in IN_PLACE or self._norm is not None:
            return False
        if self.stages and _put_between(self.stages[-1], layer, place):
            return True
        self._norm = _norm_at(place, layer)
        return self._norm is not None

    def _add_sum(self, residual: Residual, place: Place, number: int) -> bool:
        first, (index, before), opening = len(self.stages), place, residual.layers[0]
        normed = self._norm is None and _norm_at(place, opening) is not None
        if type(opening) is not Dense and not normed:  # whose inputs are the other part of the sum
            return False
        for position, layer in enumerate(residual.layers):
            inside = index, f"{before}{position}."
            if normed and position == 0:
                self._norm = _norm_at(inside, layer)
            elif not self.add(layer, inside, of_layer(number, position)):
                return False
        if self._mask or self._norm:
            return False
        last = self.stages[-1]
        if not _is_free(last) or last.norm or last.skip >= 0:
            return False
        last.skip, self.stages[first].skips_norm = first, normed
        return True


def _put_between(stage: _Stage, layer: Any, place: Place) -> bool:
    """An activation, or a norm directly after z."""
    if not _is_free(stage):
        return False
    if type(layer) is ActivationLayer:
        stage.sigma = layer.activation
        return True
    if stage.norm is not None or stage.skip >= 0:
        return False
    stage.norm = _norm_at(place, layer)
    return stage.norm is not None


def _norm_at(place: Place, layer: Any) -> Placed | None:
    """The norm, unless its running statistics are not trained; None for another layer."""
    known = type(layer) is LayerNorm or (type(layer) is BatchNorm and layer.trainable)
    return (place, layer) if known else None


def _starts_in(*layouts: Layout) -> dict[Place, int]:
    """Where each tensor begins in its vector."""
    entries = (entry for layout in layouts for entry in layout.entries)
    return {(entry.layer, entry.name): entry.start for entry in entries}


def _described(
    stages: Sequence[_Stage],
    layers: Sequence[Layer],
    starts: Mapping[Place, int],
    branches: tuple[Branch, ...] = (),
) -> DenseLayers:
    dense, first = [stage.layer for stage in stages], layers[0]
    rescale = first if isinstance(first, Rescale) and _first(layers) else None
    return DenseLayers(
        sizes=(*dense[0].shape_in, *(layer.units for layer in dense)),
        weights=_starts(starts, stages, "weights"),
        bias=_starts(starts, stages, "bias"),
        activations=tuple(stage.sigma for stage in stages),
        trained=tuple(layer.trainable for layer in dense),
        dropout=tuple(stage.mask for stage in stages),
        after=tuple(tuple(stage.after) for stage in stages),
        norms=tuple(_norm(starts, stage.norm) for stage in stages),
        norms_of_inputs=tuple(_norm(starts, stage.of_inputs) for stage in stages),
        skips=tuple(stage.skip for stage in stages),
        skips_norm=tuple(stage.skips_norm for stage in stages),
        scale=None if rescale is None else rescale.scales(),
        offset=None if rescale is None else rescale.offsets(),
        branches=branches,
        columns=first.shape_in[0],
    )


def _starts(starts: Mapping[Place, int], stages: Iterable[_Stage], name: str) -> tuple[int, ...]:
    """Where each layer's tensor of this name begins; −1: it has none."""
    places = (stage.place for stage in stages)
    return tuple(starts.get((index, before + name), -1) for index, before in places)


def _norm(starts: Mapping[Place, int], placed: tuple[Place, Any] | None) -> Norm | None:
    if placed is None:
        return None
    place, layer = placed

    def start(name: str) -> int:
        return starts.get((place[0], place[1] + name), -1)

    of_batch = type(layer) is BatchNorm
    return Norm(
        of_batch=of_batch, scale=start("scale"), shift=start("shift"), mean=start("mean"),
        variance=start("variance"), epsilon=layer.epsilon,
        momentum=layer.momentum if of_batch else 0.0, trained=layer.trainable,
    )  # fmt: skip
