"""Where the mini-batches of `fit` come from: arrays, data on disk, or a user's iterable.

A source says how many steps an epoch has and in which `order` rows come, names the mini-batches
of that order (`batches`, from any step on), and brings one to the backend (`load`). Data on disk
yield the `parts` of an epoch that are in memory, each with its part of the order.

So that a run can be resumed, it says what it brings (`arguments`, and a `digest` of some of the
data, which have to be the same then), and between two epochs what further ones depend on besides
`Network.generator` (`state`, of JSON), which `load_state` takes back.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import closing
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np

from ..backends import Array, is_sparse, on_host
from ..checks import shortened
from ..context import Workspace
from ..data import arrays
from ..data.arrays import Samples
from ..data.blocks import Blocks, bytes_of_a_row
from ..data.file_windows import WindowReader
from ..data.incoming import Incoming
from ..data.minibatches import epoch_order, steps_of_epoch
from ..names import Names
from ..network import Network
from ..registry import article
from .plausibility import warn_of_coarse, warn_of_several, warn_of_targets

Order = bool | Callable[[], Any]  # see `shuffle` of `Network.fit`
Batch = tuple[Array, Array, Array | None]  # x as the first layer takes it, y, weights


class Arrays:
    """Mini-batches of arrays and memory maps, each gathered into the workspace's buffers."""

    def __init__(
        self,
        net: Network,
        samples: Samples,
        batch_size: int,
        shuffle: Order,
        drop_last: bool = False,
    ) -> None:
        self.chain, self.generator = net.chain, net.generator
        self.samples, self.shuffle, self.drop_last = samples, shuffle, drop_last
        self.batch_size, self.n = batch_size, samples.n
        self.steps = steps_of_epoch(samples.n, batch_size, drop_last)
        self.piece = self.steps  # between two reads of a device's log
        on_disk = isinstance(samples.x, np.memmap) and net.backend.name != "numpy"
        self.by_host = on_disk or is_sparse(samples.x)  # the host picks the rows

    def order(self) -> np.ndarray:
        """The rows of an epoch, in the order in which they come."""
        order = epoch_order(self.generator, self.n, self.shuffle)
        return order[: self.steps * self.batch_size]

    def arguments(self) -> dict[str, Any]:
        return _arguments(self, self.samples.x.dtype, self.samples.weight)

    def digest(self) -> int:
        return digest_of(self.samples)

    def state(self) -> Any:
        """Nothing: a function that gives the rows is called again for each epoch."""
        return None

    def load_state(self, state: Any, epochs: int) -> None:
        """Continue after `epochs` that have ended."""
        if callable(self.shuffle):
            for _ in range(epochs):
                self.shuffle()

    def batches(self, order: Any, first: int = 0) -> Iterator[Any]:
        """Each mini-batch's rows, from step `first` on."""
        backend = self.chain.backend
        order = moved = order[first * self.batch_size :]
        if backend.name != "numpy":
            moved = backend.xp.astype(backend.from_host(order), backend.index_dtype)
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(order)))
            yield order[rows], moved[rows]

    def totals(self, order: Any) -> list[float]:
        """The sum of weights of each mini-batch of these rows on the host, or its size."""
        starts = np.arange(0, len(order), self.batch_size)
        if self.samples.weight is None:
            return [float(rows) for rows in np.diff(starts, append=len(order))]
        return np.add.reduceat(self._weight_on_host[order], starts).tolist()

    def total(self, batch: Any) -> float:
        rows = batch[0]
        return float(len(rows)) if self.samples.weight is None else self.totals(rows)[0]

    @cached_property
    def _weight_on_host(self) -> np.ndarray:
        return self.chain.backend.to_host(self.samples.weight).astype(np.float64)

    def load(self, batch: Any, ws: Workspace) -> Batch:
        on_host, rows = batch
        chain, samples, backend, m = self.chain, self.samples, self.chain.backend, rows.shape[0]
        x = chain.gather(samples.x, on_host if self.by_host else rows, ws)
        y = samples.y
        if y.ndim == 1:
            y = backend.gather(y, rows, ws.buffer("labels", (m,), backend.index_dtype))
        else:
            y = backend.gather(y, rows, ws.buffer("y", (m, *y.shape[1:])))
        weight = samples.weight
        if weight is not None:
            weight = backend.gather(weight, rows, ws.buffer("weight", (m,)))
        return x, y, weight


