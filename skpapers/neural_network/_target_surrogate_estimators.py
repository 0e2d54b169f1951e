"""Models trained on surrogates in the space of their outputs."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.optim import SSO

from ._families import TorchClassifier, TorchRegressor
from ._mlp import _MLP
from ._registry import register

__all__ = ["TargetSurrogateClassifier", "TargetSurrogateRegressor"]

_POSITIVE = Interval(Real, 0, None, closed="neither")


class _TargetSurrogate(_MLP):
    """What the classifier and the regressor share: the optimizer."""

    _parameter_constraints = {
        "inner_steps": [Interval(Integral, 1, None, closed="left")],
        "inner_solver": [StrOptions({"armijo", "gd", "lbfgs", "exact"})],
        "inner_lr": [_POSITIVE, None],
        "lr": [_POSITIVE, StrOptions({"auto"})],
        "lr_schedule": [StrOptions({"constant", "decreasing", "exponential", "armijo"})],
        "divergence": [StrOptions({"euclidean", "newton"})],
    }
    _search_space = {
        "inner_steps": [5, 20],
        "lr_schedule": ["constant", "armijo"],
        "hidden_layer_sizes": [(), (50,)],
        "max_epochs": [100, 300],
    }

    def _make_optimizer(self, module):
        options = ("lr", "inner_steps", "inner_solver", "inner_lr", "lr_schedule", "divergence")
        return SSO.from_module(module, **{name: getattr(self, name) for name in options})

    def _schedules(self, batches, epochs):
        return ()  # `lr_schedule` is one of the optimizer

    def _on_fit_begin(self, module, data):
        if len(module) == 1:  # a convex problem: start at zero, for whichever seed
            for parameter in module.parameters():
                parameter.zero_()

    @property
    def n_gradient_calls_(self):
        """Gradients of the loss computed."""
        return self.net_.optimizer_.n_gradient_calls

    @property
    def n_model_calls_(self):
        """Evaluations of the network during training."""
        return self.net_.optimizer_.n_model_calls

    @property
    def coef_(self):
        """Weights of a linear model."""
        return self._linear().weight.detach().cpu().numpy()

    @property
    def intercept_(self):
        """Intercepts of a linear model."""
        return self._linear().bias.detach().cpu().numpy()

    def _linear(self):
        if len(self.module_) > 1:
            raise AttributeError("coef_ and intercept_ are those of a linear model")
        return self.module_[0]


class TargetSurrogateClassifier(_TargetSurrogate, TorchClassifier):
    """A classifier that makes several steps for each gradient of its loss.

    The gradient of the cross-entropy by the logits, once for a batch, makes a surrogate that
    bounds the loss from above; steps on the surrogate need the network alone. Without hidden
    layers this is multinomial logistic regression. There is no learning rate to tune.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers; empty for multinomial logistic regression.
    activation : str or callable, default="relu"
        Name of a registered activation, a module class, or a module.
    inner_steps : int, default=10
        Steps on the surrogate for one gradient of the loss.
    inner_solver : {"armijo", "gd", "lbfgs", "exact"}, default="armijo"
        Gradient descent with a line search or with a fixed step, L-BFGS, or, without hidden
        layers, least squares.
    inner_lr : float, default=None
        Step of "gd", for which it must be given, and the first one that "armijo" tries, 10 by
        default.
    lr : float or "auto", default="auto"
        Step in the space of the outputs; "auto" is 1/L, 2 for cross-entropy.
    lr_schedule : {"constant", "decreasing", "exponential", "armijo"}, default="constant"
        `lr` always; over the root of the number of the step; decreasing exponentially over the
        training; or found by a line search that starts from `lr` ("auto": 1).
    divergence : {"euclidean", "newton"}, default="euclidean"
        How changes of the outputs are measured: by their length, or by the Hessian of the loss,
        with which `lr` "auto" is 1.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=None
        Rows in a batch; None for all of them. With mini-batches choose a decreasing
        `lr_schedule`, unless the model can fit all rows.
    tol : float, default=1e-4
        Smallest change of the training loss that counts as improvement; 0 to run all epochs.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation and shuffling; a model without hidden layers starts at zero.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_gradient_calls_ : int
        Gradients of the loss computed, one a batch.
    n_model_calls_ : int
        Evaluations of the network during training.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights of a model without hidden layers.
    intercept_ : ndarray of shape (n_classes,)
        Its intercepts.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, before its steps.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step costs a gradient of the loss and `inner_steps` gradients of the network, besides
    evaluations for its line search; without hidden layers an inner step is two products with
    the batch. See :class:`~skpapers.optim.SSO`. Features should be standardised.

    References
    ----------
    .. [1] J. W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt, N. Le Roux, "Target-based
       Surrogates for Stochastic Optimization", ICML 2023, arXiv:2302.02607, algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.neural_network import TargetSurrogateClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TargetSurrogateClassifier(max_epochs=50, tol=0, random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.95), model.n_gradient_calls_
    (True, 50)
    """

    def __init__(
        self,
        hidden_layer_sizes=(),
        activation="relu",
        inner_steps=10,
        inner_solver="armijo",
        inner_lr=None,
        lr="auto",
        lr_schedule="constant",
        divergence="euclidean",
        max_epochs=100,
        batch_size=None,
        tol=1e-4,
        n_iter_no_change=10,
        dtype="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.inner_steps = inner_steps
        self.inner_solver = inner_solver
        self.inner_lr = inner_lr
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.divergence = divergence
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose


class TargetSurrogateRegressor(_TargetSurrogate, TorchRegressor):
    """A regressor that makes several steps for each gradient of a loss, which may be costly.

    The gradient of the loss by the predictions, once for a batch, makes a surrogate of the loss;
    steps on the surrogate need the network alone. The loss is half the squared error of the
    standardised target, or whatever `target_gradient` says: a simulator, or an expert.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers; empty for a linear model.
    activation : str or callable, default="relu"
        Name of a registered activation, a module class, or a module.
    inner_steps : int, default=10
        Steps on the surrogate for one gradient of the loss.
    inner_solver : {"armijo", "gd", "lbfgs", "exact"}, default="armijo"
        Gradient descent with a line search or with a fixed step, L-BFGS, or, without hidden
        layers, least squares.
    inner_lr : float, default=None
        Step of "gd", for which it must be given, and the first one that "armijo" tries, 10 by
        default.
    lr : float or "auto", default="auto"
        Step in the space of the outputs; "auto" is 1/L, which is 1 for half the squared error,
        and 1 with `target_gradient`.
    lr_schedule : {"constant", "decreasing", "exponential", "armijo"}, default="constant"
        `lr` always; over the root of the number of the step; decreasing exponentially over the
        training; or found by a line search that starts from `lr` ("auto": 1).
    divergence : {"euclidean", "newton"}, default="euclidean"
        How changes of the outputs are measured: by their length, or by the Hessian of the loss,
        with which `lr` "auto" is 1.
    target_gradient : callable, default=None
        A loss of your own, ``target_gradient(outputs, y, indices)``. It is called once a batch
        with predictions and targets, arrays of shape (n_rows, n_outputs), and the places of the
        rows in X; it returns the mean loss and the gradients of the losses of the rows by
        their predictions, of the shape of `outputs`, not divided by n_rows. Targets are not
        standardised then, and `lr` should be 1/L, if the losses are L-smooth.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=None
        Rows in a batch; None for all of them. With mini-batches choose a decreasing
        `lr_schedule`, unless the model can fit all rows.
    tol : float, default=1e-4
        Smallest change of the training loss that counts as improvement; 0 to run all epochs.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation and shuffling; a model without hidden layers starts at zero.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        Mean of each target; 0 with `target_gradient`.
    y_scale_ : ndarray of shape (n_outputs_,)
        Standard deviation of each target; 1 for a constant one, and with `target_gradient`.
    n_gradient_calls_ : int
        Gradients of the loss computed, one a batch.
    n_model_calls_ : int
        Evaluations of the network during training.
    coef_ : ndarray of shape (n_outputs_, n_features)
        Weights of a model without hidden layers.
    intercept_ : ndarray of shape (n_outputs_,)
        Its intercepts.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, before its steps.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step costs a gradient of the loss and `inner_steps` gradients of the network, besides
    evaluations for its line search; without hidden layers an inner step is two products with
    the batch. See :class:`~skpapers.optim.SSO`. Features should be standardised.

    `coef_` and `intercept_` are of the standardised target, unless there is a `target_gradient`,
    with which ``lr_schedule="armijo"`` and ``divergence="newton"`` are not possible. With sample
    weights, the mean loss that it returns counts all rows alike.

    References
    ----------
    .. [1] J. W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt, N. Le Roux, "Target-based
       Surrogates for Stochastic Optimization", ICML 2023, arXiv:2302.02607, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.neural_network import TargetSurrogateRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TargetSurrogateRegressor(max_epochs=10, tol=0).fit(scale(X), y)
    >>> round(model.score(scale(X), y), 2)
    0.52

    A loss that is known by its gradient, here the 90 % quantile, smoothed:

    >>> def quantile(outputs, y, indices):
    ...     above = 1 / (1 + np.exp((y - outputs) / 10))
    ...     return 0.0, above - 0.9
    >>> model = TargetSurrogateRegressor(target_gradient=quantile, lr=40, tol=0)
    >>> prediction = model.set_params(max_epochs=300).fit(scale(X), y).predict(scale(X))
    >>> bool(0.87 < np.mean(y < prediction) < 0.93)
    True
    """

    _default_loss = "half_squared_error"
    _parameter_constraints = {"target_gradient": [callable, None]}

    def __init__(
        self,
        hidden_layer_sizes=(),
        activation="relu",
        inner_steps=10,
        inner_solver="armijo",
        inner_lr=None,
        lr="auto",
        lr_schedule="constant",
        divergence="euclidean",
        target_gradient=None,
        max_epochs=100,
        batch_size=None,
        tol=1e-4,
        n_iter_no_change=10,
        dtype="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.inner_steps = inner_steps
        self.inner_solver = inner_solver
        self.inner_lr = inner_lr
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.divergence = divergence
        self.target_gradient = target_gradient
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _parse(self, X, y="no_validation", *, reset):
        """Number the rows for a loss that is known by its gradient."""
        inputs, y = super()._parse(X, y, reset=reset)
        if self.target_gradient is None:
            return inputs, y
        return (*inputs, np.arange(inputs[0].shape[0])), y

    def _output(self, module, inputs):
        return module(inputs[0])

    def _encode_target(self, y, weight, *, reset):
        target, weight = super()._encode_target(y, weight, reset=reset)
        if self.target_gradient is None:
            return target, weight
        target = np.asarray(y, dtype=np.float64).reshape(target.shape)
        self.y_mean_, self.y_scale_ = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        return target, weight

    def _output_and_loss(self, module, batch):
        if self.target_gradient is None:
            return super()._output_and_loss(module, batch)
        return self._output(module, batch.inputs), GradientLoss(self.target_gradient, batch)


@register("loss", "half_squared_error")
def _half_squared_error(output, target, reduction):
    losses = (output - target).square().flatten(1).sum(1) / 2
    return losses.mean() if reduction == "mean" else losses


class GradientLoss:
    """The loss of a batch that is known by its value and its gradient only."""

    def __init__(self, function, batch):
        self.function, self.weight = function, batch.weight
        self.target, self.index = batch.y, batch.inputs[1]

    def value_and_gradient(self, outputs):
        target, index = self.target.cpu().numpy(), self.index.cpu().numpy()
        loss, gradient = self.function(outputs.cpu().numpy(), target, index)
        gradient = np.asarray(gradient, dtype=target.dtype)
        if gradient.shape != tuple(outputs.shape) or not np.isfinite(gradient).all():
            raise ValueError(
                "target_gradient must return the mean loss and finite gradients of shape "
                f"{tuple(outputs.shape)}, got shape {gradient.shape}"
            )
        slopes = outputs.new_tensor(gradient)
        return loss, slopes if self.weight is None else slopes * self.weight[:, None]
