"""Labels of any kind as targets (n, k), and back; other libraries' arrays stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer

from ..backends import Array, get, move, of, on_host
from ..data.arrays import class_count
from ..network import Network


def _is_array_elsewhere(y: Any) -> bool:
    """Whether y is neither NumPy's nor SciPy's, whose sparse marks are taken as NumPy's."""
    source = of(y)
    return source is not None and source.name != "numpy"


def kinds(y: Any) -> Any:
    """What scikit-learn's rules for labels look at: y itself, or for another library's array each
    value once, as rows of its width.
    """
    if not _is_array_elsewhere(y):
        return y
    backend = get(y)
    values = backend.to_host(backend.xp.unique_values(y))
    return values if y.ndim == 1 else np.repeat(values[:, None], y.shape[1], axis=1)


def are_among(y: Any, classes: np.ndarray) -> bool:
    """Whether labels (n,) are all among `classes`; False too where only scikit-learn's rules,
    which take 0.2 ms for any y, say so.
    """
    plain = isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biufU"
    if not plain or y.dtype.kind != classes.dtype.kind:
        return False
    return bool((classes.take(np.searchsorted(classes, y), mode="clip") == y).all())


def encoded(y: Any, binarizer: LabelBinarizer, dtype: str) -> Array:
    """Codes (n,) of more than two classes, 0 or 1 (n, 1) of two, or marks (n, k)."""
    if y.ndim == 2 and not _is_array_elsewhere(y):
        return binarizer.transform(y).astype(dtype)
    backend = get(y)
    xp, kind = backend.xp, backend.dtype(dtype)
    if y.ndim == 2:
        return xp.astype(y, kind)
    codes = numbered(y, binarizer)
    return codes if len(binarizer.classes_) > 2 else xp.astype(codes[:, None], kind)


def numbered(y: Any, binarizer: LabelBinarizer) -> Array:
    """Codes (n,) of labels (n,), any number of classes."""
    backend, classes = get(y), binarizer.classes_
    xp = backend.xp
    if _is_array_elsewhere(y):
        y = xp.astype(y, xp.uint8) if xp.isdtype(y.dtype, "bool") else y
        classes = xp.astype(backend.from_host(np.asarray(classes) + 0), y.dtype)
    return xp.searchsorted(classes, y)


def by_name(y: Any, names: Sequence[Any] | None) -> Any:
    """Codes (n,) as the names of a network's classes, if it could take one for a name, as 1 for
    "1"; anything else as it is.
    """
    doubtful = any(isinstance(name, str) and name.isdecimal() for name in names or ())
    return np.array(names)[on_host(y)] if doubtful and y.ndim == 1 else y


def decoded(a: Array, binarizer: LabelBinarizer) -> Array:
    """Labels (n,) of outputs (n, k) or of codes (n,), or marks; in the library of `a`, if they
    are numbers.
    """
    if a.ndim == 1:
        return _named(a, binarizer.classes_)
    if isinstance(a, np.ndarray):
        return binarizer.inverse_transform(a.ravel() if a.shape[1] == 1 else a)
    backend, classes = get(a), binarizer.classes_
    xp = backend.xp
    if binarizer.y_type_.startswith("multilabel"):
        return xp.astype(a > 0.5, backend.index_dtype)
    if a.shape[1] == 1:
        codes = xp.astype(a[:, 0] > 0.5, backend.index_dtype) * (len(classes) - 1)
    else:
        codes = backend.argmax(a)
    return _named(codes, classes)


def _named(codes: Array, classes: np.ndarray) -> Array:
    backend = get(codes)
    if classes.dtype.kind not in "biuf":
        return classes[backend.to_host(codes)]
    return backend.xp.take(backend.from_host(classes), codes, axis=0)


def accuracy(right: Array, weight: Any) -> float:
    """The accuracy: the mean of which are right, weighted by `weight`."""
    backend = get(right)
    xp = backend.xp
    dtype = backend.dtype("float32" if "float64" in backend.lacks else "float64")
    if weight is None:
        return float(xp.mean(xp.astype(right, dtype)))
    weight = xp.astype(move(backend, weight), dtype)
    return float(xp.sum(weight * xp.astype(right, dtype)) / xp.sum(weight))


def of_network(net: Network, classes: Any) -> Any:
    """Labels for each class of a network once; unit vectors for several labels per sample."""
    outputs = net.output_shape[0]
    if net.task == "multilabel":
        if classes is not None:
            raise ValueError(
                "classes= is for one label per sample, and the network's task is 'multilabel', "
                "whose labels are marks, 0 or 1: leave it out"
            )
        return np.eye(outputs, dtype=int)
    count = class_count(outputs)
    classes = net.classes if classes is None else classes
    if classes is None:
        return np.arange(count)
    labels = np.asarray(classes)
    if labels.shape != (count,) or not np.array_equal(np.unique(labels), labels):
        raise ValueError(
            f"expected {count} classes in ascending order, as classes_ has them, got {classes!r}: "
            "np.unique(y, return_inverse=True) numbers labels in that order"
        )
    return labels
