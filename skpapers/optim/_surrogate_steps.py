"""Steps on a surrogate: of networks by autograd, of linear models without."""

import functools

import torch

from ._foreach import evaluate, wide_dtype

__all__ = [
    "DECREASE",
    "GROWTH",
    "SHRINK",
    "SOLVERS",
    "LinearModel",
    "NetworkModel",
    "Surrogate",
    "inner",
]

# The line search: sufficient decrease, backtracking, growth of an accepted step.
DECREASE, SHRINK, GROWTH = 0.5, 0.9, 1.8
_FIRST_INNER_STEP, _MAX_SHRINKS = 10.0, 200
# Up to so many features for each inner step the Gram matrix of the features pays.
_GRAM_COLUMNS = 8


class Surrogate:
    """Model of the change of the loss, a quadratic function of the outputs.

    It is ``<slopes, move> + <move, metric(move)> / (2 lr)``, averaged over rows.
    """

    def __init__(self, center, slopes, metric, lr):
        self.center, self.slopes, self.metric, self.lr = center, slopes, metric, lr

    def change(self, outputs):
        move = outputs - self.center
        return inner(self.slopes + self.metric(move) / (2 * self.lr), move)

    def gradient(self, outputs):
        return self.slopes / len(outputs) + self.bend(outputs - self.center)

    def bend(self, move):
        """Change of the gradient."""
        return self.metric(move) / (self.lr * len(move))


def inner(a, b):
    """Inner product of rows, averaged."""
    return float((a * b).sum()) / len(a)


# The models on which inner steps are made.


class NetworkModel:
    """A network that is known by its parameters and by a closure for its outputs."""

    def __init__(self, params, closure, output, loss_function):
        self.params, self.closure, self.loss_function = params, closure, loss_function
        self.calls = 0
        self._see(output)

    def begin(self, surrogate, options):
        self.surrogate = surrogate

    def _see(self, output):
        """Take note of an evaluation, whose graph serves the next gradient."""
        self.output, self.is_current = output, True
        self.calls += 1
        values = output.detach().to(wide_dtype(output.dtype))
        self.outputs = values.reshape(len(output), -1)

    def evaluate(self):
        self._see(evaluate(self.closure)[0])

    def gradients(self):
        """Gradient of the surrogate, as a list of tensors."""
        slopes = self.surrogate.gradient(self.outputs)
        slopes = slopes.to(self.output.dtype).reshape(self.output.shape)
        return torch.autograd.grad(self.output, self.params, slopes, materialize_grads=True)

    def direct(self):
        """Choose the direction of steepest descent; returns its squared length."""
        if not self.is_current:
            self.evaluate()
        self.start = [p.clone() for p in self.params]
        self.direction, self.step = self.gradients(), 0.0
        return float(torch.stack(torch._foreach_norm(self.direction)).square().sum())

    def move(self, step):
        if step == self.step:
            return
        torch._foreach_copy_(self.params, self.start)
        torch._foreach_add_(self.params, self.direction, alpha=-step)
        self.step, self.is_current = step, False

    def finish(self):
        """The parameters have been moved step by step."""

    def change(self, step):
        """Change of the surrogate since the start of the outer step, after a trial step."""
        self.move(step)
        self.evaluate()
        return self.surrogate.change(self.outputs)


