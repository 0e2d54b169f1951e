"""COSMO against DAGMA on linear models with equal noise."""

import numpy as np
from dagma.linear import DagmaLinear

from benchmarks._harness import Case
from skpapers.causal import COSMO, graph_metrics, make_linear_sem


def cases():
    X, weights, _ = make_linear_sem(1000, 100, 200, random_state=0)
    yield Case(
        name="COSMO",
        size="100 nodes, 200 edges, n=1000",
        peer_name="dagma DagmaLinear",
        ours=lambda: COSMO(random_state=0).fit(X.astype(np.float32)).adjacency_,
        peer=lambda: DagmaLinear(loss_type="l2").fit(X.copy(), lambda1=0.05),
        accuracy=lambda found: graph_metrics(weights, np.asarray(found))["shd"],
        metric="wrong pairs (SHD)",
        repeats=1,
    )
