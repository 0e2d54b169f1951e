"""Multi-layer perceptrons whose every part is a hyper-parameter."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from ._families import TorchClassifier, TorchRegressor
from ._layers import make_mlp

__all__ = ["NeuralClassifier", "NeuralRegressor"]


class _MLP:
    """What the classifier and the regressor share: the network and its parameters."""

    _training_defaults = {"tol": 1e-4}
    _parameter_constraints = {
        "hidden_layer_sizes": ["array-like"],
        "activation": [str, callable],
        "activation_params": [dict, None],
        "normalization": [str, callable],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "parametrization": [str, callable],
        "linear": [str, callable],
        "block": [str, callable, None],
        "loss": [str, callable],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _search_space = {
        "hidden_layer_sizes": [(100,), (256, 256)],
        "activation": ["relu", "gelu", "silu", "tanh"],
        "lr": [1e-3, 3e-3],
        "weight_decay": [0.0, 1e-3],
    }

    # Of subclasses that do not have them as parameters.
    activation_params, normalization, dropout = None, "none", 0.0
    parametrization, linear, block = "standard", "dense", None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def _even_batches(self):
        """Batch statistics of a small last batch would be noise."""
        return self.normalization == "batch" or self.block is not None

    def _make_module(self):
        return make_mlp(
            self.n_features_in_,
            self._layer_sizes(),
            self._n_outputs(),
            activation=self.activation,
            activation_params=self.activation_params,
            normalization=self.normalization,
            dropout=self.dropout,
            parametrization=self.parametrization,
            linear=self.linear,
            block=self.block,
        )

    def _layer_sizes(self):
        sizes = list(self.hidden_layer_sizes)
        if not all(isinstance(size, Integral) and size > 0 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes must be positive integers, got {self.hidden_layer_sizes!r}"
            )
        return sizes


class NeuralClassifier(_MLP, TorchClassifier):
    """A multi-layer perceptron classifier whose parts are hyper-parameters.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(100,)
        Widths of the hidden layers; empty for a linear model.
    activation : str or callable, default="relu"
        Name of a registered activation, which may carry parameters
        (``"leaky_relu(negative_slope=0.2)"``), a module class, or a module.
        ``get_registry("activation").names()`` lists them.
    activation_params : dict, default=None
        Arguments of the activation.
    normalization : str or callable, default="none"
        Between a linear layer and its activation: "none", "batch", "layer", "rms", "group", or
        any registered name, or a function from the width to a module.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit during training, in [0, 1).
    parametrization : str or callable, default="standard"
        How initial weights and learning rates depend on width: "standard" is torch's,
        "mup(base_width=64)" keeps the best learning rate of one width at all others, "ntk" has
        weights of unit variance behind a factor; or any registered name.
    linear : str or callable, default="dense"
        The linear layers but the last: "dense", or any registered name.
    block : str or callable, default=None
        Name of a registered residual block that takes the place of each hidden layer, such as
        "star(ratio=2)". Activation and dropout are then those of the block.
    loss : str or callable, default="cross_entropy"
        A registered loss, or a function ``loss(logits, index, reduction)``.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    optimizer_params : dict, default=None
        Further arguments of the optimizer.
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of the weight matrices.
    lr_schedule : str or callable, default=None
        "cosine", "cosine_restarts(t_0=10, t_mult=2)", "step", "exponential", "linear", another
        registered name, or a function of ``(optimizer, max_epochs)`` that returns a schedule of
        torch; it advances every epoch, or every batch if the function takes `steps_per_epoch`.
    clip_norm : float, default=None
        Upper bound of the norm of the gradient.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" makes all classes weigh the same.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X. float32 is the faster.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    callbacks : list of callable, default=None
        Each is called after every epoch as ``callback(estimator, epoch, logs)``.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    An epoch costs O(n_samples * n_weights). With the defaults a fit equals one on repeated rows
    where `sample_weight` counts the repetitions, as long as a batch holds all rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skpapers.neural_network import NeuralClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = NeuralClassifier(activation="gelu", lr=0.01, tol=0, random_state=0)
    >>> bool(make_pipeline(StandardScaler(), network).fit(X, y).score(X, y) > 0.95)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        activation_params=None,
        normalization="none",
        dropout=0.0,
        parametrization="standard",
        linear="dense",
        block=None,
        loss="cross_entropy",
        optimizer="adam",
        optimizer_params=None,
        lr=1e-3,
        weight_decay=0.0,
        lr_schedule=None,
        clip_norm=None,
        max_epochs=100,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        class_weight=None,
        dtype="auto",
        device="auto",
        random_state=None,
        warm_start=False,
        callbacks=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.activation_params = activation_params
        self.normalization = normalization
        self.dropout = dropout
        self.parametrization = parametrization
        self.linear = linear
        self.block = block
        self.loss = loss
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.clip_norm = clip_norm
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose


