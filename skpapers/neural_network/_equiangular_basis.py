"""Equiangular basis vectors: a classifier whose output layer is fixed and nearly orthogonal."""

import copy
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from ._equiangular_vectors import (
    equiangular_basis_vectors,
    extend_vectors,
    largest_cosine,
    make_vectors,
)
from ._families import TorchClassifier
from ._layers import make_mlp
from ._mlp import _MLP
from ._self_supervised import output_width

__all__ = ["EquiangularBasisClassifier", "equiangular_basis_vectors"]


class EquiangularBasisClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, _MLP, TorchClassifier
):
    """A network that maps each class to a fixed vector, all of them almost orthogonal.

    The output layer is no parameter: every class has a unit vector, drawn once and never
    trained, and no two have a large cosine. The network learns to point at the vector of the
    class, and predicts the nearest. The width of the embedding is chosen freely, above or below
    the number of classes, and new classes can be added to a trained network.

    Parameters
    ----------
    n_dims : int, default=None
        Dimension of the embedding. None takes the number of classes seen first, which leaves no
        orthogonal room for classes that come later.
    max_cosine : float, default=None
        Bound of the absolute cosines of two class vectors, see
        :func:`equiangular_basis_vectors`; None for one that is easy to reach.
    temperature : float, default=0.07
        Cosines are divided by it to give logits.
    label_smoothing : float, default=0.0
        Share of the target that is spread over all classes, in [0, 1).
    hidden_layer_sizes : sequence of int, default=(100,)
        Widths of the hidden layers; not used with a `backbone`.
    activation : str or callable, default="relu"
        Registered activation, module class or module; not used with a `backbone`.
    normalization : str or callable, default="none"
        Registered normalisation between a linear layer and its activation; not used with a
        `backbone`.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit during training; not used with a `backbone`.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of the weight matrices.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    max_epochs : int, default=100
        Passes over the data.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their accuracy has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" makes all classes weigh the same.
    backbone : torch.nn.Module, default=None
        A network in place of the hidden layers, which maps rows of any shape to a matrix; a
        linear layer to `n_dims` follows. A copy of it is initialised anew.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of class vectors, initialisation, shuffling, dropout and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.

    Attributes
    ----------
    basis_ : ndarray of shape (n_classes, n_dims)
        The vectors of the classes, in the order of ``classes_``.
    max_cosine_ : float
        Largest absolute cosine of two of them.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode; its output is the logits.
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
    An epoch costs what that of a network with a trained output layer does, with ``n_dims *
    n_classes`` fewer weights to train. The class vectors are made once, at a cost of
    ``O(n_classes**2 * n_dims)`` a step, and in closed form for up to ``n_dims + 1`` classes.

    Squeezing has a price: with far fewer dimensions than classes, or a narrow network before
    them, accuracy falls behind a trained layer. On 200 Gaussian clusters half as many dimensions
    as classes lose nothing, a quarter with a narrower network several points. Probabilities at
    this temperature are over-confident; calibrate them where they matter. The paper's gain of
    half a point on ImageNet, and its hundred thousand classes, are out of reach of such data.

    References
    ----------
    .. [1] Y. Shen, X. Sun, X.-S. Wei, "Equiangular Basis Vectors", CVPR 2023, arXiv:2303.11637,
       sections 3.2 and 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skpapers.neural_network import EquiangularBasisClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = EquiangularBasisClassifier(lr=0.01, tol=0, random_state=0)
    >>> bool(make_pipeline(StandardScaler(), network).fit(X, y).score(X, y) > 0.95)
    True
    >>> network.basis_.shape
    (3, 3)
    """

    _parameter_constraints = {
        "n_dims": [Interval(Integral, 1, None, closed="left"), None],
        "max_cosine": [Interval(Real, 0, 1, closed="left"), None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "backbone": [nn.Module, None],
    }
    _search_space = {
        "temperature": [0.05, 0.07, 0.15],
        "hidden_layer_sizes": [(100,), (256, 256)],
        "lr": [1e-3, 3e-3],
    }

    def __init__(
        self,
        n_dims=None,
        *,
        max_cosine=None,
        temperature=0.07,
        label_smoothing=0.0,
        hidden_layer_sizes=(100,),
        activation="relu",
        normalization="none",
        dropout=0.0,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        batch_size=128,
        max_epochs=100,
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        class_weight=None,
        backbone=None,
        device="auto",
        random_state=None,
        verbose=0,
        warm_start=False,
    ):
        self.n_dims = n_dims
        self.max_cosine = max_cosine
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.normalization = normalization
        self.dropout = dropout
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.backbone = backbone
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    @staticmethod
    def _small_params():
        return {"max_epochs": 40}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = self.backbone is None
        tags.input_tags.three_d_array = self.backbone is not None
        return tags

    def _parse(self, X, y="no_validation", *, reset):
        if self.backbone is None:
            return super()._parse(X, y, reset=reset)
        checked = validate_data(self, X, y, reset=reset, dtype=self._dtypes(), allow_nd=True)
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        if reset:
            self._row_shape = X.shape[1:]
        elif X.shape[1:] != self._row_shape:
            raise ValueError(f"X has rows of shape {X.shape[1:]}, fitted on {self._row_shape}")
        return (X,), y

    def _make_module(self):
        n_dims = self.n_dims or len(self.classes_)
        head = EquiangularHead(
            len(self.classes_), n_dims, self.temperature, self.max_cosine, self._device()
        )
        return nn.Sequential(self._make_embedding(n_dims), head)

    def _make_embedding(self, n_dims):
        if self.backbone is not None:
            backbone = copy.deepcopy(self.backbone).to("meta")
            width = output_width(backbone, self._row_shape)
            return nn.Sequential(backbone, nn.Linear(width, n_dims))
        return make_mlp(
            self.n_features_in_,
            self._layer_sizes(),
            n_dims,
            activation=self.activation,
            normalization=self.normalization,
            dropout=self.dropout,
        )

    def _encode_target(self, y, weight, *, reset):
        check_classification_targets(y)
        if not reset:
            self._add_classes(np.setdiff1d(y, self.classes_))
        return super()._encode_target(y, weight, reset=reset)

    def _add_classes(self, new):
        """Give new labels a vector each; those of the old classes stay as they are."""
        if not new.size:
            return
        if (new.dtype.kind in "OSU") != (self.classes_.dtype.kind in "OSU"):
            raise ValueError(f"y has labels {new.tolist()} of another type than {self.classes_}")
        head = self.module_[1]
        labels = np.concatenate([self.classes_, new])
        order = torch.from_numpy(np.argsort(labels, kind="stable"))
        head.extend(len(new), self.net_.generator_, order)
        self.classes_ = np.sort(labels)

    def _loss(self, module, batch):
        return F.cross_entropy(
            self._output(module, batch.inputs),
            batch.y,
            reduction="mean" if batch.weight is None else "none",
            label_smoothing=self.label_smoothing,
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Make one pass over the given rows, continuing from the present state.

        A label not seen before becomes a class with a vector of its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        classes : array-like of shape (n_classes,), default=None
            Classes to start with, by default those of the first `y`; not used in later calls.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        if hasattr(self, "classes_"):
            classes = None
        elif classes is None:
            check_classification_targets(y)
            classes = np.unique(y)
        return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)

    def transform(self, X):
        """Embed the rows of X on the unit sphere.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_dims)
            Embeddings of unit norm.
        """
        return self._predict(lambda m, x: F.normalize(m[0](*x)), X)

    def decision_function(self, X):
        """Compute the cosines between embeddings and class vectors.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Cosines; with two classes, that of the second minus that of the first.
        """
        cosines = self._cosines(X)
        return cosines[:, 1] - cosines[:, 0] if len(self.classes_) == 2 else cosines

    def score_samples(self, X):
        """Compute the cosine to the nearest class vector, which is low for novel rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The largest cosine of each row.
        """
        return self._cosines(X).max(axis=1)

    def _cosines(self, X):
        return self._predict(lambda m, x: m[1].cosines(m[0](*x)), X)

    @property
    def basis_(self):
        """The vectors of the classes."""
        return self.module_[1].basis.cpu().numpy()

    @property
    def max_cosine_(self):
        """Largest absolute cosine of two class vectors."""
        return largest_cosine(self.module_[1].basis)

    @property
    def _n_features_out(self):
        return self.module_[1].basis.shape[1]


class EquiangularHead(nn.Module):
    """Cosines with fixed class vectors, divided by a temperature."""

    def __init__(self, n_classes, n_dims, temperature=0.07, max_cosine=None, device="cpu"):
        super().__init__()
        self.temperature = temperature
        self.max_cosine = max_cosine
        self.generation_device = device
        self.register_buffer("basis", torch.empty(n_classes, n_dims))

    @torch.no_grad()
    def init_parameters(self, generator):
        """Make the class vectors, with draws from `generator`."""
        shape, device = self.basis.shape, self.generation_device
        self.basis.copy_(make_vectors(*shape, generator, self.max_cosine, device=device))

    @torch.no_grad()
    def extend(self, n_new, generator, order):
        """Append vectors, and put them all in the given order."""
        vectors = extend_vectors(self.basis, n_new, generator, self.max_cosine)
        self.basis = vectors[order.to(vectors.device)].to(self.basis)

    def cosines(self, z):
        """Cosines of embeddings, one a row, and class vectors."""
        return F.normalize(z) @ self.basis.T

    def forward(self, z):
        """Compute the logits."""
        return self.cosines(z) / self.temperature
