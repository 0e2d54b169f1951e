"""Fractal generative models: exact likelihoods by generators that call smaller generators."""

from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import DensityMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.neural_network import TorchEstimator, torch_generator
from skpapers.utils import check_random_state, draw_seed

from ._binning import UNSEEN, fit_binning
from ._fractal_geometry import (
    check_image_shape,
    masked_levels,
    one_per_level,
    patch_sizes,
)
from ._fractal_network import Architecture, FractalNetwork
from ._fractal_sampler import Sampler

__all__ = ["FractalDensity"]

_ENTRIES_AT_ONCE = 2**17
_N_BOUND_PASSES = 16  # over which the bound of masked generators is averaged


class FractalDensity(DensityMixin, TorchEstimator):
    """Exact likelihoods of images and long rows, by a generator that calls smaller generators.

    A transformer splits the image into patches and gives each a condition, from which the next
    transformer, one for all patches, does the same with the patch, down to a model of a pixel.
    Every probability is exact and comes in one pass, and attention, which costs the square of the
    number of pixels in one flat model, is nearly linear in it.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        (n_channels, height, width), in the order of which images are flattened into rows, or
        (height, width). None is a row: a sequence of columns.
    sizes : tuple of int or "auto", default="auto"
        Sides of the image, of its patches, of theirs, ..., and 1, each a multiple of the next;
        lengths where rows are no images. An image smaller than the first is padded. "auto" is the
        cheapest split into one level or two, with patches of 2, 4, 8, ... a side.
    n_levels : int, default=16
        Number of bins of continuous columns.
    generators : {"ar", "mar"} or list of them, default="ar"
        How a level generates its patches: one after another, each from those before, or in a
        random order from those that are there. One a level if a list.
    widths : int or tuple of int, default=(128, 64, 32)
        Widths of the transformers of the levels and, last, of the pixel model; multiples of
        4 * `n_heads`. With fewer levels those in the middle are left out, with more the last
        before the pixel model is repeated.
    depths : int or tuple of int, default=(3, 2, 1)
        Numbers of layers, likewise.
    n_heads : int, default=4
        Number of attention heads.
    first_channel_weight : float, default=5.0
        Weight of the first channel in the training loss; the others have 1.
    label_dropout : float, default=0.1
        Probability of hiding the label of a training row.
    guidance_scale : float, default=1.0
        Extrapolation in `sample` with labels, from the probabilities without label; 1 is none.
    temperature : float, default=1.0
        Factor on the logits in `sample` and `complete`: above 1, what is probable gets more so.
    binning : {"uniform", "quantile"}, default="uniform"
        Bins of equal widths, or of equal numbers of values.
    max_epochs : int, default=50
        Passes over the data.
    batch_size : int, default=64
        Rows in a batch; None for all of them.
    lr : float, default=2e-3
        Learning rate of AdamW.
    weight_decay : float, default=0.05
        Weight decay of the weight matrices.
    lr_schedule : str or callable, default="cosine"
        Registered name of a schedule over the epochs; None for a constant rate.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, batches, masks and samples.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or None
        Labels, None where there were none.
    sizes_ : list of tuple of int
        (height, width) of the image as padded, of its patches, ..., and of a pixel.
    bin_edges_ : list of ndarray or None
        For each column the edges of its bins, None for a discrete one.
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
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Values are codes of a column, or for images of a channel. A column is discrete where it holds
    integers only, at most 256 different ones, or at most 20 different values that appear twice on
    average; others are cut into `n_levels` bins with a constant density each. Values beyond the
    ends count as in the end bins. A discrete value that was not seen in `fit` has log probability
    -inf.

    A pass computes O(K_0 ** 2 + K_0 K_1 ** 2 + ...) pairs of query and key, for K_l patches at
    level l. Sampling takes as many steps as there are pixels and channels, each over all rows.
    With "mar", `score_samples` estimates a lower bound of the log density by 16 passes with
    random masks that are the same for all rows; `complete` then sees known pixels on all sides,
    with "ar" those before only. The guiding pixel that the paper adds to its masked models is left
    out, and so are warm-up and dropout. The published samples and 3.1 bits per
    dimension on ImageNet took large networks; the digits are tested here.

    References
    ----------
    .. [1] T. Li, Q. Sun, L. Fan and K. He, "Fractal Generative Models", 2025, arXiv:2502.17437,
       sections 3 and 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skpapers.density import FractalDensity
    >>> X, y = load_digits(return_X_y=True)
    >>> model = FractalDensity((8, 8), widths=32, max_epochs=2, random_state=0)
    >>> model.fit(X[:500], y[:500]).sample(3, y=[0, 1, 2]).shape
    (3, 64)
    >>> bool(model.bits_per_dim(X[500:700]) < 4)
    True
    """

    _training_defaults = {
        "optimizer": "adamw",
        "optimizer_params": {"betas": (0.9, 0.95)},
        "clip_norm": 3.0,
    }
    _parameter_constraints = {
        "image_shape": [tuple, list, None],
        "sizes": [tuple, list, StrOptions({"auto"})],
        "n_levels": [Interval(Integral, 2, None, closed="left")],
        "generators": [list, tuple, StrOptions({"ar", "mar"})],
        "widths": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "depths": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "first_channel_weight": [Interval(Real, 0, None, closed="neither")],
        "label_dropout": [Interval(Real, 0, 1, closed="left")],
        "guidance_scale": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "binning": [StrOptions({"uniform", "quantile"})],
    }
    _search_space = {"n_levels": [8, 16], "widths": [16, 32], "lr": [1e-3, 2e-3, 5e-3]}

    @staticmethod
    def _small_params():
        return {"widths": 16, "depths": 1, "max_epochs": 3}

    def __init__(
        self,
        image_shape=None,
        sizes="auto",
        n_levels=16,
        generators="ar",
        widths=(128, 64, 32),
        depths=(3, 2, 1),
        n_heads=4,
        first_channel_weight=5.0,
        label_dropout=0.1,
        guidance_scale=1.0,
        temperature=1.0,
        binning="uniform",
        max_epochs=50,
        batch_size=64,
        lr=2e-3,
        weight_decay=0.05,
        lr_schedule="cosine",
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.image_shape = image_shape
        self.sizes = sizes
        self.n_levels = n_levels
        self.generators = generators
        self.widths = widths
        self.depths = depths
        self.n_heads = n_heads
        self.first_channel_weight = first_channel_weight
        self.label_dropout = label_dropout
        self.guidance_scale = guidance_scale
        self.temperature = temperature
        self.binning = binning
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # Fitting.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fit the model to the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images.
        y : array-like of shape (n_samples,), default=None
            Class labels to condition on. A continuous y is no label and is ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if y is None or type_of_target(y).startswith("continuous"):
            return self._fit(X)
        return self._fit(X, y)

    def _parse(self, X, y="no_validation", *, reset):
        checked = validate_data(self, X, y, reset=reset, dtype=self._dtypes())
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        if reset:
            self._reset(X)
        codes = self._binning.encode(X)
        if (codes == UNSEEN).any():
            raise ValueError("X has values in its discrete columns that were not seen in fit")
        return (codes,), y

    def _reset(self, X):
        """Learn the geometry and the values of X."""
        self._dtype = X.dtype
        self._shape = check_image_shape(self.image_shape, X.shape[1])
        n_dims = 1 if self.image_shape is None else 2
        self.sizes_ = patch_sizes(self.sizes, self._shape[1:], n_dims)
        channel = np.repeat(np.arange(self._shape[0]), X.shape[1] // self._shape[0])
        group = None if self.image_shape is None else channel
        self._binning = fit_binning(X, self.n_levels, self.binning, group)

    def _encode_target(self, y, weight, *, reset):
        if reset:
            self.classes_ = None if y is None else np.unique(y)
        return (None if y is None else self._label_codes(y, len(y))), weight

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        if data.y is None:
            data = data._replace(y=torch.from_numpy(self._label_codes(None, data.n_rows)))
        return data

    def _label_codes(self, y, n_rows):
        """Numbers of the labels; without y that of no label."""
        n_classes = 0 if self.classes_ is None else len(self.classes_)
        if y is None:
            return np.full(n_rows, n_classes)
        y = np.asarray(y)
        known = np.isin(y, [] if self.classes_ is None else self.classes_)
        if y.shape != (n_rows,) or not known.all():
            raise ValueError(
                f"y must hold one label a row, out of those given to fit: {self.classes_}"
            )
        return np.searchsorted(self.classes_, y)

    def _tensor_dtype(self, inputs):
        return torch.float32 if self._dtype == np.float32 else torch.float64

    def _make_module(self):
        n_levels = len(self.sizes_) - 1
        architecture = Architecture(
            n_channels=self._shape[0],
            n_codes=int(self._binning.n_codes.max()),
            patches=self.sizes_,
            masked=masked_levels(self.generators, n_levels),
            widths=one_per_level("widths", self.widths, n_levels),
            depths=one_per_level("depths", self.depths, n_levels),
            n_heads=self.n_heads,
            n_labels=0 if self.classes_ is None else len(self.classes_),
        )
        if any(width % (4 * self.n_heads) for width in architecture.widths):
            raise ValueError(
                f"widths={self.widths} must be multiples of 4 * n_heads = {4 * self.n_heads}"
            )
        return FractalNetwork(
            architecture, self._pad(torch.from_numpy(self._binning.n_codes), 1)[0]
        )

    def _pad(self, codes, value=0):
        """Rows as padded images; an entry with one possible code has log probability 0."""
        height, width = self.sizes_[0]
        _, rows, columns = self._shape
        images = codes.reshape(-1, *self._shape)
        return F.pad(images, (0, width - columns, 0, height - rows), value=value)

    def _crop(self, images):
        """Padded images as rows."""
        _, rows, columns = self._shape
        return images[:, :, :rows, :columns].flatten(1)

    def _on_fit_begin(self, module, data):
        self._bound_seed = draw_seed(check_random_state(self.random_state))

    def _loss(self, module, batch):
        """Cross-entropy a pixel, with more weight on the first channel."""
        labels, generator = batch.y, self.net_.generator_
        if self.classes_ is not None:
            hidden = torch.rand(labels.shape, generator=generator) < self.label_dropout
            labels = labels.masked_fill(hidden.to(labels.device), len(self.classes_))
        log_p, weight = (self._crop(x) for x in self._log_prob(module, *batch.inputs, labels))
        channel = torch.ones(self._shape[0], device=log_p.device, dtype=log_p.dtype)
        channel[0] = self.first_channel_weight
        n_pixels = log_p.shape[1] // len(channel)
        weight = weight * (channel / channel.mean()).repeat_interleave(n_pixels)
        return -(weight * log_p).sum(1) / weight.sum(1).clamp(min=1e-9)

    def _log_prob(self, module, codes, labels, generator=None):
        return module(self._pad(codes), labels, generator or self.net_.generator_)

    # Queries.

    def token_log_prob(self, X, y=None):
        """Compute the log probability of each entry given those before it in its order.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images.
        y : array-like of shape (n_samples,), default=None
            Labels to condition on; None is none.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Log probabilities in nats; with "mar" terms of a lower bound of their sum.
        """
        return self._terms(X, y)[0]

    def _terms(self, X, y):
        """Log probabilities and codes."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=self._dtypes())
        codes = self._binning.encode(X)
        labels = torch.from_numpy(self._label_codes(y, len(X)))
        seen = torch.from_numpy(np.where(codes == UNSEEN, 0, codes))
        terms = self._in_batches(self._weighted_terms, seen, labels)
        return np.where(codes == UNSEEN, -np.inf, terms), codes

    def _weighted_terms(self, codes, labels):
        n_passes = _N_BOUND_PASSES if any(level.masked for level in self.module_.levels) else 1
        generator = torch.Generator().manual_seed(self._bound_seed)
        total = 0.0
        for _ in range(n_passes):
            log_p, weight = self._log_prob(self.module_, codes, labels, generator)
            total = total + weight * log_p
        return self._crop(total) / n_passes

    def _in_batches(self, function, *tensors):
        """Concatenate what `function` makes of some rows at a time."""
        n_rows = max(1, _ENTRIES_AT_ONCE // max(self.n_features_in_, 1))
        with torch.inference_mode():
            batches = zip(*(tensor.to(self._device()).split(n_rows) for tensor in tensors))
            return torch.cat([function(*batch).cpu() for batch in batches]).numpy()

    def score_samples(self, X, y=None, discrete=False):
        """Compute the log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images.
        y : array-like of shape (n_samples,), default=None
            Labels to condition on; None is none.
        discrete : bool, default=False
            Give the log probability of the bins instead of the density within them.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats; with "mar" a lower bound.
        """
        terms, codes = self._terms(X, y)
        total = terms.sum(axis=1)
        return total if discrete else (total - self._binning.log_volume(codes)).astype(total.dtype)

    def score(self, X, y=None):
        """Compute the mean log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean of `score_samples` without labels.
        """
        return float(self.score_samples(X).mean())

    def bits_per_dim(self, X, y=None):
        """Compute the mean number of bits an entry of X takes, as binned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images.
        y : array-like of shape (n_samples,), default=None
            Labels to condition on; None is none.

        Returns
        -------
        float
            Bits per dimension.
        """
        nats = -self.score_samples(X, y, discrete=True).mean()
        return float(nats / self.n_features_in_ / np.log(2))

    def sample(self, n_samples=1, y=None, random_state=None):
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : array-like of shape (n_samples,), default=None
            Labels of the rows; None is none.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None is the estimator's own.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows; values of binned columns are uniform in their bins.
        """
        check_is_fitted(self)
        unknown = np.full((n_samples, self.n_features_in_), -1)
        return self._fill_in(unknown, y, random_state)

    def complete(self, X, y=None, random_state=None):
        """Draw what is unknown given what is known.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or flattened images; NaN is unknown.
        y : array-like of shape (n_samples,), default=None
            Labels of the rows; None is none.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None is the estimator's own.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            X without NaN. With "ar" a draw depends on the known pixels before it, not on those
            after it.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, dtype=self._dtypes(), ensure_all_finite="allow-nan"
        )
        codes = self._binning.encode(X)
        if (codes == UNSEEN).any():
            raise ValueError("X has values in its discrete columns that were not seen in fit")
        return np.where(np.isnan(X), self._fill_in(codes, y, random_state), X)

    def _fill_in(self, codes, y, random_state):
        rng = check_random_state(self.random_state if random_state is None else random_state)
        guidance = 1.0 if y is None else self.guidance_scale
        sampler = Sampler(self.module_, torch_generator(rng), self.temperature, guidance)
        labels = torch.from_numpy(self._label_codes(y, len(codes)))
        drawn = self._in_batches(
            lambda known, label: self._crop(sampler.sample(label, self._pad(known))),
            torch.from_numpy(codes),
            labels,
        )
        return self._binning.decode(drawn, self._dtype, rng)

    @property
    def bin_edges_(self):
        """For each column the edges of its bins, None for a discrete one."""
        return [self._binning.scales[g].edges for g in self._binning.group]
