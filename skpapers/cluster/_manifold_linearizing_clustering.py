"""Manifold linearizing and clustering: clusters, and features in which each is a subspace."""

import copy
import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from skpapers.neural_network import TorchEstimator, make_mlp
from skpapers.neural_network._data import Data
from skpapers.neural_network._self_supervised import call_in_numpy, check_sizes, output_width
from skpapers.utils import check_random_state, nearest_neighbors

from ._affinity_clustering import affinity_coordinates, cluster_coordinates
from ._coding_rates import (
    coding_length,
    compressed_rate,
    hard_membership,
    sinkhorn_potentials,
    symmetric_scaling,
    total_rate,
)
from ._membership_network import (
    TwoHeadNetwork,
    ViewBatches,
    neighbor_view,
    noise_view,
    shift_view,
)

__all__ = ["ManifoldLinearizingClustering"]

_N_NEIGHBORS = 5
_NOISE = 0.2  # standard deviation, in units of that of a column
_MAX_CLUSTERS = 20  # tried where their number is not given
_N_SCALINGS = 200  # of the membership of anchors and of `membership`
_ENERGY = 0.95  # of a cluster's features that its subspace holds
_ROWS_AT_ONCE = 2048


class ManifoldLinearizingClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, TorchEstimator
):
    """Clusters on curved manifolds, and features in which each is a linear subspace of its own.

    A network maps rows to the unit sphere. It is trained, in mini-batches, to spread the features
    of all rows (a large coding rate) and to squeeze the features of each cluster into few
    dimensions (a small compressed rate), which makes clusters nearly orthogonal subspaces. Who
    belongs to whom is a doubly stochastic matrix over rows, by Sinkhorn's algorithm on the cosines
    of a second head of the network: the number of clusters is not needed in training. The
    clusters are those of the graph that this matrix is.

    Parameters
    ----------
    n_clusters : int or None, default=8
        Number of clusters; None takes, of 1 to 20, that with the shortest total coding length.
    n_components : int, default=64
        Number of features that the network gives.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the layers before the two heads.
    eps : float, default=0.5
        Squared distortion of the coding rates: how thick a subspace may be.
    sinkhorn_reg : float, default=0.175
        Weight of the entropy of the membership, in units of the cosine. Too large, and all rows
        belong together; too small, and clusters fall apart into near-duplicates.
    n_sinkhorn_iter : int, default=5
        Number of Sinkhorn iterations a training step.
    compression_weight : float, default=1.0
        Weight of the compressed rate.
    membership_penalty : float, default=0.0
        Weight of half the squared Frobenius norm of the membership of a batch.
    augmentation_weight : float, default=50.0
        Weight of the mean cosine of the features of a row and of its augmented view.
    augment : {"neighbors", "noise", "shift"} or callable, default="neighbors"
        What a view of a row is: one of its 5 nearest rows, the row with normal noise of 0.2
        standard deviations, the image moved by up to a pixel along each axis (needs
        `image_shape`), or the rows of ``augment(X, rng)``, with X in the units of `fit`.
    pretrain_steps : int or "auto", default="auto"
        Number of steps without compression, after which membership starts from the features;
        "auto" is a quarter of the number of rows, from 20 to 250.
    max_steps : int or "auto", default="auto"
        Number of steps on the whole objective; "auto" is a sixteenth of the number of rows, from
        8 to 100.
    batch_size : int or None, default=256
        Rows in a batch; None for all of them.
    n_columns : int or None, default=64
        Number of columns of the membership, drawn anew each step, that the compressed rate is the
        mean of; None for all.
    pretrain_lr : float, default=1e-3
        Learning rate of Adam in the first stage.
    lr : float, default=2e-4
        Learning rate of Adam on the whole objective.
    n_top : int, default=15
        Number of entries of each row of the membership that make the graph that is clustered, and
        of anchors that vote for a new row.
    max_anchors : int, default=4000
        Largest number of rows in that graph. With more rows, those drawn vote for the others.
    image_shape : tuple of int or None, default=None
        (height, width) or (n_channels, height, width) of the rows, where they are images; `module`
        then takes images. They are standardised by channel in place of by column.
    module : torch.nn.Module or None, default=None
        Network before the heads, from rows or images to a matrix, in place of
        `hidden_layer_sizes`; its parameters are drawn anew.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line a step.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, batches, views, columns, anchors and k-means.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Labels of the training rows.
    n_clusters_ : int
        Number of clusters.
    subspaces_ : list of ndarray of shape (n_components, rank)
        For each cluster an orthonormal basis of the directions that hold 95 % of the energy of
        its features.
    rate_ : float
        Coding rate of the features of the training rows (of the anchors, where those are fewer),
        in nats a row.
    compressed_rate_ : float
        Their coding rate when each cluster is coded by itself.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode, on standardised rows.
    history_ : list of dict
        One entry a step.
    loss_curve_ : list of float
        Loss of each step; the objective changes after the first stage.
    n_iter_ : int
        Number of steps run in both stages.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If there are fewer rows than clusters.

    Notes
    -----
    A step costs O(batch_size ** 2 * n_components) for the membership and O((batch_size +
    n_components) * n_columns * n_components ** 2) for the rates; the graph of the anchors takes
    O(max_anchors ** 2) memory; neighbours are searched once, in O(n_samples ** 2 * n_features).

    Training is in float32; features have the precision of X.

    Published results (CIFAR-10, -20, -100 and Tiny ImageNet, with a ResNet trained from scratch on
    image augmentations) need a GPU; what is tested here is that digits of 8 x 8 pixels are
    clustered better than by k-means and spectral clustering, and that their features are closer
    to linear and orthogonal than principal components. There the clusters come from the first
    stage, thanks to the views; the second makes them linear and, on average over seeds, leaves
    the labels as good as they were.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       Manifold Linearizing and Clustering", ICCV 2023, arXiv:2301.01805, section 3.
    .. [2] T. Chu, S. Tong, T. Ding, X. Dai, B. D. Haeffele, R. Vidal and Y. Ma, "Image Clustering
       via the Principle of Rate Reduction in the Age of Pretrained Models", ICLR 2024,
       arXiv:2306.05272: the number of clusters.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skpapers.cluster import ManifoldLinearizingClustering
    >>> X, y = make_blobs(120, 10, centers=3, random_state=0)
    >>> model = ManifoldLinearizingClustering(n_clusters=3, random_state=0).fit(X)
    >>> adjusted_rand_score(y, model.labels_)
    1.0
    >>> model.transform(X).shape
    (120, 64)
    """

    _even_batches = True
    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "eps": [Interval(Real, 0, None, closed="neither")],
        "sinkhorn_reg": [Interval(Real, 0, None, closed="neither")],
        "n_sinkhorn_iter": [Interval(Integral, 1, None, closed="left")],
        "compression_weight": [Interval(Real, 0, None, closed="left")],
        "membership_penalty": [Interval(Real, 0, None, closed="left")],
        "augmentation_weight": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"neighbors", "noise", "shift"}), callable],
        "pretrain_steps": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_steps": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "n_columns": [Interval(Integral, 1, None, closed="left"), None],
        "pretrain_lr": [Interval(Real, 0, None, closed="neither")],
        "n_top": [Interval(Integral, 1, None, closed="left")],
        "max_anchors": [Interval(Integral, 1, None, closed="left")],
        "image_shape": ["array-like", None],
        "module": [torch.nn.Module, None],
    }
    _search_space = {
        "n_clusters": [2, 4, 8],
        "sinkhorn_reg": [0.1, 0.175, 0.25],
        "eps": [0.2, 0.5],
        "n_components": [16, 64],
    }

    @staticmethod
    def _small_params():
        return {
            "n_components": 8,
            "hidden_layer_sizes": (32,),
            "pretrain_steps": 5,
            "max_steps": 2,
        }

    def __init__(
        self,
        n_clusters=8,
        *,
        n_components=64,
        hidden_layer_sizes=(256, 256),
        eps=0.5,
        sinkhorn_reg=0.175,
        n_sinkhorn_iter=5,
        compression_weight=1.0,
        membership_penalty=0.0,
        augmentation_weight=50.0,
        augment="neighbors",
        pretrain_steps="auto",
        max_steps="auto",
        batch_size=256,
        n_columns=64,
        pretrain_lr=1e-3,
        lr=2e-4,
        n_top=15,
        max_anchors=4000,
        image_shape=None,
        module=None,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.eps = eps
        self.sinkhorn_reg = sinkhorn_reg
        self.n_sinkhorn_iter = n_sinkhorn_iter
        self.compression_weight = compression_weight
        self.membership_penalty = membership_penalty
        self.augmentation_weight = augmentation_weight
        self.augment = augment
        self.pretrain_steps = pretrain_steps
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.n_columns = n_columns
        self.pretrain_lr = pretrain_lr
        self.lr = lr
        self.n_top = n_top
        self.max_anchors = max_anchors
        self.image_shape = image_shape
        self.module = module
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self):
        return self.n_components

    # Rows.

    def _parse(self, X, y="no_validation", *, reset):
        """Standardised rows, in the precision of X."""
        X = validate_data(self, X, reset=reset, dtype=self._dtypes())
        values = X.astype(np.float64)
        if reset:
            self._check_rows(X)
            self._scaler = StandardScaler().fit(self._by_channel(values))
        scaled = self._scaler.transform(self._by_channel(values))
        return (self._as_rows(scaled, X.shape).astype(X.dtype, copy=False),), None

    def _check_rows(self, X):
        if self.n_clusters is not None and len(X) < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters} must be at most n_samples={len(X)}, one row each"
            )
        self._shape = None if self.image_shape is None else self._check_image_shape(X.shape[1])

    def _check_image_shape(self, n_features):
        shape = check_sizes("image_shape", self.image_shape)
        if len(shape) not in (2, 3) or math.prod(shape) != n_features:
            raise ValueError(
                f"image_shape={self.image_shape!r} must be (height, width) or (n_channels, "
                f"height, width) with {n_features} entries"
            )
        return (1, *shape)[-3:]

    def _by_channel(self, X):
        if self._shape is None:
            return X
        return X.reshape(len(X), self._shape[0], -1).swapaxes(1, 2).reshape(-1, self._shape[0])

    def _as_rows(self, X, shape):
        if self._shape is None:
            return X
        return X.reshape(shape[0], -1, self._shape[0]).swapaxes(1, 2).reshape(shape)

    def _tensor_dtype(self, inputs):
        return torch.float32

    # Network and training.

    def _make_module(self):
        if self.module is None:
            sizes = check_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
            trunk = make_mlp(self.n_features_in_, sizes, None)
            row_shape = (self.n_features_in_,)
        else:
            trunk = copy.deepcopy(self.module).to("meta")
            row_shape = self._shape or (self.n_features_in_,)
        width = output_width(trunk, row_shape)
        if self.module is not None and self._shape is not None:
            trunk = torch.nn.Sequential(torch.nn.Unflatten(1, self._shape), trunk)
        return TwoHeadNetwork(trunk, width, self.n_components)

    def _steps(self, n_rows):
        """Steps of the first stage, and of the second."""
        first, second = self.pretrain_steps, self.max_steps
        first = min(250, max(20, n_rows // 4)) if first == "auto" else first
        return first, min(100, max(8, n_rows // 16)) if second == "auto" else second

    def _train(self, train, validation, epochs):
        """Train with one step an epoch."""
        self._n_pretrain, n_steps = self._steps(train.n_rows)
        return super()._train(train, validation, self._n_pretrain + n_steps)

    def _make_batches(self, data, generator):
        rows = data.inputs[0].float()
        numbered = Data((rows, torch.arange(len(rows))))
        view = self._make_view(rows.to(self._device()), generator)
        return ViewBatches(super()._make_batches(numbered, generator), view)

    def _make_view(self, table, generator):
        """Function of rows and their numbers that augments them."""
        if self.augment == "neighbors":
            n_neighbors = min(_N_NEIGHBORS, len(table) - 1)
            if n_neighbors == 0:
                return lambda rows, numbers: rows
            _, neighbors = nearest_neighbors(table.cpu().numpy(), n_neighbors)
            neighbors = torch.from_numpy(neighbors).to(table.device)
            return lambda rows, numbers: neighbor_view(table, neighbors, numbers, generator)
        if self.augment == "noise":
            return lambda rows, numbers: noise_view(rows, generator, _NOISE)
        if self.augment == "shift":
            if self._shape is None:
                raise ValueError("augment='shift' needs an image_shape, got image_shape=None")
            return lambda rows, numbers: shift_view(rows, generator, self._shape)
        return lambda rows, numbers: call_in_numpy(self._augment_scaled, rows, generator)

    def _augment_scaled(self, rows, rng):
        """The user's augmentation, which knows the units of X, on standardised rows."""
        X = self._scaler.inverse_transform(self._by_channel(rows.astype(np.float64)))
        X = np.asarray(self.augment(self._as_rows(X, rows.shape), rng))
        if X.shape != rows.shape:
            raise ValueError(f"augment must keep the shape {rows.shape}, returned {X.shape}")
        return self._as_rows(self._scaler.transform(self._by_channel(X)), rows.shape)

    def _on_epoch_begin(self, module, epoch):
        self._pretraining = epoch < self._n_pretrain
        if epoch not in (0, self._n_pretrain):
            return
        optimizer = self.net_.optimizer_
        for group in optimizer.param_groups:
            group["lr"] = self.pretrain_lr if self._pretraining else self.lr
        if not self._pretraining:
            optimizer.state.clear()  # its moments are those of another objective
            module.start_membership()

    def _loss(self, module, batch):
        rows, views = batch.inputs
        if self._pretraining:
            Z, Z_views = module(torch.cat([rows, views])).chunk(2)
            return -self._spread(Z, Z_views)
        features, directions = module.both(torch.cat([rows, views]))
        Z, Z_views = features.chunk(2)
        return self._compression(Z, directions[: len(rows)]) - self._spread(Z, Z_views)

    def _spread(self, Z, Z_views):
        """Coding rate of a batch, and weighted mean cosine with the views."""
        alignment = (Z * Z_views).sum(dim=1).mean()
        return total_rate(Z, self.eps) + self.augmentation_weight * alignment

    def _compression(self, Z, directions):
        """Weighted compressed rate of a batch, on columns drawn from its membership."""
        log_kernel = (directions @ directions.T).abs() / self.sinkhorn_reg
        rows, columns = sinkhorn_potentials(log_kernel, self.n_sinkhorn_iter)
        membership = torch.exp(log_kernel + rows[:, None] + columns)
        rate = sampled_rate(Z, membership, self.eps, self.n_columns, self.net_.generator_)
        penalty = self.membership_penalty / 2 * membership.square().sum()
        return self.compression_weight * rate + penalty

    # Clusters.

    def _on_fit_end(self, data):
        module, (rows,) = self.module_, data.inputs
        if self.n_iter_ <= self._n_pretrain:
            module.start_membership()
        module.to(rows.dtype)
        generator = self.net_.generator_
        rng = check_random_state(int(torch.randint(2**31, (), generator=generator)))
        order = torch.randperm(len(rows), generator=generator)[: self.max_anchors]
        anchors = order.sort().values
        Z, self._directions = self._anchor_outputs(module, rows[anchors])
        membership, self._potential = self._anchor_membership()
        self._anchor_labels = self._cluster(membership, Z, rng)
        self.n_clusters_ = int(self._anchor_labels.max()) + 1
        self.labels_ = self._label_rows(module, rows, anchors)
        self._describe(Z)

    def _anchor_outputs(self, module, rows):
        pieces = [module.both(x.to(self._device())) for x in rows.split(_ROWS_AT_ONCE)]
        return tuple(torch.cat(outputs).cpu() for outputs in zip(*pieces))

    def _anchor_membership(self):
        membership, scale = full_membership(self._directions, self.sinkhorn_reg)
        return membership.numpy(), scale.log()

    def _cluster(self, membership, Z, rng):
        """Labels of the anchors by spectral clustering."""
        largest = self.n_clusters or min(_MAX_CLUSTERS, len(Z))
        vectors = affinity_coordinates(membership, largest, self.n_top, rng)
        if self.n_clusters is not None:
            return cluster_coordinates(vectors, largest, rng)
        choices = [cluster_coordinates(vectors, k, rng) for k in range(1, largest + 1)]
        lengths = [float(coding_length(Z, hard_membership(c, Z), self.eps)) for c in choices]
        return choices[int(np.argmin(lengths))]

    def _label_rows(self, module, rows, anchors):
        """Labels of the anchors as they are, and of the other rows by vote."""
        labels = torch.full((len(rows),), -1)
        labels[anchors] = torch.from_numpy(self._anchor_labels).long()
        for index in torch.nonzero(labels < 0)[:, 0].split(_ROWS_AT_ONCE):
            labels[index] = self._vote(module, (rows[index].to(self._device()),)).cpu()
        return labels.numpy()

    def _describe(self, Z):
        shares = hard_membership(self._anchor_labels, Z)
        self.rate_ = float(total_rate(Z, self.eps))
        self.compressed_rate_ = float(compressed_rate(Z, shares, self.eps))
        self.subspaces_ = [
            leading_directions(Z[group].numpy(), _ENERGY) for group in shares.T.bool()
        ]

    # Prediction.

    def _rows_at_once(self, inputs):
        return _ROWS_AT_ONCE

    def _vote(self, module, inputs):
        """Cluster with the largest share in the membership of each row among the anchors."""
        directions = module.affine(*inputs)
        cosines = (directions @ self._directions.to(directions).T).abs()
        logits = cosines / self.sinkhorn_reg + self._potential.to(directions)
        top = logits.topk(min(self.n_top, logits.shape[1]), dim=1)
        labels = torch.from_numpy(self._anchor_labels).long().to(directions.device)
        shares = directions.new_zeros(len(directions), self.n_clusters_)
        return shares.scatter_add(1, labels[top.indices], top.values.softmax(dim=1)).argmax(dim=1)

    def predict(self, X):
        """Find the clusters of rows, by vote of the training rows they belong with.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels. Those of training rows are near those in `labels_`, not always the same.
        """
        return self._predict(self._vote, X)

    def transform(self, X):
        """Compute features in which clusters are nearly linear and orthogonal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Features, of unit length.
        """
        return self._predict(lambda module, inputs: module(*inputs), X)

    def membership(self, X):
        """Compute how strongly rows belong to the clusters of each other.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_samples)
            Symmetric matrix whose rows and columns sum to 1.
        """
        directions = self._predict(lambda module, inputs: module.affine(*inputs), X)
        return full_membership(torch.from_numpy(directions), self.sinkhorn_reg)[0].numpy()


def sampled_rate(Z, membership, eps, n_columns, generator):
    """Compressed rate, or an unbiased estimate of it from `n_columns` columns at random."""
    n_rows = len(Z)
    if n_columns is None or n_columns >= n_rows:
        return compressed_rate(Z, membership, eps)
    columns = torch.randperm(n_rows, generator=generator)[:n_columns].to(Z.device)
    return compressed_rate(Z, membership[:, columns], eps) * (n_rows / n_columns)


def full_membership(directions, reg):
    """Membership of rows by the absolute cosines of their directions, and the scales it has."""
    kernel = (directions @ directions.T).abs().sub_(1).div_(reg).exp_()
    scale = symmetric_scaling(kernel, _N_SCALINGS)
    return kernel.mul_(scale).mul_(scale[:, None]), scale


def leading_directions(Z, energy):
    """Orthonormal basis, in columns, of the fewest directions that hold a share of the energy."""
    _, singular_values, directions = np.linalg.svd(Z, full_matrices=False)
    squares = np.cumsum(singular_values**2)
    return directions[: np.searchsorted(squares, energy * squares[-1]) + 1].T
