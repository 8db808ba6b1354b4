"""bpx: feed-forward networks by backpropagation, on the arrays you already have.

Start with `bpx.Network`: ``net = bpx.Network([64, 50, 10])``, ``net.fit(x, y)``,
``net.predict(x)``, ``net.save(path)``, and ``bpx.load(path)``. Layers are in `bpx.layers`, costs
in `bpx.costs`, callbacks in `bpx.callbacks`, and estimators for scikit-learn in `bpx.sklearn`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import activations, backends, costs, initializers, layers, optimizers, schedules
from .activations import Activation, CustomActivation
from .backends import BackendError
from .costs import Cost, CustomCost
from .data.minibatches import batches
from .elsewhere import ATTRIBUTES_OF_BPX, ATTRIBUTES_OF_DATASETS, ATTRIBUTES_OF_LAYERS
from .gradients import Gradient
from .keywords import missing
from .network import Network
from .optimizers import SGD, Adam, AdamW, RMSprop
from .registry import register
from .traces import LayerTrace

if TYPE_CHECKING:
    from . import augmentation, callbacks, datasets, plotting
    from .callbacks import Callback, EarlyStopping, Metric, ReduceOnPlateau, WeightAveraging
    from .data.blocks import open_data
    from .datasets import DatasetError
    from .ensemble import Ensemble
    from .files import load
    from .gradcheck import GradientCheck, gradient_check
    from .history import History
    from .members import EnsembleError
    from .onnx import export_onnx
    from .parallel.mpi import DataParallel
    from .parallel.ranks import RankError
    from .persistence import FileFormatError
    from .training.checkpoints import Checkpoint
    from .training.steps import DivergenceError

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "BackendError",
    "Callback",
    "Checkpoint",
    "Cost",
    "CustomActivation",
    "CustomCost",
    "DataParallel",
    "DatasetError",
    "DivergenceError",
    "EarlyStopping",
    "Ensemble",
    "EnsembleError",
    "FileFormatError",
    "Gradient",
    "GradientCheck",
    "History",
    "LayerTrace",
    "Metric",
    "Network",
    "RMSprop",
    "RankError",
    "ReduceOnPlateau",
    "WeightAveraging",
    "activations",
    "augmentation",
    "backends",
    "batches",
    "callbacks",
    "costs",
    "datasets",
    "export_onnx",
    "gradient_check",
    "initializers",
    "layers",
    "load",
    "open_data",
    "optimizers",
    "plotting",
    "register",
    "schedules",
]

# Modules that are loaded when they, or the names in them, are first used: a third of what
# `import bpx` would take.
_LATER: dict[str, tuple[str, ...]] = {
    "augmentation": (),
    "callbacks": ("Callback", "EarlyStopping", "Metric", "ReduceOnPlateau", "WeightAveraging"),
    "data.blocks": ("open_data",),
    "datasets": ("DatasetError",),
    "ensemble": ("Ensemble",),
    "files": ("load",),
    "gradcheck": ("GradientCheck", "gradient_check"),
    "history": ("History",),
    "members": ("EnsembleError",),
    "onnx": ("export_onnx",),
    "parallel.mpi": ("DataParallel",),
    "parallel.ranks": ("RankError",),
    "persistence": ("FileFormatError",),
    "plotting": (),
    "training": (),
    "training.checkpoints": ("Checkpoint",),
    "training.steps": ("DivergenceError",),
}
_MODULES = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LATER or name in _MODULES:
        found = import_module(f"{__name__}.{_MODULES.get(name, name)}")
        value = globals()[name] = found if name in _LATER else getattr(found, name)
        return value
    owner = f"module {__name__!r}"
    kinds = {layers: layers.Layer | layers.Input, schedules: schedules.Schedule, costs: Cost}
    for place, kind in kinds.items():
        it = getattr(place, name, None)
        if isinstance(it, type) and issubclass(it, kind):
            raise missing(owner, name, (), {name: f"it is {place.__name__}.{name}"})
    texts = ATTRIBUTES_OF_LAYERS | ATTRIBUTES_OF_DATASETS | ATTRIBUTES_OF_BPX
    raise missing(owner, name, __all__, texts)


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *({"sklearn"} & {*globals()})})
