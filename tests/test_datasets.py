"""MNIST from a folder and from a server on this machine; digits from scikit-learn."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import socket
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import bpx
from bpx.datasets import _mnist


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def small(monkeypatch, tmp_path, rng):
    """Small IDX files with their sums in place of the real ones, and an empty cache."""
    shapes = [(60, 28, 28), (60,), (10, 28, 28), (10,)]
    contents, files = {}, {}
    for name, shape in zip(_mnist.FILES, shapes, strict=True):
        contents[name] = idx(rng.integers(10, size=shape, dtype=np.uint8))
        files[name] = _mnist._File(shape, hashlib.sha256(contents[name]).hexdigest())
    monkeypatch.setattr(_mnist, "FILES", files)
    monkeypatch.delenv("BPX_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    return {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}


@pytest.fixture
def serve(monkeypatch):
    """A mirror on 127.0.0.1 that serves what it is given; returns its address."""
    servers = []

    def start(files, missing_bytes=0):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + missing_bytes))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def left(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_download(small, serve, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_mnist, "MIRRORS", (serve({}), serve(small)))  # the first has nothing
    first = bpx.datasets.mnist("uint8")
    assert first.train.x.shape == (50, 784)
    assert first.validation.y.shape == (10,)
    assert "train-images" in capsys.readouterr().err  # the bar
    assert left(tmp_path) == sorted(path[1:] for path in small)
    monkeypatch.setattr(_mnist, "MIRRORS", ())
    assert np.array_equal(bpx.datasets.mnist("uint8").train.x, first.train.x)


@pytest.mark.parametrize("piece", [_mnist.PIECE, 100])
def test_a_file_may_be_packed_in_members(small, monkeypatch, tmp_path, piece):
    """Also where one ends in the middle of a file that is read in several pieces."""
    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    monkeypatch.setattr(_mnist, "PIECE", piece)
    for path, packed in small.items():
        content = gzip.decompress(packed)
        halves = content[: len(content) // 2], content[len(content) // 2 :]
        (tmp_path / path[1:]).write_bytes(b"".join(map(gzip.compress, halves)))
    assert bpx.datasets.mnist("uint8").train.x.flags.writeable


def test_a_system_without_threads(small, monkeypatch, tmp_path):
    """The checksum, which another thread adds up, is then the caller's work."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    for path, content in small.items():
        (tmp_path / path[1:]).write_bytes(content)
    monkeypatch.setattr(threading.Thread, "start", start)
    check(bpx.datasets.mnist("uint8"), small)


def in_two_members(content):
    """With what is too much in one of its own, and so in a piece of its own."""
    return gzip.compress(content[: -len(b"more")]) + gzip.compress(b"more")


@pytest.mark.parametrize("packed", [bytes, gzip.compress, in_two_members])
def test_a_file_that_begins_as_mnist_and_goes_on(small, monkeypatch, tmp_path, packed):
    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    for path, content in small.items():
        (tmp_path / path[1:]).write_bytes(packed(gzip.decompress(content) + b"more"))
    with pytest.raises(bpx.DatasetError, match="expected the uncompressed SHA-256"):
        bpx.datasets.mnist()


