import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skpapers.structure import (
    Functions,
    Graph,
    GraphList,
    NodeView,
    OnFeatures,
    Ragged,
    as_panel,
    as_sets,
)

RNG = np.random.RandomState(0)
ITEMS = [RNG.standard_normal((m, 3)) for m in (4, 2, 0, 5)]


@pytest.mark.parametrize("transformer", [None, PCA(1)])
def test_passes_check_estimator(transformer):
    results = check_estimator(OnFeatures(transformer), on_skip=None)
    assert len(results) >= 35


def test_elements_are_scaled_whatever_the_form():
    flat = np.concatenate(ITEMS)
    expected = as_sets(Ragged(ITEMS).map_features(lambda _: StandardScaler().fit_transform(flat)))
    assert OnFeatures().fit_transform(ITEMS) == expected
    assert OnFeatures().fit_transform(Ragged(ITEMS)) == expected
    padded = OnFeatures().fit_transform(np.asarray(Ragged(ITEMS)))
    assert padded.shape == (4, 5, 3) and as_sets(padded) == expected
    panel = OnFeatures(PCA(2)).fit_transform(as_panel([item.T for item in ITEMS[:2]]))
    assert panel[0].shape == (2, 4)


def test_a_view_is_scaled_by_its_samples_and_keeps_its_graph():
    X = RNG.standard_normal((6, 2))
    view = NodeView(Graph(X, np.ones((6, 6))))
    scaler = OnFeatures().fit(view[:4])
    scaled = scaler.transform(view[4:])
    reference = StandardScaler().fit(X[:4])
    np.testing.assert_array_equal(scaled.graph.features, reference.transform(X))
    assert scaled.graph.uid == view.graph.uid and scaled.ids.tolist() == [4, 5]


def test_graphs_and_functions():
    graphs = [(np.ones((n, n)), RNG.standard_normal((n, 2))) for n in (3, 2)]
    scaled = OnFeatures().fit_transform(graphs)
    assert isinstance(scaled, GraphList)
    np.testing.assert_allclose(scaled.features.std(axis=0), 1)
    curves = Functions(RNG.standard_normal((8, 3)))
    np.testing.assert_allclose(
        OnFeatures().fit_transform(curves).values.mean(axis=0), 0, atol=1e-12
    )


def test_targets_are_repeated_for_the_elements():
    y = np.arange(4) % 2
    items = [item + [0, 10 * label, 0] for item, label in zip(ITEMS, y)]
    kept = OnFeatures(SelectKBest(k=1)).fit(items, y).transform(items)
    np.testing.assert_array_equal(kept.values[:, 0], np.concatenate(items)[:, 1])


def test_set_output_and_names():
    import pandas

    frame = pandas.DataFrame(RNG.standard_normal((5, 2)), columns=["a", "b"])
    scaler = OnFeatures().set_output(transform="pandas")
    assert list(clone(scaler).fit_transform(frame).columns) == ["a", "b"]
    assert OnFeatures().fit(frame).set_output(transform="pandas").transform(frame).shape == (5, 2)
    assert isinstance(scaler.fit_transform(ITEMS), Ragged)
    assert list(scaler.fit(frame).get_feature_names_out()) == ["a", "b"]
