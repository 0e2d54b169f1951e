"""Two-parameter persistence: counts by brute force, gradients, stability, and what is gained."""

import numpy as np
import ot
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.manifold import (
    MultiparameterPersistence,
    MultiparameterTopologyLoss,
    TopologicalPointOptimizer,
    euler_signed_measure,
    function_rips,
    hilbert_signed_measure,
    signed_measure_distance,
)
from skpapers.structure import Graph


def random_graph(seed, n_vertices=30, n_edges=60, levels=None):
    """A graph whose edges appear some time after their ends; with `levels`, many ties."""
    rng = np.random.default_rng(seed)
    pairs = np.column_stack(np.triu_indices(n_vertices, 1))
    edges = rng.permutation(rng.choice(pairs, n_edges, replace=False).T).T
    vertices, delays = rng.random((n_vertices, 2)), rng.random((n_edges, 2))
    if levels:
        vertices, delays = np.floor(levels * vertices), np.floor(levels * delays)
    return vertices, edges, np.maximum(vertices[edges[:, 0]], vertices[edges[:, 1]]) + delays


def betti(vertices, edges, edge_values, at):
    """Components and loops of what is present at one pair of thresholds."""
    present, kept = np.all(vertices <= at, axis=1), np.all(edge_values <= at, axis=1)
    ends = edges[kept].T
    graph = coo_array((np.ones(kept.sum()), ends), shape=(len(vertices),) * 2)
    n_components = connected_components(graph, directed=False)[0] - np.sum(~present)
    return n_components, kept.sum() - present.sum() + n_components


def brute_force(vertices, edges, edge_values):
    """The grid of attained coordinates, and Betti numbers on it, (n_first, n_second, 2)."""
    grid = [np.unique(axis) for axis in np.concatenate([vertices, edge_values]).T]
    rows = [[betti(vertices, edges, edge_values, (a, b)) for b in grid[1]] for a in grid[0]]
    return grid, np.array(rows)


def masses(points, weights, grid):
    """Mass of a measure at each point of a grid that has all of its points."""
    places = [np.searchsorted(axis, values) for axis, values in zip(grid, points.T)]
    dense = np.zeros((len(grid[0]), len(grid[1])), dtype=int)
    np.add.at(dense, tuple(places), weights)
    return dense


def accumulate(dense):
    return dense.cumsum(axis=0).cumsum(axis=1)


@pytest.mark.parametrize("levels", [None, 3])
def test_cumulative_sums_are_betti_numbers_by_brute_force(levels):
    """Fifty graphs of 30 vertices with many ties; small ones where all coordinates differ."""
    shape, n_graphs = ((30, 60), 50) if levels else ((8, 14), 12)
    for seed in range(n_graphs):
        graph = random_graph(seed, *shape, levels)
        grid, expected = brute_force(*graph)
        for degree in (0, 1):
            points, weights = hilbert_signed_measure(*graph, degree=degree)
            assert_array_equal(accumulate(masses(points, weights, grid)), expected[:, :, degree])
            assert weights.sum() == expected[-1, -1, degree]
            assert np.all(weights != 0)
            assert len(np.unique(points, axis=0)) == len(points)


def test_lower_star_counts_on_fifty_graphs_of_thirty_nodes():
    for seed in range(50):
        vertices, edges, _ = random_graph(seed, 30, 45)
        values = np.maximum(vertices[edges[:, 0]], vertices[edges[:, 1]])
        points, weights = hilbert_signed_measure(vertices, edges)
        grid = [np.sort(axis) for axis in vertices.T]
        found = accumulate(masses(points, weights, grid))
        for i, j in np.random.default_rng(seed).integers(30, size=(40, 2)):
            assert found[i, j] == betti(vertices, edges, values, (grid[0][i], grid[1][j]))[0]
        assert weights.sum() == betti(vertices, edges, values, (2, 2))[0]


