"""Memory over a million steps: ``python endurance.py``; ``--short`` is CI's 20,000 steps.

A small network is trained in each way that `fit` has, in a process of its own, and its memory (the
resident set) is printed as it goes. After the first tenth it may grow by 1 MiB plus 600 bytes an
epoch, which is what a row of the history takes, or 1,500 bytes an epoch with checkpoints, which
write the whole history as text each time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import bpx
from bpx.backends._numpy import NumpyBackend

MORE, A_ROW, A_ROW_AS_TEXT = 1 << 20, 600, 1500  # bytes
N, BATCH, STEPS = 5000, 10, 500  # an epoch
AT = (1, 10, 25, 50, 75, 100)  # percent of the steps, where memory is measured


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Watch(bpx.Callback):
    def __init__(self, epochs: int) -> None:
        self.at = [max(1, epochs * percent // 100) for percent in AT]
        self.found: list[int] = []

    def on_epoch_end(self, run: bpx.callbacks.Run) -> None:
        while len(self.found) < len(self.at) and run.net.epochs == self.at[len(self.found)]:
            self.found.append(resident())


class WatchSteps(Watch):
    """With a hook after each step, so that steps are not compiled."""

    def on_step_end(self, run: bpx.callbacks.Run) -> None:
        run.history.get("training_cost")


def train(way: str, epochs: int, folder: Path) -> list[int]:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(N, 8)).astype(np.float32), draw.integers(3, size=N)
    plain = way in ("step by step", "an iterable")
    backend = NumpyBackend() if plain else None
    net = bpx.Network([8, 6, 3], hidden="relu", backend=backend, seed=0)
    watch = WatchSteps(epochs) if way == "a hook at each step" else Watch(epochs)
    options: dict = {"epochs": epochs, "callbacks": [watch], "optimizer": bpx.SGD(0.01, 0.9)}
    arrays: dict[str, Any] = {"batch_size": BATCH}
    if way == "an iterable":
        net.fit(bpx.batches(x, y, BATCH, seed=0), **options)
    elif way == "blocks":
        np.save(folder / "x.npy", x)
        net.fit(bpx.open_data(folder / "x.npy", y, budget="200 kB"), **arrays, **options)
    elif way == "checkpoints":
        saved = bpx.Checkpoint(folder / "run", steps=1000)
        net.fit(x, y, checkpoint=saved, validation=(x[:100], y[:100]), **arrays, **options)
    elif way == "Adam, with masks":
        chain = [bpx.layers.Input(8), bpx.layers.Dense(6, "relu"), bpx.layers.Dropout(0.2),
                 bpx.layers.Dense(3, "softmax")]  # fmt: skip
        net = bpx.Network(chain, seed=0)
        net.fit(x, y, **arrays, **options | {"optimizer": bpx.Adam(), "clip_norm": 1.0})
    else:
        net.fit(x, y, **arrays, **options)
    return watch.found


WAYS = ("compiled", "step by step", "a hook at each step", "an iterable", "blocks",
        "checkpoints", "Adam, with masks")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    given = parser.parse_args()
    epochs = (20_000 if given.short else given.steps) // STEPS
    if given.way:
        with tempfile.TemporaryDirectory() as name:
            print(*train(given.way, epochs, Path(name)))
        return
    print(
        f"{epochs * STEPS:,} steps; MiB at {'':12}" + "".join(f"{p:7} %" for p in AT), flush=True
    )
    good = True
    for way in WAYS:
        again = [sys.executable, __file__, "--way", way, "--steps", str(epochs * STEPS)]
        found = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True).stdout
        sizes = [int(size) for size in found.split()]
        grown = sizes[-1] - sizes[AT.index(10)]
        a_row = A_ROW_AS_TEXT if way == "checkpoints" else A_ROW
        fits = len(sizes) == len(AT) and grown <= MORE + a_row * epochs
        good &= fits
        shown = "".join(f"{size / 2**20:9.2f}" for size in sizes)
        print(f"{way:28}{shown}{'' if fits else '   grows'}", flush=True)
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
