"""Networks whose nonlinearity is a product of two linear maps, for rows and for images."""

import math
from numbers import Integral, Real

import numpy as np
import torch.nn.functional as F
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import nn

from ._families import TorchClassifier, TorchRegressor
from ._layers import make_mlp
from ._star_blocks import StarBlock, StarNet

__all__ = ["StarNetClassifier", "StarNetRegressor"]

_VARIANTS = {  # channels of the first stage, blocks of each stage, ratio
    "s050": (16, (1, 1, 3, 1), 3),
    "s100": (20, (1, 2, 4, 1), 4),
    "s150": (24, (1, 2, 4, 2), 3),
    "s1": (24, (2, 2, 8, 3), 4),
    "s2": (32, (1, 2, 6, 2), 4),
    "s3": (32, (2, 2, 8, 4), 4),
    "s4": (32, (3, 3, 12, 5), 4),
}
_LARGE = 128  # images from this size on are halved by the first convolution, as in the paper


class _Star(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What the classifier and the regressor share: rows or images, and the network."""

    _even_batches = True
    _parameter_constraints = {
        "variant": [StrOptions(set(_VARIANTS))],
        "base_width": [Interval(Integral, 1, None, closed="left"), None],
        "depths": ["array-like", None],
        "mlp_ratio": [Interval(Integral, 1, None, closed="left"), None],
        "drop_path": [Interval(Real, 0, 1, closed="left")],
        "image_shape": [tuple, list, None],
        "branch_activation": [StrOptions({"single", "none", "both"})],
        "operation": [StrOptions({"star", "sum"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    _search_space = {"lr": [5e-4, 2e-3, 1e-2], "base_width": [16, 32, 64]}

    @staticmethod
    def _small_params():
        return {"base_width": 32, "depths": (1,), "max_epochs": 30, "batch_size": 256, "lr": 1e-2}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _parse(self, X, y="no_validation", *, reset):
        checks = {}
        if not isinstance(y, str):  # batch normalisation has nothing to learn from one row
            checks = {"ensure_min_samples": 2, **self._target_checks()}
        checked = validate_data(
            self, X, y, reset=reset, dtype=self._dtypes(), allow_nd=True, **checks
        )
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        if self.image_shape is not None and X.ndim == 2:
            X = self._as_images(X)
        if X.ndim == 3:
            X = X[:, None]
        if X.ndim > 4:
            raise ValueError(f"X must be rows or images, got an array of shape {X.shape}")
        if reset:
            self._row_shape = X.shape[1:]
        elif X.shape[1:] != self._row_shape:
            raise ValueError(f"X has rows of shape {X.shape[1:]}, fitted with {self._row_shape}")
        return (X,), y

    def _as_images(self, X):
        if len(self.image_shape) not in (2, 3) or math.prod(self.image_shape) != X.shape[1]:
            raise ValueError(
                f"image_shape={self.image_shape!r} does not fit the {X.shape[1]} features of X"
            )
        return X.reshape(len(X), *self.image_shape)

    def _make_module(self):
        width, depths, ratio = _VARIANTS[self.variant]
        is_table = len(self._row_shape) == 1
        width = self.base_width or (64 if is_table else width)
        ratio = self.mlp_ratio or (4 if is_table else ratio)
        if self.depths is not None:
            depths = tuple(self.depths)
        options = {"branch_activation": self.branch_activation, "operation": self.operation}
        if is_table:
            n_blocks = 3 if self.depths is None else sum(depths)
            return RowNetwork(
                self.n_features_in_,
                width,
                self._n_outputs(),
                [{"ratio": ratio, "drop_path": p, **options} for p in self._drops(n_blocks)],
            )
        channels, *size = self._row_shape
        if min(size) < _LARGE:  # keep two pixels on the shorter side
            depths = depths[: max(1, int(math.log2(min(size))) - 1)]
        return StarNet(
            width,
            depths,
            ratio,
            self._n_outputs(),
            channels,
            stem_stride=1 if min(size) < _LARGE else 2,
            drop_path=self.drop_path,
            **options,
        )

    def _drops(self, n_blocks):
        return np.linspace(0, self.drop_path, n_blocks).tolist()

    def _on_fit_end(self, data):
        self.n_parameters_ = sum(p.numel() for p in self.module_.parameters())

    @property
    def _n_features_out(self):
        return self.module_.head.in_features

    def transform(self, X):
        """Compute the features that the last layer maps to the output.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or of images
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_hidden)
            Features.
        """
        return self._predict(lambda module, inputs: module.features(*inputs), X)


class RowNetwork(nn.Module):
    """A linear layer, star blocks, batch normalisation, a linear layer."""

    def __init__(self, n_features, width, n_outputs, blocks):
        super().__init__()
        options = iter(blocks)
        self.stages = make_mlp(
            n_features,
            [width] * len(blocks),
            None,
            block=lambda width: StarBlock(width, **next(options)),
            normalization="batch",
        )
        self.head = nn.Linear(width, n_outputs)

    def features(self, x):
        return self.stages(x)

    def forward(self, x):
        return self.head(self.features(x))


class StarNetClassifier(_Star, TorchClassifier):
    """A classifier of images, or of rows, whose nonlinearity is a product of two linear maps.

    A block multiplies two linear maps of its input, entry by entry, which makes features of twice
    the degree: narrow networks reach very many interactions at the price of a matrix product.

    Parameters
    ----------
    variant : {"s050", "s100", "s150", "s1", "s2", "s3", "s4"}, default="s050"
        Size of the network for images, the first three for small ones.
    base_width : int, default=None
        Channels of the first stage, or width of the network for rows; None for those of the
        variant, or 64.
    depths : sequence of int, default=None
        Blocks of each stage; None for those of the variant. The network for rows has as many
        blocks as these together, or 3.
    mlp_ratio : int, default=None
        Width of the two maps relative to the channels; None for that of the variant, or 4.
    drop_path : float, default=0.0
        Probability of leaving the last block out for a row during training; it grows linearly up
        to there.
    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) of the image in a row of a table.
    branch_activation : {"single", "none", "both"}, default="single"
        ReLU6 on the first, none, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.
    label_smoothing : float, default=0.0
        Share of the target that is spread over all classes.
    optimizer : str or callable, default="adamw"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=2e-3
        Learning rate.
    weight_decay : float, default=0.025
        Weight decay of the weight matrices.
    max_epochs : int, default=60
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them. Batches are of about equal size.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved for ten
        epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X. float32 is the faster.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropped blocks and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_parameters_ : int
        Number of weights of the network.
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
        Number of features seen during fit; of images, the size of the first axis after the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Images have as many stages as leave two pixels on the shorter side; below 128 pixels the first
    convolution keeps their size. Rows of a table go through blocks of one width: standardise X.

    There is no `sample_weight`: batch normalisation has no exact weights. Products make
    extrapolation wild.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import StarNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = StarNetClassifier(base_width=16, max_epochs=30, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        variant="s050",
        *,
        base_width=None,
        depths=None,
        mlp_ratio=None,
        drop_path=0.0,
        image_shape=None,
        branch_activation="single",
        operation="star",
        label_smoothing=0.0,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.025,
        max_epochs=60,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        dtype="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.variant = variant
        self.base_width = base_width
        self.depths = depths
        self.mlp_ratio = mlp_ratio
        self.drop_path = drop_path
        self.image_shape = image_shape
        self.branch_activation = branch_activation
        self.operation = operation
        self.label_smoothing = label_smoothing
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
(n_samples, channels, height, width)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y)

    def _criterion(self):
        def loss(output, target, reduction):
            smoothing = self.label_smoothing
            return F.cross_entropy(output, target, reduction=reduction, label_smoothing=smoothing)

        return loss


