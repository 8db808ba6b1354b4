"""Labels that are names of classes, which become the numbers 0, 1, ... of a network's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .architecture import Architecture
from .backends import of
from .checks import MEND, shortened
from .registry import nearest


def learned(y: Any, architecture: Architecture) -> tuple[Any, ...] | None:
    """The names in `y`, in sorted order, as the classes of a network; None if it has no names.

    Raises
    ------
    ValueError
        They are not as many as the classes that the outputs tell apart.
    """
    names = _names(y) if architecture.task == "classification" else None
    if names is None:
        return None
    found = sorted({name for name in names if isinstance(name, str)})
    check_count(found, architecture, "net.classes = [...]")
    return architecture.check_classes(found)


def check_count(found: Sequence[str], architecture: Architecture, mend: str) -> None:
    """ValueError unless these names are as many as the classes that the outputs tell apart."""
    outputs = architecture.output_shape[0]
    count = max(outputs, 2)  # one sigmoid output tells two classes apart
    if len(found) > count:
        raise ValueError(
            f"y has {len(found)} classes, {shortened([*found])}, and the network {outputs} "
            f"output{'s' * (outputs > 1)}: give it an output for each"
        )
    if len(found) < count:
        raise ValueError(
            f"expected names of {count} classes in y, got {len(found)}, {shortened([*found])}: "
            f"name them all, {mend}, or give the network an output for each that there is"
        )


def numbered(y: Any, classes: Sequence[Any] | None, what: str = "y") -> Any:
    """`y`, or if it has names, and the classes are known, the place of each name in `classes`.

    Raises
    ------
    ValueError
        A name is not one of them, or missing.
    """
    names = None if classes is None else _names(y)
    if classes is None or names is None:
        return y
    numbers = {name: number for number, name in enumerate(classes)}
    found = np.fromiter((numbers.get(name, -1) for name in names), np.int64, len(names))
    if found.min() >= 0:
        return found
    row = int(np.argmin(found))
    wrong = names[row]
    if not isinstance(wrong, str):
        raise ValueError(
            f"expected the name of a class in {what}, got {shortened(wrong)} in row {row}: {MEND}"
        )
    known = [*classes]
    hint = nearest(wrong, known) if isinstance(known[0], str) else f": {shortened(known)}"
    raise ValueError(
        f"{shortened(wrong)} in row {row} of {what} is not one of the network's classes{hint}"
    )


def _names(y: Any) -> list[Any] | None:
    """A vector of text as a list, of which some may be missing; None if there is no text."""
    if getattr(getattr(y, "dtype", None), "kind", "O") not in "OTU":
        return None
    library = of(y)
    if library is not None and library.name != "numpy":
        return None
    try:
        host = np.asarray(y)
    except (TypeError, ValueError):  # no array of anything
        return None
    if host.ndim != 1 or host.dtype.kind not in "OTU":
        return None
    names = host.tolist()
    return names if any(isinstance(name, str) for name in names) else None
