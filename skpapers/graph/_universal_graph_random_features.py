"""Universal graph random features: sparse unbiased features of any kernel on graph nodes."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.random_projection import SparseRandomProjection
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from skpapers.structure import Graph, TrainingGraph, as_nodes, validate_structured
from skpapers.utils import check_random_state, draw_seed

from ._node_kernels import (
    GRAPH_CONSTRAINTS,
    KERNEL_CONSTRAINTS,
    as_coefficients,
    check_convergence,
    graph_kernel,
    modulation_function,
    trim,
)
from ._random_walks import attached_steps, combine_walks, mix, row_keys, step_matrix, walk_matrices

__all__ = ["GraphRandomFeatures", "learn_modulation"]

_WALK_CONSTRAINTS = {
    "n_walks": [Interval(Integral, 1, None, closed="left")],
    "halt_probability": [Interval(Real, 0, 1, closed="neither")],
}


class GraphRandomFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Sparse random features of a kernel on the nodes of a graph.

    The kernel is a power series of the normalised adjacency matrix,
    :math:`K = \\sum_k \\alpha_k U^k`. Random walks from each node deposit their loads, weighted by
    a modulation function of the number of steps, on the nodes they visit; the scalar product of
    two such rows is an unbiased estimate of the kernel between two different nodes. Cost grows
    linearly with the number of nodes, where the exact kernel costs its cube.

    Parameters
    ----------
    kernel : {"diffusion", "regularized_laplacian", "random_walk", "cosine"}, callable or \
            array-like, default="diffusion"
        The kernel: ``exp(U)``, ``(I - U)**-degree``, ``(I + U)**n_steps``,
        ``cos(U) + sin(U)``, or any series: a function ``k -> alpha_k`` or an array of
        coefficients, the first one positive.
    degree : float, default=2.0
        Exponent of the regularised Laplacian kernel.
    n_steps : int, default=2
        Exponent of the random-walk kernel.
    n_walks : int, default=100
        Walks from each node; the squared error falls as its inverse.
    halt_probability : float, default=0.1
        Probability that a walk ends at each step, in (0, 1).
    sigma : float, default=0.9
        Scale: ``U = sigma**2 * D**-0.5 @ W @ D**-0.5`` with the absolute degrees ``D``. For the
        diffusion kernel, ``sigma**2`` is the diffusion time.
    normalize : bool, default=True
        Whether to normalise by the degrees; ``U = sigma**2 * W`` otherwise.
    modulation : array-like or callable, default=None
        A modulation function of one's own, such as one from :func:`learn_modulation`: its values
        for 0, 1, ... steps, or a function of the number of steps. By default the discrete square
        root of the kernel's series, see :func:`modulation_function`.
    max_length : int, default=None
        Largest number of steps of a walk. By default, walks end where the rest of the series is
        negligible.
    n_components : int, default=None
        Number of features: a sparse random projection of the columns, which keeps scalar
        products in expectation. By default, one feature a training node.
    context : {"graph", "induced"}, default="graph"
        For a :class:`skpapers.structure.NodeView`, whether walks use the whole graph or only the
        nodes given to ``fit``.
    adjacency : "knn" or callable, default="knn"
        The graph where none is given: the symmetric nearest-neighbour graph of the rows, or a
        function from the rows to a symmetric matrix.
    n_neighbors : int, default=10
        Number of neighbours, in that graph and for new nodes without known neighbours.
    sparse_output : bool, default=False
        Whether features are a sparse array.
    independent : bool, default=False
        Whether to walk twice, so that :meth:`kernel_matrix` is unbiased on its diagonal too.
    random_state : int, RandomState instance or None, default=None
        Seed of the walks.
    n_jobs : int, default=None
        Number of threads that walk.

    Attributes
    ----------
    walk_matrices_ : list of sparse arrays of shape (n_nodes, n_nodes)
        Mean loads after 0, 1, ... steps; unbiased estimates of the powers of ``U``.
    second_walk_matrices_ : list of sparse arrays of shape (n_nodes, n_nodes) or None
        Those of the second ensemble, if `independent`.
    modulation_ : ndarray of shape (n_lengths,)
        Values of the modulation function.
    embedding_ : sparse array of shape (n_nodes, n_components_)
        Features of all training nodes.
    second_embedding_ : sparse array of shape (n_nodes, n_components_) or None
        Those of the second ensemble, if `independent`.
    graph_ : skpapers.structure.TrainingGraph
        The training nodes and their edges.
    projection_ : sparse array of shape (n_nodes, n_components_) or None
        The random projection, if `n_components` is less than the number of nodes.
    n_components_ : int
        Number of features.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` is a frame with names of strings.

    Notes
    -----
    Walks and memory take ``O(n_nodes * n_walks / halt_probability)``. With one ensemble the
    diagonal of the Gram matrix is biased upwards by the variance of the rows; all other entries
    are unbiased. At laptop scale the features win over the dense exponential from a few thousand
    nodes on.

    For series whose coefficients do not fall, such as that of the regularised Laplacian, features
    have finite variance if ``halt_probability < 1 - sigma**4``; otherwise a few huge loads
    dominate them.

    A row that equals a training row (or has the number of a training node) gets that node's
    features. A new node is linked to its known neighbours, or to the nearest training rows, and
    walks from there; its random numbers come from the row itself, so that its features depend
    neither on the other rows nor on their order.

    References
    ----------
    .. [1] I. Reid, K. Choromanski, E. Berger, A. Weller. General Graph Random Features.
           ICLR 2024. Theorem 2.1 (unbiasedness), Algorithm 1 (walks), Section 3.2 (learnt
           modulation). https://arxiv.org/abs/2310.04859

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from skpapers.graph import GraphRandomFeatures
    >>> from skpapers.structure import Graph, NodeView
    >>> ring = np.roll(np.eye(50), 1, axis=1) + np.roll(np.eye(50), -1, axis=1)
    >>> nodes = NodeView(Graph(None, ring))
    >>> y = np.cos(np.arange(50) * 2 * np.pi / 50)
    >>> features = GraphRandomFeatures("regularized_laplacian", sigma=0.95, random_state=0)
    >>> model = make_pipeline(features, Ridge(0.1)).fit(nodes[::2], y[::2])
    >>> bool(model.score(nodes[1::2], y[1::2]) > 0.95)
    True
    """

    _parameter_constraints: dict = {
        **KERNEL_CONSTRAINTS,
        **_WALK_CONSTRAINTS,
        **GRAPH_CONSTRAINTS,
        "modulation": ["array-like", callable, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "context": [StrOptions({"graph", "induced"})],
        "adjacency": [StrOptions({"knn"}), callable],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "sparse_output": ["boolean"],
        "independent": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    _search_space = {
        "kernel": ["diffusion", "regularized_laplacian"],
        "sigma": [0.5, 0.7, 0.9, 0.97],
        "n_neighbors": [5, 10, 20],
    }

    __metadata_request__fit = {"adjacency": True, "node_id": True}
    __metadata_request__transform = {"adjacency": True, "node_id": True}

    def __init__(
        self,
        kernel="diffusion",
        *,
        degree=2.0,
        n_steps=2,
        n_walks=100,
        halt_probability=0.1,
        sigma=0.9,
        normalize=True,
        modulation=None,
        max_length=None,
        n_components=None,
        context="graph",
        adjacency="knn",
        n_neighbors=10,
        sparse_output=False,
        independent=False,
        random_state=None,
        n_jobs=None,
    ):
        self.kernel = kernel
        self.degree = degree
        self.n_steps = n_steps
        self.n_walks = n_walks
        self.halt_probability = halt_probability
        self.sigma = sigma
        self.normalize = normalize
        self.modulation = modulation
        self.max_length = max_length
        self.n_components = n_components
        self.context = context
        self.adjacency = adjacency
        self.n_neighbors = n_neighbors
        self.sparse_output = sparse_output
        self.independent = independent
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X, y=None, adjacency=None, node_id=None):
        """Walk from every node.

        Parameters
        ----------
        X : NodeView or array-like of shape (n_samples, n_features)
            The nodes: a view of a graph, or rows of features.
        y : None
            Ignored.
        adjacency : array-like or sparse array of shape (n_samples, n_nodes), default=None
            Symmetric edge weights, next to rows of features.
        node_id : array-like of int of shape (n_samples,), default=None
            Columns of `adjacency` that are the samples.

        Returns
        -------
        GraphRandomFeatures
            The fitted transformer.

        Raises
        ------
        ValueError
            If the graph is not symmetric, or the kernel's series does not converge on it.
        """
        self.fit_transform(X, y, adjacency, node_id)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None, adjacency=None, node_id=None):
        """Walk from every node and return the features of the samples.

        Parameters
        ----------
        X : NodeView or array-like of shape (n_samples, n_features)
            The nodes: a view of a graph, or rows of features.
        y : None
            Ignored.
        adjacency : array-like or sparse array of shape (n_samples, n_nodes), default=None
            Symmetric edge weights, next to rows of features.
        node_id : array-like of int of shape (n_samples,), default=None
            Columns of `adjacency` that are the samples.

        Returns
        -------
        ndarray or sparse array of shape (n_samples, n_components_)
            The features.

        Raises
        ------
        ValueError
            If the graph is not symmetric, or the kernel's series does not converge on it.
        """
        nodes = validate_structured(self, X, parser=as_nodes, adjacency=adjacency, node_id=node_id)
        self.graph_ = TrainingGraph(nodes, self.context, self.adjacency, self.n_neighbors)
        steps = step_matrix(self.graph_.adjacency, self.sigma, self.normalize)
        check_convergence(steps, self.kernel)
        rng = check_random_state(self.random_state)
        self._seed = draw_seed(rng)
        second_seed = draw_seed(rng)
        self._project(rng)
        modulation = self._modulation(steps)
        length = len(modulation)
        self.walk_matrices_ = self._walk(steps, self._seed, length)
        self.second_walk_matrices_ = (
            self._walk(steps, second_seed, length) if self.independent else None
        )
        self._combine(modulation)
        return self._output(self.embedding_[self.graph_.rows], nodes.features.dtype)

    def transform(self, X, adjacency=None, node_id=None):
        """Return the features of nodes.

        Parameters
        ----------
        X : NodeView or array-like of shape (n_samples, n_features)
            The nodes, of the training graph or new.
        adjacency : array-like or sparse array of shape (n_samples, n_nodes), default=None
            Edge weights from the samples to all nodes.
        node_id : array-like of int of shape (n_samples,), default=None
            Numbers of the samples among the columns.

        Returns
        -------
        ndarray or sparse array of shape (n_samples, n_components_)
            The features.
        """
        check_is_fitted(self)
        nodes = validate_structured(
            self, X, parser=as_nodes, reset=False, adjacency=adjacency, node_id=node_id
        )
        place = self.graph_.find(nodes, by_features=True)
        new = np.flatnonzero(place < 0)
        if len(new) == 0:
            return self._output(self.embedding_[place], nodes.features.dtype)
        source = np.where(place < 0, self.graph_.n_nodes + np.cumsum(place < 0) - 1, place)
        both = sparse.vstack([self.embedding_, self._new_rows(nodes, new)], format="csr")
        return self._output(both[source], nodes.features.dtype)

    def kernel_matrix(self, exact=False):
        """Return the kernel between all training nodes.

        Parameters
        ----------
        exact : bool, default=False
            Whether to compute it by a dense eigendecomposition instead of from the features.

        Returns
        -------
        ndarray or sparse array of shape (n_nodes, n_nodes)
            The kernel matrix; sparse if `sparse_output` is set and `exact` is not.
        """
        check_is_fitted(self)
        if exact:
            return graph_kernel(
                self.graph_.adjacency,
                self.kernel,
                degree=self.degree,
                n_steps=self.n_steps,
                sigma=self.sigma,
                normalize=self.normalize,
            )
        first = self.embedding_
        second = first if self.second_embedding_ is None else self.second_embedding_
        gram = first @ second.T
        return self._output((gram + gram.T) / 2, self.graph_.features.dtype)

    def set_modulation(self, modulation):
        """Recombine the walks with another modulation function.

        Parameters
        ----------
        modulation : array-like of shape (n_lengths,) or callable
            Its values for 0, 1, ... steps, or a function of the number of steps.

        Returns
        -------
        GraphRandomFeatures
            This estimator, with new features and no new walks.

        Raises
        ------
        ValueError
            If it has more values than the walks have steps.
        """
        check_is_fitted(self)
        n_lengths = len(self.modulation_)
        values = as_coefficients(modulation, n_lengths)
        if np.any(values[n_lengths:] != 0):
            raise ValueError(
                f"modulation has {len(values)} values, but walks have at most {n_lengths - 1} "
                "steps: fit with a larger max_length"
            )
        self._combine(np.pad(values, (0, max(0, n_lengths - len(values))))[:n_lengths])
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    def _modulation(self, steps):
        """Return the modulation function up to the longest walk that matters."""
        walkers = steps.shape[0] * self.n_walks
        alive = np.log(1e-3 / walkers) / np.log1p(-self.halt_probability)
        length = 1 + (self.max_length or int(np.ceil(alive)))
        if self.modulation is None:
            values = modulation_function(
                self.kernel, length, degree=self.degree, n_steps=self.n_steps
            )
        else:
            values = as_coefficients(self.modulation, length)[:length]
        largest = 1.0 if self.normalize else abs(self.graph_.adjacency).sum(axis=1).max()
        return values if self.max_length else trim(values, self.sigma**2 * largest)

    def _project(self, rng):
        n_nodes = self.graph_.n_nodes
        self.projection_ = None
        self.n_components_ = min(self.n_components or n_nodes, n_nodes)
        if self.n_components_ < n_nodes:
            projection = SparseRandomProjection(self.n_components_, random_state=rng)
            shape_only = sparse.csr_array((1, n_nodes))
            self.projection_ = sparse.csr_array(projection.fit(shape_only).components_.T)

    def _walk(self, steps, seed, length):
        nodes = np.arange(self.graph_.n_nodes)
        keys = mix(nodes.astype(np.uint64) + mix(np.uint64([seed])))
        walks = walk_matrices(
            steps, nodes, keys, self.n_walks, self.halt_probability, length, self.n_jobs
        )
        return [sparse.eye_array(len(nodes), format="csr"), *walks]

    def _new_rows(self, nodes, new):
        """Walk from new nodes: as from a training node, but without a column of their own."""
        links = self.graph_.links(nodes)[new]
        steps = step_matrix(self.graph_.adjacency, self.sigma, self.normalize)
        first = attached_steps(links, self.graph_.adjacency, self.sigma, self.normalize)
        keys = row_keys(nodes.features[new])
        number = nodes.node_id if nodes.links is not None else nodes.ids
        if nodes.graph is not None and number is not None:
            keys = mix(keys + number[new].astype(np.uint64))
        keys = mix(keys + mix(np.uint64([self._seed])))
        starts = steps.shape[0] + np.arange(len(new))
        both = sparse.vstack([steps, first], format="csr")
        walks = walk_matrices(
            both,
            starts,
            keys,
            self.n_walks,
            self.halt_probability,
            len(self.modulation_),
            self.n_jobs,
        )
        return self._reduce(combine_walks(walks, self.modulation_[1:], first.shape))

    def _combine(self, modulation):
        self.modulation_ = modulation
        ensembles = (self.walk_matrices_, self.second_walk_matrices_)
        shape = self.graph_.adjacency.shape
        self.embedding_, self.second_embedding_ = (
            None if walks is None else self._reduce(combine_walks(walks, modulation, shape))
            for walks in ensembles
        )

    def _reduce(self, features):
        return features if self.projection_ is None else (features @ self.projection_).tocsr()

    def _output(self, features, dtype):
        features = features.astype(dtype, copy=False)
        return features if self.sparse_output else features.toarray()


