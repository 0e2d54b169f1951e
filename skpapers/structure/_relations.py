"""Relations between named things: knowledge-graph triples and ratings."""

import numpy as np

from ._base import RowContainer, to_numpy

__all__ = ["Ratings", "Triples"]


class _Coded(RowContainer):
    """Rows of labels, each column with a vocabulary."""

    def _check(self, X, n_columns):
        X = to_numpy(X)
        if X.ndim != 2 or X.shape[1] != n_columns:
            name = type(self).__name__
            raise ValueError(f"{name} needs an array of shape (n, {n_columns}), got {X.shape}")
        return X

    @property
    def shape(self):
        """Shape of the rows of labels."""
        return self.values.shape

    @property
    def ndim(self):
        """Number of dimensions: 2."""
        return 2

    @property
    def dtype(self):
        """Data type of the labels."""
        return self.values.dtype

    @property
    def codes(self):
        """Position of each label in its vocabulary, -1 if it is not there."""
        columns = zip(self.values.T, self._vocabularies())
        return np.column_stack([_encode(labels, vocabulary) for labels, vocabulary in columns])

    @property
    def features(self):
        """The codes, as floats."""
        return self.codes.astype(np.float64)

    @property
    def n_features(self):
        """Number of columns."""
        return self.values.shape[1]

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or self.dtype)

    def _row(self, i):
        return self.values[i]


class Triples(_Coded):
    """Statements (head, relation, tail) about entities.

    Parameters
    ----------
    X : array-like of shape (n_samples, 3)
        Heads, relations and tails, integers or strings.
    entities : array-like of shape (n_entities,), default=None
        Vocabulary of heads and tails, sorted; by default what occurs.
    relations : array-like of shape (n_relations,), default=None
        Vocabulary of relations, sorted; by default what occurs.

    Attributes
    ----------
    values : ndarray of shape (n_samples, 3)
        As given.
    entities : ndarray of shape (n_entities,)
        Vocabulary of heads and tails; kept when rows are selected.
    relations : ndarray of shape (n_relations,)
        Vocabulary of relations.

    Examples
    --------
    >>> from skpapers.structure import Triples
    >>> facts = Triples([["ann", "knows", "bob"], ["bob", "likes", "ann"]])
    >>> facts
    Triples(2 triples of 2 entities and 2 relations)
    >>> facts[1:].codes
    array([[1, 1, 0]])
    """

    def __init__(self, X, entities=None, relations=None):
        values = self._check(X, 3)
        entities = np.unique(values[:, [0, 2]]) if entities is None else np.unique(entities)
        relations = np.unique(values[:, 1]) if relations is None else np.unique(relations)
        self._set(values=values, entities=entities, relations=relations)

    def take(self, rows):
        """Select triples.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            The rows to keep.

        Returns
        -------
        Triples
            The selected triples with the same vocabularies.
        """
        return type(self)(self.values[self._positions(rows)], self.entities, self.relations)

    def __repr__(self):
        return (
            f"Triples({len(self)} triples of {len(self.entities)} entities and "
            f"{len(self.relations)} relations)"
        )

    def _vocabularies(self):
        return self.entities, self.relations, self.entities

    def _parts(self):
        return self.values, self.entities, self.relations


class Ratings(_Coded):
    """Pairs (user, item); the ratings are the targets.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Users and items, integers or strings.
    users : array-like of shape (n_users,), default=None
        Vocabulary of users, sorted; by default what occurs.
    items : array-like of shape (n_items,), default=None
        Vocabulary of items, sorted; by default what occurs.

    Attributes
    ----------
    values : ndarray of shape (n_samples, 2)
        As given.
    users : ndarray of shape (n_users,)
        Vocabulary of users; kept when rows are selected.
    items : ndarray of shape (n_items,)
        Vocabulary of items.

    Examples
    --------
    >>> from skpapers.structure import Ratings
    >>> Ratings([[7, 1], [7, 2], [9, 1]]).codes
    array([[0, 0],
           [0, 1],
           [1, 0]])
    """

    def __init__(self, X, users=None, items=None):
        values = self._check(X, 2)
        users = np.unique(values[:, 0]) if users is None else np.unique(users)
        items = np.unique(values[:, 1]) if items is None else np.unique(items)
        self._set(values=values, users=users, items=items)

    @classmethod
    def from_matrix(cls, matrix):
        """List the known entries of a matrix of users by items.

        Parameters
        ----------
        matrix : array-like of shape (n_users, n_items)
            Ratings, NaN where unknown.

        Returns
        -------
        X : Ratings
            Row and column of each known entry, with all rows and columns as vocabulary.
        y : ndarray of shape (n_samples,)
            The ratings.
        """
        matrix = to_numpy(matrix)
        known = ~np.isnan(matrix)
        pairs = np.argwhere(known)
        return cls(pairs, np.arange(matrix.shape[0]), np.arange(matrix.shape[1])), matrix[known]

    def take(self, rows):
        """Select pairs.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            The rows to keep.

        Returns
        -------
        Ratings
            The selected pairs with the same vocabularies.
        """
        return type(self)(self.values[self._positions(rows)], self.users, self.items)

    def __repr__(self):
        return f"Ratings({len(self)} pairs of {len(self.users)} users and {len(self.items)} items)"

    def _vocabularies(self):
        return self.users, self.items

    def _parts(self):
        return self.values, self.users, self.items


def _encode(labels, vocabulary):
    if len(vocabulary) == 0:
        return np.full(len(labels), -1)
    place = np.minimum(np.searchsorted(vocabulary, labels), len(vocabulary) - 1)
    return np.where(vocabulary[place] == labels, place, -1)
