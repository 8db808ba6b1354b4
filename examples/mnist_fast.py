"""From a cold start to 99 % of MNIST's test images in the least time, and beside PyTorch.

    python examples/mnist_fast.py                                    five seeds
    python examples/mnist_fast.py --ranks 2 --peer torch --write     writes benchmarks/README.md
    python examples/mnist_fast.py --backend cupy --peer torch

Each run is a process of its own (two, under mpiexec, with --ranks 2). Its time runs from its start
to the line in which it reports 99 %: imports, reading the 60,000 training images, training, and an
evaluation after the last epoch. If that is not enough, it goes on epoch by epoch with the last
learning rate. Images are cut to their inner 24 × 24 pixels, since the border is nearly always
empty. PyTorch has the same network, initial values from the same distributions, the same optimizer
and learning rates, mini-batches in random order too, and all cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

GOAL, EPOCHS, MORE, M = 0.99, 3, 5, 64
PEAK, START, END = 0.01, 25.0, 100.0  # the learning rate's peak, and what divides it at each end
CHANNELS, KERNEL = (16, 32), 5
MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels, from 0 to 1
SHORT = 400  # images


def images(short, pixels, labels):
    """The inner pixels, (n, 1, 24, 24) of uint8, and the labels."""
    rows = slice(SHORT if short else None)
    x = pixels.reshape(-1, 1, 28, 28)[rows, :, 2:-2, 2:-2]
    return np.ascontiguousarray(x), labels[rows]


def bpx_(options):
    """A function that trains for a number of epochs, and returns the accuracy."""
    import bpx
    from bpx import layers

    train, validation, test = bpx.datasets.mnist("uint8")
    both = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
    (x, y), test = images(options.short, *both), images(options.short, *test)
    net = bpx.Network(
        [
            layers.Input(x.shape[1:]),
            layers.Rescale(1 / (255 * DEVIATION), -MEAN / DEVIATION),
            layers.Conv2D(CHANNELS[0], KERNEL, "relu"),
            layers.MaxPool2D(2),
            layers.Conv2D(CHANNELS[1], KERNEL, "relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10, "softmax", bias="zeros"),
        ],
        backend=options.backend,
        seed=options.seed,
    )
    steps = EPOCHS * len(bpx.batches(x, batch_size=M))
    optimizer = bpx.Adam(bpx.schedules.OneCycle(PEAK, steps, start=START, end=END))
    parallel = "mpi" if options.ranks > 1 else None

    def fit(epochs, validation=None):
        return net.fit(
            x,
            y,
            epochs=epochs,
            batch_size=M,
            optimizer=optimizer,
            validation=validation,
            parallel=parallel,
        )

    def epochs(count):
        fit(count - 1)
        return fit(1, test)["validation_accuracy"][-1]

    return epochs


def torch_(options):
    """The same in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(options.seed)
    device = "cuda" if (options.backend or "").startswith(("cupy", "torch:cuda")) else "cpu"
    tensors = []
    for part in ("train", "t10k"):
        pixels, labels = images(options.short, *idx_files(part))
        x = torch.from_numpy(pixels).to(device).float() / 255
        x = x.to(memory_format=torch.channels_last)  # 1.6 times as fast on a CPU
        tensors += [(x - MEAN) / DEVIATION, torch.from_numpy(labels.astype(np.int64)).to(device)]
    x, y, test_x, test_y = tensors
    net = nn.Sequential(
        nn.Conv2d(1, CHANNELS[0], KERNEL),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(*CHANNELS, KERNEL),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9 * CHANNELS[1], 10),
    ).to(device, memory_format=torch.channels_last)
    for layer, variance in ((net[0], 2.0), (net[3], 2.0), (net[7], 1.0)):  # bpx's defaults
        nn.init.normal_(layer.weight, std=(variance / layer.weight[0].numel()) ** 0.5)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(net.parameters(), PEAK, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        PEAK,
        total_steps=EPOCHS * -(-len(x) // M),
        cycle_momentum=False,
        div_factor=START,
        final_div_factor=END / START,
    )

    def step(rows):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        if schedule.last_epoch < schedule.total_steps - 1:
            schedule.step()

    def epochs(count):
        for _ in range(count):
            for rows in torch.randperm(len(x), device=device).split(M):
                step(rows)
        with torch.inference_mode():
            found = torch.cat([net(part).argmax(1) for part in test_x.split(1000)])
            return (found == test_y).float().mean().item()

    return epochs


def idx_files(part):
    """Pixels and labels, for a library that does not come with MNIST."""
    folder = Path(os.environ.get("BPX_DATA", "data")) / "mnist"
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        return pixels, np.frombuffer(file.read(), np.uint8, offset=8)


PEERS = {"bpx": bpx_, "torch": torch_}


def run(options):
    """One run: prints a line of JSON once it has reached the goal or given up."""
    epochs = PEERS[options.run](options)
    count, goal = (1, 0.0) if options.short else (EPOCHS, GOAL)
    accuracy, done = epochs(count), count
    while accuracy < goal and done < EPOCHS + MORE:
        accuracy, done = epochs(1), done + 1
    if options.ranks > 1:
        from bpx import launcher

        if launcher.rank():
            return
    print(json.dumps({"accuracy": accuracy, "epochs": done}), flush=True)


def timed(peer, seed, options):
    """What a run reports, and the seconds from its start until then."""
    ranks = options.ranks if peer == "bpx" else 1
    command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), __file__]
    command += ["--run", peer, "--seed", str(seed), "--ranks", str(ranks)]
    command += ["--backend", options.backend] if options.backend else []
    command += ["--short"] if options.short else []
    if ranks > 1:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = [shutil.which("mpiexec", path=path) or "mpiexec", "-n", str(ranks), *command]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # it is a pipe
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
    if process.returncode or not line:
        raise SystemExit(f"{peer}, seed {seed}: ended with exit status {process.returncode}")
    return json.loads(line) | {"seconds": seconds}


