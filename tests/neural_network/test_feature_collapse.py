from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import ortho_group, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skpapers.neural_network import (
    TokenSequenceClassifier,
    feature_collapse_score,
    make_concept_sentences,
)

SIZES = {"n_concepts": 3, "n_words": 150, "length": 10, "n_classes": 60}
LARGE, SMALL = (60, 50), (5, 600)  # sentences of a class, and passes over them
MU = np.tile(1 / np.arange(1, 51), 3)


def sentences(n, frequency, seed=0):
    X, y, roles, latents = make_concept_sentences(
        n, frequency=frequency, return_roles=True, random_state=seed, **SIZES
    )
    test = make_concept_sentences(
        20, frequency=frequency, latents=latents, random_state=seed + 1000, **SIZES
    )
    return X, y, roles, latents, *test


def train(X, y, layer_norm, n_epochs, seed=0):
    return TokenSequenceClassifier(
        150,
        embedding_dim=32,
        layer_norm=layer_norm,
        alpha_embedding=0.0 if layer_norm else 1e-3,
        lr=0.5,
        batch_size=60,
        max_epochs=n_epochs,
        random_state=seed,
    ).fit(X, y)


def normalized(F):
    return (F - F.mean(axis=1, keepdims=True)) / np.sqrt(F.var(axis=1, keepdims=True) + 1e-5)


def unit(F):
    return F / np.linalg.norm(F, axis=-1, keepdims=True)


def role_directions(F, roles):
    return unit(np.stack([F[roles == role].mean(axis=0) for role in range(3)]))


def test_score_equals_a_double_loop_and_is_zero_when_collapsed():
    rng = np.random.default_rng(0)
    F, roles, w = rng.normal(size=(12, 4)), np.repeat([0, 1, 2], 4), rng.uniform(1, 2, size=12)
    means, within = [], 0.0
    for role in range(3):
        mean = sum(w[i] * F[i] for i in range(12) if roles[i] == role) / w[roles == role].sum()
        for i in range(12):
            if roles[i] == role:
                within += w[i] * np.sum((F[i] - mean) ** 2) / w.sum()
        means.append(mean)
    between = np.mean([np.sum((m - np.mean(means, axis=0)) ** 2) for m in means])
    score = feature_collapse_score(F, roles, weights=w)
    assert score == pytest.approx(within / between, rel=1e-12)
    assert feature_collapse_score(np.array(means)[roles], roles, weights=w) < 1e-28
    assert feature_collapse_score(F, np.tile([0, 1, 2], 4)) > 0


def test_score_is_invariant():
    rng = np.random.default_rng(1)
    F, roles = rng.normal(size=(30, 5)), rng.integers(3, size=30)
    turn = ortho_group.rvs(5, random_state=0)
    score, directional = (feature_collapse_score(F, roles, directional=d) for d in (False, True))
    moved = 3 * F @ turn + rng.normal(size=5)
    assert feature_collapse_score(moved, roles) == pytest.approx(score, rel=1e-10)
    longer = F @ turn * rng.uniform(1, 9, size=(30, 1))
    again = feature_collapse_score(longer, roles, directional=True)
    assert again == pytest.approx(directional, rel=1e-10)
    padded = np.vstack([F, 1e3 * F[:2]])
    weights = np.r_[np.ones(30), 0, 0]
    padded_score = feature_collapse_score(padded, np.r_[roles, 0, 1], weights=weights)
    assert padded_score == pytest.approx(score, rel=1e-10)


def test_spectral_score_needs_no_roles():
    """Singular values of the centred vectors by an eigendecomposition."""
    F = np.random.default_rng(0).normal(size=(20, 6))
    values = np.sqrt(np.linalg.eigvalsh(20 * np.cov(F.T, bias=True)))[::-1]
    assert feature_collapse_score(F, 4) == pytest.approx(values[3] / values[2], rel=1e-10)
    collapsed = np.eye(6)[np.repeat([0, 1, 2], 5)]
    assert feature_collapse_score(collapsed, 3) < 1e-12
    assert feature_collapse_score(np.ones((6, 3)), [0, 0, 0, 1, 1, 1]) == np.inf


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"roles": [0, 0]}, "at least two roles"),
        ({"roles": [0, 1], "weights": [-1, 1]}, "weights must not be negative"),
        ({"roles": 3}, "roles=3 needs"),
        ({"roles": [0, 1, 2]}, "inconsistent numbers"),
    ],
)
def test_impossible_scores_are_said(kwargs, message):
    with pytest.raises(ValueError, match=message):
        feature_collapse_score(np.eye(2), **kwargs)


def test_sentences_are_words_of_the_concepts_with_the_frequencies():
    X, y, roles, latents = make_concept_sentences(
        400, n_words=12, length=5, n_classes=4, frequency="zipf", return_roles=True, random_state=0
    )
    np.testing.assert_array_equal(roles[X], latents[y])
    share = np.bincount(X[roles[X] == 1], minlength=12)[4:8] / (roles[X] == 1).sum()
    np.testing.assert_allclose(share, 1 / np.arange(1, 5) / (25 / 12), atol=0.03)
    with pytest.raises(ValueError, match="n_words=10 must be a multiple"):
        make_concept_sentences(n_words=10)
    with pytest.raises(ValueError, match="latents must have shape"):
        make_concept_sentences(n_classes=2, latents=[[0, 1]])


