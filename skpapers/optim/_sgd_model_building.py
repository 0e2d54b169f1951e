"""SMB: stochastic gradient steps that a quadratic model repairs where they fail."""

import inspect
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch.optim import Optimizer

from ._foreach import check_options, evaluate, wide_dtype

__all__ = ["SMB", "SMBi"]

_POSITIVE = Interval(Real, 0, None, closed="neither")
_FRACTION = Interval(Real, 0, 1, closed="neither")
_CONSTRAINTS = {
    "lr": [_POSITIVE],
    "eta": [_FRACTION],
    "c": [_FRACTION],
    "independent_batch": ["boolean"],
    "autoschedule": ["boolean"],
    "steps_per_epoch": [Interval(Integral, 1, None, closed="left"), None],
    "gamma": [Interval(Real, 0, 1, closed="both")],
    "beta": [_FRACTION],
    "lr_max": [_POSITIVE],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "grouping": [StrOptions({"tensor", "group", "all"})],
}

_SMALL_GRADIENT = 1e-8  # below this length a trial step is kept without a test


class SMB(Optimizer):
    """SGD whose failed steps are replaced by those of a quadratic model.

    A step tries ``s = -lr * g``. Where the loss of the batch has not fallen by
    ``c * lr * ||g||^2``, one more gradient, at the trial point, makes a quadratic model of the
    loss for each tensor, whose minimiser replaces s: shorter, by `eta` at least, and turned by
    the curvature that was met. Large learning rates are thereby usable without a line search.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them (with a `lr` and a `weight_decay` each).
    lr : float, default=0.5
        Learning rate, the length of the trial step relative to the gradient.
    eta : float, default=0.99
        Bound on the length of a model step relative to the trial step, in (0, 1).
    c : float, default=0.1
        Share of ``lr * ||g||^2`` by which the loss must fall, in (0, 1).
    independent_batch : bool, default=False
        Undo a failed trial, and build the model on the next batch (SMBi), as the theorem of
        convergence asks for.
    autoschedule : bool, default=False
        Adapt the learning rate after every epoch: divide it by `beta`, up to `lr_max`, if at most
        a share `gamma` of the steps needed a model (half of that with `independent_batch`), else
        multiply it by `beta`.
    steps_per_epoch : int, default=None
        Number of steps after which `autoschedule` acts. An estimator sets it.
    gamma : float, default=0.05
        Share of model steps from which the learning rate is lowered.
    beta : float, default=0.9
        Factor on the learning rate.
    lr_max : float, default=20.0
        Largest learning rate of `autoschedule`.
    weight_decay : float, default=0.0
        L2 penalty, which is part of the loss that a step must lower.
    grouping : {"tensor", "group", "all"}, default="tensor"
        What has a model of its own: each tensor, as in the paper, each parameter group, or all
        parameters together.

    Attributes
    ----------
    n_steps : int
        Steps made.
    n_model_steps : int
        How many of them were those of a model.

    Notes
    -----
    A step costs a gradient and the loss at the trial point, a model step one gradient more. If the
    closure has a parameter ``backward``, the loss at the trial point is had by
    ``closure(backward=False)``, else by ``closure()``, whose gradient then serves the model.
    The closure must give the same loss for the same weights within a step: fix the masks
    of dropout. One number, whether a trial is accepted, is read from the device in each step.

    A tensor whose gradient is zero, or whose gradient at the trial point is not finite, stays
    where it is in a model step (that is the limit of the step as the curvature grows).

    At rates at which SGD is stable SMB gains nothing, and may be behind: its model steps are
    shorter. What it adds is that rates too large for SGD train, and that `autoschedule` finds its
    way from them.

    References
    ----------
    .. [1] S. I. Birbil, O. Martin, G. Onay, F. Oztoprak, "Bolstering Stochastic Gradient Descent
       with Model Building", TOP 2024, arXiv:2111.07058, algorithm 1 (SMB), section 3 (SMBi).

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import SMB
    >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> curvature = torch.tensor([1.0, 10.0])
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (curvature * x.square()).sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> optimizer = SMB([x], lr=0.5)
    >>> losses = [optimizer.step(closure).item() for _ in range(50)]
    >>> losses[0] > 5 and losses[-1] < 1e-4
    True
    >>> 0 < optimizer.n_model_steps <= optimizer.n_steps == 50
    True
    """

    registered_name = "smb"
    width_kind = "sgd"  # how the rate scales with the width of a network

    def __init__(
        self,
        params,
        lr=0.5,
        eta=0.99,
        c=0.1,
        independent_batch=False,
        autoschedule=False,
        steps_per_epoch=None,
        gamma=0.05,
        beta=0.9,
        lr_max=20.0,
        weight_decay=0.0,
        grouping="tensor",
    ):
        shared = {
            "eta": eta,
            "c": c,
            "independent_batch": independent_batch,
            "autoschedule": autoschedule,
            "steps_per_epoch": steps_per_epoch,
            "gamma": gamma,
            "beta": beta,
            "lr_max": lr_max,
            "grouping": grouping,
        }
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay} | shared)
        counts = {"n_steps": 0, "n_model_steps": 0, "epoch_model_steps": 0, "was_rejected": False}
        self.param_groups[0] |= counts

    def add_param_group(self, param_group):
        """Add a group of parameters with a learning rate and weight decay of its own.

        Parameters
        ----------
        param_group : dict
            The parameters, under ``"params"``, and options.
        """
        check_options(self.defaults | param_group, _CONSTRAINTS, type(self).__name__)
        super().add_param_group(param_group)

    @property
    def n_steps(self):
        """Steps made."""
        return self.param_groups[0]["n_steps"]

    @property
    def n_model_steps(self):
        """Steps of a model among them."""
        return self.param_groups[0]["n_model_steps"]

    @torch.no_grad()
    def step(self, closure):
        """Make one step.

        Parameters
        ----------
        closure : callable
            Sets the gradients to zero, computes the loss and its gradients, and returns the loss;
            with ``backward=False``, if it has such a parameter, the loss alone.

        Returns
        -------
        torch.Tensor
            The loss before the step.
        """
        if closure is None:
            raise ValueError("closure must be given: a step evaluates the loss more than once")
        loss = evaluate(closure).detach()
        parts = [part for group in self.param_groups if (part := _part(group)).params]
        if parts:
            for part in parts:
                torch._foreach_add_(part.params, part.grads, alpha=-part.group["lr"])
            self._count(self._repair(parts, closure, loss))
        return loss

    def _repair(self, parts, closure, loss):
        """Judge the trial step; returns whether a model step took its place."""
        progress = self.param_groups[0]
        was_rejected, progress["was_rejected"] = progress["was_rejected"], False
        if was_rejected:
            evaluate(closure)
            self._model_step(parts, [self._rejected_gradients(part) for part in parts])
            return True
        loss_alone = "backward" in inspect.signature(closure).parameters
        trial_loss = closure(backward=False) if loss_alone else evaluate(closure)
        if _is_accepted(parts, loss, trial_loss.detach(), progress["c"]):
            return False
        if progress["independent_batch"]:
            self._reject(parts)
            return False
        if loss_alone:
            evaluate(closure)
        self._model_step(parts)
        return True

    def _reject(self, parts):
        """Undo the trial step, and keep its gradients for the model of the next batch."""
        self.param_groups[0]["was_rejected"] = True
        for part in parts:
            torch._foreach_copy_(part.params, part.start)
            for p, gradient in zip(part.params, part.grads):
                self.state[p]["rejected_gradient"] = gradient

    def _rejected_gradients(self, part):
        states = [self.state[p] for p in part.params]
        return [s.pop("rejected_gradient", gradient) for s, gradient in zip(states, part.grads)]

    def _model_step(self, parts, rejected=None):
        options = self.param_groups[0]
        changes = [_gradient_change(part) for part in parts]
        rejected = rejected or [part.grads for part in parts]
        products = torch.cat(list(map(_inner_products, parts, changes, rejected)), 1)
        if options["grouping"] != "tensor":
            blocks = _blocks(parts, options["grouping"]).to(products.device)
            products = torch.zeros_like(products).index_add_(1, blocks, products)[:, blocks]
        coefficients = model_coefficients(*products, eta=options["eta"])
        pieces = coefficients.split([len(part.params) for part in parts], 1)
        for arguments in zip(parts, changes, rejected, pieces):
            _apply_model(*arguments)

    def _count(self, is_model_step):
        progress = self.param_groups[0]
        progress["n_steps"] += 1
        progress["n_model_steps"] += is_model_step
        progress["epoch_model_steps"] += is_model_step
        if not progress["autoschedule"]:
            return
        steps_per_epoch = progress["steps_per_epoch"]
        if steps_per_epoch is None:
            raise ValueError("steps_per_epoch must be given with autoschedule=True")
        if progress["n_steps"] % steps_per_epoch == 0:
            self._adapt_rates(progress["epoch_model_steps"] / steps_per_epoch)
            progress["epoch_model_steps"] = 0

    def _adapt_rates(self, share):
        options = self.param_groups[0]
        beta, limit = options["beta"], options["gamma"] / (1 + options["independent_batch"])
        for group in self.param_groups:
            if share > limit:
                group["lr"] *= beta
            elif group["lr"] / beta <= options["lr_max"]:
                group["lr"] /= beta


