"""From data and a few words to samples, for the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..categories import Source, source
from ..checks import FILL_IN, budget_in_bytes, in_words, of_batch, over_budget, shortened
from ..data.arrays import generator
from ..data.blocks import Blocks, open_data, open_table
from ..data.readers import TABLES, Dialect, Features, is_csv, numbers_as_text, to_numbers
from ..data.values import first_not_finite
from ..ensemble import Ensemble
from ..frames import column as called
from ..names import Names
from ..network import Network
from ..registry import nearest
from . import missing, tables
from .columns import column_names, input_names, target_names
from .console import note
from .csv_rows import note_codes
from .dialect import COMMAS

Part = tuple[np.ndarray, np.ndarray]


class Split(NamedTuple):
    """What `parts` returns.

    Attributes
    ----------
    parts : list of (x, y)
        To train, to validate and to test on.
    names : Names or None
        Of a table's columns.
    some : ndarray
        Inputs in memory like those that are trained on, for their shape, mean and deviation.
    """

    parts: list[Part]
    names: Names | None
    some: np.ndarray


NO_OTHERS: Mapping[str, Path | None] = {"validation": None, "test": None}
BUILT_IN = {"digits": (8, 8), "mnist": (28, 28)}  # data, and what their images are


def parts(
    data: str,
    target: str | None,
    seed: int,
    budget: int | str | None,
    columns: Sequence[str] = (),
    ignored: Sequence[str] = (),
    dialect: Dialect = COMMAS,
    others: Mapping[str, Path | None] = NO_OTHERS,
    fill: bool = False,
) -> Split:
    """Samples to train, to validate and to test on; files are split 8 : 1 : 1 at random.

    What is larger than the budget is trained on in blocks, with 10,000 samples held out at most.
    For `columns` and `ignored` see `input_names`. `others` are files for ``validation`` and
    ``test``; the data are split for those that are None. If asked to `fill`, what is missing in x
    gets the mean of its column in training.
    """
    size = tables.BUDGET if budget is None else budget_in_bytes(budget)
    path = Path(data)
    if data in BUILT_IN:
        _check_no_files(data, target, budget, others, fill)
        input_names(path, target, columns, ignored, dialect)  # which are for tables
        return _built_in(data)
    check_known(data)
    for each in (path, *filter(None, others.values())):
        tables.check_file(each)
    of_x = input_names(path, target, columns, ignored, dialect)
    drawn = [name for name, file in others.items() if file is None]
    features = Features(of_x, encode=True, missing=fill)
    if tables.size(path) > size:
        found, names, some = _in_blocks(path, target, seed, size, features, dialect, drawn)
    else:
        x, y, names = tables.read(path, target, budget=size, features=features, dialect=dialect)
        assert y is not None
        x = x.reshape(len(x), -1)  # images as vectors
        if names is not None and not columns:
            _note_numbered_rows(x, names, dialect)
        found = _split(data, x, y, seed, drawn)
        some = found["train"][0]
    sources = _sources(path, names, dialect)
    if names is not None:
        _note_columns(path, names, target, sources, dialect)
    for option, file in others.items():
        if file is not None:
            _check_apart(option, file, {"what is trained on": path, **others})
            found[option] = _other(
                option, file, path, found["train"], names, target, size, dialect, fill
            )
    if fill:
        means = missing.means(some, [column for column, _ in sources])
        found = {name: (missing.filled(x, means), y) for name, (x, y) in found.items()}
        some = found["train"][0]
    return Split([found[name] for name in ("train", *others)], names, some)


def check_known(data: str, hint: str = "") -> None:
    """ValueError, with `hint`, for what is neither built in nor the name of a file."""
    if data not in BUILT_IN and not Path(data).suffix and not Path(data).is_dir():
        known = f"{nearest(data, list(BUILT_IN))}, or a .npz, .csv or .parquet file"
        raise ValueError(f"unknown data {data!r}{hint or known}")


def _check_no_files(
    data: str,
    target: str | None,
    budget: int | str | None,
    others: Mapping[str, Path | None],
    fill: bool,
) -> None:
    """ValueError for options of files, since these data are none."""
    if target is not None:
        raise ValueError(f"--target is for files; {data} has its own labels")
    if budget is not None:
        raise ValueError(f"--budget is for files; {data} is in memory")
    if fill:
        raise ValueError(f"--missing is for files; no cell is missing in {data}")
    for option, other in others.items():
        if other is not None:
            raise ValueError(f"--{option} is for files; {data} has such samples of its own")


def _built_in(data: str) -> Split:
    dataset = datasets.digits() if data == "digits" else datasets.mnist()
    return Split([(x, y) for x, y in dataset], None, dataset.train.x)


def _split(
    data: str, x: np.ndarray, y: np.ndarray, seed: int, drawn: Sequence[str]
) -> dict[str, Part]:
    """A tenth of the rows, at random, for each that is `drawn`, and the others to train on."""
    n = len(x)
    if not drawn:
        return {"train": (x, y)}
    _check_enough(data, n, drawn)
    order = generator(seed).permutation(n)
    ends = [0, *(tenths * n // 10 for tenths in range(10 - len(drawn), 11))]
    cuts = (order[first:stop] for first, stop in pairwise(ends))
    return {name: (x[rows], y[rows]) for name, rows in zip(("train", *drawn), cuts, strict=True)}


def _check_enough(data: str | Path, n: int, drawn: Sequence[str]) -> None:
    """ValueError if a tenth of n samples is none, where some are to be drawn."""
    if drawn and n < 10:
        options = [f"--{name}" for name in drawn]
        raise ValueError(
            f"expected at least 10 samples in {data}, as a tenth is drawn for "
            f"{' and for '.join(options)}, got {n}: pass {' and '.join(options)} with files of "
            "other samples, or in Python train on all with net.fit(x, y)"
        )


def _check_apart(option: str, path: Path, files: Mapping[str, Path | None]) -> None:
    """ValueError if a file is one of the other files too."""
    for what, file in files.items():
        if what != option and file is not None and path.samefile(file):
            called = f"--{what}" if what in NO_OTHERS else what
            raise ValueError(f"--{option} {path} is {called} too: name a file of other samples")


def _other(
    option: str,
    path: Path,
    data: Path,
    trained: Part,
    names: Names | None,
    target: str | None,
    budget: int,
    dialect: Dialect,
    fill: bool,
) -> Part:
    """The samples in a file beside the data, whose columns they have by `names`."""
    if tables.size(path) > budget:
        raise ValueError(
            f"--{option} {path} takes {over_budget(tables.size(path), budget)}: pass a larger "
            "--budget"
        )
    columns = classes = None
    if names is not None:  # of a table's columns
        is_table = path.suffix.lower() in TABLES
        target = ",".join(names.target_columns or ()) if is_table else None
        columns, classes = names.columns, names.classes
    x, y, found = tables.read(
        path, target, budget=budget, features=Features(columns, missing=fill), classes=classes,
        dialect=dialect,
    )  # fmt: skip
    assert y is not None
    if found is not None:
        _check_names(path, found.classes, classes, f"those of {data} are not", target, dialect)
    x, wanted, learned = x.reshape(len(x), -1), trained[0].shape[1], trained[1].shape[1:]
    if x.shape[1] != wanted or y.shape[1:] != learned:
        raise ValueError(
            f"expected samples as in {data} in --{option} {path}, x {of_batch((wanted,))} and y "
            f"{of_batch(learned)}, got {x.shape} and {y.shape}"
        )
    return x, y


def _note_numbered_rows(x: np.ndarray, names: Names, dialect: Dialect) -> None:
    """Rows that are sorted by their class have it in their numbers."""
    columns = names.columns or ()
    if len(x) < 2:
        return
    for k in np.flatnonzero(np.diff(x[:2].astype(np.float64), axis=0)[0] == 1):
        values = x[:, k].astype(np.float64)
        if values[0] % 1 == 0 and (np.diff(values) == 1).all():
            note(
                f"column {shortened(columns[k])} rises by 1 from row to row, as numbers of the "
                f"rows do: {dialect.without(columns[k])} leaves it out"
            )


def _sources(path: Path, names: Names | None, dialect: Dialect) -> list[Source]:
    """Where the inputs of a table come from; arrays have no columns."""
    if names is None or names.columns is None:
        return []
    known = set(column_names(path, dialect))
    return [source(name, known) for name in names.columns]


def _note_columns(
    path: Path, names: Names, target: str | None, sources: Sequence[Source], dialect: Dialect
) -> None:
    """Say what columns are taken for, where another reader might see something else in them."""
    if is_csv(path):
        note_codes(path, names.columns or (), dialect)
    if target is None and names.target_columns:
        note(
            f"the target is the last column, {shortened(names.target_columns[0])}: --target names "
            "another"
        )
    _note_text(sources, dialect)


def _note_text(sources: Sequence[Source], dialect: Dialect) -> None:
    """Say which of a table's columns are text, how many inputs each has, and if it is numbers."""
    found: dict[str, list[str]] = {}
    for column, category in sources:
        if category is not None:
            found.setdefault(column, []).append(category)
    if found:
        shown = ", ".join(f"{shortened(name)} {len(texts)}" for name, texts in found.items())
        note(f"each value in a column of text is an input: {shown}")
    for name, texts in found.items():
        if all(dialect.number(text) is not None for text in texts):  # in a .parquet
            note(
                f"column {shortened(name)} has numbers as text, such as {texts[0]}, each of which "
                f"is an input: {to_numbers(name)}, if they are quantities"
            )


