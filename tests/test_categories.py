"""Columns of text as inputs, one for each category, and cells that are missing."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it: pip install typer")

from command_line import bpx_command

import bpx
from bpx import categories, persistence
from bpx.categories import source
from bpx.cli import tables
from bpx.cli.dialect import COMMAS
from bpx.data.readers import Dialect, Features, Inputs, _csv, _parquet

NAMES = ("city=Bern", "city=Oslo", "city=Rome", "height")
CITIES = ["Oslo", "Bern", "Rome"]
MENDED = (  # a cell of x that is no number among numbers
    "; a column has numbers in all rows, or text, and what it had in training: mend the cell, or "
    "leave out the line, or the column (bpx train --ignore a); where it says that a value of x is "
    "missing, empty all such cells (empty, NA, N/A, #N/A, #NA, NaN, null, none, ? are read as "
    "missing) and pass --missing mean\n"
)


def people(n=120, seed=0):
    """Columns of a table: a city, a height, and y, which follows from both."""
    rng = np.random.default_rng(seed)
    city = rng.integers(3, size=n)
    height = rng.normal(170.0, 10.0, n)
    return {
        "city": [CITIES[k] for k in city],
        "height": height.tolist(),
        "y": ((city == 1) | (height > 175.0)).astype(int).tolist(),
    }


def inputs(columns):
    """Those that the network sees, in the order of `NAMES`."""
    marks = [[city == name for city in columns["city"]] for name in sorted(CITIES)]
    return np.array([*marks, columns["height"]], float).T


def write(path, columns):
    """A .csv, or a .parquet in groups of ten rows; None is a cell that is missing."""
    if path.suffix == ".csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]))
    else:
        arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.table(columns), path, row_group_size=10)


def frames(columns):
    """The same columns as frames of each library that is there."""
    pandas = pytest.importorskip("pandas", reason="its frames are tested")
    yield (frame := pandas.DataFrame(columns))
    yield frame.astype({"city": "category"})
    yield frame.astype({"city": "string"}).set_index(np.arange(len(frame))[::-1])
    yield pytest.importorskip("pyarrow", reason="its tables are tested").table(columns)
    polars = pytest.importorskip("polars", reason="its frames are tested")
    yield polars.DataFrame(columns)
    yield polars.DataFrame(columns).with_columns(polars.col("city").cast(polars.Categorical))


BUDGETS = pytest.mark.parametrize("budget", ["1 GB", "25 kB"], ids=["in memory", "in blocks"])
KINDS = pytest.mark.parametrize("kind", ["csv", "parquet"])


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr(_csv, "LINES", 300)


def blocks(kind, budget):
    if budget != "1 GB" or kind == "parquet":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")


@KINDS
@BUDGETS
def test_a_column_of_text(tmp_path, in_small_blocks, kind, budget):
    blocks(kind, budget)
    columns = people(1200)
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--budget", budget
    options = "--epochs", 3, "--out", "run", "--optimizer", "adam", "--learning-rate", 0.05
    out, err = bpx_command("train", *given, *options, cwd=tmp_path)
    assert err == "bpx: note: each value in a column of text is an input: 'city' 3\n"
    assert float(re.search(r"test accuracy ([\d.]+) %", out)[1]) > 90
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    assert net.columns == NAMES

    other = people(1200, seed=1)
    x = inputs(other)
    for again in ("csv", "parquet"):
        blocks(again, budget)
        write(tmp_path / f"b.{again}", {name: other[name] for name in ("y", "height", "city")})
        given = "run", f"b.{again}", "--budget", budget
        printed, err = bpx_command("predict", *given, cwd=tmp_path)
        assert (printed.split(), err) == ([str(label) for label in net.predict(x)], "")
        score, _ = bpx_command("evaluate", *given, cwd=tmp_path)
        cost = net.evaluate(x, other["y"])["cost"]
        assert float(score.split()[1]) == pytest.approx(cost, rel=1e-5)  # a mean of other pieces
    summary, _ = bpx_command("summary", "run", cwd=tmp_path)
    assert f"inputs: {', '.join(NAMES)}" in summary


@KINDS
def test_x_is_what_the_table_says(tmp_path, kind):
    columns = people() | {"odd": [" a=b, c ", "7"] * 60}
    if kind == "csv":
        columns["odd"] = ['" a=b, c "', "7"] * 60
    write(tmp_path / f"a.{kind}", columns)
    features = Features(encode=True)
    x, y, names = tables.read(tmp_path / f"a.{kind}", "y", features=features)
    assert names == ((*NAMES, "odd=7", "odd=a=b, c"), ("y",), None)
    odd = np.tile([[0.0, 1.0], [1.0, 0.0]], (60, 1))
    assert np.array_equal(x, np.c_[inputs(columns), odd])
    assert y.tolist() == columns["y"]
    some = Features(["odd=a=b, c", "height", "odd=7"])
    x, _, names = tables.read(tmp_path / f"a.{kind}", "y", features=some)
    assert np.array_equal(x, np.c_[odd[:, 1], columns["height"], odd[:, 0]])


def test_which_column_an_input_comes_from():
    columns = ["city", "a=b", "a"]
    assert source("city", columns) == ("city", None)
    assert source("city=Bern", columns) == ("city", "Bern")
    assert source("city=", columns) == ("city", "")
    assert source("a=b", columns) == ("a=b", None)
    assert source("a=c=d", columns) == ("a", "c=d")
    assert source("a=b=c", ["a=b"]) == ("a=b", "c")
    assert source("town=Bern", columns) == ("town=Bern", None)


def test_a_frame_has_the_categories_of_a_network(tmp_path):
    columns = people()
    scaled = bpx.layers.Rescale.standardizing(inputs(columns))
    layers = [bpx.layers.Input(4), scaled, bpx.layers.Dense(2, "softmax")]
    net = bpx.Network(layers, seed=0, dtype="float64")
    net.columns = NAMES
    expected = net.feedforward(inputs(columns))
    for frame in frames(columns):
        assert np.array_equal(net.feedforward(frame), expected)
        assert net.predict(frame).tolist() == net.predict(inputs(columns)).tolist()
        member = bpx.Ensemble([net, net.copy()])
        assert np.array_equal(member.feedforward(frame), expected)
        twin = net.copy()
        twin.fit(frame, columns["y"], epochs=1)
        of_arrays = net.copy()
        of_arrays.fit(inputs(columns), columns["y"], epochs=1)
        assert np.array_equal(twin.parameters, of_arrays.parameters)


def test_a_frame_with_another_category():
    columns = people()
    net = bpx.Network([4, 2], seed=0)
    net.columns = NAMES
    for frame in frames(columns | {"city": ["Bonn", *columns["city"][1:]]}):
        expected = (
            r"^x, column 'city': 'Bonn' is not one of the categories\. Known: Bern, Oslo, Rome$"
        )
        with pytest.raises(ValueError, match=expected):
            net.predict(frame)
        with pytest.raises(ValueError, match=r"^validation x, column 'city': 'Bonn' is not"):
            net.fit(inputs(columns), columns["y"], validation=(frame, columns["y"]))
    for frame in frames(columns | {"city": [None, *columns["city"][1:]]}):
        expected = (
            r"^x, column 'city': expected text, one of the categories, got .* in row 0: fill in "
            r"what is missing, or leave those rows out$"
        )
        with pytest.raises(ValueError, match=expected):
            net.predict(frame)
    for frame in frames(columns | {"town": columns["city"]}):
        with pytest.raises(
            ValueError,
            match=r"^x has no column 'city=Bern', or 'city' with text, which the network was",
        ):
            net.predict(
                frame.drop("city", axis=1) if hasattr(frame, "iloc") else frame.drop(["city"])
            )


@KINDS
def test_data_on_disk_have_the_categories_that_are_named(tmp_path, in_small_blocks, kind):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    path, columns = tmp_path / f"a.{kind}", people()
    write(path, columns)
    data = bpx.open_data(path, target="y", columns=NAMES)
    assert data.columns == NAMES
    assert np.array_equal(data.read(), inputs(columns))
    both = bpx.open_data([path, path], target="y", columns=NAMES[::-1])
    assert np.array_equal(both.read(), np.tile(inputs(columns)[:, ::-1], (2, 1)))
    with pytest.raises(ValueError, match=r"column 'city': 'Rome' is not one of the categories"):
        bpx.open_data(path, target="y", columns=NAMES[:2]).read()
    with pytest.raises(
        ValueError, match=r"'city' is a column of numbers, and 'city=Bern' takes i"
    ):
        bpx.open_data(path, target="y", columns=["city", "city=Bern"])
    with pytest.raises(
        ValueError,
        match=r"a\.(csv|parquet), column 'city': expected categories to be ",
    ):
        bpx.open_data(path, target="y", columns=["city= Bern"])
    with pytest.raises(
        (ValueError, TypeError), match=r"for text name the values .* \*\(f'city={v}' for v in"
    ):
        bpx.open_data(path, target="y").read()
    write(path, columns | {"city": [None, *columns["city"][1:]]})
    with pytest.raises(
        ValueError, match=r"column 'city'.* (category, got ''|value in row 0): fill"
    ):
        bpx.open_data(path, target="y", columns=NAMES).read()


@KINDS
@BUDGETS
def test_a_category_that_is_not_known(tmp_path, in_small_blocks, kind, budget):
    blocks(kind, budget)
    write(tmp_path / "a.csv", people())
    bpx_command("train", "a.csv", "--epochs", 1, "--out", "run", cwd=tmp_path)
    columns = people(1200, seed=1)
    columns["city"][700] = "Bonn"
    write(tmp_path / f"b.{kind}", columns)
    given = f"b.{kind}", "--budget", budget
    told = "column 'city': 'Bonn' is not one of the categories. Known: Bern, Oslo, Rome"
    for command in ("evaluate", "predict"):
        _, err = bpx_command(command, "run", *given, cwd=tmp_path, status=2)
        assert err.endswith(f"{told}; --missing mean takes it as missing\n")
    _, err = bpx_command("train", "a.csv", "--test", f"b.{kind}", cwd=tmp_path, status=2)
    assert err.endswith(f"{told}; --missing mean takes it as missing\n")


@KINDS
@BUDGETS
def test_text_that_is_no_category(tmp_path, in_small_blocks, kind, budget):
    blocks(kind, budget)
    columns = people(1200)
    names = [f"row {k}" for k in range(1200)]
    write(tmp_path / f"a.{kind}", {"id": names, "name": names, **columns})
    given = f"a.{kind}", "--target", "y", "--budget", budget
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert err == (
        f"bpx: a.{kind}: a column of text has an input for each of its values, at most 1,000 and "
        "one for two rows, got 1,200 in 'id', 1,200 in 'name' (1,200 rows): leave it out (bpx "
        "train --ignore id,name)\n"
    )
    write(tmp_path / f"a.{kind}", {"last, first": names, **columns})
    if kind == "parquet":
        _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
        assert "(bpx train --ignore 'last, first')" in err


@KINDS
def test_more_categories_than_are_counted(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(categories, "MOST_NAMES", 2)
    write(tmp_path / f"a.{kind}", people())
    _, err = bpx_command("train", f"a.{kind}", "--target", "y", cwd=tmp_path, status=2)
    assert "column 'city': expected names of categories, got more than 2 different texts" in err


@KINDS
def test_categories_that_take_more_memory_than_there_is(tmp_path, monkeypatch, kind):
    """A row of a few bytes may become one of a thousand numbers."""
    columns = people(400) | {"code": [f"c{k % 150}" for k in range(400)]}
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--budget"
    _, err = bpx_command("train", *given, "100 kB", cwd=tmp_path, status=2)
    assert err == (
        f"bpx: a.{kind}: x takes 492.8 kB in memory, more than the budget of 100 kB, as each "
        "value in a column of text is an input: pass a larger --budget, or leave out 'code', "
        "which has the most\n"
    )
    bpx_command("train", *given, "1 MB", "--epochs", 0, cwd=tmp_path)


def test_columns_that_are_not_all_text(tmp_path):
    """What begins with numbers has numbers; dates and numbers in other marks are told."""
    columns = people(20)
    for cells, told in (
        (["1", "many"], f"line 3, column 'a': expected a number, got 'many'{MENDED}"),
        (["2020-01-31", "2020-02-01"], "line 2, column 'a': expected a number, got '2020-01-31'"),
        (["1,5", "2,5"], "pass --decimal , if its comma is the decimal mark"),
        (["28 €", "30 €"], "got '28 €': write the digits 0 to 9 and a point, without other marks"),
    ):
        write(tmp_path / "a.csv", {"a": [f'"{cell}"' for cell in cells] * 10, **columns})
        _, err = bpx_command("train", "a.csv", cwd=tmp_path, status=2)
        assert told in err
    write(tmp_path / "a.csv", {"a": ["True", "False"] * 10, "b": ["no", "yes"] * 10, **columns})
    bpx_command("train", "a.csv", "--epochs", 0, "--out", "run", cwd=tmp_path)
    found = bpx.load(tmp_path / "run" / "model.safetensors").columns
    assert found == ("a", "b=no", "b=yes", *NAMES)


def test_the_target_is_not_a_column_of_inputs(tmp_path):
    write(tmp_path / "a.csv", people())
    bpx_command("train", "a.csv", "--epochs", 0, "--out", "run", cwd=tmp_path)
    _, err = bpx_command("evaluate", "run", "a.csv", "--target", "city", cwd=tmp_path, status=2)
    assert "'city' is an input of this network: --target names the targets' column" in err


def with_gaps(n=120, seed=0):
    """Those of `people`, some of whose cells of x are missing; the first ones among them."""
    rng, columns = np.random.default_rng(seed + 1), people(n, seed)
    for name in ("city", "height"):
        for k in (0, *rng.integers(n, size=n // 5).tolist()):
            columns[name][k] = None
    return columns


def filled(columns, means):
    """`inputs`, with a number for each of `NAMES` where a cell is missing."""
    known = {"city": ["Bern"], "height": [0.0]}
    gaps = {name: [cell is None for cell in columns[name]] for name in known}
    whole = {name: [known[name][0] if c is None else c for c in columns[name]] for name in known}
    missing = np.array([gaps["city"]] * 3 + [gaps["height"]]).T
    return np.where(missing, means, inputs(whole))


@KINDS
def test_missing_cells(tmp_path, kind):
    if kind == "parquet":
        blocks(kind, "1 GB")
    columns, later = with_gaps(), with_gaps(60, seed=1)
    write(tmp_path / f"a.{kind}", columns)
    write(tmp_path / f"later.{kind}", later)
    given = f"a.{kind}", "--target", "y"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    told = "column 'city': expected the name of a category, got '': fill it, or leave the row out"
    if kind == "parquet":
        told = (
            "column 'city' has a missing value in row 0: fill in what is missing, or leave those "
            "rows out"
        )
    assert err.endswith(f"{told}, or pass --missing mean\n")
    options = "--missing", "mean", "--validation", f"later.{kind}", "--epochs", 3, "--out", "run"
    _, err = bpx_command("train", *given, *options, cwd=tmp_path)
    gaps = [None in row for row in zip(columns["city"], columns["height"], strict=True)]
    expected = (
        r"\d+ of the 108 rows that are trained on have missing cells, \d+ of them in column "
        r"'(city|height)': they get the mean of their column in training"
    )
    assert re.search(expected, err)
    assert sum(gaps) > 20
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    first = net.layers[0]
    means = -np.array(first.offset) / np.array(first.scale)
    seen = [height for height in columns["height"] if height is not None]
    assert means[3] == pytest.approx(np.mean(seen), abs=1.5)
    assert means[:3].sum() == pytest.approx(1.0)
    x = filled(later, means)
    _, err = bpx_command("predict", "run", f"later.{kind}", cwd=tmp_path, status=2)
    assert "or pass --missing mean" in err
    more = f"later.{kind}", "--missing", "mean"
    gone = np.isnan(filled(later, np.nan))
    told, counts = gone.any(axis=1).sum(), {"city": gone[:, 0].sum(), "height": gone[:, 3].sum()}
    most = max(counts, key=counts.get)
    note = (
        f"bpx: note: {told} of the 60 rows of later.{kind} have missing cells, {counts[most]} of "
        f"them in column '{most}': they get the mean of their column in training\n"
    )
    printed, err = bpx_command("predict", "run", *more, cwd=tmp_path)
    assert (printed.split(), err) == ([str(label) for label in net.predict(x)], note)
    score, err = bpx_command("evaluate", "run", *more, cwd=tmp_path)
    assert err == note
    cost = net.evaluate(x, later["y"])["cost"]
    assert float(score.split()[1]) == pytest.approx(cost, rel=1e-5)
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    row = dict(zip(history[0].split(","), history[-1].split(","), strict=True))
    assert float(row["validation_cost"]) == pytest.approx(cost, rel=1e-5)


def test_in_which_row_a_text_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(_parquet, "BATCH", 10)
    columns = people()
    columns["city"][25] = None
    write(tmp_path / "a.parquet", columns)
    _, err = bpx_command("train", "a.parquet", "--target", "y", cwd=tmp_path, status=2)
    assert err.startswith("bpx: a.parquet: column 'city' has a missing value in row 25: fill in")


def test_the_mean_is_that_of_the_rows_that_are_trained_on(tmp_path):
    rows = {"a": [None, 1.0, 3.0, 8.0] * 10, "y": [0.0, 1.0, 3.0, 8.0] * 10}
    write(tmp_path / "a.csv", rows)
    write(tmp_path / "b.csv", {"a": [None, 100.0] * 10, "y": [1.0, 2.0] * 10})
    write(tmp_path / "c.csv", {"a": [None, 200.0] * 10, "y": [1.0, 2.0] * 10})
    others = "--validation", "b.csv", "--test", "c.csv", "--missing", "mean"
    bpx_command("train", "a.csv", *others, "--epochs", 0, "--out", "run", cwd=tmp_path)
    first = bpx.load(tmp_path / "run" / "model.safetensors").layers[0]
    assert -first.offset[0] / first.scale[0] == pytest.approx(4.0)
    assert 1 / first.scale[0] == pytest.approx(np.std([4.0, 1.0, 3.0, 8.0]))


def test_categories_that_are_not_known_may_be_missing(tmp_path):
    write(tmp_path / "a.csv", people())
    options = "--missing", "mean", "--epochs", 1, "--out", "run"
    _, err = bpx_command("train", "a.csv", *options, cwd=tmp_path)
    assert "missing cells" not in err
    columns = people(60, seed=1)
    columns["city"][:3] = ["Bonn", None, "Graz"]
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    means = -np.array(net.layers[0].offset) / np.array(net.layers[0].scale)
    whole = columns | {"city": [None] * 3 + columns["city"][3:]}
    for kind in ("csv", "parquet"):
        write(tmp_path / f"b.{kind}", columns)
        printed, err = bpx_command(
            "predict", "run", f"b.{kind}", "--outputs", "--missing", "mean", cwd=tmp_path
        )
        assert err == (
            f"bpx: note: b.{kind}: the network was not trained on 2 of the values of column "
            "'city', such as 'Bonn': they are taken as missing\n"
            f"bpx: note: 3 of the 60 rows of b.{kind} have missing cells, 3 of them in column "
            "'city': they get the mean of their column in training\n"
        )
        found = np.array([line.split(",") for line in printed.splitlines()], float)
        assert found == pytest.approx(net.feedforward(filled(whole, means)), rel=1e-4)


def test_the_function_of_the_docs_fills_as_the_command_line_does(tmp_path):
    pandas = pytest.importorskip("pandas", reason="the function is for its frames")
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    (function,) = re.findall(r"^```python\n(def filled.*?)^```", page, re.S | re.M)
    exec(function, found := {"pd": pandas, "np": np, "bpx": bpx})
    write(tmp_path / "a.csv", with_gaps())
    options = "--missing", "mean", "--epochs", 1, "--out", "run"
    bpx_command("train", "a.csv", *options, cwd=tmp_path)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    later = with_gaps(60, seed=1)
    later["city"][:3] = ["Bonn", None, "Graz"]
    write(tmp_path / "later.csv", later)
    given = "run", "later.csv", "--missing", "mean", "--outputs"
    printed, _ = bpx_command("predict", *given, cwd=tmp_path)
    expected = np.array([line.split(",") for line in printed.splitlines()], float)
    table = pandas.read_csv(tmp_path / "later.csv")
    for frame in (table, table.astype({"city": "category"}), table[["y", "height", "city"]]):
        assert net.feedforward(found["filled"](frame, net)) == pytest.approx(expected, rel=1e-4)


def test_missing_numbers_of_arrays(tmp_path):
    x = np.arange(80.0).reshape(40, 2)
    x[::4, 1] = np.nan
    y = x[:, 0] % 3
    np.savez(tmp_path / "a.npz", x=x, y=y)
    _, err = bpx_command("train", "a.npz", cwd=tmp_path, status=2)
    assert "or leave the row out, or pass --missing mean" in err
    options = "--missing", "mean", "--epochs", 1, "--out", "run"
    bpx_command("train", "a.npz", *options, cwd=tmp_path)
    bpx_command("evaluate", "run", "a.npz", "--missing", "mean", cwd=tmp_path)
    x[3, 0] = np.inf
    np.savez(tmp_path / "b.npz", x=x, y=y)
    _, err = bpx_command("train", "b.npz", *options[:2], cwd=tmp_path, status=2)
    assert "NaN or infinity in x, first in row 3, column 0: fill it, or leave the row out\n" in err


def test_missing_integers_of_parquet(tmp_path):
    """Their type has no NaN."""
    write(tmp_path / "a.parquet", {"a": [None, 1, 3, 8] * 10, "y": [0.0, 1.0, 3.0, 8.0] * 10})
    given = "a.parquet", "--target", "y"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert "column 'a' has a missing value in row 0" in err
    bpx_command("train", *given, "--missing", "mean", "--epochs", 1, cwd=tmp_path)


def test_a_run_with_missing_cells_is_resumed(tmp_path):
    write(tmp_path / "a.csv", with_gaps())
    options = "a.csv", "--missing", "mean", "--out"
    bpx_command("train", *options, "whole", "--epochs", 4, cwd=tmp_path)
    bpx_command("train", *options, "run", "--epochs", 2, cwd=tmp_path)
    bpx_command("train", "--resume", "run", "--epochs", 4, cwd=tmp_path)
    models = [tmp_path / run / "model.safetensors" for run in ("whole", "run")]
    (theirs, header), (ours, other) = map(persistence.read, models)
    assert header == other
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.csv", "--missing", "median"], "expected --missing mean, got 'median'"),
        (["digits", "--missing", "mean"], "--missing is for files; no cell is missing in digits"),
        (
            ["a.csv", "--missing", "mean", "--no-standardize"],
            "--missing takes the means that standardizing keeps in the model: leave "
            "--no-standardize out",
        ),
        (
            ["a.csv", "--missing", "mean", "--target", "y", "--budget", "1 kB"],
            "--missing mean is for data in memory: a.csv takes ",
        ),
        (
            ["empty.csv", "--missing", "mean"],
            "column 'a' of x has no value in the rows that are t",
        ),
        (
            ["gone.csv", "--missing", "mean"],
            "column 'a', column 'c' of x have no value in the rows that are trained on: leave",
        ),
        (
            ["a.csv", "--missing", "mean", "--validation", "empty.csv"],
            "empty.csv has no column 'city=Bern', or 'city' with text. Known: a, b, y",
        ),
    ],
)
def test_what_missing_is_not_for(tmp_path, arguments, told):
    write(tmp_path / "a.csv", with_gaps())
    write(tmp_path / "empty.csv", {"a": [None] * 20, "b": [1, 2] * 10, "y": [0, 1] * 10})
    gone = {"a": [None] * 20, "b": [1, 2] * 10, "c": [None] * 20, "y": [0, 1] * 10}
    write(tmp_path / "gone.csv", gone)
    _, err = bpx_command("train", *arguments, cwd=tmp_path, status=2)
    assert told in err


def test_a_network_that_has_no_means(tmp_path):
    write(tmp_path / "a.csv", with_gaps())
    net = bpx.Network([4, 2], output="softmax", seed=0)
    net.columns = NAMES
    net.save(tmp_path / "net.safetensors")
    for command in ("predict", "evaluate"):
        _, err = bpx_command(
            command, "net.safetensors", "a.csv", "--target", "y", "--missing", "mean",
            cwd=tmp_path, status=2,
        )  # fmt: skip
        assert (
            "takes the means that a network standardizes by, as bpx train keeps them, and" in err
        )
        given = command, "net.safetensors", "a.csv", "--target", "y", "--missing"
        _, err = bpx_command(*given, "mean", "--budget", "1 kB", cwd=tmp_path, status=2)
        assert "--missing mean is for data in memory: a.csv takes " in err
        _, err = bpx_command(*given, "zero", cwd=tmp_path, status=2)
        assert "expected --missing mean, got 'zero'" in err


def test_an_ensemble_fills_by_its_first_member(tmp_path):
    columns = people()
    write(tmp_path / "a.csv", columns)
    bpx_command("train", "a.csv", "--epochs", 1, "--out", "run", cwd=tmp_path)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    bpx.Ensemble([net, net.copy()]).save(tmp_path / "two.safetensors")
    write(tmp_path / "b.csv", with_gaps(30, seed=1))
    given = "b.csv", "--missing", "mean", "--outputs"
    one, two = (
        bpx_command("predict", model, *given, cwd=tmp_path) for model in ("run", "two.safetensors")
    )
    assert one == two


def test_categories_are_marked_where_they_are_and_missing_where_there_are_none():
    found = Inputs(Path("a.csv"), ["a", "b=x", "b=y"], ["b", "a"], True, COMMAS)
    assert (found.names, found.columns) == (["a", "b=x", "b=y"], ["a", "b"])
    out = np.zeros((3, 3))
    codes = np.array([found.text["b"].number(cell) for cell in ("y", " x ", "?")])
    found.fill(out, {"a": np.arange(3.0), "b": codes}.__getitem__)
    assert np.array_equal(out, [[0, 0, 1], [1, 1, 0], [2, np.nan, np.nan]], equal_nan=True)
    assert np.isnan(found.text["b"].number("z"))
    assert found.text["b"].unknown == {"z"}
    told = Inputs(Path("a.csv"), ["b=x"], ["b"], False, COMMAS).text["b"]
    with pytest.raises(ValueError, match=r"got '': fill it, .*, or pass --missing mean$"):
        told.number("")
    told = Inputs(Path("a.csv"), ["b=x"], ["b"], False, Dialect()).text["b"]
    with pytest.raises(ValueError, match=r"got '': fill it, or leave the row out$"):
        told.number("")


@pytest.mark.parametrize("dtype", [int, float, object])
@pytest.mark.parametrize("codes", [["10115", "20095"], ["01307", "20095"], ["1307", "20095"]])
def test_codes_that_a_frame_has_as_numbers(dtype, codes):
    """Zeros before them are lost; what the message advises brings them back."""
    pandas = pytest.importorskip("pandas", reason="its columns may have any values")
    net = bpx.Network([2, 2], seed=0)
    net.columns = [f"zip={code}" for code in codes]
    x = pandas.DataFrame({"zip": pandas.Series(map(int, codes)).astype(dtype)})
    with pytest.raises(ValueError, match=r"column 'zip': expected text.* makes text") as refused:
        net.predict(x)
    code = str(refused.value).rpartition(": ")[2].removesuffix(" makes text of it")
    better = x.assign(zip=eval(code, {"x": x}))
    assert np.array_equal(net.feedforward(better), net.feedforward(np.eye(2)))


def test_a_number_with_a_fraction_is_no_code():
    pandas = pytest.importorskip("pandas", reason="its columns may have any values")
    net = bpx.Network([2, 2], seed=0)
    net.columns = ["zip=01307", "zip=20095"]
    with pytest.raises(ValueError, match="it was text in training, such as '01307', so read it"):
        net.predict(pandas.DataFrame({"zip": [1307.7, 20095.0]}))
    with pytest.raises(ValueError, match=r"\.astype\(int\)\.astype\(str\)\.str\.zfill\(5\)"):
        net.predict(pandas.DataFrame({"zip": [1307, "20095"]}))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_numbers_that_are_no_codes_of_training(library):
    """They are to be read as text: whatever can be made of numbers may be another one."""
    net = bpx.Network([2, 2], seed=0)
    net.columns = ["zip=01307", "zip=4711"]
    of = pytest.importorskip(library, reason="its frames are tested")
    x = getattr(of, "DataFrame", getattr(of, "table", None))({"zip": [1307, 4711]})
    with pytest.raises(ValueError, match="column 'zip': expected text, one of") as refused:
        net.predict(x)
    assert str(refused.value).endswith(
        ": it was text in training, such as '01307', so read it as text (pandas: read_csv(path, "
        "dtype={'zip': str}))"
    )


def test_values_of_a_frame_that_are_no_text():
    pandas = pytest.importorskip("pandas", reason="its columns may have any values")
    net = bpx.Network([2, 2], seed=0)
    net.columns = ["zip=10115", "zip=20095"]
    frame = pandas.DataFrame({"zip": ["10115", " 20095 "]})
    assert np.array_equal(net.feedforward(frame), net.feedforward(np.eye(2)))
    for wrong in (10115, 10115.0, True, ["10115"]):
        told = pandas.DataFrame({"zip": ["10115", wrong]})
        with pytest.raises(
            ValueError,
            match=r"^x, column 'zip': expected text, one of the cate.* in row 1: .* text",
        ):
            net.predict(told)
    for missing in (None, np.nan, pandas.NA, pandas.NaT, "", "NA", "?"):
        told = pandas.DataFrame({"zip": ["10115", missing]}, dtype=object)
        with pytest.raises(
            ValueError, match=r"column 'zip': .* in row 1: fill in what is missing"
        ):
            net.predict(told)
    frame = pandas.DataFrame({"zip": ["10115"], "id": [1]})
    with pytest.raises(
        ValueError, match=r"expected x to have rows, got one .*: x.to_frame\(\).T$"
    ):
        net.predict(frame.iloc[0])
    assert np.array_equal(net.feedforward(frame.iloc[0].to_frame().T), net.feedforward([[1, 0]]))
    net.columns = ["zip= a", "zip=b"]
    with pytest.raises(ValueError, match=r"^x, column 'zip': expected categories to be differ"):
        net.predict(frame)


def test_a_frame_of_a_class_that_is_made_in_another_way():
    pandas = pytest.importorskip("pandas", reason="its frames are made into others")

    class Measured(pandas.DataFrame):
        _metadata = ("unit",)

        def __init__(self, data, unit):
            super().__init__(data)
            self.unit = unit

    net = bpx.Network([2, 2], seed=0)
    net.columns = ["a=x", "a=y"]
    x = Measured({"a": ["x", "y"]}, unit="m")
    assert np.array_equal(net.feedforward(x), net.feedforward(np.eye(2)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_only_columns_that_are_asked_for_are_looked_at(library):
    frames = pytest.importorskip(library, reason="its frames are tested")
    net = bpx.Network([2, 2], seed=0)
    net.columns = ["a=x", "a=y"]
    columns = {f"c{k}": ["text"] for k in range(50)} | {"a": ["y"]}
    assert np.array_equal(net.feedforward(frames.DataFrame(columns)), net.feedforward([[0, 1]]))


def test_a_column_of_parquet_that_is_no_text(tmp_path):
    for values in ([1, 2], [0.5, 1.5], [True, False], [b"a", b"b"], [["a"], ["b"]]):
        write(tmp_path / "a.parquet", {"a": values, "y": [0, 1]})
        with pytest.raises(TypeError, match=r"a.parquet: column 'a' is of type .*, expected text"):
            bpx.open_data(tmp_path / "a.parquet", target="y", columns=["a=1", "a=2"])


def test_categories_of_pandas_in_open_data(tmp_path):
    """Those of text are called so, and what is advised works; those of numbers are numbers."""
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    frame = pandas.DataFrame(people())
    size = pandas.Series([38, 40] * 60)
    path = tmp_path / "a.parquet"
    frame.assign(city=frame.city.astype("category")).to_parquet(path)
    with pytest.raises(TypeError, match="'city' is of type category, of string, exp") as refused:
        bpx.open_data(path, target="y")
    code = re.search(r"such as all with (\*\(.*?\)), learn it", str(refused.value))[1]
    columns = eval(f"[{code}]", {"frame": pandas.read_parquet(path)})
    assert sorted(columns) == list(NAMES[:3])
    assert bpx.open_data(path, target="y", columns=[*columns, "height"]).shape == (120, 4)
    frame.assign(city=size.astype("category")).to_parquet(path)
    assert bpx.open_data(path, target="y").shape == (120, 2)


@KINDS
def test_a_target_is_no_input(tmp_path, kind):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    write(tmp_path / f"a.{kind}", people())
    with pytest.raises(ValueError, match=r"the input 'city=Bern' is from the column 'city', whi"):
        bpx.open_data(tmp_path / f"a.{kind}", target="city", columns=NAMES)


@KINDS
def test_parts_that_have_an_input_in_another_way(tmp_path, kind):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    paths = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    write(paths[0], {"a": ["x", "y"], "t": [0, 1]})
    write(paths[1], {"a=x": [1.0, 0.0], "a": ["x", "y"], "t": [0, 1]})
    with pytest.raises(ValueError, match="have different columns, such as 'a=x'"):
        bpx.open_data(paths, target="t", columns=["a=x", "a=y"])


@KINDS
@BUDGETS
def test_a_first_cell_that_is_missing_and_lines_that_are_empty(
    tmp_path, in_small_blocks, kind, budget
):
    blocks(kind, budget)
    columns = people(1200)
    columns["city"][:3] = [None] * 3
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--budget"
    if budget == "1 GB":
        bpx_command("train", *given, budget, "--missing", "mean", "--epochs", 0, "--out", "run",
                    cwd=tmp_path)  # fmt: skip
        assert bpx.load(tmp_path / "run" / "model.safetensors").columns == NAMES
    _, err = bpx_command("train", *given, budget, cwd=tmp_path, status=2)
    assert "the name of a category, got ''" in err or "column 'city' has a missing value in" in err
    if kind == "csv":
        columns = people(1200)
        write(tmp_path / "a.csv", columns)
        names, *lines = (tmp_path / "a.csv").read_text().splitlines()
        (tmp_path / "a.csv").write_text("\n".join([names, "", *lines]))
        bpx_command("train", *given, budget, "--epochs", 0, cwd=tmp_path)


@KINDS
def test_what_is_written_as_text_and_is_none(tmp_path, kind):
    """In Parquet, too, where the type says that it is text."""
    blocks(kind, "1 GB")
    given = f"a.{kind}", "--target", "y"
    for cells, told in (
        (["2020-01-31", "2020-02-01"], "got '2020-01-31': write a date as a number, such as the "),
        (["10.5 €", "11.5 €"], "got '10.5 €': write the digits 0 to 9 and a point, without other"),
        (["-", "18", "21", "35"], f"got '-'{MENDED}"),
        (["unknown", "18", "21", "35"], f"got 'unknown'{MENDED}"),
        (["unknown", *(f"{k}.5" for k in range(119))], f"got 'unknown'{MENDED}"),
        (["-", "10.5 €", "11.5 €"], f"got '-'{MENDED}"),
        (
            [f"{k} m²" for k in range(30)],
            "got '0 m²': strip the unit 'm²' from all cells, so that they are numbers; or, if "
            "they are categories, put a letter before each, as in c0 m²\n",
        ),
        (["unknown", *(f"{k}.5e+03" for k in range(119))], f"got 'unknown'{MENDED}"),
    ):
        columns = {"a": (cells * 60)[:120], **people()}
        write(tmp_path / f"a.{kind}", columns)
        _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
        assert told in err
    for words in (
        ["2a", "1", "X", "no"],
        ["2 doors", "4 doors", "5 doors"],
        [f"{k:02}:00" for k in range(24)],
        [f"{k} {street}" for k in range(20) for street in ("Elm St", "High St")],
    ):
        write(tmp_path / f"a.{kind}", {"a": (words * 60)[:120], **people()})
        bpx_command("train", *given, "--epochs", 0, cwd=tmp_path)


def learning(folder, cells, *options, kind="csv", status=2):
    """What is told about a target with these cells."""
    quoted = [f'"{cell}"' if kind == "csv" else cell for cell in (cells * 600)[:1200]]
    write(folder / f"a.{kind}", {"a": np.arange(0, 600, 0.5).tolist(), "y": quoted})
    given = f"a.{kind}", "--target", "y", "--epochs", 0, *options
    return bpx_command("train", *given, cwd=folder, status=status)[1]


DIGITS = ": write the digits 0 to 9 and a point, without other marks, such as 1234.5"
UNIT = ": strip the unit 'm²' from all cells, so that they are numbers"
WORDS = ", and most of the others are numbers: mend such cells, or leave the lines out"


@KINDS
@BUDGETS
@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["296 000 €", "9 €"], f"'296 000 €'{DIGITS}"),
        (["$100,388", "$2"], f"'$100,388'{DIGITS}"),
        (["296.044,50", "1.044,50"], f"'1.044,50'{DIGITS}"),
        ([f"{k} m²" for k in range(100, 140)], f"'100 m²'{UNIT}"),
        (["unknown", "12", "13"], f"'unknown'{WORDS}"),
        (
            ["2020-01-31", "2020-02-01"],
            "'2020-01-31': write a date as a number, such as the days since a first",
        ),
    ],
    ids=["euros", "dollars", "points and commas", "units", "a word", "dates"],
)
def test_targets_that_are_numbers_in_other_marks(
    tmp_path, in_small_blocks, kind, budget, cells, told
):
    blocks(kind, budget)
    begin = "bpx: expected numbers, or names of classes, in the targets' column 'y', got "
    end = "; if these are names, pass --task classification\n"
    for task in ((), ("--task", "regression")):
        err = learning(tmp_path, cells, "--budget", budget, *task, kind=kind)
        assert err.startswith(begin + told)
        assert err.endswith(end)
    named = "--budget", budget, "--task", "classification"
    learning(tmp_path, cells, *named, kind=kind, status=0)


def test_cells_of_a_target_have_advice_of_their_own(tmp_path):
    """Not to leave the column out, nor to fill it."""
    rows = [f"{k},{k}.5" for k in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *rows, "1,T"]))
    _, err = bpx_command("train", "a.csv", cwd=tmp_path, status=2)
    assert err == (
        "bpx: a.csv, line 62, column 'y': expected a number, got 'T': mend the cell, or leave the "
        "line out\n"
    )
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *rows, "1,?", "2,?"]))
    _, err = bpx_command("train", "a.csv", cwd=tmp_path, status=2)
    assert err.endswith(
        "(pandas: frame.dropna(subset=['y']) of what is read with na_values=['?'])\n"
    )


def test_numbers_as_text_with_exponents_are_numbers(tmp_path):
    blocks("parquet", "1 GB")
    learning(tmp_path, [f"{k}e5" for k in range(40)], kind="parquet", status=0)
    many = learning(tmp_path, [f"{k}e5" for k in range(700)], kind="parquet")
    assert many.endswith(
        "got 700 different texts, such as '0e5': name another column with --target; those of 'y' "
        "are numbers, and pandas.to_numeric(frame['y'], errors='coerce') makes a column of "
        "numbers\n"
    )


def test_cells_of_x_that_are_not_finite_in_blocks(tmp_path, in_small_blocks):
    blocks("csv", "25 kB")
    columns = people(1200)
    columns["height"][::7] = ["inf"] * len(columns["height"][::7])
    write(tmp_path / "a.csv", columns)
    given = "a.csv", "--target", "y", "--budget", "25 kB"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert err == (
        "bpx: a.csv: NaN or infinity in x, in column 'height': fill in what is missing, or leave "
        "those rows out\n"
    )


def test_no_option_says_how_a_parquet_writes_numbers(tmp_path):
    blocks("parquet", "1 GB")
    write(tmp_path / "a.parquet", {"a": ["0,126", "0,25"] * 60, **people()})
    _, err = bpx_command("train", "a.parquet", "--target", "y", cwd=tmp_path, status=2)
    assert "got '0,126': write the digits 0 to 9 and a point, without other marks" in err
    assert "--decimal" not in err


def test_names_of_classes_beside_numbers(tmp_path):
    """In a file of their own they would be numbered as they come."""
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *(f"{k},{k % 2}" for k in range(60))]))
    (tmp_path / "b.csv").write_text("\n".join(["a,y", "1,odd", "2,even", "3,odd"]))
    for option in ("--test", "--validation"):
        _, err = bpx_command("train", "a.csv", option, "b.csv", cwd=tmp_path, status=2)
        assert err.splitlines()[-1] == (
            "bpx: b.csv: the targets are names of classes, such as 'even', and those of a.csv are "
            "not: number them 0, 1, 2, ... as in training"
        )


def test_numbers_as_text_beside_numbers(tmp_path):
    pandas = pytest.importorskip("pandas", reason="it writes .parquet")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    x, y = np.arange(40.0), np.arange(40) + 0.25
    pandas.DataFrame({"a": x, "y": y}).to_parquet(tmp_path / "a.parquet")
    pandas.DataFrame({"a": x, "y": y.astype(str)}).to_parquet(tmp_path / "b.parquet")
    given = "a.parquet", "--target", "y", "--test", "b.parquet"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert "those of a.parquet are not; those of 'y' are numbers, and pandas.to_numeric(" in err


@pytest.mark.parametrize(
    "names", [["2 doors", "4 doors"], ["1st", "2nd", "none so far"], ["a", "b", "1"]]
)
def test_targets_that_are_names_with_numbers(tmp_path, names):
    learning(tmp_path, names, status=0)


def test_so_many_texts_may_be_numbers(tmp_path):
    rows = [f"{k},{k} $" for k in range(10_002)]
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *rows]))
    _, err = bpx_command("train", "a.csv", cwd=tmp_path, status=2)
    assert "more than 10,000 different texts, such as '10000 $': take another column, or of" in err


def test_a_column_of_text_without_any(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    write(tmp_path / "a.parquet", {"a": pyarrow.array([None] * 120, "string"), **people()})
    given = "train", "a.parquet", "--target", "y"
    _, err = bpx_command(*given, cwd=tmp_path, status=2)
    assert "column 'a' has a missing value in row 0: fill in what is missing" in err
    _, err = bpx_command(*given, "--missing", "mean", cwd=tmp_path, status=2)
    told = "a.parquet: column 'a' has no value in any row: leave it out (bpx train --ignore a)"
    assert err == f"bpx: {told}\n"


def test_numbers_that_a_file_has_as_text(tmp_path):
    write(tmp_path / "a.parquet", {"zip": ["10115", "20095"] * 60, **people()})
    options = "a.parquet", "--target", "y", "--epochs", 0, "--out", "run"
    bpx_command("train", *options, cwd=tmp_path)
    found = bpx.load(tmp_path / "run" / "model.safetensors").columns
    assert found == ("zip=10115", "zip=20095", *NAMES)
    total = [f"{k}.5" for k in range(119)] + [" "]
    write(tmp_path / "a.parquet", {"total": total, **people()})
    given = "a.parquet", "--target", "y", "--missing", "mean"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert err.endswith(
        "leave it out (bpx train --ignore total); those of 'total' are numbers, and "
        "pandas.to_numeric(frame['total'], errors='coerce') makes a column of numbers\n"
    )


@KINDS
@pytest.mark.parametrize(("categories", "fits"), [(60, True), (61, False)])
def test_how_many_categories_there_may_be(tmp_path, kind, categories, fits):
    blocks(kind, "1 GB")
    names = [f"n{k % categories}" for k in range(120)]
    write(tmp_path / f"a.{kind}", {"name": names, **people()})
    given = f"a.{kind}", "--target", "y", "--epochs", 0
    _, err = bpx_command("train", *given, cwd=tmp_path, status=0 if fits else 2)
    assert ("got 61 in 'name' (120 rows)" in err) is not fits


def test_the_first_text_may_come_late(tmp_path):
    columns = people(1100)
    columns["city"][:999] = [None] * 999
    write(tmp_path / "a.csv", columns)
    options = "a.csv", "--missing", "mean", "--epochs", 0
    bpx_command("train", *options, cwd=tmp_path)
    columns["city"][999] = None
    write(tmp_path / "a.csv", columns)
    _, err = bpx_command("train", *options, cwd=tmp_path, status=2)
    assert "line 1002, column 'city': expected a number, got" in err


@KINDS
def test_an_input_with_the_name_of_a_column(tmp_path, kind):
    blocks(kind, "1 GB")
    columns = {"a": ["b", "c"] * 60, "a=b": [1.5, 2.5] * 60, **people()}
    write(tmp_path / f"a.{kind}", columns)
    _, err = bpx_command("train", f"a.{kind}", "--target", "y", cwd=tmp_path, status=2)
    assert (
        f"a.{kind} has a column 'a=b', as an input of the column 'a' would be called: rename one "
        "of them, or leave it out (bpx train --ignore a)" in err
    )


def test_a_table_of_numbers_may_be_as_large_as_it_is(tmp_path):
    """Only what its text adds is held against the budget."""
    numbers = {f"n{k}": [1.5] * 400 for k in range(30)}
    write(tmp_path / "a.csv", {"kind": ["a", "b"] * 200, **numbers, "y": [0, 1] * 200})
    bpx_command("train", "a.csv", "--budget", "100 kB", "--epochs", 0, cwd=tmp_path)


def test_missing_cells_of_images(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4, 4)), np.arange(40) % 2
    x[3, 1, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=y)
    options = "--missing", "mean", "--epochs", 1, "--out", "run"
    bpx_command("train", "a.npz", *options, cwd=tmp_path)
    flat, _ = bpx_command("evaluate", "run", "a.npz", "--missing", "mean", cwd=tmp_path)
    np.savez(tmp_path / "b.npz", x=x.reshape(40, 16), y=y)
    assert bpx_command("evaluate", "run", "b.npz", "--missing", "mean", cwd=tmp_path)[0] == flat
    np.savez(tmp_path / "c.npz", x=x.reshape(40, 16)[:, :10], y=y)
    _, err = bpx_command("evaluate", "run", "c.npz", "--missing", "mean", cwd=tmp_path, status=2)
    assert "expected x of shape (m, 16), got (40, 10)" in err


@pytest.mark.parametrize(
    "first", [bpx.layers.Rescale(1 / 255), bpx.layers.Rescale([1.0, 2.0], 0.5), None]
)
def test_a_network_that_scales_without_means(tmp_path, first):
    np.savez(tmp_path / "a.npz", x=[[1.0, np.nan]] * 4, y=[0, 1] * 2)
    layers = [bpx.layers.Input(2), *([first] if first else []), bpx.layers.Dense(2, "softmax")]
    bpx.Network(layers, seed=0).save(tmp_path / "net.safetensors")
    _, err = bpx_command(
        "predict", "net.safetensors", "a.npz", "--missing", "mean", cwd=tmp_path, status=2
    )
    assert "takes the means that a network standardizes by, as bpx train keeps them, and" in err


def test_missing_is_not_for_data_of_bpx(tmp_path):
    bpx.Network([64, 10], output="softmax", seed=0).save(tmp_path / "net.safetensors")
    for command in ("evaluate", "predict"):
        _, err = bpx_command(
            command, "net.safetensors", "digits", "--missing", "mean", cwd=tmp_path, status=2
        )
        assert "--missing is for files; no cell is missing in digits" in err


def test_a_text_that_many_rows_share_is_there_once(tmp_path):
    """A file of a few kilobytes is not to take gigabytes."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    n = 4096
    city = arrow.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["x" * 150_000])
    table = arrow.table({"city": city, "h": np.zeros(n), "y": np.zeros(n, int)})
    parquet.write_table(table, tmp_path / "a.parquet", store_schema=False)
    data = bpx.open_data(tmp_path / "a.parquet", target="y", columns=["city=a", "city=b", "h"])
    before = arrow.default_memory_pool().max_memory()
    with pytest.raises(ValueError, match=r"column 'city': expected names of categories, got a "):
        data.read()
    assert arrow.default_memory_pool().max_memory() - before < 100 << 20


