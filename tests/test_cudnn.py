"""Convolutions by cuDNN without a GPU: through a stand-in for its front end, see `cudnn_on_host`.

`test_cudnn_library.py` asks the library itself.
"""

from __future__ import annotations

import gc
import threading

import cudnn_on_host
import numpy as np
import pytest
from test_cuda import STANDARD
from test_kernels import convolutions, lending, worst_difference

import bpx
from bpx import layers as L
from bpx.backends import BackendError, _base, _cuda_library, _cudnn
from bpx.layers.sliding import Sliding

EPS = np.finfo(np.float32).eps
PLAIN = Sliding((6, 5), (3, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))
KERNELS = {"convolve": "conv_fprop", "convolve_weights": "conv_wgrad",
           "convolve_inputs": "conv_dgrad"}  # fmt: skip
kernels = pytest.mark.parametrize("name", KERNELS)


@pytest.fixture
def front(rehearsed, monkeypatch):
    """The stand-in, installed on the backend `rehearsed`."""
    module, take = cudnn_on_host.FrontEnd(), rehearsed._bytes

    def noted(count):
        array = take(count)
        module.allocated[array.ctypes.data] = count
        return array

    monkeypatch.setattr(rehearsed, "_bytes", noted, raising=False)
    rehearsed.install(module)
    return module


def arrays(rng, m=3, groups=1, sliding=PLAIN, dtype=np.float32):
    """x, weights and δ."""
    x = rng.normal(size=(m, 2 * groups, *sliding.lengths)).astype(dtype)
    weights = rng.normal(size=(3 * groups, 2, *sliding.size)).astype(dtype)
    delta = rng.normal(size=(m, 3 * groups, *sliding.counts)).astype(dtype)
    return x, weights, delta


def call(backend, name, x, weights, delta, sliding=PLAIN, room=None, **options):
    """The kernel's result; what it writes to is NaN beforehand."""
    room = room or lending(backend, x.dtype)
    result = {"convolve": delta, "convolve_weights": weights, "convolve_inputs": x}[name]
    out = np.full_like(result, np.nan)
    given = {"convolve": (x, weights), "convolve_weights": (x, delta),
             "convolve_inputs": (delta, weights)}[name]  # fmt: skip
    return getattr(backend, name)(*given, sliding, room, out, **options)


def close(name, got, x, weights, delta, sliding=PLAIN, bits=20):
    """To the standard kernel's, judged by the sizes of the terms."""
    given = x, weights, delta, sliding
    expected = call(STANDARD, name, *given)
    size = call(STANDARD, name, *map(np.abs, given[:3]), sliding)
    assert np.abs(got - expected).max() <= 2.0**-bits * size.max()


# --- through the stand-in ------------------------------------------------------------------------


@kernels
def test_kernels_are_their_standard_twins(rehearsed, front, rng, name):
    assert worst_difference(rehearsed, name, "float32", rng) <= 16 * EPS
    touching = sum(sliding.touches for *_, sliding in convolutions(rng))
    once = 2 if name == "convolve_weights" else 1  # with β and without
    assert front.log.count(KERNELS[name]) == once * touching > 40
    assert set(map(frozenset, front.chosen)) == {frozenset()}


@kernels
def test_a_second_call_makes_and_allocates_nothing(rehearsed, front, rng, monkeypatch, name):
    given = arrays(rng)
    room = lending(rehearsed, np.float32)
    first = call(rehearsed, name, *given, room=room)
    assert front.log == ["create_handle", "set_stream", "plan", KERNELS[name]]
    assert sorted(front.allocated.values()) == [1024]
    monkeypatch.setattr(type(rehearsed), "empty", None)
    monkeypatch.setattr(type(rehearsed), "zeros", None)
    assert np.array_equal(call(rehearsed, name, *given, room=room), first)
    assert front.log[4:] == [KERNELS[name]]


def test_a_plan_for_each_shape_geometry_and_precision(rehearsed, front, rng):
    x, weights, _ = arrays(rng)
    padded = Sliding((6, 5), (3, 2), (1, 1), (1, 1), ((1, 0), (0, 1)))
    for backend, m, sliding in (
        *((rehearsed, 3, PLAIN), (rehearsed, 2, PLAIN), (rehearsed, 3, padded)),
        *((rehearsed.in_precision("tf32"), 3, PLAIN), (rehearsed, 3, PLAIN)),
    ):
        out = np.zeros((m, 3, *sliding.counts), np.float32)  # what was in memory may not be cast
        backend.convolve(x[:m], weights, sliding, lending(rehearsed, np.float32), out)
    assert front.log.count("plan") == 4
    assert front.log.count("create_handle") == 1


