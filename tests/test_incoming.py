"""Mini-batches that are evaluated, for themselves or after each epoch: the arrays' means."""

from __future__ import annotations

import re

import numpy as np
import pytest

import bpx

M = 23


@pytest.fixture
def data(rng):
    return rng.normal(size=(M, 6)), rng.integers(3, size=M), rng.uniform(0.5, 2.0, size=M)


class Loader:
    """Mini-batches as PyTorch's loader gives them, which has no length here."""

    def __init__(self, arrays, put=np.array):
        self.arrays, self.put = arrays, put

    def __iter__(self):
        return ([self.put(a[i : i + 5]) for a in self.arrays] for i in range(0, M, 5))


def in_memory(arrays, put=np.array):
    x, y, w = [*map(put, arrays), None][:3]
    return bpx.batches(x, y, 4, sample_weight=w, seed=0)


FORMS = {
    "list": lambda arrays, put=np.array: [tuple(part) for part in Loader(arrays, put)],
    "two lists": lambda arrays, put=np.array: [
        [put(a[:9]) for a in arrays],
        [put(a[9:]) for a in arrays],
    ],
    "loader": Loader,
    "bpx.batches": in_memory,
}


def network(backend="numpy", **options):
    return bpx.Network([6, 5, 3], backend=backend, dtype="float64", seed=3, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_means_are_those_of_the_arrays(backend, put, data, form, weighted):
    arrays = [put(a) for a in data[: 2 + weighted]]
    batches, net = FORMS[form](data[: 2 + weighted], put), network(backend)
    found, expected = net.evaluate(batches), net.evaluate(*arrays)
    assert found == pytest.approx(expected, rel=1e-12)
    assert net.accuracy(batches) == pytest.approx(found["accuracy"], rel=1e-12)
    for penalty in ({}, {"l1": 0.3, "l2": 2.0}, {"l2": 2.0, "n": 100}):
        cost = net.total_cost(*arrays, **penalty)
        assert net.total_cost(batches, **penalty) == pytest.approx(cost, rel=1e-12)
    nets = bpx.Ensemble([network(backend), net.copy()], "vote")
    assert nets.evaluate(batches) == pytest.approx(nets.evaluate(*arrays), rel=1e-12)
    assert nets.accuracy(batches) == pytest.approx(nets.accuracy(*arrays), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_validation_is_that_of_the_arrays(backend, put, data, form, weighted):
    arrays = [put(a) for a in data]
    held_out = arrays[: 2 + weighted]
    one, many, streamed = (network(backend) for _ in range(3))
    options = {"epochs": 3, "callbacks": bpx.EarlyStopping(9)}
    in_order = {"batch_size": 5, "shuffle": False}
    expected = one.fit(*arrays[:2], validation=tuple(held_out), **in_order, **options)
    batches = FORMS[form](data[: 2 + weighted], put)
    found = many.fit(*arrays[:2], validation=batches, **in_order, **options)
    streams = streamed.fit([*Loader(data[:2], put)], validation=batches, **options)
    assert list(found) == list(expected)
    for name in ("validation_cost", "validation_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-12)
        assert streams[name] == pytest.approx(expected[name], rel=1e-12)


def test_a_regression_has_a_cost_alone(data):
    x, net = data[0], network(output="identity")
    targets = x[:, :3]
    batches = FORMS["list"]((x, targets))
    assert net.evaluate(batches) == pytest.approx(net.evaluate(x, targets), rel=1e-12)
    history = net.fit(x, targets, epochs=1, validation=batches)
    assert "validation_accuracy" not in history
    assert history["validation_cost"] == pytest.approx([net.evaluate(x, targets)["cost"]])


def test_weights_of_some_mini_batches(data):
    """One has none, and one only zeros."""
    x, y, w = data
    weight = np.concatenate([np.ones(9), np.zeros(4), w[13:]])
    some = [(x[:9], y[:9]), (x[9:13], y[9:13], weight[9:13]), (x[13:], y[13:], w[13:])]
    net = network()
    assert net.evaluate(some) == pytest.approx(net.evaluate(x, y, weight), rel=1e-12)


def test_a_pair_is_no_list_of_mini_batches(data):
    """Whatever it is made of."""
    x, y, _ = data
    net = network()
    expected = net.copy().fit(x, y, epochs=1, validation=(x, y))["validation_cost"]
    rows, labels = x.tolist(), y.tolist()
    columns = tuple(map(tuple, rows)), tuple(labels)
    for pair in ([x, y], (rows, labels), [rows, labels], [[*x], labels], columns, [*columns]):
        found = net.copy().fit(x, y, epochs=1, validation=pair)["validation_cost"]
        assert found == pytest.approx(expected, rel=1e-12)


def test_an_iterator_is_gone_through_once(data):
    x, y, _ = data
    pieces, net = FORMS["list"]((x, y)), network()
    expected = net.evaluate(x, y)["cost"]
    assert net.evaluate(iter(pieces))["cost"] == pytest.approx(expected, rel=1e-12)
    assert net.evaluate(p for p in pieces)["cost"] == pytest.approx(expected, rel=1e-12)
    history = net.fit(x, y, epochs=1, validation=iter(pieces))
    assert history["validation_cost"] == pytest.approx([net.evaluate(x, y)["cost"]], rel=1e-12)


def test_columns_and_classes_are_matched_by_name(data):
    frames = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    x, y, _ = data
    frame = frames.DataFrame(x, columns=list("abcdef"))
    labels = np.array(["ant", "bee", "cat"])[y]
    turned = frame[list("fedcba")]
    for batches in (
        bpx.batches(turned, labels, 5),
        [(turned[:9], labels[:9]), (turned[9:], y[9:])],
    ):
        net = network()
        found = net.fit(frame, labels, epochs=2, validation=batches)
        expected = net.evaluate(frame, labels)
        assert found["validation_cost"][-1] == pytest.approx(expected["cost"], rel=1e-12)
        assert net.evaluate(batches) == pytest.approx(expected, rel=1e-12)
        together = bpx.Ensemble([net, network()])
        assert together.evaluate(batches) == pytest.approx(
            together.evaluate(frame, labels), rel=1e-12
        )


def test_data_on_disk_in_mini_batches(data, tmp_path):
    x, y = np.tile(data[0], (40, 1)), np.tile(data[1], 40)
    np.save(tmp_path / "x.npy", x)
    block, net = bpx.open_data(tmp_path / "x.npy", y, budget=30_000), network()
    assert not block.fits(8)
    found = net.evaluate([(block, None), (x, y)])
    assert found == pytest.approx(net.evaluate(x, y), rel=1e-12)


def test_a_loader_of_pytorch(data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it has the loader")
    x, y, w = data
    for held_out in ((x, y), (x, y, w)):
        tensors = torch.utils.data.TensorDataset(*map(torch.as_tensor, held_out))
        loader = torch.utils.data.DataLoader(tensors, batch_size=5, shuffle=True)
        net = network()
        for batches in (loader, [*loader]):
            assert net.evaluate(batches) == pytest.approx(net.evaluate(*held_out), rel=1e-12)
        history = net.fit(loader, epochs=2, validation=loader)
        expected = net.evaluate(*held_out)["cost"]
        assert history["validation_cost"][-1] == pytest.approx(expected, rel=1e-12)
        with pytest.raises(TypeError, match="predict takes one x at a time"):
            net.predict(loader)


def test_a_wrong_mini_batch_is_named_and_the_network_keeps_its_steps(data):
    x, y, _ = data
    net = network()
    with pytest.raises(
        ValueError, match=r"^validation mini-batch 2: expected x of shape \(m, 6\)"
    ):
        net.fit(x, y, epochs=2, batch_size=M, validation=[(x, y), (x[:, :5], y)])
    assert (net.steps, net.history.epochs) == (1, 0)


ONE_AT_A_TIME = (
    "mini-batches are for fit and evaluate, without y; predict takes one x at a time: "
    "[net.predict(x) for x, y in batches]"
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [network, lambda: bpx.Ensemble([network()])])
def test_predict_takes_one_at_a_time(data, make, form):
    batches = FORMS[form](data[:2])
    for given in (batches, iter(batches)):
        with pytest.raises(TypeError, match=re.escape(ONE_AT_A_TIME)):
            make().predict(given)
