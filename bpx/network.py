"""The network as users see it: the public interface, which checks its arguments."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from . import architecture, gradients, traces
from .activations import Activation, Sigmoid
from .architecture import Architecture
from .backends import Array, Backend, get
from .chain import Chain, dtype_name
from .checks import flag, nonnegative, whole
from .costs import Cost
from .data import arrays
from .data.blocks import Blocks, bytes_of_a_row
from .data.incoming import Incoming, to_evaluate
from .data.minibatches import Batches
from .data.values import check_finite_rows
from .elsewhere import ATTRIBUTES, OF_FIT, OF_NETWORKS, OF_PREDICTIONS, X_ALONE
from .frames import by_names, check_order, targets_by_names
from .gradients import Gradient
from .keywords import attr_hints, hints, refuse_misspelt
from .labels import as_classes, check_names, check_targets, numbered
from .layers import Input, Layer, sequence
from .names import HasNames, Names
from .optimizers import Optimizer, State, as_optimizer
from .parameters import Layout, Tensors, Views, write
from .registry import article, name_of
from .traces import LayerTrace

if TYPE_CHECKING:
    from .history import History
    from .summary import Summary


SIGMOID = Sigmoid()  # the default, told from one that is given
ASSIGNED = (
    "biases", "chain", "classes", "columns", "generator", "history", "optimizer",
    "optimizer_state", "parameters", "target_columns", "weights",
)  # fmt: skip


@attr_hints(**ATTRIBUTES)
class Network(HasNames):
    """A feed-forward network.

    Parameters
    ----------
    layers : sequence of int, or of Input and Layer
        Sizes, input first, for dense layers; or an `Input` and the layers.
    hidden : Activation or str, or a sequence of them
        For sizes only: σ of the hidden layers, one for all or one for each; the sigmoid by
        default. With layers, each layer names its own.
    output : Activation or str
        For sizes only: σ of the last layer; the sigmoid by default.
    cost : Cost or str, optional
        ``"cross-entropy"`` (default for sigmoid outputs; with softmax it is the log-likelihood),
        ``"log-likelihood"`` (default for softmax), ``"quadratic"`` (default for all others),
        ``"mean-absolute-error"``, ``"huber"``, ``"quantile"``, ``"gaussian-nll"``,
        ``"poisson"``, a registered name or an object.
    weights, bias : Initializer or str, optional
        For sizes only: initial values; see `bpx.initializers` for the defaults.
    backend : optional
        Where the network lives: see `bpx.backends.get`; by default ``BPX_BACKEND``, else NumPy.
    dtype : str
        ``"float32"`` (default) or ``"float64"``.
    seed : int, Generator or None
        For initial values, permutations and masks. None: a different one each time.
    task : str, optional
        ``"classification"`` (default for sigmoid and softmax outputs), ``"multilabel"`` or
        ``"regression"`` (default for all others).

    Attributes
    ----------
    chain : Chain
        The layers with their parameters, for code that trains or extends a network.
    generator : numpy.random.Generator
        Draws the permutations.
    optimizer_state : State or None
        What the optimizer of the last `fit` remembers.
    history : History or None
        Of the last `fit`.

    Raises
    ------
    ValueError
        Sizes below 1, layers that do not fit together, unknown names (with the nearest known), or
        a cost that is not defined on the outputs.
    BackendError
        The backend is not available.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([784, 30, 10], seed=0)
    >>> [w.shape for w in net.weights]
    [(30, 784), (10, 30)]
    """

    @hints(
        'sizes are one list, bpx.Network([784, 30, 10]), and all else has a name, hidden="relu"',
        **OF_NETWORKS,
    )
    def __init__(
        self,
        layers: Sequence[Any],
        *,
        hidden: Activation | str | Sequence[Activation | str] = SIGMOID,
        output: Activation | str = SIGMOID,
        cost: Cost | str | None = None,
        weights: Any = None,
        bias: Any = None,
        backend: Any = None,
        dtype: Any = "float32",
        seed: arrays.Seed = None,
        task: str | None = None,
    ) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"expected sizes or layers, such as [784, 30, 10], got {layers!r}")
        layers = list(layers)
        if any(isinstance(layer, Layer | Input) for layer in layers):
            chosen = {"hidden": hidden is not SIGMOID, "output": output is not SIGMOID}
            chosen |= {"weights": weights is not None, "bias": bias is not None}
            if given := [name for name, is_given in chosen.items() if is_given]:
                raise ValueError(f"{given[0]}= is for sizes; with layers, name it in each layer")
            bound = architecture.bind(layers)
            if not any(getattr(layer, "input_shape", None) for layer in layers):
                architecture.warn_of_channels(bound)  # not again for another network's layers
                architecture.warn_of_places(bound)
        else:
            bound = architecture.of_sizes(layers, hidden, output, weights, bias)
        described = Architecture(bound, cost, task)
        generator = arrays.generator(seed)
        key = int(generator.integers(1 << 64, dtype=np.uint64))
        dtype, layouts = dtype_name(dtype), (described.layout, described.state_layout)
        first = (layout.draw(generator, dtype) for layout in layouts)
        self._begin(Chain(described, get(backend), dtype, key, *first), generator)

    def _begin(self, chain: Chain, generator: np.random.Generator) -> None:
        """Set all attributes as they are before any training."""
        self.chain, self.generator = chain, generator
        self._steps = self._epochs = 0
        self._optimizer: Optimizer | None = None
        self.optimizer_state: State | None = None
        self.history: History | None = None
        self._names = Names(chain.architecture.columns)

    @classmethod
    def of(
        cls, chain: Chain, generator: np.random.Generator, steps: int = 0, epochs: int = 0
    ) -> Network:
        """A network around an existing chain, such as one read from a file."""
        net = cls.__new__(cls)
        net._begin(chain, generator)
        net._count(steps, epochs)
        return net

    def _count(self, steps: int, epochs: int) -> None:
        """Set `steps` and `epochs`; assigning to them is refused."""
        self._steps, self._epochs = steps, epochs

    def __repr__(self) -> str:
        chain = ", ".join(map(str, self.layers))
        cost = name_of(self.cost) or "custom cost"
        return f"<Network {self.input_shape} -> {chain}; {cost}, {self.backend.name}>"

    # --- what it is -------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, each with its input's shape.

        >>> import bpx
        >>> [str(layer) for layer in bpx.Network([784, 30, 10], hidden="relu").layers]
        ['Dense 30, relu', 'Dense 10, sigmoid']
        """
        return self.chain.architecture.layers

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.chain.architecture.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one sample's outputs: (k,)."""
        return self.chain.architecture.output_shape

    @property
    def cost(self) -> Cost:
        """The cost object.

        >>> import bpx
        >>> [bpx.Network([2, 1], output=output).cost.name for output in ("sigmoid", "identity")]
        ['cross-entropy', 'quadratic']
        """
        return self.chain.architecture.cost

    @cost.setter
    def cost(self, value: Any) -> None:
        raise AttributeError(
            "net.cost is chosen when a network is made, bpx.Network(..., cost=...), and is not "
            "set; another.copy_from(net) gives one with another cost the same weights"
        )

    @property
    def task(self) -> str:
        """``"classification"``, ``"multilabel"`` or ``"regression"``.

        >>> import bpx
        >>> [bpx.Network([2, 1], output=output).task for output in ("sigmoid", "identity")]
        ['classification', 'regression']
        """
        return self.chain.task

    @property
    def backend(self) -> Backend:
        """Where its arrays live."""
        return self.chain.backend

    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"float64"``."""
        return self.chain.dtype

    @property
    def steps(self) -> int:
        """Those done so far; a call of `backprop` as in training, without ``step=``, adds one.

        >>> import bpx
        >>> net = bpx.Network([2, 1], seed=0)
        >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=3, batch_size=1)
        >>> net.steps, net.epochs
        (6, 3)
        """
        return self._steps

    @steps.setter
    def steps(self, value: Any) -> None:
        raise AttributeError(
            "net.steps counts those done, and is not set: net.backprop(..., step=...) takes a "
            "position of its own"
        )

    @property
    def epochs(self) -> int:
        """Those done so far by `fit`.

        >>> import bpx
        >>> bpx.Network([2, 1]).epochs
        0
        """
        return self._epochs

    @epochs.setter
    def epochs(self, value: Any) -> None:
        raise AttributeError(
            "net.epochs counts those done, and is not set: net.fit(..., epochs=...) trains for "
            "further ones"
        )

    @property
    def optimizer(self) -> Optimizer | None:
        """That of the last `fit`, or the one you have set; `fit` uses it unless given another.

        A different one starts without memory. A run in progress keeps its own; a callback can
        change its ``run.optimizer_state.factor``.

        >>> import bpx
        >>> net = bpx.Network([2, 1], seed=0)
        >>> history = net.fit([[0.0, 1.0]], [1], epochs=2, optimizer=bpx.SGD(0.5, momentum=0.9))
        >>> net.optimizer, list(net.optimizer_state.slots)
        (SGD(learning_rate=0.5, momentum=0.9, nesterov=False), ['velocity'])
        >>> net.optimizer = bpx.SGD(0.1)  # the next fit's, without memory
        >>> net.optimizer_state is None
        True
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, chosen: Optimizer | str | None) -> None:
        found = None if chosen is None else as_optimizer(chosen)
        if found is None or found != self._optimizer:
            self.optimizer_state = None
        self._optimizer = found

    @property
    def names(self) -> Names:
        """`columns`, `target_columns` and `classes` together.

        >>> import bpx
        >>> net = bpx.Network([2, 1])
        >>> net.columns = ["height", "width"]
        >>> net.names
        Names(columns=('height', 'width'), target_columns=None, classes=None)
        """
        return self._names

    @names.setter
    def names(self, names: Names) -> None:
        self._names = check_names(self.chain.architecture, names)

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in θ."""
        return self.chain.architecture.layout

    @property
    def parameters(self) -> Array:
        """θ, all parameters in one flat vector (see `bpx.parameters`).

        Between its tensors there is padding, which is zero, as in gradients. Assignment writes
        into the vector and keeps the padding zero: ``net.parameters -= 0.1 * grad.flat``. Values
        written by ``net.parameters[...] = values`` must have zeros there too: penalties and norms
        run over the whole vector.

        Raises
        ------
        ValueError, TypeError
            When set: another shape, or not numbers.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 1], weights="zeros", bias="zeros")
        >>> net.parameters += 1.0
        >>> net.weights[0].tolist(), net.biases[0].tolist()
        ([[1.0, 1.0]], [1.0])
        >>> net.parameters.shape, float(net.parameters.sum())
        ((32,), 3.0)
        """
        return self.chain.parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        write(self.chain.parameters, values, "θ")
        self.layout.clear_padding(self.chain.parameters)

    @property
    def state(self) -> Array:
        """Running statistics of layers in one flat vector."""
        return self.chain.state

    @property
    def weights(self) -> Views:
        """ω as views into θ, one for each layer that has weights, layers in a layer included.

        Assignment writes into θ: ``net.weights[0] = array``, ``net.weights[0] -= 0.1 * g``.

        >>> import bpx
        >>> net = bpx.Network([2, 3, 1], seed=0)
        >>> net.weights[1] = [[1.0, 2.0, 3.0]]
        >>> net.weights[1] *= 2.0
        >>> len(net.weights), net.tensors["layers.1.weights"].tolist()
        (2, [[2.0, 4.0, 6.0]])
        """
        return self.chain.weights

    @weights.setter
    def weights(self, values: Iterable[Any]) -> None:
        self.weights.write(values)

    @property
    def biases(self) -> Views:
        """b, as `weights`.

        >>> import bpx
        >>> net = bpx.Network([2, 3, 1], bias="zeros")
        >>> net.biases[0] += 0.5
        >>> [b.tolist() for b in net.biases]
        [[0.5, 0.5, 0.5], [0.0]]
        """
        return self.chain.biases

    @biases.setter
    def biases(self, values: Iterable[Any]) -> None:
        self.biases.write(values)

    @property
    def tensors(self) -> Tensors:
        """Every tensor by its name in files, such as ``"layers.0.weights"``: views into θ.

        Also views into the running statistics, such as ``"layers.1.mean"`` of a `BatchNorm`.
        Assignment writes into θ.

        >>> import bpx
        >>> net = bpx.Network([2, 1])
        >>> net.tensors["layers.0.weights"] = [[1.0, 2.0]]
        >>> net.weights[0].tolist(), net.tensors
        ([[1.0, 2.0]], Tensors({'layers.0.weights': (1, 2), 'layers.0.bias': (1,)}))
        """
        state_layout, xp = self.chain.architecture.state_layout, self.backend.xp
        views = self.layout.tensors(xp, self.parameters), state_layout.tensors(xp, self.state)
        return Tensors(views[0] | views[1])

    # --- forward ----------------------------------------------------------------------------

    def feedforward(self, x: Any) -> Array:
        r"""The activations of the last layer, (m, k), on the network's backend.

        Parameters
        ----------
        x : array or Blocks
            (m, \*input_shape), real numbers. Host arrays are moved to the network's device, and
            `bpx.open_data` is read piece by piece. Of a data frame, the columns in ``net.columns``
            are taken, if that is set.

        Raises
        ------
        ValueError
            Another shape, no rows, values that are not finite, or a frame that lacks such a
            column.
        TypeError
            Not real numbers.
        BackendError
            A device array for a network on the host.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 3, 1], weights="zeros", bias="zeros")
        >>> net.feedforward([[0.0, 1.0], [2.0, 3.0]]).tolist()
        [[0.5], [0.5]]
        """
        return self._outputs(x)  # no `hints` for this method: they would take 0.35 of its 5 µs

    __call__ = feedforward

    def _outputs(self, x: Any, decided: bool = False) -> Array:
        """Those of `Chain.outputs` for what a user passes."""
        chain = self.chain
        if isinstance(x, Blocks):
            arrays.check_row_shape(by_names(x, self.columns).shape, self.input_shape, x)
            checked = x.checking(chain.architecture.indices, chain.largest_input)
            return chain.outputs(checked, decided=decided)
        given = self._by_names(x)
        x = self._rows(given, finite=False)
        if chain.architecture.integers:  # which are checked already
            return chain.outputs(x, decided=decided)
        check = partial(check_finite_rows, x, "x", given, chain.largest_input)
        return chain.outputs(x, decided=decided, check=check)

    def _by_names(self, x: Any) -> Any:
        columns = self._names.columns
        return x if columns is None else by_names(x, columns)

    def _checked_x(self, x: Any) -> Array:
        return self._rows(self._by_names(x))

    def _rows(self, given: Any, finite: bool = True, what: str = "x") -> Array:
        chain, described = self.chain, self.chain.architecture
        shape, indices = described.input_shape, described.indices
        most = chain.largest_input if finite else math.inf
        return arrays.check_x(chain.backend, given, shape, what, finite, indices, most)

    def activations(
        self, x: Any, *, training: bool = False, step: int | None = None
    ) -> list[Array]:
        r"""The activations of every layer, (m, ...) each, without the input.

        Parameters
        ----------
        x : array
            (m, \*input_shape).
        training : bool
            Whether layers behave as in training: dropout draws masks, normalization takes the
            statistics of this batch (the running ones stay). The last activations, drawn again
            and again, are a sample of what the network might say (Gal and Ghahramani 2016).
        step : int, optional
            The position of random masks, as in `backprop`: by default ``net.steps``, which in
            training then advances by one.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 2, 1], hidden="relu", output="identity", bias="zeros")
        >>> net.weights = [[[1.0, 0.0], [0.0, -1.0]], [[2.0, 2.0]]]
        >>> [a.tolist() for a in net.activations([[3.0, 1.0]])]
        [[[3.0, 0.0]], [[6.0]]]
        """
        chain, training = self.chain, flag("training", training)
        # On a copy, which a pass in another thread does not see.
        ws = chain.workspace(training=training, state=chain.state + 0.0)
        ws.step = self._steps if step is None else whole("step", step, 0)
        x = self._checked_x(x)
        self._steps += training and step is None
        with np.errstate(all="ignore"):  # what is not finite shows in what is returned
            gathered = chain.gather(x, slice(None), ws)
            # Copied, because a layer may hand its input's buffer through.
            return [a + 0.0 for a in chain.layer_outputs(gathered, ws)]

    @hints(X_ALONE, **OF_PREDICTIONS)
    def predict(self, x: Any, *, names: bool = False) -> Array:
        """Labels (m,) for a classification, 0 or 1 (m, k) for multilabel, else values (m, k).

        One sigmoid output means class 1 above ½; of several, or of a softmax, the largest gives
        the class. In a multilabel task a label is present above ½. With `names` labels are those
        of `classes`, in an array of NumPy's; ValueError where there are none.

        >>> import bpx
        >>> net = bpx.Network([1, 1], bias="zeros", dtype="float64")
        >>> net.weights[0] = [[1.0]]
        >>> x = [[-1.0], [1.0]]
        >>> net.feedforward(x).round(3).tolist(), net.predict(x).tolist()
        ([[0.269], [0.731]], [0, 1])
        >>> net.classes = ["no", "yes"]
        >>> net.predict(x, names=True).tolist()
        ['no', 'yes']
        """
        labels = self._outputs(x, decided=True)
        return labels if names is False else as_classes(labels, self.classes, names)

    # --- cost -------------------------------------------------------------------------------

    def samples(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        what: str = "",
        finite: bool = True,
        allow_zero_weight: bool = False,
        names: Names | None = None,
    ) -> arrays.Samples:
        """Checked samples on this backend, for code that trains or extends a network.

        Parameters
        ----------
        x, y, sample_weight
            As for `evaluate`, whose errors it raises.
        what : str
            Goes before x and y in messages, such as ``"validation "``.
        finite : bool
            Look for NaN and infinity.
        allow_zero_weight : bool
            Whether all weights may be zero, as those of a mini-batch may.
        names : Names, optional
            By which columns and classes are matched; by default the network's.
        """
        names = self.names if names is None else names
        x = by_names(x, names.columns, f"{what}x")
        check_order(x, what, y=y, sample_weight=sample_weight)
        if isinstance(x, Blocks):
            y, sample_weight = x.complete(y, sample_weight)
            x.check_targets(y, names.target_columns, what)
        elif y is None and isinstance(x, Batches | Iterator):
            raise TypeError(
                f"expected {what}x and y as arrays, got {article(type(x).__name__)}: mini-batches "
                "are for fit and evaluate"
            )
        elif y is None:
            raise ValueError(
                f"{what}y is missing: pass arrays as x and y, or a pair of them as *pair; "
                "only open_data(x, y) has its own"
            )
        y = targets_by_names(y, names.target_columns, f"{what}y")
        y = numbered(y, names.classes, f"{what}y")
        if isinstance(x, Blocks):
            return self._on_disk(x, y, sample_weight, what, finite, names.classes)
        counts = self.chain.architecture.target_counts
        arrays.check_not_swapped(x, y, self.input_shape, counts, what)
        x = self._rows(x, finite, f"{what}x")
        held = self._targets(x.shape[0], y, sample_weight, what, finite, allow_zero_weight)
        return arrays.Samples(x, *held)

    def _on_disk(
        self, x: Blocks, y: Any, sample_weight: Any, what: str, finite: bool, classes: Any
    ) -> arrays.Samples:
        """Samples whose x is on disk; read into memory if all of it fits into its budget."""
        arrays.check_row_shape(x.shape, self.input_shape, x, f"{what}x")
        x.check_classes(classes, what)
        if x.classes and classes is None and self.steps:
            raise ValueError(
                f"the numbers in {what}y stand for class names, and the network has learned only "
                "numbers: name them, in the order of its labels, with net.classes = [...]"
            )
        held = self._targets(x.n, y, sample_weight, what, finite)
        indices, most = self.chain.architecture.indices, self.chain.largest_input
        x = x.checking(indices, most, finite)
        if x.fits(bytes_of_a_row(held)):
            read = arrays.check_x(self.backend, x.read(finite), self.input_shape, finite=False)
            return arrays.Samples(read, *held)
        return arrays.Samples(x, *held)

    def _targets(
        self,
        m: int,
        y: Any,
        sample_weight: Any,
        what: str,
        finite: bool,
        allow_zero_weight: bool = False,
    ) -> tuple[Array, Array | None]:
        """Checked labels or targets of m samples, and their weights, as in `samples`."""
        backend, outputs = self.backend, self.output_shape[0]
        described, largest = self.chain.architecture, self.chain.largest_number
        check_targets(y, self.task, f"{what}y")
        y = arrays.check_y(
            backend, y, m, outputs, self.task, counts=described.target_counts, what=f"{what}y",
            targets=described.wanted_targets, finite=finite, most=largest,
        )  # fmt: skip
        if sample_weight is not None:
            dtype, called = self.chain.xp_dtype, f"{what}sample_weight"
            sample_weight = arrays.check_weight(
                backend, sample_weight, m, dtype, finite, allow_zero_weight, called
            )
        return y, sample_weight

    @hints(**OF_PREDICTIONS)
    def evaluate(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """The mean ``cost``, without penalties, and the ``accuracy`` (not for a regression).

        Parameters
        ----------
        x, y : array
            (m, ...) and labels (m,) or targets (m, k). Or the data of `bpx.open_data`, read piece
            by piece, with y if they have none. Or, without y, an iterable of (x, y) or
            (x, y, sample_weight) mini-batches, such as a list of tuples, `bpx.batches` or a
            PyTorch loader, which is iterated over once; the means are those over all its samples.
        sample_weight : array, optional
            (m,); both are then means weighted by it. Mini-batches bring their own.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`; y is missing, or does not fit the outputs, the task or the cost; an
            iterable gives something else, nothing, or weights that are all zero.

        Examples
        --------
        Two of three outputs are on the right side of ½; each of them costs ln(1 + 1/e) = 0.3133:

        >>> import bpx
        >>> net = bpx.Network([1, 1], bias="zeros", dtype="float64")
        >>> net.weights[0] = [[1.0]]
        >>> x, y = [[1.0], [-1.0], [1.0]], [1, 0, 0]
        >>> {name: round(value, 4) for name, value in net.evaluate(x, y).items()}
        {'cost': 0.6466, 'accuracy': 0.6667}
        >>> round(net.evaluate(x, y, sample_weight=[1, 1, 0])["cost"], 4)
        0.3133
        >>> net.evaluate(bpx.batches(x, y, 2))["accuracy"] == net.accuracy(x, y)
        True
        """
        return self.chain.evaluate(to_evaluate(self, x, y, sample_weight))

    @hints(**OF_PREDICTIONS)
    def total_cost(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        n: int | None = None,
    ) -> float:
        """The mean cost over the samples, plus λ₂/2n Σω² + λ₁/n Σ|ω| over trained layers' weights.

        Parameters
        ----------
        x, y : array
            As for `evaluate`.
        sample_weight : array, optional
            (m,); the mean is Σ wC / Σ w.
        l1, l2 : float
            λ₁ and λ₂.
        n : int, optional
            What both are divided by; by default the number of samples, as in the book.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 1], output="identity", bias="zeros")
        >>> net.weights[0] = [[3.0, 4.0]]
        >>> x, y = [[1.0, 0.0], [0.0, 1.0]], [3.0, 3.0]  # errors 0 and 1
        >>> net.total_cost(x, y)  # ½ (0² + 1²) / 2
        0.25
        >>> net.total_cost(x, y, l2=2.0)  # and 2/(2·2) (3² + 4²)
        12.75
        """
        if isinstance(y, float | int):  # as the book's total_cost(data, lmbda) is called
            pair = isinstance(x, tuple | list) and len(x) == 2
            raise TypeError(
                f"expected y as an array, got {y}; a penalty is l2=: "
                f"net.total_cost({'*pair' if pair else 'x, y'}, l2={y})"
            )
        l1, l2 = nonnegative("l1", l1), nonnegative("l2", l2)
        n = None if n is None else whole("n", n)
        samples = to_evaluate(self, x, y, sample_weight)
        mean = self.chain.evaluate(samples)["cost"]
        m = samples.came if isinstance(samples, Incoming) else samples.n
        return mean + self.chain.penalty(m if n is None else n, l1, l2)

    @hints(**OF_PREDICTIONS)
    def accuracy(self, x: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The fraction of samples that are right, 0 to 1; for multilabel, right in every label.

        Parameters
        ----------
        x, y, sample_weight
            As for `evaluate`.

        Raises
        ------
        ValueError
            A regression has no accuracy.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([1, 1], bias="zeros")
        >>> net.weights[0] = [[1.0]]
        >>> net.accuracy([[-2.0], [-1.0], [1.0], [2.0]], [0, 1, 1, 1])
        0.75
        """
        if self.task == "regression":
            raise ValueError("a regression has no accuracy; its cost is net.total_cost(x, y)")
        return self.evaluate(x, y, sample_weight=sample_weight)["accuracy"]

    # --- backward ---------------------------------------------------------------------------

    @hints(delta="here it is output_gradient=, which is ∂C/∂a^L; the book's δ^L is ∂C/∂z^L")
    def backprop(
        self,
        x: Any,
        y: Any = None,
        *,
        output_gradient: Any = None,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        n: int | None = None,
        training: bool = True,
        step: int | None = None,
        inputs: bool = True,
    ) -> Gradient:
        """The gradient of the mean cost over a batch, by the four equations (ch. 2).

        Parameters
        ----------
        x : array
            (m, \\*input_shape).
        y : array
            Labels (m,) or targets (m, k).
        output_gradient : array or function, optional
            Instead of y: ∂C/∂a^L, (m, k), of your own cost, or a function that computes it from
            the a^L of this pass, for which dropout has drawn its masks. It is not divided by m.
            (The δ^L of `trace` is ∂C/∂z^L, which has σ' in it.)
        sample_weight : array, optional
            (m,); the cost is Σ wC / Σ w.
        l1, l2 : float
            Adds the gradient of λ₂/2n Σω² + λ₁/n Σ|ω|.
        n : int
            What both are divided by, the size of the whole training set; required with them.
        training : bool
            Whether layers behave as in training: dropout draws masks, running statistics move.
        step : int, optional
            The position of random masks; by default ``net.steps``, which in training then advances
            by one, so that your own loop sees the masks that `fit` would.
        inputs : bool
            Whether ∂C/∂x is computed too, which takes as long as the gradient of the first layer.

        Returns
        -------
        Gradient
            Fresh arrays; its ``inputs`` are None with ``inputs=False``.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`; labels outside the classes; both y and output_gradient, or neither;
            l1 or l2 without n.

        Examples
        --------
        With the quadratic cost on linear outputs δ = a − y is 1 and −2, and ∂C/∂ω the mean of δ·x:

        >>> import numpy as np
        >>> import bpx
        >>> net = bpx.Network([2, 1], output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0, 2.0]]
        >>> x, y = np.array([[1.0, 1.0], [3.0, 0.0]]), np.array([[2.0], [5.0]])
        >>> grad = net.backprop(x, y)
        >>> grad.weights[0].tolist(), grad.biases[0].tolist(), float(grad.cost)
        ([[-2.5, 0.5]], [-0.5], 1.25)

        The same from your own gradient, that of the mean:

        >>> net.backprop(x, output_gradient=lambda a: (a - y) / len(y)).weights[0].tolist()
        [[-2.5, 0.5]]
        """
        arrays.check_in_memory(x)
        if (y is None) == (output_gradient is None):
            raise ValueError(
                "backprop takes either y or output_gradient=, the gradient of your own cost"
            )
        if (l1 or l2) and n is None:
            raise ValueError("l1 and l2 need n=, the size of the training set, which divides them")
        if output_gradient is not None and sample_weight is not None:
            raise ValueError(
                "sample_weight is for y; weigh the rows of your own output_gradient yourself"
            )
        l1, l2 = nonnegative("l1", l1), nonnegative("l2", l2)
        if n is not None:
            n = whole("n", n)
        training, inputs = flag("training", training), flag("inputs", inputs)
        ws = self.chain.workspace(training=training, inputs=inputs)
        ws.step = self._steps if step is None else whole("step", step, 0)
        if output_gradient is None:
            samples = self.samples(x, y, sample_weight, allow_zero_weight=True)
            found = gradients.from_targets(self.chain, samples, ws)
        else:
            found = gradients.from_outputs(self.chain, self._checked_x(x), output_gradient, ws)
        if n is not None:
            self.chain.add_penalty(found.flat, l1 / n or None, l2 / n or None)
        if step is None and training:
            self._steps += 1
        return found

    def jacobian(self, x: Any) -> Array:
        r"""∂a^L/∂x of each sample: how each output changes with each input.

        Layers behave as in prediction. Each sample goes through as often as there are outputs.

        Parameters
        ----------
        x : array
            (m, \*input_shape).

        Returns
        -------
        array
            (m, k, \*input_shape); 0 by way of an `Embedding`, which takes whole numbers.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`; inputs that are nothing but the whole numbers of an `Embedding`.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([3, 2], output="identity", bias="zeros")
        >>> net.weights[0] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        >>> net.jacobian([[0.0, 0.0, 1.0]]).tolist()
        [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]
        """
        arrays.check_in_memory(x)
        if self.chain.architecture.integers:
            raise ValueError(
                "there are no derivatives with respect to the whole numbers of an Embedding"
            )
        return gradients.jacobian(self.chain, self._checked_x(x))

    def trace(self, x: Any, y: Any = None) -> list[LayerTrace]:
        r"""What each layer computes for a batch: z^l, a^l and, with y, δ^l of each sample.

        Layers behave as in prediction: nothing is dropped, and normalization uses its running
        statistics.

        Parameters
        ----------
        x : array
            (m, \*input_shape).
        y : array, optional
            Labels (m,) or targets (m, k).

        Returns
        -------
        list of LayerTrace
            One for each of ``net.layers``, in fresh arrays.

        Raises
        ------
        ValueError, TypeError, BackendError
            As `feedforward`; labels outside the classes.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 3, 1], weights="zeros", bias="zeros", cost="quadratic")
        >>> hidden, output = net.trace([[1.0, 2.0], [3.0, 4.0]], [0, 1])
        >>> output.z.tolist(), output.a.tolist(), output.delta.tolist()
        ([[0.0], [0.0]], [[0.5], [0.5]], [[0.125], [-0.125]])

        Their means are the gradient of the biases (BP3), and δᵀa/m that of the weights (BP4):

        >>> net.backprop([[1.0, 2.0], [3.0, 4.0]], [0, 1]).weights[1].tolist()
        [[0.0, 0.0, 0.0]]
        >>> (output.delta.T @ hidden.a / 2).tolist()
        [[0.0, 0.0, 0.0]]
        """
        arrays.check_in_memory(x)
        ws, targets = self.chain.workspace(inputs=True), None
        if y is None:
            x = self._checked_x(x)
        else:
            samples = self.samples(x, y)
            x, targets = samples.x, samples.y
        return traces.trace(self.chain, self.chain.gather(x, slice(None), ws), targets, ws)

    # --- copies -----------------------------------------------------------------------------

    def to(self, backend: Any = None, dtype: Any = None) -> Network:
        """A copy on another backend, or in another dtype, or both.

        Parameters, state and the optimizer's memory are moved. An argument of None keeps what the
        network has.

        >>> import bpx
        >>> net = bpx.Network([2, 1], seed=0)
        >>> net.to(dtype="float64").dtype, net.dtype
        ('float64', 'float32')
        """
        chain = self.chain.moved(self.backend if backend is None else get(backend), dtype)
        twin = copy.copy(self)
        twin.chain, twin.generator = chain, copy.deepcopy(self.generator)
        twin.history = copy.deepcopy(self.history)
        if self.optimizer_state is not None:
            slots = self.optimizer_state.slots.items()
            twin.optimizer_state = dataclasses.replace(
                self.optimizer_state,
                backend=chain.backend,
                slots={name: chain.copy_of(self.backend.to_host(slot)) for name, slot in slots},
            )
        return twin

    def copy(self) -> Network:
        """A copy that shares nothing with this one, and trains on in the same way.

        >>> import bpx
        >>> net = bpx.Network([2, 1], weights="zeros")
        >>> twin = net.copy()
        >>> twin.weights[0] += 1.0
        >>> net.weights[0].tolist(), twin.weights[0].tolist()
        ([[0.0, 0.0]], [[1.0, 1.0]])
        """
        return self.to()

    def frozen(self, layers: int) -> Network:
        """A copy whose first layers keep what they have learned, while the others train.

        Parameters
        ----------
        layers : int
            How many layers, from the first. Those after them stay as they are, with
            ``trainable=False`` or without; `thawed` makes all of them trainable.

        Returns
        -------
        Network
            With this one's parameters, running statistics and names; the optimizer begins without
            memory.

        Raises
        ------
        ValueError
            There are not so many layers.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([4, 3, 2], seed=0)
        >>> tuned = net.frozen(1)
        >>> [layer.trainable for layer in tuned.layers]
        [False, True]
        >>> history = tuned.fit([[0.0, 1.0, 2.0, 3.0]], [1], epochs=1)
        >>> [bool((a == b).all()) for a, b in zip(tuned.weights, net.weights)]
        [True, False]
        """
        count = whole("layers", layers, 0)
        if count > len(self.layers):
            raise ValueError(f"expected layers <= {len(self.layers)}, got {count}")
        kept = [dataclasses.replace(layer, trainable=False) for layer in self.layers[:count]]
        return self._with([*kept, *self.layers[count:]])

    def thawed(self) -> Network:
        """A copy in which every layer trains, whatever was frozen, also within other layers.

        Returns
        -------
        Network
            With this one's parameters, running statistics and names; the optimizer begins without
            memory.

        Examples
        --------
        From the last layer on, one more learns at a time:

        >>> import bpx
        >>> net = bpx.Network([4, 3, 3, 2], seed=0).frozen(2)
        >>> net = net.thawed().frozen(1)
        >>> [layer.trainable for layer in net.layers]
        [False, True, True]
        >>> [layer.trainable for layer in net.thawed().layers]
        [True, True, True]
        """
        return self._with(sequence.thawed(self.layers))

    def _with(self, layers: Sequence[Layer]) -> Network:
        """A copy with these layers, which have tensors of the same names and shapes."""
        bound = sequence.bind(layers, self.input_shape)
        described = Architecture(bound, self.cost, self.task, self.chain.architecture.custom)
        empty = (np.zeros(found.size) for found in (described.layout, described.state_layout))
        twin = self.copy()
        twin.chain = Chain(described, self.backend, self.dtype, self.chain.key, *empty)
        twin.optimizer_state = None  # in the order of another θ
        twin.copy_from(self)
        return twin

    def copy_from(self, other: Network, layers: int | None = None) -> None:
        """Take over what another network has learned: parameters and running statistics.

        Tensors are matched by name, so the two networks may have different layers frozen, where
        ``net.parameters = other.parameters`` would mix up their places.

        Parameters
        ----------
        other : Network
            On any backend, of any dtype.
        layers : int, optional
            How many layers, from the first; by default all of both.

        Raises
        ------
        ValueError
            The tensors differ in names or shapes, and nothing is copied then; or neither network
            has so many layers.

        Examples
        --------
        >>> import bpx
        >>> trained = bpx.Network([4, 3, 2], seed=0)
        >>> frozen = bpx.layers.Dense(3, "sigmoid", trainable=False)
        >>> net = bpx.Network([bpx.layers.Input(4), frozen, bpx.layers.Dense(5, "softmax")])
        >>> net.copy_from(trained, layers=1)
        >>> bool((net.weights[0] == trained.weights[0]).all())
        True
        """
        if not isinstance(other, Network):
            raise TypeError(f"expected a Network to copy from, got {type(other).__name__}")
        count = max(len(self.layers), len(other.layers))
        most = count if layers is None else whole("layers", layers)
        if most > count:
            raise ValueError(f"expected layers <= {count}, got {most}")
        ours, theirs = (_of_first(net, most) for net in (self, other))
        for name in dict.fromkeys([*ours, *theirs]):
            here, there = (tuple(t[name].shape) if name in t else None for t in (ours, theirs))
            if here != there:
                before = _layer_of(name)
                hint = f": layers={before} copies only those before it" if before else ""
                raise ValueError(
                    f"expected tensors of the same names and shapes, got {name} of shape "
                    f"{here or 'none'} here and {there or 'none'} there{hint}"
                )
        for name, tensor in ours.items():
            host = other.backend.to_host(theirs[name])
            tensor[...] = self.backend.from_host(host.astype(self.dtype))

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return self.copy()

    # --- training, files, summary -----------------------------------------------------------

    @hints(
        "after x and y all arguments have names, as in fit(*train, validation=(x, y), epochs=10)",
        **OF_FIT,
    )
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 30,
        batch_size: int | None = None,
        optimizer: Optimizer | str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        sample_weight: Any = None,
        validation: Any = None,
        callbacks: Any = (),
        shuffle: bool | Callable[[], Any] = True,
        drop_last: bool = False,
        progress: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        n: int | str | None = None,
        check_finite: bool = True,
        graph: bool | str = "auto",
        precision: str | None = None,
        checkpoint: Any = None,
        resume: bool = False,
        accumulate: int = 1,
        augment: Any = None,
        parallel: Any = None,
    ) -> History:
        """Train by mini-batch gradient descent.

        The objective of a step is the mean cost of its mini-batch plus λ₂/2n Σω² + λ₁/n Σ|ω|,
        over weights and never biases. A further call continues where the last one stopped.

        Parameters
        ----------
        x : array, memory map, sparse matrix, Blocks, or iterable
            (n, \\*input_shape). SciPy's sparse matrices, for inputs of one dimension, are made
            dense one mini-batch at a time; on NumPy a first dense layer multiplies by the sparse
            rows directly if at most 2 % of the elements are not zero. Or `bpx.open_data` of data
            larger than memory, which brings y and weights if they are not given here. Or, without
            y, an iterable of (x, y) or (x, y, sample_weight) mini-batches, which is iterated once
            per epoch and so must be finite.
        y : array
            Labels (n,), integers or names of `classes`, or targets (n, k), or fewer where the cost
            takes several outputs for each (see `bpx.costs.Cost`).
        epochs : int
            Further passes over the data; 30 by default.
        batch_size : int, optional
            m ≤ n; by default 10, or n if that is less. The last, smaller batch of an epoch is
            trained on too, unless `drop_last`.
        optimizer : Optimizer or str, optional
            By default ``net.optimizer``, which is that of the last `fit`, else ``SGD(0.1)``, and
            for a regression ``Adam(0.003)``. An optimizer equal to the last one continues with its
            memory; a different one starts anew.
        l1, l2 : float
            λ₁ and λ₂ ≥ 0; they are divided by `n`. 0 by default.
        sample_weight : array, optional
            (n,), not negative: a batch's cost is Σ wC / Σ w.
        validation : (x, y), (x, y, sample_weight), Blocks or iterable, optional
            Evaluated after each epoch. An iterable brings mini-batches, as for `evaluate`, also
            where x and y are arrays, and is iterated over after each epoch.
        callbacks : callback, function, or sequence of them, optional
            See `bpx.callbacks`.
        shuffle : bool or function
            A new permutation each epoch, from ``net.generator``; True by default. A function
            without arguments returns each epoch's rows, n integers; not for data in blocks.
        drop_last : bool
            Leave out what remains of an epoch's order when there are fewer than `batch_size` rows
            left: other samples each epoch, unless `shuffle` is False. `BatchNorm` needs it where
            that would be a single row. l1 and l2 are still divided by the size of the training
            set. False by default.
        progress : bool
            A bar in a terminal or notebook, a line per epoch in a log file; False by default.
        clip_norm, clip_value : float, optional
            Clip the gradient, penalties included: each element to ±clip_value, then its Euclidean
            norm over all parameters to clip_norm. None (default): do not.
        n : int or "batch", optional
            What l1 and l2 are divided by: by default the size of the training set; with an
            iterable, which does not know it, l1 and l2 need `n`. ``"batch"``: each mini-batch's
            sum of weights, which without `sample_weight` is its size: scikit-learn's convention.
        check_finite : bool
            Look for NaN and infinity in the data first, and at the scales of x and y; True by
            default.
        graph : "auto" or bool
            On CuPy: record a step as a CUDA graph and replay it, which saves the host the
            launches. "auto" (default) does so for arrays in memory and bpx's own optimizers,
            without `augment` and callbacks that have ``on_step_end``; it compares two replays with
            the same steps done without a graph, and continues without one, with a warning, if they
            differ. True raises where no graph is possible; False never makes one.
        precision : str, optional
            On CuPy, for the matrix products of a float32 network: ``"tf32"``, ``"float16"`` or
            ``"bfloat16"`` round the factors and sum in float32; parameters and everything else
            stay float32. With float16 each factor is scaled by a power of two that fits its
            largest element, which does the work of loss scaling. By default everything is in the
            network's dtype.
        checkpoint : path or Checkpoint, optional
            A folder to which everything that further steps depend on is written, after each epoch
            or when `bpx.Checkpoint` says. By default nothing is written.
        resume : bool
            Continue from the newest whole checkpoint there, or begin if there is none. The
            network, the data and all arguments have to be those of the run that wrote it, except
            that `epochs`, which counts the whole run, may be larger. On NumPy the run ends like
            one that never stopped, to the last bit (if BLAS has one thread, since its sums may
            depend on their number). False by default.
        accumulate : int
            The number of slices into which each mini-batch is cut; they go through the network one
            after another, with one update for their sum: the same step with a part of the memory
            for activations, except for `BatchNorm`, which takes its statistics from each slice. 1
            by default.
        augment : Augmentation or sequence of them, optional
            Random changes of the images of each mini-batch, in training only, one after another,
            see `bpx.augmentation`: ``[Shift(1), Rotate(10)]``. The history's training cost and
            accuracy are then those of the changed images. By default there is none.
        parallel : "mpi", DataParallel or communicator of mpi4py, optional
            Processes, started by ``mpiexec``, that train the same network on the same data: each
            takes a part of each mini-batch and of the validation data, their gradients are
            summed, and all do the same update. All start from rank 0's parameters and random
            state; it alone prints and writes checkpoints; callbacks run on every rank. An iterable
            brings each rank's own part of the mini-batches, or of the validation data. By default
            one process trains alone.

        Returns
        -------
        History
            Of this call; also ``net.history``.

        Raises
        ------
        ValueError, TypeError
            Bad data or options; nothing has been trained then, unless it is a mini-batch of an
            iterable, which is checked when it comes.
        BackendError
            Device arrays for a network on the host.
        RuntimeError
            The network is already being trained: the call comes from a callback of that run, or
            from another thread.
        DivergenceError
            A cost that is not finite; the weights of the last good step are kept.
        RankError
            With several ranks: another one has failed, is dead or does not arrive; it is named.
        FileExistsError, FileFormatError, OSError
            There are checkpoints of an earlier run, and no `resume`; none of them is whole; or the
            first of this run could not be written. A later one that cannot be written is a
            RuntimeWarning.

        Warns
        -----
        RuntimeWarning
            What looks like a mistake: a column of x that float32 hardly tells apart; x so far from
            1 that the first layer's z begin where networks learn little, or a regression's y so
            far from the first outputs (of arrays in memory, not with ``check_finite=False``); rows
            of y that name several classes; x and y whose indices differ; a schedule that ends in
            the first of several epochs; a network without trained parameters. Or Ctrl-C has ended
            the run.

        Notes
        -----
        Ctrl-C takes effect between two steps: `fit` returns the history so far, with
        ``history.interrupted`` set, and the network has the weights of the last full step, or
        those of the best epoch by `EarlyStopping`. A second Ctrl-C raises KeyboardInterrupt at
        once, also in the next call if it comes within three seconds. With `checkpoint`, SIGTERM
        ends the run in the same way; after the last checkpoint and the callbacks' ``on_fit_end``
        it is delivered again, on all ranks: the process dies of it, or the user's own handler is
        called.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 4, 1], seed=2, dtype="float64")
        >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> history = net.fit(x, y, epochs=500, optimizer=bpx.SGD(1.0, momentum=0.9))
        >>> net.predict(x).tolist()
        [0, 1, 1, 0]
        """
        from .training import Options, train

        if type(self) is Network:  # a subclass has attributes of its own
            refuse_misspelt(self, ASSIGNED)
        options = Options(
            epochs=epochs, batch_size=batch_size, optimizer=optimizer, l1=l1, l2=l2,
            sample_weight=sample_weight, validation=validation, callbacks=callbacks,
            shuffle=shuffle, drop_last=drop_last, progress=progress, clip_norm=clip_norm,
            clip_value=clip_value, n=n, check_finite=check_finite, graph=graph,
            precision=precision, checkpoint=checkpoint, resume=resume, accumulate=accumulate,
            augment=augment,
        )  # fmt: skip
        return train(self, x, y, options, parallel)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a safetensors file; see `bpx.files.save`.

        >>> import tempfile
        >>> import bpx
        >>> net = bpx.Network([2, 1], seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(f"{folder}/net.safetensors")
        ...     again = bpx.load(f"{folder}/net.safetensors")
        >>> bool((again.parameters == net.parameters).all())
        True
        """
        from .files import save

        save(self, path)

    def to_bytes(self) -> bytes:
        """What `save` would write: to a database, to another process, or for `bpx.load`.

        >>> import bpx
        >>> net = bpx.Network([2, 1], seed=0)
        >>> again = bpx.load(net.to_bytes())
        >>> bool((again.parameters == net.parameters).all())
        True
        """
        from .files import to_bytes

        return to_bytes(self)

    def summary(self) -> Summary:
        """A table of the layers, which prints as text, or as HTML in a notebook.

        >>> import bpx
        >>> print(bpx.Network([784, 30, 10]).summary())
           layer              output    parameters  multiply-adds
        ---------------------------------------------------------
           Input              (m, 784)
        0  Dense 30, sigmoid  (m, 30)       23,550         23,520
        1  Dense 10, sigmoid  (m, 10)          310            300
        ---------------------------------------------------------
        cross-entropy cost, classification; 23,860 parameters (93 KiB of float32 on numpy)
        """
        from .summary import Summary

        return Summary.of(self)


def _of_first(net: Network, layers: int) -> dict[str, Array]:
    """The tensors of the first `layers` layers, by their names in files, in layer order."""
    found = {name: t for name, t in net.tensors.items() if _layer_of(name) < layers}
    return dict(sorted(found.items(), key=lambda item: _layer_of(item[0])))


def _layer_of(name: str) -> int:
    """The index of the layer whose tensor it is: 2 for ``"layers.2.weights"``."""
    return int(name.split(".")[1])
