"""SVCCA of convolutional maps, frequency by frequency."""

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._array_api import get_namespace_and_device, move_to
from sklearn.utils._param_validation import validate_params

from ._canonical import canonical_pairs, leading_directions
from ._svcca import SHARE, mean_correlation


@validate_params(
    {
        "A": ["array-like"],
        "B": ["array-like"],
        "variance_threshold": SHARE,
        "return_correlations": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fourier_svcca(A, B, *, variance_threshold=1.0, return_correlations=False):
    """SVCCA similarity of two convolutional layers, one spatial frequency at a time.

    Where the data set is invariant to circular shifts, the covariance of a layer is
    block-diagonal over the frequencies, and this equals CCA of the flattened layers at a cost of
    ``height * width * channels ** 3`` instead of ``(height * width * channels) ** 3``.

    Parameters
    ----------
    A : array-like of shape (n_samples, height, width, n_channels)
        First layer.
    B : array-like of shape (n_samples, height_b, width_b, n_channels_b)
        Second layer; only the frequencies that both sizes have are compared.
    variance_threshold : float or int, default=1.0
        Share of the variance, or number of singular directions, to retain at each frequency.
    return_correlations : bool, default=False
        Whether to return the correlations of each frequency too.

    Returns
    -------
    similarity : float
        Mean over the frequencies of the mean canonical correlation.
    correlations : list of arrays
        Canonical correlations of each frequency at which both layers vary; only where
        `return_correlations`.

    Raises
    ------
    ValueError
        If there is no frequency at which both layers vary.

    References
    ----------
    .. [1] M. Raghu et al., "SVCCA", NeurIPS 2017, :arxiv:`1706.05806`, section 2.1 and appendix.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import fourier_svcca
    >>> A = np.random.default_rng(0).normal(size=(100, 4, 4, 3))
    >>> round(fourier_svcca(A, np.roll(A, 1, axis=2)), 6)
    1.0
    """
    A, B = _check_maps(A, "A"), _check_maps(B, "B")
    xp, _, device = get_namespace_and_device(A)
    B = xp.astype(move_to(B, xp=xp, device=device), A.dtype)
    check_consistent_length(A, B)
    size = [min(a, b) for a, b in zip(A.shape[1:3], B.shape[1:3])]
    (A, floor_a), (B, floor_b) = (common_spectrum(maps, size) for maps in (A, B))
    correlations = []
    for u, v in np.ndindex(*size):
        a = leading_directions(A[:, u, v, :], variance_threshold, floor=floor_a)
        b = leading_directions(B[:, u, v, :], variance_threshold, floor=floor_b)
        if a.s.shape[0] and b.s.shape[0]:
            correlations.append(canonical_pairs(a, b).correlations)
    if not correlations:
        raise ValueError("A and B have no frequency at which both vary over the samples")
    similarity = float(np.mean([mean_correlation(rho) for rho in correlations]))
    return (similarity, correlations) if return_correlations else similarity


def _check_maps(A, name):
    xp, _, _ = get_namespace_and_device(A)
    A = check_array(
        A,
        input_name=name,
        dtype=[xp.float64, xp.float32],
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=2,
    )
    if A.ndim != 4:
        raise ValueError(
            f"{name} must have shape (n_samples, height, width, n_channels), got {A.shape}"
        )
    return A


def common_spectrum(maps, size):
    """Centred Fourier coefficients at the lowest frequencies of maps, and their rounding level."""
    xp, _, device = get_namespace_and_device(maps)
    rounding = xp.finfo(maps.dtype).eps * maps.shape[0] * maps.shape[1] * maps.shape[2]
    floor = rounding * float(xp.max(xp.abs(maps)))
    maps = xp.fft.fftn(maps - xp.mean(maps, axis=0), axes=(1, 2))
    for axis, n_kept in zip((1, 2), size):
        frequencies = (np.arange(n_kept) + n_kept // 2) % n_kept - n_kept // 2
        index = xp.asarray(frequencies % maps.shape[axis], device=device)
        maps = xp.take(maps, index, axis=axis)
    return maps, floor
