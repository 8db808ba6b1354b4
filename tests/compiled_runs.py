"""Compiled runs beside the same steps in Python: what their tests have in common."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import bpx
from bpx.backends._fast import FastBackend
from bpx.backends._numpy import NumpyBackend
from bpx.training import trainer

FROM_A = ("identity", "sigmoid", "tanh", "relu", "softmax")
HIDDEN = (
    *(*FROM_A, "gelu", "silu", "softplus"),
    *(bpx.activations.LeakyReLU(slope) for slope in (0.01, 0.3, -0.5)),
    *(bpx.activations.ELU(alpha) for alpha in (1.0, 0.3)),
)
ENDS = (
    ("quadratic", "identity"),
    ("quadratic", "sigmoid"),
    ("quadratic", "tanh"),
    ("quadratic", "relu"),
    ("quadratic", "softmax"),
    ("quadratic", "silu"),
    ("quadratic", "elu"),
    ("cross-entropy", "sigmoid"),
    ("log-likelihood", "softmax"),
)
OPTIMIZERS = (
    bpx.SGD(0.3),
    bpx.SGD(0.1, momentum=0.9),
    bpx.SGD(0.1, momentum=0.9, nesterov=True),
    bpx.SGD(bpx.schedules.Exponential(0.3, 2, 0.9)),
    bpx.RMSprop(),
    bpx.Adam(0.01),
    bpx.AdamW(0.01, weight_decay=0.1),
)


class Steps(NumpyBackend):
    """NumPy's kernels, called by the layers."""

    def compile(self, program):
        return None


STEPS, PLAIN, FAST = Steps(), NumpyBackend(), FastBackend()


def installed(backend):
    """The same backend; a skip where it is Numba's and that is not here."""
    if backend is FAST:
        pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
        pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    return backend


def fits(backends, make, x, y, *, compiled=True, **options):
    """Networks of `make`, trained step by step on the first backend, compiled on the second."""
    nets = []
    for backend in backends:
        net = make(backend)
        seen = []
        original = trainer.compiled

        def spy(*arguments, seen=seen, original=original):
            found = original(*arguments)
            seen.append(found is not None)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "compiled", spy)
            net.fit(x, y, **options)
        assert any(seen) == (backend is backends[1] and compiled), "compiled, and not a fallback"
        nets.append(net)
    return nets


def agree(one, two, dtype="float64", loose=1.0):
    tolerance = {"float64": 1e-12, "float32": 2e-6}[dtype] * loose
    size = np.abs(one.parameters).max()
    assert np.abs(one.parameters - two.parameters).max() <= tolerance * size
    for column, expected in one.history.row().items():
        if column != "seconds":
            assert abs(two.history.row()[column] - expected) <= 10 * tolerance * (1 + expected)
    assert one.steps == two.steps
    assert one.optimizer_state.step == two.optimizer_state.step
    for name, slot in one.optimizer_state.slots.items():
        other = two.optimizer_state.slots[name]
        assert np.abs(slot - other).max() <= tolerance * np.abs(slot).max()
    assert np.abs(one.state - two.state).max(initial=0.0) <= tolerance * size


def of_each_kind(rng, x, y):
    """Networks (from a backend), data and options: weights, frozen layers, no bias, the tasks.

    `y` are labels of four classes. A first mini-batch has no weight at all.
    """
    weight = rng.random(len(x)) * (rng.random(len(x)) < 0.7)
    weight[:5] = 0.0
    dense, n = bpx.layers.Dense, x.shape[1]
    options = {"epochs": 2, "batch_size": 5, "optimizer": bpx.SGD(0.2), "shuffle": False}
    for first, second, use_bias in itertools.product((True, False), repeat=3):

        def frozen(backend, first=first, second=second, use_bias=use_bias):
            return bpx.Network(
                [bpx.layers.Input(n), dense(6, "tanh", trainable=first),
                 dense(5, "relu", trainable=second, use_bias=use_bias), dense(4, "softmax")],
                seed=0, dtype="float64", backend=backend,
            )  # fmt: skip

        yield frozen, x, y, options | {"sample_weight": weight}
    for task, outputs, targets in (
        ("multilabel", 4, rng.integers(2, size=(len(x), 4))),
        ("classification", 1, y % 2),
        ("regression", 1, rng.normal(size=len(x))),
    ):

        def of_task(backend, task=task, outputs=outputs):
            output = "identity" if task == "regression" else "sigmoid"
            cost = "quadratic" if task == "regression" else "cross-entropy"
            return bpx.Network([n, 6, outputs], output=output, cost=cost, task=task, seed=0,
                               dtype="float64", backend=backend)  # fmt: skip

        yield of_task, x, targets, options


