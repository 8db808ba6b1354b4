"""Each thing a user gets wrong, and the message that says how to mend it."""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import messages
import numpy as np
import pytest

import bpx
from bpx import layers
from bpx.data.values import check_finite_rows
from bpx.registry import nearest

X, Y = np.zeros((4, 3)), np.array([0, 1, 1, 0])


def net(**options):
    return bpx.Network([3, 4, 2], seed=0, **options)


def images():
    return bpx.Network([layers.Input((3, 5, 4)), layers.Flatten(), layers.Dense(2)])


def fit(*data, **options):
    return net().fit(*data, epochs=1, **options)


def classed(names):
    found = net()
    found.classes = names
    return found


def regression(y):
    return bpx.Network([3, 1], output="identity", cost="quadratic").fit(X, y, epochs=1)


def positive(y, **options):
    return bpx.Network([3, 2], task="regression", **options).fit(X, y, epochs=1)


def fit_own(**parts):
    """With targets that any cost and outputs take."""
    return bpx.Network([3, 4, 2], seed=0, task="regression", **parts).fit(X, np.zeros((4, 2)))


def generated():
    yield X, Y


class Uphill(bpx.schedules.Schedule):
    def __call__(self, step):
        return -0.1

    def __repr__(self):
        return "Uphill()"


class AsText(bpx.schedules.Schedule):
    def __call__(self, step):
        return "0.1"


class Elsewhere(bpx.optimizers.Optimizer):
    def update(self, theta, grad, state, step):
        return theta - 0.1 * grad


class OfKeras:
    def on_epoch_end(self, epoch, logs):
        raise AssertionError("never called")


def tanh(xp, z):
    return xp.tanh(z)


class OfShares(bpx.costs.Cost):
    outputs = ("simplex",)


def activation(function=tanh, slope=lambda xp, z, a: 1 - a * a):
    return bpx.CustomActivation(function, slope)


class Outwards(bpx.activations.Tanh):
    name = "outwards"

    def backward(self, xp, delta, z, a):
        return 3.0


def squares(xp, a, y):
    return xp.sum((a - y) ** 2, axis=1)


@dataclass(frozen=True)
class Filled(bpx.initializers.Initializer):
    values: Callable[[tuple[int, ...]], Any]

    def __call__(self, generator, shape):
        return self.values(shape)


def fit_with(forward, backward=None, **members):
    """With a layer that does that between two dense ones."""

    class Own(layers.Layer):
        def forward(self, x, p, ctx):
            return forward(x)

        def backward(self, delta, saved, p, out, ctx):
            return backward(delta)

    for name, value in members.items():
        setattr(Own, name, value)
    chain = layers.Input(3), layers.Dense(4, "tanh"), Own(), layers.Dense(2, "softmax")
    return bpx.Network(chain, seed=0).fit(X, Y, epochs=1)


COSINE = bpx.schedules.Cosine(0.1, 100)
NAN = np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

