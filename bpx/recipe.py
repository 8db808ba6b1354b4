"""From data and a few words to parts, a network and an optimizer, for the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from . import datasets, layers, optimizers, schedules, tables
from .activations import Identity
from .architecture import TASKS
from .augmentation import Augmentation, Crop, Elastic, Flip, Noise, Rotate, Shift
from .blocks import Blocks, open_data
from .callbacks import Callback, EarlyStopping, ReduceOnPlateau
from .checks import count_of_bytes, shortened
from .data import generator
from .ensemble import Ensemble
from .network import Network
from .registry import canonical, nearest

Part = tuple[np.ndarray, np.ndarray]

LIKE_CLASSES = 20  # different whole numbers, at most
BUILT_IN = {"digits": (8, 8), "mnist": (28, 28)}  # data, and what their images are
FUNCTIONS = {cls.__name__.lower(): cls for cls in (Crop, Elastic, Flip, Noise, Rotate, Shift)}


def parts(
    data: str, target: str | None, seed: int, budget: int | str
) -> tuple[list[Part], tables.Names | None]:
    """(x, y) to train, to validate and to test on; files are split 8 : 1 : 1 at random.

    And the names of a table's columns. What is larger than the budget is trained on in blocks,
    with 10,000 samples held out at most.
    """
    size = count_of_bytes("budget", budget)
    if data in BUILT_IN:
        if target is not None:
            raise ValueError(f"--target is for files; {data} has its own labels")
        dataset = datasets.digits() if data == "digits" else datasets.mnist()
        return [(x, y) for x, y in dataset], None
    if not Path(data).suffix:
        raise ValueError(
            f"unknown data {data!r}{nearest(data, list(BUILT_IN))}, or a .npz, .csv or .parquet "
            "file"
        )
    if Path(data).is_file() and tables.size(Path(data)) > size:
        return _in_blocks(data, target, seed, size)
    x, y, names = tables.read(Path(data), target, budget=size)
    assert y is not None
    n = len(x)
    if n < 10:
        raise ValueError(f"{data} has {n} samples; at least 10 are split into three parts")
    x = x.reshape(n, -1)  # images as vectors
    order = generator(seed).permutation(n)
    cuts = (order[: 8 * n // 10], order[8 * n // 10 : 9 * n // 10], order[9 * n // 10 :])
    return [(x[rows], y[rows]) for rows in cuts], names


def _in_blocks(
    data: str, target: str | None, seed: int, budget: int
) -> tuple[list[Part], tables.Names | None]:
    samples = _opened(data, target, budget)
    names = tables.names_of(samples, tables.target_names(Path(data), target, None))
    samples.flatten()
    draw, few = generator(seed), min(samples.n // 10, 10_000)
    rest, test = samples.hold_out(few, draw)
    rest, validation = rest.hold_out(few, draw)
    return [(_without_y(rest), rest.y), validation, test], names


def _opened(
    data: str,
    target: str | None,
    budget: int,
    labelled: bool = True,
    columns: tuple[str, ...] | None = None,
    classes: Any = None,
) -> Blocks:
    if Path(data).suffix.lower() not in tables.TABLES:
        columns = None  # arrays have no names
        classes = None
    targets = tables.target_names(Path(data), target, columns)
    samples = open_data(data, target=targets, columns=columns, classes=classes, budget=budget)
    if labelled and samples.y is None:
        raise ValueError(
            f"{data} is read in blocks, and has no targets: --target names the column of a "
            ".parquet or .csv file, or the array of a .npz that is not y"
        )
    return samples


def _without_y(data: Blocks) -> Blocks:
    return Blocks(data.reader, None, None, data.budget, data.kept)


def samples_in(
    net: Network | Ensemble,
    path: Path,
    target: str | None,
    budget: int | str,
    *,
    labelled: bool = True,
) -> tuple[Any, Any]:
    """x as the network takes it, and y, of all samples in a file.

    What is larger than the budget is read in blocks. Of a table x are the columns that the network
    was trained on, by their names, and y those that it has learned, where `target` names no other.
    """
    columns, is_table = net.columns, path.suffix.lower() in tables.TABLES
    if labelled and target is None and is_table and net.target_columns is not None:
        target = ",".join(net.target_columns)
    size, known = count_of_bytes("budget", budget), _names_of_classes(net) if labelled else None
    if path.is_file() and tables.size(path) > size:
        data = _opened(str(path), target, size, labelled, columns, known)
        if len(net.input_shape) == 1:
            data.flatten()
        if labelled:
            _check_names(path, data.classes, known)
        return _without_y(data), _labels(net, data.y, path) if labelled else None
    asked: dict[str, Any] = {"labelled": labelled, "columns": columns, "classes": known}
    x, y, names = tables.read(path, target, budget=size, **asked)
    if labelled and names is not None:
        _check_names(path, names.classes, known)
    return shaped(net, x), _labels(net, y, path) if labelled else None


def _names_of_classes(net: Network | Ensemble) -> tuple[str, ...] | None:
    names = tuple(name for name in net.classes or () if isinstance(name, str))
    return names or None


def _labels(net: Network | Ensemble, y: Any, path: Path) -> Any:
    """y, or where the network's classes are integers the labels that they have there."""
    numbers = np.array([name for name in net.classes or () if not isinstance(name, str)], np.int64)
    if not len(numbers) or np.ndim(y) != 1:
        return y
    order = np.argsort(numbers)
    places = np.searchsorted(numbers, y, sorter=order).clip(max=len(numbers) - 1)
    wrong = numbers[order[places]] != y
    if wrong.any():
        raise ValueError(
            f"{path}: {np.asarray(y)[wrong][0]} is none of the network's classes: "
            f"{', '.join(map(str, numbers[:40]))}"
        )
    return order[places]


