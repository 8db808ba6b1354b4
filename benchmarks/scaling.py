"""How a step of ``fit(parallel="mpi")`` grows with the ranks, measured against a model of it.

    python benchmarks/scaling.py              one rank to as many as there are cores
    python benchmarks/scaling.py --write      the tables into docs/scaling.md
    python benchmarks/scaling.py --predict    the model on GPUs and clusters, see clusters.py
    python benchmarks/scaling.py --short      only shows that it runs

It starts itself under ``mpiexec``. Each rank is bound to a core and BLAS has one thread; when
fewer ranks train, the others sleep. All variants take turns, for some rounds.

The object that bpx sums gradients with is wrapped, so that a rank notes when it reaches the sum
and when it leaves it. The ranks are on one host and read one clock, so a step divides into

- arithmetic: from leaving one sum to reaching the next, in processor time, which is the wall-clock
  time if nothing else wants the core,
- waiting: from reaching a sum until the last rank reaches it,
- all-reduce: from then until leaving,

without a barrier, which would change what it measures. One rank alone has no sum, and all of an
epoch is arithmetic. The figure for each part is the first decile of the steps (for one rank, of
the epochs); *wall* is the median of the whole step in wall-clock time, so that the two tell how
much was waited and how much other work disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine, row, write

from bpx import launcher

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
MB = 1e6
LEAST = 0.1  # the share of the times that are less than the one that counts


@dataclass(frozen=True)
class Case:
    sizes: tuple[int, ...]
    rows: int  # of a mini-batch
    steps: int  # an epoch

    @property
    def flops(self) -> float:
        """For a sample: three products a layer, but the first has no input to go back to."""
        products = [a * b for a, b in pairwise(self.sizes)]
        return 2.0 * (3 * sum(products) - products[0])


CASES = {
    "784-100-10": Case((784, 100, 10), 256, 100),
    "784-1024-1024-10": Case((784, 1024, 1024, 10), 512, 10),
    "784, 8 × 256, 10": Case((784, *[256] * 8, 10), 256, 30),
}
SWEPT = tuple(2**k for k in range(8, 25, 2))  # bytes
OVERLAPPED = ("784-1024-1024-10", "784, 8 × 256, 10")


# --- ranks ---


def start(arguments: list[str], count: int) -> int:
    """Run this program again, as `count` ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None or importlib.util.find_spec("mpi4py") is None:
        print("not measured: mpi4py or mpiexec is not here (pip install mpi4py mpich)")
        return 0
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [mpiexec, "-n", str(count), sys.executable, __file__, *arguments]
    return subprocess.run(command, env={**os.environ, **threads}, check=False).returncode


class World:
    """All ranks, of which the first few do something together while the others sleep."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self.mpi, self.comm = MPI, MPI.COMM_WORLD
        if hasattr(os, "sched_setaffinity"):
            here = launcher.cores()
            os.sched_setaffinity(0, {here[self.comm.rank % len(here)]})
        self.counts = sorted(
            {2**k for k in range(10) if 2**k <= self.comm.size} | {self.comm.size}
        )
        self.parts = {
            count: self.comm.Split(0 if self.comm.rank < count else MPI.UNDEFINED)
            for count in self.counts
        }

    def among(self, count: int, work: Callable[[Any], Any]) -> Any:
        """What `work` returns on this rank, if it is one of the first; it takes their comm."""
        part = self.parts[count]
        found = None if part == self.mpi.COMM_NULL else work(part)
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(1e-3)
        return found

    def say(self, text: str) -> None:
        if self.comm.rank == 0:
            print(text, flush=True)


# --- steps, measured ---


class Timed:
    """bpx's sum over ranks, with the times at which this rank reaches and leaves it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.times: list[tuple[float, float, float, float]] = []

    def __call__(self, vector: Any) -> None:
        came = time.perf_counter(), time.process_time()
        self.inner(vector)
        self.times.append((*came, time.process_time(), time.perf_counter()))

    def wait(self) -> None:
        self.inner.wait()


