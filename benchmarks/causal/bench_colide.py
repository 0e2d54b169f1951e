"""CoLiDE against DAGMA on linear models with equal noise."""

import numpy as np
from dagma.linear import DagmaLinear

from benchmarks._harness import Case
from skpapers.causal import CoLiDE, graph_metrics, make_linear_sem


def cases():
    for n_nodes in (50, 100):
        X, weights, _ = make_linear_sem(1000, n_nodes, 2 * n_nodes, random_state=0)
        yield Case(
            name="CoLiDE",
            size=f"{n_nodes} nodes, {2 * n_nodes} edges, n=1000",
            peer_name="dagma DagmaLinear",
            ours=lambda X=X: CoLiDE(noise="equal").fit(X).adjacency_,
            peer=lambda X=X: DagmaLinear(loss_type="l2").fit(X.copy(), lambda1=0.05),
            accuracy=lambda found, w=weights: graph_metrics(w, np.asarray(found))["shd"],
            metric="wrong pairs (SHD)",
            repeats=1,
        )
