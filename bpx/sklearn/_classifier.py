"""The perceptron for labels."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from ..backends import on_host
from ..costs import COSTS, Cost
from ..data.values import first_not_finite
from ..elsewhere import OF_MLPS
from ..keywords import hints
from ..network import Network
from . import _labels
from ._base import BaseMLP
from ._classifying import Classifies
from ._from_network import fitted_mlp


class MLPClassifier(Classifies, BaseMLP):
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
    >>> from bpx.sklearn import MLPClassifier
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

    @hints(**OF_MLPS)
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

    def _output(self) -> tuple[str, str]:
        softmax = self._label_binarizer.y_type_ == "multiclass"
        return "softmax" if softmax else "logistic", self._task

    def _strata(self, y: Any) -> Any:
        return on_host(y) > 0.5 if self.n_outputs_ == 1 else None  # as scikit-learn's MLP has it

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        a = self._forward(X)
        if first_not_finite(a) is not None:
            return float("nan")
        right = self._network.chain.correct(a, y)
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
            Layers, outputs or a task that a perceptron does not have.

        Examples
        --------
        >>> import bpx
        >>> from bpx.sklearn import MLPClassifier
        >>> net = bpx.Network([4, 8, 3], hidden="tanh", output="softmax", seed=0)
        >>> MLPClassifier.from_network(net, ["cat", "dog", "fish"])
        MLPClassifier(activation='tanh', hidden_layer_sizes=(8,))
        """
        return fitted_mlp(cls, net, params, classes)
