"""How many threads BLAS takes in a training, and the caller's setting back afterwards.

OpenBLAS spreads a product of 262,144 multiply-adds over all cores, and then waits for each of
them. On two quiet cores that brought 3 % of a step up to 4.2 million multiply-adds a product
(784, six times 128, 10, mini-batches of 32: 219 µs against 225 on one thread); on cores that
others use too it cost up to 20 times the step, because a thread waits for one that does not run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from .. import launcher

# Multiply-adds of the largest product of a step, up to which one thread does all of them. A
# constant, so that a run that is resumed adds in the same order.
ONE_CORE = 4_194_304

_lock = threading.Lock()
_inside: list[Any] = []  # a limit for each run at hand; the first one knows what was set before


@cache
def _controller() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def count() -> int:
    """Threads that BLAS may use now, by its libraries' own settings; 1 if they are not known."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return 1
    return max((library["num_threads"] for library in _controller().info()), default=1)


def for_each_of(processes: int) -> int | None:
    """Cores for one of so many processes that share them; None: what BLAS takes by itself.

    A process that the launcher has bound to cores of its own shares them with none.
    """
    return None if processes < 2 else max(1, len(launcher.cores()) // processes)


# What libraries read when they are loaded: BLAS's, and PyTorch.
VARIABLES = (
    "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


@contextlib.contextmanager
def set_for_each_of(processes: int) -> Iterator[None]:
    """Processes that are started meanwhile share the cores; a variable of the user's counts."""
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
def limited(threads: int) -> Iterator[None]:
    """BLAS on so many, for all threads of the process, until the last run at hand ends."""
    if importlib.util.find_spec("threadpoolctl") is None:
        yield
        return
    with _lock:
        _inside.append(_controller().limit(limits=threads) if not _inside else None)
    try:
        yield
    finally:
        with _lock:
            if len(_inside) == 1:
                _inside[0].restore_original_limits()
            # Whichever run ends first, the one that knows the old setting is kept to the end.
            _inside.pop()
