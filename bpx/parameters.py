"""One flat vector θ, and each layer's views into it.

    θ = [ all weights, decayed | biases, norm scales and shifts | what is not trained ]

with the layers in order inside each part. An optimizer is a few lines on whole vectors, decay is
one slice, a norm one reduction, an all-reduce among ranks one call.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from .backends import Array, Backend, asarray, get
from .checks import not_as_expected, shortened
from .registry import called, nearest

Space = SimpleNamespace  # a layer's tensors, by name
Out = Space | None  # a `Destination` for each of their gradients; None: the layer is not trained

ALIGNMENT = 16  # elements: every view starts on a whole cache line, in float32


@dataclass(frozen=True)
class Parameter:
    """One tensor of a layer.

    Parameters
    ----------
    shape : tuple of int
    initializer : Initializer
        Draws it on the host.
    decayed : bool
        Whether it is a weight: L1, L2 and weight decay act on it. Biases, scales and shifts are
        not decayed.
    trained : bool
        False for a tensor of a layer in a layer, if that inner layer is not trained.

    Examples
    --------
    >>> from bpx.layers import Dense
    >>> tensors = Dense(30).bind((784,)).parameters()
    >>> {name: (tensor.shape, tensor.decayed) for name, tensor in tensors.items()}
    {'weights': ((30, 784), True), 'bias': ((30,), False)}
    """

    shape: tuple[int, ...]
    initializer: Any
    decayed: bool = False
    trained: bool = True


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies in the flat vector."""

    layer: int
    name: str
    parameter: Parameter
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parameter.shape

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)

    @property
    def path(self) -> str:
        """Its name in files and tables: ``"layers.0.weights"``."""
        return f"layers.{self.layer}.{self.name}"

    def view(self, xp: Any, flat: Array) -> Array:
        """The tensor in a flat vector of the namespace `xp`."""
        return xp.reshape(flat[self.start : self.stop], self.shape)


