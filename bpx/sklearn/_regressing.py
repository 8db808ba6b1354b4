"""Real numbers out: what all regressors share."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from ..backends import Array, Backend, get, move, on_host
from ..elsewhere import OF_FIT_OF_ESTIMATORS
from ..keywords import hints
from ._learning import Learns


class Regresses(RegressorMixin, Learns):
    """An estimator whose outputs are its predictions."""

    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        if isinstance(y, np.ndarray):
            return y.reshape(len(y), -1).astype(dtype, copy=False)
        xp = backend.xp
        return xp.reshape(xp.astype(y, backend.dtype(dtype)), (y.shape[0], -1))

    def _decode(self, y: Any) -> Any:
        return get(y).xp.reshape(y, (-1,)) if y.shape[1] == 1 else y

    @available_if(lambda est: est._check_partial_fit())
    @_fit_context(prefer_skip_nested_validation=True)
    @hints(**OF_FIT_OF_ESTIMATORS)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
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
        """
        self._fit(X, y, sample_weight, validation_data, incremental=True)
        return self

    def _points(self, a: Array, y: Array) -> Array:
        """Those of the outputs (n, k) that predict targets y (n,) or (n, t) themselves."""
        shape, cost = np.shape(y), self._fitted.cost
        found = cost.predictions(a, shape[1] if len(shape) == 2 else 1)
        if found is None:
            raise ValueError(
                f"R² needs an output for each target that predicts it, and {cost!r} has none: "
                "give a Quantile the level 0.5 too, or score what predict gives by another "
                "function, as make_scorer(mean_pinball_loss, alpha=0.9, greater_is_better=False) "
                "of sklearn.metrics does for the level 0.9"
            )
        return found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² on X (n_samples, ...) and y, the mean over the targets.

        It is that of the means of a `bpx.costs.GaussianNLL`, and of the level 0.5 of a
        `bpx.costs.Quantile`.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Raises
        ------
        ValueError
            None of the outputs about a target predicts it: a `Quantile` without the level 0.5, or
            a cost of your own that does not say which one does (`bpx.Cost.point`).

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import MLPRegressor
        >>> net = bpx.Network([1, 1], output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0]]
        >>> reg = MLPRegressor.from_network(net)
        >>> round(reg.score([[1.0], [2.0], [3.0]], [1.0, 2.0, 4.0]), 4)  # 1 − 1 / (14/3)
        0.7857
        """
        found = self.predict(X)
        found = self._points(get(found).xp.reshape(found, (found.shape[0], -1)), y)
        if isinstance(found, np.ndarray):
            given = [on_host(array) for array in (y, sample_weight)]
            return float(r2_score(given[0], found, sample_weight=given[1]))
        backend, xp, n = get(found), get(found).xp, found.shape[0]
        y = xp.astype(move(backend, y), found.dtype)
        weight = None if sample_weight is None else move(backend, sample_weight)
        return r2(xp.reshape(y, (n, -1)), xp.reshape(found, (n, -1)), weight)


def r2(y: Array, a: Array, weight: Array | None) -> float:
    """R² of values (n, k), the mean over the outputs, as in `sklearn.metrics.r2_score`."""
    xp = get(a).xp
    w = xp.ones_like(a[:, :1]) if weight is None else xp.astype(weight, a.dtype)[:, None]
    mean = xp.sum(w * y, axis=0) / xp.sum(w)
    residual, spread = xp.sum(w * (y - a) ** 2, axis=0), xp.sum(w * (y - mean) ** 2, axis=0)
    constant = spread == 0.0  # 1 where that is predicted, else 0
    share = residual / xp.where(constant, xp.ones_like(spread), spread)
    share = xp.where(constant & (residual > 0.0), xp.ones_like(share), share)
    return float(xp.mean(1.0 - share))
