"""Steps whose mini-batch is cut: into slices one after another, and a part of each for each rank.

The sums of all parts are those of the mini-batch, whatever the cuts: gradients go, with the 1/Σw
of the whole, into one vector, followed by the sums of cost, right samples and weight; one
all-reduce adds them up, and every rank does the same update. δ is without 1/Σw: layers may sum it
over ranks, of which one may bring weights and another none. Masks are those of the rows in the
whole mini-batch.

Layers that take statistics sum them up over the ranks, slice by slice: a rank without a row of a
slice goes through all layers too, with arrays of 0 rows, so that no other waits for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..backends import Array, is_sparse
from ..backends._base import dealt
from ..chain import Chain
from ..checks import warn
from ..data.arrays import Samples
from ..parallel.ranks import AllReduce, Ranks, of_all_ranks, own_rows, part_sizes
from .agreement import check_parameters
from .sources import Arrays, Source, Stream, digest_of
from .steps import DivergenceError, NonFinite, Steps
from .updates import GradientUpdate

BEHIND = 5  # the log's three sums, and two questions
COMPARED = 1000  # steps between two comparisons of the ranks' parameters


@dataclass(frozen=True)
class Share:
    """A rank's share of a mini-batch.

    Attributes
    ----------
    parts : list of (batch, int, int)
        Of each slice that it goes through, as the source loads it: its own rows, the place of the
        first of them in the mini-batch, and how many rows the slice has on all ranks together.
    total : float
        The mini-batch's sum of weights, or its rows.
    """

    parts: list[tuple[Any, int, int]]
    total: float


def gone_through(
    chain: Chain, bounds: Iterable[tuple[int, int]], rows: Iterable[int]
) -> Iterator[tuple[int, int, int]]:
    """The `bounds` of a rank's rows in each slice that it goes through, and the slice's `rows`.

    Where layers sum up statistics, these are the slices in which any rank has rows.
    """
    for (first, stop), count in zip(bounds, rows, strict=True):
        if first < stop or (count and chain.architecture.statistics):
            yield first, stop, count


def rows_of_slices(rows: Sequence[int], slices: int) -> list[int]:
    """How many rows each slice has on all ranks together, if each rank cuts its own `rows`.

    >>> from bpx.training.slices import rows_of_slices
    >>> rows_of_slices([5, 4], 2)
    [4, 5]
    """
    return [sum(of_ranks) for of_ranks in zip(*(part_sizes(slices, n) for n in rows), strict=True)]


class SharedStream(Stream):
    """An iterable on each rank, which brings that rank's part of each mini-batch.

    An epoch lasts until the last of them has ended.
    """

    def __init__(self, ranks: Ranks, slices: int, *stream: Any) -> None:
        super().__init__(*stream)
        self.ranks, self.slices = ranks, slices
        self.least_rows = 1  # of each rank's part; for all of them see `check_statistics`
        self._compared = ranks.size == 1

    def batches(self, order: Any, first: int = 0) -> Iterator[Any]:
        own = super().batches(order, first)
        for step in itertools.count(first):
            samples = next(own, None)
            rows = 0 if samples is None else samples.n
            total = 0.0 if samples is None else self.total(samples)
            told = self.ranks.gather(np.array([float(samples is None), rows, total]))
            if told[:, 0].all():
                return
            together = rows_of_slices(told[:, 1].astype(int).tolist(), self.slices)
            check_statistics(self.net.chain, together, self.called(step))
            if not self._compared:
                self._compare_first(samples)
            before = int(told[: self.ranks.rank, 1].sum())
            here = self._no_rows() if samples is None else samples
            cuts = gone_through(self.net.chain, dealt(rows, self.slices), together)
            parts = [(_rows_of(here, a, b), before + a, count) for a, b, count in cuts]
            yield Share(parts, float(told[:, 2].sum()))

    def _no_rows(self) -> Samples:
        """Of an iterable that has ended before those of other ranks."""
        backend, chain = self.net.backend, self.net.chain
        shapes = self.net.input_shape, chain.architecture.output_shape
        x, y = (backend.zeros((0, *shape), chain.xp_dtype) for shape in shapes)
        return Samples(x, y, None)

    def _compare_first(self, samples: Samples | None) -> None:
        self._compared = True
        digests = self.ranks.texts("" if samples is None else f"{digest_of(samples):08x}")
        if len(set(digests)) == 1 and self.ranks.rank == 0:
            warn(
                f"the iterables of all {self.ranks.size} ranks begin with the same samples: each "
                "should bring its own part of every mini-batch",
                UserWarning,
            )


def _rows_of(samples: Any, start: int, stop: int) -> Samples:
    x, rows = samples.x, slice(start, stop)
    part = x[rows] if is_sparse(x) else x[rows, ...]
    return Samples(part, *samples.beside(rows))


class SharedSteps(Steps):
    """As `Steps`, on this rank's share of each mini-batch.

    Parameters
    ----------
    ranks : Ranks
    slices : int
        How many slices each share has, one after another.
    """

    def __init__(self, ranks: Ranks, slices: int, *of_steps: Any) -> None:
        super().__init__(*of_steps)
        update, backend = self.update, self.chain.backend
        assert isinstance(update, GradientUpdate)  # see `update_for`
        self.ranks, self.slices = ranks, slices
        self.room = update.room
        self._behind = update.room[-BEHIND:]
        self._sum = ranks.all_reduce(backend)
        self.ws.batch_sum = partial(_over_ranks, self._sum)  # not a method: see `Workspace`
        self._sums = backend.zeros((1, 3), self.chain.xp_dtype)
        self._answers: dict[str, bool] = {}

    def one(self, batch: Any, at: int) -> None:
        self.ws.step = step = self.net.steps
        if step and step % COMPARED == 0 and self.ranks.size > 1:
            self._sum.wait()  # a copy to the host would not hear that a rank is gone
            check_parameters(self.net, self.ranks)
        share = self._share(batch)
        self.note_squares(at)
        self._gradient(share)
        self._add_up()
        self.log[at, ...] = self._behind[:3]
        if self.chain.backend.is_host and not np.isfinite(float(self.log[at, 0])):
            raise NonFinite
        self.update.after_backward(self.update.scalars(self.state.step, 1.0, share.total))
        self.count(1)

    def _share(self, batch: Any) -> Share:
        if isinstance(batch, Share):  # as a `SharedStream` brings it
            return batch
        assert isinstance(self.source, Arrays)
        on_host, rows = batch
        slices, bounds = dealt(len(on_host), self.slices), []
        for first, stop in slices:
            own, end = own_rows(self.ranks, stop - first)
            bounds.append((first + own, first + end))
        cuts = gone_through(self.chain, bounds, [stop - first for first, stop in slices])
        parts = [((on_host[a:b], rows[a:b]), a, count) for a, b, count in cuts]
        return Share(parts, self.source.total(batch))

    def _gradient(self, share: Share) -> None:
        """This rank's part of the gradient of the mini-batch's mean cost; its sums behind it."""
        chain, ws, out = self.chain, self.ws, self.update.out
        alpha = 1.0 / share.total if share.total > 0.0 else 1.0
        if not share.parts:
            self.room[...] = 0.0
        if self._sums.shape[0] < len(share.parts):
            self._sums = chain.backend.zeros((len(share.parts), 3), chain.xp_dtype)
        for k, (part, first, rows) in enumerate(share.parts):
            ws.row, ws.rows = first, rows
            x, y, weight = self.source.load(part, ws)
            values, a, delta, saved = chain.cost_and_delta(x, y, ws, weight)
            chain.backend.tally(values, chain.correct(a, y), weight, self._sums, k)
            # The first slice overwrites what an optimizer left there.
            beta = 0.0 if k == 0 else 1.0
            out.set_scalars(alpha, beta, beta)
            chain.backward(delta, saved, out, ws)
        ws.row = ws.rows = 0
        if share.parts:
            slices = self._sums[: len(share.parts), ...]
            self._behind[:3] = chain.backend.xp.sum(slices, axis=0)

    def _add_up(self) -> None:
        """Sum over the ranks: the gradient, the sums behind it, and what each of them asks."""
        wishes = [question() for question in self._questions.values()]
        if not self.chain.backend.is_host:
            # By MPI: the device is not waited for, and a rank that is gone is noticed here.
            told = self.ranks.sum(np.array(wishes, dtype=np.float64)).tolist()
            self._sum(self.room)
        else:
            for at, wish in enumerate(wishes, 3):
                self._behind[at] = float(wish)
            self._sum(self.room)
            told = [float(self._behind[at]) for at, _ in enumerate(wishes, 3)]
        self._answers = dict(zip(self._questions, map(bool, told), strict=True))

    def answer(self, name: str) -> bool:
        """The answer after the last step, only once: what it asks for is done then."""
        return self._answers.pop(name, False)

    def read(self, count: int, first: int = 0) -> np.ndarray | None:
        self._sum.wait()
        return super().read(count, first)

    def diverged(self, piece: list[Any], done: int) -> DivergenceError:
        error = super().diverged(piece, done)
        if self.ranks.size > 1:
            of_all_ranks(error)  # the log is the same everywhere
        return error

    def _first_bad(self, batch: Any) -> int:
        share = self._share(batch)
        found = len(self.net.layers)
        for part, first, rows in share.parts:
            self.ws.row, self.ws.rows = first, rows
            found = min(found, super()._first_bad(part))
        self.ws.row = self.ws.rows = 0
        return int(self.ranks.gather(np.array([float(found)])).min())


def _over_ranks(add_up: AllReduce, array: Array) -> Array:
    """Turn sums over the rows at hand into those over the mini-batch, or over a slice of it."""
    total = array + 0.0
    add_up(total)
    return total


def check_cuts(chain: Chain, source: Source, slices: int) -> None:
    """ValueError if a mini-batch has fewer rows than the slices it is to be cut into.

    An iterable's are checked when they come.
    """
    if isinstance(source, Stream):
        return
    if slices > source.batch_size:
        raise ValueError(
            f"expected accumulate <= {source.batch_size}, the rows of a mini-batch, got {slices}"
        )
    last = source.batch_size
    if not source.drop_last:
        last = source.n % last or last
    check_statistics(chain, part_sizes(slices, last))


def check_statistics(chain: Chain, rows: Sequence[int], called: str = "a mini-batch") -> None:
    """ValueError, on all ranks, if layers cannot take their statistics from a mini-batch.

    `rows` are those of each slice on all ranks together; a slice of none is left out.
    """
    if not chain.architecture.statistics:
        return
    least = chain.architecture.least_rows
    fewest = min((count for count in rows if count), default=least)
    if fewest >= least:
        return
    slice_of, mend = "", "Leave that one out by drop_last=True, or take another batch_size"
    if sum(rows) >= least:
        slice_of, mend = "a slice of ", "Take a smaller accumulate=, or a larger batch_size"
        mend += "; drop_last=True leaves the last one out, if it alone is so small"
    raise of_all_ranks(
        ValueError(
            f"{slice_of}{called} has {fewest} row, in which a BatchNorm of flat inputs "
            f"finds no variance: expected {least} at least, also in the last mini-batch of an "
            f"epoch. {mend}"
        )
    )
