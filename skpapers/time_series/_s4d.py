"""S4D: classification and regression of long series by diagonal state spaces (Gu et al., 2022)."""

import functools
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skpapers.neural_network import TorchClassifier, TorchRegressor

from ._diagonal_ssm import DiagonalSSM
from ._on_series import SSM_CONSTRAINTS, OnSeries
from ._s4d_network import S4DBlock, S4DNetwork

__all__ = ["S4DClassifier", "S4DRegressor"]

_PREDICT_STEPS = 2**17  # time steps that go through the network at a time


class _S4D(OnSeries, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
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
        **SSM_CONSTRAINTS,
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

    def _rows_at_once(self, inputs):
        return max(1, _PREDICT_STEPS // max(inputs[0].shape[1], 1))

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
