"""A run that was killed and resumed ends like one that was not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from damaged_headers import damaged
from test_signals import ended_by

import bpx
from bpx import layers, persistence
from bpx.backends import _fast, _numpy
from bpx.training import checkpoints
from bpx.training.sources import Windows, of_samples


class Killed(Exception):
    pass


class KillAt(bpx.Callback):
    """An end at some epoch that no handler sees."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            raise Killed


def network(backend=None, dtype="float32", seed=1, **options):
    """One that goes step by step: no compiled run, whose sums are others, has two masks there."""
    chain = [
        layers.Input(6),
        layers.Dense(5, "tanh"),
        layers.Dropout(0.2),
        layers.Dropout(0.1),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed, **options)


def dense(backend=None, dtype="float32", seed=1):
    return bpx.Network(
        [6, 5, 3], hidden="relu", output="softmax", backend=backend, dtype=dtype, seed=seed
    )


def wider():
    chain = [
        layers.Input(6),
        layers.Dense(6, "tanh"),
        layers.Dropout(0.3),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Network(chain, seed=1)


def frozen():
    """Its layers look like those of `network`."""
    return network().frozen(1)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """These tests are not about what is on the disk when the power fails."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def data(rng):
    return rng.normal(size=(53, 6)), rng.integers(3, size=53)


def state_of(net):
    """Everything of a network that training goes on from."""
    to_host, memory = net.backend.to_host, net.optimizer_state
    vectors = [net.parameters, net.state, *memory.slots.values()]
    history = {name: net.history[name] for name in net.history if name != "seconds"}
    return (
        [to_host(vector).tobytes() for vector in vectors],
        history, net.history.stopped, net.steps, net.epochs, net.chain.key, memory.step,
        memory.factor, str(net.generator.bit_generator.state),
    )  # fmt: skip


def ends_alike(make, fit, checkpoint):
    """Train without a break; then be killed, and go on with a network of another seed."""
    whole, killed, resumed = make(), make(), make(seed=99)
    fit(whole)
    with pytest.raises(Killed):
        fit(killed, KillAt(4), checkpoint=checkpoint)
    fit(resumed, checkpoint=checkpoint, resume=True)
    assert state_of(resumed) == state_of(whole)
    return whole, resumed


OPTIMIZERS = [
    bpx.SGD(0.1),
    bpx.SGD(bpx.schedules.Exponential(0.2, 30), momentum=0.9),
    bpx.Adam(bpx.schedules.WarmUp(20, bpx.schedules.Cosine(0.01, 60))),
]


@pytest.mark.parametrize("when", [{"steps": 7}, {"epochs": 2}, {"seconds": 1e-9}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_a_killed_run_ends_as_one_that_was_not(data, tmp_path, optimizer, when):
    """Step by step, with masks, validation, early stopping that restores, and a plateau."""

    def fit(net, *more, **options):
        called = [bpx.EarlyStopping(5), bpx.ReduceOnPlateau(patience=1, min_delta=0.01), *more]
        net.fit(
            *data, epochs=12, batch_size=5, optimizer=optimizer, l2=0.1, validation=data,
            callbacks=called, **options,
        )  # fmt: skip

    ends_alike(network, fit, bpx.Checkpoint(tmp_path / "run", **when))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_compiled_steps(data, tmp_path, optimizer, dtype):
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    fast = _fast.FastBackend()

    def make(seed=1):
        return dense(fast, dtype, seed)

    def fit(net, *more, **options):
        net.fit(
            *data, epochs=8, batch_size=5, optimizer=optimizer, l2=0.1, callbacks=more, **options
        )

    ends_alike(make, fit, bpx.Checkpoint(tmp_path, steps=4, keep=1))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_data_on_disk(data, tmp_path, shuffle, fast):
    if fast:
        pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    x, y = np.tile(data[0], (20, 1)), np.tile(data[1], 20)
    np.save(tmp_path / "x.npy", x)

    def make(seed=1):
        return dense(_fast.FastBackend() if fast else _numpy.NumpyBackend(), "float64", seed)

    def fit(net, *more, **options):
        opened = bpx.open_data(tmp_path / "x.npy", budget=60_000)
        found = of_samples(net, opened, y, batch_size=7, shuffle=shuffle)
        assert isinstance(found, Windows)
        net.fit(
            opened, y, epochs=6, batch_size=7, shuffle=shuffle, callbacks=more,
            optimizer=bpx.SGD(0.1, momentum=0.9), **options,
        )  # fmt: skip

    ends_alike(make, fit, bpx.Checkpoint(tmp_path / "run", steps=40))


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_last_mini_batch_that_is_left_out(data, tmp_path, on_disk):
    x, y = np.tile(data[0], (20, 1)), np.tile(data[1], 20)
    np.save(tmp_path / "x.npy", x)

    def fit(net, *more, drop_last=True, **options):
        given = bpx.open_data(tmp_path / "x.npy", budget=60_000) if on_disk else x
        net.fit(given, y, epochs=6, batch_size=9, drop_last=drop_last, callbacks=more, **options)

    saved = bpx.Checkpoint(tmp_path / "run", steps=40)
    whole, _ = ends_alike(dense, fit, saved)
    assert whole.steps == 6 * (len(x) // 9)
    with pytest.raises(ValueError, match="drop_last was True and is False"):
        fit(dense(), drop_last=False, checkpoint=saved, resume=True)


@pytest.mark.parametrize("statistics", [False, True])
def test_slices_matter_where_layers_take_statistics(data, tmp_path, statistics):
    between = [bpx.layers.BatchNorm()] if statistics else []
    layers = [bpx.layers.Input(6), *between, bpx.layers.Dense(3, "softmax")]

    def fit(accumulate, **options):
        net = bpx.Network(layers, seed=0)
        net.fit(*data, batch_size=9, accumulate=accumulate, checkpoint=tmp_path, **options)

    fit(2, epochs=1)
    fit(2, epochs=2, resume=True)
    if statistics:
        with pytest.raises(ValueError, match="accumulate was 2 and is 1"):
            fit(1, epochs=3, resume=True)
    else:
        fit(1, epochs=3, resume=True)


def test_another_budget_is_another_run(data, tmp_path):
    np.save(tmp_path / "x.npy", np.tile(data[0], (20, 1)))
    options = {"epochs": 1, "checkpoint": tmp_path / "run"}
    y = np.tile(data[1], 20)
    dense().fit(bpx.open_data(tmp_path / "x.npy", budget=60_000), y, **options)
    with pytest.raises(ValueError, match="rows in memory was"):
        dense().fit(bpx.open_data(tmp_path / "x.npy", budget=70_000), y, resume=True, **options)


@pytest.mark.parametrize("kind", ["function", "own batches", "list", "bpx.batches", "weights"])
def test_data_of_each_kind(data, tmp_path, kind):
    x, y = data

    class Own:
        """Batches in an order of their own, which goes on."""

        def __init__(self):
            self.draw = np.random.Generator(np.random.MT19937(3))

        def __iter__(self):
            order = self.draw.permutation(53)
            return ((x[order[i : i + 5]], y[order[i : i + 5]]) for i in range(0, 53, 5))

        def state(self):
            return self.draw.bit_generator.state

        def load_state(self, state):
            self.draw.bit_generator.state = state

    def fit(net, *more, **options):
        if kind == "function":
            draw = np.random.default_rng(3)
            given, options = data, options | {"shuffle": lambda: draw.permutation(53)}
        elif kind == "weights":
            given, options = data, options | {"sample_weight": np.linspace(0, 1, 53)}
        else:
            pieces = [(x[i : i + 5], y[i : i + 5]) for i in range(0, 53, 5)]
            brought = {"own batches": Own, "list": lambda: pieces}
            given = (brought.get(kind, lambda: bpx.batches(x, y, 5, seed=4))(),)
        if len(given) == 2:
            options |= {"batch_size": 5}
        net.fit(*given, epochs=6, callbacks=more, **options)

    ends_alike(network, fit, bpx.Checkpoint(tmp_path, steps=3))


@pytest.mark.parametrize("shared", ["nothing", "generator", "iterable"])
def test_mini_batches_for_validation(data, tmp_path, shared):
    """In an order that goes on, also where those for training come from the same generator."""

    def fit(net, *more, **options):
        draw = np.random.default_rng(4)
        batches = bpx.batches(*data, 5, seed=draw)
        held_out = bpx.batches(*data, 7, seed=5 if shared == "nothing" else draw)
        if shared == "iterable":
            held_out = batches
        net.fit(batches, epochs=6, validation=held_out, callbacks=more, **options)

    ends_alike(network, fit, bpx.Checkpoint(tmp_path, steps=3))


def test_other_data_for_validation_are_another_run(data, tmp_path):
    pieces = [(data[0][:9], data[1][:9]), (data[0][9:], data[1][9:])]
    network().fit(*data, epochs=1, validation=pieces, checkpoint=tmp_path)
    for held_out, now in ((data, "53"), (bpx.batches(*data), "'Batches'")):
        with pytest.raises(ValueError, match=f"validation was 'list' and is {now}"):
            network().fit(*data, epochs=2, validation=held_out, checkpoint=tmp_path, resume=True)


def test_each_backend(backend, put, data, tmp_path):
    given = put(data[0]), put(data[1])

    def make(seed=1):
        return network(backend, seed=seed)

    def fit(net, *more, **options):
        net.fit(
            *given, epochs=6, batch_size=5, optimizer=bpx.Adam(0.01), graph=False,
            callbacks=[bpx.EarlyStopping(9), *more], validation=given, **options,
        )  # fmt: skip

    ends_alike(make, fit, bpx.Checkpoint(tmp_path, steps=6))


def test_replays_go_on(rehearsed, data, tmp_path):
    """Between two reads of the log, and step by step in what is left of an epoch."""

    def fit(net, *more, **options):
        net.fit(*data, epochs=5, batch_size=5, graph=True, callbacks=more, **options)

    whole, killed, resumed = (network(rehearsed, "float64", seed) for seed in (1, 1, 9))
    fit(whole)
    saved = bpx.Checkpoint(tmp_path, steps=7)
    with pytest.raises(Killed):
        fit(killed, KillAt(2), checkpoint=saved)
    fit(resumed, checkpoint=saved, resume=True)
    assert np.abs(resumed.parameters - whole.parameters).max() <= 1e-12
    assert resumed.history["training_cost"] == pytest.approx(whole.history["training_cost"])


def test_a_run_that_has_ended_ends_again(data, tmp_path):
    """Stopped by a callback, which restores the best weights once more."""
    nets = [network(seed=seed) for seed in (1, 9)]
    for net in nets:
        history = net.fit(
            *data, epochs=90, optimizer=bpx.SGD(0.3), checkpoint=tmp_path, resume=True,
            callbacks=bpx.EarlyStopping(2),
        )  # fmt: skip
        assert "no better training_cost" in history.stopped
    assert state_of(nets[0]) == state_of(nets[1])


def test_more_epochs_than_were_asked_for(data, tmp_path):
    whole, first, second = (network() for _ in range(3))
    whole.fit(*data, epochs=5)
    first.fit(*data, epochs=3, checkpoint=tmp_path)
    assert second.fit(*data, epochs=5, checkpoint=tmp_path, resume=True)["epoch"] == [*range(1, 6)]
    assert state_of(second) == state_of(whole)
    with pytest.raises(ValueError, match="epochs is 4, and 5 have ended"):
        network().fit(*data, epochs=4, checkpoint=tmp_path, resume=True)


def test_a_second_fit_of_a_network(data, tmp_path):
    """`epochs` and the history are of one call; the network's own counters go on."""
    whole, killed, resumed = (network() for _ in range(3))
    for net in (whole, killed):
        net.fit(*data, epochs=2)
    whole.fit(*data, epochs=4)
    with pytest.raises(Killed):
        killed.fit(*data, epochs=4, checkpoint=tmp_path, callbacks=KillAt(4))
    resumed.fit(*data, epochs=4, checkpoint=tmp_path, resume=True)
    assert resumed.history["epoch"] == [3, 4, 5, 6]
    assert state_of(resumed) == state_of(whole)


# --- the folder ---------------------------------------------------------------------------------


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_few_are_kept_and_others_files_too(data, tmp_path):
    (tmp_path / ".bpx-0123456789abcdef.tmp").touch()  # of a process that was killed
    (tmp_path / "notes.tmp").touch()
    net = network()
    net.fit(*data, epochs=9, batch_size=53, checkpoint=bpx.Checkpoint(tmp_path, epochs=2, keep=2))
    assert names(tmp_path) == [
        "checkpoint-000000000008.safetensors",
        "checkpoint-000000000009.safetensors",
        "notes.tmp",
    ]
    again = bpx.load(tmp_path / names(tmp_path)[1])
    assert np.array_equal(again.parameters, net.parameters)
    assert again.epochs == 9
    assert dict(again.history) == dict(net.history)


def test_a_checkpoint_after_each_step_that_took_so_many_seconds(data, tmp_path):
    saved = bpx.Checkpoint(tmp_path, seconds=1e-9, keep=99)
    network().fit(*data, epochs=2, batch_size=14, checkpoint=saved)
    assert names(tmp_path) == [f"checkpoint-{step:012}.safetensors" for step in range(9)]


def test_no_checkpoint_before_its_seconds_have_passed(data, tmp_path, monkeypatch):
    """Since the last one, and not since the clock's 0, which is the start of the machine."""
    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=lambda: 5000.0))
    saved = bpx.Checkpoint(tmp_path, seconds=60, keep=99)
    network().fit(*data, epochs=2, batch_size=14, checkpoint=saved)
    assert names(tmp_path) == [f"checkpoint-{step:012}.safetensors" for step in (0, 8)]


