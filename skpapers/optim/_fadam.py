"""FAdam: Adam as a natural gradient, and the diagonal of the empirical Fisher information."""

import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from torch.func import functional_call, grad, vmap
from torch.optim import Optimizer

from ._foreach import (
    check_options,
    chunks,
    evaluate,
    gradients,
    keep_types,
    wide_dtype,
    zeros_state,
)

__all__ = ["FAdam", "diagonal_empirical_fisher"]

_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")

# eps of a step, from eps, the root mean square of the gradient, and the power of the Fisher.
_EPS_MODES = {
    "relative": lambda eps, rms, p: (0.01 * rms).clamp_max_(eps).pow_(2 * p),
    "min": lambda eps, rms, p: eps * rms.clamp_max(1),
    "max": lambda eps, rms, p: eps * rms.clamp_min(1),
}

_CONSTRAINTS = {
    "lr": [_POSITIVE],
    "betas": [tuple, list],
    "weight_decay": [_NOT_NEGATIVE],
    "eps": [_NOT_NEGATIVE],
    "clip": [_POSITIVE],
    "p": [_POSITIVE],
    "clip_mode": [StrOptions({"cap", "reference"})],
    "eps_mode": [StrOptions(set(_EPS_MODES))],
    "momentum_dtype": [torch.dtype, None],
    "fim_dtype": [torch.dtype, None],
    "maximize": ["boolean"],
}


class FAdam(Optimizer):
    """Fisher Adam: momentum, clipping and weight decay in the geometry of natural gradients.

    The second moment f of the gradients is the diagonal of the empirical Fisher information,
    and the gradient divided by its root the natural gradient, whose direction does not depend on
    the parametrization. The momentum therefore averages natural gradients, each clipped to a root
    mean square of at most `clip` a tensor, and the weights decay along theirs. Meant for
    log-likelihoods of discrete targets, such as the cross-entropy.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them.
    lr : float, default=1e-3
        Learning rate.
    betas : tuple of two floats, default=(0.9, 0.999)
        Decay rates of the momentum and of f, in [0, 1). f needs no correction of its bias, as
        its rate starts at 0 and grows to the given one; the momentum has none.
    weight_decay : float, default=0.1
        Weight of the decay direction, the weights divided by the root of f and clipped, relative
        to the momentum; a step decays by ``lr * weight_decay`` times that.
    eps : float, default=1e-8
        Added to the power of f; see `eps_mode`.
    clip : float, default=1.0
        Root mean square to which natural gradients and decay directions are clipped.
    p : float, default=0.5
        Power of f: 1/2 as in Adam, 1 for the inverse of the Fisher information.
    clip_mode : {"cap", "reference"}, default="cap"
        "cap" divides by ``max(1, rms / clip)``; "reference" multiplies by
        ``clip / max(1, rms)``, which scales what need not be clipped, too. The same for
        ``clip=1``.
    eps_mode : {"relative", "min", "max"}, default="relative"
        How eps follows the root mean square of the gradient: ``min(eps, 0.01 * rms) ** (2 * p)``,
        so that it stays small beside small gradients, ``eps * min(1, rms)``, or
        ``eps * max(1, rms)``.
    momentum_dtype : torch.dtype, default=None
        Type of the momentum; None for that of the parameter, float32 at least.
    fim_dtype : torch.dtype, default=None
        Type of f; None for that of the parameter, float32 at least.
    maximize : bool, default=False
        Go up instead of down.

    Notes
    -----
    Two buffers, as Adam, and three norms a tensor; no value is read back from the device.

    ``NeuralClassifier(optimizer="fadam")`` sets the weight decay of the estimator, 0 by default.
    On digits the training loss and the accuracy are those of Adam, within some percent; the gains
    of the paper are for speech recognition and language models.

    References
    ----------
    .. [1] D. Hwang, "FAdam: Adam is a natural gradient optimizer using diagonal empirical Fisher
       information", 2024, arXiv:2405.12807, algorithm 1 ("relative" and "cap"; the others are
       those of implementations).

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import FAdam
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = FAdam([weight], lr=0.1)
    >>> (weight * torch.tensor([3.0, -3.0])).sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([-0.0100,  0.0100])
    """

    registered_name = "fadam"

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        weight_decay=0.1,
        eps=1e-8,
        clip=1.0,
        p=0.5,
        clip_mode="cap",
        eps_mode="relative",
        momentum_dtype=None,
        fim_dtype=None,
        maximize=False,
    ):
        options = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "eps": eps,
            "clip": clip,
            "p": p,
            "clip_mode": clip_mode,
            "eps_mode": eps_mode,
            "momentum_dtype": momentum_dtype,
            "fim_dtype": fim_dtype,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def add_param_group(self, param_group):
        """Add a group of parameters with options of its own.

        Parameters
        ----------
        param_group : dict
            The parameters, under ``"params"``, and options.
        """
        check_options(self.defaults | param_group, _CONSTRAINTS, "FAdam")
        super().add_param_group(param_group)
        if any(p.is_complex() for p in self.param_groups[-1]["params"]):
            raise TypeError("params must be real; the Fisher information of complex ones is not")

    def load_state_dict(self, state_dict):
        """Take over a state; unlike torch's method, the buffers keep their own types.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict()`` returned.
        """
        super().load_state_dict(state_dict)
        keep_types(self, state_dict, ("momentum", "fim"))

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
            params, grads = gradients(group)
            momenta = zeros_state(self, params, "momentum", group["momentum_dtype"] or wide_dtype)
            fims = zeros_state(self, params, "fim", group["fim_dtype"] or wide_dtype)
            for chunk in chunks(params, grads, momenta, fims):
                _fadam(*chunk, self._rates(chunk[0], group["betas"][1]), group)
        return loss

    def _rates(self, params, beta):
        """Count the step; rates of f with which it equals Adam's, its bias corrected."""
        rates = []
        for p in params:
            step = self.state[p]["step"] = self.state[p].get("step", 0) + 1
            rates.append(beta * (1 - beta ** (step - 1)) / (1 - beta**step))
        return rates


