"""scikit-learn's own callbacks, which its estimators call from 1.9 on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")

from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bpx
from bpx.sklearn import MLPClassifier

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:200] / 16.0, y[:200]


class Recorder:
    """Notes each hook; asks to stop after `most` subtasks, or fails there."""

    def __init__(self, most=None, fails=False):
        self.most, self.fails = most, fails
        self.hooks, self.fitted, self.data = [], [], []

    def note(self, hook, context):
        self.hooks.append((hook, context.task_name, context.parent is None))

    def setup(self, estimator, context):
        self.note("setup", context)

    def teardown(self, estimator, context):
        self.note("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", context)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.note("end", context)
        self.data.append((X, y, metadata))
        self.fitted.append(fitted_estimator)
        if self.most is not None and len(self.fitted) >= self.most:
            if self.fails:
                raise RuntimeError("no more")
            return True
        return None


def hooks(subtask, count, task="fit", empty=0):
    """The hooks of a fit with `count` subtasks, and `empty` ones, which only begin and end."""
    each = [("begin", subtask, False), ("end", subtask, False)] * (count + empty)
    around = [(hook, task, True) for hook in ("setup", "begin", "end", "teardown")]
    return [*around[:2], *each, *around[2:]]


@quiet
def test_an_epoch_is_a_task(digits):
    weight, recorder = np.ones(200), Recorder()
    est = MLPClassifier(8, max_iter=3, random_state=0).set_callbacks(recorder)
    est.fit(*digits, weight)
    assert recorder.hooks == hooks("epoch", 3)
    for x, y, metadata in recorder.data:
        assert x is digits[0]
        assert y is digits[1]
        assert metadata == {"sample_weight": weight}
    each = [fitted.predict_proba(digits[0]) for fitted in recorder.fitted]
    assert not np.array_equal(each[0], each[1]), "each is a network of its own"
    assert np.array_equal(each[-1], est.predict_proba(digits[0]))
    recorder.hooks.clear()
    est.partial_fit(*digits)
    assert recorder.hooks == hooks("epoch", 1, "partial_fit")
    assert not hasattr(est, "_callback_fit_ctx")


@quiet
def test_an_iteration_is_a_task(digits):
    recorder = Recorder()
    est = MLPClassifier(8, max_iter=3, solver="lbfgs", random_state=0).set_callbacks(recorder)
    est.fit(*digits)
    assert recorder.hooks == hooks("iteration", 3, empty=1)
    assert recorder.fitted.pop(3) is None
    each = [fitted.predict_proba(digits[0]) for fitted in recorder.fitted]
    assert not np.array_equal(each[0], each[1])
    assert np.array_equal(each[2], est.predict_proba(digits[0]))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_hook_stops_the_training(digits, solver):
    est = MLPClassifier(8, max_iter=50, solver=solver).set_callbacks(Recorder(most=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.fit(*digits)
    assert est.n_iter_ == 2
    assert est.stopped_ == "a callback of scikit-learn's asked for it"


@quiet
def test_bpxs_callbacks_and_scikit_learns_agree_on_the_end(digits):
    recorder = Recorder()
    est = MLPClassifier(8, callbacks=lambda run: run.stop("enough")).set_callbacks(recorder)
    est.fit(*digits)
    assert recorder.hooks == hooks("epoch", 1)
    assert est.stopped_ == "enough"


def test_what_fails_is_torn_down(digits):
    recorder = Recorder(most=1, fails=True)
    with pytest.raises(RuntimeError, match="no more"):
        MLPClassifier(8).set_callbacks(recorder).fit(*digits)
    assert recorder.hooks[-1] == ("teardown", "fit", True)


@quiet
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_scoring_monitor(digits, solver):
    monitor = ScoringMonitor(scoring="accuracy")
    est = MLPClassifier(8, max_iter=4, solver=solver, random_state=0).set_callbacks(monitor)
    est.fit(*digits, np.ones(200))
    rows = [row for row in monitor.get_logs().data if row["task_name"] != "fit"]
    assert [row["task_id"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["accuracy"] == est.score(*digits)


@quiet
def test_progress_bar_in_a_search(digits, capsys):
    pytest.importorskip("rich", reason="it draws the bar")
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=2))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.0, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=2)).fit(*digits)
    assert "MLPClassifier - fit" in capsys.readouterr().out


def test_they_are_kept_by_clones_and_are_no_parameters(digits):
    from sklearn.base import clone

    recorder = Recorder(most=1)
    twin = clone(MLPClassifier(8, callbacks=bpx.EarlyStopping(3)).set_callbacks(recorder))
    twin.fit(*digits)
    assert len(recorder.fitted) == 2
    assert "_skl_callbacks" not in twin.get_params()
