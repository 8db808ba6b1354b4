"""Branches side by side: against PyTorch, a place for each, and tables with categories in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers
from bpx.layers import (
    Activation,
    BatchNorm,
    Columns,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    MaxPool2D,
    Rescale,
    Reshape,
    Residual,
)

thorough = settings(max_examples=40, deadline=None, derandomize=True)


def close(ours, theirs):
    return np.abs(ours - theirs).max(initial=0.0) <= 1e-10 * max(1.0, np.abs(theirs).max())


# --- PyTorch, forward and all gradients ---------------------------------------------------------


@thorough
@given(st.data())
def test_concatenate_is_pytorchs(drawn):
    """Of branches with any number of convolutions, also with none."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    lengths = st.integers(1, 5)
    shape = tuple(drawn.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), lengths, lengths)))
    channels = drawn.draw(
        st.lists(st.lists(st.integers(1, 3), max_size=2), min_size=1, max_size=4)
    )
    branches = [[Conv2D(n, 3, "tanh", padding=1) for n in branch] for branch in channels]
    net = bpx.Network([Input(shape[1:]), Concatenate(branches), Flatten()], cost="quadratic",
                      dtype="float64", seed=1)  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    delta = rng.normal(size=(shape[0], *net.layers[0].output_shape))
    ours = net.backprop(x, output_gradient=delta.reshape(shape[0], -1))
    leaf = torch.tensor(x, requires_grad=True)
    by_name = {
        name: torch.tensor(value.copy(), requires_grad=True) for name, value in net.tensors.items()
    }
    outputs = []
    for i, branch in enumerate(branches):
        y = leaf
        for k, _ in enumerate(branch):
            tensors = (by_name[f"layers.0.{i}.{k}.{what}"] for what in ("weights", "bias"))
            y = torch.tanh(torch.nn.functional.conv2d(y, *tensors, padding=1))
        outputs.append(y)
    theirs = torch.cat(outputs, 1)
    assert close(net.activations(x)[0], theirs.detach().numpy())
    theirs.backward(torch.tensor(delta))
    assert close(ours.inputs, leaf.grad.numpy())
    for entry in net.layout.entries:
        assert close(entry.view(np, ours.flat), by_name[entry.path].grad.numpy())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_each_axis(backend, put, host, rng, axis):
    x, delta = rng.normal(size=(5, 2, 3, 4)), rng.normal(size=(5, 96))
    chain = [Concatenate([[], [], [Rescale(3.0)], []], axis), Flatten()]
    net = bpx.Network([Input((2, 3, 4)), *chain], cost="quadratic", backend=backend,
                      dtype="float64")  # fmt: skip
    joined = np.concatenate([x, x, 3.0 * x, x], axis + 1)
    assert np.array_equal(host(net(put(x))), joined.reshape(5, -1))
    one, two, three, four = np.split(delta.reshape(joined.shape), 4, axis + 1)
    found = host(net.backprop(put(x), output_gradient=put(delta)).inputs)
    assert np.array_equal(found, one + two + 3.0 * three + four)  # in this order


@thorough
@given(st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True))
def test_columns_are_numpys(columns):
    x = np.random.default_rng(0).normal(size=(3, 7, 2))
    for shape in ((7,), (7, 2)):
        given = x[..., 0] if shape == (7,) else x
        net = bpx.Network([Input(shape), Columns(columns), Flatten()], cost="quadratic",
                          dtype="float64")  # fmt: skip
        y = given[:, columns]
        assert np.array_equal(net(given), y.reshape(3, -1))
        found = net.backprop(given, output_gradient=y.reshape(3, -1)).inputs
        expected = np.zeros_like(given)
        expected[:, columns] = y
        assert np.array_equal(found, expected)
        elements = np.arange(given[0].size).reshape(shape)[columns].reshape(-1)
        assert np.array_equal(net.layers[0].sources(np.arange(elements.size)), elements)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [([3], "Columns 3"), (range(2, 5), "Columns 2 to 4"), ((4, 0, 1), "Columns 4, 0 to 1"),
     (np.arange(0, 12, 2), "Columns 0, 2, 4, 6, ...")],
)  # fmt: skip
def test_columns_as_they_are_shown(columns, shown):
    assert str(Columns(columns)) == shown


# --- a place for each ----------------------------------------------------------------------------


