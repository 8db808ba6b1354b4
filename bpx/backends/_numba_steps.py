"""Dense layers trained by compiled loops: the same equations, without Python between.

Compiled once and kept on disk. Arrays are flat: `a` and `delta` hold a batch's activations and
deltas, and θ is the network's one vector. `net` says of each layer where its part lies, see
`_fast_run.LAYER`. Its inputs are in `a` at `x`: where `Dropout` or a norm is before it, that is
behind the activations, which σ' needs as they were. `delta` has at `factors`, if that is not 0,
what is multiplied with it on the way back: a mask, or σ' that does not follow from a.

Several threads may do a step together: all call the same function, each for its own part, and
meet where one needs what others have done. The forward pass and δ go by units of a layer or by
rows of the mini-batch, gradients and the optimizer by units, so that each core keeps its part of θ
and of the optimizer's memory in its own caches; the units of an embedding are its rows. The bits
are the same for any number of threads.
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
    KEPT,
    LOG_LIKELIHOOD,
    QUADRATIC,
    REGRESSION,
    SOFTMAX,
)
from ._fast_run import ALONE, BY_ROWS, BY_UNITS, END, GATE, JOINED, LAYER, MEETING, MEMBERS, RUN
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
from ._numba_activations import exponential, log1p
from ._numba_layers import activate, activate_backward, layer
from ._numba_products import OUTPUTS, outer, product_back
from ._numba_threads import add, load, store, wait_a_while, wait_for, wait_for_another
from ._numba_tiles import sum_rows
from ._numba_update import update
from ._numba_vectors import BYTES

_inlined = inlined(*FLAGS)

INT64, FLOAT64 = types.int64, types.float64

# Rows of a mini-batch, and units of a layer, that stay together, at least: as many as loops take.
SOME_ROWS, SOME_UNITS = 4, 8
# Bytes of a thread's rows of x for the next step, up to which they are asked for: those of more
# would be gone from the second cache before they are read.
NEXT = 65_536

_SIZE = LAYER.itemsize


# --- the end of the forward pass, the start of the backward -------------------------------------


@_inlined
def _cross_entropy(z, y, rows, k, room, costs):
    """Σ ln(1 + eᶻ) − y z of each row; its parts are in `room`."""
    zero = z.dtype.type(0.0)
    for i in range(rows * k):
        above = z[i] if z[i] > zero else zero
        room[i] = above + log1p(exponential(-abs(z[i]))) - y[i] * z[i]
    for r in range(rows):
        value = 0.0
        for j in range(r * k, (r + 1) * k):
            value += room[j]
        costs[r] = value


@_inlined
def _log_likelihood(z, y, rows, k, costs):
    """ln Σ e^{z_k} − Σ y_j z_j of each row, and its softmax over z, from the same exponentials."""
    for r in range(rows):
        some, aims = z[r * k : (r + 1) * k], y[r * k : (r + 1) * k]
        value, largest = 0.0, some[0]
        for j in range(k):
            largest = max(largest, some[j])
        for j in range(k):
            some[j] -= largest
            value -= aims[j] * some[j]
        costs[r] = value
    for i in range(rows * k):
        z[i] = exponential(z[i])
    for r in range(rows):
        some, summed = z[r * k : (r + 1) * k], 0.0
        for j in range(k):
            summed += some[j]
        for j in range(k):
            some[j] /= summed
        costs[r] += math.log(summed)


@_inlined
def _output(cost, code, task, labelled, z, y, delta, weight, mass, rows, k, costs, right):
    """a^L over z, δ^L (BP1), and of each row the cost, and 1 if it is right, by its weight.

    `right` has the labels before that, if there are any.
    """
    if cost == CROSS_ENTROPY:
        _cross_entropy(z, y, rows, k, delta, costs)
    if cost == LOG_LIKELIHOOD:
        _log_likelihood(z, y, rows, k, costs)
    else:
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
        some, aims = z[r * k : (r + 1) * k], y[r * k : (r + 1) * k]
        if task == REGRESSION:
            right[r] = 0.0
        elif task == CLASSIFICATION and k > 1:
            right[r] = _has_label(some, int(right[r]) if labelled else _first_largest(aims))
        else:
            right[r] = _agrees(some, aims)
    if weight.size:
        share = 1.0 / mass if mass > 0.0 else 0.0
        for r in range(rows):
            costs[r] *= weight[r]
            right[r] *= weight[r]
            for j in range(r * k, (r + 1) * k):
                delta[j] *= share * weight[r]


@_inlined
def _first_largest(y):
    """Where the largest is, the first of equals."""
    best = 0
    for j in range(1, y.size):
        best = j if y[j] > y[best] else best
    return best


@_inlined
def _has_label(a, label):
    """1 if the largest, the first of equals, is that of the label, else 0."""
    own, above = a[label], 0  # no comparison waits for the one before
    for j in range(a.size):
        above += (a[j] > own) or (a[j] == own and j < label)
    return 1.0 if above == 0 else 0.0


@_inlined
def _agrees(a, y):
    """1 if all outputs are above ½ where y is, else 0."""
    wrong = 0
    for j in range(a.size):
        wrong += (a[j] > 0.5) != (y[j] > 0.5)
    return 1.0 if wrong == 0 else 0.0


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
    this = net[i]
    if this.way:
        return this.way
    is_softmax = i < given.layers - 1 and this.code == SOFTMAX
    return BY_UNITS if this.units >= m and not is_softmax else BY_ROWS


@_inlined
def _way_of_inputs(given, i, m, net, back):
    """The same of layer i's inputs, or of their δ: as the layer below gives them.

    The first one's inputs come by rows.
    """
    if i > 0 or given.shared == 0:
        return _way(given, max(i - 1, 0), m, net)
    first = net[0]
    if first.norm > 0:
        return net[first.norm].way
    return BY_UNITS if back and first.inputs >= m else BY_ROWS


@_inlined
def _meet(given, members, met):
    """Wait until all have come here; returns how often they have."""
    if members > 1:
        add(given.team + MEETING, 1)
        wait_for(given.team + MEETING, (met + 1) * members, given.let_others)
    return met + 1


# --- steps --------------------------------------------------------------------------------------


@_inlined
def _load(given, picked, part, data, weight, y, right, a, inputs, k):
    """Some rows of x, of targets and of weights; `right` are labels, where there are any."""
    top, rows = part
    labels, targets, weights = data
    own, out = picked[top : top + rows], given.raw + top * given.columns * a.itemsize
    call(given.gather, (given.x, given.row, given.column, own.ctypes.data, rows, given.scale,
                        given.scaled, given.offset, out, given.columns))  # fmt: skip
    if given.join:
        first = a.ctypes.data + top * inputs * a.itemsize
        call(given.join, (given.branches, given.joined, top, rows, first))
    aims = y[top * k : (top + rows) * k]
    for r in range(rows):
        if labels.size:
            label = labels[own[r]]
            right[top + r] = label
            for j in range(k):
                aims[r * k + j] = 1.0 if j == label else 0.0
        else:
            for j in range(k):
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
def _normalize(given, i, block, net, a):
    """The norm of layer i's inputs, if it has one, of a member's part of them."""
    (top, rows, left, units), this = block, net[i]
    if this.norm > 0 and rows > 0 and units > 0:
        first, told = top * this.inputs + left, given.net + this.norm * _SIZE
        below, x = a[this.below + first :].ctypes.data, a[this.x + first :].ctypes.data
        call(net[this.norm].forward, (told, IDENTITY, top, rows, left, units, below, x))


@_inlined
def _drop(given, i, block, drawn, net, a, delta):
    """Lay layer i's mask, if it has one, on a part of its input, and on factors that are there."""
    (top, rows, left, units), this = block, net[i]
    if this.limit > 0:
        first, onto = top * this.inputs + left, i > 0 and net[i - 1].code >= KEPT
        start, factors = this.below, this.factors
        if this.norm > 0:
            start, factors, onto = this.x, net[this.norm].factors, False
        below, x = a[start + first :].ctypes.data, a[this.x + first :].ctypes.data
        factors = delta[factors + first :].ctypes.data
        call(given.drop, (this.stream, drawn, top, left, rows, units, this.inputs, this.limit,
                          below, factors, x, onto))  # fmt: skip


