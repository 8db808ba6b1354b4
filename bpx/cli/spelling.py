"""Commands and options by the names that other programs give them, and messages about them."""

from __future__ import annotations

import re
import sys
from typing import Any

from ..checks import shortened

COMMANDS = {
    **dict.fromkeys(("continue", "resume"), "bpx train --resume run"),
    **dict.fromkeys(("report", "score", "test"), "bpx evaluate"),
    **dict.fromkeys(("describe", "info", "inspect", "show"), "bpx summary"),
    "devices": "bpx backends",
    **dict.fromkeys(("fit", "learn"), "bpx train"),
    "convert": "bpx export",
    "help": "bpx --help",
    "infer": "bpx predict",
    "plot": "bpx train --out run, which draws run/curve.png",
    "version": "bpx --version",
}
OPTIONS = {
    **dict.fromkeys(
        ("--model", "--outdir", "--output-dir", "--output-file", "--save", "-o"), "--out"
    ),
    **dict.fromkeys(("--delimiter", "--sep", "-d"), "--separator"),
    **dict.fromkeys(("--cuda", "--device", "--gpu", "--gpus"), "--backend cupy"),
    **dict.fromkeys(("--decay", "--lambda", "--lmbda", "--wd", "--weight-decay"), "--l2"),
    **dict.fromkeys(("--hidden-layers", "--layers", "--sizes", "--units"), "--hidden"),
    **dict.fromkeys(("--lr-scheduler", "--scheduler"), "--schedule"),
    **dict.fromkeys(("--max-iter", "-e"), "--epochs"),
    **dict.fromkeys(("--checkpoint", "--continue"), "--resume"),
    **dict.fromkeys(("--proba", "--probabilities"), "--outputs"),
    **dict.fromkeys(("--confusion", "--report"), "--by-class"),
    **dict.fromkeys(("--label", "--labels", "-y"), "--target"),
    "--early-stopping": "--patience 10",
    "--eta": "--learning-rate",
    "--loss": "--cost",
    "--random-state": "--seed",
    "-b": "--batch-size",
    "--verbose": "--progress, or the line that each epoch has anyway",
}


# Options of several values, which have commas between them.
SEVERAL = ("--columns", "--hidden", "--ignore", "--keep", "--target")


def stray(context: Any, word: str) -> str:
    """Why a word may stand where an argument does: the end of a message, or nothing."""
    flags = {
        name: getattr(each, "is_flag", False)
        for each in context.command.params
        for name in (*each.opts, *each.secondary_opts)
    }
    for option, value, after in zip(sys.argv, sys.argv[1:], sys.argv[2:], strict=False):
        if after == word and flags.get(value):
            return f": {value} is a flag, without a value"
        if after == word and value in flags and flags.get(option) is False:
            return f": {option} needs a value, got {value}"
        if after == word and option in SEVERAL:
            return f": several have a comma and no space between them, {option} {value},{word}"
    return ""


def message(error: Any) -> str:
    """That of a ClickException, with what there is instead, or the value that came."""
    named, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    ours = OPTIONS.get(named.replace("_", "-")) if named else None
    if ours and _takes(context, ours):
        return f"No such option: {named}; here it is {ours}"
    if context is not None and context.parent is None and sys.argv[1] in COMMANDS:
        return f"No such command {sys.argv[1]!r}; here it is {COMMANDS[sys.argv[1]]}"
    if extra := re.match(r"Got unexpected extra argument.*? \((\S+?)[ )]", error.format_message()):
        return f"{error.format_message()}{stray(context, extra[1])}"
    # pydantic's message lacks the value.
    errors: list[Any] = getattr(error.__cause__, "errors", list)()
    got = f", got {shortened(errors[0]['input'])}" if errors else ""
    return f"{error.format_message()}{got}"


def _takes(context: Any, ours: str) -> bool:
    """Whether the command has the option in this hint."""
    option = ours.replace(",", " ").split()[0]
    return any(option in parameter.opts for parameter in context.command.params)


def as_typed(name: str) -> str:
    """A parameter of a command as the command line spells it."""
    return "the data" if name == "data" else f"--{name.replace('_', '-')}"