@KINDS
def test_rows_without_a_target(tmp_path, monkeypatch, kind):
    blocks(kind, "1 GB")
    monkeypatch.setattr(_parquet, "BATCH", 50)
    columns = people()
    for row in (60, 65, 99):
        columns["y"][row] = None
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--missing", "mean"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    where, rows = ("a.csv, line 62", "120") if kind == "csv" else ("a.parquet", "first 100")
    assert err == (
        f"bpx: {where}: 3 of the {rows} rows have no value in column 'y': leave these rows out, "
        "as --missing mean fills x alone (pandas: frame.dropna(subset=['y']))\n"
    )


def test_numbers_that_are_codes(tmp_path):
    columns = {"zip": ["10115", None, "01307"] * 40, "month": ["01", "12"] * 60}
    columns |= {"wide": ["0130", "12345"] * 60, "part": ["007.5", "010.0"] * 60, **people()}
    write(tmp_path / "a.csv", columns | {"code": ["0123", "4567"] * 60, "y": columns["y"]})
    given = "a.csv", "--target", "y", "--ignore", "code", "--missing", "mean", "--epochs", 0
    _, err = bpx_command("train", *given, "--out", "run", cwd=tmp_path)
    (told,) = [line for line in err.splitlines() if "codes" in line]
    assert told == (
        "bpx: note: column 'zip' has codes, it seems, such as 01307, which are learned as "
        "quantities: bpx train --ignore zip leaves it out, and a letter before each, as in "
        "c01307, or a .parquet that has them as text, makes each an input"
    )
    _, err = bpx_command("evaluate", "run", "a.csv", "--missing", "mean", cwd=tmp_path)
    assert "codes" not in err
    listed = *given[:3], "--columns", "zip,height", *given[5:]
    _, err = bpx_command("train", *listed, cwd=tmp_path)
    assert "learned as quantities: --columns without zip leaves it out, and a letter" in err