CASES = [
    # shapes and dtypes of x
    (
        lambda: fit(np.zeros(3), Y),
        ValueError,
        "expected x of shape (m, 3), got (3,): pass one sample as",
    ),
    (lambda: fit(np.zeros((4, 5)), Y), ValueError, "expected x of shape (m, 3), got (4, 5)"),
    (
        lambda: images().predict(np.zeros((5, 4, 3))),
        ValueError,
        "of shape (m, 3, 5, 4), got (5, 4, 3); channels come first, and one sample is a batch of "
        "one: np.moveaxis(np.asarray(x), -1, 0)[None]",
    ),
    (
        lambda: fit(Y, X),
        ValueError,
        "expected x of shape (m, 3), got (4,), and y is of shape (4, 3): are they swapped? x "
        "comes first, then y",
    ),
    (lambda: net().evaluate(np.eye(2)[Y], X), ValueError, "got (4, 2), and y is of shape (4, 3)"),
    (lambda: fit(X, Y, validation=(Y, X)), ValueError, "and validation y is of shape (4, 3): are"),
    (lambda: fit(np.zeros((4, 1, 3)), Y), ValueError, "np.asarray(x).reshape(-1, 3)"),
    (lambda: fit(np.zeros((0, 3)), Y[:0]), ValueError, "expected at least one sample"),
    (lambda: fit(X.astype(complex), Y), TypeError, "must be real numbers"),
    (
        lambda: fit("data.csv", Y),
        TypeError,
        "expected x to be an array of numbers, got 'data.csv': bpx.open_data reads it",
    ),
    (
        lambda: fit(X, Y, sample_weight="balanced"),
        TypeError,
        "expected sample_weight as an array, a weight for each sample, got 'balanced': "
        "np.array([1.0, 5.0])[y] are those of classes",
    ),
    (
        lambda: net().total_cost(X, Y, 5.0),
        TypeError,
        "a weight for each sample, got 5.0: a penalty is l2=5.0, of fit and total_cost",
    ),
    (
        lambda: net().total_cost((X, Y), 5.0),
        TypeError,
        "expected y as an array, got 5.0; a penalty is l2=: net.total_cost(*pair, l2=5.0)",
    ),
    (
        lambda: net().total_cost([*zip(X, Y, strict=True)], 5.0),
        TypeError,
        "expected y as an array, got 5.0; a penalty is l2=: net.total_cost(x, y, l2=5.0)",
    ),
    (lambda: fit(X, Y, sample_weight={0: 1.0}), TypeError, "for each sample, got {0: 1.0}: np."),
    (lambda: fit(X.astype(str), Y), TypeError, "must be real numbers"),
    (
        lambda: bpx.Network([1, 2]).fit(np.zeros(4), Y),
        ValueError,
        "expected x of shape (m, 1), got (4,): np.asarray(x).reshape(-1, 1)",
    ),
    (lambda: net().predict(iter([X])), TypeError, "predict takes one x at a time: [net.predict"),
    (lambda: fit(bpx.batches(X, Y), Y), TypeError, "mini-batches are for fit and evaluate, with"),
    (
        lambda: net().predict(net()),
        TypeError,
        "expected x to be an array of numbers, got <Network",
    ),
    (
        lambda: bpx.Network([3, 4], output="identity").fit(X, np.zeros((4, 1, 2, 2))),
        ValueError,
        "expected y of shape (m, 4), got (4, 1, 2, 2): np.asarray(y).reshape(-1, 4), as",
    ),
    (
        lambda: fit(X, Y, sample_weight=np.ones((4, 1))),
        ValueError,
        "expected sample_weight of shape (4,), got (4, 1): np.asarray(sample_weight).reshape(-1)",
    ),
    (lambda: fit([[1, 2], [3]], Y), TypeError, "x is not an array of numbers"),
    (
        lambda: fit((X, Y), (X[:2], Y[:2])),
        TypeError,
        "fit takes x, then y, and got a pair of arrays for each: fit(*train, validation=valid",
    ),
    (lambda: fit((X, X), (X, X)), TypeError, "a pair of arrays for each"),
    (lambda: fit((X, Y), Y), TypeError, "but x and y together: pass x alone, pair[0]"),
    (
        lambda: fit(np.array([*[[[1, 2, 3]]] * 4, None], dtype=object)[:4], Y),
        TypeError,
        "(floats, integers or booleans), got dtype object with [[1, 2, 3]] at [0]",
    ),
    (
        lambda: fit(np.array([[1.0, True, "u"]] * 4, dtype=object), Y),
        TypeError,
        "(floats, integers or booleans), got dtype object with 'u' at [0, 2]",
    ),
    (
        lambda: fit(X, np.array([0, 1, None, 0])),
        TypeError,
        "got dtype object with None at [2]: fill in what is missing, or leave those rows out",
    ),
    (lambda: fit([[10**400, 1, 2]], Y[:1]), TypeError, "integers or booleans), got dtype object"),
    (
        lambda: fit(np.zeros(4, [("a", float), ("b", float)]), Y),
        TypeError,
        "('b', '<f8')]; numpy.lib.recfunctions.structured_to_unstructured(x) is one of numbers",
    ),
    (
        lambda: fit({"a": [1, 2, 3, 4]}, Y),
        TypeError,
        "got {'a': [1, 2, 3, 4]}: pandas.DataFrame(x) has a column for each key",
    ),
    (lambda: fit(NAN, Y), ValueError, "x has NaN or infinity, first in row 1"),
    (lambda: fit(np.full((4, 3), np.inf), Y), ValueError, "x has NaN or infinity"),
    (
        lambda: net().feedforward(NAN),
        ValueError,
        "x has NaN or infinity, first in row 1, column 1: fill in what is missing, or leave those",
    ),
    # y
    (lambda: net().evaluate(X), ValueError, "y is missing: pass arrays as x and y, or a pair"),
    (lambda: net().evaluate((X, Y)), ValueError, "a pair of them as *pair; only open_data(x, y)"),
    (lambda: net().accuracy(X), ValueError, "y is missing"),
    (lambda: net().total_cost(X), ValueError, "y is missing"),
    (lambda: bpx.Ensemble([net()]).accuracy(X), ValueError, "y is missing"),
    (lambda: bpx.gradient_check(net(), X, None), ValueError, "y is missing"),
    (lambda: fit(X, Y, validation=(X, None)), ValueError, "validation y is missing: pass arrays"),
    (lambda: fit([(X, None)]), ValueError, "mini-batch 1 of epoch 1: y is missing: pass arrays"),
    (lambda: fit(X, Y[:3]), ValueError, "expected as many rows in y as in x, 4, got 3"),
    (
        lambda: fit(X, Y + 1),
        ValueError,
        "for a network with 2 outputs, got 2 in row 1: number the classes from 0, and give",
    ),
    (lambda: fit(X, Y - 1), ValueError, "got -1 in row 0"),
    (
        lambda: fit(X, np.array([0, 1, 2**64 - 1, 0], np.uint64)),
        ValueError,
        "got 18446744073709551615 in row 2: number the classes from 0",
    ),
    (
        lambda: fit(X, Y + 0.5),
        TypeError,
        "expected integer labels in y of shape (m,), got float64: np.asarray(y, dtype=int) if "
        'they are classes, targets of shape (m, 2), or for a regression a network with output="id',
    ),
    (
        lambda: fit(X, [0, 1, np.nan, 0]),
        ValueError,
        "y has NaN or infinity, first in row 2: fill in",
    ),
    (lambda: fit(X, np.zeros((4, 3))), ValueError, "expected y of shape (m, 2) or labels (m,)"),
    (lambda: fit(X, np.full((4, 2), np.nan)), ValueError, "y has NaN or infinity, first in row 0"),
    (
        lambda: fit(X, np.full((4, 2), 2.0)),
        ValueError,
        "y between 0 and 1 for this cost and these",
    ),
    (
        lambda: bpx.Network([3, 2], cost="quadratic").fit(X, np.full((4, 2), 7.5)),
        ValueError,
        'got 7.5: real targets need output="identity" and the quadratic cost',
    ),
    (lambda: regression(np.zeros((4, 2))), ValueError, "expected y of shape (m, 1) or (m,)"),
    (lambda: regression(np.full(4, np.inf)), ValueError, "y has NaN"),
    (
        lambda: positive(-np.ones((4, 2)), output="exp", cost="poisson"),
        ValueError,
        "expected y >= 0 for this cost and these outputs, got -1",
    ),
    (lambda: positive(np.ones((4, 2)), output="softmax"), ValueError, "rows of y that sum to 1"),
    (lambda: fit(X, Y, validation=(X, Y[:2])), ValueError, "rows in validation y"),
    (lambda: fit(X, Y, validation=X), TypeError, "expected validation=(x, y)"),
    (
        lambda: fit(X, Y, validation=0.1),
        TypeError,
        "open_data(...), got a float: cut rows off, fit(x[k:], y[k:], validation=(x[:k], y[:k]))",
    ),
    (lambda: fit(X, Y, validation=[X]), TypeError, "or open_data(...), got a list of 1"),
    (lambda: fit(X, Y, validation="abc"), TypeError, "mini-batches or open_data(...), got a str"),
    (lambda: fit(X, Y, validation={"x": X, "y": Y}), TypeError, "or open_data(...), got a dict"),
    (
        lambda: fit(X, Y, validation=(X, list("abab"))),
        TypeError,
        "validation y must be real numbers (floats, integers or booleans), got dtype <U1; "
        "for names of classes set net.classes = [...], in the order of the labels",
    ),
    (
        lambda: net().predict(np.array([["1.5", "2", "3"]])),
        TypeError,
        "x must be real numbers (floats, integers or booleans), got dtype <U3; "
        "np.asarray(x).astype(float)",
    ),
    (
        lambda: fit(np.array([["a", 1, 2]] * 4, dtype=object), Y),
        TypeError,
        "with 'a' at [0, 0]; 'a' is text: give it a column of 0 and 1 for each value, as pandas.",
    ),
    (
        lambda: net().predict([[1.0, 2.0, "red"]]),
        TypeError,
        "got dtype <U32; 'red' is text: give it a column of 0 and 1 for each value, as",
    ),
    (
        lambda: regression(["1.5", "2", "3", "4"]),
        TypeError,
        "y must be numbers, as the network's task is 'regression', got '1.5': "
        "np.asarray(y).astype(float)",
    ),
    (
        lambda: regression(["a", "b", "b", "a"]),
        TypeError,
        "'regression', got 'a': labels of classes need task=\"classification\", the default of ",
    ),
    (
        lambda: net(task="multilabel").evaluate(X, ["a", "b", "b", "a"]),
        TypeError,
        "y must be numbers, as the network's task is 'multilabel', got 'a': give it a column of 0",
    ),
    (
        lambda: fit(X, np.array([["a"], ["b"], ["b"], ["a"]])),
        TypeError,
        "got dtype <U1; np.asarray(y).reshape(-1)",
    ),
    (
        lambda: fit(X, ["a", float("nan"), "b", "a"]),
        ValueError,
        "expected the name of a class in y, got nan in row 1: fill in what is missing",
    ),
    (lambda: fit(X, ["a", 1, "b", "a"]), ValueError, "name of a class in y, got 1 in row 1: fill"),
    (
        lambda: setattr(bpx.Network([3, 3]), "target_columns", ["a", "b"]),
        ValueError,
        "expected target_columns to be 3 names, or one of labels, got ['a', 'b']",
    ),
    (
        lambda: setattr(bpx.Network([3, 2], output="identity"), "target_columns", ["a"]),
        ValueError,
        "expected target_columns to be 2 names, got ['a']",
    ),
    (
        lambda: bpx.Network([3, 2], output="softmax").fit(X, np.ones((4, 2))),
        ValueError,
        'got one off by 1: for several labels a sample, output="sigmoid" and task="multilabel"',
    ),
    (
        lambda: bpx.Network([3, 1]).fit(X, [1, -1, 1, -1]),
        ValueError,
        "for a network with 1 output, got -1 in row 1: number the two classes 0 and 1",
    ),
    (
        lambda: bpx.Network([3, 1]).fit(X, [100_000, 250_000, 180_000, 90_000]),
        ValueError,
        "for a network with 1 output, got 100000 in row 0: for values, such as prices, make it "
        'with output="identity"; else number the classes from 0, and give the network an output',
    ),
    (
        lambda: bpx.Network([3, 1], output="identity").fit(
            X, X[:, 0], callbacks=bpx.EarlyStopping(monitor="validation_accuracy")
        ),
        ValueError,
        "'validation_accuracy' to monitor: a regression has none, and validation_cost or tr",
    ),
    # weights
    (lambda: fit(X, Y, sample_weight=[1, 1]), ValueError, "sample_weight of shape (4,), got (2,)"),
    (lambda: fit(X, Y, sample_weight=[1, -1, 1, 1]), ValueError, "expected sample_weight >= 0"),
    (
        lambda: fit(X, Y, sample_weight=np.zeros(4)),
        ValueError,
        "expected a positive sample_weight",
    ),
    (lambda: fit(X, Y, sample_weight=[1, np.nan, 1, 1]), ValueError, "sample_weight has NaN"),
    (
        lambda: fit(X, Y, sample_weight=[1] * 4, validation=(X, Y, [1])),
        ValueError,
        "expected validation sample_weight of shape (4,), got (1,)",
    ),
    (
        lambda: fit(X, Y, sample_weight=[1] * 4, validation=(X, Y, [-1] * 4)),
        ValueError,
        "expected validation sample_weight >= 0, got a negative one",
    ),
    (
        lambda: fit(X, Y, validation=(X, Y, [np.nan] * 4)),
        ValueError,
        "validation sample_weight has NaN",
    ),
    (
        lambda: fit(X, Y, validation=(X, Y, ["a"] * 4)),
        TypeError,
        "validation sample_weight must be real numbers",
    ),
    (
        lambda: fit(X, Y, validation=(X, Y, [0] * 4)),
        ValueError,
        "expected a positive validation sample_weight, got only zeros",
    ),
    (
        lambda: fit(X, Y, validation=(X, Y, [1e38] * 4)),
        ValueError,
        "expected validation sample_weight with a sum between 1e-30 and 1e+30, got inf in float32",
    ),
    # options of fit
    (
        lambda: fit(X, Y, batch_size=5),
        ValueError,
        "expected 1 <= batch_size <= n = 4 samples to train on, got 5: with 4 all are one",
    ),
    (lambda: fit(X, Y, batch_size=0), ValueError, "expected batch_size >= 1, got 0"),
    (lambda: fit(X, Y, batch_size=2.5), TypeError, "expected batch_size to be an integer"),
    (lambda: net().fit(X, Y, epochs=-1), ValueError, "expected epochs >= 0, got -1"),
    (lambda: net().fit(X, Y, epochs=2.0), TypeError, "expected epochs to be an integer, got 2.0"),
    (lambda: fit(X, Y, l2=-1.0), ValueError, "expected l2 >= 0, got -1.0"),
    (lambda: fit(X, Y, l1=np.nan), ValueError, "expected l1 to be finite, got nan"),
    (lambda: fit(X, Y, clip_norm=0.0), ValueError, "expected clip_norm > 0"),
    (lambda: fit(X, Y, n="epoch"), ValueError, 'expected n to be an integer or "batch"'),
    (lambda: fit(X, Y, shuffle="no"), TypeError, "expected shuffle to be True, False"),
    (lambda: bpx.batches(X, shuffle=None), TypeError, "shuffle to be True or False, got None"),
    (
        lambda: bpx.batches(X, shuffle=len),
        TypeError,
        "expected shuffle to be True or False, got <",
    ),
    (
        lambda: bpx.batches(X, sample_weight=np.ones(4)),
        ValueError,
        "sample_weight without y would give (x, sample_weight), which fit takes for (x, y)",
    ),
    (lambda: fit(X, Y, drop_last=1.5), TypeError, "drop_last to be True or False, got 1.5"),
    (
        lambda: fit(X, Y, drop_last=True, batch_size=3, sample_weight=[0, 1, 0, 0]),
        ValueError,
        "drop_last=True leaves 1 of the samples out of each epoch, and only 1 have a positive",
    ),
    (lambda: bpx.batches(X, drop_last=None), TypeError, "drop_last to be True or False, got None"),
    (
        lambda: fit([(X, Y)], drop_last=True),
        ValueError,
        "an iterable brings its own batches, such as bpx.batches(x, y, drop_last=True)",
    ),
    (lambda: fit(X, Y, progress="no"), TypeError, "expected progress to be True or False, got 'n"),
    (lambda: fit(X, Y, resume="no"), TypeError, "expected resume to be True or False, got 'no'"),
    (lambda: fit(X, Y, check_finite="no"), TypeError, "check_finite to be True or False, got 'n"),
    (lambda: fit(X, Y, graph=None), TypeError, "expected graph to be True or False, got None"),
    (lambda: bpx.SGD(0.1, 0.9, nesterov="no"), TypeError, "expected nesterov to be True or False"),
    (lambda: fit([(X, Y)], shuffle="no"), TypeError, "the rows of an epoch, got 'no'"),
    (
        lambda: fit([(X, Y)], shuffle=lambda: [0]),
        ValueError,
        "shuffle= is for arrays; an iterable",
    ),
    (
        lambda: fit(X, Y, callbacks=lambda run: run.stop(True)),
        TypeError,
        "to stop to be a string, got T",
    ),
    (
        lambda: fit(X, Y, callbacks=lambda run: run.stop("")),
        TypeError,
        "to stop to be a string, got ''",
    ),
    (
        lambda: fit(X, Y, callbacks=lambda run: run.net.fit(X, Y)),
        RuntimeError,
        "this network is being trained: in a callback, or in another thread, train a copy",
    ),
    (
        lambda: fit(X, Y, optimizer=bpx.SGD(Uphill())),
        ValueError,
        "Uphill()(0), a learning rate, to",
    ),
    (
        lambda: net().fit(X, Y, epochs=2, optimizer=bpx.SGD(AsText())),
        ValueError,
        "expected AsText(0), a learning rate, to be a number >= 0, got '0.1'",
    ),
    (
        lambda: net().weights + net().weights,
        TypeError,
        "several arrays, one for each layer: add or scale",
    ),
    (
        lambda: 2 * net().biases,
        TypeError,
        "several arrays, one for each layer: add or scale each, or",
    ),
    (
        lambda: net(output=activation(), cost="cross-entropy"),
        ValueError,
        'an activation of your own says its range, such as range="unit"',
    ),
    (
        lambda: net(output=activation(), cost="cross-entropy"),
        ValueError,
        "not defined on the outputs of CustomActivation(tanh): use sigmoid or softmax, or another",
    ),
    (
        lambda: net(output=activation(functools.partial(tanh)), cost="cross-entropy"),
        ValueError,
        "not defined on the outputs of CustomActivation(partial): use",
    ),
    (
        lambda: net(output=activation(), cost="quadratic").to_bytes(),
        ValueError,
        "the activation CustomActivation(tanh) has no registered name, and files store names, nev",
    ),
    (
        lambda: net(hidden=Outwards()).to_bytes(),
        ValueError,
        "the activation Outwards has no registered name",
    ),
    (
        lambda: net(cost=bpx.CustomCost(squares, lambda xp, a, y: a - y)).to_bytes(),
        ValueError,
        "the cost CustomCost(squares) has no registered name, and files store names, never code: "
        'call bpx.register("a-name", it) before saving',
    ),
    (
        lambda: bpx.Network([layers.Input(2), type("Own", (layers.Layer,), {})()]).to_bytes(),
        ValueError,
        "the layer Own has no registered name",
    ),
    (
        lambda: bpx.CustomActivation(tanh, lambda xp, z, a: a, range="unti"),
        ValueError,
        "unknown range 'unti'; did you mean 'unit'?",
    ),
    (lambda: net(hidden=np.tanh), TypeError, "a bpx.CustomActivation makes one from functions"),
    (
        lambda: net(cost=squares),
        TypeError,
        "got function: a bpx.CustomCost makes one from functions",
    ),
    (
        lambda: fit(X, Y, optimizer=Elsewhere(0.1)),
        TypeError,
        "expected update of Elsewhere to change theta in place, such as theta -= ..., and to re",
    ),
    (
        lambda: bpx.History.of({"epoch": [1], "training_cost": [0.5]})[0],
        KeyError,
        "expected a column of the history, a string, got 0; history.row(0) is an epoch",
    ),
    (
        lambda: bpx.gradient_check(X, Y, net()),
        TypeError,
        "expected the network first, gradient_check(net, x, y), got ndarray",
    ),
    (
        lambda: bpx.Network([3, 4, 2], hidden=[]),
        ValueError,
        "expected one activation for all hidden layers, or 1, one for each, got 0",
    ),
    (
        lambda: bpx.Network([3, 4, 2], output="identity", cost="quadratic").fit(X, Y),
        ValueError,
        'of shape (m, 2), got (4,): labels of classes need task="classification", the default',
    ),
    (lambda: fit(X, Y, shuffle=lambda: [0]), ValueError, "expected shuffle() to return the rows"),
    (
        lambda: fit(X, Y, shuffle=lambda: np.arange(1, len(Y) + 1)),
        ValueError,
        "expected shuffle() to return rows 0 to",
    ),
    (
        lambda: fit(X, Y, optimizer="adm"),
        ValueError,
        "unknown optimizer 'adm'; did you mean 'adam'?",
    ),
    (lambda: fit(X, Y, optimizer=bpx.Adam), TypeError, "got the class: pass Adam(...)"),
    (lambda: fit(X, Y, optimizer=3), TypeError, "expected the name of an optimizer"),
    (lambda: fit(X, Y, callbacks=3), TypeError, "expected a callback"),
    (
        lambda: fit(X, Y, callbacks=bpx.EarlyStopping),
        TypeError,
        "got the class: pass EarlyStopping(...)",
    ),
    # what is passed in the place of another
    (
        lambda: fit(X, Y, callbacks=[COSINE]),
        TypeError,
        "or a function, got a Cosine: the optimizer has it, optimizer=bpx.SGD(Cosine(...))",
    ),
    (lambda: fit(X, Y, callbacks=bpx.Adam()), TypeError, "got an Adam: pass it as optimizer="),
    (lambda: fit(X, Y, callbacks=[net()]), TypeError, "or a function, got a Network"),
    (
        lambda: fit(X, Y, optimizer=COSINE),
        TypeError,
        "or an Optimizer object, got Cosine: bpx.SGD(Cosine(...)) has it as its learning rate",
    ),
    (
        lambda: fit(X, Y, optimizer=bpx.EarlyStopping(3)),
        TypeError,
        "or an Optimizer object, got EarlyStopping: pass it as callbacks=",
    ),
    (
        lambda: fit(X, Y, optimizer=0.5),
        TypeError,
        "got float: bpx.SGD(0.5) has it as its learning",
    ),
    (lambda: fit(X, Y, schedule=COSINE), TypeError, "bpx.SGD(bpx.schedules.Cosine(0.1, 1000))"),
    (
        lambda: bpx.schedules.Cosine(0.1),
        TypeError,
        "Cosine needs steps=: those of a whole run are epochs * len(bpx.batches(x, y, batch_si",
    ),
    (
        lambda: bpx.schedules.Cosine(0.1, epochs=3),
        TypeError,
        "here it is steps=, of which an epoch",
    ),
    (lambda: bpx.schedules.OneCycle(0.1, stepz=3), TypeError, "did you mean 'steps'?"),
    # iterables
    (lambda: fit(X), TypeError, "fit takes x and y, or an iterable"),
    (
        lambda: fit(bpx.datasets.digits(), batch_size=2),
        TypeError,
        "got a Dataset, which is three parts: train, validation, test = data; net.fit(*train, val",
    ),
    (
        lambda: net().fit(*bpx.datasets.digits()),
        TypeError,
        "after x and y all arguments have names, as in fit(*train, validation=(x, y), epochs=10)",
    ),
    (
        lambda: fit("data.npz", batch_size=2),
        TypeError,
        "got the path 'data.npz': bpx.open_data('data.npz') reads it",
    ),
    (
        lambda: fit("mnist"),
        TypeError,
        "got 'mnist': train, validation, test = bpx.datasets.mnist(); net.fit(*train)",
    ),
    (lambda: fit(Path("data.npz")), TypeError, "mini-batches; got the path 'data.npz': bpx.open"),
    (
        lambda: fit({"x": X, "y": Y}, l2=0.1),
        TypeError,
        "got a mapping of ['x', 'y']: fit(data['x'], data['y'])",
    ),
    (lambda: fit((X, Y), batch_size=2), TypeError, "got ndarray; pass a pair of arrays as fit(x"),
    (lambda: fit([X, Y], l2=0.1), TypeError, "got ndarray; pass a pair of arrays as fit(x, y) or"),
    (
        lambda: fit([*zip(X[:, :, None], Y, strict=True)], batch_size=2),
        ValueError,
        "got single samples: pass arrays, x = np.array([x.reshape(-1) for x, y in data])",
    ),
    (lambda: fit([3]), TypeError, "expected the iterable to give (x, y)"),
    (lambda: fit([]), ValueError, "the iterable gave no mini-batch"),
    (lambda: fit([(X, Y)], batch_size=2), ValueError, "batch_size= is for arrays"),
    (
        lambda: fit(generated),
        TypeError,
        "got the generator function generated: pass a list, or an object whose __iter__ makes a",
    ),
    (lambda: fit([(X, Y)], l2=1.0), ValueError, "need n=, the size of the training set"),
    (lambda: fit([(X, Y)], n=0), ValueError, "expected n >= 1, got 0"),
    (
        lambda: net().fit(iter([(X, Y)]), epochs=2),
        ValueError,
        "a one-shot iterator is empty after",
    ),
    (lambda: fit([(X, Y, [0] * 4)]), ValueError, "all sample weights of the epoch were zero"),
    (lambda: fit([(X[:, :2], Y)]), ValueError, "expected x of shape (m, 3), got (4, 2)"),
    (lambda: net().evaluate([]), ValueError, "the iterable gave no mini-batch"),
    (lambda: net().evaluate(iter([3])), TypeError, "mini-batch 1: expected the iterable to give"),
    (
        lambda: net().evaluate([(X, Y), (X, Y[:2])]),
        ValueError,
        "mini-batch 2: expected as many row",
    ),
    (
        lambda: net().evaluate(bpx.batches(NAN, Y, 1, shuffle=False)),
        ValueError,
        "mini-batch 2: x h",
    ),
    (
        lambda: net().evaluate(zip(X, Y, strict=True)),
        ValueError,
        "mini-batch 1: expected the iter",
    ),
    (
        lambda: net().evaluate([(X, Y)], sample_weight=Y),
        ValueError,
        "sample_weight= is for arrays; an iterable brings its own batches",
    ),
    (
        lambda: net().accuracy([(X, Y, [0] * 4), (X, Y, [0] * 4)]),
        ValueError,
        "expected a positive sample_weight in one mini-batch at least, got only zeros",
    ),
    (
        lambda: bpx.Ensemble([net()]).evaluate([(X, Y, [0] * 4)]),
        ValueError,
        "expected a positive sample_weight in one mini-batch at least, got only zeros",
    ),
    (lambda: net().total_cost([(X, Y)], n=0), ValueError, "expected n >= 1, got 0"),
    (lambda: fit(X, Y, validation=[]), ValueError, "the validation iterable gave no mini-batch"),
    (
        lambda: fit(X, Y, validation=[(X, Y, [0] * 4)]),
        ValueError,
        "expected a positive validation sample_weight in one mini-batch at least, got only zeros",
    ),
    (
        lambda: fit(X, Y, validation=[(X, Y), (X, Y + 1)]),
        ValueError,
        "validation mini-batch 2: expected labels 0 to 1 in y",
    ),
    (
        lambda: net().fit(X, Y, epochs=2, validation=iter([(X, Y)])),
        ValueError,
        "a one-shot validation iterator is empty after one epoch, and epochs is 2: pass something",
    ),
    (
        lambda: bpx.Ensemble([net(), net()]).fit(X, Y, epochs=1, validation=iter([(X, Y)])),
        ValueError,
        "a one-shot iterator is empty after the first member",
    ),
    # optimizers, schedules, callbacks
    (
        lambda: bpx.SGD(-0.1),
        ValueError,
        "expected the learning rate (or a Schedule) >= 0, got -0.1",
    ),
    (
        lambda: bpx.SGD("0.1"),
        TypeError,
        "expected the learning rate (or a Schedule) to be a number, got '0.1'",
    ),
    (lambda: bpx.SGD(0.1, momentum=1.0), ValueError, "expected 0 <= momentum < 1, got 1.0"),
    (lambda: bpx.SGD(0.1, momentum="0.9"), TypeError, "expected momentum to be a number"),
    (lambda: bpx.SGD(0.1, nesterov=True), ValueError, "nesterov needs a momentum"),
    (lambda: bpx.Adam(beta1=1.0), ValueError, "expected 0 <= beta1 < 1"),
    (lambda: bpx.Adam(epsilon=0.0), ValueError, "expected epsilon > 0"),
    (lambda: bpx.AdamW(weight_decay=-1.0), ValueError, "expected weight_decay >= 0"),
    (lambda: bpx.RMSprop(rho=2.0), ValueError, "expected 0 <= rho < 1"),
    (lambda: bpx.schedules.Cosine(0.1, 0), ValueError, "expected steps >= 1, got 0"),
    (lambda: bpx.schedules.OneCycle(0.1, 9, warm_up=1.0), ValueError, "expected 0 < warm_up < 1"),
    (lambda: bpx.EarlyStopping(0), ValueError, "expected patience >= 1, got 0"),
    (lambda: bpx.EarlyStopping(min_delta=-1), ValueError, "expected min_delta >= 0"),
    (lambda: bpx.ReduceOnPlateau(5), ValueError, "0 < the factor of ReduceOnPlateau < 1, got 5"),
    # networks
    (lambda: bpx.Network([3]), ValueError, "expected at least two positive sizes"),
    (lambda: bpx.Network([3, 0]), ValueError, "expected at least two positive sizes"),
    (lambda: bpx.Network([3, 2.5]), ValueError, "expected at least two positive sizes"),
    (lambda: net(hidden="rleu"), ValueError, "unknown activation 'rleu'; did you mean 'relu'?"),
    (
        lambda: net(cost="quadratik"),
        ValueError,
        "unknown cost 'quadratik'; did you mean 'quadratic'",
    ),
    (lambda: net(weights="large"), ValueError, "'large'; did you mean 'normal'?"),
    (lambda: net(weights="gaussian"), ValueError, "'gaussian'; did you mean 'normal'?"),
    (lambda: net(weights="glorot"), ValueError, "unknown initializer 'glorot'; did you mean"),
    (
        lambda: net(hidden=3),
        TypeError,
        "expected the name of an activation or an Activation object",
    ),
    (
        lambda: bpx.layers.Dense(784, 30),
        TypeError,
        "expected the activation of Dense, got 30: a layer is told only the size of its outputs",
    ),
    (
        lambda: bpx.layers.Dense(30, None),
        TypeError,
        'expected the activation of Dense, got None: for none pass "identity"',
    ),
    (lambda: bpx.Network([3, 2], output=None), TypeError, 'for none pass "identity"'),
    (
        lambda: bpx.layers.Conv2D(8, 3, bias=False),
        TypeError,
        "expected the bias of Conv2D to be an Initializer or its name, got False: pass "
        "use_bias=False instead",
    ),
    (
        lambda: net(output="relu", cost="cross-entropy"),
        ValueError,
        "the cost 'cross-entropy' is not defined on the outputs",
    ),
    (lambda: net(output="relu", cost="poisson"), ValueError, "use sigmoid or softmax or exp"),
    (lambda: net(cost="log-likelihood"), ValueError, "use softmax, or another cost"),
    (lambda: net(dtype=None), ValueError, "expected dtype 'float32' or 'float64', got None"),
    (
        lambda: bpx.Network([3, 4, 4, 2], hidden=["relu"]),
        ValueError,
        "expected one activation for all hidden layers, or 2, one for each, got 1",
    ),
    (
        lambda: net(hidden=(tanh, tanh)),
        ValueError,
        "or 1, one for each, got 2: bpx.CustomActivation(f, slope) makes one of two functions",
    ),
    (lambda: net(dtype="float16"), ValueError, "expected dtype 'float32' or 'float64'"),
    (lambda: net(task="classify"), ValueError, "unknown task 'classify'; did you mean"),
    (
        lambda: net(backend="nunpy"),
        bpx.BackendError,
        "unknown backend 'nunpy'; did you mean 'numpy'?",
    ),
    (
        lambda: net().to("float64"),
        bpx.BackendError,
        "unknown backend 'float64': that is a dtype; pass it as dtype='float64'",
    ),
    (
        lambda: net(backend="cuda:1"),
        bpx.BackendError,
        "unknown backend 'cuda:1': use 'cupy' or 'torch:cuda'",
    ),
    (lambda: net(backend="cpu"), bpx.BackendError, "unknown backend 'cpu': use 'numpy'"),
    (lambda: net(backend=np.float32), bpx.BackendError, "a namespace or an array, got type"),
    (lambda: setattr(net(), "weights", [X]), ValueError, "expected 2 arrays, one for each layer"),
    (lambda: setattr(net(), "biases", None), TypeError, "expected 2 arrays, one for each layer"),
    (
        lambda: setattr(net(), "parameters", X),
        ValueError,
        "expected θ to be real numbers of shape (64,), got ndarray of shape (4, 3)",
    ),
    (
        lambda: bpx.activations.Softmax().derivative(np, X, X),
        TypeError,
        "softmax has no σ' element by element, as each output depends on all of z: use backward(",
    ),
    (
        lambda: bpx.costs.CrossEntropy().value(np, np.full((4, 4), 0.5), Y),
        ValueError,
        "expected y of the shape of a, (4, 4), got (4,): labels as rows are np.eye(4)[y]",
    ),
    (
        lambda: bpx.costs.Quadratic().gradient(np, np.ones((4, 2)), Y[:, None]),
        ValueError,
        "expected y of the shape of a, (4, 2), got (4, 1): labels as rows are np.eye(2)[np.ravel",
    ),
    (
        lambda: activation(np.tanh),
        TypeError,
        "taking (xp, z), got np.tanh, which takes no xp: lambda xp, z: xp.tanh(z)",
    ),
    (
        lambda: bpx.CustomCost(squares, np.subtract),
        TypeError,
        "np.subtract, which takes no xp: lambda xp, a, y: xp.subtract(a, y)",
    ),
    (
        lambda: bpx.costs.Huber().value(np, np.ones((4, 1)), Y),
        ValueError,
        "expected y of the shape of a, (4, 1), got (4,): np.reshape(y, (-1, 1))",
    ),
    (
        lambda: bpx.costs.Quadratic().gradient(np, X, [0, 1, 1, 0]),
        ValueError,
        "expected y of the shape of a, (4, 3), got [0, 1, 1, 0]: labels as rows are np.eye(3)[y]",
    ),
    (
        lambda: bpx.costs.Huber().gradient(np, Y, X),
        ValueError,
        "of a, (4,), got (4, 3): a comes before y, gradient(np, a, y)",
    ),
    (
        lambda: bpx.costs.Quadratic().value(np, 0.3, 1.0),
        ValueError,
        "expected a and y as arrays (m, k), a row for each sample, got a 0.3 and y 1.0",
    ),
    (lambda: net().cost_derivative, AttributeError, "gradient(np, a, y), labels as np.eye(10)[y]"),
    (
        lambda: net().weights.__setitem__(0, Y),
        ValueError,
        "expected net.weights[0] to be real numbers of shape (4, 3), got ndarray of shape (4,) a",
    ),
    (
        lambda: net().weights.__setitem__(0, X.T),
        ValueError,
        "dtype float64: pass its .T, as rows of a Dense layer's weights are its units",
    ),
    (
        lambda: net().biases.__setitem__(5, Y),
        IndexError,
        "there is no net.biases[5]: of 2 arrays, one for each layer that has any, the last is net."
        "biases[1]",
    ),
    (
        lambda: setattr(net(), "cost", "huber"),
        AttributeError,
        "net.cost is chosen when a network is made, bpx.Network(..., cost=...), and is not set; an"
        "other.copy_from(net) gives",
    ),
    (
        lambda: net().weights.__setitem__(slice(1, 2), [X]),
        ValueError,
        "expected net.weights[1] to be real numbers of shape (2, 4), got ndarray of shape (4, 3)",
    ),
    (
        lambda: net().biases.__setitem__(0, Y[:, None]),
        ValueError,
        "expected net.biases[0] to be real numbers of shape (4,), got ndarray of shape (4, 1) and "
        "dtype int64: np.ravel(b) of a column b",
    ),
    (
        lambda: net().biases.__setitem__(0, -5),
        ValueError,
        "expected net.biases[0] to be real numbers of shape (4,), got -5: np.full(4, -5) for the",
    ),
    (
        lambda: net().weights.__setitem__(0, 1),
        ValueError,
        "expected net.weights[0] to be real numbers of shape (4, 3), got 1: np.full((4, 3), 1) f",
    ),
    (lambda: setattr(net(), "optimizer", "adm"), ValueError, "did you mean 'adam'?"),
    (lambda: fit(X, Y, optimizer="L-BFGS"), ValueError, "is no optimizer: it takes no mini-ba"),
    (lambda: fit(X, Y, optimizer="lbfgs"), ValueError, "docs/recipes.md has it by SciPy in some"),
    (lambda: net(backend="numpy:1"), bpx.BackendError, "NumPy has no device '1' here"),
    (lambda: net(backend=re), bpx.BackendError, "does not follow the array API standard"),
    (lambda: bpx.Network([layers.Dense(3)]), ValueError, "expected an Input first"),
    (
        lambda: bpx.Network([layers.Flatten(input_shape=(28, 28)), layers.Dense(3)]),
        ValueError,
        "got Flatten: Network([bpx.layers.Input((28, 28)), ...])",
    ),
    (
        lambda: bpx.Network([layers.Input(3)]),
        ValueError,
        "expected at least one layer after Input",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Flatten]),
        TypeError,
        "expected a layer after Input, got <class 'bpx.layers.shape.Flatten'> at position 1: pass "
        "Flatten(...)",
    ),
    (lambda: layers.Residual([layers.Dropout]), TypeError, "in it: pass Dropout(...)"),
    (lambda: bpx.Network([layers.Input(3), 4]), TypeError, "expected a layer after Input, got 4"),
    (
        lambda: bpx.Network([layers.Input((2, 3)), layers.Dense(3)]),
        ValueError,
        "layer 0, Dense 3, identity: Dense expects flat inputs of shape (m, n), got (m, 2, 3)",
    ),
    (
        lambda: bpx.Network([layers.Input((2, 3)), layers.Dropout()]),
        ValueError,
        "expected the last layer's outputs to be flat",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Dense(2)], hidden="relu"),
        ValueError,
        "hidden= is for sizes; with layers, name it in each layer",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Dense(2)], output="sigmoid"),
        ValueError,
        "output= is for sizes; with layers, name it in each layer",
    ),
    *[
        (
            lambda make=make: make(use_bias=False, bias=bpx.initializers.Constant(5.0)),
            ValueError,
            f"{kind} has no bias with use_bias=False, and bias= is for one: leave one of the two",
        )
        for kind, make in {
            "Dense": functools.partial(layers.Dense, 3),
            "Conv1D": functools.partial(layers.Conv1D, 3, 2),
            "Conv2D": functools.partial(layers.Conv2D, 3, 2),
        }.items()
    ],
    (
        lambda: layers.Dense(3, use_bias="no"),
        TypeError,
        "expected use_bias to be True or False, got 'no'",
    ),
    (lambda: layers.Input(0), ValueError, "expected a length of Input >= 1, got 0"),
    (lambda: layers.Dense(0), ValueError, "expected the units of Dense >= 1, got 0"),
    (lambda: layers.Dropout(1.0), ValueError, "expected 0 <= the rate of Dropout < 1, got 1.0"),
    (
        lambda: layers.Rescale(np.nan),
        ValueError,
        "expected the scale of Rescale to be finite, got nan",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Rescale((1.0, 2.0)), layers.Dense(1)]),
        ValueError,
        "Rescale's scale has 2 values for inputs whose last axis has 3",
    ),
    (
        lambda: bpx.Network([layers.Input((2, 4, 4)), layers.Rescale((1.0, 2.0))]),
        ValueError,
        "Rescale's scale has 2 values for inputs whose last axis has 4: axis=0 is for channels",
    ),
    (
        lambda: bpx.Network([layers.Input((2, 4, 4)), layers.Rescale(1.0, (1.0, 2.0), axis=1)]),
        ValueError,
        "Rescale's offset has 2 values for inputs whose axis 1 has 4",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Rescale(axis=1)]),
        ValueError,
        "Rescale's axis is 1, and a sample of shape (3,) has 1 axes: 0 is the first, and -1 the",
    ),
    (
        lambda: layers.Rescale(axis=0.5),
        TypeError,
        "expected the axis of Rescale to be an integer, got 0.5",
    ),
    (lambda: layers.Dense(3).shape_in, ValueError, "has no input yet"),
    (lambda: bpx.costs.Huber(0.0), ValueError, "expected the threshold of Huber > 0, got 0.0"),
    (
        lambda: bpx.CustomCost(lambda xp, a, y: a, lambda xp, a, y: a, outputs_per_target=0),
        ValueError,
        "expected outputs_per_target of CustomCost >= 1, got 0",
    ),
    (lambda: bpx.costs.Quantile(1.0), ValueError, "levels of Quantile between 0 and 1, got 1.0"),
    (lambda: bpx.costs.Quantile(()), ValueError, "levels of Quantile between 0 and 1, got ()"),
    (lambda: bpx.costs.Quantile("a"), TypeError, "or each of a tuple, to be a number, got 'a'"),
    (
        lambda: bpx.Network([3, 3], cost=bpx.costs.Quantile((0.1, 0.9))),
        ValueError,
        "the cost 'quantile' takes 2 outputs for each target, and the network has 3: give it 2 "
        "for one target, 4 for two",
    ),
    (
        lambda: bpx.Network([3, 1], cost=bpx.costs.Quantile((0.1, 0.5, 0.9))),
        ValueError,
        "takes 3 outputs for each target, and the network has 1: give it 3 for one target, 6 for",
    ),
    (
        lambda: bpx.Network([3, 3], output="identity", cost="gaussian-nll"),
        ValueError,
        "the cost 'gaussian-nll' takes 2 outputs for each target, and the network has 3",
    ),
    (
        lambda: bpx.Network([3, 2], cost="gaussian-nll"),
        ValueError,
        "the cost 'gaussian-nll' is not defined on the outputs of 'sigmoid': use identity, or",
    ),
    (
        lambda: bpx.Network([3, 2], cost=bpx.costs.Quantile((0.1, 0.9)), task="multilabel"),
        ValueError,
        "the cost 'quantile' takes 2 outputs for each target, which is for task='regression', got "
        "'multilabel': classes and labels have one output each",
    ),
    (
        lambda: bpx.Network([3, 4], output="identity", cost="gaussian-nll").fit(
            X, np.ones((4, 4))
        ),
        ValueError,
        "expected y of shape (m, 2), got (4, 4)",
    ),
    (
        lambda: bpx.Network(
            [3, 6], output="identity", cost=bpx.costs.Quantile((0.1, 0.5, 0.9))
        ).fit(X, np.ones((4, 3, 2))),
        ValueError,
        "expected y of shape (m, 2) or (m, 6), got (4, 3, 2): np.asarray(y).reshape(-1, 6), as",
    ),
    (lambda: bpx.CustomCost(abs), TypeError, "missing 1 required positional argument: 'gradient'"),
    (lambda: bpx.CustomActivation(abs), TypeError, "required positional argument: 'derivative'"),
    (lambda: bpx.Network([3, 2], hidden="nonsense"), ValueError, "unknown activation 'nonsense'"),
    (lambda: bpx.Network([3, 1], output="softmax"), ValueError, "one softmax output is always 1"),
    (lambda: bpx.Network(784), TypeError, "expected sizes or layers, such as [784, 30, 10]"),
    (lambda: bpx.Network([3, 2], seed=-1), ValueError, "expected seed to be an integer >= 0"),
    (lambda: bpx.Network([3, 2], seed="a"), TypeError, "expected seed to be an integer >= 0"),
    (
        lambda: net(cost=bpx.costs.Quadratic),
        TypeError,
        "expected a cost, got the class: pass Quadratic(...)",
    ),
    (lambda: net(cost="mse"), ValueError, "unknown cost 'mse'; did you mean 'quadratic'?"),
    (lambda: net(output="linear"), ValueError, "did you mean 'identity'?"),
    (lambda: net(output="exp", cost="bce"), ValueError, "did you mean 'cross-entropy'?"),
    (
        lambda: net(output="tanh", cost=bpx.costs.CrossEntropy()),
        ValueError,
        'cost="quadratic" is defined on all',
    ),
    (lambda: layers.Dense(2, trainable="no"), TypeError, "expected trainable to be True or False"),
    (lambda: layers.Input(2.5), TypeError, "expected a length of Input to be an integer"),
    (lambda: layers.Input(()), ValueError, "at least one length"),
    (lambda: layers.Rescale("12"), TypeError, "expected the scale of Rescale to be a number"),
    (lambda: layers.Rescale(offset=None), TypeError, "expected the offset of Rescale to be a num"),
    (lambda: layers.Rescale.standardizing([1.0]), ValueError, "expected x of shape (n, k)"),
    (
        lambda: layers.Rescale.standardizing([[1.0, np.nan]]),
        ValueError,
        "x has NaN or infinity in row 0, column 1: fill in what is missing, or leave those rows",
    ),
    (
        lambda: layers.Rescale.standardizing([["1.0", "one"]]),
        TypeError,
        "x must be real numbers (floats, integers or booleans), got dtype <U3",
    ),
    (
        lambda: layers.Rescale.standardizing([[1e308], [-1e308]]),
        ValueError,
        "column 0 of x goes from -1e+308 to 1e+308, and the difference does not fit in a float64",
    ),
    (lambda: bpx.activations.LeakyReLU("a"), TypeError, "expected the slope of LeakyReLU to be"),
    (lambda: bpx.activations.ELU(-1.0), ValueError, "expected the alpha of ELU > 0"),
    (lambda: bpx.initializers.Normal(std=-1.0), ValueError, "expected the std of Normal >= 0"),
    (lambda: bpx.initializers.Constant(np.nan), ValueError, "the value of Constant to be finite"),
    (lambda: bpx.initializers.Uniform(1.0, 0.0), ValueError, "expected low <= high"),
    (lambda: bpx.ReduceOnPlateau(lowest="a"), TypeError, "expected lowest to be a number"),
    (
        lambda: fit_own(cost=bpx.CustomCost(lambda xp, a, y: 1.0, lambda xp, a, y: a)),
        ValueError,
        "for each sample, shape (4,), got 1.0: sum over the last axis only",
    ),
    # parts of one's own
    (
        lambda: net().fit(X, Y, callbacks=functools.wraps(len)(lambda: 1)),
        TypeError,
        "expected a callback to be a function taking (run), got one taking ()",
    ),
    (
        lambda: activation(lambda z: z),
        TypeError,
        "expected σ of CustomActivation to be a function taking (xp, z), got one taking (z)",
    ),
    (
        lambda: activation(slope=lambda xp, z: z),
        TypeError,
        "expected σ' of CustomActivation to be a function taking (xp, z, a), got one "
        "taking (xp, z)",
    ),
    (
        lambda: bpx.CustomCost(lambda a, y: a, squares),
        TypeError,
        "expected C of CustomCost to be a function taking (xp, a, y), got one taking (a, y)",
    ),
    (
        lambda: bpx.CustomCost(squares, None),
        TypeError,
        "expected ∂C/∂a of CustomCost to be a function taking (xp, a, y), got None",
    ),
    (
        lambda: net().fit(X, Y, callbacks=lambda: 1),
        TypeError,
        "expected a callback to be a function taking (run), got one taking ()",
    ),
    (
        lambda: fit(X, Y, callbacks=bpx.Metric("training_cost", float)),
        ValueError,
        "the history already has a column 'training_cost': give yours another name",
    ),
    (
        lambda: fit(X, Y, callbacks=[bpx.Metric("f1", len, larger_is_better=True)] * 2),
        ValueError,
        "the history already has a column 'f1': give yours another name",
    ),
    (
        lambda: fit(X, Y, callbacks=bpx.Metric("f1", lambda net: net.weights[0])),
        TypeError,
        "expected the metric 'f1' to be a number, got array(",
    ),
    (lambda: bpx.Metric(len, len), TypeError, "expected the name of a column of the history, a"),
    (
        lambda: bpx.Metric("z" * 1001, len),
        TypeError,
        "a string of 1000 characters at most, got 'zz",
    ),
    (
        lambda: fit(X, Y, callbacks=lambda run: run.history.log("validation_cost", 1.0)),
        ValueError,
        "expected a name other than those of fit, epoch, training_cost, training_accuracy,",
    ),
    (
        lambda: bpx.History().log("f1", 1.0),
        ValueError,
        "no epoch has ended yet: log 'f1' after the first",
    ),
    (
        lambda: bpx.Metric("f1", lambda y, a: 0),
        TypeError,
        "expected the function of a Metric to be a function taking (net), got one taking (y, a)",
    ),
    (
        lambda: bpx.Metric("f1", lambda net: 0, larger_is_better="no"),
        TypeError,
        "expected larger_is_better to be True or False, got 'no'",
    ),
    (
        lambda: bpx.EarlyStopping(restore_best="no"),
        TypeError,
        "expected restore_best to be True or False, got 'no'",
    ),
    (
        lambda: fit(X, Y, callbacks=bpx.EarlyStopping(monitor=3)),
        TypeError,
        "expected monitor to be a column of the history, got 3",
    ),
    (
        lambda: net().backprop(X, Y, inputs="x"),
        TypeError,
        "expected inputs to be True or False, got 'x'",
    ),
    (
        lambda: net().backprop(X, Y, training="no"),
        TypeError,
        "expected training to be True or False, got 'no'",
    ),
    (
        lambda: bpx.augmentation.expand(np.zeros((2, 1, 3, 3)), shuffle="no"),
        TypeError,
        "expected shuffle to be True or False, got 'no'",
    ),
    (
        lambda: bpx.Network([2, 2], cost=OfShares()),
        ValueError,
        "the cost OfShares is not defined on the outputs of 'sigmoid': use softmax",
    ),
    (
        lambda: net().activations(bpx.open_data(np.zeros((4, 3)))),
        TypeError,
        "expected x to be in memory, got <data in blocks, ndarray: (4, 3) of float64, 0.0 MB>: pa"
        "ss data.read()",
    ),
    (
        lambda: fit(X, Y, callbacks=[bpx.EarlyStopping(monitor="f1"), bpx.Metric("f1", len)]),
        ValueError,
        "Known: training_accuracy, training_cost (put a Metric before what monitors it)",
    ),
    (
        lambda: net().fit(X, Y, callbacks=OfKeras()),
        TypeError,
        "expected on_epoch_end of OfKeras to be a function taking (run), got one taking "
        "(epoch, logs)",
    ),
    (
        lambda: net().fit(X, Y, shuffle=lambda epoch: range(4)),
        TypeError,
        "expected shuffle to be a function taking (), got one taking (epoch)",
    ),
    (
        lambda: fit_own(hidden=activation(lambda xp, z: None)),
        ValueError,
        "expected the values of the activation CustomActivation(<lambda>) to be real numbers of "
        "shape (4, 4), got None",
    ),
    (
        lambda: fit_own(hidden=activation(lambda xp, z: z[:, :1])),
        ValueError,
        "got ndarray of shape (4, 1) and dtype float32",  # which NumPy would broadcast
    ),
    (
        lambda: fit_own(hidden=activation(lambda xp, z: 1j * z)),
        ValueError,
        "got ndarray of shape (4, 4) and dtype complex64",
    ),
    (
        lambda: fit_own(output=bpx.register("wide", activation(lambda xp, z: xp.concat([z, z])))),
        ValueError,
        "expected the values of the activation 'wide' to be real numbers of shape (4, 2)",
    ),
    (
        lambda: fit_own(hidden=activation(slope=lambda xp, z, a: None)),
        ValueError,
        "expected σ'(z) of the activation CustomActivation(tanh) to be real numbers of shape "
        "(4, 4), got None",
    ),
    (
        lambda: fit_own(hidden=activation(slope=lambda xp, z, a: xp.sum(z, axis=1))),
        ValueError,
        "to be real numbers of shape (4, 4), got ndarray of shape (4,) and dtype float32",
    ),
    (
        lambda: fit_own(hidden=Outwards()),
        ValueError,
        "expected ∂C/∂z of the activation 'outwards' to be real numbers of shape (4, 4), got 3.0",
    ),
    (
        lambda: fit_own(cost=bpx.CustomCost(squares, lambda xp, a, y: None)),
        ValueError,
        "expected ∇_a C of the cost CustomCost(squares) to be real numbers of shape (4, 2), got N",
    ),
    (
        lambda: fit_own(cost=bpx.CustomCost(squares, lambda xp, a, y: (a - y)[:, 0])),
        ValueError,
        "of shape (4, 2), got ndarray of shape (4,) and dtype float32",
    ),
    (
        lambda: net(weights=Filled(lambda shape: None)),
        ValueError,
        "expected the values of the initializer Filled to be real numbers of shape (4, 3), got No",
    ),
    (
        lambda: net(weights=Filled(lambda shape: np.ones(shape[1]))),
        ValueError,
        "of shape (4, 3), got ndarray of shape (3,) and dtype float64",
    ),
    (
        lambda: fit_with(lambda x: None),
        ValueError,
        "expected forward of the layer Own to return (y, saved), got None",
    ),
    (lambda: fit_with(lambda x: x), ValueError, "to return (y, saved), got array([["),
    (
        lambda: fit_with(lambda x: (x[:, :1], x)),
        ValueError,
        "expected y of the layer Own, in the network's dtype, to be real numbers of shape (4, 4), "
        "got ndarray of shape (4, 1) and dtype float32",
    ),
    (
        lambda: fit_with(lambda x: (x.astype(float), x)),
        ValueError,
        "got ndarray of shape (4, 4) and dtype float64",
    ),
    (
        lambda: fit_with(lambda x: (x + 0.0, x), lambda delta: None),
        ValueError,
        "expected ∂C/∂x of the layer Own, in the network's dtype, to be real numbers of shape "
        "(4, 4), got None",
    ),
    (
        lambda: fit_with(lambda x: (x + 0.0, x), lambda delta: delta[:2, :]),
        ValueError,
        "got ndarray of shape (2, 4) and dtype float32",
    ),
    (
        lambda: fit_with(None, output_shape=5),
        ValueError,
        "layer 1, Own: expected its output_shape to be a tuple of lengths, such as (5,), got 5",
    ),
    (
        lambda: fit_with(None, output_shape=(1.5,)),
        ValueError,
        "expected its output_shape to be a tuple of lengths, such as (5,), got (1.5,)",
    ),
    (
        lambda: fit_with(None, parameters=lambda self: {"gain": np.ones(4)}),
        TypeError,
        "layer 1: expected its parameters() and state() to be dicts of a bpx.layers.Parameter by "
        "name, got {'gain': array",
    ),
    # data of another kind
    (lambda: net().fit((X, Y)), TypeError, "pass a pair of arrays as fit(x, y) or fit(*pair)"),
    (
        lambda: net().feedforward(np.zeros((3, 9))),
        ValueError,
        "a sample is a row here, so pass np.asarray(x).T",
    ),
    (lambda: fit(X, Y[:, None]), ValueError, "got (4, 1): np.asarray(y).reshape(-1)"),
    (
        lambda: net().evaluate(X, ["a", "b", "b", "a"]),
        TypeError,
        "got dtype <U1; for names of classes set net.classes = [...], in the order of the labels",
    ),
    (
        lambda: fit(X, ["a", "b", "c", "a"]),
        ValueError,
        "y has 3 classes, ['a', 'b', 'c'], and the network 2 outputs: give it an output for each",
    ),
    (
        lambda: bpx.Network([3, 1]).fit(X, ["a", "b", "c", "a"]),
        ValueError,
        "and the network 1 output: give it an output for each",
    ),
    (
        lambda: fit(X, ["a"] * 4),
        ValueError,
        "expected names of 2 classes in y, got 1, ['a']: name them all, net.classes = [...], or",
    ),
    (
        lambda: fit(X, ["a", "b", None, "a"]),
        ValueError,
        "expected the name of a class in y, got None in row 2: fill in what is missing, or",
    ),
    (
        lambda: fit(X, ["ant", "bee", "bee", "ant"], validation=(X, ["ant", "bees", "ant", "x"])),
        ValueError,
        "'bees' in row 1 of validation y is not one of the network's classes; did you mean 'bee'?",
    ),
    (
        lambda: classed([3, 5]).fit(X, ["3", "5", "5", "3"]),
        ValueError,
        "'3' in row 0 of y is not one of the network's classes: [3, 5]",
    ),
    (
        lambda: fit(np.ma.masked_equal(np.eye(4, 3), 1.0), Y),
        TypeError,
        "x has masked elements; fill them first: x.filled(...)",
    ),
    (
        lambda: classed(["a", "b"]).fit(X, [b"a", b"b", b"b", b"a"]),
        TypeError,
        "got dtype |S1; they are bytes, and np.char.decode(y) is text",
    ),
    (
        lambda: fit(list(np.ma.masked_equal(np.eye(4, 3), 1.0)), Y),
        TypeError,
        "x has masked elements; fill them first: np.ma.stack(x).filled(...)",
    ),
    (
        lambda: fit(X, list(np.ma.masked_equal([0, 1, 2, 1], 2))),
        TypeError,
        "y has masked elements; fill them first: np.ma.stack(y).filled(...)",
    ),
    (
        lambda: bpx.open_data(np.ma.masked_equal(np.eye(4, 3), 1.0), Y),
        TypeError,
        "x has masked elements; fill them first: x.filled(...)",
    ),
    (lambda: fit(X, Y, sample_weight=[1e-60] * 4), ValueError, "got only zeros"),
    (
        lambda: fit(X, Y, sample_weight=[1e37] * 4),
        ValueError,
        "expected sample_weight with a sum between 1e-30 and 1e+30, got 4e+37 in float32: divide "
        "it by its mean, since only ratios matter",
    ),
    (lambda: fit(X, Y, sample_weight=[1e-40] * 4), ValueError, "between 1e-30 and 1e+30"),
    (lambda: fit(X, Y, sample_weight=[1e300] * 4), ValueError, "got inf in float32"),
    (lambda: fit(X, Y, sample_weight=[1e300, -1e300, 1, 1]), ValueError, "sample_weight >= 0"),
    # backprop and the rest
    (
        lambda: net().backprop(X, output_gradient=np.zeros((4, 2)), sample_weight=[1] * 4),
        ValueError,
        "sample_weight is for y",
    ),
    (lambda: net().backprop(X, Y, l2=-1.0, n=4), ValueError, "expected l2 >= 0, got -1.0"),
    (lambda: net().backprop(X, Y, l2=1.0, n=0), ValueError, "expected n >= 1, got 0"),
    (lambda: net().backprop(X, Y, step="a"), TypeError, "expected step to be an integer"),
    (lambda: net().total_cost(X, Y, l1=np.nan), ValueError, "expected l1 to be finite"),
    (lambda: bpx.gradient_check(net(), X, Y, epsilon=0.0), ValueError, "expected epsilon > 0"),
    (lambda: net().backprop(X), ValueError, "backprop takes either y or output_gradient="),
    (
        lambda: net().backprop(X, Y, output_gradient=X),
        ValueError,
        "backprop takes either y or output_gradient=",
    ),
    (
        lambda: net().backprop(X, delta=X),
        TypeError,
        "here it is output_gradient=, which is ∂C/∂a^L; the book's δ^L is ∂C/∂z^L",
    ),
    (
        lambda: bpx.Network(
            [layers.Input(3), layers.Embedding(9, 2), layers.Flatten(), layers.Dense(2)]
        ).jacobian([[1, 2, 3]]),
        ValueError,
        "no derivatives with respect to the whole numbers of an Embedding",
    ),
    (lambda: net().backprop(X, Y, l2=1.0), ValueError, "l1 and l2 need n="),
    (
        lambda: net().backprop(X, output_gradient=X),
        ValueError,
        "expected output_gradient of shape (m, 2), got (4, 3)",
    ),
    (
        lambda: bpx.Network([3, 1], output="identity", cost="quadratic").accuracy(X, Y),
        ValueError,
        "a regression has no accuracy",
    ),
    (
        lambda: bpx.register("sigmoid", bpx.activations.Tanh()),
        ValueError,
        "is bpx's own activation",
    ),
    (lambda: bpx.register("mine", 3), TypeError, "expected 'mine' to be the name of one of"),
    (lambda: bpx.register(3, bpx.activations.Tanh()), TypeError, "expected a name, got an int"),
    (lambda: fit(X, Y)["training_cots"], KeyError, "no column 'training_cots'; did you mean"),
    # as elsewhere
    (lambda: fit(X, Y, lr=0.1), TypeError, "fit takes no lr=: the optimizer has it, optimizer="),
    (
        lambda: fit(X, Y, learning_rate=0.1),
        TypeError,
        "takes no learning_rate=: the optimizer has it",
    ),
    (lambda: fit(X, Y, momentum=0.9), TypeError, "optimizer=bpx.SGD(0.1, momentum=0.9)"),
    (
        lambda: fit(X, Y, seed=1),
        TypeError,
        "no seed=: the network has it, bpx.Network(..., seed=0)",
    ),
    (lambda: net(random_state=1), TypeError, "no random_state=: here it is seed=0"),
    (
        lambda: fit(X, Y, validation_data=(X, Y)),
        TypeError,
        "fit takes no validation_data=: here it is validation=(x, y)",
    ),
    (
        lambda: fit(X, Y, validation_split=0.1),
        TypeError,
        "cut rows off, fit(x[k:], y[k:], validation=(x[:k], y[:k]))",
    ),
    (
        lambda: fit(X, Y, class_weight={0: 1.0, 1: 5.0}),
        TypeError,
        "here it is by sample, sample_weight=np.array([1.0, 5.0])[y]",
    ),
    (lambda: fit(X, Y, verbose=1), TypeError, "fit takes no verbose=: here it is progress=True"),
    (
        lambda: fit(X, Y, every=3),
        TypeError,
        "fit takes no every=: here it is bpx.Checkpoint(folder, epochs=...), or steps= or sec",
    ),
    (
        lambda: bpx.Checkpoint("ck", every=3),
        TypeError,
        "Checkpoint takes no every=: here it is bpx.Checkpoint(folder, epochs=...), or steps=",
    ),
    (lambda: fit(X, Y, metrics=["f1"]), TypeError, "callbacks=[bpx.Metric(name, function)]"),
    (lambda: fit(X, Y, loss="mse"), TypeError, "the network has it, bpx.Network(..., cost=...)"),
    (lambda: fit(X, Y, batchsize=2), TypeError, "no batchsize=; did you mean 'batch_size'? Known"),
    (lambda: bpx.Adam(lr=0.1), TypeError, "Adam takes no lr=; did you mean 'learning_rate'?"),
    (lambda: bpx.SGD(lr=0.1), TypeError, "SGD takes no lr=; did you mean 'learning_rate'?"),
    (lambda: bpx.RMSprop(eps=0.1), TypeError, "RMSprop takes no eps=; did you mean 'epsilon'?"),
    (lambda: bpx.AdamW(beta_1=0.1), TypeError, "AdamW takes no beta_1=; did you mean 'beta1'?"),
    (lambda: bpx.AdamW(betas=(0.9, 0.99)), TypeError, "here they are beta1= and beta2="),
    (lambda: bpx.SGD(0.1, weight_decay=1e-4), TypeError, "fit has it, as l2=, which it divides"),
    (
        lambda: net(activation="relu"),
        TypeError,
        'Network takes no activation=: here it is hidden="relu", and output= for the last layer',
    ),
    (
        lambda: net(loss="mse"),
        TypeError,
        'Network takes no loss=: here it is cost="cross-entropy"',
    ),
    (lambda: net(learning_rate=0.1), TypeError, "fit(..., optimizer=bpx.SGD(0.1))"),
    (lambda: net(optimizer="adam"), TypeError, "it is for training, fit(..., optimizer="),
    (lambda: net(cost="mean-squared-error"), ValueError, "did you mean 'quadratic'?"),
    (lambda: net(cost="crossentropy"), ValueError, "did you mean 'cross-entropy'?"),
    (lambda: net(cost="ce"), ValueError, "did you mean 'cross-entropy'?"),
    (
        lambda: net(cost="sparse_categorical_crossentropy"),
        ValueError,
        "did you mean 'log-likelihood'?",
    ),
    (lambda: net(weights="he"), ValueError, "did you mean 'he-normal'?"),
    (lambda: net(weights="kaiming"), ValueError, "did you mean 'he-normal'?"),
    (lambda: net(weights="lecun"), ValueError, "did you mean 'lecun-normal'?"),
    (lambda: net(weights="large"), ValueError, "'large'; did you mean 'normal'?"),
    (lambda: net(weights="gaussian"), ValueError, "'gaussian'; did you mean 'normal'?"),
    (lambda: net(weights="glorot"), ValueError, "did you mean 'glorot-uniform'?"),
    (
        lambda: net(weights="constant"),
        ValueError,
        "'constant' needs its value: pass bpx.initializers.Constant(value=...)",
    ),
    (lambda: net(weights="kaiming_uniform"), ValueError, "did you mean 'he-uniform'?"),
    (
        lambda: bpx.Activation("relu"),
        TypeError,
        "Activation takes no 'relu': σ(z) is .forward(np, z), and a layer bpx.layers.Activation(",
    ),
    (
        lambda: bpx.Network([layers.Input(3), layers.Dense(2), bpx.activations.ReLU()]),
        TypeError,
        "got ReLU() at position 2: bpx.layers.Activation(...) makes a layer of an activation",
    ),
    (lambda: fit(X, Y)["cost"], KeyError, "no column 'cost'; did you mean 'training_cost'?"),
    (lambda: fit(X, Y)["loss"], KeyError, "no column 'loss'; did you mean 'training_cost'?"),
    (
        lambda: bpx.History.of({"epoch": [1], "f1": [np.nan]}).best_epoch("f1"),
        ValueError,
        "expected a number in the history's f1, got only NaN",
    ),
    (lambda: bpx.History().best_epoch("epoch"), KeyError, "no epoch has ended yet"),
    (lambda: bpx.History()["cost"], KeyError, "no epoch has ended yet"),
    (lambda: bpx.History().plot(), ValueError, "nothing to draw"),
    (lambda: bpx.batches(X, Y[:2]), ValueError, "expected as many rows in y as in x, 4, got 2"),
    (lambda: bpx.batches(X[:0]), ValueError, "expected at least one sample"),
    (lambda: bpx.batches(X, Y, 9), ValueError, "expected 1 <= batch_size <= n = 4"),
    (
        lambda: bpx.datasets.digits("int8"),
        ValueError,
        "expected dtype 'float32', 'float64' or 'uint8'",
    ),
]


