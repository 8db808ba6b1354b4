"""What columns and labels are called: of a network, and of an ensemble."""

from __future__ import annotations

from typing import Any, NamedTuple

Columns = tuple[str, ...] | None


class Names(NamedTuple):
    """What the columns of x and y are called, and what labels stand for, as far as it is known.

    Attributes
    ----------
    columns, target_columns : tuple of str or None
    classes : tuple of str, tuple of int, or None
    """

    columns: Columns = None
    target_columns: Columns = None
    classes: tuple[Any, ...] | None = None

    def or_else(self, others: Names) -> Names:
        """These names; where one is None, that of `others`."""
        pairs = zip(self, others, strict=True)
        return Names(*(other if name is None else name for name, other in pairs))


class HasNames:
    """A network or an ensemble, whose `names` are read and set together or one by one."""

    names: Names

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the inputs; None if unknown.

        Taken from the first data frame or table on disk that `fit` is given, from the frame of
        ``Rescale.standardizing(frame)`` as the first layer, from ``bpx train``, or set by you;
        files keep them. From then on the columns of any frame are found by these names, in any
        order and with others beside them. Names that are not strings go by what they print, such
        as ``"2019"``. Arrays have no names, nor have columns that pandas has numbered 0, 1, ...;
        they are not checked. ``"city=Bern"`` is a one-hot input, 1 where the column ``city`` of a
        frame has the text Bern, and 0 where it has another one of those that are named.

        Raises
        ------
        ValueError, TypeError
            When set: not one string for each input, all different.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 1])
        >>> net.columns = ["height", "width"]
        >>> net.columns
        ('height', 'width')
        """
        return self.names.columns

    @columns.setter
    def columns(self, names: Any) -> None:
        self.names = self.names._replace(columns=names)

    @property
    def target_columns(self) -> tuple[str, ...] | None:
        """The names of the targets; None if unknown.

        From the first data frame that `fit` gets as y, from a table, or set by you. By them
        ``bpx evaluate`` finds the targets in a table, and several targets in a later frame are
        matched, in any order.

        Raises
        ------
        ValueError, TypeError
            When set: not strings, all different.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([2, 2], output="identity")
        >>> net.target_columns = ["price", "days"]
        >>> net.target_columns
        ('price', 'days')
        """
        return self.names.target_columns

    @target_columns.setter
    def target_columns(self, names: Any) -> None:
        self.names = self.names._replace(target_columns=names)

    @property
    def classes(self) -> tuple[str, ...] | tuple[int, ...] | None:
        """What the labels 0, 1, ... stand for, names or numbers of your own; None if unknown.

        Taken, in sorted order, from the first labels or table on disk of names that `fit` is
        given, or set by you. Where they are known, names are taken as labels; files, ONNX models
        and ``bpx predict`` have them. ``net.predict(x, names=True)`` gives them.

        Raises
        ------
        ValueError, TypeError
            When set: not one for each class, all different, or the task is not classification.

        Examples
        --------
        >>> import bpx
        >>> net = bpx.Network([1, 2], output="softmax", bias="zeros")
        >>> net.weights[0] = [[-1.0], [1.0]]
        >>> net.classes = ["cat", "dog"]
        >>> net.predict([[-3.0], [2.0]], names=True).tolist()
        ['cat', 'dog']
        """
        return self.names.classes

    @classes.setter
    def classes(self, names: Any) -> None:
        self.names = self.names._replace(classes=names)
