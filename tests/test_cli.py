"""The command line, as a person types it."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from command_line import bpx_command, bpx_process

import bpx
from bpx import cli, persistence, schedules
from bpx.__main__ import main
from bpx.backends import _fast
from bpx.cli import console, recipe, samples, tables, targets
from bpx.data.blocks import Blocks
from bpx.data.readers import Features


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A trained network on digits."""
    folder = tmp_path_factory.mktemp("run")
    out = bpx_process("train", "--out", folder / "a", "--patience", 5)
    last = out.splitlines()[-1]
    assert last.startswith("test accuracy 9")
    assert last.endswith(" s")
    return folder / "a"


def test_train_writes_model_history_and_picture(run_folder):
    assert sorted(p.name for p in run_folder.iterdir()) == [
        "curve.png",
        "history.csv",
        "model.safetensors",
        "recipe.json",
        "test.json",
    ]
    assert (run_folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    lines = (run_folder / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,training_cost,training_accuracy,validation_cost")
    assert bpx.load(run_folder / "model.safetensors").input_shape == (64,)


def test_the_mean_of_the_last_epochs(tmp_path):
    """Also with --patience, which then only stops."""
    found = {}
    for name, more in {
        "last": [], "of one": ["--average-from", 9], "of six": ["--average-from", 4],
        "and patience": ["--average-from", 4, "--patience", 9],
    }.items():  # fmt: skip
        bpx_command("train", "--epochs", 9, *more, "--out", tmp_path / name)
        found[name] = bpx.load(tmp_path / name / "model.safetensors").parameters
    assert np.array_equal(found["of one"], found["last"])
    assert not np.array_equal(found["of six"], found["last"])
    assert np.array_equal(found["and patience"], found["of six"])


def test_evaluate(run_folder):
    out, _ = bpx_command("evaluate", run_folder / "model.safetensors", "digits")
    assert out.startswith("cost 0.")
    assert "accuracy 9" in out
    assert bpx_command("evaluate", run_folder, "digits")[0] == out
    _, err = bpx_command("evaluate", run_folder.parent, "digits", status=2)
    assert "is a folder, expected a .safetensors file" in err


def test_resume_goes_on_from_the_folder_alone(tmp_path, rng):
    """Terminated, and resumed from another folder: the same model as without a break."""
    x = rng.normal(size=(200, 3))
    np.savez(tmp_path / "a.npz", x=x, y=x @ [1.0, 2.0, 3.0])
    options = ["a.npz", "--optimizer", "adam", "--dropout", 0.1, "--patience", 5000]
    options += ["--epochs", 400, "--save-every", 0.3]
    bpx_process("train", *options, "--out", "whole", cwd=tmp_path)
    started = [sys.executable, "-m", "bpx", "train", *map(str, options), "--out", "run"]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    with subprocess.Popen(
        started, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        for line in running.stdout:
            if line.split()[:1] == ["20"]:
                running.terminate()
                break
        rest = running.stdout.read()
    assert running.returncode == 143
    assert re.search(r"weights of epoch \d+, the best; bpx train --resume run goes on\n", rest)
    _, err = bpx_command("train", "a.npz", "--out", "run", cwd=tmp_path, status=2)
    assert "run has a run that has not ended: bpx train --resume run goes on with it" in err
    bpx_command("predict", "run", "a.npz", cwd=tmp_path)  # by what it has written
    (model := tmp_path / "run" / "model.safetensors").rename(tmp_path / "model")
    _, err = bpx_command("predict", "run", "a.npz", cwd=tmp_path, status=2)
    assert "the run in run has not ended, and has no model yet: bpx train --resume run go" in err
    (tmp_path / "model").rename(model)
    arguments = ["train", "--resume", tmp_path / "run", "--l2", 3]
    _, err = bpx_command(*arguments, status=2)
    assert "all other options but --epochs from" in err
    assert "recipe.json: leave out --l2" in err
    assert "R² " in bpx_process(*arguments[:3]).splitlines()[-1]
    files = (tmp_path / name / "model.safetensors" for name in ("whole", "run"))
    (tensors, header), (theirs, other) = map(persistence.read, files)
    assert header == other
    assert all(np.array_equal(tensors[name], theirs[name]) for name in tensors)
    _, err = bpx_command(*arguments[:3], status=2)
    assert "has ended: more --epochs go on with it, and --out" in err


def test_more_epochs_of_a_run_that_has_ended(tmp_path, rng):
    """They give what a longer run gives, also where it goes on twice, and once was cut short."""
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 3)), y=np.arange(60) % 3)
    options = ["a.npz", "--dropout", 0.1, "--optimizer", "adam", "--lr", 0.01, "--drop-last"]
    options += ["--weights", "normal", "--precision", "float32", "--batch-size", 7]
    bpx_command("train", *options, "--epochs", 6, "--out", "whole", cwd=tmp_path)
    bpx_command("train", *options, "--epochs", 2, "--out", "run", cwd=tmp_path)
    run, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"
    for epochs in (3, 5, 6):
        assert (run / "last.checkpoint").exists()
        bpx_command("train", "--resume", "run", "--epochs", epochs, cwd=tmp_path)
        assert not checkpoints.exists()
    one, two = (bpx.load(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert np.array_equal(one.parameters, two.parameters)
    assert one.epochs == two.epochs == 6
    assert len((run / "history.csv").read_text().splitlines()) == 7
    _, err = bpx_command("train", "--resume", "run", "--epochs", 6, cwd=tmp_path, status=2)
    assert "expected more --epochs than the run's 6, got 6" in err
    # It is as if the run had been killed: it says in its folder how many epochs it is to have.
    checkpoints.mkdir()
    (run / "last.checkpoint").rename(checkpoints / "checkpoint-000000000036.safetensors")
    bpx_command("train", "--resume", "run", cwd=tmp_path)
    assert (run / "last.checkpoint").exists()


def test_a_run_that_does_not_go_on_is_left_as_it_was(tmp_path, rng):
    """Its data are gone, or others; then it goes on with those that it had."""
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 3)), y=np.arange(60) % 3)
    bpx_command("train", "a.npz", "--epochs", 2, "--out", "run", cwd=tmp_path)

    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

    before = files()
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    longer = "train", "--resume", "run", "--epochs", 3
    bpx_command(*longer, cwd=tmp_path, status=2)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 3)), y=np.arange(60) % 3)
    _, err = bpx_command(*longer, cwd=tmp_path, status=2)
    told = "the run in run cannot go on: the training data have changed: some samples have other"
    assert told in err
    assert files() == before
    (tmp_path / "b.npz").rename(tmp_path / "a.npz")
    bpx_command(*longer, cwd=tmp_path)
    assert bpx.load(tmp_path / "run" / "model.safetensors").epochs == 3


def test_a_run_whose_table_has_changed(tmp_path, rng):
    """What has become of its columns and classes, and no layers that follow from them."""
    columns = {"a": rng.normal(size=60), "b": ["x", "y"] * 30, "c": rng.normal(size=60)}
    columns["kind"] = [*"pqr"] * 20

    def write(columns):
        rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        (tmp_path / "a.csv").write_text("\n".join([",".join(columns), *rows]))

    write(columns)
    bpx_command("train", "a.csv", "--epochs", 1, "--out", "run", cwd=tmp_path)
    begin = "the training data have changed: some samples have other values; the validation data "
    begin += "have changed: some samples have other values; the inputs have changed: "
    fewer = {name: column[:30] for name, column in columns.items()}
    for changed, told in (
        (columns | {"b": ["x", "z"] * 30}, "the inputs have changed: 'b=y' gone, 'b=z' new"),
        ({"d": columns["a"], **columns}, f"{begin}'d' new"),
        ({"c": columns["c"], **columns}, f"{begin}they are in another order"),
        (columns | {"kind": [*"pqs"] * 20}, "the classes have changed: 'r' gone, 's' new"),
        (fewer, "the training data have changed: 48 samples then, 24 samples now; the validation "
                "data have changed: 6 samples then, 3 samples now"),
    ):  # fmt: skip
        write(changed)
        _, err = bpx_command("train", "--resume", "run", "--epochs", 2, cwd=tmp_path, status=2)
        said = err.splitlines()[-1]
        assert said == (
            f"bpx: the run in run cannot go on: {told}; give it what it had, or begin another run "
            "with another --out"
        )
    write(columns)
    bpx_command("train", "--resume", "run", "--epochs", 2, cwd=tmp_path)


@pytest.mark.parametrize(
    ("more", "status"), [(("--patience", 1, "--lr", 1e-9), 0), (("--lr", 1e30), 1)]
)
def test_a_run_that_was_stopped_or_diverged_does_not_go_on(tmp_path, rng, more, status):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 3)), y=rng.normal(size=60))
    options = "--epochs", 9, "--out", "run", *more
    bpx_command("train", "a.npz", *options, cwd=tmp_path, status=status)
    for again in (), ("--epochs", 20):
        _, err = bpx_command("train", "--resume", "run", *again, cwd=tmp_path, status=2)
        assert "there is no last.checkpoint to go on from, as it was stopped or diverged" in err


def test_a_schedule_that_cannot_be_longer(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(30, 3), y=np.arange(30) % 3)
    options = "--schedule", "cosine", "--epochs", 1, "--out", "run"
    bpx_command("train", "a.npz", *options, cwd=tmp_path)
    _, err = bpx_command("train", "--resume", "run", "--epochs", 3, cwd=tmp_path, status=2)
    assert "--schedule cosine is laid out over the run's 1 epochs" in err


