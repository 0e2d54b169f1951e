import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skpapers.density import MarginalizationModel
from skpapers.density._any_order import (
    conditional_loss,
    consistency_loss,
    fill_in,
    fill_most_certain_first,
    gibbs_step,
    random_order,
    random_prefix,
    reinforce_loss,
)
from skpapers.density._binning import UNKNOWN, UNSEEN, declared_binning, fit_binning

D = 6
STATES = np.array(list(itertools.product([0, 1], repeat=D)))
PARTIAL = np.array(list(itertools.product([0, 1, np.nan], repeat=D)))
MATCHES = ((PARTIAL[:, None] == STATES) | np.isnan(PARTIAL[:, None])).all(2)
TABLE = np.random.RandomState(0).dirichlet(np.full(64, 0.5))
QUICK = {"hidden": 16, "n_layers": 1, "pretrain_epochs": 3, "max_epochs": 3, "random_state": 0}
# Enough for the table of 64 probabilities.
TABLE_PARAMS = {"hidden": 64, "n_layers": 2, "lr": 5e-3, "batch_size": 500, "random_state": 0}


class TableNetwork:
    """The exact log marginals and conditionals of `TABLE`, looked up."""

    def __init__(self):
        self.marginals = torch.from_numpy(np.log(MATCHES @ TABLE))
        known = self.marginals.reshape([3] * D)  # 0, 1, unknown
        ratios = [
            (known - known.select(axis, 2).unsqueeze(axis)).narrow(axis, 0, 2).movedim(axis, -1)
            for axis in range(D)
        ]
        rows = partial_codes().numpy() % 3
        self.conditionals = torch.stack(
            [r[tuple(np.delete(rows, axis, 1).T)] for axis, r in enumerate(ratios)], 1
        )

    def _row(self, codes):
        return (codes % 3) @ 3 ** torch.arange(D - 1, -1, -1)

    def log_marginal(self, codes):
        return self.marginals[self._row(codes)]

    def log_conditionals(self, codes):
        return self.conditionals[self._row(codes)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def partial_codes():
    return torch.from_numpy(np.nan_to_num(PARTIAL, nan=-1).astype(int))


def draws(n_samples, seed=1):
    return STATES[np.random.RandomState(seed).choice(64, n_samples, p=TABLE)].astype(np.float32)


@pytest.fixture(scope="module")
def table_model():
    params = {**TABLE_PARAMS, "pretrain_epochs": 40, "max_epochs": 40, "gibbs_steps": 2}
    return MarginalizationModel(**params).fit(draws(5000))


# The functions.


def test_the_exact_network_is_consistent_for_every_mask():
    codes = partial_codes()
    for seed in range(20):
        assert consistency_loss(TableNetwork(), codes, generator(seed)).abs().max() < 1e-10


def test_the_conditional_loss_is_unbiased_for_the_likelihood():
    codes = torch.from_numpy(np.repeat(STATES[:4], 4000, axis=0))
    loss = conditional_loss(TableNetwork(), codes, generator()).reshape(4, -1)
    error = loss.std(1) / 4000**0.5
    assert ((loss.mean(1) + torch.from_numpy(np.log(TABLE[:4]))).abs() < 4 * error).all()


def test_prefixes_are_uniform_over_orders_and_lengths_of_what_is_known():
    known = torch.tensor([[True, False, True, True]]).expand(12000, 4)
    seen, following = random_prefix(known, generator())
    assert not (seen | following)[:, 1].any() and not (seen & following).any()
    assert (following.sum(1) == 1).all()
    counts = torch.bincount(seen.sum(1), minlength=3)
    np.testing.assert_allclose(counts / 12000, 1 / 3, atol=0.02)
    np.testing.assert_allclose(following.double().mean(0), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)
    nothing = random_prefix(torch.zeros(3, 4, dtype=torch.bool), generator())
    assert not torch.cat(nothing).any()


def test_draws_of_the_exact_network_follow_the_table():
    unknown = torch.full((20000, D), -1)
    codes = fill_in(TableNetwork(), unknown, random_order(unknown, generator()), generator(1))
    codes = gibbs_step(TableNetwork(), codes, 3, generator(2))  # leaves the law as it is
    counts = np.bincount(codes.numpy() @ 2 ** np.arange(D)[::-1], minlength=64)
    statistic = ((counts - 20000 * TABLE) ** 2 / (20000 * TABLE)).sum()
    assert statistic < 103.4  # the 0.999 quantile of chi squared with 63 degrees of freedom


def test_known_columns_are_kept_and_the_most_certain_comes_first():
    codes = partial_codes()
    for filled in (
        fill_in(TableNetwork(), codes, random_order(codes, generator()), generator()),
        fill_most_certain_first(TableNetwork(), codes),
    ):
        assert (filled >= 0).all() and (filled == codes)[codes >= 0].all()
    first = TableNetwork().log_conditionals(torch.full((1, D), -1))[0]
    column, code = divmod(int(first.argmax()), 2)
    filled = fill_most_certain_first(TableNetwork(), torch.full((1, D), -1))
    assert filled[0, column] == code


def test_reinforce_gradient_is_that_of_the_divergence():
    logits = torch.randn(4, dtype=torch.float64, generator=generator()).requires_grad_()
    energy = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=torch.float64)
    log_p = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((log_p.exp() * (log_p - energy)).sum(), logits)
    x = torch.multinomial(logits.detach().softmax(0), 200000, True, generator=generator())
    log_p = logits.log_softmax(0)[x]
    (found,) = torch.autograd.grad(reinforce_loss(log_p, energy[x]).mean(), logits)
    scale = (log_p - energy[x]).std(correction=0).item()  # rewards are standardised
    np.testing.assert_allclose(found * scale, exact, atol=0.01)


