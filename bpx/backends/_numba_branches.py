"""The inputs of a first dense layer, put together from columns of x and rows of embeddings."""

from __future__ import annotations

from typing import Any

from numba import from_dtype, types

from ._fast_run import BRANCH, LAYER
from ._jit import INTEGER, called_by_address, inlined, vector


@inlined()
def _number(value, count):
    """Of a row; one that is there, for a callback may have changed x since it was checked."""
    return min(max(int(value), 0), count - 1)


@inlined()
def _copy(each, columns, raw, out):
    """Columns as they are, or rescaled in double precision, since the sum may cancel."""
    if each.scale == 0:
        for j in range(out.size):
            out[j] = raw[columns[j]]
        return
    scale = vector(each.scale, out.size, types.float64)
    offset = vector(each.offset, out.size, types.float64)
    for j in range(out.size):
        out[j] = raw[columns[j]] * scale[j] + offset[j]


@inlined()
def _look_up(each, columns, raw, out, kind, size):
    """The rows that columns name, one after another or their mean."""
    width = each.width
    for j in range(columns.size):
        row = vector(
            each.weights + _number(raw[columns[j]], each.count) * width * size, width, kind
        )
        into = out[0 if each.averaged else j * width :]
        if each.averaged and j > 0:
            for i in range(width):
                into[i] += row[i]
        else:
            for i in range(width):
                into[i] = row[i]
    if each.averaged:
        share = kind(1.0 / columns.size)
        for i in range(width):
            out[i] *= share


def join(real: Any) -> Any:
    """What some rows of x become.

    A function of the address of some `BRANCH`, their number, the first row and the rows, and the
    address of that row's inputs.
    """
    kind, record, size, index = from_dtype(real), from_dtype(BRANCH), real.itemsize, types.int64

    def run(branches, count, top, rows, out):
        told = vector(branches, count, record)
        for k in range(count):
            each = told[k]
            columns = vector(each.columns, each.many, index)
            for r in range(rows):
                raw = vector(each.raw + (top + r) * each.row * size, each.row, kind)
                into = vector(out + (r * each.inputs + each.place) * size, each.size, kind)
                if each.count:
                    _look_up(each, columns, raw, into, kind, size)
                else:
                    _copy(each, columns, raw, into)

    return called_by_address(types.void, *[INTEGER] * 5)(run)


def learn(real: Any) -> Any:
    """``β·out + α·gradient`` of some rows of an embedding's weights, from all δ.

    The sums are those of the samples in order, whoever has the row. A function of the same as
    `_numba_between.learn`, where a unit is a row.
    """
    kind, record, size, index = from_dtype(real), from_dtype(BRANCH), real.itemsize, types.int64
    of_layer, zero, one = from_dtype(LAYER), kind(0.0), kind(1.0)

    def run(told, rows, left, units, alpha, beta, into):
        table = vector(told, 1, of_layer)[0]
        each = vector(table.branch, 1, record)[0]
        columns, width = vector(each.columns, each.many, index), each.width
        out = vector(into + (table.omega + left * width) * size, units * width, kind)
        if beta == zero:
            for i in range(out.size):
                out[i] = zero
        elif beta != one:
            for i in range(out.size):
                out[i] *= beta
        factor, step = alpha, width * size
        if each.averaged:
            factor, step = alpha * kind(1.0 / each.many), 0
        for r in range(rows):
            raw = vector(each.raw + r * each.row * size, each.row, kind)
            begin = each.delta + (r * each.inputs + each.place) * size
            for j in range(columns.size):
                k = _number(raw[columns[j]], each.count) - left
                if 0 <= k < units:
                    delta, row = vector(begin + j * step, width, kind), out[k * width :]
                    for i in range(width):
                        row[i] += factor * delta[i]

    reals = from_dtype(real), from_dtype(real)
    return called_by_address(types.void, *[INTEGER] * 4, *reals, INTEGER)(run)
