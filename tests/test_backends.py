"""Which backends are available, which are not and why, and where arrays go."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
import tracemalloc
from decimal import Decimal
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import bpx
from bpx import backends
from bpx.backends import BackendError, _cupy, _libraries
from bpx.backends._numpy import NumpyBackend
from bpx.parameters import Layout, Parameter


def test_available_names_each_library():
    found = {library.name: library for library in backends.available()}
    assert list(found) == ["numpy", "cupy", "torch", "array_api_strict"]
    assert found["numpy"].version == np.__version__
    for library in found.values():
        assert (library.why is None) == bool(library.devices)
        if library.why is not None:  # asking for it raises that same sentence
            with pytest.raises(BackendError) as caught:
                backends.get(library.name)
            assert str(caught.value) == library.why


@pytest.mark.parametrize("names", [("array_api_strict", "CPU_DEVICE"), ("torch", "cpu")])
def test_one_object_for_a_device_by_all_its_names(names):
    library, device = names
    pytest.importorskip(library, reason=f"{library} is not installed: it has devices by name")
    assert backends.get(library) is backends.get(f"{library}:{device}")


def test_one_object_for_a_namespace_that_is_not_known(monkeypatch, tmp_path):
    (tmp_path / "a_namespace.py").write_text(
        "from numpy import *\nfrom numpy import __array_namespace_info__, bool, float32\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    xp = importlib.import_module("a_namespace")
    found = backends.get(xp)
    assert backends.get(xp) is found
    assert pickle.loads(pickle.dumps(found)) is found
    nets = [bpx.Network([2, 1], backend=xp, seed=k) for k in range(2)]
    assert bpx.Ensemble(pickle.loads(pickle.dumps(nets))).backend is found
    assert backends.get(SimpleNamespace(**vars(xp))) is not found, "another of the same name"


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (1000, 1001)])
def test_arrays_of_numpys_backend_begin_on_a_cache_line(shape, dtype):
    backend = NumpyBackend()
    for array in [backend.zeros(shape, dtype) for _ in range(5)]:
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.carray
        assert not array.any()
    for array in [backend.empty(shape, dtype) for _ in range(5)]:
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))


def test_parameters_begin_on_a_cache_line():
    nets = [bpx.Network([3, 5, 2], seed=0, backend=NumpyBackend()) for _ in range(5)]
    assert all(net.parameters.ctypes.data % 64 == 0 for net in nets)


def test_a_large_array_goes_to_a_device_in_slices(rehearsed, monkeypatch, rng):
    monkeypatch.setattr(_cupy, "STAGED", 100)
    moved = []
    monkeypatch.setattr(rehearsed, "_fitting", lambda array: moved.append(len(array)) or array)
    for array in (rng.normal(size=(7, 5)), np.asfortranarray(rng.normal(size=(9, 2, 2))).T):
        assert np.array_equal(rehearsed.from_host(array), array)
    assert moved == [1, 2, 2, 2, 1, 1, 1, 1]  # the first of each tells the dtype


@pytest.mark.parametrize("shape", [(), (0, 3), (7, 5), (4, 3, 2)])
def test_on_a_device_rows_are_together(rehearsed, rng, shape):
    array = np.asarray(rng.normal(size=shape[::-1])).T
    there = rehearsed.from_host(array)
    assert there.shape == shape
    assert there.flags.c_contiguous
    assert np.array_equal(there, array)


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cupy = r"pip install 'cupy-cuda13x\[ctk\]>=14.0' cuda-pathfinder \(or 12 in place of 13, by"
    for name, mend in (("cupy", cupy), ("torch", "pip install torch")):
        monkeypatch.setattr(backends, "_cache", {})
        with pytest.raises(BackendError, match=f"is not installed: {mend}"):
            backends.get(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("cudaErrorInsufficientDriver: ...", "CuPy is installed, but no CUDA driver was found"),
        ("cudaErrorStubLibrary: ...", "CuPy is installed, but no CUDA driver was found"),
        ("cudaErrorNoDevice: ...", "CuPy is installed, but no CUDA device was found"),
        ("cudaErrorOther", "CuPy is installed, but CUDA does not start: cudaErrorOther"),
        (None, "CuPy is installed, but no CUDA device was found"),
    ],
)
def test_cupy_without_a_gpu(monkeypatch, error, message):
    """A CuPy that finds no device, in the words of its own errors."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if error is not None:
            raise CUDARuntimeError(error)
        return 0

    runtime = SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=count)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), __version__="14.2.0")
    monkeypatch.setitem(sys.modules, "cupy", fake)
    spec = SimpleNamespace(origin="cupy/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(BackendError, match=message):
        _libraries.Cupy().found()
    assert message in _libraries.Cupy().describe().why


def test_cupy_without_the_package_through_which_it_is_seen(monkeypatch):
    properties = {"name": b"some device", "totalGlobalMem": 1 << 30}
    runtime = SimpleNamespace(
        CUDARuntimeError=RuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda index: properties,
    )
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), __version__="14.2.0")
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    spec = SimpleNamespace(origin="cupy/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    told = "CuPy is installed, but does not import: import of array_api_compat"
    with pytest.raises(BackendError, match=told):
        backends.get("cupy")


def test_an_older_driver_takes_another_cupy():
    told = "for older ones, pip uninstall cupy-cuda13x and pip install 'cupy-cuda12x[ctk]>=14.0'"
    assert told in _libraries.Cupy.why("cudaErrorInsufficientDriver: ...")


def test_a_real_cupy_without_a_gpu():
    pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    if _libraries.Cupy().describe().why is None:
        assert backends.get("cupy").name == "cupy"
        return
    with pytest.raises(BackendError, match="CuPy is installed, but no CUDA d"):
        backends.get("cupy")


@pytest.mark.parametrize(
    "error",
    [ImportError("libcudart.so.13: no such file"), OSError("libtorch.so: invalid ELF header")],
)
def test_a_library_that_does_not_import(monkeypatch, error):
    library = _libraries.Torch()

    def broken():
        raise error

    spec = SimpleNamespace(origin="torch/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(library, "devices", broken)
    message = f"PyTorch is installed, but does not import: {error}"
    assert library.describe().why == message
    with pytest.raises(BackendError, match=re.escape(message)):
        library.found()


def test_a_namespace_is_known_by_its_whole_name():
    other = ModuleType("jax.numpy")
    other.__dict__.update(vars(np) | {"__name__": "jax.numpy"})
    assert backends.get(other).name == "jax.numpy"


def test_arrays_between_two_devices(rng):
    """Through the host where they cannot be shared."""
    strict = pytest.importorskip("array_api_strict", reason="it has two devices that are no host")
    x = rng.normal(size=(3, 4))
    net = bpx.Network([4, 2], backend="array_api_strict:device2", dtype="float64", seed=1)
    there = strict.asarray(x, device=strict.Device("device1"))
    got = net.backend.to_host(net.feedforward(there))
    assert np.abs(got - bpx.Network([4, 2], dtype="float64", seed=1).feedforward(x)).max() < 1e-14


def test_numbers_that_are_objects():
    """Fractions, decimals as a database has them, and integers of more than 64 bits."""
    net = bpx.Network([2, 1], dtype="float64", seed=1)
    plain = np.array([[0.5, 0.25], [2.0**70, 1.0]])
    for half in (Fraction(1, 2), Decimal("0.5")):
        assert np.array_equal(net.feedforward([[half, 0.25], [2**70, 1]]), net.feedforward(plain))
    with pytest.raises(ValueError, match="x has NaN or infinity, first in row 0, column 1"):
        net.feedforward([[Decimal(1), Decimal("NaN")]])


def test_dtypes_of_ml_dtypes():
    """JAX's arrays of bfloat16 become NumPy's with them."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it makes NumPy's dtype of bfloat16")
    net = bpx.Network([2, 1], seed=1)
    x, y = np.array([[0.5, -1.0], [2.0, 0.25]]), np.array([[0.5], [1.0]])
    for name in ("bfloat16", "float8_e4m3fn"):
        dtype = getattr(ml_dtypes, name)
        assert np.array_equal(net.feedforward(x.astype(dtype)), net.feedforward(x))
        assert net.evaluate(x.astype(dtype), y.astype(dtype)) == net.evaluate(x, y)


def test_frames_whose_columns_are_of_several_kinds():
    """NumPy makes arrays of objects of them."""
    pandas = pytest.importorskip("pandas", reason="its frames have a dtype a column")
    frame = pandas.DataFrame({"a": [0.5, 2.0, -1.0], "b": [3, 4, 5], "c": ["u", "v", "u"]})
    numbers = pandas.get_dummies(frame)  # floats, integers and booleans
    plain = numbers.to_numpy(np.float64)
    assert np.asarray(numbers).dtype == object
    net = bpx.Network([4, 2], dtype="float64", seed=1)
    for x in (numbers, numbers.convert_dtypes()):
        assert np.array_equal(net.feedforward(x), net.feedforward(plain))
    labels = pandas.Series([0, 1, 1], dtype=object)
    assert net.evaluate(numbers, labels) == net.evaluate(plain, np.array([0, 1, 1]))
    frame["d"] = frame["c"]
    with pytest.raises(TypeError, match=r"got dtype object with 'u' in column 'c'"):
        net.feedforward(frame)
    missing = numbers.convert_dtypes()
    missing.loc[1, "b"] = pandas.NA
    with pytest.raises((TypeError, ValueError), match=r"with <NA> in column 'b'|first in row 1"):
        net.feedforward(missing)


def test_tensors_that_numpy_cannot_hold(rng):
    torch = pytest.importorskip("torch", reason="it has such tensors")
    x = torch.arange(12.0).reshape(3, 4)
    for backend in ("numpy", "torch"):
        net = bpx.Network([4, 4], output="identity", seed=1, backend=backend)
        expected = net.feedforward(x)
        for dtype in (torch.bfloat16, torch.float8_e4m3fn):  # which have these numbers
            narrow = x.to(dtype)
            assert net.feedforward(narrow).tolist() == expected.tolist()
            assert bpx.layers.Rescale.standardizing(narrow) == (
                bpx.layers.Rescale.standardizing(x)
            )
            assert net.total_cost(x, narrow) == net.total_cost(x, x)
            assert bpx.gradient_check(net, narrow, narrow).worst < 1e-6
            assert net.feedforward([*narrow]).tolist() == expected.tolist()
        negative = torch.complex(x, -x).conj().imag  # a bit says that its memory is negated
        assert negative.is_neg()
        for given in (negative, [*negative]):
            assert net.feedforward(given).tolist() == expected.tolist()
        with pytest.raises(TypeError, match="x is not an array of numbers: Can't call numpy"):
            net.feedforward([[x[0, 0].requires_grad_(), 1.0, 2.0, 3.0]])
    y = torch.zeros((3, 2), dtype=torch.complex64)
    with pytest.raises(TypeError, match="y must be real numbers"):
        bpx.Network([4, 2], backend="torch").fit(torch.zeros((3, 4)), y)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", ["strided", "jagged"])
def test_nested_tensors_of_pytorchs(layout):
    torch = pytest.importorskip("torch", reason="it has such tensors")
    x = torch.nested.nested_tensor([[1.0, 2.0], [3.0]], layout=getattr(torch, layout))
    for backend in ("numpy", "torch"):
        net = bpx.Network([2, 1], backend=backend)
        with pytest.raises(TypeError, match=r"nested tensor, .*: x.to_padded_tensor\(0.0\)"):
            net.feedforward(x)
        assert net.feedforward(x.to_padded_tensor(0.0)).shape == (2, 1)


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64"])
def test_unsigned_tensors_of_pytorchs(kind):
    torch = pytest.importorskip("torch", reason="it compares none of these")
    layers = [bpx.layers.Input(4), bpx.layers.Embedding(5, 2), bpx.layers.Flatten()]
    x, labels = np.arange(36).reshape(9, 4) % 5, np.arange(9) % 3
    for y in (labels, np.eye(3)[labels]):
        costs = set()
        for given in ((x, y), [torch.from_numpy(each.astype(kind)) for each in (x, y)]):
            net = bpx.Network([*layers, bpx.layers.Dense(3, "softmax")], backend="torch", seed=0)
            net.fit(*given, epochs=1)
            costs.add(net.total_cost(*given))
        assert len(costs) == 1


def test_networks_of_pytorchs_inference_mode(rng):
    torch = pytest.importorskip("torch", reason="its mode")
    x, y = rng.normal(size=(20, 4)), rng.integers(3, size=20)
    net = bpx.Network([4, 3], backend="torch", seed=0)
    with torch.inference_mode():
        made = bpx.Network([4, 3], backend="torch", seed=0)
        twins = [made, net.copy(), bpx.load(net.to_bytes(), backend="torch")]
        made.fit(x, y, epochs=1, optimizer="adam")
    net.fit(x, y, epochs=1, optimizer="adam")
    for twin in twins:
        twin.fit(x, y, epochs=1, optimizer="adam")
    net.fit(x, y, epochs=1, optimizer="adam")
    assert made.parameters.tolist() == net.parameters.tolist()


def wrappers(torch):
    """Tensors whose elements are in no memory, each with what a message is to say of it."""
    from torch._subclasses import FakeTensorMode
    from torch.masked import masked_tensor
    from torch.testing._internal.two_tensor import TwoTensor

    class Wrapper(TwoTensor):  # of no module of PyTorch's
        pass

    x = torch.ones(5, 4)
    yield masked_tensor(x, x > 0), r"got a MaskedTensor.*pass a plain tensor, x\.to_tensor\(0"
    yield FakeTensorMode().from_tensor(x), "got a FakeTensor, whose elements are not in memory"
    yield TwoTensor(x, x), "got a TwoTensor, whose elements are not in memory: pass a plain"
    yield Wrapper(x, x), "got a Wrapper, whose elements are not in memory: pass a plain tensor$"


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.filterwarnings("default:Accessing the data pointer of FakeTensor")
def test_tensors_whose_elements_are_in_no_memory(library):
    torch = pytest.importorskip("torch", reason="it has such tensors")
    net = bpx.Network([4, 3], backend=library, seed=1)
    before = net.backend.to_host(net.parameters).copy()
    for given, told in wrappers(torch):
        with pytest.raises(TypeError, match=f"expected x to be an array of numbers, {told}"):
            net.feedforward(given)
        with pytest.raises(TypeError, match=r"expected net\.weights\[0\] to be .* not in memory"):
            net.weights[0] = given[:3]
        with pytest.raises(TypeError, match=r"expected the array to be .* not in memory"):
            backends.move(net.backend, given)
        with pytest.raises(TypeError, match=r"expected the array to be .* not in memory"):
            backends.on_host(given)
    assert np.array_equal(net.backend.to_host(net.parameters), before)
    with pytest.raises(TypeError, match="got a tensor on the device 'meta', whose elements are n"):
        net.feedforward(torch.ones(5, 4, device="meta"))
    assert net.feedforward(torch.ones(5, 4)).shape == (5, 3)
    with pytest.raises(ValueError, match="at least one sample"):
        net.feedforward(torch.ones(0, 4))  # it has no memory either


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_inside_transforms_of_pytorchs_functions(library):
    torch = pytest.importorskip("torch", reason="its transforms")
    net, x = bpx.Network([4, 3], backend=library, seed=1), torch.ones(5, 4)

    def through(rows):
        return torch.as_tensor(net.feedforward(rows)).sum()

    for transform in (torch.func.grad, torch.vmap, torch.func.functionalize):
        with pytest.raises(TypeError, match=r"got a tensor, as inside a transform of torch\.func"):
            transform(through)(x)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_rows_and_subclasses_of_tensors_that_require_a_gradient(library):
    torch = pytest.importorskip("torch", reason="its tensors")

    class Image(torch.Tensor):
        pass

    net, x = bpx.Network([4, 3], backend=library, seed=1), torch.ones(5, 4, requires_grad=True)
    for given in (x.as_subclass(Image), [*x], [*x.as_subclass(Image)]):
        got = net.feedforward(given)
        assert type(got) is type(net.parameters)
        assert got.tolist() == net.feedforward(x.detach()).tolist()


def test_a_tensor_that_requires_a_gradient_does_not_record_the_training():
    torch = pytest.importorskip("torch", reason="it records")
    net = bpx.Network([2, 1], backend="torch", seed=1)
    net.weights[0][...] = torch.ones((1, 2), requires_grad=True)
    with pytest.raises(BackendError, match=r"copy tensor\.detach\(\)"):
        net.feedforward([[0.0, 1.0]])


@pytest.mark.parametrize("kind", [">f4", ">f8", "longdouble", "float16", ">i2"])
def test_memory_in_another_order_of_bytes(backend, host, rng, tmp_path, kind):
    x, y = rng.integers(9, size=(20, 6)).astype(kind), rng.integers(3, size=20)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = bpx.Network([6, 3], seed=1, dtype="float64", backend=backend)
    expected.fit(x.astype(float), y, epochs=1)
    for given in (x, mapped):
        net = bpx.Network([6, 3], seed=1, dtype="float64", backend=backend)
        net.fit(given, y, epochs=1)
        # A compiled run, which takes native bytes only, adds in another order than the steps.
        assert np.abs(host(net.parameters) - host(expected.parameters)).max() < 1e-14
        assert bpx.gradient_check(net, given[:2], y[:2]).worst < 1e-7


def test_the_environment_variable(monkeypatch):
    monkeypatch.setenv("BPX_BACKEND", "array_api_strict")
    pytest.importorskip("array_api_strict", reason="the environment names it")
    assert bpx.Network([2, 1]).backend.name == "array_api_strict"
    assert bpx.Network([2, 1], backend="numpy").backend.name == "numpy"


def test_the_same_name_is_the_same_backend():
    assert backends.get("numpy") is backends.get(np) is backends.get(np.zeros(2))
    assert backends.get() is backends.get("numpy")
    with pytest.raises(
        BackendError, match="expected the name of a backend, a namespace or an arr"
    ):
        backends.get(3)


def test_every_device_of_array_api_strict(rng):
    pytest.importorskip("array_api_strict", reason="its devices are the parameters")
    x, y = rng.normal(size=(12, 4)), rng.integers(3, size=12)
    expected = bpx.Network([4, 5, 3], seed=1)
    expected.fit(x, y, epochs=2, batch_size=5)
    for device in backends._libraries.LIBRARIES["array_api_strict"].devices():
        net = bpx.Network([4, 5, 3], seed=1, backend=device.name)
        assert backends.get(net.parameters) is net.backend
        net.fit(x, y, epochs=2, batch_size=5)
        got = net.backend.to_host(net.parameters)
        assert np.abs(got - expected.parameters).max() < 1e-5, device.name
        if "float64" in device.name:
            with pytest.raises(BackendError, match="has no float64: use dtype='float32'"):
                bpx.Network([4, 3], backend=device.name, dtype="float64")


def test_arrays_of_other_libraries_on_the_host_are_taken(rng):
    torch = pytest.importorskip("torch", reason="its arrays are the other library's")
    x, net = rng.normal(size=(3, 4)), bpx.Network([4, 2], dtype="float64", seed=1)
    tensor = torch.tensor(x, requires_grad=True)
    assert np.array_equal(net.feedforward(tensor.detach()), net.feedforward(x))
    there = net.to("torch")
    assert np.abs(there.feedforward(tensor).numpy() - net.feedforward(x)).max() < 1e-15


def test_dlpack_saves_the_copy(rng):
    torch = pytest.importorskip("torch", reason="memory is shared with it")
    kernels, array = backends.get("torch"), rng.normal(size=8)
    shared = kernels.from_host(array)
    array[0] = 7.0
    assert float(shared[0]) == 7.0
    assert kernels.to_host(torch.ones(3, dtype=torch.float64)).tolist() == [1.0, 1.0, 1.0]


def test_sparse_matrices_are_refused_where_they_cannot_be():
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="its matrices are sparse")
    eye = scipy_sparse.eye(3).tocsr()
    with pytest.raises(
        TypeError, match=r"y is a sparse matrix, which is not accepted here: pass y.toarra"
    ):
        bpx.Network([3, 3]).evaluate(np.eye(3), eye)
    with pytest.raises(TypeError, match="x must be a sparse matrix of real numbers, got dtype co"):
        bpx.Network([3, 2]).feedforward(eye * 1j)


def test_sparse_arrays_of_three_dimensions_are_refused():
    pytest.importorskip("scipy", minversion="1.15", reason="before, they have two at most")
    cube = importlib.import_module("scipy.sparse").coo_array(np.eye(2)).reshape(1, 2, 2)
    net = bpx.Network([2, 2], seed=1)
    with pytest.raises(ValueError, match=r"a sparse array of shape \(1, 2, 2\): x.reshape\(-1, 2"):
        net.feedforward(cube)
    assert np.array_equal(net.feedforward(cube.reshape(-1, 2)), net.feedforward(np.eye(2)))


def test_one_seed_is_the_same_network_everywhere(backend, host):
    net = bpx.Network([5, 4, 3], backend=backend, seed=9, dtype="float64")
    assert np.array_equal(
        host(net.parameters), bpx.Network([5, 4, 3], seed=9, dtype="float64").parameters
    )
    back = net.to("numpy")
    assert np.array_equal(back.parameters, host(net.parameters))


# --- one flat vector ----------------------------------------------------------------------------


def test_layout():
    tensors = [
        {"weights": Parameter((3, 5), None, decayed=True), "bias": Parameter((3,), None)},
        {"weights": Parameter((2, 3), None, decayed=True), "bias": Parameter((2,), None)},
        {"weights": Parameter((4, 2), None, decayed=True)},
    ]
    layout = Layout(tensors, [True, False, True])
    starts = {(e.layer, e.name): e.start for e in layout.entries}
    assert all(start % 16 == 0 for start in starts.values())
    assert starts[0, "weights"] == 0
    assert starts[2, "weights"] == 16
    assert layout.decayed == 32
    assert starts[0, "bias"] == 32
    assert layout.trained == 48
    assert starts[1, "weights"] == 48
    assert layout.size == 80


@pytest.mark.parametrize("of", ["columns", "gaps", "reversed"])
def test_only_the_rows_of_a_mini_batch_are_copied(of):
    """Whatever the order in memory: a data frame's numbers are stored by columns."""
    backend, rng = NumpyBackend(), np.random.default_rng(0)
    whole = rng.random((4_000, 300))
    x = {"columns": np.asfortranarray(whole), "gaps": whole[:, :200], "reversed": whole[::-1]}[of]
    y, rows = rng.integers(9, size=(50_000, 2))[:, 0], np.array([3, 1, 3_999])
    out, labels = np.empty((3, x.shape[1])), np.empty(3, y.dtype)
    tracemalloc.start()
    try:
        assert np.array_equal(backend.gather(x, rows, out), x[rows])
        assert np.array_equal(backend.gather(y, rows, labels), y[rows])
        backend.gather(x, rows, out, 0.5)
        assert np.array_equal(out, 0.5 * x[rows])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_what_is_set_is_written_into_the_vector(backend, put, host, rng):
    """By the lines of the book's programs, and by in-place ones, which set what they change."""
    net = bpx.Network([3, 4, 2], backend=backend, dtype="float64", seed=1)
    theta, grad = net.parameters, net.backprop(put(rng.normal(size=(5, 3))), [0, 1, 1, 0, 1])
    expected = host(theta) - 0.5 * host(grad.flat)
    net.weights = [w - 0.25 * g for w, g in zip(net.weights, grad.weights, strict=True)]
    net.biases = [b - 0.25 * g for b, g in zip(net.biases, grad.biases, strict=True)]
    grad.flat *= 0.25
    net.parameters -= grad.flat
    assert net.parameters is theta
    assert np.array_equal(host(grad.weights[0]).ravel(), host(grad.flat)[:12])
    grad.flat += 1.0
    assert host(grad.flat)[12:16].tolist() == [0.0] * 4
    with pytest.raises(
        ValueError, match=r"expected the gradient .* of shape \(64,\), got .* \(3,\)"
    ):
        grad.flat = put(np.ones(3))
    assert np.abs(host(theta) - expected).max() < 1e-15
    net.tensors["layers.1.weights"] -= net.weights[1]
    net.tensors["layers.0.bias"] = np.ones(4)
    with pytest.raises(KeyError, match=r"there is no tensor 'layers.0.weight'; did you mean"):
        net.tensors["layers.0.weight"] = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"expected layers.0.bias .* of shape \(4,\), got"):
        net.tensors["layers.0.bias"] = np.ones(3)
    found = {name: host(tensor) for name, tensor in net.tensors.items()}
    assert list(found) == [f"layers.{k}.{name}" for k in (0, 1) for name in ("weights", "bias")]
    assert not found["layers.1.weights"].any()
    assert (found["layers.0.bias"] == 1.0).all()
    net.parameters = np.zeros(theta.shape)
    assert not host(theta).any()


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("f8"), float])
def test_a_dtype_may_be_named_in_any_way(dtype):
    assert bpx.Network([2, 1], dtype=dtype).dtype == "float64"


