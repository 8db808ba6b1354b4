"""Epochs by replays of a recorded step.

On the host `cupy-rehearsed` does the recorded Python again, while the counters that a recording
must not depend on stand still; on a device CUDA replays its graph.
"""

from __future__ import annotations

import importlib
import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import bpx
from bpx.activations import Activation
from bpx.backends import _cuda_library
from bpx.backends._cupy import CupyBackend
from bpx.backends._numpy import NumpyBackend
from bpx.training import steps
from bpx.training.passes import Replayed
from bpx.training.replays import STEPS_A_LAUNCH, Captured, agree

on_both = pytest.mark.parametrize("backend", ["cupy-rehearsed", "cupy"], indirect=True)


@pytest.fixture
def launches(monkeypatch):
    """How many steps each launch had."""
    found = []
    run = Captured.run

    def noted(self, most):
        found.append(run(self, most))
        return found[-1]

    monkeypatch.setattr(Captured, "run", noted)
    return found


def problem(n=230, inputs=6, classes=4):
    draw = np.random.default_rng(3)
    return draw.normal(size=(n, inputs)), draw.integers(classes, size=n)


def network(backend, *layers, dtype="float64", **options):
    layers = layers or (bpx.layers.Dense(5, "tanh"), bpx.layers.Dense(4, "softmax"))
    return bpx.Network(
        [bpx.layers.Input(6), *layers], backend=backend, dtype=dtype, seed=1, **options
    )


def both(backend, *layers, x=None, **options):
    """The same training on the host, step by step, and by replays."""
    found = []
    given, y = problem()
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on, *layers)
        history = net.fit(
            given if x is None else x, y, epochs=3, batch_size=10, graph=graph, **options
        )
        found.append((history, np.array(net.backend.to_host(net.parameters))))
    return found


def same(one, other):
    (h, theta), (g, theirs) = one, other
    assert np.abs(theta - theirs).max() <= 1e-12 * np.abs(theta).max()
    for column in ("training_cost", "training_accuracy", "learning_rate"):
        assert h[column] == pytest.approx(g[column], rel=1e-11)


OPTIMIZERS = [
    bpx.SGD(0.1),
    bpx.SGD(0.1, momentum=0.9),
    bpx.SGD(0.1, momentum=0.9, nesterov=True),
    bpx.SGD(bpx.schedules.Exponential(0.2, 10), momentum=0.5),
    bpx.RMSprop(),
    bpx.Adam(0.01),
    bpx.AdamW(bpx.schedules.Exponential(0.02, 10), weight_decay=0.1),
]


@on_both
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_replays_are_the_steps(backend, launches, optimizer):
    same(*both(backend, optimizer=optimizer, l2=1.0))
    # 23 steps: two to compare, then each epoch one launch of many and the rest one by one.
    assert launches == [1, 1, *[STEPS_A_LAUNCH, *[1] * 7] * 3]


@on_both
@pytest.mark.parametrize(
    "options",
    [
        {"l1": 0.5},
        {"clip_norm": 0.1},
        {"clip_value": 0.01},
        {"sample_weight": np.linspace(0.0, 2.0, 230)},
        {"n": "batch", "l2": 1.0, "sample_weight": np.linspace(0.0, 2.0, 230)},
        {"shuffle": False},
        {"validation": (problem()[0][:20], problem()[1][:20])},
    ],
    ids=lambda options: next(iter(options)),
)
def test_replays_with(backend, launches, options):
    same(*both(backend, optimizer=bpx.SGD(0.1), **options))
    assert len(launches) == 26


@on_both
def test_masks_go_on_from_step_to_step(backend, launches):
    layers = bpx.layers.Dense(8, "relu"), bpx.layers.Dropout(0.4), bpx.layers.Dense(4, "softmax")
    same(*both(backend, *layers, optimizer=bpx.Adam(0.01)))
    assert len(launches) == 26


L = bpx.layers
IMAGES = {
    "two axes": [
        L.Reshape((1, 2, 3)), L.Conv2D(4, 2, "tanh", padding=1), L.MaxPool2D(2, 1),
        L.Conv2D(6, (1, 2), "silu", groups=2), L.AveragePool2D(2, 1), L.Flatten(),
    ],
    "one axis": [L.Reshape((2, 3)), L.Conv1D(4, 2, "relu", padding="same"), L.Flatten()],
    "turned": [L.Reshape((3, 2)), L.Permute((1, 0)), L.Conv1D(4, 2, "relu"), L.Flatten()],
    "made larger": [
        L.Reshape((1, 2, 3)), L.Upsample2D((2, 1)), L.Conv2D(4, 3, "tanh", padding=1),
        L.Upsample2D(2), L.Flatten(),
    ],
    "means": [L.Reshape((1, 2, 3)), L.Conv2D(5, 2, use_bias=False), L.GlobalAveragePool2D()],
}  # fmt: skip
images = pytest.mark.parametrize("name", IMAGES)


