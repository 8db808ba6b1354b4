"""What a launcher of several processes (mpiexec, srun) has told this one by its environment."""

from __future__ import annotations

import os

# Open MPI and PRRTE, MPICH's Hydra and PMI, MVAPICH, PMIx, Slurm: the first that is set counts.
_RANK = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")
_SIZE = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_NTASKS")
_ON_THIS_HOST = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID",
)  # fmt: skip


def _first(names: tuple[str, ...]) -> int | None:
    found = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in found if value.isdigit()), None)


def rank() -> int | None:
    """This process's number among those that were started together; None: it was started alone.

    A batch script of Slurm's is alone: only what ``srun`` or ``mpiexec`` starts in it has a rank.

    Examples
    --------
    >>> from bpx import launcher
    >>> launcher.rank() is None
    True
    """
    found, size = _first(_RANK), _first(_SIZE)
    return None if found is None or size is None or size < 2 else found


def cores() -> list[int]:
    """The cores on which this process may run: all of the host's, or those it was bound to."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def rank_on_host() -> int:
    """This process's number among those on this host; 0 if it is not known."""
    return _first(_ON_THIS_HOST) or 0 if rank() is not None else 0
