"""The book's first network (ch. 1): 784-30-10, sigmoid, quadratic cost, η = 3."""

import argparse

import bpx

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="1 epoch of 5,000 images")
options = parser.parse_args()

(x, y), validation, test = bpx.datasets.mnist()
if options.short:
    x, y = x[:5000], y[:5000]
net = bpx.Network(
    [784, 30, 10], cost="quadratic", weights="normal", backend=options.backend, seed=0
)
print(net.summary())
net.fit(
    x,
    y,
    epochs=1 if options.short else 30,
    batch_size=10,
    optimizer=bpx.SGD(3.0),
    validation=test,  # as chapter 1 does; chapter 3 says why one should not
    callbacks=lambda run: print(
        f"epoch {run.net.epochs}: {run.history['validation_accuracy'][-1]:.2%} of the test images"
    ),
)
print(f"test accuracy {100 * net.accuracy(*test):.2f} %")
