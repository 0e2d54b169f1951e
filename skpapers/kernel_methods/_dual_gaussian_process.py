"""Sparse Gaussian processes in dual parameters: data are added one by one, in any order."""

import torch

__all__ = ["DualGaussianProcess", "cholesky_with_jitter"]


class DualGaussianProcess:
    """One sparse process an output, given by sums over the data.

    With the kernel k / scale, inducing points Z and L L' = k(Z, Z), the state is what the data
    add up to in the coordinates v(x) = L^-1 k(Z, x), in which the prior is white:
    the matrix sum_i v_i beta_i v_i' and the vector sum_i v_i target_i. Nothing there is inverted,
    and every term is positive semi-definite, so that variances never rise as data come in.

    Parameters
    ----------
    kernel_matrix : torch.Tensor of shape (n_outputs, n_inducing, n_inducing)
        The kernel k among the inducing points.
    jitter : float
        What is added to its diagonal.
    scale : float, default=1.0
        What the kernel is divided by: the prior precision times the number of rows.
    """

    def __init__(self, kernel_matrix, jitter, scale=1.0):
        self.factor = cholesky_with_jitter(kernel_matrix, jitter)
        self.curvature = torch.zeros_like(kernel_matrix)
        self.target = torch.zeros_like(kernel_matrix[:, :, :1])
        self.set_scale(scale)

    def add(self, cross, curvature, target):
        """Add rows: k(Z, x) (n_outputs, n_inducing, n), and two duals (n, n_outputs) of theirs.

        Follow with ``set_scale``, which refreshes the posterior.
        """
        v = self._whiten(cross)
        self.curvature += (v * curvature.T[:, None, :]) @ v.mT
        self.target += v @ target.T[:, :, None]

    def set_scale(self, scale):
        """Set the scale of the prior, and solve for the posterior."""
        self.scale = scale
        identity = torch.eye(self.factor.shape[-1]).to(self.factor)
        posterior = identity + self.curvature / scale
        self.posterior_factor, failures = torch.linalg.cholesky_ex(posterior)
        if failures.any() or not torch.isfinite(posterior).all():
            raise ValueError(
                "data and prior differ beyond double precision: raise noise_std, "
                "prior_precision or jitter"
            )
        self.weights = torch.cholesky_solve(self.target, self.posterior_factor)

    def marginals(self, cross, diagonal):
        """Mean and variance at rows, each (n, n_outputs); `diagonal` is k(x, x)."""
        v = self._whiten(cross)
        mean = (v.mT @ self.weights)[:, :, 0] / self.scale
        left = self._remaining(v).square().sum(1) - v.square().sum(1)
        return mean.T, (diagonal + left).clamp(min=0).T / self.scale

    def covariance(self, cross, within):
        """Joint covariance of rows, (n_outputs, n, n); `within` is k among them."""
        v = self._whiten(cross)
        left = self._remaining(v)
        return (within - v.mT @ v + left.mT @ left) / self.scale

    def precision(self, values):
        """Quadratic form of K_zz^-1 beta_u K_zz^-1 at values (n_inducing, n_outputs), summed."""
        v = self._whiten(values.T[:, :, None])
        return (v.mT @ self.curvature @ v).sum() / self.scale

    def dual_parameters(self):
        """alpha_u (n_outputs, n_inducing), beta_u (..., n_inducing, n_inducing) and t_u."""
        alpha = torch.linalg.solve_triangular(self.factor.mT, self.weights, upper=True)
        beta = self.factor @ self.curvature @ self.factor.mT / self.scale
        return alpha[:, :, 0], beta, (self.factor @ self.target)[:, :, 0]

    def _whiten(self, cross):
        return torch.linalg.solve_triangular(self.factor, cross, upper=False)

    def _remaining(self, v):
        return torch.linalg.solve_triangular(self.posterior_factor, v, upper=False)


def cholesky_with_jitter(matrices, jitter):
    """Cholesky factors of K + jitter * I; the jitter grows by 4 while they fail."""
    if not torch.isfinite(matrices).all():
        raise ValueError("the tangent kernel overflows: scale X, or train with a lower lr")
    identity = torch.eye(matrices.shape[-1]).to(matrices)
    while True:
        factors, failures = torch.linalg.cholesky_ex(matrices + jitter * identity)
        if not failures.any():
            return factors
        jitter = 4 * jitter
