"""From a `bpx.Network` to the estimator that would have built it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ACTIVATIONS, Activation
from ..costs import CrossEntropy, LogLikelihood, Poisson, Quadratic
from ..layers import Dense, Dropout
from ..network import Network
from ..registry import name_of
from . import _stochastic
from ._base import OURS, THEIRS

LOSS_OF_COST = {  # of a cost on an output activation; any other cost stands for itself
    (LogLikelihood, "softmax"): "log_loss",
    (CrossEntropy, "sigmoid"): "log_loss",
    (Quadratic, "identity"): "squared_error",
    (Poisson, "exp"): "poisson",
}


def fitted(est: Any, net: Network, classes: Any, check: Any) -> Any:
    """`est`, a new one, with a copy of a network that passes the check, called with both."""
    est.n_features_in_, est.n_outputs_ = net.input_shape[0], net.output_shape[0]
    if net.columns is not None:
        est.feature_names_in_ = np.array(net.columns, dtype=object)
    est._take_labels(net, classes)
    check(est, net)
    est._validate_params()
    est._begin(net.copy())
    return est


def check_is_network(net: Any) -> None:
    if not isinstance(net, Network):
        raise TypeError(f"expected a bpx.Network, got {type(net).__name__}")


def fitted_mlp(kind: type, net: Any, params: dict[str, Any], classes: Any = None) -> Any:
    """A fitted perceptron around a copy of a network."""
    check_is_network(net)
    read = _parameters(net, _any_network(kind))
    if both := sorted(read.keys() & params.keys()):  # else another name each time
        name = both[0]
        raise TypeError(f"from_network reads {name} off the network: leave {name}= out")
    est = fitted(kind(**read, **params), net, classes, _check_outputs)
    if net.optimizer == _stochastic.optimizer(est):
        est._optimizer = net.optimizer  # partial_fit goes on with its memory
    return est


def _any_network(kind: type) -> str:
    """The end of a message about what a perceptron is not."""
    return f"{kind.__name__.replace('MLP', 'Network')}.from_network takes any layers and outputs"


def _parameters(net: Network, hint: str) -> dict[str, Any]:
    """What an estimator is constructed with to have such layers and such a cost."""
    dense: list[Any] = [layer for layer in net.layers if type(layer) is Dense]
    rates = [layer.rate for layer in net.layers if isinstance(layer, Dropout)]
    hidden = [Dense, Dropout] if rates else [Dense]
    kinds = [type(layer) for layer in net.layers]
    if kinds != [*hidden * (len(dense) - 1), Dense] or len(set(rates)) > 1:
        raise ValueError(
            "expected dense layers, and no dropout or the same after each hidden one, got "
            f"{net!r}: a perceptron has no other layers, and {hint}"
        )
    for layer in dense:
        if not (layer.use_bias and layer.trainable):
            raise ValueError(
                f"expected dense layers with biases, all of them trained, got {layer!r}: a "
                f"perceptron has no others, and {hint}"
            )
    *hidden_layers, output = dense
    names = [_name(layer.activation) for layer in hidden_layers]
    read = {
        "hidden_layer_sizes": tuple(layer.units for layer in hidden_layers),
        "dropout": rates[0] if rates else 0.0,
        "backend": None if net.backend.name == "numpy" else net.backend.name,
        "loss": LOSS_OF_COST.get((type(net.cost), output.activation.name), net.cost),
    }
    if names:
        read["activation"] = names[0] if names.count(names[0]) == len(names) else names
    return read


def _name(activation: Activation) -> Any:
    """scikit-learn's or bpx's name for it; itself where it is a user's own."""
    name = activation.name
    if name not in ACTIVATIONS.builtin or ACTIVATIONS.get(name) != activation:
        return activation
    return THEIRS.get(name, name)


def _check_outputs(est: Any, net: Network) -> None:
    est.out_activation_, task = est._output()
    expected: Activation = ACTIVATIONS.get(OURS.get(est.out_activation_, est.out_activation_))
    count = est.n_outputs_
    if task == "classification" and expected.name == "sigmoid":
        count = 1
    output = net.chain.objective.activation
    if (output, est.n_outputs_, net.task) != (expected, count, task):
        name = name_of(output) or "custom"
        raise ValueError(
            f"{type(est).__name__} has {count} {expected.name} output{'s' * (count != 1)} here, "
            f"for the task {task!r}, and the network has {est.n_outputs_} of {name}, for "
            f"{net.task!r}: make it with output={expected.name!r} and task={task!r}"
            f"{f', or {_any_network(type(est))}' if net.task == task else ''}"
        )
