"""What a network is: layers that fit together, a cost, a task, and where each tensor lies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from . import dense_chain
from .activations import ACTIVATIONS, Activation, Identity
from .checks import shortened, warn
from .costs import COSTS, DEFAULTS, PROBABILITIES, Cost, Objective, Quadratic
from .data.values import Indices
from .dense_chain import DenseLayers
from .input_branches import largest_whole
from .layers import (
    AveragePool1D,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool1D,
    Input,
    Layer,
    MaxPool1D,
    Rescale,
    Reshape,
    Upsample1D,
    Upsample2D,
    sequence,
)
from .layers._base import hint_for_class
from .layers.nested import Nested
from .layers.rescale import gathered
from .parameters import Layout
from .registry import called, canonical, unknown

TASKS = ("classification", "multilabel", "regression")
MOST_INDICES = 1 << 20  # in a sample, beside other numbers
RESHAPED = Flatten, Reshape
ALONG_PLACES = Conv1D, MaxPool1D, AveragePool1D, GlobalAveragePool1D, Upsample1D


class Architecture:
    """Layers, cost and task; no arrays.

    Parameters
    ----------
    layers : sequence of Layer
        Each with its input's shape, see `bind`.
    cost, task : Cost or str or None, str or None
        None: chosen by the output activation.
    custom : mapping, optional
        A user's own activations, costs, ... by their names in the file that it is from.

    Attributes
    ----------
    layers : tuple of Layer
    on_gathered : tuple of Layer
        The same as they work on gathered rows, to which a first `Rescale` has been applied.
    stages : tuple of Layer
        These, but the last one without its activation, which belongs to `objective`: there δ^L
        starts, from z^L (BP1).
    cost : Cost
    target_counts : tuple of int
        How many numbers y may have in each sample, see `Cost.target_counts`.
    objective : Objective
    task : str
        One of `TASKS`.
    layout, state_layout : Layout
        Of the parameters, and of the running state.
    input_shape, output_shape : tuple of int
        Of one sample.
    folded : bool
        Whether the first layer is a `Rescale`, which is applied as a mini-batch is gathered.
    indices : tuple of Indices
        Which inputs are whole numbers, by their count.
    integers : bool
        Whether all of them are, since the network begins with an `Embedding`: they stay integers.

    Raises
    ------
    ValueError
        The cost is not defined on the outputs, outputs that are not flat, or an unknown name.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        cost: Cost | str | None,
        task: str | None,
        custom: Mapping[str, Any] | None = None,
    ) -> None:
        self.layers, self.custom = tuple(layers), custom
        self.indices = _indices(layers)
        self.integers = any(each.columns is None for each in self.indices)
        self.input_shape, self.output_shape = layers[0].shape_in, layers[-1].output_shape
        if len(self.output_shape) != 1:
            raise ValueError(
                f"expected the last layer's outputs to be flat, got shape {self.output_shape}: "
                "end with a Dense layer, or with Flatten()"
            )
        self.folded = type(layers[0]) is Rescale  # a user's subclass has a forward of its own
        self.on_gathered = (gathered(layers[0]), *layers[1:])
        _check_ending(layers[-1])
        last, activation = without_activation(self.on_gathered[-1])
        self.stages = (*self.on_gathered[:-1], last)
        self.cost = _cost(cost, activation, self.output_shape[0])
        self.target_counts = self.cost.target_counts(self.output_shape[0])
        self.objective = Objective(self.cost, activation)
        self.task = _task(task, self.objective)
        trainable = [layer.trainable for layer in layers]
        self.layout = Layout([layer.parameters() for layer in layers], trainable)
        self.state_layout = Layout([layer.state() for layer in layers], [True] * len(layers))
        self._wanted = sequence.wanted(layers)

    def __getstate__(self) -> dict[str, Any]:
        """What it is made of: all else is another version's to derive."""
        given = "layers", "cost", "task", "custom"
        return {name: getattr(self, name) for name in given}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        layers, cost, task = (state[name] for name in ("layers", "cost", "task"))
        Architecture.__init__(self, layers, cost, task, state.get("custom"))

    def check_dtype(self, dtype: str) -> None:
        """ValueError if an `Embedding` beside other numbers has more than it tells apart."""
        most = largest_whole(dtype)
        for indices in () if self.integers else self.indices:
            if indices.count - 1 > most:
                raise ValueError(
                    f"an Embedding of {indices.count:,} beside other numbers takes {dtype}, which "
                    f"holds all whole numbers up to {most:,} alone: make the network with "
                    'dtype="float64"'
                )

    @cached_property
    def dense(self) -> DenseLayers | None:
        """The chain as dense layers in training, if it is one; see `dense_chain.of_training`."""
        return dense_chain.of_training(self.layers, self.layout, self.state_layout)

    @cached_property
    def inference(self) -> DenseLayers | None:
        """The same outside training, see `dense_chain.of_predictions`."""
        return dense_chain.of_predictions(self.layers, self.layout, self.state_layout)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the inputs that a first `Rescale` brings along, if it has any."""
        first = self.layers[0]
        vectors = len(self.input_shape) == 1
        return first.columns if vectors and isinstance(first, Rescale) else None

    @property
    def wanted_targets(self) -> str:
        """What y must be, as `Cost.targets`; for classes between 0 and 1, whatever the cost."""
        within = self.task != "regression" and self.objective.activation.range in PROBABILITIES
        return "unit" if within and self.cost.targets == "real" else self.cost.targets

    def largest_product(self, density: float = 1.0) -> int:
        """Multiply-adds of its largest product, for each sample.

        `density` is the share of x's elements by which the first layer multiplies.
        """
        first, *others = (layer.multiply_adds for layer in self._leaves)
        return max(round(density * first), *others, 0)

    @cached_property
    def in_parts(self) -> bool:
        """Whether it has layers that spread parts of a batch over threads; of vectors none do."""
        every = (layer for _, layer in sequence.every(self.layers))
        return any(layer.in_parts and len(layer.shape_in) > 1 for layer in every)

    @cached_property
    def mostly_in_parts(self) -> bool:
        """Whether most multiply-adds are in such layers."""
        spread = sum(layer.multiply_adds for layer in self._leaves if layer.in_parts)
        return 2 * spread > sum(layer.multiply_adds for layer in self._leaves)

    @cached_property
    def statistics(self) -> bool:
        """Whether layers take statistics of the mini-batch in training."""
        return any(layer.trainable and bool(layer.state()) for layer in self._leaves)

    @property
    def _leaves(self) -> list[Layer]:
        return [layer for _, layer in sequence.every(self.layers) if not layer.inner()]

    @property
    def least_rows(self) -> int:
        """The fewest rows that a mini-batch in training may have."""
        return max(layer.least_rows for layer in self.layers)

    def wanted(self, inputs: bool) -> list[bool]:
        """For each layer, whether ∂C/∂x is wanted: by a layer below, or for the inputs."""
        return [True] * len(self.layers) if inputs else self._wanted


def _cost(given: Cost | str | None, activation: Activation, outputs: int) -> Cost:
    """The cost that is asked for, by default that of such outputs."""
    if activation.range == "simplex":
        if outputs == 1:
            raise ValueError("one softmax output is always 1: use a sigmoid, or two outputs")
        if isinstance(given, str) and canonical(given) == "cross-entropy":
            given = "log-likelihood"
    if given is None:
        given = DEFAULTS.get(activation.range, Quadratic)()
    cost: Cost = COSTS.get(given)
    cost.check_outputs(outputs)
    return cost


def _task(given: str | None, objective: Objective) -> str:
    """The task that is asked for, by default that of such outputs with this cost."""
    each = objective.cost.outputs_per_target
    if given is None:
        classes = objective.activation.range in PROBABILITIES and each == 1
        return "classification" if classes else "regression"
    if given not in TASKS:
        raise unknown("task", given, TASKS)
    if each > 1 and given != "regression":
        raise ValueError(
            f"the cost {called(objective.cost)} takes {each} outputs for each target, which is "
            f"for task='regression', got {given!r}: classes and labels have one output each"
        )
    return given


def _check_ending(layer: Layer) -> None:
    """ValueError if it is not known whether a user's own last layer ends in its activation."""
    own = getattr(layer, "activation", None)
    has_one = isinstance(own, Activation) and type(own) is not Identity
    if has_one and layer.ends_in_activation is None:
        raise ValueError(
            f"the last layer, {type(layer).__name__}, has a forward of its own and an activation: "
            "say in its class ends_in_activation = True, if y = σ(z) with this σ, which leaves "
            "σ to the cost, or ends_in_activation = False"
        )


