"""The command line (typer): one function for each command, with its options and their help."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import itertools
import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .. import backends, datasets, launcher
from ..backends import BackendError
from ..checks import printable, whole
from ..data.arrays import class_count
from ..data.arrays import generator as data_generator
from ..data.readers import is_csv
from ..data.values import first_not_finite
from ..ensemble import Ensemble
from ..files import load
from ..gradcheck import gradient_check
from ..labels import as_classes
from ..network import Network
from ..onnx import export_onnx
from ..parallel.mpi import launched
from ..parallel.ranks import RankError, Ranks
from ..plotting import curves
from ..training.steps import DivergenceError
from . import comparison, predictions, recipe, runs, samples, spelling, tables, training
from .columns import kept_names
from .console import described, outlasting, say, scores, scores_by_class, told
from .dialect import dialect
from .missing import are_filled
from .training import TrainOptions

app = typer.Typer(
    help="Feed-forward networks by backpropagation.",
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[str, typer.Argument(help="digits, mnist, .npz, .csv (.tsv) or .parquet.")]
Model = Annotated[Path, typer.Argument(help="A file that train wrote, or its folder.")]
Target = Annotated[
    str | None,
    typer.Option(
        help="Column or columns of the targets: a,b (by default those that the model has learned; "
        "in training the last of a .csv that fits into --budget; y of a .npz)."
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(
        help='Separator of the cells in a .csv file: ";", tab, ... (by default a comma, in a '
        ".tsv a tab)."
    ),
]
Decimal = Annotated[str, typer.Option(help='The decimal mark in a .csv file: "." or ",".')]
Missing = Annotated[
    str | None,
    typer.Option(
        help="mean fills a missing cell of x with the mean of its column in training; by default "
        "it is an error."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file to be written, if it is there.")
]
On = Annotated[
    str | None,
    typer.Option(
        help="What computes: numpy, cupy, cupy:1, torch, torch:cuda, ...; by default the one that "
        "BPX_BACKEND names, or numpy."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        help="Memory for a file's samples, such as 500MB (by default 1GB); larger files are read "
        "in blocks."
    ),
]


def _version(shown: bool) -> None:
    if shown:
        print(f"bpx {importlib.metadata.version('bpx')}")
        raise typer.Exit


@app.callback()
def bpx(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Feed-forward networks by backpropagation."""
    if _rank() and context.invoked_subcommand != "train":
        raise typer.Exit  # rank 0 does it


def _rank() -> int:
    return launcher.rank() or 0


