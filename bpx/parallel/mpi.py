"""Ranks over MPI (mpi4py), where nothing waits forever: a rank that does not arrive is named."""

from __future__ import annotations

import atexit
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import launcher
from ..backends import Array, Backend
from ..checks import positive
from ..extras import PACKAGES
from .ranks import AllReduce, RankError, Ranks, listed

UNWATCHED = 0.05  # seconds of a wait in which nothing else is looked at
RESCUE = 20.0  # seconds that rank 0 has for a last checkpoint, before others end it
ANSWER = 5.0  # seconds within which a waiting rank is certain to answer
HURRY = 10.0  # seconds from the begin of a wait, after which a rank that is told to end asks
QUESTION, PRESENT, FAILED = 1, 2, 3  # tags
TOLD = 2000  # characters of an error that are sent to the others

_yield: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0.0))


@dataclass(frozen=True)
class DataParallel:
    """How several processes train one network: see `parallel` of `Network.fit`.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        The processes; ``MPI.COMM_WORLD`` by default.
    timeout : float
        Seconds that a rank waits for the others, 300 by default. In the last five of them (in the
        second half of fewer than ten) it asks who is there, and then ends with a `RankError` that
        names those who are not; if all are, it waits five more for what they exchange. It has to
        be longer than what one rank may do while the others wait: a callback, a checkpoint on a
        slow disk.

    Raises
    ------
    ImportError
        When it is used: mpi4py, or an MPI library, is not installed, or it is not the launcher's.

    Examples
    --------
    Under ``mpiexec -n 4 python script.py`` each process runs::

        net.fit(x, y, parallel=bpx.DataParallel(timeout=60))

    >>> import bpx
    >>> bpx.DataParallel(timeout=60)
    DataParallel(comm=None, timeout=60)
    """

    comm: Any = None
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if self.timeout != math.inf:
            positive("timeout", self.timeout)
        if self.comm is not None and not hasattr(self.comm, "Idup"):
            raise TypeError(f"expected a communicator of mpi4py, got {type(self.comm).__name__}")
        if self.comm is not None and not self.comm:  # what Split gives to those that it leaves out
            raise ValueError(
                "expected a communicator to which this process belongs, got COMM_NULL: leave "
                "parallel= out if it trains alone"
            )

    def join(self) -> Ranks:
        """Begin to work with the others; a context manager, which tells them of an error in it.

        `fit` does so by itself, and accepts what this returns as well.
        """
        comm = _mpi().COMM_WORLD if self.comm is None else self.comm
        if self.comm is None and comm.size == 1 and launcher.rank() is not None:
            raise ImportError(
                f"this process was started as rank {launcher.rank()} of several, but mpi4py's MPI "
                "sees only this one: use the mpiexec (srun --mpi=) of the library that mpi4py "
                "finds; mpiexec -n 2 python -m mpi4py.bench helloworld then shows two different "
                "ranks"
            )
        return Ranks() if comm.size == 1 else MpiRanks(comm, self.timeout)


def launched() -> Ranks:
    """Together with the others that ``mpiexec`` has started with this process, if it has."""
    return Ranks() if launcher.rank() is None else DataParallel().join()


def joined(parallel: Any) -> AbstractContextManager[Ranks]:
    """The ranks for what a user passes as ``parallel=``.

    Raises
    ------
    TypeError, ValueError
        It is none of these.
    """
    if parallel is None:
        return Ranks()
    if isinstance(parallel, MpiRanks) and not parallel.comm:
        raise ValueError("the ranks have parted: fit belongs inside `with ... join() as ranks`")
    if isinstance(parallel, Ranks):
        return nullcontext(parallel)  # the one who joined leaves
    if isinstance(parallel, str):
        if parallel != "mpi":
            raise ValueError(f'expected parallel="mpi" or None, got {parallel!r}')
        return DataParallel().join()
    if isinstance(parallel, DataParallel):
        return parallel.join()
    if hasattr(parallel, "Idup"):
        return DataParallel(parallel).join()
    raise TypeError(
        'expected parallel="mpi", a bpx.DataParallel or a communicator of mpi4py, got '
        f"{type(parallel).__name__}"
    )


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            f'parallel="mpi" needs mpi4py (pip install {PACKAGES["mpi"]}) and an MPI library: the '
            f"cluster's own, or pip install mpich ({error})"
        ) from error
    except RuntimeError as error:  # mpi4py's wheels look for the library when they are imported
        raise ImportError(
            "mpi4py is installed, but finds no MPI library: load the cluster's module, or "
            f"pip install mpich ({error})"
        ) from error
    return MPI


