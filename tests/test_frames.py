"""Data frames: their columns go by the names that the network has learned."""

from __future__ import annotations

import datetime
import functools
import re

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
    with pytest.raises(
        ValueError, match="expected networks trained with the same columns, got "
    ) as no:
        bpx.Ensemble([ensemble.members[1], others])
    assert str(no.value).endswith(f"{[*NAMES]} in member 0 and {[*NAMES[::-1]]} in member 1")


def test_targets_of_ensembles_go_by_the_names_of_any_member(frame, columns):
    x, y = frame(columns), {"u": columns["age"], "v": columns["area"]}
    turned = frame(dict(reversed(y.items())))
    plain, first = (bpx.Network([3, 2], output="identity", seed=k) for k in range(2))
    first.fit(x, frame(y), epochs=1)
    ensemble = bpx.Ensemble([plain, first])
    assert ensemble.names == (NAMES, ("u", "v"), None)
    expected = ensemble.evaluate(x, frame(y))
    assert ensemble.evaluate(x, turned) == expected
    other = bpx.Network([3, 2], output="identity", seed=2)
    other.fit(x, turned, epochs=1)
    labels = [bpx.Network([3, 2], seed=k) for k in range(2)]
    for name, net in zip("ab", labels, strict=True):  # so may a single column of labels
        net.target_columns = [name]
    assert bpx.Ensemble(labels).target_columns == ("a",)
    trained = bpx.Ensemble([bpx.Network([3, 2], output="identity", seed=k) for k in range(2)])
    trained.members[0].target_columns = ["v", "u"]
    trained.fit(x, frame(y), epochs=1)
    assert [net.target_columns for net in trained.members] == [("v", "u")] * 2
    with pytest.raises(ValueError, match=r"same target_columns, got \['u', 'v'\] in member 0"):
        bpx.Ensemble([first, other])
    singles = [bpx.Network([3, 1], output="identity", seed=0) for _ in "ab"]
    for name, net in zip("ab", singles, strict=True):  # a single target may have any name
        net.target_columns = [name]
    assert bpx.Ensemble(singles).target_columns == ("a",)


def test_members_in_processes_tell_their_names(columns, y):
    x = _frame("pandas", columns)
    ensemble = bpx.Ensemble.of(2, bpx.Network([3, 4, 2], seed=0))
    ensemble.fit(x, y, epochs=1, processes=2)
    assert [net.columns for net in ensemble.members] == [NAMES, NAMES]
    targets = _frame("pandas", {"u": columns["age"], "v": columns["area"]})
    ensemble = bpx.Ensemble.of(2, bpx.Network([3, 2], output="identity", seed=0))
    ensemble.fit(x, targets, epochs=1, processes=2)
    assert [net.names for net in ensemble.members] == [(NAMES, ("u", "v"), None)] * 2


