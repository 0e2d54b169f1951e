"""Star operations: products of two linear maps, in blocks for rows and for images."""

import math
from numbers import Integral

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval, validate_params
from torch import nn

from ._random import Dropout
from ._registry import get_registry, register

__all__ = [
    "StarBlock",
    "StarConvBlock",
    "StarLinear",
    "StarNet",
    "polynomial_coefficients",
    "star_feature_dimension",
]

_BRANCHES = ("single", "none", "both")


def combine(first, second, branch_activation, operation):
    """Multiply (or add) two maps, ReLU6 on one, none or both of them."""
    if branch_activation != "none":
        first = F.relu6(first)
    if branch_activation == "both":
        second = F.relu6(second)
    return first * second if operation == "star" else first + second


def _check_options(branch_activation, operation):
    if branch_activation not in _BRANCHES:
        raise ValueError(
            f"branch_activation must be one of {_BRANCHES}, got {branch_activation!r}"
        )
    if operation not in ("star", "sum"):
        raise ValueError(f"operation must be 'star' or 'sum', got {operation!r}")


class StarLinear(nn.Module):
    """The product of two linear maps, ``(W1 x + b1) * (W2 x + b2)``, entry by entry.

    Parameters
    ----------
    in_features : int
        Width of the input.
    out_features : int
        Width of the output.
    branch_activation : {"none", "single", "both"}, default="none"
        ReLU6 on none, the first, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.

    Notes
    -----
    Without an activation an output is a quadratic form in the inputs and 1, so a layer reaches
    all ``(d + 1) * (d + 2) / 2`` monomials of degree two at most, and a stack of l layers degree
    ``2 ** l``.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import StarLinear, build_module
    >>> layer = build_module(lambda: StarLinear(3, 5), torch.Generator().manual_seed(0))
    >>> layer(torch.ones(2, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(self, in_features, out_features, branch_activation="none", operation="star"):
        super().__init__()
        _check_options(branch_activation, operation)
        self.branch_activation, self.operation = branch_activation, operation
        self.first = nn.Linear(in_features, out_features)
        self.second = nn.Linear(in_features, out_features)

    def forward(self, x):
        """Map the last axis of x.

        Parameters
        ----------
        x : torch.Tensor of shape (..., in_features)
            Input.

        Returns
        -------
        torch.Tensor of shape (..., out_features)
            Output.
        """
        return combine(self.first(x), self.second(x), self.branch_activation, self.operation)


class DropPath(Dropout):
    """Dropout of whole rows."""

    def _mask_shape(self, x):
        return len(x), *[1] * (x.ndim - 1)


@register("block", "star")
class StarBlock(nn.Module):
    """Residual block for rows: normalise, multiply two linear maps, map back, add.

    ``h + G(relu6(F1 n(h)) * F2 n(h))``.

    Parameters
    ----------
    width : int
        Number of features.
    ratio : int, default=4
        Width of the two maps relative to `width`.
    branch_activation : {"single", "none", "both"}, default="single"
        ReLU6 on the first, none, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.
    normalization : str or callable, default="batch"
        A registered normalization, or a function from the width to a module or None.
    residual : bool, default=True
        Add the input.
    drop_path : float, default=0.0
        Probability of leaving the block out for a row, during training.

    Notes
    -----
    ``NeuralClassifier(hidden_layer_sizes=(32, 32), block="star(ratio=2)")`` has two of them behind
    a linear layer. Products grow fast outside of the training data: standardise X.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967, section 3.4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import NeuralClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = NeuralClassifier((16, 16), block="star", lr=0.01, tol=0, random_state=0)
    >>> bool(network.fit(X, y).score(X, y) > 0.95)
    True
    """

    def __init__(
        self,
        width,
        ratio=4,
        branch_activation="single",
        operation="star",
        normalization="batch",
        residual=True,
        drop_path=0.0,
    ):
        super().__init__()
        if not (isinstance(ratio, Integral) and ratio > 0):
            raise ValueError(f"ratio must be a positive integer, got {ratio!r}")
        normalize = get_registry("normalization").resolve(normalization)(width)
        self.normalize = nn.Identity() if normalize is None else normalize
        self.star = StarLinear(width, ratio * width, branch_activation, operation)
        self.back = nn.Linear(ratio * width, width)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, x):
        """Pass rows through the block.

        Parameters
        ----------
        x : torch.Tensor of shape (n, width)
            Input.

        Returns
        -------
        torch.Tensor of shape (n, width)
            Output.
        """
        change = self.drop_path(self.back(self.star(self.normalize(x))))
        return x + change if self.residual else change


class StarConvBlock(nn.Module):
    """Residual block for images: a wide convolution a channel, a star of channels, another one.

    Parameters
    ----------
    channels : int
        Number of channels.
    ratio : int, default=4
        Width of the two maps relative to `channels`.
    branch_activation : {"single", "none", "both"}, default="single"
        ReLU6 on the first, none, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.
    drop_path : float, default=0.0
        Probability of leaving the block out for an image, during training.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967, section 4.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import StarConvBlock, build_module
    >>> block = build_module(lambda: StarConvBlock(8), torch.Generator().manual_seed(0))
    >>> block(torch.ones(2, 8, 6, 6)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self, channels, ratio=4, branch_activation="single", operation="star", drop_path=0.0
    ):
        super().__init__()
        _check_options(branch_activation, operation)
        self.branch_activation, self.operation = branch_activation, operation
        self.before = _conv_norm(channels, channels, 7, groups=channels)
        self.first = _Convolution(channels, ratio * channels, 1)
        self.second = _Convolution(channels, ratio * channels, 1)
        self.back = _conv_norm(ratio * channels, channels, 1)
        self.after = _Convolution(channels, channels, 7, padding=3, groups=channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        """Pass images through the block.

        Parameters
        ----------
        x : torch.Tensor of shape (n, channels, height, width)
            Input.

        Returns
        -------
        torch.Tensor of shape (n, channels, height, width)
            Output.
        """
        h = self.before(x)
        star = combine(self.first(h), self.second(h), self.branch_activation, self.operation)
        return x + self.drop_path(self.after(self.back(star)))


class _Convolution(nn.Conv2d):
    """A convolution with initial weights from a truncated normal density, as the paper's."""

    def init_parameters(self, generator):
        nn.init.trunc_normal_(self.weight, std=0.02, generator=generator)
        self.bias.zero_()


class _Linear(nn.Linear):
    """A linear layer with initial weights from a truncated normal density."""

    init_parameters = _Convolution.init_parameters


def _conv_norm(n_in, n_out, size, stride=1, groups=1):
    convolution = _Convolution(n_in, n_out, size, stride, padding=size // 2, groups=groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out))


class StarNet(nn.Module):
    """A convolutional network of star blocks, in stages of half the size and twice the channels.

    Parameters
    ----------
    base_width : int
        Channels of the first stage.
    depths : sequence of int
        Blocks of each stage.
    mlp_ratio : int, default=4
        Width of the stars relative to the channels.
    n_outputs : int, default=1000
        Number of outputs.
    in_channels : int, default=3
        Channels of the images.
    stem_stride : int, default=2
        Stride of the first convolution.
    drop_path : float, default=0.0
        Probability of leaving out the last block; it grows linearly up to there.
    branch_activation : {"single", "none", "both"}, default="single"
        ReLU6 on the first, none, or both of the maps.
    operation : {"star", "sum"}, default="star"
        "sum" adds the maps, as a control.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967, section 4.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import StarNet, build_module
    >>> make = lambda: StarNet(8, (1, 1), n_outputs=10)
    >>> net = build_module(make, torch.Generator().manual_seed(0)).eval()
    >>> net(torch.ones(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        base_width,
        depths,
        mlp_ratio=4,
        n_outputs=1000,
        in_channels=3,
        stem_stride=2,
        drop_path=0.0,
        branch_activation="single",
        operation="star",
    ):
        super().__init__()
        drops = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        stages, channels = [], 32
        stem = nn.Sequential(_conv_norm(in_channels, channels, 3, stem_stride), nn.ReLU6())
        for stage, depth in enumerate(depths):
            width = base_width * 2**stage
            stages.append(_conv_norm(channels, width, 3, stride=2))
            stages += [
                StarConvBlock(width, mlp_ratio, branch_activation, operation, next(drops))
                for _ in range(depth)
            ]
            channels = width
        self.stages = nn.Sequential(stem, *stages, nn.BatchNorm2d(channels))
        self.head = _Linear(channels, n_outputs)

    def features(self, x):
        """Average the channels of the last stage over the image.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, height, width)
            Images.

        Returns
        -------
        torch.Tensor of shape (n, base_width * 2 ** (n_stages - 1))
            Features.
        """
        return self.stages(x).mean((2, 3))

    def forward(self, x):
        """Compute the outputs for images.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, height, width)
            Images.

        Returns
        -------
        torch.Tensor of shape (n, n_outputs)
            Outputs.
        """
        return self.head(self.features(x))


@validate_params(
    {
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def star_feature_dimension(n_features, depth=1):
    """Count the monomials that a stack of star layers without activations reaches.

    Parameters
    ----------
    n_features : int
        Width of the input.
    depth : int, default=1
        Number of layers.

    Returns
    -------
    int
        Number of monomials of degree ``2 ** depth`` at most.

    References
    ----------
    .. [1] X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024,
       arXiv:2403.19967, section 3.2.

    Examples
    --------
    >>> from skpapers.neural_network import star_feature_dimension
    >>> star_feature_dimension(6), star_feature_dimension(6, depth=3)
    (28, 3003)
    """
    return math.comb(n_features + 2**depth, 2**depth)


def polynomial_coefficients(layer):
    """Write the outputs of a star layer without activation as quadratic forms.

    Parameters
    ----------
    layer : StarLinear
        With ``branch_activation="none"`` and ``operation="star"``.

    Returns
    -------
    torch.Tensor of shape (out_features, in_features + 1, in_features + 1)
        Symmetric matrices of the forms in the inputs, followed by 1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import StarLinear, build_module, polynomial_coefficients
    >>> layer = build_module(lambda: StarLinear(3, 5), torch.Generator().manual_seed(0))
    >>> polynomial_coefficients(layer).shape
    torch.Size([5, 4, 4])
    """
    if layer.branch_activation != "none" or layer.operation != "star":
        raise ValueError("layer must have branch_activation='none' and operation='star'")
    maps = layer.first, layer.second
    first, second = (torch.cat([m.weight, m.bias[:, None]], 1).detach() for m in maps)
    forms = first[:, :, None] * second[:, None, :]
    return (forms + forms.mT) / 2
