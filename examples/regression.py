"""A regression: a noisy surface, with columns of very different scales."""

import argparse

import numpy as np

import bpx

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="2 epochs")
options = parser.parse_args()

generator = np.random.default_rng(0)
x = generator.normal(size=(5000, 3)) * [1.0, 1000.0, 0.01]
y = np.sin(2 * x[:, 0]) + (x[:, 1] / 1000) * (x[:, 2] * 100) + 0.1 * generator.normal(size=5000)

net = bpx.Network(
    [
        bpx.layers.Input(3),
        bpx.layers.Rescale.standardizing(x[:4000]),  # saved with the network
        bpx.layers.Dense(64, "silu"),
        bpx.layers.Dense(64, "silu"),
        bpx.layers.Dense(1),
    ],
    cost="huber",
    backend=options.backend,
    seed=0,
)
print(net.summary())
epochs = 2 if options.short else 60
steps = epochs * 4000 // 50
net.fit(
    x[:4000],
    y[:4000],
    epochs=epochs,
    batch_size=50,
    optimizer=bpx.AdamW(bpx.schedules.Cosine(0.005, steps)),
    validation=(x[4000:4500], y[4000:4500]),
    progress=True,
)
predicted = net.backend.to_host(net.predict(x[4500:]))[:, 0]
error = np.sqrt(np.mean((predicted - y[4500:]) ** 2))
print(f"root mean square error on 500 unseen points: {error:.3f} (the noise alone: 0.100)")
