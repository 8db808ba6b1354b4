"""The kernels that NumPy and BLAS do faster than the standard can express."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any, ClassVar

import numpy as np

from .. import random
from . import _aligned, _cblas, _scipy, _threads
from ._base import Array, Backend, Forward, InPlace, dealt, in_slices
from ._numpy_elementwise import (
    BACKWARD,
    BACKWARD_OF,
    BLOCK,
    FORWARD,
    FORWARD_OF,
    SMALL,
    Native,
    constant,
    in_blocks,
    log_likelihood,
    sigma,
)
from ._numpy_norms import NumpyNorms

# OpenBLAS keeps a product of at most this many multiply-adds on the calling thread. Up to it
# NumPy's and SciPy's libraries may take turns; beyond it their thread pools fight for the cores
# (measured: 24 times slower), so every product goes to one of the libraries, to NumPy's if that is
# found.
ONE_THREAD = 262_144

# Rows of ω beside a sparse x that are worked on at once. 100 rows of 20,000 by 200 samples take
# 1.2 ms of a core, and their gradient 1.6; with 16 at once, which seem to be more streams than the
# processor reads ahead, 1.7 and 1.8, and with 4 2.4 and 1.9. With 2,000 columns 16 are ahead: 0.27
# ms against 0.33.
STRIP = 12

# Elements of patches that are written, multiplied and summed up at once, 1 MB of float32. The
# book's two convolutions (m 128): 54 ms of a core's time a step; 63 with a quarter of it, because
# of more calls, and 60 with eight times as much, which leaves the caches.
AT_ONCE = 1 << 18

# Elements for which one more thread is worth waking, which takes 0.05 to 0.08 ms: with half as
# many a step of the same network at m 10 takes 7 % longer, with twice as many 23 %.
WORTH = 131_072

# Rows, or terms, that a product needs for its parts to be worth a thread each. With fewer a second
# one brings nothing: the book's two convolutions with 1000-1000 at m 10 take 6.3 to 7.8 ms a step
# either way, but with it 9.1 to 11.0 of core time against 7.4 to 8.4. Few columns do not matter:
# 4,096 rows of 400 to 10 take 0.9 to 1.0 ms on two threads against 1.4 to 1.7.
THIN = 32

# Elements of the vectors that the passes of Adam go over at once. Beyond L2, since there are fewer
# calls: *deep*'s 185,000 take 252 µs a step, with `BLOCK` 302 (L2 of 1 MB, L3 of 32).
AT_A_PASS = 131_072

# A sum of squares beside which those that float32 has no room for, below 1e-38, are nothing.
SURE = 1e-20

# Classes whose unit vectors are kept as a matrix, to be gathered from.
FEW = 256


class NumpyBackend(NumpyNorms):
    """NumPy on the host; its BLAS, or else SciPy's, for ``β·out + α·ab``."""

    sparse_up_to = 0.02

    def __init__(self) -> None:
        super().__init__("numpy", np)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return _aligned.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return _aligned.zeros(shape, dtype)

    def from_host(self, array: np.ndarray) -> Array:
        return array

    def to_host(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def surround(
        self,
        largest: int | None,
        processes: int = 1,
        in_parts: bool = False,
        elements: int = 0,
    ) -> contextlib.AbstractContextManager[None]:
        if largest is not None and max(largest, elements) <= SMALL:
            return contextlib.nullcontext()  # BLAS by itself takes one thread, for sums too
        threads, cores = _threads.for_each_of(processes), self.cores  # a user's own setting counts
        # Of parts BLAS's own threads, which go on looking for work, would be in the way.
        if in_parts or (largest is not None and largest <= _threads.ONE_CORE):
            return _threads.limited(1, min(threads or cores, cores))
        if threads is None:
            return contextlib.nullcontext()
        return _threads.limited(min(threads, cores))

    @property
    def cores(self) -> int:
        _ = self.blas  # SciPy's library must be loaded to be found
        return _threads.count()

    def parts(
        self, rows: int, elements: int, cost: float | None = None, least: int = 1
    ) -> list[list[slice]]:
        if rows == 1:
            return [[slice(0, 1)]]
        worth = int(rows * (elements if cost is None else cost) / WORTH)
        threads = max(1, min(self.cores, rows, worth))
        step = max(least, AT_ONCE // elements)
        return [in_slices(first, stop, step) for first, stop in dealt(rows, threads)]

    def side_by_side(
        self, work: Callable[[int, list[slice]], None], parts: list[list[slice]]
    ) -> None:
        if len(parts) == 1:
            work(0, parts[0])
        else:
            _threads.spread(lambda k: work(k, parts[k]), len(parts), self._watch())

    def _watch(self) -> Callable[[int], None] | None:
        """See `_threads.spread`."""
        return None

    @contextlib.contextmanager
    def in_threads(self) -> Iterator[Backend]:
        with _threads.limited(1):
            yield _InThreads()

    @cached_property
    def blas(self) -> Mapping[Any, _cblas.Cblas | _scipy.Fblas]:
        """BLAS by dtype, NumPy's own or else SciPy's; empty without one."""
        return _cblas.by_dtype() or _scipy.blas_by_dtype()

    def square(self, x: Array) -> Array:
        blas = self.blas.get(x.dtype)
        # NumPy's own, which above this uses several threads, might wake a second pool of them.
        return np.vecdot(x, x) if blas is None or x.size <= SMALL else blas.dot(x, x)

    def clip_norm(self, x: Array, norm: float) -> Array:
        # One pass, or two, instead of seven.
        square = sum(float(self.square(part)) for (part,) in self.blocks(x, size=AT_A_PASS))
        if not SURE < square < math.inf:
            return super().clip_norm(x, norm)
        if math.sqrt(square) > norm:
            x *= norm / math.sqrt(square)
        return x

    def gemm(self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        if not isinstance(a, np.ndarray):  # a sparse x, of a layer without bias
            for part in _strips(b.shape[1]):
                self.axpby(a @ b[:, part], out[:, part], alpha, beta)
            return out
        if not isinstance(b, np.ndarray):  # a sparse x
            for part in _strips(a.shape[0]):
                self.axpby((b.T @ a[part].T).T, out[part], alpha, beta)
            return out
        plain = alpha == 1.0 and beta == 0.0
        small = a.size * b.shape[1] <= ONE_THREAD
        if plain and small:
            return a.dot(b, out)  # 0.7 µs less than matmul, 0.2 less than np.dot
        alike = a.dtype == b.dtype == out.dtype
        if small and alike and out.size <= BLOCK and out.flags.c_contiguous:
            return self._small(a, b, out, alpha, beta)
        blas = self.blas.get(out.dtype)
        dense = out.flags.c_contiguous and a.flags.forc and b.flags.forc
        fits = dense and alike
        large = a.size * b.shape[1] > _threads.ONE_CORE
        if large and fits and isinstance(blas, _cblas.Cblas):
            self._deal(blas.gemm, alpha, a, b, beta, out)
            return out
        if plain and (blas is None or blas.of_numpy):
            return np.matmul(a, b, out=out)
        if blas is None or not fits:
            return self.axpby(np.matmul(a, b), out, alpha, beta)
        blas.gemm(alpha, a, b, beta, out)
        return out

    def _small(self, a: Array, b: Array, out: Array, alpha: float, beta: float) -> Array:
        """`gemm` by passes: to tell BLAS of three arrays takes 6 µs, and 64 × 64 1.3 to 2 so."""
        if beta == 0.0:
            a.dot(b, out)
            out *= alpha
            return out
        product = a.dot(b)
        if alpha != 1.0:
            product *= alpha
        if beta != 1.0:
            out *= beta
        out += product
        return out

    def prepared(self, a: Array, b: Array, out: Array) -> Callable[[float, float], Any]:
        """`gemm` as a function of α and β, on the same dense arrays each time."""
        blas = self.blas.get(out.dtype)
        return partial(self.gemm, a, b, out) if blas is None else blas.prepared(a, b, out)

    def _deal(
        self,
        gemm: Callable[..., None],
        alpha: float,
        a: Array,
        b: Array,
        beta: float,
        out: Array,
    ) -> None:
        """`gemm` by rows or columns of `out`, on the threads that BLAS does not use."""
        by_rows = out.shape[0] >= out.shape[1]
        worth = 2 * a.size * b.shape[1] // _threads.ONE_CORE  # a thread takes 0.05 ms to wake up
        thin = min(a.shape) < THIN
        threads = 1 if thin else max(1, min(worth, _threads.beside_blas()))

        def work(k: int, part: list[slice]) -> None:
            for cut in part:
                if by_rows:
                    gemm(alpha, a[cut], b, beta, out[cut])
                else:
                    gemm(alpha, a, b[:, cut], beta, out[:, cut])

        self.side_by_side(work, [[slice(*ends)] for ends in dealt(max(out.shape), threads)])

    def affine(self, x: Array, w: Array, b: Array, out: Array) -> Array:
        if not isinstance(x, np.ndarray):  # sparse
            for part in _strips(w.shape[0]):
                np.add(x @ w[part].T, b[part], out[:, part])
            return out
        (m, inputs), size = x.shape, x.size * len(w)
        dealt = size > _threads.ONE_CORE and m >= THIN and _threads.beside_blas() > 1
        if not dealt and _cblas.is_sooner_transposed(m, inputs, len(w)):
            return np.add(w.dot(x.T).T, b, out)
        if size <= ONE_THREAD or not self.blas:
            x.dot(w.T, out)
            out += b
            return out
        out[...] = b  # and accumulate on it: one pass over `out` less
        return self.gemm(x, w.T, out, 1.0, 1.0)

    def argmax(self, a: Array) -> Array:
        return a.argmax(1)

    def total(self, values: Array) -> Array:
        if values.dtype.kind == "b":
            return np.count_nonzero(values)
        return np.add.reduce(values)

    def axpby(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
        if beta == 1.0 and out.size > BLOCK and x.shape == out.shape and x.dtype == out.dtype:
            blas = self.blas.get(out.dtype)
            if blas is not None and x.flags.c_contiguous and out.flags.c_contiguous:
                blas.axpy(alpha, x, out)  # on all cores; NumPy uses one
                return out
        if alpha == 1.0 and beta == 1.0:
            out += x
            return out
        if x.shape != out.shape or (out.size > BLOCK and out.ndim > 1):
            return super().axpby(x, out, alpha, beta)
        one = ((x, out),)  # without the generator 30 elements take 1.1 µs instead of 1.8
        for x_block, block in one if out.size <= BLOCK else self.blocks(x, out):
            if beta == 0.0:
                np.multiply(x_block, alpha, block)
            else:
                if beta != 1.0:
                    block *= beta
                block += x_block if alpha == 1.0 else x_block * alpha
        return out

    def sum_rows(self, x: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        blas = self.blas.get(x.dtype)
        of_numpy = x.size <= SMALL or blas is None or blas.of_numpy  # or a second pool might wake
        dense = x.ndim == 2 or (x.flags.c_contiguous and x.shape[1:] == out.shape)
        plain = dense and x.dtype.kind == "f" and x.dtype == out.dtype
        if not (plain and of_numpy and out.flags.c_contiguous):
            return super().sum_rows(x, out, alpha, beta)
        if x.ndim != 2:
            self.sum_rows(x.reshape(len(x), out.size), out.reshape(-1), alpha, beta)
            return out
        # As a product 64 × 100 take 1.8 µs, as a reduction 5.0; 1,024 × 64 take 3.9 and 30.
        m, dtype = x.shape[0], x.dtype
        alphas = constant(m, alpha, dtype) if m <= SMALL else np.full(m, alpha, dtype)
        return weighted_sum(alphas, x, out, beta)

    def sum_at(
        self, x: Array, rows: Array, out: Array, alpha: float = 1.0, beta: float = 0.0
    ) -> Array:
        if not out.flags.c_contiguous:
            return super().sum_at(x, rows, out, alpha, beta)
        scale_by(out, beta)
        self._add_at(x if alpha == 1.0 else alpha * x, rows, out)
        return out

    def _add_at(self, x: Array, rows: Array, out: Array) -> None:
        """``out_k ← out_k + Σ x_i``; `out` has no gaps."""
        n, width = x.shape
        if n > len(out) and x.size > SMALL and (csc_array := _scipy.csc_array()) is not None:
            if rows.min() < 0 or rows.max() >= len(out):  # of which SciPy would write elsewhere
                raise IndexError(f"expected rows from 0 to {len(out) - 1} of an Embedding")
            # A product with unit vectors: 3,200 rows of 64 into 300 take 0.04 ms.
            units = csc_array((np.ones(n, x.dtype), rows, np.arange(n + 1)), (len(out), n))
            out += units @ x
            return
        # By elements: 3,200 rows of 64 take 0.25 ms, by rows 1.4.
        places = rows[:, None] * np.int64(width) + np.arange(width)
        np.add.at(out.reshape(-1), places.reshape(-1), x.reshape(-1))

    def add(self, a: Array, b: Array, out: Array) -> Array:
        return np.add(a, b, out)

    def subtract(self, a: Array, b: Array, out: Array) -> Array:
        return np.subtract(a, b, out)

    def rows(self, source: Array, rows: Any) -> Array:
        # `take` is twice as fast as an index, but copies all of a source that has gaps or is
        # stored by columns, as a data frame's is.
        if isinstance(rows, slice) or not source.flags.c_contiguous:
            return source[rows]
        return source.take(rows, 0)

    def gather(
        self, source: Array, rows: Any, out: Array, scale: Any = 1.0, offset: Any = 0.0
    ) -> Array:
        plain = isinstance(scale, float) and isinstance(offset, float)
        whole = plain and source.dtype == out.dtype and source.flags.c_contiguous
        if whole and not isinstance(rows, slice):
            # mode="clip" saves the copy that the default makes of `out`; indices are in range.
            batch = source.take(rows, 0, out, "clip")
        else:
            batch = self.rows(source, rows)
        same = batch.dtype == out.dtype
        if plain and (same or self._wider(batch.dtype, out.dtype) == out.dtype):
            if scale != 1.0:
                np.multiply(batch, scale, out=out, dtype=out.dtype, casting="unsafe")
            elif batch is not out:
                out[...] = batch
            if offset != 0.0:
                out += offset
        else:  # in double precision, since the sum may cancel
            out[...] = batch * scale + offset
        return out

    def _wider(self, source: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
        # In 0.3 µs, where asking the namespace takes 3.
        if source.kind in "iu" and source.itemsize > 2:
            return np.dtype(np.float64)
        return source if source.kind == "f" and source.itemsize > out.itemsize else out

    def one_hot(self, labels: Array, out: Array) -> Array:
        classes = out.shape[1]
        if classes <= FEW:
            return self.units(classes, out.dtype).take(labels, 0, out, "clip")
        out.fill(0.0)
        out[np.arange(len(labels)), labels] = 1.0
        return out

    @staticmethod
    @cache
    def units(classes: int, dtype: np.dtype[Any]) -> np.ndarray:
        return np.eye(classes, dtype=dtype)

    def activate(self, activation: Any, z: Array, out: Array) -> Array:
        native = FORWARD.get(activation.kernel)
        if native is not None:
            native(z, out)
        elif activation.kernel in FORWARD_OF:
            in_blocks(FORWARD_OF[activation.kernel], activation, z, out)
        else:
            return super().activate(activation, z, out)
        return out

    def activate_backward(self, activation: Any, delta: Array, z: Array, a: Array) -> Array:
        native = BACKWARD.get(activation.kernel)
        if native is not None:
            native(delta, a)
        elif activation.kernel in BACKWARD_OF:
            in_blocks(BACKWARD_OF[activation.kernel], activation, delta, z, a)
        else:
            return super().activate_backward(activation, delta, z, a)
        return delta

    def sigma(self, name: str, size: int) -> tuple[Native, Native]:
        """`activate` and `activate_backward` in place, for so many elements each time."""
        return sigma(name, size)

    def cost_and_delta(self, objective: Any, z: Array, a: Array, y: Array, out: Array) -> Array:
        if objective.kernel != ("log-likelihood", "softmax"):
            return super().cost_and_delta(objective, z, a, y, out)
        return log_likelihood(z, a, y, out)

    def keep(
        self, key: int, layer: int, step: Any, row: int, shape: tuple[int, ...], probability: float
    ) -> Array:
        mask = np.empty((shape[0], math.prod(shape[1:])), np.bool_)
        self._draw(random.of_step(key, layer, step), row, random.threshold(probability), mask)
        return mask.reshape(shape)

    def _draw(self, step: int, row: int, limit: int, out: Array) -> None:
        from . import _numpy_random

        _numpy_random.keep(step, row, limit, out)

    def optimize(
        self, optimizer: Any, theta: Array, grad: Array, state: Any, step: int, scalars: Any
    ) -> None:
        if optimizer.kernel in ("adam", "adamw"):
            self._adam(optimizer, theta, grad, state, scalars)
        else:
            super().optimize(optimizer, theta, grad, state, step, scalars)

    def _adam(self, optimizer: Any, theta: Array, grad: Array, state: Any, scalars: Any) -> None:
        """`Adam.update` in place: passes over blocks that stay in the caches.

        Nine passes where BLAS adds a multiple in one, else twelve.
        """
        kind = theta.dtype.type
        rate, epsilon, decay = map(kind, scalars)
        b1, b2 = kind(optimizer.beta1), kind(optimizer.beta2)
        c1, c2 = kind(1.0 - optimizer.beta1), kind(1.0 - optimizer.beta2)
        # By one thread a pass takes 16 µs, where NumPy's two take 27; by several, on cores that
        # others use too, 12 ms were measured.
        by_blas = theta.size > BLOCK and _threads.of_blas() == 1
        blas = self.blas.get(theta.dtype) if by_blas else None
        if decay:
            theta[: state.decayed] *= kind(1.0) - decay
        scratch = np.empty(min(AT_A_PASS, theta.size), theta.dtype)
        moments = state.slots["mean"], state.slots["square"]

        def add(x: Array, out: Array, alpha: Any) -> None:
            if blas is not None:
                blas.axpy(alpha, x, out)
            else:
                out += np.multiply(x, alpha, scratch[: x.size])

        for w, g, m, v in self.blocks(theta, grad, *moments, size=AT_A_PASS):
            t = scratch[: w.size]
            m *= b1
            add(g, m, c1)
            g *= g
            v *= b2
            add(g, v, c2)
            np.sqrt(v, t)
            t += epsilon
            np.divide(m, t, t)
            add(t, w, -rate)

    def compile(self, program: Any) -> Callable[..., int] | None:
        from . import _numpy_run

        return _numpy_run.compiled(self, program)

    def compile_forward(
        self,
        layers: Any,
        theta: Array,
        after: Sequence[Sequence[InPlace]] = (),
        *,
        many: bool = False,
    ) -> Forward | None:
        from . import _numpy_run

        return _numpy_run.compiled_forward(self, layers, theta, after)

    def blocks(self, *vectors: Array, size: int = BLOCK) -> Iterator[tuple[Array, ...]]:
        for start in range(0, vectors[0].shape[0], size):
            yield tuple(vector[start : start + size] for vector in vectors)


def scale_by(out: Array, beta: float) -> None:
    """``out ← β·out``, whatever is there if β = 0."""
    if beta == 0.0:
        out.fill(0.0)
    elif beta != 1.0:
        out *= beta


def weighted_sum(weights: Array, x: Array, out: Array, beta: float) -> Array:
    """``out ← β·out + Σ_i weights_i x_i`` over the rows."""
    if beta == 0.0:
        return weights.dot(x, out)
    total = weights.dot(x)
    if beta != 1.0:
        out *= beta
    out += total
    return out


def _strips(rows: int) -> Iterator[slice]:
    """Strips of a matrix for SciPy's sparse products to transpose: narrow ones are faster."""
    for start in range(0, rows, STRIP):
        yield slice(start, start + STRIP)


class _InThreads(NumpyBackend):
    """NumPy's products alone: SciPy's hold the interpreter's lock, and other threads wait."""

    cores: ClassVar[int] = 1

    @cached_property
    def blas(self) -> Mapping[Any, _cblas.Cblas]:
        return _cblas.by_dtype()
