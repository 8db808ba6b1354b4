"""The processes that train one network together, and the one that trains it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from ..backends import Array, Backend
from ..backends._base import dealt


class RankError(RuntimeError):
    """Another process of the training has failed, has died or does not arrive.

    Attributes
    ----------
    ranks : tuple of int
        Which ones, as far as that is known.
    told : bool
        Whether it has said so itself, and shows its own error.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = (), told: bool = False) -> None:
        self.ranks, self.told = ranks, told
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return RankError, (str(self), self.ranks, self.told)


def of_all_ranks(error: Exception) -> Exception:
    """An error that every rank raises at the same moment, so that none has to tell the others."""
    error.of_all_ranks = True  # type: ignore[attr-defined]  # of any class of errors
    return error


class AllReduce:
    """Sums a vector on a backend over all ranks. This one is for a rank that is alone."""

    def __call__(self, vector: Array) -> None:
        """The sum takes the place of the vector; on a device it may be awaited later."""

    def wait(self) -> None:
        """Wait until what was called is done; RankError if that does not end."""

    def close(self, *, abort: bool) -> None:
        """Release what it holds: by all ranks, or at once if a sum will not end."""


class Ranks:
    """One process of several, which call the methods in the same order. This one is alone.

    Attributes
    ----------
    rank, size : int
        Which one this is, from 0, and how many there are.
    processes : int
        How many of them share this one's cores.
    doing : callable
        What is being done, for messages.
    hurried : callable
        Whether this process was told to end, perhaps by a launcher that cleans up after a dead
        one.
    """

    rank, size, processes = 0, 1, 1

    def __init__(self) -> None:
        self.doing: Callable[[], str] = lambda: ""
        self.hurried: Callable[[], bool] = lambda: False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        """The work is done; an error on this rank alone is told to the others."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over the ranks of a small vector on the host."""
        return values

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Every rank's small vector on the host, (size, n)."""
        return values[None]

    def texts(self, text: str) -> list[str]:
        """Every rank's text."""
        return [text]

    def broadcast(self, content: bytes) -> bytes:
        """What rank 0 has."""
        return content

    def all_reduce(self, backend: Backend) -> AllReduce:
        """How vectors on this backend are summed."""
        return AllReduce()

    def first(self, work: Callable[[], Any]) -> Any:
        """What `work` returns: done by rank 0 first, so that the others find its download."""
        return work()


def own_rows(ranks: Ranks, rows: int) -> tuple[int, int]:
    """The first of this rank's rows, and the first after them, as `dealt` deals them out.

    Examples
    --------
    >>> from bpx.parallel.ranks import Ranks, own_rows
    >>> own_rows(Ranks(), 10)
    (0, 10)
    """
    return dealt(rows, ranks.size)[ranks.rank]


def part_sizes(parts: int, rows: int) -> list[int]:
    """How many of `rows` rows each part has, as `dealt` deals them out.

    >>> from bpx.parallel.ranks import part_sizes
    >>> part_sizes(3, 10)
    [3, 3, 4]
    """
    return [stop - first for first, stop in dealt(rows, parts)]


def agreed(ranks: Ranks, wish: bool) -> bool:
    """Whether any rank wishes it."""
    return bool(ranks.sum(np.array([float(wish)]))[0])


def same(ranks: Ranks, what: str, text: str) -> None:
    """ValueError, on all ranks, if one of them has another text than rank 0."""
    found = ranks.texts(text)
    others = [rank for rank, other in enumerate(found) if other != found[0]]
    if others:
        raise of_all_ranks(
            ValueError(f"{what} on {listed(others)} and on rank 0 are not the same any more")
        )


def listed(ranks: list[int] | tuple[int, ...]) -> str:
    """``rank 3``, ``ranks 1, 2``."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
