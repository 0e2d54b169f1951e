"""Information structures: entropies of all sets of features, and groups that share them."""

from itertools import combinations
from numbers import Integral, Real

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from skpapers.utils import check_random_state

from ._categories import as_column, encode_column, learn_codes, nearest_cells
from ._cochains import action, joint
from ._entropies import (
    alternating_sum,
    compress,
    count_entropy,
    join_codes,
    plain_information,
    subset_entropies,
)
from ._feature_groups import group_features
from ._result import adjust_pvalues

__all__ = ["InformationStructure"]


class InformationStructure(TransformerMixin, BaseEstimator):
    """Entropies and multivariate information of a table, and groups of features that share it.

    Columns are observables, joint observables are sets of columns. Their entropies are the
    1-cocycles of information cohomology, and the alternating sums of these, the multivariate
    information, show what features say only together, such as the parity of two bits. Features
    that carry joint information are merged into groups, and `transform` gives each group one code.

    Parameters
    ----------
    alpha : float, default=1.0
        Degree of the entropies: 1 is Shannon's, any other Tsallis'. Groups are formed with
        Shannon's.
    max_order : int, default=2
        Largest number of columns of a subset, and of groups that are merged at once.
    n_groups : int, default=None
        Number of groups to stop at; None merges as long as the gain passes `threshold`. There
        may be more groups where no merge is left that passes `threshold` and `max_cells`.
    threshold : float, default=0.05
        Smallest gain of a merge: the total correlation of the groups, less its bias, over the
        largest value that it can have.
    n_bins : int, default=8
        Number of bins of columns that hold no categories.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal counts, or of equal width.
    estimator : {"plugin", "miller_madow", "jackknife"}, default="plugin"
        Estimator of entropies. "miller_madow" is for `alpha` 1.
    n_permutations : int, default=0
        Number of permutations of the columns of a subset for its p-value. 0 takes the
        chi-squared law of likelihood ratios, for pairs alone.
    max_cells : "auto" or int, default="auto"
        Largest number of observed cells of a group; "auto" is max(8, n_samples // 20).
    log_base : float, default=None
        Base of the logarithm, for `alpha` 1; None is e (nats).
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the permutations.

    Attributes
    ----------
    entropies_ : dict
        From frozensets of columns to entropies. With `y`, "y" stands for it among the columns.
    information_ : dict
        The same for multivariate information; negative values are synergy.
    total_correlation_ : dict
        The same for sums of the entropies of the columns less the joint one, from two columns on.
    mutual_information_ : ndarray of shape (n_features, n_features)
        Mutual information of pairs of columns, with entropies in the diagonal.
    target_information_ : ndarray of shape (n_features,) or None
        Mutual information of each column with `y`.
    pvalues_ : dict
        P-values of independence of the columns of a subset, adjusted by Benjamini and Hochberg;
        for pairs alone without permutations, and empty then where `alpha` is not 1.
    groups_ : list of ndarray
        Columns of each group.
    labels_ : ndarray of shape (n_features,)
        Group of each column.
    bin_edges_ : list
        Inner edges of the bins of each column, None for categories.
    categories_ : list
        Sorted categories of each column, None for bins.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    Columns of strings are categories, and so are columns of at most 20 different integers, or of
    at most `n_bins` different numbers; others are binned, `y` as well. Missing values are an
    error. All subsets cost O(n_samples) each, and there are d^max_order of them; permutations
    multiply that. Plug-in entropies are too small, so that large joint tables look dependent:
    see `estimator` and `n_permutations`. The theorem that entropies are the only cocycles is
    shown by :func:`information_cocycles`; grouping is an application of ours.

    References
    ----------
    Vigneaux, "Information structures and their cohomology", Theory and Applications of
    Categories, 2020, arXiv:1709.07807 (Sections 2 to 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import InformationStructure
    >>> bits = np.random.RandomState(0).randint(2, size=(200, 3))
    >>> X = np.column_stack([bits, bits[:, 0] ^ bits[:, 1]])
    >>> structure = InformationStructure(max_order=3).fit(X)
    >>> [group.tolist() for group in structure.groups_]
    [[0, 1, 3], [2]]
    >>> f"{structure.information(0, 1, 3) / np.log(2):.1f}"
    '-1.0'
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left"), None],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "strategy": [StrOptions({"quantile", "uniform"})],
        "estimator": [StrOptions({"plugin", "miller_madow", "jackknife"})],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "max_cells": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "log_base": [Interval(Real, 1, None, closed="neither"), None],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"threshold": [0.02, 0.05, 0.1, 0.2], "max_order": [2, 3]}

    def __init__(
        self,
        *,
        alpha=1.0,
        max_order=2,
        n_groups=None,
        threshold=0.05,
        n_bins=8,
        strategy="quantile",
        estimator="plugin",
        n_permutations=0,
        max_cells="auto",
        log_base=None,
        random_state=None,
    ):
        self.alpha = alpha
        self.max_order = max_order
        self.n_groups = n_groups
        self.threshold = threshold
        self.n_bins = n_bins
        self.strategy = strategy
        self.estimator = estimator
        self.n_permutations = n_permutations
        self.max_cells = max_cells
        self.log_base = log_base
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Compute entropies and information of subsets, and group the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Categories or measurements, two rows at least.
        y : array-like of shape (n_samples,), default=None
            One more observable, a category or a measurement; the groups do not depend on it.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.alpha != 1 and (self.estimator == "miller_madow" or self.log_base is not None):
            raise ValueError("estimator='miller_madow' and log_base are for alpha=1 alone")
        columns = self._columns(X, ensure_min_samples=2, reset=True)
        coders = [learn_codes(column, self.n_bins, self.strategy) for column in columns]
        self.categories_, self.bin_edges_ = map(list, zip(*coders))
        codes = self._codes(columns)
        self._codes_, self._names_ = codes, list(range(codes.shape[1]))
        if y is not None:
            check_consistent_length(X, y)
            y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
            y = as_column(column_or_1d(y))
            y = encode_column(y, *learn_codes(y, self.n_bins, self.strategy))
            self._codes_ = np.column_stack([codes, compress(y)[0]])
            self._names_.append("y")
        self._measure()
        self._group(codes)
        return self

    def _columns(self, X, **options):
        X = validate_data(self, X, dtype=None, **options)
        return [as_column(X[:, j]) for j in range(X.shape[1])]

    def _codes(self, columns):
        coded = map(encode_column, columns, self.categories_, self.bin_edges_)
        return np.column_stack(list(coded))

    def _measure(self):
        """Everything about the subsets of the columns."""
        codes, d = self._codes_, len(self.categories_)
        order = min(self.max_order, codes.shape[1])
        found = subset_entropies(codes, order, self.alpha, self.estimator)
        scale = 1.0 if self.log_base is None else 1 / np.log(self.log_base)
        found = {subset: float(value * scale) for subset, value in found.items()}
        subsets = [subset for subset in found if len(subset) > 1]
        self.entropies_ = self._named(found)
        self.information_ = self._named({s: alternating_sum(s, found) for s in found})
        total = {s: sum(found[j,] for j in s) - found[s] for s in subsets}
        self.total_correlation_ = self._named(total)
        pairs = np.diag([found[j,] for j in range(codes.shape[1])])
        for i, j in combinations(range(codes.shape[1]), 2):
            pairs[i, j] = pairs[j, i] = total[i, j]
        self.mutual_information_ = pairs[:d, :d]
        self.target_information_ = pairs[:d, d].copy() if codes.shape[1] > d else None
        self.pvalues_ = self._named(self._pvalues(subsets))

    def _named(self, values):
        return {frozenset(self._names_[j] for j in s): value for s, value in values.items()}

    def _pvalues(self, subsets):
        codes, rng = self._codes_, check_random_state(self.random_state)
        if self.n_permutations:
            raw = {s: permutation_pvalue(codes[:, s], self.n_permutations, rng) for s in subsets}
        elif self.alpha == 1:
            pairs = [s for s in subsets if len(s) == 2]
            raw = dict(zip(pairs, likelihood_ratio_pvalues(codes, pairs))) if pairs else {}
        else:
            raw = {}
        if not raw:  # a single column, or no law is known
            return raw
        return dict(zip(raw, adjust_pvalues(list(raw.values()), method="fdr_bh").tolist()))

    def _group(self, codes):
        self._n_samples_ = len(codes)
        limit = max(8, len(codes) // 20) if self.max_cells == "auto" else self.max_cells
        groups = group_features(
            codes,
            max_order=self.max_order,
            n_groups=self.n_groups,
            threshold=self.threshold,
            max_cells=limit,
        )
        self.groups_ = [np.array(group) for group in groups]
        self.labels_ = np.empty(codes.shape[1], dtype=np.intp)
        self._cells_, self._counts_ = [], []
        for number, group in enumerate(self.groups_):
            self.labels_[group] = number
            cells, counts = np.unique(codes[:, group], axis=0, return_counts=True)
            self._cells_.append(cells)
            self._counts_.append(counts)

    def _table(self, X):
        check_is_fitted(self)
        return self._codes(self._columns(X, reset=False))

    def transform(self, X):
        """Give each group the number of its joint cell.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_groups)
            Numbers of the cells of `fit` in lexical order; a cell that is new gets the number of
            the one with the fewest different columns, the lowest of these.
        """
        codes = self._table(X)
        dtype = getattr(X, "dtype", None)
        dtype = np.float32 if dtype == np.float32 else np.float64
        numbers = [nearest_cells(codes[:, g], c) for g, c in zip(self.groups_, self._cells_)]
        return np.column_stack(numbers).astype(dtype)

    def score(self, X, y=None):
        """Compute the mean log-likelihood of a model of independent groups.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        float
            In nats. One half is added to the counts of all cells, seen or not.
        """
        codes, total = self._table(X), 0.0
        for group, cells, counts in zip(self.groups_, self._cells_, self._counts_):
            numbers = nearest_cells(codes[:, group], cells)
            seen = (cells[numbers] == codes[:, group]).all(axis=1)
            counts = np.where(seen, counts[numbers], 0)
            n_levels = [len(np.unique(cells[:, k])) for k in range(cells.shape[1])]
            n_cells = np.prod(n_levels, dtype=np.float64)
            total += np.mean(np.log((counts + 0.5) / (self._n_samples_ + n_cells / 2)))
        return float(total)

    def information(self, *columns):
        """Compute the multivariate information of columns.

        Parameters
        ----------
        *columns : int, str or list
            Columns by number or name, "y" for the target; a list is a joint variable.

        Returns
        -------
        float
            One argument: entropy, two: mutual information; negative values are synergy.
        """
        check_is_fitted(self)
        variables = [self._joint(column) for column in columns]
        return self._scaled(plain_information(variables, self.alpha, self.estimator))

    def conditional_entropy(self, columns, given):
        """Compute the mean entropy of columns given others, with weights p^alpha.

        Parameters
        ----------
        columns : int, str or list
            Columns by number or name, "y" for the target; a list is a joint variable.
        given : int, str or list
            The condition, likewise.

        Returns
        -------
        float
            Entropy of all columns less that of `given`, by the chain rule.
        """
        check_is_fitted(self)
        first, second = self._joint(columns), self._joint(given)
        _, both = join_codes(first, second, second.max() + 1)
        options = self.alpha, self.estimator
        return self._scaled(
            count_entropy(both, *options) - count_entropy(np.bincount(second), *options)
        )

    def coboundary(self, cochain):
        """Compute the coboundary of a 1-cochain at the empirical law, for all pairs of columns.

        Parameters
        ----------
        cochain : callable
            Called with a sorted tuple of columns and an array of the probabilities of their
            observed cells, some of them zero; returns a number.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            (X_i.f[X_j])(P) - f[X_i X_j](P) + f[X_i](P); zero for the entropy of degree `alpha`.
        """
        check_is_fitted(self)
        d = len(self.categories_)
        outcomes, counts = np.unique(self._codes_[:, :d], axis=0, return_counts=True)
        law, values = counts / counts.sum(), np.empty((d, d))
        variables = {(j,): compress(outcomes[:, j])[0] for j in range(d)}
        variables |= {
            (i, j): joint(variables[i,], variables[j,]) for i, j in combinations(range(d), 2)
        }

        def at(columns, law):
            return cochain(columns, np.bincount(variables[columns], weights=law))

        for i in range(d):
            for j in range(d):
                both = (i,) if i == j else (min(i, j), max(i, j))
                acted = action(variables[i,], lambda p, j=j: at((j,), p), law, self.alpha)
                values[i, j] = acted - at(both, law) + at((i,), law)
        return values

    def _scaled(self, value):
        return float(value if self.log_base is None else value / np.log(self.log_base))

    def _joint(self, columns):
        """Codes of a joint variable."""
        columns = columns if isinstance(columns, (list, tuple, np.ndarray)) else [columns]
        names = list(getattr(self, "feature_names_in_", []))
        joined = np.zeros(len(self._codes_), dtype=np.intp)
        for column in columns:
            if column in names:
                column = names.index(column)
            elif column not in self._names_:
                raise ValueError(f"no column {column!r}; columns are {names or self._names_}")
            codes = self._codes_[:, self._names_.index(column)]
            joined, _ = join_codes(joined, codes, codes.max() + 1)
        return joined

    def get_feature_names_out(self, input_features=None):
        """Join the names of the features of each group.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input features.

        Returns
        -------
        ndarray of str objects
            Names such as "x0|x3".
        """
        check_is_fitted(self, "n_features_in_")
        names = _check_feature_names_in(self, input_features)
        return np.array(["|".join(map(str, names[group])) for group in self.groups_], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def permutation_pvalue(codes, n_permutations, rng):
    """P-value of independence: how often permuted columns have as small a joint entropy."""
    levels = codes.max(axis=0) + 1
    entropies = np.empty(n_permutations + 1)
    for draw in range(n_permutations + 1):
        joined = codes[:, 0]
        for column in range(1, codes.shape[1]):
            values = rng.permutation(codes[:, column]) if draw else codes[:, column]
            joined, counts = join_codes(joined, values, levels[column])
        entropies[draw] = count_entropy(counts)
    return float(np.mean(entropies <= entropies[0] + 1e-12))


def likelihood_ratio_pvalues(codes, pairs):
    """P-values of independence of pairs by the chi-squared law of the likelihood ratio."""
    entropies = subset_entropies(codes, 2)
    information = np.array([alternating_sum(pair, entropies) for pair in pairs])
    n_levels = np.array([len(np.unique(column)) for column in codes.T])
    freedom = np.prod([n_levels[list(pair)] - 1 for pair in pairs], axis=1)
    pvalues = stats.chi2.sf(2 * len(codes) * information, np.maximum(freedom, 1))
    return np.where(freedom > 0, pvalues, 1.0)