def test_a_history_in_a_checkpoint_knows_what_is_better_and_why_it_ended(data, tmp_path):
    def stop_after_two(run):
        if run.history.epochs == 2:
            run.stop("enough")

    values = iter((0.9, 0.1))
    metric = bpx.Metric("m", lambda net: next(values), larger_is_better=True)
    callbacks = [metric, bpx.Metric("of two minds", lambda net: 1.0), stop_after_two]
    network().fit(*data, epochs=5, checkpoint=tmp_path, callbacks=callbacks)
    again = bpx.load(tmp_path / names(tmp_path)[-1]).history
    assert (again.best("m"), again.best_epoch("m"), again.stopped) == (0.9, 1, "enough")
    with pytest.raises(ValueError, match="not known whether a larger 'of two minds' is better"):
        again.best("of two minds")


def test_a_history_of_many_epochs_is_no_text(data, tmp_path):
    """At 10,000 epochs it took most of the time of a checkpoint."""
    late = iter((0.5, 0.25))

    def log(run):
        if run.history.epochs > 1:
            run.history.log("late", next(late))

    saved = bpx.Checkpoint(tmp_path, keep=9)
    net = network()
    net.fit(*data, epochs=3, checkpoint=saved, callbacks=log)
    for epochs, name in enumerate(names(tmp_path)):
        tensors, header = persistence.read(tmp_path / name)
        again = bpx.load(tmp_path / name).history
        assert header["training"]["history"] == list(again) == list(net.history)[: len(again)]
        for column in again:
            assert repr(again[column]) == repr(net.history[column][:epochs])  # the kinds too
    assert tensors["training.history"].shape == (len(net.history), 3)
    assert again["late"][1:] == [0.5, 0.25]


