"""Dense layers trained by compiled loops: the same equations, without Python between.

Compiled once and kept on disk. Arrays are flat: `a` and `delta` hold a batch's activations and
deltas, layer l from ``at[l]`` on, and θ is the network's one vector, with ω^l at
``omega[l]``. A layer's input is in `a` at ``inputs[l]``: where `Dropout` is before it, that is
behind the activations, which σ' needs as they were. `delta` has at ``factors[l]`` what is
multiplied with it on the way back, if that is not 0: a mask, or σ' that does not follow from a.

Several threads may do a step together: all call the same function, each for its own part, and
meet where one needs what others have done. The forward pass and δ go by units of a layer or by
rows of the mini-batch, gradients and the optimizer by units, so that each core keeps its part of θ
and of the optimizer's memory in its own caches. The bits are the same for any number of threads.
"""

from __future__ import annotations

import math
from typing import Any

from numba import from_dtype, types

from ._aligned import LINE
from ._codes import (
    CLASSIFICATION,
    CROSS_ENTROPY,
    IDENTITY,
    INTO_THETA,
    INTO_VELOCITY,
    LEAKY_RELU,
    LOG_LIKELIHOOD,
    QUADRATIC,
    REGRESSION,
    SOFTMAX,
)
from ._fast_run import ALONE, BY_ROWS, BY_UNITS, END, GATE, JOINED, MEETING, MEMBERS, NORM, RUN
from ._jit import (
    ARRAY,
    FLAGS,
    INTEGER,
    array,
    call,
    called_by_address,
    inlined,
    prefetch,
    vector,
)
from ._numba_layers import activate, activate_backward, layer
from ._numba_products import OUTPUTS, outer, product_back
from ._numba_threads import add, load, store, wait_a_while, wait_for, wait_for_another
from ._numba_tiles import sum_rows
from ._numba_update import update
from ._numba_vectors import BYTES

_inlined = inlined(*FLAGS)

# Rows of a mini-batch, and units of a layer, that stay together, at least: as many as loops take.
SOME_ROWS, SOME_UNITS = 4, 8
# Bytes of a thread's rows of x for the next step, up to which they are asked for: those of more
# would be gone from the second cache before they are read.
NEXT = 65_536

_SIZE = NORM.itemsize


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
def _output(cost, code, task, z, y, delta, weight, mass, rows, k, costs, right):
    """a^L over z, δ^L (BP1), and of each row the cost, and 1 if it is right, by its weight."""
    for r in range(rows):
        if cost == CROSS_ENTROPY:
            costs[r] = _cross_entropy(z, y, r * k, (r + 1) * k)
        elif cost == LOG_LIKELIHOOD:
            costs[r] = _log_likelihood(z, y, r * k, (r + 1) * k)
    if cost != LOG_LIKELIHOOD:
        activate(code, z, rows, k)
    for i in range(rows * k):
        delta[i] = z[i] - y[i]
    if cost == QUADRATIC:
        for r in range(rows):
            # A sum in memory would be by vectors or not, by where the arrays lie.
            total = 0.0
            for j in range(r * k, (r + 1) * k):
                total += 0.5 * delta[j] * delta[j]
            costs[r] = total
        activate_backward(code, delta, z, rows, k)
    for r in range(rows):
        right[r] = 1.0 if task != REGRESSION and _is_right(task, z, y, r * k, (r + 1) * k) else 0.0
    if weight.size:
        share = 1.0 / mass if mass > 0.0 else 0.0
        for r in range(rows):
            costs[r] *= weight[r]
            right[r] *= weight[r]
            for j in range(r * k, (r + 1) * k):
                delta[j] *= share * weight[r]


@_inlined
def _is_right(task, a, y, first, last):
    if task == CLASSIFICATION and last - first > 1:
        best = truth = first
        for j in range(first + 1, last):
            best = j if a[j] > a[best] else best
            truth = j if y[j] > y[truth] else truth
        return best == truth
    wrong = 0
    for j in range(first, last):
        wrong += (a[j] > 0.5) != (y[j] > 0.5)
    return wrong == 0


# --- parts of a step ----------------------------------------------------------------------------