def test_euler_measure_is_components_minus_loops():
    """Each is the Moebius inversion of counts, their difference the sum of simplices."""
    for seed in range(20):
        graph = random_graph(seed, 12, 25, levels=3)
        grid, counts = brute_force(*graph)
        padded = np.pad(counts, ((1, 0), (1, 0), (0, 0)))
        inverse = np.diff(np.diff(padded, axis=0), axis=1)
        simplices = masses(graph[0], np.ones(12, dtype=int), grid)
        simplices -= masses(graph[2], np.ones(25, dtype=int), grid)
        for degree in (0, 1):
            measure = masses(*hilbert_signed_measure(*graph, degree=degree), grid)
            assert_array_equal(measure, inverse[:, :, degree])
        assert_array_equal(inverse[:, :, 0] - inverse[:, :, 1], simplices)
        assert_array_equal(masses(*euler_signed_measure(*graph), grid), simplices)


def test_constant_second_function_gives_the_spanning_tree():
    X = np.random.default_rng(0).normal(size=(60, 3))
    points, weights = hilbert_signed_measure(*function_rips(X, np.full(60, 7.0)))
    tree = minimum_spanning_tree(squareform(pdist(X))).data
    assert_array_equal(points[:, 1], 7)
    assert_array_equal(points[weights > 0, 0], 0)
    assert weights[weights > 0].sum() == 60
    deaths = np.repeat(points[:, 0], np.maximum(-weights, 0))
    assert_allclose(np.sort(deaths), np.sort(tree), atol=1e-12)


def functional(points, weights):
    """The integral of a smooth function against the measure."""
    weights = torch.as_tensor(weights, dtype=points.dtype)
    return torch.sum(weights * torch.sin(3 * points[:, 0]) * torch.exp(points[:, 1]))


def numerical_gradient(function, at, step=1e-6):
    moves = step * torch.eye(at.numel(), dtype=at.dtype).reshape(-1, *at.shape)
    slopes = [(function(at + m) - function(at - m)) / (2 * step) for m in moves]
    return torch.stack(slopes).reshape(at.shape)


def test_gradients_equal_finite_differences():
    vertices, edges, edge_values = map(torch.tensor, random_graph(0, 15, 30))
    cloud = torch.tensor(np.random.default_rng(0).normal(size=(12, 2)))
    target = function_rips(torch.tensor(np.random.default_rng(1).normal(size=(12, 2))))
    loss = MultiparameterTopologyLoss(n_slices=4, n_neighbors=3, threshold=0.1)
    goal = hilbert_signed_measure(*target)
    cases = [
        (lambda f: functional(*hilbert_signed_measure(f, edges)), vertices),
        (lambda f: functional(*hilbert_signed_measure(f, edges, degree=1)), vertices),
        (lambda f: functional(*hilbert_signed_measure(vertices, edges, f)), edge_values),
        (lambda f: functional(*euler_signed_measure(f, edges)), vertices),
        (lambda x: functional(*hilbert_signed_measure(*function_rips(x, n_neighbors=3))), cloud),
        (loss, cloud),
    ]
    for kind, metric in (("ot", "euclidean"), ("ot", "cityblock"), ("sliced", "euclidean")):

        def distance(x, kind=kind, metric=metric):
            measure = hilbert_signed_measure(*function_rips(x))
            return signed_measure_distance(measure, goal, kind, metric=metric)

        cases.append((distance, cloud))
    for function, at in cases:
        at = at.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(at), at)
        assert torch.linalg.norm(found) > 1e-3
        assert_allclose(found, numerical_gradient(function, at.detach()), atol=1e-5)


def test_ties_and_duplicate_points_have_finite_gradients():
    f = torch.zeros(6, 2, dtype=torch.float64, requires_grad=True)
    edges = np.column_stack([np.arange(5), np.arange(1, 6)])
    functional(*hilbert_signed_measure(f, edges)).backward()
    assert torch.isfinite(f.grad).all()
    cloud = torch.ones(12, 2, dtype=torch.float64)
    cloud[6:] = 3
    cloud.requires_grad_()
    MultiparameterTopologyLoss()(cloud).backward()
    assert torch.isfinite(cloud.grad).all()
    loss = MultiparameterTopologyLoss("distance", kind="ot")
    value = loss(cloud, cloud.detach())
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(cloud.grad).all()


