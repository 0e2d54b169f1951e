"""A linear model in a convex set, as a problem of the Frank-Wolfe loop."""

import functools

import numpy as np
from scipy import sparse

from ._frank_wolfe_steps import ActiveSet

__all__ = ["LinearProblem"]

_REFRESH = 50  # steps after which the margins are computed anew
_NEWTON_STEPS = 50
_INTERCEPT_TOL = 1e-12


class LinearProblem:
    """``loss(X w' + b) + alpha / 2 |w|^2`` over w in a set and any b, which is always optimal.

    The margins of the rows are kept, and those of a direction computed once: a trial step costs
    O(n_samples), and a vertex with few entries that are not zero only their columns of X.
    """

    def __init__(self, X, loss, oracle, alpha, fit_intercept, n_outputs, away):
        self.X = X.tocsc() if sparse.issparse(X) else X
        self.loss, self.oracle, self.alpha = loss, oracle, alpha
        self.fit_intercept, self.away = fit_intercept, away
        squares = X.multiply(X).sum(axis=1) if sparse.issparse(X) else (X**2).sum(axis=1)
        self.largest_row = float(np.sqrt(squares.max()))
        self.intercept = np.zeros(n_outputs)
        self.active, self.n_moves = None, 0
        self.x = np.zeros((n_outputs, X.shape[1]))
        self._recompute()

    def start(self, x=None, active=None):
        """Start at a point, or at the vertex that the gradient at zero points to."""
        self.x = self.oracle(self.gradient()) if x is None else x
        if self.away:
            self.active = ActiveSet(self.x) if active is None else active
        self._recompute()
        return self

    def gradient(self):
        slopes = self.loss.gradient(self.margins + self.intercept)
        return (self.X.T @ slopes).T + self.alpha * self.x

    def line(self, away):
        gradient = self.gradient()
        vertex = self.oracle(gradient)
        gap = -float(np.sum(gradient * (vertex - self.x)))
        if away:
            place, gamma_max = self.active.away(gradient)
            descent = float(np.sum(gradient * (self.active.atoms[place] - self.x)))
            if descent > gap:
                return LinearLine(
                    self, self.active.atoms[place], -1.0, gap, descent, gamma_max, place
                )
        return LinearLine(self, vertex, 1.0, gap, gap, 1.0)

    def margins_of(self, atom):
        """``X atom'``, by the columns that matter."""
        columns = np.flatnonzero(atom.any(axis=0))
        if len(columns) == 1 and sparse.issparse(self.X):
            margins, (column,) = np.zeros((self.X.shape[0], 1)), columns
            part = slice(self.X.indptr[column], self.X.indptr[column + 1])
            margins[self.X.indices[part], 0] = self.X.data[part]
            return margins * atom[:, column]
        if 8 * len(columns) > atom.shape[1]:
            return self.X @ atom.T
        return self.X[:, columns] @ atom[:, columns].T

    def value(self, margins, squared_norm):
        return self.loss.value(margins + self.intercept) + self.alpha / 2 * squared_norm

    def move(self, line, gamma):
        self.fun = line.value(gamma)
        self.x = self.x + gamma * line.direction
        self.margins = self.margins + gamma * line.margins
        if self.active is not None:
            self.active.move(line, gamma)
            self.x = self.active.point()  # free of the rounding errors of many steps
        self.n_moves += 1
        if self.n_moves % _REFRESH == 0:
            self._recompute()
        elif self.fit_intercept:
            self._solve_intercept()

    def _recompute(self):
        self.margins = self.margins_of(self.x)
        self.fun = self.value(self.margins, float(np.sum(self.x**2)))
        if self.fit_intercept:
            self._solve_intercept()

    def _solve_intercept(self):
        """Newton steps, halved where they raise the objective."""
        for _ in range(_NEWTON_STEPS):
            margins = self.margins + self.intercept
            gradient = self.loss.gradient(margins).sum(axis=0)
            if np.abs(gradient).max() <= _INTERCEPT_TOL:
                return
            hessian = self.loss.intercept_hessian(margins)
            hessian = hessian + 1e-12 * np.eye(len(hessian))  # saturated margins have none
            if not self._descend(np.linalg.solve(hessian, gradient)):
                return

    def _descend(self, step):
        """Take a step of the intercept that lowers the objective, if there is one."""
        start, norm = self.intercept, float(np.sum(self.x**2))
        for _ in range(_NEWTON_STEPS):
            self.intercept = start - step
            fun = self.value(self.margins, norm)
            if fun < self.fun:
                self.fun = fun
                return True
            step = step / 2
        self.intercept = start
        return False


class LinearLine:
    """A direction towards an atom (`sign` 1) or away from it (-1)."""

    def __init__(self, problem, atom, sign, gap, descent, gamma_max, place=None):
        self.problem, self.atom, self.place = problem, atom, place
        self.gap, self.descent, self.gamma_max, self.fun = gap, descent, gamma_max, problem.fun
        self.direction = sign * (atom - problem.x)
        self.sign = sign
        self.squared_norm = float(np.sum(self.direction**2))
        self.product = float(np.sum(self.direction * problem.x))
        self.start_norm = float(np.sum(problem.x**2))

    @functools.cached_property
    def margins(self):
        return self.sign * (self.problem.margins_of(self.atom) - self.problem.margins)

    @property
    def concordance(self):
        return self.problem.loss.concordance(self.problem.largest_row)

    def value(self, gamma):
        norm = self.start_norm + 2 * gamma * self.product + gamma**2 * self.squared_norm
        return self.problem.value(self.problem.margins + gamma * self.margins, norm)

    def slope(self, gamma):
        margins = self.problem.margins + gamma * self.margins + self.problem.intercept
        penalty = self.problem.alpha * (self.product + gamma * self.squared_norm)
        return float(np.sum(self.problem.loss.gradient(margins) * self.margins)) + penalty

    def curvature(self):
        margins = self.problem.margins + self.problem.intercept
        curvature = self.problem.loss.curvature(margins, self.margins)
        return curvature + self.problem.alpha * self.squared_norm
