"""A small U-Net: from images to images of the same size."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SmallUNet"]


class SmallUNet(nn.Module):
    """Convolutional network that sees images at several resolutions.

    Each level has two 3 x 3 convolutions and halves the image for the next; on the way back, what
    comes from below is enlarged and joined to what the level saw. The output is zero to begin
    with.

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    width : int, default=32
        Number of channels of the first level; it doubles with each level, up to four times.
    n_levels : int, default=3
        Number of resolutions.
    n_outputs : int, default=None
        Number of channels of the output; None for `n_channels`.

    Notes
    -----
    Any height and width will do: halves are rounded up. A pass costs some
    100 n_levels width^2 multiplications a pixel.

    References
    ----------
    Ronneberger, Fischer and Brox, "U-Net: Convolutional networks for biomedical image
    segmentation", 2015, arXiv:1505.04597.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import build_module
    >>> from skpapers.processes import SmallUNet
    >>> network = build_module(lambda: SmallUNet(1, width=4), torch.Generator().manual_seed(0))
    >>> network(torch.zeros(2, 1, 9, 12)).shape
    torch.Size([2, 1, 9, 12])
    """

    def __init__(self, n_channels, width=32, n_levels=3, n_outputs=None):
        super().__init__()
        widths = [width * min(2**level, 4) for level in range(n_levels)]
        self.down = nn.ModuleList(
            _two_convolutions(n_in, n_out) for n_in, n_out in zip([n_channels, *widths], widths)
        )
        self.up = nn.ModuleList(
            _two_convolutions(below + n_out, n_out)
            for below, n_out in zip(widths[:0:-1], widths[-2::-1])
        )
        self.last = _ZeroConv2d(width, n_outputs or n_channels, 1)

    def forward(self, x):
        """Map images to images.

        Parameters
        ----------
        x : torch.Tensor of shape (n, n_channels, height, width)
            Images.

        Returns
        -------
        torch.Tensor of shape (n, n_outputs, height, width)
            Images.
        """
        seen = []
        for level in self.down:
            x = level(F.avg_pool2d(x, 2, ceil_mode=True) if seen else x)
            seen.append(x)
        for level, wide in zip(self.up, seen[-2::-1]):
            enlarged = F.interpolate(x, size=wide.shape[2:], mode="nearest")
            x = level(torch.cat([enlarged, wide], dim=1))
        return self.last(x)


def _two_convolutions(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        nn.SiLU(),
    )


class _ZeroConv2d(nn.Conv2d):
    """A convolution that is zero to begin with."""

    def init_parameters(self, generator):
        self.weight.zero_()
        self.bias.zero_()
