"""Backpropagation by hand, equation by equation (ch. 2), checked against bpx and differences.

The arithmetic is written out, in NumPy alone, for one mini-batch of a 4-3-2 network.
"""

import argparse

import numpy as np

import bpx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="changes nothing: it is short already")
options = parser.parse_args()

net = bpx.Network([4, 3, 2], cost="quadratic", backend=options.backend, dtype="float64", seed=0)
w2, w3 = (net.backend.to_host(w) for w in net.weights)
b2, b3 = (net.backend.to_host(b) for b in net.biases)
generator = np.random.default_rng(0)
x, y = generator.normal(size=(5, 4)), generator.uniform(size=(5, 2))
m = len(x)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


z2 = x @ w2.T + b2  # forward: one sample in each row
a2 = sigmoid(z2)
z3 = a2 @ w3.T + b3
a3 = sigmoid(z3)
delta3 = (a3 - y) * sigmoid_prime(z3)  # (BP1), ∇_a C = a − y
delta2 = (delta3 @ w3) * sigmoid_prime(z2)  # (BP2)
by_hand = {
    "biases of layer 3": delta3.sum(axis=0) / m,  # (BP3), the mean over the mini-batch
    "biases of layer 2": delta2.sum(axis=0) / m,
    "weights of layer 3": delta3.T @ a2 / m,  # (BP4)
    "weights of layer 2": delta2.T @ x / m,
}
grad = net.backprop(x, y)
bpxs = [grad.biases[1], grad.biases[0], grad.weights[1], grad.weights[0]]
for (name, ours), theirs in zip(by_hand.items(), bpxs, strict=True):
    difference = np.abs(ours - net.backend.to_host(theirs)).max()
    print(f"{name}: by hand and by bpx differ by {difference:.1e}")
    assert difference < 1e-15

print("\nagainst central differences:")
check = bpx.gradient_check(net, x, y)
print(check)
assert check.worst < 1e-7
