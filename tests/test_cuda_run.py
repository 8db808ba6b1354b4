"""Runs of training in one block of CUDA, on the host, against the steps in Python.

`test_cuda.py` compiles the kernel for devices.
"""

from __future__ import annotations

import compiled_runs
import cuda_on_host
import numpy as np
import pytest
from compiled_runs import ENDS, FROM_A, OPTIMIZERS, STEPS, agree

import bpx
from bpx.backends import _cuda, _cuda_run

REALS = ["float64", "float32"]


@pytest.fixture
def fits(rehearsed):
    """Two networks, trained step by step and by the kernel."""

    def both(make, x, y, *, compiled=True, **options):
        nets = compiled_runs.fits((STEPS, rehearsed), make, x, y, compiled=compiled, **options)
        assert ("run_steps" in rehearsed._kernels.launched) == compiled
        return nets

    return both


@pytest.fixture
def classes(rng):
    return rng.normal(size=(23, 7)), rng.integers(4, size=23)


def plain(backend, sizes=(7, 6, 4), **options):
    return bpx.Network(list(sizes), seed=0, dtype="float64", backend=backend, **options)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("cost", "output"), [end for end in ENDS if end in _cuda.COSTS])
def test_each_activation_and_cost(fits, rng, dtype, cost, output):
    x, y = rng.normal(size=(23, 7)), 0.5 * rng.random(size=(23, 4))  # none names two classes
    if output == "softmax":
        y /= y.sum(axis=1, keepdims=True)
    for hidden in FROM_A[:-1]:

        def make(backend, hidden=hidden):
            return bpx.Network([7, 6, 5, 4], hidden=hidden, output=output, cost=cost, seed=0,
                               dtype=dtype, backend=backend)  # fmt: skip

        agree(*fits(make, x, y, epochs=1, batch_size=5, optimizer=bpx.SGD(0.1)), dtype)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_each_optimizer(fits, classes, dtype, optimizer, l2):
    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype=dtype, backend=backend)

    agree(*fits(make, *classes, epochs=2, batch_size=5, optimizer=optimizer, l2=l2), dtype)


@pytest.mark.parametrize("optimizer", [bpx.SGD(0.1), bpx.SGD(0.1, 0.9), bpx.Adam()], ids=repr)
def test_layers_of_many_tiles(fits, rng, optimizer):
    x, y = rng.normal(size=(20, 150)), rng.integers(11, size=20)

    def make(backend):
        return plain(backend, (150, 37, 130, 11), hidden="tanh")

    agree(*fits(make, x, y, epochs=1, batch_size=9, optimizer=optimizer))


@pytest.mark.parametrize(("sizes", "m"), [((10, 50, 200, 1), 1), ((8, 100, 300, 1), 3)])
def test_an_odd_batch_before_a_layer_much_wider_than_those_above(fits, rng, sizes, m):
    # δ's last pair of rows has one row, and what lies behind it is less than another.
    x, y = rng.normal(size=(9, sizes[0])), rng.normal(size=9)

    def make(backend):
        ends = {"output": "identity", "cost": "quadratic"}
        return bpx.Network(list(sizes), seed=0, dtype="float32", backend=backend, **ends)

    agree(*fits(make, x, y, epochs=1, batch_size=m, optimizer=bpx.SGD(1e-3)), "float32")


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", _cuda_run.SOURCES)
@pytest.mark.parametrize("scaled", [None, (0.5, 0.0), (0.5, 1.0), "columns"])
def test_each_kind_of_input(fits, rehearsed, rng, monkeypatch, dtype, kind, scaled):
    seen, compiled = [], _cuda_run.compiled

    def spy(backend, kernels, program, strides):
        seen.append(strides)
        return compiled(backend, kernels, program, strides)

    monkeypatch.setattr(_cuda_run, "compiled", spy)
    # As a user's arrays on the device are: those of the host are put in C order.
    monkeypatch.setattr(type(rehearsed), "from_host", lambda self, array: np.asarray(array))
    x = rng.integers(3, size=(23, 3)).astype(kind)
    y = rng.integers(2, size=23)
    layers = [bpx.layers.Input(3), bpx.layers.Dense(4, "tanh"), bpx.layers.Dense(2, "softmax")]
    if scaled == "columns":
        layers.insert(1, bpx.layers.Rescale((1.0, 2.0, 3.0), (0.0, -1.0, 0.5)))
    elif scaled:
        layers.insert(1, bpx.layers.Rescale(*scaled))

    def make(backend):
        return bpx.Network(layers, seed=0, dtype=dtype, backend=backend)

    for given in (x, np.asfortranarray(x), np.hstack([x, x])[:, ::2]):
        agree(*fits(make, given, y, epochs=1, batch_size=4, optimizer=bpx.SGD(0.1)), dtype)
    assert seen == [(3, 1), (1, 23), (6, 2)]


