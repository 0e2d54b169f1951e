"""Least squares with an l1 penalty and bounds, by coordinate descent on an active set."""

import numpy as np


def minimize_box_lasso(A, penalty, lower, upper, start, tolerance, max_iter):
    """Minimise ``||A z||^2 + penalty @ |z|`` over ``lower <= z <= upper``.

    Returns z, the number of sweeps, and whether each optimality condition holds to `tolerance`.
    """
    z = np.clip(start, lower, upper)
    active, n_iter = z != 0, 0
    while True:
        index = np.flatnonzero(active)
        gradient = 2 * A.T @ (A[:, index] @ z[index])
        violation = violations(z, gradient, penalty, lower, upper) / tolerance
        if violation.max() <= 1 or n_iter >= max_iter:
            return z, n_iter, violation.max() <= 1
        worst = np.argsort(-violation, kind="stable")[: max(100, len(index))]
        active[worst[violation[worst] > 1]] = True
        index = np.flatnonzero(active)
        part = (v[index] for v in (z, penalty, lower, upper, tolerance))
        z[index], n_sweeps = _descend(A[:, index].T @ A[:, index], *part, max_iter - n_iter)
        n_iter += n_sweeps


def violations(z, gradient, penalty, lower, upper):
    """Steepest descent that each coordinate allows: 0 where it is optimal."""
    up = np.where(z < upper, -gradient - np.where(z >= 0, penalty, -penalty), 0.0)
    down = np.where(z > lower, gradient - np.where(z <= 0, penalty, -penalty), 0.0)
    return np.maximum(0.0, np.maximum(up, down))


def _descend(G, z, penalty, lower, upper, tolerance, max_sweeps):
    """Coordinate descent on the Gram matrix; each sweep ends with a step on its support."""
    z = z.copy()
    curvature = 2 * np.diag(G)
    movable = np.flatnonzero((lower < upper) & (curvature > 0))
    for sweep in range(1, max_sweeps + 1):
        gradient = 2 * G @ z
        for j in movable:
            target = z[j] - gradient[j] / curvature[j]
            shrunk = max(abs(target) - penalty[j] / curvature[j], 0.0)
            new = min(max(shrunk if target > 0 else -shrunk, lower[j]), upper[j])
            if new != z[j]:
                gradient += (2 * (new - z[j])) * G[j]
                z[j] = new
        z += _support_step(G, z, penalty, lower, upper)
        if np.all(violations(z, 2 * G @ z, penalty, lower, upper) <= 0.5 * tolerance):
            return z, sweep
    return z, max_sweeps


def _support_step(G, z, penalty, lower, upper):
    """Newton step on the coordinates off their bounds and kinks, as far as none reaches one."""
    free = np.flatnonzero((z > lower) & (z < upper) & (z != 0))
    step = np.zeros_like(z)
    if len(free) == 0:
        return step
    slope = (2 * G @ z + penalty * np.sign(z))[free]
    d, *_ = np.linalg.lstsq(2 * G[np.ix_(free, free)], -slope)
    here, kink = z[free], np.where(penalty[free] > 0, 0.0, np.inf)
    limit = np.where(d > 0, upper[free], lower[free])
    limit = np.where((here * d < 0) & (kink == 0), 0.0, limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(d != 0, (limit - here) / d, np.inf)
    step[free] = min(1.0, reach.min()) * d
    return step
