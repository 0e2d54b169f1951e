"""SSO: several steps of the parameters for one gradient of the loss by the outputs."""

import functools
import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ._loss_curvature import (
    evaluate_outputs,
    loss_derivatives,
    loss_kind,
    row_weights,
    smoothness,
)
from ._output_optimizer import OutputOptimizer
from ._surrogate_steps import (
    DECREASE,
    GROWTH,
    SHRINK,
    SOLVERS,
    LinearModel,
    NetworkModel,
    Surrogate,
    inner,
)

__all__ = ["SSO"]

_POSITIVE = Interval(Real, 0, None, closed="neither")
_CONSTRAINTS = {
    "lr": [_POSITIVE, StrOptions({"auto"})],
    "inner_steps": [Interval(Integral, 1, None, closed="left")],
    "inner_solver": [StrOptions({"armijo", "gd", "lbfgs", "exact"})],
    "inner_lr": [_POSITIVE, None],
    "lr_schedule": [StrOptions({"constant", "decreasing", "exponential", "armijo"})],
    "total_steps": [Interval(Integral, 1, None, closed="left"), None],
    "steps_per_epoch": [Interval(Integral, 1, None, closed="left"), None],
    "divergence": [StrOptions({"euclidean", "newton"})],
    "tol": [Interval(Real, 0, None, closed="left")],
}

_SMALLEST_LR, _LARGEST_LR = 1e-4, 1e4  # of the search in the space of the outputs


