"""NumPy's arrays of numbers from what a user hands in, and messages about what has no numbers."""

from __future__ import annotations

import contextlib
import numbers
import os
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from ..categories import is_nothing
from ..checks import FILL_IN, are_batches, as_days, last_word, shortened
from ..frames import check_no_dates, column, printed_names
from ._torch import is_wrapper

NUMBERS = "{} must be real numbers (floats, integers or booleans), got dtype {}"
_ONE_AT_A_TIME = (
    ": mini-batches are for fit and evaluate, without y; predict takes one x at a time: "
    "[net.predict(x) for x, y in batches]"
)
_CLASSES = "; for names of classes set net.classes = [...], in the order of the labels"


def is_sparse(x: Any) -> bool:
    """Whether x is a sparse matrix of SciPy's.

    >>> import numpy as np
    >>> import bpx
    >>> bpx.backends.is_sparse(np.zeros((2, 3)))
    False
    """
    return type(x).__module__.startswith("scipy.sparse")


def refuse(values: Any, what: str, library: str, code: str = "") -> None:
    """TypeError for names of files, and for arrays, of this library, that are not whole.

    `code` is what messages call the array, by default the last word of `what`.
    """
    if isinstance(values, str | os.PathLike):
        opened = ": bpx.open_data reads it" if os.path.splitext(values)[1] else ""
        raise TypeError(f"expected {what} to be an array of numbers, got {values!r}{opened}")
    if is_sparse(values):
        wrong = "is a sparse matrix, which is not accepted here: pass {}.toarray()"
    elif library == "torch" and values.is_nested:
        wrong = "is a nested tensor, whose rows may differ in length: {}.to_padded_tensor(0.0)"
    elif library == "torch" and values.layout != sys.modules["torch"].strided:
        wrong = "is a sparse tensor, which is not accepted here: pass {}.to_dense()"
    elif library == "torch" and is_wrapper(values):
        raise TypeError(_of_wrapper(values, what, code or last_word(what)))
    elif isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        wrong = "has masked elements; fill them first: {}.filled(...)"
    else:
        return
    raise TypeError(f"{what} {wrong.format(code or last_word(what))}")


def _of_wrapper(tensor: Any, what: str, name: str) -> str:
    """The message about a tensor without memory, with what makes a plain one of some of them."""
    kind = type(tensor).__name__
    plain = {"MaskedTensor": f", {name}.to_tensor(0.0)", "DTensor": f", {name}.full_tensor()"}
    if tensor.device.type == "meta":
        kind = "tensor on the device 'meta'"
    elif kind == "Tensor":
        kind = "tensor, as inside a transform of torch.func"
    return (
        f"expected {what} to be an array of numbers, got a {kind}, whose elements are not in "
        f"memory: pass a plain tensor{plain.get(kind, '')}"
    )


