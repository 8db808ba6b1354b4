"""Times dense networks of other kinds than cpu.py's, beside PyTorch and JAX in one run.

    python benchmarks/variants.py                  all of them; prints the table
    python benchmarks/variants.py --write          and writes it into benchmarks/README.md
    python benchmarks/variants.py gelu sum         some of them

Each is 784-w-10 with a softmax and Adam, in float32: 30 units with mini-batches of 10, and 256
with mini-batches of 64. *norm after* has a batch norm after the ReLU; *sum* has two more layers of
w units with a shortcut around them, and a ReLU after it; *table* has two categories, of 7 and 50,
in embeddings of 3 and 8, and 10 numbers, instead of 784 inputs. A step is a gather, a forward and
a backward pass and an update; bpx's is a step of `fit`. JAX has the epoch in one `lax.scan`,
PyTorch's optimizer is the fused one. Each peer is a process of its own, and they take turns, as in
cpu.py.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Peer, Timed, machine, measured, row, write

LIBRARIES = ("numpy", "scipy", "numba", "torch", "jax")
SIZES = {"m 10": (10, 30), "m 64": (64, 256)}
KINDS = (
    *("relu", "gelu", "silu", "dropout", "layer norm", "batch norm", "norm after", "sum", "l1"),
    "table",
)
EMBEDDINGS, NUMBERS, L1 = ((7, 3), (50, 8)), 10, 1e-4
SAMPLES, SECONDS_A_ROUND = 6400, 1.0

Run = Callable[[int], object]  # so many steps


def data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=SAMPLES)
    if kind != "table":
        return rng.random((SAMPLES, 784), dtype=np.float32), y
    numbers = rng.random((SAMPLES, NUMBERS), dtype=np.float32)
    categories = [rng.integers(count, size=SAMPLES) for count, _ in EMBEDDINGS]
    return np.column_stack([*categories, numbers]).astype(np.float32), y


def inputs(kind: str) -> int:
    """Of the first dense layer."""
    return NUMBERS + sum(width for _, width in EMBEDDINGS) if kind == "table" else 784


def with_bpx(kind: str, m: int, w: int) -> Run:
    import bpx
    from bpx.layers import (
        Activation,
        BatchNorm,
        Columns,
        Concatenate,
        Dense,
        Dropout,
        Embedding,
        Flatten,
        Input,
        LayerNorm,
        Residual,
    )

    x, y = data(kind)
    of_x: list[list[Any]] = [
        [Columns([k]), Embedding(*each), Flatten()] for k, each in enumerate(EMBEDDINGS)
    ]
    of_x.append([Columns(range(len(EMBEDDINGS), x.shape[1]))])
    between: dict[str, list[Any]] = {
        "dropout": [Dense(w, "relu"), Dropout(0.5)],
        "layer norm": [Dense(w), LayerNorm(), Activation("relu")],
        "batch norm": [Dense(w), BatchNorm(), Activation("relu")],
        "norm after": [Dense(w, "relu"), BatchNorm()],
        "l1": [Dense(w, "relu")],
        "table": [Concatenate(of_x), Dense(w, "relu")],
        "sum": [
            *(Dense(w, "relu"), Residual([Dense(w, "relu"), Dense(w)]), Activation("relu")),
        ],
    }
    hidden = between.get(kind) or [Dense(w, kind)]
    net = bpx.Network([Input(x.shape[1]), *hidden, Dense(10, "softmax")], seed=0)
    options = {"l1": L1 * SAMPLES} if kind == "l1" else {}  # bpx divides it by n

    def run(steps: int) -> None:
        rows = slice(0, steps * m)
        net.fit(x[rows], y[rows], epochs=1, batch_size=m, optimizer=bpx.Adam(), **options)

    return run


def with_torch(kind: str, m: int, w: int) -> Run:
    import torch
    from torch import nn

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(w, w), nn.ReLU(), nn.Linear(w, w))

        def forward(self, x: Any) -> Any:
            return torch.relu(x + self.inner(x))

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.ModuleList([nn.Embedding(*each) for each in EMBEDDINGS])

        def forward(self, x: Any) -> Any:
            found = [each(x[:, k].long()) for k, each in enumerate(self.embeddings)]
            return torch.cat([*found, x[:, len(EMBEDDINGS) :]], dim=1)

    after: dict[str, list[Any]] = {
        "relu": [nn.ReLU()],
        "gelu": [nn.GELU(approximate="tanh")],  # as bpx's, which is faster than the other
        "silu": [nn.SiLU()],
        "dropout": [nn.ReLU(), nn.Dropout(0.5)],
        "layer norm": [nn.LayerNorm(w), nn.ReLU()],
        "batch norm": [nn.BatchNorm1d(w), nn.ReLU()],
        "norm after": [nn.ReLU(), nn.BatchNorm1d(w)],
        "sum": [nn.ReLU(), Sum()],
    }
    before = [Table()] if kind == "table" else []
    hidden = after.get(kind) or after["relu"]
    net = nn.Sequential(*before, nn.Linear(inputs(kind), w), *hidden, nn.Linear(w, 10))
    weights = [each.weight for each in net if isinstance(each, nn.Linear)]
    x, y = map(torch.as_tensor, data(kind))
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    cost = nn.CrossEntropyLoss()

    def run(steps: int) -> None:
        for rows in torch.randperm(SAMPLES)[: steps * m].split(m):
            optimizer.zero_grad()
            found = cost(net(x[rows]), y[rows])
            if kind == "l1":
                found = found + L1 * sum(each.abs().sum() for each in weights)
            found.backward()
            optimizer.step()

    return run


def with_jax(kind: str, m: int, w: int) -> Run:
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(0).standard_normal

    def dense(into: int, out: int) -> tuple[Any, Any]:
        scaled = draw((into, out), dtype=np.float32) / np.float32(into**0.5)
        return jnp.asarray(scaled), jnp.zeros(out)

    def normalized(x: Any, axis: int, p: Any) -> Any:
        mean = x.mean(axis, keepdims=True)
        variance = ((x - mean) ** 2).mean(axis, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[0] + p[1]

    def through(p: Any, x: Any) -> Any:
        return x @ p[0] + p[1]

    def outputs(p: Any, x: Any, key: Any) -> Any:
        if kind == "table":
            found = [each[x[:, k].astype(int)] for k, each in enumerate(p[1])]
            x = jnp.concatenate([*found, x[:, len(EMBEDDINGS) :]], axis=1)
        z = through(p[0], x)
        if kind in ("layer norm", "batch norm"):
            a = jax.nn.relu(normalized(z, 1 if kind == "layer norm" else 0, p[1]))
        elif kind == "norm after":
            a = normalized(jax.nn.relu(z), 0, p[1])
        elif kind == "sum":
            h = jax.nn.relu(z)
            a = jax.nn.relu(h + through(p[2], jax.nn.relu(through(p[1], h))))
        elif kind == "dropout":
            kept = jax.random.bernoulli(key, 0.5, z.shape)
            a = jnp.where(kept, 2.0 * jax.nn.relu(z), 0.0)
        else:
            a = getattr(jax.nn, kind if kind in ("gelu", "silu") else "relu")(z)
        return through(p[-1], a)

    norm = [(jnp.ones(w), jnp.zeros(w))] if "norm" in kind else []
    inner = [dense(w, w), dense(w, w)] if kind == "sum" else []
    tables = [jnp.asarray(draw(each, dtype=np.float32)) for each in EMBEDDINGS]
    between = [tables] if kind == "table" else [*norm, *inner]
    params = [dense(inputs(kind), w), *between, dense(w, 10)]
    x, y = map(jnp.asarray, data(kind))

    def loss(p: Any, x: Any, y: Any, key: Any) -> Any:
        log = jax.nn.log_softmax(outputs(p, x, key))
        found = -jnp.take_along_axis(log, y[:, None], axis=1).mean()
        if kind == "l1":
            found += L1 * sum(jnp.abs(weights).sum() for weights, _ in p)
        return found

    def step(x: Any, y: Any, state: Any, rows: Any) -> Any:
        p, m1, m2, t, key = state
        key, own = jax.random.split(key) if kind == "dropout" else (key, key)
        cost, grad = jax.value_and_grad(loss)(p, x[rows], y[rows], own)
        t = t + 1
        m1 = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m1, grad)
        m2 = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, m2, grad)
        rate = 0.001 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = jax.tree.map(lambda a, b, c: a - rate * b / (jnp.sqrt(c) + 1e-8), p, m1, m2)
        return (p, m1, m2, t, key), cost

    # x and y are arguments: closed over, they would be constants, and JAX slower.
    @jax.jit
    def epoch(x: Any, y: Any, state: Any, order: Any) -> Any:
        return jax.lax.scan(lambda state, rows: step(x, y, state, rows), state, order)

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = params, zeros, zeros, jnp.zeros(()), jax.random.key(0)

    def run(steps: int) -> None:
        nonlocal state
        order = np.random.default_rng().permutation(SAMPLES)[: steps * m]
        state, costs = epoch(x, y, state, order.reshape(steps, m).astype(np.int32))
        costs.block_until_ready()

    return run


PEERS = {"bpx": with_bpx, "bpx fast": with_bpx, "PyTorch": with_torch, "JAX scan": with_jax}
CASES = {f"{kind}, {size}": (kind, *SIZES[size]) for size in SIZES for kind in KINDS}


def prepare(peer: str, case: str) -> Timed:
    """A peer's steps of a case, in epochs."""
    os.environ["BPX_FAST"] = "1" if peer == "bpx fast" else "0"
    kind, m, w = CASES[case]
    run, epoch = PEERS[peer](kind, m, w), SAMPLES // m

    def timed(steps: int) -> float:
        whole = -(-steps // epoch)
        start = time.perf_counter()
        for _ in range(whole):
            run(epoch)
        return (time.perf_counter() - start) / (whole * epoch)

    return timed


def table(results: dict[str, list[Peer]]) -> str:
    """A row for each case: microseconds a step, and the best peer's time in bpx's."""
    titles = *PEERS, "bpx: times faster", "bpx fast: times faster"
    lines = [row("µs a step", titles), "|---" * (len(titles) + 1) + "|"]
    for case, peers in results.items():
        found = {peer.name: peer.median for peer in peers}
        best = min((found[name] for name in ("PyTorch", "JAX scan") if name in found), default=0)
        cells = [f"{found[name] * 1e6:,.1f}" if name in found else "" for name in PEERS]
        ours = (found.get(name) for name in ("bpx", "bpx fast"))
        cells += [f"{best / time:.2f}" if time and best else "" for time in ours]
        lines.append(row(case, cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"any of {', '.join(KINDS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--short", action="store_true", help="one round of bpx on one case")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"unknown kind {sorted(unknown)[0]!r}: {', '.join(KINDS)}")
    kinds, peers = options.kinds or KINDS, list(PEERS)
    cases = [case for case, (kind, *_) in CASES.items() if kind in kinds]
    if options.short:
        cases, peers, options.rounds = cases[:1], ["bpx"], 1
    limits = SECONDS_A_ROUND, 600, 40_000
    results = measured(cases, peers, prepare, table, options.rounds, limits)
    text = f"{table(results)}\n\nMedians of {options.rounds} rounds, {machine(LIBRARIES)}.\n"
    print(text)
    if options.write:
        write("variants", text)


if __name__ == "__main__":
    main()
