"""What a type checker says of programs that use bpx."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_docs import PAGES, ROOT, programs

# With all types written out. Where a call is right, a `type: ignore` is an error.
TYPED = """
from dataclasses import dataclass, replace
from typing import Any, ClassVar, assert_type

import numpy as np
import bpx
import bpx.sklearn
from bpx.layers import Activation, Columns, Concatenate, Conv2D, Dense, Embedding, Flatten
from bpx.layers import Input, Layer, LayerNorm, Residual

x, y = np.zeros((20, 3)), np.zeros(20, np.int64)


@dataclass(frozen=True)
class Gain(Layer):
    name: ClassVar[str] = "gain"
    ends_in_activation: ClassVar[bool] = True
    activation: Any = bpx.layers.activation_field("relu")

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.shape_in

    def parameters(self) -> dict[str, bpx.layers.Parameter]:
        return {"gain": bpx.layers.Parameter(self.shape_in, bpx.initializers.Constant(1.0))}

    def forward(self, x: Any, p: Any, ctx: Any) -> tuple[Any, Any]:
        return x * p.gain, x

    def backward(self, delta: Any, saved: Any, p: Any, out: Any, ctx: Any) -> Any:
        return delta * p.gain


@dataclass(frozen=True)
class SignDescent(bpx.optimizers.Optimizer):
    def update(self, theta: Any, grad: Any, state: bpx.optimizers.State, step: int) -> None:
        theta -= self.rate(state, step) * np.sign(grad)


class StopAt(bpx.Callback):
    def on_epoch_end(self, run: bpx.callbacks.Run) -> None:
        if run.history["validation_accuracy"][-1] >= 0.9:
            run.stop("reached")


class Square(bpx.Activation):
    def forward(self, xp: Any, z: Any) -> Any:
        return z * z


layers = [Input(3), Input(x.shape[1:]), Conv2D(8, (3, 3), "relu", weights="he-normal"), Gain()]
stack: list[Layer] = [Dense(3), Gain(Square())]
dense, conv, block = Dense(3, "tanh", "zeros"), Conv2D(4, 3), Residual(stack, "auto")
Residual((dense,), dense), Residual([conv], [conv], trainable=False)
Embedding(9, 2, "normal"), LayerNorm(scale=bpx.initializers.Zeros()), Activation(Square())
Concatenate([[], stack, (Columns(range(3)), Columns(columns=[0, 2]))], axis=1, trainable=False)
category: list[Layer] = [Columns([0]), Embedding(9, 2), Flatten()]
joined = Concatenate([category, [Columns(np.arange(1, 3))]])
assert_type(joined.branches, tuple[tuple[Layer, ...], ...])
assert_type(Columns([0]).columns, tuple[int, ...])
assert_type(dense.activation, bpx.Activation)
assert_type(conv.activation, bpx.Activation)
assert_type(conv.weights, bpx.initializers.Initializer | None)
assert_type(block.layers, tuple[Layer, ...])
assert_type(block.projection, tuple[Layer, ...] | str | None)
assert_type(Input(3).shape, tuple[int, ...])
assert_type(replace(conv, activation="relu"), Conv2D)

net = bpx.Network([784, 30, 10], hidden="relu", output="softmax", cost="quadratic")
history = net.fit(x, y, optimizer="adam", callbacks=[StopAt()], validation=(x, y))
assert_type(history["validation_accuracy"][-1], float)
net.fit(x, y, optimizer=SignDescent(bpx.schedules.Cosine(0.1, 100)), callbacks=lambda run: None)
cost = bpx.CustomCost(lambda xp, a, y: xp.sum((a - y) ** 2, axis=1), lambda xp, a, y: 2 * (a - y))
cube = bpx.CustomActivation(lambda xp, z: z**3, lambda xp, z, a: 3 * z**2)
bpx.Network([3, 2, 1], hidden=[cube], output=bpx.register("cube", cube), cost=cost)
net.parameters -= 0.1 * net.backprop(x, y).flat
net.weights, net.columns, net.optimizer = [np.ones((1, 3))], ["a", "b", "c"], "adam"
print(float(net.backprop(x, y).cost), net.trace(x, y)[0].delta.shape)
again: bpx.Network = bpx.load("net.safetensors")
voters = bpx.load("ensemble.safetensors")  # or Any, of which a checker asks nothing
assert isinstance(voters, bpx.Ensemble)
print(bpx.load("net.safetensors").predict(x), voters.members[0].accuracy(x, y))
bpx.Ensemble.of(3, net, combine="vote").fit(x, y, epochs=3, processes=2)
data, held_out = bpx.open_data("x.npy", y, budget="1 MB").hold_out(5)
net.fit(data, validation=held_out)
bpx.sklearn.MLPClassifier(hidden_layer_sizes=(5,), activation="relu").fit(x, y).predict(x)
bpx.sklearn.NetworkClassifier(net, epochs=3, l2=0.1).fit(x, y).network_.save("net.safetensors")

bpx.SGD(lr=3)  # type: ignore[call-arg]
bpx.SGD("0.1")  # type: ignore[arg-type]
net.fit(x, y, epochs="3")  # type: ignore[arg-type]
net.fit(x, y, optimizer=3)  # type: ignore[arg-type]
Dense("10")  # type: ignore[arg-type]
Dense(784, 30)  # type: ignore[arg-type]
Dense(3, activation=None)  # type: ignore[arg-type]
Dense(3, weights=0.0)  # type: ignore[arg-type]
Conv2D(3)  # type: ignore[call-arg]
Conv2D(3, 3, 3)  # type: ignore[arg-type]
Residual(dense)  # type: ignore[arg-type]
Concatenate([dense])  # type: ignore[list-item]
Columns(3)  # type: ignore[arg-type]
dense(x)  # type: ignore[operator]
Residual([Square()])  # type: ignore[list-item]
Input()  # type: ignore[call-arg]
Input("3")  # type: ignore[arg-type]
replace(conv, activation=3)  # type: ignore[arg-type]
dense.activation = Square()  # type: ignore[misc]
"""


def test_programs_pass_mypy(tmp_path):
    """The docs' and the examples' may have functions without types."""
    pytest.importorskip("mypy", reason="mypy is not installed: it checks the programs")
    texts = {f"{page.stem}_.py": "\n".join(programs(page)) for page in PAGES}  # no sklearn.py
    texts["typed.py"] = TYPED
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    untyped = "--allow-untyped-defs --allow-untyped-calls --allow-incomplete-defs"
    options = f"{untyped} --disable-error-code=var-annotated --ignore-missing-imports"
    command = [sys.executable, "-m", "mypy", "--no-incremental", *options.split()]
    files = [*(tmp_path / name for name in texts), *(ROOT / "examples").glob("*.py")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
