"""The functions: frozen descriptions of a random change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from ..backends import Array
from ..checks import nonnegative, positive
from ..layers.sliding import per_axis
from ._base import Augmentation, Draw, Shape
from ._resampling import interpolated, shifted

AXES = {"horizontal": 3, "vertical": 2}


@dataclass(frozen=True)
class Shift(Augmentation):
    """Each image moved by up to `pixels` up or down, and to the left or the right.

    Both are whole numbers −p to p, each as often as the others. What comes in over an edge is 0.
    It is also the crop of an image that was padded by p: ``Shift(4)`` is that of CIFAR's networks
    (He and others, *Deep residual learning for image recognition*, CVPR 2016). Images are the
    same to the last bit on every backend.

    Parameters
    ----------
    pixels : int or (int, int)
        p, or one for the rows and one for the columns.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Shift, apply
    >>> apply(np.ones((1, 1, 3, 3)), Shift(1), key=1).tolist()
    [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    """

    pixels: int | tuple[int, int] = 1

    def validate(self) -> None:
        object.__setattr__(self, "pixels", per_axis("the pixels of Shift", self.pixels, 2, 0))

    def check(self, shape: Shape) -> None:
        if (self._most >= np.array(shape[1:])).any():
            raise ValueError(
                f"expected the pixels of Shift to be less than the image's {shape[1:]}, got "
                f"{self.pixels}: nothing of it would be left"
            )

    @property
    def _most(self) -> np.ndarray:
        return np.array(self.pixels)  # two, since `validate`

    def __call__(self, images: Array, draw: Draw) -> Array:
        down, right = draw.integers(-self._most, self._most, 2).T
        return shifted(draw.backend, images, down, right)


@dataclass(frozen=True)
class Flip(Augmentation):
    """Each image mirrored, with a probability.

    Images are the same to the last bit on every backend.

    Parameters
    ----------
    axis : str
        ``"horizontal"``: left and right change places; or ``"vertical"``.
    probability : float
        0 to 1.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Flip, apply
    >>> apply(np.eye(3)[None, None], Flip("vertical", probability=1.0)).round(1).tolist()
    [[[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]
    """

    axis: str = "horizontal"
    probability: float = 0.5

    def validate(self) -> None:
        if self.axis not in AXES:
            raise ValueError(
                f'expected the axis of Flip to be "horizontal" or "vertical", got {self.axis!r}'
            )
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(
                f"expected 0 <= the probability of Flip <= 1, got {self.probability!r}"
            )

    def __call__(self, images: Array, draw: Draw) -> Array:
        chosen, xp = draw.numbers(1) < self.probability, draw.backend.xp
        mask = draw.backend.from_host(chosen[:, :, None, None])
        return xp.where(mask, xp.flip(images, axis=AXES[self.axis]), images)


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Each image rotated about its middle by an angle, uniform on −degrees to degrees.

    Pixels are interpolated between four of the old ones; beyond the edges those are 0. Images are
    the same on every backend to rounding, see `Elastic`.

    Parameters
    ----------
    degrees : float
        0 to 180.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Rotate, apply
    >>> apply(np.eye(3)[None, None], Rotate(90), key=1).round(1).tolist()
    [[[[0.0, 0.1, 0.7], [0.0, 1.0, 0.0], [0.7, 0.1, 0.0]]]]
    """

    degrees: float = 10.0

    def validate(self) -> None:
        if not 0.0 <= self.degrees <= 180.0:
            raise ValueError(f"expected 0 <= the degrees of Rotate <= 180, got {self.degrees!r}")

    def __call__(self, images: Array, draw: Draw) -> Array:
        angle = np.radians(self.degrees) * (2.0 * draw.numbers(1)[:, :, None] - 1.0)
        cos, sin = draw.moved(np.cos(angle)), draw.moved(np.sin(angle))
        rows, columns = _from_the_middle(images, draw)
        y, x = cos * rows + sin * columns, cos * columns - sin * rows
        _, _, h, w = images.shape
        return interpolated(draw.backend, images, y + 0.5 * (h - 1), x + 0.5 * (w - 1))


@dataclass(frozen=True)
class Crop(Augmentation):
    """A random part of each image, of its proportions, in the size of the whole.

    The sides of the part are `least` to 1 of the image's, uniform, and it is anywhere in the
    image. Pixels are interpolated, see `Rotate`. The crop after padding is `Shift`.

    Parameters
    ----------
    least : float
        0 < least ≤ 1.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Crop, apply
    >>> apply(np.eye(3)[None, None], Crop(0.5), key=1).round(1).tolist()
    [[[[0.9, 0.0, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]]]]
    """

    least: float = 0.8

    def validate(self) -> None:
        if not 0.0 < self.least <= 1.0:
            hint = ": to pad an image by that many pixels and crop it, use Shift" * (
                self.least > 1
            )
            raise ValueError(f"expected 0 < the least of Crop <= 1, got {self.least!r}{hint}")

    def __call__(self, images: Array, draw: Draw) -> Array:
        size, down, right = np.split(draw.numbers(3)[:, :, None], 3, axis=1)
        size = 1.0 - (1.0 - self.least) * size
        rows, columns = _from_the_middle(images, draw)
        by, (_, _, h, w) = draw.moved(size), images.shape
        top, left = ((1.0 - size) * (at - 0.5) * n for at, n in ((down, h), (right, w)))
        y = by * rows + draw.moved(top + 0.5 * (h - 1))
        x = by * columns + draw.moved(left + 0.5 * (w - 1))
        return interpolated(draw.backend, images, y, x)


def _from_the_middle(images: Array, draw: Draw) -> tuple[Array, Array]:
    """How far each row and each column is from the image's middle: (1, h, 1) and (1, 1, w)."""
    _, _, h, w = images.shape
    rows, columns = np.arange(h) - 0.5 * (h - 1), np.arange(w) - 0.5 * (w - 1)
    return (
        draw.constant("rows", rows[None, :, None]),
        draw.constant("columns", columns[None, None, :]),
    )


@dataclass(frozen=True)
class Elastic(Augmentation):
    """Each image as if it were on rubber: every pixel displaced, neighbours alike.

    Displacements are uniform on −1 to 1 pixels in each direction, blurred by a Gaussian and
    multiplied by `alpha` (Simard, Steinkraus and Platt, *Best practices for convolutional neural
    networks applied to visual document analysis*, ICDAR 2003); the field is 0 beyond the edges,
    and not normalized. Pixels are interpolated as by `Rotate`.

    Images are the same on every backend to rounding: to 8·(h + w + alpha)·ε of the largest pixel.

    Parameters
    ----------
    alpha : float
        ≥ 0; the paper's is 34.
    sigma : float
        The Gaussian's standard deviation in pixels; the paper's is 4.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Elastic, apply
    >>> apply(np.eye(3)[None, None], Elastic(2.0, 1.0), key=1).round(1).tolist()
    [[[[0.4, 0.3, 0.0], [0.0, 0.5, 0.2], [0.0, 0.1, 0.5]]]]
    """

    alpha: float = 34.0
    sigma: float = 4.0

    def validate(self) -> None:
        nonnegative("the alpha of Elastic", self.alpha)
        positive("the sigma of Elastic", self.sigma)

    def __call__(self, images: Array, draw: Draw) -> Array:
        _, _, h, w = images.shape
        down = draw.constant("down", blur(h, self.sigma))
        along = draw.constant("along", blur(w, self.sigma))
        field = 2.0 * draw.uniform(2, h, w) - 1.0
        field = self.alpha * (down @ (field @ along.T))
        rows, columns = _from_the_middle(images, draw)
        y, x = rows + 0.5 * (h - 1), columns + 0.5 * (w - 1)
        return interpolated(draw.backend, images, y + field[:, 0, ...], x + field[:, 1, ...])


@lru_cache(8)
def blur(n: int, sigma: float) -> np.ndarray:
    """The matrix that blurs a vector of n by a Gaussian, cut off at 4σ, with zeros around it.

    >>> from bpx.augmentation._functions import blur
    >>> blur(3, 0.5).round(3).tolist()
    [[0.787, 0.106, 0.0], [0.106, 0.787, 0.106], [0.0, 0.106, 0.787]]
    """
    reach = math.floor(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    inside = np.abs(distance) <= reach
    return np.where(inside, weights[np.where(inside, distance, 0) + reach], 0.0)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Independent normal noise on each pixel, in the units of the images as they were handed in.

    It works on samples of any shape, also on those that are not images. They are the same on every
    backend to rounding: to 16·ε standard deviations beside that of the sum.

    Parameters
    ----------
    standard_deviation : float
        ≥ 0; for images of 0 to 255 perhaps 10.
    shape : tuple of int, optional
        See `Augmentation`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import Noise, apply
    >>> apply(np.eye(3)[None, None], Noise(0.1), key=1).round(1).tolist()
    [[[[0.9, -0.2, 0.0], [-0.0, 1.1, 0.2], [0.0, 0.1, 1.2]]]]
    """

    of_images: ClassVar[bool] = False

    standard_deviation: float = 0.1

    def validate(self) -> None:
        nonnegative("the standard_deviation of Noise", self.standard_deviation)

    def __call__(self, images: Array, draw: Draw) -> Array:
        return images + self.standard_deviation * draw.normal(*images.shape[1:])
