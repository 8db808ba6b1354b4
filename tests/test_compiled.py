"""Compiled runs and predictions against the steps in Python: the same numbers, the same errors."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import compiled_runs
import numpy as np
import pytest
from compiled_runs import (
    ENDS,
    FAST,
    HIDDEN,
    NORMALIZING,
    OPTIMIZERS,
    PLAIN,
    STEPS,
    agree,
    divergence,
    installed,
)

import bpx
from bpx import dense_chain
from bpx.backends import _ahead, _fast, _fast_steps, _machine_code, _threads
from bpx.backends._numpy_elementwise import SMALL
from bpx.optimizers import State
from bpx.training import program
from bpx.training.updates import Penalty


@pytest.fixture(params=[PLAIN, FAST], ids=["numpy", "numba"])
def run(request):
    """A backend that compiles."""
    return installed(request.param)


@pytest.fixture
def fits(run):
    return partial(compiled_runs.fits, (STEPS, run))


@pytest.fixture
def classes(rng):
    return rng.normal(size=(23, 7)), rng.integers(4, size=23)


@pytest.mark.parametrize("why", ["no locator available", "No space left on device"])
def test_nowhere_to_keep_what_is_compiled(monkeypatch, caplog, why):
    """Each process compiles for itself, and says so once."""
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    from numba.core import caching

    from bpx.backends import _jit

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if "locator" in why:
        monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    else:
        for name in ("load", "save"):
            monkeypatch.setattr(caching.IndexDataCacheFile, name, full)
    monkeypatch.setattr(_jit, "_told", False)
    compiled = _jit.called_by_address(_jit.INTEGER, _jit.INTEGER)
    assert compiled(lambda a: a + 1).ctypes(2) == 3
    assert compiled(lambda a: a + 2).ctypes(2) == 4
    (record,) = [record for record in caplog.records if "compiling what" not in record.message]
    assert record.levelname == "WARNING"
    assert why in record.message
    assert "set NUMBA_CACHE_DIR in the environment to a folder" in record.message


def test_a_change_in_any_file_of_compiled_functions_compiles_anew(tmp_path):
    """They are inlined in functions of other files, for which Numba checks those files alone."""
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    copy = tmp_path / "bpx"
    shutil.copytree(Path(bpx.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": ""}

    def loaded():
        program = """