WITH_HISTORY = {"history": {"epoch": [1]}, "larger_is_better": ["m"], "stopped": None}


@pytest.mark.parametrize(
    "run",
    [
        *(
            None,
            [],
            {},
            WITH_HISTORY | {"history": 1},
            WITH_HISTORY | {"history": {"epoch": ["1"]}},
        ),
        *(WITH_HISTORY | {"larger_is_better": wrong} for wrong in ("m", [1], None)),
        WITH_HISTORY | {"stopped": 1},
    ],
)
def test_a_network_whose_run_is_none(data, tmp_path, run):
    network().fit(*data, epochs=1, checkpoint=tmp_path)
    tensors, header = bpx.persistence.read(tmp_path / names(tmp_path)[0])
    bpx.persistence.write(tmp_path / "a.safetensors", tensors, header | {"training": run})
    with pytest.raises(bpx.FileFormatError, match="its header does not describe a run of fit"):
        bpx.load(tmp_path / "a.safetensors")


def test_a_run_does_not_mix_with_an_earlier_one(data, tmp_path):
    network().fit(*data, epochs=1, checkpoint=tmp_path)
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match=r"has checkpoints of an earlier run.*resume=True"):
        network().fit(*data, epochs=1, checkpoint=tmp_path)
    assert names(tmp_path) == before