def test_one_scale_and_an_offset_for_each_input(fits, rng):
    options = {"epochs": 1, "batch_size": 4, "optimizer": bpx.SGD(0.1)}
    agree(*fits(*compiled_runs.shifted(rng), **options), "float32")


@pytest.mark.parametrize(("outputs", "y"), [(1, [[0.5], [0.5], [1.0]]), (40, [0, 0, 5])])
def test_outputs_that_are_a_half_or_equal(fits, rng, outputs, y):
    def make(backend):
        return plain(backend, (3, outputs), weights="zeros", bias="zeros")

    one, two = fits(make, rng.normal(size=(3, 3)), y, epochs=1, batch_size=3)
    assert one.history["training_accuracy"] == two.history["training_accuracy"] == [2 / 3]


def test_weights_frozen_layers_no_bias_multilabel_and_one_output(fits, rng, classes):
    for make, x, y, options in compiled_runs.of_each_kind(rng, *classes):
        agree(*fits(make, x, y, **options))


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_a_precision_is_not_forgotten(rehearsed, classes, precision):
    """The kernel computes in float32 alone."""
    net = bpx.Network([7, 6, 4], seed=0, backend=rehearsed)
    net.fit(*classes, epochs=1, batch_size=5, precision=precision)
    assert "run_steps" not in rehearsed._kernels.launched


@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_any_number_of_calls(fits, classes, monkeypatch, batch_size):
    from bpx.training import program

    monkeypatch.setattr(program, "WORK_A_CALL", 3000)
    agree(*fits(plain, *classes, epochs=2, batch_size=batch_size, optimizer=bpx.Adam(0.01)))


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
@pytest.mark.parametrize("optimizer", [bpx.SGD(1e6), bpx.SGD(1e4, momentum=0.9)], ids=repr)
def test_divergence_is_told_alike(rehearsed, rng, hidden, optimizer):
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    found = []
    for backend in (STEPS, rehearsed):
        net = bpx.Network([5, 8, 2], hidden=hidden, output="identity", cost="quadratic", seed=0,
                          backend=backend)  # fmt: skip
        with pytest.raises(bpx.DivergenceError) as error:
            net.fit(x, y, epochs=50, batch_size=10, optimizer=optimizer)
        assert np.isfinite(net.parameters).all()
        found.append((error.value.epoch, error.value.step, error.value.layer, net.steps))
    assert found[0] == found[1]
    assert "run_steps" in rehearsed._kernels.launched


def test_an_infinite_cost_is_told_alike(rehearsed, rng):
    x, y = rng.normal(size=(20, 5)), rng.normal(size=(20, 2))
    y[12] = 1e200
    found = []
    for backend in (STEPS, rehearsed):
        net = plain(backend, (5, 2), output="identity", cost="quadratic")
        far = pytest.warns(RuntimeWarning, match="y is far from 1")
        with far, pytest.raises(bpx.DivergenceError) as error:
            net.fit(x, y, epochs=1, batch_size=5, shuffle=False, optimizer=bpx.SGD(0.1))
        found.append((error.value.step, net.parameters))
    assert found[0][0] == found[1][0] == 3
    assert np.allclose(found[0][1], found[1][1], rtol=1e-12)
    assert "run_steps" in rehearsed._kernels.launched


def test_nothing_is_written_of_a_step_whose_cost_is_not_finite(rehearsed, monkeypatch, classes):
    x, y = classes
    x[12] = np.nan
    seen = []

    compiled = rehearsed.compile

    def keep(program):
        seen.append((program, compiled(program)))

    monkeypatch.setattr(rehearsed, "compile", keep)
    optimizer, options = bpx.SGD(0.1, momentum=0.9), {"epochs": 1, "batch_size": 5}
    net, good = plain(rehearsed), plain(STEPS)
    with pytest.raises(bpx.DivergenceError):
        net.fit(x, y, optimizer=optimizer, shuffle=False, check_finite=False, **options)
    program, function = seen[0]
    good.fit(x[:10], y[:10], optimizer=optimizer, shuffle=False, **options)
    for vector in (program.theta, *program.slots):
        vector[...] = 0.0
    program.theta[...] = plain(STEPS).parameters
    table, log = np.tile([-0.1, 0.9, 0.9, 0.0], (5, 1)), np.full((5, 3), np.nan)
    assert function(np.arange(23), table, log, np.empty(0)) == 2
    assert np.abs(program.theta - good.parameters).max() <= 1e-14
    assert np.abs(program.slots[0] - good.optimizer_state.slots["velocity"]).max() <= 1e-14
    assert log[:2, 2].tolist() == [5.0, 5.0]


