"""Dense layers trained and run by compiled loops: the same equations, without Python between.

Matrix products go by tiles on one core, by NumPy's BLAS on all (`_numba_products`); everything
else is a loop that the compiler vectorizes. Compiled once and kept on disk.

Arrays are flat: `a` and `delta` hold a batch's activations and deltas, layer l in
``[at[l] : at[l + 1]]``, and θ is the network's one vector, with ω^l at ``omega[l]``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from ._jit import FLAGS, call, decorators
from ._numba_products import outer, product, product_back

_kernel, _inlined = decorators(*FLAGS)

ACTIVATIONS = {"identity": 0, "sigmoid": 1, "tanh": 2, "relu": 3, "softmax": 4}
# δ^L is a − y in the pairs whose σ' cancels, and a − y times σ' after a quadratic cost.
COSTS = {
    ("quadratic", "identity"): 0,
    ("quadratic", "sigmoid"): 0,
    ("quadratic", "tanh"): 0,
    ("quadratic", "relu"): 0,
    ("quadratic", "softmax"): 0,
    ("cross-entropy", "sigmoid"): 1,
    ("log-likelihood", "softmax"): 2,
}
TASKS = {"regression": 0, "classification": 1, "multilabel": 2}
INTO_THETA, INTO_VELOCITY, NESTEROV, RMSPROP, ADAM = range(5)

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
            largest = row.max()
            total = zero
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


@_kernel
def forward(tiles, x, theta, net):
    """a^L of the rows of x, a fresh array. `net`: inputs, outputs, ω, b, activation by column."""
    rows, layers = x.shape[0], net.shape[1]
    a = x.reshape(-1)
    for i in range(layers):
        into, out = net[0, i], net[1, i]
        z = np.empty(rows * out, theta.dtype)
        _layer(tiles, net[4, i], a, theta, net[2, i], net[3, i], z, rows, into, out)
        a = z
    return a.reshape(rows, net[1, layers - 1])


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


@_kernel
def steps(
    tiles, gather, x, data, order, m, net, vectors, buffers, cost, task, rule, decayed, numbers,
    constants, log, squares
):  # fmt: skip
    """Forward, delta, backward, update, for each mini-batch of `order`.

    x is at its `place`, from which the function at the address `gather` takes rows.

    Σω² goes to `squares` before each step, unless that is empty.

    Returns how many steps were done: all, or those before the first whose cost is not finite,
    of which nothing is written.
    """
    address, row, column = x
    labels, targets, weights, scale, offset = data
    sizes, omega, bias, codes, trained = net
    theta, into, first, second = vectors
    a, delta, y, at = buffers
    layers, k = codes.size, sizes[-1]
    for step in range(log.shape[0]):
        picked = order[step * m : (step + 1) * m]
        rows = picked.size
        # The last, smaller batch works in the first rows of each layer's part.
        call(gather, (address, row, column, picked.ctypes.data, rows, scale.ctypes.data,
                      scale.size, offset.ctypes.data, a.ctypes.data, sizes[0]))  # fmt: skip
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
                    y[r * k + j] = targets[picked[r], j]
        weight = weights[picked] if weights.size else weights
        top = a[at[layers] : at[layers] + rows * k], delta[at[layers] : at[layers] + rows * k]
        found = _output(cost, codes[-1], task, top[0], y, top[1], weight, rows, k,
                        log[step])  # fmt: skip
        if not math.isfinite(found):
            return step
        if squares.size:
            summed = theta.dtype.type(0.0)
            for i in range(decayed):
                summed += theta[i] * theta[i]
            squares[step] = summed
        scales = numbers[step].copy()
        scales[0] = 1.0 if rule > INTO_VELOCITY else numbers[step, 0]
        if not weights.size:
            scales[0] /= rows
        if rule > INTO_VELOCITY:
            scales[1] = scales[2] = 0.0
        _backward(tiles, theta, into, sizes, omega, bias, codes, trained, a, delta, at, rows,
                  scales)  # fmt: skip
        if rule != INTO_THETA:
            _update(rule, theta, into, first, second, decayed, numbers[step], constants)
    return log.shape[0]