def test_a_column_that_is_missing(frame, columns, y):
    net = bpx.Network([3, 2], seed=0)
    net.fit(frame(columns), y, epochs=1)
    wrong = frame({name.replace("room", "rooms"): v for name, v in columns.items()})
    expected = (
        r"x has no column 'rooms', which the network was trained on; did you mean 'roomss'\? "
        r"Known: roomss \(to go by their order instead: np.asarray\(x\)\)"
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
        (["a", "b", "a"], ValueError, "columns to be different names, got 'a' 2 times"),
        ("abc", TypeError, "expected columns to be a list of names, each a string, got 'abc'"),
        ([1, 2, 3], TypeError, r"expected columns to be a list of names, each a string, got \[1"),
        (3, TypeError, "expected columns to be a list of names, each a string, got 3"),
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
    with pytest.raises(ValueError, match=r"expected names of 2 classes in y, got 1, \['a'\]"):
        bpx.Network([3, 2]).fit(x, arrow.array(["a"] * len(x)))
    polars = pytest.importorskip("polars", reason="it has such frames")
    with pytest.raises(TypeError, match=r"got <LazyFrame at .*>: pass x.collect\(\)"):
        net.predict(polars.LazyFrame(columns))


@pytest.mark.parametrize(
    ("names", "printed"),
    [
        ([2019, 2020, 2021], ("2019", "2020", "2021")),
        (["a", 7, "c"], ("a", "7", "c")),
        ([1, 0, 2], ("1", "0", "2")),
        ([0.0, 1.0, 2.0], ("0.0", "1.0", "2.0")),
        ([True, False, "c"], ("True", "False", "c")),
        ([("a", 1), ("a", 2), ("b", 1)], ("('a', 1)", "('a', 2)", "('b', 1)")),
    ],
)
def test_names_that_are_not_strings_go_by_what_they_print(names, printed, y, rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="its columns may have any names")
    x = rng.normal(size=(40, 3))
    levels = isinstance(names[0], tuple)
    frame = pandas.DataFrame(x, columns=pandas.MultiIndex.from_tuples(names) if levels else names)
    net = bpx.Network([3, 2], seed=0)
    net.fit(frame, y, epochs=1)
    assert net.columns == printed
    net.save(tmp_path / "net.safetensors")
    again = bpx.load(tmp_path / "net.safetensors")
    for same in (frame.iloc[:, ::-1], frame.set_axis(printed, axis=1).iloc[:, [1, 2, 0]]):
        assert np.array_equal(again.feedforward(same), net.feedforward(x))
    with pytest.raises(ValueError, match=f"^x has no column {re.escape(repr(printed[1]))}, "):
        net.predict(frame.iloc[:, [0, 2]])


def test_columns_that_are_true_and_false(y, rng):
    """As a list they are a mask of rows to pandas."""
    pandas = pytest.importorskip("pandas", reason="its columns may have any names")
    x = rng.normal(size=(40, 2))
    frame = pandas.DataFrame(x, columns=[False, True])
    net = bpx.Network([2, 2], seed=0)
    net.fit(frame, y, epochs=1)
    assert net.columns == ("False", "True")
    assert np.array_equal(net.feedforward(frame.iloc[:, ::-1]), net.feedforward(x))


def test_names_that_are_numbers_on_disk(y, rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="its columns may be numbers")
    pytest.importorskip("pyarrow", reason="it reads tables on disk")
    years = pandas.DataFrame(rng.normal(size=(40, 3)), columns=[2019, 2020, 2021])
    years.iloc[:, ::-1].assign(label=y).to_csv(tmp_path / "table.csv", index=False)
    net = bpx.Network([3, 2], seed=0)
    net.fit(years, y, epochs=1)
    data = bpx.open_data(tmp_path / "table.csv", target="label", columns=net.columns)
    assert net.evaluate(data) == net.evaluate(years, y)
    other = bpx.Network([3, 2], seed=0)
    other.fit(bpx.open_data(tmp_path / "table.csv", target="label"), epochs=1)
    assert other.columns == ("2021", "2020", "2019")
    assert np.array_equal(other.predict(years), other.predict(years.to_numpy()[:, ::-1]))


def test_a_column_that_is_there_twice(columns, y):
    pandas = pytest.importorskip("pandas", reason="its columns may be there twice")
    x = pandas.DataFrame(columns)
    net = bpx.Network([3, 2], seed=0)
    net.fit(x, y, epochs=1)
    expected = (
        r"^expected a different name for each column of x, got two that print as 'rooms': rename "
        r"one of them, or go by their order: np\.asarray\(x\)$"
    )
    with pytest.raises(ValueError, match=expected):
        net.predict(x[["rooms", "area", "age", "rooms"]])
    with pytest.raises(ValueError, match=r"each column of validation x, .*: np\.asarray\(x\)"):
        net.fit(x, y, epochs=1, validation=(x[["rooms", *NAMES]], y))
    others = x.assign(more=1.0)[["more", *reversed(NAMES), "more"]]
    assert np.array_equal(net.predict(others), net.predict(x)), "they are left out"


@pytest.mark.parametrize("names", [["a", "b", "a"], [2019, "a", "2019"], [0, 1, 0]])
def test_names_are_not_learned_where_two_are_alike(names, columns, y):
    pandas = pytest.importorskip("pandas", reason="its columns may be there twice")
    frame = pandas.DataFrame(columns).set_axis(names, axis=1)
    net = bpx.Network([3, 2], seed=0)
    expected = f"each column of x, got two that print as '{names[0]}': rename one of them"
    for call in (lambda: net.fit(frame, y), lambda: bpx.layers.Rescale.standardizing(frame)):
        with pytest.raises(ValueError, match=expected):
            call()
    assert (net.columns, net.steps) == (None, 0)
    net.fit(np.asarray(frame), y, epochs=1)
    assert np.array_equal(net.predict(frame), net.predict(np.asarray(frame))), "it has no names"


def test_targets_with_a_name_twice_go_by_their_order(columns):
    """Whatever their names are, also where NumPy makes an array of objects of them."""
    pandas = pytest.importorskip("pandas", reason="its columns may be there twice")
    x = pandas.DataFrame(columns)
    y = pandas.concat([x["area"] > 0, (x["age"] > 0).astype(int)], axis=1).set_axis([7, 7], axis=1)
    assert np.asarray(y).dtype == object
    net, plain = (bpx.Network([3, 2], task="multilabel", seed=0) for _ in range(2))
    expected = plain.fit(x, y.to_numpy(int), epochs=1)["training_cost"]
    assert net.fit(x, y, epochs=1)["training_cost"] == expected
    with pytest.raises(TypeError, match=r"y must be real numbers .* with 'no' in column '7'"):
        net.fit(x, y.astype(object).replace(True, "no"))


def test_a_table_of_pyarrow_may_have_a_name_twice(columns, y):
    arrow = pytest.importorskip("pyarrow", reason="its tables are tested")
    x = arrow.table([*columns.values()], names=["a", "b", "a"])
    with pytest.raises(ValueError, match="got two that print as 'a'"):
        bpx.Network([3, 2], seed=0).fit(x, y)
    net = bpx.Network([1, 2], seed=0)
    net.fit(x.select([1]), y, epochs=1)
    assert np.array_equal(net.predict(x), net.predict(columns["rooms"][:, None]))


def test_columns_that_pandas_has_numbered_go_by_their_order(columns, y):
    pandas = pytest.importorskip("pandas", reason="it numbers columns without names")
    x = np.stack(list(columns.values()), axis=1)
    numbered = pandas.DataFrame(x)
    net = bpx.Network([3, 2], seed=0)
    net.fit(numbered, y, epochs=1)
    assert net.columns is None
    net.fit(numbered.set_axis(list("abc"), axis=1), y, epochs=1)
    assert net.columns == ("a", "b", "c")
    assert np.array_equal(net.predict(numbered), net.predict(x))
    cut = bpx.Network([2, 2], seed=0)
    cut.fit(numbered[[2, 1]], y, epochs=1)
    assert cut.columns == ("2", "1")
    assert np.array_equal(cut.predict(numbered), cut.predict(x[:, [2, 1]]))
    assert np.array_equal(cut.predict(numbered[[0, 1]]), cut.predict(x[:, :2])), "numbered anew"


def test_a_first_rescale_brings_the_names_of_its_frame(frame, columns, y, tmp_path):
    x, turned = frame(columns), frame(_turned(columns))
    rescale = bpx.layers.Rescale.standardizing(turned)
    assert rescale.columns == NAMES[::-1]
    chain = [bpx.layers.Input(3), rescale, bpx.layers.Dense(2, "softmax")]
    net, plain = bpx.Network(chain, seed=0), bpx.Network(chain, seed=0)
    net.fit(x, y, epochs=1)
    plain.fit(np.asarray(turned), y, epochs=1)
    assert net.columns == NAMES[::-1]
    net.save(tmp_path / "net.safetensors")
    again = bpx.load(tmp_path / "net.safetensors")
    assert (again.layers, again.columns) == (net.layers, net.columns)
    assert np.array_equal(again.feedforward(x), plain.feedforward(np.asarray(turned)))
    with pytest.raises(ValueError, match="x has no column 'age'"):
        bpx.Network(chain).fit(frame(dict(zip("abc", columns.values(), strict=True))), y)


def test_a_rescale_without_names_to_bring(columns, y):
    rescale = bpx.layers.Rescale.standardizing(np.stack(list(columns.values()), axis=1))
    assert rescale.columns is None
    named = bpx.layers.Rescale(columns=["a", "b"])
    sequences = bpx.Network(
        [bpx.layers.Input((4, 2)), named, bpx.layers.Flatten(), bpx.layers.Dense(2)]
    )
    last = bpx.Network([bpx.layers.Input(2), bpx.layers.Dense(2), named], cost="quadratic")
    assert (sequences.columns, last.columns) == (None, None)
    with pytest.raises(ValueError, match=r"Rescale's columns has 2 values for .* last axis has 3"):
        bpx.Network([bpx.layers.Input(3), named, bpx.layers.Dense(2)])
    with pytest.raises(TypeError, match="expected the columns of Rescale to be a list of names"):
        bpx.layers.Rescale(columns=[2019])
    with pytest.raises(ValueError, match="expected the columns of Rescale to be different names"):
        bpx.layers.Rescale(columns=["a", "a"])


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
        (x, y[:].tolist()),
        (x.to_numpy(), pandas.Series(y, range(39, -1, -1))),
    ):
        history = bpx.Network([3, 4, 2], seed=0).fit(mine, theirs, epochs=1)
        assert history["training_cost"] == expected


