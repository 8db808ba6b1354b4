"""Dense layers in compiled loops: activations, the forward pass, and predictions.

Matrix products go by tiles or by NumPy's BLAS (`_numba_products`); everything else is a loop that
the compiler vectorizes.
"""

from __future__ import annotations

from typing import Any

from numba import from_dtype

from ._codes import KEPT, RELU, SIGMOID, SOFTMAX, TANH
from ._fast_run import ALONE, BY_ROWS, FORWARD, LAYER, NO_MEMORY, ROWS_OF_BLOCK
from ._jit import (
    ARRAY,
    FLAGS,
    INTEGER,
    allocated,
    array,
    call,
    called_by_address,
    flat,
    free,
    inlined,
    vector,
)
from ._numba_activations import exponential, sigmoid, tanh
from ._numba_products import product

_inlined = inlined(*FLAGS)

SMALL_ROWS = 1024  # elements that are worked on at once: rows of a narrow layer are taken together


# --- activations --------------------------------------------------------------------------------


@_inlined
def activate(code, z, rows, n):
    """``z ← σ(z)``, rows of n, of those whose σ' follows from a."""
    zero = z.dtype.type(0.0)
    if code == SIGMOID:
        for i in range(z.size):
            z[i] = sigmoid(z[i])
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    elif code == RELU:
        for i in range(z.size):
            z[i] = zero if z[i] < zero else z[i]
    elif code == SOFTMAX:
        for r in range(rows):
            row = z[r * n : (r + 1) * n]
            largest = row[0]
            for j in range(n):
                largest = row[j] if row[j] > largest else largest
            for j in range(n):
                row[j] -= largest
        for i in range(z.size):  # of all rows: one of ten alone is hardly a vector
            z[i] = exponential(z[i])
        for r in range(rows):
            row, total = z[r * n : (r + 1) * n], zero
            for j in range(n):
                total += row[j]
            for j in range(n):
                row[j] /= total


@_inlined
def activate_backward(code, delta, a, rows, n):
    """``delta ← delta ⊙ σ'``, from a = σ(z)."""
    one, zero = a.dtype.type(1.0), a.dtype.type(0.0)
    if code == SIGMOID:
        for i in range(a.size):
            delta[i] *= a[i] * (one - a[i])
    elif code == TANH:
        for i in range(a.size):
            delta[i] *= one - a[i] * a[i]
    elif code == RELU:
        for i in range(a.size):
            # A product, as in the standard: what is not finite above stays so.
            delta[i] *= one if a[i] > zero else zero
    elif code == SOFTMAX:
        for r in range(rows):
            total = zero
            for j in range(r * n, (r + 1) * n):
                total += delta[j] * a[j]
            for j in range(r * n, (r + 1) * n):
                delta[j] = a[j] * (delta[j] - total)


# --- forward ------------------------------------------------------------------------------------


@_inlined
def layer(tiles, way, code, x, w, bias, z, rows, m, inputs, units, outputs):
    """``z ← σ(x ωᵀ + b)``: rows of m, and units of a layer of `outputs`, as `product` has them."""
    product(tiles, way, x, w, z, rows, m, inputs, units, outputs)
    finish(code, bias, z, rows, units, outputs)


@_inlined
def finish(code, bias, z, rows, units, outputs):
    """``z ← σ(z + b)``."""
    if code == RELU and bias.size:
        # In one loop, which the compiler vectorizes: 3.6 µs for 200 × 100, where the two take 13
        # (where ReLU alone leaves a value as it is, nothing is stored, and that is a branch).
        zero = z.dtype.type(0.0)
        for r in range(rows):
            for j in range(units):
                value = z[r * outputs + j] + bias[j]
                z[r * outputs + j] = zero if value < zero else value
        return
    step = max(1, SMALL_ROWS // outputs) if units == outputs else 1
    for first in range(0, rows, step):
        last = min(first + step, rows)
        if bias.size:
            for r in range(first, last):
                for j in range(units):
                    z[r * outputs + j] += bias[j]
        some = z[first * outputs : first * outputs + (last - first) * units]
        activate(code, some, last - first, units)


def forward(real: Any) -> Any:
    """A function of a `FORWARD`, of x (m, n_0) of this dtype, and of a^L (m, n_L).

    Its result is 1 only if all of x ωᵀ in the first layer is finite, as it never is where x is
    not; 0 may also come of numbers that are too large to be added up. `NO_MEMORY` says that there
    is none for the activations.
    """
    kind, record, of_layer = from_dtype(real), from_dtype(FORWARD), from_dtype(LAYER)
    zero = kind(0.0)

    def run(told, x, out):
        given = array(told, 1, record)[0]
        x, out = array(x, 2, kind), array(out, 2, kind)
        (m, n), k, layers = x.shape, out.shape[1], given.layers
        blocks = max(1, -(-m // ROWS_OF_BLOCK)) if given.many else 1
        way, most = BY_ROWS if given.many else ALONE, max(1, -(-m // blocks))
        half = most * given.widest
        theta = vector(given.theta, given.size, kind)
        net = vector(given.net, layers, of_layer)
        where, held = allocated(2 * half * theta.itemsize)
        if held == 0:
            return NO_MEMORY
        room, x, out = vector(where, 2 * half, kind), flat(x, kind), flat(out, kind)
        nan_if_any = zero
        for top in range(0, m, most):
            rows = min(most, m - top)
            a, last = x[top * n :], out[top * k : (top + rows) * k]
            for i in range(layers):
                each, first = net[i], i % 2 * half
                inputs, outputs, b = each.inputs, each.units, each.bias
                z = last if i == layers - 1 else room[first : first + rows * outputs]
                w, bias = theta[each.omega :], theta[b : b + outputs] if b >= 0 else theta[:0]
                product(given.tiles, way, a, w, z, rows, rows, inputs, outputs, outputs)
                if i == 0:
                    for j in range(z.size):
                        nan_if_any += z[j] * zero
                finish(each.code, bias, z, rows, outputs, outputs)
                if each.code >= KEPT:
                    call(given.sigma, (each.code, each.number, z.ctypes.data, 0, rows, outputs,
                                       outputs))  # fmt: skip
                a = z
        free(held)
        return 1 if nan_if_any == zero else 0

    return called_by_address(INTEGER, ARRAY, ARRAY, ARRAY, fastmath=FLAGS)(run)