def test_hints_leave_signatures_as_they_are():
    given = inspect.signature(bpx.Adam).parameters
    assert list(given) == ["learning_rate", "beta1", "beta2", "epsilon", "epsilon_hat"]
    assert given["beta1"].default == 0.9
    assert list(inspect.signature(bpx.Activation).parameters) == []
    for call in (bpx.Network, bpx.Network.fit):
        kinds = {each.kind for each in inspect.signature(call).parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


test_message = messages.test_of(CASES)


@pytest.mark.parametrize(
    ("shape", "told"),
    [((32, 32, 3), True), ((28, 28, 1), True), ((3, 32, 32), False), ((8, 8, 8), False)],
)
@pytest.mark.parametrize("first", [layers.Conv2D(2, 3, padding="same"), layers.Upsample2D(2)])
def test_channels_that_come_last_are_told(first, shape, told):
    chain = [layers.Input(shape), first, layers.Flatten()]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        net = bpx.Network([*chain, layers.Dense(2)])
        bpx.Network(
            [layers.Input(5), layers.Dense(np.prod(shape)), layers.Reshape(shape), *chain[1:]]
        )
        bpx.Ensemble.of(2, net)
    assert [each.filename for each in found] == [__file__] * told
    if told:
        height, width, channels = shape
        assert f"Input(({channels}, {height}, {width}))" in str(found[0].message)


def test_what_a_library_has_beside_arrays_is_none():
    torch = pytest.importorskip("torch")
    one = net()
    x = torch.zeros((4, 3))
    loader = torch.utils.data.DataLoader(x)
    for wrong in (loader, torch.nn.Linear(2, 2), torch.float32):
        with pytest.raises(TypeError, match="expected x to be an array of numbers, got"):
            one.predict(wrong)
    for wrong in (torch.device("cpu"), torch.float32):
        with pytest.raises(bpx.BackendError, match="name of a backend, a namespace or an array"):
            one.to(wrong)
    assert one.to(dtype=torch.float64).dtype == net(dtype=torch.float64).dtype == "float64"
    with pytest.raises(
        TypeError, match=r"a sparse tensor, which is not accepted here: pass x\.to_dense"
    ):
        one.predict(x.to_sparse())


def test_what_begins_alike_is_meant_before_what_is_spelled_alike():
    assert nearest("weight", ["height", "weight kg"]).startswith("; did you mean 'weight kg'?")
    several = nearest("weight", ["height", "weight kg", "weight lb"])
    assert several.startswith("; did you mean 'height'?")


def test_nothing_is_trained_by_a_call_that_is_refused():
    one = net()
    before = one.parameters.copy()
    with pytest.raises(ValueError, match="NaN"):
        one.fit(NAN, Y)
    assert np.array_equal(one.parameters, before)
    assert one.optimizer is None


def broken(run):
    raise RuntimeError("of a callback's own")


class Broken(bpx.Callback):
    on_fit_begin = staticmethod(broken)


def refuses(*arguments, **options):
    raise PermissionError("Permission denied")


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": bpx.EarlyStopping(monitor="validation_cost")},
        {"callbacks": Broken()},
        {"graph": True},
        {"resume": True, "batch_size": 2},
        {"checkpoint": "a folder that cannot be written to"},
        {"shuffle": lambda: ["no", "rows"]},
        {"data": [(X, None)]},
        {"data": []},
    ],
    ids=["monitor", "callback", "graph", "resume", "checkpoint", "shuffle", "batch", "none"],
)
def test_what_was_trained_goes_on_after_a_call_that_is_refused(options, tmp_path, monkeypatch):
    one, other = net(), net()
    for each in (one, other):
        each.fit(X, Y, epochs=2, optimizer=bpx.Adam(0.1))
    history = one.history
    if "resume" in options:
        net().fit(X, Y, epochs=1, batch_size=1, checkpoint=tmp_path)
        options = options | {"checkpoint": tmp_path}
    elif "checkpoint" in options:
        options = {"checkpoint": tmp_path}
        monkeypatch.setattr("os.replace", refuses)
    data = [options["data"]] if "data" in options else [X, Y]
    options = {name: value for name, value in options.items() if name != "data"}
    with pytest.raises((ValueError, RuntimeError, OSError)):
        one.fit(*data, epochs=2, optimizer=bpx.SGD(0.5), **options)
    assert one.history is history
    for each in (one, other):
        each.fit(X, Y, epochs=2)  # by Adam, with its memory
    assert np.array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_squares_that_overflow_are_of_finite_numbers(dtype):
    x = np.full((4, 3), np.finfo(dtype).max, dtype)
    with np.errstate(all="raise"):
        check_finite_rows(x, "x")
    x[2, 1] = -np.inf
    with pytest.raises(ValueError, match="x has NaN or infinity, first in row 2"):
        check_finite_rows(x, "x")