def _fadam(params, grads, momenta, fims, rates, group):
    dtype, buffers = wide_dtype(params[0].dtype), (params, momenta, fims)
    wide = params, momenta, fims = [_cast(tensors, dtype) for tensors in buffers]
    grads, root_sizes = _cast(grads, dtype), _root_sizes(params)
    beta, lr, weight_decay = group["betas"][0], group["lr"], group["weight_decay"]

    torch._foreach_mul_(fims, rates)
    torch._foreach_addcmul_(fims, grads, grads, [1 - rate for rate in rates])
    metric = _metric(grads, fims, root_sizes, group)

    natural = torch._foreach_div(grads, metric)
    factors = _clip_factors(natural, root_sizes, group)
    torch._foreach_mul_(momenta, beta)
    torch._foreach_addcmul_(momenta, natural, factors, value=1 - beta)
    if weight_decay:
        decay = torch._foreach_div(params, metric)
        factors = _clip_factors(decay, root_sizes, group)
        torch._foreach_addcmul_(params, decay, factors, value=-lr * weight_decay)
    torch._foreach_add_(params, momenta, alpha=-lr)
    for narrow, result in zip(buffers, wide):
        if narrow is not result:
            torch._foreach_copy_(narrow, result)


def _cast(tensors, dtype):
    return tensors if tensors[0].dtype == dtype else [t.to(dtype) for t in tensors]


def _metric(grads, fims, root_sizes, group):
    """``f ** p + eps``, and eps such that squares of quotients by it do not overflow."""
    p, dtype = group["p"], fims[0].dtype
    if p == 1:
        powers = [f.clone() for f in fims]
    else:
        powers = torch._foreach_sqrt(fims) if p == 0.5 else list(torch._foreach_pow(fims, p))
    eps = _EPS_MODES[group["eps_mode"]](group["eps"], _norms(grads) / root_sizes, p)
    eps = eps.clamp_min_(torch.finfo(dtype).tiny ** 0.4)
    torch._foreach_add_(powers, eps.unbind())
    return powers


def _clip_factors(tensors, root_sizes, group):
    rms, clip = _norms(tensors) / root_sizes, group["clip"]
    if group["clip_mode"] == "reference":
        return (clip / rms.clamp_min_(1)).unbind()
    return (rms / clip).clamp_min_(1).reciprocal_().unbind()


def _norms(tensors):
    return torch.stack(torch._foreach_norm(tensors))


def _root_sizes(tensors):
    sizes = [math.sqrt(max(t.numel(), 1)) for t in tensors]
    return torch.tensor(sizes, dtype=tensors[0].dtype, device=tensors[0].device)


@validate_params(
    {
        "module": [torch.nn.Module],
        "X": [torch.Tensor],
        "y": [torch.Tensor],
        "loss": [callable],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def diagonal_empirical_fisher(module, X, y, loss, batch_size=128):
    """Mean of the squared gradients of single rows, parameter by parameter.

    With a loss that is a negative log-likelihood and targets from the data, this is the diagonal
    of the empirical Fisher information; with targets drawn from the model it estimates that of
    the true one. Adam averages squares of mean gradients of batches, which underestimate it by
    about the size of the batch.

    Parameters
    ----------
    module : torch.nn.Module
        Network, left as it is; use eval mode where batch normalisation or dropout is part of it.
    X : torch.Tensor of shape (n_samples, ...)
        Inputs.
    y : torch.Tensor of shape (n_samples, ...)
        Targets.
    loss : callable
        ``loss(output, target)``, a scalar for a batch of one row.
    batch_size : int, default=128
        Rows whose gradients are held at a time.

    Returns
    -------
    dict of str to torch.Tensor
        For each name of ``module.named_parameters()`` a tensor of its shape.

    Raises
    ------
    ValueError
        If X is empty or X and y differ in length.

    Notes
    -----
    Costs a forward and a backward pass over X, and memory for `batch_size` gradients.

    References
    ----------
    .. [1] D. Hwang, "FAdam: Adam is a natural gradient optimizer using diagonal empirical Fisher
       information", 2024, arXiv:2405.12807, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import diagonal_empirical_fisher
    >>> module = torch.nn.Linear(2, 1, bias=False)
    >>> _ = torch.nn.init.zeros_(module.weight)
    >>> X, y = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0], [0.0]])
    >>> loss = torch.nn.functional.binary_cross_entropy_with_logits
    >>> diagonal_empirical_fisher(module, X, y, loss)["weight"]
    tensor([[1.2500, 0.5000]])
    """
    if len(X) == 0 or len(X) != len(y):
        raise ValueError(f"X and y must have as many rows, at least one: got {len(X)}, {len(y)}")
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def row_loss(parameters, x, target):
        return loss(functional_call(module, parameters, (x[None],)), target[None])

    row_gradients = vmap(grad(row_loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for x, target in zip(X.split(batch_size), y.split(batch_size)):
        for name, rows in row_gradients(parameters, x, target).items():
            total[name] += rows.square().sum(0)
    return {name: value / len(X) for name, value in total.items()}
