"""Data frames: their columns go by the names that the network has learned."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import bpx

NAMES = ("area", "rooms", "age")


def _frame(library, columns):
    if library == "pyarrow":
        return pytest.importorskip("pyarrow", reason="its tables are tested").table(columns)
    return pytest.importorskip(library, reason="its frames are tested").DataFrame(columns)


@pytest.fixture(params=["pandas", "polars", "pyarrow"])
def frame(request):
    return functools.partial(_frame, request.param)


@pytest.fixture
def columns(rng):
    return {name: rng.normal(size=40) for name in NAMES}


@pytest.fixture
def y(columns):
    return (columns["area"] > columns["age"]).astype(int)


def _turned(columns, **others):
    return others | {name: columns[name] for name in reversed(NAMES)}


def test_columns_go_by_their_names(frame, columns, y, tmp_path):
    x, turned = frame(columns), frame(_turned(columns, y=y))
    plain, net = (bpx.Network([3, 4, 2], seed=0, dtype="float64") for _ in range(2))
    expected = plain.fit(np.stack(list(columns.values()), axis=1), y, epochs=2, validation=(x, y))
    history = net.fit(x, y, epochs=1, validation=(frame(_turned(columns)), y))
    assert (plain.columns, net.columns) == (None, NAMES)
    assert history["validation_cost"] == expected["validation_cost"][:1]
    history = net.fit(turned, y, epochs=1)  # goes on
    assert history["training_cost"] == expected["training_cost"][1:]
    net.save(tmp_path / "net.safetensors")
    for same in (net, net.copy(), bpx.load(tmp_path / "net.safetensors")):
        assert np.array_equal(same.feedforward(turned), plain.feedforward(x))
    assert net.evaluate(turned, y) == plain.evaluate(x, y)
    assert np.array_equal(net.backprop(turned, y).flat, plain.backprop(x, y).flat)
    assert np.array_equal(net.predict(np.asarray(x)), plain.predict(x)), "arrays are not asked"


def test_ensembles_go_by_names_too(frame, columns, y):
    ensemble = bpx.Ensemble.of(2, bpx.Network([3, 4, 2], seed=0))
    x, turned = frame(columns), frame(_turned(columns))
    ensemble.members[1].fit(x, y, epochs=1)  # the other has not been told yet
    assert bpx.Ensemble(ensemble.members).columns == NAMES
    assert np.array_equal(ensemble.feedforward(turned), ensemble.feedforward(x))
    assert ensemble.evaluate(turned, y) == ensemble.evaluate(np.asarray(x), y)
    ensemble.fit(x, y, epochs=1)
    assert np.array_equal(ensemble.feedforward(turned), ensemble.feedforward(x))
    assert ensemble.evaluate(turned, y) == ensemble.evaluate(x, y)
    with pytest.raises(ValueError, match="has no column 'area'"):
        ensemble.predict(frame(dict.fromkeys("abc", columns["age"])))
    others = ensemble.members[0].copy()
    others.columns = NAMES[::-1]
    with pytest.raises(ValueError, match="expected networks trained with the same col"):
        bpx.Ensemble([ensemble.members[1], others])


def test_members_in_processes_tell_their_names(columns, y):
    x = _frame("pandas", columns)
    ensemble = bpx.Ensemble.of(2, bpx.Network([3, 4, 2], seed=0))
    ensemble.fit(x, y, epochs=1, processes=2)
    assert [net.columns for net in ensemble.members] == [NAMES, NAMES]


def test_a_column_that_is_missing(frame, columns, y):
    net = bpx.Network([3, 2], seed=0)
    net.fit(frame(columns), y, epochs=1)
    wrong = frame({name.replace("room", "rooms"): v for name, v in columns.items()})
    expected = (
        r"x has no column 'rooms', which the network was trained on; did you mean 'roomss'\? "
        r"Known: age, area, roomss \(to go by their order instead: np.asarray\(x\)\)"
    )
    for call in (net.predict, lambda x: net.evaluate(x, y), lambda x: net.fit(x, y)):
        with pytest.raises(ValueError, match=f"^{expected}"):
            call(wrong)
    with pytest.raises(ValueError, match=r"^validation x has no column 'rooms'"):
        net.fit(frame(columns), y, validation=(wrong, y))
    assert net.predict(np.asarray(wrong)).shape == (40,)


def test_a_number_that_is_missing_is_told_by_row_and_column(frame, columns, y):
    columns["age"][[5, 9]] = np.nan, np.inf
    where = r"has NaN or infinity, first in row 5, column 'age': fill in what is missing"
    net = bpx.Network([3, 2], seed=0)
    for call in (net.predict, lambda x: net.fit(x, y)):
        with pytest.raises(ValueError, match=f"^x {where}"):
            call(frame(columns))
    net.columns = NAMES
    with pytest.raises(ValueError, match=f"^x {where}"):
        net.predict(frame(_turned(columns)))
    with pytest.raises(ValueError, match=f"^y {where}"):
        bpx.Network([3, 3], output="identity").fit(np.zeros((40, 3)), frame(columns))
    with pytest.raises(ValueError, match=r"NaN or infinity in row 5, column 'age': fill in"):
        bpx.layers.Rescale.standardizing(frame(columns))


def test_a_run_that_does_not_begin_keeps_no_names(frame, columns, y):
    net = bpx.Network([3, 2], seed=0)
    with pytest.raises(ValueError, match="epochs"):
        net.fit(frame(columns), y, epochs=-1)
    with pytest.raises(ValueError, match=r"expected labels 0 to 1 in validation y"):
        net.fit(frame(columns), y, validation=(frame(columns), y + 1))
    assert net.columns is None


def test_names_that_are_set(columns, tmp_path):
    pandas = pytest.importorskip("pandas", reason="its frames name their columns")
    x = pandas.DataFrame(columns)
    net = bpx.Network([3, 2], seed=0)
    net.columns = x.columns
    assert net.columns == NAMES
    assert np.array_equal(net.predict(x[["age", "area", "rooms"]]), net.predict(np.asarray(x)))
    net.save(tmp_path / "net.safetensors")
    for wrong, kind, message in (
        (["a"], ValueError, r"expected column names for inputs of shape \(3,\), got 1"),
        (["a", "b", "a"], ValueError, "expected columns to be different names"),
        ("abc", TypeError, "expected columns to be a list of names, got 'abc'"),
        ([1, 2, 3], TypeError, "expected columns to be a list of names"),
        (3, TypeError, "expected columns to be a list of names, got 3"),
    ):
        with pytest.raises(kind, match=message):
            net.columns = wrong
    assert net.columns == NAMES
    net.columns = None


def test_names_that_mean_something_elsewhere(frame, y, rng):
    """To pandas a column is an attribute."""
    names = ("reader", "columns", "column_names", "on_disk")
    x = rng.normal(size=(40, 4))
    net = bpx.Network([4, 2], seed=0)
    net.fit(frame(dict(zip(names, x.T, strict=True))), y, epochs=1)
    turned = frame(dict(zip(names[::-1], x.T[::-1], strict=True)))
    assert np.array_equal(net.predict(turned), net.predict(x))


@pytest.mark.filterwarnings("ignore:Exporting an unversioned DLPack:DeprecationWarning")
def test_what_is_no_frame(columns, y):
    """A loader with an attribute of that name, arrays of pyarrow's, a frame not yet computed."""

    class Loader(list):
        columns = ("image", "label")

    x = np.stack(list(columns.values()), axis=1)
    net = bpx.Network([3, 2], seed=0)
    net.fit(Loader([(x, y)]), epochs=1)
    assert net.columns is None
    arrow = pytest.importorskip("pyarrow", reason="it has such arrays")
    net.columns = NAMES
    assert np.array_equal(net.predict(arrow.Tensor.from_numpy(x)), net.predict(x))
    with pytest.raises(TypeError, match=r"number the classes: np\.unique"):
        net.fit(x, arrow.array(["a"] * len(x)))
    polars = pytest.importorskip("polars", reason="it has such frames")
    with pytest.raises(TypeError, match="expected x to be an array of numbers, got <LazyFrame"):
        net.predict(polars.LazyFrame(columns))


