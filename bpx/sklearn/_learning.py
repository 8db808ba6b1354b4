"""From what `fit` is given to checked arrays where a network is: what all estimators share."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import _fit_context, is_classifier
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import validate_data

from ..backends import Array, Backend, asarray, move, on_host
from ..elsewhere import OF_FIT_OF_ESTIMATORS
from ..frames import is_on_disk
from ..keywords import hints
from ..network import Network
from . import _validation
from ._arrays import (
    HOST,
    as_numbers,
    check_no_dates,
    check_same,
    checked,
    checked_weight,
    checked_y,
    float_dtype,
    no_numbers_are_told,
    source_backend,
)
from ._callbacks import CallbackSupportMixin
from ._display import ShowsLayers
from ._fitted import HasNetwork


class Learns(CallbackSupportMixin, ShowsLayers, HasNetwork, metaclass=ABCMeta):
    """An estimator with a network that `fit` makes and trains."""

    _dtypes: ClassVar[Any] = (np.float64, np.float32)  # of X, as scikit-learn's checks take them

    def _set_parameters(self, given: dict[str, Any]) -> None:
        """The parameters of a constructor, as its ``locals()`` has them, as attributes."""
        self.__dict__ |= {name: given[name] for name in self._get_param_names()}

    @abstractmethod
    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> None:
        """`fit`, or if it is `incremental`, `partial_fit`."""

    @abstractmethod
    def _trains_on(self, source: Backend, X: Any) -> Backend:
        """Where a new network is to be trained on X, which comes from `source`."""

    @abstractmethod
    def _initialize(self, X: Any, dtype: str, backend: Backend) -> None:
        """Begin with a new network for checked X and `n_outputs_`."""

    @abstractmethod
    def _begin(self, network: Network) -> None:
        """Start with this network, as before any training."""

    @abstractmethod
    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        """Codes (n,) or targets (n, k) of checked y, which is on the host or on `backend`."""

    @abstractmethod
    def _decode(self, y: Any) -> Any:
        """Labels or values of outputs (n, k), or of what `_encode` gives; where they are."""

    def _learn_labels(self, y: Any, incremental: bool) -> None:
        """Learn the labels of checked y, or compare them with those that are known."""

    def _take_labels(self, net: Network, classes: Any) -> None:
        """Learn the labels that a fitted network has, or that `classes` names."""

    def _check_known(self, y: Any) -> None:
        """Refuse labels of checked y that are not known."""

    def _strata(self, y: Any) -> Any:
        """Classes (n,) of encoded y, of which a part that is split off gets a share each, on the
        host; None: it is drawn from all samples alike.
        """
        return None

    def _check_partial_fit(self) -> bool:
        """True, or AttributeError where there is no `partial_fit`."""
        return True

    def _weigh(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        return sample_weight

    def _validate(self, X: Any, y: Any, source: Backend, backend: Backend, reset: bool) -> Any:
        """Checked X and y."""
        numeric = not is_classifier(self)
        if source.name == HOST:
            check_no_dates(X, "X")
            if numeric:
                check_no_dates(y, "y")
            y = on_host(y)
            with no_numbers_are_told(X, y if numeric else None):
                X, y = validate_data(
                    self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
                    y_numeric=numeric, dtype=self._dtypes, allow_nd=self._allow_nd, reset=reset,
                )  # fmt: skip
                X = as_numbers(X)
        else:
            X = checked(self, X, source, reset=reset)
            y = checked_y(self, y, X.shape[0], backend, numeric)
        if y.ndim == 2 and y.shape[1] == 1:
            column_or_1d(np.empty((1, 1)), warn=True)  # for the warning
            y = y.reshape(-1) if isinstance(y, np.ndarray) else backend.xp.reshape(y, (-1,))
        return X, y

    @contextmanager
    def _restored_after_an_error(self) -> Iterator[None]:
        """What was fitted before is not lost."""
        before = dict(self.__dict__)
        try:
            yield
        except Exception:
            self.__dict__ = before
            raise

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> tuple[Any, Any, Any, Any]:
        """Checked X, y, weights and validation data, for the network that is to be trained."""
        if is_on_disk(X):
            raise TypeError(
                f"{type(self).__name__} takes arrays, and X is data on disk: bpx.Network.fit "
                "takes such data, and partial_fit one part of them after another"
            )
        first_pass = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        source = source_backend(self, X)
        if not first_pass:
            check_same(self, X, "partial_fit" if incremental else "fit")
        backend = self._trains_on(source, X) if first_pass else self._network.backend
        X, labels = self._validate(X, y, source, backend, reset=first_pass)
        dtype = float_dtype(self, X, source, backend) if first_pass else self._network.dtype
        self._learn_labels(labels, incremental)
        y = asarray(backend, self._encode(labels, dtype, backend))
        sample_weight = checked_weight(self, sample_weight, X.shape[0], dtype, backend)
        sample_weight = self._weigh(labels, sample_weight, incremental)
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self.n_outputs_ = y.shape[1] if y.ndim == 2 else self.classes_.shape[0]
            self._source = source
            self._initialize(X, dtype, backend)
        held_out = None
        if validation_data is not None:
            held_out = _validation.given(self, validation_data)
        there = self._network.backend
        if sample_weight is not None:
            sample_weight = move(there, sample_weight)
        return X if issparse(X) else move(there, X), move(there, y), sample_weight, held_out

    @_fit_context(prefer_skip_nested_validation=True)
    @hints("after sample_weight all arguments have names, such as X_val=", **OF_FIT_OF_ESTIMATORS)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        validation_data: Any = None,
    ) -> Self:
        """Train on X (n_samples, ...) and y (n_samples,), or (n_samples, k) for several outputs.

        Parameters
        ----------
        X : array-like or sparse matrix
            For an MLP (n_samples, n_features); else whatever shape the network takes, such as
            images (n_samples, channels, height, width).
        y : array-like
            For a classifier labels of any kind; a matrix of zeros and ones for several labels per
            sample. For a regressor numbers.
        sample_weight : array-like, optional
            (n_samples,).
        X_val, y_val, sample_weight_val : array-like, optional
            Samples that are not trained on: for `validation_loss_curve_` or `history_`, and in
            place of the part of X that would be split off. As in scikit-learn's gradient
            boosting, so that a pipeline can transform X_val (``transform_input=["X_val"]``).
        validation_data : tuple of arrays, optional
            The same as one argument: (X, y) or (X, y, sample_weight).
        """
        held_out = _validation.as_one(validation_data, X_val, y_val, sample_weight_val)
        self._fit(X, y, sample_weight, held_out, incremental=False)
        return self

    def predict(self, X: Any) -> Array:
        """A classifier's labels or a regressor's values, (n_samples,).

        Marks (n_samples, k) where a sample has several labels, values (n_samples, n_outputs)
        where there are several, all outputs of a cost that takes several for each target. In the
        library of X; labels that are not numbers are in NumPy's.

        >>> import bpx
        >>> from bpx.sklearn import MLPClassifier, MLPRegressor
        >>> net = bpx.Network([1, 1], bias="zeros")
        >>> net.weights[0] = [[1.0]]
        >>> MLPClassifier.from_network(net, ["no", "yes"]).predict([[2.0], [-2.0]]).tolist()
        ['yes', 'no']
        >>> net = bpx.Network([2, 1], output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0, 2.0]]
        >>> MLPRegressor.from_network(net).predict([[3.0, 4.0], [0.0, 1.0]]).tolist()
        [11.0, 2.0]
        """
        X, source = self._received(X, "predict")
        return self._decode(move(source, self._forward(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