class LinearModel:
    """A linear layer, along whose direction the surrogate is a known quadratic function."""

    def __init__(self, layer, inputs, output, loss_function):
        self.params = list(layer.parameters())
        self.output, self.loss_function, self.calls = output, loss_function, 1
        wide = wide_dtype(output.dtype)
        self.outputs, self.inputs = output.detach().to(wide), inputs.to(wide)
        if layer.bias is not None:
            self.inputs = torch.cat([self.inputs, torch.ones_like(self.inputs[:, :1])], 1)

    def begin(self, surrogate, options):
        self.surrogate, self.value = surrogate, 0.0
        self.gradient = surrogate.gradient(self.outputs).T @ self.inputs
        self.total = torch.zeros_like(self.gradient)
        n_rows, n_features = self.inputs.shape
        is_small = n_features < min(n_rows, _GRAM_COLUMNS * options["inner_steps"])
        self.gram = None
        if is_small and options["divergence"] == "euclidean":
            self.gram = self.inputs.T @ surrogate.bend(self.inputs)

    def curve(self, direction):
        """Product with the Hessian of the surrogate."""
        if self.gram is not None:
            return direction @ self.gram
        return self.surrogate.bend(self.inputs @ direction.T).T @ self.inputs

    def direct(self):
        self.bends = self.curve(self.gradient)
        self.squared_length = torch.linalg.vector_norm(self.gradient).item() ** 2
        self.curvature = torch.vdot(self.gradient.flatten(), self.bends.flatten()).item()
        self.calls += 1
        return self.squared_length

    def change(self, step):
        return self.value - step * self.squared_length + step**2 / 2 * self.curvature

    def move(self, step):
        self.value = self.change(step)
        self.total = self.total.sub(self.gradient, alpha=step)
        self.gradient = self.gradient.sub(self.bends, alpha=step)

    def finish(self):
        """Change the weights and, by the last column, the intercepts."""
        n_features = self.params[0].shape[1]
        for p, part in zip(self.params, self.total.split(n_features, 1)):
            p.add_(part.reshape(p.shape))

    def evaluate(self):
        columns = [p.reshape(len(p), -1).to(self.inputs.dtype) for p in self.params]
        self.outputs = self.inputs @ torch.cat(columns, 1).T
        self.calls += 1

    def gradients(self):
        gradient = self.surrogate.gradient(self.outputs).T @ self.inputs
        parts = gradient.split(self.params[0].shape[1], 1)
        pairs = zip(self.params, parts)
        return [part.reshape(p.shape).to(p.dtype).contiguous() for p, part in pairs]


# Solvers: each makes inner steps and returns the changes of the surrogate along its way.


def _descend(model, options, line_search):
    step = options["inner_lr"] or _FIRST_INNER_STEP
    growth = GROWTH ** (1 / (options["steps_per_epoch"] or 1))
    changes = [0.0]
    for _ in range(options["inner_steps"]):
        squared_length = model.direct()
        if squared_length <= options["tol"] ** 2:
            break
        if line_search:
            step, change = _backtrack(model, changes[-1], squared_length, step)
            changes.append(change)
        model.move(step)
        if step == 0:
            break
        step *= growth if line_search else 1
    model.finish()
    return changes


def _backtrack(model, change, squared_length, step):
    """A step with which the surrogate falls enough, or 0 if there is none, and its change."""
    for _ in range(_MAX_SHRINKS):
        trial = model.change(step)
        if trial <= change - DECREASE * step * squared_length:
            return step, trial
        step *= SHRINK
    return 0.0, change


def _lbfgs(model, options):
    changes = []
    solver = torch.optim.LBFGS(
        model.params,
        max_iter=options["inner_steps"],
        tolerance_grad=options["tol"],
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure():
        if changes:
            model.evaluate()
        for p, gradient in zip(model.params, model.gradients()):
            p.grad = gradient
        changes.append(model.surrogate.change(model.outputs))
        return changes[-1]

    solver.step(closure)
    solver.zero_grad()
    return changes


def _least_squares(model, options):
    """Least change of a linear layer that moves the outputs towards their targets."""
    if not isinstance(model, LinearModel):
        raise ValueError("inner_solver='exact' is for linear models, given to SSO.from_module")
    surrogate = model.surrogate
    root = surrogate.metric(torch.ones_like(model.outputs[:, :1])).sqrt()
    target = -surrogate.lr * surrogate.slopes / root
    model.total = (torch.linalg.pinv(root * model.inputs) @ target).T
    model.finish()
    return [0.0, surrogate.change(surrogate.center + model.inputs @ model.total.T)]


SOLVERS = {
    "armijo": functools.partial(_descend, line_search=True),
    "gd": functools.partial(_descend, line_search=False),
    "lbfgs": _lbfgs,
    "exact": _least_squares,
}