def test_codes_in_a_file_that_is_read_in_blocks(tmp_path, in_small_blocks):
    blocks("csv", "25 kB")
    write(tmp_path / "a.csv", {"zip": ["10115", "01307"] * 600, **people(1200)})
    given = "a.csv", "--target", "y", "--budget", "25 kB", "--epochs", 0
    _, err = bpx_command("train", *given, cwd=tmp_path)
    assert "note: column 'zip' has codes, it seems, such as 01307, which are learned as " in err


@BUDGETS
def test_codes_of_either_kind_of_file(tmp_path, in_small_blocks, budget):
    """A .csv has no types, and a .parquet has: a note says what they were taken for."""
    blocks("parquet", budget)
    columns = {"zip": ["10115", "01307"] * 600, **people(1200)}
    told = {
        "csv": "column 'zip' has codes, it seems, such as 01307, which are learned as quantities",
        "parquet": "column 'zip' has numbers as text, such as 01307, each of which is an input: "
        "pandas.to_numeric(frame['zip'], errors='coerce') makes a column of numbers, if they are "
        "quantities\n",
    }
    for kind, words in told.items():
        write(tmp_path / f"a.{kind}", columns)
        given = f"a.{kind}", "--target", "y", "--budget", budget, "--epochs", 1, "--out", kind
        _, err = bpx_command("train", *given, cwd=tmp_path)
        assert f"bpx: note: {words}" in err
        assert len([line for line in err.splitlines() if "'zip' has" in line]) == 1
    bpx_command("evaluate", "parquet", "a.csv", cwd=tmp_path)
    _, err = bpx_command(
        "evaluate", "csv", "a.parquet", "--budget", budget, cwd=tmp_path, status=2
    )
    assert "column 'zip' is of type string, expected numbers, as in training, where it may" in err
    assert err.endswith(
        "pandas.to_numeric(frame['zip'], errors='coerce') makes a column of numbers\n"
    )
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    frame["zip"] = pandas.to_numeric(frame["zip"], errors="coerce")
    frame.to_parquet(tmp_path / "b.parquet", row_group_size=10)
    bpx_command("evaluate", "csv", "b.parquet", cwd=tmp_path)


