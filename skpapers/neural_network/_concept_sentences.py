"""Sentences of words with the same role, and how far vectors of such words have collapsed."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state

__all__ = ["feature_collapse_score", "make_concept_sentences"]


@validate_params(
    {
        "n_samples_per_class": [Interval(Integral, 1, None, closed="left")],
        "n_concepts": [Interval(Integral, 1, None, closed="left")],
        "n_words": [Interval(Integral, 1, None, closed="left")],
        "length": [Interval(Integral, 1, None, closed="left")],
        "n_classes": [Interval(Integral, 1, None, closed="left")],
        "frequency": [StrOptions({"uniform", "zipf"})],
        "return_roles": ["boolean"],
        "latents": ["array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_concept_sentences(
    n_samples_per_class=5,
    *,
    n_concepts=3,
    n_words=1200,
    length=15,
    n_classes=1000,
    frequency="uniform",
    return_roles=False,
    latents=None,
    random_state=None,
):
    """Generate sentences whose class is a sequence of concepts, each written in random words.

    Every word belongs to a concept. Every class has one concept a position, and a sentence of
    the class has there a word of that concept.

    Parameters
    ----------
    n_samples_per_class : int, default=5
        Sentences of each class.
    n_concepts : int, default=3
        Number of concepts.
    n_words : int, default=1200
        Number of words, a multiple of `n_concepts`.
    length : int, default=15
        Words of a sentence.
    n_classes : int, default=1000
        Number of classes.
    frequency : {"uniform", "zipf"}, default="uniform"
        How often the words of a concept are used: all the same, or the b-th ``1 / b`` as often as
        the first.
    return_roles : bool, default=False
        Also return the roles of the words and the latent concepts.
    latents : array-like of shape (n_classes, length), default=None
        The concepts of each class, for more sentences of the same classes; None to draw them.
    random_state : int, RandomState instance or None, default=None
        Seed of concepts and words.

    Returns
    -------
    X : ndarray of shape (n_classes * n_samples_per_class, length)
        Words, from 0 to ``n_words - 1``.
    y : ndarray of shape (n_classes * n_samples_per_class,)
        Classes, in order.
    roles : ndarray of shape (n_words,)
        The concept of each word; with `return_roles` only.
    latents : ndarray of shape (n_classes, length)
        The concepts of each class; with `return_roles` only.

    Raises
    ------
    ValueError
        If `n_words` is no multiple of `n_concepts`, or `latents` are not concepts.

    References
    ----------
    .. [1] T. Laurent, J. H. von Brecht, X. Bresson, "Feature Collapse", ICLR 2024,
       arXiv:2305.16162, section 2.

    Examples
    --------
    >>> from skpapers.neural_network import make_concept_sentences
    >>> X, y = make_concept_sentences(2, n_words=12, length=4, n_classes=3, random_state=0)
    >>> X.shape, y
    ((6, 4), array([0, 0, 1, 1, 2, 2]))
    """
    n_synonyms, rest = divmod(n_words, n_concepts)
    if rest or not n_synonyms:
        raise ValueError(f"n_words={n_words} must be a multiple of n_concepts={n_concepts}")
    rng = check_random_state(random_state)
    if latents is None:
        latents = rng.randint(n_concepts, size=(n_classes, length))
    latents = check_array(latents, dtype=np.int64, input_name="latents")
    if latents.min() < 0 or latents.max() >= n_concepts:
        raise ValueError(f"latents must be from 0 to n_concepts - 1 = {n_concepts - 1}")
    if latents.shape != (n_classes, length):
        raise ValueError(f"latents must have shape {(n_classes, length)}, got {latents.shape}")
    y = np.repeat(np.arange(n_classes), n_samples_per_class)
    shares = word_frequencies(n_synonyms, frequency)
    X = latents[y] * n_synonyms + rng.choice(n_synonyms, size=(len(y), length), p=shares)
    if return_roles:
        return X, y, np.repeat(np.arange(n_concepts), n_synonyms), latents
    return X, y


@validate_params(
    {
        "F": ["array-like"],
        "roles": ["array-like", Interval(Integral, 2, None, closed="left")],
        "directional": ["boolean"],
        "weights": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def feature_collapse_score(F, roles, *, directional=False, weights=None):
    """Measure how far vectors of the same role have collapsed to one.

    It is the mean squared distance of the vectors from the mean of their role, divided by the
    mean squared distance of the means of the roles from their centre.

    Parameters
    ----------
    F : array-like of shape (n_words, n_dims)
        Vectors, such as a learnt embedding.
    roles : array-like of shape (n_words,) or int
        Role of each vector. Where roles are not known, their number r: then the score is the r-th
        singular value of the centred vectors, divided by the one before, since the means of r
        roles span r - 1 dimensions.
    directional : bool, default=False
        Scale the vectors to unit length first.
    weights : array-like of shape (n_words,), default=None
        Weights of the vectors, such as frequencies; a weight of zero leaves a vector out.

    Returns
    -------
    float
        Zero if the vectors of each role are the same; infinite if the means of all roles are.

    Raises
    ------
    ValueError
        If there are fewer than two roles, or weights are negative.

    References
    ----------
    .. [1] T. Laurent, J. H. von Brecht, X. Bresson, "Feature Collapse", ICLR 2024,
       arXiv:2305.16162, section 2.

    Examples
    --------
    >>> from skpapers.neural_network import feature_collapse_score
    >>> feature_collapse_score([[1.0, 0], [3.0, 0], [-2.0, 0], [-2.0, 0]], [0, 0, 1, 1])
    0.125
    """
    F = check_array(F, dtype=np.float64, input_name="F")
    weights = np.ones(len(F)) if weights is None else column_or_1d(weights).astype(np.float64)
    check_consistent_length(F, weights)
    if weights.min() < 0 or not weights.any():
        raise ValueError("weights must not be negative, nor all zero")
    used = weights > 0
    F, weights = F[used], weights[used]
    F = unit_rows(F) if directional else F
    if isinstance(roles, Integral):
        return _spectral_ratio(F, weights, roles)
    roles = column_or_1d(roles)
    check_consistent_length(used, roles)
    names, index = np.unique(roles[used], return_inverse=True)
    if len(names) < 2:
        raise ValueError("roles must name at least two roles among vectors with weight")
    members = (np.arange(len(names))[:, None] == index) * weights
    means = members @ F / members.sum(axis=1, keepdims=True)
    within = np.average(np.square(F - means[index]).sum(axis=1), weights=weights)
    between = np.square(means - means.mean(axis=0)).sum(axis=1).mean()
    return float(within / between) if between > 0 else np.inf


def _spectral_ratio(F, weights, n_roles):
    centred = np.sqrt(weights)[:, None] * (F - np.average(F, axis=0, weights=weights))
    singular = np.linalg.svd(centred, compute_uv=False)
    if len(singular) < n_roles:
        raise ValueError(f"roles={n_roles} needs as many vectors and dimensions, got {F.shape}")
    last, following = singular[n_roles - 2 : n_roles]
    return float(following / last) if last > 0 else np.inf


def word_frequencies(n_synonyms, frequency):
    """How often the words of a concept are used."""
    counts = np.ones(n_synonyms) if frequency == "uniform" else 1 / np.arange(1.0, n_synonyms + 1)
    return counts / counts.sum()


def unit_rows(F):
    """Scale rows to unit length; zero rows stay."""
    norms = np.linalg.norm(F, axis=1, keepdims=True)
    return F / np.where(norms > 0, norms, 1)
