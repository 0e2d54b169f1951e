"""Networks trained on the Eckart-Young loss: deep CCA, and self-supervision by CCA."""

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import MultiOutputMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skpapers.neural_network import (
    SelfSupervisedTransformer,
    TorchTransformer,
    jitter,
    make_mlp,
    resample_features,
)
from skpapers.neural_network._self_supervised import batch_norm_mlp, check_sizes

from ._canonical import center, check_view, column_correlations
from ._gep import ey_loss, latent_rotations

__all__ = ["CCASelfSupervised", "DeepCCA"]


class DeepCCA(MultiOutputMixin, TorchTransformer):
    """Nonlinear canonical correlation analysis: a network a view, whose outputs correlate.

    The networks minimise the Eckart-Young loss over mini-batches, which needs no whitening and no
    constraint; a linear CCA of their outputs then gives ordered variates of unit variance.

    Parameters
    ----------
    n_components : int, default=10
        Number of variates.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers of each network.
    activation : str or callable, default="leaky_relu"
        Name of a registered activation, a module class, or a module.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of the weight matrices; the ridge of deep CCA.
    max_epochs : int, default=60
        Passes over the rows.
    batch_size : int, default=200
        Rows in a batch, about; take several times `n_components`. None for all rows.
    auto_terms : bool, default=True
        Add each view's covariance with itself to the loss: the same variates, better conditioned.
    scale : bool, default=True
        Whether columns are divided by their standard deviations before the networks.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights and batches.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    correlations_ : ndarray of shape (n_components,)
        Canonical correlations on the training rows; the mean over the pairs of views where there
        are more than two.
    rotations_ : list of ndarray of shape (n_components, n_components)
        From the outputs of each network to its variates.
    offsets_ : list of ndarray of shape (n_components,)
        Means of the outputs of each network.
    means_ : list of ndarray of shape (n_features_i,)
        Means of the columns of each view.
    scales_ : list of ndarray of shape (n_features_i,)
        What the columns of each view are divided by.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained networks, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features of the first view.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of its features, where X has string column names.

    Notes
    -----
    A step costs O(batch_size * (n_weights + n_components**2)). One batch serves both parts of the
    loss, whose bias is of order n_components / batch_size. With few rows the networks overfit, and
    correlations on the training rows say little. The paper's results on halves of MNIST digits
    and on speech are not part of the tests.

    References
    ----------
    .. [1] J. Chapman, L. Wells, A. Lawry Aguila, "Unconstrained Stochastic CCA: Unifying
       Multiview and Self-Supervised Learning", ICLR 2024, arXiv:2310.01012, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import DeepCCA
    >>> rng = np.random.default_rng(0)
    >>> t = rng.normal(size=(1000, 1))
    >>> X, Y = np.hstack([t, rng.normal(size=(1000, 2))]), np.abs(t)
    >>> model = DeepCCA(1, hidden_layer_sizes=(32,), max_epochs=30, lr=1e-2, random_state=0)
    >>> bool(model.fit(X, Y).score(X, Y) > 0.9)
    True
    """

    _training_defaults = {"optimizer": "adam", "max_epochs": 60, "batch_size": 200}
    _even_batches = True
    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [str, callable],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "auto_terms": ["boolean"],
        "scale": ["boolean"],
    }
    _search_space = {"n_components": [1, 2, 5], "weight_decay": [0.0, 1e-3, 1e-2]}

    @staticmethod
    def _small_params():
        return {"hidden_layer_sizes": (16,), "n_components": 3, "max_epochs": 3}

    def __init__(
        self,
        n_components=10,
        *,
        hidden_layer_sizes=(256, 256),
        activation="leaky_relu",
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        max_epochs=60,
        batch_size=200,
        auto_terms=True,
        scale=True,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.auto_terms = auto_terms
        self.scale = scale
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train a network for each of two views.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view, at least two rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if y is None:
            raise ValueError("DeepCCA requires y to be passed, but the target y is None")
        return self._fit(Views(X, [y]))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_views(self, views):
        """Train a network for each of two or more views.

        Parameters
        ----------
        views : list of array-like of shape (n_samples, n_features_i)
            Views of the same samples.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if len(views) < 2:
            raise ValueError(f"views must hold at least two matrices, got {len(views)}")
        return self._fit(Views(views[0], views[1:]))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y):
        """Make one pass over the given rows, continuing from the present state.

        Columns are standardised as in the first call; the final linear CCA is of these rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(Views(X, [y]))

    def fit_transform(self, X, y):
        """Fit, then compute the variates of the first view.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Variates of the first view.
        """
        return self.fit(X, y).transform(X)

    def transform(self, X, y=None):
        """Compute the variates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Second view.

        Returns
        -------
        x_variates : ndarray of shape (n_samples, n_components)
            Variates of the first view.
        y_variates : ndarray of shape (n_samples, n_components)
            Variates of the second view; only where `y` is given.
        """
        if y is None:
            return self._variates(X, 1)[0]
        return tuple(self.transform_views([X, y]))

    def transform_views(self, views):
        """Compute the variates of every view.

        Parameters
        ----------
        views : list of array-like of shape (n_samples, n_features_i)
            Views in the order of fit.

        Returns
        -------
        list of ndarray of shape (n_samples, n_components)
            The variates.
        """
        return self._variates(Views(views[0], views[1:]), len(views))

    def score(self, X, y):
        """Mean correlation of the variates of both views on given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view.

        Returns
        -------
        float
            In [-1, 1].
        """
        return float(np.mean(column_correlations(*self.transform(X, y))))

    @property
    def _n_features_out(self):
        return self.n_components

    def _variates(self, X, n_views):
        check_is_fitted(self)
        stacked = self._predict(lambda module, views: torch.cat(module(*views), dim=1), X)
        pieces = np.split(stacked, n_views, axis=1)
        return [
            ((Z - offset) @ rotation).astype(stacked.dtype, copy=False)
            for Z, offset, rotation in zip(pieces, self.offsets_, self.rotations_)
        ]

    def _parse(self, X, y="no_validation", *, reset):
        first, others = X if isinstance(X, Views) else Views(X, [])
        options = {"dtype": self._dtypes(), "ensure_min_samples": 2 if reset else 1}
        first = validate_data(self, first, reset=reset, **options)
        views = [first, *(check_view(view, first)[0] for view in others)]
        if reset:
            self._standardize(views)
        for i, (view, mean) in enumerate(zip(views, self.means_)):
            if view.shape[1] != len(mean):
                raise ValueError(f"view {i} has {view.shape[1]} features, fitted with {len(mean)}")
        pairs = zip(views, self.means_, self.scales_)
        return tuple(((V - m) / s).astype(first.dtype) for V, m, s in pairs), None

    def _standardize(self, views):
        copies = [np.array(view, dtype=np.float64) for view in views]
        moments = [center(view, scale=self.scale) for view in copies]
        for i, view in enumerate(copies):
            if not view.any():
                raise ValueError(f"view {i} has no variance: every column is constant")
        self.means_, self.scales_ = (list(part) for part in zip(*moments))

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        if data.n_rows < 2:
            raise ValueError("DeepCCA learns from covariances over rows, found n_samples=1")
        return data

    def _make_module(self):
        sizes = check_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        return Encoders(
            make_mlp(len(mean), sizes, self.n_components, activation=self.activation)
            for mean in self.means_
        )

    def _loss(self, module, batch):
        return ey_loss(module(*batch.inputs), auto_terms=self.auto_terms)

    def _on_fit_end(self, data):
        data = data.to(self._device())
        outputs = [Z.cpu().numpy() for Z in self.module_(*data.inputs)]
        rotations, eigenvalues = latent_rotations(outputs)
        self.correlations_ = np.clip(eigenvalues, -1.0, 1.0)
        self.rotations_ = rotations
        self.offsets_ = [Z.mean(axis=0, dtype=np.float64) for Z in outputs]


class CCASelfSupervised(SelfSupervisedTransformer):
    """Learn an embedding without labels: CCA between two distortions of the same row.

    One network sees both views; the Eckart-Young loss makes its projections span the canonical
    variates of the views, what is common to them and decorrelated. It needs neither negative
    pairs nor weights between the terms of a loss.

    Parameters
    ----------
    n_components : int, default=64
        Number of variates, outputs of the projector.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the layers of the encoder, with batch norm and ReLU; `transform` gives the last.
    projector_sizes : sequence of int, default=(128,)
        Widths of the hidden layers of the projector.
    augmentation : {"resample+jitter", "resample", "mask", "jitter", "image_affine"}, callable \
or tuple, default="resample+jitter"
        How rows are distorted: "resample" replaces entries by values of other rows, "mask" by
        zero, "jitter" adds noise, "image_affine" rotates, scales and shifts images. A function
        ``(X, rng) -> X`` of arrays, or a pair of them, one a view.
    corruption : float, default=0.3
        Probability of replacing an entry ("resample", "mask"), or standard deviation of the noise
        in units of that of the column ("jitter"; 0.1 in "resample+jitter"); in [0, 1].
    image_shape : tuple of int, default=None
        (height, width) or (n_channels, height, width) of the images that are the rows, for
        "image_affine".
    encoder : torch.nn.Module, default=None
        Encoder that replaces the default one: its architecture, with parameters drawn anew.
    auto_terms : bool, default=True
        Add each view's covariance with itself to the loss: the same variates, better conditioned.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of the weight matrices.
    max_epochs : int, default=100
        Passes over the rows.
    batch_size : int, default=256
        Rows in a batch, about. None for all rows.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, batches and distortions.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    encoder_ : torch.nn.Module
        From rows to features.
    projector_ : torch.nn.Module
        From features to variates; `transform` does without.
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
    A step costs O(batch_size * (n_weights + n_components**2)). One batch serves both parts of the
    loss: two halves would be unbiased, and measured worse. Bring the columns to a common scale
    first. With five labels a class on the 8 x 8 digits, a linear classifier is as good on these
    features as on the pixels; the published results are of a ResNet-18 on CIFAR.

    References
    ----------
    .. [1] J. Chapman, L. Wells, A. Lawry Aguila, "Unconstrained Stochastic CCA: Unifying
       Multiview and Self-Supervised Learning", ICLR 2024, arXiv:2310.01012, section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skpapers.cross_decomposition import CCASelfSupervised
    >>> X, _ = load_digits(return_X_y=True)
    >>> model = CCASelfSupervised(hidden_layer_sizes=(32,), max_epochs=2, random_state=0)
    >>> model.fit_transform(X / 16).shape
    (1797, 32)
    """

    _training_defaults = {"optimizer": "adam", "weight_decay": 0.0}
    _parameter_constraints = {
        "augmentation": [
            StrOptions({"resample+jitter", "resample", "mask", "jitter", "image_affine"}),
            callable,
            tuple,
        ],
        "auto_terms": ["boolean"],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }
    _search_space = {"corruption": [0.1, 0.3, 0.5], "n_components": [16, 64]}

    @staticmethod
    def _small_params():
        return {
            "n_components": 8,
            "hidden_layer_sizes": (16,),
            "projector_sizes": (16,),
            "max_epochs": 3,
        }

    def __init__(
        self,
        n_components=64,
        *,
        hidden_layer_sizes=(256, 256),
        projector_sizes=(128,),
        augmentation="resample+jitter",
        corruption=0.3,
        image_shape=None,
        encoder=None,
        auto_terms=True,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        max_epochs=100,
        batch_size=256,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.projector_sizes = projector_sizes
        self.augmentation = augmentation
        self.corruption = corruption
        self.image_shape = image_shape
        self.encoder = encoder
        self.auto_terms = auto_terms
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _make_encoder(self):
        if self.encoder is not None:
            return super()._make_encoder()
        sizes = check_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        return make_mlp(self.n_features_in_, sizes, None, normalization="batch")

    def _make_projector(self, n_in):
        sizes = check_sizes("projector_sizes", self.projector_sizes)
        return batch_norm_mlp(n_in, (*sizes, self.n_components))

    def _distort(self, X, generator):
        if self.augmentation == "resample+jitter":
            return jitter(resample_features(X, generator, self.corruption), generator)
        return super()._distort(X, generator)

    def _pair_loss(self, module, Z1, Z2):
        return ey_loss([Z1, Z2], auto_terms=self.auto_terms)


class Views(NamedTuple):
    """Views before validation: that which scikit-learn calls X, and the others."""

    first: Any
    others: list


class Encoders(nn.ModuleList):
    """One network a view."""

    def forward(self, *views):
        """Outputs of the networks of the views given."""
        return [network(view) for network, view in zip(self, views)]
