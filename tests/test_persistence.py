"""Files of arrays and JSON: what goes in comes out, and nothing else does harm."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import bpx
from bpx import persistence
from bpx.persistence import FileFormatError, write

HEADER = {"layers": [{"name": "dense", "units": 3}], "η": 0.5, "task": None}


def read(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """From the file, which its content without one must agree with, in refusals too."""
    try:
        found = persistence.read(path)
    except FileFormatError as error:
        if Path(path).is_file():
            with pytest.raises(FileFormatError) as refused:
                persistence.read(Path(path).read_bytes())
            told = str(error).replace(str(path), "the content")
            assert str(refused.value)[:30] == told[:30] or not Path(path).stat().st_size
        raise
    tensors, header = persistence.read(memoryview(Path(path).read_bytes()))
    assert header == found[1]
    assert tensors.keys() == found[0].keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == found[0][name].dtype
        assert np.array_equal(tensor, found[0][name], equal_nan=tensor.dtype.kind == "f")
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


@pytest.fixture
def old(path: Path) -> Path:
    """A file that is there already."""
    write(path, {"w": np.ones(2)}, {"age": "old"})
    return path


def is_old(path: Path) -> bool:
    tensors, header = read(path)
    alone = [entry.name for entry in path.parent.iterdir()] == [path.name]
    return alone and header == {"age": "old"} and tensors["w"].tolist() == [1.0, 1.0]


TENSORS = {
    "float32": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "float64": np.array([[np.pi], [-0.0], [np.inf]]),
    "float16": np.array([1.5], np.float16),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False]),
    "0-d": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
    "backwards": np.arange(3.0)[::-1],
    "big-endian": np.arange(3, dtype=">f8"),
    "read-only": np.frombuffer(b"abc", np.uint8),
}
SMALL = {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.float32)}


def test_round_trip(path: Path) -> None:
    write(path, TENSORS, HEADER)
    tensors, header = read(path)
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(tensors[name], expected, strict=name != "big-endian")
        assert tensors[name].flags.writeable


def test_no_arrays(path: Path) -> None:
    write(path, {}, {})
    assert read(path) == ({}, {})


def test_path_as_text(path: Path) -> None:
    write(str(path), {}, HEADER)
    assert read(str(path)) == ({}, HEADER)


def test_metadata(path: Path) -> None:
    """What another program finds in the file."""
    from safetensors import safe_open

    write(path, TENSORS, HEADER)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "format_version", "header", "checksum"}
    assert (metadata["format"], metadata["format_version"]) == ("bpx", "1")
    assert json.loads(metadata["header"]) == HEADER


def test_the_same_content_is_the_same_bytes() -> None:
    """safetensors itself writes the metadata in an order that is drawn at random."""
    import safetensors.numpy

    tensors = {"größe": np.ones(3, np.float32), "b": np.zeros((2, 2)), "n": np.arange(2)}
    for arrays in ({}, SMALL, tensors):
        content = {persistence.packed(arrays, HEADER) for _ in range(9)}
        assert len(content) == 1
        (same,) = content
        assert int.from_bytes(same[:8], "little") % 8 == 0
        found = safetensors.numpy.load(same)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }
        assert persistence.read(same)[1] == HEADER


# --- reading what is not ours, or no longer whole ---


def test_missing_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors"):
        read(path)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"is a folder, expected a \.safetensors file"):
        read(tmp_path)


def test_empty_file(path: Path) -> None:
    path.touch()
    with pytest.raises(FileFormatError, match=r"is empty, expected a \.safetensors file"):
        read(path)


@pytest.mark.parametrize("content", [b"x", b"\x80\x04\0\0" + bytes(60), bytes(64)])
def test_not_safetensors(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a whole safetensors file"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"PK\x03\x04" * 9, "a.pt is a zip archive, as PyTorch, Keras and NumPy write"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "a.h5 is an HDF5 file, as Keras writes, not a file of b"),
        ("a.pkl", pickle.dumps([1.0] * 9), "a.pkl is a pickle, as joblib and older versions of"),
        (
            "a.json",
            b'{"layers": [2, 1]}',
            "a.json is JSON, not a file of bpx",
        ),
        ("a.onnx", b"\x08\x07\x12\x07pytorch", "a.onnx is an ONNX model, which bpx writes and do"),
    ],
)
def test_files_of_others(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as raised:
        bpx.load(path)
    told = "to use its weights, make a network of such layers and set net.tensors[name] = array"
    assert (told in str(raised.value)) == (name != "a.json")
    if not name.endswith("onnx"):
        with pytest.raises(FileFormatError, match=message.replace(name, "the content")):
            bpx.load(content)


def test_the_file_in_a_folder(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-2"):
        write(tmp_path / f"{name}.safetensors", SMALL, HEADER)
    with pytest.raises(
        FileFormatError, match=r"a folder, .*, such as .*checkpoint-2\.safetensors"
    ):
        bpx.load(tmp_path)


@pytest.mark.parametrize("name", ["a.pt", "a.H5", "a.json", "a.onnx", "a.pkl"])
def test_names_of_other_formats(tmp_path: Path, name: str) -> None:
    net = bpx.Network([2, 1])
    for model in (net, bpx.Ensemble([net])):
        with pytest.raises(
            ValueError, match=r"expected a name that ends in \.safetensors"
        ) as told:
            model.save(tmp_path / name)
        assert ("export_onnx" in str(told.value)) == name.endswith("onnx")
    assert not [*tmp_path.iterdir()]


def test_truncated_anywhere(path: Path) -> None:
    write(path, SMALL, HEADER)
    content = path.read_bytes()
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="damaged or truncated"):
            read(path)


def test_trailing_bytes(path: Path) -> None:
    write(path, TENSORS, HEADER)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(FileFormatError, match="damaged or truncated"):
        read(path)


def test_flipped_bits_in_the_header(path: Path) -> None:
    """Each is refused, or changes a name or a value, which `bpx.load` checks."""
    write(path, SMALL, HEADER)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for position in range(end):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                read(path)
            except FileFormatError:
                refused += 1
    assert refused > end


def test_flipped_bits_in_the_arrays(path: Path) -> None:
    """safetensors itself has no checksum; a file without one is read as before."""
    write(path, SMALL, HEADER)
    content = path.read_bytes()
    for position in range(8 + int.from_bytes(content[:8], "little"), len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="is damaged: its content is not what was"):
            read(path)
    foreign(path, format_version="1", header="{}")
    assert read(path)[0]["w"].tolist() == [0.0, 0.0, 0.0]


def test_a_flipped_bit_in_a_name(path: Path) -> None:
    write(path, {"aa": np.zeros(3), "ab": np.ones(3)}, HEADER)
    path.write_bytes(path.read_bytes().replace(b'"ab"', b'"ac"'))
    with pytest.raises(FileFormatError, match="is damaged: its content is not what was"):
        read(path)


@pytest.mark.parametrize("shape", [[1 << 60], [1 << 32, 1 << 32], [0, 1 << 63], [-1], [1 << 70]])
def test_a_header_that_claims_more_than_there_is(path: Path, shape: list[int]) -> None:
    """Refused before any memory is asked for."""
    told = {"__metadata__": {"format": "bpx", "format_version": "1", "header": "{}"}}
    for offsets in ([0, 8], [0, 8 * (shape[0] % (1 << 64))], [8, 0]):
        claims = {"w": {"dtype": "F64", "shape": shape, "data_offsets": offsets}}
        text = json.dumps(told | claims).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        with pytest.raises(FileFormatError, match="damaged or truncated"):
            read(path)


def test_names_that_look_like_paths_are_only_names(path: Path, tmp_path: Path) -> None:
    write(path, {"../../evil": np.zeros(1)}, {"../x": "/etc/passwd"})
    assert read(path)[0].keys() == {"../../evil"}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_foreign_safetensors(path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"w": np.zeros(3)}, path, metadata)
        with pytest.raises(FileFormatError, match="a safetensors file, but bpx did not write it"):
            read(path)


def foreign(path: Path, **metadata: str) -> Path:
    save_file({"w": np.zeros(3)}, path, {"format": "bpx", **metadata})
    return path


def test_later_version(path: Path) -> None:
    foreign(path, format_version="2", header="{}")
    with pytest.raises(
        FileFormatError,
        match=r"by a later bpx \(format 2; this bpx reads up to 1\): update bpx",
    ):
        read(path)


@pytest.mark.parametrize("version", ["", "one", "1.5", "9" * 5000])
def test_unreadable_version(path: Path, version: str) -> None:
    with pytest.raises(FileFormatError, match=r"has no readable format version \('"):
        read(foreign(path, format_version=version, header="{}"))


def test_no_version(path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"has no readable format version \(''\)"):
        read(foreign(path, header="{}"))


@pytest.mark.parametrize(
    ("first", "cost", "ours"),
    [
        ("sizes", "CrossEntropyCost", bpx.costs.CrossEntropy()),
        ("biases", "QuadraticCost", bpx.costs.Quadratic()),
    ],
)
def test_a_network_of_the_book(tmp_path: Path, first: str, cost: str, ours: bpx.Cost) -> None:
    weights, biases = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], [[[0.5], [1.5]], [[2.5]]]
    saved = {"sizes": [2, 2, 1], "weights": weights, "biases": biases, "cost": cost}
    path = tmp_path / "net.json"
    path.write_text(json.dumps({first: saved[first]} | saved))
    for source in (path, path.read_bytes()):
        with pytest.raises(
            FileFormatError, match=r"is JSON of the book's network2\.py, not"
        ) as told:
            bpx.load(source)
    names = {"json": json, "np": np, "bpx": bpx, "path": path}
    with path.open() as file:
        names["open"] = lambda path: file
        exec(str(told.value).partition("file of bpx: ")[2], names)
    net = names["net"]
    assert net.cost == ours
    assert [w.tolist() for w in net.weights] == weights
    assert [b.tolist() for b in net.biases] == [[0.5, 1.5], [2.5]]


@pytest.mark.parametrize(
    ("header", "message"),
    [("{", "damaged header: Expecting"), ("[1]", "not a JSON object"), ("[" * 10**6, "recursion")],
)
def test_damaged_header(path: Path, header: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read(foreign(path, format_version="1", header=header))


def test_no_header(path: Path) -> None:
    with pytest.raises(FileFormatError, match="has a damaged header: there is none"):
        read(foreign(path, format_version="1"))


@pytest.mark.parametrize("whole", [bpx.Network, lambda net: bpx.Ensemble.of(2, net)])
def test_models_as_bytes(path: Path, whole: Any) -> None:
    net = bpx.Network([2, 3, 2], seed=0)
    model = net if whole is bpx.Network else whole(net)
    content = model.to_bytes()
    model.save(path)
    assert persistence.read(content)[1] == read(path)[1]
    again = bpx.load(bytearray(content))
    assert type(again) is type(model)
    assert np.array_equal(again(np.eye(2)), model(np.eye(2)))
    with pytest.raises(FileFormatError, match="the content is not a whole safetensors file"):
        bpx.load(content[:-1])
    tensors, header = persistence.read(content)
    with pytest.raises(FileFormatError, match="the content: its header does not describe"):
        bpx.load(persistence.packed(tensors, header | {"layers": 3, "members": [3]}))


def test_neither_a_path_nor_bytes() -> None:
    net = bpx.Network([2, 1])
    with pytest.raises(TypeError, match=r"expected a path or bytes, got BytesIO: pass file\.read"):
        bpx.load(io.BytesIO(net.to_bytes()))
    with pytest.raises(TypeError, match="expected a path or bytes, got int"):
        bpx.load(3)
    with pytest.raises(TypeError, match=r"a path, got BytesIO: net\.to_bytes\(\) is what a file"):
        net.save(io.BytesIO())


# --- writing: whole or not at all ---


def test_overwrite(old: Path) -> None:
    write(old, TENSORS, HEADER)
    assert read(old)[1] == HEADER
    assert list(old.parent.iterdir()) == [old]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*runs; make it first"):
        write(tmp_path / "runs" / "net.safetensors", {}, {})


def test_write_to_a_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="it is a folder, expected a file's name"):
        write(tmp_path, {}, {})


def test_unwritable_dtype(old: Path) -> None:
    with pytest.raises(TypeError, match=r"cannot write this as safetensors: .*complex128"):
        write(old, {"w": np.zeros(2, np.complex128)}, {})
    assert is_old(old)


def test_unwritable_header(old: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write(old, {}, {"layers": {1, 2}})
    assert is_old(old)


def test_full_disk_at_fsync(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"No space left.*; the old file is untouched") as caught:
        write(old, {"w": np.zeros(2)}, {"age": "new"})
    assert caught.value.errno == errno.ENOSPC
    assert is_old(old)


def test_full_disk_without_an_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="the disk went away; nothing was left behind"):
        write(path, {}, {})
    assert list(path.parent.iterdir()) == []


def test_interrupted(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write(old, {}, {"age": "new"})
    assert is_old(old)


def test_full_disk_in_earnest(old: Path) -> None:
    """The kernel refuses the write itself, as a full disk does."""
    pytest.importorskip("resource", reason="file size limits are POSIX's")
    script = """
