"""Rows as tensors, and batches of them."""

from typing import NamedTuple

import scipy.sparse as sp
import torch

__all__ = ["Batches", "Data"]

_WHOLE_PERMUTATION_BYTES = 2**30  # above this, rows are gathered batch by batch


class Data(NamedTuple):
    """Rows of one or several inputs (tensors or CSR matrices), with targets and weights.

    A batch is a `Data` too; `weight` is None where all rows weigh the same.
    """

    inputs: tuple
    y: torch.Tensor | None = None
    weight: torch.Tensor | None = None

    @property
    def n_rows(self):
        return self.inputs[0].shape[0]

    @property
    def nbytes(self):
        return sum(x.nbytes if torch.is_tensor(x) else 0 for x in self._parts())

    def take(self, index):
        """Select rows."""
        return self._map(lambda x: _rows(x, index))

    def to(self, device):
        """Move the tensors; sparse inputs stay where they are until they are batched."""
        return self._map(lambda x: x.to(device) if torch.is_tensor(x) else x)

    def split(self, sizes):
        """Cut into consecutive pieces of these sizes."""
        pieces = [[None] * len(sizes) if x is None else x.split(sizes) for x in self._parts()]
        for row in zip(*pieces):
            yield Data(row[:-2], row[-2], row[-1])

    @property
    def is_sparse(self):
        return any(sp.issparse(x) for x in self.inputs)

    def _parts(self):
        return (*self.inputs, self.y, self.weight)

    def _map(self, function):
        *inputs, y, weight = (None if x is None else function(x) for x in self._parts())
        return Data(tuple(inputs), y, weight)


def _rows(x, index):
    if sp.issparse(x):
        return torch.from_numpy(x[index.cpu().numpy()].toarray())
    return x[index]


class Batches:
    """Shuffled batches, anew at each iteration.

    One permutation an epoch, then views: no row is collated by itself. When one batch holds all
    rows nothing is shuffled, and a last batch of less than an eighth of the others joins the one
    before it (a batch norm has no statistics to speak of on a few rows). With `even`, all batches
    have the same size, up to a row: for losses that are correlations over a batch.
    """

    def __init__(self, data, batch_size, generator, device="cpu", shuffle=True, even=False):
        n_rows = data.n_rows
        batch_size = min(batch_size or n_rows, n_rows)
        self.sizes = (even_sizes if even else _sizes)(n_rows, batch_size)
        self.shuffle = shuffle and len(self.sizes) > 1
        self.generator = generator
        self.device = device
        self.whole = not data.is_sparse and data.nbytes <= _WHOLE_PERMUTATION_BYTES
        self.data = data.to(device) if self.whole else data

    def __len__(self):
        return len(self.sizes)

    def __iter__(self):
        if not self.shuffle and self.whole:
            return self.data.split(self.sizes)
        n_rows = self.data.n_rows
        order = (
            torch.randperm(n_rows, generator=self.generator)
            if self.shuffle
            else torch.arange(n_rows)
        )
        if self.whole:
            return self.data.take(order.to(self.device)).split(self.sizes)
        return (self.data.take(index).to(self.device) for index in order.split(self.sizes))


def _sizes(n_rows, batch_size):
    full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * full
    if full and 0 < rest < max(2, batch_size / 8):
        sizes[-1] += rest
    elif rest:
        sizes.append(rest)
    return sizes


def even_sizes(n_rows, batch_size):
    """Sizes of batches that differ by one row at most.

    A correlation over the few rows of a short last batch would be little but noise.
    """
    n_batches = max(1, round(n_rows / (batch_size or n_rows)))
    n_batches = min(n_batches, max(1, n_rows // 2))  # two rows make a correlation
    size, larger = divmod(n_rows, n_batches)
    return [size + 1] * larger + [size] * (n_batches - larger)
