"""Populations of models that play against populations of adversaries."""

from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.optim._mean_field_gda import mean_gradients, particle_steps
from skpapers.utils import check_random_state, draw_seed

from ._bridge import resolve_device
from ._net import DivergenceError
from ._population import (
    GroupGame,
    Population,
    ShiftGame,
    endless_batches,
    gain_by_deviating,
    initial_particles,
    largest_moment,
)
from ._random import torch_generator

__all__ = ["RobustMixtureClassifier", "RobustMixtureRegressor"]

_MAX_GROUPS = 10  # clusters of rows that stand for groups where none are given
_PREDICT_ROWS = 8192


class _RobustMixture(BaseEstimator):
    """What the classifier and the regressor share: the game and its dynamics."""

    _parameter_constraints = {
        "n_models": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "adversary": [StrOptions({"reweight", "feature_shift"})],
        "radius": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="left")],
        "scale_ratio": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }
    _search_space = {"radius": [0.0, 0.25, 0.5, 1.0], "lr": [0.05, 0.1, 0.3]}

    @staticmethod
    def _small_params():
        return {"max_epochs": 60, "n_models": 5}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, groups=None):
        """Fit the population of models, and that of adversaries.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        groups : array-like of shape (n_samples,), default=None
            Label of the group of each row, which ``adversary="reweight"`` weights; None for
            clusters of the rows.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.adversary == "reweight" and self.radius > 1:
            raise ValueError(f"radius must be at most 1 to reweight, got {self.radius!r}")
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], **self._target_checks)
        rng = check_random_state(self.random_state)
        generator, device = torch_generator(rng), resolve_device(self.device)
        target, n_outputs = self._encode(y, X.dtype)
        scaler = StandardScaler().fit(X)
        Z = scaler.transform(X)
        rows = torch.from_numpy(Z), torch.from_numpy(target)
        sizes = (X.shape[1], *np.ravel(self.hidden_layer_sizes).astype(int), n_outputs)
        particles = initial_particles(self.n_models, sizes, generator, rows[0].dtype)
        moments = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
        module = Population(particles, sizes, *moments)
        self.module_ = module.to(device).eval()
        game = self._make_game(Z, groups, rng)
        self._play(game, tuple(tensor.to(device) for tensor in rows), generator)
        return self

    def _make_game(self, Z, groups, rng):
        self.groups_ = None
        if self.adversary == "feature_shift":
            return ShiftGame(self.module_, self.radius)
        groups = _clusters(Z, rng) if groups is None else column_or_1d(groups)
        check_consistent_length(Z, groups)
        self.groups_, index = np.unique(groups, return_inverse=True)
        particles = self.module_.particles
        index = torch.from_numpy(index).to(particles.device)
        return GroupGame(self.module_, self.radius, index, particles.dtype)

    def _play(self, game, rows, generator):
        """Both populations move on one batch after another."""
        n = len(rows[0])
        size = min(self.batch_size or n, n)
        # A mean square has the second moments as curvature; those of a group may be larger.
        self.step_size_ = min(self.lr, 0.5 / largest_moment(rows[0], generator))
        batches = endless_batches(n, size, generator, rows[0].device)

        def gradients(models, adversaries):
            return mean_gradients(partial(game.payoffs, rows, next(batches)), models, adversaries)

        steps = particle_steps(
            gradients,
            self.module_.particles.detach(),
            game.start(self.n_models, generator),
            n_steps=self.max_epochs * -(-n // size),
            step_size=self.step_size_,
            scale_ratio=self.scale_ratio,
            temperature=lambda t: self.temperature,
            keep_x=lambda models: models,
            keep_y=game.keep,
            generator=generator,
        )
        values = []
        for state in steps:
            values.append(state[-1])
        models, adversaries, _ = state
        if not (torch.isfinite(models).all() and torch.isfinite(adversaries).all()):
            raise DivergenceError(
                f"the models diverged with a step of {self.step_size_:.2g}: lower lr"
            )
        self.n_iter_ = self.max_epochs
        self.loss_curve_ = torch.stack(values).reshape(self.max_epochs, -1).mean(1).tolist()
        payoffs = partial(game.payoffs, rows, next(batches))
        self.ni_error_ = gain_by_deviating(payoffs, models, adversaries, game.keep)
        self._keep_particles(game, models, adversaries)

    def _keep_particles(self, game, models, adversaries):
        with torch.no_grad():
            self.module_.particles.copy_(models)
        self.particles_x_, self.particles_y_ = models.cpu().numpy(), adversaries.cpu().numpy()
        weights = game.mean_weights(adversaries)
        self.adversary_weights_ = None if weights is None else weights.cpu().numpy()

    def _mean_output(self, X):
        """Mean over the models of what `_combine` makes of their outputs."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        with torch.inference_mode():
            pieces = torch.from_numpy(np.array(X, order="C")).split(_PREDICT_ROWS)
            device = self.module_.center.device
            outputs = [self._combine(self.module_(p.to(device))).mean(0).cpu() for p in pieces]
        return torch.cat(outputs).numpy().astype(X.dtype, copy=False)


