"""What steps change, in a network and in its optimizer's memory: vectors and numbers."""

from __future__ import annotations

from typing import Any

from ..backends import Array
from ..files import as_json
from ..network import Network
from ..optimizers import State


def vectors(net: Network, memory: State) -> dict[str, Array]:
    """The vectors themselves, in the same order on every rank."""
    slots = {f"optimizer.{name}": memory.slots[name] for name in sorted(memory.slots)}
    return {"parameters": net.parameters, "state": net.state, **slots}


def numbers(net: Network, memory: State) -> dict[str, Any]:
    """The numbers as JSON, for `set_numbers`."""
    return {
        "generator": as_json(net.generator.bit_generator.state), "key": net.chain.key,
        "steps": net.steps, "epochs": net.epochs, "step": memory.step, "factor": memory.factor,
    }  # fmt: skip


def set_numbers(net: Network, memory: State, values: dict[str, Any]) -> None:
    """Set all that `numbers` gave, perhaps of another network."""
    net.generator.bit_generator.state, net.chain.key = values["generator"], values["key"]
    net._count(values["steps"], values["epochs"])
    memory.step, memory.factor = values["step"], values["factor"]
