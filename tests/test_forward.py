"""Forward passes of a few rows and of many, compiled or not: the same numbers, the same errors."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from compiled_runs import FAST, HIDDEN, PLAIN, STEPS, installed

import bpx
from bpx.backends import _threads
from bpx.layers import Activation, BatchNorm, Dense, Dropout, Input, LayerNorm, Rescale

# Few; one block and a row less or more; several of them, and several parts.
ROWS = 1, 2, 3, 64, 65, 255, 256, 257, 513, 1000, 4097, 9001


@pytest.fixture(params=[PLAIN, FAST], ids=["numpy", "numba"])
def run(request):
    """A backend that compiles."""
    return installed(request.param)


def networks(run, sizes=(7, 26, 301, 13, 4), **options):
    """The same one, step by step and on the backend that compiles."""
    return [
        bpx.Network([*sizes], seed=0, backend=backend, **{"cost": "quadratic"} | options)
        for backend in (STEPS, run)
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", ROWS)
def test_any_number_of_rows(run, rng, dtype, rows):
    x = rng.normal(size=(rows, 7)).astype(dtype)
    for activation in HIDDEN:
        one, two = networks(run, hidden=activation, output=activation, dtype=dtype)
        expected = one.activations(x)[-1]
        size = {"float64": 1e-12, "float32": 2e-6}[dtype] * (1.0 + np.abs(expected).max())
        for net in (one, two):
            for given in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
                before = given.copy()
                got = net.feedforward(given)
                assert got.shape == expected.shape
                assert got.dtype == dtype
                assert np.abs(got - expected).max() <= size
                assert np.array_equal(given, before)


@pytest.mark.parametrize("sizes", [(784, 30, 10), (300, 10), (5, 1), (600, 700, 600, 3)])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_costs_and_accuracies_of_many_rows(run, rng, sizes, output):
    """They take z^L; the last network's rows are slices of BLAS."""
    if output == "softmax" and sizes[-1] == 1:
        sizes = (5, 2)
    x = rng.normal(size=(3000, sizes[0]))
    y = rng.integers(max(2, sizes[-1]), size=3000)
    one, two = networks(run, sizes, output=output, cost=None, dtype="float64")
    expected, got = one.evaluate(x, y), two.evaluate(x, y)
    assert got == pytest.approx(expected, rel=1e-12)
    z = two.chain.outputs(x, activated=False)
    assert np.abs(z - one.chain.outputs(x, activated=False)).max() <= 1e-11
    a = two.feedforward(x)
    assert np.abs(a - one.feedforward(x)).max() <= 1e-12


def as_given(x, how, folder):
    """The same numbers, in float32 where it matters, as arrays come."""
    if how == "columns":
        return np.asfortranarray(x.astype(np.float32))
    if how == "not aligned":
        held = np.empty(x.size * 4 + 1, np.uint8)
        given = held[1:].view(np.float32).reshape(x.shape)
        given[...] = x
        assert not given.flags.aligned
        return given
    if how == "memory map":
        np.save(folder / "x.npy", x.astype(np.float32))
        return np.load(folder / "x.npy", mmap_mode="r")
    return x.astype(how)


FORMS = "uint8", "float64", ">f4", "columns", "not aligned", "memory map"


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("how", FORMS)
def test_rows_as_they_come(run, rng, tmp_path, how, scaled):
    """They are scaled and converted in parts."""
    first = [bpx.layers.Rescale(1 / 255, -0.5)] if scaled else []
    chain = [bpx.layers.Input(40), *first, bpx.layers.Dense(30, "tanh", use_bias=False)]
    one, two = (
        bpx.Network([*chain, bpx.layers.Dense(5, "softmax")], seed=0, backend=backend)
        for backend in (STEPS, run)
    )
    for rows in (20, 2500):
        x = as_given(rng.integers(256, size=(rows, 40)), how, tmp_path)
        expected = one.activations(x)[-1]
        assert np.abs(expected - two.feedforward(x)).max() <= 1e-5
        if how != "uint8":
            x = np.array(x)
            x[rows - 1, 3] = np.nan
            x = x if how in (">f4", "float64") else as_given(x, how, tmp_path)
            with pytest.raises(ValueError, match=f"first in row {rows - 1}, column 3: fill in"):
                two.feedforward(x)


