"""The estimators on arrays of other libraries: where results are, and that they are the same."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
pytest.importorskip(
    "array_api_strict", reason="array-api-strict is not installed: pip install array-api-strict"
)

from sklearn import config_context
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

import bpx
from bpx.backends import Backend, move
from bpx.sklearn import MLPClassifier, MLPRegressor

LIBRARIES = [
    device.name
    for library in bpx.backends.available()
    for device in library.devices
    if device.name in ("torch", "array_api_strict", "array_api_strict:device1", "cupy")
]
FEW = {"max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:120] / 16.0, y[:120]


@pytest.fixture(params=LIBRARIES)
def library(request):
    """A backend; its tensors follow."""
    return bpx.backends.get(request.param)


def there(library, array):
    return move(library, np.array(array))


def here(array):
    return bpx.backends.on_host(array)


def quiet(est, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return est.fit(*args, **kwargs)


def same(one, other, tolerance=1e-10):
    assert here(one).dtype == here(other).dtype
    np.testing.assert_allclose(here(one), here(other), rtol=tolerance, atol=tolerance)


KINDS = {
    "many": lambda y: y,
    "two": lambda y: y % 2,
    "one": lambda y: y * 0,
    "several": lambda y: np.stack([y % 2, y % 3 == 0], axis=1).astype(int),
    "bool": lambda y: y > 4,
}


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_dispatch_follows_x(library, digits, kind, options):
    x, y = digits[0], KINDS[kind](digits[1])
    expected = quiet(MLPClassifier(**FEW, **options), x, y)
    x2, y2 = there(library, x), there(library, y)
    with config_context(array_api_dispatch=True):
        found = quiet(MLPClassifier(**FEW, **options), x2, y2)
        assert found.coefs_[0].dtype == x2.dtype
        for method in ("predict", "predict_proba", "transform"):
            result = getattr(found, method)(x2)
            assert bpx.backends.get(result) is library
            same(getattr(expected, method)(x), result)
        assert found.score(x2, y2) == pytest.approx(expected.score(x, y))
    if "early_stopping" in options:
        assert expected.validation_scores_ == pytest.approx(found.validation_scores_)
    with config_context(array_api_dispatch=True):
        assert bpx.backends.get(found.classes_) is library
    same(expected.classes_, found.classes_)


def test_one_class_is_predicted_whatever_the_output(library, digits):
    x, y = there(library, digits[0]), there(library, 0 * digits[1] + 7)
    est = quiet(MLPClassifier(**FEW, backend=library), x, y)
    est.intercepts_[-1][...] = 60.0
    assert (here(est.predict(x)) == 7).all()


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_dispatch_of_a_regression(library, loss, outputs):
    x, y = make_regression(90, 6, n_targets=outputs, random_state=0)
    y = np.abs(y) / 100.0
    options = FEW | {"loss": loss, "early_stopping": True}
    weight = np.linspace(0.5, 2.0, 90)
    expected = quiet(MLPRegressor(**options), x, y, weight)
    x2, y2 = there(library, x), there(library, y)
    with config_context(array_api_dispatch=True):
        found = quiet(MLPRegressor(**options), x2, y2, there(library, weight))
        result = found.predict(x2)
        assert bpx.backends.get(result) is library
        same(expected.predict(x), result)
        assert found.validation_scores_ == pytest.approx(expected.validation_scores_)
        assert found.score(x2, y2) == pytest.approx(expected.score(x, y))
        weighted = found.score(x2, y2, there(library, weight))
        assert weighted == pytest.approx(expected.score(x, y, weight))


@pytest.mark.parametrize("given", ["numpy", "array_api_strict:device1", "torch"])
@pytest.mark.parametrize("backend", LIBRARIES)
def test_backend_takes_any_array_and_gives_it_back(digits, backend, given):
    if given == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    x, y = digits
    source = bpx.backends.get(given)
    expected = quiet(MLPClassifier(**FEW, class_weight="balanced"), x, y)
    est = MLPClassifier(**FEW, class_weight="balanced", backend=backend)
    found = quiet(est, there(source, x), there(source, y))
    assert found.to_network().backend is bpx.backends.get(backend)
    for method in ("predict", "predict_proba", "predict_log_proba", "transform"):
        result = getattr(found, method)(there(source, x))
        assert bpx.backends.get(result) is source
        same(getattr(expected, method)(x), result, 1e-9)
    score = found.score(there(source, x), there(source, y), there(source, np.ones(len(y))))
    assert score == expected.score(x, y)
    values = quiet(MLPRegressor(**FEW, backend=backend), there(source, x), there(source, 1.0 * y))
    expected = quiet(MLPRegressor(**FEW), x, 1.0 * y)
    assert bpx.backends.get(values.predict(there(source, x))) is source
    score = values.score(there(source, x), there(source, y), there(source, np.ones(len(y))))
    assert score == pytest.approx(expected.score(x, y))


def test_labels_that_are_no_numbers_beside_x_of_a_library(library, digits):
    x, y = digits
    names = np.array([f"digit {label}" for label in y])
    with config_context(array_api_dispatch=True):
        found = quiet(MLPClassifier(**FEW), there(library, x), names)
        labels = found.predict(there(library, x))
        assert found.score(there(library, x), names) == np.mean(labels == names)
    assert list(labels) == list(quiet(MLPClassifier(**FEW), x, names).predict(x))


def test_partial_fit_and_warm_start_where_x_is(library, digits):
    x, y = digits
    expected = MLPClassifier(**FEW).partial_fit(x, y, classes=range(10)).partial_fit(x, y)
    x2, y2 = there(library, x), there(library, y)
    with config_context(array_api_dispatch=True):
        found = MLPClassifier(**FEW).partial_fit(x2, y2, classes=range(10)).partial_fit(x2, y2)
        same(expected.predict_proba(x), found.predict_proba(x2))
        found.set_params(warm_start=True)
        quiet(found, x2, y2)
        with pytest.raises(ValueError, match=r"MLPClassifier.partial_fit\(\) must use the same"):
            found.partial_fit(x, y)
        with pytest.raises(ValueError, match=r"classes not in `self.classes_`"):
            found.set_params(warm_start=False).partial_fit(x2, y2 + 1)


def test_only_what_is_small_comes_to_the_host(digits, monkeypatch):
    device = bpx.backends.get("array_api_strict:device1")
    x, y = there(device, digits[0]), there(device, digits[1])
    copied = []
    to_host = Backend.to_host
    monkeypatch.setattr(
        Backend, "to_host", lambda self, array: copied.append(array.shape) or to_host(self, array)
    )
    with config_context(array_api_dispatch=True):
        found = quiet(MLPClassifier(**FEW, batch_size=40), x, y)
        found.predict(x)
        found.predict_proba(x)
    # The classes, and of each step the sums of cost, hits and weights, and that of squares.
    assert {shape for shape in copied if shape != ()} == {(10,), (3, 3), (3,)}


def test_an_estimator_moves_to_another_library(library, digits):
    utils = pytest.importorskip("sklearn.utils._array_api")
    if not hasattr(utils, "move_estimator_to"):
        pytest.skip("move_estimator_to came with scikit-learn 1.8")
    x, y = digits
    found = quiet(MLPClassifier(**FEW), x, y)
    expected = found.predict_proba(x)
    with config_context(array_api_dispatch=True):
        x2 = there(library, x)
        xp, _, device = utils.get_namespace_and_device(x2)
        moved = utils.move_estimator_to(found, xp, device)
        same(expected, moved.predict_proba(x2))
        assert moved.partial_fit(x2, there(library, y)).t_ == found.t_ + len(x)
        with pytest.raises(ValueError, match="fitted on 'numpy', and X is on"):
            found.predict(x2)


def test_float32_and_a_dtype_of_ones_own(library, digits):
    x, y = digits
    narrow = there(library, x.astype(np.float32))
    with config_context(array_api_dispatch=True):
        found = quiet(MLPClassifier(**FEW), narrow, there(library, y))
        assert found.coefs_[0].dtype == narrow.dtype
    double = quiet(MLPClassifier(**FEW, dtype="float64", backend=library), narrow, y)
    assert double.to_network().dtype == "float64"
    single = quiet(MLPClassifier(**FEW, dtype="float32"), x, y)
    assert single.predict_proba(x).dtype == np.float32
    whole = (16 * x).astype(int)
    integers = quiet(MLPClassifier(**FEW, backend=library), there(library, whole), y)
    expected = quiet(MLPClassifier(**FEW), whole, y)
    same(integers.predict_proba(whole), expected.predict_proba(whole))


def test_auto_takes_numpy_where_there_is_no_device(digits):
    x, y = digits
    assert quiet(MLPClassifier(**FEW, backend="auto"), x, y).to_network().backend.name == "numpy"
    assert quiet(MLPClassifier(**FEW, backend="auto"), x.tolist(), list(y)).n_iter_ == 3
    device = bpx.backends.get("array_api_strict:device1")
    found = quiet(MLPClassifier(**FEW, backend="auto"), there(device, x), y)
    assert found.to_network().backend is device


def test_auto_takes_a_device_for_large_steps(digits, monkeypatch):
    from bpx.sklearn import _arrays

    asked = []

    def get(name):
        asked.append(name)
        if name == "cupy":
            raise bpx.BackendError("none here")
        return bpx.backends.get(name)

    monkeypatch.setattr(_arrays, "get", get)
    host = bpx.backends.get("numpy")
    _arrays.automatic(host, "auto", np.empty((500, 784)), [10])
    assert "cupy" not in asked
    assert _arrays.automatic(host, "auto", np.empty((500, 784)), [100]) is host
    assert "cupy" in asked


def test_a_device_by_its_name(digits):
    est = MLPClassifier(**FEW, backend="array_api_strict", device="device1")
    assert quiet(est, *digits).to_network().backend.name == "array_api_strict:device1"
    for backend in (None, "auto"):
        with pytest.raises(
            ValueError, match="device='cuda' is a device of a library: name that too"
        ):
            MLPClassifier(device="cuda", backend=backend).fit(*digits)


WRONG = {
    "a column too few": (lambda x, y: (x[:, :-1], y), "63 features, but MLPClassifier is expecti"),
    "NaN": (lambda x, y: (np.where(x > 0.9, np.nan, x), y), "Input X contains NaN or infinity"),
    "one dimension": (lambda x, y: (x[0], y), "Expected 2D array, got 1D array"),
    "no rows": (lambda x, y: (x[:0], y[:0]), "Found array with 0 sample"),
    "complex": (lambda x, y: ((x * 1j).astype(np.complex64), y), "expected X to be real numbers"),
    "other lengths": (lambda x, y: (x, y[1:]), "inconsistent numbers of samples: X has 120, y"),
    "a number": (lambda x, y: (x, y[0]), r"y has shape \(\)"),
    "real labels": (lambda x, y: (x, y + 0.5), "Unknown label type"),
    "y with NaN": (lambda x, y: (x, np.where(y == 3, np.nan, y)), "Input y contains NaN"),
    "a matrix": (lambda x, y: (x, np.stack([y, y], axis=1)), "Multioutput target data"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_arrays_of_a_library(library, digits, wrong):
    change, message = WRONG[wrong]
    found = quiet(MLPClassifier(**FEW, backend=library, warm_start=True), *digits)
    arrays = (there(library, array) for array in change(*digits))
    before = here(found.coefs_[0]).copy()
    with pytest.raises(ValueError, match=message):
        found.set_params(warm_start=wrong not in ("real labels", "a matrix")).fit(*arrays)
    assert (here(found.coefs_[0]) == before).all()


def test_bad_weights_and_columns_of_a_library(library, digits):
    x, y = (there(library, array) for array in digits)
    est = MLPClassifier(**FEW, backend=library)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(119,\), expected \(120,\)"):
        est.fit(x, y, there(library, np.ones(119)))
    with pytest.raises(ValueError, match="Input sample_weight contains NaN or infinity"):
        est.fit(x, y, there(library, np.full(120, np.nan)))
    with pytest.warns(DataConversionWarning, match="column-vector"):
        quiet(est, x, library.xp.reshape(y, (-1, 1)))


@pytest.mark.parametrize("scoring", [None, "loss", "accuracy"])
def test_validation_data_follow_x(library, digits, scoring):
    x, y = digits
    options = FEW | {"early_stopping": True, "scoring": scoring}
    expected = quiet(MLPClassifier(**options), x, y, validation_data=(x[:40], y[:40]))
    x2, y2 = there(library, x), there(library, y)
    with config_context(array_api_dispatch=True):
        found = quiet(MLPClassifier(**options), x2, y2, validation_data=(x2[:40, :], y2[:40]))
    assert found.validation_scores_ == pytest.approx(expected.validation_scores_)
    assert found.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_)
    network = found.to_network()
    again = MLPClassifier.from_network(network)
    with config_context(array_api_dispatch=True):
        assert (here(again.predict(x2)) == here(found.predict(x2))).all()