def test_a_file_is_no_folder_for_checkpoints(data, tmp_path):
    (tmp_path / "net.txt").write_text("mine")
    with pytest.raises(
        NotADirectoryError, match=r"expected a folder for checkpoints, got .*net\.t"
    ):
        network().fit(*data, epochs=1, checkpoint=tmp_path / "net.txt")
    assert (tmp_path / "net.txt").read_text() == "mine"


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[-7:]
    elif kind == "empty":
        content.clear()
    else:
        content[-9] ^= 4  # in the last tensor, where safetensors looks for nothing
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["truncated", "empty", "one bit"])
def test_a_damaged_one_is_passed_over(data, tmp_path, kind):
    whole, killed, resumed = (network() for _ in range(3))
    saved = bpx.Checkpoint(tmp_path, keep=2)
    whole.fit(*data, epochs=6)
    with pytest.raises(Killed):
        killed.fit(*data, epochs=6, checkpoint=saved, callbacks=KillAt(4))
    old, new = names(tmp_path)
    damage(tmp_path / new, kind)
    said = rf"passed over, and {old} is used: .*{new} is (damaged:|empty,|not )"
    with pytest.warns(RuntimeWarning, match=said) as told:
        resumed.fit(*data, epochs=6, checkpoint=saved, resume=True)
    assert [each.filename for each in told] == [__file__]
    assert state_of(resumed) == state_of(whole)
    for name in names(tmp_path):
        damage(tmp_path / name, kind)
    with pytest.raises(bpx.FileFormatError, match=r"all 2 checkpoints in .* are damaged; delete"):
        network().fit(*data, checkpoint=saved, resume=True)


