"""Deflation of a primal and a kernel view, component by component."""

import numpy as np


class Deflation:
    """Both views, less the components found so far."""

    def __init__(self, X, K):
        self.X, self.K = X, K
        self._sizes = np.abs(X).max(), np.abs(K).max()
        self._found, self._q, self._t, self._a, self._s = [], [], [], [], []

    @property
    def exhausted(self):
        """Whether a view has nothing left but rounding errors."""
        rounding = 10 * len(self.K) * np.finfo(np.float64).eps
        views = zip((self.X, self.K), self._sizes)
        return any(np.abs(view).max() <= rounding * size for view, size in views)

    def normalise(self, w, e):
        """Weights of unit scores, and the correlation of these."""
        x, y = self.X @ w, self.K @ e
        x_norm, y_norm = np.linalg.norm(x), np.linalg.norm(y)
        return w / x_norm, e / y_norm, (x / x_norm) @ (y / y_norm)

    def remove(self, i, w, e):
        """Project the scores of component i out of both views."""
        q = self.X.T @ (self.X @ w)
        a = self.K @ e
        q, a = q / np.linalg.norm(q), a / np.linalg.norm(a)
        t, s = self.X @ q, self.K @ a
        self._found.append(i)
        for columns, column in zip((self._q, self._t, self._a, self._s), (q, t, a, s)):
            columns.append(column)
        t, s = t / np.linalg.norm(t), s / np.linalg.norm(s)
        self.X = self.X - np.outer(t, t @ self.X)
        half = self.K - np.outer(s, s @ self.K)
        self.K = half - np.outer(half @ s, s)

    def rotations(self, X, K, n_components):
        """Weights and dual weights of the orthogonal scores, on the views before deflation."""
        x, dual = np.zeros((X.shape[1], n_components)), np.zeros((len(K), n_components))
        if self._found:
            x[:, self._found] = _orthogonal(X, np.array(self._q).T, np.array(self._t).T)
            dual[:, self._found] = _orthogonal(K, np.array(self._a).T, np.array(self._s).T)
        return x, dual


def _orthogonal(view, directions, scores):
    """Combine the directions so that their scores on the view are `scores`, of unit norm."""
    norms = np.linalg.norm(scores, axis=0)
    triangle = (scores / norms**2).T @ view @ directions  # view @ directions = scores @ triangle
    return np.linalg.solve(triangle.T, directions.T).T / norms


def vanished(K, raw):
    return np.abs(K).max() <= 10 * len(K) * np.finfo(np.float64).eps * np.abs(raw).max()
