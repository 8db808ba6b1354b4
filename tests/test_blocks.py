"""Data on disk: the numbers of training in memory, within a budget, and what can go wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from decimal import Decimal

import numpy as np
import pytest

import bpx
from bpx import handover, layers
from bpx.backends._numpy import NumpyBackend
from bpx.backends._slot import Slot
from bpx.cli import tables
from bpx.data.blocks import Blocks
from bpx.data.readers import Joined, _csv
from bpx.training.sources import Arrays, Windows, of_samples

N, SMALL = 500, 60_000  # bytes, in which a window holds about 200 rows of 12 float64
SIZES = (12, 8, 3)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 12)), rng.integers(3, size=N), rng.random(N)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("bpx-blocks")]


@pytest.fixture
def path(samples, tmp_path):
    np.save(tmp_path / "x.npy", samples[0])
    return tmp_path / "x.npy"


def network(backend="numpy", seed=0):
    return bpx.Network(SIZES, backend=backend, dtype="float64", seed=seed)


def source(net, data, batch_size=7, shuffle=True, **options):
    found = of_samples(net, data, None, batch_size=batch_size, shuffle=shuffle, **options)
    assert isinstance(found, Windows)
    return found


def test_a_buffer_is_left_before_it_is_written_to_again(samples, path, monkeypatch):
    """On a device, what is queued on the buffer is waited for; the rehearsal has no queue."""
    noted = []

    class Noted(Slot):
        def moved(self, rows):
            noted.append(("moved", id(self)))
            return super().moved(rows)

        def left(self):
            noted.append(("left", id(self)))

    monkeypatch.setattr(NumpyBackend, "slot", lambda *of: Noted(*of))
    network(NumpyBackend()).feedforward(bpx.open_data(path, budget=SMALL))
    windows = [slot for what, slot in noted if what == "moved"]
    assert len(windows) > 2
    assert windows[:-2] == windows[2:]
    for again, slot in enumerate(windows[2:], 2):
        at = [k for k, (what, _) in enumerate(noted) if what == "moved"][again]
        before = [what for what, which in noted[:at] if which == slot]
        assert before[-1] == "left"


@pytest.mark.parametrize("m", [7, 64])
def test_in_the_files_order_it_is_training_in_memory(backend, samples, path, host, m):
    x, y, weight = samples
    options = {"epochs": 2, "batch_size": m, "shuffle": False, "optimizer": bpx.SGD(0.1, 0.9)}
    options |= {"l2": 0.3, "validation": (x[:50], y[:50]), "sample_weight": weight}
    one, other = network(backend), network(backend)
    expected = one.fit(x, y, **options)
    found = other.fit(bpx.open_data(path, budget=SMALL), y, **options)
    # Arrays of a device may go by recorded or compiled steps, which add in another order.
    off = np.abs(host(other.parameters) - host(one.parameters)).max()
    assert off <= (0.0 if backend.is_host else 1e-13)
    assert one.steps == other.steps
    for name in ("training_cost", "training_accuracy", "validation_cost"):
        assert found[name] == pytest.approx(expected[name], rel=1e-12)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_last_mini_batch_that_is_left_out(backend, samples, path, host, shuffle):
    x, y, _ = samples
    m = 83  # 500 rows are six of them and two rows, and windows end within some
    options = {"epochs": 2, "batch_size": m, "drop_last": True, "l2": 0.3, "n": N}
    one, other = network(backend), network(backend)
    found = other.fit(bpx.open_data(path, y, budget=SMALL), shuffle=shuffle, **options)
    assert other.steps == 12
    windows = source(other, bpx.open_data(path, y, budget=SMALL), m, drop_last=True)
    counts = [len(order) for _, order in windows.parts(windows.order(), first=1)]
    assert sum(counts) == 5 * m
    assert all(count and count % m == 0 for count in counts)
    if not shuffle:
        expected = one.fit(x[: 6 * m], y[: 6 * m], shuffle=False, **options)
        off = np.abs(host(other.parameters) - host(one.parameters)).max()
        assert off <= (0.0 if backend.is_host else 1e-13)
        assert found["training_cost"] == pytest.approx(expected["training_cost"], rel=1e-12)


def written(kind, folder, x):
    """x in each form that `open_data` takes."""
    path = folder / f"x.{kind}"
    if kind in ("h5", "zarr"):
        library = pytest.importorskip({"h5": "h5py"}.get(kind, kind), reason=f"no {kind}")
        if kind == "h5":
            file = library.File(path, "w")
            return file.create_dataset("x", data=x, chunks=(2, 12))
        return library.create_array(str(path), data=x, chunks=(2, 12))
    if kind == "npz":
        np.savez(path, x=x, y=np.arange(len(x)) % 3)
    elif kind in ("parquet", "csv"):
        arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        columns = {f"c{k}": x[:, k] for k in range(12)} | {"label": np.arange(len(x)) % 3}
        table = arrow.table(columns | {"w": np.ones(len(x))})
        if kind == "parquet":
            import pyarrow.parquet as parquet

            parquet.write_table(table, path, row_group_size=20)
        else:
            from pyarrow import csv

            csv.write_csv(table, path)
    else:
        order = ">" if kind == "big-endian" else "="
        np.save(folder / "x.npy", x.astype(x.dtype.newbyteorder(order)))
        mapped = np.load(folder / "x.npy", mmap_mode="r")
        return mapped if kind == "map" else folder / "x.npy"
    return path


@pytest.mark.parametrize("kind", ["npz", "map", "big-endian", "parquet", "csv", "h5", "zarr"])
def test_what_it_reads(samples, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(_csv, "LINES", 2000)
    x, y = samples[0], np.arange(N) % 3
    given = written(kind, tmp_path, x)
    if kind in ("parquet", "csv"):
        arguments = {"target": "label", "sample_weight": "w"}
    else:
        arguments = {} if kind == "npz" else {"y": y}
    data = bpx.open_data(given, budget="50 kB", **arguments)
    assert (data.n, data.shape) == (N, (N, 12))
    assert np.array_equal(data.y, y)
    one, other = network(), network()
    one.fit(x, y, epochs=1, shuffle=False, sample_weight=data.sample_weight)
    assert isinstance(source(network(), data), Windows)
    other.fit(data, epochs=1, shuffle=False)
    assert np.array_equal(one.parameters, other.parameters)
    borders = data.plan(10, 16).borders
    assert kind not in ("h5", "zarr") or not (borders[:-1] % 2).any(), "whole chunks"


def test_a_part_of_a_memory_map_and_columns_of_a_table(samples, path, tmp_path):
    mapped = np.load(path, mmap_mode="r")
    for part in (mapped[100:300], mapped[3:], mapped[::2], mapped[:, :3], mapped[5:, 1:4]):
        data = bpx.open_data(part, budget="1 MB")
        assert np.array_equal(data.read(True), np.asarray(part))
    table = written("parquet", tmp_path, samples[0])
    data = bpx.open_data(table, target=["c0", "w"], columns=["c3", "c1"], budget="1 MB")
    assert np.array_equal(data.read(True), samples[0][:, [3, 1]])
    assert np.array_equal(data.y, np.c_[samples[0][:, 0], np.ones(N)])


def test_a_budget_counts_what_the_text_of_a_csv_takes(samples, tmp_path):
    """While a block is parsed, its lines and their cells are in memory too."""
    data = bpx.open_data(written("csv", tmp_path, samples[0]), target="w", budget="100 kB")
    with pytest.raises(ValueError, match=r"besides 6\d{5} bytes for y and for reading"):
        bpx.Network([13, 2, 1], seed=0).fit(data, epochs=1)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no list of open files here")
@pytest.mark.parametrize("then", ["deleted", "replaced"])
def test_a_memory_map_whose_file_is_gone(samples, path, then):
    """What is in the map is read, and no other file of that name."""
    mapped = np.load(path, mmap_mode="r")
    if then == "deleted":
        path.unlink()
    else:
        np.save(path.with_name("new.npy"), np.zeros((N, 12)))
        os.replace(path.with_name("new.npy"), path)
    data = bpx.open_data(mapped, samples[1], budget=SMALL)
    assert np.array_equal(data.read(True), samples[0])
    assert isinstance(source(network(), data), Windows)
    given = handover.Handover(path.parent).shared(mapped)
    assert np.array_equal(handover.unpickled(handover.pickled(given))[0], samples[0])


@pytest.mark.parametrize("as_map", [False, True])
def test_a_file_that_is_replaced_in_a_run(samples, path, as_map):
    """By one of the same size, between two windows."""

    def replace(run):
        np.save(path.with_name("new.npy"), np.zeros((N, 12)))
        os.utime(path.with_name("new.npy"), ns=(0, 0))  # without waiting for a clock's next tick
        os.replace(path.with_name("new.npy"), path)

    given = np.load(path, mmap_mode="r") if as_map else path
    data = bpx.open_data(given, samples[1], budget=SMALL)
    with pytest.raises(OSError, match=r"has been replaced or written to: open the data again"):
        network().fit(data, callbacks=replace)


def test_a_map_that_is_written_to_in_a_run(samples, path):
    """Its owner may: what is read is what is there."""
    mapped = np.load(path, mmap_mode="r+")

    def write(run):
        mapped[:] = 1.0
        mapped.flush()

    net, again = network(), network()
    net.fit(bpx.open_data(mapped, samples[1], budget=SMALL), epochs=2, callbacks=write)
    for x in samples[0], np.ones_like(samples[0]):
        again.fit(bpx.open_data(x, samples[1], budget=SMALL), epochs=1)
    assert np.array_equal(net.parameters, again.parameters)


def test_a_thread_that_outlives_the_main_one(path):
    """It trains on, in windows and by L-BFGS."""
    program = """
