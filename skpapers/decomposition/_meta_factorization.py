"""Meta-factorization: a matrix from its action on any bases of its columns and rows."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array
from sklearn.utils._array_api import get_namespace_and_device, move_to, supported_float_dtypes
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from skpapers.utils import check_random_state, check_same_namespace, draw_seed

from ._column_bases import (
    diagonal,
    pivoted_qr,
    pseudoinverse,
    select_columns,
    take_columns,
    thin_svd,
    ulv,
    utv,
)
from ._nystrom import SinglePassSketch
from ._reconstruction import (
    general_core,
    projector_residual,
    reconstruction_error,
    sketched_inverse,
)

__all__ = ["MetaFactorization"]

_METHODS = {"cur", "nystrom", "svd", "qr", "utv", "ulv", "custom"}
_BASIS = ["array-like", callable, None]


def _single_pass(estimator):
    return estimator.method == "nystrom"


class MetaFactorization(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Low-rank factors of the data from any bases of its columns and rows.

    The data are written as ``X ~ F G H^T``, where F holds a basis of the columns, H one of the
    rows, and the core G mixes them. With Y and Z such that ``F Y^T F = F`` and
    ``H^T Z H^T = H^T``, the core is ``Y^T X Z``, and the reconstruction is exact where F and H
    span columns and rows. CUR (actual columns and rows of the data), the generalised Nystrom
    method (one pass), and the singular value, QR and UTV decompositions are choices of F, H, Y
    and Z.

    Parameters
    ----------
    n_components : int, default=2
        Number of components; at most ``min(n_samples, n_features)`` are used.
    method : {"cur", "nystrom", "svd", "qr", "utv", "ulv", "custom"}, default="cur"
        The bases. "cur": columns and rows of X. "nystrom": random combinations of columns and of
        rows, from one pass over X. "svd": singular vectors. "qr": column-pivoted QR. "utv": the
        one-sided UTV, with V of n_features columns and a core [diag(S), B]. "ulv": the two-sided
        one with a lower triangular core. "custom": `column_basis` and `row_basis`.
    core : {"projection", "cross"}, default="projection"
        Core of "cur": the best in the Frobenius norm, or the pseudoinverse of the block where
        the rows and columns cross, which needs no more of X than these.
    selection : {"qr", "leverage", "deim", "uniform"}, default="qr"
        Rows and columns of "cur": the first pivots of QR decompositions, a draw by leverage
        scores, the discrete empirical interpolation of singular vectors, or a uniform draw.
    mode : {"codes", "features"}, default="codes"
        What `transform` gives: the coefficients of the components, or, for "cur" alone, the
        selected columns.
    oversampling : float, default=0.5
        Share by which "nystrom" has more combinations of rows than components; two more at
        least.
    n_power_iter : int, default=0
        Passes over X and its transpose that sharpen the combinations of columns of "nystrom".
    center : bool, default=False
        Whether to subtract the mean first; columns and rows are then no longer those of X.
    column_basis : array of shape (n_samples, n_basis) or callable, default=None
        F of "custom", or a function of X that gives it.
    row_basis : array of shape (n_features, n_components_) or callable, default=None
        H of "custom", or a function of X that gives it.
    column_sketch : array of shape (n_samples, n_sketch) or callable, default=None
        B of "custom": ``Y^T = (B^T F)^+ B^T``; None is F itself.
    row_sketch : array of shape (n_features, n_sketch) or callable, default=None
        D of "custom": ``Z = D (H^T D)^+``; None is H itself.
    random_state : int, RandomState instance or None, default=None
        Seed of "nystrom", of draws of columns, and of the sparse "svd".

    Attributes
    ----------
    left_factor_ : array of shape (n_samples, n_left)
        F, of as many columns as components but for "custom".
    core_ : array of shape (n_left, n_right)
        G.
    right_factor_ : array of shape (n_features, n_right)
        H; n_right is n_components_ except for "utv", where H is square and orthonormal.
    components_ : array of shape (n_components_, n_features)
        What codes are coefficients of: ``H^T``, for "cur" rows of X; for "utv" ``G H^T``.
    n_components_ : int
        Number of components.
    mean_ : array of shape (n_features,)
        What is subtracted from X: zero without `center`.
    column_indices_ : array of shape (n_components_,)
        Columns selected by "cur" and "qr", in order of choice.
    row_indices_ : array of shape (n_components_,)
        Rows selected by "cur", in order of choice.
    singular_values_ : array of shape (n_components_,)
        For "svd"; for "utv", the estimates on the diagonal of the core.
    projector_residual_ : float
        The larger relative error of ``F Y^T F = F`` and ``H^T Z H^T = H^T``.
    reconstruction_err_ : float
        Frobenius norm of ``X - F G H^T``. For "nystrom" an estimate from the rows that
        oversampling adds, as X is seen once; its square is right on average.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If `mode` is "features" for another method than "cur", "custom" has no bases, or a sparse
        X is to be centred.

    See Also
    --------
    sklearn.decomposition.TruncatedSVD : Optimal, with components that mix all features.

    Notes
    -----
    For n_samples rows, n_features columns and k components, "nystrom" costs
    O(n_samples n_features k), or the number of stored elements times k, in one pass, "cur", "qr"
    and "ulv" the same in k passes each way; "svd" and "utv" compute as many as n_features right
    vectors ("svd" not for sparse X). Sparse X stays sparse but for the factors; a block of 1024
    rows or columns is dense at a time. `transform` costs O(n_samples n_features k).

    Codes are least-squares coefficients of the components (with `row_sketch`, oblique ones).
    In the mode "features", `inverse_transform` predicts whole rows from the selected columns.
    The triangular core of "ulv" comes from a pivoted QR decomposition of the transposed core
    where the paper also has LU, so that both outer factors are orthonormal.

    References
    ----------
    .. [1] M. P. Karpowicz, "A theory of meta-factorization", 2021, :arxiv:`2111.14385`.
    .. [2] Y. Nakatsukasa, "Fast and stable randomized low-rank matrix approximation", 2020,
       :arxiv:`2009.11392`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skpapers.decomposition import MetaFactorization
    >>> X, _ = load_digits(return_X_y=True)
    >>> cur = MetaFactorization(n_components=15, mode="features").fit(X)
    >>> cur.transform(X).shape
    (1797, 15)
    >>> bool((cur.components_ == X[cur.row_indices_]).all())
    True
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions(_METHODS)],
        "core": [StrOptions({"projection", "cross"})],
        "selection": [StrOptions({"qr", "leverage", "deim", "uniform"})],
        "mode": [StrOptions({"codes", "features"})],
        "oversampling": [Interval(Real, 0, None, closed="left")],
        "n_power_iter": [Interval(Integral, 0, None, closed="left")],
        "center": ["boolean"],
        "column_basis": _BASIS,
        "row_basis": _BASIS,
        "column_sketch": _BASIS,
        "row_sketch": _BASIS,
        "random_state": ["random_state"],
    }

    _search_space = {
        "n_components": [1, 2, 3, 5, 10, 20],
        "method": ["cur", "nystrom", "svd"],
        "selection": ["qr", "leverage", "deim"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        method="cur",
        core="projection",
        selection="qr",
        mode="codes",
        oversampling=0.5,
        n_power_iter=0,
        center=False,
        column_basis=None,
        row_basis=None,
        column_sketch=None,
        row_sketch=None,
        random_state=None,
    ):
        self.n_components = n_components
        self.method = method
        self.core = core
        self.selection = selection
        self.mode = mode
        self.oversampling = oversampling
        self.n_power_iter = n_power_iter
        self.center = center
        self.column_basis = column_basis
        self.row_basis = row_basis
        self.column_sketch = column_sketch
        self.row_sketch = row_sketch
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Factorize the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = self._validate(X, reset=True)
        xp, _, device = get_namespace_and_device(X)
        if self.mode == "features" and self.method != "cur":
            raise ValueError(f'mode="features" needs method="cur", got {self.method!r}')
        if self.center and sparse.issparse(X):
            raise ValueError("center=True would make a sparse X dense: centre it, or do not")
        self.mean_ = xp.zeros(X.shape[1], dtype=X.dtype, device=device)
        if self.center:
            self.mean_ = xp.mean(X, axis=0)
            X = X - self.mean_
        k = min(self.n_components, *X.shape)
        sketches = getattr(self, f"_fit_{self.method}")(
            X, k, check_random_state(self.random_state)
        )
        if self.method != "nystrom":
            self._certify(X, *sketches)
        return self

    @available_if(_single_pass)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Add rows, for the method "nystrom".

        Blocks of rows give what one `fit` to all of them would, up to rounding, where there are
        no fewer rows than components in all.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            More rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The transformer, fitted to all rows so far.

        Raises
        ------
        ValueError
            If the mean or more passes are wanted.
        """
        if self.center or self.n_power_iter or self.mode != "codes":
            raise ValueError('partial_fit needs mode="codes", center=False and n_power_iter=0')
        first = not hasattr(self, "_sketch")
        X = self._validate(X, reset=first)
        if first:
            xp, _, device = get_namespace_and_device(X)
            self.mean_ = xp.zeros(X.shape[1], dtype=X.dtype, device=device)
            k = min(self.n_components, X.shape[1])
            seed = draw_seed(check_random_state(self.random_state))
            self._sketch = SinglePassSketch(X, k, self.oversampling, seed)
        self._absorb(X)
        return self

    def _validate(self, X, reset):
        xp, _, device = get_namespace_and_device(X)
        dtypes = supported_float_dtypes(xp, device)
        return validate_data(self, X, reset=reset, dtype=dtypes, accept_sparse=("csr", "csc"))

    def _fit_cur(self, X, k, rng):
        xp, _, device = get_namespace_and_device(X)
        columns = select_columns(X, k, self.selection, rng)
        rows = select_columns(X.T, k, self.selection, rng)
        self.column_indices_ = xp.asarray(columns, device=device)
        self.row_indices_ = xp.asarray(rows, device=device)
        left = take_columns(X, self.column_indices_)
        right = take_columns(X.T, self.row_indices_)
        if self.core == "cross":
            core = pseudoinverse(xp.take(left, self.row_indices_, axis=0))
        else:
            core = general_core(X, pseudoinverse(left).T, pseudoinverse(right).T)
        return self._store(left, core, right)

    def _fit_nystrom(self, X, k, rng):
        self._sketch = SinglePassSketch(X, k, self.oversampling, draw_seed(rng))
        self._sketch.sharpen(X, self.n_power_iter)
        self._absorb(X)

    def _absorb(self, X):
        self._sketch.add(X)
        factors, self.projector_residual_, self.reconstruction_err_ = self._sketch.factors()
        self._store(*factors)

    def _fit_svd(self, X, k, rng):
        u, s, vt = thin_svd(X, k, rng)
        self.singular_values_ = s
        return self._store(u, diagonal(s), vt.T)

    def _fit_qr(self, X, k, rng):
        xp, _, device = get_namespace_and_device(X)
        pivots, q, r = pivoted_qr(X, k)
        self.column_indices_ = xp.asarray(pivots, device=device)
        return self._store(q, xp.eye(k, dtype=X.dtype, device=device), r.T)

    def _fit_utv(self, X, k, rng):
        u, self.singular_values_, core, v = utv(X, k)
        return self._store(u, core, v, components=core @ v.T)

    def _fit_ulv(self, X, k, rng):
        return self._store(*ulv(X, k))

    def _fit_custom(self, X, k, rng):
        left, right = self._basis("column_basis", X, 0), self._basis("row_basis", X, 1)
        if left is None or right is None:
            raise ValueError('method="custom" needs column_basis and row_basis')
        B, D = self._basis("column_sketch", X, 0), self._basis("row_sketch", X, 1)
        Y, Z = sketched_inverse(left, B), sketched_inverse(right, D)
        return self._store(left, general_core(X, Y, Z), right, projection=Z, sketches=(B, D))

    def _basis(self, name, X, axis):
        """A custom array, or what a custom function gives, checked against X."""
        basis = getattr(self, name)
        if basis is None:
            return None
        xp, _, device = get_namespace_and_device(X)
        basis = check_array(basis(X) if callable(basis) else basis, input_name=name)
        basis = xp.asarray(basis, dtype=X.dtype, device=device)
        if basis.shape[0] != X.shape[axis]:
            raise ValueError(f"{name} must have {X.shape[axis]} rows, got {basis.shape[0]}")
        return basis

    def _store(self, left, core, right, components=None, projection=None, sketches=(None, None)):
        self.left_factor_, self.core_, self.right_factor_ = left, core, right
        self.components_ = right.T if components is None else components
        self._projection = pseudoinverse(self.components_) if projection is None else projection
        self.n_components_ = self._n_features_out = int(self.components_.shape[0])
        return sketches

    def _certify(self, X, column_sketch, row_sketch):
        self.projector_residual_ = max(
            projector_residual(self.left_factor_, column_sketch),
            projector_residual(self.components_.T, row_sketch),
        )
        self.reconstruction_err_ = reconstruction_error(
            X, self.left_factor_, self.core_ @ self.right_factor_.T
        )

    def transform(self, X):
        """Give coefficients of the components, or the selected columns.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : array of shape (n_samples, n_components_)
            Codes whose products with `components_` are nearest to the rows of X; in the mode
            "features" the columns ``X[:, column_indices_]``.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="components_", method="transform")
        X = self._validate(X, reset=False)
        if self.mode == "features":
            return take_columns(X, self.column_indices_)
        xp, _, _ = get_namespace_and_device(X)
        projection = xp.astype(self._projection, X.dtype)
        return X @ projection - xp.astype(self.mean_, X.dtype) @ projection

    def inverse_transform(self, X):
        """Reconstruct rows from their codes, or from their selected columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            What `transform` gives.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            Reconstructed rows.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="components_", method="inverse_transform")
        xp, _, device = get_namespace_and_device(X)
        Z = check_array(X, dtype=supported_float_dtypes(xp, device), input_name="X")
        components, mean = (xp.astype(a, Z.dtype) for a in (self.components_, self.mean_))
        if self.mode == "features":
            Z = (Z - xp.take(mean, self.column_indices_)) @ xp.astype(self.core_, Z.dtype)
        return Z @ components + mean

    def get_support(self, indices=False):
        """Tell the columns that were selected by the method "cur" or "qr".

        Parameters
        ----------
        indices : bool, default=False
            Whether to give indices, in order of choice, instead of a mask.

        Returns
        -------
        support : ndarray of shape (n_features,) or (n_components_,)
            Mask, or indices.
        """
        check_is_fitted(self, "column_indices_")
        chosen = move_to(self.column_indices_, xp=np, device="cpu")
        return chosen if indices else np.isin(np.arange(self.n_features_in_), chosen)

    def get_feature_names_out(self, input_features=None):
        """Name the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features; None is those seen during fit.

        Returns
        -------
        names : ndarray of str objects
            Names of the selected features in the mode "features", else the lower-case name of
            the class with a number.
        """
        check_is_fitted(self)
        if self.mode == "features":
            return _check_feature_names_in(self, input_features)[self.get_support(indices=True)]
        return super().get_feature_names_out(input_features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
