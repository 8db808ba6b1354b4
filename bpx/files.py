"""A network as a safetensors file, and back: names, numbers and arrays, never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from . import persistence
from .architecture import Architecture, bind
from .backends import get
from .chain import Chain
from .checks import whole
from .costs import COSTS
from .layers import Input, Layer
from .network import Network
from .parameters import Layout
from .registry import nearest

GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")  # of NumPy


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
        "generator": json.loads(
            json.dumps(net.generator.bit_generator.state, default=lambda array: array.tolist())
        ),
        "steps": net.steps,
        "epochs": net.epochs,
    }
    tensors: dict[str, np.ndarray] = {}
    bits = net.generator.bit_generator.state["bit_generator"]
    if bits not in GENERATORS:
        raise ValueError(f"a file cannot hold the generator {bits}; expected one of {GENERATORS}")
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
        Not such a file, truncated, of a later version, with tensors that do not fit its
        architecture or are not finite, or with a name that is neither known nor in `custom`.
    """
    tensors, header = persistence.read(path)
    try:
        described = _architecture(header, custom)
        generator = _generator(header["generator"])
        dtype, key = header["dtype"], whole("key", header["key"], 0)
        steps, epochs = whole("steps", header["steps"], 0), whole("epochs", header["epochs"], 0)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise persistence.FileFormatError(
            f"{path}: its header does not describe a network ({error}). Activations, costs, "
            "initializers and layers of your own: bpx.register them first, or "
            'load(path, custom={"name": it})'
        ) from error
    layouts = described.layout, described.state_layout
    vectors = [_flat(path, layout, tensors) for layout in layouts]
    if tensors:
        raise persistence.FileFormatError(
            f"{path}: tensors that its architecture does not have: {', '.join(sorted(tensors))}"
        )
    if dtype not in ("float32", "float64"):
        raise persistence.FileFormatError(f"{path}: no network is of dtype {dtype!r}")
    net = Network.of(Chain(described, get(backend), dtype, key, *vectors), generator)
    net.steps, net.epochs = steps, epochs
    return net


def _architecture(header: Mapping[str, Any], custom: Mapping[str, Any] | None) -> Architecture:
    layers = [Layer.from_config(config, custom) for config in header["layers"]]
    bound = bind([Input(tuple(header["input_shape"])), *layers])
    return Architecture(bound, COSTS.get(header["cost"], custom), header["task"])


def _generator(state: Any) -> np.random.Generator:
    """A generator that goes on from a saved state."""
    name = state["bit_generator"]
    if name not in GENERATORS:
        raise ValueError(f"unknown generator {name!r}{nearest(str(name), list(GENERATORS))}")
    bits = getattr(np.random, name)(0)
    bits.state = state
    return np.random.Generator(bits)


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
        if not np.isfinite(values).all():
            raise persistence.FileFormatError(f"{path}: tensor {entry.path!r} has NaN or infinity")
    host = np.zeros(layout.size)  # after the checks: its size is what the file's tensors are
    for entry in layout.entries:
        entry.view(np, host)[...] = tensors.pop(entry.path)
    return host
