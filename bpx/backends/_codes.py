"""The numbers by which compiled code knows activations, costs, tasks and rules; run.cu has them.

Each name's number is its place.
"""

from __future__ import annotations

from typing import Any

IDENTITY, SIGMOID, TANH, RELU, SOFTMAX, LEAKY_RELU, ELU, SOFTPLUS, EXP, GELU, SILU = range(11)
# run.cu has these, and a compiled run's outputs. Of hidden layers with the others, whose codes are
# `KEPT` or more, σ' is kept.
FROM_A = "identity", "sigmoid", "tanh", "relu", "softmax"
KEPT = len(FROM_A)
ACTIVATIONS = *FROM_A, "leaky-relu", "elu", "softplus", "exp", "gelu", "silu"
NUMBERS = {"leaky-relu": "slope", "elu": "alpha"}  # fields

QUADRATIC, CROSS_ENTROPY, LOG_LIKELIHOOD = range(3)
COSTS = "quadratic", "cross-entropy", "log-likelihood"

REGRESSION, CLASSIFICATION, MULTILABEL = range(3)
TASKS = "regression", "classification", "multilabel"

# A rule's number, and the optimizer's fields that it reads.
INTO_THETA, INTO_VELOCITY, NESTEROV, RMSPROP, ADAM, SGD, MOMENTUM = range(7)
RULES: dict[str, tuple[int, tuple[str, ...]]] = {
    "theta": (INTO_THETA, ()),
    "velocity": (INTO_VELOCITY, ()),
    "nesterov": (NESTEROV, ("momentum", "momentum")),
    "rmsprop": (RMSPROP, ("rho", "epsilon")),
    "adam": (ADAM, ("beta1", "beta2")),
    "adamw": (ADAM, ("beta1", "beta2")),
    "sgd": (SGD, ()),  # these two where the gradient cannot go there, since it is clipped
    "momentum": (MOMENTUM, ("momentum", "momentum")),
}


def code_of(activation: Any) -> int:
    """Its number; for a user's own, which has none, the identity's."""
    return ACTIVATIONS.index(activation.kernel) if activation.kernel in ACTIVATIONS else IDENTITY


def number_of(activation: Any) -> float:
    """Its slope, or what else it has of its own; 0 for one without."""
    return float(getattr(activation, NUMBERS.get(activation.kernel, ""), 0.0))


def rule_of(optimizer: Any) -> Any:
    """The name of the rule by which it steps along a gradient; None: a user's own."""
    if optimizer.kernel != "sgd" or not optimizer.momentum:
        return optimizer.kernel
    return "nesterov" if optimizer.nesterov else "momentum"
