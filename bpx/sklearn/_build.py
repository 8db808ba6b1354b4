"""The network that an estimator's `build` describes, with parameters that are drawn anew."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..backends import Backend
from ..ensemble import Ensemble
from ..layers import Input, Layer, sequence
from ..network import Network

PREFIX = "build__"


def drawn(
    build: Network | Callable[..., Any],
    arguments: tuple[Any, ...],
    parameters: dict[str, Any],
    *,
    task: str,
    seed: int,
    backend: Backend | None,
    dtype: str | None,
) -> Network:
    """An untrained network.

    Parameters
    ----------
    build : Network or function
        A network like which it is to be; or a function that returns one, or its layers.
    arguments, parameters : tuple, dict
        Of the function.
    task : str
        For layers; a network has its own.
    backend, dtype : Backend, str, optional
        Those of the network by default.

    Raises
    ------
    TypeError
        Neither; or the function does not take what it is called with, or returns something else.
    """
    if isinstance(build, Ensemble):
        kind = "Regressor" if task == "regression" else "Classifier"
        raise TypeError(
            f"expected build to make one network, got an Ensemble: Voting{kind} takes several "
            f"estimators, and Bagging{kind}(Network{kind}(build)) trains several on samples drawn "
            "for each"
        )
    if not callable(build):  # a network is, too
        raise TypeError(
            "expected build to be a function of (n_inputs, n_outputs) or a bpx.Network, got "
            f"{build!r}: bpx.Network([64, 30, 10]), or lambda n_inputs, n_outputs: [...]"
        )
    if isinstance(build, Network) and parameters:
        name = PREFIX + min(parameters)
        raise TypeError(
            f"{name}= is for a function, and build is a network: leave it out, or pass a function "
            "that takes it and returns the network"
        )
    made = build if isinstance(build, Network) else _called(build, arguments, parameters)
    if not isinstance(made, Network):
        if not isinstance(made, list | tuple):
            raise TypeError(
                f"expected build to return a bpx.Network or a list of layers, got {made!r}"
            )
        of_sizes = not any(isinstance(each, Layer | Input) for each in made)
        ends: dict[str, Any] = {"output": "identity"} if of_sizes and task == "regression" else {}
        dtype = dtype or "float32"
        return Network(made, task=task, seed=seed, backend=backend, dtype=dtype, **ends)
    net = Network(
        [Input(made.input_shape), *made.layers], cost=made.cost, task=made.task, seed=seed,
        backend=backend or made.backend, dtype=dtype or made.dtype,
    )  # fmt: skip
    net.optimizer = made.optimizer
    _keep_untrained(net, made)
    return net


def parameters(build: Any) -> list[str]:
    """The names of a function's parameters beside the numbers of inputs and outputs."""
    if isinstance(build, Network) or not callable(build):
        return []
    try:
        found = list(inspect.signature(build).parameters.values())[2:]
    except (TypeError, ValueError):  # a function in C may have none that can be read
        return []
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [parameter.name for parameter in found if parameter.kind not in several]


def _called(build: Callable[..., Any], arguments: tuple[Any, ...], parameters: Any) -> Any:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # a function in C may have none that can be read
        return build(*arguments, **parameters)
    try:
        signature.bind(*arguments, **parameters)
    except TypeError as error:
        taken = ", ".join(["n_inputs", "n_outputs", *parameters])
        raise TypeError(
            f"expected build to be a function taking ({taken}), got one taking {signature}: "
            f"{error}"
        ) from None
    return build(*arguments, **parameters)


def _keep_untrained(net: Network, made: Network) -> None:
    """Copy what layers have that are not trained: drawn anew it would stay at random."""
    layers = sequence.every(made.layers)
    kept = tuple(f"layers.{path}." for path, layer in layers if not layer.trainable)
    theirs = made.tensors
    for name, tensor in net.tensors.items():
        if name.startswith(kept):
            host = made.backend.to_host(theirs[name])
            tensor[...] = net.backend.from_host(host.astype(net.dtype))