def test_an_empty_folder_of_checkpoints_beside_a_model(tmp_path):
    """The run has ended; without a model it has not begun."""
    np.savez(tmp_path / "a.npz", x=np.eye(30, 3), y=np.arange(30) % 3)
    bpx_command("train", "a.npz", "--epochs", 0, "--out", "run", cwd=tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir()
    _, err = bpx_command("train", "--resume", "run", cwd=tmp_path, status=2)
    assert "has ended: more --epochs go on with it, and --out run --overwrite trains anew" in err
    (tmp_path / "run" / "model.safetensors").unlink()
    bpx_command("train", "--resume", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (None, "expected a folder that bpx train --out has made"),
        ("{", "recipe.json is damaged: Expecting"),
        ("[" * 10**5, "recipe.json is damaged: maximum recursion"),
        ("[]", "recipe.json is damaged: expected a JSON object of options"),
        ('{"ignore": [5]}', "recipe.json is damaged: ignore = [5] is not an option of bpx train"),
        ('{"hidden": 5}', "recipe.json is damaged: hidden = 5 is not an option of bpx train"),
        ('{"out": null}', "recipe.json is damaged: out = None is not an option of bpx train"),
    ],
)
def test_a_folder_that_no_run_has_made(tmp_path, recipe, message):
    if recipe is not None:
        (tmp_path / "recipe.json").write_text(recipe)
    _, err = bpx_command("train", "--resume", tmp_path, status=2)
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--resume", "x.tsv"), "expected a folder that bpx train --out has made"),
        (("train", "x.tsv"), "expected at least 10 samples in x.tsv"),
        (("train", "y.tsv"), "(its cells look separated by ',': --separator ,)"),
        (("train", "x.txt"), "got 'x.txt': name it .csv, and pass --separator tab"),
        (
            ("train", "x.txt", "--separator", "tab"),
            "are for a .csv file, got x.txt: name it .csv, and pass --separator tab",
        ),
        (
            ("predict", "x.csv", "x.bin"),
            "expected a model first, a .safetensors file or the folder of",
        ),
        (("train", "x.bin"), "expected a .npz, .npy, .csv or .parquet file, got 'x.bin'"),
        (("train", "x.csv.gz"), "got 'x.csv.gz': unpack it first; .parquet is packed, and is re"),
        (("train", "x.xlsx"), "got 'x.xlsx': save its sheet as a .csv file"),
        (("train", "."), ". is a folder, expected a .npz, .npy, .csv or .parquet file"),
    ],
)
def test_a_file_where_a_folder_is_wanted_and_others(tmp_path, words, message):
    for name in ("x.tsv", "x.txt", "x.bin", "x.csv.gz", "x.xlsx"):
        (tmp_path / name).write_text("a\tb\n1\t2\n")
    (tmp_path / "y.tsv").write_text("a,b\n1,2\n")
    _, err = bpx_command(*words, cwd=tmp_path, status=2)
    assert message in err


def test_what_is_read_is_not_replaced(tmp_path):
    table = "a,y\n" + "1,2.5\n2,3.5\n" * 9
    for name in ("a.csv", "history.csv"):
        (tmp_path / name).write_text(table)
    net = bpx.Network([1, 1], seed=0)
    (tmp_path / "net.onnx").write_bytes(net.to_bytes())
    (tmp_path / "link.csv").symlink_to("a.csv")
    for arguments, message in (
        (("predict", "net.onnx", "a.csv", "--target", "y", "--out", "./a.csv"), "would replace a"),
        (("predict", "net.onnx", "a.csv", "--target", "y", "--out", "link.csv"), "replace a.csv"),
        (("export", "net.onnx", "net.onnx"), "net.onnx would replace net.onnx, which it is made"),
        (("train", "history.csv", "--out", ".", "--overwrite"), "history.csv, its data: name ano"),
        (("train", "a.csv", "--out", "."), "already has a history.csv, which the run would repl"),
    ):
        _, err = bpx_command(*arguments, cwd=tmp_path, status=2)
        assert message in err
        assert len([line for line in err.splitlines() if "note" not in line]) == 1
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "history.csv").read_text() == table
    assert bpx.load(tmp_path / "net.onnx").input_shape == (1,)
    assert not (tmp_path / "checkpoints").exists()
    bpx_command("train", "a.csv", "--epochs", 1, "--out", ".", "--overwrite", cwd=tmp_path)
    assert (tmp_path / "history.csv").read_text().startswith("epoch,")


def test_predict_the_test_part_of_digits(run_folder):
    net, test = bpx.load(run_folder / "model.safetensors"), bpx.datasets.digits().test
    out, _ = bpx_command("predict", run_folder, "digits")
    assert out.split() == [str(label) for label in net.predict(test.x)]
    _, err = bpx_command("predict", run_folder, "digits", "--target", "y", status=2)
    assert "--target is for files" in err


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_predict(run_folder, tmp_path, kind):
    x = bpx.datasets.digits().test.x[:5]
    net = bpx.load(run_folder / "model.safetensors")
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "npz":
        np.savez(path, x=x)
    else:
        header = ",".join(f"pixel{i}" for i in range(64))
        np.savetxt(path, x, delimiter=",", header=header, comments="", fmt="%.9g")
    out, _ = bpx_command("predict", run_folder / "model.safetensors", path)
    assert [int(line) for line in out.split()] == net.predict(x).tolist()
    bpx_command(
        "predict", run_folder / "model.safetensors", path, "--outputs", "--out", tmp_path / "a.npy"
    )
    assert np.abs(np.load(tmp_path / "a.npy") - net.feedforward(x)).max() < 1e-6
    bpx_command("predict", run_folder / "model.safetensors", path, "--out", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().split() == ["label", *out.split()]
    bpx_command("predict", run_folder / "model.safetensors", path, "--out", tmp_path / "A.NPY")
    assert np.load(tmp_path / "A.NPY").tolist() == net.predict(x).tolist()


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_an_ensemble(tmp_path, combine):
    _, _, (x, y) = bpx.datasets.digits()
    ensemble = bpx.Ensemble.of(4, bpx.Network([64, 10], seed=0), combine)
    ensemble.save(tmp_path / "a.safetensors")
    out, _ = bpx_command("evaluate", tmp_path / "a.safetensors", "digits")
    found = ensemble.evaluate(x, y)
    assert out == f"cost {found['cost']:.6g}\naccuracy {100 * found['accuracy']:.2f} %\n"
    np.save(tmp_path / "x.npy", x)
    out, _ = bpx_command("predict", tmp_path / "a.safetensors", tmp_path / "x.npy")
    assert [int(line) for line in out.split()] == ensemble.predict(x).tolist()
    bpx_command("predict", tmp_path / "a.safetensors", tmp_path / "x.npy", "--outputs",
                "--out", tmp_path / "a.npy")  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "a.npy"), ensemble(x))


