"""From a method and a problem to the pipeline that is fitted."""

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, MinMaxScaler, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from skpapers.utils import import_optional

from ._split import is_labeled


def _inner_has(name):
    return available_if(lambda self: hasattr(self.estimator, name))


class OnLabeledRows(MetaEstimatorMixin, BaseEstimator):
    """Fit an estimator on the labelled rows only.

    What comes before it in a pipeline (encoding, scaling, an unsupervised transformer) still
    learns from every row.

    Parameters
    ----------
    estimator : estimator
        What to fit on the rows whose target is neither -1 nor NaN.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skpapers._compare import OnLabeledRows
    >>> model = OnLabeledRows(LogisticRegression()).fit([[0], [1], [2], [3]], [0, -1, -1, 1])
    >>> model.predict([[3]])
    array([1])
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit on the labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Target; -1 (integers) or NaN (floats) where it is not known.

        Returns
        -------
        OnLabeledRows
            Itself.
        """
        y = np.asarray(y)
        X = X if hasattr(X, "iloc") else np.asarray(X)
        labeled = is_labeled(y)
        self.estimator_ = clone(self.estimator).fit(X[labeled], y[labeled])
        return self

    @_inner_has("predict")
    def predict(self, X):
        """Predict with the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        return self.estimator_.predict(X)

    @_inner_has("transform")
    def transform(self, X):
        """Transform with the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            New representation.
        """
        return self.estimator_.transform(X)

    def __sklearn_tags__(self):
        return get_tags(self.estimator)


class OneHotTarget(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Fit a transformer that takes a numeric target on the indicator columns of the classes.

    With canonical correlation analysis this is Fisher's discriminant analysis.

    Parameters
    ----------
    estimator : transformer
        A transformer whose ``fit`` takes a two-dimensional target.

    Attributes
    ----------
    estimator_ : transformer
        The fitted transformer.

    Examples
    --------
    >>> from sklearn.cross_decomposition import CCA
    >>> from skpapers._compare import OneHotTarget
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> OneHotTarget(CCA()).fit(X, y).transform(X).shape
    (150, 2)
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit on the indicator columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Classes.

        Returns
        -------
        OneHotTarget
            Itself.
        """
        indicators = LabelBinarizer().fit_transform(y).astype(float)
        self.estimator_ = clone(self.estimator).fit(X, indicators)
        return self

    def transform(self, X):
        """Transform with the fitted transformer.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            New representation.
        """
        return self.estimator_.transform(X)


def build(method, problem, setting=None, uses_unlabeled=False):
    """Make the unfitted model: encode the table, scale, then the method."""
    estimator = clone(method.estimator).set_params(**(setting or {}))
    pipeline = make_pipeline(
        *_encoders(problem, estimator), *_steps(method, problem, estimator, uses_unlabeled)
    )
    if problem.task == "regression" and problem.labels is None:
        return TransformedTargetRegressor(pipeline, transformer=StandardScaler())
    return pipeline


def _encoders(problem, estimator):
    """Steps that make finite, scaled numbers of the table; they are fitted inside the folds."""
    steps = [] if is_numeric(problem.X) else [_table_vectorizer(problem.seed)]
    tags = get_tags(estimator).input_tags
    # a NaN is an absent element, not a missing value, for what takes sets and series
    takes_missing = tags.allow_nan and not tags.three_d_array
    if not takes_missing and (steps or has_missing(problem.X)):
        steps.append(SimpleImputer(keep_empty_features=True))
    return [*steps, MinMaxScaler() if tags.positive_only else StandardScaler()]


def is_numeric(X):
    """Whether every column holds numbers or booleans already."""
    if not hasattr(X, "iloc"):
        return True
    return all(isinstance(t, np.dtype) and t.kind in "iufb" for t in X.dtypes)


def has_missing(X):
    """Whether a cell is missing."""
    if hasattr(X, "iloc"):
        return bool(X.isna().to_numpy().any())
    return X.dtype.kind == "f" and bool(np.isnan(X).any())


def _table_vectorizer(seed):
    skrub = import_optional("skrub", "compare")
    return skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(random_state=seed))


def _steps(method, problem, estimator, uses_unlabeled):
    """The method itself; a transformer is followed by a linear model."""
    supervise = OnLabeledRows if problem.labels is not None else lambda step: step
    if method.role != "transformer":
        return [estimator if uses_unlabeled else supervise(estimator)]
    linear = (
        LogisticRegression(max_iter=1000) if problem.task == "classification" else Ridge(alpha=1.0)
    )
    target = get_tags(estimator).target_tags
    if target.required:
        wrapped = OneHotTarget(estimator) if problem.task == "classification" else estimator
        estimator = supervise(wrapped)
    return [estimator, StandardScaler(), supervise(linear)]
