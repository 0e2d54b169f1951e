"""XNet: one hidden layer of Cauchy activations, placed by least squares and then trained."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from ._cauchy_activation import CauchyActivation, CauchyNet, linear_solutions, solve_linear_block
from ._families import TorchClassifier, TorchRegressor

__all__ = ["CauchyActivation", "XNetClassifier", "XNetRegressor", "solve_linear_block"]

_WIDTHS = (8.0, 4.0, 2.0, 1.0, 0.5)  # distances of the poles, in spacings of the units
_ALPHAS = (1e-1, 1e-3, 1e-6, 1e-9, 1e-11, 1e-13)
_NOISY = 1e-6  # a penalty that cross-validation takes only where there is noise


def _trained_by_adam(estimator):
    return estimator.solver == "adam"


class _XNet:
    """What the regressor and the classifier share: the network and how it starts."""

    _parameter_constraints = {
        "n_units": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"least_squares", "random"})],
        "alpha": [StrOptions({"gcv"}), Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions({"lbfgs", "adam"})],
        "refit_linear_every": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "standardize": ["boolean"],
    }

    def _make_module(self):
        return CauchyNet(self.n_features_in_, self.n_units, self._n_outputs())

    def _setting(self, name):
        is_lbfgs = self.solver == "lbfgs"
        if name == "optimizer":
            return self.solver
        if name == "optimizer_params" and is_lbfgs:  # one line search an epoch
            return {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
        if name == "lr" and is_lbfgs:
            return 1.0
        if name == "batch_size" and (is_lbfgs or self.batch_size == "auto"):
            return None if is_lbfgs else 128
        return super()._setting(name)

    def _tensor_dtype(self, inputs):
        return torch.float64  # large coefficients cancel: single precision would leave nothing

    def _encode_target(self, y, weight, *, reset):
        target, weight = super()._encode_target(y, weight, reset=reset)
        self._n_counted = len(y) if weight is None else float(np.sum(weight))
        return target, weight

    def _on_fit_begin(self, module, data):
        x = data.inputs[0].double()
        if self.standardize:
            mean, scale = _moments(x, data.weight)
            module.mean.copy_(mean)
            module.scale.copy_(scale)
        spacing = module.place_units(x, self._n_counted)
        spacing = spacing / self.n_units ** (1 / self.n_features_in_)
        if self.init == "random":
            self.alpha_ = 0.0 if self.alpha == "gcv" else float(self.alpha)
            module.set_d(2 * spacing)
            return
        best = None
        for width in _WIDTHS:
            module.set_d(width * spacing)
            for alpha, solution in self._solutions(module, data, self._alphas()):
                score = solution.gcv(self._n_counted)
                if best is None or score < best[0]:
                    best = score, width, alpha, solution
        _, width, self.alpha_, solution = best
        module.set_d(width * spacing)
        module.set_linear_block(*solution[:3])

    def _alphas(self):
        return _ALPHAS if self.alpha == "gcv" else (float(self.alpha),)

    def _solutions(self, module, data, alphas):
        """The penalties, and the best linear block for each of them."""
        u = module.ridge(data.inputs[0].to(module.offset)).cpu().numpy()
        weight = None if data.weight is None else data.weight.cpu().numpy()
        target = self._regression_target(data.y.cpu())
        return zip(alphas, linear_solutions(u, module.d.cpu().numpy(), target, alphas, weight))

    def _predict(self, function, X):
        result = super()._predict(function, X)
        is_single = str(getattr(X, "dtype", "")).endswith("float32")
        return result.astype(np.float32) if is_single and result.dtype.kind == "f" else result


def _moments(x, weight):
    """Weighted mean and standard deviation of the columns, 1 where that is zero."""
    share = torch.full_like(x[:, 0], 1 / len(x)) if weight is None else weight / weight.sum()
    mean = share @ x
    scale = torch.sqrt(share @ (x - mean).square())
    floor = 10 * torch.finfo(x.dtype).eps * mean.abs()
    return mean, torch.where(scale > floor, scale, 1)


class XNetRegressor(_XNet, TorchRegressor):
    """A layer of Cauchy units for accurate fits of functions of few variables.

    The prediction is ``sum_j (lambda1_j * u_j + lambda2_j) / (u_j**2 + d_j**2) + bias`` with
    ``u_j = x @ w_j + b_j``: by Cauchy's formula such sums approach analytic functions faster than
    any power of the number of units. Units are spread over the data, their coefficients solved by
    regularised least squares, and then everything is trained.

    Parameters
    ----------
    n_units : int, default=64
        Number of hidden units.
    init : {"least_squares", "random"}, default="least_squares"
        How the coefficients start.
    alpha : "gcv" or float, default="gcv"
        Penalty on the squared coefficients; "gcv" chooses it, and the width of the units, by
        generalised cross-validation.
    solver : {"lbfgs", "adam"}, default="lbfgs"
        How everything is trained afterwards: L-BFGS with a line search on all rows, or Adam.
    lr : float, default=1e-2
        Learning rate of Adam.
    max_epochs : int, default=100
        Passes over the data; with L-BFGS the number of line searches.
    batch_size : int or "auto", default="auto"
        Rows in a batch of Adam; "auto" is 128.
    refit_linear_every : int, default=0
        Solve for the coefficients again each time so many epochs have passed; 0 for never.
    tol : float, default=1e-7
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved by
        `tol` for 10 epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    standardize : bool, default=True
        Whether features are standardised; targets always are.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of directions, offsets, shuffling and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    warm_start : bool, default=False
        Continue from the state of the last fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_units, n_features)
        Directions of the units.
    intercept_ : ndarray of shape (n_units,)
        Their offsets.
    poles_ : ndarray of shape (n_units,)
        Distances d of their poles.
    lambda1_ : ndarray of shape (n_units, n_outputs)
        Coefficients of the odd parts.
    lambda2_ : ndarray of shape (n_units, n_outputs)
        Coefficients of the even parts.
    bias_ : ndarray of shape (n_outputs,)
        Constants.
    alpha_ : float
        The penalty.
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        Mean of each target.
    y_scale_ : ndarray of shape (n_outputs_,)
        Standard deviation of each target; 1 for a constant one.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode, for standardised targets.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, the penalty included.
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
    The start costs five singular value decompositions, O(n_samples * n_units**2), an epoch
    O(n_samples * n_units * n_features). All is computed in double precision. After the
    training the coefficients are solved for once more; where that is no better than the start, the
    start is kept. On noisy data better means generalised cross-validation, which counts all
    trained parameters.

    A jump is fitted no better than by a network of tanh. The paper's comparisons with
    Kolmogorov-Arnold and physics-informed networks are not repeated.

    References
    ----------
    .. [1] X. Li, Z. Xia, H. Zhang, "Cauchy activation function and XNet", arXiv:2409.19221. The
       start by least squares is not theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.neural_network import XNetRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = XNetRegressor(random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> bool(abs(model.predict(X) - np.sin(3 * X[:, 0])).max() < 1e-5)
    True
    >>> bool(abs(model.gradient([[0.0]]) - 3).max() < 1e-3)
    True
    """

    _search_space = {"n_units": [32, 64, 128], "alpha": ["gcv", 1e-6, 1e-3]}

    def __init__(
        self,
        n_units=64,
        *,
        init="least_squares",
        alpha="gcv",
        solver="lbfgs",
        lr=1e-2,
        max_epochs=100,
        batch_size="auto",
        refit_linear_every=0,
        tol=1e-7,
        early_stopping=False,
        validation_fraction=0.1,
        standardize=True,
        device="auto",
        random_state=None,
        verbose=0,
        warm_start=False,
    ):
        self.n_units = n_units
        self.init = init
        self.alpha = alpha
        self.solver = solver
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.refit_linear_every = refit_linear_every
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.standardize = standardize
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def _regression_target(self, y):
        return y.numpy()

    @staticmethod
    def _small_params():
        return {"n_units": 16, "max_epochs": 15}

    def _loss(self, module, batch):
        return super()._loss(module, batch) + self.alpha_ * module.size_of_linear_block()

    def _fit(self, X, y="no_validation", sample_weight=None):
        self._is_whole_fit = True
        try:
            return super()._fit(X, y, sample_weight)
        finally:
            del self._is_whole_fit

    def _train(self, train, validation, epochs):
        self._rows = train
        try:
            return super()._train(train, validation, epochs)
        finally:
            del self._rows

    def _on_fit_begin(self, module, data):
        super()._on_fit_begin(module, data)
        self._start = _copy_state(module) if self.init == "least_squares" else None

    def _on_epoch_begin(self, module, epoch):
        if self.refit_linear_every and epoch and epoch % self.refit_linear_every == 0:
            with torch.no_grad():
                self._refit(module, self._rows)

    def _refit(self, module, data):
        ((_, solution),) = self._solutions(module, data, [self.alpha_])
        module.set_linear_block(*solution[:3])
        return solution

    def _on_fit_end(self, data):
        """Solve for the coefficients once more, and go back to the start if that was better."""
        start = vars(self).pop("_start", None)
        if not hasattr(self, "_is_whole_fit"):
            return
        trained = self._merit(self._refit(self.module_, data), is_start=False)
        if start is None:
            return
        end = _copy_state(self.module_)
        self.module_.load_state_dict(start)
        if trained < self._merit(self._refit(self.module_, data), is_start=True):
            self.module_.load_state_dict(end)

    def _merit(self, solution, is_start):
        """The objective or, where there is noise, a score that counts what was trained."""
        if self.alpha == "gcv" and self.alpha_ >= _NOISY:
            n_trained = 0 if is_start else self.n_units * (self.n_features_in_ + 2)
            return solution.gcv(self._n_counted, n_trained)
        return solution.objective

    @available_if(_trained_by_adam)
    def partial_fit(self, X, y, sample_weight=None):
        """Make one pass over the given rows, with ``solver="adam"`` only.

        The scales of features and target, and the units, are those of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, sample_weight=sample_weight)

    def gradient(self, X):
        """Compute the derivatives of the prediction by the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
            Derivatives.
        """
        result = self._predict(_gradient, X)
        result = (result * self.y_scale_).astype(result.dtype, copy=False)
        return result[:, :, 0] if self._y_ndim == 1 else result

    def laplacian(self, X):
        """Compute the sum of the second derivatives of the prediction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Laplacians.
        """
        result = self._predict(_laplacian, X)
        result = (result * self.y_scale_).astype(result.dtype, copy=False)
        return result[:, 0] if self._y_ndim == 1 else result

    @property
    def coef_(self):
        """Directions of the units."""
        return (self.module_.weight / self.module_.scale).detach().cpu().numpy()

    @property
    def intercept_(self):
        """Offsets of the units."""
        module = self.module_
        return (
            (module.offset - module.weight @ (module.mean / module.scale)).detach().cpu().numpy()
        )

    @property
    def poles_(self):
        """Distances of the poles."""
        return self.module_.d.detach().cpu().numpy()

    @property
    def lambda1_(self):
        """Coefficients of the odd parts."""
        return self.module_.lambda1.detach().cpu().numpy().T * self.y_scale_

    @property
    def lambda2_(self):
        """Coefficients of the even parts."""
        return self.module_.lambda2.detach().cpu().numpy().T * self.y_scale_

    @property
    def bias_(self):
        """Constants."""
        return self.module_.bias.detach().cpu().numpy() * self.y_scale_ + self.y_mean_