def test_what_is_set_may_be_of_another_dtype_or_of_the_same_memory(backend, host, rng):
    net = bpx.Network([4, 4, 1], backend=backend, seed=1)
    before = host(net.weights[0]).copy()
    net.weights[0] = net.weights[0].T
    assert np.array_equal(host(net.weights[0]), before.T)
    net.biases[0] = [1, 2, 3, 4]
    net.weights[:1] = [np.arange(16.0).reshape(4, 4)]
    net.biases[1:] = (np.array([7]) for _ in range(1))
    assert host(net.weights[0])[3, 3] == 15.0
    assert host(net.biases[0]).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert host(net.biases[1]).tolist() == [7.0]


def test_tensors_have_the_names_of_files(tmp_path):
    chain = bpx.layers.Input(4), bpx.layers.Dense(3), bpx.layers.BatchNorm(), bpx.layers.Dense(2)
    old, new = (bpx.Network(chain, seed=seed) for seed in (1, 2))
    old.fit(np.eye(4), np.ones((4, 2)), epochs=2)
    old.save(tmp_path / "net.safetensors")
    stored, _ = bpx.persistence.read(tmp_path / "net.safetensors")
    assert old.tensors.keys() == stored.keys()
    for name, tensor in old.tensors.items():
        assert np.array_equal(tensor, stored[name])
        new.tensors[name][...] = tensor
    assert np.array_equal(new(np.eye(4)), old(np.eye(4)))


