"""The mean of the weights of several epochs."""

from __future__ import annotations

from typing import Any, ClassVar

from ..checks import warn, whole
from ..keywords import hints
from ._base import Callback, Run
from ._weights import Weights

_EQUAL = "the epochs from start= on count alike"


class WeightAveraging(Callback):
    """End with the mean of the weights that the epochs from `start` on have ended with.

    Stochastic weight averaging (Izmailov et al., UAI 2018), an average over the tail of stochastic
    gradient descent (Polyak and Juditsky, 1992). With a constant learning rate weights go round
    about a minimum, the further the larger the rate; their mean lies nearer to it. After a rate
    that falls to 0 there is little left to gain.

    Parameters
    ----------
    start : int
        The first epoch whose weights count, from 1, of this call of `fit`; half of its epochs is
        a good first choice.

    Attributes
    ----------
    count : int
        How many epochs the mean is of.

    Raises
    ------
    ValueError
        `fit` has fewer epochs than `start`, or another callback restores weights at its end.

    Warns
    -----
    RuntimeWarning
        `fit` was stopped before `start`: the weights are those of its last epoch.

    Notes
    -----
    Training itself is not changed, so the history and what other callbacks see are of the weights
    of each epoch; ``net.evaluate(*validation)`` after `fit` is of the mean. Running statistics
    are averaged too, as by PyTorch's ``AveragedModel(use_buffers=True)``. After Ctrl-C the
    weights are the last step's, so that the run can be resumed; checkpoints hold the mean beside
    them. It takes the memory of the parameters once more.

    Examples
    --------
    >>> import bpx
    >>> seen = []
    >>> net = bpx.Network([1, 1], seed=0, weights="zeros")
    >>> history = net.fit(
    ...     [[0.0], [1.0]], [0, 1], epochs=3,
    ...     callbacks=[lambda run: seen.append(run.net.parameters.copy()), bpx.WeightAveraging(2)],
    ... )
    >>> bool(abs(net.parameters - (seen[1] + seen[2]) / 2).max() < 1e-6)
    True
    """

    replaces_weights: ClassVar[bool] = True

    @hints(
        decay=_EQUAL,
        swa_epoch_start="here it is start=, an epoch from 1",
        swa_start="here it is start=, an epoch from 1",
        swa_lr="the optimizer has it, as a number or a schedule",
        swa_lrs="the optimizer has it, as a number or a schedule",
    )
    def __init__(self, start: int) -> None:
        self.start = whole("the start of WeightAveraging", start)
        self.count = 0

    def on_fit_begin(self, run: Run) -> None:
        if self.start > run.epochs:
            raise ValueError(
                f"expected the start of WeightAveraging to be one of the {run.epochs} epochs of "
                f"this fit, got {self.start}: begin earlier, or train for longer"
            )
        self._mean, self.count = Weights(run.net), 0

    def state(self) -> dict[str, Any]:
        return {"count": self.count, **(self._mean.state() if self.count else {})}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = whole("count", state["count"], 0)
        if self.count:
            self._mean.load_state(state)

    def on_epoch_end(self, run: Run) -> None:
        if run.history.epochs < self.start:
            return
        self.count += 1
        if self.count == 1:
            self._mean.copy(run.net)
        else:
            self._mean.average(run.net, self.count)

    def on_fit_end(self, run: Run) -> None:
        if self.count and not run.history.interrupted:
            self._mean.put(run.net)
        elif not run.history.interrupted:
            warn(
                f"fit ended with epoch {run.history.epochs}, before {self.start}, with which "
                "WeightAveraging begins: the weights are those of the last epoch"
            )
        del self._mean