class SMBi(SMB):
    """SMB whose models are built on a batch of their own.

    A trial step that fails is undone; on the next batch the model is built, from a gradient at
    the same weights and one after a trial step there, and its step is made without a test. The
    model is thereby independent of the gradient it turns, which the proof of convergence needs.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them (with a `lr` and a `weight_decay` each).
    lr : float, default=0.5
        Learning rate, the length of the trial step relative to the gradient.
    eta : float, default=0.99
        Bound on the length of a model step relative to the trial step, in (0, 1); here as far as
        the two batches agree.
    c : float, default=0.1
        Share of ``lr * ||g||^2`` by which the loss must fall, in (0, 1).
    autoschedule : bool, default=False
        Adapt the learning rate after every epoch: divide it by `beta`, up to `lr_max`, if at most
        a share ``gamma / 2`` of the steps were those of a model, else multiply it by `beta`.
    steps_per_epoch : int, default=None
        Number of steps after which `autoschedule` acts. An estimator sets it.
    gamma : float, default=0.05
        Twice the share of model steps from which the learning rate is lowered.
    beta : float, default=0.9
        Factor on the learning rate.
    lr_max : float, default=20.0
        Largest learning rate of `autoschedule`.
    weight_decay : float, default=0.0
        L2 penalty, which is part of the loss that a step must lower.
    grouping : {"tensor", "group", "all"}, default="tensor"
        What has a model of its own.

    See Also
    --------
    SMB : The same with one batch a step.

    References
    ----------
    .. [1] S. I. Birbil, O. Martin, G. Onay, F. Oztoprak, "Bolstering Stochastic Gradient Descent
       with Model Building", TOP 2024, arXiv:2111.07058, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import SMBi
    >>> x = torch.nn.Parameter(torch.tensor([1.0]))
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 10 * x.square().sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer = SMBi([x], lr=0.5)
    >>> _ = optimizer.step(closure)  # the trial step would have gone to -9
    >>> x.item()
    1.0
    >>> _ = optimizer.step(closure)
    >>> abs(x.item()) < 1
    True
    """

    registered_name = "smbi"

    def __init__(
        self,
        params,
        lr=0.5,
        eta=0.99,
        c=0.1,
        autoschedule=False,
        steps_per_epoch=None,
        gamma=0.05,
        beta=0.9,
        lr_max=20.0,
        weight_decay=0.0,
        grouping="tensor",
    ):
        super().__init__(
            params,
            lr=lr,
            eta=eta,
            c=c,
            independent_batch=True,
            autoschedule=autoschedule,
            steps_per_epoch=steps_per_epoch,
            gamma=gamma,
            beta=beta,
            lr_max=lr_max,
            weight_decay=weight_decay,
            grouping=grouping,
        )


