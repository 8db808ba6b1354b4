"""What the CuPy backend calls in cuDNN's front end, by its sources, on the host.

Graphs of one convolution each, on arrays that are known by address, dims and strides. The order of
calls, and what the library would refuse or overwrite, are checked. Plans have notes like the
library's; those on tensor cores round as tensor cores do.
"""

from __future__ import annotations

import ctypes
import enum
import threading
import weakref

import numpy as np

Note = enum.Enum(
    "Note",
    "NONDETERMINISTIC DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT WINOGRAD "
    "WINOGRAD_TILE_4x4 WINOGRAD_TILE_6x6 WINOGRAD_TILE_13x13 TENSOR_CORE STRICT_NAN_PROP",
)
# By the heuristics' order: the notes of each plan, and how many bytes it works in.
PLANS = [
    ({Note.NONDETERMINISTIC}, 64),
    ({Note.WINOGRAD, Note.WINOGRAD_TILE_4x4}, 64),
    ({Note.FFT}, 64),
    (set(), 1 << 40),
    ({Note.TENSOR_CORE}, 4096),
    (set(), 1000),
    ({Note.STRICT_NAN_PROP}, 0),
]
STEPS = "made", "valid", "lowered", "planned", "supported", "built"


class NotSupportedError(Exception):
    """Like the front end's, which is not a RuntimeError."""


class Handle:
    def __init__(self):
        self.stream, self.thread, self.destroyed = None, threading.get_ident(), False
        self.graphs = weakref.WeakSet()


class FrontEnd:
    """The module ``cudnn``.

    Attributes
    ----------
    refuses : callable
        Given an operation and the dims of image, filter and output, whether no plan does it.
    failing : dict
        By step, what is raised there.
    allocated : dict
        Bytes by address, of all that plans may work in.
    log : list of str
        The calls that a device would notice.
    chosen : list of set of Note
        The notes of each plan that was built.
    """

    cudnnGraphNotSupportedError = NotSupportedError
    numerical_note = Note
    data_type = enum.Enum("data_type", "FLOAT DOUBLE HALF")
    heur_mode = enum.Enum("heur_mode", "A B FALLBACK")

    def __init__(self):
        self.refuses = lambda operation, image, filter_, output: False
        self.failing, self.allocated = {}, {}
        self.log, self.chosen, self.handles = [], [], []

    def _reach(self, step):
        if step in self.failing:
            raise self.failing[step]

    def create_handle(self):
        self._reach("create_handle")
        self.log.append("create_handle")
        self.handles.append(Handle())
        return self.handles[-1]

    def set_stream(self, handle, stream):
        assert not handle.destroyed
        assert handle.thread == threading.get_ident()
        self.log.append("set_stream")
        handle.stream = stream

    def destroy_handle(self, handle):
        assert not handle.destroyed
        assert not [*handle.graphs], "a handle goes after what was made with it"
        handle.destroyed = True

    def pygraph(self, *, io_data_type, intermediate_data_type, compute_data_type, handle):
        types = {io_data_type, intermediate_data_type, compute_data_type}
        assert types == {self.data_type.FLOAT}
        return Graph(self, handle)


class Tensor:
    """Its setters return the tensor itself, so that they can be chained."""

    def __init__(self, dim=None, stride=None, data_type=None, output=False):
        self.dim, self.stride, self.data_type, self.uid = dim, stride, data_type, None
        self.output = output

    def set_uid(self, uid):
        self.uid = uid
        return self

    def set_output(self, output):
        self.output = output
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def at(self, address):
        """A view of what lies there."""
        assert address % 16 == 0, "misaligned address"
        last = sum((n - 1) * step for n, step in zip(self.dim, self.stride, strict=True))
        raw = (ctypes.c_char * (4 * (last + 1))).from_address(address)
        strides = [4 * step for step in self.stride]
        return np.lib.stride_tricks.as_strided(np.frombuffer(raw, np.float32), self.dim, strides)


