"""Kills ``bpx train`` at random instants: ``python faults.py``. For damaged files see fuzz.py.

A run is killed with SIGKILL, resumed with ``--resume``, killed again, and so on until it ends;
then the next one begins, until the given number of kills is reached. Each is compared with a run
that was never killed: model and history, except for times, to the last bit.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bpx import persistence

COMMON = ["digits", "--save-every", "0.01", "--epochs", "300", "--hidden", "40"]
CASES = {
    "compiled, momentum, cosine, early stopping": (
        "1", ["--momentum", "0.9", "--learning-rate", "0.02", "--schedule", "cosine",
              "--activation", "relu", "--patience", "300"],
    ),
    "step by step, Adam, dropout, plateau": (
        "0", ["--optimizer", "adam", "--dropout", "0.2", "--schedule", "plateau",
              "--batch-size", "50"],
    ),
}  # fmt: skip


def command(fast: str, *arguments: str) -> subprocess.Popen[str]:
    settings = {"OPENBLAS_NUM_THREADS": "1", "BPX_FAST": fast, "MPLBACKEND": "Agg"}
    return subprocess.Popen(
        [sys.executable, "-m", "bpx", "train", *arguments],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for it, and return its warnings."""
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"bpx train ended with {process.returncode}: {errors}")
    return errors


def result(out: Path) -> tuple[object, ...]:
    """The model's numbers and its header, and the history without its times."""
    tensors, header = persistence.read(out / "model.safetensors")
    with (out / "history.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return {name: array.tobytes() for name, array in tensors.items()}, header, rows


def kills(folder: Path, fast: str, options: list[str], count: int) -> dict[str, int]:
    started = time.perf_counter()
    finished(command(fast, *COMMON, *options, "--out", str(folder / "whole")))
    whole, lasts = result(folder / "whole"), time.perf_counter() - started
    names = ("kills", "before a checkpoint", "while writing", "damaged", "runs", "identical")
    found = dict.fromkeys(names, 0)
    while found["kills"] < count:
        out = folder / f"run{found['runs']}"
        while True:
            begun = (out / "recipe.json").exists()
            if begun and not (out / "checkpoints").exists():
                break  # it had ended before it was killed
            where = ["--resume", str(out)] if begun else [*COMMON, *options, "--out", str(out)]
            process = command(fast, *where)
            try:
                # After the last kill, wait for the end of the run.
                left = None if found["kills"] == count else random.uniform(0.0, lasts)
                errors = process.communicate(timeout=left)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                found["kills"] += 1
                there = out / "checkpoints"
                files = [path.name for path in there.iterdir()] if there.exists() else []
                found["before a checkpoint"] += not any(".tmp" not in name for name in files)
                found["while writing"] += any(".tmp" in name for name in files)
                continue
            if process.returncode:
                raise SystemExit(f"bpx train ended with {process.returncode}: {errors}")
            found["damaged"] += errors.count("is passed over")
            break
        found["runs"] += 1
        found["identical"] += result(out) == whole
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="5 kills")
    arguments = parser.parse_args()
    count = 5 if arguments.short else arguments.kills
    random.seed(arguments.seed)
    good = True
    with tempfile.TemporaryDirectory() as name:
        for number, (title, (fast, options)) in enumerate(CASES.items()):
            share = count // 2 if number else count - count // 2
            found = kills(Path(name) / str(number), fast, options, share)
            print(f"{title}: {', '.join(f'{what} {n:,}' for what, n in found.items())}")
            good &= found["runs"] == found["identical"]
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
