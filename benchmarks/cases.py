"""What is timed: networks, batch sizes, optimizers, and data that look like real data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import images
import numpy as np


@dataclass(frozen=True)
class Case:
    """One training problem, the same for every library.

    `rate` and `momentum` are those of SGD; without a rate the optimizer is Adam. `n` samples make
    an epoch, which is what one round of the benchmark runs.
    """

    name: str
    sizes: tuple[int, ...]
    m: int
    n: int
    hidden: str
    output: str
    cost: str
    rate: float | None = None
    momentum: float = 0.0

    @property
    def steps(self) -> int:
        return -(-self.n // self.m)

    @property
    def is_regression(self) -> bool:
        return self.output == "identity"

    @property
    def parameters(self) -> int:
        return sum((into + 1) * out for into, out in pairwise(self.sizes))

    @property
    def slots(self) -> int:
        """How many vectors, each as long as the parameters, the optimizer keeps."""
        return 2 if self.rate is None else int(self.momentum > 0.0)

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """A step's matrix products, (rows, summed over, columns).

        Forward, the gradient of the weights, and backward except for the first layer.
        """
        layers = list(pairwise(self.sizes))
        forward = [(self.m, into, out) for into, out in layers]
        weights = [(out, self.m, into) for into, out in layers]
        return [*forward, *weights, *((self.m, out, into) for into, out in layers[1:])]

    @property
    def multiply_adds(self) -> int:
        return sum(m * k * n for m, k, n in self.products)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x in float32, four fifths of it zero like MNIST's pixels; labels, or targets (n, 1)."""
        draw = np.random.default_rng(0)
        if self.is_regression:
            x = draw.standard_normal((self.n, self.sizes[0]), dtype=np.float32)
            y = np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
            return x, y.astype(np.float32)
        x = draw.random((self.n, self.sizes[0]), dtype=np.float32)
        x *= draw.random((self.n, self.sizes[0]), dtype=np.float32) < 0.2
        return x, draw.integers(self.sizes[-1], size=self.n)

    def initial(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights (n_out, n_in) and biases."""
        draw = np.random.default_rng(1)
        return [
            (
                (draw.standard_normal((into, out)) / np.sqrt(into)).T.astype(
                    np.float32, order="C"
                ),
                np.zeros(out, np.float32),
            )
            for into, out in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        ]


@dataclass(frozen=True)
class Images(Case):
    """One of the networks of `images`; `sizes` are its inputs and classes.

    Each library draws its own initial weights.
    """

    network: str = "book"

    @property
    def parameters(self) -> int:
        return images.bpx_network(self.network, "numpy").parameters.size

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """With the windows of all images as the columns of one matrix."""
        found = []
        for index, ((out, into), windows) in enumerate(images.matrices(self.network)):
            columns = self.m * windows
            found += [(out, into, columns), (out, columns, into)]
            if index:
                found.append((into, out, columns))
        return found

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        return images.samples(self.network, self.n)


def of_images(name: str, network: str, m: int, n: int) -> Images:
    sizes = math.prod(images.SHAPES[network]), 10
    return Images(name, sizes, m, n, "relu", "softmax", "nll", 0.01, 0.9, network)


CASES = {
    case.name: case
    for case in (
        Case("book", (784, 30, 10), 10, 50_000, "sigmoid", "sigmoid", "quadratic", 3.0),
        Case("medium", (784, 256, 10), 64, 50_000, "relu", "softmax", "nll", 0.01, 0.9),
        Case("wide", (784, 2048, 2048, 10), 256, 12_800, "relu", "softmax", "nll", 0.01, 0.9),
        Case("deep", (784, *[128] * 6, 10), 32, 50_000, "relu", "softmax", "nll"),
        Case("regression", (20, 64, 64, 1), 1024, 1_000_000, "relu", "identity", "quadratic"),
    )
}

IMAGES = {
    case.name: case
    for case in (
        of_images("images", "book", 10, 10_000),
        of_images("images-128", "book", 128, 12_800),
        of_images("residual", "residual", 10, 10_000),
        of_images("residual-128", "residual", 128, 12_800),
    )
}
