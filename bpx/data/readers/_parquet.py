"""Parquet, through pyarrow: a block is a row group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...categories import Classes
from ...checks import over_budget
from ._base import CellError
from ._dialect import Dialect
from ._inputs import Features
from ._names import check_names
from ._tables import Asked, Decoded, TableReader, arrow, x_of_table

BATCH = 1 << 14  # rows of a row group that are decoded at once
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class Parquet(TableReader):
    """A block is a row group: the smallest part of the file that is decoded by itself."""

    smaller = "smaller row groups: pyarrow.parquet.write_table(..., row_group_size=)"

    def __init__(self, path: Path, asked: Asked) -> None:
        held, features, budget, text, dialect = asked
        self._begin(path)
        with _parquet(path) as (file, groups):
            schema, self._metadata = file.schema_arrow, file.metadata
            check_names(path, schema.names)
            shown = features._replace(names=features.names or _shown(schema))
            self.inputs = x_of_table(path, schema.names, held, shown, dialect)
            encoded = self._with_text(schema, features.encode)
            dtype = self._dtype_of_x(schema, encoded, features, dialect)
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
        super().__init__(str(path), (rows, len(self.columns)), dtype)
        self.held = self._read(held, text) if held else {}
        self.text = set(text)
        self._groups = [k for k, group in enumerate(groups) if group.num_rows]
        self.borders = np.cumsum([0, *(groups[k].num_rows for k in self._groups)])
        # Pages as they are stored, decoded, and as columns: 3.9 times was measured.
        self.beside = 4 * max(group.total_byte_size for group in groups)

    def _with_text(self, schema: Any, encode: bool) -> list[str]:
        """The columns of text that become inputs if `encode`; TypeError for marks of others."""
        for name in self.inputs.text:
            if not _is_text(kind := schema.field(name).type):
                raise TypeError(
                    f"{self.path}: column {name!r} is of type {_called(kind)}, expected text, as "
                    f"the input {self.inputs.of(name)!r} marks one in it"
                )
        columns = self.inputs.columns if encode else []
        encoded = [name for name in columns if _is_text(schema.field(name).type)]
        for name in encoded:
            self.inputs.encode(name)
        return encoded

    def _dtype_of_x(
        self, schema: Any, encoded: Sequence[str], features: Features, dialect: Dialect
    ) -> np.dtype:
        """What holds the numbers of all columns; TypeError for one that has others."""
        inputs = self.inputs
        fields = [schema.field(name) for name in inputs.columns if name not in inputs.text]
        odd = [field.name for field in fields if _dtype_of(field.type) is None]
        if odd and encoded:
            odd += self._unfit(encoded, dialect)
        found = [
            _dtype(
                self.path,
                field,
                _not_numbers(field.type, field.name, dialect),
                inputs.besides(field.name, odd, dialect) if features.encode else "",
            )
            for field in fields
        ]
        if inputs.text or features.missing:
            found.append(np.dtype(np.float32))  # which has NaN
        dtype: np.dtype = np.result_type(*found)
        return dtype

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
    return arrow("parquet").ParquetFile(path, page_checksum_verification=True, **options)


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[Any, list[Any]]]:
    """A Parquet file, and what its footer says of each row group."""
    arrow("parquet")  # or its absence would be damage
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
    is_float = arrow("types").is_floating(column.type)
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
    types = arrow("types")
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _called(kind: Any) -> str:
    """What a user calls a pyarrow type: a dictionary is pandas' category."""
    if arrow("types").is_dictionary(kind):
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
        if arrow("types").is_temporal(field.type):
            hint = "; write it as a number, such as the days since a first date"
        raise TypeError(
            f"{path}: column {field.name!r} is of type {_called(field.type)}, expected numbers"
            f"{hint}{besides}"
        )
    return found


def _dtype_of(kind: Any) -> np.dtype | None:
    """That of the numbers in a column of this pyarrow type; None if it has others."""
    if arrow("types").is_decimal(kind):
        return np.dtype(np.float64)
    try:
        dtype: np.dtype = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return None
    return dtype if dtype.kind in "biuf" else None