@_inlined
def _forward(given, who, m, drawn, net, theta, a, delta):
    """Up to z^L."""
    member, members, met = who
    before = _way_of_inputs(given, 0, m, net, False)
    if before == BY_UNITS:  # they come by rows
        met = _meet(given, members, met)
    top, rows, left, units = _block(before, m, net[0].inputs, a, member, members)
    for i in range(given.layers):
        block = top, rows, left, units
        _normalize(given, i, block, net, a)
        _drop(given, i, block, drawn, net, a, delta)
        this = net[i]
        n, out, way = this.inputs, this.units, _way(given, i, m, net)
        if way == BY_UNITS or before == BY_UNITS:
            met = _meet(given, members, met)
        before = way
        top, rows, left, units = _block(way, m, out, a, member, members)
        if rows > 0 and units > 0:
            x, z = a[this.x + top * n :], a[this.z + top * out + left :]
            w, b = theta[this.omega + left * n :], this.bias + left
            bias = theta[b : b + units] if this.bias >= 0 else theta[:0]
            code = this.code if i < given.layers - 1 else IDENTITY
            first = IDENTITY if this.forward else code
            layer(given.tiles, way, first, x, w, bias, z, rows, m, n, units, out)
            if this.forward:
                told, begin = given.net + i * _SIZE, z.ctypes.data
                call(this.forward, (told, code, top, rows, left, units, begin, begin))
            if code >= KEPT:
                slopes = delta[net[i + 1].factors + top * out + left :]
                call(given.sigma, (code, this.number, z.ctypes.data, slopes.ctypes.data, rows,
                                   units, out))  # fmt: skip
    return _meet(given, members, met) if before == BY_UNITS else met