def dropping(backend, inputs=7, outputs=4, dtype="float64"):
    """A network whose first, second and last layers have a `Dropout` before them."""
    dense, dropout = bpx.layers.Dense, bpx.layers.Dropout
    return bpx.Network(
        [bpx.layers.Input(inputs), dropout(0.1), dense(11, "tanh"), dropout(0.5),
         dense(9, "softmax"), dropout(0.0), dense(13, "relu"), dropout(0.25),
         dense(outputs, "softmax")], seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def bending(backend, inputs=7, outputs=4, dtype="float64"):
    """A network whose σ' are kept, some of them with masks."""
    dense, dropout, activation = bpx.layers.Dense, bpx.layers.Dropout, bpx.layers.Activation
    return bpx.Network(
        [bpx.layers.Input(inputs), dense(11, "gelu"), dropout(0.5), dense(9), activation("silu"),
         dense(13, bpx.activations.ELU(0.3)), dropout(0.25), dense(outputs, "softmax")],
        seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def normalizing(backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)):
    """A network with both norms, before σ of each kind; `trained` are the first three layers."""
    (first, norm, other), of = trained, bpx.layers
    return bpx.Network(
        [of.Input(inputs), of.Dense(11, use_bias=False, trainable=first), of.BatchNorm(),
         of.Activation("tanh"), of.Dropout(0.25), of.Dense(9, trainable=first),
         of.LayerNorm(trainable=norm), of.Activation("softmax"),
         of.Dense(33, use_bias=False, trainable=other), of.BatchNorm(0.3, 1e-3),
         of.Activation("relu"), of.Dense(8), of.LayerNorm(epsilon=1e-3),
         of.Dense(outputs, "softmax")], seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def normalizing_activations(
    backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)
):
    """A network with both norms on its inputs and after σ of each kind, some with masks and sums.

    With ε that is large beside the variance of a few rows, by which roundings are divided.
    """
    (first, norm, other), of = trained, bpx.layers
    batch, layer = of.BatchNorm(0.3, 0.1), of.LayerNorm(epsilon=0.1)
    return bpx.Network(
        [of.Input(inputs), of.Rescale(0.5), of.LayerNorm(epsilon=0.1, trainable=other),
         of.Dropout(0.1), of.Dense(11, "relu", use_bias=False, trainable=first), batch,
         of.Dropout(0.25), of.Dense(9, "gelu", trainable=first),
         of.LayerNorm(epsilon=0.1, trainable=norm), of.Dropout(0.5),
         of.Dense(13, "silu", trainable=other), batch,
         of.Residual([of.Dense(8, "tanh"), of.Dense(13, use_bias=False)]), of.Activation("tanh"),
         of.LayerNorm(trainable=False), of.Dense(33, use_bias=False), batch, of.Activation("elu"),
         batch, of.Dense(8, "softmax"), layer,
         of.Residual([of.Dense(9), layer, of.Activation("sigmoid"), of.Dense(8)]), layer,
         of.Dense(outputs, "softmax")], seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def summing(backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)):
    """A network of sums: of its inputs, one after another, around masks, norms and kept σ'."""
    (first, second, third), of = trained, bpx.layers
    return bpx.Network(
        [of.Input(inputs), of.Residual([of.Dense(11, "gelu"), of.Dense(inputs, trainable=first)]),
         of.Dense(9, "tanh", trainable=second),
         of.Residual([of.Dense(13, use_bias=False), of.LayerNorm(), of.Activation("relu"),
                      of.Dropout(0.3), of.Dense(9, trainable=third)]),
         of.Residual([of.Dense(9, trainable=first)]), of.Activation("silu"), of.Dropout(0.2),
         of.Dense(8, "softmax"), of.Residual([of.Dense(5, "sigmoid"), of.Dense(8)]),
         of.Activation("softmax"), of.Dense(outputs, "softmax")],
        seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def pre_normed(backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)):
    """A network of sums around blocks that begin with a norm, with masks and kept σ'."""
    (first, norm, other), of = trained, bpx.layers
    batch, layer = of.BatchNorm(0.3, 0.1), of.LayerNorm(epsilon=0.1)
    return bpx.Network(
        [of.Input(inputs),
         of.Residual([batch, of.Dropout(0.1), of.Dense(9, "gelu", trainable=first),
                      of.Dense(inputs, trainable=first)]), of.Dense(9, "gelu", trainable=first),
         of.Residual([of.LayerNorm(epsilon=0.1, trainable=norm), of.Dense(13, "silu"),
                      of.Dropout(0.2), of.Dense(9, trainable=other)]),
         of.Residual([batch, of.Dropout(0.3), of.Dense(11, "relu", use_bias=False), layer,
                      of.Dense(9, trainable=norm)]), of.Activation("elu"),
         of.Residual([batch, of.Dense(33), of.LayerNorm(), of.Activation("softmax"), of.Dense(9),
                      of.Residual([layer, of.Dense(9, trainable=first)]), of.Activation("tanh"),
                      of.Dense(9)]), layer, of.Dropout(0.1), of.Dense(outputs, "softmax")],
        seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def numbered(x, columns=3):
    """The same with whole numbers from 0 to 5 in the first columns."""
    x = x.copy()
    x[:, :columns] = np.abs(3.0 * x[:, :columns]) // 1.0 % 6.0
    return x


def joining(backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)):
    """A network of a table with whole numbers below 6 in its columns 0 to 2, and a mask on it."""
    (first, second, third), of = trained, bpx.layers
    branches = [
        [of.Columns([2, 0]), of.Embedding(6, 3, trainable=first), of.Flatten()],
        [of.Columns([inputs - 1, 4, 5]), of.Columns([2, 0]), of.Rescale((0.5, 2.0), (1.0, -1.0))],
        [],
        [of.Columns([1]), of.Embedding(50, 17, trainable=second), of.Flatten()],
        [of.Columns(range(3, inputs))],
        [of.Columns([1, 0, 2]), of.Embedding(6, 5, trainable=first), of.Permute((1, 0)),
         of.GlobalAveragePool1D()],
    ]  # fmt: skip
    return bpx.Network(
        [of.Input(inputs), of.Concatenate(branches), of.Dropout(0.2),
         of.Dense(11, "tanh", trainable=third), of.Dense(9, "gelu", trainable=first),
         of.Dense(outputs, "softmax")], seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def looking_up(backend, inputs=7, outputs=4, dtype="float64", trained=(True, True, True)):
    """A network of whole numbers below 6 alone, and a sum of their vectors."""
    (first, second, third), of = trained, bpx.layers
    block = [of.Dense(13, "gelu", trainable=second), of.Dense(3 * inputs, trainable=third)]
    return bpx.Network(
        [of.Input(inputs), of.Embedding(40, 3, trainable=first), of.Flatten(),
         of.Residual(block), of.Activation("tanh"), of.Dense(outputs, "softmax")],
        seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


def averaging(backend, inputs=7, outputs=4, dtype="float64"):
    """A network of the mean of such vectors."""
    of = bpx.layers
    return bpx.Network(
        [of.Input(inputs), of.Embedding(6, 10), of.Permute((1, 0)), of.GlobalAveragePool1D(),
         of.Dense(outputs, "softmax")], seed=0, dtype=dtype, backend=backend,
    )  # fmt: skip


NORMALIZING = normalizing, normalizing_activations, pre_normed


def masked_and_clipped(rng, x, y):
    """The same with masks, and with a gradient that is clipped, where a layer is frozen too."""
    weight = rng.random(len(x))
    weight[:5] = 0.0
    options = {"epochs": 2, "batch_size": 5, "optimizer": bpx.Adam(), "sample_weight": weight}
    for make, _, _, given in list(of_each_kind(rng, x, y))[:8]:
        yield make, x, y, given | {"clip_norm": 0.05}
    for clip_norm in None, 0.05:
        yield dropping, x, y, options | {"clip_norm": clip_norm, "l1": 0.1, "l2": 0.1}
        yield bending, x, y, options | {"clip_norm": clip_norm, "l2": 0.1}
        words = numbered(x, x.shape[1])
        yield averaging, words, y, options | {"clip_norm": clip_norm, "l2": 0.1}
        for trained in itertools.product((True, False), repeat=3):
            for make in normalizing, normalizing_activations, summing, pre_normed:
                own = partial(make, trained=trained)
                yield own, x, y, options | {"clip_norm": clip_norm, "l2": 0.1}
            for make, columns in (joining, 3), (looking_up, x.shape[1]):
                own, table = partial(make, trained=trained), numbered(x, columns)
                yield own, table, y, options | {"clip_norm": clip_norm, "l2": 0.1}


def shifted(rng):
    """A network of float32 (from a backend), x and y: one scale, and offsets that cancel it."""
    layers = [bpx.layers.Input(3), bpx.layers.Rescale(0.001, (-1e4, -9999.0, -1e4)),
              bpx.layers.Dense(4, "tanh"), bpx.layers.Dense(2, "softmax")]  # fmt: skip

    def make(backend):
        return bpx.Network(layers, seed=0, dtype="float32", backend=backend)

    x = 1e7 + 1e3 * rng.integers(3, size=(23, 3))
    return make, x.astype(np.float32), rng.integers(2, size=23)


def divergence(backend, hidden, width):
    """Where a training is said to diverge, and after how many steps."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    net = bpx.Network([5, width, 2], hidden=hidden, output="identity", cost="quadratic", seed=0,
                      backend=backend)  # fmt: skip
    with pytest.raises(bpx.DivergenceError) as error:
        net.fit(x, y, epochs=50, batch_size=10, optimizer=bpx.SGD(1e6))
    assert np.isfinite(net.parameters).all()
    return error.value.epoch, error.value.step, error.value.layer, net.steps


def with_short_vectors(code, folder):
    """Run a program on vectors of 32 bytes, whatever the processor has; it prints "done"."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = os.environ | plain | {"NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    errors = [line for line in found.stderr.splitlines() if not line.startswith("compiling what")]
    assert (found.stdout, errors) == ("done\n", [])