def test_bpx_data_names_where_a_download_goes(small, serve, monkeypatch, tmp_path):
    monkeypatch.setenv("BPX_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(_mnist, "MIRRORS", (serve(small),))
    bpx.datasets.mnist(progress=False)
    assert len(list((tmp_path / "mine" / "mnist").iterdir())) == 4


@pytest.mark.parametrize(
    ("damage", "short", "message"),
    [
        (lambda content: content, 100, "truncated|IncompleteRead"),
        (lambda content: content[:-20] + b"\x00" * 20, 0, "127.0.0.1"),
        (
            lambda content: gzip.compress(b"another file"),
            0,
            "expected the uncompressed SHA-256",
        ),
        (lambda content: None, 0, "404"),
    ],
    ids=["truncated", "corrupted", "another", "missing"],
)
def test_a_bad_mirror_leaves_nothing(small, serve, monkeypatch, tmp_path, damage, short, message):
    files = {path: damage(content) for path, content in small.items()}
    monkeypatch.setattr(_mnist, "MIRRORS", (serve(files, short),))
    with pytest.raises(bpx.DatasetError, match=message):
        bpx.datasets.mnist(progress=False)
    assert left(tmp_path) == []


def test_a_mirror_that_sends_without_end(small, serve, monkeypatch, tmp_path):
    """Refused at somewhat more than the file has, packed or not."""
    name = next(iter(small))
    for content, message in (
        (bytes(1 << 20), r"expected a file of less than \d+ bytes, got a larger one"),
        (gzip.compress(bytes(1 << 26)), "expected the uncompressed SHA-256"),
    ):
        monkeypatch.setattr(_mnist, "MIRRORS", (serve(small | {name: content}),))
        tracemalloc.start()
        try:
            with pytest.raises(bpx.DatasetError, match=message):
                bpx.datasets.mnist(progress=False)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
    assert left(tmp_path) == []


def test_the_name_that_a_gzip_file_has_in_it_is_no_path(small, serve, monkeypatch, tmp_path):
    for path, content in small.items():
        packed = io.BytesIO()
        with gzip.GzipFile("../../evil", "wb", fileobj=packed) as file:
            file.write(gzip.decompress(content))
        small[path] = packed.getvalue()
    monkeypatch.setattr(_mnist, "MIRRORS", (serve(small),))
    bpx.datasets.mnist(progress=False)
    assert left(tmp_path) == sorted(path[1:] for path in small)


def test_without_a_network_the_message_says_what_to_do(small, monkeypatch, tmp_path):
    monkeypatch.setattr(_mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(bpx.DatasetError) as caught:
        bpx.datasets.mnist(progress=False)
    message = str(caught.value)
    for path in small:
        assert str(tmp_path / "cache" / "bpx" / "mnist" / path[1:]) in message
    assert "BPX_DATA" in message


def test_a_damaged_local_file_is_named(small, monkeypatch, tmp_path):
    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    for path, content in small.items():
        (tmp_path / path[1:]).write_bytes(content)
    bpx.datasets.mnist()
    broken = tmp_path / "t10k-labels-idx1-ubyte.gz"
    broken.write_bytes(gzip.compress(b"other"))
    with pytest.raises(
        bpx.DatasetError, match=r"t10k-labels.* is damaged.*expected the uncompressed SHA-256"
    ):
        bpx.datasets.mnist()
    broken.write_bytes(small["/" + broken.name][:-9])
    with pytest.raises(bpx.DatasetError, match="truncated or damaged"):
        bpx.datasets.mnist()


def test_the_books_split(mnist):
    assert [part.x.shape for part in mnist] == [(50000, 784), (10000, 784), (10000, 784)]
    assert mnist.train.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert (mnist.train.x.dtype, mnist.train.y.dtype) == (np.float32, np.int64)
    assert (mnist.train.x.min(), mnist.train.x.max()) == (0.0, 1.0)


def test_wrong_dtype_is_told_before_a_download(small, monkeypatch):
    monkeypatch.setattr(_mnist, "MIRRORS", ())
    with pytest.raises(ValueError, match="expected dtype"):
        bpx.datasets.mnist("int8")


def test_a_user_without_a_folder(small, monkeypatch, tmp_path):
    """As in a container that runs under a number without a name."""

    def without_one(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(_mnist.Path, "home", without_one)
    with pytest.raises(bpx.datasets.DatasetError) as caught:
        bpx.datasets.mnist()
    assert str(caught.value) == (
        "there is no folder for MNIST's files (Could not determine home directory): set the "
        "environment variable BPX_DATA to one that has them, or into which they can go"
    )
    for path, content in small.items():
        (tmp_path / path[1:]).write_bytes(content)
    monkeypatch.setenv("BPX_DATA", str(tmp_path))
    assert bpx.datasets.mnist().train.x.shape == (50, 784)


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_cache_folder(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert _mnist.cache_folder().parts[-2:] == ("bpx", "mnist")


def test_digits():
    train, validation, test = bpx.datasets.digits("uint8")
    assert (train.x.dtype, train.x.max(), train.y.dtype) == (np.uint8, 16, np.int64)
    assert len(np.unique(test.y)) == 10
    scaled = bpx.datasets.digits("float64")
    assert np.array_equal(scaled.validation.x, validation.x / 16)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install scikit-learn"):
        bpx.datasets.digits()


def values(small):
    """The arrays in the small files: images, labels, test images, test labels."""
    files = zip(small.values(), _mnist.FILES.values(), strict=True)
    return [
        np.frombuffer(gzip.decompress(content)[4 + 4 * len(file.shape) :], np.uint8).reshape(
            file.shape
        )
        for content, file in files
    ]


def check(data, small):
    images, labels, test_images, test_labels = values(small)
    assert np.array_equal(data.train.x, images[:50].reshape(50, 784))
    assert np.array_equal(data.validation.x, images[50:].reshape(10, 784))
    assert np.array_equal(data.test.x, test_images.reshape(10, 784))
    assert np.array_equal(data.train.y, labels[:50])
    assert np.array_equal(data.validation.y, labels[50:])
    assert np.array_equal(data.test.y, test_labels)
    assert all(part.x.flags.writeable and part.y.flags.writeable for part in data)


@pytest.mark.parametrize("form", ["zipped", "plain", "plain, named .gz by a browser"])
@pytest.mark.parametrize("where", ["data/mnist", "data", "cache/bpx/mnist"])
def test_local_files(small, monkeypatch, tmp_path, where, form):
    monkeypatch.setenv("BPX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(_mnist, "MIRRORS", ())
    (tmp_path / where).mkdir(parents=True)
    for path, content in small.items():
        name = path[1:].removesuffix(".gz" if form == "plain" else "")
        (tmp_path / where / name).write_bytes(
            content if form == "zipped" else gzip.decompress(content)
        )
    check(bpx.datasets.mnist("uint8"), small)


def test_only_what_is_missing_is_downloaded(small, serve, monkeypatch, tmp_path):
    first = next(iter(small))
    monkeypatch.setattr(_mnist, "MIRRORS", (serve({first: small[first]}),))
    folder = _mnist.cache_folder()
    folder.mkdir(parents=True)
    for path, content in small.items():
        if path != first:
            (folder / path[1:]).write_bytes(content)
    check(bpx.datasets.mnist("uint8", progress=False), small)


def test_no_bar(small, serve, monkeypatch, capsys):
    monkeypatch.setattr(_mnist, "MIRRORS", (serve(small),))
    bpx.datasets.mnist(progress=False)
    assert capsys.readouterr().err == ""


def test_a_mirror_that_does_not_answer(small, serve, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(_mnist, "TIMEOUT", 0.1)
        monkeypatch.setattr(_mnist, "MIRRORS", (address,))
        with pytest.raises(bpx.DatasetError, match=f"{address}train-.*: timed out"):
            bpx.datasets.mnist(progress=False)
    monkeypatch.setattr(_mnist, "TIMEOUT", 30)
    monkeypatch.setattr(_mnist, "MIRRORS", (address, serve(small)))
    check(bpx.datasets.mnist("uint8", progress=False), small)


def test_the_whole_message(small, serve, monkeypatch):
    address = serve({})
    monkeypatch.setattr(_mnist, "MIRRORS", (address,))
    with pytest.raises(bpx.DatasetError) as caught:
        bpx.datasets.mnist(progress=False)
    files = "".join(f"\n  {_mnist.cache_folder() / path[1:]}" for path in small)
    assert str(caught.value) == (
        "MNIST was not found here, and no mirror gave it:\n"
        f"  {address}train-images-idx3-ubyte.gz: HTTP 404 Not Found\n"
        f"Put these four files in place by hand (with or without .gz):{files}\n"
        "or set the environment variable BPX_DATA to a folder that has them"
    )


def test_a_folder_that_cannot_be_written_to(small, serve, monkeypatch, tmp_path):
    (tmp_path / "data").write_text("a file, where a folder should be")
    monkeypatch.setenv("BPX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(_mnist, "MIRRORS", (serve(small),))
    with pytest.raises(
        bpx.DatasetError,
        match=r"cannot keep the download as .*\.gz: .*; set the environment variable BPX_DATA",
    ):
        bpx.datasets.mnist(progress=False)


def test_a_full_disk_leaves_nothing(small, serve, monkeypatch, tmp_path):
    def replace(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(_mnist, "MIRRORS", (serve(small),))
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(bpx.DatasetError, match=r"cannot keep the download as .*: no space left"):
        bpx.datasets.mnist(progress=False)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, Path("/x/bpx/mnist")),
        ("linux", {}, Path.home() / ".cache" / "bpx" / "mnist"),
        ("darwin", {}, Path.home() / "Library" / "Caches" / "bpx" / "mnist"),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/bpx/mnist")),
        ("win32", {}, Path.home() / "AppData" / "Local" / "bpx" / "mnist"),
    ],
)
def test_cache_folder_of_each_system(platform, variables, expected, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert _mnist.cache_folder() == expected


@pytest.mark.parametrize("its_file", [True, False])
def test_digits_are_all_of_scikit_learns(monkeypatch, its_file):
    """Each scan once, with its label, in the order that the docstring gives."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    if its_file:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # it is not imported
    else:
        monkeypatch.setattr(Path, "is_file", lambda path: False)
    order = np.random.default_rng(0).permutation(1797)
    data = bpx.datasets.digits("uint8")
    assert [len(part.x) for part in data] == [1197, 300, 300]
    assert np.array_equal(np.concatenate([part.x for part in data]), scans.data[order])
    assert np.array_equal(np.concatenate([part.y for part in data]), scans.target[order])


def test_wrong_dtype_of_digits():
    with pytest.raises(
        ValueError, match="expected dtype 'float32', 'float64' or 'uint8', got 'int8'"
    ):
        bpx.datasets.digits("int8")
