"""What to do about a cell of a CSV file that is not a number, and about what is no such file."""

from __future__ import annotations

import re
import shlex
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...categories import is_missing
from ...checks import shortened
from ._dialect import Dialect

DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}")
LIKE_A_NUMBER = re.compile(r"[+-]?[\d.,'_\s%$€£¥]+")
WITH_A_UNIT = re.compile(r"[+-]?\d[\d.,'_\s]*([^\W\d_].*|[%°$€£¥\"].*)")
# Of what means that a value is missing, what pandas.read_csv takes for NaN by itself.
NAN_OF_PANDAS = "", "NA", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "NULL", "null", "None"
FEW = 10  # texts: "2 doors" and "4 doors" may well be categories


def is_category(cell: str, dialect: Dialect) -> bool:
    """Whether a cell has text, and neither a date nor a number that is written in another way."""
    word = cell.strip()
    return dialect.is_word(word) and not _has_marks(word)


def _has_marks(word: str) -> bool:
    """Whether it is a date, or a number that is written in another way."""
    return bool(DATE.match(word) or LIKE_A_NUMBER.fullmatch(word))


def odd_word(words: Sequence[str], dialect: Dialect) -> tuple[str, str] | None:
    """Of different texts one that is no name, where most are numbers or dates, and its unit.

    The unit is "" unless nearly all are numbers with this one. None if they are names, or if all
    are plain numbers: where a file has these as text, it is meant so.
    """
    odd = [word for word in words if dialect.number(word) is None]
    units = Counter(found[1] for word in odd if (found := WITH_A_UNIT.fullmatch(word)))
    for unit, count in units.most_common(1):
        if count > FEW and count >= 0.9 * len(words) and not _has_marks(f"1{unit}"):
            return next(word for word in odd if word.endswith(unit)), unit
    numbers = len(words) - len(odd) + sum(map(_has_marks, odd))
    return (odd[0], "") if odd and numbers > len(words) / 2 else None


def advice(cell: str, column: str, dialect: Dialect, unit: str = "", *, of_x: bool = True) -> str:
    """The end of a message about a cell that is not a finite number, perhaps for its unit."""
    word = cell.strip()
    if unit:
        return f": strip the unit {shortened(unit)} from all cells, so that they are numbers"
    if is_missing(word):
        return ": fill it, or leave the line out"
    if word.lower() in ("true", "false"):
        return ": write 1 for True and 0 for False"
    if dialect.number(word) is not None:  # inf, 1e400
        return ", which is not finite: put another number there, or leave the line out"
    if DATE.match(word):
        return ": write a date as a number, such as the days since a first one"
    if LIKE_A_NUMBER.fullmatch(word):
        other = dialect.other_decimal(word)
        return (
            f": {other and f'{other}, or '}write the digits 0 to 9 and a {dialect.mark}, without "
            f"other marks, such as 1234{dialect.decimal}5"
        )
    return dialect.of_text(column) if of_x else ": mend the cell, or leave the line out"


def numbers_as_text(words: Iterable[str], column: str, dialect: Dialect) -> str:
    """What makes numbers of a column of text that has nothing else; empty for any other."""
    if any(dialect.number(word) is None for word in words):
        return ""
    return f"; those of {shortened(column)} are numbers, and {to_numbers(column)}"


def without_values(rows: str, column: str, filling: str, cell: str = "") -> str:
    """What a message says of rows that lack a target, or a weight; see `Dialect.filling`."""
    name, hint = shortened(column), f", as {filling} fills x alone" if filling else ""
    word = cell.strip()
    read = "" if word in NAN_OF_PANDAS else f" of what is read with na_values=[{word!r}]"
    return (
        f"{rows} have no value in column {name}: leave these rows out{hint} (pandas: "
        f"frame.dropna(subset=[{name}]){read})"
    )


def to_numbers(column: str) -> str:
    """What makes numbers of a column that a file has as text."""
    return (
        f"pandas.to_numeric(frame[{shortened(column)}], errors='coerce') makes a column of numbers"
    )


def as_csv(path: Path, dialect: Dialect) -> str:
    """What to do with a table in a file of another kind; empty for what is none."""
    kind = path.suffix.lower()
    if kind in (".txt", ".dat"):
        separator = dialect.argument("separator", "\t")
        return f": name it .csv, and pass {separator}, or what else is between its cells"
    if kind in (".xlsx", ".xls", ".ods"):
        return ": save its sheet as a .csv file"
    if kind in (".gz", ".bz2", ".xz", ".zst", ".zip"):
        return ": unpack it first; .parquet is packed, and is read as it is"
    return ""


def not_csv(path: Path, error: Exception) -> ValueError:
    """What to raise for text that Python cannot decode, or whose quotes it cannot match."""
    with path.open("rb") as file:
        wide = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    code = f"iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 {shlex.quote(str(path))} > new.csv"
    hint = f"; save it as UTF-8, for example: {code}" if isinstance(error, UnicodeError) else ""
    return ValueError(f"{path} is not a CSV file in UTF-8: {error}{hint}")
