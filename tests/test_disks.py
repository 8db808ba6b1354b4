"""Disks that are full, folders that are gone or read-only: what was there stays, whole."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import bpx
from bpx import cli, writing

resource = pytest.importorskip("resource", reason="file size limits are POSIX's")

X, Y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 3


def trained():
    net = bpx.Network([4, 300, 3], seed=0)
    net.fit(X, Y, epochs=2)
    return net


def _figure(net, folder):
    net.history.plot(folder / "file.png")


def _onnx(net, folder):
    pytest.importorskip("onnx", reason="onnx is not installed: it makes the models")
    bpx.export_onnx(net, folder / "file.onnx")


def _predictions(kind):
    def save(net, folder):
        model, x = folder.parent / "model.safetensors", folder.parent / "x.npy"
        net.save(model)
        np.save(x, np.tile(X, (20, 1)))
        out = f"{folder}/file.{kind}", "--overwrite"
        cli.app(["predict", str(model), str(x), "--outputs", "--out", *out], standalone_mode=False)

    return save


def _history(net, folder):
    for name in net.history:
        net.history[name][:] *= 200
    net.history.to_csv(folder / "file.csv")


WAYS = {
    "file.safetensors": lambda net, folder: net.save(folder / "file.safetensors"),
    "file.png": _figure,
    "file.onnx": _onnx,
    "file.csv": _history,
    "file.npy": _predictions("npy"),
    "file.csv, predicted": _predictions("csv"),
}


@pytest.fixture(params=WAYS)
def saved(request, tmp_path):
    """A way to save, the folder that it goes to, and what is there: an old file of that name."""
    save, folder, elsewhere = WAYS[request.param], tmp_path / "there", tmp_path / "other" / "there"
    folder.mkdir()
    old = folder / request.param.partition(",")[0]
    old.write_bytes(b"old")
    elsewhere.mkdir(parents=True)
    save(trained(), elsewhere)  # libraries write caches of their own when they are first used
    return save, folder, old


@pytest.fixture
def broken(saved, monkeypatch):
    """Put something in the place of a function while a file is written to the folder."""
    real, (_, folder, _) = writing.replace, saved

    def put(owner, name, function):
        def write(target, *content):
            with monkeypatch.context() as inner:
                if target.parent == folder:
                    inner.setattr(owner, name, function)
                real(target, *content)

        monkeypatch.setattr(writing, "replace", write)

    return put


def stays(old):
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_a_full_disk(saved, broken):
    """The kernel refuses the write at 2 kB, as it does on a full disk."""
    save, folder, old = saved
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    opened = Path.open

    def limited(*arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
        return opened(*arguments, **options)

    broken(Path, "open", limited)
    try:
        with pytest.raises(
            OSError, match=r"cannot write .*file\.\w+: File too large; the old file"
        ):
            save(trained(), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stays(old)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (os, "fsync"), (os, "replace")])
def test_a_folder_that_cannot_be_written_to(saved, broken, number, owner, name):
    save, folder, old = saved

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    broken(owner, name, refuse)
    why = rf"{os.strerror(number)}; the old file is untouched: make room there, or name a place"
    with pytest.raises(OSError, match=rf"cannot write .*file\.\w+: {why}"):
        save(trained(), folder)
    stays(old)


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A folder with room for so many files; the kernel's refusal of another one."""

    def of(room, number=errno.ENOSPC):
        real = writing.replace

        def limited(target, *content):
            if len([*target.parent.iterdir()]) >= room:
                raise OSError(number, os.strerror(number))
            real(target, *content)

        monkeypatch.setattr(writing, "replace", limited)
        return tmp_path / "run"

    return of


def epochs_in(folder):
    return [bpx.load(path).epochs for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_on_a_full_disk_the_oldest_checkpoint_makes_room(small_disk, number):
    folder, net = small_disk(2, number), bpx.Network([4, 300, 3], seed=0)
    told = r"the oldest checkpoint, checkpoint-\d+\.safetensors, was deleted to make room for che"
    with pytest.warns(RuntimeWarning, match=told) as words:
        net.fit(X, Y, epochs=4, checkpoint=folder)
    assert len(words) == 3  # for epochs 2, 3 and 4
    assert epochs_in(folder) == [3, 4]
    with pytest.warns(RuntimeWarning, match="was deleted to make room"):
        bpx.Network([4, 300, 3]).fit(X, Y, epochs=5, checkpoint=folder, resume=True)
    assert epochs_in(folder) == [4, 5]


def test_on_a_full_disk_the_last_good_checkpoint_stays(small_disk):
    folder, net = small_disk(1), bpx.Network([4, 300, 3], seed=0)
    with pytest.warns(RuntimeWarning, match="no checkpoint was written at step 4, and the train"):
        net.fit(X, Y, epochs=1, checkpoint=folder)
    assert epochs_in(folder) == [0]


def test_on_a_full_disk_a_damaged_checkpoint_replaces_no_good_one(small_disk):
    folder, net = small_disk(2), bpx.Network([4, 300, 3], seed=0)

    def damage(run):
        (path,) = folder.iterdir()
        (folder / "checkpoint-999999999999.safetensors").write_bytes(path.read_bytes()[:-9])

    with pytest.warns(RuntimeWarning, match="no checkpoint was written at step 4, and the train"):
        net.fit(X, Y, epochs=1, checkpoint=folder, callbacks=damage)
    assert bpx.load(min(folder.iterdir())).epochs == 0


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_no_checkpoint_makes_room_where_that_is_not_what_is_missing(small_disk, number):
    folder, net = small_disk(2, number), bpx.Network([4, 300, 3], seed=0)
    with pytest.warns(RuntimeWarning, match="no checkpoint was written at step 8, and the train"):
        net.fit(X, Y, epochs=2, checkpoint=folder)
    assert epochs_in(folder) == [0, 1]


def test_a_folder_that_is_gone(saved):
    save, folder, old = saved
    folder.rename(folder.with_name("gone"))
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*there; make it first"):
        save(trained(), folder)
    assert not folder.exists()
    stays(folder.with_name("gone") / old.name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(saved):
    save, folder, old = saved
    folder.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"cannot write .*: Permission denied; the old file is"):
            save(trained(), folder)
    finally:
        folder.chmod(0o700)
    stays(old)


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "curve.png"])
def test_the_end_of_a_run_from_the_command_line(tmp_path, monkeypatch, capsys, name):
    """The checkpoints stay until all is written, and the message says how to go on from them."""
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    out, replaced = tmp_path / "run", os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replaced(source, target)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bpx", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    monkeypatch.setattr(os, "replace", full)
    status, err = run(tmp_path / "a.npz", "--epochs", 3, "--out", out)
    assert status == 2
    assert f"{name}: No space left on device; nothing was left behind: make room there" in err
    assert err.endswith(f"then bpx train --resume {out} writes what is missing\n")
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    assert not (out / name).exists()
    newest = max((out / "checkpoints").iterdir())
    assert bpx.load(newest).epochs == 3
    monkeypatch.setattr(os, "replace", replaced)
    assert run("--resume", out) == (0, "")
    assert bpx.load(out / "model.safetensors").epochs == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "curve.png", "history.csv", "last.checkpoint", "model.safetensors", "recipe.json",
        "test.json",
    ]  # fmt: skip