import numpy as np
from bpx.backends import _machine_code, _numba_gather, _numba_random
made = _numba_gather.gatherer(*3 * [np.dtype("float32")]), _numba_random.keep()
without = not hasattr(_machine_code.load("_numba_random", "keep").owner, "cache_hits")
print(sum(each.cache_hits for each in made) + without)
"""
        command = [sys.executable, "-c", program]
        return int(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True))

    assert [loaded(), loaded()] == [0, 3]
    for name in ("random.py", "backends/_cblas.py", "backends/_numba_vectors.py"):
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write("# another\n")
        assert loaded() == 0, name


def test_the_files_of_compiled_functions_are_all_that_they_import():
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    known = {path.stem for path in _machine_code.sources()} | {"_base"}  # for types alone
    compiled = [path for path in _machine_code.sources() if path.stem.startswith("_numba")]
    beside = [path for path in _machine_code.sources() if path.stem in ("_fast_run", "_jit")]
    for path in compiled + beside:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                taken = [node.module] if node.module else [name.name for name in node.names]
                assert known.issuperset(taken), path
    assert len(compiled) == 18


def test_every_compiled_function_is_compiled_ahead():
    found = []
    for path in Path(_ahead.__file__).parent.glob("_numba_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            if isinstance(node, ast.FunctionDef) and "called_by_address" in names:
                found.append((path.stem, node.name, len(node.args.args)))
    ahead = _ahead.functions(["float32"], ["uint8"])
    assert {(module, name, len(dtypes)) for module, name, *dtypes in ahead} == set(found)


@pytest.mark.parametrize("scale", [None, 1.0 / 255, (0.5, 2.0)])
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_functions_of_the_usual_inputs_are_compiled_ahead(monkeypatch, real, scale):
    """Scaled by one number or by one for each column."""

    class Wanted(Exception):
        pass

    def refuse(*names):
        raise Wanted(*names)

    monkeypatch.setattr(_machine_code, "load", refuse)
    scaled = [] if scale is None else [bpx.layers.Rescale(scale)]
    chain = [bpx.layers.Input(2), *scaled, bpx.layers.Dense(2, "softmax")]
    for source in _ahead.INPUTS:
        with pytest.raises(Wanted) as wanted:
            bpx.Network(chain, dtype=real, backend=FAST).fit(np.zeros((4, 2), source), [0, 1] * 2)
        assert wanted.value.args[1] == "gatherer"
        assert wanted.value.args in set(_ahead.functions([real]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("cost", "output"), ENDS)
def test_each_activation_and_cost(fits, rng, dtype, cost, output):
    x = rng.normal(size=(23, 7))
    y = 0.5 * rng.random(size=(23, 4))  # none names two classes
    if output == "softmax":
        y /= y.sum(axis=1, keepdims=True)
    for both in [["exp", "tanh"], *([hidden, hidden] for hidden in HIDDEN)]:

        def make(backend, both=both):
            return bpx.Network([7, 6, 5, 4], hidden=both, output=output, cost=cost, seed=0,
                               dtype=dtype, backend=backend)  # fmt: skip

        for weight in None, rng.random(23):
            options = {"batch_size": 5, "optimizer": bpx.SGD(0.1), "sample_weight": weight}
            agree(*fits(make, x, y, epochs=1, **options), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize(
    "penalty",
    [
        *({}, {"l2": 0.5}, {"clip_norm": 0.1}, {"l2": 0.5, "clip_norm": 1e9}),
        *({"l1": 0.3}, {"clip_value": 0.1}, {"l1": 0.3, "l2": 0.5, "clip_norm": 0.1}),
        {"l1": 0.3, "l2": 0.5, "clip_value": 0.1, "clip_norm": 0.05},
    ],
    ids=str,
)
def test_each_optimizer(fits, classes, dtype, optimizer, penalty):
    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype=dtype, backend=backend)

    options = {"epochs": 2, "batch_size": 5, "optimizer": optimizer} | penalty
    others = (
        partial(each, dtype=dtype) for each in (compiled_runs.dropping, compiled_runs.summing)
    )
    for network in (make, *others):
        agree(*fits(network, *classes, **options), dtype)
    x, y = classes
    for network, columns in (
        (compiled_runs.joining, 3),
        (compiled_runs.looking_up, 7),
        (compiled_runs.averaging, 7),
    ):
        of_table = partial(network, dtype=dtype), compiled_runs.numbered(x, columns), y
        agree(*fits(*of_table, **options), dtype)
    # Of three rows or five the variance may be small, by which roundings of x are divided.
    loose = dtype == "float32"
    for each in NORMALIZING:
        normalizing = partial(each, dtype=dtype)
        agree(*fits(normalizing, *classes, **options), dtype, 50.0 if loose else 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "gelu", "silu", "softplus", "elu"])
@pytest.mark.parametrize("bias", [-50.0, -1e4, 50.0])
def test_units_that_are_saturated_stand_still(fits, dtype, hidden, bias):
    def make(backend):
        net = bpx.Network(
            [1, 1, 1], hidden=hidden, output="identity", dtype=dtype, backend=backend
        )
        net.parameters[...] = 1.0
        net.biases[0] = [bias]
        return net

    # Adam makes a step of its full length of the smallest gradient that is not 0.
    data = np.ones((20, 1)), np.full((20, 1), 90.0)
    one, two = fits(make, *data, batch_size=1, epochs=5, optimizer=bpx.Adam(0.01))
    assert np.allclose(one.parameters, two.parameters, rtol=1e-5, atol=1e-5)


def test_masks_go_by_all_steps_of_a_network(fits, classes):
    """Also those that another optimizer did."""

    def make(backend):
        net = compiled_runs.dropping(backend)
        net.fit(*classes, epochs=1, batch_size=7)
        net.optimizer_state = None
        return net

    options = {"epochs": 2, "batch_size": 5, "optimizer": bpx.Adam()}
    one, two = fits(make, *classes, **options)
    assert two.steps > two.optimizer_state.step
    agree(one, two)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize(
    "network",
    [compiled_runs.dropping, *NORMALIZING, compiled_runs.summing, compiled_runs.joining],
)
def test_a_run_with_masks_norms_or_tables_goes_on_after_ctrl_c_amid_an_epoch(
    run, classes, monkeypatch, tmp_path, clip_norm, network
):
    monkeypatch.setattr(program, "WORK_A_CALL", 1)  # a call a step

    def press(self, run):
        if run.step == 8:
            signal.raise_signal(signal.SIGINT)

    options = {"epochs": 3, "batch_size": 5, "optimizer": bpx.Adam(), "clip_norm": clip_norm}
    whole, stopped, resumed = (network(run) for _ in range(3))
    classes = compiled_runs.numbered(classes[0]), classes[1]
    whole.fit(*classes, **options)
    with monkeypatch.context() as patch:  # of the bar's own, after which no step is by itself
        patch.setattr(bpx.callbacks.Progress, "on_step_end", press)
        with pytest.warns(RuntimeWarning, match="interrupted by Ctrl-C"):
            stopped.fit(*classes, checkpoint=tmp_path, progress=True, **options)
    assert (stopped.steps, stopped.history.interrupted) == (8, True)
    resumed.fit(*classes, checkpoint=tmp_path, resume=True, **options)
    assert np.array_equal(resumed.parameters, whole.parameters)
    assert np.array_equal(resumed.state, whole.state)


@pytest.mark.parametrize("epochs", [4, 2])
def test_masks_go_on_from_those_that_a_callback_draws(run, classes, tmp_path, epochs):
    x, y = classes

    def draw(run):
        run.net.activations(x[:5], training=True)

    def go(backend=run, **options):
        net = compiled_runs.dropping(backend)
        net.fit(x, y, batch_size=5, callbacks=draw, **options)
        return net

    by_itself = go(STEPS, epochs=4)
    go(epochs=epochs, checkpoint=tmp_path)
    found = go(epochs=4, checkpoint=tmp_path, resume=True)
    assert found.steps == by_itself.steps
    assert np.abs(found.parameters - by_itself.parameters).max() < 1e-12


def test_clipping_where_squares_have_no_room(fits):
    """Of a gradient of 1e200."""
    x, y = 1e200 * np.eye(3), [0, 1, 0]

    def make(backend):
        return bpx.Network([3, 2], output="softmax", weights="zeros", bias="zeros",
                           dtype="float64", backend=backend)  # fmt: skip

    options = {"epochs": 1, "batch_size": 3, "clip_norm": 1.0, "optimizer": bpx.SGD(1.0)}
    found = fits(make, x, y, **options)
    agree(*found)
    assert abs(np.linalg.norm(found[1].parameters) - 1.0) < 1e-12


def test_two_masks_between_two_layers_go_step_by_step(fits, classes):
    middle = [bpx.layers.Dropout(0.5), bpx.layers.Dropout(0.1)]
    layers = [bpx.layers.Input(7), *middle, bpx.layers.Dense(4, "softmax")]

    def make(backend):
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    agree(*fits(make, *classes, compiled=False, epochs=1, batch_size=5))


def test_a_last_mini_batch_that_is_left_out(fits, classes):
    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype="float64", backend=backend)

    options = {"epochs": 3, "batch_size": 5, "l2": 0.5, "drop_last": True}
    found = fits(make, *classes, **options)
    agree(*found)
    assert found[1].steps == 12


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_a_step_has_the_same_bits_wherever_its_part_of_theta_begins(monkeypatch, rng, optimizer):
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    monkeypatch.setenv("BPX_FAST", "1")
    backend, optimizer = _fast.FastBackend(), bpx.optimizers.as_optimizer(optimizer)
    theta, grad, *slots = rng.random(size=(2 + len(optimizer.slots()), 40_000)).astype("float32")

    def stepped(start, stop):
        w, g, *of_part = (array[start:stop].copy() for array in (theta, grad, *slots))
        of_part = dict(zip(optimizer.slots(), of_part, strict=True))
        state = State(backend, 30_000 - start, of_part, step=3)
        backend.optimize(optimizer, w, g, state, 3, optimizer.scalars(state, 3))
        return w, *of_part.values()

    whole, first, second = stepped(0, 40_000), stepped(0, 17_003), stepped(17_003, 40_000)
    for expected, *parts in zip(whole, first, second, strict=True):
        assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("optimizer", [bpx.RMSprop, partial(bpx.SGD, momentum=0.9, nesterov=True)])
def test_a_schedule_goes_by_the_steps_of_the_optimizer(fits, classes, optimizer):
    """Which are not those of a network that has been trained with another one."""
    x, y = classes

    def make(backend):
        net = bpx.Network([7, 6, 4], seed=0, dtype="float64", backend=backend)
        net.fit(x, y, batch_size=5, epochs=1, optimizer=bpx.SGD(0.1))
        return net

    decaying = optimizer(bpx.schedules.Exponential(0.01, 2, 0.9))
    one, two = fits(make, x, y, epochs=1, batch_size=5, optimizer=decaying)
    assert one.steps > one.optimizer_state.step
    agree(one, two)


def test_whole_numbers_of_an_optimizer(fits, classes):
    """Compiled code reads floats."""

    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype="float64", backend=backend)

    optimizer = bpx.RMSprop(1, rho=0, epsilon=1)
    agree(*fits(make, *classes, epochs=2, batch_size=5, optimizer=optimizer), "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("m", [7, 8, 16, 17, 32, 33])
@pytest.mark.parametrize("sizes", [[256, 24, 200, 3], [900, 600, 3]])
def test_each_way_of_a_product(fits, rng, dtype, m, sizes):
    # On both sides of the shapes for which it is transposed, or done in loops, and of what one
    # thread does.
    x, y = rng.normal(size=(m + 9, sizes[0])), rng.integers(3, size=m + 9)

    def make(backend):
        return bpx.Network(sizes, seed=0, dtype=dtype, backend=backend)

    agree(*fits(make, x, y, epochs=2, batch_size=m, optimizer=bpx.SGD(0.1, momentum=0.9)), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("cost", "output"), [ENDS[-1], ENDS[0]])
@pytest.mark.parametrize("m", [SMALL // 4, SMALL // 4 + 1, SMALL, SMALL + 1])
def test_each_way_of_a_sum(fits, rng, dtype, cost, output, m):
    # Of z and a bias, of a bias's gradient and of the costs, on both sides of where each changes.
    x = rng.normal(size=(m + 9, 3))
    y = np.eye(2)[(x[:, 0] > 0.0).astype(int)]  # of x, or the terms of a gradient cancel out

    def make(backend):
        ends = {"cost": cost, "output": output}
        return bpx.Network([3, 4, 2], seed=0, dtype=dtype, backend=backend, **ends)

    agree(*fits(make, x, y, epochs=2, batch_size=m, optimizer=bpx.SGD(0.1, momentum=0.9)), dtype)


@pytest.mark.parametrize("kind", _fast.INPUTS)
@pytest.mark.parametrize("scaled", [None, (0.5, 0.0), (0.5, 1.0), "columns"])
def test_each_kind_of_input(fits, rng, kind, scaled):
    x = rng.integers(2, size=(23, 3)).astype(kind)
    y = rng.integers(2, size=23)
    layers = [bpx.layers.Input(3), bpx.layers.Dense(4, "tanh"), bpx.layers.Dense(2, "softmax")]
    if scaled == "columns":
        layers.insert(1, bpx.layers.Rescale((1.0, 2.0, 3.0), (0.0, -1.0, 0.5)))
    elif scaled:
        layers.insert(1, bpx.layers.Rescale(*scaled))

    def make(backend):
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    agree(*fits(make, x, y, epochs=1, batch_size=4, optimizer=bpx.SGD(0.1)))


def test_offsets_are_added_in_double_precision(fits, rng):
    options = {"epochs": 1, "batch_size": 4, "optimizer": bpx.SGD(0.1)}
    agree(*fits(*compiled_runs.shifted(rng), **options), "float32")


@pytest.mark.parametrize("kind", ["float16", "float32", ">f4", ">f8", "uint64", ">i4", "bool"])
@pytest.mark.parametrize("mapped", [False, True])
def test_each_kind_of_target(fits, rng, tmp_path, kind, mapped):
    x, y = rng.normal(size=(23, 3)), rng.integers(2, size=(23, 2)).astype(kind)
    np.save(tmp_path / "y.npy", y)
    y = np.load(tmp_path / "y.npy", mmap_mode="r" if mapped else None)

    def make(backend):
        return bpx.Network([3, 4, 2], seed=0, task="multilabel", backend=backend)

    agree(*fits(make, x, y, epochs=2, batch_size=4, optimizer=bpx.SGD(0.1)), "float32")


@pytest.mark.parametrize("kind", ["int8", "int32", "uint16", "uint64", ">i8"])
def test_each_kind_of_order(fits, classes, kind):
    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype="float64", backend=backend)

    def order():
        return np.arange(23)[::-1].astype(kind)

    agree(*fits(make, *classes, epochs=2, batch_size=5, shuffle=order, optimizer=bpx.SGD(0.1)))


def test_other_memory_orders_and_read_only_and_memory_maps(fits, rng, tmp_path):
    x, y = rng.normal(size=(40, 6)), rng.integers(3, size=40)
    readonly = x.copy()
    readonly.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    def make(backend):
        return bpx.Network([6, 5, 3], seed=0, dtype="float64", backend=backend)

    unaligned = np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    assert not unaligned.flags.aligned
    by_columns, gaps, backwards = np.asfortranarray(x), np.hstack([x, x])[:, ::2], x[::-1, ::-1]
    for other in (by_columns, gaps, backwards, x[::3], unaligned, readonly, mapped):
        agree(*fits(make, other, y[: len(other)], epochs=1, batch_size=8, optimizer=bpx.SGD(0.1)))


def test_targets_labels_and_weights_in_any_order_of_memory(fits, rng):
    """As those of a frame are."""
    x, labels, weights = rng.normal(size=(40, 6)), rng.integers(3, size=40), rng.random(40)
    targets = np.eye(3)[labels]

    def make(backend):
        return bpx.Network([6, 5, 3], seed=0, dtype="float64", backend=backend)

    options = {"epochs": 1, "batch_size": 8, "optimizer": bpx.SGD(0.1)}
    for y in targets, labels:
        agree(*fits(make, x, y, sample_weight=weights, **options))
    gaps = np.stack([weights, weights], 1)[:, 0]
    for y in np.asfortranarray(targets), np.stack([labels, labels], 1)[:, 1], labels[::-1]:
        agree(*fits(make, x, y, sample_weight=gaps, **options))


def test_rows_in_an_order_of_any_memory(fits, rng):
    x, y = rng.normal(size=(40, 6)), rng.integers(3, size=40)
    order = rng.permutation(40)
    readonly = order.copy()
    readonly.flags.writeable = False

    def make(backend):
        return bpx.Network([6, 5, 3], seed=0, dtype="float64", backend=backend)

    for given in (order[::-1], np.stack([order, order], 1)[:, 1], readonly, order.astype(">i4")):
        options = {"shuffle": lambda given=given: given, "optimizer": bpx.SGD(0.1)}
        agree(*fits(make, x, y, epochs=1, batch_size=8, **options))


def test_weights_frozen_layers_no_bias_multilabel_and_one_output(fits, rng, classes):
    for make, x, y, options in compiled_runs.of_each_kind(rng, *classes):
        agree(*fits(make, x, y, **options))


def test_masks_and_clipping_with_weights_and_frozen_layers(fits, rng, classes):
    for make, x, y, options in compiled_runs.masked_and_clipped(rng, *classes):
        agree(*fits(make, x, y, **options))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_activation_layer_is_that_of_the_dense_one_before_it(fits, classes, dtype):
    made = bpx.layers

    def chain(*between):
        return [made.Input(7), made.Dense(6), *between, made.Dense(4, "softmax")]

    for between, compiled in (
        ([made.Activation("tanh")], True),
        ([made.Activation("gelu"), made.Dropout(0.5)], True),
        ([made.Dense(6, "silu"), made.Activation("identity"), made.Dropout(0.5)], False),
        ([made.Activation("silu"), made.Activation("tanh")], False),
        ([made.Dropout(0.5), made.Activation("gelu")], False),
    ):

        def make(backend, between=between):
            return bpx.Network(chain(*between), seed=0, dtype=dtype, backend=backend)

        options = {"epochs": 2, "batch_size": 5, "optimizer": bpx.SGD(0.2)}
        agree(*fits(make, *classes, compiled=compiled, **options), dtype)


def test_with_a_callback_after_each_step_it_goes_step_by_step(fits, classes):
    def make(backend):
        return bpx.Network([7, 6, 4], seed=0, dtype="float64", backend=backend)

    class Steps(bpx.Callback):
        def on_step_end(self, run):
            pass

    agree(*fits(make, *classes, compiled=False, epochs=1, batch_size=5,
                optimizer=bpx.SGD(0.1), callbacks=Steps()))  # fmt: skip


def test_an_activation_of_ones_own_is_never_replaced(fits, classes):
    cube = bpx.CustomActivation(lambda xp, z: z**3, lambda xp, z, a: 3 * z**2)

    def make(backend):
        return bpx.Network([7, 6, 4], hidden=cube, seed=0, dtype="float64", backend=backend)

    agree(*fits(make, *classes, compiled=False, epochs=1, batch_size=5, optimizer=bpx.SGD(0.1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_relu_in_place_and_beside(rng, dtype):
    z = rng.normal(size=(100, 101)).astype(dtype)
    z[0, :4] = np.nan, -0.0, np.inf, -np.inf
    assert z.size > SMALL  # for the compiled loop
    kernels, relu = _fast.FastBackend(), bpx.activations.ACTIVATIONS.get("relu")
    beside = kernels.activate(relu, z, np.empty_like(z))
    assert np.array_equal(beside, np.where(z < 0.0, 0.0, z), equal_nan=True)
    within = z.copy()
    kernels.activate(relu, within, within)
    assert within.tobytes() == beside.tobytes()


@pytest.mark.parametrize(
    "between",
    [
        [bpx.layers.BatchNorm(trainable=False)],
        [bpx.layers.LayerNorm(), bpx.layers.BatchNorm(), bpx.layers.LayerNorm()],
        [bpx.layers.LayerNorm(), bpx.layers.BatchNorm(), bpx.layers.Activation("relu")],
        [bpx.layers.Activation("tanh"), bpx.layers.BatchNorm(), bpx.layers.Activation("relu")],
        [bpx.layers.Activation("tanh"), bpx.layers.Activation("relu")],
        [bpx.layers.Dropout(0.2), bpx.layers.BatchNorm()],
        [bpx.layers.LayerNorm(), bpx.layers.Dropout(0.2), bpx.layers.Activation("tanh")],
    ],
    ids=str,
)
@pytest.mark.parametrize("own", ["identity", "sigmoid"])
def test_norms_and_activations_in_another_order_go_step_by_step(fits, classes, between, own):
    def make(backend):
        dense = bpx.layers.Dense
        layers = [bpx.layers.Input(7), dense(6, own), *between, dense(4, "softmax")]
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    agree(*fits(make, *classes, compiled=False, epochs=1, batch_size=5, optimizer=bpx.SGD(0.1)))


@pytest.mark.parametrize(
    ("block", "projection"),
    [
        ([bpx.layers.Dense(6, "tanh")], None),
        ([bpx.layers.Dense(6), bpx.layers.LayerNorm()], None),
        ([bpx.layers.LayerNorm(), bpx.layers.BatchNorm(), bpx.layers.Dense(6)], None),
        ([bpx.layers.LayerNorm(), bpx.layers.Activation("tanh"), bpx.layers.Dense(6)], None),
        ([bpx.layers.BatchNorm(trainable=False), bpx.layers.Dense(6)], None),
        ([bpx.layers.LayerNorm()], None),
        ([bpx.layers.Residual([bpx.layers.LayerNorm(), bpx.layers.Dense(6)])], None),
        ([bpx.layers.Dropout(0.5), bpx.layers.Dense(6)], None),
        ([bpx.layers.Dense(6), bpx.layers.Dropout(0.5)], None),
        ([bpx.layers.Dense(6), bpx.layers.Residual([bpx.layers.Dense(6)])], None),
        ([bpx.layers.Residual([bpx.layers.Dense(6)]), bpx.layers.Dense(6)], None),
        ([bpx.layers.Dense(6)], bpx.layers.Dense(6)),
    ],
)
def test_sums_in_another_order_go_step_by_step(fits, classes, block, projection):
    def make(backend):
        dense, residual = bpx.layers.Dense, bpx.layers.Residual(block, projection)
        layers = [bpx.layers.Input(7), dense(6), residual, dense(4, "softmax")]
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    options = {"epochs": 1, "batch_size": 5, "optimizer": bpx.SGD(0.1)}
    agree(*fits(make, *classes, compiled=False, **options))


@pytest.mark.parametrize(
    "before",
    [
        [bpx.layers.Concatenate([[], [bpx.layers.Dense(3)]])],
        [bpx.layers.Concatenate([[], [bpx.layers.Columns([0]), bpx.layers.Dropout(0.5)]])],
        [bpx.layers.Concatenate([[bpx.layers.Concatenate([[], []])], []])],
        [bpx.layers.Embedding(6, 6), bpx.layers.Reshape((42,))],
        [bpx.layers.Embedding(6, 6), bpx.layers.Permute((0, 1)),
         bpx.layers.GlobalAveragePool1D()],
        [bpx.layers.Embedding(6, 6), bpx.layers.Flatten(), bpx.layers.Activation("tanh")],
    ],
)  # fmt: skip
def test_tables_in_another_order_go_step_by_step(fits, classes, before):
    def make(backend):
        layers = [bpx.layers.Input(7), *before, bpx.layers.Dense(4, "softmax")]
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    x, y = classes
    options = {"epochs": 1, "batch_size": 5, "optimizer": bpx.SGD(0.1)}
    agree(*fits(make, compiled_runs.numbered(x, 7), y, compiled=False, **options))


def test_more_rows_than_float32_tells_apart_go_step_by_step(fits, classes, monkeypatch):
    x, y = compiled_runs.numbered(classes[0], 7), classes[1]
    for most, compiled in (39, True), (38, False):
        monkeypatch.setattr(dense_chain, "largest_whole", lambda dtype, most=most: most)
        agree(*fits(compiled_runs.looking_up, x, y, compiled=compiled, epochs=1, batch_size=5))


def test_a_call_is_short_where_the_optimizer_goes_over_a_large_embedding():
    of = bpx.layers
    layers = [of.Input(3), of.Embedding(20_000, 64), of.Flatten(), of.Dense(2, "softmax")]
    dense = bpx.Network(layers, seed=0).chain.architecture.dense
    for rule, l2, steps in (
        ("theta", 0, 1000),
        ("theta", 1, 39),
        ("velocity", 0, 39),
        ("adam", 0, 39),
    ):
        told = SimpleNamespace(layers=dense, batch_size=10, rule=rule, penalty=Penalty(l2=l2))
        assert program.Program.steps_a_call.fget(told) == steps


@pytest.mark.parametrize("value", [99.0, -3.0, np.nan])
def test_x_that_a_callback_changes_is_looked_up_within_an_embedding(run, classes, value):
    """Elsewhere in memory nothing is read or written."""
    x, y = compiled_runs.numbered(classes[0], 7), classes[1]

    def change(run):
        x[:, 1] = value

    net = compiled_runs.looking_up(run)
    with np.errstate(invalid="ignore"):
        net.fit(x, y, epochs=2, batch_size=5, callbacks=change, check_finite=False)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64", "float32", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_rows_of_each_kind(fits, classes, kind, order):
    x, y = compiled_runs.numbered(classes[0], 7), classes[1]
    options = {"epochs": 1, "batch_size": 5, "optimizer": bpx.Adam()}
    agree(*fits(compiled_runs.looking_up, x.astype(kind, order=order), y, **options))


def test_columns_after_a_first_rescale(fits, classes):
    of = bpx.layers

    def make(backend):
        layers = [of.Input(7), of.Rescale(0.5, tuple(range(7))), of.Columns([5, 1, 3]),
                  of.Rescale(2.0, -1.0), of.Dense(4, "softmax")]  # fmt: skip
        return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

    agree(*fits(make, *classes, epochs=2, batch_size=5, optimizer=bpx.SGD(0.1), l2=0.1))


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_norms_of_tables(fits, classes, clip_norm):
    """Whose δ goes through a norm, and around one, before it is the table's."""
    of, x, y = bpx.layers, compiled_runs.numbered(classes[0], 7), classes[1]
    batch, layer, dense = of.BatchNorm(0.3, 0.1), of.LayerNorm(epsilon=0.1), of.Dense
    table = of.Concatenate([[of.Columns([0, 2]), of.Embedding(6, 3), of.Flatten()], []])
    words = [of.Embedding(6, 3), of.Flatten()]
    for chain in (
        [table, batch, of.Dropout(0.2), dense(5, "tanh")],
        [*words, layer, dense(5, "gelu"), of.Dropout(0.1)],
        [*words, of.Residual([batch, of.Dropout(0.1), dense(9, "gelu"), dense(21)])],
        [table, of.Residual([layer, dense(13, "relu"), dense(13)]), of.Activation("tanh"), batch],
        [table, layer, of.Residual([dense(13)])],
    ):

        def make(backend, chain=chain):
            layers = [of.Input(7), *chain, dense(4, "softmax")]
            return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

        for optimizer in OPTIMIZERS[:3]:
            options = {"epochs": 2, "batch_size": 5, "optimizer": optimizer, "l2": 0.1}
            agree(*fits(make, x, y, clip_norm=clip_norm, l1=0.1, **options))


