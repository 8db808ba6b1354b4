"""Images from other places of the same images: whole pixels away, or between four of them."""

from __future__ import annotations

import numpy as np

from ..backends import Array, Backend


def shifted(backend: Backend, images: Array, down: np.ndarray, right: np.ndarray) -> Array:
    """Each image moved by some pixels, in its own dtype; 0 where there was no pixel.

    Parameters
    ----------
    images : array
        (m, c, h, w).
    down, right : ndarray of int
        (m,), on the host; negative: up and left.
    """
    xp, (m, c, h, w) = backend.xp, images.shape
    (rows, below), (columns, beside) = _origin(backend, down, h), _origin(backend, right, w)
    place = xp.reshape(rows[:, :, None] * w + columns[:, None, :], (m, h * w))
    taken = xp.reshape(_taken(backend, images, place), (m, c, h, w))
    inside = xp.reshape(below[:, :, None] & beside[:, None, :], (m, 1, h, w))
    return xp.where(inside, taken, xp.zeros_like(images))


def _origin(backend: Backend, by: np.ndarray, length: int) -> tuple[Array, Array]:
    """Along one axis, where each new pixel comes from, and whether there was one: (m, length)."""
    at = np.arange(length) - by[:, None]
    inside = (at >= 0) & (at < length)
    # The first pixel stands in for those that do not exist.
    return backend.from_host(np.where(inside, at, 0)), backend.from_host(inside)


def interpolated(backend: Backend, images: Array, rows: Array, columns: Array) -> Array:
    """Images at places between their pixels: bilinear, as if zeros were all around them.

    Parameters
    ----------
    images : array
        (m, c, h, w).
    rows, columns : array
        Where each new pixel comes from, together of shape (m, h, w), in the images' dtype; the
        same for all channels.
    """
    xp, (m, c, h, w) = backend.xp, images.shape
    padded = xp.zeros((m, c, h + 2, w + 2), dtype=images.dtype, device=backend.device)
    padded[:, :, 1:-1, 1:-1] = images
    y, below = _cell(backend, rows, h)
    x, right = _cell(backend, columns, w)
    place = xp.reshape(y * (w + 2) + x, (m, h * w))
    found = None
    for step, weight in (
        (0, (1.0 - below) * (1.0 - right)),
        (1, (1.0 - below) * right),
        (w + 2, below * (1.0 - right)),
        (w + 3, below * right),
    ):
        corner = xp.reshape(_taken(backend, padded, place + step), (m, c, h, w))
        corner *= weight[:, None, :, :]
        found = corner if found is None else found + corner
    return found


def _cell(backend: Backend, at: Array, length: int) -> tuple[Array, Array]:
    """The padded pixel before a place, and how far after it the place is, 0 to 1."""
    xp = backend.xp
    at = xp.clip(at, -1.0, float(length))
    before = xp.clip(xp.floor(at), -1.0, float(length - 1))
    return xp.astype(before, backend.index_dtype) + 1, at - before


def _taken(backend: Backend, images: Array, place: Array) -> Array:
    """Pixels (m, c, k) of (m, c, ...), by their place (m, k) in a channel of their own image."""
    xp, m, c = backend.xp, images.shape[0], images.shape[1]
    size = images.shape[2] * images.shape[3]
    first = xp.arange(0, m * c * size, size, dtype=place.dtype, device=backend.device)
    every = xp.reshape(first, (m, c, 1)) + xp.reshape(place, (m, 1, -1))
    taken = xp.take(xp.reshape(images, (-1,)), xp.reshape(every, (-1,)), axis=0)
    return xp.reshape(taken, (m, c, -1))
