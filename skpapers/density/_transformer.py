"""Transformer blocks that can run step by step, with rotary positions on a grid."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Block", "grid_rotation"]


class Block(nn.Module):
    """A transformer block with the normalisation in front, attention and a perceptron."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x, causal=False, rotation=None, cache=None):
        """Map tokens (n, n_tokens, width); a `cache`, a list, holds the tokens seen before."""
        x = x + self._attend(self.norm_attention(x), causal, rotation, cache)
        return x + self.mlp(self.norm_mlp(x))

    def _attend(self, x, causal, rotation, cache):
        if x.shape[1] == 1 and cache is None:  # a single token has itself to attend to
            weight, bias = (p.chunk(3)[2] for p in self.query_key_value.parameters())
            return self.out(F.linear(x, weight, bias))
        heads = self.query_key_value(x).unflatten(-1, (3, self.n_heads, -1))
        heads = heads.permute(2, 0, 3, 1, 4)
        query, key = heads[:2] if rotation is None else _rotate(heads[:2], rotation)
        value = heads[2]
        if cache is not None:
            if cache:
                key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
            cache[:] = key, value
        causal = causal and query.shape[2] > 1  # a single query is the last token: it sees all
        y = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))


def grid_rotation(rows, columns, head_size, base=100.0):
    """Cosines and sines of the rotary angles of positions on a grid, (2, n, head_size / 2)."""
    frequency = base ** -torch.linspace(0, 1, head_size // 4 + 1, dtype=torch.float64)[:-1]
    angles = torch.cat([rows[:, None] * frequency, columns[:, None] * frequency], dim=1)
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(x, rotation):
    (cos, sin), (a, b) = rotation, x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
