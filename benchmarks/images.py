"""Networks of images, as a user of each library would write them.

*book* has the two convolutions of the book's chapter 6, on 28 × 28; *residual*, on 3 × 32 × 32,
has a convolution and three blocks of two convolutions with batch normalization, of 16, 32 and 64
channels; *plain*, on the same images, has three convolutions of 3 × 3 with as many channels. All
end in ten classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SHAPES = {"book": (1, 28, 28), "residual": (3, 32, 32), "plain": (3, 32, 32)}


def samples(network: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, and labels that nobody can learn."""
    draw = np.random.default_rng(0)
    x = draw.random((n, *SHAPES[network]), dtype=np.float32)
    return x, draw.integers(10, size=n)


# --- bpx ----------------------------------------------------------------------------------------


def bpx_network(name: str, backend: str | None = None) -> Any:
    import bpx

    chain = {"book": book, "residual": residual, "plain": plain}[name]()
    return bpx.Network([bpx.layers.Input(SHAPES[name]), *chain], seed=0, backend=backend)


def book() -> list[Any]:
    from bpx import layers as l

    return [
        *(l.Conv2D(20, 5, "relu"), l.MaxPool2D(2), l.Conv2D(40, 5, "relu"), l.MaxPool2D(2)),
        *(l.Flatten(), l.Dense(100, "relu"), l.Dense(10, "softmax")),
    ]


def plain() -> list[Any]:
    from bpx import layers as l

    return [
        *(l.Conv2D(16, 3, "relu", padding="same"), l.MaxPool2D(2)),
        *(l.Conv2D(32, 3, "relu", padding="same"), l.MaxPool2D(2)),
        *(l.Conv2D(64, 3, "relu", padding="same"), l.GlobalAveragePool2D()),
        l.Dense(10, "softmax"),
    ]


def residual() -> list[Any]:
    from bpx import layers as l

    def block(channels: int, stride: int) -> list[Any]:
        first = l.Conv2D(channels, 3, stride=stride, padding=1, use_bias=False)
        second = l.Conv2D(channels, 3, padding=1, use_bias=False)
        inside = [first, l.BatchNorm(), l.Activation("relu"), second, l.BatchNorm()]
        return [l.Residual(inside, projection="auto"), l.Activation("relu")]

    return [
        *(l.Conv2D(16, 3, padding=1, use_bias=False), l.BatchNorm(), l.Activation("relu")),
        *(*block(16, 1), *block(32, 2), *block(64, 2)),
        *(l.GlobalAveragePool2D(), l.Dense(10, "softmax")),
    ]


# --- PyTorch ------------------------------------------------------------------------------------


def torch_model(name: str) -> Any:
    """It ends before the softmax, which is part of the cost."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, into: int, channels: int, stride: int) -> None:
            super().__init__()
            self.inside = nn.Sequential(
                *(nn.Conv2d(into, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)),
                *(nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)),
                nn.BatchNorm2d(channels),
            )
            same = into == channels and stride == 1
            shortcut = nn.Conv2d(into, channels, 1, stride, bias=False)
            self.shortcut = nn.Identity() if same else shortcut

        def forward(self, x: Any) -> Any:
            return torch.relu(self.inside(x) + self.shortcut(x))

    chains = {
        "book": lambda: [
            *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 40, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, 10)),
        ],
        "plain": lambda: [
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Linear(64, 10)),
        ],
        "residual": lambda: [
            *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        ],
    }
    return nn.Sequential(*chains[name]())


# --- the matrix products ------------------------------------------------------------------------


def matrices(name: str) -> list[tuple[tuple[int, int], int]]:
    """For each layer with weights, its matrix's shape and the columns of an image's windows."""
    found = []

    def look(layers: Any) -> None:
        for layer in layers:
            inner = getattr(layer, "inner", dict)()
            look(inner.values())
            tensors = {} if inner else layer.parameters()
            if "weights" in tensors:
                out, *into = tensors["weights"].shape
                windows = math.prod(layer.output_shape[1:])
                found.append(((out, math.prod(into)), windows))

    look(bpx_network(name, "numpy").layers)
    return found
