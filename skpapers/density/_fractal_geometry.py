"""How an image or a row is cut into patches, and what that costs."""

from numbers import Integral

import numpy as np

__all__ = [
    "attention_pairs",
    "check_image_shape",
    "masked_levels",
    "one_per_level",
    "patch_sizes",
]

_PAIRS_PER_TOKEN = 200  # that cost what the linear layers cost on a token, at width 64
_SMALL_SIDE = {1: 8, 2: 3}  # up to which one generator does, by the number of dimensions


def attention_pairs(patches):
    """Count the pairs of query and key of one pass per head and layer, all levels together."""
    pairs, n_patches = 0, 1
    for (height, width), (sub_height, sub_width) in zip(patches, patches[1:]):
        n_sub = (height // sub_height) * (width // sub_width)
        pairs += n_patches * n_sub**2
        n_patches *= n_sub
    return pairs


def patch_sizes(sizes, shape, n_dims):
    """Make the list of (height, width) of the padded image, its patches, ..., a pixel.

    `sizes` are the sides, lengths where `n_dims` is 1, or "auto".
    """
    side = max(shape)
    if sizes == "auto":
        return min(_candidates(side, n_dims), key=_cost)
    sizes = list(sizes)
    divisible = all(b > 0 and a > b and a % b == 0 for a, b in zip(sizes, sizes[1:]))
    if len(sizes) < 2 or sizes[-1] != 1 or sizes[0] < side or not divisible:
        raise ValueError(
            f"sizes={tuple(sizes)} must fall from at least {side} to 1, "
            "each a multiple of the next"
        )
    return _squares(sizes, n_dims)


def _candidates(side, n_dims):
    if side <= _SMALL_SIDE[n_dims]:
        yield _squares([side, 1] if side > 1 else [2, 1], n_dims)
        return
    for patch in (2**k for k in range(1, side.bit_length() - 1)):
        yield _squares([-(-side // patch) * patch, patch, 1], n_dims)


def _cost(patches):
    counts = [height * width for height, width in patches]
    n_tokens = sum(counts[0] // count for count in counts[1:])
    return attention_pairs(patches) + _PAIRS_PER_TOKEN * n_tokens


def _squares(sizes, n_dims):
    return [(size if n_dims == 2 else 1, size) for size in sizes]


def check_image_shape(image_shape, n_features):
    shape = (1, n_features) if image_shape is None else tuple(image_shape)
    shape = (1, *shape) if len(shape) == 2 else shape
    if len(shape) != 3 or min(shape) < 1 or np.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape} is no (channels, height, width) of {n_features} features"
        )
    return shape


def one_per_level(name, values, n_levels):
    """One value a level and one for the pixel model, the last."""
    if isinstance(values, Integral):
        return (values,) * (n_levels + 1)
    if len(values) < 2 or min(values) < 1:
        raise ValueError(f"{name}={values} must hold two positive integers or more")
    *first, last = values
    return (*first[:n_levels], *first[-1:] * (n_levels - len(first)), last)


def masked_levels(generators, n_levels):
    names = [generators] * n_levels if isinstance(generators, str) else list(generators)
    if len(names) != n_levels or not set(names) <= {"ar", "mar"}:
        raise ValueError(
            f"generators={generators} must name 'ar' or 'mar' for each of the {n_levels} levels"
        )
    return tuple(name == "mar" for name in names)