class MpiRanks(Ranks):
    """The processes of a communicator.

    Each collective is begun without blocking and polled. If it does not end, the waiting ranks ask
    each other who is there: a rank that waits answers, one that computes, hangs or is dead does
    not. A rank that fails by itself tells the others why.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        It is duplicated.
    timeout : float
        Seconds.
    """

    def __init__(self, comm: Any, timeout: float) -> None:
        self._mpi = _mpi()
        self.rank, self.size, self.timeout = comm.rank, comm.size, timeout
        self.doing, self.hurried = lambda: "the beginning", lambda: False
        self._sent: list[Any] = []
        self._last: Any = None
        self._all_reduces: dict[str, AllReduce] = {}
        self.hosts = ["?"] * self.size
        self.comm, request = comm.Idup()
        began = time.monotonic()
        while not request.Test():
            if time.monotonic() - began > timeout:
                raise self._lost(
                    RankError(f"not all of the {self.size} ranks came to fit within {timeout:g} s")
                )
            time.sleep(1e-4)
        self.hosts = self.texts(socket.gethostname())
        shared = self.texts(f"{self.hosts[self.rank]} {launcher.cores()}")
        self.processes = shared.count(shared[self.rank])

    def __exit__(self, *raised: Any) -> None:
        error = raised[1]
        together = error is None or getattr(error, "of_all_ranks", False)
        for all_reduce in self._all_reduces.values():
            all_reduce.close(abort=not together)
        if together:
            self.comm.Free()
            return
        if isinstance(error, RankError):
            message = f"{','.join(map(str, error.ranks))}\n{error}"
        else:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:TOLD]
            message = f"{self.rank}\n{self._who(self.rank)} has failed: {text}"
        for other in range(self.size):
            if other != self.rank:
                self._send(other, FAILED, message.encode())

    def _lost(self, error: RankError) -> RankError:
        """MPI has to end the process: a regular exit would wait for all ranks."""
        first = self.rank == 0 or 0 in error.ranks
        atexit.register(self._abort, 1.0 if first else RESCUE)
        return error

    def _abort(self, seconds: float) -> None:
        """End all ranks; first others say why, and rank 0 writes its checkpoint."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # closed, or a pipe that nobody reads
                stream.flush()
        time.sleep(seconds)
        self._mpi.COMM_WORLD.Abort(1)

    def _who(self, rank: int) -> str:
        return f"rank {rank} ({self.hosts[rank]})"

    # --- collectives ---

    def sum(self, values: np.ndarray) -> np.ndarray:
        total = np.array(values, dtype=np.float64)
        self.sum_in_place(total)
        return total

    def sum_in_place(self, vector: np.ndarray) -> None:
        """Sum a vector on the host, contiguous and writable."""
        self._wait(self.comm.Iallreduce(self._mpi.IN_PLACE, vector, self._mpi.SUM))

    def gather(self, values: np.ndarray) -> np.ndarray:
        mine = np.ascontiguousarray(values, dtype=np.float64)
        found = np.empty((self.size, *mine.shape))
        self._wait(self.comm.Iallgather(mine, found))
        return found

    def texts(self, text: str) -> list[str]:
        mine = np.frombuffer(text.encode(), np.uint8)
        lengths = self.gather(np.array([float(len(mine))]))[:, 0].astype(int).tolist()
        found = np.empty(sum(lengths), np.uint8)
        self._wait(self.comm.Iallgatherv(mine, [found, lengths]))
        ends = np.cumsum(lengths).tolist()
        parts = zip([0, *ends[:-1]], ends, strict=True)
        return [found[start:end].tobytes().decode() for start, end in parts]

    def broadcast(self, content: bytes) -> bytes:
        length = int(self.gather(np.array([float(len(content))]))[0, 0])
        found = np.empty(length, np.uint8)
        if self.rank == 0:
            found[...] = np.frombuffer(content, np.uint8)
        self._wait(self.comm.Ibcast(found))
        return found.tobytes()

    def first(self, work: Callable[[], Any]) -> Any:
        found = work() if self.rank == 0 else None
        self._wait(self.comm.Ibarrier(), math.inf)  # a download takes as long as it takes
        return found if self.rank == 0 else work()

    def all_reduce(self, backend: Backend) -> AllReduce:
        found = self._all_reduces.get(backend.name)
        if found is None:
            found = self._all_reduces[backend.name] = self._all_reduce_on(backend)
        return found

    def _all_reduce_on(self, backend: Backend) -> AllReduce:
        if backend.name == "numpy":
            return _OnHost(self)
        if backend.name.startswith("cupy"):
            from .nccl import all_reduce

            return all_reduce(self, backend)
        return _ThroughHost(self, backend)

    # --- waiting ---

    def wait_until(self, done: Callable[[], bool], limit: float | None = None) -> None:
        """Wait until it is done; RankError if a rank has failed or does not arrive."""
        began = time.monotonic()
        while not done():
            waited = time.monotonic() - began
            if waited < UNWATCHED:
                _yield()
                continue
            self._listen()
            limit_now = self.timeout if limit is None else limit
            if self.hurried():
                limit_now = min(limit_now, HURRY)
            answer = min(ANSWER, limit_now / 2)
            if waited > limit_now - answer:
                # It may be told to end, or looks again, when it has waited for longer already.
                self._call_the_roll(done, began, max(limit_now, waited + answer))
                return
            time.sleep(1e-4 if waited < 1.0 else 1e-3)

    def _wait(self, request: Any, limit: float | None = None) -> None:
        self._last = request  # if it does not end, MPI may still write to its buffer
        if not request.Test():
            self.wait_until(request.Test, limit)

    def _listen(self) -> set[int]:
        """Answer those who ask, hear who has failed; returns who has answered this rank."""
        status, present = self._mpi.Status(), set()
        while self.comm.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status):
            source, tag = status.Get_source(), status.Get_tag()
            body = bytearray(status.Get_count(self._mpi.BYTE))
            self.comm.Recv([body, self._mpi.BYTE], source, tag)
            if tag == QUESTION:
                self._send(source, PRESENT, b"")
            elif tag == PRESENT:
                present.add(source)
            else:
                ranks, _, text = body.decode().partition("\n")
                culprits = tuple(int(rank) for rank in ranks.split(",") if rank)
                raise self._lost(RankError(text, culprits, culprits == (source,)))
        return present

    def _send(self, to: int, tag: int, body: bytes) -> None:
        # Nobody may ever receive it, so it is not waited for; the request keeps the body.
        self._sent.append(self.comm.Isend([body, self._mpi.BYTE], to, tag))

    def _call_the_roll(self, done: Callable[[], bool], began: float, limit: float) -> None:
        """Ask who is there; RankError when the limit is over, unless it is done before."""
        others = set(range(self.size)) - {self.rank}
        for other in others:
            self._send(other, QUESTION, b"")
        present: set[int] = set()
        # All may be there, and what they wait for on its way: the last one has just arrived.
        while (waited := time.monotonic() - began) < limit + ANSWER * (present == others):
            if done():
                return
            present |= self._listen()
            time.sleep(1e-3)
        if done():
            return
        missing = tuple(sorted(others - present))
        where = f"{self.doing()}, for which {self._who(self.rank)} has waited {waited:.1f} s"
        if not missing:
            message = f"all ranks wait, but not for the same thing: {where}"
        else:
            hosts = ", ".join(sorted({self.hosts[rank] for rank in missing}))
            has = "have" if len(missing) > 1 else "has"
            message = (
                f"{listed(missing)} ({hosts}) {has} not come to {where}: dead, hanging, or slower "
                "than DataParallel(timeout=) allows. A run with checkpoints goes on with resume"
            )
        raise self._lost(RankError(message, missing))


class _OnHost(AllReduce):
    """NumPy's vectors, as they are."""

    def __init__(self, ranks: MpiRanks) -> None:
        self.ranks = ranks

    def __call__(self, vector: Array) -> None:
        self.ranks.sum_in_place(vector)


class _ThroughHost(AllReduce):
    """A copy on the host, summed, and back: MPI must never see a device's address."""

    def __init__(self, ranks: MpiRanks, backend: Backend) -> None:
        self.ranks, self.backend = ranks, backend

    def __call__(self, vector: Array) -> None:
        host = np.array(self.backend.to_host(vector))
        self.ranks.sum_in_place(host)
        vector[...] = self.backend.from_host(host)
