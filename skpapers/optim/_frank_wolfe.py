"""Frank-Wolfe with simple steps, for objectives that may be infinite outside a domain."""

import functools
import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy.optimize import OptimizeResult
from sklearn.externals.array_api_compat import array_namespace
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_params,
)
from torch.optim import Optimizer

from ._foreach import check_options, evaluate
from ._frank_wolfe_steps import STEPS, ActiveSet, minimize, open_loop_step
from ._linear_minimization import (
    lmo_birkhoff,
    lmo_k_sparse,
    lmo_l1,
    lmo_l2,
    lmo_linf,
    lmo_nuclear,
    lmo_simplex,
)

__all__ = ["FrankWolfe", "frank_wolfe"]

CONSTRAINTS = {
    "l1": lmo_l1,
    "l2": lmo_l2,
    "linf": lmo_linf,
    "simplex": lmo_simplex,
    "k_sparse": lmo_k_sparse,
    "nuclear": lmo_nuclear,
    "birkhoff": lmo_birkhoff,
}


@validate_params(
    {
        "f": [callable],
        "grad": [callable],
        "lmo": [callable],
        "x0": "no_validation",
        "step": [StrOptions(set(STEPS))],
        "hessian": [callable, None],
        "self_concordance": [tuple, None],
        "domain": [callable, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "callback": [callable, None],
    },
    prefer_skip_nested_validation=True,
)
def frank_wolfe(
    f,
    grad,
    lmo,
    x0,
    step="monotonic",
    *,
    hessian=None,
    self_concordance=None,
    domain=None,
    max_iter=10_000,
    tol=1e-6,
    callback=None,
):
    """Minimise a function over a compact convex set that is known by a linear oracle.

    Every iteration moves towards the vertex of the set that is furthest down the gradient. No
    projection is needed, nor a smoothness constant, and the duality gap certifies the result.

    Parameters
    ----------
    f : callable
        From an array to the value of the objective.
    grad : callable
        From an array to the gradient, of the same shape.
    lmo : callable
        From a gradient to the point v of the set with the least <gradient, v>, for instance
        ``functools.partial(lmo_l1, radius=5.0)``.
    x0 : array of any shape
        Start, in the set and in the domain: a NumPy array or a torch tensor.
    step : {"monotonic", "halving", "open_loop", "adaptive", "second_order", "away"}, \
default="monotonic"
        "monotonic" tries 2 / (t + 2) and stays where that leaves the domain or raises f;
        "halving" halves it for good until it does neither; "open_loop" always goes; "adaptive"
        finds a local smoothness constant by backtracking; "second_order" uses the Hessian; "away"
        is adaptive and may also move away from a vertex, which converges linearly on polytopes.
    hessian : callable, default=None
        From a point and a direction d to the number ``d' H d``; for "second_order".
    self_concordance : tuple (M, nu), default=None
        Constants of generalised self-concordance, nu 2 or 3; for "second_order".
    domain : callable, default=None
        From an array to whether f is defined there; f is not evaluated where it is not. None
        where f is infinite or NaN there, or defined everywhere.
    max_iter : int, default=10000
        Largest number of iterations.
    tol : float, default=1e-6
        Stop at a duality gap of ``tol * max(1, |f|)``.
    callback : callable, default=None
        Called in every iteration as ``callback(x, fun, gap)``; a true value stops.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `x`, `fun`, `gap`, `nit`, `success`, `history` (pairs of f and gap, one an
        iteration), and, for "away", `active_set`, a pair of the atoms and their weights.

    Raises
    ------
    ValueError
        If the start is outside the domain, or something that the step needs is missing.

    Notes
    -----
    f(x) - gap is a lower bound of the minimum where f is convex. An iteration costs a gradient, an
    oracle and a value; a rejected step of "monotonic" costs a value only. "away" keeps the atoms.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, algorithm 1.

    Examples
    --------
    The projection of a point on the simplex:

    >>> import numpy as np
    >>> from skpapers.optim import frank_wolfe, lmo_simplex
    >>> b = np.array([0.9, 0.5, -1.0])
    >>> result = frank_wolfe(lambda x: ((x - b) ** 2).sum() / 2, lambda x: x - b,
    ...                      lmo_simplex, np.array([1.0, 0.0, 0.0]), step="away")
    >>> result.x.round(3)
    array([0.7, 0.3, 0. ])
    """
    if step == "second_order" and (hessian is None or self_concordance is None):
        raise ValueError("step='second_order' needs hessian and self_concordance")
    if self_concordance is not None and self_concordance[1] not in (2, 3):
        raise ValueError(f"nu in self_concordance must be 2 or 3, got {self_concordance[1]!r}")
    problem = FunctionProblem(f, grad, lmo, x0, domain, hessian, self_concordance, step == "away")
    gap, converged, history = minimize(problem, step, max_iter, tol, callback)
    active = problem.active
    return OptimizeResult(
        x=problem.x,
        fun=problem.fun,
        gap=gap,
        nit=len(history),
        success=converged,
        history=np.array(history),
        active_set=None if active is None else (active.atoms, active.weights),
    )


class FunctionProblem:
    """An objective that is known by its values and gradients."""

    def __init__(self, f, grad, lmo, x0, domain, hessian, concordance, away):
        self.f, self.grad, self.lmo, self.domain = f, grad, lmo, domain
        self.hessian, self.concordance = hessian, concordance
        self.xp = array_namespace(x0)
        self.x = self.xp.asarray(x0, copy=True)
        self.active = ActiveSet(self.x) if away else None
        self.fun = self.value(self.x)
        if not math.isfinite(self.fun):
            raise ValueError(f"x0 is outside the domain: f is {self.fun} there")

    def value(self, x):
        if self.domain is not None and not self.domain(x):
            return math.inf
        return float(self.f(x))

    def line(self, away):
        gradient = self.grad(self.x)
        vertex = self.lmo(gradient)
        direction = vertex - self.x
        gap = -self.inner(gradient, direction)
        if away:
            place, gamma_max = self.active.away(gradient)
            atom = self.active.atoms[place]
            backward = self.x - atom
            descent = -self.inner(gradient, backward)
            if descent > gap:
                return FunctionLine(self, backward, gap, descent, gamma_max, atom, place)
        return FunctionLine(self, direction, gap, gap, 1.0, vertex)

    def inner(self, a, b):
        return float(self.xp.sum(a * b))

    def move(self, line, gamma):
        self.fun, self.x = line.evaluated(gamma)
        if self.active is not None:
            self.active.move(line, gamma)
            self.x = self.active.point()  # free of the rounding errors of many steps


class FunctionLine:
    """A direction from the present point, see :mod:`._frank_wolfe_steps`."""

    def __init__(self, problem, direction, gap, descent, gamma_max, atom, place=None):
        self.problem, self.direction = problem, direction
        self.gap, self.descent, self.gamma_max = gap, descent, gamma_max
        self.atom, self.place = atom, place
        self.fun = problem.fun
        self.concordance = problem.concordance
        self.seen = None, None, None

    @functools.cached_property
    def squared_norm(self):
        return self.problem.inner(self.direction, self.direction)

    def evaluated(self, gamma):
        """Value and point after a step."""
        if self.seen[0] != gamma:
            point = self.problem.x + gamma * self.direction
            self.seen = gamma, self.problem.value(point), point
        return self.seen[1:]

    def value(self, gamma):
        return self.evaluated(gamma)[0]

    def slope(self, gamma):
        _, point = self.evaluated(gamma)
        return self.problem.inner(self.problem.grad(point), self.direction)

    def curvature(self):
        return float(self.problem.hessian(self.problem.x, self.direction))


class FrankWolfe(Optimizer):
    """Frank-Wolfe for networks whose weight matrices live in convex sets.

    Tensors of two or more dimensions move towards a vertex of their set by 2 / (t + 2) of the way,
    where that does not raise the loss of the batch. Tensors of one dimension, biases and scales,
    are not constrained and follow plain SGD. A first step puts the weights on the vertex that
    points their way.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them, with a `constraint` and a `radius` each.
    lr : float, default=0.01
        Learning rate of the tensors of one dimension.
    constraint : {"l1", "l2", "linf", "simplex", "k_sparse", "nuclear", "birkhoff"} or callable, \
default="l1"
        The set, or a linear oracle: a function from a gradient to a point of the set. "l1" makes
        sparse weights and starts from a single one, which suits linear models; networks with
        hidden layers need a set that is less sparse, such as "l2" or "nuclear".
    radius : float, default=1.0
        Radius of the set; not used where `constraint` is callable.
    step : {"monotonic", "halving", "open_loop"}, default="monotonic"
        "monotonic" stays where the trial raises the loss, "halving" halves it for good until it
        does not, "open_loop" always goes.
    per_tensor : bool, default=True
        A set for each tensor; False is one for all tensors of a group together.

    Notes
    -----
    A step evaluates the closure twice, both times on the same batch (once for "open_loop"). With
    mini-batches nothing is proved, as the losses that are compared are those of a batch. Tensors
    of one dimension follow the gradient at the new weights.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import FrankWolfe
    >>> weight = torch.nn.Parameter(torch.tensor([[0.1, 0.2]]))
    >>> optimizer = FrankWolfe([weight], radius=1.0)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (weight - torch.tensor([[3.0, 0.0]])).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    >>> weight.data
    tensor([[1., 0.]])
    """

    registered_name = "frank_wolfe"

    def __init__(
        self, params, lr=0.01, constraint="l1", radius=1.0, step="monotonic", per_tensor=True
    ):
        options = {"lr": lr, "constraint": constraint, "radius": radius, "per_tensor": per_tensor}
        super().__init__(params, options | {"iteration": 0, "factor": 1.0, "step": step})

    def add_param_group(self, param_group):
        """Add a group of parameters with a set of its own.

        Parameters
        ----------
        param_group : dict
            The parameters, under ``"params"``, and options.
        """
        check_options(self.defaults | param_group, _OPTIONS, "FrankWolfe")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure):
        """Make one step.

        Parameters
        ----------
        closure : callable
            Zeroes the gradients, evaluates the loss and its gradients, and returns the loss; it
            is called again where a trial is compared.

        Returns
        -------
        torch.Tensor
            The loss before the step.
        """
        if self.param_groups[0]["iteration"] == 0:
            self._start()
        loss = evaluate(closure)
        gradients = {p: p.grad.clone() for p in self._parameters() if p.grad is not None}
        directions = self._directions()
        if directions and not self._move(closure, loss, directions):
            for p, gradient in gradients.items():  # those of the point that is kept
                p.grad = gradient
        for group in self.param_groups:
            group["iteration"] += 1
            for p in group["params"]:
                if p.ndim < 2 and p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])
        return loss

    def _parameters(self):
        return [p for group in self.param_groups for p in group["params"]]

    def _sets(self):
        """Tensors that share a set, with its oracle."""
        for group in self.param_groups:
            constraint, radius = group["constraint"], group["radius"]
            oracle = constraint
            if not callable(constraint):
                oracle = functools.partial(CONSTRAINTS[constraint], radius=radius)
            weights = [p for p in group["params"] if p.ndim > 1 and p.requires_grad]
            if group["per_tensor"]:
                yield from (([p], oracle) for p in weights)
            elif weights:
                yield weights, oracle

    def _start(self):
        for weights, oracle in self._sets():
            for p, vertex in zip(weights, vertices([-p for p in weights], oracle)):
                p.copy_(vertex)

    def _directions(self):
        """Pairs of a tensor and its direction."""
        directions = []
        for weights, oracle in self._sets():
            used = [p for p in weights if p.grad is not None]
            if used:
                ends = vertices([p.grad for p in used], oracle)
                directions += [(p, end - p) for p, end in zip(used, ends)]
        return directions

    def _move(self, closure, loss, directions):
        """Try the step; return whether it was made."""
        state = self.param_groups[0]
        start = [p.clone() for p, _ in directions]
        while True:
            gamma = open_loop_step(state["iteration"]) * state["factor"]
            for p, direction in directions:
                p.add_(direction, alpha=gamma)
            if state["step"] == "open_loop" or evaluate(closure) <= loss:
                return True
            for (p, _), kept in zip(directions, start):
                p.copy_(kept)
            if state["step"] == "monotonic" or gamma < torch.finfo(start[0].dtype).eps:
                return False
            state["factor"] /= 2


_OPTIONS = {
    "lr": [Interval(Real, 0, None, closed="left")],
    "constraint": [StrOptions(set(CONSTRAINTS)), callable],
    "radius": [Interval(Real, 0, None, closed="neither")],
    "step": [StrOptions({"monotonic", "halving", "open_loop"})],
    "per_tensor": ["boolean"],
}


def vertices(gradients, oracle):
    """Point of a set of one tensor, or of several as one vector."""
    if len(gradients) == 1:
        return [oracle(gradients[0])]
    vertex = oracle(torch.cat([gradient.flatten() for gradient in gradients]))
    pieces = vertex.split([gradient.numel() for gradient in gradients])
    return [piece.view_as(gradient) for piece, gradient in zip(pieces, gradients)]
