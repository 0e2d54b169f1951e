"""The network of S4D: blocks of diagonal state spaces, pooled over time."""

import torch
from torch import nn

from skpapers.neural_network import Dropout, MaskedScaler


class S4DBlock(nn.Module):
    """State spaces, GELU, a gated mixture of the channels, residual connection, layer norm."""

    def __init__(self, d_model, make_ssm, dropout):
        super().__init__()
        self.ssm = make_ssm(d_model)
        self.activation = nn.GELU()
        self.dropout = Dropout(dropout)
        self.mix = nn.Linear(d_model, 2 * d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x, mask, rate=1.0):
        # Backwards, what a layer puts behind the end of a series would count as its future.
        u = x * mask[..., None] if self.ssm.bidirectional else x
        return self.mixed(x, self.ssm(u.mT, rate).mT)

    def mixed(self, x, y):
        y = self.mix(self.dropout(self.activation(y)))
        return self.norm(x + nn.functional.glu(y, dim=-1))


class S4DNetwork(nn.Module):
    """Scaling, a linear encoder, blocks, pooling over time, a linear head."""

    def __init__(self, n_channels, blocks, d_model, n_outputs, pooling):
        super().__init__()
        self.scaler = MaskedScaler(n_channels)
        self.encoder = nn.Linear(n_channels, d_model)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(d_model, n_outputs)
        self.pooling = pooling

    def embed(self, values, mask, rate=1.0):
        x = self.encoder(self.scaler(values))
        for block in self.blocks:
            x = block(x, mask, rate)
        return pool_time(x, mask, self.pooling)

    def forward(self, values, mask, rate=1.0):
        return self.head(self.embed(values, mask, rate))

    def step(self, systems, states, u):
        """Advance all blocks one time step; `u` is (n_channels,)."""
        x, new_states = self.encoder(self.scaler(u)), []
        for block, system, state in zip(self.blocks, systems, states):
            state, y = block.ssm.step(system, state, x.double())
            x = block.mixed(x, y.to(x.dtype))
            new_states.append(state)
        return new_states, x


def pool_time(x, mask, how):
    """Pool (n, t, h) over the time steps that are present; an empty series gives zeros."""
    if x.shape[1] == 0:
        return x.sum(dim=1)
    present = mask[..., None]
    if how == "mean":
        return (x * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
    if how == "max":
        return x.masked_fill(~present, -torch.inf).amax(dim=1).masked_fill(~mask[:, :1], 0)
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return x[torch.arange(len(x), device=x.device), last] * mask[:, :1]