@on_both
def test_embeddings_are_replayed(backend, launches):
    layers = L.Embedding(7, 3), L.Flatten(), L.Dense(4, "softmax")
    words = np.arange(230 * 6).reshape(230, 6) % 7
    same(*both(backend, *layers, x=words, optimizer=bpx.Adam(0.01), l2=1.0))
    assert len(launches) == 26


@on_both
def test_branches_are_replayed(backend, launches):
    category = [L.Columns([2]), L.Embedding(7, 3), L.Flatten()]
    others = [L.Columns([0, 1, 3, 4]), L.Dense(3, "tanh"), L.Dropout(0.2)]
    x = problem()[0]
    x[:, 2] = np.arange(230) % 7
    layers = L.Concatenate([category, others, []]), L.Dense(4, "softmax")
    same(*both(backend, *layers, x=x, optimizer=bpx.Adam(0.01), l2=1.0))
    assert len(launches) == 26


@on_both
@images
def test_convolutions_and_pooling_are_replayed(backend, launches, name):
    layers = *IMAGES[name], L.Dense(4, "softmax")
    same(*both(backend, *layers, optimizer=bpx.SGD(0.1, momentum=0.9), l2=1.0))
    assert len(launches) == 26


@on_both
def test_bytes_are_scaled_as_they_are_gathered(backend, launches):
    x = np.random.default_rng(0).integers(255, size=(230, 6), dtype=np.uint8)
    layers = bpx.layers.Rescale(1 / 255), bpx.layers.Dense(4, "softmax")
    same(*both(backend, *layers, x=x, optimizer=bpx.SGD(0.5)))
    assert len(launches) == 26


@on_both
def test_a_last_smaller_batch_is_a_step_by_itself(backend, launches):
    found = []
    x, y = problem(47)
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on)
        history = net.fit(x, y, epochs=2, batch_size=10, graph=graph, optimizer=bpx.SGD(0.1))
        assert net.steps == 10
        found.append((history, np.array(net.backend.to_host(net.parameters))))
    same(*found)
    assert launches == [1, 1, *[1] * 8]


@on_both
def test_a_last_smaller_batch_that_is_left_out(backend, launches):
    found = []
    x, y = problem(47)
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on)
        options = {"graph": graph, "optimizer": bpx.SGD(0.1), "l2": 0.3, "drop_last": True}
        history = net.fit(x, y, epochs=2, batch_size=10, **options)
        assert net.steps == 8
        found.append((history, np.array(net.backend.to_host(net.parameters))))
    same(*found)
    assert launches == [1, 1, *[1] * 8]


@on_both
def test_regressions_and_bars(backend, launches):
    x, _ = problem()
    net = network(backend, bpx.layers.Dense(1), cost="quadratic")
    history = net.fit(
        x, x[:, :1], epochs=4, batch_size=10, graph=True, progress=True, optimizer=bpx.SGD(0.1)
    )
    assert history["training_cost"][-1] < 1e-6
    assert net.steps == 92


@on_both
def test_many_quantiles(backend, launches):
    x, _ = problem()
    cost, found = bpx.costs.Quantile(tuple(np.linspace(0.1, 0.9, 9).tolist())), []
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on, bpx.layers.Dense(9), cost=cost)
        net.fit(x, x[:, :1], epochs=3, batch_size=10, graph=graph, optimizer=bpx.SGD(0.1))
        found.append(np.array(net.backend.to_host(net.parameters)))
    assert np.abs(found[0] - found[1]).max() <= 1e-12 * np.abs(found[0]).max()
    assert len(launches) == 26


@on_both
@pytest.mark.parametrize("cost", [bpx.costs.Quantile((0.1, 0.5, 0.9)), bpx.costs.GaussianNLL()])
def test_several_outputs_for_each_target(backend, launches, cost):
    x, _ = problem()
    found = []
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on, bpx.layers.Dense(2 * cost.outputs_per_target), cost=cost)
        net.fit(x, x[:, :2], epochs=3, batch_size=10, graph=graph, optimizer=bpx.SGD(0.01))
        found.append(np.array(net.backend.to_host(net.parameters)))
    assert np.abs(found[0] - found[1]).max() <= 1e-12 * np.abs(found[0]).max()
    assert len(launches) == 26


