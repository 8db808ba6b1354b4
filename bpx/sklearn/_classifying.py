"""Labels in, labels and probabilities out: what all classifiers share."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from ..backends import Array, Backend, get, move, on_host
from ..elsewhere import OF_FIT_OF_ESTIMATORS
from ..keywords import hints
from ..network import Network
from . import _labels
from ._learning import Learns


class Classifies(ClassifierMixin, Learns):
    """An estimator that knows classes."""

    _label_binarizer: LabelBinarizer
    class_weight: Any

    @property
    def _task(self) -> str:
        several = self._label_binarizer.y_type_.startswith("multilabel")
        return "multilabel" if several else "classification"

    @property
    def classes_(self) -> Array:
        """In ascending order; numbers are in the library of the X of `fit`."""
        found = self._label_binarizer.classes_
        if self._source is None or found.dtype.kind not in "biuf":
            return found
        return move(self._source, found)

    def _learn_labels(self, y: Any, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(_labels.kinds(y))
        elif self.warm_start or not _labels.are_among(y, self._label_binarizer.classes_):
            self._check_classes(unique_labels(_labels.kinds(y)))

    def _take_labels(self, net: Network, classes: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(_labels.of_network(net, classes))

    def _check_classes(self, classes: Any) -> None:
        known = self._label_binarizer.classes_
        if self.warm_start:
            if set(classes) != set(known):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {known}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, known, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {known}. 'y' has {classes}."
            )

    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        return _labels.encoded(y, self._label_binarizer, dtype)

    def _check_known(self, y: Any) -> None:
        known = self._label_binarizer.classes_
        unknown = np.setdiff1d(unique_labels(_labels.kinds(y)), known)
        if len(unknown):
            raise ValueError(
                f"expected labels among classes_, {known}, got {unknown} too: leave those rows "
                "out, or train on all classes"
            )

    def _weigh(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see "
                "all of y: pass class_weight=dict(zip(classes, compute_class_weight('balanced', "
                "classes=np.array(classes), y=y)))"
            )
        weight = compute_sample_weight(self.class_weight, on_host(y))
        return weight if sample_weight is None else weight * on_host(sample_weight)

    def _decode(self, y: Any) -> Any:
        return _labels.decoded(y, self._label_binarizer)

    @available_if(lambda est: est._check_partial_fit())
    @_fit_context(prefer_skip_nested_validation=True)
    @hints(**OF_FIT_OF_ESTIMATORS)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        validation_data: Any = None,
    ) -> Self:
        """One epoch over the given data, with the weights and the optimizer's memory as they are.

        With the early stopping of an MLP, which needs `validation_data` here, scores and best
        weights are kept from call to call. When it stops, `stopped_` says so and the best weights
        are back; a further call continues from them, and counts epochs without an improvement
        anew.

        Parameters
        ----------
        X, y, sample_weight, validation_data
            As for `fit`.
        classes : array-like, optional
            All classes that will ever occur; needed in the first call.
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            classes = np.asarray(on_host(classes))
        if first:
            kinds = _labels.kinds(y)
            several = type_of_target(kinds).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(kinds if several else classes)
        elif classes is not None:
            known = self._label_binarizer.classes_
            same = np.array_equal(known, classes) or np.array_equal(known, unique_labels(classes))
            if not same:
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                    f"{known!r}"
                )
        self._fit(X, y, sample_weight, validation_data, incremental=True)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n_samples, n_classes), in the order of `classes_`.

        >>> import numpy as np
        >>> import bpx
        >>> from bpx.sklearn import MLPClassifier
        >>> net = bpx.Network([1, 1], bias="zeros", dtype="float64")
        >>> net.weights[0] = [[1.0]]
        >>> clf = MLPClassifier.from_network(net, ["no", "yes"])
        >>> clf.predict_proba(np.array([[2.0], [-2.0]])).round(3).tolist()
        [[0.119, 0.881], [0.881, 0.119]]
        """
        return self._probabilities(X, "predict_proba")[0]

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`."""
        probabilities, source = self._probabilities(X, "predict_log_proba")
        return source.xp.log(probabilities)

    def _probabilities(self, X: Any, method: str) -> tuple[Array, Backend]:
        X, source = self._received(X, method)
        a = move(source, self._forward(X))
        return source.xp.concat([1.0 - a, a], axis=1) if self.n_outputs_ == 1 else a, source

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy on X (n_samples, ...) and y; all labels of a sample must be right.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import MLPClassifier
        >>> net = bpx.Network([1, 1], bias="zeros")
        >>> net.weights[0] = [[1.0]]
        >>> MLPClassifier.from_network(net).score([[2.0], [1.0], [-2.0], [-1.0]], [1, 1, 0, 1])
        0.75
        """
        found = self.predict(X)
        if isinstance(found, np.ndarray) or issparse(found):  # as y was
            given = [on_host(array) for array in (y, sample_weight)]
            return float(accuracy_score(given[0], found, sample_weight=given[1]))
        backend = get(found)
        y = move(backend, y)
        right = found == y if found.ndim == 1 else backend.xp.all(found == y, axis=1)
        return _labels.accuracy(right, sample_weight)
