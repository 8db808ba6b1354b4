"""From an estimator to a bpx.Network, and back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn.datasets import load_iris

import bpx
from bpx.layers import Dense, Dropout, Input, Rescale
from bpx.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


LABELS = {
    "binary": lambda y: y % 2,
    "multiclass": lambda y: y,
    "strings": lambda y: np.array(["cat", "dog", "fish"])[y],
    "multilabel": lambda y: np.eye(3, dtype=int)[y],
}
OPTIONS = [
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (5, 4), "activation": "logistic", "dropout": 0.2},
    {"hidden_layer_sizes": (5, 4), "activation": ["gelu", "tanh"], "loss": "quadratic"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("labels", LABELS)
def test_a_classifier_comes_back(iris, labels, options):
    x, y = iris[0], LABELS[labels](iris[1])
    est = MLPClassifier(max_iter=4, random_state=0, **options).fit(x, y)
    classes = est.classes_ if labels == "strings" else None
    twin = MLPClassifier.from_network(est.to_network(), classes, max_iter=4, random_state=0)
    assert np.array_equal(twin.predict(x), est.predict(x))
    assert np.array_equal(twin.predict_proba(x), est.predict_proba(x))
    assert twin.classes_.tolist() == est.classes_.tolist()
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(twin, name) == getattr(est, name)
    built = MLPClassifier(**twin.get_params()).fit(x, y)
    assert np.array_equal(built.coefs_[0], est.coefs_[0]), "these are est's parameters"
    twin.partial_fit(x, y)
    est.partial_fit(x, y)
    assert np.array_equal(twin.coefs_[0], est.coefs_[0]), "the optimizer's memory goes on"
    assert len(twin.loss_curve_) == 1
    with_it = twin.set_params(warm_start="optimizer", max_iter=1, shuffle=False).fit(x, y)
    assert with_it.to_network().optimizer_state.step == est._network.optimizer_state.step + 1


def test_names_of_columns_come_along(iris):
    pandas = pytest.importorskip("pandas", reason="its frames name their columns")
    x, y = iris
    frame, turned = pandas.DataFrame(x, columns=list("abcd")), list("dcba")
    est = MLPClassifier(max_iter=4, random_state=0).fit(frame, y)
    net = est.to_network()
    assert net.columns == ("a", "b", "c", "d")
    assert np.array_equal(net.predict(frame[turned]), est.predict(frame))
    twin = MLPClassifier.from_network(net)
    assert np.array_equal(twin.feature_names_in_, est.feature_names_in_)
    with pytest.raises(ValueError, match="The feature names should match"):
        twin.predict(frame[turned])
    assert MLPClassifier(max_iter=4, random_state=0).fit(x, y).to_network().columns is None


@pytest.mark.parametrize(
    ("kinds", "classes"),
    [
        (np.array(["cat", "dog", "fish"]), ("cat", "dog", "fish")),
        (np.array(["cat", "dog", "fish"], object), ("cat", "dog", "fish")),
        (np.array([2, 5, 7]), (2, 5, 7)),
        (np.arange(3), None),
        (np.array([0.0, 1.0, 2.0]), None),
    ],
)
def test_names_of_classes_come_along(iris, kinds, classes):
    x, y = iris[0], kinds[iris[1]]
    est = MLPClassifier(max_iter=4, random_state=0).fit(x, y)
    net = est.to_network()
    assert net.classes == classes
    twin = MLPClassifier.from_network(net)
    expected = kinds if classes else np.arange(3)
    assert np.array_equal(twin.classes_, expected)
    assert np.array_equal(twin.predict(x), expected[np.searchsorted(kinds, est.predict(x))])


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", bpx.costs.Huber(0.5)])
def test_a_regressor_comes_back(iris, loss):
    x, y = iris[0], np.abs(iris[0][:, :2])
    est = MLPRegressor(loss, 5, max_iter=4, random_state=0).fit(x, y)
    twin = MLPRegressor.from_network(est.to_network(), solver="lbfgs", max_iter=5, warm_start=True)
    assert np.array_equal(twin.predict(x), est.predict(x))
    cost = est.to_network().total_cost(x, y)
    assert twin.fit(x, y).to_network().total_cost(x, y) < cost


def test_a_network_that_bpx_trained(iris):
    x, y = iris
    net = bpx.Network([4, 6, 3], hidden="tanh", output="softmax", seed=0)
    net.fit(x, y, epochs=20, batch_size=10, optimizer=bpx.SGD(0.5))
    est = MLPClassifier.from_network(net)
    assert np.array_equal(est.predict(x), net.predict(x))
    assert est.activation == "tanh"
    net.parameters[...] = 0.0
    assert est.score(x, y) > 0.9, "it is a copy"
    assert est.predict_proba(x).dtype == np.float32


def test_another_optimizer_than_the_estimators_is_not_gone_on_with(iris):
    net = bpx.Network([4, 6, 3], output="softmax", seed=0)
    net.fit(*iris, epochs=1, optimizer=bpx.SGD(0.5))
    est = MLPClassifier.from_network(net).partial_fit(*iris)
    assert isinstance(est.to_network().optimizer, bpx.Adam)


def layers(*layers, output="softmax", **options):
    return bpx.Network([Input(4), *layers, Dense(3, output)], **options)


WRONG = [
    (layers(Rescale(0.5)), "no other layers, and NetworkClassifier.from_network takes any layers"),
    (layers(Dense(5), Dense(5), Dropout(0.5)), "no dropout or the same after each hidden one"),
    (layers(Dense(5), Dropout(0.1), Dense(5), Dropout(0.2)), "no dropout or the same after each"),
    (layers(Dense(5, use_bias=False)), "expected dense layers with biases, .* use_bias=False"),
    (layers(Dense(5, trainable=False)), "trainable=False.*no others, and NetworkClassifier.from_"),
    (bpx.Network([4, 3]), "has 3 softmax outputs here, .* has 3 of sigmoid.*, or NetworkClass"),
    (bpx.Network([4, 2], output="softmax"), "has 1 sigmoid output here, .* has 2 of softmax"),
    (
        bpx.Network([4, 3], output="identity"),
        "of identity, for 'regression'.*task='classification'$",
    ),
]


@pytest.mark.parametrize(("net", "message"), WRONG)
def test_networks_that_no_classifier_has(net, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier.from_network(net)


def test_other_messages():
    net = bpx.Network([4, 3], output="softmax", seed=0)
    with pytest.raises(TypeError, match=r"expected a bpx\.Network, got MLPClassifier"):
        MLPClassifier.from_network(MLPClassifier())
    with pytest.raises(TypeError, match="reads dropout off the network: leave dropout= out"):
        MLPClassifier.from_network(net, dropout=0.5)
    with pytest.raises(ValueError, match="The 'alpha' parameter of MLPClassifier must be a float"):
        MLPClassifier.from_network(net, alpha=-1.0)
    for classes in (["dog", "cat", "fish"], [0, 1]):
        with pytest.raises(ValueError, match="expected 3 classes in ascending order, as classes_"):
            MLPClassifier.from_network(net, classes)
    several = bpx.Network([4, 3], task="multilabel", seed=0)
    with pytest.raises(
        ValueError, match="classes= is for one label per sample, and the network's"
    ):
        MLPClassifier.from_network(several, [0, 1, 2])
    with pytest.raises(ValueError, match="MLPRegressor has 3 identity outputs here, for the task"):
        MLPRegressor.from_network(net)