def host_numbers(values: Any, what: str) -> np.ndarray:
    """`values` as an array of real numbers; TypeError if it is none."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        # If not, it may still convert itself through __array__, below.
        with contextlib.suppress(BufferError, RuntimeError, TypeError):
            values = np.from_dlpack(values)
    check_no_dates(values, what)
    try:
        host = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = _of_no_array(values, last_word(what), f": {error}")
        raise TypeError(f"{what} is not an array of numbers{hint}") from error
    if host.dtype.kind == "O" and host.ndim:
        host = _of_objects(host)
    if host.dtype.type.__module__ == "ml_dtypes":  # bfloat16 and others, which JAX's arrays have
        host = host.astype(np.float32)
    if host.dtype.kind in "biuf":
        return host
    if host.dtype.kind == "O" and not host.ndim:
        raise TypeError(
            f"expected {what} to be an array of numbers, got {shortened(values)}"
            f"{_of_one_object(values, last_word(what))}"
        )
    advice = _advice(values, host, last_word(what))
    raise TypeError(f"{NUMBERS.format(what, host.dtype)}{advice}")


def _of_one_object(values: Any, name: str) -> str:
    """What to do with an object that NumPy does not look into."""
    if isinstance(values, Mapping):
        return f": pandas.DataFrame({name}) has a column for each key"
    if hasattr(values, "collect"):  # a LazyFrame of Polars
        return f": pass {name}.collect()"
    return _ONE_AT_A_TIME if are_batches(values) else ""


def _of_no_array(values: Any, name: str, otherwise: str) -> str:
    """What to do with rows of different lengths and the like."""
    if name == "x" and _is_pair(values):
        first = "pair.x" if hasattr(values, "x") else "pair[0]"
        return f" but x and y together: pass x alone, {first}"
    return _ONE_AT_A_TIME if are_batches(values) else otherwise


def _is_pair(values: Any) -> bool:
    several = isinstance(values, tuple | list) and len(values) in (2, 3)
    return several and all(hasattr(value, "shape") for value in values)


def _of_objects(host: np.ndarray) -> np.ndarray:
    """Numbers that lie in an array as objects; the same array if one of them is none.

    A frame gives such an array if its columns are of several kinds, like the columns of booleans
    that ``get_dummies`` puts beside others, and if they may have missing values; a database one of
    decimals.
    """
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        found = np.array(host.tolist())  # by NumPy's rules for lists: strings stay what they are
        if found.dtype.kind == "O" and not any(map(_is_no_number, host.ravel().tolist())):
            found = host.astype(np.float64)  # fractions, decimals, integers of more than 64 bits
        if found.dtype.kind in "biuf" and found.shape == host.shape:
            return found
    return host


def _advice(values: Any, host: np.ndarray, name: str) -> str:
    """The first element that is not a number, and what to do with it."""
    if host.dtype.kind in "mM":
        return as_days(name)
    if host.dtype.names:
        return f"; numpy.lib.recfunctions.structured_to_unstructured({name}) is one of numbers"
    found, missing = "", False
    if (at := _not_a_number(host)) is not None:
        names, missing = printed_names(values), is_nothing(host[at])
        where = f"in {column(at[-1], names)}" if names else f"at {list(at)}"
        found = f" with {shortened(host[at])} {where}{f': {FILL_IN}' if missing else ''}"
    if name == "y" and host.shape[1:] == (1,) and _of_text(values, host, name):
        return f"{found}; np.asarray({name}).reshape(-1)"
    if missing:
        return found
    if host.dtype.kind == "S":
        return f"; they are bytes, and np.char.decode({name}) is text"
    if name == "y":
        return f"{found}{_CLASSES if _are_classes(host) else ''}"
    return f"{found}{_of_text(values, host, name)}"


def _not_a_number(host: np.ndarray) -> tuple[int, ...] | None:
    """The place of the first object that is not a number; None if there is none."""
    if host.dtype.kind != "O":
        return None
    # Among the names of classes a missing one is to be told, NaN too.
    for wrong in (is_nothing, _is_no_number) if host.ndim == 1 else (_is_no_number,):
        for at, value in np.ndenumerate(host):
            if wrong(value):
                return at
    return None


def _is_no_number(value: Any) -> bool:
    return not isinstance(value, numbers.Real | Decimal | np.bool_)


def _are_classes(host: np.ndarray) -> bool:
    """Whether NumPy can number them: names, and not of kinds that have no order."""
    with contextlib.suppress(TypeError, ValueError):
        return host.ndim == 1 and host.dtype.kind in "OSU" and len(np.unique(host)) > 0
    return False


def _of_text(values: Any, host: np.ndarray, name: str) -> str:
    """What makes numbers of an array that has text in it; empty if it has none."""
    found = host.ravel().tolist() if host.dtype.kind in "OTU" else ()
    words = [value for value in found if isinstance(value, str)]
    try:
        for word in words:
            float(word)
    except ValueError:
        at = found.index(word) % host.shape[-1]
        return f"; {shortened(word)} is text: {_dummies(values, name, at)}"
    return f"; np.asarray({name}).astype(float)" if words else ""


def _dummies(values: Any, name: str, at: int) -> str:
    """What makes columns of numbers of the column of text at this place."""
    library = type(values).__module__.partition(".")[0]
    if library == "polars" and printed_names(values):
        return f"{name}.to_dummies({printed_names(values)[at]!r}) makes columns of numbers of it"
    if library in ("pandas", "pyarrow"):
        frame = f"{name}.to_pandas()" if library == "pyarrow" else name
        return f"pandas.get_dummies({frame}, dtype=float) makes columns of numbers of it"
    return "give it a column of 0 and 1 for each value, as pandas.get_dummies does for a frame"
