"""Marginalization models: the probability of any subset of the columns in one network pass."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import DensityMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.neural_network import TorchEstimator, torch_generator
from skpapers.utils import check_random_state

from ._any_order import (
    chain_log_prob,
    conditional_loss,
    consistency_loss,
    fill_in,
    fill_modes,
    fill_most_certain_first,
    gibbs_step,
    random_order,
    reinforce_loss,
)
from ._binning import UNKNOWN, UNSEEN, declared_binning, fit_binning
from ._marginal_network import MarginalNetwork

__all__ = ["MarginalizationModel"]

_ENERGY_WEIGHT = 4.0  # of the self-consistency beside the loss on the energy
_N_ERROR_ROWS = 1000
_BATCH_ROWS = 8192


class MarginalizationModel(OneToOneFeatureMixin, TransformerMixin, DensityMixin, TorchEstimator):
    """Joint distribution in which the probability of any subset of columns costs one network pass.

    One network gives the log probability of the known columns of a row, another the conditional
    probabilities of all the others. They are trained to agree, column by column in every order:
    log p(seen, next) = log p(seen) + log p(next | seen). Hence densities of rows with missing
    values, conditionals, imputation and sampling in any order, without one pass a column. It can
    be trained on data, or, without data, on an energy function.

    Parameters
    ----------
    objective : {"mle", "energy_kl", "energy_fm"}, default="mle"
        "mle" is maximum likelihood on the rows of X. "energy_kl" and "energy_fm" train towards
        p(x) proportional to exp(energy(x)), by the Kullback-Leibler divergence with REINFORCE
        gradients, or by regression of log p(x) on the energy.
    energy : callable, default=None
        ``energy(X)`` returns the log probability of each row, up to a constant, of an array of
        shape (n, n_features) with values as in X; for the two energy objectives.
    n_categories : int or "auto", default="auto"
        With an integer, every column holds 0, ..., `n_categories` - 1. "auto" takes the values
        seen in `fit` for a column with few of them, and cuts others into bins.
    network : {"mlp", "transformer"}, default="mlp"
        A residual perceptron, or a transformer with a token a column.
    hidden : int, default=128
        Width of the network; a multiple of 4 for the transformer.
    n_layers : int, default=3
        Number of its layers.
    consistency_weight : float or "auto", default="auto"
        Weight of the self-consistency loss; "auto" is 1 with "mle" and 4 with an energy. With
        "mle", 0 trains the conditionals alone: an any-order autoregressive model.
    gibbs_steps : int, default=4
        Number of columns of each of the model's own samples that are drawn anew a step.
    on_policy : bool, default=True
        Train the self-consistency on the model's own samples too, not on the data alone; with an
        energy these are always what it is trained on.
    pretrain_epochs : int, default=50
        Passes over the data that train the conditionals, with "mle", before the others.
    max_epochs : int, default=50
        Passes over the data that train the marginals; with an energy the number of steps is that
        of passes over X.
    n_bins : int, default=8
        Number of bins of a continuous column, each with as many rows.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    lr : float, default=1e-3
        Learning rate of Adam.
    lr_schedule : str or callable, default="cosine"
        Registered name of a schedule over the epochs; None for a constant rate.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, batches, masks and samples.

    Attributes
    ----------
    categories_ : list of ndarray
        For each column its values, or the middles of its bins.
    bin_edges_ : list of ndarray or None
        For each column the edges of its bins, None for a discrete one.
    log_partition_ : float
        Estimate of log sum exp(energy); 0 with "mle".
    self_consistency_error_ : float
        Squared violation of the self-consistency on up to 1000 rows of X, see
        `self_consistency_error`.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode; ``module_.log_marginal(codes)`` and
        ``module_.log_conditionals(codes)`` take codes, -1 for unknown.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A column is discrete where it holds integers only, at most 256 different ones, or at most 20
    different values that appear twice on average. Other columns are cut into bins with a constant
    density each; values beyond the ends count as in the end bins. A value of a discrete column
    that was not seen in `fit` has log probability -inf; an integer `n_categories` declares them.

    NaN is unknown everywhere: `fit` and `score_samples` marginalise it out, `transform` fills it
    in. To model a label, append it as a column; `conditional_log_proba` is then a classifier.

    A marginal costs one pass, O(n_layers * hidden ** 2), the chain rule `n_features` of them. The
    marginals are as good as the self-consistency: `self_consistency_error_` tells, and their sum
    over all rows is only about 1. Published results (binarised MNIST within 2 nats of an any-order
    model, 30 x 30 Ising models) took larger networks on GPUs; 8 x 8 binary digits and a 3 x 3
    Ising model are tested here.

    References
    ----------
    .. [1] S. Liu, P. J. Ramadge and R. P. Adams, "Generative Marginalization Models", ICML 2024,
       arXiv:2310.12920, sections 3 and 4.

    Examples
    --------
    Three binary columns of which the third is the exclusive or of the others:

    >>> import numpy as np
    >>> from skpapers.density import MarginalizationModel
    >>> X = np.random.RandomState(0).randint(2, size=(500, 2))
    >>> X = np.column_stack([X, X[:, 0] ^ X[:, 1]])
    >>> model = MarginalizationModel(hidden=32, random_state=0).fit(X)
    >>> model.impute([[0, 1, np.nan], [np.nan, 1, 1]])
    array([[0., 1., 1.],
           [0., 1., 1.]])
    >>> np.exp(model.score_samples([[0, 1, np.nan]])).round(1)
    array([0.2])
    """

    _training_defaults = {"clip_norm": 100.0}
    _parameter_constraints = {
        "objective": [StrOptions({"mle", "energy_kl", "energy_fm"})],
        "energy": [callable, None],
        "n_categories": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "network": [StrOptions({"mlp", "transformer"})],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "consistency_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "gibbs_steps": [Interval(Integral, 1, None, closed="left")],
        "on_policy": ["boolean"],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
    }
    _search_space = {"hidden": [32, 128], "n_bins": [4, 8, 16], "lr": [1e-3, 3e-3]}

    @staticmethod
    def _small_params():
        return {"hidden": 16, "n_layers": 1, "pretrain_epochs": 3, "max_epochs": 3}

    def __init__(
        self,
        objective="mle",
        energy=None,
        n_categories="auto",
        network="mlp",
        hidden=128,
        n_layers=3,
        consistency_weight="auto",
        gibbs_steps=4,
        on_policy=True,
        pretrain_epochs=50,
        max_epochs=50,
        n_bins=8,
        batch_size=128,
        lr=1e-3,
        lr_schedule="cosine",
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.objective = objective
        self.energy = energy
        self.n_categories = n_categories
        self.network = network
        self.hidden = hidden
        self.n_layers = n_layers
        self.consistency_weight = consistency_weight
        self.gibbs_steps = gibbs_steps
        self.on_policy = on_policy
        self.pretrain_epochs = pretrain_epochs
        self.max_epochs = max_epochs
        self.n_bins = n_bins
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Codes.

    def _validate(self, X, *, reset):
        X = validate_data(
            self, X, reset=reset, dtype=self._dtypes(), ensure_all_finite="allow-nan"
        )
        if reset:
            self._dtype = X.dtype
            self._binning = self._fit_binning(X)
        return X

    def _fit_binning(self, X):
        if self.n_categories == "auto":
            return fit_binning(X, self.n_bins, "quantile")
        binning = declared_binning(X.shape[1], self.n_categories)
        if (binning.encode(X) == UNSEEN).any():
            raise ValueError(
                f"X has values other than 0, ..., n_categories - 1 = {self.n_categories - 1}"
            )
        return binning

    def _parse(self, X, y="no_validation", *, reset):
        """Codes, and what is added to the log probability of each row."""
        X = self._validate(X, reset=reset)
        codes = self._binning.encode(X)
        offset = np.where((codes == UNSEEN).any(axis=1), -np.inf, -self._binning.log_volume(codes))
        return (np.where(codes == UNSEEN, UNKNOWN, codes), offset), None

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        self._reject_unseen(data.inputs[1] == -np.inf)
        return data

    def _codes(self, X):
        """Codes of validated rows that the model can be conditioned on."""
        codes = self._binning.encode(X)
        self._reject_unseen(codes == UNSEEN)
        return torch.from_numpy(codes)

    def _reject_unseen(self, unseen):
        if bool(unseen.any()):
            raise ValueError("X has values in its discrete columns that were not seen in fit")

    def _tensor_dtype(self, inputs):
        return torch.float32 if self._dtype == np.float32 else torch.float64

    @property
    def categories_(self):
        """For each column its values, or the middles of its bins."""
        return [self._binning.scales[g].values for g in self._binning.group]

    @property
    def bin_edges_(self):
        """For each column the edges of its bins, None for a discrete one."""
        return [self._binning.scales[g].edges for g in self._binning.group]

    # Training.

    def _make_module(self):
        if self.network == "transformer" and self.hidden % 4:
            raise ValueError(f"hidden={self.hidden} must be a multiple of 4 for the transformer")
        return MarginalNetwork(self._binning.n_codes, self.network, self.hidden, self.n_layers)

    def _weight(self):
        if self.consistency_weight != "auto":
            return self.consistency_weight
        return 1.0 if self.objective == "mle" else _ENERGY_WEIGHT

    def _on_fit_begin(self, module, data):
        if self.objective != "mle" and self.energy is None:
            raise ValueError(f"objective={self.objective!r} needs an energy, got energy=None")
        n_rows = min(self.batch_size or data.n_rows, data.n_rows)
        self._samples = torch.full((n_rows, self.n_features_in_), UNKNOWN)

    def _train(self, train, validation, epochs):
        """Train the conditionals, then the marginals; the schedule of the rate is that of each."""
        missing = self.pretrain_epochs - len(self.net_.history)
        if self.objective == "mle" and missing > 0:
            super()._train(train, validation, missing)
            if len(self.net_.history) < self.pretrain_epochs:  # interrupted
                return self
        return super()._train(train, validation, epochs)

    def _on_epoch_begin(self, module, epoch):
        with_data = self.objective == "mle"
        self._conditionals_only = with_data and (
            epoch < self.pretrain_epochs or self._weight() == 0
        )
        if self._conditionals_only:
            return
        if with_data and epoch == self.pretrain_epochs:
            with torch.no_grad():
                module.start_marginal()
        if with_data and not self.on_policy:
            return
        if not with_data or bool((self._samples == UNKNOWN).any()):
            self._samples = self._draw(module, torch.full_like(self._samples, UNKNOWN))

    def _loss(self, module, batch):
        generator = self.net_.generator_
        codes = batch.inputs[0]
        if self._conditionals_only:
            return conditional_loss(module, codes, generator)
        if self.objective == "mle":
            return self._weight() * self._distillation_loss(module, codes, generator)
        own = self._refreshed_samples(module, codes.device, generator)
        energy = self._energy(own)
        if self.objective == "energy_kl":
            fit = reinforce_loss(module.log_marginal(own), energy)
            consistency = consistency_loss(module, own, generator) + module.log_empty() ** 2
        else:
            fit = 0.5 * (module.log_marginal(own) - energy).square()
            consistency = 0.5 * consistency_loss(module, own, generator)
        return fit.mean() + self._weight() * consistency.mean()

    def _distillation_loss(self, module, codes, generator):
        """Self-consistency of the marginals with the conditionals, which stay as they are."""
        groups = [codes]
        if self.on_policy:
            groups.append(self._refreshed_samples(module, codes.device, generator))
        errors = consistency_loss(module, torch.cat(groups), generator, frozen=True)
        means = [group.mean() for group in errors.split([len(group) for group in groups])]
        return sum(means) / len(means) + module.log_empty().square().sum()

    def _refreshed_samples(self, module, device, generator):
        with torch.no_grad():
            self._samples = gibbs_step(
                module, self._samples.to(device), self.gibbs_steps, generator
            )
        return self._samples

    def _draw(self, module, codes):
        with torch.no_grad():
            generator = self.net_.generator_
            codes = codes.to(self._device())
            return fill_in(module, codes, random_order(codes, generator), generator)

    def _energy(self, codes):
        X = self._binning.decode(codes.cpu().numpy(), self._dtype)
        energy = np.asarray(self.energy(X), dtype=self._dtype)
        if energy.shape != (len(X),) or not np.isfinite(energy).all():
            raise ValueError(
                f"energy must return {len(X)} finite numbers for {len(X)} rows, got an array of "
                f"shape {energy.shape}"
            )
        return torch.from_numpy(energy).to(codes.device)

    def _on_fit_end(self, data):
        module, generator = self.module_, self.net_.generator_
        self._samples = self._samples.cpu()
        self.log_partition_ = 0.0
        codes = data.inputs[0][:_N_ERROR_ROWS].to(self._device())
        if self.objective != "mle":
            codes = self._samples = self._draw(module, torch.full_like(self._samples, UNKNOWN))
            log_p = module.log_marginal(codes) - module.log_empty()
            ratio = torch.logsumexp(self._energy(codes) - log_p, dim=0)
            self.log_partition_ = float(ratio - np.log(len(codes)))
        self.self_consistency_error_ = float(self._error(module, codes, generator, 1).mean())

    # Queries.

    def score_samples(self, X, method="marginal", order=None):
        """Compute the log density of the known part of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown.
        method : {"marginal", "chain"}, default="marginal"
            One pass through the marginal network, or one pass a column through the conditionals.
        order : array-like of shape (n_features,), default=None
            Order of the columns in the chain; None is from left to right.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats; log probability where all columns are discrete.
        """
        check_is_fitted(self)
        if method not in ("marginal", "chain"):
            raise ValueError(f"method must be 'marginal' or 'chain', got {method!r}")
        if method == "marginal":
            return self._predict(
                lambda m, x: m.log_marginal(x[0]) - m.log_empty() + x[1],
                X,
            )
        order = np.arange(self.n_features_in_) if order is None else np.asarray(order)
        if not np.array_equal(np.sort(order), np.arange(self.n_features_in_)):
            raise ValueError("order must be a permutation of the column numbers")
        return self._predict(lambda m, x: chain_log_prob(m, x[0], order.tolist()) + x[1], X)

    def score(self, X, y=None):
        """Compute the mean log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean of `score_samples`.
        """
        return float(self.score_samples(X).mean())

    def conditional_log_proba(self, X, column):
        """Compute the log probabilities of one column given the known others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown. What stands in `column` is ignored.
        column : int
            Number of the column.

        Returns
        -------
        ndarray of shape (n_samples, n_values)
            Log probabilities, in the order of ``categories_[column]``.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False).copy()
        X[:, column] = np.nan
        n_values = self._binning.n_codes[column]
        return self._apply(lambda m, c: m.log_conditionals(c)[:, column, :n_values], X)

    def impute(self, X, method="mode", random_state=None):
        """Fill in what is unknown.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown.
        method : {"mode", "sequential", "sample"}, default="mode"
            "mode" is the most probable value of each column given the known ones, in one pass;
            "sequential" fills in the most certain one and looks again; "sample" draws them.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None is the estimator's own.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            X without NaN; bins are represented by their middles, or by a draw.
        """
        check_is_fitted(self)
        if method not in ("mode", "sequential", "sample"):
            raise ValueError(f"method must be 'mode', 'sequential' or 'sample', got {method!r}")
        X = self._validate(X, reset=False)
        if method == "sample":
            return self._sample_unknown(X, random_state)
        fill = fill_modes if method == "mode" else fill_most_certain_first
        return np.where(np.isnan(X), self._binning.decode(self._apply(fill, X), X.dtype), X)

    def _sample_unknown(self, X, random_state):
        rng = self._rng(random_state)
        generator = torch_generator(rng)
        codes = self._apply(
            lambda m, c: fill_in(m, c, random_order(c, generator), generator),
            X,
        )
        return np.where(np.isnan(X), self._binning.decode(codes, X.dtype, rng), X)

    def _apply(self, function, X):
        """Concatenate ``function(module, codes)`` over batches of validated rows."""
        with torch.inference_mode():
            batches = self._codes(X).to(self._device()).split(_BATCH_ROWS)
            return torch.cat([function(self.module_, c).cpu() for c in batches]).numpy()

    def _rng(self, random_state):
        return check_random_state(self.random_state if random_state is None else random_state)

    def transform(self, X):
        """Fill in the most probable value of what is unknown.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            X without NaN.
        """
        return self.impute(X)

    def sample(self, n_samples=1, random_state=None, given=None):
        """Draw rows, in random orders of the columns.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None is the estimator's own.
        given : array-like of shape (n_features,), default=None
            Values to condition on, NaN for those to draw.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows; values of binned columns are uniform in their bins.
        """
        check_is_fitted(self)
        row = np.full(self.n_features_in_, np.nan) if given is None else np.asarray(given)
        X = np.broadcast_to(row, (n_samples, self.n_features_in_)).astype(self._dtype)
        return self._sample_unknown(X, random_state)

    def self_consistency_error(self, X, n_draws=8, random_state=None):
        """Compute the squared violation of the self-consistency.

        It is n_features times the mean square of log p(seen, next) - log p(seen) -
        log p(next | seen) over random orders, plus the square of log p(nothing).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN is unknown.
        n_draws : int, default=8
            Number of random orders a row.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None is the estimator's own.

        Returns
        -------
        float
            The error; 0 for a consistent model.
        """
        check_is_fitted(self)
        generator = torch_generator(self._rng(random_state))
        errors = self._predict(lambda m, x: self._error(m, x[0], generator, n_draws), X)
        return float(errors.mean())

    def _error(self, module, codes, generator, n_draws):
        draws = [consistency_loss(module, codes, generator) for _ in range(n_draws)]
        empty = module.log_empty() if self.objective != "energy_fm" else 0.0  # its log partition
        return torch.stack(draws).mean(0) + empty**2
