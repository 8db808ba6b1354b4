"""What a network is made of, as a table in text or HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .checks import of_batch
from .layers.sequence import every
from .registry import name_of

if TYPE_CHECKING:
    from .ensemble import Ensemble
    from .network import Network

Row = tuple[str, str, str, str, str]
HEAD: Row = ("", "layer", "output", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Summary:
    """A table of layers or of networks, with shapes, parameters and work; `repr` is its text.

    Attributes
    ----------
    rows : tuple of (index, layer, output shape, parameters, multiply-adds)
        Multiply-adds are those of one sample's forward pass. The layers in a layer follow it, as
        ``"3.0"``, and their rows have its parameters and multiply-adds.
    foot : str
        Cost, parameters in all, dtype and backend.
    head : tuple of str
        Above the columns.
    """

    rows: tuple[Row, ...]
    foot: str
    head: Row = HEAD

    @classmethod
    def of(cls, net: Network) -> Summary:
        rows: list[Row] = [("", "Input", of_batch(net.input_shape), "", "")]
        total = trained = 0
        for path, layer in every(net.layers):
            count = sum(math.prod(p.shape) for p in layer.parameters().values())
            frozen = " (not trained)" if count and not layer.trainable else ""
            numbers = f"{count:,}", f"{layer.multiply_adds:,}"
            if layer.inner():
                numbers = "", ""
            else:
                total, trained = total + count, trained + count * layer.trainable
            rows.append((path, f"{layer}{frozen}", of_batch(layer.output_shape), *numbers))
        frozen = f", {trained:,} of them trained" if trained != total else ""
        return cls(tuple(rows), _foot(net, total, frozen))

    @classmethod
    def of_members(cls, ensemble: Ensemble) -> Summary:
        """A row for each network."""
        rows, total = [], 0
        for index, net in enumerate(ensemble.members):
            count = sum(math.prod(entry.shape) for entry in net.layout.entries)
            total += count
            numbers = f"{count:,}", f"{sum(layer.multiply_adds for layer in net.layers):,}"
            layers = ", ".join(map(str, net.layers))
            rows.append((str(index), layers, of_batch(net.output_shape), *numbers))
        how = "the votes" if ensemble.combine == "vote" else "the mean output"
        foot = f"{len(rows)} networks, {how}; {_foot(ensemble, total, '')}"
        return cls(tuple(rows), foot, ("", "network", *HEAD[2:]))

    def __repr__(self) -> str:
        table = [self.head, *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.head))]
        lines = ["  ".join(map("{:{}{}}".format, row, "><<>>", widths)) for row in table]
        rule = "-" * max(map(len, lines))
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:], rule, self.foot])

    def _repr_html_(self) -> str:
        def cells(row: Row, tag: str) -> str:
            inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            return f"<tr>{inner}</tr>"

        body = "".join(cells(row, "td") for row in self.rows)
        return (
            f"<table><thead>{cells(self.head, 'th')}</thead><tbody>{body}</tbody></table>"
            f"<p>{html.escape(self.foot)}</p>"
        )


def _foot(net: Network | Ensemble, total: int, frozen: str) -> str:
    size = total * (4 if net.dtype == "float32" else 8)
    shown = f"{size / 1024:,.0f} KiB" if size >= 1024 else f"{size} bytes"
    return (
        f"{name_of(net.cost) or 'custom'} cost, {net.task}; {total:,} parameters{frozen} "
        f"({shown} of {net.dtype} on {net.backend.name})"
    )
