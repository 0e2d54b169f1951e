"""Function-space parameterization (SFR) of networks that classify."""

from numbers import Integral

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import _check_partial_fit_first_call
from torch import nn

from skpapers.neural_network import TorchClassifier

from ._latent_likelihoods import BernoulliLikelihood, CategoricalLikelihood
from ._network_process import NetworkProcess

__all__ = ["SparseFunctionSpaceClassifier"]


class SparseFunctionSpaceClassifier(NetworkProcess, TorchClassifier):
    """A classification network as a sparse Gaussian process that learns without retraining.

    A network is trained; linearised at its weights it is a Gaussian process with one latent
    function a class, projected on a few inducing points. Probabilities are averaged over it, and
    ``partial_fit`` adds data by linear algebra (sparse function-space representation, SFR).

    Parameters
    ----------
    module : torch.nn.Module, callable or fitted estimator, default=None
        None is a multi-layer perceptron; a module is copied and trained on, a callable
        ``(n_features, n_outputs)`` returns a fresh one. With `prefit`, a torch module, a skorch
        net or any fitted estimator with ``module_``, such as `NeuralClassifier`.
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Widths of the hidden layers, where `module` is None.
    activation : str or callable, default="tanh"
        Name of a registered activation, a module class, or a module.
    n_inducing : int, default=100
        Number of inducing points, at most the number of rows. The paper takes 1 to 20 % of them.
    inducing : {"random", "kmeans"}, default="random"
        Training rows drawn at random, or the centres of their clusters.
    jacobian : {"full", "last_layer"}, default="full"
        Whose derivatives are the features: all trainable weights, or those of the last layer.
    prior_precision : float or "auto", default=1e-3
        Precision of the weights: half of it times their squared norm is added to the mean loss of
        a row. "auto" trains with 1e-3, then takes the value with the smallest predictive loss on
        held-out rows for the process; the network stays.
    prediction : {"gp", "nn"}, default="gp"
        Whether the mean is that of the process, which learns from ``partial_fit``, or the
        network's; the variance is that of the process in both.
    n_mc_samples : int, default=100
        Draws of the latent functions over which the softmax is averaged; two classes with one
        logit need none.
    prefit : bool, default=False
        Whether `module` is fitted already; it is copied, sees X and y in their own units, and is
        not trained.
    jitter : float, default=1e-6
        Added to the diagonal of the kernel of the inducing points, times 4 until it factorises.
    dual_batch_size : int, default=256
        Rows whose derivatives are held at a time.
    max_epochs : int, default=200
        Passes over the data.
    lr : float, default=1e-2
        Learning rate of Adam.
    batch_size : int, default=64
        Rows in a batch; None for all of them.
    early_stopping : bool, default=True
        Stop when the loss of held-out rows has not improved for 20 epochs, and keep the best one.
        The process uses the rows held out all the same.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping` and by ``prior_precision="auto"``.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of the network, its batches, the rows held out, the inducing points and the draws of
        the softmax.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    inducing_points_ : ndarray of shape (n_inducing, n_features_in_)
        Inducing points.
    alpha_u_ : ndarray of shape (n_logits, n_inducing)
        Dual weights of the mean.
    beta_u_ : ndarray of shape (n_logits, n_inducing, n_inducing)
        Projected curvature of the data.
    t_u_ : ndarray of shape (n_logits, n_inducing)
        Projected pseudo targets.
    prior_precision_ : float
        Precision of the prior of the process.
    n_seen_ : int
        Number of rows the process has learnt from.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The network, in eval mode and double precision.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Minus the loss of the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    After training, the duals cost O(n_samples * n_inducing**2) an output, plus one backward pass
    an output; linear layers are contracted without their Jacobian. ``partial_fit`` costs the same
    for the new rows, and O(n_inducing**3). Outputs share no covariance.

    The process is that of the network linearised at its weights. Its mean equals the network's
    where training has reached the minimum of loss and prior; early stopping ends before.
    With one logit, its sigmoid is flattened by MacKay's approximation of the mean over the
    latent function. The curvature of the softmax is taken by its diagonal.

    The paper's results on UCI data, images and reinforcement learning are not part of the tests.

    References
    ----------
    .. [1] A. Scannell, R. Mereu, P. Chang, E. Tamir, J. Pajarinen, A. Solin, "Function-space
       Parameterization of Neural Networks for Sequential Learning", ICLR 2024, arXiv:2403.10929,
       sections 3 and 4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.kernel_methods import SparseFunctionSpaceClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SparseFunctionSpaceClassifier(max_epochs=50, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    >>> float(model.predict_proba(20 * X).max()) < float(model.predict_network(20 * X).max())
    True
    """

    _parameter_constraints = {
        "n_mc_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        module=None,
        *,
        hidden_layer_sizes=(64, 64),
        activation="tanh",
        n_inducing=100,
        inducing="random",
        jacobian="full",
        prior_precision=1e-3,
        prediction="gp",
        n_mc_samples=100,
        prefit=False,
        jitter=1e-6,
        dual_batch_size=256,
        max_epochs=200,
        lr=1e-2,
        batch_size=64,
        early_stopping=True,
        validation_fraction=0.1,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.n_inducing = n_inducing
        self.inducing = inducing
        self.jacobian = jacobian
        self.prior_precision = prior_precision
        self.prediction = prediction
        self.n_mc_samples = n_mc_samples
        self.prefit = prefit
        self.jitter = jitter
        self.dual_batch_size = dual_batch_size
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _n_logits(self):
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _check_n_outputs(self, n_outputs):
        n_classes = len(self.classes_)
        if n_outputs != n_classes and (n_outputs, n_classes) != (1, 2):
            raise ValueError(f"module gives {n_outputs} logits, y has {n_classes} classes")

    def _encode_target(self, y, weight, *, reset):
        known = getattr(self.module, "classes_", None) if self.prefit and reset else None
        if known is None:
            return super()._encode_target(y, weight, reset=reset)
        self.classes_ = np.asarray(known)
        return super()._encode_target(y, weight, reset=False)

    def _output(self, module, inputs):
        """One logit a class; a single output is the logit of the second class against 0."""
        logits = module(*inputs).reshape(len(inputs[0]), -1)
        return nn.functional.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits

    def _row_losses(self, outputs, y):
        return nn.functional.cross_entropy(outputs, y, reduction="none")

    def _make_likelihood(self, rows, rng):
        n_outputs = self._inducing[0][1].shape[0]
        if n_outputs == 1:
            return BernoulliLikelihood()
        draws = rng.standard_normal((self.n_mc_samples, n_outputs))
        return CategoricalLikelihood(torch.from_numpy(draws).to(self._device()))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None):
        """Add data to the process; the network stays as it is. The first call is a fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New data.
        y : array-like of shape (n_samples,)
            Their target.
        classes : array-like of shape (n_classes,), default=None
            All the classes there will be; required in the first call.

        Returns
        -------
        self : object
            The estimator.
        """
        first = _check_partial_fit_first_call(self, classes)
        if hasattr(self, "alpha_u_"):
            return self._update(X, y)
        if first:
            self._declared_classes = True
        try:
            return self._fit(X, y)
        finally:
            vars(self).pop("_declared_classes", None)

    def predict_proba(self, X):
        """Compute class probabilities, averaged over the latent functions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        rows, dtype = self._rows(X)
        probabilities = self._likelihood.probabilities(*self._latent(rows))
        return probabilities.cpu().numpy().astype(dtype, copy=False)

    def decision_function(self, X):
        """Compute log probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logarithms of the probabilities; with two classes, the log-odds of the second.
        """
        probabilities = self.predict_proba(X)
        logs = np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny))
        return logs[:, 1] - logs[:, 0] if len(self.classes_) == 2 else logs

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable class of each row.
        """
        index = self.predict_proba(X).argmax(axis=1)
        return self.classes_[index]

    def predict_network(self, X):
        """Compute class probabilities by the network alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Softmax of its logits.
        """
        rows, dtype = self._rows(X)
        with torch.no_grad():
            probabilities = torch.softmax(self._output(self.module_, (rows,)), 1)
        return probabilities.cpu().numpy().astype(dtype, copy=False)
