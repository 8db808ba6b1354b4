"""The layer protocol carries what the next layers need: state, masks and sums over the batch."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import bpx
from bpx import layers, random
from bpx.context import Workspace
from bpx.initializers import Constant
from bpx.layers import LAYERS, Layer, initializer_field
from bpx.parameters import Parameter


@dataclass(frozen=True)
class NoisyNorm(Layer):
    """Batch normalization with a random mask on its output: state, masks, `batch_sum`."""

    name: ClassVar[str] = "noisy-norm"

    momentum: float = 0.9
    keep: float = 0.8
    gain: object = initializer_field("normal")

    def parameters(self):
        return {
            "gamma": Parameter(self.shape_in, self.gain),
            "beta": Parameter(self.shape_in, Constant(0.5)),
        }

    def state(self):
        return {
            "mean": Parameter(self.shape_in, Constant(0.0)),
            "variance": Parameter(self.shape_in, Constant(1.0)),
        }

    def forward(self, x, p, ctx):
        xp = ctx.backend.xp
        if ctx.training:
            m = ctx.batch_sum(xp.full((1,), float(x.shape[0]), dtype=x.dtype, device=x.device))
            mean = ctx.batch_sum(xp.sum(x, axis=0)) / m
            variance = ctx.batch_sum(xp.sum((x - mean) ** 2, axis=0)) / m
            ctx.state.mean[...] = self.momentum * ctx.state.mean + (1 - self.momentum) * mean
            old = self.momentum * ctx.state.variance
            ctx.state.variance[...] = old + (1 - self.momentum) * variance
            mask = xp.astype(ctx.keep(tuple(x.shape), self.keep), x.dtype)
        else:
            m, mean, variance = 1.0, ctx.state.mean, ctx.state.variance
            mask = xp.full_like(x, self.keep)
        scale = 1.0 / xp.sqrt(variance + 1e-5)
        normal = (x - mean) * scale
        y = ctx.buffer("y", tuple(x.shape))
        y[...] = (p.gamma * normal + p.beta) * mask
        return y, (normal, scale, mask, m)

    def backward(self, delta, saved, p, out, ctx):
        normal, scale, mask, m = saved
        xp = ctx.backend.xp
        delta *= mask
        below = delta * p.gamma
        if ctx.training:
            mean = ctx.batch_sum(xp.sum(below, axis=0)) / m
            along = ctx.batch_sum(xp.sum(below * normal, axis=0)) / m
            below = below - mean - normal * along
        below = below * scale
        if out is not None:
            out.gamma.write(xp.sum(delta * normal, axis=0))
            out.beta.sum_rows(delta)
        return below


def network(backend=None, **options):
    chain = [layers.Input(4), layers.Dense(5, "tanh"), NoisyNorm(**options), layers.Dense(3)]
    return bpx.Network(chain, cost="quadratic", backend=backend, dtype="float64", seed=3)


def test_gradient(backend, put, rng):
    net = network(backend)
    check = bpx.gradient_check(net, put(rng.normal(size=(7, 4))), put(rng.normal(size=(7, 3))))
    assert check.worst < 1e-7, check
    assert {"layers.1.gamma", "layers.1.beta", "inputs"} <= set(check.errors)


def test_what_is_no_dataclass_is_told_how_to_become_one():
    class Scale(Layer):
        def __init__(self, factor):
            self.factor = factor

    class Descent(bpx.optimizers.Optimizer):
        def __init__(self, rate):
            self.speed = rate

    expected = "to be a dataclass, got a class with an __init__ of its own: put @dataclass"
    with pytest.raises(TypeError, match=f"expected Scale {expected}"):
        bpx.Network([layers.Input(3), Scale(2.0), layers.Dense(1)])
    with pytest.raises(TypeError, match=f"expected Descent {expected}"):
        bpx.Network([3, 1]).fit(np.ones((4, 3)), [0, 1, 0, 1], optimizer=Descent(0.1))


def test_an_output_shape_that_is_a_method():
    class Pick(Layer):
        def output_shape(self):
            return (2,)

    with pytest.raises(ValueError, match=r"such as \(5,\), got a method: put @property above it"):
        bpx.Network([layers.Input(3), Pick(), layers.Dense(1)])


@pytest.mark.parametrize("given", [(3, 4, 2), (layers.Input(3), layers.Dense(4), layers.Dense(2))])
def test_sizes_and_layers_may_come_from_a_generator(given):
    net = bpx.Network(each for each in given)
    assert [weights.shape for weights in net.weights] == [(4, 3), (2, 4)]


def test_one_training_is_the_same_everywhere(backend, put, host, rng):
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    ours, numpys = network(backend), network("numpy")
    ours.fit(put(x), put(y), epochs=2, batch_size=6, optimizer=bpx.SGD(0.05, momentum=0.5))
    numpys.fit(x, y, epochs=2, batch_size=6, optimizer=bpx.SGD(0.05, momentum=0.5))
    assert np.abs(host(ours.parameters) - numpys.parameters).max() < 1e-12
    assert np.abs(host(ours.state) - numpys.state).max() < 1e-12
    assert np.abs(host(ours.state)).max() > 0.1


def test_two_ranks_are_one(rng):
    """Two workspaces whose `batch_sum` sees both halves give the whole's outputs."""
    net = network()
    x = rng.normal(size=(8, 4))
    whole = net.chain.workspace(training=True)
    expected = net.chain.activated(net.chain.forward(x, whole)[0], whole)
    state, state_layout = net.state.copy(), net.chain.architecture.state_layout
    sums: list = []
    halves = x[:5], x[5:]
    # Both ranks take the same sums in the same order; first record each rank's, then add them.
    partial: list[list] = [[], []]

    def recorder(rank):
        def batch_sum(array):
            partial[rank].append(array)
            index = len(partial[rank]) - 1
            return sums[index] if index < len(sums) else array

        return batch_sum

    outputs = []
    for _ in range(4):  # each round knows one more sum of the three
        outputs = []
        for rank, half in enumerate(halves):
            partial[rank] = []
            net.state[...] = state_layout.draw(None, "float64")
            ws = Workspace(
                net.backend,
                net.chain.xp_dtype,
                net.chain.s,
                key=net.chain.key,
                training=True,
            )
            ws.batch_sum = recorder(rank)
            ws.row = 0 if rank == 0 else 5
            outputs.append(net.chain.activated(net.chain.forward(half, ws)[0], ws).copy())
        known = len(sums)
        if known < len(partial[0]):
            sums.append(partial[0][known] + partial[1][known])
    assert np.abs(np.concatenate(outputs) - expected).max() < 1e-12
    assert np.abs(net.state - state).max() < 1e-12