def test_rows_of_which_each_side_lacks_another(columns, y):
    """As `dropna` leaves them: they go by their place, and a warning says so."""
    pandas = pytest.importorskip("pandas", reason="its rows have labels")
    x, y = pandas.DataFrame(columns), pandas.Series(y)
    twice = [0, 0, *range(38)]
    words, kinds = list(map(str, range(40))), pandas.CategoricalIndex
    missing = pandas.array([None, *range(1, 40)], "Int64")
    for mine, theirs, apart in (
        (x.drop(3), y.drop(30), "1 of 39"),
        (x.iloc[4:], y.iloc[2:-2].set_axis(range(2, 38)), "2 of 36"),
        (x.set_axis(twice), y.set_axis(twice[::-1]), None),
        (x.set_axis(kinds(words)), y.set_axis(kinds([*words[:-1], "a"])), "1 of 40"),
        (x.set_axis(missing), y.set_axis([*range(5, 45)]), "5 of 40"),
        (x.set_axis([np.nan, *range(39)]), y.set_axis([np.nan, *range(38), 99.0]), "1 of 40"),
    ):
        net = bpx.Network([3, 4, 2], seed=0)
        message = f"{apart} index labels of x are not among those of y, and rows go"
        if apart is None:
            message = "the index labels of x, some of them twice, are in another order in y, and"
        with pytest.warns(RuntimeWarning, match=message) as told:
            net.evaluate(mine, theirs)
        net.evaluate(mine, theirs.to_numpy())
        advised = "x, y = x.align(y, join='inner', axis=0)"
        assert (advised in str(told[0].message)) == mine.index.is_unique
        if mine.index.is_unique:
            found = {"x": mine, "y": theirs}
            exec(advised, found)
            net.evaluate(found["x"], found["y"].astype(int))
            assert len(found["x"]) == len(mine) - int(apart.split()[0])


