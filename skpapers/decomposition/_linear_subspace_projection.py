"""Attributes in an orthonormal subspace of given features, everything else beside it."""

from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._array_api import get_namespace_and_device, move_to, supported_float_dtypes
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_same_namespace

from ._attribute_codes import AttributeCodes

__all__ = ["LinearSubspaceProjection"]

_ROUNDING = 1e-10  # relative size of a singular value that is taken for zero


class LinearSubspaceProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Split features into known attributes and what is not linearly related to them.

    The standardised features z are rotated by an orthonormal basis [M; N] such that ``M z`` is as
    near to the attributes y as a rotation can make it and ``N z`` is uncorrelated with them:
    attributes can be read, removed, or set to other values, in closed form.

    Parameters
    ----------
    n_components : int, default=None
        Number of residual coordinates that are kept, by variance; None keeps all.
    part : {"residual", "attributes", "all"}, default="residual"
        What `transform` gives and `inverse_transform` takes: ``N z``, ``M z``, or both. What is
        not given is taken to be zero, the mean, by `inverse_transform`.
    attribute_types : {"auto", "class", "continuous"} or sequence of these, default="auto"
        What the columns of y are; "auto" takes floats that are not whole for continuous, else
        classes.
    standardize : bool, default=True
        Whether features are divided by their standard deviations; they are centred in any case.

    Attributes
    ----------
    projection_ : array of shape (n_codes, n_features)
        M, with orthonormal rows where there are fewer codes than features. A class attribute has
        one code a class, of +-1, or one in all for two classes.
    null_basis_ : array of shape (n_residuals, n_features)
        N: orthonormal, in order of variance.
    attributes_ : tuple of Attribute
        Name, kind and classes of each attribute.
    mean_ : array of shape (n_features,)
        Means of the features.
    scale_ : array of shape (n_features,)
        What the features are divided by.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If X has one feature only, which leaves no room for a residual, or y is not known for any
        row.

    Notes
    -----
    M minimises ``sum ||z - M' y||**2`` over orthonormal rows, the Procrustes problem: with the
    singular value decomposition ``Y' Z = P D Q'`` it is ``P Q'``, in O(n_samples n_features
    (n_codes + n_features)). It follows that ``N Z' Y = 0``: on the rows of the fit, with known
    attributes, the residual is exactly uncorrelated with each of them, and no linear model can
    tell them from it. The codes of several classes sum to a constant, which leaves one row of M
    free: it is the direction of least variance. With as many codes as features or more, only
    the leading ``n_features - 1`` singular directions are taken.

    An unknown attribute (NaN or None; -1 among other integers) counts as the neutral code zero.
    Setting one attribute leaves the others as they are, also where they are correlated.

    References
    ----------
    .. [1] X. Li, C. Lin, R. Li, C. Wang, F. Guerin, "Latent Space Factorisation and Manipulation
       via Matrix Subspace Projection", ICML 2020, :arxiv:`1907.12385`, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skpapers.decomposition import LinearSubspaceProjection
    >>> X, y = load_wine(return_X_y=True)
    >>> model = LinearSubspaceProjection().fit(X, y)
    >>> model.transform(X).shape
    (178, 10)
    >>> edited = model.manipulate(X[:3], {0: 2})
    >>> model.predict(X[:3]), model.predict(edited)
    (array([0, 0, 0]), array([2, 2, 2]))
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "part": [StrOptions({"residual", "attributes", "all"})],
        "attribute_types": [StrOptions({"auto", "class", "continuous"}), list, tuple],
        "standardize": ["boolean"],
    }

    _search_space = {"part": ["residual", "attributes", "all"], "standardize": [True, False]}

    def __init__(
        self, n_components=None, *, part="residual", attribute_types="auto", standardize=True
    ):
        self.n_components = n_components
        self.part = part
        self.attribute_types = attribute_types
        self.standardize = standardize

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Find the subspace of the attributes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Attributes: labels of classes or numbers; NaN, None and, among other integers, -1 are
            unknown.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = self._validate(X, reset=True)
        if y is None:
            raise ValueError(
                "LinearSubspaceProjection requires y to be passed, but the target y is None"
            )
        check_consistent_length(X, y)
        xp, _, device = get_namespace_and_device(X)
        if X.shape[1] == 1:
            raise ValueError(
                "with n_features=1 there is no room for a residual beside the attributes"
            )
        self._codes = AttributeCodes.learn(y, self.attribute_types)
        self.attributes_ = self._codes.attributes
        Y = xp.asarray(self._codes.encode(y)[0], dtype=xp.float64, device=device)
        Z = xp.astype(X, xp.float64)
        mean = xp.mean(Z, axis=0)
        Z = Z - mean
        scale = column_scale(Z, mean) if self.standardize else xp.ones_like(mean)
        M, N = subspaces(Z / scale, Y)
        stored = (mean, scale, M, N[: self.n_components, :])
        stored = [xp.astype(a, X.dtype) for a in stored]
        self.mean_, self.scale_, self.projection_, self.null_basis_ = stored
        return self

    def _validate(self, X, reset):
        xp, _, device = get_namespace_and_device(X)
        return validate_data(self, X, reset=reset, dtype=supported_float_dtypes(xp, device))

    def _latents(self, X, method):
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method=method)
        return (self._validate(X, reset=False) - self.mean_) / self.scale_

    def _basis(self):
        xp, _ = get_namespace_and_device(self.projection_)[:2]
        blocks = {"attributes": [self.projection_], "residual": [self.null_basis_]}
        return xp.concat(blocks.get(self.part, [self.projection_, self.null_basis_]))

    @property
    def _n_features_out(self):
        return self._basis().shape[0]

    def transform(self, X):
        """Compute the coordinates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        Z : array of shape (n_samples, n_coordinates)
            The coordinates that `part` names.
        """
        return self._latents(X, "transform") @ self._basis().T

    def inverse_transform(self, X):
        """Compute features from coordinates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_coordinates)
            Coordinates, as `transform` gives them.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            Features in the original units.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="inverse_transform")
        xp, _, device = get_namespace_and_device(X)
        Z = check_array(X, dtype=supported_float_dtypes(xp, device))
        basis = self._basis()
        if Z.shape[1] != basis.shape[0]:
            raise ValueError(f"X has {Z.shape[1]} coordinates, {basis.shape[0]} are expected")
        return Z @ xp.astype(basis, Z.dtype) * self.scale_ + self.mean_

    def predict_attributes(self, X):
        """Read the codes of the attributes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        codes : array of shape (n_samples, n_codes)
            ``M z``: towards +1 for a class and -1 for the others, or a standardised number.
        """
        return self._latents(X, "predict_attributes") @ self.projection_.T

    def predict(self, X):
        """Read the attributes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_attributes)
            Labels of classes or numbers.

        Notes
        -----
        A rotation does not scale: numbers keep their order rather than their size.
        """
        codes = self._latents(X, "predict") @ self.projection_.T
        values = self._codes.decode(move_to(codes, xp=np, device="cpu"))
        if values.dtype.kind not in "iufb":
            return values  # labels that are no numbers
        xp, _, device = get_namespace_and_device(codes)
        return xp.asarray(values, device=device)

    def manipulate(self, X, attributes, *, strength=1.0):
        """Set attributes to other values, and leave the rest as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        attributes : dict
            New values, a number, a label or one a row, under the name or position of the
            attribute.
        strength : float, default=1.0
            Share of the way from the present value to the new one.

        Returns
        -------
        X_edited : array of shape (n_samples, n_features)
            The edited rows.
        """
        Z = self._latents(X, "manipulate")
        xp, _, device = get_namespace_and_device(Z)
        codes, columns = self._codes.targets(attributes, Z.shape[0])
        codes = xp.asarray(codes, dtype=Z.dtype, device=device)
        columns = xp.asarray(columns, dtype=xp.int64, device=device)
        M = xp.take(self.projection_, columns, axis=0)
        return edited(Z, M, codes, strength) * self.scale_ + self.mean_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def column_scale(Z, mean):
    """Standard deviations of centred columns; 1 for one that is constant up to rounding."""
    xp, _ = get_namespace_and_device(Z)[:2]
    scale = xp.sqrt(xp.mean(Z**2, axis=0))
    return xp.where(scale <= 1e-12 * xp.abs(mean), xp.ones_like(scale), scale)


def subspaces(Z, Y):
    """Orthonormal bases M of the attributes and N of the rest, for centred rows of Z.

    M is the solution of the orthogonal Procrustes problem; what of it the data leave free has the
    least variance. The rows of N are the principal axes of the rest.
    """
    xp, _ = get_namespace_and_device(Z)[:2]
    n_codes, n_features = Y.shape[1], Z.shape[1]
    P, d, Qt = xp.linalg.svd(Y.T @ Z, full_matrices=True)
    largest = min(n_codes, n_features - 1)
    reached = int(xp.sum(xp.astype(d > _ROUNDING * d[0], xp.int64)))
    rank = min(reached, largest)
    rest = principal_axes(Z, Qt[rank:, :])
    free = largest - rank
    n_kept = rest.shape[0] - free
    M = P[:, :rank] @ Qt[:rank, :]
    if free:
        axes = fixed_signs(P[:, rank : rank + free].T).T
        M = M + axes @ rest[n_kept:, :]
    return M, rest[:n_kept, :]


def principal_axes(Z, basis):
    """Principal axes of the rows of Z within the span of an orthonormal basis."""
    xp, _ = get_namespace_and_device(Z)[:2]
    coordinates = Z @ basis.T
    vectors = xp.linalg.eigh(coordinates.T @ coordinates)[1]
    return fixed_signs(xp.flip(vectors, axis=1).T @ basis)


def fixed_signs(rows):
    """Rows with signs such that the entry of largest modulus is positive."""
    xp, _ = get_namespace_and_device(rows)[:2]
    peaks = xp.take_along_axis(rows, xp.argmax(xp.abs(rows), axis=1)[:, None], axis=1)
    return xp.where(peaks < 0, -rows, rows)


def edited(Z, M, codes, strength=1.0):
    """Move rows along the orthonormal rows of M until ``M z`` is what the codes say."""
    return Z + strength * (codes - Z @ M.T) @ M
