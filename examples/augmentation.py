"""A thousand images of MNIST, changed at random in every mini-batch: drawn, and trained on.

python examples/augmentation.py --out docs/images/augmentation.png
"""

import argparse
import time

import bpx
from bpx.augmentation import Crop, Elastic, Flip, Noise, Rotate, Shift, apply, expand

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="1 epoch of 100 images")
parser.add_argument("--out", default="augmentation.png")
options = parser.parse_args()

IMAGE = (28, 28)
FUNCTIONS = {
    "as they came": [],
    "Shift(4)": Shift(4, shape=IMAGE),
    "Rotate(25)": Rotate(25, shape=IMAGE),
    "Elastic(34, 4)": Elastic(34, 4, shape=IMAGE),
    "Crop(0.7)": Crop(0.7, shape=IMAGE),
    "Flip()": Flip(shape=IMAGE),
    "Noise(0.2)": Noise(0.2),
}

(x, y), validation, _ = bpx.datasets.mnist()
n, epochs = (100, 1) if options.short else (1000, 60)
x, y = x[:n], y[:n]
held_out = tuple(part[: 100 if options.short else None] for part in validation)


def train(x, y, epochs, augment=None):
    """The accuracy (%) on held-out images, and the seconds that training took."""
    net = bpx.Network(
        [784, 100, 10], hidden="relu", output="softmax", seed=0, backend=options.backend
    )
    started = time.perf_counter()
    net.fit(x, y, epochs=epochs, batch_size=10, optimizer=bpx.SGD(0.05), l2=0.1, augment=augment)
    return 100 * net.accuracy(*held_out), time.perf_counter() - started


five = expand(x, y, shape=IMAGE, seed=0)
runs = {
    f"{n} images": (x, y, epochs),
    "and each shifted four ways, as in the book": (*five, max(1, epochs // 5)),
    "or shifted at random": (x, y, epochs, Shift(1, shape=IMAGE)),
    "or rotated, shifted and elastic": (
        x, y, epochs, [Rotate(10, shape=IMAGE), Elastic(34, 4), Shift(1)],
    ),
}  # fmt: skip
for name, arguments in runs.items():
    accuracy, seconds = train(*arguments)
    print(f"{name:45} {accuracy:5.1f} %  {seconds:5.1f} s")

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SystemExit("the picture needs matplotlib: pip install matplotlib") from None
backend = bpx.backends.get(options.backend)
digits = x[[list(y).index(digit) for digit in range(10) if digit in y]]
figure = Figure(figsize=(8, 5.6), layout="constrained")
rows = figure.subplots(len(FUNCTIONS), len(digits))
for step, (name, function) in enumerate(FUNCTIONS.items()):
    changed = backend.to_host(apply(backend.from_host(digits), function, step=step))
    for panel, image in zip(rows[step], changed, strict=True):
        panel.imshow(image.reshape(IMAGE), cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
    rows[step][0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig(options.out, dpi=80)
print(f"wrote {options.out}")
