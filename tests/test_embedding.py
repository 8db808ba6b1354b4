"""Embeddings against PyTorch, and the whole numbers that they take."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers, persistence
from bpx.backends._numpy import NumpyBackend
from bpx.data import values

thorough = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def numbers(draw):
    """Shapes, with few numbers for many places and the other way round, and their dtype."""
    shape = draw(st.integers(1, 6)), *draw(st.lists(st.integers(1, 5), min_size=1, max_size=2))
    kind = draw(st.sampled_from(["int64", "int32", "uint8", "float32", "float64"]))
    return draw(st.sampled_from([1, 2, 7, 200])), draw(st.integers(1, 4)), shape, kind


@thorough
@given(numbers())
def test_embedding_is_pytorchs(described):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    count, width, shape, kind = described
    chain = [layers.Input(shape[1:]), layers.Embedding(count, width), layers.Flatten()]
    net = bpx.Network(chain, cost="quadratic", dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    rows = rng.integers(count, size=shape)
    leaf = torch.tensor(net.weights[0].copy(), requires_grad=True)
    theirs = torch.nn.functional.embedding(torch.tensor(rows), leaf)
    y = net.activations(rows.astype(kind))[0]
    assert np.array_equal(y, theirs.detach().numpy())
    delta = rng.normal(size=y.shape)
    theirs.backward(torch.tensor(delta))
    ours = net.backprop(rows.astype(kind), output_gradient=delta.reshape(shape[0], -1))
    assert np.abs(ours.weights[0] - leaf.grad.numpy()).max() < 1e-12
    assert ours.inputs.shape == shape
    assert not ours.inputs.any()


def test_whole_numbers_have_no_gradient(monkeypatch):
    """Whatever was in the memory that the zeros are written to."""
    net, x = network(), np.arange(8).reshape(2, 4)
    monkeypatch.setattr(net.backend, "empty", lambda shape, dtype: np.full(shape, -99, dtype))
    found = net.backprop(x, output_gradient=np.ones((2, 3))).inputs
    assert np.array_equal(found, np.zeros((2, 4)))


def text():
    chain = [
        layers.Input(5),
        layers.Embedding(30, 4),
        layers.Permute((1, 0)),
        layers.Conv1D(6, 3, "tanh", padding="same"),
        layers.Reshape((6, 5, 1)),
        layers.GlobalAveragePool2D(),
        layers.Dense(2),
    ]
    return bpx.Network(chain, cost="quadratic", dtype="float64", seed=1)


def test_a_convolution_along_words_is_pytorchs(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    net, rows, delta = text(), rng.integers(30, size=(7, 5)), rng.normal(size=(7, 2))
    tensors = *net.weights, *net.biases
    leaves = [torch.tensor(tensor.copy(), requires_grad=True) for tensor in tensors]
    words, kernel, weights, *biases = leaves
    x = torch.nn.functional.embedding(torch.tensor(rows), words).permute(0, 2, 1)
    z = torch.nn.functional.conv1d(x, kernel, biases[0], padding="same")
    theirs = torch.nn.functional.linear(torch.tanh(z).mean(-1), weights, biases[1])
    assert np.abs(net(rows) - theirs.detach().numpy()).max() < 1e-12
    theirs.backward(torch.tensor(delta))
    ours = net.backprop(rows, output_gradient=delta)
    for gradient, leaf in zip((*ours.weights, *ours.biases), leaves, strict=True):
        assert np.abs(gradient - leaf.grad.numpy()).max() < 1e-12


def test_permute_is_numpys(backend, put, host, rng):
    chain = [layers.Input((2, 3, 4)), layers.Permute((2, 0, 1)), layers.Flatten()]
    net = bpx.Network(chain, cost="quadratic", backend=backend, dtype="float64", seed=0)
    x = rng.normal(size=(5, 2, 3, 4))
    turned = np.transpose(x, (0, 3, 1, 2)).reshape(5, -1)
    assert np.array_equal(host(net(put(x))), turned)
    assert np.array_equal(host(net.backprop(put(x), output_gradient=put(turned)).inputs), x)


def test_permute_in_files(tmp_path, words):
    net = text()
    net.fit(words[0][:, [0, 1, 2, 3, 0]], np.eye(2)[words[1] % 2], epochs=1)
    net.save(tmp_path / "net")
    twin = bpx.load(tmp_path / "net")
    assert twin.layers == net.layers
    assert twin.summary().rows[2][1:3] == ("Permute (1, 0)", "(m, 4, 5)")


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize(
    "between",
    [[], [layers.Dropout(0.1)], [layers.Permute((1, 0))], [layers.Upsample1D(2)]],
)
def test_places_that_are_taken_for_channels_are_told(between, branch):
    words = [layers.Embedding(30, 8), *between, layers.Conv1D(4, 3)]
    chain = [layers.Input(8), *([layers.Concatenate([words])] if branch else words)]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        net = bpx.Network([*chain, layers.Flatten(), layers.Dense(2)])
        bpx.Network([layers.Input(8), *net.layers])
    told = not between or not isinstance(between[0], layers.Permute)
    assert [each.filename for each in found] == [__file__] * told
    if told:
        assert "(m, 8, 8) of Embedding 30 × 8 as 8 channels along 8 places" in str(
            found[0].message
        )
        assert "put Permute((1, 0)) before it" in str(found[0].message)


def network(backend=None, dtype="float64", seed=1, **options):
    chain = [
        layers.Input(4),
        layers.Embedding(30, 5, **options),
        layers.LayerNorm(axes=1),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


@pytest.fixture
def words(rng):
    x = rng.integers(30, size=(40, 4))
    return x, x[:, 0] % 3


def test_it_learns_what_a_number_means(words):
    net = network(dtype="float32")
    net.fit(*words, epochs=40, optimizer=bpx.Adam(0.02))
    assert net.accuracy(*words) == 1.0


def test_the_same_bits_every_time(backend, put, host, rng):
    x, delta = rng.integers(3, size=(200, 4)), rng.normal(size=(200, 3))
    net = network(backend, "float32")
    first, second = (host(net.backprop(put(x), output_gradient=put(delta)).flat) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("where", ["numpy", "array_api_strict:no_x64"])
def test_a_device_without_64_bit_integers(where, words):
    pytest.importorskip("array_api_strict", reason="it has such a device")
    net, numpys = network(where, "float32"), network("numpy", "float32")
    x, y = words[0].astype(np.int32), words[1].astype(np.int32)
    got = net.backend.to_host(net.backprop(x, y).flat)
    assert np.abs(got - numpys.backprop(*words).flat).max() < 1e-6


def test_the_work_of_each_is_in_the_summary():
    assert network().summary().rows[1][1:] == ("Embedding 30 × 5", "(m, 4, 5)", "150", "0")


# --- whole numbers, whole ------------------------------------------------------------------------


@dataclass(frozen=True)
class Large(layers.Layer):
    """Like an `Embedding` of more numbers than float32 tells apart, without its weights."""

    name: ClassVar[str] = "large"

    index_count = 2**40

    def forward(self, x, p, ctx):
        y = ctx.buffer("y", tuple(x.shape))
        y[...] = ctx.backend.xp.astype(x - 2**30, y.dtype)
        return y, None

    def backward(self, delta, saved, p, out, ctx):
        return delta


@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_numbers_are_not_rounded(backend, put, host, kind):
    x = 2**30 + np.arange(6).reshape(3, 2)
    net = bpx.Network([layers.Input(2), Large()], cost="quadratic", backend=backend)
    assert np.array_equal(host(net.feedforward(put(x.astype(kind)))), np.arange(6).reshape(3, 2))


def test_data_on_disk_and_sparse_data(words, tmp_path):
    x, y = np.tile(words[0], (60, 1)), np.tile(words[1], 60)
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", y, budget="100 kB")
    assert not data.fits(8)
    net, arrays = network(), network()
    net.fit(data, epochs=1, batch_size=20, shuffle=False)
    arrays.fit(x, y, epochs=1, batch_size=20, shuffle=False)
    assert np.array_equal(net.parameters, arrays.parameters)
    # With Numba one slice is normalized by a compiled loop, several on all cores by NumPy.
    assert np.allclose(net.feedforward(data), net.feedforward(x), rtol=1e-12, atol=0)
    assert data.indices == ()  # they are this network's own
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    assert np.array_equal(net.feedforward(sparse.csr_array(x)), net.feedforward(x))
    twice = sparse.csr_array(([20.0, 20.0], [0, 0], [0, 2]), shape=(1, x.shape[1]))
    with pytest.raises(ValueError, match=r"got 40\.0"):  # an element is the sum of its entries
        net.feedforward(twice)
    assert twice.data.tolist() == [20.0, 20.0]
    x[2001, 1] = 30
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", y, budget="100 kB")
    for use in (
        lambda: net.fit(data, epochs=1, batch_size=20),
        lambda: net.fit(data, epochs=1, batch_size=20, check_finite=False),
        lambda: net.predict(data),
    ):
        with pytest.raises(ValueError, match=r"in .*x\.npy, block \d+ .*, got 30 in row 2001"):
            use()


def of(*values, dtype=None):
    return np.array([[0, 0, 0, 0], values], dtype)


def streamed():
    network().fit([(of(0, 1, 2, 3), [0, 1]), (of(0, 1, 2, 99), [0, 1])], epochs=1)


WHOLE = "expected whole numbers 0 to 29 in x for an Embedding of 30, got "
CASES = [
    (lambda: network()(of(0, 1, 30, 2)), f"{WHOLE}30 in row 1: number them from 0"),
    (lambda: network()(of(0, -1, 3, 2)), f"{WHOLE}-1 in row 1"),
    (lambda: network()(of(0, 0.5, 3, 2)), f"{WHOLE}0.5 in row 1"),
    (lambda: network()(of(0, 255, 3, 2, dtype=np.uint8)), f"{WHOLE}255 in row 1"),
    (lambda: network()(of(0, np.nan, 3, 2)), f"{WHOLE}nan in row 1"),
    (lambda: network()(of(0, np.inf, 3, 2)), f"{WHOLE}inf in row 1"),
    (lambda: network().fit(of(0, 1, 30, 2), [0, 1], check_finite=False), f"{WHOLE}30 in row 1"),
    (lambda: network().fit(of(0, 1, 2, 2), [0, 1], validation=(of(0, 1, 2, 77), [0, 1])),
     "in validation x for an Embedding of 30, got 77"),
    (lambda: network().fit(of(0, 1, 2, 2), [0, 1], augment=bpx.augmentation.Noise(1.0)),
     "augment= is for images, and this network takes whole numbers"),
    (streamed, f"mini-batch 2 of epoch 1: {WHOLE}99 in row 1"),
    (lambda: bpx.Network([layers.Input(4), layers.Dense(4), layers.Embedding(3, 2)]),
     "layer 1, Embedding 3 × 2: it takes whole numbers, which only the network's inputs are"),
    (lambda: layers.Embedding(0, 2), "expected the count of Embedding >= 1, got 0"),
    (lambda: layers.Embedding(3, -1), "expected the width of Embedding >= 1, got -1"),
]  # fmt: skip

test_a_message_says_what_to_change = messages.test_of(
    [(call, ValueError, message) for call, message in CASES]
)


def test_numbers_of_every_library_are_looked_at(backend, put):
    net = network(backend)
    net.feedforward(put(np.ones((2, 4), bool)))
    net.feedforward(put(np.full((2, 4), 29, np.uint8)))
    for kind in ("int64", "uint8", "float32"):
        with pytest.raises(ValueError, match="got 31"):
            net.feedforward(put(np.full((2, 4), 31, kind)))
    large = bpx.Network([layers.Input(4), layers.Embedding(300, 1), layers.Flatten()],
                        cost="quadratic", backend=backend)  # fmt: skip
    large.feedforward(put(np.full((2, 4), 255, np.uint8)))


# Whole numbers of the hidden layers' would be read from beyond the weights, and written there.
LATER = [
    ([layers.Embedding(3, 1), layers.Flatten()], "3"),
    ([layers.Residual([layers.Dense(3), layers.Embedding(2, 1), layers.Flatten()],
                      projection=[layers.Dense(3)])], "2.1"),
    ([layers.Concatenate([[layers.Embedding(3, 1), layers.Flatten()]])], "2.0.0"),
    ([layers.Dense(2), layers.Embedding(3, 1), layers.Flatten()], "3"),
]  # fmt: skip


@pytest.mark.parametrize(("later", "path"), LATER, ids=[case[1] for case in LATER])
@pytest.mark.parametrize("first", [True, False])
def test_an_embedding_after_other_layers_is_refused(later, path, first):
    begin = [layers.Embedding(3, 1) if first else layers.Dense(4), layers.Flatten()]
    end = [layers.Dense(2, "softmax")]
    index = path if path != "3" or later[0] == layers.Dense(2) else "2"
    with pytest.raises(
        ValueError, match=rf"layer {index}, Embedding .*: it takes whole numbers, "
    ):
        bpx.Network([layers.Input(2), *begin, *later, *end])


def test_a_file_with_two_embeddings_is_refused(tmp_path):
    """Else predictions would read from beyond the weights."""
    path = tmp_path / "a.safetensors"
    chain = [layers.Input(2), layers.Embedding(3, 1), layers.Flatten(), layers.Dense(2, "softmax")]
    bpx.Network(chain, seed=0).save(path)
    tensors, header = persistence.read(path)
    header["layers"][2:2] = [dict(header["layers"][0]), dict(header["layers"][1])]
    tensors["layers.2.weights"] = tensors["layers.0.weights"]
    persistence.write(path, tensors, header)
    with pytest.raises(bpx.FileFormatError, match="layer 2, Embedding 3 × 1: it takes whole"):
        bpx.load(path)


class Doubling(layers.Columns):
    """A user's own, whose outputs are none of the inputs."""

    def forward(self, x, p, ctx):
        y, saved = super().forward(x, p, ctx)
        return 2.0 * y, saved