@pytest.mark.parametrize("own", ["identity", *HIDDEN[1:]], ids=str)
def test_a_norm_after_each_activation(fits, classes, own):
    """Also one that needs rows where the other needs units."""
    dense, of = bpx.layers.Dense, bpx.layers
    for norms in (
        [of.LayerNorm()],
        [of.BatchNorm(), of.Dropout(0.3)],
        [of.LayerNorm(), of.Activation(own), of.BatchNorm()],
        [of.BatchNorm(), of.Activation(own), of.LayerNorm(), of.Dropout(0.3)],
    ):

        def make(backend, norms=norms):
            first = dense(6, "identity" if len(norms) > 2 else own)
            layers = [of.Input(7), of.Rescale(0.5), first, *norms, dense(4, "softmax")]
            return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

        agree(*fits(make, *classes, epochs=1, batch_size=5, optimizer=bpx.SGD(0.1)))


@pytest.mark.parametrize("norm", [bpx.layers.BatchNorm(), bpx.layers.LayerNorm()], ids=str)
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_norm_of_the_inputs_of_a_network(fits, classes, norm, clip_norm):
    """Also where nothing else is trained, and where it is not."""
    dense, of = bpx.layers.Dense, bpx.layers
    for chain in (
        [norm, dense(4, "softmax")],
        [norm, dense(4, "softmax", trainable=False)],
        [of.LayerNorm(trainable=False), dense(6, "tanh"), dense(4, "softmax", trainable=False)],
        [of.Rescale(0.5), norm, of.Dropout(0.2), dense(6, "tanh"), dense(4, "softmax")],
        [norm, of.Residual([dense(5, "gelu"), dense(7)]), of.Dropout(0.1), dense(4, "softmax")],
        [of.Residual([norm, of.Dropout(0.2), dense(7)]), norm, dense(4, "softmax")],
    ):

        def make(backend, chain=chain):
            layers = [of.Input(7), *chain]
            return bpx.Network(layers, seed=0, dtype="float64", backend=backend)

        # Adam makes steps of rounding.
        for optimizer in OPTIMIZERS[:3]:
            options = {"epochs": 2, "batch_size": 5, "optimizer": optimizer}
            agree(*fits(make, *classes, clip_norm=clip_norm, **options))


