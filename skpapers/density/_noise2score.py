"""Denoising without a clean example: the score of the noisy data, and Tweedie's formulas."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import OneToOneFeatureMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from skpapers.neural_network import TorchTransformer
from skpapers.processes import StandardizedDensity, denoising_score_loss

from ._residual_score import ResidualScore, image_network, row_network
from ._tweedie import (
    NOISE_DEVIATIONS,
    POSTERIOR_MEANS,
    covariance_noise,
    level_grid,
    link,
    link_offset,
    quality_penalty,
    score_behind_link,
)

__all__ = ["Noise2Score"]

_MAX_LINEAR_FEATURES = 1024
_MIN_UNET_SIDE = 16
_N_BLIND_ROWS = 500
_FALL = 0.25  # of the added noise, where "auto": the last over the first level


class Noise2Score(OneToOneFeatureMixin, TorchTransformer, StandardizedDensity):
    """Removes measurement noise from images, spectra or tables, with noisy examples alone.

    A network learns the score of the noisy data, the gradient of their log density, from rows
    with a little more noise. The expected clean row is then a formula of the noisy row and its
    score, one for each family of noise. The strength of the noise enters in this formula only:
    one training serves every strength, and an unknown one is chosen afterwards.

    Parameters
    ----------
    noise : {"gaussian", "poisson", "gamma"}, default="gaussian"
        "gaussian": noise of one variance is added to every entry. "poisson": entries are a unit
        times counts. "gamma": entries are multiplied by noise of mean 1, as in speckle.
    noise_level : "blind" or float, default="blind"
        The variance for "gaussian", in squared units of X; the unit for "poisson"; the shape for
        "gamma", the inverse of the relative variance. "blind" estimates it, see `fit`.
    network : {"auto", "mlp", "unet"}, default="auto"
        A perceptron, or a U-Net, which "auto" takes for images of at least 16 x 16.
    image_shape : tuple of int, default=None
        Channels, height and width of the images that are the rows of X, flattened.
    ordered : bool, default=False
        Neighbouring columns are neighbours in space or time, as in a spectrum, so that roughness
        has a meaning.
    hidden_layer_sizes : array-like of int, default=(256, 256)
        Widths of the hidden layers of "mlp".
    width : int, default=32
        Channels of the first level of "unet".
    n_levels : int, default=3
        Number of resolutions of "unet".
    linear_base : "auto" or bool, default="auto"
        Learn what is missing from the score of a Gaussian with the covariance of X; denoising is
        then that of Wiener to begin with. "auto" does so up to 1024 columns.
    sigma_max : "auto" or float, default="auto"
        Standard deviation of the noise added at the beginning of the training, in units of X, or
        of its square root for "poisson" and of its logarithm for "gamma". "auto" is twice that
        of the noise, or that of the rows if it is unknown.
    sigma_min : "auto" or float, default="auto"
        The same at the end; "auto" is a quarter of `sigma_max`.
    level_grid : array-like of float, default=None
        Levels that "blind" tries; None for 50 of them up to what explains all variance.
    blind_penalty : {"tv"} or callable, default="tv"
        What "blind" minimises: total variation (plus the misfit, for "poisson" and "gamma"), or
        a function of images (n, channels, height, width).
    clip : tuple of float, default=None
        Smallest and largest value of a clean entry.
    optimizer : str or callable, default="adamw"
        Registered name, or a function from parameters to an optimizer.
    lr : float, default=5e-3
        Learning rate, which falls to zero as a cosine.
    weight_decay : float, default=1e-4
        Weight decay.
    max_epochs : int, default=100
        Number of passes over the data, during which the added noise falls.
    batch_size : int, default=64
        Rows a batch.
    early_stopping : bool, default=True
        Keep the state that is best on held-out rows: a small table is soon memorised.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    n_iter_no_change : int, default=40
        Epochs without improvement after which training ends.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" is that of X.
    device : str, default="auto"
        Torch device; "auto" is CUDA where there is one.
    verbose : int or bool, default=0
        Show a progress bar.
    random_state : int, RandomState instance or None, default=None
        Seeds initialisation, batches and noise.

    Attributes
    ----------
    noise_level_ : float
        Level that `transform` assumes.
    sigma_max_ : float
        Noise added at the beginning.
    sigma_min_ : float
        Noise added at the end.
    offset_ : float
        What is added under the square root for "poisson", 3/8 of the unit, or of the smallest
        positive entry if that is unknown; what replaces smaller entries for "gamma", half the
        smallest positive one.
    mean_ : ndarray of shape (n_features,)
        Means of the columns, or of their square roots or logarithms.
    scale_ : ndarray of shape (n_features,)
        Root mean variance of the columns, the same for all.
    best_iter_ : int
        Epoch of the state that was kept, with early stopping.
    validation_scores_ : list of float
        Minus the held-out loss of each epoch, with early stopping.
    net_ : skorch.NeuralNet
        The trained net.
    module_ : torch.nn.Module
        The score on standardised rows.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Training losses.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    The score belongs to the noise in X: rows to be denoised must carry the same. "gaussian" gives
    E[x | y], "gamma" 1 / E[1/x | y], and "poisson" exp E[log x | y] in an approximation that is
    good from a few counts on. Columns of a table with different units should be scaled so that
    their noise is equally strong. The network sees square roots for "poisson" and logarithms for
    "gamma", where the noise is equally strong everywhere; the paper trains on the data as they
    are. In "blind" for "poisson" roughness weighs ten times more than in the paper, which leaves
    much of the noise in small images.

    Denoising costs one pass of the network; "blind" one more; the base costs
    O(n_features^3) once.

    References
    ----------
    Kim and Ye, "Noise2Score: Tweedie's Approach to Self-Supervised Image Denoising without Clean
    Images", NeurIPS 2021, arXiv:2106.07009 (Sections 3 and 4, Table 1).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import Noise2Score
    >>> rng = np.random.RandomState(0)
    >>> clean = rng.normal(size=(500, 1)) * np.ones((1, 8))
    >>> noisy = clean + 0.5 * rng.normal(size=clean.shape)
    >>> model = Noise2Score(noise_level=0.25, max_epochs=10, random_state=0)
    >>> denoised = model.fit_transform(noisy)
    >>> bool(np.mean((denoised - clean) ** 2) < 0.3 * np.mean((noisy - clean) ** 2))
    True
    """

    _training_defaults = {"lr_schedule": "cosine"}
    _parameter_constraints = {
        "noise": [StrOptions({"gaussian", "poisson", "gamma"})],
        "noise_level": [StrOptions({"blind"}), Interval(Real, 0, None, closed="left")],
        "network": [StrOptions({"auto", "mlp", "unet"})],
        "image_shape": [tuple, list, None],
        "ordered": ["boolean"],
        "hidden_layer_sizes": ["array-like"],
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "linear_base": [StrOptions({"auto"}), "boolean"],
        "sigma_max": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "sigma_min": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "level_grid": ["array-like", None],
        "blind_penalty": [StrOptions({"tv"}), callable],
        "clip": [tuple, list, None],
    }
    _search_space = {"hidden_layer_sizes": [(128,), (256,), (256, 256)], "lr": [2e-3, 5e-3]}

    def __init__(
        self,
        noise="gaussian",
        noise_level="blind",
        *,
        network="auto",
        image_shape=None,
        ordered=False,
        hidden_layer_sizes=(256, 256),
        width=32,
        n_levels=3,
        linear_base="auto",
        sigma_max="auto",
        sigma_min="auto",
        level_grid=None,
        blind_penalty="tv",
        clip=None,
        optimizer="adamw",
        lr=5e-3,
        weight_decay=1e-4,
        max_epochs=100,
        batch_size=64,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=40,
        dtype="auto",
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.noise = noise
        self.noise_level = noise_level
        self.network = network
        self.image_shape = image_shape
        self.ordered = ordered
        self.hidden_layer_sizes = hidden_layer_sizes
        self.width = width
        self.n_levels = n_levels
        self.linear_base = linear_base
        self.sigma_max = sigma_max
        self.sigma_min = sigma_min
        self.level_grid = level_grid
        self.blind_penalty = blind_penalty
        self.clip = clip
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @staticmethod
    def _small_params():
        return {"hidden_layer_sizes": (16,), "max_epochs": 5}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.noise != "gaussian"
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the score of noisy rows, and the strength of their noise if it is unknown.

        That of Gaussian noise on a table is the median of the lower half of the eigenvalues of
        the covariance: the signal is to lie near a subspace of at most half the columns. With
        `image_shape` or `ordered`, and for the other families, it is the level whose denoised
        rows have the smallest `blind_penalty`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows; not negative for "poisson" and "gamma".
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the level of "poisson" or "gamma" is unknown and columns have no order, if
            `image_shape` does not fit X, or if X has entries that the noise cannot give.
        """
        self._check_settings()
        return self._fit(X)._set_noise_level(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Make one pass over the given rows, continuing from the present state.

        Means, scale and covariance are those of the first call; the strength of the noise, where
        it is unknown, is estimated anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator.
        """
        self._check_settings()
        return self._partial_fit(X)._set_noise_level(X)

    def _set_noise_level(self, X):
        blind = self.noise_level == "blind"
        self.noise_level_ = self.estimate_noise_level(X) if blind else float(self.noise_level)
        return self

    def _check_settings(self):
        smooth = self.ordered or self.image_shape is not None
        if self.noise != "gaussian" and self.noise_level == "blind" and not smooth:
            raise ValueError(
                f"noise_level='blind' with noise={self.noise!r} needs image_shape or ordered=True"
            )
        if self.noise == "gamma" and self.noise_level == 0:
            raise ValueError("noise_level must be positive for noise='gamma': it is the shape")
        if self.network == "unet" and self.image_shape is None:
            raise ValueError("network='unet' needs image_shape")
        if self.image_shape is not None and len(self.image_shape) != 3:
            raise ValueError(
                f"image_shape must be (channels, height, width), got {self.image_shape!r}"
            )
        if self.clip is not None and not (len(self.clip) == 2 and self.clip[0] <= self.clip[1]):
            raise ValueError(f"clip must be (smallest, largest), got {self.clip!r}")

    # Training.

    def _learn_scale(self, X):
        if self.image_shape is not None and np.prod(self.image_shape) != X.shape[1]:
            raise ValueError(f"image_shape={self.image_shape!r} has not {X.shape[1]} entries")
        level = None if self.noise_level == "blind" else self.noise_level
        self.offset_ = link_offset(self.noise, X, level)
        links = self._link(X)
        super()._learn_scale(links)
        # 1 may stand for a constant column
        own = links.std(axis=0, dtype=np.float64)
        spreads = np.where(self.scale_ == 1, own, self.scale_)
        size = spreads.max() or 1.0
        common = size * np.sqrt(np.mean((spreads / size) ** 2)) or 1.0
        self.scale_ = np.full(X.shape[1], common)
        self._learn_levels(common)

    def _learn_levels(self, scale):
        if self.sigma_max != "auto":
            self.sigma_max_ = float(self.sigma_max)
        elif self.noise_level in ("blind", 0):
            self.sigma_max_ = scale
        else:
            self.sigma_max_ = 2 * NOISE_DEVIATIONS[self.noise](self.noise_level)
        auto = self.sigma_min == "auto"
        self.sigma_min_ = _FALL * self.sigma_max_ if auto else float(self.sigma_min)

    def _link(self, X):
        if self.noise != "gaussian":
            check_non_negative(X, type(self).__name__)
        return link(self.noise, X, self.offset_)

    def _standardize(self, X):
        return super()._standardize(self._link(X))

    def _make_module(self):
        n_features, shape = self.n_features_in_, self.image_shape
        unet = self.network == "unet"
        if self.network == "auto" and shape is not None:
            unet = min(shape[1:]) >= _MIN_UNET_SIDE
        if unet:
            network = image_network(shape, self.width, self.n_levels)
        else:
            network = row_network(n_features, self.hidden_layer_sizes)
        base = self.linear_base
        base = n_features <= _MAX_LINEAR_FEATURES if base == "auto" else base
        return ResidualScore(network, n_features, self.sigma_max_ / self.scale_[0], base)

    def _on_fit_begin(self, module, data):
        module.learn_covariance(data.inputs[0])
        module.level = self.sigma_min_ / self.scale_[0]

    def _on_epoch_begin(self, module, epoch):
        progress = min(1.0, epoch / max(self.max_epochs - 1, 1))
        level = self.sigma_max_ + (self.sigma_min_ - self.sigma_max_) * progress
        self._level = level / self.scale_[0]

    def _loss(self, module, batch):
        x, generator = batch.inputs[0], self.net_.generator_
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return denoising_score_loss(lambda x: module(x, self._level), x, self._level, noise)

    def _validation_score(self, module, data):
        return -_loss_at_the_end(module, data.inputs[0])

    # Use.

    def _standardized_score(self, module, x):
        return module(x)

    def score_function(self, X):
        """Compute the score of noisy rows, the gradient of their log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Scores, in one over the units of X.
        """
        return self._rows_and_score(X)[1]

    def _rows_and_score(self, X):
        scores = super().score_function(X)
        Y = validate_data(self, X, reset=False, dtype=self._dtypes())
        return Y, score_behind_link(self.noise, Y, scores, self.offset_).astype(scores.dtype)

    def transform(self, X, noise_level=None):
        """Denoise rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        noise_level : float, default=None
            Level to assume; None for `noise_level_`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Estimates of the clean rows.
        """
        check_is_fitted(self)
        level = self.noise_level_ if noise_level is None else noise_level
        return self._posterior_mean(*self._rows_and_score(X), level)

    def _posterior_mean(self, Y, scores, level):
        if self.noise == "gamma":
            Y = np.maximum(Y, self.offset_)
        X = POSTERIOR_MEANS[self.noise](Y, scores, level)
        return (X if self.clip is None else np.clip(X, *self.clip)).astype(Y.dtype)

    def estimate_noise_level(self, X):
        """Estimate the strength of the noise, as `fit` does where it is unknown.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows, of which at most 500 are used where levels are tried.

        Returns
        -------
        float
            The level, in the units of `noise_level`.
        """
        check_is_fitted(self)
        Y, scores = self._rows_and_score(X)
        if self.noise == "gaussian" and self.image_shape is None and not self.ordered:
            return covariance_noise(Y)
        chosen = np.linspace(0, len(Y) - 1, min(len(Y), _N_BLIND_ROWS)).astype(int)
        Y, scores = Y[chosen], scores[chosen]
        grid = self.level_grid
        grid = level_grid(self.noise, self.scale_[0]) if grid is None else grid
        denoised = (self._posterior_mean(Y, scores, level) for level in grid)
        shape = self.image_shape or (1, 1, Y.shape[1])
        penalties = [
            quality_penalty(self.noise, Y, X, lambda X: X.reshape(-1, *shape), self.blind_penalty)
            for X in denoised
        ]
        return float(grid[np.argmin(penalties)])

    def score(self, X, y=None):
        """Compute minus the loss of the training at its last level, the same noise every time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the mean of (sigma s(y + sigma u) + u)^2; larger is better, for equal
            `sigma_min_`.
        """
        check_is_fitted(self)
        (X,), _ = self._parse(X, reset=False)
        x = torch.from_numpy(X).to(self._device(), next(self.module_.parameters()).dtype)
        with torch.inference_mode():
            return -_loss_at_the_end(self.module_, x)


def _loss_at_the_end(module, x):
    same = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=same, dtype=x.dtype).to(x.device)
    return denoising_score_loss(module, x, module.level, noise).mean().item()