@_inlined
def _share(count, unit, pieces, member, members):
    """Where a member's part of so many begins and ends, of so many pieces of a unit."""
    last = count if member == members - 1 else min(count, pieces * (member + 1) // members * unit)
    return min(count, pieces * member // members * unit), last


@_inlined
def _rows(m, member, members):
    """A member's first row, and how many it has: not a single one, for loops take two at once."""
    top, bottom = _share(m, SOME_ROWS, m // SOME_ROWS, member, members)
    return top, bottom - top


@_inlined
def _units(outputs, like, member, members):
    """A member's first unit of a layer, and how many it has: vectors, and enough for loops."""
    piece = max(BYTES // like.itemsize, SOME_UNITS)
    left, right = _share(outputs, piece, (outputs + piece - OUTPUTS) // piece, member, members)
    return left, right - left


@_inlined
def _block(way, m, outputs, like, member, members):
    """A member's part of a layer's m rows of `outputs`: the first row, rows, first unit, units."""
    if way == BY_UNITS:
        left, units = _units(outputs, like, member, members)
        return 0, m, left, units
    top, rows = _rows(m, member, members)
    return top, rows, 0, outputs


@_inlined
def _way(given, i, m, net):
    """Who does what of layer i.

    With some of its units a thread reads what others have of its input, with some rows what they
    have of ω: the less of them. A softmax needs all units of a row, and a norm all that it takes
    statistics of.
    """
    if given.shared == 0:
        return ALONE
    sizes, codes, norms = net[0], net[3], net[6]
    if norms[i].way:
        return norms[i].way
    is_softmax = i < codes.size - 1 and codes[i] == SOFTMAX
    return BY_UNITS if sizes[i + 1] >= m and not is_softmax else BY_ROWS


@_inlined
def _meet(given, members, met):
    """Wait until all have come here; returns how often they have."""
    if members > 1:
        add(given.team + MEETING, 1)
        wait_for(given.team + MEETING, (met + 1) * members, given.let_others)
    return met + 1


# --- steps --------------------------------------------------------------------------------------


@_inlined
def _load(given, picked, part, data, weight, y, a, inputs, k):
    """Some rows of x, of targets and of weights."""
    top, rows = part
    labels, targets, weights = data
    own, out = picked[top : top + rows], a.ctypes.data + top * inputs * a.itemsize
    call(given.gather, (given.x, given.row, given.column, own.ctypes.data, rows, given.scale,
                        given.scaled, given.offset, out, inputs))  # fmt: skip
    aims = y[top * k : (top + rows) * k]
    for r in range(rows):
        for j in range(k):
            if labels.size:
                aims[r * k + j] = 1.0 if labels[own[r]] == j else 0.0
            else:
                aims[r * k + j] = targets[own[r] * k + j]
    if weights.size:
        for r in range(rows):
            weight[top + r] = weights[own[r]]


@_inlined
def _ask(given, later, member, members, n):
    """Ask for a member's rows of x of the next step, while the gradients of this one are added up.

    Where they are shuffled, 10 rows of 784 uint8 then take 1.2 µs instead of 3.7.
    """
    top, rows = _rows(later.size, member, members)
    size = given.column * n
    if 0 < size <= abs(given.row) and rows * size <= NEXT:  # else a row is in many places
        for r in range(top, top + rows):
            first = given.x + later[r] * given.row
            for byte in range(0, size, LINE):
                prefetch(first + byte, 0, 2)
            prefetch(first + size - 1, 0, 2)


@_inlined
def _drop(given, i, block, drawn, net, a, delta, at):
    """Lay layer i's mask, if it has one, on a part of its input, and on factors that are there."""
    (top, rows, left, units), (sizes, _, _, codes, _, of_inputs, _) = block, net
    inputs, factors, limits, streams, _ = of_inputs
    if limits[i] > 0:
        skipped, onto = top * sizes[i] + left, i > 0 and codes[i - 1] >= LEAKY_RELU
        x, there = a[at[i] + skipped :].ctypes.data, inputs[i] + skipped
        call(given.drop, (streams[i], drawn, top, left, rows, units, sizes[i], limits[i], x,
                          delta[factors[i] + skipped :].ctypes.data, a[there:].ctypes.data,
                          onto))  # fmt: skip


@_inlined
def _forward(given, who, m, drawn, net, theta, a, delta, at):
    """Up to z^L."""
    member, members, met = who
    sizes, omega, bias, codes, _, (inputs, factors, _, _, numbers), norms = net
    before, (top, rows) = ALONE, _rows(m, member, members)
    left, units = 0, sizes[0]
    for i in range(codes.size):
        _drop(given, i, (top, rows, left, units), drawn, net, a, delta, at)
        n, out, way = sizes[i], sizes[i + 1], _way(given, i, m, net)
        if way == BY_UNITS or before == BY_UNITS:
            met = _meet(given, members, met)
        before = way
        top, rows, left, units = _block(way, m, out, a, member, members)
        if rows > 0 and units > 0:
            x, z = a[inputs[i] + top * n :], a[at[i + 1] + top * out + left :]
            w, b = theta[omega[i] + left * n :], bias[i] + left
            added = theta[b : b + units] if bias[i] >= 0 else theta[:0]
            code = codes[i] if i < codes.size - 1 else IDENTITY
            norm, told = norms[i], given.between + i * _SIZE
            first = IDENTITY if norm.way else code
            layer(given.tiles, way, first, x, w, added, z, rows, m, n, units, out)
            if norm.way:
                call(norm.forward, (told, code, top, rows, left, units, z.ctypes.data))
            if code >= LEAKY_RELU:
                slopes = delta[factors[i + 1] + top * out + left :]
                call(given.curve, (code, numbers[i], z.ctypes.data, slopes.ctypes.data, rows,
                                   units, out))  # fmt: skip
    return _meet(given, members, met) if before == BY_UNITS else met


@_inlined
def _backward(given, who, m, net, theta, a, delta, at):
    """BP2, down to the lowest layer that is trained."""
    member, members, met = who
    sizes, omega, _, codes, _, (_, factors, _, _, _), norms = net
    before = ALONE
    for i in range(codes.size - 1, given.lowest, -1):
        n, out, way = sizes[i], sizes[i + 1], _way(given, i - 1, m, net)
        if way == BY_UNITS or before == BY_UNITS:
            met = _meet(given, members, met)
        before = way
        top, rows, left, units = _block(way, m, n, a, member, members)
        if rows > 0 and units > 0:
            first = at[i] + top * n + left
            d, below, x = delta[at[i + 1] + top * out :], delta[first:], a[first:]
            product_back(given.tiles, way, d, theta[omega[i] + left :], below, rows, units, n,
                         out)  # fmt: skip
            step, factor = rows if units == n else 1, delta[factors[i] + top * n + left :]
            for r in range(0, rows, step):
                here, there = r * n, r * n + step * units
                some, times = below[here:there], factor[here:there]
                if factors[i] > 0:
                    for j in range(some.size):
                        some[j] *= times[j]
                activate_backward(codes[i - 1], some, x[here:there], step, units)
            norm, told = norms[i - 1], given.between + (i - 1) * _SIZE
            if norm.way:
                call(norm.backward, (told, top, rows, left, units, below.ctypes.data))
    return _meet(given, members, met)


@_inlined
def _gradient(given, i, part, m, net, into, a, delta, at, scalars):
    """BP3 and BP4 for some units of layer i and its norm, as ``β·into + α·…``."""
    left, units = part
    sizes, omega, bias, _, trained, (inputs, _, _, _, _), norms = net
    real, way = into.dtype.type, BY_UNITS if given.shared else ALONE
    fused = given.rule <= INTO_VELOCITY
    alpha = scalars[0] if fused else 1.0
    alpha = real(alpha if given.weighted else alpha / m)
    beta, keep = real(scalars[1] if fused else 0.0), real(scalars[2] if fused else 0.0)
    n, out, w, b = sizes[i], sizes[i + 1], omega[i] + left * sizes[i], bias[i] + left
    d, x, end = delta[at[i + 1] + left :], a[inputs[i] :], w + units * n
    if trained[i]:
        outer(given.tiles, way, d, x, into[w:end], m, n, units, out, alpha, beta)
        if bias[i] >= 0:
            sum_rows(d.ctypes.data, out, m, units, into[b:].ctypes.data, alpha, keep, d.itemsize)
    norm, told = norms[i], given.between + i * _SIZE
    if norm.trained:
        call(norm.learn, (told, m, left, units, alpha, keep, into.ctypes.data))


@_inlined
def _update(given, i, part, net, vectors, scalars, constants):
    """The optimizer, for some units of layer i and its norm."""
    left, units = part
    n, w, b = net[0][i], net[1][i] + left * net[0][i], net[2][i] + left
    norm = net[6][i]
    weights, biases = units * n if net[4][i] else 0, units if net[4][i] and net[2][i] >= 0 else 0
    parts = (w, weights), (b, biases), (norm.scale + left, units), (norm.shift + left, units)
    for k in range(4 if norm.trained else 2):  # a number that LLVM does not know: one copy
        start, count = parts[k]
        update(given.rule, vectors, start, start + count, start == w, scalars, constants)


@_inlined
def _square(given, i, part, net, vectors, l2, norms):
    """Add what L2 does to the gradient of some units of layer i, and sum up its squares."""
    left, units = part
    n, w, b = net[0][i], net[1][i] + left * net[0][i], net[2][i] + left
    norm = net[6][i]
    n = n if net[4][i] else 0
    theta, into, _, _ = vectors
    l2, wide = theta.dtype.type(l2), norms.dtype.type  # squares of float32 have room in it
    for o in range(units):
        row, omega = into[w + o * n : w + (o + 1) * n], theta[w + o * n : w + (o + 1) * n]
        if l2 != 0.0:
            for j in range(n):
                row[j] += l2 * omega[j]
        total = 0.0
        for j in range(n):
            total += wide(row[j]) * wide(row[j])
        if net[4][i] and net[2][i] >= 0:
            total += wide(into[b + o]) * wide(into[b + o])
        if norm.trained:
            scale, shift = into[norm.scale + left + o], into[norm.shift + left + o]
            total += wide(scale) * wide(scale) + wide(shift) * wide(shift)
        norms[left + o] = total


@_inlined
def _clipping(given, members, met, norms, into, most):
    """The factor with which the gradient's norm is at most this, once all have their part."""
    met = _meet(given, members, met)
    total, largest = 0.0, 0.0
    for o in range(norms.size):
        total += norms[o]
    if total < math.inf:  # `isfinite` is x − x in Numba, which LLVM 15 takes for 0 in some sums
        return min(1.0, most / math.sqrt(total)) if total > 0.0 else 1.0
    for i in range(into.size):  # again, since of float64 squares may have no room
        largest = max(largest, abs(into[i]))
    total = 0.0
    for i in range(into.size):
        total += (into[i] / largest) * (into[i] / largest)
    _meet(given, members, met)  # before anyone changes it
    return min(1.0, most / math.sqrt(total) / largest)


@_inlined
def _step(given, who, picked, later, data, net, vectors, buffers, scalars, constants, log):
    """A member's part of a step on one mini-batch; whether the step's cost is finite.

    If not, there is no update.
    """
    (member, members, drawn), (sizes, _, _, codes, trained, _, between) = who, net
    a, delta, at, y, weight, costs, right, norms = buffers
    layers, m, theta = codes.size, picked.size, vectors[0]
    k, (top, rows) = sizes[layers], _rows(m, member, members)
    if rows > 0:
        _load(given, picked, (top, rows), data, weight, y, a, sizes[0], k)
    met = _forward(given, (member, members, 0), m, drawn, net, theta, a, delta, at)
    mass = 0.0 if given.weighted else float(m)
    if given.weighted:
        for r in range(m):
            mass += data[2][picked[r]]
    if rows > 0:
        first, last, bottom = at[layers] + top * k, at[layers] + (top + rows) * k, top + rows
        _output(given.cost, codes[-1], given.task, a[first:last], y[top * k :], delta[first:last],
                weight[top : bottom if given.weighted else top], mass, rows, k, costs[top:],
                right[top:])  # fmt: skip
    met = _backward(given, (member, members, met), m, net, theta, a, delta, at)
    _ask(given, later, member, members, sizes[0])
    found = correct = 0.0
    for r in range(m):
        found += costs[r]
        correct += right[r]
    if member == 0:
        log[0], log[1], log[2] = found, correct, mass
    if not abs(found) < math.inf:
        return False
    l2, factor, clipped = scalars[3], 1.0, norms.size > 0
    for turn in range(2 if clipped else 1):  # to clip it, the whole gradient has to be there
        if turn:
            l2, factor = 0.0, _clipping(given, members, met, norms, vectors[1], constants[2])
        unit = 0
        for i in range(layers - 1, given.lowest - 1, -1):
            part = _units(sizes[i + 1], a, member, members)
            if (trained[i] or between[i].trained) and part[1] > 0:
                if not turn:
                    _gradient(given, i, part, m, net, vectors[1], a, delta, at, scalars)
                if clipped and not turn:
                    _square(given, i, part, net, vectors, l2, norms[unit:])
                elif given.rule != INTO_THETA:
                    of_update = scalars[0], scalars[1], scalars[2], l2, factor
                    _update(given, i, part, net, vectors, of_update, constants)
            unit += sizes[i + 1]
    return True


@_inlined
def _open(team, step):
    """Let those who have joined take part in a step; returns how many take part."""
    members = load(team + JOINED) + 1
    if members > 1:
        store(team + MEETING, 0)
        store(team + END, 0)
        store(team + GATE, (step + 1) * MEMBERS + members)
    return members


def steps(real: Any) -> Any:
    """Forward, delta, backward, update, for each mini-batch of some rows, for θ of this dtype.

    A function of a `RUN`, and of 0, or 1 in a thread that joins in what one with 0 does. Σω² goes
    to `squares` before each step, unless that is empty. The last, smaller batch works in the first
    rows of each layer's part.

    It returns the step after those that were done: all, or those before the first whose cost is
    not finite, which leaves θ and the optimizer's slots as they were.
    """
    kind, word, wide, record = from_dtype(real), types.int64, types.float64, from_dtype(RUN)
    norm = from_dtype(NORM)

    def run(told, joins):
        given = array(told, 1, record)[0]
        layers, samples, m, team = given.layers, given.samples, given.m, given.team
        sizes, at = vector(given.sizes, layers + 1, word), vector(given.at, 2 * layers + 2, word)
        net = vector(given.net, (8, layers), word)
        numbers = vector(given.numbers, layers, wide)
        norms = vector(given.between, layers, norm)
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
        tallies = vector(given.tallies, (2, m), wide)
        buffers = (
            vector(given.a, at[2 * layers + 1], kind),
            vector(given.delta, at[2 * layers + 1], kind),
            at,
            vector(given.y, m * k, kind),
            vector(given.weight, m, kind),
            tallies[0],
            tallies[1],
            vector(given.norms, given.units, wide),
        )
        order = vector(given.order, given.picked, word)
        scalars = vector(given.scalars, (given.steps, 4), wide)
        log = vector(given.log, (given.steps, 3), wide)
        squares = vector(given.squares, given.squared, wide)
        constants = vector(given.constants, 3, wide)
        of_inputs = net[4], net[5], net[6], net[7], numbers
        parts = sizes, net[0], net[1], net[2], net[3], of_inputs, norms
        step, opened = given.step, 0
        member = 0
        if joins:
            member = add(team + JOINED, 1) + 1
        else:
            wait_a_while(team + JOINED, given.joining)
        while True:
            if joins:
                opened = wait_for_another(team + GATE, opened, given.let_others)
                if opened < 0:
                    return step
                step, members = opened // MEMBERS - 1, opened % MEMBERS
                if member >= members:  # who came after this step was opened
                    continue
            elif step < given.steps:
                if squares.size:
                    summed = kind(0.0)
                    for i in range(given.decayed):
                        summed += vectors[0][i] * vectors[0][i]
                    squares[step] = summed
                members = _open(team, step)
            else:
                break
            picked = order[step * m : (step + 1) * m]
            later = order[(step + 1) * m : (step + 2) * m]
            who = member, members, given.before + step
            good = _step(given, who, picked, later, data, parts, vectors, buffers,
                         scalars[step], constants, log[step])  # fmt: skip
            if joins:
                add(team + END, 1)
                continue
            if members > 1:
                wait_for(team + END, members - 1, given.let_others)
            if not good:
                break
            step += 1
        store(team + GATE, -1)
        return step

    return called_by_address(INTEGER, ARRAY, INTEGER, fastmath=FLAGS)(run)
