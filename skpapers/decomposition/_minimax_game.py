"""Regret of linear representations in whitened coordinates, and the game that is played with it.

In coordinates w of unit covariance in which the ellipsoid of tasks has the axes ``sqrt(lam)``, a
task is ``y = g^T w`` with ``sum(g**2 / lam) <= 1``, and a representation is a matrix A of
orthonormal columns: the codes are ``A^T w``.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.special import expit, log_expit
from sklearn.utils import check_array
from sklearn.utils._param_validation import validate_params

__all__ = [
    "Coordinates",
    "LogisticRegret",
    "SquaredRegret",
    "coordinates",
    "orthonormal",
    "representation_regret",
    "solve_game",
    "systematic_subsets",
    "top_eigenvectors",
    "water_filling",
]

_SMALL = np.finfo(float).eps
_MWU_ROUNDS = 1000
_POOL = 20  # random tasks that are tried for each start of a search


class Coordinates(NamedTuple):
    """``w = to_w.T @ x`` and ``x = from_w @ w``; `eigenvalues` are lam, decreasing."""

    to_w: np.ndarray
    from_w: np.ndarray
    eigenvalues: np.ndarray


def coordinates(covariance, prior):
    """Coordinates in which the covariance is the identity and the ellipsoid has its axes."""
    # Whitening correlations instead of covariances does not depend on the units.
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    keep = values > len(values) * _SMALL * max(values[-1], 1)
    values, vectors = np.sqrt(values[keep]), vectors[:, keep]
    from_w, to_w = scale[:, None] * vectors * values, vectors / values / scale[:, None]
    lam, rotation = top_eigenvectors(from_w.T @ prior @ from_w)
    lam = np.where(lam > len(lam) * _SMALL * lam[:1], lam, 0.0)
    return Coordinates(to_w @ rotation, from_w @ rotation, lam)


def orthonormal(A):
    """Orthonormal basis of the columns; zero columns where these are dependent."""
    u, s, _ = np.linalg.svd(A, full_matrices=False)
    return u * (s > max(A.shape) * _SMALL * s[0])


def top_eigenvectors(matrix, k=None):
    """Eigenvalues, decreasing, and eigenvectors whose largest entry is positive."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return values, vectors * np.where(largest < 0, -1.0, 1.0)


def water_filling(lam, r):
    """The regret of the best mixture of r of the axes, and the probability of each axis."""
    # An adversary that mixes the first l axes forces (l - r) / sum(1 / lam): the best l is theirs.
    positive = lam[lam > 0]
    b = np.zeros(len(lam))
    if len(positive) <= r:
        b[:r] = 1
        return 0.0, b
    inverse = positive[0] / positive  # no overflow at any scale
    sizes = np.arange(1, len(positive) + 1)
    forced = np.where(sizes > r, (sizes - r) / np.cumsum(inverse), 0)
    size = int(forced.argmax()) + 1
    b[:size] = 1 - forced[size - 1] * inverse[:size]
    return float(forced[size - 1] * positive[0]), np.clip(b, 0, 1)


def systematic_subsets(marginals):
    """Subsets of equal size that hold item i with probability ``marginals[i]`` (Madow).

    Returns the probabilities of the subsets, at most as many as items, and their items.
    """
    size = int(round(marginals.sum()))
    ends = np.concatenate([[0.0], np.cumsum(marginals)])
    ends *= size / ends[-1]
    breaks = np.append(np.unique(ends % 1), 1.0)
    length = np.diff(breaks)
    wide = length > 1e-13  # what is narrower is rounding
    middle = (breaks[:-1] + breaks[1:])[wide] / 2
    counts = np.floor(ends[None, :] - middle[:, None] + 1)
    subsets = np.nonzero(np.diff(counts, axis=1) > 0)[1].reshape(len(middle), size)
    return length[wide] / length[wide].sum(), subsets


def solve_game(losses, solver="linprog"):
    """Mixtures of rows (who pay) and of columns (who collect) in equilibrium, and the value."""
    top = losses.max()
    if top <= 0:
        return np.eye(len(losses))[0], np.full(losses.shape[1], 1 / losses.shape[1]), 0.0
    rows, columns = (_linear_program if solver == "linprog" else _weights)(losses / top)
    return rows, columns, float((rows @ losses).max())


