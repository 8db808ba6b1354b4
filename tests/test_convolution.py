"""Convolutions and pooling against PyTorch, and what else holds for networks with images."""

from __future__ import annotations

from functools import partial
from itertools import cycle

import messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpx
from bpx import layers
from bpx.backends import _base, _fast, _numpy, _threads

thorough = settings(max_examples=60, deadline=None, derandomize=True)


# --- PyTorch, forward and all gradients ---------------------------------------------------------


@st.composite
def axes(draw, count, pooled=False):
    """For each axis a length, a window, its stride, padding and dilation that fit."""
    found = []
    for _ in range(count):
        n, k = draw(st.integers(1, 9)), draw(st.integers(1, 4))
        dilation = 1 if pooled else draw(st.integers(1, 3))
        reach = (k - 1) * dilation + 1
        least = max(0, -(-(reach - n) // 2))
        if pooled and least > k // 2:
            n, least = k, 0
        padding = draw(st.integers(least, k // 2 if pooled else least + 2))
        stride = draw(st.integers(1, min(3, n + 2 * padding)))
        found.append((n, k, stride, padding, dilation))
    return tuple(zip(*found, strict=True))


@st.composite
def convolutions(draw):
    count = draw(st.integers(1, 2))
    lengths, size, stride, padding, dilation = draw(axes(count))
    groups = draw(st.integers(1, 3))
    into, out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kind = (layers.Conv1D, layers.Conv2D)[count - 1]
    bias = draw(st.booleans())
    options = {"groups": groups, "use_bias": bias, "weights": "normal"}
    options |= {"bias": "normal"} if bias else {}
    layer = kind(out, size, "tanh", stride, padding, dilation, **options)
    return layer, (draw(st.integers(1, 4)), into, *lengths)


def run(layer, shape, rng):
    """Of the layer alone: x, y, a random ∂C/∂y, and the gradients it gives for that."""
    net = bpx.Network(
        [layers.Input(shape[1:]), layer, layers.Flatten()],
        cost="quadratic",
        dtype="float64",
        seed=1,
    )
    x = rng.normal(size=shape)
    y = net.activations(x)[0]
    delta = rng.normal(size=y.shape)
    return net, x, y, delta, net.backprop(x, output_gradient=delta.reshape(shape[0], -1))


def close(ours, theirs):
    return np.abs(ours - theirs).max(initial=0.0) <= 1e-10 * max(1.0, np.abs(theirs).max())


@thorough
@given(convolutions())
def test_convolutions_are_pytorchs(described):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    layer, shape = described
    net, x, y, delta, ours = run(layer, shape, np.random.default_rng(0))
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, *net.weights, *net.biases)]
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d)[layer.axes - 1]
    bias = leaves[2] if layer.use_bias else None
    theirs = torch.tanh(
        function(
            leaves[0], leaves[1], bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )
    )
    assert close(y, theirs.detach().numpy())
    theirs.backward(torch.tensor(delta))
    for mine, leaf in zip((ours.inputs, *ours.weights, *ours.biases), leaves, strict=True):
        assert close(mine, leaf.grad.numpy())


@thorough
@given(
    axes(1, pooled=True) | axes(2, pooled=True), st.sampled_from(["max", "average"]), st.booleans()
)
def test_pooling_is_pytorchs(windows, kind, equals):
    """With equal elements too, of which the first gets the gradient."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    lengths, size, stride, padding, _ = windows
    ours, theirs = {"max": ("MaxPool", "max_pool"), "average": ("AveragePool", "avg_pool")}[kind]
    layer = getattr(layers, f"{ours}{len(lengths)}D")(size, stride, padding)
    function = getattr(torch.nn.functional, f"{theirs}{len(lengths)}d")
    _, x, y, delta, ours = run(layer, (3, 2, *lengths), np.random.default_rng(0))
    if equals:
        net = bpx.Network([layers.Input((2, *lengths)), layer, layers.Flatten()],
                          cost="quadratic", dtype="float64")  # fmt: skip
        x = np.round(x)
        y, ours = net.activations(x)[0], net.backprop(x, output_gradient=delta.reshape(3, -1))
    leaf = torch.tensor(x, requires_grad=True)
    theirs = function(leaf, size, stride, padding)
    assert close(y, theirs.detach().numpy())
    theirs.backward(torch.tensor(delta))
    assert close(ours.inputs, leaf.grad.numpy())


@thorough
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=2))
def test_upsampling_is_pytorchs(axes):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    lengths, scale = zip(*axes, strict=True)
    layer = (layers.Upsample1D, layers.Upsample2D)[len(axes) - 1](scale)
    _, x, y, delta, ours = run(layer, (3, 2, *lengths), np.random.default_rng(0))
    leaf = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.interpolate(leaf, y.shape[2:], mode="nearest")
    assert np.array_equal(y, theirs.detach().numpy())
    theirs.backward(torch.tensor(delta))
    assert close(ours.inputs, leaf.grad.numpy())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_is_pytorchs(kernel, dilation, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    layer = layers.Conv2D(3, kernel, padding="same", dilation=dilation)
    net, x, y, *_ = run(layer, (2, 2, 6, 5), rng)
    tensors = (torch.tensor(v) for v in (x, net.weights[0], net.biases[0]))
    theirs = torch.nn.functional.conv2d(*tensors, padding="same", dilation=dilation)
    assert y.shape == (2, 3, 6, 5)
    assert close(y, theirs.numpy())


def test_same_padding_with_a_stride_is_a_window_for_each_step():
    for n, k, stride in ((7, 3, 2), (8, 3, 2), (5, 1, 3), (6, 4, 4)):
        bound = layers.Conv1D(1, k, stride=stride, padding="same").bind((1, n))
        assert bound.output_shape == (1, -(-n // stride))


def test_the_mean_of_each_channel(rng):
    _, x, y, delta, ours = run(layers.GlobalAveragePool2D(), (3, 2, 4, 5), rng)
    assert close(y, x.mean(axis=(2, 3)))
    assert close(ours.inputs, np.broadcast_to(delta[:, :, None, None] / 20, x.shape))
    _, x, y, delta, ours = run(layers.GlobalAveragePool1D(), (3, 2, 5), rng)
    assert close(y, x.mean(axis=2))
    assert close(ours.inputs, np.broadcast_to(delta[:, :, None] / 5, x.shape))


def test_nan_is_not_pooled_away():
    x = np.zeros((1, 1, 2, 2))
    x[0, 0, 0, 1] = np.nan
    delta = np.ones((1, 1, 1, 1))
    pool = layers.MaxPool2D(2).bind((1, 2, 2))
    standard = bpx.backends.Backend("numpy", np)
    for kernels in (bpx.backends.get("numpy"), _numpy.NumpyBackend(), standard):
        largest = kernels.window_max(x, pool.sliding, np.zeros((1, 1, 1, 1)))
        assert np.isnan(largest).all()
        below = np.full_like(x, 7.0)
        kernels.window_max_backward(delta.copy(), x, largest, pool.sliding, below)
        assert not below.any()  # no element equals it


# --- in networks ---------------------------------------------------------------------------------


def network(backend=None, seed=3, dtype="float64", **options):
    """Convolutions, pooling and dropout, for images of 8 × 8."""
    chain = [
        layers.Input((1, 8, 8)),
        layers.Rescale(1 / 16),
        layers.Conv2D(4, 3, "tanh", padding=1),
        layers.MaxPool2D(2),
        layers.Dropout(0.2),
        layers.Conv2D(6, 2, "silu", groups=2, **options),
        layers.AveragePool2D(2, 1),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
    ]
    return bpx.Network(chain, backend=backend, dtype=dtype, seed=seed)


@pytest.fixture
def images(rng):
    return rng.integers(17, size=(20, 1, 8, 8), dtype=np.uint8), np.arange(20) % 3


def test_images_made_smaller_and_larger_again(backend, put, host, images, tmp_path):
    x = images[0] / 16.0
    chain = [
        layers.Input((1, 8, 8)),
        layers.Conv2D(3, 3, "tanh", 2, 1),
        layers.Upsample2D(2),
        layers.Conv2D(1, 3, padding="same"),
        layers.Flatten(),
    ]
    ours, numpys = (
        bpx.Network(chain, cost="quadratic", backend=on, dtype="float64", seed=0)
        for on in (backend, "numpy")
    )
    given = {"epochs": 3, "batch_size": 6, "optimizer": bpx.SGD(0.001)}
    ours.fit(put(x), put(x.reshape(20, 64)), **given)
    numpys.fit(x, x.reshape(20, 64), **given)
    assert np.abs(host(ours.parameters) - numpys.parameters).max() < 1e-12
    numpys.save(tmp_path / "net")
    again = bpx.load(tmp_path / "net")
    assert again.layers == numpys.layers
    assert again.summary().rows[2][1:3] == ("Upsample2D 2×2", "(m, 3, 8, 8)")


def test_the_work_of_each_is_in_the_summary():
    net = network()
    work = {row[1]: row[4] for row in net.summary().rows}
    assert "169 parameters (1 KiB of float64" in str(net.summary())
    assert "2 parameters (8 bytes of float32" in str(bpx.Network([1, 1]).summary())
    assert work["Conv2D 4, 3×3, tanh"] == f"{4 * 9 * 64:,}"
    assert work["Conv2D 6, 2×2, silu"] == f"{6 * 2 * 4 * 9:,}"
    assert net.chain.architecture.largest_product() == 4 * 9 * 64
    assert net.chain.architecture.dense is None
    assert net.chain.architecture.in_parts
    assert net.chain.architecture.mostly_in_parts
    ends = [layers.Flatten(), layers.Dense(50), layers.BatchNorm(), layers.Dense(1)]
    wide = bpx.Network([layers.Input((1, 10, 10)), layers.BatchNorm(), *ends])
    assert wide.chain.architecture.in_parts
    assert not wide.chain.architecture.mostly_in_parts
    vectors = bpx.Network([layers.Input((1, 10, 10)), *ends])
    assert not vectors.chain.architecture.in_parts


def test_first_weights_by_the_inputs_of_a_window():
    """N(0, 2/n_in) for ReLU and N(0, 1/n_in) for tanh, n_in = c/groups·kh·kw."""
    for activation, gain in (("relu", 2.0), ("tanh", 1.0)):
        layer = layers.Conv2D(300, 3, activation, groups=2)
        net = bpx.Network([layers.Input((8, 3, 3)), layer, layers.Flatten()],
                          cost="quadratic", seed=0)  # fmt: skip
        assert abs(net.weights[0].var() * 36 / gain - 1.0) < 0.05


@pytest.mark.parametrize("most", [1, 1000])
def test_a_batch_in_slices_is_the_batch(backend, put, host, images, monkeypatch, most):
    x, y = images
    expected = network("numpy").backprop(x, y)
    for module in (_base, _numpy):
        monkeypatch.setattr(module, "AT_ONCE", most)
    got = network(backend).backprop(put(x), put(y))
    assert np.abs(host(got.flat) - expected.flat).max() < 1e-12
    assert np.abs(host(got.inputs) - expected.inputs).max() < 1e-12


@pytest.mark.parametrize("fast", ["0", "1"])
def test_on_several_threads_the_same_bits_each_time(images, monkeypatch, fast):
    kernels = _fast.FastBackend() if fast == "1" and _fast.installed() else _numpy.NumpyBackend()
    x, y = images
    expected = network(kernels).backprop(x, y)
    monkeypatch.setattr(_numpy, "WORTH", 1)
    monkeypatch.setattr(_threads, "count", lambda: 3)
    monkeypatch.setattr(_numpy, "AT_ONCE", 1000)
    assert [len(part) for part in kernels.parts(20, 500)] == [3, 4, 4]  # two rows a slice
    first, *others = (network(kernels).backprop(x, y) for _ in range(5))
    assert all(other.flat.tobytes() == first.flat.tobytes() for other in others)
    assert np.abs(first.flat - expected.flat).max() < 1e-12
    assert np.abs(first.inputs - expected.inputs).max() < 1e-12


def test_threads_that_change_between_the_passes(images, monkeypatch):
    """Another run may begin or end, and with it the limit of threads."""
    kernels = _numpy.NumpyBackend()
    expected = network(kernels).backprop(*images)
    monkeypatch.setattr(_numpy, "WORTH", 1)
    for counts in ((1, 3), (3, 1), (2, 3)):
        monkeypatch.setattr(_threads, "count", partial(next, cycle(counts)))
        got = network(kernels).backprop(*images)
        assert np.abs(got.flat - expected.flat).max() < 1e-12


def test_a_steady_step_takes_its_buffers_again(images):
    net = network()
    ws = net.chain.workspace(training=True)
    x = net.chain.gather(images[0], slice(None), ws)
    first, second = ([*net.chain.layer_outputs(x, ws)] for _ in range(2))
    assert all(np.shares_memory(*pair) for pair in zip(first, second, strict=True))


def test_passes_of_bounded_size(images, monkeypatch):
    """Without gradients, a layer's activations have a bounded size, or that of one row."""
    net = network()
    expected = net.feedforward(images[0]), net.accuracy(*images), net.total_cost(*images)
    # Of the first convolution, the largest: 4 × 8 × 8 a row.
    for elements, rows in ((3 * 256, [3, 1]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr("bpx.chain.ELEMENTS_ON_HOST", elements)
        assert [part.stop - part.start for part in net.chain._slices(0, 4)] == rows
        assert np.abs(net.feedforward(images[0]) - expected[0]).max() < 1e-12
        assert net.accuracy(*images) == expected[1]
        assert net.total_cost(*images) == pytest.approx(expected[2], rel=1e-12)


@pytest.mark.parametrize(("is_host", "rows"), [(True, 1024), (False, (1 << 24) // 256)])
def test_passes_of_many_rows_on_a_device(monkeypatch, is_host, rows):
    chain = network().chain
    monkeypatch.setattr(chain.backend, "is_host", is_host)
    assert chain.rows_at_once == rows


@pytest.mark.parametrize("order", ["transposed", "read-only"])
def test_images_in_any_order_of_memory(images, order):
    x = images[0] / 16.0
    twin = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1) if order == "transposed" else x.copy()
    twin.flags.writeable = False
    chain = [layers.Input((1, 8, 8)), layers.Conv2D(2, 3), layers.Flatten()]
    net = bpx.Network(chain, cost="quadratic", dtype="float64", seed=0)
    assert np.array_equal(net.feedforward(twin), net.feedforward(x))


def test_a_small_network_learns_digits():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    train, validation, test = bpx.datasets.digits()
    chain = [
        layers.Input(64),
        layers.Reshape((1, 8, 8)),
        layers.Conv2D(16, 3, "relu", padding=1),
        layers.MaxPool2D(2),
        layers.Flatten(),
        layers.Dense(10, "softmax"),
    ]
    net = bpx.Network(chain, seed=0)
    net.fit(*train, epochs=12, batch_size=20, optimizer=bpx.Adam(0.003), validation=validation)
    assert net.accuracy(*test) > 0.95


# --- what a user gets wrong ----------------------------------------------------------------------


def made(*chain, shape=(1, 28, 28)):
    return bpx.Network([layers.Input(shape), *chain, layers.Flatten()], cost="quadratic")


def shown(*shape, wanted=(1, 28, 28)):
    return made(layers.Conv2D(1, 3), shape=wanted).feedforward(np.zeros(shape))


def sparse():
    import scipy.sparse

    return made(layers.Conv2D(1, 3)).feedforward(scipy.sparse.csr_matrix((4, 784)))


Conv, Max = layers.Conv2D, layers.MaxPool2D
CASES = [
    (lambda: made(Conv(1, 29)), ValueError, "fit into an input of (28, 28), got (29, 29)"),
    (lambda: made(Conv(1, 31, padding=1)), ValueError, "(28, 28), (30, 30) with its padding, got"),
    (lambda: made(Conv(1, 10, dilation=4)), ValueError, "got (37, 37) (dilation (4, 4)): take"),
    (lambda: made(Max(29)), ValueError, "expected the windows of MaxPool2D to fit"),
    (lambda: made(Conv(1, 3, stride=29)), ValueError, "stride of Conv2D to be at most its padded"),
    (lambda: made(Max(2, 29)), ValueError, "expected the stride of MaxPool2D to be at most"),
    (lambda: made(Max(2, padding=2)), ValueError, "expected padding less than pool_size=(2, 2)"),
    (lambda: made(Max((2, 4), padding=(2, 0))), ValueError, "less than pool_size=(2, 4), got (2"),
    (lambda: Conv(5, 3, groups=2), ValueError, "channels of Conv2D to be a multiple of groups=2"),
    (lambda: made(Conv(4, 3, groups=2)), ValueError, "the input's channels to be a multiple of"),
    (lambda: made(Conv(1, 3), shape=784), ValueError, "got (m, 784): begin with Input((c, h, w))"),
    (lambda: made(Conv(1, 3), shape=(28, 28)), ValueError, "come first: Input((1, 28, 28))"),
    (lambda: made(Conv(1, 3), shape=(28, 28, 1)), ValueError, "inputs are Input((channels, ...))"),
    (lambda: made(layers.Conv1D(1, 3), shape=9), ValueError, "channels come first: Input((1, 9))"),
    (lambda: made(Max(2), shape=(16, 8)), ValueError, "Embedding's, or Reshape((16, 1, 8))"),
    (lambda: made(layers.Dense(2)), ValueError, "(m, 1, 28, 28): put Flatten() before it"),
    (lambda: made(layers.GlobalAveragePool2D(), shape=9), ValueError, "expects inputs of shape"),
    (lambda: made(layers.Reshape((28, 27))), ValueError,
     "784 elements of shape (1, 28, 28) do not fit"),
    (lambda: bpx.Network([layers.Input((1, 9, 9)), Conv(1, 3)]), ValueError, "or with Flatten()"),
    (lambda: shown(4, 28, 28, 1), ValueError, "(4, 28, 28, 1); channels come first: np.moveaxis("),
    (lambda: shown(4, 9, 9, 3, wanted=(3, 9, 9)), ValueError, "np.moveaxis(np.asarray(x), -1, 1)"),
    (lambda: shown(4, 3, 9, 8, wanted=(9, 8, 3)), ValueError, "network too: Input((3, 9, 8))"),
    (lambda: shown(4, 784), ValueError, "np.asarray(x).reshape(-1, 1, 28, 28)"),
    (lambda: shown(4, 28, 28), ValueError, "np.asarray(x).reshape(-1, 1, 28, 28)"),
    (sparse, TypeError, "x is a sparse matrix, which is not accepted here: pass x.toarray()"),
    (lambda: Conv(1, 3, "softmax"), ValueError, "Conv2D cannot have softmax outputs"),
    (lambda: Conv(0, 3), ValueError, "expected the channels of Conv2D >= 1, got 0"),
    (lambda: Conv(2.0, 3), TypeError, "expected the channels of Conv2D to be an integer, got 2.0"),
    (lambda: Conv(1, 0), ValueError, "expected the kernel_size of Conv2D >= 1, got 0"),
    (lambda: Conv(1, (3, 3, 3)), ValueError, "kernel_size of Conv2D to be an integer or 2 of"),
    (lambda: Conv(1, "3"), TypeError, "expected the kernel_size of Conv2D to be an integer"),
    (lambda: Conv(1, 3, stride=0), ValueError, "expected the stride of Conv2D >= 1, got 0"),
    (lambda: Conv(1, 3, dilation=True), TypeError, "the dilation of Conv2D to be an integer"),
    (lambda: Conv(1, 3, padding=-1), ValueError, "expected the padding of Conv2D >= 0, got -1"),
    (lambda: Conv(1, 3, padding="full"), ValueError, 'to be "same" or numbers, got \'full\''),
    (lambda: Conv(1, 3, padding="valid"), ValueError, '"valid" is padding=0'),
    (lambda: Conv(1, 3, padding=0.5), TypeError, "the padding of Conv2D to be an integer"),
    (lambda: Max(2, padding="same"), ValueError, "MaxPool2D to be numbers of zeros at the ends"),
    (lambda: Conv(1, 3, groups=0), ValueError, "expected the groups of Conv2D >= 1, got 0"),
    (lambda: Conv(1, 3, use_bias=2), TypeError, "expected use_bias to be True or False"),
    (lambda: Max(0), ValueError, "expected the pool_size of MaxPool2D >= 1, got 0"),
    (lambda: Max(2, 0), ValueError, "expected the stride of MaxPool2D >= 1, got 0"),
    (lambda: Max(2, padding=0.5), TypeError, "expected the padding of MaxPool2D to be an integer"),
    (lambda: layers.MaxPool1D((2, 2)), ValueError, "MaxPool1D to be an integer or 1 of them"),
    (lambda: made(layers.MaxPool1D(2)), ValueError, "expects inputs of shape (m, c, n)"),
    (lambda: made(layers.GlobalAveragePool1D()), ValueError, "expects inputs of shape (m, c, n)"),
    (lambda: layers.AveragePool2D((2,)), ValueError, "AveragePool2D to be an integer or 2 of"),
    (lambda: layers.Upsample2D(0), ValueError, "expected the scale of Upsample2D >= 1, got 0"),
    (lambda: layers.Upsample2D(1.5), TypeError, "scale of Upsample2D to be an integer, got 1.5"),
    (lambda: layers.Upsample2D((2, 2, 1)), ValueError, "Upsample2D to be an integer or 2 of them"),
    (lambda: layers.Upsample1D((2, 2)), ValueError, "scale of Upsample1D to be an integer or 1"),
    (lambda: made(layers.Upsample2D(2), shape=784), ValueError,
     "Upsample2D expects inputs of shape (m, c, h, w), got (m, 784): begin with Input((c, h, w))"),
    (lambda: made(layers.Upsample2D(2), shape=(28, 28)), ValueError, "first: Input((1, 28, 28))"),
    (lambda: made(layers.Upsample1D(2), shape=9), ValueError, "come first: Input((1, 9))"),
    (lambda: layers.Reshape(784), TypeError, "the shape of Reshape to be a tuple, such as"),
    (lambda: layers.Reshape(()), ValueError, "to have at least one length, got none"),
    (lambda: layers.Reshape((1, -1)), ValueError, "expected a length of Reshape >= 1, got -1"),
    (lambda: layers.Permute(1), TypeError, "expected the axes of Permute to be a tuple, such as"),
    (lambda: layers.Permute(("a", 0)), TypeError, "an axis of Permute to be an integer, got 'a'"),
    (lambda: layers.Permute((1, -1)), ValueError, "expected an axis of Permute >= 0, got -1"),
    (lambda: layers.Permute((0, 0)), ValueError, "from 0, each once, such as (1, 0), got (0, 0)"),
    (lambda: layers.Permute((2, 1)), ValueError, "got (2, 1): they count from 0, so (1, 0)"),
    (lambda: made(layers.Permute((1, 0))), ValueError, "of 2 axes for Permute((1, 0)), got (1"),
]  # fmt: skip


def test_no_reshape_is_advised_that_would_mix_up_an_image():
    with pytest.raises(ValueError, match=r"got \(4, 9, 3, 8\)$"):
        shown(4, 9, 3, 8, wanted=(9, 8, 3))


test_a_message_says_what_to_change = messages.test_of(CASES)