def test_it_is_saved_copied_and_summarized(rng, tmp_path, monkeypatch):
    net = network(keep=0.7)
    net.fit(rng.normal(size=(20, 4)), rng.normal(size=(20, 3)), epochs=1)
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="no registered name"):
        net.save(path)
    monkeypatch.setattr(LAYERS, "registered", {})
    bpx.register("noisy-norm", NoisyNorm)
    of_array = network(keep=np.full(4, 0.7))
    with pytest.raises(TypeError, match=r"the field 'keep' of NoisyNorm is an array, .* a tuple"):
        of_array.save(path)
    net.save(path)
    LAYERS.registered.clear()
    again = bpx.load(path, custom={"noisy-norm": NoisyNorm})
    x = rng.normal(size=(3, 4))
    assert np.array_equal(again.feedforward(x), net.feedforward(x))
    assert np.array_equal(net.copy().state, net.state)
    assert "NoisyNorm" in str(net.summary())


def test_early_stopping_restores_the_state_too(rng):
    net, states = network(), []
    history = net.fit(
        rng.normal(size=(20, 4)),
        rng.normal(size=(20, 3)),
        epochs=8,
        optimizer=bpx.SGD(0.2),
        callbacks=[
            bpx.EarlyStopping(2, monitor="training_cost"),
            lambda run: states.append(run.net.state.copy()),
        ],
    )
    best = int(np.argmin(history["training_cost"]))
    assert np.array_equal(net.state, states[best])


# --- masks --------------------------------------------------------------------------------------