def test_what_a_users_own_layer_gives_are_no_inputs():
    branch = [Doubling([0]), layers.Embedding(3, 1), layers.Flatten()]
    with pytest.raises(ValueError, match=r"layer 0\.0\.1, Embedding 3 × 1: it takes whole"):
        bpx.Network([layers.Input(2), layers.Concatenate([branch]), layers.Dense(1)])


def test_numbers_beyond_an_embedding_are_never_written_to(rng):
    """SciPy's product does not look; a callback may have changed x since it was checked."""
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    backend, many = NumpyBackend(), rng.normal(size=(3000, 4))
    for row in -1, 6:
        with pytest.raises(IndexError, match="expected rows from 0 to 5 of an Embedding"):
            backend.sum_at(many, np.full(3000, row), np.zeros((6, 4)), 1.0, 0.0)


@pytest.mark.parametrize("rows", [3, values.FEW])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("columns", [None, (2, 0)])
def test_whole_numbers_of_few_rows_and_of_many(dtype, columns, rows, rng):
    """The few are looked at in another way."""
    x = rng.integers(2, size=(rows, 3)).astype(dtype)
    x[:, 1] = 0 if columns is None else 1
    assert values.first_not_index(x, values.Indices(2, columns)) is None
    assert values.first_not_index(x[:, :1] + np.asarray(1, dtype), values.Indices(1)) == 0
    kinds = {"f": [-1.0, 2.0, 0.5, np.nan, np.inf, -np.inf], "i": [-1, 2, 127], "u": [2, 255]}
    for wrong in kinds.get(x.dtype.kind, ()):
        for column in range(3):
            bad = x.copy()
            bad[2, column] = wrong
            found = values.first_not_index(bad, values.Indices(2, columns))
            assert found == (None if columns and column == 1 else 2), (wrong, column)
