"""S4D: classification and regression of long series by diagonal state spaces (Gu et al., 2022)."""

import functools
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skpapers.neural_network import Dropout, TorchClassifier, TorchRegressor
from skpapers.structure import as_panel, validate_structured
from skpapers.utils import check_random_state

from ._diagonal_ssm import DiagonalSSM, causal_convolution, s4d_init, s4d_kernel

__all__ = ["S4DClassifier", "S4DRegressor", "S4DTransformer"]

_PREDICT_STEPS = 2**17  # time steps that go through the network at a time
_FEATURE_NUMBERS = 2**23  # outputs of random kernels held at a time

_SSM_CONSTRAINTS = {
    "d_state": [Interval(Integral, 2, None, closed="left")],
    "init": [StrOptions({"legs", "inv", "lin", "real"})],
    "discretization": [StrOptions({"zoh", "bilinear"})],
    "dt_min": [Interval(Real, 0, None, closed="neither")],
    "dt_max": [Interval(Real, 0, None, closed="neither")],
}


class _OnSeries:
    """Parse series, and check channels and the parameters of the state spaces."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _parse_series(self, X, y="no_validation", *, reset, **y_checks):
        out = validate_structured(self, X, y, parser=as_panel, reset=reset, **y_checks)
        panel, y = out if isinstance(out, tuple) else (out, None)
        if reset:
            self._check_state_space()
            self.n_channels_ = panel.n_features
            self.n_timepoints_ = int(panel.sizes.max(initial=0))
        elif panel.n_features != self.n_channels_:
            raise ValueError(
                f"X has {panel.n_features} channels, but {type(self).__name__} was fitted on "
                f"{self.n_channels_} channels"
            )
        return panel.to_padded(), y

    def _check_state_space(self):
        if self.d_state % 2:
            raise ValueError(f"d_state must be even, got {self.d_state}")
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min={self.dt_min} is larger than dt_max={self.dt_max}")


class _S4D(_OnSeries, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What the classifier and the regressor share: the network and its parameters."""

    _training_defaults = {
        "optimizer": "adamw",
        "lr_schedule": "cosine",
        "max_epochs": 50,
        "batch_size": 64,
        "lr": 0.01,
        "weight_decay": 0.01,
    }
    _parameter_constraints = {
        **_SSM_CONSTRAINTS,
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "bidirectional": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "pooling": [StrOptions({"mean", "max", "last"})],
        "ssm_lr": [Interval(Real, 0, None, closed="neither")],
        "train_B": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "loss": [StrOptions({"squared_error", "absolute_error"})],
    }
    _search_space = {
        "d_model": [16, 32],
        "n_layers": [1, 2],
        "init": ["legs", "inv", "lin"],
        "lr": [3e-3, 1e-2],
    }

    def _parse(self, X, y="no_validation", *, reset):
        return self._parse_series(X, y, reset=reset, **self._target_checks())

    def _make_module(self):
        layer = functools.partial(
            DiagonalSSM,
            d_state=self.d_state,
            init=self.init,
            discretization=self.discretization,
            dt_min=self.dt_min,
            dt_max=self.dt_max,
            bidirectional=self.bidirectional,
            ssm_lr=self.ssm_lr,
            train_B=self.train_B,
        )
        blocks = [S4DBlock(self.d_model, layer, self.dropout) for _ in range(self.n_layers)]
        return S4DNetwork(self.n_channels_, blocks, self.d_model, self._n_outputs(), self.pooling)

    def _on_fit_begin(self, module, data):
        module.scaler.fit(*data.inputs, data.weight)

    def _train(self, train, validation, epochs):
        # The schedule of an earlier fit has taken the learning rates to zero.
        for group in self.net_.optimizer_.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])
        return super()._train(train, validation, epochs)

    def _predict(self, function, X):
        return super()._predict(functools.partial(_in_chunks, function), X)

    def _logits(self, X, rate):
        if not (isinstance(rate, Real) and 0 < rate < float("inf")):
            raise ValueError(f"rate must be a positive number, got {rate!r}")
        return self._predict(lambda module, inputs: module(*inputs, rate=rate), X)

    @property
    def _n_features_out(self):
        return self.d_model

    def transform(self, X):
        """Embed each series: the pooled outputs of the last block.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, n_timepoints), or any other form of series
            Series.

        Returns
        -------
        ndarray of shape (n_samples, d_model)
            Embeddings.
        """
        return self._predict(lambda module, inputs: module.embed(*inputs), X)

    def stream(self, series):
        """Process one series step by step, from the states alone.

        Parameters
        ----------
        series : iterable of array-like of shape (n_channels,) or float
            The time steps, as they come in.

        Yields
        ------
        ndarray of shape (d_model,)
            Output of the last block at each time step; with ``pooling="mean"``, the mean over
            the whole series is what ``transform`` gives.

        Raises
        ------
        ValueError
            If the network is bidirectional.
        """
        check_is_fitted(self)
        with torch.inference_mode():
            systems = [block.ssm.recurrence() for block in self.module_.blocks]
        states = [0.0] * len(systems)
        like = self.module_.encoder.weight
        for step in series:
            u = torch.as_tensor(np.asarray(step), dtype=like.dtype, device=like.device)
            with torch.inference_mode():
                states, y = self.module_.step(systems, states, u.reshape(self.n_channels_))
            yield y.cpu().numpy()


