"""The learnt link against the authors' modules in their loop, and against logistic regression."""

import contextlib
import importlib.util

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from benchmarks._harness import Case
from skpapers.calibration import LegendreTronClassifier


def cases():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(scale(X), y, random_state=0)

    def fit(**settings):
        model = LegendreTronClassifier(tol=0, random_state=0, max_epochs=20, **settings)
        return model.fit(X, y)

    def accuracy(model):
        return log_loss(y_test, model.predict_proba(X_test))

    size = "1347 digits, 20 epochs"
    shared = {"metric": "test log loss", "accuracy": accuracy}
    if importlib.util.find_spec("lib") and importlib.util.find_spec("lib.icnn"):
        for batch_size, lr in ((64, 0.01), (256, 0.03)):
            yield Case(
                name=f"LegendreTronClassifier, batch {batch_size}",
                size=size,
                peer_name="authors' modules and loop, batch 64",
                ours=lambda batch_size=batch_size, lr=lr: fit(batch_size=batch_size, lr=lr),
                peer=lambda: official(X, y),
                peer_accuracy=lambda model: log_loss(y_test, model(X_test)),
                **shared,
            )
    yield noisy()


def noisy():
    """Two classes, a fifth of whose labels is drawn at random."""
    rng = np.random.default_rng(0)
    w = 2 * rng.normal(size=8)
    X = rng.normal(size=(6000, 8))
    y = (rng.uniform(size=6000) < 0.1 + 0.8 / (1 + np.exp(-X @ w))).astype(int)
    settings = {"icnn_width": 8, "alpha": 1e-4, "max_epochs": 60, "batch_size": 300, "lr": 0.02}
    model = LegendreTronClassifier(**settings, tol=0, random_state=0)
    return Case(
        name="LegendreTronClassifier, batch 300",
        size="3000 noisy rows of two classes, 60 epochs",
        peer_name="LogisticRegression",
        ours=lambda: model.fit(X[:3000], y[:3000]),
        peer=lambda: LogisticRegression().fit(X[:3000], y[:3000]),
        accuracy=lambda model: log_loss(y[3000:], model.predict_proba(X[3000:])),
        metric="test log loss",
        note="another solver, of a convex problem: what the learnt link costs and brings",
    )


@contextlib.contextmanager
def authors_globals():
    """Double precision and seed, as their code has them: globally, and put back here."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(dtype)


def official(X, y):
    """Train the authors' modules as their script does; returns a function of X."""
    with authors_globals():
        from lib.models import LegendreLink, MultinomialLogisticRegression  # sets the type too

        scores = MultinomialLogisticRegression(64, 9)
        link = LegendreLink(n_blocks=1, K=9, dim_hidden=4, depth=4)
        parameters = [*scores.parameters(), *link.parameters()]
        data = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
        loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4 * len(loader), 0.95)
        for _ in range(20):
            for rows, classes in loader:
                optimizer.zero_grad()
                loss = torch.nn.functional.nll_loss(link(scores(rows)), classes)
                penalty = sum(torch.sum(p**2) for p in parameters)
                (loss + 0.5e-3 * penalty).backward()
                optimizer.step()
                schedule.step()
    return lambda X: link(scores(torch.as_tensor(X))).exp().detach().numpy()
