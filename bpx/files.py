"""A network as a safetensors file, and back: names, numbers and arrays, never code."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from . import persistence
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
        "key": net.key,
        "generator": net.generator.bit_generator.state,
        "steps": net.steps,
        "epochs": net.epochs,
    }
    tensors = {}
    for flat, layout in ((net.parameters, net.layout), (net.state, net.state_layout)):
        host = net.backend.to_host(flat)
        for entry in layout.entries:
            values = host[entry.start : entry.stop].reshape(entry.shape)
            tensors[f"layers.{entry.layer}.{entry.name}"] = values
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
    try:
        layers = [Layer.from_config(config, custom) for config in header["layers"]]
        shape, cost = tuple(header["input_shape"]), COSTS.get(header["cost"], custom)
        options = {"dtype": header["dtype"], "task": header["task"]}
        key, state = header["key"], header["generator"]
        steps, epochs = header["steps"], header["epochs"]
    except (KeyError, TypeError) as error:
        raise persistence.FileFormatError(
            f"{path}: its header does not describe a network ({error})"
        ) from error
    net = Network([Input(shape), *layers], cost=cost, backend=backend, seed=0, **options)
    net.key, net.steps, net.epochs = key, steps, epochs
    net.generator.bit_generator.state = state
    for name, layout in (("parameters", net.layout), ("state", net.state_layout)):
        setattr(net, name, net._own(_flat(path, layout, tensors)))
    if tensors:
        raise persistence.FileFormatError(
            f"{path}: tensors that its architecture does not have: {', '.join(sorted(tensors))}"
        )
    net._view()
    return net


def _flat(path: Any, layout: Layout, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The flat vector of a layout, its tensors taken out of `tensors`."""
    host = np.zeros(layout.size)
    for entry in layout.entries:
        name = f"layers.{entry.layer}.{entry.name}"
        if name not in tensors:
            raise persistence.FileFormatError(f"{path}: tensor {name!r} is missing")
        values = tensors.pop(name)
        if values.shape != entry.shape or values.dtype.kind != "f":
            raise persistence.FileFormatError(
                f"{path}: tensor {name!r} has shape {values.shape} and dtype {values.dtype}, but "
                f"its architecture says {entry.shape} of floats"
            )
        host[entry.start : entry.stop] = values.reshape(-1)
    return host