@on_both
def test_divergence_is_found_at_its_step(backend, launches):
    x, _ = problem()
    found = []
    x[77] = 1e200  # finite, and its square is not
    for on, graph in ((NumpyBackend(), "auto"), (backend, True)):
        net = network(on, bpx.layers.Dense(1), cost="quadratic")
        with pytest.raises(bpx.DivergenceError) as caught:
            net.fit(x, x[:, :1], batch_size=10, graph=graph, shuffle=False, optimizer=bpx.SGD(0.1))
        found.append(caught.value)
        assert np.isfinite(net.backend.to_host(net.parameters)).all()
    assert found[0].args == found[1].args
    assert found[0].step == 8


@on_both
def test_divergence_at_once_is_no_fault_of_the_graph(backend):
    x, _ = problem()
    x[3] = 1e200
    net = network(backend, bpx.layers.Dense(1), cost="quadratic")
    with pytest.raises(bpx.DivergenceError) as caught:
        net.fit(x, x[:, :1], batch_size=10, graph=True, shuffle=False, optimizer=bpx.SGD(0.1))
    assert caught.value.step == 1


@on_both
def test_the_host_does_not_wait_within_an_epoch(backend, monkeypatch):
    """Reads of a device are counted between an epoch's first launch and its last."""
    reads, seen = [], []
    to_host, run = type(backend).to_host, Captured.run
    monkeypatch.setattr(
        type(backend), "to_host", lambda self, a: reads.append(a.shape) or to_host(self, a)
    )

    def noted(self, most):
        count = run(self, most)
        seen.append(len(reads))
        return count

    monkeypatch.setattr(Captured, "run", noted)
    x, y = problem()
    network(backend).fit(x, y, epochs=2, batch_size=10, graph=True, optimizer=bpx.Adam())
    first, second = seen[2:10], seen[10:]  # after the two that are compared
    assert len(set(first)) == len(set(second)) == 1
    assert second[0] - first[0] <= 5  # the log and the vectors that must be finite


@on_both
def test_replays_are_compared_on_the_device(backend, monkeypatch):
    """Of the log and the vectors the host reads two rows, before the first replay."""
    read, kind, compare = [], type(backend), Replayed.holds
    to_host = kind.to_host

    def noted(self, order):
        with monkeypatch.context() as patch:
            patch.setattr(
                kind, "to_host", lambda self, a: read.append(a.shape) or to_host(self, a)
            )
            return compare(self, order)

    monkeypatch.setattr(Replayed, "holds", noted)
    x, y = problem()
    network(backend).fit(x, y, epochs=2, batch_size=10, graph=True, optimizer=bpx.Adam())
    assert read == [(2, 3)]


def test_ways_agree_to_a_hundredth_and_to_rounding(backend, put):
    xp = backend.xp
    start, end = put(np.zeros(3, np.float32)), put(np.array([1.0, -2.0, 0.0], np.float32))
    still, none = put(np.full(2, 9.0, np.float32)), put(np.zeros((0, 3), np.float32))
    copies = [xp.asarray(array, copy=True) for array in (end, still, none)]
    assert agree(xp, [start, still, none], copies, [end, still, none])
    for off, near in ((0.019, True), (-0.021, False), (np.nan, False)):
        other = put(np.array([1.0, -2.0, off], np.float32))
        assert agree(xp, [start], [end], [other]) == near
    for off, near in ((7e-6, True), (-1e-5, False)):
        assert agree(xp, [still], [still], [still + off]) == near


class Waiting(np.ndarray):
    """An array on a device, where each value that Python asks for is a wait.

    Its products are CuPy's own, which refuse to be recorded.
    """

    waits: ClassVar[list[str]] = []

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(Waiting)

    def __matmul__(self, other):
        raise AssertionError("a product in a step that cublas_on_host did not do")

    for _name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist"):

        def _read(self, *arguments, _name=_name):
            Waiting.waits.append(_name)
            return getattr(np.asarray(self), _name)(*arguments)

        locals()[_name] = _read


