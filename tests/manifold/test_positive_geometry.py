"""Canonical forms of polytopes: four expressions of one function, and what is built on it."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import check_grad
from scipy.spatial import ConvexHull, Delaunay
from sklearn.neighbors import LocalOutlierFactor

from skpapers.manifold import (
    PolytopeCanonicalForm,
    WachspressCoordinates,
    canonical_form,
    santalo_point,
    simplex_canonical_form,
)
from skpapers.manifold._canonical_form import polytope

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def cloud(m, n=20, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, m))
    return points, points.mean(axis=0) + 0.1 * rng.normal(size=(5, m))


def polar_volume(points, y):
    """Volume of {w : w @ (x - y) <= 1 on the hull}, by Qhull."""
    equations = ConvexHull(points).equations
    normals, offsets = equations[:, :-1], -equations[:, -1]
    return ConvexHull(np.unique(normals / (offsets - normals @ y)[:, None], axis=0)).volume


@pytest.mark.parametrize("m", [2, 3, 4])
def test_value_is_the_volume_of_the_polar(m):
    points, Y = cloud(m)
    expected = [polar_volume(points, y) for y in Y]
    assert_allclose(canonical_form(points, Y), expected, rtol=1e-8)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_value_is_the_signed_sum_over_a_triangulation(m):
    # the poles on inner walls cancel
    points, Y = cloud(m)
    simplices = points[Delaunay(points).simplices]
    expected = sum(simplex_canonical_form(simplex, Y) for simplex in simplices)
    assert_allclose(canonical_form(points, Y), expected, rtol=1e-7)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_simplex_from_its_vertices_as_from_its_facets_inside_and_outside(m):
    rng = np.random.default_rng(m)
    vertices, Y = rng.normal(size=(m + 1, m)), 2 * rng.normal(size=(50, m))
    forms = canonical_form(vertices, Y)
    assert_allclose(forms, simplex_canonical_form(vertices, Y), rtol=1e-8)
    assert (forms < 0).any()


def test_cubes_are_products_of_intervals():
    cube = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    y = np.array([0.3, 0.6, 0.2])
    product = np.prod(1 / (y * (1 - y)))
    assert_allclose(canonical_form(cube, [y]), product / 6, rtol=1e-12)
    assert_allclose(canonical_form(SQUARE, [y[:2]]), 9.92063492, rtol=1e-8)
    assert_allclose(canonical_form([[-1.0], [3.0], [2.0]], [[0.5]]), 4 / (1.5 * 2.5), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_affine_maps_divide_by_their_determinant(scale):
    points, Y = cloud(3)
    rng = np.random.default_rng(1)
    A, t = scale * rng.normal(size=(3, 3)), 10 * scale
    expected = canonical_form(points, Y) / abs(np.linalg.det(A))
    assert_allclose(canonical_form(points @ A + t, Y @ A + t), expected, rtol=1e-8)


def test_residues_are_the_forms_of_the_facets():
    points, _ = cloud(3)
    hull = ConvexHull(points)
    # a facet whose plane is turned to the third axis
    normal, corners = hull.equations[0, :3], points[hull.simplices[0]]
    turn = np.linalg.qr(np.column_stack([normal, np.eye(3)[:, :2]]))[0][:, [1, 2, 0]]
    facet = corners @ turn[:, :2]
    inner = np.array([[0.5, 0.3, 0.2]]) @ corners
    h = np.array([1e-4, 1e-5, 1e-6])
    forms = canonical_form(points, inner - h[:, None] * normal)
    # facet volumes have 1 / (m - 1)! where polytopes have 1 / m!
    residue = 3 * np.polyfit(h, h * forms, 1)[1]
    assert_allclose(residue, simplex_canonical_form(facet, inner @ turn[:, :2])[0], rtol=1e-3)


def test_derivatives_are_those_of_the_logarithm():
    points, Y = cloud(3)
    shape = polytope(points)

    def logarithm(y):
        return np.log(shape.canonical_function(y[None])[0])

    for y in Y:
        error = check_grad(
            lambda y: np.log(shape.canonical_function(y[None])[0]),
            lambda y: shape.gradient(y[None])[0],
            y,
        )
        assert error < 1e-6
        steps = 1e-5 * np.eye(3)
        numeric = (shape.gradient(y + steps) - shape.gradient(y - steps)) / 2e-5
        assert_allclose(shape.hessian(y), numeric, rtol=1e-5, atol=1e-6)


def test_logarithm_is_convex():
    points, _ = cloud(3, n=30)
    weights = np.random.default_rng(2).dirichlet(np.ones(30), size=(2, 1000))
    A, B = weights @ points
    shape = polytope(points)
    a, b, middle = (np.log(shape.canonical_function(Y)) for Y in (A, B, (A + B) / 2))
    assert (middle <= (a + b) / 2 + 1e-12).all()


@pytest.mark.parametrize("m", [2, 3, 4])
def test_santalo_point_has_no_gradient_and_is_the_centre_of_symmetric_polytopes(m):
    points, _ = cloud(m)
    centre = santalo_point(points)
    assert_allclose(polytope(points).gradient(centre[None]), 0, atol=1e-8)
    symmetric = np.concatenate([points, 2.0 - points])
    assert_allclose(santalo_point(symmetric), np.ones(m), atol=1e-8)
    A = np.random.default_rng(1).normal(size=(m, m))
    assert_allclose(santalo_point(points @ A + 3), centre @ A + 3, atol=1e-8)


def test_wachspress_coordinates_partition_unity_and_reproduce_rows():
    points, _ = cloud(3, n=40)
    model = WachspressCoordinates().fit(points)
    coordinates = model.transform(points)
    assert coordinates.min() >= 0
    assert_allclose(coordinates.sum(axis=1), 1, atol=1e-10)
    assert_allclose(model.inverse_transform(coordinates), points, atol=1e-10)
    assert_allclose(model.transform(model.vertices_), np.eye(len(model.vertices_)), atol=1e-10)


def test_wachspress_coordinates_of_a_simplex_are_barycentric():
    vertices = np.random.default_rng(0).normal(size=(4, 3))
    model = WachspressCoordinates().fit(vertices)
    weights = np.random.default_rng(1).dirichlet(np.ones(4), size=20)
    assert_allclose(model.transform(weights @ model.vertices_), weights, atol=1e-10)


def test_wachspress_coordinates_of_a_square_are_bilinear():
    model = WachspressCoordinates().fit(SQUARE)
    (x, y), corners = (0.3, 0.6), model.vertices_.round().astype(int)
    expected = [(x if a else 1 - x) * (y if b else 1 - y) for a, b in corners]
    assert_allclose(model.transform([[x, y]])[0], expected, atol=1e-12)


def test_rows_outside_are_pulled_to_the_boundary_or_refused():
    model = WachspressCoordinates().fit(SQUARE)
    assert_allclose(model.inverse_transform(model.transform([[2.5, 0.5]])), [[1.0, 0.5]])
    with pytest.raises(ValueError, match="1 rows are outside of the hull"):
        model.set_params(outside="error").transform([[2.5, 0.5], [0.5, 0.5]])


def outlier_data(seed):
    """A correlated normal cloud, and rows from six to nine of its standard deviations away."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(15, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    far = rng.uniform(6, 9, size=(15, 1)) * directions
    mix = np.array([[1.0, 0.8], [0.0, 0.6]])
    return np.concatenate([rng.normal(size=(300, 2)), far]) @ mix


