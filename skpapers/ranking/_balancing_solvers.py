"""Weights under which the observed rows have the means of all, for chosen functions."""

import warnings

import numpy as np
from scipy import linalg
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from sklearn.exceptions import ConvergenceWarning

WITNESS_RIDGE = 1e-3
ERROR_RIDGE = 1e-5
_GRADIENT = 1e-8  # projected, at a minimum
_STARTS = 4
_DUALITY_GAP = 1e-2  # relative, beyond which the weights are not the optimum


def dual_weights(values, targets, base, tol, strength, start=None, max_iter=5000):
    """Weights nearest to `base` whose means of functions are within `tol` of given ones.

    Minimises over the simplex ``sum p log(p / base) + strength sum_j max(0, |gap_j| - tol)``, by
    its dual, whose variables, one a function, are within ``[-strength, strength]``.

    Parameters
    ----------
    values : ndarray of shape (n_observed, n_functions)
        Functions on the observed rows.
    targets : ndarray of shape (n_functions,)
        Their means over all rows.
    base : ndarray of shape (n_observed,)
        Positive numbers that sum to 1.
    tol, strength : float
        Gap that is allowed, and cost of more.
    start : ndarray of shape (n_started,), default=None
        Dual variables of the first functions to start from.
    max_iter : int, default=5000
        Largest number of iterations of L-BFGS-B.

    Returns
    -------
    p : ndarray of shape (n_observed,)
        The weights, which sum to 1.
    dual : ndarray of shape (n_functions,)
        The dual variables.
    """
    log_base, n_functions = np.log(base), values.shape[1]

    def negative_dual(halves):
        dual = halves[:n_functions] - halves[n_functions:]
        logits = log_base + values @ dual
        normalizer = logsumexp(logits)
        gap = targets - np.exp(logits - normalizer) @ values
        value = normalizer - dual @ targets + tol * halves.sum()
        return value, np.concatenate([tol - gap, tol + gap])

    halves = np.zeros(2 * n_functions)
    if start is not None:
        halves[: len(start)] = np.maximum(start, 0)
        halves[n_functions : n_functions + len(start)] = np.maximum(-start, 0)
    found = minimize_in_box(negative_dual, halves, strength, max_iter)
    dual = found.x[:n_functions] - found.x[n_functions:]
    logits = log_base + values @ dual
    p = np.exp(logits - logsumexp(logits))
    primal = balancing_loss(p, values, targets, base, tol, strength)[0]
    if primal + found.fun > _DUALITY_GAP * (1 + primal):
        warnings.warn(
            f"Balancing did not converge in {max_iter} iterations: balance fewer functions, or "
            "increase balance_tol.",
            ConvergenceWarning,
        )
    return p, dual


def minimize_in_box(objective, start, upper, max_iter):
    """Minimise over ``[0, upper]`` by L-BFGS-B, started again where it stalls."""
    options = {"maxiter": max_iter, "maxfun": 10 * max_iter, "ftol": 0, "maxcor": 30}
    for _ in range(_STARTS):
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, upper)] * len(start),
            options={**options, "gtol": _GRADIENT},
        )
        step = found.x - np.clip(found.x - objective(found.x)[1], 0, upper)
        if np.abs(step).max(initial=0) <= _GRADIENT or found.status == 1:
            break
        start = found.x
    return found


def balancing_loss(p, values, targets, base, tol, strength):
    """The primal objective of :func:`dual_weights`, and its gradient by the weights."""
    gap = targets - p @ values
    active = np.sign(gap) * (np.abs(gap) > tol)
    log_ratio = np.log(np.maximum(p, np.finfo(float).tiny) / base)
    loss = p @ log_ratio + strength * np.maximum(np.abs(gap) - tol, 0).sum()
    return loss, log_ratio + 1 - strength * (values @ active)


def factorized_weights(
    rows,
    columns,
    draw_batch,
    *,
    n_components,
    tol,
    strength,
    lr,
    n_steps,
    rng,
):
    """Weights from a sigmoid matrix factorisation, by Adam on batches.

    The weight of a pair is, up to scale, the sigmoid of an inner product of factors plus biases.

    Parameters
    ----------
    rows, columns : ndarray of int of shape (n_observed,)
        Users and items of the observed pairs.
    draw_batch : callable
        Gives observed pairs (indices), their functions, and the means to balance.
    n_components : int
        Length of the factors.
    tol, strength, lr : float
        Gap that is allowed, cost of more, and step size.
    n_steps : int
        Number of batches.
    rng : RandomState
        Draws the initial factors.

    Returns
    -------
    p : ndarray of shape (n_observed,)
        The weights of the last step, or the best one if batches hold all pairs; they sum to 1.
    """
    shapes = [(rows.max() + 1, n_components + 1), (columns.max() + 1, n_components + 1)]
    factors = [0.1 * rng.normal(size=shape) for shape in shapes]
    moments = [[np.zeros(shape), np.zeros(shape)] for shape in shapes]
    best, best_loss = None, np.inf
    for step in range(1, n_steps + 1):
        batch, values, targets = draw_batch()
        u, i = rows[batch], columns[batch]
        logits = pair_logits(*factors, u, i)
        p = normalized_sigmoid(logits)
        base = np.full(len(batch), 1 / len(batch))
        loss, slope = balancing_loss(p, values, targets, base, tol, strength)
        if loss < best_loss or len(batch) < len(rows):  # losses of batches do not compare
            best, best_loss = [factor.copy() for factor in factors], loss
        slope = p * (slope - p @ slope) * expit(-logits)
        for factor, moment, gradient in zip(
            factors, moments, pair_gradients(*factors, u, i, slope)
        ):
            adam_step(factor, moment, gradient, lr, step)
    return normalized_sigmoid(pair_logits(*best, rows, columns))


