"""bpx's costs as losses of a classifier."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn.datasets import load_iris

import bpx
from bpx.costs import COSTS
from bpx.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LOSSES = ["log_loss", *COSTS.builtin, bpx.costs.Huber(0.3)]
KINDS = {  # labels, and what a cost takes for them
    "binary": (lambda y: y % 2, lambda y: 1.0 * (y % 2)[:, None]),
    "multiclass": (lambda y: y, lambda y: np.eye(3)[y]),
    "multilabel": (lambda y: np.eye(3, dtype=int)[y], lambda y: np.eye(3)[y]),
}


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_each_loss_and_its_gradient_by_central_differences(iris, loss, kind):
    x, classes = iris[0][::5], iris[1][::5]
    labels, targets = (make(classes) for make in KINDS[kind])
    alpha, rate, h = 0.5, 0.1, 1e-6
    est = MLPClassifier(
        4, "tanh", solver="sgd", momentum=0.0, learning_rate_init=rate, alpha=alpha,
        batch_size=len(x), random_state=0, loss=loss,
    )  # fmt: skip
    if loss == "gaussian-nll" or (loss == "log-likelihood" and kind != "multiclass"):
        with pytest.raises(ValueError, match=rf"'{loss}' is not defined on .* (logistic|softmax)"):
            est.fit(x, labels)
        return
    est.partial_fit(x, labels, classes=np.arange(targets.shape[1] if kind != "binary" else 2))
    cost, before = est.to_network().cost, [w.copy() for w in est.coefs_]
    biases = [b.copy() for b in est.intercepts_]

    def objective():
        a = est.predict_proba(x)[:, -targets.shape[1] :]
        squares = sum(np.sum(w * w) for w in est.coefs_)
        return cost.value(np, a, targets).mean() + 0.5 * alpha / len(x) * squares

    start = objective()
    est.partial_fit(x, labels)
    assert est.loss_ == pytest.approx(start, rel=1e-12)
    step = [(w - v) / rate for w, v in zip(before, est.coefs_, strict=True)]
    est.coefs_, est.intercepts_ = before, biases
    for w, gradient in zip(est.coefs_, step, strict=True):
        for at in np.ndindex(w.shape):
            middle, sides = w[at], []
            for side in (-h, h):
                w[at] = middle + side
                sides.append(objective())
            w[at] = middle
            assert gradient[at] == pytest.approx((sides[1] - sides[0]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("loss", ["quadratic", "mean-absolute-error", "cross-entropy"])
def test_lbfgs_and_adam_learn_by_another_loss(iris, loss):
    for options in ({"solver": "lbfgs"}, {"learning_rate_init": 0.05}):
        est = MLPClassifier(8, "tanh", max_iter=60, random_state=0, loss=loss, **options)
        assert est.fit(*iris).score(*iris) > 0.9


def test_a_cost_of_ones_own(iris):
    cube = bpx.CustomCost(
        lambda xp, a, y: xp.sum(xp.abs(a - y) ** 3, axis=1),
        lambda xp, a, y: 3 * (a - y) * xp.abs(a - y),
    )
    est = MLPClassifier(8, max_iter=80, learning_rate_init=0.05, random_state=0, loss=cube)
    assert est.fit(*iris).score(*iris) > 0.9


def test_losses_of_a_regressor_by_bpx_names(iris):
    """On one target the quadratic cost is scikit-learn's squared error."""
    x, y = iris[0], np.arange(150.0) % 7
    coefs = {}
    for loss in ("squared_error", "quadratic", "quantile", bpx.costs.Quantile(), "poisson"):
        est = MLPRegressor(loss, 4, max_iter=3, random_state=0).fit(x, y)
        coefs[loss] = est.coefs_[0].tolist()
    assert coefs["squared_error"] == coefs["quadratic"]
    assert coefs["quantile"] == coefs[bpx.costs.Quantile()] != coefs["quadratic"]
    with pytest.raises(ValueError, match=r"'cross-entropy' is not .* use loss='squared_error'"):
        MLPRegressor("cross-entropy").fit(x, y)


def test_counts_of_zero():
    counts = [0, 1, 0, 2, 3, 1, 0, 5]
    est = MLPRegressor("poisson", 4, max_iter=2, random_state=0)
    assert (est.fit(np.arange(8.0)[:, None], counts).predict([[1.0]]) > 0.0).all()


def test_counts_below_zero(iris):
    with pytest.raises(ValueError, match=r"expected y >= 0 for loss='poisson', got -1: loss='sq"):
        MLPRegressor(loss="poisson").fit(iris[0], -np.ones(len(iris[0])))


def test_data_on_disk_are_for_a_network(iris):
    with pytest.raises(TypeError, match="MLPClassifier takes arrays, and X is data on disk: bpx"):
        MLPClassifier().fit(bpx.open_data(iris[0]), iris[1])


def test_what_is_not_defined_on_the_outputs(iris):
    with pytest.raises(ValueError, match=r"outputs of the identity .* use loss='squared_error'"):
        MLPRegressor(bpx.costs.CrossEntropy()).fit(*iris)
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPClassifier must be a str am"):
        MLPClassifier(loss="hinge").fit(*iris)


def test_a_mini_batch_without_weight_has_no_penalty():
    est = MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", learning_rate_init=1e-12, alpha=1.0, batch_size=2,
        shuffle=False, max_iter=1, random_state=0,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="Maximum iterations"):
        est.fit(np.ones((4, 1)), np.zeros(4), sample_weight=[1.0, 1.0, 0.0, 0.0])
    w, b = est.coefs_[0].item(), est.intercepts_[0].item()
    assert est.loss_ == pytest.approx((0.5 * (w + b) ** 2 + 0.25 * w**2) / 2)


@pytest.mark.parametrize(
    ("kind", "word", "name"),
    [
        (MLPRegressor, "mse", "squared_error"),
        (MLPRegressor, "MAE", "absolute_error"),
        (MLPRegressor, "mean_squared_error", "squared_error"),
        (MLPClassifier, "mse", "quadratic"),
        (MLPClassifier, "bce", "log_loss"),
    ],
)
def test_a_loss_by_the_name_that_it_has_elsewhere(iris, kind, word, name):
    message = (
        f"The 'loss' parameter of {kind.__name__} has another name for {word!r}: loss={name!r}"
    )
    with pytest.raises(ValueError, match=message):
        kind(loss=word).fit(*iris)
    kind(loss=name, max_iter=1).fit(*iris)


@pytest.mark.parametrize("word", ["ce", "nll"])
def test_no_loss_is_named_that_a_regressor_cannot_take(iris, word):
    with pytest.raises(
        ValueError, match="The 'loss' parameter of MLPRegressor must be a str among"
    ):
        MLPRegressor(loss=word).fit(*iris)
