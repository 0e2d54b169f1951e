"""Losses that train an energy together with its partition function, and the noise they use."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "EllipticalMixture",
    "EnergyModel",
    "PartitionSolver",
    "QuadraticEnergy",
    "log_mean_exp",
]


class EnergyModel(nn.Module):
    """An energy, with the log partition function that only noise-contrastive estimation learns."""

    def __init__(self, energy):
        super().__init__()
        self.energy = energy
        self.log_partition = nn.Parameter(torch.zeros(()))

    def init_parameters(self, generator):
        self.log_partition.zero_()

    def forward(self, x):
        return self.energy(x)


class QuadraticEnergy(nn.Module):
    """|A (x - m)|^2 / 2: a Gaussian with mean m and precision A'A."""

    def __init__(self, n_features):
        super().__init__()
        self.location = nn.Parameter(torch.zeros(n_features))
        self.root = nn.Parameter(torch.zeros(n_features, n_features))

    def init_parameters(self, generator):
        self.location.zero_()
        self.root.copy_(torch.eye(len(self.root)))

    def forward(self, x):
        return 0.5 * ((x - self.location) @ self.root.T).square().sum(1)


class EllipticalMixture:
    """Mixture of Gaussians, or of Student's t laws, that is drawn with a torch generator.

    `factors` are Cholesky factors of the covariances (scatter matrices), shape (k, d, d) or
    (1, d, d) where they are equal; `df` the integer degrees of freedom, None for Gaussians.
    """

    def __init__(self, means, factors, weights, df=None):
        self.means, self.factors, self.weights, self.df = means, factors, weights, df

    def sample(self, n_samples, generator):
        """Draw rows, on the CPU."""
        n_features = self.means.shape[1]
        chosen = torch.multinomial(self.weights, n_samples, True, generator=generator)
        z = torch.randn(n_samples, n_features, generator=generator, dtype=self.means.dtype)
        if self.df is not None:
            squares = torch.randn(n_samples, self.df, generator=generator, dtype=z.dtype)
            z = z / squares.square().mean(1, keepdim=True).sqrt()
        if len(self.factors) == 1:
            return self.means[chosen] + z @ self.factors[0].T
        return self.means[chosen] + torch.einsum("nij,nj->ni", self.factors[chosen], z)

    def log_density(self, x):
        """Log density of rows, on the CPU."""
        offsets = (x - self.means[:, None]).mT
        white = torch.linalg.solve_triangular(self.factors, offsets, upper=False)
        squared = white.square().sum(1)
        scale = self.factors.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        logs = _log_radial(squared, x.shape[1], self.df) - scale
        return torch.logsumexp(logs + self.weights.log()[:, None], 0)


def _log_radial(squared, n_features, df):
    if df is None:
        return -0.5 * (squared + n_features * math.log(2 * math.pi))
    constant = math.lgamma((df + n_features) / 2) - math.lgamma(df / 2)
    constant -= 0.5 * n_features * math.log(df * math.pi)
    return constant - 0.5 * (df + n_features) * torch.log1p(squared / df)


def log_mean_exp(logs):
    """Log of the mean of exponentials."""
    return torch.logsumexp(logs, 0) - math.log(len(logs))


class PartitionSolver:
    """Loss of a batch; its gradient is the solver's estimate, its value the objective.

    The negative log likelihood is mean E(x) + log g with g = E[exp(-E(z)) / q(z)] over noise z.
    Its gradient has mean[r grad E(z)] / g with r the ratio: "meco" divides by a moving average of
    the batch means of r, "mle_is" by the batch mean itself, which biases the gradient.
    `log_average` is the log of what was divided by last.
    """

    def __init__(self, kind):
        self.kind = kind
        self.log_average = None
        self.previous = None

    def loss(self, model, x, z, noise, beta):
        """Loss of rows `x` and of draws `z` of `noise`, an object with `log_density`."""
        if self.kind == "nce":
            return contrastive_loss(model, x, z, noise)
        log_noise = noise.log_density(z)
        log_ratios = -model(z) - log_noise
        self.log_average = self._average(model, z, log_noise, log_ratios.detach(), beta)
        weights = torch.exp(log_ratios.detach() - self.log_average)
        slope = (weights * log_ratios).mean()  # its gradient is that of log g
        return model(x).mean() + (slope - slope.detach()) + self.log_average

    def _average(self, model, z, log_noise, log_ratios, beta):
        fresh = log_mean_exp(log_ratios)
        if self.kind == "mle_is" or self.log_average is None:
            average = fresh
        elif self.kind == "meco":
            kept = math.log1p(-beta) if beta < 1 else -math.inf
            average = torch.logaddexp(kept + self.log_average, math.log(beta) + fresh)
        else:
            with torch.no_grad():
                before = log_mean_exp(-self.previous(z) - log_noise)
            average = variance_reduced(self.log_average, fresh, before, beta)
        if self.kind == "meco_vr":
            self.previous = copy.deepcopy(model)
        return average


def variance_reduced(log_average, fresh, before, beta):
    """Log of (1 - b)(u + g_t - g_(t-1)) + b g_t, both g on the same draws, at least b g_t."""
    shift = torch.stack([log_average, fresh, before]).max()
    u, now, then = (torch.exp(v - shift) for v in (log_average, fresh, before))
    value = (1 - beta) * (u + now - then) + beta * now
    return shift + torch.log(torch.maximum(value, beta * now))


def contrastive_loss(model, x, z, noise):
    """Noise-contrastive estimation: the logistic loss of telling rows from draws of the noise."""
    ratio = len(z) / len(x)

    def logit(points):
        log_noise = noise.log_density(points)
        return -model(points) - model.log_partition - log_noise - math.log(ratio)

    return F.softplus(-logit(x)).mean() + ratio * F.softplus(logit(z)).mean()