def test_the_one_that_a_run_went_on_from_outlives_a_damaged_newer_one(data, tmp_path):
    saved = bpx.Checkpoint(tmp_path, keep=1)
    network().fit(*data, epochs=1, checkpoint=saved)
    (sound,) = names(tmp_path)
    newer = tmp_path / "checkpoint-000000099999.safetensors"
    newer.touch()
    with pytest.warns(RuntimeWarning, match="checkpoint-000000099999.safetensors is empty"):
        network().fit(*data, epochs=1, checkpoint=saved, resume=True)
    assert names(tmp_path) == [sound, newer.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 7},
            r"checkpoint-0+33\.safetensors is of another run: batch_size was 5 and",
        ),
        ({"optimizer": bpx.SGD(0.2)}, r"optimizer was 'SGD\(learning_rate=0.1, .* and is 'SGD"),
        (
            {"l2": 1.0, "n": 5},
            r"l2 was 0\.0 and is 1\.0; n was 53 and is 5\. Pass what was passed",
        ),
        (
            {"optimizer": "adam"},
            r"another folder, with these weights by bpx\.load\('.*33\.safetensors'\)\.fit\(",
        ),
        ({"shuffle": False}, "shuffle was True and is False"),
        ({"shuffle": lambda: np.arange(53)}, "shuffle was True and is 'a function'"),
        ({"callbacks": bpx.EarlyStopping()}, r"callbacks with a state was \[\] and is \['Early"),
        ({"validation": True}, "the validation data have changed: none then, 53 samples now"),
        ({"sample_weight": np.ones(53)}, "another run: sample_weight was False and is True. Pass"),
        (
            {"net": dense},
            "layer 0 was 'Dense 5, tanh' and is 'Dense 5, relu'; layer 1 was 'Dropout 0.2' and is "
            "'Dense 3, softmax'; layer 2 was 'Dropout 0.1' and is None; layer 3 was 'Dense 3, ",
        ),
        ({"net": wider}, "another run: layer 0 was 'Dense 5, tanh' and is 'Dense 6, tanh'; layer"),
        ({"net": frozen}, "another run: layers was .*'trainable': True.* and is .*False"),
        ({"net": lambda: network(seed=np.random.Generator(np.random.Philox(1)))}, "generator was"),
        ({"net": lambda: network(dtype="float64")}, "dtype was 'float32' and is 'float64'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_arguments_are_refused_by_name(data, tmp_path, options, message):
    network().fit(*data, epochs=3, batch_size=5, checkpoint=tmp_path)
    net = options.pop("net", network)()
    if "validation" in options:
        options["validation"] = data
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        net.fit(
            *data, checkpoint=tmp_path, resume=True, **{"epochs": 3, "batch_size": 5, **options}
        )
    assert np.array_equal(net.parameters, before)
    assert net.steps == 0


def test_data_that_have_changed_are_told_in_words(data, tmp_path):
    x, y = data
    network().fit(x, y, epochs=2, validation=(x, y), checkpoint=tmp_path)
    for rows, validation, message in (
        (52, (x, y), "another run: the training data have changed: 53 samples then, 52 samples n"),
        (53, (x[:9], y[:9]), "run: the validation data have changed: 53 samples then, 9 samples"),
        (53, (x + 1, y), "run: the validation data have changed: some samples have other values"),
        (53, [(x, y)], "of another run: validation was 53 and is 'list'. Pass"),
    ):
        with pytest.raises(ValueError, match=message) as told:
            network().fit(
                x[:rows], y[:rows], epochs=2, validation=validation, checkpoint=tmp_path,
                resume=True,
            )  # fmt: skip
        assert not any(word in str(told.value) for word in ("digest", " n was"))


def test_other_rows_are_refused(data, tmp_path):
    def fit(seed, **options):
        draw = np.random.default_rng(seed)
        network().fit(
            *data, epochs=3, batch_size=5, shuffle=lambda: draw.permutation(53),
            checkpoint=bpx.Checkpoint(tmp_path, steps=4), **options,
        )  # fmt: skip

    with pytest.raises(Killed):
        fit(1, callbacks=KillAt(1))
    with pytest.raises(ValueError, match=r"checkpoint-0.*came in another order: shuffle= has to"):
        fit(2, resume=True)


def test_what_is_asked_of_a_checkpoint(data, tmp_path):
    for options, message in (
        ({"epochs": 0}, "expected epochs between checkpoints >= 1, got 0"),
        ({"steps": 1.5}, "expected steps between checkpoints to be an integer"),
        ({"seconds": 0}, "expected seconds between checkpoints > 0"),
        ({"keep": 0}, "expected keep >= 1, got 0"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            bpx.Checkpoint(tmp_path, **options)
    with pytest.raises(TypeError, match="the folder of checkpoints to be a path, got int"):
        network().fit(*data, checkpoint=3)
    with pytest.raises(
        ValueError, match=r"name one without \.safetensors; net\.save\(path\) writes a single file"
    ):
        network().fit(*data, checkpoint=tmp_path / "best.safetensors")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(
        ValueError, match="resume=True needs checkpoint=, the folder to go on from"
    ):
        network().fit(*data, resume=True)


def test_a_state_that_no_file_holds(data, tmp_path):
    class Mine(bpx.Callback):
        def state(self):
            return {"seen": {1, 2}}

        def load_state(self, state):
            pass

    with pytest.raises(
        TypeError, match=r"expected state\(\) of Mine to give arrays and what JSON"
    ):
        network().fit(*data, epochs=1, checkpoint=tmp_path, callbacks=Mine())


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hook", ["on_step_end", "on_epoch_end"])
def test_a_signal_leaves_a_checkpoint(data, tmp_path, number, hook):
    class Press(bpx.Callback):
        pass

    def press(self, run):
        if run.step == 22:
            signal.raise_signal(number)

    setattr(Press, hook, press)
    whole, stopped, resumed = (network() for _ in range(3))
    before = signal.getsignal(number)
    whole.fit(*data, epochs=4, batch_size=5)
    saved = bpx.Checkpoint(tmp_path, epochs=99)
    with ended_by(number):
        stopped.fit(*data, epochs=4, batch_size=5, checkpoint=saved, callbacks=Press())
    assert stopped.history.interrupted
    assert stopped.steps == 22
    assert signal.getsignal(number) is before
    assert names(tmp_path)[-1] == "checkpoint-000000000022.safetensors"
    resumed.fit(*data, epochs=4, batch_size=5, checkpoint=saved, resume=True)
    assert state_of(resumed) == state_of(whole)


@pytest.mark.parametrize("presses", [1, 2])
def test_a_signal_while_a_checkpoint_is_written(data, tmp_path, monkeypatch, presses):
    """The checkpoint is finished; a second Ctrl-C leaves the one before."""
    whole, stopped, resumed = (network() for _ in range(3))
    whole.fit(*data, epochs=4, batch_size=5)
    saved = bpx.Checkpoint(tmp_path, steps=3)
    pressed = []

    def fsync(handle):
        while stopped.steps == 15 and len(pressed) < presses:
            pressed.append(handle)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", fsync)
    if presses == 1:
        with ended_by(signal.SIGINT):
            stopped.fit(*data, epochs=4, batch_size=5, checkpoint=saved)
        assert stopped.history.interrupted
    else:
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(*data, epochs=4, batch_size=5, checkpoint=saved)
    last = f"checkpoint-{16 if presses == 1 else 12:012d}.safetensors"
    assert names(tmp_path)[-1] == last
    resumed.fit(*data, epochs=4, batch_size=5, checkpoint=saved, resume=True)
    assert state_of(resumed) == state_of(whole)


def test_in_another_thread_no_handler_is_set(data, tmp_path):
    found = []
    before = signal.getsignal(signal.SIGTERM)

    def fit():
        network().fit(
            *data, epochs=1, checkpoint=tmp_path,
            callbacks=lambda run: found.append(signal.getsignal(signal.SIGTERM)),
        )  # fmt: skip

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert found == [before]
    network().fit(*data, epochs=1, callbacks=lambda run: found.append(signal.getsignal(15)))
    assert found == [before, before], "without checkpoints SIGTERM ends the process as ever"


# --- disks --------------------------------------------------------------------------------------


def test_a_function_with_a_state_goes_on(data, tmp_path):
    class Counting:
        count = 0

        def __call__(self, run):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def load_state(self, state):
            self.count = state["count"]

    first, then = Counting(), Counting()
    network().fit(*data, epochs=3, checkpoint=tmp_path, callbacks=first)
    network().fit(*data, epochs=5, checkpoint=tmp_path, callbacks=then, resume=True)
    assert (first.count, then.count) == (3, 5)


def test_a_folder_that_cannot_be_listed_does_not_end_the_training(data, tmp_path, monkeypatch):
    found, net = checkpoints._found, network()

    def refuse(folder):
        if found(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return []

    monkeypatch.setattr(checkpoints, "_found", refuse)
    goes_on = (
        r"no old checkpoint was deleted at step \d+, and the training goes on: .*make it read"
    )
    with pytest.warns(RuntimeWarning, match=goes_on) as told:
        net.fit(*data, epochs=2, checkpoint=tmp_path)
    assert {warning.filename for warning in told} == {__file__}
    assert net.epochs == 2
    assert len(list(tmp_path.iterdir())) == 3


def test_a_disk_that_fills_up_does_not_end_the_training(data, tmp_path, monkeypatch):
    whole, net = network(), network()
    whole.fit(*data, epochs=4)
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) > 2:  # the file and the folder of the first one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    goes_on = r"no checkpoint was written at step \d+, and .* one is .*-000000000000\.safetensors$"
    with pytest.warns(RuntimeWarning, match=goes_on) as told:
        net.fit(*data, epochs=4, checkpoint=tmp_path)
    assert {each.filename for each in told} == {__file__}
    assert state_of(net) == state_of(whole)
    assert names(tmp_path) == ["checkpoint-000000000000.safetensors"]
    monkeypatch.undo()
    resumed = network(seed=9)
    resumed.fit(*data, epochs=4, checkpoint=tmp_path, resume=True)
    assert state_of(resumed) == state_of(whole)


def test_a_folder_that_vanishes_is_a_warning(data, tmp_path):
    whole, net = network(), network()
    whole.fit(*data, epochs=3)

    def vanish(run):
        if run.epoch == 1:
            (tmp_path / "run").rename(tmp_path / "elsewhere")

    gone = r"there is no folder .*run; make it first\. The earlier ones were in it$"
    with pytest.warns(RuntimeWarning, match=gone):
        net.fit(*data, epochs=3, checkpoint=tmp_path / "run", callbacks=vanish)
    assert state_of(net) == state_of(whole)
    assert names(tmp_path) == ["elsewhere"]


def test_a_folder_that_cannot_be_written_to_is_told_first(data, tmp_path, monkeypatch):
    net = network()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        net.fit(*data, checkpoint=tmp_path / "file")

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"cannot write .*checkpoint-0+\.safetensors: Permission"):
        net.fit(*data, checkpoint=tmp_path / "run")
    assert names(tmp_path / "run") == []
    assert net.steps == 0


# --- damaged and hostile files ------------------------------------------------------------------


@pytest.fixture
def one(data, tmp_path):
    """A checkpoint in the middle of an epoch, alone in its folder."""

    def fit(**options):
        return network().fit(
            *data, epochs=3, batch_size=5, optimizer=bpx.Adam(), validation=data,
            checkpoint=bpx.Checkpoint(tmp_path, steps=4, keep=1), **options,
        )  # fmt: skip

    with pytest.raises(Killed):
        fit(callbacks=[bpx.EarlyStopping(9), KillAt(2)])
    (name,) = names(tmp_path)
    return tmp_path / name, lambda: fit(callbacks=bpx.EarlyStopping(9), resume=True)


def test_any_field_of_a_checkpoint_may_be_wrong(one):
    """Whatever is put in the place of any value, `fit` goes on or says what is wrong with it."""
    path, go_on = one
    tensors, header = persistence.read(path)
    content = path.read_bytes()

    refused = 0
    for wrong in damaged(header, (None, -1, "x", [[1]], 10**30), ("training",)):
        persistence.write(path, tensors, wrong)
        try:
            go_on()
        except ValueError as error:  # FileFormatError is one
            refused += path.name in str(error)
        for other in path.parent.iterdir():
            other.unlink()
    assert refused > 100
    path.write_bytes(content)
    go_on()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("training.log", np.zeros((5, 2)), r"expected a log of \(\d+, 3\)"),
        ("training.log", np.full((1, 3), np.nan), r"expected a log of"),
        ("training.history", np.zeros((2, 1)), "does not describe a run"),
        ("training.history", np.zeros(8), "does not describe a run"),
        ("training.history", np.full((7, 1), np.nan), "does not describe a run"),
        ("training.history", np.full((7, 1), np.inf), "does not describe a run"),
        ("training.more", np.zeros(3), "tensors that no run writes: training.more"),
        ("training.optimizer.mean.layers.0.weights", np.zeros((5, 5)), r"has shape \(5, 5\)"),
        ("training.optimizer.mean.layers.0.bias", np.full(5, np.inf), "has NaN or infinity"),
        ("training.callbacks.0.parameters", np.zeros(3), "state of EarlyStopping does not fit"),
    ],
)
def test_tensors_that_do_not_fit(one, name, tensor, message):
    path, go_on = one
    tensors, header = persistence.read(path)
    persistence.write(path, tensors | {name: tensor}, header)
    with pytest.raises(bpx.FileFormatError, match=message):
        go_on()
    if name == "training.history":
        with pytest.raises(bpx.FileFormatError, match=message):
            bpx.load(path)


