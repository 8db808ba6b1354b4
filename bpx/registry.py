"""Names for the things a user names: activations, costs, initializers, layers, optimizers.

A file stores a name and a few numbers, never code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

C = TypeVar("C", bound=type)

# What other libraries call what bpx has.
_ELSEWHERE = {
    "bce": "cross-entropy",
    "bf16": "bfloat16",
    "binary-crossentropy": "cross-entropy",
    "categorical-crossentropy": "log-likelihood",
    "ce": "cross-entropy",
    "cost": "training_cost",
    "crossentropy": "cross-entropy",
    "eps": "epsilon",
    "fp16": "float16",
    "gaussian": "normal",
    "glorot": "glorot-uniform",
    "half": "float16",
    "he": "he-normal",
    "kaiming": "he-normal",
    "kaiming-normal": "he-normal",
    "kaiming-uniform": "he-uniform",
    "l1": "mean-absolute-error",
    "large": "normal",
    "lecun": "lecun-normal",
    "linear": "identity",
    "logistic": "sigmoid",
    "loss": "training_cost",
    "lr": "learning_rate",
    "mae": "mean-absolute-error",
    "mean-squared-error": "quadratic",
    "mse": "quadratic",
    "nll": "log-likelihood",
    "sparse-categorical-crossentropy": "log-likelihood",
    "squared-error": "quadratic",
    "swish": "silu",
    "val-accuracy": "validation_accuracy",
    "val-loss": "validation_cost",
    "xavier": "glorot-uniform",
}

OF_USER = "of-user"  # in a description beside its fields: the name is a user's, not bpx's
MOST_NAMES = 40  # names in a message: a file may bring any number
MOST_COMPARED, LONGEST_COMPARED = 1000, 60  # names, and characters of one


def meant(word: str) -> str:
    """What bpx calls what has this name elsewhere; the name itself if that is not known."""
    return _ELSEWHERE.get(canonical(word), word)


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message: the nearest known word, and what is known."""
    import difflib

    close = [meant(word)] if meant(word) in known else []
    if len(word) <= LONGEST_COMPARED:
        likely = [name for name in known[:MOST_COMPARED] if len(name) <= LONGEST_COMPARED]
        longer = [name for name in likely if word and name.lower().startswith(word.lower())]
        close = close or (longer if len(longer) == 1 else [])
        for spelled in (word, canonical(word)):
            close = close or difflib.get_close_matches(spelled, likely, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    named = ", ".join(name[:60] for name in sorted(known)[:MOST_NAMES])
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return f"{hint} Known: {named}{more}"


def unknown(what: str, given: Any, known: Iterable[str]) -> ValueError:
    """To be raised for a name that is none of those known, with the nearest of them."""
    return ValueError(f"unknown {what} {given!r}{nearest(str(given), list(known))}")


class Registry:
    """The known names of one kind of object: the classes of bpx, and what users add.

    Parameters
    ----------
    kind : str
        What the entries are, for messages: ``"activation"``.
    base : type
        The class that every entry is an instance of.
    classes : bool
        Whether users register classes (layers), not instances (activations, costs).
    """

    all: ClassVar[list[Registry]] = []

    def __init__(self, kind: str, base: type, *, classes: bool = False) -> None:
        self.kind, self.base, self.classes = kind, base, classes
        self.builtin: dict[str, Any] = {}
        self.registered: dict[str, Any] = {}
        Registry.all.append(self)

    def builds(self, cls: C) -> C:
        """Class decorator: register `cls` as bpx's own, by its class attribute ``name``."""
        self.builtin[canonical(cls.name)] = cls  # type: ignore[attr-defined]
        return cls

    def takes(self, obj: Any) -> bool:
        """Whether it is what users register here."""
        if isinstance(obj, type):
            return self.classes and issubclass(obj, self.base)
        return not self.classes and isinstance(obj, self.base)

    def get(self, spec: Any, custom: Mapping[str, Any] | None = None) -> Any:
        """The object that `spec` describes: an object, a name, or a dict from a file.

        Raises
        ------
        TypeError
            It is none of these, or a class where an object is wanted.
        ValueError
            No object has that name: neither bpx's own, nor a registered one, nor one of `custom`.
        """
        if isinstance(spec, self.base) or self.takes(spec):
            return spec
        if isinstance(spec, type) and issubclass(spec, self.base):
            raise TypeError(
                f"expected {article(self.kind)}, got the class: pass {spec.__name__}(...)"
            )
        fields: dict[str, Any] = {}
        if isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
            fields = {key: value for key, value in spec.items() if key != "name"}
            spec = spec["name"]
        if not isinstance(spec, str):
            hint = ""
            if callable(spec) and self.base.__name__ in ("Activation", "Cost"):
                hint = f": a bpx.Custom{self.base.__name__} makes one from functions"
            raise TypeError(
                f"expected the name of {article(self.kind)} or {article(self.base.__name__)} "
                f"object, got {type(spec).__name__}{hint}"
            )
        name, is_own = canonical(spec), fields.pop(OF_USER, False)
        named = {canonical(key): value for key, value in (custom or {}).items()}
        own = self.registered | {key: obj for key, obj in named.items() if self.takes(obj)}
        if name in own:
            return own[name]
        if is_own and name in self.builtin:
            raise ValueError(
                f"unknown {self.kind} {spec!r}: not bpx's of that name, but one's own"
            )
        if name not in self.builtin:
            raise ValueError(f"unknown {self.kind} {spec!r}{nearest(name, [*self.builtin, *own])}")
        return self.builtin[name] if self.classes else _made(self.builtin[name], fields)

    def names(self, obj: Any, custom: Mapping[str, Any] | None = None) -> list[str]:
        """Those under which `obj` is registered or in `custom`; or what it is a copy of.

        One of bpx's own has fields by which a file describes it, and needs no other name.
        """
        given = [*(custom or {}).items(), *self.registered.items()]
        itself = [name for name, own in given if own is obj]
        if itself or type(obj) in self.builtin.values():
            return itself
        return [name for name, own in given if _is_copy(own, obj)]

    def describe(self, obj: Any, custom: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JSON-compatible dict from which `get` makes `obj` again, with the same `custom`.

        Raises
        ------
        ValueError
            `obj` is a user's own, and neither in `custom` nor registered; or its name there is by
            now that of another one.
        """
        names = self.names(obj, custom)
        for name in names:
            if _is_copy(self.registered.get(name, obj), obj):
                return {"name": name, OF_USER: True}
        if names:
            raise ValueError(
                f"the {self.kind} that custom= calls {names[0]!r} would be lost in a file, since "
                "that is by now the registered name of another one: call "
                'bpx.register("another-name", it) before saving'
            )
        name = canonical(getattr(obj, "name", ""))
        cls = obj if self.classes else type(obj)
        if self.builtin.get(name) is not cls:
            raise ValueError(
                f"the {self.kind} {obj.__name__ if self.classes else by_class(obj)} has no "
                "registered name, and files store names, never code: call "
                'bpx.register("a-name", it) before saving'
            )
        if self.classes:
            return {"name": name}
        fields = {f.name: plain(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
        return {"name": name, **fields}


def _is_copy(own: Any, obj: Any) -> bool:
    """Whether they are the same one, or of one class and content, as pickle makes copies."""
    if own is obj or isinstance(obj, type) or type(own) is not type(obj):
        return own is obj
    with suppress(Exception):  # from arrays, each library's its own, which are not compared
        return bool(own.__getstate__() == obj.__getstate__())
    return False


def _made(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """An object of one of bpx's classes; ValueError for its name alone, if it needs more."""
    known = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    needed = [f.name for f in known if f.default is dataclasses.MISSING]
    if needed and not fields:
        raise ValueError(
            f"{cls.name!r} needs its {' and '.join(needed)}: pass {cls.__module__}."
            f"{cls.__name__}({', '.join(f'{name}=...' for name in needed)})"
        )
    return cls(**fields)


def name_of(obj: Any) -> str:
    """The name under which an activation, a cost or an initializer is registered, or its own.

    Empty if it has none.
    """
    names = [name for registry in Registry.all for name in registry.names(obj)]
    return str(names[0] if names else obj.name)


def called(obj: Any) -> str:
    """What a message calls an activation, a cost or an initializer: its name, or its class's."""
    return repr(name) if (name := name_of(obj)) else by_class(obj)


def by_class(obj: Any) -> str:
    """An object as its class and the function that it is made of: ``"CustomCost(<lambda>)"``."""
    function = getattr(obj, "function", None)  # of a CustomActivation or CustomCost
    named = getattr(function, "__name__", type(function).__name__)  # a partial has no name
    return type(obj).__name__ + (f"({named})" if function else "")


def plain(value: Any) -> Any:
    """A NumPy scalar as a Python number, which JSON takes; all else as it is."""
    return value.item() if hasattr(value, "item") else value


def canonical(name: str) -> str:
    """A name as it is compared: in lower case, words joined by ``-``."""
    return name.lower().replace("_", "-").replace(" ", "-")


def article(noun: str) -> str:
    """A noun with its article: ``"an activation"``."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def register(name: str, obj: Any) -> Any:
    """Give a name to an activation, cost, initializer, optimizer or layer's class of your own.

    After that the name stands wherever bpx takes one, and `Network.save` stores it.

    Parameters
    ----------
    name : str
        Any name that is not bpx's own. Registering a name again replaces it.
    obj : Activation, Cost, Initializer, Optimizer, or a subclass of Layer
        What the name stands for.

    Returns
    -------
    The same `obj`.

    Raises
    ------
    ValueError
        The name is one of bpx's own.
    TypeError
        The name is none, or `obj` is none of these.

    Examples
    --------
    >>> import bpx
    >>> softsign = bpx.CustomActivation(
    ...     lambda xp, z: z / (1 + xp.abs(z)),
    ...     lambda xp, z, a: (1 - xp.abs(a)) ** 2)
    >>> _ = bpx.register("softsign", softsign)
    >>> net = bpx.Network([2, 3, 1], hidden="softsign")
    """
    registry, name = _place(name, obj)
    registry.registered[name] = obj
    return obj


def by_name(custom: Any) -> dict[str, Any]:
    """A user's own objects by their names, for `Registry.get`; raises what `register` does."""
    if not isinstance(custom, Mapping):
        raise TypeError(
            f'expected custom to be a dict such as {{"name": it}}, got {type(custom).__name__}'
        )
    return {_place(name, obj)[1]: obj for name, obj in custom.items()}


def _place(name: Any, obj: Any) -> tuple[Registry, str]:
    """Where a user's own goes, and its name there; ValueError if the name is bpx's."""
    if not isinstance(name, str):
        raise TypeError(f"expected a name, got {article(type(name).__name__)}")
    shown = f"the class {obj.__name__}" if isinstance(obj, type) else article(type(obj).__name__)
    found = next((registry for registry in Registry.all if registry.takes(obj)), None)
    if found is None:
        kinds = ", ".join(f"{r.base.__name__}{' (the class)' * r.classes}" for r in Registry.all)
        raise TypeError(f"expected {name!r} to be the name of one of {kinds}, got {shown}")
    name = canonical(name)
    if name in found.builtin:
        raise ValueError(f"{name!r} is bpx's own {found.kind}; give yours another name")
    return found, name
