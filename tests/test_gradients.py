"""Every derivative against central differences, and against PyTorch's autograd."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import numpy as np
import pytest

import bpx
from bpx import activations, costs, gradcheck, layers
from bpx.activations import ACTIVATIONS
from bpx.costs import COSTS, PAIRS, Objective
from bpx.layers import LAYERS

SIZES, M = (5, 4, 3), 6


def sizes_for(cost):
    """With two outputs for each of two targets, where a cost takes two."""
    return SIZES if cost.outputs_per_target == 1 else (5, 4, 2 * cost.outputs_per_target)


def targets(rng, cost, shape):
    """Targets that the cost takes, away from kinks."""
    if cost.targets == "simplex":
        y = rng.uniform(0.1, 1.0, shape)
        return y / y.sum(axis=1, keepdims=True)
    if cost.targets in ("unit", "nonnegative"):
        return rng.uniform(0.05, 0.95, shape)
    # On both sides, and no |a − y| near 0 or at Huber's threshold.
    return rng.normal(size=shape) * 0.1 + rng.choice([-4.0, 4.0], size=shape)


def pairs():
    for c in COSTS.builtin:
        for a in ACTIVATIONS.builtin:
            cost, activation = COSTS.get(c), ACTIVATIONS.get(a)
            if cost.outputs is None or activation.range in cost.outputs:
                yield pytest.param(c, a, id=f"{c}-{a}")


LEGAL = list(pairs())


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.builtin))
def test_hidden_activation(backend, put, rng, name):
    net = bpx.Network(SIZES, hidden=name, backend=backend, dtype="float64", seed=1)
    x, y = rng.normal(size=(M, 5)), np.arange(M) % 3
    check = bpx.gradient_check(net, put(x), put(y), l2=0.3, l1=0.1)
    assert check.worst < 1e-7, check


@pytest.mark.parametrize(("cost", "output"), LEGAL)
def test_cost_and_output(backend, put, rng, cost, output):
    net = bpx.Network(
        sizes_for(COSTS.get(cost)),
        output=output,
        cost=COSTS.get(cost),
        task="regression",
        backend=backend,
        dtype="float64",
        seed=3,
    )
    y = targets(rng, net.cost, (M, net.chain.architecture.target_counts[0]))
    if output == "exp":
        y = y * 0.5
    weight = rng.uniform(0.1, 2.0, M)
    check = bpx.gradient_check(
        net, put(rng.normal(size=(M, 5))), put(y), sample_weight=put(weight)
    )
    assert check.worst < 1e-7, check


IMAGE, SEQUENCE = (2, 4, 3), (2, 7)
OF_IMAGES = layers.Dropout(0.3), layers.Rescale((0.5, 2.0), (1.0, -1.0), axis=0)
LAYER_CASES = {
    "activation": [layers.Activation("tanh"), layers.Activation("silu")],
    "average-pool1d": [layers.AveragePool1D(2), layers.AveragePool1D(3, 1, 1)],
    "average-pool2d": [layers.AveragePool2D(2), layers.AveragePool2D((3, 2), 1, 1)],
    "batch-norm": [
        layers.BatchNorm(scale="normal", shift="normal"),
        layers.BatchNorm(epsilon=0.1, trainable=False),
    ],
    "columns": [layers.Columns([1, 0]), layers.Columns([1])],
    "concatenate": [
        layers.Concatenate([[], [layers.Conv2D(3, 1, "tanh"), layers.BatchNorm()], []]),
        layers.Concatenate([[layers.Dropout(0.3)], [layers.Columns([1, 0])]], axis=2),
        layers.Concatenate(
            [
                [layers.Flatten(), layers.Dense(3, trainable=False), layers.Activation("silu")],
                [
                    layers.Flatten(),
                    layers.Concatenate([[], [layers.Dense(2)]]),
                    layers.LayerNorm(),
                ],
            ]
        ),
    ],
    "conv1d": [
        layers.Conv1D(3, 3, "tanh"),
        layers.Conv1D(4, 2, "silu", 2, "same", dilation=2, groups=2, use_bias=False),
    ],
    "conv2d": [
        layers.Conv2D(3, 3, "tanh"),
        layers.Conv2D(3, (2, 3), "gelu", (2, 1), (0, 2), use_bias=False),
        layers.Conv2D(4, 2, "sigmoid", padding="same", dilation=(2, 1), groups=2),
        layers.Conv2D(2, (4, 3)),
    ],
    "dense": [layers.Dense(4, "tanh"), layers.Dense(4, "tanh", use_bias=False)],
    "dropout": [layers.Dropout(0.4), layers.Dropout(0.0), OF_IMAGES[0]],
    "embedding": [layers.Embedding(4, 3)],
    "flatten": [layers.Flatten()],
    "global-average-pool1d": [layers.GlobalAveragePool1D()],
    "global-average-pool2d": [layers.GlobalAveragePool2D()],
    "layer-norm": [
        layers.LayerNorm(scale="normal", shift="normal"),
        layers.LayerNorm(axes=2, epsilon=0.1),
    ],
    "max-pool1d": [layers.MaxPool1D(2), layers.MaxPool1D(3, 2, 1)],
    "max-pool2d": [layers.MaxPool2D(2), layers.MaxPool2D((3, 2), (2, 1), 1)],
    "permute": [layers.Permute((2, 0, 1)), layers.Permute((0, 2, 1))],
    "rescale": [
        layers.Rescale(0.5, -1.0),
        layers.Rescale((0.5, 1.0, 2.0, 1.5, 0.1), (1.0, 0.0, 2.0, 0.0, 1.0)),
        OF_IMAGES[1],
    ],
    "reshape": [layers.Reshape((4, 6))],
    "residual": [
        layers.Residual(
            [
                layers.Conv2D(3, 2, "tanh", stride=2),
                layers.Dropout(0.2),
                layers.Residual([layers.BatchNorm(), layers.Conv2D(3, 1, trainable=False)]),
            ],
            projection="auto",
        ),
        layers.Residual([layers.Activation("tanh"), layers.LayerNorm()]),
    ],
    "upsample1d": [layers.Upsample1D(3)],
    "upsample2d": [layers.Upsample2D(2), layers.Upsample2D((1, 3))],
}
SHAPES = dict.fromkeys(LAYER_CASES, IMAGE)
SHAPES |= dict.fromkeys((name for name in LAYER_CASES if name.endswith("1d")), SEQUENCE)
SHAPES |= dict.fromkeys(("dense", "dropout", "embedding", "rescale"), (5,))
BEFORE = {
    IMAGE: layers.Conv2D(2, 1, "sigmoid"),
    SEQUENCE: layers.Conv1D(2, 1, "sigmoid"),
    (5,): layers.Dense(5, "sigmoid"),
}


def test_every_layer_has_a_case():
    assert set(LAYER_CASES) == set(LAYERS.builtin)


@pytest.mark.parametrize("position", ["first", "inside"])
@pytest.mark.parametrize(
    "layer", [case for cases in LAYER_CASES.values() for case in cases], ids=repr
)
def test_layer(backend, put, host, rng, layer, position):
    shape = IMAGE if layer in OF_IMAGES else SHAPES[layer.name]
    whole = isinstance(layer, layers.Embedding)  # which nothing but a Flatten may be before
    before = [layers.Flatten() if whole else BEFORE[shape]] if position == "inside" else []
    m = M if len(shape) == 1 else 2
    chain = [layers.Input(shape), *before, layer, layers.Flatten(), layers.Dense(3)]
    net = bpx.Network(chain, cost="quadratic", backend=backend, dtype="float64", seed=5)
    x, y = rng.normal(size=(m, *shape)), rng.normal(size=(m, 3))
    x, y = put(rng.integers(4, size=x.shape) if whole else x), put(y)
    of_all, of_weights = (net.backprop(x, y, step=0, inputs=inputs) for inputs in (True, False))
    if backend.name.startswith("array_api_strict"):  # of whose calls a check takes thousands
        checked = net.to(backend="numpy").backprop(host(x), host(y), step=0)
        for name in ("flat", "inputs"):
            found, right = (host(getattr(of, name)) for of in (of_all, checked))
            assert np.allclose(found, right, rtol=1e-10, atol=1e-12)
    else:
        check = bpx.gradient_check(net, x, y)
        assert check.worst < 1e-7, check
    assert np.array_equal(host(of_all.flat), host(of_weights.flat))
    assert tuple(of_all.inputs.shape) == tuple(x.shape)
    assert of_weights.inputs is None


def test_a_copy_of_a_gradient_holds_together(backend, put, host, rng):
    net = bpx.Network(SIZES, backend=backend, seed=1)
    grad = net.backprop(put(rng.normal(size=(M, 5))), put(np.arange(M) % 3))
    assert len(grad.weights) == len(SIZES) - 1
    copies = [copy.deepcopy(grad)]
    if backend.name != "cupy-rehearsed":  # which has no name in another process
        copies.append(pickle.loads(pickle.dumps(grad)))
    for other in copies:
        assert np.array_equal(host(other.flat), host(grad.flat))
        other.weights[0][...] = 7.0
        assert float(host(other.flat).max()) == 7.0
        assert float(other.cost) == float(grad.cost)
    assert float(host(grad.flat).max()) < 7.0


def test_a_wrong_gradient_is_found(rng):
    wrong = bpx.CustomActivation(lambda xp, z: z * z, lambda xp, z, a: 2.001 * z)
    net = bpx.Network(SIZES, hidden=wrong, dtype="float64", seed=1)
    assert bpx.gradient_check(net, rng.normal(size=(M, 5)), np.arange(M) % 3).worst > 1e-5


@pytest.mark.parametrize("far", [0.0, 1.7e9, -1e12])
def test_what_is_divided_by_is_how_far_an_element_was_moved(far):
    """Which is not 1e-5 for a large element, where the sum is rounded to a float64."""
    found = gradcheck._differences(lambda v: float(v[1] - far), np.array([1.0, far]), [0, 1], 1e-5)
    assert found.tolist() == [0.0, 1.0]


def test_a_gradient_of_nan_is_the_worst():
    assert np.isnan(bpx.GradientCheck({"a": float("nan"), "b": 1e-10}).worst)
    assert np.isnan(bpx.GradientCheck({"b": 1e-10, "a": float("nan")}).worst)


def test_small_outputs_still_learn():
    """Softplus and its slope to the last digit, where a float32 sigmoid by tanh is 0."""
    net = bpx.Network([1, 1], output="softplus", cost="poisson", weights="zeros")
    for z in (-18.0, -20.0, -60.0):
        net.biases[0][...] = z
        gradient = net.backprop([[0.0]], [[1.0]])
        assert abs(float(gradient.biases[0][0]) + 1.0) < 1e-5
    net.biases[0][...] = -95.0
    assert np.isfinite(net.backprop([[0.0]], [[50.0]]).flat).all()


def test_an_output_of_ones_own_that_is_nearly_the_identity():
    class Shifted(activations.Identity):
        def forward(self, xp, z):
            return z + 1.0

    net = bpx.Network([1, 1], output=Shifted(), cost="quadratic", weights="zeros", bias="zeros")
    assert net.feedforward([[0.0]]).tolist() == net.activations([[0.0]])[-1].tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["cross-entropy", "cross_entropy", "Cross-Entropy"])
def test_a_name_in_any_spelling_is_the_same_cost(name):
    net = bpx.Network([2, 3], output="softmax", cost=name)
    assert net.cost.name == "log-likelihood"


@pytest.mark.parametrize("output", list(ACTIVATIONS.builtin))
def test_the_cost_that_is_not_named_is_by_the_outputs(output, tmp_path):
    net = bpx.Network([2, 3], output=output)
    named = {"sigmoid": "cross-entropy", "softmax": "log-likelihood"}
    assert net.cost == bpx.Network([2, 3], output=output, cost=net.cost.name).cost
    assert net.cost.name == named.get(output, "quadratic")
    net.save(tmp_path / "net.safetensors")
    assert bpx.load(tmp_path / "net.safetensors").cost == net.cost
    assert bpx.Network([layers.Input(2), layers.Dense(3, output)]).cost == net.cost


def test_the_cost_of_outputs_of_ones_own_is_by_their_range():
    half = activations.CustomActivation(lambda xp, z: z / 2, lambda xp, z, a: 0 * z + 0.5)
    assert bpx.Network([2, 3], output=half).cost.name == "quadratic"
    assert bpx.Network([layers.Input(2), layers.Dropout(0.5)]).cost.name == "quadratic"
    bounded = activations.CustomActivation(
        lambda xp, z: 0.5 * xp.tanh(z) + 0.5, lambda xp, z, a: 2 * a * (1 - a), range="unit"
    )
    assert bpx.Network([2, 3], output=bounded).cost.name == "cross-entropy"


def test_trainable_false_has_no_gradient(backend, put, rng):
    chain = [layers.Dense(4, "tanh", trainable=False), layers.Dense(4, "tanh"), layers.Dense(3)]
    net = bpx.Network(
        [layers.Input(5), *chain], cost="quadratic", backend=backend, dtype="float64"
    )
    x, y = put(rng.normal(size=(M, 5))), put(rng.normal(size=(M, 3)))
    check = bpx.gradient_check(net, x, y, l2=0.5)
    assert check.worst < 1e-7
    assert "layers.0.weights" not in check.errors
    assert float(backend.xp.sum(backend.xp.abs(net.backprop(x, y).weights[0]))) == 0.0


def test_an_output_gradient(backend, put, rng, host):
    """backprop(output_gradient=∂C/∂a) of the quadratic mean cost is backprop(y)."""
    net = bpx.Network(SIZES, cost="quadratic", hidden="silu", backend=backend, dtype="float64")
    x, y = put(rng.normal(size=(M, 5))), put(rng.uniform(size=(M, 3)))
    delta = (net.feedforward(x) - y) / M
    one, two = net.backprop(x, y), net.backprop(x, output_gradient=delta)
    assert np.abs(host(one.flat) - host(two.flat)).max() < 1e-14
    assert np.abs(host(one.inputs) - host(two.inputs)).max() < 1e-14
    assert two.cost is None


@pytest.mark.parametrize("output", ["identity", "sigmoid", "softmax"])
def test_the_jacobian_is_that_of_differences(backend, put, rng, host, output, monkeypatch):
    chain = [
        bpx.layers.Input((2, 5)),
        bpx.layers.Rescale(0.5, 0.1),
        bpx.layers.Conv1D(3, 2, "tanh"),
        bpx.layers.BatchNorm(),
        bpx.layers.Flatten(),
        bpx.layers.Dropout(0.5),
        bpx.layers.Dense(3, output),
    ]
    net = bpx.Network(chain, backend=backend, dtype="float64", seed=0)
    x, h = rng.normal(size=(4, 2, 5)), 1e-6
    found = host(net.jacobian(put(x)))
    assert found.shape == (4, 3, 2, 5)
    for at in np.ndindex(2, 5):
        step = np.zeros((2, 5))
        step[at] = h
        ahead, behind = (host(net(put(x + sign * step))) for sign in (1, -1))
        assert np.abs(found[(..., *at)] - (ahead - behind) / (2 * h)).max() < 1e-9
    assert net.steps == 0
    for most in (2, 7):  # some outputs of a row at a time, and some rows of all
        monkeypatch.setattr(bpx.chain.Chain, "rows_at_once", most)
        assert np.allclose(host(net.jacobian(put(x))), found, rtol=0, atol=1e-12)


def test_an_output_gradient_as_a_function_sees_the_outputs_of_its_pass(backend, put, rng, host):
    """In which dropout has drawn masks, and batches are normalized by themselves."""
    chain = [layers.Input(5), layers.Dense(8, "tanh"), layers.BatchNorm(), layers.Dropout(0.5)]
    net = bpx.Network([*chain, layers.Dense(3)], backend=backend, dtype="float64", seed=1)
    x, y = put(rng.normal(size=(M, 5))), put(rng.normal(size=(M, 3)))
    seen = []

    def delta(a):
        seen.append(a)
        return (a - y) / M

    one, two = net.backprop(x, y, step=3), net.backprop(x, output_gradient=delta, step=3)
    assert np.abs(host(one.flat) - host(two.flat)).max() < 1e-14
    assert np.abs(host(seen[0]) - host(net.feedforward(x))).max() > 0.01
    with pytest.raises(
        TypeError, match=r"output_gradient to be a function taking \(a\), got one taking"
    ):
        net.backprop(x, output_gradient=lambda a, y: a - y)
    with pytest.raises(ValueError, match="expected output_gradient of shape"):
        net.backprop(x, output_gradient=lambda a: a[:, :1])


def test_quantiles_of_several_levels(backend, put, rng, host):
    levels = 0.1, 0.5, 0.95
    net = bpx.Network(
        SIZES, output="identity", cost=bpx.costs.Quantile(levels), backend=backend,
        dtype="float64", seed=2,
    )  # fmt: skip
    x, y = rng.normal(size=(M, 5)), targets(rng, net.cost, (M, 3))
    check = bpx.gradient_check(net, put(x), put(y))
    assert check.worst < 1e-7, check
    e = y - host(net(put(x)))
    expected = sum(np.maximum(t * e[:, j], (t - 1) * e[:, j]) for j, t in enumerate(levels))
    assert net.evaluate(put(x), put(y))["cost"] == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.parametrize("own", [False, True])
def test_outputs_about_one_target(backend, put, rng, own):
    """y (m,) and (m, 1) is that of (m, k) with the same number in each column."""
    cost = bpx.costs.Quantile((0.1, 0.5, 0.9))
    if own:
        cost = bpx.CustomCost(cost.value, cost.gradient, outputs_per_target=3)
    net = bpx.Network(
        SIZES, output="identity", cost=cost, backend=backend, dtype="float64", seed=2
    )
    x, y = put(rng.normal(size=(M, 5))), rng.normal(size=M)
    whole = put(np.repeat(y[:, None], 3, axis=1))
    expected, history = (
        net.evaluate(x, whole),
        net.copy().fit(x, whole, epochs=2, validation=(x, whole)),
    )
    for given in (put(y), put(y[:, None]), y.tolist()):
        assert net.evaluate(x, given) == expected
        other = net.copy().fit(x, given, epochs=2, validation=(x, given))
        assert other["validation_cost"] == history["validation_cost"]
    wrong = put(np.zeros((M, 2)))
    message = r"expected y of shape \(m, 1\) or \(m, 3\) or \(m,\), got \(6, 2\)"
    with pytest.raises(ValueError, match=message):
        net.fit(x, wrong)
    frame = pytest.importorskip("pandas", reason="it names the column").DataFrame({"price": y})
    net.fit(x, frame, epochs=1)
    assert net.target_columns == ("price",)


# --- PyTorch's autograd, the second oracle ------------------------------------------------------


def torch_activation(torch, name, z):
    f = torch.nn.functional
    return {
        "identity": lambda: z,
        "sigmoid": lambda: torch.sigmoid(z),
        "tanh": lambda: torch.tanh(z),
        "relu": lambda: torch.relu(z),
        "leaky-relu": lambda: f.leaky_relu(z, 0.01),
        "elu": lambda: f.elu(z),
        "gelu": lambda: f.gelu(z, approximate="tanh"),
        "silu": lambda: f.silu(z),
        "softplus": lambda: f.softplus(z),
        "exp": lambda: torch.exp(z),
        "softmax": lambda: torch.softmax(z, dim=1),
    }[name]()


def torch_cost(torch, name, a, y):
    f = torch.nn.functional
    return {
        "quadratic": lambda: 0.5 * ((a - y) ** 2).sum(1),
        "cross-entropy": lambda: f.binary_cross_entropy(a, y, reduction="none").sum(1),
        "log-likelihood": lambda: -(y * torch.log(a)).sum(1),
        "mean-absolute-error": lambda: (a - y).abs().sum(1),
        "huber": lambda: f.huber_loss(a, y, reduction="none").sum(1),
        "quantile": lambda: torch.maximum(0.5 * (y - a), 0.5 * (a - y)).sum(1),
        "poisson": lambda: (torch.xlogy(y, y) - y * torch.log(a) - y + a).sum(1),
        "gaussian-nll": lambda: f.gaussian_nll_loss(
            a[:, :2], y, torch.exp(a[:, 2:]), full=True, reduction="none"
        ).sum(1),
    }[name]()


@pytest.mark.parametrize("hidden", sorted(ACTIVATIONS.builtin))
@pytest.mark.parametrize(("cost", "output"), LEGAL)
def test_against_autograd(rng, hidden, cost, output):
    torch = pytest.importorskip("torch", reason="PyTorch is the second oracle")
    net = bpx.Network(
        sizes_for(COSTS.get(cost)),
        hidden=hidden,
        output=output,
        cost=COSTS.get(cost),
        task="regression",
        dtype="float64",
        seed=7,
    )
    x = rng.normal(size=(M, 5))
    y = targets(rng, net.cost, (M, net.chain.architecture.target_counts[0]))
    weight = rng.uniform(0.1, 2.0, M)
    ours = net.backprop(x, y, sample_weight=weight)
    leaves = [torch.tensor(v, requires_grad=True) for v in [x, *net.weights, *net.biases]]
    tx, w1, w2, b1, b2 = leaves
    a = torch_activation(torch, hidden, tx @ w1.T + b1)
    a = torch_activation(torch, output, a @ w2.T + b2)
    tw = torch.tensor(weight)
    value = (tw * torch_cost(torch, cost, a, torch.tensor(y))).sum() / tw.sum()
    value.backward()
    assert abs(float(ours.cost) - value.item()) < 1e-12 * max(1.0, abs(value.item()))
    mine = [ours.inputs, *ours.weights, *ours.biases]
    for leaf, gradient in zip(leaves, mine, strict=True):
        theirs = leaf.grad.numpy()
        assert np.linalg.norm(gradient - theirs) <= 1e-10 * np.linalg.norm(theirs)


# --- values where a formula in a would fail -----------------------------------------------------


def test_short_pairs_are_the_ones_in_which_the_slope_cancels(rng):
    z, k = rng.normal(size=(4, 3)), bpx.backends.get("numpy")
    for cost, output in PAIRS:
        activation = output()
        objective = Objective(cost(), activation)
        a = activation.forward(np, z)
        y = targets(rng, cost(), (4, 3))
        long = activation.backward(np, cost().gradient(np, a, y), z, a)
        assert np.allclose(objective.delta(k, z, a, y, np.empty_like(z)), long, rtol=1e-12)
        assert np.allclose(objective.value(k, z, a, y), cost().value(np, a, y), rtol=1e-12)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_saturated_outputs_have_finite_costs(backend, put, output):
    net = bpx.Network([2, 2], output=output, backend=backend, weights="zeros", bias="zeros")
    net.biases[0][...] = put(np.array([300.0, -300.0], dtype=np.float32))
    for label in (0, 1):
        gradient = net.backprop(put(np.ones((1, 2), np.float32)), put(np.array([label])))
        assert np.isfinite(float(gradient.cost))
        assert bool(backend.xp.all(backend.xp.isfinite(gradient.flat)))
    expected = 600.0
    assert abs(float(gradient.cost) - expected) < 1e-3


@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_a_small_cross_entropy_is_no_difference_of_large_sums(backend, put, y):
    """For 200 outputs that are nearly right, it used to be below 0."""
    z = np.linspace(14.0, 40.0, 200)[None, :] * (1.0 if y else -1.0)
    net = bpx.Network([200, 200], backend=backend, weights="zeros", bias="zeros")
    net.biases[0][...] = put(z[0].astype(np.float32))
    x, targets = put(np.zeros((1, 200), np.float32)), put(np.full((1, 200), y, np.float32))
    z = z.astype(np.float32).astype(np.float64)
    expected = float((np.maximum(z, 0.0) - y * z + np.log1p(np.exp(-np.abs(z)))).sum())
    for cost in (net.total_cost(x, targets), float(net.backprop(x, targets).cost)):
        assert abs(cost - expected) <= 1e-6 * expected


@pytest.mark.parametrize("output", ["exp", "softplus"])
@pytest.mark.parametrize("count", [0.0, 3.0, 1e5, 1e6])
def test_a_deviance_of_large_counts_is_not_negative(backend, put, output, count):
    """y ln(y/a) − y + a in float32, against the same in float64 of what float32 holds."""
    kernels, objective = backend, Objective(COSTS.get("poisson"), ACTIVATIONS.get(output))
    means = np.float32(max(count, 1.0)) * np.linspace(0.2, 3.0, 15, dtype=np.float32)
    z = np.log(means.astype(np.float64)) if output == "exp" else means
    z = z.astype(np.float32)[:, None]
    a = kernels.activate(objective.activation, put(z), kernels.empty(z.shape, put(z).dtype))
    y = np.full_like(z, count)
    found = kernels.to_host(objective.value(kernels, put(z), a, put(y)))
    exact = np.exp(z.astype(np.float64)) if output == "exp" else np.logaddexp(0.0, z.astype(float))
    log = np.log(count / exact) if count else 0.0
    expected = (count * log - count + exact)[:, 0]
    assert (found >= 0.0).all()
    # z itself has 24 digits: C moves by |a − y| times its rounding.
    error = 4e-7 * (np.abs(exact[:, 0] - count) * np.maximum(np.abs(z[:, 0]), 1.0) + expected)
    assert (np.abs(found - expected) <= error + 1e-3 * (count == 1e6)).all()


@pytest.mark.parametrize("cost", [c for c in COSTS.builtin if COSTS.get(c).outputs])
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "exp", "softplus"])
def test_saturated_outputs_of_long_pairs_are_finite(cost, output):
    cost, output = COSTS.get(cost), ACTIVATIONS.get(output)
    if output.range not in cost.outputs:
        pytest.skip("not a legal pair")
    z = np.asarray([[80.0, -80.0], [-200.0, 0.0]], dtype=np.float32)
    y = np.asarray([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    kernels, objective = bpx.backends.get("numpy"), Objective(cost, output)
    a = kernels.activate(output, z, np.empty_like(z))
    assert np.isfinite(objective.value(kernels, z, a, y)).all()
    assert np.isfinite(objective.delta(kernels, z, a, y, np.empty_like(z))).all()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.builtin))
def test_activations_at_the_ends(backend, put, host, name):
    if name == "exp":
        pytest.skip("e^z is not finite there, as it should be")
    # Squares of the first and the last overflow.
    z = put(np.asarray([[-1e20, -1e4, -50.0, 0.0, 50.0, 1e4, 1e20]], dtype=np.float32))
    activation = ACTIVATIONS.get(name)
    with np.errstate(over="ignore"):
        a = activation.forward(backend.xp, z)
        d = activation.backward(backend.xp, backend.xp.ones_like(z), z, a)
    assert np.isfinite(host(a)).all()
    assert np.isfinite(host(d)).all()


def test_nan_is_not_swallowed(backend, put, host):
    for name in ACTIVATIONS.builtin:
        z = put(np.asarray([[np.nan, 1.0]]))
        out = backend.empty((1, 2), z.dtype)
        with np.errstate(invalid="ignore"):
            a = backend.activate(ACTIVATIONS.get(name), z, out)
        assert np.isnan(host(a)[0, 0]), name


def test_a_subclass_is_never_replaced_by_a_native_kernel():
    class Doubled(activations.Sigmoid):
        def forward(self, xp, z):
            return 2.0 * super().forward(xp, z)

    kernels = bpx.backends.get("numpy")
    assert kernels.activate(Doubled(), np.zeros((1, 1)), np.empty((1, 1)))[0, 0] == 1.0
    z, y = np.full((1, 1), -2.0), np.ones((1, 1))
    a = Doubled().forward(np, z)
    cost = Objective(costs.CrossEntropy(), Doubled()).value(kernels, z, a, y)  # of a, not of z
    assert np.isclose(cost[0], -np.log(a[0, 0]))


@pytest.mark.parametrize(
    ("cost", "output"), [("cross-entropy", "softmax"), ("poisson", "softplus")]
)
def test_a_cost_of_nan_is_nan(cost, output):
    """Otherwise a run that diverges would be reported late."""
    a = np.array([[np.nan, 0.5], [0.5, 0.5]])
    objective = Objective(COSTS.get(cost), ACTIVATIONS.get(output))
    values = objective.cost.value(np, a, np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert np.isnan(values).tolist() == [True, False]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            2000,
            "of 8,128 passes over 2,000 rows takes long: pass few samples, x[:10], y[:10], or a",
        ),
        (10, "of 168 passes over 10 rows takes long: make a smaller network"),
    ],
)
def test_a_check_that_would_take_long_is_warned_of_before_it_begins(rows, told, monkeypatch):
    monkeypatch.setattr(bpx.gradcheck, "AT_MOST", 1000)
    net = bpx.Network([2, 3, 1], seed=0)
    with pytest.raises(RuntimeWarning, match=re.escape(told)):  # warnings are errors here
        bpx.gradient_check(net, np.zeros((rows, 2)), np.zeros(rows, int))


def test_a_gradient_of_zeros_is_wrong():
    assert bpx.gradcheck.relative_error(np.zeros(2), np.ones(2), 0.0) == 1.0


def test_what_underflows_is_no_error_under_a_strict_errstate(rng):
    x, labels = 1e3 * rng.normal(size=(20, 4)).astype("f4"), np.arange(20) % 3
    counts = np.abs(x[:, :3])
    poisson = bpx.Network([4, 5, 3], output="softplus", cost="poisson", seed=0)
    relu = bpx.Network([4, 5, 3], hidden="relu", output="softmax", seed=0)
    members = bpx.Ensemble([relu, relu.copy()])
    scaled = bpx.Network(
        [layers.Input(4), layers.Rescale(1e-30), layers.Dense(3, "softmax")], seed=0
    )
    with np.errstate(all="raise"):
        for net, y in ((poisson, counts), (relu, labels)):
            net.evaluate(x, y)
            net.total_cost(x, y, l2=1.0)
            net.backprop(x, y)
            net.backprop(x, output_gradient=np.ones((20, 3)))
            net.trace(x, y)
            net.jacobian(x)
            net.activations(x)
            net.predict(np.tile(x, (20, 1)))
            net.predict(x[:3])
            net.chain.hidden(x, 1)
        for tiny in (np.full((2, 4), 1e-300), np.full((2, 4), 1e-30, np.float32)):
            for net in (relu, scaled):
                net.predict(tiny)
                net.activations(tiny)
        with pytest.raises(ValueError, match="x has numbers that float32 does not hold"):
            relu.predict(np.full((2, 4), 1e300))
        members.predict(x)
        members.evaluate(x, labels)
        with warnings.catch_warnings():  # as errors, which a few rows through dense layers catch
            warnings.simplefilter("error")
            with np.errstate(all="warn"):
                large = bpx.Network([4, 5, 3], hidden="exp", output="softmax", seed=0)
                large.predict(np.full((2, 4), 1e3))
        with pytest.raises(FloatingPointError):  # in the user's own function
            relu.backprop(x, output_gradient=lambda a: np.log(0.0 * a))
    with pytest.raises(ValueError, match="x has NaN or infinity"), np.errstate(all="raise"):
        relu.backprop(np.inf * np.ones((20, 4)), labels)
