"""Products by cuBLAS, and in fewer bits: 16, and TF32, which the host does not know."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from test_captured import IMAGES, network, on_both, problem

import bpx
from bpx.backends import BackendError, _cublas

SEQUENCE = [*IMAGES["one axis"], bpx.layers.Dense(4, "softmax")]


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
@pytest.mark.parametrize("size", [1e-37, 1e-12, 1.0, 1e12])
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
@pytest.mark.parametrize("layers", [[], SEQUENCE], ids=["dense", "convolution"])
def test_training_in_fewer_bits(backend, layers, precision):
    x, y = problem()
    costs = []
    for chosen in (None, "float32", precision):
        net = network(backend, *layers, dtype="float32")
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
    message = (
        r"cuBLAS, .* was not found .*: pip install 'cupy-cuda13x\[ctk\]>=14.0' .* 12 in place"
    )
    with pytest.raises(BackendError, match=message):
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
    for given, meant in (("half", "float16"), ("fp16", "float16"), ("bf16", "bfloat16")):
        with pytest.raises(ValueError, match=f"precision {given!r}; did you mean {meant!r}"):
            net.fit(x, y, precision=given)
    with pytest.raises(ValueError, match="of products; a network has dtype='float64'"):
        net.fit(x, y, precision="float64")
    with pytest.raises(ValueError, match="precision='tf32' needs backend=\"cupy\"; this network"):
        net.fit(x, y, precision="tf32")
    with pytest.raises(ValueError, match="for a network of float32, and this one is of float64"):
        network("numpy").fit(x, y, precision="float32")
