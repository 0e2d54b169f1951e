"""Deep Sets for set expansion: which items belong to a given few (Zaheer et al., 2017)."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skpapers.neural_network import TorchEstimator, make_mlp

__all__ = ["SetExpansionRanker"]

_PAIRS = 2**18  # (set, item) pairs scored at a time


class SetExpansionRanker(TorchEstimator):
    """Rank the items that would extend a set, such as the words of a topic or a basket.

    An item is scored by ``rho([sum of phi over the set, phi(item)])``. The training takes a member
    out of each set and asks that it beat a random item from outside by a margin of one.

    Parameters
    ----------
    embedding_dim : int, default=50
        Width of the table of item embeddings; not used when there are `item_features`.
    hidden : int, default=64
        Width of the hidden layers of phi and rho.
    latent : int, default=64
        Width of the embedding of a set, the output of phi.
    margin : float, default=1.0
        By how much a member should beat an item from outside.
    max_epochs : int, default=50
        Passes over the data; each draws one pair a set.
    batch_size : int, default=64
        Sets in a batch; None for all of them.
    lr : float, default=1e-3
        Learning rate of Adam.
    clip_norm : float, default=5.0
        Upper bound of the norm of the gradient; None for no bound.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and the pairs.

    Attributes
    ----------
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
    n_features_in_ : int
        Number of items in the vocabulary.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the items, where X is a table with string column names.

    Notes
    -----
    `X` is a table of shape (n_sets, n_items), dense or sparse, in which an entry above zero marks
    a member; or a list of arrays of integers, the items of each set. An epoch costs
    O(n_members * hidden ** 2), a ranking O(n_sets * n_items * hidden).

    The paper extends sets of words by words (topics of a topic model); that data is not tested
    here.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, sections 3.2 and 4.1.3.

    Examples
    --------
    Sets from two halves of a vocabulary of ten items:

    >>> import numpy as np
    >>> from skpapers.symmetry import SetExpansionRanker
    >>> rng = np.random.RandomState(0)
    >>> sets = [rng.choice(5, 3, replace=False) + 5 * (i % 2) for i in range(100)]
    >>> model = SetExpansionRanker(lr=0.01, random_state=0).fit(sets)
    >>> np.sort(model.recommend([[0, 1], [6, 8]], k=3))
    array([[2, 3, 4],
           [5, 7, 9]])
    """

    _training_defaults = {"batch_size": 64, "clip_norm": 5.0}
    _parameter_constraints = {
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "latent": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
    }
    _search_space = {"latent": [32, 64], "hidden": [32, 64], "lr": [1e-3, 3e-3, 1e-2]}

    @staticmethod
    def _small_params():
        return {"hidden": 16, "latent": 8, "max_epochs": 10}

    def __init__(
        self,
        embedding_dim=50,
        hidden=64,
        latent=64,
        margin=1.0,
        max_epochs=50,
        batch_size=64,
        lr=1e-3,
        clip_norm=5.0,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.embedding_dim = embedding_dim
        self.hidden = hidden
        self.latent = latent
        self.margin = margin
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.clip_norm = clip_norm
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, item_features=None):
        """Learn which items go together.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_sets, n_items), or list of arrays of int
            Sets.
        y : None
            Ignored.
        item_features : array-like of shape (n_items, n_item_features), default=None
            Features of the items, standardised internally. By default each item has an embedding
            of its own, and an item no set contains has a random one.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._take_features(item_features)
        return self._fit(X)

    def predict_scores(self, X):
        """Score every item as an extension of each set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_sets, n_items), or list of arrays of int
            Sets.

        Returns
        -------
        ndarray of shape (n_sets, n_items)
            Scores, the higher the better; minus infinity for the members of the set.
        """
        return self._predict(_scores_outside, X)

    def recommend(self, X, k=10):
        """List the best extensions of each set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_sets, n_items), or list of arrays of int
            Sets.
        k : int, default=10
            Number of items to list.

        Returns
        -------
        ndarray of int of shape (n_sets, k)
            Items, the best first; -1 where a set leaves fewer than `k` items.
        """
        scores = self.predict_scores(X)
        if not isinstance(k, Integral) or not 1 <= k <= scores.shape[1]:
            raise ValueError(f"k must be an integer from 1 to {scores.shape[1]}, got {k!r}")
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best)

    def score(self, X, y=None):
        """Compute the mean reciprocal rank of a member that is left out of its set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_sets, n_items), or list of arrays of int
            Sets.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean over all members of all sets of one over the rank of the member among the items
            that are not in the rest of its set; 1 is perfect.
        """
        check_is_fitted(self)
        (ids,), _ = self._parse(X, reset=False)
        held_out, rest = leave_one_out(torch.from_numpy(ids), self.n_features_in_)
        if len(rest) == 0:
            raise ValueError("score needs a set that has a member, all sets of X are empty")
        ranks = self._ranks(held_out, rest)
        return float((1 / ranks.double()).mean())

    def _ranks(self, held_out, rest):
        module, device = self.module_, self._device()
        rows = max(1, _PAIRS // self.n_features_in_)
        ranks = []
        with torch.inference_mode():
            for item, ids in zip(held_out.split(rows), rest.split(rows)):
                scores = _scores_outside(module, (ids.to(device),))
                own = scores.gather(1, item.to(device)[:, None])
                ranks.append((scores > own).sum(dim=1).cpu() + 1)
        return torch.cat(ranks)

    def _take_features(self, item_features):
        if item_features is not None:
            item_features = check_array(
                item_features, dtype=[np.float64, np.float32], input_name="item_features"
            )
            spread = item_features.std(axis=0)
            spread = np.where(spread > 0, spread, 1)
            item_features = (item_features - item_features.mean(axis=0)) / spread
        self._item_features = item_features

    def _parse(self, X, y="no_validation", *, reset):
        n_items = None if reset else self.n_features_in_
        if reset and self._item_features is not None:
            n_items = len(self._item_features)
        if _is_id_lists(X):
            members = _members_of_lists(X, n_items)
            width = np.broadcast_to(np.float32(0), members.shape)
            validate_data(self, width, reset=reset, skip_check_array=True)
            dtype = np.float32
        else:
            X = validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32], accept_sparse="csr"
            )
            members, dtype = sparse.csr_array(X > 0), X.dtype
        if n_items is not None and members.shape[1] != n_items:
            raise ValueError(
                f"X has {members.shape[1]} items, item_features has {n_items} rows: expected one "
                "row an item"
            )
        if reset:
            self._float = torch.float32 if dtype == np.float32 else torch.float64
        return (padded_ids(members),), None

    def _tensor_dtype(self, inputs):
        return self._float

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        sizes = (data.inputs[0] < self.n_features_in_).sum(dim=1)
        if not bool(((sizes >= 2) & (sizes < self.n_features_in_)).any()):
            warnings.warn(
                "no set has two members or more and leaves an item outside: there is nothing to "
                "learn from, the scores are those of the initial network",
                UserWarning,
                stacklevel=4,
            )
        return data

    def _make_module(self):
        features = self._item_features
        width = None if features is None else features.shape[1]
        return ExpansionNetwork(
            self.n_features_in_, width, self.embedding_dim, self.hidden, self.latent
        )

    def _on_fit_begin(self, module, data):
        if self._item_features is not None:
            module.features.copy_(torch.from_numpy(self._item_features))

    def _loss(self, module, batch):
        (ids,) = batch.inputs
        n_items = self.n_features_in_
        context, inside, outside, valid = draw_pairs(ids, n_items, self.net_.generator_)
        pooled = module.pool(context)
        gap = module.score(pooled, inside) - module.score(pooled, outside)
        return torch.relu(self.margin - gap) * valid


