"""Costs that take several outputs for each target: quantiles, a mean and a variance."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from command_line import bpx_command

import bpx
from bpx.costs import GaussianNLL, Quantile

LEVELS = 0.1, 0.5, 0.9
M, T = 12, 2
OWN = bpx.CustomCost(  # a mean and the deviation from it, each by its own square
    lambda xp, a, y: xp.sum((a - y) ** 2, axis=1),
    lambda xp, a, y: 2.0 * (a - y),
    outputs_per_target=3,
)


def network(cost, targets=T, **options):
    sizes = [5, 4, targets * cost.outputs_per_target]
    return bpx.Network(
        sizes, hidden="tanh", output="identity", cost=cost, dtype="float64", seed=2, **options
    )


@pytest.fixture
def samples(rng):
    return rng.normal(size=(M, 5)), rng.normal(size=(M, T)), rng.uniform(0.5, 2.0, M)


# --- y is that of the targets, and the cost sees it tiled ---------------------------------------


def test_blocks_of_outputs_are_about_the_same_targets(samples):
    """The first outputs are of the first level of all targets, then come those of the second."""
    x, y, _ = samples
    net = network(Quantile(LEVELS))
    a = net(x).reshape(M, len(LEVELS), T)
    e = y[:, None, :] - a
    tau = np.array(LEVELS)[:, None]
    expected = np.maximum(tau * e, (tau - 1.0) * e).sum(axis=(1, 2)).mean()
    assert net.evaluate(x, y)["cost"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cost", [Quantile(LEVELS), OWN], ids=["quantile", "own"])
def test_targets_are_those_that_are_tiled(backend, put, host, samples, cost):
    x, y, weight = samples
    net = network(cost, backend=backend)
    whole, x, y, weight = put(np.tile(y, (1, 3))), put(x), put(y), put(weight)
    for given in ((x, y), (x, y, weight)):
        tiled = (x, whole, *given[2:])
        assert net.evaluate(*given) == net.evaluate(*tiled)
        ours, theirs = (
            net.backprop(*pair[:2], sample_weight=[*pair[2:], None][0], training=False)
            for pair in (given, tiled)
        )
        assert np.array_equal(host(ours.flat), host(theirs.flat))
    assert bpx.gradient_check(net, x, y, sample_weight=weight).worst < 1e-7
    ours, theirs = net.trace(x, y)[-1], net.trace(x, whole)[-1]
    assert np.array_equal(host(ours.delta), host(theirs.delta))
    for options in ({}, {"batch_size": 6, "accumulate": 2}, {"sample_weight": weight}):
        found = []
        for of in (y, whole):
            twin = net.copy()
            history = twin.fit(x, of, epochs=2, validation=(x, of), **options)
            found.append((history["training_cost"], history["validation_cost"]))
            found[-1] += (host(twin.parameters).tolist(),)
        assert found[0] == found[1]


@pytest.mark.parametrize("cost", [Quantile(LEVELS), GaussianNLL()], ids=["quantile", "gaussian"])
@pytest.mark.parametrize("count", [1, T])
def test_targets_from_everywhere(tmp_path, rng, cost, count):
    """Arrays, lists, memory maps, frames, files, mini-batches: the same run."""
    pd = pytest.importorskip("pandas", reason="it names the columns")
    n = 400
    x, y = rng.normal(size=(n, 5)), rng.normal(size=(n, count))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    names = [f"y{k}" for k in range(count)]
    frame = pd.DataFrame(y, columns=names)
    table = pd.DataFrame(x, columns=list("abcde")).join(frame)
    table.to_csv(tmp_path / "table.csv", index=False)
    options = {"epochs": 3, "batch_size": 4, "shuffle": False}

    def run(net, *data, **options):
        history = net.fit(*data, **options)
        return history["training_cost"], net.parameters.tolist()

    expected = run(network(cost, count), x, y, **options)
    of_map = np.load(tmp_path / "y.npy", mmap_mode="r")
    given = [y.tolist(), of_map, np.asfortranarray(y), frame, frame[names[::-1]]]
    if count == 1:
        given += [y[:, 0], y[:, 0].tolist(), frame["y0"]]
    for other in given:
        net = network(cost, count)
        net.target_columns = names
        assert run(net, x, other, **options) == expected
        assert net.evaluate(x, other) == net.evaluate(x, y)
    batches = [(x[k : k + 4], y[k : k + 4]) for k in range(0, n, 4)]
    net = network(cost, count)
    assert run(net, batches, epochs=3, validation=batches) == expected
    assert net.evaluate(batches)["cost"] == pytest.approx(net.evaluate(x, y)["cost"], rel=1e-12)
    data = bpx.open_data(tmp_path / "x.npy", tmp_path / "y.npy", budget=20_000)
    assert not data.fits(8 * count)
    net = network(cost, count)
    assert run(net, data, **options) == expected
    assert net.evaluate(data)["cost"] == pytest.approx(net.evaluate(x, y)["cost"], rel=1e-12)
    pytest.importorskip("pyarrow", reason="it reads tables")
    data = bpx.open_data(tmp_path / "table.csv", target=names)
    net = network(cost, count)
    assert run(net, data, **options) == expected
    assert net.target_columns == tuple(names)


def test_large_targets_are_not_tiled_as_a_whole(tmp_path, samples):
    y = np.zeros((M, T))
    np.save(tmp_path / "y.npy", y)
    of_map = np.load(tmp_path / "y.npy", mmap_mode="r")
    for given in (y, of_map):
        held = network(Quantile(LEVELS)).samples(samples[0], given).y
        assert np.shares_memory(held, given)
        assert held.shape == (M, 1, T)


@pytest.mark.parametrize("cost", [Quantile(LEVELS), GaussianNLL()], ids=["quantile", "gaussian"])
def test_ensembles(backend, put, host, samples, cost):
    x, y, weight = map(put, samples)
    ensemble = bpx.Ensemble.of(2, network(cost, backend=backend))
    ensemble.fit(x, y, epochs=2)
    mean = sum(host(member(x)) for member in ensemble.members) / 2
    values = cost.value(np, mean, host(y))
    expected = np.average(values, weights=host(weight))
    assert ensemble.evaluate(x, y, weight)["cost"] == pytest.approx(expected, rel=1e-12)


def test_the_task_is_a_regression_whatever_the_outputs(samples):
    x, y, _ = samples
    net = bpx.Network([5, 6], output="sigmoid", cost=Quantile(LEVELS), seed=0)
    assert net.task == "regression"
    net.fit(x, np.abs(y) % 1.0, epochs=1)
    with pytest.raises(ValueError, match="has NaN or infinity, first in row 2, column 1"):
        net.fit(x, np.where(np.arange(2 * M).reshape(M, 2) == 5, np.nan, y))


def test_names_of_targets():
    net = network(Quantile(LEVELS))
    for names in (["a", "b"], list("abcdef")):
        net.target_columns = names
        assert net.target_columns == tuple(names)
    with pytest.raises(ValueError, match=r"target_columns to be 2 or 6 names, got \['a', 'b', 'c"):
        net.target_columns = ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"target_columns to be 2 names, got \['a', 'b', 'c', 'd"):
        network(GaussianNLL()).target_columns = list("abcd")


def test_targets_far_from_one_are_told_by_the_outputs_about_them(samples):
    x, y, _ = samples
    for cost in (GaussianNLL(), Quantile(LEVELS), Quantile((0.1, 0.9))):
        net = network(cost)
        net.target_columns = ["near", "far"]
        with pytest.warns(RuntimeWarning, match="^column 'far' of y is far from 1: its mean is"):
            net.fit(x, y * [1.0, 1e5], epochs=1, optimizer=bpx.SGD(0.0))
        biases = np.zeros(T * cost.outputs_per_target)
        biases[1::T] = 1e5
        net = network(cost)
        net.biases[-1] = biases
        net.fit(x, y + np.array([0.0, 1e5]), epochs=1, optimizer=bpx.SGD(0.0))


def test_a_cost_of_a_class_of_ones_own(samples):
    """It may say which outputs predict y, for R²."""

    class MeanAndSpread(bpx.Cost):
        outputs_per_target, point = 2, 0

        def value(self, xp, a, y):
            return OWN.value(xp, a, y)

        def gradient(self, xp, a, y):
            return OWN.gradient(xp, a, y)

    x, y, _ = samples
    net = network(MeanAndSpread())
    assert net.evaluate(x, y) == net.evaluate(x, np.tile(y, (1, 2)))
    assert np.array_equal(net.cost.predictions(net(x), T), net(x)[:, :T])
    assert OWN.predictions(net(x), T).shape == (M, 4)  # which are not three for each
    assert OWN.predictions(np.zeros((M, 6)), T) is None


# --- the normal distribution --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variances_that_are_far_from_one(backend, put, host, dtype):
    """Where e^(−s) is infinite or zero the cost is what it tends to, and no NaN."""
    cost, xp = GaussianNLL(), backend.xp
    if dtype in backend.lacks:
        pytest.skip(f"{backend.name} has no {dtype}")
    s = np.array([-5000.0, -5000.0, -150.0, 5000.0, 5000.0, 150.0])
    error = np.array([0.0, 1.0, 1e-30, 0.0, 1e30, 1e30])
    a = put(np.stack([np.zeros(6), s], axis=1).astype(dtype))
    y = put(error[:, None].astype(dtype))
    with np.errstate(over="ignore"):
        value, gradient = host(cost.value(xp, a, y)), host(cost.gradient(xp, a, y))
    standardized = np.array([0.0, np.nan, np.exp(75.0) / 1e30, 0.0, 0.0, 1e30 * np.exp(-75.0)])
    expected = 0.5 * (s + standardized**2 + np.log(2.0 * np.pi))
    sure = [0, 2, 3, 4, 5]
    assert value[sure] == pytest.approx(expected[sure], rel=1e-4)
    assert value[1] > 1e30
    assert not np.isnan(gradient).any()
    assert gradient[0].tolist() == [0.0, 0.5]  # the variance may be smaller yet
    assert gradient[1][0] < -1e30
    assert gradient[1][1] < -1e30
    assert np.isnan(host(cost.value(xp, a * float("nan"), y))).all()


def test_a_network_that_learns_mean_and_variance(rng):
    x = rng.uniform(-1.0, 1.0, (2000, 1))
    deviation = 0.1 + 0.4 * np.abs(x)
    y = np.concatenate([x, -2.0 * x], axis=1) + deviation * rng.normal(size=(2000, 2))
    net = bpx.Network([1, 30, 4], hidden="tanh", output="identity", cost="gaussian-nll", seed=0)
    history = net.fit(x, y, epochs=40, batch_size=50, optimizer=bpx.Adam(0.01))
    least = np.log(deviation).mean() * 2 + np.log(2 * np.pi) + 1.0  # the entropy of the noise
    assert history["training_cost"][-1] == pytest.approx(least, abs=0.1)
    mean, log_variance = net(x)[:, :2], net(x)[:, 2:]
    assert np.abs(mean - np.concatenate([x, -2.0 * x], axis=1)).mean() < 0.05
    assert np.abs(np.exp(0.5 * log_variance) / deviation - 1.0).mean() < 0.1


def test_costs_below_zero_are_watched(rng):
    x = rng.normal(size=(100, 1))
    net = bpx.Network([1, 2], output="identity", cost="gaussian-nll", seed=0)
    stop, plateau = bpx.EarlyStopping(3, min_delta=0.05), bpx.ReduceOnPlateau(patience=2)
    history = net.fit(
        x, 0.01 * x[:, 0], epochs=200, optimizer=bpx.Adam(0.05), callbacks=[stop, plateau],
        validation=(x, 0.01 * x[:, 0]), check_finite=False,
    )  # fmt: skip
    costs = history["validation_cost"]
    assert costs[0] > 0.0 > stop.best >= min(costs)
    assert stop.best_epoch > 10
    assert history.stopped.startswith("no better validation_cost than -")
    assert net.evaluate(x, 0.01 * x[:, 0])["cost"] == pytest.approx(stop.best)


@pytest.mark.parametrize("cost", [Quantile(LEVELS), GaussianNLL()], ids=["quantile", "gaussian"])
def test_files_and_copies(tmp_path, samples, cost):
    x, y, _ = samples
    net = network(cost)
    net.target_columns = ["a", "b"]
    net.fit(x, y, epochs=1)
    net.save(tmp_path / "net.safetensors")
    others = [bpx.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net))]
    for other in [*others, copy.deepcopy(net), net.frozen(0)]:
        assert other.cost == cost
        assert other.target_columns == ("a", "b")
        assert other.evaluate(x, y) == net.evaluate(x, y)


def test_onnx(tmp_path, samples):
    pytest.importorskip("onnx", reason="it writes the model")
    runtime = pytest.importorskip("onnxruntime", reason="it runs the model")
    net = network(GaussianNLL())
    bpx.export_onnx(net, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: samples[0]})
    assert np.abs(found - net(samples[0])).max() < 1e-12


# --- scikit-learn's interface -------------------------------------------------------------------

ADAM = {"solver": "adam", "learning_rate_init": 0.01, "random_state": 0, "max_iter": 60}
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def noisy(rng):
    x = rng.uniform(-1.0, 1.0, (400, 3))
    return x, np.stack([x[:, 0], x[:, 1] - x[:, 2]], axis=1) + 0.1 * rng.normal(size=(400, 2))


def both(cost):
    """An estimator of each kind."""
    from bpx.sklearn import MLPRegressor, NetworkRegressor

    def build(n_inputs, n_outputs):
        sizes = [n_inputs, 30, n_outputs * cost.outputs_per_target]
        return bpx.Network(sizes, hidden="relu", output="identity", cost=cost)

    return (
        MLPRegressor(cost, 30, **ADAM),
        NetworkRegressor(build, epochs=40, optimizer=bpx.Adam(0.01), random_state=0),
    )


@quiet
@pytest.mark.parametrize("cost", [Quantile(LEVELS), GaussianNLL()], ids=["quantile", "gaussian"])
def test_estimators_take_the_targets_and_are_scored_by_one_output_for_each(noisy, cost):
    pytest.importorskip("sklearn")
    from sklearn.metrics import r2_score
    from sklearn.model_selection import cross_val_score

    x, y = noisy
    k, first = cost.outputs_per_target, (cost.point or 0)
    for est in both(cost):
        for given in (y[:, 0], y[:, :1].tolist(), y):
            t = np.shape(given)[1] if np.ndim(given) == 2 else 1
            column = given if t > 1 else np.reshape(given, -1)
            found = est.fit(x, column).predict(x)
            assert found.shape == (400, k * t)
            assert est.n_outputs_ == k * t
            chosen = found[:, first * t : (first + 1) * t]
            assert est.score(x, given) == pytest.approx(r2_score(given, chosen))
            assert est.score(x, given) > 0.9
        assert est.partial_fit(x, y).score(x, y) > 0.9
        assert cross_val_score(est, x, y, cv=2).mean() > 0.85


@quiet
def test_early_stopping_of_an_mlp(noisy):
    pytest.importorskip("sklearn")
    from bpx.sklearn import MLPRegressor

    options = ADAM | {"early_stopping": True}
    for cost in (Quantile(LEVELS), Quantile((0.1, 0.9)), Quantile(0.9), GaussianNLL(), "huber"):
        est = MLPRegressor(cost, 30, **options).fit(*noisy)
        assert est.best_validation_score_ == -min(est.validation_loss_curve_)
    for loss in ("squared_error", "poisson", bpx.costs.Quadratic()):
        est = MLPRegressor(loss, 30, **options).fit(noisy[0], abs(noisy[1]))
        assert 0.5 < est.best_validation_score_ < 1.0
        assert len(est.validation_scores_) == len(est.validation_loss_curve_)
    est = MLPRegressor("gaussian-nll", 30, random_state=0, solver="lbfgs").fit(*noisy)
    assert est.score(*noisy) > 0.9
    again = MLPRegressor.from_network(est.to_network(), solver="lbfgs")
    assert again.loss == GaussianNLL()
    assert np.array_equal(again.predict(noisy[0]), est.predict(noisy[0]))


@quiet
@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.9,), 0.9])
def test_no_score_where_no_output_predicts_the_target(noisy, levels):
    pytest.importorskip("sklearn")
    from sklearn.metrics import make_scorer, mean_pinball_loss
    from sklearn.model_selection import cross_val_score

    told = f"R² needs an output for each target that predicts it, and {Quantile(levels)} has none"
    for y in noisy[1], noisy[1][:, 0]:
        for est in both(Quantile(levels)):
            est.fit(noisy[0], y)
            with pytest.raises(ValueError, match=re.escape(told)) as error:
                est.score(noisy[0], y)
            if np.ndim(levels) == 0:
                code = "make_scorer" + re.search(r"make_scorer(\(.*?\))", str(error.value))[1]
                names = {"make_scorer": make_scorer, "mean_pinball_loss": mean_pinball_loss}
                scorer = eval(code, names)
                assert -1.0 < cross_val_score(est, noisy[0], y, scoring=scorer, cv=2).mean() < 0.0


def test_estimators_with_too_few_outputs(noisy):
    pytest.importorskip("sklearn")
    from bpx.sklearn import MLPClassifier, NetworkRegressor

    net = bpx.Network([3, 2], output="identity", cost="gaussian-nll")
    message = "y has 2 targets, and the network 2 outputs: give .* n_outputs, times 2 for this"
    with pytest.raises(ValueError, match=message):
        NetworkRegressor(net).fit(*noisy)
    labels = noisy[1][:, 0] > 0.0
    with pytest.raises(ValueError, match="takes 2 outputs for each target, which is for task='re"):
        MLPClassifier(loss=Quantile((0.1, 0.9))).fit(noisy[0], labels)


# --- the command line ---------------------------------------------------------------------------


def test_the_command_line(tmp_path, rng):
    pytest.importorskip("typer", reason="it is what the command line is made of")
    x = rng.uniform(-1.0, 1.0, (300, 2))
    price = 1000.0 + 200.0 * x[:, 0] + 20.0 * rng.normal(size=300)
    share = 0.001 * (x[:, 1] + 0.1 * rng.normal(size=300))
    rows = np.column_stack([x, price, share])
    np.savetxt(
        tmp_path / "t.csv", rows, delimiter=",", header="a,b,price,share", comments="", fmt="%.17g"
    )
    told, _ = bpx_command(
        "train", "t.csv", "--target", "price,share", "--cost", "gaussian-nll", "--epochs", "60",
        "--activation", "tanh", "--optimizer", "adam", "--learning-rate", "0.01", "--out", "run",
        cwd=tmp_path,
    )  # fmt: skip
    assert "test price: root mean square error 2" in told
    assert "Dense 4, identity" in told
    model = bpx.load(tmp_path / "run" / "model.safetensors")
    assert model.target_columns == ("price", "share")
    a = model(x)
    assert np.exp(0.5 * a[:, 2]).mean() == pytest.approx(20.0, rel=0.25)  # on the table's scale
    assert np.exp(0.5 * a[:, 3]).mean() == pytest.approx(1e-4, rel=0.25)
    scored, _ = bpx_command("evaluate", "run", "t.csv", cwd=tmp_path)
    assert scored.startswith("cost -")
    assert "mean of the R² of 2 targets 0.9" in scored
    bpx_command("predict", "run", "t.csv", "--out", "p.csv", cwd=tmp_path)
    first = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert first == "price_0,share_0,price_1,share_1"
    np.savez(tmp_path / "z.npz", x=np.zeros((3, 5)), y=np.zeros(3))
    for levels in ((0.1, 0.9), 0.9):
        low = network(Quantile(levels), 1)
        low.fit(rng.normal(size=(M, 5)), rng.normal(size=M), epochs=1)
        low.save(tmp_path / "low.safetensors")
        scored, _ = bpx_command("evaluate", "low.safetensors", "z.npz", cwd=tmp_path)
        assert "no R²: none of the outputs about a target predicts it" in scored
    each = network(Quantile(LEVELS))
    each.target_columns = ["a", "b"]
    each.fit(rng.normal(size=(M, 5)), rng.normal(size=(M, 2)), epochs=1)
    each.save(tmp_path / "each.safetensors")
    np.savez(tmp_path / "six.npz", x=np.zeros((3, 5)), y=rng.normal(size=(3, 6)))
    scored, _ = bpx_command("evaluate", "each.safetensors", "six.npz", cwd=tmp_path)
    assert "output 5: root mean square error" in scored
    np.savez(tmp_path / "two.npz", x=np.zeros((3, 5)), y=rng.normal(size=(3, 2)))
    scored, _ = bpx_command("evaluate", "each.safetensors", "two.npz", cwd=tmp_path)
    assert "b: root mean square error" in scored


def test_gradcheck_on_the_command_line():
    pytest.importorskip("typer", reason="it is what the command line is made of")
    options = "--sizes", "5,4,4", "--output", "identity", "--cost", "gaussian-nll"
    told, _ = bpx_command("gradcheck", *options)
    assert "worst" in told


def test_messages_about_how_many_targets_there_are(rng):
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 2))
    net = bpx.Network([4, 2], output="identity", cost="gaussian-nll", seed=0)
    with pytest.raises(
        ValueError, match=r"\(m,\), got \(9, 2\): its cost takes 2 outputs for each"
    ):
        net.fit(x, y)
    net = bpx.Network([4, 4], output="identity", cost="gaussian-nll", seed=0)
    with pytest.raises(ValueError, match="are they swapped"):
        net.fit(y, x)


def test_levels_in_an_array():
    cost = bpx.costs.Quantile(np.linspace(0.1, 0.9, 3))
    assert cost == bpx.costs.Quantile((0.1, 0.5, 0.9))


@pytest.mark.parametrize("targets", [1, 2])
def test_an_estimator_of_a_network_that_is_there(rng, targets):
    pytest.importorskip("sklearn", reason="no scikit-learn: pip install scikit-learn")
    from bpx.sklearn import NetworkRegressor

    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, targets))
    net = bpx.Network([4, 2 * targets], output="identity", cost="gaussian-nll", seed=0)
    est = NetworkRegressor.from_network(net)
    np.testing.assert_allclose(est.predict(x), net(x), rtol=1e-6)
    assert np.isfinite(est.score(x, y))