def test_the_oldest_plan_goes_when_there_are_too_many(rehearsed, front, rng, monkeypatch):
    monkeypatch.setattr(_cudnn, "PLANS", 2)
    given = arrays(rng)
    for name in (*KERNELS, "convolve_weights", "convolve", "convolve_inputs"):
        call(rehearsed, name, *given)
    assert front.log.count("plan") == 3 + 1  # convolve's anew
    assert front.log.count("conv_wgrad") == 2


@kernels
def test_precision(rehearsed, front, rng, name):
    given = arrays(rng, 4)
    close(name, call(rehearsed, name, *given), *given, bits=20)
    got = call(rehearsed.in_precision("tf32"), name, *given)
    close(name, got, *given, bits=9)
    with pytest.raises(AssertionError):
        close(name, got, *given, bits=16)
    assert front.chosen == [set(), {front.numerical_note.TENSOR_CORE}]


@kernels
@pytest.mark.parametrize(("precision", "dtype"), [("float16", np.float32),
                         ("bfloat16", np.float32), ("float32", np.float64)])  # fmt: skip
def test_what_it_is_not_asked_for(rehearsed, front, rng, name, precision, dtype):
    given = arrays(rng, dtype=dtype)
    got = call(rehearsed.in_precision(precision), name, *given)
    close(name, got, *given, bits=6 if precision != "float32" else 45)
    assert front.log == []


@kernels
def test_gaps_in_memory_and_empty_batches_go_another_way(rehearsed, front, rng, name):
    x, weights, delta = arrays(rng)
    turned = [np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (x, delta)]
    got = call(rehearsed, name, turned[0], weights, turned[1])
    close(name, got, x, weights, delta)
    got = call(rehearsed, name, x[:0], weights, delta[:0])
    assert not got.any()
    assert front.log == []


@kernels
@pytest.mark.parametrize("groups", [1, 3])
def test_rows_of_a_batch_where_they_lie(rehearsed, front, rng, name, groups):
    sliding = Sliding((5, 5), (2, 2), (1, 1), (1, 1), ((0, 1), (0, 1)))
    x, weights, delta = arrays(
        rng, 9, groups, sliding
    )  # rows of 200 and 300 bytes, or thrice that
    for rows, aligned in ((slice(4, 8), True), (slice(1, 7), False)):
        front.log.clear()
        given = x[rows], weights, delta[rows]
        out = {"convolve": np.full((9, *delta.shape[1:]), np.nan, np.float32)[rows],
               "convolve_weights": np.full_like(weights, np.nan),
               "convolve_inputs": np.full_like(x, np.nan)[rows]}[name]  # fmt: skip
        first, second = {"convolve": (given[0], weights), "convolve_weights": (given[0], given[2]),
                         "convolve_inputs": (given[2], weights)}[name]  # fmt: skip
        room = lending(rehearsed, np.float32)
        got = getattr(rehearsed, name)(first, second, sliding, room, out)
        close(name, got, *given, sliding)
        assert (KERNELS[name] in front.log) == aligned


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_gradients_are_added(rehearsed, front, rng, beta):
    x, weights, delta = arrays(rng)
    before = rng.normal(size=weights.shape).astype(np.float32)
    out = before.copy() if beta else np.full_like(before, np.nan)
    room = lending(rehearsed, np.float32)
    assert rehearsed.convolve_weights(x, delta, PLAIN, room, out, beta) is out
    got = out - np.float32(beta) * before if beta else out
    close("convolve_weights", got, x, weights, delta, bits=18)
    assert "conv_wgrad" in front.log


# --- what it refuses -----------------------------------------------------------------------------


@kernels
def test_a_refusal_is_asked_for_once(rehearsed, front, rng, name):
    front.refuses = lambda operation, *dims: True
    given = arrays(rng)
    for _ in range(2):
        close(name, call(rehearsed, name, *given), *given)
    assert front.log == ["create_handle", "set_stream", "plan"]
    close(name, call(rehearsed, name, *(a[:2] for a in given[:1]), given[1], given[2][:2]),
          given[0][:2], given[1], given[2][:2])  # fmt: skip
    assert front.log.count("plan") == 2  # other shapes are another question


