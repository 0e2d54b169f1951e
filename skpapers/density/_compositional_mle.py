"""Maximum likelihood for unnormalised models by compositional optimisation."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skpapers.neural_network import input_gradient
from skpapers.processes import EnergyMLP, StandardizedDensity, metropolis_adjusted_langevin
from skpapers.utils import check_random_state, draw_seed

from ._partition_solvers import (
    EllipticalMixture,
    EnergyModel,
    PartitionSolver,
    QuadraticEnergy,
    log_mean_exp,
)

__all__ = ["CompositionalEnergyDensity"]

_INFLATION = 1.2
_DEGREES_OF_FREEDOM = 5
_SMALLEST_VARIANCE = 1e-3
_N_VALIDATION_DRAWS = 2048
_SMALLEST_EFFECTIVE_SHARE = 0.01


class CompositionalEnergyDensity(StandardizedDensity):
    """Density exp(-E(x)) / Z of an energy network, trained by maximum likelihood without chains.

    The log likelihood is a function of an expectation, Z, under a noise law. Its gradient divides
    by a moving average of estimates of Z, so that small batches do not bias it, and log Z is
    known: densities are normalised.

    Parameters
    ----------
    energy : {"mlp", "quadratic"} or callable, default="mlp"
        "mlp": a network with SiLU units plus a quadratic. "quadratic": a Gaussian. Or a
        function of the number of columns that returns a torch module from standardised rows (n,
        n_features) to energies (n,), with exp(-energy) integrable.
    noise : {"student", "gaussian", "gmm", "kde"} or object, default="student"
        Law that Z is an expectation of: the closer to the data, the better. "student" and
        "gaussian" have 1.2 times the covariance of the rows, "student" 5 degrees of freedom;
        "gmm" is a :class:`~sklearn.mixture.GaussianMixture` and "kde" a kernel density with
        Scott's bandwidth, inflated alike. Or an object with `sample(n_samples, random_state)` and
        `score_samples(X)`.
    solver : {"meco", "meco_vr", "nce", "mle_is"}, default="meco"
        "meco": moving average of the estimates of Z. "meco_vr": the same with variance
        reduction. "nce": noise-contrastive estimation with a learned log Z. "mle_is": each
        estimate of Z by its own batch, which is biased.
    beta : float, default=0.1
        Weight of the new estimate in the moving average, which falls to a tenth over the epochs.
    noise_ratio : float, default=4.0
        Draws of the noise for each row of a batch.
    hidden_layer_sizes : array-like of int, default=(64, 64)
        Widths of the hidden layers of "mlp".
    tail : float, default=4.0
        The quadratic of "mlp" is |x - mean|^2 / (2 tail^2) in the metric of the covariance.
    n_partition : int, default=100000
        Draws of the noise for `log_partition_`.
    n_mcmc_steps : int, default=50
        Langevin steps of `sample`.
    optimizer : str or callable, default="adam"
        Registered name, or a function from parameters to an optimizer.
    lr : float, default=1e-2
        Learning rate, which falls to zero as a cosine.
    weight_decay : float, default=0.0
        Weight decay.
    max_epochs : int, default=200
        Number of passes over the data.
    batch_size : int, default=128
        Rows a batch.
    early_stopping : bool, default=True
        Keep the state with the best likelihood of held-out rows.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    n_iter_no_change : int, default=50
        Epochs without improvement after which training ends.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" is that of X.
    device : str, default="auto"
        Torch device; "auto" is CUDA where there is one.
    verbose : int or bool, default=0
        Show a progress bar.
    random_state : int, RandomState instance or None, default=None
        Seeds initialisation, batches, noise and samples.

    Attributes
    ----------
    log_partition_ : float
        Log of Z on standardised columns.
    effective_sample_size_ : float
        Effective number of the `n_partition` draws: a warning says when it is below 1 %.
    log_u_history_ : list of float
        Log of the moving average after each epoch; empty for "nce".
    noise_ : object
        The noise, on standardised columns.
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    scale_ : ndarray of shape (n_features,)
        Standard deviations of the columns.
    best_iter_ : int
        Epoch of the state that was kept, with early stopping.
    validation_scores_ : list of float
        Mean log likelihood of held-out rows after each epoch, with early stopping.
    net_ : skorch.NeuralNet
        The trained net.
    module_ : torch.nn.Module
        The energy.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Training losses.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    A step evaluates the energy on one batch of rows and one of noise. Covariances have
    eigenvalues of at least 1e-3 of the variance of a column: a density on a plane has none.

    With noise far from the data the moving average makes fast progress where noise-contrastive
    estimation stalls, but does not settle; with noise fitted to the data (the default) it does,
    and there noise-contrastive estimation converges as fast. In many dimensions the effective
    sample size is small, log Z is uncertain, and log densities are to be compared only with each
    other.

    References
    ----------
    Jiang, Qin, Wu, Chen, Yang and Zhang, "Learning Unnormalized Statistical Models via
    Compositional Optimization", ICML 2023, arXiv:2306.07485 (Algorithm 1).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import CompositionalEnergyDensity
    >>> X = np.random.RandomState(0).normal(size=(500, 1))
    >>> density = CompositionalEnergyDensity("quadratic", random_state=0).fit(X)
    >>> density.score_samples([[0.0]]).round(1)  # -log(2 pi) / 2 for the truth
    array([-0.9])
    """

    _training_defaults = {"lr_schedule": "cosine"}
    _parameter_constraints = {
        "energy": [StrOptions({"mlp", "quadratic"}), callable],
        "noise": [
            StrOptions({"student", "gaussian", "gmm", "kde"}),
            HasMethods(["sample", "score_samples"]),
        ],
        "solver": [StrOptions({"meco", "meco_vr", "nce", "mle_is"})],
        "beta": [Interval(Real, 0, 1, closed="right")],
        "noise_ratio": [Interval(Real, 0, None, closed="neither")],
        "hidden_layer_sizes": ["array-like"],
        "tail": [Interval(Real, 0, None, closed="neither")],
        "n_partition": [Interval(Integral, 1, None, closed="left")],
        "n_mcmc_steps": [Interval(Integral, 0, None, closed="left")],
    }
    _search_space = {"noise": ["student", "gaussian"], "tail": [2.0, 4.0]}
    _even_batches = True

    def __init__(
        self,
        energy="mlp",
        *,
        noise="student",
        solver="meco",
        beta=0.1,
        noise_ratio=4.0,
        hidden_layer_sizes=(64, 64),
        tail=4.0,
        n_partition=100_000,
        n_mcmc_steps=50,
        optimizer="adam",
        lr=1e-2,
        weight_decay=0.0,
        max_epochs=200,
        batch_size=128,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=50,
        dtype="auto",
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.energy = energy
        self.noise = noise
        self.solver = solver
        self.beta = beta
        self.noise_ratio = noise_ratio
        self.hidden_layer_sizes = hidden_layer_sizes
        self.tail = tail
        self.n_partition = n_partition
        self.n_mcmc_steps = n_mcmc_steps
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
        return {"hidden_layer_sizes": (16,), "max_epochs": 5, "n_partition": 10_000}

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Make one pass over the given rows, continuing from the present state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; the first call sets the scale of the columns and the noise.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X)

    # Training.

    def _make_module(self):
        n_features = self.n_features_in_
        if self.energy == "mlp":
            return EnergyModel(EnergyMLP(n_features, self.hidden_layer_sizes, "silu", self.tail))
        if self.energy == "quadratic":
            return EnergyModel(QuadraticEnergy(n_features))
        return EnergyModel(self.energy(n_features))

    def _on_fit_begin(self, module, data):
        x = data.inputs[0]
        covariance = raised_covariance(x)
        if self.energy == "mlp":
            module.energy.tail_mean.copy_(x.mean(0))
            module.energy.tail_precision.copy_(torch.linalg.inv(covariance) / self.tail**2)
        self.noise_ = self._make_noise(x, covariance)
        self._solver = PartitionSolver(self.solver)
        self.log_u_history_ = []
        self._beta = self.beta

    def _make_noise(self, x, covariance):
        if not isinstance(self.noise, str):
            return ExternalNoise(self.noise, self.mean_, self.scale_)
        if self.noise in ("student", "gaussian"):
            factor = torch.linalg.cholesky(_INFLATION * covariance)
            df = _DEGREES_OF_FREEDOM if self.noise == "student" else None
            return EllipticalMixture(x.mean(0)[None], factor[None], x.new_ones(1), df)
        if self.noise == "kde":
            bandwidth = len(x) ** (-1 / (x.shape[1] + 4))
            factor = torch.linalg.cholesky(_INFLATION * bandwidth**2 * covariance)
            return EllipticalMixture(x, factor[None], x.new_ones(len(x)) / len(x))
        return self._mixture_noise(x)

    def _mixture_noise(self, x):
        seed = draw_seed(check_random_state(self.random_state))
        n_components = min(10, len(x))
        fitted = GaussianMixture(n_components, reg_covar=_SMALLEST_VARIANCE, random_state=seed)
        fitted.fit(x.numpy())
        covariances = torch.as_tensor(_INFLATION * fitted.covariances_, dtype=x.dtype)
        means, weights = (
            torch.as_tensor(a, dtype=x.dtype) for a in (fitted.means_, fitted.weights_)
        )
        return EllipticalMixture(means, torch.linalg.cholesky(covariances), weights)

    def _on_epoch_begin(self, module, epoch):
        self._beta = self.beta * (1 - 0.9 * min(epoch / self.max_epochs, 1))
        if self._solver.log_average is not None:
            self.log_u_history_.append(float(self._solver.log_average))

    def _loss(self, module, batch):
        x = batch.inputs[0]
        n_draws = max(round(self.noise_ratio * len(x)), 1)
        z = self.noise_.sample(n_draws, self.net_.generator_)
        return self._solver.loss(module, x, z.to(x), OnDevice(self.noise_), self._beta)

    def _validation_score(self, module, data):
        # the same draws in every epoch
        same = torch.Generator().manual_seed(0)
        log_ratios = self._log_ratios(module, _N_VALIDATION_DRAWS, same)[1]
        return -(module(data.inputs[0]).mean().item() + log_mean_exp(log_ratios).item())

    def _log_ratios(self, module, n_draws, generator):
        """Draws of the noise, and the logs of exp(-E) / q there."""
        z = self.noise_.sample(n_draws, generator)
        device = next(module.parameters()).device
        parts = [-module(part.to(device)).cpu() - self.noise_.log_density(part)
                 for part in z.split(10_000)]  # fmt: skip
        return z, torch.cat(parts)

    def _on_fit_end(self, data):
        module = self.net_.module_.eval()
        _, log_ratios = self._log_ratios(module, self.n_partition, self.net_.generator_)
        log_ratios = log_ratios.double()
        self.log_partition_ = log_mean_exp(log_ratios).item()
        weights = torch.softmax(log_ratios, 0)
        self.effective_sample_size_ = 1 / weights.square().sum().item()
        if self.effective_sample_size_ < _SMALLEST_EFFECTIVE_SHARE * self.n_partition:
            warnings.warn(
                f"The effective sample size of the partition function is "
                f"{self.effective_sample_size_:.0f} of {self.n_partition}: log densities may be "
                "off by a constant. Choose noise closer to the data.",
                UserWarning,
            )
        self._solver.previous = None

    # Use.

    def _standardized_score(self, module, x):
        return -input_gradient(module, x)[1]

    def energy_samples(self, X):
        """Compute the energy of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Minus the log density, up to a constant.
        """
        return self._predict(lambda module, inputs: module(*inputs), X)

    def score_samples(self, X):
        """Compute the log density of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities in nats.
        """
        energies = self.energy_samples(X)
        return (self._log_scale() - self.log_partition_ - energies).astype(energies.dtype)

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
            In nats a row.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    def sample(self, n_samples=1, random_state=None):
        """Draw rows: noise resampled by its weights, then Langevin steps with correction.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance, Generator or None, default=None
            Seed; None for that of the estimator.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows.
        """
        check_is_fitted(self)
        generator, module = self._sampling_generator(random_state), self.module_
        with torch.no_grad():
            z, log_ratios = self._log_ratios(module, max(20 * n_samples, 10_000), generator)
        chosen = torch.multinomial(
            torch.softmax(log_ratios.double(), 0), n_samples, True, generator=generator
        )
        parameter = next(module.parameters())
        x = z[chosen].to(parameter)
        return self._to_data_units(run_chains(module, x, self.n_mcmc_steps, generator).numpy())


class OnDevice:
    """A noise whose log density is computed on the CPU for points anywhere."""

    def __init__(self, noise):
        self.noise = noise

    def log_density(self, z):
        return self.noise.log_density(z.detach().cpu()).to(z)


class ExternalNoise:
    """A density of the user's, in data units, as noise on standardised columns."""

    def __init__(self, density, mean, scale):
        self.density, self.mean, self.scale = density, mean, scale

    def sample(self, n_samples, generator):
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        drawn = self.density.sample(n_samples, random_state=seed)
        return torch.as_tensor((drawn - self.mean) / self.scale)

    def log_density(self, z):
        log_density = self.density.score_samples(z.numpy() * self.scale + self.mean)
        return torch.as_tensor(log_density + np.log(self.scale).sum(), dtype=z.dtype)


def raised_covariance(x):
    """Covariance of rows, with eigenvalues of at least the smallest variance."""
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    return (vectors * values.clamp(min=_SMALLEST_VARIANCE)) @ vectors.T


def run_chains(energy, x, n_steps, generator, step_size=0.1):
    """Adjusted Langevin steps, with a step that is adapted to accept 40 to 80 % of them."""

    def density(x):
        value, gradient = input_gradient(energy, x)
        return -value, -gradient

    for start in range(0, n_steps, 10):
        x, rate = metropolis_adjusted_langevin(
            density, x, step_size=step_size, n_steps=min(10, n_steps - start), generator=generator
        )
        step_size *= 0.5 if rate < 0.4 else 1.5 if rate > 0.8 else 1.0
    return x.cpu()
