"""Species: distances between genomes, who belongs together, who has how many children."""

from dataclasses import dataclass

import numpy as np
import torch

from ._neat_genomes import NO_CONN, NO_NODE, Genomes, find

__all__ = ["Species", "choose_parents", "distance", "rank_species", "spawn_numbers", "speciate"]


@dataclass(frozen=True)
class Species:
    """Species of a population.

    Attributes
    ----------
    centers : Genomes
        What a genome is compared with, one a species.
    labels : tensor of int64 of shape (n_genomes,)
        Species of each genome.
    best : ndarray of shape (n_species,)
        Best fitness so far, -inf for a new species.
    improved_at : ndarray of shape (n_species,)
        Generation when that was reached.
    """

    centers: Genomes
    labels: torch.Tensor
    best: np.ndarray
    improved_at: np.ndarray

    def take(self, order):
        """Select species; the labels are those of the population before."""
        index = torch.from_numpy(order).to(self.labels.device)
        centers = self.centers.take(index)
        return Species(centers, self.labels, self.best[order], self.improved_at[order])

    def to(self, device):
        """Move to a device."""
        moved = self.centers.to(device), self.labels.to(device)
        return Species(*moved, self.best, self.improved_at)

    @property
    def sizes(self):
        """Members of each species."""
        return torch.bincount(self.labels, minlength=len(self.best)).cpu().numpy()


def distance(first, second, disjoint=1.0, weight=0.4):
    """Distances between all genomes of two populations.

    Over nodes and over connections: `disjoint` times the number of genes that only one has plus
    `weight` times the difference of the others, divided by the number of genes of the larger.
    """
    cost = disjoint, weight
    nodes = ("keys", "biases", "aggregations", "activations")
    return _gene_distance(first, second, ("codes", "weights"), NO_CONN, cost) + _gene_distance(
        first, second, nodes, NO_NODE, cost
    )


def _gene_distance(first, second, names, padding, cost):
    """One kind of genes: key, number, and functions, which are equal or not."""
    key, number, *functions = names
    disjoint, weight = cost
    owned = getattr(second, key) != padding
    wanted = getattr(second, key)[owned].expand(len(first), -1).contiguous()
    index, shared = find(getattr(first, key), wanted, padding)
    apart = (getattr(first, number).gather(1, index) - getattr(second, number)[owned]).abs()
    for name in functions:
        apart = apart + (getattr(first, name).gather(1, index) != getattr(second, name)[owned])
    change = (weight * apart - 2 * disjoint) * shared  # against all genes being disjoint
    place = owned.flatten().nonzero()[:, 0]
    change = change.new_zeros(len(first), owned.numel()).index_copy(1, place, change)
    one = (getattr(first, key) != padding).sum(dim=1)[:, None]
    two = owned.sum(dim=1)
    total = disjoint * (one + two) + change.view(len(first), *owned.shape).sum(dim=2)
    return total / one.maximum(two).clamp(min=1)


def speciate(population, species, threshold, max_species, generation):
    """Assign a new population to the old species, by their new centers, and to new ones."""
    old = 0 if species is None else len(species.best)
    centers = [] if species is None else list(nearest_each(distance(species.centers, population)))
    labels = torch.full((len(population),), -1, device=population.keys.device)
    if centers:
        gaps, nearest = distance(population.take(torch.stack(centers)), population).min(dim=0)
        labels = nearest.where(gaps < threshold, labels)
        labels[torch.stack(centers)] = torch.arange(old, device=labels.device)
    while len(centers) < max_species and (labels < 0).any():
        center = (labels < 0).int().argmax()
        gaps = distance(population.take(center[None]), population)[0]
        labels = labels.masked_fill((labels < 0) & (gaps < threshold), len(centers))
        labels[center] = len(centers)
        centers.append(center)
    labels = labels.masked_fill(labels < 0, len(centers) - 1)
    new = len(centers) - old
    best, since = ([], []) if species is None else (species.best, species.improved_at)
    return Species(
        population.take(torch.stack(centers)),
        labels,
        np.append(best, np.full(new, -np.inf)),
        np.append(since, np.full(new, generation)),
    )


def nearest_each(distances):
    """For each row in turn, the nearest column that no row before it has taken."""
    distances = distances.clone()
    for row in distances:
        index = row.argmin()
        distances[:, index] = torch.inf
        yield index


def rank_species(species, fitness, generation, max_stagnation, elitism):
    """Update the records, and list the species that may have children, the fittest first."""
    peak = torch.full((len(species.best),), -torch.inf, dtype=fitness.dtype, device=fitness.device)
    peak = peak.scatter_reduce(0, species.labels, fitness, "amax").cpu().numpy()
    better = peak > species.best
    best = np.where(better, peak, species.best)
    since = np.where(better, generation, species.improved_at)
    order = np.argsort(-peak, kind="stable")
    kept = (generation - since[order] <= max_stagnation) | (np.arange(len(order)) < elitism)
    return Species(species.centers, species.labels, best, since), order[kept | (not kept.any())]


def spawn_numbers(pop_size, sizes):
    """Children of each species, fittest first: halfway from its size to a share by rank."""
    n = len(sizes)
    target = np.floor(pop_size * (n - np.arange(n)) / (n * (n + 1) / 2))
    spawn = np.maximum(1, sizes + 0.5 * (target - sizes)).astype(int)
    spawn[0] += pop_size - spawn.sum()
    return spawn


def choose_parents(species, order, fitness, pop_size, survival, elitism, generator):
    """Indices of the genomes that are copied, and of the pairs, winners first."""
    device = fitness.device
    sizes = species.sizes
    spawn = spawn_numbers(pop_size, sizes[order])
    elites = np.minimum(np.minimum(elitism, sizes[order]), spawn)
    ranked = fitness.argsort(descending=True, stable=True)
    ranked = ranked[species.labels[ranked].argsort(stable=True)]  # by species, fittest first
    start = (np.cumsum(sizes) - sizes)[order]
    copies = np.concatenate([np.arange(a, a + n) for a, n in zip(start, elites)])
    survivors = np.maximum(1, np.floor(survival * sizes[order])).astype(int)
    first, width = (
        torch.from_numpy(np.repeat(x, spawn - elites)).to(device) for x in (start, survivors)
    )
    draws = torch.rand(2, len(first), generator=generator).to(device)
    pairs = ranked[first + (draws * width).long()]
    won = fitness[pairs[0]] >= fitness[pairs[1]]
    winners, losers = pairs.where(won, pairs.flip(0))
    return ranked[torch.from_numpy(copies).to(device)], winners, losers
