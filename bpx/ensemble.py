"""Networks that answer together, by the mean of their outputs or by a vote."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import reduce
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends import Array, Backend
from .chain import means
from .checks import shortened, whole
from .costs import Cost
from .data import arrays
from .data.blocks import Blocks, in_memory
from .data.incoming import Incoming, to_evaluate
from .elsewhere import ATTRIBUTES_OF_ENSEMBLES, OF_PREDICTIONS, X_ALONE
from .frames import by_names
from .keywords import attr_hints, hints
from .labels import as_classes, check_names
from .layers import Input
from .names import HasNames, Names
from .network import Network
from .registry import unknown

if TYPE_CHECKING:
    from .history import History
    from .summary import Summary

COMBINE = ("average", "vote")


@attr_hints(**ATTRIBUTES_OF_ENSEMBLES)
class Ensemble(HasNames):
    """Networks for one task, trained separately, that answer together.

    Parameters
    ----------
    networks : iterable of Network
        Trained or not, with the same inputs, outputs, task and cost, on one backend and in one
        dtype. Their layers may differ. They are held, not copied.
    combine : str
        How `predict` decides: ``"average"`` (default), by the mean of the outputs, or ``"vote"``,
        by what most of the networks say (for each label of a multilabel task). Where votes tie,
        the mean of all outputs decides among those that tie. A regression has no votes.

    Attributes
    ----------
    members : tuple of Network
    combine : str

    Raises
    ------
    TypeError
        Something that is not a network.
    ValueError
        No networks, one of them twice, networks that do not fit together, or an unknown `combine`.

    Examples
    --------
    >>> import bpx
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> ensemble = bpx.Ensemble.of(3, bpx.Network([2, 4, 1], seed=2), combine="vote")
    >>> histories = ensemble.fit(x, y, epochs=500, optimizer=bpx.SGD(1.0, momentum=0.9))
    >>> ensemble.predict(x).tolist()
    [0, 1, 1, 0]
    """

    def __init__(self, networks: Iterable[Network], combine: str = "average") -> None:
        if isinstance(networks, Network):
            raise TypeError("expected several networks, got one: Ensemble.of(5, net) makes them")
        self.members = tuple(networks)
        _check(self.members)
        if combine not in COMBINE:
            raise unknown("combine", combine, COMBINE)
        if combine == "vote" and self.task == "regression":
            raise ValueError('a regression has no votes to count: use combine="average"')
        self.combine = combine

    @classmethod
    def of(cls, n: int, net: Network, combine: str = "average") -> Ensemble:
        """n untrained networks with the layers, cost, task, backend and dtype of `net`.

        Each has a seed of its own, which a copy of ``net.generator`` draws, so that one seed of
        `net` always makes the same ensemble. `net` itself is neither changed nor a member.

        >>> import bpx
        >>> bpx.Ensemble.of(5, bpx.Network([784, 30, 10], seed=0)).members[4]
        <Network (784,) -> Dense 30, sigmoid, Dense 10, sigmoid; cross-entropy, numpy>
        """
        if not isinstance(net, Network):
            swapped = "; the number comes first: Ensemble.of(5, net)" * isinstance(n, Network)
            raise TypeError(
                f"expected a Network to make members like it, got {type(net).__name__}{swapped}"
            )
        seeds = copy.deepcopy(net.generator).integers(1 << 63, size=whole("n", n)).tolist()
        layers = [Input(net.input_shape), *net.layers]
        options: dict[str, Any] = {"cost": net.cost, "task": net.task, "dtype": net.dtype}
        made = (Network(layers, backend=net.backend, seed=seed, **options) for seed in seeds)
        ensemble = cls(made, combine)
        ensemble.names = net.names
        return ensemble

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.members)}, {self.combine}: {self.members[0]!r}, ...>"

    # --- what it is -------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.members[0].input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one sample's outputs: (k,)."""
        return self.members[0].output_shape

    @property
    def cost(self) -> Cost:
        """The members' cost object."""
        return self.members[0].cost

    @property
    def task(self) -> str:
        """``"classification"``, ``"multilabel"`` or ``"regression"``."""
        return self.members[0].task

    @property
    def backend(self) -> Backend:
        """Where the members' arrays live."""
        return self.members[0].backend

    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"float64"``."""
        return self.members[0].dtype

    @property
    def names(self) -> Names:
        """The names of columns, targets and classes, each from the first member that has it.

        Setting them sets all members'.
        """
        return reduce(Names.or_else, (net.names for net in self.members))

    @names.setter
    def names(self, names: Names) -> None:
        names = check_names(self.members[0].chain.architecture, names)
        for net in self.members:
            net.names = names

    # --- answers ----------------------------------------------------------------------------

    @hints(X_ALONE, **OF_PREDICTIONS)
    def feedforward(self, x: Any) -> Array:
        """The mean of the members' outputs, (m, k), whatever `combine` is.

        Parameters
        ----------
        x : array or Blocks
            As for `Network.feedforward`, whose errors it raises. It is checked and moved once, and
            `bpx.open_data` is read once, for all members.

        Examples
        --------
        >>> import bpx
        >>> nets = [bpx.Network([1, 1], output="identity", weights="zeros") for _ in range(3)]
        >>> for net, bias in zip(nets, (1.0, 2.0, 6.0)):
        ...     net.biases[0] = [bias]
        >>> bpx.Ensemble(nets).feedforward([[0.0]]).tolist()
        [[3.0]]
        """
        return self._outputs(x, settled=False)

    __call__ = feedforward

    @hints(X_ALONE, **OF_PREDICTIONS)
    def predict(self, x: Any, *, names: bool = False) -> Array:
        """Labels (m,) for a classification, 0 or 1 (m, k) for multilabel, else values (m, k).

        Decides by the mean of the outputs, as `Network.predict` does by a network's own, or by
        votes, which are each member's own predictions. With `names` labels are those of `classes`,
        as there.

        Two of three say no, with 0.48, and one is sure of yes, with 0.99:

        >>> import bpx
        >>> nets = [bpx.Network([1, 1], weights="zeros") for _ in range(3)]
        >>> for net, bias in zip(nets, (-0.1, -0.1, 5.0)):
        ...     net.biases[0] = [bias]
        >>> [bpx.Ensemble(nets, by).predict([[0.0]]).tolist() for by in ("average", "vote")]
        [[1], [0]]
        """
        labels = self.members[0].chain.decide(self._outputs(x, settled=True))
        return labels if names is False else as_classes(labels, self.classes, names)

    @hints(**OF_PREDICTIONS)
    def evaluate(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """The mean ``cost`` of the mean outputs, and the ``accuracy`` (not for a regression).

        The cost is that of the mean outputs under a vote too; the accuracy is that of `predict`.
        It is computed from outputs, and a network's from z: for an output that was rounded to 0
        or 1 it has the smallest positive number (−ln of it is 87 in float32, 708 in float64). The
        arguments and errors are those of `Network.evaluate`.

        >>> import bpx
        >>> nets = [bpx.Network([1, 1], output="identity", weights="zeros") for _ in range(2)]
        >>> nets[0].biases[0], nets[1].biases[0] = [1.0], [5.0]
        >>> bpx.Ensemble(nets).evaluate([[0.0]], [3.0]), nets[0].evaluate([[0.0]], [3.0])
        ({'cost': 0.0}, {'cost': 2.0})
        """
        samples = to_evaluate(self._narrowest, x, y, sample_weight, names=self.names)
        return means(self._sums(samples), self.task)

    @np.errstate(all="ignore")  # what is not finite shows in what is returned
    def _sums(self, samples: arrays.Samples | Incoming) -> np.ndarray:
        """Of the cost, of right samples and of the weight."""
        first, backend = self.members[0], self.backend
        xp, ws, sums = backend.xp, first.chain.workspace(), np.zeros(3)
        for part in in_memory(samples, backend):
            mean, settled = self._together(part.x)
            y = first.chain.as_outputs(part.y, ws)
            values = first.chain.objective.value_of_outputs(backend, mean, y)
            right, ones = first.chain.correct(settled, part.y), xp.ones_like(values)
            right = xp.zeros_like(values) if right is None else xp.astype(right, values.dtype)
            weight = ones if part.weight is None else part.weight
            *columns, w = (
                backend.to_host(column).astype(np.float64)
                for column in (values, right, ones, weight)
            )
            sums += [column @ w for column in columns]
        return sums

    @hints(**OF_PREDICTIONS)
    def accuracy(self, x: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The fraction of samples that are right, 0 to 1; for multilabel, right in every label.

        Raises
        ------
        ValueError
            A regression has no accuracy.

        Examples
        --------
        >>> import bpx
        >>> nets = [bpx.Network([1, 1], bias="zeros") for _ in range(2)]
        >>> nets[0].weights[0], nets[1].weights[0] = [[1.0]], [[2.0]]
        >>> bpx.Ensemble(nets).accuracy([[-2.0], [-1.0], [1.0], [2.0]], [0, 1, 1, 1])
        0.75
        """
        if self.task == "regression":
            raise ValueError("a regression has no accuracy; its cost is in evaluate(x, y)")
        return self.evaluate(x, y, sample_weight=sample_weight)["accuracy"]

    @property
    def _narrowest(self) -> Network:
        """The member whose inputs all others take too.

        Its `Embedding` has the fewest numbers; or no first `Rescale` makes large numbers less.
        """

        def limit(net: Network) -> float:
            counts = (indices.count for indices in net.chain.architecture.indices)
            return min(counts, default=net.chain.largest_input)

        return min(self.members, key=limit)

    def _outputs(self, x: Any, settled: bool) -> Array:
        """One result of `_together`, for any number of rows, as a fresh array."""
        chain = self._narrowest.chain
        indices = chain.architecture.indices
        x = by_names(x, self.columns)
        if not isinstance(x, Blocks):
            shape, most = self.input_shape, chain.largest_input
            x = arrays.check_x(self.backend, x, shape, indices=indices, most=most)
            return self._together(x)[settled]
        arrays.check_row_shape(x.shape, self.input_shape, x)
        out = self.backend.empty((x.n, *self.output_shape), chain.xp_dtype)
        for part, rows in x.checking(indices, chain.largest_input).in_order(self.backend, 0):
            out[rows, ...] = self._together(part)[settled]
        return out

    def _together(self, x: Array) -> tuple[Array, Array]:
        """The mean outputs (m, k) of checked rows, and outputs that decide as the members do."""
        mean: Any = 0.0
        votes: Any = 0.0
        for net in self.members:
            a = net.chain.outputs(x)
            mean = a + mean
            if self.combine == "vote":
                votes = self._ballots(net, a) + votes
        mean = mean * (1.0 / len(self.members))
        return mean, mean if self.combine == "average" else self._settled(mean, votes)

    def _ballots(self, net: Network, a: Array) -> Array:
        """1 where a member votes for a class, or says that a label is present, else 0; (m, k)."""
        marks = net.chain.decide(a)
        if self.task == "classification" and a.shape[1] > 1:
            return self.backend.one_hot(marks, self.backend.empty(tuple(a.shape), a.dtype))
        return self.backend.xp.astype(self.backend.xp.reshape(marks, tuple(a.shape)), a.dtype)

    def _settled(self, mean: Array, votes: Array) -> Array:
        """Outputs that `Chain.decide` decides as most votes do, and as `mean` where they tie."""
        xp, n = self.backend.xp, len(self.members)
        if self.task == "classification" and mean.shape[1] > 1:
            most = votes == xp.max(votes, axis=1, keepdims=True)
            return xp.where(most, mean, xp.full_like(mean, -np.inf))
        return xp.where(2.0 * votes == float(n), mean, votes * (1.0 / n))

    # --- copies, files, training ------------------------------------------------------------

    def to(self, backend: Any = None, dtype: Any = None) -> Ensemble:
        """A copy on another backend, or in another dtype, or both; see `Network.to`.

        >>> import bpx
        >>> bpx.Ensemble.of(2, bpx.Network([2, 1])).to(dtype="float64").dtype
        'float64'
        """
        return Ensemble((net.to(backend, dtype) for net in self.members), self.combine)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all members as one safetensors file, for `bpx.load`; see `bpx.files.save`.

        >>> import tempfile
        >>> import bpx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bpx.Ensemble.of(2, bpx.Network([2, 1]), "vote").save(f"{folder}/nets.safetensors")
        ...     again = bpx.load(f"{folder}/nets.safetensors")
        >>> len(again.members), again.combine
        (2, 'vote')
        """
        from .files import save

        save(self, path)

    def to_bytes(self) -> bytes:
        """What `save` would write, for `bpx.load`.

        >>> import bpx
        >>> len(bpx.load(bpx.Ensemble.of(2, bpx.Network([2, 1])).to_bytes()).members)
        2
        """
        from .files import to_bytes

        return to_bytes(self)

    def summary(self) -> Summary:
        """A table of the members, which prints as text, or as HTML in a notebook.

        >>> import bpx
        >>> bpx.Ensemble.of(2, bpx.Network([784, 30, 10])).summary().rows[1]
        ('1', 'Dense 30, sigmoid, Dense 10, sigmoid', '(m, 10)', '23,860', '23,820')
        """
        from .summary import Summary

        return Summary.of_members(self)

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        processes: int | None = None,
        devices: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[History]:
        """Train each member by `Network.fit`, in turn, or each in a process of its own.

        Members differ by their seeds: initial weights, order of the mini-batches, masks. On NumPy
        each ends as it would alone, to the last bit, however they are trained, if BLAS has the
        same number of threads: processes that share the cores have fewer, and convolutions work
        in as many parts as there are threads. With dense layers of up to 4.2 million
        multiply-adds per product this always holds, if threadpoolctl is installed.

        Parameters
        ----------
        x, y
            As for `Network.fit`, the same for all members.
        processes : int, optional
            How many members to train at a time, each in a process of its own, which gets an equal
            share of the cores for its threads. None (default): in turn, in this process.
        devices : sequence of backends, optional
            Instead: one member at a time on each of these, such as ``["cupy:0", "cupy:1"]``, in a
            process of its own. Member i is trained on device i, counted cyclically, and comes back
            to where it was.
        **options
            All others of `Network.fit`. In a ``checkpoint`` folder each member has a folder of its
            own, ``member-0``, ``member-1``, ...; with ``resume=True`` each goes on from there.

        Returns
        -------
        list of History
            One for each member.

        Raises
        ------
        EnsembleError
            Some members failed, or their processes died; they are named, and the others are
            trained to their end and kept.
        ValueError, TypeError, ...
            An error that all members have raised alike, as `Network.fit` does for wrong input.
            `processes` and `devices` together, or either with ``progress=True`` or ``parallel=``;
            for other processes, something that cannot be sent there.

        Notes
        -----
        Ctrl-C ends all members after the current step, and the remaining ones are not begun; a
        RuntimeWarning names them, see ``history.interrupted``. A second one raises
        KeyboardInterrupt at once. SIGTERM is as for `Network.fit`: with ``checkpoint``, it is
        delivered again after the members' last checkpoints.

        Processes are started afresh ("spawn"), so a script has to begin its work below
        ``if __name__ == "__main__":``. Large arrays are handed over as files in the folder for
        temporary ones (``TMPDIR``), which all processes map, and memory maps by their own file;
        everything else, callbacks included, is copied to each process, and only the copy is
        changed.

        Examples
        --------
        >>> import bpx
        >>> ensemble = bpx.Ensemble.of(2, bpx.Network([2, 2, 1], seed=0))
        >>> histories = ensemble.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=3)
        >>> [history.epochs for history in histories]
        [3, 3]
        """
        from .members import train

        return train(self, x, y, processes, devices, options)


def _check(members: tuple[Any, ...]) -> None:
    """TypeError or ValueError unless they are networks that can answer together."""
    if not members:
        raise ValueError("expected at least one network, got none")
    for index, net in enumerate(members):
        if not isinstance(net, Network):
            raise TypeError(f"expected networks, got {type(net).__name__} as member {index}")
    if len(set(map(id, members))) < len(members):
        raise ValueError("expected different networks, got one of them twice: pass net.copy()")
    first = members[0]
    for index, net in enumerate(members):
        for what, hint in _ALIKE.items():
            expected, got = getattr(first, what), getattr(net, what)
            if expected != got:
                raise ValueError(
                    f"expected networks with the same {what}, got {expected!r} in member 0 and "
                    f"{got!r} in member {index}{hint}"
                )
    _check_indices(members)
    for what in Names._fields:  # some may not have any yet
        found = {getattr(net, what): index for index, net in enumerate(members)}
        found.pop(None, None)
        any_name = what == "target_columns" and all(len(names) == 1 for names in found)
        if len(found) > 1 and not any_name:
            (one, at), (other, there) = list(found.items())[:2]
            raise ValueError(
                f"expected networks trained with the same {what}, got {shortened([*one])} in "
                f"member {at} and {shortened([*other])} in member {there}"
            )


def _check_indices(members: Sequence[Network]) -> None:
    """ValueError unless one member's whole numbers are those of all members that take any."""
    described = [net.chain.architecture for net in members]
    of_columns = any(each.indices and not each.integers for each in described)
    if of_columns and len({each.indices for each in described if each.indices}) > 1:
        raise ValueError(
            "expected networks whose Embeddings take the same columns, and as many numbers in "
            "each, got others: average the outputs of such networks yourself"
        )


_ALIKE = {
    "input_shape": "",
    "output_shape": "",
    "task": "",
    "cost": "",
    "dtype": ": net.to(dtype=...)",
    "backend": ": net.to(backend)",
}
