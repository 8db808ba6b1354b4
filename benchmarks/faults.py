"""Faults: ``bpx train`` killed at random instants, and damaged files: ``python faults.py``.

A run is killed with SIGKILL, taken up again with ``--resume``, killed again, and so on until it
ends; then the next one begins, until so many kills are done. Each is held against one that nobody
killed: model and history, times aside, to the last bit.

Then checkpoints and models are damaged at random, and read: bytes of the file, and values of its
header with a checksum that is right. Each has to be refused by name, or to be as good as before.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import bpx
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
    """Wait for it; its warnings."""
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"bpx train ended with {process.returncode}: {errors}")
    return errors


def result(out: Path) -> tuple[object, ...]:
    """The model's numbers and its header, and the history but its times."""
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
                break  # it has ended, and was killed after that
            where = ["--resume", str(out)] if begun else [*COMMON, *options, "--out", str(out)]
            process = command(fast, *where)
            try:
                # Of the last kill's run the end is waited for.
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


def damaged(content: bytes) -> bytes:
    """Some bytes of a file changed, cut off, doubled or put in."""
    changed, length = bytearray(content), len(content)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(random.choice([1, 1, 1, 3, 20])):
        at = random.randrange(random.choice([8, header, length]))
        kind = random.randrange(6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at:at] = os.urandom(random.choice([1, 8, 100]))
        elif kind == 2:
            changed[at : at + 8] = random.choice([1 << 60, 1 << 63, 0, length]).to_bytes(
                8, "little"
            )
        elif kind == 3:
            changed[at:at] = changed[at : at + 500]
        elif at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


WRONG = (None, -1, 0, 1 << 60, 10**30, 1e308, float("nan"), "x", "", [], {}, [[1]], True)


def mistaken(header: object) -> object:
    """A header with another value somewhere."""
    copy = json.loads(json.dumps(header))
    inner = copy
    while True:
        key = random.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        below = inner[key]
        if isinstance(below, dict | list) and below and random.random() < 0.9:
            inner = below
            continue
        inner[key] = random.choice(WRONG)
        return copy


def damages(folder: Path, count: int) -> dict[str, int]:
    """In a process of its own: it must not crash, nor take more memory than it may."""
    warnings.simplefilter("error")
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 6)), draw.integers(3, size=60)
    saved = bpx.Checkpoint(folder / "run", steps=4, keep=1)

    def network() -> bpx.Network:
        return bpx.Network([6, 5, 3], hidden="relu", seed=0)

    def train(epochs: int) -> None:
        called = bpx.EarlyStopping(50)
        network().fit(
            x, y, epochs=epochs, batch_size=9, optimizer=bpx.Adam(), validation=(x, y),
            callbacks=called, checkpoint=saved, resume=True,
        )  # fmt: skip

    train(2)
    (path,) = (folder / "run").iterdir()
    network().save(folder / "model.safetensors")
    model = folder / "model.safetensors"
    originals = {file: (file.read_bytes(), persistence.read(file)) for file in (path, model)}
    limit = 2 << 30
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf(
        "SC_PAGESIZE"
    )
    resource.setrlimit(resource.RLIMIT_AS, (address_space + limit,) * 2)
    found = dict.fromkeys(("files", "refused", "read", "other errors"), 0)
    for index in range(count):
        file = (path, model)[index % 2]
        content, (tensors, header) = originals[file]
        for other in (folder / "run").iterdir():
            other.unlink()
        if index % 4 < 2:
            file.write_bytes(damaged(content))
        else:
            persistence.write(file, tensors, mistaken(header))  # type: ignore[arg-type]
        found["files"] += 1
        try:
            if file == path:
                train(3)
            else:
                bpx.load(file).predict(x)
            found["read"] += 1
        except ValueError as error:  # FileFormatError is one
            found["refused" if file.name in str(error) else "other errors"] += 1
            if file.name not in str(error):
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
        except Exception as error:
            found["other errors"] += 1
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
    return found | {"MiB more than before": more >> 10}


def told(title: str, found: dict[str, int]) -> None:
    print(f"{title}: {', '.join(f'{name} {number:,}' for name, number in found.items())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="5 kills, 200 files")
    parser.add_argument("--damages", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    count, files = (5, 200) if arguments.short else (arguments.kills, arguments.files)
    random.seed(arguments.seed)
    if arguments.damages:
        print(json.dumps(damages(arguments.damages, files)))
        return
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (title, (fast, options)) in enumerate(CASES.items()):
            share = count // 2 if number else count - count // 2
            found = kills(folder / str(number), fast, options, share)
            told(title, found)
            good &= found["runs"] == found["identical"]
        again = [sys.executable, __file__, "--damages", name, "--files", str(files)]
        done = subprocess.run([*again, "--seed", str(arguments.seed)], stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"reading damaged files ended with {done.returncode}")
        found = json.loads(done.stdout)
        told("damaged files", found)
        good &= not found["other errors"]
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
