"""Pictures of a training run (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .checks import different_names, shortened
from .extras import PACKAGES
from .history import History
from .writing import write_bytes

WORDS = {"cost": "mean cost", "accuracy": "accuracy (%)"}

COLOURS = 10  # matplotlib's own
IN_A_PANEL = 6  # runs that a panel's own legend has room for
LABEL = 30  # characters of a run's label
IN_A_COLUMN = 13  # labels of a legend beside the panels


def curves(
    history: History | Mapping[str, History],
    path: Any = None,
    *,
    columns: Sequence[str] | None = None,
) -> Any:
    """Cost, and accuracy if there is one, against the epoch, for one run or several.

    Parameters
    ----------
    history : History, or mapping of str to History
        Several are named by their labels, each in a colour of its own: validation as a line,
        training dashed beside it.
    path : path, optional
        Write the picture there, whole or not at all, in the format of its suffix.
    columns : sequence of str, optional
        Draw these instead, such as those of a `bpx.Metric`: ``training_`` and ``validation_`` of
        the same in one panel, and each other column in one of its own. Each of several runs draws
        those that it has.

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
        No epoch has ended, an empty mapping, or a suffix that is not a picture's.
    KeyError
        A column that no run has.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"pictures need matplotlib: pip install {PACKAGES['plot']}") from error
    runs = _runs(history)
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
    for axes, (kind, names) in zip(places, panels.items(), strict=True):
        parts = {name: name.removesuffix(kind).rstrip("_") for name in names}
        if isinstance(history, History):
            for name, part in parts.items():
                _draw(axes, history, name, kind, color=f"C{int(part != 'training')}", label=part)
            if any(parts.values()):
                axes.legend()
        else:
            _draw_several(axes, runs, parts, kind)
            title = "dashed: training" if len(parts) > 1 else next(iter(parts.values()))
            legends.append((*axes.get_legend_handles_labels(), title))
            if len(runs) <= IN_A_PANEL:
                axes.legend(title=title)
        axes.set(xlabel="epoch", ylabel=WORDS.get(kind, kind.replace("_", " ")))
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


def _runs(history: Any) -> dict[str, History]:
    """The runs by their labels; that of a single run is empty."""
    runs = {"": history} if isinstance(history, History) else history
    asked = "a History, such as net.history after fit, or a mapping of labels to them"
    if not isinstance(runs, Mapping):
        raise TypeError(f"expected {asked}, got {shortened(history)}")
    for label, run in runs.items():
        if not isinstance(run, History):
            raise TypeError(f"expected {asked}, got {shortened(run)} at {label!r}")
        if not run.epochs:
            of = f" in the run {label!r}" if label else ""
            raise ValueError(f"nothing to draw: no epoch has ended{of}")
    if not runs:
        raise ValueError(f"nothing to draw: expected {asked}, got an empty mapping")
    return dict(runs)


def _panels(runs: list[History], columns: Any) -> dict[str, list[str]]:
    """What each panel shows, and its columns."""
    if columns is None:
        both = [f"{part}_{kind}" for kind in WORDS for part in ("training", "validation")]
        names = [name for name in both if any(name in run for run in runs)]
    else:
        names = list(different_names("columns", columns))
    panels: dict[str, list[str]] = {}
    for name in names:
        if not any(name in run for run in runs):
            runs[0][name]  # raises, and says what is near
        kind = name.removeprefix("training_").removeprefix("validation_")
        panels.setdefault(kind, []).append(name)
    return panels


def _draw(axes: Any, run: History, name: str, kind: str, **look: Any) -> None:
    values = [100 * value for value in run[name]] if kind == "accuracy" else run[name]
    axes.plot(run["epoch"], values, marker="o" if run.epochs < 3 else None, **look)


def _draw_several(axes: Any, runs: dict[str, History], parts: dict[str, str], kind: str) -> None:
    """One colour per run; if it has another column here too, that of training is dashed."""
    for index, (label, run) in enumerate(runs.items()):
        there = {name: part for name, part in parts.items() if name in run}
        for name, part in there.items():
            beside = part == "training" and len(there) > 1
            look = {"linestyle": "--", "alpha": 0.6} if beside else {"label": _short(label)}
            _draw(axes, run, name, kind, color=_colour(index, len(runs)), **look)


def _short(label: str) -> str:
    """A long one without its middle."""
    half = LABEL // 2
    return label if len(label) <= LABEL else f"{label[:half]}…{label[-half:]}"


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
