"""Epochs by replays of a recorded step, and products in fewer bits.

On the host `cupy-rehearsed` does the recorded Python again, while the counters that a recording
must not depend on stand still; on a device CUDA replays its graph.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import bpx
from bpx import steps
from bpx.activations import Activation
from bpx.backends import BackendError, _cublas
from bpx.backends._numpy import NumpyBackend
from bpx.captured import STEPS_A_LAUNCH, Captured

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
def test_regressions_and_bars(backend, launches):
    x, _ = problem()
    net = network(backend, bpx.layers.Dense(1), cost="quadratic")
    history = net.fit(
        x, x[:, :1], epochs=4, batch_size=10, graph=True, progress=True, optimizer=bpx.SGD(0.1)
    )
    assert history["training_cost"][-1] < 1e-6
    assert net.steps == 92


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


class Waiting(np.ndarray):
    """An array of a device, of which each value that Python asks for is a wait."""

    waits: ClassVar[list[str]] = []

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(Waiting)

    for _name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist"):

        def _read(self, *arguments, _name=_name):
            Waiting.waits.append(_name)
            return getattr(np.asarray(self), _name)(*arguments)

        locals()[_name] = _read


@pytest.mark.parametrize("graph", [True, False])
def test_no_value_is_asked_for_in_a_step(rehearsed, monkeypatch, graph):
    kind, counts = type(rehearsed), []
    for name in ("empty", "zeros"):
        make = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, *a, make=make: make(self, *a).view(Waiting))
    work = steps.Steps._work

    def noted(self, *arguments):
        before = len(Waiting.waits)
        work(self, *arguments)
        counts.append(len(Waiting.waits) - before)

    monkeypatch.setattr(steps.Steps, "_work", noted)
    x, y = problem()
    layers = bpx.layers.Dense(8, "relu"), bpx.layers.Dropout(0.4), bpx.layers.Dense(4, "softmax")
    network(rehearsed, *layers).fit(
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
    assert xp.exp is compat.exp
    sys.modules.pop("bpx.backends._cupy_namespace")


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
    assert len(told) == 1
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


# --- products in fewer bits ----------------------------------------------------------------------


def numbers(rng):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, 65519.0, 65520.0, 1e30, -1e-30]
    small = [2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-14, 2.0**-14 - 2.0**-26, 6.1e-5, 1 + 2.0**-11]
    drawn = rng.normal(size=5000) * 10.0 ** rng.integers(-8, 6, size=5000)
    return np.array([*special, *small, *drawn], np.float32).reshape(-1, 1)


def test_float16_is_rounded_as_numpy_rounds(rehearsed, rng):
    x, one = numbers(rng), np.zeros(1, np.uint32)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16)
    got = rehearsed._narrow("float16", x, one).view(np.float16)
    assert np.array_equal(got, expected, equal_nan=True)


def test_bfloat16_is_rounded_as_pytorch_rounds(rehearsed, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle for bfloat16")
    x = numbers(rng)
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    got = (rehearsed._narrow("bfloat16", x).astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(got, expected, equal_nan=True)


@on_both
@pytest.mark.parametrize(("precision", "bits"), [("tf32", 11), ("float16", 11), ("bfloat16", 8)])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_products_are_as_precise_as_their_factors(backend, rng, precision, bits, size):
    kernels = backend.in_precision(precision)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((7, 50), (50, 9)))
    a *= np.float32(size)
    out = rng.normal(size=(7, 9)).astype(np.float32)
    expected = 0.5 * a.astype(float) @ b + 2.0 * out
    moved = [backend.from_host(x.copy()) for x in (a, b, out)]
    got = np.array(backend.to_host(kernels.gemm(*moved, 0.5, 2.0)))
    bound = 2.0**-bits * 2 * (0.5 * np.abs(a) @ np.abs(b)).max() + 1e-6 * np.abs(out).max()
    assert np.abs(got - expected).max() <= bound
    turned = [backend.from_host(x.T.copy()).T for x in (a, b)]
    again = kernels.gemm(*turned, backend.from_host(out.copy()), 0.5, 2.0)
    assert np.abs(backend.to_host(again) - expected).max() <= bound


@on_both
@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_training_in_fewer_bits(backend, launches, precision):
    x, y = problem()
    costs = []
    for chosen in (None, "float32", precision):
        net = network(backend, dtype="float32")
        history = net.fit(
            x, y, epochs=5, batch_size=10, precision=chosen, graph=True, optimizer=bpx.SGD(0.1)
        )
        costs.append(history["training_cost"][-1])
        assert net.parameters.dtype == np.float32
    assert costs[0] == costs[1]
    assert costs[2] == pytest.approx(costs[0], rel=0.02)
    assert (costs[2] != costs[0]) or precision == "tf32"  # which the host does not know
    assert net.backend is backend


def test_a_refusal_of_cublas_is_told(rehearsed, monkeypatch):
    a = np.ones((2, 2))
    monkeypatch.setattr(rehearsed.cublas, "_cublasGemmEx", lambda *_: 7)
    with pytest.raises(BackendError, match=r"cuBLAS refused .* cublasGemmEx gave status 7"):
        rehearsed.gemm(a, a, a.copy())


def test_cublas_that_is_not_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    _cublas.library.cache_clear()
    with pytest.raises(BackendError, match=r"cuBLAS, .* was not found .*: pip install 'bpx\[cuda"):
        _cublas.library()


def test_a_handle_is_set_before_its_first_product_and_kept(rehearsed):
    a = np.ones((2, 2))
    for _ in range(2):
        rehearsed.gemm(a, a, a.copy())
    rehearsed.gemm(a, a, a.copy(), np.ones(1), np.ones(1))
    first = ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"]
    rest = ["cublasGemmEx", "cublasGemmEx", "cublasSetPointerMode_v2", "cublasGemmEx"]
    assert rehearsed.cublas.called == first + rest
    del rehearsed._products._local.handle
    assert rehearsed.cublas.called[-1] == "cublasDestroy_v2"


def test_precisions_that_are_not_there():
    x, y = problem()
    net = network("numpy", dtype="float32")
    with pytest.raises(ValueError, match="expected precision to be one of 'float32', 'tf32'"):
        net.fit(x, y, precision="half")
    with pytest.raises(ValueError, match="precision='tf32' needs backend=\"cupy\"; this network"):
        net.fit(x, y, precision="tf32")
    with pytest.raises(ValueError, match="for a network of float32, and this one is of float64"):
        network("numpy").fit(x, y, precision="float32")
