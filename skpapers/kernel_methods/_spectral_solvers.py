"""Solvers of ridge regression with a spectrally transformed kernel."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh
from sklearn.utils._array_api import (
    _add_to_diagonal,
    _is_numpy_namespace,
    get_namespace,
    get_namespace_and_device,
)
from sklearn.utils.validation import check_array

from skpapers.utils import positive_definite_solver
from skpapers.utils._conjugate_gradients import metric_conjugate_gradients

__all__ = ["spectrally_transformed_kernel"]

_INDEFINITE = (
    "The transformed kernel is not positive definite to working precision: the kernel must be "
    "positive semi-definite; if it is, use a larger alpha or a smaller eta."
)


def spectrally_transformed_kernel(
    gram,
    cross=None,
    *,
    spectral_transform="inverse_laplacian",
    eta=0.99,
    coefs=None,
    degree=2,
    n_components=None,
):
    """Transform the spectrum of a kernel.

    Parameters
    ----------
    gram : array-like of shape (n_samples, n_samples)
        Positive semi-definite base kernel between the training rows.
    cross : array-like of shape (n_rows, n_samples), default=None
        Base kernel between any rows and the training rows; None for `gram`.
    spectral_transform : str or callable, default="inverse_laplacian"
        As in :class:`SpectrallyTransformedKernelRegressor`, with its parameters below.
    eta : float, default=0.99
        Strength of the propagation over the largest eigenvalue.
    coefs : array-like of shape (n_powers,), default=None
        Coefficients of the polynomial.
    degree : float, default=2
        Exponent of "power".
    n_components : int, default=None
        Number of leading eigenpairs to keep.

    Returns
    -------
    ndarray of shape (n_rows, n_samples)
        The transformed kernel, n_samples * s(gram / n_samples) if `cross` is None.

    Raises
    ------
    ValueError
        If `gram` is not positive semi-definite or a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import spectrally_transformed_kernel
    >>> spectrally_transformed_kernel(2 * np.eye(2), spectral_transform="power")
    array([[2., 0.],
           [0., 2.]])
    """
    gram = check_array(gram)
    cross = gram if cross is None else check_array(cross)
    xp, _ = get_namespace(gram)
    values, vectors = eigenpairs(gram, n_components)
    top = float(values[0]) if values.shape[0] else 1.0
    spectrum = {"transform": spectral_transform, "eta": eta / top}
    spectrum |= {"coefs": coefs, "degree": degree}
    series(**spectrum, relative_eta=eta)
    return (cross @ vectors) * spectral_gains(values, **spectrum) @ vectors.T


def series(transform, eta, coefs, degree, relative_eta):
    """Coefficients of a transform that is a polynomial, else None; check its parameters."""
    if isinstance(transform, str) and transform == "inverse_laplacian" and relative_eta >= 1:
        raise ValueError(f"eta must be below 1 for the inverse Laplacian, got {relative_eta}")
    if transform == "power" and degree == int(degree):
        return [0.0] * (int(degree) - 1) + [1.0]
    if transform != "polynomial":
        return None
    coefs = np.asarray([0, 1] if coefs is None else coefs, dtype=np.float64)
    if coefs.ndim != 1 or not (coefs >= 0).all() or not coefs.any():
        raise ValueError(f"coefs must be non-negative and not all zero, got {coefs}")
    return coefs.tolist()


def spectral_gains(values, transform, eta, coefs, degree):
    """The transform divided by the eigenvalue, s(x) / x, at positive eigenvalues."""
    xp, _ = get_namespace(values)
    if callable(transform):
        transformed = transform(values)
        increasing = transformed[:-1] >= transformed[1:] * (1 - 1e-12)
        if not (bool(xp.all(transformed >= 0)) and bool(xp.all(increasing))):
            raise ValueError("spectral_transform must be non-negative and must not decrease")
        return transformed / values
    if transform == "inverse_laplacian":
        return 1 / (1 - eta * values)
    if transform == "heat":
        return xp.exp(eta * (values - xp.max(values)))
    if transform == "power":
        return values ** (degree - 1)
    if transform == "kernel_pca":
        return 1 / values
    coefs = series(transform, eta, coefs, degree, 0)
    return sum(coef * values**power for power, coef in enumerate(coefs))


def _dense(gram):
    return gram.toarray() if hasattr(gram, "toarray") else gram


def eigenpairs(gram, n_components=None):
    """Eigenvalues of gram / n above rounding, largest first, with unit eigenvectors."""
    gram = gram.factor @ gram.factor.T if isinstance(gram, SquareOf) else gram
    xp, _ = get_namespace(gram)
    n_samples = gram.shape[0]
    few = n_components is not None and 10 * n_components < n_samples
    if few and _is_numpy_namespace(xp):
        start = np.random.RandomState(0).normal(size=n_samples)
        values, vectors = eigsh(gram, n_components, v0=start.astype(gram.dtype))
    else:
        gram = _dense(gram)
        values, vectors = xp.linalg.eigh(gram)
    values, vectors = xp.flip(values) / n_samples, xp.flip(vectors, axis=1)
    eps = float(xp.finfo(values.dtype).eps)
    if float(values[-1]) < -(eps**0.5) * float(values[0]):
        raise ValueError(_INDEFINITE)
    positive = values > n_samples * eps * values[0]
    n_kept = min(int(xp.count_nonzero(positive)), n_components or n_samples)
    return values[:n_kept], vectors[:, :n_kept]


class SquareOf:
    """The kernel W W' of a sparse W, as products with W: W W' itself has many more entries."""

    def __init__(self, factor):
        self.factor = factor
        self.shape = (factor.shape[0], factor.shape[0])

    def __matmul__(self, other):
        return self.factor @ (self.factor.T @ other)

    def scaled(self, scale):
        return SquareOf((sparse.diags_array(scale) @ self.factor).tocsr())

    def toarray(self):
        return (self.factor @ self.factor.T).toarray()


def mean_kernel(gram):
    """Mean of every row of the kernel, which must be positive."""
    if isinstance(gram, SquareOf):
        sums = gram @ np.ones(gram.shape[0], dtype=gram.factor.dtype)
    elif sparse.issparse(gram):
        sums = np.asarray(gram.sum(axis=1)).ravel()
    else:
        sums = get_namespace(gram)[0].sum(gram, axis=1)
    xp, _ = get_namespace(sums)
    if not bool(xp.all(sums > 0)):
        raise ValueError(
            "normalize=True needs a kernel with positive row means (non-negative values, say): "
            "set normalize=False"
        )
    return sums / gram.shape[0]


def normalized(gram, scale):
    """Multiply rows and columns by `scale`."""
    if isinstance(gram, SquareOf):
        return gram.scaled(scale)
    if sparse.issparse(gram):
        diagonal = sparse.diags_array(scale)
        return (diagonal @ gram @ diagonal).tocsr()
    gram = gram * scale[:, None]
    gram *= scale[None, :]
    return gram


def largest_eigenvalue(gram, start, *, max_iter=300, tol=1e-4):
    """Power iteration from near `start`; the residual is added, so as to stay above.

    `start` is the eigenvector itself for a normalised non-negative kernel. The noise reaches the
    eigenvectors that it is orthogonal to.
    """
    xp, _, device = get_namespace_and_device(start)
    noise = np.random.RandomState(0).normal(size=start.shape[0])
    noise = xp.asarray(noise, dtype=start.dtype, device=device)
    vector = start / xp.linalg.vector_norm(start) + 1e-6 * noise
    for _ in range(max_iter):
        vector = vector / xp.linalg.vector_norm(vector)
        product = gram @ vector
        value = float(vector @ product)
        residual = float(xp.linalg.vector_norm(product - value * vector))
        if residual <= tol * value or value <= 0:
            break
        vector = product
    return value + residual


def filtered(gram, block, eta, coefs):
    """Multiply `block` by s(A) / A, A = gram / n: one solve, or products (Horner's rule)."""
    n_samples = gram.shape[0]
    if coefs is None:
        system = _plus_diagonal(gram * (-eta / n_samples), 1.0)
        return positive_definite_solver(system, _INDEFINITE, overwrite=True)(block)
    result = coefs[-1] * block
    for coef in reversed(coefs[:-1]):
        result = gram @ result / n_samples + coef * block
    return result


def solve_direct(gram, targets, labelled, ridge, eta, coefs):
    """Solve with the labelled block of the transformed kernel; one factorisation of gram."""
    gram = _dense(gram)
    xp, _, device = get_namespace_and_device(gram)
    rows = xp.nonzero(labelled)[0]
    selector = xp.arange(gram.shape[0], device=device)[:, None] == rows[None, :]
    selector = xp.astype(selector, gram.dtype)
    features = filtered(gram, selector, eta, coefs)
    block = xp.take(gram, rows, axis=0) @ features
    dual = _solve_ridge(block, ridge, xp.take(targets, rows, axis=0))
    return dual, features @ dual


def solve_eigen(values, vectors, gains, targets, labelled, ridge):
    """Solve with the transformed kernel given by eigenpairs and s(x) / x."""
    xp, _ = get_namespace(vectors)
    rows = xp.nonzero(labelled)[0]
    known = xp.take(vectors, rows, axis=0)
    block = vectors.shape[0] * (known * (gains * values)) @ known.T
    dual = _solve_ridge(block, ridge, xp.take(targets, rows, axis=0))
    return dual, vectors @ (gains[:, None] * (known.T @ dual))


def _solve_ridge(block, ridge, targets):
    system = _plus_diagonal(block, ridge)
    return positive_definite_solver(system, _INDEFINITE, overwrite=True)(targets)


def _plus_diagonal(matrix, value):
    """Add `value` to the diagonal, in place."""
    xp, _ = get_namespace(matrix)
    _add_to_diagonal(matrix, value, xp)
    return matrix


def solve_cg(gram, targets, labelled, ridge, eta, coefs, *, tol, max_iter):
    """Solve by conjugate gradients.

    For a polynomial, on the dual coefficients. For the inverse Laplacian on the propagated ones,
    w: with M = I - eta A and P the projection on the labelled rows, (P gram + ridge M) w = P y,
    which is self-adjoint in the inner product of gram, and takes one product an iteration.
    """
    xp, _ = get_namespace(targets)
    n_samples, rows = gram.shape[0], xp.nonzero(labelled)[0]
    mask = xp.astype(labelled, targets.dtype)[:, None]
    options = {"tol": max(tol, 10 * float(xp.finfo(targets.dtype).eps)), "max_iter": max_iter}
    if coefs is None:

        def product(w, image):
            return mask * image + ridge * (w - eta / n_samples * image)

        coef, image, n_iter = metric_conjugate_gradients(
            product, lambda r: gram @ r, targets, **options
        )
        return xp.take((targets - image) / ridge, rows, axis=0), coef, n_iter

    def product(dual, _):
        return mask * (gram @ filtered(gram, dual, eta, coefs)) + ridge * dual

    dual, _, n_iter = metric_conjugate_gradients(product, lambda r: r, targets, **options)
    return xp.take(dual, rows, axis=0), filtered(gram, dual, eta, coefs), n_iter
