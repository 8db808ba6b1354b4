"""From a few words to a network, an optimizer and what goes with them, for the command line."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layers, optimizers, schedules
from ..activations import Identity
from ..architecture import Architecture
from ..augmentation import Augmentation, Crop, Elastic, Flip, Noise, Rotate, Shift
from ..callbacks import Callback, EarlyStopping, ReduceOnPlateau, WeightAveraging
from ..chain import Chain
from ..costs import COSTS, PROBABILITIES, GaussianNLL, Quadratic
from ..data.values import first_not_finite
from ..ensemble import Ensemble
from ..network import Network
from ..registry import canonical, unknown
from .samples import BUILT_IN, Part

FUNCTIONS = {cls.__name__.lower(): cls for cls in (Crop, Elastic, Flip, Noise, Rotate, Shift)}


def learned(
    net: Network, parts: list[Part], own_scale: bool
) -> tuple[list[Part], layers.Rescale | None]:
    """The parts with the targets that the network learns, and the layer that undoes the scaling.

    If a regression's outputs are unbounded, these targets have mean 0 and standard deviation 1.
    """
    linear = type(net.chain.objective.activation) is Identity
    if own_scale or net.task != "regression" or not linear:
        return parts, None
    for _, y in parts:
        if first_not_finite(y, net.chain.largest_number) is not None:
            raise ValueError(
                f"the targets have numbers that {net.dtype} does not hold: scale them, or pass "
                "--dtype float64"
            )
    y = parts[0][1].reshape(len(parts[0][1]), -1).astype(np.float64)
    there = layers.Rescale.standardizing(y)
    scale, offset = np.array(there.scale), np.array(there.offset)
    scaled = [(x, y.reshape(len(y), -1) * scale + offset) for x, y in parts]
    std, mean = 1.0 / scale, -offset / scale
    if type(net.cost) is GaussianNLL:  # ln (std² σ²) is ln σ² + 2 ln std
        mean = np.concatenate([mean, 2.0 * np.log(std)])
        std = np.concatenate([std, np.ones(len(std))])
    return scaled, layers.Rescale(tuple(std), tuple(mean))


def weights(class_weight: str | None, y: np.ndarray, task: str) -> np.ndarray | None:
    """Of the samples with labels y, or rows with a single 1: n / (k · those of the same class).

    Raises
    ------
    ValueError
        For another task than classification.
    """
    if class_weight is None:
        return None
    if task != "classification":
        raise ValueError(
            f"--class-weight is for a classification, and the task is {task}: leave it out, or "
            "pass --task classification"
        )
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found: np.ndarray = len(y) / (len(counts) * counts[places])
    return found


def too_large(net: Network | Ensemble) -> str:
    """The end of a message about outputs that are not finite."""
    return (
        f"are not finite: its numbers are too large for this network and {net.dtype}; scale them "
        "like those that it was trained on"
    )


def followed_by(net: Network, layer: layers.Layer | None) -> Network:
    """The network with one more layer, which has no parameters, or itself."""
    if layer is None:
        return net
    bound = layers.sequence.bind([*net.layers, layer], net.input_shape)
    vectors = map(net.backend.to_host, (net.parameters, net.state))
    described = Architecture(bound, net.cost, net.task)
    chain = Chain(described, net.backend, net.dtype, net.chain.key, *vectors)
    twin = Network.of(chain, net.generator, net.steps, net.epochs)
    twin.names = net.names
    return twin


def task(cost: str | None) -> str | None:
    """The task that a cost decides: one that is not for classes is for values.

    For classes are the quadratic cost and those on probabilities alone.
    """
    if cost is None or isinstance(found := COSTS.get(cost), Quadratic):
        return None
    return None if found.outputs is not None and found.outputs <= PROBABILITIES else "regression"


def learning_rate(optimizer: str, task: str, scaled: bool) -> float:
    """The default; a regression's targets may be `scaled`, or else the columns of a table."""
    values = task == "regression"
    if canonical(optimizer) != "sgd":
        return 0.003 if scaled or values else 0.001
    if not values:
        return 0.5
    return 0.1 if scaled else 0.01


# Schedules by a rate and a run's steps. Over these some are laid out, so that none can be added.
LAID_OUT: dict[str, Callable[[float, int], Any]] = {
    "step": lambda rate, steps: schedules.StepDecay(rate, max(1, steps // 3), 0.1),
    "exponential": lambda rate, steps: schedules.Exponential(rate, steps, 0.01),
    "cosine": lambda rate, steps: schedules.Cosine(rate, steps),
    "warm-up": lambda rate, steps: schedules.WarmUp(max(1, steps // 10), rate),
    "one-cycle": lambda rate, steps: schedules.OneCycle(rate, steps),
}
ENDLESS: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda rate, steps: rate,
    "plateau": lambda rate, steps: rate,  # and a callback
    "inverse-scaling": lambda rate, steps: schedules.InverseScaling(rate),
}


def optimizer(
    name: str, rate: float, momentum: float, nesterov: bool, schedule: str, steps: int
) -> optimizers.Optimizer:
    """The optimizer of that name, with `rate` or a schedule that goes from it over `steps` steps.

    Raises
    ------
    ValueError
        An unknown optimizer or schedule, or momentum for one that has none.
    """
    shapes = LAID_OUT | ENDLESS
    if schedule not in shapes:
        raise unknown("schedule", schedule, shapes)
    eta = shapes[schedule](rate, steps)
    name = canonical(name)
    if name == "sgd" and nesterov and not momentum:
        raise ValueError("--nesterov needs a momentum, such as --momentum 0.9")
    if name == "sgd":
        return optimizers.SGD(eta, momentum=momentum, nesterov=nesterov)
    if momentum or nesterov:
        raise ValueError("momentum and nesterov are for sgd")
    return optimizers.OPTIMIZERS.get({"name": name, "learning_rate": eta})


def callbacks(
    patience: int | None, average_from: int | None, epochs: int, schedule: str
) -> list[Callback]:
    """What stops early, averages, and lowers the rate on a plateau, if they are asked for."""
    found: list[Callback] = []
    if patience is not None:
        found.append(EarlyStopping(patience, restore_best=average_from is None))
    if average_from is not None and average_from > epochs:
        raise ValueError(
            f"expected --average-from to be one of {epochs} epochs, got {average_from}"
        )
    if average_from is not None:
        found.append(WeightAveraging(average_from))
    if schedule == "plateau":
        found.append(ReduceOnPlateau())
    return found


def augment(text: str, data: str) -> list[Augmentation]:
    """Functions on the images of `data`, such as ``"shift=1,elastic=34:4,flip"``."""
    if data not in BUILT_IN:
        raise ValueError(f"--augment is for {' and '.join(BUILT_IN)}, whose samples are images")
    found = []
    for part in text.split(","):
        name, _, values = part.strip().partition("=")
        cls: Any = FUNCTIONS.get(canonical(name))
        if cls is None:
            raise unknown("function", name, FUNCTIONS)
        given = [_value(value) for value in values.split(":") if value]
        if len(given) > len(dataclasses.fields(cls)) - 1:
            raise ValueError(f"--augment {part}: {cls.__name__} does not take so many numbers")
        found.append(cls(*given, shape=BUILT_IN[data]))
    return found


def _value(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def sizes(text: str) -> list[int]:
    """Layer sizes from ``"256,128"``; ValueError if they are not integers."""
    if text.strip().lower() in ("0", "none"):
        raise ValueError(f'expected sizes such as 256,128, got {text!r}: for none of them ""')
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        raise ValueError(f"expected hidden sizes such as 100 or 256,128, got {text!r}") from None
