"""Networks from a partly known row to its log marginal and to all its conditionals."""

import torch
import torch.nn.functional as F
from torch import nn

from ._transformer import Block

__all__ = ["MarginalNetwork"]

_N_HEADS = 4


class MarginalNetwork(nn.Module):
    """Two towers on rows of codes in which -1 is unknown.

    ``log_marginal`` gives log p(known columns), ``log_conditionals`` log p(column | known columns)
    for every column and code. What the first tower learns is the difference to a law of
    independent columns, which is consistent with itself: the uniform one until `start_marginal`.
    """

    def __init__(self, n_codes, kind="mlp", width=128, n_layers=3):
        super().__init__()
        self.n_codes = tuple(int(k) for k in n_codes)
        tower = {"mlp": _Perceptron, "transformer": _Transformer}[kind]
        self.marginal = tower(self.n_codes, width, n_layers, conditional=False)
        self.conditional = tower(self.n_codes, width, n_layers, conditional=True)
        shape = len(self.n_codes), max(self.n_codes)
        self.register_buffer("impossible", torch.empty(shape, dtype=torch.bool))
        self.register_buffer("independent", torch.empty(shape))

    def init_parameters(self, generator):
        """Set the buffers; the towers initialise themselves."""
        n_codes = torch.tensor(self.n_codes)
        self.impossible.copy_(torch.arange(self.impossible.shape[1]) >= n_codes[:, None])
        self.independent.copy_(-n_codes.double().log()[:, None])

    def start_marginal(self):
        """Start the first tower where the second one has got to: features and single columns."""
        self.independent.copy_(self.log_conditionals(self._unknown())[0].nan_to_num(neginf=0.0))
        conditional = self.conditional.state_dict()
        trunk = {k: v for k, v in conditional.items() if not k.startswith("last")}
        self.marginal.load_state_dict(trunk, strict=False)

    def log_marginal(self, codes):
        """Log probability of the known columns of each row, (n,), up to a constant."""
        columns = torch.arange(codes.shape[1], device=codes.device)
        single = self.independent[columns, codes.clamp(min=0)].where(codes >= 0, 0)
        return self.marginal(codes) + single.sum(1)

    def log_conditionals(self, codes):
        """Log probabilities of all codes of all columns given the known ones, (n, d, k)."""
        logits = self.conditional(codes).masked_fill(self.impossible, -torch.inf)
        return F.log_softmax(logits, dim=2)

    def log_empty(self):
        """Log marginal of the row of which nothing is known, (1,)."""
        return self.log_marginal(self._unknown())

    def _unknown(self):
        return torch.full((1, len(self.n_codes)), -1, device=self.impossible.device)

    forward = log_marginal


class _Perceptron(nn.Module):
    """A residual perceptron on the codes one-hot."""

    def __init__(self, n_codes, width, n_layers, conditional):
        super().__init__()
        self.n_values = max(n_codes) + 1
        self.shape = (len(n_codes), max(n_codes)) if conditional else ()
        self.first = nn.Linear(len(n_codes) * self.n_values, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
            for _ in range(n_layers)
        )
        self.last = nn.Linear(width, len(n_codes) * max(n_codes) if conditional else 1)

    def forward(self, codes):
        one_hot = F.one_hot(codes + 1, self.n_values).to(self.first.weight.dtype)
        x = self.first(one_hot.flatten(1))
        for layer in self.layers:
            x = x + layer(x)
        return self.last(x).reshape(-1, *self.shape)


class _Transformer(nn.Module):
    """A transformer with a token a column."""

    def __init__(self, n_codes, width, n_layers, conditional):
        super().__init__()
        self.n_values = max(n_codes) + 1
        self.conditional = conditional
        self.values = nn.Embedding(len(n_codes) * self.n_values, width)
        self.blocks = nn.ModuleList(Block(width, _N_HEADS) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, max(n_codes) if conditional else 1)

    def forward(self, codes):
        columns = torch.arange(codes.shape[1], device=codes.device)
        x = self.values(columns * self.n_values + codes + 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.last(x) if self.conditional else self.last(x.mean(1))[:, 0]