@kernels
@pytest.mark.parametrize("step", ["valid", "lowered", "planned", "supported", "built"])
def test_a_refusal_at_any_step(rehearsed, front, rng, name, step):
    unsupported = RuntimeError("cudnnFinalize failed: CUDNN_STATUS_NOT_SUPPORTED_SHAPE")
    for error in (cudnn_on_host.NotSupportedError("no"), NotImplementedError("no"), unsupported):
        front.failing = {step: error}
        rehearsed.install(front)
        given = arrays(rng)
        close(name, call(rehearsed, name, *given), *given)
    assert KERNELS[name] not in front.log


@pytest.mark.parametrize("why", ["refused", "gaps"])
def test_weights_that_it_does_not_do_find_no_patches_in_the_room(rehearsed, front, rng, why):
    front.refuses = lambda operation, *dims: operation == "conv_wgrad"
    x, weights, delta = arrays(rng)
    room = lending(rehearsed, np.float32)
    call(rehearsed, "convolve", x, weights, delta, room=room)
    if why == "gaps":
        delta = np.moveaxis(np.moveaxis(delta, 1, -1).copy(), -1, 1)
    got = call(rehearsed, "convolve_weights", x, weights, delta, room=room, patched=True)
    close("convolve_weights", got, x, weights, delta)
    assert "conv_fprop" in front.log


def test_patches_of_convolve_are_used_where_it_left_them(rehearsed, front, rng):
    kernels = rehearsed.in_precision("tf32")  # whose float64 neither cuDNN nor tiles do
    x, weights, delta = arrays(rng, dtype=np.float64)
    room = lending(rehearsed, np.float64)
    call(kernels, "convolve", x, weights, delta, room=room)
    assert "patches" in rehearsed._kernels.launched
    rehearsed._kernels.launched.clear()
    got = call(kernels, "convolve_weights", x, weights, delta, room=room, patched=True)
    close("convolve_weights", got, x, weights, delta, bits=45)
    assert "patches" not in rehearsed._kernels.launched


@kernels
def test_a_batch_is_one_slice_and_patches_are_of_as_many_as_fit(
    rehearsed, front, rng, monkeypatch, name
):
    kernels = rehearsed.in_precision("tf32")  # whose float64 neither cuDNN nor tiles do
    x, weights, delta = arrays(rng, 7, dtype=np.float64)
    shapes = x.shape[1], weights.shape, PLAIN
    monkeypatch.setattr(_base, "AT_ONCE", 3 * 2 * 6 * 16)  # patches of three rows
    assert kernels.parts_of_windows(7, *shapes) == [[slice(0, 7)]]
    assert kernels.parts_of_windows(0, *shapes) == [[slice(0, 0)]]
    lent, lend = [], lending(rehearsed, np.float64)

    def room(shape):
        lent.append(shape[0])
        return lend(shape)

    got = call(kernels, name, x, weights, delta, room=room, **(
        {"patched": True} if name == "convolve_weights" else {}))  # fmt: skip
    close(name, got, x, weights, delta, bits=45)
    assert lent == [3, 3, 1]
    rehearsed.install(None)
    kernels = rehearsed.in_precision("tf32")
    assert kernels.parts_of_windows(7, *shapes) == [[slice(0, 3), slice(3, 6), slice(6, 7)]]


# --- handles, streams, recordings ----------------------------------------------------------------


def test_the_stream_is_set_where_it_changed(rehearsed, front, rng):
    given = arrays(rng)
    for stream, sets in ((0, 1), (0, 1), (7, 2), (7, 2), (0, 3)):
        rehearsed.stream = stream
        call(rehearsed, "convolve", *given)
        assert front.log.count("set_stream") == sets
        assert front.handles[0].stream == stream


def test_a_handle_a_thread_and_it_goes_with_it(rehearsed, front, rng):
    given = arrays(rng)
    call(rehearsed, "convolve", *given)
    found = []
    thread = threading.Thread(target=lambda: found.append(call(rehearsed, "convolve", *given)))
    thread.start()
    thread.join()
    gc.collect()
    close("convolve", found[0], *given)
    assert [handle.destroyed for handle in front.handles] == [False, True]


def test_no_handle_is_destroyed_while_a_stream_is_captured(rehearsed, front, rng):
    """In any thread: that waits for the device, and the capture would fail."""
    given = arrays(rng)

    def used_in_a_thread():
        thread = threading.Thread(target=lambda: call(rehearsed, "convolve", *given))
        thread.start()
        thread.join()
        gc.collect()

    with _cuda_library.capturing():
        used_in_a_thread()
        with _cuda_library.capturing():
            used_in_a_thread()
        assert [handle.destroyed for handle in front.handles] == [False, False]
    assert [handle.destroyed for handle in front.handles] == [True, True]
    used_in_a_thread()
    assert front.handles[2].destroyed


