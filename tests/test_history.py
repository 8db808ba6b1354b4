"""A history as a file."""

from __future__ import annotations

import math

import pytest

import bpx


def test_a_history_is_read_as_it_was_written(tmp_path):
    net = bpx.Network([2, 2, 1], seed=0)
    metric = bpx.Metric("f1, of all", lambda run: 1 / 3, larger_is_better=True)
    x, y = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    history = net.fit(x, y, epochs=3, validation=(x, y), callbacks=[metric])
    history.log("late", 1e-300)
    history.to_csv(tmp_path / "history.csv")
    again = bpx.History.from_csv(tmp_path / "history.csv")
    assert list(again) == list(history)
    assert all(repr(again[name]) == repr(history[name]) for name in history)  # NaN too
    assert math.isnan(again["late"][0])
    assert again.larger("validation_accuracy")
    with pytest.raises(ValueError, match="not known whether a larger 'f1, of all' is better"):
        again.best("f1, of all")
    again.plot(tmp_path / "curve.png")
    known = bpx.History.from_csv(tmp_path / "history.csv", ["f1, of all"])
    assert known.best("f1, of all") == 1 / 3
    assert (known.larger("f1, of all"), known.larger("late"), known.larger("epoch")) == (
        True, False, False,
    )  # fmt: skip
    assert known.larger("training_accuracy")


def test_a_history_as_a_frame():
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    history = bpx.History.of({"epoch": [3, 4], "training_cost": [0.5, math.nan]})
    frame = history.to_frame()
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(dict(history)))
    frame["training_cost"] = 0.0  # it is the caller's
    assert history["training_cost"][0] == 0.5


def test_a_history_of_no_epochs(tmp_path):
    bpx.History().to_csv(tmp_path / "history.csv")
    assert bpx.History.from_csv(tmp_path / "history.csv").epochs == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "history.csv: it has no column epoch"),
        ("epoch,a\n1\n", "its rows have different lengths, or two columns one name"),
        ("epoch,a,a\n1,2,3\n", "its rows have different lengths, or two columns one name"),
        ("epoch\n1.5\n", "expected numbers in 'epoch', got '1.5'"),
        ("epoch,a\n1,many\n", "expected numbers in 'a', got 'many'"),
        (f"epoch,a\n1,{'many' * 10_000}\n", r"got 'many.{0,200}\.\.\.$"),
        ('epoch\n"1\n', "unexpected end of data"),
        ("epoch\n1\xff\n", "can't decode"),
        (f"epoch,{'a' * 10_000}\n1,2\n", "expected columns of a history, all of one length"),
    ],
)
def test_another_file_is_no_history(tmp_path, text, message):
    (tmp_path / "history.csv").write_text(text, encoding="latin-1")
    message = r"expected a table that History\.to_csv has written, got .*" + message
    with pytest.raises(ValueError, match=message):
        bpx.History.from_csv(tmp_path / "history.csv")
    with pytest.raises(FileNotFoundError):
        bpx.History.from_csv(tmp_path / "none.csv")


def test_the_best_of_a_column_that_begins_with_nan():
    """`min` and `max` would hold on to it: such is a metric that one logs later."""
    numbers = [math.nan, 0.5, 0.25, math.nan]
    history = bpx.History.of({"epoch": [1, 2, 3, 4], "training_cost": numbers})
    assert (history.best("training_cost"), history.best_epoch("training_cost")) == (0.25, 3)
