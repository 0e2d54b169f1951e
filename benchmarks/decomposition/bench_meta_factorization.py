"""One-pass generalised Nystrom factors against scikit-learn's randomised truncated SVD."""

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from benchmarks._harness import Case
from skpapers.decomposition import MetaFactorization


def cases():
    """Accuracy is the relative error of the rows restored from their codes."""
    n, d, k = 20_000, 2_000, 50
    rng = np.random.default_rng(0)
    scales = np.geomspace(1, 1e-4, 200)
    dense = rng.normal(size=(n, 200)) * scales @ rng.normal(size=(200, d))
    thin = sparse.random_array((n, d), density=0.01, random_state=0, format="csr")
    for X, kind in [(dense, "dense"), (thin, "sparse 1 %")]:
        yield Case(
            name="MetaFactorization(method='nystrom').fit",
            size=f"n={n}, d={d}, k={k}, {kind}",
            peer_name="sklearn TruncatedSVD",
            ours=lambda X=X: MetaFactorization(k, method="nystrom", random_state=0).fit(X),
            peer=lambda X=X: TruncatedSVD(k, random_state=0).fit(X),
            accuracy=lambda model, X=X: restored(model, X[:1000]),
            metric="relative error of 1000 restored rows",
            note="One pass over the data against eleven; the price is the error of random "
            "combinations, a small multiple of the least.",
        )


def restored(model, X):
    rows = X.toarray() if sparse.issparse(X) else X
    error = rows - model.inverse_transform(model.transform(X))
    return float(np.linalg.norm(error) / np.linalg.norm(rows))
