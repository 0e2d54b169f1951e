"""Compressors: what a worker sends in place of a vector, and how it is read."""

import math
from abc import ABC, abstractmethod
from numbers import Integral

import numpy as np
import torch

__all__ = ["Identity", "NaturalCompression", "RandK", "SignNorm", "TopK"]


class Compressor(ABC):
    """Base of the compressors C with E ||C(v) - v||^2 <= (1 - alpha) ||v||^2.

    All work on the rows of a tensor of shape (n_rows, n_values), one row a worker. What is sent
    is a tuple of tensors whose sizes depend on n_values alone, so that it fits a collective.
    """

    random = False  # whether `encode` needs a generator a row

    @abstractmethod
    def encode(self, rows, generators=None):
        """Compress each row.

        Parameters
        ----------
        rows : torch.Tensor of shape (n_rows, n_values)
            Vectors.
        generators : list of torch.Generator, default=None
            One a row, for compressors that draw.

        Returns
        -------
        tuple of torch.Tensor
            What is sent, the rows along the first axis.
        """

    @abstractmethod
    def decode(self, message, n_values):
        """Read compressed rows.

        Parameters
        ----------
        message : tuple of torch.Tensor
            What `encode` returned.
        n_values : int
            Length of a row.

        Returns
        -------
        torch.Tensor of shape (n_rows, n_values)
            The compressed vectors.
        """

    @abstractmethod
    def alpha(self, n_values):
        """Give the contraction of vectors of a length.

        Parameters
        ----------
        n_values : int
            Length of a vector.

        Returns
        -------
        float
            The constant, in (0, 1].
        """

    def add_(self, rows, message):
        """Add each compressed row in place.

        Parameters
        ----------
        rows : torch.Tensor of shape (n_rows, n_values)
            What is added to.
        message : tuple of torch.Tensor
            What `encode` returned.
        """
        rows += self.decode(message, rows.shape[1])

    def add_sum_(self, vector, message, weights):
        """Add the weighted sum of the compressed rows in place.

        Parameters
        ----------
        vector : torch.Tensor of shape (n_values,)
            What is added to.
        message : tuple of torch.Tensor
            What `encode` returned.
        weights : torch.Tensor of shape (n_rows,)
            Factors of the rows.
        """
        vector += weights @ self.decode(message, len(vector))

    def __repr__(self):
        options = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class Identity(Compressor):
    """Send everything: alpha = 1.

    Examples
    --------
    >>> from skpapers.optim import Identity
    >>> Identity().alpha(10)
    1.0
    """

    def encode(self, rows, generators=None):
        return (rows,)

    def decode(self, message, n_values):
        return message[0]

    def alpha(self, n_values):
        return 1.0


class _Sparse(Compressor):
    """Sends some values and their places."""

    def __init__(self, ratio=0.01):
        integral = isinstance(ratio, Integral) and not isinstance(ratio, bool)
        if not (ratio >= 1 if integral else 0 < ratio <= 1):
            raise ValueError(
                f"ratio must be a float in (0, 1] or an int of at least 1, got {ratio!r}"
            )
        self.ratio = ratio

    def n_kept(self, n_values):
        """Count the values that are sent.

        Parameters
        ----------
        n_values : int
            Length of a vector.

        Returns
        -------
        int
            ``max(1, floor(ratio * n_values))``, or `ratio` where it is an int.
        """
        if isinstance(self.ratio, Integral):
            return min(self.ratio, n_values)
        return max(1, math.floor(self.ratio * n_values * (1 + 1e-12)))  # 0.29 * 100 is 29

    def alpha(self, n_values):
        return self.n_kept(n_values) / n_values

    def encode(self, rows, generators=None):
        index = self._places(rows, generators)
        return rows.gather(1, index), index.int()

    def decode(self, message, n_values):
        values, index = message
        return values.new_zeros(len(values), n_values).scatter_(1, index.long(), values)

    def add_(self, rows, message):
        values, index = message
        rows.scatter_add_(1, index.long(), values)

    def add_sum_(self, vector, message, weights):
        values, index = message
        vector.index_add_(0, index.flatten(), (values * weights[:, None]).flatten())


