"""What a callback keeps of a network, to put it back when the training ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..backends import Array, get

if TYPE_CHECKING:
    from ..network import Network


class Weights:
    """Parameters and running statistics of a network, on its backend; none until the first."""

    def __init__(self, net: Network) -> None:
        xp = net.backend.xp
        self._arrays = xp.empty_like(net.parameters), xp.empty_like(net.state)

    def copy(self, net: Network) -> None:
        for kept, array in zip(self._arrays, self._of(net), strict=True):
            kept[...] = array

    def average(self, net: Network, count: int) -> None:
        """Take the network's into a mean, which is then one of `count`."""
        for kept, array in zip(self._arrays, self._of(net), strict=True):
            kept += (array - kept) / count

    def put(self, net: Network) -> None:
        for kept, array in zip(self._arrays, self._of(net), strict=True):
            array[...] = kept

    def state(self) -> dict[str, Array]:
        return dict(zip(("parameters", "running"), self._arrays, strict=True))

    def load_state(self, state: dict[str, Any]) -> None:
        for name, kept in self.state().items():
            if kept.shape != state[name].shape:
                raise ValueError(f"expected {name} of shape {kept.shape}, got {state[name].shape}")
            kept[...] = get(kept).from_host(state[name])

    @staticmethod
    def _of(net: Network) -> tuple[Array, Array]:
        return net.parameters, net.state
