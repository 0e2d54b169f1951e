"""MarginalizationModel: one pass against the chain rule, and its imputation against KNNImputer."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer
from sklearn.model_selection import train_test_split

from benchmarks._harness import Case
from skpapers.density import MarginalizationModel


def cases():
    X = (load_digits().data > 7).astype(np.float32)
    train, test = train_test_split(X, test_size=500, random_state=0)
    hide = np.random.RandomState(0).uniform(size=test.shape)
    model = MarginalizationModel(n_categories=2, n_layers=2, lr=2e-3, random_state=0)
    model.set_params(pretrain_epochs=30, max_epochs=40, on_policy=False).fit(train)
    half, holes = (np.where(hide < share, np.nan, test) for share in (0.5, 0.3))
    yield Case(
        name="MarginalizationModel.score_samples",
        size="500 binary digits, half of the 64 pixels known",
        peer_name="chain rule, the same conditionals",
        ours=lambda: model.score_samples(half),
        peer=lambda: model.score_samples(half, method="chain"),
        accuracy=lambda log_p: float(log_p.mean()),
        metric="mean log probability",
        repeats=5,
    )
    imputer = KNNImputer().fit(train)
    yield Case(
        name="MarginalizationModel.impute",
        size="500 binary digits, 30 % of the pixels missing",
        peer_name="KNNImputer",
        ours=lambda: model.impute(holes),
        peer=lambda: imputer.transform(holes) > 0.5,
        accuracy=lambda filled: float((filled == test)[hide < 0.3].mean()),
        metric="missing pixels right",
        repeats=5,
        note="both fitted before: the model in some 15 s, KNNImputer in none",
    )
