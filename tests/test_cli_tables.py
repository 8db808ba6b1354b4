"""Several tables, or runs, on the command line: to validate on, to keep columns of, to compare."""

from __future__ import annotations

import json
import re
import signal

import numpy as np
import pytest
from command_line import bpx_command

import bpx
from bpx.cli import training


def write(path, n, rng, kinds=("no", "yes"), columns=("a", "b")):
    """A table with an id, and a kind that follows from a and b."""
    x = rng.normal(size=(n, 2)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(int)
    lines = [f"{path.stem}-{i},{x[i, 0]},{x[i, 1]},{kinds[y[i]]}" for i in range(n)]
    path.write_text("\n".join([",".join(["id", *columns, "kind"]), *lines]))
    return x, y


@pytest.fixture
def tables(tmp_path, rng):
    """x and y of three tables in a folder."""
    sizes = {"now": 90, "later": 30, "last": 20}
    return {name: write(tmp_path / f"{name}.csv", n, rng) for name, n in sizes.items()}


def trained(folder, *options, data="now.csv"):
    """What is printed, the network, and the last row of the history."""
    options = data, "--target", "kind", "--ignore", "id", "--epochs", 2, *options
    out, err = bpx_command("train", *options, "--out", "run", "--overwrite", cwd=folder)
    assert err == ""
    return out, bpx.load(folder / "run" / "model.safetensors"), rows(folder / "run")[-1]


def rows(run):
    """Those of its history."""
    names, *lines = (run / "history.csv").read_text().splitlines()
    return [dict(zip(names.split(","), line.split(","), strict=True)) for line in lines]


def test_files_to_validate_and_to_test_on(tmp_path, tables):
    out, net, row = trained(tmp_path, "--validation", "later.csv", "--test", "last.csv")
    assert float(row["validation_cost"]) == pytest.approx(net.evaluate(*tables["later"])["cost"])
    accuracy = 100 * net.evaluate(*tables["last"])["accuracy"]
    assert f"test accuracy {accuracy:.2f} %" in out
    assert net.steps == 2 * 9  # of all 90 rows
    assert net.layers[0].offset == bpx.layers.Rescale.standardizing(tables["now"][0]).offset


def test_a_tenth_for_the_other_of_them(tmp_path, tables):
    for options, rows in (([], 72), (["--validation"], 81), (["--test"], 81)):
        given = [*options, "later.csv"] if options else []
        _, net, _ = trained(tmp_path, *given, "--batch-size", 1)
        assert net.steps == 2 * rows


def test_other_samples_in_blocks(tmp_path, tables, monkeypatch):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr("bpx.data.readers._csv.LINES", 500)
    more = 900 * f"\n{'m' * 100},1,2,no"
    (tmp_path / "now.csv").write_text((tmp_path / "now.csv").read_text() + more)
    options = "--validation", "later.csv", "--test", "last.csv", "--budget", "60 kB"
    _, net, row = trained(tmp_path, *options)
    assert net.steps == 2 * 99
    # By rows that are trained on, of which ten of eleven have a = 1.
    assert -net.layers[0].offset[0] / net.layers[0].scale[0] == pytest.approx(0.9, abs=0.15)
    assert float(row["validation_cost"]) == pytest.approx(net.evaluate(*tables["later"])["cost"])


def test_other_samples_in_arrays(tmp_path, tables):
    for name in tables:
        x, y = tables[name]
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    found = bpx_command(
        "train", "now.npz", "--validation", "later.npz", "--test", "last.csv", "--epochs", 1,
        cwd=tmp_path, status=2,
    )  # fmt: skip
    assert "last.csv, line 2, column 'id': expected a number" in found[1]
    out, _ = bpx_command(
        "train", "now.npz", "--validation", "later.npz", "--test", "last.npz", "--epochs", 1,
        cwd=tmp_path,
    )  # fmt: skip
    assert "test accuracy" in out
    _, net, row = trained(tmp_path, "--validation", "later.npz")
    assert float(row["validation_cost"]) == pytest.approx(net.evaluate(*tables["later"])["cost"])


def test_other_samples_do_not_decide_the_task(tmp_path, rng):
    def arrays(name, *labels):
        y = np.resize(labels, 40)
        np.savez(tmp_path / name, x=rng.normal(size=(40, 2)), y=y)

    arrays("now.npz", 0, 1, 2)
    arrays("some.npz", 0, 2)
    arrays("more.npz", 0, 1, 7)
    given = "train", "now.npz", "--epochs", 1, "--validation"
    out, err = bpx_command(*given, "some.npz", cwd=tmp_path)
    assert ("classification;" in out, err) == (True, "")
    _, err = bpx_command(*given, "more.npz", cwd=tmp_path, status=2)
    assert "the validation samples have the label 7, which the data have not: 0, 1, 2" in err
    arrays("now.npz", 3, 5, 9)
    arrays("some.npz", 9, 3)
    given = *given, "some.npz", "--task", "classification", "--out", "run"
    bpx_command(*given, cwd=tmp_path)
    assert bpx.load(tmp_path / "run" / "model.safetensors").classes == (3, 5, 9)


def test_they_are_the_same_in_a_run_that_is_resumed(tmp_path, tables):
    trained(tmp_path, "--validation", "later.csv")
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["validation"] == str((tmp_path / "later.csv").resolve())
    assert recipe["test"] is None
    bpx_command("train", "--resume", tmp_path / "run", "--epochs", 3)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    cost = net.evaluate(*tables["later"])["cost"]
    assert float(rows(tmp_path / "run")[-1]["validation_cost"]) == pytest.approx(cost)


def test_other_samples_that_do_not_fit(tmp_path, tables, rng):
    write(tmp_path / "renamed.csv", 5, rng, columns=("a", "c"))
    write(tmp_path / "strange.csv", 5, rng, kinds=("no", "perhaps"))
    np.savez(tmp_path / "wide.npz", x=np.ones((5, 3)), y=np.zeros(5, int))
    np.savez(tmp_path / "several.npz", x=np.ones((5, 2)), y=np.zeros((5, 2)))

    def message(*options):
        given = "now.csv", "--target", "kind", "--ignore", "id", *options
        _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
        assert len(err.splitlines()) == 1
        return err

    assert "there is no file none.csv" in message("--test", "none.csv")
    assert "renamed.csv has no column 'b'" in message("--test", "renamed.csv")
    assert "'perhaps' is not one of the classes" in message("--validation", "strange.csv")
    told = "now.csv is what is trained on too: name a file of other samples"
    assert told in message("--validation", "./now.csv")
    told = "--validation last.csv is --test too: name a file of other samples"
    assert told in message("--validation", "last.csv", "--test", "last.csv")
    wanted = "expected samples as in now.csv in --test wide.npz, x (m, 2) and y (m,), got (5, 3)"
    assert wanted in message("--test", "wide.npz")
    assert "x (m, 2) and y (m,), got (5, 2) and (5, 2)" in message("--test", "several.npz")
    assert "for --validation, got 5" in bpx_command(
        "train", "strange.csv", "--ignore", "id", "--test", "now.csv", cwd=tmp_path, status=2
    )[1]  # fmt: skip
    told = "--validation is for files; digits has such samples of its own"
    assert told in bpx_command("train", "--validation", "a.csv", cwd=tmp_path, status=2)[1]
    size = (tmp_path / "now.csv").stat().st_size
    write(tmp_path / "large.csv", 900, rng)
    told = "--test large.csv takes"
    assert told in message("--test", "large.csv", "--budget", size + 1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_beside_the_predictions(tmp_path, tables, kind):
    _, net, _ = trained(tmp_path)
    if kind == "parquet":
        pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        pandas.read_csv(tmp_path / "last.csv").to_parquet(tmp_path / "last.parquet")
    names = net.predict(tables["last"][0], names=True).tolist()
    true = np.array(["no", "yes"])[tables["last"][1]].tolist()
    given = "predict", "run", f"last.{kind}", "--keep"
    out, _ = bpx_command(*given, "id", cwd=tmp_path)
    assert out.splitlines() == [f"last-{i},{name}" for i, name in enumerate(names)]
    bpx_command(*given, "kind,id", "--out", "found.csv", cwd=tmp_path)
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "kind,id,predicted_kind"
    if kind == "csv":
        both = (tmp_path / "last.csv").read_text().replace("id,", "predicted_kind,", 1)
        (tmp_path / "both.csv").write_text(both)
        options = "both.csv", "--keep", "kind,predicted_kind", "--out", "both.out.csv"
        bpx_command("predict", "run", *options, cwd=tmp_path)
        names_of_both = (tmp_path / "both.out.csv").read_text().splitlines()[0]
        assert names_of_both == "kind,predicted_kind,predicted_predicted_kind"
    pairs = enumerate(zip(true, names, strict=True))
    assert lines[1:] == [f"{is_it},last-{i},{found}" for i, (is_it, found) in pairs]
    bpx_command(*given, "kind", "--keep", "id", "--outputs", "--out", "a.csv", cwd=tmp_path)
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "kind,id,no,yes"


def test_a_column_that_is_kept_has_its_text(tmp_path, tables):
    trained(tmp_path)
    (tmp_path / "new.csv").write_text('id;"first; last";a;b\n\n007;"A; B";1,5;2\n\n8;"";1;2,5\n')
    options = "--keep", "first; last", "--keep", "id,a", "--separator", ";", "--decimal", ","
    bpx_command("predict", "run", "new.csv", *options, "--out", "a.csv", cwd=tmp_path)
    names, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert names == '"first; last";id;a;kind'
    assert [line.rpartition(";")[0] for line in lines] == ['"A; B";007;1,5', ";8;1"]


def test_the_index_of_a_frame_is_kept(tmp_path, tables):
    trained(tmp_path)
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    frame = pandas.read_csv(tmp_path / "last.csv", index_col="id").astype({"a": "float32"})
    frame.to_parquet(tmp_path / "a.parquet")
    out, _ = bpx_command("predict", "run", "a.parquet", "--keep", "id,a", cwd=tmp_path)
    cells = [line.split(",")[:2] for line in out.splitlines()]
    assert [name for name, _ in cells] == [f"last-{i}" for i in range(20)]
    assert [np.float32(a) for _, a in cells] == frame["a"].tolist()
    assert max(len(a) for _, a in cells) < 15


def test_missing_values_are_kept_as_empty_cells(tmp_path, tables):
    trained(tmp_path)
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    frame = pandas.read_csv(tmp_path / "last.csv")[:2]
    frame["day"] = pandas.to_datetime(["2026-01-02", None])
    frame.to_parquet(tmp_path / "a.parquet")
    out, _ = bpx_command("predict", "run", "a.parquet", "--keep", "day", cwd=tmp_path)
    assert [line.split(",")[0] for line in out.splitlines()] == ["2026-01-02 00:00:00", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["last.csv", "--keep", "idd"], "last.csv has no column 'idd'; did you mean 'id'?"),
        (["last.csv", "--keep", "id,id"], "--keep names the column 'id' more than once"),
        (["x.npy", "--keep", "id"], "--keep is for columns of a .csv or .parquet file, got x.npy"),
        (
            ["last.csv", "--keep", "id", "--out", "a.npy"],
            "--keep is for a .csv file of predictions, got --out a.npy",
        ),
    ],
)
def test_columns_that_cannot_be_kept(tmp_path, tables, options, message):
    trained(tmp_path)
    np.save(tmp_path / "x.npy", tables["last"][0])
    _, err = bpx_command("predict", "run", *options, cwd=tmp_path, status=2)
    assert message in err
    assert len(err.splitlines()) == 1


