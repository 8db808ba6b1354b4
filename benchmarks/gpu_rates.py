"""The most that the device can do, measured with PyTorch, and the share that a step reaches."""

from __future__ import annotations

import time
from functools import partial

from cases import Case
from gpu_peers import LOW, Place, torch_clock, torch_precision
from harness import Peer, Timed, measure, present

SIDE = 8192  # of the matrices
COPIED = 1 << 30  # bytes
RATES = ("float32", *LOW)
COPY = "copy"


def prepare(name: str, case: str) -> Timed:
    """Seconds for a product of square matrices in a precision, or for a copy within the device."""
    import torch

    torch_precision(Place(True, name if name in RATES else "float32"))
    if name == COPY:
        source, out = torch.ones((2, COPIED), dtype=torch.uint8, device="cuda")
        work = partial(out.copy_, source)
    else:
        dtype = getattr(torch, name.replace("tf32", "float32"))
        a, b, out = (torch.randn(SIDE, SIDE, device="cuda").to(dtype) for _ in range(3))
        work = partial(torch.mm, a, b, out=out)
    return lambda count: torch_clock(work, count) / count


def rates(seconds: float) -> dict[str, float]:
    """Floating-point operations a second by precision, and bytes a second of the copy."""
    until = time.monotonic() + seconds
    here = present([Peer(name, prepare, "", until) for name in (*RATES, COPY)])
    work = dict.fromkeys(RATES, 2.0 * SIDE**3) | {COPY: 2.0 * COPIED}
    return {peer.name: work[peer.name] / peer.median for peer in measure(here, 7, 0.2, 3, 200)}


def least_bytes(case: Case) -> int:
    """The bytes that a step must move at least, in float32 and with labels of 4 bytes.

    Parameters and the optimizer's vectors are read and written, the batch is read.
    """
    return 4 * (2 * case.parameters * (1 + case.slots) + case.m * (case.sizes[0] + 1))


def shares(
    peer: str, case: Case, seconds: float, precision: str, rates: dict[str, float]
) -> dict[str, str]:
    """By title, the share of the measured rates that a step of this many seconds reaches."""
    cells = {}
    if precision in rates:
        share = 2.0 * case.multiply_adds / seconds / rates[precision]
        cells[f"{peer}, of the measured rate"] = f"{share:.1%}"
    if COPY in rates and peer != "products":
        share = least_bytes(case) / seconds / rates[COPY]
        cells[f"{peer}, of the measured bandwidth"] = f"{share:.1%}"
    return cells


def summary(rates: dict[str, float]) -> str:
    if not rates:
        return "The device's own rates were not measured (they need PyTorch)."
    found = [f"{rates[name] / 1e12:,.0f} TFLOP/s in {name}" for name in RATES if name in rates]
    if COPY in rates:
        found.append(f"{rates[COPY] / 1e9:,.0f} GB/s copying 1 GiB, read and written")
    return (
        f"Measured, products of {SIDE}×{SIDE} matrices and a copy: {', '.join(found)}. A share of "
        "the rate is 2 · multiply-adds of a step / time / rate; of the bandwidth, 4 bytes · "
        "(2 · parameters · (1 + the optimizer's vectors) + m · (inputs + 1)) / time / bandwidth."
    )
