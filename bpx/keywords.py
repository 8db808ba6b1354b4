"""Arguments by the names that other libraries give them: what replaces them here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from .registry import nearest

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


def hints(more: str = "", /, **elsewhere: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a method: TypeError for an unknown keyword says what it has instead.

    The text comes from `elsewhere`, or else it is the nearest name; `more` is the text if there
    are too many positional arguments. Signature and types stay those of the method.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        code: Any = method.__code__
        known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

        @functools.wraps(method)
        def called(*args: P.args, **options: P.kwargs) -> R:
            owner = type(args[0]).__name__ if args else ""
            what = owner if method.__name__ == "__init__" else method.__name__
            for name in options:
                if name not in known:
                    end = f": {elsewhere[name]}" if name in elsewhere else nearest(name, [*known])
                    raise TypeError(f"{what} takes no {name}={end}")
            if more and len(args) > code.co_argcount:
                raise TypeError(f"{what} takes no {args[-1]!r}: {more}")
            return method(*args, **options)

        return called

    return decorate


def constructor(more: str = "", /, **elsewhere: str) -> Callable[[type[C]], type[C]]:
    """Decorator of a class, above that of a dataclass: `hints` for its constructor."""

    def decorate(cls: type[C]) -> type[C]:
        cls.__init__ = hints(more, **elsewhere)(cls.__init__)  # type: ignore[method-assign]
        return cls

    return decorate
