"""Data that look like a mistake: what `fit` warns of before its first step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..activations import Identity
from ..backends import Array, is_sparse, on_host
from ..checks import warn
from ..costs import GaussianNLL, Huber, MeanAbsoluteError, Quadratic, Quantile
from ..data import arrays
from ..frames import column
from ..layers import Dense, Dropout, Flatten, Permute, Reshape
from ..layers.convolution import Convolution
from ..names import Names
from ..network import Network

# Rows that are looked at; steps of float32 that a column should have between its ends.
LOOKED_AT, FEW_STEPS = 100, 500.0

# The root mean square of z in the first layer, from which networks learn little. Images of MNIST
# from 0 to 64 begin at 21, and sigmoids reach 60 % where they reach 91 from 0 to 1, ReLU 11 and 95
# (five epochs of 2,000 images, SGD(0.1)). The networks of the book's chapter 1 begin at 9.
FAR = 20.0

# η ‖x‖², by which a step of SGD moves z for a δ of 1, and from which these activations learn
# little: ReLU on the digits, from 0 to 9.6, 12.8 and 16, is at 140, 250 and 380, and has 96, 86
# and 30 % after ten epochs with η = 0.1; on 2,000 images of MNIST from 0 to 6 and 9.6, at 310 and
# 750, 87 and 39 %, where Adam has 90. Sigmoids lose nothing there, tanh and leaky ReLU little.
FAR_STEP = 200.0
STEPPING = {"relu", "elu", "gelu", "silu", "softplus"}

# The mean or standard deviation of y, and its smallest standard deviation, at which regressions
# creep or diverge whose outputs begin at about 1. After 1,500 steps, 36 of them (three activations
# of 30 hidden units, three costs, SGD and Adam with two rates each) explained 93 % of the variance
# of a standardized y (the median), 62 % at a standard deviation of 100, 13 % at a mean of 100; and
# none of them any of it at a standard deviation of 0.001.
FAR_TARGETS, NEAR_TARGETS = 100.0, 0.001


def warn_of_several(net: Network, y: Array, what: str) -> None:
    """A RuntimeWarning if targets of a classification name several classes in one row."""
    row = arrays.first_of_several(net.backend, y) if net.task == "classification" else None
    if row is not None:
        warn(
            f"{what} has rows with more than one number above ½, first row {row}, and accuracy "
            'and predict of a classification ask for one class: use task="multilabel" for labels '
            'that are there or not, task="regression" for numbers'
        )


def warn_of_coarse(net: Network, x: Any, names: Names | None) -> None:
    """A RuntimeWarning if a column varies by less than float32 tells apart, where x is finer."""
    finer = isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind in "iuf"
    if not finer or x.dtype.itemsize < (8 if x.dtype.kind == "f" else 4):
        return
    if net.dtype != "float32" or net.chain.architecture.folded:  # which scales in float64
        return
    rows = x[:: -(-len(x) // LOOKED_AT)].astype(np.float64)
    low, high = rows.min(axis=0), rows.max(axis=0)
    with np.errstate(all="ignore"):  # not checked for infinity, or as small as zero
        steps = (high - low) / np.spacing(np.maximum(-low, high).astype(np.float32))
    coarse = np.flatnonzero((steps > 0.0) & (steps < FEW_STEPS))
    if len(coarse):
        k = int(coarse[0])
        remedy = "begin the network with bpx.layers.Rescale.standardizing(x), or make it"
        if net.chain.architecture.indices:  # which a Rescale before them would change
            remedy = "subtract its mean, or make the network"
        warn(
            f"{column(k, names and names.columns)} of x goes from {low[k]:.9g} to {high[k]:.9g}, "
            f"which float32 tells apart in {steps[k]:.0f} steps: {remedy} with dtype='float64'"
        )


def warn_of_scale(net: Network, x: Any, eta: float) -> None:
    """A RuntimeWarning if the first layer begins where networks learn little, since x is large.

    `eta` is the learning rate of SGD, whose steps grow with x; 0 for other optimizers.
    """
    shapes = Flatten, Reshape, Permute, Dropout
    k = next((k for k, each in enumerate(net.layers) if not isinstance(each, shapes)), 0)
    layer, chain, xp = net.layers[k], net.chain, net.backend.xp
    if not isinstance(layer, Dense | Convolution) or not layer.trainable:
        return
    if k == len(net.layers) - 1 or layer.activation.kernel == "identity":  # for a BatchNorm
        return
    with np.errstate(all="ignore"):  # the steps say what is not finite
        m, each = min(x.shape[0], 64), math.prod(x.shape[1:])
        values = xp.abs(_numbers(net, x, m))
        if 0 in values.shape or not (largest := float(xp.max(values))) > 1.0:
            return
        typical = largest * math.sqrt(float(xp.sum((values / largest) ** 2)) / (m * each))
        weights = chain.p[k].weights
        z = typical * math.sqrt(float(xp.sum(weights**2)) / weights.shape[0])
        step = eta * typical**2 * each
    if z > FAR and typical > 0.5 * FAR:  # and not the weights that are large
        why, adam = f"the sums z of {layer} begin at about {z:.3g}, where", ""
    elif step > FAR_STEP and typical > 2.0 and layer.activation.name in STEPPING:
        step_is = f"moves the sums z of {layer} by {step:.3g} times the error δ"
        why, adam = f"a step of SGD({eta:.3g}) {step_is}, where", ", or pass optimizer=bpx.Adam()"
    else:
        return
    hint = "Rescale(1 / 255)" if str(x.dtype).endswith("uint8") else "Rescale.standardizing(x)"
    remedy = (
        "divide each column by its largest number, as scikit-learn's MaxAbsScaler does"
        if is_sparse(x)
        else f"scale x, for example by bpx.layers.{hint} as the first layer, or for an estimator "
        "by make_pipeline(StandardScaler(), ...)"
    )
    warn(
        f"x is far from 1: its root mean square is {typical:.3g} in the first {m} rows, so {why} "
        f"networks learn little: {remedy}{adam}"
    )


def _numbers(net: Network, x: Any, m: int) -> Array:
    """Those of the first m rows; of a sparse x those that are stored, as zeros are not large."""
    if is_sparse(x):
        return net.backend.from_host(x[:m].data)
    return net.chain.gather(x, slice(0, m), net.chain.workspace())


def warn_of_targets(net: Network, x: Any, y: Array, names: Names | None) -> None:
    """A RuntimeWarning if a regression begins with outputs of quite another size than y's."""
    objective, n = net.chain.objective, y.shape[0]
    costs = Quadratic, MeanAbsoluteError, Huber, Quantile, GaussianNLL
    if net.task != "regression" or type(objective.cost) not in costs:
        return
    if type(objective.activation) is not Identity:
        return
    with np.errstate(all="ignore"):  # the steps say what is not finite
        mean, spread = _columns(arrays.take(y, np.arange(0, n, -(-n // LOOKED_AT))))
        far = np.maximum(abs(mean), spread)
        # One that is constant but for rounding is not small.
        near = 1e-12 * far.max() < spread.max() < NEAR_TARGETS
        if near:  # in all rows: a rare, large one may not be among them
            near = _columns(y)[1].max() < NEAR_TARGETS
        if not near and far.max() <= FAR_TARGETS:
            return
        a, count = net(arrays.take(x, np.arange(min(n, LOOKED_AT)))), len(mean)
        predicted = objective.cost.predictions(a, count)
        middle, size = _columns(a[:, :count] if predicted is None else predicted)
        if near:  # and the outputs are not: a last Rescale may see to that
            found = np.hypot(middle - mean, size) * NEAR_TARGETS > spread.max()
        else:
            found = np.maximum(abs(mean - middle), spread) > FAR_TARGETS * np.maximum(size, 1.0)
    if found.any():
        k = int(found.argmax())
        what = f"{column(k, names and names.target_columns)} of y" if len(found) > 1 else "y"
        warn(
            f"{what} is far from 1: its mean is {mean[k]:.3g} and its standard deviation "
            f"{spread[k]:.3g} in the rows looked at, and the outputs begin at {middle[k]:.2g} ± "
            f"{size[k]:.2g}, from where training creeps or diverges: train on "
            "(y - y.mean(axis=0)) / y.std(axis=0), see Scaling in docs/networks.md, or for an "
            "estimator by TransformedTargetRegressor(..., transformer=StandardScaler())"
        )


def _columns(rows: Array) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each column."""
    host = on_host(rows).reshape(rows.shape[0], -1).astype(np.float64)
    return host.mean(axis=0), host.std(axis=0)