import sys, threading
import numpy as np
import scipy.optimize  # which itself cannot be imported later
import bpx
from bpx import chain, lbfgs
from bpx.backends import _numpy

def train():
    threading.main_thread().join()
    y = np.arange(500) % 3
    net = bpx.Network([12, 3], dtype="float64", seed=0)
    net.fit(bpx.open_data(sys.argv[1], y, budget=60_000), epochs=1)
    chain.ROWS_AT_ONCE = 100
    _numpy.NumpyBackend.cores = 2
    net = bpx.Network([12, 3], dtype="float64", seed=0)
    given = net.samples(np.load(sys.argv[1]), y)
    lbfgs.minimize(net, given, l2=0.0, max_iter=2, max_fun=9, tol=1e-9)
    print("trained")

threading.Thread(target=train).start()
"""
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        env=os.environ | {"BPX_FAST": "0"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "trained\n", done.stderr


def test_uint8_is_scaled_as_it_is_gathered(tmp_path):
    x, y = np.random.default_rng(0).integers(256, size=(N, 12), dtype=np.uint8), np.arange(N) % 3
    np.save(tmp_path / "x.npy", x)
    chain = [layers.Input(12), layers.Rescale(1 / 255), layers.Dense(3, "softmax")]
    one, other = (bpx.Network(chain, seed=0) for _ in range(2))
    one.fit(x, y, epochs=2, shuffle=False)
    other.fit(bpx.open_data(tmp_path / "x.npy", y, budget="20 kB"), epochs=2, shuffle=False)
    assert np.array_equal(one.parameters, other.parameters)


def test_what_fits_is_known_to_the_byte(path):
    small, large = (bpx.open_data(path).reader for _ in range(2))
    small.beside, large.beside = 100, 3000
    for reader in (large, Joined([small, large])):
        needed = reader.shape[0] * (12 * 8 + 2 * 16 + 32) + 3000
        assert Blocks(reader, None, None, needed).fits(16)
        assert not Blocks(reader, None, None, needed - 1).fits(16)


def test_what_fits_into_the_budget_is_shuffled_as_a_whole(samples, path):
    one, other = network(), network()
    one.fit(*samples[:2], epochs=2)
    other.fit(bpx.open_data(path, samples[1]), epochs=2)
    assert np.array_equal(one.parameters, other.parameters)


def rows_of(found, order, first=0):
    """The data's own row numbers in each mini-batch; x has them in its first column."""
    batches = []
    for part, rows in found.parts(order, first):
        assert isinstance(part, Arrays)
        batches += [part.samples.x[batch[0], 0].astype(int).tolist() for batch in
                    part.batches(rows)]  # fmt: skip
    return batches