@_inlined
def _combine(this, delta, first, some):
    """Add to some of δ what a sum adds, and multiply it by its factors."""
    if this.back > 0:
        more = delta[this.back + first : this.back + first + some.size]
        for j in range(some.size):
            some[j] += more[j]
    if this.factors > 0:
        times = delta[this.factors + first : this.factors + first + some.size]
        for j in range(some.size):
            some[j] *= times[j]


@_inlined
def _backward(given, who, m, net, theta, a, delta):
    """BP2, down to the lowest layer that is trained, or to the first one's inputs."""
    member, members, met = who
    before = ALONE
    for i in range(given.layers - 1, given.lowest, -1):
        this, lower = net[i], net[max(i - 1, 0)]
        code = lower.code if i > 0 else IDENTITY
        n, out, way = this.inputs, this.units, _way_of_inputs(given, i, m, net, True)
        if way == BY_UNITS or before == BY_UNITS:
            met = _meet(given, members, met)
        before = way
        top, rows, left, units = _block(way, m, n, a, member, members)
        if rows > 0 and units > 0:
            first = top * n + left
            d, below = delta[this.z + top * out :], delta[this.below + first :]
            x = a[this.below + first :]
            product_back(given.tiles, way, d, theta[this.omega + left :], below, rows, units, n,
                         out)  # fmt: skip
            step = rows if units == n else 1
            if this.norm > 0:
                norm, told = net[this.norm], given.net + this.norm * _SIZE
                for r in range(0, rows, step):
                    _combine(norm, delta, first + r * n, below[r * n : r * n + step * units])
                call(norm.backward, (told, top, rows, left, units, below.ctypes.data))
            for r in range(0, rows, step):
                here, there = r * n, r * n + step * units
                some = below[here:there]
                _combine(this, delta, first + here, some)
                activate_backward(code, some, x[here:there], step, units)
            if i > 0 and lower.backward:
                told = given.net + (i - 1) * _SIZE
                call(lower.backward, (told, top, rows, left, units, below.ctypes.data))
    return _meet(given, members, met)


