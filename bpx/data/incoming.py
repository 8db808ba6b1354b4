"""Mini-batches that a user's iterable brings, each checked as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..checks import are_batches
from ..persistence import Stateful
from .arrays import Samples
from .minibatches import REPEATABLE

if TYPE_CHECKING:
    from ..names import Names
    from ..network import Network


class Incoming:
    """Mini-batches for a network; what `Samples` are for arrays.

    Parameters
    ----------
    net : Network
    batches : iterable
        Of (x, y) or (x, y, sample_weight).
    what : str
        Goes before their number in messages, such as ``"validation "``.
    finite : bool
        Look for NaN and infinity.
    names : Names, optional
        By which columns and classes are matched; by default the network's when they come.

    Attributes
    ----------
    came : int
        The samples that have come since `since` was last called.
    """

    advice = ""  # the end of a message about what is no mini-batch

    def __init__(
        self,
        net: Network,
        batches: Iterable[Any],
        what: str = "",
        finite: bool = True,
        names: Names | None = None,
    ) -> None:
        self.net, self.what, self.finite, self.names = net, what, finite, names
        self._iterable, self.came = batches, 0

    @property
    def kind(self) -> str:
        """All that is known of what it will bring, for runs that have to be alike."""
        return type(self._iterable).__name__

    def check_repeatable(self, epochs: int) -> None:
        """ValueError for an iterator, if there is more than one epoch."""
        if isinstance(self._iterable, Iterator) and epochs > 1:
            raise ValueError(
                f"a one-shot {self.what}iterator is empty after one epoch, and epochs is "
                f"{epochs}: {REPEATABLE}"
            )

    def state(self) -> Any:
        """That of the iterable, if it has one; else all its epochs are taken to be alike."""
        return self._iterable.state() if isinstance(self._iterable, Stateful) else None

    def load_state(self, state: Any, epochs: int) -> None:
        """Continue after `epochs` that have ended."""
        if isinstance(self._iterable, Stateful):
            self._iterable.load_state(state)

    def called(self, step: int) -> str:
        """What a message calls the mini-batch of a step."""
        return f"{self.what}mini-batch {step + 1}"

    def __iter__(self) -> Iterator[Samples]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Samples]:
        """Those from step `first` on.

        Raises
        ------
        ValueError, TypeError
            One of them is wrong; or there are none at all.
        """
        self.came, empty = 0, True
        for step, batch in enumerate(self._iterable):
            empty = False
            if step < first:
                continue
            try:
                samples = self.checked(batch)
            except (ValueError, TypeError) as error:
                raise type(error)(f"{self.called(step)}: {error}") from error
            self.came += samples.n
            yield samples
        if empty:
            raise ValueError(f"the {self.what}iterable gave no mini-batch")

    def check_form(self, batch: Any) -> None:
        """TypeError or ValueError unless it is x with y, of several samples as far as it shows."""
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise TypeError(
                "expected the iterable to give (x, y) or (x, y, sample_weight), got "
                f"{type(batch).__name__}{self.advice}"
            )
        shape, got = self.net.input_shape, getattr(batch[0], "shape", ())
        if got in (shape, (*shape, 1)) and got[1:] != shape:  # or in columns
            raise ValueError(
                "expected the iterable to give mini-batches, x of shape (m, ...) with y, got "
                "single samples: pass arrays, x = np.array([x.reshape(-1) for x, y in data]), "
                "y = np.array([y for x, y in data])"
            )

    def checked(self, batch: Any) -> Samples:
        """One of them; ValueError or TypeError says what is wrong with it."""
        self.check_form(batch)
        return self.net.samples(
            *batch, finite=self.finite, allow_zero_weight=True, names=self.names
        )


def to_evaluate(
    net: Network, x: Any, y: Any, sample_weight: Any = None, **options: Any
) -> Samples | Incoming:
    """Checked samples, or if `x` without y is an iterable of mini-batches, these.

    `options` are what, finite and names, as those of `Network.samples`.
    """
    if y is not None or not are_batches(x):
        return net.samples(x, y, sample_weight, **options)
    if sample_weight is not None:
        raise ValueError("sample_weight= is for arrays; an iterable brings its own batches")
    return Incoming(net, x, **options)
