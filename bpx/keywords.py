"""Messages about arguments and attributes that are not there, with what replaces them here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import FrozenInstanceError
from typing import Any, ParamSpec, TypeVar

from .checks import shortened
from .registry import nearest

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

AS_DATACLASS = "put @dataclass(frozen=True) above the class, and its fields are arguments"


def refuse(
    what: str,
    options: Iterable[str],
    known: Iterable[str],
    elsewhere: dict[str, str],
    others: Sequence[Any] = (),
    more: str = "",
) -> None:
    """TypeError for the first of `options` that `what` does not know, with what it has instead.

    Or for arguments without a name for which it has no place, with `more`.
    """
    for name in options:
        if name not in known:
            end = f": {elsewhere[name]}" if name in elsewhere else nearest(name, [*known])
            raise TypeError(f"{what} takes no {name}={end}")
    if others and more:
        raise TypeError(f"{what} takes no {shortened(others[0])}: {more}")


def hints(more: str = "", /, **elsewhere: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a method: TypeError for an unknown keyword says what it has instead.

    The text comes from `elsewhere`, or else it is the nearest name; `more` is the text if there
    are too many positional arguments. Signature and types stay those of the method.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        code, known = method.__code__, _arguments(method)
        is_init = method.__name__ == "__init__"

        @functools.wraps(method)
        def called(*args: P.args, **options: P.kwargs) -> R:
            owner = type(args[0]).__name__ if args else ""
            what, others = owner if is_init else method.__name__, args[code.co_argcount :]
            told, hint = elsewhere, more
            if is_init and (others or not all(name in known for name in options)):
                fields = _no_arguments(type(args[0]))
                told, hint = fields | elsewhere, AS_DATACLASS if fields else more
            refuse(what, options, known, told, others, hint)
            return method(*args, **options)

        return called

    return decorate


def _no_arguments(cls: type[Any]) -> dict[str, str]:
    """What to do for the fields that a class declares and, without @dataclass, does not take."""
    declared = {} if "__dataclass_fields__" in vars(cls) else inspect.get_annotations(cls)
    fields = [name for name, kind in declared.items() if "ClassVar" not in str(kind)]
    return dict.fromkeys(fields, AS_DATACLASS)


def _arguments(method: Any) -> tuple[str, ...]:
    code = method.__code__
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


class _Elsewhere:
    """An attribute that is not there: AttributeError says what is, also where it is set.

    A plain subclass may set it, as one of its own.
    """

    def __init__(self, owner: type[Any], name: str, hint: str) -> None:
        self._owner, self._name = owner, name
        self._message = f"{owner.__name__} has no attribute {name!r}: {hint}"
        self.__doc__ = f"Not there: {hint}."  # `help` of the class lists it

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        own = {} if instance is None else vars(instance)
        if self._name not in own:
            raise AttributeError(self._message)
        return own[self._name]

    def __set__(self, instance: Any, value: Any) -> None:
        if type(instance) is self._owner:
            raise AttributeError(self._message)
        vars(instance)[self._name] = value

    def __delete__(self, instance: Any) -> None:
        self.__get__(instance, self._owner)
        del vars(instance)[self._name]


def attr_hints(**elsewhere: str) -> Callable[[type[C]], type[C]]:
    """Decorator of a class: AttributeError for these names says what there is instead.

    A method ``__getattr__`` would make each use of an attribute slower: a prediction 4.7 µs
    instead of 4.2.
    """

    def decorate(cls: type[C]) -> type[C]:
        for name, text in elsewhere.items():
            setattr(cls, name, _Elsewhere(cls, name, text))
        every = cls.__dir__

        def without_them(self: Any) -> list[str]:
            return [name for name in every(self) if name not in elsewhere]

        cls.__dir__ = without_them  # type: ignore[method-assign]  # for shells
        return cls

    return decorate


def refuse_misspelt(instance: Any, known: Sequence[str]) -> None:
    """AttributeError for an attribute of a user's own that has nearly the name of a `known` one.

    To look when it is set, by a ``__setattr__``, would make setting θ slower too.
    """
    for name in vars(instance):
        if name in known or name.startswith("_"):
            continue
        import difflib

        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
        if close and close[0] not in name:  # as in weights_before
            raise AttributeError(
                f"{type(instance).__name__} has no attribute {name!r}, which you have set; did "
                f"you mean {close[0]!r}? If it is your own, rename it"
            )


def missing(owner: str, name: str, known: Iterable[str], elsewhere: dict[str, str]) -> Exception:
    """AttributeError that says what there is instead of an attribute of `owner`."""
    hint = f": {elsewhere[name]}" if name in elsewhere else ""
    if not hint and not name.startswith("_"):
        hint = nearest(name, list(known))
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")


def init_hints(
    replaced: Mapping[str, Mapping[str, str]] | None = None,
    more: str = "",
    needed: Mapping[str, str] | None = None,
) -> Callable[[type[C]], type[C]]:
    """Decorator of a class, above that of a frozen dataclass: `hints` for its constructor.

    Of the texts in `replaced` it has those for the class's own arguments, and those under "".
    Those in `needed` say what to pass for arguments that have no default, and are missing. Fields
    that are set later are refused with what to do instead.
    """

    def decorate(cls: type[C]) -> type[C]:
        known, fitting = _arguments(cls.__init__), dict[str, str]()
        for ours, texts in (replaced or {}).items():
            if not ours or ours in known:
                fitting |= texts
        made = hints(more, **fitting)(cls.__init__)
        cls.__init__ = _asking_for(needed, made) if needed else made  # type: ignore[method-assign]
        cls.__setattr__ = _refusing(cls)  # type: ignore[method-assign]
        return cls

    return decorate


def _asking_for(needed: Mapping[str, str], init: Any) -> Any:
    """`init`, of which a TypeError for an argument that is missing has the text in `needed`."""
    known = [*inspect.signature(init).parameters.values()][1:]
    required = [each.name for each in known if each.default is each.empty]
    names = {each.name for each in known}

    @functools.wraps(init)
    def called(self: Any, *args: Any, **options: Any) -> None:
        for name in required[len(args) :]:
            if name in needed and name not in options and options.keys() <= names:
                raise TypeError(f"{type(self).__name__} needs {name}=: {needed[name]}")
        init(self, *args, **options)

    return called


def _refusing(cls: type[Any]) -> Callable[[Any, str, Any], None]:
    """What a frozen dataclass has for `__setattr__`, with what to do instead in its message."""

    def refuse(self: Any, name: str, value: Any) -> None:
        if type(self) is not cls and name not in cls.__dataclass_fields__:
            super(cls, self).__setattr__(name, value)  # a plain subclass's own
            return
        raise FrozenInstanceError(
            f"cannot set {name}, since objects of {type(self).__name__} never change: make "
            f"another one, dataclasses.replace(it, {name}=...), and put it in its place"
        )

    return refuse
