"""Peers in processes of their own that take turns, and the tables of benchmarks/README.md."""

from __future__ import annotations

import importlib.metadata
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

README = Path(__file__).with_name("README.md")

# Does a number of units of work, and returns the seconds that one took; more than that only where
# `Peer.time` is called without `measure`.
Timed = Callable[[int], float]
Prepare = Callable[[str, str], Timed]  # of a peer and a case; called in the peer's process


class Gone(RuntimeError):
    """A peer ended or took too long; the message says which."""


def worker(connection: Connection, prepare: Prepare, peer: str, case: str) -> None:
    """One peer in a process of its own: given a number of units, it says how long one took."""
    try:
        timed = prepare(peer, case)
        timed(1)  # whatever has to be compiled is compiled here
    except (ImportError, LookupError) as error:
        connection.send(str(error) or type(error).__name__)
        return
    connection.send(None)
    while units := connection.recv():
        connection.send(timed(units))
    connection.send(peak())


def peak() -> float:
    """The most megabytes that this process has taken so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Peer:
    """The other end of a worker, which may take until `until`, a time of `time.monotonic`."""

    def __init__(self, name: str, prepare: Prepare, case: str, until: float = math.inf) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.until, self.times = name, until, []
        self.connection, theirs = context.Pipe()
        arguments = theirs, prepare, name, case
        self.process = context.Process(target=worker, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def answer(self, share: float = 1.0) -> object:
        """The worker's answer, waited for during a share of the time that is left."""
        left = max(share * (self.until - time.monotonic()), 0.0)
        try:
            if not self.connection.poll(None if left == math.inf else left):
                raise Gone("out of time")
            return self.connection.recv()
        except (EOFError, ConnectionError):
            raise Gone("its process ended") from None

    def time(self, units: int) -> float:
        self.connection.send(units)
        seconds = self.answer(0.5)  # one that hangs leaves time for the others
        time.sleep(0.05)  # idle threads of its pools spin for a while
        return seconds

    def close(self) -> None:
        self.until = max(self.until, time.monotonic() + 10.0)
        self.connection.send(0)
        self.megabytes = self.answer()
        self.process.join(10.0)
        self.process.kill()  # a library's threads may keep it from its end

    def drop(self, why: object) -> None:
        print(f"  without {self.name}: {why}", file=sys.stderr, flush=True)
        self.process.kill()

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def present(peers: Iterable[Peer]) -> list[Peer]:
    """Those that start; prints why the others do not. From a generator, they start in turn."""
    here = []
    for peer in peers:
        try:
            why = peer.answer()
        except Gone as error:
            why = error
        if why is None:
            here.append(peer)
        else:
            peer.drop(why)
    return here


def measure(peers: list[Peer], rounds: int, seconds: float, few: int, most: int) -> list[Peer]:
    """Those that last, with their times: in each round `seconds` of each, at most `most` units."""
    units: dict[str, int] = {}

    def start(peer: Peer) -> None:
        peer.time(1)
        tried = min(most, few)
        units[peer.name] = max(1, min(most, int(seconds / peer.time(tried))))
        if units[peer.name] != tried:  # a scan compiles once more for this length
            peer.time(units[peer.name])

    def again(peer: Peer) -> None:
        longest = units[peer.name] * max(peer.times, default=0.0)
        if not peer.times or time.monotonic() + 2.0 * longest < peer.until:
            peer.times.append(peer.time(units[peer.name]))

    here = peers
    for turn in (start, *[again] * rounds, Peer.close):
        here = [peer for peer in here if lasts(peer, turn)]
    return here


def lasts(peer: Peer, turn: Callable[[Peer], object]) -> bool:
    try:
        turn(peer)
    except (Gone, ConnectionError) as error:
        peer.drop(error)
        return False
    return True


def measured(
    cases: Iterable[str],
    peers: Iterable[str],
    prepare: Prepare,
    table: Callable[[dict[str, list[Peer]]], str],
    rounds: int,
    limits: tuple[float, int, int],
) -> dict[str, list[Peer]]:
    """Each case's peers with their times; what has come is printed. `limits` as for `measure`."""
    results = {}
    for case in cases:
        print(f"{case} ...", file=sys.stderr, flush=True)
        here = present(Peer(peer, prepare, case) for peer in peers)
        if found := measure(here, rounds, *limits):
            results[case] = found
            print(table({case: found}), file=sys.stderr, flush=True)
    return results


def row(title: str, cells: Iterable[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {title} | " + " | ".join(cells) + " |"


def versions(libraries: Iterable[str]) -> str:
    """The versions of Python and of the installed libraries."""
    found = [f"Python {platform.python_version()}"]
    for library in libraries:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def machine(libraries: Iterable[str]) -> str:
    """What it was measured on, and when."""
    model = platform.processor() or platform.machine()
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = info.split("model name")[1].split(":")[1].split("\n")[0].strip()
    except (OSError, IndexError):
        pass
    kernels = os.environ.get("OPENBLAS_CORETYPE")
    blas = f", OpenBLAS's {kernels} kernels" if kernels else ""
    return (
        f"{time.strftime('%Y-%m-%d')}: {model}, {os.cpu_count()} cores{blas}; "
        f"{versions(libraries)}"
    )


def write(name: str, text: str, page: Path = README) -> None:
    """Put `text` between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a page."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(opening)
    tail = rest.partition(closing)[2]
    page.write_text(f"{head}{opening}{text}{closing}{tail}", encoding="utf-8")
