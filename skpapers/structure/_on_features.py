"""Apply a scikit-learn transformer to the features inside a container."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.utils import check_array, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._base import RowContainer, as_float, is_table, to_numpy
from ._graph_parsers import as_graphs
from ._sets import Ragged

__all__ = ["OnFeatures"]


def _names_features(self):
    return hasattr(getattr(self, "transformer_", self._inner()), "get_feature_names_out")


class OnFeatures(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Apply a transformer to the features of nodes, set elements or time steps.

    The transformer sees one row a node or element and the container is given back with the new
    features; a table is transformed as it is. It is fitted on the samples alone and then applied
    to the whole graph of a :class:`NodeView`.

    Parameters
    ----------
    transformer : transformer, default=None
        The transformer, by default a :class:`sklearn.preprocessing.StandardScaler` that refuses
        missing values.

    Attributes
    ----------
    transformer_ : transformer
        The fitted transformer.
    n_features_in_ : int
        Number of features of a node or element.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` is a frame with names of strings.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skpapers.structure import OnFeatures, Ragged
    >>> bags = Ragged([[[0.0], [4.0]], [[2.0]]])
    >>> OnFeatures(MinMaxScaler()).fit_transform(bags)[1]
    array([[0.5]])
    """

    _parameter_constraints: dict = {"transformer": [HasMethods(["fit", "transform"]), None]}

    _search_space = {"transformer": [StandardScaler(), RobustScaler()]}

    def __init__(self, transformer=None):
        self.transformer = transformer

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Fit the transformer on the features.

        Parameters
        ----------
        X : array-like, container or list
            A table, an array of more dimensions (features last), a container, a list of arrays of
            shape (m_i, n_features) or a list of graphs.
        y : array-like of shape (n_samples,), default=None
            Targets; repeated for the elements of a sample.

        Returns
        -------
        OnFeatures
            The fitted transformer.
        """
        self.transformer_ = clone(self._inner())
        output = getattr(self, "_sklearn_output_config", {}).get("transform")
        if output is not None:
            self.transformer_.set_output(transform=output)
        features, y = _fit_data(_structured(X), y)
        self.transformer_.fit(self._checked(features), y)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(self.transformer_, name):
                setattr(self, name, getattr(self.transformer_, name))
        return self

    def transform(self, X):
        """Transform the features and keep the structure.

        Parameters
        ----------
        X : array-like, container or list
            As in ``fit``.

        Returns
        -------
        array-like or container
            The same structure with the new features.
        """
        check_is_fitted(self)
        return _map(_structured(X), lambda rows: self.transformer_.transform(self._checked(rows)))

    def set_output(self, *, transform=None):
        """Set the output container of tables.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container; None changes nothing.

        Returns
        -------
        OnFeatures
            This estimator.
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
            if hasattr(self, "transformer_"):
                self.transformer_.set_output(transform=transform)
        return self

    @available_if(_names_features)
    def get_feature_names_out(self, input_features=None):
        """Name the new features.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features_in_,), default=None
            Names of the features.

        Returns
        -------
        ndarray of str
            The names the transformer gives.
        """
        check_is_fitted(self)
        return self.transformer_.get_feature_names_out(input_features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._inner())
        tags.input_tags = inner.input_tags
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan &= self.transformer is not None
        tags.target_tags = inner.target_tags
        tags.transformer_tags = inner.transformer_tags
        tags.non_deterministic = inner.non_deterministic
        return tags

    def _checked(self, features):
        """Refuse missing values that the default scaler would let through."""
        if self.transformer is None:
            check_array(features, accept_sparse=("csr", "csc"), dtype="numeric", estimator=self)
        return features

    def _inner(self):
        return StandardScaler() if self.transformer is None else self.transformer


def _structured(X):
    """Return a table, an array of more dimensions or a container."""
    if is_table(X) or isinstance(X, RowContainer) or len(getattr(X, "shape", ())) > 2:
        return X
    if not isinstance(X[0], (list, tuple)) and np.ndim(X[0]) == 2:
        return Ragged(X)
    return as_graphs(X)


def _present(X):
    """Return the rows of an array of more dimensions that are not all NaN, and where they are."""
    flat = as_float(to_numpy(X))
    flat = flat.reshape(-1, flat.shape[-1])
    present = ~np.isnan(flat).all(axis=1)
    return flat[present], present


def _fit_data(X, y):
    """Return the features and the target of each of their rows."""
    if is_table(X):
        return X, y
    features, owner = _rows_and_owners(X)
    return features, (None if y is None else np.asarray(y)[owner])


def _rows_and_owners(X):
    if hasattr(X, "sizes"):
        return X.features, np.repeat(np.arange(len(X)), X.sizes)
    if isinstance(X, RowContainer):
        return X.features, np.arange(len(X))
    features, present = _present(X)
    return features, np.repeat(np.arange(len(X)), len(present) // len(X))[present]


def _map(X, function):
    if is_table(X):
        return function(X)
    if isinstance(X, RowContainer):
        return X.map_features(function)
    features, present = _present(X)
    new = np.asarray(function(features))
    flat = np.full((len(present), new.shape[1]), np.nan, dtype=new.dtype)
    flat[present] = new
    return flat.reshape(*X.shape[:-1], new.shape[1])