class TopK(_Sparse):
    """Send the k entries of largest modulus: alpha = k / d.

    Parameters
    ----------
    ratio : float or int, default=0.01
        A float in (0, 1] is the share of entries kept, ``k = max(1, floor(ratio * d))``; an int
        is k itself.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import TopK
    >>> compressor = TopK(1)
    >>> message = compressor.encode(torch.tensor([[1.0, -3.0, 2.0]]))
    >>> compressor.decode(message, 3)
    tensor([[ 0., -3.,  0.]])
    """

    def _places(self, rows, generators):
        n_kept = self.n_kept(rows.shape[1])
        if rows.dtype in _NUMPY_DTYPES and rows.device.type == "cpu":
            return torch.from_numpy(largest(rows.abs().numpy(), n_kept))
        return rows.abs().topk(n_kept, dim=1, sorted=False).indices


_NUMPY_DTYPES = torch.float32, torch.float64
_STRIDE = 64


def largest(rows, k):
    """Places of the k largest values of each row; NumPy selects faster than torch on the CPU."""
    if _STRIDE * 16 < 16 * k < rows.shape[1]:
        return np.stack([largest_of_many(row, k) for row in rows])
    return np.argpartition(rows, -k, axis=1)[:, -k:]


def largest_of_many(values, k):
    """Places of the k largest of very many values, exactly.

    A sample gives a value that a little more than k others are likely to reach, so that few are
    left to be partitioned; where fewer than k do, all are.
    """
    sample, rank = values[::_STRIDE], 16 + k * 5 // (4 * _STRIDE)
    (candidates,) = np.nonzero(values >= np.partition(sample, -rank)[-rank])
    if len(candidates) < k:
        candidates = np.arange(len(values))
    return candidates[np.argpartition(values[candidates], -k)[-k:]]


class RandK(_Sparse):
    """Send k entries drawn at random, as they are: alpha = k / d in expectation.

    Parameters
    ----------
    ratio : float or int, default=0.01
        A float in (0, 1] is the share of entries kept, ``k = max(1, floor(ratio * d))``; an int
        is k itself.

    Examples
    --------
    >>> from skpapers.optim import RandK
    >>> RandK(0.25).alpha(100)
    0.25
    """

    random = True

    def _places(self, rows, generators):
        draws = [torch.rand(rows.shape[1], generator=generator) for generator in generators]
        return torch.stack(draws).topk(self.n_kept(rows.shape[1]), dim=1).indices.to(rows.device)


class SignNorm(Compressor):
    """Send the signs, a bit each, and the mean modulus: alpha >= 1 / d.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import SignNorm
    >>> message = SignNorm().encode(torch.tensor([[1.0, -3.0]]))
    >>> SignNorm().decode(message, 2)
    tensor([[ 2., -2.]])
    """

    def encode(self, rows, generators=None):
        bits = torch.nn.functional.pad((rows >= 0).byte(), (0, -rows.shape[1] % 8))
        octets = bits.unflatten(1, (-1, 8)) << _BITS.to(rows.device)
        return rows.abs().mean(1, keepdim=True), octets.sum(2, dtype=torch.uint8)

    def decode(self, message, n_values):
        scale, octets = message
        bits = (octets[:, :, None] >> _BITS.to(octets.device)) & 1
        return scale * (2 * bits.flatten(1)[:, :n_values].to(scale.dtype) - 1)

    def alpha(self, n_values):
        return 1 / n_values


_BITS = torch.arange(8, dtype=torch.uint8)


class NaturalCompression(Compressor):
    """Round to a power of two, up or down at random without bias, and scale by 8/9.

    Two bytes a value are sent, sign and exponent. The relative variance of the rounding is 1/8 at
    most, hence alpha = 8/9 in expectation. It is not positively homogeneous.

    Examples
    --------
    >>> from skpapers.optim import NaturalCompression
    >>> round(NaturalCompression().alpha(10), 4)
    0.8889
    """

    random = True

    def encode(self, rows, generators):
        mantissa, exponent = torch.frexp(rows.abs())  # |x| = mantissa * 2**exponent, in [1/2, 1)
        draws = [torch.rand(rows.shape[1], generator=generator) for generator in generators]
        up = torch.stack(draws).to(rows.device) < 2 * mantissa - 1
        code = exponent - 1 + up + _OFFSET
        return ((code * rows.sign()).to(torch.int16), rows.new_empty(len(rows), 0))

    def decode(self, message, n_values):
        code, like = message
        power = torch.ldexp(torch.ones_like(code, dtype=like.dtype), code.abs().int() - _OFFSET)
        return power * code.sign() * self.alpha(n_values)

    def alpha(self, n_values):
        return 8 / 9


_OFFSET = 2000  # keeps the coded exponents of float64, subnormal ones too, positive