def test_a_column_of_a_frame_is_named(run):
    frames = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    _, net = networks(run, (2, 3, 1))
    net.columns = "age", "height"
    for rows in (5, 500):
        x = frames.DataFrame({"height": np.ones(rows), "age": np.ones(rows)})
        assert net.feedforward(x).shape == (rows, 1)
        x.loc[4, "age"] = np.nan
        with pytest.raises(ValueError, match="first in row 4, column 'age': fill in"):
            net.feedforward(x)


def test_finite_rows_are_not_looked_at(run, rng, monkeypatch):
    """One by one; sums show that they are."""

    def looked(*arguments):
        raise AssertionError("x was looked at")

    monkeypatch.setattr("bpx.network.check_finite_rows", looked)
    _, net = networks(run, (20, 12, 3))
    for rows in ROWS:
        x = rng.normal(size=(rows, 20)).astype(np.float32)
        assert net.feedforward(x).shape == (rows, 3)


@dataclass(frozen=True)
class Square(bpx.Activation):
    def forward(self, xp, z):
        return z * z


COLUMNS = tuple(np.linspace(0.01, 0.02, 40)), tuple(np.linspace(-1.0, 1.0, 40))
CHAINS = {
    "a number": [Rescale(1 / 255, -0.5), Dense(30, "relu"), Dense(5, "softmax")],
    "columns": [Rescale(*COLUMNS), Dense(30, "tanh"), Dense(5)],
    "dropout": [Dropout(0.5), Dense(30, "relu"), Dropout(0.2), Dropout(0.1), Dense(5, "sigmoid")],
    "all of it": [
        Rescale(*COLUMNS),
        Dropout(0.5),
        Dense(9, "elu"),
        Dropout(0.1),
        Dense(5, "silu"),
    ],
    "norms": [
        Rescale(0.01),
        Dropout(0.1),
        Dense(30),
        BatchNorm(epsilon=0.1),
        Activation("relu"),
        Dropout(0.2),
        Dense(8, "silu", use_bias=False),
        LayerNorm(scale="normal", shift="normal"),
        Dense(5, "softmax"),
    ],
    "the last has no kernel": [
        Rescale(1 / 255),
        Dense(9, "sigmoid", use_bias=False),
        Dense(5, "exp"),
    ],
}
NO_KERNEL = "gelu", "silu", "softplus", "elu", "leaky-relu", "exp", Square()
CHAINS |= {
    str(each): [Rescale(0.01), Dense(30, each, "scaled-normal"), Dense(8, each), Dense(5)]
    for each in NO_KERNEL
}


