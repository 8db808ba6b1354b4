"""Arrays of libraries other than NumPy: which are taken as they are, their checks, the way back.

With ``backend=None`` scikit-learn's rules hold: under ``array_api_dispatch`` everything follows
X; without it everything becomes NumPy's. With ``backend=`` given, arrays of any library are taken
as they are, moved to that backend, and results go back to the library and device of X.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_sample_weight, check_X_y, validate_data

from .. import frames
from ..backends import Array, Backend, BackendError, asarray, get, move, of
from ..checks import as_days, shortened
from ..data.values import first_not_finite
from ..frames import column, names_of

HOST = "numpy"

# Multiply-adds of a mini-batch's forward pass, from which `backend="auto"` takes a CUDA device.
# Two cores take 0.5 ms for a step of 784-13-10 in float32 at 200 samples (Adam, with Numba;
# without 0.6), twice what the 20 calls of CuPy in a step are said to cost the host.
WORTH_A_DEVICE = 2_000_000


def source_backend(est: Any, array: Any) -> Backend:
    """Where an array is taken from: its own library and device, or NumPy."""
    return (of(array) if takes_any(est) else None) or get(HOST)


def takes_any(est: Any) -> bool:
    """Whether arrays of other libraries are taken as they are."""
    return est.backend is not None or get_config()["array_api_dispatch"]


def trains_on(est: Any, source: Backend, X: Any, sizes: list[int]) -> Backend:
    """The backend that `backend=` and `device=` name, by default that of X."""
    if est.device is not None and (est.backend == "auto" or not isinstance(est.backend, str)):
        raise ValueError(
            f"device={est.device!r} is a device of a library: name that too, as in backend='torch'"
        )
    if est.backend is None:
        return source
    if est.backend == "auto":
        return automatic(source, est.batch_size, X, sizes)
    return get(est.backend if est.device is None else f"{est.backend}:{est.device}")


def automatic(source: Backend, batch_size: Any, X: Any, sizes: list[int]) -> Backend:
    """Where X is, if that is a device; else a CUDA device for large steps, else NumPy."""
    if not source.is_host:
        return source
    shape = getattr(X, "shape", None) or np.shape(X)
    m = min(shape[0], 200 if batch_size == "auto" else batch_size)
    products = m * sum(into * out for into, out in pairwise([*shape[1:], *sizes]))
    if products >= WORTH_A_DEVICE:
        with contextlib.suppress(BackendError):
            return get("cupy")
    return get(HOST)


def float_dtype(est: Any, X: Any, source: Backend, backend: Backend) -> str:
    """The network's: `dtype=`, else float32 for X in float32, and float64 for any other."""
    if est.dtype is not None:
        return str(est.dtype)
    narrow = X.dtype == source.xp.float32 or "float64" in backend.lacks
    return "float32" if narrow else "float64"


def checked(est: Any, X: Array, source: Backend, *, reset: bool) -> Array:
    """An array of another library: its shape by scikit-learn's own rules, and its numbers.

    The rules see a row of zeros, so that the array stays where it is.
    """
    if not source.xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
        raise ValueError(f"expected X to be real numbers, got dtype {X.dtype}")
    shape = tuple(X.shape)
    one_row = [min(length, 1) for length in shape[:1]]
    validate_data(est, np.zeros((*one_row, *shape[1:])), allow_nd=est._allow_nd, reset=reset)
    check_finite(X, "X")
    return X


def check_no_dates(array: Any, what: str) -> None:
    """TypeError for dates and durations, which scikit-learn takes for counts of nanoseconds.

    A missing one would be a very large number, and no NaN.
    """
    frames.check_no_dates(array, what)
    if hasattr(type(array), "columns"):  # a frame, all of whose columns that has seen
        return
    scalar = not hasattr(array, "__len__") or getattr(array, "shape", None) == ()
    if scalar or issparse(array) or not len(array):
        return
    is_array = isinstance(array, np.ndarray)
    dtype = array.dtype if is_array else np.asarray(_safe_indexing(array, [0])).dtype
    if dtype.kind in "mM":
        raise TypeError(
            f"expected {what} to be real numbers, got dates or durations of dtype {dtype}"
            f"{as_days(what)}"
        )