class RobustMixtureClassifier(ClassifierMixin, _RobustMixture):
    """Classify by a population of models that plays against a population of adversaries.

    The adversaries weight groups of rows, or shift all rows, so as to raise the mean loss; the
    models lower it. Both follow noisy gradients on two time scales, towards a mixed equilibrium.
    A group that is rare, and that plain training would sacrifice, thereby gets its weight.

    Parameters
    ----------
    n_models : int, default=20
        Number of models, and of adversaries.
    hidden_layer_sizes : int or array-like of shape (n_layers,), default=()
        Widths of the hidden layers of tanh units; () for linear models.
    adversary : {"reweight", "feature_shift"}, default="reweight"
        "reweight" weights the groups of rows; "feature_shift" adds a vector to all rows.
    radius : float, default=0.5
        Power of the adversary: the share of the weight of the groups that it sets, in [0, 1],
        where 0 is plain training; or the largest length of a shift, in standard deviations of the
        features.
    temperature : float, default=0.001
        Weight of the entropies, in units of the loss: the spread of both populations.
    scale_ratio : float, default=5.0
        Speed of the adversaries relative to the models; 0 freezes them.
    max_epochs : int, default=300
        Passes over the rows.
    lr : float, default=0.1
        Step size of the models; less where correlated features would make it unstable.
    batch_size : int, default=None
        Rows a step; None for all.
    device : str or torch.device, default="auto"
        Where to train; "auto" is CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of the first models, the noise, the batches and the clusters.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    module_ : torch.nn.Module
        From rows to the logits of all models, of shape (n_models, n_samples, n_classes).
    particles_x_ : ndarray of shape (n_models, n_parameters)
        Parameters of the models, for standardised features: weights, then biases, layer by layer.
    particles_y_ : ndarray of shape (n_models, n_groups) or (n_models, n_features)
        Adversaries: logits of the groups, or shifts in standard deviations.
    adversary_weights_ : ndarray of shape (n_groups,) or None
        Mean weight of each group, in the order of `groups_`; None for shifts.
    groups_ : ndarray of shape (n_groups,) or None
        Labels of the groups; None for shifts.
    ni_error_ : float
        Nikaido-Isoda error of the game without entropy, by local search from all particles, on
        one batch. A lower bound.
    loss_curve_ : list of float
        Mean payoff of each epoch, penalties included.
    step_size_ : float
        Step size used: `lr`, or half the inverse of the largest eigenvalue of the correlations.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step costs ``n_models`` gradients of the loss of a batch, and ``n_models ** 2`` for
    "feature_shift". Without `groups` the rows are clustered by k-means, in ten clusters at most,
    of five rows or more each on average: robustness is then against a change of the mix of these.
    The weights of a group that is always hard, such as one of wrong labels, rise too. There is a
    ridge penalty of 0.001 on the weights, and one of 0.005 on the logits of the adversaries.

    References
    ----------
    .. [1] Y. Lu, "Two-Scale Gradient Descent Ascent Dynamics Finds Mixed Nash Equilibria of
       Continuous Games: A Mean-Field Perspective", ICML 2023, arXiv:2212.08791, section 1.

    Examples
    --------
    A feature that is right for all but a small group:

    >>> import numpy as np
    >>> from skpapers.neural_network import RobustMixtureClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([-1, 1], 1000)
    >>> rare = rng.random(1000) < 0.1
    >>> X = np.column_stack([y + rng.normal(size=1000), np.where(rare, -y, y)])
    >>> model = RobustMixtureClassifier(radius=1.0, random_state=0).fit(X, y, groups=rare)
    >>> model.adversary_weights_[1] > 0.3, model.score(X[rare], y[rare]) > 0.6
    (np.True_, True)
    """

    _target_checks = {}

    def __init__(
        self,
        n_models=20,
        hidden_layer_sizes=(),
        adversary="reweight",
        radius=0.5,
        temperature=1e-3,
        scale_ratio=5.0,
        max_epochs=300,
        lr=0.1,
        batch_size=None,
        device="auto",
        random_state=None,
    ):
        self.n_models = n_models
        self.hidden_layer_sizes = hidden_layer_sizes
        self.adversary = adversary
        self.radius = radius
        self.temperature = temperature
        self.scale_ratio = scale_ratio
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _encode(self, y, dtype):
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "RobustMixtureClassifier needs at least two classes; y has one class: "
                f"{self.classes_[0]!r}"
            )
        return index.astype(np.int64), len(self.classes_)

    def _combine(self, outputs):
        return outputs.softmax(-1)

    def predict_proba(self, X):
        """Average the class probabilities of the models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return self._mean_output(X)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The class of the largest mean probability.
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class RobustMixtureRegressor(RegressorMixin, _RobustMixture):
    """Regress by a population of models that plays against a population of adversaries.

    The adversaries weight groups of rows, or shift all rows, so as to raise the mean squared
    error; the models lower it. Both follow noisy gradients on two time scales, towards a mixed
    equilibrium. The prediction is the mean of the models.

    Parameters
    ----------
    n_models : int, default=20
        Number of models, and of adversaries.
    hidden_layer_sizes : int or array-like of shape (n_layers,), default=()
        Widths of the hidden layers of tanh units; () for linear models.
    adversary : {"reweight", "feature_shift"}, default="reweight"
        "reweight" weights the groups of rows; "feature_shift" adds a vector to all rows.
    radius : float, default=0.5
        Power of the adversary: the share of the weight of the groups that it sets, in [0, 1],
        where 0 is plain training; or the largest length of a shift, in standard deviations of the
        features.
    temperature : float, default=0.001
        Weight of the entropies, in units of the loss of the standardised target: the spread of
        both populations.
    scale_ratio : float, default=5.0
        Speed of the adversaries relative to the models; 0 freezes them.
    max_epochs : int, default=300
        Passes over the rows.
    lr : float, default=0.1
        Step size of the models; less where correlated features would make it unstable.
    batch_size : int, default=None
        Rows a step; None for all.
    device : str or torch.device, default="auto"
        Where to train; "auto" is CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of the first models, the noise, the batches and the clusters.

    Attributes
    ----------
    y_mean_ : float
        Mean of the target.
    y_scale_ : float
        Standard deviation of the target.
    module_ : torch.nn.Module
        From rows to the outputs of all models, of shape (n_models, n_samples, 1), for the
        standardised target.
    particles_x_ : ndarray of shape (n_models, n_parameters)
        Parameters of the models, for standardised features: weights, then biases, layer by layer.
    particles_y_ : ndarray of shape (n_models, n_groups) or (n_models, n_features)
        Adversaries: logits of the groups, or shifts in standard deviations.
    adversary_weights_ : ndarray of shape (n_groups,) or None
        Mean weight of each group, in the order of `groups_`; None for shifts.
    groups_ : ndarray of shape (n_groups,) or None
        Labels of the groups; None for shifts.
    ni_error_ : float
        Nikaido-Isoda error of the game without entropy, by local search from all particles, on
        one batch. A lower bound.
    loss_curve_ : list of float
        Mean payoff of each epoch, penalties included.
    step_size_ : float
        Step size used: `lr`, or half the inverse of the largest eigenvalue of the correlations.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step costs ``n_models`` gradients of the loss of a batch, and ``n_models ** 2`` for
    "feature_shift". Without `groups` the rows are clustered by k-means, see
    :class:`RobustMixtureClassifier`. Groups with much noise, which nothing can fit, get a large
    weight too.

    References
    ----------
    .. [1] Y. Lu, "Two-Scale Gradient Descent Ascent Dynamics Finds Mixed Nash Equilibria of
       Continuous Games: A Mean-Field Perspective", ICML 2023, arXiv:2212.08791, section 1.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.neural_network import RobustMixtureRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = RobustMixtureRegressor(random_state=0).fit(X, y, groups=X[:, 1] > 0)
    >>> model.score(X, y) > 0.45, model.adversary_weights_.shape
    (True, (2,))
    """

    _target_checks = {"y_numeric": True}

    def __init__(
        self,
        n_models=20,
        hidden_layer_sizes=(),
        adversary="reweight",
        radius=0.5,
        temperature=1e-3,
        scale_ratio=5.0,
        max_epochs=300,
        lr=0.1,
        batch_size=None,
        device="auto",
        random_state=None,
    ):
        self.n_models = n_models
        self.hidden_layer_sizes = hidden_layer_sizes
        self.adversary = adversary
        self.radius = radius
        self.temperature = temperature
        self.scale_ratio = scale_ratio
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _encode(self, y, dtype):
        y = np.asarray(y, dtype=np.float64)
        self.y_mean_, spread = float(y.mean()), float(y.std())
        self.y_scale_ = spread if spread > 0 else 1.0
        return ((y - self.y_mean_) / self.y_scale_).astype(dtype), 1

    def _combine(self, outputs):
        return outputs[..., 0] * self.y_scale_ + self.y_mean_

    def predict(self, X):
        """Average the predictions of the models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        return self._mean_output(X)


def _clusters(Z, rng):
    """k-means clusters of the rows; fewer than ten where rows are few or equal."""
    n_clusters = max(1, min(_MAX_GROUPS, len(Z) // 5, len(np.unique(Z, axis=0))))
    return KMeans(n_clusters, n_init=1, random_state=draw_seed(rng)).fit_predict(Z)
