"""What the two estimators around any network share: `build`, and training as by `Network.fit`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from sklearn.utils._param_validation import Interval, StrOptions

from ..backends import Backend, get
from ..callbacks._base import as_callbacks
from ..data.arrays import check_row_shape, check_x
from ..elsewhere import OF_FIT
from ..history import History
from ..keywords import refuse
from ..network import Network
from . import _build, _callbacks, _labels, _optimizer, _validation
from ._arrays import takes_any
from ._base import THEIRS
from ._build import PREFIX
from ._learning import Learns
from ._stochastic import at_most

SAME_IN_FIT = (
    "optimizer", "l1", "l2", "clip_norm", "clip_value", "shuffle", "drop_last", "augment",
    "precision", "accumulate", "progress",
)  # fmt: skip
ELSEWHERE = OF_FIT | {
    "cost": "the network has it, bpx.Network(..., cost=...)",
    "early_stopping": "here it is callbacks=bpx.EarlyStopping(10), with validation_fraction=0.1",
    "n_jobs": "it uses the cores by itself",
    "seed": "here it is random_state=",
    **dict.fromkeys(
        ("X_val", "eval_set", "validation", "validation_data"),
        "it goes to fit(X, y, X_val=..., y_val=...)",
    ),
    "validation_split": "here it is validation_fraction=",
}


_WHOLE = "pass it with its optimizer, optimizer=bpx.Adam(0.01); set_params changes it"


def _hints(build: Any) -> dict[str, str]:
    """What to write for parameters of `build` by their own names."""
    return {name: f"that of build is {PREFIX}{name}=" for name in _build.parameters(build)}


class BaseNetwork(Learns):
    """An estimator that trains a network as `Network.fit` does."""

    _dtypes: ClassVar[Any] = "numeric"  # as they come
    _allow_nd: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {  # of what `Network.fit` does not check
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "backend": [str, Backend, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
    }

    # --- parameters -------------------------------------------------------------------------

    def _set_parameters(self, given: dict[str, Any]) -> None:
        own = given[PREFIX]
        others = [name for name in own if not name.startswith(PREFIX)]
        if others:
            hints = ELSEWHERE | _hints(given["build"])
            hints |= {name: _WHOLE for name in others if name.startswith(_optimizer.PREFIX)}
            refuse(type(self).__name__, others, self._get_param_names(), hints)
        super()._set_parameters(given)
        self.__dict__ |= own

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor, those of `build` among them.

        If it is `deep`, also ``optimizer__learning_rate`` and so on, of an `optimizer` that is an
        object.

        >>> from bpx.sklearn import NetworkClassifier
        >>> clf = NetworkClassifier(lambda n, k, units=9: [n, units, k], build__units=5)
        >>> clf.get_params()["build__units"]
        5
        """
        inner = _optimizer.parameters(self.optimizer) if deep else {}
        return super().get_params(deep) | self._of_build | inner

    @property
    def _of_build(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name.startswith(PREFIX)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor, and ``build__units=...`` for the `units` of `build`.

        ``optimizer__learning_rate=...`` makes another `optimizer` with this learning rate; the one
        that was given stays as it is.

        >>> from bpx.sklearn import NetworkClassifier
        >>> clf = NetworkClassifier(lambda n, k, units=9: [n, units, k])
        >>> clf.set_params(build__units=5).build__units
        5
        >>> import bpx
        >>> clf.set_params(optimizer=bpx.SGD(), optimizer__learning_rate=0.5).optimizer
        SGD(learning_rate=0.5, momentum=0.0, nesterov=False)
        """
        own = {name: value for name, value in params.items() if name.startswith(PREFIX)}
        others = {name: value for name, value in params.items() if name not in own}
        inner = {n: others.pop(n) for n in list(others) if n.startswith(_optimizer.PREFIX)}
        if nested := [name for name in others if "__" in name]:
            raise ValueError(
                f"{type(self).__name__} has no parameter {nested[0]!r}: only those of build "
                f"and of an optimizer are set by such names, {PREFIX}units=... and "
                f"{_optimizer.PREFIX}learning_rate=...; others are set as a whole"
            )
        if inner:
            others["optimizer"] = _optimizer.changed(
                others.get("optimizer", self.optimizer), inner
            )
        hints = _hints(self.build) if {*others} - {*self._get_param_names()} else {}
        for name in others:
            if name in hints:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}: {hints[name]}")
        super().set_params(**others)
        self.__dict__ |= own
        return self

    # --- fit --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _task(self) -> str:
        """What the network is to do."""

    @abstractmethod
    def _check(self, net: Network) -> None:
        """ValueError for a network that does not fit what `fit` was given."""

    def _trains_on(self, source: Backend, X: Any) -> Backend:
        return source if self.backend is None else get(self.backend)

    def _initialize(self, X: Any, dtype: str, backend: Backend) -> None:
        shape, seed = tuple(X.shape[1:]), self.random_state
        net = _build.drawn(
            self.build,
            (shape[0] if len(shape) == 1 else shape, self.n_outputs_),
            {name.removeprefix(PREFIX): value for name, value in self._of_build.items()},
            task=self._task,
            seed=int(seed if isinstance(seed, Integral) else self._random_state.randint(2**31)),
            backend=backend if takes_any(self) else None,
            dtype=self.dtype,
        )  # fmt: skip
        check_row_shape(tuple(X.shape), net.input_shape, X, "X")
        self._check(net)
        self._begin(net)

    def _begin(self, network: Network) -> None:
        self._network, self.n_outputs_ = network, network.output_shape[0]
        name = network.chain.objective.activation.name
        self.out_activation_ = THEIRS.get(name, name)
        self._name(network)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool
    ) -> None:
        given = X, y, sample_weight
        epochs = 1 if incremental else self.epochs
        with self._restored_after_an_error():
            X, y, sample_weight, held_out = self._prepare(*given, validation_data, incremental)
            if held_out is None and self.validation_fraction is not None and not incremental:
                X, y, sample_weight, held_out = _validation.split(self, X, y, sample_weight)
            size, names = self.batch_size, self._network.classes
            y = _labels.by_name(y, names)
            if held_out is not None:
                held_out = replace(held_out, y=_labels.by_name(held_out.y, names))
            with _callbacks.task(self, incremental, "epoch", epochs, *given) as tasks:
                callbacks = [*as_callbacks(self.callbacks), *([] if tasks is None else [tasks])]
                self.history_: History = self._network.fit(
                    X, y, epochs=epochs, sample_weight=sample_weight, callbacks=callbacks,
                    batch_size=None if size is None else at_most(size, X.shape[0]),
                    validation=None if held_out is None else held_out.arrays,
                    **{name: getattr(self, name) for name in SAME_IN_FIT},
                )  # fmt: skip
        self.n_iter_ = self.history_.epochs

    # --- what is fitted ---------------------------------------------------------------------

    @property
    def network_(self) -> Network:
        """The network in use, not a copy; it knows the names of columns and classes.

        >>> import bpx
        >>> from bpx.sklearn import NetworkClassifier
        >>> clf = NetworkClassifier.from_network(bpx.Network([2, 3, 1], seed=0), ["no", "yes"])
        >>> clf.network_.classes
        ('no', 'yes')
        """
        return self._fitted

    def _received(self, X: Any, method: str) -> tuple[Any, Backend]:
        X, source = super()._received(X, method)
        shape, whole = self._network.input_shape, self._network.chain.architecture.indices
        return check_x(source, X, shape, "X", finite=False, indices=whole), source

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # it is the network's
        return tags
