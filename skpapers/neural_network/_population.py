"""A population of networks as one module, and the games it plays against adversaries."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from skpapers.optim._nikaido_isoda import climb

__all__ = [
    "GroupGame",
    "Population",
    "ShiftGame",
    "endless_batches",
    "gain_by_deviating",
    "initial_particles",
    "largest_moment",
]

_SEARCH_STEPS = 30  # of the search for the best deviations

_RIDGE = 1e-3  # penalty on squared weights, biases free
_CONFINEMENT = 5e-3  # penalty on squared logits of the groups, which keeps them bounded


def initial_particles(n_models, sizes, generator, dtype):
    """Parameter vectors of networks with normal weights of variance 1 / fan-in, zero biases."""
    pieces = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        weight = torch.randn(n_models, n_in * n_out, generator=generator, dtype=dtype)
        pieces += [weight / math.sqrt(n_in), torch.zeros(n_models, n_out, dtype=dtype)]
    return torch.cat(pieces, 1)


class Population(nn.Module):
    """Networks with tanh units, whose parameter vectors are the rows of one matrix.

    `sizes` are the widths from the input to the output; inputs are standardised by `center` and
    `scale` first.
    """

    def __init__(self, particles, sizes, center, scale):
        super().__init__()
        self.particles = nn.Parameter(particles)
        self.sizes = tuple(int(size) for size in sizes)
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, X):
        """Outputs of all models, of shape (n_models, n_rows, n_outputs), for rows as given."""
        rows = (X - self.center) / self.scale
        return self.outputs(self.particles, rows.to(self.particles.dtype))[:, 0]

    def outputs(self, particles, rows, shifts=None):
        """Outputs for standardised rows, of shape (n_models, n_shifts or 1, n_rows, n_outputs)."""
        (weight, bias), *deeper = self.layers(particles)
        hidden = (rows @ weight + bias)[:, None]
        if shifts is not None:  # adding to every row is adding to the first layer
            hidden = hidden + (shifts @ weight)[:, :, None]
        for weight, bias in deeper:
            hidden = hidden.tanh() @ weight[:, None] + bias[:, None]
        return hidden

    def layers(self, particles):
        """Weights (n_models, n_in, n_out) and biases (n_models, 1, n_out) of each layer."""
        shapes = list(zip(self.sizes, self.sizes[1:]))
        pieces = particles.split([size for i, o in shapes for size in (i * o, o)], 1)
        weights, biases = pieces[::2], pieces[1::2]
        return [
            (weight.reshape(-1, *shape), bias[:, None])
            for weight, bias, shape in zip(weights, biases, shapes)
        ]

    def penalty(self, particles):
        """Ridge penalty of each model, of shape (n_models, 1)."""
        squares = sum(weight.square().sum((1, 2)) for weight, _ in self.layers(particles))
        return _RIDGE * squares[:, None]


def row_losses(outputs, target):
    """Cross-entropy where the target is integer, else half the squared error, of each row."""
    if target.is_floating_point():
        return (outputs[..., 0] - target).square() / 2
    index = target.expand(outputs.shape[:-1])[..., None]
    return -F.log_softmax(outputs, -1).gather(-1, index)[..., 0]


class GroupGame:
    """The adversary weights groups of rows: a particle has a logit for each group.

    A share `radius` of the weight is the softmax of the logits, the rest are the frequencies.
    """

    def __init__(self, population, radius, groups, dtype):
        self.population, self.radius = population, radius
        count = torch.bincount(groups).to(dtype)
        self.frequency = count / count.sum()
        # The mean loss of a group is a product with its column.
        self.members = F.one_hot(groups, len(count)).to(dtype) / count

    def start(self, n_adversaries, generator):
        """Equal weights."""
        return self.frequency.new_zeros(n_adversaries, len(self.frequency))

    def keep(self, logits):
        """The penalty in the payoff is what confines the logits."""
        return logits

    def weights(self, logits):
        """Weights of the groups, one row an adversary."""
        return (1 - self.radius) * self.frequency + self.radius * logits.softmax(1)

    def mean_weights(self, logits):
        """Mean of the adversaries."""
        return self.weights(logits).mean(0)

    def payoffs(self, rows, index, models, logits):
        """Matrix of the losses of models under adversaries, estimated from the rows `index`."""
        X, y = rows
        losses = row_losses(self.population.outputs(models, X[index])[:, 0], y[index])
        by_group = losses @ self.members[index] * (len(X) / len(index))
        penalty = _CONFINEMENT * logits.square().sum(1)
        return by_group @ self.weights(logits).T + self.population.penalty(models) - penalty


class ShiftGame:
    """The adversary adds one vector to all standardised rows, of length `radius` at most."""

    def __init__(self, population, radius):
        self.population, self.radius = population, radius

    def start(self, n_adversaries, generator):
        """Random directions and their opposites, half the radius long: none has a majority."""
        size, like = self.population.sizes[0], self.population.particles
        shape = (-(-n_adversaries // 2), size)
        half = F.normalize(torch.randn(shape, generator=generator, dtype=like.dtype))
        shifts = torch.cat([half, -half])[:n_adversaries]
        return self.radius / 2 * shifts.to(like.device)

    def keep(self, shifts):
        """Project on the ball."""
        length = shifts.norm(dim=1, keepdim=True)
        return shifts * (self.radius / length.clamp_min(1e-30)).clamp_max(1)

    def mean_weights(self, shifts):
        """There are none."""

    def payoffs(self, rows, index, models, shifts):
        """Matrix of the mean losses of models under shifts, on the rows `index`."""
        X, y = rows
        losses = row_losses(self.population.outputs(models, X[index], shifts), y[index])
        return losses.mean(-1) + self.population.penalty(models)


def largest_moment(rows, generator, n_iter=15):
    """Largest eigenvalue of the second moments of the rows and a 1, by power iterations."""
    direction = torch.randn(rows.shape[1], generator=generator, dtype=rows.dtype)
    direction = direction.to(rows.device)
    for _ in range(n_iter):
        direction = rows.T @ (rows @ F.normalize(direction, dim=0)) / len(rows)
    return max(float(direction.norm()), 1.0)


def endless_batches(n, size, generator, device):
    """Indices of batches of rows, in a new order every epoch; all rows in order if one is all."""
    while True:
        order = torch.arange(n) if size == n else torch.randperm(n, generator=generator)
        yield from order.to(device).split(size)


def gain_by_deviating(payoffs, models, adversaries, keep):
    """Nikaido-Isoda error with the best deviations that are found from the particles."""

    def attack(y):
        return payoffs(models, y).mean(0)

    def defence(x):
        return -payoffs(x, adversaries).mean(1)

    best_attack = climb(attack, adversaries, keep, _SEARCH_STEPS)[1].max()
    best_defence = climb(defence, models, lambda x: x, _SEARCH_STEPS)[1].max()
    return max(float(best_attack + best_defence), 0.0)
