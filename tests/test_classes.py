"""Names of classes: a column of text as targets, and what a network's labels stand for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it: pip install typer")

from test_cli import bpx_command

import bpx
from bpx import categories
from bpx.categories import Classes
from bpx.cli import tables
from bpx.data import readers

KINDS = ("elm", "oak", "ash")  # as they come; sorted: ash, elm, oak
NAMES = ("ash", "elm", "oak")


@pytest.fixture
def trees(rng):
    """x (60, 2) and the name of each row's class."""
    chosen = np.arange(60) % 3
    x = rng.normal(size=(60, 2)) + 4.0 * np.array([[0, 0], [1, 0], [0, 1]])[chosen]
    return x, np.array(KINDS)[chosen]


def _lines(x, kinds, order="ab"):
    rows = [
        ",".join(f"{row['ab'.index(name)]:.17g}" for name in order) + f", {kind} "
        for row, kind in zip(x, kinds, strict=True)
    ]
    return "\n".join([",".join([*order, "kind"]), *rows]) + "\n"


@pytest.fixture
def written(trees, tmp_path):
    (tmp_path / "trees.csv").write_text(_lines(*trees))
    return tmp_path


def _write_parquet(path, x, kinds, dictionary):
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    if dictionary:  # with one that is never used, as in pandas' categories
        unused = arrow.array([*kinds, "yew"]).dictionary_encode()[:-1]
        kinds = unused
    table = arrow.table({"a": x[:, 0], "b": x[:, 1], "kind": kinds})
    parquet.write_table(table, path, row_group_size=25)


def test_numbers_are_those_of_sorted_names(trees, written):
    x, y, names = tables.read(written / "trees.csv", None)
    assert names == (("a", "b"), ("kind",), NAMES)
    assert np.array_equal(x, trees[0])
    assert (y.dtype, np.array(NAMES)[y].tolist()) == (np.int64, trees[1].tolist())
    known = tables.read(written / "trees.csv", "kind", classes=KINDS)
    assert known.names.classes == KINDS
    assert np.array(KINDS)[known.y].tolist() == trees[1].tolist()
    other, _, names = tables.read(written / "trees.csv", "kind", labelled=False)
    assert np.array_equal(other, x)
    assert names.classes is None


@pytest.mark.parametrize("kind", ["csv", "parquet", "dictionary"])
@pytest.mark.parametrize("known", [None, KINDS])
def test_tables_on_disk(trees, written, kind, known, monkeypatch):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    path = written / f"trees.{kind.replace('dictionary', 'parquet')}"
    if kind == "csv":
        monkeypatch.setattr(readers._csv, "LINES", 200)  # several blocks
    else:
        _write_parquet(path, *trees, kind == "dictionary")
    data = bpx.open_data(path, target="kind", classes=known)
    assert data.classes == (known or NAMES)
    assert len(data.reader.borders) > 3
    assert np.array(data.classes)[data.y].tolist() == trees[1].tolist()
    assert np.array_equal(data.read(finite=True), trees[0])
    if kind != "csv":
        read = tables.read(path, "kind", classes=known)
        assert read.names.classes == data.classes
        assert np.array_equal(read.y, data.y)


