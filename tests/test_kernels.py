"""Each native kernel against its standard twin: the same result, the same side effects."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import bpx
from bpx.activations import ACTIVATIONS
from bpx.backends import (
    Backend,
    _cupy,
    _cupy_convolutions,
    _cupy_products,
    _cupy_windows,
    _fast,
    _fast_norms,
    _fast_windows,
    _numpy,
    _numpy_norms,
    _numpy_windows,
    _scipy,
    _torch,
)
from bpx.backends._numpy_elementwise import SMALL
from bpx.costs import COSTS, Objective
from bpx.layers.sliding import Sliding
from bpx.optimizers import State

KERNELS = sorted(name for name in dir(Backend) if hasattr(getattr(Backend, name), "is_kernel"))


def gemm_cases(rng):
    # On both sides of the size at which products change the library, in both orders of memory.
    shapes = (1, 1, 1), (10, 784, 30), (3, 5, 7), (128, 64, 96), (700, 33, 41), (61, 530, 77)
    for m, k, n in shapes:
        for alpha, beta in ((1.0, 0.0), (-0.3, 0.9), (2.0, 0.0), (1.0, 1.0), (0.0, 0.5)):
            a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
            out = np.full((m, n), np.nan) if beta == 0.0 else rng.normal(size=(m, n))
            yield (a, b, out, alpha, beta), 2
            yield (a.T.copy().T, b.T.copy().T, out, alpha, beta), 2


def affine_cases(rng):
    for m, k, n in ((1, 1, 1), (10, 784, 30), (11, 500, 53), (200, 150, 13), (700, 33, 41)):
        x, w, b = rng.normal(size=(m, k)), rng.normal(size=(n, k)), rng.normal(size=n)
        yield (x, w, b, np.full((m, n), np.nan)), 3


def axpby_cases(rng):
    for shape in ((5,), (40000,), (3, 4), (300, 200)):
        for alpha, beta in ((1.0, 1.0), (0.5, 1.0), (0.5, 0.0), (1.0, 0.0), (2.0, 0.5)):
            out = np.full(shape, np.nan) if beta == 0.0 else rng.normal(size=shape)
            yield (rng.normal(size=shape), out, alpha, beta), 1
            yield (rng.normal(size=shape[-1:]), out, alpha, beta), 1
            if beta == 1.0:
                yield (out, out, alpha, beta), 1  # out ← (1 + α)·out


def add_signs_cases(rng):
    for size, alpha in ((1, 0.5), (7, -0.3), (40000, 2.0)):
        x = rng.normal(size=size) * rng.integers(2, size=size)
        yield (x, rng.normal(size=size), alpha), 1


def sum_rows_cases(rng):
    for m, n in ((1, 3), (10, 30), (1000, 7), (9, 300), (1000, 40)):
        for alpha, beta in ((1.0, 0.0), (0.1, 0.0), (-0.3, 0.9), (1.0, 1.0)):
            out = np.full(n, np.nan) if beta == 0.0 else rng.normal(size=n)
            yield (rng.normal(size=(m, n)), out, alpha, beta), 1
    for m, alpha, beta in ((1, 0.1, 0.0), (5, 0.5, 0.5), (2, 1.0, 0.9)):
        yield (rng.normal(size=(m, 2, 3)), rng.normal(size=(2, 3)), alpha, beta), 1
    yield (rng.normal(size=(2, 3, 5)).swapaxes(1, 2), np.full((5, 3), np.nan), 1.0, 0.0), 1


def sum_at_cases(rng):
    # On both sides of the size from which a compiled loop adds; rows that are in none, and all.
    for n, width, count in ((1, 1, 1), (7, 3, 20), (40, 2, 1), (900, 16, 300)):
        rows, x = rng.integers(count, size=n), rng.normal(size=(n, width))
        yield (x, rows, np.full((count, width), np.nan)), 2
        yield (x, rows, np.full((count, width), np.nan), 0.1, 0.0), 2
        yield (x, rows.astype(np.int32), rng.normal(size=(count, width)), -0.3, 0.9), 2
        yield (x, rows, rng.normal(size=(count, width)), 0.5, 1.0), 2
    yield (rng.normal(size=(5, 2)), np.full(5, 3), np.full((9, 2), np.nan)), 2


def of_two_cases(rng):
    yield (rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), np.full((3, 4), np.nan)), 2


def gather_cases(rng):
    rows = np.array([4, 0, 2])
    for source in (
        rng.normal(size=(6, 5)),
        rng.integers(255, size=(6, 5), dtype=np.uint8),
        rng.integers(2**30, size=(6, 5), dtype=np.int32),
        rng.integers(2**40, size=(6, 5)),
        rng.integers(2, size=(6, 5)).astype(bool),
        rng.normal(size=(6, 5)).astype(np.float16),
        rng.normal(size=(6, 5)).astype(np.float32),
        np.asfortranarray(rng.normal(size=(6, 5))),
    ):
        for scale, offset in ((1.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 2.0)):
            yield (source, rows, np.full((3, 5), np.nan), scale, offset), 2
            yield (source, slice(1, 4), np.full((3, 5), np.nan), scale, offset), 2
        vectors = rng.normal(size=5), rng.normal(size=5)
        yield (source, rows, np.full((3, 5), np.nan), *vectors), 2


def rows_cases(rng):
    whole = rng.integers(99, size=(6, 8))
    sources = whole, np.asfortranarray(whole), whole[:, 2:6], whole[::-1], whole[:, 0]
    for source in (*sources, rng.normal(size=(6, 2, 3))):
        yield (source, np.array([4, 0, 2])), None
        yield (source, slice(1, 4)), None


def one_hot_cases(rng):
    yield (np.array([2, 0, 1, 2]), np.full((4, 3), np.nan)), 1
    yield (np.array([299, 0, 7]), np.full((3, 300), np.nan)), 1


OF_NUMBERS = (
    *(bpx.activations.LeakyReLU(slope) for slope in (0.3, 0.0, -0.5, 3.0)),
    *(bpx.activations.ELU(0.3), bpx.activations.ELU(), bpx.activations.Softplus()),
    *(bpx.activations.GELU(), bpx.activations.SiLU(), bpx.activations.Exponential()),
)


def activate_cases(rng):
    for name in ACTIVATIONS.builtin:
        z = rng.normal(size=(6, 5)) * 3
        yield (ACTIVATIONS.get(name), z, np.full((6, 5), np.nan)), 2
        yield (ACTIVATIONS.get(name), z, z), 2  # in place
    # Of more elements than SciPy's one call takes.
    for size in (9, 900):
        z = rng.normal(size=(60, 50)) * size
        yield (ACTIVATIONS.get("sigmoid"), z, np.full((60, 50), np.nan)), 2

    for activation in OF_NUMBERS:  # of more elements than are worked on at once
        z = rng.normal(size=(60, 700)) * 3
        yield (activation, z, np.full(z.shape, np.nan)), 2
        yield (activation, z, z), 2


def activate_backward_cases(rng):
    for activation in OF_NUMBERS:
        delta, z = rng.normal(size=(2, 60, 700))
        yield (activation, delta, z, activation.forward(np, z)), 1
    for name in ACTIVATIONS.builtin:
        z = rng.normal(size=(6, 5)) * 3
        a = ACTIVATIONS.get(name).forward(np, z)
        yield (ACTIVATIONS.get(name), rng.normal(size=(6, 5)), z, a), 1


def argmax_cases(rng):
    yield (rng.normal(size=(6, 5)),), None
    yield (np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]),), None  # the first of equals


def total_cases(rng):
    yield (rng.normal(size=7),), None
    yield (rng.normal(size=1000) > 0.0,), None


def square_cases(rng):
    yield (rng.normal(size=7),), None
    # On the other library's threads; whole numbers, whose sum is exact in any order.
    yield (rng.integers(-3, 4, 9_000).astype(float),), None


def clip_norm_cases(rng):
    vectors = rng.normal(size=300), 1e-25 * rng.normal(size=300), rng.normal(size=70_000)
    for x in (*vectors, np.zeros(3)):
        for norm in 0.5, 1e-26, 1e32:
            yield (x, norm), 0


def cost_and_delta_cases(rng):
    for cost, output in (
        ("quadratic", "sigmoid"),
        ("quadratic", "tanh"),
        ("quadratic", "identity"),
        ("quadratic", "relu"),
        ("quadratic", "softmax"),
        ("cross-entropy", "sigmoid"),
        ("log-likelihood", "softmax"),
        ("poisson", "exp"),
        ("huber", "identity"),
    ):
        activation = ACTIVATIONS.get(output)
        objective = Objective(COSTS.get(cost), activation)
        for m, k in ((1, 1), (6, 5), (40, 300)):
            z = rng.normal(size=(m, k)) * 3
            y = np.eye(k)[rng.integers(k, size=m)]
            a = z if output == "identity" else np.full((m, k), np.nan)
            yield (objective, z, a, y, np.full((m, k), np.nan)), None


def affine_activate_cases(rng):
    for name in ACTIVATIONS.builtin:
        x, w, b = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
        z = np.full((6, 5), np.nan)
        yield (x, w, b, ACTIVATIONS.get(name), z, np.full((6, 5), np.nan)), 5
        yield (x, w, b, ACTIVATIONS.get(name), z, z), 5  # in place


def products_cases(rng):
    for m, g, rows, inner, columns in ((1, 1, 1, 1, 1), (4, 1, 20, 25, 64), (3, 2, 5, 9, 7)):
        weights, patches = (
            rng.normal(size=(g, rows, inner)),
            rng.normal(size=(m, g, inner, columns)),
        )
        out = np.full((m, g, rows, columns), np.nan)
        yield (weights, patches, out), 2
        yield (np.swapaxes(weights, 1, 2).copy().swapaxes(1, 2), patches, out), 2


def bias_activate_cases(rng):
    for name in ACTIVATIONS.builtin:
        if name != "softmax":  # which has no images
            for shape in ((3, 2, 4, 5), (2, 3, 7), (1, 1, 1, 1)):
                b, z = rng.normal(size=shape[1]), rng.normal(size=shape)
                yield (b, ACTIVATIONS.get(name), z, np.full(shape, np.nan)), 3
                yield (b, ACTIVATIONS.get(name), z, z), 3  # in place


def mean_places_cases(rng):
    for shape in ((1, 1, 1, 1), (3, 2, 4, 5), (7, 40, 300), (20, 3, 24, 24), (2, 3, 70, 80)):
        yield (rng.normal(size=shape), np.full(shape[:2], np.nan)), 1
    yield (rng.normal(size=(2, 5, 6, 3)).transpose(0, 3, 1, 2), np.empty((2, 3))), 1


def sum_channels_cases(rng):
    for shape in ((1, 1, 1, 1), (3, 2, 4, 5), (7, 40, 300), (20, 3, 24, 24)):
        for alpha, beta in ((1.0, 0.0), (0.1, 0.0), (-0.3, 0.9), (1.0, 1.0)):
            out = rng.normal(size=shape[1]) if beta else np.full(shape[1], np.nan)
            yield (rng.normal(size=shape), out, alpha, beta), 1


def sum_of_products_cases(rng):
    sizes = (1, 1, 1, 1, 1), (40, 1, 20, 25, 64), (3, 2, 5, 9, 7), (2, 1, 6, 4, 8)
    for m, g, rows, inner, columns in sizes:
        delta, patches = (
            rng.normal(size=(m, g, rows, columns)),
            rng.normal(size=(m, g, inner, columns)),
        )
        for beta in (0.0, 1.0):
            out = rng.normal(size=(g, rows, inner)) if beta else np.full((g, rows, inner), np.nan)
            yield (delta, np.swapaxes(patches, 2, 3), out, beta), 2


WINDOWS = [
    Sliding((6, 5), (3, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
    Sliding((6, 5), (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0))),  # the last column is in none
    Sliding((6, 4), (3, 2), (3, 2), (1, 1), ((0, 0), (0, 0))),  # each element is in one
    Sliding((5, 5), (2, 2), (2, 2), (1, 1), ((1, 0), (1, 0))),  # with padding
    Sliding((6, 5), (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
    Sliding((6, 5), (3, 2), (2, 1), (1, 2), ((1, 1), (2, 1))),
    Sliding((7, 4), (3, 2), (3, 2), (1, 1), ((0, 0), (0, 0))),  # the last row is in none
    Sliding((1, 1), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    Sliding((2, 3), (1, 5), (1, 2), (1, 1), ((0, 0), (4, 4))),  # windows of padding alone
    Sliding((9,), (3,), (2,), (2,), ((2, 3),)),
]

STEP_BY_STEP = [  # of stride 1, which have another way where Numba is installed
    Sliding((9, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    Sliding((5, 5), (3, 3), (1, 1), (2, 2), ((2, 2), (2, 2))),
    Sliding((40, 9), (5, 2), (1, 1), (1, 3), ((0, 4), (3, 0))),
    Sliding((2, 1), (1, 2), (1, 1), (1, 1), ((3, 0), (5, 2))),  # beyond all that a window reaches
    Sliding((70,), (3,), (1,), (1,), ((1, 1),)),
]


def patches_cases(rng):
    for sliding in WINDOWS:
        x = rng.normal(size=(3, 2, *sliding.lengths))
        yield (x, sliding, np.full((3, 2, *sliding.size, *sliding.counts), np.nan)), 2
        x = np.moveaxis(rng.normal(size=(3, *sliding.lengths, 2)), -1, 1)
        yield (x, sliding, np.full((3, 2, *sliding.size, *sliding.counts), np.nan)), 2


def fold_cases(rng):
    for sliding in WINDOWS:
        patches = rng.normal(size=(3, 2, *sliding.size, *sliding.counts))
        yield (patches, sliding, np.full((3, 2, *sliding.lengths), np.nan)), 2
        spread = np.broadcast_to(patches[..., :1], patches.shape)
        yield (spread, sliding, np.full((3, 2, *sliding.lengths), np.nan)), 2


ROOM = object()  # stands for what lends arrays


def lending(kernels, dtype):
    """An array of a shape, which has what was left in it, at first NaN."""

    @functools.cache
    def lend(shape):
        return kernels.from_host(np.full(shape, np.nan, dtype))

    return lend


def convolutions(rng):
    """x, weights, δ and windows: of each kind, in groups, of more rows than fit at once."""
    for sliding in WINDOWS + STEP_BY_STEP:
        sizes = (3, 1, 2, 5), (1, 2, 1, 4), (19, 1, 3, 8), (2, 3, 1, 1), (2, 2, 7, 3)
        for m, groups, into, of in sizes:
            x = rng.normal(size=(m, groups * into, *sliding.lengths))
            weights = rng.normal(size=(groups * of, into, *sliding.size))
            delta = rng.normal(size=(m, groups * of, *sliding.counts))
            yield x, weights, delta, sliding


def convolve_cases(rng):
    for x, weights, delta, sliding in convolutions(rng):
        yield (x, weights, sliding, ROOM, np.full_like(delta, np.nan)), 4


def convolve_weights_cases(rng):
    for x, weights, delta, sliding in convolutions(rng):
        yield (x, delta, sliding, ROOM, np.full_like(weights, np.nan), 0.0), 4
        yield (x, delta, sliding, ROOM, weights, 1.0), 4


def convolve_inputs_cases(rng):
    for x, weights, delta, sliding in convolutions(rng):
        yield (delta, weights, sliding, ROOM, np.full_like(x, np.nan)), 4


def of_nan(shape):
    return np.full(shape, np.nan)


def all_three(kernels, x, weights, delta, sliding, room=of_nan):
    """The convolution and its two adjoints, on the host."""
    move = kernels.from_host
    x, weights, delta, z, gradient, below = map(
        move, (x, weights, delta, np.full_like(delta, np.nan), np.ones_like(weights),
               np.full_like(x, np.nan))
    )  # fmt: skip
    kernels.convolve(x, weights, sliding, room, z)
    kernels.convolve_weights(x, delta, sliding, room, gradient, -2.0)
    kernels.convolve_inputs(delta, weights, sliding, room, below)
    return [kernels.to_host(found) for found in (z, gradient, below)]


SHAPES_WITH_CHANNELS = (1, 1, 1, 1), (3, 2, 4, 5), (2, 3, 7), (5, 4), (7, 20, 12, 12)


def moments_cases(rng):
    for shape in SHAPES_WITH_CHANNELS:
        for beta in (0.0, 1.0):
            out = rng.normal(size=(2, shape[1])) if beta else np.full((2, shape[1]), np.nan)
            x, room = rng.normal(3.0, 1.0, size=shape), np.full(shape, np.nan)
            yield (x, rng.normal(3.0, 0.1, size=shape[1]), room, out, beta), 3


def batch_statistics_cases(rng):
    for c in (1, 5, 300):
        arrays = rng.normal(3.0, size=c), rng.normal(size=(2, c)), *rng.random(size=(4, c))
        arrays[1][1] += 9.0 * (np.arange(c) % 3 > 0)  # or the variance is less than 0 by rounding
        for numbers in ((10.0, 0.1, 1e-5), (10, 1, 1)):  # the latter as a user may give them
            yield (*arrays, *numbers, np.full((5, c), np.nan)), 9


def normalize_cases(rng):
    for shape in SHAPES_WITH_CHANNELS:
        numbers = rng.normal(size=(5, shape[1]))
        x, normal, out = rng.normal(size=shape), np.full(shape, np.nan), np.full(shape, np.nan)
        yield (x, numbers, normal, out), 3


def normalize_sums_cases(rng):
    for shape in SHAPES_WITH_CHANNELS:
        for beta in (0.0, 1.0):
            out = rng.normal(size=(2, shape[1])) if beta else np.full((2, shape[1]), np.nan)
            delta, normal = rng.normal(size=(2, *shape))
            yield (delta, normal, np.full(shape, np.nan), out, beta), 3


def normalize_backward_cases(rng):
    for shape in SHAPES_WITH_CHANNELS:
        delta, normal = rng.normal(size=(2, *shape))
        yield (delta, normal, rng.normal(size=(2, shape[1])), rng.normal(size=shape[1])), 0


VECTORS = (2, 1), (2, 3), (10, 30), (64, 100), (7, 600), (300, 33)


def batch_norm_cases(rng):
    for m, c in VECTORS:
        x, room = rng.normal(3.0, 1.0, size=(m, c)), np.full((m, c), np.nan)
        for epsilon in (1e-3, 1):
            arrays = (*rng.random(size=(4, c)), 0.1, epsilon, np.full(c, np.nan))
            yield (x, *arrays, room, room.copy()), 9


def batch_norm_backward_cases(rng):
    for m, c in VECTORS:
        delta, normal = rng.normal(size=(2, m, c))
        room, sums = np.full((m, c), np.nan), np.full((2, c), np.nan)
        yield (delta, normal, rng.normal(size=c), room, sums), 0


def running_norm_cases(rng):
    for m, c in ((1, 1), (1, 256), *VECTORS):
        yield (rng.normal(size=(m, c)), *rng.random(size=(4, c)), 1e-3), 0


def layer_norm_cases(rng):
    for m, n in ((1, 1), (1, 256), *VECTORS):
        x, room = rng.normal(3.0, 1.0, size=(m, n)), np.full((m, n), np.nan)
        numbers = *rng.normal(size=(2, n)), 1e-3
        yield (x, *numbers, np.full((m, 1), np.nan), room, room.copy()), 6
        yield (x, *numbers, np.full((m, 1), np.nan), room, x), 6  # in place


def layer_norm_backward_cases(rng):
    for m, n in ((1, 1), *VECTORS):
        delta, normal = rng.normal(size=(2, m, n))
        room, sums = np.full((m, n), np.nan), np.full((2, n), np.nan)
        yield (delta, normal, rng.normal(size=n), rng.random(size=(m, 1)), room, sums), 0


def window_sum_cases(rng):
    for sliding in WINDOWS:
        x = rng.normal(size=(3, 2, *sliding.lengths))
        yield (x, sliding, np.full((3, 2, *sliding.counts), np.nan)), 2


def pooled(rng):
    """Inputs with equal elements, and their windows' largest."""
    for sliding in WINDOWS:
        if sliding.touches:
            x = rng.integers(3, size=(3, 2, *sliding.lengths)).astype(float)
            out = np.full((3, 2, *sliding.counts), np.nan)
            yield x, sliding, Backend("numpy", np).window_max(x, sliding, out)


