"""EGN: the Gauss-Newton step of a mini-batch, solved exactly in the space of its outputs."""

import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ._foreach import keep_types
from ._gauss_newton_direction import blocks, gauss_newton_direction, loss_curvature
from ._output_jacobian import observe, output_jacobian
from ._output_optimizer import OutputOptimizer

__all__ = ["ExactGaussNewton"]

_POSITIVE = Interval(Real, 0, None, closed="neither")
_CONSTRAINTS = {
    "lr": [_POSITIVE],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "damping": [_POSITIVE],
    "adaptive_damping": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "line_search": ["boolean"],
    "solver": [StrOptions({"auto", "cholesky", "lu", "cg"})],
    "jacobian": [StrOptions({"auto", "vmap", "analytic"})],
    "chunk_size": [Interval(Integral, 1, None, closed="left"), None],
}

_DECREASE, _SHRINK, _GROWTH, _MAX_TRIALS = 0.1, 0.8, 1.5, 15
_LOW_GAIN, _HIGH_GAIN, _RAISE, _LOWER = 0.25, 0.75, 1.5, 0.5
_SMALLEST_DAMPING, _LARGEST_DAMPING, _LARGEST_GAIN = 1e-12, 1e6, 5.0


class ExactGaussNewton(OutputOptimizer):
    """Gauss-Newton steps of mini-batches, solved exactly at the cost of a small system.

    With J the Jacobian of the outputs of a batch and Q the Hessian of the loss by them, the
    Levenberg-Marquardt system ``(J'QJ / n_rows + damping * I) d = -gradient`` has the size of the
    parameters; by an identity of Duncan and Guttman its solution is that of a system with
    one row for each output of the batch. Suits regression and problems of few classes, with
    batches of 32 to 256 rows.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them, with a `lr` and a `weight_decay` each.
    lr : float, default=0.5
        Length of a step relative to the solution of the system.
    damping : float, default=1.0
        Multiple of the identity that is added to the Gauss-Newton matrix. With the mean squared
        error without a factor 1/2, as in torch, twice that of half the squared error is the same.
    adaptive_damping : bool, default=False
        Multiply the damping by 1.5 where the loss of the batch fell by less than a quarter
        of what the quadratic model says, and by 0.5 where by more than three quarters.
    momentum : float, default=0.0
        Rate of the average of directions, in [0, 1); its start at zero is corrected for.
    line_search : bool, default=False
        Shorten steps until the loss of the batch falls; a step that is accepted lets the next one
        start 1.5 times as long, up to the whole solution. Without success the weights stay.
    weight_decay : float, default=0.0
        Decoupled weight decay: each step shrinks the parameters by ``lr * weight_decay``.
    solver : {"auto", "cholesky", "lu", "cg"}, default="auto"
        Cholesky factorisation of a symmetric form of the system, LU factorisation of the other, or
        conjugate gradients, which build no matrix of the system. "auto" is "cg" for more than
        4000 outputs in a batch, else "cholesky" for squared error and cross-entropy, whose
        symmetric form is the most accurate, and "lu" for other losses.
    jacobian : {"auto", "vmap", "analytic"}, default="auto"
        "analytic" works with the inputs of linear layers and derivatives by their outputs, and
        never holds the Jacobian; "vmap" builds it by a batch of backward passes, one an output.
        "auto" is "analytic" where all parameters are those of linear layers, else "vmap".
    chunk_size : int, default=None
        How many backward passes of "vmap" are made at a time; None for all of them.

    Attributes
    ----------
    damping : float
        Present damping.
    gain_ratio : float
        Change of the loss of the batch in the last step over that of the quadratic model, between
        -5 and 5; None before a step with `adaptive_damping`.
    step_scale : float
        Factor on `lr` that the line search chose, or came to, in the last step; 0 before.

    Raises
    ------
    TypeError
        If the closure does not return outputs and a loss function.
    ValueError
        If an option is not valid, or there is batch normalisation in training mode.

    Notes
    -----
    With n outputs in a batch (rows times classes), d parameters and c outputs a row, a step costs
    c backward passes by the layers ("analytic") or n ("vmap"), O(n^2) products, and O(n^3) for
    the solution; memory O(n * width) or O(n * d), and O(n^2). With one output a row "analytic"
    takes about twice the time of a step of Adam, "vmap" many times that, half as many where the
    module is given to :meth:`from_module`: the passes are then those of single rows, unless there
    is dropout, and its operations must be ones that ``torch.func`` knows. The line search and
    adaptive damping evaluate the network again. On noisy data the lead over a tuned Adam is small.

    Rows must not depend on each other, and the loss is the mean of convex losses of the rows:
    derivatives come from autograd, whatever the loss. A matrix that is not positive definite
    in single precision is solved with the least added damping that makes it so. A rate of 1, or
    adaptive damping, without a line search may diverge, above all where inputs are not scaled.

    References
    ----------
    .. [1] M. Korbit, A. D. Adeoye, A. Bemporad, M. Zanon, "Exact Gauss-Newton Optimization for
       Training Deep Neural Networks", 2024, arXiv:2405.14402, algorithm 1.

    Examples
    --------
    One step on a linear model is ridge regression:

    >>> import functools
    >>> import torch
    >>> from skpapers.optim import ExactGaussNewton
    >>> X, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    >>> layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1, bias=False)
    >>> _ = torch.nn.init.zeros_(layer.weight)
    >>> optimizer = ExactGaussNewton(layer.parameters(), lr=1.0, damping=2.0)
    >>> loss_function = functools.partial(torch.nn.MSELoss(), target=y)
    >>> loss = optimizer.step(lambda: (layer(X), loss_function))
    >>> round(layer.weight.item(), 4)  # X'y / (X'X + 2)
    1.0
    """

    registered_name = "egn"
    _constraints = _CONSTRAINTS
    _own = frozenset({"lr", "weight_decay"})

    def __init__(
        self,
        params,
        lr=0.5,
        damping=1.0,
        adaptive_damping=False,
        momentum=0.0,
        line_search=False,
        weight_decay=0.0,
        solver="auto",
        jacobian="auto",
        chunk_size=None,
    ):
        options = {
            "lr": lr,
            "damping": damping,
            "adaptive_damping": adaptive_damping,
            "momentum": momentum,
            "line_search": line_search,
            "weight_decay": weight_decay,
            "solver": solver,
            "jacobian": jacobian,
            "chunk_size": chunk_size,
        }
        super().__init__(params, options)
        self.param_groups[0] |= {"n_steps": 0, "gain_ratio": None, "step_scale": 0.0}

    @property
    def damping(self):
        """Present damping."""
        return self.param_groups[0]["damping"]

    @property
    def gain_ratio(self):
        """Change of the loss in the last step over that of the quadratic model."""
        return self.param_groups[0]["gain_ratio"]

    @property
    def step_scale(self):
        """Factor on the last step that the line search chose."""
        return self.param_groups[0]["step_scale"]

    @torch.no_grad()
    def step(self, closure):
        """Make one step.

        Parameters
        ----------
        closure : callable
            Returns the outputs of the network for a batch, of shape (n_rows,) or
            (n_rows, n_outputs), with their graph and the same whenever it is called, and the
            mean loss as a function of the outputs, which is differentiated twice.

        Returns
        -------
        torch.Tensor
            The loss before the step.
        """
        options = self.param_groups[0]
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        whole = self._module
        output, loss_function, calls = observe(closure, params, "ExactGaussNewton", whole)
        curvature = loss_curvature(loss_function, output)
        kind, chunk_size = options["jacobian"], options["chunk_size"]
        jacobian = output_jacobian(output, params, calls, kind, chunk_size, whole)
        damping, solver = options["damping"], options["solver"]
        direction = gauss_newton_direction(jacobian, curvature, damping, solver)
        steps = self._steps(params, direction)
        if options["line_search"] or options["adaptive_damping"]:
            moves = jacobian.times(steps)
            self._try(closure, params, steps, Model(curvature, moves))
        else:
            torch._foreach_add_(params, steps)
        for p, step, group in self._with_groups(params, steps):
            if group["weight_decay"]:
                p.sub_(p - step, alpha=group["lr"] * group["weight_decay"])
        return curvature.loss

    def _with_groups(self, params, tensors):
        groups = {p: group for group in self.param_groups for p in group["params"]}
        return [(p, tensor, groups[p]) for p, tensor in zip(params, tensors)]

    def _steps(self, params, direction):
        """Average of the directions times the learning rates."""
        options = self.param_groups[0]
        options["n_steps"] += 1
        momentum = options["momentum"]
        if momentum:
            for p, d in zip(params, direction):
                average = self.state[p].setdefault("momentum", torch.zeros_like(d))
                average.lerp_(d, 1 - momentum)
            correction = 1 - momentum ** options["n_steps"]
            direction = [self.state[p]["momentum"] / correction for p in params]
        return [
            (group["lr"] * d).to(p.dtype) for p, d, group in self._with_groups(params, direction)
        ]

    def _try(self, closure, params, steps, model):
        """Make the step, shortened where asked for, and judge the quadratic model by it."""
        options = self.param_groups[0]
        start = [p.clone() for p in params]

        def change(scale):
            """Change of the loss after a step of another length."""
            torch._foreach_copy_(params, start)
            torch._foreach_add_(params, steps, alpha=scale)
            output, loss_function = closure()
            return float(loss_function(output)) - model.loss

        scale = 1.0
        if options["line_search"]:
            largest = max(1.0, 1 / options["lr"])
            first = _GROWTH * options["step_scale"] or 1.0
            scale, gain = _backtrack(change, model.slope, min(first, largest))
            options["step_scale"] = scale
        else:
            gain = change(scale)
        if options["line_search"] and gain == math.inf:
            torch._foreach_copy_(params, start)
            torch._foreach_zero_(steps)
        else:
            torch._foreach_mul_(steps, scale)
        if options["adaptive_damping"]:
            options["gain_ratio"] = model.gain_ratio(gain, scale)
            options["damping"] = adapted_damping(options["damping"], options["gain_ratio"])

    def load_state_dict(self, state_dict):
        """Take over a state; averages of directions keep the precision they have.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict()`` returned.
        """
        super().load_state_dict(state_dict)
        keep_types(self, state_dict, ("momentum",))