def chains(run, layers, **options):
    """A network of these layers, step by step and on the backend that compiles."""
    options = {"cost": "quadratic", "seed": 0} | options
    layers = [bpx.layers.Input(40), *layers]
    nets = [bpx.Network(layers, backend=backend, **options) for backend in (STEPS, run)]
    for net in nets:
        net.state[...] = np.linspace(0.5, 2.0, net.state.size)
    return nets


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("rows", [1, 2, 10, 64, 1000])
def test_rescale_dropout_norms_and_any_activation(run, rng, name, rows):
    for dtype, given in product(["float32", "float64"], ["float32", "float64", "uint8"]):
        one, two = chains(run, CHAINS[name], dtype=dtype)
        assert two.chain._forward_few is not None
        x = (rng.integers(256, size=(rows, 40)) // 8).astype(given)
        y = rng.random((rows, 5))
        for net in (one, two):  # parameters may change between any two calls
            net.biases[-1][...] += 0.25
            net.weights[0][0] *= 0.5
        for _ in range(2):
            expected = one.activations(x)[-1]
            tolerance = {"float64": 1e-12, "float32": 3e-6}[dtype] * (1.0 + np.abs(expected).max())
            got = two(x)
            assert got.dtype == dtype
            assert np.abs(got - expected).max() <= tolerance
            relative = {"float64": 1e-10, "float32": 1e-4}[dtype]
            assert two.evaluate(x, y) == pytest.approx(one.evaluate(x, y), rel=relative)
            for net in (one, two):
                net.parameters[...] *= 0.9
                net.state[...] *= 1.1


@pytest.mark.parametrize(
    "first", [Rescale(1 / 255, -0.5), Rescale(*COLUMNS), Rescale(2.0)], ids=str
)
@pytest.mark.parametrize("given", ["uint8", "float32", "float64", "int64", ">f8"])
def test_scaled_rows_are_those_of_a_mini_batch(run, rng, first, given):
    """In double precision, where x is finer or columns are shifted."""
    _, net = chains(run, [first, Dense(30, "relu"), Dense(5)])
    bare = bpx.Network(
        [bpx.layers.Input(40), Dense(30, "relu"), Dense(5)], cost="quadratic", backend=run
    )
    bare.parameters[...] = net.parameters
    x = (rng.integers(128, size=(3, 40)) * 1.000001).astype(given)
    gathered = net.chain.gather(x, slice(None), net.chain.workspace())
    for rows in (1, 3):
        assert np.array_equal(net(x[:rows]), bare(gathered[:rows]))


def test_training_draws_the_masks_of_dropout(run, rng):
    """And validation, which takes the compiled pass, does not."""
    x, y = rng.normal(size=(300, 40)), rng.integers(5, size=300)
    found = []
    for net in chains(run, CHAINS["dropout"], cost=None, dtype="float64"):
        assert net.chain.architecture.dense is None
        history = net.fit(x, y, epochs=2, validation=(x, y))
        found.append([net.parameters, history["validation_cost"]])
    for one, two in zip(*found, strict=True):
        assert np.allclose(one, two, rtol=1e-12, atol=1e-12)


def test_a_last_dropout_hands_outputs_through(run, rng):
    """They are z^L of the network, to which the layer's activation belongs."""
    one, two = chains(run, [Dense(5, "relu"), Dropout(0.5)])
    x, y = rng.normal(size=(300, 40)), rng.normal(size=(300, 5))
    assert np.abs(one.activations(x)[-1] - two(x)).max() <= 1e-6
    assert two.evaluate(x, y) == pytest.approx(one.evaluate(x, y), rel=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        [BatchNorm(), Dense(5)],
        [Dense(5), LayerNorm()],
        [Dropout(0.5), Activation("tanh"), Dense(5)],
        [Dense(6), Activation("tanh"), Dense(5), Activation("softmax")],
    ],
    ids=str,
)
def test_what_is_not_between_two_dense_layers_goes_by_layers(run, rng, layers):
    one, two = chains(run, layers)
    assert two.chain.architecture.inference is None
    x = rng.normal(size=(3, 40))
    assert np.abs(one.activations(x)[-1] - two(x)).max() <= 1e-6


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("rows", [1, 64, 300])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_seen_in_any_chain(run, name, rows, wrong):
    _, net = chains(run, CHAINS[name])
    for given in ("float32", "float64"):
        x = np.ones((rows, 40), given)
        x[rows - 1, 3] = wrong
        with pytest.raises(
            ValueError, match=f"NaN or infinity, first in row {rows - 1}, column 3"
        ):
            net(x)


@pytest.mark.parametrize("rows", [3, 300])
def test_infinite_activations_are_of_finite_numbers(run, rows):
    _, net = chains(run, [Dense(6, "exp", bias="zeros"), Dense(5, "sigmoid", bias="zeros")])
    net.weights = [np.ones((6, 40)), np.ones((5, 6))]
    with np.errstate(over="ignore"):
        assert np.array_equal(net(np.full((rows, 40), 10.0)), np.ones((rows, 5)))


def test_numbers_beyond_float32_are_scaled_or_told(run):
    x = np.full((2, 40), 1e300)
    _, net = chains(run, [Rescale(1e-300), Dense(30, "gelu"), Dense(5)])
    expected = chains(run, [Dense(30, "gelu"), Dense(5)])[1](np.ones((2, 40)))
    assert np.allclose(net(x), expected, atol=1e-5)
    _, net = chains(run, [Dense(30, "gelu"), Dense(5)])
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="float32 does not hold"):
        net(x)


