"""The CUDA kernels themselves, run on the host: their sources behind `cuda_on_host.h`.

For what a compiler and NumPy's arrays can show: the arithmetic, the indices, the barriers, and
the arguments that the backend passes. `cuda_races.py` looks for races; only a device shows speed.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from bpx.backends import _cuda

HERE = Path(__file__).parent

# Few, so that loops go round more than once; two blocks of two warps, so that all have neighbours.
FEW = _cuda.Threads(2, 64)


SHARED = 227 * 1024  # bytes: what a block may have on compute capability 9.0


class NoCompiler(RuntimeError):
    """Nothing here can compile the kernels."""


def compiler():
    found = shutil.which("g++")
    if sys.platform != "linux" or found is None:
        raise NoCompiler("the CUDA kernels run on the host through g++ on Linux: not found")
    return found


# With the bounds of its launches, where there are any; and a macro that defines kernels by name.
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\((\S+)\)\s+)?(\w+)\(')
MACRO = re.compile(r"^#define (\w+)\(name, \w+\)((?:.*\\\n)+.*)", re.MULTILINE)


@cache
def kernels():
    """The bounds of the launches of each kernel in the sources, by its name."""
    plain = MACRO.sub("", _cuda.source())
    defined = [
        re.sub(r"(##|\b)name\b", name, body)
        for macro, body in MACRO.findall(_cuda.source())
        for name in re.findall(rf"^{macro}\((\w+), ", plain, re.MULTILINE)
    ]
    text = "\n".join([plain, *defined])
    found = {name: bounds for bounds, name in KERNEL.findall(text)}
    assert len(found) == text.count("__global__"), "a kernel is not written as the others are"
    return found


def program(threads="cuda_coroutines.h", source=None):
    """The kernels as C++, and for each a function that launches it."""
    entries = "".join(
        f'extern "C" void launch_{name}'
        "(unsigned blocks, unsigned threads, unsigned shared, void** arguments) "
        f"{{ host::launch({name}, blocks, threads, shared, arguments); }}\n"
        for name in kernels()
    )
    cuda, threads = ((HERE / name).read_text("utf-8") for name in ("cuda_on_host.h", threads))
    source = (source or _cuda.source()).replace("extern __shared__ double dynamic[];", "")
    return f"{cuda.replace('#include THREADS', threads + '//')}\n{source}\n{entries}"


@cache
def library(dtype, folder):
    """The kernels for a dtype as a shared library, compiled once for all processes of a run."""
    import fcntl

    text, real = program(), _cuda.REALS[dtype]
    path = folder / f"kernels-{real}-{sha256(text.encode()).hexdigest()[:16]}.so"
    with open(folder / f"{real}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", f"-DREAL={real}"]
            flags.append("-U_FORTIFY_SOURCE")  # which takes a jump between stacks for an attack
            flags.append("-fno-gnu-unique")  # or what float's templates share is double's too
            command = [compiler(), *flags, "-x", "c++", "-", "-o", str(path)]
            done = subprocess.run(command, input=text, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr
    return ctypes.PyDLL(str(path))  # which keeps Python's lock: the threads' state is static


class Kernels:
    """In the place of `_cuda.KernelLauncher`, with at most `most` threads in a launch.

    Between two barriers, threads run one after another, `backwards` with the last one first.
    """

    def __init__(
        self, folder: Path, most: _cuda.Threads = FEW, *, backwards: bool = False
    ) -> None:
        compiler()
        self.folder, self.most, self.backwards = folder, most, backwards
        self.launched: set[str] = set()

    def __call__(self, name, dtype, threads, arguments, shared=0):
        assert 0 <= shared <= SHARED
        assert 1 <= threads.blocks < 2**31
        assert threads.a_block in range(32, 1025, 32)
        values = [pointed(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        blocks, a_block = self.threads(name, threads)
        compiled = library(dtype, self.folder)
        compiled.run_backwards(int(self.backwards))
        getattr(compiled, f"launch_{name}")(blocks, a_block, shared, addresses)
        self.launched.add(name)

    def threads(self, name, wanted):
        """The blocks of a launch, and the threads of a block."""
        blocks, a_block = map(min, wanted, self.most)
        # Each thread of a tile has its place in it.
        is_tile = kernels()[name] == "tiles::THREADS"
        return blocks, wanted.a_block if is_tile else a_block


def pointed(argument):
    """As CuPy passes it to a raw kernel; it would pass a NumPy scalar in its own size."""
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    assert type(argument) in (int, float), f"a kernel's argument is a {type(argument).__name__}"
    return (ctypes.c_longlong if type(argument) is int else ctypes.c_double)(argument)
