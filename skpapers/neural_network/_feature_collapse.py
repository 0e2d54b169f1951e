"""A classifier of token sequences whose word vectors collapse to the roles of the words."""

from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import nn

from skpapers.utils import check_random_state, draw_seed

from ._boolean_kernel import bit_thresholds
from ._concept_sentences import unit_rows
from ._families import TorchClassifier

__all__ = ["TokenSequenceClassifier"]


class TokenSequenceClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchClassifier):
    """Word vectors, shared by all positions, and a linear layer on their concatenation.

    Words that play the same role in the task end up with the same vector, and then what is learnt
    of one word holds for all of its role: training collapses the features, and generalises. With
    frequencies that differ, as those of words do, this takes the normalisation of the vectors;
    without it frequent words get longer vectors.

    Parameters
    ----------
    n_tokens : int, default=None
        Tokens are 0 to ``n_tokens - 1``, and all have a vector; those never seen keep a random
        one. None gives vectors to the tokens seen first. Not used with ``input="values"``.
    embedding_dim : int, default=100
        Length of the vectors.
    layer_norm : bool, default=True
        Shift and scale every vector to mean 0 and variance 1.
    alpha_embedding : float, default=0.0
        Weight decay of the vectors; without `layer_norm`, collapse takes a positive one.
    alpha_head : float, default=1e-3
        Weight decay of the linear layer.
    init_scale : float, default=1e-3
        Factor of torch's default initial values.
    optimizer : str or callable, default="sgd"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=0.1
        Learning rate.
    batch_size : int, default=100
        Rows in a batch; None for all of them.
    max_epochs : int, default=500
        Passes over the data. Small initial values make for a long plateau at the start, hence
        there is no stop on a flat loss.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their accuracy has not improved for
        ten epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    input : {"auto", "tokens", "values"}, default="auto"
        What X holds: tokens, the same at all positions; or values, each column with tokens of
        its own for its quantile bins. "auto" takes integers that are not negative for tokens.
    handle_unknown : {"zero", "error"}, default="zero"
        What a token without a vector is: the zero vector, or an error.
    n_bins : int, default=16
        Number of bins of a column of values; two distinct values make two.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X for values, and float32 for tokens.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_vectors, embedding_dim)
        The vector of each token of ``vocabulary_``, before the normalisation.
    head_ : ndarray of shape (n_classes, n_features_in_, embedding_dim)
        Weights of the linear layer, for each class and position.
    vocabulary_ : ndarray of shape (n_vectors,)
        The tokens that have a vector. With values, the bins of all columns, numbered through.
    bin_edges_ : list of ndarray or None
        Upper edges of all bins but the last, for each column; None with tokens.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Length of the sequences.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    An epoch costs O(n_samples * n_features * embedding_dim * n_classes). The loss is the mean
    cross-entropy plus ``alpha_embedding / 2`` and ``alpha_head / 2`` times the sums of squares,
    as the decay of plain gradient descent has it; there is no bias.

    Collapse is a theorem for the minimiser on large samples, and is seen on small ones after
    training that goes on long after the training error is zero.

    References
    ----------
    .. [1] T. Laurent, J. H. von Brecht, X. Bresson, "Feature Collapse", ICLR 2024,
       arXiv:2305.16162, sections 2 and 3.

    Examples
    --------
    >>> from skpapers.neural_network import (
    ...     TokenSequenceClassifier, feature_collapse_score, make_concept_sentences
    ... )
    >>> X, y, roles, _ = make_concept_sentences(
    ...     20, n_words=30, length=6, n_classes=10, return_roles=True, random_state=0
    ... )
    >>> model = TokenSequenceClassifier(embedding_dim=16, max_epochs=100, random_state=0)
    >>> model.fit(X, y).score(X, y)
    1.0
    >>> bool(feature_collapse_score(model.embedding_, roles, directional=True) < 0.1)
    True
    """

    _parameter_constraints = {
        "n_tokens": [Interval(Integral, 1, None, closed="left"), None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "layer_norm": ["boolean"],
        "alpha_embedding": [Interval(Real, 0, None, closed="left")],
        "alpha_head": [Interval(Real, 0, None, closed="left")],
        "init_scale": [Interval(Real, 0, None, closed="neither")],
        "input": [StrOptions({"auto", "tokens", "values"})],
        "handle_unknown": [StrOptions({"zero", "error"})],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
    }
    _search_space = {
        "embedding_dim": [32, 100],
        "alpha_head": [1e-4, 1e-3, 1e-2],
        "layer_norm": [True, False],
    }

    def __init__(
        self,
        n_tokens=None,
        *,
        embedding_dim=100,
        layer_norm=True,
        alpha_embedding=0.0,
        alpha_head=1e-3,
        init_scale=1e-3,
        optimizer="sgd",
        lr=0.1,
        batch_size=100,
        max_epochs=500,
        early_stopping=False,
        validation_fraction=0.1,
        input="auto",
        handle_unknown="zero",
        n_bins=16,
        dtype="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_tokens = n_tokens
        self.embedding_dim = embedding_dim
        self.layer_norm = layer_norm
        self.alpha_embedding = alpha_embedding
        self.alpha_head = alpha_head
        self.init_scale = init_scale
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.input = input
        self.handle_unknown = handle_unknown
        self.n_bins = n_bins
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @staticmethod
    def _small_params():
        return {"max_epochs": 40, "embedding_dim": 32}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _encode(self, X, y, sample_weight, *, reset):
        self._row_weight = sample_weight  # the quantiles of the bins are weighted
        try:
            return super()._encode(X, y, sample_weight, reset=reset)
        finally:
            del self._row_weight

    def _parse(self, X, y="no_validation", *, reset):
        checked = validate_data(self, X, y, reset=reset, dtype="numeric")
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        if reset:
            self._learn_tokens(X)
        if self.bin_edges_ is None:
            return (self._look_up(whole_numbers(X)),), y
        bins = [np.searchsorted(edges, x) for edges, x in zip(self.bin_edges_, X.T)]
        return (np.stack(bins, axis=1) + self._first_bins,), y

    def _learn_tokens(self, X):
        """Decide what X holds, and which tokens get a vector."""
        if self.input == "auto":
            tokens = X.dtype.kind in "ui" and X.min() >= 0
        else:
            tokens = self.input == "tokens"
        if tokens:
            known = np.unique(whole_numbers(X))
            self.bin_edges_, self._single = None, True
            self.vocabulary_ = known if self.n_tokens is None else np.arange(self.n_tokens)
            return
        weight = _check_sample_weight(self._row_weight, X, dtype=np.float64)
        used = weight > 0
        self._single = X.dtype == np.float32
        self.bin_edges_ = [bit_thresholds(x, weight[used], self.n_bins - 1) for x in X[used].T]
        sizes = [len(edges) + 1 for edges in self.bin_edges_]
        self._first_bins = np.cumsum([0, *sizes[:-1]])
        self.vocabulary_ = np.arange(sum(sizes))

    def _look_up(self, tokens):
        """Rows of the embedding; tokens without one get the last row, which is zero."""
        n_known = len(self.vocabulary_)
        rows = np.searchsorted(self.vocabulary_, tokens)
        unknown = self.vocabulary_[np.minimum(rows, n_known - 1)] != tokens
        if self.handle_unknown == "error" and unknown.any():
            raise ValueError(
                f"X has tokens without a vector, such as {tokens[unknown][0]}: set n_tokens, or "
                "handle_unknown='zero'"
            )
        return np.where(unknown, n_known, rows)

    def _tensor_dtype(self, inputs):
        if self.dtype == "auto":
            return torch.float32 if self._single else torch.float64
        return getattr(torch, self.dtype)

    def _make_module(self):
        return ConceptNetwork(
            len(self.vocabulary_),
            self.n_features_in_,
            len(self.classes_),
            self.embedding_dim,
            self.layer_norm,
            self.init_scale,
            {"weight_decay": self.alpha_embedding},
            {"weight_decay": self.alpha_head},
        )

    def transform(self, X):
        """Concatenate the vectors of the tokens of each row, normalised with `layer_norm`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Sequences.

        Returns
        -------
        ndarray of shape (n_samples, n_features * embedding_dim)
            The vectors.
        """
        return self._predict(lambda module, inputs: module.features(*inputs), X)

    def token_roles(self, n_roles):
        """Group the tokens of the vocabulary by the directions of their vectors.

        Parameters
        ----------
        n_roles : int
            Number of groups.

        Returns
        -------
        ndarray of shape (n_vectors,)
            Group of each token of ``vocabulary_``.
        """
        check_is_fitted(self)
        seed = draw_seed(check_random_state(self.random_state))
        groups = KMeans(n_roles, n_init=10, random_state=seed)
        return groups.fit_predict(unit_rows(self.embedding_))

    @property
    def embedding_(self):
        """The vectors of the tokens."""
        return self.module_.embedding[:-1].detach().cpu().numpy()

    @property
    def head_(self):
        """Weights of the linear layer."""
        head = self.module_.head.detach().cpu().numpy()
        return head.reshape(len(head), self.n_features_in_, -1)

    @property
    def _n_features_out(self):
        return self.module_.head.shape[1]


class ConceptNetwork(nn.Module):
    """Embedding, normalisation without parameters, concatenation, linear layer."""

    def __init__(self, n_tokens, length, n_classes, dim, layer_norm, init_scale, embedding, head):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(n_tokens + 1, dim))
        self.head = nn.Parameter(torch.empty(n_classes, length * dim))
        self.layer_norm = layer_norm
        self.init_scale = init_scale
        self.optimizer_options = {"embedding": embedding, "head": head}

    def init_parameters(self, generator):
        """Set scaled initial values, and the vector of unknown tokens to zero."""
        bound = self.init_scale / self.head.shape[1] ** 0.5
        self.embedding.normal_(0, self.init_scale, generator=generator)
        self.embedding[-1] = 0
        self.head.uniform_(-bound, bound, generator=generator)

    def features(self, tokens):
        """Concatenated vectors of the tokens, shape (n, length * dim)."""
        vectors, unknown = self.embedding, len(self.embedding) - 1
        normalize_all = len(vectors) <= tokens.numel()
        if self.layer_norm and normalize_all:
            vectors = F.layer_norm(vectors, vectors.shape[1:])
        # No gradient reaches the vector of unknown tokens, which stays zero.
        vectors = F.embedding(tokens, vectors, padding_idx=unknown)
        if self.layer_norm and not normalize_all:
            vectors = F.layer_norm(vectors, vectors.shape[2:])
        return vectors.flatten(1)

    def forward(self, tokens):
        """Logits of the classes."""
        return F.linear(self.features(tokens), self.head)


def whole_numbers(X):
    """Tokens as integers; integral floats are fine."""
    if X.dtype.kind in "ui":
        return X
    tokens = X.astype(np.int64)
    if (tokens != X).any():
        raise ValueError("X holds tokens, which must be whole numbers; for others input='values'")
    return tokens