@dataclass
class _Part:
    """The parameters of a group that have gradients, before the trial step."""

    group: dict
    params: list
    start: list
    grads: list
    squares: torch.Tensor  # squared lengths of the gradients


def _part(group):
    params = [p for p in group["params"] if p.grad is not None]
    if any(p.grad.is_sparse for p in params):
        raise RuntimeError("sparse gradients are not supported; use dense embeddings")
    grads = _penalised_gradients(params, group["weight_decay"])
    squares = _squares(grads) if params else torch.zeros(0)
    return _Part(group, params, [p.clone() for p in params], grads, squares)


def _penalised_gradients(params, weight_decay):
    """Copies of the present gradients, those of the penalty included."""
    grads = [
        torch.zeros_like(p, dtype=wide_dtype(p.dtype))
        if p.grad is None
        else p.grad.to(wide_dtype(p.dtype), copy=True)
        for p in params
    ]
    if params and weight_decay:
        torch._foreach_add_(grads, params, alpha=weight_decay)
    return grads


def _gradient_change(part):
    """From the gradient before the trial step to the one after it."""
    trial = _penalised_gradients(part.params, part.group["weight_decay"])
    return torch._foreach_sub(trial, part.grads)


def _is_accepted(parts, loss, trial_loss, c):
    loss, trial_loss = loss.double(), trial_loss.double()
    total, decrease = 0.0, 0.0
    for part in parts:
        square = part.squares.sum()
        total, decrease = total + square, decrease + part.group["lr"] * square
        if part.group["weight_decay"]:
            growth = _squares(part.params).sum() - _squares(part.start).sum()
            trial_loss = trial_loss + part.group["weight_decay"] / 2 * growth
    is_lower = trial_loss <= loss - c * decrease  # false for a loss that is no number
    return bool(is_lower | (total < _SMALL_GRADIENT**2))


