"""The parameters of an estimator's optimizer, by names that begin with ``optimizer__``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ..optimizers import Optimizer
from ..registry import unknown

PREFIX = "optimizer__"


def parameters(optimizer: Any) -> dict[str, Any]:
    """Those of an optimizer; none of a name, or of the default."""
    if not isinstance(optimizer, Optimizer):
        return {}
    return {PREFIX + field.name: getattr(optimizer, field.name) for field in fields(optimizer)}


def changed(optimizer: Any, given: Mapping[str, Any]) -> Optimizer:
    """A new optimizer, with other values of some parameters.

    Raises
    ------
    ValueError
        `optimizer` is no object, or has no such parameter, or not with such a value.
    """
    first = min(given)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"{first}= needs an optimizer that is an object, and optimizer is {optimizer!r}: set "
            "optimizer=bpx.Adam() first, or with it"
        )
    known = parameters(optimizer)
    for name in given:
        if name not in known:
            raise unknown(f"parameter of {type(optimizer).__name__}", name, known)
    return replace(
        optimizer, **{name.removeprefix(PREFIX): value for name, value in given.items()}
    )