import resource, sys
import numpy as np
from bpx.persistence import write
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write(sys.argv[1], {"w": np.zeros(100_000)}, {"age": "new"})
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(old)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert "File too large; the old file is untouched" in done.stdout.replace("'", "")
    assert is_old(old)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")
def test_permissions_are_those_of_any_new_file(path: Path) -> None:
    """A temporary file is often for its owner alone; a model need not be."""
    plain = path.with_name("plain")
    plain.touch()
    write(path, {}, {})
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")
def test_permissions_of_an_old_file_are_kept(old: Path) -> None:
    old.chmod(0o640)
    write(old, {}, {})
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give")
def test_the_owner_of_an_old_file_is_kept(old: Path) -> None:
    """Where root writes the file of a service, which is to read it."""
    os.chown(old, 12345, 12346)
    old.chmod(0o600)
    write(old, {}, {})
    found = old.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 12346, 0o600)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")
def test_what_replaces_a_private_file_is_never_open_to_others(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, modes = os.fsync, []

    def fsync(handle: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        real(handle)

    old.chmod(0o600)
    monkeypatch.setattr(os, "fsync", fsync)
    write(old, {}, {})
    assert modes[0] == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="a folder is flushed as on POSIX here")
def test_all_of_it_is_on_the_disk_before_it_is_renamed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = os.replace, []

    def fsync(handle: int) -> None:
        found = os.fstat(handle)
        done.append("folder" if stat.S_ISDIR(found.st_mode) else found.st_size)

    def replace(source: Path, target: Path) -> None:
        done.append("renamed")
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(path, {}, HEADER)
    assert done == [path.stat().st_size, "renamed", "folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name on this system")
def test_what_is_no_file_is_not_replaced(path: Path) -> None:
    os.mkfifo(path)
    link = path.with_name("link")
    link.symlink_to(path.name)
    for name in (path, link):
        with pytest.raises(OSError, match=r"it is a device, a pipe .*expected a file's name"):
            write(name, {}, {})
    assert path.is_fifo()
    write(link, {}, HEADER, follow=False)  # in the link's place
    assert read(link)[1] == HEADER
    assert path.is_fifo()


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")
def test_what_takes_a_links_place_has_the_permissions_of_a_new_file(old: Path) -> None:
    before, link = old.read_bytes(), old.with_name("latest.safetensors")
    old.chmod(0o400)
    link.symlink_to(old.name)
    write(link, {}, HEADER, follow=False)
    plain = old.with_name("plain")
    plain.touch()
    assert (link.stat().st_mode, link.is_symlink()) == (plain.stat().st_mode, False)
    assert old.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")
def test_a_link_stays_a_link(old: Path) -> None:
    link = old.with_name("latest.safetensors")
    link.symlink_to(old.name)
    write(link, {}, HEADER)
    assert link.is_symlink()
    assert read(old)[1] == HEADER
    link.unlink()
    link.symlink_to(link.name)
    with pytest.raises(OSError, match=r"latest.safetensors: its links lead in a circle"):
        write(link, {}, HEADER)
    assert link.is_symlink()


def test_a_file_that_is_read_only_stays(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To replace it the folder's permissions would do."""
    before = old.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != old)  # true for root
    with pytest.raises(
        PermissionError, match=r"it is read-only, and stays as it is; name another"
    ):
        write(old, {}, HEADER)
    assert old.read_bytes() == before
    write(old.with_name("new"), {}, HEADER)
    write(old, {}, HEADER, follow=False)  # as the files of a run are, once that may replace them
    assert read(old)[1] == HEADER


def test_a_name_that_ends_as_a_folders(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"runs/: it names a folder, expected a file's na"):
        write(f"{tmp_path}/runs/", {}, HEADER)
    assert [*tmp_path.iterdir()] == []