def test_translation_moves_the_measure_and_order_does_not_matter():
    vertices, edges, edge_values = random_graph(3)
    points, weights = hilbert_signed_measure(vertices, edges, edge_values)
    shift = np.array([2.0, -0.5])
    moved, same = hilbert_signed_measure(vertices + shift, edges, edge_values + shift)
    assert_allclose(moved, points + shift, atol=1e-12)
    assert_array_equal(same, weights)
    rng = np.random.default_rng(0)
    order, new = rng.permutation(60), rng.permutation(30)
    renamed = np.argsort(new)[edges[order]][:, ::-1]
    again = hilbert_signed_measure(vertices[new], renamed, edge_values[order])
    assert_array_equal(again[0], points)
    assert_array_equal(again[1], weights)


def test_transport_distance_is_stable():
    """At most twice the sum of changes over vertices and edges, for costs by coordinates."""
    largest = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        f, edges, _ = random_graph(seed, 10, 18)
        g = f + rng.normal(scale=rng.choice([0.01, 0.1, 1.0]), size=f.shape)
        mu, nu = hilbert_signed_measure(f, edges), hilbert_signed_measure(g, edges)
        f_edges, g_edges = (np.maximum(h[edges[:, 0]], h[edges[:, 1]]) for h in (f, g))
        # equal numbers of components at the top, so that the masses agree
        change = np.abs(f - g).sum() + np.abs(f_edges - g_edges).sum()
        largest = max(largest, signed_measure_distance(mu, nu, metric="cityblock") / change)
    assert 0.1 < largest <= 2


@pytest.mark.parametrize("metric", ["cityblock", "euclidean"])
def test_transport_distance_is_that_of_pot(metric):
    for seed in range(10):
        mu, nu = (hilbert_signed_measure(*random_graph(seed + k, 10, 20)) for k in (0, 50))
        surplus = mu[1].sum() - nu[1].sum()
        nu = np.vstack([nu[0], [[5.0, 5.0]]]), np.append(nu[1], surplus)
        points = np.vstack([mu[0], nu[0]])
        weights = np.concatenate([mu[1], -nu[1]]).astype(float)
        up, down = np.maximum(weights, 0), np.maximum(-weights, 0)
        expected = up.sum() * ot.emd2(
            up / up.sum(), down / up.sum(), cdist(points, points, metric)
        )
        assert signed_measure_distance(mu, nu, metric=metric) == pytest.approx(expected, rel=1e-9)


def test_sliced_distance_is_the_mean_over_lines():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 8, 2))
    u, v = rng.integers(1, 4, size=(2, 8))
    v[0] += u.sum() - v.sum() + 10
    u[0] += 10
    lines = [(np.cos(a), np.sin(a)) for a in (np.arange(7) + 0.5) * np.pi / 7]
    expected = [u.sum() * wasserstein_distance(x @ line, y @ line, u, v) for line in lines]
    found = signed_measure_distance((x, u), (y, v), "sliced", n_directions=7)
    assert found == pytest.approx(np.mean(expected), rel=1e-9)
    assert found <= signed_measure_distance((x, u), (y, v))


def test_bad_complexes_and_measures_are_named():
    zeros = np.zeros((3, 2))
    for edges, message in (
        ([[0, 3]], "from 0 to 2"),
        ([[1, 1]], "itself"),
        ([[0, 1], [1, 0]], "listed twice"),
        ([[0.5, 1.0]], "integers"),
    ):
        with pytest.raises(ValueError, match=message):
            hilbert_signed_measure(zeros, edges)
    with pytest.raises(ValueError, match="below the values"):
        euler_signed_measure(zeros, [[0, 1]], [[0, -1]])
    with pytest.raises(ValueError, match=r"vertex_values must have shape \(n, 2\)"):
        hilbert_signed_measure(np.zeros((3, 3)), [[0, 1]])
    with pytest.raises(ValueError, match="1 rows, but there are 2 edges"):
        hilbert_signed_measure(zeros, [[0, 1], [1, 2]], [[0, 0]])
    with pytest.raises(ValueError, match="must be equal"):
        signed_measure_distance((zeros, [1, 1, 1]), (zeros, [1, 1, 0]))
    with pytest.raises(ValueError, match="integer weight"):
        signed_measure_distance((zeros, [0.5, 1, 1]), (zeros, [1, 1, 0.5]))
    with pytest.raises(ValueError, match="function"):
        function_rips(zeros, [1.0])
    points, weights = hilbert_signed_measure(np.empty((0, 2)), [])
    assert points.shape == (0, 2)
    assert weights.shape == (0,)


