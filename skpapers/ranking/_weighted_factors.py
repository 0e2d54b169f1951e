"""Predictors of ratings: matrix factorisation and linear models with weights and soft labels."""

import warnings

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from ._balancing_solvers import pair_logits


def losses(scores, targets, loss):
    """Loss of each score, and its derivative; soft labels may be outside [0, 1]."""
    if loss == "squared":
        return (scores - targets) ** 2, 2 * (scores - targets)
    return np.logaddexp(0, scores) - targets * scores, expit(scores) - targets


def start_value(targets, weights, loss):
    """The constant with the least loss; frequencies are kept from 0 and 1."""
    mean = weights @ targets / weights.sum()
    return mean if loss == "squared" else logit(np.clip(mean, 1e-3, 1 - 1e-3))


def fit_factors(u, i, targets, weights, shape, *, n_components, biases, loss, reg, max_iter, rng):
    """Factors of users and items, biases in their last columns, and a constant.

    Minimises ``sum w loss(constant + U_u V_i + b_u + c_i, y) + reg (|U|^2 + |V|^2)``, biases in
    the penalty, by L-BFGS. The constant is the best one alone; without biases it is 0 as they are.
    """
    n_users, n_items = shape
    constant = start_value(targets, weights, loss) if biases else 0.0
    cut = n_users * (n_components + 1)

    def unpack(flat):
        return flat[:cut].reshape(n_users, -1), flat[cut:].reshape(n_items, -1)

    def objective(flat):
        U, V = unpack(flat)
        value, slope = losses(constant + pair_logits(U, V, u, i), targets, loss)
        slopes = sparse.csr_array((weights * slope, (u, i)), shape=shape)
        by_user, by_item = slopes @ partners(V), slopes.T @ partners(U)
        gradient = np.concatenate([by_user.ravel(), by_item.ravel()]) + 2 * reg * flat
        return weights @ value + reg * (flat @ flat), gradient

    def partners(factors):  # what the factors of the other side and its bias are multiplied by
        return np.column_stack([factors[:, :-1], np.full(len(factors), float(biases))])

    start = 0.1 * rng.normal(size=(n_users + n_items, n_components + 1))
    start[:, -1] *= biases
    found = descend(objective, start.ravel(), max_iter)
    return (*unpack(found.x), constant, found.nit)


def descend(objective, start, max_iter):
    """Minimise by L-BFGS, with a warning if it does not converge."""
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:
        warnings.warn(
            f"Prediction did not converge in max_iter={max_iter} iterations: increase max_iter "
            "or reg.",
            ConvergenceWarning,
        )
    return found


def fit_linear(X, targets, weights, *, loss, reg, max_iter):
    """Coefficients, constant and number of iterations of a linear model with the same losses."""
    if loss == "squared":
        model = Ridge(alpha=reg).fit(X, targets, sample_weight=weights)
        return model.coef_, float(model.intercept_), 1

    def objective(flat):
        value, slope = losses(X @ flat[:-1] + flat[-1], targets, loss)
        slope = weights * slope
        gradient = np.append(X.T @ slope + 2 * reg * flat[:-1], slope.sum())
        return weights @ value + reg * (flat[:-1] @ flat[:-1]), gradient

    start = np.append(np.zeros(X.shape[1]), start_value(targets, weights, loss))
    found = descend(objective, start, max_iter)
    return found.x[:-1], float(found.x[-1]), max(found.nit, 1)
