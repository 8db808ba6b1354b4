"""The kinds of layers: frozen descriptions, with forward and backward side by side."""

from ..parameters import Parameter
from ._base import LAYERS, Input, Layer, activation_field, initializer_field
from .convolution import Conv1D, Conv2D
from .dense import Dense
from .dropout import Dropout
from .pooling import AveragePool2D, GlobalAveragePool2D, MaxPool2D
from .rescale import Rescale
from .shape import Flatten, Reshape

__all__ = [
    "LAYERS",
    "AveragePool2D",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "Input",
    "Layer",
    "MaxPool2D",
    "Parameter",
    "Rescale",
    "Reshape",
    "activation_field",
    "initializer_field",
]
