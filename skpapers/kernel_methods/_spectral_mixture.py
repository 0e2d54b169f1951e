"""Spectral-mixture covariances between tasks whose components interact."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length

__all__ = ["Components", "HierarchicalSpectralMixtureKernel", "covariance", "pair_spectra"]


class Components(NamedTuple):
    """Latent components, as tensors; R columns of mixing a component, P features, T tasks."""

    weights: torch.Tensor  # (Q,)
    frequencies: torch.Tensor  # (Q, P)
    bandwidths: torch.Tensor  # (Q, P), variances of the spectral lobes
    coregionalization: torch.Tensor  # (Q, T, R)
    delays: torch.Tensor  # (Q, P)
    phases: torch.Tensor  # (Q,)


class HierarchicalSpectralMixtureKernel:
    """Covariance between (x, task) pairs, from latent components that interact.

    Task t is the sum over components q of white noises, shared by all components, filtered with
    a Gaussian lobe in the frequency domain and mixed by row t of the matrix A_q. Two components i
    and j therefore have the covariance A_i A_j' k_ij(x - x'), with k_ij the Fourier transform of
    the product of their lobes.

    Parameters
    ----------
    weights : array-like of shape (n_latent,)
        Variances w_q of the components.
    frequencies : array-like of shape (n_latent, n_features)
        Centres of the lobes, in cycles per unit of X.
    bandwidths : array-like of shape (n_latent, n_features)
        Variances of the lobes, in squared cycles per unit of X.
    coregionalization : array-like of shape (n_latent, n_tasks, rank)
        Matrices A_q.
    delays : array-like of shape (n_latent, n_features), default=None
        Delays of the components, in units of X; None for none.
    phases : array-like of shape (n_latent,), default=None
        Phases of the components, in radians; None for none.
    interacting : bool, default=True
        False drops the covariance between different components: a linear model of
        coregionalisation with spectral-mixture kernels.

    References
    ----------
    Chen, van Laarhoven, Marchiori, Yin and Cui, "Multitask Gaussian Process with Hierarchical
    Latent Interactions", ICASSP 2022, arXiv:1808.01132.

    Examples
    --------
    >>> from skpapers.kernel_methods import HierarchicalSpectralMixtureKernel
    >>> kernel = HierarchicalSpectralMixtureKernel([2.0], [[0.5]], [[0.1]], [[[1.0], [0.5]]])
    >>> kernel([[0.0], [1.0]], [0, 1]).round(3)
    array([[ 2.   , -0.139],
           [-0.139,  0.5  ]])
    """

    def __init__(
        self,
        weights,
        frequencies,
        bandwidths,
        coregionalization,
        delays=None,
        phases=None,
        interacting=True,
    ):
        self.weights = np.asarray(weights, dtype=np.float64)
        self.frequencies = np.asarray(frequencies, dtype=np.float64)
        self.bandwidths = np.asarray(bandwidths, dtype=np.float64)
        self.coregionalization = np.asarray(coregionalization, dtype=np.float64)
        zeros = np.zeros_like(self.frequencies)
        self.delays = zeros if delays is None else np.asarray(delays, dtype=np.float64)
        self.phases = zeros[:, 0] if phases is None else np.asarray(phases, dtype=np.float64)
        self.interacting = interacting
        shapes = {self.frequencies.shape, self.bandwidths.shape, self.delays.shape}
        lengths = {len(self.weights), len(self.coregionalization), len(self.phases)}
        if len(shapes) > 1 or lengths != {len(self.frequencies)}:
            raise ValueError("the parameters of the components differ in length or width")

    def components(self):
        """Give the parameters as tensors.

        Returns
        -------
        Components
            In double precision, on the CPU.
        """
        return Components(*(torch.from_numpy(getattr(self, n)) for n in Components._fields))

    def __call__(self, X, tasks, Y=None, other_tasks=None):
        """Evaluate the covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            Inputs.
        tasks : array-like of int of shape (n_samples_X,)
            Task of each row of X.
        Y : array-like of shape (n_samples_Y, n_features), default=None
            Inputs; None for X.
        other_tasks : array-like of int of shape (n_samples_Y,), default=None
            Task of each row of Y.

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples_Y)
            Covariance matrix.
        """
        left = _rows(X, tasks)
        right = None if Y is None else _rows(Y, other_tasks)
        return covariance(self.components(), left, right, interacting=self.interacting).numpy()

    def interaction_strength(self):
        """Measure the interactions between components.

        Returns
        -------
        ndarray of shape (n_latent, n_latent)
            Frobenius norm of A_i A_j', times the largest value of k_ij.
        """
        amplitudes, _, _ = pair_spectra(self.components())
        products = np.einsum("itr,jsr->ijts", self.coregionalization, self.coregionalization)
        norms = np.linalg.norm(products, axis=(2, 3)) * amplitudes.numpy()
        return norms if self.interacting else np.diag(np.diag(norms))


def _rows(X, tasks):
    X = check_array(X, dtype=np.float64)
    check_consistent_length(X, tasks)
    return torch.from_numpy(np.array(X)), torch.from_numpy(np.array(tasks, dtype=np.int64))


def pair_spectra(components):
    """Amplitude (Q, Q), variance and centre (Q, Q, P) of the product of any two lobes."""
    weights, centers, variances = components[:3]
    total = variances[:, None] + variances[None]
    product = variances[:, None] * variances[None]
    log_overlap = (
        torch.log(4 * product) / 4
        - torch.log(total) / 2
        - (centers[:, None] - centers[None]) ** 2 / (4 * total)
    ).sum(-1)
    amplitude = torch.sqrt(weights[:, None] * weights[None]) * torch.exp(log_overlap)
    crossed = variances[:, None] * centers[None] + variances[None] * centers[:, None]
    return amplitude, 2 * product / total, crossed / total


def covariance(components, left, right=None, *, interacting=True):
    """Covariance between rows (X, tasks) and others, or among themselves.

    Among themselves the term (j, i) is the transpose of (i, j).
    """
    spectra, symmetric = pair_spectra(components), right is None
    right = left if symmetric else right
    n_latent, found = len(components.weights), 0.0
    for i in range(n_latent):
        for j in range(n_latent):
            if (i != j and not interacting) or (symmetric and j < i):
                continue
            term = pair_covariance(components, spectra, (i, j), left, right)
            found = found + (term + term.T if symmetric and i < j else term)
    return found


def pair_covariance(components, spectra, pair, left, right):
    """Re[(A_i A_j') k_ij] as exp(-quadratic form) * (low rank).

    With cos(a - b) = cos a cos b + sin a sin b, the oscillation and the mixing of tasks are one
    product of matrices with 2 R columns.
    """
    i, j = pair
    amplitude, variance, center = (values[i, j] for values in spectra)
    shift = components.delays[i] - components.delays[j]
    turn = components.phases[i] - components.phases[j]
    (X, tasks), (Y, others) = left, right
    scale = torch.sqrt(2 * math.pi**2 * variance)
    decay = torch.exp(-squared_distances((X + shift) * scale, Y * scale))
    angles = 2 * math.pi * ((X + shift) @ center) + turn, 2 * math.pi * (Y @ center)
    mixing = components.coregionalization[i][tasks], components.coregionalization[j][others]
    waves = [
        torch.cat([mix * torch.cos(angle)[:, None], mix * torch.sin(angle)[:, None]], dim=1)
        for mix, angle in zip(mixing, angles)
    ]
    return amplitude * decay * (waves[0] @ waves[1].T)


def squared_distances(U, V):
    """Squared distances, exactly symmetric for one feature, by a product for several."""
    if U.shape[1] == 1:
        return (U - V.T) ** 2
    ones = torch.ones_like(U[:, :1]), torch.ones_like(V[:, :1])
    U_long = torch.cat([(U**2).sum(1, keepdim=True), ones[0], -2 * U], dim=1)
    V_long = torch.cat([ones[1], (V**2).sum(1, keepdim=True), V], dim=1)
    return U_long @ V_long.T


def cholesky(matrix, jitter):
    """Lower factor of the matrix, or of it plus ten, a hundred, ... times `jitter`.

    What is added is relative to the mean of the diagonal, and `jitter` itself is in `matrix`.
    """
    size = matrix.diagonal().mean()
    for added in (0.0, 10 * jitter, 100 * jitter, 1000 * jitter):
        extra = added * size * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        lower, failed = torch.linalg.cholesky_ex(matrix + extra)
        if not failed and bool(torch.isfinite(lower).all()):
            return lower
    raise ValueError("the covariance is not positive definite: raise alpha or noise_init")


def log_marginal_likelihood(matrix, y, jitter):
    """Log marginal likelihood, and its gradient with respect to the covariance matrix."""
    lower = cholesky(matrix, jitter)
    solved = torch.cholesky_solve(y[:, None], lower)
    log_det = 2 * torch.log(lower.diagonal()).sum()
    value = -(y @ solved[:, 0] + log_det + len(y) * math.log(2 * math.pi)) / 2
    return value, (solved @ solved.T - torch.cholesky_inverse(lower)) / 2
