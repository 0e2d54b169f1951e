"""Subspace clustering as what a diffusion model of low-dimensional data learns."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.neural_network._bridge import resolve_device
from skpapers.utils import check_random_state

from ._low_rank_mixture import LowRankMixture
from ._subspace_diffusion import noise_level, reverse_flow, train_denoiser
from ._subspace_solvers import (
    best_partition,
    expectation_maximization,
    projection_energies,
    spread_of,
)

__all__ = ["LowRankMixtureDiffusion"]


class LowRankMixtureDiffusion(TransformerMixin, ClusterMixin, BaseEstimator):
    """Clusters on linear subspaces, with the diffusion model that belongs to them.

    Rows that lie near a union of low-dimensional subspaces (faces under changing light, tracks
    of moving bodies, spectra) follow a mixture of low-rank Gaussians, for which everything that a
    diffusion model has to learn is known in closed form: the denoiser at every level of noise is
    a soft choice among projections. To train it is to cluster by subspaces, and takes as many
    rows as the subspaces have dimensions, not as there are features. One fit gives labels, an
    orthonormal basis of each cluster, a density, a denoiser, a sampler and directions to edit
    along.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of subspaces.
    n_components : int, sequence of int or "auto", default=2
        Dimension of the subspaces; one number each goes to the clusters whose energy it holds
        best, "auto" is the largest gap in the spectrum of each cluster. Less than the number of
        features.
    solver : {"ksubspaces", "em", "score"}, default="ksubspaces"
        "ksubspaces" alternates between the nearest subspace of each row and the leading
        directions of each cluster. "em" goes on from there with soft assignments and the noise,
        by maximum likelihood. "score" minimises the loss of the denoiser over all noise levels
        from the same start, as the training of a diffusion network does: for study.
    center : bool, default=False
        Whether to subtract the mean, which moves subspaces away from the origin.
    noise_variance : "estimate" or float, default="estimate"
        Variance of what is off the subspaces, for densities and probabilities.
    learn_spectrum : bool, default=True
        Whether variances along the directions are estimated. False takes them as one, the model
        of the paper; labels by "ksubspaces" are the same.
    schedule : {"vp", "edm"}, default="vp"
        Signal and noise at times in (0, 1]: variance preserving, with a rate from 0.1 to 20; or
        a noise that grows from 0.002 to 80.
    n_init : int, default=3
        Number of random starts besides that from a spectral clustering of angles.
    max_iter : int, default=100
        Most iterations; "score" takes ten gradient steps for each.
    tol : float, default=1e-6
        Relative change of the log-likelihood at which "em" stops.
    device : str or torch.device, default="auto"
        Where "score" trains; "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Determines starts, gradient steps, and `sample` where it is not given one.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each row.
    subspaces_ : list of ndarray of shape (n_features, n_components)
        Orthonormal bases, leading directions first.
    weights_ : ndarray of shape (n_clusters,)
        Share of each cluster.
    explained_variance_ : list of ndarray of shape (n_components,)
        Variances along the directions.
    noise_variance_ : float
        Variance of the rest in every feature.
    objective_ : float
        Energy of the rows in their subspaces, a sum of squares.
    loss_curve_ : list of float
        Loss of each step of "score", or negative log-likelihood of each iteration of "em";
        empty for "ksubspaces".
    n_iter_ : int
        Number of sweeps, iterations or gradient steps of the solver.
    mean_ : ndarray of shape (n_features,)
        What is subtracted from rows; zero unless `center`.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A sweep costs O(n_samples * n_features * sum(n_components)) and a decomposition for each
    cluster; the spectral start compares all pairs among at most 2000 rows, on which the random
    starts run as well. Clusters that are points, not lines through the origin, are not what this
    model sees: blobs of the same direction are one subspace.

    References
    ----------
    .. [1] P. Wang, H. Zhang, Z. Zhang, S. Chen, Y. Ma, Q. Qu, "Diffusion Models Learn
       Low-Dimensional Distributions via Subspace Clustering", arXiv:2409.02426, 2024.
    .. [2] R. Heckel, H. Bölcskei, "Robust Subspace Clustering via Thresholding", IEEE
       Transactions on Information Theory 2015.

    Examples
    --------
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skpapers.cluster import LowRankMixtureDiffusion, make_low_rank_gaussian_mixture
    >>> mixture = make_low_rank_gaussian_mixture(90, 20, (2, 2, 2), random_state=0)
    >>> model = LowRankMixtureDiffusion(n_clusters=3, random_state=0).fit(mixture.data)
    >>> adjusted_rand_score(mixture.target, model.labels_)
    1.0
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            StrOptions({"auto"}),
        ],
        "solver": [StrOptions({"ksubspaces", "em", "score"})],
        "center": ["boolean"],
        "noise_variance": [StrOptions({"estimate"}), Interval(Real, 0, None, closed="neither")],
        "learn_spectrum": ["boolean"],
        "schedule": [StrOptions({"vp", "edm"})],
        "n_init": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }
    _search_space = {"n_clusters": [2, 4, 8], "n_components": [1, 2, 4], "solver": ["ksubspaces"]}

    def __init__(
        self,
        n_clusters=8,
        n_components=2,
        *,
        solver="ksubspaces",
        center=False,
        noise_variance="estimate",
        learn_spectrum=True,
        schedule="vp",
        n_init=3,
        max_iter=100,
        tol=1e-6,
        device="auto",
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.solver = solver
        self.center = center
        self.noise_variance = noise_variance
        self.learn_spectrum = learn_spectrum
        self.schedule = schedule
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32]).astype(np.float64)
        if len(X) < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters} must be at most n_samples={len(X)}, one row each"
            )
        rng = check_random_state(self.random_state)
        self.mean_ = X.mean(axis=0) if self.center else np.zeros(X.shape[1])
        X = X - self.mean_
        partition = best_partition(
            X, self.n_clusters, self._ranks(X.shape), self.n_init, self.max_iter, rng
        )
        self.loss_curve_, self.n_iter_ = [], partition.n_iter
        self._mixture, self.noise_variance_ = getattr(self, f"_fit_{self.solver}")(
            X, partition, rng
        )
        energies = projection_energies(X, self._mixture.bases)
        self.labels_ = np.argmax(energies, axis=1)
        self.objective_ = float(np.sum(np.max(energies, axis=1)))
        self.subspaces_ = self._mixture.bases
        self.weights_ = self._mixture.weights
        self.explained_variance_ = self._mixture.variances
        return self

    def _ranks(self, shape):
        """Dimensions of the subspaces, or None for those that the spectra tell."""
        if isinstance(self.n_components, str):
            return None
        ranks = np.broadcast_to(np.asarray(self.n_components), (self.n_clusters,)).tolist()
        largest = max(1, min(shape[1] - 1, shape[0]))
        if min(ranks) < 1:
            raise ValueError(f"n_components={self.n_components} must be positive")
        return [min(int(rank), largest) for rank in ranks]

    def _fixed_noise(self):
        return None if self.noise_variance == "estimate" else float(self.noise_variance)

    def _fit_ksubspaces(self, X, partition, rng):
        return self._mixture_of(X, partition.bases, partition.labels)

    def _mixture_of(self, X, bases, labels):
        variances, noise = spread_of(X, bases, labels, self.learn_spectrum)
        # a cluster that lost its rows to equal ones keeps a share, so that logarithms are finite
        sizes = np.maximum(np.bincount(labels, minlength=len(bases)), 1e-3)
        noise = noise if self._fixed_noise() is None else self._fixed_noise()
        return LowRankMixture(bases, variances, sizes / sizes.sum()), noise

    def _fit_em(self, X, partition, rng):
        ranks = [basis.shape[1] for basis in partition.bases]
        settings = (self._fixed_noise(), self.learn_spectrum, self.max_iter, self.tol)
        mixture, noise, curve = expectation_maximization(X, partition, ranks, *settings)
        self.loss_curve_ = [-value for value in curve]
        self.n_iter_ = len(curve)
        return mixture, noise

    def _fit_score(self, X, partition, rng):
        sizes = np.maximum(np.bincount(partition.labels, minlength=self.n_clusters), 1e-3)
        bases, self.loss_curve_ = train_denoiser(
            X,
            partition.bases,
            sizes / sizes.sum(),
            self.schedule,
            10 * self.max_iter,
            rng,
            resolve_device(self.device),
        )
        self.n_iter_ = len(self.loss_curve_)
        return self._mixture_of(X, bases, np.argmax(projection_energies(X, bases), axis=1))

    def _validate(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return X.astype(np.float64) - self.mean_, X.dtype

    def predict(self, X):
        """Find the subspace in which most of each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        return np.argmax(projection_energies(self._validate(X)[0], self.subspaces_), axis=1)

    def predict_proba(self, X):
        """Compute the probability of each cluster under the mixture with its noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
            Probabilities.
        """
        X, dtype = self._validate(X)
        shares = self._mixture.responsibilities(X, 1.0, self.noise_variance_)
        return shares.astype(dtype, copy=False)

    def transform(self, X):
        """Compute the distances of rows to the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
            Distances, in the units of X.
        """
        X, dtype = self._validate(X)
        squares = np.sum(X**2, axis=1)[:, None] - projection_energies(X, self.subspaces_)
        return np.sqrt(np.maximum(squares, 0)).astype(dtype, copy=False)

    def get_feature_names_out(self, input_features=None):
        """Name the columns that `transform` gives.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of str of shape (n_clusters,)
            Names.
        """
        check_is_fitted(self)
        names = [f"lowrankmixturediffusion{k}" for k in range(len(self.subspaces_))]
        return np.asarray(names, dtype=object)

    def score_samples(self, X):
        """Compute the log density of the mixture with its noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities in nats.
        """
        X, dtype = self._validate(X)
        return self._mixture.log_density(X, self.noise_variance_).astype(dtype, copy=False)

    def score(self, X, y=None):
        """Compute the mean log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean log density of a row, in nats.
        """
        return float(np.mean(self.score_samples(X)))

    def denoise(self, X, t=None, *, scale=None, sigma=None):
        """Compute the mean of the clean rows given noisy ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows: `scale` times the clean ones, less `mean_`, plus noise of standard
            deviation `sigma`, plus `mean_`.
        t : float, default=None
            Time in (0, 1] of the schedule, which gives `scale` and `sigma`.
        scale : float, default=None
            Factor of the signal; None is 1 where `sigma` is given.
        sigma : float, default=None
            Standard deviation of the noise.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Posterior means on the subspaces; the noise of the mixture is left out.

        Raises
        ------
        ValueError
            If neither or both of `t` and `sigma` are given, or are out of range.
        """
        X, dtype = self._validate(X)
        clean = self._mixture.denoise(X, *self._level(t, scale, sigma))
        return (clean + self.mean_).astype(dtype, copy=False)

    def _level(self, t, scale, sigma):
        if (t is None) == (sigma is None):
            raise ValueError(f"give either t or sigma, got t={t} and sigma={sigma}")
        if t is None:
            if not sigma > 0:
                raise ValueError(f"sigma={sigma} must be positive")
            return 1.0 if scale is None else float(scale), float(sigma)
        if not 0 < t <= 1:
            raise ValueError(f"t={t} must be in (0, 1]")
        return noise_level(self.schedule, t)

    def score_function(self, X, t=None, *, scale=None, sigma=None):
        """Compute the gradient of the log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        t : float, default=None
            Time in (0, 1] of the schedule: gradient for noisy rows.
        scale : float, default=None
            Factor of the signal.
        sigma : float, default=None
            Standard deviation of the noise. Without `t` and `sigma`, that of `noise_variance_`:
            the gradient of `score_samples`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Gradients with respect to the rows.
        """
        X, dtype = self._validate(X)
        if t is None and sigma is None:
            level = (1.0, np.sqrt(self.noise_variance_))
        else:
            level = self._level(t, scale, sigma)
        return self._mixture.score(X, *level).astype(dtype, copy=False)

    def sample(self, n_samples=1, random_state=None, *, method="exact", n_steps=50):
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed; None for that of the estimator.
        method : {"exact", "reverse_ode"}, default="exact"
            "exact" draws a cluster, a point of its subspace, and noise; "reverse_ode" solves the
            probability flow of the schedule with the score in closed form, down to clean rows.
        n_steps : int, default=50
            Number of Heun steps of "reverse_ode".

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows.
        labels : ndarray of shape (n_samples,)
            Their clusters.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if method == "exact":
            X, labels = self._mixture.sample(n_samples, self.noise_variance_, rng)
            return X + self.mean_, labels
        if method != "reverse_ode":
            raise ValueError(f"method={method!r} must be 'exact' or 'reverse_ode'")
        X = reverse_flow(self._mixture, n_samples, self.schedule, n_steps, rng)
        return X + self.mean_, np.argmax(projection_energies(X, self.subspaces_), axis=1)

    def edit(self, X, cluster, direction, strength):
        """Move rows along one direction of a cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        cluster : int
            Cluster.
        direction : int
            Column of its basis.
        strength : float
            How far to go, in standard deviations along the direction.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows, of which one coordinate has changed.
        """
        X, dtype = self._validate(X)
        width = np.sqrt(self.explained_variance_[cluster][direction])
        step = strength * width * self.subspaces_[cluster][:, direction]
        return (X + self.mean_ + step).astype(dtype, copy=False)

    def jacobian_rank(self, x, t=None, *, scale=None, sigma=None, energy=0.99):
        """Count the directions in which the denoiser answers at a row.

        Parameters
        ----------
        x : array-like of shape (n_features,)
            Noisy row.
        t : float, default=None
            Time in (0, 1] of the schedule.
        scale : float, default=None
            Factor of the signal.
        sigma : float, default=None
            Standard deviation of the noise.
        energy : float, default=0.99
            Share of the squared singular values of the Jacobian that is counted.

        Returns
        -------
        int
            Number of singular values. At little noise it is that of the dimensions of one
            subspace, whatever the number of features.
        """
        (x,), _ = self._validate(np.reshape(x, (1, -1)))
        jacobian = self._mixture.jacobian(x, *self._level(t, scale, sigma))
        squares = np.linalg.svd(jacobian, compute_uv=False) ** 2
        return int(np.searchsorted(np.cumsum(squares), energy * squares.sum()) + 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