DENSE = [L.Dense(8, "relu"), L.Dropout(0.4)]


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("layers", [DENSE, *IMAGES.values()], ids=["dense", *IMAGES])
def test_no_value_is_asked_for_in_a_step(rehearsed, monkeypatch, layers, graph):
    kind, counts = type(rehearsed), []
    for name in ("empty", "zeros"):
        make = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, *a, make=make: make(self, *a).view(Waiting))
    work = steps.Steps._step

    def noted(self, *arguments):
        before = len(Waiting.waits)
        work(self, *arguments)
        counts.append(len(Waiting.waits) - before)

    monkeypatch.setattr(steps.Steps, "_step", noted)
    x, y = problem()
    network(rehearsed, *layers, L.Dense(4, "softmax")).fit(
        x, y, epochs=1, batch_size=10, graph=graph, optimizer=bpx.Adam(), clip_norm=1.0
    )
    assert len(counts) >= 23
    assert set(counts) == {0}
    assert bool(rehearsed.zeros((1,), np.float64)) is False
    assert Waiting.waits[-1] == "__bool__"  # they are counted


def test_cupys_namespace_does_not_wait(monkeypatch):
    compat = pytest.importorskip("array_api_compat.numpy", reason="it poses as CuPy's")
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", compat)
    monkeypatch.delitem(sys.modules, "bpx.backends._cupy_namespace", raising=False)
    xp = importlib.import_module("bpx.backends._cupy_namespace")
    x = np.array([[-2.0, -0.0, 0.0], [np.nan, 3.0, np.inf]])
    assert np.array_equal(xp.sign(x), np.sign(x), equal_nan=True)
    assert np.array_equal(xp.vecdot(x, x), np.vecdot(x, x), equal_nan=True)
    for limits in ((-1.0, 2.0), (None, 2.0), (-1.0, None), (None, None)):
        expected = x if limits == (None, None) else np.clip(x, *limits)
        assert np.array_equal(xp.clip(x, *limits), expected, equal_nan=True)
    assert xp.exp is compat.exp
    sys.modules.pop("bpx.backends._cupy_namespace")


# --- what a recording holds ----------------------------------------------------------------------


class Pool:
    def __init__(self, said, what):
        self.said, self.what, self.malloc = said, what, None

    def free_all_blocks(self):
        self.said.append(f"{self.what} freed")


class Stream:
    def __init__(self, said):
        self.said = said

    def begin_capture(self):
        self.said.append("begin")

    def end_capture(self):
        self.said.append("end")
        return Graph(self.said)


class Graph:
    def __init__(self, said):
        self.said = said

    def upload(self, stream):
        self.said.append("uploaded")

    def launch(self):
        self.said.append("launched")

    def __del__(self):
        self.said.append("graph gone")


@pytest.fixture
def cupy(monkeypatch):
    """In the place of CuPy, what `CupyBackend.capture` calls; and what was called."""
    said = []
    cuda = SimpleNamespace(
        get_current_stream=lambda: Stream(said),
        MemoryPool=lambda: Pool(said, "memory"),
        using_allocator=lambda malloc: nullcontext(),
    )
    default = Pool(said, "unused memory")
    cupy = SimpleNamespace(cuda=cuda, get_default_memory_pool=lambda: default)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return said


