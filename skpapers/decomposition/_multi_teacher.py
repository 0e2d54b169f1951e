"""Regression on several blocks of targets that weigh the same."""

from math import sqrt

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, _fit_context, clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array, check_consistent_length, get_tags
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ._phi_s import _METHODS, PHIStandardScaler

__all__ = ["MultiTeacherRegressor"]


class MultiTeacherRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """One student for several teachers, none of which drowns the others.

    Each block of targets is normalised on its own; the student is fitted to all of them
    jointly; predictions are returned in the original units.

    Parameters
    ----------
    estimator : estimator, default=None
        The student, a regressor of several outputs; None is ``Ridge()``.
    teachers : list of estimators, default=None
        Fitted estimators whose ``predict(X)`` are the targets, one block each. `clone` unfits
        them unless they are in a `sklearn.frozen.FrozenEstimator`.
    splits : list of int, default=None
        Widths of the blocks of a two-dimensional y; None is one block.
    normalizer : {"phi_s", "standard", "global", "pca_whiten", "zca", "hadamard_whiten"}, \
            transformer or None, default="phi_s"
        A `method` of `PHIStandardScaler`, a transformer that is cloned for each block, or None to
        leave the targets as they are.
    weights : array-like of shape (n_blocks,), default=None
        Weight of each block's mean squared error, greater than 0; None is 1.

    Attributes
    ----------
    estimator_ : estimator
        The fitted student.
    normalizers_ : list of transformers
        The fitted normaliser of each block.
    widths_ : list of int
        Number of columns of each block.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If `splits` does not sum to the width of y, or `weights` is not one positive number a
        block.

    Notes
    -----
    The cost is that of the student and of one eigendecomposition a block. Normalised blocks are
    multiplied by ``sqrt(weight / width)``, up to one constant that leaves a block alone as it is,
    so that the student's squared error averages the mean squared errors of the blocks.

    A student whose outputs share nothing, such as ``Ridge``, fits each target as well whatever
    the normalisation is: it matters where capacity is shared.

    References
    ----------
    .. [1] M. Ranzinger, J. Barker, G. Heinrich, P. Molchanov, B. Catanzaro, A. Tao, "PHI-S:
       Distribution Balancing for Label-Free Multi-Teacher Distillation", ICLR 2025,
       arXiv:2410.01680.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import MultiTeacherRegressor
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> model = MultiTeacherRegressor().fit(X, [100 * X[:, :2], 0.01 * X])
    >>> [block.shape for block in model.predict(X)]
    [(100, 2), (100, 5)]
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "teachers": [list, tuple, None],
        "splits": ["array-like", None],
        "normalizer": [
            StrOptions(_METHODS),
            HasMethods(["fit", "transform", "inverse_transform"]),
            None,
        ],
        "weights": ["array-like", None],
    }

    _search_space = {"normalizer": ["phi_s", "standard", "global", "pca_whiten"]}

    def __init__(
        self, estimator=None, *, teachers=None, splits=None, normalizer="phi_s", weights=None
    ):
        self.estimator = estimator
        self.teachers = teachers
        self.splits = splits
        self.normalizer = normalizer
        self.weights = weights

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the student.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or list of such, \
                default=None
            Targets. A list in which an array is two-dimensional holds one block each. Ignored
            where there are `teachers`, required where there are none.
        sample_weight : array-like of shape (n_samples,), default=None
            How many rows each row stands for; the student has to accept it.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        validate_data(self, X, skip_check_array=True)
        blocks, self._form = self._targets(X, y)
        check_consistent_length(X, *blocks)
        self.widths_ = [block.shape[1] for block in blocks]
        self._factors = self._block_factors()
        fit_params = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.normalizers_ = [self._fit_normalizer(block, fit_params) for block in blocks]
        parts = zip(self.normalizers_, blocks, self._factors)
        target = np.hstack([n.transform(block) * factor for n, block, factor in parts])
        student = clone(self._student())
        self.estimator_ = student.fit(
            X, target[:, 0] if target.shape[1] == 1 else target, **fit_params
        )
        return self

    def _student(self):
        return Ridge() if self.estimator is None else self.estimator

    def _targets(self, X, y):
        """The blocks, and whether they came as a list, a matrix or a vector."""
        if self.teachers is not None:
            y = [teacher.predict(X) for teacher in self.teachers]
        elif y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        if self.teachers is not None or _is_list_of_blocks(y):
            return [_as_columns(_as_floats(block)) for block in y], "list"
        y = _as_floats(y)
        form, y = "vector" if y.ndim == 1 else "matrix", _as_columns(y)
        splits = [y.shape[1]] if self.splits is None else self.splits
        if np.min(splits) < 1 or np.sum(splits) != y.shape[1]:
            raise ValueError(
                f"splits must be widths that sum to the {y.shape[1]} columns of y, got {splits!r}"
            )
        return np.split(y, np.cumsum(splits)[:-1], axis=1), form

    def _block_factors(self):
        """What each block is multiplied by: the square root of its weight per column."""
        n_blocks = len(self.widths_)
        weights = np.ones(n_blocks) if self.weights is None else np.asarray(self.weights, float)
        if weights.shape != (n_blocks,) or not (weights > 0).all():
            raise ValueError(
                f"weights must be {n_blocks} positive numbers, one a block, got {self.weights!r}"
            )
        unit = sum(self.widths_) / weights.sum()  # one block alone keeps its size
        return [sqrt(weight / width * unit) for weight, width in zip(weights, self.widths_)]

    def _fit_normalizer(self, block, fit_params):
        if self.normalizer is None:
            return FunctionTransformer().fit(block)
        if isinstance(self.normalizer, str):
            normalizer = PHIStandardScaler(self.normalizer)
        else:
            normalizer = clone(self.normalizer)
        weighted = has_fit_parameter(normalizer, "sample_weight")
        return normalizer.fit(block, **(fit_params if weighted else {}))

    def predict(self, X):
        """Predict every teacher, in its units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets), or list of such
            Shaped as the y of `fit`; a list of blocks with teachers.
        """
        blocks = self._predict_blocks(X)
        if self._form == "list":
            return blocks
        return blocks[0][:, 0] if self._form == "vector" else np.hstack(blocks)

    def _predict_blocks(self, X):
        check_is_fitted(self)
        z = np.asarray(self.estimator_.predict(X))  # the student knows what X may be
        validate_data(self, X, reset=False, skip_check_array=True)
        z = np.split(z.reshape(len(z), -1), np.cumsum(self.widths_)[:-1], axis=1)
        parts = zip(self.normalizers_, z, self._factors)
        return [n.inverse_transform(part / factor) for n, part, factor in parts]

    def score(self, X, y=None, sample_weight=None):
        """Mean over blocks of the share of the variance that is explained.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like or list of array-like, default=None
            Targets as in `fit`; ignored where there are teachers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            One minus the squared error of a block over its total variance, averaged.
        """
        blocks = zip(self._targets(X, y)[0], self._predict_blocks(X))
        settings = {"sample_weight": sample_weight, "multioutput": "variance_weighted"}
        return float(np.mean([r2_score(true, found, **settings) for true, found in blocks]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self._student()).input_tags.sparse
        tags.target_tags.required = self.teachers is None
        tags.target_tags.multi_output = True
        return tags


def _is_list_of_blocks(y):
    """Whether y is a list of targets: a list of numbers or of rows is one target."""
    return isinstance(y, (list, tuple)) and any(len(np.shape(block)) == 2 for block in y)


def _as_floats(y):
    return check_array(y, ensure_2d=False, dtype=[np.float64, np.float32], input_name="y")


def _as_columns(y):
    return y.reshape(len(y), -1)
