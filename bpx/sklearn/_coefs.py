"""scikit-learn's views of a network's weights, and the best ones of early stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..backends import Array, move, on_host
from ._fitted import HasNetwork


class HasCoefs(HasNetwork):
    """An estimator around a network of dense layers."""

    _best_parameters: Array

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
