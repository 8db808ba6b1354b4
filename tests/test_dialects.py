"""What is between the cells of a CSV file, and its decimal mark."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it: pip install typer")

from test_cli import bpx_command

import bpx
from bpx import persistence
from bpx.cli import tables
from bpx.cli.dialect import DialectOptions
from bpx.data.readers import Dialect, Features, _csv

NAMES = ["a", 'b;"c", d', "e|f\tg", "kind"]
DIALECTS = [(",", "."), (";", "."), (";", ","), ("\t", ","), ("|", "."), (" ", "."), (",", ",")]


def written(path, table, separator, decimal, end="\n", encoding="utf-8"):
    """Write rows of numbers and texts, the first of which has the names."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    for row in table:
        writer.writerow(
            [cell if isinstance(cell, str) else str(cell).replace(".", decimal) for cell in row]
        )
    path.write_text(text.getvalue(), encoding=encoding, newline="")


def in_memory(path, dialect, columns=None, **options):
    options |= {"features": Features(columns), "dialect": DialectOptions(*dialect)}
    x, y, names = tables.read(path, "kind", **options)
    return x, y, *names


def in_blocks(path, dialect, **options):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    separator, decimal = dialect
    data = bpx.open_data(path, target="kind", separator=separator, decimal=decimal, **options)
    return data.read(True), data.y, *data.names


BOTH = pytest.mark.parametrize("read", [in_memory, in_blocks])


