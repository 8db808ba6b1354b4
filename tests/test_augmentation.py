"""Random changes of images: against SciPy on the numbers that were drawn, and in training."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass

import messages
import numpy as np
import pytest
from test_cli import bpx_command

import bpx
from bpx import layers, random
from bpx.augmentation import (
    Augmentation,
    Crop,
    Draw,
    Elastic,
    Flip,
    Noise,
    Pipeline,
    Rotate,
    Shift,
    apply,
    expand,
)
from bpx.context import Workspace
from bpx.training import trainer
from bpx.training.sources import Windows, of_samples

EXACT = [Shift(2), Shift((0, 3)), Flip(), Flip("vertical", 0.3)]
ROUNDED = [Rotate(30), Crop(0.6), Elastic(8.0, 2.0), Elastic(34.0, 4.0), Noise(0.2)]
HERE = {"key": 5, "step": 3, "row": 2}  # the position of what is drawn in most tests


def workspace(backend, dtype="float32", *, key=5, step=3, row=2):
    ws = Workspace(backend, backend.dtype(dtype), [], key=key)
    ws.step, ws.row = step, row
    return ws


def drawn(rows):
    """What the only function of a list draws from."""
    return Draw(workspace(bpx.backends.get("numpy"), "float64"), 0, 2, rows)


def images(rng, *shape, dtype="float32"):
    return rng.random(shape).astype(dtype)


# --- what they are ---


def of_scipy(function, x):
    """The same change of each image, by SciPy or NumPy."""
    m, c, h, w = x.shape
    draw, out = drawn(m), np.empty_like(x)
    if isinstance(function, Flip):
        flipped = draw.numbers(1)[:, 0] < function.probability
        axis = {"horizontal": 3, "vertical": 2}[function.axis]
        return np.where(flipped[:, None, None, None], np.flip(x, axis), x)
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed: the oracle")
    zeros = {"order": 1, "mode": "grid-constant", "cval": 0.0}
    y, z = np.mgrid[:h, :w].astype(float)
    if isinstance(function, Shift):
        most = np.array(function.pixels)
        moves = draw.integers(-most, most, 2)
        each = [lambda image, i=i: ndimage.shift(image, moves[i], **zeros) for i in range(m)]
    elif isinstance(function, Rotate):
        angles = function.degrees * (2.0 * draw.numbers(1)[:, 0] - 1.0)
        each = [
            lambda image, a=a: ndimage.rotate(image, a, reshape=False, **zeros) for a in angles
        ]
    else:
        places = []
        if isinstance(function, Crop):
            for size, down, right in draw.numbers(3):
                side = 1.0 - (1.0 - function.least) * size
                top, left = (1.0 - side) * down * h, (1.0 - side) * right * w
                # The part's pixels are squares, of side `side`; places are their middles.
                places.append((top + side * (y + 0.5) - 0.5, left + side * (z + 0.5) - 0.5))
        else:
            fields = 2.0 * draw.uniform(2, h, w) - 1.0
            blurred = ndimage.gaussian_filter(fields, function.sigma, mode="constant", axes=(2, 3))
            places = [(y + function.alpha * a, z + function.alpha * b) for a, b in blurred]
        each = [lambda image, p=p: ndimage.map_coordinates(image, p, **zeros) for p in places]
    for i, channel in itertools.product(range(m), range(c)):
        out[i, channel] = each[i](x[i, channel])
    return out


@pytest.mark.parametrize("function", [*EXACT, *ROUNDED[:-1]], ids=str)
def test_images_are_those_of_scipy(function, rng):
    x = images(rng, 7, 2, 12, 9, dtype="float64")
    found = apply(x, function, **HERE)
    assert np.abs(found - of_scipy(function, x)).max() < 1e-12
    assert np.abs(found - x).max() > 0.1


def test_noise_is_normal(rng):
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: the oracle")
    x = np.zeros((100, 1, 28, 28))
    found = apply(x, Noise(3.0), **HERE)
    assert stats.kstest(found.ravel() / 3.0, "norm").pvalue > 0.01
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.02  # 5/√n
    assert apply(np.zeros((4, 3)), Noise(1.0), **HERE).shape == (4, 3)  # no image is needed


IDENTITIES = [
    Shift(0), Rotate(0), Elastic(0.0), Crop(1.0), Flip(probability=0.0), Noise(0.0)
]  # fmt: skip


@pytest.mark.parametrize("function", IDENTITIES, ids=str)
def test_nothing_changes_nothing(function, rng):
    x = images(rng, 5, 2, 7, 6)
    found = apply(x, function, **HERE)
    assert np.array_equal(found, x)
    assert found is not x


def counts(values):
    return np.unique(values, axis=0, return_counts=True)


def test_each_shift_comes_as_often():
    n = 18_000
    x = np.zeros((n, 1, 3, 5))
    x[:, 0, 1, 2] = 1.0
    shifts, found = counts(np.argwhere(apply(x, Shift((1, 2)), **HERE))[:, 2:])
    assert shifts.tolist() == [[i, j] for i in range(3) for j in range(5)]
    assert np.abs(found - n / 15).max() < 5 * np.sqrt(n / 15 * 14 / 15)  # binomial, 5 σ


def test_each_function_row_and_step_draws_its_own():
    x = np.zeros((300, 1, 3, 3))
    x[:, 0, 1, 1] = 1.0
    first, second = apply(x, Shift(1), **HERE), apply(x, Shift(1), **HERE | {"step": 4})
    both = np.argwhere(first)[:, 2:] - 1, np.argwhere(second)[:, 2:] - 1
    assert len(counts(np.column_stack(both))[0]) > 70  # of 81 pairs
    one_after_another = apply(np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)]), [Shift(1), Shift(1)])
    odd = counts(np.argwhere(one_after_another)[:, 2:])[0] % 2
    assert odd.any()  # otherwise the second would repeat the first


def test_flips_come_with_their_probability():
    n, p = 10_000, 0.3
    x = np.zeros((n, 1, 1, 2))
    x[..., 0] = 1.0
    flipped = apply(x, Flip(probability=p), **HERE)[..., 1].sum()
    assert abs(flipped - n * p) < 5 * np.sqrt(n * p * (1 - p))
    assert apply(x, Flip(probability=1.0), **HERE)[..., 1].all()


def test_what_a_draw_gives():
    draw = drawn(2000)
    numbers, others = draw.numbers(2), draw.numbers(2)
    assert numbers.shape == (2000, 2)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert (numbers != others).all()  # each call has its own
    assert abs(numbers.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 4000)
    assert np.unique(draw.integers(3, 5, 1)).tolist() == [3, 4, 5]
    assert draw.normal(3).shape == draw.uniform(3).shape == (2000, 3)


def test_what_a_function_draws_twice_is_not_what_the_next_one_draws():
    ws = workspace(bpx.backends.get("numpy"), "float64")
    draws = [Draw(ws, place, 0, 5) for place in range(3)]
    numbers = [draw.numbers(2) for draw in draws for _ in range(3)]
    assert len(np.unique(numbers)) == 3 * 3 * 5 * 2


def test_the_largest_and_the_smallest_normal_number():
    bits = np.array([0, (1 << 53) - 1, (1 << 53) - 1 - (1 << 26)], np.int64)
    for dtype in (np.float32, np.float64):
        assert np.abs(random.normal(np, bits, dtype)).max() < 6.01
        assert random.uniform(np, bits, dtype).min() >= 0.0
        assert random.uniform(np, bits, dtype).max() <= 1.0


def test_a_function_of_ones_own(rng):
    @dataclass(frozen=True)
    class Brighter(Augmentation):
        most: float = 2.0

        def __call__(self, images, draw):
            factor = 1.0 + (self.most - 1.0) * draw.numbers(1)
            return images * draw.moved(factor[:, :, None, None])

    x = images(rng, 6, 1, 3, 3)
    found = apply(x, [Brighter(3.0), Brighter(1.0)], **HERE)
    assert np.allclose(found / x, 1.0 + 2.0 * drawn(6).numbers(1)[:, :, None, None], rtol=1e-6)


# --- the same everywhere ---


@pytest.mark.parametrize("function", [*EXACT, *ROUNDED], ids=str)
def test_images_are_the_same_on_every_backend(backend, put, host, rng, function):
    x = images(rng, 6, 2, 12, 9)
    expected = apply(x, function, **HERE)
    pipeline = Pipeline.of(function, x.shape[1:])
    buffer = backend.empty(x.shape, backend.dtype("float32"))
    buffer[...] = put(x)
    found = host(pipeline(buffer, workspace(backend)))
    assert found.dtype == np.float32
    if function in EXACT:
        assert np.array_equal(found, expected)
    elif isinstance(function, Noise):
        size = np.finfo(np.float32).eps * (16 * function.standard_deviation + np.abs(found).max())
        assert np.abs(found - expected).max() <= size
    else:
        alpha = getattr(function, "alpha", 0.0)
        bound = 8 * (12 + 9 + alpha) * np.finfo(np.float32).eps * x.max()
        assert np.abs(found - expected).max() <= bound


@pytest.mark.parametrize("function", [*EXACT, *ROUNDED], ids=str)
def test_any_cut_of_a_mini_batch_gives_the_same(function, rng):
    x = images(rng, 30, 1, 28, 28, dtype="float64")
    whole = apply(x, [function, Shift(1)], **HERE)  # in pieces that fit a cache
    for cuts in ([0, 30], [0, 1, 2, 30], [0, 13, 17, 30]):
        parts = [
            apply(x[a:b], [function, Shift(1)], **HERE | {"row": 2 + a})
            for a, b in itertools.pairwise(cuts)
        ]
        assert np.abs(np.concatenate(parts) - whole).max() < 1e-12


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "bool"])
def test_apply_gives_real_numbers(rng, dtype):
    x = (10 * rng.random((3, 1, 4, 4))).astype(dtype)
    found = apply(x, Shift(1), **HERE)
    assert found.dtype == ("float64" if dtype == "float64" else "float32")
    assert np.array_equal(found, apply(x.astype("float64"), Shift(1), **HERE))
    assert np.array_equal(
        apply(x.reshape(3, 16), Shift(1, shape=(4, 4)), **HERE), found.reshape(3, 16)
    )


# --- the book's expansion ---


def plainly(x):
    """Line by line as expand_mnist.py has it."""
    found = []
    for image in x:
        found.append(image)
        for d, axis, position, index in [
            (1, 0, "first", 0), (-1, 0, "first", -1), (1, 1, "last", 0), (-1, 1, "last", -1)
        ]:  # fmt: skip
            moved = np.roll(image, d, axis)
            if position == "first":
                moved[index, :] = 0
            else:
                moved[:, index] = 0
            found.append(moved)
    return np.array(found)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_expansion_is_the_books(backend, put, host, rng, dtype):
    x = rng.integers(1, 200, (9, 6, 6)).astype(dtype)
    y = np.arange(9)
    expected = plainly(x)
    flat, labels = expand(put(x.reshape(9, 36)), put(y), shape=(6, 6), shuffle=False)
    assert host(flat).dtype == dtype
    assert np.array_equal(host(flat).reshape(45, 6, 6), expected)
    assert np.array_equal(host(labels), np.repeat(y, 5))
    found = expand(put(x[:, None]), shuffle=False)
    assert np.array_equal(host(found)[:, 0], expected)
    order = np.random.default_rng(3).permutation(45)
    mixed, labels = expand(put(x[:, None]), put(y), seed=3)
    assert np.array_equal(host(mixed)[:, 0], expected[order])
    assert np.array_equal(host(labels), order // 5)


def test_the_expansion_of_colours_targets_and_other_data(rng, monkeypatch):
    x, y = rng.random((5, 3, 4, 6)), rng.random((5, 2))
    found, targets = expand(x, y, shuffle=False)
    for channel in range(3):
        assert np.array_equal(found[:, channel], plainly(x[:, channel]))
    assert np.array_equal(targets, np.repeat(y, 5, axis=0))
    assert np.array_equal(expand(x.tolist(), shuffle=False), found)
    monkeypatch.setattr("bpx.augmentation._expansion.AT_ONCE", 100)  # several pieces
    assert np.array_equal(expand(x, shuffle=False), found)


def test_mnist_is_expanded(mnist):
    x, y = mnist.train
    found, labels = expand(x[:200], y[:200], shape=(28, 28), shuffle=False)
    assert np.array_equal(found.reshape(-1, 28, 28), plainly(x[:200].reshape(-1, 28, 28)))
    assert np.array_equal(labels, np.repeat(y[:200], 5))


# --- in training ---


def problem(n=46, dtype="float64"):
    draw = np.random.default_rng(7)
    return (255 * draw.random((n, 1, 6, 5))).astype(dtype), draw.integers(3, size=n)


def network(backend=None, *, flat=False, seed=3, dtype="float64"):
    chain = [layers.Input(30), layers.Reshape((1, 6, 5))] if flat else [layers.Input((1, 6, 5))]
    body = [layers.Conv2D(3, 3, "tanh"), layers.Flatten(), layers.Dense(3, "softmax")]
    chain = [chain[0], layers.Rescale(1 / 255, -0.5), *chain[1:], *body]
    return bpx.Network(chain, seed=seed, backend=backend, dtype=dtype)


MANY = [Shift(1), Rotate(15), Elastic(4.0, 2.0), Flip(), Crop(0.8), Noise(5.0)]
OPTIONS = {"epochs": 2, "batch_size": 8, "optimizer": bpx.SGD(0.2)}


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_fit_sees_images_as_they_were_handed_in(dtype):
    """Its steps are those of a loop of your own, also where a `Rescale` has an offset."""
    x, y = problem(dtype=dtype)
    kept = x.copy()
    net, own = network(), network()
    net.fit(x, y, augment=MANY, **OPTIONS)
    optimizer = OPTIONS["optimizer"]
    state, step = optimizer.start(own), 0
    batches = bpx.batches(x.astype("float64"), y, 8, seed=own.generator)
    for _ in range(2):
        for a, b in batches:
            changed = apply(a, MANY, key=own.chain.key, step=own.steps)
            optimizer.update(own.parameters, own.backprop(changed, b).flat, state, step)
            step += 1
    assert np.abs(net.parameters - own.parameters).max() < 1e-12
    assert np.array_equal(x, kept)


def test_a_column_has_its_own_scale_after_the_change(rng):
    x = rng.integers(0, 9, (20, 12)) + np.arange(12)
    chain = [layers.Input(12), layers.Rescale.standardizing(x), layers.Dense(2, "softmax")]
    y = rng.integers(2, size=20)
    one, two = (bpx.Network(chain, seed=0, dtype="float64") for _ in range(2))
    one.fit(x, y, epochs=1, batch_size=20, shuffle=False, augment=Shift(1, shape=(3, 4)))
    changed = apply(x.astype(float), Shift(1, shape=(3, 4)), key=two.chain.key)
    two.fit(changed, y, epochs=1, batch_size=20, shuffle=False)
    assert np.abs(one.parameters - two.parameters).max() < 1e-13


def test_training_is_the_same_on_every_backend(backend, put, host):
    x, y = problem()
    dtype = "float32" if "float64" in backend.lacks else "float64"
    ours, numpys = network(backend, dtype=dtype), network("numpy", dtype=dtype)
    ours.fit(put(x.astype("float32")), put(y), augment=MANY, **OPTIONS)
    numpys.fit(x.astype("float32"), y, augment=MANY, **OPTIONS)
    near = 1e-12 if dtype == "float64" else 1e-5
    assert np.abs(host(ours.parameters) - numpys.parameters).max() < near


def test_validation_is_not_changed():
    x, y = problem()
    net = network()
    history = net.fit(x, y, validation=(x, y), augment=MANY, **OPTIONS)
    assert history["validation_cost"][-1] == pytest.approx(net.evaluate(x, y)["cost"], abs=1e-14)
    assert history["training_cost"][-1] != pytest.approx(net.evaluate(x, y)["cost"], abs=1e-3)


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_slices_are_the_mini_batch(accumulate):
    x, y = problem()
    whole, cut = network(), network()
    whole.fit(x, y, augment=MANY, **OPTIONS)
    cut.fit(x, y, augment=MANY, accumulate=accumulate, **OPTIONS)
    assert np.abs(whole.parameters - cut.parameters).max() < 1e-12


def test_other_sources_give_what_arrays_give(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: it is one source")
    x, y = problem(400)
    flat = x.reshape(400, 30)
    np.save(tmp_path / "x.npy", flat)
    options = OPTIONS | {"augment": MANY, "batch_size": 9}
    expected = network(flat=True)
    expected.fit(flat, y, shuffle=False, **options)
    data = bpx.open_data(tmp_path / "x.npy", y, budget="70 kB")
    checked = of_samples(network(flat=True), data, None, batch_size=9, shuffle=False)
    assert isinstance(checked, Windows)  # and not all at once
    of_them = {
        "on disk": (data,),
        "a memory map": (np.load(tmp_path / "x.npy", mmap_mode="r"), y),
        "sparse": (sparse.csr_matrix(flat), y),
    }
    for name, given in of_them.items():
        net = network(flat=True)
        net.fit(*given, shuffle=False, **options)
        assert np.array_equal(net.parameters, expected.parameters), name
    net = network(flat=True)
    pieces = [(flat[at : at + 9], y[at : at + 9]) for at in range(0, 400, 9)]
    net.fit(pieces, **{k: v for k, v in options.items() if k != "batch_size"})
    assert np.array_equal(net.parameters, expected.parameters)
    assert np.array_equal(np.load(tmp_path / "x.npy"), flat)


@pytest.mark.parametrize("pieces", [False, True])
def test_the_callers_arrays_stay_as_they_are(rng, pieces):
    """Also where a mini-batch without a change would be a view of them."""
    x, y = images(rng, 10, 30), rng.integers(3, size=10)
    kept = x.copy()
    net = bpx.Network([30, 3], seed=0)
    data = ([(x, y)],) if pieces else (x, y)
    net.fit(*data, epochs=1, shuffle=False, augment=[Shift(1, shape=(6, 5)), Noise(1.0)])
    assert np.array_equal(x, kept)


def test_sparse_rows_are_not_multiplied_as_they_are(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: x is its")
    x = np.zeros((20, 100))
    x[np.arange(20), rng.integers(100, size=20)] = 1.0
    y = rng.integers(2, size=20)
    found = []
    for given in (x, sparse.csr_matrix(x)):
        net = bpx.Network([100, 4, 2], seed=0, dtype="float64")
        net.fit(given, y, epochs=2, augment=Shift(3, shape=(10, 10)))
        found.append(net.parameters)
    assert np.array_equal(*found)


def test_it_is_never_compiled(monkeypatch):
    x, y = problem()
    flat = x.reshape(len(x), -1) / 255
    monkeypatch.setattr(trainer, "compiled", lambda *_: pytest.fail("a compiled run"))
    net = bpx.Network([30, 5, 3], seed=0)
    net.fit(flat, y, augment=Shift(1, shape=(6, 5)), **OPTIONS)


def test_it_is_never_recorded(rehearsed):
    x, y = problem()
    flat = x.reshape(len(x), -1) / 255
    ours, numpys = (
        bpx.Network([30, 5, 3], seed=0, dtype="float64", backend=b) for b in (rehearsed, "numpy")
    )
    with pytest.raises(ValueError, match="graph=True: augment= draws the numbers of each mini-"):
        ours.fit(flat, y, augment=Shift(1, shape=(6, 5)), graph=True)
    for net in (ours, numpys):
        net.fit(flat, y, augment=Shift(1, shape=(6, 5)), **OPTIONS)
    assert np.abs(ours.parameters - numpys.parameters).max() < 1e-12
    numpys.fit(flat, y, **OPTIONS)  # the next one is without


def test_a_run_goes_on_with_the_same_images(tmp_path):
    x, y = problem()
    options = OPTIONS | {"augment": MANY}
    whole, first, second = network(), network(), network(seed=4)
    whole.fit(x, y, **options | {"epochs": 5})
    first.fit(x, y, checkpoint=tmp_path, **options)
    for other, message in (
        (None, "augment[0] was 'Shift(shape=None, pixels=(1, 1))' and is None; augment[1]"),
        (MANY[:-1], "augment[5] was 'Noise(shape=None, standard_deviation=5.0)' and is None."),
        ([*MANY, Flip()], "augment[6] was None and is "),
        ([MANY[0], Rotate(16), *MANY[2:]], "degrees=15.0)' and is 'Rotate(shape=None, degrees=16"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            second.fit(x, y, checkpoint=tmp_path, resume=True, **options | {"augment": other})
    second.fit(x, y, checkpoint=tmp_path, resume=True, **options | {"epochs": 5})
    assert np.array_equal(whole.parameters, second.parameters)


def test_a_cost_that_is_not_finite_is_told_with_its_layer():
    x, y = problem()
    net = network()
    net.weights[1][...] = np.finfo(net.dtype).max  # a product of it is not finite
    with pytest.raises(bpx.DivergenceError, match="step 1 of epoch 1, first in layer 3"):
        net.fit(x, y, augment=[Shift(1), Flip()], **OPTIONS)


def test_the_command_line(tmp_path):
    train = ("train", "digits", "--epochs", 1, "--augment")
    functions = "shift=1,elastic=8:2,Flip=vertical:0.1,noise=0.5"
    out, _ = bpx_command(*train, functions, "--out", "run", cwd=tmp_path)
    assert out.splitlines()[-1].startswith("test accuracy")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["augment"] == functions
    for augment, message in {
        "shft=1": "unknown function 'shft'; did you mean 'shift'?",
        "shift=1:2:3": "--augment shift=1:2:3: Shift does not take so many numbers",
        "shift=a": "expected the pixels of Shift to be an integer, got 'a'",
        "shift=8": "expected the pixels of Shift to be less than the image's (8, 8)",
        "rotate=200": "expected 0 <= the degrees of Rotate <= 180, got 200.0",
    }.items():
        _, err = bpx_command(*train, augment, cwd=tmp_path, status=2)
        assert message in err
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 20)
    _, err = bpx_command("train", "a.csv", "--augment", "flip", cwd=tmp_path, status=2)
    assert "--augment is for digits and mnist, whose samples are images" in err


# --- what is wrong ---

X = np.zeros((3, 1, 6, 5))
FLAT = np.zeros((3, 36))
Y = np.array([0, 1, 2])
WRONG = [
    (lambda: Shift(-1), ValueError, "expected the pixels of Shift >= 0, got -1"),
    (lambda: Shift(0.5), TypeError, "expected the pixels of Shift to be an integer, got 0.5"),
    (lambda: Shift((1, 2, 3)), ValueError, "the pixels of Shift to be an integer or 2 of them"),
    (lambda: Rotate(181), ValueError, "expected 0 <= the degrees of Rotate <= 180, got 181.0"),
    (lambda: Rotate("a"), TypeError, "expected the degrees of Rotate to be a number, got 'a'"),
    (lambda: Elastic(-1.0), ValueError, "expected the alpha of Elastic >= 0, got -1.0"),
    (lambda: Elastic(1.0, 0.0), ValueError, "expected the sigma of Elastic > 0, got 0.0"),
    (lambda: Flip("left"), ValueError, 'the axis of Flip to be "horizontal" or "vertical", got'),
    (lambda: Flip(probability=1.5), ValueError, "expected 0 <= the probability of Flip <= 1"),
    (lambda: Crop(4), ValueError, "expected 0 < the least of Crop <= 1, got 4.0: to pad an"),
    (lambda: Crop(0.0), ValueError, "expected 0 < the least of Crop <= 1, got 0.0"),
    (lambda: Noise(-0.1), ValueError, "expected the standard_deviation of Noise >= 0, got -0.1"),
    (lambda: Shift(shape=28), ValueError, "expected the shape of Shift to be (h, w) or (c, h, w)"),
    (lambda: Shift(shape=(0, 28)), ValueError, "expected a length of Shift's shape >= 1, got 0"),
    (lambda: network().fit(X, Y, augment=3), TypeError, "expected augment= to be functions of"),
    (lambda: network().fit(X, Y, augment=[Shift]), TypeError, "such as Shift(1), got <class"),
    (lambda: network().fit(X, Y, augment=Shift(1, shape=(5, 6))), ValueError,
     "expected images of (1, 6, 5), as the network takes them, got shape=(1, 5, 6): leave it out"),
    (lambda: network().fit(X, Y, augment=Shift(5)), ValueError,
     "expected the pixels of Shift to be less than the image's (6, 5), got (5, 5)"),
    (lambda: bpx.Network([36, 3]).fit(FLAT, Y, augment=[Noise(1.0), Shift(1)]), ValueError,
     "Shift works on images, and a sample is (36,): say what an image is, "
     "Shift(..., shape=(6, 6)), or pass samples of shape (c, h, w)"),
    (lambda: apply(np.zeros((3, 35)), Flip()), ValueError, "Flip(..., shape=(h, w))"),
    (lambda: apply(FLAT, Flip(shape=(6, 5))), ValueError,
     "expected images of 36 elements, as a sample (36,) has, got shape=(1, 6, 5), which has 30"),
    (lambda: apply(FLAT, [Flip(shape=(6, 6)), Shift(shape=(4, 9))]), ValueError,
     "expected functions that have the same shape of images, got (1, 4, 9) and (1, 6, 6)"),
    (lambda: apply(np.zeros(3), Noise()), ValueError, "expected x of shape (m, ...), got (3,)"),
    (lambda: apply(X, Noise(), key=-1), ValueError, "expected key >= 0, got -1"),
    (lambda: apply(X, Augmentation()), TypeError, "Augmentation must define __call__(images, "),
    (lambda: expand(FLAT), ValueError, "of shape (n, c, h, w), n >= 1, got (3, 36): shape="),
    (lambda: expand(np.zeros((0, 1, 2, 2))), ValueError, "n >= 1, got (0, 1, 2, 2): shape="),
    (lambda: expand(X[0, 0, 0], shape=(1, 5)), ValueError, "n >= 1, got (5,): shape=(h, w) says"),
    (lambda: expand(FLAT, shape=(6, 5)), ValueError, "expected images of 36 elements, as"),
    (lambda: expand(X, Y[:2]), ValueError, "expected as many rows in y as in x, 3, got (2,)"),
    (lambda: expand(bpx.open_data(X, Y)), TypeError, "expand takes arrays in memory, got data on"),
]  # fmt: skip

test_a_message_says_what_to_change = messages.test_of(WRONG)


def test_no_function_is_none(rng):
    x, y = problem()
    found = []
    for augment in (None, [], ()):
        net = network()
        net.fit(x, y, augment=augment, **OPTIONS)
        found.append(net.parameters)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda images: np.swapaxes(images, 2, 3), r"ndarray of shape \(1, 1, 3, 2\)"),
        (lambda images: images[:, :, :1], r"ndarray of shape \(1, 1, 1, 3\)"),
        (lambda images: None, "None"),
    ],
)
def test_a_function_of_ones_own_that_returns_other_images(change, came):
    class Own(Augmentation):
        def __call__(self, images, draw):
            return change(images)

    told = rf"expected the images from Own to be real numbers of shape \(1, 1, 2, 3\), got {came}"
    with pytest.raises(ValueError, match=told):
        apply(np.zeros((1, 1, 2, 3)), Own())
