"""What a message advises is done here, on the very object that it is about."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import bpx
from bpx import layers

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exporting an unversioned DLPack:DeprecationWarning"  # which pyarrow does
)

M = 6
ROWS = np.arange(24.0).reshape(M, 4) / 24
LABELS = np.array([0, 1, 1, 0, 1, 0])
NAMES = np.array(list("abbaba"))
IMAGES = np.arange(M * 64.0).reshape(M, 64) / 384


def _list(a):
    return a.tolist()


def _of(library, array, frame):
    """A kind that makes a vector with `array`, a matrix with `frame` of its columns by name."""

    def kind(a):
        of = pytest.importorskip(library, reason="its frames and vectors are tested")
        if a.ndim == 1:
            return array(of)(a)
        return frame(of)({f"c{k}": column for k, column in enumerate(a.T)})

    kind.__name__ = library
    return kind


pandas = _of("pandas", lambda of: of.Series, lambda of: of.DataFrame)
polars = _of("polars", lambda of: of.Series, lambda of: of.DataFrame)
pyarrow = _of("pyarrow", lambda of: of.array, lambda of: of.table)
FRAMES = [pandas, polars, pyarrow]


def numpy(a):
    return a


def torch(a):
    return pytest.importorskip("torch", reason="its tensors are tested").asarray(a)


def strict(a):
    return pytest.importorskip("array_api_strict", reason="its arrays are tested").asarray(a)


def sparse(a):
    of = pytest.importorskip("scipy.sparse", reason="its matrices are tested")
    return of.coo_array(a)


def network(inputs=4, **options):
    options = {"output": "softmax", "seed": 0} | options
    flat = [layers.Flatten()] if isinstance(inputs, tuple) else []
    last = layers.Dense(2, options.pop("output"))
    return bpx.Network([layers.Input(inputs), *flat, last], **options)


def fit_labels(y):
    network().fit(ROWS, y, epochs=1)


def fit_validation(y):
    network().fit(ROWS, LABELS, epochs=1, validation=(ROWS, y))


def fit_values(y):
    network(task="regression", output="identity", cost="quadratic").fit(ROWS, y, epochs=1)


def fit_weight(sample_weight):
    network().fit(ROWS, LABELS, epochs=1, sample_weight=sample_weight)


def predict(x):
    network().predict(x)


def predict_one_input(x):
    network(1).predict(x)


def predict_images(x):
    network((1, 8, 8)).predict(x)


def validate_images(x):
    images = IMAGES.reshape(M, 1, 8, 8)
    network((1, 8, 8)).fit(images, LABELS, epochs=1, validation=(x, LABELS))


def of_other_columns(x):
    net = network()
    net.columns = list("abcd")
    net.predict(x)


def validate_other_columns(x):
    net = network()
    net.columns = list("abcd")
    net.fit(ROWS, LABELS, epochs=1, validation=(x, LABELS))


SQUARES = np.moveaxis(IMAGES.reshape(M, 1, 8, 8), 1, -1)
DAYS = np.arange(M * 4).reshape(M, 4).astype("datetime64[D]").astype("datetime64[ns]")
PAIRS = np.stack([LABELS, 1 - LABELS], axis=1).reshape(M, 1, 2) * 1.0

# What is done with what, of which kinds; and what the message advises for any of them.
ADVICE = [
    (fit_labels, LABELS[:, None], [numpy, _list, strict, torch, *FRAMES],
     "np.asarray(y).reshape(-1)"),
    (fit_validation, LABELS[:, None], [_list, pandas], "np.asarray(y).reshape(-1)"),
    (fit_labels, LABELS * 1.0, [numpy, _list, strict, torch, *FRAMES],
     "np.asarray(y, dtype=int)"),
    (fit_validation, LABELS * 1.0, [_list, polars], "np.asarray(y, dtype=int)"),
    (fit_values, PAIRS, [numpy, _list, strict, torch], "np.asarray(y).reshape(-1, 2)"),
    (fit_weight, LABELS[:, None] + 1, [numpy, _list, strict, torch, *FRAMES],
     "np.asarray(sample_weight).reshape(-1)"),
    (predict, ROWS[0], [numpy, _list, strict, torch, *FRAMES], "np.asarray(x).reshape(1, 4)"),
    (predict_images, IMAGES[0].reshape(1, 8, 8), [numpy, _list, strict, torch],
     "np.asarray(x).reshape(1, 1, 8, 8)"),
    (predict, ROWS[0], [sparse], "x.reshape(1, 4)"),
    (predict_one_input, ROWS[0], [numpy, _list, strict, torch, *FRAMES],
     "np.asarray(x).reshape(-1, 1)"),
    (predict, ROWS.T, [numpy, _list, strict, torch, *FRAMES], "np.asarray(x).T"),
    (predict, ROWS.T, [sparse], "x.T"),
    (predict_images, IMAGES, [numpy, _list, strict, torch, *FRAMES],
     "np.asarray(x).reshape(-1, 1, 8, 8)"),
    (predict_images, SQUARES, [numpy, _list, strict, torch],
     "np.moveaxis(np.asarray(x), -1, 1)"),
    (predict_images, IMAGES, [sparse], "x.toarray()"),
    (validate_images, IMAGES, [_list, pandas], "np.asarray(x).reshape(-1, 1, 8, 8)"),
    (validate_images, IMAGES, [sparse], "x.toarray()"),
    (predict, DAYS, [numpy], "(x - x.min()) / np.timedelta64(1, 'D')"),
    (fit_values, DAYS[:, :2], [numpy], "(y - y.min()) / np.timedelta64(1, 'D')"),
    (of_other_columns, ROWS, FRAMES, "np.asarray(x)"),
    (validate_other_columns, ROWS, FRAMES, "np.asarray(x)"),
]  # fmt: skip
EACH = [(do, a, kind, code) for do, a, kinds, code in ADVICE for kind in kinds]


@pytest.mark.parametrize(
    ("do", "array", "kind", "code"),
    EACH,
    ids=[f"{do.__name__}-{code}-{kind.__name__}" for do, _, kind, code in EACH],
)
def test_the_advice_works_on_what_came(do, array, kind, code):
    came = kind(array)
    with pytest.raises((TypeError, ValueError)) as refused:
        do(came)
    message = str(refused.value)
    assert re.search(rf"(?<![\w.(]){re.escape(code)}(?![\w.\[])", message), message
    better = eval(code, {"np": np}, dict.fromkeys(("x", "y", "sample_weight"), came))
    if code == "x.toarray()":  # one advice leads to the next
        better = better.reshape(-1, 1, 8, 8)
    do(better)


@pytest.mark.parametrize("do", [fit_labels, fit_validation])
@pytest.mark.parametrize("kind", [numpy, _list, *FRAMES])
@pytest.mark.parametrize("labels", [NAMES, LABELS], ids=["names", "numbers"])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_missing_label_is_not_a_class(do, kind, labels, missing):
    y = labels.astype(object)
    y[2] = missing if kind in (numpy, pandas) else None  # the others' vectors are of one kind
    with pytest.raises((TypeError, ValueError)) as refused:
        do(kind(y))
    message = str(refused.value)
    assert message.endswith("fill in what is missing, or leave those rows out")
    assert re.search(r"with (None|nan|<NA>) at \[2\]|in row 2:", message), message
    assert "np.unique" not in message


def test_what_numpy_cannot_number_is_not_to_be_numbered():
    y = np.array([*"abba", 1, 2], dtype=object)
    with pytest.raises(TypeError, match=r"got dtype object with 'a' at \[0\]$"):
        fit_validation(y)
    with pytest.raises(ValueError, match="expected the name of a class in y, got 1 in row 4: "):
        fit_labels(y)


def test_advice_for_a_device_is_in_its_library():
    """NumPy cannot take an array that is there."""
    of = pytest.importorskip("array_api_strict", reason="its devices are tested")
    device = of.Device("device1")
    net = network((1, 8, 8), backend="array_api_strict:device1", dtype="float64")
    x = of.asarray(SQUARES, device=device)
    with pytest.raises(ValueError, match=r"first: array_api_strict\.moveaxis\(a") as refused:
        net.predict(x)
    code = str(refused.value).rpartition("first: ")[2]
    net.predict(eval(code, {"array_api_strict": of}, {"x": x}))
    with pytest.raises(TypeError, match=r": array_api_strict\.asarray\(y, dtype=int\) if"):
        net.fit(IMAGES.reshape(M, 1, 8, 8), of.asarray(LABELS * 1.0, device=device))


def test_data_on_disk_are_reshaped_by_the_network():
    net, x = network((1, 8, 8)), bpx.open_data(IMAGES, LABELS)
    advice = ": begin the network with Input((64,)), Reshape((1, 8, 8))"
    for call in (net.predict, net.fit):
        with pytest.raises(ValueError, match=re.escape(advice)):
            call(x)
    first = eval(advice.partition("with ")[2], vars(layers).copy())
    chain = [*first, *net.layers]
    assert bpx.Network(chain).predict(x).shape == (M,)
    with pytest.raises(ValueError, match=r"got \(6, 8, 8, 1\); channels come first$"):
        net.predict(bpx.open_data(SQUARES, LABELS))
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 6\), got \(6, 64\)$"):
        network(6).predict(bpx.open_data(IMAGES, LABELS))


@pytest.mark.parametrize(
    "options",
    [{"output": "softmax"}, {"output": "sigmoid"}, {"output": "tanh", "task": "classification"}],
)
@pytest.mark.parametrize("y", [LABELS, NAMES], ids=["numbers", "names"])
def test_what_takes_labels_of_classes(options, y):
    with pytest.raises((TypeError, ValueError), match="labels of classes need") as refused:
        fit_values(y)
    assert all(re.search(f'{value}"', str(refused.value)) for value in [*options.values()][-1:])
    network(**options).fit(ROWS, y, epochs=1)


@pytest.mark.parametrize(
    ("optimizer", "options", "told"),
    [
        (bpx.SGD(0.5), {}, r"= -1\.5 in the next step, where λ is divided by n = 6; .* below 12"),
        (bpx.SGD(0.5, momentum=0.5), {}, r"= -1\.5 "),
        (bpx.SGD(bpx.schedules.StepDecay(0.5, every=1)), {}, r"= -1\.5 "),
        (bpx.SGD(0.25), {"n": 3}, r"= -1\.5 in the next step, where λ is divided by n = 3; "),
        (bpx.SGD(0.5), {"sample_weight": np.full(M, 0.5)}, r"= -1\.5 .* n = 6;"),
        (bpx.SGD(0.2), {}, None),
        (bpx.SGD(0.5), {"clip_norm": 1.0}, None),
        (bpx.Adam(0.5), {}, None),
    ],
)
def test_l2_far_too_large(optimizer, options, told, recwarn):
    net, options = network(), {"epochs": 1, "optimizer": optimizer, "l2": 30.0} | options
    net.copy().fit(ROWS, LABELS, **options | {"l2": 5.0})
    assert not recwarn
    if told is None:
        net.fit(ROWS, LABELS, **options)
        assert not recwarn
    else:
        with pytest.warns(RuntimeWarning, match=rf"^l2=30 is far too large: .*{told}"):
            net.fit(ROWS, LABELS, **options)


def test_weight_decay_far_too_large(recwarn):
    net = network(output="identity", task="regression")
    net.copy().fit(ROWS, ROWS[:, :2], epochs=1, optimizer=bpx.AdamW(0.001, weight_decay=999.0))
    assert not recwarn
    options = {"optimizer": bpx.AdamW(0.001, weight_decay=5000.0)}
    told = r"^weight_decay=5000 is far .* 1 − ηw = -4 in the next step; .* well below 1e\+03"
    with pytest.warns(RuntimeWarning, match=told):
        net.copy().fit(ROWS, ROWS[:, :2], epochs=1, **options)
    warnings.simplefilter("ignore")
    with pytest.raises(bpx.DivergenceError, match=r"step\. A smaller weight_decay, a lower learn"):
        net.fit(ROWS, ROWS[:, :2], epochs=200, **options)


@dataclass(frozen=True)
class Decoupled(bpx.optimizers.Optimizer):
    """Sign descent with a decoupled decay."""

    decay: float = 0.0  # a name that a user may take

    def decoupled_decay(self):
        return self.decay

    def update(self, theta, grad, state, step):
        eta = self.rate(state, step)
        theta[: state.decayed] *= 1.0 - eta * self.decay
        theta -= eta * np.sign(grad)


@dataclass(frozen=True)
class Gentler(bpx.AdamW):
    """Another `update`, of whose decay nothing is known."""

    def update(self, theta, grad, state, step):
        theta -= self.rate(state, step) * grad


def test_any_decoupled_decay_is_told_of(recwarn):
    net = network(output="identity", task="regression")
    for fits in Decoupled(0.001, 999.0), Gentler(0.001, weight_decay=5000.0):
        net.copy().fit(ROWS, ROWS[:, :2], epochs=1, optimizer=fits)
    assert not recwarn
    with pytest.warns(RuntimeWarning, match="^weight_decay=5000 is far .* = -4 in the next step"):
        net.fit(ROWS, ROWS[:, :2], epochs=1, optimizer=Decoupled(0.001, 5000.0))


@pytest.mark.parametrize(("l2", "advice"), [(1e9, "A smaller l2, a lower"), (0.0, "A lower")])
@pytest.mark.filterwarnings("ignore:l2=:RuntimeWarning")
def test_a_divergence_is_due_to_l2(l2, advice):
    net = network(output="identity", task="regression")
    with pytest.raises(bpx.DivergenceError, match=rf"step\. {advice} learning rate"):
        net.fit(ROWS, ROWS[:, :2], epochs=40, optimizer=bpx.SGD(0.5 if l2 else 1e20), l2=l2)