def test_outputs_have_as_many_digits_as_their_dtype(tmp_path, tables):
    _, net, _ = trained(tmp_path)
    bpx_command("predict", "run", "last.csv", "--outputs", "--out", "a.csv", cwd=tmp_path)
    found = np.loadtxt(tmp_path / "a.csv", np.float32, delimiter=",", skiprows=1)
    x = np.loadtxt(tmp_path / "last.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    assert np.array_equal(found, net(x))
    assert max(map(len, (tmp_path / "a.csv").read_text().replace("\n", ",").split(","))) < 16


def test_runs_beside_each_other(tmp_path, tables):
    options = "now.csv", "--ignore", "id", "--epochs"
    printed, _ = bpx_command("train", *options, 2, "--out", "a", cwd=tmp_path)
    more = "--no-shuffle", "--weights=normal", "--drop-last", "--columns=a", "--columns=b"
    given = ["now.csv", "--epochs", 3, "--lr", 0.1, *more, "--out", "b c"]
    scores = [printed, bpx_command("train", *given, cwd=tmp_path)[0]]
    scores = [re.search(r"test accuracy (.*?) \(", text)[1] for text in scores]
    out, err = bpx_command("compare", "a", "b c", "--out", "curves.png", cwd=tmp_path)
    assert err == ""
    titles, *lines, last = out.splitlines()
    columns = ["run", "epochs", "validation cost", "epoch", "validation accuracy", "epoch"]
    assert re.split("  +", titles) == [*columns, "test accuracy", "seconds", "options"]
    differing = [
        "--ignore id --no-drop-last --optimizer adam --learning-rate 0.003 --shuffle",
        "--columns a --columns b --weights normal --drop-last --optimizer sgd --learning-rate 0.1 "
        "--no-shuffle",
    ]
    for run, line, options, score in zip(("a", "b c"), lines, differing, scores, strict=True):
        cost, accuracy = (
            [float(row[f"validation_{what}"]) for row in rows(tmp_path / run)]
            for what in ("cost", "accuracy")
        )
        best = [f"{min(cost):.5g}", str(1 + cost.index(min(cost)))]
        best += [f"{100 * max(accuracy):.2f} %", str(1 + accuracy.index(max(accuracy)))]
        name, epochs, *found, tested, _, own = re.split("  +", line)
        assert tested == score
        assert (name, int(epochs), found, own) == (run, len(cost), best, options)
    assert last == "wrote curves.png"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_runs_without_accuracy_or_epochs(tmp_path, tables):
    options = "now.csv", "--columns", "a", "--target", "b"
    bpx_command("train", *options, "--epochs", 1, "--out", "a", cwd=tmp_path)
    bpx_command("train", *options, "--epochs", 0, "--out", "b", cwd=tmp_path)
    out, _ = bpx_command("compare", "a", "b", cwd=tmp_path)
    assert bpx_command("compare", "a/model.safetensors", "b", cwd=tmp_path)[0] == out
    titles, first, last = out.splitlines()
    columns = ["validation cost", "epoch", "test R²", "seconds"]
    assert re.split("  +", titles)[2:] == columns
    test = json.loads((tmp_path / "a" / "test.json").read_text())
    assert re.split("  +", first)[4] == f"{test['r2'][0]:.4f}"
    assert set(test) == {"cost", "rmse", "r2"}
    (tmp_path / "b" / "test.json").unlink()
    out, _ = bpx_command("compare", "a", "b", cwd=tmp_path)
    last = out.splitlines()[2]
    assert re.split("  +", last) == ["b", "0", "-", "-", "-", "-"]
    out, _ = bpx_command("compare", "a", cwd=tmp_path)
    assert len(re.split("  +", out.splitlines()[0])) == 6  # no options


def test_the_options_in_which_runs_differ(tmp_path, tables):
    """Not how their files are written, nor where all of them are, nor what has a column."""
    (tmp_path / "there").mkdir()
    text = (tmp_path / "now.csv").read_text().replace(",", ";")
    (tmp_path / "there" / "now.csv").write_text(text)
    given = "--target", "kind", "--ignore", "id", "--out"
    bpx_command("train", "now.csv", *given, "a", "--epochs", 1, cwd=tmp_path)
    other = "there/now.csv", "--separator", ";", "--epochs", 2
    bpx_command("train", *other, *given, "b", cwd=tmp_path)
    for folder, names in ((".", ("now.csv", "there/now.csv")), ("there", (None, "now.csv"))):
        runs = [tmp_path / run for run in "ab"]
        out, _ = bpx_command("compare", *runs, cwd=tmp_path / folder)
        shown = [re.split("  +", line)[-1] for line in out.splitlines()[1:]]
        assert shown == [str(tmp_path / "now.csv") if name is None else name for name in names]
        seconds = [float(re.split("  +", line)[-2]) for line in out.splitlines()[1:]]
        assert all(seconds)
    stopped = "--epochs", 30, "--patience", 1, "--lr", 5.0
    bpx_command("train", "now.csv", *stopped, *given, "c", cwd=tmp_path)
    out, _ = bpx_command("compare", "a", "c", cwd=tmp_path)
    assert "--epochs 30" in out.splitlines()[-1]


def test_a_run_that_has_not_ended_is_a_line_too(tmp_path, tables):
    trained(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "recipe.json").write_text('{"hidden": "5\\nrun2 7 0.001"}')
    out, _ = bpx_command("compare", "run", "new", cwd=tmp_path)
    _, first, second = out.splitlines()
    assert "--hidden 30" in first
    assert re.split("  +", second)[:6] == ["new", "0", "-", "-", "-", "-"]
    assert second.endswith("--hidden '5 run2 7 0.001'")


def test_a_run_that_was_cut_short_has_what_it_did(tmp_path, tables, monkeypatch):
    def press(self, run):
        if run.net.steps == 13:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training.ShowNetwork, "on_step_end", press, raising=False)
    given = "train", "now.csv", "--ignore", "id", "--epochs", 4, "--out", "run"
    bpx_command(*given, cwd=tmp_path, status=130)
    out, _ = bpx_command("compare", "run", cwd=tmp_path)
    assert re.split("  +", out.splitlines()[1])[:2] == ["run", "1 + 5 steps"]  # of 8
    for name in ("history.csv", "test.json"):  # as where it is killed
        (tmp_path / "run" / name).unlink()
    titles, line = bpx_command("compare", "run", cwd=tmp_path)[0].splitlines()
    assert "test" not in titles
    assert re.split("  +", line)[:2] == ["run", "1 + 5 steps"]
    assert "-" not in re.split("  +", line)
    monkeypatch.undo()
    bpx_command("train", "--resume", "run", cwd=tmp_path)
    out, _ = bpx_command("compare", "run", cwd=tmp_path)
    assert re.split("  +", out.splitlines()[1])[:2] == ["run", "4"]


