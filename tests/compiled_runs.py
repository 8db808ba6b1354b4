"""Compiled runs beside the same steps in Python: what is common to their tests."""

from __future__ import annotations

import numpy as np
import pytest

import bpx
from bpx import training

HIDDEN = ("identity", "sigmoid", "tanh", "relu", "softmax")
ENDS = (
    ("quadratic", "identity"),
    ("quadratic", "sigmoid"),
    ("quadratic", "tanh"),
    ("quadratic", "relu"),
    ("quadratic", "softmax"),
    ("cross-entropy", "sigmoid"),
    ("log-likelihood", "softmax"),
)
OPTIMIZERS = (
    bpx.SGD(0.3),
    bpx.SGD(0.1, momentum=0.9),
    bpx.SGD(0.1, momentum=0.9, nesterov=True),
    bpx.SGD(bpx.schedules.Exponential(0.3, 2, 0.9)),
    bpx.RMSprop(),
    bpx.Adam(0.01),
    bpx.AdamW(0.01, weight_decay=0.1),
)


def fits(backends, make, x, y, *, compiled=True, **options):
    """Networks of `make`, trained step by step on the first backend, compiled on the second."""
    nets = []
    for backend in backends:
        net = make(backend)
        seen = []
        original = training.compiled

        def spy(*arguments, seen=seen, original=original):
            found = original(*arguments)
            seen.append(found is not None)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "compiled", spy)
            net.fit(x, y, **options)
        assert any(seen) == (backend is backends[1] and compiled), "compiled, and not a fallback"
        nets.append(net)
    return nets


def agree(one, two, dtype="float64"):
    tolerance = {"float64": 1e-12, "float32": 2e-6}[dtype]
    size = np.abs(one.parameters).max()
    assert np.abs(one.parameters - two.parameters).max() <= tolerance * size
    for column, expected in one.history.row().items():
        if column != "seconds":
            assert abs(two.history.row()[column] - expected) <= 10 * tolerance * (1 + expected)
    assert one.steps == two.steps
    assert one.optimizer_state.step == two.optimizer_state.step
    for name, slot in one.optimizer_state.slots.items():
        other = two.optimizer_state.slots[name]
        assert np.abs(slot - other).max() <= tolerance * np.abs(slot).max()