def test_export(run_folder, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    path = tmp_path / "a.onnx"
    out, _ = bpx_command("export", run_folder / "model.safetensors", path)
    assert out == f"wrote {path}: inputs (m, 64) of float32 to label, probabilities\n"
    given = run_folder / "model.safetensors", path, "--overwrite", "--classes", "cat,dog"
    _, err = bpx_command("export", *given, status=2)
    assert err.startswith("bpx: expected 10 different classes, got ['cat', 'dog']")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    x = bpx.datasets.digits().test.x
    found = runtime.InferenceSession(path).run(["label"], {"inputs": x.astype(np.float32)})
    assert np.array_equal(
        found[0], bpx.load(run_folder / "model.safetensors").predict(x.astype(np.float32))
    )
    names = ", ".join("abcdefghij")
    bpx_command("export", *given[:-1], names)
    named = runtime.InferenceSession(path).run(["label"], {"inputs": x.astype(np.float32)})
    assert named[0].tolist() == ["abcdefghij"[label] for label in found[0]]


def test_export_of_an_ensemble(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    bpx.Ensemble.of(3, bpx.Network([4, 3], seed=0), "vote").save(tmp_path / "a.safetensors")
    out, _ = bpx_command("export", "a.safetensors", "a.onnx", cwd=tmp_path)
    assert out == "wrote a.onnx: inputs (m, 4) of float32 to label, probabilities\n"


@pytest.mark.filterwarnings("always")  # they are errors in the tests
def test_export_of_times(tmp_path):
    """Standardized columns are float64 in the model where float32 would lose them."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    x = 1.7e9 + np.linspace(0.0, 600.0, 100)[:, None]
    np.savez(tmp_path / "a.npz", x=x, y=np.sin(x / 100.0))
    bpx_command("train", "a.npz", "--epochs", 5, "--out", "run", cwd=tmp_path)
    model, path = tmp_path / "run" / "model.safetensors", tmp_path / "a.onnx"
    out, err = bpx_command("export", model, path)
    assert out == f"wrote {path}: inputs (m, 1) of float64 to outputs\n"
    assert err.startswith("bpx: warning: the model takes inputs of float64, not of float32")
    (found,) = runtime.InferenceSession(path).run(None, {"inputs": x})
    assert np.abs(found - bpx.load(model).predict(x)).max() < 1e-5


def test_export_of_an_embedding(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    parts = bpx.layers.Embedding(9, 4), bpx.layers.Flatten(), bpx.layers.Dense(2)
    bpx.Network([bpx.layers.Input(3), *parts]).save(tmp_path / "a.safetensors")
    out, _ = bpx_command("export", "a.safetensors", "a.onnx", cwd=tmp_path)
    assert out == "wrote a.onnx: inputs (m, 3) of int64 to outputs\n"


def test_a_csv_of_ones_own(tmp_path, rng):
    x = rng.normal(size=(200, 3)) * [1, 100, 0.01]
    y = x @ [1, 0.01, 100] + 3.0
    np.savetxt(tmp_path / "a.csv", np.c_[x, y], delimiter=",", header="a,b,c,price", comments="")
    out, _ = bpx_command(
        "train", "a.csv", "--target", "price", "--epochs", 40, "--out", "run", cwd=tmp_path
    )
    assert "quadratic cost, regression" in out
    assert "R² 0.9" in out.splitlines()[-1]
    out, _ = bpx_command("evaluate", "run/model.safetensors", "a.csv", cwd=tmp_path)
    assert float(out.split()[1]) < 0.1
    assert "R²" in out
    out, _ = bpx_command(
        "predict", "run/model.safetensors", "a.csv", "--target", "price", cwd=tmp_path
    )
    assert np.corrcoef([float(v) for v in out.split()], y)[0, 1] > 0.98


def test_a_file_larger_than_the_budget(tmp_path, rng):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    x = rng.normal(size=(5000, 4)) * [1, 100, 0.01, 1]
    columns = {f"c{k}": x[:, k] for k in range(4)} | {"label": (x[:, 0] > 0).astype(int)}
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet", row_group_size=100)
    arguments = "train", "a.parquet", "--epochs", 5, "--budget"
    _, err = bpx_command(*arguments, "150 kB", cwd=tmp_path, status=2)
    assert "read in blocks: name the column of its targets with --target" in err
    labelled = "--target", "label", "--out", "run"
    out, _ = bpx_command(*arguments, "150 kB", *labelled, cwd=tmp_path)
    assert out.splitlines()[-1].startswith("test accuracy 9")
    out, _ = bpx_command(
        "evaluate", "run/model.safetensors", "a.parquet", "--target", "label", cwd=tmp_path
    )
    assert "accuracy 9" in out
    model, small = "run/model.safetensors", ("--target", "label", "--budget", "150 kB")
    assert bpx_command("evaluate", model, "a.parquet", *small, cwd=tmp_path)[0] == out
    whole, _ = bpx_command("predict", model, "a.parquet", *small[:2], cwd=tmp_path)
    assert bpx_command("predict", model, "a.parquet", *small, cwd=tmp_path)[0] == whole
    assert bpx_command("evaluate", model, "a.parquet", *small[2:], cwd=tmp_path)[0] == out
    _, err = bpx_command("train", "a.parquet", *small[2:], cwd=tmp_path, status=2)
    assert "read in blocks: name the column of its targets with --target" in err
    tiny = *small[:3], "50 kB"
    _, err = bpx_command("evaluate", model, "a.parquet", *tiny, cwd=tmp_path, status=2)
    assert re.search(r"holds 0 rows in each of two windows besides \d+ bytes for y", err)


def test_images_larger_than_the_budget(tmp_path, rng):
    """A network of vectors takes them flattened, and its scale from those that validate."""
    x, y = rng.normal(size=(400, 4, 4)), rng.integers(2, size=400)
    path, model = tmp_path / "a.npz", tmp_path / "net.safetensors"
    np.savez(path, x=x, y=y)
    bpx.Network([16, 2], output="softmax", seed=0, dtype="float64").save(model)
    for command in ("evaluate", "predict"):
        whole = bpx_command(command, model, path)
        assert bpx_command(command, model, path, "--budget", "20 kB") == whole
    parts, _, some = samples.parts(str(path), None, 0, "20 kB")
    assert isinstance(parts[0][0], Blocks)
    assert some is parts[1][0]
    parts, _, some = samples.parts(str(path), None, 0, "1 GB")
    assert some is parts[0][0]


def houses(path, rng, n=300):
    """Prices in whole numbers, which are not classes."""
    area, rooms = rng.uniform(30, 200, n), rng.integers(1, 7, n)
    price = np.round(2500 * area + 9000 * rooms + 5000 * rng.normal(size=n))
    lines = [f"{a:.1f},{r},{p:.0f}" for a, r, p in zip(area, rooms, price, strict=True)]
    path.write_text("area,rooms,price\n" + "\n".join(lines) + "\n\n")
    return price


def test_whole_numbers_that_are_no_classes(tmp_path, rng):
    price = houses(tmp_path / "houses.csv", rng)
    out, _ = bpx_command("train", "houses.csv", "--target", "price", "--out", "run", cwd=tmp_path)
    assert "regression" in out
    assert "R² 0.9" in out.splitlines()[-1]
    out, _ = bpx_command(
        "predict", "run/model.safetensors", "houses.csv", "--target", "price", cwd=tmp_path
    )
    assert np.corrcoef([float(v) for v in out.split()], price)[0, 1] > 0.95
    _, err = bpx_command("train", "houses.csv", "--task", "classification", cwd=tmp_path, status=2)
    assert "at least two classes" in err
    assert "--task regression" in err


def test_whole_numbers_that_may_be_classes(tmp_path, rng):
    y = rng.integers(1, 4, 60)
    np.savetxt(
        tmp_path / "a.csv", np.c_[rng.normal(size=60), y], "%g,%d", header="x,kind", comments=""
    )
    arguments = "train", "a.csv", "--epochs", 1
    out, err = bpx_command(*arguments, cwd=tmp_path)
    assert "regression" in out
    assert "3 different whole numbers from 1 to 3, which are learned as quantities" in err
    assert "if they are classes, pass --task classification" in err
    out, err = bpx_command(*arguments, "--task", "classification", "--out", "run", cwd=tmp_path)
    assert "regression" not in out + err
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    assert (net.classes, net.output_shape) == ((1, 2, 3), (3,))
    x = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1)[:, :1]
    score, _ = bpx_command("evaluate", "run", "a.csv", cwd=tmp_path)
    assert f"accuracy {100 * net.accuracy(x, y - 1):.2f} %" in score
    printed, _ = bpx_command("predict", "run", "a.csv", "--target", "kind", cwd=tmp_path)
    assert list(map(int, printed.split())) == (net.predict(x) + 1).tolist()
    _, err = bpx_command(*arguments, "--task", "regression", cwd=tmp_path)
    assert "quantities" not in err


@pytest.mark.parametrize(("k", "task"), [(30, "classification"), (31, "regression")])
def test_whole_numbers_are_classes_where_each_is_there_twice(tmp_path, rng, k, task):
    """On average, of 60; more are quantities, such as ranks."""
    y = rng.permutation(np.r_[np.arange(k), np.arange(60 - k)])
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 2)), y=y)
    bpx_command("train", "a.npz", "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert bpx.load(tmp_path / "run" / "model.safetensors").task == task


def test_several_targets_have_a_score_each_whatever_their_order(tmp_path, rng):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    x = rng.normal(size=(20_000, 2))
    y = np.stack([1e5 * x[:, 0], rng.normal(size=len(x))], axis=1)  # the second is noise
    table = np.column_stack([x, y])
    np.savetxt(tmp_path / "t.csv", table, "%.17g", ",", header="a,b,price,luck", comments="")
    arguments = "train", "t.csv", "--target", "price,luck", "--epochs", 2, "--out", "run"
    out, _ = bpx_command(*arguments, cwd=tmp_path)
    tests = out.splitlines()[-3:]
    assert [line.partition(": ")[0] for line in tests[:2]] == ["test price", "test luck"]
    assert tests[2].startswith("test mean of the R² of 2 targets 0.")
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    errors = net.predict(x) - y
    share = 1.0 - (errors**2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    expected = [
        f"{name}: root mean square error {np.sqrt((e**2).mean()):.5g}, R² {r:.4f}"
        for name, e, r in zip(("price", "luck"), errors.T, share, strict=True)
    ]
    expected.append(f"mean of the R² of 2 targets {share.mean():.4f}")
    assert share[0] > 0.9 > 0.5 > share[1]
    for target in ((), ("--target", "price,luck"), ("--target", "luck,price")):
        for budget in ("1 GB", (tmp_path / "t.csv").stat().st_size - 1):  # in memory, in blocks
            given = "evaluate", "run", "t.csv", *target, "--budget", budget
            assert bpx_command(*given, cwd=tmp_path)[0].splitlines()[1:] == expected
    _, err = bpx_command("evaluate", "run", "t.csv", "--target", "luck", cwd=tmp_path, status=2)
    assert "learned the targets price,luck, and --target names luck: leave it out" in err


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_a_score_is_beside_that_of_one_answer_for_all(tmp_path, rng, task):
    x = rng.normal(size=(200, 2))
    y = {"classification": np.int64(x[:, 0] > 0.5), "regression": np.exp(x),
         "multilabel": np.int64(x > -1.0)}[task]  # fmt: skip
    np.savez(tmp_path / "a.npz", x=x, y=y)
    out, _ = bpx_command("train", "a.npz", "--task", task, "--epochs", 1, cwd=tmp_path)
    (_, learned), _, (_, truth) = samples.parts(str(tmp_path / "a.npz"), None, 0, "1 GB")[0]
    if task == "regression":
        errors = np.sqrt(((truth - learned.mean(axis=0)) ** 2).mean(axis=0))
        for line, error in zip(out.splitlines()[-3:-1], errors, strict=True):
            assert line.endswith(f" (the mean alone: {error:.5g})")
    else:
        most = np.array(0 if task == "classification" else [1, 1])
        share = np.mean([np.array_equal(row, most) for row in truth])
        assert (
            f" % (the most frequent label alone: {100 * share:.2f} %) in" in out.splitlines()[-1]
        )


def test_columns_are_found_by_their_names(tmp_path, rng):
    houses(tmp_path / "houses.csv", rng)
    bpx_command("train", "houses.csv", "--epochs", 2, "--out", "run", cwd=tmp_path)
    model = "run/model.safetensors"
    assert bpx.load(tmp_path / model).columns == ("area", "rooms")
    assert bpx.load(tmp_path / model).copy().columns == ("area", "rooms")
    expected, _ = bpx_command("predict", model, "houses.csv", cwd=tmp_path)
    score, _ = bpx_command("evaluate", model, "houses.csv", cwd=tmp_path)
    rows = [line.split(",") for line in (tmp_path / "houses.csv").read_text().split()]
    turned = [f"{price},at home,{rooms},{area}" for area, rooms, price in rows]
    turned[0] = "price,place,rooms,area"
    (tmp_path / "turned.csv").write_text("\n".join(turned))
    assert bpx_command("predict", model, "turned.csv", cwd=tmp_path)[0] == expected
    assert bpx.load(tmp_path / model).target_columns == ("price",)
    for target in ((), ("--target", "price")):
        assert bpx_command("evaluate", model, "turned.csv", *target, cwd=tmp_path)[0] == score
    named = "turned.csv", "--target", "rooms"
    _, err = bpx_command("evaluate", model, *named, cwd=tmp_path, status=2)
    assert "turned.csv: 'rooms' is an input of this network: --target names the targets'" in err
    # The last column is not taken for the targets where it is another one.
    stranger = (tmp_path / "houses.csv").read_text().replace("price", "prize")
    (tmp_path / "other.csv").write_text(stranger)
    _, err = bpx_command("evaluate", model, "other.csv", cwd=tmp_path, status=2)
    assert "other.csv has no column 'price'; did you mean 'prize'?" in err
    named = "other.csv", "--target", "prize"
    assert bpx_command("evaluate", model, *named, cwd=tmp_path)[0] == score
    (tmp_path / "less.csv").write_text("area,room\n50,2\n")
    _, err = bpx_command("predict", model, "less.csv", cwd=tmp_path, status=2)
    assert "less.csv has no column 'rooms'; did you mean 'room'?" in err
    np.save(tmp_path / "x.npy", np.array([row[:2] for row in rows[1:]], float))
    assert bpx_command("predict", model, "x.npy", cwd=tmp_path)[0] == expected  # has no names


def test_columns_of_parquet_are_found_by_their_names(tmp_path, rng):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    columns = {name: rng.normal(size=4000) for name in "abc"}
    columns["y"] = (columns["a"] - columns["c"] > 0).astype(int)
    for name in ("abcy", "ycba"):
        table = arrow.table({column: columns[column] for column in name})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=100)
    small = "--target", "y", "--budget", "90 kB"
    bpx_command("train", "abcy.parquet", *small, "--epochs", 1, "--out", "run", cwd=tmp_path)
    model = "run/model.safetensors"
    expected, _ = bpx_command("evaluate", model, "abcy.parquet", *small, cwd=tmp_path)
    for options in (small, small[:2], small[2:], ()):  # in blocks, and in memory
        assert (
            bpx_command("evaluate", model, "ycba.parquet", *options, cwd=tmp_path)[0] == expected
        )
    given = "ycba.parquet", "--target", "a"
    for options in ((), small[2:]):
        _, err = bpx_command("evaluate", model, *given, *options, cwd=tmp_path, status=2)
        assert "'a' is an input of this network" in err


def guests(folder, rng, n=400):
    """Rows with an index of pandas, a column of text and a name with a comma in it."""
    a, b = rng.normal(size=(2, n))
    lines = [f"{k},guest {k},{a[k]},{b[k]},{a[k] - b[k]}" for k in range(n)]
    (folder / "a.csv").write_text('id,"first, last",a,b,y\n' + "\n".join(lines))
    return {"id": np.arange(n), "first, last": [f"guest {k}" for k in range(n)], "a": a, "b": b,
            "y": a - b}  # fmt: skip


@pytest.mark.parametrize("budget", ["1 GB", "20 kB"], ids=["in memory", "in blocks"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("options", "columns"),
    [
        (["--ignore", "id", "--ignore", "first, last"], ("a", "b")),
        (["--ignore", "first, last", "--ignore", "a,id"], ("b",)),
        (["--columns", "b,a"], ("b", "a")),
        (["--columns", "b", "--columns", "id"], ("b", "id")),
    ],
)
def test_columns_that_are_x(tmp_path, rng, monkeypatch, budget, kind, options, columns):
    table = guests(tmp_path, rng)
    if kind == "parquet" or budget != "1 GB":
        arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.table(table), tmp_path / "a.parquet", row_group_size=20)
        monkeypatch.setattr("bpx.data.readers._csv.LINES", 500)
    given = f"a.{kind}", "--budget", budget
    arguments = *given, "--target", "y", *options, "--epochs", 1
    bpx_command("train", *arguments, "--out", "run", cwd=tmp_path)
    net = bpx.load(tmp_path / "run" / "model.safetensors")
    assert (net.columns, net.target_columns) == (columns, ("y",))
    score, _ = bpx_command("evaluate", "run", *given, cwd=tmp_path)
    x = np.stack([np.asarray(table[name], float) for name in columns], axis=1)
    expected = net.evaluate(x, table["y"])["cost"]
    assert float(score.split()[1]) == pytest.approx(expected, rel=1e-4)
    printed, _ = bpx_command("predict", "run", *given, cwd=tmp_path)
    assert len(printed.split()) == len(x)


def test_the_columns_of_a_run_that_is_resumed(tmp_path, rng):
    guests(tmp_path, rng)
    options = "a.csv", "--ignore", "id", "--ignore", "first, last", "--epochs", 1, "--out"
    bpx_command("train", *options, "whole", cwd=tmp_path)
    bpx_command("train", *options, "run", cwd=tmp_path)
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "checkpoints").mkdir()
    bpx_command("train", "--resume", "run", cwd=tmp_path)
    models = [tmp_path / run / "model.safetensors" for run in ("whole", "run")]
    (theirs, header), (ours, other) = map(persistence.read, models)
    assert header == other
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_column_of_text_may_be_left_out(tmp_path, rng):
    table = guests(tmp_path, rng)
    _, err = bpx_command("train", "a.csv", cwd=tmp_path, status=2)
    told = "got 400 in 'first, last' (400 rows): leave it out (bpx train --ignore 'first, last')"
    assert told in err
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    _, err = bpx_command(
        "train", "a.csv", "--target", "y", "--budget", "20 kB", cwd=tmp_path, status=2
    )
    assert told in err
    parquet.write_table(arrow.table(table), tmp_path / "a.parquet")
    _, err = bpx_command("train", "a.parquet", "--target", "y", cwd=tmp_path, status=2)
    assert told in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ignore", "idd"], "a.csv has no column 'idd'; did you mean 'id'? Known: a, b, first,"),
        (["--columns", "aa"], "a.csv has no column 'aa'; did you mean 'a'? Known: a, b, first,"),
        (["--columns", "a", "--ignore", "b"], "both say which columns are x: pass one of them"),
        (["--ignore", "y"], "a.csv: --ignore names 'y', the target: name another --target"),
        (["--columns", "a,b", "--target", "b"], "--columns names 'b', the target: name another"),
        (["--columns", "a,b,a"], "--columns names the column 'a' more than once"),
        (
            ["--ignore", "id,a,b", "--ignore", "first, last"],
            "a.csv has no column left for x besides a, b, first, last, id, y",
        ),
    ],
    ids=" ".join,
)
def test_columns_that_cannot_be_x(tmp_path, rng, options, message):
    guests(tmp_path, rng)
    _, err = bpx_command("train", "a.csv", *options, cwd=tmp_path, status=2)
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_column_that_numbers_the_rows_is_told(tmp_path):
    """Whatever the order of training; and no column that only begins so."""
    rows = [f"{10_000 + k},{k / 2},{k % 3},{k},{k // 10}" for k in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["id,half,three,last day,y", *rows]))
    note = "bpx: note: column {} rises by 1 from row to row, as numbers of the rows do: bpx train"
    id_, day = note.format("'id'"), note.format("'last day'")
    for options, expected in (
        ([], [f"{id_} --ignore id leaves it out", f"{day} --ignore 'last day' leaves it out"]),
        (["--ignore", "id"], [f"{day} --ignore 'last day' leaves it out"]),
        (["--ignore", "id,last day"], []),
        (["--columns", "id,half"], []),
    ):
        given = "a.csv", "--target", "y", "--epochs", 1, *options
        assert bpx_command("train", *given, cwd=tmp_path)[1].splitlines() == expected


def test_a_row_and_the_index_of_pandas_are_no_names_to_ignore(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3\n" * 20)
    _, err = bpx_command("train", "a.csv", "--ignore", "1", cwd=tmp_path, status=2)
    assert "expected the columns' names in the first line, got '1', '2', '3', as in a row" in err
    (tmp_path / "b.csv").write_text(",a,y\n" + "1,2,3\n" * 20)
    _, err = bpx_command("train", "b.csv", "--ignore", "a", cwd=tmp_path, status=2)
    assert "a column has no name, like the index that pandas writes: leave it out with" in err
    assert "index=False) or bpx train --ignore '', or name it in the first line" in err
    bpx_command("train", "b.csv", "--ignore", "", "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert bpx.load(tmp_path / "run" / "model.safetensors").columns == ("a",)


def test_a_target_with_a_comma_in_its_name(tmp_path):
    (tmp_path / "a.csv").write_text('a,"price, EUR"\n' + "1,2.5\n2,3.5\n" * 10)
    for target in ((), ("--target", "price, EUR")):
        arguments = "a.csv", *target, "--epochs", 1, "--out", "run", "--overwrite"
        bpx_command("train", *arguments, cwd=tmp_path)
        assert "R²" in bpx_command("evaluate", "run", "a.csv", *target, cwd=tmp_path)[0]


def test_a_network_of_arrays_knows_no_names(tmp_path, rng):
    price = houses(tmp_path / "houses.csv", rng)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(len(price), 2)), y=price)
    bpx_command("train", "a.npz", "--epochs", 1, "--out", "run", cwd=tmp_path)
    model = "run/model.safetensors"
    _, err = bpx_command("predict", model, "houses.csv", cwd=tmp_path, status=2)
    assert "has 3 columns of inputs, and the network takes 2: name those that are not" in err
    out, _ = bpx_command("predict", model, "houses.csv", "--target", "price", cwd=tmp_path)
    assert len(out.split()) == len(price)
    two = "houses.csv", "--target", "price,rooms"
    _, err = bpx_command("predict", model, *two, cwd=tmp_path, status=2)
    assert err.endswith("houses.csv has 1 column of inputs, and the network takes 2\n")
    layers = bpx.layers.Input((1, 2, 3)), bpx.layers.Flatten(), bpx.layers.Dense(1)
    bpx.Network(layers, seed=0).save(tmp_path / "images.safetensors")
    _, err = bpx_command("predict", "images.safetensors", "houses.csv", cwd=tmp_path, status=2)
    assert err.endswith("houses.csv has 3 columns of inputs, and the network takes 6\n")


def test_a_table_of_very_many_columns(tmp_path):
    """Looked up one after another, they would take minutes."""
    names = [f"gene {k}" for k in range(100_000)]
    path = tmp_path / "a.csv"
    path.write_text(f"{','.join(names)},y\n{'7,' * len(names)}1\n")
    found = tables.read(path, None)
    assert found.names == (tuple(names), ("y",), None)
    turned = Features(names[::-1])
    assert tables.read(path, "y", features=turned).x.shape == (1, len(names))
    path.write_text(f"{','.join(names)},y,y\n7\n")
    with pytest.raises(ValueError, match="has two columns named 'y'"):
        tables.read(path, None)


def test_several_columns_of_targets(tmp_path, rng):
    x = rng.normal(size=(200, 2))
    table = np.c_[x, x[:, 0] > 0, x[:, 1] > 0]
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header="a,b,up,right", comments="")
    arguments = ["train", "a.csv", "--target", "up,right", "--task", "multilabel"]
    out, _ = bpx_command(*arguments, "--epochs", 60, cwd=tmp_path)
    assert "Dense 2, sigmoid" in out
    assert "(m, 2)" in out.splitlines()[2]
    assert float(out.splitlines()[-1].split()[2]) > 90


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_targets_with_a_single_1_in_each_row_are_classes(tmp_path, rng, dtype):
    x = rng.normal(size=(200, 3))
    labels = x.argmax(axis=1)
    np.savez(tmp_path / "labels.npz", x=x, y=labels)
    np.savez(tmp_path / "rows.npz", x=x, y=np.eye(3)[labels].astype(dtype))
    arguments = "--epochs", 20, "--out"
    bpx_command("train", "labels.npz", *arguments, "a", cwd=tmp_path)
    out, err = bpx_command("train", "rows.npz", *arguments, "b", cwd=tmp_path)
    assert "log-likelihood cost, classification" in out
    said = "a single 1 in 3 columns, which are learned as classes 0 to 2; --task decides otherwise"
    assert said in err
    models = [tmp_path / run / "model.safetensors" for run in "ab"]
    theirs, ours = (bpx.load(model).parameters for model in models)
    assert np.abs(theirs - ours).max() < 1e-5
    score = bpx_command("evaluate", models[1], tmp_path / "labels.npz")
    assert bpx_command("evaluate", models[1], tmp_path / "rows.npz") == score
    for task in ("classification", "multilabel", "regression"):
        out, err = bpx_command("train", "rows.npz", "--task", task, "--epochs", 1, cwd=tmp_path)
        assert f"cost, {task}" in out
        assert err == ""


def test_rows_with_a_single_1_for_a_network_whose_classes_are_numbers(tmp_path, rng):
    x, labels = rng.normal(size=(30, 2)), rng.integers(3, size=30)
    net = bpx.Network([2, 3], output="softmax", seed=0)
    net.classes = [30, 10, 20]
    net.save(tmp_path / "net.safetensors")
    np.savez(tmp_path / "rows.npz", x=x, y=np.eye(3)[labels])
    np.savez(tmp_path / "names.npz", x=x, y=np.array(net.classes)[labels])
    score, other = (
        bpx_command("evaluate", tmp_path / "net.safetensors", tmp_path / f"{name}.npz")
        for name in ("rows", "names")
    )
    assert score == other


def test_columns_of_0_and_1_that_are_no_classes(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 3)), y=rng.integers(2, size=(40, 3)))
    out, err = bpx_command("train", "a.npz", "--epochs", 1, cwd=tmp_path)
    assert "regression" in out
    assert "0 and 1 in 3 columns, which are learned as quantities; if each means no or yes" in err
    assert "--task multilabel" in err


@pytest.mark.parametrize(("name", "what"), [("x", "x"), ("y", "the targets")])
def test_a_number_that_is_not_finite_is_told_by_its_row_in_the_file(tmp_path, rng, name, what):
    arrays = {"x": rng.normal(size=(40, 1)), "y": rng.normal(size=40)}
    arrays[name][3] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    _, err = bpx_command("train", "a.npz", cwd=tmp_path, status=2)
    assert (
        f"a.npz: NaN or infinity in {what}, first in row 3: fill it, or leave the row out" in err
    )


def test_targets_that_are_alike_are_told(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 2)), y=np.full(40, 2.5))
    _, err = bpx_command("train", "a.npz", "--epochs", 1, cwd=tmp_path)
    assert err == "bpx: note: all targets are the same, so there is nothing to learn\n"


def test_small_files_images_and_labels_of_any_kind(tmp_path, rng):
    """Ten samples; images; labels as floats and as a column; names in any case."""
    labels = np.arange(10) % 2
    x = rng.normal(size=(10, 4, 4)) + 3.0 * labels[:, None, None]
    for y in (labels, labels.astype(float), labels[:, None]):
        np.savez(tmp_path / "a.npz", x=x, y=y)
        arguments = ["train", "a.npz", "--epochs", 3, "--optimizer", "Adam", "--out", "run"]
        out, _ = bpx_command(*arguments, "--overwrite", cwd=tmp_path)
        assert "classification" in out
    _, err = bpx_command(*arguments, cwd=tmp_path, status=2)
    assert "run already has a trained model: name another --out, or pass --overwrite" in err
    np.save(tmp_path / "b.npy", x)
    out, _ = bpx_command("predict", "run/model.safetensors", "b.npy", cwd=tmp_path)
    assert len(out.split()) == 10
    assert "accuracy" in bpx_command("evaluate", "run/model.safetensors", "a.npz", cwd=tmp_path)[0]


def test_a_regression_is_saved_whole(tmp_path, rng):
    """With its generator and key, on the scale of the targets, in whatever case it is asked."""
    price, files = houses(tmp_path / "HOUSES.CSV", rng), []
    for name in ("identity", "Identity"):
        arguments = ["train", "HOUSES.CSV", "--output", name, "--epochs", 5, "--out", name]
        bpx_command(*arguments, cwd=tmp_path)
        files.append(persistence.read(tmp_path / name / "model.safetensors"))
    (tensors, header), (others, other) = files
    assert header == other
    assert all(np.array_equal(tensors[key], others[key]) for key in tensors)
    net = bpx.load(tmp_path / "Identity" / "model.safetensors")
    assert abs(net.predict([[100.0, 3.0]])[0, 0] / price.mean() - 1) < 0.3
    out, _ = bpx_command("predict", "Identity/model.safetensors", "HOUSES.CSV", cwd=tmp_path)
    assert len(out.split()) == len(price)


def test_a_regression_minimizes_squares_whatever_its_output(tmp_path, rng):
    """Also with a sigmoid, whose own cost is the cross-entropy."""
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 2)), y=rng.random(40))
    arguments = "--output", "sigmoid", "--epochs", 1, "--out", "run"
    bpx_command("train", "a.npz", *arguments, cwd=tmp_path)
    assert bpx.load(tmp_path / "run" / "model.safetensors").cost.name == "quadratic"


def test_version():
    assert bpx_process("--version") == f"bpx {bpx.__version__}\n"


def test_an_npz_of_ones_own(tmp_path, rng):
    x = rng.normal(size=(100, 3))
    np.savez(tmp_path / "a.npz", x=x, y=(x[:, 0] > 0).astype(int))
    out, _ = bpx_command("train", "a.npz", "--epochs", 30, cwd=tmp_path)
    assert "classification" in out


@pytest.mark.parametrize(
    "options",
    [
        [
            "--optimizer",
            "adam",
            "--schedule",
            "cosine",
            "--activation",
            "relu",
            "--hidden",
            "20,20",
        ],
        ["--momentum", "0.9", "--nesterov", "--learning-rate", "0.1", "--dropout", "0.2"],
        ["--l1", "0.1", "--l2", "0.1", "--clip-norm", "1", "--clip-value", "1", "--no-shuffle"],
        ["--output", "sigmoid", "--cost", "quadratic", "--dtype", "float64", "--seed", "3"],
        ["--backend", "array_api_strict", "--batch-size", "100", "--progress"],
        *[["--schedule", s] for s in ("step", "exponential", "warm-up", "one-cycle", "plateau")],
        ["--schedule", "inverse-scaling"],
    ],
    ids=" ".join,
)
def test_options_of_train(options):
    out, err = bpx_command("train", "--epochs", 2, *options)
    assert "test accuracy" in out
    assert ("epoch 2; training cost" in err) == ("--progress" in options)


def test_options_of_train_go_to_fit(monkeypatch):
    train, given = cli.training.train_quietly, {}

    def spy(net, x, y, options, ranks):
        given.update(vars(options), weights={layer.weights for layer in net.layers})
        return train(net, x, y, options, ranks)

    monkeypatch.setattr(cli.training, "train_quietly", spy)
    expected = {"epochs": 1, "batch_size": 50, "accumulate": 2, "l1": 0.1, "l2": 0.2,
                "clip_norm": 3.0, "clip_value": 4.0, "precision": "float32"}  # fmt: skip
    numbers = [f"--{name.replace('_', '-')}={value}" for name, value in expected.items()]
    numbers += ["--drop-last", "--weights", "normal"]
    bpx_command("train", *numbers, "--momentum", 0.9, "--nesterov", "--no-shuffle")
    expected |= {"shuffle": False, "optimizer": bpx.SGD(0.5, 0.9, nesterov=True)}
    expected |= {"drop_last": True, "weights": {bpx.initializers.Normal()}}
    assert {name: given[name] for name in expected} == expected
    bpx_command("train", "--epochs", 2, "--batch-size", 500, "--drop-last", "--schedule", "cosine")
    assert given["optimizer"].learning_rate == schedules.Cosine(0.5, 4)  # of 1,197 samples


@pytest.mark.parametrize("kind", ["labels", "names", "rows", "in blocks"])
def test_classes_of_equal_weight(tmp_path, rng, monkeypatch, kind):
    train, given = cli.training.train_quietly, {}

    def spy(net, x, y, options, ranks):
        given.update(y=y, weight=options.sample_weight)
        return train(net, x, y, options, ranks)

    monkeypatch.setattr(cli.training, "train_quietly", spy)
    labels = rng.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    names = np.array(["oak", "elm", "yew"])[labels] if kind == "names" else labels
    if kind == "names":
        table = "\n".join(f"{k % 7},{name}" for k, name in enumerate(names))
        (tmp_path / "a.csv").write_text(f"x,kind\n{table}")
    else:
        y = np.eye(3)[labels] if kind == "rows" else labels
        np.savez(tmp_path / "a.npz", x=rng.normal(size=(100, 20)), y=y)
    data = "a.csv" if kind == "names" else "a.npz"
    options = "--class-weight", "balanced", "--epochs", 2, "--out", "run"
    if kind == "in blocks":
        monkeypatch.setattr(tables, "BUDGET", 12_000)
    bpx_command("train", data, *options, cwd=tmp_path)
    y = given["y"] if given["y"].ndim == 1 else given["y"].argmax(axis=1)
    shares = [given["weight"][y == label] for label in range(3)]
    assert [len(share) * share[0] for share in shares] == pytest.approx([len(y) / 3] * 3)
    assert all(np.ptp(share) == 0.0 for share in shares)
    assert '"class_weight": "balanced"' in (tmp_path / "run" / "recipe.json").read_text()


def test_class_weights_are_for_classes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(20, 2), y=np.linspace(0, 1, 20))
    arguments = "train", "a.npz", "--class-weight", "balanced"
    _, err = bpx_command(*arguments, cwd=tmp_path, status=2)
    assert "--class-weight is for a classification, and the task is regression: leave it" in err


@pytest.mark.parametrize("budget", ["1 GB", "900"])
def test_scores_of_each_class(tmp_path, budget):
    net = bpx.Network([3, 3], output="softmax", bias="zeros")
    net.weights[0] = np.eye(3)
    net.classes = "oak", "elm", "yew, old"
    net.save(tmp_path / "net.safetensors")
    x, y = np.repeat(np.eye(3)[[0, 0, 1]], 5, axis=0), np.repeat([0, 1, 1], 5)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    evaluate = "evaluate", "net.safetensors", "a.npz", "--by-class", "--budget", budget
    out, _ = bpx_command(*evaluate, cwd=tmp_path)
    assert out.splitlines()[1:] == [
        "accuracy 66.67 %",
        "class       samples  precision     recall",
        "oak               5    50.00 %   100.00 %",
        "elm              10   100.00 %    50.00 %",
        "yew, old          0          -          -",
    ]
    many = bpx.Network([3, 23], output="softmax", seed=0)
    rows = np.eye(23)[[*range(15)]]
    assert console.scores_by_class(many, x, rows).splitlines()[-1] == "and 3 more classes"
    bpx.Network([3, 1], output="identity", seed=0).save(tmp_path / "net.safetensors")
    _, err = bpx_command(*evaluate, cwd=tmp_path, status=2)
    assert "--by-class is for a classification, and the model's task is regression" in err


@pytest.mark.parametrize(
    ("closed", "other", "arguments", "status"),
    [("stdout", "err", ["gradcheck"], 0), ("stderr", "out", ["evaluate", "no", "digits"], 2)],
)
def test_a_closed_stream(monkeypatch, capsys, closed, other, arguments, status):
    """What would go there goes nowhere, not to the other stream."""
    monkeypatch.setattr(sys, closed, None)
    monkeypatch.setattr(sys, "argv", ["bpx", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    getattr(sys, closed).close()
    assert ended.value.code == status
    assert getattr(capsys.readouterr(), other) == ""


@pytest.mark.parametrize("progress", [[], ["--progress"]])
def test_a_run_goes_on_when_nobody_reads_its_lines(tmp_path, progress):
    """As in ``| head``; without --out, nothing would be left of it."""
    command = [sys.executable, "-m", "bpx", "train", "--epochs", "100", *progress]
    for out, status in ((["--out", "run"], 0), ([], 1)):
        with subprocess.Popen(
            [*command, *out], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"MPLBACKEND": "Agg"},
        ) as process:  # fmt: skip
            process.stdout.readline()
            process.stdout.close()
            assert process.wait() == status
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 101
    assert bpx.load(tmp_path / "run" / "model.safetensors").input_shape == (64,)


def test_backends():
    out, _ = bpx_command("backends")
    assert "numpy" in out.splitlines()[1]
    assert "GiB" in out


def test_compile(monkeypatch, tmp_path):
    """What it does by itself is in test_machine_code.py and test_compiled.py."""

    def made(*dtypes):
        found = enumerate(dtypes or ("float32",))
        return [bpx.backends.Compiled(dtype, tmp_path, bool(at)) for at, dtype in found]

    monkeypatch.setattr(bpx.backends, "compile", made)
    out, _ = bpx_command("compile")
    assert re.match(r"0 functions compiled in \d+\.\d s, 1 were there\n", out)
    out, _ = bpx_command("compile", "--dtype", "float32", "--dtype", "float64")
    assert out.startswith("1 functions compiled in ")
    assert out.splitlines()[1:] == [f"they are kept in {tmp_path}"]


def test_compile_where_nothing_can_be_kept(monkeypatch):
    def refuse():
        raise OSError("set NUMBA_CACHE_DIR")

    monkeypatch.setattr(bpx.backends, "compile", refuse)
    assert bpx_command("compile", status=1) == ["", "bpx: set NUMBA_CACHE_DIR\n"]


def test_compile_without_numba(monkeypatch):
    monkeypatch.setenv("BPX_FAST", "1")
    monkeypatch.setattr(_fast, "missing", lambda: ["numba"])
    _, err = bpx_command("compile", status=2)
    assert err == "bpx: compiled functions need numba: pip install numba scipy threadpoolctl\n"


def test_alone_it_shows_its_help():
    out, _ = bpx_command()
    assert out.startswith("Usage: ")
    assert "gradcheck" in out
    assert bpx_command("-h")[0] == out
    assert all(name in bpx_command("train", "-h")[0] for name in ("--l2", "[default: digits]"))


@pytest.mark.parametrize(
    ("option", "known"),
    [
        # A constant needs its value.
        ("weights", set(bpx.initializers.INITIALIZERS.builtin) - {"constant"}),
        ("activation", set(bpx.activations.ACTIVATIONS.builtin)),
        ("optimizer", set(bpx.optimizers.OPTIMIZERS.builtin)),
    ],
)
def test_its_help_names_all_that_an_option_takes(option, known):
    help_of = next(
        part for part in bpx_command("train", "-h")[0].split("\n  --") if part.startswith(option)
    )
    words = re.findall(r"[\w-]+", re.sub(r"-\s+", "-", help_of))  # where a line was broken
    assert known <= set(words)


def test_gradcheck():
    out, _ = bpx_command("gradcheck", "--activation", "gelu", "--l2", 0.5)
    assert out.splitlines()[-1].startswith("worst")
    out, _ = bpx_command("gradcheck", "--output", "identity")  # on which the quadratic is legal
    assert out.splitlines()[-1].startswith("worst")


def test_gradcheck_of_a_wrong_gradient(monkeypatch):
    penalties = {}

    def wrong(net, x, y, **options):
        penalties.update(options)
        return types.SimpleNamespace(worst=1e-7)

    monkeypatch.setattr(cli, "gradient_check", wrong)
    bpx_command("gradcheck", "--l1", 0.25, "--l2", 0.5, status=1)
    assert penalties == {"l1": 0.25, "l2": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnits"], "unknown data 'mnits'; did you mean 'mnist'?"),
        (["train", "MNIST"], "unknown data 'MNIST'; did you mean 'mnist'?"),
        (
            ["train", "--weights", "--epochs", "1"],
            "data '1': --weights needs a value, got --epochs",
        ),
        (["train", "digits", "--out", "--seed", "1"], "(1): --out needs a value, got --seed"),
        (["train", "--drop-last", "true"], "data 'true': --drop-last is a flag, without a value"),
        (["train", "--no-shuffle", "x"], "data 'x': --no-shuffle is a flag, without a value"),
        (
            ["train", "--hidden", "30", "30"],
            "several have a comma and no space between them, --hidden 30,30",
        ),
        (["train", "none.csv"], "there is no file none.csv"),
        (["train", "notes.txt"], "there is no file notes.txt"),
        (["train", "--epochs", "x"], "--epochs"),
        (["train", "--activation", "rleu"], "did you mean 'relu'?"),
        # Before the data, which may take long to read.
        (["train", "gone.csv", "--activation", "rleu"], "unknown activation 'rleu'; did you"),
        (["train", "gone.csv", "--output", "sofmax"], "unknown activation 'sofmax'; did you"),
        (["train", "gone.csv", "--optimizer", "adm"], "unknown optimizer 'adm'; did you mean"),
        (["train", "gone.csv", "--cost", "hubr"], "unknown cost 'hubr'; did you mean 'huber'?"),
        (["train", "gone.csv", "--dropout", "2"], "expected 0 <= the rate of Dropout < 1, got 2"),
        (["train", "gone.csv", "--batch-size", "0"], "expected batch_size >= 1, got 0"),
        (["train", "gone.csv", "--backend", "cuda"], "unknown backend 'cuda': use 'cupy' or"),
        (["train", "gone.csv", "--dtype", "half"], "expected dtype 'float32' or 'float64', got"),
        (["train", "gone.csv", "--lr", "-1"], "expected the learning rate (or a Schedule) >= 0"),
        (["train", "--optimizer", "adm"], "did you mean 'adam'?"),
        (["train", "--weights", "norml"], "unknown initializer 'norml'; did you mean 'normal'?"),
        (["train", "--weights", "constant"], "--weights constant needs its value, which has no"),
        (["train", "--precision", "float16"], "precision='float16' needs --backend cupy; this "),
        (["train", "--precision", "half"], "unknown precision 'half'; did you mean 'float16'?"),
        (["train", "--precision", "double"], "of products; for float64 pass --dtype float64"),
        (["train", "--hidden", "none"], "such as 256,128, got 'none': for none of them \"\""),
        (["train", "--hidden", "0"], "such as 256,128, got '0': for none of them \"\""),
        (["train", "--schedule", "cos"], "unknown schedule 'cos'"),
        (["train", "--hidden", "a"], "expected hidden sizes such as 100 or 256,128"),
        (
            ["train", "--hidden", "20,,3"],
            "expected hidden sizes such as 100 or 256,128, got '20,,3'",
        ),
        (["train", "--task", "regress"], "did you mean 'regression'?"),
        (["train", "--batch-size", "5000"], "expected 1 <= batch_size <= n = 1197"),
        (["train", "--learning-rate", "-1"], "expected the learning rate (or a Schedule) >= 0"),
        (
            ["train", "--optimizer", "adam", "--momentum", "0.9"],
            "momentum and nesterov are for sgd",
        ),
        (["train", "--nesterov"], "--nesterov needs a momentum, such as --momentum 0.9"),
        (["train", "--backend", "nunpy"], "unknown backend 'nunpy'"),
        (["train", "--out", __file__], "is a file, expected a folder"),
        (["train", "--what"], "--what"),
        (["train", "--output-dir", "a"], "No such option: --output-dir; here it is --out\n"),
        (["predict", "a", "b", "--sep", ";"], "No such option: --sep; here it is --separator\n"),
        (["train", "--gpu"], "No such option: --gpu; here it is --backend cupy\n"),
        (["train", "--weight_decay", "1"], "No such option: --weight_decay; here it is --l2\n"),
        (["predict", "a", "b", "--proba"], "No such option: --proba; here it is --outputs\n"),
        (["train", "--verbose"], "here it is --progress, or the line that each epoch has anyway"),
        (["predict", "a", "b", "--loss", "c"], "No such option: --loss\n"),
        (["train", "--lr", "abc"], "'abc'"),
        (["resume", "a"], "No such command 'resume'; here it is bpx train --resume run\n"),
        (["trian"], "Did you mean 'train'?"),
        (["train", "--resume", "a", "--lr", "1"], "epochs from a/recipe.json: leave out --learni"),
        (["train", "digits", "--resume", "a"], "from a/recipe.json: leave out the data\n"),
        (["evaluate", "none", "digits"], "there is no none: expected a .safetensors file, or the"),
        (["summary", "none"], "there is no none: expected a .safetensors file, or the folder of"),
        (["predict", "none", "digits"], "there is no none: expected a .safetensors file, or the"),
        (
            ["predict", "none", "x.npy", "--overwrite"],
            "--overwrite is for predictions that are written to a file: pass --out",
        ),
        (["predict", "none", "x.npy", "--out", "a.txt"], "expected --out to end in .npy or .csv"),
        (["export", "none", "a.onnx"], "none"),
        (["export", "a.safetensors", "a.safetensors"], "expected a file that ends in .onnx"),
        (["nope"], "nope"),
        (["train", "--epochs", "-1"], "expected epochs >= 0, got -1"),
        (["train", "--patience", "0"], "expected patience >= 1, got 0"),
        (["train", "--average-from", "0"], "the start of WeightAveraging >= 1, got 0"),
        (
            ["train", "--average-from", "31"],
            "expected --average-from to be one of 30 epochs, got 31",
        ),
        (["train", "--l2", "-1"], "expected l2 >= 0, got -1.0"),
        (["train", "--clip-norm", "0"], "expected clip_norm > 0, got 0.0"),
        (["train", "none.csv", "--out", "run"], "there is no file none.csv"),
        (
            ["train", "--save-every", "-1", "--out", "run"],
            "expected seconds between checkpoints > 0, got -1.0",
        ),
        (["train", "--budget", "lots"], "expected budget to be bytes, or words such as"),
        (["train", "--seed", "-1"], "expected seed to be an integer >= 0"),
        (["train", "--target", "y"], "--target is for files; digits has its own labels"),
        (["train", "--budget", "1 GB"], "--budget is for files; digits is in memory"),
        (
            ["train", "--ignore", "a"],
            "--ignore is for columns of a .csv or .parquet file, got digi",
        ),
        (["train", "a.npz", "--columns", "a"], "there is no file a.npz"),
        (["train", "a.npz", "--class-weight", "5"], "expected --class-weight balanced, got '5'"),
        (["train", "--no-standardize"], "bpx: --no-standardize is for files; digits is never st"),
        (["train", "--standardize"], "bpx: --standardize is for files; digits is never standard"),
        (
            ["train", "--hidden", "", "--dropout", "0.5"],
            "--dropout is for hidden layers, and --hidden names none\n",
        ),
        (
            ["train", "--hidden", "", "--activation", "sigmoid"],
            "--activation is for hidden layers, and --hidden names none; --output is that of the",
        ),
        (["train", "--save-every", "5"], "--save-every is for a run that is written to a folder"),
        (["train", "--overwrite"], "--overwrite is for a run that is written to a folder: pass"),
        (["gradcheck", "--samples", "0"], "expected samples >= 1, got 0"),
        (
            ["gradcheck", "--sizes", "5,3", "--activation", "gelu"],
            "--activation is for hidden layers, and --sizes names none\n",
        ),
        (["gradcheck", "--l2", "-1"], "expected l2 >= 0, got -1.0"),
        (["compile", "--dtype", "float16"], "expected dtypes 'float32' or 'float64', got 'float1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(tmp_path, arguments, message):
    out, err = bpx_command(*arguments, cwd=tmp_path, status=2)
    assert message in err
    assert err.startswith("bpx: ")
    assert len(err.splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "no rows below its line of names"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1"),
        ("a,b\n1,2\n3,4,5\n", "line 3: expected 2 cells, got 3"),
        ("a,b\n1,1\ncat,1\n", "line 3, column 'a': expected a number, got 'cat'"),
        ("a,b\n1,2\n1,cat\n", "line 3, column 'b': expected a number, got 'cat'"),
        ("a,b\n1,2\n", "a.csv, as a tenth is drawn for --validation and for --test, got 1"),
        (
            "a,b\n1,\n",
            "a.csv, line 2: 1 of the 1 rows have no value in column 'b': leave these rows out, as "
            "--missing mean fills x alone (pandas: frame.dropna(subset=['b']))\n",
        ),
        (
            "a,b\nnan,1\n",
            "line 2, column 'a': expected a number, got 'nan': fill it, or leave the line out, or "
            "pass --missing mean\n",
        ),
        ("a,b\n1,2\n1,NA\n3,4\n5,\n", "line 3: 2 of the 4 rows have no value in column 'b'"),
        ("a,b\n1,NA\n5,6,7\n8\n", "line 2: 1 of the 3 rows have no value in column 'b'"),
        ("a,b\n1e999,1\n", "line 2, column 'a': expected a number, got '1e999', which is not fin"),
        (
            'a,b\n"45,2478",1\n',
            "got '45,2478': pass --decimal , if its comma is the decimal mark, or write",
        ),
        ("a,b\n1,1\n25-34,1\n", "expected a number, got '25-34'; a column has numbers in all"),
        ("a,b\n2020-01-31,1\n", "got '2020-01-31': write a date as a number, such as the days"),
        (
            "a,b\n31.1.2020,1\n",
            "got '31.1.2020': write a date as a number, such as the days since",
        ),
        (
            "a,b\nred,1\n",
            "a.csv: a column of text has an input for each of its values, at most 1,000 and one "
            "for two rows, got 1 in 'a' (1 row): leave it out (bpx train --ignore a)\n",
        ),
        (
            "a,b\n1_000,1\n",
            "line 2, column 'a': expected a number, got '1_000': write the digits 0 to",
        ),
        (
            "a,b\n١٢,1\n",
            "line 2, column 'a': expected a number, got '١٢': write the digits 0 to 9",
        ),
        ("a,a\n3,4\n", "has two columns named 'a': give each a name of its own"),
        ("a\n" + "3\n" * 20, "has no column left for x besides the targets, a"),
        ('a,b\n1,"2\n', "is not a CSV file in UTF-8: unexpected end of data\n"),
        (",a,b\n0,1,2\n", "a column has no name, like the index that pandas writes: leave it out"),
        ("a;b\n1;2\n", "for x besides the targets, a;b (its cells look separated by ';'"),
        ("a;b\n1,5;2,5\n", "for x besides the targets, a;b (its cells look separated by ';'"),
    ],
)
def test_damaged_csv(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    _, err = bpx_command("train", tmp_path / "a.csv", status=2)
    assert message in err


def test_wrong_columns_and_arrays(tmp_path):
    (tmp_path / "a.csv").write_text("size,price\n1,2\n")
    _, err = bpx_command("train", tmp_path / "a.csv", "--target", "prise", status=2)
    assert "has no column 'prise'; did you mean 'price'?" in err
    (tmp_path / "b.csv").write_text("size;price\n1;2\n")
    _, err = bpx_command("train", tmp_path / "b.csv", "--target", "price", status=2)
    assert err.rstrip().endswith(
        "Known: size;price (its cells look separated by ';': --separator ';')"
    )
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    _, err = bpx_command("train", tmp_path / "a.npz", status=2)
    assert "has no array 'y'" in err
    np.savez(tmp_path / "b.npz", x=np.array([None]), y=np.zeros(1))
    _, err = bpx_command("train", tmp_path / "b.npz", status=2)
    assert "b.npz holds Python objects, which are never unpickled" in err
    np.save(tmp_path / "a.npy", np.zeros(3))
    _, err = bpx_command("train", tmp_path / "a.npy", status=2)
    assert "has no targets" in err
    np.savez(tmp_path / "c.npz", x=np.zeros((12, 2)), y=np.zeros(11))
    _, err = bpx_command("train", tmp_path / "c.npz", status=2)
    assert "expected as many targets as samples, 12, got (11,)" in err
    np.savez(tmp_path / "c2.npz", x=np.zeros((12, 2)), y=np.zeros((12, 2, 2)))
    _, err = bpx_command("train", tmp_path / "c2.npz", status=2)
    assert "expected targets of shape (n,) or (n, k), got (12, 2, 2)" in err
    np.savez(tmp_path / "e.npz", x=np.zeros((12, 2)), y=np.zeros((12, 0)))
    _, err = bpx_command("train", tmp_path / "e.npz", status=2)
    assert "expected targets of shape (n,) or (n, k), got (12, 0)" in err
    _, err = bpx_command("train", tmp_path / "a.csv", "--target", "price,price", status=2)
    assert "--target names the column 'price' more than once" in err
    np.savez(tmp_path / "d.npz", x=np.zeros((12, 2)), y=np.arange(12) % 2 * 7)
    arguments = ["train", tmp_path / "d.npz", "--task", "multilabel", "--batch-size", 2]
    _, err = bpx_command(*arguments, status=2)
    assert "outputs, got 7: multilabel takes a column of 0 and 1 for each label" in err
    np.savez(tmp_path / "e.npz", x=np.zeros((12, 2)), y=np.ones((12, 3)))
    arguments = ["train", tmp_path / "e.npz", "--task", "classification"]
    _, err = bpx_command(*arguments, status=2)
    assert (
        "or columns with a single 1 in each row, got 3 that are not: pass --task multilabel" in err
    )
    content = (tmp_path / "c.npz").read_bytes()
    for damaged in (
        b"PK\x03\x04" + b"x" * 60,
        content[:80],
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'",
    ):
        (tmp_path / "e.npz").write_bytes(damaged)
        _, err = bpx_command("train", tmp_path / "e.npz", status=2)
        assert "e.npz is damaged, or not a .npz file" in err
    (tmp_path / "latin.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    _, err = bpx_command("train", tmp_path / "latin.csv", status=2)
    assert "latin.csv is not a CSV file in UTF-8: 'utf-8' codec can't decode byte" in err
    assert f"save it as UTF-8, for example: iconv -f latin1 -t utf-8 {tmp_path}/latin.csv >" in err
    _, err = bpx_command("train", tmp_path / "latin.csv", "--ignore", "b", status=2)
    assert "save it as UTF-8" in err
    for coding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "wide.csv").write_bytes("\ufeffa,b\n1,2\n".encode(coding))
        _, err = bpx_command("train", tmp_path / "wide.csv", status=2)
        assert f"for example: iconv -f utf-16 -t utf-8 {tmp_path}/wide.csv > new.csv" in err
    _, err = bpx_command("train", tmp_path / "latin.csv" / "x.csv", status=2)
    assert "there is no file" in err
    (tmp_path / "folder.csv").mkdir()
    _, err = bpx_command("train", tmp_path / "folder.csv", status=2)
    assert "is a folder" in err
    (tmp_path / "a.xls").write_text("")
    _, err = bpx_command("train", tmp_path / "a.xls", status=2)
    assert "expected a .npz, .npy, .csv or .parquet file" in err


def test_divergence_is_status_1_and_keeps_the_last_good_weights(tmp_path):
    arguments = ["--learning-rate", "1e30", "--activation", "relu", "--output", "identity"]
    with_cost = [*arguments, "--cost", "quadratic", "--task", "classification"]
    out, err = bpx_command("train", *with_cost, "--out", tmp_path / "run", status=1)
    assert "the cost is not finite at step 2 of epoch 1" in err
    assert "A lower learning rate, --clip-norm, or inputs" in err
    assert "wrote model.safetensors" in out
    assert np.isfinite(bpx.load(tmp_path / "run" / "model.safetensors").parameters).all()


def test_an_out_that_cannot_be_made_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    out, err = bpx_command("train", "--out", tmp_path / "file" / "run", status=2)
    assert err == f"bpx: {tmp_path}/file/run/checkpoints: Not a directory\n"
    assert out == ""


def test_mnist_that_is_not_here_is_a_list_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    _, err = bpx_command("train", "mnist", status=1)
    assert len(err.splitlines()) > 6
    assert "Traceback" not in err


def test_without_typer():
    program = "import sys; sys.modules['typer'] = None\nfrom bpx.__main__ import main; main()"
    blocked = program.replace("\n", "\nimport importlib.util as u; u.find_spec = lambda n: None\n")
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "bpx: the command line needs typer: pip install typer\n"


def test_export_without_onnx(run_folder, tmp_path):
    program = "import sys; sys.modules['onnx'] = None\nfrom bpx.__main__ import main; main()"
    arguments = ["export", run_folder / "model.safetensors", tmp_path / "a.onnx"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "bpx: ONNX models need onnx: pip install onnx\n"


def test_the_log_is_lines_of_errors(capsys):
    log = logging.getLogger("bpx")
    with console.told(logged=True):
        log.info("compiling\nfor %d seconds", 10)
    with console.told(logged=False):  # on a rank other than 0
        log.info("compiling")
    log.info("nobody asks")
    assert capsys.readouterr() == ("", "bpx: compiling for 10 seconds\n")


def test_a_warning_is_a_line(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 3)), y=rng.normal(size=40))
    started = ["train", "a.npz", "--epochs", 100000, "--save-every", 0.05, "--out", "run"]
    command = [sys.executable, "-m", "bpx", *map(str, started)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        checkpoints = tmp_path / "run" / "checkpoints"
        while len(list(checkpoints.glob("*.safetensors"))) < 2:
            assert process.poll() is None
        process.kill()
    newest = max(checkpoints.glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-9])
    recipe = tmp_path / "run" / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 100000', '"epochs": 0'))
    done = subprocess.run(
        [sys.executable, "-m", "bpx", "train", "--resume", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    first, *others = done.stderr.splitlines()
    assert first.startswith("bpx: warning: a damaged checkpoint is passed over, and checkpoint-")
    assert all(line.startswith("bpx: ") for line in others)


def test_soft_targets_are_not_classes():
    y = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="single 1 in each row, got 3 that are not"):
        targets.task([(None, y)], "classification", None)


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (("adam", "classification", False), 0.001),
        (("adam", "classification", True), 0.003),
        (("adam", "regression", True), 0.003),
        (("sgd", "classification", False), 0.5),
        (("SGD", "regression", True), 0.1),
        (("sgd", "regression", False), 0.01),
    ],
)
def test_default_rates(given, rate):
    assert recipe.learning_rate(*given) == rate


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("constant", 0.5),
        ("plateau", 0.5),
        ("step", schedules.StepDecay(0.5, 10, 0.1)),
        ("exponential", schedules.Exponential(0.5, 30, 0.01)),
        ("cosine", schedules.Cosine(0.5, 30)),
        ("warm-up", schedules.WarmUp(3, 0.5)),
        ("one-cycle", schedules.OneCycle(0.5, 30)),
        ("inverse-scaling", schedules.InverseScaling(0.5)),
    ],
)
def test_the_schedules_of_a_run(name, schedule):
    assert recipe.optimizer("sgd", 0.5, 0.0, False, name, 30).learning_rate == schedule


@pytest.mark.parametrize(
    ("cost", "task"),
    [
        (None, None),
        ("quadratic", None),
        ("cross-entropy", None),
        ("log-likelihood", None),
        ("mean-absolute-error", "regression"),
        ("gaussian-nll", "regression"),
        ("poisson", "regression"),  # on probabilities, and on other positive numbers
    ],
)
def test_the_task_of_a_cost(cost, task):
    assert recipe.task(cost) == task


def test_a_new_cost_for_probabilities_is_for_classes(monkeypatch, tmp_path):
    class Focal(bpx.Cost):
        name, outputs, targets = "focal", bpx.costs.PROBABILITIES, "unit"

        def value(self, xp, a, y):
            return bpx.costs.CrossEntropy().value(xp, a, y)

        def gradient(self, xp, a, y):
            return bpx.costs.CrossEntropy().gradient(xp, a, y)

    monkeypatch.setitem(bpx.costs.COSTS.builtin, "focal", Focal)
    bpx_command("train", "digits", "--cost", "focal", "--epochs", 1, "--out", tmp_path / "run")
    assert type(bpx.load(tmp_path / "run" / "model.safetensors").cost) is Focal


def test_the_parts_of_a_file_share_nothing(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(20.0)[:, None], y=np.arange(20.0))
    parts, _, _ = samples.parts(str(tmp_path / "a.npz"), None, 0, "1 GB")
    assert [len(y) for _, y in parts] == [16, 2, 2]
    assert sorted(np.concatenate([y for _, y in parts])) == list(range(20))