def test_an_epoch_is_all_rows_shuffled_and_a_function_of_generator_and_step(samples, tmp_path):
    x = samples[0].copy()
    x[:, 0] = np.arange(N)
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", samples[1], budget=SMALL)
    one, other = source(network(), data), source(network(), data)
    first, second = (rows_of(one, one.order()) for _ in range(2))
    assert first == rows_of(other, other.order())
    assert second != first
    assert [len(batch) for batch in first] == [7] * (N // 7) + [N % 7]
    flat = np.concatenate(first)
    assert np.array_equal(np.sort(flat), np.arange(N))
    assert np.corrcoef(flat, np.arange(N))[0, 1] < 0.5
    assert np.ptp(np.bincount(flat[:150] // 50)) < 15, "a window is from all over the file"
    seed = one.order()
    whole = rows_of(one, seed)
    for step in (0, 1, 13, 40, len(whole) - 1):
        assert rows_of(one, seed, step) == whole[step:]


def test_samples_that_are_held_out(samples, tmp_path):
    x = samples[0].copy()
    x[:, 0] = np.arange(N)
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", np.arange(N), budget=SMALL)
    data, (tx, ty) = data.hold_out(40, seed=1)
    data, (vx, vy) = data.hold_out(60, seed=2)
    assert np.array_equal(vx, x[vy])
    assert np.array_equal(tx, x[ty])
    assert data.n == len(data.y) == 400
    left = np.setdiff1d(np.arange(N), [*ty, *vy])
    assert np.array_equal(data.y, left)
    assert np.array_equal(data.read(True), x[left])
    found = source(network(), Blocks(data.reader, data.y % 3, None, 40_000, data.kept))
    for part, order in found.parts(found.order()):
        assert np.array_equal(part.samples.y[order], part.samples.x[order, 0] % 3)
    batches = rows_of(found, found.order())
    assert np.array_equal(np.sort(np.concatenate(batches)), left)
    with pytest.raises(ValueError, match="expected n < 400, the number of samples, got 400"):
        data.hold_out(400)


def test_training_repeats_itself_and_stays_within_the_budget(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20_000, 50)).astype(np.float32), rng.integers(3, size=20_000)
    np.save(tmp_path / "x.npy", x)
    data = bpx.open_data(tmp_path / "x.npy", y, budget="1 MB")
    one, other = (bpx.Network([50, 10, 3], seed=0) for _ in range(2))
    one.fit(data, batch_size=50, epochs=1)
    tracemalloc.start()
    try:
        other.fit(data, batch_size=50, epochs=1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(one.parameters, other.parameters)
    assert most < 1_200_000, "the budget, and the network with its buffers"
    assert most > 600_000, "the budget is used"


def test_a_disk_is_told_of_a_window_before_it_is_read(samples, path, monkeypatch):
    told, size = [], os.path.getsize(path)

    def noted(file, at, size, what):
        told.append((at, at + size))
        assert what == os.POSIX_FADV_WILLNEED
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "posix_fadvise", noted, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    data = bpx.open_data(path, samples[1], budget=SMALL)
    network().fit(data, epochs=1, batch_size=7)
    assert len(told) > 1  # each time of the first piece: then the system refused
    monkeypatch.setattr(os, "posix_fadvise", lambda *of: told.append((of[1], of[1] + of[2])))
    told.clear()
    losses = network().fit(data, epochs=1, batch_size=7)["training_cost"]
    starts, stops = zip(*sorted(told), strict=True)
    assert (starts[0], stops[-1]) == (size - samples[0].nbytes, size)
    assert starts[1:] == stops[:-1]
    monkeypatch.delattr(os, "posix_fadvise")
    assert network().fit(data, epochs=1, batch_size=7)["training_cost"] == losses


@pytest.mark.parametrize("fast", [True, False])
def test_divergence_counts_the_steps_of_the_epoch(samples, tmp_path, fast):
    x = samples[0].copy()
    x[333] = np.nan
    np.save(tmp_path / "x.npy", x)
    net, twin = (network(None if fast else NumpyBackend()) for _ in range(2))
    data = bpx.open_data(tmp_path / "x.npy", samples[1], budget=SMALL)
    with pytest.raises(bpx.DivergenceError, match="step 34 of epoch 1, first in the inputs"):
        net.fit(data, shuffle=False, check_finite=False)
    twin.fit(samples[0][:330], samples[1][:330], epochs=1, shuffle=False)
    assert np.array_equal(net.parameters, twin.parameters)
    with pytest.raises(ValueError, match=r"x.npy, block \d+ \(rows .* infinity, first in row 333"):
        network().fit(data)


@pytest.mark.parametrize("budget", [SMALL, "1 MB"])
def test_numbers_that_float32_does_not_hold(samples, path, budget):
    """They are for a network of float64, also when another one has refused them."""
    mapped = np.load(path, mmap_mode="r+")
    mapped[3, 0] = 1e39
    mapped.flush()
    data, narrow = bpx.open_data(path, samples[1], budget=budget), bpx.Network(SIZES, seed=0)
    for refuse in (narrow.fit, narrow.predict):
        with pytest.raises(ValueError, match="that float32 does not hold, first in row 3"):
            refuse(data)
    assert len(network().predict(data)) == N


def test_a_number_that_is_missing_is_told_by_row_and_column(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="it writes Parquet")
    from pyarrow import parquet

    columns = {name: np.arange(500.0) for name in ("area", "rooms", "age")}
    columns["rooms"][321] = np.nan
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet", row_group_size=100)
    net = bpx.Network([2, 1], output="identity")
    with pytest.raises(ValueError, match=r"infinity, first in row 321, column 'rooms': fill in"):
        net.fit(bpx.open_data(tmp_path / "a.parquet", target="age"))
    with pytest.raises(ValueError, match=r"in x, first in row 321, column 'rooms': fill it"):
        tables.read(tmp_path / "a.parquet", "age")
    with pytest.raises(ValueError, match=r"the targets, first in row 321, column 'rooms': fill"):
        tables.read(tmp_path / "a.parquet", "age,rooms")


class Failing:
    """An array that cannot be read from some row on."""

    def __init__(self, x, row, change=None):
        self.x, self.row, self.shape, self.dtype, self.change = x, row, x.shape, x.dtype, change

    def __getitem__(self, rows):
        if rows.stop > self.row:
            raise RuntimeError("the disk is on fire")
        return self.x[rows]


def test_what_fails_on_the_thread_is_told_in_fit(samples):
    net, twin = network(), network()
    data = bpx.open_data(Failing(samples[0], 400), samples[1], budget=SMALL)
    with pytest.raises(
        OSError, match=r"Failing, block \d+ \(rows 400 to .* read: the disk is on fire"
    ):
        net.fit(data, shuffle=False)
    assert 100 < 10 * net.steps < 400
    done = slice(0, 10 * net.steps)
    twin.fit(samples[0][done], samples[1][done], epochs=1, shuffle=False)
    assert np.array_equal(net.parameters, twin.parameters)


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_a_file_that_changes_its_size(samples, path, size):
    net = network()
    data = bpx.open_data(path, samples[1], budget=SMALL)
    with pytest.raises(OSError, match=rf"the file has {size} bytes and had .*: open the"):
        net.fit(data, callbacks=lambda run: os.truncate(path, size))
    assert net.epochs == 1
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("kind", ["parquet", "csv", "npz"])
def test_a_file_that_is_replaced_while_it_is_used(samples, tmp_path, monkeypatch, kind):
    x = samples[0]
    monkeypatch.setattr(_csv, "LINES", 2000)
    path = written(kind, tmp_path, x)
    arguments = {} if kind == "npz" else {"target": "label", "sample_weight": "w"}
    data = bpx.open_data(path, budget="50 kB", **arguments)
    net = bpx.Network([data.shape[1], 8, 3], seed=0)

    def replace(run):
        (tmp_path / "new").mkdir(exist_ok=True)
        written(kind, tmp_path / "new", x[:, ::-1].copy()).rename(path)

    message = rf"x\.{kind}.*: the file has (been|.*bytes and had)"
    with pytest.raises(OSError, match=message):
        net.fit(data, epochs=3, callbacks=replace)
    assert net.epochs == 1


def parts(kind, folder, x):
    """x as several files, of which the second is small."""
    (folder / "parts").mkdir()
    found = []
    for at, rows in enumerate((slice(0, 220), slice(220, 230), slice(230, N))):
        own = folder / f"{at}"
        own.mkdir()
        path = written(kind, own, x[rows])
        # `written` numbers the labels of each file from 0.
        found.append(path.rename(folder / "parts" / f"{at}.{kind}"))
    return found


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "csv"])
@pytest.mark.parametrize("given", ["a list", "a folder"])
def test_files_one_after_another(samples, tmp_path, monkeypatch, kind, given):
    monkeypatch.setattr(_csv, "LINES", 2000)
    x = samples[0]
    y = np.concatenate([np.arange(n) % 3 for n in (220, 10, 270)])
    paths = parts(kind, tmp_path, x)
    (tmp_path / "parts" / "_SUCCESS").write_text("")
    (tmp_path / "parts" / "notes.txt").write_text("")
    arguments = {}
    if kind in ("parquet", "csv"):
        arguments = {"target": "label", "sample_weight": "w"}
    elif kind == "npy":
        labels = [tmp_path / f"y{k}.npy" for k in range(2)]
        np.save(labels[0], y[:100])
        np.save(labels[1], y[100:])
        arguments = {"y": labels}
    data = bpx.open_data(
        paths if given == "a list" else tmp_path / "parts", budget="60 kB", **arguments
    )
    assert (data.n, data.shape) == (N, (N, 12))
    assert f"0.{kind} and 2 more" in repr(data)
    assert np.array_equal(data.y, y)
    assert np.array_equal(data.read(True), x)
    one, other = network(), network()
    weight = data.sample_weight
    one.fit(x, y, epochs=1, shuffle=False, sample_weight=weight)
    assert isinstance(source(network(), data), Windows)
    other.fit(data, epochs=1, shuffle=False)
    assert np.array_equal(one.parameters, other.parameters)
    seen = np.zeros_like(x)
    for piece, rows in data.in_order(NumpyBackend(), 8):
        seen[rows] = piece
    assert np.array_equal(seen, x)
    if kind == "npy":  # whose blocks are those of one file, wherever files end
        np.save(tmp_path / "whole.npy", x)
        whole = bpx.open_data(tmp_path / "whole.npy", y, budget="60 kB")
        for net, its in ((one := network(), whole), (other := network(), data)):
            net.fit(its, epochs=2)
        assert np.array_equal(one.parameters, other.parameters)


def test_decimals_and_dates_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    from pyarrow import parquet

    price = arrow.array(map(Decimal, ["1.25", "-3.50", "7.00"]), arrow.decimal128(5, 2))
    columns = {"price": price, "cost": price.cast(arrow.decimal256(40, 3)), "n": [1, 2, 3]}
    parquet.write_table(arrow.table(columns), path := tmp_path / "a.parquet")
    data = bpx.open_data(path, target="cost", columns=["price", "n"])
    assert data.read(True).tolist() == [[1.25, 1.0], [-3.5, 2.0], [7.0, 3.0]]
    assert data.y.tolist() == [1.25, -3.5, 7.0]
    columns["price"] = arrow.array([*price[:2].to_pylist(), None], price.type)
    columns["day"] = arrow.array([0, 1, 2], arrow.date32())
    columns["time"] = arrow.array([0, 1, 2], arrow.timestamp("ms"))
    parquet.write_table(arrow.table(columns), path)
    with pytest.raises(ValueError, match=r"first in row 2, column 'price'"):
        bpx.open_data(path, columns=["price", "n"]).read(True)
    for name, others in (("day", ["n"]), ("n", ["time"])):
        with pytest.raises(TypeError, match=r"numbers; write it as a number, such as the days si"):
            bpx.open_data(path, target=name, columns=others)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_classes_of_several_files(tmp_path, kind):
    """Numbered when all are read: the first file does not know the names of the second."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet
    from pyarrow import csv

    paths = []
    for at, names in enumerate((["dog", "cat"], ["ape", "dog"])):
        paths.append(tmp_path / f"{at}.{kind}")
        table = arrow.table({"a": [1.0, 2.0], "y": names})
        (parquet.write_table if kind == "parquet" else csv.write_csv)(table, paths[-1])
    data = bpx.open_data(paths, target="y")
    assert (data.y.tolist(), data.classes) == ([2, 1, 0, 2], ("ape", "cat", "dog"))
    table = arrow.table({"a": [1.0], "y": [3.0]})
    (parquet.write_table if kind == "parquet" else csv.write_csv)(table, paths[-1])
    with pytest.raises(
        ValueError, match=rf"column 'y' is text in .*0\.{kind}, and numbers in .*1"
    ):
        bpx.open_data(paths, target="y")


def test_files_that_do_not_go_together(samples, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    np.save(tmp_path / "c.npy", np.zeros((3, 2), np.float32))
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)))
    (tmp_path / "none").mkdir()
    a, b, c, d = (tmp_path / name for name in ("a.npy", "b.npy", "c.npy", "d.npz"))
    for given, message in (
        ([a, b], r"rows of one shape and dtype, got \(2,\) of float64 in .*a\.npy, and \(4,\) of"),
        ([a, c], r"got \(2,\) of float64 in .*a\.npy, and \(2,\) of float32 in .*c\.npy"),
        ([a, d], r"expected files of one kind, got \.npy and \.npz"),
        ([a, np.zeros((3, 2))], r"expected files of one kind, got arrays and \.npy"),
        ([], r"expected a path, or several, got an empty list"),
        (tmp_path / "none", r"the folder .*none has no \.npy, \.npz, \.parquet or \.csv files"),
        (tmp_path / "*.npy", r"there is no file .*: pass sorted\(glob\.glob\('.*\*\.npy'\)\)"),
    ):
        with pytest.raises(ValueError, match=message):
            bpx.open_data(given, np.zeros(6))


def test_targets_of_files_that_do_not_go_together(tmp_path):
    x = np.zeros((3, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.zeros(3))
    np.savez(tmp_path / "b.npz", x=x)
    np.savez(tmp_path / "c.npz", x=x, y=np.zeros((3, 2)))
    np.save(tmp_path / "y.npy", np.zeros(3))
    a, b, c, y = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz", "y.npy"))
    for given, targets, message in (
        ([a, b], None, r"b\.npz has no array 'y', which other files have"),
        ([a, c], None, r"rows of one shape, got \(3,\) from .*a\.npz, and \(3, 2\) from .*c\.npz"),
        ([a, b], [y, tmp_path / "z.npy"], r"there is no file .*z\.npy"),
        ([a, tmp_path], None, r"is a folder, which open_data takes alone, not in a list"),
        (tmp_path / "none", None, r"there is no file or folder .*none"),
    ):
        with pytest.raises(ValueError, match=message):
            bpx.open_data(given, targets)
    assert bpx.open_data([b, b]).y is None
    assert bpx.open_data([b, b], [y, y]).n == 6


def test_targets_in_a_folder(tmp_path):
    for part in range(2):
        for name, rows in (("x", np.zeros((3, 2))), ("y", np.arange(3) + 3 * part)):
            (tmp_path / name).mkdir(exist_ok=True)
            np.save(tmp_path / name / f"{part}.npy", rows)
    data = bpx.open_data(tmp_path / "x", str(tmp_path / "y"), sample_weight=tmp_path / "y")
    assert data.y.tolist() == data.sample_weight.tolist() == [*range(6)]
    np.savez(tmp_path / "y" / "2.npz", y=np.zeros(3))
    with pytest.raises(ValueError, match=r"an array, \.npy files or a folder of them, got .*y"):
        bpx.open_data(tmp_path / "x", tmp_path / "y")


def test_a_table_with_tabs_among_others_is_no_data(tmp_path):
    """It may describe the columns; alone it is data."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    for name, mark in (("a.csv", ","), ("b.csv", ","), ("columns.tsv", "\t")):
        (tmp_path / name).write_text(f"a{mark}y\n1{mark}2\n3{mark}4\n")
    assert bpx.open_data(tmp_path, target="y").n == 4
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).unlink()
    assert bpx.open_data(tmp_path, target="y").n == 2


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_tables_of_many_files(tmp_path, kind):
    """Some are empty, and columns come in any order."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet
    from pyarrow import csv

    def save(at, **columns):
        table = arrow.table({name: np.array(values, float) for name, values in columns.items()})
        path = tmp_path / f"{at}.{kind}"
        (parquet.write_table if kind == "parquet" else csv.write_csv)(table, path)
        return path

    empty = save(0, a=[], b=[], y=[])
    one, two = save(1, a=[1, 2], b=[3, 4], y=[0, 1]), save(2, y=[1, 0], b=[7, np.nan], a=[5, 6])
    data = bpx.open_data([empty, one, empty, two], target="y")
    assert (data.columns, data.y.tolist()) == (("a", "b"), [0, 1, 1, 0])
    assert np.array_equal(data.read(False), [[1, 3], [2, 4], [5, 7], [6, np.nan]], equal_nan=True)
    with pytest.raises(
        ValueError, match=rf"2\.{kind} has NaN .* first in row 1, column 'b': fill"
    ):
        data.read(True)
    with pytest.raises(
        ValueError, match=rf"rows of shape \(n, \.\.\.\) in .*0\.{kind}, got \(0, 2"
    ):
        bpx.open_data([empty, empty], target="y")
    other = save(3, a=[1], c=[2], b=[2], y=[1])
    for files in ([one, other], [other, one]):
        with pytest.raises(ValueError, match="have different columns, such as 'c': name those of"):
            bpx.open_data(files, target="y")
    assert bpx.open_data([one, other], target="y", columns=["b"]).read(True)[:, 0].tolist() == [
        3,
        4,
        2,
    ]
    with pytest.raises(ValueError, match=r"y of 3 files take .* more than the budget of 40 byt"):
        bpx.open_data([one, one, one], target="y", budget=40)


def test_chunks_of_several_arrays(samples, tmp_path):
    library = pytest.importorskip("h5py", reason="no h5py: pip install h5py")
    with library.File(tmp_path / "x.h5", "w") as file:
        whole = [file.create_dataset(f"{k}", data=samples[0][:200], chunks=(50, 12)) for k in "ab"]
        part = file.create_dataset("c", data=samples[0][:90], chunks=(50, 12))
        for given, chunk in (([*whole, part], 50), ([part, *whole], 1)):
            data = bpx.open_data(given, np.zeros(490, int), budget="60 kB")
            assert data.reader.chunk == chunk
            assert np.array_equal(data.read(True)[:90], samples[0][:90])


def test_which_of_several_files_cannot_be_read(samples, tmp_path):
    paths = parts("npy", tmp_path, samples[0])
    net, data = network(), bpx.open_data(paths, samples[1], budget=SMALL)
    with pytest.raises(OSError, match=r"block \d+ .* read: .*1\.npy: the file has 100 bytes"):
        net.fit(data, epochs=3, callbacks=lambda run: os.truncate(paths[1], 100))
    assert net.epochs == 1


@pytest.mark.parametrize("quoted", ['t"",', "t\n9999,1", 't\n"",""\n'])
def test_quoted_cells_of_several_lines(tmp_path, monkeypatch, quoted):
    """Whatever the block's last bytes are."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    path = tmp_path / "a.csv"
    rows = "".join(f'{k % 10},{k % 2},"{quoted * (k % 3)} {k}",6" pipe\n' for k in range(200))
    path.write_text('\ufeffa,y,"a\n""note""",pipe\n' + rows, encoding="utf-8")
    expected = np.arange(200) % 10
    for size in range(200, 300):
        monkeypatch.setattr(_csv, "LINES", size)
        data = bpx.open_data(path, target="y", columns=["a"], budget="1 kB")
        assert np.array_equal(data.y, np.arange(200) % 2)
        assert np.array_equal(data.read(True)[:, 0], expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,y\n1,"2\n3,4\n', r"a\.csv ends within the quotes of a cell, before byte 13: close"),
        ('a,"y\n1,2\n', r"a\.csv ends within the quotes of a cell"),
        ('a,y\n1,"' + "2\n" * 600, r"a\.csv goes on for 1000 bytes within the quotes of a cell"),
    ],
)
def test_quotes_that_do_not_end(tmp_path, monkeypatch, content, message):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr(_csv, "LONGEST_LINE", 1000)
    monkeypatch.setattr(_csv, "LINES", 10)
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        bpx.open_data(tmp_path / "a.csv", target="y")