@KINDS
@BUDGETS
def test_all_columns_that_are_no_inputs_are_named_at_once(tmp_path, in_small_blocks, kind, budget):
    blocks(kind, budget)
    days = [datetime.date(2020, 1, 1 + k % 28) for k in range(1200)]
    columns = {"name": [f"n {k}" for k in range(1200)], "day": days, **people(1200), "end": days}
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--budget", budget
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    named, ignored = "'name', 'end' be inputs as they are", "name,day,end"
    if kind == "csv" and budget != "1 GB":  # the texts are counted once the rest fits
        named, ignored = "'end' be an input as it is", "day,end"
    assert err.endswith(
        f"; nor can {named}: bpx train --ignore {ignored} leaves all of them out\n"
    )
    assert "column 'day'" in err
    _, err = bpx_command("train", *given, "--ignore", "day,name", cwd=tmp_path, status=2)
    assert "column 'end'" in err
    assert "nor can" not in err
    write(tmp_path / f"a.{kind}", {"a, b": days, **columns})
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    if kind == "parquet":
        assert err.endswith("; nor can 'name', 'day', 'end' be inputs as they are\n")


@KINDS
def test_columns_of_text_that_are_no_inputs_are_named_at_once(tmp_path, kind):
    """As those of the Titanic: names, tickets of which most are numbers, and missing cabins."""
    blocks(kind, "1 GB")
    columns = {"Name": [f"n {k}" for k in range(120)], **people()}
    columns["Ticket"] = ["A/5 1", *(str(k) for k in range(119))]
    columns["Cabin"] = [None if k % 2 else f"C{k // 3}" for k in range(1, 121)]
    columns["Deck"] = [None, *"ABC"] * 30
    write(tmp_path / f"a.{kind}", columns)
    given = f"a.{kind}", "--target", "y", "--epochs", 1
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert err.startswith(f"bpx: a.{kind}")
    assert "column 'Cabin'" in err
    assert err.endswith(
        ", or pass --missing mean; nor can 'Name', 'Ticket' be inputs as they are: bpx train "
        "--ignore Name,Ticket leaves all of them out\n"
    )
    given += ("--missing", "mean")
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert err.endswith(
        "; nor can 'Name' be an input as it is: bpx train --ignore Name,Ticket leaves all of them "
        "out\n"
    )
    bpx_command("train", *given, "--ignore", "Name,Ticket", cwd=tmp_path)