class StarNetRegressor(_Star, TorchRegressor):
    """A regressor on images, or rows, whose nonlinearity is a product of two linear maps.

    As :class:`StarNetClassifier`, for a numeric target, which is standardised.

    Parameters
    ----------
    variant : {"s050", "s100", "s150", "s1", "s2", "s3", "s4"}, default="s050"
        Size of the network for images, the first three for small ones.
    base_width : int, default=None
        Channels of the first stage, or width of the network for rows; None for those of the
        variant, or 64.
    depths : sequence of int, default=None
        Blocks of each stage; None for those of the variant. The network for rows has as many
        blocks as these together, or 3.
    mlp_ratio : int, default=None
        Width of the two maps relative to the channels; None for that of the variant, or 4.
    drop_path : float, default=0.0
        Probability of leaving the last block out for a row during training; it grows linearly up
        to there.
    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) of the image in a row of a table.
    branch_activation : {"single", "none", "both"}, default="single"
        ReLU6 on the first, none, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.
    optimizer : str or callable, default="adamw"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=2e-3
        Learning rate.
    weight_decay : float, default=0.025
        Weight decay of the weight matrices.
    max_epochs : int, default=60
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them. Batches are of about equal size.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved for ten
        epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X. float32 is the faster.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropped blocks and the validation split.
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
    n_parameters_ : int
        Number of weights of the network.
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
        Number of features seen during fit; of images, the size of the first axis after the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    As for :class:`StarNetClassifier`.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skpapers.neural_network import StarNetRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = StarNetRegressor(base_width=16, max_epochs=30, random_state=0)
    >>> bool(make_pipeline(StandardScaler(), network).fit(X, y).score(X, y) > 0.5)
    True
    """

    def __init__(
        self,
        variant="s050",
        *,
        base_width=None,
        depths=None,
        mlp_ratio=None,
        drop_path=0.0,
        image_shape=None,
        branch_activation="single",
        operation="star",
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.025,
        max_epochs=60,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        dtype="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.variant = variant
        self.base_width = base_width
        self.depths = depths
        self.mlp_ratio = mlp_ratio
        self.drop_path = drop_path
        self.image_shape = image_shape
        self.branch_activation = branch_activation
        self.operation = operation
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
(n_samples, channels, height, width)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y)
