"""Private classification by average similarity: one noisy summary a class, no training."""

from numbers import Real

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize as unit_rows
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._private_features import KERNELS
from ._private_similarity import _PrivateSimilarity

__all__ = ["PrivateSimilarityClassifier"]


class PrivateSimilarityClassifier(ClassifierMixin, _PrivateSimilarity):
    """Differentially private classifier by average similarity to the records of each class.

    `fit` releases a noisy summary of each class, in one pass over the records. As every record is
    in one class, each summary has the full budget. A query goes to the class with the largest
    mean similarity, or the smallest mean distance.

    Parameters
    ----------
    similarity : {"gaussian", "exponential", "laplacian", "cauchy", "rational", "rational_l1", \
            "l1", "l2", "sqeuclidean"}, default="sqeuclidean"
        Similarity or distance, as in `PrivateSimilarity`.
    normalize : bool, default=False
        Scale rows to unit norm; `clip_norm` is then 1 and need not be given.
    scatter : bool, default=False
        For "sqeuclidean": decide by the mean squared distance, which is that to the mean of the
        class plus the scatter of the class, instead of by the distance to the mean alone. The
        scatter costs budget, and its noise favours or disfavours small classes.
    temperature : float, default=1.0
        Probabilities are the softmax of the mean similarities (or minus the mean distances)
        divided by it. They are not calibrated.
    epsilon : float or None, default=1.0
        Privacy budget, at most 1e4; None or infinite for no noise and no privacy.
    delta : float, default=1e-6
        Probability with which the guarantee may fail; not used by `mechanism` "laplace".
    bandwidth : float, default=1.0
        Width of the kernel, in units of X. Must not be chosen by looking at the records.
    alpha : float, default=0.1
        Accuracy apart from noise, in (0, 1), which sets the automatic sizes.
    method : {"prefix", "annuli"}, default="prefix"
        How trees answer, as in `PrivateSimilarity`.
    bounds : tuple (low, high), default=None
        For "l1": range to which features are clipped, scalars or one number a feature. None takes
        it from the data, with a `PrivacyLeakWarning`.
    clip_norm : float, default=None
        For "l2" and "sqeuclidean": Euclidean norm to which rows are clipped. None takes it from
        the data, with a `PrivacyLeakWarning`.
    n_components : int or "auto", default="auto"
        Number of random frequencies of a kernel; "auto" is 4 / alpha^2.
    n_cells : int, default=1024
        Leaves of the tree of each axis, a power of two.
    jl_dim : int, "auto" or None, default="auto"
        Dimension of a Gaussian random projection, as in `PrivateSimilarity`.
    mechanism : {"gaussian", "laplace"}, default="gaussian"
        Noise; "laplace" has delta 0, and an error that grows with the square root of the number
        of released values.
    neighbors : {"add_remove", "replace"}, default="add_remove"
        Data sets that must be indistinguishable: with a record more or less, or one replaced
        (label included, which doubles the noise).
    consistency : bool, default=True
        Reconcile the noisy counts of trees by least squares, which lowers the error.
    random_state : int, RandomState instance, Generator or None, default=None
        None draws the noise from the operating system's cryptographic source. Anything else
        makes the noise reproducible, and the result therefore not private.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; the set of labels is taken to be public.
    class_summaries_ : list
        Released summary of each class.
    class_counts_ : ndarray of shape (n_classes,)
        Noisy number of records of each class.
    epsilon_spent_ : float
        Budget that was spent; infinite if there is no noise.
    delta_ : float
        Delta of the guarantee; 0 for Laplace noise.
    n_values_ : int
        Number of noisy values that were released for each class.
    jl_components_ : ndarray of shape (n_features_in_, n_axes) or None
        Random projection, if there is one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    The guarantee of each class is that of `PrivateSimilarity`; adding or removing a record
    changes the summary of one class (parallel composition), and replacing it that of two classes
    by one removal and one addition, which doubled sensitivities cover. There is no `partial_fit`:
    it would spend more budget. Classes with few records are dominated by noise.

    Cost: that of `PrivateSimilarity`, with no iterations.

    References
    ----------
    Backurs, Lin, Mahabadi, Silwal and Tarnawski, "Efficiently Computing Similarities to Private
    Datasets", ICLR 2024, arXiv:2403.08917.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skpapers.kernel_methods import PrivateSimilarityClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = PrivateSimilarityClassifier(normalize=True, epsilon=3.0, random_state=0)
    >>> bool(model.fit(X - 8, y).score(X - 8, y) > 0.85)
    True
    """

    _parameter_constraints: dict = {
        **_PrivateSimilarity._parameter_constraints,
        "normalize": ["boolean"],
        "scatter": ["boolean"],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    _search_space = {"similarity": ["sqeuclidean", "gaussian"], "normalize": [False, True]}

    def __init__(
        self,
        similarity="sqeuclidean",
        *,
        normalize=False,
        scatter=False,
        temperature=1.0,
        epsilon=1.0,
        delta=1e-6,
        bandwidth=1.0,
        alpha=0.1,
        method="prefix",
        bounds=None,
        clip_norm=None,
        n_components="auto",
        n_cells=1024,
        jl_dim="auto",
        mechanism="gaussian",
        neighbors="add_remove",
        consistency=True,
        random_state=None,
    ):
        self.similarity = similarity
        self.normalize = normalize
        self.scatter = scatter
        self.temperature = temperature
        self.epsilon = epsilon
        self.delta = delta
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.method = method
        self.bounds = bounds
        self.clip_norm = clip_norm
        self.n_components = n_components
        self.n_cells = n_cells
        self.jl_dim = jl_dim
        self.mechanism = mechanism
        self.neighbors = neighbors
        self.consistency = consistency
        self.random_state = random_state

    @property
    def _moment_shares(self):
        return (0.8, 0.1, 0.1) if self.scatter else (0.9, 0.1)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Release the summaries of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Records.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If there is one class only, or `bounds`, `n_cells` or `delta` do not make sense.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y needs at least two classes, got one class: {self.classes_[0]!r}")
        rows = self._prepare(self._scaled(X), len(self.classes_))
        groups = (rows[index == k] for k in range(len(self.classes_)))
        self.class_summaries_ = [self._summarize(group) for group in groups]
        self._forget()
        self.class_counts_ = np.array([summary.count for summary in self.class_summaries_])
        return self

    def _scaled(self, X):
        return unit_rows(X) if self.normalize else X

    def _resolved_norm(self, X):
        unit = self.normalize and self.clip_norm is None and self.jl_components_ is None
        return 1.0 if unit else super()._resolved_norm(X)

    def _scores(self, X):
        """Mean similarities, or minus mean distances, (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows, summaries = self._project(self._scaled(X)), self.class_summaries_
        if self.similarity == "sqeuclidean" and not self.scatter:
            centers = np.stack([summary.mean for summary in summaries])
            scores = -euclidean_distances(rows, centers, squared=True)
        else:
            sums = np.stack([summary.answer(rows) for summary in summaries], axis=1)
            means = sums / np.maximum(self.class_counts_, 1.0)
            scores = means if self.similarity in KERNELS else -means
        return scores.astype(X.dtype, copy=False)

    def decision_function(self, X):
        """Mean similarity, or minus the mean distance, to each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Scores; with two classes, that of the second less that of the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X):
        """Softmax of the scores divided by `temperature`; not calibrated.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return softmax(self._scores(X) / self.temperature, axis=1)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        ndarray of shape (n_samples,)
            The class with the largest score.
        """
        index = self._scores(X).argmax(axis=1)
        return self.classes_[index]
