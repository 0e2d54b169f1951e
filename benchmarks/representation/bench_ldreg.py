"""LDReg against its own base loss, and the local dimension against scikit-dimension."""

import importlib.util

import numpy as np
from sklearn.datasets import load_digits

from benchmarks._harness import Case
from skpapers.representation import LDReg, local_intrinsic_dimension


def cases():
    if importlib.util.find_spec("skdim"):
        yield _dimension_case()
    X = (load_digits().data / 16).astype(np.float32)
    for widths, n_epochs in (((256,), 20), ((2048,), 4)):
        settings = {"hidden_layer_sizes": widths, "max_epochs": n_epochs, "random_state": 0}
        yield Case(
            name="LDReg, beta=0.1",
            size=f"digits, n={len(X)}, {n_epochs} epochs, hidden layer of {widths[0]}",
            peer_name="the same without the regulariser",
            ours=lambda s=settings: LDReg(beta=0.1, warmup_epochs=0, **s).fit(X),
            peer=lambda s=settings: _Base(**s).fit(X),
            accuracy=lambda model: model.effective_rank_,
            metric="effective rank",
            note="Local dimensions of 512 rows a step cost what a layer of 512 units does.",
        )


class _Base(LDReg):
    """Training with the base loss alone, and no look at the local dimension."""

    def _loss(self, module, batch):
        views = self._views(batch.inputs, module.generator)
        return self._pair_loss(module, *map(module, views))


def _dimension_case():
    from skdim.id import MLE

    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 8)) @ np.linalg.qr(rng.normal(size=(50, 8)))[0].T
    return Case(
        name="local_intrinsic_dimension",
        size="n=20000, 8 dimensions in 50, k=20",
        peer_name="skdim.id.MLE",
        ours=lambda: local_intrinsic_dimension(X, 20),
        peer=lambda: MLE(K=20).fit_transform_pw(X, n_neighbors=20),
        accuracy=lambda lid: float(np.median(lid)),
        metric="median",
    )
