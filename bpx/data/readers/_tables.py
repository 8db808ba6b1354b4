"""Parquet and CSV, through pyarrow: blocks are row groups, or whole lines."""

from __future__ import annotations

import importlib
import io
import re
from abc import abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...categories import Classes
from ...checks import FILL_IN, over_budget, shortened
from ...extras import PACKAGES, not_imported
from ._advice import advice, not_csv, without_values
from ._base import CellError, FileStamp, Read, Reader
from ._dialect import Dialect, is_truth
from ._inputs import AHEAD, Features, Inputs, inputs_of
from ._names import (
    check_first_line,
    check_inputs,
    check_names,
    separated_by_others,
)

LINES = 1 << 17  # bytes of a CSV file that are a block, up to the end of a line
LONGEST_LINE = 1 << 24  # bytes of a line
BATCH = 1 << 14  # rows of a row group that are decoded at once
NO_NUMBER = re.compile(r"CSV column #(\d+): .*invalid value '(.*)'", re.DOTALL)  # pyarrow's
PANDAS_INDEX = re.compile(r"__index_level_\d+__")

Decoded = Callable[[int], Iterable[Any]]  # from a block's number to pieces of a table of pyarrow's


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        needs = "Parquet and CSV in blocks need"
        raise not_imported(needs, PACKAGES["data"], error) from error


