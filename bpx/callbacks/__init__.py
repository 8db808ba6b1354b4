"""What `fit` calls between steps and between epochs.

A callback is an object with any of four methods, or a function, which is called after each epoch.
Each gets the `Run`: the network, the history so far, and a way to stop.
"""

from ._averaging import WeightAveraging
from ._base import Callback, Run
from ._metric import Metric
from ._progress import Progress
from ._watching import EarlyStopping, ReduceOnPlateau

__all__ = [
    "Callback",
    "EarlyStopping",
    "Metric",
    "Progress",
    "ReduceOnPlateau",
    "Run",
    "WeightAveraging",
]
