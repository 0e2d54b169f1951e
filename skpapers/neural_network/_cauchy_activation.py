"""Cauchy activations, networks of one layer of them, and their least squares problem."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ._registry import register

__all__ = ["CauchyActivation", "CauchyNet", "solve_linear_block"]


@register("activation", "cauchy")
class CauchyActivation(nn.Module):
    """Activation ``(lambda1 * x + lambda2) / (x**2 + d**2)``, all three trained.

    It is what a pair of conjugate poles contributes to a function by Cauchy's formula: it acts
    near zero and fades as ``lambda1 / x``.

    Parameters
    ----------
    num_parameters : int, default=1
        Number of activations: 1, or the number of features, which are along axis 1.
    init_lambda1 : float, default=1.0
        Initial coefficient of the odd part.
    init_lambda2 : float, default=1.0
        Initial coefficient of the even part.
    init_d : float, default=1.0
        Initial distance of the poles, at least `d_min`.
    d_min : float, default=1e-3
        Lower bound of the distance: d is ``sqrt(theta**2 + d_min**2)``, with theta trained.

    Attributes
    ----------
    lambda1, lambda2, theta : torch.nn.Parameter of shape (num_parameters,)
        What is trained.
    d : torch.Tensor of shape (num_parameters,)
        The distances.

    Notes
    -----
    One division an entry. On digits it is as good as ReLU, no better.

    References
    ----------
    .. [1] X. Li, Z. Xia, H. Zhang, "Cauchy activation function and XNet", arXiv:2409.19221,
       section 2.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import CauchyActivation, NeuralClassifier
    >>> with torch.no_grad():
    ...     CauchyActivation()(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0., 1., 1.])
    >>> NeuralClassifier(activation="cauchy").activation
    'cauchy'
    """

    def __init__(
        self, num_parameters=1, init_lambda1=1.0, init_lambda2=1.0, init_d=1.0, d_min=1e-3
    ):
        super().__init__()
        if not 0 < d_min <= init_d < math.inf:
            raise ValueError(
                f"init_d must be at least d_min, which must be positive, got {init_d=}, {d_min=}"
            )
        self.d_min = d_min
        theta = math.sqrt(init_d**2 - d_min**2)
        self._start = {"lambda1": init_lambda1, "lambda2": init_lambda2, "theta": theta}
        for name, value in self._start.items():
            setattr(self, name, nn.Parameter(torch.full((num_parameters,), float(value))))

    def init_parameters(self, generator):
        """Set the parameters to their initial values.

        Parameters
        ----------
        generator : torch.Generator
            Not used: nothing is drawn.
        """
        for name, value in self._start.items():
            getattr(self, name).fill_(value)

    @property
    def d(self):
        """The distances of the poles."""
        return torch.sqrt(self.theta.square() + self.d_min**2)

    def forward(self, x):
        """Apply the activation to every entry.

        Parameters
        ----------
        x : torch.Tensor
            Input of any shape and floating-point type.

        Returns
        -------
        torch.Tensor
            Output of the same shape and type.
        """
        wide = x.float() if x.element_size() < 4 else x
        parameters = (p.to(wide.dtype) for p in (self.lambda1, self.lambda2, self.d))
        if len(self.theta) > 1:
            parameters = (p.view(-1, *[1] * (x.ndim - 2)) for p in parameters)
        lambda1, lambda2, d = parameters
        return (torch.addcmul(lambda2, lambda1, wide) / (wide.square() + d.square())).to(x.dtype)

    def extra_repr(self):
        """Return the arguments, as the representation shows them.

        Returns
        -------
        str
            The arguments.
        """
        return f"num_parameters={len(self.theta)}, d_min={self.d_min}"


class CauchyNet(nn.Module):
    """A sum of ridge functions, each a Cauchy activation with parameters of its own.

    Its parameters are set by :meth:`place_units` and :meth:`set_linear_block`.
    """

    def __init__(self, n_features, n_units, n_outputs):
        super().__init__()
        self.register_buffer("mean", torch.empty(n_features))
        self.register_buffer("scale", torch.empty(n_features))
        self.register_buffer("d_min", torch.empty(()))
        self.weight = nn.Parameter(torch.empty(n_units, n_features))
        self.offset = nn.Parameter(torch.empty(n_units))
        self.theta = nn.Parameter(torch.empty(n_units))
        self.lambda1 = nn.Parameter(torch.empty(n_outputs, n_units))
        self.lambda2 = nn.Parameter(torch.empty(n_outputs, n_units))
        self.bias = nn.Parameter(torch.empty(n_outputs))

    def init_parameters(self, generator):
        """Draw directions and the order of the offsets; what depends on data is set later."""
        self.mean.zero_()
        self.scale.fill_(1)
        self.d_min.fill_(1e-3)
        self.weight.normal_(generator=generator)
        self.weight.div_(torch.linalg.norm(self.weight, dim=1, keepdim=True).clamp(min=1e-12))
        n_units = len(self.offset)
        place = torch.randperm(n_units, generator=generator) + 0.5
        self.offset.copy_(place / n_units)
        self.theta.fill_(1)
        for coefficient in (self.lambda1, self.lambda2):
            coefficient.normal_(std=n_units**-0.5, generator=generator)
        self.bias.zero_()

    @property
    def d(self):
        """The distances of the poles."""
        return torch.sqrt(self.theta.square() + self.d_min.square())

    def place_units(self, x, n_samples):
        """Spread the offsets, as fractions of each unit's range, over that range.

        Returns the range; distances of the poles are bounded by half the spacing of the samples.
        """
        projected = (x - self.mean) / self.scale @ self.weight.T
        low, high = projected.amin(0), projected.amax(0)
        spread = torch.where(high > low, high - low, 1)
        self.offset.copy_(-(low + self.offset * spread))
        self.d_min.clamp_(min=float(spread.mean()) / (2 * n_samples))
        return spread

    def set_d(self, d):
        """Set the distances, exactly where they are above the bound."""
        self.theta.copy_(torch.sqrt((d.square() - self.d_min.square()).clamp(min=0)))

    def set_linear_block(self, lambda1, lambda2, bias):
        """Set the coefficients from arrays of shape (n_units, n_outputs) and (n_outputs,)."""
        for parameter, value in ((self.lambda1, lambda1.T), (self.lambda2, lambda2.T)):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        self.bias.copy_(torch.from_numpy(bias))

    def size_of_linear_block(self):
        """Sum of the squares of the coefficients, in the scale in which they are solved for."""
        d = self.d
        return (self.lambda1 / d).square().sum() + (self.lambda2 / d.square()).square().sum()

    def ridge(self, x):
        """The arguments u of the activations."""
        return torch.addmm(self.offset, (x - self.mean) / self.scale, self.weight.T)

    def forward(self, x):
        """Compute the outputs."""
        u = self.ridge(x)
        inverse = 1 / (u.square() + self.d.square())
        return torch.addmm(self.bias, u * inverse, self.lambda1.T) + inverse @ self.lambda2.T


class LinearSolution(NamedTuple):
    """Coefficients of the odd and even parts, the bias, and how good they are."""

    lambda1: np.ndarray
    lambda2: np.ndarray
    bias: np.ndarray
    objective: float
    residual: float
    dof: float

    def gcv(self, n_samples, n_more=0):
        """The generalised cross-validation score, with so many more parameters fitted."""
        left = 1 - (self.dof + n_more) / n_samples
        return self.residual / left**2 if left > 0 else math.inf


def solve_linear_block(W, b, d, X, Y, alpha, sample_weight=None):
    """Fit what is linear in a network of Cauchy units, given the rest.

    Parameters
    ----------
    W : ndarray of shape (n_units, n_features)
        Directions.
    b : ndarray of shape (n_units,)
        Offsets: unit j sees ``u = X @ W[j] + b[j]``.
    d : ndarray of shape (n_units,)
        Distances of the poles, positive.
    X : ndarray of shape (n_samples, n_features)
        Data.
    Y : ndarray of shape (n_samples, n_outputs)
        Targets.
    alpha : float
        Factor on the sum of the squared coefficients, whose columns are scaled to order one, next
        to the mean squared error.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    lambda1 : ndarray of shape (n_units, n_outputs)
        Coefficients of ``u / (u**2 + d**2)``.
    lambda2 : ndarray of shape (n_units, n_outputs)
        Coefficients of ``1 / (u**2 + d**2)``.
    bias : ndarray of shape (n_outputs,)
        Constants.

    Notes
    -----
    One singular value decomposition, O(n_samples * n_units**2): the columns are nearly collinear,
    so that the normal equations would lose all digits.

    References
    ----------
    .. [1] X. Li, Z. Xia, H. Zhang, "Cauchy activation function and XNet", arXiv:2409.19221,
       section 2; the closed form is not theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.neural_network import solve_linear_block
    >>> X = np.linspace(-1, 1, 9)[:, None]
    >>> one = np.ones(1)
    >>> found = solve_linear_block(one[:, None], 0 * one, one, X, 3 * X / (X**2 + 1) + 2, 0.0)
    >>> [float(part.item().__round__(6)) + 0.0 for part in found]
    [3.0, 0.0, 2.0]
    """
    (solution,) = linear_solutions(X @ W.T + b, d, Y, [alpha], sample_weight)
    return solution[:3]


def linear_solutions(u, d, Y, alphas, weight=None):
    """Solve the linear block for several penalties, by one singular value decomposition."""
    share = np.full(len(u), 1 / len(u)) if weight is None else weight / weight.sum()
    inverse = 1 / (u**2 + d**2)
    A = np.hstack([d * u * inverse, d**2 * inverse])
    A_mean, Y_mean = share @ A, share @ Y
    root = np.sqrt(share)[:, None]
    left, s, right = np.linalg.svd(root * (A - A_mean), full_matrices=False)
    target = root * (Y - Y_mean)
    rotated = left.T @ target
    beyond = np.sum((target - left @ rotated) ** 2)
    keep = s > np.finfo(float).eps * max(A.shape) * s[0]
    for alpha in alphas:
        shrink = np.where(keep, s**2 / np.where(keep, s**2 + alpha, 1), 0)
        c = right.T @ (np.where(keep, shrink / np.where(keep, s, 1), 0)[:, None] * rotated)
        residual = float(beyond + np.sum(((1 - shrink)[:, None] * rotated) ** 2))
        odd, even = np.vsplit(c, 2)
        yield LinearSolution(
            lambda1=odd * d[:, None],
            lambda2=even * d[:, None] ** 2,
            bias=Y_mean - A_mean @ c,
            objective=residual + alpha * float(np.sum(c**2)),
            residual=residual,
            dof=1 + float(shrink.sum()),
        )
