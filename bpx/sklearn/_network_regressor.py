"""The regressor around any network."""

from __future__ import annotations

from typing import Any

from ..backends import Backend
from ..network import Network
from ._from_network import check_is_network, fitted
from ._network import BaseNetwork
from ._regressing import Regresses


class NetworkRegressor(Regresses, BaseNetwork):
    """A regressor around any network, trained as `Network.fit` does.

    Parameters
    ----------
    build : function or Network
        Called as ``build(n_inputs, n_outputs, **parameters)``, it returns a `Network` or the list
        of its layers. `n_inputs` is that of a row of X, or for X of more than two dimensions the
        shape of a sample, and `n_outputs` is the number of targets; both can be ignored. With a
        `Network` in place of the function, networks like it are trained. In each `fit` the weights
        are drawn anew, from `random_state`; layers with ``trainable=False`` keep theirs.
    epochs, batch_size, optimizer, l1, l2, clip_norm, clip_value, shuffle, drop_last, augment, \
precision, accumulate, callbacks, progress, validation_fraction, warm_start, random_state, \
backend, dtype
        As for `NetworkClassifier`.
    **build__
        Those of `build`, by names that begin with ``build__``.

    Attributes
    ----------
    network_ : Network
        The one in use; `to_network` gives a copy.
    history_, n_iter_, n_features_in_, n_outputs_, out_activation_, feature_names_in_
        As of `NetworkClassifier`.

    Raises
    ------
    TypeError, ValueError
        By `fit`: `build` does not take what it is called with, or returns no network for a
        regression with as many outputs as targets, or as the cost takes for these; its inputs are
        not the samples of X.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> import bpx
    >>> from bpx.sklearn import NetworkRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> X, y = scale(X), scale(y)
    >>> net = bpx.Network([10, 20, 1], hidden="tanh", output="identity", cost="huber")
    >>> reg = NetworkRegressor(net, optimizer=bpx.SGD(0.02), random_state=0).fit(X[:300], y[:300])
    >>> bool(reg.score(X[300:], y[300:]) > 0.4)
    True
    """

    def __init__(
        self,
        build: Any,
        *,
        epochs: Any = 30,
        batch_size: Any = None,
        optimizer: Any = None,
        l1: Any = 0.0,
        l2: Any = 0.0,
        clip_norm: Any = None,
        clip_value: Any = None,
        shuffle: Any = True,
        drop_last: Any = False,
        augment: Any = None,
        precision: Any = None,
        accumulate: Any = 1,
        callbacks: Any = (),
        progress: Any = False,
        validation_fraction: Any = None,
        warm_start: Any = False,
        random_state: Any = None,
        backend: Any = None,
        dtype: Any = None,
        **build__: Any,
    ) -> None:
        self._set_parameters(locals())

    @classmethod
    def from_network(cls, net: Network, **params: Any) -> NetworkRegressor:
        """A fitted regressor with a copy of a network; ``build=net`` is a parameter of it.

        `partial_fit`, and `fit` with a warm start, continue where the network's last `fit` ended.

        Parameters
        ----------
        net : Network
            For the task ``"regression"``.
        **params
            The other parameters of the constructor.

        Raises
        ------
        ValueError
            A network for another task.

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import NetworkRegressor
        >>> net = bpx.Network([2, 1], output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0, 2.0]]
        >>> NetworkRegressor.from_network(net).predict([[3.0, 4.0], [0.0, 1.0]]).tolist()
        [11.0, 2.0]
        """
        check_is_network(net)
        return fitted(cls(net, **params), net, None, cls._check_task)

    @property
    def _task(self) -> str:
        return "regression"

    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        wide = "float32" if "float64" in backend.lacks else "float64"  # the network rounds them
        return super()._encode(y, wide, backend)

    def _check_task(self, net: Network) -> None:
        if net.task != "regression":
            raise ValueError(
                f"{type(self).__name__} has a network for the task 'regression', and got one for "
                f'{net.task!r}: give its last layer "identity", make it with task="regression", '
                "or use NetworkClassifier"
            )

    def _check(self, net: Network) -> None:
        self._check_task(net)
        outputs, targets = net.output_shape[0], self.n_outputs_
        if targets not in net.chain.architecture.target_counts:
            each = net.cost.outputs_per_target
            raise ValueError(
                f"y has {targets} target{'s' * (targets > 1)}, and the network {outputs} "
                f"output{'s' * (outputs > 1)}: give its last layer as many units as build is "
                f"told, n_outputs{f', times {each} for this cost' if each > 1 else ''}"
            )
