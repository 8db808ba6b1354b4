"""Pictures of a training run (matplotlib)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from .history import History
from .persistence import write_bytes


def curves(history: History, path: Any = None) -> Any:
    """Cost, and accuracy where there is one, against the epoch.

    Parameters
    ----------
    history : History
    path : path, optional
        Write the picture there, whole or not at all, in the format of its suffix.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot, so nothing has to be closed, and ``plt.show()`` does not know
        it: a notebook shows it, and a script writes it to `path`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        No epoch has ended.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'bpx[plot]'") from error
    if not history.epochs:
        raise ValueError("nothing to draw: no epoch has ended")

    class Curves(Figure):
        def _repr_png_(self) -> bytes:  # notebooks draw pyplot's figures only
            return picture(self, "png")

    kinds = [k for k in ("cost", "accuracy") if f"training_{k}" in history]
    figure = Curves(figsize=(4.5 * len(kinds), 3.4), layout="constrained")
    epochs = history["epoch"]
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for name, color in (("training", "tab:blue"), ("validation", "tab:orange")):
            if f"{name}_{kind}" in history:
                values = history[f"{name}_{kind}"]
                scaled = [100 * v for v in values] if kind == "accuracy" else values
                marker = "o" if len(epochs) < 3 else None
                axes.plot(epochs, scaled, color=color, label=name, marker=marker)
        axes.set(xlabel="epoch", ylabel="accuracy (%)" if kind == "accuracy" else "mean cost")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    if path is not None:
        path = Path(path)
        kind = path.suffix[1:].lower() or "png"
        if kind not in figure.canvas.get_supported_filetypes():
            raise ValueError(f"expected a picture such as curve.png or curve.svg, got {path}")
        if not path.is_dir():  # which write_bytes refuses; beside it nobody would look
            path = path.with_suffix(f".{kind}")
        write_bytes(path, picture(figure, kind))
    return figure


def picture(figure: Any, kind: str) -> bytes:
    """A figure as a file's content."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=120)
    return content.getvalue()
