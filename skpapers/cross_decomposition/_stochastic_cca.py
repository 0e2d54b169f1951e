"""Canonical correlations by stochastic gradient descent on a loss without constraints."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ._canonical import column_correlations
from ._gep import eckart_young_gep
from ._linear_multiview import LinearMultiview

__all__ = ["StochasticCCA", "StochasticPLS", "eckart_young_gep"]


class StochasticCCA(LinearMultiview):
    """Canonical correlation analysis by mini-batch gradient descent, without whitening.

    The canonical subspaces of two or more views are the minima of a loss that has no constraint,
    no other local minimum and an unbiased gradient from small batches. No matrix of
    n_features by n_features is ever formed, and rows may stream by.

    Parameters
    ----------
    n_components : int, default=2
        Number of pairs of variates; at most the number of columns of a view.
    reg : float, default=0.0
        Share of the identity in the covariance of each view, in [0, 1]: 0 is CCA, 1 is PLS.
    max_epochs : int, default=100
        Passes over the rows.
    batch_size : int, default=128
        Rows in a batch, about; None for all. For many features take many more rows than
        components.
    lr : float or "auto", default="auto"
        Learning rate. "auto" is set from the largest variance of a first batch, and falls
        linearly to zero where there are several batches.
    optimizer : {"sgd", "adam"}, default="sgd"
        Gradient descent with momentum, or Adam.
    momentum : float, default=0.9
        Share of the last step of "sgd" that is kept, in [0, 1).
    two_batches : bool, default=True
        Take a second, independent batch for each step, which makes gradients unbiased, at twice
        the cost.
    auto_terms : bool, default=True
        Add each view's covariance with itself to the loss: the same subspace, better conditioned.
    center : bool, default=True
        Whether `transform` subtracts the means. Covariances are centred in any case.
    scale : bool, default=True
        Whether columns are divided by their standard deviations.
    tol : float, default=1e-6
        Relative change of the loss that `early_stopping` takes for none.
    early_stopping : bool, default=False
        Stop when the mean loss of an epoch has not changed for five epochs.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights and batches.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    weights_ : list of ndarray of shape (n_features_i, n_components)
        Weights of each view, for centred columns in their own units.
    x_weights_ : ndarray of shape (n_features, n_components)
        Weights of the first view.
    y_weights_ : ndarray of shape (n_targets, n_components)
        Weights of the second view.
    loadings_ : list of ndarray of shape (n_features_i, n_components)
        Coefficients of the least-squares reconstruction of each view from its variates.
    means_ : list of ndarray of shape (n_features_i,)
        What `transform` subtracts.
    correlations_ : ndarray of shape (n_components,)
        Canonical correlations on the training rows (of the last chunk), regularised ones for
        ``reg > 0``; the mean over the pairs of views where there are more than two.
    loss_curve_ : list of float
        Mean loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_components_ : int
        Number of pairs of variates.
    n_features_in_ : int
        Number of features of the first view.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of its features, where X has string column names.

    Notes
    -----
    A step costs O(batch_size * n_features * n_components). The descent finds the subspaces; a
    small exact CCA of n_components columns then gives ordered variates of unit variance. A
    few epochs suffice where batches are many; with all rows in one batch an epoch is one step,
    and hundreds are needed. Where the SVD of the views is affordable it is exact, and as quick.
    The paper's genetic data (PLS on half a million columns) are not part of the tests.

    References
    ----------
    .. [1] J. Chapman, L. Wells, A. Lawry Aguila, "Unconstrained Stochastic CCA: Unifying
       Multiview and Self-Supervised Learning", ICLR 2024, arXiv:2310.01012, sections 3.1 and 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import StochasticCCA
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(2000, 1))
    >>> X = latent + rng.normal(size=(2000, 10))
    >>> Y = latent + rng.normal(size=(2000, 5))
    >>> model = StochasticCCA(n_components=1, max_epochs=10, random_state=0).fit(X, Y)
    >>> bool(model.score(X, Y) > 0.85)
    True
    """

    _parameter_constraints = {
        **LinearMultiview._parameter_constraints,
        "reg": [Interval(Real, 0, 1, closed="both")],
    }
    _search_space = {"n_components": [1, 2, 3], "reg": [0.0, 1e-2, 1e-1]}

    def __init__(
        self,
        n_components=2,
        *,
        reg=0.0,
        max_epochs=100,
        batch_size=128,
        lr="auto",
        optimizer="sgd",
        momentum=0.9,
        two_batches=True,
        auto_terms=True,
        center=True,
        scale=True,
        tol=1e-6,
        early_stopping=False,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.reg = reg
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.momentum = momentum
        self.two_batches = two_batches
        self.auto_terms = auto_terms
        self.center = center
        self.scale = scale
        self.tol = tol
        self.early_stopping = early_stopping
        self.random_state = random_state
        self.verbose = verbose

    def _ridge(self):
        return float(self.reg)

    def _set_values(self, variates, eigenvalues):
        self.correlations_ = np.clip(eigenvalues, -1.0, 1.0)

    def _units(self, variates):
        deviation = variates.std(axis=0, ddof=1)
        return 1 / np.where(deviation > 0, deviation, 1.0)


class StochasticPLS(LinearMultiview):
    """Partial least squares (PLS-SVD) by mini-batch gradient descent.

    The leading singular vectors of the covariance of two views, or their counterpart for more
    views, as the minimum of a loss without constraints; the covariance is never formed.

    Parameters
    ----------
    n_components : int, default=2
        Number of pairs of variates; at most the number of columns of a view.
    max_epochs : int, default=100
        Passes over the rows.
    batch_size : int, default=128
        Rows in a batch, about; None for all. For many features take many more rows than
        components.
    lr : float or "auto", default="auto"
        Learning rate. "auto" is set from the largest variance of a first batch, and falls
        linearly to zero where there are several batches.
    optimizer : {"sgd", "adam"}, default="sgd"
        Gradient descent with momentum, or Adam.
    momentum : float, default=0.9
        Share of the last step of "sgd" that is kept, in [0, 1).
    two_batches : bool, default=True
        Take a second, independent batch for each step, which makes gradients unbiased, at twice
        the cost.
    auto_terms : bool, default=True
        Add each view's covariance with itself to the loss: the same subspace, better conditioned.
    center : bool, default=True
        Whether `transform` subtracts the means. Covariances are centred in any case.
    scale : bool, default=True
        Whether columns are divided by their standard deviations.
    tol : float, default=1e-6
        Relative change of the loss that `early_stopping` takes for none.
    early_stopping : bool, default=False
        Stop when the mean loss of an epoch has not changed for five epochs.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights and batches.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    weights_ : list of ndarray of shape (n_features_i, n_components)
        Weights of each view, for centred columns in their own units.
    x_weights_ : ndarray of shape (n_features, n_components)
        Weights of the first view.
    y_weights_ : ndarray of shape (n_targets, n_components)
        Weights of the second view.
    loadings_ : list of ndarray of shape (n_features_i, n_components)
        Coefficients of the least-squares reconstruction of each view from its variates.
    means_ : list of ndarray of shape (n_features_i,)
        What `transform` subtracts.
    correlations_ : ndarray of shape (n_components,)
        Correlations of the variates of the first two views on the training rows (of the last
        chunk).
    covariances_ : ndarray of shape (n_components,)
        Covariances of the variates: with two views, the leading singular values of the
        covariance of the (scaled) views; the mean over the pairs where there are more.
    loss_curve_ : list of float
        Mean loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_components_ : int
        Number of pairs of variates.
    n_features_in_ : int
        Number of features of the first view.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of its features, where X has string column names.

    Notes
    -----
    A step costs O(batch_size * n_features * n_components). The weights of each view, in units of
    the standard deviations if `scale`, are orthonormal.

    References
    ----------
    .. [1] J. Chapman, L. Wells, A. Lawry Aguila, "Unconstrained Stochastic CCA: Unifying
       Multiview and Self-Supervised Learning", ICLR 2024, arXiv:2310.01012, sections 3.1 and 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import StochasticPLS
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(2000, 1))
    >>> X = latent + rng.normal(size=(2000, 10))
    >>> Y = latent + rng.normal(size=(2000, 5))
    >>> model = StochasticPLS(n_components=1, max_epochs=10, random_state=0).fit(X, Y)
    >>> bool(model.score(X, Y) > 0.85)
    True
    """

    _search_space = {"n_components": [1, 2, 3], "scale": [True, False]}

    def __init__(
        self,
        n_components=2,
        *,
        max_epochs=100,
        batch_size=128,
        lr="auto",
        optimizer="sgd",
        momentum=0.9,
        two_batches=True,
        auto_terms=True,
        center=True,
        scale=True,
        tol=1e-6,
        early_stopping=False,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.momentum = momentum
        self.two_batches = two_batches
        self.auto_terms = auto_terms
        self.center = center
        self.scale = scale
        self.tol = tol
        self.early_stopping = early_stopping
        self.random_state = random_state
        self.verbose = verbose

    def _ridge(self):
        return 1.0

    def _set_values(self, variates, eigenvalues):
        self.covariances_ = eigenvalues
        self.correlations_ = column_correlations(*variates[:2])

    def _units(self, variates):
        return np.ones(variates.shape[1])
