"""What `Network.fit` does: its arguments are checked in `fit`, and its loop is in `trainer`.

An epoch is one of the `passes` through its `steps`: one by one, by `replays` of a recording, or
as a compiled `program`; `slices` has steps on a part of each mini-batch. `sources` bring the
data, and `updates` change the parameters. A run goes on from one of its `snapshots`, which are
kept as `checkpoints`; `agreement` is what the processes of a parallel run ask of each other.
"""

from .fit import Options, names_of_run, train, train_quietly

__all__ = ["Options", "names_of_run", "train", "train_quietly"]
