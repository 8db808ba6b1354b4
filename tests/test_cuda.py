"""The CUDA kernels without a GPU: NVRTC compiles them, and the host runs them.

`test_kernels.py` compares each with its standard twin, through the backend `cupy-rehearsed`.
"""

from __future__ import annotations

import ctypes
from importlib import metadata

import cuda_on_host
import numpy as np
import pytest
from test_kernels import CASES, run

import bpx
from bpx.activations import ACTIVATIONS
from bpx.backends import Backend, _cuda
from bpx.costs import COSTS, Objective

STANDARD = Backend("numpy", np)
REALS = ["float32", "float64"]


# --- compiled for devices -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def nvrtc():
    """NVIDIA's run-time compiler from its package, the one that CuPy calls."""
    try:
        files = metadata.files("nvidia-cuda-nvrtc") or []
    except metadata.PackageNotFoundError:
        pytest.skip("no compiler for CUDA: pip install nvidia-cuda-nvrtc")
    paths = [file.locate() for file in files if file.name.startswith("libnvrtc.so")]
    if not paths:
        pytest.skip("nvidia-cuda-nvrtc has no libnvrtc.so here")
    return ctypes.CDLL(str(paths[0]))


def cubin(nvrtc, text, flags):
    """What NVRTC makes of `text`, or an AssertionError with its log."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source, name = text.encode(), b"kernels.cu"
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None) == 0
    flags = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    what = "ProgramLog" if failed else "CUBIN"
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    found = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, found) == 0
    assert nvrtc.nvrtcDestroyProgram(ctypes.byref(program)) == 0
    assert not failed, found.value.decode()
    return found.raw


def options(real, architecture):
    """The backend's, and those that CuPy 14 adds."""
    added = "-ftz=true", "--device-as-default-execution-space"
    return [*_cuda.options(np.dtype(real)), *added, f"--gpu-architecture={architecture}"]


@pytest.mark.parametrize(("real", "architecture"), [("float32", "sm_90"), ("float64", "sm_80")])
def test_every_kernel_compiles(nvrtc, real, architecture):
    code = cubin(nvrtc, _cuda.source(), options(real, architecture))
    assert [
        name for name in cuda_on_host.kernels() if f".text.{name}\0".encode() not in code
    ] == []


def test_a_wrong_kernel_does_not_compile(nvrtc):
    wrong = _cuda.source().replace("warp_sum(sum)", "warp_product(sum)")
    with pytest.raises(AssertionError, match='"warp_product" is undefined'):
        cubin(nvrtc, wrong, options("float32", "sm_90"))


def test_the_source_is_ascii():
    assert _cuda.source().isascii()  # CuPy writes it to a file in the locale's encoding


# --- run on the host, and on a device where there is one -----------------------------------------

on_both = pytest.mark.parametrize("backend", ["cupy-rehearsed", "cupy"], indirect=True)


