"""Missing cells of x, for the command line: they get the mean of their column in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..checks import shortened
from ..data.readers import Inputs
from ..ensemble import Ensemble
from ..frames import column
from ..layers import Rescale
from ..network import Network
from .console import note

MEAN = "mean"
OPTION = f"--missing {MEAN}"


def are_filled(missing: str | None) -> bool:
    """What --missing says; ValueError if it is neither left out nor `MEAN`."""
    if missing not in (None, MEAN):
        raise ValueError(f"expected {OPTION}, got {missing!r}")
    return missing is not None


def note_unknown(path: Path, inputs: Inputs) -> None:
    """Say which texts were in no row of training, and so are taken as missing."""
    for name, categories in inputs.text.items():
        if unknown := sorted(categories.unknown):
            note(
                f"{path}: the network was not trained on {len(unknown):,} of the values of column "
                f"{shortened(name)}, such as {shortened(unknown[0])}: they are taken as missing"
            )


def means(x: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Those of x (n, k), over what is there; ValueError if nothing is.

    `columns` are those of a table that the inputs come from.
    """
    if (empty := np.isnan(x).all(axis=0)).any():
        names = ", ".join(column(int(k), columns) for k in np.flatnonzero(empty))
        has, it = ("has", "it") if empty.sum() == 1 else ("have", "them")
        raise ValueError(
            f"{names} of x {has} no value in the rows that are trained on: leave {it} out"
        )
    note_filled(x, "that are trained on", columns)
    return np.asarray(np.nanmean(x, axis=0, dtype=np.float64))


def note_filled(x: np.ndarray, which: str, columns: Sequence[str]) -> None:
    """Say in how many rows something is missing, and in which column most; see `means`."""
    missing = np.isnan(x).reshape(len(x), -1)
    if missing.any():
        counts = missing.sum(axis=0)
        note(
            f"{int(missing.any(axis=1).sum()):,} of the {len(x):,} rows {which} have missing "
            f"cells, {counts.max():,} of them in {column(int(counts.argmax()), columns)}: they "
            "get the mean of their column in training"
        )


def means_of(net: Network | Ensemble) -> np.ndarray:
    """Those of the data that the network was trained on, which its first layer subtracts.

    Raises
    ------
    ValueError
        It does not standardize its inputs, each by its own mean.
    """
    first = (net.members[0] if isinstance(net, Ensemble) else net).layers[0]
    if not isinstance(first, Rescale) or not isinstance(first.offset, tuple) or first.axis != -1:
        raise ValueError(
            f"{OPTION} takes the means that a network standardizes by, as bpx train keeps them, "
            "and this one does not: fill the cells"
        )
    found: np.ndarray = -first.offsets() / first.scales()
    return found


def filled(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """x (n, k), or a copy in which NaN is the number of its column."""
    missing = np.isnan(x)
    return np.where(missing, by.astype(x.dtype), x) if missing.any() else x
