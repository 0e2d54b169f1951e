"""Low-rank adapters: a frozen linear layer plus a small trainable change of its weights."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from skpapers.utils import check_random_state

from ._random import torch_generator, uniform_fan_in_

__all__ = ["LoHALinear", "LoKHLinear", "LoKrLinear", "LoRALinear"]


class _Adapter(nn.Module, ABC):
    """A frozen linear layer with a change of its weights that starts at zero."""

    def __init__(self, linear, rank=4, alpha=None, generator=None):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank!r}")
        self.linear = linear.requires_grad_(False)
        self.rank = rank
        self.alpha = rank if alpha is None else alpha
        self._original = None
        self._make()
        if not linear.weight.is_meta:
            with torch.no_grad():
                self.init_parameters(generator or torch_generator(check_random_state(None)))

    @property
    def merged(self):
        """Whether the change is part of the weights of the layer."""
        return self._original is not None

    @property
    def scale(self):
        """Factor on the change."""
        return self.alpha / self.rank

    def _parameter(self, *shape):
        like = self.linear.weight
        return nn.Parameter(torch.empty(shape, dtype=like.dtype, device=like.device))

    @abstractmethod
    def _make(self):
        """Make the parameters; those in ``_zero`` start at zero."""

    @abstractmethod
    def _change(self, x):
        """Product of the unscaled change with x, without the matrix."""

    @abstractmethod
    def _matrix(self):
        """The unscaled change as a matrix."""

    def init_parameters(self, generator):
        """Set the change to zero: one factor is zero, the others are uniform.

        Parameters
        ----------
        generator : torch.Generator
            Source of the draws.
        """
        for name, parameter in self.named_parameters(recurse=False):
            if name == self._zero:
                parameter.zero_()
            else:
                draw = torch.empty(parameter.shape, dtype=parameter.dtype)
                parameter.copy_(uniform_fan_in_(draw, generator))

    def forward(self, x):
        """Apply the layer.

        Parameters
        ----------
        x : torch.Tensor of shape (..., in_features)
            Input.

        Returns
        -------
        torch.Tensor of shape (..., out_features)
            Output.
        """
        y = self.linear(x)
        return y if self.merged else y + self.scale * self._change(x)

    def delta(self):
        """Compute the change of the weights.

        Returns
        -------
        torch.Tensor of shape (out_features, in_features)
            The change, with its scale.
        """
        return self.scale * self._matrix()

    @torch.no_grad()
    def merge(self):
        """Add the change to the weights of the layer, for inference at no extra cost.

        Returns
        -------
        torch.nn.Linear
            The layer itself, changed in place.
        """
        if not self.merged:
            self._original = self.linear.weight.clone()
            self.linear.weight.add_(self.delta())
        return self.linear

    @torch.no_grad()
    def unmerge(self):
        """Restore the weights of the layer as they were, bit by bit.

        Returns
        -------
        torch.nn.Linear
            The layer itself.
        """
        if self.merged:
            self.linear.weight.copy_(self._original)
            self._original = None
        return self.linear

    def extra_repr(self):
        return f"rank={self.rank}, alpha={self.alpha}"


class LoRALinear(_Adapter):
    """A frozen linear layer plus a change ``B A`` of its weights.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer; its parameters are frozen.
    rank : int, default=4
        Rank of the change.
    alpha : float, default=None
        The change is multiplied by ``alpha / rank``; None is `rank`.
    generator : torch.Generator, default=None
        Source of the initial values; None is a fresh one.

    Notes
    -----
    The change has ``rank * (out_features + in_features)`` parameters, and costs as many products
    a row.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
       :arxiv:`2106.09685`, section 4.1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import LoRALinear
    >>> layer = LoRALinear(torch.nn.Linear(6, 4), rank=2)
    >>> layer(torch.ones(3, 6)).shape
    torch.Size([3, 4])
    >>> sum(p.numel() for p in layer.parameters() if p.requires_grad)
    20
    """

    _zero = "B"

    def _make(self):
        out_features, in_features = self.linear.weight.shape
        self.A = self._parameter(self.rank, in_features)
        self.B = self._parameter(out_features, self.rank)

    def _change(self, x):
        return F.linear(F.linear(x, self.A), self.B)

    def _matrix(self):
        return self.B @ self.A


class LoHALinear(_Adapter):
    """A frozen linear layer plus an elementwise product of two low-rank matrices.

    The change ``(B1 A1) o (B2 A2)`` has a rank of up to ``rank**2``, for the parameters of a
    `LoRALinear` of rank ``2 * rank``.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer; its parameters are frozen.
    rank : int, default=4
        Rank of each of the two matrices.
    alpha : float, default=None
        The change is multiplied by ``alpha / rank``; None is `rank`.
    generator : torch.Generator, default=None
        Source of the initial values; None is a fresh one.

    Notes
    -----
    The change has ``2 * rank * (out_features + in_features)`` parameters. It is applied as
    ``rank**2`` outer products, without the matrix.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.
    .. [2] N. Hyeon-Woo, M. Ye-Bin, T.-H. Oh, "FedPara: Low-Rank Hadamard Product for
       Communication-Efficient Federated Learning", ICLR 2022, :arxiv:`2108.06098`.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import LoHALinear
    >>> layer = LoHALinear(torch.nn.Linear(6, 4), rank=2)
    >>> layer(torch.ones(3, 6)).shape
    torch.Size([3, 4])
    >>> bool((layer.delta() == 0).all())
    True
    """

    _zero = "B1"

    def _make(self):
        out_features, in_features = self.linear.weight.shape
        self.A1, self.A2 = (self._parameter(self.rank, in_features) for _ in range(2))
        self.B1, self.B2 = (self._parameter(out_features, self.rank) for _ in range(2))

    def _change(self, x):
        return F.linear(F.linear(x, _row_products(self.A1, self.A2)), self._columns())

    def _columns(self):
        return _row_products(self.B1.T, self.B2.T).T

    def _matrix(self):
        return (self.B1 @ self.A1) * (self.B2 @ self.A2)


class LoKrLinear(_Adapter):
    """A frozen linear layer plus a Kronecker product ``kron(C, B A)``.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer; its parameters are frozen.
    rank : int, default=4
        Rank of ``B A``; that of the change is up to ``rank * min(shape)``.
    alpha : float, default=None
        The change is multiplied by ``alpha / rank``; None is `rank`.
    generator : torch.Generator, default=None
        Source of the initial values; None is a fresh one.
    shape : tuple of int, default=None
        Shape of C, which divides that of the weights; None takes the largest divisors that are
        not above the roots.

    Notes
    -----
    With ``o1, i1 = shape`` the change has ``o1 * i1 + rank * (out_features / o1 + in_features /
    i1)`` parameters. It is applied to the input as a matrix, without the product.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import LoKrLinear
    >>> layer = LoKrLinear(torch.nn.Linear(6, 4), rank=2)
    >>> layer.C.shape, layer.B.shape, layer.A.shape
    (torch.Size([2, 2]), torch.Size([2, 2]), torch.Size([2, 3]))
    """

    _zero = "B"

    def __init__(self, linear, rank=4, alpha=None, generator=None, shape=None):
        sizes = linear.weight.shape
        self.shape = tuple(map(_divisor, sizes)) if shape is None else tuple(shape)
        if len(self.shape) != 2 or any(n % d for n, d in zip(sizes, self.shape)):
            raise ValueError(f"shape must divide {tuple(sizes)}, got {shape!r}")
        super().__init__(linear, rank, alpha, generator)

    def _make(self):
        out_features, in_features = self.linear.weight.shape
        self.C = self._parameter(*self.shape)
        self.B = self._parameter(out_features // self.shape[0], self.rank)
        self.A = self._parameter(self.rank, in_features // self.shape[1])

    def _change(self, x):
        blocks = x.unflatten(-1, (self.shape[1], -1))
        return (self.C @ F.linear(F.linear(blocks, self.A), self.B)).flatten(-2)

    def _matrix(self):
        return torch.kron(self.C, self.B @ self.A)


class LoKHLinear(_Adapter):
    """A frozen linear layer plus a column-wise Kronecker product of two low-rank matrices.

    Column j of the change is ``kron(u_j, v_j)``, with the columns of ``B1 A1`` and ``B2 A2``.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer; its parameters are frozen.
    rank : int, default=4
        Rank of each of the two matrices; that of the change is up to ``rank**2``.
    alpha : float, default=None
        The change is multiplied by ``alpha / rank``; None is `rank`.
    generator : torch.Generator, default=None
        Source of the initial values; None is a fresh one.
    height : int, default=None
        Length of u, a divisor of out_features; None is the largest that is not above its root.

    Notes
    -----
    The change has ``rank * (height + out_features / height + 2 * in_features)`` parameters. It is
    applied through a matrix of ``rank**2`` numbers a row of the input.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import LoKHLinear
    >>> layer = LoKHLinear(torch.nn.Linear(6, 4), rank=3)
    >>> layer(torch.ones(5, 6)).shape
    torch.Size([5, 4])
    """

    _zero = "B1"

    def __init__(self, linear, rank=4, alpha=None, generator=None, height=None):
        out_features = linear.weight.shape[0]
        self.height = _divisor(out_features) if height is None else height
        if out_features % self.height:
            raise ValueError(f"height must divide {out_features}, got {height!r}")
        super().__init__(linear, rank, alpha, generator)

    def _make(self):
        out_features, in_features = self.linear.weight.shape
        self.A1, self.A2 = (self._parameter(self.rank, in_features) for _ in range(2))
        self.B1 = self._parameter(self.height, self.rank)
        self.B2 = self._parameter(out_features // self.height, self.rank)

    def _change(self, x):
        inner = F.linear(x, _row_products(self.A1, self.A2))
        inner = inner.unflatten(-1, (self.rank, self.rank))
        return (self.B1 @ inner @ self.B2.T).flatten(-2)

    def _matrix(self):
        left, right = self.B1 @ self.A1, self.B2 @ self.A2
        return _row_products(left, right)


def _row_products(first, second):
    """All products of a row of one matrix with a row of the other."""
    return (first[:, None, :] * second[None, :, :]).flatten(0, 1)


def _divisor(n):
    """The largest divisor that is not above the root."""
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
