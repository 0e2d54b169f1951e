"""LARS: steps whose length is a share of the length of the weights, layer by layer."""

import torch
from torch.optim import Optimizer

from ._foreach import evaluate

__all__ = ["LARS"]


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling: momentum SGD whose step follows the norm of the weights.

    For each tensor of two or more dimensions the gradient g, weight decay included, is multiplied
    by ``trust_coefficient * ||p|| / ||g||`` (1 if either norm is zero) before it enters the
    momentum. Tensors of one dimension, biases and scales, are left to plain momentum SGD without
    weight decay.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them.
    lr : float, default=0.2
        Learning rate.
    momentum : float, default=0.9
        Share of the last step that is kept.
    weight_decay : float, default=0.0
        L2 penalty on tensors of two or more dimensions.
    trust_coefficient : float or None, default=1e-3
        Length of a step relative to that of the weights, at a learning rate of 1; None for no
        scaling, which is momentum SGD.
    vector_lr_scale : float, default=1.0
        Factor on the learning rate of tensors of one dimension, which have no trust ratio to
        shorten their steps.

    Notes
    -----
    A step costs two norms a tensor more than SGD; no value is read back from the device.

    References
    ----------
    .. [1] Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks",
       arXiv:1708.03888, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import LARS
    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = LARS([weight], lr=1.0, trust_coefficient=0.1)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([[0.9000, 0.9000],
            [0.9000, 0.9000]])
    """

    def __init__(
        self,
        params,
        lr=0.2,
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=1e-3,
        vector_lr_scale=1.0,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "vector_lr_scale": vector_lr_scale,
        }
        for name, value in options.items():
            if not (value is None and name == "trust_coefficient") and not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure=None):
        """Make one step.

        Parameters
        ----------
        closure : callable, default=None
            Evaluates the loss anew and returns it.

        Returns
        -------
        torch.Tensor or None
            What `closure` returned.
        """
        loss = evaluate(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter, group):
        gradient, lr = parameter.grad, group["lr"]
        if parameter.ndim > 1:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
            if group["trust_coefficient"] is not None:
                gradient.mul_(trust_ratio(parameter, gradient, group["trust_coefficient"]))
        else:
            lr = lr * group["vector_lr_scale"]
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        step = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        parameter.sub_(step, alpha=lr)


def trust_ratio(parameter, gradient, coefficient):
    """``coefficient * ||parameter|| / ||gradient||``, and 1 where either is zero."""
    ratio = coefficient * parameter.norm() / gradient.norm()
    return torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0)