def test_dates_are_no_numbers(frame, columns):
    """NumPy takes those of polars beside numbers for counts since 1970."""
    half = np.timedelta64(12, "h")
    days = np.arange("2020-01-01", "2020-01-21", half, dtype="datetime64[ms]")
    x = frame(columns | {"when": days, "long": days - days[0]})
    net = bpx.Network([5, 1], output="identity", seed=0)
    for call in (net, lambda x: net.fit(x, np.zeros(40)), bpx.layers.Rescale.standardizing):
        with pytest.raises(TypeError, match=r"must be real numbers .* in column 'when'; as") as e:
            call(x)
    advice = str(e.value).partition("for example: ")[2]
    if type(x).__module__.startswith("pyarrow"):
        pytest.importorskip("pandas", reason="pyarrow makes its frames of a table")
    assert [float(value) for value in eval(advice, {"np": np, "x": x})] == [*np.arange(40) / 2]


def test_text_becomes_columns_of_numbers(frame, columns):
    """By the advice for each library; beside it numbers stay what they are."""
    x = frame(columns | {"kind": ["old", "new"] * 20})
    with pytest.raises(TypeError, match=r"'old' is text: .* makes columns of numbers of it") as e:
        bpx.Network([4, 1])(x)
    advice = str(e.value).partition("is text: ")[2].partition(" makes")[0]
    pandas = pytest.importorskip("pandas", reason="pyarrow's table becomes a frame of its")
    found = eval(advice, {"x": x, "pandas": pandas})
    assert sorted(found.columns) == sorted([*NAMES, "kind_new", "kind_old"])
    bpx.Network([5, 1])(found)


