"""Checks and times bpx on a CUDA device, beside every installed peer, in eight minutes.

    python benchmarks/gpu.py               kernels, tests, rates, all cases; prints the table
    python benchmarks/gpu.py --write       and writes it into benchmarks/README.md
    python benchmarks/gpu.py book          one case
    python benchmarks/gpu.py --no-checks   rates and cases alone, after a run that has passed
    python benchmarks/gpu.py --short       one round of two cases, and no tests
    python benchmarks/gpu.py --rehearse    without a device: everything here but CUDA's calls

Each peer is a process of its own, and they take turns. A figure is the median over rounds of
whole epochs, timed between two CUDA events; for JAX, between two readings of the host's clock,
after block_until_ready. What is compiled or recorded is so before: by bpx in the first epoch of
each call of fit, which is not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from cases import Case
from gpu_peers import EVERY, LOW, PEERS, RIVALS, names, prepare, whole
from gpu_rates import rates, shares, summary
from harness import Peer, measure, present, row, versions, write

HERE = Path(__file__).resolve().parent
BUDGET = 480.0  # seconds for everything
# The most that each may take of the budget; the cases have what is left. The first check on a
# machine compiles all kernels, which alone takes 25 s on one core, and CuPy's own as well.
CHECK, TESTS, RATES = 120.0, 150.0, 40.0
STARTING = 0.6  # of a case's time, at most
ROUNDS = 7
SHORT = ("book", "images")
SECONDS_A_ROUND = 0.25  # for each peer, at least; slow peers run one epoch
MOST_EPOCHS = 500  # a round, beside the one in which bpx records its graphs anew
LIBRARIES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cudnn-frontend",
             "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "torch", "jax")  # fmt: skip

Results = dict[str, dict[str, float]]  # seconds a step, by case and peer


# --- is it right? -------------------------------------------------------------------------------


def passes(command: list[str], seconds: float, **environment: str) -> bool | None:
    """Run a Python program of the checkout, showing what it prints. None: it was stopped."""
    program, within = [sys.executable, *command], os.environ | environment
    try:
        done = subprocess.run(program, cwd=HERE.parent, timeout=seconds, env=within)
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} s", flush=True)
        return None
    return done.returncode == 0


def kernels_are_right(rehearse: bool) -> bool | None:
    print("--- kernels, against their standard twins", flush=True)
    arguments = ["--rehearse"] if rehearse else []
    return passes([str(HERE / "gpu_check.py"), *arguments], CHECK)


def tests_pass() -> bool | None:
    print("--- the test suite on CuPy", flush=True)
    processes = str(min(12, os.cpu_count() or 1))
    parallel = ["-n", processes] if importlib.util.find_spec("xdist") else []
    # What is rehearsed on the host needs no device, and would take time from what does.
    command = ["-m", "pytest", "-q", "-k", "cupy and not rehearsed", *parallel]
    return passes(command, TESTS, BPX_REQUIRE="cupy")


# --- how fast is it? ----------------------------------------------------------------------------


def timed(
    case: str, peers: list[str], rehearse: bool, rounds: int, until: float
) -> tuple[dict[str, float], int]:
    """Seconds a step of the installed peers, and the fewest rounds that any of them did.

    They all start at once, and then take turns.
    """
    print(f"--- {case}", file=sys.stderr, flush=True)
    made = partial(prepare, is_device=not rehearse)
    now = time.monotonic()
    ready = now + STARTING * (until - now)
    here = (Peer(peer, made, case, ready) for peer in peers)
    here = present(here if rehearse else list(here))  # a host without a device has few cores
    for peer in here:
        peer.until = until
    steps = whole(EVERY[case], not rehearse).steps
    last = measure(here, rounds, SECONDS_A_ROUND, 1, MOST_EPOCHS)
    fewest = min((len(peer.times) for peer in last), default=rounds)
    return {peer.name: peer.median / steps for peer in last}, fewest


def table(results: Results, measured: dict[str, float]) -> str:
    """Columns are cases; microseconds a step, and how they compare."""
    lines = [row("µs a step", results), "|---|" + "---|" * len(results)]
    suffixes = {"float32": ""} | {precision: f", {precision}" for precision in LOW}
    for name in (peer + suffix for suffix in suffixes.values() for peer in PEERS):
        if any(name in times for times in results.values()):
            cells = (f"{t[name] * 1e6:,.1f}" if name in t else "" for t in results.values())
            lines.append(row(name, cells))
    for precision, suffix in suffixes.items():
        columns = []
        for case, times in results.items():
            of = {peer: times[peer + suffix] for peer in PEERS if peer + suffix in times}
            columns.append(compared(EVERY[case], of, precision, measured))
        for title in dict.fromkeys(title for cells in columns for title in cells):
            subject, _, what = title.partition(", ")
            cells = (cells.get(title, "") for cells in columns)
            lines.append(row(f"**{subject}{suffix}, {what}**", cells))
    return "\n".join(lines)


def compared(
    case: Case, times: dict[str, float], precision: str, measured: dict[str, float]
) -> dict[str, str]:
    """What the times in one precision say about bpx and the products, by title."""
    cells = {}
    if "bpx" in times:
        if rivals := [times[peer] for peer in RIVALS if peer in times]:
            cells["bpx, against the best peer"] = f"{min(rivals) / times['bpx']:.2f} × faster"
        if "products" in times:
            cells["bpx, against the products"] = f"{times['bpx'] / times['products']:.2f}"
        cells |= shares("bpx", case, times["bpx"], precision, measured)
    if "products" in times:
        cells |= shares("products", case, times["products"], precision, measured)
    return cells


def absent(results: Results, rehearse: bool) -> str:
    """A line on the peers that have no figure: a best peer without them is not the best."""
    missed = [
        f"{peer} ({case})"
        for case, times in results.items()
        for peer in names(case, not rehearse)
        if peer not in times
    ]
    why = "not installed, ended or out of time; what was printed says which"
    return f"No figure of {'; '.join(missed)}: {why}.\n\n" if missed else ""


def machine() -> str:
    """The device, its driver, CUDA and the libraries."""
    import cupy

    runtime, driver = cupy.cuda.runtime, "unknown"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip() or driver
    name = runtime.getDeviceProperties(0)["name"].decode()
    major, minor = divmod(runtime.runtimeGetVersion() // 10, 100)
    return f"{name}, driver {driver}, CUDA {major}.{minor}; {versions(LIBRARIES)}"


def missing() -> str | None:
    """Why nothing can run on a device here."""
    import bpx

    try:
        bpx.backends.get("cupy")
    except bpx.backends.BackendError as error:
        return (
            f"{error}\nThis benchmark needs an NVIDIA GPU with its driver, CuPy, and pytest; "
            "PyTorch and JAX with CUDA are timed where they are installed.\n"
            "Without a GPU: python benchmarks/gpu.py --rehearse"
        )
    return None


# --- the command --------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {', '.join(EVERY)}")
    parser.add_argument("--rehearse", action="store_true", help="on the host, without a device")
    parser.add_argument("--short", action="store_true", help="one round of " + " and ".join(SHORT))
    parser.add_argument("--no-checks", action="store_true", help="rates and cases alone")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(EVERY):
        parser.error(f"unknown case {sorted(unknown)[0]!r}: {', '.join(EVERY)}")
    if options.rehearse and options.write:
        parser.error("a rehearsal's figures are not written")
    return options


def main() -> int:
    options = arguments()
    if not options.rehearse and (why := missing()):
        print(why, file=sys.stderr)
        return 1
    if options.rehearse:  # several threads wait for each other, and crawl on a busy machine
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    end = time.monotonic() + BUDGET
    rounds = 1 if options.short else ROUNDS
    cases = options.cases or list(SHORT if options.short else EVERY)
    checks: dict[str, bool | None] = {}
    if not options.no_checks:
        checks["the check of the kernels"] = kernels_are_right(options.rehearse)
    if not (options.no_checks or options.rehearse or options.short):
        checks["the tests"] = tests_pass()
    measured = {} if options.rehearse else rates(RATES)
    results: Results = {}
    least = rounds
    for index, case in enumerate(cases):
        now = time.monotonic()
        until = now + (end - now) / (len(cases) - index)
        peers = names(case, not options.rehearse)
        if options.rehearse and options.short:
            peers.remove("torch.compile")  # compiling it takes longer than everything else
        results[case], fewest = timed(case, peers, options.rehearse, rounds, until)
        least = min(least, fewest)
        print(table({case: results[case]}, measured), file=sys.stderr, flush=True)
    where = "a rehearsal on the host" if options.rehearse else machine()
    notes = "" if options.rehearse else f"{summary(measured)}\n\n"
    cut = " and ".join(what for what, passed in checks.items() if passed is None)
    stopped = f"Stopped before their end, for want of time: {cut}.\n\n" if cut else ""
    if options.no_checks:
        stopped = "Neither kernels nor tests were run beside these figures.\n\n"
    counted = str(rounds) if least == rounds else f"{least} to {rounds}"
    text = (
        f"{table(results, measured)}\n\n{absent(results, options.rehearse)}{notes}"
        f"{stopped}Medians of {counted} rounds, {time.strftime('%Y-%m-%d')}: {where}.\n"
    )
    print(text)
    if False in checks.values():
        print("not right, see above: nothing is written", file=sys.stderr)
        return 1
    if options.write:
        write("gpu", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
