"""What a step takes on hosts of eight H100, by calculation.

    python benchmarks/scaling.py --predict            the tables
    python benchmarks/scaling.py --predict --write    into docs/scaling.md, and its picture

Nothing here is measured. The constants are other people's, each with its source; the formulas are
those of docs/scaling.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from harness import row, write

DOCS = Path(__file__).parents[1] / "docs"
US, GB, TERA = 1e-6, 1e9, 1e12

# NVIDIA's data sheet of the H100 SXM: operations a second without sparsity, bytes a second.
PEAK = {"float32": 67 * TERA, "tf32": 494.7 * TERA}
MEMORY = 3350 * GB
REACHED = 0.7  # the share of the peak that products of large matrices reach: assumed
# NVLink has 450 GB/s each way, of which the protocol leaves 370 (an NCCL developer in issue 212 of
# NVIDIA/nccl-tests). A DGX H100 has eight InfiniBand ports of 50 GB/s: the same share.
INSIDE = 370 * GB
BETWEEN = 8 * 50 * GB * 370 / 450
# NCCL's own model, src/graph/tuning.cc: µs to begin, a step over NVLink, a step over the network;
# the share of the bus, and its limits on one, two and more hosts.
NCCL = {
    ("ring", "LL"): (6.6, 0.6, 2.7, 0.5, (141, 45, 35)),
    ("ring", "Simple"): (8.4, 3.4, 14.0, 1.0, (math.inf,) * 3),
    ("tree", "LL"): (6.8, 0.6, 5.0, 1 / 3.8, (141, 45, 35)),
    ("tree", "Simple"): (8.4, 4.0, 14.0, 0.92, (math.inf,) * 3),
}
CALL = 10 * US  # of the host's time, by CuPy (reports say 10 µs a launch)
HOP = 2 * US  # for a small MPI message between hosts: assumed
GPUS = 8  # a host


@dataclass(frozen=True)
class Model:
    sizes: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return sum(a * b + b for a, b in pairwise(self.sizes))

    @property
    def calls(self) -> int:
        """Launches in a step: two forward and four backward for each layer, and eight more."""
        return 8 + 6 * (len(self.sizes) - 1)


@dataclass(frozen=True)
class Setting:
    """A model, its mini-batch, and what is changed in the all-reduce."""

    model: Model
    rows: int
    precision: str = "float32"
    bits: int = 32
    local: int = 1  # steps for one all-reduce

    def reduce(self, ranks: int) -> float:
        """Seconds for the all-reduce: NCCL takes the quickest of its ways."""
        if ranks == 1:
            return 0.0
        hosts, on_host = -(-ranks // GPUS), min(ranks, GPUS)
        size = self.model.parameters * self.bits / 8
        bus = INSIDE if hosts == 1 else BETWEEN
        found = []
        for (way, _), (begin, inside, between, share, limits) in NCCL.items():
            rate = min(share * bus, limits[min(hosts, 3) - 1] * GB)
            if way == "ring":
                hops = 2 * (ranks - hosts) * inside + 2 * (hosts - 1) * between
                rate *= ranks / (2 * (ranks - 1))
            else:
                hops = 2 * ((on_host - 1) * inside + int(math.log2(hosts)) * between)
                rate /= 2
            found.append((begin + hops) * US + size / rate)
        return min(found)

    def arithmetic(self, ranks: int) -> float:
        """Products, no quicker than reading weights twice and writing a gradient; the update."""
        size = self.model.parameters
        products = 6 * size * self.rows / ranks / (REACHED * PEAK[self.precision])
        return max(products, 12 * size / MEMORY) + 20 * size / MEMORY

    def host(self, ranks: int) -> float:
        """Launches, and asking over MPI, by recursive doubling, whether any rank stops.

        On one device, a CUDA graph spares the host both.
        """
        return 0.0 if ranks == 1 else self.model.calls * CALL + math.log2(ranks) * HOP

    def step(self, ranks: int) -> float:
        """The host runs ahead of the device, so the slower of the two counts."""
        return max(self.host(ranks), self.arithmetic(ranks) + self.reduce(ranks) / self.local)

    def efficiency(self, ranks: int) -> float:
        """Of a fixed mini-batch: the time of one device over that of all devices together."""
        return self.step(1) / (ranks * self.step(ranks))

    def weakly(self, ranks: int) -> float:
        """The same, if every device has `rows` rows."""
        return self.step(1) / replace(self, rows=ranks * self.rows).step(ranks)

    def knee(self) -> int:
        """The largest number of devices that are used at least half."""
        found = 1
        for ranks in counts():
            if ranks <= self.rows and self.efficiency(ranks) >= 0.5:
                found = ranks
        return found


def counts() -> Iterator[int]:
    """1 to 8 on a host, then whole hosts."""
    yield from range(1, GPUS + 1)
    hosts = 2.0
    while hosts <= 1024:
        yield GPUS * round(hosts)
        hosts *= 2**0.25


MODELS = {
    "784-100-10": Model((784, 100, 10)),
    "784-2048-2048-10": Model((784, 2048, 2048, 10)),
    "784, 8 × 4096, 10": Model((784, *[4096] * 8, 10)),
}
SHOWN = (8, 512, 8000)


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1g} %"


def at_half(rate: float, bus: float) -> float:
    """Rows per device for which products and a long all-reduce take the same time."""
    return rate * 2 * 4 / (6 * bus)


def reduces() -> list[str]:
    lines = [row("all-reduce of float32, ms", [f"{ranks:,} GPUs" for ranks in SHOWN])]
    lines.append("|---|" + "---|" * len(SHOWN))
    for name, model in MODELS.items():
        title = f"{name}: {4 * model.parameters / 1e6:,.1f} MB"
        lines.append(row(title, [ms(Setting(model, 1).reduce(ranks)) for ranks in SHOWN]))
    return lines


def strong() -> list[str]:
    titles = ["products in", "mini-batch", "one GPU, ms"]
    titles += [f"{ranks:,} GPUs" for ranks in SHOWN] + ["GPUs at 50 %"]
    lines = [row("one mini-batch on all GPUs", titles), "|---" * (1 + len(titles)) + "|"]
    for name, model in MODELS.items():
        for precision in PEAK:
            for rows in (8192, 131_072):
                at = Setting(model, rows, precision)
                cells = [precision, f"{rows:,}", ms(at.step(1))]
                for ranks in SHOWN:
                    shown = f"{ms(at.step(ranks))} ms, {percent(at.efficiency(ranks))}"
                    cells.append(shown if ranks <= rows else "")
                lines.append(row(name, [*cells, f"{at.knee():,}"]))
    return lines


def weak() -> list[str]:
    titles = ["products in", "rows a GPU", *(f"{ranks:,} GPUs" for ranks in SHOWN)]
    lines = [row("as many rows on each GPU", titles), "|---" * (1 + len(titles)) + "|"]
    for name, model in list(MODELS.items())[1:]:
        for precision in PEAK:
            for rows in (256, 2048):
                at = Setting(model, rows, precision)
                cells = [precision, f"{rows:,}", *(percent(at.weakly(ranks)) for ranks in SHOWN)]
                lines.append(row(name, cells))
    return lines


def changes() -> list[str]:
    """What helps 64 hosts that are past the knee."""
    name, ranks = "784, 8 × 4096, 10", 512
    at = Setting(MODELS[name], 32_768, "tf32")
    titles = ["rows a GPU", "arithmetic, ms", "all-reduce a step, ms", "a step, ms", "efficiency"]
    lines = [row(f"{name} on {ranks} GPUs", titles), "|---" * (1 + len(titles)) + "|"]
    for what, now in {
        "32,768 rows, TF32": at,
        "8 times the rows": replace(at, rows=8 * at.rows),
        "16 bits in the all-reduce": replace(at, bits=16),
        "8 local steps": replace(at, local=8),
        "16 bits and 8 local steps": replace(at, bits=16, local=8),
    }.items():
        cells = [f"{now.rows // ranks}", ms(now.arithmetic(ranks))]
        cells += [ms(now.reduce(ranks) / now.local), ms(now.step(ranks))]
        lines.append(row(what, [*cells, percent(now.efficiency(ranks))]))
    return lines


def half() -> list[str]:
    lines = [row("m½, rows a GPU", ["on one host", "on several"]), "|---|---|---|"]
    for precision, peak in PEAK.items():
        cells = [f"{at_half(REACHED * peak, bus):,.0f}" for bus in (INSIDE, BETWEEN)]
        lines.append(row(precision, cells))
    return lines


def draw(path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
    for (name, model), color in zip(list(MODELS.items())[1:], ("C0", "C1"), strict=True):
        for rows, style in ((8192, "--"), (131_072, "-")):
            at = Setting(model, rows)
            here = [ranks for ranks in counts() if ranks <= rows]
            axes[0].plot(here, [100 * at.efficiency(ranks) for ranks in here], style, color=color,
                         label=f"{name}, {rows:,} rows")  # fmt: skip
        for rows, style in ((256, "--"), (2048, "-")):
            at, here = Setting(model, rows), list(counts())
            axes[1].plot(here, [100 * at.weakly(ranks) for ranks in here], style, color=color,
                         label=f"{name}, {rows:,} rows")  # fmt: skip
    titles = ("strong: one mini-batch on all GPUs", "weak: as many rows on each GPU")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="GPUs", xscale="log", ylim=(0, 105))
        axis.axvline(GPUS, color="0.7", linewidth=0.8)
        axis.text(GPUS, 2, " one host", color="0.5", fontsize=7)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes[0].set_ylabel("efficiency, % (calculated, float32)")
    figure.savefig(path, dpi=90)


def main(keep: bool) -> None:
    tables = [half(), reduces(), strong(), weak(), changes()]
    text = "\n\n".join("\n".join(lines) for lines in tables)
    print(text)
    if keep:
        names = ("half", "reduces", "strong", "weak", "changes")
        for name, lines in zip(names, tables, strict=True):
            write(name, "\n".join(lines) + "\n", DOCS / "scaling.md")
        draw(DOCS / "images" / "scaling.png")