def images(backend=None, seed=3, dtype="float64", **options):
    """An Inception block, and one of DenseNet's, in which there are others."""
    chain = [
        Input((2, 4, 4)),
        Concatenate(
            [
                [Conv2D(2, 1, "tanh")],
                [Conv2D(2, 1), BatchNorm(), Activation("tanh"), Conv2D(3, 3, padding="same")],
                [MaxPool2D(3, 1, 1), Dropout(0.2), Conv2D(1, 1)],
            ],
            **options,
        ),
        Concatenate([[], [Residual([BatchNorm(), Dropout(0.2)]), Conv2D(2, 3, padding=1)]]),
        Flatten(),
        Concatenate([[Dense(3, "tanh"), Concatenate([[], [Dense(2)]])], [Dense(4)]]),
        Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


@pytest.fixture
def pictures(rng):
    return rng.normal(size=(20, 2, 4, 4)), np.arange(20) % 3


def table(rng, n=40):
    """Two categories, of 7 and of 30, in columns 3 and 0, and three measurements."""
    first, second = rng.integers(30, size=n), rng.integers(7, size=n)
    x = np.column_stack([first, rng.normal(size=(n, 2)), second, rng.normal(size=n)])
    return x, (first + second) % 3


def network(backend=None, seed=1, dtype="float64"):
    chain = [
        Input(5),
        Concatenate(
            [
                [Columns([3]), Embedding(7, 2), Flatten()],
                [Columns([0]), Embedding(30, 4), Flatten()],
                [Columns([1, 2, 4]), Rescale(0.5)],
            ]
        ),
        Dense(6, "tanh"),
        Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


def test_names_and_views():
    net = images()
    paths = list(net.tensors)
    assert paths[:3] == ["layers.0.0.0.weights", "layers.0.0.0.bias", "layers.0.1.0.weights"]
    assert {"layers.0.1.1.mean", "layers.1.1.0.0.scale", "layers.3.0.1.1.0.bias"} <= {*paths}
    assert all(np.shares_memory(view, net.parameters) for view in (*net.weights, *net.biases))


@pytest.mark.parametrize("of", ["images", "table"])
def test_a_step_takes_no_new_buffers(pictures, rng, of, monkeypatch):
    (x, y), net = (pictures, images()) if of == "images" else (table(rng), network())
    ws = net.chain.workspace(training=True, inputs=True)

    def step():
        gathered = net.chain.gather(x, slice(None), ws)
        _, a, delta, saved = net.chain.cost_and_delta(gathered, y, ws)
        return a.copy(), net.chain.backward(delta, saved, net.chain.destinations(), ws).copy()

    monkeypatch.setattr(
        type(net.chain), "destinations",
        lambda chain: bpx.parameters.Destinations(
            chain.backend, chain.architecture.layout, np.zeros_like(chain.parameters)
        ),
        raising=False,
    )  # fmt: skip
    first = step()
    monkeypatch.setattr("bpx.context.added", None)
    assert all(map(np.array_equal, first, step()))


@pytest.mark.parametrize(
    "branches", [7, "dense", [7], [[7]], [[["dense"]]], [{"name": "flatten"}], [[{"name": "no"}]]]
)
def test_a_file_with_branches_that_are_none(tmp_path, branches):
    net, path = bpx.Network([3, 3], seed=0), tmp_path / "net"
    net.save(path)
    tensors, header = bpx.persistence.read(path)
    config = {"name": "concatenate", "branches": branches}
    bpx.persistence.write(path, tensors, header | {"layers": [config]})
    with pytest.raises(bpx.FileFormatError):
        bpx.load(path)


def test_a_file_cannot_ask_for_memory_by_whole_numbers(tmp_path):
    net, path = bpx.Network([3, 3], seed=0), tmp_path / "net"
    net.save(path)
    tensors, header = bpx.persistence.read(path)
    branch = [{"name": "embedding", "count": 3, "width": 1}, {"name": "flatten"}]
    chain = [{"name": "concatenate", "branches": [branch]}]
    claims = {"layers": chain, "input_shape": [10**15]}
    bpx.persistence.write(path, tensors, header | claims)
    with pytest.raises(bpx.FileFormatError, match="it takes at most 1,048,576 whole numbers"):
        bpx.load(path)


def test_the_summary_has_a_row_for_each():
    rows = {row[0]: row[1:] for row in images().summary().rows}
    assert rows["0"] == ("Concatenate, 3 branches", "(m, 6, 4, 4)", "", "")
    assert rows["0.1.3"] == ("Conv2D 3, 3×3, identity", "(m, 3, 4, 4)", "57", "864")
    assert rows["3.0.1.1.0"] == ("Dense 2, identity", "(m, 2)", "8", "6")


# --- whole numbers among others ------------------------------------------------------------------


def test_a_table_is_pytorchs(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    (x, _), net, delta = table(rng), network(), rng.normal(size=(40, 3))
    by_name = {
        name: torch.tensor(value.copy(), requires_grad=True) for name, value in net.tensors.items()
    }
    f, leaf = torch.nn.functional, torch.tensor(x, requires_grad=True)
    vectors = [
        f.embedding(leaf[:, column].detach().long(), by_name[f"layers.0.{branch}.1.weights"])
        for branch, column in enumerate((3, 0))
    ]
    y = torch.cat([*vectors, 0.5 * leaf[:, [1, 2, 4]]], 1)
    y = torch.tanh(f.linear(y, by_name["layers.1.weights"], by_name["layers.1.bias"]))
    y = torch.softmax(f.linear(y, by_name["layers.2.weights"], by_name["layers.2.bias"]), 1)
    assert close(net(x), y.detach().numpy())
    y.backward(torch.tensor(delta))
    ours = net.backprop(x, output_gradient=delta)
    assert close(ours.inputs, leaf.grad.numpy())
    for entry in net.layout.entries:
        assert close(entry.view(np, ours.flat), by_name[entry.path].grad.numpy())


def test_which_columns_are_whole_numbers():
    described = network().chain.architecture
    assert [(each.count, each.columns) for each in described.indices] == [(7, (3,)), (30, (0,))]
    assert not described.integers
    inner = Concatenate([[Columns([1]), Embedding(5, 1), Flatten()], [Columns([0]), Flatten()]])
    channels = [Input((3, 2)), Concatenate([[Columns([2, 0]), inner, Reshape((4,))], [Flatten()]])]
    (found,) = bpx.Network(channels, cost="quadratic").chain.architecture.indices
    assert (found.count, found.columns) == (5, (0, 1))  # those of the sample's first axis 0
    within = [Input(2), Residual([Columns([0]), Embedding(5, 2), Flatten()])]
    (found,) = bpx.Network(within, cost="quadratic").chain.architecture.indices
    assert (found.count, found.columns) == (5, (0,))
    begins = [Input(4), Reshape((2, 2)), Embedding(5, 1), Flatten()]
    described = bpx.Network(begins, cost="quadratic").chain.architecture
    assert described.integers
    assert [(each.count, each.columns) for each in described.indices] == [(5, None)]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int64", "uint8"])
def test_numbers_as_they_came(backend, put, host, rng, kind):
    x = table(rng)[0].astype(kind) if kind[0] == "f" else rng.integers(7, size=(40, 5))
    if kind == "float16" and backend.name.startswith("array_api_strict"):
        pytest.skip("array-api-strict has no float16")
    net, numpys = network(backend, dtype="float32"), network("numpy", dtype="float32")
    found = host(net(put(x.astype(kind))))
    assert np.abs(found - numpys(x.astype("float64"))).max() < 1e-6


def test_numbers_that_the_dtype_does_not_tell_apart():
    """float32 has 2²⁴, and not 2²⁴ + 1."""

    @dataclass(frozen=True)
    class Last(layers.Layer):
        """Like an `Embedding`, without its weights."""

        name: ClassVar[str] = "last"
        count: int = 0

        @property
        def index_count(self):
            return self.count

        def forward(self, x, p, ctx):
            y = ctx.buffer("y", tuple(x.shape))
            y[...] = ctx.backend.xp.astype(x, np.int64) - 2**24
            return y, None

    def made(count, **options):
        chain = [Input(2), Columns([1]), Last(count)]
        return bpx.Network(chain, cost="quadratic", **options)

    assert made(2**24 + 1)([[0.5, 2**24]]).tolist() == [[0.0]]
    message = (
        "an Embedding of 16,777,218 beside other numbers takes float32, which holds all whole "
        'numbers up to 16,777,216 alone: make the network with dtype="float64"'
    )
    wide = made(2**24 + 2, dtype="float64")
    assert wide([[0.5, 2**24 + 1]]).tolist() == [[1.0]]
    for wrong in (lambda: made(2**24 + 2), lambda: wide.to(dtype="float32")):
        with pytest.raises(ValueError, match=re.escape(message)):
            wrong()


def test_what_is_not_differentiable_is_not_moved(rng):
    (x, y), net = table(rng, 3), network()
    check = bpx.gradient_check(net, x, y)
    assert check.worst < 1e-7
    assert "inputs" in check.errors
    assert not net.jacobian(x)[..., [0, 3]].any()
    assert net.jacobian(x)[..., [1, 2, 4]].all()


def test_a_column_that_float32_would_round(rng):
    x, y = table(rng)
    x[:, 4] = 1.7e9 + 10.0 * x[:, 4]
    told = (
        "column 4 of x goes .* steps: subtract its mean, or make the network with dtype='float64'"
    )
    with pytest.warns(RuntimeWarning, match=told):
        network(dtype="float32").fit(x, y, epochs=1)


def test_data_on_disk_and_sparse_data(rng, tmp_path):
    x, y = table(rng, 2400)
    np.save(tmp_path / "x.npy", x)
    net, arrays = network(), network()

    def opened():
        data = bpx.open_data(tmp_path / "x.npy", y, budget="160 kB")
        assert not data.fits(8)
        return data

    options = {"epochs": 1, "batch_size": 20, "shuffle": False}
    net.fit(opened(), **options)
    arrays.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y, **options)
    assert np.array_equal(net.parameters, arrays.parameters)
    assert np.array_equal(net.feedforward(opened()), net.feedforward(x))
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    assert np.array_equal(net.feedforward(sparse.csr_array(x)), net.feedforward(x))
    x[2001, 3] = 7
    np.save(tmp_path / "x.npy", x)
    where = r"0 to 6 in .* for an Embedding of 7, got 7\.0 in row 2001, column 3: number them"
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for use in (
        lambda: net.fit(opened(), **options),
        lambda: net.fit(opened(), **options, check_finite=False),
        lambda: net.predict(opened()),
        lambda: net.predict(mapped),
        lambda: net.predict(sparse.csr_array(x)),
        lambda: net.fit(mapped, y, **options),
    ):
        with pytest.raises(ValueError, match=where):
            use()
    x[2001] = [0, 0, np.nan, 0, 0]
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"has NaN or infinity, first in row 2001, column 2"):
        net.predict(opened())


def test_columns_by_their_names(rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="it names the columns")
    (x, y), net = table(rng), network()
    names = ["city", "height", "weight", "kind", "age"]
    frame = pandas.DataFrame(x, columns=names).astype({"city": int, "kind": int})
    net.fit(frame, y, epochs=1)
    assert np.array_equal(net(frame[names[::-1]]), net(x))
    frame.loc[5, "city"] = 30
    where = "for an Embedding of 30, got 30.0 in row 5, column 'city': number them from 0"
    for use in (
        lambda: net.predict(frame[names[::-1]]),
        lambda: net.fit(frame, y, epochs=1),
        lambda: net.evaluate(frame, y),
        lambda: net.fit(frame[:5], y[:5], epochs=1, validation=(frame, y)),
    ):
        with pytest.raises(ValueError, match=re.escape(where)):
            use()
    pytest.importorskip("pyarrow", reason="it reads .csv files")
    frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ValueError, match=r"got 30\.0 in row 5, column 'city'"):
        net.predict(bpx.open_data(tmp_path / "x.csv", columns=names))