class SSO(OutputOptimizer):
    """Surrogate optimization: many steps of the parameters for one gradient of the loss.

    The gradient of the loss by the outputs (targets) of the network, once for a batch, makes a
    surrogate of the loss: linear plus ``||change of the outputs||^2 / (2 lr)``. With ``lr = 1/L``,
    L the smoothness of the loss of a row as a function of its outputs, which is known for the
    usual losses, it bounds the loss from above. Some steps on it need the network alone: of use
    where the loss is costly, and without a learning rate in the space of the parameters.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them; the options are those of all groups.
    lr : float or "auto", default="auto"
        Step in the space of the outputs. "auto" is 1/L for squared error, Huber, logistic and
        cross-entropy loss, and 1 for other losses and for ``divergence="newton"``.
    inner_steps : int, default=10
        Steps on the surrogate.
    inner_solver : {"armijo", "gd", "lbfgs", "exact"}, default="armijo"
        Gradient descent with a line search or with a fixed step, L-BFGS, or, for linear models
        given to :meth:`from_module`, least squares.
    inner_lr : float, default=None
        Step of "gd", for which it must be given, and the first one that "armijo" tries, 10 by
        default.
    lr_schedule : {"constant", "decreasing", "exponential", "armijo"}, default="constant"
        `lr` always; over the root of the number of the step; decreasing exponentially, to
        ``lr / total_steps`` at the end; or by a line search in the space of the outputs,
        which starts from `lr` ("auto": 1) and costs values of the loss, no gradients.
    total_steps : int, default=None
        Length of the training, for "exponential". An estimator sets it.
    steps_per_epoch : int, default=None
        Batches an epoch, 1 by default; an estimator sets it. An accepted step of "armijo" grows
        by a factor of ``1.8 ** (1 / steps_per_epoch)``.
    divergence : {"euclidean", "newton"}, default="euclidean"
        How changes of the outputs are measured: by their length, or by the Hessian of the loss.
    tol : float, default=1e-6
        Norm of the gradient of the surrogate at which the inner steps end.

    Attributes
    ----------
    n_gradient_calls : int
        Gradients of the loss computed.
    n_model_calls : int
        Evaluations of the network.
    last_lr : float
        Step in the space of the outputs that was used last.
    surrogate_values : list of float
        Values of the last surrogate: at the start, where it is the loss, and after the inner
        steps of "armijo" and "exact" and at the points that "lbfgs" visits.

    Raises
    ------
    TypeError
        If the closure does not return outputs and a loss function.
    ValueError
        If an option is not valid, or groups have options of their own.

    Notes
    -----
    The closure returns ``(outputs, loss_function)``, see :meth:`step`. An outer step costs a
    gradient of the loss, `inner_steps` gradients of the network, and evaluations for the line
    search. For linear models given to :meth:`from_module`, an inner step costs two
    products with the batch, and a line search no more; a linear model is a ``torch.nn.Linear``, or
    a ``torch.nn.Sequential`` of one.

    On a whole data set, with ``lr="auto"`` and the Euclidean divergence, the loss of a known
    kind never increases. On mini-batches, `lr` must decrease, unless the model can fit all rows.
    The surrogate of "newton" is no bound, and steps may be long where the Hessian is near zero.
    Running statistics of batch normalisation are
    updated by every evaluation of the network. A loss function may have an attribute
    ``weight``, positive weights of the rows, which then weigh in the surrogate as well.

    References
    ----------
    .. [1] J. W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt, N. Le Roux, "Target-based
       Surrogates for Stochastic Optimization", ICML 2023, arXiv:2302.02607, algorithm 1.

    Examples
    --------
    >>> import functools
    >>> import torch
    >>> from skpapers.optim import SSO
    >>> X, y = torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])
    >>> layer = torch.nn.Linear(3, 1, bias=False)
    >>> optimizer = SSO.from_module(layer, inner_solver="exact")
    >>> loss_function = functools.partial(torch.nn.MSELoss(), target=y)
    >>> _ = optimizer.step(lambda: (layer(X), loss_function))
    >>> layer.weight.data.round(decimals=4)
    tensor([[1., 2., 3.]])
    """

    registered_name = "sso"
    _constraints = _CONSTRAINTS

    def __init__(
        self,
        params,
        lr="auto",
        inner_steps=10,
        inner_solver="armijo",
        inner_lr=None,
        lr_schedule="constant",
        total_steps=None,
        steps_per_epoch=None,
        divergence="euclidean",
        tol=1e-6,
    ):
        options = {
            "lr": lr,
            "inner_steps": inner_steps,
            "inner_solver": inner_solver,
            "inner_lr": inner_lr,
            "lr_schedule": lr_schedule,
            "total_steps": total_steps,
            "steps_per_epoch": steps_per_epoch,
            "divergence": divergence,
            "tol": tol,
        }
        super().__init__(params, options)
        counts = {"n_gradient_calls": 0, "n_model_calls": 0, "last_lr": None}
        self.param_groups[0] |= counts | {"surrogate_values": []}

    def _check(self, options):
        super()._check(options)
        if options["inner_solver"] == "gd" and options["inner_lr"] is None:
            raise ValueError("inner_lr must be given with inner_solver='gd'")
        if options["divergence"] == "newton":
            for option, value in (("inner_solver", "exact"), ("lr_schedule", "armijo")):
                if options[option] == value:
                    raise ValueError(f"{option}={value!r} of SSO needs divergence='euclidean'")

    @property
    def n_gradient_calls(self):
        """Gradients of the loss computed."""
        return self.param_groups[0]["n_gradient_calls"]

    @property
    def n_model_calls(self):
        """Evaluations of the network."""
        return self.param_groups[0]["n_model_calls"]

    @property
    def last_lr(self):
        """Step in the space of the outputs that was used last."""
        return self.param_groups[0]["last_lr"]

    @property
    def surrogate_values(self):
        """Values of the last surrogate."""
        return self.param_groups[0]["surrogate_values"]

    @torch.no_grad()
    def step(self, closure):
        """Make one outer step.

        Parameters
        ----------
        closure : callable
            Returns the outputs of the network for a batch, of shape (n_rows,) or
            (n_rows, n_outputs), with their graph and the same whenever it is called, and the
            mean loss as a function of the outputs. That function is differentiated, unless it has
            a method ``value_and_gradient(outputs)``, which returns the mean loss and the
            gradients of the losses of the rows, not divided by their number.

        Returns
        -------
        torch.Tensor
            The loss before the step.
        """
        state = self.param_groups[0]
        model = self._model(closure)
        state["n_gradient_calls"] += 1
        loss, slopes, metric = _linearise(model, state["divergence"])
        weights = row_weights(model.loss_function, slopes)
        state["last_lr"] = self._step_size(model, loss, slopes, weights)
        model.begin(Surrogate(model.outputs, slopes, metric, state["last_lr"]), state)
        changes = SOLVERS[state["inner_solver"]](model, state)
        state["n_model_calls"] += model.calls
        state["surrogate_values"] = [float(loss) + change for change in changes]
        return loss

    def _model(self, closure):
        layer = None if self._module is None else _linear_layer(self._module)
        if layer is None:
            output, loss_function = evaluate_outputs(closure, "SSO")
            params = [p for group in self.param_groups for p in group["params"]]
            params = [p for p in params if p.requires_grad]
            return NetworkModel(params, closure, output, loss_function)
        seen = {}
        hook = layer.register_forward_hook(
            lambda module, args, output: seen.update(inputs=args[0].detach(), output=output)
        )
        try:
            output, loss_function = evaluate_outputs(closure, "SSO")
        finally:
            hook.remove()
        if not seen or seen["output"].data_ptr() != output.data_ptr():
            raise ValueError("the closure must return the output of the module of from_module")
        if output.shape != (*seen["inputs"].shape[:1], layer.out_features):
            return NetworkModel(list(layer.parameters()), closure, output, loss_function)
        return LinearModel(layer, seen["inputs"], output, loss_function)

    def _step_size(self, model, loss, slopes, weights):
        """The step in the space of the outputs, by the schedule."""
        state = self.param_groups[0]
        lr, schedule, step = state["lr"], state["lr_schedule"], state["n_gradient_calls"]
        if schedule == "armijo":
            lr = 1.0 if lr == "auto" else lr
            first = lr if state["last_lr"] is None else GROWTH * state["last_lr"]
            return _search_outputs(model, loss, slopes, weights, first)
        if lr == "auto":
            is_known = state["divergence"] == "euclidean"
            constant = smoothness(loss_kind(model.loss_function), slopes.shape[1])
            lr = 1 / constant if is_known and constant else 1.0
        if schedule == "decreasing":
            return lr / math.sqrt(step)
        if schedule == "exponential":
            if state["total_steps"] is None:
                raise ValueError("total_steps must be given with lr_schedule='exponential'")
            return lr * state["total_steps"] ** (-step / state["total_steps"])
        return lr


