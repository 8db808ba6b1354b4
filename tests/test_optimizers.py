"""Each optimizer, schedule and initializer against an oracle that is not ours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import bpx
from bpx import initializers, schedules
from bpx.initializers import INITIALIZERS
from bpx.optimizers import OPTIMIZERS

N = 37


class Weights:
    """What an optimizer sees of a network: θ, all of it weights."""

    def __init__(self, backend, theta):
        self.backend, self.parameters = backend, theta
        self.layout = type("Layout", (), {"decayed": N})


AGAINST_TORCH = [
    (bpx.SGD(0.1), "SGD", {"lr": 0.1}),
    (bpx.SGD(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    (
        bpx.SGD(0.1, momentum=0.9, nesterov=True),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    (bpx.RMSprop(0.01, rho=0.8), "RMSprop", {"lr": 0.01, "alpha": 0.8, "eps": 1e-8}),
    (bpx.Adam(0.01), "Adam", {"lr": 0.01}),
    (bpx.AdamW(0.01, weight_decay=0.1), "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
]


def called(value):
    """Without an address."""
    return getattr(value, "__name__", str(value)[:40])


def second_form(theta, g, memory, t):
    """Adam as in section 2 of the paper, with ε outside of the correction."""
    m = memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    v = memory["v"] = 0.999 * memory.get("v", 0.0) + 0.001 * g * g
    return theta - 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-2)


def rms(theta, g, memory, t):
    v = memory["v"] = 0.8 * memory.get("v", 0.0) + 0.2 * g * g
    return theta - 0.01 * g / (np.sqrt(v) + 1e-3)


# Functions of one step: θ, its gradient, a dict of what they remember, and t = 1, 2, ...
FORMULAS = [
    (bpx.Adam(0.01, epsilon=1e-2, epsilon_hat=True), second_form),
    (bpx.RMSprop(0.01, rho=0.8, epsilon=1e-3), rms),
]


def test_every_optimizer_is_here():
    found = {type(ours) for ours, *_ in [*AGAINST_TORCH, *FORMULAS]}
    missing = {cls.__name__ for cls in set(OPTIMIZERS.builtin.values()) - found}
    assert not missing, "add them to AGAINST_TORCH, or to FORMULAS"


@pytest.mark.parametrize(("ours", "name", "options"), AGAINST_TORCH, ids=lambda v: str(v)[:40])
def test_ten_steps_are_pytorchs(backend, put, host, rng, ours, name, options):
    torch = pytest.importorskip("torch", reason="PyTorch's optimizers are the oracle")
    start = rng.normal(size=N)
    leaf = torch.tensor(start, requires_grad=True)
    theirs = getattr(torch.optim, name)([leaf], **options)
    theta = backend.from_host(start.copy())
    state = ours.start(Weights(backend, theta))
    for step in range(10):
        gradient = rng.normal(size=N)
        leaf.grad = torch.tensor(gradient)
        theirs.step()
        ours.update(theta, put(gradient), state, step)
        state.step += 1
        assert np.abs(host(theta) - leaf.detach().numpy()).max() < 1e-14


@pytest.mark.parametrize(("ours", "formula"), FORMULAS, ids=called)
def test_ten_steps_are_the_formulas(backend, put, host, rng, ours, formula):
    expected, memory = rng.normal(size=N), {}
    theta = backend.from_host(expected.copy())
    state = ours.start(Weights(backend, theta))
    for step in range(10):
        gradient = rng.normal(size=N)
        ours.update(theta, put(gradient), state, step)
        state.step += 1
        expected = formula(expected, gradient, memory, step + 1)
        assert np.abs(host(theta) - expected).max() < 1e-14


def test_decay_leaves_biases_alone(rng):
    net = bpx.Network([3, 2], seed=0, dtype="float64")
    optimizer = bpx.AdamW(0.1, weight_decay=0.5)
    before = net.weights[0].copy(), net.biases[0].copy()
    optimizer.update(net.parameters, np.zeros(net.layout.size), optimizer.start(net), 0)
    assert np.abs(net.weights[0] - 0.95 * before[0]).max() < 1e-15
    assert np.array_equal(net.biases[0], before[1])


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_numbers_of_numpy_do_not_change_the_precision(number, rng):
    """A float64 rate of NumPy's would make float64 temporaries of float32 arrays."""
    optimizer = bpx.SGD(number(0.5), momentum=number(0.5))
    assert type(optimizer.learning_rate) is type(optimizer.momentum) is float
    schedule = schedules.Cosine(number(0.5), 10)
    net = bpx.Network([2, 1], seed=0)
    state = bpx.SGD(schedule).start(net)
    assert type(bpx.SGD(schedule).rate(state, 3)) is float