def test_an_ensemble(backend, put, host, rng):
    x, y = table(rng)
    plain = bpx.Network([5, 3], output="softmax", dtype="float64", backend=backend)
    ensemble = bpx.Ensemble([plain, network(backend), network(backend, seed=2)])
    mean = sum(host(member(put(x))) for member in ensemble.members) / 3
    assert np.abs(host(ensemble(put(x))) - mean).max() < 1e-12
    x[4, 3] = 7
    for call in (ensemble, ensemble.predict, lambda x: ensemble.evaluate(x, put(y))):
        with pytest.raises(ValueError, match=r"0 to 6 .* got 7\.0 in row 4, column 3"):
            call(put(x))


def ensemble_of_others():
    branch = [Columns([3]), Embedding(8, 2), Flatten()]
    other = bpx.Network([Input(5), *branch, Dense(3, "softmax")], dtype="float64")
    return bpx.Ensemble([network(), other])


# --- what a user gets wrong ----------------------------------------------------------------------


def made(*branches, shape=(2, 8, 8), axis=0):
    return bpx.Network([Input(shape), Concatenate(branches, axis), Flatten()], cost="quadratic")


def of(row):
    return np.array([[0.0] * 5, row])


CASES = [
    (lambda: Concatenate()(["a", "b"]), ValueError,
     "expected Concatenate to have at least one branch, got none: they go to it as lists of "
     "layers, such as [[], [Dense(8)]]"),
    (lambda: Concatenate([]), ValueError, "to have at least one branch, got none"),
    (lambda: Dense(3)(np.zeros(3)), TypeError,
     "Dense is not called: layers go to bpx.Network([...]) one after another, and branches to "
     "bpx.layers.Concatenate([[...], [...]])"),
    (lambda: Concatenate(Dense(3)), TypeError, "branches of Concatenate to be lists of layers"),
    (lambda: Concatenate("auto"), TypeError, "[[], [Dense(8)]], of which each is applied to the "
     "inputs, got 'auto'"),
    (lambda: Concatenate([[], Dense(3)]), TypeError,
     "expected branch 1 of Concatenate to be a list of layers, got Dense("),
    (lambda: Concatenate([np.zeros((2, 3))]), TypeError, "branch 0 of Concatenate to be a list"),
    (lambda: Concatenate([[Input(3)]]), TypeError, "got Input(shape=(3,)) in it"),
    (lambda: Concatenate([[]], axis=-1), ValueError, "the axis of Concatenate >= 0, got -1"),
    (lambda: Concatenate([[]], dim=1), TypeError,
     "Concatenate takes no dim=: here it is axis=, of a sample, whose first is 0"),
    (lambda: made([Conv2D(3, 3)], []), ValueError,
     "its branches give (m, 3, 6, 6) and (m, 2, 8, 8), which cannot be joined along axis 0 of a "
     'sample, as their other axes have to agree: padding="same" keeps the lengths of an image'),
    (lambda: made([Flatten()], []), ValueError, "end branches with Flatten() that are not flat"),
    (lambda: made([], axis=3), ValueError, "a sample has 3 axes, of which 0 is the first"),
    (lambda: made([], [Activation("relu"), Dense(3)]), ValueError,
     "layer 0, Concatenate, 2 branches: its branch 1's layer 1, Dense 3, identity: Dense expects"),
    (lambda: Columns(3), TypeError, "such as [0, 3] or range(2, 5), got 3: [3]"),
    (lambda: Columns("ab"), TypeError, "to be a list of whole numbers, such as [0, 3]"),
    (lambda: Columns(["age"]), TypeError,
     "to be their places, from 0, got ['age']: list(table.columns).index(name) is that of a name"),
    (lambda: Columns([0.5]), TypeError, "expected a column of Columns to be an integer, got 0.5"),
    (lambda: Columns([-1]), ValueError, "expected a column of Columns >= 0, got -1"),
    (lambda: Columns([]), ValueError, "expected Columns to have at least one column, got none"),
    (lambda: Columns([1, 0, 1]), ValueError, "to be different ones, got [1, 0, 1]"),
    (lambda: made([Columns([2])]), ValueError,
     "expected columns from 0 to 1, as inputs have shape (m, 2, 8, 8), got 2"),
    (lambda: made([Dense(3), Embedding(3, 1), Flatten()], shape=2), ValueError,
     "layer 0.0.1, Embedding 3 × 1: it takes whole numbers, which only the network's inputs are: "
     "put it first, or after nothing but Flatten, Reshape or Columns, also in a branch of"),
    (lambda: network()(of([30, 0, 0, 0, 0])), ValueError, "got 30.0 in row 1, column 0"),
    (lambda: network()(of([0, 0, 0, -1, 0])), ValueError, "got -1.0 in row 1, column 3"),
    (lambda: network()(of([0, 0, 0, 0.5, 0])), ValueError, "got 0.5 in row 1, column 3"),
    (lambda: network()(of([np.nan, 0, 0, 0, 0])), ValueError, "got nan in row 1, column 0"),
    (lambda: network()(of([0, np.nan, 0, 0, 0])), ValueError, "NaN or infinity, first in row 1"),
    (lambda: network().fit(of([0] * 5), [0, 1], validation=(of([0, 0, 0, 9, 0]), [0, 1])),
     ValueError, "0 to 6 in validation x for an Embedding of 7, got 9.0 in row 1, column 3"),
    (lambda: network().fit([(of([0] * 5), [0, 1]), (of([99, 0, 0, 0, 0]), [0, 1])], epochs=1),
     ValueError, "mini-batch 2 of epoch 1: expected whole numbers 0 to 29 in x"),
    (lambda: network().fit(of([0] * 5), [0, 1], augment=bpx.augmentation.Noise(1.0)), ValueError,
     "augment= is for images, and this network takes whole numbers"),
    (ensemble_of_others, ValueError,
     "expected networks whose Embeddings take the same columns, and as many numbers in each"),
]  # fmt: skip

test_a_message_says_what_to_change = messages.test_of(CASES)
