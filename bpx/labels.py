"""Names that fit a network: of its columns, its targets and its classes, which may be the labels.

Labels that are names of classes become the numbers 0, 1, ... of a network's outputs.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from .architecture import Architecture
from .backends import Array, get, of, on_host
from .checks import (
    FILL_IN,
    FOR_CLASSES,
    LONGEST,
    different_names,
    flag,
    last_word,
    shortened,
    warn,
)
from .data.arrays import class_count
from .names import Names
from .registry import nearest


def check_names(architecture: Architecture, names: Names) -> Names:
    """The same as tuples; ValueError or TypeError if they do not fit."""
    columns, targets, classes = names
    inputs, counts = architecture.input_shape, architecture.target_counts
    if targets is not None:
        targets = different_names("target_columns", targets)
        labelled = architecture.task == "classification"
        if len(targets) not in counts and not (labelled and len(targets) == 1):
            wanted = " or ".join(map(str, counts))
            labels = ", or one of labels" if labelled else ""
            raise ValueError(
                f"expected target_columns to be {wanted} names{labels}, got "
                f"{shortened([*targets])}"
            )
    if columns is not None:
        columns = different_names("columns", columns)
        if inputs != (len(columns),):
            raise ValueError(
                f"expected column names for inputs of shape {inputs}, got {len(columns)}"
            )
    if classes is not None:
        classes = check_classes(architecture, classes)
    return Names(columns, targets, classes)


def check_classes(architecture: Architecture, names: Any) -> tuple[str, ...] | tuple[int, ...]:
    """`names` as a tuple: a different string, or a different integer, for each class.

    Raises
    ------
    ValueError
        The task is not classification, or there is not one for each class.
    TypeError
        Neither all strings nor all integers.
    """
    if architecture.task != "classification":
        raise ValueError(
            f"classes= is for a classification, and this network's task is {architecture.task!r}: "
            "leave it out"
        )
    ordered = isinstance(names, Iterable) and not isinstance(names, str | bytes | Mapping | Set)
    found = tuple(names) if ordered else ()
    strings = all(isinstance(name, str) for name in found)
    integers = all(
        isinstance(name, numbers.Integral) and not isinstance(name, bool) for name in found
    )
    if strings and any(len(name) > LONGEST for name in found):
        raise ValueError(f"expected names of classes of at most {LONGEST:,} characters")
    if integers and not all(-(2**63) <= number < 2**63 for number in found):
        raise ValueError("expected classes to be integers that fit in 64 bits")
    if not ordered or not (strings or integers):
        raise TypeError(
            'expected classes to be a list of strings, such as ["cat", "dog"], or of '
            f"integers, got {shortened(names)}"
        )
    count = class_count(architecture.output_shape[0])
    if len(found) != count or len(set(found)) != count:
        raise ValueError(f"expected {count} different classes, got {shortened([*found])}")
    return found if strings else tuple(map(int, found))


def learned(
    y: Any, of_data: Sequence[str] | None, architecture: Architecture, trained: bool
) -> tuple[Any, ...] | None:
    """The names in `y`, in sorted order, as the classes of a network; None if it has no names.

    Parameters
    ----------
    of_data : sequence of str, optional
        The names that the numbers in y stand for, in data on disk.
    trained : bool
        Whether the network has learned numbers already, in an order of their own.

    Raises
    ------
    ValueError
        It has; or the task is no classification; or the names are not as many as the classes that
        the outputs tell apart, or one is missing.
    """
    names, hint = _names(y), "net.classes = [...]"
    if of_data is not None:
        found, hint = [*of_data], "open_data(..., classes=[...])"
    elif names is None:
        return None
    else:
        check_targets(y, architecture.task, "y")
        _check_strings(names, "y")
        found = sorted(set(names))
    if architecture.task != "classification":
        raise ValueError(
            f"the targets are names, such as {shortened(found[0])}, and the network's task is "
            f"{architecture.task!r}: {FOR_CLASSES}"
        )
    if trained:
        raise ValueError(
            "y has names of classes, and the network has learned only numbers: name them, in the "
            "order of its labels, with net.classes = [...]"
        )
    _check_count(found, architecture, hint)
    return check_classes(architecture, found)


def _check_count(found: Sequence[str], architecture: Architecture, hint: str) -> None:
    """ValueError unless these names are as many as the classes that the outputs tell apart."""
    outputs = architecture.output_shape[0]
    count = class_count(outputs)
    if len(found) > count:
        raise ValueError(
            f"y has {len(found)} classes, {shortened([*found])}, and the network {outputs} "
            f"output{'s' * (outputs > 1)}: give it an output for each"
        )
    if len(found) < count:
        raise ValueError(
            f"expected names of {count} classes in y, got {len(found)}, {shortened([*found])}: "
            f"name them all, {hint}, or give the network an output for each that there is"
        )


def check_targets(y: Any, task: str, what: str) -> None:
    """TypeError if `y` is text, and the task has numbers."""
    names = None if task == "classification" else _names(y)
    if names is None:
        return
    text = next(name for name in names if isinstance(name, str))
    hint = FOR_CLASSES
    if task == "multilabel":
        hint = "give it a column of 0 and 1 for each label"
    else:
        with contextlib.suppress(ValueError):
            float(text)
            hint = f"np.asarray({last_word(what)}).astype(float)"
    raise TypeError(
        f"{what} must be numbers, as the network's task is {task!r}, got {shortened(text)}: {hint}"
    )


def _check_strings(names: Sequence[Any], what: str) -> None:
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(
                f"expected the name of a class in {what}, got {shortened(name)} in row {row}: "
                f"{FILL_IN}"
            )


def numbered(y: Any, classes: Sequence[Any] | None, what: str) -> Any:
    """`y`, or if it has names, and the classes are known, the place of each name in `classes`.

    Raises
    ------
    ValueError
        A name is not one of them, or missing.
    """
    names = None if classes is None else _names(y)
    if classes is None:
        return y
    if names is None:
        _warn_of_places(y, classes, what)
        return y
    places = {name: place for place, name in enumerate(classes)}
    found = np.fromiter((places.get(name, -1) for name in names), np.int64, len(names))
    if found.min() >= 0:
        return found
    _check_strings(names, what)
    row = int(np.argmin(found))
    wrong = names[row]
    known = [*classes]
    hint = nearest(wrong, known) if isinstance(known[0], str) else f": {shortened(known)}"
    raise ValueError(
        f"{shortened(wrong)} in row {row} of {what} is not one of the network's classes{hint}"
    )


def _warn_of_places(y: Any, classes: Sequence[Any], what: str) -> None:
    """A RuntimeWarning if each integer in `y` is a name of `classes` too, at another place.

    Names that are text in one file may be numbers in the next: 1, the place of "2", is then "1".
    """
    moved = {name for place, name in enumerate(classes) if name != str(place)}
    if not any(isinstance(name, str) and name.isdecimal() for name in moved):
        return
    host = on_host(y)
    with contextlib.suppress(ValueError):  # no array of anything
        host = np.asarray(host)
    if getattr(host, "ndim", 0) != 1 or host.dtype.kind not in "iu":
        return
    found = {*map(str, np.unique(host))}
    if found <= {*classes} and found & moved:
        warn(
            f"the integers in {what} are taken for places in the network's classes, "
            f"{shortened([*classes])}, and not for these names, which are text: pass names, "
            f"np.asarray({last_word(what)}).astype(str), or to be clear np.array(net.classes)[y]"
        )


def as_classes(labels: Array, classes: Sequence[Any] | None, names: bool = True) -> Array:
    """What labels (m,) stand for, as a NumPy array, if `names` asks for it.

    Raises
    ------
    ValueError
        That is not known.
    TypeError
        `names` is not True or False.
    """
    if not flag("names", names):
        return labels
    if classes is None:
        raise ValueError(
            "no names of classes are known, as where the targets are 0, 1, ...: leave names=True "
            "out for these numbers, pass names as y to the first fit, or set net.classes"
        )
    return np.array(classes)[get(labels).to_host(labels)]


def _names(y: Any) -> list[Any] | None:
    """A vector of text as a list, of which some may be missing; None if there is no text."""
    if getattr(getattr(y, "dtype", None), "kind", "O") not in "OTU":
        return None
    library = of(y)
    if library is not None and library.name != "numpy":
        return None
    try:
        # NumPy would make text of what is missing in a list, or of a number.
        host = np.asarray(y, dtype=object if isinstance(y, list | tuple) else None)
    except (TypeError, ValueError):  # no array of anything
        return None
    if host.ndim != 1 or host.dtype.kind not in "OTU":
        return None
    names = host.tolist()
    return names if any(isinstance(name, str) for name in names) else None
