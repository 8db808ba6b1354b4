"""Estimators around any network; scikit-learn's checks of them are in test_sklearn."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bpx
from bpx.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Input,
    MaxPool2D,
    Rescale,
    Residual,
)
from bpx.sklearn import MLPClassifier, NetworkClassifier, NetworkRegressor


def sizes(n_inputs, n_outputs, units=20):
    return [n_inputs, units, n_outputs]


def softmax(n_inputs, n_outputs, units=20):
    return [Input(n_inputs), Dense(units, "relu"), Dense(n_outputs, "softmax")]


def linear(n_inputs, n_outputs, units=20):
    return [Input(n_inputs), Dense(units, "relu"), Dense(n_outputs)]


def convolutional(n_inputs, n_outputs, channels=4):
    layers = [Rescale(1 / 16), Conv2D(channels, 3, "relu"), BatchNorm(), MaxPool2D(2), Flatten()]
    return bpx.Network([Input(n_inputs), *layers, Dense(n_outputs, "softmax")])


ADAM = {"optimizer": bpx.Adam(0.01), "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:300], y[:300]


# --- as Network.fit -----------------------------------------------------------------------------


def test_the_numbers_are_those_of_fit(digits):
    x, y = digits[0] / 16, digits[1]
    options = {
        "epochs": 3, "batch_size": 16, "optimizer": bpx.AdamW(bpx.schedules.Cosine(0.01, 57)),
        "l1": 1e-3, "l2": 1e-2, "clip_norm": 1.0, "clip_value": 0.5, "accumulate": 2,
    }  # fmt: skip
    net = bpx.Network(softmax(64, 10), seed=3)
    history = net.fit(x, y, **options)
    est = NetworkClassifier(softmax, random_state=3, **options).fit(x, y)
    assert np.array_equal(est.network_.parameters, net.parameters)
    assert est.history_["training_cost"] == history["training_cost"]
    assert est.n_iter_ == 3
    assert np.array_equal(est.predict_proba(x), net.feedforward(x))
    again = clone(est).set_params(random_state=np.random.RandomState(0)).fit(x, y)
    assert not np.array_equal(again.network_.parameters, net.parameters)


def test_a_network_is_a_template(digits):
    x, y = digits
    template = convolutional((1, 8, 8), 10)
    template.optimizer = bpx.Adam(0.003)
    given = template.copy()
    est = NetworkClassifier(template, epochs=2, random_state=1).fit(x.reshape(-1, 1, 8, 8), y)
    assert np.array_equal(template.parameters, given.parameters), "it is not trained itself"
    assert est.network_.layers == template.layers
    assert est.network_.optimizer == bpx.Adam(0.003)
    net = bpx.Network([Input((1, 8, 8)), *template.layers], seed=1)
    net.fit(x.reshape(-1, 1, 8, 8), y, epochs=2, optimizer=bpx.Adam(0.003))
    assert np.array_equal(est.network_.parameters, net.parameters)
    assert np.array_equal(est.network_.state, net.state)


def test_what_is_not_trained_is_kept(digits):
    x, y = digits[0] / 16, digits[1]
    first = [Residual([Dense(64), BatchNorm()]), Dense(20, "relu")]
    trained = bpx.Network([Input(64), *first, Dense(10, "softmax")], seed=0)
    trained.fit(x, y, epochs=2)
    est = NetworkClassifier(lambda n, k: trained.frozen(1), epochs=1, random_state=5).fit(x, y)
    for name, tensor in est.network_.tensors.items():
        same = np.array_equal(tensor, trained.tensors[name])
        assert same == name.startswith("layers.0."), name


def test_a_warm_start_and_partial_fit_go_on(digits):
    x, y = digits[0] / 16, digits[1]
    whole = NetworkClassifier(softmax, epochs=4, **ADAM).fit(x, y)
    warm = NetworkClassifier(softmax, epochs=2, warm_start=True, **ADAM).fit(x, y).fit(x, y)
    parts = NetworkClassifier(softmax, **ADAM)
    for _ in range(4):
        parts.partial_fit(x, y, classes=range(10))
    for other in (warm, parts):
        assert np.array_equal(other.network_.parameters, whole.network_.parameters)
        assert other.network_.epochs == 4
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        warm.fit(x, y % 3)


def test_partial_fit_holds_nothing_out(digits):
    """What one call held out, another one would learn."""
    x, y = digits[0] / 16, digits[1]
    whole = NetworkClassifier(softmax, **ADAM).partial_fit(x, y, classes=range(10))
    asked = NetworkClassifier(softmax, validation_fraction=0.2, **ADAM)
    asked.partial_fit(x, y, classes=range(10))
    assert np.array_equal(asked.network_.parameters, whole.network_.parameters)


def test_classes_that_are_numbers_as_text_go_on_too():
    x, y = np.eye(6, 3), np.array(["1", "2", "3"] * 2)
    est = NetworkClassifier(softmax, epochs=1, random_state=0).fit(x, y, X_val=x, y_val=y)
    twin = NetworkClassifier(softmax, epochs=1, random_state=0).fit(x, np.char.add("k", y))
    for each, text in ((est, y), (twin, np.char.add("k", y))):
        rows = y != "1"  # whose places, 1 and 2, are names of others, and no warning comes
        each.partial_fit(x[rows], text[rows], validation_data=(x[rows], text[rows]))
    assert est.network_.classes == ("1", "2", "3")
    assert np.array_equal(est.network_.parameters, twin.network_.parameters)


# --- labels and weights -------------------------------------------------------------------------

BINARY = {
    "one sigmoid": lambda n, k: [n, 5, 1],
    "two sigmoids": sizes,
    "softmax": softmax,
}


@pytest.mark.parametrize("build", BINARY)
def test_two_classes(digits, build):
    x, y = digits[0] / 16, np.where(digits[1] < 5, "less", "more")
    est = NetworkClassifier(BINARY[build], epochs=15, **ADAM).fit(x, y)
    assert est.classes_.tolist() == ["less", "more"]
    assert est.network_.classes == ("less", "more")
    proba = est.predict_proba(x)
    assert proba.shape == (300, 2)
    assert np.allclose(proba.sum(axis=1), 1.0)
    assert np.array_equal(est.predict(x), est.classes_[proba.argmax(axis=1)])
    assert np.allclose(est.predict_log_proba(x), np.log(proba))
    assert est.score(x, y) == np.mean(est.predict(x) == y) > 0.8


def test_labels_of_several_kinds(digits):
    x, y = digits[0] / 16, digits[1]
    names = np.array(list("abcdefghij"))[y]
    est = NetworkClassifier(sizes, epochs=10, **ADAM).fit(x, names)
    assert est.score(x, names) > 0.9
    assert np.array_equal(est.network_.predict(x, names=True), est.predict(x))
    numbers = NetworkClassifier(sizes, epochs=10, **ADAM).fit(x, y * 3 - 7)
    places = np.searchsorted(est.classes_, est.predict(x))
    assert np.array_equal(numbers.predict(x), 3 * places - 7), "the same network"
    marks = np.eye(10, dtype=int)[y] | np.eye(10, dtype=int)[(y + 1) % 10]
    several = NetworkClassifier(sizes, epochs=10, **ADAM).fit(x, marks)
    assert several.network_.task == "multilabel"
    assert several.predict(x).shape == several.predict_proba(x).shape == (300, 10)
    assert several.predict_proba(x).sum() > 450


def test_probabilities_where_all_sigmoids_are_0():
    net = bpx.Network([1, 3], weights="zeros", bias="zeros")
    net.biases[0] = [-1000.0, -1000.0, -1000.0]
    assert np.allclose(NetworkClassifier.from_network(net).predict_proba([[0.0]]), 1 / 3)


def test_weights_of_classes_and_of_samples(digits, rng):
    x, y, weight = digits[0] / 16, digits[1], rng.random(300)
    by_class = {kind: 1.0 + kind for kind in range(10)}
    est = NetworkClassifier(softmax, epochs=2, class_weight=by_class, **ADAM).fit(x, y, weight)
    net = bpx.Network(softmax(64, 10), seed=0)
    net.fit(x, y, epochs=2, optimizer=bpx.Adam(0.01), sample_weight=weight * (1.0 + y))
    assert np.array_equal(est.network_.parameters, net.parameters)
    balanced = NetworkClassifier(softmax, epochs=2, class_weight="balanced", **ADAM).fit(x, y)
    assert not np.array_equal(balanced.network_.parameters, net.parameters)


def test_validation_data(digits):
    x, y = digits[0] / 16, np.array(list("abcdefghij"))[digits[1]]
    stops = {"callbacks": bpx.EarlyStopping(2, monitor="validation_accuracy"), "epochs": 60}
    given = NetworkClassifier(softmax, **stops, **ADAM).fit(x, y, X_val=x[::3], y_val=y[::3])
    assert given.history_.stopped
    assert given.n_iter_ == len(given.history_["validation_cost"]) < 60
    split = NetworkClassifier(softmax, validation_fraction=0.2, **stops, **ADAM).fit(x, y)
    assert "validation_cost" in split.history_
    assert split.network_.steps == split.n_iter_ * 24, "240 samples"


# --- inputs and targets -------------------------------------------------------------------------


def test_images(digits):
    x, y = digits[0].reshape(-1, 1, 8, 8).astype(np.uint8), digits[1]
    est = NetworkClassifier(convolutional, epochs=5, **ADAM).fit(x, y)
    assert est.score(x, y) > 0.9
    shifted = clone(est).set_params(augment=bpx.augmentation.Shift(1)).fit(x, y)
    assert not np.array_equal(shifted.network_.parameters, est.network_.parameters)
    assert est.transform(x).shape == (300, 36)
    assert cross_val_score(est, x, y, cv=3).min() > 0.6
    with pytest.raises(
        ValueError, match=r"expected X of shape \(m, 1, 8, 8\), got \(300, 1, 64\)"
    ):
        est.predict(x.reshape(-1, 1, 64))


def test_sparse_matrices_and_indices(digits):
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x, y = digits[0] / 16, digits[1]
    dense = NetworkClassifier(softmax, epochs=2, **ADAM).fit(x, y)
    sparse = NetworkClassifier(softmax, epochs=2, **ADAM).fit(scipy_sparse.csr_array(x), y)
    assert np.allclose(sparse.predict_proba(scipy_sparse.csr_array(x)), dense.predict_proba(x))

    def words(n_inputs, n_outputs):
        return [Input(n_inputs), Embedding(17, 2), Flatten(), Dense(n_outputs, "softmax")]

    est = NetworkClassifier(words, epochs=5, **ADAM).fit(digits[0], y)
    assert est.score(digits[0], y) > 0.5
    with pytest.raises(ValueError, match="whole numbers"):
        est.predict(digits[0] + 100)


@pytest.mark.parametrize("targets", [1, 3])
def test_regressions(targets):
    x, y = make_regression(200, 5, n_targets=targets, random_state=0)
    y /= y.std()
    est = NetworkRegressor(linear, epochs=20, **ADAM).fit(x, y)
    assert est.predict(x).shape == y.shape
    assert est.score(x, y) > 0.9
    net = bpx.Network(linear(5, targets), seed=0)
    net.fit(x, y, epochs=20, optimizer=bpx.Adam(0.01))
    assert np.array_equal(est.network_.parameters, net.parameters)


def test_a_regression_with_a_cost_of_its_own():
    x, y = make_regression(200, 5, random_state=0)
    net = bpx.Network([5, 3], output="identity", cost=bpx.costs.Quantile([0.1, 0.5, 0.9]))
    found = NetworkRegressor(net, **ADAM).fit(x, y / y.std()).predict(x)
    assert found.shape == (200, 3)

    def bounded(n_inputs, n_outputs):  # sigmoid outputs are no classes here
        return [n_inputs, n_outputs]

    est = NetworkRegressor(bounded, epochs=5, **ADAM).fit(x, y > 0)
    assert est.network_.task == "regression"


def test_frames(digits):
    pandas = pytest.importorskip("pandas", reason="its frames name their columns")
    frame = pandas.DataFrame(digits[0][:, 2:6] / 16, columns=list("abcd"))
    est = NetworkClassifier(softmax, epochs=1, **ADAM).fit(frame, digits[1])
    assert est.feature_names_in_.tolist() == list("abcd")
    assert est.network_.columns == ("a", "b", "c", "d")
    assert est.predict(frame).shape == (300,)
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(frame[list("dcba")])


def test_another_backend_and_dtype(digits):
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    x, y = digits[0] / 16, digits[1]
    options = {"epochs": 1, "dtype": "float64", **ADAM}
    host = NetworkClassifier(softmax, **options).fit(x, y)
    est = NetworkClassifier(softmax, backend="array_api_strict", **options)
    given = strict.asarray(x)
    est.fit(given, strict.asarray(y))
    assert est.network_.backend.name == "array_api_strict"
    assert np.allclose(np.asarray(est.predict_proba(given)), host.predict_proba(x))
    there = bpx.Network(softmax(64, 10), backend="array_api_strict")
    placed = NetworkClassifier(there, epochs=1, **ADAM).fit(x, y)
    assert placed.network_.backend.name == "array_api_strict"
    assert isinstance(placed.predict(x), np.ndarray)


# --- in scikit-learn's company ------------------------------------------------------------------


def test_a_search_over_the_architecture_and_the_training(digits, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    pipeline = make_pipeline(StandardScaler(), NetworkClassifier(softmax, epochs=5, **ADAM))
    name = "networkclassifier"
    grid = {
        f"{name}__build__units": [1, 30],
        f"{name}__optimizer": [bpx.SGD(1e-6), bpx.Adam(0.01)],
    }
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(*digits)
    assert search.best_params_ == {
        f"{name}__build__units": 30,
        f"{name}__optimizer": bpx.Adam(0.01),
    }
    best = search.best_estimator_[-1]
    assert best.network_.layers[0].units == best.build__units == 30


def test_a_search_over_a_parameter_of_an_optimizer(digits):
    given = bpx.Adam(1e-6, beta1=0.8)
    pipeline = make_pipeline(
        StandardScaler(), NetworkClassifier(softmax, epochs=5, optimizer=given)
    )
    name = "networkclassifier__optimizer"
    assert pipeline.get_params()[f"{name}__beta1"] == 0.8
    search = GridSearchCV(pipeline, {f"{name}__learning_rate": [1e-6, 0.01]}, cv=2).fit(*digits)
    assert search.best_params_ == {f"{name}__learning_rate": 0.01}
    assert search.best_estimator_[-1].network_.optimizer == bpx.Adam(0.01, beta1=0.8)
    assert pipeline[-1].optimizer is given
    assert given.learning_rate == 1e-6


def test_parameters_of_an_optimizer():
    given = bpx.SGD(0.5, momentum=0.9)
    est = NetworkClassifier(softmax, optimizer=given)
    inner = {"learning_rate": 0.5, "momentum": 0.9, "nesterov": False}
    found = est.get_params()
    assert {key: found[f"optimizer__{key}"] for key in inner} == inner
    assert not [key for key in est.get_params(deep=False) if "__" in key]
    twin = clone(est).set_params(optimizer__momentum=0.0, build__units=3)
    assert (twin.optimizer, twin.build__units) == (bpx.SGD(0.5), 3)
    assert given == bpx.SGD(0.5, momentum=0.9)
    twin.set_params(optimizer=bpx.Adam(), optimizer__epsilon=1e-3)
    assert twin.optimizer == bpx.Adam(epsilon=1e-3)
    assert "optimizer=Adam" in repr(twin)
    assert "Adam" in twin._repr_html_()


def test_clone_parameters_and_repr():
    est = NetworkClassifier(softmax, build__units=7, l2=0.5)
    twin = clone(est)
    assert twin.get_params() == est.get_params()
    assert twin.set_params(build__units=9, l1=0.1).build__units == 9
    assert est.build__units == 7
    assert "build__units=7" in repr(est)
    assert "build__units" in est._repr_html_()
    net = bpx.Network([4, 3], output="softmax", seed=0)
    net.fit(np.eye(4), [0, 1, 2, 0], epochs=1)
    assert clone(NetworkClassifier(net)).fit(np.eye(4), [0, 1, 2, 0]).network_.epochs == 30


def test_calibration_and_pickle(digits):
    x, y = digits[0] / 16, digits[1]
    est = NetworkClassifier(softmax, epochs=3, **ADAM)
    proba = CalibratedClassifierCV(est, cv=2).fit(x, y).predict_proba(x)
    assert np.allclose(proba.sum(axis=1), 1.0)
    twin = pickle.loads(pickle.dumps(est.fit(x, y)))
    assert np.array_equal(twin.predict_proba(x), est.predict_proba(x))
    assert np.array_equal(
        twin.partial_fit(x, y).network_.parameters, est.partial_fit(x, y).network_.parameters
    )


def test_a_picture_of_the_boundary(digits):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed").use("Agg")
    from sklearn.inspection import DecisionBoundaryDisplay

    x, y = digits[0][:, 20:22] / 16, digits[1] % 2
    est = NetworkClassifier(softmax, epochs=1, **ADAM).fit(x, y)
    drawn = DecisionBoundaryDisplay.from_estimator(est, x, grid_resolution=5)
    places = np.column_stack([drawn.xx0.ravel(), drawn.xx1.ravel()])
    assert np.allclose(drawn.response.ravel(), est.predict_proba(places)[:, 1])


def test_metadata_routing(digits, rng):
    x, y, weight = digits[0] / 16, digits[1], rng.random(300)
    est = NetworkClassifier(softmax, epochs=1, **ADAM)
    with sklearn.config_context(enable_metadata_routing=True):
        inner = clone(est).set_fit_request(sample_weight=True, X_val=True, y_val=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, inner, transform_input=["X_val"])
        pipeline.fit(x, y, sample_weight=weight, X_val=x[:50], y_val=y[:50])
    scaled = StandardScaler().fit_transform(x)
    est.fit(scaled, y, weight, X_val=scaled[:50], y_val=y[:50])
    assert pipeline[-1].history_["validation_cost"] == est.history_["validation_cost"]


def test_scikit_learns_callbacks(digits):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    est = NetworkClassifier(softmax, epochs=3, **ADAM).set_callbacks(monitor)
    est.fit(digits[0] / 16, digits[1])
    epochs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert epochs[-1]["accuracy"] == est.score(digits[0] / 16, digits[1])
    assert len(epochs) == 3


# --- from and to networks -----------------------------------------------------------------------


def test_from_network(digits):
    x, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    net = convolutional((1, 8, 8), 10)
    net.fit(x, y, epochs=2, optimizer=bpx.Adam(0.01))
    names = list("abcdefghij")
    est = NetworkClassifier.from_network(net, names, epochs=1, warm_start=True)
    assert np.array_equal(est.predict(x), np.array(names)[net.predict(x)])
    assert est.to_network().classes == tuple(names)
    steps = net.steps
    assert est.fit(x, np.array(names)[y]).network_.steps == steps + 30
    assert (net.steps, est.network_.optimizer) == (steps, bpx.Adam(0.01)), "it is a copy"
    assert clone(est).fit(x, y).network_.steps == 30
    several = bpx.Network([64, 10], task="multilabel", seed=0)
    assert NetworkClassifier.from_network(several).predict(digits[0]).shape == (300, 10)
    line = bpx.Network([64, 2], output="identity", seed=0)
    line.columns = [f"pixel {i}" for i in range(64)]
    assert NetworkRegressor.from_network(line).feature_names_in_[5] == "pixel 5"


# --- messages -----------------------------------------------------------------------------------

REGRESSION = bpx.Network([64, 10], output="identity")
CUSTOM = bpx.Network([64, 10], output="identity", task="classification")
SIX = bpx.Network([64, 6], output="softmax")
SEVERAL = bpx.Network([64, 10], task="multilabel")
IMAGES = convolutional((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda n, k: None, TypeError, r"return a bpx.Network or a list of layers, got None"),
        (lambda n: [n, 10], TypeError, r"taking \(n_inputs, n_outputs\), got one taking \(n\)"),
        (lambda n, k: [n], ValueError, "expected at least two positive sizes"),
        (REGRESSION, ValueError, 'task .classification. here, .* "softmax", or use NetworkRegr'),
        (SEVERAL, ValueError, "got one for 'multilabel': make it with task='classification'"),
        (CUSTOM, ValueError, "outputs are probabilities, and got one that ends in identity: give"),
        (SIX, ValueError, "y has 10 classes, and the network 6 outputs: .* n_outputs"),
        (IMAGES, ValueError, r"X of shape \(m, 1, 8, 8\), got \(300, 64\): np.asarray\(X\).resha"),
        (
            [64, 30, 10],
            TypeError,
            r"function of .* or a bpx.Network, got \[64, 30, 10\]: bpx.Netw",
        ),
    ],
)
def test_networks_that_no_classifier_has(digits, build, error, message):
    est = NetworkClassifier(build)
    with pytest.raises(error, match=message):
        est.fit(*digits)
    with pytest.raises(AttributeError, match="is not fitted yet: call fit first"):
        est.network_  # noqa: B018


def test_networks_that_no_regressor_has(digits):
    with pytest.raises(ValueError, match="'regression', and got one for 'classification': give"):
        NetworkRegressor(SIX).fit(*digits)
    with pytest.raises(ValueError, match="y has 1 target, and the network 10 outputs: give its"):
        NetworkRegressor(REGRESSION).fit(*digits)
    with pytest.raises(ValueError, match="'regression', and got one for 'multilabel'"):
        NetworkRegressor.from_network(SEVERAL)


def test_messages_about_parameters(digits):
    with pytest.raises(
        TypeError, match="NetworkClassifier takes no learning_rate=: the optimizer"
    ):
        NetworkClassifier(softmax, learning_rate=0.1)
    with pytest.raises(TypeError, match="takes no epoch=; did you mean 'epochs'"):
        NetworkRegressor(softmax, epoch=3)
    with pytest.raises(TypeError, match="takes no units=: that of build is build__units="):
        NetworkClassifier(softmax, units=5)
    with pytest.raises(TypeError, match=r"takes no units=\. Known: accumulate"):
        NetworkClassifier(SIX, units=5)
    with pytest.raises(TypeError, match=r"takes no more=\. Known: accumulate"):
        NetworkClassifier(lambda i, o, **more: [o], more=5)
    with pytest.raises(ValueError, match="no parameter 'units': that of build is build__units="):
        GridSearchCV(NetworkClassifier(softmax), {"units": [5]}, error_score="raise").fit(*digits)
    with pytest.raises(TypeError, match="takes no seed=: here it is random_state="):
        NetworkClassifier(softmax, seed=0)
    with pytest.raises(TypeError, match=r"taking \(n_inputs, n_outputs, unit\), got .*'unit'"):
        NetworkClassifier(softmax, build__unit=3).fit(*digits)
    with pytest.raises(TypeError, match="build__units= is for a function, and build is a network"):
        NetworkClassifier(SIX, build__units=3).fit(*digits)
    with pytest.raises(ValueError, match=r"no parameter 'augment__size': only those of build and"):
        NetworkClassifier(softmax).set_params(augment__size=3)
    told = (
        r"^optimizer__learning_rate= needs an optimizer that is an object, and optimizer is 'adam'"
    )
    with pytest.raises(ValueError, match=told):
        NetworkClassifier(softmax, optimizer="adam").set_params(optimizer__learning_rate=3)
    told = (
        r"unknown parameter of Adam 'optimizer__beta'.* Known: optimizer__beta1, optimizer__beta2,"
    )
    with pytest.raises(ValueError, match=told):
        NetworkClassifier(softmax, **ADAM).set_params(optimizer__beta=0.5)
    with pytest.raises(ValueError, match="expected the learning rate"):
        NetworkClassifier(softmax, **ADAM).set_params(optimizer__learning_rate=-1.0)
    with pytest.raises(TypeError, match=r"__beta1=: pass it with its optimizer, optimizer=bpx\.A"):
        NetworkClassifier(softmax, optimizer__beta1=0.5)
    with pytest.raises(ValueError, match="Invalid parameter 'epoch' for estimator NetworkClass"):
        NetworkClassifier(softmax).set_params(epoch=3)
    with pytest.raises(ValueError, match="expected epochs >= 0, got -1"):
        NetworkClassifier(softmax, epochs=-1).fit(*digits)
    with pytest.raises(ValueError, match="The 'batch_size' parameter of NetworkClassifier must"):
        NetworkClassifier(softmax, batch_size=0).fit(*digits)
    with pytest.warns(UserWarning, match="It is going to be clipped"):
        NetworkClassifier(softmax, batch_size=500, epochs=1).fit(digits[0] / 16, digits[1])


def test_other_messages(digits):
    x, y = digits
    with pytest.raises(ValueError, match="expected 2 classes or more in y, got 1 class, 5"):
        NetworkClassifier(softmax).fit(x, y * 0 + 5)
    with pytest.raises(TypeError, match=r"expected a bpx\.Network, got MLPClassifier"):
        NetworkClassifier.from_network(MLPClassifier())
    fitted = NetworkClassifier(softmax, epochs=1, **ADAM).fit(x / 16, y)
    before = fitted.network_.parameters.copy()
    with pytest.raises(bpx.DivergenceError):
        fitted.set_params(optimizer=bpx.SGD(1e30)).fit(x / 16, y)
    assert np.array_equal(fitted.network_.parameters, before), "an error leaves it as it was"


def test_a_regressor_of_sizes_ends_in_the_identity(rng):
    x, y = rng.normal(size=(60, 4)), rng.random(60)
    est = NetworkRegressor(lambda n, k: [n, 5, k], epochs=1, random_state=0).fit(x, y)
    assert est.out_activation_ == "identity"
    assert type(est.network_.cost) is bpx.costs.Quadratic


def test_targets_are_as_precise_as_the_network(rng):
    x, y = rng.normal(size=(60, 4)).astype(np.float32), rng.normal(size=60)
    net = bpx.Network([4, 1], output="identity", dtype="float64", seed=0)
    options = {"epochs": 2, "batch_size": 20, "optimizer": bpx.SGD(0.1)}
    est = NetworkRegressor(net, random_state=0, **options).fit(x, y)
    net.fit(x, y, **options)
    assert np.array_equal(est.network_.parameters, net.parameters)


@pytest.mark.parametrize(("output", "count"), [("sigmoid", 3), ("softmax", 3), ("sigmoid", 2)])
def test_onnx_has_the_same_probabilities(rng, output, count):
    runtime = pytest.importorskip("onnxruntime", reason="it runs the model")
    x, y = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % count
    units = 1 if count == 2 else count
    layers = [Input(4), Dense(units, output)]
    est = NetworkClassifier(lambda *_: layers, epochs=2, random_state=0).fit(x, y)
    est.network_.biases[0][...] = -100.0 if units > 1 else 0.0  # all of them 0 in float32
    for _ in range(2):
        model = est.to_onnx().SerializeToString()
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        label, probabilities = session.run(None, {"inputs": x})
        assert np.array_equal(label, est.predict(x))
        assert np.abs(probabilities - est.predict_proba(x)).max() <= 1e-5
        assert np.abs(probabilities.sum(axis=1) - 1.0).max() <= 1e-5
        est.network_.biases[0][...] = 0.0


@pytest.mark.parametrize(
    ("of_x", "of_y", "advice"),
    [
        (1e3, 1.0, "make_pipeline(StandardScaler(), ...)"),
        (1.0, 1e4, "TransformedTargetRegressor(..., transformer=StandardScaler())"),
    ],
)
def test_warnings_of_scale_are_at_the_users_line_and_for_estimators_too(rng, of_x, of_y, advice):
    x, y = rng.normal(of_x, of_x, (60, 2)), rng.normal(of_y, of_y, 60)
    est = NetworkRegressor(linear, epochs=1, optimizer=bpx.Adam())
    for call in (
        lambda: est.fit(x, y),
        lambda: make_pipeline("passthrough", est).fit(x, y),
        lambda: cross_val_score(est, x, y, cv=2),
        lambda: GridSearchCV(est, {"l2": [0.0, 0.1]}, cv=2).fit(x, y),
    ):
        with pytest.warns(RuntimeWarning, match="is far from 1") as told:
            call()
        assert {each.filename for each in told} == {__file__}
        assert {str(each.message).rpartition("an estimator by ")[2] for each in told} == {advice}
    scaled = make_pipeline(StandardScaler(), est)
    TransformedTargetRegressor(scaled, transformer=StandardScaler()).fit(x, y)


def test_warnings_of_scikit_learns_are_filtered_by_its_name(digits):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        MLPClassifier(4, max_iter=1).fit(*digits)


@pytest.mark.parametrize(
    ("sizes_of", "fraction", "rare"),
    [
        ([88, 12], 0.1, 1),
        ([70, 20, 10], 0.2, 2),
        ([88, 11, 1], 0.1, None),  # there is no share of one sample
        ([40, 40, 20], 0.02, None),  # of two samples, three classes cannot have one each
    ],
)
@pytest.mark.parametrize("kind", [int, str])
def test_a_part_is_split_off_with_a_share_of_each_class(
    rng, monkeypatch, sizes_of, fraction, rare, kind
):
    found = []

    def split(rows, **options):
        parts = train_test_split(rows, **options)
        found.append(parts[1])
        return parts

    monkeypatch.setattr("bpx.sklearn._validation.train_test_split", split)
    y = np.repeat(np.arange(len(sizes_of)), sizes_of).astype(kind)
    for seed in range(8):
        est = NetworkClassifier(softmax, epochs=1, validation_fraction=fraction, random_state=seed)
        est.fit(rng.normal(size=(len(y), 3)), y)
    if rare is not None:
        assert {int((y[rows] == y[-1]).sum()) for rows in found} == {rare}
    assert {len(rows) for rows in found} == {int(fraction * len(y))}


@pytest.mark.parametrize(
    ("kind", "name"), [(NetworkClassifier, "Class"), (NetworkRegressor, "Regr")]
)
def test_an_ensemble_is_told_what_scikit_learn_has(digits, kind, name):
    ensemble = bpx.Ensemble.of(2, bpx.Network([64, 3, 10]))
    told = rf"one network, got an Ensemble: Voting{name}\w+ takes .*, and Bagging{name}\w+\(Netw"
    with pytest.raises(TypeError, match=told):
        kind(ensemble).fit(*digits)
