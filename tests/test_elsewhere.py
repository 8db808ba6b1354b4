"""What those write who come from other libraries, and what they are told to write here."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import pickle
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest

import bpx
from bpx import elsewhere, layers, schedules

X, Y = np.zeros((4, 3)), np.array([0, 1, 1, 0])


def net(**options):
    return bpx.Network([3, 4, 2], seed=0, **options)


def fit(*data, **options):
    return net().fit(*data, epochs=1, **options)


KEYWORDS = [
    (lambda: fit(X, Y, lmbda=0.1), "fit takes no lmbda=: here it is l2="),
    (
        lambda: fit(X, Y, weight_decay=0.1),
        "here it is l2=weight_decay * len(x), or optimizer=bpx.AdamW(",
    ),
    (lambda: fit(X, Y, early_stopping=True), "callbacks=bpx.EarlyStopping(10), with validation="),
    (lambda: fit(X, Y, eval_set=[(X, Y)]), "takes no eval_set=: here it is validation=(x, y)"),
    (lambda: layers.Dense(3, l2=0.1), "Dense takes no l2=: it is for training, net.fit(..., l2="),
    (
        lambda: layers.Conv2D(3, 3, l1=0.1),
        "takes no l1=: it is for training, net.fit(..., l1=...)",
    ),
    (lambda: fit(X, Y, max_iter=3), "fit takes no max_iter=: here it is epochs="),
    (lambda: fit(X, Y, steps_per_epoch=3), "an epoch is once through x, or through an iterable"),
    (lambda: fit(X, Y, cost="mse"), "the network has it, bpx.Network(..., cost=...)"),
    (
        lambda: net(device="cuda"),
        'Network takes no device=: here it is backend="cupy", or "numpy"',
    ),
    (lambda: net(hidden_layer_sizes=(5,)), "all sizes are the first argument, such as [20, 100,"),
    (
        lambda: net().accuracy(X, Y, batch_size=2),
        "large inputs are worked through in slices anyway",
    ),
    (lambda: net().predict(X, threshold=0.3), "compare the outputs yourself, net(x) > 0.3"),
    (lambda: net().total_cost(X, Y, verbose=1), "total_cost takes no verbose=: it prints nothing"),
    (
        lambda: bpx.Ensemble([net()]).evaluate(X, Y, batch_size=2),
        "evaluate takes no batch_size=: la",
    ),
    (lambda: bpx.Ensemble([net()]).fit(X, Y, lmbda=2), "fit takes no lmbda=: here it is l2="),
    (
        lambda: bpx.Ensemble([net()]).fit(X, Y, bootstrap=True),
        "fit takes no bootstrap=: give each member rows of your own, for net in ensemble.members",
    ),
    (lambda: bpx.Ensemble([net()]).fit(X, Y, bagging=True), "net.fit(x[k], y[k])"),
    (lambda: bpx.Ensemble([net()]).fit(X, Y, batchsize=2), "did you mean 'batch_size'?"),
    (
        lambda: net(dropout=0.5),
        "no dropout=: it is a layer: [bpx.layers.Input(20), ..., bpx",
    ),
    (lambda: net(l2=0.5), "Network takes no l2=: it is for training, net.fit(..., l2=...)"),
    (
        lambda: fit(X, Y, lr_scheduler=1),
        "optimizer=bpx.SGD(bpx.schedules.Cosine(0.1, 1000))",
    ),
    (lambda: net().evaluate(X, Y, verbose=0), "evaluate takes no verbose=: it prints nothing"),
    (lambda: net().accuracy(X, Y, weights=Y), "did you mean 'sample_weight'?"),
    (lambda: layers.Conv2D(8, 3, strides=2), "Conv2D takes no strides=; did you mean 'stride'?"),
    (lambda: layers.Conv1D(filters=8), "takes no filters=: here they are channels=, the first"),
    (lambda: layers.Conv2D(3, 8, out_channels=3), "here they are channels=, the first argument"),
    (lambda: layers.Conv2D(in_channels=3), "a layer finds the size of its inputs itself"),
    (lambda: layers.Dense(in_features=3), "a layer finds the size of its inputs itself"),
    (lambda: layers.Dense(out_features=3), "here they are units=, the first argument"),
    (lambda: layers.Dense(3, kernel_initializer="he"), 'weights=, such as weights="he-normal"'),
    (
        lambda: layers.Dense(3, bias_initializer="zeros"),
        "takes no bias_initializer=: here it is b",
    ),
    (lambda: layers.Dense(3, kernel_regularizer="l2"), "it is for training, net.fit(..., l2=...)"),
    (lambda: layers.Embedding(9, 4, padding_idx=0), "takes no padding_idx=: there is no masking"),
    (lambda: layers.Embedding(9, 4, mask_zero=True), "keep it zero, run.net.weights[0][0] = 0.0"),
    (lambda: layers.Dropout(p=0.5), "Dropout takes no p=: here it is rate="),
    (lambda: layers.MaxPool2D(kernel_size=2), "takes no kernel_size=; did you mean 'pool_size'?"),
    (lambda: layers.Upsample2D(size=2), "size=: here it is scale=, how many times as large"),
    (
        lambda: layers.Upsample2D(2, interpolation="bilinear"),
        'is repeated, as by "nearest"; a con',
    ),
    (lambda: layers.Upsample2D(scale_factor=2), "takes no scale_factor=: here it is scale="),
    (lambda: layers.Upsample1D(2, mode="linear"), "Upsample1D takes no mode=: each element is re"),
    (lambda: layers.BatchNorm(eps=1e-3), "BatchNorm takes no eps=; did you mean 'epsilon'?"),
    (lambda: layers.Residual([], name="a"), "Residual takes no name=. Known: "),
    (lambda: schedules.OneCycle(max_lr=0.1), "OneCycle takes no max_lr=: the rate is the first"),
    (lambda: schedules.OneCycle(0.1, total_steps=9), "takes no total_steps=: here it is steps="),
    (lambda: schedules.Cosine(0.1, T_max=9), "Cosine takes no T_max=: here it is steps="),
    (
        lambda: schedules.Cosine(0.1, epochs=9),
        "steps=, of which an epoch has ceil(n / batch_size)",
    ),
    (
        lambda: schedules.StepDecay(lr=0.1),
        "StepDecay takes no lr=: the rate is the first argument",
    ),
    (lambda: schedules.StepDecay(learning_rate=0.1), "the rate is the first argument"),
    (lambda: schedules.StepDecay(0.1, epochs=3), "StepDecay takes no epochs="),
    (lambda: schedules.WarmUp(lr=0.1), "WarmUp takes no lr="),
    (lambda: layers.Dense(3, p=0.3), "Dense takes no p="),
    (lambda: layers.Conv2D(out_features=3), "Conv2D takes no out_features="),
    (lambda: layers.BatchNorm(bias_initializer="ones"), "BatchNorm takes no bias_initializer="),
    (lambda: schedules.Cosine(initial_learning_rate=0.1), "the rate is the first argument"),
    (lambda: bpx.SGD(eta=3.0), "SGD takes no eta=: here it is learning_rate=, the first argument"),
    (lambda: bpx.AdamW(eta=3.0), "AdamW takes no eta=: here it is learning_rate=, the first arg"),
    (lambda: bpx.activations.Sigmoid(0.5), "Sigmoid takes no 0.5: σ(z) is .forward(np, z), and"),
    (
        lambda: bpx.EarlyStopping("validation_accuracy", 10),
        'takes no 10: patience comes first, EarlyStopping(10, monitor="validation_accuracy")',
    ),
    (lambda: bpx.EarlyStopping(5, mode="max"), "accuracies are better when larger, costs when"),
    (
        lambda: bpx.Metric("f1", len, mode="max"),
        "Metric takes no mode=: here it is larger_is_b",
    ),
    (lambda: bpx.Checkpoint("a", monitor="f1"), "takes no monitor=: the newest are kept; for the"),
    (
        lambda: fit(X, Y, callbacks=bpx.Checkpoint("a")),
        "or a function, got a Checkpoint: pass it as checkpoint=",
    ),
    (
        lambda: bpx.gradient_check(net(), bpx.batches(X, Y), None),
        "expected x and y as arrays, got a Batches: mini-batches are for fit and evaluate",
    ),
    (
        lambda: schedules.WarmUp(0.1, 10),
        "expected the steps of WarmUp, its first argument, to be an integer, got 0.1",
    ),
    (lambda: bpx.EarlyStopping(5, restore_best_weights=True), "restore_best=, True by default"),
    (lambda: bpx.WeightAveraging(swa_epoch_start=3), "here it is start=, an epoch from 1"),
    (lambda: bpx.WeightAveraging(1, swa_lrs=0.1), "the optimizer has it, as a number or a sched"),
    (lambda: bpx.WeightAveraging(1, decay=0.9), "takes no decay=: the epochs from start= on coun"),
    (lambda: bpx.ReduceOnPlateau(mode="min"), "ReduceOnPlateau takes no mode=: accuracies are"),
    (lambda: bpx.ReduceOnPlateau(min_lr=1e-5), "lowest=, of the first rate: 1/128 by default"),
    (lambda: bpx.Adam(schedules.Cosine), "got the class: pass Cosine(initial, steps)"),
    (lambda: schedules.WarmUp(10, schedules.Cosine), "the class: pass Cosine(initial, steps)"),
    (lambda: bpx.Adam(lambda step: 0.1), "got the function <lambda>: make a subclass of bpx.sch"),
    (
        lambda: bpx.Network(3, 4, 2),
        "Network takes no 4: sizes are one list, bpx.Network([784, 30, 10]), and all else has a",
    ),
    (lambda: bpx.Network([3, 2], "relu"), "takes no 'relu': sizes are one list, bpx.Network([7"),
    (
        lambda: net().fit(X, Y, 10),
        "fit takes no 10: after x and y all arguments have names, as in fit(*train, validation=",
    ),
    (lambda: net().predict(X, Y), "predict takes no array([0, 1, 1, 0]): it takes x alone, and n"),
    (lambda: net().predict(X, training=True), "net.activations(x, training=True)[-1] are the o"),
    (lambda: bpx.Ensemble([net()])(X, Y), "feedforward takes no array([0, 1, 1, 0]): it takes x"),
    (lambda: bpx.Ensemble([net()]).predict(X, Y), "predict takes no array([0, 1, 1, 0]): it tak"),
    (
        lambda: net().predict(bpx.datasets.Split(X, Y)),
        "x is not an array of numbers but x and y together: pass x alone, pair.x",
    ),
    (lambda: net()([X, Y]), "not an array of numbers but x and y together: pass x alone, pair[0]"),
    (lambda: bpx.Ensemble.of(net(), 3), "got int; the number comes first: Ensemble.of(5, net)"),
]


@pytest.mark.parametrize(("write", "told"), KEYWORDS)
def test_arguments(write, told):
    with pytest.raises(TypeError, match=re.escape(told)):
        write()


@pytest.mark.parametrize("name", elsewhere.ATTRIBUTES)
def test_attributes_of_a_network(name):
    told = f"Network has no attribute {name!r}: {elsewhere.ATTRIBUTES[name]}"
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(net(), name)


@pytest.mark.parametrize("name", elsewhere.ATTRIBUTES)
def test_attributes_of_a_network_that_are_set(name):
    """They would have no effect."""
    told = f"Network has no attribute {name!r}: {elsewhere.ATTRIBUTES[name]}"
    with pytest.raises(AttributeError, match=re.escape(told)):
        setattr(net(), name, 3)


@pytest.mark.parametrize(
    ("owner", "elsewhere"),
    [
        (bpx.Ensemble([net()]), elsewhere.ATTRIBUTES_OF_ENSEMBLES),
        (bpx.History(), elsewhere.ATTRIBUTES_OF_HISTORIES),
        (net().backprop(X, Y), elsewhere.ATTRIBUTES_OF_GRADIENTS),
        (bpx.Cost(), elsewhere.ATTRIBUTES_OF_A_COST),
    ],
)
def test_attributes_of_other_objects(owner, elsewhere):
    for name, text in elsewhere.items():
        told = f"{type(owner).__name__} has no attribute {name!r}: {text}"
        with pytest.raises(AttributeError, match=re.escape(told)):
            getattr(owner, name)
        assert name not in dir(owner)


@pytest.mark.parametrize("name", elsewhere.ATTRIBUTES_OF_BPX)
def test_attributes_of_bpx(name, monkeypatch):
    monkeypatch.delattr(bpx, name, raising=False)  # other tests import bpx.sklearn
    told = f"module 'bpx' has no attribute {name!r}: {elsewhere.ATTRIBUTES_OF_BPX[name]}"
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(bpx, name)


def test_recipes_that_messages_name_are_there():
    recipes = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    for heading in ("L-BFGS by SciPy", "Second derivatives"):
        assert f"## {heading}" in recipes


@pytest.mark.parametrize(
    ("module", "elsewhere"),
    [
        (bpx.activations, elsewhere.ATTRIBUTES_OF_ACTIVATIONS),
        (bpx.costs, elsewhere.ATTRIBUTES_OF_COSTS),
        (bpx.datasets, elsewhere.ATTRIBUTES_OF_DATASETS),
    ],
)
def test_attributes_of_activations_costs_and_datasets(module, elsewhere):
    for name, text in elsewhere.items():
        told = f"module {module.__name__!r} has no attribute {name!r}: {text}"
        with pytest.raises(AttributeError, match=re.escape(told)):
            getattr(module, name)


def test_what_is_said_to_those_who_come_from_the_book_works():
    z, one = np.array([-1.0, 0.0, 2.0]), net()
    names = {"np": np, "bpx": bpx, "z": z, "s": bpx.activations.Sigmoid(), "y": Y, "eta": 0.5}
    names |= {"net": one, "x": X, "grad": one.backprop(X, Y), **vars(layers)}

    def value(told):
        code = told.removeprefix("here it is ").removeprefix("here they are ")
        return eval(code.removeprefix("two, ").split(", for s")[0].split(", of the")[0], names)

    sigmoid = value(elsewhere.ATTRIBUTES_OF_BPX["sigmoid"])
    assert np.allclose(sigmoid, 1 / (1 + np.exp(-z)))
    slope = value(elsewhere.ATTRIBUTES_OF_ACTIVATIONS["sigmoid_prime"])
    assert np.allclose(slope, sigmoid * (1 - sigmoid))
    assert [z.shape for z in value(elsewhere.ATTRIBUTES["zs"])] == [(4, 4), (4, 2)]
    assert value(elsewhere.ATTRIBUTES["delta"]).shape == (4, 4)
    assert len(value(elsewhere.ATTRIBUTES_OF_GRADIENTS["nabla_w"])) == 2
    assert len(value(elsewhere.ATTRIBUTES_OF_LAYERS["ConvPoolLayer"])) == 2
    value(elsewhere.ATTRIBUTES["update_mini_batch"])
    assert (one.epochs, one.optimizer) == (1, bpx.SGD(0.5))


@pytest.mark.parametrize(
    "use",
    [
        lambda grad: -0.1 * grad,
        lambda grad: np.float32(0.1) * grad,
        lambda grad: grad * 2,
        lambda grad: grad / 4,
        lambda grad: -grad,
        lambda grad: grad + grad,
        lambda grad: net().parameters - grad,
        lambda grad: np.ones(64) * grad,
        lambda grad: operator.isub(net().parameters, grad),
    ],
)
def test_a_gradient_is_no_array(use):
    told = "a Gradient is no array: grad.flat is one, as in net.parameters -= 0.1 * grad.flat"
    with pytest.raises(TypeError, match=re.escape(told)):
        use(net().backprop(X, Y))


def test_a_gradient_is_not_unpacked():
    told = "is not unpacked: nabla_b is grad.biases, and nabla_w is grad.weights"
    with pytest.raises(TypeError, match=told):
        nabla_b, nabla_w = net().backprop(X, Y)  # noqa: RUF059
    with pytest.raises(TypeError, match="expected θ to be an array of numbers, got <Gradient of"):
        net().parameters = net().backprop(X, Y)
    twin = pickle.loads(pickle.dumps(net().backprop(X, Y)))
    assert np.array_equal(twin.flat, net().backprop(X, Y).flat)


@pytest.mark.parametrize("name", elsewhere.ATTRIBUTES_OF_LAYERS)
def test_attributes_of_layers(name):
    assert not hasattr(layers, name), f"it is there: delete {name!r} from ATTRIBUTES_OF_LAYERS"
    told = f"'bpx.layers' has no attribute {name!r}: {elsewhere.ATTRIBUTES_OF_LAYERS[name]}"
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(layers, name)


def test_what_is_known_of_layers_are_layers():
    with pytest.raises(AttributeError) as told:
        layers.Frobnicate  # noqa: B018
    known = str(told.value).partition("Known: ")[2].split(", ")
    assert {"Conv2D", "Dense", "Input", "Layer"} <= {*known} < {*layers.__all__}
    assert all(issubclass(getattr(layers, name), layers.Layer | layers.Input) for name in known)


def test_what_is_said_of_layers_that_are_not_there_works(rng):
    x = rng.normal(size=(5, 4, 6, 7))
    whole = bpx.Network([layers.Input((4, 6, 7)), layers.MaxPool2D((6, 7)), layers.Flatten()])
    assert np.array_equal(whole(x), x.max(axis=(2, 3)).astype(np.float32))
    by_channel = layers.Conv2D(4, 3, groups=4).bind((4, 6, 7))
    assert by_channel.parameters()["weights"].shape == (4, 1, 3, 3)
    chain = [layers.Input(3), layers.Embedding(5, 2), layers.Flatten(), layers.Dense(2, "softmax")]
    words = bpx.Network(chain, seed=0)

    class KeepZero(bpx.Callback):
        def on_step_end(self, run):
            run.net.weights[0][0] = 0.0

    before = words.weights[0].copy()
    words.fit([[0, 0, 1], [2, 0, 4]] * 5, [0, 1] * 5, epochs=2, callbacks=KeepZero())
    moved = (words.weights[0] != before).any(axis=1)
    assert not words.weights[0][0].any()
    assert moved.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (lambda: bpx.Network.load, "Network has no attribute 'load': here it is bpx.load(path)"),
        (lambda: bpx.Netwrk, "module 'bpx' has no attribute 'Netwrk'; did you mean 'Network'?"),
        (lambda: bpx.Dense, "module 'bpx' has no attribute 'Dense': it is bpx.layers.Dense"),
        (lambda: bpx.Input, "module 'bpx' has no attribute 'Input': it is bpx.layers.Input"),
        (lambda: layers.Conv2d, "'bpx.layers' has no attribute 'Conv2d'; did you mean 'Conv2D'?"),
        (lambda: layers.UpSampling2D, "no attribute 'UpSampling2D'; did you mean 'Upsample2D'?"),
        (lambda: bpx.activations.softplus, "no attribute 'softplus'; did you mean 'Softplus'? Kn"),
        (lambda: bpx.activations.mish, "Known: Activation, "),
        (
            lambda: bpx.datasets.iris,
            "Known: Dataset, DatasetError, Split, digits, mnist",
        ),
        (lambda: layers.BatchNormalization, "did you mean 'BatchNorm'?"),
        (lambda: bpx.Cosine, "no attribute 'Cosine': it is bpx.schedules.Cosine"),
        (lambda: bpx.CrossEntropy, "no attribute 'CrossEntropy': it is bpx.costs.CrossEntropy"),
        (lambda: bpx.CrossEntropyCost, 'here it is bpx.Network(..., cost="cross-entropy"), the d'),
        (lambda: bpx.costs.QuadraticLoss, "'bpx.costs' has no attribute 'QuadraticLoss'; did you"),
        (lambda: net().cost.fn, "has no attribute 'fn': here it is net.cost.value(np, a, y), of"),
        (lambda: bpx.FullyConnectedLayer, "'bpx' has no attribute 'FullyConnectedLayer': here it"),
        (lambda: bpx.ConvPoolLayer, 'here they are two, Conv2D(20, 5, "relu"), MaxPool2D(2)'),
        (lambda: bpx.SoftmaxLayer, "'bpx' has no attribute 'SoftmaxLayer': here it is Dense(10"),
        (lambda: bpx.load_data_shared, "here it is train, validation, test = bpx.datasets.mnist"),
        (lambda: bpx.QuadraticCost, 'here it is bpx.Network(..., cost="quadratic")'),
        (lambda: bpx.MSE, 'here it is bpx.Network(..., cost="quadratic")'),
        (lambda: bpx.Progress, "here it is fit(..., progress=True), or bpx.callbacks.Progress"),
        (lambda: bpx.load_model, "here it is bpx.load(path)"),
        (lambda: bpx.train, "here it is net.fit(x, y)"),
    ],
)
def test_names_that_are_nearly_right(look, told):
    with pytest.raises(AttributeError, match=re.escape(told)):
        look()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("early_stopping_n", 'bpx.EarlyStopping(10, monitor="validation_accuracy"), with valid'),
        ("monitor_evaluation_accuracy", 'it always is, history["validation_accuracy"] of what'),
        (
            "monitor_evaluation_cost",
            'it always is, history["validation_cost"] of what fit returns',
        ),
        ("monitor_training_accuracy", 'it always is, history["training_accuracy"] of what fit'),
        ("monitor_training_cost", 'it always is, history["training_cost"] of what fit returns'),
        ("evaluation_data", "here it is validation=(x, y)"),
        ("test_data", "here it is validation=(x, y)"),
        ("gradient_clip", "here it is clip_norm=, or clip_value= for each element"),
        ("n_jobs", 'it uses the cores by itself; among processes it is parallel="mpi"'),
        ("save_best_only", "here it is callbacks=bpx.EarlyStopping(10)"),
        ("dropout", "it is a layer: [bpx.layers.Input(20)"),
    ],
)
def test_arguments_of_fit_by_other_names(name, told):
    with pytest.raises(
        TypeError, match=re.escape(f"fit takes no {name}=: ") + f".*{re.escape(told)}"
    ):
        net().fit(X, Y, **{name: 1})


def test_the_history_has_what_the_book_monitors():
    history = net().fit(X, Y, epochs=1, validation=(X, Y))
    for name, told in elsewhere.OF_FIT.items():
        if name.startswith("monitor_"):
            assert (
                len(eval(told.partition(", ")[2].partition(" of ")[0], {"history": history})) == 1
            )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hidden_activation", 'here it is hidden="relu"'),
        ("output_activation", 'here it is output="softmax"'),
        ("batch_norm", "it is a layer: [bpx.layers.Input(20), ..., bpx.layers.BatchNorm(), ...]"),
        ("initializer", 'here it is weights="he-normal"'),
    ],
)
def test_arguments_of_networks_by_other_names(name, told):
    with pytest.raises(TypeError, match=re.escape(f"Network takes no {name}=: {told}")):
        bpx.Network([3, 2], **{name: 1})


def test_processes_of_an_ensemble_by_another_name():
    with pytest.raises(TypeError, match="fit takes no n_jobs=: here it is processes="):
        bpx.Ensemble([net()]).fit(X, Y, n_jobs=2)


@pytest.mark.parametrize("name", [*inspect.signature(bpx.Network.fit).parameters][3:])
def test_arguments_of_fit_that_are_set(name):
    for owner in (net(), bpx.Ensemble([net()])):
        if name == "optimizer" and isinstance(owner, bpx.Network):
            owner.optimizer = "adam"
            continue
        with pytest.raises(AttributeError, match=rf"fit\(\.\.\., |net\.{name} counts|no setter"):
            setattr(owner, name, 3)


@pytest.mark.parametrize("name", inspect.signature(bpx.Network).parameters)
def test_arguments_of_the_constructor_that_are_set(name):
    with pytest.raises((AttributeError, TypeError), match=rf"{name}|expected 2 arrays"):
        setattr(net(), name, 3)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("optimzer", "optimizer"), ("Optimizer", "optimizer"), ("weigths", "weights"),
     ("column", "columns")],
)  # fmt: skip
def test_attributes_that_are_nearly_right(name, meant):
    one = net()
    setattr(one, name, 3)
    told = f"no attribute {name!r}, which you have set; did you mean {meant!r}? If it is your own"
    with pytest.raises(AttributeError, match=re.escape(told)):
        one.fit(X, Y, epochs=1)
    assert one.steps == 0
    delattr(one, name)
    one.fit(X, Y, epochs=1)


def test_counters_are_not_set():
    one = net()
    one.fit(X, Y, epochs=2)
    for name, told in (("epochs", "net.fit(..., epochs=...) trains"), ("steps", "step=...)")):
        with pytest.raises(AttributeError, match=rf"net\.{name} counts .*{re.escape(told)}"):
            setattr(one, name, 100)
    assert (one.epochs, one.steps) == (2, 2)
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), bpx.load(one.to_bytes())):
        assert (twin.epochs, twin.steps) == (2, 2)


def test_attributes_of_a_users_own():
    class Mine(bpx.Network):
        l2 = 3.0

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.momentum, self.optimzer = 0.9, 5

    one, mine = net(), Mine([3, 4, 2], seed=0)
    one.tag, one.weights_before, one.names_, one.step = 1, one.weights[0].copy(), 2, 3
    mine.l2, mine.n = 4.0, 7
    for each in (one, mine):
        each.fit(X, Y, epochs=1)
        twin = copy.copy(each)
        assert vars(twin).keys() == vars(each).keys()
    assert (one.tag, mine.l2, mine.n, mine.momentum, mine.optimzer) == (1, 4.0, 7, 0.9, 5)
    with pytest.raises(AttributeError, match=r"Network has no attribute 'lr': the optimizer has"):
        mine.lr  # noqa: B018


def test_arguments_of_an_ensemble_that_are_known():
    with pytest.raises(TypeError) as told:
        bpx.Ensemble([net()]).fit(X, Y, frobnicate=True)
    known = str(told.value).partition("Known: ")[2].split(", ")
    assert "self" not in known
    assert {"x", "epochs", "processes", "devices"} <= {*known}


def test_what_is_said_of_bagging_works():
    advice = elsewhere.OF_FIT_OF_ENSEMBLES["bootstrap"].partition("your own, ")[2]
    ensemble = bpx.Ensemble([net(), net()])
    exec(advice, {"ensemble": ensemble, "x": X, "y": Y})
    assert [member.epochs for member in ensemble.members] == [30, 30]


@pytest.mark.parametrize(("mode", "what"), [("r", "a read-only memory map"), ("c", "a memory ma")])
def test_a_network_in_a_memory_map_is_trained_when_it_is_copied(tmp_path, mode, what):
    joblib = pytest.importorskip("joblib", reason="it maps what it has pickled")
    one = net()
    if type(one.backend) is bpx.backends.Backend:
        pytest.skip("the standard backend has θ in the memory map too, where NumPy finds it first")
    one.fit(X, Y, epochs=1, optimizer="adam")
    joblib.dump(one, tmp_path / "n.joblib")
    mapped = joblib.load(tmp_path / "n.joblib", mmap_mode=mode)
    told = rf"slots\['mean'\] is {what}.*mmap_mode=None, or train a copy\.deepcopy\(net\)"
    with pytest.raises(ValueError, match=told):
        mapped.fit(X, Y, epochs=1)
    twins = copy.deepcopy(mapped), joblib.load(tmp_path / "n.joblib", mmap_mode=None)
    for each in (one, *twins):
        each.fit(X, Y, epochs=1)
        assert np.array_equal(each.parameters, one.parameters)


def test_a_network_has_no_names_that_it_does_not_have():
    one = net()
    assert not hasattr(one, "compile")
    told = pydoc.render_doc(bpx.Network, renderer=pydoc.plaintext)
    assert "Not there: cost= is bpx.Network's, and optimizer= is fit's." in told
    assert "compile" not in dir(one)
    assert {"fit", "chain", "history"} <= set(dir(one))
    for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert np.array_equal(twin.parameters, one.parameters)


def test_a_shell_lists_what_is_public():
    assert set(dir(bpx)) - {"sklearn"} == {*bpx.__all__, "__version__"}


def test_a_network_of_which_nothing_is_trained():
    frozen = bpx.Network([layers.Input(3), layers.Dense(2, "softmax", trainable=False)], seed=0)
    before = frozen.parameters.copy()
    with pytest.warns(RuntimeWarning, match="no parameter of this network is trained, so fit wil"):
        frozen.fit(X, Y, epochs=1)
    assert np.array_equal(frozen.parameters, before)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (net().layers[0], "trainable"),
        (layers.Upsample2D(2), "scale"),
        (bpx.SGD(0.1), "learning_rate"),
        (schedules.Cosine(0.1, 9), "steps"),
        (bpx.Checkpoint("a"), "keep"),
    ],
)
def test_what_never_changes_says_what_to_do(thing, name):
    told = (
        f"cannot set {name}, since objects of {type(thing).__name__} never change: make another "
        f"one, dataclasses.replace(it, {name}=...), and put it in its place"
    )
    before = getattr(thing, name)
    with pytest.raises(dataclasses.FrozenInstanceError, match=re.escape(told)):
        setattr(thing, name, 3)
    assert getattr(thing, name) == before


def test_a_subclass_of_a_network_has_attributes_of_its_own():
    own = type("Own", (bpx.Network,), {})([3, 2])
    own.lr = 0.1
    assert own.lr == 0.1
    del own.lr
    with pytest.raises(AttributeError, match="Network has no attribute 'lr'"):
        del own.lr


def test_a_plain_subclass_has_attributes_of_its_own():
    class Scaled(bpx.Activation):
        def __init__(self, factor):
            self.factor = factor

        def forward(self, xp, z):
            return self.factor * z

    class Noted(layers.Dense):
        def validate(self):
            super().validate()
            self.noted = self.units

    assert Scaled(2.0).factor == 2.0
    noted = Noted(3)
    assert noted.noted == 3
    with pytest.raises(dataclasses.FrozenInstanceError, match="objects of Noted never change"):
        noted.units = 4


def test_a_run_has_no_optimizer():
    with pytest.raises(AttributeError, match=r"it is run\.net\.optimizer, and run\.opt"):
        fit(X, Y, callbacks=lambda run: run.optimizer)


def test_a_metric_of_another_kind_is_named():
    class Score:
        def __call__(self, *args):
            return self.score(*args)

        def score(self, y_true, y_pred):
            return 0.0

    with pytest.raises(TypeError, match="y_pred") as error:
        fit(X, Y, callbacks=bpx.Metric("f1", Score()))
    assert error.value.__notes__ == [
        "in the metric 'f1', whose function takes the network: "
        "lambda net: f1_score(y, net.predict(x))"
    ]


def test_whether_a_larger_metric_is_better_is_not_guessed(tmp_path):
    metric = bpx.Metric("f1", lambda net: 0.5)
    told = re.escape(
        "it is not known whether a larger 'f1' is better: say so, bpx.Metric('f1', ..., "
        "larger_is_better=True), or False"
    )
    one = net()
    for watching in (bpx.EarlyStopping(monitor="f1"), bpx.ReduceOnPlateau(monitor="f1")):
        with pytest.raises(ValueError, match=told):
            one.fit(X, Y, epochs=1, callbacks=[metric, watching])
    assert one.steps == 0
    history = one.fit(X, Y, epochs=1, callbacks=metric, checkpoint=tmp_path)
    assert history["f1"] == [0.5]
    (*_, last) = sorted(tmp_path.iterdir())
    for known in (history, bpx.load(last).history):
        with pytest.raises(ValueError, match=told):
            known.best("f1")
    for larger, best in ((False, 0.25), (True, 0.5), (None, None)):  # it may be said later
        said = bpx.Metric("f1", lambda net: 0.25, larger_is_better=larger)
        more = {"epochs": net().epochs + 3 + (larger is not False), "callbacks": said}
        resumed = net().fit(X, Y, checkpoint=tmp_path, resume=True, **more)
        if best is None:
            with pytest.raises(ValueError, match=told):
                resumed.best("f1")
        else:
            assert resumed.best("f1") == best
    smaller = bpx.Metric("f2", lambda net: 0.5, larger_is_better=False)
    assert fit(X, Y, callbacks=[smaller, bpx.EarlyStopping(monitor="f2")]).best("f2") == 0.5


def test_a_schedule_that_has_ended_is_told():
    rate = bpx.schedules.Cosine(0.1, 4)
    net = bpx.Network([2, 1], seed=0)
    net.fit(X[:, :2], Y, epochs=4, batch_size=len(X), optimizer=bpx.SGD(rate))
    with pytest.warns(RuntimeWarning, match=r"Cosine\(.* has ended in an earlier fit, .* at 0: "):
        net.fit(X[:, :2], Y, epochs=1, batch_size=len(X))
    net.optimizer = None
    again = net.fit(X[:, :2], Y, epochs=1, batch_size=len(X), optimizer=bpx.SGD(rate))
    assert again["learning_rate"] == [0.1]


def test_a_mini_batch_of_one_row_and_one_number():
    x = np.arange(5.0)[:, None] / 5.0
    nets = [bpx.Network([1, 3, 1], output="identity", seed=0, dtype="float64") for _ in range(2)]
    expected = nets[0].fit(x, x, batch_size=2, epochs=2, shuffle=False)
    history = nets[1].fit(bpx.batches(x, x, 2, shuffle=False), epochs=2)
    assert history["training_cost"] == pytest.approx(expected["training_cost"], rel=1e-12)


def test_samples_in_pairs():
    """As in the book's network.py."""
    for x in (X, X[:, :, None]):
        with pytest.raises(ValueError, match=r"got single samples: pass arrays, x = np.array\(\["):
            fit(list(zip(x, Y, strict=True)))