@KINDS
def test_many_columns_that_are_no_inputs(tmp_path, kind):
    """As of a survey: the whole of the command that leaves them out is shown."""
    blocks(kind, "1 GB")
    names = [f"survey_question_{k:02d}_text" for k in range(20)]
    answers = {name: [f"answer {row}" for row in range(120)] for name in names}
    answers[names[0]][0] = "A/5 1"
    answers[names[0]][1:] = [str(row) for row in range(119)]
    write(tmp_path / f"a.{kind}", answers | people())
    given = f"a.{kind}", "--target", "y", "--epochs", 1
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    shown = ", ".join(map(repr, names[1:6]))
    told = f"; nor can {shown}, and 14 more be inputs as they are: bpx train --ignore "
    assert err.endswith(f"{told}{','.join(names)} leaves all of them out\n")
    bpx_command("train", *given, "--ignore", ",".join(names), cwd=tmp_path)


def test_a_single_cell_that_is_no_number_is_told_alone(tmp_path):
    odd = {"a": ["1", "many"] * 60, "day": [None] * 9 + ["2020-01-31"] * 111}
    write(tmp_path / "a.csv", odd | people())
    given = "a.csv", "--target", "y", "--missing", "mean"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert "line 3, column 'a': expected a number, got 'many'; a column has numbers in all" in err
    assert "nor can" not in err
