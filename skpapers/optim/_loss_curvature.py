"""Derivatives of a loss by the outputs of a network, for optimizers that ask for both."""

import torch
from torch import nn

from ._foreach import evaluate, wide_dtype

__all__ = [
    "evaluate_outputs",
    "loss_derivatives",
    "loss_kind",
    "row_weights",
    "smoothness",
]

_FUNCTIONS = {
    "squared_error": "squared_error",
    "mse_loss": "squared_error",
    "half_squared_error": "half_squared_error",
    "huber": "huber",
    "huber_loss": "huber",
    "binary_cross_entropy_with_logits": "logistic",
    "cross_entropy": "cross_entropy",
}
_CLASSES = {
    nn.MSELoss: "squared_error",
    nn.HuberLoss: "huber",
    nn.BCEWithLogitsLoss: "logistic",
    nn.CrossEntropyLoss: "cross_entropy",
}


def evaluate_outputs(closure, name):
    """The outputs of a network, with their graph, and their mean loss as a function."""
    result = evaluate(closure)
    if isinstance(result, tuple) and len(result) == 2 and _is_loss(result[1]):
        return result
    raise TypeError(
        f"{name} needs a closure that returns the pair (outputs, loss_function): the outputs of "
        "the network for one batch, with their graph, the same whenever the closure is called, "
        f"and a function from outputs to the mean loss; got {type(result).__name__}"
    )


def _is_loss(function):
    return callable(function) or hasattr(function, "value_and_gradient")


def loss_derivatives(loss_function, output, second=False):
    """Loss, and its derivatives by the outputs, times the number of rows.

    Returns the loss, the slopes of shape (n_rows, n_outputs) and, if asked for, the Hessian of
    each row, of shape (n_rows, n_outputs, n_outputs).
    """
    n_rows, wide = len(output), wide_dtype(output.dtype)
    free = output.detach().to(wide).requires_grad_()
    with torch.enable_grad():
        loss = loss_function(free)
        (slopes,) = torch.autograd.grad(loss, free, create_graph=second)
        columns = slopes.reshape(n_rows, -1)
        hessian = _hessian(columns, free) * n_rows if second else None
    return loss.detach(), columns.detach() * n_rows, hessian


def _hessian(columns, free):
    """Derivatives of the slopes of each row by the outputs of that row."""
    n_rows, n_outputs = columns.shape
    if not columns.requires_grad:  # piecewise linear
        return columns.new_zeros(n_rows, n_outputs, n_outputs)
    rows = [
        torch.autograd.grad(columns[:, j].sum(), free, retain_graph=True, materialize_grads=True)
        for j in range(n_outputs)
    ]
    return torch.stack([row[0].reshape(n_rows, -1) for row in rows], 1).detach()


def loss_kind(loss_function):
    """Which known loss it is, or None.

    Known are those with a registered name, and ``functools.partial(criterion, target=y)`` for a
    criterion of torch that averages over all elements.
    """
    name = getattr(loss_function, "name", None)
    if isinstance(name, str):
        return _FUNCTIONS.get(name.partition("(")[0])
    criterion = getattr(loss_function, "func", None)
    if set(getattr(loss_function, "keywords", ())) - {"target"}:
        return None
    if isinstance(criterion, nn.Module):
        weights = (getattr(criterion, option, None) for option in ("weight", "pos_weight"))
        is_mean = criterion.reduction == "mean" and all(weight is None for weight in weights)
        return _CLASSES.get(type(criterion)) if is_mean else None
    return _FUNCTIONS.get(getattr(criterion, "__name__", None))


def smoothness(kind, n_outputs):
    """Smoothness constant of the loss of one row as a function of its outputs, or None."""
    constants = {
        "squared_error": 2 / n_outputs,
        "half_squared_error": 1.0,
        "huber": 1 / n_outputs,
        "logistic": 1 / (4 * n_outputs),
        "cross_entropy": 0.5,
    }
    return constants.get(kind)


def row_weights(loss_function, like):
    """Weights of the rows as a column, or 1."""
    weight = getattr(loss_function, "weight", None)
    return 1.0 if weight is None else weight.to(like.dtype)[:, None]
