import pickle

import networkx as nx
import numpy as np
import pytest
import sklearn
from scipy import sparse
from scipy.linalg import cosm, expm, sinm
from sklearn.cluster import KMeans
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skpapers.graph import (
    GraphRandomFeatures,
    graph_kernel,
    learn_modulation,
    modulation_function,
)
from skpapers.graph._random_walks import mix, step_matrix, uniform
from skpapers.structure import Graph, NodeView

KARATE = nx.to_scipy_sparse_array(nx.karate_club_graph(), weight=None, dtype=float).tocsr()


def normalized(adjacency, sigma):
    dense = adjacency.toarray() if sparse.issparse(adjacency) else np.asarray(adjacency)
    degree = np.abs(dense).sum(axis=1)
    return sigma**2 * dense / np.sqrt(np.outer(degree, degree))


def view(adjacency):
    return NodeView(Graph(None, adjacency))


def fitted(adjacency, seed=0, **params):
    return GraphRandomFeatures(random_state=seed, **params).fit(view(adjacency))


def relative_error(estimate, exact):
    return np.linalg.norm(estimate - exact) / np.linalg.norm(exact)


# The modulation function.


@pytest.mark.parametrize(
    ("kernel", "params", "alpha"),
    [
        ("diffusion", {}, lambda k: 1 / np.prod(np.arange(1.0, k + 1))),
        ("regularized_laplacian", {"degree": 1.0}, lambda k: 1.0),
        ("regularized_laplacian", {"degree": 2.0}, lambda k: k + 1.0),
        ("regularized_laplacian", {"degree": 3.0}, lambda k: (k + 1) * (k + 2) / 2),
        ("random_walk", {"n_steps": 2}, lambda k: [1.0, 2.0, 1.0, 0.0][min(k, 3)]),
        ("random_walk", {"n_steps": 3}, lambda k: [1.0, 3.0, 3.0, 1.0, 0.0][min(k, 4)]),
        (
            "cosine",
            {},
            lambda k: (-1.0) ** (k // 2) / np.prod(np.arange(1.0, k + 1)),
        ),
    ],
)
def test_modulation_is_the_discrete_square_root_of_the_series(kernel, params, alpha):
    expected = np.array([alpha(k) for k in range(30)])
    f = modulation_function(kernel, 30, **params)
    np.testing.assert_allclose(np.convolve(f, f)[:30], expected, rtol=1e-12, atol=1e-12)
    recursion = modulation_function(alpha, 30)
    np.testing.assert_allclose(recursion, f, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(modulation_function(expected, 30), f, rtol=1e-12, atol=1e-12)


def test_modulation_in_closed_form():
    f = modulation_function("regularized_laplacian", 4, degree=1.0)
    np.testing.assert_allclose(f, [1, 1 / 2, 3 / 8, 5 / 16])
    np.testing.assert_allclose(modulation_function("random_walk", 4), [1, 1, 0, 0])
    np.testing.assert_allclose(modulation_function("diffusion", 4), [1, 1 / 2, 1 / 8, 1 / 48])


def test_modulation_needs_a_positive_first_coefficient():
    with pytest.raises(ValueError, match="first coefficient of kernel must be positive"):
        modulation_function([0.0, 1.0], 5)


# The exact kernel.


def test_exact_kernels_equal_matrix_functions():
    U = normalized(KARATE, 0.7)
    identity = np.eye(len(U))
    inverse = np.linalg.inv(identity - U)
    expected = {
        ("diffusion",): expm(U),
        ("regularized_laplacian", 1.0): inverse,
        ("regularized_laplacian", 2.0): inverse @ inverse,
        ("random_walk",): (identity + U) @ (identity + U),
        ("cosine",): cosm(U) + sinm(U),
    }
    for (kernel, *degree), matrix in expected.items():
        params = {"degree": degree[0]} if degree else {}
        np.testing.assert_allclose(
            graph_kernel(KARATE, kernel, sigma=0.7, **params), matrix, atol=1e-10
        )
    np.testing.assert_allclose(
        graph_kernel(Graph(None, KARATE), [1.0, 2.0, 3.0], sigma=0.7),
        identity + 2 * U + 3 * U @ U,
        atol=1e-10,
    )


def test_divergent_series_are_refused():
    for params in ({"sigma": 1.0}, {"sigma": 0.9, "normalize": False}):
        with pytest.raises(ValueError, match=r"diverges.*spectral radius"):
            graph_kernel(KARATE, "regularized_laplacian", **params)
        with pytest.raises(ValueError, match=r"diverges.*spectral radius"):
            fitted(KARATE, kernel="regularized_laplacian", **params)
    with pytest.raises(ValueError, match="diverges"):
        graph_kernel(KARATE, lambda k: 1.5**k, sigma=1.0)
    assert np.isfinite(graph_kernel(KARATE, "diffusion", sigma=2.0)).all()
    large = sparse.block_diag([KARATE] * 4)
    with pytest.raises(ValueError, match="diverges"):
        graph_kernel(large, "regularized_laplacian", sigma=1.0)


# Theorem: the features are unbiased. Copies of a graph side by side are independent draws.


def copies(adjacency, n_draws=400, **params):
    return fitted(sparse.block_diag([adjacency] * n_draws, format="csr"), **params)


def blocks(matrix, n_draws=400):
    """Cut a block-diagonal matrix into an array of shape (n_draws, n, n)."""
    entries, n = matrix.tocoo(), matrix.shape[0] // n_draws
    draw = entries.row // n
    np.testing.assert_array_equal(draw, entries.col // n)
    dense = np.zeros((n_draws, n, n))
    dense[draw, entries.row % n, entries.col % n] = entries.data
    return dense


def share_within_four_standard_errors(draws, exact, where=True):
    error = np.abs(draws.mean(axis=0) - exact)
    standard_error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    close = error <= 4 * standard_error + 1e-12
    return close[np.broadcast_to(where, close.shape)].mean()


@pytest.mark.parametrize(
    ("kernel", "sigma2", "function"),
    [
        ("diffusion", 0.5, expm),
        ("regularized_laplacian", 0.25, lambda U: np.linalg.matrix_power(np.eye(34) - U, -2)),
        ("cosine", 0.5, lambda U: cosm(U) + sinm(U)),
    ],
)
def test_features_of_two_ensembles_are_unbiased(kernel, sigma2, function):
    sigma = np.sqrt(sigma2)
    model = copies(KARATE, n_walks=20, kernel=kernel, sigma=sigma, independent=True)
    grams = blocks(model.embedding_ @ model.second_embedding_.T)
    exact = function(normalized(KARATE, sigma))
    assert share_within_four_standard_errors(grams, exact) >= 0.99
    model.sparse_output = True
    symmetric = (grams + grams.transpose(0, 2, 1)) / 2
    np.testing.assert_allclose(blocks(model.kernel_matrix()), symmetric, atol=1e-12)


def test_one_ensemble_is_biased_on_the_diagonal_alone():
    exact = expm(normalized(KARATE, np.sqrt(0.5)))
    model = copies(KARATE, n_walks=20, sigma=np.sqrt(0.5), sparse_output=True)
    grams = blocks(model.kernel_matrix())
    off_diagonal = ~np.eye(34, dtype=bool)
    assert share_within_four_standard_errors(grams, exact, off_diagonal) >= 0.99
    trace = np.trace(grams, axis1=1, axis2=2)
    z = (trace.mean() - np.trace(exact)) / (trace.std(ddof=1) / np.sqrt(len(trace)))
    assert z > 10


def test_one_sided_walks_have_the_same_expectation():
    exact = expm(normalized(KARATE, np.sqrt(0.5)))
    alpha = 1 / np.cumprod(np.r_[1.0, np.arange(1, 12)])
    model = copies(KARATE, n_walks=20, sigma=np.sqrt(0.5), modulation=alpha)
    assert share_within_four_standard_errors(blocks(model.embedding_), exact) >= 0.99


def test_walk_matrices_estimate_powers_and_add_up_to_the_features():
    U = normalized(KARATE, np.sqrt(0.5))
    model = copies(KARATE, n_walks=20, sigma=np.sqrt(0.5), max_length=5)
    assert len(model.walk_matrices_) == 6
    for t in range(5):
        walks, power = blocks(model.walk_matrices_[t]), np.linalg.matrix_power(U, t)
        assert share_within_four_standard_errors(walks, power) >= 0.99
    total = sum(f * P for f, P in zip(model.modulation_, model.walk_matrices_))
    assert abs(model.embedding_ - total).max() <= 1e-14


def test_negative_weights_are_legal():
    W = KARATE.toarray() * np.where(np.add.outer(np.arange(34), np.arange(34)) % 3, 1, -1)
    model = copies(W, n_walks=20, sigma=0.7, independent=True, sparse_output=True)
    exact = expm(normalized(W, 0.7))
    assert share_within_four_standard_errors(blocks(model.kernel_matrix()), exact) >= 0.99


def test_squared_error_falls_as_one_over_the_number_of_walks():
    exact = graph_kernel(KARATE, "diffusion", sigma=np.sqrt(0.5))
    params = {"sigma": np.sqrt(0.5), "independent": True, "sparse_output": True}
    sizes, errors = np.array([4, 16, 64, 256]), []
    for n_walks in sizes:
        grams = blocks(copies(KARATE, 30, n_walks=n_walks, **params).kernel_matrix(), 30)
        errors.append(np.mean([relative_error(gram, exact) ** 2 for gram in grams]))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -1.1 <= slope <= -0.9


def test_random_numbers_are_uniform_and_uncorrelated():
    keys = mix(np.arange(200_000, dtype=np.uint64))
    u = np.stack([uniform(keys, t) for t in range(3)])
    counts = np.stack([np.histogram(row, bins=50, range=(0, 1))[0] for row in u])
    chi2 = ((counts - 4000) ** 2 / 4000).sum(axis=1)
    assert (chi2 < 49 + 4 * np.sqrt(2 * 49)).all()
    shifted = np.vstack([u, np.roll(u, 1, axis=1)])
    correlation = np.corrcoef(shifted) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(200_000)


# What the features are good for.


def block_model(seed, n=300, inside=0.1, across=0.01):
    rng = np.random.RandomState(seed)
    y = np.repeat([0, 1], n // 2)
    probability = np.where(y[:, None] == y, inside, across)
    upper = np.triu(rng.uniform(size=(n, n)) < probability, 1)
    return (upper | upper.T).astype(float), y


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_those_of_the_exact_kernel(seed):
    adjacency, y = block_model(seed)
    params = {"kernel": "regularized_laplacian", "sigma": np.sqrt(0.95)}
    # Halting more often than 1 - sigma**4 makes the variance of the loads infinite.
    walks = {"n_walks": 500, "halt_probability": 0.05}
    features = fitted(adjacency, seed, **walks, **params).embedding_.toarray()
    values, vectors = np.linalg.eigh(graph_kernel(adjacency, **params))
    root = vectors * np.sqrt(values)
    ours = KMeans(2, n_init=10, random_state=0).fit_predict(features)
    exact = KMeans(2, n_init=10, random_state=0).fit_predict(root)
    assert adjusted_rand_score(y, ours) >= 0.9
    assert adjusted_rand_score(exact, ours) >= 0.9


@pytest.mark.parametrize("seed", range(2))
def test_ridge_on_features_is_as_good_as_exact_kernel_ridge(seed):
    grid = nx.to_scipy_sparse_array(nx.grid_2d_graph(40, 40), weight=None, dtype=float)
    rng = np.random.RandomState(seed)
    row, column = np.divmod(np.arange(1600), 40)
    truth = np.sin(row / 6) * np.cos(column / 6)
    y = truth + 0.1 * rng.standard_normal(1600)
    order = rng.permutation(1600)
    train, test = order[:800], order[800:]
    nodes = view(grid)
    params = {"kernel": "regularized_laplacian", "sigma": 0.9}
    model = make_pipeline(
        GraphRandomFeatures(**params, random_state=seed, sparse_output=True),
        Ridge(0.1, fit_intercept=False),
    ).fit(nodes[train], y[train])
    K = graph_kernel(grid, **params)
    exact = KernelRidge(alpha=0.1, kernel="precomputed").fit(K[np.ix_(train, train)], y[train])
    best = exact.score(K[np.ix_(test, train)], truth[test])
    ours = model.score(nodes[test], truth[test])
    assert ours >= 0.94 and ours >= best - 0.02


@pytest.mark.parametrize("seed", range(3))
def test_a_modulation_learnt_on_a_small_graph_serves_a_larger_one(seed):
    small = nx.to_numpy_array(nx.erdos_renyi_graph(20, 0.2, seed=seed))
    tree = nx.to_scipy_sparse_array(nx.balanced_tree(2, 6), dtype=float)
    params = {"kernel": "regularized_laplacian", "sigma": 0.5}
    walks = {"n_walks": 16, "halt_probability": 0.5}
    f = learn_modulation(small, **params, **walks, length=10, n_draws=100, random_state=seed)
    exact = graph_kernel(tree, **params)
    errors = []
    for draw in range(20):
        model = fitted(tree, 1000 + draw, **params, **walks, max_length=9)
        unbiased = relative_error(model.kernel_matrix(), exact)
        errors.append([unbiased, relative_error(model.set_modulation(f).kernel_matrix(), exact)])
    unbiased, learnt = np.mean(errors, axis=0)
    assert learnt < 0.96 * unbiased


# The estimator.


def test_training_nodes_keep_their_features_by_both_routes():
    nodes = view(KARATE)
    model = GraphRandomFeatures(random_state=0)
    features = model.fit_transform(nodes)
    np.testing.assert_array_equal(model.transform(nodes[5:9]), features[5:9])
    part = np.arange(20)
    a = GraphRandomFeatures(random_state=0, context="induced").fit(nodes[part])
    b = GraphRandomFeatures(random_state=0).fit(
        np.ones((20, 1)), adjacency=KARATE[part], node_id=part
    )
    np.testing.assert_array_equal(a.embedding_.toarray(), b.embedding_.toarray())
    later = np.arange(15, 34)
    metadata = {"adjacency": KARATE[later], "node_id": later}
    np.testing.assert_array_equal(
        a.transform(nodes[later]), b.transform(np.ones((19, 1)), **metadata)
    )


def test_new_nodes_walk_through_the_training_graph_without_bias():
    dense = KARATE.toarray()
    train, new = np.arange(33), 33
    model = GraphRandomFeatures(n_walks=20, sigma=0.7, random_state=0)
    model.fit(np.ones((33, 1)), adjacency=dense[train], node_id=train)
    queries = np.arange(2.0, 402.0)[:, None]  # one node, 400 times, told apart by its features
    features = model.transform(queries, adjacency=np.tile(dense[new], (400, 1)))
    inner, links = dense[:33, :33], dense[new, :33]
    step = 0.49 * links / np.sqrt(links.sum() * inner.sum(axis=1))
    U = normalized(inner, 0.7)
    f = modulation_function("diffusion", 12)
    exact = sum(f[t] * step @ np.linalg.matrix_power(U, t - 1) for t in range(1, 12))
    assert share_within_four_standard_errors(features, exact) >= 0.99


def test_features_of_new_rows_depend_on_nothing_but_the_row():
    rng = np.random.RandomState(0)
    X, new = rng.standard_normal((50, 3)), rng.standard_normal((7, 3))
    model = GraphRandomFeatures(random_state=0, n_walks=10).fit(X)
    whole = model.transform(new)
    assert (whole != 0).any(axis=1).all() and len(np.unique(whole, axis=0)) == 7
    np.testing.assert_array_equal(model.transform(new[::-1])[::-1], whole)
    np.testing.assert_array_equal(model.transform(new[3:4]), whole[3:4])
    mixed = model.transform(np.vstack([new, X[:2]]))
    np.testing.assert_array_equal(mixed, np.vstack([whole, model.transform(X[:2])]))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(new), whole)


def test_blocks_and_threads_change_nothing(monkeypatch):
    whole = fitted(KARATE).embedding_
    monkeypatch.setattr("skpapers.graph._random_walks._WALKERS_PER_BLOCK", 300)
    for n_jobs in (None, 2):
        part = fitted(KARATE, n_jobs=n_jobs).embedding_
        assert abs(part - whole).max() == 0


def test_isolated_nodes_keep_their_own_column():
    adjacency = np.zeros((3, 3))
    adjacency[0, 1] = adjacency[1, 0] = 1
    features = fitted(adjacency).embedding_.toarray()
    np.testing.assert_array_equal(features[2], [0, 0, 1])
    np.testing.assert_array_equal(fitted(np.zeros((3, 3))).embedding_.toarray(), np.eye(3))


def test_projection_keeps_scalar_products_in_expectation():
    ring = nx.to_numpy_array(nx.cycle_graph(9))
    params = {"sigma": 0.7, "n_components": 4, "independent": True}
    models = [fitted(ring, seed, **params) for seed in range(200)]
    assert models[0].transform(view(ring)).shape == (9, 4)
    grams = np.stack([m.kernel_matrix() for m in models])
    exact = graph_kernel(ring, "diffusion", sigma=0.7)
    assert share_within_four_standard_errors(grams, exact) >= 0.99
    assert fitted(ring, n_components=99).n_components_ == 9


def test_set_modulation_recombines_the_same_walks():
    f = np.array([1.0, 0.5, 0.0, 0.25])
    model = fitted(KARATE, max_length=6)
    walks = [P.toarray() for P in model.walk_matrices_]
    model.set_modulation(f)
    expected = sum(value * P for value, P in zip(f, walks))
    np.testing.assert_allclose(model.embedding_.toarray(), expected, atol=1e-14)
    direct = fitted(KARATE, max_length=6, modulation=f)
    np.testing.assert_allclose(direct.embedding_.toarray(), expected, atol=1e-14)
    by_function = fitted(KARATE, max_length=6, modulation=lambda t: 0.5**t)
    np.testing.assert_allclose(by_function.modulation_, 0.5 ** np.arange(7))
    with pytest.raises(ValueError, match="larger max_length"):
        model.set_modulation(np.ones(20))


def test_sparse_output_and_exact_kernel():
    model = fitted(KARATE, sparse_output=True)
    nodes = view(KARATE)
    features = model.transform(nodes)
    assert sparse.issparse(features) and sparse.issparse(model.kernel_matrix())
    np.testing.assert_array_equal(features.toarray(), fitted(KARATE).transform(nodes))
    np.testing.assert_array_equal(model.kernel_matrix(exact=True), graph_kernel(KARATE))


def test_searches_by_both_routes():
    adjacency, y = block_model(0, n=100, inside=0.3, across=0.03)
    nodes = view(adjacency)
    model = make_pipeline(GraphRandomFeatures(random_state=0), LogisticRegression())
    grid = {"graphrandomfeatures__kernel": ["diffusion", "regularized_laplacian"]}
    for context in ("graph", "induced"):
        model.set_params(graphrandomfeatures__context=context)
        assert cross_val_score(model, nodes, y, scoring="accuracy", cv=3).mean() >= 0.85
    assert GridSearchCV(model, grid, cv=3).fit(nodes, y).best_score_ >= 0.85
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=3, error_score="raise")
        search.fit(np.ones((100, 1)), y, adjacency=adjacency, node_id=np.arange(100))
        score = search.best_score_
    assert score >= 0.85


def test_bad_graphs_and_loads_are_named():
    with pytest.raises(ValueError, match="must be symmetric"):
        fitted(np.triu(np.ones((4, 4)), 1))
    with pytest.warns(UserWarning, match="load of a walk reaches"):
        fitted(1e6 * KARATE, normalize=False, max_length=3)


def test_degrees_are_absolute_and_steps_are_scaled():
    W = np.array([[0.0, -2.0], [-2.0, 0.0]])
    steps = step_matrix(sparse.csr_array(W), 0.5, True).toarray()
    np.testing.assert_allclose(steps, [[0, -0.25], [-0.25, 0]])
