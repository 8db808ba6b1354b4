"""What several processes do together; `mpiexec -n k python among_ranks.py CASE [FOLDER]`.

Rank 0 prints the outcome as JSON, and `test_parallel.py` checks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from mpi4py import MPI
from test_layers import NoisyNorm

import bpx
from bpx.activations import ACTIVATIONS
from bpx.augmentation import Elastic, Noise, Rotate, Shift
from bpx.layers import (
    Activation,
    BatchNorm,
    Columns,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    LayerNorm,
    MaxPool2D,
    Rescale,
    Reshape,
    Residual,
)
from bpx.optimizers import OPTIMIZERS

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
CHANGES = [Shift(1), Rotate(40), Elastic(2.0, 1.0), Noise(0.1)]
SOON = bpx.DataParallel(timeout=8.0)


def network(hidden="tanh", *, dropout=0.0, backend="numpy", output="softmax", seed=3):
    layers = [Input(6), Rescale(0.5, 0.1), Dense(7, hidden)]
    layers += [Dropout(dropout)] if dropout else []
    layers += [Dense(5, hidden), Dense(3, output)]
    cost = "cross-entropy" if output == "softmax" else "quadratic"
    return bpx.Network(layers, cost=cost, dtype="float64", seed=seed, backend=backend)


def samples(n=23):
    draw = np.random.default_rng(7)
    return draw.normal(size=(n, 6)), draw.integers(3, size=n), draw.uniform(0.5, 2.0, size=n)


def statistics():
    layers = [Input(6), Dense(7, "tanh"), NoisyNorm(), Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=3)


def convolution():
    layers = [Input(6), Reshape((1, 2, 3)), Conv2D(4, 2, "tanh", padding="same"), MaxPool2D(2)]
    return bpx.Network([*layers, Flatten(), Dense(3, "softmax")], dtype="float64", seed=3)


def normalized(backend="numpy"):
    """Statistics of flat inputs and of images, also in layers of a layer; and of each sample."""
    block = [Conv2D(4, 2, padding="same", use_bias=False), BatchNorm(), Activation("tanh")]
    around = [Conv2D(4, 1), BatchNorm(0.3)]
    layers = [Input(6), Reshape((1, 2, 3)), Residual([*block, Dropout(0.2)], around), LayerNorm()]
    layers += [Flatten(), Dense(7, use_bias=False), BatchNorm(), Activation("silu")]
    layers += [BatchNorm(trainable=False), Residual([Dropout(0.3), Dense(7)])]
    layers += [Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=3, backend=backend)


def normalized_images():
    """With statistics of several values in one row."""
    layers = [Input(6), Reshape((1, 2, 3)), Conv2D(4, 2, use_bias=False), BatchNorm()]
    layers += [Activation("relu"), Flatten(), Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=3)


def embedded():
    layers = [Input(6), Embedding(9, 4), Flatten(), Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=3)


def branched():
    """Statistics and masks in a branch, beside the vectors of a category."""
    category = [Columns([0]), Embedding(9, 4), Flatten()]
    others = [Columns(range(1, 6)), Dense(4), BatchNorm(), Dropout(0.3)]
    layers = [Input(6), Concatenate([category, others]), Dense(3, "softmax")]
    return bpx.Network(layers, dtype="float64", seed=3)


def differ(one, other):
    to_host = one.backend.to_host
    vectors = (one.parameters, other.parameters), (one.state, other.state)
    pairs = [(to_host(first), to_host(second)) for first, second in vectors]
    return max(float(np.abs(first - second).max(initial=0.0)) for first, second in pairs)


def both(make, *data, parallel="mpi", together=(), callbacks=(), **options):
    """The largest difference in parameters, history and costs between alone and together.

    On any of the ranks.
    """
    alone, shared = make(), make()
    costs, theirs = [], []  # of each step; NaN where a mini-batch has no weight

    def fit(net, data, costs, **more):
        given = [callbacks] if isinstance(callbacks, bpx.Callback) else callbacks
        told = [*given, lambda run: costs.extend(np.nan_to_num(run.step_costs))]
        return net.fit(*data, callbacks=told, **more, **options)

    one = fit(alone, data, costs)
    many = fit(shared, together or data, theirs, parallel=parallel)
    names = [name for name in one if name != "seconds"]
    rows = max(float(np.abs(np.subtract(one[name], many[name])).max()) for name in names)
    assert list(one) == list(many)
    largest = max(differ(alone, shared), rows, float(np.abs(np.subtract(costs, theirs)).max()))
    return MPI.COMM_WORLD.allreduce(largest, MPI.MAX)


def optimizers():
    found = {name: cls(0.05) for name, cls in OPTIMIZERS.builtin.items()}
    return found | {
        "momentum": bpx.SGD(0.05, momentum=0.9),
        "nesterov": bpx.SGD(0.05, momentum=0.9, nesterov=True),
        "decay": bpx.AdamW(bpx.schedules.Cosine(0.05, 10), weight_decay=0.1),
    }


def steps():
    """One step with each layer and optimizer, and whole epochs with everything else."""
    x, y, w = samples()
    one = {"epochs": 1, "batch_size": 23}
    found = {
        f"optimizer {name}": both(network, x, y, optimizer=optimizer, **one)
        for name, optimizer in optimizers().items()
    }
    for name in ACTIVATIONS.builtin:
        found[f"activation {name}"] = both(lambda name=name: network(name), x, y, **one)
    few = {"epochs": 2, "batch_size": 7}  # the last of four has two rows
    found["dropout"] = both(lambda: network(dropout=0.4), x, y, **few)
    found["slices"] = both(lambda: network(dropout=0.4), x, y, accumulate=3, **few)
    found["no last rows"] = both(network, x, y, accumulate=2, l2=0.3, drop_last=True, **few)
    found["no last row"] = both(normalized, x, y, epochs=2, batch_size=11, drop_last=True)
    found["weights"] = both(network, x, y, sample_weight=w, **few)
    none = np.where(np.arange(23) < 7, 0.0, w)
    found["weights of 0"] = both(network, x, y, sample_weight=none, shuffle=False, **few)
    found["fewer rows than ranks"] = both(network, x, y, epochs=1, batch_size=2)
    found["penalties"] = both(network, x, y, l1=0.1, l2=0.3, clip_norm=0.05, **few)
    found["penalties by batch"] = both(network, x, y, l2=0.3, n="batch", sample_weight=w, **few)
    found["clipped values"] = both(network, x, y, clip_value=0.01, **few)
    found["statistics of batches"] = both(statistics, x, y, epochs=2, batch_size=12)
    found["normalization"] = both(normalized, x, y, epochs=2, batch_size=12)
    weighed = {"sample_weight": w, "clip_norm": 0.1, "l2": 0.3}
    found["normalization, weights"] = both(normalized, x, y, epochs=2, batch_size=12, **weighed)
    found["fewest rows"] = both(
        normalized, x[: SIZE + 1], y[: SIZE + 1], epochs=1, batch_size=SIZE + 1
    )
    found |= without_rows(x, y, weighed)
    words = np.abs(x * 3).astype(int) % 9
    found["embedding"] = both(embedded, words, y, accumulate=2, **few)
    mixed = np.column_stack([words[:, 0], x[:, 1:]])
    found["branches"] = both(branched, mixed, y, epochs=2, batch_size=12)
    found["branches without rows"] = both(branched, mixed, y, **few)
    found["convolution"] = both(convolution, x, y, accumulate=2, **few)
    changed = {"augment": CHANGES, **few}
    found["augmentation"] = both(convolution, x, y, **changed)
    found["augmentation in slices"] = both(convolution, x, y, accumulate=2, **changed)
    found["progress"] = both(network, x, y, progress=True, **few)
    rest = {"validation": (x[:9], y[:9], w[:9]), "callbacks": bpx.EarlyStopping(1)}
    turns = bpx.SGD(1.0)  # stops after some epochs
    found["validation"] = both(network, x, y, epochs=9, batch_size=7, optimizer=turns, **rest)
    targets = np.random.default_rng(1).normal(size=(23, 3))
    found["regression"] = both(lambda: network(output="identity"), x, targets, **few)
    for backend in bpx.backends.available():
        if backend.why is None and backend.name != "cupy":
            made = both(lambda name=backend.name: network(backend=name), x, y, **few)
            found[f"backend {backend.name}"] = made
    return found


def without_rows(x, y, weighed):
    """Statistics of mini-batches, and of slices, in which some ranks have no rows."""
    # In small steps: two rows have x̂ = ±1, of which δ keeps nothing but rounding, over √(v + ε).
    few = {"epochs": 2, "batch_size": 7, "optimizer": bpx.SGD(0.01)}
    held_out = {"validation": (x[:2], y[:2])}
    slices, changed = {"epochs": 2, "batch_size": 6, "accumulate": 2}, {"augment": CHANGES, **few}
    one = {"epochs": 2, "batch_size": 11, "accumulate": 3}  # the last of three has a row
    found = {
        "normalization without rows": both(normalized, x, y, **few, **held_out),
        "its weights": both(normalized, x, y, **few, **weighed),
        "its slices": both(normalized, x, y, **slices),
        "its images": both(normalized_images, x, y, **one),
        "its augmentation": both(normalized, x, y, **changed),
        "its own layer": both(statistics, x, y, **few),
    }
    for backend in bpx.backends.available():
        if backend.why is None and backend.name not in ("cupy", "numpy"):
            make = lambda name=backend.name: normalized(name)  # noqa: E731
            found[f"its backend {backend.name}"] = both(make, x, y, **few)
    return found


def mine(batches):
    """This rank's part of each, as an iterable would bring it; of some, nothing."""
    for x, y, w in batches:
        part = slice(RANK * len(x) // SIZE, (RANK + 1) * len(x) // SIZE)
        if part.stop > part.start:
            yield x[part], y[part], w[part]


def iterables(folder):
    x, y, w = samples()
    cut = [(x[at : at + 7], y[at : at + 7], w[at : at + 7]) for at in range(0, 21, 7)]
    whole, part = cut, list(mine(cut))
    options = {"epochs": 2, "n": "batch", "l2": 0.3}
    found = {"iterable": both(lambda: network(dropout=0.3), whole, together=[part], **options)}
    changed = options | {"augment": CHANGES}
    found["augmentation"] = both(convolution, whole, together=[part], **changed)
    found["slices"] = both(network, whole, together=[part], accumulate=2, **options)
    found["normalization"] = both(normalized, whole, together=[part], **options)
    last = [*cut, (x[21:], y[21:], w[21:])]  # of two rows
    found["without rows"] = both(normalized, last, together=[list(mine(last))], **options)
    # As many slices as rows, and so other statistics than alone.
    one, many = normalized_images(), normalized_images()
    many.fit(list(mine(last)), epochs=1, accumulate=7, parallel="mpi")
    one.copy_from(many)
    MPI.COMM_WORLD.Bcast(one.state)
    found["many slices"] = MPI.COMM_WORLD.allreduce(differ(one, many), MPI.MAX)
    # Rank 0 alone brings weights, and statistics' part of δ is summed over all ranks.
    some = [(x, y, np.where(np.arange(7) < 7 // SIZE, w, 1.0)) for x, y, w in cut]
    part = [batch[: 2 + (RANK == 0)] for batch in mine(some)]
    found["weights of one rank"] = both(normalized, some, together=[part], **options)
    long = cut if RANK == SIZE - 1 else cut[:2]  # one has more than the others
    one, many = network(), network()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        many.fit(long, epochs=1, parallel="mpi")
    told = [str(each.message) for each in caught]
    same = f"the iterables of all {SIZE} ranks begin with the same samples: each should bring"
    assert [each[: len(same)] for each in told] == [same] * (RANK == 0 and SIZE > 1), told
    assert {each.filename for each in caught} <= {__file__}
    first = [tuple(np.concatenate([a] * SIZE) for a in batch) for batch in cut[:2]]
    one.fit([*first, cut[2]], epochs=1)
    found["one is longer"] = differ(one, many)
    # For validation: each rank's own part; or the same on all, whose means are the same.
    for part, kind in ((list(mine(cut)), "own"), (cut, "same")):
        one, many = network(), network()
        alone = one.fit(x, y, epochs=2, validation=cut)
        told = many.fit(x, y, epochs=2, validation=part, parallel="mpi")
        names = "validation_cost", "validation_accuracy"
        apart = [np.subtract(alone[name], told[name]) for name in names]
        found[f"validation, {kind}"] = float(np.abs(apart).max())
    path = Path(folder) / "x.npy"
    if RANK == 0:
        np.save(path, np.tile(x, (40, 1)))
    MPI.COMM_WORLD.Barrier()
    many_y = np.tile(y, 40)
    block = bpx.open_data(path, many_y, budget=30_000)
    assert not block.fits(8)
    found["windows"] = both(network, block, epochs=2, batch_size=30)
    changed = {"epochs": 2, "batch_size": 30, "augment": CHANGES}
    found["augmentation in windows"] = both(convolution, block, **changed)
    sparse = __import__("scipy.sparse").sparse.csr_array(np.where(x > 1.0, x, 0.0))
    dense = lambda: bpx.Network([6, 4, 3], dtype="float64", seed=1)  # noqa: E731
    found["sparse"] = both(dense, sparse, y, epochs=2, batch_size=7)
    found["sparse without rows"] = both(statistics, sparse, y, epochs=2, batch_size=7)
    return found


def digits():
    """Ten epochs of a network where rounding does not grow."""
    x, y = bpx.datasets.digits()[0]
    make = lambda: bpx.Network([64, 30, 10], dtype="float64", seed=0)  # noqa: E731
    return {"digits": both(make, x, y, epochs=10, batch_size=10)}


def alike(folder):
    """All ranks begin with rank 0's numbers; and the error on each of them when they differ."""
    x, y, _ = samples()
    first = network(seed=0)
    first.fit(x, y, epochs=2, batch_size=7, optimizer=bpx.Adam(0.01))
    mine = network(seed=RANK)
    mine.fit(x, y, epochs=1 if RANK else 0, optimizer=bpx.Adam(0.01))
    mine.fit(x, y, epochs=2, batch_size=7, optimizer=bpx.Adam(0.01), parallel="mpi")
    found = {"seeds": differ(first, mine)}
    try:
        network().fit(x, y, batch_size=5 + (RANK == 1), parallel="mpi")
    except ValueError as error:
        found["arguments"] = str(error)

    try:
        network().fit(x, y, epochs=1 + (RANK == 1), parallel="mpi")
    except ValueError as error:
        found["epochs"] = str(error)

    try:
        path = Path(folder) / "none"
        network().fit(x, y, checkpoint=path, resume=RANK == 0, parallel="mpi")
    except ValueError as error:
        found["resume"] = str(error)

    try:
        elsewhere = network(backend="array_api_strict:device1" if RANK == 1 else "numpy")
        elsewhere.fit([(x, y)], epochs=1, parallel="mpi")
    except ValueError as error:
        found["backend"] = str(error)

    try:
        network().fit(x + (RANK == 2), y, parallel="mpi")
    except ValueError as error:
        found["data"] = str(error)

    try:
        normalized().fit(x, y, batch_size=11, parallel="mpi")
    except ValueError as error:
        found["few rows"] = str(error)

    try:
        brought = [(x[:7] + RANK, y[:7])] * 2 + [(x[:1], y[:1])] * (RANK == 2)
        normalized().fit(brought, epochs=1, parallel="mpi")
    except ValueError as error:
        found["few rows brought"] = str(error)
    try:
        holes = np.where(np.arange(23)[:, None] < 22, x, np.nan)
        statistics().fit(
            holes, y, shuffle=False, check_finite=False, batch_size=23, parallel="mpi"
        )
    except bpx.DivergenceError as error:
        found["holes"] = str(error)

    class Watch(bpx.Callback):
        def on_step_end(self, run):
            pass

    try:
        network().fit(x, y, callbacks=Watch() if RANK == 0 else (), parallel="mpi")
    except ValueError as error:
        found["hooks"] = str(error)

    def spoil(run):
        if run.rank == 1:
            run.net.parameters[0] += 1e-9

    try:
        network().fit(x, y, epochs=2, callbacks=spoil, parallel="mpi")
    except ValueError as error:
        found["parameters"] = str(error)
    order = np.random.default_rng(RANK)
    try:
        network().fit(x, y, epochs=2, shuffle=lambda: order.permutation(23), parallel="mpi")
    except ValueError as error:
        found["order"] = str(error)
    path = Path(folder) / f"{RANK}.npy"
    np.save(path, np.tile(x, (40, 1)))
    rows = bpx.open_data(path, np.tile(y, 40), budget=30_000)

    def draw(run):
        if run.rank == 1:
            run.net.generator.random()

    try:
        network().fit(rows, epochs=2, batch_size=30, callbacks=draw, parallel="mpi")
    except ValueError as error:
        found["windows"] = str(error)
    try:
        linear = network("identity", output="identity")
        linear.fit(x, np.eye(3)[y], batch_size=7, optimizer=bpx.SGD(1e60), parallel="mpi")
    except bpx.DivergenceError as error:
        found["diverged"] = str(error)
    # All of these errors came on all ranks at once, and they can go on together.
    told = MPI.COMM_WORLD.allgather({k: v for k, v in found.items() if k != "seeds"})
    found["same on all"] = all(one == told[0] for one in told)
    found["after"] = both(network, x, y, epochs=1, batch_size=7)
    return found


def cores():
    """How many processes share this one's cores: all, or none where each was bound to its own."""
    from bpx import launcher

    found = {}
    for name, mine in (("all", [0, 1]), ("own", [RANK])):
        launcher.cores = lambda mine=mine: mine
        with SOON.join() as ranks:
            found[name] = ranks.processes
    return found


def misused():
    """The errors for a communicator that leaves out this rank, and for one that is gone."""
    x, y, _ = samples()
    found = {}
    left_out = MPI.COMM_WORLD.Split(MPI.UNDEFINED)
    with SOON.join() as parted:
        pass
    for name, make in {"left out": lambda: left_out, "parted": lambda: parted}.items():
        try:
            network().fit(x, y, parallel=make())
        except ValueError as error:
            found[name] = str(error)
    return found


def slow():
    """All have arrived, and what they wait for takes longer than a rank waits for another."""
    MPI.COMM_WORLD.Barrier()  # otherwise `join` would not wait for a process that starts late
    with bpx.DataParallel(timeout=0.5).join() as ranks:
        began = time.monotonic()
        ranks.wait_until(lambda: time.monotonic() - began > 1.5)
    return {}


def stops():
    """One rank's wish, or signal, is everyone's."""
    x, y, _ = samples()

    class Stop(bpx.Callback):
        def on_step_end(self, run):
            if run.rank == SIZE - 1 and run.step == 5:
                run.stop("enough")

    class Signal(bpx.Callback):
        def on_epoch_end(self, run):
            if run.rank == SIZE - 1 and run.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    def last(run):
        if run.rank == 0 and run.epoch == 3:
            run.stop("three")

    def each(run):
        if run.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.0 if run.rank else 12.0)  # longer than one that was told to end waits

    found = {}
    for name, callback in {
        "step": Stop(),
        "signal": Signal(),
        "epoch": last,
        "each": each,
    }.items():
        net = network()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = net.fit(x, y, batch_size=7, epochs=9, callbacks=callback, parallel="mpi")
        found[name] = [net.steps, history.stopped, history.interrupted]
        assert len(caught) == (history.interrupted and RANK == 0)
    told = MPI.COMM_WORLD.allgather(found)
    assert all(one == told[0] for one in told)
    return found


def terminated(folder):
    """SIGTERM for the last rank is delivered again on all, when rank 0 has done its last work."""
    x, y, _ = samples()
    came, told = [], Path(folder) / "told"

    class Signal(bpx.Callback):
        def on_epoch_end(self, run):
            if run.rank == SIZE - 1 and run.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_fit_end(self, run):
            if run.rank == 0:
                time.sleep(1.0)
                told.write_text(f"{run.step}")

    signal.signal(signal.SIGTERM, lambda *given: came.append(told.read_text()))
    history = network().fit(
        x, y, batch_size=7, epochs=9, callbacks=Signal(), checkpoint=folder, parallel="mpi"
    )
    assert history.terminated
    files = sorted(path.name for path in Path(folder).glob("*.safetensors"))
    return {"came": MPI.COMM_WORLD.allgather(came), "newest": files[-1]}


def whole(folder):
    """A run, its checkpoints by steps, and by epochs; rank 0 alone writes."""
    x, y, _ = samples()
    net = network(dropout=0.2)
    where = Path(folder) / f"rank{RANK}"  # others need not see rank 0's
    saved = bpx.Checkpoint(where, steps=5)
    options = {"batch_size": 7, "optimizer": bpx.Adam(0.01), "checkpoint": saved}
    options |= {"validation": (x, y), "callbacks": bpx.EarlyStopping(3)}
    net.fit(x, y, epochs=3, parallel="mpi", **options)
    again = network(dropout=0.2, seed=RANK)
    again.fit(x, y, epochs=6, parallel="mpi", resume=True, **options)
    alone = network(dropout=0.2)
    alone.fit(x, y, epochs=6, **(options | {"checkpoint": None}))
    soon = bpx.Checkpoint(Path(folder) / "seconds", seconds=1e-3)
    timed = network()
    timed.fit(x, y, epochs=2, batch_size=3, checkpoint=soon, parallel="mpi")
    return {
        "resumed": differ(alone, again),
        "folders": sorted(path.name for path in Path(folder).iterdir()),
        "files": [path.name for path in sorted(where.glob("*"))],
        "by seconds": len(list((Path(folder) / "seconds").iterdir())),
    }


def disk(folder):
    """A disk that takes longer than the time between two checkpoints."""
    x, y, _ = samples()
    writes, write = [], bpx.persistence.write

    def slow(*arguments, **options):
        writes.append(time.sleep(1.1))
        return write(*arguments, **options)

    bpx.persistence.write = slow
    saved, net = bpx.Checkpoint(folder, seconds=1.0), network()
    net.fit(x, y, epochs=2, batch_size=3, checkpoint=saved, parallel="mpi")
    return {"writes": len(writes), "steps": net.steps}


def part(folder):
    """Two of four epochs, with a checkpoint; `rest` goes on, with any number of ranks."""
    return _part(folder, 2, False)


def rest(folder):
    return _part(folder, 4, True)


def _part(folder, epochs, resume):
    x, y, _ = samples()
    options = {"batch_size": 7, "optimizer": bpx.Adam(0.01)}
    net = network(dropout=0.2)
    net.fit(x, y, epochs=epochs, parallel=SOON, checkpoint=folder, resume=resume, **options)
    alone = network(dropout=0.2)
    alone.fit(x, y, epochs=epochs, **options)
    return {"difference": differ(alone, net)}


@contextlib.contextmanager
def told(*more):
    """Report the error that a surviving rank gets to the test, and end the rank."""
    try:
        yield
    except bpx.RankError as error:
        said = [RANK, str(error), list(error.ranks), *(ask() for ask in more)]
        print(json.dumps(said), flush=True)
        raise SystemExit(3) from None


def between(folder):
    """Rank 1 hangs after the second epoch."""
    x, y, _ = samples()
    net = network()

    def hang(run):
        if run.rank == 1 and run.epoch == 2:
            time.sleep(600)

    saved = bpx.Checkpoint(folder, epochs=100)
    with told():
        net.fit(x, y, batch_size=7, callbacks=hang, parallel=SOON, checkpoint=saved)
    return {}


class At(bpx.Callback):
    """Makes something happen on one rank, after a step."""

    def __init__(self, what):
        self.what = what

    def on_step_end(self, run):
        if run.rank == 1 and run.step == 6:
            self.what()


def _fails(folder, what):
    x, y, _ = samples()
    net, saved = network(), bpx.Checkpoint(folder, epochs=100)
    options = {"batch_size": 7, "epochs": 9, "parallel": SOON, "checkpoint": saved}
    with told(lambda: net.steps):
        net.fit(x, y, callbacks=At(what), **options)
    return {}


def finish(folder):
    """Take the lost run to its end."""
    x, y, _ = samples()
    net, alone, options = network(), network(), {"batch_size": 7, "epochs": 9}
    net.fit(x, y, checkpoint=folder, resume=True, parallel=SOON, **options)
    alone.fit(x, y, **options)
    return {"difference": differ(alone, net), "steps": net.steps}


def raises(folder):
    def broken():
        raise OSError("the plotter is on fire")

    return _fails(folder, broken)


def alone(folder):
    """A fit of rank 1's own diverges, between what all ranks do together."""
    x, y, _ = samples()
    linear = network("identity", output="identity")
    with told(), SOON.join() as ranks:
        network().fit(x, y, epochs=1, parallel=ranks)
        if RANK == 1:
            linear.fit(x, np.eye(3)[y], batch_size=7, optimizer=bpx.SGD(1e60))
        ranks.texts("")
    return {}


def later(folder):
    """Rank 1 hangs after `fit`."""
    x, y, _ = samples()
    with told(), SOON.join() as ranks:
        network().fit(x, y, epochs=1, parallel=ranks)
        if RANK == 1:
            time.sleep(600)
        ranks.texts("")
    return {}


def silent(folder):
    """Rank 0 of the command line hangs."""
    from bpx import cli
    from bpx.parallel import mpi

    start = mpi.MpiRanks.__init__
    mpi.MpiRanks.__init__ = lambda self, comm, timeout: start(self, comm, 11.0)

    class Hanging(cli.training.ShowEpochs):
        def on_epoch_end(self, run):
            time.sleep(600 if run.rank == 0 else 0)

    cli.training.ShowEpochs = Hanging
    sys.argv = ["bpx", "train", "digits"]
    cli.main()


def hangs(folder):
    return _fails(folder, lambda: time.sleep(600))


def dies(folder):
    return _fails(folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def stands(folder):
    """The whole process stops, with the threads of MPI."""
    return _fails(folder, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def differs(folder):
    """Rank 1 does not call what the others call."""
    x, y, _ = samples()
    with told(), SOON.join() as ranks:
        if RANK == 1:
            ranks.broadcast(b"")
        network().fit(x, y, parallel=ranks)
    return {}


def devices():
    """The calls to NCCL and for pinned memory, with a CuPy of NumPy's arrays."""
    import types

    import cupy_on_host

    from bpx.parallel import nccl

    found = {}
    for name, available, buses in (
        ("nccl", True, ("00:01", "00:02")),
        ("shared device", True, ("00:01", "00:01")),
        ("without", RANK == 0, ("00:01", "00:02")),
    ):
        cupy_on_host.install(MPI, available, buses[RANK])
        with bpx.DataParallel().join() as ranks:
            backend = types.SimpleNamespace(
                name="cupy", use=lambda: None, device=types.SimpleNamespace(id=RANK)
            )
            total = ranks.all_reduce(backend)
            kind = type(total).__name__
            assert kind == ("_Nccl" if name == "nccl" else "_Pinned")
            vector = cupy_on_host.Vector([RANK + 1.0, 2.0 - RANK])
            total(vector)
            total.wait()
            found[name] = vector.array.tolist()
            if name == "nccl":  # an error of the device is no reason to go on waiting
                cupy_on_host.Stream.status = 700
                said = ""
                try:
                    total.wait()
                except RuntimeError as error:
                    said = str(error)
                assert said == "CUDA error 700"
                cupy_on_host.Stream.status = 0
            if kind == "_Pinned":  # the next network may be of another dtype
                single = cupy_on_host.Vector(np.ones(2, np.float32))
                total(single)
                assert single.array.tolist() == [2.0, 2.0]
    assert cupy_on_host.ended == ["destroy"]
    cupy_on_host.install(MPI, True, f"00:0{RANK}")
    with bpx.DataParallel().join() as ranks:
        nccl.all_reduce(ranks, backend).close(abort=True)
    assert cupy_on_host.ended == ["destroy", "abort"]
    return found


def main():
    warnings.simplefilter("error")
    case, *folder = sys.argv[1:]
    found = globals()[case](*folder)
    if RANK == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