class Epochs:
    """A callback: when epochs end, on both clocks."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_fit_begin(self, run: Any) -> None:
        self.on_epoch_end(run)

    def on_epoch_end(self, run: Any) -> None:
        self.times.append((time.perf_counter(), time.process_time()))


# Columns of what is measured of steps, in seconds.
WALL, ARITHMETIC, REDUCE, WAITING = range(4)


def training(case: Case, rows: int) -> Callable[..., np.ndarray]:
    """A function that trains among the ranks of a communicator; its times are (steps, 4)."""
    import bpx

    draw = np.random.default_rng(0)
    n = rows * case.steps
    x = draw.standard_normal((n, case.sizes[0]), np.float32)
    y = draw.integers(case.sizes[-1], size=n)
    net = bpx.Network(list(case.sizes), hidden="relu", output="softmax", seed=0)
    options: dict[str, Any] = {"batch_size": rows, "optimizer": bpx.SGD(0.001, momentum=0.9)}

    def train(comm: Any, epochs: int) -> np.ndarray:
        sums: list[Timed] = []
        ends = Epochs()
        with bpx.DataParallel(comm).join() as ranks:
            all_reduce = ranks.all_reduce
            ranks.all_reduce = lambda backend: sums.append(Timed(all_reduce(backend))) or sums[-1]
            net.fit(x, y, epochs=epochs, **options, callbacks=ends, parallel=ranks)
        if not sums:
            wall, busy = np.diff(ends.times, axis=0).T / case.steps
            return np.stack([wall, busy, 0 * busy, 0 * busy], axis=1)
        times = np.array(comm.allgather(sums[0].times))
        return np.concatenate([split(part) for part in np.split(times, epochs, axis=1)])

    return train


def split(times: np.ndarray) -> np.ndarray:
    """The columns, from when each rank reaches and leaves each step's sum, on both clocks."""
    came, busy_at, busy_from, left = np.moveaxis(times, 2, 0)
    last = came.max(axis=0)
    return np.stack(
        [
            np.diff(came, axis=1).mean(axis=0),
            (busy_at[:, 1:] - busy_from[:, :-1]).max(axis=0),
            (left - last).mean(axis=0)[1:],
            (last - came).mean(axis=0)[1:],
        ],
        axis=1,
    )


def least(steps: list[np.ndarray]) -> np.ndarray:
    """The first decile of each part of a step, and the median in wall-clock time."""
    found = np.concatenate(steps)
    return np.append(np.median(found[:, :1]), np.quantile(found[:, 1:], LEAST, axis=0))


# --- the model's constants ---


def timed(comm: Any, seconds: float, work: Callable[[], object]) -> float:
    """The processor time of one call while all ranks do the same, on the slowest rank."""
    work()
    comm.Barrier()
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return max(comm.allgather(float(np.quantile(times, LEAST))))