# Binning.


def test_binned_densities_integrate_to_one():
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.exponential(size=200), rng.randint(3, size=200)])
    binning = fit_binning(X, 5, "quantile")
    codes = binning.encode(X)
    assert binning.n_codes.tolist() == [5, 3]
    assert np.bincount(codes[:, 0]).tolist() == [40] * 5
    grid = np.linspace(X[:, 0].min(), X[:, 0].max(), 20001)
    middles = np.column_stack([(grid[1:] + grid[:-1]) / 2, np.zeros(20000)])
    share = np.bincount(codes[:, 0])[binning.encode(middles)[:, 0]] / 200
    density = share * np.exp(-binning.log_volume(binning.encode(middles)))
    assert abs((density * np.diff(grid)).sum() - 1) < 1e-3
    for back in (binning.decode(codes, float), binning.decode(codes, float, rng)):
        np.testing.assert_array_equal(binning.encode(back), codes)


def test_codes_of_unknown_unseen_and_far_values():
    X = np.column_stack([np.linspace(0, 1, 50), np.arange(50) % 3 * 2.0])
    binning = fit_binning(X, 4, "uniform")
    assert binning.encode(np.array([[np.nan, 1.0], [9.0, 4.0], [-9.0, np.nan]])).tolist() == [
        [UNKNOWN, UNSEEN],
        [3, 2],
        [0, UNKNOWN],
    ]
    np.testing.assert_allclose(binning.log_volume(binning.encode(X)), np.log(0.25))
    assert declared_binning(2, 3).encode(np.array([[0.0, 3.0]])).tolist() == [[0, UNSEEN]]
    with pytest.raises(ValueError, match="column 1 of X has no known value"):
        fit_binning(np.array([[1.0, np.nan]]), 4, "uniform")


def test_columns_of_a_group_share_their_edges():
    X = np.random.RandomState(0).standard_normal((30, 4))
    binning = fit_binning(X, 4, "uniform", group=[0, 1, 0, 1])
    edges = binning.scales[0].edges
    assert edges[0] == X[:, [0, 2]].min() and edges[-1] == X[:, [0, 2]].max()
    separate = fit_binning(X[:, [0, 2]].reshape(-1, 1), 4, "uniform")
    np.testing.assert_array_equal(
        binning.encode(X)[:, [0, 2]].ravel(), separate.encode(X[:, [0, 2]].reshape(-1, 1)).ravel()
    )