@_inlined
def _gradient(given, i, this, part, m, into, a, delta, scalars):
    """BP3 and BP4 for some units of layer i and its norm, as ``β·into + α·…``."""
    left, units = part
    real, way = into.dtype.type, BY_UNITS if given.shared else ALONE
    fused = given.rule <= INTO_VELOCITY
    alpha = scalars[0] if fused else 1.0
    alpha = real(alpha if given.weighted else alpha / m)
    beta, keep = real(scalars[1] if fused else 0.0), real(scalars[2] if fused else 0.0)
    n, out, w, b = this.inputs, this.units, this.omega + left * this.inputs, this.bias + left
    d, x, end = delta[this.z + left :], a[this.x :], w + units * n
    if this.trained and i >= 0:
        outer(given.tiles, way, d, x, into[w:end], m, n, units, out, alpha, beta)
        if this.bias >= 0:
            sum_rows(d.ctypes.data, out, m, units, into[b:].ctypes.data, alpha, keep, d.itemsize)
    if this.learns or i < 0:
        told, kept = given.net + i * _SIZE, beta if i < 0 else keep
        call(this.learn, (told, m, left, units, alpha, kept, into.ctypes.data))


@_inlined
def _parts(this, part):
    """Where weights, bias, γ and β of some units begin in θ, and how many each has."""
    left, units = part
    n, scales = this.inputs, units if this.learns else 0
    weights, biases = units if this.trained else 0, units if this.bias >= 0 else 0
    return ((this.omega + left * n, weights * n), (this.bias + left, min(weights, biases)),
            (this.scale + left, scales), (this.shift + left, scales))  # fmt: skip


@_inlined
def _update(given, this, part, vectors, scalars, constants):
    """The optimizer, for some units of a layer and its norm, or of a norm of inputs."""
    parts = _parts(this, part)
    for k in range(4 if this.learns else 2):  # a number that LLVM does not know: one copy
        start, count = parts[k]
        update(given.rule, vectors, start, start + count, k == 0, scalars, constants)


@_inlined
def _bound(this, part, vectors, penalties, most, lengths):
    """Add what penalties do to the gradient of some units, clip it, and sum up its squares."""
    (left, units), parts = part, _parts(this, part)
    theta, into, _, _ = vectors
    real, zero = theta.dtype.type, theta.dtype.type(0.0)
    l1, l2, most = real(penalties[0]), real(penalties[1]), real(most)
    for k in range(4 if this.learns else 2):
        start, count = parts[k]
        gradient, omega = into[start : start + count], theta[start : start + count]
        if k == 0 and l2 != zero:
            for j in range(count):
                gradient[j] += l2 * omega[j]
        if k == 0 and l1 != zero:
            for j in range(count):
                gradient[j] += l1 * (real(omega[j] > zero) - real(omega[j] < zero))
        if most > zero:
            for j in range(count):  # a NaN stays
                gradient[j] = most if gradient[j] > most else gradient[j]
                gradient[j] = -most if gradient[j] < -most else gradient[j]
        n = count // units
        for o in range(units if lengths.size else 0):
            total = lengths[left + o] if k else 0.0  # squares of float32 have room in it
            for j in range(o * n, o * n + n):
                total += float(gradient[j]) * float(gradient[j])
            lengths[left + o] = total


@_inlined
def _clipping(given, members, met, lengths, into, most):
    """The factor with which the gradient's norm is at most this, once all have their part."""
    met = _meet(given, members, met)
    total, largest = 0.0, 0.0
    for o in range(lengths.size):
        total += lengths[o]
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
def _step(given, who, picked, later, data, every, vectors, buffers, scalars, constants, log):
    """A member's part of a step on one mini-batch; whether the step's cost is finite.

    If not, there is no update.
    """
    member, members, drawn = who
    a, delta, y, weight, costs, right, lengths = buffers
    net = every[given.tables :]
    m, theta, end = picked.size, vectors[0], net[given.layers - 1]
    k, (top, rows) = end.units, _rows(m, member, members)
    if rows > 0:
        _load(given, picked, (top, rows), data, weight, y, right, a, net[0].inputs, k)
    met = _forward(given, (member, members, 0), m, drawn, net, theta, a, delta)
    mass = 0.0 if given.weighted else float(m)
    if given.weighted:
        for r in range(m):
            mass += data[2][picked[r]]
    if rows > 0:
        first, last, bottom = end.z + top * k, end.z + (top + rows) * k, top + rows
        _output(given.cost, end.code, given.task, given.labelled, a[first:last], y[top * k :],
                delta[first:last], weight[top : bottom if given.weighted else top], mass, rows, k,
                costs[top:], right[top:])  # fmt: skip
    met = _backward(given, (member, members, met), m, net, theta, a, delta)
    _ask(given, later, member, members, given.columns)
    found = correct = 0.0
    for r in range(m):
        found += costs[r]
        correct += right[r]
    if member == 0:
        log[0], log[1], log[2] = found, correct, mass
    if not abs(found) < math.inf:
        return False
    _learn(given, (member, members, met), m, every, vectors, a, delta, lengths, scalars, constants)
    return True


