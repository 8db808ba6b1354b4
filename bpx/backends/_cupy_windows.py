"""Windows that slide over images, on CuPy: the kernels of images.cu."""

from __future__ import annotations

import math
from typing import Any

from . import _cuda
from ._base import Array
from ._cupy_products import CupyProducts


class CupyWindows(CupyProducts):
    """What `CupyBackend` does for convolutions and pooling."""

    def patches(self, x: Array, sliding: Any, out: Array) -> Array:
        count = out.size // sliding.elements
        done = self._slide("patches", sliding, count, x, out)
        return out if done else super().patches(x, sliding, out)

    def fold(self, patches: Array, sliding: Any, out: Array) -> Array:
        windows, axes = math.prod(sliding.counts), len(sliding.size)
        source, steps = patches, (sliding.elements * windows, windows)
        if not any(patches.strides[2 : 2 + axes]):  # broadcast: each element of a window the same
            source, steps = patches[:, :, *[0] * axes], (windows, 0)
        done = self._slide("fold", sliding, out.size, source, out, steps=steps)
        return out if done else super().fold(patches, sliding, out)

    def window_sum(self, x: Array, sliding: Any, out: Array) -> Array:
        done = self._slide("window_sum", sliding, out.size, x, out)
        return out if done else super().window_sum(x, sliding, out)

    def window_max(self, x: Array, sliding: Any, out: Array) -> Array:
        done = self._slide("window_max", sliding, out.size, x, out)
        return out if done else super().window_max(x, sliding, out)

    def window_max_backward(
        self, delta: Array, x: Array, largest: Array, sliding: Any, out: Array
    ) -> Array:
        arrays = delta, x, largest, out
        done = self._slide("window_max_backward", sliding, out.size, *arrays)
        return out if done else super().window_max_backward(delta, x, largest, sliding, out)

    def _slide(
        self, name: str, sliding: Any, count: int, *arrays: Array, steps: tuple[int, ...] = ()
    ) -> bool:
        """Run a kernel of images.cu on so many threads; False where it does not take these."""
        geometry = _cuda.geometry(sliding)
        if geometry is None or not self._dense(*arrays):
            return False
        arguments = *arrays, count, *steps, *geometry
        self._launch(name, _cuda.an_element(count), arrays[0], *arguments)
        return True
