"""Wide two-layer ReLU networks: their training, and the kernel that it follows."""

import math

import torch
from sklearn.externals.array_api_compat import array_namespace
from sklearn.utils import check_array

__all__ = [
    "ReluNetwork",
    "TangentRegression",
    "score_ntk",
    "train_network",
    "truncate",
]


def score_ntk(U, V=None):
    """Compute the tangent kernel of a two-layer ReLU network whose hidden layer is trained.

    Training such a network, ever wider, by gradient descent is kernel regression with it.

    Parameters
    ----------
    U : array-like of shape (n_rows, n_inputs)
        Inputs of the network: points, time and a constant. NumPy arrays and tensors are both
        accepted: the result is what the inputs are.
    V : array-like of shape (n_columns, n_inputs), default=None
        Inputs; None for `U`.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
        <u, v> (pi - angle(u, v)) / (2 pi).

    References
    ----------
    Han, Razaviyayn and Xu, "Neural Network-Based Score Estimation in Diffusion Models:
    Optimization and Generalization", ICLR 2024, arXiv:2401.15604.

    Examples
    --------
    >>> from skpapers.density import score_ntk
    >>> score_ntk([[2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    array([[1., 0.]])
    """
    U = U if hasattr(U, "shape") else check_array(U)
    V = U if V is None else V if hasattr(V, "shape") else check_array(V)
    inner, angle = _inner_and_angle(U, V)
    return inner * ((math.pi - angle) / (2 * math.pi))


def _inner_and_angle(U, V):
    xp = array_namespace(U)
    inner = U @ V.T
    lengths = xp.linalg.vector_norm(U, axis=1)[:, None] * xp.linalg.vector_norm(V, axis=1)
    cosine = inner / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
    return inner, xp.acos(xp.clip(cosine, -1.0, 1.0))


class TangentRegression(torch.nn.Module):
    """Combination of kernels with centres, differentiable with respect to the inputs.

    Parameters
    ----------
    centres : torch.Tensor of shape (n_centres, n_inputs)
        Centres.
    coef : torch.Tensor of shape (n_centres, n_outputs)
        Coefficients.
    """

    def __init__(self, centres, coef):
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("coef", coef)
        self.n_units = len(centres)

    def forward(self, inputs):
        """Outputs at the rows of `inputs`."""
        return _TangentMean.apply(inputs, self.centres, self.coef)


class _TangentMean(torch.autograd.Function):
    """The Jacobian is computed once, in closed form, for all backward passes.

    The gradient of the kernel is v (pi - angle) / (2 pi) + cot(angle) / (2 pi) times v less its
    projection on u, which has no limit where v is along u: zero is taken there.
    """

    @staticmethod
    def forward(ctx, inputs, centres, coef):
        inner, angle = _inner_and_angle(inputs, centres)
        first = (math.pi - angle) / (2 * math.pi)
        if ctx.needs_input_grad[0]:
            turn = torch.where(angle > 1e-7, torch.tan(angle).reciprocal(), 0) / (2 * math.pi)
            outer = (coef[:, :, None] * centres[:, None, :]).flatten(1)
            jacobian = ((first + turn) @ outer).unflatten(1, (coef.shape[1], -1))
            along = inner / inputs.square().sum(1, keepdim=True)
            jacobian -= ((turn * along) @ coef)[:, :, None] * inputs[:, None, :]
            ctx.save_for_backward(jacobian)
        return (inner * first) @ coef

    @staticmethod
    def backward(ctx, gradient):
        (jacobian,) = ctx.saved_tensors
        return torch.einsum("ni,nik->nk", gradient, jacobian), None, None


def truncate(x, radius):
    """Move rows that are longer than `radius` back to it."""
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * (radius / lengths.clamp(min=radius))


class ReluNetwork(torch.nn.Module):
    """Two layers of which the first is trained, zero at the start: the neurons cancel in pairs.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Sizes.
    width : int
        Number of neurons; even.
    generator : torch.Generator
        Source of the weights.
    dtype : torch.dtype, default=torch.float64
        Data type.
    """

    def __init__(self, n_inputs, n_outputs, width, generator, dtype=torch.float64):
        super().__init__()
        self.n_units = width
        half = torch.randn(width // 2, n_inputs, generator=generator, dtype=torch.float64)
        signs = 2 * torch.randint(2, (n_outputs, width // 2), generator=generator) - 1
        self.hidden = torch.nn.Parameter(torch.cat([half, half]).to(dtype))
        self.register_buffer("signs", torch.cat([signs, -signs], 1).to(dtype) / math.sqrt(width))

    def forward(self, inputs):
        """Outputs at the rows of `inputs`."""
        return torch.relu(inputs @ self.hidden.T) @ self.signs.T


@torch.no_grad()
def train_network(network, inputs, targets, n_iter, rate):
    """Gradient descent on half the mean squared error of all rows, in place."""
    for _ in range(n_iter):
        before = inputs @ network.hidden.T
        residuals = targets - before.relu() @ network.signs.T
        back = (residuals @ network.signs) * (before > 0)
        network.hidden.addmm_(back.T, inputs, alpha=rate / len(inputs))
    return network
