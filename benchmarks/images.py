"""The networks of `cases.Images`, as a user of each library would write them."""

from __future__ import annotations

from itertools import pairwise

from cases import Images


def bpx_network(case: Images, backend: str | None = None):
    import bpx

    layers = bpx.layers
    side = case.side
    chain = [layers.Input(case.sizes[0]), layers.Reshape((1, side, side))]
    for maps in case.maps:
        chain += [layers.Conv2D(maps, case.window, case.hidden), layers.MaxPool2D(2)]
    chain.append(layers.Flatten())
    chain += [layers.Dense(units, case.hidden) for units in case.sizes[1:-1]]
    chain.append(layers.Dense(case.sizes[-1], case.output))
    return bpx.Network(chain, cost="log-likelihood", seed=0, backend=backend)


def torch_model(case: Images):
    """It ends before the softmax, which is the cost's."""
    import torch
    from torch import nn

    chain: list[nn.Module] = [nn.Unflatten(1, (1, case.side, case.side))]
    for into, out, _ in case.convolutions:
        chain += [nn.Conv2d(into, out, case.window), nn.ReLU(), nn.MaxPool2d(2)]
    chain.append(nn.Flatten())
    for into, out in pairwise(case.dense):
        chain += [nn.Linear(into, out), nn.ReLU()]
    chain.pop()
    trained = [module for module in chain if hasattr(module, "weight")]
    with torch.no_grad():
        for module, (w, b) in zip(trained, case.initial(), strict=True):
            module.weight.copy_(torch.from_numpy(w))
            module.bias.copy_(torch.from_numpy(b))
    return nn.Sequential(*chain)
