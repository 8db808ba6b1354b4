"""What must be the same on all ranks: arguments, initial state, parameters, and how a run ends."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import persistence
from ..backends import Array
from ..network import Network
from ..optimizers import State
from ..parallel.ranks import Ranks, agreed, of_all_ranks, same
from .checkpoints import Checkpoints, newest
from .snapshots import Snapshot, described, differing
from .state import numbers, set_numbers, vectors


def check_parameters(net: Network, ranks: Ranks) -> None:
    """ValueError, on all ranks, if parameters are not rank 0's, to the last bit."""
    host = np.ascontiguousarray(net.backend.to_host(net.parameters))
    what = f"after {net.steps} steps the parameters"
    same(ranks, what, f"{zlib.crc32(host.data):08x}")


def newest_checkpoint(
    checkpoints: Checkpoints, ranks: Ranks, custom: Mapping[str, Any] | None
) -> Snapshot | None:
    """Rank 0's newest checkpoint on all ranks; the others need not see its folder."""
    found = newest(checkpoints.folder, custom) if ranks.rank == 0 else None
    if ranks.size == 1:
        return found
    content = ranks.broadcast(b"" if found is None else Path(found.path).read_bytes())
    if ranks.rank == 0 or not content:
        return found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        path.write_bytes(content)
        return Snapshot.of(path, *persistence.read(path), custom)


def check_arguments(net: Network, ranks: Ranks, arguments: Mapping[str, Any]) -> None:
    """ValueError, on all ranks, if one of them was given another network or other arguments."""
    here = {
        "input_shape": net.input_shape, "layers": described(net.layers),
        "cost": described(net.cost), "task": net.task, "dtype": net.dtype,
        "backend": net.backend.name.rstrip(":0123456789"),  # each has a device of its own
        "generator": net.generator.bit_generator.state["bit_generator"], **arguments,
    }  # fmt: skip
    everyone = [json.loads(text) for text in ranks.texts(json.dumps(here))]
    for rank, there in enumerate(everyone):
        different = [
            f"{name} is {first} and {other}"
            for name, (first, other) in differing(everyone[0], there).items()
        ]
        if different:
            raise of_all_ranks(
                ValueError(
                    f"rank 0 and rank {rank} were given different things: {'; '.join(different)}. "
                    "Pass the same arguments and the whole data on every rank; fit takes the "
                    "rank's rows of it"
                )
            )


def synchronize(net: Network, state: State, ranks: Ranks) -> None:
    """Put rank 0's parameters, memory and generator on all ranks."""
    content = ranks.broadcast(json.dumps(numbers(net, state)).encode())
    set_numbers(net, state, json.loads(content))
    for vector in vectors(net, state).values():
        _from_rank_0(net, vector, ranks)


def _from_rank_0(net: Network, vector: Array, ranks: Ranks) -> None:
    host = np.ascontiguousarray(net.backend.to_host(vector))
    content = ranks.broadcast(host.tobytes())
    if ranks.rank:
        vector[...] = net.chain.copy_of(np.frombuffer(content, host.dtype))


def agreed_ending(ranks: Ranks, stopped: str | None, interrupted: bool) -> tuple[str | None, bool]:
    """Why one of the ranks was stopped, and whether one was interrupted."""
    reasons = [text for text in ranks.texts(stopped or "") if text]
    return next(iter(reasons), None), agreed(ranks, interrupted)
