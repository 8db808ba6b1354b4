"""The training problems on a GPU, in each library as its users would write them for speed.

A peer is a function of a case and a `Place` that returns ``epoch()``: one shuffled pass, with
data, parameters and permutation on the device. A name such as ``PyTorch graph, tf32`` ends with
the precision of the matrix products; without one they are in float32 throughout.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from cases import CASES, IMAGES, Case
from harness import Timed
from peers import bpx_network, bpx_optimizer, jax_scan, torch_optimizer, torch_problem

Epoch = Callable[[], object]

EVERY = CASES | IMAGES
LOW = ("tf32", "bfloat16", "float16")
IN_LOW_PRECISION = ("medium", "wide")  # where a product is large enough to gain
STEPS, SHORT_STEPS = 2000, 20  # in an epoch, at most; in one of the rehearsal


@dataclass(frozen=True)
class Place:
    """A GPU, or in the rehearsal the host; and the precision of the products."""

    is_device: bool
    precision: str = "float32"

    @property
    def torch(self) -> str:
        return "cuda" if self.is_device else "cpu"


def whole(case: Case, is_device: bool) -> Case:
    """Full batches only, so that a graph of one step is enough for every peer."""
    steps = min(case.n // case.m, STEPS if is_device else SHORT_STEPS)
    return dataclasses.replace(case, n=case.m * steps)


# --- bpx ----------------------------------------------------------------------------------------


def bpx_fit(case: Case, place: Place, graph: bool | str = "auto") -> Epoch:
    """`Network.fit`, with everything that it does: costs, accuracies, history."""
    net = bpx_network(case, "cupy" if place.is_device else "numpy")
    x, y = map(net.backend.from_host, case.data())
    options = {"graph": graph, "precision": place.precision} if place.is_device else {}
    return partial(net.fit, x, y, epochs=1, batch_size=case.m, optimizer=bpx_optimizer(case),
                   check_finite=False, **options)  # fmt: skip


# --- PyTorch ------------------------------------------------------------------------------------


def torch_precision(place: Place) -> Callable[[], AbstractContextManager[object]]:
    """Set the precision of float32's products; for 16 bits, autocast around the forward pass.

    float16 goes without a GradScaler, which would cost PyTorch more.
    """
    import torch

    if place.is_device and not torch.cuda.is_available():
        raise LookupError("PyTorch sees no CUDA device")
    if not place.is_device:
        torch.set_num_threads(1)  # several wait for each other, and crawl on a busy machine
    torch.set_float32_matmul_precision("high" if place.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = place.precision == "tf32"  # by default on
    torch.backends.cudnn.benchmark = True  # the fastest of cuDNN's algorithms
    if place.precision in ("float32", "tf32"):
        return nullcontext
    # The cache of cast weights must not outlive a step that is captured.
    dtype = getattr(torch, place.precision)
    return partial(torch.autocast, place.torch, dtype=dtype, cache_enabled=False)


def torch_parts(case: Case, place: Place):
    """The cost of a batch at the precision, x, y, and the optimizer."""
    context = torch_precision(place)
    model, plain, x, y = torch_problem(case, place.torch)

    def loss(x, y):
        with context():
            return plain(x, y)

    # A captured Adam counts its steps on the device.
    adam = {"capturable": place.is_device} if case.rate is None else {}
    return loss, x, y, torch_optimizer(case, model, fused=True, **adam)


def torch_eager(case: Case, place: Place, mode: str | None = None) -> Epoch:
    """With a mode, the cost and its gradient by torch.compile."""
    import torch

    loss, x, y, optimizer = torch_parts(case, place)
    if mode is not None:
        loss = torch.compile(loss, mode=mode)

    def epoch() -> None:
        for rows in torch.randperm(case.n, device=place.torch).split(case.m):
            optimizer.zero_grad(set_to_none=True)
            loss(x[rows], y[rows]).backward()
            optimizer.step()

    return epoch


def torch_compiled(case: Case, place: Place) -> Epoch:
    return torch_eager(case, place, "reduce-overhead" if place.is_device else "default")


def torch_graph(case: Case, place: Place) -> Epoch:
    """A whole step in a graph, which takes its batch by a counter on the device."""
    import torch

    loss, x, y, optimizer = torch_parts(case, place)
    order = torch.arange(case.n, device=place.torch).view(case.steps, case.m)
    counter = torch.zeros(1, dtype=torch.int64, device=place.torch)

    def step() -> None:
        rows = order.index_select(0, counter)[0]
        # With no gradients there, the graph writes them instead of adding to them.
        optimizer.zero_grad(set_to_none=True)
        loss(x.index_select(0, rows), y.index_select(0, rows)).backward()
        optimizer.step()
        counter.add_(1)

    replay = captured(step, place)

    def epoch() -> None:
        order.copy_(torch.randperm(case.n, device=place.torch).view_as(order))
        counter.zero_()
        for _ in range(case.steps):
            replay()

    return epoch


def captured(step: Callable[[], object], place: Place) -> Callable[[], object]:
    """`step` as a CUDA graph, as in PyTorch's notes; the host has none, and runs it as it is."""
    import torch

    if not place.is_device:
        return step
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return lambda step=step: graph.replay()  # it has addresses alone: keep the tensors of `step`