def test_bits_are_the_same_on_every_backend(backend, host):
    expected = random.bits(np, 2**63 + 5, 3, 1000, 7, (5, 3, 2))
    if backend.name == "numpy":
        integers = [
            random.mix(random.mix(stream(2**63 + 5, 3, 1000) + (8 + i) * G) + (j + 1) * G) >> 11
            for i in range(5)
            for j in range(6)
        ]
        assert expected.reshape(-1).tolist() == integers
    got = random.bits(backend.xp, 2**63 + 5, 3, 1000, 7, (5, 3, 2), device=backend.device)
    assert np.array_equal(host(got), expected)


G = random.GOLDEN


def stream(key, layer, step):
    return random.mix(random.mix(random.mix(key + G) + layer + G) + step + G)


def test_a_mask_depends_on_its_row_and_not_on_the_batch():
    whole = random.bits(np, 1, 2, 3, 0, (10, 4))
    assert np.array_equal(random.bits(np, 1, 2, 3, 6, (4, 4)), whole[6:])
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(random.bits(np, *other, 0, (10, 4)), whole)


def test_bits_are_uniform():
    draws = random.bits(np, 9, 0, 0, 0, (2000, 50)).reshape(-1) / 2**53
    n = draws.size
    assert abs(draws.mean() - 0.5) < 4 / np.sqrt(12 * n)
    counts = np.histogram(draws, bins=100, range=(0, 1))[0]
    chi = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert chi < 99 + 4 * np.sqrt(2 * 99)
    table = draws.reshape(2000, 50)
    assert abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.1


def test_dropout_keeps_the_mean_and_only_in_training(rng):
    net = bpx.Network([layers.Input(1000), layers.Dropout(0.3)], cost="quadratic", seed=1)
    x = np.ones((20, 1000), dtype=np.float32)
    assert np.array_equal(net.feedforward(x), x)
    ws = net.chain.workspace(training=True)
    y = net.chain.activated(net.chain.forward(x, ws)[0], ws).copy()
    assert abs(y.mean() - 1.0) < 0.02
    assert np.allclose(np.unique(y), [0.0, 1 / 0.7])
    ws.step = 1
    assert not np.array_equal(net.chain.forward(x, ws)[1], y)


def test_a_device_without_64_bit_integers_draws_the_same_masks():
    pytest.importorskip("array_api_strict", reason="it has such a device")
    chain = [layers.Input(6), layers.Dropout(0.5), layers.Dense(2)]
    nets = [
        bpx.Network(chain, cost="quadratic", backend=where, seed=1)
        for where in ("numpy", "array_api_strict:no_x64")
    ]
    x, y = np.ones((5, 6), np.float32), np.zeros((5, 2), np.float32)
    grads = [net.backend.to_host(net.backprop(x, y).flat) for net in nets]
    assert np.abs(grads[0] - grads[1]).max() < 1e-6


# --- Rescale -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [[1, 0.5], np.array([1.0, 0.5]), np.array([1.0, 0.5], "f")])
def test_sequences_become_tuples_of_floats(given):
    rescale = layers.Rescale(given, given)
    for kept in (rescale.scale, rescale.offset):
        assert kept == (1.0, 0.5)
        assert {*map(type, kept)} == {float}
    assert {rescale: 1}[layers.Rescale((1.0, 0.5), (1.0, 0.5))] == 1


@pytest.mark.parametrize("position", [0, 1])
def test_columns_far_from_zero_keep_their_spread(backend, put, host, rng, position):
    """1.7e9 ± 1 standardized in float32 would be noise."""
    x = 1.7e9 + rng.normal(size=(500, 2)) * [1.0, 1000.0]
    chain = [layers.Rescale.standardizing(x), layers.Dropout(0.5)]
    chain = chain if position == 0 else chain[::-1]
    if position and backend.name != "numpy":
        pytest.skip("inside a network all is float32; the first layer is what matters")
    dtype = "float32" if position == 0 else "float64"
    net = bpx.Network([layers.Input(2), *chain], cost="quadratic", backend=backend, dtype=dtype)
    y = host(net.feedforward(put(x)))
    assert np.abs(y.mean(axis=0)).max() < 1e-5
    assert np.abs(y.std(axis=0) - 1.0).max() < 1e-5


