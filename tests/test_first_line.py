"""The first line of a CSV file, which has the columns' names, and a row if they were forgotten."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it: pip install typer")

from test_cli import bpx_command

import bpx
from bpx.cli import tables
from bpx.data.readers import Features

ROWS = [f"{k}.5,{k + 1},{kind}" for k, kind in enumerate(["oak", "elm"] * 10)]
MESSAGE = r"expected the columns' names in the first line, got {}, as in a row: put a line of"


@pytest.fixture(params=["in memory", "in blocks"])
def read(request, tmp_path):
    """The names of x in a .csv file with these lines."""

    def read(lines, target, columns=None):
        path = tmp_path / "a.csv"
        path.write_text("\n".join(lines))
        if request.param == "in memory":
            return tables.read(path, target, features=Features(columns)).names.columns
        return bpx.open_data(path, target=target, columns=columns).columns

    if request.param == "in blocks":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    return read


@pytest.mark.parametrize(
    ("lines", "target", "shown"),
    [
        (["5.1,3.5,0", "4.9,3.0,1"], "0", "'5.1', '3.5', '0'"),
        (["5.1,NA,-inf,0", "4.9,3.0,1,1"], "0", "'5.1', 'NA', '-inf', ..."),
        (["0,0,3", "0,1,4"], "3", "'0', '0', '3'"),
        ([",0,1", "0,5.1,3.5"], "1", "'', '0', '1'"),
        (["2019,2020", "5.1,3.5"], "2020", "'2019', '2020'"),
        (ROWS, "oak", "'0.5', '1', 'oak'"),
    ],
)
def test_a_row_is_not_taken_for_names(read, lines, target, shown):
    with pytest.raises(ValueError, match=MESSAGE.format(shown)):
        read(lines, target)


@pytest.mark.parametrize("target", ["2", "kind"])
def test_a_row_with_a_class_has_no_such_column(read, target):
    with pytest.raises(
        ValueError, match=r"Known: .* \(if its first line is a row, put a line of n"
    ):
        read(ROWS, target)
    with pytest.raises(ValueError, match=r"Known: 0, next, year$"):
        read(["year,next,0", "1,2,3"], target)


def test_numbers_that_are_names(read):
    """Beside a name that is none of the classes, or where they are asked for."""
    assert read(["0,1,kind", *ROWS], "kind") == ("0", "1")
    assert read(["2019,2020,next", "1,2,3"], "next") == ("2019", "2020")
    assert read(["2019,2020,2021", "1,2,3"], "2021", ["2020"]) == ("2020",)
    assert read(["1_0,b", "1,2"], "b") == ("1_0",)
    with pytest.raises(ValueError, match=MESSAGE.format("'2019', '2020', '2021'")):
        read(["2019,2020,2021", "1,2,3"], "2021", ["a"])


def test_the_command_line_refuses_a_row(tmp_path):
    net = bpx.Network([2, 2], output="softmax", seed=0)
    net.classes = "elm", "oak"
    net.save(tmp_path / "net.safetensors")
    (tmp_path / "a.csv").write_text("\n".join(ROWS))
    (tmp_path / "x.csv").write_text("\n".join(row.rpartition(",")[0] for row in ROWS))
    for arguments in (
        ("train", "a.csv"),
        ("train", "x.csv"),
        ("evaluate", "net.safetensors", "a.csv"),
        ("predict", "net.safetensors", "x.csv"),
    ):
        _, err = bpx_command(*arguments, cwd=tmp_path, status=2)
        assert "as in a row: put a line of names above it" in err
        assert len(err.splitlines()) == 1
    net.columns = "0.5", "1"  # as if it were trained on them
    net.save(tmp_path / "net.safetensors")
    printed, _ = bpx_command("predict", "net.safetensors", "x.csv", cwd=tmp_path)
    assert len(printed.splitlines()) == len(ROWS) - 1


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \r\n\r\n"])
def test_an_empty_file(read, tmp_path, content):
    with pytest.raises(ValueError, match=r"a\.csv is empty, expected a line of names and rows"):
        read([content], "y")
    (tmp_path / "a.csv").write_text(content)
    bpx.Network([1, 1], seed=0).save(tmp_path / "net.safetensors")
    for arguments in (
        ("train", "a.csv"),
        ("train", "a.csv", "--ignore", "id"),
        ("train", "a.csv", "--columns", "x"),
        ("evaluate", "net.safetensors", "a.csv"),
        ("predict", "net.safetensors", "a.csv"),
    ):
        _, err = bpx_command(*arguments, cwd=tmp_path, status=2)
        assert err == "bpx: a.csv is empty, expected a line of names and rows below it\n"


def test_empty_lines_above_the_names(read):
    assert read(["", " ,  , ", "a,b,y", "1,2,3"], "y") == ("a", "b")


def test_numbers_may_be_names_in_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"0": np.zeros(3), "1": np.ones(3)}), tmp_path / "a.parquet")
    assert bpx.open_data(tmp_path / "a.parquet", target="1").columns == ("0",)