class Windows:
    """Mini-batches of data on disk, of which two windows are in memory."""

    def __init__(
        self,
        net: Network,
        blocks: Blocks,
        held: tuple[Array, Array | None],
        batch_size: int,
        shuffle: bool,
        finite: bool,
        drop_last: bool,
    ) -> None:
        self.net, self.blocks, self.held = net, blocks, held
        self.batch_size, self.shuffle, self.finite = batch_size, shuffle, finite
        self.n, self.drop_last = blocks.n, drop_last
        self.steps = steps_of_epoch(self.n, batch_size, drop_last)
        self.plan = blocks.plan(batch_size, bytes_of_a_row(held))
        shape = self.plan.capacity, *blocks.shape[1:]
        self.slots = [net.backend.slot(shape, blocks.reader.dtype) for _ in range(2)]
        self.piece = -(-self.plan.capacity // batch_size)  # the steps of a window, at most

    def arguments(self) -> dict[str, Any]:
        found = _arguments(self, self.blocks.reader.dtype, self.held[1])
        return found | {"rows in memory": self.plan.capacity, "blocks": len(self.plan.counts)}

    def digest(self) -> int:
        return digest_of(Samples(self.blocks, *self.held))

    def state(self) -> Any:
        """Nothing: an epoch is a function of the seed that it draws."""
        return None

    def load_state(self, state: Any, epochs: int) -> None:
        """There is none."""

    def order(self) -> int | None:
        """A seed, of which the order of an epoch is a function; None: as the file has it."""
        return int(self.net.generator.integers(1 << 63)) if self.shuffle else None

    def parts(self, order: Any, first: int = 0) -> Generator[tuple[Arrays, Any]]:
        """Each window's rows as arrays, and the order in which they come, from a step on.

        A mini-batch that two windows share belongs to the second.
        """
        reader = WindowReader(self.blocks, self.plan, self.slots, order, self.finite)
        with closing(reader.windows(first * self.batch_size)) as windows:
            for window in windows:
                m, order = self.batch_size, window.order
                if self.drop_last:  # of the last window; the others have whole mini-batches
                    order = order[: len(order) // m * m]
                if len(order):
                    y, weight = (
                        a if a is None else arrays.take(a, window.rows) for a in self.held
                    )
                    samples = Samples(window.x, y, weight)
                    yield Arrays(self.net, samples, m, self.shuffle), order
        self.finite = self.finite and first > 0  # each block is checked once


def _arguments(source: Arrays | Windows, dtype: Any, weight: Any) -> dict[str, Any]:
    """What a run that goes on has to be given alike."""
    return {
        "samples": source.n,
        "dtype of x": str(dtype).rpartition(".")[2],  # without the library's name
        "batch_size": source.batch_size,
        "drop_last": source.drop_last,
        "sample_weight": weight is not None,
        "shuffle": "a function" if callable(source.shuffle) else bool(source.shuffle),
    }


def digest_of(samples: Samples) -> int:
    """CRC-32 of about a hundred of them, which tells other data apart; not of x on disk."""
    found, rows = 0, np.arange(0, samples.n, max(1, samples.n // 100))
    for array in (samples.x, samples.y, samples.weight):
        if array is not None and not isinstance(array, Blocks):
            part = arrays.take(array, rows)
            host = part.toarray() if is_sparse(part) else on_host(part)
            found = zlib.crc32(np.ascontiguousarray(host).data, found)
    return found


def of_samples(
    net: Network,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: Order = True,
    finite: bool = True,
    names: Names | None = None,
    drop_last: bool = False,
) -> Arrays | Windows:
    """Arrays; or what `bpx.open_data` gave, as arrays if it fits into its budget, else windows."""
    if isinstance(x, Blocks):  # before any of it is read
        arrays.check_batch_size(batch_size, x.n)
    samples = net.samples(x, y, sample_weight, finite=finite, names=names)
    size = arrays.check_batch_size(batch_size, samples.n)
    warn_of_several(net, samples.y, "y")
    if drop_last and shuffle is True and samples.weight is not None:
        _check_weights(net.backend.to_host(samples.weight), left_out=samples.n % size)
    if not isinstance(samples.x, Blocks):
        warn_of_coarse(net, samples.x, names)
        if finite and not net.steps:
            warn_of_targets(net, samples.x, samples.y, names)
        return Arrays(net, samples, size, shuffle, drop_last)
    if callable(shuffle):
        raise ValueError(
            "shuffle= as a function picks rows from all over the file, which is read in blocks: "
            "pass True or False, or a larger budget"
        )
    held = samples.y, samples.weight
    return Windows(net, samples.x, held, size, shuffle, finite, drop_last)


def _check_weights(weight: np.ndarray, left_out: int) -> None:
    """ValueError if an epoch may leave out all samples that count."""
    positive = np.count_nonzero(weight > 0.0)
    if positive <= left_out:
        raise ValueError(
            f"drop_last=True leaves {left_out} of the samples out of each epoch, and only "
            f"{positive} have a positive sample_weight: take another batch_size or drop_last=False"
        )


class Stream(Incoming):
    """Mini-batches that a user's iterable brings."""

    piece = 1  # a batch that is gone can't be run again, so each step is read at once
    advice = "; pass a pair of arrays as fit(x, y) or fit(*pair)"

    def __init__(
        self,
        net: Network,
        batches: Any,
        epochs: int,
        n: int | None,
        finite: bool,
        for_arrays: dict[str, Any],
    ) -> None:
        _check_brings_batches(batches)
        super().__init__(net, batches, finite=finite)
        if isinstance(batches, tuple | list) and batches:
            self.check_form(batches[0])  # before what is said about batches, if they are none
        for what, value in for_arrays.items():
            if value is not None:
                own = ", such as bpx.batches(x, y, drop_last=True)" if what == "drop_last" else ""
                raise ValueError(f"{what}= is for arrays; an iterable brings its own batches{own}")
        self.check_repeatable(epochs)
        self.n, self.least_rows = n, net.chain.architecture.least_rows
        self.steps = len(batches) if isinstance(batches, Sized) else None

    def order(self) -> Any:
        """There is none: batches come as they come."""
        return None

    def arguments(self) -> dict[str, Any]:
        return {"x": self.kind}

    def digest(self) -> int:
        return 0  # what it brings is not known

    def batches(self, order: Any, first: int = 0) -> Iterator[Samples]:
        for step, samples in enumerate(self.since(first), first):
            if not step and not self.net.steps:
                warn_of_several(self.net, samples.y, "y of the first mini-batch")
            yield samples

    def checked(self, batch: Any) -> Samples:
        samples = super().checked(batch)
        if samples.n < self.least_rows:
            raise ValueError(
                f"expected {self.least_rows} rows at least, got {samples.n}, in which a "
                "BatchNorm of flat inputs finds no variance: bpx.batches(..., drop_last=True) "
                "leaves such a last one out"
            )
        return samples

    def called(self, step: int) -> str:
        return f"mini-batch {step + 1} of epoch {self.net.epochs + 1}"

    def total(self, samples: Any) -> float:
        """The sum of its weights; without any, its rows."""
        if samples.weight is None:
            return float(samples.n)
        return float(self.net.backend.xp.sum(samples.weight))

    def load(self, batch: Samples, ws: Workspace) -> Batch:
        return self.net.chain.gather(batch.x, slice(None), ws), batch.y, batch.weight


def _check_brings_batches(given: Any) -> None:
    """TypeError for what is no iterable of mini-batches, with how to pass what it has."""
    kind = type(given).__name__
    if getattr(given, "_fields", None) == ("train", "validation", "test"):  # as of bpx.datasets
        came = (
            f"{article(kind)}, which is three parts: train, validation, test = data; "
            "net.fit(*train, validation=validation)"
        )
    elif isinstance(given, str) and given in ("digits", "mnist"):
        came = f"{given!r}: train, validation, test = bpx.datasets.{given}(); net.fit(*train)"
    elif isinstance(given, str | PathLike):
        came = f"the path {str(given)!r}: bpx.open_data({str(given)!r}) reads it"
    elif isinstance(given, Mapping):
        came = f"a mapping of {shortened([*given])}: fit(data['x'], data['y'])"
    elif inspect.isgeneratorfunction(given):
        came = (
            f"the generator function {given.__name__}: pass a list, or an object whose __iter__ "
            "makes a new iterator for each epoch, since a generator is used up after one"
        )
    elif hasattr(given, "shape") or not isinstance(given, Iterable):
        came = f"{kind} and no y"
    else:
        return
    raise TypeError(f"fit takes x and y, or an iterable of (x, y) mini-batches; got {came}")


Source = Arrays | Windows | Stream
