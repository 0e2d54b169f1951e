"""What every estimator for structured inputs must survive: call these with equivalent inputs."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline


def rows(X, index):
    """Select rows of a container, an array or a list."""
    return [X[i] for i in index] if isinstance(X, list) else X[index]


def outputs(estimator, X, **metadata):
    """Everything the fitted estimator says about `X` row by row."""
    methods = ("predict_proba", "decision_function", "transform", "predict")
    found = [m for m in methods if hasattr(estimator, m)]
    assert found, "the estimator has no prediction method"
    return {m: np.asarray(getattr(estimator, m)(X, **metadata)) for m in found}


def assert_same_outputs(first, second, atol=1e-5):
    assert first.keys() == second.keys()
    for method, values in first.items():
        if values.dtype.kind in "fc":
            np.testing.assert_allclose(second[method], values, atol=atol, err_msg=method)
        else:
            np.testing.assert_array_equal(second[method], values, err_msg=method)


def check_selection(estimator, X, y, param_grid, scoring, at_least=None):
    """Cross-validation and searches slice `X` and score with an ordinary scorer."""
    scores = cross_val_score(estimator, X, y, scoring=scoring, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    search = GridSearchCV(estimator, param_grid, scoring=scoring, cv=3, error_score="raise")
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    if hasattr(estimator, "predict"):
        assert len(cross_val_predict(estimator, X, y, cv=3)) == len(y)
    if at_least is not None:
        assert scores.mean() >= at_least
    return search


def check_row_independence(estimator, X, y, atol=1e-5):
    """A row's outputs depend neither on the other rows nor on their order."""
    fitted = clone(estimator).fit(X, y)
    whole = outputs(fitted, X)
    for index in (np.arange(len(y))[::-1], np.array([len(y) // 2]), np.arange(0, len(y), 3)):
        part = outputs(fitted, rows(X, index))
        assert_same_outputs({m: v[index] for m, v in whole.items()}, part, atol)


def check_equivalent_inputs(estimator, inputs, y, atol=1e-5):
    """Every form of the same data gives the same fitted model and the same outputs."""
    reference = None
    for X in inputs:
        fitted = clone(estimator).fit(X, y)
        found = outputs(fitted, X)
        reference = reference or found
        assert_same_outputs(reference, found, atol)
        for other in inputs:
            assert_same_outputs(reference, outputs(fitted, other), atol)


def check_routes(estimator, view, y, train, test, atol=1e-5):
    """Route A (a view of the induced graph) and route B (adjacency, node_id) agree."""
    adjacency, features = view.graph.adjacency, view.features
    a = clone(estimator).set_params(context="induced").fit(view[train], y[train])
    b = clone(estimator).fit(
        features[train], y[train], adjacency=adjacency[train], node_id=np.asarray(train)
    )
    metadata = {"adjacency": adjacency[test], "node_id": np.asarray(test)}
    assert_same_outputs(outputs(a, view[test]), outputs(b, features[test], **metadata), atol)


def check_routed_search(estimator, view, y, param_grid):
    """Metadata reaches fit and score of every fold, in a Pipeline too (scoring=None)."""
    metadata = {"adjacency": view.graph.adjacency, "node_id": np.arange(len(y))}
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(estimator, param_grid, cv=3, error_score="raise")
        search.fit(view.features, y, **metadata)
        piped = GridSearchCV(make_pipeline(estimator), {}, cv=3, error_score="raise")
        piped.fit(view.features, y, **metadata)
    for result in (search, piped):
        assert np.isfinite(result.cv_results_["mean_test_score"]).all()
    return search


def check_pickle_and_clone(estimator, X, y):
    """A pickled estimator predicts the same, and a clone has no fitted state."""
    fitted = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert_same_outputs(outputs(fitted, X), outputs(again, pickle.loads(pickle.dumps(X))), 0)
    assert not [name for name in vars(clone(fitted)) if name.endswith("_")]


def check_error_text(estimator, X, y, *words):
    """A wrong form is refused with what was given and what is accepted."""
    with pytest.raises((ValueError, TypeError)) as caught:
        clone(estimator).fit(X, y)
    for word in words:
        assert word in str(caught.value)
