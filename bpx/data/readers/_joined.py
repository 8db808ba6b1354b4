"""Several files, or arrays, whose rows are one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from ...categories import Classes
from ._base import CellError, Read, Reader
from ._tables import TableReader


class Joined(Reader):
    """The rows of several readers.

    Parameters
    ----------
    parts : sequence of Reader
        Two or more.

    Raises
    ------
    ValueError
        Their rows have different shapes or dtypes.
    """

    def __init__(self, parts: Sequence[Reader]) -> None:
        first = parts[0]
        for part in parts:
            same = part.dtype == first.dtype or isinstance(part, TableReader)  # which converts
            if part.shape[1:] != first.shape[1:] or not same:
                raise ValueError(
                    f"expected parts with rows of one shape and dtype, got {first.shape[1:]} of "
                    f"{first.dtype} in {first.name}, and {part.shape[1:]} of {part.dtype} in "
                    f"{part.name}"
                )
        self.parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        dtype = np.result_type(*{part.dtype for part in parts})
        name = f"{first.name} and {len(parts) - 1} more"
        super().__init__(name, (int(self._starts[-1]), *first.shape[1:]), dtype)
        self.beside, self.smaller = max(part.beside for part in parts), first.smaller
        whole = not any(part.shape[0] % first.chunk for part in parts[:-1])
        if whole and all(part.chunk == first.chunk for part in parts):
            self.chunk = first.chunk
        if first.borders is not None:
            pairs = zip(self._starts, parts, strict=False)
            begin = [start + np.asarray(part.borders)[:-1] for start, part in pairs]
            self.borders = np.append(np.concatenate(begin), self._starts[-1])

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Which parts these rows are in, and from where to where in each."""
        starts = self._starts
        for k in range(int(np.searchsorted(starts, start, "right")) - 1, len(self.parts)):
            if starts[k] >= stop:
                return
            first, last = max(start, int(starts[k])), min(stop, int(starts[k + 1]))
            yield k, first - int(starts[k]), last - int(starts[k])

    @contextmanager
    def opened(self) -> Iterator[Read]:
        with ExitStack() as stack:  # of the one part that is open
            now: tuple[int, Read] | None = None

            def read(start: int, stop: int, out: np.ndarray) -> None:
                nonlocal now
                at = 0
                for k, first, last in self._spans(start, stop):
                    try:
                        if now is None or now[0] != k:
                            now = None
                            stack.close()
                            now = k, stack.enter_context(self.parts[k].opened())
                        now[1](first, last, out[at : at + last - first])
                    except CellError as error:
                        raise CellError(f"{self.parts[k].name}: {error}") from None
                    except OSError as error:
                        raise OSError(f"{self.parts[k].name}: {error}") from error
                    at += last - first

            yield read

    def place(self, row: int) -> tuple[str, int]:
        ((k, first, _),) = self._spans(row, row + 1)
        return self.parts[k].name, first

    def announce(self, pieces: Iterable[tuple[int, int]]) -> None:
        spans: dict[int, list[tuple[int, int]]] = {}
        for start, stop in pieces:
            for k, first, last in self._spans(start, stop):
                spans.setdefault(k, []).append((first, last))
        for k, its in spans.items():
            self.parts[k].announce(its)


class JoinedTables(Joined):
    """Tables with the same columns, and all of their `held`; see `TableReader`."""

    parts: Sequence[TableReader]

    def __init__(self, parts: Sequence[TableReader]) -> None:
        super().__init__(parts)
        first = parts[0]
        self.columns, self.text = first.columns, first.text
        for part in parts:
            if name := next(iter(part.text ^ first.text), ""):
                of_text, other = (part, first) if name in part.text else (first, part)
                raise ValueError(
                    f"column {name!r} is text in {of_text.name}, and numbers in {other.name}"
                )
        self.held = {
            name: np.concatenate([part.held[name] for part in parts]) for name in first.held
        }
        self.classes: dict[str, tuple[str, ...]] = {}


def number_classes(table: TableReader | JoinedTables, text: Mapping[str, Classes]) -> None:
    """Number the names in its columns of text in their order, once all of them are known."""
    table.classes = {}
    for name in table.text:
        table.held[name], table.classes[name] = text[name].in_order(table.held[name])
