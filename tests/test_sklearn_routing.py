"""scikit-learn's metadata routing: weights and validation data through meta-estimators."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

import sklearn
from sklearn.datasets import load_iris
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bpx.sklearn import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def mlp():
    return MLPClassifier(5, max_iter=4, random_state=0, early_stopping=True, scoring="f1_macro")


def test_through_a_pipeline_and_a_search(iris, rng):
    (x, y), weight = iris, rng.random(150)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    scaled = scaler.fit_transform(x)
    validation = scaled[::3], y[::3], weight[::3]
    alone = mlp().fit(scaled, y, weight, validation_data=validation)
    inner = mlp().set_fit_request(sample_weight=True, validation_data=True)
    inner.set_score_request(sample_weight=True)
    pipeline = make_pipeline(scaler, inner)
    pipeline.fit(x, y, sample_weight=weight, validation_data=validation)
    assert np.array_equal(pipeline[-1].coefs_[0], alone.coefs_[0])
    assert pipeline[-1].validation_loss_curve_ == alone.validation_loss_curve_
    assert pipeline.score(x, y, sample_weight=weight) == alone.score(scaled, y, weight)
    scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.0001]}, cv=2, scoring=scorer)
    search.fit(x, y, sample_weight=weight, validation_data=validation)
    assert np.array_equal(search.best_estimator_[-1].coefs_[0], alone.coefs_[0])
    unweighted = mlp().fit(scaled, y, validation_data=validation)
    assert not np.array_equal(unweighted.coefs_[0], alone.coefs_[0])


def test_a_pipeline_transforms_the_validation_data(iris, rng):
    (x, y), weight = iris, rng.random(50)
    scaler = StandardScaler()
    scaled = scaler.fit_transform(x)
    alone = mlp().fit(scaled, y, validation_data=(scaled[::3], y[::3], weight))
    inner = mlp().set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
    pipeline = make_pipeline(scaler, inner, transform_input=["X_val"])
    pipeline.fit(x, y, X_val=x[::3], y_val=y[::3], sample_weight_val=weight)
    assert np.array_equal(pipeline[-1].coefs_[0], alone.coefs_[0])
    assert pipeline[-1].validation_loss_curve_ == alone.validation_loss_curve_


def test_what_is_not_asked_for_is_refused(iris):
    x, y = iris
    with pytest.raises(UnsetMetadataPassedError, match="validation_data"):
        GridSearchCV(mlp(), {"alpha": [0.0]}, cv=2).fit(x, y, validation_data=(x, y))
    asked = mlp().set_partial_fit_request(sample_weight=True, classes=True, validation_data=True)
    assert asked.get_metadata_routing().partial_fit.requests == {
        "classes": True,
        "sample_weight": True,
        "validation_data": True,
    }
