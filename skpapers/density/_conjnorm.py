"""Outlier detection with exponential families whose potential is half a squared q-norm."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.cluster import KMeans
from sklearn.utils import column_or_1d
from sklearn.utils._array_api import _logsumexp, get_namespace, get_namespace_and_device, move_to
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import (
    check_random_state,
    check_same_namespace,
    draw_seed,
    encode_partial_labels,
)

from ._conjugate_norms import (
    Evidence,
    best_settings,
    class_means,
    conjugate,
    draw_proposal,
    dual_map,
    energies,
    log_partition,
    row_blocks,
    row_scales,
    shuffle_columns,
    take_rows,
    unit_rows,
)

__all__ = ["ConjNormDetector"]


class ConjNormDetector(OutlierMixin, BaseEstimator):
    """Outlier detector by class densities whose shape is set by a pair of conjugate norms.

    Each class has a density exp(E / temperature) around its mean, with the energy
    E(z) = -|z|_q^2 / 2 + <z, J_q(mean)>, where J_q is the gradient of |.|_q^2 / 2 and
    1 / p + 1 / q = 1. Its normalisation is estimated by importance sampling with the
    training rows, and the score of a row is the log density of the mixture of the classes.

    Parameters
    ----------
    p : float or "auto", default=2.5
        Norm by which rows and class means are scaled, above 1; q is its conjugate. "auto" chooses
        `p` and the temperature on a grid: those that best tell a held-out third of the rows from
        the same rows with every column shuffled on its own.
    temperature : float, default=0.05
        Width of the densities, in squared units of the scaled rows. Ignored if `p` is "auto".
    normalize : bool, default=True
        Scale rows and class means to p-norm 1; a row of zeros stays one.
    class_prior : {"uniform", "empirical"}, default="uniform"
        Weights of the classes: equal, or their shares of the labelled rows.
    proposal : {"all", "class"} or callable, default="all"
        Rows that estimate the normalisation of a class: all training rows, or those of the class
        itself. A function is called as ``proposal(n_draws, rng)`` and returns rows, of shape
        (n_draws, n_features), and the logarithm of their density.
    bootstrap : float or None, default=1.0
        Number of draws with replacement per training row; None takes each row once.
    n_clusters : int, default=8
        Number of clusters of KMeans, at most the number of rows, that serve as classes where no
        labels are given.
    contamination : float, default=0.05
        Share of the training rows that are called outliers, at most 0.5.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the draws, the clusters and the choice of `p`.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_classes, n_features)
        Class means, scaled if `normalize`.
    dual_prototypes_ : ndarray of shape (n_classes, n_features)
        Their images under J_q, the natural parameters.
    log_partition_ : ndarray of shape (n_classes,)
        Logarithm of the estimated normalisation of each class.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithm of the weights of the classes.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, or numbers of the clusters.
    offset_ : float
        Score below which a row is an outlier.
    p_ : float
        Norm used.
    temperature_ : float
        Temperature used.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    Fitting takes O(n_samples x n_features x n_classes), scoring the same; no covariance is
    inverted, so that there may be more features than rows. "auto" costs eight such fits and 48
    areas under the curve.

    It is a method for rich feature vectors, such as the activations of a network: scaling the
    rows discards their length, which in a low-dimensional standardised table holds much of what
    makes an outlier. There :class:`sklearn.ensemble.IsolationForest` is often better. With `p`
    below 2 a temperature much above the spread of the energies puts the scores in the wrong order.
    Where the classes are no single cluster, :class:`sklearn.neighbors.LocalOutlierFactor` is
    sharper, and slower: it keeps and searches all rows.

    The score is the logarithm of the mean over classes, log(n_classes) below the paper's sum.
    The paper's false positive rates on CIFAR and ImageNet need networks trained on these.

    References
    ----------
    Peng, Luo, Zhang, Li and Fang, "ConjNorm: Tractable Density Estimation for
    Out-of-Distribution Detection", ICLR 2024, arXiv:2402.17888 (Section 3).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skpapers.density import ConjNormDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ConjNormDetector(p=3, temperature=0.01, random_state=0).fit(X, y)
    >>> noise = np.random.RandomState(0).uniform(0, 16, size=(100, 64))
    >>> bool((detector.predict(noise) == -1).all())
    True
    """

    _parameter_constraints: dict = {
        "p": [Interval(Real, 1, None, closed="neither"), StrOptions({"auto"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "normalize": ["boolean"],
        "class_prior": [StrOptions({"uniform", "empirical"})],
        "proposal": [StrOptions({"all", "class"}), callable],
        "bootstrap": [Interval(Real, 0, None, closed="neither"), None],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"p": [1.5, 2.0, 2.5, 3.0], "temperature": [0.003, 0.01, 0.03, 0.1]}

    def __init__(
        self,
        p=2.5,
        *,
        temperature=0.05,
        normalize=True,
        class_prior="uniform",
        proposal="all",
        bootstrap=1.0,
        n_clusters=8,
        contamination=0.05,
        random_state=None,
    ):
        self.p = p
        self.temperature = temperature
        self.normalize = normalize
        self.class_prior = class_prior
        self.proposal = proposal
        self.bootstrap = bootstrap
        self.n_clusters = n_clusters
        self.contamination = contamination
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Estimate the densities of the classes and the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Class labels. Rows of label -1 (None or NaN where labels are no integers) belong to
            no class and serve the normalisation only. Without labels, if all are -1, or if y is
            continuous and so holds no classes, clusters take their place.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If `p` is "auto" and there are fewer than three rows, or no labelled row among those
            that are not held out; or if a callable `proposal` returns the wrong shapes.
        """
        xp, _ = get_namespace(X)
        X = validate_data(self, X, dtype=[xp.float64, xp.float32])
        rng = check_random_state(self.random_state)
        codes, self.classes_ = self._group(X, y, rng)
        self.p_, self.temperature_ = self.p, self.temperature
        if self.p == "auto":
            self.p_, self.temperature_ = self._choose(X, codes, rng)
        evidence = self._gather(X, codes, rng)
        self.class_log_prior_ = evidence.log_prior
        self.prototypes_ = unit_rows(evidence.means, self.p_) if self.normalize else evidence.means
        self.dual_prototypes_ = dual_map(self.prototypes_, conjugate(self.p_))
        scales = row_scales(X, self.p_, self.normalize)
        own = evidence.rows is X  # then the powers of the rows are taken once
        self.log_partition_ = self._log_partition(evidence, scales if own else None)
        scores = move_to(self._score(X, scales), xp=np, device="cpu")
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        return self

    def fit_predict(self, X, y=None):
        """Fit to the rows and tell which of them are outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Class labels, as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers.
        """
        return self.fit(X, y).predict(X)

    def _group(self, X, y, rng):
        """Codes of the classes (-1: none) and the classes, by labels or by clusters."""
        if y is not None and (labels := read_labels(y, X.shape[0])) is not None:
            return encode_partial_labels(labels)
        rows = move_to(unit_rows(X, 2) if self.normalize else X, xp=np, device="cpu")
        kmeans = KMeans(min(self.n_clusters, len(rows)), random_state=draw_seed(rng))
        classes, codes = np.unique(kmeans.fit_predict(rows), return_inverse=True)
        return codes, np.arange(len(classes))

    def _gather(self, X, codes, rng):
        """What the densities are made of, for any norm and temperature."""
        n_classes = int(codes.max()) + 1
        counts = np.bincount(codes[codes >= 0], minlength=n_classes)
        prior = counts / counts.sum() if self.class_prior == "empirical" else 1 / n_classes
        xp, _, device = get_namespace_and_device(X)
        rows, log_weights = draw_proposal(X, codes, self.proposal, self.bootstrap, rng)
        return Evidence(
            class_means(X, codes, n_classes),
            rows,
            xp.asarray(log_weights, dtype=X.dtype, device=device),
            xp.asarray(np.log(prior * np.ones(n_classes)), dtype=X.dtype, device=device),
        )

    def _choose(self, X, codes, rng):
        """Find the settings that best tell held-out rows from rows with shuffled columns."""
        held_out = rng.permutation(len(codes)) < len(codes) // 3
        known = np.unique(codes[~held_out & (codes >= 0)])
        if not held_out.any() or not known.size:
            raise ValueError(
                "p='auto' needs three rows, and a labelled row outside the held-out third"
            )
        position = np.full(self.classes_.size + 1, -1)  # the last place is that of code -1
        position[known] = np.arange(known.size)
        train, test = take_rows(X, ~held_out), take_rows(X, held_out)
        evidence = self._gather(train, position[codes[~held_out]], rng)
        return best_settings(evidence, test, shuffle_columns(test, rng), self.normalize)

    def _scaled_energies(self, X, scales=None):
        """Energies over the temperature, by blocks of rows: pairs of a slice and its matrix."""
        scales = scales or row_scales(X, self.p_, self.normalize)
        for rows in row_blocks(X, self.classes_.size):
            part = energies(X[rows, :], scales.rows(rows), self.dual_prototypes_)
            yield rows, part / self.temperature_

    def _log_partition(self, evidence, scales):
        xp, _ = get_namespace(evidence.rows)
        parts = [
            log_partition(scaled, evidence.log_weights[rows, :])
            for rows, scaled in self._scaled_energies(evidence.rows, scales)
        ]
        return _logsumexp(xp.stack(parts), axis=0)

    def _score(self, X, scales=None):
        xp, _ = get_namespace(X)
        shift = self.class_log_prior_ - self.log_partition_
        parts = [
            _logsumexp(scaled + shift, axis=1) for _, scaled in self._scaled_energies(X, scales)
        ]
        return xp.concat(parts)

    def _validate(self, X, method):
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="prototypes_", method=method)
        xp, _ = get_namespace(X)
        return validate_data(self, X, dtype=[xp.float64, xp.float32], reset=False)

    def score_samples(self, X):
        """Compute the log density of the mixture of the classes, up to a constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats; the lower, the more of an outlier.
        """
        return self._score(self._validate(X, "score_samples"))

    def decision_function(self, X):
        """Compute the score less the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Negative for outliers.
        """
        return self._score(self._validate(X, "decision_function")) - self.offset_

    def predict(self, X):
        """Tell which rows are outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers.
        """
        decision = self._score(self._validate(X, "predict")) - self.offset_
        xp, _ = get_namespace(decision)
        return 1 - 2 * xp.astype(decision < 0, xp.int64)

    def class_log_density(self, X):
        """Compute the log density of each class, up to a constant that the classes share.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In nats, in the order of `classes_`.
        """
        X = self._validate(X, "class_log_density")
        xp, _ = get_namespace(X)
        return xp.concat([part for _, part in self._scaled_energies(X)]) - self.log_partition_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags


def read_labels(y, n_samples):
    """Labels as a NumPy array, or None where they hold no classes."""
    y = column_or_1d(move_to(y, xp=np, device="cpu") if get_namespace(y)[1] else y, warn=True)
    if len(y) != n_samples:
        raise ValueError(f"X has {n_samples} rows and y has {len(y)}")
    if y.dtype.kind == "i" and (y == -1).all():
        return None
    if y.dtype.kind == "f" and np.isinf(y).any():
        raise ValueError("Input y contains infinity.")
    if y.dtype.kind == "f" and (y[~np.isnan(y)] % 1 != 0).any():
        return None
    return y