def window_max_cases(rng):
    for x, sliding, largest in pooled(rng):
        yield (x, sliding, np.full_like(largest, np.nan)), 2
        turned = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
        yield (turned, sliding, np.full_like(largest, np.nan)), 2


def window_max_backward_cases(rng):
    for x, sliding, largest in pooled(rng):
        delta = rng.normal(size=largest.shape)
        yield (delta, x, largest, sliding, np.full_like(x, np.nan)), 4


def keep_cases(rng):
    for shape in ((1, 1), (6, 5), (3, 40, 2), (30, 40, 41)):
        for probability in (0.0, 0.3, 1.0):
            yield (2**63 + 11, 2, 7, 3, shape, probability), None


def tally_cases(rng):
    for m in (1, 6, 1000):
        values, right, weight = rng.normal(size=m), rng.random(m) > 0.5, rng.random(m)
        yield (values, right, None, np.full((4, 3), 7.0), 2), 3
        yield (values, None, None, np.full((4, 3), 7.0), 0), 3
        yield (values, right, weight, np.full((4, 3), 7.0), 3), 3
        yield (values, None, weight, np.full((4, 3), 7.0), 1), 3


def tick_cases(rng):
    table, order = rng.normal(size=(4, 5)), rng.permutation(12)
    clock, rows = np.array([2, 1, 40]), np.zeros(3, np.int64)
    yield (clock, table, np.full(5, np.nan), order, rows), 0


