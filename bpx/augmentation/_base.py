"""What a function is, what it draws, and several of them on the rows of a mini-batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .. import random
from ..backends import Array, Backend, asarray, get, of
from ..checks import not_as_expected, number, whole
from ..context import Workspace
from ..layers import Layer, Rescale, Reshape

Shape = tuple[int, ...]

# Elements that a host works on at once, so few that malloc reuses the temporaries, in the caches:
# 128 images of 28 × 28 take Rotate 2.6 ms and Elastic 4.2, and all at once 6.4 and 8.6.
AT_ONCE = 16_000


class Draw:
    """Random numbers for one function on some rows of a mini-batch.

    A row's numbers depend on its place in the global batch, not on the rows beside it. Each call
    gives new ones.

    Attributes
    ----------
    backend : Backend
        Where the images are.
    rows : int
        m.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Augmentation, apply
    >>> class Brighter(Augmentation):
    ...     def __call__(self, images, draw):
    ...         return images + draw.moved(draw.numbers(1)[:, :, None, None])
    >>> apply(np.zeros((2, 1, 1, 2)), Brighter(), key=1).round(3).tolist()
    [[[[0.044, 0.044]]], [[[0.518, 0.518]]]]
    """

    __slots__ = ("_calls", "_first", "_place", "_ws", "backend", "rows")

    def __init__(self, ws: Workspace, place: int, first: int, rows: int) -> None:
        self._ws, self._place, self._first = ws, place, first
        self.backend, self.rows = ws.backend, rows
        self._calls = 0

    def numbers(self, count: int) -> np.ndarray:
        """Uniform on [0, 1): (m, count) of float64, on the host."""
        return np.ldexp(self._on_host((count,)).astype(np.float64), -random.BITS)

    def integers(self, low: Any, high: Any, count: int) -> np.ndarray:
        """`low` to `high`, equally likely to 2⁻³²: (m, count) of int64, on the host.

        Both are numbers, or vectors of `count`.
        """
        of_32 = self._on_host((count,)) >> (random.BITS - 32)
        return low + ((of_32 * (high - low + 1)) >> 32)

    def uniform(self, *shape: int) -> Array:
        """Uniform on [0, 1]: (m, \\*shape) of the images' dtype, where they are."""
        return self._on_device(shape, random.uniform)

    def normal(self, *shape: int) -> Array:
        """Of mean 0 and standard deviation 1: (m, \\*shape), as `uniform`."""
        return self._on_device(shape, random.normal)

    def moved(self, host: np.ndarray) -> Array:
        """Numbers from the host in the images' dtype, where the images are."""
        return self.backend.xp.astype(self.backend.from_host(host), self._ws.dtype)

    def constant(self, name: str, values: np.ndarray) -> Array:
        """As `moved`, once for all steps."""
        found = self._ws.constant(("augmentation", self._place, name), values)
        return self.backend.xp.astype(found, self._ws.dtype, copy=False)

    def _position(self, shape: Shape) -> tuple[int, int, int, int, Shape]:
        # Layers count from 0 up, functions from −1 down: no stream is drawn from twice.
        stream = -1 - self._place - (self._calls << 16)
        self._calls += 1
        return self._ws.key, stream, self._ws.step, self._first, (self.rows, *shape)

    def _on_host(self, shape: Shape) -> np.ndarray:
        return random.bits(np, *self._position(shape))

    def _on_device(self, shape: Shape, of_bits: Any) -> Array:
        backend = self.backend
        if "int64" in backend.lacks:
            return backend.from_host(of_bits(np, self._on_host(shape), np.float32))
        bits = random.bits(backend.xp, *self._position(shape), device=backend.device)
        return of_bits(backend.xp, bits, self._ws.dtype)