@_inlined
def _learn(given, who, m, every, vectors, a, delta, lengths, scalars, constants):
    """A member's part of the gradients of a step, and of what these change."""
    member, members, met = who
    net = every[given.tables :]
    l2, factor, clipped = scalars[3], 1.0, lengths.size > 0
    l1 = scalars[4] if scalars.size > 4 else 0.0
    bounded = clipped or l1 != 0.0 or constants[3] > 0.0
    for turn in range(2 if clipped else 1):  # for its norm, the whole gradient has to be there
        if turn:
            factor = _clipping(given, members, met, lengths, vectors[1], constants[2])
        unit = 0
        for i in range(net.size - 1, given.bottom - 1, -1):
            this = every[given.tables + i]
            part = _units(this.units, a, member, members)
            if (this.trained or this.learns) and part[1] > 0:
                if not turn:
                    _gradient(given, i, this, part, m, vectors[1], a, delta, scalars)
                if bounded and not turn:
                    _bound(this, part, vectors, (l1, l2), constants[3], lengths[unit:])
                if given.rule != INTO_THETA and turn == clipped:
                    of_update = scalars[0], scalars[1], scalars[2], 0.0 if bounded else l2, factor
                    _update(given, this, part, vectors, of_update, constants)
            unit += this.units


@_inlined
def _open(team, step):
    """Let those who have joined take part in a step; returns how many take part."""
    members = load(team + JOINED) + 1
    if members > 1:
        store(team + MEETING, 0)
        store(team + END, 0)
        store(team + GATE, (step + 1) * MEMBERS + members)
    return members


@_inlined
def _arrays(given, k, kind):
    """The data; θ, where gradients go, and the slots; and the buffers of a step."""
    data = (
        vector(given.labels, given.labelled, INT64),
        vector(given.targets, 0 if given.labelled else given.samples * k, kind),
        vector(given.weights, given.weighted, kind),
    )
    vectors = (
        vector(given.theta, given.size, kind),
        vector(given.into, given.trained, kind),
        vector(given.first, given.trained, kind),
        vector(given.second, given.trained, kind),
    )
    tallies = vector(given.tallies, (2, given.m), FLOAT64)
    buffers = (
        vector(given.a, given.room, kind),
        vector(given.delta, given.room, kind),
        vector(given.y, given.m * k, kind),
        vector(given.weight, given.m, kind),
        tallies[0],
        tallies[1],
        vector(given.lengths, given.units, FLOAT64),
    )
    return data, vectors, buffers


def steps(real: Any) -> Any:
    """Forward, delta, backward, update, for each mini-batch of some rows, for θ of this dtype.

    A function of a `RUN`, and of 0, or 1 in a thread that joins in what one with 0 does. Σω² goes
    to `squares` before each step, unless that is empty. The last, smaller batch works in the first
    rows of each layer's part.

    It returns the step after those that were done: all, or those before the first whose cost is
    not finite, which leaves θ and the optimizer's slots as they were.
    """
    kind, record, of_layer = from_dtype(real), from_dtype(RUN), from_dtype(LAYER)

    def run(told, joins):
        given = array(told, 1, record)[0]
        m, team, tables = given.m, given.team, given.tables
        every = vector(given.net - tables * _SIZE, tables + given.parts, of_layer)
        k = every[tables + given.layers - 1].units
        data, vectors, buffers = _arrays(given, k, kind)
        order = vector(given.order, given.picked, INT64)
        scalars = vector(given.scalars, (given.steps, given.width), FLOAT64)
        log = vector(given.log, (given.steps, 3), FLOAT64)
        squares = vector(given.squares, given.squared, FLOAT64)
        constants = vector(given.constants, 4, FLOAT64)
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
            good = _step(given, who, picked, later, data, every, vectors, buffers,
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
