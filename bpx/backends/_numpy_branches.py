"""The inputs of a first dense layer, put together in a prepared run on NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ._base import Array

Call = Callable[[], Any]
Update = tuple[Callable[[float, float], Any], int, Array, Array]  # as `_numpy_run` has it


class PreparedBranches:
    """Columns of x and rows of embeddings, on the same arrays in each step.

    Attributes
    ----------
    raw : array
        Where rows of x come; `out` itself where there are no branches.
    forward : list of callable
        Calls that make `out` of them.
    """

    def __init__(self, layers: Any, theta: Array, out: Array) -> None:
        m = len(out)
        self.raw = np.empty((m, layers.columns), theta.dtype) if layers.branches else out
        self.forward: list[Call] = []
        self._theta, self._trained, start = theta, [], 0
        for branch in layers.branches:
            place = slice(start, start + branch.size)
            start = place.stop
            source, into = self._columns(branch.columns), out[:, place]
            if branch.count:
                numbers = np.empty(source.shape, np.intp)
                self.forward.append(partial(np.copyto, numbers, source, "unsafe"))
                # A callback may have changed x since it was checked.
                self.forward.append(partial(numbers.clip, 0, branch.count - 1, numbers))
                self._look_up(branch, numbers, into)
                if branch.trained:
                    self._trained.append((branch, place, numbers.reshape(-1)))
            elif branch.scale is None:
                self.forward.append(partial(np.copyto, into, source))
            else:
                self.forward.append(partial(_rescale, branch, source, into))

    def _columns(self, columns: Array) -> Array:
        """Those of `raw`: a view if they are neighbours."""
        first, stop = columns[0], columns[0] + len(columns)
        if np.array_equal(columns, np.arange(first, stop)):
            return self.raw[:, first:stop]
        picked = np.empty((len(self.raw), len(columns)), self.raw.dtype)
        self.forward.append(partial(self.raw.take, columns, 1, picked, "clip"))
        return picked

    def _look_up(self, branch: Any, numbers: Array, out: Array) -> None:
        """Add the calls from numbers to their vectors, or to their mean."""
        weights, whole = _weights(branch, self._theta), out.flags.c_contiguous
        shape = *numbers.shape, branch.width
        beside = branch.averaged or not whole
        vectors = np.empty(shape, out.dtype) if beside else out.reshape(shape)
        # "clip" saves a copy; they are in range.
        self.forward.append(partial(weights.take, numbers, 0, vectors, "clip"))
        if branch.averaged:
            self.forward.append(partial(np.mean, vectors, 1, None, out))
        elif beside:
            self.forward.append(partial(np.copyto, out, vectors.reshape(out.shape)))

    def updates(self, backend: Any, delta: Array, grad: Array) -> list[Update]:
        """Of each embedding that is trained, from δ of `out`."""
        found: list[Update] = []
        for branch, place, numbers in self._trained:
            into = _weights(branch, grad)
            add = partial(_add_rows, backend, branch, delta[:, place], numbers, into)
            found.append((add, 0, _weights(branch, self._theta), into))
        return found


def _weights(branch: Any, flat: Array) -> Array:
    stop = branch.weights + branch.count * branch.width
    return flat[branch.weights : stop].reshape(branch.count, branch.width)


def _rescale(branch: Any, source: Array, out: Array) -> None:
    """In double precision, since the sum may cancel."""
    np.add(source * branch.scale, branch.offset, out, casting="unsafe")


def _add_rows(
    backend: Any,
    branch: Any,
    delta: Array,
    numbers: Array,
    out: Array,
    alpha: float,
    beta: float,
) -> None:
    """``out ← β·out + α·Σδ`` by rows."""
    if branch.averaged:
        many = len(branch.columns)
        delta, alpha = np.repeat(delta, many, axis=0), alpha / many
    backend.sum_at(delta.reshape(-1, branch.width), numbers, out, alpha, beta)
