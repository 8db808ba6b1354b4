"""Times bpx and every installed peer on the same work in one run, for the ratios.

    python benchmarks/cpu.py                   all cases, a few minutes; prints the table
    python benchmarks/cpu.py --write           and writes it into benchmarks/README.md
    python benchmarks/cpu.py book --rounds 9   one case

Each peer is a process of its own, so that thread pools do not fight; they take turns, and while
one works the others sleep. Every figure is the median over the rounds, every ratio one of
medians. The machine's load moves them all, so quote the ratios and not the microseconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cases import CASES
from harness import Peer, Timed, machine, measure, present, write
from peers import INFERENCE, TRAINING, inference

HERE = Path(__file__).parent
LIBRARIES = ("numpy", "scipy", "numba", "torch", "jax", "scikit-learn", "thinc", "onnxruntime")
PEERS = ("JAX scan", "PyTorch", "torch.compile", "scikit-learn", "thinc", "ONNX Runtime")
# For processes that are timed from their start. Bytecode is kept, as in ordinary use; otherwise
# each of them would compile the sources of everything that it imports.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
SECONDS_A_ROUND = 1.0  # for each peer, at least; slow peers run one pass of at most 300 steps
PREDICTIONS = {
    name: dataclasses.replace(CASES["book"], name=name, n=n)
    for name, n in (("predict 1", 1), ("predict 10,000", 10_000))
}


def prepare(peer: str, name: str) -> Timed:
    """A peer's work on a case, in steps or predictions."""
    os.environ["BPX_FAST"] = "1" if peer == "bpx fast" else "0"
    if name in PREDICTIONS:
        run = inference(peer, PREDICTIONS[name])
    else:
        run = TRAINING[peer](CASES[name])

    def timed(steps: int) -> float:
        start = time.perf_counter()
        run(steps)
        return (time.perf_counter() - start) / steps

    return timed


def measured(name: str, peers: list[str], rounds: int) -> list[Peer]:
    """The installed peers, with their times."""
    here = present(Peer(peer, prepare, name) for peer in peers)
    # bpx runs whole epochs, as its users do, and so does any peer that is as fast.
    most = 20_000 if name in PREDICTIONS else CASES[name].steps
    return measure(here, rounds, SECONDS_A_ROUND, 10, most)


def table(results: dict[str, list[Peer]]) -> str:
    """Columns are cases; microseconds a step, and the ratios that matter."""
    names = [n for n in dict.fromkeys([*TRAINING, *INFERENCE]) if any(
        p.name == n for peers in results.values() for p in peers)]  # fmt: skip
    lines = [
        "| µs a step | " + " | ".join(results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for name in names:
        cells = []
        for peers in results.values():
            found = [p for p in peers if p.name == name]
            cells.append(f"{found[0].median * 1e6:,.1f}" if found else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for ours in ("bpx", "bpx fast"):
        if ours not in names:
            continue
        for title, against in (("the best peer", PEERS), ("the products", ("products",))):
            cells = []
            for peers in results.values():
                times = {p.name: p.median for p in peers}
                rivals = [times[p] for p in against if p in times]
                if ours not in times or not rivals:
                    cells.append("")
                elif against is PEERS:
                    gain = min(rivals) / times[ours]
                    cells.append(f"{gain:.2f} × {'faster' if gain >= 1.0 else 'the speed'}")
                else:
                    cells.append(f"{times[ours] / rivals[0]:.2f}")
            lines.append(f"| **{ours}, against {title}** | " + " | ".join(cells) + " |")
    for name in names:
        peaks = [[p.megabytes for p in peers if p.name == name] for peers in results.values()]
        cells = [f"{peak[0]:,.0f}" if peak else "" for peak in peaks]
        lines.append(f"| MiB at the peak: {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cold_start(rounds: int) -> str:
    """Seconds from the start of a process to 97 % on MNIST's test images."""
    peers = ("bpx", "bpx fast", "JAX", "PyTorch", "scikit-learn")
    times: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for peer in peers:
            environment = ENVIRONMENT | {"BPX_FAST": "1" if peer == "bpx fast" else "0"}
            start = time.perf_counter()
            command = [sys.executable, str(HERE / "cold_start.py"), peer]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(f"  without {peer}: {done.stderr.strip()[-200:]}", file=sys.stderr)
                continue
            times.setdefault(peer, []).append(time.perf_counter() - start)
    medians = {peer: statistics.median(found[1:]) for peer, found in times.items()}
    best = min((s for p, s in medians.items() if not p.startswith("bpx")), default=None)
    lines = ["| cold start to 97 % | seconds | times faster than the best peer |", "|---|---|---|"]
    for peer, seconds in medians.items():
        ratio = f"{best / seconds:.2f}" if best and peer.startswith("bpx") else ""
        lines.append(f"| {peer} | {seconds:.2f} | {ratio} |")
    return "\n".join(lines)


FIRST_FIT = """
import time, numpy as np, bpx
x, y = np.zeros((20, 784), np.float32), np.arange(20) % 10
net = bpx.Network([784, 30, 10], seed=0)
start = time.perf_counter()
net.fit(x, y, epochs=1, batch_size=10)
print(time.perf_counter() - start)
"""


def first_fit() -> str:
    """Seconds of a process's first `fit`, where Numba has compiled before and where it has not."""
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for fast in ("0", "1", "1"):
            environment = ENVIRONMENT | {"BPX_FAST": fast, "NUMBA_CACHE_DIR": cache}
            command = [sys.executable, "-c", FIRST_FIT]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            found.append(f"{float(done.stdout):.2f} s")
    return "The first `fit` of a process: bpx {}; bpx fast {}, once compiled {}.".format(*found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [*CASES, *PREDICTIONS, "cold"]
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help="only these, separated by commas")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--short", action="store_true", help="one round of bpx on the first case")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(every):
        parser.error(f"unknown case {sorted(unknown)[0]!r}: {', '.join(every)}")
    cases = options.cases or every
    if options.short:
        cases, options.rounds, options.peers = ["book"], 1, "bpx,products"
    results = {}
    for name in cases:
        if name == "cold":
            continue
        peers = list(INFERENCE if name in PREDICTIONS else TRAINING)
        if options.peers:
            peers = [peer for peer in peers if peer in options.peers.split(",")]
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = measured(name, peers, options.rounds)
        print(table({name: results[name]}), file=sys.stderr, flush=True)
    text = table(results) if results else ""
    if "cold" in cases:
        text += f"\n\n{cold_start(options.rounds)}\n\n{first_fit()}"
    text += f"\n\nMedians of {options.rounds} rounds, {machine(LIBRARIES)}.\n"
    print(text)
    if options.write:
        write("cpu", text)


if __name__ == "__main__":
    main()
