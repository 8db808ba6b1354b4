"""Damaged files given to the command line, and to `bpx.load` and `fit`: ``python fuzz.py``.

Thousands of .csv, .npy, .npz, .parquet and model files, each damaged at random, are given to
``bpx train``, ``evaluate``, ``predict`` and ``export``, and files of a run to ``compare``. Each
must end either in one line that says what is wrong with it and exit status 1 or 2, or in a result
without such a line; there may also be a note on what the targets are taken for. Anything else is a
fault: a traceback, more lines, a crash, more than 20 s, more than 512 MiB.

Then checkpoints and models are damaged, in bytes of the file and in values of its header with a
valid checksum, and read by `fit` and `bpx.load`.

    python benchmarks/fuzz.py --short               CI's: 400 files, and 200 for `fit` and `load`
    python benchmarks/fuzz.py --case 123            one file, with its outcome and traceback
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import mutations
import numpy as np

import bpx
from bpx import cli, persistence

SECONDS, MEMORY = 20.0, 512 << 20  # that a file may take
N = 40  # samples
OF_RUN = {"recipe": "recipe.json", "history": "history.csv", "scores": "test.json"}


def seeds(folder: Path) -> list[str]:
    """Write a sound file of each kind, and a model for their contents; return the kinds."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(N, 4)), np.arange(N) % 3
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x, y=y)
    net = bpx.Network([4, 3, 3], seed=0)
    net.fit(x, y, epochs=1)
    net.classes = ["ash", "elm", "oak"]
    names, kinds = [*(f"c{k}" for k in range(4)), "town", "label"], np.array(net.classes)[y]
    towns = np.array(["Bern", "Oslo"])[y % 2]
    inputs = np.c_[x, y % 2 == 0, y % 2 == 1]
    layers = [bpx.layers.Input(6), bpx.layers.Rescale.standardizing(inputs), bpx.layers.Dense(3)]
    of_tables = bpx.Network(layers, task="classification", cost="quadratic", seed=0)
    of_tables.columns = [*names[:4], "town=Bern", "town=Oslo"]
    of_tables.fit(inputs, kinds, epochs=1)
    of_tables.save(folder / "x.tables")
    cells = np.c_[np.char.mod("%.4g", x), towns, kinds]
    np.savetxt(folder / "x.csv", cells, "%s", ",", header=",".join(names), comments="")
    net.save(folder / "x.safetensors")
    bpx.Ensemble.of(2, net).save(folder / "x.ensemble")
    outcome(["train", str(folder / "x.npz"), "--epochs", "2", "--out", str(folder / "whole")])
    for kind, name in OF_RUN.items():
        (folder / "whole" / name).rename(folder / f"x.{kind}")
    found = ["csv", "npy", "npz", "safetensors", "ensemble", *OF_RUN]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        print("no pyarrow: no Parquet, and no CSV in blocks", file=sys.stderr)
        return found
    columns = dict(zip(names, [*x.T, towns, kinds], strict=True))
    parquet.write_table(pyarrow.table(columns), folder / "x.parquet", row_group_size=10)
    return [*found, "parquet"]


def case(folder: Path, kinds: list[str], seed: int, number: int) -> tuple[str, list[str]]:
    """Write the file of this number; return its kind and the arguments of the command."""
    draw = random.Random(f"{seed}/{number}")
    kind = kinds[number % len(kinds)]
    path = folder / f"wrong.{kind}"
    path.write_bytes(mutations.KINDS[kind]((folder / f"x.{kind}").read_bytes(), draw))
    labelled = kind in ("csv", "parquet")
    wrong, model = str(path), str(folder / ("x.tables" if labelled else "x.safetensors"))
    if kind in OF_RUN:
        run = folder / "wrong.run"
        run.mkdir(exist_ok=True)
        for other, name in OF_RUN.items():
            shutil.copy(folder / f"{'wrong' if other == kind else 'x'}.{other}", run / name)
        return kind, ["compare", str(run)]
    if kind in ("safetensors", "ensemble"):
        data = str(folder / "x.npz")
        chosen = [["evaluate", wrong, data], ["predict", wrong, data]]
        if kind == "safetensors":
            chosen.append(["export", wrong, str(folder / "out.onnx")])
        return kind, draw.choice(chosen)
    target = ["--target", "label"] if labelled and draw.random() < 0.7 else []
    budget = draw.choice(["20 MB", "1 kB", "20 kB"] if labelled else ["20 MB", "1 kB"])
    train = ["train", wrong, "--epochs", "1", "--hidden", "2", "--budget", budget, *target]
    if draw.random() < 0.2:
        train += ["--task", draw.choice(["regression", "multilabel", "classification"])]
    chosen = [train, train, ["predict", model, wrong, *target]]
    if kind != "npy":
        chosen.append(["evaluate", model, wrong, *target])
    missing = ["--missing", "mean"] if draw.random() < 0.2 else []
    return kind, [*draw.choice(chosen), *missing]


