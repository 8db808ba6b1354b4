"""Networks as safetensors files, and back: names, numbers and arrays, never code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from . import persistence
from .architecture import Architecture, bind
from .backends import get
from .chain import Chain
from .checks import whole
from .costs import COSTS
from .ensemble import Ensemble
from .history import History
from .labels import check_names
from .layers import Input, Layer
from .names import Names
from .network import Network
from .parameters import Layout
from .registry import by_name, canonical, unknown

TRAINING = "training"  # in a checkpoint's header, and before names that are not the network's
HISTORY = f"{TRAINING}.history"  # its numbers: as text, those of many epochs take long to write
MEMBERS = "members"  # in an ensemble's header, and before the names of their tensors
# Names that are those of other formats; any but these are taken.
_SUFFIXES = (
    ".h5", ".hdf5", ".joblib", ".json", ".keras", ".npy", ".npz", ".onnx", ".pickle", ".pkl",
    ".pt", ".pth",
)  # fmt: skip
GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")  # of NumPy


def save(net: Network | Ensemble, path: str | PathLike[str], *, follow: bool = True) -> None:
    """Write a tensor per parameter, and the architecture as JSON. ``net.save(path)`` is the same.

    For an ensemble it does so for each member, in one file.

    The file is written whole to a temporary one and renamed: an old file survives a full disk.
    The optimizer's memory is not in it; the generator and the key are. A link of that name is
    followed, or with ``follow=False`` replaced. While `fit` runs in another thread, the numbers
    may be partly of one step and partly of the next; those of a `Checkpoint` are of one.

    Raises
    ------
    ValueError
        An activation, cost, initializer or layer of your own that was neither registered nor
        named when the network was loaded, or NaN or infinity, which `load` refuses; or a name
        that ends as those of another format do, such as ``.pt`` or ``.h5``.
    OSError
        The file cannot be written.
    """
    if isinstance(path, str | PathLike) and (suffix := Path(path).suffix.lower()) in _SUFFIXES:
        hint = "; bpx.export_onnx(net, path) writes ONNX" if suffix == ".onnx" else ""
        raise ValueError(
            f"expected a name that ends in .safetensors, as save writes this format, got {path}"
            f"{hint}"
        )
    persistence.write(path, *_to_write(net), follow=follow)


def to_bytes(net: Network | Ensemble) -> bytes:
    """What `save` would write, for `load`. ``net.to_bytes()`` is the same."""
    return persistence.packed(*_to_write(net))


def _to_write(net: Network | Ensemble) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and a header of a network or an ensemble; ValueError if they are not finite."""
    if isinstance(net, Network):
        tensors, header = contents(net)
    else:
        tensors, header = {}, {"combine": net.combine, MEMBERS: []}
        for index, member in enumerate(net.members):
            own, described = contents(member)
            tensors |= {f"{MEMBERS}.{index}.{name}": array for name, array in own.items()}
            header[MEMBERS].append(described)
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"the network's {name} has NaN or infinity, and would be refused by bpx.load: "
                "nothing was written. fit keeps the last good weights; a loop of your own has to"
            )
    return tensors, header


def contents(net: Network) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A network's tensors, and its header."""
    described = net.chain.architecture
    # Copied: a fit in another thread may write to them while they are checked and written.
    theta, state = (net.backend.to_host(each).copy() for each in (net.parameters, net.state))
    tensors = described.layout.tensors(np, theta)
    return tensors | described.state_layout.tensors(np, state), header(net)


def header(net: Network) -> dict[str, Any]:
    """A network without its numbers, as JSON."""
    bits = net.generator.bit_generator.state["bit_generator"]
    if bits not in GENERATORS:
        raise ValueError(f"a file cannot hold the generator {bits}; expected one of {GENERATORS}")
    custom = net.chain.architecture.custom
    found = {
        "input_shape": net.input_shape,
        "layers": [layer.config(custom) for layer in net.layers],
        "cost": COSTS.describe(net.cost, custom),
        "task": net.task,
        "dtype": net.dtype,
        "key": net.chain.key,
        "generator": as_json(net.generator.bit_generator.state),
        "steps": net.steps,
        "epochs": net.epochs,
    }
    names = net.names._asdict().items()
    return found | {what: given for what, given in names if given is not None}


