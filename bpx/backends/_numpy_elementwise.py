"""Activations on NumPy's arrays in place, and the cost that shares a softmax's exponentials.

Where `np.where` would choose between two numbers by the sign of a third, sums of both do it: it
takes 4 ns for an element, since the processor cannot guess signs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from . import _scipy
from ._kernels import Array

# Elements of a vector that stay in a core's L2 cache beside three more vectors and a temporary.
BLOCK = 32_768

# Elements of a matrix whose product with a vector BLAS keeps on the calling thread.
SMALL = 8_192

# Elements up to which one call of SciPy's gives a sigmoid sooner than four of NumPy's, which are
# vectorized: 300 take 1.4 µs against 1.9, and 3,000 take 11.0 against 4.3.
FEWER = 2_048

# Columns of a matrix up to which the largest of each row is better found column by column.
NARROW = 32


@lru_cache(64)  # a constant learning rate asks for the same one at each step
def constant(shape: int | tuple[int, ...], value: float, dtype: np.dtype[Any]) -> np.ndarray:
    """An array of one number, not to be written to."""
    return np.full(shape, value, dtype)


# Constants as 0-d arrays: a ufunc takes one in 0.28 µs, and a Python float in 0.61.
ZERO = {np.dtype(name): np.asarray(0.0, name) for name in ("float32", "float64")}
_ONE = {np.dtype(name): np.asarray(1.0, name) for name in ("float32", "float64")}


def _sigmoid(z: Array, out: Array) -> None:
    if z.size <= FEWER and (expit := _scipy.expit()) is not None:
        expit(z, out)
        return
    # ½ tanh(½ z) + ½ takes 0.55 ns for an element and this 0.80, but is 0, or noise, instead of a
    # small probability.
    np.negative(z, out)
    with np.errstate(over="ignore", under="ignore"):  # 1/∞ is right
        np.exp(out, out)
    out += _ONE[out.dtype]
    np.reciprocal(out, out)


def _sigmoid_backward(delta: Array, a: Array) -> None:
    delta *= a
    delta *= np.subtract(_ONE[a.dtype], a)


def _identity(z: Array, out: Array) -> None:
    if out is not z:
        out[...] = z


def _relu(z: Array, out: Array) -> None:
    # Against zeros of the same shape: 262,144 elements take 54 µs, against one zero 125.
    if z.size <= BLOCK:
        np.maximum(z, constant(z.shape, 0.0, z.dtype), out=out)
    elif z.flags.c_contiguous and out.flags.c_contiguous:
        z, out, zeros = z.reshape(-1), out.reshape(-1), constant(BLOCK, 0.0, z.dtype)
        for start in range(0, z.size, BLOCK):
            part = z[start : start + BLOCK]
            np.maximum(part, zeros[: part.size], out=out[start : start + BLOCK])
    else:
        np.maximum(z, ZERO[z.dtype], out=out)


def _tanh_backward(delta: Array, a: Array) -> None:
    delta *= np.subtract(_ONE[a.dtype], a * a)


def _softmax_backward(delta: Array, a: Array) -> None:
    delta -= np.vecdot(delta, a)[:, None]
    delta *= a


def _softmax(z: Array, out: Array) -> None:
    np.subtract(z, _row_max(z), out)
    _exponentials(out, out)


def _exponentials(z: Array, out: Array) -> Array:
    """``out ← `` the exponentials of each row as shares of their sum; returns the sums, (m,)."""
    np.exp(z, out)
    total = row_sums(out)
    out /= total[:, None]
    return total


def row_sums(x: Array) -> Array:
    """(m,). Up to `SMALL` as a product: 200 × 7 take 2.5 µs, as a reduction 7."""
    if x.size > SMALL:
        return np.add.reduce(x, 1)
    return x.dot(constant(x.shape[1], 1.0, x.dtype))


def log_likelihood(z: Array, a: Array, y: Array, delta: Array) -> Array:
    """``a ← `` softmax and ``delta ← a − y``; returns the cost of each row."""
    # −Σ y_j ln a_j = ln Σ e^{z_k} − Σ y_j z_j, from the softmax's own exponentials.
    np.subtract(z, _row_max(z), delta)
    values = np.vecdot(y, delta)
    total = _exponentials(delta, a)
    np.subtract(a, y, delta)
    return np.log(total) - values


def _row_max(z: Array) -> Array:
    """(m, 1)."""
    if z.shape[1] > NARROW:
        return np.maximum.reduce(z, -1, keepdims=True)
    # By columns, each in a row of its own: 3.2 µs for 200 × 7; along the rows it takes 9.4.
    return np.maximum.reduce(np.ascontiguousarray(z.T), 0)[:, None]


Native = Callable[[Array, Array], Any]  # of z and a, or of δ and a, in place

FORWARD: dict[str | None, Native] = {
    "identity": _identity,
    "sigmoid": _sigmoid,
    "tanh": lambda z, out: np.tanh(z, out),
    "relu": _relu,
    "softmax": _softmax,
}
BACKWARD: dict[str | None, Native] = {
    "identity": lambda delta, a: None,
    "sigmoid": _sigmoid_backward,
    "tanh": _tanh_backward,
    "softmax": _softmax_backward,
    "relu": lambda delta, a: np.multiply(delta, np.greater(a, ZERO[a.dtype]), delta),
}


# --- those that have a number of their own, or whose derivative reads z -------------------------


def _leaky_relu(activation: Any, z: Array, out: Array) -> None:
    zeros = constant(z.shape, 0.0, z.dtype)
    above = np.maximum(z, zeros)
    np.minimum(z, zeros, out=out)
    out *= activation.slope
    out += above


def _leaky_relu_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    delta *= _one_above(z, activation.slope)


def _one_above(z: Array, other: float) -> Array:
    """1 where z > 0, else another number."""
    above = np.greater(z, ZERO[z.dtype])
    found = np.multiply(np.logical_not(above), z.dtype.type(other))
    found += above
    return found


def _elu(activation: Any, z: Array, out: Array) -> None:
    # eᶻ − 1 = 2t / (1 − t) with t = tanh ½z, exact to the last digits too; `expm1` is vectorized
    # with AVX-512 alone.
    zeros = constant(z.shape, 0.0, z.dtype)
    above = np.maximum(z, zeros)
    np.minimum(z, zeros, out=out)
    out *= 0.5
    np.tanh(out, out)
    rest = np.subtract(_ONE[z.dtype], out)
    out *= 2.0 * activation.alpha
    out /= rest
    out += above


def _elu_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    slope, alpha = np.minimum(a, constant(a.shape, 0.0, a.dtype)), activation.alpha
    slope += _ONE[a.dtype] if alpha == 1.0 else _one_above(a, alpha)
    delta *= slope


def _softplus(activation: Any, z: Array, out: Array) -> None:
    # max(z, 0) + ln(1 + e^−|z|); `logaddexp` takes 15 ns for an element.
    above = np.maximum(z, constant(z.shape, 0.0, z.dtype))
    np.abs(z, out)
    np.negative(out, out)
    np.exp(out, out)
    np.log1p(out, out)
    out += above


def _softplus_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    slope = np.negative(z)
    with np.errstate(over="ignore"):  # δ/∞ is right
        np.exp(slope, slope)
    slope += _ONE[z.dtype]
    delta /= slope


def _silu(activation: Any, z: Array, out: Array) -> None:
    np.multiply(z, _half_and_half_tanh(np.multiply(z, z.dtype.type(0.5))), out)


def _silu_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    sigmoid = _half_and_half_tanh(np.multiply(z, z.dtype.type(0.5)))
    slope = np.subtract(_ONE[z.dtype], sigmoid)
    slope *= a
    slope += sigmoid
    delta *= slope


def _gelu(activation: Any, z: Array, out: Array) -> None:
    np.multiply(z, _half_and_half_tanh(_cubic(activation, z)), out)


def _gelu_backward(activation: Any, delta: Array, z: Array, a: Array) -> None:
    share = _half_and_half_tanh(_cubic(activation, z))
    bent = np.subtract(_ONE[z.dtype], share)  # ½ (1 − t²) = 2 s (1 − s), with the share s
    bent *= share
    bent *= z
    bent *= 2.0 * activation.scale
    # Multiplied from the left: `bent` is 0 where z² overflows, and 0·∞ would be NaN.
    more = np.multiply(bent, z.dtype.type(3.0 * activation.cube))
    more *= z
    more *= z
    share += bent
    share += more
    delta *= share


def _cubic(activation: Any, z: Array) -> Array:
    """√(2/π) (z + 0.044715 z³), of which GELU takes tanh."""
    found = np.multiply(z, z)
    found *= activation.cube * activation.scale
    found += activation.scale
    found *= z
    return found


def _half_and_half_tanh(x: Array) -> Array:
    """``x ← `` ½ + ½ tanh x; returns it."""
    np.tanh(x, x)
    x *= 0.5
    x += 0.5
    return x


def in_blocks(function: Callable[..., None], activation: Any, *arrays: Array) -> None:
    """`function` of these arrays; of parts of many elements, which stay in the caches."""
    if arrays[0].size <= BLOCK or not all(array.flags.c_contiguous for array in arrays):
        function(activation, *arrays)
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        function(activation, *(array[start : start + BLOCK] for array in flat))


# Of the activation, z and a; of the activation, δ, z and a; δ's and a's are written to.
FORWARD_OF: dict[str | None, Callable[[Any, Array, Array], None]] = {
    "gelu": _gelu,
    "silu": _silu,
    "leaky-relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
}
BACKWARD_OF: dict[str | None, Callable[[Any, Array, Array, Array], None]] = {
    "gelu": _gelu_backward,
    "silu": _silu_backward,
    "leaky-relu": _leaky_relu_backward,
    "elu": _elu_backward,
    "softplus": _softplus_backward,
}


def sigma(name: str, size: int) -> tuple[Native, Native]:
    """σ and its derivative for so many elements, asked for once; `FORWARD` asks each time."""
    few = name == "sigmoid" and size <= FEWER
    return (_scipy.expit() if few else None) or FORWARD[name], BACKWARD[name]
