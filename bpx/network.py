"""Layers composed: feedforward and backpropagation."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data
from .activations import ACTIVATIONS, Activation
from .backends import Array, Backend, get
from .context import Workspace
from .costs import COSTS, Cost, Objective
from .layers import Dense, Input, Layer, Rescale
from .optimizers import Optimizer, State, add_penalty
from .parameters import Destinations, Layout

if TYPE_CHECKING:
    from .history import History
    from .summary import Summary

TASKS = ("classification", "multilabel", "regression")
ROWS_AT_ONCE = 1024  # of a feedforward pass: products are at full speed, activations stay small


@dataclass(frozen=True)
class Gradient:
    """∂C/∂θ of the mean cost of a batch.

    Attributes
    ----------
    flat : array
        In the layout of ``net.parameters``; zero where layers are not trained.
    weights, biases : list of array
        Views into `flat`, shaped like ``net.weights`` and ``net.biases``.
    inputs : array
        ∂C/∂x, (m, ...).
    cost : array
        The mean cost itself, 0-d and without penalties; None after a delta of one's own.
    """

    flat: Array
    weights: list[Array]
    biases: list[Array]
    inputs: Array
    cost: Array | None


class Network:
    """A feed-forward network.

    Parameters
    ----------
    layers : sequence of int, or of Input and Layer
        Sizes, input first, for dense layers; or an `Input` and the layers.
    hidden, output : Activation or str
        For sizes only: σ of the hidden layers and of the last, both the sigmoid by default. With
        layers, each names its own.
    cost : Cost or str
        ``"cross-entropy"`` (default; with softmax outputs the log-likelihood), ``"quadratic"``,
        ``"log-likelihood"``, ``"mean-absolute-error"``, ``"huber"``, ``"poisson"``, a registered
        name or an object.
    weights, bias : Initializer or str, optional
        For sizes only: first values, see `bpx.initializers` for the defaults.
    backend : optional
        Where it lives, see `bpx.backends.get`; by default ``BPX_BACKEND``, else NumPy.
    dtype : str
        ``"float32"`` (default) or ``"float64"``.
    seed : int, Generator or None
        Of first values, permutations and masks. None: another one each time.
    task : str, optional
        ``"classification"`` (default for sigmoid and softmax outputs), ``"multilabel"`` or
        ``"regression"`` (default for all others).

    Attributes
    ----------
    parameters : array
        θ, all parameters in one flat vector (see `bpx.parameters`).
    weights, biases : list of array
        Views into θ, counting the layers that have them.
    state : array
        Running statistics of layers in one flat vector.
    layers : tuple of Layer
    cost : Cost
    backend : Backend
    dtype : str
    task : str
    input_shape, output_shape : tuple of int
        Of one sample.
    generator : numpy.random.Generator
        Draws the permutations.
    key : int
        64 bits, from which masks are computed.
    history : History or None
        Of the last `fit`.

    Raises
    ------
    ValueError
        Sizes below 1, layers that do not fit each other, unknown names (with the nearest known),
        or a cost that is not defined on the outputs.
    BackendError
        The backend is not here.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([784, 30, 10], seed=0)
    >>> [w.shape for w in net.weights]
    [(30, 784), (10, 30)]
    """

    def __init__(
        self,
        layers: Sequence[Any],
        *,
        hidden: Activation | str = "sigmoid",
        output: Activation | str = "sigmoid",
        cost: Cost | str = "cross-entropy",
        weights: Any = None,
        bias: Any = None,
        backend: Any = None,
        dtype: str = "float32",
        seed: data.Seed = None,
        task: str | None = None,
    ) -> None:
        if any(isinstance(layer, Layer | Input) for layer in layers):
            chosen = {"hidden": hidden != "sigmoid", "output": output != "sigmoid"}
            chosen |= {"weights": weights is not None, "bias": bias is not None}
            for what in (name for name, given in chosen.items() if given):
                raise ValueError(f"{what}= is for sizes; with layers, name it in each layer")
            bound = _bind(layers)
        else:
            bound = _dense_layers(layers, hidden, output, weights, bias)
        self.generator = np.random.default_rng(seed)
        self.key = int(self.generator.integers(1 << 64, dtype=np.uint64))
        self._describe(bound, cost, task)
        self._place(get(backend), dtype)
        self.parameters = self._draw(self.layout, [layer.parameters() for layer in self.layers])
        self.state = self._draw(self.state_layout, [layer.state() for layer in self.layers])
        self._view()
        self.steps = self.epochs = 0
        self.optimizer: Optimizer | None = None
        self.optimizer_state: State | None = None
        self.history: History | None = None

    # --- what it is -------------------------------------------------------------------------

    def _describe(self, layers: tuple[Layer, ...], cost: Cost | str, task: str | None) -> None:
        self.layers = layers
        self.input_shape, self.output_shape = layers[0].shape_in, layers[-1].output_shape
        if len(self.output_shape) != 1:
            raise ValueError(
                f"expected the last layer's outputs to be flat, got shape {self.output_shape}: "
                "end with a Dense layer"
            )
        # The output activation is the network's own step: there δ^L starts, from z^L (BP1).
        activation = getattr(layers[-1], "activation", None) or ACTIVATIONS.get("identity")
        self._chain = layers
        if hasattr(layers[-1], "activation"):
            plain: Any = dataclasses.replace(
                layers[-1],
                activation=ACTIVATIONS.get("identity"),  # type: ignore[call-arg]
            )
            self._chain = (*layers[:-1], plain)
        if cost == "cross-entropy" and activation.range == "simplex":
            cost = "log-likelihood"
        self.cost: Cost = COSTS.get(cost)
        self.objective = Objective(self.cost, activation)
        if task is None:
            task = "classification" if activation.range in ("unit", "simplex") else "regression"
        if task not in TASKS:
            raise ValueError(f"expected task to be one of {', '.join(TASKS)}, got {task!r}")
        self.task = task
        trainable = [layer.trainable for layer in layers]
        self.layout = Layout([layer.parameters() for layer in layers], trainable)
        self.state_layout = Layout([layer.state() for layer in layers], [True] * len(layers))
        learns = [layer.trainable and bool(layer.parameters()) for layer in layers]
        self._wanted = [any(learns[:index]) for index in range(len(layers))]
        self._folded = isinstance(layers[0], Rescale)

    def _place(self, backend: Backend, dtype: str) -> None:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"expected dtype 'float32' or 'float64', got {dtype!r}")
        self.backend, self.dtype = backend, dtype
        self._dtype = backend.dtype(dtype)

    def _draw(self, layout: Layout, tensors: list[dict[str, Any]]) -> Array:
        """First values, drawn on the host in float64, so that every backend starts alike."""
        host = np.zeros(layout.size)
        for entry in layout.entries:
            tensor = tensors[entry.layer][entry.name]
            values = np.asarray(tensor.initializer(self.generator, tensor.shape))
            host[entry.start : entry.stop] = values.reshape(-1)
        return self._own(host)

    def _own(self, host: np.ndarray) -> Array:
        """A copy of a host array, on this backend and in this dtype."""
        fresh = self.backend.empty(host.shape, self._dtype)
        fresh[...] = self.backend.from_host(host.astype(self.dtype))
        return fresh

    def _view(self) -> None:
        self._p = self.layout.views(self.backend, self.parameters)
        self._s = self.state_layout.views(self.backend, self.state)
        self.weights, self.biases = self._named(self._p)

    @staticmethod
    def _named(spaces: list[SimpleNamespace]) -> tuple[list[Array], list[Array]]:
        weights = [p.weights for p in spaces if hasattr(p, "weights")]
        biases = [p.bias for p in spaces if hasattr(p, "bias")]
        return weights, biases

    def __repr__(self) -> str:
        chain = ", ".join(map(str, self.layers))
        return f"<Network {self.input_shape} → {chain}; {self.cost.name}, {self.backend.name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return self.copy()

    # --- forward ----------------------------------------------------------------------------

    def workspace(self, *, training: bool = False, inputs: bool = False) -> Workspace:
        """Buffers and contexts for a run; `inputs`: ∂C/∂x of the network is wanted too."""
        wanted = [True] * len(self.layers) if inputs else self._wanted
        return Workspace(
            self.backend, self._dtype, self._s, key=self.key, training=training, wanted=wanted
        )

    @property
    def affine(self) -> tuple[Any, Any]:
        """What a gather multiplies by and adds: a first `Rescale`'s, else 1 and 0."""
        first = self.layers[0]
        return first.affine(self._s[0]) if isinstance(first, Rescale) else (1.0, 0.0)

    def gather(self, x: Array, rows: Any, ws: Workspace) -> Array:
        """Rows of x as what the first layer takes, in the network's dtype.

        A first `Rescale` is folded in. A memory map on the host is read here.
        """
        backend = self.backend
        if isinstance(x, np.memmap) and backend.name != "numpy":
            x, rows = backend.from_host(np.ascontiguousarray(x[rows])), slice(None)
        if isinstance(rows, slice) and x.dtype == self._dtype and not self._folded:
            return x if rows == slice(None) else x[rows, ...]
        m = rows.shape[0] if not isinstance(rows, slice) else len(range(*rows.indices(x.shape[0])))
        return backend.gather(x, rows, ws.buffer("x", (m, *self.input_shape)), *self.affine)

    def forward(self, x: Array, ws: Workspace) -> tuple[Array, Array, list[Any]]:
        """z^L, a^L and what each layer saved, from gathered rows; all in the workspace."""
        saved: list[Any] = []
        stages = zip(self._chain, self._p, ws.contexts, strict=True)
        if self._folded:
            next(stages)
            saved.append(None)
        for layer, p, ctx in stages:
            x, kept = layer.forward(x, p, ctx)
            saved.append(kept)
        activation = self.objective.activation
        a = x
        if activation.name != "identity":
            a = self.backend.activate(activation, x, ws.buffer("a", x.shape))
        return x, a, saved

    def _x(self, x: Any) -> Array:
        return data.check_x(self.backend, x, self.input_shape)

    def feedforward(self, x: Any) -> Array:
        """The activations of the last layer, (m, k), on the network's backend.

        Parameters
        ----------
        x : array
            (m, \\*input_shape), real numbers. Host arrays are moved to the network's device.

        Raises
        ------
        ValueError
            Another shape, no rows, or values that are not finite.
        TypeError
            Not real numbers.
        BackendError
            A device array for a network on the host.
        """
        return self._feedforward(self._x(x))

    __call__ = feedforward

    def _feedforward(self, x: Array) -> Array:
        ws, m = self.workspace(), x.shape[0]
        if m <= ROWS_AT_ONCE:
            return self._settled(self.forward(self.gather(x, slice(0, m), ws), ws)[1], x)
        out = self.backend.empty((m, *self.output_shape), self._dtype)
        for start in range(0, m, ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, m))
            out[rows, ...] = self.forward(self.gather(x, rows, ws), ws)[1]
        return out

    def _settled(self, a: Array, x: Array) -> Array:
        """`a`, unless layers that change nothing handed the caller's own array through."""
        return a + 0.0 if a is x or (len(self.layers) == 1 and a.shape == x.shape) else a

    def activations(self, x: Any) -> list[Array]:
        """The activations of every layer, (m, ...) each, the input's not counted."""
        x, ws = self._x(x), self.workspace()
        a = self.gather(x, slice(None), ws)
        found = []
        for index, (layer, p, ctx) in enumerate(
            zip(self.layers, self._p, ws.contexts, strict=True)
        ):
            if index or not self._folded:
                a, _ = layer.forward(a, p, ctx)
            found.append(a + 0.0)  # a layer may hand its input's buffer through
        return found

    def predict(self, x: Any) -> Array:
        """Labels (m,) for a classification, 0 or 1 (m, k) for multilabel, else values (m, k).

        One sigmoid output tells classes 0 and 1 apart at ½; several, or a softmax, name the
        class of the largest.
        """
        return self._decide(self.feedforward(x))

    def _decide(self, a: Array) -> Array:
        xp = self.backend.xp
        if self.task == "regression":
            return a
        if self.task == "multilabel" or a.shape[1] == 1:
            marks = xp.astype(a > 0.5, self.backend.index_dtype)
            return marks if self.task == "multilabel" else marks[:, 0]
        return self.backend.argmax(a)

    # --- cost -------------------------------------------------------------------------------

    def targets(self, y: Array, ws: Workspace) -> Array:
        """Labels (m,) as unit vectors, targets (m, k) in the network's dtype."""
        if y.ndim == 1:
            return self.backend.one_hot(y, ws.buffer("y", (y.shape[0], *self.output_shape)))
        return y if y.dtype == self._dtype else self.backend.xp.astype(y, self._dtype)

    def correct(self, a: Array, y: Array) -> Array:
        """Which rows are right, (m,) of bool: the label, or every label of a multilabel row."""
        xp = self.backend.xp
        if y.ndim == 1:
            return self.backend.argmax(a) == y
        decided, truth = self._decide(a), self._decide(y)
        return decided == truth if decided.ndim == 1 else xp.all(decided == truth, axis=1)

    def samples(
        self, x: Any, y: Any, sample_weight: Any = None, *, what: str = "", finite: bool = True
    ) -> data.Samples:
        """Checked samples on this backend; `what` goes before x and y in messages."""
        x = data.check_x(self.backend, x, self.input_shape, f"{what}x", finite)
        y = data.check_y(
            self.backend,
            y,
            x.shape[0],
            self.output_shape[0],
            self.task,
            self.cost.targets,
            f"{what}y",
            finite,
        )
        if sample_weight is not None:
            sample_weight = data.check_weight(
                self.backend, sample_weight, x.shape[0], self._dtype, finite
            )
        return data.Samples(x, y, sample_weight)

    def evaluate(self, samples: data.Samples, ws: Workspace | None = None) -> dict[str, float]:
        """The mean cost, without penalties, and the accuracy (not for a regression)."""
        ws, xp = ws or self.workspace(), self.backend.xp
        cost = right = total = 0.0
        for start in range(0, samples.n, ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, samples.n))
            z, a, _ = self.forward(self.gather(samples.x, rows, ws), ws)
            y = samples.y[rows, ...]
            values = self.objective.value(self.backend, z, a, self.targets(y, ws))
            weight = xp.ones_like(values) if samples.weight is None else samples.weight[rows]
            total += float(xp.sum(weight))
            cost += float(xp.sum(weight * values))
            if self.task != "regression":
                right += float(xp.sum(weight * xp.astype(self.correct(a, y), weight.dtype)))
        found = {"cost": cost / total}
        if self.task != "regression":
            found["accuracy"] = right / total
        return found

    def penalty(self, n: int, l1: float, l2: float) -> float:
        """λ₂/2n Σω² + λ₁/n Σ|ω| over the weights of trained layers."""
        xp, weights = self.backend.xp, self.parameters[: self.layout.decayed]
        found = 0.0
        if l2:
            found += 0.5 * l2 / n * float(xp.sum(weights * weights))
        if l1:
            found += l1 / n * float(xp.sum(xp.abs(weights)))
        return found

    def total_cost(
        self,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        n: int | None = None,
    ) -> float:
        """The mean cost over the samples, plus λ₂/2n Σω² + λ₁/n Σ|ω| (weights, never biases).

        Parameters
        ----------
        x, y : array
            (m, ...) and labels (m,) or targets (m, k).
        sample_weight : array, optional
            (m,); the mean is Σ wC / Σ w.
        l1, l2 : float
            λ₁ and λ₂.
        n : int, optional
            By which they are divided; m by default, as in the seed.
        """
        samples = self.samples(x, y, sample_weight)
        return self.evaluate(samples)["cost"] + self.penalty(n or samples.n, l1, l2)

    def accuracy(self, x: Any, y: Any, *, sample_weight: Any = None) -> float:
        """The fraction of samples that are right, 0 to 1; multilabel: in every label.

        Raises
        ------
        ValueError
            A regression has no accuracy.
        """
        if self.task == "regression":
            raise ValueError("a regression has no accuracy; its cost is net.total_cost(x, y)")
        return self.evaluate(self.samples(x, y, sample_weight))["accuracy"]

    # --- backward ---------------------------------------------------------------------------

    def backward(
        self, delta: Array, saved: list[Any], out: Destinations, ws: Workspace
    ) -> Array | None:
        """BP2 to BP4, from δ^L down: gradients to `out`, and ∂C/∂x if the first layer wants it."""
        below: Array | None = delta
        for index in range(len(self._chain) - 1, -1, -1):
            ctx, to = ws.contexts[index], out.layers[index]
            if not ctx.wanted and to is None:
                return None
            if index == 0 and self._folded and saved[0] is None:
                return self._chain[0].backward(below, None, self._p[0], None, ctx)
            below = self._chain[index].backward(below, saved[index], self._p[index], to, ctx)
        return below

    def weigh(self, values: Array, weight: Array | None, delta: Array) -> tuple[Array, float]:
        """The mean cost of a batch, and α of its gradient.

        Without weights α = 1/m. With them the rows of `delta` are multiplied by w/Σw, on the
        device, and α = 1.
        """
        xp = self.backend.xp
        if weight is None:
            alpha = 1.0 / values.shape[0]
            return self.backend.total(values) * alpha, alpha
        total = xp.sum(weight)
        share = weight / xp.where(total > 0.0, total, xp.ones_like(total))
        delta *= share[:, None]
        return xp.sum(values * share), 1.0

    def backprop(
        self,
        x: Any,
        y: Any = None,
        *,
        delta: Any = None,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        n: int | None = None,
        training: bool = True,
        step: int | None = None,
    ) -> Gradient:
        """The gradient of the mean cost over a batch, by the four equations (ch. 2).

        Parameters
        ----------
        x : array
            (m, \\*input_shape).
        y : array
            Labels (m,) or targets (m, k).
        delta : array, optional
            Instead of y: ∂C/∂a^L, (m, k), of a cost of one's own. It is not divided by m.
        sample_weight : array, optional
            (m,); the cost is Σ wC / Σ w.
        l1, l2 : float
            Adds the gradient of λ₂/2n Σω² + λ₁/n Σ|ω|.
        n : int
            By which they are divided, the size of the whole training set; required with them.
        training : bool
            Whether layers behave as in training: dropout draws masks, running statistics move.
        step : int, optional
            The position of random masks; by default ``net.steps``, which then goes on by one, so
            that a loop of one's own sees the masks that `fit` would.

        Returns
        -------
        Gradient
            Fresh arrays.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`; labels outside the classes; both y and delta, or neither; l1 or l2
            without n.
        """
        if (y is None) == (delta is None):
            raise ValueError("backprop takes either y or delta=, the gradient of your own cost")
        if (l1 or l2) and n is None:
            raise ValueError("l1 and l2 need n=, the size of the training set, which divides them")
        ws = self.workspace(training=training, inputs=True)
        ws.step = self.steps if step is None else step
        if step is None and training:
            self.steps += 1
        if delta is None:
            samples = self.samples(x, y, sample_weight)
            z, a, saved = self.forward(self.gather(samples.x, slice(None), ws), ws)
            y = self.targets(samples.y, ws)
            d = self.objective.delta(self.backend, z, a, y, ws.buffer("delta", z.shape))
            values = self.objective.value(self.backend, z, a, y)
            cost, alpha = self.weigh(values, samples.weight, d)
        else:
            z, a, saved = self.forward(self.gather(self._x(x), slice(None), ws), ws)
            given = data.check_y(
                self.backend, delta, z.shape[0], z.shape[1], "regression", what="delta"
            )
            d = ws.buffer("delta", z.shape)
            d[...] = self.backend.xp.astype(given, self._dtype)
            d = self.backend.activate_backward(self.objective.activation, d, z, a)
            cost, alpha = None, 1.0
        flat = self.backend.zeros((self.layout.size,), self._dtype)
        out = Destinations(self.backend, self.layout, flat)
        out.scale(alpha)
        inputs: Any = self.backward(d, saved, out, ws)
        if n is not None:
            decayed = self.layout.decayed
            add_penalty(self.backend, self.parameters, flat, decayed, l1 / n, l2 / n)
        weights, biases = self._named(self.layout.views(self.backend, flat))
        return Gradient(flat, weights, biases, inputs * alpha, cost)

    # --- copies and files -------------------------------------------------------------------

    def to(self, backend: Any) -> Network:
        """A copy on another backend: parameters, state and the optimizer's memory are moved."""
        return self._copy(get(backend))

    def copy(self) -> Network:
        """A copy that shares nothing with this one; its training goes on alike."""
        return self._copy(self.backend)

    def _copy(self, backend: Backend) -> Network:
        twin = copy.copy(self)
        twin._place(backend, self.dtype)
        twin.generator = copy.deepcopy(self.generator)
        twin.parameters = twin._own(self.backend.to_host(self.parameters))
        twin.state = twin._own(self.backend.to_host(self.state))
        twin._view()
        twin.history = copy.deepcopy(self.history)
        if self.optimizer_state is not None:
            slots = self.optimizer_state.slots
            twin.optimizer_state = dataclasses.replace(
                self.optimizer_state,
                backend=backend,
                slots={k: twin._own(self.backend.to_host(v)) for k, v in slots.items()},
            )
        return twin

    # --- further down -----------------------------------------------------------------------

    def fit(self, x: Any, y: Any = None, **options: Any) -> History:
        """Train; see `bpx.training.fit`, whose first argument is this network."""
        from .training import fit

        return fit(self, x, y, **options)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a safetensors file; see `bpx.files.save`."""
        from .files import save

        save(self, path)

    def summary(self) -> Summary:
        """A table of the layers: prints as text, and as HTML in a notebook."""
        from .summary import Summary

        return Summary.of(self)


def _bind(layers: Sequence[Any]) -> tuple[Layer, ...]:
    """Layers, each with its input's shape."""
    if not isinstance(layers[0], Input):
        raise ValueError(
            f"expected an Input first, got {layers[0]}: Network([bpx.layers.Input(784), ...])"
        )
    shape, bound = layers[0].shape, []
    for index, layer in enumerate(layers[1:]):
        if not isinstance(layer, Layer):
            raise TypeError(f"expected a layer after Input, got {layer!r} at position {index + 1}")
        try:
            layer = layer.bind(shape)
        except ValueError as error:
            raise ValueError(f"layer {index}, {layer}: {error}") from None
        bound.append(layer)
        shape = layer.output_shape
    if not bound:
        raise ValueError("expected at least one layer after Input")
    return tuple(bound)


def _dense_layers(
    sizes: Sequence[Any], hidden: Any, output: Any, weights: Any, bias: Any
) -> tuple[Layer, ...]:
    """Dense layers of these sizes."""
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes)
    if len(sizes) < 2 or not whole or any(n < 1 for n in sizes):
        raise ValueError(
            "expected at least two positive sizes, input and output, such as [784, 30, 10], or "
            f"an Input and layers; got {list(sizes)!r}"
        )
    last = len(sizes) - 2
    dense = [
        Dense(int(n), output if index == last else hidden, weights, bias)
        for index, n in enumerate(sizes[1:])
    ]
    return _bind([Input((int(sizes[0]),)), *dense])
