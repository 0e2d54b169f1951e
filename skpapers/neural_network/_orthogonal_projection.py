"""The projection of a network on structured columns, and the network that has both parts."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_array, check_consistent_length
from torch import nn

from skpapers.utils import weighted_rows

__all__ = [
    "LOG_LOSSES",
    "SemiStructuredNet",
    "post_hoc_orthogonalize",
    "projection",
    "second_differences",
]


def post_hoc_orthogonalize(Z, deep_output, coef, penalty=None, sample_weight=None):
    """Move what a structured model can express from a network to its coefficients.

    With ``correction`` the coefficients of the regression of the network's output on the columns,
    ``coef + correction`` and ``deep_output - Z @ correction`` add up to the same predictor, and
    the latter is orthogonal to the columns.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_columns)
        Design of the structured part on the training rows; with a column of ones where the model
        has an intercept.
    deep_output : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Output of the trained network on these rows, dropout off.
    coef : array-like of shape (n_columns,) or (n_columns, n_outputs)
        Trained coefficients of the columns.
    penalty : array-like of shape (n_columns, n_columns), default=None
        Positive semidefinite quadratic form that is added to the sum of squares; what is left to
        the network is then not orthogonal to the penalised columns.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    coef_orth : ndarray of the shape of coef
        Coefficients of the structured part.
    correction : ndarray of the shape of coef
        Coefficients to subtract from the network: ``g(u) - z @ correction``, for new rows too.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Of all solutions for columns that are linearly dependent it is the shortest.

    References
    ----------
    .. [1] D. Rügamer, "A New PHO-rmula for Improved Performance of Semi-Structured Networks",
       ICML 2023, arXiv:2306.00522, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.neural_network import post_hoc_orthogonalize
    >>> Z = np.array([[1.0, -1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> coef, correction = post_hoc_orthogonalize(Z, [0.0, 0.0, 3.0], [0.0, 1.0])
    >>> coef.round(6), correction.round(6)
    (array([1. , 2.5]), array([1. , 1.5]))
    """
    Z = check_array(Z, dtype=np.float64, input_name="Z")
    outputs = check_array(deep_output, dtype=np.float64, ensure_2d=False, input_name="deep_output")
    coef = check_array(coef, dtype=np.float64, ensure_2d=False, input_name="coef")
    check_consistent_length(Z, outputs)
    if coef.shape != (Z.shape[1], *outputs.shape[1:]):
        raise ValueError(
            f"coef has shape {coef.shape}, expected {(Z.shape[1], *outputs.shape[1:])}"
        )
    if penalty is not None:
        penalty = check_array(penalty, dtype=np.float64, input_name="penalty")
        if penalty.shape != (Z.shape[1],) * 2:
            raise ValueError(f"penalty has shape {penalty.shape}, expected {(Z.shape[1],) * 2}")
    keep, weight = weighted_rows(sample_weight, Z)
    columns = outputs.reshape(len(outputs), -1)
    correction = projection([(Z[keep], columns[keep], weight)], penalty, relative=False)
    correction = correction.reshape(coef.shape)
    return coef + correction, correction


def projection(chunks, penalty=None, relative=True):
    """Weighted, penalised least squares in one pass over chunks ``(Z, outputs, weight)``.

    Only a triangular factor is kept; unlike sums of products it does not square the condition
    number. A `relative` penalty stands next to the mean of the squares, else next to their sum.
    """
    factor, total = None, 0.0
    for Z, outputs, weight in chunks:
        n_columns, total = Z.shape[1], total + weight.sum()
        rows = np.hstack([Z, outputs]) * np.sqrt(weight)[:, None]
        factor = np.linalg.qr(rows if factor is None else np.vstack([factor, rows]), mode="r")
    if penalty is not None:
        values, vectors = np.linalg.eigh(penalty * (total if relative else 1.0))
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
        zeros = np.zeros((n_columns, factor.shape[1] - n_columns))
        factor = np.vstack([factor, np.hstack([root, zeros])])
    return np.linalg.lstsq(factor[:, :n_columns], factor[:, n_columns:], rcond=None)[0]


def second_differences(n_splines):
    """Sum of squared second differences as a quadratic form, for a last coefficient of zero."""
    differences = np.diff(np.eye(n_splines), 2, axis=0)[:, :-1]
    return differences.T @ differences


class SemiStructuredNet(nn.Module):
    """Structured columns with coefficients, plus a network of other columns (or None)."""

    def __init__(self, net, n_columns, n_outputs, online=False, penalty=None):
        super().__init__()
        self.net = net
        self.online = online
        self.penalty = penalty
        self.coef = nn.Parameter(torch.empty(n_columns, n_outputs))
        self.intercept = nn.Parameter(torch.empty(n_outputs))
        self.register_buffer("alpha", torch.empty(n_columns + 1, n_outputs))
        self.register_buffer("form", torch.empty(n_columns, n_columns) if self.rough else None)
        self.is_fitted = False

    @property
    def rough(self):
        """Whether there is a penalty."""
        return self.penalty is not None

    def init_parameters(self, generator):
        """Set all to zero; what depends on data is set later."""
        for tensor in (self.coef, self.intercept, self.alpha):
            tensor.zero_()
        if self.rough:
            self.form.copy_(torch.from_numpy(self.penalty[1:, 1:]))

    def structured(self):
        """Intercept and coefficients, one below the other."""
        return torch.cat([self.intercept[None], self.coef])

    def set_structured(self, values):
        """Set intercept and coefficients."""
        values = torch.from_numpy(values)
        self.intercept.copy_(values[0])
        self.coef.copy_(values[1:])

    def set_alpha(self, values):
        """Set the coefficients of the projection of the network."""
        self.alpha.copy_(torch.from_numpy(values))
        self.is_fitted = True

    def network(self, u):
        """Output of the network, zero without one."""
        return u.new_zeros(len(u), len(self.intercept)) if self.net is None else self.net(u)

    def roughness(self):
        """The penalty."""
        return (self.coef * (self.form @ self.coef)).sum() if self.rough else 0.0

    def forward(self, z, u):
        """Compute the predictor."""
        g = self.network(u)
        if self.online and self.net is not None:
            is_new = self.training or not self.is_fitted
            g = g - (_project(z, g) if is_new else _affine(z, self.alpha))
        return torch.addmm(self.intercept, z, self.coef) + g

    def parts(self, z, u, orthogonalization):
        """The structured part and that of the network, which add up to the predictor."""
        structured = self.structured()
        if orthogonalization == "post":
            structured = structured + self.alpha
        deep = self.network(u)
        if orthogonalization != "none":
            deep = deep - _affine(z, self.alpha)
        return _affine(z, structured), deep


def _affine(z, coef):
    return torch.addmm(coef[0], z, coef[1:])


def _project(z, g):
    """Projection of the columns of g on those of z and a constant."""
    ones = torch.ones_like(z[:, :1])
    with torch.no_grad():
        u, s, _ = torch.linalg.svd(torch.cat([ones, z], dim=1), full_matrices=False)
        basis = u * (s > s[0] * max(z.shape) * torch.finfo(s.dtype).eps)
    return basis @ (basis.T @ g)


def _poisson(output, target, reduction):
    losses = (output.exp() - target * output).sum(1)
    return losses.mean() if reduction == "mean" else losses


def _gamma(output, target, reduction):
    losses = (target * (-output).exp() + output).sum(1)
    return losses.mean() if reduction == "mean" else losses


LOG_LOSSES = {"poisson": _poisson, "gamma": _gamma}


def cross_entropy_response(index, n_classes, weight):
    """Base logits, and one step of Fisher scoring from them for each row."""
    one_hot = F.one_hot(index, n_classes).double().numpy()
    share = np.average(one_hot, axis=0, weights=weight)
    return np.log(share), one_hot / share - 1