@pytest.mark.parametrize(
    ("monitor", "column"),
    [
        ("val_loss", "validation_cost"),
        ("val_acc", "validation_accuracy"),
        ("val_accuracy", "validation_accuracy"),
        ("validation_accuracy", "validation_accuracy"),
    ],
)
def test_a_column_of_validation_that_is_not_there(monitor, column):
    told = (
        rf": for {column} pass validation=\(x, y\), or to an estimator's fit X_val= and y_val=, "
    )
    with pytest.raises(ValueError, match=told):
        fit(X, Y, callbacks=bpx.EarlyStopping(monitor=monitor))


def test_validation_data_as_evaluate_takes_them():
    one, triple = net(), (X, Y, np.ones(4))
    history = one.fit(X, Y, epochs=1, validation=triple)
    assert (
        one.evaluate(*triple)["cost"] == history["validation_cost"][0] == one.total_cost(*triple)
    )
    ensemble = bpx.Ensemble([one, net()])
    assert ensemble.evaluate(*triple) == ensemble.evaluate(X, Y)
    assert one.accuracy(*triple) == ensemble.members[0].accuracy(X, Y)
    assert ensemble.accuracy(*triple) == ensemble.accuracy(X, Y)


def test_a_schedule_of_ones_own_without_a_repr():
    class Odd(schedules.Schedule):
        def __call__(self, step):
            return -1.0

    with pytest.raises(ValueError, match=r"expected Odd\(0\), a learning rate, to be a number"):
        fit(X, Y, optimizer=bpx.SGD(Odd()))