def _check_names(path: Path, got: tuple[str, ...] | None, known: tuple[str, ...] | None) -> None:
    """ValueError where targets are names, which the network has never heard."""
    if got and not known:
        raise ValueError(
            f"{path}: the targets are names of classes, such as {shortened(got[0])}, and the "
            "network has none: number them 0, 1, 2, ... as in its training"
        )


def _sample(parts: list[Part]) -> np.ndarray:
    """Inputs in memory, for their shape, mean and deviation."""
    return parts[1 if isinstance(parts[0][0], Blocks) else 0][0]


def task(
    parts: list[Part], asked: str | None, names: tables.Names | None = None
) -> tuple[str, int, str | None]:
    """The task and the number of outputs that targets ask for, and what is in doubt there."""
    y = np.concatenate([y for _, y in parts])
    if names is not None and names.classes is not None:
        return "classification", _of_names(names.classes, len(y), asked), None
    if asked is not None:
        return asked, _outputs(y, asked), None
    if y.ndim == 2 and ((y == 0) | (y == 1)).all():
        return _of_marks(y)
    # Whole numbers are labels where they are 0 … k−1, each of them seen, and few.
    few = np.unique(y) if _are_whole(y) else np.zeros(0)
    if not 2 <= len(few) <= len(y) / 2:
        doubt = "all targets are alike, so that there is nothing to learn"
        return "regression", _outputs(y, "regression"), doubt if (y == y[0]).all() else None
    if np.array_equal(few, np.arange(len(few))):
        return "classification", _outputs(y, "classification"), None
    doubt = (
        f"the targets are {len(few)} whole numbers from {few[0]} to {few[-1]}, which are learned "
        f"as quantities; if they are classes, number them 0 to {len(few) - 1}"
    )
    return "regression", _outputs(y, "regression"), doubt if len(few) <= LIKE_CLASSES else None


