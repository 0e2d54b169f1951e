"""Samples of a fractal network, patch by patch, with known pixels kept."""

import math

import torch

from ._fractal_network import scaled

__all__ = ["Sampler"]

_N_STEPS = (64, 16)  # in which masked levels reveal their patches: the first level, the others
_NEGLIGIBLE = 1e-4  # codes of less probability given the label are never drawn under guidance


class Sampler:
    """Draws images from `network` with draws from `generator`.

    With `guidance` other than 1, every condition comes twice: for the labels, and for none.
    """

    def __init__(self, network, generator, temperature=1.0, guidance=1.0):
        self.network = network
        self.generator = generator
        self.temperature = temperature
        self.guidance = guidance
        self.progress = 1.0  # along the first level, over which guidance rises

    def sample(self, labels, known):
        """Fill in the entries of `known`, (n, c, height, width), that are -1."""
        conds = self.network.labels(labels)
        if self.guidance != 1:
            none = torch.full_like(labels, self.network.labels.num_embeddings - 1)
            conds = torch.cat([conds, self.network.labels(none)])
        return self._patch(0, conds[:, None], known, self.network.n_codes.expand(known.shape))

    def _patch(self, depth, conds, known, n_codes):
        if depth == len(self.network.levels):
            return self._pixel(conds, known.flatten(1), n_codes.flatten(1))[:, :, None, None]
        level = self.network.levels[depth]
        draw = self._masked if level.masked else self._causal
        return level.join(draw(depth, level, conds, level.split(known), level.split(n_codes)))

    def _causal(self, depth, level, conds, known, n_codes):
        """One sub-patch after another; keys and values of those before are cached."""
        caches, patches = [[] for _ in level.blocks], []
        token, first = level.embed_condition(conds), 0
        for k in range(level.size):
            if depth == 0:
                self.progress = k / max(level.size - 1, 1)
            told = level.conditions(level.step(token, first, caches))[:, 0]
            patches.append(self._patch(depth + 1, told, known[:, k], n_codes[:, k]))
            first += token.shape[1]
            pixels = scaled(patches[-1], n_codes[:, k]).to(conds.dtype).flatten(1)
            token = level.embed_patch(self._repeat(pixels, conds))[:, None]
        return torch.stack(patches, 1)

    def _masked(self, depth, level, conds, known, n_codes):
        """More and more sub-patches at a time, in a random order, the known ones first."""
        visible = (known >= 0).flatten(2).all(2)
        patches = known.clamp(min=0)
        noise = torch.rand(visible.shape, generator=self.generator).to(visible.device)
        order = (noise - visible.to(noise.dtype)).argsort(1)
        rows = torch.arange(len(known), device=known.device)[:, None]
        stops = cosine_schedule(level.size, _N_STEPS[min(depth, 1)])
        for start, stop in zip([0, *stops], stops):
            if depth == 0:
                self.progress = start / level.size
            inputs = scaled(patches, n_codes).to(conds.dtype)
            outputs = level(self._repeat(inputs, conds), conds, self._repeat(visible, conds))
            index = order[:, start:stop]
            told = level.conditions(outputs).unflatten(0, (-1, len(known)))[:, rows, index]
            drawn = self._patch(
                depth + 1,
                told.flatten(0, 2),
                known[rows, index].flatten(0, 1),
                n_codes[rows, index].flatten(0, 1),
            )
            patches[rows, index] = drawn.unflatten(0, index.shape)
            visible[rows, index] = True
        return patches

    def _pixel(self, conds, known, n_codes):
        codes = known[:, :0]
        for channel in range(known.shape[1]):
            log_p = self.network.pixel(
                self._repeat(codes, conds),
                self._repeat(n_codes[:, : channel + 1], conds),
                conds,
            )[:, -1]
            code = self._draw(log_p, known[:, channel])
            codes = torch.cat([codes, code[:, None]], 1)
        return codes

    def _draw(self, log_p, known):
        log_p = self.temperature * self._guide(log_p)
        noise = torch.rand(log_p.shape, generator=self.generator, dtype=log_p.dtype)
        drawn = (log_p - (-noise.to(log_p.device).log()).log()).argmax(1)  # the Gumbel trick
        return torch.where(known >= 0, known, drawn)

    def _guide(self, log_p):
        if self.guidance == 1:
            return log_p
        with_label, without = log_p.chunk(2)
        scale = 1 + (self.guidance - 1) * self.progress
        guided = without + scale * (with_label - without)
        return guided.where(with_label >= math.log(_NEGLIGIBLE), -torch.inf)

    def _repeat(self, x, conds):
        """Once or twice, as the conditions are."""
        return x.repeat(len(conds) // max(len(x), 1), *[1] * (x.ndim - 1))


def cosine_schedule(size, n_steps):
    """How many of `size` patches are there after each step: few at first, then more."""
    n_steps = min(size, n_steps)
    share = [1 - math.cos(math.pi / 2 * (i + 1) / n_steps) for i in range(n_steps)]
    stops, last = [], 0
    for s in share[:-1]:
        last = min(max(last + 1, round(s * size)), size - 1)
        stops.append(last)
    return [*dict.fromkeys(stops), size] if size > 1 else [1]