def as_json(value: Any) -> Any:
    """`value` as JSON brings it back: tuples and arrays are lists."""
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


def load(
    path: str | PathLike[str] | bytes | bytearray | memoryview,
    *,
    backend: Any = None,
    custom: Mapping[str, Any] | None = None,
) -> Network | Any:  # an Ensemble: a type checker takes it for either
    """A network from a file that `Network.save` wrote, or from a checkpoint of `Network.fit`.

    From a checkpoint with its ``history`` so far, also of a run that was killed. Or an `Ensemble`
    from a file that `Ensemble.save` wrote.

    Parameters
    ----------
    path : path or bytes
        Bytes are what such a file holds, of `Network.to_bytes` or from anywhere else.
    backend : optional
        Where it is to live; as for `Network`.
    custom : dict, optional
        Maps names in the file to your own activations, costs, initializers or layer classes,
        beside those that were registered; `save` writes these names again. As for `register`
        they are other names than bpx's.

    Raises
    ------
    FileFormatError
        Not such a file, or one that is truncated, of a later version, with tensors that do not fit
        its architecture or are not finite, or with a name that is neither known nor in `custom`.
    OSError
        The file cannot be read: FileNotFoundError where there is none.
    BackendError
        The backend is not available.
    ValueError
        A name in `custom` is bpx's.
    TypeError
        Neither a path nor bytes, or something in `custom` that is none of these.

    Examples
    --------
    >>> import tempfile
    >>> import bpx
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> net = bpx.Network([2, 4, 1], seed=2)
    >>> history = net.fit(x, y, epochs=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(f"{folder}/net.safetensors")
    ...     again = bpx.load(f"{folder}/net.safetensors")
    >>> again.epochs, bool((again.feedforward(x) == net.feedforward(x)).all())
    (3, True)
    """
    custom = by_name({} if custom is None else custom)
    tensors, header = persistence.read(path)
    path = persistence.named(path)
    if MEMBERS in header:
        return _ensemble(path, tensors, header, backend, custom)
    of_run: dict[str, np.ndarray] = {}
    if TRAINING in header:
        names = [name for name in tensors if name.startswith(f"{TRAINING}.")]
        of_run = {name: tensors.pop(name) for name in names}
    net = network(path, tensors, header, backend=backend, custom=custom)
    _all_taken(path, tensors)
    if TRAINING in header:
        with described_run(path):
            net.history = history(header[TRAINING], of_run)
    return net


@contextmanager
def described_run(path: Any) -> Iterator[None]:
    """FileFormatError for whatever is raised where a header describes no run of `fit`."""
    try:
        yield
    except persistence.FileFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise persistence.FileFormatError(
            f"{path}: its header does not describe a run of fit ({error!r})"
        ) from error


