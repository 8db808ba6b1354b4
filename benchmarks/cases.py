"""What is timed: networks, batch sizes, optimizers, and data that look like the real ones."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise

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
        """Vectors as long as the parameters that the optimizer keeps."""
        return 2 if self.rate is None else int(self.momentum > 0.0)

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """A step's matrix products, (rows, summed over, columns).

        Forward, the gradient of the weights, and backward but for the first layer.
        """
        layers = list(pairwise(self.sizes))
        forward = [(self.m, into, out) for into, out in layers]
        weights = [(out, self.m, into) for into, out in layers]
        return [*forward, *weights, *((self.m, out, into) for into, out in layers[1:])]

    @property
    def multiply_adds(self) -> int:
        return sum(m * k * n for m, k, n in self.products)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x in float32, like MNIST's pixels four fifths of it zero; labels, or targets (n, 1)."""
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
    """Convolutions before dense layers, as in ch. 6 of the book, on square images of one channel.

    Each has so many `maps`, windows of `window` × `window`, ReLU, and the largest of 2 × 2 after
    it. `sizes` are of the pixels and of the dense layers; x has a row an image.
    """

    maps: tuple[int, ...] = (20, 40)
    window: int = 5

    @property
    def side(self) -> int:
        return math.isqrt(self.sizes[0])

    @property
    def convolutions(self) -> list[tuple[int, int, int]]:
        """Channels of the input and of the output, and the side of the latter."""
        found, into, side = [], 1, self.side
        for out in self.maps:
            side -= self.window - 1
            found.append((into, out, side))
            into, side = out, side // 2
        return found

    @property
    def dense(self) -> tuple[int, ...]:
        """Sizes of the dense layers, from the last convolution's pooled outputs on."""
        _, out, side = self.convolutions[-1]
        return (out * (side // 2) ** 2, *self.sizes[1:])

    @property
    def parameters(self) -> int:
        return sum(w.size + b.size for w, b in self.initial())

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """With the windows of all images as the columns of one matrix."""
        found = []
        for index, (into, out, side) in enumerate(self.convolutions):
            elements, windows = into * self.window**2, self.m * side**2
            found += [(out, elements, windows), (out, windows, elements)]
            if index:
                found.append((elements, out, windows))
        into, out = self.dense[:2]
        return [*found, *self.flat.products, (self.m, out, into)]

    def initial(self) -> list[tuple[np.ndarray, np.ndarray]]:
        draw, found = np.random.default_rng(2), []
        for into, out, _ in self.convolutions:
            shape = out, into, self.window, self.window
            weights = draw.standard_normal(shape) / np.sqrt(into * self.window**2)
            found.append((weights.astype(np.float32), np.zeros(out, np.float32)))
        return [*found, *self.flat.initial()]

    @property
    def flat(self) -> Case:
        """The dense layers by themselves."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(Case)}
        return Case(**fields | {"sizes": self.dense})


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
        Images("images", (784, 100, 10), 10, 10_000, "relu", "softmax", "nll", 0.01, 0.9),
        Images("images-128", (784, 100, 10), 128, 12_800, "relu", "softmax", "nll", 0.01, 0.9),
    )
}
