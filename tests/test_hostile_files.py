"""Files that are wrong, or meant to do harm: what they may cost, and what is said about them.

`benchmarks/fuzz.py` gives the command line thousands of them; here is what it found, and what a
person would try.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import bpx
import bpx.training  # or its first import would count as memory that a file takes
from bpx import cli, files, persistence
from bpx.categories import Classes
from bpx.cli import runs, tables
from bpx.data.readers import _csv

N = 40


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run ``bpx`` in this process; its output and the one line of its error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, status=2):
        monkeypatch.setattr(sys, "argv", ["bpx", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert end.value.code == status, err
        assert len(err.splitlines()) == (status != 0)
        assert err[:-1].isprintable()
        return err if status else out

    return run


@contextmanager
def within(most):
    """No more bytes than these are ever held at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes"


def npy(shape="(40, 4)", descr="'<f8'", body=bytes(8 * 4 * N), order="False"):
    """A .npy file with any header before its numbers."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz(method=zipfile.ZIP_STORED, **members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return made.getvalue()


def array(values):
    made = io.BytesIO()
    np.save(made, values)
    return made.getvalue()


X, Y = np.random.default_rng(0).normal(size=(N, 4)), np.arange(N) % 3


@pytest.fixture
def model(tmp_path):
    bpx.Network([4, 3, 3], seed=0).save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def whole(path):
    tables.read(path, None)


def in_rows(path):
    bpx.open_data(path, Y)


EXABYTES = ["(1152921504606846976,)", "(1152921504606846976, 4)", "(4294967296, 4294967296)",
            "(1073741824, 4)", "(1" + "0" * 400 + ", 4)"]  # fmt: skip


# --- .npy and .npz ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", EXABYTES)
@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("npy", whole),
        ("npy", in_rows),
        ("npz", whole),
        ("npz", in_rows),
        ("npz, deflated", whole),
    ],
)
def test_a_header_that_claims_more_than_there_is(tmp_path, kind, read, shape):
    path = tmp_path / f"x.{kind[:3]}"
    method = zipfile.ZIP_DEFLATED if "deflated" in kind else zipfile.ZIP_STORED
    path.write_bytes(npy(shape) if kind == "npy" else npz(method, x=npy(shape), y=array(Y)))
    with (
        within(1 << 20),
        pytest.raises(ValueError, match=r"x\.np[yz] is truncated or damaged: an"),
    ):
        read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": "(-40, 4)"}, "is truncated or damaged"),
        ({"shape": "(-1,)"}, "is truncated or damaged"),
        ({"shape": "(4, -4)"}, "is truncated or damaged"),
        ({"shape": "(40.0, 4)"}, "has no readable NumPy header"),
        ({"shape": "'40'"}, "has no readable NumPy header"),
        ({"shape": "(" * 300 + ")" * 300}, "has no readable NumPy header"),
        ({"shape": "(1,) * 3"}, "has no readable NumPy header"),
        ({"order": "1"}, "has no readable NumPy header"),
        ({"descr": "'|O'"}, "holds Python objects, which are never unpickled"),
        ({"descr": "[('a', '|O'), ('b', '<f4')]"}, "holds Python objects"),
        ({"descr": "[('a', '<f8'), ('b', '<f8')]"}, "must hold numbers, got dtype .*'a'"),
        ({"descr": "'<U8'"}, "must hold numbers, got dtype <U8: save classes as np.unique"),
        ({"descr": "'|V0'"}, "must hold numbers"),
        ({"descr": "'<M8[s]'"}, "must hold numbers"),
        ({"descr": "__import__('os').abort()"}, "has no readable NumPy header"),
    ],
    ids=str,
)
@pytest.mark.parametrize("read", [whole, in_rows])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_headers_of_numpys(tmp_path, kind, read, header, message):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(npy(**header) if kind == "npy" else npz(x=npy(**header), y=array(Y)))
    with pytest.raises(ValueError, match=rf"x\.{kind} {message}"):
        read(path)


def test_numpy_itself_reads_what_is_read(tmp_path):
    """Whole files are read without `np.load`: the result is the same."""
    values = [X, np.asfortranarray(X), X.astype(">f4"), X[:, :1] > 0, X.astype(np.float16),
              X.reshape(N, 2, 2), np.arange(N, dtype=np.uint8)[:, None]]  # fmt: skip
    for value in values:
        np.save(tmp_path / "x.npy", value)
        np.savez(tmp_path / "x.npz", x=value, y=Y, names=np.array(["a", None], dtype=object))
        for path in ("x.npy", "x.npz"):
            found, y, _ = tables.read(tmp_path / path, None, labelled=path == "x.npz")
            assert np.array_equal(found, value)
            assert found.dtype == value.dtype
            assert y is None or np.array_equal(y, Y)


def test_a_bomb_in_an_archive(tmp_path, command, model):
    """A thousand times its size: within a budget, or not at all."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((250_000, 4)), y=np.zeros(250_000, int))
    assert path.stat().st_size < 20_000
    message = (
        r"'x' in .*a.npz is compressed, and takes 8 MB in memory, more than the budget of 2 MB"
    )
    with within(1 << 20), pytest.raises(ValueError, match=message):
        tables.read(path, None, budget=2_000_000)
    assert len(tables.read(path, None).x) == 250_000
    for name, arguments in (("train", [path]), ("evaluate", [model, path]),
                            ("predict", [model, path])):  # fmt: skip
        assert "more than the budget of 2 MB" in command(name, *arguments, "--budget", "2 MB")


