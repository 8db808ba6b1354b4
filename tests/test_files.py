"""What was saved comes back, and what is damaged is named."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from damaged_headers import damaged
from safetensors.numpy import load_file, save_file

import bpx
from bpx import files, layers, persistence
from bpx.activations import ACTIVATIONS
from bpx.architecture import Architecture
from bpx.layers._base import LAYERS


def example(backend=None):
    chain = [
        layers.Input(4),
        layers.Rescale((1.0, 2.0, 3.0, 4.0), 0.5),
        layers.Dense(5, bpx.activations.LeakyReLU(0.2), weights="he-uniform"),
        layers.Dropout(0.25),
        layers.Dense(3, "softmax", use_bias=False, trainable=False),
    ]
    return bpx.Network(chain, backend=backend, seed=5)


def test_round_trip(backend, put, host, rng, tmp_path):
    net = example(backend)
    x, y = put(rng.normal(size=(9, 4))), put(rng.integers(3, size=9))
    net.fit(x, y, epochs=2)
    net.save(tmp_path / "a.safetensors")
    again = bpx.load(tmp_path / "a.safetensors", backend=backend)
    assert again.layers == net.layers
    assert (again.steps, again.epochs) == (net.steps, net.epochs)
    assert again.chain.key == net.chain.key
    assert again.generator.bit_generator.state == net.generator.bit_generator.state
    assert np.array_equal(host(again.feedforward(x)), host(net.feedforward(x)))
    tensors = load_file(tmp_path / "a.safetensors")
    assert tensors["layers.1.weights"].shape == (5, 4)  # named, unpadded


def test_a_file_moves_between_backends(backend, host, rng, tmp_path):
    example().save(tmp_path / "a.safetensors")
    net = bpx.load(tmp_path / "a.safetensors", backend=backend)
    moved = example().to(backend)
    x = rng.normal(size=(3, 4))
    assert np.array_equal(host(net.feedforward(x)), host(moved.feedforward(x)))
    assert np.abs(host(net.feedforward(x)) - example().feedforward(x)).max() < 1e-6


def test_ones_own_need_a_name(tmp_path, monkeypatch):
    path, several, x = tmp_path / "a", tmp_path / "b", np.full((2, 3), 0.3)
    cube = bpx.CustomActivation(lambda xp, z: z**3, lambda xp, z, a: 3 * z**2)
    quartic = bpx.CustomCost(
        lambda xp, a, y: xp.sum((a - y) ** 4, axis=1), lambda xp, a, y: 4 * (a - y) ** 3
    )
    net = bpx.Network([3, 4, 1], hidden=cube, output="identity", cost=quartic, seed=0)
    assert bpx.gradient_check(net, x, np.full((2, 1), 2.0)).worst < 1e-7
    assert net.copy().to("numpy").layers[0].activation is cube
    with pytest.raises(ValueError, match=r"no registered name.*bpx\.register"):
        net.save(path)
    assert not path.exists()
    for registry in (bpx.activations.ACTIVATIONS, bpx.costs.COSTS):
        monkeypatch.setattr(registry, "registered", dict(registry.registered))
    bpx.register("test-cube", cube)
    bpx.register("test-quartic", quartic)
    net.save(path)
    bpx.Ensemble([net]).save(several)
    assert np.array_equal(bpx.load(path).feedforward(x), net.feedforward(x))
    for registry in (bpx.activations.ACTIVATIONS, bpx.costs.COSTS):
        registry.registered.clear()
    with pytest.raises(bpx.FileFormatError, match=r"unknown activation 'test-cube'.*custom="):
        bpx.load(path)
    for file in (path, several):
        again = bpx.load(file, custom={"test-cube": cube, "test-quartic": quartic})
        assert np.array_equal(again.feedforward(x), net.feedforward(x))


def squared(xp, z):
    return z * z


def slope(xp, z, a):
    return 2.0 * z


def squared_cost(xp, a, y):
    return xp.sum((a - y) ** 2, axis=1)


@dataclass(frozen=True)
class Halved(layers.Layer):
    name = "test-halved"

    def forward(self, x, p, ctx):
        return 0.5 * x, None

    def backward(self, delta, saved, p, out, ctx):
        return 0.5 * delta


def test_ones_own_are_saved_by_the_names_of_their_file(tmp_path, monkeypatch):
    own = {"Test Square": bpx.CustomActivation(squared, slope), "test-halved": Halved}
    chain = layers.Dense(4, own["Test Square"]), layers.Residual([Halved()]), layers.Dense(1)
    net = bpx.Network([layers.Input(3), *chain], seed=0)
    with monkeypatch.context() as inner:
        for registry in (bpx.activations.ACTIVATIONS, LAYERS):
            inner.setattr(registry, "registered", {})
        for name, obj in own.items():
            bpx.register(name, obj)
        content = net.to_bytes()
    loaded = bpx.load(content, custom=own)
    assert loaded.to_bytes() == content
    pickled = pickle.loads(pickle.dumps(loaded))
    for twin in (loaded.copy(), loaded.to(dtype="float32"), pickled):
        assert twin.to_bytes() == content
    assert bpx.load(loaded.frozen(1).to_bytes(), custom=own).layers[0].trainable is False
    several = bpx.Ensemble([loaded]).to_bytes()
    assert bpx.load(several, custom=own).to_bytes() == several
    with pytest.raises(bpx.FileFormatError, match="unknown activation 'test-square'"):
        bpx.load(content)
    x, y = np.ones((8, 3)), np.ones(8)
    loaded.fit(x, y, epochs=2, checkpoint=tmp_path)
    resumed = bpx.load(content, custom=own)
    resumed.fit(x, y, epochs=3, checkpoint=tmp_path, resume=True)
    assert resumed.history.epochs == 3
    bpx.load(max(tmp_path.iterdir()), custom=own).save(tmp_path / "again.safetensors")


def test_a_pickle_of_another_version_has_what_this_one_derives(monkeypatch):
    """Earlier ones pickled all attributes, and this one has others by now."""
    net = bpx.Network([3, 4, 2], hidden="relu", cost="quadratic", seed=0)
    described = net.chain.architecture
    made_of = {"layers", "cost", "task", "custom"}
    assert described.__getstate__().keys() == made_of
    with monkeypatch.context() as earlier:
        earlier.setattr(
            Architecture,
            "__getstate__",
            lambda self: {name: vars(self)[name] for name in made_of} | {"of_old": 1},
        )
        content = pickle.dumps(net)
    twin = pickle.loads(content)
    assert vars(twin.chain.architecture).keys() == vars(described).keys()
    for one in (net, twin):
        one.fit(np.eye(3), [0, 1, 1], epochs=2)
    assert twin.copy().to_bytes() == net.to_bytes()


def test_a_name_that_another_one_has_by_now(monkeypatch):
    monkeypatch.setattr(bpx.activations.ACTIVATIONS, "registered", {})
    own, other = (bpx.CustomActivation(squared, slope, kind) for kind in ("real", "nonnegative"))
    bpx.register("test-mish", own)
    content = bpx.Network([2, 3, 1], hidden="test-mish", seed=0).to_bytes()
    loaded = bpx.load(content, custom={"test-mish": own})
    assert loaded.to_bytes() == content
    bpx.register("test-mish", other)
    again = bpx.load(content, custom={"test-mish": own})
    told = "'test-mish' would be lost in a file, since that is by now the registered name of anot"
    for net in (loaded, again):
        with pytest.raises(ValueError, match=re.escape(told)):
            net.to_bytes()
    bpx.register("another-name", own)  # what it advises
    assert bpx.load(again.to_bytes()).layers[0].activation is own


@dataclass(frozen=True)
class Snake(bpx.activations.Activation):
    a: float = 1.0

    def forward(self, xp, z):
        return z + xp.sin(self.a * z) ** 2 / self.a

    def derivative(self, xp, z, a):
        return 1 + xp.sin(2 * self.a * z)


class Plain(bpx.Cost):
    def __init__(self, scales):
        self.scales = scales

    def value(self, xp, a, y):
        return xp.sum((a - y) ** 2, axis=1)

    def gradient(self, xp, a, y):
        return 2 * (a - y)


class Slotted(bpx.activations.Activation):
    __slots__ = ("a",)

    def __init__(self, a):
        object.__setattr__(self, "a", a)

    def forward(self, xp, z):
        return self.a * z

    def derivative(self, xp, z, a):
        return self.a + 0.0 * z


@dataclass
class Unhashable:
    def __call__(self, xp, z):
        return z


class Incomparable:
    def __eq__(self, other):
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")

    __hash__ = None


def test_a_copy_of_a_registered_one_has_its_name(monkeypatch):
    """Such as pickle makes of it."""
    for registry in (bpx.activations.ACTIVATIONS, bpx.costs.COSTS):
        monkeypatch.setattr(registry, "registered", {})
    bpx.register("test-snake", Snake(2.0))
    bpx.register("test-plain", Plain([1.0]))
    net = bpx.Network([2, 3, 1], hidden="test-snake", cost="test-plain", seed=0)
    twin = pickle.loads(pickle.dumps(net))
    assert twin.layers[0].activation is not net.layers[0].activation
    assert twin.to_bytes() == net.to_bytes()
    assert str(twin) == str(net)
    bpx.register("test-slotted", Slotted(2.0))
    sloped = bpx.Network([2, 3, 1], hidden="test-slotted")
    assert pickle.loads(pickle.dumps(sloped)).to_bytes() == sloped.to_bytes()
    first, second = (Snake(5.0) for _ in range(2))
    bpx.register("test-first", first)
    bpx.register("test-second", second)
    header = files.contents(bpx.Network([2, 3, 1], hidden=second))[1]
    assert header["layers"][0]["activation"]["name"] == "test-second"  # itself before its copies
    bpx.register("test-arrays", Plain(np.ones(2)))  # which are not compared
    bpx.register("test-tensors", Plain(Incomparable()))
    others = Snake(3.0), Slotted(3.0), Plain([2.0]), Plain(np.ones(2)), Plain(Incomparable())
    for other in others:
        kind = "cost" if isinstance(other, Plain) else "hidden"
        with pytest.raises(ValueError, match="no registered name"):
            bpx.Network([2, 3, 1], **{kind: other}).to_bytes()


def test_bpxs_own_have_their_own_names_whatever_is_registered(monkeypatch):
    monkeypatch.setattr(ACTIVATIONS, "registered", {})
    content = [
        bpx.Network([2, 3, 1], hidden=hidden, seed=0).to_bytes()
        for hidden in ("sigmoid", bpx.activations.LeakyReLU(0.2))
    ]
    bpx.register("test-steep", bpx.activations.Sigmoid())
    bpx.register("test-leaky", bpx.activations.LeakyReLU(0.2))
    again = [
        bpx.Network([2, 3, 1], hidden=hidden, seed=0).to_bytes()
        for hidden in ("sigmoid", bpx.activations.LeakyReLU(0.2))
    ]
    assert again == content


def test_a_field_of_any_name_is_kept(monkeypatch):
    @dataclass(frozen=True)
    class Owned(layers.Layer):
        own: float = 3.0

        def forward(self, x, p, ctx):
            return self.own * x, None

        def backward(self, delta, saved, p, out, ctx):
            return self.own * delta

    monkeypatch.setattr(LAYERS, "registered", {})
    bpx.register("test-owned", Owned)
    net = bpx.Network([layers.Input(2), Owned(5.0), layers.Dense(1)])
    assert bpx.load(net.to_bytes()).layers[0].own == 5.0


def test_custom_ones_are_equal_if_their_functions_are():
    one, same = (bpx.CustomActivation(squared, slope) for _ in range(2))
    other = bpx.CustomActivation(lambda xp, z: 3.0 * z, slope)
    assert one == same != other
    assert len({one, same, other}) == 2
    assert hash(layers.Dense(3, bpx.CustomActivation(Unhashable(), slope)))
    nets = [bpx.Network([2, 3, 1], hidden=each) for each in (one, same, other)]
    assert nets[0].layers == nets[1].layers != nets[2].layers
    cost, another = bpx.CustomCost(slope, squared_cost), bpx.CustomCost(squared_cost, slope)
    assert cost == pickle.loads(pickle.dumps(cost)) != another


def test_ones_own_is_not_bpxs_of_the_same_name(monkeypatch):
    """As after an upgrade to a bpx that has an activation of that name."""
    monkeypatch.setattr(bpx.activations.ACTIVATIONS, "registered", {})
    monkeypatch.setattr(LAYERS, "registered", {})
    monkeypatch.setattr(bpx.activations.ACTIVATIONS, "builtin", {**ACTIVATIONS.builtin})
    monkeypatch.setattr(LAYERS, "builtin", {**LAYERS.builtin})
    bpx.register("test-snake", Snake(2.0))
    bpx.register("test-halved", Halved)
    net = bpx.Network(
        [layers.Input(2), layers.Dense(3, "test-snake"), Halved(), layers.Dense(1)], seed=0
    )
    content = net.to_bytes()
    assert bpx.load(content).to_bytes() == content
    for kind, registry in (("activation", ACTIVATIONS), ("layer", LAYERS)):
        (name, own), *_ = registry.registered.items()
        del registry.registered[name]
        registry.builtin[name] = bpx.activations.Tanh if kind == "activation" else layers.Dense
        told = f"unknown {kind} '{name}': not bpx's of that name, but one's own"
        with pytest.raises(bpx.FileFormatError, match=re.escape(told)):
            bpx.load(content)
        registry.registered[name] = own
    assert bpx.load(content).layers[0].activation == Snake(2.0)


@pytest.mark.parametrize(
    ("custom", "error", "message"),
    [
        ({"Tanh": bpx.CustomActivation(squared, slope)}, ValueError, "'tanh' is bpx's own activ"),
        ({"quadratic": bpx.costs.Huber()}, ValueError, "'quadratic' is bpx's own cost; give you"),
        ({"zeros": bpx.initializers.Constant(1.0)}, ValueError, "'zeros' is bpx's own initiali"),
        ({"dense": Halved}, ValueError, "'dense' is bpx's own layer; give yours another name"),
        (
            {"own": squared},
            TypeError,
            "Layer (the class), Optimizer, got a function",
        ),
        (
            {"own": Halved()},
            TypeError,
            "Layer (the class), Optimizer, got a Halved",
        ),
        ({"own": bpx.costs.Huber}, TypeError, "Optimizer, got the class Huber"),
        ({3: Halved}, TypeError, "expected a name, got an int"),
        ([Halved], TypeError, 'expected custom to be a dict such as {"name": it}, got list'),
    ],
)
def test_names_that_are_bpx_s_own_and_what_is_no_part(custom, error, message):
    content = bpx.Network([2, 3, 1], hidden="tanh", cost="quadratic", seed=0).to_bytes()
    with pytest.raises(error, match=re.escape(message)):
        bpx.load(content, custom=custom)


def test_what_a_file_does_not_name_does_not_go_along():
    """Such as a lambda in the one dict of all parts of one's own, which cannot be pickled."""
    net = bpx.Network([3, 2], seed=0)
    unused = {"mine": bpx.CustomActivation(lambda xp, z: z, lambda xp, z, a: xp.ones_like(z))}
    loaded = bpx.load(net.to_bytes(), custom=unused)
    assert pickle.loads(pickle.dumps(loaded)).to_bytes() == net.to_bytes()


