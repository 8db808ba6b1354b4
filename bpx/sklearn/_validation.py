"""Samples that are not trained on: a user's own, or a part split off; and what scores them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from ..backends import asarray, move
from ..data.arrays import take
from ._arrays import checked_weight, source_backend


@dataclass(frozen=True)
class HeldOut:
    """Checked samples.

    Attributes
    ----------
    X : array
        Or a sparse matrix.
    y : array
        Codes (n,) or targets (n, k), as the cost takes it.
    weight : array or None
    """

    X: Any
    y: Any
    weight: Any

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        return self.X, self.y, self.weight


def as_one(validation_data: Any, X_val: Any, y_val: Any, sample_weight_val: Any) -> Any:
    """What `fit` got by three names as ``validation_data=``."""
    apart = X_val, y_val, sample_weight_val
    if all(part is None for part in apart):
        return validation_data
    if validation_data is not None:
        raise ValueError(
            "validation_data is X_val, y_val and sample_weight_val: pass one or the other"
        )
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val come together: pass both, or neither")
    return apart[:2] if sample_weight_val is None else apart


def given(est: Any, validation_data: Any) -> HeldOut:
    """A user's ``validation_data=``, for an estimator that knows its classes and features."""
    try:
        X, y, *weights = validation_data
        (weight,) = weights or [None]
    except (TypeError, ValueError):
        raise TypeError(
            "expected validation_data=(X, y) or (X, y, sample_weight), got "
            f"{type(validation_data).__name__}"
        ) from None
    try:
        network = est._network
        backend, dtype = network.backend, network.dtype
        X, y = est._validate(X, y, source_backend(est, X), backend, reset=False)
        est._check_known(y)
        y = asarray(backend, est._encode(y, dtype, backend))
        weight = checked_weight(est, weight, X.shape[0], dtype, backend)
    except ValueError as error:
        raise ValueError(f"validation_data: {error}") from error
    return HeldOut(X if issparse(X) else move(backend, X), y, weight)


def split(est: Any, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, HeldOut]:
    """The part to train on, and the rest, as scikit-learn draws them for early stopping."""
    fitted, rest = train_test_split(
        np.arange(X.shape[0]), random_state=est._random_state, test_size=est.validation_fraction,
        stratify=est._strata(y),
    )  # fmt: skip
    if len(rest) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of "
            "your dataset."
        )
    arrays = X, y, sample_weight
    training, held_out = (
        [None if array is None else take(array, rows) for array in arrays]
        for rows in (fitted, rest)
    )
    X, y, sample_weight = training
    return X, y, sample_weight, HeldOut(*held_out)


def score(est: Any, held_out: HeldOut) -> Callable[[], float]:
    """What early stopping looks at after an epoch; larger is better."""
    X, y, weight = held_out.arrays
    scoring = est._scoring
    if scoring is None:
        return lambda: float(est._score(X, y, weight))
    if scoring == "loss":
        return lambda: -float(est.validation_loss_curve_[-1])
    scorer = check_scoring(est, scoring=scoring)
    labels = est._decode(y)
    weights = {} if weight is None else {"sample_weight": weight}
    # X is an array here, also where it came as a frame: this copy, of the same network, does not
    # ask for the names of its columns.
    nameless = copy.copy(est)
    vars(nameless).pop("feature_names_in_", None)
    return lambda: float(scorer(nameless, X, labels, **weights))
