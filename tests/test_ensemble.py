"""Ensembles: votes counted in plain Python, members in turn and in processes, files."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from damaged_headers import damaged

import bpx
from bpx import handover, layers, persistence
from bpx.backends import _threads


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """These tests are not about what is on the disk when the power fails."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def networks(n=4, backend=None, outputs=3, **options):
    options |= {"weights": "normal", "bias": "zeros", "backend": backend}
    return [bpx.Network([6, 5, outputs], hidden="tanh", seed=seed, **options) for seed in range(n)]


OUTPUTS = {
    "softmax": {"output": "softmax"},
    "one sigmoid": {"outputs": 1},
    "multilabel": {"task": "multilabel"},
    "identity": {"output": "identity", "cost": "quadratic", "task": "classification"},
}


# --- answers ------------------------------------------------------------------------------------


def voted(predictions, means):
    """For one sample: what most say, or of those that tie, the one with the largest mean."""
    counts = {label: predictions.count(label) for label in predictions}
    first = [label for label, count in counts.items() if count == max(counts.values())]
    return max(first, key=lambda label: means[label]), len(first) > 1


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("combine", ["average", "vote"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_answers_counted_by_hand(backend, put, host, rng, kind, combine, n):
    members = networks(n, backend, **OUTPUTS[kind])
    ensemble = bpx.Ensemble(members, combine)
    x = rng.normal(size=(300, 6))
    outputs = [host(net.feedforward(put(x))) for net in members]
    mean = sum(outputs) / n
    assert np.abs(host(ensemble.feedforward(put(x))) - mean).max() < 1e-6
    # Each label of multilabel, and one sigmoid output, is a vote between 0 and 1.
    of_two = kind in ("multilabel", "one sigmoid")
    said = [host(net.predict(put(x))).reshape(300, -1) for net in members]
    expected, ties = np.zeros_like(said[0]), 0
    for row, column in np.ndindex(expected.shape):
        p = mean[row]
        means = [1 - p[column], p[column]] if of_two else p
        if combine == "average":
            expected[row, column] = int(np.argmax(means))
            continue
        votes = [int(labels[row, column]) for labels in said]
        expected[row, column], tied = voted(votes, means)
        ties += tied
    if combine == "vote":
        assert ties > 10 or (ties == 0 and of_two and n == 5)
    found = host(ensemble.predict(put(x)))
    assert np.array_equal(found.reshape(300, -1), expected)
    assert found.shape == ((300, 3) if kind == "multilabel" else (300,))


def test_a_regression_is_the_mean(backend, put, host, rng):
    members = networks(3, backend, 2, output="identity", cost="quadratic")
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    ensemble = bpx.Ensemble(members)
    mean = sum(host(net.predict(put(x))) for net in members) / 3
    assert np.abs(host(ensemble.predict(put(x))) - mean).max() < 1e-6
    found = ensemble.evaluate(put(x), put(y))
    assert list(found) == ["cost"]
    assert found["cost"] == pytest.approx((0.5 * ((mean - y) ** 2).sum(axis=1)).mean())
    with pytest.raises(ValueError, match="a regression has no accuracy; its cost is in evaluate"):
        ensemble.accuracy(put(x), put(y))


@pytest.mark.parametrize("combine", ["average", "vote"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_evaluate(backend, put, host, rng, kind, combine):
    members = networks(4, backend, **OUTPUTS[kind])
    ensemble = bpx.Ensemble(members, combine)
    x, weight = rng.normal(size=(40, 6)), rng.uniform(size=40)
    y = rng.integers(2, size=(40, 3) if kind == "multilabel" else 40)
    right = host(ensemble.predict(put(x))) == y
    right = right.all(axis=1) if kind == "multilabel" else right
    targets = {"multilabel": y, "one sigmoid": y[:, None]}.get(kind)
    targets = np.eye(3)[y] if targets is None else targets
    values = members[0].cost.value(np, host(ensemble(put(x))).astype(np.float64), targets)
    for w in (None, weight):
        found = ensemble.evaluate(put(x), put(y), sample_weight=None if w is None else put(w))
        assert found["cost"] == pytest.approx(np.average(values, weights=w), rel=1e-5)
        assert found["accuracy"] == pytest.approx(np.average(right, weights=w))
    assert ensemble.accuracy(put(x), put(y)) == pytest.approx(right.mean())
    alone = bpx.Ensemble(members[:1], combine).evaluate(put(x), put(y))
    assert alone == pytest.approx(members[0].evaluate(put(x), put(y)), rel=1e-5)


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_data_on_disk_are_read_once_and_answered_alike(tmp_path, rng, combine):
    x, y = rng.normal(size=(5000, 6)).astype(np.float32), rng.integers(3, size=5000)
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", y, budget="300 kB")
    assert not data.fits(8)
    ensemble = bpx.Ensemble(networks(output="softmax"), combine)
    assert np.array_equal(ensemble.predict(data), ensemble.predict(x))
    assert np.array_equal(ensemble(data), ensemble(x))
    assert ensemble.evaluate(data) == pytest.approx(ensemble.evaluate(x, y), rel=1e-6)
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 7\), got \(5000, 6\)"):
        bpx.Ensemble([bpx.Network([7, 3])]).predict(data)


# --- what it is made of -------------------------------------------------------------------------


def test_of_makes_networks_that_differ_by_their_seeds():
    chain = [layers.Input(6), layers.Dense(5, "relu"), layers.Dropout(0.5), layers.Dense(3)]
    net = bpx.Network(chain, cost="huber", dtype="float64", seed=3)
    before = net.generator.bit_generator.state
    ensemble = bpx.Ensemble.of(3, net)
    assert net.generator.bit_generator.state == before
    for member in ensemble.members:
        assert member.layers == net.layers
        assert (member.cost, member.task, member.dtype) == (net.cost, net.task, net.dtype)
    keys = {member.chain.key for member in (net, *ensemble.members)}
    firsts = {member.weights[0].tobytes() for member in (net, *ensemble.members)}
    assert len(keys) == len(firsts) == 4
    again = bpx.Ensemble.of(3, net)
    for one, other in zip(ensemble.members, again.members, strict=True):
        assert np.array_equal(one.parameters, other.parameters)


NET = bpx.Network([6, 3], seed=0)
OTHER = {
    "input_shape": bpx.Network([5, 3]),
    "output_shape": bpx.Network([6, 4]),
    "task": bpx.Network([6, 3], task="multilabel"),
    "cost": bpx.Network([6, 3], cost="quadratic"),
    "dtype": bpx.Network([6, 3], dtype="float64"),
}


def test_whole_numbers_that_an_embedding_has_not(backend, put, host):
    """Each member would take the vector of another number."""

    def net(count):
        chain = [layers.Input(2), layers.Embedding(count, 3), layers.Flatten(), layers.Dense(2)]
        return bpx.Network(chain, cost="quadratic", backend=backend, seed=count)

    members = [net(9), net(5)]
    ensemble = bpx.Ensemble(members)
    x, y = put(np.array([[4, 0], [1, 3]])), put(np.zeros((2, 2)))
    mean = sum(host(member(x)) for member in members) / 2
    assert np.abs(host(ensemble(x)) - mean).max() < 1e-6
    assert ensemble.evaluate(x, y)["cost"] == pytest.approx((mean**2).sum() / 4, rel=1e-5)
    for wrong in ([[4, 0], [1, 5]], [[4, 0], [1, -1]], [[4, 0], [1, 0.5]]):
        for call in (ensemble, ensemble.predict, lambda x: ensemble.evaluate(x, y)):
            with pytest.raises(ValueError, match=r"whole numbers 0 to 4 .* in row 1"):
                call(put(np.array(wrong)))
    data = bpx.open_data(np.array([[4, 0], [1, 5]]))
    with pytest.raises(ValueError, match=r"whole numbers 0 to 4 .* in row 1"):
        ensemble.predict(data)


def test_numbers_that_one_member_rescales_and_another_cannot_hold():
    chain = [layers.Input(1), layers.Rescale(1e-30), layers.Dense(1)]
    nets = bpx.Network(chain), bpx.Network([1, 1], output="identity")
    for ensemble in (bpx.Ensemble(nets), bpx.Ensemble(nets[::-1])):
        with pytest.raises(ValueError, match="x has numbers that float32 does not hold"):
            ensemble(np.array([[1e39]]))
        with pytest.raises(ValueError, match="x has numbers that float32 does not hold"):
            ensemble.evaluate(np.array([[1e39]]), [1.0])


@pytest.mark.parametrize("what", OTHER)
def test_networks_that_do_not_fit(what):
    message = rf"expected networks with the same {what}, got .* in member 0 and .* in member 1"
    with pytest.raises(ValueError, match=message):
        bpx.Ensemble([NET, OTHER[what]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bpx.Ensemble([]), ValueError, "expected at least one network, got none"),
        (lambda: bpx.Ensemble(NET), TypeError, "expected several networks, got one: Ensemble.of"),
        (lambda: bpx.Ensemble([NET, 3]), TypeError, "expected networks, got int as member 1"),
        (lambda: bpx.Ensemble([NET, NET]), ValueError, "got one of them twice: pass net.copy()"),
        (lambda: bpx.Ensemble([NET], "mean"), ValueError, "unknown combine 'mean'. Known: "),
        (lambda: bpx.Ensemble([NET], "votes"), ValueError, "did you mean 'vote'?"),
        (lambda: bpx.Ensemble([bpx.Network([6, 3], output="identity", cost="quadratic")], "vote"),
         ValueError, 'a regression has no votes to count: use combine="average"'),
        (lambda: bpx.Ensemble.of(0, NET), ValueError, "expected n >= 1, got 0"),
        (lambda: bpx.Ensemble.of(NET, 3), TypeError, "expected a Network to make members like"),
        (lambda: bpx.Ensemble([NET]).predict(np.zeros((2, 5))), ValueError, "got (2, 5)"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [0], epoch=3), TypeError,
         "fit takes no epoch=; did you mean 'epochs'?"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3]), ValueError, "expected labels 0 to 2"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], processes=0), ValueError,
         "expected processes >= 1, got 0"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], processes=1, devices=["numpy"]),
         ValueError, "processes= and devices= both say where members train"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], processes=1, progress=True),
         ValueError, "progress= is for members that are trained in turn: leave it out"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], processes=1, parallel="mpi"),
         ValueError, "parallel= is for members that are trained in turn"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], devices="numpy"), ValueError,
         'expected devices to be a list such as ["cupy:0", "cupy:1"], got \'numpy\''),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], devices=["cuda"]), bpx.BackendError,
         "unknown backend 'cuda'"),
        (lambda: bpx.Ensemble([NET]).fit([[0.0] * 6], [3], processes=1, callbacks=lambda run: 0),
         TypeError, "something cannot be sent to another process (Can"),
    ],
)  # fmt: skip
def test_message(call, error, message):
    if "a Network" in message:
        pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_networks_on_two_backends(backend):
    if backend.name == "numpy":
        with pytest.raises(ValueError, match=r"no votes|the same backend.*: net\.to\(backend\)"):
            bpx.Ensemble([NET, bpx.Network([6, 3], backend=bpx.backends.Backend("other", np))])
        return
    with pytest.raises(ValueError, match=r"the same backend, .* in member 1: net\.to\(backend\)"):
        bpx.Ensemble([NET, NET.to(backend)])
    moved = bpx.Ensemble(networks(2), "vote").to(backend)
    assert (moved.backend, moved.combine) == (backend, "vote")


