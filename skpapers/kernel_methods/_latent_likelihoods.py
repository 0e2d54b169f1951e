"""Likelihoods of latent functions: their duals at the data, and what they predict.

``duals(f, y)`` gives the derivative of log p(y | f) and minus its second derivative, for each
output on its own; ``log_density(mean, variance, y)`` is that of y under a normal latent function.
"""

import math

import torch
from torch.nn.functional import one_hot

__all__ = ["BernoulliLikelihood", "CategoricalLikelihood", "GaussianLikelihood"]


class GaussianLikelihood:
    """Normal noise with a standard deviation an output.

    Parameters
    ----------
    noise : torch.Tensor of shape (n_outputs,)
        Standard deviations.
    """

    def __init__(self, noise):
        self.noise = noise

    def duals(self, f, y):
        """First and minus second derivative of the log likelihood, (n, n_outputs) each."""
        return (y - f) / self.noise**2, (1 / self.noise**2).expand_as(f)

    def log_density(self, mean, variance, y):
        """Log predictive density of each row, summed over the outputs."""
        variance = variance + self.noise**2
        squares = (y - mean) ** 2 / variance
        return -0.5 * (squares + torch.log(2 * math.pi * variance)).sum(1)


class BernoulliLikelihood:
    """Two classes from one logit."""

    def duals(self, f, y):
        """First and minus second derivative of the log likelihood, (n, 1) each."""
        p = torch.sigmoid(f)
        return y[:, None] - p, p * (1 - p)

    def probabilities(self, mean, variance):
        """Probabilities of the classes: the sigmoid flattened by the variance (MacKay, 1992)."""
        logit = mean / torch.sqrt(1 + math.pi / 8 * variance)
        return torch.sigmoid(torch.cat([-logit, logit], 1))

    def log_density(self, mean, variance, y):
        """Log probability of the class of each row."""
        return _log_probability(self.probabilities(mean, variance), y)


class CategoricalLikelihood:
    """Softmax over one logit a class, averaged over draws of the latent function.

    Parameters
    ----------
    draws : torch.Tensor of shape (n_draws, n_classes)
        Standard normal draws; the same ones serve every row, so that a row's probabilities do not
        depend on the others.
    """

    def __init__(self, draws):
        self.draws = draws

    def duals(self, f, y):
        """First derivative, and minus the diagonal of the second ones, (n, n_classes) each."""
        p = torch.softmax(f, 1)
        return one_hot(y, f.shape[1]) - p, p * (1 - p)

    def probabilities(self, mean, variance):
        """Mean softmax over the draws."""
        spread = torch.sqrt(variance)
        total = torch.zeros_like(mean)
        for draw in self.draws:  # one at a time: memory does not grow with their number
            total += torch.softmax(mean + spread * draw, 1)
        return total / len(self.draws)

    def log_density(self, mean, variance, y):
        """Log probability of the class of each row."""
        return _log_probability(self.probabilities(mean, variance), y)


def _log_probability(probabilities, y):
    chosen = probabilities.gather(1, y[:, None])[:, 0]
    return torch.log(chosen.clamp(min=torch.finfo(chosen.dtype).tiny))
