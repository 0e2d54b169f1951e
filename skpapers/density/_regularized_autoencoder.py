"""An auto-encoder that learns the score of the data, and with it energies and samples."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skpapers.neural_network import TorchTransformer, torch_generator
from skpapers.processes import (
    StandardizedDensity,
    denoising_score_loss,
    line_integral,
    random_walk_metropolis,
)
from skpapers.utils import check_random_state

from ._autoencoder_network import Autoencoder, TiedAutoencoder, contractive_loss, row_jacobians

__all__ = ["ScoreAutoencoder"]

_MAX_EXACT_JACOBIAN = 32
_STEP_NODES = 4  # of the integral along one proposal, which is short
_TARGET_ACCEPTANCE = 0.4
_N_ADAPTATION_STEPS = 40
_N_CHECK_ROWS = 64


def _has_decoder(estimator):
    return not estimator.residual


class ScoreAutoencoder(TorchTransformer, StandardizedDensity):
    """Auto-encoder that denoises, and so knows the score, energy differences and samples.

    A network r that reconstructs rows from their noisy versions points from each row to where the
    data are denser: (r(x) - x) / sigma^2 is the score, the gradient of the log density, of the
    data with noise. Its line integrals are differences of log densities, which a Metropolis chain
    turns into new rows, and its Jacobian tells the directions along the data from those across.

    Parameters
    ----------
    sigma : "auto" or float, default="auto"
        Standard deviation of the noise, in standard deviations of the columns: the density is
        that of the data with this noise. "auto" is the rule of Scott for kernel densities,
        n_samples^(-1 / (n_features + 4)), at most 0.5.
    criterion : {"dae", "rcae"}, default="dae"
        What is minimised: the error of reconstruction from noisy rows, or that from the rows
        themselves plus sigma^2 times the squared norm of the Jacobian of r (contractive). The
        two agree for small sigma.
    hidden_layer_sizes : array-like of int, default=(128, 128)
        Widths of the hidden layers of the encoder.
    code_size : int, default=None
        Width of the code, followed by a mirrored decoder. None: the code is the last hidden
        layer, followed by a linear map.
    activation : str or callable, default="tanh"
        Registered name, or a function that returns a torch module.
    residual : bool, default=True
        Reconstruct x + h(x) with a learned h, rather than learn r itself.
    tied : bool, default=False
        Decode with the transposed encoder. The score is then exactly a gradient and its line
        integrals do not depend on the path. Needs one hidden layer and no `code_size`.
    jacobian : {"auto", "exact", "hutchinson"}, default="auto"
        The norm of "rcae": exact, in n_features backward passes, or estimated with one random
        direction. "auto" is exact up to 32 columns.
    n_path : int, default=20
        Points of the line integrals of `score_samples` and `log_density_difference`.
    proposal_scale : "auto" or float, default="auto"
        Standard deviation of the steps of the chains, in standard deviations of the columns;
        "auto" is adapted until two proposals in five are accepted.
    n_steps : int, default=200
        Number of steps of a chain.
    optimizer : str or callable, default="adam"
        Registered name, or a function from parameters to an optimizer.
    lr : float, default=5e-3
        Learning rate, which falls to zero as a cosine.
    weight_decay : float, default=0.0
        Weight decay.
    max_epochs : int, default=200
        Number of passes over the data.
    batch_size : int, default=128
        Rows a batch.
    early_stopping : bool, default=False
        Keep the state that is best on held-out rows.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    n_iter_no_change : int, default=20
        Epochs without improvement after which training ends, with `early_stopping`.
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
    sigma_ : float
        Noise used.
    reference_ : ndarray of shape (n_features,)
        Where `score_samples` is zero: the mean of the columns.
    proposal_scale_ : float
        Step of the chains.
    acceptance_rate_ : float
        Share of the proposals accepted at the end of the adaptation.
    curl_ : float
        Norm of the antisymmetric part of the Jacobian of the score, twice, over that of the whole,
        on training rows: 0 for a gradient.
    X_init_ : ndarray of shape (n_samples, n_features)
        Training rows, where chains start.
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
        The network, on standardised columns.
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
    On n_samples rows the exact optimum of "dae" is the score of a kernel density of bandwidth
    sigma: a smaller one does not resolve more. Losses of different sigma do not compare; choose
    sigma by a task, such as the discrepancy of :class:`skpapers.hypothesis_testing.KSDTest`.
    A code narrower than the data cannot represent a score; the error |r(x) - x| is small at
    modes and at minima of the density alike, and is no energy.

    An epoch costs a forward and a backward pass, n_features times that for exact "rcae"; a step
    of a chain four forward passes. Unless `tied`, the learned field is a gradient only
    approximately (`curl_`), and so are the chains those of a density.

    References
    ----------
    Alain and Bengio, "What Regularized Auto-Encoders Learn from the Data-Generating Distribution",
    JMLR 15, 2014, arXiv:1211.4246 (Theorems 1 and 2, Sections 3.4 and 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import ScoreAutoencoder
    >>> X = np.random.RandomState(0).normal(size=(500, 2))
    >>> model = ScoreAutoencoder(hidden_layer_sizes=(32,), max_epochs=40, random_state=0).fit(X)
    >>> near, far = model.score_samples([[0.5, 0.0], [2.0, 0.0]])
    >>> bool(near > far)
    True
    """

    _training_defaults = {"lr_schedule": "cosine"}
    _parameter_constraints = {
        "sigma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "criterion": [StrOptions({"dae", "rcae"})],
        "hidden_layer_sizes": ["array-like"],
        "code_size": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [str, callable],
        "residual": ["boolean"],
        "tied": ["boolean"],
        "jacobian": [StrOptions({"auto", "exact", "hutchinson"})],
        "n_path": [Interval(Integral, 1, None, closed="left")],
        "proposal_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
    }
    _search_space = {"hidden_layer_sizes": [(64,), (64, 64), (128, 128)], "lr": [2e-3, 5e-3, 1e-2]}

    def __init__(
        self,
        sigma="auto",
        *,
        criterion="dae",
        hidden_layer_sizes=(128, 128),
        code_size=None,
        activation="tanh",
        residual=True,
        tied=False,
        jacobian="auto",
        n_path=20,
        proposal_scale="auto",
        n_steps=200,
        optimizer="adam",
        lr=5e-3,
        weight_decay=0.0,
        max_epochs=200,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=20,
        dtype="auto",
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.sigma = sigma
        self.criterion = criterion
        self.hidden_layer_sizes = hidden_layer_sizes
        self.code_size = code_size
        self.activation = activation
        self.residual = residual
        self.tied = tied
        self.jacobian = jacobian
        self.n_path = n_path
        self.proposal_scale = proposal_scale
        self.n_steps = n_steps
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
        return {"hidden_layer_sizes": (16,), "max_epochs": 5, "n_steps": 5}

    # Training.

    def _learn_scale(self, X):
        super()._learn_scale(X)
        self.X_init_ = X
        self.reference_ = self.mean_.astype(X.dtype)
        scott = min(len(X) ** (-1 / (X.shape[1] + 4)), 0.5)
        self.sigma_ = scott if self.sigma == "auto" else float(self.sigma)

    def _make_module(self):
        n_features, hidden = self.n_features_in_, self.hidden_layer_sizes
        options = (self.activation, self.sigma_, self.residual)
        if not self.tied:
            return Autoencoder(n_features, hidden, self.code_size, *options)
        if len(hidden) != 1 or self.code_size is not None:
            raise ValueError(
                "tied=True needs one hidden layer and code_size=None, got hidden_layer_sizes="
                f"{hidden!r} and code_size={self.code_size!r}"
            )
        return TiedAutoencoder(n_features, hidden[0], *options)

    def _standardized_score(self, module, x):
        return module.score(x)

    def _loss(self, module, batch):
        x, generator = batch.inputs[0], self.net_.generator_
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return self._objective(module, x, noise)

    def _objective(self, module, x, noise, *, create_graph=True):
        if self.criterion == "dae":
            return denoising_score_loss(module.score, x, self.sigma_, noise)
        exact = self.n_features_in_ <= _MAX_EXACT_JACOBIAN
        exact = self.jacobian == "exact" or (self.jacobian == "auto" and exact)
        probes = None if exact else noise
        return contractive_loss(module.score, x, self.sigma_, probes, create_graph=create_graph)

    def _validation_score(self, module, data):
        x = data.inputs[0]
        return -self._objective(module, x, _fixed_noise(x), create_graph=False).mean().item()

    def _on_fit_end(self, data):
        x = data.inputs[0].to(self._device())
        generator = torch_generator(check_random_state(self.random_state))
        start = x[torch.randint(len(x), (256,), generator=generator).to(x.device)]
        self._adapt_proposals(start, generator)
        jacobians = row_jacobians(self.net_.module_.score, start[:_N_CHECK_ROWS])[1]
        self.curl_ = curl(jacobians)

    def _adapt_proposals(self, x, generator):
        """Robbins-Monro steps on the log of the scale, which is then frozen."""
        scale, adapt = self.proposal_scale, self.proposal_scale == "auto"
        scale, rates = 2 * self.sigma_ / math.sqrt(x.shape[1]) if adapt else float(scale), []
        for step in range(_N_ADAPTATION_STEPS):
            x, rate = self._run_chains(x, scale, 1, generator)
            rates.append(rate)
            if adapt and step < _N_ADAPTATION_STEPS // 2:
                scale *= math.exp((rate - _TARGET_ACCEPTANCE) * 4 / math.sqrt(step + 4))
        self.proposal_scale_ = scale
        self.acceptance_rate_ = float(np.mean(rates[_N_ADAPTATION_STEPS // 2 :]))

    def _run_chains(self, x, scale, n_steps, generator):
        score = self.net_.module_.score

        def log_ratio(start, end):
            return line_integral(score, start, end, n_nodes=_STEP_NODES)

        with torch.no_grad():
            return random_walk_metropolis(
                log_ratio, x, scale=scale, n_steps=n_steps, generator=generator
            )

    # Use.

    @property
    def _n_features_out(self):
        return self.module_.code_size

    def _embed(self, module, inputs):
        return module.encode(*inputs)

    def transform(self, X):
        """Compute the code of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, code_size)
            Codes; the last hidden layer where `code_size` is None.
        """
        return super().transform(X)

    @available_if(_has_decoder)
    def inverse_transform(self, X):
        """Decode codes; with `residual=False` only, where the code is all the decoder sees.

        Parameters
        ----------
        X : array-like of shape (n_samples, code_size)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Reconstructed rows.
        """
        check_is_fitted(self)
        parameter = next(self.module_.parameters())
        code = torch.as_tensor(check_array(X, dtype=[np.float64, np.float32]))
        if code.shape[1] != self._n_features_out:
            raise ValueError(f"X has {code.shape[1]} columns, codes have {self._n_features_out}")
        with torch.inference_mode():
            rows = self.module_.decode(code.to(parameter.device, parameter.dtype))
        return self._to_data_units(rows.cpu().numpy())

    def reconstruct(self, X):
        """Compute r(x), the expected row behind a noisy one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Reconstructions, E[row | row + noise] for "dae".
        """
        return self._to_data_units(self._predict(lambda module, inputs: module(*inputs), X))

    def log_density_difference(self, X, reference):
        """Integrate the score along straight lines.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        reference : array-like of shape (n_features,) or (n_samples, n_features)
            Where the lines begin.

        Returns
        -------
        ndarray of shape (n_samples,)
            Estimates of log p(X) - log p(reference), in nats.
        """
        x = self._tensor(X)
        reference = np.atleast_2d(np.asarray(reference, dtype=np.float64))
        start = self._tensor(np.broadcast_to(reference, x.shape))
        with torch.inference_mode():
            return line_integral(self.module_.score, start, x, n_nodes=self.n_path).cpu().numpy()

    def _tensor(self, X):
        """Validated and standardised rows, where and as the network takes them."""
        check_is_fitted(self)
        (X,), _ = self._parse(X, reset=False)
        parameter = next(self.module_.parameters())
        return torch.from_numpy(X).to(parameter.device, parameter.dtype)

    def score_samples(self, X):
        """Compute log densities up to a constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities relative to that at `reference_`, in nats: not normalised.
        """

        def integrate(module, inputs):
            (x,) = inputs
            return line_integral(module.score, torch.zeros_like(x), x, n_nodes=self.n_path)

        return self._predict(integrate, X)

    def local_tangent(self, X, n_components=1):
        """Compute directions along the data: leading eigenvectors of the Jacobian of r.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_components : int, default=1
            Number of directions, at most n_features.

        Returns
        -------
        ndarray of shape (n_samples, n_components, n_features)
            Orthonormal directions, of undetermined sign.

        Raises
        ------
        ValueError
            If `n_components` is not between 1 and n_features.
        """
        x = self._tensor(X)
        if not 1 <= n_components <= x.shape[1]:
            raise ValueError(f"n_components={n_components} is not between 1 and {x.shape[1]}")
        slopes = row_jacobians(self.module_.score, x)[1].cpu().numpy()
        # the Jacobian of r is 1 + sigma^2 times that of the score: the same eigenvectors
        vectors = np.linalg.eigh(slopes + slopes.transpose(0, 2, 1))[1]
        leading = vectors[:, :, ::-1][:, :, :n_components] * self.scale_[:, None]
        bases = np.linalg.qr(leading)[0].astype(slopes.dtype)
        return np.ascontiguousarray(bases.transpose(0, 2, 1))

    def sample(self, n_samples=1, random_state=None):
        """Draw new rows by Metropolis chains that start at training rows, one a row.

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
        generator = self._sampling_generator(random_state)
        rows = torch.randint(len(self.X_init_), (n_samples,), generator=generator)
        start = self._tensor(self.X_init_[rows.numpy()])
        end, _ = self._run_chains(start, self.proposal_scale_, self.n_steps, generator)
        return self._to_data_units(end.cpu().numpy())

    def score(self, X, y=None):
        """Compute minus the error of reconstruction from noisy rows, the same noise every time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the mean of |r(x + e) - x|^2 / (sigma^2 n_features), on standardised columns;
            larger is better, for equal sigma.
        """
        x = self._tensor(X)
        with torch.inference_mode():
            errors = denoising_score_loss(self.module_.score, x, self.sigma_, _fixed_noise(x))
        return -errors.mean().item()


def _fixed_noise(x):
    """Normal draws of the shape of `x`, the same in every call."""
    same = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=same, dtype=x.dtype).to(x.device)


def curl(jacobians):
    """Root mean square of J - J' over that of J: 0 for symmetric Jacobians."""
    whole = jacobians.square().sum().sqrt().item()
    odd = (jacobians - jacobians.transpose(1, 2)).square().sum().sqrt().item()
    return odd / whole if whole else 0.0