def outcome(arguments: list[str]) -> tuple[str, str]:
    """What became of a command in this process: refused, accepted or a fault; and its message."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    told, status = "", 0
    sys.argv = ["bpx", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            told = traceback.format_exc()
    err.flush()
    told += err.buffer.getvalue().decode("utf-8", "replace")
    lines = [line for line in told.splitlines() if not line.startswith("bpx: note: ")]
    if "not enough memory" in told:
        return "fault", told
    if status == 0 and not lines:
        return "accepted", told
    one = len(lines) == 1 and lines[0].startswith("bpx: ") and len(lines[0]) <= 1100
    if status == 1 and one and "the cost is not finite" in told:
        return "accepted", told  # the numbers in the file are that large
    if status in (1, 2) and one:
        return "refused by name" if "wrong." in told else "refused", told
    return "fault", f"status {status}: {told or 'no message'}"


def limited() -> int:
    """Limit this process to MEMORY more of address space from now on; KiB in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGESIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    return peak()


def peak() -> int:
    """The most KiB that were in memory. (`getrusage` also counts the parent's before `exec`.)"""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1])


def serve(folder: Path, kinds: list[str], seed: int, first: int, last: int, step: int) -> None:
    """Go through the cases, with a line before and after each; the parent watches them."""
    for kind in (k for k in kinds if k not in OF_RUN):  # so that all is loaded, and threads there
        for arguments in ([["evaluate", str(folder / "x.safetensors"), str(folder / "x.npz")],
                           ["export", str(folder / "x.safetensors"), str(folder / "out.onnx")]]
                          if kind in ("safetensors", "ensemble") else
                          [["train", str(folder / f"x.{kind}"), "--epochs", "1", "--budget", size]
                           for size in ("1 MB", "1 kB")]):  # fmt: skip
            outcome([*arguments, *(["--target", "label"] if kind in ("csv", "parquet") else [])])
    before = limited()
    for number in range(first, last, step):
        kind, arguments = case(folder, kinds, seed, number)
        print(json.dumps({"number": number, "kind": kind}), flush=True)
        what, told = outcome(arguments)
        more = (peak() - before) >> 10
        print(json.dumps({"what": what, "told": told, "more": more}), flush=True)


