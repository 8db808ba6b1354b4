"""The classifier around any network."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from ..backends import Array, Backend, get, on_host
from ..costs import PROBABILITIES
from ..network import Network
from . import _labels
from ._classifying import Classifies
from ._from_network import check_is_network, fitted
from ._network import BaseNetwork


class NetworkClassifier(Classifies, BaseNetwork):
    """A classifier around any network, trained as `Network.fit` does.

    Parameters
    ----------
    build : function or Network
        Called as ``build(n_inputs, n_outputs, **parameters)``, it returns a `Network` or the list
        of its layers. `n_inputs` is that of a row of X, or for X of more than two dimensions the
        shape of a sample, and `n_outputs` is the number of classes (or labels per sample); both
        can be ignored. With a `Network` in place of the function, networks like it are trained.
        In each `fit` the weights are drawn anew, from `random_state`; layers with
        ``trainable=False`` keep theirs.
    epochs, batch_size, optimizer, l1, l2, clip_norm, clip_value, shuffle, drop_last, augment, \
precision, accumulate, callbacks, progress
        As for `Network.fit`, with its defaults. A larger `batch_size` than there are samples is
        clipped, with a warning.
    class_weight : dict, "balanced" or None
        Weights of the classes, as in scikit-learn's classifiers.
    validation_fraction : float, optional
        A share of the samples that is not trained on, for `history_` and for callbacks such as
        `EarlyStopping`; a share of each class, if each has two samples and the part can have one.
        None is split off by default, by `partial_fit`, and where `fit` is given `X_val`.
    warm_start : bool
        `fit` continues with the weights and the optimizer's memory; `build` is not called again.
    random_state : int, RandomState or None
        Draws the part held out, and the seed of the network, which an int is itself.
    backend : str or Backend, optional
        Where the network lives, see `bpx.backends.get`. By default, where `build` puts it, or
        under scikit-learn's ``array_api_dispatch`` where X is. With a name arrays of any library
        are moved there, and results go back to that of X.
    dtype : {"float32", "float64"}, optional
        By default that of the network that `build` returns; float32 for layers.
    **build__
        Those of `build`, by names that begin with ``build__``: for its `units`
        ``build__units=30``, also in `set_params` and in grids.

    Attributes
    ----------
    classes_ : array
    network_ : Network
        The one in use; `to_network` gives a copy.
    history_ : History
        Of the last call.
    n_iter_ : int
        Epochs of the last call.
    n_features_in_, n_outputs_ : int
        The length of the second axis of X; outputs of the network.
    out_activation_ : str
        By scikit-learn's name.
    feature_names_in_ : array of str
        If X has names.

    Raises
    ------
    TypeError, ValueError
        By `fit`: `build` does not take what it is called with, or returns no network; its outputs
        are not probabilities of the classes: one for each, or for two classes a single one; its
        inputs are not the samples of X.

    Notes
    -----
    Of several sigmoid outputs for one label a sample, as the book's networks have them, each says
    by itself how likely its class is: `predict_proba` divides them by their sum, as scikit-learn's
    `OneVsRestClassifier` does.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> import bpx
    >>> from bpx.sklearn import NetworkClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> def build(n_inputs, n_outputs, units=30):
    ...     return bpx.Network([n_inputs, units, n_outputs], hidden="relu", output="softmax")
    >>> clf = NetworkClassifier(build, optimizer=bpx.Adam(0.01), epochs=5, random_state=0)
    >>> search = GridSearchCV(clf, {"build__units": [5, 40]}, cv=3).fit(X[:1000] / 16, y[:1000])
    >>> search.best_params_
    {'build__units': 40}
    >>> bool(search.score(X[1000:] / 16, y[1000:]) > 0.85)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseNetwork._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

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
        class_weight: Any = None,
        validation_fraction: Any = None,
        warm_start: Any = False,
        random_state: Any = None,
        backend: Any = None,
        dtype: Any = None,
        **build__: Any,
    ) -> None:
        self._set_parameters(locals())

    @classmethod
    def from_network(cls, net: Network, classes: Any = None, **params: Any) -> NetworkClassifier:
        """A fitted classifier with a copy of a network; ``build=net`` is a parameter of it.

        `partial_fit`, and `fit` with a warm start, continue where the network's last `fit` ended.

        Parameters
        ----------
        net : Network
            For the task ``"classification"`` or ``"multilabel"``.
        classes : array-like, optional
            What the outputs stand for, in ascending order; by default ``net.classes``, else
            0, 1, ...
        **params
            The other parameters of the constructor.

        Raises
        ------
        ValueError
            A network of a regression, or whose outputs are not probabilities.

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import NetworkClassifier
        >>> net = bpx.Network([2, 1], bias="zeros", dtype="float64")
        >>> net.weights[0] = [[1.0, 0.0]]
        >>> clf = NetworkClassifier.from_network(net, ["no", "yes"])
        >>> clf.predict([[2.0, 0.0], [-2.0, 0.0]]).tolist()
        ['yes', 'no']
        """
        check_is_network(net)
        return fitted(cls(net, **params), net, classes, cls._check)

    def _encode(self, y: Any, dtype: str, backend: Backend) -> Any:
        alike = y.ndim == 1  # two classes may have two outputs
        known = self._label_binarizer
        return _labels.numbered(y, known) if alike else super()._encode(y, dtype, backend)

    def _strata(self, y: Any) -> Any:
        if y.ndim > 1:
            return None
        codes = on_host(y)
        counts = np.unique(codes, return_counts=True)[1]
        held_out = math.ceil(self.validation_fraction * len(codes))
        enough = counts.min() > 1 and len(counts) <= min(held_out, len(codes) - held_out)
        return codes if enough else None

    def _decode(self, y: Any) -> Any:
        two = y.ndim == 2 and y.shape[1] == 2 and self._task == "classification"
        return super()._decode(get(y).argmax(y) if two else y)

    def _initialize(self, X: Any, dtype: str, backend: Backend) -> None:
        if len(classes := self._label_binarizer.classes_) < 2:
            only = classes.tolist()[0]
            raise ValueError(f"expected 2 classes or more in y, got 1 class, {only!r}")
        super()._initialize(X, dtype, backend)

    def _check(self, net: Network) -> None:
        name, task = type(self).__name__, self._task
        if net.task != task:
            hint = f"make it with task={task!r}"
            if net.task == "regression":
                hint = 'give its last layer "softmax", or use NetworkRegressor'
            raise ValueError(
                f"{name} has a network for the task {task!r} here, and got one for {net.task!r}: "
                f"{hint}"
            )
        activation, outputs = net.chain.objective.activation, net.output_shape[0]
        if activation.range not in PROBABILITIES:
            raise ValueError(
                f"{name} has a network whose outputs are probabilities, and got one that ends in "
                f'{activation.name or "an activation of your own"}: give its last layer "softmax"'
            )
        count = len(self._label_binarizer.classes_)
        if outputs != count and (outputs, count, task) != (1, 2, "classification"):
            raise ValueError(
                f"y has {count} {'labels a sample' if task == 'multilabel' else 'classes'}, and "
                f"the network {outputs} output{'s' * (outputs > 1)}: give its last layer as many "
                "units as build is told, n_outputs"
            )

    @property
    def _divides_by_sum(self) -> bool:
        one_label = self._task != "multilabel" and self.n_outputs_ > 1
        return one_label and self.out_activation_ != "softmax"

    def _probabilities(self, X: Any, method: str) -> tuple[Array, Backend]:
        a, source = super()._probabilities(X, method)
        if not self._divides_by_sum:
            return a, source
        a = a + source.xp.finfo(a.dtype).smallest_normal  # which counts where all of them are 0
        return a / source.xp.sum(a, axis=1, keepdims=True), source