@BOTH
@pytest.mark.parametrize("dialect", DIALECTS, ids=repr)
@pytest.mark.parametrize(("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_the_same_table_however_it_is_written(
    tmp_path, rng, monkeypatch, read, dialect, end, encoding
):
    monkeypatch.setattr(_csv, "LINES", 300)
    x = rng.normal(size=(100, 3)).round(4)
    kinds = [f'{("oak", "elm")[k % 2]}, "{dialect[0]}"{end * (k % 3 == 0)}' for k in range(100)]
    rows = [[*row, kind] for row, kind in zip(x.tolist(), kinds, strict=True)]
    path = tmp_path / "a.csv"
    written(path, [NAMES, *rows], *dialect, end, encoding)
    found, y, columns, targets, classes = read(path, dialect)
    assert np.array_equal(found, x)
    assert [classes[label] for label in y] == [kind.strip() for kind in kinds]
    assert (columns, targets) == (tuple(NAMES[:3]), ("kind",))
    some = read(path, dialect, columns=NAMES[2:0:-1])
    assert np.array_equal(some[0], x[:, 2:0:-1])


@BOTH
@pytest.mark.parametrize("dialect", [(";", ","), (";", "."), (",", ",")], ids=repr)
def test_what_a_number_is(tmp_path, read, dialect):
    """The other mark is part of none."""
    path, mark = tmp_path / "a.csv", dialect[1]
    other = ",."[mark == ","]
    for cell in ("1.5", "-.5", "+2.", " 1.5 ", "1.5e3", "7"):
        written(path, [["a", "kind"], [cell.replace(".", mark), 1], [0, 2]], *dialect)
        assert read(path, dialect)[0][0, 0] == float(cell)
    for cell in ("1?5", "1.2?3", "1?2.3", "1.2.3", "1_0.5", "-.", ".", "1.-5"):
        cell = cell.replace(".", mark).replace("?", other)
        written(path, [["a", "kind"], [0, 1], [cell, 2]], *dialect)
        with pytest.raises((ValueError, OSError), match=r"a\.csv"):
            read(path, dialect)


@BOTH
def test_a_row_is_not_taken_for_names(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_text("5,1;3,5;0\n" * 5)
    with pytest.raises(ValueError, match=r"in the first line, got '5,1', '3,5', '0', as in a row"):
        read(path, (";", ","))


@BOTH
def test_numbers_with_the_other_mark_are_no_names_of_classes(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_text("a;kind\n1;3,5\n2;1,5\n" * 5)
    with pytest.raises(ValueError, match=r"3,5.*decimal.* if its comma is the decimal mark"):
        read(path, (";", "."))
    path.write_text("a;kind\n1;2.3\n2;2.4\n")
    with pytest.raises(ValueError, match=r"2\.3.*decimal.* if its point is the decimal mark"):
        read(path, (";", ","))
    path.write_text("a;kind\n1;2,3\n2;2,4\n")
    assert read(path, (";", "."), classes=["2,3", "2,4"])[-1] == ("2,3", "2,4")


OTHERS = [
    ("a;b;kind\n1;2;3\n", ";", "';'"),
    ("a\tb\tkind\n1\t2\t3\n", "'\\t'", "tab"),
    ("a|b, c|kind\n1|2|3\n", "|", "'|'"),
]


@pytest.mark.parametrize(("content", "mark", "typed"), OTHERS)
def test_cells_that_are_separated_by_another_mark(tmp_path, content, mark, typed):
    path, mark = tmp_path / "a.csv", mark.strip("'")
    path.write_text(content * 10)
    told = f"(its cells look separated by '{mark}': --separator {typed})"
    for target in ((), ("--target", "kind")):
        _, err = bpx_command("train", "a.csv", *target, cwd=tmp_path, status=2)
        assert told in err
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    for target in ("kind", ()):
        with pytest.raises(ValueError) as error:
            bpx.open_data(path, target=target)
        assert f"(its cells look separated by '{mark}': separator='{mark}')" in str(error.value)


def test_marks_in_names_are_no_separators(tmp_path):
    (tmp_path / "a.csv").write_text('"a;b","c;d",e\n1,1,2\nx,1,2\n')
    (tmp_path / "b.csv").write_text("a, b;c, d;e, f\n1;1;2\nx;1;2\n")
    (tmp_path / "c.csv").write_text("a,b\nx,2\n")
    for arguments in (("a.csv",), ("b.csv", "--separator", ";")):
        _, err = bpx_command("train", *arguments, cwd=tmp_path, status=2)
        assert "expected a number, got 'x'" in err
        assert "separated" not in err
    _, err = bpx_command("train", "c.csv", "--separator", ";", cwd=tmp_path, status=2)
    assert "(its cells look separated by ',': --separator ,)" in err


@pytest.mark.parametrize("content", ['a,y\n"3,5","1"\n', "a;y\n3,5;1\n", "a;y\n1;3,5\n"])
def test_a_decimal_comma(tmp_path, content):
    separator = content[1]
    (tmp_path / "a.csv").write_text(content * 10)
    for budget in ("1 GB", "20"):
        if budget == "20":
            pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        given = "a.csv", "--separator", separator, "--budget", budget, "--target", "y"
        _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
        assert re.search("3,5'.*: pass --decimal , if its comma is the decimal mark", err)
    with pytest.raises(ValueError, match=r"3,5'.*: pass decimal=',' if its comma is the decimal"):
        bpx.open_data(tmp_path / "a.csv", target="y", separator=separator)


@BOTH
@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("1,234", ", or write the digits 0 to 9 and a point, without other marks, such as 1234.5"),
        ("1,234.5", ": write the digits 0 to 9 and a point, without other marks, such as 1234.5"),
        ("31.1.2020", ": write a date as a number, such as the days since a first one"),
        ("?", ": fill it, or leave the line out"),
        ("cat", "{text}({columns})"),
    ],
)
def test_both_readers_give_the_same_advice(tmp_path, read, row, cell, advice):
    rows = [["a", "b", "kind"], *[[k, k, k] for k in range(10)]]
    rows[row + 1][1] = cell
    written(tmp_path / "a.csv", rows, ",", ".")
    with pytest.raises((ValueError, OSError)) as error:
        read(tmp_path / "a.csv", (",", "."))
    words = {
        "text": "; a column has numbers in all rows, or text, and what it had in training: mend "
        "the cell, or leave out the line, or the column ",
        "columns": "bpx train --ignore b",
    }
    if read is in_blocks:
        words = {
            "text": "; for text name the values that are to be inputs of 1 and 0 in columns=, "
            "such as all with *(f'b={v}' for v in frame['b'].dropna().unique()), learn it "
            "(target='b'), or leave it out ",
            "columns": "columns=[...] without 'b'",
        }
    assert advice.format(**words) in str(error.value)


@pytest.mark.parametrize("budget", ["1 GB", "15 kB"], ids=["in memory", "in blocks"])
@pytest.mark.parametrize("separator", [";", "tab", "\t", r"\t"])
def test_the_command_line(tmp_path, rng, monkeypatch, budget, separator):
    if budget != "1 GB":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        monkeypatch.setattr(_csv, "LINES", 300)
    x = rng.normal(size=(500, 2)).round(9)
    table = [["a", "b, c", "y"], *np.c_[x, (x @ [1.0, -2.0]).round(9)].tolist()]
    written(tmp_path / "a.csv", table, ",", ".")
    written(tmp_path / "b.csv", table, ";" if separator == ";" else "\t", ",")
    own = "--separator", separator, "--decimal", ","
    options = "--target", "y", "--budget", budget, "--epochs", 1, "--out"
    bpx_command("train", "a.csv", *options, "a", cwd=tmp_path)
    bpx_command("train", "b.csv", *options, "b", *own, cwd=tmp_path)
    models = [tmp_path / run / "model.safetensors" for run in "ab"]
    (theirs, header), (ours, other) = map(persistence.read, models)
    assert header == other
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    for command in ("evaluate", "predict"):
        expected = bpx_command(command, "a", "a.csv", "--budget", budget, cwd=tmp_path)
        found = bpx_command(command, "a", "b.csv", *own, "--budget", budget, cwd=tmp_path)
        assert found == expected
    for run in "ab":  # as if they had been cut short at the beginning
        (tmp_path / run / "checkpoints").mkdir()
        (tmp_path / run / "model.safetensors").unlink()
        bpx_command("train", "--resume", run, cwd=tmp_path)
    assert np.array_equal(*(bpx.load(model).parameters for model in models))


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), ("tab", "."), (",", ",")])
def test_predictions_are_written_in_the_same_way(tmp_path, rng, separator, decimal):
    x, mark = rng.normal(size=(5, 2)).round(3), "\t" if separator == "tab" else separator
    written(tmp_path / "x.csv", [["a", "b"], *x.tolist()], mark, decimal)
    values = bpx.Network([2, 2], output="identity", seed=0)
    values.columns, values.target_columns = ("a", "b"), ("c", "d;\t,e")
    labels = bpx.Network([2, 2], output="softmax", seed=0)
    labels.classes = "v1.5", "a;\t,b"
    own = "--separator", separator, "--decimal", decimal
    for net, names in ((values, values.target_columns), (labels, ("label",))):
        net.save(tmp_path / "net.safetensors")
        given = "net.safetensors", "x.csv", *own, "--out", "p.csv", "--overwrite"
        bpx_command("predict", *given, cwd=tmp_path)
        with (tmp_path / "p.csv").open(newline="") as file:
            first, *rows = csv.reader(file, delimiter=mark)
        assert tuple(first) == names
        if net is labels:
            assert [name for (name,) in rows] == net.predict(x, names=True).tolist()
        else:
            found = np.array([[Dialect(mark, decimal).number(cell) for cell in r] for r in rows])
            assert np.array_equal(found.astype(np.float32), net(x))


