"""Several threads that do each step of a compiled run together: the bits of one thread."""

from __future__ import annotations

import threading
import time
from functools import partial

import compiled_runs
import numpy as np
import pytest
from compiled_runs import (
    ENDS,
    HIDDEN,
    OPTIMIZERS,
    STEPS,
    agree,
    divergence,
    fits,
    of_each_kind,
    with_short_vectors,
)

import bpx
from bpx.backends import _fast, _fast_run, _fast_steps, _machine_code, _threads
from bpx.backends._pace import APART, CLEARLY, ENOUGH, FEW, SHARE, Pace

pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")

FAST = _fast.FastBackend()


@pytest.fixture
def together(monkeypatch):
    """``together(n)``: from now on steps are done by n threads, all there before the first."""
    record, spread, teams = _fast_steps._record, _threads.spread, []

    def noted(*arguments):
        given, held = record(*arguments)
        teams.append(held["team"])
        return given, held

    def all_there(work, parts, watch, end):
        def part(k):
            while k == 0 and teams[-1][_fast_run.JOINED // 8] < parts - 1:
                time.sleep(0)
            work(k)

        spread(part, parts, watch, end)

    monkeypatch.setattr(_fast_steps, "_record", noted)
    monkeypatch.setattr(_fast_steps, "worth", lambda program: 8)
    monkeypatch.setattr(_threads, "spread", all_there)
    monkeypatch.setattr(_threads, "MOST", 8)
    monkeypatch.setattr(Pace, "run", lambda self, count, steps, most, free: steps(0, count, most))
    return lambda n: monkeypatch.setattr(_threads, "count", lambda: n)


def trained(make, x, y, **options):
    net, said = make(FAST), ""
    try:
        net.fit(x, y, **options)
    except bpx.DivergenceError as error:
        said = str(error)
    slots = [slot.tobytes() for slot in net.optimizer_state.slots.values()]
    columns = {name: each for name, each in dict(net.history).items() if name != "seconds"}
    return net.parameters.tobytes(), net.state.tobytes(), slots, str(columns), said


@pytest.mark.parametrize("draw", range(60))
def test_the_bits_of_one_thread_for_any_shape(together, draw):
    rng = np.random.default_rng(draw)
    sizes = [int(n) for n in rng.integers(1, 90, rng.integers(2, 6))]
    cost, output = ENDS[rng.integers(len(ENDS))]
    hidden, dtype = HIDDEN[rng.integers(len(HIDDEN))], str(rng.choice(["float32", "float64"]))
    m = int(rng.integers(1, 90))
    samples = m * int(rng.integers(1, 4)) + int(rng.integers(4))  # the last of up to 3
    x, y = rng.normal(size=(samples, sizes[0])), 0.5 * rng.random(size=(samples, sizes[-1]))
    y /= np.maximum(1.0, y.sum(axis=1, keepdims=True))  # none names two classes
    if output == "softmax":
        y /= y.sum(axis=1, keepdims=True)
    optimizer = OPTIMIZERS[rng.integers(len(OPTIMIZERS))]
    options = {"epochs": 2, "batch_size": m, "optimizer": optimizer, "l2": 0.1 * (draw % 2)}

    options |= {"clip_norm": 0.1 if draw % 3 == 0 else None, "l1": 0.1 * (draw % 5 == 0)}
    options["clip_value"] = 0.02 if draw % 7 == 0 else None
    rates = rng.choice([0.0, 0.2, 0.5], len(sizes) - 1) * (draw % 4 < 2)
    kinds = [], [bpx.layers.LayerNorm()], [bpx.layers.BatchNorm()]
    if 1 in (m, samples % m) or hidden == "softmax":  # no variance; `worth` is 1
        kinds = kinds[:2]
    norms = [kinds[k] for k in rng.integers(len(kinds), size=len(sizes) - 2)][: 9 * (draw % 3)]

    sums = rng.random(len(sizes)) < 0.3
    # With what is between z and σ below, they need whole rows or whole units.
    between = [norms[k] if k < len(norms) else [] for k in range(len(sizes) - 2)]
    opening = [each or kinds[rng.integers(len(kinds))] for each in ([], *between)]
    of_inputs = [each if rng.random() < 0.4 else [] for each in opening]

    def make(backend):
        layers = [bpx.layers.Input(sizes[0])]
        for k, n in enumerate(sizes[1:]):
            layers += of_inputs[k]
            if sums[k]:
                inside = bpx.layers.Dense(n, hidden), bpx.layers.Dense(sizes[k])
                first = [] if of_inputs[k] else opening[k]
                layers.append(bpx.layers.Residual([*first, *inside]))
            layers.append(bpx.layers.Dropout(float(rates[k])))
            if k < len(norms):
                layers += [bpx.layers.Dense(n), *norms[k], bpx.layers.Activation(hidden)]
            else:
                layers.append(bpx.layers.Dense(n, hidden if k < len(sizes) - 2 else output))
        return bpx.Network(layers, cost=cost, seed=0, dtype=dtype, task="regression",
                           backend=backend)  # fmt: skip

    assert make(FAST).chain.architecture.dense is not None
    together(1)
    alone = trained(make, x, y, **options)
    for members in (2, 3, 4):
        together(members)
        assert trained(make, x, y, **options) == alone


@pytest.mark.parametrize("members", [1, 2, 5])
def test_the_numbers_of_steps_in_python(together, rng, members):
    together(members)
    x = rng.normal(size=(203, 40))
    for sizes in ([40, 70, 35, 10], [40, 20, 33, 3], [40, 120]):
        y = rng.integers(sizes[-1], size=203)
        for dtype, optimizer in zip(("float64", "float32") * 4, OPTIMIZERS, strict=False):

            def make(backend, sizes=sizes, dtype=dtype):
                return bpx.Network(sizes, seed=0, dtype=dtype, backend=backend)

            options = {"epochs": 2, "batch_size": 50, "optimizer": optimizer, "l2": 0.1}
            agree(*fits((STEPS, FAST), make, x, y, **options), dtype)
            agree(*fits((STEPS, FAST), make, x, y, l1=0.1, clip_value=0.01, **options), dtype)
            dropping = partial(compiled_runs.dropping, inputs=40, outputs=sizes[-1], dtype=dtype)
            agree(*fits((STEPS, FAST), dropping, x, y, clip_norm=0.1, **options), dtype)
            summing = partial(compiled_runs.summing, inputs=40, outputs=sizes[-1], dtype=dtype)
            agree(*fits((STEPS, FAST), summing, x, y, clip_norm=0.1, **options), dtype)
            joining = partial(compiled_runs.joining, inputs=40, outputs=sizes[-1], dtype=dtype)
            table = compiled_runs.numbered(x)
            agree(*fits((STEPS, FAST), joining, table, y, clip_norm=0.1, **options), dtype)
            # In double precision: of gradients that are nothing but rounding Adam makes steps.
            for make in compiled_runs.NORMALIZING:
                of_norms = partial(make, inputs=40, outputs=sizes[-1])
                agree(*fits((STEPS, FAST), of_norms, x, y, clip_norm=0.1, **options))


@pytest.mark.parametrize("members", [1, 3])
def test_clipping_where_squares_have_no_room(together, members):
    """Of a gradient of 1e200: what all read once more, before anyone changes it."""
    together(members)
    x, y = 1e200 * np.eye(40), np.arange(40) % 30

    def make(backend):
        return bpx.Network([40, 30], output="softmax", weights="zeros", bias="zeros",
                           dtype="float64", backend=backend)  # fmt: skip

    options = {"epochs": 1, "batch_size": 40, "clip_norm": 1.0, "optimizer": bpx.Adam()}
    agree(*fits((STEPS, FAST), make, x, y, **options))


@pytest.mark.parametrize("members", [2, 3])
def test_weights_frozen_layers_no_bias_and_each_task(together, rng, members):
    x, y = rng.normal(size=(60, 7)), rng.integers(4, size=60)
    for make, inputs, targets, options in (
        *of_each_kind(rng, x, y),
        *compiled_runs.masked_and_clipped(rng, x, y),
    ):
        options["batch_size"] = 13
        together(members)
        agree(*fits((STEPS, FAST), make, inputs, targets, **options))
        several = trained(make, inputs, targets, **options)
        together(1)
        assert trained(make, inputs, targets, **options) == several


@pytest.mark.parametrize("late", [0.0, 0.001, 0.01, None])
@pytest.mark.parametrize("let_others", [True, False])
def test_who_comes_late_or_not_at_all(monkeypatch, rng, late, let_others):
    """Steps begin with those that are there."""
    x, y = rng.normal(size=(2000, 40)), rng.integers(4, size=2000)
    options = {"epochs": 2, "batch_size": 20, "optimizer": bpx.Adam()}
    spread, parts_seen = _threads.spread, []

    def later(work, parts, watch, end):
        parts_seen.append(parts)
        if late is None:  # as where no thread can be had
            for k in range(parts):
                work(k)
            return

        def part(k):
            time.sleep(late * k)
            work(k)

        spread(part, parts, watch, end)

    def make(backend):
        return bpx.Network([40, 90, 30, 4], seed=0, backend=backend)

    monkeypatch.setattr(_fast_steps, "worth", lambda program: 8)
    monkeypatch.setattr(_threads, "MOST", 8)
    monkeypatch.setattr(_threads, "count", lambda: 1)
    expected = trained(make, x, y, **options)
    monkeypatch.setattr(_threads, "spread", later)
    monkeypatch.setattr(_threads, "count", lambda: 3)
    if not let_others:
        monkeypatch.setattr(_fast_steps, "_let_others", lambda: 0)
    assert trained(make, x, y, **options) == expected
    assert set(parts_seen) == {3}


def test_who_comes_in_the_midst_of_a_step_waits_for_the_next(monkeypatch, rng):
    record, kept = _fast_steps._record, []
    monkeypatch.setattr(_fast_steps, "_record", lambda *a: kept.append(record(*a)) or kept[-1])
    net = bpx.Network([40, 90, 4], seed=0, backend=FAST)
    net.fit(rng.normal(size=(60, 40)), rng.integers(4, size=60), epochs=1, batch_size=20)
    (given, held), before = kept[0], net.parameters.copy()
    joined, end, gate = (place // 8 for place in (_fast_run.JOINED, _fast_run.END, _fast_run.GATE))
    team = held["team"]
    team[:] = 0
    team[gate] = _fast_run.MEMBERS + 1  # the first step is open, to the one that has opened it
    function = _machine_code.load("_numba_steps", "steps", net.parameters.dtype).call
    thread = threading.Thread(target=function, args=(given, 1))
    thread.start()
    while team[joined] == 0:
        time.sleep(0)
    time.sleep(0.01)
    assert team[end] == 0
    assert np.array_equal(net.parameters, before)
    team[gate] = -1
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_divergence_is_told_alike(together, hidden):
    found = []
    for backend, members in ((STEPS, 1), (FAST, 1), (FAST, 3)):
        together(members)
        found.append(divergence(backend, hidden, 80))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("at", [0, 31, 63])
def test_a_cost_that_is_not_finite_in_one_row(together, rng, at):
    """Whoever has the row, all leave θ as it is."""
    x, y = rng.normal(size=(128, 40)), rng.normal(size=(128, 3))
    y[64 + at] = 1e200  # in the second step
    found = []
    for members in (1, 2, 4):
        together(members)
        net = bpx.Network([40, 70, 3], output="identity", cost="quadratic", seed=0,
                          dtype="float64", backend=FAST)  # fmt: skip
        options = {"epochs": 1, "batch_size": 64, "optimizer": bpx.SGD(0.01, momentum=0.9)}
        options["check_finite"] = False  # which would warn of this row
        with pytest.raises(bpx.DivergenceError, match="at step 2 of epoch 1"):
            net.fit(x, y, shuffle=False, **options)
        found.append(net.parameters.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_layers(together, rng, dtype):
    """Rows a page apart, more terms than at once, more rows than are summed up at once."""
    x, y = rng.normal(size=(700, 1100)), rng.integers(3, size=700)

    def make(backend):
        return bpx.Network([1100, 600, 40, 3], seed=0, dtype=dtype, backend=backend)

    options = {"epochs": 1, "batch_size": 300, "optimizer": bpx.SGD(0.01, momentum=0.9)}
    together(1)
    alone = trained(make, x, y, **options)
    together(3)
    assert trained(make, x, y, **options) == alone
    agree(*fits((STEPS, FAST), make, x, y, **options), dtype)


def test_now_together_and_now_alone(monkeypatch, rng):
    """As trials have it, by a clock of no sense."""
    monkeypatch.setattr(_fast_steps, "worth", lambda program: 8)
    monkeypatch.setattr(_threads, "MOST", 8)
    monkeypatch.setattr(_fast_steps, "Pace", lambda: Pace(lambda: rng.random()))
    x, y = rng.normal(size=(2000, 40)), rng.integers(4, size=2000)
    options = {"epochs": 3, "batch_size": 20, "optimizer": bpx.Adam(), "l2": 0.1}

    def make(backend):
        return bpx.Network([40, 90, 30, 4], seed=0, backend=backend)

    ways, spread = [], _threads.spread

    def noted(work, parts, watch, end):
        ways.append(parts)
        spread(work, parts, watch, end)

    monkeypatch.setattr(_threads, "spread", noted)
    monkeypatch.setattr(_threads, "count", lambda: 1)
    expected = trained(make, x, y, **options)
    assert ways == []
    monkeypatch.setattr(_threads, "count", lambda: 3)
    assert trained(make, x, y, **options) == expected
    assert set(ways) == {3}


@pytest.mark.parametrize("hired", [0, 1])
def test_fewer_threads_than_asked_for(monkeypatch, together, rng, hired):
    x, y = rng.normal(size=(200, 40)), rng.integers(4, size=200)
    options = {"epochs": 2, "batch_size": 20, "optimizer": bpx.Adam()}

    def make(backend):
        return bpx.Network([40, 90, 4], seed=0, backend=backend)

    together(1)
    expected = trained(make, x, y, **options)
    together(3)
    hire = _threads._hire
    monkeypatch.setattr(_threads, "_hire", lambda wanted, found: hire(min(wanted, hired), found))
    monkeypatch.setattr(_threads, "spread", SPREAD)
    assert trained(make, x, y, **options) == expected


def test_an_interrupt_before_the_first_step(monkeypatch, together, rng):
    """Those who have joined do not wait for ever."""
    together(3)
    load = _machine_code.load

    def interrupted(module, *arguments):
        found = load(module, *arguments)
        if module != "_numba_steps":
            return found

        def call(given, joins):
            if not joins:
                raise KeyboardInterrupt
            return found.call(given, joins)

        return _machine_code.MachineCode(found.address, call, found.owner)

    monkeypatch.setattr(_machine_code, "load", interrupted)
    net = bpx.Network([40, 90, 4], seed=0, backend=FAST)
    with pytest.raises(KeyboardInterrupt):
        net.fit(rng.normal(size=(60, 40)), rng.integers(4, size=60), epochs=1, batch_size=20)


def test_narrow_layers_with_short_vectors(tmp_path):
    """Of fewer numbers of float64 than loops take outputs at once."""
    code = """
import numpy as np
import bpx
from bpx.backends import _fast, _fast_steps, _numba_vectors, _numpy, _threads
assert _numba_vectors.BYTES == 32, _numba_vectors.BYTES
_fast_steps.worth, _threads.MOST = lambda program: 8, 8
rng = np.random.default_rng(0)
for sizes in ([784, 100, 16, 10], [300, 13, 17, 9], [40, 21, 5]):
    x, y = rng.normal(size=(105, sizes[0])), rng.integers(5, size=105)
    found = set()
    for members in (1, 2, 3):
        _threads.count = lambda: members
        for backend in (_fast.FastBackend(), _numpy.NumpyBackend())[: 1 + (members == 1)]:
            net = bpx.Network(sizes, seed=0, dtype="float64", backend=backend)
            net.fit(x, y, epochs=5, batch_size=10, optimizer=bpx.SGD(0.1, momentum=0.9))
            if type(backend) is _fast.FastBackend:
                found.add(net.parameters.tobytes())
            else:
                expected = net.parameters
    assert len(found) == 1, sizes
    assert np.allclose(np.frombuffer(found.pop()), expected, rtol=0.0, atol=1e-12), sizes
print("done")
"""
    with_short_vectors(code, tmp_path)


def test_two_trainings_at_once(together):
    """In threads of their own: those of one do not take part in the other's steps."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 40)), rng.integers(4, size=1000)
    options = {"epochs": 3, "batch_size": 20, "optimizer": bpx.Adam()}

    def make(width):
        return lambda backend: bpx.Network([40, width, 4], seed=0, backend=backend)

    together(1)
    expected = [trained(make(width), x, y, **options) for width in (80, 100)]
    found = [None, None]

    def run(k, width):
        found[k] = trained(make(width), x, y, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "spread", SPREAD)
        patch.setattr(_threads, "count", lambda: 3)
        threads = [threading.Thread(target=run, args=each) for each in enumerate((80, 100))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == expected


SPREAD = _threads.spread


def test_threads_that_are_worth_it(monkeypatch):
    """By shapes and not by cores, since from two on a run ends with other bits."""

    class Program:
        def __init__(self, sizes, m):
            self.layers, self.batch_size = bpx.Network(sizes).chain.architecture.dense, m

    monkeypatch.setattr(_fast_steps, "TIMED", True)
    monkeypatch.setattr(_threads, "of_blas", lambda: 1)
    of = bpx.layers

    def normed(*between):
        return [of.Input(784), of.Dense(100), *between, of.Dense(10, "softmax")]

    batch, layer, softmax = of.BatchNorm(), of.LayerNorm(), of.Activation("softmax")
    relu = of.Activation("relu")
    for sizes, m, threads in (
        (normed(batch, softmax), 64, 1),  # statistics of all rows, and a softmax of all units
        (normed(softmax, batch), 64, 1),
        (normed(batch, relu, layer), 64, 1),
        (normed(layer, softmax, layer), 64, 6),
        (normed(batch, relu, batch), 64, 6),
        ([784, 100, 10], 64, 6),  # of 100 units, 16 at least
        ([784, 30, 10], 10, 1),
        ([784, 30, 10], 1000, 62),  # of 1,000 rows
        ([784, 100, 10], 3, 3),  # of 714,600 multiply-adds
        ([40, 40, 10], 32, 0),
    ):
        assert _fast_steps.worth(Program(sizes, m)) == threads
    for name, value in (("TIMED", False), ("_threads.of_blas", lambda: 0)):
        with monkeypatch.context() as patch:
            patch.setattr(f"bpx.backends._fast_steps.{name}", value)
            assert _fast_steps.worth(Program([784, 100, 10], 64)) == 1


def test_the_users_number_of_threads_counts(monkeypatch, rng):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    seen, spread = [], _threads.spread

    def noted(work, parts, watch, end):
        seen.append(parts)
        spread(work, parts, watch, end)

    monkeypatch.setattr(_threads, "spread", noted)
    x, y = rng.normal(size=(6400, 100)).astype(np.float32), rng.integers(4, size=6400)
    net = bpx.Network([100, 300, 4], seed=0, backend=FAST)
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            most = _threads.count()
            net.fit(x, y, epochs=1, batch_size=64, optimizer=bpx.SGD(0.1))
        assert set(seen) == ({most} if most > 1 else set())


def test_windows_of_data_on_disk_go_on_at_one_pace(monkeypatch, tmp_path, rng):
    monkeypatch.setattr(_fast_steps, "worth", lambda program: 2)
    monkeypatch.setattr(_threads, "count", lambda: 2)
    seen, run = [], Pace.run
    monkeypatch.setattr(Pace, "run", lambda self, *of: (seen.append(self), run(self, *of))[1])
    np.save(tmp_path / "x.npy", rng.normal(size=(500, 12)))
    data = bpx.open_data(tmp_path / "x.npy", rng.integers(3, size=500), budget="60 kB")
    for turn in range(2):
        net = bpx.Network([12, 20, 3], seed=0, backend=FAST)
        net.fit(data, epochs=2, batch_size=20)
        assert len(seen) >= 6 * (turn + 1)
        assert len(set(map(id, seen))) == turn + 1


# --- how many threads, by trials ----------------------------------------------------------------


class Machine:
    """Steps that take so many seconds together and alone, by a clock of its own."""

    def __init__(self, together, alone, ends=None):
        self.takes, self.now, self.ends, self.calls = {True: together, False: alone}, 0.0, ends, []
        self.pace, self.busy = Pace(lambda: self.now), 0

    def steps(self, first, count, threads):
        assert first == sum(count for _, count, _ in self.calls)
        done = count if self.ends is None else max(0, min(count, self.ends - first))
        self.calls.append((first, done, threads > 1))
        self.now += done * self.takes[threads > 1]
        self.busy = max(0, self.busy - 1)
        return done

    def run(self, count):
        """How many steps each part of a call has done, and whether together."""
        self.calls = []
        done = self.pace.run(count, self.steps, 2, lambda: 1 if self.busy else 2)
        assert done == sum(done for _, done, _ in self.calls)
        return [(done, together) for _, done, together in self.calls]


def test_the_sooner_way_is_taken_after_a_trial():
    tried = 160 // SHARE
    first, second = [(tried, False)], [(FEW, True), (tried - FEW, True)]
    again, left = [(FEW, False), (tried - FEW, False)], 160 - 2 * tried
    assert Machine(1.0, 2.0).run(160) == [*first, *second, *again, (left - tried, True)]
    assert Machine(2.0, 1.0).run(160) == [*first, *second, (left, False)]


def test_what_held_up_one_call_changes_nothing():
    """The other way is sooner than that call, but not than the same way is again."""
    machine = Machine(1.0, 2.0)
    for _ in range(3):
        machine.run(160)
    machine.pace._took = 3.0
    tried = 160 // SHARE
    both = [(FEW, True), (tried - FEW, True)]
    assert machine.run(160)[2:] == [*both, (160 - 2 * tried, True)]


def test_a_trial_is_long_enough():
    """For threads that wake up, where a call has few steps, and they are small."""
    machine = Machine(1e-4, 2e-4)
    machine.pace._took, machine.pace._together = 2e-4, False
    enough = int(ENOUGH / 2e-4)
    assert machine.run(40)[:2] == [(FEW, True), (enough - FEW, True)]
    machine.pace._took, machine.pace._left = 2e-4, 0
    assert sum(done for done, _ in machine.run(4)) == 4


def test_a_core_is_left_to_what_else_the_process_does():
    """Its steps are done by fewer threads, some at a time, and say nothing of the pace."""
    machine, tried = Machine(1.0, 2.0), 160 // SHARE
    for _ in range(2):
        machine.run(160)
    machine.busy = 3
    assert machine.run(160) == [(tried, False)] * 3 + [(160 - 3 * tried, True)]
    assert machine.pace._took == 1.0
    machine.busy = 1000
    assert machine.run(160) == [(tried, False)] * SHARE
    machine.ends, machine.busy = 25, 1000
    assert machine.run(160) == [(tried, False), (tried, False), (5, False)]
    machine.ends, machine.busy = None, 1000
    assert machine.run(1) == [(1, False)]
    threads = []
    Pace().run(160, lambda first, count, most: threads.append(most) or count, 4, lambda: 3)
    assert threads == [3] * SHARE
    Pace().run(3, lambda first, count, most: threads.append(most) or count, 4, lambda: -1)
    assert threads[SHARE:] == [1] * 3


def test_a_thread_beside_takes_a_core_until_it_ends(monkeypatch):
    monkeypatch.setattr(_threads, "count", lambda: 4)
    over = threading.Event()
    others = [threading.Thread(target=over.wait) for _ in range(2)]
    for k, other in enumerate(others):
        _threads.beside(other)
        assert _threads.free() == 4 - k  # until it has begun
        other.start()
        assert _threads.free() == 3 - k
    over.set()
    for other in others:
        other.join()
    assert _threads.free() == 4


def test_what_is_clearly_slower_is_not_tried_for_long():
    tried, much = 160 // SHARE, 2.0 * CLEARLY
    machine = Machine(much, 1.0)
    assert machine.run(160) == [(tried, False), (FEW, True), (160 - tried - FEW, False)]
    assert Machine(1.0, much).run(160)[-1][1]


def test_trials_become_rarer_and_a_change_is_noticed():
    machine = Machine(1.0, 2.0)
    tried = [k for k in range(200) if len(machine.run(160)) > 1]
    assert tried[:6] == [0, 1, 3, 7, 15, 31]
    assert set(np.diff(tried)[6:]) == {APART}
    machine.takes = {True: 3.0, False: 2.0}  # others came
    ways = [machine.run(160)[-1][1] for _ in range(APART + 1)]
    assert ways[0]
    assert not ways[-1]
    machine.takes = {True: 1.0, False: 2.0}
    assert [machine.run(160)[-1][1] for _ in range(APART + 1)][-1]


def test_large_steps_begin_with_all_threads():
    """And are tried after some calls, one step at a time."""
    machine = Machine(1.0, 2.0)
    ways = [together for _ in range(200) for _, together in machine.run(1)]
    assert [k for k, together in enumerate(ways) if not together] == [16, 48, 112]
    machine.takes = {True: 3.0, False: 2.0}
    assert [machine.run(1) for _ in range(SHARE * APART)][-1] == [(1, False)]
    few = FEW * SHARE - 1
    assert Machine(1.0, 2.0).run(few)[0] == (1, True)
    assert Machine(1.0, 2.0).run(few + 1)[0] == (FEW, False)


@pytest.mark.parametrize("count", [1, 20, 160])
@pytest.mark.parametrize("ends", [0, 1, 3, 10, 11, 12, 13, 20, 23, 159, 160])
def test_a_run_that_ends_early(count, ends):
    machine = Machine(1.0, 2.0, ends)
    assert sum(done for done, _ in machine.run(count)) == min(ends, count)
