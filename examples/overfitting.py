"""Over-fitting and L2 (ch. 3), drawn: 1,000 images are learned by heart; weight decay helps."""

import argparse

import bpx

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="3 epochs")
parser.add_argument("--out", default="overfitting.png")
options = parser.parse_args()

(x, y), _, test = bpx.datasets.mnist()
histories = {}
for l2 in (0.0, 0.1):
    net = bpx.Network([784, 30, 10], weights="normal", backend=options.backend, seed=0)
    histories[l2] = net.fit(
        x[:1000],
        y[:1000],
        epochs=3 if options.short else 400,
        batch_size=10,
        optimizer=bpx.SGD(0.5),
        l2=l2,
        validation=test,
    )
    row = histories[l2].row()
    print(
        f"λ = {l2}: cost {row['training_cost']:.4f} in training, "
        f"{row['validation_cost']:.4f} on the test set; "
        f"accuracy {row['training_accuracy']:.1%} and {row['validation_accuracy']:.1%}"
    )

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SystemExit("the picture needs matplotlib: pip install matplotlib") from None
figure = Figure(figsize=(9, 3.4), layout="constrained")
for panel, kind in zip(figure.subplots(1, 2), ("cost", "accuracy"), strict=True):
    panel.set_yscale("log" if kind == "cost" else "linear")  # 0.005 and 0.02 in training
    for l2, color in ((0.1, "tab:green"), (0.0, "tab:red")):
        history = histories[l2]
        panel.plot(
            history["epoch"],
            history[f"training_{kind}"],
            "--",
            color=color,
            label=f"λ = {l2}, training",
        )
        panel.plot(
            history["epoch"],
            history[f"validation_{kind}"],
            color=color,
            label=f"λ = {l2}, test set",
        )
    panel.set(xlabel="epoch", ylabel=kind)
    panel.grid(alpha=0.3)
    panel.legend()
figure.savefig(options.out, dpi=110)
print(f"wrote {options.out}")
