"""Standardisation inside a network, over the elements that are present."""

import torch
from torch import nn

__all__ = ["MaskedScaler", "masked_statistics"]


class MaskedScaler(nn.Module):
    """Standardise features with the means and standard deviations of the training data.

    Parameters
    ----------
    n_features : int
        Number of features of an element.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import MaskedScaler
    >>> scaler = MaskedScaler(1)
    >>> scaler.fit(torch.tensor([[[1.0], [3.0]]]), torch.ones(1, 2, dtype=torch.bool))
    >>> scaler(torch.tensor([5.0]))
    tensor([3.])
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def init_parameters(self, generator):
        """Set means to 0 and scales to 1.

        Parameters
        ----------
        generator : torch.Generator
            Not used.
        """
        self.mean.zero_()
        self.scale.fill_(1)

    def fit(self, values, mask, weight=None):
        """Learn the statistics.

        Parameters
        ----------
        values : torch.Tensor of shape (n_samples, n_elements, n_features)
            Padded elements.
        mask : torch.Tensor of bool of shape (n_samples, n_elements)
            Which elements are present.
        weight : torch.Tensor of shape (n_samples,), default=None
            Weights of the samples, and so of their elements.
        """
        mean, scale = masked_statistics(values, mask, weight)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, elements):
        """Standardise.

        Parameters
        ----------
        elements : torch.Tensor of shape (..., n_features)
            Elements.

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        return (elements - self.mean) / self.scale


def masked_statistics(values, mask, weight=None):
    """Mean and standard deviation of each feature over all present elements; 1 where constant."""
    share = mask.double() if weight is None else mask * weight.double()[:, None]
    share, elements = share[mask], values[mask].double()
    total = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
    mean = share @ elements / total
    spread = (share @ (elements - mean).square() / total).sqrt()
    constant = spread <= 1e-12 * mean.abs()
    return mean, torch.where(constant, torch.ones_like(spread), spread)
