"""Back to matrices with orthonormal columns: retractions on Stiefel and Grassmann manifolds."""

from sklearn.utils._array_api import get_namespace

__all__ = ["polar_factor", "qr_factor"]


def polar_factor(A):
    """Return the matrix with orthonormal columns that is nearest to `A`.

    Parameters
    ----------
    A : array of shape (..., n, k)
        Matrices with ``k <= n``, in any array API namespace.

    Returns
    -------
    array of shape (..., n, k)
        ``U @ Vt`` of the thin singular value decomposition: the nearest point of the Stiefel
        manifold in the Frobenius norm, the solution of the orthogonal Procrustes problem
        ``max trace(Q.T @ A)``, and the polar retraction of a step ``X + step``.

    Raises
    ------
    ValueError
        If there are more columns than rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import polar_factor
    >>> polar_factor(np.diag([2.0, 0.5]))
    array([[1., 0.],
           [0., 1.]])
    """
    _check_tall(A)
    U, _, Vt = get_namespace(A)[0].linalg.svd(A, full_matrices=False)
    return U @ Vt


def qr_factor(A):
    """Return an orthonormal basis of the columns of `A`, by a QR decomposition.

    Parameters
    ----------
    A : array of shape (..., n, k)
        Matrices with ``k <= n`` and independent columns, in any array API namespace.

    Returns
    -------
    array of shape (..., n, k)
        The factor Q of ``A = Q R`` with a positive diagonal of R, which makes it unique, and a
        smooth retraction of a step ``X + step`` on the Stiefel and the Grassmann manifold.

    Raises
    ------
    ValueError
        If there are more columns than rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import qr_factor
    >>> qr_factor(np.array([[-3.0], [4.0]]))
    array([[-0.6],
           [ 0.8]])
    """
    _check_tall(A)
    xp, _ = get_namespace(A)
    Q, R = xp.linalg.qr(A, mode="reduced")
    diagonal = xp.linalg.diagonal(R)
    signs = xp.where(diagonal < 0, -xp.ones_like(diagonal), xp.ones_like(diagonal))
    return Q * signs[..., None, :]


def _check_tall(A):
    if A.shape[-1] > A.shape[-2]:
        raise ValueError(
            f"A matrix of shape {tuple(A.shape[-2:])} has more columns than rows: its columns "
            "cannot be made orthonormal."
        )
