"""The four equations for one sample, each beside differences of the cost that it differentiates.

Chapter 2, with its columns and its quadratic cost; then what bpx finds for the same network.
"""

import argparse

import numpy as np

import bpx

STEP = 1e-5


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def slope(z):
    return sigmoid(z) * (1 - sigmoid(z))


def cost(z, above):
    """C of a layer's z; `above` has the ω and b of each layer above it."""
    a = sigmoid(z)
    for w, b in above:
        a = sigmoid(w @ a + b)
    return np.sum((a - y) ** 2) / 2


def differences(function, at):
    """Each ∂C/∂(an element of `at`), by moving that element a little up and a little down."""
    found = np.empty_like(at)
    for k in np.ndindex(at.shape):
        little = np.zeros_like(at)
        little[k] = STEP
        found[k] = (function(at + little) - function(at - little)) / (2 * STEP)
    return found


def compare(equation, by_equation, by_differences):
    first = f"{by_equation.flat[0]:+.9f}   {by_differences.flat[0]:+.9f}"
    most = abs(by_equation - by_differences).max()
    print(f"{equation:<34} {first}   {most:.0e} of {by_equation.size}")
    assert most < 1e-9, equation


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", help="of bpx: numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="the same, which takes no time")
options = parser.parse_args()

net = bpx.Network([4, 3, 2], cost="quadratic", dtype="float64", backend=options.backend, seed=0)
to_host = net.backend.to_host
(w2, w3), (b2, b3) = [*map(to_host, net.weights)], [*map(to_host, net.biases)]
x, y = np.array([0.5, -1.0, 2.0, 0.1]), np.array([1.0, 0.0])

z2 = w2 @ x + b2
a2 = sigmoid(z2)
z3 = w3 @ a2 + b3
a3 = sigmoid(z3)

delta3 = (a3 - y) * slope(z3)
delta2 = (w3.T @ delta3) * slope(z2)

print(f"{'':<34} {'the equation':<14} {'differences':<14} most apart")
above = [(w3, b3)]
compare("BP1  δ³ = ∇C ⊙ σ'(z³)", delta3, differences(lambda z: cost(z, []), z3))
compare("BP2  δ² = ((ω³)ᵀ δ³) ⊙ σ'(z²)", delta2, differences(lambda z: cost(z, above), z2))
compare("BP3  ∂C/∂b³ = δ³", delta3, differences(lambda b: cost(w3 @ a2 + b, []), b3))
compare("BP3  ∂C/∂b² = δ²", delta2, differences(lambda b: cost(w2 @ x + b, above), b2))
of_w3, of_w2 = np.outer(delta3, a2), np.outer(delta2, x)
compare("BP4  ∂C/∂ω³ = δ³ (a²)ᵀ", of_w3, differences(lambda w: cost(w @ a2 + b3, []), w3))
compare("BP4  ∂C/∂ω² = δ² xᵀ", of_w2, differences(lambda w: cost(w @ x + b2, above), w2))

gradient = net.backprop(x[None, :], y[None, :])  # rows, of which there is one
ours = [delta2, delta3, of_w2, of_w3]
found = [to_host(g) for g in (*gradient.biases, *gradient.weights)]
print(f"bpx:  {max(abs(f - o).max() for f, o in zip(found, ours, strict=True)):.0e} from these")
print("bpx.gradient_check, relative to a gradient's size:")
print(bpx.gradient_check(net, x[None, :], y[None, :]))
