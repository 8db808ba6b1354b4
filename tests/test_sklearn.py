"""The estimators against scikit-learn's own: the same numbers, messages and contract."""

from __future__ import annotations

import pickle
import re
import signal
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from scipy import sparse
from sklearn import neural_network
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import bpx
from bpx import sklearn as ours
from bpx.layers import Dense, Input

SOLVERS = ("adam", "sgd", "lbfgs")


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:400] / 16.0, y[:400]


@pytest.fixture(scope="module")
def houses():
    x, y = make_regression(300, 8, n_targets=3, random_state=0)
    return x, y / 100.0


def quiet(est, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return est.fit(*args, **kwargs)


def both(kind, x, y, weight=None, **options):
    """Theirs and ours, fitted alike, after a comparison of all that a fit leaves behind."""
    theirs, mine = (
        quiet(getattr(module, kind)(random_state=0, **options), x, y, weight)
        for module in (neural_network, ours)
    )
    size = max(np.abs(w).max() for w in theirs.coefs_)
    for one, other in zip(
        theirs.coefs_ + theirs.intercepts_, mine.coefs_ + mine.intercepts_, strict=True
    ):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 1e-10 * size
    assert mine.loss_ == pytest.approx(theirs.loss_, rel=1e-10)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(mine, name) == getattr(theirs, name)
    if options.get("solver") != "lbfgs":
        assert mine.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-10)
        assert (mine.best_loss_ is None) == (theirs.best_loss_ is None)
        assert mine.best_loss_ in (None, min(mine.loss_curve_))
        assert (mine.validation_scores_ is None) == (theirs.validation_scores_ is None)
        if mine.validation_scores_ is not None:
            assert mine.validation_scores_ == pytest.approx(theirs.validation_scores_, rel=1e-9)
            assert mine.best_validation_score_ == max(mine.validation_scores_)
    return theirs, mine


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_activation_and_solver(digits, solver, activation):
    x, y = digits
    sizes = {"hidden_layer_sizes": (20, 10), "max_iter": 4, "alpha": 0.5}
    theirs, mine = both("MLPClassifier", x, y, solver=solver, activation=activation, **sizes)
    assert np.array_equal(theirs.predict(x), mine.predict(x))
    assert np.allclose(theirs.predict_proba(x), mine.predict_proba(x), rtol=1e-9, atol=1e-12)
    assert np.allclose(theirs.predict_log_proba(x), mine.predict_log_proba(x), atol=1e-9)
    assert theirs.score(x, y) == mine.score(x, y)


