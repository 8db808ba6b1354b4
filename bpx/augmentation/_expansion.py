"""A training set and its shifts by a pixel: the book's way to have more data (ch. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Array, asarray, get, of
from ..checks import flag
from ..data.arrays import generator, take
from ..data.blocks import Blocks
from ._base import Pipeline
from ._functions import Shift
from ._resampling import shifted

if TYPE_CHECKING:
    from ..data.arrays import Seed

# As given, then down, up, to the right, to the left: the order of the book's expand_mnist.py.
DOWN = np.array([0, 1, -1, 0, 0])
RIGHT = np.array([0, 0, 0, 1, -1])

AT_ONCE = 1 << 20  # elements that are shifted at once


def expand(
    x: Any,
    y: Any = None,
    *,
    shape: tuple[int, ...] | None = None,
    shuffle: bool = True,
    seed: Seed = None,
) -> Any:
    """Five images of each: itself, and shifted by one pixel down, up, right and left.

    It is what the book's ``expand_mnist.py`` makes, 250,000 images of 50,000: what comes in over
    an edge is 0, and all are shuffled. ``fit(augment=Shift(1))`` does much the same without the
    memory.

    Parameters
    ----------
    x : array
        (n, c, h, w), or samples of h·w elements with `shape`; of any library, where it lives.
    y : array, optional
        (n, ...), repeated for each of the five.
    shape : (int, int) or (int, int, int), optional
        h and w, or c, h and w, of samples that are not images.
    shuffle : bool
        False: the five of each sample one after another, in the order above.
    seed : int, Generator or None
        For the order; None: a different one each time.

    Returns
    -------
    array, or (array, array)
        Fresh arrays of 5n samples, of the shapes and dtypes of x, or of x and y.

    Raises
    ------
    ValueError, TypeError
        Not images, or not as many rows in y as in x; `bpx.open_data`, which is read in blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from bpx.augmentation import expand
    >>> x, y = expand(np.array([[1, 2, 3, 4]]), np.array([7]), shape=(2, 2), shuffle=False)
    >>> x.tolist()
    [[1, 2, 3, 4], [0, 0, 1, 2], [3, 4, 0, 0], [0, 1, 0, 3], [2, 0, 4, 0]]
    >>> y.tolist()
    [7, 7, 7, 7, 7]
    """
    if isinstance(x, Blocks):
        raise TypeError(
            "expand takes arrays in memory, got data on disk: fit(data, augment=Shift(1)) shifts "
            "the images of each mini-batch"
        )
    arrays = [asarray(of(x) or get("numpy"), x, "x")]
    if y is not None:
        arrays.append(asarray(of(y) or get("numpy"), y, "y"))
    x = arrays[0]
    if x.ndim < 2 or x.shape[0] == 0 or (shape is None and x.ndim != 4):
        raise ValueError(
            f"expected x of shape (n, c, h, w), n >= 1, got {tuple(x.shape)}: shape=(h, w) says "
            "what an image is in samples of another shape"
        )
    n = int(x.shape[0])
    if len(arrays) > 1 and (not arrays[1].ndim or arrays[1].shape[0] != n):
        raise ValueError(f"expected as many rows in y as in x, {n}, got {tuple(arrays[1].shape)}")
    pipeline = Pipeline.of(Shift(1, shape=shape), tuple(x.shape[1:]))
    assert pipeline is not None
    shuffled = flag("shuffle", shuffle)
    order = generator(seed).permutation(5 * n) if shuffled else np.arange(5 * n)
    expanded = _expanded(x, order, pipeline.shape)
    return expanded if y is None else (expanded, take(arrays[1], order // 5))


def _expanded(x: Array, order: np.ndarray, image: tuple[int, ...]) -> Array:
    """Place k of the order is shift k mod 5 of sample k div 5."""
    backend = get(x)
    xp, sample = backend.xp, tuple(x.shape[1:])
    out = backend.empty((len(order), *sample), x.dtype)
    step = max(1, AT_ONCE // int(np.prod(sample)))
    for start in range(0, len(order), step):
        places = order[start : start + step]
        images = xp.reshape(take(x, places // 5), (len(places), *image))
        found = shifted(backend, images, DOWN[places % 5], RIGHT[places % 5])
        out[start : start + len(places), ...] = xp.reshape(found, (len(places), *sample))
    return out