def products(case: Case, place: Place) -> Epoch:
    """The matrix products of a step alone, by cuBLAS, captured."""
    import torch

    torch_precision(place)
    dtype = getattr(torch, place.precision.replace("tf32", "float32"))
    operands = [
        [torch.randn(shape, device=place.torch).to(dtype) for shape in ((m, k), (k, n), (m, n))]
        for m, k, n in case.products
    ]

    def step() -> None:
        for a, b, out in operands:
            torch.mm(a, b, out=out)

    replay = captured(step, place)

    def epoch() -> None:
        for _ in range(case.steps):
            replay()

    return epoch


# --- JAX ----------------------------------------------------------------------------------------

# By default, JAX uses TF32 for float32 on a GPU.
JAX = {"float32": "highest", "tf32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}


def jax_epoch(case: Case, place: Place) -> Epoch:
    if place.precision not in JAX:
        raise LookupError(f"JAX has no products of float32 in {place.precision}")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the others need memory too
    if not place.is_device:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if place.is_device and jax.default_backend() != "gpu":
        raise LookupError("JAX sees no CUDA device")
    jax.config.update("jax_default_matmul_precision", JAX[place.precision])
    return partial(jax_scan(case, shuffled_there=True), case.steps)


# --- timing -------------------------------------------------------------------------------------


def host_clock(epoch: Epoch, epochs: int) -> float:
    """For work that is waited for: JAX's, in which every epoch ends with block_until_ready."""
    start = time.perf_counter()
    for _ in range(epochs):
        epoch()
    return time.perf_counter() - start


def cupy_clock(epoch: Callable[..., object], epochs: int) -> float:
    """The epochs of a call of `fit` after its first, in which it compares and records steps.

    Peers too have recorded or compiled theirs before they are timed.
    """
    import cupy

    ends = []

    def note(run: object) -> None:  # a callback between the steps would keep them from a graph
        ends.append(cupy.cuda.Event())
        ends[-1].record()

    epoch(epochs=1 + epochs, callbacks=note)
    ends[-1].synchronize()
    return cupy.cuda.get_elapsed_time(ends[0], ends[-1]) / 1e3


def torch_clock(epoch: Epoch, epochs: int) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(epochs):
        epoch()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


PEERS: dict[str, tuple[Callable[[Case, Place], Epoch], Callable[[Epoch, int], float]]] = {
    "bpx": (bpx_fit, cupy_clock),
    "products": (products, torch_clock),
    "JAX scan": (jax_epoch, host_clock),
    "PyTorch": (torch_eager, torch_clock),
    "PyTorch graph": (torch_graph, torch_clock),
    "torch.compile": (torch_compiled, torch_clock),
    # Last: where time runs out, the peers have had theirs.
    "bpx graph": (partial(bpx_fit, graph=True), cupy_clock),
    "bpx eager": (partial(bpx_fit, graph=False), cupy_clock),
}
RIVALS = ("JAX scan", "PyTorch", "PyTorch graph", "torch.compile")
PEERS_IN_LOW_PRECISION = ("bpx", "products", "JAX scan", "PyTorch graph")


def names(case: str, is_device: bool) -> list[str]:
    """The names of the peers on a case."""
    low = LOW if is_device and case in IN_LOW_PRECISION else ()
    here = [peer for peer in PEERS if case in CASES or peer != "JAX scan"]  # dense layers alone
    return [*here, *(f"{peer}, {p}" for p in low for peer in PEERS_IN_LOW_PRECISION)]


def prepare(name: str, case: str, is_device: bool) -> Timed:
    """A peer's work on a case, in epochs."""
    peer, _, precision = name.partition(", ")
    make, clock = PEERS[peer]
    try:
        epoch = make(whole(EVERY[case], is_device), Place(is_device, precision or "float32"))
        epoch()
    except (ImportError, LookupError):
        raise
    except Exception as error:  # a library may raise anything on a device that it does not know
        raise LookupError(f"{type(error).__name__}: {error}"[:300]) from error
    clock = clock if is_device else host_clock
    return lambda epochs: clock(epoch, epochs) / epochs
