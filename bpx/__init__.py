"""bpx: feed-forward networks by backpropagation, on the arrays you already have."""

from . import (
    activations,
    backends,
    callbacks,
    costs,
    datasets,
    initializers,
    layers,
    optimizers,
    schedules,
)
from .activations import Activation, CustomActivation
from .backends import BackendError
from .callbacks import Callback, EarlyStopping, ReduceOnPlateau
from .costs import Cost, CustomCost
from .data import batches
from .datasets import DatasetError
from .files import load
from .gradcheck import GradientCheck, gradient_check
from .history import History
from .network import Gradient, Network
from .optimizers import SGD, Adam, AdamW, RMSprop
from .persistence import FileFormatError
from .registry import register
from .training import DivergenceError

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "BackendError",
    "Callback",
    "Cost",
    "CustomActivation",
    "CustomCost",
    "DatasetError",
    "DivergenceError",
    "EarlyStopping",
    "FileFormatError",
    "Gradient",
    "GradientCheck",
    "History",
    "Network",
    "RMSprop",
    "ReduceOnPlateau",
    "activations",
    "backends",
    "batches",
    "callbacks",
    "costs",
    "datasets",
    "gradient_check",
    "initializers",
    "layers",
    "load",
    "optimizers",
    "register",
    "schedules",
]