def watched(folder: Path, seed: int, last: int, step: int, first: int) -> tuple[Counter, int]:
    """All cases of one worker, restarted after a crash; their counts, and the most MiB."""
    counts: Counter = Counter()
    most = 0
    while first < last:
        command = [sys.executable, __file__, "--serve", str(folder), "--seed", str(seed)]
        command += ["--first", str(first), "--files", str(last), "--step", str(step)]
        environment = os.environ | {"MPLBACKEND": "Agg", "BPX_FAST": "0"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as worker:
            assert worker.stdout is not None
            begun: dict | None = None
            why = "crash"
            rest = b""
            while True:
                if b"\n" not in rest:
                    wait = SECONDS if begun else 120.0
                    if not select.select([worker.stdout], [], [], wait)[0]:
                        why = "hang"
                        worker.kill()
                        break
                    more = os.read(worker.stdout.fileno(), 1 << 16)
                    if not more:
                        break
                    rest += more
                    continue
                line, _, rest = rest.partition(b"\n")
                found = json.loads(line)
                if "number" in found:
                    begun = found
                    continue
                assert begun is not None
                counts[begun["kind"], found["what"]] += 1
                most = max(most, found["more"])
                if found["what"] == "fault":
                    print(f"case {begun['number']}, {begun['kind']}: {found['told'][-1500:]}",
                          file=sys.stderr)  # fmt: skip
                first, begun = begun["number"] + step, None
        if worker.returncode == 0:
            break
        if begun is None:
            raise SystemExit(f"a worker ended with {worker.returncode} between two cases")
        counts[begun["kind"], "fault"] += 1
        print(f"case {begun['number']}, {begun['kind']}: {why}", file=sys.stderr)
        first = begun["number"] + step
    return counts, most


# --- checkpoints and models, by `fit` and `bpx.load` ---------------------------------------------


def damages(folder: Path, count: int, draw: random.Random) -> dict[str, int]:
    """In a process of its own: it must neither crash nor take more memory than allowed."""
    warnings.simplefilter("error")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 6)), generator.integers(3, size=60)
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
    model = folder / "model.safetensors"
    network().save(model)
    originals = {file: (file.read_bytes(), persistence.read(file)) for file in (path, model)}
    before = limited()
    found = dict.fromkeys(("files", "refused by name", "read", "fault"), 0)
    for index in range(count):
        file = (path, model)[index % 2]
        content, (tensors, header) = originals[file]
        for other in (folder / "run").iterdir():
            other.unlink()
        if index % 4 < 2:
            header_ends = 8 + int.from_bytes(content[:8], "little")
            file.write_bytes(mutations.in_bytes(content, draw, header_ends))
        else:
            persistence.write(file, tensors, mutations.mistaken(header, draw))
        found["files"] += 1
        try:
            if file == path:
                train(3)
            else:
                bpx.load(file).predict(x)
            found["read"] += 1
        except bpx.DivergenceError:  # with a learning rate that the file has made larger
            found["read"] += 1
        except Exception as error:
            # FileFormatError is a ValueError.
            good = isinstance(error, ValueError) and file.name in str(error)
            found["refused by name" if good else "fault"] += 1
            if not good:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return found | {"MiB more than before": (peak() - before) >> 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=12_000)
    parser.add_argument("--checkpoints", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--case", type=int)
    for hidden in ("serve", "damages"):
        parser.add_argument(f"--{hidden}", type=Path, help=argparse.SUPPRESS)
    for hidden in ("first", "step"):
        parser.add_argument(f"--{hidden}", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    files, checkpoints = (400, 200) if given.short else (given.files, given.checkpoints)
    if given.serve:
        kinds = json.loads((given.serve / "kinds.json").read_text())
        with tempfile.TemporaryDirectory(dir=given.serve) as name:
            own = Path(name)
            for path in given.serve.glob("x.*"):
                (own / path.name).write_bytes(path.read_bytes())
            serve(own, kinds, given.seed, given.first, files, given.step)
        return
    if given.damages:
        print(json.dumps(damages(given.damages, checkpoints, random.Random(given.seed))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = seeds(folder)
        (folder / "kinds.json").write_text(json.dumps(kinds))
        if given.case is not None:
            _, arguments = case(folder, kinds, given.seed, given.case)
            print("bpx", *arguments)
            print(*outcome(arguments))
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as pool:
            each = [pool.submit(watched, folder, given.seed, files, given.workers, first)
                    for first in range(given.workers)]  # fmt: skip
        counts = sum((one.result()[0] for one in each), Counter())
        columns = ("refused by name", "refused", "accepted", "fault")
        print(f"{'':12}" + "".join(f"{column:>17}" for column in columns))
        for kind in [*kinds, "all"]:
            row = [sum(counts[k, column] for k in kinds if kind in (k, "all"))
                   for column in columns]  # fmt: skip
            print(f"{kind:12}" + "".join(f"{number:17,}" for number in row))
        most = max(one.result()[1] for one in each)
        print(f"the most that a process took beyond what it had before: {most} MiB")
        again = [sys.executable, __file__, "--damages", name, "--checkpoints", str(checkpoints)]
        done = subprocess.run([*again, "--seed", str(given.seed)], stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"reading damaged checkpoints ended with {done.returncode}")
        found = json.loads(done.stdout)
        print("by fit and load:", ", ".join(f"{what} {n:,}" for what, n in found.items()))
    raise SystemExit(any(counts[k, "fault"] for k in kinds) or found["fault"] > 0)


if __name__ == "__main__":
    main()