def test_stopping_and_ctrl_c_end_the_thread(samples, path):
    data = bpx.open_data(path, samples[1], budget=SMALL)

    class Stop(bpx.Callback):
        def on_step_end(self, run):
            if run.step == 3:
                run.stop("enough")

    class Press(bpx.Callback):
        def on_step_end(self, run):
            if run.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    told = pytest.warns(RuntimeWarning, match="interrupted by Ctrl-C")
    for callback, context in (Stop(), contextlib.nullcontext()), (Press(), told):
        net, twin = network(), network()
        with context:
            history = net.fit(data, callbacks=callback, shuffle=False)
        assert history.stopped == "enough" or history.interrupted
        twin.fit(samples[0][:30], samples[1][:30], epochs=1, shuffle=False)
        assert net.steps == 3
        np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-13)  # one was compiled


@pytest.mark.parametrize("before_the_end", [0, 1])
def test_a_checkpoint_at_the_end_of_an_epoch_is_gone_on_from(
    samples, path, tmp_path, before_the_end
):
    data, whole, cut = bpx.open_data(path, samples[1], budget=SMALL), network(), network(seed=1)
    steps = source(whole, data, 10).steps
    whole.fit(data, epochs=2, batch_size=10)

    def kill(run):
        raise KeyError("killed")

    saved = bpx.Checkpoint(tmp_path / "run", steps=steps - before_the_end)
    with pytest.raises(KeyError):
        network().fit(data, epochs=2, batch_size=10, checkpoint=saved, callbacks=kill)
    assert bpx.load(max((tmp_path / "run").iterdir())).steps == steps - before_the_end
    cut.fit(data, epochs=2, batch_size=10, checkpoint=saved, resume=True)
    assert np.array_equal(cut.parameters, whole.parameters)
    assert cut.history["training_cost"] == whole.history["training_cost"]