@pytest.mark.parametrize("kind", ["object", "category", "string"])
@pytest.mark.parametrize("alone", [False, True])
def test_text_for_an_embedding_becomes_numbers(kind, alone):
    """By the advice, which is not the one for other columns."""
    pandas = pytest.importorskip("pandas", reason="its columns may be categories")
    city = pandas.Series(["b", "a", "b"] * 2, dtype=kind)
    L = bpx.layers
    whole = [L.Embedding(2, 3), L.Flatten()]
    branches = [L.Concatenate([[L.Columns([1]), *whole], [L.Columns([0])]])]
    x = pandas.DataFrame({"city": city} if alone else {"size": np.arange(6.0), "city": city})
    chain = [L.Input(x.shape[1]), *(whole if alone else branches), L.Dense(1)]
    net = bpx.Network(chain, cost="quadratic", seed=0)
    for call in (net, lambda x: net.fit(x, np.zeros(6)), bpx.Ensemble([net]).predict):
        told = (
            r"x has text in column 'city', which goes to an Embedding: number its values, (.*), "
        )
        with pytest.raises(TypeError, match=told) as refused:
            call(x)
    code = re.search(told, str(refused.value))[1]
    numbered = x.assign(city=eval(code, {"x": x, "pandas": pandas}))
    assert set(numbered["city"]) == {0, 1}
    net.fit(numbered, np.zeros(6), epochs=1)


def test_dates_in_columns_without_strings_as_names(columns):
    pandas = pytest.importorskip("pandas", reason="its columns may have other names")
    x = pandas.DataFrame(columns).assign(when=pandas.Timestamp("2020-01-01"))
    x = x.set_axis([2017, 2018, 2019, ("a", 2)], axis=1)
    with pytest.raises(TypeError, match=r"as days, for example: \(x\[\('a', 2\)\] - "):
        bpx.Network([4, 1])(x)


def test_times_of_a_day_are_no_numbers():
    polars = pytest.importorskip("polars", reason="it has such columns")
    x = polars.DataFrame({"a": [1.0], "at": [datetime.time(8, 30)]})
    with pytest.raises(TypeError, match=r"got Time in column 'at'$"):
        bpx.Network([2, 1])(x)


def test_mini_batches_of_what_is_on_disk(columns):
    x = np.stack(list(columns.values()), axis=1)
    for given in ((bpx.open_data(x), None), (x, bpx.open_data(x))):
        with pytest.raises(TypeError, match=r"got <data (in blocks|on disk), .*: pass data\.read"):
            bpx.batches(*given)


def test_mini_batches_ask_once_whether_their_rows_belong_together(columns, recwarn):
    """The index of some rows is no longer 0, 1, ..."""
    pandas = pytest.importorskip("pandas", reason="its rows have labels")
    x = pandas.DataFrame(columns)
    y = pandas.DataFrame({"u": x["area"], "v": x["age"]}).set_axis(range(1, 41))
    net = bpx.Network([3, 2], output="identity", seed=0)
    net.fit(bpx.batches(x, y, 8), epochs=2)
    for xb, yb in bpx.batches(x, y, 8):
        net.backprop(xb, yb)
    assert not recwarn.list


def test_targets_go_by_their_names(frame, columns, rng):
    x, u, v = frame(columns), rng.normal(size=len(columns["age"])), np.ones(len(columns["age"]))
    y, turned = frame({"u": u, "v": v}), frame({"v": v, "u": u})
    net = bpx.Network([len(columns), 2], output="identity", seed=0)
    history = net.fit(x, y, epochs=1, validation=(x, turned))
    assert net.target_columns == ("u", "v")
    expected = net.evaluate(x, np.stack([u, v], axis=1))["cost"]
    assert history["validation_cost"][0] == expected
    assert net.evaluate(x, turned)["cost"] == net.evaluate(x, y)["cost"] == expected
    with pytest.raises(ValueError, match="y has no column 'u', which the network was trained on"):
        net.evaluate(x, frame({"w": u, "v": v}))
    more = frame({"v": v, "u": u, "w": u})  # perhaps a class that the network does not know
    with pytest.raises(ValueError, match="y has other columns besides the 2 that the network was"):
        net.evaluate(x, more)
    if hasattr(more, "__getitem__") and not hasattr(more, "select"):
        assert net.evaluate(x, more[list(net.target_columns)])["cost"] == expected
    one = bpx.Network([len(columns), 1], output="identity", seed=0)
    one.fit(x, frame({"u": u}), epochs=1)
    assert one.evaluate(x, frame({"w": u})) == one.evaluate(x, u)


