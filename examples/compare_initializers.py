"""The book's two initializers, and later ones, compared on MNIST (ch. 3), drawn."""

import argparse

import bpx

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="1 epoch of 1,000 images")
parser.add_argument("--out", default="initializers.png")
options = parser.parse_args()

(x, y), validation, _ = bpx.datasets.mnist()
n, epochs = (1000, 1) if options.short else (50000, 15)
curves = {}
for name in ("normal", "scaled-normal", "glorot-uniform", "he-normal"):
    net = bpx.Network([784, 30, 10], weights=name, bias="normal", backend=options.backend, seed=0)
    history = net.fit(
        x[:n],
        y[:n],
        epochs=epochs,
        batch_size=10,
        optimizer=bpx.SGD(0.1),
        l2=5.0,
        validation=validation,
    )
    curves[name] = [100 * a for a in history["validation_accuracy"]]
    print(f"{name:15} after 1 epoch {curves[name][0]:.2f} %, at the end {curves[name][-1]:.2f} %")

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SystemExit("the picture needs matplotlib: pip install matplotlib") from None
figure = Figure(figsize=(6, 3.6), layout="constrained")
panel = figure.subplots()
for name, accuracies in curves.items():
    panel.plot(range(1, len(accuracies) + 1), accuracies, label=name, marker=".")
panel.set(xlabel="epoch", ylabel="validation accuracy (%)", title="784-30-10, η 0.1, λ 5, m 10")
panel.grid(alpha=0.3)
panel.legend()
figure.savefig(options.out, dpi=110)
print(f"wrote {options.out}")
