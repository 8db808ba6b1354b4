"""Some of the columns of a table, or of the channels of an image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..backends import Array
from ..checks import of_batch, shortened, whole
from ..context import Context
from ..elsewhere import OF_LAYERS
from ..keywords import init_hints
from ..parameters import Out, Space
from ._base import LAYERS, Layer, Shape


@LAYERS.builds
@init_hints(OF_LAYERS)
@dataclass(frozen=True)
class Columns(Layer):
    """Some of the features of flat samples, in this order: (m, n) to (m, k).

    Of other samples it takes places of their first axis, such as channels. The derivative with
    respect to what it leaves out is zero.

    Parameters
    ----------
    columns : sequence of int
        The places of k columns, from 0, each once. They are copied in runs of neighbours, so
        ``range(2, 5)`` is one copy.

    Raises
    ------
    ValueError
        None, one of them twice, or one that inputs do not have.
    TypeError
        `columns` is not a sequence of integers.

    Examples
    --------
    >>> import bpx
    >>> from bpx.layers import Columns
    >>> net = bpx.Network([bpx.layers.Input(5), Columns([4, 0, 1])], cost="quadratic")
    >>> net([[10.0, 11.0, 12.0, 13.0, 14.0]]).tolist()
    [[14.0, 10.0, 11.0]]
    """

    name: ClassVar[str] = "columns"

    columns: Shape

    if TYPE_CHECKING:  # not `Converted`, which mypy knows only beside a default

        def __init__(
            self,
            columns: Iterable[int],
            *,
            trainable: bool = True,
            input_shape: Shape | None = None,
        ) -> None: ...

    def validate(self) -> None:
        given: Any = self.columns
        if isinstance(given, str) or not isinstance(given, Iterable):
            hint = f": [{given}]" if isinstance(given, int) else ""
            raise TypeError(
                "expected the columns of Columns to be a list of whole numbers, such as [0, 3] or "
                f"range(2, 5), got {given!r}{hint}"
            )
        listed = list(given)
        if any(isinstance(each, str) for each in listed):
            raise TypeError(
                "expected the columns of Columns to be their places, from 0, got "
                f"{shortened(listed)}: list(table.columns).index(name) is that of a name"
            )
        columns = tuple(whole("a column of Columns", each, 0) for each in listed)
        if not columns:
            raise ValueError("expected Columns to have at least one column, got none")
        if len(set(columns)) < len(columns):
            raise ValueError(
                f"expected the columns of Columns to be different ones, got {shortened(listed)}"
            )
        object.__setattr__(self, "columns", columns)

    def bind(self, input_shape: Shape) -> Self:
        if max(self.columns) >= input_shape[0]:
            raise ValueError(
                f"expected columns from 0 to {input_shape[0] - 1}, as inputs have shape "
                f"{of_batch(input_shape)}, got {max(self.columns)}"
            )
        return super().bind(input_shape)

    @property
    def output_shape(self) -> Shape:
        return (len(self.columns), *self.shape_in[1:])

    def sources(self, elements: np.ndarray) -> np.ndarray:
        """Which elements of a flattened input these elements of a flattened output are."""
        length = math.prod(self.shape_in[1:])
        place, within = np.divmod(elements, length)
        return np.asarray(self.columns)[place] * length + within

    @cached_property
    def _runs(self) -> tuple[tuple[slice, slice], ...]:
        """Where columns that are neighbours lie in the inputs, and in the outputs."""
        n = len(self.columns)
        starts = [k for k in range(n) if k == 0 or self.columns[k] != self.columns[k - 1] + 1]
        return tuple(
            (slice(self.columns[k], self.columns[k] + stop - k), slice(k, stop))
            for k, stop in zip(starts, [*starts[1:], n], strict=True)
        )

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        y = ctx.buffer("y", (x.shape[0], *self.output_shape))
        for there, here in self._runs:
            y[:, here, ...] = x[:, there, ...]
        return y, None

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        if not ctx.wanted:
            return None
        below = ctx.buffer("delta", (delta.shape[0], *self.shape_in))
        below[...] = 0.0
        for there, here in self._runs:
            below[:, there, ...] = delta[:, here, ...]
        return below

    def __str__(self) -> str:
        runs = [(there.start, there.stop - 1) for there, _ in self._runs]
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:4])
        return f"Columns {shown}" + ", ..." * (len(runs) > 4)