def changed(content, mark, at, value):
    """Four bytes of each record of a zip file that begins with `mark`."""
    data, place = bytearray(content), -1
    while (place := content.find(mark, place + 1)) >= 0:
        data[place + at : place + at + 4] = value.to_bytes(4, "little")
    return bytes(data)


LOCAL, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"
SOUND = npz(x=array(X), y=array(Y))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(SOUND, DIRECTORY, 24, 1 << 31), "2147483648 bytes cannot be packed in"),
        (changed(SOUND, DIRECTORY, 20, 1 << 31), "bytes cannot be packed in 2147483648 of"),
        (npz(zipfile.ZIP_LZMA, x=array(X), y=array(Y)), "is compressed by zip's method 14"),
        (changed(SOUND, DIRECTORY, 8, 1), "is damaged"),  # it is encrypted
        (
            changed(SOUND, DIRECTORY, 42, 1 << 30),
            "is damaged|has no readable NumPy header|not a .npz file",
        ),
        # zip's version 25.5
        (changed(SOUND, DIRECTORY, 6, 0xFF), "is damaged, or not a .npz file"),
        (changed(SOUND, LOCAL, 0, 0), "is damaged"),
        (changed(SOUND, LOCAL, 26, 0xFFFF), "is damaged|has no readable NumPy header"),
        (npz(x=b"z", y=array(Y)), "has no readable NumPy header"),
        (npz(x=b"", y=array(Y)), "has no readable NumPy header"),
        (
            npz(zipfile.ZIP_DEFLATED, x=array(X), y=array(Y))[:200],
            "is damaged, or not a .npz file",
        ),
    ],
    ids=count(),  # the bytes have the time in them, and processes must find the same names
)
def test_archives_that_are_wrong(tmp_path, content, message):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    for read in (whole, in_rows):
        with pytest.raises(ValueError, match=rf"a\.npz.* {message}|a\.npz {message}"):
            read(path)


def test_a_damaged_bit_of_a_member_is_found(tmp_path):
    content = bytearray(SOUND)
    content[400] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"'x' in .*a.npz .*Bad CRC-32"):
        tables.read(tmp_path / "a.npz", None)


def test_one_array_of_targets(tmp_path, command):
    (tmp_path / "a.npz").write_bytes(SOUND)
    with pytest.raises(ValueError, match=r"the array x of a .npz are the samples, and target="):
        bpx.open_data(tmp_path / "a.npz", target="x")
    assert "x are the samples, and --target" in command("train", "a.npz", "--target", "x")
    assert "--target is empty" in command("train", "a.npz", "--target", "")
    with pytest.raises(ValueError, match=r"the targets of a .npz are one array, got y, z"):
        bpx.open_data(tmp_path / "a.npz", target=["y", "z"])


# --- tables -------------------------------------------------------------------------------------


