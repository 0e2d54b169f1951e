"""Networks as sparse Gaussian processes: what regression and classification share."""

import copy
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skpapers.neural_network import TorchEstimator, make_mlp
from skpapers.neural_network._self_supervised import check_sizes
from skpapers.utils import check_random_state, draw_seed

from ._dual_gaussian_process import DualGaussianProcess
from ._tangent_features import kernel, kernel_diagonal, network_outputs, tangent_map

__all__ = ["NetworkProcess"]

_TRAINING_PRECISION = 1e-3  # what the network is trained with where the precision is tuned
_PRECISION_GRID = np.append(np.logspace(-6, 1, 20), _TRAINING_PRECISION)
_PROBE_ROWS = 8


class NetworkProcess(TorchEstimator):
    """Training or adoption of the network, and the process on top of it."""

    _parameter_constraints = {
        "module": [nn.Module, callable, HasMethods(["fit", "predict"]), None],
        "hidden_layer_sizes": ["array-like"],
        "activation": [str, callable],
        "n_inducing": [Interval(Integral, 1, None, closed="left")],
        "inducing": [StrOptions({"random", "kmeans"})],
        "jacobian": [StrOptions({"full", "last_layer"})],
        "prior_precision": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "prediction": [StrOptions({"gp", "nn"})],
        "prefit": ["boolean"],
        "jitter": [Interval(Real, 0, 1, closed="neither")],
        "dual_batch_size": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    }
    _training_defaults = {"n_iter_no_change": 20}
    _search_space = {
        "n_inducing": [20, 50],
        "prior_precision": [1e-4, 1e-3, 1e-2],
        "prediction": ["gp", "nn"],
    }
    _validation_score = TorchEstimator._validation_score  # the loss: accuracy and R2 are coarse

    @staticmethod
    def _small_params():
        return {"hidden_layer_sizes": (16,), "n_inducing": 30, "max_epochs": 20}

    @abstractmethod
    def _n_logits(self):
        """Count the outputs of a network that is made here."""

    @abstractmethod
    def _make_likelihood(self, residual_rows, rng):
        """Build the likelihood from rows the network was trained on."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train the network, and turn it into a sparse Gaussian process.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y)

    def _fit(self, X, y):
        if self.prefit and self.module is None:
            raise ValueError("prefit=True needs a fitted module, got module=None")
        rng = check_random_state(self.random_state)
        data = self._encode(X, y, None, reset=True)
        train, held_out = self._split(data, rng)
        self._build(train, rng)
        if not self.prefit:
            self._train(train, held_out if self.early_stopping else None, self.max_epochs)
        self.module_.double().eval()  # the linear algebra below needs all digits
        self._fit_process(data, train, held_out, rng)
        return self

    # The network.

    def _parse(self, X, y="no_validation", *, reset):
        (X,), y = super()._parse(X, y, reset=reset)
        if reset:
            scales = not self.prefit  # a fitted network has seen X as it is
            self._scaler = StandardScaler(with_mean=scales, with_std=scales).fit(X)
        return (self._scaler.transform(X),), y

    def _split(self, data, rng):
        """Hold out rows where training or the precision of the prior is judged by them."""
        if self.prior_precision != "auto" and (self.prefit or not self.early_stopping):
            return data, None
        train, held_out = train_test_split(
            np.arange(data.n_rows),
            test_size=self.validation_fraction,
            random_state=draw_seed(rng),
        )
        return data.take(torch.from_numpy(train)), data.take(torch.from_numpy(held_out))

    def _build_module(self, generator, dtype):
        if self.prefit:
            return _fitted_module(self.module)
        if isinstance(self.module, nn.Module):
            return copy.deepcopy(self.module).to(dtype)
        return super()._build_module(generator, dtype)

    def _make_module(self):
        if self.module is not None:
            return self.module(self.n_features_in_, self._n_logits())
        sizes = check_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        return make_mlp(self.n_features_in_, sizes, self._n_logits(), activation=self.activation)

    def _loss(self, module, batch):
        """Mean negative log likelihood and log prior: their minimum is the MAP estimate."""
        weights = (p for p in module.parameters() if p.requires_grad)
        penalty = sum(p.square().sum() for p in weights)
        losses = self._row_losses(self._output(module, batch.inputs), batch.y)
        return losses.mean() + 0.5 * self._training_precision() * penalty

    def _training_precision(self):
        return _TRAINING_PRECISION if self.prior_precision == "auto" else self.prior_precision

    # The process.

    def _fit_process(self, data, train, held_out, rng):
        inducing = self._choose_inducing(data.inputs[0], rng)
        self.inducing_points_ = self._scaler.inverse_transform(inducing.numpy())
        inducing = inducing.double().to(self._device())
        self._tangent = tangent_map(self.module_, inducing[:_PROBE_ROWS], self.jacobian)
        outputs, self._inducing = self._tangent(inducing)
        self._check_n_outputs(outputs.shape[1])
        self._likelihood = self._make_likelihood(train, rng)
        self._process = DualGaussianProcess(kernel(self._inducing, self._inducing), self.jitter)
        self._prior_rows, self.n_seen_ = data.n_rows, 0
        self._add(train)
        self.prior_precision_ = self._training_precision()
        if self.prior_precision == "auto":
            self.prior_precision_ = self._best_precision(held_out)
        if held_out is not None:
            self._add(held_out)
        self._solve()

    def _choose_inducing(self, X, rng):
        n_inducing = min(self.n_inducing, len(X))
        if self.inducing == "random":
            return X[torch.from_numpy(rng.choice(len(X), n_inducing, replace=False))]
        n_clusters = min(n_inducing, len(torch.unique(X, dim=0)))
        means = KMeans(n_clusters, n_init=1, random_state=draw_seed(rng)).fit(X.numpy())
        return torch.from_numpy(means.cluster_centers_)

    def _add(self, data):
        """Add the duals of rows at the present weights."""
        batches = zip(*(values.split(self.dual_batch_size) for values in (data.inputs[0], data.y)))
        for X, y in batches:
            f, features = self._tangent(X.double().to(self._device()))
            alpha, beta = self._likelihood.duals(f, _as_target(y, f))
            self._process.add(kernel(self._inducing, features), beta, alpha + beta * f)
        self.n_seen_ += data.n_rows

    def _solve(self):
        self._process.set_scale(self.prior_precision_ * self._prior_rows)
        duals = self._process.dual_parameters()
        self.alpha_u_, self.beta_u_, self.t_u_ = (dual.cpu().numpy() for dual in duals)

    def _best_precision(self, data):
        """Precision with the smallest loss on held-out rows; that of the training if none is."""
        f, features = self._tangent(data.inputs[0].double().to(self._device()))
        y = _as_target(data.y, f)
        cross, diagonal = kernel(self._inducing, features), kernel_diagonal(features)
        losses = []
        for precision in _PRECISION_GRID:
            self._process.set_scale(precision * self._prior_rows)
            mean, variance = self._process.marginals(cross, diagonal)
            mean = f if self.prediction == "nn" else mean
            losses.append(-float(self._likelihood.log_density(mean, variance, y).mean()))
        best = int(np.nanargmin(losses))
        return float(_PRECISION_GRID[best if losses[best] < losses[-1] else -1])

    def _update(self, X, y):
        self._add(self._encode(X, y, None, reset=False))
        self._solve()
        return self

    # Prediction.

    def _rows(self, X):
        """Validated rows as the network sees them, and the data type to answer in."""
        check_is_fitted(self, "alpha_u_")
        (X,), _ = self._parse(X, reset=False)
        return torch.tensor(X, dtype=torch.float64, device=self._device()), X.dtype

    def _latent(self, X):
        """Mean and variance of the latent functions at rows (tensors), (n, n_outputs) each."""
        pieces = [self._latent_of_batch(batch) for batch in X.split(self.dual_batch_size)]
        return (torch.cat(parts) for parts in zip(*pieces))

    def _latent_of_batch(self, X):
        f, features = self._tangent(X)
        cross = kernel(self._inducing, features)
        mean, variance = self._process.marginals(cross, kernel_diagonal(features))
        return (f if self.prediction == "nn" else mean), variance

    def nlpd(self, X, y):
        """Compute the mean negative log predictive density of a target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.

        Returns
        -------
        float
            Nats a row, in the units of `y`; smaller is better.
        """
        rows, _ = self._rows(X)
        check_consistent_length(X, y)
        target, _ = self._encode_target(np.asarray(y), None, reset=False)
        mean, variance = self._latent(rows)
        target = _as_target(torch.from_numpy(target), mean)
        log_density = self._likelihood.log_density(mean, variance, target)
        return self._log_units() - float(log_density.mean())

    def _log_units(self):
        return 0.0

    def function_regularizer(self, strength=1.0):
        """Build the penalty that keeps another network close to this process on its data.

        Add it to the loss of the next task, with inputs scaled as here, so that what this one
        has learnt is kept.

        Parameters
        ----------
        strength : float, default=1.0
            Factor of the penalty; a loss that is a mean over rows needs a small one, such as 0.01.

        Returns
        -------
        callable
            From a module to a scalar tensor that is differentiable by its weights: half the mean
            over the inducing points of the squared change of the function there, weighted by
            K_zz^-1 beta_u K_zz^-1.
        """
        check_is_fitted(self, "alpha_u_")
        points, _ = self._rows(self.inducing_points_)
        before, process = network_outputs(self.module_, points), self._process

        def penalty(module):
            inputs = points.to(next(module.parameters()).dtype)
            change = module(inputs).reshape(len(points), -1).double() - before
            return 0.5 * strength * process.precision(change) / len(points)

        return penalty


def _fitted_module(model):
    """A copy of the network of a torch module, a skorch net or a fitted estimator."""
    criterion = getattr(model, "criterion_", None)
    if isinstance(criterion, nn.NLLLoss):
        raise ValueError("module must give logits; its net was trained with NLLLoss")
    module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
    if not isinstance(module, nn.Module):
        raise NotFittedError(
            f"prefit=True needs a torch module or a fitted estimator with module_, got {model!r}; "
            "wrap a fitted estimator in FrozenEstimator where it is cloned"
        )
    return copy.deepcopy(module)


def _as_target(y, f):
    """Move targets to the outputs: floats as doubles, class indices as they are."""
    return y.to(f.device).double() if y.is_floating_point() else y.to(f.device)
