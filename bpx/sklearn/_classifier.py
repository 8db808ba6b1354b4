"""The classifier: labels in, labels and probabilities out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    type_of_target,
    unique_labels,
)

from ..backends import Array, Backend, get, move, on_host
from ..costs import COSTS, Cost
from ..data.values import first_not_finite
from ..network import Network
from . import _labels, _validation
from ._base import BaseMLP
from ._from_network import fitted


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier, with the interface of scikit-learn's.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int
        Neurons of the hidden layers, in their order.
    activation : str or Activation, or a sequence of them
        Of the hidden layers: ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, any other
        of bpx's or of your own; a sequence has one for each layer.
    solver : {"lbfgs", "sgd", "adam"}
    alpha : float
        L2 penalty; it is divided by the sum of weights of the mini-batch.
    batch_size : int or "auto"
        ``"auto"`` is min(200, n_samples); not for ``"lbfgs"``.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For ``"sgd"``.
    learning_rate_init, power_t : float
        The initial rate, and its exponent for ``"invscaling"``.
    max_iter : int
        Epochs, or iterations of ``"lbfgs"``, at most.
    shuffle : bool
    random_state : int, RandomState or None
        For initial weights, permutations, the part held out and dropout's masks.
    tol : float
        Only a change of more than this is an improvement.
    verbose : bool
    warm_start : bool or "optimizer"
        `fit` continues from the current weights. True starts the optimizer's memory anew;
        ``"optimizer"``, which is not in scikit-learn, continues with its moments, its count of
        steps and the rate that it has reached, even if `learning_rate_init` and the like have
        changed: with ``shuffle=False`` two fits of five epochs equal one of ten.
    momentum : float
    nesterovs_momentum : bool
        Both for ``"sgd"``.
    early_stopping : bool
        Hold out `validation_fraction`, or watch the `validation_data` of `fit`, stop when the
        score no longer improves, and keep the best weights. For ``"adam"`` and ``"sgd"``.
    validation_fraction : float
    beta_1, beta_2, epsilon : float
        Of ``"adam"``.
    n_iter_no_change : int
        Epochs without an improvement before the training ends.
    max_fun : int
        Evaluations of the cost by ``"lbfgs"``, at most.
    dropout : float
        Share of each hidden layer's outputs that is dropped in training. Not in scikit-learn.
    backend : str or Backend, optional
        Where bpx trains, see `bpx.backends.get`: ``"numpy"``, ``"cupy"``, ``"torch:cuda"``, ...
        Arrays of any library are moved there, and results come back to the library and device of
        X. ``"auto"``: where X is, if that is a device; else on a CUDA device that CuPy finds, for
        mini-batches of 2 million multiply-adds or more; else NumPy. None: NumPy, or under
        scikit-learn's ``array_api_dispatch`` where X is. Not in scikit-learn.
    dtype : {"float32", "float64"}, optional
        Of the network, and of what it computes. None: float32 for X in float32, else float64.
        Not in scikit-learn.
    device : str, optional
        Of the library that `backend` names: ``backend="torch", device="cuda"``. Not in
        scikit-learn.
    class_weight : dict, "balanced" or None
        Weights of the classes, as in scikit-learn's other classifiers. Not in its MLP.
    scoring : str, callable or None
        What early stopping looks at: None is the accuracy, ``"loss"`` the validation loss (with
        its sign changed), any other a scorer's name or ``scorer(estimator, X, y)``. Not in
        scikit-learn.
    callbacks : callback, function, sequence of them, or None
        bpx's, see `bpx.callbacks`: ``bpx.EarlyStopping(5)``, ``bpx.callbacks.Progress()``, ... For
        ``"adam"`` and ``"sgd"``; each `partial_fit` is a run of one epoch. Not in scikit-learn.
    loss : str or Cost
        ``"log_loss"``, any other of bpx's costs (``"quadratic"``, ``"huber"``, ...) or a
        `bpx.Cost`, on the outputs of the softmax, or of the sigmoid for two classes and for
        several labels per sample; summed over the outputs. `predict_proba` gives these outputs,
        whatever the loss: estimates of probabilities, but not with ``"mean-absolute-error"``
        and ``"quantile"``, which pull them to 0 and 1. scikit-learn has ``"log_loss"`` alone.

    Attributes
    ----------
    classes_ : array
    coefs_, intercepts_ : list of array
        Weights (n_in, n_out) and biases of each layer; views, so that writing to them takes
        effect.
    loss_, best_loss_, loss_curve_ : float, float, list of float
        Of the epochs: the mean of the objective over the samples, L2 penalty included, as the
        steps met it.
    validation_scores_, best_validation_score_ : list of float, float
        With early stopping.
    validation_loss_curve_ : list of float or None
        Of the epochs or iterations: the mean loss of what is held out, without L2 penalty. None:
        nothing is.
    stopped_ : str or None
        Why the last call ended before `max_iter`; for `partial_fit`: why not to call it again.
    n_iter_, t_ : int
        Epochs of the last call, and samples seen in all.
    n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
    feature_names_in_ : array of str
        If X has names.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = MLPClassifier(random_state=0, max_iter=300).fit(X[:1000], y[:1000])
    >>> bool(clf.score(X[1000:], y[1000:]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "loss": [StrOptions({"log_loss", *COSTS.builtin}), Cost],
    }

    def __init__(
        self,
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
        class_weight: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
        loss: Any = "log_loss",
    ) -> None:
        self._set_parameters(locals())

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

    def _output(self) -> tuple[str, str]:
        kind = self._label_binarizer.y_type_
        if kind == "multiclass":
            return "softmax", "classification"
        return "logistic", "multilabel" if kind.startswith("multilabel") else "classification"

    def _weigh(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see "
                "all of y: use compute_class_weight('balanced', classes=classes, y=y), and pass "
                "the weights as a dict"
            )
        weight = compute_sample_weight(self.class_weight, on_host(y))
        return weight if sample_weight is None else weight * on_host(sample_weight)

    def _decode(self, y: Any) -> Any:
        return _labels.decoded(y, self._label_binarizer)

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        a = self._forward(X)
        if first_not_finite(a) is not None:
            return float("nan")
        right = self._network.chain.correct(a, y)
        return _labels.accuracy(right, sample_weight)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy on X (n_samples, n_features) and y; all labels of a sample must be right.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Examples
        --------
        >>> import bpx
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

    @classmethod
    def from_network(cls, net: Network, classes: Any = None, **params: Any) -> MLPClassifier:
        """A fitted classifier with a copy of a network's weights.

        `hidden_layer_sizes`, `activation`, `dropout`, `backend` and `loss` are read off the
        network; `partial_fit`, and `fit` with a warm start, continue from its weights, and with
        the optimizer's memory if that is the estimator's own optimizer.

        Parameters
        ----------
        net : Network
            Of dense layers with three or more softmax outputs, or with one sigmoid output for two
            classes, or with several for the task ``"multilabel"``.
        classes : array-like, optional
            What the outputs stand for, in ascending order; by default ``net.classes``, else
            0, 1, ...
        **params
            The other parameters of the constructor.

        Raises
        ------
        ValueError
            Layers, outputs or a task that an estimator does not have.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([4, 8, 3], hidden="tanh", output="softmax", seed=0)
        >>> MLPClassifier.from_network(net, ["cat", "dog", "fish"])
        MLPClassifier(activation='tanh', hidden_layer_sizes=(8,))
        """

        def name(est: MLPClassifier) -> None:
            est._label_binarizer = LabelBinarizer().fit(_labels.of_network(net, classes))

        return fitted(cls, net, params, name)

    @_fit_context(prefer_skip_nested_validation=True)
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
    ) -> MLPClassifier:
        """Train on X (n_samples, n_features) and labels y (n_samples,), or marks (n_samples, k).

        Parameters
        ----------
        X : array-like or sparse matrix
            float32 stays float32; anything else becomes float64.
        y : array-like
            Labels of any kind; a matrix of zeros and ones for several labels per sample.
        sample_weight : array-like, optional
            (n_samples,).
        X_val, y_val, sample_weight_val : array-like, optional
            Samples that are not trained on: for `validation_loss_curve_`, and with early stopping
            in place of a part of X. As in scikit-learn's gradient boosting, so that a pipeline
            can transform X_val (``transform_input=["X_val"]``).
        validation_data : tuple of arrays, optional
            The same as one argument: (X, y) or (X, y, sample_weight).
        """
        held_out = _validation.as_one(validation_data, X_val, y_val, sample_weight_val)
        self._fit(X, y, sample_weight, held_out, incremental=False)
        return self

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        validation_data: Any = None,
    ) -> MLPClassifier:
        """One epoch over the given data, with the weights and the optimizer's memory as they are.

        With early stopping, which needs `validation_data` here, scores and best weights are kept
        from call to call. When it stops, `stopped_` says so and the best weights are back; a
        further call continues from them, and counts epochs without an improvement anew.

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

    def predict(self, X: Any) -> Array:
        """Labels (n_samples,), or marks (n_samples, k) where a sample has several.

        In the library of X; labels that are not numbers are in NumPy's.

        >>> import bpx
        >>> net = bpx.Network([1, 1], bias="zeros")
        >>> net.weights[0] = [[1.0]]
        >>> MLPClassifier.from_network(net, ["no", "yes"]).predict([[2.0], [-2.0]]).tolist()
        ['yes', 'no']
        """
        X, source = self._received(X, "predict")
        return self._decode(move(source, self._forward(X)))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n_samples, n_classes), in the order of `classes_`.

        >>> import bpx
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