def test_files_that_cannot_be_read(samples, tmp_path):
    x = samples[0]

    def refused(name, match, kind=ValueError, **arguments):
        given = tmp_path / name if isinstance(name, str) else name
        with pytest.raises(kind, match=match):
            bpx.open_data(given, **arguments)

    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    refused("f.npy", r"stored by columns .* np.save\(path, np.ascontiguousarray\(x\)\)")
    np.savez_compressed(tmp_path / "c.npz", x=x)
    refused("c.npz", "'x' in .* is compressed.*: write it with np.savez")
    np.savez(tmp_path / "a.npz", a=x)
    refused("a.npz", "has no array 'x'.* Known: a")
    np.savez(tmp_path / "x.npz", x=x)
    refused("x.npz", "has no array 'label'", target="label")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    refused("bad.npz", "bad.npz is damaged")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00\x05\x00{'a'}")
    refused("bad.npy", "has no readable NumPy header")
    np.save(tmp_path / "t.npy", x)
    os.truncate(tmp_path / "t.npy", 1000)
    refused(
        "t.npy", r"truncated or damaged: an array of shape \(500, 12\) .* at byte 48128.* 1000"
    )
    np.save(tmp_path / "o.npy", np.array([["a"]]))
    refused("o.npy", "o.npy must hold numbers, got dtype <U1: save classes as np.unique")
    np.save(tmp_path / "v.npy", np.zeros(3))
    np.save(tmp_path / "j.npy", 1j * x)
    refused("j.npy", "j.npy must hold real numbers, got dtype complex128", TypeError)
    refused("v.npy", r"expected rows of shape \(n, ...\) in .*v.npy, got \(3,\)")
    refused("none.npy", "there is no file .*none.npy")
    refused("a.dat", r"got 'a.dat': name it .csv, and pass separator='\\t', or what else is betw")
    refused("a.csv.gz", r"got 'a.csv.gz': unpack it first")
    refused("a.h5", r"expected a .npy, .npz, .parquet or .csv file, got 'a.h5'; for HDF5 and Zarr")
    refused([[1.0]], r"expected a path, or an array with shape and slices", TypeError)
    np.save(tmp_path / "x.npy", x)
    refused("x.npy", "target=, columns= and classes= are for a .parquet or .csv", target="label")
    refused("x.npy", "y and target= both say what the targets are", target="label", y=samples[1])
    refused(
        "x.npy",
        r"expected an array, .npy files or a folder of them, got .*a.npz",
        y=tmp_path / "a.npz",
    )
    refused("x.npy", 'expected budget to be bytes, or words such as "500 MB", got', budget="much")
    refused("x.npy", "expected budget >= 1, got 0", budget=0)


