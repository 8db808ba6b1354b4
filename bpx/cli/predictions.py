"""Predictions as lines of text and as files, for the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.readers import Dialect
from ..ensemble import Ensemble
from ..network import Network
from ..writing import write_bytes
from .dialect import COMMAS


class Kept(NamedTuple):
    """Columns of the data that are written before the predictions: names, and text by row."""

    names: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


NONE_KEPT = Kept()


def lines(
    found: np.ndarray,
    names: Sequence[str] = (),
    end: str = "\n",
    dialect: Dialect = COMMAS,
    kept: Kept = NONE_KEPT,
) -> str:
    """One of CSV for each sample, below that of the names, if there are any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, delimiter=dialect.separator)
    if names:
        writer.writerow([*kept.names, *(_beside(name, kept.names) for name in names)])
    flat = found.reshape(len(found), -1)
    if found.dtype.kind == "f":  # in as many digits as the dtype has, not in float64's
        rows = [[str(value).replace(".", dialect.decimal) for value in row] for row in flat]
    else:
        rows = flat.tolist()
    if kept.names:
        rows = [[*cells, *row] for cells, row in zip(kept.rows, rows, strict=True)]
    writer.writerows(rows)
    return text.getvalue()


def _beside(name: str, kept: Sequence[str]) -> str:
    """What is predicted for a target that is kept too has another name."""
    while name in kept:
        name = f"predicted_{name}"
    return name


def write(
    path: Path, found: np.ndarray, names: Sequence[str], dialect: Dialect, kept: Kept
) -> None:
    """A .npy file, or a .csv file whose first line has the names."""
    if path.suffix.lower() == ".npy":
        content = io.BytesIO()
        np.save(content, found)
        write_bytes(path, content.getvalue())
    else:
        write_bytes(path, lines(found, names, "\r\n", dialect, kept).encode())


def headings(net: Network | Ensemble, found: np.ndarray, outputs: bool) -> list[str]:
    """Those of what a network predicts, or of its outputs: its targets' or its classes'."""
    k = found[0].size
    probabilities = outputs and net.task == "classification"
    if probabilities and (net.classes or k == 1):
        known = net.classes or (0, 1)
        # A single output is the probability of the second class. A number as a name would be
        # taken for a row without a line of names above it.
        return [name if isinstance(name, str) else f"class_{name}" for name in known[-k:]]
    names = net.target_columns
    if names is not None and len(names) == k:
        return [*names]
    if names is not None and net.task == "regression":  # which has several outputs about each
        return [f"{name}_{index}" for index in range(k // len(names)) for name in names]
    kind = "class" if probabilities else "output" if net.task == "regression" else "label"
    return [kind] if k == 1 else [f"{kind}_{index}" for index in range(k)]