def test_a_recording_holds_its_plans(rehearsed, front, rng, monkeypatch):
    assert rehearsed._convolutions.held() == ()
    monkeypatch.setattr(_cudnn, "PLANS", 1)
    given = arrays(rng)
    call(rehearsed, "convolve", *given)
    held = rehearsed._convolutions.held()
    call(rehearsed, "convolve_inputs", *given)
    rehearsed.install(None)
    gc.collect()
    assert not front.handles[0].destroyed
    assert held[1].graph.operation == "conv_fprop"
    assert held[2].ctypes.data in front.allocated
    del held
    gc.collect()
    assert front.handles[0].destroyed


def test_a_larger_room_leaves_recordings_theirs(rehearsed, front, rng):
    given = arrays(rng)
    call(rehearsed, "convolve", *given)
    before = rehearsed._convolutions.held()
    call(rehearsed.in_precision("tf32"), "convolve", *given)
    call(rehearsed, "convolve_inputs", *given)  # in the larger
    after = rehearsed._convolutions.held()
    assert [plan.size for plan in after[1:4]] == [1000, 4096, 1000]
    assert [array.size for array in (before[2], *after[4:])] == [1024, 4096]
    assert before[2].ctypes.data in front.allocated


def test_work_on_two_streams_is_in_two_rooms(rehearsed, front, rng):
    """It may be at the same time."""
    given = arrays(rng)
    for stream in (0, 7, 0):
        rehearsed.stream = stream
        close("convolve", call(rehearsed, "convolve", *given), *given)
        rehearsed.gemm(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
    first, second = rehearsed._convolutions.held()[0].rooms.values()
    assert not np.shares_memory(first, second)
    one, other, again = rehearsed.cublas.rooms
    assert one == again != other


@pytest.mark.parametrize("graph", [True, False])
def test_training_by_it_is_the_training_without(rehearsed, front, rng, graph):
    x, y = rng.normal(size=(60, 24)).astype(np.float32), rng.integers(3, size=60)
    layers = [
        *(L.Input(24), L.Reshape((1, 4, 6)), L.Conv2D(4, (2, 3), "tanh", padding="same")),
        *(L.MaxPool2D(2), L.Conv2D(6, 2, "tanh", groups=2), L.Reshape((6, 2))),
        *(L.Conv1D(4, 2, "tanh"), L.Flatten(), L.Dense(3, "softmax")),
    ]
    options = {"batch_size": 16, "graph": graph, "optimizer": bpx.SGD(0.1, momentum=0.9)}
    found = []
    for module in (None, front):
        rehearsed.install(module)
        net = bpx.Network(layers, backend=rehearsed, dtype="float32", seed=1)
        for _ in range(2):
            net.fit(x, y, epochs=1, **options)
            taken = front.log.count("plan"), dict(front.allocated)
        found.append(net.parameters.copy())
    assert np.abs(found[0] - found[1]).max() <= 1e-5 * np.abs(found[0]).max()
    # Three convolutions there and back, the first without δ below, and the last batch is smaller.
    assert front.log.count("plan") == 2 * 8
    net.fit(x, y, epochs=1, **options)
    assert taken == (front.log.count("plan"), front.allocated)
    assert set(KERNELS.values()) <= set(front.log)


# --- what goes wrong is told ---------------------------------------------------------------------

MEND = (
    "pip install -U nvidia-cudnn-cu13 nvidia-cudnn-frontend .*pip uninstall nvidia-cudnn-frontend"
)


@pytest.mark.parametrize("step", ["lowered", "planned", "built", "execute"])
@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_failure_is_no_refusal(rehearsed, front, rng, step, error):
    front.failing = {step: error("CUDNN_STATUS_EXECUTION_FAILED")}
    message = rf"cuDNN failed in conv_fprop \(CUDNN_STATUS_EXECUTION_FAILED\).*{MEND}"
    with pytest.raises(BackendError, match=message):
        call(rehearsed, "convolve", *arrays(rng))


def test_no_handle(rehearsed, front, rng):
    front.failing = {"create_handle": RuntimeError("cudaGetDeviceCount(&count) != cudaSuccess")}
    with pytest.raises(BackendError, match=rf"cuDNN failed in create_handle \(cuda.*{MEND}"):
        call(rehearsed, "convolve", *arrays(rng))
