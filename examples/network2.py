"""The book's network2.py in NumPy alone, a mini-batch at a time; it ends where bpx's fit does.

Its three functions are chapters 1 to 3: read them before the library, which does the same for any
layers, costs, optimizers and arrays.
"""

import argparse

import numpy as np

import bpx


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def feedforward(x, weights, biases):
    """The activations of all layers, one sample in each row; the first are the samples."""
    activations = [x]
    for w, b in zip(weights, biases, strict=True):
        activations.append(sigmoid(activations[-1] @ w.T + b))
    return activations


def backprop(x, y, weights, biases):
    """Of the cross-entropy, summed over the mini-batch: its gradient by each ω, and by each b."""
    activations = feedforward(x, weights, biases)
    nabla_w, nabla_b = [], []
    delta = activations[-1] - y  # (BP1): with this cost σ' cancels
    for index in range(len(weights) - 1, -1, -1):
        a = activations[index]
        nabla_w.insert(0, delta.T @ a)  # (BP4)
        nabla_b.insert(0, delta.sum(axis=0))  # (BP3)
        if index:  # the samples themselves have no σ
            delta = (delta @ weights[index]) * a * (1 - a)  # (BP2): σ' = a (1 − a)
    return nabla_w, nabla_b


def update(x, y, weights, biases, eta, lmbda, n):
    """One step down the hill, in place, from a mini-batch of a training set of n samples."""
    m = len(x)
    for w, b, of_w, of_b in zip(weights, biases, *backprop(x, y, weights, biases), strict=True):
        w *= 1 - eta * lmbda / n
        w -= eta / m * of_w
        b -= eta / m * of_b


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", help="of bpx: numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="2 epochs")
options = parser.parse_args()

data = bpx.datasets.digits("float64")
(x, labels), test = data.train, data.test
y, epochs, eta, lmbda = np.eye(10)[labels], 2 if options.short else 30, 0.5, 0.1
net = bpx.Network([64, 30, 10], backend=options.backend, dtype="float64", seed=0)
weights = [net.backend.to_host(w).copy() for w in net.weights]
biases = [net.backend.to_host(b).copy() for b in net.biases]
generator = net.copy().generator  # of the order in which fit will take the samples

for _ in range(epochs):
    order = generator.permutation(len(x))
    for start in range(0, len(x), 10):
        rows = order[start : start + 10]
        update(x[rows], y[rows], weights, biases, eta, lmbda, len(x))
right = feedforward(test.x, weights, biases)[-1].argmax(axis=1) == test.y
print(f"by hand: test accuracy {100 * right.mean():.2f} %")

net.fit(x, labels, epochs=epochs, batch_size=10, optimizer=bpx.SGD(eta), l2=lmbda)
print(f"by bpx:  test accuracy {100 * net.accuracy(*test):.2f} %")
pairs = zip([*weights, *biases], [*net.weights, *net.biases], strict=True)
difference = max(np.abs(ours - net.backend.to_host(theirs)).max() for ours, theirs in pairs)
print(f"largest difference of a parameter: {difference:.1e}")
assert difference < 1e-12
