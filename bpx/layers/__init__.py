"""The kinds of layers: frozen descriptions, with forward and backward side by side."""

from typing import Any

from ..elsewhere import ATTRIBUTES_OF_LAYERS
from ..keywords import missing
from ..parameters import Parameter
from ._base import LAYERS, Input, Layer, activation_field, initializer_field
from .activation import Activation
from .columns import Columns
from .concatenate import Concatenate
from .convolution import Conv1D, Conv2D
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .normalization import BatchNorm, LayerNorm
from .pooling import (
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    MaxPool1D,
    MaxPool2D,
)
from .rescale import Rescale
from .residual import Residual
from .shape import Flatten, Permute, Reshape
from .upsampling import Upsample1D, Upsample2D

__all__ = [
    "LAYERS",
    "Activation",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "Columns",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "Input",
    "Layer",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "Parameter",
    "Permute",
    "Rescale",
    "Reshape",
    "Residual",
    "Upsample1D",
    "Upsample2D",
    "activation_field",
    "initializer_field",
]


def __getattr__(name: str) -> Any:
    known = (found for each in __all__ if isinstance(found := globals()[each], type))
    kinds = [kind.__name__ for kind in known if issubclass(kind, Layer | Input)]
    raise missing(f"module {__name__!r}", name, kinds, ATTRIBUTES_OF_LAYERS)
