"""Rejectors: what they see, how they are trained, and where their thresholds are."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.special
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from ._rejection_losses import coverage_risk_curve

EXP_LIMIT = 15.0  # beyond it the exponentials of the training loss go on as straight lines

_N_SCORES = 3  # the largest probabilities, as features
_LEAST_PROBABILITY = 1e-12  # whose logarithm is taken


@dataclass(frozen=True)
class LinearRejector:
    """Accepts where a linear function is positive."""

    coef_: np.ndarray
    intercept_: float
    n_iter_: int = 0

    def decision_function(self, Z):
        """Value of the function at each row."""
        return Z @ self.coef_ + self.intercept_


def best_constant(rate, cost, alpha, beta):
    """The constant that minimises the surrogate where a share `rate` is wrong."""
    return np.log(2 * beta * cost / (alpha * rate)) / (alpha / 2 + beta)


def fit_linear(Z, error, weight, cost, alpha, beta, l2, max_iter, start=None):
    """Minimise the mean surrogate plus l2 / 2 times the squared coefficients."""
    weight = weight / weight.sum()
    if start is None:
        start = np.zeros(Z.shape[1] + 1)
        start[-1] = best_constant(weight @ error, cost, alpha, beta)
    result = minimize(
        linear_objective,
        start,
        args=(Z, weight * error, weight * cost, alpha / 2, beta, l2),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "gtol": 1e-7, "ftol": 1e-12, "maxfun": 20 * max_iter},
    )
    if result.nit >= max_iter:
        warnings.warn(
            f"max_iter={max_iter} ended before the rejector converged: raise max_iter or l2",
            ConvergenceWarning,
        )
    return LinearRejector(result.x[:-1], float(result.x[-1]), int(result.nit))


def linear_objective(theta, Z, wrong, reject, up, down, l2):
    """Regularised surrogate of a linear rejector, with its gradient."""
    coef, r = theta[:-1], Z @ theta[:-1] + theta[-1]
    rise, rise_slope = exp_linear(up * r)
    fall, fall_slope = exp_linear(-down * r)
    slope = up * wrong * rise_slope - down * reject * fall_slope
    value = wrong @ rise + reject @ fall + l2 / 2 * coef @ coef
    return value, np.append(Z.T @ slope + l2 * coef, slope.sum())


def exp_linear(t):
    """exp(t), from `EXP_LIMIT` on its tangent, and the slope: convex, and never an overflow."""
    slope = np.exp(np.minimum(t, EXP_LIMIT))
    return slope * (1 + np.maximum(t - EXP_LIMIT, 0)), slope


def confidence_scores(model, rows):
    """What the predictor says of its own confidence, a column or more."""
    if hasattr(model, "predict_proba"):
        probabilities = np.maximum(model.predict_proba(rows), _LEAST_PROBABILITY)
        return np.sort(np.log(probabilities, dtype=np.float64), axis=1)[:, : -_N_SCORES - 1 : -1]
    if hasattr(model, "decision_function"):
        values = np.asarray(model.decision_function(rows), dtype=np.float64)
        if values.ndim == 1:
            return np.abs(values)[:, None]
        return np.sort(values, axis=1)[:, : -_N_SCORES - 1 : -1]
    return np.asarray(model.predict(rows), dtype=np.float64).reshape(-1, 1)


def fitting_columns(scores, n_columns):
    """As many columns as other folds have, where a class is missing from this one."""
    missing = n_columns - scores.shape[1]
    if missing <= 0:
        return scores[:, :n_columns]
    return np.pad(scores, ((0, 0), (0, missing)), constant_values=np.log(_LEAST_PROBABILITY))


def fit_classifier(model, Z, error, weight, cost):
    """Minimise error * log(1 + exp(r)) + cost * log(1 + exp(-r)): a row counts for both sides."""
    wrong = np.flatnonzero(error)
    rows = np.concatenate([Z, Z[wrong]])
    side = np.repeat([1, 0], [len(Z), len(wrong)])
    return model.fit(
        rows, side, sample_weight=np.concatenate([weight * cost, (weight * error)[wrong]])
    )


def outputs(model, Z):
    """Output of a rejector: positive to accept."""
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(Z), dtype=np.float64)
    return scipy.special.logit(model.predict_proba(Z)[:, 1].astype(np.float64))


def coverage_threshold(error, r, weight, target):
    """Threshold above which a share `target` of the rows lies."""
    coverage, _, values = coverage_risk_curve(error, r, sample_weight=weight)
    return below(values, np.argmin(np.abs(coverage - target)))


def error_threshold(error, r, weight, target):
    """Lowest threshold above which the error is at most `target`."""
    _, risk, values = coverage_risk_curve(error, r, sample_weight=weight)
    good = np.flatnonzero(risk <= target)
    if good.size == 0:
        warnings.warn(f"no threshold reaches an error of target={target}: nothing is accepted")
        return float(values[0])
    return below(values, good[-1])


def below(values, last):
    """Half-way between the last of the decreasing values to accept and the next."""
    if last + 1 == len(values):
        return -np.inf
    return float((values[last] + values[last + 1]) / 2)
