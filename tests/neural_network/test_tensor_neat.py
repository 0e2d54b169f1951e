"""Evolved classifiers and regressors, and searches with an objective of one's own."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, make_blobs
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skpapers.neural_network import NEATClassifier, NEATRegressor, NEATSearch

XOR_X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_Y = np.array([0.0, 1.0, 1.0, 0.0])
WITHOUT_STRUCTURE = {"node_add": 0, "node_delete": 0, "conn_add": 0, "conn_delete": 0}


def blobs(n_classes=3):
    return make_blobs(60, 3, centers=n_classes, cluster_std=3.0, random_state=0)


def quick(cls=NEATClassifier, **params):
    return cls(**{"pop_size": 40, "n_generations": 5, "random_state": 0, **params})


def xor(seed, n_generations, **params):
    model = NEATRegressor(
        300,
        n_generations,
        standardize=False,
        early_stopping=False,
        random_state=seed,
        **params,
    )
    return model.fit(XOR_X, XOR_Y)


def test_exclusive_or_is_solved():
    errors = [-xor(seed, 75).best_fitness_ for seed in range(5)]
    assert sum(error <= 0.01 for error in errors) >= 3


@pytest.mark.parametrize("seed", [0, 1])
def test_exclusive_or_needs_new_structure(seed):
    model = xor(seed, 75, **WITHOUT_STRUCTURE)
    assert model.best_conns_.shape == (2, 3)
    linear = LinearRegression().fit(XOR_X, XOR_Y)
    best_linear = np.mean((linear.predict(XOR_X) - XOR_Y) ** 2)
    assert -model.best_fitness_ == pytest.approx(best_linear, rel=1e-2)


def test_iris():
    X, y = load_iris(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = NEATClassifier(150, 40, random_state=0)
    assert cross_val_score(model, X, y, cv=folds).mean() >= 0.9


def test_the_best_fitness_never_falls_and_elites_keep_it_in_the_population():
    X, y = blobs()
    best = []

    def fitness(outputs, codes):
        logits = outputs.transpose(1, 2)
        codes = codes.expand(len(outputs), -1)
        losses = torch.nn.functional.cross_entropy(logits, codes, reduction="none")
        best.append(float(-losses.mean(dim=1).min()))
        return -losses.mean(dim=1)

    model = quick(fitness=fitness, n_generations=30, early_stopping=False).fit(X, y)
    assert (np.diff(best) >= -1e-9).all()
    assert best[-1] > best[0]
    np.testing.assert_allclose([row["best"] for row in model.history_], best, rtol=1e-9)
    assert all(sum(row["species_sizes"]) == 40 for row in model.history_)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fitness_is_minus_the_log_loss(n_classes):
    X, y = blobs(n_classes)
    model = quick().fit(X, y)
    assert model.best_fitness_ == pytest.approx(-log_loss(y, model.predict_proba(X)), rel=1e-9)


def test_fitness_is_minus_the_squared_error_of_scaled_targets():
    X, y = blobs()[0], 10 * blobs()[0][:, 0] + 3
    model = quick(NEATRegressor).fit(X, y)
    assert model.best_fitness_ == pytest.approx(model.score(X, y) - 1, rel=1e-9)


@pytest.mark.parametrize(
    "fitness", ["accuracy", "balanced_accuracy", make_scorer(lambda y, p: np.mean(y == p))]
)
def test_fitness_without_gradient(fitness):
    X, y = make_blobs(60, 3, centers=3, cluster_std=3.0, random_state=0)  # classes of 20
    model = quick(fitness=fitness, pop_size=20).fit(X, y)
    assert model.best_fitness_ == pytest.approx(model.score(X, y), rel=1e-9)
    assert model.best_fitness_ > 0.5


def test_absolute_errors():
    X = np.linspace(-1, 1, 40)[:, None]
    y = np.where(np.arange(40) < 4, 50.0, X[:, 0])  # a tenth are outliers
    options = {"n_generations": 40, "early_stopping": False, "standardize": False}
    model = quick(NEATRegressor, fitness="neg_mean_absolute_error", **options).fit(X, y)
    assert -model.best_fitness_ == pytest.approx(np.abs(model.predict(X) - y).mean())


@pytest.mark.parametrize("functions", [("tanh",), ("relu", "sin", "sigmoid")])
def test_formula_of_a_classifier(functions):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = quick(n_generations=15, activations=functions).fit(X, y)
    symbols = sorted({s for f in model.formula_ for s in f.free_symbols}, key=str)
    values = [
        [float(f.subs({s: row[str(s)] for s in symbols})) for f in model.formula_]
        for _, row in X[::30].iterrows()
    ]
    np.testing.assert_allclose(values, model.decision_function(X[::30]), rtol=1e-5, atol=1e-5)


def test_formula_of_a_regressor():
    model = xor(1, 75)
    values = [float(model.formula_.subs({"x0": a, "x1": b})) for a, b in XOR_X]
    np.testing.assert_allclose(values, model.predict(XOR_X), rtol=1e-5, atol=1e-5)
    assert 2 < model.n_active_connections_ <= len(model.best_conns_)


def test_refinement_raises_the_fitness_and_keeps_the_topology():
    X, y = blobs()
    plain, refined = quick().fit(X, y), quick(refine_epochs=100).fit(X, y)
    assert refined.best_fitness_ > plain.best_fitness_ + 0.02
    np.testing.assert_array_equal(plain.best_conns_[:, :2], refined.best_conns_[:, :2])
    assert np.abs(refined.best_conns_[:, 2]).max() <= 5


def test_parsimony_keeps_networks_small():
    X, y = blobs()
    plain = quick(n_generations=30).fit(X, y)
    sparse = quick(n_generations=30, parsimony=0.05).fit(X, y)
    assert len(sparse.best_conns_) < len(plain.best_conns_)
    loss = log_loss(y, sparse.predict_proba(X))
    assert sparse.best_fitness_ == pytest.approx(-loss - 0.05 * len(sparse.best_conns_))


def test_mini_batches_confirm_the_best_on_all_rows():
    X, y = blobs()
    model = quick(batch_size=10, n_generations=15).fit(X, y)
    assert model.best_fitness_ == pytest.approx(-log_loss(y, model.predict_proba(X)), rel=1e-9)
    assert np.isfinite([row["mean"] for row in model.history_]).all()


def test_going_on_equals_an_uninterrupted_run():
    X, y = blobs()
    whole = quick(n_generations=8).fit(X, y)
    again = quick(n_generations=4, warm_start=True).fit(X, y)
    again = pickle.loads(pickle.dumps(again)).fit(X, y)
    steps = quick().partial_fit(X, y, classes=[0, 1, 2])
    for _ in range(7):
        steps.partial_fit(X, y)
    for model in (again, steps):
        assert model.n_iter_ == 8
        np.testing.assert_array_equal(model.best_conns_, whole.best_conns_)
        assert model.best_fitness_ == whole.best_fitness_


def test_new_classes_are_refused():
    X, y = blobs()
    model = quick().fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match="first fit"):
        model.partial_fit(X, y)


def test_early_stopping():
    X, y = blobs()
    options = {"n_generations": 60, "n_iter_no_change": 3, "tol": 0.05}
    stopped = quick(**options).fit(X, y)
    best = [row["best"] for row in stopped.history_]
    assert len(best) < 60
    assert best[-1] - best[-4] <= 0.05
    assert all(best[i] - best[i - 3] > 0.05 for i in range(3, len(best) - 1))


def test_several_targets():
    X, _ = blobs()
    Y = np.column_stack([X[:, 0], X[:, 1] - X[:, 2]])
    model = quick(NEATRegressor, n_generations=20, refine_epochs=300).fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.9
    assert len(model.formula_) == 2


def test_hidden_layers_of_the_first_networks():
    X, y = blobs()
    model = quick(n_generations=1, init_hidden_layers=(4, 2)).fit(X, y)
    assert (model.population_.n_nodes == 3 + 6).all()
    assert (model.population_.n_conns == 3 * 4 + 4 * 2 + 2 * 3).all()
    assert (model.best_nodes_[3:, 3] == 2).all()  # tanh


@pytest.mark.parametrize(
    "params",
    [
        {"activations": ("gelu",)},
        {"activations": "tanh"},
        {"aggregations": ()},
        {"init_hidden_layers": (0,)},
        {"max_nodes": 2},
        {"max_conns": 8},
        {"fitness": "r3"},
    ],
)
def test_bad_parameters_are_named(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        quick(**params).fit(*blobs())


def test_a_fitness_of_ones_own_takes_no_weights():
    X, y = blobs()
    with pytest.raises(ValueError, match="sample_weight"):
        quick(fitness=lambda outputs, y: outputs[:, 0, 0]).fit(X, y, np.ones(60))


# Search.


def bumpy(networks):
    """How well the networks do |x|, by the worst error: a step function would not move."""
    X = torch.linspace(-1, 1, 21)[:, None].to(networks.device)
    return -(networks(X)[:, :, 0] - X[:, 0].abs()).abs().amax(dim=1)


def test_search_maximises_the_objective_and_stops_at_the_target():
    search = NEATSearch(
        bumpy, 1, 1, pop_size=150, activations=("abs", "relu"), target=-0.1, random_state=0
    )
    search.run()
    assert search.best_fitness_ >= -0.1
    assert len(search.history_) < 50
    assert all(row["best"] < -0.1 for row in search.history_[:-1])
    assert bumpy(search.best_network_).item() == pytest.approx(search.best_fitness_, rel=1e-3)


def test_search_goes_on_and_repeats():
    settings = {"pop_size": 30, "n_generations": 4, "random_state": 3}
    once = NEATSearch(bumpy, 1, 1, **settings | {"n_generations": 8}).run()
    twice = NEATSearch(bumpy, 1, 1, **settings).run().run()
    assert [row["best"] for row in once.history_] == [row["best"] for row in twice.history_]
    np.testing.assert_array_equal(once.best_conns_, twice.best_conns_)


def test_nan_is_the_worst_fitness():
    def objective(networks):
        fitness = torch.arange(float(len(networks)))
        return torch.where(fitness > 5, torch.nan, fitness)

    search = NEATSearch(objective, 1, 1, pop_size=20, n_generations=3, random_state=0).run()
    assert search.best_fitness_ == 5


def test_search_says_what_is_wrong():
    with pytest.raises(ValueError, match="one number a network"):
        NEATSearch(lambda networks: torch.zeros(3), 1, 1, random_state=0).run()
    with pytest.raises(ValueError, match="pop_size"):
        NEATSearch(bumpy, 1, 1, pop_size=0)
    with pytest.raises(ValueError, match="n_inputs"):
        NEATSearch(bumpy, 0, 1)
    with pytest.raises(TypeError, match="popsize"):
        NEATSearch(bumpy, 1, 1, popsize=10)


def test_an_interrupt_leaves_a_usable_search():
    calls = []

    def objective(networks):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return bumpy(networks)

    search = NEATSearch(objective, 1, 1, pop_size=20, random_state=0).run()
    assert len(search.history_) == 2
    assert search.best_network_([[0.5]]).shape == (1, 1, 1)


@pytest.mark.gpu
def test_devices_agree():
    X, y = load_iris(return_X_y=True)
    on_gpu, on_cpu = (quick(device=d).fit(X, y) for d in ("cuda", "cpu"))
    np.testing.assert_array_equal(on_gpu.best_conns_[:, :2], on_cpu.best_conns_[:, :2])
    np.testing.assert_allclose(on_gpu.predict_proba(X), on_cpu.predict_proba(X), atol=1e-6)
    pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu").partial_fit(X, y)
