"""Blocks in a new order, and rows in a new order inside windows of them, read one window ahead.

An epoch deals the blocks out to windows, each from all over the file, and goes through the rows of
a window in an order of their own. Two windows are in memory: one is trained on, the next one is
read on a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..backends import Array
from ..backends._threads import beside

if TYPE_CHECKING:
    from ..backends._slot import Slot
    from .blocks import Blocks


AHEAD = 8  # blocks that a disk is told of, and as many more, before they are read


@dataclass(frozen=True)
class WindowPlan:
    """How epochs deal the rows of a file out to windows.

    Attributes
    ----------
    borders : ndarray
        Block k is the reader's rows from ``borders[k]`` to ``borders[k + 1]``.
    counts : ndarray
        Samples in each block: its rows, except those that are held out.
    capacity : int
        Rows of a buffer: of a window, and what the window before left over, less than a batch.
    batch_size : int
    """

    borders: np.ndarray
    counts: np.ndarray
    capacity: int
    batch_size: int

    @property
    def first(self) -> np.ndarray:
        """The first sample of each block."""
        return np.cumsum(self.counts) - self.counts

    def windows(self, seed: int | None) -> list[np.ndarray]:
        """The blocks of each window of an epoch, a pure function of its seed; None: as they come.

        Each of k windows gets one of every k neighbouring blocks, so that it has rows from all
        over the file, even a sorted one. They are read in the order of the file.
        """
        sizes, room = np.diff(self.borders), self.capacity - self.batch_size + 1
        if seed is None:
            return self._as_they_come(sizes.tolist(), room)
        draw = np.random.default_rng((seed, 0))
        count = -(-int(sizes.sum()) // room)
        while True:
            groups = -(-len(sizes) // count)
            dealt = draw.permuted(np.tile(np.arange(count), (groups, 1)), axis=1).ravel()
            dealt = dealt[: len(sizes)]
            if np.bincount(dealt, weights=sizes).max() <= room:
                break
            count += 1  # blocks differ in size; at worst it is one block per window
        ends = np.cumsum(np.bincount(dealt))
        return np.split(np.argsort(dealt, kind="stable"), ends[:-1])

    @staticmethod
    def _as_they_come(sizes: list[int], room: int) -> list[np.ndarray]:
        found, first, rows = [], 0, 0
        for at, size in enumerate(sizes):
            if rows + size > room:
                found.append(np.arange(first, at))
                first, rows = at, 0
            rows += size
        return [*found, np.arange(first, len(sizes))]

    @staticmethod
    def order(seed: int | None, window: int, rows: int) -> np.ndarray:
        """The order in which the rows of a window come."""
        if seed is None:
            return np.arange(rows)
        return np.random.default_rng((seed, window + 1)).permutation(rows)


class Window(NamedTuple):
    """Rows in memory.

    Attributes
    ----------
    x : array
        On the backend.
    host : ndarray
        The same.
    rows : ndarray
        Which of the data's samples they are, where they are in `order` or `left`.
    order : ndarray
        Whole mini-batches of these rows, one after another; in the last window, all.
    left : ndarray
        Rows for the next window.
    """

    x: Array
    host: np.ndarray
    rows: np.ndarray
    order: np.ndarray
    left: np.ndarray


class WindowReader:
    """The windows of one epoch, each read on a thread while the one before is in use.

    Parameters
    ----------
    blocks : Blocks
    plan : WindowPlan
    slots : two Slot
        The buffers, of ``plan.capacity`` rows.
    seed : int or None
        Of the epoch's order; None: the file's.
    finite : bool
        Look for NaN and infinity.
    """

    def __init__(
        self,
        blocks: Blocks,
        plan: WindowPlan,
        slots: Sequence[Slot],
        seed: int | None,
        finite: bool,
    ) -> None:
        self.blocks, self.plan, self.slots = blocks, plan, slots
        self.seed, self.finite = seed, finite
        self._windows, self._closed = plan.windows(seed), False

    def windows(self, row: int = 0) -> Generator[Window]:
        """The windows from this row of the order on, one read ahead; closing it ends the thread.

        A window is good until the next one is asked for.
        """
        sizes = [int(self.plan.counts[blocks].sum()) for blocks in self._windows]
        ends = np.cumsum(sizes)
        if row >= ends[-1]:  # the epoch has no rows left
            return
        first = int(np.searchsorted(ends, row, side="right"))
        skipped = row - int(ends[first] - sizes[first])
        coming = self._coming(first, None, skipped)
        try:
            for k in range(first + 1, len(sizes) + 1):
                window = coming.window()
                if k < len(sizes):
                    self.slots[k % 2].left()
                    coming = self._coming(k, window)
                yield window
        finally:
            self._closed = True
            coming.join()

    def _coming(self, k: int, before: Window | None, skipped: int = 0) -> _Coming:
        coming = _Coming(partial(self._window, k, before, skipped))
        beside(coming)  # steps on the window before leave it a core
        return coming

    def _window(self, k: int, before: Window | None, skipped: int) -> Window:
        """On the thread: read it after what the one before has left, and move it."""
        slot, plan = self.slots[k % 2], self.plan
        borders, first, m = plan.borders, plan.first, plan.batch_size
        left = 0 if before is None else len(before.left)
        rows = np.zeros(plan.capacity, np.int64)
        if before is not None:
            slot.host[:left] = before.host[before.left]
            rows[:left] = before.rows[before.left]
        at, places, numbers = left, [np.arange(0)], self._windows[k]
        pieces = list(zip(borders[numbers].tolist(), borders[numbers + 1].tolist(), strict=True))
        reader = self.blocks.reader
        with reader.opened() as read:
            for turn, (block, (start, stop)) in enumerate(
                zip(numbers.tolist(), pieces, strict=True)
            ):
                if self._closed:
                    raise InterruptedError("nobody waits for it any more")
                if turn % AHEAD == 0:
                    reader.announce(pieces[turn + AHEAD if turn else 0 : turn + 2 * AHEAD])
                out = slot.host[at : at + stop - start]
                self.blocks.read_block(read, block, start, out, self.finite)
                places.append(at + self.blocks.inside(start, stop))
                rows[places[-1]] = first[block] + np.arange(len(places[-1]))
                at += stop - start
        place = np.concatenate(places)
        order = place[plan.order(self.seed, k, len(place))][skipped:]
        order = np.concatenate([np.arange(left), order])
        last = k == len(self._windows) - 1
        stop = len(order) if last else len(order) // m * m
        return Window(slot.moved(at), slot.host[:at], rows[:at], order[:stop], order[stop:])


class _Coming(threading.Thread):
    """A window that is being read. A pool's threads read none once the main thread has ended."""

    def __init__(self, read: Callable[[], Window]) -> None:
        super().__init__(target=self._keep, args=(read,), name="bpx-blocks")
        self._found: Window | None = None
        self._error: BaseException | None = None
        self.start()

    def _keep(self, read: Callable[[], Window]) -> None:
        try:
            self._found = read()
        except BaseException as error:
            self._error = error
            del self  # else its traceback has it: a cycle, in which buffers wait to be collected

    def window(self) -> Window:
        self.join()
        if self._found is not None:
            return self._found
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error