def test_no_file_is_replaced_unasked(tmp_path, tables):
    pytest.importorskip("onnx", reason="a command writes its models")
    trained(tmp_path)
    for name, *command in (
        ("p.csv", "predict", "run", "last.csv", "--out"),
        ("p.npy", "predict", "run", "last.csv", "--out"),
        ("c.png", "compare", "run", "--out"),
        ("m.onnx", "export", "run"),
    ):
        (tmp_path / name).write_text("mine")
        _, err = bpx_command(*command, name, cwd=tmp_path, status=2)
        assert err == f"bpx: {name} is there already: name another file, or pass --overwrite\n"
        assert (tmp_path / name).read_text() == "mine"
        bpx_command(*command, name, "--overwrite", cwd=tmp_path)
        assert (tmp_path / name).read_bytes() != b"mine"


def test_what_a_run_replaces(tmp_path, tables):
    """What is of the run before is gone when another one begins, or has diverged."""
    trained(tmp_path, "--task", "classification")
    run, others = tmp_path / "run", ("history.csv", "curve.png", "test.json")
    assert all((run / name).exists() for name in others)
    given = "now.csv", "--target", "a", "--columns", "b", "--out", "run", "--overwrite"
    bpx_command("train", *given, "--lr", 1e30, "--optimizer", "sgd", cwd=tmp_path, status=1)
    assert [(run / name).exists() for name in others] == [True, False, False]
    assert bpx.History.from_csv(run / "history.csv").epochs == 0
    trained(tmp_path)
    for option in ("--validation", "--test"):
        (run / "history.csv").write_text((tmp_path / "now.csv").read_text())
        given = "later.csv", "--ignore", "id", option, "run/history.csv", "--out", "run"
        _, err = bpx_command("train", *given, "--overwrite", cwd=tmp_path, status=2)
        assert "run/history.csv, its data: name another --out" in err