def normals(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def products(case: Case, rows: int, alone: bool) -> Callable[[], object]:
    """The matrix products of a step alone, in preallocated arrays."""
    import bpx

    gemm = bpx.backends.get("numpy").gemm
    calls = []
    a = [normals(rows, size) for size in case.sizes]
    beta = 0.9 if alone else 0.0  # into the velocity, or the gradient
    for k, (inputs, units) in enumerate(pairwise(case.sizes)):
        w, out = normals(units, inputs), normals(units, inputs)
        z, below = normals(rows, units), normals(rows, inputs)
        calls.append(partial(gemm, a[k], w.T, z))
        calls.append(partial(gemm, z.T, a[k], out, -1e-3 / rows, beta))
        if k:
            calls.append(partial(gemm, z, w, below))
    return lambda: [call() for call in calls]


def elementwise(case: Case, rows: int) -> Callable[[], object]:
    """The gather; for each hidden layer bias, ReLU, its derivative and the sum over the rows."""
    import bpx

    backend, relu = bpx.backends.get("numpy"), bpx.activations.ReLU()
    n = rows * case.steps
    source, x = normals(n, case.sizes[0]), normals(rows, case.sizes[0])
    order = np.random.default_rng(0).permutation(n)
    calls = []
    for units in case.sizes[1:-1]:
        z, delta, bias = normals(rows, units), normals(rows, units), normals(units)
        calls.append(partial(np.add, z, bias, z))
        calls.append(partial(backend.activate, relu, z, z))
        calls.append(partial(backend.activate_backward, relu, delta, z, z))
        calls.append(partial(backend.sum_rows, delta, bias, 1e-6))
    at = 0

    def work() -> None:
        nonlocal at
        at = (at + rows) % n
        backend.gather(source, order[at : at + rows], x)
        for call in calls:
            call()

    return work


def updating(case: Case, alone: bool) -> Callable[[], object]:
    """The optimizer on θ; alone, only the velocity is still to be added."""
    import bpx

    net = bpx.Network(list(case.sizes), hidden="relu", seed=0)
    optimizer = bpx.SGD(1e-6, momentum=0.9)
    state, grad = optimizer.start(net), normals(net.parameters.size)
    if alone:
        return partial(net.backend.axpby, state.slots["velocity"], net.parameters)
    return partial(optimizer.update, net.parameters, grad, state, 0)


def one_after_another(*works: Callable[[], object]) -> None:
    """As in a step, in which each finds the caches full of what the others have used."""
    for work in works:
        work()


@dataclass(frozen=True)
class Line:
    """Seconds of an all-reduce: α + bytes/β."""

    alpha: float
    beta: float

    def __call__(self, size: float) -> float:
        return self.alpha + size / self.beta


def sweep(comm: Any) -> dict[int, list[float]]:
    """By bytes, the seconds of bpx's all-reduces after the last rank has come."""
    import bpx

    found = {}
    others = np.ones(2**20, np.float32)
    with bpx.DataParallel(comm).join() as ranks:
        for size in SWEPT:
            vector, fresh = np.zeros(size // 4, np.float32), normals(size // 4)
            times = []
            for _ in range(min(50, max(10, 2**24 // size))):
                others.sum()  # as in a step, whose kernels have used the second cache
                vector[...] = fresh
                came = time.perf_counter()
                ranks.sum_in_place(vector)
                times.append((came, time.perf_counter()))
            whole = np.array(comm.allgather(times))
            seconds = (whole[:, :, 1] - whole[:, :, 0].max(axis=0)).mean(axis=0)
            found[size] = seconds.tolist()
    return found


def line(found: dict[int, float]) -> Line:
    """Least squares of the relative errors."""
    sizes, seconds = np.array(list(found.items())).T
    ways = np.stack([1.0 / seconds, sizes / seconds], axis=1)
    (alpha, slope), *_ = np.linalg.lstsq(ways, np.ones(len(found)), rcond=None)
    return Line(float(alpha), float(1.0 / slope))


# --- overlapping, a prototype ---


@contextlib.contextmanager
def overlapping(progress: bool | None) -> Iterator[list[float]]:
    """Sum each layer's weights as soon as their gradient is there, while others are computed.

    MPI works on the sum only while it is called: with `progress`, it is called again after each
    gradient. None: as bpx does it. Yields a list of the times when steps began.
    """
    from bpx.training import trainer
    from bpx.training.slices import SharedSteps

    began: list[float] = []

    class Usual(SharedSteps):
        def one(self, batch: Any, at: int) -> None:
            began.append(time.perf_counter())
            super().one(batch, at)

    class Overlapping(Usual):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._requests: list[Any] = []
            layout = self.net.layout
            self._last = self.room[layout.decayed :]
            for entry in layout.entries:
                to = getattr(self.update.out.layers[entry.layer], entry.name)
                if entry.parameter.decayed:
                    to.then = partial(self._begin, to.array)

        def _begin(self, gradient: Any) -> None:
            mpi = self.ranks._mpi
            if progress:
                mpi.Request.Testall(self._requests)
            begun = self.ranks.comm.Iallreduce(mpi.IN_PLACE, gradient, mpi.SUM)
            self._requests.append(begun)

        def _add_up(self) -> None:
            for at, question in enumerate(self._questions.values(), 3):
                self._behind[at] = float(question())
            self._sum(self._last)
            while self._requests:
                self.ranks._wait(self._requests.pop(0))
            told = [bool(self._behind[at]) for at, _ in enumerate(self._questions, 3)]
            self._answers = dict(zip(self._questions, told, strict=True))

    trainer.SharedSteps = Usual if progress is None else Overlapping
    try:
        yield began
    finally:
        trainer.SharedSteps = SharedSteps


WAYS = {"one sum at the end": None, "a layer, started": False, "a layer, with progress": True}


def overlaps(world: World, rounds: int, cases: dict[str, Case]) -> list[str]:
    """The table of the three ways, in turn, on two ranks."""
    trains = {name: training(case, case.rows) for name, case in cases.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, train in trains.items():
            for way, progress in WAYS.items():
                with overlapping(progress) as began:
                    world.among(2, partial(train, epochs=1))
                times.setdefault((name, way), []).extend(np.diff(began))
    lines = [row("ms a step, 2 ranks", WAYS), "|---|" + "---|" * len(WAYS)]
    for name in cases:
        if world.comm.rank == 0:
            quick = [1e3 * float(np.quantile(times[name, way], LEAST)) for way in WAYS]
            median = [1e3 * float(np.median(times[name, way])) for way in WAYS]
            cells = [f"{a:.2f} (median {b:.2f})" for a, b in zip(quick, median, strict=True)]
            lines.append(row(name, cells))
    return lines


# --- measured against predicted ---


def runs(case: Case, counts: list[int]) -> list[tuple[str, int, int]]:
    """(which scaling, ranks, rows of the mini-batch)."""
    found = [("", 1, case.rows)]
    found += [("strong", count, case.rows) for count in counts if count > 1]
    found += [("weak", count, count * case.rows) for count in counts if count > 1]
    return found


def compare(world: World, cases: dict[str, Case], rounds: int, seconds: float) -> list[str]:
    """The tables of constants, of steps, and of efficiencies."""
    trains = {
        (name, which, count): training(case, rows)
        for name, case in cases.items()
        for which, count, rows in runs(case, world.counts)
    }
    thin = {
        (name, which, count): training(Case((4, *[4] * (len(case.sizes) - 2), 10), 0, 100), rows)
        for name, case in cases.items()
        for which, count, rows in runs(case, world.counts)
    }
    measured: dict[Any, list[np.ndarray]] = {}
    fixed: dict[Any, list[np.ndarray]] = {}
    parts: dict[Any, list[list[float]]] = {}
    sums: dict[int, dict[int, list[float]]] = {count: {} for count in world.counts[1:]}
    for _ in range(rounds):
        for count, found in sums.items():
            for size, times in (world.among(count, sweep) or {}).items():
                found.setdefault(size, []).extend(times)
        for key, train in trains.items():
            (name, which, count), case = key, cases[key[0]]
            for into, work in ((measured, train), (fixed, thin[key])):
                into.setdefault(key, []).append(world.among(count, partial(work, epochs=2)))
            own = case.rows if which != "strong" else -(-case.rows // count)
            works = [elementwise(case, own), products(case, own, count == 1)]
            works.append(updating(case, count == 1))
            works.append(partial(one_after_another, *works))
            values = [world.among(count, partial(timed, seconds=seconds, work=w)) for w in works]
            parts.setdefault(key, []).append(values)
    if world.comm.rank:
        return []
    constants = [
        row("all-reduce, µs", ["α", "β, GB/s", *(f"{size:,} B" for size in SWEPT)]),
        "|---" * (3 + len(SWEPT)) + "|",
    ]
    reduce = {}
    for count, found in sums.items():
        quick = {size: float(np.quantile(times, LEAST)) for size, times in found.items()}
        reduce[count] = at = line(quick)
        cells = [f"{1e6 * at.alpha:.1f}", f"{at.beta / 1e9:.2f}"]
        cells += [f"{1e6 * value:,.1f}" for value in quick.values()]
        constants.append(row(f"{count} ranks", cells))
    steps = ["ranks", "rows a rank", "measured", "predicted", "off by", "arithmetic", "all-reduce"]
    steps += ["waiting", "efficiency", "wall"]
    lines = [row("a step, ms", steps), "|---" * (1 + len(steps)) + "|"]
    names = ["ranks", "products", "GFlop/s a rank", "elementwise", "update"]
    names += ["in turn", "fixed", "all-reduce", "MB", "m½, rows"]
    pieces = [row("the model's parts, ms", names), "|---" * (1 + len(names)) + "|"]
    for key in trains:
        (name, which, count), case = key, cases[key[0]]
        own = case.rows / (count if which == "strong" else 1)
        step, base = least(measured[key]), float(least(fixed[key])[ARITHMETIC])
        whole, alone = (float(s[ARITHMETIC:].sum()) for s in (step, least(measured[name, "", 1])))
        of_parts = np.quantile(np.array(parts[key]), LEAST, axis=0).tolist()
        others, multiplied, update, kernels = of_parts
        size = 4.0 * sum(a * b + b for a, b in pairwise(case.sizes))
        summed = 0.0 if count == 1 else reduce[count](size)
        predicted = kernels + base + summed
        efficiency = alone / whole / (count if which == "strong" else 1)
        title = f"{name} {which}".strip()
        cells = [f"{count}", f"{own:g}", f"{1e3 * whole:.3f}", f"{1e3 * predicted:.3f}"]
        cells.append(f"{100 * (predicted / whole - 1):+.0f} %")
        cells += [f"{1e3 * value:.3f}" for value in step[ARITHMETIC:]] if count > 1 else [""] * 3
        cells += [f"{100 * efficiency:.0f} %", f"{1e3 * step[WALL]:.3f}"]
        lines.append(row(title, cells))
        rate = case.flops * own / multiplied / 1e9
        cells = [f"{count}", f"{1e3 * multiplied:.3f}", f"{rate:.1f}", f"{1e3 * others:.3f}"]
        cells += [f"{1e3 * value:.3f}" for value in (update, kernels, base, summed)]
        if count > 1:
            cells += [f"{size / MB:.2f}", f"{4 * rate * 1e9 / (6 * reduce[count].beta):.0f}"]
        else:
            cells += [""] * 2
        pieces.append(row(title, cells))
    return [*lines, "", *pieces, "", *constants]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few steps of each")
    parser.add_argument("--write", action="store_true", help="the tables into docs/scaling.md")
    parser.add_argument("--predict", action="store_true", help="the model on clusters of GPUs")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--under-mpiexec", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.predict:
        import clusters

        clusters.main(given.write)
        return
    if not given.under_mpiexec:
        raise SystemExit(start([*sys.argv[1:], "--under-mpiexec"], max(2, len(launcher.cores()))))
    world = World()
    cases = dict(list(CASES.items())[:1]) if given.short else CASES
    rounds, seconds = (1, 0.02) if given.short else (given.rounds, 0.2)
    before = os.getloadavg()[0]
    tables = compare(world, cases, rounds, seconds)
    world.say("\n".join(tables))
    chosen = cases if given.short else {name: CASES[name] for name in OVERLAPPED}
    found = overlaps(world, rounds, chosen)
    where = machine(["numpy", "scipy", "numba", "mpi4py", "mpich"])
    where += f"; load {before:.1f} before it and {os.getloadavg()[0]:.1f} after"
    world.say("\n".join([*found, "", where]))
    if given.write and world.comm.rank == 0:
        write("scaling", "\n".join([*tables, "", where]) + "\n", PAGE)
        write("overlap", "\n".join([*found, "", where]) + "\n", PAGE)


if __name__ == "__main__":
    main()
