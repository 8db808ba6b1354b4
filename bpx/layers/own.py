"""A user's own layer: what it gives is checked in the first step of a run, and its errors told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backends import Array
from ..checks import not_as_expected, shortened
from ..context import Context
from ..keywords import missing
from ..parameters import Destination, Space
from ._base import Layer, Shape


def check_forward(layer: Layer, found: Any, x: Array, ctx: Context) -> None:
    """ValueError unless `forward` has returned (y, saved)."""
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(
            f"expected forward of the layer {layer} to return (y, saved), got {shortened(found)}"
        )
    shape = x.shape[0], *layer.output_shape
    dtypes = [ctx.dtype, x.dtype]  # whole numbers for an Embedding stay integers
    _check_array(f"y of the layer {layer}", found[0], shape, dtypes)


def check_backward(
    layer: Layer, below: Any, m: int, out: Space | None, ctx: Context, sound: bool
) -> None:
    """ValueError unless `backward` has returned ∂C/∂x, if wanted, and filled `watched(out)`.

    `sound`: whether δ was without NaN.
    """
    if ctx.wanted:
        _check_array(f"∂C/∂x of the layer {layer}", below, (m, *layer.shape_in), [ctx.dtype])
    if ctx.wanted and out is not None and sound and not is_sound(below, ctx):
        raise ValueError(
            f"∂C/∂x of the layer {layer} is NaN, as it is where backward reads parameters after "
            "it has handed over their gradient, which may change them: compute ∂C/∂x before"
        )
    for name, to in [] if out is None else _all_in(out):
        if not isinstance(to, _To):
            raise TypeError(
                f"backward of the layer {layer} has set out.{name}: hand the gradient over, by "
                f"out.{name}.product(d, x), which is dᵀx, sum_rows(d), sum_at(d, k) or write(g)"
            )
        if not to.filled:
            raise ValueError(
                f"expected backward of the layer {layer} to hand over the gradient of "
                f"{to.name}, by out.{to.name}.sum_rows(d), product(d, x), sum_at(d, k) or write(g)"
            )


def _check_array(what: str, got: Any, shape: Shape, dtypes: Sequence[Any]) -> None:
    """ValueError unless it has this shape, and one of the dtypes."""
    if getattr(got, "shape", None) != shape or getattr(got, "dtype", None) not in dtypes:
        raise not_as_expected(f"{what}, in the network's dtype,", shape, got)


def is_sound(delta: Array, ctx: Context) -> bool:
    """Whether δ is without NaN; on a device, where a look would make the host wait, always."""
    xp = ctx.backend.xp
    return not ctx.backend.is_host or not bool(xp.any(xp.isnan(delta)))


def watched(layer: Layer, p: Space, out: Space, ctx: Context) -> tuple[Space, Space]:
    """The same tensors, and destinations that check the shapes of what they get.

    The tensors are copies, each of which is NaN once its gradient is handed over, when a fused
    update changes it. On a device, where nobody looks for NaN, they are those of `p`.
    """
    copies = _copies(p) if ctx.backend.is_host else None
    return p if copies is None else copies, _watched(layer, copies, out)


def _copies(p: Space) -> Space:
    tensors = vars(p).items()
    return Space(**{name: _copies(v) if isinstance(v, Space) else v + 0 for name, v in tensors})


def _watched(layer: Layer, copies: Space | None, out: Space, prefix: str = "") -> Space:
    found = Space()
    for name, to in vars(out).items():
        copy, path = getattr(copies, name, None), prefix + name
        inner = isinstance(to, Space)
        one = _watched(layer, copy, to, f"{path}.") if inner else _To(layer, path, to, copy)
        setattr(found, name, one)
    return found


def _all_in(out: Space, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is there now, by its path: a `_To`, unless `backward` has set it."""
    for name, to in vars(out).items():
        if isinstance(to, Space):
            yield from _all_in(to, f"{prefix}{name}.")
        else:
            yield prefix + name, to