def test_a_column_that_is_there_twice(columns, y):
    pandas = pytest.importorskip("pandas", reason="its columns may be there twice")
    x = pandas.DataFrame(columns)
    net = bpx.Network([3, 2], seed=0)
    net.fit(x, y, epochs=1)
    with pytest.raises(ValueError, match="x has two columns named 'rooms'"):
        net.predict(x[["rooms", "area", "age", "rooms"]])


def test_columns_without_names_go_by_their_order(columns, y):
    pandas = pytest.importorskip("pandas", reason="its columns may be numbers, and twice")
    x = np.stack(list(columns.values()), axis=1)
    net = bpx.Network([3, 2], seed=0)
    for names in (range(3), list("aab"), [("a", 1), ("a", 2), ("b", 1)]):
        net.fit(pandas.DataFrame(x, columns=names), y, epochs=1)
        assert net.columns is None
    net.fit(pandas.DataFrame(x, columns=list("abc")), y, epochs=1)
    assert net.columns == ("a", "b", "c")
    assert np.array_equal(net.predict(pandas.DataFrame(x)), net.predict(x))


def test_tables_on_disk(columns, y, tmp_path):
    frame = _frame("pandas", _turned(columns, label=y))
    frame.to_csv(tmp_path / "table.csv", index=False)
    data = bpx.open_data(tmp_path / "table.csv", target="label")
    net = bpx.Network([3, 2], seed=0)
    net.fit(data, epochs=1)
    assert net.columns == NAMES[::-1]
    x = _frame("pandas", columns)
    assert np.array_equal(net.feedforward(x), net.feedforward(x[[*net.columns]].to_numpy()))
    other = bpx.open_data(tmp_path / "table.csv", target="label", columns=NAMES)
    for call in (net.predict, net.evaluate, lambda data: net.fit(data)):
        with pytest.raises(ValueError, match=r"x on disk has other columns .*=net\.columns"):
            call(other)
    with pytest.raises(ValueError, match="validation x on disk has other columns"):
        net.fit(data, validation=other)
    again = bpx.open_data(tmp_path / "table.csv", target="label", columns=net.columns)
    assert net.evaluate(again) == net.evaluate(x, y)