@dataclass(frozen=True)
class Augmentation:
    """A random change of images. To make one, subclass, as a frozen dataclass, and define

    - ``__call__(images, draw)``, which takes images (m, c, h, w), of a floating dtype, and a
      `Draw`, and returns the new ones; it may overwrite `images`;
    - `validate`, if fields can be out of range, and `check`, if it does not work on every image.

    m is any part of a mini-batch: an image may depend on its own numbers alone.

    Parameters
    ----------
    shape : (int, int) or (int, int, int), optional
        h and w, or c, h and w, of samples that are not images yet; if one function has it, it
        holds for all beside it.

    Raises
    ------
    ValueError, TypeError
        Numbers out of range, or none.

    Examples
    --------
    >>> import numpy as np
    >>> import bpx
    >>> class Negative(bpx.augmentation.Augmentation):
    ...     def __call__(self, images, draw):
    ...         return 1.0 - images
    >>> bpx.augmentation.apply(np.zeros((1, 1, 2, 2)), Negative()).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    of_images: ClassVar[bool] = True  # False: it takes samples of any shape, as they are

    shape: Shape | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", _image(type(self).__name__, self.shape))
        for f in dataclasses.fields(self):
            if f.type in (float, "float"):
                what = f"the {f.name} of {type(self).__name__}"
                object.__setattr__(self, f.name, number(what, getattr(self, f.name)))
        self.validate()

    def validate(self) -> None:
        """Check the fields (floats are finite already); raise ValueError or TypeError."""

    def check(self, shape: Shape) -> None:
        """Raise ValueError if it does not work on images (c, h, w)."""

    def __call__(self, images: Array, draw: Draw) -> Array:
        raise TypeError(f"{type(self).__name__} must define __call__(images, draw)")


def _image(what: str, shape: Any) -> Shape:
    """(c, h, w)."""
    if not isinstance(shape, tuple | list) or len(shape) not in (2, 3):
        raise ValueError(
            f"expected the shape of {what} to be (h, w) or (c, h, w), such as (28, 28), got "
            f"{shape!r}"
        )
    lengths = tuple(whole(f"a length of {what}'s shape", n) for n in shape)
    return lengths if len(lengths) == 3 else (1, *lengths)


class Pipeline:
    """Functions, one after another, on samples that are images (c, h, w) of one shape.

    Attributes
    ----------
    functions : tuple of Augmentation
    shape : tuple of int
        Of a sample, as the functions see it.

    Examples
    --------
    >>> from bpx.augmentation import Flip, Pipeline, Shift
    >>> Pipeline.of([Shift(1), Flip(shape=(28, 28))], (784,)).shape
    (1, 28, 28)
    """

    def __init__(self, functions: Sequence[Augmentation], shape: Shape) -> None:
        self.functions, self.shape = tuple(functions), tuple(shape)
        if any(function.of_images for function in functions):
            for function in functions:
                function.check(self.shape)

    @classmethod
    def of(cls, augment: Any, sample: Shape, layers: Sequence[Layer] = ()) -> Pipeline | None:
        """What a user passes, for samples of this shape and the layers that take them.

        The shape of an image, (c, h, w), comes from the samples, or from a `Reshape` that is first
        (or after a `Rescale`), or else from the ``shape=`` of a function. None if there is no
        function.

        Raises
        ------
        TypeError
            Something other than functions.
        ValueError
            Nothing gives the shape of an image; or two give different ones; or a function does not
            work on it.
        """
        functions = list(augment) if isinstance(augment, tuple | list) else [augment]
        if augment is None or not functions:
            return None
        for function in functions:
            if not isinstance(function, Augmentation):
                raise TypeError(
                    "expected augment= to be functions of bpx.augmentation, such as Shift(1), got "
                    f"{function!r}"
                )
        return cls(functions, _shape_of_images(functions, sample, layers))

    def __call__(self, x: Array, ws: Workspace) -> Array:
        """Change samples (m, ...) in place, at the key, the step and the row of `ws`."""
        xp, sample = ws.backend.xp, math.prod(self.shape)
        step = max(1, AT_ONCE // sample if ws.backend.is_host else x.shape[0])
        for start in range(0, x.shape[0], step):
            rows = slice(start, min(start + step, x.shape[0]))
            part = x[rows, ...]
            images = xp.reshape(part, (part.shape[0], *self.shape))
            shape = tuple(images.shape)
            for place, function in enumerate(self.functions):
                images = function(images, Draw(ws, place, ws.row + start, part.shape[0]))
                if getattr(images, "shape", None) != shape:
                    what = f"the images from {type(function).__name__}"
                    raise not_as_expected(what, shape, images)
            part[...] = xp.reshape(images, part.shape)
        return x


def _shape_of_images(
    functions: Sequence[Augmentation], sample: Shape, layers: Sequence[Layer]
) -> Shape:
    """As `Pipeline.of` says; a sample's own if no function asks for images."""
    said = {function.shape for function in functions} - {None}
    if len(said) > 1:
        both = " and ".join(map(str, sorted(said, key=str)))
        raise ValueError(f"expected functions that have the same shape of images, got {both}")
    rest = [layer for layer in layers if not isinstance(layer, Rescale)]
    first = rest[0].shape if rest and isinstance(rest[0], Reshape) else sample
    own = first if len(first) == 3 else sample if len(sample) == 3 else None
    given = next(iter(said), None)
    if own is not None and given not in (None, own):
        raise ValueError(
            f"expected images of {own}, as the network takes them, got shape={given}: leave it out"
        )
    shape = own or given
    if shape is None:
        if any(function.of_images for function in functions):
            raise ValueError(_no_image(sample, functions))
        shape = sample
    if math.prod(shape) != math.prod(sample):
        raise ValueError(
            f"expected images of {math.prod(sample)} elements, as a sample {sample} has, got "
            f"shape={shape}, which has {math.prod(shape)}"
        )
    return shape


