"""A user's own number in the history."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..checks import LONGEST, flag, shortened, takes
from ..history import COLUMNS
from ..keywords import hints
from ._base import Callback, Run

if TYPE_CHECKING:
    from ..network import Network


_DIRECTION = "here it is larger_is_better=True or False"


class Metric(Callback):
    """A column of your own in the history, one number per epoch.

    Callbacks that come after it in ``callbacks=`` may monitor it.

    Parameters
    ----------
    name : str
        Of the column.
    function : callable
        Takes the network, as the epoch has left it; returns a real number.
    larger_is_better : bool, optional
        For callbacks that monitor it, and for `History.best`, which need to be told.

    Raises
    ------
    ValueError
        The history already has a column of this name.
    TypeError
        `name` is not text, or is very long, or `function` takes other arguments or does not return
        a number.

    Examples
    --------
    >>> import bpx
    >>> net = bpx.Network([1, 1], seed=0, weights="zeros")
    >>> largest = bpx.Metric("largest weight", lambda net: abs(net.weights[0]).max())
    >>> history = net.fit([[0.0], [1.0]], [0, 1], epochs=2, callbacks=[largest])
    >>> [round(weight, 4) for weight in history["largest weight"]]
    [0.0266, 0.0529]
    """

    @hints(higher_is_better=_DIRECTION, greater_is_better=_DIRECTION, mode=_DIRECTION)
    def __init__(
        self,
        name: str,
        function: Callable[[Network], Any],
        *,
        larger_is_better: bool | None = None,
    ) -> None:
        if not isinstance(name, str) or len(name) > LONGEST:
            raise TypeError(
                f"expected the name of a column of the history, a string of {LONGEST} characters "
                f"at most, got {shortened(name)}"
            )
        takes("the function of a Metric", function, "net")
        self.name, self.function = name, function
        if larger_is_better is not None:
            larger_is_better = flag("larger_is_better", larger_is_better)
        self.larger_is_better = larger_is_better

    def __repr__(self) -> str:
        return f"Metric({self.name!r})"

    def on_fit_begin(self, run: Run) -> None:
        if self.name in (*COLUMNS, *run.columns):
            raise ValueError(
                f"the history already has a column {self.name!r}: give yours another name"
            )
        run.columns = *run.columns, self.name
        history = run.history
        for columns in (history.larger_is_better, history.undecided):
            columns.discard(self.name)  # what an earlier part of the run has said
        if self.larger_is_better is None:
            history.undecided.add(self.name)
        elif self.larger_is_better:
            history.larger_is_better.add(self.name)

    def on_epoch_end(self, run: Run) -> None:
        try:
            value = self.function(run.net)
        except TypeError as error:  # one that takes y and predictions, whose signature hides it
            error.add_note(
                f"in the metric {self.name!r}, whose function takes the network: "
                "lambda net: f1_score(y, net.predict(x))"
            )
            raise
        if not isinstance(value, numbers.Real) and getattr(value, "ndim", None) != 0:
            raise TypeError(f"expected the metric {self.name!r} to be a number, got {value!r}")
        run.history.log(self.name, float(value))
