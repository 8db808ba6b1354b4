"""CSV in blocks of whole lines, through pyarrow."""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...checks import shortened
from ._advice import advice, not_csv
from ._base import CellError
from ._dialect import Dialect, is_truth
from ._inputs import AHEAD
from ._names import (
    check_first_line,
    check_inputs,
    check_names,
    separated_by_others,
)
from ._tables import Asked, Decoded, TableReader, arrow, x_of_table

LINES = 1 << 17  # bytes of a CSV file that are a block, up to the end of a line
LONGEST_LINE = 1 << 24  # bytes of a line
NO_NUMBER = re.compile(r"CSV column #(\d+): .*invalid value '(.*)'", re.DOTALL)  # pyarrow's


class Csv(TableReader):
    """A line of names and lines of numbers; a block is a number of whole lines.

    The file is read through once when it is opened, to find its blocks, and parsed in each epoch.
    """

    def __init__(self, path: Path, asked: Asked) -> None:
        held, features, _, text, dialect = asked
        arrow("csv")
        self._begin(path)
        self._text, self._dialect, self._truths = text, dialect, set[str]()
        with path.open("rb") as file:
            self.names = _header(path, file, dialect)
            check_first_line(path, self.names, features.names, dialect)
            check_names(path, self.names)
            self.inputs = x_of_table(path, self.names, held, features, dialect)
            if not features.names:
                check_inputs(path, self.columns, dialect)
            encoded: list[str] = []
            spans, sizes = [], []
            parts: list[list[np.ndarray]] = []
            start, row = file.tell(), 0
            while lines := _lines(path, file, LINES, dialect):
                if not parts:
                    encoded = self._check_first(lines, features.encode)
                    self._text = {n: c for n, c in self._text.items() if self._has_names(lines, n)}
                wanted = [*held, *encoded]
                piece = self._parsed(lines, wanted or self.inputs.columns[:1], start)
                try:
                    self._note_categories(piece, row, encoded)
                except CellError as error:
                    raise ValueError(f"{path}: {error}") from None
                parts.append([self._numbers_held(piece, row, n, self._text) for n in held])
                spans.append((start, file.tell()))
                sizes.append(piece.num_rows)
                start, row = file.tell(), row + piece.num_rows
        self._spans = [span for span, size in zip(spans, sizes, strict=True) if size]
        self.borders = np.cumsum([0, *(size for size in sizes if size)])
        if encoded:
            self.inputs.settle(int(self.borders[-1]), dialect)
        super().__init__(str(path), (int(self.borders[-1]), len(self.columns)), np.float64)
        columns_held = map(np.concatenate, zip(*parts, strict=True))
        self.held, self.text = dict(zip(held, columns_held, strict=True)), set(self._text)
        for classes in self._text.values():
            check_first_line(path, self.names, features.names, dialect, classes.names)
        self.beside = 5 * LINES  # the text, and 8 bytes for a cell of 2 at least

    def _check_first(self, text: bytes, encode: bool) -> list[str]:
        """Note which columns begin with truths; and take those as text that begin with it.

        They are returned; ValueError for words that are not to be encoded.
        """
        import csv

        lines = io.StringIO(text.decode(errors="replace"))
        rows: list[list[str]] = []
        with suppress(csv.Error):  # a cell of more than 131,072 characters; pyarrow may take it
            for row in islice(csv.reader(lines, delimiter=self._dialect.separator), AHEAD):
                rows += [row] * any(map(str.strip, row))
        first = dict(zip(self.names, rows[0] if rows else (), strict=False))
        self._truths = {name for name, cell in first.items() if is_truth(cell)}
        cells = self.inputs.first_cells(rows, self.names)
        new = self.inputs.begin(cells, self._dialect) if encode else []
        for name, cell in cells.items():
            if name not in self.inputs.text and self._dialect.is_word(cell):
                hint = separated_by_others(self.names, self._dialect)
                hint = hint or advice(cell, name, self._dialect)
                if encode:
                    others = self.inputs.odd(cells, self._dialect)
                    hint += self.inputs.besides(name, others, self._dialect)
                raise ValueError(
                    f"{self.path}: expected numbers in column {name!r}, got "
                    f"{shortened(cell)}{hint}"
                )
        return new

    def _has_names(self, text: bytes, column: str) -> bool:
        """A column begins with one."""
        found = self._parsed(text, [column], 0).column(column)
        return len(found) > 0 and self._text[column].begin(found[0].as_py(), self._dialect)

    def _parsed(self, text: bytes, columns: Sequence[str], start: int) -> Any:
        parser = arrow("csv")
        types = dict.fromkeys(columns, "float64")
        types |= {name: "bool" for name in columns if name in self._truths}
        types |= {
            name: "string" for name in columns if name in self._text or name in self.inputs.text
        }
        try:
            return parser.read_csv(
                io.BytesIO(text),
                # At once: pyarrow cuts parts at ends of lines, which a cell may have within it.
                parser.ReadOptions(
                    column_names=self.names, use_threads=False, block_size=max(1, len(text))
                ),
                parser.ParseOptions(delimiter=self._dialect.separator),
                parser.ConvertOptions(
                    include_columns=columns,
                    column_types=types,
                    decimal_point=self._dialect.decimal,
                ),
            )
        except ValueError as error:  # pyarrow's ArrowInvalid
            hint = separated_by_others(self.names, self._dialect)
            if not hint and (found := NO_NUMBER.search(str(error))):
                name = self.names[int(found[1])]
                hint = f": column {name!r} begins with True or False: write 1 and 0 for these"
                if name not in self._truths:
                    of_x = name in self.inputs.columns
                    hint = advice(found[2], name, self._dialect, of_x=of_x)
            raise ValueError(
                f"{self.path}: expected lines of {len(self.names)} numbers after byte {start}: "
                f"{error}{hint}"
            ) from error

    @contextmanager
    def _decoder(self) -> Iterator[Decoded]:
        with self.path.open("rb", buffering=0) as file:

            def decoded(block: int) -> Iterable[Any]:
                start, stop = self._spans[block]
                file.seek(start)
                return [self._parsed(file.read(stop - start), self.inputs.columns, start)]

            yield decoded


