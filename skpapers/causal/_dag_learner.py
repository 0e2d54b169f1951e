"""What learners of a directed acyclic graph share once the graph is known."""

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, import_optional

__all__ = ["DAGLearnerMixin", "acyclic_subgraph", "least_squares_on_parents", "topological_order"]


class DAGLearnerMixin(OneToOneFeatureMixin, TransformerMixin):
    """Use a learnt structural equation model: noises, likelihood, sampling, interventions.

    The learner sets ``adjacency_`` (weight from row to column), ``causal_order_``, ``mean_`` and
    ``noise_scale_``; one whose equations are not linear overrides ``_mechanism``.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _mechanism(self, centred, columns):
        """What the parents say about these columns, for centred rows."""
        return centred @ self.adjacency_[:, columns]

    def _rows(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def transform(self, X):
        """Compute the noises: each column minus what its parents say about it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Exogenous noises, in the units of the columns.
        """
        X = self._rows(X)
        return self._noise(X).astype(X.dtype, copy=False)

    def _noise(self, X):
        centred = X - self.mean_
        return centred - self._mechanism(centred, slice(None))

    def inverse_transform(self, X):
        """Compute the rows that have given noises.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noises, as `transform` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Data.
        """
        X = self._rows(X)
        return self._propagate(X, {}).astype(X.dtype, copy=False)

    def _propagate(self, noise, interventions):
        """Run the equations from causes to effects, with some columns held at a value."""
        centred = np.array(noise, dtype=np.float64)
        for column in self.causal_order_:
            if column in interventions:
                centred[:, column] = interventions[column] - self.mean_[column]
            else:
                centred[:, column] += self._mechanism(centred, [column])[:, 0]
        return centred + self.mean_

    def score_samples(self, X):
        """Compute the log density of each row under Gaussian noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities, in nats; columns that were constant in fit are left out.
        """
        noise = self._noise(self._rows(X))
        varying = self.noise_scale_ > 0
        scale = self.noise_scale_[varying]
        squares = (noise[:, varying] / scale) ** 2
        return -0.5 * (squares + np.log(2 * np.pi * scale**2)).sum(axis=1)

    def score(self, X, y=None):
        """Compute the mean log density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean log density, in nats.
        """
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples=1, random_state=None):
        """Draw rows from the model, with Gaussian noise.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows.
        """
        return self.intervene({}, n_samples, random_state)

    def intervene(self, values, n_samples=1, random_state=None):
        """Draw rows from the model in which some columns are set by hand.

        Parameters
        ----------
        values : dict of int to float
            Value of each column that is set; its own causes no longer matter.
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows.

        Raises
        ------
        ValueError
            If a column does not exist.
        """
        check_is_fitted(self)
        unknown = set(values) - set(range(self.n_features_in_))
        if unknown:
            raise ValueError(f"values has columns {sorted(unknown)} of {self.n_features_in_}")
        shape = (n_samples, self.n_features_in_)
        noise = check_random_state(random_state).normal(size=shape) * self.noise_scale_
        return self._propagate(noise, values)

    def to_networkx(self):
        """Convert the graph, with edge attribute ``weight``.

        Returns
        -------
        networkx.DiGraph
            Nodes are column names, or numbers where X had none.
        """
        check_is_fitted(self)
        networkx = import_optional("networkx", "graph")
        names = getattr(self, "feature_names_in_", range(self.n_features_in_))
        graph = networkx.from_numpy_array(self.adjacency_, create_using=networkx.DiGraph)
        return networkx.relabel_nodes(graph, dict(enumerate(names)))


def topological_order(adjacency):
    """Order the nodes so that every edge goes forward, or return None where there is a cycle.

    Nodes that are free at the same time keep their numbers' order.
    """
    edges = adjacency != 0
    missing = edges.sum(axis=0)
    order, done = [], np.zeros(len(edges), dtype=bool)
    while len(order) < len(edges):
        free = np.flatnonzero((missing == 0) & ~done)
        if free.size == 0:
            return None
        order.extend(free.tolist())
        done[free] = True
        missing = missing - edges[free].sum(axis=0)
    return np.array(order, dtype=int)


def acyclic_subgraph(weights, threshold):
    """Drop edges of at most `threshold`, then the smallest ones until there is no cycle."""
    size = np.abs(weights)
    size[size <= threshold] = 0
    cuts = np.r_[0.0, np.unique(size[size > 0])]
    low, high = 0, len(cuts) - 1  # without its largest edges too, a graph has no cycle
    while low < high:
        middle = (low + high) // 2
        if topological_order(size > cuts[middle]) is None:
            low = middle + 1
        else:
            high = middle
    return np.where(size > cuts[low], weights, 0.0)


def least_squares_on_parents(covariance, adjacency):
    """Re-estimate the weights of the edges that are there, by ordinary least squares."""
    weights = np.zeros_like(adjacency)
    for child in np.flatnonzero(adjacency.any(axis=0)):
        parents = np.flatnonzero(adjacency[:, child])
        gram = covariance[np.ix_(parents, parents)]
        weights[parents, child] = np.linalg.lstsq(gram, covariance[parents, child])[0]
    return weights