def _linear_program(losses):
    k, m = losses.shape
    result = linprog(
        np.append(np.zeros(k), 1.0),
        A_ub=np.column_stack([losses.T, -np.ones(m)]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(k), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * k + [(None, None)],
        method="highs",
    )
    rows, columns = np.clip(result.x[:k], 0, None), np.clip(-result.ineqlin.marginals, 0, None)
    return rows / rows.sum(), columns / columns.sum()


def _weights(losses):
    """Multiplicative weights of both players, averaged over the rounds."""
    log_rows, log_columns = np.zeros(losses.shape[0]), np.zeros(losses.shape[1])
    step = np.sqrt(8 * np.log(max(2, *losses.shape)) / _MWU_ROUNDS)
    rows, columns = np.zeros_like(log_rows), np.zeros_like(log_columns)
    for _ in range(_MWU_ROUNDS):
        p, o = (np.exp(log - log.max()) for log in (log_rows, log_columns))
        p, o = p / p.sum(), o / o.sum()
        rows, columns = rows + p, columns + o
        log_rows, log_columns = log_rows - step * losses @ o, log_columns + step * p @ losses
    return rows / _MWU_ROUNDS, columns / _MWU_ROUNDS


class SquaredRegret:
    """Squared loss: ``g^T (I - A A^T) g``, with best responses in closed form."""

    def __init__(self, lam):
        self.lam = lam

    def losses(self, representations, tasks):
        """Regret of each representation, of shape (k, q, r), on each row of `tasks`."""
        coded = np.einsum("kqr,tq->ktr", representations, tasks)
        return np.clip((tasks**2).sum(axis=1) - (coded**2).sum(axis=2), 0, None)

    def tasks(self, representations, weights, n_tasks=1):
        """Extreme tasks against a mixture, the worst first, and the regret of the worst."""
        root = np.sqrt(self.lam)
        mean = np.einsum("k,kqr,ksr->qs", weights, representations, representations)
        values, vectors = top_eigenvectors(np.diag(self.lam) - root[:, None] * mean * root)
        values = np.clip(values, 0, None)
        return root * vectors[:, :n_tasks].T, float(values[0])

    def worst_task(self, representations, weights):
        tasks, regret = self.tasks(representations, weights)
        return tasks[0], regret

    def representation(self, tasks, weights, r):
        """The representation of least mean regret; ties are broken by the ellipsoid."""
        second = (tasks.T * weights) @ tasks
        return top_eigenvectors(second + 1e-8 * np.diag(self.lam), r)[1]


class LogisticRegret:
    """Cross-entropy of labels that are 1 with probability ``expit(g^T w)``, on rows of w.

    The regret is the mean Kullback-Leibler divergence from the labels' law to the best
    ``expit(q^T A^T w)``. At the best q its gradients need no derivative of q.
    """

    def __init__(self, W, lam, max_iter=30, learning_rate=0.3, n_restarts=3, seed=0):
        self.W = W
        self.lam = lam
        self.squared = SquaredRegret(lam)
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.n_restarts = n_restarts
        pool = np.random.default_rng(seed).standard_normal((_POOL * n_restarts, len(lam)))
        self.pool = pool / np.linalg.norm(pool, axis=1, keepdims=True)

    def losses(self, representations, tasks):
        """Regret of each representation on each row of `tasks`."""
        return np.array([self._fit(A, tasks)[0] for A in representations])

    def _fit(self, A, tasks):
        """Regrets, logits of the tasks, and predictors, one a column."""
        Z, logits = self.W @ A, self.W @ tasks.T
        Q = fit_logistic(Z, expit(logits))
        return divergence(logits, Z @ Q).mean(axis=0), logits, Q

    def _climb(self, representations, weights, tasks):
        """Mean regrets of tasks, and their gradients."""
        value, gradient = 0.0, 0.0
        for A, weight in zip(representations, weights):
            regret, logits, Q = self._fit(A, tasks)
            slope = expit(logits) * expit(-logits) * (logits - self.W @ A @ Q)
            value = value + weight * regret
            gradient = gradient + weight * (slope.T @ self.W) / len(self.W)
        return value, gradient

    def worst_task(self, representations, weights):
        """The worst task that projected gradient ascent from bad tasks finds."""
        used = weights > 0
        representations, weights = representations[used], weights[used]
        root = np.sqrt(self.lam)
        extreme, _ = self.squared.tasks(representations, weights, self.n_restarts)
        extreme = extreme / np.where(root > 0, root, np.inf)
        pool = np.concatenate([extreme, -extreme, self.pool])
        value, _ = self._climb(representations, weights, pool * root)
        unit = pool[np.argsort(-value)[: self.n_restarts]]
        best, best_task = -np.inf, None
        for step in range(self.max_iter):
            value, gradient = self._climb(representations, weights, unit * root)
            if value.max() > best:
                best, best_task = float(value.max()), unit[value.argmax()] * root
            unit = unit + self._step(step) * normalized(gradient * root, axis=1)
            unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1)
        return best_task, best

    def representation(self, tasks, weights, r):
        """The least mean regret that gradient descent finds from the squared loss's answer."""
        A = self.squared.representation(tasks, weights, r)
        best, best_A = np.inf, A
        for step in range(self.max_iter):
            regret, logits, Q = self._fit(A, tasks)
            if regret @ weights < best:
                best, best_A = regret @ weights, A
            error = expit(self.W @ A @ Q) - expit(logits)
            gradient = self.W.T @ (error * weights) @ Q.T
            A, _ = np.linalg.qr(A - self._step(step) * normalized(gradient))
        return best_A

    def _step(self, step):
        return self.learning_rate / np.sqrt(1 + step)