def history(run: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> History:
    """That of a run in the header of a checkpoint, its numbers taken out of `tensors`.

    What an earlier version left out is as in `History.of`, and its numbers may be in the header.
    """
    columns = run["history"]
    if isinstance(columns, list):
        numbers = tensors.pop(HISTORY, np.empty((0, 0))).tolist()
        columns = dict(zip(columns, numbers, strict=True))
        if "epoch" in columns:
            columns["epoch"] = [int(epoch) for epoch in columns["epoch"]]
    others = ("larger_is_better", "stopped", "undecided")
    return History.of(columns, **{name: run[name] for name in others if name in run})


def _all_taken(path: str | PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    if tensors:
        raise persistence.FileFormatError(
            f"{path} has tensors that its architecture does not have: {', '.join(sorted(tensors))}"
        )


def _ensemble(
    path: str | PathLike[str],
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    backend: Any,
    custom: Mapping[str, Any] | None,
) -> Ensemble:
    headers = header[MEMBERS]
    if not isinstance(headers, list) or not all(isinstance(each, dict) for each in headers):
        raise persistence.FileFormatError(f"{path}: its header does not describe an ensemble")
    prefixes = {f"{MEMBERS}.{index}.": index for index in range(len(headers))}
    own: list[dict[str, np.ndarray]] = [{} for _ in headers]
    left = {}
    for name, array in tensors.items():  # in one pass: a file may have any number of both
        prefix = ".".join(name.split(".", 2)[:2]) + "."
        if prefix in prefixes:
            own[prefixes[prefix]][name.removeprefix(prefix)] = array
        else:
            left[name] = array
    members = []
    for index, described in enumerate(headers):
        where = f"{path}, member {index}"
        members.append(network(where, own[index], described, backend=backend, custom=custom))
        _all_taken(where, own[index])
    _all_taken(path, left)
    try:
        return Ensemble(members, header.get("combine", ""))
    except (TypeError, ValueError) as error:
        raise persistence.FileFormatError(
            f"{path}: its header does not describe an ensemble ({error})"
        ) from error


def network(
    path: str | PathLike[str],
    tensors: dict[str, np.ndarray],
    header: Mapping[str, Any],
    *,
    backend: Any = None,
    custom: Mapping[str, Any] | None = None,
) -> Network:
    """A network from what a file holds; its tensors are taken out of `tensors`."""
    try:
        described = _architecture(header, custom)
        generator = _generator(header["generator"])
        dtype, key = header["dtype"], whole("key", header["key"], 0)
        steps, epochs = whole("steps", header["steps"], 0), whole("epochs", header["epochs"], 0)
        names = check_names(described, Names(*map(header.get, Names._fields)))
    except (
        LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
    ) as error:  # fmt: skip
        raise persistence.FileFormatError(
            f"{path}: its header does not describe a network ({error}). If it has activations, "
            "costs, initializers or layers of your own, bpx.register them first, or "
            'load(path, custom={"name": it})'
        ) from error
    layouts = described.layout, described.state_layout
    vectors = [packed(path, layout, tensors) for layout in layouts]
    if dtype not in ("float32", "float64"):
        raise persistence.FileFormatError(f"{path}: no network has dtype {dtype!r}")
    chain = Chain(described, get(backend), dtype, key, *vectors)
    net = Network.of(chain, generator, steps, epochs)
    net.names = names
    return net


def _architecture(header: Mapping[str, Any], custom: Mapping[str, Any] | None) -> Architecture:
    layers = [Layer.from_config(config, custom) for config in header["layers"]]
    bound = bind([Input(tuple(header["input_shape"])), *layers])
    names = {*_names([header["layers"], header["cost"]])}
    used = {name: own for name, own in (custom or {}).items() if name in names}
    return Architecture(bound, COSTS.get(header["cost"], custom), header["task"], used)


def _names(described: Any) -> Iterator[str]:
    """What layers, activations, costs and initializers are called in a header."""
    if isinstance(described, Mapping):
        if isinstance(name := described.get("name"), str):
            yield canonical(name)
        described = described.values()
    elif not isinstance(described, list):
        return
    for each in described:
        yield from _names(each)


def _generator(state: Any) -> np.random.Generator:
    """A generator that continues from a saved state."""
    name = state["bit_generator"]
    if name not in GENERATORS:
        raise unknown("generator", name, GENERATORS)
    bits = getattr(np.random, name)(0)
    bits.state = state
    return np.random.Generator(bits)


def packed(
    path: Any, layout: Layout, tensors: dict[str, np.ndarray], prefix: str = ""
) -> np.ndarray:
    """The flat vector of a layout, its tensors taken out of `tensors`, in their dtype."""
    kinds = {np.dtype(np.float32)}
    for entry in layout.entries:
        name = prefix + entry.path
        if name not in tensors:
            raise persistence.FileFormatError(f"{path}: tensor {name!r} is missing")
        values = tensors[name]
        if values.shape != entry.shape or values.dtype.kind != "f":
            raise persistence.FileFormatError(
                f"{path}: tensor {name!r} has shape {values.shape} and dtype "
                f"{values.dtype}, but its architecture says {entry.shape} of floats"
            )
        if not np.isfinite(values).all():
            raise persistence.FileFormatError(f"{path}: tensor {name!r} has NaN or infinity")
        kinds.add(values.dtype)
    # After the checks: its size is what the file's tensors are.
    host = np.zeros(layout.size, np.result_type(*kinds))
    for entry in layout.entries:
        entry.view(np, host)[...] = tensors.pop(prefix + entry.path)
    return host