@pytest.mark.parametrize("name", ["columns", "all of it", "norms"])
def test_a_few_rows_in_many_threads(run, rng, name):
    _, net = chains(run, CHAINS[name])
    x = rng.normal(size=(64, 3, 40))
    expected = [net(each) for each in x]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(net, [*x] * 20))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 20, strict=True))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_few_rows_so_large_that_blas_multiplies_them(run, rng, wrong):
    one, two = networks(run, (2000, 400, 2))
    x = rng.normal(size=(60, 2000)).astype(np.float32)
    assert np.abs(one.activations(x)[-1] - two.feedforward(x)).max() <= 1e-5
    two.weights[0] = np.zeros((400, 2000))
    x[59, 1999] = wrong
    with pytest.raises(ValueError, match="first in row 59, column 1999"):
        two.feedforward(x)


@pytest.mark.parametrize("sizes", [(3, 2000, 2), (3, 2, 2000), (700, 800, 3)], ids=str)
def test_wide_and_large_layers_have_slices_of_their_own(run, rng, sizes):
    one, two = networks(run, sizes)
    for rows in (100, 2500):
        assert two.backend.parts_of_forward(two.chain.architecture.dense, rows) == 0
        x = rng.normal(size=(rows, sizes[0])).astype(np.float32)
        assert np.abs(one.activations(x)[-1] - two.feedforward(x)).max() <= 1e-5


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("rows", [1, 3, 64, 65, 1000, 9001])
def test_what_is_not_finite_is_seen(run, wrong, hidden, rows):
    """Also where the first layer's activation makes it finite, or its weights are 0."""
    _, net = networks(run, (20, 12, 3), hidden=hidden)
    for at in {0, rows // 2, rows - 1}:
        for column in (0, 19):
            x = np.ones((rows, 20), np.float32)
            x[at, column] = wrong
            found = rf"x has NaN or infinity, first in row {at}, column {column}: fill in"
            with pytest.raises(ValueError, match=found):
                net.feedforward(x)
    net.weights[0] = np.zeros((12, 20))
    with pytest.raises(ValueError, match=f"first in row {at}"):
        net.feedforward(x)


@pytest.mark.parametrize("rows", [1, 64, 65, 1000])
def test_sums_that_overflow_are_of_finite_numbers(run, rows):
    _, net = networks(run, (3, 12, 2), hidden="tanh", bias="zeros")
    net.weights = [np.ones((12, 3)), np.full((2, 12), 100.0)]
    x = np.full((rows, 3), np.finfo(np.float32).max, np.float32)
    x[::2] *= -1.0
    with np.errstate(over="ignore"):  # as always where NumPy multiplies
        assert np.abs(net.feedforward(x) - (x[:, :2] > 0.0)).max() <= 1e-6


def test_huge_numbers_of_another_dtype(run):
    """Infinite as float32, of which tanh is 1."""
    _, net = networks(run, (1, 4, 2), hidden="tanh")
    for rows in (3, 300):
        x = np.full((rows, 1), 1e300)
        told = "x has numbers that float32 does not hold, first in row 0"
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=told):
            net.feedforward(x)
        x[:] = np.finfo(np.float32).max
        assert np.isfinite(net.feedforward(x)).all()


def test_the_bits_of_many_rows_are_those_of_one_core(run, rng, monkeypatch):
    _, net = networks(run, (60, 40, 10), hidden="relu", output="softmax")
    x = rng.normal(size=(20_000, 60)).astype(np.float32)
    y = rng.integers(10, size=20_000)
    expected = net.feedforward(x), net.evaluate(x, y)
    for cores in (1, 2, 3):
        monkeypatch.setattr(_threads, "count", lambda cores=cores: cores)
        assert np.array_equal(net.feedforward(x), expected[0])
        assert net.evaluate(x, y) == expected[1]


def test_a_rank_without_rows(run, rng):
    _, net = networks(run, (4, 3, 2))
    x, y = rng.normal(size=(5, 4)), rng.integers(2, size=5)
    assert net.chain.outputs(x[:0]).shape == (0, 2)
    samples = net.samples(x, y)
    assert np.array_equal(net.chain._sums(samples, net.chain.workspace(), 3, 3), np.zeros(3))


