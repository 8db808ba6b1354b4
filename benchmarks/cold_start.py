"""One process from its start to 97 % on MNIST's test images: ``python cold_start.py PEER``.

Imports, loading, and training: 784-100-10, ReLU, softmax, mini-batches of 64, momentum 0.9, each
library in its usual way. It ends after the first epoch that reaches 97 %.
"""

from __future__ import annotations

import gzip
import os
import sys
from itertools import pairwise
from pathlib import Path

GOAL, M, RATE, MOMENTUM, SIZES = 0.97, 64, 0.1, 0.9, (784, 100, 10)
FOLDER = Path(os.environ.get("BPX_DATA", "data")) / "mnist"


def images_and_labels():
    """Training and test set, float32 in [0, 1], for libraries that do not come with MNIST."""
    import numpy as np

    found = []
    for part in ("train", "t10k"):
        with gzip.open(FOLDER / f"{part}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
        with gzip.open(FOLDER / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        if part == "train":  # like `bpx.datasets.mnist`, which keeps 10,000 for validation
            pixels, labels = pixels[:50_000], labels[:50_000]
        found += [pixels.astype(np.float32) / 255, labels.astype(np.int64)]
    return found


def bpx_() -> float:
    import bpx

    (x, y), _, test = bpx.datasets.mnist("uint8")
    scale, (first, hidden, last) = bpx.layers.Rescale(1 / 255), SIZES
    net = bpx.Network(
        [bpx.layers.Input(first), scale, bpx.layers.Dense(hidden, "relu"),
         bpx.layers.Dense(last, "softmax")], seed=0,
    )  # fmt: skip
    while True:
        net.fit(x, y, epochs=1, batch_size=M, optimizer=bpx.SGD(RATE, MOMENTUM))
        if (accuracy := net.accuracy(*test)) >= GOAL:
            return accuracy


def jax_() -> float:
    import jax
    import jax.numpy as jnp
    import numpy as np

    x, y, tx, ty = map(jnp.asarray, images_and_labels())
    draw = np.random.default_rng(0)
    params = [
        (jnp.asarray(draw.standard_normal((a, b)) * (2 / a) ** 0.5, jnp.float32), jnp.zeros(b))
        for a, b in pairwise(SIZES)
    ]

    def logits(params, x):
        (w1, b1), (w2, b2) = params
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    def loss(params, x, y):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], 1).mean()

    @jax.jit
    def epoch(params, v, x, y, order):
        def step(state, rows):
            params, v = state
            grad = jax.grad(loss)(params, x[rows], y[rows])
            v = jax.tree.map(lambda v, g: MOMENTUM * v - RATE * g, v, grad)
            return (jax.tree.map(jnp.add, params, v), v), None

        return jax.lax.scan(step, (params, v), order)[0]

    v = jax.tree.map(jnp.zeros_like, params)
    steps = len(x) // M
    while True:
        order = draw.permutation(len(x))[: steps * M].reshape(steps, M)
        params, v = epoch(params, v, x, y, order)
        if (accuracy := float((logits(params, tx).argmax(1) == ty).mean())) >= GOAL:
            return accuracy


def torch_() -> float:
    import torch

    x, y, tx, ty = map(torch.from_numpy, images_and_labels())
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    while True:
        for rows in torch.randperm(len(x)).split(M):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.inference_mode():
            if (accuracy := (model(tx).argmax(1) == ty).float().mean().item()) >= GOAL:
                return accuracy


def sklearn_() -> float:
    from sklearn.neural_network import MLPClassifier

    x, y, tx, ty = images_and_labels()
    model = MLPClassifier(
        SIZES[1:-1], solver="sgd", learning_rate_init=RATE, momentum=MOMENTUM, batch_size=M,
        alpha=0.0, random_state=0,
    )  # fmt: skip
    while True:
        model.partial_fit(x, y, classes=range(10))
        if (accuracy := model.score(tx, ty)) >= GOAL:
            return accuracy


PEERS = {"bpx": bpx_, "bpx fast": bpx_, "JAX": jax_, "PyTorch": torch_, "scikit-learn": sklearn_}

if __name__ == "__main__":
    print(PEERS[sys.argv[1]]())