# The quadratic model of the loss, and what follows from it.


class Model:
    """Change of the loss along a step that changes the outputs by `moves`."""

    def __init__(self, curvature, moves):
        n_rows = len(curvature.slopes)
        bends = blocks(curvature.hessian, moves[:, None])[:, 0]
        self.loss = float(curvature.loss)
        self.slope = float(curvature.slopes.flatten() @ moves) / n_rows
        self.curvature = float(bends @ moves) / n_rows

    def gain_ratio(self, gain, scale):
        """Change of the loss over that of the model; None where the model says nothing."""
        predicted = scale * self.slope + scale**2 / 2 * self.curvature
        if not math.isfinite(gain):
            return -_LARGEST_GAIN
        if predicted == 0:
            return None
        return min(max(gain / predicted, -_LARGEST_GAIN), _LARGEST_GAIN)


def adapted_damping(damping, gain_ratio):
    """Larger where the model is bad, smaller where it is good."""
    if gain_ratio is None:
        return damping
    if gain_ratio < _LOW_GAIN:
        damping *= _RAISE
    elif gain_ratio > _HIGH_GAIN:
        damping *= _LOWER
    return min(max(damping, _SMALLEST_DAMPING), _LARGEST_DAMPING)


def _backtrack(change, slope, scale):
    """First step length with which the loss falls enough, and by how much it does.

    Without success that is infinity, and the next step starts its search where this one ended.
    """
    for _ in range(_MAX_TRIALS):
        gain = change(scale)
        if gain <= _DECREASE * scale * min(slope, 0.0):
            return scale, gain
        scale *= _SHRINK
    return scale, math.inf
