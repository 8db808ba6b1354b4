"""The gradient of one batch, by the four equations (ch. 2): what `Network.backprop` returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends import Array, Backend
from .backends._base import in_slices
from .chain import Chain, mean_factor
from .checks import takes
from .context import Workspace
from .data.arrays import Samples, check_y
from .elsewhere import ATTRIBUTES_OF_GRADIENTS
from .keywords import attr_hints
from .parameters import Layout, Space, Views, leaves, named, write


@attr_hints(**ATTRIBUTES_OF_GRADIENTS)
@dataclass(eq=False, repr=False)
class Gradient:
    """∂C/∂θ of the mean cost of a batch.

    Attributes
    ----------
    flat : array
        In the layout of ``net.parameters``; zero where layers are not trained. Assignment writes
        into it: ``grad.flat *= 0.5``.
    weights, biases : Views
        Into `flat`, shaped like ``net.weights`` and ``net.biases``.
    inputs : array
        ∂C/∂x, (m, ...); None if it was not asked for.
    cost : array
        The mean cost itself, 0-d and without penalties; None after an output_gradient.

    Examples
    --------
    >>> import bpx
    >>> grad = bpx.Network([2, 3, 1], seed=0).backprop([[0.0, 1.0]], [1])
    >>> [w.shape for w in grad.weights], [b.shape for b in grad.biases], grad.inputs.shape
    ([(3, 2), (1, 3)], [(3,), (1,)], (1, 2))
    >>> grad.flat *= 0.5
    >>> grad
    <Gradient of (3, 2), (3,), (1, 3), (1,), of a cost of 1.35635>
    """

    _flat: Array
    inputs: Array
    cost: Array
    backend: Backend
    layout: Layout

    @property
    def flat(self) -> Array:
        """∂C/∂θ in one vector, in the layout of ``net.parameters``."""
        return self._flat

    @flat.setter
    def flat(self, values: Any) -> None:
        write(self._flat, values, "the gradient")
        self.layout.clear_padding(self._flat)

    @cached_property
    def _views(self) -> list[Space]:
        return self.layout.views(self.backend.xp, self._flat)

    @property
    def weights(self) -> Views:
        """∂C/∂ω, shaped like ``net.weights``."""
        return named(self._views, "weights", "grad.weights")

    @property
    def biases(self) -> Views:
        """∂C/∂b, shaped like ``net.biases``."""
        return named(self._views, "bias", "grad.biases")

    def __repr__(self) -> str:
        shapes = [tuple(tensor.shape) for space in self._views for _, tensor in leaves(space)]
        cost = "" if self.cost is None else f", of a cost of {float(self.cost):.6g}"
        return f"<Gradient of {', '.join(map(str, shapes))}{cost}>"

    if not TYPE_CHECKING:  # to a checker it is no number, and nothing to unpack

        def __getitem__(self, index: Any) -> Any:
            """TypeError, for ``nabla_b, nabla_w = net.backprop(x, y)``, as in the book.

            With an ``__iter__`` it would pass for an iterable of mini-batches.
            """
            raise TypeError(
                "a Gradient is not unpacked: nabla_b is grad.biases, and nabla_w is grad.weights"
            )

        def _refuse(self, *others: Any, **options: Any) -> Any:
            raise TypeError(
                "a Gradient is no array: grad.flat is one, as in net.parameters -= 0.1 * grad.flat"
            )

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
        __neg__ = __array_ufunc__ = _refuse

    def __getstate__(self) -> dict[str, Any]:  # a copy's views are into its own vector
        return {name: value for name, value in vars(self).items() if name != "_views"}


@np.errstate(all="ignore")  # what is not finite shows in what is returned
def from_targets(chain: Chain, samples: Samples, ws: Workspace) -> Gradient:
    """The gradient of the mean cost of checked samples, from their labels or targets."""
    backend, weights = chain.backend, chain.mean_weights(samples.weight)
    gathered = chain.gather(samples.x, slice(None), ws)
    values, _, delta, saved = chain.cost_and_delta(gathered, samples.y, ws, weights)
    over_m = mean_factor(samples.n, samples.weight)
    cost = backend.total(values if weights is None else values * weights) * over_m
    return _backward(chain, delta, saved, over_m, cost, ws)


def from_outputs(chain: Chain, x: Array, given: Any, ws: Workspace) -> Gradient:
    """The gradient from ∂C/∂a^L, (m, k), or a function of a^L; `x` has the checked rows."""
    with np.errstate(all="ignore"):  # but not for a user's own function
        z, saved = chain.forward(chain.gather(x, slice(None), ws), ws)
        a = chain.activated(z, ws)
    if callable(given):
        takes("output_gradient", given, "a")
        given = given(a + 0.0)  # a copy, since a is the workspace's
    m, k = z.shape
    what = "output_gradient"
    given = check_y(chain.backend, given, m, k, "regression", counts=(k,), what=what)
    delta = ws.buffer("delta", z.shape)
    with np.errstate(all="ignore"):
        delta[...] = chain.backend.xp.astype(given, chain.xp_dtype)
        delta = chain.backend.activate_backward(chain.objective.activation, delta, z, a)
    return _backward(chain, delta, saved, 1.0, None, ws)


@np.errstate(all="ignore")
def jacobian(chain: Chain, x: Array) -> Array:
    """∂a^L/∂x of checked rows, (m, k, ...).

    A sample is a row for each output, with a gradient that is 1 there and else 0.
    """
    backend, (k,), m = chain.backend, chain.architecture.output_shape, x.shape[0]
    xp, shape, ws = backend.xp, chain.architecture.input_shape, chain.workspace(inputs=True)
    out, units = backend.empty((m, k, *shape), chain.xp_dtype), np.eye(k, dtype=chain.dtype)
    most = chain.rows_at_once
    for rows in in_slices(0, m, max(1, most // k)):
        for some in in_slices(0, k, most):
            index = np.repeat(np.arange(rows.start, rows.stop), some.stop - some.start)
            at = xp.astype(backend.from_host(index), backend.index_dtype)
            z, saved = chain.forward(chain.gather(x, at, ws), ws)
            delta = ws.buffer("delta", z.shape)
            delta[...] = backend.from_host(np.tile(units[some], (rows.stop - rows.start, 1)))
            delta = backend.activate_backward(
                chain.objective.activation, delta, z, chain.activated(z, ws)
            )
            found: Any = chain.to_inputs(delta, saved, ws)
            out[rows, some, ...] = xp.reshape(found, (-1, some.stop - some.start, *shape))
    return out


@np.errstate(all="ignore")  # what is not finite shows in what is returned
def _backward(
    chain: Chain, delta: Array, saved: list[Any], over_m: float, cost: Array | None, ws: Workspace
) -> Gradient:
    """From δ^L down, in fresh arrays; `over_m` is 1/m, see `mean_factor`."""
    out = chain.destinations()
    out.set_scalars(over_m)
    inputs: Any = chain.backward(delta, saved, out, ws)
    inputs = inputs * over_m if ws.contexts[0].wanted else None
    return Gradient(out.flat, inputs, cost, chain.backend, chain.architecture.layout)
