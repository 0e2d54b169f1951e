"""Weight decay apart from the gradient: SGDW, AdamW, and warm restarts of the learning rate."""

import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from torch.optim import Optimizer
from torch.optim.adam import Adam, adam
from torch.optim.adamw import adamw
from torch.optim.lr_scheduler import LRScheduler

from ._foreach import check_options, chunks, evaluate, gradients, zeros_state

__all__ = ["AdamW", "CosineWarmRestarts", "SGDW", "normalized_weight_decay"]

_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")
_DECAY_CONSTRAINTS = {
    "lr": [_POSITIVE],
    "weight_decay": [_NOT_NEGATIVE],
    "decay": [StrOptions({"independent", "lr", "l2"})],
    "normalize_decay": ["boolean"],
    "total_steps": [_COUNT, None],
    "maximize": ["boolean"],
}


class SGDW(Optimizer):
    """Momentum SGD whose weight decay is apart from the gradient.

    A step is ``m = momentum * m + lr * g`` and ``p = p - m - eta * weight_decay * p``, where
    eta is the multiplier of the learning-rate schedule: the ratio of the present rate to the
    initial one. The best decay then does not depend on the learning rate.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them.
    lr : float, default=0.05
        Learning rate.
    momentum : float, default=0.9
        Share of the last step that is kept, in [0, 1).
    nesterov : bool, default=False
        Move by ``momentum * m + lr * g`` instead of m.
    weight_decay : float, default=0.0
        Share of the weights that a step removes; see `decay` and `normalize_decay`.
    decay : {"independent", "lr", "l2"}, default="independent"
        "independent" removes ``eta * weight_decay`` of the weights a step, "lr" removes
        ``lr * weight_decay``, and "l2" adds ``weight_decay * p`` to the gradient, which is the
        penalty of torch.optim.SGD.
    normalize_decay : bool, default=False
        Divide `weight_decay` by the square root of `total_steps`, so that its best value does
        not depend on the length of the training or the size of the batches.
    total_steps : int, default=None
        Number of steps of the training; needed with `normalize_decay` only. An estimator sets it.
    maximize : bool, default=False
        Go up instead of down.

    See Also
    --------
    AdamW : The adaptive counterpart.
    CosineWarmRestarts : The schedule of the paper.

    Notes
    -----
    eta is read from ``initial_lr`` of the parameter group, which every schedule of torch
    writes; it is 1 without. One buffer of the size of the parameters.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
       arXiv:1711.05101, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import SGDW
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = SGDW([weight], lr=0.1, weight_decay=0.01)
    >>> (weight * torch.tensor([0.0, 1.0])).sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.9900, 0.8900])
    """

    registered_name = "sgdw"
    width_kind = "sgd"  # how the rate scales with the width of a network

    def __init__(
        self,
        params,
        lr=0.05,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        decay="independent",
        normalize_decay=False,
        total_steps=None,
        maximize=False,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "decay": decay,
            "normalize_decay": normalize_decay,
            "total_steps": total_steps,
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
        momentum = {"momentum": [Interval(Real, 0, 1, closed="left")], "nesterov": ["boolean"]}
        check_options(self.defaults | param_group, _DECAY_CONSTRAINTS | momentum, "SGDW")
        super().add_param_group(param_group)

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
            buffers = zeros_state(self, params, "momentum_buffer")
            for chunk in chunks(params, grads, buffers):
                _sgdw(*chunk, group)
        return loss


def _sgdw(params, grads, buffers, group):
    lr, momentum, decay = group["lr"], group["momentum"], _decay_per_rate(group)
    is_l2 = group["decay"] == "l2"
    if decay and is_l2:
        grads = torch._foreach_add(grads, params, alpha=decay)
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, grads, alpha=lr)
    if decay and not is_l2:
        torch._foreach_mul_(params, 1 - lr * decay)
    if group["nesterov"]:
        torch._foreach_add_(params, buffers, alpha=-momentum)
        torch._foreach_add_(params, grads, alpha=-lr)
    else:
        torch._foreach_sub_(params, buffers)


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient, and from the learning rate.

    After the step of Adam's moments, ``eta * weight_decay`` of each weight is removed, where
    eta is the multiplier of the learning-rate schedule: the ratio of the present rate to the
    initial one. An L2 penalty would be divided by the second moments, so that weights with large
    gradients would hardly decay. torch.optim.AdamW removes ``lr * weight_decay``; here the best
    decay does not depend on the learning rate either.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them.
    lr : float, default=1e-3
        Learning rate.
    betas : tuple of two floats, default=(0.9, 0.999)
        Decay rates of the two moments, in [0, 1).
    eps : float, default=1e-8
        Added to the root of the second moment.
    weight_decay : float, default=1e-5
        Share of the weights that a step removes (what 1e-2 amounts to in torch.optim.AdamW at a
        learning rate of 1e-3); see `decay` and `normalize_decay`.
    decay : {"independent", "lr", "l2"}, default="independent"
        "independent" removes ``eta * weight_decay`` of the weights a step, "lr" removes
        ``lr * weight_decay`` as torch.optim.AdamW does, and "l2" adds ``weight_decay * p`` to
        the gradient as torch.optim.Adam does.
    normalize_decay : bool, default=False
        Divide `weight_decay` by the square root of `total_steps`, so that its best value does
        not depend on the length of the training or the size of the batches; 0.025 to 0.05 are
        the paper's values.
    total_steps : int, default=None
        Number of steps of the training; needed with `normalize_decay` only. An estimator sets it.
    amsgrad : bool, default=False
        Divide by the largest second moment so far.
    maximize : bool, default=False
        Go up instead of down.
    foreach : bool, default=None
        Use torch's implementation over lists of tensors; None leaves the choice to torch.
    fused : bool, default=None
        Use torch's fused implementation of the step of Adam; None leaves the choice to torch.

    See Also
    --------
    SGDW : The counterpart without preconditioner.
    CosineWarmRestarts : The schedule of the paper.

    Notes
    -----
    eta is read from ``initial_lr`` of the parameter group, which every schedule of torch
    writes; it is 1 without. Two buffers of the size of the parameters. The name for
    ``NeuralClassifier(optimizer=...)`` is "decoupled_adamw"; "adamw" is torch's.

    The paper's gain of some 15% of the test error, and a heat map of rate and decay with its
    axes apart, are for image networks. On small networks a well-tuned L2 penalty does as well.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
       arXiv:1711.05101, algorithm 2 and appendix B.1 (normalised weight decay).

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import AdamW
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = AdamW([weight], lr=0.1, weight_decay=0.01)
    >>> (weight * torch.tensor([0.0, 5.0])).sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.9900, 0.8900])
    """

    registered_name = "decoupled_adamw"

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-5,
        decay="independent",
        normalize_decay=False,
        total_steps=None,
        amsgrad=False,
        maximize=False,
        foreach=None,
        fused=None,
    ):
        own = {"decay": decay, "normalize_decay": normalize_decay, "total_steps": total_steps}
        theirs = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        _check_adamw(own | theirs)
        theirs["betas"] = tuple(map(float, betas))  # torch wants no integers
        super().__init__(params, foreach=foreach, fused=fused, **theirs)
        self._step_supports_amp_scaling = False  # a GradScaler shall unscale the gradients itself
        self.defaults |= own
        for group in self.param_groups:
            group |= own | group

    def add_param_group(self, param_group):
        """Add a group of parameters with options of its own.

        Parameters
        ----------
        param_group : dict
            The parameters, under ``"params"``, and options.
        """
        _check_adamw(self.defaults | param_group)
        super().add_param_group(param_group)

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
            self._update(group)
        return loss

    def _update(self, group):
        lists = [[] for _ in range(6)]  # parameters, gradients, three moments, numbers of steps
        has_complex = self._init_group(group, *lists)
        if not lists[0]:
            return
        step = adam if group["decay"] == "l2" else adamw
        step(
            *lists,
            foreach=group["foreach"],
            fused=group["fused"],
            has_complex=has_complex,
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=_decay_per_rate(group),
            eps=group["eps"],
            maximize=group["maximize"],
        )


def _check_adamw(options):
    constraints = {"betas": [tuple, list], "eps": [_NOT_NEGATIVE], "amsgrad": ["boolean"]}
    check_options(options, _DECAY_CONSTRAINTS | constraints, "AdamW")


def _weight_decay(group):
    """Weight decay of a group, normalised if it says so."""
    if not group["normalize_decay"]:
        return group["weight_decay"]
    if group["total_steps"] is None:
        raise ValueError("total_steps must be given with normalize_decay=True")
    return group["weight_decay"] / math.sqrt(group["total_steps"])


def _decay_per_rate(group):
    """What, times the present learning rate, is the share of the weights that a step removes.

    With independent decay that share is ``lr / initial_lr * weight_decay``.
    """
    if group["decay"] != "independent":
        return _weight_decay(group)
    return _weight_decay(group) / group.get("initial_lr", group["lr"])


class CosineWarmRestarts(LRScheduler):
    """Learning rate that falls along half a cosine, then starts again for a longer period.

    The multiplier of the learning rate is ``(1 + cos(pi * t / t_i)) / 2`` after t epochs of
    period i, whose length is ``t_0 * t_mult ** i`` epochs. The weights to be used are those at
    the end of a period, when the rate is near 0: good numbers of epochs are `t_0`,
    ``t_0 * (1 + t_mult)`` and so on.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose learning rates are set.
    t_0 : int
        Epochs of the first period.
    t_mult : int, default=2
        Factor from one period's length to the next one's.
    steps_per_epoch : int, default=1
        Calls of :meth:`step` in an epoch: the number of batches to advance after each of them.
    renormalize_decay : bool, default=True
        Set ``total_steps`` of the groups with ``normalize_decay=True``, those of :class:`AdamW`
        and :class:`SGDW`, to the length of the present period, so that their weight decay
        follows it.

    Notes
    -----
    Moments are not reset. A schedule restored by ``load_state_dict`` continues where it was.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
       arXiv:1711.05101, section 4.4 and appendix B.2.
    .. [2] I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
       ICLR 2017, arXiv:1608.03983.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import AdamW, CosineWarmRestarts
    >>> optimizer = AdamW([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    >>> schedule = CosineWarmRestarts(optimizer, t_0=2)
    >>> rates = []
    >>> for epoch in range(6):
    ...     rates.append(round(schedule.get_last_lr()[0], 2))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 1.0, 0.85, 0.5, 0.15]
    """

    def __init__(self, optimizer, t_0, t_mult=2, steps_per_epoch=1, renormalize_decay=True):
        options = {"t_0": t_0, "t_mult": t_mult, "steps_per_epoch": steps_per_epoch}
        check_options(
            {**options, "renormalize_decay": renormalize_decay},
            {**dict.fromkeys(options, [_COUNT]), "renormalize_decay": ["boolean"]},
            "CosineWarmRestarts",
        )
        self.t_0 = t_0
        self.t_mult = t_mult
        self.steps_per_epoch = steps_per_epoch
        self.renormalize_decay = renormalize_decay
        super().__init__(optimizer)

    def get_lr(self):
        """Compute the learning rates, and tell the optimizer the length of the period.

        Returns
        -------
        list of float
            One learning rate a parameter group.
        """
        step, length = self._place()
        if self.renormalize_decay:
            for group in self.optimizer.param_groups:
                if group.get("normalize_decay"):
                    group["total_steps"] = length
        factor = (1 + math.cos(math.pi * step / length)) / 2
        return [lr * factor for lr in self.base_lrs]

    def _place(self):
        """Steps made in the present period, and its length in steps."""
        step, length = self.last_epoch, self.t_0 * self.steps_per_epoch
        while step >= length:
            step -= length
            length *= self.t_mult
        return step, length


@validate_params(
    {
        "weight_decay": [_NOT_NEGATIVE],
        "batch_size": [_COUNT],
        "n_samples": [_COUNT],
        "n_epochs": [_COUNT],
    },
    prefer_skip_nested_validation=True,
)
def normalized_weight_decay(weight_decay, batch_size, n_samples, n_epochs):
    """Turn a weight decay that suits any length of training into that of a step.

    Parameters
    ----------
    weight_decay : float
        Normalised weight decay; 0.025 to 0.05 are the paper's values.
    batch_size : int
        Rows in a batch.
    n_samples : int
        Rows of the training data.
    n_epochs : int
        Passes over the data; with warm restarts, those of the present period.

    Returns
    -------
    float
        ``weight_decay * sqrt(batch_size / (n_samples * n_epochs))``.

    Notes
    -----
    ``normalize_decay=True`` of :class:`AdamW` and :class:`SGDW` counts whole steps: it has
    ``1 / ceil(n_samples / batch_size)`` in the place of ``batch_size / n_samples``.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
       arXiv:1711.05101, appendix B.1.

    Examples
    --------
    >>> from skpapers.optim import normalized_weight_decay
    >>> round(normalized_weight_decay(0.05, batch_size=128, n_samples=50_000, n_epochs=100), 8)
    0.00025298
    """
    return weight_decay * math.sqrt(batch_size / (n_samples * n_epochs))