def test_a_factor_of_the_rate_is_not_negative(one):
    """Otherwise the run would go uphill."""
    path, go_on = one
    tensors, header = persistence.read(path)
    header["training"]["optimizer"]["factor"] = -1.0
    persistence.write(path, tensors, header)
    with pytest.raises(bpx.FileFormatError, match=r"expected factor >= 0, got -1\.0"):
        go_on()


@pytest.mark.parametrize("which", ["source", "validation"])
def test_a_state_of_the_data_that_does_not_fit(data, tmp_path, which):
    def fit(**options):
        batches = bpx.batches(*data, 5, seed=1)
        network().fit(batches, validation=batches, epochs=1, checkpoint=tmp_path, **options)

    fit()
    path = tmp_path / names(tmp_path)[-1]
    tensors, header = persistence.read(path)
    header["training"]["epoch"][which] = {"bit_generator": "PCG64", "state": 3}
    persistence.write(path, tensors, header)
    with pytest.raises(bpx.FileFormatError, match="the state of the data does not fit it"):
        fit(resume=True)


def test_a_network_alone_is_no_checkpoint(data, tmp_path):
    network().save(tmp_path / "checkpoint-000000000001.safetensors")
    with pytest.raises(
        bpx.FileFormatError, match=r"is not a checkpoint, only a network: use bpx.load.path.$"
    ):
        network().fit(*data, checkpoint=tmp_path, resume=True)


