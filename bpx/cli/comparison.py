"""Runs beside each other: what they came to, and the options in which they differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..history import History
from .spelling import as_typed

SCORES = "validation_cost", "validation_accuracy"  # columns of a history


def table(runs: Mapping[str, tuple[Mapping[str, Any], History]]) -> str:
    """A line for each run: the best of its costs and accuracies on the validation data, each with
    its epoch; the seconds that its epochs took; and its options that not all the runs have.
    """
    histories = [history for _, history in runs.values()]
    scores = [name for name in SCORES if any(name in history for history in histories)]
    titles = ["run", "epochs"]
    for name in scores:
        titles += [name.replace("_", " "), "epoch"]
    options = _different([options for options, _ in runs.values()])
    lines = [[*titles, "seconds", "options" if any(options) else ""]]
    for (run, (_, history)), own in zip(runs.items(), options, strict=True):
        cells = [run, str(history.epochs)]
        for name in scores:
            cells += _best(history, name)
        lines.append([*cells, f"{sum(history.get('seconds', [])):.1f}", own])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _best(history: History, name: str) -> list[str]:
    """The best number of a column, and its epoch; "-" where there is none."""
    if name not in history or (best := history.best(name)) != best:
        return ["-", "-"]
    text = f"{100 * best:.2f} %" if name.endswith("accuracy") else f"{best:.5g}"
    return [text, str(history.best_epoch(name))]


def _different(options: list[Mapping[str, Any]]) -> list[str]:
    """For each run, as one types them, those that another run has otherwise."""
    every = dict.fromkeys(name for of_run in options for name in of_run)
    names = [n for n in every if any(of_run.get(n) != options[0].get(n) for of_run in options)]
    typed = ([_typed(name, of_run.get(name)) for name in names] for of_run in options)
    return [" ".join(filter(None, words)) for words in typed]


def _typed(name: str, value: Any) -> str:
    """An option with its value, or the data; empty if it is not given."""
    if name == "data":
        return shlex.quote(value)
    if isinstance(value, bool):
        return as_typed(name) if value else as_typed(f"no_{name}")
    values = value if isinstance(value, list) else [] if value is None else [value]
    return " ".join(f"{as_typed(name)} {shlex.quote(str(one))}" for one in values)


def _line(cells: list[str], widths: list[int]) -> str:
    """Names to the left, numbers to the right."""
    first, *numbers, last = cells
    padded = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *padded, last]).rstrip()
