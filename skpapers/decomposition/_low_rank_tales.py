"""Low-rank factors of a matrix with missing entries, plain and in structured forms."""

from itertools import accumulate
from math import nan

from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils.validation import check_is_fitted

from skpapers.utils import check_same_namespace

from ._low_rank_model import LowRankModel

__all__ = ["LowRankApproximation", "LowRankImputer"]


class LowRankApproximation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, LowRankModel):
    """Low-rank factors of data with gaps, plain or as structured products.

    "als" writes the data as a product of codes and components, ``X ~ C D``, by alternating
    ridge regressions on the entries that are there. Structured forms reach a far higher rank
    with as many numbers: an elementwise (Hadamard) product of low-rank matrices suits effects
    that multiply, and a row-wise Khatri-Rao product suits rows that are outer products, such as
    images or spectra over time.

    Parameters
    ----------
    n_components : int, sequence of int or None, default=2
        Rank, or one rank a factor of "hadamard" and "khatri_rao"; None is as many as there can
        be. What is beyond the smaller side of the factor is cut.
    method : {"als", "svd", "hadamard", "khatri_rao"}, default="als"
        "als": ``C D`` with a ridge. "svd": the truncated singular value decomposition, repeated
        on completed data where entries are missing. "hadamard": ``(C1 D1) o (C2 D2) o ...``.
        "khatri_rao": row i is the Kronecker product of row i of ``C1 D1`` and row i of
        ``C2 D2``.
    n_factors : int, default=2
        Number of low-rank matrices that "hadamard" multiplies.
    shape : tuple (height, width), default=None
        Sizes of the two factors of a row of "khatri_rao", with ``height * width = n_features``;
        None takes for height the largest divisor of n_features not above its root.
    alpha : float, default=0.1
        Ridge on codes and components, in squared units of X; "svd" has none.
    fit_bias : bool, default=False
        Whether "als" adds a mean, an effect of each row, which becomes the last code, and one of
        each column.
    missing_values : number or nan, default=nan
        What stands for a missing entry.
    max_iter : int, default=200
        Limit on the sweeps over all factors.
    tol : float, default=1e-5
        Relative fall of the loss below which sweeps end.
    n_init : int, default=1
        Number of starts where draws decide, the best of which is kept: "hadamard", and
        ``init="random"``.
    init : {"svd", "random"}, default="svd"
        Start: a truncated SVD of X with gaps filled by column means (for "hadamard" beside
        factors near one), or normal draws.
    svd_solver : {"auto", "full", "arpack", "randomized"}, default="auto"
        Solver of that SVD, and of "svd".
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.
    verbose : int, default=0
        1 prints the loss of each sweep.

    Attributes
    ----------
    components_ : array of shape (n_components_, n_features) or list of arrays
        D; for "hadamard" and "khatri_rao" one a factor.
    n_components_ : int or list of int
        Ranks of the factors.
    mean_ : float
        Mean of the observed entries, with `fit_bias`; else 0.
    bias_ : array of shape (n_features,)
        Effects of the columns, with `fit_bias`; else zeros.
    reconstruction_err_ : float
        Frobenius norm of the error on the observed entries.
    loss_curve_ : list of float
        Squared error on the observed entries plus ridge, after each sweep; it never rises.
    n_iter_ : int
        Number of sweeps.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If `fit_bias` is wanted for another method than "als", `shape` does not multiply to
        n_features, there is not one rank a factor, or nothing is observed.

    Notes
    -----
    With k components and s observed entries, a sweep of "als" costs O(s k**2 + (n_samples +
    n_features) k**3), dense arithmetic over all entries where some are missing; the structured
    forms cost that once a factor. Computation is in float64. Without gaps, "als" ends at the
    singular value decomposition with values lowered by alpha.

    `transform` solves for codes with fixed components: one ridge regression a row, and for the
    structured forms alternating ones from a start that no other row changes. A column that is
    wholly missing has zero components.

    "hadamard" has local minima: products of two generic low-rank matrices are seldom found, and
    the start from factors near one is for low-rank data whose entries are multiplied by effects.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`, sections 3 to 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import LowRankApproximation
    >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    >>> X[0, 2] = np.nan
    >>> model = LowRankApproximation(n_components=1, alpha=1e-8).fit(X)
    >>> model.impute(X)[0].round(3)
    array([ 1., -1.,  2.])
    """

    def transform(self, X):
        """Solve for the codes of rows, with the fitted components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; entries equal to `missing_values` are missing.

        Returns
        -------
        codes : array of shape (n_samples, n_codes)
            Codes of all factors side by side, and the effect of the row with `fit_bias`.
        """
        X, codes = self._encode(X, "transform")[:2]
        xp, _ = get_namespace_and_device(X)[:2]
        return xp.astype(xp.concat(codes, axis=1), X.dtype)

    def inverse_transform(self, X):
        """Compute the rows that codes stand for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_codes)
            Codes, as `transform` gives them.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            The rows, without gaps.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="bias_", method="inverse_transform")
        xp, _, device = get_namespace_and_device(X)
        codes = check_array(X, dtype=supported_float_dtypes(xp, device))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} codes, fitted with {self._n_features_out}")
        components = [xp.astype(D, codes.dtype) for D in self._components]
        structure, _ = self._structure((codes.shape[0], self.n_features_in_))
        return structure.product(_columns_of(codes, components), components) + self.mean_


class LowRankImputer(OneToOneFeatureMixin, TransformerMixin, LowRankModel):
    """Fill gaps by a low-rank model of the data.

    `LowRankApproximation` whose `transform` gives the data completed, with effects of rows and
    columns by default, so that a row of which little is known gets about the column means.

    Parameters
    ----------
    n_components : int, sequence of int or None, default=2
        Rank, or one rank a factor of "hadamard" and "khatri_rao"; None is as many as there can
        be. What is beyond the smaller side of the factor is cut.
    method : {"als", "svd", "hadamard", "khatri_rao"}, default="als"
        "als": ``C D`` with a ridge. "svd": the truncated singular value decomposition, repeated
        on completed data where entries are missing. "hadamard": ``(C1 D1) o (C2 D2) o ...``.
        "khatri_rao": row i is the Kronecker product of row i of ``C1 D1`` and row i of
        ``C2 D2``.
    n_factors : int, default=2
        Number of low-rank matrices that "hadamard" multiplies.
    shape : tuple (height, width), default=None
        Sizes of the two factors of a row of "khatri_rao", with ``height * width = n_features``;
        None takes for height the largest divisor of n_features not above its root.
    alpha : float, default=0.1
        Ridge on codes and components, in squared units of X; "svd" has none.
    fit_bias : bool, default=True
        Whether "als" adds a mean, an effect of each row and one of each column; other methods need
        False.
    missing_values : number or nan, default=nan
        What stands for a missing entry.
    max_iter : int, default=200
        Limit on the sweeps over all factors.
    tol : float, default=1e-5
        Relative fall of the loss below which sweeps end.
    n_init : int, default=1
        Number of starts where draws decide, the best of which is kept: "hadamard", and
        ``init="random"``.
    init : {"svd", "random"}, default="svd"
        Start: a truncated SVD of X with gaps filled by column means (for "hadamard" beside
        factors near one), or normal draws.
    svd_solver : {"auto", "full", "arpack", "randomized"}, default="auto"
        Solver of that SVD, and of "svd".
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.
    verbose : int, default=0
        1 prints the loss of each sweep.

    Attributes
    ----------
    components_ : array of shape (n_components_, n_features) or list of arrays
        D; for "hadamard" and "khatri_rao" one a factor.
    n_components_ : int or list of int
        Ranks of the factors.
    mean_ : float
        Mean of the observed entries, with `fit_bias`; else 0.
    bias_ : array of shape (n_features,)
        Effects of the columns, with `fit_bias`; else zeros.
    reconstruction_err_ : float
        Frobenius norm of the error on the observed entries.
    loss_curve_ : list of float
        Squared error on the observed entries plus ridge, after each sweep; it never rises.
    n_iter_ : int
        Number of sweeps.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        As `LowRankApproximation` does.

    Notes
    -----
    The cost is that of `LowRankApproximation`. Bring the columns to a common scale first: the
    ridge and the squared error treat all entries alike. What is observed is never changed, and
    all columns are kept, also those of which nothing is observed.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import LowRankImputer
    >>> X = np.add.outer(np.arange(9.0), [0.0, 10.0, 20.0])
    >>> X[1, 2] = np.nan
    >>> LowRankImputer(n_components=1).fit_transform(X)[1].round()
    array([ 1., 11., 21.])
    """

    def __init__(
        self,
        n_components=2,
        *,
        method="als",
        n_factors=2,
        shape=None,
        alpha=0.1,
        fit_bias=True,
        missing_values=nan,
        max_iter=200,
        tol=1e-5,
        n_init=1,
        init="svd",
        svd_solver="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            method=method,
            n_factors=n_factors,
            shape=shape,
            alpha=alpha,
            fit_bias=fit_bias,
            missing_values=missing_values,
            max_iter=max_iter,
            tol=tol,
            n_init=n_init,
            init=init,
            svd_solver=svd_solver,
            random_state=random_state,
            verbose=verbose,
        )

    def transform(self, X):
        """Fill what is missing; what is observed stays as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; entries equal to `missing_values` are missing.

        Returns
        -------
        X_filled : array of shape (n_samples, n_features)
            The same without gaps.
        """
        return self._impute(X, "transform")


def _columns_of(codes, components):
    """Split codes into those of each factor."""
    ends = list(accumulate(D.shape[0] for D in components))
    return [codes[:, end - D.shape[0] : end] for end, D in zip(ends, components)]