def optimize_cases(rng):
    backend = bpx.backends.get("numpy")
    for optimizer in (
        bpx.SGD(0.1),
        bpx.SGD(0.1, momentum=0.9),
        bpx.SGD(0.1, momentum=0.9, nesterov=True),
        bpx.RMSprop(),
        bpx.Adam(),
        bpx.Adam(epsilon_hat=True),
        bpx.AdamW(weight_decay=0.1),
    ):
        for size in (48, 40_000):
            slots = {name: rng.random(size) for name in optimizer.slots()}
            state = State(backend, size // 2, slots, step=3)
            theta, grad = rng.normal(size=size), rng.normal(size=size)
            yield (optimizer, theta, grad, state, 3, optimizer.scalars(state, 3)), None


CASES = {
    "activate": activate_cases,
    "activate_backward": activate_backward_cases,
    "add": of_two_cases,
    "affine": affine_cases,
    "affine_activate": affine_activate_cases,
    "argmax": argmax_cases,
    "axpby": axpby_cases,
    "bias_activate": bias_activate_cases,
    "clip_norm": clip_norm_cases,
    "convolve": convolve_cases,
    "convolve_inputs": convolve_inputs_cases,
    "convolve_weights": convolve_weights_cases,
    "cost_and_delta": cost_and_delta_cases,
    "fold": fold_cases,
    "gather": gather_cases,
    "gemm": gemm_cases,
    "keep": keep_cases,
    "batch_norm": batch_norm_cases,
    "batch_norm_backward": batch_norm_backward_cases,
    "batch_statistics": batch_statistics_cases,
    "layer_norm": layer_norm_cases,
    "layer_norm_backward": layer_norm_backward_cases,
    "mean_places": mean_places_cases,
    "moments": moments_cases,
    "normalize": normalize_cases,
    "normalize_backward": normalize_backward_cases,
    "normalize_sums": normalize_sums_cases,
    "one_hot": one_hot_cases,
    "optimize": optimize_cases,
    "patches": patches_cases,
    "products": products_cases,
    "rows": rows_cases,
    "running_norm": running_norm_cases,
    "subtract": of_two_cases,
    "sum_at": sum_at_cases,
    "sum_of_products": sum_of_products_cases,
    "sum_channels": sum_channels_cases,
    "add_signs": add_signs_cases,
    "sum_rows": sum_rows_cases,
    "tally": tally_cases,
    "tick": tick_cases,
    "square": square_cases,
    "total": total_cases,
    "window_max": window_max_cases,
    "window_max_backward": window_max_backward_cases,
    "window_sum": window_sum_cases,
}


def test_every_kernel_has_cases():
    assert sorted(CASES) == KERNELS


# What a backend may define otherwise and is no kernel: where arrays live, and how they move.
PLACES = {"__init__", "from_host", "to_host", "use", "blocks", "_wider"}
PLACES |= {"parts", "parts_of_windows", "side_by_side", "surround", "in_threads", "capture"}
PLACES |= {"in_precision", "parts_of_places", "slot", "empty", "zeros", "own"}
# Compared with the steps in Python by test_compiled.py and test_forward.py.
COMPILED = {"compile", "compile_forward", "parts_of_forward"}


def test_only_kernels_are_overridden():
    numpys = _numpy.NumpyBackend, _numpy_windows.NumpyWindows, _numpy_norms.NumpyNorms
    numpys += _fast.FastBackend, _fast_windows.FastWindows, _fast_norms.FastNorms
    cupys = _cupy.CupyBackend, _cupy_windows.CupyWindows, _cupy_products.CupyProducts
    cupys += (_cupy_convolutions.CupyConvolutions,)
    for cls in (*numpys, *cupys, _torch.TorchBackend):
        overridden = {name for name in vars(cls) if callable(getattr(Backend, name, None))}
        assert overridden <= PLACES | COMPILED | set(KERNELS)


# Of a kernel's arrays those that it may overwrite.
OVERWRITTEN = {"window_max_backward": [0], "moments": [2], "normalize_sums": [2]}
OVERWRITTEN |= {"normalize_backward": [1]}
OVERWRITTEN |= {"batch_norm_backward": [3, 1], "layer_norm_backward": [4, 1]}


def run(kernels, name, arguments, written, dtype, to):
    """The kernel's result, and every array argument after the call."""
    moved, seen = [], {}
    for argument in arguments:
        if isinstance(argument, State):
            slots = {key: to(slot.astype(dtype)) for key, slot in argument.slots.items()}
            moved.append(State(kernels, argument.decayed, slots, argument.step))
        elif isinstance(argument, np.ndarray):
            cast = argument.dtype == np.float64
            if id(argument) not in seen:  # the same array twice is the same array there
                seen[id(argument)] = to(
                    argument.astype(dtype, order="K") if cast else argument.copy("K")
                )
            moved.append(seen[id(argument)])
        elif argument is ROOM:
            moved.append(lending(kernels, dtype))
        else:
            moved.append(argument)
    result = getattr(kernels, name)(*moved)
    found = [np.array(kernels.to_host(a)) for a in moved if hasattr(a, "shape")]
    for at in OVERWRITTEN.get(name, ()):
        del found[at]
    if name == "optimize":
        theta, _, *others = found  # the gradient may be overwritten
        return [theta, *others, *(np.array(kernels.to_host(s)) for s in moved[3].slots.values())]
    if written is None:
        is_array = getattr(result, "ndim", 0) > 0
        return [*found, kernels.to_host(result) if is_array else np.asarray(float(result))]
    assert result is moved[written], "a kernel returns what it wrote to"
    return found


PRODUCTS = {
    "gemm": np.matmul,
    "affine": lambda x, w: x @ w.T,
    "products": np.matmul,
    "sum_of_products": lambda a, b: (a @ b).sum(axis=0),
}

SUMS = {
    "sum_rows": lambda x: x.sum(axis=0),
    "sum_channels": lambda x: x.sum(axis=(0, *range(2, x.ndim))),
}


def moved(backend, array):
    """On a device its axes are as far apart as on the host, which a copy would put in order."""
    if backend.is_host:
        return backend.from_host(array)
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    there = backend.from_host(np.ascontiguousarray(array.transpose(axes)))
    return backend.xp.permute_dims(there, np.argsort(axes).tolist())


def worst_difference(backend, name, dtype, rng, *, by_terms=False):
    """From the standard twin, over all cases, relative to the size of the result.

    `by_terms`: a sum of rows, whose terms cancel, is judged by the sum of their sizes.
    """
    standard, worst = Backend("numpy", np), 0.0
    for arguments, written in CASES[name](rng):
        expected = run(standard, name, arguments, written, dtype, np.asarray)
        got = run(backend, name, arguments, written, dtype, functools.partial(moved, backend))
        size = 1.0
        if name in PRODUCTS:  # judged against |A||B|, not element by element
            left, right = (np.abs(matrix) for matrix in arguments[:2])
            size += PRODUCTS[name](left, right).max()
        elif name.startswith("convolve"):
            terms = [np.abs(a) if isinstance(a, np.ndarray) else a for a in arguments]
            size += np.abs(run(standard, name, terms, written, dtype, np.asarray)[-1]).max()
        elif name in SUMS and by_terms:
            size += SUMS[name](np.abs(arguments[0])).max()
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape
            difference = np.abs(a - 1.0 * b).max()  # 1.0: booleans too
            worst = np.maximum(worst, difference / (size + np.abs(b).max()))  # a NaN stays
    return worst


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_native_is_standard(backend, rng, name, dtype):
    assert worst_difference(backend, name, dtype, rng) <= 16 * np.finfo(dtype).eps


@pytest.mark.parametrize("activation", OF_NUMBERS, ids=str)
@pytest.mark.parametrize("kind", [_numpy.NumpyBackend, _fast.FastBackend])
def test_what_is_not_finite_is_where_the_standard_has_it(activation, kind):
    kernels, standard = kind(), Backend("numpy", np)
    if kind is _fast.FastBackend:
        pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    z = [np.inf, -np.inf, np.nan, 1.7e308, -1.7e308, 1e300, -1e300, 0.0, -1e-12, 709.0, -740.0]
    z = np.repeat(z, SMALL)  # for the compiled loops
    with np.errstate(all="ignore"):  # 0·∞
        a = standard.activate(activation, z, np.empty_like(z))
        slopes = standard.activate_backward(activation, np.ones_like(z), z, a)
        found = kernels.activate(activation, z, np.empty_like(z))
        backward = kernels.activate_backward(activation, np.ones_like(z), z, a)
    assert np.allclose(found, a, rtol=1e-14, atol=1e-300, equal_nan=True)
    assert np.allclose(backward, slopes, rtol=1e-14, atol=1e-300, equal_nan=True)


def test_without_scipy_the_numbers_are_the_same(rng, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("expit", "csc_array"):
        monkeypatch.setattr(_scipy, name, getattr(_scipy, name).__wrapped__)  # nothing remembered
        assert getattr(_scipy, name)() is None
    assert _scipy.blas_by_dtype() == {}
    kernels = _numpy.NumpyBackend()
    for name in ("activate", "sum_at"):
        assert worst_difference(kernels, name, "float64", rng) <= 16 * np.finfo("float64").eps
