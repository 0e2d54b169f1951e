"""Generators inside generators: each level splits a patch and conditions the next one."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ._transformer import Block, grid_rotation

__all__ = ["Architecture", "FractalNetwork", "scaled"]

_MASK_RATIO_SD = 0.25  # of the share of sub-patches to predict in training; its mean is 1
_STD = 0.02


class Architecture(NamedTuple):
    """What a network is made of; `patches` are (height, width) from the whole image to a pixel."""

    n_channels: int
    n_codes: int
    patches: tuple
    masked: tuple
    widths: tuple
    depths: tuple
    n_heads: int
    n_labels: int

    def n_conds(self, level):
        """Number of conditions that `level` gets: with neighbours if those above are masked."""
        return 5 if level and self.masked[level - 1] else 1


def scaled(codes, n_codes):
    """Codes 0 ... n_codes - 1 on the scale from -1 to 1."""
    return 2 * codes / (n_codes - 1).clamp(min=1) - 1


class Generator(nn.Module):
    """A transformer from a patch and its conditions to the conditions of its sub-patches.

    Causal, output k sees the sub-patches before k; `masked`, all outputs see the visible ones.
    """

    def __init__(self, architecture, level):
        super().__init__()
        (height, width), self.sub = architecture.patches[level : level + 2]
        self.grid = height // self.sub[0], width // self.sub[1]
        self.size = self.grid[0] * self.grid[1]
        self.masked = architecture.masked[level]
        self.n_conds = architecture.n_conds(level)
        size, n_heads = architecture.widths[level], architecture.n_heads
        self.embed_condition = nn.Linear(architecture.widths[max(level - 1, 0)], size)
        self.embed_patch = nn.Linear(architecture.n_channels * self.sub[0] * self.sub[1], size)
        n_tokens = self.n_conds + self.size - (not self.masked)
        self.position = nn.Parameter(torch.empty(n_tokens, size))
        self.mask_token = nn.Parameter(torch.empty(size)) if self.masked else None
        self.blocks = nn.ModuleList(
            Block(size, n_heads) for _ in range(architecture.depths[level])
        )
        self.norm = nn.LayerNorm(size)
        self.register_buffer("rotation", torch.empty(2, n_tokens, size // n_heads // 2))

    def init_parameters(self, generator):
        """Draw positions and the mask token, and set the rotation: a condition has none."""
        self.position.normal_(std=_STD, generator=generator)
        if self.masked:
            self.mask_token.normal_(std=_STD, generator=generator)
        index = torch.arange(self.rotation.shape[1] - self.n_conds, dtype=torch.float64)
        rows, columns = index // self.grid[1] + 1, index % self.grid[1] + 1
        rows, columns = (F.pad(x, (self.n_conds, 0)) for x in (rows, columns))
        self.rotation.copy_(grid_rotation(rows, columns, 2 * self.rotation.shape[2]))

    def split(self, x):
        """Cut (n, channels, height, width) into sub-patches, (n, k, channels, height, width)."""
        (rows, columns), (height, width) = self.grid, self.sub
        x = x.unflatten(2, (rows, height)).unflatten(4, (columns, width))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)

    def join(self, patches):
        """Put sub-patches together again."""
        x = patches.unflatten(1, self.grid).permute(0, 3, 1, 4, 2, 5)
        return x.flatten(4).flatten(2, 3)

    def forward(self, patches, conds, visible=None):
        """Condition of every sub-patch, (n, k, width); `visible`, (n, k), if masked."""
        tokens = self.embed_patch(patches.flatten(2))
        if self.masked:
            tokens = torch.where(visible[..., None], tokens, self.mask_token)
        else:
            tokens = tokens[:, :-1]  # the last one has no successor to tell
        x = self._run(torch.cat([self.embed_condition(conds), tokens], 1), slice(None))
        return x[:, -self.size :]

    def step(self, token, first, caches):
        """Run the causal generator on tokens from position `first` on, those before cached."""
        positions = slice(first, first + token.shape[1])
        return self._run(token, positions, caches)[:, -1:]

    def _run(self, x, positions, caches=None):
        x, rotation = x + self.position[positions], self.rotation[:, positions]
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks)):
            x = block(x, causal=not self.masked, rotation=rotation, cache=cache)
        return self.norm(x)

    def conditions(self, outputs):
        """What each sub-patch is told, (n, k, n_conds, width): if masked, the neighbours too."""
        if not self.masked:
            return outputs[:, :, None]
        grid = F.pad(outputs.unflatten(1, self.grid), (0, 0, 1, 1, 1, 1))
        middle = grid[:, 1:-1, 1:-1]
        beside = grid[:, :-2, 1:-1], grid[:, 2:, 1:-1], grid[:, 1:-1, :-2], grid[:, 1:-1, 2:]
        return torch.stack([middle, *beside], 3).flatten(1, 2)


class PixelModel(nn.Module):
    """A causal transformer over the channels of a pixel, with tied embeddings."""

    def __init__(self, architecture):
        super().__init__()
        size = architecture.widths[-1]
        level = len(architecture.patches) - 1
        self.n_conds = architecture.n_conds(level)
        self.embed_condition = nn.Linear(architecture.widths[level - 1], size)
        self.embedding = nn.Parameter(torch.empty(architecture.n_codes, size))
        self.bias = nn.Parameter(torch.empty(architecture.n_codes))
        n_tokens = self.n_conds + architecture.n_channels - 1
        self.position = nn.Parameter(torch.empty(n_tokens, size))
        self.blocks = nn.ModuleList(
            Block(size, architecture.n_heads) for _ in range(architecture.depths[-1])
        )
        self.norm = nn.LayerNorm(size)

    def init_parameters(self, generator):
        """Draw the embeddings and the positions."""
        self.embedding.normal_(std=_STD, generator=generator)
        self.position.normal_(std=_STD, generator=generator)
        self.bias.zero_()

    def forward(self, codes, n_codes, conds):
        """Log probabilities of the channels (n, c + 1, n_codes) given the first c `codes`.

        Codes from ``n_codes``, of shape (n, c + 1), on are impossible.
        """
        x = torch.cat([self.embed_condition(conds), self.embedding[codes]], 1)
        x = x + self.position[: x.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        x = self.norm(x[:, self.n_conds - 1 :])
        logits = x @ self.embedding.T + self.bias
        index = torch.arange(len(self.bias), device=codes.device)
        return logits.masked_fill(index >= n_codes[..., None], -torch.inf).log_softmax(-1)


class FractalNetwork(nn.Module):
    """The levels, the pixel model, and an embedding of the labels; the last one is no label."""

    def __init__(self, architecture, n_codes):
        super().__init__()
        self.levels = nn.ModuleList(
            Generator(architecture, level) for level in range(len(architecture.patches) - 1)
        )
        self.pixel = PixelModel(architecture)
        self.labels = nn.Embedding(architecture.n_labels + 1, architecture.widths[0])
        self.register_buffer("n_codes", torch.empty(n_codes.shape, dtype=torch.long))
        self._n_codes = n_codes.tolist()

    def init_parameters(self, generator):
        """Set the number of codes of every pixel."""
        self.n_codes.copy_(torch.tensor(self._n_codes))

    def forward(self, codes, labels, generator=None):
        """Log probability of every entry of `codes` and its weight, both (n, c, height, width).

        With masked levels, the weights of a draw of masks: in training mode those of the paper,
        else such that the weighted sum is an unbiased estimate of the bound.
        """
        n, patches = len(codes), codes
        n_codes = self.n_codes.expand(codes.shape)
        conds = self.labels(labels)[:, None]
        weight = torch.ones(n, device=codes.device)
        for level in self.levels:
            inputs = level.split(scaled(patches, n_codes).to(conds.dtype))
            visible, weight = self._masks(level, n, weight, generator)
            conds = level.conditions(level(inputs, conds, visible)).flatten(0, 1)
            patches, n_codes = (level.split(x).flatten(0, 1) for x in (patches, n_codes))
        pixels, n_codes = patches.flatten(1), n_codes.flatten(1)
        log_p = self.pixel(pixels[:, :-1], n_codes, conds).gather(2, pixels[..., None])[..., 0]
        weight = weight.to(log_p.dtype)[:, None].expand(log_p.shape)
        return self._join(log_p, n), self._join(weight, n)

    def _join(self, x, n):
        x = x[:, :, None, None]
        for level in reversed(self.levels):
            x = level.join(x.unflatten(0, (-1, level.size)))
        return x.reshape(n, *self.n_codes.shape)

    def _masks(self, level, n_rows, weight, generator):
        """What a level sees, and the weights of the patches of the next one."""
        if not level.masked:
            return None, weight.repeat_interleave(level.size)
        if self.training:
            hidden = training_mask(len(weight), level.size, generator)
            factor = hidden.double()
        else:  # one draw for all rows, so that they are scored alike
            hidden = uniform_mask(len(weight) // n_rows, level.size, generator)
            factor = hidden * level.size / hidden.sum(1, keepdim=True)
            hidden, factor = hidden.repeat(n_rows, 1), factor.repeat(n_rows, 1)
        weight = (weight[:, None] * factor.to(weight.device)).flatten()
        return ~hidden.to(weight.device), weight


def training_mask(n, size, generator):
    """Hide a share of the sub-patches drawn from a normal distribution cut to (0, 1]."""
    low = math.erf(-1 / _MASK_RATIO_SD / math.sqrt(2))  # the quantiles of 0 and 1 (mean 1)
    uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    share = 1 + _MASK_RATIO_SD * math.sqrt(2) * torch.erfinv(low * (1 - uniform))
    return _hide(n, size, (share * size).ceil().clamp(1, size), generator)


def uniform_mask(n, size, generator):
    """Hide a number of sub-patches that is uniform on 1, ..., size."""
    n_hidden = torch.randint(1, size + 1, (n, 1), generator=generator)
    return _hide(n, size, n_hidden, generator)


def _hide(n, size, n_hidden, generator):
    return torch.rand(n, size, generator=generator).argsort(1).argsort(1) < n_hidden