class ExpansionNetwork(nn.Module):
    """Scores rho([sum phi(x'), phi(x)]); the id `n_items` stands for no item."""

    def __init__(self, n_items, n_features, embedding_dim, hidden, latent):
        super().__init__()
        self.n_items = n_items
        self.table = nn.Embedding(n_items, embedding_dim) if n_features is None else None
        if n_features is not None:
            self.register_buffer("features", torch.empty(n_items, n_features))
        self.phi = make_mlp(n_features or embedding_dim, [hidden], latent, activation="elu")
        self.rho = make_mlp(2 * latent, [hidden], 1, activation="elu")

    def init_parameters(self, generator):
        if self.table is None:
            self.features.zero_()

    def embed(self, ids):
        items = self.features[ids] if self.table is None else self.table(ids)
        return self.phi(items)

    def pool(self, ids):
        present = ids < self.n_items
        return (self.embed(ids.clamp(max=self.n_items - 1)) * present[..., None]).sum(dim=1)

    def score(self, pooled, ids):
        return self.rho(torch.cat([pooled, self.embed(ids)], dim=-1)).squeeze(-1)

    def forward(self, ids):
        """Score every item for each set, shape (n_sets, n_items)."""
        pooled, items = self.pool(ids), self.embed(torch.arange(self.n_items, device=ids.device))
        rows = max(1, _PAIRS // self.n_items)
        return torch.cat([self._cross(part, items) for part in pooled.split(rows)])

    def _cross(self, pooled, items):
        pairs = torch.cat(
            [
                pooled[:, None].expand(-1, len(items), -1),
                items[None].expand(len(pooled), -1, -1),
            ],
            dim=-1,
        )
        return self.rho(pairs).squeeze(-1)


def draw_pairs(ids, n_items, generator):
    """Take a random member out of each set, and draw an item from outside the set.

    Returns the padded ids of the rest, the member, the item from outside, and where all three
    exist. `ids` is sorted in each row and padded with `n_items`.
    """
    sizes = (ids < n_items).sum(dim=1)
    draws = torch.rand(2, len(ids), generator=generator, dtype=torch.float64).to(ids.device)
    valid = (sizes >= 2) & (sizes < n_items)
    slot = (draws[0] * sizes).long()
    inside = ids.gather(1, slot[:, None]).squeeze(1).clamp(max=n_items - 1)
    nth = (draws[1] * (n_items - sizes)).long()
    outside = nth_outside(ids, nth, n_items).clamp(max=n_items - 1)
    position = torch.arange(ids.shape[1], device=ids.device)
    context = ids.masked_fill(position == slot[:, None], n_items)
    return context, inside, outside, valid


def nth_outside(ids, n, n_items):
    """Return the `n`-th number, from 0, that is not in the sorted row of `ids`."""
    position = torch.arange(ids.shape[1], device=ids.device)
    below = (ids - position <= n[:, None]) & (ids < n_items)
    return n + below.sum(dim=1)


def leave_one_out(ids, n_items):
    """Return every member of every set, and the padded ids of the rest of its set."""
    row, slot = torch.nonzero(ids < n_items, as_tuple=True)
    rest = ids[row]
    held_out = rest.gather(1, slot[:, None]).squeeze(1)
    return held_out, rest.scatter(1, slot[:, None], n_items)


def _scores_outside(module, inputs):
    (ids,) = inputs
    scores = module(ids)
    padded = torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1)
    return padded.scatter(1, ids, -torch.inf)[:, :-1]


