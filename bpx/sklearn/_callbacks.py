"""scikit-learn's own callbacks (1.9 and later): a fit as a task, its epochs as subtasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..callbacks import Callback, Run

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn 1.7 and 1.8 have none
    CallbackSupportMixin = type("CallbackSupportMixin", (), {})


__all__ = ["ASKED", "CallbackSupportMixin", "Subtasks", "task"]

ASKED = "a callback of scikit-learn's asked for it"  # why a run has stopped


class Subtasks(Callback):
    """The epochs of a fit, or its iterations, each with its hooks at the beginning and the end.

    Parameters
    ----------
    est : estimator
        With a network in training.
    context : CallbackContext
        Of the fit.
    name : str
        Of an epoch or an iteration.
    data : dict
        X, y and metadata for the hooks.
    """

    def __init__(self, est: Any, context: Any, name: str, data: dict[str, Any]) -> None:
        self.est, self.context, self.name, self.data = est, context, name, data
        self._open: Any = None

    def begin(self) -> None:
        self._open = self.context.subcontext(task_name=self.name)
        self._open.call_on_fit_task_begin(estimator=self.est, **self.data)

    def end(self) -> bool:
        """Whether a callback asks to stop."""
        context, self._open = self._open, None
        stops = context.call_on_fit_task_end(
            estimator=self.est,
            **self.data,
            reconstruction_attributes=lambda: {"_network": self.est._network.copy()},
        )
        return bool(stops)

    def close(self) -> None:
        """End what has begun and has not ended."""
        if self._open is not None:
            self._open.call_on_fit_task_end(estimator=self.est)
            self._open = None

    def on_fit_begin(self, run: Run) -> None:
        self.begin()

    def on_epoch_end(self, run: Run) -> None:
        if self.end():
            run.stop(ASKED)
        if run.stopped is None and run.history.epochs < run.epochs:
            self.begin()


@contextmanager
def task(
    est: Any, incremental: bool, name: str, most: int, X: Any, y: Any, sample_weight: Any
) -> Iterator[Subtasks | None]:
    """The task of a `fit` or `partial_fit`, from checked input to the trained network.

    It has at most so many subtasks of this name. X, y and sample_weight are as they were given.
    None: there are no callbacks to call.
    """
    if not hasattr(est, "_init_callback_context"):
        yield None
        return
    context = est._init_callback_context("partial_fit" if incremental else "fit", 0, most)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"X": X, "y": y, "metadata": metadata}
    context.call_on_fit_task_begin(estimator=est, **data)
    subtasks = Subtasks(est, context, name, data)
    yield subtasks if hasattr(est, "_skl_callbacks") else None
    subtasks.close()
    context.call_on_fit_task_end(estimator=est, **data, reconstruction_attributes={})