def without_activation(layer: Any) -> tuple[Layer, Activation]:
    """A layer that ends in z instead of σ(z), and its σ: the identity where it has none."""
    if not layer.ends_in_activation:
        return layer, Identity()
    return dataclasses.replace(layer, activation=Identity()), layer.activation


def _indices(layers: Sequence[Layer]) -> tuple[Indices, ...]:
    """Which inputs are whole numbers, for the layers that take such."""
    every = sequence.every(layers)
    taking = [(path, each, n) for path, each in every if (n := each.index_count) is not None]
    reached = dict(_reached(layers)) if taking else {}
    found: dict[int, set[int]] = {}
    whole: tuple[Indices, ...] = ()
    first = next((i for i, layer in enumerate(layers) if type(layer) not in RESHAPED), 0)
    for path, layer, count in taking:
        if path not in reached:
            raise ValueError(
                f"layer {path}, {layer}: it takes whole numbers, which only the network's inputs "
                "are: put it first, or after nothing but Flatten, Reshape or Columns, also in a "
                "branch of Concatenate"
            )
        if path == str(first):
            whole = (Indices(count),)
            continue  # those after it are not reached
        places = _places(path, layer, reached[path])
        found.setdefault(count, set()).update(places.tolist())
    return whole or tuple(Indices(n, tuple(sorted(at))) for n, at in sorted(found.items()))


