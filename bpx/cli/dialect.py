"""How a .csv file is written, as options of the command line say it."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..categories import MISSING
from ..data.readers import Dialect, as_csv
from .missing import OPTION

TAB = "tab"


class DialectOptions(Dialect):
    """A dialect of which messages speak as of options."""

    def argument(self, name: str, value: str) -> str:
        shown = TAB if value == "\t" else shlex.quote(value)
        return f"--{name} {shown}"

    def without(self, column: str) -> str:
        return f"bpx train {self.argument('ignore', column)}"

    def of_text(self, column: str) -> str:
        return (
            "; a column has numbers in all rows, or text, and what it had in training: mend the "
            f"cell, or leave out the line, or the column ({self.without(column)}); where it says "
            f"that a value of x is missing, empty all such cells (empty, {', '.join(MISSING)} are "
            f"read as missing) and pass {OPTION}"
        )

    def filling(self) -> str:
        return OPTION


COMMAS = DialectOptions()


def dialect(data: str | Path, separator: str, decimal: str) -> Dialect:
    """That of --separator and --decimal; ValueError if they are not for these data."""
    found = DialectOptions("\t" if separator in (TAB, r"\t") else separator, decimal)
    if found != COMMAS and Path(data).suffix.lower() != ".csv":
        hint = as_csv(Path(data), COMMAS)
        raise ValueError(f"--separator and --decimal are for a .csv file, got {data}{hint}")
    return found
