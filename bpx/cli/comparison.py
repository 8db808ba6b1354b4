"""Runs beside each other: what they came to, and the options in which they differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import printable
from ..history import History
from .runs import Result
from .spelling import as_typed

ELSEWHERE = "overwrite", "save_every", "progress", "separator", "decimal"  # of no influence
FILES = "data", "validation", "test"
BEST = "validation_cost", "validation_accuracy"  # columns of a history
TEST = {"accuracy": "test accuracy", "r2": "test R²"}  # scores


def table(runs: Mapping[str, Result]) -> str:
    """A line for each run: the best of its costs and accuracies on the validation data, each with
    its epoch; its score on the test samples; the seconds that its epochs took; and its options
    that not all the runs have, but for those of no influence. Beside the epochs are the steps in
    one that has not ended.
    """
    results = list(runs.values())
    best = [name for name in BEST if any(name in of_run.history for of_run in results)]
    test = [name for name in TEST if any(name in of_run.scores for of_run in results)]
    titles = ["run", "epochs"]
    for name in best:
        titles += [name.replace("_", " "), "epoch"]
    titles += [*(TEST[name] for name in test), "seconds"]
    options = _different(results)
    lines = [[*titles, "options" if any(options) else ""]]
    for (run, (_, history, scores, steps)), own in zip(runs.items(), options, strict=True):
        cells = [run, f"{history.epochs} + {steps} steps" if steps else str(history.epochs)]
        for name in best:
            cells += _best(history, name)
        cells += [_cell(name, float(np.mean(scores.get(name, [np.nan])))) for name in test]
        lines.append([*cells, _seconds(history), own])
    lines = [[" ".join(printable(cell).splitlines()) for cell in cells] for cells in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _best(history: History, name: str) -> list[str]:
    """The best number of a column, and its epoch; "-" where there is none."""
    best = history.best(name) if name in history else np.nan
    return [_cell(name, best), "-" if np.isnan(best) else str(history.best_epoch(name))]


def _cell(name: str, value: float) -> str:
    """A number; "-" for NaN."""
    if np.isnan(value):
        return "-"
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if name == "r2" else f"{value:.5g}"


def _seconds(history: History) -> str:
    """Those of all epochs, with two digits at least; "-" if there were none."""
    total = float(sum(history.get("seconds", [])))
    if not history.epochs:
        return "-"
    return f"{total:.1f}" if total >= 1.0 else f"{total:.2g}"


def _different(results: list[Result]) -> list[str]:
    """For each run, as one types them, the options that another run has otherwise.

    Not the epochs, where each run has had all of its own, which are in a column.
    """
    options = [of_run.options for of_run in results]
    if all(of_run.options.get("epochs") == of_run.history.epochs for of_run in results):
        options = [{n: v for n, v in of_run.items() if n != "epochs"} for of_run in options]
    every = dict.fromkeys(n for of_run in options for n in of_run if n not in ELSEWHERE)
    names = [n for n in every if any(of_run.get(n) != options[0].get(n) for of_run in options)]
    typed = ([_typed(name, of_run.get(name)) for name in names] for of_run in options)
    return [" ".join(filter(None, words)) for words in typed]


def _typed(name: str, value: Any) -> str:
    """An option with its value, or the data; empty if it is not given."""
    if value is None:
        return ""
    if name in FILES:
        value = _from_here(value)
    if name == "data":
        return shlex.quote(value)
    if isinstance(value, bool):
        return as_typed(name) if value else as_typed(f"no_{name}")
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{as_typed(name)} {shlex.quote(str(one))}" for one in values)


def _from_here(path: str) -> str:
    """A path as one types it in the current folder, if it is below."""
    with suppress(OSError, ValueError):  # in a folder that is gone, or in another one
        return str(Path(path).relative_to(Path.cwd()))
    return path


def _line(cells: list[str], widths: list[int]) -> str:
    """Names to the left, numbers to the right."""
    first, *numbers, last = cells
    padded = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *padded, last]).rstrip()
