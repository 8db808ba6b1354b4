"""Cross-entropy against the quadratic cost: the learning slow-down (ch. 3), drawn.

One sigmoid neuron is to learn to turn 1 into 0. Started badly wrong (w = b = 2), it hardly moves
under the quadratic cost, because σ' is nearly 0 there; under the cross-entropy, σ' cancels.
"""

import argparse

import numpy as np

import bpx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="30 epochs")
parser.add_argument("--out", default="learning_slowdown.png")
options = parser.parse_args()

COSTS = "quadratic", "cross-entropy"
STARTS = (0.6, 0.9), (2.0, 2.0)  # w, b

x, y = [[1.0]], np.array([[0.0]])
outputs: dict[tuple[str, float], list[float]] = {}
for cost in COSTS:
    for weight, bias in STARTS:
        net = bpx.Network([1, 1], cost=cost, backend=options.backend, dtype="float64")
        net.weights[0][...], net.biases[0][...] = weight, bias
        seen = outputs[cost, weight] = [float(net(x)[0, 0])]  # before the first epoch
        net.fit(
            x,
            y,
            epochs=30 if options.short else 300,
            optimizer=bpx.SGD(0.15),
            callbacks=lambda run, seen=seen: seen.append(float(run.net(x)[0, 0])),
        )
        print(f"{cost:14} from w = {weight}: output {seen[0]:.2f} -> {seen[-1]:.2f}")

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SystemExit("the picture needs matplotlib: pip install matplotlib") from None
figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.subplots(1, 2, sharey=True)
for panel, cost in zip(axes, COSTS, strict=True):
    for weight, bias in STARTS:
        panel.plot(outputs[cost, weight], label=f"w = {weight}, b = {bias}")
    panel.set(title=f"{cost} cost", xlabel="epoch", ylim=(0, 1))
    panel.grid(alpha=0.3)
axes[0].set_ylabel("output (0 is right)")
axes[1].legend()
figure.savefig(options.out, dpi=110)
print(f"wrote {options.out}")