def _reached(
    layers: Iterable[Layer], before: str = "", picked: tuple[Columns, ...] = ()
) -> Iterator[tuple[str, tuple[Columns, ...]]]:
    """The path of each layer that sees inputs of the network alone, and what picks them."""
    for index, layer in enumerate(layers):
        path = f"{before}{index}"
        yield path, picked
        if isinstance(layer, Nested):
            for prefix, chain in layer.chains().items():
                yield from _reached(chain, f"{path}.{prefix}", picked)
        if type(layer) is Columns:  # a user's subclass may have a forward of its own
            picked = (*picked, layer)
        elif type(layer) not in RESHAPED:
            return


def _places(path: str, layer: Layer, picked: Sequence[Columns]) -> np.ndarray:
    """Which elements of a network's flattened input a layer sees, after these `Columns`."""
    length = math.prod(layer.shape_in)
    if length > MOST_INDICES:  # a file may claim any
        raise ValueError(
            f"layer {path}, {layer}: it takes at most {MOST_INDICES:,} whole numbers beside other "
            f"numbers, got {length:,}: put it first"
        )
    places = np.arange(length)
    for columns in reversed(picked):
        places = columns.sources(places)
    return places


def bind(layers: Sequence[Any]) -> list[Layer]:
    """The layers after an `Input`, each with its input's shape."""
    if not isinstance(layers[0], Input):
        shape = getattr(layers[0], "input_shape", None) or 784
        raise ValueError(
            f"expected an Input first, got {layers[0]}: Network([bpx.layers.Input({shape}), ...])"
        )
    for index, layer in enumerate(layers[1:], 1):
        if not isinstance(layer, Layer):
            hint = hint_for_class(layer)
            if isinstance(layer, Activation | str):
                hint = ": bpx.layers.Activation(...) makes a layer of an activation"
            raise TypeError(
                f"expected a layer after Input, got {shortened(layer)} at position {index}{hint}"
            )
    if len(layers) < 2:
        raise ValueError("expected at least one layer after Input")
    return sequence.bind(layers[1:], layers[0].shape)


def warn_of_channels(layers: Sequence[Layer]) -> None:
    """A RuntimeWarning where a first `Conv2D` or `Upsample2D` seems to see channels last."""
    first = next((layer for layer in layers if isinstance(layer, Conv2D | Upsample2D)), None)
    if first is None or first.shape_in != layers[0].shape_in:
        return  # what a Reshape makes is not an image as given
    channels, height, width = first.shape_in
    if channels == height > 4 >= width:
        warn(
            f"{first} takes (m, {channels}, {height}, {width}) as images of {channels} channels, "
            f"{height} × {width}: if its channels are the last axis, put them first, "
            f"Input(({width}, {channels}, {height})) and np.moveaxis(x, -1, 1)"
        )


def warn_of_places(layers: Sequence[Layer]) -> None:
    """A RuntimeWarning where a layer would treat the positions of an `Embedding` as channels."""
    before: Layer | None = None
    for layer in layers:
        if isinstance(before, Embedding) and isinstance(layer, ALONG_PLACES):
            places, width = layer.shape_in
            warn(
                f"{layer} takes (m, {places}, {width}) of {before} as {places} channels along "
                f"{width} places: to go along the words put Permute((1, 0)) before it"
            )
        if isinstance(layer, Nested):
            for chain in layer.chains().values():
                warn_of_places(chain)
        if not isinstance(layer, Dropout):
            before = layer


def of_sizes(
    sizes: Sequence[Any], hidden: Any, output: Any, weights: Any, bias: Any
) -> list[Layer]:
    """Dense layers of these sizes; `hidden` is one activation, or one for each hidden layer."""
    integers = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sizes)
    if len(sizes) < 2 or not integers or any(n < 1 for n in sizes):
        raise ValueError(
            "expected at least two positive sizes, input and output, such as [784, 30, 10], or "
            f"an Input and layers; got {list(sizes)!r}"
        )
    count = len(sizes) - 2
    several = isinstance(hidden, list | tuple)
    each = list(hidden) if several else [ACTIVATIONS.get(hidden)] * count
    if len(each) != count:
        is_made = bool(each) and all(map(_is_function, each))
        hint = ": bpx.CustomActivation(f, slope) makes one of two functions" if is_made else ""
        raise ValueError(
            f"expected one activation for all hidden layers, or {count}, one for each, "
            f"got {len(each)}{hint}"
        )
    chosen = zip(sizes[1:], [*each, output], strict=True)
    layers = [Dense(int(n), activation, weights, bias) for n, activation in chosen]
    return bind([Input((int(sizes[0]),)), *layers])


def _is_function(one: Any) -> bool:
    return callable(one) and not isinstance(one, type | Activation)
