"""What a layer is: its shapes, its tensors, forward and backward. It owns no arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from ..activations import ACTIVATIONS, Activation
from ..backends import Array
from ..checks import check_described, flag, shortened, whole
from ..context import Context
from ..initializers import INITIALIZERS, HeNormal, Initializer, Normal, ScaledNormal, Zeros
from ..keywords import AS_DATACLASS, init_hints
from ..parameters import Out, Parameter, Space
from ..registry import OF_USER, Registry, plain

Shape = tuple[int, ...]
Read = TypeVar("Read", covariant=True)
Given = TypeVar("Given", contravariant=True)


class Converted(Protocol[Read, Given]):
    """The type of a field that `Layer.__post_init__` converts, for type checkers alone.

    They take it for a descriptor, whose ``__set__`` has the type of the constructor's argument.
    """

    def __get__(self, layer: Any, kind: Any) -> Read: ...

    def __set__(self, layer: Any, value: Given) -> None: ...


ActivationField = Converted[Activation, Activation | str]
InitializerField = Converted[Initializer | None, Initializer | str | None]


def activation_field(default: Any = "identity") -> Any:
    """A field that takes an `Activation` or its name.

    >>> from dataclasses import dataclass
    >>> from typing import Any
    >>> from bpx.layers import Layer, activation_field
    >>> @dataclass(frozen=True)
    ... class Own(Layer):
    ...     activation: Any = activation_field("relu")
    >>> Own().activation.name, Own("tanh").activation.name
    ('relu', 'tanh')
    """
    return field(default=default, metadata={"registry": ACTIVATIONS})


def layers_field(default: Any = dataclasses.MISSING) -> Any:
    """A field that holds a tuple of layers, or of such tuples, or what stands for it."""
    return field(default=default, metadata={"layers": True})


def initializer_field(default: Any = None) -> Any:
    """A field that takes an `Initializer`, its name, or None for the activation's default.

    >>> from dataclasses import dataclass
    >>> from typing import Any
    >>> from bpx.layers import Layer, initializer_field
    >>> @dataclass(frozen=True)
    ... class Own(Layer):
    ...     weights: Any = initializer_field("he-normal")
    >>> Own().weights.name, Own(None).weights
    ('he-normal', None)
    """
    return field(default=default, metadata={"registry": INITIALIZERS})


def check_bias(layer: Any) -> None:
    """ValueError for the initial values of a bias that a `Dense` or a convolution leaves out."""
    if layer.bias is not None and not layer.use_bias:
        raise ValueError(
            f"{type(layer).__name__} has no bias with use_bias=False, and bias= is for one: leave "
            "one of the two out"
        )


def weights_and_bias(layer: Any, shape: Shape) -> dict[str, Parameter]:
    """The tensors of a `Dense` or a convolution: ω of this shape, (units, ...), and b (units,).

    Where the layer names no initializer, its activation decides.
    """
    rectifies = layer.activation.rectifies
    weights = layer.weights or (HeNormal() if rectifies else ScaledNormal())
    found = {"weights": Parameter(shape, weights, decayed=True)}
    if layer.use_bias:
        found["bias"] = Parameter(shape[:1], layer.bias or (Zeros() if rectifies else Normal()))
    return found


@init_hints(more=AS_DATACLASS)
@dataclass(frozen=True)
class Layer:
    """A layer: a frozen description and two pure functions. To make one, subclass and define

    - fields with defaults, as in any dataclass; ``name``, a class attribute, for files;
    - if it has a field ``activation`` and is to be a network's last layer, the class attribute
      ``ends_in_activation``: True if it ends in it, y = σ(z), and then leaves σ to the cost as
      `Dense` does, or False;
    - `output_shape`, a property, and the methods `parameters` and `state` if it has any;
    - ``forward(x, p, ctx) -> (y, saved)``, where x has shape (m, \\*input_shape), `p` holds the
      layer's tensors as attributes and `ctx` is a `Context`;
    - ``backward(delta, saved, p, out, ctx)``, which takes ∂C/∂y, which it may overwrite, and
      returns ∂C/∂x (None if not ``ctx.wanted``). It computes that from the old parameters
      *first*; then it hands each parameter's gradient to `out`, by ``out.name.sum_rows(d)``, the
      sum of d over the mini-batch, ``out.name.product(d, x)``, dᵀx, ``out.name.sum_at(d, k)``,
      whose row j is the sum of the d_i with k_i = j, or ``out.name.write(g)``. These may update
      the parameter in the same call; `out` is None when the layer is not trained.

    All of it works for any number of rows m ≥ 1, and with buffers from ``ctx.buffer``. Arrays are
    in the network's dtype. A run checks what is returned and handed over once, in its first step.

    Parameters
    ----------
    input_shape : tuple of int or None
        Of one sample. A `Network` fills it in.
    trainable : bool
        Whether its parameters are trained. If not, their gradient is zero.

    Attributes
    ----------
    ends_in_activation : bool or None
        Whether `forward` gives σ(z), for σ = ``activation``, and z if that is the identity. None:
        a user's class has a `forward` of its own and does not say.
    in_parts : bool
        Whether it works on parts of a batch by ``backend.side_by_side``.
    own : bool
        Whether its class is a user's own, not one of bpx's.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import bpx
    >>> from bpx.layers import Input, Layer
    >>> @dataclass(frozen=True)
    ... class Scaled(Layer):
    ...     factor: float = 2.0
    ...     def forward(self, x, p, ctx):
    ...         y = ctx.buffer("y", tuple(x.shape))
    ...         y[...] = self.factor * x
    ...         return y, None
    ...     def backward(self, delta, saved, p, out, ctx):
    ...         return self.factor * delta
    >>> net = bpx.Network([Input(2), Scaled(3.0), bpx.layers.Dense(1)], seed=0)
    >>> net.activations([[1.0, 2.0]])[0].tolist()
    [[3.0, 6.0]]
    >>> bpx.gradient_check(net, [[1.0, 2.0]], [[0.5]]).worst < 1e-7
    True
    >>> net.layers
    (Scaled(factor=3.0, input_shape=(2,)), Dense(units=1, input_shape=(2,)))
    """

    name: ClassVar[str] = ""
    ends_in_activation: ClassVar[bool | None] = False
    in_parts: ClassVar[bool] = False
    own: ClassVar[bool] = True

    trainable: bool = field(default=True, kw_only=True)
    input_shape: Shape | None = field(default=None, kw_only=True)

    def __init_subclass__(cls) -> None:
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # or @dataclass makes another
        # By where it is defined: a subclass of bpx's Dense is a user's own.
        cls.own = cls.__module__.partition(".")[0] != "bpx"
        for base in cls.__mro__:  # what an inherited one says is not of a `forward` below it
            if "ends_in_activation" in base.__dict__:
                break
            if "forward" in base.__dict__:
                cls.ends_in_activation = None
                break

    def __post_init__(self) -> None:
        if self.ends_in_activation and not hasattr(self, "activation"):
            raise TypeError(
                f"{type(self).__name__} says ends_in_activation, and has no field activation"
            )
        for f in dataclasses.fields(self):
            registry = f.metadata.get("registry")
            value = getattr(self, f.name)
            if registry is ACTIVATIONS and isinstance(value, int):  # Linear(784, 30) elsewhere
                raise TypeError(
                    f"expected the {f.name} of {type(self).__name__}, got {value}: a layer is "
                    "told only the size of its outputs, and finds that of its inputs itself"
                )
            if registry is ACTIVATIONS and value is None:  # as in Keras
                raise TypeError(
                    f"expected the {f.name} of {type(self).__name__}, got None: for none "
                    'pass "identity"'
                )
            if registry is INITIALIZERS and f.name == "bias" and isinstance(value, bool):
                raise TypeError(
                    f"expected the bias of {type(self).__name__} to be an Initializer or its "
                    f"name, got {value}: pass use_bias={value} instead"
                )
            if registry is not None and value is not None:
                object.__setattr__(self, f.name, registry.get(value))
            if f.type in (bool, "bool"):
                object.__setattr__(self, f.name, flag(f.name, value))
        self.validate()

    def validate(self) -> None:
        """Check the fields; raise ValueError or TypeError."""

    def bind(self, input_shape: Shape) -> Self:
        """The same layer with its input's shape.

        Raises
        ------
        ValueError
            It does not work on inputs of this shape.
        TypeError
            It is no dataclass.
        """
        check_described(self)
        return dataclasses.replace(self, input_shape=tuple(input_shape))

    @property
    def shape_in(self) -> Shape:
        if self.input_shape is None:
            raise ValueError(f"{self} has no input yet: a Network gives it one")
        return self.input_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of one output sample; by default that of the input."""
        return self.shape_in

    def parameters(self) -> dict[str, Parameter]:
        """Its trained tensors by name; by default none."""
        return {}

    @property
    def learns(self) -> bool:
        """Whether anything in it is trained."""
        return self.trainable and any(tensor.trained for tensor in self.parameters().values())

    def inner(self) -> dict[str, Layer]:
        """The layers in it, by the prefixes of their tensors' names; by default none."""
        return {}

    @property
    def multiply_adds(self) -> int:
        """In a forward pass of one sample; by default the elements of its largest tensor."""
        return max((math.prod(p.shape) for p in self.parameters().values()), default=0)

    @property
    def index_count(self) -> int | None:
        """n, if its inputs are whole numbers from 0 to n − 1; None (default): any numbers.

        They come as integers to a network's first layer, and beside other numbers, as after
        `Columns`, in the network's dtype.
        """
        return None

    @property
    def least_rows(self) -> int:
        """The fewest rows that a mini-batch in training may have; by default one."""
        return 1

    def state(self) -> dict[str, Parameter]:
        """Its running tensors by name, never seen by an optimizer; by default none."""
        return {}

    def forward(self, x: Array, p: Space, ctx: Context) -> tuple[Array, Any]:
        """y and whatever `backward` needs."""
        raise TypeError(f"{type(self).__name__} must define forward(x, p, ctx)")

    def backward(self, delta: Array, saved: Any, p: Space, out: Out, ctx: Context) -> Array | None:
        """∂C/∂x from delta = ∂C/∂y, and the parameters' gradients to `out`."""
        raise TypeError(f"{type(self).__name__} must define backward(delta, saved, p, out, ctx)")

    if not TYPE_CHECKING:  # to a checker no layer can be called

        def __call__(self, *given: Any, **options: Any) -> Any:
            """TypeError, for those who connect layers by calling them."""
            raise TypeError(
                f"{type(self).__name__} is not called: layers go to bpx.Network([...]) one after "
                "another, and branches to bpx.layers.Concatenate([[...], [...]])"
            )

    def config(self, custom: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JSON-compatible dict from which `from_config` makes the layer again."""
        config = LAYERS.describe(type(self), custom)
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            registry = f.metadata.get("registry")
            if registry is not None and value is not None:
                value = registry.describe(value, custom)
            if f.metadata.get("layers"):
                value = _configs(value, custom)
            if getattr(value, "shape", ()):
                raise TypeError(
                    f"the field {f.name!r} of {type(self).__name__} is an array, which a layer's "
                    "description in a file cannot hold: make it a tuple, or a Parameter"
                )
            config[f.name] = plain(value)
        return config

    @staticmethod
    def from_config(config: Mapping[str, Any], custom: Mapping[str, Any] | None = None) -> Layer:
        """The layer that `config` describes; `custom` holds a user's own classes by name."""
        if not isinstance(config, Mapping):
            raise TypeError(f"expected the description of a layer, got {shortened(config)}")
        values = dict(config)
        described = {"name": values.pop("name"), OF_USER: values.pop(OF_USER, False)}
        cls = LAYERS.get(described, custom)
        for f in dataclasses.fields(cls):
            registry = f.metadata.get("registry")
            value = values.get(f.name)
            if registry is not None and value is not None:
                values[f.name] = registry.get(value, custom)
            elif isinstance(value, list):
                inner = bool(f.metadata.get("layers"))
                values[f.name] = tuple(_layers(v, custom) if inner else v for v in value)
        return cls(**values)

    def __str__(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        """The call that makes it, without what has its default beside the first argument."""
        fields = sorted(dataclasses.fields(self), key=lambda f: bool(f.kw_only))
        first = [f.name for f in fields[:1] if getattr(self, f.name) is not None and not f.kw_only]
        given = [f.name for f in fields if f.name in first or self._is_given(f)]
        shown = [f"{name}={getattr(self, name)!r}" for name in given]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _is_given(self, f: dataclasses.Field[Any]) -> bool:
        registry, default, value = f.metadata.get("registry"), f.default, getattr(self, f.name)
        if registry is not None and isinstance(default, str):
            default = registry.get(default)
        if isinstance(default, int) and isinstance(value, tuple):  # one for all axes
            default = (default,) * len(value)
        # By what is printed: `==` of arrays is no bool.
        return f.repr and repr(value) != repr(default)


def _configs(value: Any, custom: Mapping[str, Any] | None) -> Any:
    """The description of a layer, or of those in tuples; anything else as it is."""
    if isinstance(value, tuple):
        return [_configs(each, custom) for each in value]
    return value.config(custom) if isinstance(value, Layer) else value


def _layers(config: Any, custom: Mapping[str, Any] | None) -> Any:
    """The layer that `config` describes, or those of a list."""
    if isinstance(config, list):
        return tuple(_layers(each, custom) for each in config)
    return Layer.from_config(config, custom)


def hint_for_class(value: Any) -> str:
    """The end of a message about a layer's class in place of a layer; empty for anything else."""
    of_layers = isinstance(value, type) and issubclass(value, Layer)
    return f": pass {value.__name__}(...)" if of_layers else ""


LAYERS = Registry("layer", Layer, classes=True)


@dataclass(frozen=True)
class Input:
    """The shape of one sample, as the first entry of a network's list of layers.

    >>> from bpx.layers import Input
    >>> Input((1, 28, 28)).shape
    (1, 28, 28)
    >>> Input(784).shape
    (784,)
    """

    shape: Shape

    if TYPE_CHECKING:  # not `Converted`, which mypy knows only beside a default

        def __init__(self, shape: int | Iterable[int]) -> None: ...

    def __post_init__(self) -> None:
        lengths = self.shape if isinstance(self.shape, Iterable) else (self.shape,)
        shape = tuple(whole("a length of Input", n) for n in lengths)
        if not shape:
            raise ValueError("expected Input to have at least one length, got none")
        object.__setattr__(self, "shape", shape)
