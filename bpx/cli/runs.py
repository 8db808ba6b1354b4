"""The folder of a run from the command line: its recipe, its checkpoints, and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

from ..callbacks import Callback
from ..data.readers import KINDS
from ..files import save
from ..history import History
from ..network import Network
from ..persistence import FileFormatError
from ..plotting import picture
from ..training.checkpoints import Checkpoint, delete, is_checkpoint, newest
from ..writing import write_bytes
from .console import note
from .recipe import LAID_OUT
from .spelling import as_typed

RECIPE, CHECKPOINTS, MODEL = "recipe.json", "checkpoints", "model.safetensors"
# The last checkpoint of a run that has ended, which is not a model for predictions: a regression's
# outputs are standardized in it. And its name where the run goes on: older than others.
LAST, FIRST = "last.checkpoint", f"checkpoint-{0:012d}.safetensors"
HISTORY, CURVE, SCORES = "history.csv", "curve.png", "test.json"
WRITTEN = MODEL, HISTORY, CURVE, SCORES, RECIPE, LAST
FOLDERS = ("out", "resume")  # options that say where a run is, and are not in its recipe


def check_free(out: Path, options: Mapping[str, Any], overwrite: bool) -> None:
    """Check that a run may begin in the folder.

    Raises
    ------
    ValueError
        It has a run that has not ended; or one that has, or another file that would be replaced,
        unless `overwrite`; or the data are such a file.
    """
    there = [name for name in WRITTEN if (out / name).exists()]
    given = filter(None, map(options.get, ("data", "validation", "test")))
    for data in map(Path, given):
        for name in there:
            if data.exists() and data.samefile(out / name):
                raise ValueError(
                    f"{name} of the run would replace {data}, its data: name another --out"
                )
    folder = _checkpoints(out)
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{out} has a run that has not ended: bpx train --resume {out} goes on with it; to "
            f"begin anew delete {folder}"
        )
    # A run that was cut short before its first checkpoint has left its recipe, and the folder.
    if there and not overwrite and (MODEL in there or RECIPE not in there or not folder.is_dir()):
        what = "trained model" if MODEL in there else f"{there[0]}, which the run would replace"
        raise ValueError(f"{out} already has a {what}: name another --out, or pass --overwrite")


def begin(out: Path, options: Mapping[str, Any], overwrite: bool) -> Callable[[], None]:
    """Make the folder and write the recipe, from which the run can be resumed.

    Returns a function that undoes it, for a run that does not begin; ValueError as `check_free`.
    """
    check_free(out, options, overwrite)
    is_new, recipe, folder = not out.exists(), out / RECIPE, _checkpoints(out)
    before = recipe.read_bytes() if recipe.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    _write_recipe(out, options)

    def undo() -> None:
        if any(folder.iterdir()):  # it has begun, with a checkpoint
            return
        folder.rmdir()
        if before is not None:
            write_bytes(recipe, before, follow=False)
            return
        recipe.unlink()
        if is_new:
            out.rmdir()

    return undo


class Clears(Callback):
    """Deletes what is left of a run before, once `fit` has found everything in order.

    Its model stays until there is another one.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_fit_begin(self, run: Any) -> None:
        for name in () if run.rank else (LAST, HISTORY, CURVE, SCORES):
            (self.out / name).unlink(missing_ok=True)


def go_on(out: Path, options: Mapping[str, Any]) -> Callable[[], None]:
    """Write the recipe anew, and put the last checkpoint of a run that has ended where it goes on.

    Returns a function that undoes it, for a run that does not begin.
    """
    before, folder, ended = (out / RECIPE).read_bytes(), _checkpoints(out), (out / LAST).exists()
    if ended:
        folder.mkdir(exist_ok=True)
        (out / LAST).replace(folder / FIRST)
    _write_recipe(out, options)

    def undo() -> None:
        write_bytes(out / RECIPE, before, follow=False)
        if (folder / FIRST).exists():
            (folder / FIRST).replace(out / LAST)
            folder.rmdir()

    return undo


def _write_recipe(out: Path, options: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in options.items() if name not in FOLDERS}
    write_bytes(out / RECIPE, (json.dumps(kept, indent=1) + "\n").encode(), follow=False)


def _checkpoints(out: Path) -> Path:
    """Their folder, inside the run's: nothing elsewhere is deleted with it."""
    folder = out / CHECKPOINTS
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link, expected the run's own folder: delete the link")
    return folder


def model(path: Path) -> Path:
    """The model of a run that has ended, by its folder; another path as it is.

    ValueError for a file of samples, what is not there, or a run that has not ended.
    """
    if path.suffix.lower() in KINDS:
        raise ValueError(
            f"expected a model first, a .safetensors file or the folder of a run, got {path}"
        )
    if not path.exists():
        raise ValueError(
            f"there is no {path}: expected a .safetensors file, or the folder of a run"
        )
    if (path / MODEL).is_file():
        return path / MODEL
    if (path / CHECKPOINTS).is_dir():
        raise ValueError(
            f"the run in {path} has not ended, and has no model yet: bpx train --resume {path} "
            "goes on with it"
        )
    return path