@contextlib.contextmanager
def no_numbers_are_told(X: Any, y: Any = None) -> Iterator[None]:
    """An error of scikit-learn's about text or other objects says in which column of X, or in y,
    and what to do.
    """
    try:
        yield
    except TypeError as error:
        for what, array in (("X", X), ("y", y)):
            if told := _object_in(array):
                raise TypeError(f"{error}: {what} has {told}") from error
        raise
    except ValueError as error:
        of_text = any(words in str(error) for words in ("string", "Cannot cast"))  # or categories
        found = _text(X) if of_text else None
        if found is None:
            raise
        word, k = found
        names = names_of(X)
        place = shortened(names[k]) if names else k
        raise ValueError(
            f"X has text in {column(k, names)}, such as {shortened(word)}: make columns of 0 and "
            f"1 of it in a pipeline, make_column_transformer((OneHotEncoder(), [{place}]), "
            "remainder='passthrough')"
        ) from error


def _object_in(values: Any) -> str:
    """The first object that is no number, where it is and what to do; empty if there is none."""
    array = np.asarray(values, object)  # without axes if it is sparse, or None
    for at, value in np.ndenumerate(array if array.ndim else ()):
        try:
            float(0.0 if value is None else value)  # None is a NaN to scikit-learn
        except ValueError:  # text, for which there is another message
            continue
        except TypeError:
            place = f" in {column(at[-1], names_of(values))}" if len(at) > 1 else ""
            is_date = hasattr(value, "year") or hasattr(value, "total_seconds")
            hint = ": make numbers of them, such as days since the first one" if is_date else ""
            return f"{shortened(value)}{place}{hint}"
    return ""


def as_numbers(X: Any) -> Any:
    """Objects as float64, as scikit-learn makes of them unless they are categories of pandas."""
    return X.astype(np.float64) if X.dtype.kind == "O" else X


def _text(X: Any) -> tuple[str, int] | None:
    """The first text in X (n, k) that is no number, and its column."""
    array = np.asarray(X, object)
    for at, value in np.ndenumerate(array if array.ndim == 2 else ()):
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return value, at[1]
    return None


def checked_y(est: Any, y: Any, n: int, backend: Backend, numeric: bool) -> Any:
    """y beside X of another library: on `backend` if it is such an array too, else on the host."""
    if source_backend(est, y).name == HOST:
        return check_X_y(np.zeros((n, 1)), y, multi_output=True, y_numeric=numeric)[1]
    if y.ndim < 1 or y.shape[0] != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n}, y has shape "
            f"{tuple(y.shape)}"
        )
    check_finite(y, "y")
    return move(backend, y)


def check_finite(array: Array, what: str) -> None:
    row = first_not_finite(array)
    if row is not None:
        raise ValueError(f"Input {what} contains NaN or infinity, first in row {row}.")


def checked_weight(est: Any, sample_weight: Any, n: int, dtype: str, backend: Backend) -> Any:
    """Checked weights (n,), on `backend`."""
    if sample_weight is None:
        return None
    if source_backend(est, sample_weight).name == HOST:
        return asarray(backend, _check_sample_weight(sample_weight, np.empty((n, 0), dtype)))
    if tuple(sample_weight.shape) != (n,):
        raise ValueError(f"sample_weight.shape == {tuple(sample_weight.shape)}, expected {(n,)}!")
    check_finite(sample_weight, "sample_weight")
    return move(backend, sample_weight)


def check_same(est: Any, X: Any, method: str) -> None:
    """scikit-learn's rule under dispatch: X comes from where the estimator was fitted.

    Raises
    ------
    ValueError
        It does not.
    """
    if est.backend is not None or not get_config()["array_api_dispatch"]:
        return
    fitted, given = est._network.backend, source_backend(est, X)
    if given is not fitted:
        raise ValueError(
            f"Inputs passed to {type(est).__name__}.{method}() must use the same namespace and "
            f"the same device as those passed to fit(): it was fitted on {fitted.name!r}, and X "
            f"is on {given.name!r}. sklearn.utils._array_api.move_estimator_to moves an estimator"
        )