SEPARATOR = (
    'expected the separator to be one character, such as ",", ";", "|" or a tab, and no letter, '
    "digit, point, sign, quote or end of a line, got "
)
WRONG = [
    *[({"separator": mark}, SEPARATOR) for mark in ("", ";;", "a", "1", '"', "'", "-", "\n", "€")],
    *[({"separator": mark}, SEPARATOR) for mark in (".", "\0", 5)],
    *[({"decimal": mark}, 'expected the decimal mark to be "." or ","') for mark in (";", "", 5)],
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=repr)
def test_marks_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError) as error:
        bpx.open_data("none.csv", **options)
    assert str(error.value).startswith(message)
    assert repr(*options.values()) in str(error.value)


def test_marks_are_for_csv(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(20, 2), y=np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"separator= and decimal= are for a .csv file, got .npz"):
        bpx.open_data(tmp_path / "a.npz", decimal=",")
    with pytest.raises(ValueError, match=r"are for a .csv file, got ndarray"):
        bpx.open_data(np.eye(3), separator=";")
    bpx.Network([2, 2], seed=0).save(tmp_path / "net.safetensors")
    for command in (("train",), ("evaluate", "net.safetensors"), ("predict", "net.safetensors")):
        given = *command, "a.npz", "--separator", ";"
        _, err = bpx_command(*given, cwd=tmp_path, status=2)
        assert err == "bpx: --separator and --decimal are for a .csv file, got a.npz\n"
    _, err = bpx_command("train", "a.csv", "--separator", ";;", cwd=tmp_path, status=2)
    assert SEPARATOR in err


def test_a_dialect_says_how_it_is_passed():
    assert Dialect().argument("separator", "\t") == r"separator='\t'"
    assert DialectOptions().argument("separator", "\t") == "--separator tab"
    assert DialectOptions().argument("separator", "|") == "--separator '|'"
