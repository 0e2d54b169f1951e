"""Values of states from transitions, by regression on targets that the model itself makes."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, _fit_context, clone
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, seed_estimator

from ._families import TorchRegressor
from ._histogram_loss import HistogramLossRegressor, histogram_targets

__all__ = ["FittedValueIterationRegressor"]


class FittedValueIterationRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Discounted sums of future rewards, from single transitions.

    The value of a state is the reward of leaving it plus `gamma` times the value of the next
    state. One network is trained on, and its targets are made anew of its own predictions.

    Parameters
    ----------
    estimator : TorchRegressor, default=None
        The network; None for :class:`HistogramLossRegressor`. With its ``loss="c51"`` the target
        is the predicted histogram of the next state, moved and projected on the bins.
    gamma : float, default=0.99
        Discount of the next value, in [0, 1].
    n_iterations : int, default=200
        Number of times the network is trained on.
    epochs_per_iteration : int, default=10
        Passes over the transitions each time.
    target_refresh : int, default=1
        Iterations after which the targets are made anew.
    random_state : int, RandomState instance or None, default=None
        Seed of the network.

    Attributes
    ----------
    estimator_ : TorchRegressor
        The trained network.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A histogram needs a range: with ``support="auto"`` it is that of all discounted sums of the
    rewards seen, for which `gamma` must be below 1.

    Costs ``n_iterations * epochs_per_iteration`` epochs and a prediction an iteration. Exact value
    iteration contracts the error by `gamma` (or by the dynamics, where it is 1) each time: so many
    iterations are needed, however good the network.

    References
    ----------
    .. [1] J. Farebrother et al., "Stop Regressing: Training Value Functions via Classification
       for Scalable Deep RL", ICML 2024, arXiv:2403.03950.
    .. [2] M. G. Bellemare, W. Dabney, R. Munos, "A Distributional Perspective on Reinforcement
       Learning", ICML 2017, arXiv:1707.06887 ("c51").

    Examples
    --------
    Two states, of which the first leads to the second, and that to the end:

    >>> import numpy as np
    >>> from skpapers.neural_network import FittedValueIterationRegressor, HistogramLossRegressor
    >>> X, next_X = np.eye(2), np.array([[0.0, 1.0], [0.0, 0.0]])
    >>> network = HistogramLossRegressor(hidden_layer_sizes=(), lr=0.1)
    >>> model = FittedValueIterationRegressor(
    ...     network, gamma=0.5, n_iterations=20, random_state=0
    ... )
    >>> model.fit(X, [0.0, 1.0], next_X, terminal=[False, True]).predict(X).round(1)
    array([0.5, 1. ])
    """

    _parameter_constraints = {
        "estimator": [TorchRegressor, None],
        "gamma": [Interval(Real, 0, 1, closed="both")],
        "n_iterations": [Interval(Integral, 1, None, closed="left")],
        "epochs_per_iteration": [Interval(Integral, 1, None, closed="left")],
        "target_refresh": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    _search_space = {"epochs_per_iteration": [5, 10, 20]}

    def __init__(
        self,
        estimator=None,
        *,
        gamma=0.99,
        n_iterations=200,
        epochs_per_iteration=10,
        target_refresh=1,
        random_state=None,
    ):
        self.estimator = estimator
        self.gamma = gamma
        self.n_iterations = n_iterations
        self.epochs_per_iteration = epochs_per_iteration
        self.target_refresh = target_refresh
        self.random_state = random_state

    @staticmethod
    def _small_params():
        network = HistogramLossRegressor(hidden_layer_sizes=(32,), batch_size=256, lr=1e-2)
        return {"estimator": network, "n_iterations": 4}

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, next_X=None, terminal=None):
        """Fit the values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            States.
        y : array-like of shape (n_samples,)
            Rewards of leaving them.
        next_X : array-like of shape (n_samples, n_features), default=None
            The states that follow; None where all are the last ones, which leaves a regression on
            the rewards.
        terminal : array-like of bool of shape (n_samples,), default=None
            Whether nothing follows; None for nowhere.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, rewards = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        rewards = column_or_1d(rewards).astype(np.float64)
        discount = self._discounts(len(rewards), next_X, terminal)
        if next_X is not None:
            next_X = check_array(next_X, dtype=X.dtype, input_name="next_X")
            check_consistent_length(X, next_X)
            if next_X.shape[1] != X.shape[1]:
                raise ValueError(f"next_X has {next_X.shape[1]} features, X has {X.shape[1]}")
        network = self._make_network(rewards, discount)
        data = network._encode(X, rewards, None, reset=True)
        network._build(data, check_random_state(network._setting("random_state")))
        for iteration in range(self.n_iterations):
            if iteration % self.target_refresh == 0 and next_X is not None:
                target = self._targets(network, rewards, discount, next_X)
                data = data._replace(y=target.to(data.inputs[0].dtype))
            network._train(data, None, self.epochs_per_iteration)
        self.estimator_ = network
        return self

    def _discounts(self, n_samples, next_X, terminal):
        """`gamma` where a state follows, zero elsewhere."""
        if next_X is None:
            if terminal is not None and not np.all(terminal):
                raise ValueError("next_X must be given where terminal is false")
            return np.zeros(n_samples)
        terminal = np.zeros(n_samples, bool) if terminal is None else column_or_1d(terminal)
        check_consistent_length(np.empty(n_samples), terminal)
        return np.where(terminal.astype(bool), 0.0, self.gamma)

    def _make_network(self, rewards, discount):
        network = HistogramLossRegressor() if self.estimator is None else clone(self.estimator)
        seed_estimator(network, check_random_state(self.random_state))
        if getattr(network, "support", None) == "auto" and discount.any():
            if self.gamma == 1:
                raise ValueError("gamma=1 has no bound of the values: set support of estimator")
            low, high = min(rewards.min(), 0.0), max(rewards.max(), 0.0)
            bounds = low / (1 - self.gamma), high / (1 - self.gamma)
            network.set_params(support=bounds if low < high else "auto")
        return network

    def _targets(self, network, rewards, discount, next_X):
        """Standardised targets: numbers, or histograms for "c51"."""
        if getattr(network, "loss", None) == "c51":
            (centers,), (edges,) = network.bin_centers_, network.bin_edges_
            shares = network.predict_histogram(next_X).astype(np.float64)
            return torch.from_numpy(moved_histograms(shares, centers, edges, rewards, discount))
        values = rewards + discount * network.predict(next_X)
        return torch.from_numpy((values[:, None] - network.y_mean_) / network.y_scale_)

    def predict(self, X):
        """Predict values of states.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            States.

        Returns
        -------
        ndarray of shape (n_samples,)
            Values.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self.estimator_.predict(X)


def moved_histograms(shares, centers, edges, rewards, discount):
    """Histograms of reward + discount * next value, projected on the bins; (n, 1, n_bins)."""
    moved = np.zeros((len(shares), 1, shares.shape[1]))
    for share, center in zip(shares.T, centers):
        places = histogram_targets(rewards + discount * center, edges, "two_hot")
        moved[:, 0] += share[:, None] * places
    return moved