@pytest.mark.parametrize("layout", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_the_last_of_many_numbers_is_looked_at(layout, wrong):
    shape = 400, 1000  # more than are squared at once
    x = np.ones(shape[::-1]).T if layout == "columns" else np.ones(shape)
    x = np.ones((800, 2000))[::2, ::2] if layout == "gaps" else x
    check_finite_rows(x, "x")
    x[399, 999] = wrong
    with pytest.raises(ValueError, match="x has NaN or infinity, first in row 399"):
        check_finite_rows(x, "x")


@pytest.mark.parametrize("y", [[1, 0], X[1:], Y[:3], 1.0], ids=["list", "rows", "labels", "one"])
def test_what_cannot_be_the_targets_of_a_cost_gets_no_advice(y):
    with pytest.raises(ValueError, match=r"expected y of the shape of a, \(4, 3\), got [^:]*$"):
        bpx.costs.Quadratic().value(np, X, y)


def test_check_finite_false_lets_it_through():
    with pytest.raises(bpx.DivergenceError):
        fit(NAN, Y, check_finite=False)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "float16", "float64", ">f4"])
def test_numbers_are_converted(dtype):
    x = np.ones((4, 3)).astype(dtype)
    fit(x, Y)
    assert np.array_equal(net().feedforward(x), net().feedforward(np.ones((4, 3), np.float32)))