def call(backend, name, *arguments):
    """A kernel's result, and all arrays after the call, on the host."""
    moved = [backend.from_host(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
    result = getattr(backend, name)(*moved)
    return [backend.to_host(a) for a in (result, *moved) if hasattr(a, "shape")]


@pytest.mark.parametrize("real", REALS)
def test_every_kernel_runs_and_none_passes_to_its_twin_unseen(rehearsed, rng, real):
    for name in set(CASES) - {"gemm"}:
        for arguments, written in CASES[name](rng):
            run(rehearsed, name, arguments, written, real, np.asarray)
    for source in map(np.zeros, (3,) * len(_cuda.SOURCES), _cuda.SOURCES):
        rehearsed.gather(source, slice(None), np.empty(3, real))
    few = np.array([1, 0], np.int32)
    rehearsed.one_hot(few, np.empty((2, 3), real))
    rehearsed.sum_at(np.ones((2, 3), real), few, np.empty((2, 3), real))
    single = np.ones((2, 2), np.float32)
    for precision in ("float16", "bfloat16"):
        rehearsed.in_precision(precision).gemm(single, single, single.copy())
    bpx.Network([3, 2], backend=rehearsed, dtype=real).fit(np.eye(3), [0, 1, 1])
    assert set(cuda_on_host.kernels()) == rehearsed._kernels.launched


@on_both
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("source", _cuda.SOURCES, ids=str)
def test_gather_converts_as_the_standard_does(backend, rng, real, source):
    if source.kind == "f":
        some = [0.0, 1.0, -2.5, 6e-8, -6e-5, 65504.0, np.inf, -np.inf, np.nan, 1 / 3, 1e-3, -7.0]
        values = np.array(some, source).reshape(4, 3)
    else:
        limits = (0, 1) if source.kind == "b" else (np.iinfo(source).min, np.iinfo(source).max)
        values = rng.choice(np.array([*limits, 1], source), size=(4, 3))
    rows = np.array([3, 0, 1, 2, 3])
    vectors = rng.normal(size=3), rng.normal(size=3)
    tolerance = 4 * np.finfo(real).eps
    for scale, offset in ((1.0, 0.0), (0.5, 0.0), (1.0, 2.0), vectors):
        for picked in (rows, rows.astype(np.int32), slice(0, 4), slice(3, None, -2)):
            arguments = values, picked, np.empty((len(values[picked]), 3), real), scale, offset
            got, expected = (call(b, "gather", *arguments)[0] for b in (backend, STANDARD))
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    if source == real:
        as_it_is = call(backend, "gather", values, rows, np.empty((5, 3), real))[0]
        assert np.array_equal(as_it_is, values[rows], equal_nan=True)


@on_both
def test_every_float16_is_converted_exactly(backend):
    source = np.arange(2**16, dtype=np.uint16).view(np.float16)
    got = call(backend, "gather", source, slice(None), np.empty(2**16, np.float32))[0]
    assert np.array_equal(got, source.astype(np.float32), equal_nan=True)


@on_both
def test_large_integers_are_shifted_in_double_precision(backend):
    source = np.array([[2**24 + 1], [2**24 + 3]])
    for dtype in ("int32", "uint32", "int64", "uint64", "float64"):
        arguments = source.astype(dtype), slice(None), np.empty((2, 1), np.float32)
        got = call(backend, "gather", *arguments, 1.0, -(2.0**24))[0]
        assert got[:, 0].tolist() == [1.0, 3.0]


@on_both
def test_gather_from_views(backend, rng):
    whole = rng.normal(size=(6, 8, 2))
    moved, rows = backend.from_host(whole), backend.from_host(np.array([2, 0]))
    for view in (
        lambda a: a[:, 1],
        lambda a: a[::2, :3, 0],
        lambda a: a[::-1, ::2, 1].T,
        lambda a: a,
        lambda a: a[:, ::2],
    ):
        out = backend.empty((2, *view(whole).shape[1:]), whole.dtype)
        got = backend.to_host(backend.gather(view(moved), rows, out))
        assert np.array_equal(got, view(whole)[[2, 0]])


@on_both
def test_labels_are_gathered_as_they_are(backend):
    labels, out = np.arange(5) * 3, np.empty(2, np.int64)
    assert call(backend, "gather", labels, np.array([4, 1]), out)[0].tolist() == [12, 3]
    assert call(backend, "gather", labels, slice(1, 3), out)[0].tolist() == [3, 6]


def test_what_the_kernels_do_not_know_passes_to_the_standard(rehearsed, rng):
    x, out = rng.normal(size=(4, 3)), np.ones((4, 3), order="F")
    assert np.allclose(rehearsed.axpby(x, out, 2.0), 1.0 + 2.0 * x)
    assert np.allclose(rehearsed.axpby(x[:, :1], np.ones((4, 3)), 2.0), 1.0 + 2.0 * x[:, :1])
    assert np.allclose(rehearsed.sum_rows(x[:, ::2], np.empty(2)), x[:, ::2].sum(0))
    assert rehearsed._kernels.launched == set()


@on_both
@pytest.mark.parametrize("key", _cuda.KEYS, ids=str)
@pytest.mark.parametrize(("n", "width", "count"), [(100, 70, 3), (33, 32, 40), (32, 33, 1)])
def test_rows_of_a_key_are_added_in_their_order(backend, rng, key, n, width, count):
    x, keys = rng.normal(size=(n, width)), rng.integers(count, size=n).astype(key)
    expected = np.zeros((count, width))
    np.add.at(expected, keys, x)
    got = call(backend, "sum_at", x, keys, np.full((count, width), np.nan))[0]
    assert np.array_equal(got, expected)


@on_both
@pytest.mark.parametrize("real", REALS)
def test_numbers_may_lie_on_the_device(backend, rng, real):
    x, out = rng.normal(size=(2, 5, 3)).astype(real)
    alpha, beta = 0.3, -1.7
    for name, to in (("axpby", out), ("sum_rows", out[0]), ("sum_channels", out[0])):
        by_value = call(backend, name, x, to, alpha, beta)[0]
        places = np.array([alpha], real), np.array([beta], real)
        by_place = call(backend, name, x, to, *places)[0]
        assert np.array_equal(by_value, by_place)


@on_both
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_is_not_clipped(backend, rng, real, odd):
    x = rng.normal(size=5000).astype(real)
    x[4321] = odd
    assert np.array_equal(call(backend, "clip_norm", x, 0.5)[0], x, equal_nan=True)


@on_both
@pytest.mark.parametrize("real", REALS)
def test_activations_of_numbers_far_out(backend, real):
    most = float(np.finfo(real).max)
    z = np.array([0.0, -0.0, 1e-30, -1e-30, 1e3, -1e3, 1e20, -1e20, most, -most], real)
    for name in _cuda.ELEMENTWISE:
        activation = ACTIVATIONS.get(name)
        with np.errstate(all="ignore"):
            expected = activation.forward(np, z)
            slopes = activation.derivative(np, z, expected)
        a = call(backend, "activate", activation, z, np.empty_like(z))[0]
        found = call(backend, "activate_backward", activation, np.ones_like(z), z, a)[0]
        for got, wanted in ((a, expected), (found, slopes)):
            assert np.allclose(got, wanted, rtol=8 * np.finfo(real).eps, atol=1e-37)


@on_both
@pytest.mark.parametrize("real", REALS)
def test_nan_stays_nan(backend, real):
    z = np.array([[1.0, np.nan, -1.0], [np.nan, 0.0, 0.0], [1.0, 2.0, 3.0]], real)
    y = np.eye(3, dtype=real)
    for name in _cuda.ACTIVATE:
        activation = ACTIVATIONS.get(name)
        a = call(backend, "activate", activation, z, np.empty_like(z))[0]
        with np.errstate(invalid="ignore"):  # of logaddexp
            expected = activation.forward(np, z)
        assert np.array_equal(np.isnan(a), np.isnan(expected))
    for cost, name in _cuda.COSTS:
        objective = Objective(COSTS.get(cost), ACTIVATIONS.get(name))
        a = objective.activation.forward(np, z)
        found = call(backend, "cost_and_delta", objective, z, a, y, np.empty_like(z))
        assert np.isnan(found[0]).tolist() == [True, True, False]
        assert np.array_equal(np.isnan(found[-1]), np.isnan(a))


@on_both
@pytest.mark.parametrize("columns", [7, 70])
def test_the_first_nan_is_the_largest(backend, rng, columns):
    a = rng.normal(size=(20, columns))
    for row in range(20):
        a[row, rng.choice(columns, row % 5, replace=False)] = np.nan
    a[-1] = np.nan
    assert call(backend, "argmax", a)[0].tolist() == np.argmax(a, axis=1).tolist()


@on_both
@pytest.mark.parametrize("real", REALS)
def test_sums_of_many_rows_in_parts(backend, rng, monkeypatch, real):
    monkeypatch.setattr(_cuda, "LEAST_ROWS", 20)
    x, normal = rng.normal(size=(2, 130, 70)).astype(real)
    rows, moved = backend.from_host(np.ones(70, real)), backend.from_host(x)
    got = backend.to_host(backend.sum_rows(moved, rows, 2.0, 3.0))
    tolerance = 4 * np.finfo(real).eps * np.abs(x).sum(0).max()
    assert np.allclose(got, 2.0 * x.sum(0, dtype=float) + 3.0, rtol=0, atol=tolerance)
    sums = backend.from_host(np.full((2, 70), np.nan, real))
    both = backend.normalize_sums(moved, backend.from_host(normal), None, sums)
    expected = [(x * normal).sum(0, dtype=float), x.sum(0, dtype=float)]
    assert np.allclose(backend.to_host(both), expected, rtol=0, atol=tolerance)


def test_parts_of_columns_fill_a_device_and_are_long_enough():
    assert _cuda.parts_of_column(1024, 64) == 1
    assert _cuda.parts_of_column(8192, 64) == 4
    assert _cuda.parts_of_column(10**6, 20) == 488
    assert _cuda.parts_of_column(10**7, 20) == 512
    assert _cuda.parts_of_column(8192, 2**15) == 1
    assert _cuda.parts_of_column(0, 0) == 1


@on_both
@pytest.mark.parametrize("real", REALS)
def test_costs_of_saturated_outputs_are_finite(backend, real):
    z = np.array([[800.0, -800.0, 30.0], [-800.0, 800.0, -30.0]], real)
    y = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], real)
    for cost, name in (("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")):
        objective = Objective(COSTS.get(cost), ACTIVATIONS.get(name))
        a = objective.activation.forward(np, z)
        found = call(backend, "cost_and_delta", objective, z, a, y, np.empty_like(z))
        assert found[0] == pytest.approx(objective.value(STANDARD, z, a, y))
        assert found[2] == pytest.approx(a)
        assert np.array_equal(found[-1], found[2] - y)


