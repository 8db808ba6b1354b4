"""The perceptron for real numbers, or counts."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from ..backends import Backend, get
from ..costs import COSTS, Cost, Poisson, Quadratic
from ..data.values import first_not_finite
from ..elsewhere import OF_MLPS
from ..keywords import hints
from ..network import Network
from ._base import BaseMLP
from ._from_network import fitted_mlp
from ._regressing import Regresses, r2


class MLPRegressor(Regresses, BaseMLP):
    """Multi-layer perceptron regressor, with the interface of scikit-learn's.

    Parameters
    ----------
    loss : str or Cost
        ``"squared_error"`` (½ of it, a mean over the outputs), ``"poisson"`` (half the deviance,
        y ≥ 0, with exp as output activation), ``"absolute_error"``, any other of bpx's costs that
        is for any numbers (``"huber"``, ``"quantile"``, ...), summed over the outputs, or a
        `bpx.Cost`, such as ``bpx.costs.Quantile(0.9)``. One that takes several outputs for each
        target (``"gaussian-nll"``, ``Quantile((0.1, 0.5, 0.9))``) gets them.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, \
power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, \
early_stopping, validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, \
backend, dtype, device, callbacks
        As for `MLPClassifier`.
    scoring : str, callable or None
        What early stopping looks at: None is the R² where means are learned (``"squared_error"``,
        ``"poisson"``), and the validation loss for all other losses; else as for `MLPClassifier`.
        Not in scikit-learn.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, \
best_validation_score_, validation_loss_curve_, stopped_, n_iter_, t_, n_layers_, n_outputs_, \
n_features_in_, out_activation_, feature_names_in_
        As of `MLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.sklearn import MLPRegressor
    >>> X = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> reg = MLPRegressor(solver="lbfgs", random_state=0, max_iter=500).fit(X, X[:, 0] ** 2)
    >>> bool(reg.score(X, X[:, 0] ** 2) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", *COSTS.builtin}), Cost],
    }

    @hints(**OF_MLPS)
    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        dropout: Any = 0.0,
        backend: Any = None,
        dtype: Any = None,
        device: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
    ) -> None:
        self._set_parameters(locals())

    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        if self.loss == "poisson" and (low := float(get(y).xp.min(y))) < 0.0:
            raise ValueError(
                f"expected y >= 0 for loss='poisson', got {low:g}: loss='squared_error' is for "
                "any numbers"
            )
        return super()._encode(y, dtype, backend)

    def _output(self) -> tuple[str, str]:
        return "exp" if self.loss == "poisson" else "identity", "regression"

    @property
    def _scoring(self) -> Any:
        """R² is largest for means, and says nothing of a variance or a quantile."""
        of_means = type(self._network.cost) in (Quadratic, Poisson)
        return "loss" if self.scoring is None and not of_means else self.scoring

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        a = self._forward(X)
        return float("nan") if first_not_finite(a) is not None else r2(y, a, sample_weight)

    @classmethod
    def from_network(cls, net: Network, **params: Any) -> MLPRegressor:
        """A fitted regressor with a copy of a network's weights.

        `hidden_layer_sizes`, `activation`, `dropout`, `backend` and `loss` are read off the
        network; `partial_fit`, and `fit` with a warm start, continue from its weights, and with
        the optimizer's memory if that is the estimator's own optimizer.

        Parameters
        ----------
        net : Network
            Of dense layers with the identity as output, or exp with the Poisson cost.
        **params
            The other parameters of the constructor.

        Raises
        ------
        ValueError
            Layers, outputs or a task that a perceptron does not have.

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import MLPRegressor
        >>> net = bpx.Network([4, 8, 1], hidden="relu", output="identity", cost="huber", seed=0)
        >>> MLPRegressor.from_network(net, max_iter=50)
        MLPRegressor(hidden_layer_sizes=(8,), loss=Huber(threshold=1.0), max_iter=50)
        """
        return fitted_mlp(cls, net, params)