class S4DClassifier(_S4D, TorchClassifier):
    """Classify long series with a bank of learned damped oscillators.

    Each block runs one diagonal state space model a channel, computed as one convolution by FFT,
    and mixes the channels; outputs are pooled over time. The step size of each state space is a
    parameter, so that a fitted network can be used at another sampling rate.

    Parameters
    ----------
    d_model : int, default=64
        Number of channels inside the network.
    n_layers : int, default=4
        Number of blocks.
    d_state : int, default=64
        Number of states of each channel, in conjugate pairs; even.
    init : {"legs", "inv", "lin", "real"}, default="legs"
        Initial frequencies of the oscillators: eigenvalues of HiPPO-LegS, their closed-form
        approximation, equidistant ones, or none.
    discretization : {"zoh", "bilinear"}, default="zoh"
        Zero-order hold or the bilinear transform.
    dt_min : float, default=0.001
        Smallest initial step size; a channel remembers about ``1 / dt`` time steps.
    dt_max : float, default=0.1
        Largest initial step size.
    bidirectional : bool, default=False
        Whether each block looks ahead as well as back.
    dropout : float, default=0.0
        Probability of zeroing a unit in each block during training.
    pooling : {"mean", "max", "last"}, default="mean"
        How the outputs of the last block are joined over time.
    ssm_lr : float, default=0.001
        Upper bound of the learning rate of step sizes, poles and inputs, which have no weight
        decay.
    train_B : bool, default=True
        Whether the input coefficients of the state spaces are trained.
    max_epochs : int, default=50
        Passes over the data.
    batch_size : int, default=64
        Series in a batch; None for all of them.
    lr : float, default=0.01
        Learning rate of AdamW, at the start of a cosine schedule.
    weight_decay : float, default=0.01
        Weight decay of the weight matrices.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" makes all classes weigh the same.
    early_stopping : bool, default=False
        Hold out a tenth of the series, stop when their score has not improved for ten epochs, and
        keep the best epoch.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode; ``module_(values, mask)`` takes padded series with
        time in the second axis.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out series after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_channels_ : int
        Number of channels of a series.
    n_timepoints_ : int
        Length of the longest series seen during fit.
    n_features_in_ : int
        Number of columns of a table; otherwise the number of channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` is an array of shape (n_samples, n_channels, n_timepoints), shorter series filled up with
    NaN; a table of shape (n_samples, n_timepoints) for one channel, of a fixed length and without
    NaN; a list of arrays of shape (n_channels, t_i); or any other form that
    :func:`skpapers.structure.as_panel` reads. Channels are standardised with the means and
    standard deviations of the training data.

    A layer costs O(d_model * d_state * length) for its kernel and O(n_samples * d_model * length *
    log(length)) for the convolutions; ``stream`` costs O(d_model * d_state) a time step.

    The paper's benchmarks (Long Range Arena with up to 16000 steps, speech) take a GPU for hours;
    here long memory is tested on series of 500 steps.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, sections 3 and 4.

    Examples
    --------
    Which of two tones sounds at the start of a noisy series?

    >>> import numpy as np
    >>> from skpapers.time_series import S4DClassifier
    >>> rng = np.random.RandomState(0)
    >>> X, y = 0.3 * rng.standard_normal((200, 1, 100)), np.tile(["low", "high"], 100)
    >>> t, phase = np.arange(20), rng.uniform(0, 6.28, size=(200, 1))
    >>> X[:, 0, :20] += np.sin(np.where(y == "low", 0.5, 1.0)[:, None] * t + phase)
    >>> model = S4DClassifier(d_model=16, n_layers=2, max_epochs=10, random_state=0)
    >>> model.fit(X[:150], y[:150]).score(X[150:], y[150:]) > 0.9
    True
    """

    def __init__(
        self,
        d_model=64,
        n_layers=4,
        d_state=64,
        init="legs",
        discretization="zoh",
        dt_min=0.001,
        dt_max=0.1,
        bidirectional=False,
        dropout=0.0,
        pooling="mean",
        ssm_lr=0.001,
        train_B=True,
        max_epochs=50,
        batch_size=64,
        lr=0.01,
        weight_decay=0.01,
        class_weight=None,
        early_stopping=False,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.d_model = d_model
        self.n_layers = n_layers
        self.d_state = d_state
        self.init = init
        self.discretization = discretization
        self.dt_min = dt_min
        self.dt_max = dt_max
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.pooling = pooling
        self.ssm_lr = ssm_lr
        self.train_B = train_B
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @staticmethod
    def _small_params():
        return {"d_model": 32, "n_layers": 1, "d_state": 8, "max_epochs": 12}

    def predict(self, X, rate=1.0):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, n_timepoints), or any other form of series
            Series.
        rate : float, default=1.0
            Time between two time steps of `X` in units of that of the training: 2.0 where only
            every second step was recorded.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable class of each series.
        """
        index = self._logits(X, rate).argmax(axis=1)
        return self.classes_[index]

    def _n_outputs(self):
        return len(self.classes_)


class S4DRegressor(_S4D, TorchRegressor):
    """Predict numbers from long series with a bank of learned damped oscillators.

    Each block runs one diagonal state space model a channel, computed as one convolution by FFT,
    and mixes the channels; outputs are pooled over time. The step size of each state space is a
    parameter, so that a fitted network can be used at another sampling rate.

    Parameters
    ----------
    d_model : int, default=64
        Number of channels inside the network.
    n_layers : int, default=4
        Number of blocks.
    d_state : int, default=64
        Number of states of each channel, in conjugate pairs; even.
    init : {"legs", "inv", "lin", "real"}, default="legs"
        Initial frequencies of the oscillators: eigenvalues of HiPPO-LegS, their closed-form
        approximation, equidistant ones, or none.
    discretization : {"zoh", "bilinear"}, default="zoh"
        Zero-order hold or the bilinear transform.
    dt_min : float, default=0.001
        Smallest initial step size; a channel remembers about ``1 / dt`` time steps.
    dt_max : float, default=0.1
        Largest initial step size.
    bidirectional : bool, default=False
        Whether each block looks ahead as well as back.
    dropout : float, default=0.0
        Probability of zeroing a unit in each block during training.
    pooling : {"mean", "max", "last"}, default="mean"
        How the outputs of the last block are joined over time.
    ssm_lr : float, default=0.001
        Upper bound of the learning rate of step sizes, poles and inputs, which have no weight
        decay.
    train_B : bool, default=True
        Whether the input coefficients of the state spaces are trained.
    max_epochs : int, default=50
        Passes over the data.
    batch_size : int, default=64
        Series in a batch; None for all of them.
    lr : float, default=0.01
        Learning rate of AdamW, at the start of a cosine schedule.
    weight_decay : float, default=0.01
        Weight decay of the weight matrices.
    loss : {"squared_error", "absolute_error"}, default="squared_error"
        Loss on the standardised target.
    early_stopping : bool, default=False
        Hold out a tenth of the series, stop when their score has not improved for ten epochs, and
        keep the best epoch.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.

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
        The trained network, in eval mode; ``module_(values, mask)`` takes padded series with
        time in the second axis.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out series after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_channels_ : int
        Number of channels of a series.
    n_timepoints_ : int
        Length of the longest series seen during fit.
    n_features_in_ : int
        Number of columns of a table; otherwise the number of channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` and the cost are as in :class:`S4DClassifier`.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, sections 3 and 4.

    Examples
    --------
    The frequency of a noisy tone:

    >>> import numpy as np
    >>> from skpapers.time_series import S4DRegressor
    >>> rng = np.random.RandomState(0)
    >>> frequency = rng.uniform(0.2, 1.0, size=200)
    >>> X = np.sin(frequency[:, None] * np.arange(60) + rng.uniform(0, 6.28, size=(200, 1)))
    >>> model = S4DRegressor(d_model=16, n_layers=1, max_epochs=20, random_state=0)
    >>> model.fit(X[:150], frequency[:150]).score(X[150:], frequency[150:]) > 0.9
    True
    """

    def __init__(
        self,
        d_model=64,
        n_layers=4,
        d_state=64,
        init="legs",
        discretization="zoh",
        dt_min=0.001,
        dt_max=0.1,
        bidirectional=False,
        dropout=0.0,
        pooling="mean",
        ssm_lr=0.001,
        train_B=True,
        max_epochs=50,
        batch_size=64,
        lr=0.01,
        weight_decay=0.01,
        loss="squared_error",
        early_stopping=False,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.d_model = d_model
        self.n_layers = n_layers
        self.d_state = d_state
        self.init = init
        self.discretization = discretization
        self.dt_min = dt_min
        self.dt_max = dt_max
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.pooling = pooling
        self.ssm_lr = ssm_lr
        self.train_B = train_B
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.loss = loss
        self.early_stopping = early_stopping
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @staticmethod
    def _small_params():
        return {"d_model": 32, "n_layers": 2, "d_state": 32, "max_epochs": 35}

    def predict(self, X, rate=1.0):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, n_timepoints), or any other form of series
            Series.
        rate : float, default=1.0
            Time between two time steps of `X` in units of that of the training: 2.0 where only
            every second step was recorded.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        output = self._logits(X, rate)
        output = (output * self.y_scale_ + self.y_mean_).astype(output.dtype, copy=False)
        return output[:, 0] if self._y_ndim == 1 else output

    def _n_outputs(self):
        return self.n_outputs_


class S4DTransformer(_OnSeries, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of series from random, fixed S4D kernels; no training.

    Each kernel is a diagonal state space model with random outputs and step size, applied to a
    random mixture of the channels. The absolute value of its response is pooled over time by
    mean, maximum and last value. A linear model such as ``RidgeClassifierCV`` follows.

    Parameters
    ----------
    n_kernels : int, default=256
        Number of kernels; each gives three features.
    d_state : int, default=64
        Number of states of a kernel, in conjugate pairs; even.
    init : {"legs", "inv", "lin", "real"}, default="legs"
        Frequencies of the oscillators, as in :class:`S4DClassifier`.
    discretization : {"zoh", "bilinear"}, default="zoh"
        Zero-order hold or the bilinear transform.
    dt_min : float, default=0.001
        Smallest step size; a kernel remembers about ``1 / dt`` time steps.
    dt_max : float, default=0.1
        Largest step size.
    random_state : int, RandomState instance or None, default=None
        Seed of the kernels.

    Attributes
    ----------
    mixing_ : ndarray of shape (n_kernels, n_channels_)
        Weights of the channels for each kernel, of unit norm.
    output_ : ndarray of complex of shape (n_kernels, d_state / 2)
        Output coefficients of each kernel, which has unit norm over `n_timepoints_` steps.
    dt_ : ndarray of shape (n_kernels,)
        Step sizes.
    mean_ : ndarray of shape (n_channels_,)
        Mean of each channel.
    scale_ : ndarray of shape (n_channels_,)
        Standard deviation of each channel; 1 for a constant one.
    n_channels_ : int
        Number of channels of a series.
    n_timepoints_ : int
        Length of the longest series seen during fit.
    n_features_in_ : int
        Number of columns of a table; otherwise the number of channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` is as in :class:`S4DClassifier`. O(n_samples * n_kernels * length * log(length)). Random
    features are not in the paper, which trains its kernels.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, sections 3 and 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifierCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skpapers.time_series import S4DTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> features = S4DTransformer(random_state=0)
    >>> model = make_pipeline(features, StandardScaler(), RidgeClassifierCV())
    >>> bool(model.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.8)
    True
    """

    _parameter_constraints = {
        **_SSM_CONSTRAINTS,
        "n_kernels": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    _search_space = {
        "n_kernels": [64, 256],
        "init": ["legs", "inv", "lin"],
        "dt_max": [0.1, 0.5],
    }

    def __init__(
        self,
        n_kernels=256,
        d_state=64,
        init="legs",
        discretization="zoh",
        dt_min=0.001,
        dt_max=0.1,
        random_state=None,
    ):
        self.n_kernels = n_kernels
        self.d_state = d_state
        self.init = init
        self.discretization = discretization
        self.dt_min = dt_min
        self.dt_max = dt_max
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Draw the kernels and learn the scales of the channels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, n_timepoints), or any other form of series
            Series.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        (values, mask), _ = self._parse_series(X, reset=True)
        self.mean_, self.scale_ = map(
            torch.Tensor.numpy, channel_statistics(*map(torch.tensor, (values, mask)))
        )
        rng = check_random_state(self.random_state)
        shape = self.n_kernels, self.d_state // 2
        self.output_ = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        self.dt_ = np.exp(rng.uniform(*np.log([self.dt_min, self.dt_max]), self.n_kernels))
        mixing = rng.standard_normal((self.n_kernels, self.n_channels_))
        self.mixing_ = mixing / np.linalg.norm(mixing, axis=1, keepdims=True)
        norm = np.linalg.norm(self._kernels(max(1, self.n_timepoints_)), axis=1, keepdims=True)
        self.output_ /= np.where(norm > 0, norm, 1)
        return self

    @property
    def _n_features_out(self):
        return 3 * self.n_kernels

    def transform(self, X):
        """Compute the features: means, maxima and last values of all kernels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, n_timepoints), or any other form of series
            Series.

        Returns
        -------
        ndarray of shape (n_samples, 3 * n_kernels)
            Features.
        """
        check_is_fitted(self)
        (values, mask), _ = self._parse_series(X, reset=False)
        u = ((values - self.mean_) / self.scale_ * mask[..., None]).astype(values.dtype)
        u, mask = torch.from_numpy(u), torch.from_numpy(mask)
        kernel = torch.from_numpy(self._kernels(values.shape[1])).to(u.dtype)
        mixing = torch.from_numpy(self.mixing_).to(u.dtype)
        rows = max(1, _FEATURE_NUMBERS // max(1, kernel.numel()))
        pieces = [
            _response_features(causal_convolution(mixing @ v.mT, kernel), k)
            for v, k in zip(u.split(rows), mask.split(rows))
        ]
        return torch.cat(pieces).numpy()

    def _kernels(self, length):
        A, B = s4d_init(self.d_state, self.init)
        return s4d_kernel(A, B, self.output_, self.dt_, length, self.discretization)


class S4DBlock(nn.Module):
    """State spaces, GELU, a gated mixture of the channels, residual connection, layer norm."""

    def __init__(self, d_model, make_ssm, dropout):
        super().__init__()
        self.ssm = make_ssm(d_model)
        self.activation = nn.GELU()
        self.dropout = Dropout(dropout)
        self.mix = nn.Linear(d_model, 2 * d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x, mask, rate=1.0):
        # Backwards, what a layer puts behind the end of a series would count as its future.
        u = x * mask[..., None] if self.ssm.bidirectional else x
        return self.mixed(x, self.ssm(u.mT, rate).mT)

    def mixed(self, x, y):
        y = self.mix(self.dropout(self.activation(y)))
        return self.norm(x + nn.functional.glu(y, dim=-1))


class S4DNetwork(nn.Module):
    """Scaling, a linear encoder, blocks, pooling over time, a linear head."""

    def __init__(self, n_channels, blocks, d_model, n_outputs, pooling):
        super().__init__()
        self.scaler = ChannelScaler(n_channels)
        self.encoder = nn.Linear(n_channels, d_model)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(d_model, n_outputs)
        self.pooling = pooling

    def embed(self, values, mask, rate=1.0):
        x = self.encoder(self.scaler(values))
        for block in self.blocks:
            x = block(x, mask, rate)
        return pool_time(x, mask, self.pooling)

    def forward(self, values, mask, rate=1.0):
        return self.head(self.embed(values, mask, rate))

    def step(self, systems, states, u):
        """Advance all blocks one time step; `u` is (n_channels,)."""
        x, new_states = self.encoder(self.scaler(u)), []
        for block, system, state in zip(self.blocks, systems, states):
            state, y = block.ssm.step(system, state, x.double())
            x = block.mixed(x, y.to(x.dtype))
            new_states.append(state)
        return new_states, x


class ChannelScaler(nn.Module):
    """Standardise channels with the means and standard deviations of the training data."""

    def __init__(self, n_channels):
        super().__init__()
        self.register_buffer("mean", torch.empty(n_channels))
        self.register_buffer("scale", torch.empty(n_channels))

    def init_parameters(self, generator):
        self.mean.zero_()
        self.scale.fill_(1)

    def fit(self, values, mask, weight=None):
        mean, scale = channel_statistics(values, mask, weight)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, values):
        return (values - self.mean) / self.scale


def channel_statistics(values, mask, weight=None):
    """Mean and standard deviation of each channel over all present steps; 1 where constant."""
    share = mask.double() if weight is None else mask * weight.double()[:, None]
    share, steps = share[mask], values[mask].double()
    total = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
    mean = share @ steps / total
    spread = (share @ (steps - mean).square() / total).sqrt()
    constant = spread <= 1e-12 * mean.abs()
    return mean, torch.where(constant, torch.ones_like(spread), spread)


def pool_time(x, mask, how):
    """Pool (n, t, h) over the time steps that are present; an empty series gives zeros."""
    if x.shape[1] == 0:
        return x.sum(dim=1)
    present = mask[..., None]
    if how == "mean":
        return (x * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
    if how == "max":
        return x.masked_fill(~present, -torch.inf).amax(dim=1).masked_fill(~mask[:, :1], 0)
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return x[torch.arange(len(x), device=x.device), last] * mask[:, :1]


def _response_features(y, mask):
    """Mean, maximum and last of |y|; `y` is (n, n_kernels, t)."""
    y = y.abs().mT
    return torch.cat([pool_time(y, mask, how) for how in ("mean", "max", "last")], dim=1)


def _in_chunks(function, module, inputs):
    """Apply `function` to so few series at a time that memory stays bounded."""
    rows = max(1, _PREDICT_STEPS // max(inputs[0].shape[1], 1))
    pieces = zip(*(x.split(rows) for x in inputs))
    return torch.cat([function(module, piece) for piece in pieces])
