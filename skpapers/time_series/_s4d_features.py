"""Features of series from random diagonal state spaces."""

from numbers import Integral

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skpapers.neural_network._masked_scaler import masked_statistics
from skpapers.utils import check_random_state

from ._diagonal_ssm import causal_convolution, s4d_init, s4d_kernel
from ._on_series import SSM_CONSTRAINTS, OnSeries
from ._s4d_network import pool_time

__all__ = ["S4DTransformer"]

_FEATURE_NUMBERS = 2**23  # outputs of random kernels held at a time


class S4DTransformer(OnSeries, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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
        **SSM_CONSTRAINTS,
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
            torch.Tensor.numpy, masked_statistics(*map(torch.tensor, (values, mask)))
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


def _response_features(y, mask):
    """Mean, maximum and last of |y|; `y` is (n, n_kernels, t)."""
    y = y.abs().mT
    return torch.cat([pool_time(y, mask, how) for how in ("mean", "max", "last")], dim=1)
