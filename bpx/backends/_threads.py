"""How many threads BLAS takes in a training; the caller's setting is restored afterwards.

OpenBLAS spreads a product of 262,144 multiply-adds over all cores, and then waits for each of
them. On two quiet cores that saved 3 % of a step with up to 4.2 million multiply-adds a product
(784, six times 128, 10, mini-batches of 32: 219 µs against 225 on one thread); on cores that
others use too it cost up to 20 times the step, because a thread waits for one that does not run.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any
from weakref import WeakSet

from .. import launcher

# Multiply-adds of the largest product of a step, up to which one thread does all of them. A
# constant, so that a run that is resumed adds in the same order.
ONE_CORE = 4_194_304

MOST = max(1, (os.cpu_count() or 1) - 1)  # workers


class _Here(threading.local):
    is_spread = False  # whether this thread works on a part of what is spread


_lock, _here = threading.RLock(), _Here()
_idle: list[_Worker] = []
_workers = 0  # that there are, idle or not
# Runs, and calls of `spread`, in progress, each by an object of its own: Ctrl-C may come between
# any two lines, and removing one again, or one not yet there, does nothing.
_runs: set[object] = set()
_spreads: set[object] = set()
_beside: WeakSet[threading.Thread] = WeakSet()
_limit = 1, 1  # of BLAS and of `count`, for all runs: the first one's
# The number BLAS was told; None: none, each library has its own; 0: it is being told.
_told: int | None = None
_before: list[int] = []  # and what each library had before


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries that are loaded; none if threadpoolctl is missing, or of no use."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return []
    try:
        import threadpoolctl

        controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    except (ImportError, AttributeError) as error:  # before version 3, or damaged
        hint = "threadpoolctl is of no use (%s), and BLAS keeps its threads: pip install -U it"
        logging.getLogger("bpx").warning(hint, error)
        return []
    return list(controller.lib_controllers)


def count() -> int:
    """Threads that BLAS or `spread` may use now, by BLAS's settings; 1 if they are not known."""
    if _here.is_spread:  # or it would wait for itself to be free
        return 1
    with _lock:
        if _runs:
            return _limit[1]
        if _spreads:
            return max(_before, default=1)
        return of_blas() or 1


def free() -> int:
    """Of `count`, those that no thread `beside` wants now."""
    with _lock:
        return count() - sum(thread.is_alive() for thread in _beside)


def beside(thread: threading.Thread) -> None:
    """Leave it a core until it ends: it has work of its own."""
    with _lock:
        _beside.add(thread)


def of_blas() -> int:
    """Threads that BLAS takes now; 0 if they are not known."""
    with _lock:
        if _told is not None and _libraries():
            return _told
    return max((library.num_threads for library in _libraries()), default=0)


def beside_blas() -> int:
    """Threads for what is spread, if BLAS is held to one; else 1."""
    if _here.is_spread:
        return 1
    with _lock:
        return count() if _runs and _limit[0] == 1 else 1