def test_lists_and_read_only_and_strided_inputs_work(rng):
    x, wide = rng.normal(size=(4, 3)), np.zeros((8, 6))
    frozen, wide[::2, ::2] = x.copy(), x
    frozen.flags.writeable = False
    expected = fit(x, Y)["training_cost"]
    for given in x.tolist(), frozen, wide[::2, ::2], np.asfortranarray(x):
        assert fit(given, Y.tolist())["training_cost"] == expected


def test_device_arrays_and_a_host_network():
    strict = pytest.importorskip("array_api_strict", reason="it has devices that are not the host")
    x = strict.zeros((4, 3), device=strict.Device("device1"))
    with pytest.raises(bpx.BackendError, match='backend="array_api_strict:device1"'):
        net().feedforward(x)


def test_two_samples_in_lists_are_not_pairs_of_x_and_y():
    one = net()
    one.fit([*X[:2]], [*Y[:2]], epochs=1)
    assert one.steps == 1


def test_host_arrays_are_moved_to_a_device():
    strict = pytest.importorskip("array_api_strict", reason="it has devices that are not the host")
    one = net(backend="array_api_strict:device1")
    assert one.feedforward(X).device == strict.Device("device1")


def copied(x, shape):
    return np.array(np.reshape(x, shape))


def failing(x, shape):
    raise RuntimeError("out of memory")  # as CuPy's and PyTorch's own errors are


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (copied, "'other' cannot train: its slices are copies"),
        (failing, "'other' is there, but a first operation on it fails: out of memory"),
    ],
)
def test_a_namespace_without_views_or_on_a_device_that_does_not_work(way, expected):
    class Other:
        """numpy, which reshapes in another way."""

        __name__ = "other"
        reshape = staticmethod(way)

        def __getattr__(self, name):
            return getattr(np, name)

    with pytest.raises(bpx.BackendError, match=f"backend {expected}"):
        bpx.Network([2, 1], backend=Other())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_parts_of_ones_own_return_may_be_of_another_dtype(dtype):
    """Such as a constant slope, booleans, or what NumPy makes of a float64 scalar."""
    step = activation(lambda xp, z: z > 0, lambda xp, z, a: 1.0)
    other = activation(lambda xp, z: z.astype("float64") * 2, lambda xp, z, a: np.full(z.shape, 2))
    one = bpx.Network([3, 4, 4, 2], hidden=[step, other], seed=0, dtype=dtype)
    one.fit(np.ones((4, 3)), Y, epochs=1)
    assert np.isfinite(one.parameters).all()


def test_only_a_checkpoint_is_sent_elsewhere():
    with pytest.raises(TypeError, match=r"got an int$"):
        bpx.Network([2, 2]).fit([[0.0, 1.0]], [0], callbacks=[3])
