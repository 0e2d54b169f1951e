"""Images."""

import numpy as np
from sklearn.utils import assert_all_finite

from ._base import as_float, forms_error, is_array_like, to_numpy

__all__ = ["as_images"]

IMAGE_FORMS = (
    "an array of shape (n_samples, n_channels, height, width) or (n_samples, height, width)",
    "a table of shape (n_samples, n_features), each row an image of shape image_shape, or a strip "
    "of height 1 without it",
)


def as_images(X, image_shape=None):
    """Parse samples that are images.

    Parameters
    ----------
    X : array-like
        An array of shape (n_samples, n_channels, height, width) or (n_samples, height, width), or
        a table whose rows are flattened images.
    image_shape : tuple of int, default=None
        Shape (n_channels, height, width) or (height, width) of the rows of a table; without it a
        row is a strip of height 1 and has no geometry.

    Returns
    -------
    ndarray of shape (n_samples, n_channels, height, width)
        The images, without a copy where possible.

    Raises
    ------
    ValueError
        If `X` has another form or `image_shape` does not fit its number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_images
    >>> as_images(np.zeros((10, 64)), image_shape=(1, 8, 8)).shape
    (10, 1, 8, 8)
    """
    if not is_array_like(X):
        raise forms_error(X, "images", IMAGE_FORMS)
    images = as_float(to_numpy(X))
    if images.ndim == 2:
        images = images.reshape(len(images), *_row_shape(images, image_shape))
    elif images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise forms_error(X, "images", IMAGE_FORMS)
    assert_all_finite(images, input_name="X")
    return images


def _row_shape(X, image_shape):
    if image_shape is None:
        return 1, 1, X.shape[1]
    shape = (1, *image_shape) if len(image_shape) == 2 else tuple(image_shape)
    if len(shape) != 3 or np.prod(shape) != X.shape[1]:
        raise forms_error(
            X,
            "images",
            IMAGE_FORMS,
            f"image_shape={image_shape} is not {X.shape[1]} values",
        )
    return shape