def main() -> None:
    """Run the command; a wrong argument is one line and exit status 2."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    # typer has a click of its own in it, and does not export this class.
    base: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: else errors go to stdout, and a file may be next
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), "utf-8"))
        getattr(sys, name).reconfigure(errors="replace")  # a terminal in ASCII
    try:
        # Rank 0 alone prints.
        quiet = contextlib.redirect_stdout(io.StringIO()) if _rank() else contextlib.nullcontext()
        # What is not finite is found and told; no warnings beside it.
        with launched() as ranks, quiet, np.errstate(all="ignore"), told(logged=not _rank()):
            status = app(standalone_mode=False, obj=ranks)
    except base as error:
        _fail(spelling.message(error))
    except RankError as error:
        # Where rank 0 is gone, the next one says it.
        first = next(rank for rank in itertools.count() if rank not in error.ranks)
        _fail(str(error), status=1, by=0 if error.told else first)
    except DivergenceError as error:
        _fail(str(error).replace("clip_norm=", "--clip-norm"), status=1)
    except datasets.DatasetError as error:  # a list of files to fetch is not for one line
        print(f"bpx: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except MemoryError as error:
        _fail(f"not enough memory: {error}", status=1)
    except OSError as error:
        _fail(_in_words(error))
    except (ValueError, TypeError, BackendError, ImportError) as error:
        _fail(str(error).replace('backend="cupy"', "--backend cupy"))
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def _in_words(error: Exception) -> str:
    """Its message; of what the system refuses, without a number."""
    if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _fail(message: str, status: int = 2, by: int = 0) -> None:
    if _rank() == by:  # what another one has, rank 0 hears from it
        say(message)
    raise SystemExit(status)


@app.command()
def train(
    context: typer.Context,
    data: Data = "digits",
    target: Target = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Columns of a table that are x: a,b (by default all but the targets)."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Columns of a table that are left out of x: id,name."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="A file to validate on; by default a tenth of a file's samples."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="A file to test on; by default a tenth of a file's samples."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification (by default where the targets are 0 to k-1, each seen, or "
            "columns with a single 1 in each row), multilabel, or regression."
        ),
    ] = None,
    hidden: Annotated[str, typer.Option(help="Sizes of the hidden layers: 256,128.")] = "30",
    activation: Annotated[
        str,
        typer.Option(
            help="Of the hidden layers: sigmoid, tanh, relu, leaky-relu, elu, gelu, silu, "
            "softplus, exp, softmax or identity."
        ),
    ] = "sigmoid",
    output: Annotated[
        str | None,
        typer.Option(
            help="Activation of the outputs, one of the same; the task decides by default."
        ),
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(
            help="What is minimized; the task decides by default: log-likelihood, cross-entropy "
            "or quadratic. Or, for values, mean-absolute-error, huber, poisson (for counts), "
            "quantile (the median) or gaussian-nll (a mean and a variance)."
        ),
    ] = None,
    dropout: Annotated[
        float, typer.Option(help="Probability of dropping a unit, after each hidden layer.")
    ] = 0.0,
    weights: Annotated[
        str | None,
        typer.Option(
            help="How initial weights are drawn: scaled-normal (the default: N(0, 1/n_in), the "
            "book's), he-normal (the default for relu and the like), normal (the book's first, "
            "N(0, 1)), glorot-normal, glorot-uniform, he-uniform, lecun-normal, lecun-uniform, "
            "uniform or zeros."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 30,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Samples in a mini-batch; by default 10, or all of a smaller set."),
    ] = None,
    drop_last: Annotated[
        bool, typer.Option(help="Leave out a last, smaller mini-batch of each epoch.")
    ] = False,
    accumulate: Annotated[
        int,
        typer.Option(help="Process each mini-batch in so many slices, to save memory."),
    ] = 1,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="sgd, rmsprop, adam or adamw; by default adam for standardized values, and for "
            "labels in a standardized table without --learning-rate; else, and with --momentum, "
            "sgd."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="How far a step goes. By default with sgd 0.5 (values 0.1, with "
            "--no-standardize 0.01), with others 0.001 (values, and labels in a standardized "
            "table, 0.003).",
        ),
    ] = None,
    momentum: Annotated[float, typer.Option(help="Of sgd, from 0 to below 1.")] = 0.0,
    nesterov: Annotated[bool, typer.Option(help="Nesterov's, for sgd with --momentum.")] = False,
    schedule: Annotated[
        str,
        typer.Option(
            help="How the learning rate changes: constant, step, exponential, cosine, warm-up, "
            "one-cycle, inverse-scaling or plateau (halved; at 1/128 the run ends)."
        ),
    ] = "constant",
    l1: Annotated[float, typer.Option(help="Weight decay: λ₁ on |weights|.")] = 0.0,
    l2: Annotated[
        float, typer.Option(help="Weight decay: the book's λ, on squared weights.")
    ] = 0.0,
    clip_norm: Annotated[
        float | None, typer.Option(help="Shorten a gradient whose norm is larger to this norm.")
    ] = None,
    clip_value: Annotated[
        float | None, typer.Option(help="Clip each element of the gradient to ± this.")
    ] = None,
    shuffle: Annotated[
        bool, typer.Option(help="Take the samples in a new order each epoch.")
    ] = True,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Change images of digits or mnist at random, by some of shift=1, rotate=10, "
            "elastic=34:4, crop=0.8, flip and noise=0.1, with commas and no spaces."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many epochs without a better one, and keep the best weights."
        ),
    ] = None,
    average_from: Annotated[
        int | None,
        typer.Option(help="End with the mean of the weights of the epochs from this one on."),
    ] = None,
    standardize: Annotated[
        bool, typer.Option(help="Standardize a file's columns, and targets of a regression.")
    ] = True,
    missing: Missing = None,
    class_weight: Annotated[
        str | None,
        typer.Option(
            help="balanced counts a sample of a rare class for more, n / (k · count); by default "
            "all count the same."
        ),
    ] = None,
    backend: On = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of matrix products on cupy: float32 (by default), tf32, float16 or bfloat16."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For initial weights, order and masks.")] = 0,
    separator: Separator = None,
    decimal: Decimal = ".",
    budget: Budget = None,
    progress: Annotated[bool, typer.Option(help="Show a bar instead of a table.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for checkpoints, then model, history and learning curve."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a model, or other files of a run, that are in --out."
        ),
    ] = False,
    save_every: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 10.0,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this folder, if it was cut short, or with more --epochs. "
            "All other options are those of the run."
        ),
    ] = None,
) -> int:
    """Train a network.

    The last lines have its score on samples that it has never seen.
    """
    given = locals()  # its help and its fields have the same names
    ranks: Ranks = context.obj or Ranks()
    asked = TrainOptions(**{name: given[name] for name in TrainOptions.__dataclass_fields__})
    if resume is not None:
        asked = asked.of_run(resume, _typed(context), ranks)
    else:
        samples.check_known(data, spelling.stray(context, data))
        asked.check_typed(_typed(context))
    with outlasting() if asked.out is not None else contextlib.nullcontext():
        return training.train(asked, ranks, resume is not None)


def _typed(context: typer.Context) -> list[str]:
    """The parameters that the command line names."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]