def test_a_first_rescale_is_applied_once(backend, put, host, rng):
    chain = [layers.Rescale(0.5, 1.0), layers.Dense(3, "tanh"), layers.Dense(2, "softmax")]
    net = bpx.Network([layers.Input(4), *chain], backend=backend, dtype="float64", seed=1)
    x = rng.normal(size=(5, 4))
    scaled, hidden, outputs = net.activations(put(x))
    assert np.abs(host(scaled) - (0.5 * x + 1.0)).max() < 1e-15
    assert host(hidden).shape == (5, 3)
    # A compiled pass adds the terms of a sum in another order.
    compiled = net.backend.parts_of_forward(net.chain.architecture.dense, 5) > 0
    assert np.abs(host(outputs) - host(net.feedforward(put(x)))).max() <= 1e-15 * compiled


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint32, np.float64])
@pytest.mark.parametrize("scalar", [True, False])
def test_large_numbers_are_not_rounded_before_they_are_shifted(backend, put, host, kind, scalar):
    x = (1_700_000_000 + np.arange(12).reshape(6, 2)).astype(kind)
    offset = -1.7e9 if scalar else (-1.7e9, -1.7e9)
    chain = [layers.Rescale(1.0 if scalar else (1.0, 1.0), offset), layers.Dropout(0.0)]
    net = bpx.Network([layers.Input(2), *chain], cost="quadratic", backend=backend)
    assert np.array_equal(host(net.feedforward(put(x))), np.arange(12).reshape(6, 2))


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_colours_are_scaled_by_channel(backend, put, host, rng, kind, tmp_path):
    x = rng.integers(256, size=(6, 3, 4, 5)).astype(kind)
    scale, offset = (0.1, 0.02, 0.5), (-1.0, 0.0, 3.0)
    own = np.array(scale)[:, None, None] * x + np.array(offset)[:, None, None]
    for first, last in ((), ()), ((layers.Flatten(), layers.Reshape((3, 4, 5))), ()):
        chain = [*first, layers.Rescale(scale, offset, axis=0), *last, layers.Flatten()]
        net = bpx.Network(
            [layers.Input((3, 4, 5)), *chain], cost="quadratic", backend=backend, dtype="float64"
        )
        assert np.abs(host(net(put(x))).reshape(x.shape) - own).max() < 1e-13
    chain = [layers.Rescale(scale, offset, axis=0), layers.Conv2D(2, 3), layers.Flatten()]
    net = bpx.Network(
        [layers.Input((3, 4, 5)), *chain, layers.Dense(2, "softmax")], backend=backend, seed=0
    )
    plain = bpx.Network([layers.Input((3, 4, 5)), *chain[1:], layers.Dense(2, "softmax")],
                        backend=backend, seed=0)  # fmt: skip
    y, options = [0, 1, 0, 1, 1, 0], {"epochs": 2, "batch_size": 4, "optimizer": bpx.SGD(1e-3)}
    net.fit(put(x), y, **options)
    plain.fit(put(own), y, **options)
    assert np.allclose(host(net.parameters), host(plain.parameters), atol=1e-5)
    net.save(tmp_path / "net.safetensors")
    again = bpx.load(tmp_path / "net.safetensors", backend=backend)
    assert again.layers[0] == net.layers[0]


def test_images_are_standardized_by_channel(rng, monkeypatch, tmp_path):
    monkeypatch.setattr("bpx.layers.rescale.DENSE_AT_ONCE", 100)
    x = rng.normal(size=(40, 3, 4, 5)) * [[[2.0]], [[0.1]], [[30.0]]] + [
        [[0.0]],
        [[7.0]],
        [[-1.0]],
    ]
    np.save(tmp_path / "x.npy", x)
    for given in (x, bpx.open_data(tmp_path / "x.npy", budget="20 kB")):
        rescale = layers.Rescale.standardizing(given)
        assert rescale.axis == 0
        y = bpx.Network([layers.Input((3, 4, 5)), rescale, layers.Flatten()], cost="quadratic",
                        dtype="float64")(x).reshape(x.shape)  # fmt: skip
        assert np.abs(y.mean(axis=(0, 2, 3))).max() < 1e-12
        assert np.abs(y.std(axis=(0, 2, 3)) - 1.0).max() < 1e-12
    x[31, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="x has NaN or infinity in row 31, column 1"):
        layers.Rescale.standardizing(x)


