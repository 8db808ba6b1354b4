"""Races of the CUDA kernels without a device: each CUDA thread a thread, under ThreadSanitizer.

    python tests/cuda_races.py                      launches of every kernel
    python tests/cuda_races.py --barriers           and again without each of the barriers
    python tests/cuda_races.py --barriers run.cu    of this file

Launches of the kernels' tests and of short trainings are noted as they run on the host, and
replayed by a program that g++ makes with -fsanitize=thread. It reports two threads of a block that
touch the same memory, one of them writing, with no barrier between them.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import re
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import cuda_on_host
import numpy as np
from numpy.lib.array_utils import byte_bounds

from bpx.backends import _cuda

MOST = _cuda.Threads(2, 96)  # two blocks, of three warps where a kernel leaves the choice
ENOUGH = 180.0  # seconds: without a barrier a kernel may wait for ever
BARRIER = re.compile(r"__sync(threads|warp)\(\);")


# --- launches that are noted ---------------------------------------------------------------------


def packed(*numbers):
    return np.array(numbers, np.uint64).tobytes()


class Noted(cuda_on_host.Kernels):
    """Writes down what each kernel is called with, and calls it."""

    def __init__(self, folder):
        super().__init__(folder, MOST)
        self.launches = collections.defaultdict(dict)

    def __call__(self, name, dtype, threads, arguments, shared=0):
        blocks, a_block = self.threads(name, threads)
        text = self._launch(name, blocks, a_block, shared, arguments)
        kept = self.launches[dtype, name]  # the first and the largest for each number of threads
        kept.setdefault((a_block, "first"), text)
        if len(text) > len(kept.get((a_block, "largest"), kept[a_block, "first"])):
            kept[a_block, "largest"] = text
        super().__call__(name, dtype, threads, arguments, shared)

    @staticmethod
    def _launch(name, blocks, a_block, shared, arguments):
        number = [*cuda_on_host.kernels()].index(name)
        regions = merged(byte_bounds(a) for a in arguments if isinstance(a, np.ndarray) and a.size)
        contents = [(packed(end - at), ctypes.string_at(at, end - at)) for at, end in regions]
        return b"".join(
            (
                packed(number, blocks, a_block, shared, len(regions)),
                *chain.from_iterable(contents),
                packed(len(arguments)),
                *(argued(argument, regions) for argument in arguments),
            )
        )


def argued(argument, regions):
    """A number, or a region's number from 1 and the place in it; of no elements: no pointer."""
    if not isinstance(argument, np.ndarray):
        kind = np.int64 if isinstance(argument, int) else np.float64
        return packed(0) + kind(argument).tobytes()
    address = argument.ctypes.data
    for number, (at, end) in enumerate(regions, 1):
        if at <= address < end:
            return packed(number, address - at)
    return packed(0, 0)


def merged(bounds):
    """Stretches of memory, those that overlap as one."""
    found = []
    for start, stop in sorted(bounds):
        if found and start < found[-1][1]:
            found[-1][1] = max(stop, found[-1][1])
        else:
            found.append([start, stop])
    return found