@pytest.mark.parametrize("seed", range(6))
def test_far_rows_are_outliers_whatever_the_units(seed):
    X = outlier_data(seed)
    labels = PolytopeCanonicalForm(contamination=0.05).fit_predict(X)
    assert np.sum(labels[300:] == -1) >= 13
    turn, other = np.linalg.qr(np.random.default_rng(seed).normal(size=(2, 2, 2)))[0]
    A = (turn * [1.0, 1e3]) @ other
    mapped = X @ A + 7
    assert_array_equal(PolytopeCanonicalForm(contamination=0.05).fit_predict(mapped), labels)
    neighbours = LocalOutlierFactor(contamination=0.05)
    assert np.any(neighbours.fit_predict(mapped) != neighbours.fit_predict(X))


def test_depth_is_one_at_the_centre_falls_outwards_and_orders_rows_outside():
    X = np.random.default_rng(0).normal(size=(200, 2))
    model = PolytopeCanonicalForm().fit(X)
    centre = model.santalo_point_
    ray = centre + np.linspace(0, 10, 50)[:, None] * np.array([[1.0, 0.5]])
    scores = model.score_samples(ray)
    assert_allclose(scores[0], 0, atol=1e-12)
    assert (np.diff(scores) < 0).all()
    assert_allclose(model.gradient(centre[None]), 0, atol=1e-8)
    assert np.isinf(model.canonical_function(ray[-1:])).all()
    inside = (model.facet_offsets_ > X @ model.facet_normals_.T).all(axis=1)
    ratio = model.canonical_function(centre[None]) / model.canonical_function(X[inside])
    assert_allclose(np.exp(model.score_samples(X[inside])), ratio, rtol=1e-9)


def test_constant_columns_duplicates_and_one_row():
    X = np.random.default_rng(0).normal(size=(60, 2))
    wide = np.column_stack([X, np.ones(60), X[:, 0]])
    plain, more = PolytopeCanonicalForm().fit(X), PolytopeCanonicalForm().fit(wide)
    assert more.n_components_ == 2
    assert_allclose(plain.score_samples(X), more.score_samples(wide), atol=1e-7)
    for rows in (np.ones((5, 3)), np.ones((1, 3))):
        assert_array_equal(PolytopeCanonicalForm().fit_predict(rows), np.ones(len(rows)))
        assert_allclose(WachspressCoordinates().fit_transform(rows), 1)


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="no inner points"):
        canonical_form([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="Y has 3 columns, but the polytope is in 2"):
        canonical_form(SQUARE, [[0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="has 3 vertices, got 4"):
        simplex_canonical_form(SQUARE, [[0.5, 0.5]])
    with pytest.raises(ValueError, match="n_components=3 must be at most"):
        PolytopeCanonicalForm(n_components=3).fit(SQUARE)
    model = PolytopeCanonicalForm(contamination=0.05).fit(outlier_data(0))
    with pytest.raises(ValueError, match="inside of the hull; 1 rows are not"):
        model.gradient([[100.0, 100.0]])


def test_boundary_values_are_infinite_in_exact_arithmetic():
    assert_array_equal(simplex_canonical_form([[0.0], [2.0]], [[0.0]]), [math.inf])
