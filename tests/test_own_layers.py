"""Layers of a user's own, where a network would treat bpx's in a way of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import bpx
from bpx import layers
from bpx.initializers import Constant
from bpx.layers import Dense, Input, Layer, Rescale, Residual, activation_field
from bpx.parameters import Parameter


@dataclass(frozen=True)
class Gate(Layer):
    """x·σ(x), which does not end in its activation."""

    ends_in_activation: ClassVar[bool] = False

    activation: Any = activation_field("sigmoid")

    def forward(self, x, p, ctx):
        a = ctx.buffer("a", tuple(x.shape))
        ctx.backend.activate(self.activation, x, a)
        return x * a, (x, a)

    def backward(self, delta, saved, p, out, ctx):
        x, a = saved
        return delta * (a + x * a * (1 - a))


@dataclass(frozen=True)
class Twice(Layer):
    """σ(2x), which does."""

    ends_in_activation: ClassVar[bool] = True

    activation: Any = activation_field("softmax")

    def forward(self, x, p, ctx):
        z, a = ctx.buffer("z", tuple(x.shape)), ctx.buffer("a", tuple(x.shape))
        z[...] = 2.0 * x
        return ctx.backend.activate(self.activation, z, a), (z, a)

    def backward(self, delta, saved, p, out, ctx):
        return 2.0 * ctx.backend.activate_backward(self.activation, delta, *saved)


@dataclass(frozen=True)
class DenseGate(Dense):
    """A subclass whose forward pass does something else after σ."""

    ends_in_activation: ClassVar[bool] = False

    def forward(self, x, p, ctx):
        a, saved = super().forward(x, p, ctx)
        return 3.0 * a, saved

    def backward(self, delta, saved, p, out, ctx):
        return super().backward(3.0 * delta, saved, p, out, ctx)


@dataclass(frozen=True)
class Logarithm(Rescale):
    """A subclass that does not rescale."""

    def forward(self, x, p, ctx):
        return ctx.backend.xp.log(x), x

    def backward(self, delta, saved, p, out, ctx):
        return delta / saved


X = np.array([[0.3, 1.2], [2.0, 0.7], [1.5, 1.1]])


@pytest.mark.parametrize(
    ("last", "task", "expected"),
    [
        (Gate(), "regression", X / (1 + np.exp(-X))),
        (Twice(), "classification", np.exp(2 * X) / np.exp(2 * X).sum(axis=1, keepdims=True)),
        (Twice("tanh"), "regression", np.tanh(2 * X)),
        (
            DenseGate(2, "sigmoid", weights="zeros", bias="zeros"),
            "regression",
            np.full((3, 2), 1.5),
        ),
    ],
)
def test_a_last_layer_gives_what_its_forward_pass_gives(last, task, expected):
    net = bpx.Network([Input(2), last], dtype="float64", seed=0)
    assert net.task == task
    for got in (net(X), net.activations(X)[0], net.trace(X)[0].a):
        assert np.allclose(got, expected, rtol=1e-12, atol=0)
    y = np.array([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]])
    of_shares = task == "classification"
    costs = -(y * np.log(expected)) if of_shares else 0.5 * (expected - y) ** 2
    assert abs(net.evaluate(X, y)["cost"] - costs.sum() / 3) < 1e-12
    assert bpx.gradient_check(net, X, y).worst < 1e-7


def test_a_last_layer_that_does_not_say_whether_it_ends_in_its_activation():
    @dataclass(frozen=True)
    class Own(Dense):
        def forward(self, x, p, ctx):
            return super().forward(x, p, ctx)

    class Mixed:
        def forward(self, x, p, ctx):
            return super().forward(x, p, ctx)

    @dataclass(frozen=True)
    class OfTwo(Mixed, Dense):
        pass

    for kind in (Own, OfTwo):
        message = f"the last layer, {kind.__name__}, has a forward of its own and an activation"
        with pytest.raises(ValueError, match=f"{message}: say in its class ends_in_activation"):
            bpx.Network([Input(2), kind(2, "softmax")])
        bpx.Network([Input(2), kind(2, "tanh"), kind(2)])(X)  # elsewhere it does not matter
    Own.ends_in_activation = True
    net = bpx.Network([Input(2), Own(2, "softmax")], seed=0)
    expected = bpx.Network([2, 2], output="softmax", seed=0)(X)
    assert np.abs(net(X) - expected).max() < 1e-6

    class Without(Layer):
        ends_in_activation = True

    with pytest.raises(TypeError, match="Without says ends_in_activation, and has no field activ"):
        Without()


def test_of_bpx_s_own_all_with_an_activation_end_in_it():
    with_activation = [layers.Dense, layers.Conv1D, layers.Conv2D, layers.Activation]
    assert all(cls.ends_in_activation for cls in with_activation)
    fields = {name for name in layers.__all__ if hasattr(getattr(layers, name), "activation")}
    assert fields <= {cls.__name__ for cls in with_activation}


@pytest.mark.parametrize("chain", [[Logarithm()], [Logarithm(), Dense(2)], [Dense(2), Rescale(2)]])
def test_a_rescaling_that_is_not_folded(chain):
    net = bpx.Network([Input(2), *chain], dtype="float64", seed=0)
    if isinstance(chain[0], Logarithm):
        assert np.array_equal(net.activations(X)[0], np.log(X))
    else:
        assert np.array_equal(net(X), 2.0 * net.activations(X)[0])
    assert np.array_equal(net(X), net.activations(X)[-1])
    assert bpx.gradient_check(net, X, X).worst < 1e-7


@dataclass(frozen=True)
class Gains(Layer):
    """x ⊙ a ⊙ b, of which b is not trained."""

    def parameters(self):
        ones = Constant(1.0)
        fixed = Parameter(self.shape_in, ones, trained=False)
        return {"a": Parameter(self.shape_in, ones), "b": fixed}

    def forward(self, x, p, ctx):
        return x * p.a * p.b, x

    def backward(self, delta, saved, p, out, ctx):
        below = delta * p.a * p.b
        if out is not None:
            out.a.sum_rows(delta * saved * p.b)
        return below


def test_a_layer_of_which_some_tensors_are_trained():
    net = bpx.Network([Input(2), Gains(), Dense(2)], dtype="float64", seed=0)
    y, (scales, *_) = np.eye(3, 2), net.chain.p
    scales.a[...], scales.b[...] = [0.5, 2.0], [3.0, 0.3]
    assert bpx.gradient_check(net, X, y).worst < 1e-7
    expected = net.parameters - 0.5 * net.backprop(X, y).flat
    net.fit(X, y, epochs=1, optimizer=bpx.SGD(0.5))
    assert np.abs(net.parameters - expected).max() < 1e-15
    assert scales.b.tolist() == [3.0, 0.3]


@dataclass(frozen=True)
class Scaled(Layer):
    """x ⊙ gain, with a table beside it; `hand_over` gives their gradients."""

    hand_over: Any = None

    def parameters(self):
        gain = Parameter(self.shape_in, Constant(1.0))
        return {"gain": gain, "table": Parameter((2, *self.shape_in), Constant(1.0))}

    def forward(self, x, p, ctx):
        return x * p.gain, x

    def backward(self, delta, x, p, out, ctx):
        below = delta * p.gain
        if self.hand_over is not None:
            self.hand_over(out, p, delta * x)
        return below


CASES = [
    (
        lambda out, p, d: out.gain.sum_rows(d.sum(0)),
        "expected out.gain.sum_rows(d) of the layer Scaled to get shape (m, 2), since gain has "
        "shape (2,), got shape (2,)",
    ),
    (
        lambda out, p, d: out.gain.write(3.0),
        "out.gain.write(g) of the layer Scaled to get shape (2,",
    ),
    (lambda out, p, d: out.gain.write(np.ones(1)), "since gain has shape (2,), got shape (1,)"),
    (lambda out, p, d: out.gain.product(d, d), "to get shapes (m, n) and (m, k), since gain has"),
    (
        lambda out, p, d: out.table.product(d, d[:2]),
        "to get shapes (m, 2) and (m, 2), since table has shape (2, 2), got shapes (3, 2) and (2,",
    ),
    (
        lambda out, p, d: out.table.sum_at(d, d),
        "out.table.sum_at(d, k) of the layer Scaled to get shapes (m, 2) and (m,), since table",
    ),
    (
        lambda out, p, d: [out.gain.sum_rows(0.5 * d) for _ in range(2)],
        "out.gain of the layer Scaled has its gradient already: add up its parts",
    ),
    (
        lambda out, p, d: out.gain.sum_rows(d),
        "expected backward of the layer Scaled to hand over the gradient of table, by out.table",
    ),
    (
        lambda out, p, d: out.gian.sum_rows(d),
        "out of the layer Scaled has no attribute 'gian'; did you",
    ),
    (
        lambda out, p, d: out.gain.rows(d),
        "out.gain of the layer Scaled has no attribute 'rows'; did you mean 'sum_rows'?",
    ),
    (lambda out, p, d: p.gg, "p of the layer Scaled has no attribute 'gg'. Known: gain, table"),
]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("hand_over", "message"), CASES, ids=[case[1][:50] for case in CASES])
def test_gradients_that_are_handed_over_wrongly(hand_over, message, nested):
    own = Scaled(hand_over)
    chain = [Input(2), layers.Residual([own]) if nested else own, Dense(1)]
    for use in (bpx.Network(chain).fit, bpx.Network(chain).backprop):
        with pytest.raises((ValueError, AttributeError), match=re.escape(message)):
            use(X, X[:, :1])


@dataclass(frozen=True)
class Late(Layer):
    """x ⊙ gain, which computes ∂C/∂x after its update, from what it reads before or then."""

    bound: bool = False

    def parameters(self):
        return {"gain": Parameter(self.shape_in, Constant(1.0))}

    def forward(self, x, p, ctx):
        return x * p.gain, x

    def backward(self, delta, x, p, out, ctx):
        gain = p.gain
        out.gain.sum_rows(delta * x)
        assert p.gain.shape == self.shape_in
        return delta * (gain if self.bound else p.gain)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("bound", [False, True])
def test_a_parameter_that_is_read_after_its_update(nested, bound):
    own = layers.Residual([Late(bound)]) if nested else Late(bound)
    told = "∂C/∂x of the layer Late is NaN, as it is where backward reads parameters after it has"
    for use in (
        bpx.Network([Input(2), Dense(2), own, Dense(1)]).fit,
        bpx.Network([Input(2), own, Dense(1)]).backprop,
    ):
        with pytest.raises(ValueError, match=told):
            use(X, X[:, :1])
    # Where nobody wants ∂C/∂x, nothing is wrong.
    bpx.Network([Input(2), own, Dense(1)]).fit(X, X[:, :1], epochs=1)


def test_on_a_device_nobody_looks_for_nan_and_there_is_none(rehearsed):
    net = bpx.Network([Input(2), Dense(2), Late(), Dense(1)], backend=rehearsed, seed=0)
    assert not rehearsed.is_host
    grad = net.backprop(rehearsed.from_host(X), rehearsed.from_host(X[:, :1]))
    assert np.isfinite(rehearsed.to_host(grad.flat)).all()


def test_nan_from_above_is_not_the_layers():
    class Spoils(Layer):
        def forward(self, x, p, ctx):
            return x, None

        def backward(self, delta, saved, p, out, ctx):
            return delta * np.nan

    own = Scaled(lambda out, p, d: [out.gain.sum_rows(d), out.table.product(d, d)])
    net = bpx.Network([Input(2), Dense(2), own, Spoils(), Dense(1)])
    grad = net.backprop(X, X[:, :1])
    assert np.isnan(grad.weights[0]).all()


def test_each_way_to_hand_over_a_gradient():
    def hand_over(out, p, d):
        out.gain.write(d.sum(0))
        out.table.sum_at(d, np.array([0, 1, 0]))

    net = bpx.Network([Input(2), Scaled(hand_over), Dense(1)], seed=0)
    net.fit(X, X[:, :1], epochs=2)
    assert not (net.tensors["layers.0.table"] == 1.0).all()


def test_an_attribute_that_is_missing_elsewhere_is_told_as_it_is():
    def fails(out, p, d):
        return d.gain

    with pytest.raises(AttributeError, match=r"'numpy\.ndarray' object has no attribute 'gain'"):
        bpx.Network([Input(2), Scaled(fails), Dense(1)]).backprop(X, X[:, :1])


class Trusting(Gains):
    """Which hands its gradient over without a look whether it is trained."""

    def backward(self, delta, saved, p, out, ctx):
        below = delta * p.a * p.b
        out.a.sum_rows(delta * saved * p.b)
        return below


@pytest.mark.parametrize("nested", [False, True])
def test_the_jacobian_of_a_layer_that_always_hands_over(nested):
    layer = Residual([Trusting()]) if nested else Trusting()
    net = bpx.Network([Input(2), layer, Dense(3)], dtype="float64", seed=0)
    step, before = 1e-6 * np.eye(2), net.parameters.copy()
    found = net.jacobian(X)
    assert found.shape == (len(X), 3, 2)
    for k in range(2):
        slope = (net(X + step[k]) - net(X - step[k])) / 2e-6
        assert np.abs(found[:, :, k] - slope).max() < 1e-8
    assert np.array_equal(net.parameters, before)


def test_each_prediction_of_an_own_layer_is_checked():
    """The first one may be right by chance."""

    @dataclass(frozen=True)
    class Mean(Layer):
        def forward(self, x, p, ctx):
            return x.mean(axis=0, keepdims=True), None

        def backward(self, delta, saved, p, out, ctx):
            return delta

    net = bpx.Network([Input(2), Mean(), Dense(1)], seed=0)
    net(X[:1])
    with pytest.raises(ValueError, match="expected y of the layer Mean"):
        net(X[:2])


def test_an_own_layer_may_keep_what_it_is_lent_for_a_prediction():
    kept = []

    @dataclass(frozen=True)
    class Records(Layer):
        def forward(self, x, p, ctx):
            y = ctx.buffer("y", x.shape)
            y[...] = x
            kept.append(y)
            return y, None

        def backward(self, delta, saved, p, out, ctx):
            return delta

    net = bpx.Network([Input(2), Residual([Records()]), Dense(1)], seed=0)
    for row in X[:2]:
        net(row[None])
    assert np.allclose(np.concatenate(kept[:2]), X[:2], rtol=1e-6)


def test_a_buffer_without_axes_and_one_with_an_axis():
    found = []

    @dataclass(frozen=True)
    class Asks(Layer):
        def forward(self, x, p, ctx):
            found.extend(ctx.buffer("same", shape).shape for shape in ((4,), (), (2,)))
            return x, None

        def backward(self, delta, saved, p, out, ctx):
            return delta

    bpx.Network([Input(2), Asks(), Dense(1)], seed=0)(X)
    assert found[:3] == [(4,), (), (2,)]


def test_buffers_of_one_name_and_two_dtypes():
    found = []

    @dataclass(frozen=True)
    class Asks(Layer):
        def forward(self, x, p, ctx):
            kinds = None, ctx.backend.xp.bool, None
            found.extend(ctx.buffer("same", (3,), kind).dtype.name for kind in kinds)
            return x, None

        def backward(self, delta, saved, p, out, ctx):
            return delta

    bpx.Network([Input(2), Asks(), Dense(1)], seed=0)(X)
    assert found[:3] == ["float32", "bool", "float32"]


def test_a_gradient_that_is_set_and_not_handed_over():
    @dataclass(frozen=True)
    class Own(Dense):
        def backward(self, delta, saved, p, out, ctx):
            below = delta @ p.weights
            out.weights = delta.T @ saved[0]
            out.bias.sum_rows(delta)
            return below

    told = (
        r"layer Dense 2, identity has set out\.weights: hand the gradient over, by "
        r"out\.weights\.product\(d, x\), which is dᵀx, sum_rows\(d\), sum_at\(d, k\) or write\(g\)"
    )
    inside = layers.Residual([Own(2)])
    for layer, message in ((Own(2), told), (inside, "has set out.weights: hand the gradient o")):
        net = bpx.Network([Input(2), layer, Dense(2, "softmax")], seed=0)
        for use in (net.backprop, net.fit):
            with pytest.raises(TypeError, match=message):
                use(X, [0, 1, 1])


def test_a_class_with_fields_and_without_dataclass():
    class Own(Layer):
        units: int = 3

    class Below(Dense):
        factor: float = 2.0

    class Slope(bpx.Activation):
        slope: float = 0.1

    class Plain(Dense):
        pass

    told = "put @dataclass(frozen=True) above the class, and its fields are arguments"
    for make in (
        lambda: Own(3),
        lambda: Own(units=3),
        lambda: Below(3, factor=1.0),
        lambda: Slope(0.5),
        lambda: Slope(slope=0.5),
    ):
        with pytest.raises(TypeError, match=re.escape(told)):
            make()
    assert (Own().units, Below(4).factor, Plain(4, "relu").units) == (3, 2.0, 4)
    with pytest.raises(TypeError, match="Plain takes no unitz=; did you mean 'units'"):
        Plain(unitz=3)
    with pytest.raises(TypeError, match="Below takes no unitz=; did you mean 'units'"):
        Below(unitz=3)


@dataclass(frozen=True)
class Doubling(Layer):
    """It writes to what it is given."""

    @property
    def output_shape(self):
        return self.shape_in

    def forward(self, x, p, ctx):
        x *= 2
        return x, None

    def backward(self, delta, saved, p, out, ctx):
        return 2 * delta


@pytest.mark.parametrize(
    "call", ["predict", "fit", "backprop", "evaluate", "trace", "activations"]
)
def test_x_is_not_written_to(call):
    net = bpx.Network([Input(3), Doubling(), Dense(2, "softmax")], seed=0)
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"^forward of the layer Doubling writes to x, .* y = 2"):
        getattr(net, call)(x, *[np.array([0, 1, 1, 0])] * (call not in ("predict", "activations")))
    assert (x == 1.0).all()


def test_a_layer_that_returns_its_x_keeps_outputs_writable():
    class Same(Doubling):
        def forward(self, x, p, ctx):
            return x, None

    net = bpx.Network([Input(3), Same()], seed=0, cost="quadratic")
    found = net(np.ones((4, 3), np.float32))
    found += 1.0


class Taking(bpx.Cost):
    """It writes to y."""

    def value(self, xp, a, y):
        y -= a
        return xp.sum(y * y, axis=1)

    def gradient(self, xp, a, y):
        return 2.0 * (a - y)


class Differing(bpx.Cost):
    """It writes to a."""

    def value(self, xp, a, y):
        return xp.sum((a - y) ** 2, axis=1)

    def gradient(self, xp, a, y):
        a -= y
        return 2.0 * a


@pytest.mark.parametrize("call", ["fit", "backprop", "evaluate", "trace", "of ensembles"])
@pytest.mark.parametrize("cost", [Taking(), Differing()], ids=["y", "a"])
def test_a_cost_does_not_write_to_outputs_and_targets(call, cost):
    net = bpx.Network([3, 2], output="identity", cost=cost, seed=0, dtype="float64")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    told = f"^the cost {type(cost).__name__} writes to a or y, which may be an array of the caller"
    if call in ("evaluate", "of ensembles"):
        measured = bpx.Ensemble([net, net.copy()]) if call == "of ensembles" else net
        if isinstance(cost, Differing):  # whose value does not
            assert np.isfinite(measured.evaluate(x, y)["cost"])
            return
        with pytest.raises(ValueError, match=told):
            measured.evaluate(x, y)
    else:
        with pytest.raises(ValueError, match=told):
            getattr(net, call)(x, y)
    assert (y == 1.0).all()
