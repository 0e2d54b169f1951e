"""Representations with the least worst-case regret over a class of prediction tasks."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.utils import check_random_state, draw_seed

from ._minimax_game import (
    LogisticRegret,
    SquaredRegret,
    solve_game,
    systematic_subsets,
    water_filling,
)
from ._representation_mixture import RepresentationMixture, prior_of_tasks

__all__ = ["GameRepresentation", "MinimaxRepresentation"]

_SHARED = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "task_prior": [None, "array-like", StrOptions({"targets"})],
    "covariance": [
        StrOptions({"empirical", "ledoit_wolf"}),
        Interval(Real, 0, None, closed="left"),
    ],
    "random_state": ["random_state"],
}


class MinimaxRepresentation(RepresentationMixture):
    """Linear codes with the least worst-case regret over an ellipsoid of future tasks.

    The tasks ahead are ``y = f^T x + noise`` with ``f^T S^-1 f <= 1``, to be learnt by least
    squares from r codes. The regret of a code is how much more is lost than from all features;
    its largest value over the ellipsoid is the smallest possible, and is known: the eigenvalue
    r + 1 of ``Sigma^1/2 S Sigma^1/2``. A code that is drawn at random, by the probabilities found
    here, has a smaller expected regret on every task.

    Parameters
    ----------
    n_components : int, default=2
        Number of codes; at most the rank of the covariance is used.
    task_prior : array-like of shape (n_features,) or (n_features, n_features), "targets" or \
            None, default=None
        S, or its diagonal, in squared units of coefficients; None is the identity, for which the
        codes are those of PCA. "targets" estimates S from past tasks: the columns of y.
    strategy : {"pure", "mixed"}, default="pure"
        One representation, or the best mixture of them.
    covariance : {"empirical", "ledoit_wolf"} or float, default="empirical"
        Estimate of Sigma; a float adds so many mean variances to the diagonal.
    random_state : int, RandomState instance or None, default=None
        Seed of the representation that is drawn from a mixture.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        ``R^T`` of the representation that gives the codes.
    n_components_ : int
        Number of codes.
    mean_ : ndarray of shape (n_features,)
        Means of the features.
    eigenvalues_ : ndarray of shape (rank,)
        Eigenvalues of ``Sigma^1/2 S Sigma^1/2``, decreasing, on the range of Sigma.
    regret_ : float
        The guarantee: the largest expected regret over the ellipsoid, in squared units of y.
    mixture_components_ : ndarray of shape (n_representations, n_components_, n_features)
        The representations of the mixture; one for "pure".
    mixture_weights_ : ndarray of shape (n_representations,)
        Their probabilities.
    marginals_ : ndarray of shape (rank,)
        Probability with which each eigenvector is part of the representation.
    representation_index_ : int
        Which representation was drawn.
    worst_task_ : ndarray of shape (n_features,)
        A task of the ellipsoid on which the expected regret is `regret_`.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If X has no variance, `task_prior` is not positive semidefinite, or "targets" has no y.

    See Also
    --------
    sklearn.decomposition.PCA : The case of the identity as `task_prior`.
    GameRepresentation : Other losses, and finite classes of tasks.

    Notes
    -----
    The cost is O(n_samples n_features**2 + n_features**3); the mixture has at most n_features
    representations. A mixture is neither a concatenation nor an average of codes: one
    representation is drawn, and its index is known to who predicts from the codes. Codes are
    uncorrelated with unit variance. Where the covariance has not full rank, all is on its range.
    A y of any kind is ignored unless `task_prior` is "targets", where each column is a task.

    References
    ----------
    .. [1] D. Uzan, N. Weinberger, "A representation-learning game for classes of prediction
       tasks", ICLR 2024, :arxiv:`2403.06971`, theorems 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import MinimaxRepresentation
    >>> X = np.vstack([np.eye(4), -np.eye(4)]) * 2
    >>> pure = MinimaxRepresentation(2).fit(X)
    >>> mixed = MinimaxRepresentation(2, strategy="mixed", random_state=0).fit(X)
    >>> round(pure.regret_, 6), round(mixed.regret_, 6)
    (1.0, 0.5)
    """

    _parameter_constraints = {**_SHARED, "strategy": [StrOptions({"pure", "mixed"})]}

    _search_space = {
        "n_components": [1, 2, 3, 5],
        "strategy": ["pure", "mixed"],
        "covariance": ["empirical", "ledoit_wolf"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        task_prior=None,
        strategy="pure",
        covariance="empirical",
        random_state=None,
    ):
        self.n_components = n_components
        self.task_prior = task_prior
        self.strategy = strategy
        self.covariance = covariance
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the representation, or the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Targets of past tasks, for `task_prior` "targets"; else ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        self._prepare(X, y)
        lam, r = self.eigenvalues_, self.n_components_
        self._game = SquaredRegret(lam)
        if self.strategy == "mixed":
            self.regret_, self.marginals_ = water_filling(lam, r)
        else:
            self.regret_ = float(lam[r]) if r < len(lam) else 0.0
            self.marginals_ = (np.arange(len(lam)) < r).astype(float)
        weights, subsets = systematic_subsets(self.marginals_)
        self._store(np.eye(len(lam))[:, subsets].swapaxes(0, 1), weights)
        self.worst_task_ = self._worst_task()
        return self

    def _worst_task(self):
        """The task along the first axis on which the expected regret is largest."""
        axis = np.argmax(np.round(self.eigenvalues_ * (1 - self.marginals_) / self._top(), 12))
        lam = self.eigenvalues_[axis]
        if self.regret_ == 0:
            return np.zeros_like(self.mean_)
        return self._prior @ self._coordinates.from_w[:, axis] / np.sqrt(lam)

    def _top(self):
        return max(self.eigenvalues_[0], np.finfo(float).tiny)

    def _worst_case(self, atoms, X, there):
        return SquaredRegret(there.eigenvalues).worst_task(atoms, self.mixture_weights_)[1]


class GameRepresentation(RepresentationMixture):
    """Linear codes from the game between who codes and who picks the prediction task.

    Representations and tasks are added in turn, each a best response to the equilibrium of
    those so far; the finite game between them is solved exactly. The result is a mixture of
    representations with a small expected regret on every task of the class, for losses and
    classes without a closed form.

    Parameters
    ----------
    n_components : int, default=2
        Number of codes; at most the rank of the covariance is used.
    n_representations : int, default=10
        Number of representations that are tried: those with a probability of zero are dropped.
    loss : {"squared", "logistic"}, default="squared"
        Loss of predictions: the squared error for ``y = f^T x + noise``, or the cross-entropy for
        labels that are 1 with probability ``1 / (1 + exp(-f^T x))``.
    task_class : "ellipsoid" or array-like of shape (n_tasks, n_features), default="ellipsoid"
        All f with ``f^T S^-1 f <= 1``, or given ones.
    task_prior : array-like of shape (n_features,) or (n_features, n_features), "targets" or \
            None, default=None
        S of the ellipsoid, as for `MinimaxRepresentation`.
    covariance : {"empirical", "ledoit_wolf"} or float, default="empirical"
        Estimate of the covariance; a float adds so many mean variances to the diagonal.
    solver : {"linprog", "mwu"}, default="linprog"
        How finite games are solved: linear programming, or multiplicative weights.
    max_iter : int, default=30
        Gradient steps of each best response for the loss "logistic".
    learning_rate : float, default=0.3
        Length of the first of these steps, in whitened coordinates; later ones shrink.
    n_restarts : int, default=3
        Number of tasks from which the search for the worst starts, for "logistic": the worst of
        twenty times as many random ones, and of those that are extreme for the squared loss.
    max_samples : int, default=1000
        Number of rows, drawn at random, over which "logistic" averages, in `fit` and `score`.
    tol : float, default=1e-4
        The game ends when `regret_` exceeds `value_` by at most this share.
    random_state : int, RandomState instance or None, default=None
        Seed of the first tasks, of the rows, and of the representation that gives the codes.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        ``R^T`` of the representation that gives the codes.
    n_components_ : int
        Number of codes.
    mean_ : ndarray of shape (n_features,)
        Means of the features.
    eigenvalues_ : ndarray of shape (rank,)
        Eigenvalues of ``Sigma^1/2 S Sigma^1/2``, decreasing, on the range of Sigma.
    regret_ : float
        Largest expected regret of the mixture; for "logistic" the largest that was found.
    value_ : float
        Regret that `tasks_`, drawn by their probabilities, force on every representation (for
        "logistic", on all that were found): `regret_` is at most `regret_` - `value_` too large.
    mixture_components_ : ndarray of shape (n_kept, n_components_, n_features)
        The representations of the mixture.
    mixture_weights_ : ndarray of shape (n_kept,)
        Their probabilities.
    representation_index_ : int
        Which representation was drawn.
    tasks_ : ndarray of shape (n_tasks_kept, n_features)
        The least favourable tasks.
    task_weights_ : ndarray of shape (n_tasks_kept,)
        Their probabilities.
    n_iter_ : int
        Number of representations tried.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If X has no variance, or tasks do not fit its columns.

    See Also
    --------
    MinimaxRepresentation : The closed form for the squared loss and an ellipsoid.

    Notes
    -----
    Best responses for the squared loss are eigenvectors, and `regret_` is exact: O(n_features**3)
    a representation after the covariance. For "logistic" they are gradient steps on
    representations and tasks, with predictors fitted by Newton's method: O(n_representations
    max_iter n_restarts max_samples n_components**2) for each of the n_representations, and
    `regret_` is a lower bound of the true worst case. Features are whitened first, which no
    regret depends on. Representations and predictors are linear; the paper's networks are not
    offered. A y of any kind is ignored unless `task_prior` is "targets".

    References
    ----------
    .. [1] D. Uzan, N. Weinberger, "A representation-learning game for classes of prediction
       tasks", ICLR 2024, :arxiv:`2403.06971`, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import GameRepresentation
    >>> X = np.vstack([np.eye(4), -np.eye(4)]) * 2
    >>> game = GameRepresentation(2, n_representations=20, random_state=0).fit(X)
    >>> bool(game.regret_ < 0.55)  # one representation: 1, all mixtures: 0.5
    True
    """

    _parameter_constraints = {
        **_SHARED,
        "n_representations": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions({"squared", "logistic"})],
        "task_class": [StrOptions({"ellipsoid"}), "array-like"],
        "solver": [StrOptions({"linprog", "mwu"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    _search_space = {
        "n_components": [1, 2, 3, 5],
        "n_representations": [5, 10, 20],
        "covariance": ["empirical", "ledoit_wolf"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        n_representations=10,
        loss="squared",
        task_class="ellipsoid",
        task_prior=None,
        covariance="empirical",
        solver="linprog",
        max_iter=30,
        learning_rate=0.3,
        n_restarts=3,
        max_samples=1000,
        tol=1e-4,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_representations = n_representations
        self.loss = loss
        self.task_class = task_class
        self.task_prior = task_prior
        self.covariance = covariance
        self.solver = solver
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.n_restarts = n_restarts
        self.max_samples = max_samples
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Play the game.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Targets of past tasks, for `task_prior` "targets"; else ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = self._prepare(X, y)
        self._seed = draw_seed(check_random_state(self.random_state))
        rng = check_random_state(self._seed)
        self._game = self._make_game(X, self._coordinates, rng)
        self._play(rng)
        return self

    def _task_prior(self, X, y):
        self._given = None
        if isinstance(self.task_class, str):
            return super()._task_prior(X, y)
        self._given = check_array(self.task_class, dtype=np.float64, input_name="task_class")
        if self._given.shape[1] != X.shape[1]:
            raise ValueError(
                f"task_class must have {X.shape[1]} columns, got {self._given.shape[1]}"
            )
        return prior_of_tasks(self._given)

    def _make_game(self, X, there, rng):
        if self.loss == "squared":
            return SquaredRegret(there.eigenvalues)
        chosen = rng.choice(len(X), min(self.max_samples, len(X)), replace=False)
        W = self._centred(X[chosen]) @ there.to_w
        options = (self.max_iter, self.learning_rate, self.n_restarts, self._seed)
        return LogisticRegret(W, there.eigenvalues, *options)

    def _play(self, rng):
        """Add best responses in turn; keep the mixtures that guarantee most to either player."""
        game, r = self._game, self.n_components_
        tasks = self._first_tasks(rng)
        o = np.full(len(tasks), 1 / len(tasks))
        atoms = game.representation(tasks, o, r)[None]
        losses = game.losses(atoms, tasks)
        self.regret_, self.value_, hard = np.inf, float(losses[0] @ o), (tasks, o)
        for n_iter in range(1, self.n_representations + 1):
            p, _, _ = solve_game(losses, self.solver)
            task, regret = self._worst(game, atoms, p, self._coordinates)
            if regret < self.regret_:
                self.regret_, kept, weights = regret, atoms[p > 0], p[p > 0]
            closed = self.regret_ - self.value_ <= self.tol * self.regret_
            if closed or n_iter == self.n_representations:
                break
            tasks = np.concatenate([tasks, task[None]])
            losses = np.column_stack([losses, game.losses(atoms, task[None])])
            _, o, _ = solve_game(losses, self.solver)
            atom = game.representation(tasks, o, r)[None]
            atoms = np.concatenate([atoms, atom])
            losses = np.concatenate([losses, game.losses(atom, tasks)])
            if losses[-1] @ o > self.value_:
                self.value_, hard = float(losses[-1] @ o), (tasks, o)
        self.n_iter_ = n_iter
        self._store(kept, weights)
        self._store_tasks(*hard)

    def _first_tasks(self, rng):
        """As many tasks as codes: given ones, or random ones on the ellipsoid."""
        lam, r = self.eigenvalues_, self.n_components_
        if self._given is not None:
            chosen = rng.choice(len(self._given), min(r, len(self._given)), replace=False)
            return self._given[chosen] @ self._coordinates.from_w
        unit = rng.standard_normal((r, len(lam)))
        return np.sqrt(lam) * unit / np.linalg.norm(unit, axis=1, keepdims=True)

    def _worst(self, game, atoms, weights, there):
        """The worst task of the class against a mixture, and its expected regret."""
        if self._given is None:
            return game.worst_task(atoms, weights)
        tasks = self._given @ there.from_w
        regrets = weights @ game.losses(atoms, tasks)
        return tasks[regrets.argmax()], float(regrets.max())

    def _store_tasks(self, tasks, weights):
        """Tasks of positive probability, as coefficients of the features."""
        lam = self.eigenvalues_
        scaled = tasks[weights > 0] / np.where(lam > 0, lam, np.inf)
        self.tasks_ = scaled @ (self._prior @ self._coordinates.from_w).T
        self.task_weights_ = weights[weights > 0]

    def _worst_case(self, atoms, X, there):
        game = self._make_game(X, there, check_random_state(self._seed))
        return self._worst(game, atoms, self.mixture_weights_, there)[1]