def test_layers_view_the_vector_and_padding_stays_zero(backend, host, rng):
    net = bpx.Network([5, 3, 3], backend=backend, seed=1)
    net.fit(rng.normal(size=(9, 5)), rng.integers(3, size=9), epochs=3, l2=0.5, l1=0.1)
    flat = host(net.parameters)
    used = np.zeros(net.layout.size, bool)
    for entry in net.layout.entries:
        used[entry.start : entry.stop] = True
    assert not flat[~used].any()
    net.parameters[...] = 0.0
    assert not host(net.weights[1]).any()
    net.biases[0][...] = 1.0
    assert host(net.parameters).sum() == 3.0


def test_a_frozen_layer_is_never_touched(backend, host, rng):
    chain = [bpx.layers.Dense(4, "tanh", trainable=False), bpx.layers.Dense(3, "softmax")]
    net = bpx.Network([bpx.layers.Input(5), *chain], backend=backend, seed=1)
    before = host(net.weights[0]), host(net.weights[1])
    x, y = rng.normal(size=(9, 5)), rng.integers(3, size=9)
    for optimizer in (bpx.SGD(0.1, momentum=0.9), bpx.AdamW(0.01), bpx.SGD(0.1)):
        net.fit(x, y, epochs=2, l2=1.0, optimizer=optimizer)
    assert np.array_equal(host(net.weights[0]), before[0])
    assert not np.array_equal(host(net.weights[1]), before[1])


