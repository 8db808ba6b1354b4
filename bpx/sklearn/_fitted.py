"""What a fitted estimator has and does: outputs, a network to take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from ..backends import Array, Backend, get, move, on_host
from ..checks import warn
from ..network import Network
from ..onnx.export import exported
from ._arrays import (
    HOST,
    as_numbers,
    check_no_dates,
    check_same,
    checked,
    no_numbers_are_told,
    source_backend,
)


class HasNetwork(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An estimator around a network, its fit left to a subclass."""

    _allow_nd: ClassVar[bool] = False  # of X, as scikit-learn's checks take it
    _network: Network
    _source: Backend | None = None  # of X, for arrays that are not the network's

    def __getstate__(self) -> dict[str, Any]:
        from bpx import __version__

        return super().__getstate__() | {"_bpx_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from bpx import __version__

        others = dict(state)
        theirs = others.pop("_bpx_version", "of an unknown version")
        if theirs != __version__:
            warn(
                f"this {type(self).__name__} was pickled by bpx {theirs} and is loaded by "
                f"{__version__}: it may fail or answer otherwise. Train it again, or load it with "
                "that version; what est.to_network().save(path) writes, bpx.load reads in later "
                "versions too",
                UserWarning,
            )
        super().__setstate__(others)

    def __sklearn_is_fitted__(self) -> bool:
        return "_network" in vars(self)

    @property
    def _fitted(self) -> Network:
        if "_network" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: call fit first")
        return self._network

    def to_network(self) -> Network:
        """A copy of the fitted network as a `bpx.Network`, with all that it can do.

        Its `columns` are ``feature_names_in_``, and its `classes` are ``classes_`` where these are
        strings, or integers other than 0, 1, ...

        >>> import bpx
        >>> from bpx.sklearn import MLPClassifier
        >>> net = bpx.Network([4, 8, 3], output="softmax", seed=0)
        >>> MLPClassifier.from_network(net, ["cat", "dog", "fish"]).to_network().classes
        ('cat', 'dog', 'fish')
        """
        check_is_fitted(self)
        net = self._fitted.copy()
        self._name(net)
        return net

    def _name(self, net: Network) -> None:
        """Tell a network what its columns and classes are called."""
        names = getattr(self, "feature_names_in_", None)
        net.columns = None if names is None else tuple(names.tolist())
        net.classes = self._names_of_classes(net)

    def _names_of_classes(self, net: Network) -> list[Any] | None:
        """The classes, if they are strings, or integers other than 0, 1, ..."""
        kinds = getattr(self, "classes_", None)
        found = [] if kinds is None else on_host(kinds).tolist()
        named = all(isinstance(kind, str) for kind in found)
        numbered = all(type(kind) is int for kind in found) and found != [*range(len(found))]
        alike = net.task == "classification" and len(found) > 1
        return found if alike and (named or numbered) else None

    @property
    def _divides_by_sum(self) -> bool:
        """What `predict_proba` does with the outputs."""
        return False

    def to_onnx(self, path: Any = None) -> Any:
        """The fitted network as an ONNX model, see `bpx.export_onnx`.

        Parameters
        ----------
        path : path, optional
            Where to write it.

        Returns
        -------
        onnx.ModelProto
            With outputs ``label`` and ``probabilities`` for a classifier. Labels that are floats
            or booleans are integers there, since ONNX names classes by those or by strings.
        """
        check_is_fitted(self)
        classes = getattr(self, "classes_", None)
        multilabel = self._network.task == "multilabel"
        if classes is None or multilabel:
            return exported(self._network, path, None)
        names = on_host(classes)
        if names.dtype.kind in "bf":  # floats that are labels are whole
            names = names.astype(np.int64)
        return exported(self._network, path, names.tolist(), shares=self._divides_by_sum)

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> Self:
        """A copy whose network lives where `converter` takes arrays to."""
        moved: Self = clone(self)
        moved.__dict__ |= vars(self)
        if "_network" in vars(self):
            to = get(converter(self._network.parameters))
            moved._network = self._network.to(to)
            moved._source = to
        return moved

    # --- outputs ----------------------------------------------------------------------------

    def _received(self, X: Any, method: str) -> tuple[Any, Backend]:
        """Checked X, and where results go back to."""
        check_is_fitted(self)
        check_same(self, X, method)
        source = source_backend(self, X)
        if source.name == HOST:
            return self._checked(X), source
        return checked(self, X, source, reset=False), source

    def _checked(self, X: Any) -> Any:
        """X as `fit` would take it; for one row scikit-learn's own checks take 50 µs."""
        if (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.shape[0] > 0
            and X.dtype == self._network.dtype
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
            and np.isfinite(X).all()
        ):
            return X
        check_no_dates(X, "X")
        accepted = {"accept_sparse": ["csr", "csc"], "allow_nd": self._allow_nd}
        with no_numbers_are_told(X):
            return as_numbers(validate_data(self, X, reset=False, **accepted))

    def transform(self, X: Any) -> Array:
        """The activations of the last hidden layer, (n_samples, units); X where there is none.

        Where they have more dimensions, all units of a sample are in one row.

        Parameters
        ----------
        X : array-like or sparse matrix
            (n_samples, n_features).

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import MLPRegressor
        >>> net = bpx.Network([2, 2, 1], hidden="relu", output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0, 0.0], [0.0, -1.0]]
        >>> MLPRegressor.from_network(net).transform([[3.0, 1.0]]).tolist()
        [[3.0, 0.0]]
        """
        X, source = self._received(X, "transform")
        network = self._network
        layers = len(network.layers) - 1
        if layers == 0:
            X = X.toarray() if issparse(X) else X
            found = source.xp.astype(X, source.dtype(network.dtype))
        else:
            found = move(source, network.chain.hidden(self._there(X), layers))
        return found if found.ndim == 2 else source.xp.reshape(found, (found.shape[0], -1))

    def _there(self, X: Any) -> Any:
        """X on the network's backend; a sparse matrix stays on the host, compressed by rows."""
        return X.tocsr() if issparse(X) else move(self._network.backend, X)

    @property
    def _n_features_out(self) -> int:
        return math.prod(self._network.layers[-1].shape_in)

    def _forward(self, X: Any) -> Array:
        """a^L of checked X, (n, k), on the network's backend."""
        backend: Backend = self._network.backend
        x, chain = self._there(X), self._network.chain
        if self.out_activation_ != "logistic":
            return chain.outputs(x)
        # bpx's sigmoid is 0 below z = -38; here its logarithm may be asked for.
        z = chain.outputs(x, activated=False)
        if backend.name == HOST:
            return expit(z)
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + backend.xp.exp(-z))
