"""Random linear structural equation models, and how well a graph was recovered."""

import numpy as np
from sklearn.utils._param_validation import StrOptions, validate_params

from skpapers.utils import check_random_state

__all__ = ["graph_metrics", "make_linear_sem"]

_NOISES = {  # of mean zero and variance one
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exp": lambda rng, shape: rng.exponential(size=shape) - 1,
    "laplace": lambda rng, shape: rng.laplace(scale=np.sqrt(0.5), size=shape),
    "gumbel": lambda rng, shape: (rng.gumbel(size=shape) - np.euler_gamma) * np.sqrt(6) / np.pi,
}


@validate_params(
    {
        "graph": [StrOptions({"er", "sf"})],
        "noise": [StrOptions(set(_NOISES))],
        "equal_variance": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_linear_sem(
    n_samples=1000,
    n_nodes=10,
    n_edges=20,
    *,
    graph="er",
    noise="normal",
    equal_variance=True,
    random_state=None,
):
    """Draw a random graph with weights, and rows from its linear structural equation model.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_nodes : int, default=10
        Number of columns.
    n_edges : int, default=20
        Expected number of edges.
    graph : {"er", "sf"}, default="er"
        "er" draws each pair of nodes with equal probability (Erdos-Renyi), "sf" attaches each
        node to earlier ones in proportion to their degree (scale-free).
    noise : {"normal", "exp", "laplace", "gumbel"}, default="normal"
        Distribution of the noises, centred.
    equal_variance : bool, default=True
        Noises of variance 1; else of variances drawn from U(0.5, 10).
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_samples, n_nodes)
        Rows.
    weights : ndarray of shape (n_nodes, n_nodes)
        Weight of the edge from row to column, in +-[0.5, 2].
    noise_scale : ndarray of shape (n_nodes,)
        Standard deviations of the noises.

    Examples
    --------
    >>> from skpapers.causal import make_linear_sem
    >>> X, weights, noise_scale = make_linear_sem(100, 5, 6, random_state=0)
    >>> X.shape, weights.shape
    ((100, 5), (5, 5))
    """
    rng = check_random_state(random_state)
    draw = _erdos_renyi if graph == "er" else _scale_free
    order = rng.permutation(n_nodes)
    edges = draw(n_nodes, n_edges, rng)[np.ix_(order, order)]
    signs = rng.choice([-1.0, 1.0], size=edges.shape)
    weights = edges * signs * rng.uniform(0.5, 2.0, size=edges.shape)
    variance = np.ones(n_nodes) if equal_variance else rng.uniform(0.5, 10.0, n_nodes)
    scale = np.sqrt(variance)
    noises = _NOISES[noise](rng, (n_samples, n_nodes)) * scale
    return np.linalg.solve((np.eye(n_nodes) - weights).T, noises.T).T, weights, scale


def _erdos_renyi(n_nodes, n_edges, rng):
    """Edges from lower to higher numbers."""
    pairs = n_nodes * (n_nodes - 1) / 2
    probability = min(1.0, n_edges / pairs) if pairs else 0.0
    return np.triu(rng.uniform(size=(n_nodes, n_nodes)) < probability, k=1)


def _scale_free(n_nodes, n_edges, rng):
    """Each node points to some later ones, drawn in proportion to degree plus one."""
    edges = np.zeros((n_nodes, n_nodes), dtype=bool)
    each = max(1, round(n_edges / max(n_nodes, 1)))
    for node in range(1, n_nodes):
        degree = 1.0 + edges[:node].sum(axis=1) + edges[:, :node].sum(axis=0)
        count = min(each, node)
        chosen = rng.choice(node, size=count, replace=False, p=degree / degree.sum())
        edges[chosen, node] = True
    return edges


def graph_metrics(weights_true, weights_estimated):
    """Compare an estimated graph with the true one.

    Parameters
    ----------
    weights_true : array-like of shape (n_nodes, n_nodes)
        True weights; non-zero from row to column is an edge.
    weights_estimated : array-like of shape (n_nodes, n_nodes)
        Estimated weights.

    Returns
    -------
    dict of str to float
        ``shd``, the structural Hamming distance (pairs of nodes whose connection differs: a
        missing, an extra or a reversed edge counts one); ``tpr``, true edges found; ``fdr``,
        found edges that are wrong, reversed ones included; ``fpr``, wrong edges among the pairs
        without an edge.

    Raises
    ------
    ValueError
        If the shapes differ or are not square.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.causal import graph_metrics
    >>> truth = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> graph_metrics(truth, truth.T)["shd"]
    2
    """
    true, found = np.asarray(weights_true) != 0, np.asarray(weights_estimated) != 0
    if true.shape != found.shape or true.ndim != 2 or true.shape[0] != true.shape[1]:
        raise ValueError(
            f"weights must be two square matrices of one shape, got {true.shape}, {found.shape}"
        )
    differs = true != found
    wrong = np.sum(found & ~true)
    absent = true.shape[0] * (true.shape[0] - 1) / 2 - true.sum()
    return {
        "shd": int(np.triu(differs | differs.T, k=1).sum()),
        "tpr": float(np.sum(found & true) / max(true.sum(), 1)),
        "fdr": float(wrong / max(found.sum(), 1)),
        "fpr": float(wrong / max(absent, 1)),
    }