def test_activations_as_in_training(backend, put, host, rng):
    """They are those that `backprop` has at this step, and the running statistics stay."""
    chain = [bpx.layers.Input(4), bpx.layers.Dense(6, "relu"), bpx.layers.BatchNorm()]
    chain += [bpx.layers.Dropout(0.5), bpx.layers.Dense(2, "softmax")]
    net = bpx.Network(chain, backend=backend, dtype="float64", seed=0)
    x, y = put(rng.normal(size=(9, 4))), [0, 1, 0, 1, 0, 1, 0, 1, 1]
    net.fit(x, y, epochs=2, batch_size=3)
    before, steps, seen = host(net.state).copy(), net.steps, []
    found = [host(net.activations(x, training=True)[-1]) for _ in range(3)]
    again = host(net.activations(x, training=True, step=steps + 1)[-1])
    assert net.steps == steps + 3
    assert np.array_equal(host(net.state), before)
    assert np.array_equal(again, found[1])
    assert not np.allclose(found[0], found[1], atol=1e-3)
    during, outputs = [], net.chain.layer_outputs

    def watched(*arguments):
        for output in outputs(*arguments):
            during.append(host(net.state).copy())  # as another thread sees it
            yield output

    net.chain.layer_outputs = watched
    net.activations(x, training=True)
    assert len(during) == len(net.layers)
    assert all(np.array_equal(state, before) for state in during)
    del net.chain.layer_outputs
    assert np.allclose(host(net.activations(x)[-1]), host(net(x)), atol=1e-12)

    def keep(a):
        seen.append(host(a).copy())
        return put(np.zeros((9, 2)))

    net.backprop(x, output_gradient=keep, step=steps)
    assert np.allclose(seen[0], found[0], atol=1e-12)
    assert not np.array_equal(host(net.state), before)


def test_saturated_outputs_and_huge_inputs_stay_as_they_are(run):
    x = np.array([[1e30, -1e30], [1e-30, 0.0], [50.0, -50.0]], dtype=np.float32)
    one, two = networks(run, (2, 3, 2), hidden="tanh")
    assert np.abs(one.feedforward(x) - two.feedforward(x)).max() <= 1e-6
    assert np.abs(two.feedforward(x)).max() <= 1.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", [8, 4000])
def test_probabilities_of_rare_events(run, dtype, rows):
    _, net = networks(run, (1, 1), cost=None, bias="zeros", dtype=dtype)
    net.weights[0][...] = 1.0
    z = np.linspace(-85.0, 30.0, rows).astype(dtype)[:, None]
    expected = 1.0 / (1.0 + np.exp(-z.astype(float)))
    tolerance = {"float64": 1e-15, "float32": 1e-6}[dtype]
    assert np.abs(net(z) / expected - 1.0).max() <= tolerance


@pytest.mark.parametrize("layer", [None, LayerNorm()], ids=["few at once", "by layers"])
@pytest.mark.parametrize(
    ("task", "output", "units"),
    [
        ("classification", "softmax", 5),
        ("classification", "sigmoid", 1),
        ("multilabel", "sigmoid", 3),
        ("regression", "identity", 2),
    ],
)
def test_predictions_are_decided_by_the_outputs(
    backend, host, rng, tmp_path, task, output, units, layer
):
    between = [] if layer is None else [layer]
    net = bpx.Network(
        [Input(4), Dense(6, "tanh"), *between, Dense(units, output)],
        backend=backend, task=task, seed=0,
    )  # fmt: skip
    x = rng.normal(size=(2500, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    for rows in (1, 64, 65, 2500):
        wanted = net.chain.decide(net.feedforward(x[:rows]))
        found = net.predict(x[:rows])
        assert found.dtype == wanted.dtype
        assert np.array_equal(host(found), host(wanted))
    blocks = bpx.open_data(tmp_path / "x.npy", budget="20 kB")
    assert np.allclose(host(net.predict(blocks)), host(wanted), atol=1e-6)  # of other products


def test_labels_of_many_classes_are_found_without_all_outputs(run):
    net = bpx.Network([2, 1000], output="softmax", seed=0, backend=run)
    x = np.zeros((20_000, 2), np.float32)
    net.predict(x)
    tracemalloc.start()
    try:
        net.predict(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000 * 1000 * 4 / 2
