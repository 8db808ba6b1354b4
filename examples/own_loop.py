"""A training loop of your own, from the parts that fit is made of; it ends where fit does."""

import argparse

import bpx

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", help="numpy, cupy, torch, ...")
parser.add_argument("--short", action="store_true", help="2 epochs")
options = parser.parse_args()

(x, y), _, test = bpx.datasets.digits("float64")
epochs, l2 = 2 if options.short else 10, 0.1
net = bpx.Network([64, 30, 10], backend=options.backend, dtype="float64", seed=0)
twin = net.copy()

optimizer = bpx.SGD(0.5)
state, step = optimizer.start(net), 0
batches = bpx.batches(x, y, 10, seed=net.generator)  # the permutations that fit would draw
for epoch in range(epochs):
    for batch_x, batch_y in batches:
        grad = net.backprop(batch_x, batch_y, l2=l2, n=len(x))
        optimizer.update(net.parameters, grad.flat, state, step)
        step += 1
    print(f"epoch {epoch + 1}: test accuracy {100 * net.accuracy(*test):.2f} %")

twin.fit(x, y, epochs=epochs, batch_size=10, optimizer=bpx.SGD(0.5), l2=l2)
difference = float(net.backend.xp.max(net.backend.xp.abs(net.parameters - twin.parameters)))
print(f"largest difference of a parameter from fit's: {difference:.1e}")
assert difference < 1e-12