class XNetClassifier(_XNet, TorchClassifier):
    """A layer of Cauchy units, one set of coefficients a class.

    The units start spread over the data, with coefficients from a ridge regression on the
    classes, and everything is trained on the cross-entropy.

    Parameters
    ----------
    n_units : int, default=128
        Number of hidden units.
    init : {"least_squares", "random"}, default="least_squares"
        How the coefficients start.
    alpha : "gcv" or float, default=1e-3
        Penalty on the squared coefficients of the start; "gcv" chooses it by generalised
        cross-validation, which takes coefficients so large that they are hard to train further.
    solver : {"lbfgs", "adam"}, default="adam"
        How everything is trained afterwards.
    lr : float, default=1e-2
        Learning rate of Adam.
    max_epochs : int, default=40
        Passes over the data; with L-BFGS the number of line searches.
    batch_size : int or "auto", default="auto"
        Rows in a batch of Adam; "auto" is 128.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their accuracy has not improved by
        `tol` for 10 epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    standardize : bool, default=True
        Whether features are standardised.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of directions, offsets, shuffling and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.

    Attributes
    ----------
    alpha_ : float
        The penalty.
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
    The start costs five singular value decompositions, O(n_samples * n_units**2), an epoch
    O(n_samples * n_units * n_features), in double precision.

    References
    ----------
    .. [1] X. Li, Z. Xia, H. Zhang, "Cauchy activation function and XNet", arXiv:2409.19221. The
       start by least squares is not theirs.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import XNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(XNetClassifier(tol=0, random_state=0).fit(X, y).score(X, y) > 0.95)
    True
    """

    _search_space = {"n_units": [64, 128, 256], "lr": [3e-3, 1e-2], "max_epochs": [20, 40]}

    def __init__(
        self,
        n_units=128,
        *,
        init="least_squares",
        alpha=1e-3,
        solver="adam",
        lr=1e-2,
        max_epochs=40,
        batch_size="auto",
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        standardize=True,
        device="auto",
        random_state=None,
        verbose=0,
        warm_start=False,
    ):
        self.n_units = n_units
        self.init = init
        self.alpha = alpha
        self.solver = solver
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.standardize = standardize
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def _regression_target(self, y):
        return np.eye(len(self.classes_))[y.numpy()] - 1 / len(self.classes_)

    @available_if(_trained_by_adam)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Make one pass over the given rows, with ``solver="adam"`` only.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        classes : array-like of shape (n_classes,), default=None
            All the classes there will be; required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)


def _copy_state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def _gradient(module, inputs):
    u = module.ridge(*inputs)
    inverse = 1 / (u.square() + module.d.square())
    odd = (module.d.square() - u.square()) * inverse.square()
    even = -2 * u * inverse.square()
    weight = module.weight / module.scale
    return torch.einsum("nh,th,hp->npt", odd, module.lambda1, weight) + torch.einsum(
        "nh,th,hp->npt", even, module.lambda2, weight
    )


def _laplacian(module, inputs):
    u = module.ridge(*inputs)
    inverse = 1 / (u.square() + module.d.square())
    odd = 2 * u * (u.square() - 3 * module.d.square()) * inverse**3
    even = (6 * u.square() - 2 * module.d.square()) * inverse**3
    size = (module.weight / module.scale).square().sum(1)
    return odd @ (size * module.lambda1).T + even @ (size * module.lambda2).T