def test_a_score_of_targets_that_are_alike(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 2)), y=np.full((40, 2), 2.5))
    bpx_command("train", "a.npz", "--epochs", 1, "--out", "a", cwd=tmp_path)
    assert json.loads((tmp_path / "a" / "test.json").read_text())["r2"] == [None, None]
    out, _ = bpx_command("compare", "a", cwd=tmp_path)
    assert re.split("  +", out.splitlines()[1])[4] == "-"
    assert "inf" not in bpx_command("evaluate", "a/model.safetensors", "a.npz", cwd=tmp_path)[0]


def test_the_score_of_several_targets_is_their_mean(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 2)), y=rng.normal(size=(40, 2)))
    bpx_command("train", "a.npz", "--epochs", 1, "--out", "a", cwd=tmp_path)
    scores = json.loads((tmp_path / "a" / "test.json").read_text())["r2"]
    out, _ = bpx_command("compare", "a", cwd=tmp_path)
    assert re.split("  +", out.splitlines()[1])[4] == f"{np.mean(scores):.4f}"


def test_runs_that_cannot_be_compared(tmp_path, tables):
    trained(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "recipe.json").write_text("{")
    (tmp_path / "odd" / "recipe.json").mkdir(parents=True)
    alone, _ = bpx_command("compare", "run", cwd=tmp_path)
    out, err = bpx_command("compare", "none", "damaged", "run", "odd", cwd=tmp_path, status=2)
    assert out == alone  # the others are compared
    told = "there is no none/recipe.json: expected a folder that bpx train --out has made"
    missing, damaged, odd = err.splitlines()
    assert missing == f"bpx: {told}"
    assert damaged.startswith("bpx: damaged/recipe.json is damaged: ")
    assert odd == "bpx: odd/recipe.json: Is a directory"
    out, err = bpx_command("compare", "none", "--out", "c.png", cwd=tmp_path, status=2)
    assert (out, err) == ("", f"bpx: {told}\n")
    assert not (tmp_path / "c.png").exists()
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "run" / "checkpoints" / "checkpoint-000000000099.safetensors").write_text("{")
    out, err = bpx_command("compare", "run", cwd=tmp_path)
    assert out == alone  # by its history
    told = (
        "bpx: note: of run this is what its history.csv has: all 1 checkpoints in run/checkpoints"
    )
    assert err.startswith(told)
    (tmp_path / "run" / "checkpoints" / "checkpoint-000000000099.safetensors").unlink()
    accuracies = "1", "[]", '["many"]', "[true]", "[1e400]", f"[{'1' * 400}]", '"12"'
    for text in ("[", "[]", *(f'{{"accuracy": {value}}}' for value in accuracies)):
        (tmp_path / "run" / "test.json").write_text(text)
        _, err = bpx_command("compare", "run", cwd=tmp_path, status=2)
        assert err.startswith("bpx: run/test.json is damaged: ")
    (tmp_path / "run" / "history.csv").write_text("a,b\n1,2\n")
    _, err = bpx_command("compare", "run", cwd=tmp_path, status=2)
    assert "expected a table that History.to_csv has written, got run/history.csv: it has" in err