def _of_marks(y: np.ndarray) -> tuple[str, int, str]:
    """As `task`, for columns of 0 and 1."""
    k = y.shape[1]
    if _are_one_hot(y):
        doubt = (
            f"each row of the targets has a single 1 in {k} columns, which are learned as classes "
            f"0 to {k - 1}; --task decides otherwise"
        )
        return "classification", k, doubt
    doubt = (
        f"the targets are 0 and 1 in {k} columns, which are learned as quantities; if each is a "
        "no or a yes, --task multilabel"
    )
    return "regression", k, doubt


def _of_names(classes: tuple[str, ...], n: int, asked: str | None) -> int:
    """How many classes a column of text has, in n rows."""
    if asked not in (None, "classification"):
        raise ValueError(
            f"--task {asked} needs numbers, and the targets are text, such as "
            f"{shortened(classes[0])}"
        )
    if not 2 <= len(classes) <= n / 2:
        raise ValueError(
            f"expected names of classes, at least two and each of them more than once, got "
            f"{len(classes)} different texts in {n} rows, such as {shortened(classes[0])}: "
            "--target names another column"
        )
    return len(classes)


def _are_one_hot(y: np.ndarray) -> bool:
    """Each row has a 1 in the column of its class, and else 0."""
    return y.ndim == 2 and bool((((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1)).all())


def _are_whole(y: np.ndarray) -> bool:
    return y.ndim == 1 and y.dtype.kind in "biu"


def _outputs(y: np.ndarray, task: str) -> int:
    """How many there are, once the targets fit the task."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}{nearest(task, list(TASKS))}")
    if task != "classification":
        return 1 if y.ndim == 1 else y.shape[1]
    if _are_one_hot(y):
        return int(y.shape[1])
    if not _are_whole(y):
        several = "" if y.ndim == 1 else f", got {y.shape[1]} that are not: --task multilabel"
        raise ValueError(
            "a classification needs a column of whole numbers, 0 to k-1, or columns with a single "
            f"1 in each row{several}"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= len(y) or high == 0:
        raise ValueError(
            f"expected labels 0 to k-1 of at least two classes, got {low} to {high} in "
            f"{len(y)} samples: --task regression for numbers"
        )
    return high + 1


def network(
    parts: list[Part],
    names: tables.Names | None,
    outputs: int,
    hidden: list[int],
    activation: str,
    output: str | None,
    cost: str | None,
    dropout: float,
    task: str,
    own_scale: bool,
    **options: Any,
) -> Network:
    """A network whose inputs and outputs fit the data."""
    default = {"classification": "softmax", "multilabel": "sigmoid", "regression": "identity"}
    output = output or default[task]
    if task == "regression":
        cost = cost or "quadratic"  # whatever the outputs; a classification's goes by them
    x = _sample(parts)
    chain: list[Any] = [layers.Input(x.shape[1:])]
    if not own_scale:
        chain.append(layers.Rescale.standardizing(x))
    for units in hidden:
        chain.append(layers.Dense(units, activation))  # type: ignore[arg-type]  # by name
        if dropout:
            chain.append(layers.Dropout(dropout))
    chain.append(layers.Dense(outputs, output))  # type: ignore[arg-type]  # by name
    net = Network(chain, cost=cost, task=task, **options)
    if names is not None:
        net.columns, net.target_columns, net.classes = names
    return net


def learned(
    net: Network, parts: list[Part], own_scale: bool
) -> tuple[list[Part], layers.Rescale | None]:
    """The parts with the targets that the network learns, and the layer that undoes it.

    Where a regression's outputs are of any size, they have mean 0 and standard deviation 1.
    """
    linear = type(net.chain.objective.activation) is Identity
    if own_scale or net.task != "regression" or not linear:
        return parts, None
    y = parts[0][1].reshape(len(parts[0][1]), -1).astype(np.float64)
    there = layers.Rescale.standardizing(y)
    scale, offset = np.array(there.scale), np.array(there.offset)
    scaled = [(x, y.reshape(len(y), -1) * scale + offset) for x, y in parts]
    return scaled, layers.Rescale(tuple(1.0 / scale), tuple(-offset / scale))


def shaped(net: Network | Ensemble, x: np.ndarray) -> np.ndarray:
    """Samples as the network takes them: images as vectors, where the numbers are as many."""
    fits = math.prod(x.shape[1:]) == math.prod(net.input_shape)
    return x.reshape(-1, *net.input_shape) if fits else x


def too_large(net: Network | Ensemble) -> str:
    """The end of a message about outputs that are not finite."""
    return (
        f"are not finite: its numbers are too large for this network and {net.dtype}; scale them "
        "as those that it was trained on"
    )


def followed_by(net: Network, layer: layers.Layer | None) -> Network:
    """The network with one more layer, which has no parameters, or itself."""
    if layer is None:
        return net
    chain = [layers.Input(net.input_shape), *net.layers, layer]
    twin = Network(chain, cost=net.cost, task=net.task, dtype=net.dtype, backend=net.backend)
    twin.parameters[...], twin.state[...] = net.parameters, net.state
    twin.chain.key, twin.generator = net.chain.key, net.generator
    twin.steps, twin.epochs = net.steps, net.epochs
    twin.columns, twin.target_columns = net.columns, net.target_columns
    return twin


def learning_rate(optimizer: str, task: str, scaled: bool) -> float:
    """Where none is given; a regression's targets may be scaled."""
    if canonical(optimizer) != "sgd":
        return 0.001
    if task != "regression":
        return 0.5
    return 0.1 if scaled else 0.01


def optimizer(
    name: str, rate: float, momentum: float, nesterov: bool, schedule: str, steps: int
) -> optimizers.Optimizer:
    """The optimizer of that name, with `rate` or a schedule that goes from it over so many steps.

    Raises
    ------
    ValueError
        An unknown optimizer or schedule, or momentum for one that has none.
    """
    shapes: dict[str, Any] = {
        "constant": rate,
        "plateau": rate,  # and a callback
        "step": lambda: schedules.StepDecay(rate, max(1, steps // 3), 0.1),
        "exponential": lambda: schedules.Exponential(rate, steps, 0.01),
        "cosine": lambda: schedules.Cosine(rate, steps),
        "warm-up": lambda: schedules.WarmUp(max(1, steps // 10), rate),
        "one-cycle": lambda: schedules.OneCycle(rate, steps),
        "inverse-scaling": lambda: schedules.InverseScaling(rate),
    }
    if schedule not in shapes:
        raise ValueError(f"unknown schedule {schedule!r}{nearest(schedule, list(shapes))}")
    shape = shapes[schedule]
    eta = shape() if callable(shape) else shape
    name = canonical(name)
    if name == "sgd":
        return optimizers.SGD(eta, momentum=momentum, nesterov=nesterov)
    if momentum or nesterov:
        raise ValueError("momentum and nesterov are for sgd")
    cls = optimizers.OPTIMIZERS.builtin.get(name)
    if cls is None:
        known = list(optimizers.OPTIMIZERS.builtin)
        raise ValueError(f"unknown optimizer {name!r}{nearest(name, known)}")
    made: optimizers.Optimizer = cls(eta)
    return made


def callbacks(patience: int | None, schedule: str) -> list[Callback]:
    """What stops early, and what lowers the rate on a plateau, where they are asked for."""
    found: list[Callback] = [] if patience is None else [EarlyStopping(patience)]
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
            raise ValueError(f"unknown function {name!r}{nearest(name, list(FUNCTIONS))}")
        given = [_value(value) for value in values.split(":") if value]
        if len(given) > len(dataclasses.fields(cls)) - 1:
            raise ValueError(f"--augment {part}: {cls.__name__} has not so many numbers")
        found.append(cls(*given, shape=BUILT_IN[data]))
    return found


def _value(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def sizes(text: str) -> list[int]:
    """Layer sizes from ``"256,128"``; ValueError where they are no integers."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"expected hidden sizes such as 100 or 256,128, got {text!r}") from None
