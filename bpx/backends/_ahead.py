"""Functions compiled ahead of the runs that need them, for all that a network may need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import PACKAGES
from ._base import BackendError

# All that are compiled by themselves, in modules of this folder, for each dtype of a network. That
# is simpler than networks that between them would need them all: which kernel is chosen depends on
# sizes, and on the cores.
FUNCTIONS = {
    "_numba_activations": ("activate", "activate_backward", "with_slopes"),
    "_numba_between": (
        *("add_inputs", "batch_norm", "batch_norm_backward", "layer_norm", "layer_norm_backward"),
        "learn",
    ),
    "_numba_branches": ("join", "learn"),
    "_numba_channels": (
        *("batch_statistics", "moments", "normalize", "normalize_backward", "normalize_sums"),
        *("relu", "relu_backward"),
    ),
    "_numba_depthwise": ("convolve", "convolve_weights"),
    "_numba_gather": ("add_at",),
    "_numba_layers": ("forward",),
    "_numba_norms": (
        *("batch_norm", "batch_norm_backward", "layer_norm", "layer_norm_backward"),
        "running_norm",
    ),
    "_numba_products": ("affine",),
    "_numba_random": ("drop",),
    "_numba_rows": ("convolve", "convolve_inputs", "convolve_weights", "sum_over_windows"),
    "_numba_steps": ("steps",),
    "_numba_tiles": ("compiled",),
    "_numba_update": ("optimize",),
    "_numba_windows": ("fold", "window_max", "window_max_backward"),
}
# One for all networks. They take less than a second, and then it is known whether they are kept.
OF_NO_DTYPE = ("_numba_threads", "watch"), ("_numba_random", "keep")
# Also one for each dtype of x and of the numbers by which x is scaled.
OF_INPUTS = "_numba_gather", "gatherer"
INPUTS = "uint8", "float32", "float64", "int64"


@dataclass(frozen=True)
class Compiled:
    """A compiled function: its name, the folder that it is kept in, whether it is new there."""

    name: str
    folder: Path
    is_new: bool


def functions(reals: Sequence[str], inputs: Sequence[str] = INPUTS) -> Iterator[tuple[Any, ...]]:
    """Of each its module, its name and dtypes, as `_machine_code.load` takes them."""
    yield from OF_NO_DTYPE
    for real in map(np.dtype, reals):
        for module, names in FUNCTIONS.items():
            yield from ((module, name, real) for name in names)
        for source in map(np.dtype, inputs):
            for scaling in sorted({real.name, "float64"}):
                yield *OF_INPUTS, source, np.dtype(scaling), real


def compile(*dtypes: str) -> list[Compiled]:
    """Compile what networks on NumPy may need, and keep it on the disk, before any of them runs.

    With the extra ``fast`` the first training on a machine compiles for some 15 seconds, and the
    first prediction for some 4. After this function, or the command ``bpx compile``, every process
    loads machine code in a tenth of a second. It takes half a minute for each dtype, in which
    bpx's log tells what is done, and a fraction of a second where all is there.

    Parameters
    ----------
    *dtypes : str
        Of the networks: ``"float32"``, which is the default, or ``"float64"``, or both. Inputs may
        have these dtypes, uint8 or int64; those of another dtype cost their first run a second.

    Returns
    -------
    list of Compiled
        Each function with its `name`, the `folder` that it is kept in, and `is_new`: whether it
        was compiled now. If the environment variable ``NUMBA_CACHE_DIR`` names the folder, it has
        to be set where the functions are loaded too.

    Raises
    ------
    ValueError
        Another dtype.
    BackendError
        Numba or SciPy is not installed, or the environment switches compiled functions off.
    ImportError
        Numba is installed, but does not import.
    OSError
        There is no folder that could be written to, or bpx is in a zip or a frozen program.
    """
    from . import _fast, _machine_code

    reals = list(dict.fromkeys(map(str, dtypes or ("float32",))))
    for real in reals:
        if real not in _fast.REALS:
            raise ValueError(f"expected dtypes 'float32' or 'float64', got {real!r}")
    if setting := _fast.switched_off_by():
        raise BackendError(
            f"{setting} in the environment switches compiled functions off: unset it"
        )
    if missing := " and ".join(_fast.missing()):
        raise BackendError(f"compiled functions need {missing}: pip install {PACKAGES['fast']}")
    try:
        _machine_code.versions()
    except OSError as error:
        raise OSError(f"{_machine_code.NO_FILES}: install them with pip") from error
    return [
        Compiled(_machine_code.name_of(*each), *_machine_code.keep(*each))
        for each in functions(reals)
    ]