def _no_image(sample: Shape, functions: Sequence[Augmentation]) -> str:
    name = next(type(function).__name__ for function in functions if function.of_images)
    side = math.isqrt(math.prod(sample))
    image = f"({side}, {side})" if side * side == math.prod(sample) else "(h, w)"
    return (
        f"{name} works on images, and a sample is {sample}: say what an image is, "
        f"{name}(..., shape={image}), or pass samples of shape (c, h, w)"
    )


def apply(x: Any, augment: Any, *, key: int = 0, step: int = 0, row: int = 0) -> Array:
    """Changed images, to look at or for your own loop.

    With ``key=net.chain.key`` and ``step=net.steps`` they are those that the next step of `fit`
    would see of this mini-batch.

    Parameters
    ----------
    x : array
        (m, c, h, w), or samples of the functions' ``shape=``; of any library, where it lives.
    augment : Augmentation or sequence of them
    key, step, row : int
        The position of their random numbers: 64 bits, the step of the training, and the place of
        the first row in the global batch.

    Returns
    -------
    array
        A fresh one, of the dtype of x, or of float32 if that is neither float32 nor float64.

    Raises
    ------
    ValueError, TypeError
        As for ``fit(augment=)``.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.eye(3)[None, None]
    >>> from bpx.augmentation import Flip, apply
    >>> apply(image, Flip(probability=1.0)).tolist()
    [[[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]
    """
    backend: Backend = of(x) or get("numpy")
    x, xp = asarray(backend, x, "x"), backend.xp
    if x.ndim < 2:
        raise ValueError(
            f"expected x of shape (m, ...), got {tuple(x.shape)}: pass one sample as x[None]"
        )
    kept = x.dtype in (xp.float32, *([] if "float64" in backend.lacks else [xp.float64]))
    fresh = xp.astype(x, x.dtype if kept else xp.float32, copy=True)
    ws = Workspace(backend, fresh.dtype, [], key=whole("key", key, 0))
    ws.step, ws.row = whole("step", step, 0), whole("row", row, 0)
    pipeline = Pipeline.of(augment, tuple(x.shape[1:]))
    return fresh if pipeline is None else pipeline(fresh, ws)