@app.command()
def evaluate(
    model: Model,
    data: Data,
    target: Target = None,
    separator: Separator = None,
    decimal: Decimal = ".",
    missing: Missing = None,
    backend: On = None,
    budget: Budget = None,
    by_class: Annotated[
        bool,
        typer.Option("--by-class", help="Print precision and recall of each class, 20 at most."),
    ] = False,
) -> None:
    """Score a trained network.

    On the test part of digits or mnist, or on all of a file.
    """
    written_in, fill = dialect(data, separator, decimal), are_filled(missing)
    net = load(runs.model(model), backend=backend)
    if by_class and net.task != "classification":
        raise ValueError(f"--by-class is for a classification, and the model's task is {net.task}")
    if data in samples.BUILT_IN:
        x, y = samples.parts(data, target, 0, budget, fill=fill).parts[2]
    else:
        x, y = samples.of_file(net, Path(data), target, budget, written_in, fill=fill)
    found = scores(net, x, y)
    (cost,) = found["cost"]
    if math.isfinite(cost):
        print(f"cost {cost:.6g}")
    elif first_not_finite(net.feedforward(x)) is None:
        say(f"note: the cost is larger than {net.dtype} can hold; the outputs are not")
    else:
        raise ValueError(f"the outputs for {data} {recipe.too_large(net)}")
    print(printable(described(found, net, y)))
    if by_class:
        print(printable(scores_by_class(net, x, y)))