class TableReader(Reader):
    """Columns with names: some are x, others are held in memory, for targets and weights.

    Parameters
    ----------
    path : Path
    held : sequence of str
        Those that are held.
    features : Features
        What x is.
    budget : int
        Bytes.
    text : dict
        The numberings of held columns that may be text, by name.
    dialect : Dialect

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
    types, found = _types(), column
    if types.is_decimal(column.type):
        found = column.cast("float64")
    elif types.is_boolean(column.type) and column.null_count:
        found = column.cast("uint8")
    numbers: np.ndarray = found.to_numpy(zero_copy_only=False)
    return numbers


def _types() -> Any:
    return importlib.import_module("pyarrow.types")


def _inputs(
    path: Path, names: list[str], held: Sequence[str], features: Features, dialect: Dialect
) -> Inputs:
    found = inputs_of(path, names, held, features, dialect)
    if not found.columns:
        raise ValueError(f"{path} has no column left for x: {', '.join(held)} are held back")
    return found


class Parquet(TableReader):
    """A block is a row group: the smallest part of the file that is decoded by itself."""

    smaller = "smaller row groups: pyarrow.parquet.write_table(..., row_group_size=)"

    def __init__(
        self,
        path: Path,
        held: Sequence[str],
        features: Features,
        budget: int,
        text: Mapping[str, Classes],
        dialect: Dialect,
    ) -> None:
        self._begin(path)
        with _parquet(path) as (file, groups):
            schema = file.schema_arrow
            check_names(path, schema.names)
            shown = features._replace(names=features.names or _shown(schema))
            self.inputs = _inputs(path, schema.names, held, shown, dialect)
            for name in self.inputs.text:
                if not _is_text(kind := schema.field(name).type):
                    raise TypeError(
                        f"{path}: column {name!r} is of type {_called(kind)}, expected text, as "
                        f"the input {self.inputs.of(name)!r} marks one in it"
                    )
            encoded = [
                name
                for name in self.inputs.columns
                if features.encode and _is_text(schema.field(name).type)
            ]
            for name in encoded:
                self.inputs.encode(name)
            kinds = {
                name: schema.field(name).type
                for name in self.inputs.columns
                if name not in self.inputs.text
            }
            self._metadata = file.metadata
            odd = [name for name, kind in kinds.items() if _dtype_of(kind) is None]
            if odd and encoded:
                odd += self._unfit(encoded, dialect)
            dtypes = [
                _dtype(path, schema.field(name), _not_numbers(kind, name, dialect),
                       self.inputs.besides(name, odd, dialect) if features.encode else "")
                for name, kind in kinds.items()
            ]  # fmt: skip
            if self.inputs.text or features.missing:
                dtypes.append(np.dtype(np.float32))  # which has NaN
            text = {n: c for n, c in text.items() if _is_text(schema.field(n).type)}
            for name in held:
                if name not in text:
                    _dtype(path, schema.field(name), "; number the classes 0, 1, 2, ...")
            rows = file.metadata.num_rows
            # A column with a single value takes a few bytes in the file, for any number of rows.
            if 8 * rows * len(held) > budget:
                raise ValueError(
                    f"{', '.join(held)} of {path} take {over_budget(8 * rows * len(held), budget)}"
                    ": pass a larger budget"
                )
        if encoded:
            self._settle(encoded, dialect)
        super().__init__(str(path), (rows, len(self.columns)), np.result_type(*dtypes))
        self.held = self._read(held, text) if held else {}
        self.text = set(text)
        self._groups = [k for k, group in enumerate(groups) if group.num_rows]
        self.borders = np.cumsum([0, *(groups[k].num_rows for k in self._groups)])
        # Pages as they are stored, decoded, and as columns: 3.9 times was measured.
        self.beside = 4 * max(group.total_byte_size for group in groups)

    def _settle(self, encoded: Sequence[str], dialect: Dialect) -> None:
        """Give each category in these columns an input."""
        row = 0
        try:
            for piece in self._pieces(encoded, encoded):
                self._note_categories(piece, row, encoded)
                row += piece.num_rows
        except CellError as error:
            others = self.inputs.besides(None, self._unfit(encoded, dialect), dialect)
            raise ValueError(f"{self.path}: {error}{others}") from None
        self.inputs.settle(row, dialect)

    def _unfit(self, encoded: Sequence[str], dialect: Dialect) -> list[str]:
        """Those of these columns of text that cannot be inputs, whatever is missing in them."""
        for piece in self._pieces(encoded, encoded):
            for name in encoded:
                with suppress(ValueError):
                    self.inputs.text[name].of_column(piece.column(name).drop_null())
        return self.inputs.unfit(self._metadata.num_rows, dialect)

    def _read(self, held: Sequence[str], text: Mapping[str, Classes]) -> dict[str, np.ndarray]:
        """All rows of some columns."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in held}
        row = 0
        for piece in self._pieces(held, text):
            for name, found in parts.items():
                found.append(self._numbers_held(piece, row, name, text))
            row += piece.num_rows
        return {name: np.concatenate(found) for name, found in parts.items()}

    def _opened(self, text: Iterable[str]) -> Any:
        """The file. As a dictionary each text is there once, however many rows have it."""
        options = {"metadata": self._metadata, "read_dictionary": list(text)}
        return _parquet_file(self.path, **options)

    def _pieces(self, columns: Sequence[str], text: Iterable[str]) -> Iterator[Any]:
        """Some columns of all rows, a few rows at a time."""
        with self._opened(text) as file:
            pieces = file.iter_batches(BATCH, columns=list(columns), use_threads=False)
            while True:
                try:
                    piece = next(pieces, None)
                except Exception as error:  # pyarrow raises errors of many kinds
                    raise ValueError(f"{self.path} is damaged: {error}") from error
                if piece is None:
                    return
                yield piece

    @contextmanager
    def _decoder(self) -> Iterator[Decoded]:
        with self._opened(self.inputs.text) as file:

            def decoded(block: int) -> Iterable[Any]:
                groups, names = [self._groups[block]], self.inputs.columns
                pieces: Iterable[Any] = file.iter_batches(
                    BATCH, groups, columns=names, use_threads=False
                )
                return pieces

            yield decoded


def _parquet_file(path: Path, **options: Any) -> Any:
    """pyarrow's, which compares the checksums of pages that have one."""
    return _arrow("parquet").ParquetFile(path, page_checksum_verification=True, **options)


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[Any, list[Any]]]:
    """A Parquet file, and what its footer says of each row group."""
    _arrow("parquet")  # or its absence would be damage
    try:
        file = _parquet_file(path)
        metadata = file.metadata
        groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    except Exception as error:  # pyarrow raises errors of many kinds
        raise ValueError(f"{path} is damaged, or not a Parquet file: {error}") from error
    with file:
        counts = [group.num_rows for group in groups]
        if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
            raise ValueError(
                f"{path} is damaged: it says that it has {metadata.num_rows} rows, and that its "
                f"{len(groups)} row groups have {sum(counts)}"
            )
        yield file, groups