# The transformer.


def counts_of(persistence, row, n_kinds=1):
    return row.reshape(n_kinds, *map(len, persistence.grid_))


def test_rows_are_the_counts_of_each_series():
    """New rows too, whose values are rounded up to the grid or, beyond it, down to its end."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(20, 15)), 1.5 * rng.normal(size=(20, 15))
    persistence = MultiparameterPersistence(resolution=(7, 5), vectorization="hilbert").fit(X)
    path = np.column_stack([np.arange(14), np.arange(1, 15)])
    for row, found in zip(new, persistence.transform(new)):
        values = np.column_stack([row, np.abs(np.diff(row, prepend=row[0]))])
        values = np.minimum(values, [axis[-1] for axis in persistence.grid_])
        edge_values = np.maximum(values[:-1], values[1:])
        expected = [
            [betti(values, path, edge_values, (a, b))[0] for b in persistence.grid_[1]]
            for a in persistence.grid_[0]
        ]
        assert_array_equal(counts_of(persistence, found)[0], expected)
    masses = persistence.set_params(vectorization="measure").transform(new)
    assert_array_equal(masses.sum(axis=1), 1)  # one component, whatever the values


def test_image_holes_are_counted_by_labelling_the_background():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, size=(10, 64)).astype(float)
    persistence = MultiparameterPersistence(
        "image", functions=("-value", "row"), homology_dims=(0, 1), image_shape=(8, 8),
        vectorization="hilbert",
    )  # fmt: skip
    found = persistence.fit_transform(X)
    assert_array_equal(persistence.grid_[1], np.arange(8))
    for image, row in zip(X.reshape(-1, 8, 8), found):
        counts = counts_of(persistence, row, 2)
        for i, level in enumerate(persistence.grid_[0]):
            for j in range(8):
                inside = (-image <= level) & (np.arange(8)[:, None] <= j)
                background = np.pad(~inside, 1, constant_values=True)
                assert counts[0, i, j] == ndimage.label(inside)[1]
                assert counts[1, i, j] == ndimage.label(background, np.ones((3, 3)))[1] - 1
    euler = persistence.set_params(descriptor="euler").fit_transform(X)
    both = counts_of(persistence, found[3], 2)
    assert_array_equal(counts_of(persistence, euler[3])[0], both[0] - both[1])


def test_clouds_have_the_measure_of_function_rips():
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 2)) for n in (12, 5, 1, 20)]
    persistence = MultiparameterPersistence("point_cloud", resolution=500)
    found = persistence.fit_transform(clouds)
    for cloud, row in zip(clouds, found):
        points, weights = hilbert_signed_measure(*function_rips(cloud))
        assert_array_equal(
            counts_of(persistence, row)[0], masses(points, weights, persistence.grid_)
        )
    nearest = np.sort(cdist(clouds[3], clouds[3]), axis=1)[:, 1:9]
    codensity = np.sqrt(np.mean(nearest**2, axis=1))
    assert_allclose(function_rips(clouds[3])[0][:, 1], codensity, rtol=1e-12)
    short = MultiparameterPersistence("point_cloud", max_edge_length=0.3).fit_transform(clouds)
    n_components = [
        connected_components(cdist(cloud, cloud) <= 0.3)[0] for cloud in clouds
    ]  # fmt: skip
    assert_array_equal(short.sum(axis=1), n_components)


def test_graphs_channels_and_callables():
    graphs = []
    for seed in range(4):
        vertices, edges, _ = random_graph(seed, 10 + seed, 20)
        adjacency = np.zeros((len(vertices),) * 2)
        adjacency[tuple(edges.T)] = 0.5
        graphs.append((Graph(vertices, adjacency), vertices, edges))
    X = [graph for graph, _, _ in graphs]
    persistence = MultiparameterPersistence("graph", homology_dims=(1,), resolution=200)
    found = persistence.fit_transform(X)
    for (_, vertices, edges), row in zip(graphs, found):
        measure = hilbert_signed_measure(vertices, edges, degree=1)
        assert_array_equal(counts_of(persistence, row)[0], masses(*measure, persistence.grid_))
    persistence.set_params(functions=(lambda g: g.features[:, 0], 1))
    assert_array_equal(persistence.fit_transform(X), found)
    series = [np.random.default_rng(n).normal(size=(2, n)) for n in (9, 4, 7)]
    by_number = MultiparameterPersistence(functions=(0, 1)).fit_transform(series)
    called = MultiparameterPersistence(functions=("value", lambda s: s[1])).fit_transform(series)
    assert_array_equal(by_number, called)


def test_images_of_the_measure_are_sums_of_gaussians():
    X = np.random.default_rng(0).normal(size=(6, 9))
    params = {"resolution": 6, "grid": "uniform"}
    persistence = MultiparameterPersistence(**params).fit(X)
    measures = persistence.transform(X).reshape(6, 6, 6)
    smooth = MultiparameterPersistence(**params, vectorization="image", bandwidth=0.3)
    unit = np.linspace(0, 1, 6)
    for measure, found in zip(measures, smooth.fit_transform(X).reshape(6, 6, 6)):
        expected = sum(
            measure[i, j]
            * np.exp(-((unit - unit[i])[:, None] ** 2 + (unit - unit[j]) ** 2) / (2 * 0.3**2))
            for i, j in np.argwhere(measure)
        )
        assert_allclose(found, expected, atol=1e-12)


def test_float32_and_threads_change_nothing():
    X = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    expected = MultiparameterPersistence().fit_transform(X)
    assert expected.dtype == np.float32
    assert_array_equal(MultiparameterPersistence(n_jobs=2).fit_transform(X), expected)
    jumps = MultiparameterPersistence(functions=("value", "position"))
    assert_array_equal(jumps.fit_transform(X.astype(float)), jumps.fit_transform(X))


def test_requests_that_make_no_sense_are_named():
    X = np.random.default_rng(0).normal(size=(4, 6))
    for params, message in (
        ({"functions": ("value", "column")}, "functions"),
        ({"functions": ("value",)}, "functions"),
        ({"functions": (0, 1)}, "functions"),
        ({"functions": ("value", lambda s: s)}, "functions"),
        ({"input_type": "point_cloud", "functions": ("value", "constant")}, "begin with 'scale'"),
        ({"input_type": "point_cloud", "homology_dims": (1,)}, "homology_dims"),
        ({"homology_dims": ()}, "homology_dims"),
        ({"resolution": (3, 0)}, "resolution"),
        ({"input_type": "image", "image_shape": (2, 2)}, "image_shape"),
        ({"input_type": "image", "functions": (0, lambda a: a)}, "functions"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiparameterPersistence(**params).fit(X)
    with pytest.raises(ValueError, match="no points"):
        MultiparameterPersistence("point_cloud").fit([np.empty((0, 2))])


# What two parameters are worth.


def digits_accuracy(*pairs):
    X, y = load_digits(return_X_y=True)
    X, y = X[:900], y[:900]
    features = [
        MultiparameterPersistence(
            "image", functions=pair, resolution=(9, 8), image_shape=(8, 8)
        ).fit_transform(X)
        for pair in pairs
    ]
    parts = train_test_split(np.hstack(features), y, test_size=1 / 3, random_state=0, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return model.fit(parts[0], parts[2]).score(parts[1], parts[3])


def test_a_second_function_tells_digits_apart():
    one = digits_accuracy(("-value", "constant"))
    column = digits_accuracy(("-value", "column"))
    both = digits_accuracy(("-value", "column"), ("-value", "row"))
    assert column >= one + 0.2
    assert both >= column + 0.03


def bridged_clusters(seed):
    rng = np.random.default_rng(seed)
    clusters = rng.normal(size=(80, 2)) * 0.2 + np.repeat([[-1.0, 0], [1, 0]], 40, axis=0)
    bridge = np.column_stack([rng.uniform(-0.8, 0.8, 12), rng.uniform(-0.15, 0.15, 12)])
    return np.concatenate([clusters, bridge])


def growth(X, **params):
    """How much farther the means of the two clusters are after the optimisation."""
    moved = TopologicalPointOptimizer(lr=0.08, tol=0, **params).fit(X).points_
    before, after = (np.linalg.norm(Z[:40].mean(0) - Z[40:80].mean(0)) for Z in (X, moved))
    return after - before


def test_density_separates_clusters_that_outliers_bridge():
    two = [growth(bridged_clusters(s), threshold=0.3) for s in range(4)]
    one = [growth(bridged_clusters(s), threshold=0.3, n_slices=1) for s in range(4)]
    assert np.mean(two) >= 0.08
    assert np.mean(two) >= 3 * np.mean(one)


def test_the_optimizer_follows_its_loss():
    X = bridged_clusters(0)
    optimizer = TopologicalPointOptimizer(n_steps=20).fit(X)
    assert optimizer.loss_curve_[-1] < 1.1 * optimizer.loss_curve_[0] < 0
    assert len(optimizer.loss_curve_) == optimizer.n_iter_ + 1 == 21
    edges = minimum_spanning_tree(squareform(pdist(X))).data
    assert optimizer.threshold_ == pytest.approx(np.median(edges), rel=1e-12)
    assert_allclose(optimizer.transform(X), optimizer.points_, atol=1e-12)
    new = optimizer.transform(X[:1] + 1e-6)
    assert_allclose(new, optimizer.points_[:1] + 1e-6, atol=1e-12)
    scaled = TopologicalPointOptimizer(n_steps=20).fit(1e6 * X + 7)
    assert_allclose((scaled.points_ - 7) / 1e6, optimizer.points_, atol=1e-6)


def test_steps_have_the_length_asked_for_and_equal_rows_stay_equal():
    X = np.concatenate([bridged_clusters(1)] * 2)
    optimizer = TopologicalPointOptimizer(n_steps=1, lr=0.1).fit(X)
    spread = np.sqrt(np.mean(np.sum((X - X.mean(axis=0)) ** 2, axis=1)))
    assert np.linalg.norm(optimizer.displacements_) == pytest.approx(0.1 * spread, rel=1e-9)
    assert_array_equal(optimizer.points_[:92], optimizer.points_[92:])
    slow = TopologicalPointOptimizer(n_steps=3, lr=0.1, decay=1.0, tol=0).fit(X)
    bound = 0.1 * spread * (1 + 1 / 2 + 1 / 3)
    assert np.linalg.norm(slow.displacements_) <= bound * (1 + 1e-9)
    still = TopologicalPointOptimizer().fit(np.ones((5, 2)))
    assert still.n_iter_ == 0
    assert_array_equal(still.points_, 1)


def test_callable_losses_are_minimised():
    """The sum of lengths at which components merge: the points contract."""
    X = np.random.default_rng(0).normal(size=(30, 2))

    def merges(points, weights):
        return -torch.sum(weights * points[:, 0])

    moved = TopologicalPointOptimizer(merges, n_slices=1).fit(X).points_
    before, after = (minimum_spanning_tree(squareform(pdist(Z))).sum() for Z in (X, moved))
    assert after < 0.9 * before


def test_an_encoder_takes_on_the_topology_of_its_input():
    """Two groups far apart in one of ten columns, which the encoder leaves out at first."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(40, 10)) * 0.1)
    X[20:, 5] += 3
    encoder = torch.tensor(rng.normal(size=(10, 2)) * 0.7)
    encoder[5] = 0
    encoder.requires_grad_()
    optimizer = torch.optim.Adam([encoder], lr=0.05)
    loss, values = MultiparameterTopologyLoss("distance", n_slices=4), []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(X @ encoder, X)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
    codes = (X @ encoder).detach()
    gap, found = (minimum_spanning_tree(squareform(pdist(Z))).data.max() for Z in (X, codes))
    assert found == pytest.approx(gap, rel=0.1)
    with pytest.raises(ValueError, match="needs a target"):
        loss(codes)
    with pytest.raises(ValueError, match="functional must be"):
        MultiparameterTopologyLoss("merge")