def test_as_many_threads_as_on_a_device(rehearsed, rng, compiled):
    rehearsed._kernels = cuda_on_host.Kernels(compiled, most=_cuda.Threads(2**31, 1024))
    x = rng.normal(size=(1000, 70))
    assert np.allclose(rehearsed.sum_rows(x, np.empty(70)), x.sum(0), rtol=1e-13)
    softmax = ACTIVATIONS.get("softmax")
    got = rehearsed.activate(softmax, x, np.empty_like(x))
    assert np.allclose(got, softmax.forward(np, x), rtol=1e-13)


@pytest.mark.parametrize("size", [0, 1, 255, 257, 10**6, 2**40])
def test_launches_are_within_the_limits_of_cuda(size):
    of_matrices = _cuda.a_column(size, size, 3), _cuda.a_tile(2, size, size, 3)
    of_vectors = _cuda.an_element(size), _cuda.a_row(size), _cuda.a_part(size)
    for blocks, a_block in (*of_vectors, *of_matrices, _cuda.a_channel(size, 3, size)):
        assert (blocks > 0) == (size > 0)
        assert blocks <= 65535
        assert a_block in range(_cuda.WARP, 1025, _cuda.WARP)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_is_launched_for_nothing(rehearsed, shape):
    empty = np.empty(shape)
    for name in ("tanh", "softmax"):
        activation = ACTIVATIONS.get(name)
        rehearsed.activate(activation, empty, empty.copy())
        rehearsed.activate_backward(activation, empty, empty, empty)
    rehearsed.gather(np.empty((0, 3)), slice(None), np.empty((0, 3)))
    rehearsed.axpby(empty, empty.copy())
    assert rehearsed._kernels.launched <= {"activate_softmax", "backward_softmax"}
    total = rehearsed.sum_rows(empty, np.full(shape[1], np.nan))
    assert total.tolist() == [0.0] * shape[1]


