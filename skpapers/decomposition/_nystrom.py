"""The generalised Nystrom method: low-rank factors from one pass over the rows."""

from functools import partial
from math import ceil, sqrt

import numpy as np
from scipy import sparse
from sklearn.utils._array_api import get_namespace_and_device

from ._column_bases import diagonal, pseudo_factors
from ._reconstruction import MetaFactors, relative

__all__ = ["SinglePassSketch"]


class SinglePassSketch:
    """Sums of the generalised Nystrom method, to which rows can be added.

    The combinations D of columns are drawn first, and those of rows, B, from a stream of their
    own, so that rows see the same numbers however they come.
    """

    def __init__(self, X, k, oversampling, seed):
        xp, _, device = get_namespace_and_device(X)
        columns, self.stream = np.random.default_rng(seed).spawn(2)
        n = X.shape[1]
        self.n_rows = k + max(2, ceil(oversampling * k))
        D = columns.standard_normal((n, k))
        self.D = xp.asarray(D, dtype=X.dtype, device=device)
        self.left = xp.zeros((0, k), dtype=X.dtype, device=device)
        self.right = xp.zeros((n, self.n_rows), dtype=X.dtype, device=device)

    def sharpen(self, X, n_iter):
        xp, _ = get_namespace_and_device(X)[:2]
        for _ in range(n_iter):
            self.D, _ = xp.linalg.qr(X.T @ xp.linalg.qr(X @ self.D)[0])

    def add(self, X):
        xp, _, device = get_namespace_and_device(X)
        as_type = X.astype if sparse.issparse(X) else partial(xp.astype, X)
        X = as_type(self.D.dtype, copy=False)
        B = self.stream.standard_normal((X.shape[0], self.n_rows))
        self.left = xp.concat([self.left, X @ self.D])
        self.right = self.right + X.T @ xp.asarray(B, dtype=X.dtype, device=device)

    def factors(self):
        """Factors, projector residual, and estimated Frobenius norm of the error."""
        # A ~ F (B'F)^+ H' with B'F = U S V': (F V) S^-1 (H U)' needs no pseudoinverse. The part of
        # H' outside the range of B'F is B'(A - F F^+ A), whatever is inside: it gives the error.
        cross = self.right.T @ self.D
        basis, weights = pseudo_factors(cross)
        xp, _ = get_namespace_and_device(cross)[:2]
        outside = self.right.T - basis @ (basis.T @ self.right.T)
        k, spare = cross.shape[1], cross.shape[0] - cross.shape[1]
        inflation = 1 + k / max(spare - 1, 1)
        error = float(xp.linalg.vector_norm(outside)) * sqrt(inflation / spare)
        scale = xp.linalg.vector_norm(weights, axis=0)
        rotation = weights / xp.where(scale > 0, scale, xp.ones_like(scale))
        left, right = self.left @ rotation, self.right @ basis
        residual = relative(self.left - left @ rotation.T, self.left)
        return MetaFactors(left, diagonal(scale), right), residual, error