def test_a_parquet_file_of_one_value(tmp_path, command):
    """A few bytes for any number of rows: in blocks, or within a budget."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    from pyarrow import parquet

    path, n = tmp_path / "a.parquet", 200_000
    table = arrow.table({"a": np.zeros(n), "b": np.zeros(n), "label": np.arange(n) % 2})
    parquet.write_table(table, path, row_group_size=1000, compression="zstd")
    size = path.stat().st_size
    assert size < 24 * n / 8
    with pytest.raises(ValueError, match=r"takes 4.8 MB in memory, more than the budget of 4 MB"):
        tables.read(path, "label", budget=4_000_000)
    with pytest.raises(ValueError, match=r"label of .* take 1.6 MB in memory, more than the bud"):
        bpx.open_data(path, target="label", budget="1 MB")
    arguments = ["train", path, "--target", "label", "--epochs", 1, "--batch-size", 5000]
    assert "test accuracy" in command(*arguments, "--budget", "4.5 MB", status=0)


def test_a_footer_that_does_not_add_up(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"a": np.arange(77.0), "b": np.zeros(77)}), tmp_path / "a.pq")
    content = (tmp_path / "a.pq").read_bytes()
    at = content.rindex(b"\x9a\x01")  # 77 as Thrift writes it: a zigzag varint
    path = tmp_path / "a.parquet"
    path.write_bytes(content[:at] + b"\x9c\x01" + content[at + 2 :])
    with pytest.raises(ValueError, match=r"a.parquet is damaged: it says that it has 7\d rows"):
        bpx.open_data(path, target="b")


def test_columns_without_end(tmp_path, command):
    """Names are compared with each other in one pass, and not all of them are listed."""
    names = [f"c{k}" for k in range(30_000)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(line) for line in (names, ["1"] * 30_000)))
    err = command("train", path, "--target", "label")
    assert "has no column 'label'" in err
    assert "and 29960 more" in err
    path.write_text(",".join([*names, "c7"]) + "\n")
    assert "has no rows below" in command("train", path)
    path.write_text(",".join([*names, "c7"]) + "\n1\n")
    assert "has two columns named 'c7'" in command("train", path)


def test_what_a_file_brings_into_a_message(tmp_path, command):
    """Of any length, and with characters that a terminal obeys: it stays one short line."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,1\n" + "x" * 100_000 + ",1\n")
    assert "expected a number, got 'xxx" in command("train", path)
    path.write_text("a,b\n" + "x" * 100_000 + ",1\n")
    assert "got a text of 100,000 characters" in command("train", path)
    path.write_text("a,b\n1," + "x" * 100_000 + "\n")
    assert "got a text of 100,000 characters" in command("train", path)
    path.write_text("\x1b[2J" + "x" * 100_000 + ",b\n1,2\n")
    err = command("train", path, "--target", "label")
    assert len(err) < 2100
    assert "\\x1b[2J" in err
    (tmp_path / "a.npz").write_bytes(npz(**{"a/" * 3000: array(X), "y": array(Y)}))
    assert len(command("train", "a.npz")) < 1100


def test_what_a_model_brings_into_a_message(tmp_path, model):
    tensors, header = files.contents(bpx.load(model))
    long = "\x1b[2J" + "x" * 100_000
    for wrong in (
        (tensors, header | {"cost": {"name": long}}),
        (tensors, header | {"task": long}),
        (tensors, header | {"dtype": long}),
        (tensors | {long: np.zeros(1, np.float32)}, header),
    ):
        persistence.write(model, *wrong)
        with pytest.raises(bpx.FileFormatError, match=r"\\x1b\[2Jxxx") as told:
            bpx.load(model)
        assert len(str(told.value)) < 2100
        assert str(told.value).isprintable()