def parquet_size(path: Path) -> int:
    """Bytes that a Parquet file takes in memory; it may be far smaller itself."""
    with _parquet(path) as (file, _):
        return 8 * file.metadata.num_rows * len(file.schema_arrow)


def parquet_names(path: Path, hidden: bool) -> list[str]:
    """The names of a Parquet file's columns; with those that are pandas' index if `hidden`."""
    with _parquet(path) as (file, _):
        schema = file.schema_arrow
        return list(schema.names) if hidden else _shown(schema)


def parquet_text(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """What a Parquet file has in these columns, row by row; empty where a value is missing."""
    with _parquet(path) as (file, _):
        table = file.read(columns=list(columns)).select(columns)
    rows = zip(*map(_text, table.columns), strict=True)
    return [["" if value is None else str(value) for value in row] for row in rows]


def _text(column: Any) -> list[Any]:
    """A column's values; numbers with as many digits as their type has."""
    is_float = _types().is_floating(column.type)
    values: list[Any] = (column.cast("string") if is_float else column).to_pylist()
    return values


def _shown(schema: Any) -> list[str]:
    """The names of a Parquet file's columns, without those that pandas reads back as an index."""
    found = {name for name in schema.names if PANDAS_INDEX.fullmatch(name)}
    with suppress(ValueError, LookupError, TypeError, RecursionError):  # none, or not pandas's
        found |= {
            name for name in schema.pandas_metadata["index_columns"] if isinstance(name, str)
        }
    return [name for name in schema.names if name not in found]


def _is_text(kind: Any) -> bool:
    """Whether a column of this pyarrow type has text, or numbers that stand for text."""
    types = _types()
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _called(kind: Any) -> str:
    """What a user calls a pyarrow type: a dictionary is pandas' category."""
    if _types().is_dictionary(kind):
        return f"category, of {_called(kind.value_type)}"
    return "string" if _is_text(kind) else str(kind)


def _not_numbers(kind: Any, column: str, dialect: Dialect) -> str:
    """What a user does about a column of x of a type that is none of numbers."""
    if _is_text(kind):
        return dialect.of_text_column(column)
    return f"; make numbers of it, or leave it out: {dialect.without(column)}"


def _dtype(path: Path, field: Any, hint: str, besides: str = "") -> np.dtype:
    """That of a column's numbers; the message for one of others ends with `besides`."""
    found = _dtype_of(field.type)
    if found is None:
        if _types().is_temporal(field.type):
            hint = "; write it as a number, such as the days since a first date"
        raise TypeError(
            f"{path}: column {field.name!r} is of type {_called(field.type)}, expected numbers"
            f"{hint}{besides}"
        )
    return found


def _dtype_of(kind: Any) -> np.dtype | None:
    """That of the numbers in a column of this pyarrow type; None if it has others."""
    if _types().is_decimal(kind):
        return np.dtype(np.float64)
    try:
        dtype: np.dtype = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return None
    return dtype if dtype.kind in "biuf" else None


class Csv(TableReader):
    """A line of names and lines of numbers; a block is a number of whole lines.

    The file is read through once when it is opened, to find its blocks, and parsed in each epoch.
    """

    def __init__(
        self,
        path: Path,
        held: Sequence[str],
        features: Features,
        budget: int,
        text: Mapping[str, Classes],
        dialect: Dialect,
    ) -> None:
        _arrow("csv")
        self._begin(path)
        self._text, self._dialect, self._truths = text, dialect, set[str]()
        with path.open("rb") as file:
            self.names = _header(path, file, dialect)
            check_first_line(path, self.names, features.names, dialect)
            check_names(path, self.names)
            self.inputs = _inputs(path, self.names, held, features, dialect)
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
        parser = _arrow("csv")
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
