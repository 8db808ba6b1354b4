"""The CUDA kernels without a GPU: NVRTC compiles them, and the host runs them.

`test_kernels.py` holds each against its standard twin, through the backend `cupy-rehearsed`.
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


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("real", REALS)
def test_every_kernel_compiles(nvrtc, real, architecture):
    code = cubin(nvrtc, _cuda.source(), options(real, architecture))
    assert [name for name in _cuda.NAMES if f".text.{name}\0".encode() not in code] == []


def test_a_wrong_kernel_does_not_compile(nvrtc):
    wrong = _cuda.source().replace("warp_sum(sum)", "warp_product(sum)")
    with pytest.raises(AssertionError, match='"warp_product" is undefined'):
        cubin(nvrtc, wrong, options("float32", "sm_90"))


def test_the_source_is_ascii():
    assert _cuda.source().isascii()  # CuPy writes it to a file in the locale's encoding


# --- run on the host ----------------------------------------------------------------------------


@pytest.mark.parametrize("real", REALS)
def test_every_kernel_runs_and_none_passes_to_its_twin_unseen(rehearsed, rng, real):
    for name in set(CASES) - {"gemm"}:
        for arguments, written in CASES[name](rng):
            run(rehearsed, name, arguments, written, real, np.asarray)
    for source in map(np.zeros, (3,) * len(_cuda.SOURCES), _cuda.SOURCES):
        rehearsed.gather(source, slice(None), np.empty(3, real))
    rehearsed.one_hot(np.array([1, 0], np.int32), np.empty((2, 3), real))
    assert set(_cuda.NAMES) == rehearsed._kernels.launched


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("source", _cuda.SOURCES, ids=str)
def test_gather_converts_as_the_standard_does(rehearsed, rng, real, source):
    if source.kind == "f":
        some = [0.0, 1.0, -2.5, 6e-8, -6e-5, 65504.0, np.inf, -np.inf, np.nan, 1 / 3, 1e-3, -7.0]
        values = np.array(some, source).reshape(4, 3)
    else:
        limits = (0, 1) if source.kind == "b" else (np.iinfo(source).min, np.iinfo(source).max)
        values = rng.choice(np.array([*limits, 1], source), size=(4, 3))
    rows = np.array([3, 0, 1, 2, 3])
    vectors = rng.normal(size=3), rng.normal(size=3)
    for scale, offset in ((1.0, 0.0), (0.5, 0.0), (1.0, 2.0), vectors):
        for picked in (rows, rows.astype(np.int32), slice(0, 4), slice(3, None, -2)):
            out = np.empty((len(values[picked]), 3), real)
            got = rehearsed.gather(values, picked, out.copy(), scale, offset)
            expected = STANDARD.gather(values, picked, out.copy(), scale, offset)
            np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(real).eps)
    if source == real:
        as_it_is = rehearsed.gather(values, rows, np.empty((5, 3), real))
        assert np.array_equal(as_it_is, values[rows], equal_nan=True)


def test_every_float16_is_converted_exactly(rehearsed):
    source = np.arange(2**16, dtype=np.uint16).view(np.float16)
    got = rehearsed.gather(source, slice(None), np.empty(2**16, np.float32))
    assert np.array_equal(got, source.astype(np.float32), equal_nan=True)


def test_large_integers_are_shifted_in_double_precision(rehearsed):
    source = np.array([[2**24 + 1], [2**24 + 3]])
    for dtype in ("int32", "uint32", "int64", "uint64", "float64"):
        out = np.empty((2, 1), np.float32)
        rehearsed.gather(source.astype(dtype), slice(None), out, 1.0, -(2.0**24))
        assert out[:, 0].tolist() == [1.0, 3.0]


def test_gather_from_views(rehearsed, rng):
    whole = rng.normal(size=(6, 8, 2))
    for source in (whole[:, 1], whole[::2, :3, 0], whole[::-1, ::2, 1].T, whole, whole[:, ::2]):
        out = np.empty((2, *source.shape[1:]))
        assert np.array_equal(rehearsed.gather(source, np.array([2, 0]), out), source[[2, 0]])
    labels, out = np.arange(5) * 3, np.empty(2, np.int64)
    assert rehearsed.gather(labels, np.array([4, 1]), out).tolist() == [12, 3]
    assert rehearsed.gather(labels, slice(1, 3), out).tolist() == [3, 6]


def test_what_the_kernels_do_not_know_passes_to_the_standard(rehearsed, rng):
    x, out = rng.normal(size=(4, 3)), np.ones((4, 3), order="F")
    assert np.allclose(rehearsed.axpby(x, out, 2.0), 1.0 + 2.0 * x)
    assert np.allclose(rehearsed.axpby(x[:, :1], np.ones((4, 3)), 2.0), 1.0 + 2.0 * x[:, :1])
    assert np.allclose(rehearsed.sum_rows(x[:, ::2], np.empty(2)), x[:, ::2].sum(0))
    assert rehearsed._kernels.launched == set()


@pytest.mark.parametrize("real", REALS)
def test_numbers_may_lie_on_the_device(rehearsed, rng, real):
    x, out = rng.normal(size=(2, 5, 3)).astype(real)
    alpha, beta = 0.3, -1.7
    on_device = np.array([alpha]), np.array([beta])
    for kernel, to in ((rehearsed.axpby, out), (rehearsed.sum_rows, out[0])):
        by_value = kernel(x, to.copy(), alpha, beta)
        assert np.array_equal(kernel(x, to.copy(), *on_device), by_value)


@pytest.mark.parametrize("real", REALS)
def test_nan_stays_nan(rehearsed, real):
    z = np.array([[1.0, np.nan, -1.0], [np.nan, 0.0, 0.0], [1.0, 2.0, 3.0]], real)
    y = np.eye(3, dtype=real)
    for name in _cuda.ACTIVATE:
        activation = ACTIVATIONS.get(name)
        a = rehearsed.activate(activation, z, np.empty_like(z))
        assert np.array_equal(np.isnan(a), np.isnan(activation.forward(np, z)))
    for cost, name in _cuda.COSTS:
        objective, out = Objective(COSTS.get(cost), ACTIVATIONS.get(name)), np.empty_like(z)
        a = rehearsed.activate(objective.activation, z, out.copy())
        values = rehearsed.cost_and_delta(objective, z, a, y, out)
        assert np.isnan(values).tolist() == [True, True, False]
        assert np.array_equal(np.isnan(out), np.isnan(a))


@pytest.mark.parametrize("real", REALS)
def test_costs_of_saturated_outputs_are_finite(rehearsed, real):
    z = np.array([[800.0, -800.0, 30.0], [-800.0, 800.0, -30.0]], real)
    y = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], real)
    for cost, name in (("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")):
        objective = Objective(COSTS.get(cost), ACTIVATIONS.get(name))
        a = rehearsed.activate(objective.activation, z, np.empty_like(z))
        out = np.empty_like(z)
        values = rehearsed.cost_and_delta(objective, z, a, y, out)
        assert values == pytest.approx(objective.value(STANDARD, z, a, y))
        assert np.array_equal(out, a - y)


def test_as_many_threads_as_on_a_device(rehearsed, rng, compiled):
    rehearsed._kernels = cuda_on_host.Kernels(compiled, most=_cuda.Threads(2**31, 1024))
    x = rng.normal(size=(1000, 70))
    assert np.allclose(rehearsed.sum_rows(x, np.empty(70)), x.sum(0), rtol=1e-13)
    softmax = ACTIVATIONS.get("softmax")
    got = rehearsed.activate(softmax, x, np.empty_like(x))
    assert np.allclose(got, softmax.forward(np, x), rtol=1e-13)


@pytest.mark.parametrize("size", [0, 1, 255, 257, 10**6, 2**40])
def test_launches_are_within_the_limits_of_cuda(size):
    for blocks, a_block in (_cuda.an_element(size), _cuda.a_row(size), _cuda.a_column(size, size)):
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
        backend.optimize(optimizer, to, grad.copy(), state, 0)
    assert np.allclose(theta, expected, rtol=1e-12)
