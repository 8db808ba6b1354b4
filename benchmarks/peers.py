"""The same training problem in every library, each the way its own users would write it.

A peer is a function of a case that returns ``run(steps)``: a shuffled pass over the data, in
mini-batches, of that many steps. Libraries are imported where they are used, so that one that is
not installed is left out and the others start without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import images
import numpy as np
from cases import Case, Images

Run = Callable[[int], object]
Arrays = list[np.ndarray]


def batches(order: np.ndarray, m: int, steps: int) -> Iterator[np.ndarray]:
    for step in range(steps):
        yield order[step * m : (step + 1) * m]


# --- the limits ---------------------------------------------------------------------------------


def products(case: Case) -> Run:
    """The matrix products of a step alone, in preallocated arrays."""
    draw = np.random.default_rng(0).standard_normal
    a = [draw((case.m, n), dtype=np.float32) for n in case.sizes]
    d = [draw((case.m, n), dtype=np.float32) for n in case.sizes]
    # Scaled, so that nothing overflows however deep the network is.
    w = [weights for weights, _ in case.initial()]
    d = [delta * np.float32(1e-3) for delta in d]
    multiply = multiplier(a, d, w, [np.empty_like(weights) for weights in w])

    def run(steps: int) -> None:
        for _ in range(steps):
            multiply()

    return run


def multiplier(a: Arrays, d: Arrays, w: Arrays, g: Arrays) -> Callable[[], None]:
    """A step's products, between these arrays: activations, deltas, weights, gradients."""

    def multiply() -> None:
        for i, weights in enumerate(w):
            np.matmul(a[i], weights.T, out=a[i + 1])
        for i in range(len(w) - 1, -1, -1):
            if i:
                np.matmul(d[i + 1], w[i], out=d[i])
            np.matmul(d[i + 1].T, a[i], out=g[i])

    return multiply


def adam(
    p: np.ndarray, g: np.ndarray, v: np.ndarray, s: np.ndarray, t: np.ndarray, rate: float
) -> None:
    """One update of p, in place; the rate includes the corrections of the step, t is scratch."""
    v *= 0.9
    np.multiply(g, 0.1, t)
    v += t
    np.multiply(g, g, g)
    s *= 0.999
    g *= 0.001
    s += g
    np.sqrt(s, t)
    t += 1e-8
    np.divide(v, t, t)
    t *= rate
    p -= t


def careful_numpy(case: Case) -> Run:
    """Plain NumPy by somebody who profiles: `out=` everywhere, one gather a step."""
    x, y = case.data()
    draw = np.random.default_rng(0)
    targets = y if case.is_regression else np.eye(case.sizes[-1], dtype=np.float32)[y]
    weights = [w for w, _ in case.initial()]
    biases = [b for _, b in case.initial()]
    a = [np.empty((case.m, n), np.float32) for n in case.sizes]
    delta = [np.empty_like(array) for array in a]
    wanted = np.empty_like(a[-1])
    params = [*weights, *biases]
    grads = [np.empty_like(p) for p in params]
    slots = [[np.zeros_like(p) for p in params] for _ in range(2)]
    scratch = [np.empty_like(p) for p in params]
    layers = len(weights)
    ticks = 0

    def squash(z: np.ndarray, kind: str) -> None:
        if kind == "sigmoid":
            np.multiply(z, np.float32(0.5), z)
            np.tanh(z, z)
            np.multiply(z, np.float32(0.5), z)
            np.add(z, np.float32(0.5), z)
        elif kind == "relu":
            np.maximum(z, np.float32(0), z)
        elif kind == "softmax":
            z -= z.max(axis=1, keepdims=True)
            np.exp(z, z)
            z /= z.sum(axis=1, keepdims=True)

    def step(rows: np.ndarray) -> None:
        nonlocal ticks
        ticks += 1
        x.take(rows, 0, a[0], "clip")
        targets.take(rows, 0, wanted, "clip")
        for i in range(layers):
            np.matmul(a[i], weights[i].T, out=a[i + 1])
            np.add(a[i + 1], biases[i], a[i + 1])
            squash(a[i + 1], case.output if i == layers - 1 else case.hidden)
        np.subtract(a[-1], wanted, delta[-1])
        if case.output == "sigmoid":
            np.multiply(delta[-1], a[-1] * (1 - a[-1]), delta[-1])
        for i in range(layers - 1, -1, -1):
            np.matmul(delta[i + 1].T, a[i], out=grads[i])
            np.sum(delta[i + 1], axis=0, out=grads[layers + i])
            if i:
                np.matmul(delta[i + 1], weights[i], out=delta[i])
                if case.hidden == "sigmoid":
                    np.multiply(delta[i], a[i] * (1 - a[i]), delta[i])
                else:
                    np.multiply(delta[i], a[i] > 0, delta[i])
        for p, g, v, s, t in zip(params, grads, slots[0], slots[1], scratch, strict=True):
            if case.rate is None:
                np.divide(g, np.float32(len(rows)), g)
                rate = 0.001 * (1 - 0.999**ticks) ** 0.5 / (1 - 0.9**ticks)
                adam(p, g, v, s, t, rate)
            else:
                np.multiply(g, np.float32(case.rate / len(rows)), g)
                if case.momentum:
                    v *= np.float32(case.momentum)
                    v -= g
                    p += v
                else:
                    p -= g

    def run(steps: int) -> None:
        for rows in batches(draw.permutation(case.n), case.m, steps):
            if len(rows) == case.m:
                step(rows)

    return run


