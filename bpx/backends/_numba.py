"""Dense layers trained and run by compiled loops: the same equations, without Python between.

Matrix products go by tiles on one core, by NumPy's BLAS on all (`_numba_products`); everything
else is a loop that the compiler vectorizes. Compiled once and kept on disk.

Arrays are flat: `a` and `delta` hold a batch's activations and deltas, layer l in
``[at[l] : at[l + 1]]``, and θ is the network's one vector, with ω^l at ``omega[l]``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.extending import overload

from ._fast_run import ADAM, INTO_THETA, INTO_VELOCITY, LAYERS, NESTEROV, RMSPROP, RUN
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
from ._numba_products import outer, product, product_back

_inlined = inlined(*FLAGS)

ROWS_OF_A_SUM = 256
SMALL_ROWS = 1024  # elements that are worked on at once: rows of a narrow layer are taken together


# --- activations --------------------------------------------------------------------------------


def _tanh(z):
    """``z ← tanh z``."""


@overload(_tanh)
def _tanh_by_dtype(z):
    if z.dtype != types.float32:

        def scalar(z):
            for i in range(z.size):
                z[i] = math.tanh(z[i])

        return scalar

    # Eigen's rational approximation (generic_fast_tanh_float): within 3e-7, and all of it
    # arithmetic that vectorizes. Beyond ±7.9 tanh is ±1 in float32.
    f = np.float32
    p1, p3, p5 = f(4.89352455891786e-3), f(6.37261928875436e-4), f(1.48572235717979e-5)
    p7, p9, p11 = f(5.12229709037114e-8), f(-8.60467152213735e-11), f(2.00018790482477e-13)
    p13 = f(-2.76076847742355e-16)
    q0, q2 = f(4.89352518554385e-3), f(2.26843463243900e-3)
    q4, q6 = f(1.18534705686654e-4), f(1.19825839466702e-6)
    low, high = f(-7.90531110763549805), f(7.90531110763549805)

    def rational(z):
        for i in range(z.size):
            x = z[i]
            x = low if x < low else high if x > high else x  # NaN stays NaN
            s = x * x
            p = ((((((p13 * s + p11) * s + p9) * s + p7) * s + p5) * s + p3) * s + p1) * x
            q = ((q6 * s + q4) * s + q2) * s + q0
            z[i] = p / q

    return rational


@_inlined
def _activate(code, z, rows, n):
    """``z ← σ(z)``, rows of n."""
    half, zero = z.dtype.type(0.5), z.dtype.type(0.0)
    if code == 1:
        for i in range(z.size):
            z[i] *= half
        _tanh(z)
        for i in range(z.size):
            z[i] = half * z[i] + half
    elif code == 2:
        _tanh(z)
    elif code == 3:
        for i in range(z.size):
            z[i] = zero if z[i] < zero else z[i]
    elif code == 4:
        for r in range(rows):
            row = z[r * n : (r + 1) * n]
            largest, total = row[0], zero
            for j in range(n):
                largest = row[j] if row[j] > largest else largest
            for j in range(n):
                row[j] = math.exp(row[j] - largest)
                total += row[j]
            for j in range(n):
                row[j] /= total


@_inlined
def _activate_backward(code, delta, a, rows, n):
    """``delta ← delta ⊙ σ'``, from a = σ(z)."""
    one, zero = a.dtype.type(1.0), a.dtype.type(0.0)
    if code == 1:
        for i in range(a.size):
            delta[i] *= a[i] * (one - a[i])
    elif code == 2:
        for i in range(a.size):
            delta[i] *= one - a[i] * a[i]
    elif code == 3:
        for i in range(a.size):
            # A product, as in the standard: what is not finite above stays so.
            delta[i] *= one if a[i] > zero else zero
    elif code == 4:
        for r in range(rows):
            total = zero
            for j in range(r * n, (r + 1) * n):
                total += delta[j] * a[j]
            for j in range(r * n, (r + 1) * n):
                delta[j] = a[j] * (delta[j] - total)


# --- forward ------------------------------------------------------------------------------------