def test_a_table_of_very_many_columns_in_blocks(tmp_path):
    """Looked up one after another, they would take minutes."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    names = [f"gene {k}" for k in range(50_000)]
    (tmp_path / "a.csv").write_text(f"{','.join(names)},y\n{'7,' * len(names)}1\n")
    data = bpx.open_data(tmp_path / "a.csv", target="y", columns=names[::-1])
    assert data.shape == (1, len(names))


def test_tables_that_cannot_be_read(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    def refused(name, match, kind=ValueError, **arguments):
        with pytest.raises(kind, match=match):
            bpx.open_data(tmp_path / name, **arguments)

    table = arrow.table({"a": [1.0, None], "name": ["x", "y"], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "t.parquet")
    refused("t.parquet", "has no column 'lable'; did you mean 'label'", target="lable")
    refused("t.parquet", "'name' is of type string, expected numbers; for text name", TypeError)
    refused("t.parquet", r"or leave it out \(columns=\[...\] without 'name'", TypeError)
    both = ["name", "label"]
    refused("t.parquet", "'name' is of .*; number the classes 0", TypeError, target=both)
    told = (
        r"t.parquet: 1 of the first 2 rows have no value in column 'a': leave these rows out "
        r"\(pandas: frame.dropna\(subset=\['a'\]\)\)$"
    )
    refused("t.parquet", told, target="a", columns=["label"])
    data = bpx.open_data(tmp_path / "t.parquet", target="label", columns=["a"])
    with pytest.raises(
        ValueError, match=r"block 0 .* NaN or infinity, first in row 1, column 'a'"
    ):
        bpx.Network([1, 2]).fit(data)
    table = arrow.table({"a": [True, None], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "n.parquet")
    (tmp_path / "n.csv").write_text("a,label\n1,0\n,1\n")
    for name, told in (
        ("n.csv", "NaN or infinity, first in row 1, column 'a': fill in what"),
        ("n.parquet", "column 'a' has a missing value in row 1: fill in what"),
    ):
        data = bpx.open_data(tmp_path / name, target="label")
        with pytest.raises(ValueError, match=told):
            bpx.Network([1, 2]).fit(data)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    refused("bad.parquet", "bad.parquet is damaged, or not a Parquet file")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1,x\n")
    refused("t.csv", r"t.csv: expected lines of 2 numbers after byte 4: .*x", target="b")
    (tmp_path / "e.csv").write_text("a,b\n1,2\n1,\n")
    refused("e.csv", "e.csv: 1 of the first 2 rows have no value in column 'b': leave", target="b")
    refused("t.csv", "has no column left for x: a, b are held back", target=["a", "b"])
    for cell in ("1_0", "١٢"):
        (tmp_path / "p.csv").write_text(f"a,b\n1,2\n{cell},2\n", encoding="utf-8")
        refused("p.csv", f"p.csv: expected lines of 2 numbers after byte 4: .*{cell}", target="a")
    (tmp_path / "s.csv").write_text("a;b\n1;2\n")
    refused("s.csv", r"no column 'b'. .* \(its cells look separated by ';': sep", target="b")
    refused("s.csv", r"in column 'a;b', got '1;2' \(its cells look separated by ';': sep")
    (tmp_path / "w.csv").write_text("a,kind\n1,up\n2,down\n")
    refused(
        "w.csv", r"w.csv: expected numbers in column 'kind', got 'up'; for text name the values"
    )
    assert bpx.open_data(tmp_path / "w.csv", target="kind").classes == ("down", "up")
    assert bpx.open_data(tmp_path / "w.csv", [0, 1], columns=["a"]).shape == (2, 1)
    (tmp_path / "l.csv").write_text(f"a,b,t\n1,2,{'x' * 200_000}\n3,4,y\n")
    assert bpx.open_data(tmp_path / "l.csv", columns=["a", "b"]).shape == (2, 2)
    (tmp_path / "m.csv").write_text("a,b\n#N/A,2\n3,4\n")
    refused("m.csv", "1 of the first 2 rows have no value in column 'a'", target="a")


def test_the_index_that_pandas_writes_is_no_input(tmp_path):
    """In rows sorted by their label, it would give the label away."""
    pandas = pytest.importorskip("pandas", reason="it writes it")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "label": [0, 1, 1]}).iloc[[2, 0, 1]]
    frame.to_parquet(tmp_path / "t.parquet")
    data = bpx.open_data(tmp_path / "t.parquet", target="label")
    assert data.shape == (3, 1)
    named = bpx.open_data(tmp_path / "t.parquet", target="label", columns=["__index_level_0__"])
    assert named.shape == (3, 1)
    frame.set_index(pandas.Index([7, 9, 4], name="id")).to_parquet(tmp_path / "n.parquet")
    assert bpx.open_data(tmp_path / "n.parquet", target="label").columns == ("a",)
    assert bpx.open_data(tmp_path / "n.parquet", target="label", columns=["id"]).shape == (3, 1)
    frame.to_csv(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"no name, like the index that pandas .* index=False\)"):
        bpx.open_data(tmp_path / "t.csv", target="label")
    assert bpx.open_data(tmp_path / "t.csv", target="label", columns=["a"]).shape == (3, 1)


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, '{"index_columns": 7}', "[]", '{"index_columns": [[]]}', "\udcff"]
)
def test_what_is_not_pandas_own_names_no_index(tmp_path, text):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install pyarrow")
    table = arrow.table({"a": [1.0, 2.0], "t": [0, 1]})
    told = table.replace_schema_metadata({"pandas": text.encode(errors="surrogateescape")})
    parquet.write_table(told, tmp_path / "t.parquet")
    assert bpx.open_data(tmp_path / "t.parquet", target="t").columns == ("a",)


def test_without_pyarrow(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ImportError, match=r"need pyarrow: pip install pyarrow"):
        bpx.open_data(tmp_path / "t.csv", target="b")


def test_what_fit_refuses(samples, path):
    _, y, weight = samples

    def refused(match, data, *arguments, **options):
        with pytest.raises(ValueError, match=match):
            network().fit(data, *arguments, **options)

    data = bpx.open_data(path, y, sample_weight=weight, budget=SMALL)
    assert repr(data).endswith("x.npy: (500, 12) of float64, 0.0 MB>")
    refused("the data already has y", data, y)
    refused("the data already has sample_weight", data, sample_weight=weight)
    refused("shuffle= as a function picks rows from all over", data, shuffle=lambda: np.arange(N))
    refused(
        "expected 1 <= batch_size <= n = 500 samples to train on, got 501", data, batch_size=501
    )
    refused("the data has no y", bpx.open_data(path, budget=SMALL))
    for what in ("y", "sample_weight"):
        with pytest.raises(ValueError, match=f"as many rows in {what} as in x, 500, got 499"):
            bpx.open_data(path, **{"y": y, what: y[1:]})
    small = bpx.open_data(path, y, budget=20_000)
    needed = r"expected 300, the largest block or mini-batch: pass a budget of at least \d+ bytes"
    refused(f"a budget of 20000 bytes holds 0 rows .* {needed}", small, batch_size=300)
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 5\), got \(500, 12\)"):
        bpx.Network([5, 3]).fit(data)


# --- without training ---


@pytest.mark.parametrize("budget", [SMALL, "1 MB"])
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_known_of_samples_on_disk(backend, samples, path, host, budget, kept):
    x, y, weight = samples
    data = bpx.open_data(path, y, sample_weight=weight, budget=budget)
    if kept:
        held = data.reader.shape[0] // 5
        data, others = data.hold_out(held, seed=1)
        data_rows = np.ones(N, bool)
        data_rows[[int(np.flatnonzero((x == row).all(axis=1))[0]) for row in others[0]]] = False
        x, y, weight = x[data_rows], y[data_rows], weight[data_rows]
    net = network(backend)
    np.testing.assert_allclose(host(net.feedforward(data)), host(net.feedforward(x)), atol=1e-14)
    assert (host(net.predict(data)) == host(net.predict(x))).all()
    for _ in range(2):  # also when it was looked at once
        expected = net.evaluate(x, y, sample_weight=weight)
        assert net.evaluate(data) == pytest.approx(expected, rel=1e-12)
    assert net.accuracy(data) == pytest.approx(expected["accuracy"])
    assert net.total_cost(data, l2=0.5) == pytest.approx(
        net.total_cost(x, y, sample_weight=weight, l2=0.5), rel=1e-12
    )


def test_validation_on_disk(samples, path):
    x, y, weight = samples
    one, other = network(), network()
    options = {"epochs": 2, "batch_size": 20}
    expected = one.fit(x, y, validation=(x, y, weight), **options)
    data = bpx.open_data(path, y, sample_weight=weight, budget=SMALL)
    found = other.fit(x, y, validation=data, **options)
    assert found["validation_cost"] == pytest.approx(expected["validation_cost"], rel=1e-12)
    bare = bpx.open_data(path, budget=SMALL)
    found = network().fit(x, y, validation=(bare, y, weight), **options)
    assert found["validation_cost"] == pytest.approx(expected["validation_cost"], rel=1e-12)


def test_samples_on_disk_that_are_wrong(samples, path, tmp_path):
    x, y, _ = samples
    net = network()
    with pytest.raises(ValueError, match="the data has no y"):
        net.evaluate(bpx.open_data(path, budget=SMALL))
    with pytest.raises(ValueError, match="the data already has y"):
        net.evaluate(bpx.open_data(path, y, budget=SMALL), y)
    with pytest.raises(ValueError, match=r"expected x of shape \(m, 4\), got \(500, 12\)"):
        bpx.Network([4, 2]).predict(bpx.open_data(path, budget=SMALL))
    with pytest.raises(ValueError, match=r"expected validation x of shape \(m, 4\)"):
        bpx.Network([4, 3]).fit(x[:, :4], y, validation=bpx.open_data(path, y, budget=SMALL))
    with pytest.raises(TypeError, match="expected x to be in memory, got <data on disk, "):
        net.backprop(bpx.open_data(path, budget=SMALL), y)
    broken = x.copy()
    broken[321, 4] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    data = bpx.open_data(tmp_path / "nan.npy", y, budget=SMALL)
    for budget in (SMALL, "1 MB"):
        data = bpx.open_data(tmp_path / "nan.npy", y, budget=budget)
        for ask in (net.evaluate, net.predict):
            with pytest.raises(ValueError, match="NaN or infinity, first in row 321"):
                ask(data)
    net.fit(x, y, epochs=1, validation=data, check_finite=False)  # as with arrays


def test_windows_are_given_back_when_fit_returns(samples, path):
    """Not only when garbage is collected: two windows a call would soon be many."""
    net, data = network("numpy"), bpx.open_data(path, samples[1], budget=SMALL)
    gc.collect()
    gc.disable()
    try:
        net.fit(data, epochs=1)
        left = [found for found in gc.get_objects() if type(found) is Windows]
    finally:
        gc.enable()
    assert left == []


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,b,y\n" + "1,2,3,4\n" * 9)
    with pytest.raises(ValueError, match="has two columns named 'b'"):
        bpx.open_data(tmp_path / "a.csv", target="y")


def test_rows_that_are_masked_as_they_are_read():
    class Variable:  # like netCDF's
        shape, dtype, missing = (40, 3), np.dtype("f4"), False

        def __getitem__(self, rows):
            x = np.ones(self.shape, self.dtype)[rows]
            return np.ma.masked_array(x, x > 0.0 if self.missing else False)

    x = Variable()
    assert bpx.open_data(x).read().sum() == 120.0  # nothing is masked
    x.missing = True
    with pytest.raises(OSError, match=r"x has masked elements; fill them first: x\.filled"):
        bpx.Network([3, 2]).fit(bpx.open_data(x, np.arange(40) % 2), epochs=1)


def test_arrays_in_memory_that_are_not_numpys():
    sparse = pytest.importorskip("scipy.sparse", reason="its matrices are in memory")
    strict = pytest.importorskip("array_api_strict", reason="its arrays are in memory")
    for x in (sparse.csr_array(np.eye(4)), strict.asarray(np.eye(4))):
        with pytest.raises(TypeError, match=r"is in memory: pass it to fit itself, as net\.fit"):
            bpx.open_data(x, np.arange(4))
        bpx.Network([4, 4]).fit(x, np.arange(4), epochs=1)
