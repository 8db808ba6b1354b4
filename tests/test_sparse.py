"""Sparse x: the same numbers as dense, and never all of it dense."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")

from scipy import sparse

import bpx
from bpx.backends import _threads
from bpx.backends._numpy import NumpyBackend

N = 120
MATRICES = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
}


@pytest.fixture(scope="module")
def dense():
    rng = np.random.default_rng(0)
    return np.where(rng.random((N, 40)) < 0.1, rng.normal(size=(N, 40)), 0.0)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 3, N)


@pytest.fixture(params=[0.0, 1.0], ids=["made dense", "as it is"])
def share(request, monkeypatch):
    """The density up to which the first layer multiplies by x as it is, sparse."""
    monkeypatch.setattr(NumpyBackend, "sparse_up_to", request.param)


def network(backend="numpy", dtype="float64"):
    options = {"hidden": "tanh", "output": "softmax", "dtype": dtype, "backend": backend}
    return bpx.Network([40, 20, 3], seed=0, **options)


@pytest.mark.parametrize("kind", MATRICES)
def test_everything_takes_it(dense, labels, share, kind):
    x, net = MATRICES[kind](dense), network()
    for method in ("feedforward", "predict"):
        np.testing.assert_allclose(getattr(net, method)(x), getattr(net, method)(dense))
    assert np.allclose(net.feedforward(x.tocsr()[:3]), net.feedforward(dense[:3]))
    assert net.evaluate(x, labels) == pytest.approx(net.evaluate(dense, labels))
    np.testing.assert_allclose(net.activations(x)[0], net.activations(dense)[0])
    expected, found = net.backprop(dense, labels), net.backprop(x, labels)
    np.testing.assert_allclose(found.flat, expected.flat, atol=1e-15)
    np.testing.assert_allclose(found.inputs, expected.inputs)


@pytest.mark.parametrize("optimizer", [bpx.SGD(0.3, 0.9), bpx.Adam()], ids=["sgd", "adam"])
def test_training_on_it_is_training_on_the_dense(dense, labels, share, optimizer):
    one, other = network(), network()
    options = {"epochs": 4, "batch_size": 25, "optimizer": optimizer, "l2": 0.1}
    one.fit(dense, labels, validation=(dense[:30], labels[:30]), **options)
    held_out = sparse.csr_matrix(dense[:30]), labels[:30]
    other.fit(sparse.csc_matrix(dense), labels, validation=held_out, **options)
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-10, atol=1e-12)
    assert other.history["validation_cost"] == pytest.approx(one.history["validation_cost"])


def test_float32_and_integers(dense, labels, share):
    counts = sparse.csr_matrix((3.0 * dense).astype(np.int64))
    one, other = network(dtype="float32"), network(dtype="float32")
    one.fit(counts.toarray(), labels, epochs=2)
    other.fit(counts, labels, epochs=2)
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-4, atol=1e-6)


def test_other_libraries_get_each_mini_batch_dense(dense, labels, backend):
    one, other = network(backend), network(backend)
    one.fit(dense, labels, epochs=2, batch_size=50)
    other.fit(sparse.csr_matrix(dense), labels, epochs=2, batch_size=50)
    to_host = one.backend.to_host
    np.testing.assert_allclose(to_host(other.parameters), to_host(one.parameters), rtol=1e-12)


@pytest.mark.parametrize("width", [40, 3000], ids=["small", "large"])
def test_a_first_layer_without_bias(rng, share, width):
    x = sparse.random(400, width, 0.05, format="csr", random_state=0)
    layers = [bpx.layers.Input(width), bpx.layers.Dense(7, "tanh", use_bias=False)]
    one, other = (bpx.Network([*layers, bpx.layers.Dense(1)], seed=0) for _ in range(2))
    np.testing.assert_allclose(other(x), one(x.toarray()), rtol=1e-4, atol=1e-6)
    y = rng.normal(size=400)
    options = {"epochs": 2, "batch_size": 200, "optimizer": bpx.SGD(0.1)}  # Adam enlarges rounding
    one.fit(x.toarray(), y, **options)
    other.fit(x, y, **options)
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-4, atol=1e-6)


def test_rows_with_nothing_but_zeros(labels, backend):
    dense = np.zeros((N, 40))
    dense[-1, 3] = 1.0
    one, other = network(backend), network(backend)
    one.fit(dense, labels, epochs=1, batch_size=20, shuffle=False)
    other.fit(sparse.csr_matrix(dense), labels, epochs=1, batch_size=20, shuffle=False)
    to_host = one.backend.to_host
    np.testing.assert_allclose(to_host(other.parameters), to_host(one.parameters), rtol=1e-12)
    few = slice(0, 5)
    found, expected = other(sparse.csr_matrix(dense[few])), one(dense[few])
    np.testing.assert_allclose(to_host(found), to_host(expected), rtol=1e-12)


def test_layers_that_need_it_dense(dense, labels):
    rescaled = [bpx.layers.Input(40), bpx.layers.Rescale(0.5, 0.1), bpx.layers.Dense(3, "softmax")]
    dropped = [bpx.layers.Input(40), bpx.layers.Dropout(0.3), bpx.layers.Dense(3, "softmax")]
    for layers in (rescaled, dropped):
        one, other = (bpx.Network(layers, dtype="float64", seed=0) for _ in range(2))
        one.fit(dense, labels, epochs=2)
        other.fit(sparse.csr_matrix(dense), labels, epochs=2)
        np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_no_more_than_a_block_of_rows_is_dense(monkeypatch, solver, share):
    pytest.importorskip(
        "sklearn", reason="scikit-learn is not installed: pip install scikit-learn"
    )
    from bpx.sklearn import MLPClassifier

    most = []
    toarray = sparse.csr_matrix.toarray
    for kind in (sparse.csr_matrix, sparse.csr_array):
        monkeypatch.setattr(
            kind, "toarray", lambda self, *a, **k: most.append(self.shape[0]) or toarray(self, *a)
        )
    x = sparse.random(3000, 30, 0.05, format="csr", random_state=0)
    y = np.arange(3000) % 2
    options = {"max_iter": 3, "random_state": 0, "tol": 10.0, "n_iter_no_change": 1}
    est = MLPClassifier(8, solver=solver, **options).fit(x, y, validation_data=(x, y))
    est.predict(x)
    est.transform(x)
    assert max(most, default=0) <= 1024


def test_blas_keeps_one_thread_for_products_of_few_elements():
    """Else it would wait for the others in each pass over so many weights."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")
    seen, before = [], _threads.of_blas()

    class Look(bpx.Callback):
        def on_epoch_end(self, run):
            seen.append(_threads.of_blas())

    def fit(x, batch_size, *first):
        chain = [bpx.layers.Input(6000), *first, bpx.layers.Dense(20), bpx.layers.Dense(3)]
        net = bpx.Network(chain, cost="quadratic", seed=0)
        net.fit(x, np.zeros((200, 3)), epochs=1, batch_size=batch_size, callbacks=[Look()])

    x = sparse.random(200, 6000, 0.001, format="csr", dtype=np.float32, random_state=0)
    fit(x, 100)
    fit(x, 5)  # its products alone would leave BLAS as it is
    fit(x.toarray(), 100)
    fit(x, 100, bpx.layers.Rescale(0.5))  # made dense
    assert seen == [1, 1, before, before]