# --- other versions -----------------------------------------------------------------------------


def rewritten(folder, change):
    """As another version would have written its checkpoints: their headers changed in place."""
    for name in names(folder):
        tensors, header = persistence.read(folder / name)
        change(tensors, header, header["training"])
        persistence.write(folder / name, tensors, header)


def leave_out(tensors, header, run):
    """What a later version would have added."""
    for name in ("version", "undecided", "larger_is_better", "stopped", "begun"):
        del run[name]
    for name in ("digest", "seconds"):
        del run["epoch"][name]
    for name in ("l1", "clip_norm"):
        del run["arguments"][name]
    for layer in header["layers"]:
        layer.pop("use_bias", None)
    table = tensors.pop("training.history", np.empty((0, 0))).tolist()
    run["history"] = dict(zip(run["history"], table, strict=True))  # as they were written once
    if run["history"]:
        run["history"]["epoch"] = [*map(int, run["history"]["epoch"])]


def add(tensors, header, run):
    """What a later version writes of something that was not asked for."""
    run["version"] = "9.0"
    run["arguments"] |= {"averaging": 0.0, "of it": []}


@pytest.mark.parametrize("change", [leave_out, add])
def test_a_run_of_another_version_goes_on(data, tmp_path, change):
    whole, resumed = network(), network(seed=5)
    whole.fit(*data, epochs=4)
    network().fit(*data, epochs=2, checkpoint=tmp_path)
    rewritten(tmp_path, change)
    resumed.fit(*data, epochs=4, checkpoint=tmp_path, resume=True)
    assert state_of(resumed) == state_of(whole)


def of_another(tensors, header, run):
    run["version"] = "9.0"
    del run["optimizer"]


def with_a_layer_of_another(tensors, header, run):
    run["version"] = "9.0"
    header["layers"][0]["name"] = "of-the-future"


def without_a_version(tensors, header, run):
    del run["version"], run["callbacks"]


def with_other_arguments(tensors, header, run):
    run["version"] = "0.0.1"
    run["arguments"]["optimizer"] = "SGD(0.1)"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            of_another,
            bpx.FileFormatError,
            r"KeyError\('optimizer'\)\)\. The file is not damaged: i",
        ),
        (of_another, bpx.FileFormatError, "is a checkpoint of bpx 9.0, and this is .*Resume with"),
        (with_a_layer_of_another, bpx.FileFormatError, "'of-the-future'.* is a checkpoint of bpx"),
        (without_a_version, bpx.FileFormatError, "checkpoint of bpx of an unknown version, and t"),
        (
            with_other_arguments,
            ValueError,
            r"optimizer was 'SGD\(0.1\)' and .*; bpx was 0.0.1 and",
        ),
    ],
)
def test_what_another_version_wrote_is_not_called_damaged(data, tmp_path, change, error, message):
    network().fit(*data, epochs=2, checkpoint=tmp_path)
    rewritten(tmp_path, change)
    before = names(tmp_path)
    with pytest.raises(error, match=message) as told:
        network().fit(*data, epochs=4, checkpoint=tmp_path, resume=True)
    assert "are damaged" not in str(told.value)
    assert "delete" not in str(told.value)
    assert names(tmp_path) == before


def test_another_format_is_not_called_damaged(data, tmp_path, monkeypatch):
    network().fit(*data, epochs=1, checkpoint=tmp_path)
    monkeypatch.setattr(persistence, "FORMAT_VERSION", 0)
    with pytest.raises(bpx.FileFormatError, match=r"^\S+\.safetensors was written by a later"):
        network().fit(*data, epochs=2, checkpoint=tmp_path, resume=True)


