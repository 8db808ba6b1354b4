"""The command line: train, evaluate, predict, backends, gradcheck (typer)."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from . import backends, datasets, layers, optimizers, schedules, tables
from .backends import BackendError
from .callbacks import EarlyStopping, ReduceOnPlateau
from .data import check_batch_size
from .files import load
from .gradcheck import gradient_check
from .network import Network
from .registry import nearest
from .training import DivergenceError

app = typer.Typer(
    help="Feed-forward networks by backpropagation.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[str, typer.Argument(help="digits, mnist, or a .npz or .csv file.")]
Model = Annotated[Path, typer.Argument(help="A file that train wrote.")]
Target = Annotated[
    str | None, typer.Option(help="The column of targets (.csv: the last; .npz: y).")
]
On = Annotated[str | None, typer.Option(help="numpy, cupy, cupy:1, torch, torch:cuda, ...")]


def main() -> None:
    """Run the command; a wrong argument is one line and exit status 2."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    base: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal in ASCII
    try:
        status = app(standalone_mode=False)
    except base as error:
        _fail(error.format_message())
    except DivergenceError as error:
        _fail(str(error), status=1)
    except (ValueError, TypeError, BackendError, ImportError, OSError) as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int = 2) -> None:
    print("bpx: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


def _parts(data: str, target: str | None, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, y) to train, to validate and to test on; files are split 8 : 1 : 1 at random."""
    if data in ("digits", "mnist"):
        dataset = datasets.digits() if data == "digits" else datasets.mnist()
        return [tuple(part) for part in dataset]  # type: ignore[misc]
    if not Path(data).suffix:
        raise ValueError(
            f"unknown data {data!r}{nearest(data, ['digits', 'mnist'])}, or a .npz or .csv file"
        )
    x, y = tables.read(Path(data), target)
    assert y is not None
    n = len(x)
    if n < 10:
        raise ValueError(f"{data} has {n} samples; at least 10 are split into three parts")
    order = np.random.default_rng(seed).permutation(n)
    cuts = (order[: 8 * n // 10], order[8 * n // 10 : 9 * n // 10], order[9 * n // 10 :])
    return [(x[rows], y[rows]) for rows in cuts]


def _network(
    x: np.ndarray,
    y: np.ndarray,
    hidden: list[int],
    activation: str,
    output: str | None,
    cost: str | None,
    dropout: float,
    task: str | None,
    own_scale: bool,
    **options: Any,
) -> Network:
    """A network whose inputs and outputs fit the data."""
    whole = y.ndim == 1 and y.dtype.kind in "biu"
    task = task or ("classification" if whole else "regression")
    if task == "classification" and y.ndim == 1:
        outputs = int(y.max()) + 1
    else:
        outputs = 1 if y.ndim == 1 else y.shape[1]
    default = {"classification": "softmax", "multilabel": "sigmoid", "regression": "identity"}
    if task not in default:
        raise ValueError(f"unknown task {task!r}{nearest(task, list(default))}")
    output = output or default[task]
    cost = cost or ("quadratic" if task == "regression" else "cross-entropy")
    chain: list[Any] = [layers.Input(x.shape[1:])]
    if not own_scale:
        chain.append(layers.Rescale.standardizing(x))
    for units in hidden:
        chain.append(layers.Dense(units, activation))  # type: ignore[arg-type]
        if dropout:
            chain.append(layers.Dropout(dropout))
    chain.append(layers.Dense(outputs, output))  # type: ignore[arg-type]
    return Network(chain, cost=cost, task=task, **options)


def _optimizer(
    name: str, rate: float, momentum: float, nesterov: bool, schedule: str, steps: int
) -> optimizers.Optimizer:
    shapes: dict[str, Any] = {
        "constant": rate,
        "plateau": rate,  # and a callback
        "step": lambda: schedules.StepDecay(rate, max(1, steps // 3), 0.1),
        "exponential": lambda: schedules.Exponential(rate, steps, 0.01),
        "cosine": lambda: schedules.Cosine(rate, steps),
        "warm-up": lambda: schedules.WarmUp(max(1, steps // 10), rate),
        "one-cycle": lambda: schedules.OneCycle(rate, steps),
        "inverse-scaling": lambda: schedules.InverseScaling(rate),
    }
    if schedule not in shapes:
        raise ValueError(f"unknown schedule {schedule!r}{nearest(schedule, list(shapes))}")
    shape = shapes[schedule]
    eta = shape() if callable(shape) else shape
    if name == "sgd":
        return optimizers.SGD(eta, momentum=momentum, nesterov=nesterov)
    if momentum or nesterov:
        raise ValueError("momentum and nesterov are for sgd")
    cls = optimizers.OPTIMIZERS.builtin.get(name)
    if cls is None:
        known = list(optimizers.OPTIMIZERS.builtin)
        raise ValueError(f"unknown optimizer {name!r}{nearest(name, known)}")
    made: optimizers.Optimizer = cls(eta)
    return made


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"expected hidden sizes such as 100 or 256,128, got {text!r}") from None


class _Table:
    """A line an epoch, in columns."""

    def __init__(self) -> None:
        self.started = False

    def __call__(self, run: Any) -> None:
        row = {k: v for k, v in run.history.row().items() if k != "learning_rate"}
        titles = {name: name.replace("_", " ") for name in row}
        if not self.started:
            print("  ".join(titles.values()))
            self.started = True
        cells = []
        for name, title in titles.items():
            value = row[name]
            if name == "epoch":
                text = f"{value}"
            elif name.endswith("accuracy"):
                text = f"{100 * value:.2f} %"
            else:
                text = f"{value:.5f}" if name.endswith("cost") else f"{value:.3f}"
            cells.append(text.rjust(len(title)))
        print("  ".join(cells), flush=True)


@app.command()
def train(
    data: Data = "digits",
    target: Target = None,
    task: Annotated[
        str | None, typer.Option(help="classification, multilabel or regression.")
    ] = None,
    hidden: Annotated[str, typer.Option(help="Sizes of the hidden layers: 256,128.")] = "30",
    activation: Annotated[str, typer.Option(help="Of the hidden layers.")] = "sigmoid",
    output: Annotated[str | None, typer.Option(help="Output activation; by the task.")] = None,
    cost: Annotated[str | None, typer.Option(help="By the task.")] = None,
    dropout: Annotated[float, typer.Option(help="After each hidden layer.")] = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Samples in a mini-batch.")] = 10,
    optimizer: Annotated[str, typer.Option(help="sgd, rmsprop, adam or adamw.")] = "sgd",
    learning_rate: Annotated[
        float | None, typer.Option(help="0.5 (0.01 for regression), others than sgd 0.001.")
    ] = None,
    momentum: Annotated[float, typer.Option(help="For sgd.")] = 0.0,
    nesterov: Annotated[bool, typer.Option(help="For sgd with momentum.")] = False,
    schedule: Annotated[
        str,
        typer.Option(
            help="Of the learning rate: constant, step, exponential, cosine, warm-up, one-cycle, "
            "inverse-scaling or plateau (halved)."
        ),
    ] = "constant",
    l1: Annotated[float, typer.Option(help="λ₁ on |weights|.")] = 0.0,
    l2: Annotated[float, typer.Option(help="λ on squared weights, as in the book.")] = 0.0,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of a gradient.")] = None,
    clip_value: Annotated[float | None, typer.Option(help="Largest element of one.")] = None,
    shuffle: Annotated[bool, typer.Option(help="A new order each epoch.")] = True,
    patience: Annotated[
        int | None, typer.Option(help="Stop early after so many epochs, restore the best.")
    ] = None,
    standardize: Annotated[bool, typer.Option(help="The columns of a file.")] = True,
    backend: On = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of first weights, order and masks.")] = 0,
    progress: Annotated[bool, typer.Option(help="A bar instead of a table.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder for model, history and learning curve.")
    ] = None,
) -> int:
    """Train a network; the last line has the accuracy on samples it has never seen."""
    started = time.perf_counter()
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file, expected a folder")
    train_part, validation, test = _parts(data, target, seed)
    net = _network(
        *train_part,
        hidden=_sizes(hidden),
        activation=activation,
        output=output,
        cost=cost,
        dropout=dropout,
        task=task,
        own_scale=data in ("digits", "mnist") or not standardize,
        backend=backend,
        dtype=dtype,
        seed=seed,
    )
    if learning_rate is None:
        learning_rate = 0.001 if optimizer != "sgd" else 0.01 if net.task == "regression" else 0.5
    check_batch_size(batch_size, len(train_part[0]))
    steps = epochs * -(-len(train_part[0]) // batch_size)
    chosen = _optimizer(optimizer, learning_rate, momentum, nesterov, schedule, max(1, steps))
    print(net.summary())
    called: list[Any] = [] if progress else [_Table()]
    if patience is not None:
        called.append(EarlyStopping(patience))
    if schedule == "plateau":
        called.append(ReduceOnPlateau())
    history = net.fit(
        *train_part,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=chosen,
        l1=l1,
        l2=l2,
        clip_norm=clip_norm,
        clip_value=clip_value,
        shuffle=shuffle,
        validation=validation,
        callbacks=called,
        progress=progress,
    )
    if history.stopped:
        print(f"stopped: {history.stopped}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        net.save(out / "model.safetensors")
        (out / "history.csv").write_text(history.to_csv(), encoding="utf-8")
        if history.epochs:
            history.plot(out / "curve.png")
        print(f"wrote model.safetensors, history.csv and curve.png to {out}")
    print(f"{_score(net, *test)} in {time.perf_counter() - started:.1f} s", flush=True)
    return 130 if history.interrupted else 0


def _score(net: Network, x: np.ndarray, y: np.ndarray) -> str:
    if net.task == "regression":
        return f"test cost {net.total_cost(x, y):.5g}"
    return f"test accuracy {100 * net.accuracy(x, y):.2f} %"


@app.command()
def evaluate(model: Model, data: Data, target: Target = None, backend: On = None) -> None:
    """Cost and accuracy of a trained network (on the test part of digits or mnist)."""
    net = load(model, backend=backend)
    if data in ("digits", "mnist"):
        x, y = _parts(data, target, 0)[2]
    else:
        table = tables.read(Path(data), target)
        assert table.y is not None
        x, y = table.x, table.y
    for name, value in net.evaluate(x, y).items():
        print(f"{name} {100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.6g}")


@app.command()
def predict(
    model: Model,
    data: Annotated[Path, typer.Argument(help="x as .npy, .npz or .csv.")],
    target: Annotated[
        str | None, typer.Option(help="A column of the .csv that is not an input.")
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="The network's outputs, not labels.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A .npy or .csv file; else stdout.")] = None,
    backend: On = None,
) -> None:
    """Labels or values for samples, a line each."""
    if out is not None and out.suffix not in (".npy", ".csv"):
        raise ValueError(f"expected --out to end in .npy or .csv, got {out.name!r}")
    net = load(model, backend=backend)
    x = tables.read(data, target, labelled=False).x
    found = net.feedforward(x) if outputs else net.predict(x)
    host = net.backend.to_host(found)
    if out is not None and out.suffix == ".npy":
        np.save(out, host)
        return
    rows = host.reshape(len(host), -1).tolist()
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


@app.command(name="backends")
def list_backends() -> None:
    """What is here: libraries, devices and their memory, or why not."""
    print(f"{'backend':<28} {'version':<14} {'memory':>9}  device")
    for library in backends.available():
        if library.why is not None:
            print(f"{library.name:<28} {'-':<14} {'-':>9}  {library.why}")
        for device in library.devices:
            memory = "" if device.memory is None else f"{device.memory / 2**30:.1f} GiB"
            print(f"{device.name:<28} {library.version:<14} {memory:>9}  {device.description}")


@app.command()
def gradcheck(
    sizes: Annotated[str, typer.Option(help="Input, hidden and output sizes.")] = "5,4,3",
    activation: Annotated[str, typer.Option(help="Of the hidden layers.")] = "sigmoid",
    output: Annotated[str, typer.Option(help="Of the last layer.")] = "softmax",
    cost: Annotated[str, typer.Option(help="Legal on that output.")] = "cross-entropy",
    samples: Annotated[int, typer.Option(help="Drawn at random.")] = 6,
    l1: Annotated[float, typer.Option(help="λ₁ on |weights|.")] = 0.0,
    l2: Annotated[float, typer.Option(help="λ on squared weights.")] = 0.0,
    backend: On = None,
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
) -> int:
    """Hold backpropagation against central differences; exit status 1 above 1e-7."""
    net = Network(
        _sizes(sizes),
        hidden=activation,
        output=output,
        cost=cost,
        backend=backend,
        dtype="float64",
        seed=seed,
    )
    generator = np.random.default_rng(seed)
    k = net.output_shape[0]
    x = generator.normal(size=(samples, *net.input_shape))
    y: np.ndarray = generator.uniform(size=(samples, k))
    if net.task == "classification":
        y = generator.integers(max(k, 2), size=samples)
    found = gradient_check(net, x, y, l1=l1, l2=l2)
    print(found)
    return 0 if found.worst < 1e-7 else 1