def test_a_last_smaller_mini_batch_has_statistics_of_its_own(fits, rng):
    """Of two rows; and what is left out by drop_last= has none."""
    x, y = rng.normal(size=(22, 7)), rng.integers(4, size=22)
    for drop_last in True, False:
        options = {"epochs": 3, "batch_size": 5, "optimizer": bpx.Adam(), "drop_last": drop_last}
        for make in NORMALIZING:
            one, two = fits(make, x, y, **options)
            assert one.steps == (12 if drop_last else 15)
            agree(one, two)


@pytest.mark.parametrize("at", [2, 5, 7])
@pytest.mark.parametrize("network", [*NORMALIZING, compiled_runs.joining])
def test_a_step_that_diverges_leaves_running_statistics_and_tables(run, rng, at, network):
    x, y = compiled_runs.numbered(rng.normal(size=(40, 7))), rng.integers(4, size=40)
    x[5 * at, 3:] = np.inf
    found = []
    for backend in STEPS, run:
        net = network(backend)
        with pytest.raises(bpx.DivergenceError) as error:
            net.fit(x, y, epochs=1, batch_size=5, shuffle=False, optimizer=bpx.Adam(),
                    check_finite=False)  # fmt: skip
        found.append((str(error.value), net.steps))
        if backend is STEPS:
            expected = net
    assert found[0] == found[1]
    assert net.steps == at
    assert np.allclose(net.state, expected.state, rtol=1e-12, atol=1e-12)
    assert np.allclose(net.parameters, expected.parameters, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu"])
def test_divergence_is_told_alike(run, hidden):
    assert divergence(STEPS, hidden, 8) == divergence(run, hidden, 8)


def test_ctrl_c_ends_after_the_call_at_hand(run, classes, monkeypatch):
    monkeypatch.setattr(program, "WORK_A_CALL", 1)  # a call a step
    net = bpx.Network([7, 6, 4], seed=0, backend=run)
    steps = []

    class Stop(bpx.callbacks.Progress):
        def on_step_end(self, run):
            steps.append(run.step)
            if run.step == 2:
                run.stop("enough")

    history = net.fit(*classes, epochs=3, batch_size=5, optimizer=bpx.SGD(0.1), callbacks=Stop())
    assert steps == [1, 2]
    assert history.stopped == "enough"
    assert net.steps == net.optimizer_state.step == 2


def test_the_bias_of_a_large_batch_is_summed_in_parts(rng):
    """One by one, 200,000 numbers of float32 leave an error of 1e-3."""
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    x = 1.0 + rng.random(size=(200_000, 1))
    moved = []
    for dtype in ("float32", "float64"):
        net = bpx.Network([1, 1], dtype=dtype, weights="zeros", bias="zeros", backend=FAST)
        net.fit(x, np.ones(200_000, int), epochs=1, batch_size=200_000, optimizer=bpx.SGD(1.0))
        moved.append(float(net.biases[0][0]))
    assert abs(moved[0] / moved[1] - 1.0) < 1e-5


def test_numba_is_switched_off_by_the_environment(monkeypatch):
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    for name, off in (("BPX_FAST", "0"), ("NUMBA_DISABLE_JIT", "1")):
        monkeypatch.setenv(name, off)
        assert not _fast.installed()
        monkeypatch.delenv(name)
        assert _fast.installed()
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "")  # which Numba takes for no word
    assert _fast.installed()