def all_sentences(n_concepts, n_synonyms, length):
    """Every sentence of a language in which every sequence of concepts is a class."""
    X = np.array(list(product(range(n_concepts * n_synonyms), repeat=length)))
    y = X // n_synonyms @ n_concepts ** np.arange(length)[::-1]
    return X, y, np.array(list(product(range(n_concepts), repeat=length)))


SIMPLEX = np.full((3, 3), -0.5) + 1.5 * np.eye(3)


@pytest.mark.parametrize("seed", range(2))
def test_minimiser_is_the_predicted_simplex(seed):
    """Type I: with a = c c' the loss is L log(1 + 2 exp(-1.5 a)) + sqrt(penalties) a."""
    X, y, latents = all_sentences(3, 2, 2)
    alpha = 1e-3
    ratio = 9 * 2 / 6  # of the number of vectors in the head to that in the embedding
    loss = lambda a: 2 * np.log1p(2 * np.exp(-1.5 * a)) + alpha * 6 * ratio**0.5 * a  # noqa: E731
    best = minimize_scalar(loss, bounds=(0, 50), method="bounded", options={"xatol": 1e-10})
    model = TokenSequenceClassifier(
        embedding_dim=8,
        layer_norm=False,
        alpha_embedding=alpha,
        alpha_head=alpha,
        init_scale=0.1,
        lr=2.0,
        batch_size=None,
        max_epochs=3000,
        dtype="float64",
        random_state=seed,
    ).fit(X, y)
    gram = best.x * ratio**0.5 * np.kron(SIMPLEX, np.ones((2, 2)))
    np.testing.assert_allclose(model.embedding_ @ model.embedding_.T, gram, rtol=0, atol=1e-3)
    directions = role_directions(model.embedding_, np.repeat([0, 1, 2], 2))
    expected = np.sqrt(best.x / ratio**0.5) * directions[latents]
    np.testing.assert_allclose(model.head_, expected, rtol=0, atol=1e-3)


def test_minimiser_with_normalisation_ignores_frequencies():
    """Type III: sentences weighted by the product of their words' frequencies 3 : 1."""
    X, y, latents = all_sentences(3, 2, 2)
    alpha, dim = 1e-2, 8
    loss = lambda c: (  # noqa: E731
        2 * np.log1p(2 * np.exp(-1.5 * c * dim**0.5)) + alpha / 2 * 9 * 2 * c**2
    )
    best = minimize_scalar(loss, bounds=(0, 50), method="bounded", options={"xatol": 1e-10})
    model = TokenSequenceClassifier(
        embedding_dim=dim,
        alpha_head=alpha,
        init_scale=1.0,
        lr=0.5,
        batch_size=None,
        max_epochs=3000,
        dtype="float64",
        random_state=0,
    ).fit(X, y, sample_weight=np.where(X % 2 == 0, 3.0, 1.0).prod(axis=1))
    vectors = normalized(model.embedding_)
    gram = dim * np.kron(SIMPLEX, np.ones((2, 2)))
    np.testing.assert_allclose(vectors @ vectors.T, gram, rtol=0, atol=0.05)
    directions = role_directions(vectors, np.repeat([0, 1, 2], 2))
    np.testing.assert_allclose(model.head_, best.x * directions[latents], rtol=0, atol=0.01)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_permuting_the_words_of_a_concept_permutes_their_vectors(layer_norm):
    class Started(TokenSequenceClassifier):
        rows = np.arange(150)

        def _on_fit_begin(self, module, data):
            module.embedding[:-1] = module.embedding[:-1][self.rows]

    X, y, roles, *_ = sentences(5, "zipf")
    permutation = np.arange(150)
    permutation[:50] = np.random.default_rng(0).permutation(50)
    params = {"n_tokens": 150, "layer_norm": layer_norm, "max_epochs": 5, "dtype": "float64"}
    plain = Started(**params, random_state=0).fit(X, y)
    moved = Started(**params, random_state=0)
    moved.rows = np.argsort(permutation)
    moved.fit(permutation[X], y)
    np.testing.assert_allclose(moved.embedding_[permutation], plain.embedding_, rtol=0, atol=1e-14)