def test_how_it_shows_itself():
    ensemble = bpx.Ensemble.of(3, bpx.Network([6, 5, 3], seed=0), combine="vote")
    assert repr(ensemble).startswith("<Ensemble of 3, vote: <Network (6,) -> Dense 5, sigmoid, ")
    text = repr(ensemble.summary())
    assert "0  Dense 5, sigmoid, Dense 3, sigmoid  (m, 3)          53             45" in text
    assert "3 networks, the votes; cross-entropy cost, classification; 159 parameters" in text
    assert "<th>network</th>" in ensemble.summary()._repr_html_()
    layers = bpx.layers
    inner = [layers.Dense(6, "relu"), layers.Dense(6)]
    deep = bpx.Network([layers.Input(6), layers.Residual(inner), layers.Dense(2)])
    rows = deep.summary().rows
    each = sum(int(row[4]) for row in rows if row[4])
    assert int(bpx.Ensemble([deep]).summary().rows[0][4]) == each == 2 * 36 + 12


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_round_trip(backend, put, host, rng, tmp_path, combine):
    chain = [
        layers.Input(6),
        layers.Dense(4, "relu"),
        layers.Dropout(0.2),
        layers.Dense(3, "softmax"),
    ]
    members = [bpx.Network(chain, backend=backend, seed=1),
               bpx.Network([6, 3], output="softmax", backend=backend, seed=2)]  # fmt: skip
    ensemble = bpx.Ensemble(members, combine)
    x, y = put(rng.normal(size=(30, 6))), put(rng.integers(3, size=30))
    ensemble.fit(x, y, epochs=2)
    ensemble.save(tmp_path / "a.safetensors")
    again = bpx.load(tmp_path / "a.safetensors", backend=backend)
    assert isinstance(again, bpx.Ensemble)
    assert again.combine == combine
    for one, other in zip(ensemble.members, again.members, strict=True):
        assert one.layers == other.layers
        assert (one.steps, one.epochs, one.chain.key) == (
            other.steps,
            other.epochs,
            other.chain.key,
        )
        assert np.array_equal(host(one.parameters), host(other.parameters))
        states = (net.generator.bit_generator.state for net in (one, other))
        assert next(states) == next(states)
    assert np.array_equal(host(again.predict(x)), host(ensemble.predict(x)))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    bpx.Ensemble(networks(3, output="softmax")).save(path)
    return path, *persistence.read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"combine": "mean"}, "does not describe an ensemble (unknown combine 'mean'"),
        ({"combine": ["vote"]}, "does not describe an ensemble (unknown combine ['vote']"),
        ({"members": []}, "tensors that its architecture does not have: members.0.layers.0.bias"),
        ({"members": 3}, "its header does not describe an ensemble"),
        ({"members": [3]}, "its header does not describe an ensemble"),
        ({"members": [{}]}, ", member 0: its header does not describe a network ('layers')"),
    ],
)
def test_a_header_that_does_not_fit(saved, header, message):
    path, tensors, old = saved
    persistence.write(path, tensors, old | header)
    with pytest.raises(bpx.FileFormatError) as caught:
        bpx.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_tensors_and_members_that_do_not_fit(saved):
    path, tensors, header = saved
    moved = {name.replace("members.1.", "members.01."): a for name, a in tensors.items()}
    persistence.write(path, moved, header)
    with pytest.raises(
        bpx.FileFormatError, match=r"member 1: tensor 'layers\.0\.weights' is miss"
    ):
        bpx.load(path)
    persistence.write(path, tensors | {"members.2.more": np.zeros(2)}, header)
    with pytest.raises(bpx.FileFormatError, match=r"member 2 has tensors that .* not have: more"):
        bpx.load(path)
    persistence.write(path, tensors | {"members.2": np.zeros(2)}, header)
    with pytest.raises(bpx.FileFormatError, match=r"tensors that .* not have: members\.2"):
        bpx.load(path)
    persistence.write(path, {}, {"combine": "vote", "members": []})
    with pytest.raises(bpx.FileFormatError, match="expected at least one network"):
        bpx.load(path)
    unknown = {name: value for name, value in header.items() if name != "combine"}
    persistence.write(path, tensors, unknown)
    with pytest.raises(bpx.FileFormatError, match=r"describe an ensemble \(unknown combine ''"):
        bpx.load(path)
    header["members"][1]["task"] = "multilabel"
    persistence.write(path, tensors, header)
    with pytest.raises(bpx.FileFormatError, match="the same task, got 'classification' in membe"):
        bpx.load(path)