def test_counts_may_look_like_classes(tmp_path, rng):
    counts = rng.poisson(2.0, size=400)
    assert set(counts) == set(range(counts.max() + 1))
    assert np.bincount(counts).min() < 4
    np.savez(tmp_path / "counts.npz", x=rng.normal(size=(400, 2)), y=counts)
    np.savez(tmp_path / "even.npz", x=rng.normal(size=(400, 2)), y=np.arange(400) % 5)
    np.savez(tmp_path / "two.npz", x=rng.normal(size=(400, 2)), y=np.arange(400) > 397)
    for name, told in (("counts", True), ("even", False), ("two", False)):
        _, err = bpx_command("train", f"{name}.npz", "--epochs", 1, cwd=tmp_path)
        assert ("which are learned as classes, and some are rare; if they are co" in err) == told
    for task in ("classification", "regression"):
        given = "counts.npz", "--task", task, "--epochs", 1
        assert bpx_command("train", *given, cwd=tmp_path)[1] == ""


def test_the_optimizer_goes_by_the_targets(tmp_path, rng):
    x = rng.normal(size=(40, 2))
    np.savez(tmp_path / "values.npz", x=x, y=x.sum(axis=1))
    np.savez(tmp_path / "classes.npz", x=x, y=np.arange(40) % 2)
    write(tmp_path / "classes.csv", 40, rng)
    for data, options, rate in (
        ("values.npz", [], 0.003),
        ("values.npz", ["--momentum", 0.9], 0.1),
        ("values.npz", ["--no-standardize"], 0.01),
        ("values.npz", ["--optimizer", "rmsprop"], 0.003),
        ("classes.npz", [], 0.5),
        ("classes.npz", ["--optimizer", "adamw"], 0.001),
        ("classes.csv", [], 0.003),
        ("classes.csv", ["--optimizer", "adamw"], 0.003),
        ("classes.csv", ["--optimizer", "sgd"], 0.5),
        ("classes.csv", ["--momentum", 0.9], 0.5),
        ("classes.csv", ["--no-standardize"], 0.5),
    ):
        of_table = ["--ignore", "id"] if data.endswith(".csv") else []
        given = data, *of_table, *options, "--epochs", 1, "--out", "run", "--overwrite"
        bpx_command("train", *given, cwd=tmp_path)
        assert float(rows(tmp_path / "run")[0]["learning_rate"]) == rate


