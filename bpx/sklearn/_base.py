"""What the two perceptrons share: their parameters, their network, and the way to a solver."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, InvalidParameterError, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import costs
from ..activations import ACTIVATIONS, Activation
from ..backends import Array, Backend, move, on_host
from ..callbacks._base import as_callbacks
from ..checks import warn
from ..data.values import first_not_finite
from ..initializers import Zeros
from ..layers import Dense, Dropout, Input
from ..network import Network
from ..registry import meant
from ..training.steps import DivergenceError
from . import _callbacks, _lbfgs, _stochastic
from ._arrays import trains_on
from ._learning import Learns

STOCHASTIC = ("sgd", "adam")
# Activations by scikit-learn's names and by bpx's, where they differ.
OURS = {"logistic": "sigmoid"}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
COST_OF_LOSS = {
    "log_loss": "cross-entropy",
    "squared_error": "quadratic",
    "absolute_error": "mean-absolute-error",
}


class BaseMLP(Learns):
    """A multi-layer perceptron with scikit-learn's interface."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, Activation, "array-like"],
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
        "backend": [str, Backend, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "device": [str, None],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "callbacks": "no_validation",  # as_callbacks does, and says more
    }

    _best_parameters: Array

    def _validate_params(self) -> None:
        names = self._parameter_constraints["loss"][0].options
        if isinstance(self.loss, str) and self.loss not in names:
            ours = meant(self.loss)
            theirs = [loss for loss, cost in COST_OF_LOSS.items() if cost == ours]
            for name in (*theirs, ours):
                # A regressor's outputs are any numbers.
                if name in names and (is_classifier(self) or not costs.COSTS.get(ours).outputs):
                    raise InvalidParameterError(
                        f"The 'loss' parameter of {type(self).__name__} has another name for "
                        f"{self.loss!r}: loss={name!r}"
                    )
        super()._validate_params()

    @abstractmethod
    def _output(self) -> tuple[str, str]:
        """scikit-learn's name of the output activation, and the task."""

    @property
    def _scoring(self) -> Any:
        """What early stopping looks at; None: `_score`."""
        return self.scoring

    @abstractmethod
    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """The score of the outputs of `_forward` on checked X."""

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> None:
        given = X, y, sample_weight
        with self._restored_after_an_error():
            X, y, sample_weight, held_out = self._prepare(*given, validation_data, incremental)
        if self.solver == "lbfgs":  # one more begins before it is known that there is none
            name, most = "iteration", self.max_iter + 1
        else:
            name, most = "epoch", 1 if incremental else self.max_iter
        with _callbacks.task(self, incremental, name, most, *given) as tasks:
            try:
                if self.solver == "lbfgs":
                    _lbfgs.fit(self, X, y, sample_weight, held_out, tasks)
                else:
                    _stochastic.fit(self, X, y, sample_weight, held_out, tasks, incremental)
            except DivergenceError as error:
                raise ValueError(_NOT_FINITE) from error
            if first_not_finite(self._network.parameters) is not None:
                raise ValueError(_NOT_FINITE)

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> tuple[Any, Any, Any, Any]:
        self._hidden_sizes()  # an error comes also where it is not used
        found = super()._prepare(X, y, sample_weight, validation_data, incremental)
        *_, held_out = found
        if self.scoring is not None and not (self.early_stopping and self.solver in STOCHASTIC):
            warn(
                "scoring= has no effect: early stopping looks at it, early_stopping=True with "
                "solver='adam' or 'sgd'",
                UserWarning,
            )
        if held_out is not None:
            self._begin_validation_curve()
        elif (
            self._given_callbacks()
            and not self.early_stopping
            and self.validation_fraction != 0.1  # the default
        ):
            warn(
                "validation_fraction= has no effect, and callbacks see the training cost alone: "
                "early_stopping=True holds it out, or pass X_val= and y_val= to fit",
                UserWarning,
            )
        if self.solver == "lbfgs":
            _lbfgs.check(self)
        else:
            _stochastic.check(self, held_out, incremental)
        return found

    def _trains_on(self, source: Backend, X: Any) -> Backend:
        return trains_on(self, source, X, self._hidden_sizes())

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(isinstance(size, Integral) for size in sizes):
            raise TypeError(
                f"hidden_layer_sizes must be integers, such as (100, 50), got {sizes}."
            )
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _initialize(self, X: Any, dtype: str, backend: Backend) -> None:
        self.out_activation_, task = self._output()
        sizes = self._hidden_sizes()
        activations = self._activations(len(sizes))
        layers: list[Any] = [Input((X.shape[1],))]
        for units, activation in zip(sizes, activations, strict=True):
            layers.append(Dense(int(units), activation, Zeros(), Zeros()))
            if self.dropout:
                layers.append(Dropout(float(self.dropout)))
        output = ACTIVATIONS.get(OURS.get(self.out_activation_, self.out_activation_))
        cost = self._cost(output)
        # Until here it is the number of targets.
        self.n_outputs_ *= costs.COSTS.get(cost).outputs_per_target
        layers.append(Dense(self.n_outputs_, output, Zeros(), Zeros()))
        network = Network(layers, cost=cost, task=task, dtype=dtype, backend=backend, seed=0)
        self._draw(network, [*activations, activations[-1] if activations else self.activation])
        if self.dropout:
            network.chain.key = int(self._random_state.randint(2**31))
        self._begin(network)

    def _begin(self, network: Network) -> None:
        self._network, self._best_parameters = network, network.parameters + 0.0
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(network.weights) + 1
        self.stopped_: str | None = None
        self.validation_loss_curve_: Any = None
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self._begin_counting()

    def _begin_counting(self) -> None:
        """Count epochs without an improvement from 0, with no best yet."""
        self._no_improvement_count = 0
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf

    def _begin_validation_curve(self) -> None:
        """Begin the curve of the held-out samples' loss, if it has not begun."""
        if self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []

    def _cost(self, output: Activation) -> Any:
        """What `Network` takes for the loss, if that is defined on the outputs."""
        cost = COST_OF_LOSS.get(self.loss, self.loss)
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
        given = [self.activation] if one else list(self.activation)
        if not one and len(given) != count:
            raise ValueError(
                f"expected one activation, or one for each of the {count} hidden layers, got "
                f"{len(given)}"
            )
        try:
            found = [ACTIVATIONS.get(OURS.get(a, a) if isinstance(a, str) else a) for a in given]
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(str(error)) from None
        return found * count if one else found

    def _draw(self, network: Network, activations: list[Any]) -> None:
        """Glorot's uniform weights and biases, in the order in which scikit-learn draws them."""
        tensors = zip(network.weights, network.biases, activations, strict=True)
        for weights, bias, activation in tensors:
            fan_out, fan_in = weights.shape
            # Without hidden layers it comes as it was given, by scikit-learn's name or bpx's.
            name = getattr(activation, "name", activation)
            factor = 2.0 if name in ("sigmoid", "logistic") else 6.0
            bound = np.sqrt(factor / (fan_in + fan_out))
            coef = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
            intercept = self._random_state.uniform(-bound, bound, fan_out)
            for tensor, values in ((weights, coef.T), (bias, intercept)):
                tensor[...] = network.backend.from_host(values.astype(network.dtype))

    def _cost_factor(self) -> float:
        """scikit-learn's squared error is a mean over the outputs, its gradient is of the sum."""
        return 1.0 / self.n_outputs_ if self.loss == "squared_error" else 1.0

    def _given_callbacks(self) -> list[Any]:
        return as_callbacks(self.callbacks)

    def _check_partial_fit(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    # --- the weights, as scikit-learn has them ---

    @property
    def coefs_(self) -> list[Any]:
        """Weight matrices (n_in, n_out), views: what is written into them is used.

        >>> import bpx
        >>> from bpx.sklearn import MLPRegressor
        >>> net = bpx.Network([2, 3, 1], output="identity", seed=0)
        >>> reg = MLPRegressor.from_network(net)
        >>> [w.shape for w in reg.coefs_], [w.shape for w in net.weights]
        ([(2, 3), (3, 1)], [(3, 2), (1, 3)])
        """
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
        arrays = [np.asarray(on_host(value), self._network.dtype) for value in values]
        expected = [tuple(tensor.shape) for tensor in tensors]
        if [array.shape for array in arrays] != expected:
            raise ValueError(
                f"expected arrays of shapes {expected}, got {[a.shape for a in arrays]}"
            )
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor[...] = self._network.backend.from_host(array)

    def restore_best(self) -> Self:
        """Put the weights of `best_validation_score_` back, for a loop of `partial_fit`.

        `fit` with early stopping ends with them, and so does `partial_fit` when it stops.
        """
        check_is_fitted(self)
        if not self.early_stopping:
            raise ValueError(
                "the best weights are kept only with early_stopping=True, and it is "
                f"{self.early_stopping!r}"
            )
        self._network.parameters[...] = self._best_parameters
        return self

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> Self:
        moved = super().__sklearn_array_api_convert__(converter)
        if "_network" in vars(self):
            moved._best_parameters = move(moved._network.backend, self._best_parameters)
        return moved


_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)