def recipe(
    out: Path, kinds: Mapping[str, Any], given: list[str], epochs: int | None
) -> dict[str, Any]:
    """The options of the run in a folder, each of the kind that it has to have.

    With `epochs`, which are more than it was to have, it may have ended.

    Raises
    ------
    ValueError
        There is none, it is damaged, the run has ended, `epochs` cannot be added, or other options
        than ``resume`` and ``epochs`` are `given` beside it.
    """
    path = out / RECIPE
    others = " and ".join(as_typed(name) for name in given if name not in ("resume", "epochs"))
    if others:
        raise ValueError(
            f"--resume takes all other options but --epochs from {path}: leave out {others}"
        )
    options = _read_recipe(out, kinds)
    folder = _checkpoints(out)
    there = folder.is_dir()
    # Neither a checkpoint nor a model: it was cut short before the first one.
    ended = not there or ((out / MODEL).exists() and not any(map(is_checkpoint, folder.iterdir())))
    goes_on = (out / LAST).exists()
    if ended and (epochs is None or not goes_on):
        more = f"there is no {LAST} to go on from, as it was stopped or diverged"
        more = "more --epochs go on with it" if goes_on else more
        raise ValueError(
            f"the run in {out} has ended: {more}, and --out {out} --overwrite trains anew"
        )
    return options if epochs is None else _lengthened(options, epochs, ended)


def _read_recipe(out: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the run in a folder; ValueError if they are not there, or damaged."""
    path = out / RECIPE
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"there is no {path}: expected a folder that bpx train --out has made"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object of options")
    for name, value in options.items():
        if name in FOLDERS or not _fits(value, kinds.get(name, ())):
            raise ValueError(
                f"{path} is damaged: {name} = {value!r} is not an option of bpx train"
            )
    return options


class Result(NamedTuple):
    """What a run was asked for, and what it came to so far: no scores if it diverged.

    In an epoch that has not ended it has taken `steps`.
    """

    options: dict[str, Any]
    history: History
    scores: dict[str, list[float]]
    steps: int


def result(out: Path, kinds: Mapping[str, Any]) -> Result:
    """That of the run in a folder; ValueError if there is none, or a part is damaged."""
    options, last = _read_recipe(out, kinds), None
    try:
        last = newest(_checkpoints(out))
    except FileFormatError as error:
        if not (out / HISTORY).exists():
            raise
        note(f"of {out} this is what its {HISTORY} has: {error}")
    if last is not None:  # it has not ended yet, or was cut short
        return Result(options, last.history, _read_scores(out / SCORES), last.epoch.done)
    try:
        history = History.from_csv(out / HISTORY)
    except FileNotFoundError:
        history = History()
    return Result(options, history, _read_scores(out / SCORES), 0)


def _read_scores(path: Path) -> dict[str, list[float]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        right = isinstance(found, dict) and all(map(_are_scores, found.values()))
    except FileNotFoundError:
        return {}
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not right:
        raise ValueError(f"{path} is damaged: expected a JSON object of lists of numbers")
    return {
        name: [math.nan if number is None else float(number) for number in numbers]
        for name, numbers in found.items()
    }


def _are_scores(numbers: Any) -> bool:
    """Whether a value out of JSON is a list of finite numbers, or null, and not empty."""
    return isinstance(numbers, list) and len(numbers) > 0 and all(map(_is_score, numbers))


def _is_score(number: Any) -> bool:
    return number is None or (type(number) in (int, float) and math.isfinite(number))


def _lengthened(options: dict[str, Any], epochs: int, ended: bool) -> dict[str, Any]:
    """The run's options with more epochs."""
    before, schedule = options.get("epochs", 0), options.get("schedule")
    if epochs < before or (ended and epochs == before):
        raise ValueError(f"expected more --epochs than the run's {before}, got {epochs}")
    if schedule in LAID_OUT:
        raise ValueError(
            f"the learning rate of --schedule {schedule} is laid out over the run's {before} "
            "epochs: a longer run has to begin anew"
        )
    return options | {"epochs": epochs}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON is of an option's type, such as ``list[str] | None``."""
    if get_origin(kind) is list:
        return isinstance(value, list) and all(isinstance(one, get_args(kind)) for one in value)
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    return isinstance(value, kind)


def checkpoint(out: Path, seconds: float) -> Checkpoint:
    """Where and when the run's checkpoints are written."""
    return Checkpoint(_checkpoints(out), seconds=seconds)


def conclude(net: Network, history: History, out: Path | None) -> None:
    """Say why it stopped early; write what came of it, if anywhere."""
    if history.stopped:
        print(f"stopped: {history.stopped}")
    if history.interrupted:
        kept = "nothing is kept without --out"
        if out is not None:
            best = history.restored
            of = "the last full step" if best is None else f"epoch {best}, the best"
            kept = f"the network has the weights of {of}; bpx train --resume {out} goes on"
        # Flushed at once: some launchers kill soon after they have asked.
        print(f"interrupted: {kept}", flush=True)
    if out is None:
        return
    try:
        write(net, history, out)
    except OSError as error:
        raise OSError(f"{error}; then bpx train --resume {out} writes what is missing") from error


def write(net: Network, history: History, out: Path) -> None:
    """The model, the history and the learning curve."""
    names = [MODEL, HISTORY]
    (out / SCORES).unlink(missing_ok=True)  # of a model before
    save(net, out / MODEL, follow=False)
    write_bytes(out / HISTORY, history.to_csv().encode(), follow=False)
    if history.epochs:
        names.append(CURVE)
        write_bytes(out / CURVE, picture(history.plot(), "png"), follow=False)
    print(f"wrote {', '.join(names)} to {out}")


def write_scores(out: Path, found: Mapping[str, list[float]]) -> None:
    """What the network has on the test samples; what is not finite is null, as in JSON."""
    known = {
        name: [number if math.isfinite(number) else None for number in numbers]
        for name, numbers in found.items()
    }
    write_bytes(out / SCORES, (json.dumps(known) + "\n").encode(), follow=False)


def end(out: Path, goes_on: bool) -> None:
    """Delete the checkpoints of a run that has ended; if it `goes_on`, keep the last beside."""
    folder = _checkpoints(out)
    for last in sorted(filter(is_checkpoint, folder.iterdir()))[-1:]:
        if goes_on:
            last.replace(out / LAST)
    delete(folder)