@pytest.mark.parametrize("dtype", REALS)
def test_the_order_of_threads_changes_no_bit(rehearsed, rng, compiled, dtype):
    """With a barrier missing, a thread would read what another one had not written yet."""
    x, y = rng.normal(size=(23, 70)), rng.integers(5, size=23)
    found = []
    for backwards in (False, True):
        for most in (64, 1024):
            rehearsed._kernels = cuda_on_host.Kernels(
                compiled, _cuda.Threads(2, most), backwards=backwards
            )
            net = bpx.Network([70, 19, 18, 5], seed=0, dtype=dtype, backend=rehearsed)
            weight = np.linspace(0.5, 2.0, 23)
            net.fit(x, y, epochs=1, batch_size=5, sample_weight=weight, optimizer=bpx.Adam())
            assert rehearsed._kernels.launched >= {"run_steps"}
            found.append((net.parameters, net.history.row()["training_cost"]))
    for parameters, cost in found[1:]:
        assert np.array_equal(parameters, found[0][0])
        assert cost == found[0][1]


@pytest.mark.parametrize(
    "case",
    [
        "hidden softmax",
        "hidden gelu",
        "quadratic softmax",
        "too large",
        "too much work",
        "int16",
        "l1",
        "norm",
        "norm of inputs",
        "sum",
    ],
)
def test_what_it_does_not_take_goes_step_by_step(fits, rng, classes, monkeypatch, case):
    x, y = classes
    options, made = {"epochs": 1, "batch_size": 5, "optimizer": bpx.SGD(0.1)}, {}
    if case.startswith("hidden"):
        made = {"hidden": case.split()[1]}
    elif case == "quadratic softmax":
        made = {"output": "softmax", "cost": "quadratic"}
    elif case == "too large":
        made = {"sizes": (7, 2000, 10)}
    elif case == "too much work":
        monkeypatch.setattr(_cuda_run, "MOST_WORK", 3 * (42 + 24) * 5 * 2 - 1)
    elif case == "int16":
        x = rng.integers(5, size=x.shape).astype(np.int16)
    elif case == "norm":
        made = {"sizes": [bpx.layers.Input(7), bpx.layers.Dense(6), bpx.layers.LayerNorm(),
                          bpx.layers.Dense(4, "softmax")]}  # fmt: skip
    elif case == "norm of inputs":
        made = {"sizes": [bpx.layers.Input(7), bpx.layers.Dense(6, "relu"), bpx.layers.BatchNorm(),
                          bpx.layers.Dense(4, "softmax")]}  # fmt: skip
    elif case == "sum":
        made = {"sizes": [bpx.layers.Input(7), bpx.layers.Residual([bpx.layers.Dense(7)]),
                          bpx.layers.Dense(4, "softmax")]}  # fmt: skip
    else:
        options["l1"] = 0.1
    agree(*fits(lambda backend: plain(backend, **made), x, y, compiled=False, **options))


def test_a_memory_map_goes_step_by_step(fits, classes, tmp_path):
    np.save(tmp_path / "x.npy", classes[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = {"epochs": 1, "batch_size": 5, "optimizer": bpx.SGD(0.1)}
    agree(*fits(plain, mapped, classes[1], compiled=False, **options))


def test_shared_memory_of_the_first_network_of_the_book():
    for m, dtype, limit in ((10, 4, 163), (10, 8, 288), (32, 4, 227)):
        size = dtype * _cuda_run.elements((784, 30, 10), 23_904, m)
        assert size + _cuda_run.RESERVED <= limit * 1024


def test_shared_memory_is_not_taken_from_another_thread():
    """A smaller network's launch leaves what a larger one has asked for."""
    launched = []

    class Function:
        max_dynamic_shared_size_bytes = 48 << 10

        def __call__(self, blocks, threads, arguments, shared_mem):
            launched.append((shared_mem, self.max_dynamic_shared_size_bytes))

    kernels = _cuda.KernelLauncher()
    kernels._functions["run_steps", _cuda.FLOAT32] = Function()
    for shared in (100_000, 60_000, 200_000):
        kernels("run_steps", _cuda.FLOAT32, _cuda.Threads(1, 1024), (), shared)
    assert launched == [(100_000, 100_000), (60_000, 100_000), (200_000, 200_000)]