def test_a_constant_column_is_only_shifted():
    x = np.full((100, 3), [0.1, 7.7, 0.0])
    rescale = layers.Rescale.standardizing(x)
    assert rescale.scale == (1.0, 1.0, 1.0)
    net = bpx.Network([layers.Input(3), rescale], cost="quadratic")
    assert np.abs(net.feedforward(x)).max() < 1e-6


def test_what_a_long_column_varies_by_and_what_rounding_does():
    """Σ of 100,000 times 0.1 is off by more than 1e-12 of it, which is no variance."""
    n = 100_000
    x = np.column_stack([np.full(n, 0.1), np.linspace(0.0, 1.0, n), np.linspace(1.0, 1.001, n)])
    assert layers.Rescale.standardizing(x).scale[0] == 1.0
    assert np.allclose(layers.Rescale.standardizing(x).scale[1:], 1.0 / x.std(axis=0)[1:])
    tiny = layers.Rescale.standardizing([[1e-170, -1e300], [3e-170, 1e300]])
    assert np.allclose(tiny.scale, (1e170, 1e-300), rtol=1e-12)
    assert np.allclose(tiny.offset, (-2.0, 0.0), rtol=1e-12)


def test_initial_values_are_in_float64_one_tensor_at_a_time():
    tracemalloc.start()
    try:
        net = bpx.Network([256] * 9, seed=0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2.5 * net.parameters.nbytes  # as drawn, on the backend, and a quarter's doubles
    finer = bpx.Network([256] * 9, seed=0, dtype="float64")
    assert np.array_equal(net.parameters, finer.parameters.astype(np.float32))


def test_standardizing_takes_no_copy_of_x():
    x = np.zeros((400_000, 20), np.float32)
    x[::2] = 1.0
    tracemalloc.start()
    try:
        rescale = layers.Rescale.standardizing(x)
        assert tracemalloc.get_traced_memory()[1] < 4 * 8 * (1 << 22)
    finally:
        tracemalloc.stop()
    assert np.allclose(rescale.scale, 2.0, rtol=1e-10, atol=0)  # sums of 200,000 rows


def test_standardizing_arrays_of_other_libraries():
    strict = pytest.importorskip("array_api_strict", reason="its arrays are another library's")
    x = strict.asarray([[0.0, 5.0], [4.0, 5.0]], device=strict.Device("device1"))
    assert layers.Rescale.standardizing(x).scale == (0.5, 1.0)


@pytest.mark.parametrize("at_once", [1 << 22, 30])
def test_standardizing_some_rows_at_a_time(rng, tmp_path, monkeypatch, at_once):
    x = rng.normal(size=(5000, 3)) * [1.0, 1e-6, 1e6] + [0.0, 5.0, 1e9]
    x[:, 2] = np.sort(x[:, 2])  # parts are unlike each other
    x[:, 0] = 7.0
    np.save(tmp_path / "x.npy", x)
    expected = layers.Rescale.standardizing(x)
    monkeypatch.setattr("bpx.layers.rescale.DENSE_AT_ONCE", at_once)
    on_disk = (bpx.open_data(tmp_path / "x.npy", budget=size) for size in ("1 GB", "60 kB"))
    for each in (x, *on_disk):
        found = layers.Rescale.standardizing(each)
        assert np.allclose(found.scale, expected.scale, rtol=1e-12, atol=0)
        assert np.allclose(found.offset, expected.offset, rtol=1e-12, atol=0)
    x[4321, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="NaN or infinity in row 4321, column 1"):
        layers.Rescale.standardizing(x)
    with pytest.raises(ValueError, match="NaN or infinity, first in row 4321, column 1"):
        layers.Rescale.standardizing(bpx.open_data(tmp_path / "x.npy", budget="60 kB"))


# --- from another network -----------------------------------------------------------------------


def normalized(last, **options):
    chain = [layers.Dense(5, "relu", **options), layers.BatchNorm(), layers.Dense(last, "softmax")]
    return [layers.Input(4), *chain]


def test_a_network_takes_over_what_another_has_learned(backend, put, host, rng):
    """By names: in θ a frozen layer lies behind those that are trained."""
    x, y = rng.normal(size=(30, 4)), rng.integers(3, size=30)
    trained = bpx.Network(normalized(3), seed=0, dtype="float64")
    trained.fit(x, y, epochs=1)
    net = bpx.Network(normalized(3, trainable=False), seed=1, backend=backend, dtype="float64")
    net.copy_from(trained)
    assert np.allclose(host(net.feedforward(put(x))), trained.feedforward(x), rtol=0, atol=1e-14)
    other = bpx.Network(normalized(6), seed=2)
    last = other.weights[1].copy()
    other.copy_from(net, layers=2)
    assert np.allclose(other.activations(x)[1], trained.activations(x)[1], rtol=0, atol=1e-5)
    assert np.array_equal(other.weights[1], last)


def test_a_copy_whose_first_layers_are_frozen(backend, put, host, rng):
    """Statistics too, and what is in a Residual; without the optimizer's memory."""
    x, y = rng.normal(size=(30, 4)), rng.integers(3, size=30)
    inner = [layers.Dense(5), layers.BatchNorm()]
    chain = [
        layers.Input(4), layers.Dense(5, "relu"), layers.Residual(inner), layers.BatchNorm(),
        layers.Dense(3, "softmax", weights="zeros"),
    ]  # fmt: skip
    net = bpx.Network(chain, seed=0, backend=backend)
    net.classes = ["a", "b", "c"]
    given, options = (put(x), put(y)), {"epochs": 1, "optimizer": bpx.SGD(0.1, momentum=0.9)}
    net.fit(*given, **options)
    tuned = net.frozen(2)
    assert np.array_equal(host(tuned(put(x))), host(net(put(x))))
    assert tuned.classes == ("a", "b", "c")
    assert (tuned.steps, tuned.optimizer) == (net.steps, net.optimizer)
    assert tuned.optimizer_state is None
    before = {name: host(tensor).copy() for name, tensor in tuned.tensors.items()}
    tuned.fit(*given, **options)
    changed = {
        name
        for name, tensor in tuned.tensors.items()
        if not np.array_equal(host(tensor), before[name])
    }
    assert {name.split(".")[1] for name in changed} == {"2", "3"}
    assert {"layers.2.mean", "layers.3.weights"} <= changed
    assert [layer.trainable for layer in net.layers] == [True] * 4
    again = tuned.frozen(0)  # what is frozen stays so
    assert [layer.trainable for layer in again.layers] == [False, False, True, True]


def test_a_copy_in_which_all_layers_train(rng):
    x, y = rng.normal(size=(30, 4)), rng.integers(3, size=30)
    inner = [
        layers.Residual([layers.Dense(4)], projection=[layers.Dense(4, trainable=False)]),
        layers.BatchNorm(trainable=False),
    ]
    chain = [
        layers.Input(4), layers.Dense(4, "relu", trainable=False),
        layers.Concatenate([inner, [layers.Dense(2)]]), layers.Dense(3, "softmax"),
    ]  # fmt: skip
    net = bpx.Network(chain, seed=0, dtype="float64")
    net.classes = ["a", "b", "c"]
    net.fit(x, y, epochs=1, optimizer=bpx.SGD(0.1, momentum=0.9))
    assert net.frozen(2).frozen(0).layout.trained == net.frozen(2).layout.trained
    all_of_it = net.frozen(2).thawed()
    assert all(layer.trainable for _, layer in layers.sequence.every(all_of_it.layers))
    assert np.array_equal(all_of_it(x), net(x))
    assert all_of_it.classes == ("a", "b", "c")
    assert (all_of_it.steps, all_of_it.optimizer_state) == (net.steps, None)
    # But the biases before a norm over the mini-batch, which takes them out again.
    before = {
        name: tensor.copy()
        for name, tensor in all_of_it.tensors.items()
        if not name.startswith("layers.1.0.") or not name.endswith(".bias")
    }
    all_of_it.fit(x, y, epochs=1)
    assert [name for name, tensor in before.items()
            if np.array_equal(tensor, all_of_it.tensors[name])] == []  # fmt: skip
    assert not net.layers[0].trainable
    kept = all_of_it.frozen(1)
    assert [layer.trainable for layer in kept.layers] == [False, True, True]


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (3, ValueError, "expected layers <= 2, got 3"),
        (-1, ValueError, "expected layers >= 0, got -1"),
        ("all", TypeError, "expected layers to be an integer, got 'all'"),
    ],
)
def test_so_many_layers_cannot_be_frozen(count, error, message):
    with pytest.raises(error, match=message):
        bpx.Network([4, 3, 2]).frozen(count)


