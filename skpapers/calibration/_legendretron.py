"""A probabilistic classifier that learns its own proper loss."""

from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skpapers.neural_network import TorchClassifier, make_mlp

from ._legendre_link import LegendreLink, log_softmax_plus

__all__ = ["LegendreTronClassifier"]


class LegendreTronClassifier(TorchClassifier):
    """Logistic regression that learns the link, and with it the proper loss it minimises.

    Linear scores of the classes (or those of a network) become probabilities through the gradients
    of convex networks, which are trained with them. Where the softmax is the wrong link, as under
    label noise, which keeps probabilities away from 0 and 1, the probabilities are better.

    Parameters
    ----------
    n_blocks : int, default=1
        Number of gradients of convex networks the link is composed of; 0 is the softmax.
    icnn_width : int, default=4
        Width of a convex network; even.
    icnn_depth : int, default=4
        Number of its hidden layers; at least 2.
    alpha : float, default=1e-3
        Penalty: half this factor times the squared parameters, all of them, is added to the mean
        loss, for optimizers that know weight decay as a penalty.
    hidden_layer_sizes : sequence of int, default=()
        Widths of hidden layers before the scores; empty for linear scores.
    activation : str or callable, default="relu"
        Activation of these layers: a registered name, a module class, or a module.
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-2
        Learning rate.
    lr_decay : float, default=0.95
        Factor, in (0, 1], on the learning rate every `lr_decay_every` epochs.
    lr_decay_every : int, default=4
        Number of epochs between two of these.
    batch_size : int, default=64
        Rows in a batch; None for all of them.
    max_epochs : int, default=240
        Passes over the data.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their likelihood has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int, default=20
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Smallest change of the training loss (or held-out likelihood) that counts as improvement; 0
        to run all epochs.
    reference_class : {"last", "largest"}, default="last"
        Class that has no score of its own: the last of `classes_`, or the one with the most rows.
        The other classes are not treated exactly like it.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" makes all classes weigh the same.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and the validation split.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes - 1, n_features)
        Coefficients of the scores of all classes but the reference class, on the last hidden
        layer, if there is one.
    intercept_ : ndarray of shape (n_classes - 1,)
        Their constants.
    reference_ : int
        Position of the reference class in `classes_`.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode; its ``link`` is a :class:`LegendreLink`.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, without the penalty.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Mean log-likelihood of the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch of the best of them; with `early_stopping` only.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    A step costs a few times that of logistic regression, since the networks of the link are small;
    its gradient is written out, so that nothing is differentiated twice.
    Training is not convex: single runs can end in a poor link, so compare the
    ``loss_curve_`` of several seeds. On data for which the softmax is right, as handwritten
    digits, it is as good as logistic regression and no better. Scale the features.

    References
    ----------
    Lam, Walder, Penev and Nock, "LegendreTron: Uprising Proper Multiclass Loss Learning",
    ICML 2023, arXiv:2301.11695, section 4 and algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.calibration import LegendreTronClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LegendreTronClassifier(random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.9)
    True
    >>> model.predict_proba(scale(X)).shape
    (150, 3)
    """

    _parameter_constraints = {
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "icnn_width": [Interval(Integral, 2, None, closed="left")],
        "icnn_depth": [Interval(Integral, 2, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [str, callable],
        "lr_decay": [Interval(Real, 0, 1, closed="right")],
        "lr_decay_every": [Interval(Integral, 1, None, closed="left")],
        "reference_class": [StrOptions({"last", "largest"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _search_space = {
        "n_blocks": [1, 2],
        "icnn_width": [2, 4, 8],
        "alpha": [1e-4, 1e-3, 1e-2],
    }

    def __init__(
        self,
        n_blocks=1,
        icnn_width=4,
        icnn_depth=4,
        *,
        alpha=1e-3,
        hidden_layer_sizes=(),
        activation="relu",
        optimizer="adam",
        lr=1e-2,
        lr_decay=0.95,
        lr_decay_every=4,
        batch_size=64,
        max_epochs=240,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=20,
        tol=1e-4,
        reference_class="last",
        class_weight=None,
        dtype="auto",
        device="auto",
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        self.n_blocks = n_blocks
        self.icnn_width = icnn_width
        self.icnn_depth = icnn_depth
        self.alpha = alpha
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.lr_decay = lr_decay
        self.lr_decay_every = lr_decay_every
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.reference_class = reference_class
        self.class_weight = class_weight
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    @staticmethod
    def _small_params():
        return {"max_epochs": 25, "lr": 0.1, "icnn_width": 2, "icnn_depth": 2}

    def _encode_target(self, y, weight, *, reset):
        index, weight = super()._encode_target(y, weight, reset=reset)
        if reset:
            counts = np.bincount(index, weight, minlength=len(self.classes_))
            largest = self.reference_class == "largest"
            self.reference_ = int(np.argmax(counts)) if largest else len(self.classes_) - 1
        return index, weight

    def _make_module(self):
        if self.icnn_width % 2:
            raise ValueError(f"icnn_width must be even, got {self.icnn_width}")
        n_scores = len(self.classes_) - 1
        backbone = make_mlp(
            self.n_features_in_, self.hidden_layer_sizes, n_scores, activation=self.activation
        )
        link = LegendreLink(n_scores, self.n_blocks, self.icnn_width, self.icnn_depth)
        network = LegendreNetwork(backbone, link, self.reference_)
        for layer in network.modules():  # the penalty is on biases and scales too
            names = [name for name, _ in layer.named_parameters(recurse=False)]
            layer.optimizer_options = {name: {"weight_decay": self.alpha} for name in names}
        return network

    def _on_fit_begin(self, module, data):
        module.link.normalize_(module.backbone(*data.inputs), data.weight)

    def _setting(self, name):
        return self._decaying if name == "lr_schedule" else super()._setting(name)

    def _decaying(self, optimizer, epochs):
        """Schedule of the learning rate."""
        return torch.optim.lr_scheduler.StepLR(optimizer, self.lr_decay_every, self.lr_decay)

    def _loss(self, module, batch):
        reduction = "mean" if batch.weight is None else "none"
        return F.nll_loss(module(*batch.inputs), batch.y, reduction=reduction)

    def _validation_score(self, module, data):
        return super(TorchClassifier, self)._validation_score(module, data)

    @property
    def coef_(self):
        """Coefficients of the scores."""
        return self.module_.backbone[-1].weight.detach().cpu().numpy()

    @property
    def intercept_(self):
        """Constants of the scores."""
        return self.module_.backbone[-1].bias.detach().cpu().numpy()

    def predict_log_proba(self, X):
        """Compute the logarithms of the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Log-probabilities, in the order of `classes_`.
        """
        return self._predict(self._output, X)

    def scores(self, X):
        """Compute the scores that the link turns into probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes - 1)
            Scores of the classes but the reference class.
        """
        return self._predict(lambda module, inputs: module.backbone(*inputs), X)

    def inverse_link(self, S):
        """Turn scores into probabilities.

        Parameters
        ----------
        S : array-like of shape (n_samples, n_classes - 1)
            Scores.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of `classes_`.
        """
        return self._on_link(lambda link, s: log_softmax_plus(link(s), self.reference_).exp(), S)

    def link(self, P):
        """Turn probabilities into the scores that give them.

        Parameters
        ----------
        P : array-like of shape (n_samples, n_classes)
            Probabilities, all positive.

        Returns
        -------
        ndarray of shape (n_samples, n_classes - 1)
            Scores, found by minimising a convex function for each block.
        """
        check_is_fitted(self)
        P = check_array(P, dtype=np.float64)
        if P.shape[1] != len(self.classes_) or (P <= 0).any():
            raise ValueError(f"P must have {len(self.classes_)} columns, all positive")
        odds = np.log(np.delete(P, self.reference_, 1) / P[:, [self.reference_]])
        return self._on_link(lambda link, z: link.inverse(z), odds)

    def link_jacobian(self, S):
        """Differentiate the probabilities of all classes but the reference class by the scores.

        Parameters
        ----------
        S : array-like of shape (n_samples, n_classes - 1)
            Scores.

        Returns
        -------
        ndarray of shape (n_samples, n_classes - 1, n_classes - 1)
            Derivatives; entry i, j of a row is that of probability i by score j.
        """

        def jacobian(link, s):
            def probabilities(s):
                return log_softmax_plus(link(s))[..., :-1].exp()

            return torch.func.vmap(torch.func.jacrev(probabilities))(s)

        return self._on_link(jacobian, S)

    def _on_link(self, function, values):
        check_is_fitted(self)
        values = check_array(values, dtype=np.float64)
        if values.shape[1] != len(self.classes_) - 1:
            raise ValueError(f"S must have {len(self.classes_) - 1} columns")
        parameter = self.module_.backbone[-1].weight
        values = torch.as_tensor(values, dtype=parameter.dtype, device=parameter.device)
        with torch.no_grad():
            return function(self.module_.link, values).cpu().numpy()


class LegendreNetwork(nn.Module):
    """Scores, link and probabilities in a row."""

    def __init__(self, backbone, link, reference):
        super().__init__()
        self.backbone, self.link, self.reference = backbone, link, reference

    def forward(self, x):
        """Log-probabilities of the classes."""
        return log_softmax_plus(self.link(self.backbone(x)), self.reference)