def launches(folder):
    """By dtype and kernel: those of the tests, of convolutions with many tiles, of whole runs."""
    from conftest import CupyRehearsed
    from test_cuda_convolution import operands
    from test_kernels import CASES, all_three, run

    import bpx
    from bpx.layers.sliding import Sliding

    kernels = CupyRehearsed(folder)
    kernels._kernels = noted = Noted(folder)
    draw = np.random.default_rng(20260101)
    for real in map(str, _cuda.REALS):
        for name in CASES:
            for arguments, written in CASES[name](draw):
                run(kernels, name, arguments, written, real, np.asarray)
        sliding = Sliding((7, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
        for m, into, of in ((9, 5, 40), (1, 3, 2)):
            all_three(kernels, *operands(draw, sliding, m, 1, into, of, real), sliding)
        single = draw.normal(size=(5, 7)).astype(np.float32)
        kernels.in_precision("float16").gemm(single, single.T.copy(), np.empty((5, 5), np.float32))
        for outputs, optimizer in ((3, bpx.SGD(0.1, momentum=0.9)), (1, bpx.Adam())):
            net = bpx.Network([7, 40, outputs], backend=kernels, dtype=real, seed=0)
            x, y = draw.normal(size=(40, 7)), draw.integers(2, size=40)
            net.fit(x, y, epochs=1, batch_size=9, optimizer=optimizer, l2=0.1)
    return noted.launches


# --- and replayed --------------------------------------------------------------------------------


def built(folder, real, source=None):
    """The program that replays launches of kernels that compute in a dtype."""
    names = ", ".join(f'"{name}"' for name in cuda_on_host.kernels())
    entries = ", ".join(f"launch_{name}" for name in cuda_on_host.kernels())
    text = (
        f"{cuda_on_host.program('cuda_threads.h', source)}\n"
        f"{(cuda_on_host.HERE / 'cuda_replay.h').read_text('utf-8')}\n"
        "int main(int, char** arguments) {\n"
        f"  static const Launch kernels[] = {{{entries}}};\n"
        f"  static const char* const names[] = {{{names}}};\n"
        '  for (FILE* file = fopen(arguments[1], "rb");;) replay(file, kernels, names);\n}\n'
    )
    path = folder / f"races-{real}"
    flags = ["-std=c++17", "-O1", "-g", "-w", "-pthread", "-fsanitize=thread", f"-DREAL={real}"]
    command = [cuda_on_host.compiler(), *flags, "-x", "c++", "-", "-o", str(path)]
    subprocess.run(command, input=text, text=True, check=True)
    return path


def races(program, file):
    """How many races are reported, by kernel; and how many launches there were."""
    with open(f"{program}.txt", "w+") as told:
        try:
            status = subprocess.run(
                [program, file], stderr=told, timeout=ENOUGH, preexec_fn=_in_order
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
        told.seek(0)
        lines = told.read().splitlines()
    found, launched, kernel = collections.Counter(), 0, ""
    for line in lines:
        if line.startswith("launch "):
            kernel, launched = line.split()[1], launched + 1
        found[kernel] += line.startswith("WARNING: ThreadSanitizer: data race")
    if status not in (0, 66):  # ThreadSanitizer ends with 66 after races
        found[f"{kernel}, which {'does not end' if status is None else 'fails'}"] += 1
    return +found, launched


def _in_order():
    """Without random addresses, with which ThreadSanitizer does not work."""
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE


def without_each_barrier(files):
    """The file and line of each barrier, and the source without it."""
    texts = [file.read_text("utf-8") for file in _cuda.FILES]
    for k, (file, text) in enumerate(zip(_cuda.FILES, texts, strict=True)):
        for barrier in BARRIER.finditer(text):
            less = text[: barrier.start()] + ";" + text[barrier.end() :]
            line = text.count("\n", 0, barrier.start()) + 1
            if file.name in (files or [file.name]):
                yield f"{file.name}:{line}", "\n".join([*texts[:k], less, *texts[k + 1 :]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--barriers", nargs="*", metavar="file", help="again without each barrier")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, kernels = {}, set()
        try:
            noted = launches(folder)
        except cuda_on_host.NoCompiler as error:
            print(error)
            return 0
        for (dtype, kernel), found in noted.items():
            file = files.setdefault(dtype, folder / f"launches-{dtype}")
            kernels.add(kernel)
            with open(file, "ab") as out:
                out.writelines(found.values())
        if missing := set(cuda_on_host.kernels()) - kernels:
            print(f"never launched: {', '.join(sorted(missing))}")
        wrong = False
        for dtype, file in files.items():
            found, launched = races(built(folder, _cuda.REALS[dtype]), file)
            print(f"{dtype}: {launched} launches, {found.total()} races {dict(found) or ''}")
            wrong |= bool(found)
        dtype, file = next(iter(files.items()))
        named = options.barriers
        for barrier, source in () if named is None else without_each_barrier(named):
            found, _ = races(built(folder, _cuda.REALS[dtype], source), file)
            print(f"without {barrier}: {dict(found) or 'NO RACE IS SEEN'}", flush=True)
            wrong |= not found
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