@pytest.mark.parametrize("optimizer", [bpx.Adam(0.1, epsilon=1), bpx.RMSprop(1, rho=0)], ids=str)
def test_whole_numbers_of_a_user_are_passed_as_floats(rehearsed, rng, optimizer):
    theta, grad = rng.normal(size=(2, 16))
    expected = theta.copy()
    for backend, to in ((rehearsed, theta), (STANDARD, expected)):
        slots = {name: np.zeros(16) for name in optimizer.slots()}
        state = bpx.optimizers.State(backend, 16, slots)
        backend.optimize(optimizer, to, grad.copy(), state, 0, optimizer.scalars(state, 0))
    assert np.allclose(theta, expected, rtol=1e-12)


@pytest.mark.parametrize(("l2", "calls"), [(0.0, 1), (1.0, 3)])
def test_a_velocity_is_added_in_as_few_calls_as_possible(rehearsed, l2, calls):
    launch, sizes = rehearsed._kernels, []

    def noted(name, dtype, threads, arguments):
        if name == "axpby":
            sizes.append(arguments[2:4])
        launch(name, dtype, threads, arguments)

    rehearsed._kernels = noted
    optimizer = bpx.SGD(0.1, momentum=0.9)
    net = bpx.Network([3, 5, 2], backend=rehearsed, seed=0, dtype="float64")
    plain = bpx.Network([3, 5, 2], backend=STANDARD, seed=0, dtype="float64")
    for each in (net, plain):
        each.fit(np.eye(3), [0, 1, 1], epochs=2, optimizer=optimizer, l2=l2, graph=False)
    vectors = [count for count, period in sizes if count == period]
    assert len(vectors) == 2 * calls
    assert np.allclose(net.parameters, plain.parameters, rtol=1e-12, atol=0)
