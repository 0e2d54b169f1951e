"""Layers on sets: equivariant maps, pooling, the network of Deep Sets."""

import functools

import torch
from torch import nn

from skpapers.neural_network import MaskedScaler, get_registry

__all__ = ["PermutationEquivariantLinear"]


class PermutationEquivariantLinear(nn.Module):
    """A linear layer on the elements of a set that commutes with every permutation of them.

    ``layer(x) = x A + b - 1 pool(x) C``, with the pool over the elements. With the mean, these are
    all the linear equivariant maps.

    Parameters
    ----------
    in_features : int
        Number of features of an element.
    out_features : int
        Number of features of an element afterwards.
    pooling : {"mean", "max", "sum"}, default="max"
        How the elements are pooled.
    tied : bool, default=False
        Whether ``A`` and ``C`` are the same matrix, so that the layer is linear in
        ``x - pool(x)``.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, Lemma 3 and equations 4 and 5.

    Examples
    --------
    >>> import torch
    >>> from skpapers.symmetry import PermutationEquivariantLinear
    >>> layer = PermutationEquivariantLinear(3, 2)
    >>> x = torch.randn(7, 5, 3)
    >>> torch.allclose(layer(x.flip(1)), layer(x).flip(1), atol=1e-6)
    True
    """

    def __init__(self, in_features, out_features, pooling="max", tied=False):
        super().__init__()
        self.pooling = pooling
        self.element = nn.Linear(in_features, out_features)
        self.context = None if tied else nn.Linear(in_features, out_features, bias=False)

    def forward(self, x, lengths=None):
        """Transform the elements of each set.

        Parameters
        ----------
        x : torch.Tensor of shape (..., n_elements, in_features)
            Elements of sets of one size; or, with `lengths`, a tensor of shape (n_elements,
            in_features) with the elements of all sets, set after set.
        lengths : torch.Tensor of int of shape (n_sets,), default=None
            Sizes of the sets.

        Returns
        -------
        torch.Tensor of shape (..., n_elements, out_features)
            The new elements.
        """
        pooled = pool(x, self.pooling, lengths)
        if self.context is None:
            return self.element(x - _spread(pooled, lengths))
        return self.element(x) - _spread(self.context(pooled), lengths)


class DeepSetsNetwork(nn.Module):
    """The network rho(pool(phi(x))), with an optional equivariant stack in front of phi."""

    def __init__(self, phi, rho, pooling, scaler=None, equivariant=()):
        super().__init__()
        self.scaler = scaler
        self.equivariant = nn.ModuleList(equivariant)
        self.phi = phi
        self.rho = rho
        self.pooling = pooling

    def embed(self, values, mask):
        elements, lengths = present_elements(values, mask)
        elements = elements if self.scaler is None else self.scaler(elements)
        for layer in self.equivariant:
            elements = layer(elements, lengths)
        return pool(self.phi(elements), self.pooling, lengths)

    def forward(self, values, mask):
        pooled = self.embed(values, mask)
        if self.pooling == "sum" and self.scaler is not None:
            pooled = pooled / self.scaler.size  # a constant: rho starts with inputs of order one
        return self.rho(pooled)


class EquivariantBlock(nn.Module):
    """A permutation-equivariant linear layer and an activation."""

    def __init__(self, n_in, n_out, pooling, activation):
        super().__init__()
        self.linear = PermutationEquivariantLinear(n_in, n_out, pooling)
        self.activation = get_registry("activation").resolve(activation)()

    def forward(self, x, lengths=None):
        return self.activation(self.linear(x, lengths))


class SetScaler(MaskedScaler):
    """Standardise elements; it also knows the mean size of the training sets."""

    def __init__(self, n_features):
        super().__init__(n_features)
        self.register_buffer("size", torch.ones(()))

    def init_parameters(self, generator):
        super().init_parameters(generator)
        self.size.fill_(1)

    def fit(self, values, mask, weight=None):
        """Set the statistics, where a set's elements weigh as much as the set."""
        super().fit(values, mask, weight)
        sizes = mask.double().sum(1)
        total = sizes.sum() if weight is None else sizes @ weight.double()
        self.size.copy_((total / len(mask)).clamp(min=1))


def present_elements(values, mask):
    """Return what to compute on: (values, None) if all are present, else (elements, sizes)."""
    if bool(mask.all()):
        return values, None
    return values[mask], mask.sum(dim=1)


def pool(x, how, lengths=None):
    """Pool the elements of each set; an empty set gives zeros.

    `x` is (..., n_elements, n_features) or, with `lengths`, the elements of all sets laid end to
    end.
    """
    if lengths is not None:
        return _pool_segments(x, how, lengths)
    if x.shape[-2] == 0:
        return x.sum(dim=-2)
    return {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[how](x, dim=-2)


def _pool_segments(x, how, lengths):
    reduce = functools.partial(torch.segment_reduce, x, lengths=lengths, axis=0, unsafe=True)
    if how == "max":
        pooled = reduce("max", initial=-torch.inf)
        return pooled.masked_fill((lengths == 0)[:, None], 0)
    total = reduce("sum", initial=0)
    return total if how == "sum" else total / lengths.clamp(min=1)[:, None]


def _spread(pooled, lengths=None):
    """Give what belongs to a set to each of its elements."""
    if lengths is None:
        return pooled.unsqueeze(-2)
    return pooled.repeat_interleave(lengths, dim=0)


def equivariant_stack(widths, pooling, activation):
    return [EquivariantBlock(a, b, pooling, activation) for a, b in zip(widths, widths[1:])]