def test_gradients_are_checked_on_it(dense, labels):
    net = bpx.Network([dense.shape[1], 4, 3], seed=0)
    x, y = sparse.csr_matrix(dense[:5]), labels[:5]
    assert bpx.gradient_check(net, x, y).worst < 1e-7
    assert bpx.gradient_check(net, x, y).errors == bpx.gradient_check(net, dense[:5], y).errors


def test_bad_ones(dense, labels):
    net = network()
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 40\), got \(120, 39\)"):
        net.feedforward(sparse.csr_matrix(dense[:, 1:]))


@pytest.mark.parametrize("kind", MATRICES)
def test_numbers_that_are_wrong_are_told_by_row_and_column(dense, labels, kind):
    broken = np.zeros((N, 40))
    broken[5, 7], broken[60, 2], broken[60, 3] = 1.0, np.inf, np.nan
    x = MATRICES[kind](broken)
    with pytest.raises(ValueError, match=r"^x has NaN or infinity, first in row 60, column 2:"):
        network().fit(x, labels)
    chain = [bpx.layers.Input(40), bpx.layers.Embedding(2, 3), bpx.layers.Flatten()]
    net = bpx.Network([*chain, bpx.layers.Dense(3, "softmax")])
    broken[60], broken[70, 39] = 0.0, 2.0
    with pytest.raises(ValueError, match=r"0 to 1 in x for an Embedding of 2, got 2.0 in row 70:"):
        net.fit(MATRICES[kind](broken), labels)


def test_elements_beyond_the_last_row_are_not_of_it(dense):
    x = sparse.csr_matrix(dense)
    roomy = x.copy()
    roomy.data, roomy.indices = np.append(x.data, np.nan), np.append(x.indices, 0)
    assert np.array_equal(network().predict(roomy), network().predict(x))


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("at_once", [1, 7 * N, 10**6])
def test_standardizing_it_is_standardizing_the_dense(dense, kind, at_once, monkeypatch):
    monkeypatch.setattr("bpx.layers.rescale.DENSE_AT_ONCE", at_once)
    x = MATRICES[kind](dense)
    made, toarray = [], sparse.csc_matrix.toarray
    for of in (sparse.csc_matrix, sparse.csc_array):
        monkeypatch.setattr(of, "toarray", lambda self: made.append(self.shape) or toarray(self))
    rescale = bpx.layers.Rescale.standardizing(x)
    expected = bpx.layers.Rescale.standardizing(dense)
    np.testing.assert_allclose(rescale.scale, expected.scale, rtol=1e-12)
    np.testing.assert_allclose(rescale.offset, expected.offset, rtol=1e-12, atol=1e-14)
    assert max(made) == (N, min(40, max(1, at_once // N)))
    chain = [bpx.layers.Input(40), rescale, bpx.layers.Dense(3, "softmax")]
    scaled = bpx.Network(chain, dtype="float64").activations(x)[0]
    assert np.allclose(scaled.mean(axis=0), 0.0)
    assert np.allclose(scaled.std(axis=0), 1.0)


def test_what_cannot_be_standardized(dense, monkeypatch):
    monkeypatch.setattr("bpx.layers.rescale.DENSE_AT_ONCE", 7 * N)
    standardizing = bpx.layers.Rescale.standardizing
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=r"expected x of shape \(n, k\) to standardize, got"):
            standardizing(sparse.csr_matrix(shape))
    with pytest.raises(TypeError, match=r"x must be real numbers .*, got dtype complex128"):
        standardizing(sparse.csr_matrix(dense * 1j))
    broken = dense.copy()
    broken[5, 22] = np.nan
    with pytest.raises(ValueError, match=r"x has NaN or infinity in row 5, column 22: fill in"):
        standardizing(sparse.csr_matrix(broken))
    broken[5, 22], broken[6, 22] = 1e308, -1e308
    with pytest.raises(ValueError, match=r"column 22 of x goes from -1e\+308 to 1e\+308"):
        standardizing(sparse.csr_matrix(broken))
