"""The bridge: training, continuing, stopping, seeds, devices."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import DivergenceError, NeuralClassifier, NeuralRegressor
from skpapers.neural_network._data import Batches, Data


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def quick(**params):
    return NeuralClassifier((16,), **{"max_epochs": 5, "tol": 0, "random_state": 0, **params})


def weights(estimator):
    return torch.cat([p.detach().flatten() for p in estimator.module_.parameters()]).numpy()


def test_training_equals_a_loop_written_by_hand(iris):
    """Same initial weights, same batches, same optimizer: the same weights afterwards."""
    X, y = iris
    estimator = quick(max_epochs=1, batch_size=None, lr=1e-12, optimizer="sgd").fit(X, y)
    module = pickle.loads(pickle.dumps(estimator.module_)).train()
    trained = quick(max_epochs=7, batch_size=None, lr=0.1, optimizer="sgd").fit(X, y)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(7):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(y))
        loss.backward()
        optimizer.step()
    by_hand = torch.cat([p.detach().flatten() for p in module.parameters()])
    np.testing.assert_allclose(weights(trained), by_hand, atol=1e-10)
    assert trained.loss_curve_[-1] == pytest.approx(loss.item(), abs=1e-9)


def test_batches_hold_every_row_once_and_no_batch_of_one():
    for n_rows, batch_size, sizes in [
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),
        (3, 8, [3]),
        (1, 8, [1]),
    ]:
        data = Data((torch.arange(n_rows),), torch.arange(n_rows))
        generator = torch.Generator().manual_seed(0)
        batches = list(Batches(data, batch_size, generator))
        assert [batch.n_rows for batch in batches] == sizes
        assert sorted(torch.cat([b.inputs[0] for b in batches]).tolist()) == list(range(n_rows))
        assert all(torch.equal(b.inputs[0], b.y) for b in batches)


def test_sparse_rows_give_what_dense_rows_give(iris):
    X, y = load_digits(n_class=3, return_X_y=True)
    dense, sparse = quick(batch_size=50).fit(X, y), quick(batch_size=50).fit(sp.csr_array(X), y)
    np.testing.assert_allclose(weights(dense), weights(sparse), rtol=1e-12)
    np.testing.assert_array_equal(dense.predict(X), sparse.predict(sp.csr_matrix(X)))


def test_multi_output_regression_learns_each_target():
    X = np.random.default_rng(0).normal(size=(400, 3))
    Y = np.column_stack([1000 + 500 * X[:, 0], 1e-3 * X[:, 1]])
    model = NeuralRegressor(lr=0.01, max_epochs=60, tol=0, random_state=0).fit(X, Y)
    from sklearn.metrics import r2_score

    assert (r2_score(Y, model.predict(X), multioutput="raw_values") > 0.98).all()


def test_sample_weight_counts_repetitions(iris):
    X, y = iris
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = quick(batch_size=None).fit(X, y, sample_weight=counts)
    repeated = quick(batch_size=None).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(weights(weighted), weights(repeated), rtol=1e-8)


def test_balanced_class_weight_equals_the_weights_by_hand(iris):
    X, y = iris[0][:120], iris[1][:120]
    balanced = quick(class_weight="balanced").fit(X, y)
    by_hand = quick().fit(X, y, sample_weight=len(y) / (3 * np.bincount(y)[y]))
    np.testing.assert_allclose(weights(balanced), weights(by_hand), rtol=1e-10)


def test_early_stopping_keeps_the_best_epoch(iris):
    X, y = iris
    model = quick(max_epochs=60, early_stopping=True, n_iter_no_change=5, lr=0.05).fit(X, y)
    assert model.n_iter_ < 60
    assert len(model.validation_scores_) == model.n_iter_
    best = model.best_iter_
    assert model.validation_scores_[best - 1] == max(model.validation_scores_)
    again = quick(max_epochs=best, early_stopping=True, n_iter_no_change=100, lr=0.05).fit(X, y)
    np.testing.assert_allclose(weights(model), weights(again), rtol=1e-12)


def test_training_stops_when_the_loss_is_flat_and_says_so_when_it_is_not(iris):
    X, y = iris
    with pytest.warns(ConvergenceWarning, match="max_epochs=20"):
        quick(max_epochs=20, tol=1e-4).fit(X, y)
    stopped = quick(max_epochs=500, tol=0.05, n_iter_no_change=3, lr=0.05).fit(X, y)
    curve = np.array(stopped.loss_curve_)
    assert len(curve) < 500
    gains = np.minimum.accumulate(curve)[:-1] - curve[1:]
    assert (gains[-3:] <= 0.05).all()
    assert gains[-4] > 0.05


def test_warm_start_continues_where_fit_stopped(iris):
    X, y = iris
    once = quick(max_epochs=8, batch_size=32).fit(X, y)
    twice = quick(max_epochs=4, batch_size=32, warm_start=True).fit(X, y).fit(X, y)
    assert twice.n_iter_ == 8
    np.testing.assert_allclose(weights(once), weights(twice), rtol=1e-12)
    with pytest.raises(ValueError, match="features"):
        twice.fit(X[:, :2], y)
    with pytest.raises(ValueError, match="unknown"):
        twice.fit(X, y + 1)


def test_partial_fit_makes_one_pass(iris):
    X, y = iris
    model = quick(batch_size=None)
    for _ in range(5):
        model.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(weights(model), weights(quick(batch_size=None).fit(X, y)))
    with pytest.raises(ValueError, match="classes"):
        quick().partial_fit(X, y)
    later = quick().partial_fit(X[:50], y[:50], classes=[0, 1, 2]).partial_fit(X[50:], y[50:])
    assert later.predict_proba(X).shape == (150, 3)


def test_interrupt_keeps_what_was_learnt(iris):
    X, y = iris

    def interrupt(estimator, epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted after 3 epochs"):
        model = quick(max_epochs=50, callbacks=[interrupt]).fit(X, y)
    np.testing.assert_allclose(weights(model), weights(quick(max_epochs=3).fit(X, y)))
    assert model.n_iter_ == len(model.loss_curve_) == 3


def test_callbacks_see_every_epoch(iris):
    seen = []
    quick(callbacks=[lambda est, epoch, logs: seen.append((epoch, logs["train_loss"]))]).fit(*iris)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[0][1] > seen[-1][1]


def test_divergence_is_an_error(iris):
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(DivergenceError, match="lower lr"):
        NeuralRegressor(optimizer="sgd", lr=1e6, max_epochs=50, random_state=0).fit(X, y)


@pytest.mark.parametrize("name", ["cosine", "step", "exponential", "linear"])
def test_schedules_change_the_rate(iris, name):
    model = quick(lr_schedule=name, max_epochs=6).fit(*iris)
    assert model.net_.optimizer_.param_groups[0]["lr"] < 1e-3


def test_dropout_draws_from_the_seed_and_rests_at_prediction(iris):
    X, y = iris
    first, second = (quick(dropout=0.5).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(weights(first), weights(second))
    np.testing.assert_array_equal(first.predict_proba(X), first.predict_proba(X))
    assert not np.allclose(weights(first), weights(quick().fit(X, y)))


def test_pickle_and_continue(iris):
    X, y = iris
    model = quick(warm_start=True, batch_size=32).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(weights(model.fit(X, y)), weights(copy.fit(X, y)))


def test_a_search_over_strings_runs_in_two_processes(iris):
    X, y = iris
    grid = {
        "neuralclassifier__activation": ["relu", "gelu"],
        "neuralclassifier__optimizer": ["adam", "sgd"],
    }
    pipeline = make_pipeline(StandardScaler(), quick(max_epochs=30, lr=0.02))
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=3).fit(X, y)
    assert search.best_score_ > 0.9


def test_device_names_are_checked(iris):
    with pytest.raises(ValueError, match="device"):
        quick(device="abacus").fit(*iris)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA"):
            quick(device="cuda").fit(*iris)


def test_set_params_after_fit_does_not_touch_the_net(iris):
    X, y = iris
    model = quick().fit(X, y)
    before = model.predict_proba(X)
    model.set_params(activation="tanh", hidden_layer_sizes=(3,))
    np.testing.assert_array_equal(before, model.predict_proba(X))
    assert clone(model).activation == "tanh"


def test_verbose(iris, capsys):
    quick(verbose=2, max_epochs=2).fit(*iris)
    assert "NeuralClassifier epoch 2: train_loss=" in capsys.readouterr().err
    quick(verbose=1, max_epochs=2).fit(*iris)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.gpu
def test_fit_on_cuda_agrees_and_unpickles_anywhere(iris):
    X, y = iris
    on_gpu = quick(device="cuda").fit(X, y)
    assert next(on_gpu.module_.parameters()).is_cuda
    on_cpu = quick(device="cpu").fit(X, y)
    np.testing.assert_allclose(on_gpu.predict_proba(X), on_cpu.predict_proba(X), atol=1e-6)
    copy = pickle.loads(pickle.dumps(on_gpu))
    np.testing.assert_allclose(copy.predict_proba(X), on_gpu.predict_proba(X))


def test_optimizer_is_told_the_length_of_the_training():
    X, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
    model = NeuralClassifier(
        optimizer="decoupled_adamw",
        optimizer_params={"normalize_decay": True},
        weight_decay=0.05,
        batch_size=32,
        max_epochs=3,
        tol=0,
        random_state=0,
    ).fit(X, y)
    n_batches = 4
    assert {g["total_steps"] for g in model.net_.optimizer_.param_groups} == {3 * n_batches}
    parts = clone(model).partial_fit(X, y, classes=[0, 1])
    assert {g["total_steps"] for g in parts.net_.optimizer_.param_groups} == {3 * n_batches}
    model.set_params(optimizer_params={"normalize_decay": True, "total_steps": 7}).fit(X, y)
    assert {g["total_steps"] for g in model.net_.optimizer_.param_groups} == {7}


def test_warm_restarts_advance_every_batch():
    X, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
    rates = []
    model = NeuralClassifier(
        optimizer="sgd",
        lr=0.5,
        lr_schedule="cosine_restarts(t_0=2, t_mult=2)",
        batch_size=32,
        max_epochs=6,
        tol=0,
        callbacks=[lambda m, epoch, logs: rates.append(m.net_.optimizer_.param_groups[0]["lr"])],
        random_state=0,
    )
    model.fit(X, y)
    phases = [0.5, 0, 0.25, 0.5, 0.75, 0]  # of the period, after each epoch
    np.testing.assert_allclose(rates, 0.25 * (1 + np.cos(np.pi * np.array(phases))))


class TwoEvaluations(torch.optim.SGD):
    """Keeps the losses of repeated evaluations of one step."""

    def step(self, closure):
        alone = closure(backward=False)
        assert not alone.requires_grad
        losses = [float(alone.detach()), *(float(closure().detach()) for _ in range(2))]
        self.param_groups[0].setdefault("losses", []).append(losses)
        return super().step(closure)


def test_evaluations_of_one_step_draw_the_same_masks_of_dropout(iris):
    model = quick(optimizer=TwoEvaluations, dropout=0.5, batch_size=50).fit(*iris)
    losses = np.array(model.net_.optimizer_.param_groups[0]["losses"])
    np.testing.assert_array_equal(losses, losses[:, :1] * np.ones(3))
    assert len(np.unique(losses)) == len(losses)


class OutputDescent(torch.optim.Optimizer):
    """Plain descent that differentiates the loss by the output of the network first."""

    needs_outputs = True

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        output, loss_function = closure()
        self.param_groups[0]["loss"] = loss_function.name
        free = output.detach().requires_grad_()
        loss = loss_function(free)
        (slopes,) = torch.autograd.grad(loss, free)
        params = self.param_groups[0]["params"]
        with torch.no_grad():
            for p, slope in zip(params, torch.autograd.grad(output, params, slopes)):
                p.sub_(slope, alpha=self.param_groups[0]["lr"])
        return loss


def test_an_optimizer_may_ask_for_the_output_and_the_loss_of_it(iris):
    weight = np.random.default_rng(0).uniform(0.5, 2, size=150)
    common = {"lr": 0.1, "dropout": 0.3, "batch_size": 50}
    model = quick(optimizer=OutputDescent, **common).fit(*iris, sample_weight=weight)
    expected = quick(optimizer="sgd", **common).fit(*iris, sample_weight=weight)
    np.testing.assert_allclose(weights(model), weights(expected), rtol=1e-12)
    np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-12)
    assert model.net_.optimizer_.param_groups[0]["loss"] == "cross_entropy"


def test_a_loss_that_is_no_function_of_the_output_cannot_be_asked_for(iris):
    class Penalised(NeuralClassifier):
        def _loss(self, module, batch):
            return super()._loss(module, batch) + module[0].weight.square().sum()

    model = Penalised(optimizer=OutputDescent, random_state=0)
    with pytest.raises(TypeError, match="a function of the output"):
        model.fit(*iris)