def test_any_field_of_the_header_may_be_wrong(saved):
    """Whatever is put in the place of any value, `load` works or says which file is wrong."""
    path, tensors, header = saved

    refused = 0
    for wrong in damaged(header, (None, -1, 1e308, "x", [], {}, [[1]], True)):
        persistence.write(path, tensors, wrong)
        try:
            bpx.load(path).summary()
        except bpx.FileFormatError as error:
            refused += str(path) in str(error)
    assert refused > 500


def test_many_members_and_tensors(saved):
    path, _, header = saved
    flat = {"name": "flatten", "trainable": True, "input_shape": [3]}
    member = header["members"][0] | {"layers": [flat], "input_shape": [3], "cost": "quadratic"}
    count = 2000
    more = {f"members.{index}.x": np.zeros(1) for index in range(count)}
    persistence.write(path, more, {"combine": "average", "members": [member] * count})
    with pytest.raises(bpx.FileFormatError, match=r"member 0 has tensors .* does not have: x"):
        bpx.load(path)


# --- training -----------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(3000, 64))
Y = np.argmax(X[:, :3], axis=1)


def fits(n=3, seed=0):
    chain = [
        layers.Input(64),
        layers.Dense(6, "relu"),
        layers.Dropout(0.1),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Ensemble.of(n, bpx.Network(chain, seed=seed))


def numbers(histories):
    return [{name: h[name] for name in h if name != "seconds"} for h in histories]


def same(one, other):
    for a, b in zip(one.members, other.members, strict=True):
        assert np.array_equal(a.parameters, b.parameters)
        assert (a.steps, a.epochs, a.chain.key) == (b.steps, b.epochs, b.chain.key)
        assert a.generator.bit_generator.state == b.generator.bit_generator.state
        assert a.optimizer == b.optimizer
        assert a.optimizer_state.step == b.optimizer_state.step
        for name, slot in a.optimizer_state.slots.items():
            assert np.array_equal(slot, b.optimizer_state.slots[name])


def test_in_turn_each_is_trained_as_it_would_be_alone():
    ensemble, alone = fits(), fits()
    options = {"epochs": 2, "batch_size": 50, "optimizer": bpx.Adam()}
    histories = ensemble.fit(X, Y, **options)
    expected = [net.fit(X, Y, **options) for net in alone.members]
    assert numbers(histories) == numbers(expected)
    assert histories == [net.history for net in ensemble.members]
    same(ensemble, alone)


def test_progress_says_which_member_it_is_of(capsys):
    seen = []
    ensemble = bpx.Ensemble.of(2, bpx.Network([64, 2]))
    ensemble.fit(X[:20], [0, 1] * 10, epochs=2, progress=True, callbacks=seen.append)
    lines = capsys.readouterr().err.splitlines()
    lines = [line.partition(";")[0] for line in lines if not line.startswith("compiling")]
    assert lines == [f"member {m}: epoch {epoch}" for m in (0, 1) for epoch in (1, 2)]
    assert len(seen) == 4
    ensemble.fit(X[:20], [0, 1] * 10, epochs=2, progress=True, callbacks=bpx.callbacks.Progress())
    lines = [line.partition(";")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["epoch 3", "epoch 4", "epoch 3", "epoch 4"]


def test_each_member_begins_where_an_iterable_was(rng):
    """And callbacks that can be iterated only once are used for all of them."""
    x, y, seen = rng.normal(size=(60, 6)), np.arange(60) % 3, []

    def batches():
        return bpx.batches(x, y, 10, seed=0)

    members = networks(2)
    bpx.Ensemble(members).fit(batches(), epochs=2, callbacks=(c for c in [seen.append]))
    for net, alone in zip(members, networks(2), strict=True):
        alone.fit(batches(), epochs=2)
        assert np.array_equal(net.parameters, alone.parameters)
    assert len(seen) == 4


@pytest.mark.parametrize("where", [{}, {"processes": 2}])
def test_each_member_begins_where_an_iterable_for_validation_was(rng, where):
    """It is in another order each time, in which sums round in another way."""
    data = rng.normal(size=(60, 6)), np.arange(60) % 3

    def options():
        return {"epochs": 2, "validation": bpx.batches(*data, 10, seed=0)}

    members = networks(2)
    bpx.Ensemble(members).fit(*data, **options(), **where)
    for net, alone in zip(members, networks(2), strict=True):
        expected = alone.fit(*data, **options())
        assert net.history["validation_cost"] == expected["validation_cost"]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_state_that_shares_memory_is_where_each_member_begins(rng, in_place):
    x, y = rng.normal(size=(60, 6)), np.arange(60) % 3

    class Turning:
        def __init__(self):
            self.at = np.zeros(1, int)

        def __iter__(self):
            self.at += 10
            return iter([(np.roll(x, self.at[0], axis=0), np.roll(y, self.at[0]))])

        def state(self):
            return {"at": self.at}

        def load_state(self, state):
            if in_place:
                self.at[...] = state["at"]
            else:
                self.at = state["at"]

    members = networks(3)
    bpx.Ensemble(members).fit(Turning(), epochs=2)
    for net, alone in zip(members, networks(3), strict=True):
        alone.fit(Turning(), epochs=2)
        assert np.array_equal(net.parameters, alone.parameters)


def test_in_processes_they_end_as_in_turn(tmp_path):
    """Their arrays go through files that are shared; and what they remember comes back."""
    one, other = fits(), fits()
    np.save(tmp_path / "x.npy", X)
    options = {"batch_size": 50, "optimizer": bpx.Adam(), "l2": 0.1, "sample_weight": Y + 1.0,
               "validation": (X, Y), "callbacks": bpx.EarlyStopping(1)}  # fmt: skip
    expected = one.fit(X, Y, epochs=2, **options)
    found = other.fit(X, Y, epochs=2, processes=2, checkpoint=tmp_path / "run", **options)
    assert numbers(found) == numbers(expected)
    same(one, other)
    assert sorted(os.listdir(tmp_path / "run")) == ["member-0", "member-1", "member-2"]
    assert found == [net.history for net in other.members]
    # Their training goes on, by way of a memory map, and alike.
    again = np.load(tmp_path / "x.npy", mmap_mode="r")
    one.fit(again, Y, epochs=1, **options)
    other.fit(again, Y, epochs=1, processes=3, **options)
    same(one, other)


def test_arrays_that_are_handed_over(tmp_path, rng):
    x = rng.normal(size=(500, 300))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = handover.Handover(tmp_path)
    given = [x, np.asfortranarray(x), x[::-1], x.astype(">f8"), x.repeat(9, axis=1) > 0.0]
    given += [mapped, mapped[100:], x[:2], x[0]]
    *found, (again, small) = handover.unpickled(
        handover.pickled(*map(data.shared, given), data.shared((x, y := np.arange(500))))
    )
    for a, b in zip([*given, x, y], [*found, again, small], strict=True):
        assert np.array_equal(a, b)
        assert (a.dtype, type(a)) == (b.dtype, type(b))
        assert a.flags.f_contiguous == b.flags.f_contiguous
    assert len(list(tmp_path.glob("*.bin"))) == 5  # one for x, the maps' own, none for small ones
    with pytest.raises(TypeError, match="something cannot be sent to another process"):
        handover.pickled(lambda: 0)


def test_no_room_for_what_is_handed_over(tmp_path):
    """A folder that is not there stands for one that is full."""
    data = handover.Handover(tmp_path / "none")
    told = r"cannot write 8 MB for the processes to .*none.*; set TMPDIR in the environment"
    with pytest.raises(OSError, match=told):
        data.shared(np.zeros(1_000_000))


def test_a_run_that_was_cut_short_goes_on(tmp_path):
    whole, rest = fits(2), fits(2, seed=5)
    options = {"epochs": 3, "batch_size": 100, "checkpoint": bpx.Checkpoint(tmp_path / "run")}
    fits(2).fit(X, Y, **options | {"epochs": 1})
    rest.fit(X, Y, resume=True, **options)
    whole.fit(X, Y, epochs=3, batch_size=100)
    same(whole, rest)


def test_on_devices(tmp_path):
    """Member by member round the devices; and they come back to where they were."""
    try:
        bpx.backends.get("torch")
    except bpx.BackendError as error:
        pytest.skip(str(error))
    ensemble, turn = fits(), fits()
    data = bpx.open_data(_saved(tmp_path / "x.npy"), Y)
    options = {"epochs": 1, "batch_size": 50}
    ensemble.fit(data, devices=["numpy", "torch"], **options)
    assert {net.backend.name for net in ensemble.members} == {"numpy"}
    turn.members[0].fit(X, Y, **options)
    turn.members[2].fit(X, Y, **options)
    there = turn.members[1].to("torch")
    there.fit(X, Y, **options)
    for index, net in enumerate(ensemble.members):
        expected = np.asarray(there.parameters) if index == 1 else turn.members[index].parameters
        assert np.abs(net.parameters - expected).max() < (1e-4 if index == 1 else 1e-12)


def _saved(path):
    np.save(path, X)
    return path


class Fails(bpx.Callback):
    """By the width of the first layer, so that members of one `fit` fail in different ways."""

    def on_epoch_end(self, run):
        units = run.net.layers[0].units
        if units == 7:
            os._exit(3)
        if units == 8:
            raise KeyError("of one's own")
        if units == 9:
            os.kill(os.getpid(), signal.SIGKILL)


def of_widths(*widths):
    members = [bpx.Network([64, units, 3], hidden="relu", seed=units) for units in widths]
    members[1].parameters[...] = 1e30
    return bpx.Ensemble(members)


def test_a_member_that_fails_is_named_and_the_others_are_kept():
    ensemble, options = of_widths(5, 6, 7, 8, 9, 10), {"epochs": 2, "batch_size": 500}
    before = [np.array(net.parameters) for net in ensemble.members]
    with pytest.raises(bpx.EnsembleError) as caught:
        ensemble.fit(X, Y, processes=3, callbacks=Fails(), **options)
    error = caught.value
    assert list(error.failed) == [1, 2, 3, 4]
    assert str(error).startswith(
        "4 of 6 members failed, and the others are trained: use a bpx.Ensemble"
    )
    assert "member 1: DivergenceError: the cost is not finite at step 1" in str(error)
    assert "member 2: RuntimeError: its process ended with exit status 3" in str(error)
    assert 'member 3: KeyError: "of one\'s own"' in str(error)
    assert "member 4: RuntimeError: its process was ended by signal 9" in str(error)
    assert "on_epoch_end" in "".join(error.failed[3].__notes__)
    assert [history.epochs for history in error.histories] == [2, 0, 0, 0, 0, 2]
    for index in (0, 5):
        alone = bpx.Network([64, 5 + index, 3], hidden="relu", seed=5 + index)
        alone.fit(X, Y, **options)
        assert np.array_equal(ensemble.members[index].parameters, alone.parameters)
    for index in (2, 4):
        assert np.array_equal(ensemble.members[index].parameters, before[index])


def test_where_all_have_failed_there_are_no_others():
    ensemble = of_widths(5, 6)
    with pytest.raises(bpx.EnsembleError) as caught:
        ensemble.fit(X, Y, epochs=1, callbacks=FailsByWidth())
    assert str(caught.value) == (
        "2 of 2 members failed. member 0: RuntimeError: 5 units; member 1: RuntimeError: 6 units"
    )


class FailsByWidth(bpx.Callback):
    def on_fit_begin(self, run):
        raise RuntimeError(f"{len(run.net.biases[0])} units")


def test_an_iterator_is_for_one_member():
    for_one, for_two = bpx.Ensemble([bpx.Network([64, 5, 3])]), of_widths(5, 6)
    before = np.array(for_two.members[0].parameters)
    for_one.fit(iter([(X, Y)]), epochs=1)
    with pytest.raises(ValueError, match="is empty after the first member: pass"):
        for_two.fit(iter([(X, Y)]), epochs=1)
    assert np.array_equal(for_two.members[0].parameters, before)


def test_in_turn_too():
    ensemble = of_widths(5, 6, 8)
    with pytest.raises(bpx.EnsembleError, match="2 of 3 members failed") as caught:
        ensemble.fit(X, Y, epochs=2, batch_size=500, callbacks=Fails())
    assert list(caught.value.failed) == [1, 2]
    assert [net.epochs for net in ensemble.members] == [2, 0, 1]
    assert isinstance(caught.value.failed[1], bpx.DivergenceError)


def test_what_all_alike_have_raised_is_raised():
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 64\), got \(3000, 63\)"):
        fits().fit(X[:, :63], Y, processes=3)


class Presses(bpx.Callback):
    """Ctrl-C for the process that waits, once or twice."""

    def __init__(self, times):
        self.times = times

    def on_epoch_end(self, run):
        if run.epoch == 2 and run.net.chain.key % 2 == 0:
            for _ in range(self.times):
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(0.05)


def even_and_odd():
    ensemble = fits()
    for index, net in enumerate(ensemble.members):
        net.chain.key = index
    return ensemble


posix = pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")


@posix
def test_ctrl_c_ends_all_and_keeps_what_is_there():
    ensemble = even_and_odd()
    options = {"batch_size": 500, "callbacks": Presses(1)}
    with pytest.warns(
        RuntimeWarning,
        match="^fit was interrupted before the end of member 0, member 1, member 2(;|$)",
    ) as told:
        histories = ensemble.fit(X, Y, epochs=10**7, processes=2, **options)
    assert [one.filename for one in told] == [__file__]
    assert all(history.interrupted for history in histories)
    assert [history.epochs for history in histories] == [net.epochs for net in ensemble.members]
    assert histories[0].epochs >= 2
    assert histories[2].epochs == ensemble.members[2].steps == 0  # it was not begun


@posix
def test_a_second_ctrl_c_ends_all_at_once():
    with pytest.raises(KeyboardInterrupt):
        even_and_odd().fit(X, Y, epochs=10**7, batch_size=500, processes=2, callbacks=Presses(2))


PROGRAM = """
import sys, warnings, numpy as np, bpx
class Told(bpx.Callback):
    def on_epoch_end(self, run):
        if run.epoch == 2:
            sys.stdout.write("begun\\n")  # at once, or the other process' word may come between
            sys.stdout.flush()
def main(processes):
    x, y = np.zeros((100, 4)), np.arange(100) % 3
    networks = [bpx.Network([4, 3]) for _ in range(2)]
    options = {"epochs": 10**7, "processes": processes, "callbacks": Told()}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        histories = bpx.Ensemble(networks).fit(x, y, **options)
    print(len(told), [history.interrupted for history in histories])
    print([net.steps > 0 for net in networks])
"""


@posix
def test_ctrl_c_in_a_terminal_which_all_processes_hear(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + 'if __name__ == "__main__":\n    main(2)\n')
    command = [sys.executable, "-W", "error", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        ended = threading.Timer(120, os.killpg, (running.pid, signal.SIGKILL))
        ended.start()
        began = [running.stdout.readline() for _ in range(2)]
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate()
        ended.cancel()
    assert began == ["begun\n", "begun\n"]
    assert out == "1 [True, True]\n[True, True]\n"
    assert err == ""


def test_ctrl_c_in_turn():
    ensemble = fits()

    def press(run):
        if run.net is ensemble.members[1]:
            signal.raise_signal(signal.SIGINT)

    words = "before the end of member 1, member 2; not trained at all: member 2$"
    with pytest.warns(RuntimeWarning, match=words) as told:
        histories = ensemble.fit(X, Y, epochs=2, batch_size=500, callbacks=press)
    assert len(told) == 1
    assert [history.interrupted for history in histories] == [False, True, True]
    assert [net.epochs for net in ensemble.members] == [2, 1, 0]


class Terminates(bpx.Callback):
    """SIGTERM for the process that has begun the training, in its second epoch."""

    def __init__(self, process):
        self.process = process

    def on_epoch_end(self, run):
        if run.epoch == 2:
            os.kill(self.process, signal.SIGTERM)


@posix
@pytest.mark.parametrize("processes", [None, 2])
def test_sigterm_is_delivered_again_after_the_last_checkpoints(tmp_path, processes):
    ensemble, came = fits(), []
    before = signal.signal(
        signal.SIGTERM, lambda *given: came.append([net.steps for net in ensemble.members])
    )
    try:
        histories = ensemble.fit(
            X, Y, epochs=10**7, batch_size=500, checkpoint=tmp_path, processes=processes,
            callbacks=Terminates(os.getpid()),
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [[net.steps for net in ensemble.members]]
    assert [history.interrupted for history in histories] == [True] * 3
    begun = [net for net in ensemble.members if net.steps]
    assert len(begun) == (processes or 1)
    for index, net in enumerate(begun):
        newest = max((tmp_path / f"member-{index}").iterdir())
        assert np.array_equal(bpx.load(newest).parameters, net.parameters)


@pytest.mark.parametrize("rows", ["100", "20_000"])
def test_a_script_that_is_not_guarded(tmp_path, rows):
    """Also with more data than a pipe takes, for which nobody would wait at its other end."""
    (tmp_path / "program.py").write_text(PROGRAM.replace("100", rows) + "main(2)\n")
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "RuntimeError: its process ended with exit status 1: its output says why"
    )
    assert 'below if __name__ == "__main__":' in last


def test_in_a_process_that_may_start_none():
    """As those of multiprocessing.Pool are."""
    process = multiprocessing.get_context("spawn").Process(target=_daemon, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 3


def _daemon():
    try:
        fits().fit(X, Y, epochs=1, processes=2)
    except ValueError as error:
        sys.exit(3 if "a process of multiprocessing.Pool cannot start others" in str(error) else 4)


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(_threads.launcher, "cores", lambda: list(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with _threads.set_for_each_of(3):
        assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
        assert os.environ["OMP_NUM_THREADS"] == "5"  # a setting of the user's counts
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    with _threads.set_for_each_of(1):
        assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_a_member_with_a_fit_of_its_own(rng):
    class Own(bpx.Network):
        def fit(self, x, y=None, **options):
            return super().fit(x, y, **options | {"epochs": 2})

    x, y = rng.normal(size=(20, 3)), rng.integers(2, size=20)
    ensemble = bpx.Ensemble([Own([3, 2], seed=0), bpx.Network([3, 2], seed=1)])
    ensemble.fit(x, y, epochs=1)
    assert [member.epochs for member in ensemble.members] == [2, 1]
