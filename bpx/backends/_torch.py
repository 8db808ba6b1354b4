"""PyTorch on its CPU, a CUDA device or Apple's MPS: host and device, no native kernels."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import Any

import numpy as np

from ._base import Array, Backend, native


class TorchBackend(Backend):
    """`xp` is ``array_api_compat.torch``, `device` a ``torch.device``."""

    def __init__(self, name: str, xp: Any, device: Any) -> None:
        super().__init__(name, xp, device, is_host=device.type == "cpu")

    def from_host(self, array: np.ndarray) -> Array:
        array = native(array)
        if array.dtype.kind == "u" and array.itemsize > 1:  # PyTorch compares none of these
            array = array.astype(_wider(array))
        # DLPack shares the memory, but not of read-only arrays, or of strides PyTorch lacks.
        steps = all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
        if self.is_host and steps and array.flags.writeable and array.dtype != np.bool_:
            return self.xp.from_dlpack(array)
        return self.xp.asarray(np.array(self._fitting(array), order="C"), device=self.device)

    def to_host(self, array: Array) -> np.ndarray:
        known = not array.is_floating_point() or array.dtype in _floats(self.xp)
        array = (array if known else array.float()).detach().cpu()
        return np.from_dlpack(array.resolve_neg())  # DLPack has no bit that changes the signs

    def own(self, array: Array) -> Array:
        torch = sys.modules["torch"]
        # An operation on a subclass gives the subclass, which may mean something else by it.
        array = array.detach().as_subclass(torch.Tensor)
        if array.is_floating_point():
            return array.bfloat16() if array.itemsize == 1 else array  # which has all float8
        unsigned = array.itemsize > 1 and not array.dtype.is_signed
        return self.from_host(self.to_host(array)) if unsigned else array

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        with self._outside_inference():
            return super().empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        with self._outside_inference():
            return super().zeros(shape, dtype)

    def _outside_inference(self) -> contextlib.AbstractContextManager[Any]:
        """For tensors that can be written to after ``torch.inference_mode()`` too."""
        torch = sys.modules["torch"]
        on = torch.is_inference_mode_enabled()
        return torch.inference_mode(False) if on else contextlib.nullcontext()


def is_tensor(values: Any) -> bool:
    """Whether it is a tensor, also of a subclass that another library or the user has made."""
    return isinstance(values, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_wrapper(tensor: Any) -> bool:
    """Whether its elements are in no memory of its own: of a subclass around others, of vmap.

    DLPack would give whatever lies at address 0 and an offset.
    """
    try:
        if type(tensor) is sys.modules["torch"].Tensor:
            return bool(tensor.data_ptr() == 0 and tensor.numel())
        with warnings.catch_warnings():  # to ask a FakeTensor is deprecated
            warnings.simplefilter("ignore")
            return bool(tensor.data_ptr() == 0 and tensor.numel())
    except RuntimeError:  # there is no address to ask for
        return True


def _floats(xp: Any) -> tuple[Any, ...]:
    """Those that NumPy has too."""
    return xp.float16, xp.float32, xp.float64


def _wider(array: np.ndarray) -> type[np.generic]:
    """A dtype for the numbers of an unsigned one."""
    fits = array.itemsize < 8 or array.max(initial=0) <= np.iinfo(np.int64).max
    return np.int64 if fits else np.float64