def test_loss_and_decay_are_those_of_plain_gradient_descent():
    """One full-batch step against the gradient by autograd of the penalised loss."""
    X, y, *_ = sentences(2, "uniform")
    alphas = {"alpha_embedding": 0.3, "alpha_head": 0.2}
    params = {"embedding_dim": 4, "layer_norm": False, "init_scale": 0.5, "lr": 0.7, **alphas}
    params |= {"batch_size": None, "dtype": "float64", "random_state": 0}
    one, two = (TokenSequenceClassifier(max_epochs=n, **params).fit(X, y) for n in (1, 2))
    W, U = (torch.tensor(a, requires_grad=True) for a in (one.embedding_, one.head_))
    index = torch.tensor(np.searchsorted(one.vocabulary_, X))
    logits = torch.einsum("nld,kld->nk", W[index], U)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y))
    (loss + 0.15 * W.square().sum() + 0.1 * U.square().sum()).backward()
    expected = (W - 0.7 * W.grad).detach().numpy()
    np.testing.assert_allclose(two.embedding_, expected, rtol=0, atol=1e-12)
    expected = (U - 0.7 * U.grad).detach().numpy()
    np.testing.assert_allclose(two.head_, expected, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def uniform():
    X, y, roles, latents, X_test, y_test = sentences(LARGE[0], "uniform")
    return train(X, y, False, LARGE[1]), roles, latents, X_test, y_test


def test_uniform_words_collapse_to_an_equiangular_set(uniform):
    model, roles, latents, X_test, y_test = uniform
    assert model.score(X_test, y_test) == 1
    assert feature_collapse_score(model.embedding_, roles) <= 0.01
    assert feature_collapse_score(model.embedding_, 3) <= 0.01
    directions = role_directions(model.embedding_, roles)
    cosines = (directions @ directions.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(cosines, -0.5, rtol=0, atol=0.2)
    assert adjusted_rand_score(roles, model.token_roles(3)) == 1


def test_decay_is_balanced_and_the_head_points_along_the_roles(uniform):
    model, roles, latents, *_ = uniform
    assert np.sum(model.embedding_**2) == pytest.approx(np.sum(model.head_**2), rel=0.02)
    directions = role_directions(model.embedding_, roles)
    cosines = np.sum(unit(model.head_) * directions[latents], axis=2)
    assert cosines.mean() >= 0.97 and cosines.min() >= 0.7


def test_zipf_words_collapse_fully_only_with_normalisation():
    X, y, roles, *_ = sentences(LARGE[0], "zipf")
    with_norm = train(X, y, True, LARGE[1]).embedding_
    without = train(X, y, False, LARGE[1]).embedding_
    full = feature_collapse_score(normalized(with_norm), roles)
    assert full <= 0.01
    assert feature_collapse_score(without, roles) >= 10 * full
    assert feature_collapse_score(without, roles, directional=True) <= 0.1
    assert spearmanr(np.linalg.norm(without, axis=1), MU)[0] >= 0.8


def test_normalisation_generalises_from_few_zipf_sentences():
    X, y, _, _, X_test, y_test = sentences(SMALL[0], "zipf")
    with_norm, without = (train(X, y, norm, SMALL[1]) for norm in (True, False))
    assert with_norm.score(X, y) == without.score(X, y) == 1
    assert with_norm.score(X_test, y_test) >= max(0.99, without.score(X_test, y_test) + 0.01)
    one_hot = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    assert with_norm.score(X_test, y_test) > one_hot.fit(X, y).score(X_test, y_test) + 0.1


def test_unknown_tokens_are_zero_vectors_or_errors():
    X, y = np.array([[3, 7], [7, 3], [3, 3], [7, 7]]), [0, 1, 0, 1]
    params = {"embedding_dim": 5, "init_scale": 1.0, "max_epochs": 3, "random_state": 0}
    model = TokenSequenceClassifier(**params).fit(X, y)
    assert model.vocabulary_.tolist() == [3, 7]
    found = model.transform([[7, 99], [0, 3]]).reshape(2, 2, 5)
    expected = normalized(model.embedding_)
    np.testing.assert_allclose(found[[0, 1], [0, 1]], expected[[1, 0]], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[[0, 1], [1, 0]], 0)
    np.testing.assert_array_equal(model.module_.embedding[-1].detach(), 0)
    np.testing.assert_array_equal(model.predict(X.astype(float)), model.predict(X))
    with pytest.raises(ValueError, match="whole numbers"):
        model.predict(X + 0.5)
    strict = TokenSequenceClassifier(handle_unknown="error", **params).fit(X, y)
    with pytest.raises(ValueError, match="without a vector, such as 99"):
        strict.predict([[7, 99]])
    assert TokenSequenceClassifier(9, **params).fit(X, y).embedding_.shape == (9, 5)


def test_values_get_quantile_bins_of_their_own():
    X = np.column_stack([np.arange(8.0), np.r_[0, 0, 0, 0, 1, 1, 1, 1]])
    y = [0, 0, 1, 1, 0, 0, 1, 1]
    model = TokenSequenceClassifier(n_bins=4, embedding_dim=8, max_epochs=200, random_state=0)
    model.fit(X, y)
    assert [edges.tolist() for edges in model.bin_edges_] == [[1, 3, 5], [0]]
    (ids,), _ = model._parse(np.array([[-9.0, 0], [2.5, 1], [99, 1]]), reset=False)
    assert ids.tolist() == [[0, 4], [2 - 1, 5], [3, 5]]
    assert model.vocabulary_.tolist() == list(range(6))
    assert model.score(X, y) == 1
