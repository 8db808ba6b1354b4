"""A network as a safetensors file, and back: names, numbers and arrays, never code."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from . import persistence
from .architecture import Architecture, bind
from .backends import get
from .chain import Chain
from .costs import COSTS
from .layers import Input, Layer
from .network import Network
from .parameters import Layout


def save(net: Network, path: str | PathLike[str]) -> None:
    """Write one tensor a parameter, and the architecture as JSON. ``net.save(path)`` is the same.

    The file is written whole to a temporary one and renamed: an old file survives a full disk.
    The optimizer's memory is not in it; the generator and the key are.

    Raises
    ------
    ValueError
        An activation, cost, initializer or layer of one's own that was not registered.
    OSError
        The file cannot be written.
    """
    header = {
        "input_shape": net.input_shape,
        "layers": [layer.config() for layer in net.layers],
        "cost": COSTS.describe(net.cost),
        "task": net.task,
        "dtype": net.dtype,
        "key": net.chain.key,
        "generator": net.generator.bit_generator.state,
        "steps": net.steps,
        "epochs": net.epochs,
    }
    tensors: dict[str, np.ndarray] = {}
    described = net.chain.architecture
    for flat, layout in (
        (net.parameters, described.layout),
        (net.state, described.state_layout),
    ):
        host = net.backend.to_host(flat)
        tensors |= {entry.path: entry.view(np, host) for entry in layout.entries}
    persistence.write(path, tensors, header)


def load(
    path: str | PathLike[str],
    *,
    backend: Any = None,
    custom: Mapping[str, Any] | None = None,
) -> Network:
    """A network from a file that `Network.save` wrote.

    Parameters
    ----------
    path : path
    backend : optional
        Where it shall live; as for `Network`.
    custom : dict, optional
        Names to activations, costs, initializers or layer classes of one's own that the file
        names, beside those that were registered.

    Raises
    ------
    FileFormatError
        Not such a file, truncated, of a later version, or with tensors that do not fit its
        architecture.
    ValueError
        It names something that is neither known nor in `custom`.
    """
    tensors, header = persistence.read(path)
    generator = np.random.default_rng()
    try:
        layers = [Layer.from_config(config, custom) for config in header["layers"]]
        chain = bind([Input(tuple(header["input_shape"])), *layers])
        described = Architecture(chain, COSTS.get(header["cost"], custom), header["task"])
        dtype, key = header["dtype"], int(header["key"])
        generator.bit_generator.state = header["generator"]
        steps, epochs = int(header["steps"]), int(header["epochs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise persistence.FileFormatError(
            f"{path}: its header does not describe a network ({error})"
        ) from error
    layouts = described.layout, described.state_layout
    vectors = [_flat(path, layout, tensors) for layout in layouts]
    if tensors:
        raise persistence.FileFormatError(
            f"{path}: tensors that its architecture does not have: {', '.join(sorted(tensors))}"
        )
    net = Network.of(Chain(described, get(backend), dtype, key, *vectors), generator)
    net.steps, net.epochs = steps, epochs
    return net


def _flat(path: Any, layout: Layout, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The flat vector of a layout, its tensors taken out of `tensors`."""
    for entry in layout.entries:
        if entry.path not in tensors:
            raise persistence.FileFormatError(f"{path}: tensor {entry.path!r} is missing")
        values = tensors[entry.path]
        if values.shape != entry.shape or values.dtype.kind != "f":
            raise persistence.FileFormatError(
                f"{path}: tensor {entry.path!r} has shape {values.shape} and dtype "
                f"{values.dtype}, but its architecture says {entry.shape} of floats"
            )
    host = np.zeros(layout.size)  # after the checks: its size is what the file's tensors are
    for entry in layout.entries:
        entry.view(np, host)[...] = tensors.pop(entry.path)
    return host