def _in_blocks(
    path: Path,
    target: str | None,
    seed: int,
    budget: int,
    features: Features,
    dialect: Dialect,
    drawn: Sequence[str],
) -> tuple[dict[str, Any], Names | None, np.ndarray]:
    samples = _opened(path, target, budget, dialect, features)
    samples.flatten()
    _check_enough(path, samples.n, drawn)
    draw, few = generator(seed), min(samples.n // 10, 10_000)
    found: dict[str, Any] = {}
    rest = samples
    for name in reversed(drawn):
        rest, found[name] = rest.hold_out(few, draw)
    some, _ = found.get("validation") or rest.hold_out(few, draw)[1]  # alike, drawn at random
    if (row := first_not_finite(some)) is not None:
        names = samples.names.columns if samples.names else None
        where = called(int(np.argmin(np.isfinite(some[row]))), names)
        raise ValueError(f"{path}: NaN or infinity in x, in {where}: {FILL_IN}")
    return found | {"train": (_without_y(rest), rest.y)}, samples.names, some


def _opened(
    path: Path,
    target: str | None,
    budget: int,
    dialect: Dialect,
    features: Features,
    labelled: bool = True,
    classes: Sequence[str] | None = None,
) -> Blocks:
    if features.missing:  # nothing is filled in blocks
        raise ValueError(
            f"{missing.OPTION} is for data in memory: {path} takes {in_words(tables.size(path))}, "
            f"more than the budget of {in_words(budget)}: pass a larger --budget"
        )
    if path.suffix.lower() in TABLES:
        if labelled and target is None:
            raise ValueError(
                f"{path} is larger than the budget, and so is read in blocks: name the column of "
                "its targets with --target"
            )
        targets = target_names(path, target, features.names, column_names(path, dialect))
        return open_table(
            [path], dialect, budget, targets=targets, features=features, classes=classes
        )
    samples = open_data(path, target=target, budget=budget)
    if labelled and samples.y is None:
        raise ValueError(
            f"{path} is read in blocks, and has no targets: name with --target the array of a "
            ".npz, if it is not y"
        )
    return samples


def _without_y(data: Blocks) -> Blocks:
    return Blocks(data.reader, None, None, data.budget, data.kept)


def of_file(
    net: Network | Ensemble,
    path: Path,
    target: str | None,
    budget: int | str | None,
    dialect: Dialect = COMMAS,
    *,
    labelled: bool = True,
    fill: bool = False,
) -> tuple[Any, Any]:
    """x as the network takes it, and y, of all samples in a file.

    What is larger than the budget is read in blocks. Of a table x are the columns that the network
    was trained on, by their names, and y those that it has learned, where `target` names no other.
    If asked to `fill`, what is missing in x gets the mean of its column in training.
    """
    tables.check_file(path)
    features, is_table = Features(net.columns, missing=fill), path.suffix.lower() in TABLES
    if labelled and is_table:
        target = _targets(net, path, target, dialect)
    size = tables.BUDGET if budget is None else budget_in_bytes(budget)
    known = _names_of_classes(net) if labelled else None
    if tables.size(path) > size:
        data = _opened(path, target, size, dialect, features, labelled, known)
        if len(net.input_shape) == 1:
            data.flatten()
        if labelled:
            _check_names(path, data.classes, known, "the network has none", target, dialect)
        return _without_y(data), _labels(net, data.y, path) if labelled else None
    x, y, names = tables.read(
        path, target, labelled=labelled, budget=size, features=features, classes=known,
        dialect=dialect,
    )  # fmt: skip
    if labelled and names is not None:
        _check_names(path, names.classes, known, "the network has none", target, dialect)
    x = shaped(net, x)
    if fill and x.shape[1:] == net.input_shape:  # which the network checks
        means, sources = missing.means_of(net), _sources(path, names, dialect)
        missing.note_filled(x, f"of {path}", [column for column, _ in sources])
        x = missing.filled(x, means)
    return x, _labels(net, y, path) if labelled else None


def _targets(
    net: Network | Ensemble, path: Path, target: str | None, dialect: Dialect
) -> str | None:
    """Several targets in the order in which the network has learned them."""
    learned = net.target_columns
    if learned is None or (target is not None and len(learned) == 1):
        return target
    if target is None:
        return ",".join(learned)
    asked = target_names(path, target, net.columns, column_names(path, dialect))
    if {*asked} != {*learned}:
        raise ValueError(
            f"the network has learned the targets {','.join(learned)}, and --target names "
            f"{target}: leave it out"
        )
    return ",".join(learned)


def _names_of_classes(net: Network | Ensemble) -> tuple[str, ...] | None:
    names = tuple(name for name in net.classes or () if isinstance(name, str))
    return names or None


def _labels(net: Network | Ensemble, y: Any, path: Path) -> Any:
    """y, or if the network's classes are integers, the labels that stand for them there."""
    numbers = np.array([name for name in net.classes or () if not isinstance(name, str)], np.int64)
    if not len(numbers) or np.ndim(y) != 1:
        return y
    order = np.argsort(numbers)
    places = np.searchsorted(numbers, y, sorter=order).clip(max=len(numbers) - 1)
    wrong = numbers[order[places]] != y
    if wrong.any():
        raise ValueError(
            f"{path}: {np.asarray(y)[wrong][0]} is not one of the network's classes: "
            f"{', '.join(map(str, numbers[:40]))}"
        )
    return order[places]


def _check_names(
    path: Path,
    got: tuple[str, ...] | None,
    known: tuple[str, ...] | None,
    but: str,
    column: str | None,
    dialect: Dialect,
) -> None:
    """ValueError if targets are names, which are not known.

    False and True of a .csv are 0 and 1 for one that was trained on the same in a .parquet.
    """
    if got and not known and [name.lower() for name in got] != ["false", "true"]:
        mend = numbers_as_text(got, column or "y", dialect)
        raise ValueError(
            f"{path}: the targets are names of classes, such as {shortened(got[0])}, and {but}"
            f"{mend or ': number them 0, 1, 2, ... as in training'}"
        )


def shaped(net: Network | Ensemble, x: np.ndarray) -> np.ndarray:
    """Samples as the network takes them: images as vectors, if the number of elements fits."""
    fits = math.prod(x.shape[1:]) == math.prod(net.input_shape)
    return x.reshape(-1, *net.input_shape) if fits else x