@app.command()
def predict(
    model: Model,
    data: Annotated[
        Path,
        typer.Argument(
            help="x as .npy, .npz, .csv or .parquet, columns as in training; or digits or mnist, "
            "whose test part it is."
        ),
    ],
    target: Annotated[
        str | None, typer.Option(help="Column or columns of a table that are not inputs.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Columns of a table to write before the predictions: id,name."),
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Write the network's outputs instead of labels.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .npy file, or a .csv file with a line of names, to write instead of stdout."
        ),
    ] = None,
    separator: Separator = None,
    decimal: Decimal = ".",
    missing: Missing = None,
    backend: On = None,
    budget: Budget = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict a label or values for each sample, one line each."""
    if out is None and overwrite:
        raise ValueError("--overwrite is for predictions that are written to a file: pass --out")
    if out is not None and out.suffix.lower() not in (".npy", ".csv"):
        raise ValueError(f"expected --out to end in .npy or .csv, got {out.name!r}")
    if out is not None:
        _check_spared(out, overwrite, data, runs.model(model))
        if keep and out.suffix.lower() == ".npy":
            raise ValueError(f"--keep is for a .csv file of predictions, got --out {out}")
    written_in, fill = dialect(data, separator, decimal), are_filled(missing)
    columns = kept_names(data, keep or (), written_in)
    net = load(runs.model(model), backend=backend)
    if str(data) in samples.BUILT_IN:
        x, _ = samples.parts(str(data), target, 0, budget, fill=fill).parts[2]
    else:
        x, _ = samples.of_file(net, data, target, budget, written_in, labelled=False, fill=fill)
    if is_csv(data) and x.shape[1:] != net.input_shape:
        got, wanted = x.shape[1], math.prod(net.input_shape)
        more = ": name those that are not inputs with --target" if got > wanted else ""
        raise ValueError(
            f"{data} has {got} column{'s' * (got != 1)} of inputs, and the network takes "
            f"{wanted}{more}"
        )
    found = net.feedforward(x)
    row = first_not_finite(found)
    if row is not None:
        raise ValueError(f"the outputs for row {row} of {data} {recipe.too_large(net)}")
    if not outputs:  # votes are not in the mean outputs
        found = net.predict(x) if isinstance(net, Ensemble) else net.chain.decide(found)
    host = net.backend.to_host(found)
    if net.classes is not None and not outputs:
        host = as_classes(host, net.classes)
    text = tables.text_of(data, columns, written_in) if columns else ()
    kept = predictions.Kept(columns, text)
    if out is None:  # without names: line by line, for other commands
        print(printable(predictions.lines(host, kept=kept)), end="")
    else:
        names = predictions.headings(net, host, outputs)
        predictions.write(out, host, names, written_in, kept)


def _check_spared(out: Path, overwrite: bool, *read: Path) -> None:
    """ValueError if writing `out` would replace one of the files that are read, or another file
    unless `overwrite`.
    """
    for path in read:
        if out.exists() and path.exists() and out.samefile(path):
            raise ValueError(f"{out} would replace {path}, which it is made of: name another file")
    if out.is_file() and not overwrite:
        raise ValueError(f"{out} is there already: name another file, or pass --overwrite")


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that train --out wrote.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A picture of their learning curves, such as curves.png.")
    ] = None,
    overwrite: Overwrite = False,
) -> int:
    """Compare runs by their scores.

    Each has a line, which ends with the options that not all of them have.
    """
    folders = [run.parent if run.is_file() else run for run in folders]  # of a model
    if out is not None:
        _check_spared(out, overwrite, *(run / name for run in folders for name in runs.WRITTEN))
    found: dict[str, runs.Result] = {}
    status = 0
    for run in folders:
        try:
            found[str(run)] = runs.result(run, training.OPTIONS)
        except (ValueError, OSError) as error:  # the others have a line all the same
            say(_in_words(error))
            status = 2
    if found:
        print(comparison.table(found))
    if found and out is not None:
        curves({run: of_run.history for run, of_run in found.items()}, out)
        print(f"wrote {out}")
    return status


@app.command()
def summary(model: Model) -> None:
    """Print a network's layers, columns and classes."""
    net = load(runs.model(model), backend="numpy")
    print(net.summary())
    for what, names in (
        ("inputs", net.columns), ("targets", net.target_columns), ("classes", net.classes)
    ):  # fmt: skip
        if names is not None:
            words = printable(", ".join(map(str, names)))
            print(f"{what}: {' '.join(words.splitlines())}")


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    classes: Annotated[
        str | None, typer.Option(help="Names of the labels, instead of 0, 1, ...: cat,dog.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a trained network, or an ensemble, as an ONNX model."""
    if out.suffix.lower() != ".onnx":
        raise ValueError(f"expected a file that ends in .onnx, got {out.name!r}")
    _check_spared(out, overwrite, runs.model(model))
    net = load(runs.model(model), backend="numpy")
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    written = export_onnx(net, out, classes=names).graph
    from onnx import helper  # it is there, or export_onnx has said so

    shape = ", ".join(map(str, ("m", *net.input_shape)))
    dtype = helper.tensor_dtype_to_np_dtype(written.input[0].type.tensor_type.elem_type)
    outputs = ", ".join(value.name for value in written.output)
    print(f"wrote {out}: inputs ({shape}) of {dtype} to {outputs}")


@app.command(name="backends")
def list_backends() -> None:
    """List libraries and devices, and why one is missing."""
    print(f"{'backend':<28} {'version':<14} {'memory':>9}  device")
    for library in backends.available():
        if library.why is not None:
            print(f"{library.name:<28} {'-':<14} {'-':>9}  {library.why}")
        for device in library.devices:
            memory = "" if device.memory is None else f"{device.memory / 2**30:.1f} GiB"
            print(f"{device.name:<28} {library.version:<14} {memory:>9}  {device.description}")


@app.command(name="compile")
def compile_functions(
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the networks: float32 (by default) or float64; or both, each named."
        ),
    ] = None,
) -> int:
    """Compile what networks on NumPy may need.

    Once for all processes, with the extra fast.
    """
    began = time.perf_counter()
    try:
        found = backends.compile(*dtype or ())
    except OSError as error:
        say(str(error))
        return 1
    new, seconds = sum(each.is_new for each in found), time.perf_counter() - began
    print(f"{new} functions compiled in {seconds:.1f} s, {len(found) - new} were there")
    for folder in sorted({each.folder for each in found}):
        print(f"they are kept in {folder}")
    return 0


