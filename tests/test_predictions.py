"""The line of names in a .csv file of predictions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it: pip install typer")

from test_cli import bpx_command

import bpx
from bpx.cli import tables
from bpx.cli.predictions import headings


def _net(outputs, task, k=2, targets=None, classes=None):
    net = bpx.Network([1, k], output=outputs, task=task, seed=0)
    net.target_columns, net.classes = targets, classes
    return net


@pytest.mark.parametrize(
    ("net", "of_predictions", "of_outputs"),
    [
        (_net("softmax", None), ["label"], ["class_0", "class_1"]),
        (_net("softmax", None, 2, ("kind",), ("ash", "elm")), ["kind"], ["ash", "elm"]),
        (_net("softmax", None, 2, ("kind",), (3, 7)), ["kind"], ["class_3", "class_7"]),
        (_net("softmax", None, 2, ("up", "down")), ["label"], ["up", "down"]),
        (_net("sigmoid", None, 1), ["label"], ["class_1"]),
        (_net("sigmoid", None, 1, ("kind",)), ["kind"], ["class_1"]),
        (_net("sigmoid", None, 1, ("kind",), ("ash", "elm")), ["kind"], ["elm"]),
        (_net("sigmoid", "multilabel"), ["label_0", "label_1"], ["label_0", "label_1"]),
        (_net("sigmoid", "multilabel", 2, ("up", "left")), ["up", "left"], ["up", "left"]),
        (_net("identity", None), ["output_0", "output_1"], ["output_0", "output_1"]),
        (_net("identity", None, 1), ["output"], ["output"]),
        (_net("identity", None, 1, ("price",)), ["price"], ["price"]),
    ],
)
def test_names_of_columns(net, of_predictions, of_outputs):
    x = np.zeros((3, 1))
    assert headings(net, net.predict(x), outputs=False) == of_predictions
    assert headings(net, net.feedforward(x), outputs=True) == of_outputs


def test_a_csv_file_has_them_and_stdout_has_not(tmp_path, rng):
    x = rng.normal(size=(40, 2))
    table = np.c_[x, x.sum(axis=1), x[:, 0]]
    names = "a", "b", "sum, of both", "first"
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *table.tolist()])
    net = bpx.Network([2, 2], output="identity", seed=0)
    net.columns, net.target_columns = names[:2], names[2:]
    bpx.Ensemble([net, net.copy()]).save(tmp_path / "net.safetensors")
    arguments = "predict", "net.safetensors", "a.csv"
    printed, _ = bpx_command(*arguments, cwd=tmp_path)
    assert len(printed.splitlines()) == 40
    bpx_command(*arguments, "--out", "b.csv", cwd=tmp_path)
    written = (tmp_path / "b.csv").read_text().splitlines()
    assert written == ['"sum, of both",first', *printed.splitlines()]
    read = tables.read(tmp_path / "b.csv", None, labelled=False)
    assert read.names.columns == names[2:]
    assert np.allclose(read.x, net(x), atol=1e-6)