# The estimator on a known table.


def test_marginals_of_a_known_table(table_model):
    assert abs(np.exp(table_model.score_samples(STATES)).sum() - 1) <= 0.03
    for order in (None, [3, 0, 5, 1, 4, 2]):
        chain = table_model.score_samples(STATES, method="chain", order=order)
        assert abs(np.exp(chain, dtype=float).sum() - 1) <= 1e-5
    truth = MATCHES @ TABLE
    error = np.abs(table_model.score_samples(PARTIAL) - np.log(truth))
    assert np.average(error, weights=truth) <= 0.1


def test_the_second_stage_makes_the_model_consistent(table_model):
    """The conditionals alone, trained as long, have the same likelihood and no marginals."""
    params = {**TABLE_PARAMS, "pretrain_epochs": 40, "max_epochs": 40}
    before = MarginalizationModel(consistency_weight=0, **params).fit(draws(5000))
    X = draws(2000, seed=2)
    assert before.self_consistency_error(X) >= 10 * table_model.self_consistency_error(X)
    gap = before.score_samples(X, "chain").mean() - table_model.score_samples(X, "chain").mean()
    assert abs(gap) < 0.05
    assert table_model.self_consistency_error_ < 0.1


def test_chain_of_a_partial_row_is_that_of_its_known_columns(table_model):
    X = np.where(np.arange(D) < 3, STATES, np.nan)
    first = sum(
        table_model.conditional_log_proba(np.where(np.arange(D) < j, STATES, np.nan), j)[
            np.arange(64), STATES[:, j]
        ]
        for j in range(3)
    )
    np.testing.assert_allclose(table_model.score_samples(X, "chain"), first, atol=1e-5)


def test_nothing_known_has_log_probability_zero(table_model):
    assert np.abs(table_model.score_samples(np.full((3, D), np.nan))).max() <= 1e-6


def test_conditional_probabilities_and_draws_given_a_part(table_model):
    given = [1, np.nan, 0, np.nan, np.nan, np.nan]
    match = MATCHES[(np.nan_to_num(PARTIAL, nan=-1) == np.nan_to_num(given, nan=-1)).all(1)][0]
    exact = (TABLE * match) @ STATES / (TABLE * match).sum()
    log_p = table_model.conditional_log_proba([given], 3)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1, atol=1e-6)
    assert abs(np.exp(log_p[0, 1]) - exact[3]) < 0.05
    found = table_model.sample(4000, given=given)
    assert (found[:, 0] == 1).all() and (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.mean(0), exact, atol=0.06)
    np.testing.assert_array_equal(found, table_model.sample(4000, given=given))
    assert not np.array_equal(found, table_model.sample(4000, given=given, random_state=1))


def test_log_probabilities_of_independent_columns_add():
    X = (np.random.RandomState(0).uniform(size=(2000, 3)) < [0.2, 0.5, 0.7]).astype(np.float32)
    model = MarginalizationModel(hidden=32, n_layers=1, lr=5e-3, batch_size=500, random_state=0)
    model.set_params(pretrain_epochs=30, max_epochs=20).fit(X)
    states = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    alone = [np.where(np.arange(3) == j, states, np.nan) for j in range(3)]
    added = sum(model.score_samples(rows) for rows in alone)
    np.testing.assert_allclose(model.score_samples(states), added, atol=0.1)
    share = X.mean(0)
    np.testing.assert_allclose(
        added, np.log(np.where(states == 1, share, 1 - share)).sum(1), atol=0.15
    )


# The estimator on other input.


def test_missing_values_in_training_and_a_transformer():
    rng = np.random.RandomState(0)
    X = np.repeat(rng.randint(2, size=(800, 1)), 4, axis=1).astype(float)  # four equal columns
    X[rng.uniform(size=X.shape) < 0.3] = np.nan
    X[0] = np.nan
    for network in ("mlp", "transformer"):
        model = MarginalizationModel(network=network, hidden=16, n_layers=1, lr=1e-2)
        model.set_params(pretrain_epochs=15, max_epochs=5, random_state=0).fit(X)
        assert model.impute([[1, np.nan, np.nan, np.nan]]).tolist() == [[1, 1, 1, 1]]
        assert model.impute([[np.nan, np.nan, 0, np.nan]], "sequential").tolist() == [[0] * 4]
    with pytest.raises(ValueError, match="hidden=6"):
        MarginalizationModel(network="transformer", hidden=6).fit(X)