# --- numbers that float32 does not hold ----------------------------------------------------------

LARGE = np.full((4, 3), 1.0)
LARGE[2, 1] = -1e300


@pytest.mark.parametrize(
    "use",
    [
        lambda one: one(LARGE),
        lambda one: one.predict(LARGE),
        lambda one: one.evaluate(LARGE, Y),
        lambda one: one.fit(LARGE, Y),
        lambda one: one.fit(X, Y, validation=(LARGE, Y)),
        lambda one: bpx.Ensemble([one, net()]).predict(LARGE),
        lambda one: one(np.asfortranarray(LARGE)),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_x_that_float32_does_not_hold(use):
    told = 'x has numbers that float32 does not hold, first in row 2, column 1: scale .*"float64"'
    one = net()
    before = one.parameters.copy()
    with pytest.raises(ValueError, match=told):
        use(one)
    assert np.array_equal(one.parameters, before)


@pytest.mark.parametrize("budget", ["1 GB", "12 kB"])
def test_x_on_disk_that_float32_does_not_hold(tmp_path, budget):
    np.save(tmp_path / "x.npy", np.concatenate([X, LARGE, *[X] * 70]))
    data = bpx.open_data(tmp_path / "x.npy", np.tile(Y, 72), budget=budget)
    uses = lambda one: one(data), lambda one: one.evaluate(data), lambda one: one.fit(data)
    for use in (*uses, lambda one: bpx.Ensemble([one, net()]).predict(data)):
        with pytest.raises(
            ValueError, match=r"that float32 does not hold, first in row 6, column 1"
        ):
            use(net())
    assert np.isfinite(net(dtype="float64")(data)).all()


@pytest.mark.parametrize("scaled", [False, True])
def test_y_that_float32_does_not_hold(scaled):
    """Whatever becomes of x."""
    chain = [layers.Input(3), *[layers.Rescale(0.5)] * scaled, layers.Dense(1, "identity")]
    one = bpx.Network(chain)
    with pytest.raises(
        ValueError, match="y has numbers that float32 does not hold, first in row 1"
    ):
        one.fit(X, np.array([0.0, 1e39, 0.0, 0.0]))


def test_what_holds_them():
    most = np.full((4, 3), np.finfo(np.float32).max, np.float64)
    scaled = [layers.Input(3), layers.Rescale(1e-300), layers.Dense(2, "softmax")]
    for one, x in (
        (net(dtype="float64"), LARGE),
        (bpx.Network(scaled, seed=0), LARGE),
        (bpx.Network([3, 2], weights="zeros"), most),
    ):
        assert np.isfinite(one(x)).all()
        assert np.isfinite(one.evaluate(x, Y)["cost"])
    many = np.ones((2000, 300))
    many[1999, 299] = 1e39
    with pytest.raises(ValueError, match="first in row 1999, column 299"):
        bpx.Network([300, 2]).evaluate(many, np.zeros(2000, int))