class _To:
    """A `Destination` that takes one gradient, of the right shape: kernels would broadcast it.

    Then it spoils `copy`, of the tensor that the gradient is for, if there is one.
    """

    __slots__ = ("copy", "filled", "layer", "name", "to")

    def __init__(self, layer: Layer, name: str, to: Destination, copy: Array | None) -> None:
        self.layer, self.name, self.to, self.copy, self.filled = layer, name, to, copy, False

    def __repr__(self) -> str:
        return repr(self.to)

    def product(self, delta: Array, x: Array) -> None:
        n, k = self.shape if len(self.shape) == 2 else ("n", "k")  # no array has these
        self._hand_over(self.to.product, "product(d, x)", [("m", n), ("m", k)], delta, x)

    def sum_rows(self, parts: Array) -> None:
        self._hand_over(self.to.sum_rows, "sum_rows(d)", [("m", *self.shape)], parts)

    def sum_at(self, parts: Array, rows: Array) -> None:
        wanted = [("m", *self.shape[1:]), ("m",)]
        self._hand_over(self.to.sum_at, "sum_at(d, k)", wanted, parts, rows)

    def write(self, gradient: Array) -> None:
        self._hand_over(self.to.write, "write(g)", [self.shape], gradient)

    def _hand_over(
        self, write: Callable[..., None], way: str, wanted: list[tuple[Any, ...]], *given: Any
    ) -> None:
        self._check(way, wanted, *given)
        write(*given)
        if self.copy is not None:
            self.copy[...] = math.nan

    def __getattr__(self, name: str) -> Any:
        ways = "product", "sum_rows", "sum_at", "write"
        raise missing(f"out.{self.name} of the layer {self.layer}", name, ways, {})

    @property
    def shape(self) -> Shape:
        return tuple(self.to.array.shape)

    def _check(self, way: str, wanted: list[tuple[Any, ...]], *given: Any) -> None:
        """ValueError unless what is `given` has the `wanted` shapes, with one m for all.

        And at a second gradient: it would take the place of the first, or be added to θ beside it.
        """
        if self.filled:
            raise ValueError(
                f"out.{self.name} of the layer {self.layer} has its gradient already: add up its "
                f"parts, and hand them over once, got out.{self.name}.{way} too"
            )
        self.filled = True
        shapes = [tuple(getattr(array, "shape", ())) for array in given]
        m = {"m": shapes[0][0]} if shapes[0] else {}
        if shapes != [tuple(m.get(length, length) for length in shape) for shape in wanted]:
            raise ValueError(
                f"expected out.{self.name}.{way} of the layer {self.layer} to get "
                f"{_in_words(wanted)}, since {self.name} has shape {self.shape}, got "
                f"{_in_words(shapes)}"
            )


def _in_words(shapes: Sequence[tuple[Any, ...]]) -> str:
    """Such as ``"shapes (m, 3) and (m,)"``."""
    each = [f"({', '.join(map(str, s))}{',' * (len(s) == 1)})" for s in shapes]
    return f"shape{'s' * (len(each) > 1)} {' and '.join(each)}"


def read_only(x: Array) -> Array:
    """x, which may be the array that a user passed, or what a layer below needs to go back."""
    if not isinstance(x, np.ndarray):
        return x
    view = x.view()
    view.flags.writeable = False
    return view


def explain(error: AttributeError | ValueError, layer: Layer, **spaces: Space | None) -> None:
    """An error that says which names `p` or `out` has, or that x is not written to.

    If `error` is about that; a `__getattr__` of these would make each use of a tensor slower.
    """
    if isinstance(error, ValueError):
        if "read-only" in str(error):
            raise ValueError(
                f"forward of the layer {layer} writes to x, which may be an array of the caller: "
                "make a new one, such as y = 2 * x in place of x *= 2"
            ) from error
        return
    for name, space in spaces.items():
        if space is not None and error.obj is space:
            owner = f"{name} of the layer {layer}"
            raise missing(owner, str(error.name), vars(space), {}) from error