def test_continuous_columns_have_densities_and_keep_known_values():
    rng = np.random.RandomState(0)
    z = rng.standard_normal((400, 1))
    X = np.hstack([z, z + 0.2 * rng.standard_normal((400, 1))]) * [1e-3, 1e3]
    model = MarginalizationModel(hidden=32, n_layers=1, lr=5e-3, random_state=0)
    model.set_params(pretrain_epochs=60, max_epochs=20).fit(X)
    truth = -np.log(2 * np.pi) - np.log(0.2) - 0.5 - 0.5  # mean log density, up to the scales
    assert abs(model.score(X) - truth) < 0.6
    holes = X.copy()
    holes[::2, 1] = np.nan
    filled = model.transform(holes)
    np.testing.assert_array_equal(filled[1::2], X[1::2])
    assert np.corrcoef(filled[::2, 1], X[::2, 1])[0, 1] > 0.85
    draws = model.sample(300)
    assert np.corrcoef(draws.T)[0, 1] > 0.7 and np.unique(draws).size == 600
    assert [edges.size for edges in model.bin_edges_] == [9, 9]


def test_values_that_were_not_seen():
    X = np.random.RandomState(0).randint(2, size=(60, 3))
    model = MarginalizationModel(**QUICK).fit(X)
    assert model.score_samples([[0, 1, 2], [0, 1, 1]])[0] == -np.inf
    with pytest.raises(ValueError, match="not seen in fit"):
        model.impute([[2, np.nan, 1]])
    declared = MarginalizationModel(n_categories=3, **QUICK).fit(X)
    assert np.isfinite(declared.score_samples([[0, 1, 2]])).all()
    assert [values.tolist() for values in declared.categories_] == [[0, 1, 2]] * 3
    with pytest.raises(ValueError, match="n_categories - 1 = 0"):
        MarginalizationModel(n_categories=1, **QUICK).fit(X)


def test_wrong_arguments():
    X = np.random.RandomState(0).randint(2, size=(60, 3))
    model = MarginalizationModel(**QUICK).fit(X)
    with pytest.raises(ValueError, match="method must be 'marginal' or 'chain'"):
        model.score_samples(X, method="exact")
    with pytest.raises(ValueError, match="permutation"):
        model.score_samples(X, method="chain", order=[0, 0, 1])
    with pytest.raises(ValueError, match="method must be 'mode'"):
        model.impute(X, method="mean")
    with pytest.raises(ValueError, match="needs an energy"):
        MarginalizationModel("energy_kl").fit(X)
    with pytest.raises(ValueError, match="60 finite numbers"):
        MarginalizationModel("energy_kl", lambda x: x, **QUICK).fit(X)


def test_warm_start_goes_on_with_the_marginals():
    X = np.random.RandomState(0).randint(2, size=(60, 3))
    model = MarginalizationModel(warm_start=True, **QUICK).fit(X)
    conditionals = model.score_samples(X, "chain")
    assert model.fit(X).n_iter_ == 9
    np.testing.assert_array_equal(model.score_samples(X, "chain"), conditionals)


# The claims.


def ising():
    """Energy of a periodic 3 x 3 Ising model, every edge counted twice, and all its states."""
    J = np.zeros((9, 9))
    for i, j in itertools.product(range(3), repeat=2):
        for k in (3 * ((i + 1) % 3) + j, 3 * i + (j + 1) % 3):
            J[3 * i + j, k] += 0.1
            J[k, 3 * i + j] += 0.1
    states = np.array(list(itertools.product([-1, 1], repeat=9)))
    return lambda x: ((x @ J) * x).sum(1) + 0.2 * x.sum(1), states


