"""The two routes through scikit-learn, shown on the smallest honest estimators."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skpapers.structure import (
    Graph,
    NodeView,
    OnFeatures,
    Ragged,
    TrainingGraph,
    as_nodes,
    as_panel,
    as_sets,
    is_unlabeled,
    validate_structured,
)

from . import _kit


class PooledClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression on the mean of the elements."""

    def __init__(self, parser=as_sets, C=1.0):
        self.parser = parser
        self.C = C

    def fit(self, X, y):
        X, y = validate_structured(self, X, y, parser=self.parser)
        self.model_ = LogisticRegression(C=self.C).fit(self._pool(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        X = validate_structured(self, X, parser=self.parser, reset=False)
        return self.model_.predict_proba(self._pool(X))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _pool(self, X):
        values, mask = X.to_padded()
        return values.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)[:, None]


class NeighborClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression on the mean of the neighbours' features."""

    __metadata_request__fit = {"adjacency": True, "node_id": True}
    __metadata_request__predict = {"adjacency": True, "node_id": True}
    __metadata_request__score = {"adjacency": True, "node_id": True}

    def __init__(self, context="graph", n_neighbors=5, C=1.0):
        self.context = context
        self.n_neighbors = n_neighbors
        self.C = C

    def fit(self, X, y, adjacency=None, node_id=None):
        nodes, y = validate_structured(
            self, X, y, parser=as_nodes, adjacency=adjacency, node_id=node_id
        )
        self.graph_ = TrainingGraph(nodes, self.context, n_neighbors=self.n_neighbors)
        labeled = ~is_unlabeled(y)
        features = _mean(self.graph_.adjacency, self.graph_.features)[self.graph_.rows]
        self.model_ = LogisticRegression(C=self.C).fit(features[labeled], y[labeled])
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X, adjacency=None, node_id=None):
        nodes = validate_structured(
            self, X, parser=as_nodes, reset=False, adjacency=adjacency, node_id=node_id
        )
        return self.model_.predict(_mean(self.graph_.links(nodes), self.graph_.features))

    def score(self, X, y, sample_weight=None, adjacency=None, node_id=None):
        return accuracy_score(y, self.predict(X, adjacency, node_id), sample_weight=sample_weight)


def _mean(links, features):
    return (links @ features) / np.maximum(links.sum(axis=1), 1e-12)[:, None]


def bags(seed=0, n=60):
    rng = np.random.RandomState(seed)
    y = rng.randint(2, size=n)
    return [rng.standard_normal((m, 2)) + c for m, c in zip(rng.randint(5, 12, n), y)], y


def communities(seed=0, n=90):
    """Two blocks whose nodes hardly differ in features: only neighbours tell them apart."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % 2
    probability = np.where(y[:, None] == y, 0.3, 0.02)
    upper = np.triu(rng.uniform(size=(n, n)) < probability, 1)
    features = rng.standard_normal((n, 3)) + 0.8 * y[:, None]
    return NodeView(Graph(features, (upper | upper.T).astype(float))), y


def test_sets_in_every_form_through_searches():
    items, y = bags()
    grid = {"C": [0.1, 1.0]}
    for X in (items, Ragged(items), np.asarray(Ragged(items))):
        _kit.check_selection(PooledClassifier(), X, y, grid, "accuracy", at_least=0.85)


def test_sets_rows_pickles_and_equivalent_forms():
    items, y = bags()
    forms = [items, Ragged(items), np.asarray(Ragged(items))]
    _kit.check_equivalent_inputs(PooledClassifier(), forms, y, atol=1e-12)
    for X in forms:
        _kit.check_row_independence(PooledClassifier(), X, y)
        _kit.check_pickle_and_clone(PooledClassifier(), X, y)
    _kit.check_error_text(
        PooledClassifier(), np.zeros((60, 2, 2, 2)), y, "(60, 2, 2, 2)", "Ragged"
    )


def test_series_through_searches():
    items, y = bags()
    X = as_panel([item.T for item in items])
    estimator = PooledClassifier(parser=as_panel)
    _kit.check_selection(estimator, X, y, {"C": [1.0]}, "roc_auc", at_least=0.85)
    _kit.check_equivalent_inputs(estimator, [X, [s.T for s in items], np.asarray(X)], y)


def test_containers_in_pipelines_and_in_parallel():
    items, y = bags()
    pipeline = make_pipeline(OnFeatures(), PooledClassifier())
    scores = cross_val_score(pipeline, Ragged(items), y, scoring="accuracy", cv=3)
    assert scores.mean() >= 0.85
    view, y = communities()
    pipeline = make_pipeline(OnFeatures(), NeighborClassifier())
    search = GridSearchCV(pipeline, {"neighborclassifier__C": [0.1, 1]}, cv=3, n_jobs=2)
    assert search.fit(view, y).best_score_ >= 0.9


def test_views_carry_the_graph_through_searches_and_ordinary_scorers():
    view, y = communities()
    grid = {"context": ["graph", "induced"]}
    search = _kit.check_selection(NeighborClassifier(), view, y, grid, "accuracy", at_least=0.9)
    assert search.cv_results_["mean_test_score"].min() >= 0.85
    features_alone = cross_val_score(NeighborClassifier(), view.features, y, cv=3)
    assert features_alone.mean() <= search.best_score_ - 0.1
    _kit.check_row_independence(NeighborClassifier(), view, y)
    _kit.check_pickle_and_clone(NeighborClassifier(), view, y)


def test_route_a_equals_route_b():
    view, y = communities()
    order = np.random.RandomState(0).permutation(90)
    _kit.check_routes(NeighborClassifier(), view, y, order[:60], order[60:])


def test_metadata_reaches_the_score_of_a_search():
    view, y = communities()
    search = _kit.check_routed_search(NeighborClassifier(), view, y, {"C": [0.1, 1.0]})
    assert search.best_score_ >= 0.85


def test_without_routing_prediction_works_without_structure():
    view, y = communities()
    search = GridSearchCV(NeighborClassifier(), {"C": [1.0]}, cv=3, error_score="raise")
    search.fit(view.features, y, adjacency=view.graph.adjacency, node_id=np.arange(90))
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("unknown", [{"adjacency": np.ones((90, 90))}])
def test_a_pipeline_routes_metadata_to_prediction(unknown):
    view, y = communities()
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(NeighborClassifier()).fit(view.features, y, **unknown)
        predicted = pipeline.predict(view.features, **unknown)
    assert len(set(predicted)) == 1  # every node has the same neighbours
