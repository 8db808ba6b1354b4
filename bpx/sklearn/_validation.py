"""Samples that are not trained on: a user's own, or a part split off; and what scores them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight


@dataclass(frozen=True)
class HeldOut:
    """Checked samples.

    Attributes
    ----------
    X : array
        Dense.
    y : array
        (n, k), as the cost takes it: labels are encoded.
    weight : array or None
    """

    X: Any
    y: Any
    weight: Any

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        return self.X, self.y, self.weight


def _held_out(est: Any, *arrays: Any) -> HeldOut:
    """With it begins the curve of its loss, if that has not yet."""
    if est.validation_loss_curve_ is None:
        est.validation_loss_curve_ = []
    return HeldOut(*arrays)


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
        X = est._checked(X)
        y = est._encode(y)
        if weight is not None:
            weight = _check_sample_weight(weight, X)
    except ValueError as error:
        raise ValueError(f"validation_data: {error}") from error
    return _held_out(est, X.toarray() if issparse(X) else X, y, weight)


def split(est: Any, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, HeldOut]:
    """The part to train on, and the rest, as scikit-learn draws them for early stopping."""
    stratify = y.astype(bool) if is_classifier(est) and est.n_outputs_ == 1 else None
    arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
    parts = train_test_split(
        *arrays, random_state=est._random_state, test_size=est.validation_fraction,
        stratify=stratify,
    )  # fmt: skip
    X, X_val, y, y_val, *weights = parts
    if X_val.shape[0] < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of "
            "your dataset."
        )
    weight, weight_val = weights or (None, None)
    return X, y, weight, _held_out(est, X_val, y_val, weight_val)


def score(est: Any, held_out: HeldOut) -> Callable[[], float]:
    """What early stopping looks at after an epoch; larger is better."""
    X, y, weight = held_out.arrays
    if est.scoring is None:
        return lambda: float(est._score(X, y, weight))
    if est.scoring == "loss":
        return lambda: -float(est.validation_loss_curve_[-1])
    scorer = check_scoring(est, scoring=est.scoring)
    labels = est._decide(y) if is_classifier(est) else y[:, 0] if est.n_outputs_ == 1 else y
    weights = {} if weight is None else {"sample_weight": weight}
    # X is an array here, also where it came as a frame: this copy, of the same network, does not
    # ask for the names of its columns.
    nameless = copy.copy(est)
    vars(nameless).pop("feature_names_in_", None)
    return lambda: float(scorer(nameless, X, labels, **weights))
