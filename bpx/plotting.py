"""Pictures of a training run (matplotlib)."""

from __future__ import annotations

import io
from typing import Any

from .history import History


def curves(history: History, path: Any = None) -> Any:
    """Cost, and accuracy where there is one, against the epoch.

    Parameters
    ----------
    history : History
    path : path, optional
        Write the picture there, in the format of its suffix.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot, so nothing has to be closed. A notebook shows it.

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
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

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
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
