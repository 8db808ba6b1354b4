"""What the two estimators share: from checked arrays to a fitted network."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    is_classifier,
)
from sklearn.metrics import get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import costs
from ..activations import ACTIVATIONS, Activation
from ..backends import Backend, get
from ..callbacks import as_callbacks
from ..chain import ROWS_AT_ONCE
from ..initializers import Zeros
from ..layers import Dense, Dropout, Input
from ..network import Network
from ..onnx import export_onnx
from ..steps import DivergenceError
from . import _callbacks, _lbfgs, _stochastic, _validation
from ._callbacks import CallbackSupportMixin
from ._display import ShowsLayers

STOCHASTIC = ("sgd", "adam")
NAMES = {"logistic": "sigmoid"}  # scikit-learn's, and bpx's
COSTS = {"log_loss": "cross-entropy", "squared_error": "quadratic"}


class BaseMLP(
    CallbackSupportMixin,
    ShowsLayers,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """A multi-layer perceptron with scikit-learn's interface."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean", StrOptions({"optimizer"})],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "backend": [str, None],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "callbacks": "no_validation",  # as_callbacks does, and says more
    }

    def _keep(self, given: dict[str, Any]) -> None:
        """The parameters of a constructor, as its ``locals()`` has them, as attributes."""
        self.__dict__ |= {name: given[name] for name in self._get_param_names()}

    # --- fitted attributes ------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return "_network" in vars(self)

    @property
    def _fitted(self) -> Network:
        if "_network" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: call fit first")
        network: Network = self._network
        return network

    @property
    def coefs_(self) -> list[Any]:
        """Weight matrices (n_in, n_out), views: what is written into them is used."""
        return [w.T for w in self._fitted.weights]

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        self._write(self.coefs_, values)

    @property
    def intercepts_(self) -> list[Any]:
        """Bias vectors (n_out,), views."""
        return list(self._fitted.biases)

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        self._write(self.intercepts_, values)

    def _write(self, tensors: list[Any], values: Any) -> None:
        arrays = [np.asarray(value, self._network.dtype) for value in values]
        expected = [tuple(tensor.shape) for tensor in tensors]
        if [array.shape for array in arrays] != expected:
            raise ValueError(
                f"expected arrays of shapes {expected}, got {[a.shape for a in arrays]}"
            )
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor[...] = self._network.backend.from_host(array)

    def restore_best(self) -> BaseMLP:
        """Put the weights of `best_validation_score_` back, for a loop of `partial_fit`.

        `fit` with early stopping ends with them, and so does `partial_fit` when it stops.
        """
        check_is_fitted(self)
        if not self.early_stopping:
            raise ValueError(
                "the best weights are kept with early_stopping=True only, and it is "
                f"{self.early_stopping!r}"
            )
        self._network.parameters[...] = self._best_parameters
        return self

    def to_network(self) -> Network:
        """A copy of the fitted network as a `bpx.Network`, with all that it can do."""
        check_is_fitted(self)
        return self._fitted.copy()

    # --- fit --------------------------------------------------------------------------------

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        """Checked X, targets (n, k), and labels that the cost takes."""

    @abstractmethod
    def _encode(self, y: Any) -> Any:
        """Further labels or values, not those of `_validate_input`, as the cost takes them."""

    @abstractmethod
    def _output(self) -> tuple[str, str]:
        """scikit-learn's name of the output activation, and the task."""

    @abstractmethod
    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """Of outputs of `_forward` on checked X."""

    def _weigh(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        return sample_weight

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> Any:
        sizes = self._hidden_sizes()
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        given = X, y, sample_weight
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._weigh(given[1], sample_weight, incremental)
        self._random_state = check_random_state(self.random_state)
        self.n_outputs_ = y.shape[1]
        if first_pass:
            self._initialize(X, sizes)
        held_out = None
        if validation_data is not None:
            held_out = _validation.given(self, validation_data)
        if issparse(X):
            X = X.toarray()
        with _callbacks.task(self, incremental, *given) as tasks:
            try:
                if self.solver == "lbfgs":
                    _lbfgs.fit(self, X, y, sample_weight, held_out, tasks)
                else:
                    _stochastic.fit(self, X, y, sample_weight, held_out, tasks, incremental)
            except DivergenceError as error:
                raise ValueError(_NOT_FINITE) from error
            if not np.isfinite(self._network.backend.to_host(self._network.parameters)).all():
                raise ValueError(_NOT_FINITE)
        return self

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _initialize(self, X: Any, sizes: list[int]) -> None:
        self.out_activation_, task = self._output()
        activations = self._activations(len(sizes))
        layers: list[Any] = [Input((X.shape[1],))]
        for units, activation in zip(sizes, activations, strict=True):
            layers.append(Dense(int(units), activation, Zeros(), Zeros()))
            if self.dropout:
                layers.append(Dropout(float(self.dropout)))
        output = ACTIVATIONS.get(NAMES.get(self.out_activation_, self.out_activation_))
        layers.append(Dense(self.n_outputs_, output, Zeros(), Zeros()))
        backend = get("numpy" if self.backend is None else self.backend)
        cost = self._cost(output)
        dtype = np.dtype(X.dtype).name
        network = Network(layers, cost=cost, task=task, dtype=dtype, backend=backend, seed=0)
        self._draw(network, [*activations, activations[-1] if activations else self.activation])
        if self.dropout:
            network.chain.key = int(self._random_state.randint(2**31))
        self._begin(network)

    def _begin(self, network: Network) -> None:
        """With this network, as before any training."""
        self._network, self._best_parameters = network, network.parameters + 0.0
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(network.weights) + 1
        self.stopped_: str | None = None
        self.validation_loss_curve_: Any = None
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self._begin_counting()

    def _begin_counting(self) -> None:
        """Epochs without an improvement, from a best that is yet to come."""
        self._no_improvement_count = 0
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf

    def _cost(self, output: Activation) -> Any:
        """What `Network` takes for the loss, if that is defined on the outputs."""
        cost = COSTS.get(self.loss, self.loss)
        domain = costs.COSTS.get(cost).outputs
        if domain is not None and output.range not in domain:
            raise ValueError(
                f"the loss {self.loss!r} is not defined on the outputs of the "
                f"{self.out_activation_} that {type(self).__name__} has for this y: use "
                f"loss={'log_loss' if is_classifier(self) else 'squared_error'!r}, which is"
            )
        return cost

    def _activations(self, count: int) -> list[Any]:
        one = isinstance(self.activation, str) or not hasattr(self.activation, "__len__")
        found = [self.activation] * count if one else list(self.activation)
        if len(found) != count:
            raise ValueError(
                f"expected one activation, or one for each of the {count} hidden layers, got "
                f"{len(found)}"
            )
        return [ACTIVATIONS.get(NAMES.get(a, a) if isinstance(a, str) else a) for a in found]

    def _draw(self, network: Network, activations: list[Any]) -> None:
        """Glorot's uniform weights and biases, in the order in which scikit-learn draws them."""
        tensors = zip(network.weights, network.biases, activations, strict=True)
        for weights, bias, activation in tensors:
            fan_out, fan_in = weights.shape
            factor = 2.0 if getattr(activation, "name", activation) == "sigmoid" else 6.0
            bound = np.sqrt(factor / (fan_in + fan_out))
            coef = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
            intercept = self._random_state.uniform(-bound, bound, fan_out)
            for tensor, values in ((weights, coef.T), (bias, intercept)):
                tensor[...] = network.backend.from_host(values.astype(network.dtype))

    def _cost_factor(self) -> float:
        """scikit-learn's squared error is a mean over the outputs, its gradient is of the sum."""
        return 1.0 / self.n_outputs_ if self.loss == "squared_error" else 1.0

    def _given_callbacks(self) -> list[Any]:
        return [] if self.callbacks is None else as_callbacks(self.callbacks)

    # --- predict ----------------------------------------------------------------------------

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
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def transform(self, X: Any) -> np.ndarray:
        """The activations of the last hidden layer, (n_samples, units); X where there is none.

        Parameters
        ----------
        X : array-like or sparse matrix
            (n_samples, n_features).
        """
        check_is_fitted(self)
        X = self._checked(X)
        if issparse(X):
            X = X.toarray()
        network = self._network
        layers = len(network.layers) - 1
        if layers == 0:
            return np.asarray(X, dtype=network.dtype)
        x = network.backend.from_host(X)
        return network.backend.to_host(network.chain.hidden(x, layers))

    @property
    def _n_features_out(self) -> int:
        return int(self._network.layers[-1].shape_in[0])

    def to_onnx(self, path: Any = None) -> Any:
        """The fitted network as an ONNX model, see `bpx.export_onnx`.

        Parameters
        ----------
        path : path, optional
            Where to write it.

        Returns
        -------
        onnx.ModelProto
            With outputs ``label`` and ``probabilities`` for a classifier.
        """
        check_is_fitted(self)
        classes = getattr(self, "classes_", None)
        multilabel = self._network.task == "multilabel"
        named = None if classes is None or multilabel else classes.tolist()
        return export_onnx(self._network, path, classes=named)

    def _forward(self, X: Any) -> np.ndarray:
        """a^L of checked X, (n, k), on the host."""
        if issparse(X):
            X = X.tocsr()
            starts = range(0, X.shape[0], ROWS_AT_ONCE)
            return np.vstack([self._forward(X[at : at + ROWS_AT_ONCE].toarray()) for at in starts])
        backend: Backend = self._network.backend
        x, chain = backend.from_host(X), self._network.chain
        if self.out_activation_ == "logistic":
            # bpx's sigmoid is 0 below z = -38; here its logarithm may be asked for.
            return expit(backend.to_host(chain.outputs(x, activated=False)))  # type: ignore[no-any-return]
        return backend.to_host(chain.outputs(x))

    def _check_solver(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)
