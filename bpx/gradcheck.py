"""The gradient against central differences: the oracle of backpropagation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backends import is_sparse, on_host
from .checks import positive, warn
from .network import Network

AT_MOST = 10_000_000  # passes times rows: half a minute or so; MNIST whole would take months


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """How far backpropagation is from central differences.

    Attributes
    ----------
    errors : dict of float
        ‖g − ĝ‖ / max(‖g‖, ‖ĝ‖) by parameter tensor, ``"layers.0.weights"``, and for ``"inputs"``;
        0 where both are zero, or no more than what rounding of the cost makes of zero, as for a
        bias before a `BatchNorm`.
    worst : float
        The largest.

    Examples
    --------
    >>> from bpx import GradientCheck
    >>> GradientCheck({"layers.0.weights": 2e-10, "inputs": 5e-10})
    layers.0.weights  2.00e-10
    inputs            5.00e-10
    worst             5.00e-10
    """

    errors: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest of `errors`; NaN, if one of them is."""
        return float(np.max(list(self.errors.values())))  # NaN is the worst

    def __repr__(self) -> str:
        width = max(map(len, self.errors))
        lines = [f"{name:<{width}}  {error:.2e}" for name, error in self.errors.items()]
        return "\n".join([*lines, f"{'worst':<{width}}  {self.worst:.2e}"])


def gradient_check(
    net: Network,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l1: float = 0.0,
    l2: float = 0.0,
    epsilon: float = 1e-5,
) -> GradientCheck:
    """Compare `Network.backprop` with (C(θ + ε) − C(θ − ε)) / 2ε, one element at a time.

    It takes two passes per parameter and per element of x: use a small network and few samples; a
    RuntimeWarning says so before minutes or hours begin. The check runs on a float64 copy on the
    same backend; a device without float64 checks in float32 and can only show gross errors. Random
    layers draw the same masks in every pass.

    Parameters
    ----------
    net : Network
    x, y, sample_weight : array
        As for `Network.backprop`.
    l1, l2 : float
        Penalties, divided by the rows of x.
    epsilon : float
        ε. In float64 errors of about 1e-10 come from rounding; below 1e-7 a gradient is right,
        unless an input of ReLU lies within ε of its kink. Inputs far from zero are rounded to more
        than ε · 1e-7, and so are the differences.

    Returns
    -------
    GradientCheck

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([3, 4, 2], seed=0)
    >>> bpx.gradient_check(net, [[0.1, -0.4, 0.3], [0.5, 0.2, -0.1]], [0, 1]).worst < 1e-7
    True
    """
    if not isinstance(net, Network):
        raise TypeError(
            f"expected the network first, gradient_check(net, x, y), got {type(net).__name__}"
        )
    epsilon = positive("epsilon", epsilon)
    twin = net.copy() if "float64" in net.backend.lacks else net.to(dtype="float64")
    samples = twin.samples(x, y, sample_weight)
    _warn_of_time(twin, samples.n)
    host = samples.x.toarray() if is_sparse(samples.x) else on_host(samples.x)
    xs = np.array(host, dtype=twin.dtype)
    n, chain = samples.n, twin.chain
    weight = None if samples.weight is None else twin.backend.to_host(samples.weight)
    ws = chain.workspace(training=True)
    state = twin.backend.to_host(twin.state).copy()
    analytic = twin.backprop(xs, y, sample_weight=samples.weight, l1=l1, l2=l2, n=n, step=0)
    flat = twin.backend.to_host(analytic.flat)
    theta = twin.backend.to_host(twin.parameters).copy()
    assert analytic.cost is not None  # since y is given
    # Differences of a cost that is right to the last digit are of this size; it is not quite.
    rounding = 100.0 * np.finfo(np.float64).eps * abs(float(analytic.cost)) / epsilon

    def cost(theta: np.ndarray, inputs: np.ndarray) -> float:
        twin.parameters[...] = twin.backend.from_host(theta)
        twin.state[...] = twin.backend.from_host(state)
        gathered = chain.gather(twin.backend.from_host(inputs), slice(None), ws)
        values, *_ = chain.cost_and_delta(gathered, samples.y, ws)
        mean = np.average(twin.backend.to_host(values), weights=weight)
        return float(mean) + chain.penalty(n, l1, l2)

    errors = {}
    for entry in twin.layout.entries:
        if entry.start < twin.layout.trained:
            part = np.arange(entry.start, entry.stop)
            estimate = _differences(lambda moved: cost(moved, xs), theta, part, epsilon)
            errors[entry.path] = relative_error(flat[entry.start : entry.stop], estimate, rounding)
    moving = np.ones((n, math.prod(twin.input_shape)), bool)
    for indices in chain.architecture.indices:  # whole numbers do not move
        moving[:, indices.columns or slice(None)] = False
    elements = np.flatnonzero(moving)
    if not len(elements):
        return GradientCheck(errors)
    estimate = _differences(
        lambda moved: cost(theta, moved.reshape(xs.shape)), xs.reshape(-1), elements, epsilon
    )
    inputs = twin.backend.to_host(analytic.inputs).reshape(-1)[elements]
    errors["inputs"] = relative_error(inputs, estimate, rounding)
    return GradientCheck(errors)


def _warn_of_time(net: Network, n: int) -> None:
    """A RuntimeWarning where it takes long, in which fewer samples would show the same."""
    passes = 2 * (net.layout.trained + n * math.prod(net.input_shape))
    if passes * n > AT_MOST:
        fewer = "pass few samples, x[:10], y[:10], or" if n > 10 else "make"
        warn(f"a check of {passes:,} passes over {n:,} rows takes long: {fewer} a smaller network")


def _differences(cost: Any, values: np.ndarray, part: Any, epsilon: float) -> np.ndarray:
    found = np.empty(len(part))
    for position, index in enumerate(part):
        moved, at = values.copy(), values[index]
        step = max(epsilon, 16.0 * np.spacing(abs(at)))  # less would not change 1e12
        moved[index] = right = at + step
        above = cost(moved)
        moved[index] = left = at - step
        found[position] = (above - cost(moved)) / (right - left)  # by the distance really moved
    return found


def relative_error(a: np.ndarray, b: np.ndarray, rounding: float) -> float:
    """‖a − b‖ / max(‖a‖, ‖b‖), and 0 where no element of either is more than `rounding`."""
    if np.abs([a, b]).max() <= rounding:
        return 0.0
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(v)) for v in (a, b))