def test_texts_whose_numbers_are_damaged():
    """As pyarrow reads them if a bit of a page is not what was written."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    for wrong in (2, -1):
        column = arrow.DictionaryArray.from_arrays([0, wrong], ["a", "b"], safe=False)
        with pytest.raises(ValueError, match="its texts are damaged: write the file again"):
            Classes().of_column(column)


def test_a_damaged_page_with_a_checksum(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = arrow.table({"a": np.arange(100.0), "y": np.arange(100) % 2})
    parquet.write_table(
        table, path, write_page_checksum=True, compression="none", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(100.0).tobytes()) + 6] ^= 1
    path.write_bytes(content)
    data = bpx.open_data(path, target="y")
    with pytest.raises(OSError, match=r"a\.parquet.*CRC checksum verification failed"):
        data.read(True)


def test_lines_without_end(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    monkeypatch.setattr(_csv, "LONGEST_LINE", 1000)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1," * 200_000)
    with pytest.raises(ValueError, match=r"expected lines of less than 1000 bytes, got a longer"):
        bpx.open_data(path, target="b")


def test_a_table_takes_a_few_times_its_size(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "1.5,2.5,0\n" * 50_000)
    with within(6 * path.stat().st_size):
        assert tables.read(path, None).x.shape == (50_000, 2)


# --- numbers ------------------------------------------------------------------------------------


def test_numbers_that_are_too_large(tmp_path, command, model):
    """Finite in the file, and not in the network: reported, with no warnings besides."""
    x = X.copy()
    x[7] = 1e300
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    for what in ("predict", "evaluate"):
        told = "x has numbers that float32 does not hold, first in row 7, column 0: scale them"
        assert told in command(what, model, tmp_path / "a.npz")
    x[7] = 3e38
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    net = bpx.Network([4, 1], output="identity")
    net.weights[0] = [[2.0] * 4]
    model = tmp_path / "large.safetensors"
    net.save(model)
    err = command("predict", model, tmp_path / "a.npz")
    assert "the outputs for row 7 of" in err
    assert "too large for this network and float32; scale them" in err
    assert "outputs for" in command("evaluate", model, tmp_path / "a.npz")
    x[::2], x[1::2] = 1.5e308, -1.5e308
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    err = command("train", tmp_path / "a.npz", "--seed", 1)
    assert "cannot standardize: column 0 of x goes from -1.5e+308 to 1.5e+308" in err


def test_a_cost_that_is_too_large(tmp_path, command, monkeypatch, capsys):
    """The outputs are not, and have a score."""
    net = bpx.Network([4, 1], output="identity", weights="zeros")
    net.save(tmp_path / "model.safetensors")
    y = 1e30 * (X[:, 0] + 0.1)
    np.savez(tmp_path / "a.npz", x=X, y=y)
    monkeypatch.setattr(sys, "argv", ["bpx", "evaluate", "model.safetensors", "a.npz"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    out, err = capsys.readouterr()
    assert f"root mean square error {np.sqrt((y * y).mean()):.5g}" in out
    assert err == "bpx: note: the cost is larger than float32 can hold; the outputs are not\n"


def test_targets_that_are_too_large(tmp_path, command, monkeypatch):
    monkeypatch.setenv("BPX_FAST", "0")  # which has a word to say when it compiles
    np.savez(tmp_path / "a.npz", x=X, y=1e39 * (X[:, 0] + 0.1))
    err = command("train", "a.npz")
    assert "the targets have numbers that float32 does not hold: scale them, or pass" in err
    assert "R² " in command("train", "a.npz", "--dtype", "float64", status=0)


# --- models -------------------------------------------------------------------------------------


def test_a_bias_for_each_of_many(tmp_path, command, model):
    """It happened: a list of 2^60 biases in the exporter."""
    tensors, header = bpx.persistence.read(model)
    header["layers"][0]["use_bias"] = 1 << 60
    bpx.persistence.write(model, tensors, header)
    assert "expected use_bias to be True or False" in command("export", model, "a.onnx")
    assert not os.path.exists("a.onnx")


@pytest.mark.parametrize("where", ["units", "input_shape"])
def test_a_network_of_exabytes(tmp_path, where):
    """In a model, and in a checkpoint, whose tensors are as they were."""
    net, run = bpx.Network([4, 3, 3], seed=0), tmp_path / "run"
    net.fit(X, Y, epochs=1, checkpoint=run)
    model = tmp_path / "model.safetensors"
    net.save(model)
    for path in (model, max(run.iterdir())):
        tensors, header = bpx.persistence.read(path)
        if where == "units":
            header["layers"][0]["units"] = 1 << 60
        else:
            header["input_shape"] = [1 << 60]
        bpx.persistence.write(path, tensors, header)
        with (
            within(1 << 20),
            pytest.raises(bpx.FileFormatError, match=r"has shape .* but its arc"),
        ):
            bpx.load(path)
    with (
        pytest.raises(bpx.FileFormatError, match=r"has shape .* but its arc"),
        within(1 << 21),
    ):
        bpx.Network([4, 3, 3], seed=0).fit(X, Y, epochs=1, checkpoint=run, resume=True)


def test_an_hdf5_array_of_exabytes(tmp_path):
    """A file of a few kilobytes may say so: nothing of it has been written yet."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: it reads HDF5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("x", shape=(1 << 60, 4), chunks=(1024, 4), dtype="f8")
        with within(1 << 20), pytest.raises(ValueError, match=r"as many rows in y as in x, 11529"):
            bpx.open_data(x, Y)