def test_networks_learn_the_names_of_tables(trees, written, tmp_path):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    data = bpx.open_data(written / "trees.csv", target="kind")
    net = bpx.Network([2, 8, 3], output="softmax", seed=0)
    net.fit(data, epochs=30)
    assert net.classes == NAMES
    net.save(tmp_path / "net.safetensors")
    for same in (net.copy(), bpx.load(tmp_path / "net.safetensors")):
        assert same.classes == NAMES
        found = np.array(same.classes)[same.predict(trees[0])]
        assert (found == trees[1]).mean() > 0.9
    other = bpx.open_data(written / "trees.csv", target="kind", classes=KINDS)
    with pytest.raises(
        ValueError, match=r"in y stand for other class names .*classes=net\.classes"
    ):
        net.evaluate(other)
    again = bpx.open_data(written / "trees.csv", target="kind", classes=net.classes)
    assert net.evaluate(again) == net.evaluate(data)
    fresh = bpx.Network([2, 3], output="softmax", seed=0)
    with pytest.raises(ValueError, match="the numbers in validation y stand for other class"):
        fresh.fit(data, validation=other)
    assert fresh.classes is None
    fresh.fit(trees[0], np.searchsorted(NAMES, trees[1]), epochs=1)  # of numbers alone
    for call in (fresh.evaluate, fresh.fit):
        with pytest.raises(
            ValueError, match=r"only numbers: name them, .* with net\.classes = \[\.\.\.\]"
        ):
            call(data)
    fresh.classes = NAMES
    fresh.evaluate(data)
    few = bpx.Network([2, 4], output="softmax", seed=0)
    with pytest.raises(
        ValueError,
        match=r"expected names of 4 classes in y, got 3, .* open_data\(..., classes=\[...\]\)",
    ):
        few.fit(data)
    assert (few.classes, few.columns, few.steps) == (None, None, 0)
    with pytest.raises(
        ValueError, match="the targets are names, such as 'ash', and the network's"
    ):
        bpx.Network([2, 1], output="identity").fit(data)


def _series(library, **options):
    def made(names):
        module = pytest.importorskip(library, reason="its vectors are tested")
        return getattr(module, {"pyarrow": "array"}.get(library, "Series"))(names, **options)

    made.__name__ = "-".join([library, *map(str, options.values())])
    return made


KINDS_OF_VECTOR = [
    *(list, tuple, np.array),
    *(lambda names, dtype=dtype: np.array(names, dtype=dtype) for dtype in (object, "T")),
    *(_series("pandas"), _series("pandas", dtype="category"), _series("pandas", dtype=object)),
    *(_series("polars"), _series("pyarrow")),
]


@pytest.mark.filterwarnings("ignore:Exporting an unversioned DLPack:DeprecationWarning")
@pytest.mark.parametrize("vector", KINDS_OF_VECTOR)
@pytest.mark.parametrize("x_on_disk", [False, True])
def test_labels_in_memory_may_be_names(trees, vector, x_on_disk):
    x, named = bpx.open_data(trees[0]) if x_on_disk else trees[0], vector(trees[1].tolist())
    numbers = np.searchsorted(NAMES, trees[1])
    expected = bpx.Network([2, 8, 3], output="softmax", seed=0)
    history = expected.fit(trees[0], numbers, epochs=3, validation=(trees[0], numbers))
    net = bpx.Network([2, 8, 3], output="softmax", seed=0)
    net.fit(x, named, epochs=2, validation=(trees[0], named))
    net.fit(x, named, epochs=1, validation=(trees[0], named))
    assert net.classes == NAMES
    assert np.array_equal(net.parameters, expected.parameters)
    assert net.history["validation_cost"][-1] == history["validation_cost"][-1]
    assert net.evaluate(x, named) == expected.evaluate(trees[0], numbers)
    assert net.accuracy(x, named) == expected.accuracy(trees[0], numbers)
    assert net.total_cost(x, named) == expected.total_cost(trees[0], numbers)
    grad, other = net.backprop(trees[0], named), expected.backprop(trees[0], numbers)
    assert np.array_equal(grad.flat, other.flat)
    net.trace(trees[0], named)


def test_names_go_by_the_classes_that_are_set(trees):
    x, named = trees
    net, twin = (bpx.Network([2, 3], output="softmax", seed=0) for _ in range(2))
    net.classes = KINDS
    net.fit(x, named, epochs=2)
    twin.fit(x, [KINDS.index(name) for name in named], epochs=2)
    assert net.classes == KINDS
    assert np.array_equal(net.parameters, twin.parameters)
    stream = bpx.Network([2, 3], output="softmax", seed=0)
    with pytest.raises(TypeError, match=r"mini-batch 1 .* set net\.classes = \[\.\.\.\]"):
        stream.fit([(x, named)])
    stream.classes = KINDS
    stream.fit([(x, named)], epochs=1)