@validate_params(
    {
        **KERNEL_CONSTRAINTS,
        **_WALK_CONSTRAINTS,
        **GRAPH_CONSTRAINTS,
        "adjacency": ["array-like", "sparse matrix", Graph],
        "length": [Interval(Integral, 1, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def learn_modulation(
    adjacency,
    kernel="diffusion",
    *,
    degree=2.0,
    n_steps=2,
    sigma=0.5,
    normalize=True,
    n_walks=16,
    halt_probability=0.5,
    length=10,
    n_draws=100,
    random_state=None,
):
    """Learn a modulation function that lowers the error of the Gram matrix.

    The exact modulation function makes features unbiased; one fitted to a small graph trades a
    little bias for less variance, and serves larger graphs as well.

    Parameters
    ----------
    adjacency : array-like, sparse array or Graph of shape (n_nodes, n_nodes)
        Symmetric edge weights of a small graph.
    kernel : {"diffusion", "regularized_laplacian", "random_walk", "cosine"}, callable or \
            array-like, default="diffusion"
        See :class:`GraphRandomFeatures`.
    degree : float, default=2.0
        Exponent of the regularised Laplacian kernel.
    n_steps : int, default=2
        Exponent of the random-walk kernel.
    sigma : float, default=0.5
        Scale of the adjacency matrix.
    normalize : bool, default=True
        Whether to normalise by the degrees.
    n_walks : int, default=16
        Walks from each node, as many as will be used later.
    halt_probability : float, default=0.5
        Probability that a walk ends at each step.
    length : int, default=10
        Number of values.
    n_draws : int, default=100
        Number of random ensembles of walks whose mean error is minimised.
    random_state : int, RandomState instance or None, default=None
        Seed of the walks.

    Returns
    -------
    ndarray of shape (length,)
        The values of the modulation function, for `modulation` of :class:`GraphRandomFeatures`.

    Notes
    -----
    Memory ``O(n_draws * length * n_nodes**2)``. It helps where variance dominates (few walks,
    small `sigma`); on kernels of long range what is learnt on one graph need not serve another.

    References
    ----------
    .. [1] I. Reid, K. Choromanski, E. Berger, A. Weller. General Graph Random Features.
           ICLR 2024, Section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.graph import learn_modulation
    >>> ring = np.roll(np.eye(8), 1, axis=1) + np.roll(np.eye(8), -1, axis=1)
    >>> learn_modulation(ring, n_draws=10, length=3, random_state=0).shape
    (3,)
    """
    target = graph_kernel(
        adjacency, kernel, degree=degree, n_steps=n_steps, sigma=sigma, normalize=normalize
    )
    adjacency = adjacency.adjacency if isinstance(adjacency, Graph) else adjacency
    steps = step_matrix(Graph(None, adjacency).adjacency, sigma, normalize)
    rng = check_random_state(random_state)
    walks = np.stack(
        [dense_walks(steps, n_walks, halt_probability, length, rng) for _ in range(n_draws)]
    )
    start = modulation_function(kernel, length, degree=degree, n_steps=n_steps)
    scale = np.sum(target**2) * n_draws
    result = minimize(gram_error, start, (walks, target, scale), method="L-BFGS-B", jac=True)
    return result.x


def dense_walks(steps, n_walks, halt_probability, length, rng):
    """Return the walk matrices of one draw as an array of shape (length, n_nodes, n_nodes)."""
    n_nodes = steps.shape[0]
    keys = mix(np.arange(n_nodes, dtype=np.uint64) + mix(np.uint64([draw_seed(rng)])))
    walks = walk_matrices(steps, np.arange(n_nodes), keys, n_walks, halt_probability, length)
    dense = np.zeros((length, n_nodes, n_nodes))
    dense[0] = np.eye(n_nodes)
    for t, matrix in enumerate(walks, start=1):
        dense[t] = matrix.toarray()
    return dense


def gram_error(modulation, walks, target, scale):
    """Return the squared error of the Gram matrices, and its gradient."""
    features = np.tensordot(walks, modulation, axes=(1, 0))
    residual = features @ features.transpose(0, 2, 1) - target
    gradient = 4 * np.einsum("dij,dtij->t", residual @ features, walks, optimize=True)
    return np.sum(residual**2) / scale, gradient / scale