@app.command()
def gradcheck(
    context: typer.Context,
    sizes: Annotated[str, typer.Option(help="Input, hidden and output sizes.")] = "5,4,3",
    activation: Annotated[str, typer.Option(help="Activation of the hidden layers.")] = "sigmoid",
    output: Annotated[str, typer.Option(help="Activation of the last layer.")] = "softmax",
    cost: Annotated[
        str | None, typer.Option(help="What is minimized; the output decides by default.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Number of samples, drawn at random.")] = 6,
    l1: Annotated[float, typer.Option(help="λ₁ on |weights|.")] = 0.0,
    l2: Annotated[float, typer.Option(help="λ on squared weights.")] = 0.0,
    backend: On = None,
    seed: Annotated[int, typer.Option(help="For weights and samples.")] = 0,
) -> int:
    """Compare gradients with central differences.

    Above 1e-7 the exit status is 1.
    """
    each = recipe.sizes(sizes)
    if len(each) == 2 and "activation" in _typed(context):
        raise ValueError("--activation is for hidden layers, and --sizes names none")
    net = Network(
        each,
        hidden=activation,
        output=output,
        cost=cost,
        backend=backend,
        dtype="float64",
        seed=seed,
    )
    generator = data_generator(seed)
    samples = whole("samples", samples)
    targets = net.chain.architecture.target_counts[0]
    x = generator.normal(size=(samples, *net.input_shape))
    y: np.ndarray = generator.uniform(size=(samples, targets))
    if net.task == "classification":
        y = generator.integers(class_count(targets), size=samples)
    found = gradient_check(net, x, y, l1=l1, l2=l2)
    print(found)
    return 0 if found.worst < 1e-7 else 1