def seed_loop(case: Case) -> Run:
    """The book's program: one sample at a time, column vectors."""
    if case.name != "book":
        raise LookupError("the book's program has sigmoid layers and plain SGD only")
    x, y = case.data()
    samples = [
        (row.reshape(-1, 1), np.eye(10)[k].reshape(-1, 1)) for row, k in zip(x, y, strict=True)
    ]
    # Its weights are float64, and its images float32.
    weights = [w.astype(float) for w, _ in case.initial()]
    biases = [b.reshape(-1, 1).astype(float) for _, b in case.initial()]
    draw = np.random.default_rng(0)

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-z))

    def backprop(x: np.ndarray, y: np.ndarray) -> tuple[list, list]:
        activation, activations, zs = x, [x], []
        for b, w in zip(biases, weights, strict=True):
            z = np.dot(w, activation) + b
            zs.append(z)
            activation = sigmoid(z)
            activations.append(activation)
        nabla_b, nabla_w = [np.zeros(0)] * len(biases), [np.zeros(0)] * len(weights)
        delta = (activations[-1] - y) * sigmoid(zs[-1]) * (1 - sigmoid(zs[-1]))
        for layer in range(1, len(weights) + 1):
            if layer > 1:
                sp = sigmoid(zs[-layer]) * (1 - sigmoid(zs[-layer]))
                delta = np.dot(weights[-layer + 1].T, delta) * sp
            nabla_b[-layer] = delta
            nabla_w[-layer] = np.dot(delta, activations[-layer - 1].T)
        return nabla_b, nabla_w

    def run(steps: int) -> None:
        nonlocal weights, biases
        for rows in batches(draw.permutation(case.n), case.m, steps):
            sum_b = [np.zeros(b.shape) for b in biases]
            sum_w = [np.zeros(w.shape) for w in weights]
            for row in rows:
                delta_b, delta_w = backprop(*samples[row])
                sum_b = [s + d for s, d in zip(sum_b, delta_b, strict=True)]
                sum_w = [s + d for s, d in zip(sum_w, delta_w, strict=True)]
            eta = case.rate / len(rows)
            weights = [w - eta * s for w, s in zip(weights, sum_w, strict=True)]
            biases = [b - eta * s for b, s in zip(biases, sum_b, strict=True)]

    return run


# --- bpx ----------------------------------------------------------------------------------------


def bpx_network(case: Case, backend: str | None = None):
    import bpx

    if isinstance(case, Images):
        return images.bpx_network(case.network, backend)
    cost = {"nll": "log-likelihood"}.get(case.cost, case.cost)
    return bpx.Network(case.sizes, hidden=case.hidden, output=case.output, cost=cost, seed=0,
                       backend=backend)  # fmt: skip


def bpx_optimizer(case: Case):
    import bpx

    return bpx.Adam() if case.rate is None else bpx.SGD(case.rate, case.momentum)


def bpx_fit(case: Case) -> Run:
    """`Network.fit`, with everything that it does: costs, accuracies, history."""
    x, y = case.data()
    net, optimizer = bpx_network(case), bpx_optimizer(case)

    def run(steps: int) -> None:
        rows = min(steps * case.m, case.n)
        net.fit(x[:rows], y[:rows], epochs=1, batch_size=case.m, optimizer=optimizer,
                check_finite=False)  # fmt: skip

    return run


# --- libraries ----------------------------------------------------------------------------------


def torch_model(case: Case):
    import torch

    if isinstance(case, Images):
        return images.torch_model(case.network)
    act = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU}[case.hidden]
    layers: list[torch.nn.Module] = []
    for (into, out), (w, b) in zip(pairwise(case.sizes), case.initial(), strict=True):
        linear = torch.nn.Linear(into, out)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, act()]
    layers.pop()
    if case.output == "sigmoid":
        layers.append(torch.nn.Sigmoid())
    return torch.nn.Sequential(*layers)