def check_ising(objective, n_epochs, bound):
    energy, states = ising()
    log_partition = np.logaddexp.reduce(energy(states))
    truth = energy(states) - log_partition
    X = np.random.RandomState(0).choice([-1, 1], size=(5120, 9)).astype(np.float32)
    model = MarginalizationModel(objective, energy, hidden=64, n_layers=2, lr=2e-3)
    model.set_params(batch_size=256, max_epochs=n_epochs, random_state=0).fit(X)
    for method in ("chain", "marginal"):
        log_p = model.score_samples(states, method).astype(float)
        log_p -= np.logaddexp.reduce(log_p)
        assert (np.exp(log_p) * (log_p - truth)).sum() < bound  # the uniform law has 0.88
    shares = [np.exp(p) @ (states > 0) for p in (model.score_samples(states, "chain"), truth)]
    assert np.abs(shares[0] - shares[1]).max() <= 0.03
    assert abs(model.log_partition_ - log_partition) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["energy_kl", "energy_fm"])
def test_training_on_the_energy_of_an_ising_model(objective):
    check_ising(objective, 40, 0.05)


def digits():
    X = (load_digits().data > 7).astype(np.float32)
    train, test = train_test_split(X, test_size=500, random_state=0)
    hide = np.random.RandomState(0).uniform(size=test.shape)
    return train, test, hide


def passes(model, *args):
    """How often a query runs through the networks."""
    calls = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: calls.append(module)
    )
    try:
        model.score_samples(*args)
    finally:
        hook.remove()
    return len(calls)


def check_marginal_queries(model, test, hide):
    half = np.where(hide < 0.5, np.nan, test)
    marginal = model.score_samples(half)
    chain = model.score_samples(half, "chain")
    order = np.random.RandomState(1).permutation(64)
    other = model.score_samples(half, "chain", order)
    agreement = spearmanr(marginal, chain)[0]
    assert agreement >= 0.88 and agreement >= spearmanr(chain, other)[0] - 0.04
    assert passes(model, half, "chain") >= 15 * passes(model, half)


def test_one_pass_marginals_of_digits_agree_with_the_chain():
    train, test, hide = digits()
    model = MarginalizationModel(n_categories=2, n_layers=2, lr=2e-3, random_state=0)
    model.set_params(pretrain_epochs=20, max_epochs=25, on_policy=False).fit(train)
    check_marginal_queries(model, test, hide)


@pytest.mark.slow
def test_marginals_and_imputation_of_digits():
    train, test, hide = digits()
    model = MarginalizationModel(n_categories=2, hidden=256, n_layers=2, random_state=0)
    model.set_params(pretrain_epochs=60, max_epochs=60).fit(train)
    check_marginal_queries(model, test, hide)
    holes = np.where(hide < 0.3, np.nan, test)
    filled = {method: model.impute(holes, method) for method in ("mode", "sequential")}
    accuracy = {method: (test == X)[hide < 0.3].mean() for method, X in filled.items()}
    neighbours = KNNImputer().fit(train).transform(holes) > 0.5
    assert accuracy["mode"] >= (neighbours == test)[hide < 0.3].mean() - 0.015
    # A pixel by itself is best guessed by its own mode, a row as a whole one after the other.
    assert accuracy["sequential"] >= accuracy["mode"] - 0.005
    likelihood = {method: model.score_samples(X, "chain").mean() for method, X in filled.items()}
    assert likelihood["sequential"] > likelihood["mode"]


def test_an_appended_label_makes_a_classifier():
    X, y = load_digits(return_X_y=True)
    keep = y < 2
    X, y = (X[keep] > 7).astype(np.float32), y[keep].astype(np.float32)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = MarginalizationModel(n_categories=2, n_layers=1, hidden=64, random_state=0)
    model.set_params(pretrain_epochs=30, max_epochs=1).fit(np.column_stack([train, y_train]))
    rows = np.column_stack([test, np.full(len(test), np.nan)])
    accuracy = (model.conditional_log_proba(rows, 64).argmax(1) == y_test).mean()
    assert accuracy >= LogisticRegression().fit(train, y_train).score(test, y_test) - 0.03
