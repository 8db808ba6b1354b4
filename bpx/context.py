"""What a layer is lent while it runs: a context, and the buffers behind it.

Layers own no arrays, so that one network can run in many threads: each call of `feedforward` or
`backprop` has a workspace of its own, and `fit` keeps one from its first step to its last.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from .backends import Array, Backend
from .parameters import Space, get_path
from .random import of_layer

MOST_SIZES = 8  # of a buffer that are held; all but the largest are its first rows

Key = tuple[Hashable, tuple[int, ...], Any]  # a name, a shape and a dtype


def alone(array: Array) -> Array:
    """The sum over all ranks, when there is one."""
    return array


def added(buffers: dict[Key, Array], key: Key, backend: Backend, dtype: Any) -> Array:
    """A buffer that is not among these yet.

    The last, smaller batch works in the first rows of the full one's. Where a larger one comes
    after smaller ones, those are given up.
    """
    alike = [one for one in buffers if _but_for_rows(one) == _but_for_rows(key)]
    largest = max([*alike, key], key=lambda one: one[1][:1])
    if largest == key or len(alike) >= MOST_SIZES:
        for one in alike:
            if one != largest:
                del buffers[one]
    _, shape, _ = key
    its_own = largest == key
    buffers[key] = backend.empty(shape, dtype) if its_own else buffers[largest][: shape[0], ...]
    return buffers[key]


def _but_for_rows(key: Key) -> Key:
    name, shape, dtype = key
    return name, (len(shape), *shape[1:]), dtype


class Context:
    """What one layer is lent for one run, as long as its `Workspace` exists.

    It is never stored on a layer or a network.

    Attributes
    ----------
    backend : Backend
        Its kernels, and its namespace `xp`.
    training : bool
        Whether to draw masks, and use and update batch statistics.
    state : Space
        The layer's views into the network's state, by name; a layer writes to them only in
        training.
    dtype : dtype
        Of the network's numbers.
    batch_sum : callable
        Turns a sum over the rows at hand into the sum over the rows of the global batch. All ranks
        call it in the same order, also those that have 0 rows.
    wanted : bool
        Whether ∂C/∂x is wanted below. If not, `backward` may return None.
    key, layer, step, row : int
        The random position: the network's key, the layer's index (a layer in a layer has a number
        of its own), the step of the training, and the index of the first row in the global batch.
    """

    __slots__ = (
        "_asked", "_buffers", "_inner", "_workspace", "backend", "layer", "state", "training",
        "wanted",
    )  # fmt: skip

    def __init__(self, workspace: Workspace, layer: int, state: Space, wanted: bool) -> None:
        self._workspace, self.layer, self.state, self.wanted = workspace, layer, state, wanted
        self.backend, self.training = workspace.backend, workspace.training
        self._buffers: dict[Key, Array] = {}
        self._inner: list[Context] = []
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        during = "in training" if self.training else "not in training"
        return f"<Context of layer {self.layer}, {during}, on {self.backend.name}>"

    def inner(self, names: Sequence[str], wanted: Callable[[], Sequence[bool]]) -> list[Context]:
        """A context for each layer in this one; `names` are those under which their state is here.

        They are made once; `wanted` then says for which of them ∂C/∂x is wanted.
        """
        if not self._inner:
            pairs = zip(names, wanted(), strict=True)
            self._inner = [
                Context(
                    self._workspace,
                    of_layer(self.layer, index),
                    get_path(self.state, name) or Space(),
                    want,
                )
                for index, (name, want) in enumerate(pairs)
            ]
        return self._inner

    def first(self, what: str) -> bool:
        """Whether this is asked for the first time in the run."""
        if what in self._asked:
            return False
        self._asked.add(what)
        return True

    @property
    def dtype(self) -> Any:
        return self._workspace.dtype

    @property
    def key(self) -> int:
        return self._workspace.key

    @property
    def step(self) -> int:
        return self._workspace.step

    @property
    def row(self) -> int:
        return self._workspace.row

    @property
    def batch_sum(self) -> Callable[[Array], Array]:
        return self._workspace.batch_sum

    def batch_rows(self, rows: int) -> int:
        """How many rows the global batch has, of which `rows` are at hand."""
        return self._workspace.rows or rows

    def buffer(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """A buffer of this layer's own, with whatever the last step left in it.

        Contents last until the layer asks for the same name again: from `forward` to `backward`.
        """
        found = self._buffers.get(key := (name, shape, dtype))
        if found is None:
            found = added(self._buffers, key, self.backend, dtype or self.dtype)
            self._workspace.elements += math.prod(shape)
        return found

    def constant(
        self, name: str, values: Sequence[float] | np.ndarray | Callable[[], np.ndarray]
    ) -> Array:
        """Numbers of the layer as an array of float64 (float32 where there is none).

        Or a function that makes them, which is called once.
        """
        return self._workspace.constant((self.layer, name), values)

    def keep(self, shape: tuple[int, ...], probability: float) -> Array:
        """A random boolean mask, True with this probability, the same on every backend."""
        where = self.key, self.layer, self.step, self.row
        return self.backend.keep(*where, shape, probability)


class Workspace:
    """The buffers of one run of a network, and a context for each layer.

    Parameters
    ----------
    backend : Backend
    dtype : dtype
        Of the network.
    states : sequence of Space
        Each layer's views into the state.
    key : int
        The network's key.
    training : bool
    wanted : sequence of bool, optional
        For each layer, whether ∂C/∂x is wanted below it.

    Attributes
    ----------
    batch_sum : callable
        The all-reduce among ranks; of one rank the sum itself.
    step, row : int
        See `Context`.
    rows : int
        Of the global batch; 0 if all of them are at hand.
    elements : int
        Of all buffers that were ever made.
    augment : callable or None
        Changes the samples of a mini-batch, in place, before the first layer sees them.
    """

    def __init__(
        self,
        backend: Backend,
        dtype: Any,
        states: Sequence[Space],
        *,
        key: int,
        training: bool = False,
        wanted: Sequence[bool] | None = None,
    ) -> None:
        backend.use()
        self.backend, self.dtype, self.key, self.training = backend, dtype, key, training
        self.batch_sum: Callable[[Array], Array] = alone
        self.augment: Callable[[Array, Workspace], Array] | None = None
        self.step = self.row = self.rows = self.elements = 0
        wanted = wanted or [True] * len(states)
        # In a reference cycle buffers would wait for the collector, which ignores their size.
        here = weakref.proxy(self)
        self.contexts = [
            Context(here, layer, state, want)
            for layer, (state, want) in enumerate(zip(states, wanted, strict=True))
        ]
        self._buffers: dict[Key, Array] = {}
        self._constants: dict[Hashable, Array] = {}

    def buffer(self, name: Hashable, shape: tuple[int, ...], dtype: Any = None) -> Array:
        found = self._buffers.get(key := (name, shape, dtype))
        if found is None:
            found = added(self._buffers, key, self.backend, dtype or self.dtype)
            self.elements += math.prod(shape)
        return found

    def constant(
        self, name: Hashable, values: Sequence[float] | np.ndarray | Callable[[], np.ndarray]
    ) -> Array:
        found = self._constants.get(name)
        if found is None:
            values = values() if callable(values) else values
            made = self.backend.from_host(np.asarray(values, dtype=np.float64))
            found = self._constants[name] = made
        return found
