"""Random distortions of a batch that should leave its meaning alone."""

import math

import torch
import torch.nn.functional as F

__all__ = ["image_affine", "jitter", "mask_features", "resample_features"]


def resample_features(X, generator, p=0.3, reference=None):
    """Replace entries by values that other rows have in the same column.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, ...)
        Batch.
    generator : torch.Generator
        Source of the draws, on the CPU.
    p : float, default=0.3
        Probability of replacing an entry.
    reference : torch.Tensor of shape (n_reference, ...), default=None
        Rows to draw the values from; None for those of the batch. As batches are random, either
        draws from the empirical marginal distribution of each column.

    Returns
    -------
    torch.Tensor of shape (n_samples, ...)
        Distorted copy.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import resample_features
    >>> X = torch.arange(6.0).reshape(3, 2)
    >>> resample_features(X, torch.Generator().manual_seed(0), p=1.0)[:, 0].remainder(2)
    tensor([0., 0., 0.])
    """
    rows = (X if reference is None else reference).flatten(1)
    index = torch.randint(len(rows), X.flatten(1).shape, generator=generator).to(X.device)
    drawn = rows.gather(0, index).reshape(X.shape)
    return torch.where(_draw_mask(X, generator, p), drawn, X)


def mask_features(X, generator, p=0.3, value=0.0):
    """Replace entries by a constant.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, ...)
        Batch.
    generator : torch.Generator
        Source of the draws, on the CPU.
    p : float, default=0.3
        Probability of replacing an entry.
    value : float, default=0.0
        The constant; 0 is the mean of standardised columns.

    Returns
    -------
    torch.Tensor of shape (n_samples, ...)
        Distorted copy.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import mask_features
    >>> mask_features(torch.ones(1, 3), torch.Generator().manual_seed(0), p=1.0)
    tensor([[0., 0., 0.]])
    """
    return X.masked_fill(_draw_mask(X, generator, p), value)


def jitter(X, generator, scale=0.1):
    """Add Gaussian noise in proportion to the spread of each column.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, ...)
        Batch.
    generator : torch.Generator
        Source of the draws, on the CPU.
    scale : float, default=0.1
        Standard deviation of the noise, in units of that of the column in the batch.

    Returns
    -------
    torch.Tensor of shape (n_samples, ...)
        Distorted copy.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import jitter
    >>> jitter(torch.ones(4, 3), torch.Generator().manual_seed(0)).std()
    tensor(0.)
    """
    noise = torch.randn(X.shape, generator=generator, dtype=X.dtype).to(X.device)
    return X + scale * X.std(0, correction=0) * noise


def image_affine(X, generator, image_shape=None, rotation=0.3, scale=0.2, shift=0.25, noise=0.1):
    """Rotate, scale and shift images at random, and add noise.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, n_pixels) or (n_samples, n_channels, height, width)
        Batch.
    generator : torch.Generator
        Source of the draws, on the CPU.
    image_shape : tuple of int, default=None
        (height, width) or (n_channels, height, width), where rows of X are flattened images.
    rotation : float, default=0.3
        Largest angle, in radians, to either side.
    scale : float, default=0.2
        Largest relative change of size.
    shift : float, default=0.25
        Largest shift along each axis, in units of half the image.
    noise : float, default=0.1
        Standard deviation of the Gaussian noise, in the units of X.

    Returns
    -------
    torch.Tensor of the shape of X
        Distorted copy; what enters from outside is zero.

    Raises
    ------
    ValueError
        If rows are flattened and `image_shape` does not say how.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import image_affine
    >>> image_affine(torch.ones(2, 64), torch.Generator(), image_shape=(8, 8)).shape
    torch.Size([2, 64])
    """
    images = _as_images(X, image_shape)
    limits = torch.tensor([rotation, scale, shift, shift], dtype=X.dtype)
    draws = (2 * torch.rand(len(X), 4, generator=generator, dtype=X.dtype) - 1) * limits
    angle, size, *shifts = draws.to(X.device).T
    cos, sin = size.add(1) * angle.cos(), size.add(1) * angle.sin()
    maps = torch.stack([cos, -sin, shifts[0], sin, cos, shifts[1]], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(maps, images.shape, align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False).reshape(X.shape)
    grain = torch.randn(X.shape, generator=generator, dtype=X.dtype).to(X.device)
    return moved + noise * grain


def _as_images(X, image_shape):
    if X.ndim == 4:
        return X
    if image_shape is None or math.prod(image_shape) != X[0].numel():
        raise ValueError(
            f"image_shape must be (height, width) or (n_channels, height, width) with "
            f"{X[0].numel()} entries, got {image_shape!r}"
        )
    return X.reshape(len(X), -1, *tuple(image_shape)[-2:])


def _draw_mask(X, generator, p):
    return (torch.rand(X.shape, generator=generator) < p).to(X.device)