class Layout:
    """Where each tensor of each layer lies in one flat vector.

    Parameters
    ----------
    tensors : sequence of dict
        Each layer's `Parameter` by name; ``"0.weights"`` are the weights of a layer in a layer.
    trainable : sequence of bool
        Which layers are trained; the others come last, from `trained` on.

    Attributes
    ----------
    entries : tuple of Entry
        By layer, in the order in which the layer names them.
    size : int
        Elements of the vector, padding included. Padding is zero and stays zero.
    decayed : int
        The vector up to this index is the trained weights.
    trained : int
        The vector up to this index is trained; from there on its gradient is zero.
    """

    def __init__(self, tensors: Sequence[dict[str, Parameter]], trainable: Sequence[bool]) -> None:
        for layer, by_name in enumerate(tensors):
            known = isinstance(by_name, Mapping)
            if not known or not all(isinstance(value, Parameter) for value in by_name.values()):
                raise TypeError(
                    f"layer {layer}: expected its parameters() and state() to be dicts of a "
                    f"bpx.layers.Parameter by name, got {shortened(by_name)}"
                )
        found = [
            (layer, name, parameter)
            for layer, by_name in enumerate(tensors)
            for name, parameter in by_name.items()
        ]
        self.layer_count = len(tensors)
        self.size = 0
        starts: dict[tuple[int, str], int] = {}
        ends = []
        for part in (0, 1, 2):
            for layer, name, parameter in found:
                trained = trainable[layer] and parameter.trained
                if part == (2 if not trained else 0 if parameter.decayed else 1):
                    starts[layer, name] = self.size
                    length = math.prod(parameter.shape)
                    self.size += -(-length // ALIGNMENT) * ALIGNMENT
            ends.append(self.size)
        self.decayed, self.trained, _ = ends
        self.entries = tuple(
            Entry(layer, name, parameter, starts[layer, name]) for layer, name, parameter in found
        )
        stops = [entry.stop for entry in self.entries]
        self._gaps = [slice(n, n + -n % ALIGNMENT) for n in stops if n % ALIGNMENT]

    def __repr__(self) -> str:
        count = len(self.entries)
        return f"<Layout of {count} tensors of {self.layer_count} layers: {self.size:,} elements>"

    def draw(self, generator: np.random.Generator, dtype: str) -> np.ndarray:
        """Initial values, on the host; drawn in float64, so that every backend starts alike."""
        flat = np.zeros(self.size, dtype)
        for entry in self.entries:
            initializer = entry.parameter.initializer
            values = initializer(generator, entry.shape)
            host = np.asarray(values)
            if host.shape != tuple(entry.shape) or host.dtype.kind not in "biuf":
                what = f"the values of the initializer {called(initializer)}"
                raise not_as_expected(what, entry.shape, values)
            entry.view(np, flat)[...] = host
        return flat

    def clear_padding(self, flat: Array) -> None:
        """Zero what a user's own arithmetic on the whole vector has left between the tensors."""
        for gap in self._gaps:
            flat[gap] = 0.0

    def tensors(self, xp: Any, flat: Array, prefix: str = "") -> dict[str, Array]:
        """Views into `flat` by their paths."""
        return {prefix + entry.path: entry.view(xp, flat) for entry in self.entries}

    def views(self, xp: Any, flat: Array) -> list[Space]:
        """Each layer's tensors, by name, as views into `flat`; see `set_path`."""
        spaces = [Space() for _ in range(self.layer_count)]
        for entry in self.entries:
            set_path(spaces[entry.layer], entry.name, entry.view(xp, flat))
        return spaces


def set_path(space: Space, name: str, value: Any) -> None:
    """Set ``space.name``; ``"0.weights"`` goes into a namespace in `space`, made if need be.

    >>> from bpx.parameters import Space, get_path, set_path
    >>> space = Space()
    >>> set_path(space, "0.weights", 1.0)
    >>> get_path(space, "0").weights
    1.0
    """
    while "." in name:
        outer, name = name.split(".", 1)
        space = vars(space).setdefault(outer, Space())
    setattr(space, name, value)


def get_path(space: Out, name: str) -> Any:
    """The value or the namespace under this name; None if there is none."""
    for part in name.split("."):
        space = getattr(space, part, None)
    return space


def leaves(space: Space) -> Iterator[tuple[str, Any]]:
    """Each tensor with the last part of its name, in the order of the layers."""
    for name, value in vars(space).items():
        if isinstance(value, Space):
            yield from leaves(value)
        else:
            yield name, value


class Views(tuple[Array, ...]):
    """Tensors of several layers, views into one vector; setting one writes into it.

    >>> import numpy as np
    >>> from bpx.parameters import Views
    >>> views = Views([np.zeros(2), np.zeros(3)])
    >>> views[0] = [1.0, 2.0]
    >>> views[0] += 1.0
    >>> views[0]
    array([2., 3.])
    """

    what: str

    def __new__(cls, views: Iterable[Array], what: str = "views") -> Self:
        """`what` is what messages call them, such as ``"net.weights"``."""
        self = super().__new__(cls, views)
        self.what = what
        return self

    def __setitem__(self, index: int | slice, values: Any) -> None:
        if isinstance(index, slice):
            self._write(range(len(self))[index], values)
            return
        try:
            view = self[index]
        except IndexError:
            raise IndexError(
                f"there is no {self.what}[{index}]: of {len(self)} arrays, one for each layer "
                f"that has any, the last is {self.what}[{len(self) - 1}]"
            ) from None
        write(view, values, f"{self.what}[{index}]")

    def _refuse(self, other: Any) -> Any:
        raise TypeError(
            "these are several arrays, one for each layer: add or scale each, or use .flat"
        )

    def copy(self) -> list[Array]:
        """Fresh arrays on the same backend, which stay as they are when the views change.

        >>> import bpx
        >>> net = bpx.Network([2, 1], weights="zeros")
        >>> before = net.weights.copy()
        >>> net.weights[0] += 1.0
        >>> before[0].tolist(), net.weights[0].tolist()
        ([[0.0, 0.0]], [[1.0, 1.0]])
        """
        return [get(view).xp.astype(view, view.dtype) for view in self]

    __add__ = __radd__ = __mul__ = __rmul__ = _refuse  # a tuple's own would make a longer one

    def write(self, values: Iterable[Any]) -> None:
        """Write all of them; ValueError if there are more or fewer."""
        self._write(range(len(self)), values)

    def _write(self, places: range, values: Iterable[Any]) -> None:
        wanted = f"expected {len(places)} arrays, one for each layer that has any"
        if not isinstance(values, Iterable):
            raise TypeError(f"{wanted}, got {shortened(values)}")
        arrays = list(values)
        if len(arrays) != len(places):
            raise ValueError(f"{wanted}, got {len(arrays)}")
        if len(arrays) == 1:
            self[places[0]] = arrays[0]
            return
        # All of them before the first is written: they may be views of these.
        fresh = [
            fitting(self[index], array, f"{self.what}[{index}]")
            for index, array in zip(places, arrays, strict=True)
        ]
        for index, array in zip(places, fresh, strict=True):
            self[index][...] = array


class Tensors(Mapping[str, Array]):
    """Tensors by name, views into vectors; setting one writes into it.

    >>> import numpy as np
    >>> from bpx.parameters import Tensors
    >>> tensors = Tensors({"layers.0.bias": np.zeros(2)})
    >>> tensors["layers.0.bias"] = [1.0, 2.0]
    >>> tensors["layers.0.bias"]
    array([1., 2.])
    >>> tensors
    Tensors({'layers.0.bias': (2,)})
    """

    def __init__(self, views: Mapping[str, Array]) -> None:
        self._views = views

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, values: Any) -> None:
        if name not in self._views:
            raise KeyError(f"there is no tensor {name!r}{nearest(str(name), list(self))}")
        write(self[name], values, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"Tensors({ {name: tuple(view.shape) for name, view in self.items()} })"


def write(view: Array, values: Any, what: str) -> None:
    """Copy an array into a view; ValueError if it has another shape."""
    if values is not view:  # `view -= ...` sets the same view once more
        view[...] = fitting(view, values, what)


def fitting(view: Array, values: Any, what: str) -> Array:
    """A copy of `values` for a view, which they may be another view of; ValueError as `write`."""
    backend = get(view)
    found = asarray(backend, values, what)
    if tuple(found.shape) != tuple(view.shape):
        error, hint = not_as_expected(what, view.shape, found if found.ndim else values), ""
        if isinstance(values, int | float) and math.isfinite(values):
            shape = view.shape[0] if view.ndim == 1 else tuple(view.shape)
            hint = f": np.full({shape}, {shortened(values)}) for the same number everywhere"
        elif view.ndim == 1 and math.prod(found.shape) == view.shape[0]:
            hint = ": np.ravel(b) of a column b"
        elif view.ndim == 2 and tuple(found.shape) == (view.shape[1], view.shape[0]):
            hint = ": pass its .T, as rows of a Dense layer's weights are its units"
        raise ValueError(f"{error}{hint}")
    return backend.xp.astype(found, view.dtype)


def named(spaces: Sequence[Space], name: str, what: str) -> Views:
    """The tensors of this name of all layers, also of layers in layers; `what` is for messages."""
    found = (value for space in spaces for last, value in leaves(space) if last == name)
    return Views(found, what)


class Scale:
    """The two scalars of ``out ← β·out + α·gradient``, shared by all destinations of a part."""

    __slots__ = ("alpha", "beta")

    def __init__(self) -> None:
        self.alpha, self.beta = 1.0, 0.0

    def __str__(self) -> str:
        alpha, beta = self.alpha, self.beta
        if not isinstance(alpha, numbers.Real) or not isinstance(beta, numbers.Real):
            return "β·array + α·gradient, with α and β on the device"  # nobody waits for them
        kept = "array" if beta == 1.0 else f"{beta:.6g}·array" if beta else ""
        sign = "−" if alpha < 0.0 else "+"
        start = f"{kept} {sign} " if kept else sign.strip("+")
        return f"{start}{abs(alpha):.6g}·gradient"


class Destination:
    """Where a layer's gradient of one tensor goes: ``array ← β·array + α·gradient``.

    With α = 1/m and β = 0 the array is the gradient of the mean cost. With the array ω itself,
    α = −η/m and β = 1 − ηλ/n it is the book's whole update rule, and no gradient is ever written.

    Attributes
    ----------
    then : callable or None
        Called after each write, while the array is still in the processor's caches.
    """

    __slots__ = ("array", "backend", "scale", "then")

    def __init__(self, backend: Backend, array: Array, scale: Scale) -> None:
        self.backend, self.array, self.scale = backend, array, scale
        self.then: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Destination {tuple(self.array.shape)}: array ← {self.scale}>"

    def product(self, delta: Array, x: Array) -> None:
        """The gradient is δᵀx, summed over the rows of the batch (BP4)."""
        self.backend.gemm(delta.T, x, self.array, self.scale.alpha, self.scale.beta)
        if self.then is not None:
            self.then()

    def sum_rows(self, parts: Array) -> None:
        """The gradient is the sum of the rows: of δ (BP3), or of parts of the batch."""
        self.backend.sum_rows(parts, self.array, self.scale.alpha, self.scale.beta)
        if self.then is not None:
            self.then()

    def sum_at(self, parts: Array, rows: Array) -> None:
        """The gradient's row k is the sum of the parts i with ``rows[i] = k``."""
        self.backend.sum_at(parts, rows, self.array, self.scale.alpha, self.scale.beta)
        if self.then is not None:
            self.then()

    def write(self, gradient: Array) -> None:
        """The gradient is this array."""
        self.backend.axpby(gradient, self.array, self.scale.alpha, self.scale.beta)
        if self.then is not None:
            self.then()


class Destinations:
    """A destination for each tensor of each trained layer, in one flat vector.

    Attributes
    ----------
    flat : array
        Of the layout's size.
    layers : list of Space or None
        By layer; None where a layer is not trained.
    decayed, rest : Scale
        The scalars for weights, and for everything else.
    """

    def __init__(self, backend: Backend, layout: Layout, flat: Array) -> None:
        self.flat = flat
        self.decayed, self.rest = Scale(), Scale()
        views = layout.views(backend.xp, flat)
        self.layers: list[Out] = [None] * layout.layer_count
        for entry in layout.entries:
            if entry.start >= layout.trained:
                continue
            space = self.layers[entry.layer]
            if space is None:
                space = self.layers[entry.layer] = Space()
            scale = self.decayed if entry.start < layout.decayed else self.rest
            array = get_path(views[entry.layer], entry.name)
            set_path(space, entry.name, Destination(backend, array, scale))

    def set_scalars(self, alpha: float, beta_decayed: float = 0.0, beta_rest: float = 0.0) -> None:
        """Set α, which all share, β of weights and β of the rest."""
        self.decayed.alpha = self.rest.alpha = alpha
        self.decayed.beta, self.rest.beta = beta_decayed, beta_rest
