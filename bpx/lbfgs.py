"""L-BFGS over θ: SciPy's minimizer, with cost and gradient of the whole training set from here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .backends._base import in_slices
from .chain import Chain
from .data.arrays import Samples
from .network import Network


class FullBatchObjective:
    """The mean cost of samples plus λ/2n Σω², and its gradient, as functions of θ.

    Parameters
    ----------
    chain : Chain
        Its parameters are overwritten at each call. Masks are the same at each call: a line search
        needs one function.
    samples : Samples
    l2 : float
        λ; n is the sum of weights, which without `samples.weight` is their number.
    factor : float
        Multiplies the cost's value and not its gradient: scikit-learn's squared error is a mean
        over the outputs, and its gradient that of their sum.
    most : float, optional
        A sample's cost counts as no more than this, and its gradient as it is: scikit-learn clips
        probabilities to the dtype's epsilon for the loss, and not for the gradient.
    parts : int
        How many parts the samples are divided into, each with its own gradient, side by side.
    """

    def __init__(
        self,
        chain: Chain,
        samples: Samples,
        l2: float,
        factor: float = 1.0,
        most: float | None = None,
        parts: int = 1,
    ) -> None:
        self.chain, self.samples, self.l2 = chain, samples, l2
        self.factor, self.most = factor, most
        weight = samples.weight
        self.n = float(samples.n) if weight is None else float(chain.backend.xp.sum(weight))
        # Each part begins with a whole block: only the last block of the last one is smaller.
        blocks = in_slices(0, samples.n, chain.rows_at_once)
        each = -(-len(blocks) // parts)
        self.blocks = [blocks[at : at + each] for at in range(0, len(blocks), each)]
        self.parts = [_Part(chain) for _ in self.blocks]

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The value, and the gradient in float64, both on the host."""
        chain, backend, n = self.chain, self.chain.backend, self.n
        chain.parameters[...] = backend.from_host(theta.astype(chain.dtype, copy=False))
        backend.side_by_side(self._add, self.blocks)
        cost = sum(part.cost for part in self.parts)
        gradient = np.zeros(theta.shape)
        for part in self.parts:
            gradient += backend.to_host(part.out.flat)
        decayed = chain.architecture.layout.decayed
        weights = theta[:decayed]
        gradient[:decayed] += self.l2 / n * weights
        value = self.factor * cost + 0.5 * self.l2 * float(weights @ weights)
        return value / n, gradient

    def _add(self, k: int, blocks: list[slice]) -> None:
        """Add the cost of these rows and their gradient to part `k`."""
        part, chain, samples = self.parts[k], self.chain, self.samples
        ws, out, backend = part.ws, part.out, chain.backend
        costs = []
        for rows in blocks:
            beta = 0.0 if rows is blocks[0] else 1.0
            out.set_scalars(1.0 / self.n, beta, beta)
            ws.row = rows.start
            x, (y, weight) = chain.gather(samples.x, rows, ws), samples.beside(rows)
            values, _, delta, saved = chain.cost_and_delta(x, y, ws, weight)
            if self.most is not None:
                values = backend.xp.minimum(values, backend.xp.full_like(values, self.most))
            if weight is not None:
                values = values * weight
            chain.backward(delta, saved, out, ws)
            costs.append(backend.total(values))
        part.cost = sum(map(float, costs))  # once: on a device each waits for what is before it


class _Part:
    """A workspace, a cost and a gradient, for blocks that are gone through in turn."""

    def __init__(self, chain: Chain) -> None:
        self.ws, self.cost = chain.workspace(training=True), 0.0
        self.out = chain.destinations()


def minimize(
    net: Network,
    samples: Samples,
    *,
    l2: float,
    max_iter: int,
    max_fun: int,
    tol: float,
    factor: float = 1.0,
    most: float | None = None,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """Train `net` by L-BFGS-B on all samples at once (Zhu, Byrd, Lu and Nocedal, 1997).

    Parameters
    ----------
    l2 : float
        λ, divided by the samples' sum of weights.
    max_iter, max_fun : int
        Iterations, and evaluations of the cost, at most.
    tol : float
        It ends when no element of the gradient is larger, or when an iteration lowers the cost by
        less than 2.2e-9 of it (SciPy's ``ftol``, as in scikit-learn).
    factor, most : float
        See `FullBatchObjective`.
    callback : callable, optional
        Called with ``intermediate_result`` after each iteration, see `scipy.optimize.minimize`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        Its ``x`` is in ``net.parameters`` too.
    """
    from scipy.optimize import minimize as scipy_minimize

    chain, backend = net.chain, net.backend
    # Each core takes a part of the samples from end to end, and they wait for each other once per
    # evaluation; a product that all of them share would make them wait each time.
    parts = min(backend.cores, -(-samples.n // chain.rows_at_once))
    rows = min(samples.n, chain.rows_at_once)
    theta = backend.to_host(chain.parameters).astype(np.float64)
    with contextlib.ExitStack() as around:
        within = backend
        if parts == 1:
            around.enter_context(chain.surround(samples.x, rows))
        else:
            within = around.enter_context(backend.in_threads())
        objective = FullBatchObjective(chain.on(within), samples, l2, factor, most, parts)
        found = scipy_minimize(
            objective,
            theta,
            method="L-BFGS-B",
            jac=True,
            callback=callback,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
        )
    chain.parameters[...] = chain.backend.from_host(found.x.astype(chain.dtype))
    return found