@pytest.mark.parametrize("as_given", [np.asarray, list, lambda y: np.asarray(y, np.uint8)])
def test_integers_that_are_names_of_other_classes_are_doubted(trees, as_given):
    x, text = trees[0][:4], ["1", "2", "3", "2"]
    net = bpx.Network([2, 3], output="softmax", seed=0)
    net.fit(x, text, epochs=1)
    numbers = as_given([1, 2, 1, 2])
    message = r"in {}y are taken for places in .*, \['1', '2', '3'\], .* np\.asarray\(y\)\.astype"
    with pytest.warns(RuntimeWarning, match=message.format("")) as found:
        by_place = net.evaluate(x, numbers)
    assert [each.filename for each in found] == [__file__]
    with pytest.warns(RuntimeWarning, match=message.format("validation ")):
        net.fit(x, text, epochs=1, optimizer=bpx.SGD(0.0), validation=(x, numbers))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.evaluate(x, np.asarray(numbers).astype(str))
        assert net.evaluate(x, np.array(net.classes)[numbers]) == by_place
        assert net.evaluate(x, np.eye(3)[numbers]) == by_place  # targets are no names
        assert net.accuracy(x, as_given([0, 1, 2, 1])) == net.accuracy(x, text)  # 0 is no name
        net.classes = ["0", "1", "2"]
        assert net.evaluate(x, numbers) == by_place


def test_one_output_tells_two_names_apart(trees):
    x, named = trees[0], np.where(trees[1] == "oak", "oak", "none")
    net = bpx.Network([2, 1], seed=0)
    net.fit(x, named.tolist(), epochs=2)
    assert net.classes == ("none", "oak")
    twin = bpx.Network([2, 1], seed=0)
    twin.fit(x, named == "oak", epochs=2)
    assert np.array_equal(net.parameters, twin.parameters)


def test_names_that_cannot_be_learned_change_nothing(trees):
    x, named = trees
    net = bpx.Network([2, 3], output="softmax", seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="expected as many rows in y as in x, 60, got 59"):
        net.fit(x, named[1:])
    with pytest.raises(ValueError, match="'yew' in row 0 of validation y is not one of the netw"):
        net.fit(x, named, validation=(x[:1], ["yew"]))
    assert net.classes is None
    assert np.array_equal(net.parameters, before)
    net.fit(x, np.searchsorted(NAMES, named), epochs=1)  # of numbers alone: in which order?
    with pytest.raises(ValueError, match=r"has learned only numbers: name them, in the order of"):
        net.fit(x, named)
    with pytest.raises(TypeError, match=r"for names of classes set net\.classes"):
        net.evaluate(x, named)


def test_a_run_that_goes_on_has_the_names_of_its_checkpoint(trees, tmp_path):
    x, numbers = trees[0], np.searchsorted(NAMES, trees[1])
    net = bpx.Network([2, 3], output="softmax", seed=0)
    net.fit(*trees, epochs=1, checkpoint=tmp_path)
    again = bpx.Network([2, 3], output="softmax", seed=0)
    again.fit(x, numbers, epochs=2, checkpoint=tmp_path, resume=True)
    assert again.classes == NAMES


@pytest.mark.parametrize("processes", [None, 2])
def test_members_number_names_alike(trees, processes):
    x, named = trees
    first, second = (bpx.Network([2, 8, 3], output="softmax", seed=k) for k in range(2))
    first.classes = KINDS
    ensemble = bpx.Ensemble([second, first])
    ensemble.fit(x, named, epochs=20, processes=processes)
    assert [net.classes for net in ensemble.members] == [KINDS] * 2
    assert ensemble.accuracy(x, named) > 0.9


