"""The book's first convolutional network (ch. 6): 20 feature maps of 5 × 5, pooled by 2 × 2."""

import argparse

import bpx
from bpx import layers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="500 images, 1 epoch")
options = parser.parse_args()

(x, y), validation, test = bpx.datasets.mnist()
if options.short:
    x, y = x[:500], y[:500]
    validation = bpx.datasets.Split(validation.x[:200], validation.y[:200])
    test = bpx.datasets.Split(test.x[:200], test.y[:200])
net = bpx.Network(
    [
        layers.Input(784),
        layers.Reshape((1, 28, 28)),
        layers.Conv2D(20, 5, "sigmoid"),
        layers.MaxPool2D(2),
        layers.Flatten(),
        layers.Dense(100, "sigmoid"),
        layers.Dense(10, "softmax", weights="zeros", bias="zeros"),
    ],
    backend=options.backend,
    seed=0,
)
print(net.summary())
net.fit(
    x,
    y,
    epochs=1 if options.short else 60,
    batch_size=10,
    optimizer=bpx.SGD(0.1),
    validation=validation,
    callbacks=[bpx.EarlyStopping(60, monitor="validation_accuracy")],  # the best epoch's weights
    progress=True,
)
print(f"{net.accuracy(*test):.2%} on the test set; the book has 98.78 % after 60 epochs")