def test_a_network_takes_over_all_or_nothing():
    net, other = bpx.Network(normalized(3), seed=0), bpx.Network(normalized(6), seed=1)
    before = [tensor.copy() for tensor in net.tensors.values()]
    message = r"got layers.2.weights of shape \(3, 5\) here and \(6, 5\) there: layers=2 copies"
    with pytest.raises(ValueError, match=message):
        net.copy_from(other)
    with pytest.raises(ValueError, match=r"got layers.1.weights of shape none here and \(3, 5\)"):
        bpx.Network([4, 5]).copy_from(bpx.Network([4, 5, 3]))
    with pytest.raises(TypeError, match="expected a Network to copy from, got str"):
        net.copy_from("net.safetensors")
    with pytest.raises(ValueError, match="expected layers >= 1"):
        net.copy_from(other, layers=0)
    with pytest.raises(ValueError, match="expected layers <= 2, got 3"):
        bpx.Network([4, 3, 2]).copy_from(bpx.Network([4, 3, 2]), layers=3)
    for tensor, same in zip(net.tensors.values(), before, strict=True):
        assert np.array_equal(tensor, same)


# --- threads ------------------------------------------------------------------------------------


def test_prediction_in_many_threads(rng):
    from concurrent.futures import ThreadPoolExecutor

    net = bpx.Network([20, 30, 3], hidden="gelu", seed=1)
    inputs = [rng.normal(size=(50, 20)) for _ in range(40)]
    expected = [net.feedforward(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(net.feedforward, inputs), expected, strict=True):
            assert np.array_equal(got, want)


def test_outputs_are_never_views_of_what_comes_next(rng):
    net = bpx.Network([6, 5, 3], seed=1)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    first = net.feedforward(x)
    kept = first.copy()
    net.feedforward(x + 1)
    assert np.array_equal(first, kept)
    hidden = net.activations(x)
    assert [a.shape for a in hidden] == [(4, 5), (4, 3)]
    assert np.abs(hidden[1] - first).max() < 1e-6
    big = np.concatenate([x] * 700)
    assert np.abs(net.feedforward(big)[-4:] - first).max() < 1e-6


def test_processes_get_the_same_network(backend, host, rng):
    """Through pickle, as multiprocessing and joblib send it; files never are."""
    import pickle

    if backend not in bpx.backends._cache.values():
        pytest.skip("a backend made by hand is not found by its name")
    net = network(backend)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    net.fit(x, y, epochs=1, optimizer=bpx.SGD(0.05, momentum=0.5))
    twin = pickle.loads(pickle.dumps(net))
    assert twin.backend is net.backend
    for one in (net, twin):
        one.fit(x, y, epochs=1)
    assert np.array_equal(host(twin.parameters), host(net.parameters))
    assert np.array_equal(host(twin.weights[0]), host(net.weights[0]))
    assert np.array_equal(host(twin.state), host(net.state))
    for known in ((), ("l2",), ("", True)):
        error = bpx.DivergenceError(3, 7, "layer 1", net.history, *known)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", [8, 4000])
def test_probabilities_of_rare_events_are_right_relative_to_themselves(
    backend, put, host, dtype, rows
):
    """½ tanh(½ z) + ½, which does as well for a hidden layer, is 0 or noise from −17 on."""
    if dtype in backend.lacks:
        pytest.skip(f"{backend.name} has no {dtype}")
    net = bpx.Network([1, 1], bias="zeros", dtype=dtype, backend=backend)
    net.weights[0][...] = put(np.array([[1.0]], dtype))
    z = np.linspace(-85.0, 30.0, rows).astype(dtype)[:, None]
    expected = 1.0 / (1.0 + np.exp(-z.astype(float)))
    tolerance = {"float64": 1e-15, "float32": 1e-6}[dtype]
    for got in (net(put(z)), net.activations(put(z))[0]):
        assert np.abs(host(got) / expected - 1.0).max() <= tolerance
    ends = net(put(np.array([[-1e4], [1e4], [0.0]], dtype)))
    assert host(ends).ravel().tolist() == [0.0, 1.0, 0.5]
