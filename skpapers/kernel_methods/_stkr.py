"""Spectrally transformed kernel regression: unlabelled rows reshape the spectrum of a kernel."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MultiOutputMixin,
    RegressorMixin,
    _fit_context,
)
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._array_api import (
    _is_numpy_namespace,
    get_namespace,
    get_namespace_and_device,
    move_to,
    supported_float_dtypes,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from skpapers.utils import (
    check_same_namespace,
    encode_partial_labels,
    kernel_matrix,
    kernel_product,
    one_hot,
    resolve_gamma,
    split_partial_targets,
)
from skpapers.utils._kernels import KERNEL_NAMES

from ._spectral_solvers import (
    SquareOf,
    eigenpairs,
    largest_eigenvalue,
    mean_kernel,
    normalized,
    series,
    solve_cg,
    solve_direct,
    solve_eigen,
    spectral_gains,
)

__all__ = [
    "SpectrallyTransformedKernelClassifier",
    "SpectrallyTransformedKernelRegressor",
]

_MAX_ROWS_FOR_DIRECT = 5000


class _SpectrallyTransformedKernel(BaseEstimator):
    """Parameters, fit and scores that the regressor and the classifier share."""

    _parameter_constraints: dict = {
        "spectral_transform": [
            StrOptions({"inverse_laplacian", "polynomial", "power", "heat", "kernel_pca"}),
            callable,
        ],
        "eta": [Interval(Real, 0, None, closed="neither")],
        "coefs": ["array-like", None],
        "degree": [Interval(Real, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions(set(KERNEL_NAMES)), callable],
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale", "median"})],
        "normalize": ["boolean"],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions({"auto", "direct", "cg", "eigen"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }

    _search_space = {
        "eta": [0.9, 0.99, 0.999],
        "alpha": [1e-4, 1e-3, 1e-2, 1e-1],
        "gamma": ["scale", "median"],
    }

    def __init__(
        self,
        spectral_transform="inverse_laplacian",
        *,
        eta=0.99,
        coefs=None,
        degree=2,
        n_components=None,
        alpha=1e-3,
        kernel="rbf",
        gamma="scale",
        normalize=True,
        n_neighbors=None,
        solver="auto",
        max_iter=1000,
        tol=1e-8,
    ):
        self.spectral_transform = spectral_transform
        self.eta = eta
        self.coefs = coefs
        self.degree = degree
        self.n_components = n_components
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.normalize = normalize
        self.n_neighbors = n_neighbors
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.array_api_support = True
        return tags

    def _validate(self, X, *, reset=True):
        xp, _, device = get_namespace_and_device(X)
        dtype = supported_float_dtypes(xp, device)
        return validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=dtype, order="C", reset=reset
        )

    def _fit(self, X, targets, labelled):
        """Fit to `targets`, (n_samples, n_targets) and 0 where unlabelled; return the fit."""
        xp, _ = get_namespace(targets)
        if self.n_neighbors is not None and self.kernel != "rbf":
            raise ValueError(f"n_neighbors needs kernel='rbf', got kernel={self.kernel!r}")
        self.X_fit_ = X
        self.labeled_indices_ = xp.nonzero(labelled)[0]
        self._gamma = resolve_gamma(self.gamma, X)
        gram = self._fit_gram(X)
        scale = xp.ones_like(targets[:, 0])
        if self.normalize:
            self.degrees_ = mean_kernel(gram)
            scale = 1 / xp.sqrt(self.degrees_)
            gram = normalized(gram, scale)
        top = largest_eigenvalue(gram, 1 / scale) / gram.shape[0]
        self.eta_ = self.eta / top if top > 0 else 0.0
        self.dual_coef_, coef = self._solve(gram, targets, labelled)
        self.propagated_coef_ = coef * scale[:, None]
        return gram @ coef

    def _fit_gram(self, X):
        if self.n_neighbors is None:
            return kernel_matrix(X, kernel=self.kernel, gamma=self._gamma)
        if not _is_numpy_namespace(get_namespace(X)[0]):
            raise ValueError("n_neighbors needs NumPy arrays or SciPy sparse matrices")
        n_neighbors = min(self.n_neighbors, X.shape[0])
        self._neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(X)
        self._weights = self._neighbor_weights(X)
        return SquareOf(self._weights)

    def _neighbor_weights(self, X):
        graph = self._neighbors.kneighbors_graph(X, mode="distance")
        graph.data = np.exp(-self._gamma * graph.data**2)
        return graph.astype(X.dtype)

    def _solve(self, gram, targets, labelled):
        """Choose the solver and run it on the (normalised) kernel matrix."""
        ridge = self.alpha * self.labeled_indices_.shape[0]
        spectrum = {"transform": self.spectral_transform, "eta": self.eta_}
        spectrum |= {"coefs": self.coefs, "degree": self.degree}
        coefs = series(**spectrum, relative_eta=self.eta)
        spectral = self.n_components is not None or (
            coefs is None and self.spectral_transform != "inverse_laplacian"
        )
        solver = self._choose_solver(gram, spectral)
        self.n_iter_ = 1
        if solver == "eigen":
            self.eigenvalues_, vectors = eigenpairs(gram, self._n_components())
            gains = spectral_gains(self.eigenvalues_, **spectrum)
            return solve_eigen(self.eigenvalues_, vectors, gains, targets, labelled, ridge)
        if solver == "direct":
            return solve_direct(gram, targets, labelled, ridge, self.eta_, coefs)
        dual, coef, self.n_iter_ = solve_cg(
            gram, targets, labelled, ridge, self.eta_, coefs, tol=self.tol, max_iter=self.max_iter
        )
        return dual, coef

    def _n_components(self):
        if self.spectral_transform == "kernel_pca" and self.n_components is None:
            raise ValueError(
                "spectral_transform='kernel_pca' needs n_components, how many to keep"
            )
        return self.n_components

    def _choose_solver(self, gram, spectral):
        if self.solver == "auto" and not spectral:
            large = hasattr(gram, "toarray") or gram.shape[0] > _MAX_ROWS_FOR_DIRECT
            return "cg" if large else "direct"
        if spectral and self.solver in ("direct", "cg"):
            raise ValueError(
                f"solver={self.solver!r} handles the inverse Laplacian and polynomials without "
                "n_components: use solver='eigen' or 'auto'"
            )
        return "eigen" if self.solver == "auto" else self.solver

    def _scores(self, X, method):
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="propagated_coef_", method=method)
        X = self._validate(X, reset=False)
        coef = self.propagated_coef_
        if not self.normalize:
            return self._product(X, coef)
        # one more column averages the rows of the kernel, the degrees of the new rows
        xp, _ = get_namespace(coef)
        mean = xp.full_like(coef[:, :1], 1 / coef.shape[0])
        product = self._product(X, xp.concat([coef, mean], axis=1))
        degrees = product[:, -1:]
        # a row out of reach of the kernel scores zero, the limit of kernel / sqrt(degree)
        reached = degrees > 0
        degrees = xp.where(reached, degrees, xp.ones_like(degrees))
        return xp.astype(reached, degrees.dtype) * product[:, :-1] / xp.sqrt(degrees)

    def _product(self, X, coef):
        if self.n_neighbors is None:
            return kernel_product(X, self.X_fit_, coef, kernel=self.kernel, gamma=self._gamma)
        return self._neighbor_weights(X) @ (self._weights.T @ coef)


class SpectrallyTransformedKernelRegressor(
    MultiOutputMixin, RegressorMixin, _SpectrallyTransformedKernel
):
    """Semi-supervised kernel ridge regression with a spectrally transformed kernel.

    All rows, labelled or not, define a new kernel with the eigenfunctions of the base kernel and
    eigenvalues s(x), under which functions vary slowly along the data; ridge regression
    with it uses the labelled rows, and predicts at any new row.

    Parameters
    ----------
    spectral_transform : {"inverse_laplacian", "polynomial", "power", "heat", "kernel_pca"} or \
            callable, default="inverse_laplacian"
        Function s of the eigenvalues x of the kernel. The names are x / (1 - `eta_` x), the sum
        of `coefs[p - 1]` x^p, x^`degree`, x exp(`eta_` (x - largest)), and 1 on the largest
        `n_components` eigenvalues. A callable maps an array of eigenvalues to values that are
        non-negative and do not decrease.
    eta : float, default=0.99
        Strength of the propagation, in units of one over the largest eigenvalue of the kernel:
        below 1 for the inverse Laplacian, any positive number (a time) for "heat".
    coefs : array-like of shape (n_powers,), default=None
        Non-negative coefficients of the polynomial, from the first power. None is [0, 1].
    degree : float, default=2
        Exponent of "power", at least 1.
    n_components : int, default=None
        Number of leading eigenpairs to keep; None keeps all. "kernel_pca" needs it.
    alpha : float, default=1e-3
        Ridge penalty; it is multiplied by the number of labelled rows.
    kernel : str or callable, default="rbf"
        Positive semi-definite base kernel: a name of
        :func:`sklearn.metrics.pairwise.kernel_metrics`, "precomputed", a kernel of
        :mod:`sklearn.gaussian_process.kernels` or a function of two rows.
    gamma : {"scale", "median"} or float, default="scale"
        Width of the kernel, or the rule for it: 1 / (n_features * X.var()), or one over the
        median of the squared distances.
    normalize : bool, default=True
        Divide the kernel by the root of the product of its mean values over the training rows,
        as graph Laplacians do. Needs positive means: set False for kernels with negative values.
    n_neighbors : int, default=None
        If given, the kernel is the inner product of the vectors of rbf values at the
        `n_neighbors` nearest training rows: sparse and positive semi-definite.
    solver : {"auto", "direct", "cg", "eigen"}, default="auto"
        A Cholesky factorisation, conjugate gradients or eigenvectors. "auto" takes "eigen" where
        the transform or `n_components` needs the spectrum, else "cg" for sparse kernels
        and beyond 5000 rows.
    max_iter : int, default=1000
        Largest number of iterations of "cg".
    tol : float, default=1e-8
        Relative residual at which "cg" stops (not below ten units of the precision of X).

    Attributes
    ----------
    X_fit_ : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Training rows, or the precomputed kernel.
    labeled_indices_ : ndarray of shape (n_labelled,)
        Rows that have a target.
    dual_coef_ : ndarray of shape (n_labelled, n_targets)
        Coefficients of the transformed kernel at the labelled rows.
    propagated_coef_ : ndarray of shape (n_samples, n_targets)
        Coefficients of the base kernel at all training rows: what `predict` uses.
    degrees_ : ndarray of shape (n_samples,)
        Mean of the base kernel over the training rows, if `normalize`.
    eigenvalues_ : ndarray of shape (n_components,)
        Eigenvalues of the kernel divided by `n_samples`, largest first, if the solver was "eigen".
    eta_ : float
        `eta` divided by the largest eigenvalue.
    n_iter_ : int
        Iterations of "cg"; 1 for the other solvers.
    transduction_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Fitted values of all training rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    With n labelled rows out of N, "direct" takes O(N^3 + N^2 n), "eigen" O(N^3) (or a truncated
    solver for few `n_components`), "cg" one product with the kernel matrix an iteration (as many
    as the degree for polynomials). Prediction takes O(N) a row and target, and depends on the
    fitted rows alone. The gain needs clusters that the kernel sees: where the target is not
    smooth along the data, plain kernel ridge is as good. The error rates of the theory are not
    visible at small sizes.

    References
    ----------
    Zhai, Pukdee, Jin, Balcan and Ravikumar, "Spectrally Transformed Kernel Regression",
    ICLR 2024, arXiv:2402.00645 (Theorem 1; STKR-Prop, Section 3; kernel PCA, Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import SpectrallyTransformedKernelRegressor
    >>> X = np.r_[np.linspace(0, 1, 20), np.linspace(3, 4, 20)][:, None]
    >>> y = np.full(40, np.nan)
    >>> y[[0, -1]] = -1, 1  # two labels
    >>> model = SpectrallyTransformedKernelRegressor(gamma=10.0, eta=0.999).fit(X, y)
    >>> model.predict([[0.8], [3.2]]).round(1)
    array([-1.2,  1.2])
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, labelled or not; the kernel matrix (n_samples, n_samples) if precomputed.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets, NaN where unlabelled.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If no row is labelled, or the kernel is not positive semi-definite.
        """
        X = self._validate(X)
        xp, _, device = get_namespace_and_device(X)
        y, labelled = split_partial_targets(y, xp=xp, device=device, dtype=X.dtype)
        check_consistent_length(X, y)
        self._single_target = y.ndim == 1
        fitted = self._fit(X, y[:, None] if y.ndim == 1 else y, labelled)
        self.transduction_ = self._as_targets(fitted)
        return self

    def predict(self, X):
        """Predict the targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; the kernel with the training rows (n_samples, n_samples_fit) if precomputed.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted targets.
        """
        return self._as_targets(self._scores(X, "predict"))

    def _as_targets(self, scores):
        return scores[:, 0] if self._single_target else scores


class SpectrallyTransformedKernelClassifier(ClassifierMixin, _SpectrallyTransformedKernel):
    """Semi-supervised classification with a spectrally transformed kernel.

    Kernel ridge regression of the indicators of the classes, with the kernel of
    :class:`SpectrallyTransformedKernelRegressor`: like label spreading, but it predicts at new
    rows, takes any kernel and any transform of its spectrum.

    Parameters
    ----------
    spectral_transform : {"inverse_laplacian", "polynomial", "power", "heat", "kernel_pca"} or \
            callable, default="inverse_laplacian"
        Function s of the eigenvalues x of the kernel. The names are x / (1 - `eta_` x), the sum
        of `coefs[p - 1]` x^p, x^`degree`, x exp(`eta_` (x - largest)), and 1 on the largest
        `n_components` eigenvalues. A callable maps an array of eigenvalues to values that are
        non-negative and do not decrease.
    eta : float, default=0.99
        Strength of the propagation, in units of one over the largest eigenvalue of the kernel:
        below 1 for the inverse Laplacian, any positive number (a time) for "heat".
    coefs : array-like of shape (n_powers,), default=None
        Non-negative coefficients of the polynomial, from the first power. None is [0, 1].
    degree : float, default=2
        Exponent of "power", at least 1.
    n_components : int, default=None
        Number of leading eigenpairs to keep; None keeps all. "kernel_pca" needs it.
    alpha : float, default=1e-3
        Ridge penalty; it is multiplied by the number of labelled rows.
    kernel : str or callable, default="rbf"
        Positive semi-definite base kernel: a name of
        :func:`sklearn.metrics.pairwise.kernel_metrics`, "precomputed", a kernel of
        :mod:`sklearn.gaussian_process.kernels` or a function of two rows.
    gamma : {"scale", "median"} or float, default="scale"
        Width of the kernel, or the rule for it: 1 / (n_features * X.var()), or one over the
        median of the squared distances.
    normalize : bool, default=True
        Divide the kernel by the root of the product of its mean values over the training rows,
        as graph Laplacians do. Needs positive means: set False for kernels with negative values.
    n_neighbors : int, default=None
        If given, the kernel is the inner product of the vectors of rbf values at the
        `n_neighbors` nearest training rows: sparse and positive semi-definite.
    solver : {"auto", "direct", "cg", "eigen"}, default="auto"
        A Cholesky factorisation, conjugate gradients or eigenvectors. "auto" takes "eigen" where
        the transform or `n_components` needs the spectrum, else "cg" for sparse kernels
        and beyond 5000 rows.
    max_iter : int, default=1000
        Largest number of iterations of "cg".
    tol : float, default=1e-8
        Relative residual at which "cg" stops (not below ten units of the precision of X).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    X_fit_ : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Training rows, or the precomputed kernel.
    labeled_indices_ : ndarray of shape (n_labelled,)
        Rows that have a target.
    dual_coef_ : ndarray of shape (n_labelled, n_classes)
        Coefficients of the transformed kernel at the labelled rows.
    propagated_coef_ : ndarray of shape (n_samples, n_classes)
        Coefficients of the base kernel at all training rows: what `predict` uses.
    degrees_ : ndarray of shape (n_samples,)
        Mean of the base kernel over the training rows, if `normalize`.
    eigenvalues_ : ndarray of shape (n_components,)
        Eigenvalues of the kernel divided by `n_samples`, largest first, if the solver was "eigen".
    eta_ : float
        `eta` divided by the largest eigenvalue.
    n_iter_ : int
        Iterations of "cg"; 1 for the other solvers.
    label_distributions_ : ndarray of shape (n_samples, n_classes)
        Class probabilities of all training rows.
    transduction_ : ndarray of shape (n_samples,)
        Predicted class of all training rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    With n labelled rows out of N, "direct" takes O(N^3 + N^2 n), "eigen" O(N^3) (or a truncated
    solver for few `n_components`), "cg" one product with the kernel matrix an iteration (as many
    as the degree for polynomials). Prediction takes O(N) a row and target, and depends on the
    fitted rows alone. The gain needs clusters that the kernel sees: where the target is not
    smooth along the data, plain kernel ridge is as good. The error rates of the theory are not
    visible at small sizes.

    References
    ----------
    Zhai, Pukdee, Jin, Balcan and Ravikumar, "Spectrally Transformed Kernel Regression",
    ICLR 2024, arXiv:2402.00645 (Theorem 1; STKR-Prop, Section 3; kernel PCA, Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_moons
    >>> from skpapers.kernel_methods import SpectrallyTransformedKernelClassifier
    >>> X, y = make_moons(300, noise=0.05, random_state=0)
    >>> partial = np.full(300, -1)
    >>> partial[:8] = y[:8]
    >>> model = SpectrallyTransformedKernelClassifier(gamma=20.0, eta=0.999).fit(X, partial)
    >>> model.score(X, y) > 0.95
    True
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, labelled or not; the kernel matrix (n_samples, n_samples) if precomputed.
        y : array-like of shape (n_samples,)
            Class labels; unlabelled are -1 among integers, None or NaN among others. Integers
            that are exactly {-1, 1} are two classes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If no row is labelled, or the kernel is not positive semi-definite.
        """
        X = self._validate(X)
        xp, _, device = get_namespace_and_device(X)
        codes, self.classes_ = encode_partial_labels(y)
        check_consistent_length(X, codes)
        targets = xp.asarray(one_hot(codes, len(self.classes_)), device=device, dtype=X.dtype)
        fitted = self._fit(X, targets, xp.asarray(codes >= 0, device=device))
        self.label_distributions_ = scores_to_probabilities(fitted)
        self.transduction_ = self._as_labels(self.label_distributions_)
        return self

    def predict_proba(self, X):
        """Predict class probabilities: the scores, clipped at zero and normalised.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; the kernel with the training rows (n_samples, n_samples_fit) if precomputed.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities; equal for all classes where the kernel reaches no training row.
        """
        return scores_to_probabilities(self._scores(X, "predict_proba"))

    def predict(self, X):
        """Predict the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; the kernel with the training rows (n_samples, n_samples_fit) if precomputed.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        return self._as_labels(scores_to_probabilities(self._scores(X, "predict")))

    def _as_labels(self, probabilities):
        xp, _, device = get_namespace_and_device(probabilities)
        codes = xp.argmax(probabilities, axis=1)
        if self.classes_.dtype.kind in "OUS":
            return self.classes_[move_to(codes, xp=np, device="cpu")]
        return xp.take(xp.asarray(self.classes_, device=device), codes, axis=0)


def scores_to_probabilities(scores):
    """Clip scores at zero (at their minimum where none is positive) and normalise the rows."""
    xp, _ = get_namespace(scores)
    lowest = xp.min(scores, axis=1, keepdims=True)
    best = xp.max(scores, axis=1, keepdims=True)
    scores = xp.where(best > 0, scores, scores - lowest)
    scores = xp.where(scores > 0, scores, xp.zeros_like(scores))
    total = xp.sum(scores, axis=1, keepdims=True)
    uniform = xp.full_like(scores, 1 / scores.shape[1])
    return xp.where(total > 0, scores / xp.where(total > 0, total, xp.ones_like(total)), uniform)