def test_a_name_of_one_kind_is_not_taken_for_another():
    """An activation may have the name of a cost."""
    net = bpx.Network([2, 3, 1], cost="quadratic", seed=0)
    own = {"quadratic": bpx.CustomActivation(squared, slope)}
    assert bpx.load(net.to_bytes(), custom=own).cost == bpx.costs.Quadratic()


def change(path, header=None, tensors=None, metadata=None):
    """Write a file again with something changed."""
    found, old = persistence.read(path)
    described = {
        "format": "bpx",
        "format_version": "1",
        "header": json.dumps(old | (header or {})),
    }
    save_file({**found, **(tensors or {})}, path, metadata={**described, **(metadata or {})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metadata": {"format_version": "2"}},
            "by a later bpx (format 2; this bpx reads up to 1)",
        ),
        ({"metadata": {"format_version": "x"}}, "no readable format version"),
        ({"metadata": {"header": "{"}}, "has a damaged header"),
        ({"metadata": {"header": "[]"}}, "has a damaged header: not a JSON object"),
        ({"metadata": {"format": "pt"}}, "but bpx did not write it"),
        ({"tensors": {"layers.1.weights": np.zeros((2, 2))}}, "has shape (2, 2)"),
        ({"tensors": {"layers.1.weights": np.zeros((5, 4), int)}}, "dtype int64"),
        ({"tensors": {"more": np.zeros(3)}}, "tensors that its architecture does not have: more"),
        ({"header": {"layers": [{"name": "dense"}]}}, "does not describe a network"),
        ({"header": {"layers": None}}, "does not describe a network"),
        ({"header": {"columns": "ab"}}, "expected columns to be a list of names"),
        ({"header": {"columns": [1]}}, "expected columns to be a list of names"),
        ({"header": {"columns": ["a"]}}, "expected column names for inputs of shape (4,), got 1"),
        ({"header": {"columns": ["a", "a"]}}, "columns to be different names, got 'a' 2 times"),
        ({"header": {"target_columns": []}}, "expected target_columns to be a list of names"),
        ({"header": {"classes": "ab"}}, "expected classes to be a list of strings"),
        ({"header": {"classes": ["a", 1]}}, "expected classes to be a list of strings"),
        ({"header": {"classes": ["a"]}}, "different classes, got ['a']"),
        ({"header": {"input_shape": [0]}}, "a length of Input >= 1, got 0"),
        ({"header": {"dtype": "float16"}}, "no network has dtype 'float16'"),
        ({"header": {"task": "magic"}}, "unknown task 'magic'"),
        ({"header": {"steps": "x"}}, "expected steps to be an integer"),
        ({"header": {"epochs": "x"}}, "expected epochs to be an integer"),
        ({"header": {"epochs": -1}}, "expected epochs >= 0"),
        ({"header": {"key": -1}}, "expected key >= 0"),
        ({"header": {"generator": {"bit_generator": "RandomState"}}}, "unknown generator"),
        ({"header": {"generator": {"bit_generator": "PCG64"}}}, "does not describe a network"),
        (
            {"header": {"layers": [{"name": "dense", "units": 10**12, "activation": "softmax"}]}},
            "tensor 'layers.0.weights' is missing",
        ),
        ({"metadata": {"format_version": "-7"}}, "no readable format version"),
        ({"tensors": {"layers.1.weights": np.full((5, 4), np.nan)}}, "has NaN or infinity"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, changes, message):
    path = tmp_path / "a.safetensors"
    example().save(path)
    change(path, **changes)
    with pytest.raises(bpx.FileFormatError) as caught:
        bpx.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_tensor(tmp_path):
    path = tmp_path / "a.safetensors"
    example().save(path)
    tensors, header = persistence.read(path)
    del tensors["layers.1.bias"]
    persistence.write(path, tensors, header)
    with pytest.raises(bpx.FileFormatError, match=r"tensor 'layers\.1\.bias' is missing"):
        bpx.load(path)


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "a.safetensors"
    example().save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(bpx.FileFormatError, match=r"truncated|is empty"):
            bpx.load(path)


def test_not_a_file(tmp_path):
    with pytest.raises(bpx.FileFormatError, match="is a folder"):
        bpx.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        bpx.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not a network, but some text that is long enough")
    with pytest.raises(bpx.FileFormatError, match="not a whole safetensors file"):
        bpx.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        example().save(tmp_path / "none" / "a.safetensors")


def test_what_is_not_finite_is_not_saved(tmp_path):
    """It could not be loaded, and would have replaced a file that can."""
    net = example()
    net.save(tmp_path / "net")
    net.biases[0][...] = np.nan
    for wrong, name in ((net, "layers.1.bias"), (bpx.Ensemble([net]), "members.0.layers.1.bias")):
        with pytest.raises(
            ValueError, match=f"{name} has NaN or infinity, .* nothing was written"
        ):
            wrong.save(tmp_path / "net")
    assert np.isfinite(bpx.load(tmp_path / "net").parameters).all()


def test_a_network_may_be_saved_while_it_is_trained(monkeypatch):
    """The file is of one moment, and its checksum that of what is in it."""
    net, found = bpx.Network([3, 4, 2], seed=0, backend="numpy"), persistence._checksum
    before = net.parameters.copy()

    def checksum(*arguments):
        net.parameters[...] += 1.0  # as another thread's fit does
        return found(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(persistence, "_checksum", checksum)
        content = net.to_bytes()
    assert (net.parameters == before + 1.0).all()
    assert (bpx.load(content).parameters == before).all()


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX's here")
@pytest.mark.parametrize("net", [example(), bpx.Ensemble([example()])], ids=["one", "several"])
def test_a_link_that_is_not_to_be_followed_is_replaced(tmp_path, net):
    link = tmp_path / "link"
    link.symlink_to("elsewhere")
    files.save(net, link, follow=False)
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path, net = tmp_path / "a.safetensors", example()
    net.save(path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; the old file is untouched"):
        example().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_write_that_really_fails(tmp_path):
    pytest.importorskip("resource", reason="limits of file sizes are POSIX's")
    path = tmp_path / "a.safetensors"
    example().save(path)
    before = path.read_bytes()
    program = """
import resource, signal, sys, bpx
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
net = bpx.Network([300, 300], seed=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    net.save(sys.argv[1])
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the old file is untouched" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_generator_of_numpy_goes_on(tmp_path, name):
    generator = np.random.Generator(getattr(np.random, name)(3))
    net = bpx.Network([3, 2], seed=generator)
    net.save(tmp_path / "a.safetensors")
    again = bpx.load(tmp_path / "a.safetensors")
    assert again.generator.random(5).tolist() == net.generator.random(5).tolist()


def test_a_generator_of_ones_own_cannot_be_saved(tmp_path):
    class Mine(np.random.PCG64):
        @property
        def state(self):
            return {"bit_generator": "Mine"}

    net = bpx.Network([3, 2], seed=0)
    net.generator = np.random.Generator(Mine(0))
    with pytest.raises(ValueError, match="cannot hold the generator Mine"):
        net.save(tmp_path / "a.safetensors")


def test_a_tensor_of_a_dtype_that_numpy_has_not(tmp_path):
    path = tmp_path / "a.safetensors"
    example().save(path)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(bpx.FileFormatError, match="dtype int32"):
        bpx.load(path)
    path.write_bytes(path.read_bytes().replace(b'"I32"', b'"F8_E4M3"', 1))
    with pytest.raises(bpx.FileFormatError, match="damaged or truncated"):
        bpx.load(path)


def test_any_field_of_the_header_may_be_wrong(tmp_path):
    """Whatever is put in the place of any value, `load` works or says which file is wrong."""
    path = tmp_path / "a.safetensors"
    example().save(path)
    tensors, header = persistence.read(path)

    refused = 0
    values = (None, -1, 1e308, "x", [], {}, [[1]], True, 10**30, float("nan"))
    for wrong in damaged(header, values):
        persistence.write(path, tensors, wrong)
        try:
            bpx.load(path).summary()
        except bpx.FileFormatError as error:
            refused += str(path) in str(error)
    assert refused > 300
