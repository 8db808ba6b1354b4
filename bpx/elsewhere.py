"""What has another name in other libraries and in the book's programs, and what it is here.

Tables of keywords and of attributes, by what a user types; `keywords` puts them into messages.
"""

# Of networks and of training.
_DROPOUT = "it is a layer: [bpx.layers.Input(20), ..., bpx.layers.Dropout(0.5), ...]"
# Of the constructor of networks.
OF_NETWORKS = {
    "activation": 'here it is hidden="relu", and output= for the last layer',
    "alpha": "it is for training, net.fit(..., l2=...)",
    "batch_norm": "it is a layer: [bpx.layers.Input(20), ..., bpx.layers.BatchNorm(), ...]",
    "batch_size": "it is for training, net.fit(..., batch_size=...)",
    "device": 'here it is backend="cupy", or "numpy"',
    "dropout": _DROPOUT,
    "epochs": "it is for training, net.fit(..., epochs=...)",
    "hidden_activation": 'here it is hidden="relu"',
    "hidden_layer_sizes": "here all sizes are the first argument, such as [20, 100, 3]",
    "initializer": 'here it is weights="he-normal" or another',
    "l2": "it is for training, net.fit(..., l2=...)",
    "learning_rate": "the optimizer has it, fit(..., optimizer=bpx.SGD(0.1))",
    "learning_rate_init": "the optimizer has it, fit(..., optimizer=bpx.Adam(0.001))",
    "loss": 'here it is cost="cross-entropy" or another',
    "max_iter": "it is for training, net.fit(..., epochs=...)",
    "optimizer": "it is for training, fit(..., optimizer=bpx.SGD(0.1))",
    "output_activation": 'here it is output="softmax"',
    "random_state": "here it is seed=0",
}
# Of training.
EVERY = "here it is bpx.Checkpoint(folder, epochs=...), or steps= or seconds="
_VALIDATION = "here it is validation=(x, y)"
OF_FIT = {
    "alpha": "here it is l2=",
    "class_weight": "here it is by sample, sample_weight=np.array([1.0, 5.0])[y]",
    "cost": "the network has it, bpx.Network(..., cost=...)",
    "device": 'the network has it, bpx.Network(..., backend="cupy")',
    "dropout": _DROPOUT,
    "early_stopping": "here it is callbacks=bpx.EarlyStopping(10), with validation=(x, y)",
    "early_stopping_n": (
        'here it is callbacks=bpx.EarlyStopping(10, monitor="validation_accuracy"), with '
        "validation=(x, y)"
    ),
    "eta": "the optimizer has it, optimizer=bpx.SGD(0.1)",
    **dict.fromkeys(
        ("X_val", "eval_set", "evaluation_data", "test_data", "validation_data"), _VALIDATION
    ),
    "every": EVERY,
    "gradient_clip": "here it is clip_norm=, or clip_value= for each element",
    "learning_rate": "the optimizer has it, optimizer=bpx.SGD(0.1)",
    "lmbda": "here it is l2=",
    "loss": "the network has it, bpx.Network(..., cost=...)",
    "lr": "the optimizer has it, optimizer=bpx.SGD(0.1)",
    "lr_scheduler": "the optimizer has it, optimizer=bpx.SGD(bpx.schedules.Cosine(0.1, 1000))",
    "max_iter": "here it is epochs=",
    "metrics": "here they are callbacks=[bpx.Metric(name, function)]",
    "momentum": "the optimizer has it, optimizer=bpx.SGD(0.1, momentum=0.9)",
    **{
        f"monitor_{part}_{column}": f'it always is, history["{ours}_{column}"] of what fit returns'
        for part, ours in (("evaluation", "validation"), ("training", "training"))
        for column in ("accuracy", "cost")
    },
    "n_jobs": 'it uses the cores by itself; among processes it is parallel="mpi"',
    "patience": "here it is callbacks=bpx.EarlyStopping(10)",
    "random_state": "the network has it, bpx.Network(..., seed=0)",
    "save_best_only": "here it is callbacks=bpx.EarlyStopping(10), with validation=(x, y)",
    "schedule": "the optimizer has it, optimizer=bpx.SGD(bpx.schedules.Cosine(0.1, 1000))",
    "scheduler": "the optimizer has it, optimizer=bpx.SGD(bpx.schedules.Cosine(0.1, 1000))",
    "seed": "the network has it, bpx.Network(..., seed=0)",
    "steps_per_epoch": "an epoch is once through x, or through an iterable of mini-batches",
    "validation_split": "cut rows off, fit(x[k:], y[k:], validation=(x[:k], y[:k]))",
    "verbose": "here it is progress=True",
    "weight_decay": "here it is l2=weight_decay * len(x), or optimizer=bpx.AdamW(0.001)",
}
_BAGGING = (
    "give each member rows of your own, for net in ensemble.members: "
    "k = net.generator.integers(len(x), size=len(x)); net.fit(x[k], y[k])"
)
OF_FIT_OF_ENSEMBLES = OF_FIT | {
    "bagging": _BAGGING,
    "bootstrap": _BAGGING,
    "n_jobs": "here it is processes=",
}
# Of scikit-learn's estimators.
_HELD_OUT = "it goes to fit(X, y, X_val=..., y_val=...)"
OF_MLPS = {
    **dict.fromkeys(("l2", "lmbda", "weight_decay"), "here it is alpha="),
    **dict.fromkeys(("eta", "lr"), "here it is learning_rate_init="),
    **dict.fromkeys(("X_val", "eval_set", "validation", "validation_data"), _HELD_OUT),
    **dict.fromkeys(
        ("accumulate", "augment", "build", "clip_norm", "clip_value", "drop_last", "l1"),
        "NetworkClassifier and NetworkRegressor have it",
    ),
    "cost": "here it is loss=",
    "epochs": "here it is max_iter=",
    "hidden": "here it is hidden_layer_sizes=, such as (100, 50)",
    "metrics": "here it is scoring=, with early_stopping=True",
    "optimizer": 'here it is solver="adam", or "sgd" or "lbfgs"',
    "patience": "here it is n_iter_no_change=, with early_stopping=True",
    "progress": "here it is verbose=True",
    "seed": "here it is random_state=",
    "validation_split": "here it is validation_fraction=, with early_stopping=True",
}
OF_FIT_OF_ESTIMATORS = {
    **dict.fromkeys(
        (
            "batch_size", "callbacks", "early_stopping", "learning_rate",
            "max_iter", "optimizer", "progress", "scoring", "shuffle", "validation_fraction",
            "verbose", "warm_start",
        ),
        "it goes to the constructor",
    ),
    "class_weight": "it goes to the constructor of a classifier",
    "epochs": "it goes to the constructor, and is max_iter= of an MLP",
    "eval_set": "here it is X_val= and y_val=",
    "validation": "here it is X_val= and y_val=",
    "validation_split": "it goes to the constructor, and is validation_fraction=",
}  # fmt: skip
# Of predictions and evaluations.
OF_PREDICTIONS = {
    "batch_size": "large inputs are worked through in slices anyway",
    "lmbda": "here it is l2=, of total_cost",
    "threshold": "compare the outputs yourself, net(x) > 0.3",
    "training": "net.activations(x, training=True)[-1] are the outputs as in training",
    "verbose": "it prints nothing",
}
# Of those of them that take no y.
X_ALONE = "it takes x alone, and net.evaluate(x, y) says how near the outputs are to y"
_NO_MASKS = (
    "there is no masking: the number of the padding has a vector as all others, and a callback's "
    "on_step_end can keep it zero, run.net.weights[0][0] = 0.0"
)
# Of layers, by the argument that replaces them, if it is one; names that are nearly ours are found
# without.
OF_LAYERS = {
    "": {
        "in_channels": "a layer finds the size of its inputs itself",
        "in_features": "a layer finds the size of its inputs itself",
        **dict.fromkeys(
            ("kernel_regularizer", "l2", "weight_decay"),
            "it is for training, net.fit(..., l2=...)",
        ),
        "l1": "it is for training, net.fit(..., l1=...)",
    },
    "axis": {"dim": "here it is axis=, of a sample, whose first is 0"},
    "bias": {"bias_initializer": "here it is bias="},
    "channels": {
        "filters": "here they are channels=, the first argument",
        "out_channels": "here they are channels=, the first argument",
    },
    "count": {  # of an Embedding
        "mask_zero": _NO_MASKS,
        "padding_idx": _NO_MASKS,
    },
    "rate": {"p": "here it is rate="},
    "units": {"out_features": "here they are units=, the first argument"},
    "weights": {"kernel_initializer": 'here it is weights=, such as weights="he-normal"'},
}
# Of layers that enlarge images.
_NEAREST = 'each element is repeated, as by "nearest"; a convolution after it smooths'
OF_UPSAMPLING = {
    "scale": {
        "interpolation": _NEAREST,
        "mode": _NEAREST,
        "scale_factor": "here it is scale=",
        "size": "here it is scale=, how many times as large the outputs are",
    },
}
# Of optimizers.
OF_OPTIMIZERS = {"learning_rate": {"eta": "here it is learning_rate=, the first argument"}}
# Of schedules, whose steps are updates.
OF_SCHEDULES = {
    "": dict.fromkeys(
        ("initial_learning_rate", "lr", "learning_rate", "max_lr"),
        "the rate is the first argument",
    ),
    "steps": {
        "T_max": "here it is steps=",
        "epochs": "here it is steps=, of which an epoch has ceil(n / batch_size)",
        "total_steps": "here it is steps=",
    },
}
# Of schedules too: what arguments without a default are.
NEEDED_BY_SCHEDULES = {
    "steps": "those of a whole run are epochs * len(bpx.batches(x, y, batch_size))",
}
# Of bpx itself.
_SIGMOID = "here it is s.forward(np, z), for s = bpx.activations.Sigmoid()"
_SIGMOID_PRIME = (
    "here it is s.derivative(np, z, s.forward(np, z)), for s = bpx.activations.Sigmoid()"
)
_RELU = 'here it is "relu", as in Dense(30, "relu"), or bpx.layers.Activation("relu")'
_MNIST = "here it is train, validation, test = bpx.datasets.mnist(), and y are labels"
ATTRIBUTES_OF_BPX = {
    **dict.fromkeys(
        ("BCELoss", "CrossEntropyCost", "CrossEntropyLoss"),
        'here it is bpx.Network(..., cost="cross-entropy"), the default',
    ),
    "CSVLogger": "here it is history.to_csv(path), or run.history.to_csv(path) in a callback",
    "DataLoader": "here it is bpx.batches(x, y, 32), or bpx.open_data(path) for files",
    "GaussianNLLLoss": 'here it is bpx.Network(..., cost="gaussian-nll")',
    "LBFGS": (
        "it takes no mini-batches: docs/recipes.md has it by SciPy in some lines, and in "
        'bpx.sklearn MLPClassifier and MLPRegressor have it, solver="lbfgs"'
    ),
    **dict.fromkeys(
        ("MSE", "MSELoss", "QuadraticCost"), 'here it is bpx.Network(..., cost="quadratic")'
    ),
    "LRFinder": "docs/training.md has one in some lines, at Finding a learning rate",
    "Linear": "here it is bpx.layers.Dense",
    "MLPClassifier": "it is bpx.sklearn.MLPClassifier: import bpx.sklearn",
    "MLPRegressor": "it is bpx.sklearn.MLPRegressor: import bpx.sklearn",
    "Model": "here it is bpx.Network([bpx.layers.Input(784), ...])",
    "ModelCheckpoint": "here it is fit(..., checkpoint=folder); bpx.EarlyStopping keeps the best",
    "Progress": "here it is fit(..., progress=True), or bpx.callbacks.Progress",
    "ReLU": _RELU,
    "Sequential": "here it is bpx.Network([bpx.layers.Input(784), ...])",
    "load_model": "here it is bpx.load(path)",
    "mnist_loader": _MNIST,
    **dict.fromkeys(("network", "network2", "network3"), "here it is bpx.Network"),
    "nn": "here it is bpx.layers",
    "manual_seed": "a network has its own, bpx.Network(..., seed=0)",
    "optim": "here it is bpx.optimizers",
    "relu": _RELU,
    "seed": "a network has its own, bpx.Network(..., seed=0)",
    "set_seed": "a network has its own, bpx.Network(..., seed=0)",
    "sigmoid": _SIGMOID,
    "sigmoid_prime": _SIGMOID_PRIME,
    "sklearn": "import bpx.sklearn",
    "tanh": _RELU.replace("relu", "tanh"),
    "train": "here it is net.fit(x, y)",
    "vectorized_result": "there is no need for it, y are labels; np.eye(10)[y] are such vectors",
}
# Of its activations; names that are nearly ours are found without.
ATTRIBUTES_OF_ACTIVATIONS = {"sigmoid": _SIGMOID, "sigmoid_prime": _SIGMOID_PRIME}
# Of its costs; names that are nearly ours are found without.
ATTRIBUTES_OF_COSTS = {
    "CrossEntropyCost": "here it is CrossEntropy",
    "QuadraticCost": "here it is Quadratic",
}
# Of a cost.
ATTRIBUTES_OF_A_COST = {
    "delta": "here it is net.trace(x, y)[-1].delta, of the last layer and each sample",
    "fn": "here it is net.cost.value(np, a, y), of each sample, labels as np.eye(10)[y]",
}
# Of its data sets.
ATTRIBUTES_OF_DATASETS = dict.fromkeys(
    ("load_data", "load_data_shared", "load_data_wrapper"), _MNIST
)
# Of its layers; names that are nearly ours are found without.
_MEAN = "here it is bpx.layers.GlobalAveragePool{0}D()"
_WHOLE = "here it is {0}, with the size of its input, and Flatten() after it"
_PADDING = "here it is padding=, as in {0}(8, 3, padding=1)"
ATTRIBUTES_OF_LAYERS = {
    "AdaptiveAvgPool1d": _MEAN.format(1),
    "AdaptiveAvgPool2d": _MEAN.format(2),
    **dict.fromkeys(
        ("AdaptiveMaxPool1d", "GlobalMaxPool1D", "GlobalMaxPooling1D"),
        _WHOLE.format("MaxPool1D(n)"),
    ),
    **dict.fromkeys(
        ("AdaptiveMaxPool2d", "GlobalMaxPool2D", "GlobalMaxPooling2D"),
        _WHOLE.format("MaxPool2D((h, w))"),
    ),
    "Add": "here it is bpx.layers.Residual([...]), what layers make of x, and x",
    "Concat": "here it is bpx.layers.Concatenate([[...], [...]])",
    "ConvPoolLayer": 'here they are two, Conv2D(20, 5, "relu"), MaxPool2D(2)',
    "Conv2DTranspose": "here it is Upsample2D(2), and a Conv2D after it",
    "ConvTranspose2d": "here it is Upsample2D(2), and a Conv2D after it",
    "DepthwiseConv2D": "here it is Conv2D(c, k, groups=c), of c channels",
    "FullyConnectedLayer": (
        'here it is Dense(100, "relu"), which finds the size of its inputs; p_dropout= is a '
        "Dropout(0.5) before it"
    ),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), "there are no recurrent layers"),
    "GroupNorm": "there are bpx.layers.LayerNorm and BatchNorm",
    "GroupNormalization": "there are bpx.layers.LayerNorm and BatchNorm",
    "Lambda": "here it is a layer of your own, docs/extending.md",
    "LeakyReLU": 'here it is "leaky-relu", as in Dense(30, "leaky-relu")',
    "Linear": "here it is bpx.layers.Dense",
    **dict.fromkeys(("MultiHeadAttention", "MultiheadAttention"), "there is no attention here"),
    **dict.fromkeys(("ReLU", "Relu"), _RELU),
    "Sigmoid": 'here it is "sigmoid", as in Dense(30, "sigmoid")',
    "Softmax": 'here it is "softmax", as in Dense(10, "softmax")',
    "SoftmaxLayer": 'here it is Dense(10, "softmax"), which finds the size of its inputs',
    "Tanh": 'here it is "tanh", as in Dense(30, "tanh")',
    "ZeroPadding1D": _PADDING.format("Conv1D"),
    **dict.fromkeys(("ZeroPad2d", "ZeroPadding2D"), _PADDING.format("Conv2D")),
}
# Arguments of training and of constructors that are set as attributes would have no effect.
_OF_TRAINING = {
    name: f"it is for training, fit(..., {name}=...)"
    for name in (
        "accumulate", "augment", "batch_size", "callbacks", "check_finite", "checkpoint",
        "clip_norm", "clip_value", "drop_last", "graph", "l1", "l2", "n", "parallel", "precision",
        "progress", "resume", "sample_weight", "shuffle", "validation",
    )
} | {
    "eta": OF_FIT["eta"],
    "learning_rate": "the optimizer has it, fit(..., optimizer=bpx.SGD(0.1))",
    "lmbda": "it is for training, fit(..., l2=...)",
    "lr": "the optimizer has it, fit(..., optimizer=bpx.SGD(0.1))",
    "momentum": OF_FIT["momentum"],
    "weight_decay": "it is for training, fit(..., l2=...), or optimizer=bpx.AdamW(0.001)",
}  # fmt: skip
# Of a network.
_FROZEN = "here it is net.frozen(2), a copy whose first two layers do not learn"
ATTRIBUTES = _OF_TRAINING | {
    "SGD": "here it is net.fit(x, y, epochs=30, batch_size=10, optimizer=bpx.SGD(3.0))",
    "add": "all layers go to bpx.Network([...])",
    "backward": "here it is net.backprop(x, y), or net.backprop(x, output_gradient=...)",
    "bias": "here they are net.biases; initial ones are for bpx.Network(..., bias=...)",
    "compile": "cost= is bpx.Network's, and optimizer= is fit's",
    "cost_derivative": "here it is net.cost.gradient(np, a, y), labels as np.eye(10)[y]",
    "count_params": "here it is net.summary()",
    "cuda": 'here it is net.to("cupy")',
    "device": "here it is net.backend, and net.to(...) makes a copy elsewhere",
    "delta": "here it is net.trace(x, y)[0].delta, of the first layer and each sample",
    "default_weight_initializer": "bpx.Network(...) draws them so, unless it gets weights=",
    "dropout": _DROPOUT,
    "eval": "there is no need for it: units are dropped in training alone",
    "fit_generator": "here it is net.fit(batches), an iterable of (x, y)",
    "forward": "here it is net(x), or net.feedforward(x)",
    "freeze": _FROZEN,
    "get_weights": "here they are net.weights and net.biases, or net.tensors by name",
    "grad": "here it is what net.backprop(x, y) returns",
    "large_weight_initializer": 'here it is bpx.Network(..., weights="normal")',
    "hessian": "docs/recipes.md has second derivatives in some lines, from net.jacobian(x)",
    "hidden": "it is for bpx.Network(..., hidden=...)",
    "load": "here it is bpx.load(path)",
    "load_state_dict": "here it is bpx.load(path), or net.copy_from(other)",
    "loss": 'the cost is net.cost, and its mean net.evaluate(x, y)["cost"]',
    "named_parameters": "here it is net.tensors, views by name",
    "num_layers": "here it is len(net.layers) + 1, which counts the inputs as the book does",
    "optimiser": "here it is net.optimizer",
    "output": "it is for bpx.Network(..., output=...)",
    "partial_fit": "here it is net.fit(x, y, epochs=1), which goes on from the last one",
    "predict_classes": "here it is net.predict(x)",
    "predict_proba": "here it is net(x)",
    "requires_grad_": _FROZEN,
    "score": "here it is net.accuracy(x, y), or net.evaluate(x, y)",
    "seed": "it is for bpx.Network(..., seed=...)",
    "set_weights": "here it is net.weights = [...] and net.biases = [...]",
    "sizes": "here they are net.input_shape, and layer.output_shape of each of net.layers",
    "state_dict": "here it is net.tensors, views by name",
    "to_onnx": "here it is bpx.export_onnx(net, path)",
    "train": "here it is net.fit(x, y)",
    "trainable": _FROZEN,
    "training": OF_PREDICTIONS["training"],
    "train_on_batch": "here it is net.fit(x, y, epochs=1, batch_size=len(x)), or net.backprop",
    "unfreeze": "here it is net.thawed(), a copy in which all layers train",
    "update_mini_batch": (
        "here it is net.fit(x, y, epochs=1, batch_size=len(x), optimizer=bpx.SGD(eta))"
    ),
    "zero_grad": "net.backprop(x, y) gives a new gradient each time",
    "zs": "here they are [layer.z for layer in net.trace(x)]",
}
# Of a gradient.
ATTRIBUTES_OF_GRADIENTS = {
    "delta": "here it is net.trace(x, y)[0].delta, of the first layer and each sample",
    "nabla_b": "here it is grad.biases",
    "nabla_w": "here it is grad.weights",
}
# Of an ensemble.
ATTRIBUTES_OF_ENSEMBLES = _OF_TRAINING | {
    "epochs": "it is for training, fit(..., epochs=...)",
    "history": "each member has its own, [member.history for member in ensemble.members]",
    "jacobian": "each member has its own, member.jacobian(x)",
    "optimiser": "it is for training, fit(..., optimizer=...)",
    "optimizer": "it is for training, fit(..., optimizer=...)",
    "predict_proba": "here it is ensemble(x)",
}
# Of a history.
ATTRIBUTES_OF_HISTORIES = dict.fromkeys(
    (
        "accuracy", "cost", "epoch", "history", "learning_rate", "loss", "seconds",
        "training_accuracy", "training_cost", "training_objective", "val_accuracy", "val_loss",
        "validation_accuracy", "validation_cost",
    ),
    "here they are history[name], of the names in list(history)",
)  # fmt: skip