def torch_problem(case: Case, device: str = "cpu"):
    """The model, the cost of a batch, and x and y, on a device."""
    import torch

    x, y = (torch.from_numpy(array).to(device) for array in case.data())
    if case.cost == "quadratic" and not case.is_regression:
        y = torch.nn.functional.one_hot(y, case.sizes[-1]).float()
    model = torch_model(case).to(device)

    def loss(x, y):
        out = model(x)
        if case.cost == "nll":
            return torch.nn.functional.cross_entropy(out, y)
        return 0.5 * ((out - y) ** 2).sum(1).mean()

    return model, loss, x, y


def torch_optimizer(case: Case, model, **options):
    import torch

    if case.rate is None:
        return torch.optim.Adam(model.parameters(), 0.001, **options)
    return torch.optim.SGD(model.parameters(), case.rate, momentum=case.momentum, **options)


def torch_eager(case: Case, *, compiled: bool = False) -> Run:
    import torch

    model, loss, x, y = torch_problem(case)
    optimizer = torch_optimizer(case, model)
    if compiled:
        loss = torch.compile(loss)

    def run(steps: int) -> None:
        for rows in torch.randperm(case.n)[: steps * case.m].split(case.m):
            optimizer.zero_grad(set_to_none=True)
            loss(x[rows], y[rows]).backward()
            optimizer.step()

    return run


def torch_compiled(case: Case) -> Run:
    return torch_eager(case, compiled=True)