def test_members_that_learn_nothing_stay_as_they_were(trees):
    x, named = trees
    old, fresh = (bpx.Network([2, 3], output="softmax", seed=k) for k in range(2))
    old.fit(x, np.searchsorted(NAMES, named), epochs=1)
    before = fresh.parameters.copy()
    with pytest.raises(ValueError, match="y has names of classes, and the network has learned on"):
        bpx.Ensemble([fresh, old]).fit(x, named, epochs=1)
    assert (fresh.steps, fresh.classes) == (0, None)
    assert np.array_equal(fresh.parameters, before)
    one, other = (bpx.Network([2, 3], output="softmax", seed=k) for k in range(2))
    one.classes = KINDS
    with pytest.raises(ValueError, match="expected as many rows"):
        bpx.Ensemble([one, other]).fit(x, named[1:], epochs=1)
    assert (one.classes, other.classes) == (KINDS, None)


def test_names_that_are_set():
    net = bpx.Network([2, 1], seed=0)
    net.classes = ["cat", "dog"]
    assert net.classes == ("cat", "dog")
    net.classes = np.array([3, 7])
    assert net.classes == (3, 7)
    for wrong in (["cat"], ["cat", "cat"], ["cat", "dog", "fish"]):
        with pytest.raises(ValueError, match="expected 2 different classes, got"):
            net.classes = wrong
    for wrong in ("cd", ["cat", 1], [0.5, 1.5], {"cat", "dog"}, 2):
        with pytest.raises(TypeError, match=r'list of strings, such as \["cat", "dog"\], or of'):
            net.classes = wrong
    for wrong, message in (
        (["a", "b" * 1001], "names of classes of at most 1,000 characters"),
        ([1, 2**63], "expected classes to be integers that fit in 64 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            net.classes = wrong
    assert net.classes == (3, 7)
    net.classes = None
    assert net.classes is None


def test_ensembles_and_models_have_them(trees, written, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs the model")
    ensemble = bpx.Ensemble.of(2, bpx.Network([2, 3], output="softmax", seed=0))
    ensemble.members[1].classes = NAMES  # and the other takes names too
    expected = ensemble.evaluate(trees[0], np.searchsorted(NAMES, trees[1]))
    assert ensemble.evaluate(*trees) == expected
    for net in ensemble.members:
        net.classes = NAMES
    ensemble.save(tmp_path / "model.safetensors")
    printed, _ = bpx_command("predict", tmp_path / "model.safetensors", written / "trees.csv",
                             "--target", "kind")  # fmt: skip
    expected = np.array(NAMES)[ensemble.predict(trees[0])].tolist()
    assert printed.split() == expected
    twin = ensemble.members[0].copy()
    twin.classes = KINDS
    with pytest.raises(ValueError, match="expected networks trained with the same cl"):
        bpx.Ensemble([ensemble.members[0], twin])
    bpx.export_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    label = session.run(None, {"inputs": trees[0].astype(np.float32)})[0]
    assert label.tolist() == np.array(NAMES)[net.predict(trees[0])].tolist()


def test_names_of_an_ensemble_are_set_for_all_members():
    ensemble = bpx.Ensemble.of(2, bpx.Network([2, 3], output="softmax", seed=0))
    ensemble.classes, ensemble.columns = NAMES, ["a", "b"]
    assert [net.names for net in ensemble.members] == [(("a", "b"), None, NAMES)] * 2
    ensemble.target_columns = ["kind"]
    assert ensemble.names == (("a", "b"), ("kind",), NAMES)
    with pytest.raises(ValueError, match="expected 3 different classes, got"):
        ensemble.classes = NAMES[:2]
    assert ensemble.members[1].classes == NAMES


def test_members_in_processes_tell_their_names(written):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    ensemble = bpx.Ensemble.of(2, bpx.Network([2, 3], output="softmax", seed=0))
    ensemble.fit(bpx.open_data(written / "trees.csv", target="kind"), epochs=1, processes=2)
    told = [(net.columns, net.classes) for net in ensemble.members]
    assert told == [(("a", "b"), NAMES)] * 2


def test_the_command_line_goes_by_names(trees, written, rng):
    model = "run/model.safetensors"
    given = "trees.csv", "--target", "kind", "--epochs", 30, "--out", "run"
    out, err = bpx_command("train", *given, cwd=written)
    assert (err, "softmax" in out) == ("", True)
    score, _ = bpx_command("evaluate", model, "trees.csv", cwd=written)
    order = rng.permutation(60)[:40]
    x, kinds = trees[0][order], trees[1][order]
    (written / "some.csv").write_text(_lines(x[kinds != "elm"], kinds[kinds != "elm"], "ba"))
    some, _ = bpx_command("evaluate", model, "some.csv", cwd=written)
    rows = kinds != "elm"
    net = bpx.load(written / model)
    assert net.classes == NAMES
    y = np.searchsorted(NAMES, kinds)
    assert f"cost {net.evaluate(x[rows], y[rows])['cost']:.6g}\n" in some
    printed, _ = bpx_command("predict", model, "some.csv", cwd=written)
    assert printed.split() == np.array(NAMES)[net.predict(x[rows])].tolist()
    for name in ("p.csv", "p.npy"):
        bpx_command("predict", model, "some.csv", "--out", name, cwd=written)
    assert (written / "p.csv").read_text().split() == ["kind", *printed.split()]
    assert np.load(written / "p.npy").tolist() == printed.split()
    outputs, _ = bpx_command("predict", model, "some.csv", "--outputs", cwd=written)
    assert np.allclose(np.loadtxt(outputs.splitlines(), delimiter=","), net(x[rows]), atol=1e-6)
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    _write_parquet(written / "new.parquet", x, ["yew"] * len(x), False)  # what is not asked for
    printed, _ = bpx_command("predict", model, "new.parquet", "--target", "kind", cwd=written)
    assert printed.split() == np.array(NAMES)[net.predict(x)].tolist()
    net.classes = None
    net.save(written / "nameless.safetensors")
    unnamed = "nameless.safetensors", "new.parquet", "--target", "kind"
    assert bpx_command("predict", *unnamed, cwd=written)[0].split()[0] in "012"
    _write_parquet(written / "trees.parquet", *trees, False)
    assert bpx_command("evaluate", model, "trees.parquet", cwd=written)[0] == score
    many = np.tile(np.arange(60), 80)
    (written / "many.csv").write_text(_lines(trees[0][many], trees[1][many], "ba"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpx.data.readers._csv.LINES", 2000)
        in_blocks = "many.csv", "--budget", "150 kB"
        found, _ = bpx_command("evaluate", model, *in_blocks, cwd=written)
        cost = float(found.split()[1])
        assert abs(cost - float(score.split()[1])) < 1e-5 * cost
        out, _ = bpx_command("predict", model, *in_blocks, "--target", "kind", cwd=written)
        assert out.split() == np.array(NAMES)[net.predict(trees[0])][many].tolist()
        _, err = bpx_command("evaluate", unnamed[0], *in_blocks, cwd=written, status=2)
        assert "many.csv: the targets are names of classes, such as 'ash', and the netw" in err


def test_what_is_no_column_of_classes(trees, written):
    def refused(*arguments):
        return bpx_command(*arguments, cwd=written, status=2)[1]

    assert "--task regression needs numbers, and the targets are text, such as 'ash'" in refused(
        "train", "trees.csv", "--task", "regression"
    )
    (written / "all.csv").write_text(_lines(trees[0], [f"t{k}" for k in range(60)]))
    (written / "one.csv").write_text(_lines(trees[0], ["ash"] * 60))
    for name, count in (("all.csv", 60), ("one.csv", 1)):
        err = refused("train", name)
        assert "at least two and at most 30 in 60 rows" in err
        assert f"got {count} different texts, such as" in err
        assert "name another column with --target" in err
    bpx_command("train", "trees.csv", "--epochs", 1, "--out", "run", cwd=written)
    model = "run/model.safetensors"
    (written / "new.csv").write_text(_lines(trees[0], ["oaks"] * 60))
    assert (
        "new.csv, line 2, column 'kind': 'oaks' is not one of the classes; did you mean 'oak'?"
    ) in refused("evaluate", model, "new.csv")
    numbered = _lines(trees[0], np.arange(60) % 3)
    (written / "numbers.csv").write_text(numbered)
    bpx_command("evaluate", model, "numbers.csv", cwd=written)
    bpx_command("train", "numbers.csv", "--epochs", 1, "--out", "other", cwd=written)
    assert (
        "trees.csv: the targets are names of classes, such as 'ash', and the network has none"
    ) in refused("evaluate", "other/model.safetensors", "trees.csv")
    text = (written / "trees.csv").read_text().replace(" oak ", "NA", 1)
    (written / "gap.csv").write_text(text)
    assert (
        "gap.csv, line 3: 1 of the 60 rows have no value in column 'kind': leave these rows out"
    ) in refused("train", "gap.csv")
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    with pytest.raises(ValueError, match=r"gap.csv: column 'kind': expected the name of a class"):
        bpx.open_data(written / "gap.csv", target="kind")
    _write_parquet(written / "gap.parquet", trees[0], ["", *trees[1][1:]], False)
    with pytest.raises(ValueError, match=r"column 'kind': expected the name of a class, got ''"):
        bpx.open_data(written / "gap.parquet", target="kind")
    with pytest.raises(ValueError, match="'elm' is not one of the classes"):
        bpx.open_data(written / "trees.csv", target="kind", classes=["ash", "oak"])
    with pytest.raises(ValueError, match=r"target=, columns= and classes= are for a \.parq"):
        bpx.open_data(np.zeros((4, 2)), np.zeros(4, int), classes=["ash", "oak"])
    for target in (None, ["a", "b"]):
        with pytest.raises(
            ValueError, match="classes= are the classes of one column: name it with target="
        ):
            bpx.open_data(written / "trees.csv", target=target, classes=NAMES)
    for classes in ("abc", 3, [1, 2]):
        with pytest.raises(TypeError, match="expected classes to be a list of strings, got"):
            bpx.open_data(written / "trees.csv", target="kind", classes=classes)
    for classes in (["a", "a"], ["a "]):
        with pytest.raises(ValueError, match="expected classes to be different, and without spac"):
            bpx.open_data(written / "trees.csv", target="kind", classes=classes)


def test_names_that_look_like_numbers(trees, tmp_path):
    """Where names are known the first cell may be one of them, whatever it looks like."""
    kinds = np.array(["b", "1", "none"])[np.arange(60) % 3]
    known = ("1", "b", "none")
    rows = kinds != "b"
    (tmp_path / "part.csv").write_text(_lines(trees[0][rows], kinds[rows]))
    read = tables.read(tmp_path / "part.csv", "kind", classes=known)
    assert np.array(known)[read.y].tolist() == kinds[rows].tolist()
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    data = bpx.open_data(tmp_path / "part.csv", target="kind", classes=known)
    assert np.array_equal(data.y, read.y)
    (tmp_path / "inf.csv").write_text(_lines(trees[0], ["inf", *["0"] * 59]))
    with pytest.raises(ValueError, match="line 2, column 'kind': expected a number, got ' inf"):
        tables.read(tmp_path / "inf.csv", "kind")


def test_integers_that_classes_are(trees, tmp_path):
    labels = np.array([5, 7, 2])[np.arange(60) % 3]
    (tmp_path / "all.csv").write_text(_lines(trees[0], labels))
    net = bpx.Network([2, 3], output="softmax", seed=0)
    net.columns, net.target_columns, net.classes = ("a", "b"), ("kind",), (5, 2, 7)
    net.save(tmp_path / "net.safetensors")
    score, _ = bpx_command("evaluate", "net.safetensors", "all.csv", cwd=tmp_path)
    y = np.array([0, 2, 1])[np.arange(60) % 3]
    assert f"cost {net.evaluate(trees[0], y)['cost']:.6g}\n" in score
    printed, _ = bpx_command("predict", "net.safetensors", "all.csv", cwd=tmp_path)
    assert printed.split() == np.array([5, 2, 7])[net.predict(trees[0])].astype(str).tolist()
    (tmp_path / "other.csv").write_text(_lines(trees[0], np.full(60, 9)))
    _, err = bpx_command("evaluate", "net.safetensors", "other.csv", cwd=tmp_path, status=2)
    assert "other.csv: 9 is not one of the network's classes: 5, 2, 7" in err


def test_texts_that_are_too_long(trees, written):
    (written / "long.csv").write_text(_lines(trees[0], [kind * 400 for kind in trees[1]]))
    with pytest.raises(ValueError, match=r"long.csv, .* got a text of 1,200 characters"):
        tables.read(written / "long.csv", "kind")
    _write_parquet(written / "long.parquet", trees[0], [kind * 400 for kind in trees[1]], False)
    with pytest.raises(ValueError, match=r"column 'kind': .* got a text of 1,200 characters"):
        bpx.open_data(written / "long.parquet", target="kind")


def test_a_text_that_is_in_every_row_is_in_memory_once(trees, written):
    """Of 100 MB in 1,000 rows."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow: pip install pyarrow")
    import pyarrow.parquet as parquet

    text = arrow.DictionaryArray.from_arrays(np.zeros(1000, np.int32), ["x" * 100_000])
    table = arrow.table({"a": np.zeros(1000), "kind": text})
    parquet.write_table(table, written / "same.parquet")
    before = arrow.default_memory_pool().max_memory()
    with pytest.raises(ValueError, match="got a text of 100,000 characters"):
        bpx.open_data(written / "same.parquet", target="kind")
    assert arrow.default_memory_pool().max_memory() - before < 20e6


def test_a_column_of_too_many_texts(monkeypatch):
    monkeypatch.setattr(categories, "MOST_NAMES", 2)
    classes = Classes()
    assert [classes.number(name) for name in ("b", " a", "b ")] == [0, 1, 0]
    with pytest.raises(ValueError, match="expected names of classes, got more than 2 different"):
        classes.number("c")
    numbers, names = classes.in_order(np.array([0, 1, 0]))
    assert (numbers.tolist(), names) == ([1, 0, 1], ("a", "b"))


def test_a_terminal_obeys_no_name(written, tmp_path, trees):
    net = bpx.Network([2, 1], seed=0)
    net.columns, net.classes = ("a", "b"), ("red\x1b[31m", "two\xa0\u3000words")
    net.save(tmp_path / "net.safetensors")
    printed, _ = bpx_command("predict", tmp_path / "net.safetensors", written / "trees.csv")
    assert set(printed.splitlines()) <= {r"red\x1b[31m", "two\xa0\u3000words"}


# --- what is predicted --------------------------------------------------------------------------


def test_predictions_by_name(backend, put, trees):
    x, kinds = trees
    net = bpx.Network([2, 8, 3], hidden="tanh", output="softmax", seed=0, backend=backend)
    twin = bpx.Network([2, 8, 3], hidden="tanh", output="softmax", seed=1, backend=backend)
    for each in (net, twin):
        each.fit(put(x), kinds, epochs=30, optimizer=bpx.SGD(0.5))
    found = net.predict(put(x), names=True)
    assert type(found) is np.ndarray
    assert np.mean(found == kinds) > 0.9
    assert np.array_equal(found, np.array(NAMES)[net.backend.to_host(net.predict(put(x)))])
    both = bpx.Ensemble([net, twin])
    assert np.mean(both.predict(put(x), names=True) == kinds) > 0.9
    net.classes = [7, 8, 9]
    assert set(net.predict(put(x), names=True).tolist()) == {7, 8, 9}


@pytest.mark.parametrize("make", [lambda net: net, lambda net: bpx.Ensemble([net])])
def test_predictions_by_name_need_names(make):
    asked = make(bpx.Network([2, 3], output="softmax"))
    with pytest.raises(ValueError, match=r"known, as where the targets are 0, 1, \.\.\.: leave"):
        asked.predict([[0.0, 1.0]], names=True)
    asked.classes = NAMES
    with pytest.raises(TypeError, match="expected names to be True or False, got 'yes'"):
        asked.predict([[0.0, 1.0]], names="yes")
    with pytest.raises(TypeError, match="expected names to be True or False, got None"):
        asked.predict([[0.0, 1.0]], names=None)
