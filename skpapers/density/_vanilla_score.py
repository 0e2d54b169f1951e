"""Sampling multimodal data with one noise-free score and chains that start at the data."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skpapers.neural_network import input_gradient, make_mlp, torch_generator
from skpapers.processes import (
    EnergyMLP,
    StandardizedDensity,
    implicit_score_loss,
    metropolis_adjusted_langevin,
    unadjusted_langevin,
)
from skpapers.utils import check_random_state, draw_seed

from ._fourier_potential import FourierPotential, solve_implicit_score_matching

__all__ = ["ScoreMatchingSampler", "data_initialized_langevin"]

_MAX_EXACT_DIVERGENCE = 16
_MAX_ROWS_FOR_SPREAD = 2000


def _has_energy(estimator):
    return estimator.model in ("energy", "kernel")


class ScoreMatchingSampler(StandardizedDensity):
    """Sampler of tables with clusters: a score without noise levels, and chains from the data.

    The score, the gradient of the log density, is learned by implicit score matching. Short
    Langevin chains that start at the training rows then draw new rows: the proportions of the
    clusters come from the data, their shapes from the score, which does not see proportions.

    Parameters
    ----------
    model : {"energy", "vector", "kernel"} or callable, default="energy"
        "energy": minus the gradient of a network with one output plus a quadratic. "vector": a
        network with one output a column. "kernel": the gradient of a combination of random
        Fourier features, in closed form. A function of the number of columns that returns a
        torch module from rows to scores.
    hidden_layer_sizes : array-like of int, default=(64, 64)
        Widths of the hidden layers.
    tail : float, default=3.0
        Width of the quadratic of "energy", in standard deviations of the columns.
    n_components : int, default=500
        Number of Fourier features of "kernel".
    ridge : float, default=1e-3
        Penalty on their coefficients.
    divergence : {"auto", "exact", "hutchinson"}, default="auto"
        Exact, or estimated with random signs. "auto" is exact for "energy", where derivatives are
        propagated forward, and up to 16 columns for the others, which need a backward pass each.
    step_size : "auto" or float, default="auto"
        Step h of the chains, in squared units of standardised columns. "auto" is 0.05 v, with v
        the median squared distance to the sqrt(n)-th neighbour over the number of columns.
    n_steps : "auto" or int, default="auto"
        Number of steps; "auto" is 5 v / h, some five relaxation times within a cluster. Long
        chains lose the proportions of the clusters.
    init : {"data", "normal"}, default="data"
        Where the chains start: at training rows, or at draws from the Gaussian with the means
        and variances of the columns (which misses the proportions).
    metropolis : bool, default=False
        Correct the steps so that they leave the modelled density invariant; for models that have
        an energy.
    optimizer : str or callable, default="adamw"
        Registered name, or a function from parameters to an optimizer.
    lr : float, default=5e-3
        Learning rate, which falls to zero as a cosine.
    weight_decay : float, default=1e-4
        Weight decay.
    max_epochs : int, default=200
        Number of passes over the data.
    batch_size : int, default=128
        Rows a batch.
    early_stopping : bool, default=True
        Keep the state that is best on held-out rows: the loss on the training rows has no bound.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    n_iter_no_change : int, default=20
        Epochs without improvement after which training ends.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" is that of X.
    device : str, default="auto"
        Torch device; "auto" is CUDA where there is one.
    verbose : int or bool, default=0
        Show a progress bar.
    random_state : int, RandomState instance or None, default=None
        Seeds initialisation, batches, probes and samples.

    Attributes
    ----------
    X_init_ : ndarray of shape (n_samples, n_features)
        Training rows, where chains start.
    y_init_ : ndarray of shape (n_samples,) or None
        Their labels, if given.
    step_size_ : float
        Step used.
    n_steps_ : int
        Number of steps used.
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    scale_ : ndarray of shape (n_features,)
        Standard deviations of the columns.
    best_iter_ : int
        Epoch of the state that was kept, with early stopping.
    validation_scores_ : list of float
        Minus the held-out loss of each epoch, with early stopping.
    net_ : skorch.NeuralNet
        The trained net.
    module_ : torch.nn.Module
        The energy, or the score.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Training losses.
    n_iter_ : int
        Number of epochs run, 0 for "kernel".
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    An epoch with exact divergences costs n_features times one with estimates; sampling takes one
    evaluation of the score a step. The energy is not a
    likelihood: its values in separate clusters cannot be compared. With few steps samples stay
    close to training rows, which then can be recognised. The kernel of "kernel" is as wide as the
    median distance of two rows: it smooths over clusters that are much smaller.

    References
    ----------
    Koehler and Vuong, "Sampling Multimodal Distributions with the Vanilla Score: Benefits of
    Data-Based Initialization", ICLR 2024, arXiv:2310.01762.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from skpapers.density import ScoreMatchingSampler
    >>> X, _ = make_blobs([30, 90], centers=[[-8.0, 0.0], [8.0, 0.0]], random_state=0)
    >>> sampler = ScoreMatchingSampler(random_state=0).fit(X)
    >>> new = sampler.sample(1000)
    >>> bool(abs((new[:, 0] < 0).mean() - 0.25) < 0.05)
    True
    """

    _training_defaults = {"lr_schedule": "cosine"}
    _parameter_constraints = {
        "model": [StrOptions({"energy", "vector", "kernel"}), callable],
        "hidden_layer_sizes": ["array-like"],
        "tail": [Interval(Real, 0, None, closed="neither")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "divergence": [StrOptions({"auto", "exact", "hutchinson"})],
        "step_size": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "n_steps": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "init": [StrOptions({"data", "normal"})],
        "metropolis": ["boolean"],
    }
    _search_space = {"model": ["energy", "kernel"], "lr": [2e-3, 5e-3, 1e-2]}

    def __init__(
        self,
        model="energy",
        *,
        hidden_layer_sizes=(64, 64),
        tail=3.0,
        n_components=500,
        ridge=1e-3,
        divergence="auto",
        step_size="auto",
        n_steps="auto",
        init="data",
        metropolis=False,
        optimizer="adamw",
        lr=5e-3,
        weight_decay=1e-4,
        max_epochs=200,
        batch_size=128,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=20,
        dtype="auto",
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.model = model
        self.hidden_layer_sizes = hidden_layer_sizes
        self.tail = tail
        self.n_components = n_components
        self.ridge = ridge
        self.divergence = divergence
        self.step_size = step_size
        self.n_steps = n_steps
        self.init = init
        self.metropolis = metropolis
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @staticmethod
    def _small_params():
        return {"hidden_layer_sizes": (16,), "max_epochs": 5}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Labels, of any kind, by which `sample` may choose where chains start.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.metropolis and not _has_energy(self):
            raise ValueError(f"metropolis=True needs a model with an energy, got {self.model!r}")
        self._fit(X)
        self.y_init_ = None
        if y is not None:
            check_consistent_length(self.X_init_, y)
            self.y_init_ = column_or_1d(y)
        return self

    # Training.

    def _learn_scale(self, X):
        super()._learn_scale(X)
        self.X_init_ = X

    def _make_module(self):
        n_features, hidden = self.n_features_in_, self.hidden_layer_sizes
        if self.model == "energy":
            return EnergyMLP(n_features, hidden, tail=self.tail)
        if self.model == "vector":
            return make_mlp(n_features, hidden, n_features, activation="silu")
        if self.model == "kernel":
            return FourierPotential(n_features, self.n_components)
        return self.model(n_features)

    def _score(self, module, x, *, create_graph=False):
        if not _has_energy(self):
            return module(x)
        return -input_gradient(module, x, create_graph=create_graph)[1]

    def _standardized_score(self, module, x):
        return self._score(module, x)

    def _probes(self, x, generator):
        """Random signs, or None where the divergence is exact."""
        exact = self.n_features_in_ <= _MAX_EXACT_DIVERGENCE
        if self.divergence == "exact" or (self.divergence == "auto" and exact):
            return None
        signs = torch.randint(2, (1, *x.shape), generator=generator, dtype=x.dtype)
        return (2 * signs - 1).to(x.device)

    def _objective(self, module, x, generator, *, create_graph):
        if self.model == "energy" and self.divergence != "hutchinson":
            score, divergence = module.score_and_divergence(x)
            return 0.5 * score.square().sum(1) + divergence
        return implicit_score_loss(
            lambda z: self._score(module, z, create_graph=True),
            x,
            self._probes(x, generator),
            create_graph=create_graph,
        )

    def _loss(self, module, batch):
        return self._objective(module, batch.inputs[0], self.net_.generator_, create_graph=True)

    def _validation_score(self, module, data):
        # the same signs in every epoch
        same = torch.Generator().manual_seed(0)
        return -self._objective(module, data.inputs[0], same, create_graph=False).mean().item()

    def _train(self, train, validation, epochs):
        if self.model != "kernel":
            return super()._train(train, validation, epochs)
        with torch.no_grad():
            module, x = self.net_.module_, train.inputs[0].to(self._device())
            solve_implicit_score_matching(module, x, self.ridge)
        self.net_.module_.eval()
        self._on_fit_end(train)
        return self

    def _on_fit_end(self, data):
        rng = check_random_state(self.random_state)
        spread = local_variance(data.inputs[0].numpy(), rng)
        self.step_size_ = 0.05 * spread if self.step_size == "auto" else float(self.step_size)
        if self.n_steps == "auto":
            self.n_steps_ = math.ceil(round(5 * spread / (self.step_size_ or 1.0), 6))
        else:
            self.n_steps_ = self.n_steps

    # Use.

    def sample(self, n_samples=1, random_state=None, *, y=None, init=None, n_steps=None):
        """Draw new rows by short chains.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance, Generator or None, default=None
            Seed; None for that of the estimator.
        y : object, default=None
            Start at training rows with this label only.
        init : array-like of shape (n_init, n_features), default=None
            Rows to start at, drawn with replacement, instead of the training rows.
        n_steps : int, default=None
            Number of steps; None for `n_steps_`, 0 for rows as they are.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows.

        Raises
        ------
        ValueError
            If no training row has the label `y`.
        """
        check_is_fitted(self)
        seed = self.random_state if random_state is None else random_state
        rng = check_random_state(seed)
        start = self._starting_rows(n_samples, y, init, rng)
        n_steps = self.n_steps_ if n_steps is None else n_steps
        if n_steps == 0:
            return start
        x = torch.from_numpy(self._standardize(start)).to(self._device())
        x = x.to(next(self.module_.parameters()).dtype)
        x = self._run_chains(x, n_steps, torch_generator(rng))
        return self._to_data_units(x.cpu().numpy())

    def _starting_rows(self, n_samples, y, init, rng):
        if init is None and self.init == "normal" and y is None:
            normal = rng.normal(size=(n_samples, self.n_features_in_))
            return self._to_data_units(normal).astype(self.X_init_.dtype)
        rows = self.X_init_
        if init is not None:
            rows = check_array(init, dtype=rows.dtype, input_name="init")
        elif y is not None:
            if self.y_init_ is None or not (self.y_init_ == y).any():
                raise ValueError(f"no row with label y={y!r} was seen in fit")
            rows = rows[self.y_init_ == y]
        return rows[rng.randint(len(rows), size=n_samples)]

    def _run_chains(self, x, n_steps, generator):
        options = {"step_size": self.step_size_, "n_steps": n_steps, "generator": generator}
        module = self.module_
        if self.metropolis:

            def density(x):
                energy, slope = input_gradient(module, x)
                return -energy, -slope

            return metropolis_adjusted_langevin(density, x, **options)[0]
        with torch.no_grad():
            return unadjusted_langevin(lambda x: self._score(module, x), x, **options)

    @available_if(_has_energy)
    def energy(self, X):
        """Compute the energy, minus the log density up to a constant of each cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Energies: comparable within a cluster, not across separated ones.
        """
        return self._predict(lambda module, inputs: module(*inputs), X)

    def score(self, X, y=None):
        """Compute minus the objective of implicit score matching.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the mean of |s|^2 / 2 + div s on standardised columns; larger is better.
        """
        check_is_fitted(self)
        (X,), _ = self._parse(X, reset=False)
        x = torch.from_numpy(X).to(self._device(), next(self.module_.parameters()).dtype)
        same = torch.Generator().manual_seed(0)
        objective = self._objective(self.module_, x, same, create_graph=False)
        return -objective.mean().item()


def local_variance(X, rng):
    """Median squared distance to the sqrt(n)-th neighbour, over the number of columns."""
    n_samples, n_features = X.shape
    if n_samples == 1:
        return 0.0
    k = min(math.ceil(math.sqrt(n_samples)), n_samples - 1)
    queries = X[rng.permutation(n_samples)[:_MAX_ROWS_FOR_SPREAD]]
    distances, _ = NearestNeighbors(n_neighbors=k + 1).fit(X).kneighbors(queries)
    return float(np.median(distances[:, k] ** 2) / n_features)


@validate_params(
    {
        "score": [callable],
        "X": ["array-like"],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def data_initialized_langevin(score, X, n_samples, *, step_size, n_steps, random_state=None):
    """Run short Langevin chains that start at data.

    Parameters
    ----------
    score : callable
        Score function: maps arrays (n, n_features) to arrays of the same shape.
    X : array-like of shape (n_rows, n_features)
        Rows where chains start, drawn with replacement.
    n_samples : int
        Number of chains.
    step_size : float
        Step h of x + h score(x) + sqrt(2h) noise, in squared units of X.
    n_steps : int
        Number of steps: about the relaxation time within a mode over h.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the starts and the noise.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        End points.

    References
    ----------
    Koehler and Vuong, "Sampling Multimodal Distributions with the Vanilla Score: Benefits of
    Data-Based Initialization", ICLR 2024, arXiv:2310.01762 (Theorem 1).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import data_initialized_langevin
    >>> X = np.array([[-6.0], [6.0], [6.0], [6.0]])
    >>> x = data_initialized_langevin(
    ...     lambda x: 6 * np.sign(x) - x, X, 1000, step_size=0.1, n_steps=30, random_state=0
    ... )
    >>> bool(abs((x > 0).mean() - 0.75) < 0.05)
    True
    """
    X = check_array(X, dtype=np.float64)
    rng = check_random_state(random_state)
    start = torch.from_numpy(X[rng.randint(len(X), size=n_samples)])
    end = unadjusted_langevin(
        lambda x: torch.as_tensor(score(x.numpy())),
        start,
        step_size=step_size,
        n_steps=n_steps,
        generator=torch.Generator().manual_seed(draw_seed(rng)),
    )
    return end.numpy()