def padded_ids(members):
    """Lay out a CSR indicator as sorted ids in rows, padded with the number of items."""
    members.sort_indices()
    sizes = np.diff(members.indptr)
    # One column at least, so that there is always something to gather from.
    ids = np.full((members.shape[0], max(1, sizes.max(initial=0))), members.shape[1])
    ids[np.arange(ids.shape[1]) < sizes[:, None]] = members.indices
    return ids


def _is_id_lists(X):
    """Tell sets of integers from a table: a list or object array of lists of integers."""
    nested = isinstance(X, (list, tuple)) or (
        isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    )
    if not nested or len(X) == 0 or not all(_is_sequence(items) for items in X):
        return False
    return all(len(items) == 0 or np.asarray(items).dtype.kind in "iu" for items in X)


def _is_sequence(items):
    return isinstance(items, (list, tuple, set, frozenset)) or np.ndim(items) == 1


def _members_of_lists(sets, n_items):
    sizes = [len(items) for items in sets]
    ids = np.concatenate([np.asarray(list(items), dtype=np.int64) for items in sets])
    n_items = n_items or int(ids.max(initial=0)) + 1
    if ids.size and (ids.min() < 0 or ids.max() >= n_items):
        raise ValueError(
            f"items must be integers from 0 to {n_items - 1}, got {ids.min()} to {ids.max()}"
        )
    rows = np.repeat(np.arange(len(sizes)), sizes)
    members = sparse.csr_array((np.ones(len(ids)), (rows, ids)), shape=(len(sizes), n_items))
    members.sum_duplicates()
    return members
