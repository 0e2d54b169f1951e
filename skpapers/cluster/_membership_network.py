"""A network with a head for features and one for membership, and the pairs it is trained on."""

import torch
import torch.nn.functional as F
from torch import nn

from skpapers.neural_network._data import Data

__all__ = ["TwoHeadNetwork", "ViewBatches", "neighbor_view", "noise_view", "shift_view"]


class TwoHeadNetwork(nn.Module):
    """A trunk with two linear heads, whose outputs are scaled to the unit sphere."""

    def __init__(self, trunk, width, n_components):
        super().__init__()
        self.trunk = trunk
        self.representation = nn.Linear(width, n_components)
        self.membership = nn.Linear(width, n_components)

    def forward(self, X):
        """Features of the rows of X."""
        return F.normalize(self.representation(self.trunk(X)), dim=1)

    def both(self, X):
        """Outputs of both heads."""
        hidden = self.trunk(X)
        return tuple(
            F.normalize(head(hidden), dim=1) for head in (self.representation, self.membership)
        )

    def affine(self, X):
        """Directions whose absolute cosines are the affinity of the rows of X."""
        return F.normalize(self.membership(self.trunk(X)), dim=1)

    @torch.no_grad()
    def start_membership(self):
        """Let the membership start from the features."""
        self.membership.load_state_dict(self.representation.state_dict())


class ViewBatches:
    """One batch an iteration: rows, each with an augmented view.

    `batches` iterates over rows and their numbers, passes over the data without end;
    ``view(rows, numbers)`` augments.
    """

    def __init__(self, batches, view):
        self.batches = batches
        self.view = view
        self.rest = iter(())

    def __len__(self):
        return 1

    def __iter__(self):
        batch = next(self.rest, None)
        if batch is None:
            self.rest = iter(self.batches)
            batch = next(self.rest)
        rows, numbers = batch.inputs
        yield Data((rows, self.view(rows, numbers)))


def neighbor_view(table, neighbors, numbers, generator):
    """One of the neighbours of each row."""
    choice = torch.randint(neighbors.shape[1], (len(numbers),), generator=generator)
    return table[neighbors[numbers, choice.to(numbers.device)]]


def noise_view(rows, generator, scale):
    """Rows with normal noise."""
    noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    return rows + scale * noise.to(rows.device)


def shift_view(rows, generator, image_shape, size=1):
    """Images moved by up to `size` pixels along each axis; what enters repeats the border."""
    images = rows.reshape(len(rows), *image_shape)
    height, width = image_shape[1:]
    moves = torch.randint(-size, size + 1, (2, len(rows), 1), generator=generator).to(rows.device)
    ys = (torch.arange(height, device=rows.device) + moves[0]).clamp(0, height - 1)
    xs = (torch.arange(width, device=rows.device) + moves[1]).clamp(0, width - 1)
    ys = ys[:, None, :, None].expand(-1, image_shape[0], -1, width)
    xs = xs[:, None, None, :].expand(-1, image_shape[0], height, -1)
    return images.gather(2, ys).gather(3, xs).reshape(rows.shape)