def csv_names(path: Path, dialect: Dialect) -> list[str]:
    """The names in the first line of a CSV file; without pyarrow."""
    with path.open("rb") as file:
        return _header(path, file, dialect)


def _lines(path: Path, file: IO[bytes], size: int, dialect: Dialect) -> bytes:
    """`size` bytes and the rest of the row in which they end, whose cells may have lines."""
    parts = [file.read(size) + _line(path, file)]
    inside, total = _ends_in_quotes(parts[0], dialect), len(parts[0])
    while inside:
        part = file.read(size) + _line(path, file)
        total += len(part)
        if not part or total > size + LONGEST_LINE:
            goes = f"goes on for {LONGEST_LINE} bytes" if part else "ends"
            raise ValueError(
                f"{path} {goes} within the quotes of a cell, before byte {file.tell()}: close them"
            )
        parts.append(part)
        inside = _ends_in_quotes(b'"' + part, dialect)
    return b"".join(parts)


def _line(path: Path, file: IO[bytes]) -> bytes:
    found = file.readline(LONGEST_LINE)
    if len(found) == LONGEST_LINE:
        raise ValueError(
            f"{path}: expected lines of less than {LONGEST_LINE} bytes, got a longer one before "
            f"byte {file.tell()}"
        )
    return found


def _ends_in_quotes(text: bytes, dialect: Dialect) -> bool:
    """Whether the last cell of lines of CSV is quoted, and goes on."""
    between = re.escape(dialect.separator.encode()) + rb"\r\n"
    # A cell that begins with quotes, up to those that end it, or to the end of the text.
    quoted = rb'(?<![^%s])"[^"]*(?:""[^"]*)*("|\Z)' % between
    return b'"' in text and any(not cell[1] for cell in re.finditer(quoted, text))


def _header(path: Path, file: IO[bytes], dialect: Dialect) -> list[str]:
    """The names in the first line, of a file just opened, that has anything in it."""
    import csv

    if file.read(len(BOM_UTF8)) != BOM_UTF8:
        file.seek(0)
    try:
        while line := _lines(path, file, 0, dialect):
            text = io.StringIO(line.decode(), newline="")
            cells = next(csv.reader(text, strict=True, delimiter=dialect.separator), [])
            if any(map(str.strip, cells)):
                return [name.strip() for name in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise not_csv(path, error) from error
    return []
