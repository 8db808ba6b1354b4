"""Columns with names, through pyarrow: some are x, others are held in memory."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...categories import Classes
from ...checks import FILL_IN
from ...extras import PACKAGES, not_imported
from ._advice import without_values
from ._base import CellError, FileStamp, Read, Reader
from ._dialect import Dialect
from ._inputs import Features, Inputs, inputs_of

Decoded = Callable[[int], Iterable[Any]]  # from a block's number to pieces of a table of pyarrow's


def arrow(module: str) -> Any:
    """One of pyarrow's modules; ImportError that says what to install."""
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        needs = "Parquet and CSV in blocks need"
        raise not_imported(needs, PACKAGES["data"], error) from error


class Asked(NamedTuple):
    """What is asked of a table.

    Attributes
    ----------
    held : sequence of str
        The columns that are held in memory.
    features : Features
        What x is.
    budget : int
        Bytes.
    text : mapping
        The numberings of held columns that may be text, by name.
    dialect : Dialect
    """

    held: Sequence[str]
    features: Features
    budget: int
    text: Mapping[str, Classes]
    dialect: Dialect


class TableReader(Reader):
    """Columns with names: some are x, others are held in memory, for targets and weights.

    Parameters
    ----------
    path : Path
    asked : Asked

    Attributes
    ----------
    inputs : Inputs
        Of x.
    held : dict
        The columns that were asked for, (n,) each; in those that are text names are numbered as
        they have come, until `number_classes`.
    text : set of str
        These columns.
    classes : dict
        The names in them, in the order of their numbers, by column.
    borders : ndarray
    """

    inputs: Inputs
    held: dict[str, np.ndarray]
    text: set[str]
    classes: dict[str, tuple[str, ...]]
    borders: np.ndarray

    @property
    def columns(self) -> list[str]:
        """The names of the inputs."""
        return self.inputs.names

    def _begin(self, path: Path) -> None:
        """Before anything is read from it."""
        self.path, self._file = path, FileStamp(path)

    @contextmanager
    def opened(self) -> Iterator[Read]:
        number = {start: k for k, start in enumerate(self.borders.tolist())}
        with self._decoder() as decoded:

            def read(start: int, stop: int, out: np.ndarray) -> None:
                self._file.check(self.path.stat())
                at = 0
                for piece in decoded(number[start]):
                    part = out[at : at + piece.num_rows]
                    self.inputs.fill(part, partial(self._numbers_of_x, piece, start + at))
                    at += piece.num_rows
                self._file.check(self.path.stat())  # still, after reading
                if at != stop - start:
                    raise OSError(f"expected {stop - start} rows, got {at}: open the data again")

            yield read

    def _numbers_of_x(self, piece: Any, row: int, name: str) -> np.ndarray:
        """Those of a column in rows from `row` on; of text its categories'."""
        column, inputs = piece.column(name), self.inputs
        text = inputs.text.get(name)
        has_nan = inputs.missing if text is not None else self.dtype.kind == "f"
        if column.null_count and not has_nan:
            row += int(np.argmax(np.asarray(column.is_null())))
            hint = f"{FILL_IN}, or pass {inputs.filling}" if inputs.filling else FILL_IN
            raise CellError(f"column {name!r} has a missing value in row {row}: {hint}")
        if text is None:
            return _as_numbers(column)
        try:
            return text.of_column(column)
        except ValueError as error:
            raise CellError(f"column {name!r}: {error}") from None

    def _note_categories(self, piece: Any, row: int, columns: Iterable[str]) -> None:
        """Of these columns, in rows from `row` on; CellError for one that is missing."""
        for name in columns:
            self._numbers_of_x(piece, row, name)

    def _numbers_held(
        self, piece: Any, row: int, name: str, text: Mapping[str, Classes]
    ) -> np.ndarray:
        """Those of a column that is held in memory, in rows from `row` on; of text its classes'.

        Earlier rows have them all.
        """
        column = piece.column(name)
        if column.null_count:
            rows = f"{column.null_count:,} of the first {row + len(column):,} rows"
            told = without_values(rows, name, self.inputs.filling)
            raise ValueError(f"{self.path}: {told}")
        if name not in text:
            return _as_numbers(column)
        try:
            return text[name].of_column(column)
        except ValueError as error:
            raise ValueError(f"{self.path}: column {name!r}: {error}") from None

    @abstractmethod
    def _decoder(self) -> AbstractContextManager[Decoded]:
        """Lends what decodes the columns of x."""


def _as_numbers(column: Any) -> np.ndarray:
    types, found = arrow("types"), column
    if types.is_decimal(column.type):
        found = column.cast("float64")
    elif types.is_boolean(column.type) and column.null_count:
        found = column.cast("uint8")
    numbers: np.ndarray = found.to_numpy(zero_copy_only=False)
    return numbers


def x_of_table(
    path: Path, names: list[str], held: Sequence[str], features: Features, dialect: Dialect
) -> Inputs:
    """What x is, of a table with these columns of which some are held."""
    found = inputs_of(path, names, held, features, dialect)
    if not found.columns:
        raise ValueError(f"{path} has no column left for x: {', '.join(held)} are held back")
    return found
