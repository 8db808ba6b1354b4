"""Convolutions on CuPy by cuDNN, where its front end is installed and it takes them."""

from __future__ import annotations

from typing import Any

from . import _cuda, _cudnn
from ._base import Array, in_slices
from ._cupy_windows import CupyWindows
from ._windows import Room


class CupyConvolutions(CupyWindows):
    """What `CupyBackend` asks cuDNN for, before it does it as `CupyWindows`."""

    _convolutions: _cudnn.Cudnn

    def parts_of_windows(
        self, rows: int, channels: int, weights: tuple[int, ...], sliding: Any
    ) -> list[list[slice]]:
        if not self._convolutions.is_here():
            return super().parts_of_windows(rows, channels, weights, sliding)
        return [in_slices(0, rows, max(rows, 1))]  # cuDNN writes no patches

    def convolve(self, x: Array, weights: Array, sliding: Any, room: Room, out: Array) -> Array:
        if not self._convolutions.is_here():
            return super().convolve(x, weights, sliding, room, out)
        if not self._by_cudnn("conv_fprop", x, weights, out, sliding):
            for rows in self._in_memory(x, weights, sliding):
                super().convolve(x[rows, ...], weights, sliding, room, out[rows, ...])
        return out

    def convolve_weights(
        self,
        x: Array,
        delta: Array,
        sliding: Any,
        room: Room,
        out: Array,
        beta: float = 0.0,
        patched: bool = False,
    ) -> Array:
        if not self._convolutions.is_here():
            return super().convolve_weights(x, delta, sliding, room, out, beta, patched)
        if self._is_asked(x, sliding):
            fresh = out if beta == 0.0 else room(tuple(out.shape))  # its graphs have no β
            if self._by_cudnn("conv_wgrad", x, fresh, delta, sliding):
                return out if beta == 0.0 else self.axpby(fresh, out, 1.0, beta)
            patched = False  # cuDNN may have done `convolve`, and that leaves none
        slices = self._in_memory(x, out, sliding)
        for rows in slices:
            kept = beta if rows is slices[0] else 1.0
            super().convolve_weights(
                x[rows, ...], delta[rows, ...], sliding, room, out, kept,
                patched and len(slices) == 1,
            )  # fmt: skip
        return out

    def convolve_inputs(
        self, delta: Array, weights: Array, sliding: Any, room: Room, out: Array
    ) -> Array:
        if not self._convolutions.is_here():
            return super().convolve_inputs(delta, weights, sliding, room, out)
        if not self._by_cudnn("conv_dgrad", out, weights, delta, sliding):
            for rows in self._in_memory(out, weights, sliding):
                super().convolve_inputs(delta[rows, ...], weights, sliding, room, out[rows, ...])
        return out

    def _by_cudnn(self, operation: str, x: Array, weights: Array, z: Array, sliding: Any) -> bool:
        """Done; or False."""
        return (
            self._is_asked(x, sliding)
            and self._dense(x, weights, z)
            and self._convolutions(operation, x, weights, z, sliding, self._precision)
        )

    def _is_asked(self, x: Array, sliding: Any) -> bool:
        """Whether cuDNN may do such ones: of windows in padding alone its manuals say nothing."""
        numbers = x.dtype == _cuda.FLOAT32 and self._precision in _cudnn.NOTES
        return numbers and bool(x.size) and sliding.touches

    def _in_memory(self, x: Array, weights: Array, sliding: Any) -> list[slice]:
        """Slices of the rows, of which the patches fit at once."""
        shapes = x.shape[1], tuple(weights.shape)
        [slices] = super().parts_of_windows(x.shape[0], *shapes, sliding)
        return slices