def for_each_of(processes: int) -> int | None:
    """Cores for each of the `processes` that share them; None: what BLAS takes by itself.

    A process that the launcher has bound to cores of its own does not share them.
    """
    return None if processes < 2 else max(1, len(launcher.cores()) // processes)


# What BLAS libraries and PyTorch read when they are loaded.
VARIABLES = (
    "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


@contextlib.contextmanager
def set_for_each_of(processes: int) -> Iterator[None]:
    """Let processes started meanwhile share the cores; a variable set by the user counts."""
    threads, own = for_each_of(processes), [name for name in VARIABLES if name not in os.environ]
    if threads is None:
        yield
        return
    os.environ.update(dict.fromkeys(own, str(threads)))
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]


@contextlib.contextmanager
def limited(threads: int, spread: int | None = None) -> Iterator[None]:
    """Limit BLAS to `threads`, for all threads of the process, until the last current run ends.

    `spread` is the number for what is spread, if it differs.
    """
    global _limit
    run = object()
    try:
        with _lock:
            if not _runs:  # whichever run ends first, the first one's limit is kept to the end
                _limit = threads, threads if spread is None else spread
            _runs.add(run)
            _tell()
        yield
    finally:
        try:
            _ended(run)
        except BaseException:  # Ctrl-C, in the midst of it
            _ended(run)
            raise


def _ended(run: object) -> None:
    with _lock:
        _runs.discard(run)
        _tell()


def spread(
    work: Callable[[int], None],
    parts: int,
    watch: Callable[[int], None] | None = None,
    end: Callable[[], None] | None = None,
) -> None:
    """``work(0)`` to ``work(parts - 1)`` at once, each with BLAS on its own thread alone.

    Parts for which no thread is free, because others spread theirs, follow on the calling one.
    Ctrl-C is raised after all of them: they write into the caller's arrays. `watch` waits a little
    for the int64 at an address to change from 0, without sleeping. `end` is called before all are
    waited for, even if the first part has not begun, for which others may wait.
    """
    call, nested = object(), _here.is_spread
    hired: list[_Worker] = []
    error: BaseException | None = None
    try:
        try:
            with _lock:
                _spreads.add(call)
                _tell()
                _hire(parts - 1, hired)
            for k, worker in enumerate(hired, 1):  # NumPy's errstate belongs to a context
                worker.give(partial(contextvars.copy_context().run, work, k))
            _here.is_spread = True
            for k in (0, *range(len(hired) + 1, parts)):
                work(k)
            if watch is not None:  # up to the first that is not done by then
                all(worker.watched(watch) for worker in hired)
        except BaseException:
            for worker in hired:  # one that was given work but not woken would sleep on
                worker.wake()
            raise
        finally:
            error = _dismiss(call, hired, nested, end)
    except BaseException:  # perhaps Ctrl-C, in the midst of it
        _dismiss(call, hired, nested, end)
        raise
    try:
        if error is not None:
            raise error
    finally:
        del error  # whose traceback has this frame, and with it the arrays


def _dismiss(
    call: object, hired: list[_Worker], nested: bool, end: Callable[[], None] | None
) -> BaseException | None:
    """Wait for the workers, then free them; returns what the first of them has raised.

    Called again after an interrupt, it does what is left.
    """
    found: BaseException | None = None
    while True:
        try:
            if end is not None:
                end()
            for worker in hired:
                worker.wait()
            break
        except BaseException as error:  # Ctrl-C, or what another signal's handler raises
            found = error.with_traceback(None)
    for worker in reversed(hired):
        found, worker.error = worker.error or found, None
    _here.is_spread = nested
    with _lock:
        # A signal comes where a function is called or has returned: not between these two.
        _idle[len(_idle) :], hired[:] = hired, []
        _spreads.discard(call)
        _tell()
    return found


class _Worker:
    """A thread for a part of what is spread: one lock wakes it, another says that it is done.

    The queue and the futures of a pool take 20 µs more, and a step of a small residual network
    spreads its work 12 times.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None  # what its last work has raised
        self._work: Callable[[], None] | None = None  # until it is done
        self._over = ctypes.c_int64()  # not 0 if it is done, for those who do not sleep
        self._given, self._done = threading.Lock(), threading.Lock()
        self._given.acquire()
        threading.Thread(target=self._run, name="bpx", daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        self._done = threading.Lock()  # new: Ctrl-C may have left the last one taken
        self._done.acquire()
        self._over.value = 0
        self._work = work
        self.wake()

    def wake(self) -> None:
        if self._given.locked():  # else it has been woken already
            self._given.release()

    def watched(self, watch: Callable[[int], None]) -> bool:
        """Wait a little; whether it seems to be done, of which only `wait` is sure."""
        if self._work is not None:
            watch(ctypes.addressof(self._over))
        return self._over.value != 0

    def wait(self) -> None:
        while self._work is not None:
            self._done.acquire()

    def _run(self) -> None:
        _here.is_spread = True
        while True:
            self._given.acquire()
            if self._work is None:
                continue
            done = self._done
            try:
                self._work()
            except BaseException as error:
                self.error = error
            self._over.value = 1
            self._work = None  # so that its arrays are not kept
            done.release()


def _hire(wanted: int, hired: list[_Worker]) -> None:
    """Hire `wanted` free workers, or as many as can be had; the lock is held."""
    global _workers
    for _ in range(min(wanted - len(_idle), MOST - _workers)):
        try:
            _idle.append(_Worker())
        except RuntimeError:  # the system has no more of them
            break
        _workers += 1
    first = max(0, len(_idle) - wanted)
    hired[:], _idle[first:] = _idle[first:], []


def _forget() -> None:
    """Start anew in a child of a fork, which has neither the threads nor the lock's holder."""
    global _lock, _workers, _told
    _lock = threading.RLock()
    _idle.clear()
    _runs.clear()
    _spreads.clear()
    _workers = 0
    if _told is not None:
        _give_back()
        _told = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _tell() -> None:
    """Tell BLAS its number of threads, if that has changed; the lock is held."""
    global _told
    threads = 1 if _spreads else _limit[0] if _runs else None
    if threads == _told:  # else each `spread` of a step would pay 20 µs
        return
    if _told is None:
        _before[:] = [library.num_threads for library in _libraries()]
    _told = 0
    if threads is None:
        _give_back()
    else:
        for library in _libraries():
            _set(library, threads)
    _told = threads


def _give_back() -> None:
    for library, before in zip(_libraries(), _before, strict=True):
        _set(library, before)


def _set(library: Any, threads: int) -> None:
    # Since threadpoolctl 3.8 only the first thread to set OpenBLAS's number can, and what others
    # set is silently ignored. Here they take turns, by the lock.
    release = getattr(library, "clear_controlling_thread", lambda force=False: None)
    release(force=True)
    library.set_num_threads(threads)
    release()