@pytest.mark.parametrize("activation", ["logistic", "tanh"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_without_hidden_layers_the_activation_is_of_the_first_weights_alone(
    digits, houses, solver, activation
):
    options = {"hidden_layer_sizes": (), "max_iter": 4, "activation": activation}
    both("MLPClassifier", *digits, solver=solver, **options)
    both("MLPRegressor", *houses, solver=solver, **options)


def test_labels_in_a_sparse_matrix(digits):
    x, y = digits
    y = sparse.csr_matrix(np.eye(10, dtype=int)[y])
    theirs, mine = both("MLPClassifier", x, y, max_iter=30, learning_rate_init=0.01)
    assert mine.score(x, y) == theirs.score(x, y) > 0.5
    weight = np.arange(len(x))
    assert mine.score(x, y, weight) == theirs.score(x, y, weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "strings", "multilabel"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_kind_of_labels(digits, rng, solver, kind, weighted):
    x, y = digits
    y = {
        "binary": y % 2,
        "strings": np.array(["zero", "one", "two"])[y % 3],
        "multilabel": np.eye(10, dtype=int)[y],
    }[kind]
    weight = rng.random(len(y)) if weighted else None
    options = {"hidden_layer_sizes": 12, "max_iter": 4, "alpha": 0.5, "batch_size": 150}
    theirs, mine = both("MLPClassifier", x, y, weight, solver=solver, **options)
    assert np.array_equal(theirs.predict(x), mine.predict(x))
    assert np.array_equal(theirs.classes_, mine.classes_)
    assert np.allclose(theirs.predict_proba(x), mine.predict_proba(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_loss_of_a_regression(houses, rng, solver, outputs, loss, weighted):
    x, y = houses
    y = np.abs(y[:, :outputs]).reshape(len(y), -1)
    y = y[:, 0] if outputs == 1 else y
    weight = rng.random(len(y)) if weighted else None
    options = {"loss": loss, "hidden_layer_sizes": 12, "max_iter": 4, "alpha": 0.5}
    theirs, mine = both("MLPRegressor", x, y, weight, solver=solver, **options)
    assert theirs.predict(x).shape == mine.predict(x).shape
    assert np.allclose(theirs.predict(x), mine.predict(x), rtol=1e-9)
    assert theirs.score(x, y) == pytest.approx(mine.score(x, y), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "tol": 1.0,
            "n_iter_no_change": 1,
            "learning_rate_init": 1e-5,
        },  # until it is too small
        {"solver": "sgd", "nesterovs_momentum": False},
        {"solver": "sgd", "momentum": 0.0},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
        {"solver": "sgd", "shuffle": False, "batch_size": 64},
        {"solver": "adam", "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        {"solver": "adam", "early_stopping": True, "n_iter_no_change": 2},
        {"solver": "adam", "tol": 0.1, "n_iter_no_change": 2},
        {"solver": "adam", "n_iter_no_change": np.inf, "hidden_layer_sizes": ()},
    ],
    ids=str,
)
def test_each_setting(digits, capsys, options):
    options = {"hidden_layer_sizes": 12, "max_iter": 15, "learning_rate_init": 0.05} | options
    both("MLPClassifier", *digits, verbose=True, **options)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]


def test_the_part_held_out_of_two_classes_is_stratified(digits):
    x, y = digits[0][:300], (digits[1][:300] == 3).astype(int)
    both("MLPClassifier", x, y, early_stopping=True, max_iter=4, hidden_layer_sizes=8)


def test_lbfgs_stops_at_max_fun(digits):
    both("MLPClassifier", *digits, solver="lbfgs", max_fun=5, hidden_layer_sizes=8)


def test_one_step_from_scikit_learns_weights(digits):
    x, y = digits
    for solver in ("adam", "sgd"):
        theirs = neural_network.MLPClassifier(12, random_state=0, solver=solver, batch_size=100)
        mine = ours.MLPClassifier(12, random_state=0, solver=solver, batch_size=100)
        theirs.partial_fit(x, y, classes=np.arange(10))
        mine.partial_fit(x, y, classes=np.arange(10))
        for at in range(0, 300, 100):
            theirs.partial_fit(x[at : at + 100], y[at : at + 100])
            mine.partial_fit(x[at : at + 100], y[at : at + 100])
            for one, other in zip(theirs.coefs_, mine.coefs_, strict=True):
                assert np.abs(one - other).max() <= 1e-10
        mine.coefs_, mine.intercepts_ = theirs.coefs_, theirs.intercepts_
        assert np.array_equal(mine.coefs_[0], theirs.coefs_[0])
        with pytest.raises(ValueError, match="expected arrays of shapes"):
            mine.coefs_ = mine.coefs_[:1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start(digits, solver):
    x, y = digits
    pair = []
    for module in (neural_network, ours):
        est = module.MLPClassifier(12, solver=solver, warm_start=True, max_iter=3, random_state=0)
        quiet(est, x, y)
        pair.append(quiet(est, x, y))
    for one, other in zip(pair[0].coefs_, pair[1].coefs_, strict=True):
        assert np.abs(one - other).max() <= 1e-10
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        pair[1].fit(x, y % 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_sparse_input(digits, dtype):
    sparse = pytest.importorskip("scipy.sparse", reason="its matrices are sparse")
    x, y = digits[0].astype(dtype), digits[1]
    dense = quiet(ours.MLPClassifier(12, max_iter=3, random_state=0), x, y)
    assert {w.dtype for w in dense.coefs_} == {np.dtype(dtype)}
    assert dense.predict_proba(x).dtype == dtype
    for form in (sparse.csr_matrix, sparse.csc_matrix):
        thin = quiet(ours.MLPClassifier(12, max_iter=3, random_state=0), form(x), y)
        assert np.allclose(thin.coefs_[0], dense.coefs_[0], atol=1e-6)
        assert np.allclose(thin.predict_proba(form(x)), dense.predict_proba(x), atol=1e-6)


MESSAGES = [
    ({"hidden_layer_sizes": -1}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0, got"),
    ({"activation": "ghost"}, "activation"),
    ({"solver": "hadoken"}, "The 'solver' parameter of MLPClassifier must be a str among"),
    ({"alpha": -1}, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
    ({"batch_size": 0}, "The 'batch_size' parameter"),
    ({"momentum": 2}, "The 'momentum' parameter"),
    ({"dropout": 1.0}, "The 'dropout' parameter"),
    ({"dropout": 0.5, "solver": "lbfgs"}, "needs one function: use solver='adam' or 'sgd'"),
    ({"class_weight": "blanced"}, "The 'class_weight' parameter"),
    ({"activation": ["relu", "tanh"]}, "one for each of the 1 hidden layers, got 2"),
    ({"early_stopping": True, "validation_fraction": 0.002}, "The validation set is too small"),
    ({"solver": "sgd", "learning_rate_init": 1e200}, "Solver produced non-finite parameter"),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES)
def test_messages(digits, options, message):
    with pytest.raises(ValueError, match=message):
        ours.MLPClassifier(**({"hidden_layer_sizes": 5} | options)).fit(*digits)


def test_other_messages(digits):
    x, y = digits
    for sizes in ((2.5,), (10, "5"), ((10, 5),)):  # the last from a grid, by a bracket too many
        with pytest.raises(TypeError, match="must be integers, such as"):
            ours.MLPClassifier(sizes).fit(x, y)
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample"):
        quiet(ours.MLPClassifier(5, batch_size=1000, max_iter=1), x, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(1\) reached"):
        ours.MLPClassifier(5, max_iter=1).fit(x, y)
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = ours.MLPClassifier(solver="lbfgs").partial_fit
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        ours.MLPClassifier(5, early_stopping=True).partial_fit(x, y, classes=np.arange(10))
    est = ours.MLPClassifier(5).partial_fit(x, y, classes=np.arange(10))
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        est.partial_fit(x, y + 5)
    told, classes = "class_weight 'balanced' is not supported for partial", list(range(10))
    with pytest.raises(ValueError, match=told) as error:
        ours.MLPClassifier(5, class_weight="balanced").partial_fit(x, y, classes=classes)
    code = str(error.value).partition("class_weight=")[2]
    names = {"compute_class_weight": compute_class_weight, "np": np, "classes": classes, "y": y}
    weights = eval(code, names)
    ours.MLPClassifier(5, class_weight=weights).partial_fit(x, y, classes=classes)
    with pytest.raises(AttributeError, match="not fitted yet: call fit first"):
        _ = ours.MLPClassifier().coefs_


@pytest.mark.parametrize(
    "classes", [[1, 3, 5], [1.0, 3.0, 5.0], ["a", "c", "e"], [False, True]], ids=repr
)
def test_partial_fit_takes_the_labels_that_scikit_learn_takes(classes):
    x = np.arange(6.0).reshape(3, 2)
    given = [classes[:2] + classes[-1:], classes[:1] * 3, [*classes[:2], "b"], ["", "a", "f"]]
    given += [[1, 3, 4], [0, 1, 3], [1, 3, 6], [-1, 1, 3], [1.0, 3.0, 5.0], [1.0, 3.0, 4.5]]
    given += [[1.0, np.nan, 3.0], [True, False, True], [[1, 0, 1]] * 3, [[1], [3], [5]]]
    given += [np.array([*classes[:2], classes[-1]], object)]

    def outcomes(module, y, **named):
        est = module.MLPClassifier(3, random_state=0).partial_fit(
            x, classes[:1] * 3, classes=classes
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                est.partial_fit(x, y, **named)
        except ValueError as error:
            return str(error)
        return "taken"

    mine, theirs = (
        [outcomes(module, y) for y in given]
        + [
            outcomes(module, given[0], classes=np.array(other))
            for other in (classes, [1, 3], ["a", "d"], [1.5, 2.5])
        ]
        for module in (ours, neural_network)
    )
    assert mine == theirs
    assert mine[0] == mine[1] == "taken"


def test_a_diverging_run_with_early_stopping_keeps_the_best(houses):
    x, y = houses
    est = ours.MLPRegressor(
        hidden_layer_sizes=10,
        solver="sgd",
        learning_rate_init=1e4,
        early_stopping=True,
        random_state=0,
    )
    with np.errstate(all="ignore"):
        est.fit(x, y * 1e4)
    assert np.isnan(est.validation_scores_[-1])
    assert all(np.isfinite(w).all() for w in est.coefs_)


def test_ctrl_c(digits, monkeypatch):
    from bpx.sklearn import _stochastic

    original = _stochastic.Bookkeeper.on_epoch_end

    def interrupted(self, run):
        original(self, run)
        if self.est.n_iter_ == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_stochastic.Bookkeeper, "on_epoch_end", interrupted)
    est = ours.MLPClassifier(5, max_iter=50, random_state=0)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        est.fit(*digits)
    assert est.n_iter_ == 2


def test_targets_far_from_one_are_trained_on_without_a_word(rng):
    """As by scikit-learn; warnings are errors here."""
    x = rng.normal(size=(60, 3))
    y = 4e5 + 1.5e5 * x[:, 0]
    theirs, mine = (
        quiet(module.MLPRegressor(hidden_layer_sizes=5, max_iter=3, random_state=0), x, y)
        for module in (neural_network, ours)
    )
    np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=1e-6)


def test_probabilities_far_from_one_half(digits):
    x, y = digits
    theirs, mine = (
        quiet(module.MLPClassifier(5, max_iter=2, random_state=0), x, y % 2)
        for module in (neural_network, ours)
    )
    for est in (theirs, mine):
        est.intercepts_[-1][...] = -60.0
    assert np.isfinite(mine.predict_log_proba(x)).all()
    assert np.allclose(theirs.predict_log_proba(x), mine.predict_log_proba(x), rtol=1e-9)


def test_saturated_outputs_of_lbfgs(digits):
    x, y = digits
    both("MLPClassifier", 64.0 * x, y, solver="lbfgs", hidden_layer_sizes=20, max_iter=2)
    both("MLPClassifier", 64.0 * x, y % 2, solver="lbfgs", hidden_layer_sizes=20, max_iter=2)


# --- beyond -------------------------------------------------------------------------------------


def test_no_warning_that_theirs_do_not_give(digits):
    """Not of units that X saturates: an estimator has no layer to scale it by."""
    x, y = digits[0][:100], digits[1][:100]
    with pytest.warns(ConvergenceWarning) as told:
        ours.MLPClassifier(8, activation="tanh", max_iter=1).fit(1e4 * x, y)
    assert len(told) == 1


def test_class_weight_is_a_sample_weight(digits):
    x, y = digits
    y = (y == 0).astype(int)
    weights = {0: 1.0, 1: 9.0}
    one = quiet(ours.MLPClassifier(8, max_iter=3, random_state=0, class_weight=weights), x, y)
    other = quiet(
        ours.MLPClassifier(8, max_iter=3, random_state=0), x, y, np.where(y == 1, 9.0, 1.0)
    )
    assert np.array_equal(one.coefs_[0], other.coefs_[0])
    half = {0: 0.5, 1: 4.5}
    twice = quiet(
        ours.MLPClassifier(8, max_iter=3, random_state=0, class_weight=half, alpha=0.0),
        x, y, np.full(len(y), 2.0),
    )  # fmt: skip
    same = quiet(
        ours.MLPClassifier(8, max_iter=3, random_state=0, class_weight=weights, alpha=0.0), x, y
    )
    assert np.allclose(twice.coefs_[0], same.coefs_[0], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["datetime64[s]", "timedelta64[ms]"])
@pytest.mark.parametrize("frame", [False, True])
def test_dates_are_no_numbers(kind, frame):
    days, y = np.arange(40).reshape(20, 2).astype(kind), np.arange(20) % 2
    days[5, 1] = "NaT"
    if frame:
        pandas = pytest.importorskip("pandas", reason="it has frames of dates")
        days = pandas.DataFrame(days, columns=["start", "end"], index=days[:, 0])
    column = days["end"] if frame else days[:, 1]
    numbers = np.ones((20, 2))
    fitted = ours.MLPClassifier((4,), max_iter=3).fit(numbers, y)
    for what, refused in (
        ("X", lambda: ours.MLPClassifier((4,)).fit(days, y)),
        ("X", lambda: fitted.predict(days)),
        ("X", lambda: fitted.partial_fit(numbers, y, validation_data=(days, y))),
        ("y", lambda: ours.MLPRegressor().fit(numbers, column)),
    ):
        with pytest.raises(
            TypeError, match=f"{what} (must|to) be real numbers.*, got [dt]"
        ) as error:
            refused()
    advice = str(error.value).split(" for example: ")[1]
    in_days = eval(advice, {"np": np, "y": column})
    assert np.asarray(in_days).dtype == np.float64


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dates_beside_numbers_are_told_by_their_column(library):
    """NumPy takes those of polars for counts since 1970, and has no dtype for the others."""
    frames = pytest.importorskip(library, reason="it has frames of dates")
    when = np.datetime64("2020-01-01", "us") + np.arange(20) * np.timedelta64(1, "D")
    columns = {"size": np.linspace(0.0, 1.0, 20), "when": when}
    frame = (frames.table if library == "pyarrow" else frames.DataFrame)(columns)
    x, y = np.ones((20, 2)), np.arange(20) % 2
    net = bpx.Network([2, 3, 2], seed=0)
    for refused in (
        lambda: ours.MLPClassifier().fit(frame, y),
        lambda: ours.NetworkClassifier(net).fit(frame, y),
        lambda: ours.NetworkClassifier.from_network(net).predict(frame),
        lambda: ours.MLPRegressor().fit(x, frame),
    ):
        with pytest.raises(TypeError, match=r"must be real numbers .* in column 'when'; as days"):
            refused()


def test_objects_that_are_no_numbers_are_told_by_their_column():
    pandas = pytest.importorskip("pandas", reason="it has such objects")
    days = pandas.date_range("2020-01-01", periods=20)
    x, y = np.ones((20, 2)), np.arange(20) % 2
    some = [None, *days[1:]]
    for values, told in (
        (days.astype(object), "Timestamp('2020-01-01 00:00:00'){}: make numbers of them, such as"),
        (days.to_period("D"), "Period('2020-01-01', 'D'){}: make numbers of them, such as days"),
        (np.array(some, object), "Timestamp('2020-01-02 00:00:00'){}: make numbers of them, "),
        (pandas.interval_range(0, 20), "Interval(0, 1, closed='right'){}"),
    ):
        frame = pandas.DataFrame({"size": x[:, 0], "when": pandas.Series(values, dtype=object)})
        given = [(frame, " in column 'when'"), (frame.to_numpy(), " in column 1")]
        for array, place in given:
            for refused in (
                lambda X=array: ours.MLPClassifier().fit(X, y),
                lambda X=array: ours.NetworkClassifier(bpx.Network([2, 3, 2])).fit(X, y),
            ):
                message = f": X has {told.format(place)}"
                with pytest.raises(TypeError, match=re.escape(message)):
                    refused()
        message = f": y has {told.format('')}"
        with pytest.raises(TypeError, match=re.escape(message)):
            ours.MLPRegressor().fit(x, frame["when"])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("one", [bpx.activations.LeakyReLU(0.2), bpx.activations.SiLU()])
def test_an_activation_by_itself(digits, one):
    grid = {"activation": ["tanh", one], "hidden_layer_sizes": [(5,), (5, 4)]}
    search = GridSearchCV(ours.MLPClassifier(max_iter=3), grid, cv=2, error_score="raise")
    search.fit(*digits)
    est = ours.MLPClassifier((5, 4), activation=one, max_iter=3, random_state=0).fit(*digits)
    hidden = [
        layer.activation for layer in est.to_network().layers if hasattr(layer, "activation")
    ]
    assert hidden[:-1] == [one, one]


def test_an_activation_a_layer_dropout_and_other_costs(digits, houses):
    x, y = digits
    est = ours.MLPClassifier((20, 10), activation=["gelu", "tanh"], dropout=0.2, max_iter=60,
                             learning_rate_init=0.02, random_state=0)  # fmt: skip
    net = quiet(est, x, y).to_network()
    names = [layer.activation.name for layer in net.layers if hasattr(layer, "activation")]
    assert names == ["gelu", "tanh", "softmax"]
    assert np.array_equal(net.predict(x), est.predict(x))
    net.parameters[...] = 0.0  # a copy
    assert est.score(x, y) > 0.8
    again = quiet(ours.MLPClassifier(**est.get_params()), x, y)
    assert np.array_equal(again.coefs_[0], est.coefs_[0]), "masks come from random_state"
    other = quiet(ours.MLPClassifier(8, dropout=0.2, max_iter=1, random_state=1), x, y)
    assert other.to_network().chain.key != net.chain.key
    for loss in ("huber", "mean-absolute-error", "absolute_error", bpx.costs.Quantile(0.9)):
        reg = quiet(ours.MLPRegressor(loss, 20, max_iter=50, random_state=0), *houses)
        assert reg.loss_curve_[-1] < reg.loss_curve_[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation": "foo"}, "unknown activation 'foo'. Known: "),
        ({"activation": "foo", "hidden_layer_sizes": ()}, "unknown activation 'foo'. Known: "),
        ({"activation": ["rleu"]}, "did you mean 'relu'?"),
        ({"activation": [3]}, "expected the name of an activation or an Activation object, got"),
        ({"solver": "foo"}, "Got 'foo' instead."),
        ({"learning_rate": "foo"}, "Got 'foo' instead."),
        ({"loss": "foo"}, "Got 'foo' instead."),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_unknown_names_are_the_error_of_scikit_learn(digits, name, given, message):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        getattr(ours, name)(**given).fit(*digits)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_negative_weights_are_refused(digits, name):
    with pytest.raises(ValueError, match="expected sample_weight >= 0, got a negative one"):
        getattr(ours, name)().fit(*digits, sample_weight=-np.ones(400))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("sizes", [(), (8,), (8, 6)])
def test_transform_gives_the_last_hidden_layer(digits, sizes):
    x, y = digits
    est = quiet(ours.MLPClassifier(sizes, max_iter=3, random_state=0, dropout=0.1), x, y)
    found = est.transform(x)
    assert found.shape == (len(x), sizes[-1] if sizes else 64)
    last = x
    for w, b in zip(est.coefs_[:-1], est.intercepts_[:-1], strict=True):
        last = np.maximum(last @ w + b, 0.0)
    assert np.allclose(found, last, atol=1e-12)
    assert len(est.get_feature_names_out()) == found.shape[1]
    assert np.array_equal(est.fit_transform(x, y), est.transform(x))
    frame = est.set_output(transform="pandas").transform(x)
    assert list(frame.columns) == list(est.get_feature_names_out())
    assert np.array_equal(frame.to_numpy(), found)


def test_onnx(digits, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="it runs the model")
    x, y = digits
    names = np.array(["zero", "one", "two"])
    for labels in (y, y % 2, y > 4, 2.0 * y, names[y % 3], np.eye(10, dtype=int)[y]):
        est = quiet(ours.MLPClassifier(8, max_iter=3, random_state=0), x, labels)
        model = est.to_onnx(tmp_path / "mlp.onnx").SerializeToString()
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        label, probabilities = session.run(None, {"inputs": x})
        assert np.array_equal(label, est.predict(x))
        assert np.abs(probabilities - est.predict_proba(x)).max() <= 1e-5


def test_another_backend(digits):
    x, y = digits
    pytest.importorskip("array_api_strict", reason="it is the other backend")
    one = quiet(ours.MLPClassifier(8, max_iter=3, random_state=0), x, y)
    other = ours.MLPClassifier(8, max_iter=3, random_state=0, backend="array_api_strict")
    quiet(other, x, y)
    assert type(other.predict(x)) is np.ndarray
    assert np.allclose(one.predict_proba(x), other.predict_proba(x), rtol=1e-10)


# --- in scikit-learn's company ------------------------------------------------------------------


@dataclass(frozen=True)
class OneHidden:
    """Not a function: the names of the tests have what it prints, which must not change."""

    output: str

    def __call__(self, n_inputs, n_outputs):
        return [Input(n_inputs), Dense(20, "relu"), Dense(n_outputs, self.output)]


IN_FULL = {"epochs": 100, "batch_size": 1000, "dtype": "float64", "optimizer": bpx.Adam(0.01)}


@parametrize_with_checks(
    [
        ours.MLPClassifier(max_iter=100),
        ours.MLPRegressor(max_iter=100),
        ours.MLPClassifier(solver="lbfgs", max_iter=100),
        ours.NetworkClassifier(OneHidden("sigmoid"), **IN_FULL),
        ours.NetworkRegressor(OneHidden("identity"), **IN_FULL),
    ]
)
def test_scikit_learns_checks(estimator, check):
    # scikit-learn's checks ask only what is installed, and not whether there is a device.
    asked = str(getattr(check, "keywords", ""))
    if "cupy" in asked:
        cupy = next(found for found in bpx.backends.available() if found.name == "cupy")
        if cupy.why:
            pytest.skip(cupy.why)
    if "torch" in asked and "cuda" in asked:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has found no GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.fixture
def small(digits):
    return digits[0][:200], digits[1][:200] % 3


def mlp(**options):
    return ours.MLPClassifier(
        10, random_state=0, learning_rate_init=0.02, **({"max_iter": 20} | options)
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestInCompany:
    def test_pipeline(self, small):
        est = make_pipeline(StandardScaler(), mlp(max_iter=60)).fit(*small)
        assert est.score(*small) > 0.9

    def test_grid_search_in_processes(self, small, monkeypatch):
        monkeypatch.setenv("PYTHONWARNINGS", "ignore")
        search = GridSearchCV(mlp(), {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2).fit(*small)
        assert search.best_params_["alpha"] in (0.0, 1.0)

    def test_cross_validation(self, small):
        assert cross_val_score(mlp(max_iter=60), *small, cv=3).min() > 0.7

    def test_calibration(self, small):
        proba = CalibratedClassifierCV(mlp(), cv=2).fit(*small).predict_proba(small[0])
        assert np.allclose(proba.sum(axis=1), 1.0)

    def test_bagging(self, small):
        assert (
            BaggingClassifier(mlp(max_iter=60), 3, random_state=0).fit(*small).score(*small) > 0.8
        )

    def test_one_against_the_rest(self, small):
        assert OneVsRestClassifier(mlp(max_iter=60)).fit(*small).score(*small) > 0.8

    def test_stacking(self, small):
        est = StackingClassifier([("mlp", mlp())], LogisticRegression(), cv=2)
        assert est.fit(*small).predict(small[0]).shape == (200,)

    def test_permutation_importance(self, small):
        found = permutation_importance(mlp().fit(*small), *small, n_repeats=2, random_state=0)
        assert found.importances_mean.shape == (64,)

    def test_pickle(self, small):
        est = mlp().fit(*small)
        twin = pickle.loads(pickle.dumps(est))
        assert np.array_equal(twin.predict_proba(small[0]), est.predict_proba(small[0]))
        assert vars(twin).keys() == vars(est).keys()

    def test_a_pickle_of_another_version(self, small, monkeypatch):
        est = mlp().fit(*small)
        with monkeypatch.context() as earlier:
            earlier.setattr(bpx, "__version__", "0.0.9")
            content = pickle.dumps(est)
        told = f"this MLPClassifier was pickled by bpx 0.0.9 and is loaded by {bpx.__version__}: "
        with pytest.warns(UserWarning, match=re.escape(told)):
            twin = pickle.loads(content)
        assert np.array_equal(twin.predict_proba(small[0]), est.predict_proba(small[0]))
        with pytest.warns(UserWarning, match="by bpx of an unknown version and is"):
            twin.__setstate__(dict(vars(est)))


def test_predictions_of_frames(digits):
    pandas = pytest.importorskip("pandas", reason="its frames name their columns")
    frame = pandas.DataFrame(digits[0][:, :4], columns=list("abcd"))
    est = quiet(ours.MLPClassifier(5, max_iter=3), frame, digits[1])
    assert est.feature_names_in_.tolist() == list("abcd")
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        est.predict(digits[0][:, :4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y: ours.MLPClassifier(epochs=3),
            "MLPClassifier takes no epochs=: here it is m",
        ),
        (
            lambda x, y: ours.MLPClassifier(class_weights=3),
            "takes no class_weights=; did you mean 'class_weight'",
        ),
        (
            lambda x, y: ours.MLPRegressor(hidden=3),
            "MLPRegressor takes no hidden=: here it is hidden_layer_sizes=",
        ),
        (
            lambda x, y: ours.MLPRegressor(eval_set=[(x, y)]),
            r"takes no eval_set=: it goes to fit\(X, y, X_val=",
        ),
        (
            lambda x, y: ours.NetworkClassifier(list, eval_set=[(x, y)]),
            r"takes no eval_set=: it goes to fit\(X, y, X_val=",
        ),
        (lambda x, y: ours.MLPRegressor(optimizer="adam"), "optimizer=: here it is solver="),
        (
            lambda x, y: ours.MLPClassifier().fit(x, y, validation=(x, y)),
            "fit takes no validation=: here it is X_val= and y_val=",
        ),
        (
            lambda x, y: ours.MLPRegressor().partial_fit(x, y, callbacks=[]),
            "partial_fit takes no callbacks=: it goes to the constructor",
        ),
        (
            lambda x, y: ours.MLPClassifier().partial_fit(x, y, clases=[0, 1]),
            "partial_fit takes no clases=; did you mean 'classes'",
        ),
        (
            lambda x, y: ours.NetworkClassifier(list).fit(x, y, epochs=3),
            "fit takes no epochs=: it goes to the constructor",
        ),
        (
            lambda x, y: ours.MLPClassifier().fit(x, y, None, 3),
            "fit takes no 3: after sample_weight all arguments have names, such as X_val=",
        ),
    ],
)
def test_keywords_that_are_others(digits, call, message):
    with pytest.raises(TypeError, match=message):
        call(*digits)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_text_is_told_by_its_column():
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    frame = pandas.DataFrame({"n": ["1", "2.5", "3"], "kind": ["1", "oak", "elm"]})
    y, counts = [0, 1, 0], pandas.array([1, 2, 3], dtype="Int64")
    for x, est in (
        (frame, ours.MLPClassifier()),
        (frame.astype({"kind": "category"}), ours.MLPRegressor()),
        (frame.astype({"kind": "category"}), ours.NetworkRegressor(list)),
        (frame.astype({"kind": "category"}).assign(n=counts), ours.MLPClassifier()),
        (frame, ours.NetworkRegressor(list)),
    ):
        with pytest.raises(ValueError, match=r"X has text in column 'kind', such as 'oak': make"):
            est.fit(x, y)
    with pytest.raises(ValueError, match=r"in column 1, .*\(\(OneHotEncoder\(\), \[1\]\), rem"):
        ours.MLPClassifier().fit(frame.to_numpy(), y)
    with pytest.raises(ValueError, match=r"in column 1, such as 'oak'"):
        ours.NetworkRegressor(list).fit([["1", "2"], ["3", "oak"]], [1.0, 2.0])
    numbers = frame.assign(kind=1.0)
    est = ours.MLPRegressor(hidden_layer_sizes=2, max_iter=1).fit(numbers, y)
    with pytest.raises(ValueError, match=r"in column 'kind', .*OneHotEncoder\(\), \['kind'\]"):
        est.predict(frame)
    with pytest.raises(ValueError, match=r"in column 'kind', .*OneHotEncoder\(\), \['kind'\]"):
        est.predict(frame.astype({"kind": "category"}))
    with pytest.raises(ValueError, match=r"could not convert string to float: .*oak"):
        ours.MLPRegressor().fit(numbers, ["oak", "1", "2"])