def test_small_products_take_one_thread_and_the_setting_comes_back(monkeypatch, rng):
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    # Those that it found: SciPy's may have been loaded since, and takes no part.
    blas = _threads._libraries()

    def counts():
        return [library.num_threads for library in blas]

    if max(counts(), default=1) < 2:
        pytest.skip("BLAS has one thread here")

    sizes = ("tiny", 5, 5), ("between", 20, 10), ("small", 1000, 10), ("large", 1000, 200)
    before, seen = counts(), {}
    for name, width, m in sizes:
        net = bpx.Network([300, width, 3], seed=0, backend=PLAIN)

        class Look(bpx.Callback):
            def on_step_end(self, run, name=name):
                seen[name] = counts()

        x, y = rng.normal(size=(m, 300)), rng.integers(3, size=m)
        net.fit(x, y, epochs=1, batch_size=m, callbacks=Look())
        assert counts() == before
    one = [1] * len(before)
    assert seen == {"tiny": before, "between": one, "small": one, "large": before}


def test_runs_that_overlap_restore_the_setting_once(monkeypatch):
    from bpx.backends import _threads

    class Library:
        num_threads = 8

        def set_num_threads(self, threads):
            self.num_threads = threads

    library = Library()
    monkeypatch.setattr(_threads, "_libraries", lambda: [library])
    first, second = _threads.limited(1), _threads.limited(2)
    first.__enter__()
    second.__enter__()
    assert library.num_threads == 1
    first.__exit__(None, None, None)
    assert library.num_threads == 1  # as a run in progress was told
    second.__exit__(None, None, None)
    assert library.num_threads == 8