def test_targets_on_disk_go_by_their_names(columns, rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="it writes the table")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    x = pandas.DataFrame(columns)
    y = pandas.DataFrame({"u": rng.normal(size=len(x)), "v": 1.0})
    path, array = tmp_path / "t.csv", tmp_path / "x.npy"
    pandas.concat([x, y], axis=1).to_csv(path, index=False)
    np.save(array, np.ascontiguousarray(x))
    net = bpx.Network([len(columns), 2], output="identity", seed=0, dtype="float64")
    net.fit(bpx.open_data(path, target=["u", "v"]), epochs=1)
    assert net.target_columns == ("u", "v")
    expected = pytest.approx(net.evaluate(x, y)["cost"], rel=1e-12)
    assert net.evaluate(bpx.open_data(path, target=["u", "v"]))["cost"] == expected
    assert net.evaluate(bpx.open_data(array, y[["v", "u"]]))["cost"] == expected
    told = (
        r"the targets of {}x on disk are other columns than the network was trained on, or in "
        r"another order: open_data\(..., target=\['u', 'v'\]\)"
    )
    with pytest.raises(ValueError, match=told.format("")):
        net.evaluate(bpx.open_data(path, target=["v", "u"]))
    rest, _ = bpx.open_data(path, target=["v", "u"]).hold_out(1, seed=0)
    with pytest.raises(ValueError, match=told.format("")):
        net.fit(rest, epochs=1)
    fresh = bpx.Network([len(columns), 2], output="identity")
    with pytest.raises(ValueError, match=told.format("validation ")):
        fresh.fit(bpx.open_data(path, target=["u", "v"]), validation=rest, epochs=1)
    assert fresh.target_columns is None
    other = bpx.Network([len(columns), 2], output="identity", seed=0)
    other.fit(bpx.open_data(array, y[["v", "u"]]), epochs=1)
    assert other.target_columns == ("v", "u")


def test_a_single_target_on_disk_may_have_any_name(columns, tmp_path):
    """As in memory: there is no order to be wrong in."""
    pandas = pytest.importorskip("pandas", reason="it writes the table")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    x, path = pandas.DataFrame(columns), tmp_path / "t.csv"
    x.assign(u=1.0, w=2.0).to_csv(path, index=False)
    net = bpx.Network([len(columns), 1], output="identity", seed=0)
    net.fit(bpx.open_data(path, target="u", columns=[*columns]), epochs=1)
    assert net.target_columns == ("u",)
    net.evaluate(bpx.open_data(path, target="w", columns=[*columns]))


def test_a_row_of_pandas_keeps_its_names():
    pandas = pytest.importorskip("pandas", reason="its series are tested")
    net = bpx.Network([2, 1], seed=0)
    net.columns = ["a", "b"]
    row = pandas.Series({"b": 1.0, "a": -2.0})
    with pytest.raises(ValueError, match=r"pass one sample as x.to_frame\(\).T$"):
        net(row)
    assert np.array_equal(net(row.to_frame().T), net([[-2.0, 1.0]]))


def test_mini_batches_of_a_frame_are_frames(frame, columns, y):
    x, turned = frame(columns), frame(_turned(columns))
    nets = [bpx.Network([3, 4, 2], seed=0, dtype="float64") for _ in range(3)]
    expected = nets[0].fit(x, y, epochs=2, batch_size=8, shuffle=False)["training_cost"]
    history = nets[1].fit(bpx.batches(x, y, 8, shuffle=False), epochs=1)
    assert nets[1].columns == NAMES
    nets[1].fit(bpx.batches(turned, y, 8, shuffle=False), epochs=1)  # found by their names
    assert np.allclose(nets[1].parameters, nets[0].parameters, rtol=0, atol=1e-12)
    assert history["training_cost"] == pytest.approx(expected[:1], rel=1e-12)
    nets[2].columns = NAMES
    for xb, yb in bpx.batches(x, y, 8):
        assert type(xb) is type(x)
        assert isinstance(yb, np.ndarray)
    xb, xt = (next(iter(bpx.batches(z, None, 8, shuffle=False))) for z in (x, turned))
    assert np.array_equal(nets[2](xb), nets[2](xt))


