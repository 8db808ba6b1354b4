"""Random changes of the images of each mini-batch, in training only: ``fit(augment=[Shift(1)])``.

They see images as they were handed in, before a first `Rescale`, and what comes in over an edge
is 0 there. Their random numbers are pure functions of the network's key, the function's place in
the list, the step, the row in the global batch and the element (`bpx.random`): the same on every
backend, for any number of ranks, slices or accumulation steps, and after a `resume`.
"""

from ._base import Augmentation, Draw, Pipeline, apply
from ._expansion import expand
from ._functions import Crop, Elastic, Flip, Noise, Rotate, Shift

__all__ = [
    "Augmentation",
    "Crop",
    "Draw",
    "Elastic",
    "Flip",
    "Noise",
    "Pipeline",
    "Rotate",
    "Shift",
    "apply",
    "expand",
]