def pair_logits(U, V, u, i):
    """Inner products of factors plus biases, the last column of each."""
    return np.einsum("nk,nk->n", U[u, :-1], V[i, :-1]) + U[u, -1] + V[i, -1]


def pair_gradients(U, V, u, i, slope):
    """Gradients of a loss by the factors, from those by the inner products."""
    by_user, by_item = np.zeros_like(U), np.zeros_like(V)
    np.add.at(by_user, u, slope[:, None] * np.column_stack([V[i, :-1], np.ones(len(i))]))
    np.add.at(by_item, i, slope[:, None] * np.column_stack([U[u, :-1], np.ones(len(u))]))
    return by_user, by_item


def normalized_sigmoid(logits):
    """Sigmoids over their sum."""
    log_sigmoid = -np.logaddexp(0, -logits)
    return np.exp(log_sigmoid - logsumexp(log_sigmoid))


def adam_step(parameter, moment, gradient, lr, step):
    """One step of Adam, in place."""
    moment[0] += 0.1 * (gradient - moment[0])
    moment[1] += 0.001 * (gradient**2 - moment[1])
    mean, square = moment[0] / (1 - 0.9**step), moment[1] / (1 - 0.999**step)
    parameter -= lr * mean / (np.sqrt(square) + 1e-8)


def worst_functions(gram, values, targets, base, n_functions, tol, strength):
    """Balance the function of unit norm with the largest gap, then the next, and so on.

    Parameters
    ----------
    gram : ndarray of shape (n_pool, n_pool)
        Kernel between candidate centres.
    values : ndarray of shape (n_observed, n_pool)
        Kernel between observed rows and centres.
    targets : ndarray of shape (n_pool,)
        Means over all rows.
    base : ndarray of shape (n_observed,)
        Weights to stay near to, which sum to 1.
    n_functions : int
        Largest number of functions.
    tol, strength : float
        Gap that is allowed, also that of the worst function, and cost of more.

    Returns
    -------
    functions : ndarray of shape (n_pool, n_chosen)
        Coefficients of the functions.
    p : ndarray of shape (n_observed,)
        The weights.
    dual : ndarray of shape (n_chosen,)
        The dual variables.
    """
    factor = linalg.cho_factor(gram + WITNESS_RIDGE * np.eye(len(gram)))
    functions, p, dual = np.zeros((len(gram), 0)), base, np.zeros(0)
    for _ in range(n_functions):
        gap = targets - p @ values
        witness = linalg.cho_solve(factor, gap)
        if np.sqrt(max(gap @ witness, 0)) < tol:
            break
        witness /= np.abs(gram @ witness).max()
        functions = np.column_stack([functions, witness])
        p, dual = dual_weights(
            values @ functions, targets @ functions, base, tol, strength, start=dual
        )
    return functions, p, dual


def error_functions(values, errors, base, n_functions):
    """Coefficients of functions that errors are made of.

    All but the last are single centres, by orthogonal matching pursuit on the errors about their
    mean; the last is the ridge regression of the errors on all centres, scaled to a maximum of 1.
    """
    centred = values - base @ values
    gram = centred.T @ (base[:, None] * centred)
    moments = centred.T @ (base * (errors - base @ errors))
    fitted = linalg.solve(gram + ERROR_RIDGE * np.eye(len(gram)), moments, assume_a="pos")
    largest = np.abs(values @ fitted).max()
    chosen = matching_pursuit(gram, moments, n_functions - 1)
    single = np.eye(len(gram))[:, chosen]
    return np.column_stack([single, fitted / largest]) if largest > 0 else single


def matching_pursuit(gram, moments, n_chosen):
    """Columns of a regression, the next one that explains most of what is left."""
    norms = np.sqrt(np.diag(gram))
    usable, chosen, left = norms > 1e-12 * norms.max(initial=0), [], moments
    for _ in range(min(n_chosen, np.count_nonzero(usable))):
        gain = np.where(usable, np.abs(left) / np.where(norms > 0, norms, 1), -1)
        chosen.append(int(np.argmax(gain)))
        usable[chosen[-1]] = False
        part = gram[np.ix_(chosen, chosen)]
        jitter = 1e-9 * np.diag(part).max() * np.eye(len(chosen))
        left = moments - gram[:, chosen] @ linalg.solve(
            part + jitter, moments[chosen], assume_a="pos"
        )
    return chosen