def jax_scan(case: Case, *, shuffled_there: bool = False) -> Run:
    """The epoch in one `lax.scan`, each batch gathered inside it.

    The permutation is NumPy's, or drawn where JAX computes.
    """
    import jax
    import jax.numpy as jnp

    x, y = case.data()
    if not case.is_regression:
        y = y.astype(np.int32)
    x, y = jnp.asarray(x), jnp.asarray(y)
    params = [(jnp.asarray(w.T.copy()), jnp.asarray(b)) for w, b in case.initial()]
    act = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[case.hidden]

    def loss(params, x, y):
        for w, b in params[:-1]:
            x = act(x @ w + b)
        out = x @ params[-1][0] + params[-1][1]
        if case.cost == "nll":
            return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1).mean()
        if not case.is_regression:
            out, y = jax.nn.sigmoid(out), jax.nn.one_hot(y, case.sizes[-1])
        return 0.5 * ((out - y) ** 2).sum(1).mean()

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros, jnp.zeros((), jnp.float32))

    def step(x, y, state, rows):
        params, m, v, t = state
        cost, grad = jax.value_and_grad(loss)(params, x[rows], y[rows])
        t = t + 1
        if case.rate is None:
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grad)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grad)
            rate = 0.001 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            params = jax.tree.map(
                lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), params, m, v
            )
        elif case.momentum:
            m = jax.tree.map(lambda m, g: case.momentum * m - case.rate * g, m, grad)
            params = jax.tree.map(jnp.add, params, m)
        else:
            params = jax.tree.map(lambda p, g: p - case.rate * g, params, grad)
        return (params, m, v, t), cost

    # x and y are arguments: closed over, they would be constants, and JAX slower by a factor.
    @partial(jax.jit, donate_argnums=2)
    def epoch(x, y, state, order):
        return jax.lax.scan(partial(step, x, y), state, order)

    state = jax.tree.map(jnp.array, state)  # donated buffers must not be shared

    @partial(jax.jit, static_argnums=1)
    def there(key, steps):
        key, here = jax.random.split(key)
        order = jax.random.permutation(here, case.n)[: steps * case.m]
        return key, order.reshape(steps, case.m)

    draw, key = np.random.default_rng(0), jax.random.key(0)

    def run(steps: int) -> None:
        nonlocal state, key
        steps = min(steps, case.n // case.m)
        if shuffled_there:
            key, order = there(key, steps)
        else:
            order = draw.permutation(case.n)[: steps * case.m].reshape(steps, case.m)
            order = order.astype(np.int32)
        state, costs = epoch(x, y, state, order)
        costs.block_until_ready()

    return run


def scikit_learn(case: Case) -> Run:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x, y = case.data()
    kind = MLPRegressor if case.is_regression else MLPClassifier
    options = {"solver": "adam"} if case.rate is None else {
        "solver": "sgd", "learning_rate_init": min(case.rate, 0.1), "momentum": case.momentum,
    }  # fmt: skip
    model = kind(
        hidden_layer_sizes=case.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(case.hidden, case.hidden),
        batch_size=case.m,
        alpha=0.0,
        **options,
    )
    classes = {} if case.is_regression else {"classes": np.arange(case.sizes[-1])}
    y = y[:, 0] if case.is_regression else y

    def run(steps: int) -> None:
        rows = min(steps * case.m, case.n)
        model.partial_fit(x[:rows], y[:rows], **classes)

    return run


def thinc_chain(case: Case) -> Run:
    from thinc.api import SGD, Adam, Linear, Relu, Sigmoid, Softmax, chain

    x, y = case.data()
    targets = y if case.is_regression else np.eye(case.sizes[-1], dtype=np.float32)[y]
    hidden = {"sigmoid": Sigmoid, "relu": Relu}[case.hidden]
    last = {"sigmoid": Sigmoid, "softmax": Softmax, "identity": Linear}[case.output]
    layers = [hidden(n) for n in case.sizes[1:-1]] + [last(case.sizes[-1])]
    model = chain(*layers)
    model.initialize(X=x[: case.m], Y=targets[: case.m])
    if case.rate is None:
        optimizer = Adam(0.001, grad_clip=0.0, L2=0.0)
    else:  # thinc has no momentum
        optimizer = SGD(case.rate, grad_clip=0.0, L2=0.0, use_averages=False)
    draw = np.random.default_rng(0)

    def run(steps: int) -> None:
        for rows in batches(draw.permutation(case.n), case.m, steps):
            out, backprop = model.begin_update(x[rows])
            backprop((out - targets[rows]) / np.float32(len(rows)))
            model.finish_update(optimizer)

    return run


TRAINING: dict[str, Callable[[Case], Run]] = {
    "bpx": bpx_fit,
    "bpx fast": bpx_fit,
    "products": products,
    "JAX scan": jax_scan,
    "PyTorch": torch_eager,
    "torch.compile": torch_compiled,
    "scikit-learn": scikit_learn,
    "thinc": thinc_chain,
    "NumPy, careful": careful_numpy,
    "the book's loop": seed_loop,
}


# --- inference ----------------------------------------------------------------------------------


def inference(peer: str, case: Case) -> Run:
    """``run(times)`` predicts class probabilities of `case.n` samples that many times."""
    x, _ = case.data()
    if peer.startswith("bpx"):
        net = bpx_network(case)
        return _repeat(lambda: net.feedforward(x))
    if peer == "PyTorch":
        import torch

        model, tensor = torch_model(case), torch.from_numpy(x)
        model.eval()

        def forward() -> None:
            with torch.inference_mode():
                model(tensor)

        return _repeat(forward)
    if peer == "ONNX Runtime":
        return _repeat(_onnx(case, x))
    if peer == "scikit-learn":
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(case.sizes[1:-1], activation="logistic", batch_size=10)
        small = np.zeros((20, case.sizes[0]), np.float32)
        model.partial_fit(small, np.arange(20) % 10, classes=np.arange(10))
        return _repeat(lambda: model.predict_proba(x))
    if peer == "JAX scan":
        import jax

        params = [(jax.numpy.asarray(w.T.copy()), b) for w, b in case.initial()]

        @jax.jit
        def probabilities(x):
            for w, b in params:
                x = jax.nn.sigmoid(x @ w + b)
            return x

        return _repeat(lambda: np.asarray(probabilities(x)))
    if peer == "NumPy, careful":
        params = [(w.T, b) for w, b in case.initial()]

        def plain() -> np.ndarray:
            a = x
            for w, b in params:
                a = a @ w
                a += b
                a *= np.float32(0.5)
                np.tanh(a, a)
                a *= np.float32(0.5)
                a += np.float32(0.5)
            return a

        return _repeat(plain)
    if peer == "products":
        weights = [w.T for w, _ in case.initial()]
        outs = [np.empty((case.n, n), np.float32) for n in case.sizes[1:]]

        def only() -> None:
            a = x
            for w, out in zip(weights, outs, strict=True):
                a = np.matmul(a, w, out=out)

        return _repeat(only)
    raise LookupError(f"{peer} is not timed here")


def _repeat(call: Callable[[], object]) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run


def _onnx(case: Case, x: np.ndarray) -> Callable[[], object]:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, name = [], [], "x"
    for i, (w, b) in enumerate(case.initial()):
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"], transB=1))
        nodes.append(helper.make_node("Sigmoid", [f"z{i}"], [f"a{i}"]))
        name = f"a{i}"
    shapes = [("x", case.sizes[0]), (name, case.sizes[-1])]
    first, last = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, k]) for n, k in shapes
    )
    graph = helper.make_graph(nodes, "mlp", [first], [last], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": x})


INFERENCE = (
    "bpx", "bpx fast", "products", "ONNX Runtime", "PyTorch", "JAX scan", "scikit-learn",
    "NumPy, careful",
)  # fmt: skip
