"""PyTorch on its CPU, a CUDA device or Apple's MPS: host and device, no native kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._base import Array, Backend, native


class TorchBackend(Backend):
    """`xp` is ``array_api_compat.torch``, `device` a ``torch.device``."""

    def __init__(self, name: str, xp: Any, device: Any) -> None:
        super().__init__(name, xp, device, is_host=device.type == "cpu")

    def from_host(self, array: np.ndarray) -> Array:
        array = native(array)
        # DLPack shares the memory, but read-only arrays cannot be exported through it.
        if self.is_host and array.flags.writeable and array.dtype != np.bool_:
            return self.xp.from_dlpack(array)
        return self.xp.asarray(np.array(self._fitting(array)), device=self.device)

    def to_host(self, array: Array) -> np.ndarray:
        return np.from_dlpack(array.detach().cpu())
