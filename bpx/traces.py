"""What each layer computes for a batch, kept to be looked at: z, a, and δ of each sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .architecture import without_activation
from .backends import Array
from .chain import Chain
from .context import Workspace
from .layers import Layer, sequence


@dataclass(frozen=True, repr=False)
class LayerTrace:
    """What one layer computed for a batch of m samples.

    Attributes
    ----------
    layer : Layer
    z : array
        (m, \\*output_shape). What its activation takes; for a layer that does not end in one, its
        outputs.
    a : array
        σ(z), its outputs.
    delta : array or None
        ∂C/∂z, where C is the cost of each sample by itself and not their mean; None without y.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], weights="zeros", bias="zeros")
    >>> (last,) = net.trace([[2.0], [3.0]], [1, 0])
    >>> last.layer is net.layers[0], last.z.tolist(), last.delta.tolist()
    (True, [[0.0], [0.0]], [[-0.5], [0.5]])
    >>> last
    <LayerTrace of Dense 1, sigmoid: z, a, delta (2, 1)>
    """

    layer: Layer
    z: Array
    a: Array
    delta: Array = None

    def __repr__(self) -> str:
        arrays = "z, a" if self.delta is None else "z, a, delta"
        return f"<LayerTrace of {self.layer}: {arrays} {tuple(self.z.shape)}>"


@np.errstate(all="ignore")  # what is not finite shows in what is returned
def trace(chain: Chain, x: Array, y: Array | None, ws: Workspace) -> list[LayerTrace]:
    """The trace of each layer, from gathered rows; all in fresh arrays."""
    backend, layers = chain.backend, chain.architecture.layers
    bare = [without_activation(layer) for layer in chain.architecture.on_gathered]
    found: list[LayerTrace] = []
    kept = []
    for index, (stage, activation) in enumerate(bare):
        p, ctx = chain.p[index], ws.contexts[index]
        x, (saved,) = sequence.forward((stage,), x, (p,), (ctx,))
        z = x + 0.0  # a copy: a layer may hand its input through
        x = backend.activate(activation, z, backend.empty(z.shape, z.dtype))
        found.append(LayerTrace(layers[index], z, x))
        kept.append(saved)
    if y is None:
        return found
    z, a = found[-1].z, found[-1].a + 0.0
    delta = backend.empty(z.shape, z.dtype)
    backend.cost_and_delta(chain.objective, z, a, chain.as_outputs(y, ws), delta)  # BP1
    for index in range(len(layers) - 1, 0, -1):
        found[index] = replace(found[index], delta=delta + 0.0)  # a copy: it is overwritten below
        stage, under = bare[index][0], found[index - 1]
        below: Any = stage.backward(delta, kept[index], chain.p[index], None, ws.contexts[index])
        delta = backend.activate_backward(bare[index - 1][1], below, under.z, under.a)  # BP2
    found[0] = replace(found[0], delta=delta + 0.0)
    return found