def test_rows_in_another_order_are_told(columns, y):
    pandas = pytest.importorskip("pandas", reason="its rows have labels")
    x = pandas.DataFrame(columns, index=[f"row {k}" for k in range(40)])
    labels, weight = pandas.Series(y, x.index), pandas.Series(np.arange(1.0, 41.0), x.index)
    turned = labels.iloc[::-1]
    net, plain = (bpx.Network([3, 4, 2], seed=0, dtype="float64") for _ in range(2))
    expected = plain.fit(x, y, epochs=1, sample_weight=weight.to_numpy(), validation=(x, y))
    message = (
        r"expected the rows of y in the order of x's, got the same index labels in another order: "
        r"y.loc\[x.index\], or y.to_numpy\(\)"
    )
    for call in (net.fit, net.evaluate, net.backprop):
        with pytest.raises(ValueError, match=message):
            call(x, turned)
    with pytest.raises(ValueError, match=message):
        net.fit(x, turned.to_frame())
    with pytest.raises(ValueError, match=r"the rows of sample_weight .*: sample_weight.loc\["):
        net.fit(x, labels, sample_weight=weight[::-1])
    with pytest.raises(ValueError, match=r"rows of validation y in the order of validation x's"):
        net.fit(x, labels, validation=(x, turned))
    options = {"epochs": 1, "sample_weight": weight[::-1].loc[x.index]}
    history = net.fit(x, turned.loc[x.index], validation=(x, labels), **options)
    assert history["validation_cost"] == expected["validation_cost"]


def test_other_labels_tell_nothing_of_the_order(columns, y):
    pandas = pytest.importorskip("pandas", reason="its rows have labels")
    x = pandas.DataFrame(columns)
    expected = bpx.Network([3, 4, 2], seed=0).fit(x, y, epochs=1)["training_cost"]
    twice = [0, 0, *range(38)]
    for mine, theirs in (
        (x, pandas.Series(y, range(50, 90))),
        (x, pandas.Series(y, twice)),
        (x.set_axis(twice), pandas.Series(y, twice[::-1])),
        (x, y[:].tolist()),
        (x.to_numpy(), pandas.Series(y, range(39, -1, -1))),
    ):
        history = bpx.Network([3, 4, 2], seed=0).fit(mine, theirs, epochs=1)
        assert history["training_cost"] == expected
