"""The kinds of layers: frozen descriptions, with forward and backward side by side."""

from ..parameters import Parameter
from ._base import LAYERS, Input, Layer, activation_field, initializer_field
from .dense import Dense
from .dropout import Dropout
from .rescale import Rescale

__all__ = [
    "LAYERS",
    "Dense",
    "Dropout",
    "Input",
    "Layer",
    "Parameter",
    "Rescale",
    "activation_field",
    "initializer_field",
]