@pytest.mark.parametrize("kind", ["reversed", "fields", "uint16", "uint32", "uint64", "beyond"])
def test_numpy_arrays_that_pytorch_has_no_like_of(kind, rng):
    pytest.importorskip("torch", reason="its dtypes and strides are the question")
    host = rng.integers(0, 9, (6, 2))
    given = {
        "reversed": host[::-1],
        "fields": np.zeros((6, 2), [("tag", "i1"), ("x", "f4")])["x"],
        "beyond": np.array([[2**63, 1]] * 6, np.uint64),
    }.get(kind)
    if given is None:
        given = host.astype(kind)
    there, here = (bpx.Network([2, 3, 2], seed=0, backend=b) for b in ("torch", "numpy"))
    assert np.abs(there.backend.to_host(there(given)) - here(given)).max() < 1e-6
    counts = [
        bpx.Network([2, 2], output="exp", cost="poisson", seed=0, backend=b).evaluate(
            host, host[::-1] if kind == "reversed" else np.minimum(given, 9)
        )["cost"]
        for b in ("torch", "numpy")
    ]
    assert counts[0] == pytest.approx(counts[1], rel=1e-5)


def test_parameters_from_views_of_one_another(backend, host):
    net = bpx.Network([4, 4, 4, 4], seed=0, backend=backend)
    first, second, third = (host(w).copy() for w in net.weights)
    net.weights = [net.weights[1], net.weights[0], net.weights[2]]
    assert np.array_equal(host(net.weights[0]), second)
    assert np.array_equal(host(net.weights[1]), first)
    net.weights[1:] = net.weights[:0:-1]
    assert np.array_equal(host(net.weights[1]), third)
    assert np.array_equal(host(net.weights[2]), first)
    with pytest.raises(ValueError, match=r"net\.weights\[2\]"):
        net.weights = [third, third, np.ones(3)]
    assert np.array_equal(host(net.weights[0]), second)  # all are checked before one is written
