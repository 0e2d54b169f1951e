"""PHI-S: unit variance in every dimension from a rotation and one scale, for balanced targets."""

from itertools import pairwise
from math import sqrt
from numbers import Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array, gen_batches
from sklearn.utils._array_api import get_namespace_and_device, move_to, supported_float_dtypes
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skpapers.utils import check_same_namespace

from ._hadamard import equalizing_rotation

__all__ = ["HadamardWhitener", "PHIStandardScaler"]

_METHODS = {"phi_s", "standard", "global", "pca_whiten", "zca", "hadamard_whiten"}
_CHUNK = 4096  # rows centred at a time: bounds the float64 copies


class PHIStandardScaler(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Give every dimension unit variance with a rotation and one scale.

    With the covariance ``U diag(lam) U^T``, the rows become ``z = R U^T (x - mean) / phi``, where
    ``phi**2`` is the mean of lam and R an orthogonal matrix that spreads lam evenly. This is a
    similarity: all distances are divided by phi, so that squared errors mean the same before and
    after, and several targets can share a loss without any of them being distorted.

    Parameters
    ----------
    method : {"phi_s", "standard", "global", "pca_whiten", "zca", "hadamard_whiten"}, \
            default="phi_s"
        "phi_s" is the above. The others are what it is compared with: one scale a column, one
        scale without a rotation, ``diag(lam)^-1/2 U^T``, and that rotated by U or by R.
    rotation : {"auto", "hadamard", "givens", "none"}, default="auto"
        What R is, for "phi_s" and "hadamard_whiten": a Hadamard matrix, a product of Givens
        rotations, a Hadamard matrix where one is known and else Givens rotations, or the identity,
        which leaves the variances unequal.
    with_mean : bool, default=True
        Whether to subtract the mean. Variances are about the mean in any case.
    copy : bool, default=True
        False allows `transform` to centre X in place.
    eps : float, default=1e-12
        Relative size of what counts as zero: whitening divides directions whose variance is at
        most `eps` times the largest by phi, and a standard deviation of at most `eps` times the
        mean is that of a constant, whose scale is 1.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    scale_ : float or ndarray of shape (n_features,)
        What is divided by: phi for "phi_s" and "global", standard deviations of the columns for
        "standard", of the eigenvectors for the others.
    eigenvalues_ : ndarray of shape (n_features,)
        Eigenvalues of the covariance (divided by n_samples - 1), ascending, none negative.
    rotation_ : ndarray of shape (n_features, n_features)
        The orthogonal matrix ``R U^T``; the identity for "standard", "global" and "zca".
    transform_matrix_ : ndarray of shape (n_features, n_features)
        Centred rows are multiplied by its transpose.
    inverse_matrix_ : ndarray of shape (n_features, n_features)
        Inverse of `transform_matrix_`.
    n_samples_seen_ : int or float
        Number of rows, or sum of their weights.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If `rotation` is "hadamard" and no Hadamard matrix of that order is known, or the sample
        weights, which count rows, sum to at most 1 for rows that differ.

    See Also
    --------
    sklearn.preprocessing.StandardScaler : One scale a column, which distorts distances.
    sklearn.decomposition.PCA : Whitening, which amplifies the directions of least variance.

    Notes
    -----
    Fit is O(n_samples n_features**2 + n_features**3), accumulated in float64; `transform` is
    O(n_samples n_features**2). Signs of eigenvectors, and bases of eigenspaces, are a fixed
    choice of many. The Givens rotations give exactly
    unit variance for any number of columns; the official code has a random approximation there.
    Fewer samples than features are no problem: phi is an average, and nothing is divided by a
    small eigenvalue.

    The paper's ranking of normalisations on vision foundation models needs their activations.
    What shows at laptop scale is the balance between targets of different size and shape. A
    squared error cannot tell "phi_s" from "global", which differ by a rotation: on small networks
    their scores are close.

    References
    ----------
    .. [1] M. Ranzinger, J. Barker, G. Heinrich, P. Molchanov, B. Catanzaro, A. Tao, "PHI-S:
       Distribution Balancing for Label-Free Multi-Teacher Distillation", ICLR 2025,
       arXiv:2410.01680.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import PHIStandardScaler
    >>> X = np.random.default_rng(0).normal(size=(100, 3)) * [100, 1, 0.01]
    >>> scaler = PHIStandardScaler().fit(X)
    >>> scaler.transform(X).var(axis=0, ddof=1).round(6)
    array([1., 1., 1.])
    """

    _parameter_constraints = {
        "method": [StrOptions(_METHODS)],
        "rotation": [StrOptions({"auto", "hadamard", "givens", "none"})],
        "with_mean": ["boolean"],
        "copy": ["boolean"],
        "eps": [Interval(Real, 0, 1, closed="left")],
    }

    _search_space = {"method": ["phi_s", "standard", "global", "pca_whiten", "hadamard_whiten"]}

    def __init__(self, method="phi_s", *, rotation="auto", with_mean=True, copy=True, eps=1e-12):
        self.method = method
        self.rotation = rotation
        self.with_mean = with_mean
        self.copy = copy
        self.eps = eps

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn mean, rotation and scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many rows each row stands for; None is 1.

        Returns
        -------
        self : object
            The fitted scaler.
        """
        return self._update(X, sample_weight, first=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from more rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            More rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many rows each row stands for; None is 1.

        Returns
        -------
        self : object
            The fitted scaler.
        """
        return self._update(X, sample_weight, first=not hasattr(self, "n_samples_seen_"))

    def _update(self, X, sample_weight, first):
        xp, _, device = get_namespace_and_device(X)
        X = validate_data(self, X, reset=first, dtype=supported_float_dtypes(xp, device))
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=xp.float64, ensure_non_negative=True
            )
        moments = None if first else (self.n_samples_seen_, self.mean_, self._scatter)
        for rows in gen_batches(X.shape[0], _CHUNK):
            weight = None if sample_weight is None else sample_weight[rows]
            moments = merge_moments(moments, chunk_moments(X[rows, :], weight, xp))
        self.n_samples_seen_, self.mean_, self._scatter = moments
        self._n_features_out = X.shape[1]
        self._set_map(xp, device)
        return self

    def _set_map(self, xp, device):
        covariance = self._covariance(xp)
        variance = xp.linalg.diagonal(covariance)
        mean_variance = float(xp.mean(variance))
        phi = sqrt(mean_variance) if mean_variance > 0 else 1.0
        self.eigenvalues_, vectors = eigenvectors(covariance, self.eps, xp)
        self.scale_ = self._scale(variance, phi, xp)
        rotation = identity = xp.eye(variance.shape[0], dtype=xp.float64, device=device)
        if self.method in ("standard", "global"):
            vectors = identity
        elif self.method == "zca":
            rotation = vectors
        elif self.method != "pca_whiten":
            rotation = self._equalizer(xp, device)
        self.rotation_ = rotation @ vectors.T
        self.transform_matrix_ = (rotation / self.scale_) @ vectors.T
        self.inverse_matrix_ = (vectors * self.scale_) @ rotation.T

    def _scale(self, variance, phi, xp):
        """What is divided by, never 0."""
        if self.method in ("phi_s", "global"):
            return phi
        if self.method == "standard":
            constant = variance <= (self.eps * self.mean_) ** 2
            return xp.where(constant, xp.ones_like(variance), xp.sqrt(variance))
        null = self.eigenvalues_ <= self.eps * float(xp.max(self.eigenvalues_))
        return xp.sqrt(xp.where(null, xp.full_like(variance, phi**2), self.eigenvalues_))

    def _covariance(self, xp):
        """The covariance, exactly zero where all rows are equal up to rounding."""
        spread = float(xp.linalg.trace(self._scatter))
        size = float(xp.sum(self.mean_**2))
        if spread <= self.n_samples_seen_ * self.eps**2 * size:
            return xp.zeros_like(self._scatter)
        if self.n_samples_seen_ <= 1:
            raise ValueError(
                "sample_weight counts rows and must sum to more than 1, got a sum of "
                f"{self.n_samples_seen_}"
            )
        return self._scatter / (self.n_samples_seen_ - 1)

    def _equalizer(self, xp, device):
        eigenvalues = move_to(self.eigenvalues_, xp=np, device="cpu")
        rotation = equalizing_rotation(eigenvalues, self.rotation)
        return xp.asarray(rotation, dtype=xp.float64, device=device)

    def transform(self, X):
        """Centre, rotate and scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features)
            The transformed rows.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="transform")
        xp, _, device = get_namespace_and_device(X)
        X = validate_data(
            self,
            X,
            reset=False,
            dtype=supported_float_dtypes(xp, device),
            force_writeable=self.with_mean and not self.copy,
        )
        if self.with_mean and self.copy:
            X = X - xp.astype(self.mean_, X.dtype)
        elif self.with_mean:
            X -= xp.astype(self.mean_, X.dtype)
        return X @ xp.astype(self.transform_matrix_, X.dtype).T

    def inverse_transform(self, X):
        """Undo `transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Transformed rows.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Rows in the original units.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="inverse_transform")
        xp, _, device = get_namespace_and_device(X)
        Z = check_array(X, dtype=supported_float_dtypes(xp, device))
        X = Z @ xp.astype(self.inverse_matrix_, Z.dtype).T
        return X + xp.astype(self.mean_, X.dtype) if self.with_mean else X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class HadamardWhitener(PHIStandardScaler):
    """Whiten, then rotate so that errors count the same in every dimension.

    ``z = R diag(lam)^-1/2 U^T (x - mean)``: the covariance of z is the identity, and an error in
    any one dimension of z has the same size in the original units. `PHIStandardScaler` with
    ``method="hadamard_whiten"``.

    Parameters
    ----------
    rotation : {"auto", "hadamard", "givens", "none"}, default="auto"
        What R is: see `PHIStandardScaler`.
    with_mean : bool, default=True
        Whether to subtract the mean.
    copy : bool, default=True
        False allows `transform` to centre X in place.
    eps : float, default=1e-12
        Directions whose variance is at most `eps` times the largest are divided by phi.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    scale_ : ndarray of shape (n_features,)
        Standard deviations along the eigenvectors.
    eigenvalues_ : ndarray of shape (n_features,)
        Eigenvalues of the covariance (divided by n_samples - 1), ascending, none negative.
    rotation_ : ndarray of shape (n_features, n_features)
        The orthogonal matrix ``R U^T``.
    transform_matrix_ : ndarray of shape (n_features, n_features)
        Centred rows are multiplied by its transpose.
    inverse_matrix_ : ndarray of shape (n_features, n_features)
        Inverse of `transform_matrix_`.
    n_samples_seen_ : int or float
        Number of rows, or sum of their weights.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        As `PHIStandardScaler` does.

    Notes
    -----
    The cost is that of `PHIStandardScaler`.

    References
    ----------
    .. [1] M. Ranzinger, J. Barker, G. Heinrich, P. Molchanov, B. Catanzaro, A. Tao, "PHI-S:
       Distribution Balancing for Label-Free Multi-Teacher Distillation", ICLR 2025,
       arXiv:2410.01680.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import HadamardWhitener
    >>> X = np.random.default_rng(0).normal(size=(100, 2)) * [100, 1]
    >>> np.abs(np.cov(HadamardWhitener().fit_transform(X).T)).round(6)
    array([[1., 0.],
           [0., 1.]])
    """

    method = "hadamard_whiten"

    _parameter_constraints = {
        name: constraint
        for name, constraint in PHIStandardScaler._parameter_constraints.items()
        if name != "method"
    }

    _search_space = {"rotation": ["auto", "none"]}

    def __init__(self, *, rotation="auto", with_mean=True, copy=True, eps=1e-12):
        self.rotation = rotation
        self.with_mean = with_mean
        self.copy = copy
        self.eps = eps


def chunk_moments(X, weight, xp):
    """Total weight, mean, and scatter matrix about the mean, in float64."""
    X = xp.astype(X, xp.float64)
    if weight is None:
        mean = xp.mean(X, axis=0)
        X = X - mean
        return X.shape[0], mean, X.T @ X
    total = float(xp.sum(weight))
    if total == 0:
        return 0.0, xp.zeros_like(X[0, :]), xp.zeros_like(X.T @ X)
    mean = weight @ X / total
    X = (X - mean) * xp.sqrt(weight)[:, None]
    return total, mean, X.T @ X


def merge_moments(first, second):
    """Moments of two sets of rows together (Chan, Golub and LeVeque)."""
    if first is None or first[0] == 0:
        return second
    if second[0] == 0:
        return first
    total = first[0] + second[0]
    shift = second[1] - first[1]
    mean = first[1] + shift * (second[0] / total)
    between = shift[:, None] * shift[None, :] * (first[0] * second[0] / total)
    return total, mean, first[2] + second[2] + between


def eigenvectors(covariance, eps, xp):
    """Eigenvalues, ascending and not negative, and eigenvectors that do not hang on rounding.

    An eigenspace is spanned by what Gram and Schmidt make of its parts of fixed vectors, whatever
    basis of it the solver found; for a single eigenvector that decides the sign.
    """
    values, vectors = xp.linalg.eigh(covariance)
    values = xp.where(values > 0, values, xp.zeros_like(values))
    index = xp.arange(1, values.shape[0] + 1, dtype=xp.float64, device=values.device)
    fixed = xp.cos(index[:, None] * index[None, :])
    numpy_values = move_to(values, xp=np, device="cpu")
    vectors = xp.where((fixed[:, 0] @ vectors)[None, :] < 0, -vectors, vectors)
    new = np.flatnonzero(np.diff(numpy_values) > eps * numpy_values[-1]) + 1
    for start, stop in pairwise([0, *new.tolist(), len(numpy_values)]):
        if stop - start == 1:
            continue
        space = vectors[:, start:stop]
        q, r = xp.linalg.qr(space.T @ fixed[:, : stop - start])
        q = xp.where(xp.linalg.diagonal(r)[None, :] < 0, -q, q)
        vectors[:, start:stop] = space @ q
        values[start:stop] = xp.mean(values[start:stop])
    return values, vectors