def normalized(gradient, axis=None):
    size = np.linalg.norm(gradient, axis=axis, keepdims=True)
    return gradient / np.where(size > 0, size, 1.0)


def divergence(logits, predicted):
    """Kullback-Leibler divergence between Bernoulli laws given by their logits."""
    gain = log_expit(logits) - log_expit(predicted)
    loss = log_expit(-logits) - log_expit(-predicted)
    return expit(logits) * gain + expit(-logits) * loss


def fit_logistic(Z, targets, n_iter=25, ridge=1e-6, tol=1e-9):
    """Logistic regressions on soft labels, one a column of `targets`, by safe Newton steps."""
    # A step of the curvature bound always descends; Newton's is taken where it descends more.
    (n, r), t = Z.shape, targets.shape[1]
    products = (Z[:, :, None] * Z[:, None, :]).reshape(n, r * r) / n
    bound = np.linalg.inv(Z.T @ Z / (4 * n) + ridge * np.eye(r))
    Q = np.zeros((r, t), dtype=Z.dtype)
    for _ in range(n_iter):
        predicted = expit(Z @ Q)
        gradient = Z.T @ (targets - predicted) / n - ridge * Q
        if np.abs(gradient).max() <= tol:
            break
        curvature = ((predicted * (1 - predicted)).T @ products).reshape(t, r, r)
        steps = np.linalg.solve(curvature + ridge * np.eye(r), gradient.T[:, :, None])
        newton, safe = Q + steps[:, :, 0].T, Q + bound @ gradient
        losses = (_cross_entropy(Z, targets, q, ridge) for q in (newton, safe))
        Q = np.where(np.less(*losses), newton, safe)
    return Q


def _cross_entropy(Z, targets, Q, ridge):
    logits = Z @ Q
    fit = targets * log_expit(logits) + (1 - targets) * log_expit(-logits)
    return ridge * (Q**2).sum(axis=0) / 2 - fit.mean(axis=0)


@validate_params(
    {
        "R": ["array-like"],
        "Sigma": ["array-like"],
        "S": ["array-like"],
        "weights": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def representation_regret(R, Sigma, S, weights=None):
    """Worst-case regret of a linear representation, or of a mixture, over an ellipsoid of tasks.

    Parameters
    ----------
    R : array-like of shape ([n_representations,] n_features, n_components)
        Codes are ``R^T x``.
    Sigma : array-like of shape (n_features, n_features)
        Covariance of the features.
    S : array-like of shape (n_features, n_features)
        Tasks are ``y = f^T x + noise`` with ``f^T S^-1 f <= 1``.
    weights : array-like of shape (n_representations,), default=None
        Probabilities of the representations; None makes them equal.

    Returns
    -------
    regret : float
        How much more the squared error of the best linear predictor from codes is than that of
        the best from features, on the worst task, on average over representations.

    References
    ----------
    .. [1] D. Uzan, N. Weinberger, "A representation-learning game for classes of prediction
       tasks", ICLR 2024, :arxiv:`2403.06971`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import representation_regret
    >>> R, Sigma = np.eye(3)[:, :1], np.diag([3.0, 2.0, 1.0])
    >>> round(representation_regret(R, Sigma, np.eye(3)), 6)
    2.0
    """
    R = check_array(R, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name="R")
    R = R[None] if R.ndim == 2 else R
    Sigma = check_array(Sigma, dtype=np.float64, input_name="Sigma")
    S = check_array(S, dtype=np.float64, input_name="S")
    d = len(Sigma)
    if R.ndim != 3 or R.shape[1] != d or Sigma.shape != (d, d) or S.shape != (d, d):
        raise ValueError(
            "R must have as many rows as Sigma, and Sigma and S must be square and of one shape; "
            f"got {R.shape[-2:]}, {Sigma.shape} and {S.shape}"
        )
    weights = np.full(len(R), 1 / len(R)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (len(R),) or (weights < 0).any() or not np.isclose(weights.sum(), 1):
        raise ValueError("weights must be probabilities, one a representation")
    there = coordinates(Sigma, S)
    atoms = np.array([orthonormal(there.from_w.T @ columns) for columns in R])
    return SquaredRegret(there.eigenvalues).worst_task(atoms, weights)[1]
