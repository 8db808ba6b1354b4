"""Images from other places of the same images: whole pixels away, or between four of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import Array, Backend


def shifted(backend: Backend, images: Array, down: np.ndarray, right: np.ndarray) -> Array:
    """Each image so many pixels away, in its own dtype; 0 where there was none.

    Parameters
    ----------
    images : array
        (m, c, h, w).
    down, right : ndarray of int
        (m,), on the host; negative: up and left.
    """
    xp, (m, c, h, w) = backend.xp, images.shape
    rows = np.arange(h) - down[:, None]
    columns = np.arange(w) - right[:, None]
    # The image's first pixel stands in for those outside.
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
    place = np.where(inside, rows[:, :, None] * w + columns[:, None, :], 0)
    taken = _taken(backend, images, backend.from_host(place.reshape(m, h * w)))
    mask = xp.reshape(backend.from_host(inside), (m, 1, h, w))
    return xp.where(mask, xp.reshape(taken, (m, c, h, w)), xp.zeros_like(images))


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
    y, below = _cell(xp, rows, h)
    x, right = _cell(xp, columns, w)
    place = xp.astype(y * (w + 2) + x, backend.index_dtype)
    place = xp.reshape(place, (m, h * w))
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


def _cell(xp: Any, at: Array, length: int) -> tuple[Array, Array]:
    """The padded pixel before a place, and how far behind it the place is, 0 to 1."""
    at = xp.clip(at, -1.0, float(length))
    before = xp.clip(xp.floor(at), -1.0, float(length - 1))
    return before + 1.0, at - before


def _taken(backend: Backend, images: Array, place: Array) -> Array:
    """Pixels (m, c, k) of (m, c, ...), by their place (m, k) in a channel of their own image."""
    xp, m, c = backend.xp, images.shape[0], images.shape[1]
    size = images.shape[2] * images.shape[3]
    first = xp.arange(0, m * c * size, size, dtype=place.dtype, device=backend.device)
    every = xp.reshape(first, (m, c, 1)) + xp.reshape(place, (m, 1, -1))
    taken = xp.take(xp.reshape(images, (-1,)), xp.reshape(every, (-1,)), axis=0)
    return xp.reshape(taken, (m, c, -1))
