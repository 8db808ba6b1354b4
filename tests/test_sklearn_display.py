"""The diagram of an estimator in a notebook."""

from __future__ import annotations

import re
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bpx
from bpx.sklearn import MLPClassifier, MLPRegressor

X, Y = np.eye(6), np.arange(6) % 3


def layers(html):
    """The cells of the tables of layers; each table is well formed."""
    found = re.findall(r'<div class="estimator-table"><details><summary>Network.*?</div>', html)
    return [[cell.text or "" for cell in fromstring(text).iter("td")] for text in found]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fitted_one_shows_its_layers():
    est = MLPClassifier((5, 4), activation=["tanh", "gelu"], max_iter=1)
    assert layers(est._repr_html_()) == []
    (cells,) = layers(est.fit(X, Y)._repr_html_())
    assert cells == [
        "", "Input", "(m, 6)", "", "",
        "0", "Dense 5, tanh", "(m, 5)", "35", "30",
        "1", "Dense 4, gelu", "(m, 4)", "24", "20",
        "2", "Dense 3, softmax", "(m, 3)", "15", "12",
    ]  # fmt: skip
    assert "log-likelihood cost, classification; 74 parameters" in est._repr_html_()
    pipeline = make_pipeline(StandardScaler(), est).fit(X, Y)
    assert layers(pipeline._repr_html_()) == [cells]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_names_are_escaped():
    class Odd(bpx.Cost):
        name = "<script>"

        def value(self, xp, a, y):
            return xp.sum((a - y) ** 2, axis=1)

        def gradient(self, xp, a, y):
            return 2 * (a - y)

    html = MLPRegressor(Odd(), 3, max_iter=1).fit(X, Y)._repr_html_()
    assert "<script> cost" not in html
    assert "&lt;script&gt; cost, regression" in html