def test_a_learning_rate_alone_is_of_sgd_for_classes(tmp_path, tables):
    for options, optimizer in (([], "adam"), (["--lr", 0.5], "sgd")):
        given = "now.csv", "--target", "kind", "--ignore", "id", "--epochs", 9, *options
        _, err = bpx_command("train", *given, "--out", "run", "--overwrite", cwd=tmp_path)
        told = (
            "note: with --learning-rate the optimizer is sgd; --optimizer adam, whose learning ra"
        )
        assert (told in err) == (optimizer == "sgd")
        recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
        assert recipe["optimizer"] == optimizer


def test_an_accuracy_that_is_no_better_than_the_most_frequent_label_is_told(tmp_path, rng):
    rows = [f"{a},{kind}" for a, kind in zip(rng.normal(size=100), "xxxz" * 25, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["a,kind", *rows]))
    out, err = bpx_command("train", "a.csv", "--epochs", 1, cwd=tmp_path)
    found, alone = re.search(r"test accuracy (.*?) \(the .* alone: (.*?)\)", out).groups()
    assert found == alone
    assert (
        f"bpx: note: the accuracy on the 10 test samples, {found}, is no better than {alone}, "
        "which the most frequent label alone has: try more --epochs, another --learning-rate "
        "or --hidden, or more samples; if the other classes are rare, --class-weight balanced"
    ) in err
    balanced = "--epochs", 1, "--class-weight", "balanced"
    _, err = bpx_command("train", "a.csv", *balanced, cwd=tmp_path)
    assert "no better" not in err
    (tmp_path / "b.csv").write_text("\n".join(["a,kind", *rows[:9]]))
    given = "train", "a.csv", "--target", "kind"
    _, err = bpx_command(*given, "--epochs", 1, "--test", "b.csv", cwd=tmp_path)
    assert err == ""  # of so few
    rows = [f"{k % 2},{'xz'[k % 2]}" for k in range(100)]
    (tmp_path / "a.csv").write_text("\n".join(["a,kind", *rows]))
    out, err = bpx_command(*given, cwd=tmp_path)
    assert ("test accuracy 100.00 %" in out, err) == (True, "")


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_target_that_nobody_names_is_told(tmp_path, tables, kind):
    np.savez(tmp_path / "now.npz", x=tables["now"][0], y=tables["now"][1])
    told = "bpx: note: the target is the last column, 'kind': --target names another\n"
    given = "train", f"now.{kind}", "--epochs", 0, *(["--columns", "a"] * (kind == "csv"))
    err = bpx_command(*given, cwd=tmp_path)[1]
    assert err.startswith(told) == (kind == "csv")
    named = ("--target", "kind" if kind == "csv" else "y")
    assert told not in bpx_command(*given, *named, cwd=tmp_path)[1]


def test_one_label_in_all_test_samples_is_no_fault(tmp_path, tables):
    (tmp_path / "last.csv").write_text("a,b,kind\n9,-9,yes\n8,-8,yes\n")
    out, _ = trained(tmp_path, "--epochs", 60, "--test", "last.csv")[:2]
    assert "test accuracy 100.00 % (the most frequent label alone: " in out


def test_a_model_is_shown(tmp_path, tables):
    _, net, _ = trained(tmp_path)
    out, _ = bpx_command("summary", "run", cwd=tmp_path)
    names = "inputs: a, b\ntargets: kind\nclasses: no, yes\n"
    assert out == f"{net.summary()}\n{names}"
    bpx.Ensemble.of(2, bpx.Network([2, 1])).save(tmp_path / "two.safetensors")
    assert bpx_command("summary", tmp_path / "two.safetensors")[0].count("\n") > 3
    _, err = bpx_command("info", "run", cwd=tmp_path, status=2)
    assert "No such command 'info'; here it is bpx summary" in err