def _squares(tensors):
    norms = torch._foreach_norm([t.to(wide_dtype(t.dtype)) for t in tensors])
    return torch.stack([norm.double() for norm in norms]).square()


def _products(first, second):
    dots = [torch.dot(a.flatten(), b.flatten()).double() for a, b in zip(first, second)]
    return torch.stack(dots)


def _inner_products(part, changes, rejected):
    """The arguments of :func:`model_coefficients`, a row each, for the tensors of a part."""
    lr, gg, gy = part.group["lr"], part.squares, _products(part.grads, changes)
    if rejected is part.grads:
        rg, ry = gg, gy
    else:
        rg, ry = _products(rejected, part.grads), _products(rejected, changes)
    return torch.stack([lr**2 * gg, _squares(changes), gg, -lr * gy, ry, -lr * rg])


def _blocks(parts, grouping):
    """For each tensor the number of the model it belongs to."""
    sizes = torch.tensor([len(part.params) for part in parts])
    return torch.arange(len(parts)).repeat_interleave(sizes) * (grouping == "group")


def model_coefficients(ss, yy, gg, ys, yg, sg, eta):
    """Coefficients (of s, g and y) of the minimiser of the model.

    The arguments are the inner products of the trial step s, the gradient g, and its change y
    along s, a tensor with one value a model each.
    """
    s, y, g = ss.sqrt(), yy.sqrt(), gg.sqrt() / eta
    twice_sigma = s * (y + g) - ys
    theta = ss * g * (g + 2 * y)  # (ys + 2 sigma)^2 - ss yy, without cancellation
    c_g = -ss / twice_sigma
    c_s = c_g / theta * (yy * sg - s * (y + g) * yg)
    c_y = c_g / theta * (ss * yg - s * (y + g) * sg)
    return torch.stack([c_s, c_g, c_y])


def _apply_model(part, changes, rejected, coefficients):
    """Move to the minimiser of the model; a tensor without a finite one stays at its start."""
    c_s, c_g, c_y = coefficients
    steps = torch._foreach_mul(part.grads, (-part.group["lr"] * c_s).unbind())
    torch._foreach_addcmul_(steps, rejected, c_g.unbind())
    torch._foreach_addcmul_(steps, changes, c_y.unbind())
    is_finite = coefficients.isfinite().all(0).unbind()
    steps = [torch.where(finite, step, 0.0) for finite, step in zip(is_finite, steps)]
    torch._foreach_copy_(part.params, part.start)
    torch._foreach_add_(part.params, steps)