@_inlined
def _layer(tiles, code, x, theta, omega, bias, z, rows, into, out):
    """``z ← σ(x ωᵀ + b)``."""
    product(tiles, x, theta[omega:], z, rows, into, out)
    if code == 3 and bias >= 0:
        # In one loop, which the compiler vectorizes: 3.6 µs for 200 × 100, where the two take 13
        # (where ReLU alone leaves a value as it is, nothing is stored, and that is a branch).
        zero = z.dtype.type(0.0)
        for r in range(rows):
            for j in range(out):
                value = z[r * out + j] + theta[bias + j]
                z[r * out + j] = zero if value < zero else value
        return
    step = max(1, SMALL_ROWS // out)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        if bias >= 0:
            for r in range(first, last):
                for j in range(out):
                    z[r * out + j] += theta[bias + j]
        _activate(code, z[first * out : last * out], last - first, out)


def forward(real: Any) -> Any:
    """A function of a `LAYERS`, of x (m, n_0) of this dtype, and of a^L (m, n_L)."""
    kind, word, record = from_dtype(real), types.int64, from_dtype(LAYERS)

    def run(told, x, out):
        given = array(told, 1, record)[0]
        x, out = array(x, 2, kind), array(out, 2, kind)
        rows = x.shape[0]
        layers, half = given.layers, rows * given.widest
        theta = vector(given.theta, given.size, kind)
        net = vector(given.net, (5, layers), word)
        where, held = allocated(2 * half * theta.itemsize)
        room, a = vector(where, 2 * half, kind), flat(x, kind)
        last = flat(out, kind)
        for i in range(layers):
            inputs, outputs, first = net[0, i], net[1, i], i % 2 * half
            z = last if i == layers - 1 else room[first : first + rows * outputs]
            _layer(
                given.tiles, net[4, i], a, theta, net[2, i], net[3, i], z, rows, inputs, outputs
            )
            a = z
        free(held)

    return called_by_address(types.void, ARRAY, ARRAY, ARRAY, fastmath=FLAGS)(run)


# --- the end of the forward pass, the start of the backward -------------------------------------


@_inlined
def _cross_entropy(z, y, first, last):
    """ln(1 + eᶻ) − y z of one row."""
    value = 0.0
    for j in range(first, last):
        value += max(z[j], 0.0) + math.log1p(math.exp(-abs(z[j]))) - y[j] * z[j]
        value += 0.0 * z[j]  # max(NaN, 0) may be 0
    return value


@_inlined
def _log_likelihood(z, y, first, last):
    """ln Σ e^{z_k} − Σ y_j z_j of one row, and its softmax over z, from the same exponentials."""
    value, summed, largest = 0.0, 0.0, z[first]
    for j in range(first, last):
        largest = max(largest, z[j])
    for j in range(first, last):
        value -= y[j] * (z[j] - largest)
        z[j] = math.exp(z[j] - largest)
        summed += z[j]
    for j in range(first, last):
        z[j] /= summed
    return value + math.log(summed)


@_inlined
def _output(cost, code, task, z, y, delta, weight, rows, k, log):
    """a^L over z, δ^L (BP1), and the sums of cost, right samples and weight to `log`."""
    costs = right = weights = 0.0
    for r in range(rows):
        w = weight[r] if weight.size else 1.0
        weights += w
        if cost == 1:
            costs += w * _cross_entropy(z, y, r * k, (r + 1) * k)
        elif cost == 2:
            costs += w * _log_likelihood(z, y, r * k, (r + 1) * k)
    if cost != 2:
        _activate(code, z, rows, k)
    for i in range(rows * k):
        delta[i] = z[i] - y[i]
    if cost == 0:
        for r in range(rows):
            w = weight[r] if weight.size else 1.0
            for j in range(r * k, (r + 1) * k):
                costs += w * 0.5 * delta[j] * delta[j]
        _activate_backward(code, delta, z, rows, k)
    if task > 0:
        for r in range(rows):
            w = weight[r] if weight.size else 1.0
            right += w * _is_right(task, z, y, r * k, (r + 1) * k)
    if weight.size:
        share = 1.0 / weights if weights > 0.0 else 0.0
        for r in range(rows):
            for j in range(r * k, (r + 1) * k):
                delta[j] *= share * weight[r]
    log[0], log[1], log[2] = costs, right, weights
    return costs


@_inlined
def _is_right(task, a, y, first, last):
    if task == 1 and last - first > 1:
        best = truth = first
        for j in range(first + 1, last):
            best = j if a[j] > a[best] else best
            truth = j if y[j] > y[truth] else truth
        return best == truth
    wrong = 0
    for j in range(first, last):
        wrong += (a[j] > 0.5) != (y[j] > 0.5)
    return wrong == 0


# --- backward -----------------------------------------------------------------------------------


@_inlined
def _backward(tiles, theta, into, sizes, omega, bias, codes, trained, a, delta, at, rows, scales):
    """BP2 to BP4: δᵀa, and the sums of δ, as ``β·into + α·…`` at the places of ω and b."""
    real = theta.dtype.type
    alpha, beta, keep = real(scales[0]), real(scales[1]), real(scales[2])
    layers, zero = codes.size, real(0.0)
    lowest = 0
    while lowest < layers and not trained[lowest]:
        lowest += 1
    for k in range(layers - 1, lowest - 1, -1):
        n, out = sizes[k], sizes[k + 1]
        d = delta[at[k + 1] : at[k + 2]]
        if k > lowest:
            below, x = delta[at[k] : at[k + 1]], a[at[k] : at[k + 1]]
            product_back(tiles, d, theta[omega[k] :], below, rows, n, out)
            _activate_backward(codes[k - 1], below, x, rows, n)
        if trained[k]:
            x = a[at[k] : at[k + 1]]
            outer(tiles, d, x, into[omega[k] :], rows, n, out, alpha, beta)
            if bias[k] >= 0:
                b = into[bias[k] : bias[k] + out]
                for j in range(out):
                    b[j] = zero if keep == 0.0 else keep * b[j]
                # Of so many rows at a time, into the first of them: a sum of all, one by one, is
                # off by 1e-3 at a million of float32. Nobody reads this δ any more.
                for first in range(0, rows, ROWS_OF_A_SUM):
                    for r in range(first + 1, min(first + ROWS_OF_A_SUM, rows)):
                        for j in range(out):
                            d[first * out + j] += d[r * out + j]
                    for j in range(out):
                        b[j] += alpha * d[first * out + j]


# --- optimizers, as in bpx/optimizers.py --------------------------------------------------------


@_inlined
def _update(rule, theta, into, first, second, decayed, numbers, constants):
    """From the velocity or the gradient in `into` to θ; `into` up to `decayed` is of weights."""
    real = theta.dtype.type
    n0, n1, n2, n3 = real(numbers[0]), real(numbers[1]), real(numbers[2]), real(numbers[3])
    c0, c1 = real(constants[0]), real(constants[1])
    # Subtracted in double precision: in single, 1 − 0.999 is off by 1e-5 of itself.
    d0, d1 = real(1.0 - constants[0]), real(1.0 - constants[1])
    if rule == INTO_VELOCITY:
        if n3 != 0.0:
            for i in range(decayed):
                into[i] += n3 * theta[i]
        for i in range(into.size):
            theta[i] += into[i]
        return
    if n3 != 0.0:  # the gradient of λ/2n Σω²
        for i in range(decayed):
            into[i] += n3 * theta[i]
    if rule == NESTEROV:
        for i in range(into.size):
            first[i] = c0 * first[i] - n0 * into[i]
            theta[i] += c0 * first[i] - n0 * into[i]
    elif rule == RMSPROP:
        for i in range(into.size):
            first[i] = c0 * first[i] + d0 * into[i] * into[i]
            theta[i] -= n0 * into[i] / (math.sqrt(first[i]) + c1)
    elif rule == ADAM:
        if n2 != 0.0:  # AdamW's decay
            for i in range(decayed):
                theta[i] -= n2 * theta[i]
        for i in range(into.size):
            first[i] = c0 * first[i] + d0 * into[i]
            second[i] = c1 * second[i] + d1 * into[i] * into[i]
            theta[i] -= n0 * first[i] / (math.sqrt(second[i]) + n1)


# --- steps --------------------------------------------------------------------------------------


@_inlined
def _step(given, rows, picked, data, weight, net, vectors, buffers, numbers, constants, log):
    """Forward, delta, backward and update for one mini-batch; whether its cost is finite.

    If not, there is no update.
    """
    labels, targets, weights = data
    sizes, omega, bias, codes, trained = net
    theta, into, first, second = vectors
    a, delta, y, at = buffers
    layers, k, tiles, rule = codes.size, sizes[-1], given.tiles, given.rule
    call(given.gather, (given.x, given.row, given.column, picked.ctypes.data, rows, given.scale,
                        given.scaled, given.offset, given.a, sizes[0]))  # fmt: skip
    for i in range(layers):
        z = a[at[i + 1] : at[i + 2]][: rows * sizes[i + 1]]
        code = codes[i] if i < layers - 1 else 0
        _layer(tiles, code, a[at[i] : at[i + 1]], theta, omega[i], bias[i], z, rows,
               sizes[i], sizes[i + 1])  # fmt: skip
    for r in range(rows):
        for j in range(k):
            if labels.size:
                y[r * k + j] = 1.0 if labels[picked[r]] == j else 0.0
            else:
                y[r * k + j] = targets[picked[r] * k + j]
    for r in range(weight.size):
        weight[r] = weights[picked[r]]
    top = a[at[layers] : at[layers] + rows * k], delta[at[layers] : at[layers] + rows * k]
    found = _output(given.cost, codes[-1], given.task, top[0], y, top[1], weight, rows, k,
                    log)  # fmt: skip
    if not math.isfinite(found):
        return False
    alpha = 1.0 if rule > INTO_VELOCITY else numbers[0]
    alpha = alpha if weight.size else alpha / rows
    beta, keep = (0.0, 0.0) if rule > INTO_VELOCITY else (numbers[1], numbers[2])
    _backward(tiles, theta, into, sizes, omega, bias, codes, trained, a, delta, at, rows,
              (alpha, beta, keep))  # fmt: skip
    if rule != INTO_THETA:
        _update(rule, theta, into, first, second, given.decayed, numbers, constants)
    return True


def steps(real: Any) -> Any:
    """Forward, delta, backward, update, for each mini-batch of some rows, for θ of this dtype.

    A function of a `RUN`. Σω² goes to `squares` before each step, unless that is empty. The last,
    smaller batch works in the first rows of each layer's part.

    It returns how many steps were done: all, or those before the first whose cost is not finite,
    which leaves θ and the optimizer's slots as they were.
    """
    kind, word, wide, record = from_dtype(real), types.int64, types.float64, from_dtype(RUN)

    def run(told):
        given = array(told, 1, record)[0]
        layers, samples = given.layers, given.samples
        sizes, at = vector(given.sizes, layers + 1, word), vector(given.at, layers + 2, word)
        net = vector(given.net, (4, layers), word)
        k = sizes[layers]
        data = (
            vector(given.labels, given.labelled, word),
            vector(given.targets, 0 if given.labelled else samples * k, kind),
            vector(given.weights, given.weighted, kind),
        )
        vectors = (
            vector(given.theta, given.size, kind),
            vector(given.into, given.trained, kind),
            vector(given.first, given.trained, kind),
            vector(given.second, given.trained, kind),
        )
        buffers = (
            vector(given.a, at[layers + 1], kind),
            vector(given.delta, at[layers + 1], kind),
            vector(given.y, given.m * k, kind),
            at,
        )
        order = vector(given.order, given.picked, word)
        numbers = vector(given.numbers, (given.steps, 4), wide)
        log = vector(given.log, (given.steps, 3), wide)
        squares = vector(given.squares, given.squared, wide)
        constants = vector(given.constants, 2, wide)
        parts = sizes, net[0], net[1], net[2], net[3]
        for step in range(given.steps):
            picked = order[step * given.m : (step + 1) * given.m]
            weight = vector(given.weight, picked.size if given.weighted else 0, kind)
            if squares.size:
                summed = kind(0.0)
                for i in range(given.decayed):
                    summed += vectors[0][i] * vectors[0][i]
                squares[step] = summed
            good = _step(given, picked.size, picked, data, weight, parts, vectors, buffers,
                         numbers[step], constants, log[step])  # fmt: skip
            if not good:
                return step
        return given.steps

    return called_by_address(INTEGER, ARRAY, fastmath=FLAGS)(run)
