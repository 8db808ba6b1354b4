"""Pictures of a training run (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .checks import different_names, flag, shortened
from .extras import PACKAGES, not_imported
from .history import History
from .writing import write_bytes

WORDS = {"cost": "mean cost", "accuracy": "accuracy (%)"}

COLOURS = 10  # matplotlib's own
IN_A_PANEL = 6  # runs that a panel's own legend has room for
LABEL = 30  # characters of a run's label
STYLES = ("solid", "dashed", "dotted", "dashdot")  # of a group's columns, of several runs
IN_A_COLUMN = 13  # labels of a legend beside the panels


def curves(
    history: History | Mapping[Any, History],
    path: Any = None,
    *,
    columns: Sequence[str | Sequence[str]] | None = None,
    log: bool = False,
) -> Any:
    """Cost, and accuracy if there is one, against the epoch, for one run or several.

    Parameters
    ----------
    history : History, or mapping of labels to History
        Several are named by their labels, ``str`` of the keys, each in a colour of its own:
        validation as a line, training dashed beside it.
    path : path, optional
        Write the picture there, whole or not at all, in the format of its suffix.
    columns : sequence of str, or of sequences of str, optional
        Draw these instead, such as those of a `bpx.Metric`: ``training_`` and ``validation_`` of
        the same in one panel, and each other column in one of its own. A list in it is a group:
        ``[["|δ¹|", "|δ²|"], "validation_cost"]`` has two panels. Each of several runs draws those
        that it has.
    log : bool
        Whether the y axes are logarithmic; False by default.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot, so nothing has to be closed, and ``plt.show()`` does not know
        it: a notebook shows it, and a script writes it to `path`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError
        Not a history, not a path, or `columns` that is no list.
    ValueError
        No epoch has ended, an empty mapping, a suffix that is not a picture's, a column named
        twice, a group of more than four for several runs, or `log` where nothing is positive.
    KeyError
        A column that no run has.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise not_imported("pictures need", PACKAGES["plot"], error) from error
    runs, log = _runs(history), flag("log", log)
    if path is not None and not isinstance(path, str | PathLike):
        raise TypeError(
            f"expected a path such as 'curve.png', got {shortened(path)}: curves are drawn in a "
            "figure of their own, which is returned"
        )

    class Curves(Figure):
        def _repr_png_(self) -> bytes:  # notebooks draw pyplot's figures only
            return picture(self, "png")

    panels = _panels(list(runs.values()), columns)
    figure = Curves(figsize=(4.5 * len(panels), 3.4), layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    legends = []
    for axes, (kind, names) in zip(places, panels, strict=True):
        axes.set(xlabel="epoch", ylabel=WORDS.get(kind, kind.replace("_", " ")))
        parts = {name: name.removesuffix(kind).rstrip("_") for name in names}
        if isinstance(history, History):
            for index, (name, part) in enumerate(parts.items()):
                color = f"C{int(part != 'training') if kind else index}"
                _draw(axes, history, name, kind, color=color, label=part)
            if any(parts.values()):
                axes.legend()
        else:
            if kind:
                _draw_several(axes, runs, parts, kind)
                title = "dashed: training" if len(parts) > 1 else next(iter(parts.values()))
            else:
                _draw_group(axes, runs, names)
                title = ""
            legends.append((*axes.get_legend_handles_labels(), title))
            if len(runs) <= IN_A_PANEL:
                axes.legend(title=title)
        if log:
            if not any(y > 0 for line in axes.get_lines() for y in line.get_ydata()):
                raise ValueError(f"log=True draws positive numbers, got none in {names}")
            axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    if len(runs) > IN_A_PANEL:
        handles, labels, title = max(legends, key=lambda legend: len(legend[0]))
        columns_of_it = -(-len(handles) // IN_A_COLUMN)
        figure.set_figwidth(figure.get_figwidth() + 2.2 * columns_of_it)
        figure.legend(handles, labels, loc="outside right upper", title=title, ncols=columns_of_it)
    if path is not None:
        _write(figure, Path(path))
    return figure


def _runs(history: Any) -> dict[Any, History]:
    """The runs by their labels; that of a single run is empty."""
    runs = {"": history} if isinstance(history, History) else history
    asked = "a History, such as net.history after fit, or a mapping of labels to them"
    if not isinstance(runs, Mapping):
        raise TypeError(f"expected {asked}, got {shortened(history)}")
    for label, run in runs.items():
        if not isinstance(run, History):
            raise TypeError(f"expected {asked}, got {shortened(run)} at {label!r}")
        if not run.epochs:
            of = "" if label == "" else f" in the run {label!r}"
            raise ValueError(f"nothing to draw: no epoch has ended{of}")
    if not runs:
        raise ValueError(f"nothing to draw: expected {asked}, got an empty mapping")
    return dict(runs)


def _panels(runs: list[History], columns: Any) -> list[tuple[str, list[str]]]:
    """What each panel shows, empty where its columns do not agree in that, and its columns."""
    if columns is None:
        both = [f"{part}_{kind}" for kind in WORDS for part in ("training", "validation")]
        columns = [name for name in both if any(name in run for run in runs)]
    listed = isinstance(columns, Iterable) and not isinstance(columns, str)
    entries = [*columns] if listed else []
    groups = [[*each] if isinstance(each, list | tuple) else [each] for each in entries]
    each_name = [name for group in groups for name in group]
    different_names("columns", each_name if listed and all(groups) else columns)
    panels: dict[Any, tuple[str, list[str]]] = {}
    for group in groups:
        for name in group:
            if not any(name in run for run in runs):
                runs[0][name]  # raises, and says what is near
        kinds = {name.removeprefix("training_").removeprefix("validation_") for name in group}
        kind = kinds.pop() if len(kinds) == 1 else ""
        panels.setdefault(kind or tuple(group), (kind, []))[1].extend(group)
    return list(panels.values())


def _draw(axes: Any, run: History, name: str, kind: str, **look: Any) -> None:
    values = [100 * value for value in run[name]] if kind == "accuracy" else run[name]
    axes.plot(run["epoch"], values, marker="o" if run.epochs < 3 else None, **look)


def _draw_several(axes: Any, runs: dict[Any, History], parts: dict[str, str], kind: str) -> None:
    """One colour per run; if it has another column here too, that of training is dashed."""
    for index, (label, run) in enumerate(runs.items()):
        there = {name: part for name, part in parts.items() if name in run}
        for name, part in there.items():
            beside = part == "training" and len(there) > 1
            look = {"linestyle": "--", "alpha": 0.6} if beside else {"label": _short(label)}
            _draw(axes, run, name, kind, color=_colour(index, len(runs)), **look)


def _draw_group(axes: Any, runs: dict[Any, History], names: list[str]) -> None:
    """One colour per run and one style per column, which the axis names."""
    if len(names) > len(STYLES):
        raise ValueError(
            f"expected a group of {len(STYLES)} columns at most for several runs, got {names}"
        )
    styles = dict(zip(names, STYLES, strict=False))
    for index, (label, run) in enumerate(runs.items()):
        there = [name for name in names if name in run]
        for name in there:
            look = {"label": _short(label)} if name == there[0] else {}
            _draw(axes, run, name, "", color=_colour(index, len(runs)), ls=styles[name], **look)
    axes.set_ylabel("\n".join(f"{style}: {name}" for name, style in styles.items()))


def _short(label: Any) -> str:
    """A long one without its middle."""
    text, half = str(label), LABEL // 2
    return text if len(text) <= LABEL else f"{text[:half]}…{text[-half:]}"


def _colour(index: int, count: int) -> Any:
    """That of one of so many runs."""
    if count <= COLOURS:
        return f"C{index}"
    from matplotlib import colormaps

    return colormaps["viridis"](index / (count - 1))


def _write(figure: Any, path: Path) -> None:
    """Write it in the format that the path's suffix names, PNG by default."""
    kind = path.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"expected a picture such as curve.png or curve.svg, got {path}")
    if not path.is_dir():  # which write_bytes refuses; beside it nobody would look
        path = path.with_suffix(f".{kind}")
    write_bytes(path, picture(figure, kind))


def picture(figure: Any, kind: str) -> bytes:
    """A figure as a file's content."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=120)
    return content.getvalue()
