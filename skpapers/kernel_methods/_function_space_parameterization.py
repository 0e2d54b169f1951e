"""Function-space parameterization (SFR): a trained network as a sparse Gaussian process."""

from numbers import Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.neural_network import TorchRegressor

from ._latent_likelihoods import GaussianLikelihood
from ._network_process import NetworkProcess
from ._tangent_features import kernel, network_outputs

__all__ = ["SparseFunctionSpaceRegressor"]

_SMALLEST_NOISE = 1e-3  # of scaled targets: residuals may vanish, the noise must not


class SparseFunctionSpaceRegressor(NetworkProcess, TorchRegressor):
    """A regression network as a sparse Gaussian process that learns new data without retraining.

    A network is trained; linearised at its weights it is a Gaussian process, which is projected on
    a few inducing points. That gives predictive variances, and ``partial_fit`` adds data by linear
    algebra, with neither retraining nor the old data (sparse function-space representation, SFR).

    Parameters
    ----------
    module : torch.nn.Module, callable or fitted estimator, default=None
        None is a multi-layer perceptron; a module is copied and trained on, a callable
        ``(n_features, n_outputs)`` returns a fresh one. With `prefit`, a torch module, a skorch
        net or any fitted estimator with ``module_``, such as `NeuralRegressor`.
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Widths of the hidden layers, where `module` is None.
    activation : str or callable, default="tanh"
        Name of a registered activation, a module class, or a module.
    n_inducing : int, default=100
        Number of inducing points, at most the number of rows. The paper takes 1 to 20 % of them.
    inducing : {"random", "kmeans"}, default="random"
        Training rows drawn at random, or the centres of their clusters.
    jacobian : {"full", "last_layer"}, default="full"
        Whose derivatives are the features: all trainable weights, or those of the last layer.
    prior_precision : float or "auto", default=1e-3
        Precision of the weights: half of it times their squared norm is added to the mean loss of
        a row. "auto" trains with 1e-3, then takes the value with the smallest predictive loss on
        held-out rows for the process; the network stays.
    noise_std : float or "auto", default="auto"
        Standard deviation of the noise, in units of the standard deviation of the target (with
        `prefit`, of what the network gives). "auto" trains with 1, then takes that of the
        residuals on the rows trained on, an output.
    prediction : {"gp", "nn"}, default="gp"
        Whether the mean is that of the process, which learns from ``partial_fit``, or the
        network's; the variance is that of the process in both.
    prefit : bool, default=False
        Whether `module` is fitted already; it is copied, sees X and y in their own units, and is
        not trained.
    jitter : float, default=1e-6
        Added to the diagonal of the kernel of the inducing points, times 4 until it factorises.
    dual_batch_size : int, default=256
        Rows whose derivatives are held at a time.
    max_epochs : int, default=200
        Passes over the data.
    lr : float, default=1e-2
        Learning rate of Adam.
    batch_size : int, default=64
        Rows in a batch; None for all of them.
    early_stopping : bool, default=True
        Stop when the loss of held-out rows has not improved for 20 epochs, and keep the best one.
        The process uses the rows held out all the same.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping` and by ``prior_precision="auto"``.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of the network, its batches, the rows held out and the inducing points.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    noise_std_ : ndarray of shape (n_outputs_,)
        Standard deviation of the noise of each target, in its units.
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        What is subtracted from each target.
    y_scale_ : ndarray of shape (n_outputs_,)
        What each target is divided by.
    inducing_points_ : ndarray of shape (n_inducing, n_features_in_)
        Inducing points.
    alpha_u_ : ndarray of shape (n_logits, n_inducing)
        Dual weights of the mean.
    beta_u_ : ndarray of shape (n_logits, n_inducing, n_inducing)
        Projected curvature of the data.
    t_u_ : ndarray of shape (n_logits, n_inducing)
        Projected pseudo targets.
    prior_precision_ : float
        Precision of the prior of the process.
    n_seen_ : int
        Number of rows the process has learnt from.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The network, in eval mode and double precision.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Minus the loss of the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    After training, the duals cost O(n_samples * n_inducing**2) an output, plus one backward pass
    an output; linear layers are contracted without their Jacobian. ``partial_fit`` costs the same
    for the new rows, and O(n_inducing**3). Outputs share no covariance.

    The process is that of the network linearised at its weights. Its mean equals the network's
    where training has reached the minimum of loss and prior; early stopping ends before.
    New rows far from all inducing points move the mean but can hardly lower the variance, as the
    part of the kernel that the inducing points do not explain stays.

    The paper's results on UCI data, images and reinforcement learning are not part of the tests.

    References
    ----------
    .. [1] A. Scannell, R. Mereu, P. Chang, E. Tamir, J. Pajarinen, A. Solin, "Function-space
       Parameterization of Neural Networks for Sequential Learning", ICLR 2024, arXiv:2403.10929,
       sections 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import SparseFunctionSpaceRegressor
    >>> X = np.linspace(-3, 3, 300)[:, None]
    >>> y = np.sin(2 * X[:, 0])
    >>> model = SparseFunctionSpaceRegressor(max_epochs=50, random_state=0).fit(X[:200], y[:200])
    >>> before = model.score(X[200:], y[200:])
    >>> model = model.partial_fit(X[200:], y[200:])
    >>> mean, std = model.predict(X[200:], return_std=True)
    >>> bool(before < 0 < 0.8 < model.score(X[200:], y[200:]))
    True
    """

    _parameter_constraints = {
        "noise_std": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        module=None,
        *,
        hidden_layer_sizes=(64, 64),
        activation="tanh",
        n_inducing=100,
        inducing="random",
        jacobian="full",
        prior_precision=1e-3,
        noise_std="auto",
        prediction="gp",
        prefit=False,
        jitter=1e-6,
        dual_batch_size=256,
        max_epochs=200,
        lr=1e-2,
        batch_size=64,
        early_stopping=True,
        validation_fraction=0.1,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.n_inducing = n_inducing
        self.inducing = inducing
        self.jacobian = jacobian
        self.prior_precision = prior_precision
        self.noise_std = noise_std
        self.prediction = prediction
        self.prefit = prefit
        self.jitter = jitter
        self.dual_batch_size = dual_batch_size
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _n_logits(self):
        return self.n_outputs_

    def _check_n_outputs(self, n_outputs):
        if n_outputs != self.n_outputs_:
            raise ValueError(f"module gives {n_outputs} outputs, y has {self.n_outputs_}")

    def _encode_target(self, y, weight, *, reset):
        encoded = super()._encode_target(y, weight, reset=reset)
        if not (reset and self.prefit):
            return encoded
        # the units in which a fitted network answers
        self.y_mean_ = getattr(self.module, "y_mean_", np.zeros(self.n_outputs_))
        self.y_scale_ = getattr(self.module, "y_scale_", np.ones(self.n_outputs_))
        return super()._encode_target(y, weight, reset=False)

    def _row_losses(self, outputs, y):
        noise = 1.0 if self.noise_std == "auto" else self.noise_std
        return 0.5 * ((y - outputs.reshape(y.shape)) / noise).square().sum(1)

    def _make_likelihood(self, rows, rng):
        noise = np.full(self.n_outputs_, self.noise_std) if self.noise_std != "auto" else None
        if noise is None:
            f = network_outputs(self.module_, rows.inputs[0].double().to(self._device()))
            residuals = rows.y.double().numpy() - f.cpu().numpy()
            noise = np.maximum(np.sqrt((residuals**2).mean(axis=0)), _SMALLEST_NOISE)
        self.noise_std_ = noise * self.y_scale_
        return GaussianLikelihood(torch.from_numpy(noise.astype(np.float64)).to(self._device()))

    def _log_units(self):
        return float(np.log(self.y_scale_).sum())

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y):
        """Add data to the process; the network stays as it is. The first call is a fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their target.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._update(X, y) if hasattr(self, "alpha_u_") else self._fit(X, y)

    def predict(self, X, return_std=False, return_cov=False, include_noise=True):
        """Predict the target, and how certain that is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        return_std : bool, default=False
            Whether to return standard deviations too.
        return_cov : bool, default=False
            Whether to return the joint covariance of the rows too; not with `return_std`.
        include_noise : bool, default=True
            Whether these are of a new observation; False for those of the function alone.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        std : ndarray of the same shape
            Standard deviations; with `return_std` only.
        cov : ndarray of shape (n_samples, n_samples) or (n_samples, n_samples, n_outputs)
            Covariances; with `return_cov` only.
        """
        if return_std and return_cov:
            raise ValueError("return_std and return_cov exclude each other")
        rows, dtype = self._rows(X)
        mean, variance = self._latent(rows)
        answer = self._shaped(mean.cpu().numpy() * self.y_scale_ + self.y_mean_, dtype)
        noise = self._likelihood.noise**2 * float(include_noise)
        if return_std:
            std = torch.sqrt(variance + noise).cpu().numpy() * self.y_scale_
            return answer, self._shaped(std, dtype)
        if return_cov:
            cov = self._covariance(rows) + torch.diag_embed(noise[:, None].expand(-1, len(rows)))
            cov = cov.permute(1, 2, 0).cpu().numpy() * self.y_scale_**2
            return answer, self._shaped(cov, dtype)
        return answer

    def predict_network(self, X):
        """Predict the target by the network alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        rows, dtype = self._rows(X)
        f = network_outputs(self.module_, rows).cpu().numpy()
        return self._shaped(f * self.y_scale_ + self.y_mean_, dtype)

    def _covariance(self, rows):
        features = self._tangent(rows)[1]
        return self._process.covariance(
            kernel(self._inducing, features), kernel(features, features)
        )

    def _shaped(self, values, dtype):
        values = values[..., 0] if self._y_ndim == 1 else values
        return values.astype(dtype, copy=False)