class Graph:
    """One convolution: `tensors` are its image, its filter and its output."""

    def __init__(self, module, handle):
        self.module, self.handle, self.step = module, handle, "made"
        handle.graphs.add(self)
        self.barred, self.most, self.plan = set(), None, None
        self.operation, self.tensors, self.axes = None, None, None

    def _go(self, step):
        """Steps are in the one order, and each is taken once."""
        assert STEPS.index(step) == STEPS.index(self.step) + 1, f"{step} after {self.step}"
        self.module._reach(step)
        self.step = step

    def tensor(self, *, dim, stride, data_type):
        return Tensor(dim, stride, data_type)

    def conv_fprop(self, *, image, weight, **axes):
        return self._operation("conv_fprop", image, weight, None, axes)

    def conv_wgrad(self, *, image, loss, **axes):
        return self._operation("conv_wgrad", image, None, loss, axes)

    def conv_dgrad(self, *, loss, filter, **axes):
        return self._operation("conv_dgrad", None, filter, loss, axes)

    def _operation(self, name, image, filter_, output, axes):
        assert self.operation is None
        assert set(axes) == {"pre_padding", "post_padding", "stride", "dilation"}
        out = Tensor()
        self.operation, self.axes = name, axes
        self.tensors = [out if t is None else t for t in (image, filter_, output)]
        return out

    def validate(self):
        self._go("valid")
        for tensor in self.tensors:
            assert len(tensor.dim) == len(tensor.stride) == 4
            assert all(type(n) is int and n > 0 for n in (*tensor.dim, *tensor.stride))
            assert tensor.data_type is self.module.data_type.FLOAT
        assert [t.output for t in self.tensors].count(True) == 1
        assert len({t.uid for t in self.tensors} - {None}) == 3
        assert all(len(values) == 2 for values in self.axes.values())

    def build_operation_graph(self):
        self._go("lowered")
        image, filter_, output = (tensor.dim for tensor in self.tensors)
        assert image[1] % filter_[1] == 0, "groups"
        assert filter_[0] % (image[1] // filter_[1]) == 0, "groups"
        assert output == [image[0], filter_[0], *self._counts()]

    def _counts(self):
        fields = "pre_padding", "post_padding", "stride", "dilation"
        image, filter_, _ = self.tensors
        axes = zip(image.dim[2:], filter_.dim[2:], *map(self.axes.get, fields), strict=True)
        return [
            (n + pre + post - ((k - 1) * gap + 1)) // step + 1
            for n, k, pre, post, step, gap in axes
        ]

    def create_execution_plans(self, modes):
        assert modes == [self.module.heur_mode.A]
        self._go("planned")
        self.module.log.append("plan")

    def deselect_numeric_notes(self, notes):
        assert self.step == "planned", "a filter before the plans are there marks none"
        self.barred |= set(notes)

    def deselect_workspace_greater_than(self, most):
        assert self.step == "planned"
        self.most = most

    def check_support(self):
        dims = [tensor.dim for tensor in self.tensors]
        if self.module.refuses(self.operation, *dims):
            raise NotSupportedError("No execution plans support the graph.")
        self._go("supported")

    def build_plans(self):
        self._go("built")
        left = [plan for plan in PLANS if not plan[0] & self.barred and plan[1] <= self.most]
        self.plan = left[0]
        self.module.chosen.append(self.plan[0])

    def get_workspace_size(self):
        assert self.step == "built"
        return self.plan[1]

    def execute(self, addresses, workspace, handle):
        module, size = self.module, self.get_workspace_size()
        module._reach("execute")
        assert handle is self.handle
        assert handle.stream is not None, "set_stream comes first"
        assert not handle.destroyed
        assert handle.thread == threading.get_ident(), "a handle is its thread's"
        assert set(addresses) == {tensor.uid for tensor in self.tensors}, "uids"
        if size:
            assert module.allocated[workspace] >= size, "the workspace is too small"
            ctypes.memset(workspace, 0xFF, size)
        module.log.append(self.operation)
        self._run([tensor.at(addresses[tensor.uid]) for tensor in self.tensors])

    def _run(self, arrays):
        at = [tensor.output for tensor in self.tensors].index(True)
        inputs = [array.astype(np.float64) for array in arrays]
        if Note.TENSOR_CORE in self.plan[0]:
            inputs = [tf32(array).astype(np.float64) for array in arrays]
        run = (self._below, self._gradient, self._forward)[at]
        arrays[at][...] = run(*inputs)

    # Below by group g: images ngcuvij are windows, i and j their places, u and v the element.

    def _windows(self, image):
        """A view of a padded image: (n, g, c, u, v, i, j)."""
        filter_ = self.tensors[1].dim
        n, channels = image.shape[:2]
        steps = image.strides
        (row, column), (down, right) = self.axes["dilation"], self.axes["stride"]
        shape = n, channels // filter_[1], *filter_[1:], *self._counts()
        strides = (
            *(steps[0], filter_[1] * steps[1], steps[1]),
            *(row * steps[2], column * steps[3], down * steps[2], right * steps[3]),
        )
        return np.lib.stride_tricks.as_strided(image, shape, strides)

    def _padding(self):
        pairs = zip(self.axes["pre_padding"], self.axes["post_padding"], strict=True)
        return [(0, 0), (0, 0), *pairs]

    def _by_group(self, array, axis):
        """The axis of the output's channels, in two."""
        groups = self.tensors[0].dim[1] // self.tensors[1].dim[1]
        shape = [*array.shape]
        shape[axis : axis + 1] = groups, shape[axis] // groups
        return array.reshape(shape)

    def _forward(self, image, filter_, output):
        windows = self._windows(np.pad(image, self._padding()))
        found = np.einsum("ngcuvij,gkcuv->ngkij", windows, self._by_group(filter_, 0))
        return found.reshape(output.shape)

    def _gradient(self, image, filter_, output):
        windows = self._windows(np.pad(image, self._padding()))
        found = np.einsum("ngcuvij,ngkij->gkcuv", windows, self._by_group(output, 1))
        return found.reshape(filter_.shape)

    def _below(self, image, filter_, output):
        padded = np.pad(np.zeros_like(image), self._padding())
        each = np.einsum(
            "gkcuv,ngkij->uvngcij", self._by_group(filter_, 0), self._by_group(output, 1)
        )
        windows = self._windows(padded)
        for u, v in np.ndindex(*each.shape[:2]):  # for one element, windows do not overlap
            windows[:, :, :, u, v] += each[u, v]
        inside = (slice(pre, pre + n) for (pre, _), n in zip(self._padding(), image.shape,
                                                             strict=True))  # fmt: skip
        return padded[tuple(inside)]


def tf32(array):
    """Rounded to ten bits after the point."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)