def test_a_threadpoolctl_of_no_use(monkeypatch, caplog):
    """One from before version 3, or a damaged one."""
    old = ModuleType("threadpoolctl")
    old.__spec__ = ModuleSpec("threadpoolctl", None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", old)
    _threads._libraries.cache_clear()
    try:
        assert _threads._libraries() == []
    finally:
        _threads._libraries.cache_clear()
    assert "threadpoolctl is of no use (module 'threadpoolctl' has no attribute" in caplog.text


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("together", [False, True])
def test_a_large_velocity_is_not_added_by_numba_on_one_thread(
    run, fits, monkeypatch, rng, momentum, together
):
    asked, steps = [], _fast_steps.steps
    monkeypatch.setattr(_fast_steps, "TIMED", together)
    monkeypatch.setattr(_fast_steps, "steps", lambda *a: asked.append(a) or steps(*a))
    x, y = rng.normal(size=(6, 1100)), rng.integers(3, size=6)

    def make(backend):
        return bpx.Network([1100, 1000, 3], seed=0, dtype="float64", backend=backend)

    agree(*fits(make, x, y, epochs=1, batch_size=3,
                optimizer=bpx.SGD(0.1, momentum)))  # fmt: skip
    assert bool(asked) == (run is FAST and (together or momentum == 0.0))


def test_cross_entropy_of_a_softmax_goes_step_by_step(fits, rng):
    """Its formulas here are those of a sigmoid."""
    x, y = rng.normal(size=(12, 4)), rng.dirichlet(np.ones(3), 12)
    cost = bpx.costs.CrossEntropy()

    def make(backend):
        return bpx.Network([4, 3], output="softmax", cost=cost, task="regression", seed=0,
                           dtype="float64", backend=backend)  # fmt: skip

    agree(*fits(make, x, y, compiled=False, epochs=2, batch_size=3, optimizer=bpx.SGD(0.1)))


# --- the same bits each time ---------------------------------------------------------------------

RUN = """
import hashlib, re, sys
import numpy as np
import bpx
from bpx.backends import _ahead, _fast, _machine_code

rng = np.random.default_rng(0)
x = rng.normal(size=(100, 7)).astype(np.float32)
y = np.argmax(x[:, :3], axis=1)

def net():
    return bpx.Network([7, 33, 26, 3], hidden="tanh", seed=0, backend=_fast.FastBackend())

if "predict first" in sys.argv:
    net().predict(x[:1])
for optimizer in (
    bpx.SGD(0.1), bpx.SGD(0.1, momentum=0.9), bpx.SGD(0.1, momentum=0.9, nesterov=True),
    bpx.RMSprop(), bpx.AdamW(0.01, weight_decay=0.1),
):
    trained = net()
    trained.fit(x, y, epochs=3, batch_size=8, optimizer=optimizer, l2=0.1)
    slots = [slot.tobytes() for slot in trained.optimizer_state.slots.values()]
    print(hashlib.sha256(b"".join([trained.parameters.tobytes(), *slots])).hexdigest())
trained.predict(x[:1])

l = bpx.layers
chain = [
    l.Input((2, 12, 12)), l.Conv2D(16, 3, use_bias=False), l.BatchNorm(), l.Activation("relu"),
    l.MaxPool2D(2), l.Conv2D(4, 3, "relu"), l.Flatten(), l.Dense(3, "softmax"),
]
images = rng.normal(size=(100, 2, 12, 12)).astype(np.float32)
trained = bpx.Network(chain, seed=0, backend=_fast.FastBackend())
if "predict first" in sys.argv:
    trained.predict(images[:1])
trained.fit(images, y, epochs=2, batch_size=50, optimizer=bpx.SGD(0.1))
print(hashlib.sha256(trained.parameters.tobytes()).hexdigest())

dropped = [l.Input(7), l.Dense(900, "relu"), l.Dropout(0.5), l.Dense(101), l.Dense(3, "softmax")]
trained = bpx.Network(dropped, seed=0, backend=_fast.FastBackend())
trained.fit(x, y, epochs=2, batch_size=10, optimizer=bpx.SGD(0.1))
print(hashlib.sha256(trained.parameters.tobytes()).hexdigest())

normal = [
    l.Input(7), l.Dense(33), l.BatchNorm(), l.Activation("tanh"), l.Dense(26), l.LayerNorm(),
    l.Dense(3, "softmax"),
]
trained = bpx.Network(normal, seed=0, backend=_fast.FastBackend())
if "predict first" in sys.argv:
    trained.predict(x[:1])
trained.fit(x, y, epochs=2, batch_size=10, optimizer=bpx.SGD(0.1))
found = trained.parameters.tobytes(), trained.state.tobytes(), trained(x[:3]).tobytes()
print(hashlib.sha256(b"".join(found)).hexdigest())

print("numba" in sys.modules)
ahead = _ahead.functions(["float32"], ["float32"])
functions = [_machine_code.load(*each).owner for each in ahead]
print("numba" in sys.modules)
if "compile" in sys.argv:
    for function in functions:
        code = function.inspect_llvm()
        print(*re.findall(r"define linkonce_odr .*?@\\W?(\\w+)", code), file=sys.stderr)
"""


def test_a_run_that_compiles_ends_as_one_that_loads_what_was_compiled(tmp_path):
    """To the last bit, and without Numba; and whichever function a process has loaded first.

    What `bpx.backends.compile` makes is what they load.
    """
    installed(FAST)

    def run(*words, program=RUN):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "BPX_FAST": "1"}
        command = [sys.executable, "-c", program, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    first = run("compile")
    others = run(), run("predict first")
    sums, imported = first.stdout.split()[:8], first.stdout.split()[8:]
    assert len(set(sums)) == 8
    assert imported == ["True", "True"]
    for other in others:
        assert other.stdout.split() == [*sums, "False", "False"]
    log, *names = first.stderr.splitlines()
    assert log == (
        "compiling what this machine has not needed before: it takes up to about 15 seconds (bpx "
        "compile does all of it beforehand, BPX_FAST=0 avoids it)"
    )
    assert {other.stderr for other in others} == {""}
    # Numba's own (counts of references, arguments of errors) are alike in all copies; there are
    # none of functions of ours.
    assert {name for name in " ".join(names).split() if "bpx" in name} == set()
    ahead, again = (run(program=AHEAD).stdout.splitlines() for _ in range(2))
    others = [name for name in _ahead.INPUTS if name != "float32"]
    scaled = [(name, scaling) for name in others for scaling in ("float32", "float64")]
    new = [f"_numba_gather-gatherer-{name}-{scaling}-float32" for name, scaling in scaled]
    assert ahead == [*new, str(tmp_path), "True"]
    assert again == [str(tmp_path), "False"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("load('_numba_threads', 'watch')", ""),
        ("load('_numba_gather', 'add_at', real)", "(bpx compile --dtype float64 does all of it b"),
        (
            "keep('_numba_gather', 'add_at', real)",
            "it takes about half a minute for each dtype of",
        ),
    ],
)
def test_what_is_said_of_compiling(tmp_path, call, told):
    installed(FAST)
    program = f"""
import numpy
from bpx.backends import _machine_code
real = numpy.dtype("float64")
_machine_code.{call}
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "BPX_FAST": "1"}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told in found.stderr
    assert bool(told) == bool(found.stderr)
    assert ("bpx compile" in found.stderr) == call.startswith("load('_numba_gather'")


AHEAD = """
import sys, bpx
found = bpx.backends.compile()
print(*(each.name for each in found if each.is_new), *{each.folder for each in found}, sep="\\n")
print("numba" in sys.modules)
"""
