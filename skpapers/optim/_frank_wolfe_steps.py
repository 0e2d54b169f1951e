"""The Frank-Wolfe loop, its step rules and its active set, whatever the objective is made of.

A problem knows its point, and offers

- ``line(away)``: a :class:`Line` from the point, towards the vertex of the linear oracle, or,
  where there is an active set and that is steeper, away from one of its atoms;
- ``move(line, gamma)``: go there.

A line offers ``fun``, ``gap`` (the duality gap at its start), ``descent`` (minus its slope there),
``squared_norm`` of its direction, ``gamma_max``, ``value(gamma)`` (infinite outside the domain),
``slope(gamma)``, ``curvature()`` (the quadratic form of the Hessian at its start),
``concordance`` (the constants M and nu), its ``atom`` and, where that is left, its ``place``.
"""

import math

import numpy as np
from sklearn.externals.array_api_compat import array_namespace, device, to_device

__all__ = ["STEPS", "ActiveSet", "minimize", "open_loop_step", "second_order_step"]

_FLAT = 1e-10  # decreases below this share of |f| drown in rounding
_LAST_HALVING = 1e-16  # share of a direction that rounding swallows


def minimize(problem, step, max_iter, tol, callback=None):
    """Run Frank-Wolfe from where the problem is.

    Returns the gap at the end, whether it is below ``tol * max(1, |f|)``, and the pairs (f, gap)
    of all iterations.
    """
    rule, line, history = STEPS[step](), None, []
    for iteration in range(max_iter):
        if line is None:  # after a null step point, vertex and gap are what they were
            line = problem.line(away=step == "away")
        history.append((line.fun, line.gap))
        converged = line.gap <= tol * max(1.0, abs(line.fun))
        stopped = callback is not None and callback(problem.x, *history[-1])
        if converged or stopped or not math.isfinite(line.gap):
            return line.gap, converged, history
        gamma = rule(line, iteration)
        if gamma <= 0 and rule.stalls:
            return line.gap, False, history
        if gamma > 0:
            problem.move(line, gamma)
            line = None
        if not math.isfinite(problem.fun):
            return math.nan, False, [*history, (problem.fun, math.nan)]
    gap = problem.line(away=False).gap if line is None else line.gap
    return gap, gap <= tol * max(1.0, abs(problem.fun)), history


def open_loop_step(iteration):
    """``2 / (t + 2)``."""
    return 2 / (iteration + 2)


class OpenLoop:
    """``2 / (t + 2)``, come what may."""

    stalls = False

    def __call__(self, line, iteration):
        return open_loop_step(iteration)


class Monotonic:
    """``2 / (t + 2)`` where that stays in the domain and does not raise f, else no step.

    The counter goes on after a null step, so that the next trial is a shorter one.
    """

    stalls = False

    def __call__(self, line, iteration):
        gamma = open_loop_step(iteration)
        return gamma if line.value(gamma) <= line.fun else 0.0


class Halving:
    """``2 / (t + 2)``, halved until f does not rise; what was halved remains so."""

    stalls = True

    def __init__(self):
        self.factor = 1.0

    def __call__(self, line, iteration):
        gamma = open_loop_step(iteration) * self.factor
        while not line.value(gamma) <= line.fun:
            self.factor /= 2
            gamma /= 2
            if gamma < _LAST_HALVING:
                return 0.0
        return gamma


class Adaptive:
    """The minimiser of a quadratic upper bound, whose curvature L is found by backtracking."""

    stalls = True
    decrease, increase = 0.9, 2.0

    def __init__(self):
        self.smoothness = None

    def __call__(self, line, iteration):
        if self.smoothness is None:  # the first trial goes all the way
            self.smoothness = line.descent / (self.decrease * line.squared_norm)
        smoothness = self.smoothness * self.decrease
        while True:
            curvature = smoothness * line.squared_norm
            gamma = min(line.descent / curvature, line.gamma_max)
            if gamma < _LAST_HALVING:
                return 0.0
            if _sufficient(line, gamma, gamma * line.descent - gamma**2 * curvature / 2):
                self.smoothness = smoothness
                return gamma
            smoothness *= self.increase


def _sufficient(line, gamma, decrease):
    """Whether f falls by `decrease`, or, where that is too little to see, still goes downhill."""
    value = line.value(gamma)
    if decrease > _FLAT * max(1.0, abs(line.fun)):
        return value <= line.fun - decrease
    return math.isfinite(value) and line.slope(gamma) <= 0


class SecondOrder:
    """The minimiser of the upper bound that generalised self-concordance gives."""

    stalls = True

    def __call__(self, line, iteration):
        M, nu = line.concordance
        gamma = second_order_step(
            line.descent, line.curvature(), math.sqrt(line.squared_norm), M, nu
        )
        return min(gamma, line.gamma_max)


def second_order_step(descent, curvature, norm, M, nu):
    """Minimise ``-descent * s + curvature / delta^2 * w(s delta)`` over s > 0.

    w(t) is exp(t) - 1 - t for nu = 2, with delta = M * norm, and -t - log(1 - t) for nu = 3, with
    delta = M / 2 * sqrt(curvature).
    """
    if curvature <= 0:
        return math.inf
    newton = descent / curvature
    if nu == 3:
        return newton / (1 + newton * M / 2 * math.sqrt(curvature))
    delta = M * norm
    return math.log1p(newton * delta) / delta if newton * delta > 1e-12 else newton


STEPS = {
    "monotonic": Monotonic,
    "halving": Halving,
    "open_loop": OpenLoop,
    "adaptive": Adaptive,
    "second_order": SecondOrder,
    "away": Adaptive,
}


class ActiveSet:
    """Atoms, along the first axis, and the weights with which they make the point."""

    def __init__(self, atom):
        self.xp = array_namespace(atom)
        self.atoms, self.weights = atom[None], np.ones(1)

    def point(self):
        """The weighted sum."""
        weights = self.xp.asarray(self.weights, dtype=self.atoms.dtype)
        weights = to_device(weights, device(self.atoms))
        return self.xp.reshape(weights @ self._rows(), self.atoms.shape[1:])

    def away(self, gradient):
        """Place of the atom that is furthest up the gradient, and the longest step from it."""
        place = int(self.xp.argmax(self._rows() @ self.xp.reshape(gradient, (-1,))))
        weight = self.weights[place]
        return place, (weight / (1 - weight) if weight < 1 else math.inf)

    def move(self, line, gamma):
        """Follow a step towards a vertex or away from an atom."""
        if line.place is None:
            self._towards(line.atom, gamma)
        else:
            self._away_from(line.place, gamma, line.gamma_max)

    def _towards(self, vertex, gamma):
        if gamma >= 1:
            self.atoms, self.weights = vertex[None], np.ones(1)
            return
        self.weights *= 1 - gamma
        same = self.xp.all(self._rows() == self.xp.reshape(vertex, (-1,)), axis=1)
        place = int(self.xp.argmax(self.xp.where(same, 1, 0)))
        if bool(same[place]):
            self.weights[place] += gamma
        else:
            self.atoms = self.xp.concat([self.atoms, vertex[None]])
            self.weights = np.append(self.weights, gamma)

    def _away_from(self, place, gamma, gamma_max):
        self.weights *= 1 + gamma
        self.weights[place] -= gamma
        if gamma >= gamma_max:
            parts = [self.atoms[:place], self.atoms[place + 1 :]]
            self.atoms, self.weights = self.xp.concat(parts), np.delete(self.weights, place)
            self.weights /= self.weights.sum()

    def _rows(self):
        return self.xp.reshape(self.atoms, (self.atoms.shape[0], -1))