def test_a_killed_process_goes_on(data, tmp_path):
    """SIGKILL while a checkpoint is written after every step."""
    for folder in (tmp_path, tmp_path / "whole"):
        folder.mkdir(exist_ok=True)
        np.savez(folder / "data.npz", x=data[0], y=data[1])
    program = """
import os, sys, numpy as np, bpx
folder, resume = sys.argv[1], len(sys.argv) > 2
data = np.load(f"{folder}/data.npz")
net = bpx.Network([6, 5, 3], seed=1)
class Print(bpx.Callback):
    def on_step_end(self, run):
        if not resume:
            print(run.step, flush=True)
history = net.fit(data["x"], data["y"], epochs=20 if resume else 10**6, batch_size=5,
                  checkpoint=bpx.Checkpoint(f"{folder}/run", steps=1), resume=True,
                  callbacks=Print())
net.save(f"{folder}/net.safetensors")
"""
    start = [sys.executable, "-c", program]
    command = [*start, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if int(line) == 50:
                running.kill()
                break
    subprocess.run([*command, "resume"], check=True)
    # In a process too: with --standard-kernels this one adds in another order.
    subprocess.run([*start, str(tmp_path / "whole"), "resume"], check=True)
    found, whole = (
        bpx.load(folder / "net.safetensors") for folder in (tmp_path, tmp_path / "whole")
    )
    assert np.array_equal(found.parameters, whole.parameters)


def test_other_data_of_the_same_shape_are_refused(backend, put, data, tmp_path):
    x, y = data
    network(backend).fit(put(x), put(y), epochs=1, checkpoint=tmp_path)
    for others in ((x + 1e-9, y), (x, (y + 1) % 3)):
        with pytest.raises(ValueError, match=r"another run: the training data have changed: some"):
            network(backend).fit(*map(put, others), epochs=2, checkpoint=tmp_path, resume=True)
    network(backend).fit(put(x), put(y), epochs=2, checkpoint=tmp_path, resume=True)


def test_other_sparse_data_are_refused(data, tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    x, y = data
    first, other = sparse.csr_array(x * (x > 0.5)), sparse.csr_array(x * (x > 0.6))
    net = bpx.Network([6, 3], seed=0)
    net.fit(first, y, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="data have changed: some samples have other values"):
        bpx.Network([6, 3], seed=0).fit(other, y, epochs=2, checkpoint=tmp_path, resume=True)


def test_other_weights_are_refused(data, tmp_path):
    weight, options = np.linspace(0.5, 1.0, 53), {"checkpoint": tmp_path}
    network().fit(*data, sample_weight=weight, epochs=1, **options)
    with pytest.raises(ValueError, match="data have changed: some samples have other values"):
        network().fit(*data, sample_weight=weight[::-1], epochs=2, resume=True, **options)


def test_fewer_mini_batches_than_are_done(data, tmp_path):
    pieces = [(data[0][i : i + 9], data[1][i : i + 9]) for i in range(0, 53, 9)]
    saved = bpx.Checkpoint(tmp_path, steps=4)

    class Kill(bpx.Callback):
        def on_step_end(self, run):
            if run.step == 5:
                raise Killed

    with pytest.raises(Killed):
        network().fit(pieces, epochs=1, checkpoint=saved, callbacks=Kill())
    with pytest.raises(ValueError, match="an epoch has 3 steps, and 4 are done"):
        network().fit(pieces[:3], epochs=1, checkpoint=saved, resume=True)


def test_the_end_of_an_epoch_of_unknown_length(data, tmp_path):
    class Own:
        def __iter__(self):
            return ((data[0][i : i + 10], data[1][i : i + 10]) for i in range(0, 40, 10))

    def fit(net, *more, **options):
        net.fit(Own(), epochs=6, callbacks=more, **options)

    _, resumed = ends_alike(network, fit, bpx.Checkpoint(tmp_path, steps=4))
    assert resumed.history.epochs == 6


def test_an_error_of_ones_own_shuffle(data, tmp_path):
    options = {"batch_size": 5, "checkpoint": tmp_path}
    network().fit(*data, epochs=1, shuffle=lambda: np.arange(53), **options)

    def lost():
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        network().fit(*data, epochs=2, shuffle=lost, resume=True, **options)


def test_masks_in_another_precision(rehearsed, data, tmp_path):
    def fit(net, *more, **options):
        options |= {"batch_size": 5, "precision": "float16"}
        net.fit(*data, epochs=6, callbacks=more, **options)

    ends_alike(lambda seed=1: network(rehearsed, seed=seed), fit, tmp_path)


def test_what_was_half_written_is_deleted_too(data, tmp_path):
    network().fit(*data, epochs=1, checkpoint=tmp_path)
    (tmp_path / ".bpx-0123456789abcdef.tmp").touch()
    checkpoints.delete(tmp_path)
    assert not tmp_path.exists()


def test_a_run_goes_on_in_another_library(rng, tmp_path):
    pytest.importorskip("torch", reason="it is the other library")
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(3, size=40)
    for backend, epochs in (("numpy", 1), ("torch", 2), ("numpy", 3)):
        net = bpx.Network([4, 3], seed=0, backend=backend)
        net.fit(x, y, epochs=epochs, checkpoint=tmp_path, resume=True)
        assert net.epochs == epochs