SCHEDULES_OF_TORCH = [
    (schedules.Cosine(0.5, 40, 0.1), lambda there, o: there.CosineAnnealingLR(o, 40, 0.1)),
    # PyTorch's peak comes at step pct_start·total_steps − 1, its end at total_steps − 1, and it
    # counts the end from the start.
    (
        schedules.OneCycle(0.5, 40, end=25e4),
        lambda there, o: there.OneCycleLR(o, 0.5, total_steps=41, pct_start=13 / 41),
    ),
    (schedules.StepDecay(0.5, 7, 0.3), lambda there, o: there.StepLR(o, 7, 0.3)),
    (schedules.Exponential(0.5, 10, 0.3), lambda there, o: there.ExponentialLR(o, 0.3**0.1)),
]
SCHEDULES_BY_FORMULA = [
    (schedules.Constant(0.5), lambda step: 0.5),
    (schedules.InverseScaling(0.5, 0.7), lambda step: 0.5 * (step + 1) ** -0.7),
    (
        schedules.WarmUp(8, schedules.StepDecay(0.5, 7, 0.3)),
        lambda step: 0.5 * ((step + 1) / 8 if step < 8 else 0.3 ** ((step - 8) // 7)),
    ),
]


def test_every_schedule_is_here():
    own = {value for value in vars(schedules).values() if isinstance(value, type)}
    own = {cls for cls in own if issubclass(cls, schedules.Schedule)} - {schedules.Schedule}
    found = {type(ours) for ours, _ in [*SCHEDULES_OF_TORCH, *SCHEDULES_BY_FORMULA]}
    missing = {cls.__name__ for cls in own - found}
    assert not missing, "add them to SCHEDULES_BY_FORMULA, or to SCHEDULES_OF_TORCH"


@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES_OF_TORCH, ids=called)
def test_schedules_are_pytorchs(ours, theirs):
    torch = pytest.importorskip("torch", reason="PyTorch's schedules are the oracle")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, rates = theirs(torch.optim.lr_scheduler, optimizer), []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.allclose([ours(step) for step in range(40)], rates, rtol=1e-12)


@pytest.mark.parametrize(("ours", "formula"), SCHEDULES_BY_FORMULA, ids=called)
def test_schedules_are_their_formulas(ours, formula):
    rates = [formula(step) for step in range(40)]
    assert np.allclose([ours(step) for step in range(40)], rates, rtol=1e-12)


@pytest.mark.parametrize("number", [float, np.float64])
def test_schedules_go_beyond_the_largest_float(number):
    for grows in (
        schedules.StepDecay(number(0.1), 1, number(10.0)),
        schedules.Exponential(number(0.1), 1, number(10.0)),
    ):
        with np.errstate(over="raise"):
            assert grows(2) == pytest.approx(10.0)
            assert grows(5000) == np.inf
        assert type(grows)(0.0, 1, 10.0)(5000) == 0.0
    assert schedules.StepDecay(0.1, 1, 0.1)(5000) == 0.0
    assert schedules.InverseScaling(0.1, 100.0)(5000) == 0.0


@pytest.mark.parametrize(("decay", "penalty"), [(0.03, 0.0), (0.0, 0.03)], ids=["torch", "keras"])
def test_l2_is_the_weight_decay_of_others(decay, penalty, rng):
    torch = pytest.importorskip("torch", reason="PyTorch's decay is the oracle")
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    net = bpx.Network([3, 2], output="identity", dtype="float64", seed=1)
    weights, bias = (
        torch.tensor(t.copy(), requires_grad=True) for t in (*net.weights, *net.biases)
    )
    groups = [{"params": [weights], "weight_decay": decay}, {"params": [bias]}]
    theirs = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for rows in [slice(k, k + 4) for k in range(0, 12, 4)] * 2:
        error = torch.tensor(x[rows]) @ weights.T + bias - torch.tensor(y[rows])
        cost = 0.5 * (error**2).sum(1).mean() + penalty * (weights**2).sum()
        theirs.zero_grad()
        cost.backward()
        theirs.step()
    options = {"epochs": 2, "batch_size": 4, "shuffle": False}
    l2 = (decay + 2 * penalty) * len(x)
    net.fit(x, y, optimizer=bpx.SGD(0.1, momentum=0.9), l2=l2, **options)
    for ours, leaf in ((net.weights[0], weights), (net.biases[0], bias)):
        assert np.abs(ours - leaf.detach().numpy()).max() < 1e-14


@pytest.mark.parametrize(
    ("schedule", "epochs", "told"),
    [
        (schedules.OneCycle(0.1, 4), 3, "of 3 epochs, and η stays at 1e-05 after 4 steps"),
        (schedules.WarmUp(1, schedules.Cosine(0.1, 3)), 2, "η stays at 0 after 4 steps"),
        (schedules.OneCycle(0.1, 4), 1, ""),
        (schedules.OneCycle(0.1, 15), 3, ""),
        (schedules.WarmUp(2, schedules.Cosine(0.1, 3)), 2, ""),
        (schedules.WarmUp(2, 0.1), 2, ""),
        (
            schedules.StepDecay(0.1, 1, 0.1),
            2,
            "after the first of 2 epochs η is 1e-06, and was 0.1",
        ),
        (schedules.Exponential(0.1, 1, 0.1), 9, "after the first of 9 epochs η is 1e-06, and was"),
        (schedules.StepDecay(0.1, 1, 0.1), 1, ""),
        (schedules.Exponential(0.1, 1, 0.5), 2, ""),
        (0.1, 2, ""),
    ],
)
def test_a_schedule_of_so_many_epochs_is_told(schedule, epochs, told, rng):
    x, y = rng.normal(size=(10, 2)), rng.integers(2, size=10)  # five steps an epoch
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        bpx.Network([2, 2], seed=0).fit(
            x, y, epochs=epochs, batch_size=2, optimizer=bpx.Adam(schedule)
        )
    assert [each.filename for each in found] == [__file__] * bool(told)
    if told:
        message = str(found[0].message)
        assert "counts steps, and an epoch has 5 of them" in message
        assert told in message
        ends = schedule.constant_from is not None
        assert message.endswith(f"epochs * steps_per_epoch = {5 * epochs}") == ends


def test_every_optimizer_has_a_rate_by_default():
    rates = {name: cls().learning_rate for name, cls in bpx.optimizers.OPTIMIZERS.builtin.items()}
    assert rates == {"sgd": 0.1, "rmsprop": 0.001, "adam": 0.001, "adamw": 0.001}
    assert bpx.AdamW().weight_decay == 0.01
    nets = [bpx.Network([2, 1], seed=0) for _ in range(2)]
    for net, optimizer in zip(nets, (None, "sgd"), strict=True):
        net.fit([[0.0, 1.0]], [1], epochs=1, optimizer=optimizer)
    assert nets[0].optimizer == nets[1].optimizer == bpx.SGD()
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


@pytest.mark.parametrize("optimizer", [bpx.SGD, bpx.Adam])
@pytest.mark.parametrize("schedule", [schedules.StepDecay, schedules.Exponential])
def test_a_rate_that_grows_without_end_diverges(backend, optimizer, schedule):
    net = bpx.Network([2, 2], backend=backend, seed=0)
    rate = schedule(1e-3, 1, 1e200)  # the third one is infinite
    with pytest.raises(bpx.DivergenceError) as caught, np.errstate(all="ignore"):
        net.fit(np.eye(2), [0, 1], epochs=9, optimizer=optimizer(rate))
    assert caught.value.epoch <= 3
    assert np.isfinite(net.backend.to_host(net.parameters)).all()


# --- initializers -------------------------------------------------------------------------------

VARIANCES = {  # of weights (n_out, n_in, k) = (200, 100, 5): fan_in 500, fan_out 1000
    "normal": 1.0,
    "uniform": 0.1**2 / 12,
    "scaled-normal": 1 / 500,
    "lecun-normal": 1 / 500,
    "lecun-uniform": 1 / 500,
    "glorot-normal": 2 / 1500,
    "glorot-uniform": 2 / 1500,
    "he-normal": 2 / 500,
    "he-uniform": 2 / 500,
    "zeros": 0.0,
    "constant": 0.0,
}


def test_every_initializer_is_here():
    assert set(VARIANCES) == set(INITIALIZERS.builtin)


@pytest.mark.parametrize("name", VARIANCES)
def test_mean_variance_and_bounds(rng, name):
    initializer = initializers.Constant(0.7) if name == "constant" else INITIALIZERS.get(name)
    drawn = initializer(rng, (200, 100, 5))
    variance, n = VARIANCES[name], drawn.size
    assert drawn.dtype == np.float64
    assert abs(drawn.mean() - (0.7 if name == "constant" else 0.0)) <= 5 * np.sqrt(variance / n)
    assert abs(drawn.var() - variance) <= 5 * variance * np.sqrt(2 / n) + 1e-30
    if "uniform" in name:
        assert np.abs(drawn).max() <= np.sqrt(3 * variance)
    elif "normal" in name:
        assert np.abs(drawn).max() > 3 * drawn.std()
    again = initializer(np.random.default_rng(1), (3, 2))
    assert np.array_equal(again, initializer(np.random.default_rng(1), (3, 2)))


def test_an_update_that_rebinds_theta_is_warned_of_once():
    @dataclass(frozen=True)
    class Rebinds(bpx.optimizers.Optimizer):
        def update(self, theta, grad, state, step):
            theta = theta - self.rate(state, step) * grad

    x, y = np.ones((4, 3)), [0, 1, 1, 1]
    net = bpx.Network([3, 2], seed=0)
    with pytest.warns(RuntimeWarning, match="update of Rebinds has left all parameters") as found:
        net.fit(x, y, epochs=3, batch_size=2, optimizer=Rebinds(0.1))
    assert [each.filename for each in found] == [__file__]
    net.fit(x, y, epochs=1, optimizer=Rebinds(0.0))  # which would not move them either
    right = bpx.Network([3, 2], output="softmax", weights="zeros", bias="zeros")
    right.fit(np.zeros((2, 3)), np.full((2, 2), 0.5), epochs=1, optimizer=Rebinds(0.1))


@dataclass(frozen=True)
class Fading(bpx.optimizers.Optimizer):
    """It remembers a number, where `place` says."""

    place: str = "attribute"

    def start(self, net):
        state = super().start(net)
        if self.place == "attribute":
            state.fade = 1.0
        else:
            state.slots["fade"] = np.ones(1)
        return state

    def update(self, theta, grad, state, step):
        theta -= self.rate(state, step) * grad


def test_what_an_optimizer_remembers_elsewhere_would_be_lost(tmp_path):
    net, x, y = bpx.Network([2, 3], seed=0), np.eye(2), [0, 2]
    told = r"^the state that start of Fading returns has 'fade' beside its slots, which "
    with pytest.raises(ValueError, match=told):
        net.fit(x, y, epochs=1, optimizer=Fading(0.1))
    net.fit(x, y, epochs=1, optimizer=Fading(0.1, place="slot"))  # nothing keeps it
    told = r"^expected the optimizer's slot 'fade', which a checkpoint .* shape \(\d+,\)"
    with pytest.raises(ValueError, match=told):
        net.fit(x, y, epochs=1, optimizer=Fading(0.1, place="slot"), checkpoint=tmp_path / "run")
