"""What training has beyond scikit-learn: held-out data of one's own, scores, callbacks."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, log_loss, mean_squared_error

import bpx
from bpx.sklearn import MLPClassifier, MLPRegressor, _validation

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:300] / 16.0, y[:300]


@pytest.fixture(scope="module")
def others():
    x, y = load_digits(return_X_y=True)
    return x[300:400] / 16.0, y[300:400]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))


# --- validation data ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_validation_loss_is_the_mean_cost_without_the_penalty(digits, others, solver, rng):
    options = {"solver": solver, "max_iter": 4, "alpha": 0.5, "random_state": 0}
    est, weight = MLPClassifier(12, **options), rng.random(100)
    est.fit(*digits, validation_data=(*others, weight))
    assert len(est.validation_loss_curve_) == est.n_iter_
    found = log_loss(others[1], est.predict_proba(others[0]), sample_weight=weight)
    assert est.validation_loss_curve_[-1] == pytest.approx(found, rel=1e-10)
    plain = MLPClassifier(12, **options).fit(*digits)
    assert plain.validation_loss_curve_ is None
    assert same(est, plain), "held-out data change nothing"


def test_the_validation_loss_of_a_regression_is_on_the_scale_of_its_loss(digits):
    x = digits[0]
    y = x[:, 20:23] + x[:, 40:43]
    est = MLPRegressor("squared_error", 12, max_iter=3, random_state=0, alpha=0.0)
    est.fit(x[:200], y[:200], validation_data=(x[200:], y[200:]))
    found = 0.5 * mean_squared_error(y[200:], est.predict(x[200:]))
    assert est.validation_loss_curve_[-1] == pytest.approx(found, rel=1e-10)
    apart = MLPRegressor("squared_error", 12, max_iter=3, random_state=0, alpha=0.0)
    apart.fit(x[:200], y[:200], X_val=x[200:], y_val=y[200:])
    assert apart.validation_loss_curve_ == est.validation_loss_curve_
    with pytest.raises(ValueError, match=r"expected validation y of shape \(m, 3\), got"):
        est.fit(x, y, validation_data=(x, y[:, :2]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["X_val", "y_val", "validation_data"], "validation_data is X_val, y_val and sample_we"),
        (["X_val"], "X_val and y_val come together: pass both, or neither"),
        (["y_val", "sample_weight_val"], "X_val and y_val come together"),
    ],
)
def test_validation_data_by_half_or_twice(digits, names, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(12).fit(*digits, **dict.fromkeys(names, digits[1]))


def test_labels_are_those_of_y(digits, others):
    names = np.array([f"class {k}" for k in range(10)])
    options = {"max_iter": 3, "random_state": 0}
    by_name = MLPClassifier(8, **options)
    by_name.fit(digits[0], names[digits[1]], validation_data=(others[0], names[others[1]]))
    by_number = MLPClassifier(8, **options).fit(*digits, validation_data=others)
    assert by_name.validation_loss_curve_ == by_number.validation_loss_curve_
    several = MLPClassifier(8, **options)
    marks = np.eye(10, dtype=int)
    several.fit(digits[0], marks[digits[1]], validation_data=(others[0], marks[others[1]]))
    assert len(several.validation_loss_curve_) == 3


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_curve_of_the_part_that_early_stopping_splits_off(digits, early_stopping):
    est = MLPClassifier(8, max_iter=4, random_state=0, early_stopping=early_stopping).fit(*digits)
    if early_stopping:
        assert len(est.validation_loss_curve_) == len(est.validation_scores_) == 4
    else:
        assert est.validation_loss_curve_ is est.validation_scores_ is None


def test_early_stopping_looks_at_the_given_data(digits, monkeypatch):
    parts = []

    def spy(*args):
        parts.append(original(*args))
        return parts[-1]

    original = _validation.split
    monkeypatch.setattr(_validation, "split", spy)
    options = {"early_stopping": True, "shuffle": False, "random_state": 0, "n_iter_no_change": 3}
    one = MLPClassifier(8, max_iter=60, learning_rate_init=0.02, **options).fit(*digits)
    x, y, _, held_out = parts.pop()
    other = MLPClassifier(8, max_iter=60, learning_rate_init=0.02, **options)
    other.fit(x, y, validation_data=(held_out.X, held_out.y))  # codes are the labels
    assert not parts
    assert one.validation_scores_ == other.validation_scores_
    assert "Validation score did not improve" in one.stopped_
    assert same(one, other)


WRONG = [
    (lambda x, y: x, TypeError, r"expected validation_data=\(X, y\) or \(X, y, sample_weight\)"),
    (lambda x, y: (x, y, None, None), TypeError, "expected validation_data=.*, got tuple"),
    (lambda x, y: (x[:, :9], y), ValueError, "validation_data: X has 9 features, but MLPClassif"),
    (lambda x, y: (x, y + 5), ValueError, r"got \[10 11 12 13 14\] too: leave those rows out"),
    (
        lambda x, y: (x, y[:-1]),
        ValueError,
        "validation_data: Found input variables with inconsistent numbers of samples",
    ),
    (lambda x, y: (x, y, y[:9]), ValueError, "validation_data: sample_weight.shape == "),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_validation_data(digits, wrong, error, message):
    with pytest.raises(error, match=message):
        MLPClassifier(5, max_iter=1).fit(*digits, validation_data=wrong(*digits))


# --- early stopping under partial_fit -----------------------------------------------------------


def test_a_loop_of_partial_fit_stops_where_fit_does(digits, others):
    options = {"early_stopping": True, "shuffle": False, "random_state": 0, "n_iter_no_change": 3}
    options["learning_rate_init"] = 0.02
    whole = MLPClassifier(8, max_iter=80, **options).fit(*digits, validation_data=others)
    loop = MLPClassifier(8, **options)
    calls = 0
    while not (calls and loop.stopped_):
        loop.partial_fit(*digits, classes=np.arange(10), validation_data=others)
        calls += 1
    assert calls == whole.n_iter_ < 80
    assert loop.stopped_ == whole.stopped_
    assert loop.validation_scores_ == whole.validation_scores_
    assert same(loop, whole), "the best weights are back"
    loop.partial_fit(*digits, validation_data=others)
    assert loop.stopped_ is None, "it goes on, and counts anew"
    assert not same(loop, whole)
    assert same(loop.restore_best(), whole)


def test_early_stopping_may_begin_and_end_between_calls(digits, others):
    est = MLPClassifier(8, random_state=0).partial_fit(*digits, classes=np.arange(10))
    est.set_params(early_stopping=True).partial_fit(*digits, validation_data=others)
    assert est.validation_scores_ == [est.best_validation_score_]
    est.set_params(early_stopping=False).partial_fit(*digits, validation_data=others)
    assert est.best_loss_ == est.loss_curve_[-1]
    assert len(est.loss_curve_) == 3
    assert len(est.validation_loss_curve_) == 2


def test_early_stopping_under_partial_fit_needs_validation_data(digits):
    est = MLPClassifier(5, early_stopping=True)
    with pytest.raises(ValueError, match=r"^partial_fit does not support early_stopping=True wit"):
        est.partial_fit(*digits, classes=np.arange(10))
    with pytest.raises(
        ValueError, match="the best weights are kept only with early_stopping=True"
    ):
        MLPClassifier(5).partial_fit(*digits, classes=np.arange(10)).restore_best()


# --- other scores -------------------------------------------------------------------------------


def test_scoring_by_the_loss(digits):
    x, y = digits
    est = MLPClassifier(8, max_iter=9, random_state=0, early_stopping=True, scoring="loss")
    est.fit(x, y)
    assert est.validation_scores_ == [-loss for loss in est.validation_loss_curve_]
    assert est.best_validation_score_ == -min(est.validation_loss_curve_)
    reg = MLPRegressor("squared_error", 8, max_iter=9, early_stopping=True, scoring="loss")
    assert max(reg.fit(x, x[:, 20]).validation_scores_) < 0


@pytest.mark.parametrize("weighted", [False, True])
def test_scoring_by_a_scorer(digits, others, rng, weighted):
    names = np.array([f"class {k}" for k in range(10)])
    x, y = digits[0], names[digits[1]]
    data = (others[0], names[others[1]], *([rng.random(100)] if weighted else []))

    def scorer(estimator, X, y, sample_weight=None):
        return balanced_accuracy_score(y, estimator.predict(X), sample_weight=sample_weight)

    options = {"max_iter": 5, "random_state": 0, "early_stopping": True}
    found = [
        MLPClassifier(8, scoring=scoring, **options).fit(x, y, validation_data=data)
        for scoring in ("balanced_accuracy", scorer)
    ]
    assert found[0].validation_scores_ == found[1].validation_scores_
    at_the_end = scorer(found[0], *data)
    assert found[0].best_validation_score_ == pytest.approx(at_the_end, rel=1e-12)


def test_scoring_of_frames_asks_for_no_names(digits):
    pandas = pytest.importorskip("pandas", reason="its frames name their columns")
    frame = pandas.DataFrame(digits[0][:, 20:24], columns=list("abcd"))
    est = MLPRegressor("squared_error", 8, max_iter=2, early_stopping=True, scoring="r2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.fit(frame, digits[1], validation_data=(frame, digits[1]))
        assert est.feature_names_in_.tolist() == list("abcd")


def test_unknown_scoring(digits):
    with pytest.raises(ValueError, match="The 'scoring' parameter of MLPClassifier must be a str"):
        MLPClassifier(scoring="acuracy").fit(*digits)


@pytest.mark.parametrize("options", [{}, {"early_stopping": True, "solver": "lbfgs"}])
def test_scoring_that_nobody_looks_at(digits, options):
    est = MLPClassifier(4, max_iter=1, scoring="loss", **options)
    with pytest.warns(UserWarning, match="scoring= has no effect: early stopping looks at it"):
        est.fit(*digits)


def test_a_validation_fraction_that_callbacks_do_not_see(digits, others):
    options = {"max_iter": 2, "callbacks": bpx.EarlyStopping(5), "validation_fraction": 0.2}
    with pytest.warns(UserWarning, match="validation_fraction= has no effect, and callbacks see"):
        MLPClassifier(4, **options).fit(*digits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        MLPClassifier(4, **options).fit(*digits, X_val=others[0], y_val=others[1])
        MLPClassifier(4, early_stopping=True, **options).fit(*digits)
        MLPClassifier(4, **options | {"validation_fraction": 0.1}).fit(*digits)
        MLPClassifier(4, **options | {"callbacks": None}).fit(*digits)


# --- callbacks ----------------------------------------------------------------------------------


def test_callbacks(digits, others):
    text, rows = io.StringIO(), []
    callbacks = [
        bpx.EarlyStopping(2, min_delta=1e9),  # no epoch is that much better
        bpx.callbacks.Progress(text),
        lambda run: rows.append(run.history.row()),
    ]
    est = MLPClassifier(8, random_state=0, callbacks=callbacks)
    assert est.callbacks is callbacks
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it has stopped, and not run out of epochs
        clone(est).set_params(max_iter=3).fit(*digits, validation_data=others)
        est.fit(*digits, validation_data=others)
    assert "no better validation_cost" in est.stopped_
    assert [row["validation_cost"] for row in rows[3:]] == est.validation_loss_curve_
    assert est.n_iter_ == 3 == text.getvalue().count("validation cost") // 2
    best = log_loss(others[1], est.predict_proba(others[0]))
    assert best == pytest.approx(est.validation_loss_curve_[0], rel=1e-10)


def test_one_callback_clone_and_pickle(digits, capsys):
    est = MLPClassifier(8, max_iter=2, callbacks=bpx.callbacks.Progress()).fit(*digits)
    again = clone(pickle.loads(pickle.dumps(est))).fit(*digits)
    assert type(again.callbacks) is bpx.callbacks.Progress
    assert capsys.readouterr().err.count("epoch 2; training cost") == 2
    stopping = MLPClassifier(8, callbacks=lambda run: run.stop("enough"))
    assert stopping.partial_fit(*digits, classes=np.arange(10)).stopped_ == "enough"


def test_wrong_callbacks(digits):
    with pytest.raises(TypeError, match=r"expected a callback with one of .*, got an int"):
        MLPClassifier(8, callbacks=3).fit(*digits)
    with pytest.raises(ValueError, match="solver='lbfgs' has none: use solver='adam' or 'sgd'"):
        MLPClassifier(8, solver="lbfgs", callbacks=bpx.callbacks.Progress()).fit(*digits)


# --- a warm start that goes on ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adam"},
        {"solver": "adam", "dropout": 0.2},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    ],
    ids=str,
)
def test_two_fits_of_five_epochs_are_one_of_ten(digits, options):
    options |= {"shuffle": False, "random_state": 0, "learning_rate_init": 0.01}
    whole = MLPClassifier(8, max_iter=10, **options).fit(*digits)
    halves = MLPClassifier(8, max_iter=5, warm_start="optimizer", **options)
    halves.fit(*digits).fit(*digits)
    assert same(halves, whole)
    assert halves.loss_curve_ == whole.loss_curve_
    anew = MLPClassifier(8, max_iter=5, warm_start=True, **options)
    assert not same(anew.fit(*digits).fit(*digits), whole)


def test_a_warm_start_under_another_rate(digits):
    est = MLPClassifier(8, max_iter=2, warm_start="optimizer", random_state=0).fit(*digits)
    state = est.to_network().optimizer_state
    est.set_params(learning_rate_init=1e-12).fit(*digits)
    assert est.to_network().optimizer_state.step == 2 * state.step
    est.set_params(solver="sgd").fit(*digits)  # whose memory is of another kind
    assert est.to_network().optimizer_state.step == state.step


def test_wrong_warm_start(digits):
    with pytest.raises(ValueError, match="The 'warm_start' parameter of MLPClassifier must be a"):
        MLPClassifier(warm_start="weights").fit(*digits)


def test_what_is_refused_loses_nothing(digits):
    x, y = digits
    est = MLPClassifier(8, max_iter=2, random_state=0).fit(x, y)
    before, expected = dict(vars(est)), est.predict_proba(x)
    with pytest.raises(ValueError, match="validation_data: X has 63 features"):
        est.fit(x, y % 3, validation_data=(x[:, 1:], y % 3))
    with pytest.raises(ValueError, match=r"Found input variables with incons|sample_weight.shape"):
        est.fit(x, y % 3, np.ones(5))
    with pytest.raises(ValueError, match="dropout draws new masks at each step"):
        est.set_params(solver="lbfgs", dropout=0.5).fit(x[:, :9], y)
    est.set_params(solver="adam", dropout=before["dropout"])
    assert vars(est).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(est).items() if name != "solver")
    assert (est.predict_proba(x) == expected).all()


def test_an_equal_loss_is_not_worse():
    est = MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", learning_rate_init=1e-300, tol=0.0,
        n_iter_no_change=2, max_iter=9, shuffle=False, random_state=0,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"Maximum iterations \(9\) reached"):
        est.fit(np.ones((4, 1)), np.zeros(4))
    assert est.n_iter_ == 9