@pytest.mark.parametrize("budget", ["1 GB", "30 kB"], ids=["in memory", "in blocks"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_true_and_false_are_1_and_0(tmp_path, rng, monkeypatch, kind, budget):
    if kind == "parquet" or budget != "1 GB":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        monkeypatch.setattr("bpx.data.readers._csv.LINES", 500)
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    frame = pandas.DataFrame({"a": rng.normal(size=1500), "b": rng.random(1500) < 0.5})
    frame["y"] = frame.a + frame.b
    for name, table in (("truths", frame), ("numbers", frame.astype(float))):
        if kind == "csv":
            table.to_csv(tmp_path / f"{name}.csv", index=False)
        else:
            table.to_parquet(tmp_path / f"{name}.parquet", row_group_size=20, index=False)
        options = "--target", "y", "--epochs", 1, "--budget", budget, "--out", name
        bpx_command("train", f"{name}.{kind}", *options, cwd=tmp_path)
    one, other = (
        bpx.load(tmp_path / name / "model.safetensors") for name in ("truths", "numbers")
    )
    if budget == "1 GB":  # blocks of longer lines have other rows
        assert np.array_equal(one.parameters, other.parameters)
    printed = bpx_command("predict", "truths", f"truths.{kind}", "--budget", budget, cwd=tmp_path)
    x = frame[["a", "b"]].to_numpy(float)
    assert [float(line) for line in printed[0].split()] == pytest.approx(one(x)[:, 0], rel=1e-5)


def test_a_column_of_truths_has_no_others_in_blocks(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr("bpx.data.readers._csv.LINES", 500)
    (tmp_path / "a.csv").write_text("a,y\n" + 200 * "true,1.0\n" + "0.5,1.0\n")
    data = bpx.open_data(tmp_path / "a.csv", target="y", budget="20 kB")
    with pytest.raises(OSError, match=r"column 'a' begins with True or False: write 1 and 0 fo"):
        bpx.Network([1, 1]).fit(data, epochs=1)
    (tmp_path / "b.csv").write_text("a,y\n" + 200 * "0.5,1.0\n" + "true,1.0\n")
    data = bpx.open_data(tmp_path / "b.csv", target="y", budget="20 kB")
    with pytest.raises(OSError, match=r"'true'.*: write 1 for True and 0 for False"):
        bpx.Network([1, 1]).fit(data, epochs=1)


@pytest.mark.parametrize("budget", ["1 GB", "20 kB"], ids=["in memory", "in blocks"])
def test_a_row_of_truths_is_no_line_of_names(tmp_path, monkeypatch, budget):
    if budget != "1 GB":
        pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    (tmp_path / "a.csv").write_text("1.5,True,0\n" + 2000 * "2.5,False,1\n")
    given = "a.csv", "--target", "0", "--budget", budget
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert (
        "expected the columns' names in the first line, got '1.5', 'True', '0', as in a r" in err
    )


def test_missing_truths_are_told(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    table = arrow.table({"a": [True, None] * 10, "b": np.ones(20), "y": np.ones(20)})
    parquet.write_table(table, tmp_path / "a.parquet")
    _, err = bpx_command("train", "a.parquet", "--target", "y", cwd=tmp_path, status=2)
    assert "NaN or infinity in x, first in row 1, column 'a'" in err


def test_a_cost_that_is_not_for_classes_decides_the_task(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 2)), y=np.arange(60) % 4)
    for cost, end in (
        ("poisson", "Dense 1, exp"),
        ("quantile", "Rescale"),
        ("gaussian_nll", "Rescale"),
        ("huber", "Rescale"),
    ):
        given = "a.npz", "--cost", cost, "--epochs", 1, "--out", "run", "--overwrite"
        out, err = bpx_command("train", *given, cwd=tmp_path)
        assert ("regression;" in out, err) == (True, "")
        assert str(bpx.load(tmp_path / "run" / "model.safetensors").layers[-1]).startswith(end)
    for cost in ("quadratic", "log-likelihood"):
        out, _ = bpx_command("train", "a.npz", "--cost", cost, "--epochs", 1, cwd=tmp_path)
        assert "classification;" in out


def test_a_target_of_truths(tmp_path, rng, monkeypatch):
    """Alone it has classes, in a .csv by name; beside others, or for multilabel, 1 and 0."""
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr("bpx.data.readers._csv.LINES", 500)
    frame = pandas.DataFrame(rng.normal(size=(1500, 2)), columns=["a", "b"])
    frame["c"], frame["d"] = frame.a > 0, frame.b > 0
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    scores = []
    for kind in ("csv", "parquet"):
        given = f"t.{kind}", "--target", "c", "--ignore", "d", "--epochs", 2, "--out", kind
        bpx_command("train", *given, cwd=tmp_path)
        scores += [
            bpx_command("evaluate", kind, f"t.{k}", cwd=tmp_path) for k in ("csv", "parquet")
        ]
    assert all(score == scores[0] for score in scores)
    for budget in ("1 GB", "60 kB"):
        given = "t.csv", "--target", "c,d", "--task", "multilabel", "--budget", budget
        out, _ = bpx_command("train", *given, "--epochs", 3, cwd=tmp_path)
        assert float(out.splitlines()[-1].split()[2]) > 80.0


def test_compare_replaces_nothing_of_a_run(tmp_path, tables):
    trained(tmp_path)
    before = (tmp_path / "run" / "curve.png").read_bytes()
    _, err = bpx_command("compare", "run", "--out", "run/curve.png", cwd=tmp_path, status=2)
    assert "run/curve.png would replace run/curve.png, which it is made of: name another" in err
    assert (tmp_path / "run" / "curve.png").read_bytes() == before


def test_a_run_that_does_not_begin_leaves_nothing(tmp_path, tables, monkeypatch):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    given = "now.csv", "--target", "kind", "--ignore", "id", "--budget", "1 kB", "--out"
    _, err = bpx_command("train", *given, "new/run", cwd=tmp_path, status=2)
    assert "a budget of 1000 bytes holds" in err
    least = re.search(r"mini-batch: pass a budget of at least (\d+) bytes\n", err)[1]
    assert int(least) > (tmp_path / "now.csv").stat().st_size  # all would be in memory
    assert not (tmp_path / "new" / "run").exists()
    (tmp_path / "there").mkdir()
    bpx_command("train", *given, "there", cwd=tmp_path, status=2)
    assert not any((tmp_path / "there").iterdir())
    trained(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    bpx_command("train", *given, "run", "--overwrite", cwd=tmp_path, status=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_folder_that_is_not_free_is_refused_before_the_data_are_read(tmp_path, tables):
    trained(tmp_path)
    (tmp_path / "now.csv").write_text("a,kind\n1,yes\n2\n")
    _, err = bpx_command("train", "now.csv", "--out", "run", cwd=tmp_path, status=2)
    assert err == (
        "bpx: run already has a trained model: name another --out, or pass --overwrite\n"
    )
    given = "now.csv", "--out", "run", "--overwrite"
    _, err = bpx_command("train", *given, cwd=tmp_path, status=2)
    assert "line 3: expected 2 cells, got 1" in err
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kinds", "task", "classes"),
    [
        (("0", "1"), None, None),
        (("1", "2"), "classification", (1, 2)),
        (("no", "yes"), None, ("no", "yes")),
    ],
)
def test_the_names_that_a_model_of_the_command_line_has_in_python(
    tmp_path, rng, kinds, task, classes
):
    x, _ = write(tmp_path / "now.csv", 60, rng, kinds)
    given = "now.csv", "--ignore", "id", "--epochs", 30, *(["--task", task] if task else [])
    bpx_command("train", *given, "--out", "run", cwd=tmp_path)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    assert net.classes == classes
    printed, _ = bpx_command("predict", "run", "now.csv", "--target", "kind", cwd=tmp_path)
    if classes is None:
        with pytest.raises(ValueError, match="leave names=True out for these numbers"):
            net.predict(x, names=True)
    labels = net.predict(x, names=classes is not None)
    assert [str(label) for label in labels] == printed.split()
    assert {*printed.split()} == {*kinds}


def test_the_scores_on_test_samples(tmp_path, tables):
    _, net, _ = trained(tmp_path, "--test", "last.csv")
    found = json.loads((tmp_path / "run" / "test.json").read_text())
    assert {name: numbers[0] for name, numbers in found.items()} == pytest.approx(
        net.evaluate(*tables["last"])
    )


@pytest.mark.parametrize("kind", [".tsv", ".TAB"])
def test_a_table_with_tabs_by_its_name(tmp_path, tables, kind, monkeypatch):
    """It is read as a .csv, in memory and in blocks."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr("bpx.data.readers._csv.LINES", 100)
    for name in ("now", "later"):
        text = (tmp_path / f"{name}.csv").read_text().replace(",", "\t")
        (tmp_path / f"{name}{kind}").write_text(text)
    tabs = "--separator", "tab"
    for budget in ("1 GB", "4 kB"):
        alike = []
        for end, options in ((".csv", ()), (kind, ()), (kind, tabs)):
            options = *options, "--budget", budget, "--batch-size", 2
            trained(tmp_path, "--validation", f"later{end}", *options, data=f"now{end}")
            alike.append((tmp_path / "run" / "model.safetensors").read_bytes())
        assert alike[0] == alike[1] == alike[2]
    rows, _ = bpx_command("predict", "run", f"later{kind}", "--keep", "id", cwd=tmp_path)
    assert rows.splitlines()[-1].startswith("later-29,")


@pytest.mark.parametrize("budget", ["1 GB", "200"])
def test_a_table_of_few_rows(tmp_path, tables, budget):
    """None is drawn where there are files for them."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    lines = (tmp_path / "now.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:10]))
    others = {"--validation": "later.csv", "--test": "last.csv"}
    for given in ({}, {"--test": "last.csv"}):
        options = "few.csv", "--target", "kind", "--ignore", "id", "--budget", budget
        files = [word for option in given.items() for word in option]
        _, err = bpx_command("train", *options, *files, cwd=tmp_path, status=2)
        drawn = [option for option in others if option not in given]
        assert err == (
            "bpx: expected at least 10 samples in few.csv, as a tenth is drawn for "
            f"{' and for '.join(drawn)}, got 9: pass {' and '.join(drawn)} with files of other "
            "samples, or in Python train on all with net.fit(x, y)\n"
        )
    _, net, _ = trained(tmp_path, *(word for each in others.items() for word in each),
                        "--batch-size", 1, data="few.csv")  # fmt: skip
    assert net.steps == 2 * 9
