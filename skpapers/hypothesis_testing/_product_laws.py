"""The maps between joint laws and pairs of laws; a law is a tuple of atoms and weights."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import check_random_state

__all__ = ["joint_of", "marginals_of"]


@validate_params(
    {
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def joint_of(p, q, size=None, *, random_state=None):
    """Compute the product law of two laws, under which their variables are independent.

    Parameters
    ----------
    p : array-like of shape (n_atoms, n_features) or tuple
        First law: atoms of equal weight, or a tuple of atoms and weights.
    q : array-like of shape (m_atoms, m_features) or tuple
        Second law.
    size : int, default=None
        Number of pairs to draw; None gives all pairs, with the products of the weights.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the draws.

    Returns
    -------
    atoms : ndarray of shape (n_atoms * m_atoms, n_features + m_features)
        Pairs, or `size` of them.
    weights : ndarray of shape (n_atoms * m_atoms,)
        Their probabilities.

    References
    ----------
    Fritz and Perrone, arXiv:1804.03527 (Section 4: the product map).

    Examples
    --------
    >>> from skpapers.hypothesis_testing import joint_of
    >>> joint_of(([[0.0], [1.0]], [0.25, 0.75]), [[5.0]])
    (array([[0., 5.],
           [1., 5.]]), array([0.25, 0.75]))
    """
    (left, left_weights), (right, right_weights) = as_law(p), as_law(q)
    if size is None:
        rows = np.divmod(np.arange(len(left) * len(right)), len(right))
        weights = np.outer(left_weights, right_weights).ravel()
    else:
        rng = check_random_state(random_state)
        rows = [rng.choice(len(w), size, p=w) for w in (left_weights, right_weights)]
        weights = np.full(size, 1 / size)
    return np.hstack([left[rows[0]], right[rows[1]]]), weights


@validate_params(
    {"split": [Interval(Integral, 1, None, closed="left")]}, prefer_skip_nested_validation=True
)
def marginals_of(sample, split):
    """Compute the laws of both blocks of a joint law.

    Parameters
    ----------
    sample : array-like of shape (n_atoms, n_features) or tuple
        Joint law: atoms of equal weight, or a tuple of atoms and weights.
    split : int
        Number of columns of the first block.

    Returns
    -------
    first : tuple of (ndarray, ndarray)
        Distinct atoms of the first block, sorted, and their weights.
    second : tuple of (ndarray, ndarray)
        The same of the second block.

    Raises
    ------
    ValueError
        If a block would have no column.

    References
    ----------
    Fritz and Perrone, arXiv:1804.03527 (Section 4: the marginal map).

    Examples
    --------
    >>> from skpapers.hypothesis_testing import marginals_of
    >>> marginals_of([[0.0, 1.0], [0.0, 2.0]], 1)[0]
    (array([[0.]]), array([1.]))
    """
    atoms, weights = as_law(sample)
    if split >= atoms.shape[1]:
        raise ValueError(f"split must be less than the {atoms.shape[1]} columns, got {split}")
    return _merged(atoms[:, :split], weights), _merged(atoms[:, split:], weights)


def _merged(atoms, weights):
    atoms, index = np.unique(atoms, axis=0, return_inverse=True)
    return atoms, np.bincount(index.ravel(), weights=weights)


def as_law(law):
    """Atoms as rows, and weights that sum to 1."""
    atoms, weights = law if isinstance(law, tuple) else (law, None)
    atoms = check_array(atoms, dtype=np.float64, input_name="atoms")
    if weights is None:
        return atoms, np.full(len(atoms), 1 / len(atoms))
    weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="weights")
    if weights.shape != (len(atoms),) or weights.min() < 0 or weights.sum() == 0:
        raise ValueError("weights must be non-negative, not all zero, and one for each atom")
    return atoms, weights / weights.sum()
