"""Layers with their parameters: the forward and the backward pass, on checked arrays.

`Network` and `fit` check what a user hands in; the code here trusts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np

from .activations import ACTIVATIONS, Identity
from .architecture import Architecture
from .backends import Array, Backend, BackendError, is_sparse
from .backends._base import Forward, in_slices, native
from .context import Workspace
from .data.arrays import Samples
from .data.blocks import Blocks, in_memory
from .data.incoming import Incoming
from .data.values import first_not_finite
from .layers import Dense, Rescale, sequence
from .parallel.ranks import Ranks, own_rows
from .parameters import Destinations, Views, named

ALL = slice(None)
FEW_ROWS = 64  # so few that calls take the time, not arithmetic
ROWS_AT_ONCE = 1024  # on a host: products at full speed, activations that stay in the caches
ELEMENTS_ON_HOST, ELEMENTS_ON_DEVICE = 1 << 22, 1 << 24  # of a layer's activations, at once
KEPT = 1 << 18  # elements of all buffers that a prediction keeps for the next one, at most
IDLE = 8  # predictions whose buffers are kept, at most


class Chain:
    """An architecture with its parameters and state, on one backend.

    Parameters
    ----------
    architecture : Architecture
    backend : Backend
    dtype : str
        ``"float32"`` or ``"float64"``, or NumPy's dtype of that name.
    key : int
        64 bits, from which masks are computed.
    parameters, state : ndarray
        On the host, in the architecture's layouts; copied.

    Attributes
    ----------
    parameters, state : array
        θ and the running state, on `backend`.
    p, s : list of Space
        Each layer's views into them, by name.
    xp_dtype : dtype
        `dtype` as the namespace's own object.
    """

    def __init__(
        self,
        architecture: Architecture,
        backend: Backend,
        dtype: Any,
        key: int,
        parameters: np.ndarray,
        state: np.ndarray,
    ) -> None:
        self.architecture, self.backend, self.key = architecture, backend, key
        self.dtype = dtype_name(dtype)
        architecture.check_dtype(self.dtype)
        self.xp_dtype = backend.dtype(self.dtype)
        self.objective, self.task = architecture.objective, architecture.task
        backend.use()
        self.parameters, self.state = self.copy_of(parameters), self.copy_of(state)
        self._idle: list[Workspace] = []  # of small predictions, for the next ones in any thread
        self.p = architecture.layout.views(backend.xp, self.parameters)
        self.s = architecture.state_layout.views(backend.xp, self.state)

    @cached_property
    def weights(self) -> Views:
        """ω of all layers, also of those in layers."""
        return named(self.p, "weights", "net.weights")

    @cached_property
    def biases(self) -> Views:
        """b of all layers."""
        return named(self.p, "bias", "net.biases")

    def __repr__(self) -> str:
        described = self.architecture
        layers = ", ".join(map(str, described.layers))
        on = f"{self.dtype} on {self.backend.name}"
        return f"<Chain {described.input_shape} -> {layers}; {on}>"

    def copy_of(self, host: np.ndarray) -> Array:
        """A copy of a host array, on this backend and in this dtype."""
        fresh = self.backend.empty(host.shape, self.xp_dtype)
        fresh[...] = self.backend.from_host(host.astype(self.dtype, copy=False))
        return fresh

    def __reduce__(self) -> tuple[Any, ...]:
        # From host vectors: otherwise the views into θ would come back as copies.
        vectors = (self.backend.to_host(vector) for vector in (self.parameters, self.state))
        return Chain, (self.architecture, self.backend, self.dtype, self.key, *vectors)

    def on(self, backend: Backend) -> Chain:
        """A chain that shares these arrays, with another backend that works on them."""
        other = object.__new__(Chain)  # a copy would have numbers of its own
        other.__dict__ |= self.__dict__ | {"backend": backend, "_idle": []}
        other.__dict__.pop("_forward_few", None)
        return other

    def moved(self, backend: Backend, dtype: Any = None) -> Chain:
        """A copy on another backend or in another dtype."""
        vectors = (self.backend.to_host(vector) for vector in (self.parameters, self.state))
        return Chain(self.architecture, backend, dtype or self.dtype, self.key, *vectors)

    def workspace(
        self, *, training: bool = False, inputs: bool = False, state: Array | None = None
    ) -> Workspace:
        """Buffers and contexts for a run; with `inputs`, ∂C/∂x of the network is wanted too.

        Layers read and write `state`, by default the chain's own.
        """
        if getattr(self.parameters, "requires_grad", False):
            raise BackendError(
                "a PyTorch tensor that requires a gradient was copied into the parameters, and "
                "each step would be recorded: copy tensor.detach(), and make the network anew"
            )
        xp = self.backend.xp
        return Workspace(
            self.backend,
            self.xp_dtype,
            self.s if state is None else self.architecture.state_layout.views(xp, state),
            key=self.key,
            training=training,
            wanted=self.architecture.wanted(inputs),
        )

    @cached_property
    def largest_number(self) -> float:
        """The largest float32; infinity for a network of float64, in which every number fits."""
        return float(np.finfo(np.float32).max) if self.dtype == "float32" else math.inf

    @cached_property
    def largest_input(self) -> float:
        """The largest number in x: any, where a folded `Rescale` may bring it into range."""
        return math.inf if self.architecture.folded else self.largest_number

    # --- mini-batches -----------------------------------------------------------------------

    def gather(self, x: Array, rows: Any, ws: Workspace) -> Array:
        """Rows of x (indices or a slice) as the first layer takes them, in the chain's dtype.

        A first `Rescale` is folded in, after the augmentation of `ws`, which sees samples as they
        were handed in; whole numbers for a first `Embedding` become integers. A memory map on the
        host is read here, and rows of a sparse matrix are made dense, unless the first layer
        multiplies by them directly.
        """
        backend = self.backend
        if is_sparse(x):
            all_rows = isinstance(rows, slice) and rows == slice(None)
            x, rows = x if all_rows else x[rows], slice(None)
            if ws.augment is None and self._multiplies(x):
                return x.astype(self.dtype, copy=False)
            x = backend.from_host(native(x.toarray()))
        elif isinstance(x, np.memmap) and backend.name != "numpy":
            x, rows = backend.from_host(native(np.ascontiguousarray(x[rows]))), slice(None)
        if self.architecture.integers:
            return self._integers(x, rows)
        if isinstance(rows, slice):
            as_it_is = x.dtype == self.xp_dtype and not self.architecture.folded
            if as_it_is and ws.augment is None:
                return x if rows == slice(None) else x[rows, ...]
            m = len(range(*rows.indices(x.shape[0])))
        else:
            m = rows.shape[0]
        out = ws.buffer("x", (m, *self.architecture.input_shape))
        first = self.architecture.layers[0]
        scaled = first.affine(ws.contexts[0]) if type(first) is Rescale else ()
        if ws.augment is not None:
            raw = ws.buffer("as it came", out.shape) if scaled else out
            x, rows = ws.augment(backend.gather(x, rows, raw), ws), slice(None)
            if not scaled:
                return x
        return backend.gather(x, rows, out, *scaled)

    def _integers(self, x: Array, rows: Any) -> Array:
        """Rows of x as indices, for a first `Embedding`."""
        xp, dtype = self.backend.xp, self.backend.index_dtype
        return xp.astype(xp.asarray(self.backend.rows(x, rows)), dtype, copy=False)

    def _multiplies(self, x: Any) -> bool:
        """Whether the first layer multiplies directly by the rows of a sparse matrix."""
        first = self.architecture.layers[0]
        most = self.backend.sparse_up_to
        return most > 0.0 and type(first) is Dense and _density(x) <= most

    def surround(
        self, x: Any, rows: int | None, processes: int = 1
    ) -> AbstractContextManager[None]:
        """`Backend.surround` for mini-batches of so many rows of `x`; None: of any number.

        A sparse `x` counts by its elements, or BLAS would keep all cores for products of few, and
        wait for each of them in every pass over θ. None for an `x` whose rows are made dense.
        """
        largest, architecture = None, self.architecture
        if rows is not None:
            density = _density(x) if is_sparse(x) and self._multiplies(x) else 1.0
            largest = rows * architecture.largest_product(density)
        elements, in_parts = architecture.layout.size, architecture.in_parts
        return self.backend.surround(largest, processes, in_parts, elements)

    # --- the four equations -----------------------------------------------------------------

    def forward(self, x: Array, ws: Workspace) -> tuple[Array, list[Any]]:
        """z^L and what each layer saved, from gathered rows; all in the workspace."""
        return sequence.forward(self.architecture.stages, x, self.p, ws.contexts)

    def output_buffer(self, z: Array, ws: Workspace) -> Array:
        """The buffer for a^L; with the identity it is z^L itself."""
        is_z = type(self.objective.activation) is Identity
        return z if is_z else ws.buffer("a", z.shape)

    def activated(self, z: Array, ws: Workspace) -> Array:
        """a^L, in the workspace."""
        a = self.output_buffer(z, ws)
        return a if a is z else self.backend.activate(self.objective.activation, z, a)

    def cost_and_delta(
        self, x: Array, y: Array, ws: Workspace, weight: Array | None = None
    ) -> tuple[Array, Array, Array, list[Any]]:
        """The cost of each sample, a^L, δ^L (BP1), and what the layers saved; in the workspace.

        From gathered rows, and labels or targets. With weights, δ^L is that of Σ wC, but the costs
        returned are the unweighted C.
        """
        z, saved = self.forward(x, ws)
        a, delta = self.output_buffer(z, ws), ws.buffer("delta", z.shape)
        y = self.as_outputs(y, ws)
        values = self.backend.cost_and_delta(self.objective, z, a, y, delta)
        if weight is not None:
            delta *= weight[:, None]
        return values, a, delta, saved

    def backward(
        self, delta: Array, saved: list[Any], out: Destinations, ws: Workspace
    ) -> Array | None:
        """BP2 to BP4, from δ^L down: gradients to `out`, and ∂C/∂x if it is wanted."""
        stages = self.architecture.stages
        return sequence.backward(stages, delta, saved, self.p, out.layers, ws.contexts)

    def to_inputs(self, delta: Array, saved: list[Any], ws: Workspace) -> Array | None:
        """∂C/∂x alone (BP2), if it is wanted."""
        stages = self.architecture.stages
        if self._own:  # which may write regardless
            return self.backward(delta, saved, self.destinations(), ws)
        nowhere = [None] * len(stages)
        return sequence.backward(stages, delta, saved, self.p, nowhere, ws.contexts)

    def destinations(self, flat: Array | None = None) -> Destinations:
        """Where gradients go: `flat`, in the layout of θ, or a new vector of zeros."""
        layout = self.architecture.layout
        if flat is None:
            flat = self.backend.zeros((layout.size,), self.xp_dtype)
        return Destinations(self.backend, layout, flat)

    # --- passes without gradients -----------------------------------------------------------

    def outputs(
        self,
        x: Array,
        *,
        activated: bool = True,
        decided: bool = False,
        check: Callable[[], None] | None = None,
    ) -> Array:
        """a^L, or z^L if not `activated`, for any number of rows, as a fresh array.

        What `decide` makes of a^L if `decided`: with many classes that is far less, (m,) for
        (m, k), so that all of a^L is never in memory.
        `check` raises an error if x has NaN or infinity. It is not called where the first layer
        shows that there are none, nor for `Blocks`, which are checked as they are read.
        """
        if isinstance(x, Blocks):
            out = self._room(x.n, decided)
            for part, rows in x.in_order(self.backend, 0):
                out[rows, ...] = self.outputs(part, activated=activated, decided=decided)
            return out
        check = check or _no_check
        few = activated and x.shape[0] <= FEW_ROWS and isinstance(x, np.ndarray)
        if few and (forward := self._forward_few) is not None:
            try:
                a = forward(x, check)
            # By the user's errstate, of which a change takes 1 µs, or filter of warnings.
            except (FloatingPointError, RuntimeWarning):
                with np.errstate(all="ignore"):
                    a = forward(x, check)
            return self.decide(a) if decided else a
        return self._outputs_in_slices(x, activated, decided, check)

    def _outputs_in_slices(
        self, x: Array, activated: bool, decided: bool, check: Callable[[], None]
    ) -> Array:
        m = x.shape[0]
        out = self._room(m, decided)
        slices, compiled = self._slices_and_forward(x, 0, m, activated)
        doubted: list[int] = []
        by_slices = check is not _no_check and isinstance(x, np.ndarray)
        if not by_slices:
            check()

        def work(chain: Chain, ws: Workspace, at: int, rows: slice) -> None:
            if compiled is not None:
                a = compiled(chain.gather(x, rows, ws), partial(doubted.append, at))
                out[rows, ...] = chain.decide(a) if decided else a
                return
            # While the rows are on their way through the caches.
            if by_slices and first_not_finite(x[rows], chain.largest_input) is not None:
                check()
            z, _ = chain.forward(chain.gather(x, rows, ws), ws)
            a = chain.activated(z, ws) if activated else z
            out[rows, ...] = chain.decide(a) if decided else a

        ws = self._lent() if 0 < m <= self._rows_lent else None
        with np.errstate(all="ignore"):  # what is not finite shows in what is returned
            self._each_slice(slices, work, ws)
        # Not after an error; nor as many as may predict at once, in a server of many threads.
        if ws is not None and ws.elements <= KEPT and len(self._idle) < IDLE:
            self._idle.append(ws)
        if doubted:
            check()
        return out

    def _room(self, m: int, decided: bool) -> Array:
        """For the outputs of m rows, or for what is decided by them."""
        if not decided or self.task == "regression":
            return self.backend.empty((m, *self.architecture.output_shape), self.xp_dtype)
        shape = (m, *self.architecture.output_shape) if self.task == "multilabel" else (m,)
        return self.backend.empty(shape, self.backend.index_dtype)

    @cached_property
    def _rows_lent(self) -> int:
        """Rows of a prediction that leaves its workspace to the next one, at most.

        None on a device, where another thread's stream might write to it before this one is done;
        nor with a user's own layer or activation, which may keep what it is lent (and an own layer
        is checked once in a workspace).
        """
        layers = [layer for _, layer in sequence.every(self.architecture.layers)]
        used = {type(getattr(layer, "activation", None)) for layer in layers}
        own = self._own or not used <= {type(None), *ACTIVATIONS.builtin.values()}
        if self.backend.xp is not np or own:
            return 0
        return KEPT // max(self._widest, math.prod(self.architecture.input_shape))

    @cached_property
    def _own(self) -> bool:
        """Whether it has layers of a user's own."""
        return any(layer.own for _, layer in sequence.every(self.architecture.layers))

    def _lent(self) -> Workspace:
        """An idle workspace, or a new one: of 65 µs for a small image it takes 17 to make one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.workspace()

    def _each_slice(
        self,
        slices: list[slice],
        work: Callable[[Chain, Workspace, int, slice], None],
        ws: Workspace | None = None,
    ) -> None:
        """``work(chain, workspace, k, slices[k])`` for each slice of a pass without gradients.

        Each core takes some of the slices through all layers, unless layers themselves spread most
        of the work over the cores. A single core does the same products, so that the bits do not
        depend on how many cores are free.
        """
        backend, in_parts = self.backend, self.architecture.mostly_in_parts
        if in_parts or len(slices) < 2:
            ws = ws or self.workspace()
            with backend.surround(None, in_parts=True) if in_parts else nullcontext():
                for at, rows in enumerate(slices):
                    work(self, ws, at, rows)
            return
        threads = min(backend.cores, len(slices))
        with backend.in_threads() as within:
            chain = self if within is backend else self.on(within)

            def of_part(part: int, of_it: list[slice]) -> None:
                own = ws if ws is not None and ws.backend is within else chain.workspace()
                for turn, rows in enumerate(of_it):
                    work(chain, own, part + turn * threads, rows)

            backend.side_by_side(of_part, [slices[part::threads] for part in range(threads)])

    @property
    def rows_at_once(self) -> int:
        """Of a pass without gradients: many on a device, where a launch takes as long as a few."""
        if self.backend.is_host:
            return min(ROWS_AT_ONCE, max(1, ELEMENTS_ON_HOST // self._widest))
        return max(1, ELEMENTS_ON_DEVICE // self._widest)

    @cached_property
    def _widest(self) -> int:
        """The most outputs of a layer."""
        return max(math.prod(layer.output_shape) for layer in self.architecture.layers)

    def _slices(self, first: int, stop: int) -> list[slice]:
        return in_slices(first, stop, self.rows_at_once) if first < stop else []

    @np.errstate(all="ignore")  # what is not finite shows in what is returned
    def hidden(self, x: Array, layers: int) -> Array:
        """The outputs of the first `layers` layers, for any number of rows, as a fresh array."""
        ws, shape = self.workspace(), self.architecture.layers[layers - 1].output_shape
        out = self.backend.empty((x.shape[0], *shape), self.xp_dtype)
        for rows in self._slices(0, x.shape[0]):
            *_, a = islice(self.layer_outputs(self.gather(x, rows, ws), ws), layers)
            out[rows, ...] = a
        return out

    @cached_property
    def _forward_few(self) -> Forward | None:
        """The backend's own forward pass for a few rows through dense layers, if it has one."""
        dense, backend, dtype = self.architecture.inference, self.backend, self.xp_dtype
        if dense is None:
            return None
        layers: Sequence[Any] = self.architecture.layers
        after = [
            [layers[i].in_place(backend, self.p[i], self.s[i]) for i in between]
            for between in dense.after
        ]
        forward = backend.compile_forward(dense, self.parameters, after)
        first = layers[0]
        if forward is None or type(first) is not Rescale:
            return forward
        ws = self.workspace()
        scaled = first.affine(ws.contexts[0])

        def run(x: Array, doubt: Callable[[], None]) -> Array:
            return forward(backend.gather(x, ALL, np.empty(x.shape, dtype), *scaled), doubt)

        return run

    def _slices_and_forward(
        self, x: Array, first: int, stop: int, activated: bool
    ) -> tuple[list[slice], Forward | None]:
        """Slices of the rows, and the backend's own pass for them, if it has one.

        To a^L, or to z^L if not `activated`.
        """
        dense, rows, parts = self.architecture.inference, stop - first, 0
        if dense is not None and isinstance(x, np.ndarray):
            parts = self.backend.parts_of_forward(dense, rows)
        if dense is None or parts == 0:
            return self._slices(first, stop), None
        if not activated:
            dense = replace(dense, activations=(*dense.activations[:-1], Identity()))
        slices = in_slices(first, stop, -(-rows // parts))
        return slices, self.backend.compile_forward(dense, self.parameters, many=True)

    def layer_outputs(self, x: Array, ws: Workspace) -> Iterator[Array]:
        """The output of each layer in turn, from gathered rows; in the workspace."""
        layers = zip(self.architecture.on_gathered, self.p, ws.contexts, strict=True)
        for layer, p, ctx in layers:
            x, _ = sequence.forward((layer,), x, (p,), (ctx,))
            yield x

    # --- cost and accuracy ------------------------------------------------------------------

    def as_outputs(self, y: Array, ws: Workspace) -> Array:
        """Labels (m,) as unit vectors, targets (m, k) in the chain's dtype, (m, 1, t) tiled."""
        if (ndim := y.ndim) == 1:
            shape = (y.shape[0], *self.architecture.output_shape)
            return self.backend.one_hot(y, ws.buffer("y", shape))
        if y.dtype != self.xp_dtype:
            y = self.backend.xp.astype(y, self.xp_dtype)
        return y if ndim == 2 else self._tiled(y)

    def _tiled(self, y: Array) -> Array:
        (m, _, t), xp, (k,) = y.shape, self.backend.xp, self.architecture.output_shape
        return xp.reshape(xp.broadcast_to(y, (m, k // t, t)), (m, k))

    def decide(self, a: Array) -> Array:
        """Labels (m,), marks (m, k) for multilabel, or `a` itself for a regression."""
        xp = self.backend.xp
        if self.task == "regression":
            return a
        if self.task == "multilabel" or a.shape[1] == 1:
            marks = xp.astype(a > 0.5, self.backend.index_dtype)
            return marks if self.task == "multilabel" else marks[:, 0]
        return self.backend.argmax(a)

    def correct(self, a: Array, y: Array) -> Array | None:
        """Which rows are right, (m,) of bool: in the label, or in every label for multilabel.

        None for a regression.
        """
        if self.task == "regression":
            return None
        if y.ndim == 1:
            return self.backend.argmax(a) == y
        if y.dtype != a.dtype:
            y = self.backend.xp.astype(y, a.dtype)
        decided, truth = self.decide(a), self.decide(y)
        if decided.ndim == 1:
            return decided == truth
        return self.backend.xp.all(decided == truth, axis=1)

    def mean_weights(self, weight: Array | None) -> Array | None:
        """w/Σw, which turns a sum over the batch into its mean: see `mean_factor`.

        Σw stays where the weights are: on a device a recorded step cannot bring it to the host.
        """
        if weight is None:
            return None
        xp = self.backend.xp
        total = xp.sum(weight)
        return weight / xp.where(total > 0.0, total, xp.ones_like(total))

    def evaluate(
        self, samples: Samples | Incoming, ws: Workspace | None = None, ranks: Ranks | None = None
    ) -> dict[str, float]:
        """The mean ``cost``, without penalties, and the ``accuracy`` (not for a regression).

        With several ranks, each takes a part of the samples; mini-batches are each rank's own.
        """
        ws, ranks = ws or self.workspace(), ranks or Ranks()
        by, what = (Ranks(), samples.what) if isinstance(samples, Incoming) else (ranks, "")
        parts = in_memory(samples, self.backend)
        sums = sum(self._sums(part, ws, *own_rows(by, part.n)) for part in parts)
        return means(ranks.sum(np.asarray(sums)), self.task, what)

    @np.errstate(all="ignore")  # what is not finite shows in what is returned
    def _sums(self, samples: Samples, ws: Workspace, first: int, stop: int) -> np.ndarray:
        """The sums of cost, of right samples and of weight, over some rows."""
        backend = self.backend
        slices, compiled = self._slices_and_forward(samples.x, first, stop, activated=False)
        log = backend.empty((len(slices), 3), self.xp_dtype)

        def work(chain: Chain, ws: Workspace, at: int, rows: slice) -> None:
            gathered = chain.gather(samples.x, rows, ws)
            z = compiled(gathered, _no_check) if compiled else chain.forward(gathered, ws)[0]
            a, (y, weight) = chain.activated(z, ws), samples.beside(rows)
            values = chain.objective.value(chain.backend, z, a, chain.as_outputs(y, ws))
            right = chain.correct(a, y)
            chain.backend.tally(values, right, weight, log, at)

        self._each_slice(slices, work, ws)
        return np.asarray(backend.to_host(log).sum(axis=0, dtype=np.float64))

    @np.errstate(all="ignore")  # what is not finite shows in what is returned
    def penalty(self, n: int, l1: float, l2: float) -> float:
        """λ₂/2n Σω² + λ₁/n Σ|ω| over the weights of trained layers."""
        xp, weights = self.backend.xp, self.parameters[: self.architecture.layout.decayed]
        found = 0.0
        if l2:
            found += 0.5 * l2 / n * float(xp.sum(weights * weights))
        if l1:
            found += l1 / n * float(xp.sum(xp.abs(weights)))
        return found

    def add_penalty(self, grad: Array, l1: Any, l2: Any) -> None:
        """Add its gradient: ``grad ← grad + l2·ω + l1·sign ω``; `l1`, `l2` already divided by n.

        None adds nothing; they are floats, or lie on the device, where they are not inspected.
        """
        backend, decayed = self.backend, self.architecture.layout.decayed
        weights, out = self.parameters[:decayed], grad[:decayed]
        if l2 is not None:
            backend.axpby(weights, out, l2)
        if l1 is not None:
            backend.add_signs(weights, out, l1)


def means(sums: np.ndarray, task: str, what: str = "") -> dict[str, float]:
    """What `Chain.evaluate` returns, from sums of cost, of right samples and of weight.

    ValueError if the weights of all mini-batches are zero.
    """
    cost, right, total = sums.tolist()
    if total == 0.0:
        raise ValueError(
            f"expected a positive {what}sample_weight in one mini-batch at least, got only zeros"
        )
    found = {"cost": cost / total}
    return found if task == "regression" else found | {"accuracy": right / total}


def mean_factor(rows: int, weight: Array | None) -> float:
    """α, which turns a sum over the batch into its mean: 1/m, or 1 with `Chain.mean_weights`."""
    return 1.0 / rows if weight is None else 1.0


def _density(x: Any) -> float:
    """The share of a sparse matrix's elements that it stores."""
    return float(x.nnz / max(1, x.shape[0] * x.shape[1]))


def _no_check() -> None:
    """For samples that are already checked."""


def dtype_name(dtype: Any) -> str:
    """``"float32"`` or ``"float64"``; ValueError for any other dtype."""
    try:
        # NumPy's dtype(None) is float64, and NumPy does not know PyTorch's dtypes.
        known = str(dtype)[6:] if str(dtype).startswith("torch.") else dtype
        name = "" if dtype is None else np.dtype(known).name
    except TypeError:
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError(f"expected dtype 'float32' or 'float64', got {dtype!r}")
    return name