def test_a_run_ends_on_its_own_device(monkeypatch):
    """Whatever device a callback has made current: a stream is set on the current one."""

    class OnDevice:
        def __init__(self, device=0):
            self.device = device

        def __enter__(self):
            self.before, streams[here[0]] = streams[here[0]], self

        def __exit__(self, *error):
            streams[here[0]] = self.before

        def record(self):
            assert here == [self.device]

        def wait_event(self, event):
            pass

    here, streams = [0], [OnDevice(0), OnDevice(1)]
    cuda = SimpleNamespace(
        get_current_stream=lambda: streams[here[0]], Stream=lambda non_blocking: OnDevice()
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    before = list(streams)
    backend = SimpleNamespace(use=lambda: here.__setitem__(0, 0), _local=threading.local())
    with CupyBackend.surround(backend, None):
        assert streams[0] is backend._local.stream
        here[0] = 1
    assert (here, streams) == ([0], before)


class Elsewhere(NumpyBackend):
    """On which somebody may make another device current."""

    at_home = True

    def use(self):
        self.at_home = True

    def tally(self, *arguments):
        assert self.at_home
        return super().tally(*arguments)

    def compile(self, program):
        return None


@pytest.mark.parametrize("source", ["arrays", "an iterable"])
@pytest.mark.parametrize("when", ["on_step_end", "on_epoch_end"])
def test_steps_are_on_their_own_device(when, source):
    """Also after a callback, or an iterable, has used a network on another."""
    backend = Elsewhere()

    def leave(run):
        backend.at_home = False

    class Batches:
        def __iter__(self):
            for start in range(0, 60, 20):
                backend.at_home = False
                yield x[start : start + 20], y[start : start + 20]

    x, y = problem(60)
    data = {"x": x, "y": y, "batch_size": 20} if source == "arrays" else {"x": Batches()}
    net = network(backend)
    net.fit(**data, epochs=2, callbacks=[SimpleNamespace(**{when: leave})])
    assert net.steps == 6
    assert backend.at_home


def test_a_recording_gives_its_memory_back_after_its_graph(rehearsed, cupy):
    def work():
        assert _cuda_library._captures == 1  # no handle is destroyed meanwhile
        cupy.append("work")

    launch = CupyBackend.capture(rehearsed, work)
    assert _cuda_library._captures == 0
    launch()
    launch()
    before = "unused memory freed"
    assert cupy == [before, "begin", "work", "end", "uploaded", "launched", "launched"]
    cupy.clear()
    del launch
    assert cupy == ["graph gone", "memory freed"]


def test_a_recording_that_fails_ends_and_gives_its_memory_back(rehearsed, cupy):
    with pytest.raises(ZeroDivisionError):
        CupyBackend.capture(rehearsed, lambda: 1 / 0)
    assert cupy[1:] == ["begin", "end", "graph gone", "memory freed"]


# --- where there is no graph ---------------------------------------------------------------------


@dataclass(frozen=True)
class Forgetful(Activation):
    """Not a function of z: what a recording holds is not what the next step does."""

    range: ClassVar[str] = "real"
    calls: ClassVar[list[int]] = []

    def forward(self, xp, z):
        self.calls.append(1)
        return z * float(len(self.calls))

    def backward(self, xp, delta, z, a):
        return delta


@on_both
def test_a_replay_that_differs_is_told_once_and_not_used(backend, launches):
    x, y = problem()
    layers = bpx.layers.Dense(5, Forgetful()), bpx.layers.Dense(4, "softmax")
    net = network(backend, *layers)
    with pytest.warns(RuntimeWarning, match="cannot be replayed as a CUDA graph") as told:
        net.fit(x, y, epochs=3, batch_size=10, optimizer=bpx.SGD(1e-6))
    assert [each.filename for each in told] == [__file__]
    assert launches == [1, 1]
    assert net.steps == 69
    with pytest.raises(RuntimeError, match="did not give what the steps give"):
        network(backend, *layers).fit(x, y, batch_size=10, graph=True, optimizer=bpx.SGD(1e-6))


def test_what_cannot_be_recorded_goes_step_by_step(rehearsed, monkeypatch):
    def refuse(work):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(rehearsed, "capture", refuse)
    x, y = problem()
    layers = bpx.layers.Dropout(0.1), bpx.layers.Dense(4, "softmax")  # not one kernel's
    net, plain = network(rehearsed, *layers), network(rehearsed, *layers)
    with pytest.warns(RuntimeWarning, match=r"StreamCaptureUnsupported; each is launched"):
        net.fit(x, y, epochs=2, batch_size=10)
    plain.fit(x, y, epochs=2, batch_size=10, graph=False)
    assert np.array_equal(net.parameters, plain.parameters)
    with pytest.raises(RuntimeError, match="CaptureUnsupported"):
        network(rehearsed).fit(x, y, batch_size=10, graph=True)


class Mine(bpx.SGD):
    pass


class Hook:
    def on_step_end(self, run):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": Mine(0.1)}, "an optimizer of your own, Mine, runs on the host"),
        ({"callbacks": [Hook()]}, "a callback with on_step_end runs on the host"),
        ({"batch_size": 200}, "a graph needs two full mini-batches or more"),
    ],
)
def test_graph_true_says_why_not(rehearsed, options, message):
    x, y = problem()
    with pytest.raises(ValueError, match=message):
        network(rehearsed).fit(x, y, **{"batch_size": 10, **options}, graph=True)
    network(rehearsed).fit(x, y, **{"batch_size": 10, **options}, epochs=1)


def test_graph_true_of_an_iterable_and_of_a_host(rehearsed):
    x, y = problem()
    with pytest.raises(ValueError, match="a graph needs x and y in memory"):
        network(rehearsed).fit([(x, y)], epochs=1, graph=True)
    with pytest.raises(ValueError, match='a graph needs backend="cupy", and the network is on'):
        network("numpy").fit(x, y, graph=True)
    with pytest.raises(ValueError, match="expected graph \"auto\", True or False, got 'yes'"):
        network("numpy").fit(x, y, graph="yes")