# --- names that are paths -----------------------------------------------------------------------


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


@pytest.mark.parametrize("name", ["../../x", "/x", "../x", "C:\\x", "a/../../x"])
def test_names_in_an_archive_are_no_paths(tmp_path, command, name):
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    path = inner / "a.npz"
    path.write_bytes(npz(**{name: array(X), "y": array(Y)}))
    assert "has no array 'x'" in command("train", path)
    assert "has no array 'x'" in command("train", path, "--budget", 1000)
    path.write_bytes(npz(**{"x": array(X), name: array(Y)}))
    before = everything(tmp_path)
    assert "test accuracy" in command("train", path, "--target", name, "--epochs", 1, status=0)
    assert everything(tmp_path) == before


needs_links = pytest.mark.skipif(os.name != "posix", reason="links are POSIX's here")


@pytest.fixture
def precious(tmp_path):
    """Files outside of a run's folder, and what they have to be afterwards."""
    outside = tmp_path / "outside"
    outside.mkdir()
    names = ("notes.txt", "checkpoint-000000000003.safetensors", ".bpx-0123456789abcdef.tmp")
    for name in names:
        (outside / name).write_text("precious")
    yield outside
    assert sorted(path.name for path in outside.iterdir()) == sorted(names)
    assert {path.read_text() for path in outside.iterdir()} == {"precious"}


@needs_links
def test_links_in_the_folder_of_a_run(tmp_path, command, precious):
    """They are replaced by the run's own files, and lead it nowhere."""
    out = tmp_path / "run"
    out.mkdir()
    names = ("recipe.json", "model.safetensors", "history.csv", "curve.png", "test.json")
    for name in names:
        (out / name).symlink_to(precious / "notes.txt")
    (tmp_path / "a.npz").write_bytes(SOUND)
    assert "already has a trained model: name another --out" in command(
        "train", "a.npz", "--out", out
    )
    command("train", "a.npz", "--epochs", 1, "--out", out, "--overwrite", status=0)
    assert not any((out / name).is_symlink() for name in names)
    assert {path.name for path in out.iterdir()} == {*names, "last.checkpoint"}


@needs_links
def test_a_link_in_the_place_of_the_checkpoints(tmp_path, command, precious):
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.json").write_text('{"data": "digits"}')
    (out / "checkpoints").symlink_to(precious)
    for arguments in (["--resume", out], ["digits", "--out", out]):
        assert "is a link, expected the run's own folder" in command("train", *arguments)


@needs_links
def test_links_among_checkpoints(tmp_path, precious):
    """They are not read or written through, and what they lead to is not deleted."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (0, 4, 8, 99):
        name = f"checkpoint-{step:012d}.safetensors"
        (folder / name).symlink_to(precious / "checkpoint-000000000003.safetensors")
    (folder / ".bpx-0123456789abcdef.tmp").symlink_to(precious / "notes.txt")
    net = bpx.Network([4, 3, 3], seed=0)
    net.fit(X, Y, epochs=2, batch_size=10, checkpoint=bpx.Checkpoint(folder, keep=1), resume=True)
    assert net.steps == 8
    bpx.load(folder / "checkpoint-000000000008.safetensors")
    assert not (folder / ".bpx-0123456789abcdef.tmp").is_symlink()


def test_a_run_that_ends_deletes_its_own_checkpoints_only(tmp_path):
    runs.begin(tmp_path, {"data": "digits"}, overwrite=False)
    there = tmp_path / "checkpoints"
    (there / "notes.txt").write_text("mine")
    bpx.Network([4, 3, 3]).fit(X, Y, epochs=1, checkpoint=runs.checkpoint(tmp_path, 1.0))
    assert len(list(there.iterdir())) > 1
    runs.end(tmp_path, goes_on=True)
    assert [path.name for path in there.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["out", "resume", "__class__", "../data"])
def test_a_recipe_names_no_folder_to_write_to(tmp_path, command, name):
    (tmp_path / "recipe.json").write_text(f'{{"{name}": "/elsewhere"}}')
    assert f"{name} = '/elsewhere' is not an option of bpx train" in command(
        "train", "--resume", tmp_path
    )