def test_mini_batches_of_a_frame_are_looked_at_before_the_first_step(
    frame, columns, y, tmp_path, monkeypatch
):
    text = bpx.batches(frame({**columns, "age": ["9"] * len(y)}), y, 8)
    other = bpx.batches(frame({"area": y, "rooms": y, "year": y}), y, 8)
    net = bpx.Network([3, 4, 2], seed=0)
    with pytest.raises(TypeError, match=r"^x must be real numbers"):
        net.fit(text, epochs=1, checkpoint=tmp_path / "run")
    net.columns = NAMES
    with pytest.raises(ValueError, match=r"^x has no column 'age', which the network was trained"):
        net.fit(other, epochs=1, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("bpx.data.minibatches.rows_of", None)  # frames become arrays once
    net.fit(bpx.batches(frame(columns), y, 8), epochs=1)


def test_mini_batches_of_several_targets_go_by_their_names(columns):
    pd = pytest.importorskip("pandas", reason="its frames are tested")
    x = pd.DataFrame(columns)
    y = pd.DataFrame({"price": x["area"] * 2, "days": x["age"] - 1}, index=x.index)
    nets = [bpx.Network([3, 4, 2], output="identity", seed=0, dtype="float64") for _ in range(2)]
    nets[0].fit(x, y, epochs=2, batch_size=8, shuffle=False)
    nets[1].fit(bpx.batches(x, y, 8, shuffle=False), epochs=1)
    nets[1].fit(bpx.batches(x, y[["days", "price"]], 8, shuffle=False), epochs=1)
    assert nets[1].target_columns == ("price", "days")
    assert np.allclose(nets[1].parameters, nets[0].parameters, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="expected the rows of y in the order of x's"):
        bpx.batches(x, y[::-1])


def test_a_trace_goes_by_names_as_evaluate_does(columns):
    pd = pytest.importorskip("pandas", reason="its frames are tested")
    x = pd.DataFrame(columns)
    y = pd.DataFrame({"price": x["area"] * 2, "days": x["age"] - 1})
    net = bpx.Network([3, 4, 2], output="identity", seed=0, dtype="float64")
    net.fit(x, y, epochs=1)
    expected = net.trace(x, y)[-1].delta
    assert np.array_equal(net.trace(x[["age", "area", "rooms"]], y)[-1].delta, expected)
    assert np.array_equal(net.trace(x, y[["days", "price"]])[-1].delta, expected)
    with pytest.raises(ValueError, match="expected the rows of y in the order of x's"):
        net.trace(x, y[::-1])


def test_a_frame_is_not_on_disk(frame, columns, y):
    with pytest.raises(TypeError, match="which is in memory: pass it to fit itself"):
        bpx.open_data(frame(columns), y)


def test_an_ensemble_has_the_names_of_the_network_that_it_is_made_of():
    net = bpx.Network([3, 2], output="softmax", seed=0)
    net.columns, net.classes = NAMES, ["no", "yes"]
    ensemble = bpx.Ensemble.of(2, net)
    assert [member.names for member in ensemble.members] == [net.names] * 2


def test_a_category_that_no_row_has(rng):
    """What pandas.get_dummies makes of a few rows has fewer columns."""
    pandas = pytest.importorskip("pandas", reason="its get_dummies")
    table = pandas.DataFrame({"area": [1.0, 2.0, 3.0], "city": ["Bern", "Oslo", "Rome"]})
    x = pandas.get_dummies(table, dtype=float)
    net = bpx.Network([4, 1], output="identity", seed=0)
    net.columns = x.columns
    few = pandas.get_dummies(table[:2], dtype=float)
    told = (
        r"no column 'city_Rome', .* if it is a category that none of these rows has: x\.reindex\("
    )
    with pytest.raises(ValueError, match=told):
        net.predict(few)
    found = net.predict(few.reindex(columns=net.columns, fill_value=0))  # what it advises
    assert np.array_equal(found, net.predict(x)[:2])
    with pytest.raises(ValueError, match=r"no column 'area', .* was trained on \(to go by their"):
        net.predict(x.drop(columns="area"))  # for which no other column of x can be meant
