"""Numbers that a user passes: what was expected, and what came."""

from __future__ import annotations

import inspect
import math
import numbers
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def number(what: str, value: Any) -> float:
    """`value` as a float.

    Raises
    ------
    TypeError
        It is not a real number.
    ValueError
        It is NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"expected {what} to be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"expected {what} to be finite, got {value!r}")
    return float(value)


def positive(what: str, value: Any) -> float:
    """`value` as a float; ValueError unless it is positive."""
    found = number(what, value)
    if found <= 0.0:
        raise ValueError(f"expected {what} > 0, got {value!r}")
    return found


def nonnegative(what: str, value: Any) -> float:
    """`value` as a float; ValueError if it is negative."""
    found = number(what, value)
    if found < 0.0:
        raise ValueError(f"expected {what} >= 0, got {value!r}")
    return found


def fraction(what: str, value: Any, *, zero: bool = False) -> float:
    """`value` as a float; ValueError unless 0 < value < 1, or 0 if that is allowed."""
    found = number(what, value)
    if not 0.0 <= found < 1.0 or (found == 0.0 and not zero):
        raise ValueError(f"expected 0 {'<=' if zero else '<'} {what} < 1, got {value!r}")
    return found


def flag(what: str, value: Any) -> bool:
    """`value` as a bool; TypeError for anything else: ``"no"`` would be a yes."""
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise TypeError(f"expected {what} to be True or False, got {value!r}")
    return bool(value)


def whole(what: str, value: Any, least: int = 1) -> int:
    """`value` as an int; TypeError if it is not an integer, ValueError below `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"expected {what} to be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"expected {what} >= {least}, got {value!r}")
    return int(value)


def same_rows(what: str, got: int, rows: int) -> None:
    """ValueError unless an array has as many rows as x."""
    if got != rows:
        raise ValueError(f"expected as many rows in {what} as in x, {rows}, got {got}")


_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def budget_in_bytes(value: Any) -> int:
    """A budget as a number of bytes: an integer, or words such as ``"500 MB"`` or ``"2 GiB"``."""
    if not isinstance(value, str):
        return whole("budget", value)
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = _UNITS.get(value[len(digits) :].strip().lower())
    try:
        found = float(digits) * (unit or math.nan)
    except ValueError:
        found = math.nan
    if not 1.0 <= found < math.inf:
        raise ValueError(f'expected budget to be bytes, or words such as "500 MB", got {value!r}')
    return int(found)


def in_words(size: int) -> str:
    """A number of bytes as a person says it, such as ``"1.5 GB"``."""
    power = min(len(str(size)) - 1, 12) // 3
    return f"{size / 1000**power:.4g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def over_budget(size: int, budget: int) -> str:
    """Part of a message on what takes more bytes than it may."""
    return f"{in_words(size)} in memory, more than the budget of {in_words(budget)}"


def are_batches(given: Any) -> bool:
    """Whether it is an iterable of (x, y) mini-batches, and not arrays.

    A list has to have tuples, or lists as PyTorch's loader makes them; a tuple is x and y.
    """
    if isinstance(given, list):
        return all(map(_is_batch, given))
    arrays = hasattr(given, "shape") or isinstance(given, tuple | str | bytes | Mapping)
    return isinstance(given, Iterable) and not arrays


def _is_batch(given: Any) -> bool:
    x = given[0] if isinstance(given, tuple | list) and len(given) > 1 else 0.0
    if isinstance(given, tuple):
        return not isinstance(x, numbers.Real)  # as in a row
    return len(getattr(x, "shape", ())) > 1  # a list of vectors may be x itself


def different_names(what: str, names: Any) -> tuple[str, ...]:
    """`names` as a tuple.

    Raises
    ------
    TypeError
        Not a list of strings, or an empty one.
    ValueError
        A name occurs twice.
    """
    listed = isinstance(names, Iterable) and not isinstance(names, str)
    found = tuple(names) if listed else ()
    if not found or not all(isinstance(name, str) for name in found):
        raise TypeError(
            f"expected {what} to be a list of names, each a string, got {shortened(names)}"
        )
    most, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"expected {what} to be different names, got {shortened(most)} {times} times"
        )
    return found


def takes(what: str, function: Any, *arguments: str) -> None:
    """TypeError unless `function` can be called with these arguments, by their places."""
    asked = f"{what} to be a function taking ({', '.join(arguments)})"
    if not callable(function):
        raise TypeError(f"expected {asked}, got {shortened(function)}")
    if isinstance(function, np.ufunc) and arguments[0] == "xp":  # it would write into the last one
        name, of = function.__name__, ", ".join(arguments[1 : 1 + function.nin])
        raise TypeError(
            f"expected {asked}, got np.{name}, which takes no xp: "
            f"lambda {', '.join(arguments)}: xp.{name}({of})"
        )
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # what is called takes them
    except (TypeError, ValueError):  # a function in C may have none that can be read
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(f"expected {asked}, got one taking {signature}") from None


def check_described(obj: Any) -> None:
    """TypeError unless the fields of a dataclass are all that `obj` was made of."""
    made_by = next(cls for cls in type(obj).__mro__ if "__init__" in vars(cls))
    if "__dataclass_fields__" not in vars(made_by):
        raise TypeError(
            f"expected {made_by.__name__} to be a dataclass, got a class with an __init__ of its "
            "own: put @dataclass(frozen=True) above it, and in place of the arguments of __init__ "
            "fields, such as units: int = 3"
        )


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn, at the line of the user's that has led here: the first that is not a library's own."""
    of_theirs = category.__module__.startswith("sklearn.")  # which module="sklearn" filters
    between = ("bpx.",) if of_theirs else ("bpx.", "sklearn.", "joblib.")
    level, frame = 2, inspect.currentframe()
    while (frame := frame and frame.f_back) and frame.f_globals["__name__"].startswith(between):
        level += 1
    warnings.warn(message, category, stacklevel=level)


def not_as_expected(what: str, shape: Sequence[int], got: Any) -> ValueError:
    """What to raise if a user's own function has not returned numbers of this shape."""
    came = shortened(got)
    if hasattr(got, "shape") and hasattr(got, "dtype"):
        came = f"{type(got).__name__} of shape {tuple(got.shape)} and dtype {got.dtype}"
    return ValueError(f"expected {what} to be real numbers of shape {tuple(shape)}, got {came}")


def of_batch(shape: Sequence[int]) -> str:
    """The shape of a batch of samples of this shape, for a message: ``(m, 28, 28)``."""
    return str(("m", *shape)).replace("'", "")


def last_word(what: str) -> str:
    """The array in the name of what came, for code in a message: that of "validation x" is x."""
    return what.rpartition(" ")[2]


def as_days(name: str) -> str:
    """The end of a message about dates or durations in the array of this name."""
    return f"; as days, for example: ({name} - {name}.min()) / np.timedelta64(1, 'D')"


# How a network takes them.
FOR_CLASSES = (
    'labels of classes need task="classification", the default of "softmax" and "sigmoid"'
)
FILL_IN = "fill in what is missing, or leave those rows out"  # where there is NaN or infinity
LONGEST = 1000  # characters of the name of a class, or of a column
SHOWN = 57  # characters of a longer text


def shortened(value: Any) -> str:
    """What came, for a message: a file may bring a text of any length."""
    text = repr(value)
    return text if len(text) <= SHOWN + 3 else f"{text[:SHOWN]}..."


def printable(text: str) -> str:
    """Lines without anything that a terminal obeys, which a file's names may have."""
    return "".join(c if _is_shown(c) else ascii(c)[1:-1] for c in text)


def _is_shown(character: str) -> bool:
    # For Python only one of the spaces, U+0020, is printable.
    return character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs"