class NeuralRegressor(_MLP, TorchRegressor):
    """A multi-layer perceptron regressor whose parts are hyper-parameters.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(100,)
        Widths of the hidden layers; empty for a linear model.
    activation : str or callable, default="relu"
        Name of a registered activation, which may carry parameters
        (``"leaky_relu(negative_slope=0.2)"``), a module class, or a module.
        ``get_registry("activation").names()`` lists them.
    activation_params : dict, default=None
        Arguments of the activation.
    normalization : str or callable, default="none"
        Between a linear layer and its activation: "none", "batch", "layer", "rms", "group", or
        any registered name, or a function from the width to a module.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit during training, in [0, 1).
    parametrization : str or callable, default="standard"
        How initial weights and learning rates depend on width: "standard" is torch's,
        "mup(base_width=64)" keeps the best learning rate of one width at all others, "ntk" has
        weights of unit variance behind a factor; or any registered name.
    linear : str or callable, default="dense"
        The linear layers but the last: "dense", or any registered name.
    block : str or callable, default=None
        Name of a registered residual block that takes the place of each hidden layer, such as
        "star(ratio=2)". Activation and dropout are then those of the block.
    loss : str or callable, default="squared_error"
        "squared_error", "absolute_error", "huber", another registered loss, or a function
        ``loss(output, target, reduction)``; targets are standardised.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    optimizer_params : dict, default=None
        Further arguments of the optimizer.
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of the weight matrices.
    lr_schedule : str or callable, default=None
        "cosine", "cosine_restarts(t_0=10, t_mult=2)", "step", "exponential", "linear", another
        registered name, or a function of ``(optimizer, max_epochs)`` that returns a schedule of
        torch; it advances every epoch, or every batch if the function takes `steps_per_epoch`.
    clip_norm : float, default=None
        Upper bound of the norm of the gradient.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X. float32 is the faster.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    callbacks : list of callable, default=None
        Each is called after every epoch as ``callback(estimator, epoch, logs)``.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        Mean of each target.
    y_scale_ : ndarray of shape (n_outputs_,)
        Standard deviation of each target; 1 for a constant one.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    An epoch costs O(n_samples * n_weights). With the defaults a fit equals one on repeated rows
    where `sample_weight` counts the repetitions, as long as a batch holds all rows.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.neural_network import NeuralRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = NeuralRegressor(lr=0.01, tol=0, random_state=0).fit(X, y)
    >>> bool(network.score(X, y) > 0.5)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        activation_params=None,
        normalization="none",
        dropout=0.0,
        parametrization="standard",
        linear="dense",
        block=None,
        loss="squared_error",
        optimizer="adam",
        optimizer_params=None,
        lr=1e-3,
        weight_decay=0.0,
        lr_schedule=None,
        clip_norm=None,
        max_epochs=100,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        dtype="auto",
        device="auto",
        random_state=None,
        warm_start=False,
        callbacks=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.activation_params = activation_params
        self.normalization = normalization
        self.dropout = dropout
        self.parametrization = parametrization
        self.linear = linear
        self.block = block
        self.loss = loss
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.clip_norm = clip_norm
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