def _linear_layer(module):
    """The only layer of a linear model, or None."""
    while type(module) is nn.Sequential and len(module) == 1:
        (module,) = module
    has_hooks = type(module) is nn.Linear and (module._forward_hooks or module._forward_pre_hooks)
    all_trained = all(p.requires_grad for p in module.parameters())
    return module if type(module) is nn.Linear and all_trained and not has_hooks else None


# What a step needs.


def _linearise(model, divergence):
    """Mean loss, slopes of the rows, and what measures changes of the outputs."""
    loss_function, is_newton = model.loss_function, divergence == "newton"
    oracle = getattr(loss_function, "value_and_gradient", None)
    if oracle is None:
        loss, slopes, hessian = loss_derivatives(loss_function, model.output, second=is_newton)
    elif is_newton:
        raise ValueError("divergence='newton' needs a loss that can be differentiated twice")
    else:
        loss, slopes = oracle(model.output.detach())
        slopes = torch.as_tensor(slopes).to(model.outputs).reshape(model.outputs.shape)
        loss = torch.as_tensor(loss, dtype=slopes.dtype, device=slopes.device)
    if is_newton:
        return loss, slopes, functools.partial(torch.einsum, "nij,nj->ni", hessian)
    weights = row_weights(loss_function, slopes)
    if isinstance(weights, float):
        return loss, slopes, lambda move: move
    return loss, slopes, functools.partial(torch.mul, weights)


def _search_outputs(model, loss, slopes, weights, lr):
    """Shrink a step of the outputs until the loss falls enough."""
    if hasattr(model.loss_function, "value_and_gradient"):
        raise ValueError("lr_schedule='armijo' needs a loss that is a function of the outputs")
    direction = slopes / weights
    decrease = DECREASE * inner(slopes, direction)
    lr = min(max(lr, _SMALLEST_LR), _LARGEST_LR)
    while lr > _SMALLEST_LR:
        trial = (model.outputs - lr * direction).reshape(model.output.shape)
        if model.loss_function(trial.to(model.output.dtype)) <= loss - lr * decrease:
            return lr
        lr *= SHRINK
    return _SMALLEST_LR