HEAD = ["| | s, median | s of each seed | % right | epochs |", "|---|---|---|---|---|"]


def row(title, runs):
    """A row of the table: what each seed took and reached."""
    columns = [[one[name] for one in runs] for name in ("seconds", "accuracy", "epochs")]
    each = [
        " ".join(f"{seconds:.1f}" for seconds in columns[0]),
        " ".join(f"{100 * accuracy:.2f}" for accuracy in columns[1]),
        " ".join(map(str, columns[2])),
    ]
    return f"| {title} | {statistics.median(columns[0]):.1f} | {' | '.join(each)} |"


def publish(lines, options):
    """Put the table between its markers in benchmarks/README.md, with the machine."""
    import bpx

    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import harness

    command = " ".join(["python examples/mnist_fast.py", *sys.argv[1:]])
    device = bpx.backends.get(options.backend).name
    machine = harness.machine(["numpy", "scipy", "mpi4py", "torch"])
    harness.write("mnist-fast", "\n".join([*lines, "", f"`{command}`, {device}, {machine}.", ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="numpy, cupy, torch, ...")
    parser.add_argument("--ranks", type=int, default=1, help="processes of bpx, under mpiexec")
    parser.add_argument("--peer", choices=["torch"], help="a library that takes turns with bpx")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="400 images, 1 epoch, one seed")
    parser.add_argument("--write", action="store_true", help="the table into benchmarks/README.md")
    parser.add_argument("--run", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options)
        return
    import bpx

    bpx.datasets.mnist("uint8")  # a download, if any, comes before the runs
    titles = {"bpx": "bpx" if options.ranks == 1 else f"bpx, {options.ranks} ranks"}
    titles |= {options.peer: "PyTorch"} if options.peer else {}
    runs = {peer: [] for peer in titles}
    for seed in range(1 if options.short else options.seeds):
        for peer in runs:
            found = timed(peer, seed, options)
            runs[peer].append(found)
            print(
                f"{peer}, {seed}: {found['accuracy']:.2%} in {found['seconds']:.1f} s", flush=True
            )
    lines = [*HEAD, *(row(titles[peer], found) for peer, found in runs.items())]
    print("\n".join(lines))
    if options.write:
        publish(lines, options)


if __name__ == "__main__":
    main()
